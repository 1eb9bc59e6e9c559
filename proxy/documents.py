"""OpenAPI documents as files: read within bounds, with what they refer to, and the lines of problems found."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from proxy.core.catalog import CatalogError, CatalogProblem, Document
from proxy.core.jsontext import offsets
from proxy.core.references import is_in_network, within_folder
from proxy.files import about_to_read

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from proxy.core.model import JsonValue

BYTES_AT_MOST: Final = 64 * 1024 * 1024
"""The size of the largest document that is read, with all that it refers to."""

_DEPTH_AT_MOST: Final = 500
_FILES_AT_MOST: Final = 1_000
_MERGED_AT_MOST: Final = 1_000_000
"""How many keys `<<` may copy within one file: each mapping may hold the one before, and one key more."""

_Loader: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# A reference to another file, as far as bytes can show one: documents without are not searched.
_MAY_LEAD_OUT: Final = re.compile(rb"""\$ref["']?\s*:(?!\s*["']?#)|\\u0024ref|\\x24ref""")


class UnreadableError(ValueError):
    """A file cannot be read; `line` counts from 1 and is None where no line is to blame."""

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.line = line


def read_document(path: Path, name: str | None = None) -> Document:
    """Return the document at `path`, YAML or JSON, and the files of its folder that it refers to.

    `name` is what it is called in messages, the path unless told otherwise.

    Raises:
        CatalogError: it cannot be read. A file that it refers to and that cannot be read is the document's affair: it
            may never need it.
    """
    name = str(path) if name is None else name
    try:
        data = _bytes_of(path, BYTES_AT_MOST)
        content = _decoded(data, path)
    except UnreadableError as error:
        raise CatalogError((CatalogProblem(name, "", error.reason, error.line),)) from error
    if not _MAY_LEAD_OUT.search(data):
        return Document(name, content)
    files: dict[str, JsonValue] = {path.name: content}
    unread: dict[str, str] = {}
    left_bytes = BYTES_AT_MOST - len(data)
    pending = [("", content)]
    folder = path.parent
    while pending:
        for file in _files_referred_to(*pending.pop()):
            if file in files or file in unread:
                continue
            try:
                data = _bytes_of_referred(folder, file, left_bytes if len(files) < _FILES_AT_MOST else 0)
                files[file] = _decoded(data, folder / file)
            except UnreadableError as error:
                place = f"{folder / file}:{error.line}: " if error.line is not None else ""
                unread[file] = f"{place}{error.reason}"
            else:
                left_bytes -= len(data)
                pending.append((file, files[file]))
    return Document(name, content, files, unread)


def read_yaml(path: Path) -> Any:
    """Return what the YAML file at `path` holds.

    Raises:
        UnreadableError: nothing that can be read.
    """
    return _decoded(_bytes_of(path, BYTES_AT_MOST), path)


def with_lines(problems: Iterable[CatalogProblem], folder: Path) -> tuple[CatalogProblem, ...]:
    """Return `problems` with the lines that they are about, read anew from the files that they name.

    A name that is no path from here is one in `folder`. A file that cannot be read any more has no lines.
    """
    problems = tuple(problems)
    by_document: dict[str, list[str]] = {}
    for problem in problems:
        if problem.line is None and problem.pointer:
            by_document.setdefault(problem.document, []).append(problem.pointer)
    lines: dict[tuple[str, str], int] = {}
    for name, pointers in by_document.items():
        path = Path(name) if Path(name).is_file() else folder / name
        lines |= {(name, pointer): line for pointer, line in _lines(path, pointers).items()}
    return tuple(replace(one, line=lines.get((one.document, one.pointer), one.line)) for one in problems)


def _bytes_of(path: Path, limit_bytes: int) -> bytes:
    about_to_read(path)
    try:
        with path.open("rb") as file:
            data = file.read(limit_bytes + 1)
    except OSError as error:
        reason = "there is no such file" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
        raise UnreadableError(f"cannot be read: {reason}") from error
    except ValueError as error:
        raise UnreadableError("cannot be read: that is no path") from error
    if len(data) > limit_bytes:
        raise UnreadableError(
            f"is too large: a document may have {BYTES_AT_MOST >> 20} MiB and {_FILES_AT_MOST} files; take out what no "
            "request needs"
        )
    return data


def _bytes_of_referred(folder: Path, file: str, limit_bytes: int) -> bytes:
    if not (folder / file).resolve().is_relative_to(folder.resolve()):
        raise UnreadableError("it is a link that leaves the folder of the document")
    return _bytes_of(folder / file, limit_bytes)


def _decoded(data: bytes, path: Path) -> JsonValue:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UnreadableError("is not UTF-8 text; save it in that encoding", line) from error
    is_json = path.suffix.lower() == ".json"
    if is_json or text.lstrip()[:1] == "{":
        try:
            return json.loads(text, object_pairs_hook=_without_twins)
        except UnreadableError as error:
            raise _with_line(error, text) from None
        except json.JSONDecodeError as error:
            # Without the name of JSON, what begins like it may still be YAML.
            if is_json:
                raise UnreadableError(f"is not JSON: {error.msg} (column {error.colno})", error.lineno) from error
        except RecursionError as error:
            raise UnreadableError("is nested too deeply to be read") from error
        except ValueError as error:
            raise UnreadableError(f"is not JSON: {str(error).partition(';')[0]}") from error
    return _Builder(text).value()


def _without_twins(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    """Return the object of `pairs`; RFC 8259 leaves open which of two members with one name counts."""
    content = dict(pairs)
    if len(content) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise UnreadableError(f"the key {key!r} stands twice")
            seen.add(key)
    return content


def _with_line(error: UnreadableError, text: str) -> UnreadableError:
    """Return `error` with its line, if the reader of YAML, which counts lines, finds it in the JSON `text` too."""
    try:
        _Builder(text).value()
    except UnreadableError as found:
        if found.reason == error.reason:
            return found
    return error


@dataclass(slots=True)
class _Level:
    """A mapping or list that is being read; `key` is what the next value of a mapping belongs to."""

    container: dict[str, JsonValue] | list[JsonValue]
    key: str | None = None
    merged: list[JsonValue] = field(default_factory=list)


class _Builder:
    """Reads YAML as OpenAPI means it: the types of JSON, keys that are texts, and nothing else (OpenAPI 3.1, "Format").

    So `no` is a text, `2026-01-01` is no date, and the name of the status `200` is "200". Built from events, without
    recursion: PyYAML's composer means YAML 1.1, and until 6.0.3 it overflows the stack at 100,000 brackets and fills
    the memory at forty lines of doubling merges.
    """

    def __init__(self, text: str, *, keeps_lines: bool = False) -> None:
        self._text = text
        self._levels: list[_Level] = []
        self._anchors: dict[str, JsonValue] = {}
        self._merges_left = _MERGED_AT_MOST
        self._root: JsonValue = None
        self._has_begun = False
        self._keeps_lines = keeps_lines
        self.lines: dict[int, dict[str, int]] = {}
        """By the identity of each mapping and list: the line of each of its keys or elements, if they are kept."""

    def value(self) -> JsonValue:
        """Return what the text holds.

        Raises:
            UnreadableError: it is not YAML, or not of the kind that JSON could hold as well.
        """
        take = {
            yaml.ScalarEvent: self._take_scalar,
            yaml.AliasEvent: self._take_alias,
            yaml.MappingStartEvent: lambda event: self._begin({}, event),
            yaml.SequenceStartEvent: lambda event: self._begin([], event),
            yaml.MappingEndEvent: self._end,
            yaml.SequenceEndEvent: self._end,
            yaml.DocumentStartEvent: self._begin_document,
        }
        try:
            for event in yaml.parse(self._text, Loader=_Loader):
                if type(event) in take:
                    take[type(event)](event)
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark is not None else None
            column = f" (column {error.problem_mark.column + 1})" if error.problem_mark is not None else ""
            raise UnreadableError(f"is not YAML: {error.problem}{column}", line) from error
        except yaml.YAMLError as error:
            raise UnreadableError(f"is not YAML: {str(error).partition(chr(10))[0]}") from error
        return self._root

    def _begin_document(self, event: Any) -> None:
        if self._has_begun:
            raise _refused(event, "a second document begins; a file holds one")
        self._has_begun = True

    def _take_scalar(self, event: Any) -> None:
        self._put(event.value if self._awaits_key() else _scalar(event), event)

    def _take_alias(self, event: Any) -> None:
        if event.anchor not in self._anchors:
            raise _refused(event, f"the alias *{event.anchor} stands for nothing")
        self._put(self._anchors[event.anchor], event)

    def _begin(self, container: dict[str, JsonValue] | list[JsonValue], event: Any) -> None:
        if len(self._levels) >= _DEPTH_AT_MOST:
            raise _refused(event, f"more than {_DEPTH_AT_MOST} levels stand in each other")
        if event.tag not in {None, "!", _TAG + ("map" if isinstance(container, dict) else "seq")}:
            raise _refused(event, f"the tag {event.tag} means nothing in JSON")
        self._put(container, event)
        self._levels.append(_Level(container))

    def _end(self, event: Any) -> None:
        level = self._levels.pop()
        for merged in level.merged:
            for source in merged if isinstance(merged, list) else [merged]:
                if not isinstance(source, dict) or not isinstance(level.container, dict):
                    raise _refused(event, "<< takes a mapping, or a list of such")
                self._merges_left -= len(source)
                if self._merges_left < 0:
                    raise _refused(event, "<< copies more keys than a document needs")
                for key, value in list(source.items()):
                    if key not in level.container:
                        level.container[key] = value
                        if self._keeps_lines:
                            self.lines[id(level.container)][key] = self.lines[id(source)][key]

    def _awaits_key(self) -> bool:
        level = self._levels[-1] if self._levels else None
        return level is not None and level.key is None and isinstance(level.container, dict)

    def _put(self, value: JsonValue, event: Any) -> None:
        """Enter `value` where it stands: as the root, as an element, as a key or under one."""
        if event.anchor is not None and not isinstance(event, yaml.AliasEvent):
            self._anchors[event.anchor] = value
        if not self._levels:
            self._root = value
            return
        level = self._levels[-1]
        if isinstance(level.container, list):
            self._mark(level.container, str(len(level.container)), event)
            level.container.append(value)
        elif level.key is None:
            if not isinstance(value, str):
                raise _refused(event, "a key must be a text")
            if value in level.container:
                raise _refused(event, f"the key {value!r} stands twice")
            level.key = value
            if value != _MERGE:
                self._mark(level.container, value, event)
                # Keeps the order of the keys, and the place of one whose value is still to come.
                level.container[value] = None
        elif level.key == _MERGE:
            level.merged.append(value)
            level.key = None
        else:
            level.container[level.key] = value
            level.key = None

    def _mark(self, container: JsonValue, key: str, event: Any) -> None:
        if self._keeps_lines:
            self.lines.setdefault(id(container), {})[key] = event.start_mark.line + 1


def _refused(event: Any, reason: str) -> UnreadableError:
    return UnreadableError(reason, event.start_mark.line + 1)


_TAG: Final = "tag:yaml.org,2002:"
_MERGE: Final = "<<"

# YAML 1.2.2, 10.3.2, but for "infinity" and "not a number", which JSON has not.
_PLAIN: Final = re.compile(
    r"(?P<null>null|Null|NULL|~|)|(?P<true>true|True|TRUE)|(?P<false>false|False|FALSE)"
    r"|(?P<int>[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)|(?P<float>[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?)"
)
_LITERALS: Final = {"null": None, "true": True, "false": False}


def _scalar(event: Any) -> JsonValue:
    """Return the value of a scalar; one with a tag of its own is what the tag says."""
    text = event.value
    if event.tag not in {None, "!"}:
        kind = event.tag.removeprefix(_TAG)
        found = _PLAIN.fullmatch(text)
        if kind == "str":
            return text
        if kind not in {"null", "bool", "int", "float"} or found is None:
            raise _refused(event, f"the tag {event.tag} means nothing in JSON, or not here")
    elif event.implicit[0]:
        found = _PLAIN.fullmatch(text)
    else:
        return text
    match found and found.lastgroup:
        case None:
            return text
        case "int" if len(text) <= _DIGITS_AT_MOST:
            return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
        case "int" | "float":
            return float(text)
        case literal:
            return _LITERALS[literal]


_DIGITS_AT_MOST: Final = 1_000
"""What Python converts in no time; a longer integer is read as a float, which will do for what nobody asks for."""


def _files_referred_to(base: str, content: JsonValue) -> Iterator[str]:
    """Yield the files of the folder that `content`, which stands in the file `base`, refers to."""
    seen: set[int] = set()
    pending = [content]
    while pending:
        value = pending.pop()
        if not isinstance(value, dict | list) or id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, list):
            pending += value
            continue
        pending += value.values()
        reference = value.get("$ref")
        if isinstance(reference, str):
            path = reference.partition("#")[0]
            file = within_folder(path, base) if path and not is_in_network(path) else None
            if file is not None:
                yield file


def _lines(path: Path, pointers: list[str]) -> dict[str, int]:
    """Return the line of each of `pointers` in the file at `path`, or of the nearest that is there."""
    try:
        data = _bytes_of(path, BYTES_AT_MOST)
        text = data.decode("utf-8-sig")
        if _is_json(text):
            return _lines_of_json(data, pointers)
        builder = _Builder(text, keeps_lines=True)
        root = builder.value()
    except (UnreadableError, UnicodeDecodeError):
        return {}
    return {pointer: _line(root, pointer, builder.lines) for pointer in pointers}


def _is_json(text: str) -> bool:
    try:
        return text.lstrip()[:1] == "{" and json.loads(text) is not None
    except (ValueError, RecursionError):
        return False


def _lines_of_json(data: bytes, pointers: list[str]) -> dict[str, int]:
    lines: dict[str, int] = {}
    line, counted_to = 1, 0
    for pointer, offset in sorted(offsets(data, pointers).items(), key=lambda entry: entry[1]):
        line += data.count(b"\n", counted_to, offset)
        counted_to = offset
        lines[pointer] = line
    return lines


def _line(value: JsonValue, pointer: str, lines: dict[int, dict[str, int]]) -> int:
    line = 1
    for token in pointer.split("/")[1:]:
        key = token.replace("~1", "/").replace("~0", "~")
        known = lines.get(id(value), {})
        if key not in known:
            break
        line = known[key]
        value = value[int(key)] if isinstance(value, list) else value[key]
    return line
