"""Absolute URLs of the upstream turned to the proxy's own address, lest they lead clients past it, token and all.

What is turned: the fields that a client follows, and the link to the next page in a JSON body. A URL is the upstream's
when its origin is (RFC 6454, 4); the rest of it stays byte for byte.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from proxy.core import headers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from proxy.core.model import Fields

_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}

# Location, of any status: RFC 9110, 10.2.2. Content-Location, by which a client may go on with what it has read: 8.7.
# Operation-Location and Azure-AsyncOperation are polled, with the token, until a long-running operation is over:
# Microsoft's Azure REST API guidelines and Azure Resource Manager's "Track asynchronous Azure operations".
_LOCATIONS: Final = frozenset({b"location", b"content-location", b"operation-location", b"azure-asyncoperation"})

# RFC 9112, 3.2.2.
_ABSOLUTE_FORM: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+.\-]*://([^/?#]*)")

# What has a body that is all there is of a representation; 204 and 205 have none, 206 has a part.
_FIRST_SUCCESS: Final = 200
_FIRST_REDIRECTION: Final = 300
_BODILESS_OR_PARTIAL: Final = frozenset({204, 205, 206})

_CODINGS: Final = {"": "", "identity": "", "gzip": "gzip", "x-gzip": "gzip", "deflate": "deflate"}

# OData JSON 4.01, "Control Information: nextLink": `@odata.nextLink` and, behind a property's name, the same of an
# expanded collection; `odata.` may be left out. `odata.nextLink` is version 3's, and a bare `nextLink` that of the
# Azure REST API guidelines.
_NAME_END: Final = b'nextLink"'
_ANNOTATIONS: Final = (b"@", b"@odata.")
_WHOLE_NAMES: Final = (b'"', b'"odata.')
_WITHIN_NAMES: Final = (b'\\"', b'\\"odata.')
_KEPT_BYTES: Final = len(b'\\"odata.' + _NAME_END) - 1

# RFC 8259, 2.
_SPACE: Final = re.compile(rb"[ \t\n\r]*")


@dataclass(frozen=True, slots=True)
class Origin:
    """An origin, as it can be written at the beginning of a URL.

    `in_field` and `in_json` match it there, its last character being the last of the authority; JSON may escape a
    slash (RFC 8259, 7). No match of `in_json`, with the byte behind it, is longer than `longest_bytes`.
    """

    in_field: re.Pattern[bytes]
    in_json: re.Pattern[bytes]
    longest_bytes: int


def origin_of(url: str) -> Origin:
    """Return the origin that `url`, `scheme://host[:port]`, consists of.

    Scheme and host compare without regard to case, and a default port equals none and an empty one (RFC 3986, 6.2.3).
    A network-path reference (`//host`, RFC 3986, 4.2) has the scheme that the upstream was asked by.
    """
    scheme, _, authority = url.partition("://")
    host, port = authority, ""
    if (written := re.search(r":([0-9]+)\Z", authority)) is not None:
        host, port = authority[: written.start()], written[1]
    default = _DEFAULT_PORTS[scheme]
    suffix = rf":{port}" if port not in {"", default} else rf"(?::(?:{default})?)?"
    name = rf"(?i:{re.escape(host)}){suffix}"
    return Origin(
        re.compile(rf"(?i:{scheme}:)?//{name}(?=[/?#]|\Z)".encode("ascii")),
        re.compile(rf'(?i:{scheme}:)?(\\?/\\?/){name}(?=[/?#"]|\\/)'.encode("ascii")),
        len(rf"{scheme}:\/\/{host}:{port or default}\/"),
    )


def own_authority(target: bytes, hosts: Iterable[bytes]) -> bytes | None:
    """Return the authority by which a client knows the proxy; None where it names none, or something else.

    `target` is the request's target as received, `hosts` the values of its `Host` fields. In absolute-form the target's
    own authority is what counts (RFC 9112, 3.2.2).
    """
    absolute = _ABSOLUTE_FORM.match(target)
    named: list[bytes] = [*hosts] if absolute is None else [absolute[1], *hosts]
    return next((authority for authority in named if headers.is_authority(authority)), None)


def authority_at(address: object) -> bytes | None:
    """Return the authority of a socket's `address`; None where it is none of TCP."""
    match address:
        case (str(host), int(port), *_):
            name = f"[{host.partition('%')[0]}]" if ":" in host else host
            return f"{name}:{port}".encode("ascii")
    return None


def names_location(fields: Fields) -> bool:
    """Whether any of `fields` may hold a URL that a client follows."""
    return not _LOCATIONS.isdisjoint(headers.names(fields))


def relocated(fields: Fields, origin: Origin, own: bytes) -> Fields:
    """Return `fields` with those that a client follows turned from `origin` to `own`, such as `http://127.0.0.1:80`."""
    return tuple(
        (name, own + value[found.end() :])
        if name.lower() in _LOCATIONS and (found := origin.in_field.match(value)) is not None
        else (name, value)
        for name, value in fields
    )


def coding_of_page(status: int, fields: Fields) -> str | None:
    """Return the content coding of a body in which links may be rewritten: `gzip`, `deflate` or none (""); else None.

    That is JSON, whole, neither digested, signed nor marked `no-transform` (RFC 9110, 7.7), and in no other coding.
    """
    if not _FIRST_SUCCESS <= status < _FIRST_REDIRECTION or status in _BODILESS_OR_PARTIAL:
        return None
    if not headers.is_json_media_type(headers.joined(fields, b"content-type")):
        return None
    if headers.is_covered(fields) or headers.values(fields, b"content-range"):
        return None
    return _CODINGS.get(headers.joined(fields, b"content-encoding").strip(" \t").lower())


class _State(IntEnum):
    """Where in the text the rewriter is."""

    ANYWHERE = 0
    BEHIND_NAME = 1
    BEHIND_COLON = 2
    IN_VALUE = 3


# What has to come next behind a name, white space aside.
_EXPECTED: Final = {_State.BEHIND_NAME: (b":", _State.BEHIND_COLON), _State.BEHIND_COLON: (b'"', _State.IN_VALUE)}


class LinkRewriter:
    """Turns the links to next pages in JSON text, which comes in pieces, from one origin to another.

    It does not parse. In JSON a quote within a string is escaped, so that `nextLink"`, white space and a colon can only
    be the end of a member's name, and a quote behind these the beginning of its value (RFC 8259, 4 and 7). Text without
    such a link comes out byte for byte, whatever it is, and how it is cut into pieces makes no difference. Held back is
    what may be the beginning of the origin in such a value: less than `Origin.longest_bytes`.
    """

    def __init__(self, origin: Origin, own: bytes) -> None:
        """Turn `origin` to `own`, such as `http://127.0.0.1:8080`."""
        scheme, _, self._authority = own.partition(b"//")
        self._scheme = scheme
        self._origin = origin
        self._state = _State.ANYWHERE
        # The last of what came before: in a value it is held back, elsewhere it is out and only looked at again.
        self._carry = b""
        self.has_changed = False
        """Whether any link was turned so far."""

    def feed(self, piece: bytes) -> bytes:
        """Return what can go out now that `piece` is here."""
        data = self._carry + piece
        carried = len(self._carry)
        done = 0 if self._state is _State.IN_VALUE else carried
        place = max(0, carried - len(_NAME_END) + 1) if self._state is _State.ANYWHERE else 0
        begin = 0
        out: list[bytes] = []
        while place < len(data):
            match self._state:
                case _State.ANYWHERE:
                    place = self._sought(data, begin, place)
                case _State.IN_VALUE if not self._is_decidable(data, place):
                    break
                case _State.IN_VALUE:
                    if (link := self._origin.in_json.match(data, place)) is not None:
                        out += (data[done:place], self._scheme, link[1], self._authority)
                        done = place = link.end()
                        self.has_changed = True
                    begin, self._state = place, _State.ANYWHERE
                case _:
                    begin = place = self._behind(data, place)
        held = place if self._state is _State.IN_VALUE else len(data)
        seen = max(begin, len(data) - _KEPT_BYTES) if self._state is _State.ANYWHERE else held
        self._carry = data[seen:]
        if not out and done == carried and held == len(data):
            # All of it, as nearly always.
            return piece
        return b"".join((*out, data[done:held]))

    def end(self) -> bytes:
        """Return what was held back: the text ends within a value, and is no JSON."""
        held, self._carry = (self._carry if self._state is _State.IN_VALUE else b""), b""
        return held

    def _sought(self, data: bytes, begin: int, place: int) -> int:
        """Return the place behind the next name that may be a link's, or the end; `begin` is where the text begins."""
        found = data.find(_NAME_END, place)
        if found < 0:
            return len(data)
        if _ends_name(data, begin, found):
            self._state = _State.BEHIND_NAME
        return found + len(_NAME_END)

    def _behind(self, data: bytes, place: int) -> int:
        """Return the place behind white space and the character that is expected there, if it comes."""
        expected, state = _EXPECTED[self._state]
        place += _space_at(data, place)
        if place == len(data):
            return place
        if data.startswith(expected, place):
            self._state = state
            return place + 1
        self._state = _State.ANYWHERE
        return place

    def _is_decidable(self, data: bytes, place: int) -> bool:
        """Whether what follows in the value that begins at `place` cannot change whether it begins with the origin."""
        end = place + self._origin.longest_bytes
        return len(data) >= end or data.find(b'"', place, end) >= 0


def _space_at(data: bytes, place: int) -> int:
    """Return how many bytes of white space stand at `place`."""
    space = _SPACE.match(data, place)
    return 0 if space is None else space.end() - place


def _ends_name(data: bytes, begin: int, end: int) -> bool:
    """Whether `nextLink`, which stands at `end`, is with what stands before it, from `begin` on, a link's name."""
    return data.endswith(_ANNOTATIONS, begin, end) or (
        data.endswith(_WHOLE_NAMES, begin, end) and not data.endswith(_WITHIN_NAMES, begin, end)
    )
