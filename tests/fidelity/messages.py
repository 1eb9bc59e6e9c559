"""HTTP/1.1 messages as they stood on the wire, read by rules of our own (RFC 9112), shared with no proxy under test."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

End = Literal["open", "closed", "reset"]
"""How a connection stands: the other side ended it in order (FIN), or by a reset."""

_CHUNK_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\r\n]*)?\r\n")


@dataclass(frozen=True, slots=True)
class Message:
    """A request or a response; `is_whole` is false where the connection ended, or its framing broke, within it.

    `body` is without, `framed` with the sizes of chunks. `interim` are the 1xx responses before a final one.
    """

    start_line: bytes
    fields: tuple[tuple[bytes, bytes], ...] = ()
    head: bytes = b""
    body: bytes = b""
    framed: bytes = b""
    trailers: tuple[tuple[bytes, bytes], ...] = ()
    is_whole: bool = True
    is_framed: bool = True
    interim: tuple[Message, ...] = ()

    @property
    def method(self) -> bytes:
        return self.start_line.split(b" ", 1)[0]

    @property
    def target(self) -> bytes:
        return self.start_line.partition(b" ")[2].rpartition(b" ")[0]

    @property
    def version(self) -> bytes:
        """The version of a request."""
        return self.start_line.rpartition(b" ")[2]

    @property
    def status(self) -> int:
        """The status of a response; 0 where its status line has none."""
        code = self.start_line[9:12]
        return int(code) if self.start_line[:7] == b"HTTP/1." and code.isdigit() else 0

    @property
    def reason(self) -> bytes:
        return self.start_line[13:]

    def values(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.fields if key.lower() == name.lower()]

    @property
    def brief(self) -> str:
        """The message in one line, for a report."""
        shown = ascii(self.start_line.decode("latin-1")[:60])[1:-1]
        size = f"{len(self.body)} bytes of body"
        return f"{shown} ({size}{'' if self.is_whole else ', broken off'})"


def _fields(lines: Sequence[bytes]) -> tuple[tuple[bytes, bytes], ...]:
    pairs = (line.partition(b":") for line in lines)
    return tuple((name, value.strip(b" \t")) for name, _, value in pairs)


def _chunked(data: bytes, start: int) -> tuple[bytes, tuple[tuple[bytes, bytes], ...], int, bool] | None:
    """Return the content of the chunks from `start`, the trailers, where they end, and whether the framing is right.

    None means that there is more to come.
    """
    pieces: list[bytes] = []
    position = start
    while True:
        line = _CHUNK_LINE.match(data, position)
        if line is None:
            if b"\n" not in data[position:] and len(data) - position < 64:
                return None
            return b"".join(pieces), (), position, False
        size = int(line[1], 16)
        position = line.end()
        if size == 0:
            break
        pieces.append(data[position : position + size])
        if len(data) < position + size + 2:
            return None
        if data[position + size : position + size + 2] != b"\r\n":
            return b"".join(pieces), (), position, False
        position += size + 2
    if data[position : position + 2] == b"\r\n":
        return b"".join(pieces), (), position + 2, True
    end = data.find(b"\r\n\r\n", position)
    if end < 0:
        return None
    return b"".join(pieces), _fields(data[position:end].split(b"\r\n")), end + 4, True


def _partial_content(data: bytes, start: int) -> bytes:
    pieces: list[bytes] = []
    position = start
    while (line := _CHUNK_LINE.match(data, position)) and int(line[1], 16):
        pieces.append(data[line.end() : line.end() + int(line[1], 16)])
        position = line.end() + int(line[1], 16) + 2
    return b"".join(pieces)


def read_head(data: bytes, start: int = 0) -> tuple[Message, int] | None:
    """Return the head at `start` and where it ends, or None where it is not all there."""
    end = data.find(b"\r\n\r\n", start)
    if end < 0:
        return None
    start_line, *lines = data[start:end].split(b"\r\n")
    return Message(start_line, _fields(lines), data[start : end + 4], is_whole=False), end + 4


def _framed(
    head: Message, data: bytes, start: int, *, has_content: bool, until_end: bool, end: End
) -> tuple[Message, int]:
    """Return the message of `head` whose content begins at `start` of `data`, and where it ends."""
    if not has_content:
        return replace(head, is_whole=True), start
    if b"chunked" in b",".join(head.values(b"Transfer-Encoding")).lower():
        match _chunked(data, start):
            case None:
                return replace(head, body=_partial_content(data, start), framed=data[start:]), len(data)
            case content, trailers, stop, is_right:
                stop = stop if is_right else len(data)
                return replace(
                    head,
                    body=content,
                    framed=data[start:stop],
                    trailers=trailers,
                    is_whole=is_right,
                    is_framed=is_right,
                ), stop
    lengths = head.values(b"Content-Length")
    if lengths and lengths[0].isdigit():
        stop = min(len(data), start + int(lengths[0]))
        is_whole = stop == start + int(lengths[0])
        return replace(head, body=data[start:stop], framed=data[start:stop], is_whole=is_whole), stop
    if until_end:
        # RFC 9112, 6.3: such a body is whole once the connection is closed, which a reset does not do in order.
        return replace(head, body=data[start:], framed=data[start:], is_whole=end == "closed"), len(data)
    return replace(head, is_whole=True), start


def read_requests(data: bytes) -> tuple[Message, ...]:
    """Return the requests that `data` holds; the last is perhaps not whole."""
    requests: list[Message] = []
    position = 0
    while (head := read_head(data, position)) is not None:
        request, position = _framed(head[0], data, head[1], has_content=True, until_end=False, end="open")
        requests.append(request)
        if not request.is_whole:
            break
    return tuple(requests)


def read_answers(data: bytes, methods: Sequence[str], end: End) -> tuple[tuple[Message, ...], bytes]:
    """Return the final responses to requests of `methods`, in order, and what stands behind the last of them."""
    answers: list[Message] = []
    interim: list[Message] = []
    position = stop = 0
    while len(answers) < len(methods) and (found := read_head(data, position)) is not None:
        head, start = found
        if 100 <= head.status < 200 and head.status != 101:
            interim.append(replace(head, is_whole=True))
            position = start
            continue
        has_content = methods[len(answers)] != "HEAD" and head.status not in {204, 304}
        answer, position = _framed(head, data, start, has_content=has_content, until_end=True, end=end)
        answers.append(replace(answer, interim=tuple(interim)))
        interim, stop = [], position
        if not answer.is_whole:
            break
    return tuple(answers), data[stop:]
