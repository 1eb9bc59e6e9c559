"""References: the way from one place of a document to another, within its folder and no further."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import unquote

from proxy.core.catalog import CatalogProblem
from proxy.core.jsontext import pointer_token

if TYPE_CHECKING:
    from proxy.core.catalog import Document
    from proxy.core.model import JsonValue

# A scheme is two letters or more: a single one is a drive. Two slashes begin a host (RFC 3986, 4.2).
_NETWORK: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:|[/\\]{2}")
_ABSOLUTE: Final = re.compile(r"[/\\]|[A-Za-z]:")
_INDEX: Final = re.compile(r"[0-9]{1,9}")

_T = TypeVar("_T", dict[str, Any], list[Any], str, bool)
_CALLED: Final = {dict: "a mapping", list: "a list", str: "a text", bool: "true or false, without quotes"}


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a document: a JSON Pointer in one of its files. "" is the file of the document itself."""

    file: str
    pointer: str

    def below(self, *names: str | int) -> Place:
        """Return the place that `names` lead to from here."""
        return Place(self.file, self.pointer + "".join(map(pointer_token, names)))


ROOT: Final = Place("", "")


class References:
    """Follows the references of one document, and gathers what is wrong with it."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._folder = document.name[: document.name.rfind("/") + 1]
        self._problems: dict[CatalogProblem, None] = {}
        self.reports = 0
        """How often anything was reported, the same again included."""

    @property
    def problems(self) -> tuple[CatalogProblem, ...]:
        """What was reported, in that order, nothing twice."""
        return tuple(self._problems)

    def problem(self, place: Place, message: str) -> CatalogProblem:
        """Return what is to be said about `place`."""
        name = self._folder + place.file if place.file else self._document.name
        return CatalogProblem(name, place.pointer, message)

    def report(self, place: Place, message: str) -> None:
        """Note that `place` cannot be used."""
        self.reports += 1
        self._problems[self.problem(place, message)] = None

    def checked(self, value: JsonValue, kind: type[_T], place: Place) -> _T | None:
        """Return `value`, which stands at `place`, if it is of `kind`; else None, and what is not None is reported."""
        if isinstance(value, kind):
            return value
        if value is not None:
            self.report(place, f"must be {_CALLED[kind]}")
        return None

    def target(self, reference: str, place: Place) -> tuple[JsonValue, Place]:
        """Return what `reference`, which stands at `place`, leads to; None if that is nothing, which is reported."""
        found = self.found(reference, place)
        if isinstance(found, str):
            self.report(place, f"$ref {reference!r} {found}")
            return None, place
        return found

    def found(self, reference: str, place: Place) -> tuple[JsonValue, Place] | str:
        """Return what `reference`, which stands at `place`, leads to, or why that is nothing."""
        path, _, fragment = reference.partition("#")
        pointer = unquote(fragment)
        if is_in_network(path):
            return "points to the network; keep a copy in the document's folder and name that"
        file = within_folder(path, place.file) if path else place.file
        if file is None:
            return "leaves the folder of the document; keep a copy there and name that"
        if file and file not in self._document.files:
            return f"leads nowhere: {self._document.unread.get(file, 'the file was not read')}"
        if pointer and not pointer.startswith("/"):
            return "names an anchor; write the way to it, such as #/components/schemas/Name"
        value = self._document.files[file] if file else self._document.content
        for token in pointer.split("/")[1:]:
            key = token.replace("~1", "/").replace("~0", "~")
            match value:
                case dict() if key in value:
                    value = value[key]
                case list() if _INDEX.fullmatch(key) and int(key) < len(value):
                    value = value[int(key)]
                case _:
                    return "leads nowhere; correct it, or add what it names"
        return value, Place(file, pointer)


def is_in_network(path: str) -> bool:
    """Whether `path`, the part of a reference before its `#`, is an address."""
    return _NETWORK.match(path) is not None


def within_folder(path: str, base: str) -> str | None:
    """Return `path`, written in the file `base`, from the document's folder; None if it leads out of that."""
    path = unquote(path)
    if _ABSOLUTE.match(path) or "\0" in path:
        return None
    kept = base.split("/")[:-1]
    for name in path.replace("\\", "/").split("/"):
        if name == ".." and not kept:
            return None
        if name == "..":
            kept.pop()
        elif name not in {"", "."}:
            kept.append(name)
    return "/".join(kept) or None
