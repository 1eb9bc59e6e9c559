"""The catalog: which operation a request belongs to, and what documents can be said to have wrong."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from string import ascii_lowercase, ascii_uppercase
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import unquote

from proxy.core.model import JsonValue, RouteTemplate
from proxy.core.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from proxy.core.casing import Shape

METHODS: Final = frozenset({"GET", "PUT", "POST", "DELETE", "OPTIONS", "HEAD", "PATCH"})
"""The methods that an OpenAPI path item can describe and that the proxy forwards (TRACE it does not)."""

SEGMENTS_AT_MOST: Final = 100
"""How many segments a documented path may have: a match goes as deep as the deepest of them."""

_VERSION = re.compile(r"v\d+(?:\.\d+)?|beta")
_PARAMETER = re.compile(r"\{[^{}]*\}")

# `str.lower` would make a "k" of the Kelvin sign.
_ASCII_LOWER: Final = str.maketrans(ascii_uppercase, ascii_lowercase)


@dataclass(frozen=True, slots=True)
class Operation:
    """A documented operation: what a request is called in logs and metrics, and what its body may hold.

    `body` is None where the documentation describes no JSON body; `policed` is false where the service takes
    names in any case. `doc` is the documentation page. `entity` is what a read returns one or many of, None where
    that is not documented; `filterable` are the properties that its `$filter` takes. `source` says where the
    operation itself is known from, where that is no page; `media_types` are those of a body that is no JSON. `pages`
    says whether what a GET answers may link to a next page.
    """

    name: str
    method: str
    template: RouteTemplate
    body: Shape | None = None
    policed: bool = True
    doc: str | None = None
    deprecated: bool = False
    entity: Shape | None = None
    filterable: tuple[str, ...] = ()
    source: str | None = None
    media_types: tuple[str, ...] = ()
    pages: bool = False

    @property
    def is_checked(self) -> bool:
        """Whether there is a body to check, and a reason to."""
        return self.policed and self.body is not None and bool(self.body)


UNKNOWN: Final = Operation("unknown", "", RouteTemplate("unknown"))
"""Stands for every request that no operation of the catalog describes; whether it pages nobody knows."""


@dataclass(frozen=True, slots=True)
class Document:
    """A decoded OpenAPI document and the name to report its problems under.

    `files` are the documents that its references lead to, and `unread` the reasons why others could not be read,
    both by the path from the document's folder, with forward slashes.
    """

    name: str
    content: JsonValue
    files: Mapping[str, JsonValue] = field(default_factory=dict)
    unread: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CatalogProblem:
    """Something in a document that cannot be used: where (a JSON Pointer) and what to do about it.

    `line` counts from 1; None where nobody has looked it up, or where no line is to blame.
    """

    document: str
    pointer: str
    message: str
    line: int | None = None

    def __str__(self) -> str:
        """Return the problem as one line, whatever its parts hold."""
        place = self.document if self.line is None else f"{self.document}:{self.line}"
        return printable(": ".join(filter(None, (place, self.pointer, self.message))))


class CatalogError(Exception):
    """The documents do not make a catalog; `problems` holds every reason found, `notes` what does no harm."""

    def __init__(self, problems: tuple[CatalogProblem, ...], notes: tuple[CatalogProblem, ...] = ()) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems
        self.notes = notes


@dataclass(frozen=True, slots=True)
class _Function:
    """A segment that calls an OData function: its name, and the sorted names of its arguments ("" for one without).

    Arguments are told apart by their names, so their order is free (OData 4.01, "URL Conventions", "Function
    Expressions").
    """

    name: str
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Mixed:
    """A segment of text and parameters: `{id}.json`, `{from}-{to}`. A parameter takes one character or more."""

    prefix: str
    inner: tuple[str, ...]
    suffix: str

    def fits(self, segment: str) -> bool:
        """Whether the texts stand in `segment`, in order, with something in every gap; prefix and suffix do."""
        end = len(segment) - len(self.suffix)
        place = len(self.prefix)
        for text in self.inner:
            place = segment.find(text, place + 1, end)
            if place < 0:
                return False
            place += len(text)
        return place < end


@dataclass(frozen=True, slots=True)
class _Any:
    """A segment that is a parameter as a whole."""


_ANY: Final = _Any()

_Part: TypeAlias = str | _Function | _Mixed | _Any


@dataclass(slots=True, eq=False)
class _Node:
    """One level of the route matcher: what may follow, from the most to the least special."""

    literals: dict[str, _Node] = field(default_factory=dict)
    functions: dict[_Function, _Node] = field(default_factory=dict)
    mixed: dict[tuple[str, str], list[tuple[_Mixed, _Node]]] = field(default_factory=dict)
    mixed_lengths: list[tuple[int, int]] = field(default_factory=list)
    """The lengths of prefix and suffix that occur in `mixed`, the longest together first: what to look up."""
    parameter: _Node | None = None
    operations: dict[str, Operation] = field(default_factory=dict)
    is_api: bool = False
    """Whether an API version may follow that templates leave out."""


@dataclass(frozen=True, slots=True)
class Catalog:
    """The operations, and the way from a request to one of them.

    `notes` tell what stands in the documents and cannot be used, but does no harm.
    """

    operations: tuple[Operation, ...]
    names: frozenset[str]
    """Every parameter name of the catalog, folded."""
    routes: Routes
    notes: tuple[CatalogProblem, ...] = ()

    def match(self, method: str, target: str) -> Operation:
        """Return the operation of a request with `method` and origin-form `target`, or `UNKNOWN`.

        The path is compared segment by segment, percent-decoded, without regard to ASCII case, empty segments
        and an API version behind `/api`; HEAD belongs to the operation of GET, unless it is documented itself. The cost
        depends on the length of the path, not on the catalog's size, but for one case: segments of text and parameters
        that begin and end alike and differ between parameters (`{a}-one-{b}`, `{a}-two-{b}`) are tried in turn.
        """
        path = target.partition("?")[0]
        operation = self.routes.find(method, path)
        if operation is None and method == "HEAD":
            # RFC 9110, 9.3.2: what GET does, but for the content of its response.
            operation = self.routes.find("GET", path)
        return operation or UNKNOWN


class Routes:
    """The documented routes, by segment.

    Where several fit a request, segment by segment a text wins over a function, a function over a mixed segment
    and that over a parameter; a choice that leads nowhere is taken back, so that no route hides another.
    """

    def __init__(self) -> None:
        self._root = _Node()

    def claim(self, template: str, operation: Operation) -> Operation:
        """Enter `operation` under `template`, and return the operation that this route belongs to: the first one."""
        node = self._root
        for part in parts_of(template):
            node = _entered(node, part)
        return node.operations.setdefault(operation.method, operation)

    def find(self, method: str, path: str) -> Operation | None:
        """Return the operation of a request with `method` and `path`, or None."""
        # Nearly always the first choice at each segment leads there, and is then what the search would return.
        node = self._root
        for segment in _split(path):
            if not segment:
                continue
            below = node.literals.get(segment)
            if below is None:
                below = node.parameter
                if below is None or node.is_api or node.mixed_lengths or (node.functions and segment[-1] == ")"):
                    break
            node = below
        else:
            if (operation := node.operations.get(method)) is not None:
                return operation
        return _find(self._root, _segments(path), 0, method)


def parts_of(template: str) -> tuple[_Part, ...]:
    """Return what the segments of `template` are compared as; templates that claim one route have equal ones."""
    return tuple(map(_part, _segments(template)))


def without_version(parts: tuple[_Part, ...]) -> tuple[_Part, ...]:
    """Return `parts` without the API version behind `api`."""
    return tuple(
        part
        for index, part in enumerate(parts)
        if not (index and parts[index - 1] == "api" and isinstance(part, str) and _VERSION.fullmatch(part))
    )


RouteKey: TypeAlias = tuple[str, tuple[_Part, ...]]
"""What two routes have in common when they match the same requests."""


def route_key(method: str, template: str) -> RouteKey:
    """Return the key of a route, an API version behind `api` aside; templates that claim one route have equal ones."""
    return method.upper(), without_version(parts_of(template))


def _segments(path: str) -> list[str]:
    """Return the segments of `path` in the form that routes are compared in."""
    return [segment for segment in _split(path) if segment]


def _split(path: str) -> list[str]:
    """Return the segments of `path` in that form, the empty ones among them."""
    if "%" in path:
        return [unquote(segment).translate(_ASCII_LOWER) for segment in path.split("/")]
    return (path.lower() if path.isascii() else path.translate(_ASCII_LOWER)).split("/")


# A quoted string as OData writes it, a quote within doubled. A single one is overlooked unless an argument could end
# there, as clients forget to double it. Possessive: nothing is tried twice, whatever the text.
_QUOTED = re.compile(r"'(?>''|[^']|'(?![ ]*(?:,|$)))*+'")

_CALL = re.compile(r"([^(){}']+)\((.+)\)")
_ARGUMENT = re.compile(r"[ ]*(?:([^={}(),' ]+)[ ]*=[ ]*)?(?:\{[^{}]*\}|'\{[^{}]*\}')[ ]*(?:,|$)")


def _part(segment: str) -> _Part:
    """Return what one `segment` of a template is compared as."""
    texts = _PARAMETER.split(segment)
    if len(texts) == 1:
        return segment
    if not any(texts):
        return _ANY
    call = _CALL.fullmatch(segment)
    if call is not None and not _ARGUMENT.sub("", call[2]):
        names = (argument[1] or "" for argument in _ARGUMENT.finditer(call[2]))
        return _Function(call[1], tuple(sorted(names)))
    return _Mixed(texts[0], tuple(filter(None, texts[1:-1])), texts[-1])


def _called(segment: str) -> _Function | None:
    """Return the function that a request's `segment` calls; None where it calls none."""
    name, _, rest = segment.partition("(")
    if not rest.endswith(")"):
        return None
    arguments = [argument.partition("=") for argument in _QUOTED.sub("'", rest[:-1]).split(",")]
    return _Function(name, tuple(sorted(name.strip(" ") if equals else "" for name, equals, _ in arguments)))


def _entered(node: _Node, part: _Part) -> _Node:
    """Return the node that `part` leads to from `node`, made where it is new."""
    match part:
        case str():
            below = node.literals.setdefault(part, _Node())
            below.is_api = part == "api"
            return below
        case _Function():
            return node.functions.setdefault(part, _Node())
        case _Mixed():
            lengths = len(part.prefix), len(part.suffix)
            if lengths not in node.mixed_lengths:
                node.mixed_lengths.append(lengths)
                node.mixed_lengths.sort(key=sum, reverse=True)
            alike = node.mixed.setdefault((part.prefix, part.suffix), [])
            for other, below in alike:
                if other == part:
                    return below
            alike.append((part, _Node()))
            # Of those with the same ends, the one with the most text between them is tried first.
            alike.sort(key=lambda entry: -sum(map(len, entry[0].inner)))
            return next(below for other, below in alike if other is part)
        case _:
            if node.parameter is None:
                node.parameter = _Node()
            return node.parameter


def _find(node: _Node, segments: list[str], index: int, method: str) -> Operation | None:
    """Return the operation that the `segments` from `index` on lead to, or None.

    Goes no deeper than the deepest template, whatever the client sends, and to no node twice for one reason.
    """
    if index == len(segments):
        return node.operations.get(method)
    segment = segments[index]
    below = node.literals.get(segment)
    if below is not None and (found := _find(below, segments, index + 1, method)) is not None:
        return found
    if node.is_api and _skips(segments, index) and (found := _find(node, segments, index + 1, method)) is not None:
        return found
    if node.functions and (function := _called(segment)) is not None:
        below = node.functions.get(function)
        if below is not None and (found := _find(below, segments, index + 1, method)) is not None:
            return found
    for prefix, suffix in node.mixed_lengths:
        for part, below in node.mixed.get((segment[:prefix], segment[len(segment) - suffix :]), ()):
            if part.fits(segment) and (found := _find(below, segments, index + 1, method)) is not None:
                return found
    return _find(node.parameter, segments, index + 1, method) if node.parameter is not None else None


def _skips(segments: list[str], index: int) -> bool:
    """Whether the segment at `index` is a version to pass over: one, not a row of them."""
    return _VERSION.fullmatch(segments[index]) is not None and not (
        index + 1 < len(segments) and _VERSION.fullmatch(segments[index + 1])
    )
