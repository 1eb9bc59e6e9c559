"""JSON text without loss: every name of every object, in order, and where it stands.

Readers of one text. `parse` leaves nothing out (the last of two equal names does not win), `respelt` rewrites chosen
names in place and `with_members` adds members; what `parse` accepts, the others can walk.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from proxy.core.model import JsonValue


class UnreadableJsonError(ValueError):
    """The bytes are not one JSON text in UTF-8 that can be read whole; `place` says where, empty if that is unknown."""

    def __init__(self, place: str = "") -> None:
        super().__init__(place)
        self.place = place


def _refuse_constant(name: str) -> NoReturn:
    # RFC 8259, 6: NaN and the infinities are no JSON numbers; Python's reader takes them unless told so.
    raise ValueError(name)


# An object becomes a tuple of (name, value) pairs, made in C; an array stays a list. An integer is read as a float,
# since Python refuses to convert one of more than 4,300 digits and nobody here asks for its value.
_DECODER = json.JSONDecoder(object_pairs_hook=tuple, parse_int=float, parse_constant=_refuse_constant)

_BOM = b"\xef\xbb\xbf"

# RFC 8259, 2.
_SPACE = " \t\n\r"

# What matters for the position of a name. Everything else (white space, colons, numbers, literals) lies between.
# The string is unrolled: `[^"\\]*` runs at the speed of memchr, where an alternation would step character by character.
# Nothing in it is tried twice (`*+`): to remember the way back costs a string of escapes six times as much, and memory.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{},]', re.DOTALL)
_COLON = re.compile(rb"[ \t\r\n]*:[ \t\r\n]*")


def parse(text: bytes) -> JsonValue:
    """Return the document in `text`: an object as a tuple of (name, value) pairs, an array as a list.

    A byte order mark is passed over, though RFC 8259 (8.1) forbids it, because real clients send it.

    Raises:
        UnreadableJsonError: `text` is not UTF-8, not JSON by RFC 8259, or nested too deeply to be read.
    """
    try:
        return _decoded(text.removeprefix(_BOM).decode())
    except json.JSONDecodeError as error:
        # Its message may quote the text.
        raise UnreadableJsonError(f"line {error.lineno}, column {error.colno}") from error
    except (ValueError, RecursionError) as error:
        raise UnreadableJsonError from error


def _decoded(text: str) -> JsonValue:
    """Return what `JSONDecoder.decode` does, which looks for white space with a regular expression on either side.

    Raises:
        JSONDecodeError: as that does.
    """
    document, end = _DECODER.raw_decode(text, len(text) - len(text.lstrip(_SPACE)))
    if end < len(text) and (rest := text[end:].lstrip(_SPACE)):
        raise json.JSONDecodeError("Extra data", text, len(text) - len(rest))
    return document


def respelt(text: bytes, names: Mapping[tuple[int, ...], str]) -> bytes:
    """Return `text` with the object names at the given positions replaced, every other byte as it was.

    A position holds the index, from 0, of the member or element at each level, as in `CaseMismatch.path`.
    `text` must be one that `parse` has read.
    """
    pieces: list[bytes] = []
    kept_from = 0
    path: list[int] = []
    in_object: list[bool] = []
    at_name = False
    for token in _TOKEN.finditer(text):
        start = token.start()
        match text[start]:
            case 0x22 if at_name:  # "
                at_name = False
                name = names.get(tuple(path))
                if name is not None:
                    pieces += (text[kept_from:start], json.dumps(name, ensure_ascii=False).encode())
                    kept_from = token.end()
            case 0x7B | 0x5B:  # { [
                at_name = token[0] == b"{"
                in_object.append(at_name)
                path.append(0)
            case 0x7D | 0x5D:  # } ]
                at_name = False
                in_object.pop()
                path.pop()
            case 0x2C:  # ,
                path[-1] += 1
                at_name = in_object[-1]
    pieces.append(text[kept_from:])
    return b"".join(pieces)


@dataclass(frozen=True, slots=True)
class Member:
    """Where one member of an object stands in a text: the first byte of its name and of its value, and their ends."""

    name: str
    name_start: int
    name_end: int
    value_start: int
    value_end: int


def members(text: bytes, start: int) -> list[Member]:
    """Return the members of the object whose brace is at `start`, in order; `text` must be JSON."""
    found: list[Member] = []
    name: re.Match[bytes] | None = None
    depth = 0
    at_name = False
    for token in _TOKEN.finditer(text, start):
        match text[token.start()]:
            case 0x22 if at_name:  # "
                name, at_name = token, False
            case 0x7B | 0x5B:  # { [
                depth += 1
                at_name = depth == 1
            case 0x7D | 0x5D | 0x2C if depth == 1:  # } ] ,
                if name is not None:
                    found.append(_member(text, name, token.start()))
                name, at_name = None, True
                if token[0] != b",":
                    break
            case 0x7D | 0x5D:  # } ]
                depth -= 1
    return found


def with_members(text: bytes, path: Sequence[str], added: Mapping[str, str]) -> bytes:
    """Return `text` with the members `added` to the object at `path`, every other byte as it was.

    The names in `path` lead from the outermost object inwards; of equal ones the last is meant, as in Python. A member
    that is there already has its value replaced, the others stand behind the last one and are spaced as that one is.
    `text` must be JSON, with an object at each step of `path`; the object itself must have a member.
    """
    start = text.index(b"{")
    for name in path:
        start = next(member.value_start for member in reversed(members(text, start)) if member.name == name)
    there = members(text, start)
    last = there[-1]
    before = text[: last.name_start]
    gap = before[len(before.rstrip(b" \t\r\n")) :]
    colon = text[last.name_end : last.value_start]
    edits: list[tuple[int, int, bytes]] = []
    for name, value in added.items():
        rendered = json.dumps(value).encode()
        known = next((member for member in reversed(there) if member.name == name), None)
        if known is None:
            edits.append((last.value_end, last.value_end, b"," + gap + json.dumps(name).encode() + colon + rendered))
        else:
            edits.append((known.value_start, known.value_end, rendered))
    pieces: list[bytes] = []
    kept_from = 0
    for begin, end, piece in sorted(edits, key=lambda edit: edit[:2]):
        pieces += (text[kept_from:begin], piece)
        kept_from = end
    return b"".join((*pieces, text[kept_from:]))


def _member(text: bytes, name: re.Match[bytes], end: int) -> Member:
    """Return the member called by the token `name`, whose value is followed by the sign at `end`."""
    value_start = _COLON.match(text, name.end()).end()  # type: ignore[union-attr] # JSON has one behind each name
    value_end = value_start + len(text[value_start:end].rstrip(b" \t\r\n"))
    return Member(json.loads(name[0]), name.start(), name.end(), value_start, value_end)


def offsets(text: bytes, pointers: Collection[str]) -> dict[str, int]:
    """Return where in `text` each of `pointers` leads to: the name of a member, or the beginning of an element.

    One that leads nowhere is answered with the last name or element on its way that is there, or with 0. `text` must
    be JSON.
    """
    found: dict[str, int] = {"": 0}
    # What is looked for, as a tree: by token, what is looked for below it and the pointer to it.
    wanted: _Wanted = {}
    for pointer in pointers:
        below = wanted
        way = ""
        for name in pointer.split("/")[1:]:
            way += "/" + name
            below = below.setdefault(name.replace("~1", "/").replace("~0", "~"), (way, {}))[1]
    levels: list[tuple[bool, _Wanted]] = []
    indices: list[int] = []
    below = wanted
    at_name = False
    for token in _TOKEN.finditer(text):
        match text[token.start()]:
            case 0x22 if at_name:  # "
                at_name = False
                around = levels[-1][1]
                below = _below(around, json.loads(token[0]), token.start(), found) if around else {}
            case 0x7B | 0x5B:  # { [
                at_name = token[0] == b"{"
                levels.append((at_name, below))
                indices.append(0)
                below = {} if at_name else _below(below, "0", token.end(), found)
            case 0x7D | 0x5D:  # } ]
                at_name = False
                levels.pop()
                indices.pop()
                below = {}
            case 0x2C:  # ,
                at_name, around = levels[-1]
                indices[-1] += 1
                below = {} if at_name else _below(around, str(indices[-1]), token.end(), found)
    return {pointer: found[_longest(pointer, found)] for pointer in pointers}


_Wanted: TypeAlias = "dict[str, tuple[str, _Wanted]]"


def _below(wanted: _Wanted, name: str, offset: int, found: dict[str, int]) -> _Wanted:
    """Return what is looked for below `name`, which stands at `offset`; enter that into `found` if it is new."""
    if name not in wanted:
        return {}
    pointer, below = wanted[name]
    found.setdefault(pointer, offset)
    return below


def _longest(pointer: str, found: Mapping[str, int]) -> str:
    """Return the longest beginning of `pointer` that was found."""
    while pointer not in found:
        pointer = pointer.rpartition("/")[0]
    return pointer


def pointer_token(name: str | int) -> str:
    """Return `name` as one reference token of a JSON Pointer, its slash before it (RFC 6901, 3)."""
    return "/" + str(name).replace("~", "~0").replace("/", "~1")
