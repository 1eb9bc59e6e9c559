"""`catalog import-metadata`: a file that holds a service's OData metadata, as a catalog document or a comparison.

The file is a stranger's: it is read with bounds on its size, its depth and its number of elements, and without
document types, so without entities.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from xml.etree.ElementTree import Element, ParseError, TreeBuilder
from xml.parsers.expat import errors

import yaml
from defusedxml import DTDForbidden
from defusedxml.ElementTree import DefusedXMLParser

from proxy.core.compare import Comparison, Difference, Finding, compare, operations
from proxy.core.csdl import CsdlError, Note, Service, Translation, read_service, translate
from proxy.errors import UnusableInputError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from proxy.core.model import JsonValue

# A hundred times what Defender for Endpoint needs: 120 kB, 2,400 elements, 6 deep.
BYTES_AT_MOST: Final = 16 * 1024 * 1024
ELEMENTS_AT_MOST: Final = 300_000
DEPTH_AT_MOST: Final = 100

STANDARD_INPUT: Final = Path("-")
PIPED_WIDTH: Final = 110

_NOTES_SHOWN: Final = 20
_NARROWEST: Final = 40
_BELOW: Final = " " * 6

_SAVE_AGAIN: Final = "save the whole answer to GET /api/$metadata, sent with a token and `Accept: application/xml`"

_PREFIX: Final = re.compile(r"(?:/[^/\s{}?#]+)*")

_CUT_OFF: Final = frozenset(
    errors.codes[text]
    for text in (errors.XML_ERROR_NO_ELEMENTS, errors.XML_ERROR_UNCLOSED_TOKEN, errors.XML_ERROR_UNCLOSED_CDATA_SECTION)
)
_ENCODING: Final = frozenset(
    errors.codes[text]
    for text in (
        errors.XML_ERROR_UNKNOWN_ENCODING,
        errors.XML_ERROR_INCORRECT_ENCODING,
        errors.XML_ERROR_PARTIAL_CHAR,
    )
)

# What a file begins with that was written by a shell of Windows: PowerShell's `>` makes UTF-16 of everything.
_UTF_16: Final = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"<\0": "utf-16-le", b"\0<": "utf-16-be"}


class MetadataError(UnusableInputError):
    """The file, or what was asked for, cannot be used; the text says where and what to do."""


@dataclass(frozen=True, slots=True)
class Imported:
    """A service's metadata as a catalog document."""

    path: Path
    translation: Translation
    notes: tuple[Note, ...]

    @property
    def document(self) -> dict[str, JsonValue]:
        """The document to write."""
        return self.translation.document


def import_metadata(
    path: Path, catalog: Collection[JsonValue], *, prefix: str = "/api", takes_all: bool = False
) -> Imported:
    """Return the catalog document that the OData metadata in the file at `path` amounts to; `-` is standard input.

    Routes begin with `prefix`. Those that the documents of the `catalog` have are left out, since two documents may
    not claim one route, unless `takes_all`. No operation gets a name that the catalog has given away.

    Raises:
        MetadataError: the file cannot be read, is not OData metadata, or `prefix` is none.
    """
    prefix = prefix.rstrip("/")
    if not _PREFIX.fullmatch(prefix):
        raise MetadataError(f"--prefix {prefix!r}: must be a path such as /api, without spaces, braces, ? and #")
    known = [operation for document in catalog for operation in operations(document)]
    names = {operation.name for operation in known}
    try:
        service: Service = read_service(_tree(path))
        keys = () if takes_all else {operation.key for operation in known}
        translation = translate(service, prefix, known=keys, taken=names)
    except CsdlError as error:
        raise MetadataError(f"{_place(path, error.element)}: {error}") from error
    return Imported(path, translation, (*service.notes, *translation.notes))


def compare_metadata(path: Path, catalog: Collection[JsonValue], *, prefix: str = "/api") -> Comparison:
    """Return what the file at `path` says that the documents of the `catalog` do not, and where the two disagree.

    Raises:
        MetadataError: as `import_metadata` does.
    """
    return compare(catalog, import_metadata(path, catalog, prefix=prefix, takes_all=True).document)


def to_yaml(document: JsonValue) -> str:
    """Return a document as YAML, its names in the order they have."""
    head = {name: content for name, content in document.items() if name not in {"paths", "components"}}
    return "".join(
        (
            _dumped(head),
            *_dumped_members("paths", document["paths"]),
            "components:\n",
            *_dumped_members("schemas", document["components"]["schemas"], "  "),
        )
    )


def _dumped_members(name: str, content: JsonValue, indent: str = "") -> Iterator[str]:
    """Yield the YAML of a mapping under its name, one member at a time: all at once take many times the memory."""
    yield f"{indent}{name}:\n" if content else f"{indent}{name}: {{}}\n"
    indent += "  "
    for member in content.items():
        yield textwrap.indent(_dumped(dict([member]), len(indent)), indent)


def _dumped(content: JsonValue, indent: int = 0) -> str:
    return yaml.dump(
        content, Dumper=_Dumper, sort_keys=False, default_flow_style=None, allow_unicode=True, width=120 - indent
    )


def save(text: str, imported: Imported, output: Path) -> None:
    """Write `text` to `output`.

    Raises:
        MetadataError: it cannot be written, or is the file that the metadata came from.
    """
    try:
        if output.exists() and imported.path != STANDARD_INPUT and output.samefile(imported.path):
            raise MetadataError(f"--output {output}: is the file with the metadata; choose another")
        output.write_text(text, "utf-8")
    except OSError as error:
        raise MetadataError(f"--output {output}: cannot be written: {error.strerror or error}") from error


def summary(imported: Imported) -> list[str]:
    """Return what was written, what was left out, and which parts of the file could not be used, line by line."""
    written, left_out = imported.translation.written, imported.translation.left_out
    lines = [f"{_place(imported.path, note.element)}: {note.message}" for note in imported.notes[:_NOTES_SHOWN]]
    if len(imported.notes) > _NOTES_SHOWN:
        lines.append(f"{imported.path}: {len(imported.notes) - _NOTES_SHOWN} more such places")
    actions = sum(not title.startswith("GET ") for title in written)
    lines.append(f"{imported.path}: {len(written)} operations, {actions} of them actions, are in the new document")
    if left_out:
        lines.append(
            f"{imported.path}: {len(left_out)} operations are not, since the shipped catalog has them; --compare "
            "tells where the two differ, --all takes them in, for a file that is not loaded beside the shipped ones"
        )
    return lines


def render_json(comparison: Comparison) -> str:
    """Return a comparison as JSON text."""
    return json.dumps(
        {
            "operations": comparison.operations,
            "types": comparison.types,
            "differences": [asdict(finding) for finding in comparison.findings],
        },
        indent=2,
        ensure_ascii=False,
    )


_HEADINGS: Final = {
    Difference.ACTION: "Actions that the catalog does not have",
    Difference.READ: "Reads that the catalog does not have",
    Difference.PARAMETER: "Parameters that the catalog does not have",
    Difference.PROPERTY: "Properties that the catalog does not have, by type",
    Difference.NAVIGATION: "Navigation properties that the catalog does not have, by type",
    Difference.VALUE: "Values that the catalog does not list",
    Difference.SPELLING: "Spelt otherwise",
    Difference.TYPE: "Of another type",
    Difference.REQUIRED: "Required by one of the two alone",
}


def render_text(comparison: Comparison, width: int = PIPED_WIDTH) -> str:
    """Return a comparison as text for people: a section a kind of difference, a row a finding.

    Lines are folded to `width`, but names are not broken.
    """
    width = max(width, _NARROWEST)
    labels_at_most = width - width // 3 - 4
    both = f"{_count(comparison.operations, 'operation')} and {_count(comparison.types, 'type')}"
    lines = _wrapped(f"Both have {both}. {_count(len(comparison.findings), 'difference')}.", width)
    for kind, heading in _HEADINGS.items():
        findings = [finding for finding in comparison.findings if finding.kind is kind]
        if findings:
            lines += ("", *_wrapped(f"{heading} ({len(findings)})", width))
            place = max(len(finding.place) for finding in findings)
            name = max(len(finding.name) for finding in findings)
            for finding in findings:
                label = f"{finding.place:<{place}}  {finding.name:<{name}}".rstrip() if name else finding.place
                padded = f"  {label:<{min(place + bool(name) * (name + 2), labels_at_most)}}  "
                lines += _row(padded, _told(finding), width)
    return "\n".join(lines) + "\n"


def _count(number: int, thing: str) -> str:
    return f"{number or 'No'} {thing}{'s' * (number != 1)}"


def _told(finding: Finding) -> str:
    service = ", ".join(finding.service)
    match finding.kind:
        case Difference.SPELLING | Difference.TYPE | Difference.REQUIRED:
            return f"service: {service}; catalog: {', '.join(finding.catalog)}"
        case Difference.PROPERTY | Difference.VALUE if not finding.catalog:
            return f"{service} (the catalog has none at all)"
    return service


def _row(label: str, text: str, width: int) -> list[str]:
    """Return a row, its text wrapped beside the label, or below it where there is too little room."""
    if not text:
        return [label.rstrip()]
    beside = width - len(label)
    longest = max(map(len, text.split()))
    if beside < max(longest, min(len(text), width // 3)):
        return [label.rstrip(), *(_BELOW + line for line in _wrapped(text, width - len(_BELOW)))]
    first, *others = _wrapped(text, beside)
    return [label + first, *(" " * len(label) + line for line in others)]


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)


# The one in C is several times as fast, but not built everywhere.
_SafeDumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class _Dumper(_SafeDumper):  # type: ignore[misc]
    """Writes out again what stands in a document twice, where others would refer to it."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True


class _Element(Element):
    """An element that knows its place: metadata often comes in one line, so the column is told too."""

    __slots__ = ("place",)

    place: str


class _Builder(TreeBuilder):
    """Builds the tree, within bounds."""

    def __init__(self) -> None:
        super().__init__(element_factory=_Element)
        self.parser: Any = None
        self._depth = 0
        self._count = 0

    def start(self, tag: str, attributes: dict[str, str], /) -> Element:
        self._depth += 1
        self._count += 1
        place = f"line {self.parser.parser.CurrentLineNumber}, column {self.parser.parser.CurrentColumnNumber + 1}"
        if self._depth > DEPTH_AT_MOST:
            raise _BoundError(f"{place}: elements are nested more than {DEPTH_AT_MOST} deep")
        if self._count > ELEMENTS_AT_MOST:
            raise _BoundError(f"{place}: there are more than {ELEMENTS_AT_MOST} elements")
        element = super().start(tag, attributes)
        if isinstance(element, _Element):
            element.place = place
        return element

    def end(self, tag: str, /) -> Element:
        self._depth -= 1
        return super().end(tag)


class _BoundError(Exception):
    """The document exceeds a bound."""


def _tree(path: Path) -> Element:
    """Return the root of the XML document in a file."""
    content = _content(path)
    _refuse_what_is_no_xml(path, content)
    encoding = None
    for mark, name in _UTF_16.items():
        if content.startswith(mark):
            # Whatever the declaration says: it was written for the bytes that the file was made from.
            try:
                content, encoding = content.decode(name).encode(), "utf-8"
            except UnicodeError as error:
                raise MetadataError(f"{path}: begins as UTF-16 text, but is none; {_SAVE_AGAIN}") from error
            _refuse_what_is_no_xml(path, content)
            break
    builder = _Builder()
    builder.parser = parser = _parser(builder, encoding)
    try:
        parser.feed(content)
        root: Element = parser.close()
    except _BoundError as error:
        raise MetadataError(f"{path}: {error}, as no service's metadata does") from error
    except DTDForbidden as error:
        if str(error.name).lower() == "html":
            raise _no_metadata(path, "is an HTML page") from error
        raise MetadataError(
            f"{path}: line {parser.parser.CurrentLineNumber}: holds a document type declaration, which is refused, "
            "since entities can fill the memory and read other files; metadata has none"
        ) from error
    except ParseError as error:
        raise MetadataError(f"{path}: line {error.position[0]}: {_told_of_xml(error, content)}") from error
    except (ValueError, LookupError) as error:
        # Raised where Python has no reader for the encoding that the document declares.
        raise MetadataError(f"{path}: line 1: declares an encoding that cannot be read; save it as UTF-8") from error
    return root


def _parser(builder: TreeBuilder, encoding: str | None) -> Any:
    return DefusedXMLParser(target=builder, encoding=encoding, forbid_dtd=True)


def _content(path: Path) -> bytes:
    try:
        if path == STANDARD_INPUT:
            content = sys.stdin.buffer.read(BYTES_AT_MOST + 1)
        else:
            with path.open("rb") as file:
                content = file.read(BYTES_AT_MOST + 1)
    except OSError as error:
        raise MetadataError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(content) > BYTES_AT_MOST:
        raise MetadataError(f"{path}: holds more than {BYTES_AT_MOST} bytes, as no service's metadata does")
    return content


def _refuse_what_is_no_xml(path: Path, content: bytes) -> None:
    """Refuse by name what people save in the place of metadata."""
    start = content[:256].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not start:
        raise _no_metadata(path, "is empty")
    if start.startswith((b"{", b"[")):
        raise _no_metadata(path, f"is JSON{_error_in(content)}")
    if start.startswith((b"<!doctype html", b"<html")):
        raise _no_metadata(path, "is an HTML page")
    if start.startswith(b"\x1f\x8b"):
        raise _no_metadata(path, "is compressed; unpack it, or")
    if not start.startswith((b"<", *_UTF_16)):
        raise _no_metadata(path, f"is not XML: it begins with {content[:20]!r}")


def _no_metadata(path: Path, what: str) -> MetadataError:
    return MetadataError(f"{path}: {what}{';' * (not what.endswith(' or'))} {_SAVE_AGAIN}")


def _error_in(content: bytes) -> str:
    """Return what to add when the JSON is the service's refusal."""
    try:
        match json.loads(content):
            case {"error": {"code": str(code)}} if re.fullmatch(r"\w{1,64}", code, re.ASCII):
                return f", the service's error {code}"
    except (ValueError, RecursionError):
        pass
    return ""


def _told_of_xml(error: ParseError, content: bytes) -> str:
    if error.code in _CUT_OFF:
        return f"ends in the middle; {_SAVE_AGAIN}"
    if error.code in _ENCODING or (
        error.code == errors.codes[errors.XML_ERROR_INVALID_TOKEN] and not _is_utf_8(content)
    ):
        return "is not in the encoding that it declares (UTF-8, where it declares none); save it byte for byte"
    return f"is not XML: {str(error).partition(':')[0]} (column {error.position[1] + 1}); {_SAVE_AGAIN}"


def _is_utf_8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _place(path: Path, element: Element) -> str:
    return f"{path}: {element.place}" if isinstance(element, _Element) else str(path)
