"""Header fields: which may cross the proxy, which are replaced, and how a head and a chunk are written."""

from __future__ import annotations

import re
from itertools import chain
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from proxy.core.model import Fields

PSEUDONYM: Final = b"defender-sidecar"
"""What the proxy calls itself in `Via` and `Proxy-Status`; it hides the host's name (RFC 9110, 7.6.3)."""

# RFC 9110, 7.6.1: the fields that a proxy removes whether Connection names them or not. "Trailer" is singular: the
# plural in RFC 2616 was a slip (erratum 4522). Proxy-Authorization is meant for the next proxy, which is us (11.7.2).
HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)

# Set anew for each leg: the authority is the upstream's, the length follows from the body, and the upstream is asked
# for a `100 Continue` only where the body is not read before (RFC 9110, 10.1.1).
_NOT_OF_A_REQUEST: Final = HOP_BY_HOP | {b"host", b"content-length", b"expect"}
_NOT_OF_A_RESPONSE: Final = HOP_BY_HOP | {b"content-length"}

# What a body that the proxy rewrites may not be covered by: RFC 9110, 7.7 and RFC 9530.
_DIGESTS: Final = frozenset({b"content-digest", b"content-md5", b"digest", b"repr-digest", b"signature"})

# An exabyte less one byte: below 2 to the power of 63, and more than anybody sends.
_LENGTH_DIGITS_AT_MOST: Final = 18

# RFC 9110, 5.5: field-vchar is visible ASCII or obs-text; within a value there may be spaces and tabs.
_FORBIDDEN: Final = bytes([*range(0x09), *range(0x0A, 0x20), 0x7F])
# RFC 9110, 5.6.2.
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_NAME: Final = re.compile(_TOKEN.pattern.encode("ascii"))
_IN_TOKENS: Final = bytes(code for code in range(0x80) if _TOKEN.fullmatch(chr(code)))
_LEFT_UNESCAPED: Final = "!#$&'*+^`|"


# RFC 9110, 7.2: `Host` is host and port alone. RFC 3986, 3.2.2: an IP literal in brackets, or a registered name.
_AUTHORITY: Final = re.compile(
    rb"(?:\[(?:[0-9A-Fa-f:.]{2,45}|[vV][0-9A-Fa-f]+\.[A-Za-z0-9\-._~!$&'()*+,;=:]+)\]"
    rb"|(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2}){1,255})"
    rb"(?::[0-9]{0,5})?"
)

_JSON_TYPES: Final = frozenset({"application/json", "text/json"})

# What tells of the very bytes of a body, and is wrong of any other: RFC 9110, 8.4, 8.8 and 14; RFC 9530; RFC 9421.
_OF_ONE_BODY: Final = _DIGESTS | {
    b"accept-ranges",
    b"content-encoding",
    b"content-length",
    b"content-range",
    b"etag",
    b"last-modified",
    b"signature-input",
    b"transfer-encoding",
}


class IndexedFields(tuple[tuple[bytes, bytes], ...]):  # noqa: SLOT001 - no slot of a tuple can hold anything
    """The fields of one message, to be made once where many are looked up; a slice or a sum of it is a plain tuple.

    `by_name` holds the values of each name in lower case, in order.
    """

    by_name: dict[bytes, list[bytes]]

    def __init__(self, _fields: Fields) -> None:
        self.by_name = {name.lower(): [value] for name, value in self}
        if len(self.by_name) < len(self):
            # A name stands there twice.
            self.by_name = {}
            for name, value in self:
                self.by_name.setdefault(name.lower(), []).append(value)

    def but(self, dropped: frozenset[bytes]) -> IndexedFields:
        """Return the fields that are not called one of `dropped` (in lower case)."""
        kept = tuple.__new__(IndexedFields, [line for line in self if line[0].lower() not in dropped])
        kept.by_name = {name: listed for name, listed in self.by_name.items() if name not in dropped}
        return kept


LAST_CHUNK: Final = b"0\r\n\r\n"
"""The end of a chunked body without trailers (RFC 9112, 7.1)."""

_NONE: Final[Sequence[bytes]] = []


def values(fields: Fields, name: bytes) -> Sequence[bytes]:
    """Return the value of each field line called `name` (in lower case), in order."""
    if type(fields) is IndexedFields:
        return fields.by_name.get(name, _NONE)
    return [value for key, value in fields if key.lower() == name]


def names(fields: Fields) -> Collection[bytes]:
    """Return the names of `fields` in lower case."""
    return fields.by_name if type(fields) is IndexedFields else {name.lower() for name, _ in fields}


def size(fields: Fields) -> int:
    """Return the bytes that `fields` take as lines of a head."""
    return sum(map(len, chain.from_iterable(fields))) + 4 * len(fields)


def is_length(text: str) -> bool:
    """Whether `text` is a length in bytes that can be counted: parsers take more digits, and count on from 0 then."""
    return len(text) <= _LENGTH_DIGITS_AT_MOST and text.isascii() and text.isdigit()


def joined(fields: Fields, name: bytes) -> str:
    """Return the lines called `name` as one list (RFC 9110, 5.3), or an empty string."""
    listed = values(fields, name)
    return b", ".join(listed).decode("latin-1") if listed else ""


def max_forwards(fields: Fields) -> int | None:
    """Return how many more times a request may be forwarded; None where that is not told (RFC 9110, 7.6.2)."""
    told = values(fields, b"max-forwards")
    return int(told[0]) if told and is_length(told[0].decode("latin-1")) else None


def is_authority(value: bytes) -> bool:
    """Whether `value` is a host and, perhaps, a port, as `Host` has them."""
    return _AUTHORITY.fullmatch(value) is not None


def is_coded(fields: Fields) -> bool:
    """Whether the content is in a coding; `identity` is none (RFC 9110, 8.4.1)."""
    listed = joined(fields, b"content-encoding").lower().split(",")
    return any(name.strip(" \t") not in {"", "identity"} for name in listed)


def is_chunked_alone(fields: Fields) -> bool:
    """Whether `Transfer-Encoding`, where there is one, says `chunked` and nothing else: no other coding is known here.

    Source: RFC 9112, 6.1; whoever passes on a message in a coding that it does not name changes the content.
    """
    listed = values(fields, b"transfer-encoding")
    return not listed or (len(listed) == 1 and listed[0].strip(b" \t").lower() == b"chunked")


def end_to_end_request(fields: Fields, http_version: bytes) -> Fields:
    """Return what of a request's `fields` may cross the proxy, with our `Via` behind it.

    `http_version` is the version received, such as `1.1`. Source: RFC 9110, 7.6.1 and 7.6.3.
    """
    dropped = _dropped(fields, _NOT_OF_A_REQUEST)
    via = b"Via", http_version + b" " + PSEUDONYM
    return (*[line for line in fields if line[0].lower() not in dropped], via)


def end_to_end_response(fields: Fields) -> Fields:
    """Return what of a response's `fields` may cross the proxy, its length left out. Source: RFC 9110, 7.6.1."""
    dropped = _dropped(fields, _NOT_OF_A_RESPONSE)
    if type(fields) is IndexedFields:
        return fields.but(dropped)
    return tuple(line for line in fields if line[0].lower() not in dropped)


def _dropped(fields: Fields, dropped: frozenset[bytes]) -> frozenset[bytes]:
    """Return the names in `dropped` and those that the message has nominated itself."""
    nominated = values(fields, b"connection")
    if nominated:
        # The fields of the message's framing stay ours to set; a client cannot have `Via` removed by naming it, but
        # any field it did nominate goes.
        named_there = {token.strip() for line in nominated for token in line.lower().split(b",")}
        # Most say `keep-alive`, which is among them anyway.
        return dropped if named_there <= dropped else dropped | named_there
    return dropped


def leads_back(fields: Fields) -> bool:
    """Whether the request has passed this proxy before, by its `Via` (RFC 9110, 7.6.3)."""
    via = values(fields, b"via")
    return bool(via) and any(member.split()[1:2] == [PSEUDONYM] for line in via for member in line.split(b","))


def replaced(fields: Fields, ours: Iterable[tuple[str, str]]) -> Fields:
    """Return `fields` with each of `ours` set once, at the end, and its former lines gone."""
    set_lines = [(name.encode("ascii"), value.encode("ascii")) for name, value in ours]
    taken = {name.lower() for name, _ in set_lines}
    if taken.isdisjoint(names(fields)):
        return (*fields, *set_lines)
    return (*[line for line in fields if line[0].lower() not in taken], *set_lines)


def of_another_body(fields: Fields, media_type: bytes | None = None) -> Fields:
    """Return a response's `fields` for another body: what tells of the former one's bytes is gone.

    `media_type` is the new body's; None where it is the former one's. The length is for the sender to set.
    """
    kept = tuple(line for line in fields if line[0].lower() not in _OF_ONE_BODY)
    if media_type is None:
        return kept
    return set_in_place(kept, b"Content-Type", media_type)


def without(fields: Fields, name: bytes) -> Fields:
    """Return `fields` without the lines called `name` (in lower case)."""
    return tuple(line for line in fields if line[0].lower() != name) if name in names(fields) else fields


def set_in_place(fields: Fields, name: bytes, value: bytes) -> Fields:
    """Return `fields` with one line called `name` that holds `value`, where the first one was or at the end."""
    lines: list[tuple[bytes, bytes]] = []
    is_set = False
    for line in fields:
        if line[0].lower() != name.lower():
            lines.append(line)
        elif not is_set:
            lines.append((line[0], value))
            is_set = True
    return tuple(lines) if is_set else (*fields, (name, value))


def is_covered(fields: Fields) -> bool:
    """Whether a message's body may not be rewritten: it is signed, digested or marked `no-transform`."""
    return not _DIGESTS.isdisjoint(names(fields)) or forbids_transform(fields)


def forbids_transform(fields: Fields) -> bool:
    """Whether `Cache-Control: no-transform` forbids to change the content (RFC 9110, 7.7; RFC 9111, 5.2)."""
    told = joined(fields, b"cache-control").lower()
    return "no-transform" in told and any(token.strip() == "no-transform" for token in told.split(","))


def head(start_line: bytes, fields: Fields) -> bytes:
    """Return a message head as it goes on the wire (RFC 9112, 2.1).

    Raises:
        ValueError: a part holds a control character, CR and LF among them, and could end the head early.
    """
    text = b"\r\n".join((start_line, *map(b": ".join, fields), b"\r\n"))
    line_ends = 2 * (len(fields) + 2)
    if len(text.translate(None, _FORBIDDEN)) != len(text) - line_ends:
        raise ValueError("a control character in a message head")
    return text


def chunk(piece: bytes) -> bytes:
    """Return `piece`, which is not empty, as a chunk of a body (RFC 9112, 7.1)."""
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def received(fields: Fields) -> Fields | None:
    """Return a response's `fields` as `named` does; None, too, where a value holds a control character but tabs."""
    names = b"".join([name for name, _ in fields])
    values = b"".join([value for _, value in fields])
    if len(values.translate(None, _FORBIDDEN)) != len(values):
        return None
    # No name is empty, or the parser would have refused it; `named` tells which are none at their leisure.
    return named(fields) if names.translate(None, _IN_TOKENS) else fields


def named(fields: Fields) -> Fields | None:
    """Return a response's `fields` with the white space behind their names gone; None where one is no name.

    RFC 9112, 5.1, has a proxy remove that space. A field by which the message is framed is beyond that: the parser has
    read it as another, and so None is returned.
    """
    all_names = [name for name, _ in fields]
    if all(all_names) and not b"".join(all_names).translate(None, _IN_TOKENS):
        return fields
    stripped = tuple((name.rstrip(b" \t"), value) for name, value in fields)
    for (former, _), (name, _) in zip(fields, stripped, strict=True):
        is_framing = name.lower() in _NOT_OF_A_RESPONSE
        if not _NAME.fullmatch(name) or (name != former and is_framing):
            return None
    return stripped


def is_valid(start_line: bytes, fields: Fields) -> bool:
    """Whether a head of these parts holds no control character but tabs (RFC 9110, 5.5; RFC 9112, 4)."""
    text = b"".join((start_line, *map(b"".join, fields)))
    return len(text.translate(None, _FORBIDDEN)) == len(text)


def as_token(text: str) -> str:
    """Return `text` as an RFC 9110 token, everything that a token or the list around it cannot hold escaped (`%20`)."""
    if _TOKEN.fullmatch(text) and "%" not in text:
        return text
    return quote(text, safe=_LEFT_UNESCAPED, errors="surrogatepass")


def is_json_media_type(media_type: str) -> bool:
    """Whether `media_type`, parameters and case aside, holds JSON (RFC 8259; RFC 6839, 3.1 for `+json`)."""
    essence = media_type.partition(";")[0].strip(" \t").lower()
    return essence in _JSON_TYPES or (essence.startswith("application/") and essence.endswith("+json"))
