"""The shapes that errors come in: rules as data, from `config/error_shapes.yaml`, and what an error is by them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from proxy.core import markup
from proxy.core.charset import as_text
from proxy.core.envelope import envelope_of, parse_target
from proxy.core.headers import is_json_media_type
from proxy.core.masking import is_clean

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from proxy.core.masking import Secrets
    from proxy.core.model import ErrorEnvelope, JsonValue, TargetId

Path: TypeAlias = tuple[str, ...]
"""The names and indices that lead to a value, in lower case."""

ENVELOPE: Final = "envelope"
EMPTY: Final = "empty"
TEXT: Final = "text"
HTML: Final = "html"
XML: Final = "xml"
JSON: Final = "json"
BROKEN_JSON: Final = "broken_json"
BINARY: Final = "binary"

_RESERVED: Final = frozenset({ENVELOPE, EMPTY, TEXT, HTML, XML, JSON, BROKEN_JSON, BINARY})

_DIGITS_AT_MOST: Final = 64
_TEXT_LENGTH_AT_MOST: Final = 2048
_CODE_LENGTH_AT_MOST: Final = 128
_LAYERS_AT_MOST: Final = 2
_BROKEN_READ_AT_MOST: Final = 16 * 1024
_SPACE: Final = re.compile(r"\s+")
_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")
_MEMBER: Final = re.compile(r'"(code|message|target)"\s*:\s*("[^"\\]*(?:\\.[^"\\]*)*")', re.IGNORECASE)


class ShapesError(ValueError):
    """The rules cannot be used; `problems` says each place and what is wrong there."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Shape:
    """One shape of JSON errors: what tells it from others, and where it keeps what."""

    name: str
    when: tuple[tuple[Path, str], ...]
    code: tuple[Path, ...] = ()
    message: tuple[Path, ...] = ()
    target: tuple[Path, ...] = ()
    details: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Elements:
    """Names of elements that hold code, message and tracking ID, in lower case, the best first."""

    code: tuple[str, ...] = ()
    message: tuple[str, ...] = ()
    target: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Shapes:
    """All rules, in the order in which they are tried."""

    json: tuple[Shape, ...]
    xml: Elements
    html: Elements


@dataclass(frozen=True, slots=True)
class Recognised:
    """An error body, read: `shape` is a rule's name or what else it is.

    `code` and `message` are the sender's, None where it gave none, the message of a page without its mark-up; `target`
    is a tracking ID from the body. What holds a secret is neither code nor target. `envelope` is set where the body is
    the envelope, whether it has a target or not. `document` is the decoded JSON, None for anything else, `text` the
    content as text, None where it is none.
    """

    shape: str
    code: str | None = None
    message: str | None = None
    target: TargetId | None = None
    details: Sequence[JsonValue] = ()
    envelope: ErrorEnvelope | None = None
    document: JsonValue = None
    text: str | None = None


def compile_shapes(document: JsonValue) -> Shapes:
    """Return the rules that `document`, the content of the file, writes down.

    Raises:
        ShapesError: with every problem.
    """
    problems: list[str] = []
    match document:
        case {"json": list(rules), "xml": dict(xml), "html": dict(html), **rest}:
            problems += [f"/{name}: no such key" for name in rest]
            shapes = tuple(_shape(rule, f"/json/{index}", problems) for index, rule in enumerate(rules))
            elements = _elements(xml, "/xml", problems), _elements(html, "/html", problems)
        case _:
            raise ShapesError(["the file must hold `json`, a list, and `xml` and `html`, mappings"])
    if problems:
        raise ShapesError(problems)
    return Shapes(shapes, *elements)


def _shape(rule: JsonValue, place: str, problems: list[str]) -> Shape:
    match rule:
        case {"name": str(name), "when": dict(when), **rest} if when:
            if not _NAME.fullmatch(name) or name in _RESERVED:
                problems.append(
                    f"{place}/name: must be a word in lower case, and none of {', '.join(sorted(_RESERVED))}"
                )
            for path, kind in when.items():
                if kind not in _KINDS:
                    problems.append(f"{place}/when/{path}: must be one of {', '.join(_KINDS)}")
            paths = {
                key: tuple(_paths(rest.pop(key, ()), f"{place}/{key}", problems))
                for key in ("code", "message", "target", "details")
            }
            rest.pop("source", None)
            problems += [f"{place}/{key}: no such key" for key in rest]
            conditions = zip(_paths(list(when), f"{place}/when", problems), when.values(), strict=False)
            return Shape(name, tuple(conditions), **paths)
    problems.append(f"{place}: must hold `name`, a text, and `when`, a mapping that is not empty")
    return Shape("", ())


def _paths(listed: JsonValue, place: str, problems: list[str]) -> Iterator[Path]:
    if not isinstance(listed, list | tuple):
        problems.append(f"{place}: must be a list of paths")
        return
    for path in listed:
        if not isinstance(path, str) or not path.startswith("/"):
            problems.append(f"{place}: each must be a path that starts with '/'")
            return
        yield tuple(step.replace("~1", "/").replace("~0", "~").lower() for step in path[1:].split("/"))


def _elements(section: Mapping[str, JsonValue], place: str, problems: list[str]) -> Elements:
    known = {"code", "message", "target"}
    problems += [f"{place}/{key}: no such key" for key in section if key not in known]
    names: dict[str, tuple[str, ...]] = {}
    for key in known & section.keys():
        match section[key]:
            case [*listed] if all(isinstance(name, str) for name in listed):
                names[key] = tuple(name.lower() for name in listed)
            case _:
                problems.append(f"{place}/{key}: must be a list of names")
    return Elements(**names)


@dataclass(frozen=True, slots=True)
class _Reader:
    """What is taken for a code and for a tracking ID: nothing that holds a secret, as both go into headers and log."""

    names: Collection[str]
    secrets: Secrets

    def code(self, text: str | None) -> str | None:
        return text if text and is_clean(text[:_TEXT_LENGTH_AT_MOST], self.secrets) else None

    def target(self, value: object) -> TargetId | None:
        target = parse_target(value, self.names)
        return target if target is not None and is_clean(target, self.secrets) else None


def recognise(
    content: bytes, media_type: str, shapes: Shapes, names: Collection[str] = (), secrets: Secrets = ()
) -> Recognised:
    """Return what the error body `content` says, whatever its type claims. Any bytes get an answer.

    `content` is decoded, `media_type` the value of `Content-Type`; `names` are folded parameter names that are never a
    tracking ID, `secrets` what the request carried.
    """
    if not content.strip(b" \t\r\n"):
        return Recognised(EMPTY)
    text = as_text(content, media_type)
    if text is None:
        return Recognised(BINARY)
    if not text.strip():
        return Recognised(EMPTY)
    document, reader = _parsed(text), _Reader(names, secrets)
    if document is _NOTHING:
        return _of_text(text, media_type, shapes, reader)
    return _of_document(document, text, shapes, reader)


_NOTHING: Final = object()


def _number(text: str) -> float | int | str:
    """Return a number as Python has it; one that Python cannot hold, or write down again, as its text."""
    if len(text) > _DIGITS_AT_MOST:
        return text
    if not text.lstrip("-").isdigit():
        number = float(text)
        return number if abs(number) < float("inf") else text
    return int(text)


_DECODER: Final = json.JSONDecoder(parse_int=_number, parse_float=_number, parse_constant=str)
# Some senders write a tab or a line break into a string as it is.
_LENIENT: Final = json.JSONDecoder(strict=False)


def _parsed(text: str) -> JsonValue:
    """Return the document in `text`, `_NOTHING` where it is none; one that was written into a string is unwrapped."""
    document: JsonValue = text
    for _ in range(_LAYERS_AT_MOST):
        if not isinstance(document, str):
            return document
        try:
            document = _DECODER.decode(document.strip())
        except (ValueError, RecursionError):
            return _NOTHING if document is text else document
    return document


def _of_document(document: JsonValue, text: str, shapes: Shapes, reader: _Reader) -> Recognised:
    if isinstance(document, list) and len(document) == 1:
        (document,) = document
    if (envelope := envelope_of(document, reader.names)) is not None:
        envelope = replace(
            envelope, target=reader.target(envelope.target), request_id=reader.target(envelope.request_id)
        )
        return Recognised(
            ENVELOPE, reader.code(envelope.code), envelope.message or None, envelope.target or envelope.request_id,
            _list_at(document, (("error", "details"),)), envelope, document, text,
        )  # fmt: skip
    if isinstance(document, str):
        return Recognised(TEXT, None, _sentence(document), text=text)
    for shape in shapes.json:
        if all(_KINDS[kind](_at(document, path)) for path, kind in shape.when):
            code = next(filter(reader.code, _texts(document, shape.code)), None)
            message = next(_texts(document, shape.message), None)
            found = (reader.target(value) for value in _texts(document, shape.target))
            return Recognised(
                shape.name,
                as_code(code) if code else None,
                _sentence(message) if message else None,
                next((target for target in found if target is not None), None),
                _list_at(document, shape.details),
                document=document,
                text=text,
            )
    return Recognised(JSON, document=document, text=text)


def _of_text(text: str, media_type: str, shapes: Shapes, reader: _Reader) -> Recognised:
    essence = media_type.partition(";")[0].strip().lower()
    stripped = text.lstrip()
    if stripped.startswith("<"):
        if markup.is_html(stripped) or (essence == "text/html" and not stripped.startswith("<?xml")):
            found = markup.first_texts(stripped, shapes.html.message)
            return Recognised(HTML, None, markup.first_of(found, (*shapes.html.message, "")), text=text)
        if markup.is_xml(stripped):
            found = markup.first_texts(stripped, {*shapes.xml.code, *shapes.xml.message, *shapes.xml.target})
            code = reader.code(markup.first_of(found, shapes.xml.code))
            targets = (reader.target(found.get(name)) for name in shapes.xml.target)
            return Recognised(
                XML,
                code[:_CODE_LENGTH_AT_MOST] if code else None,
                markup.first_of(found, (*shapes.xml.message, "")),
                next((target for target in targets if target is not None), None),
                text=text,
            )
    if stripped.startswith(("{", "[")) or is_json_media_type(essence):
        return _of_broken_json(text, reader)
    if markup.is_html(stripped):
        found = markup.first_texts(stripped, shapes.html.message)
        return Recognised(HTML, None, markup.first_of(found, (*shapes.html.message, "")), text=text)
    return Recognised(TEXT, None, _sentence(text), text=text)


def _of_broken_json(text: str, reader: _Reader) -> Recognised:
    """Return what can be read of JSON that is cut off: the first members of each name that are whole."""
    found: dict[str, str] = {}
    for member in _MEMBER.finditer(text[:_BROKEN_READ_AT_MOST]):
        try:
            found.setdefault(member[1].lower(), _LENIENT.decode(member[2]))
        except ValueError:
            continue
    code, message = reader.code(found.get("code")), found.get("message")
    return Recognised(
        BROKEN_JSON,
        as_code(code) if code else None,
        _sentence(message) if message else None,
        reader.target(found.get("target")),
        text=text,
    )


def _at(document: JsonValue, path: Path) -> JsonValue:
    """Return what `path` leads to, letter case aside, None where that is nothing."""
    for step in path:
        match document:
            case dict():
                names = (name for name in document if name == step)
                names_in_other_case = (name for name in document if name.lower() == step)
                name = next(names, None)
                name = next(names_in_other_case, None) if name is None else name
                if name is None:
                    return None
                document = document[name]
            case list() if step.isdecimal() and len(step) < 4 and int(step) < len(document):  # noqa: PLR2004
                document = document[int(step)]
            case _:
                return None
    return document


def _texts(document: JsonValue, paths: Iterable[Path]) -> Iterator[str]:
    """Yield the texts and numbers that `paths` lead to."""
    for path in paths:
        match _at(document, path):
            case bool():
                continue
            case str(text) if text.strip():
                yield text.strip()
            case int() | float() as number:
                yield str(number)


def _list_at(document: JsonValue, paths: Iterable[Path]) -> Sequence[JsonValue]:
    for path in paths:
        match _at(document, path):
            case list(values) if values and all(isinstance(value, dict) for value in values):
                return values
    return ()


def as_code(text: str) -> str:
    """Return `text` as the code of an error that is no envelope: on one line, of 128 characters at the most."""
    return _sentence(text, _CODE_LENGTH_AT_MOST)


def _sentence(text: str, limit: int = _TEXT_LENGTH_AT_MOST) -> str:
    """Return `text` on one line, bounded."""
    line = _SPACE.sub(" ", text[: 2 * limit]).strip()
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_token(value: Any) -> bool:
    return _is_text(value) and not _SPACE.search(value.strip())


_KINDS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "text": _is_text,
    "token": _is_token,
    "number": _is_number,
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "any": lambda value: _is_text(value) or _is_number(value),
}
