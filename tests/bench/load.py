"""The client of the benchmark: one thread and sockets, so that it costs next to nothing beside the proxies.

`closed` keeps a fixed number of connections busy: what comes of it are requests per second and CPU time.

`opened` sends at a fixed rate whatever the answers do. A request's time counts from the moment at which it was due,
not from when it was sent: one that waits for a connection because earlier answers are late is late itself, so that a
stall is felt by all the requests that a real client would have sent meanwhile (no coordinated omission).

Every answer is looked at. The first of a cell has to have the status and the body that are expected, all others its
status and its length; else `WrongAnswerError` ends the run.
"""

from __future__ import annotations

import re
import select
import socket
import sys
import time
from collections import deque
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

from tests.bench.workloads import DOWNLOAD_PATH, MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_CLOSES: Final = re.compile(rb"\r\nconnection: *close\r\n", re.IGNORECASE)
_LAST_CHUNK: Final = b"\r\n0\r\n\r\n"
_RECEIVED_AT_MOST: Final = 2**18
_WITHIN_S: Final = 30.0


class WrongAnswerError(Exception):
    """An answer is not what it has to be, or does not come."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What an answer has to be: its status, and its whole body or a text in that."""

    status: int
    body: bytes
    is_whole: bool = True

    def check(self, head: bytes, body: bytes) -> None:
        """Raise `WrongAnswerError` where an answer is something else."""
        status = head[9:12]
        is_right = body == self.body if self.is_whole else self.body in body
        if status != str(self.status).encode() or not is_right:
            raise WrongAnswerError(
                f"expected {self.status} {self.body[:200]!r}, got {status.decode(errors='replace')} {body[:300]!r}"
            )


class _Connection:
    """A persistent connection with one request at a time."""

    __slots__ = ("_received", "_request", "due_s", "plug", "port")

    def __init__(self, port: int, request: bytes) -> None:
        self.port = port
        self._request = request
        self._received = b""
        self.due_s = 0.0
        self.plug = self._dialled()

    def _dialled(self) -> socket.socket:
        plug = socket.create_connection(("127.0.0.1", self.port), timeout=_WITHIN_S)
        plug.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return plug

    def send(self) -> None:
        self.plug.sendall(self._request)

    def take(self) -> tuple[bytes, bytes] | None:
        """Read what is there; return head and body of the answer once it is whole, the body as it stands on the wire.

        Raises:
            WrongAnswerError: the connection ended before that.
        """
        data = self.plug.recv(_RECEIVED_AT_MOST)
        if not data:
            raise WrongAnswerError(f"port {self.port} ended a connection within an answer: {self._received[:300]!r}")
        if self._received:
            data = self._received + data
        end = data.find(b"\r\n\r\n") + 4
        if end > 3:
            length = _LENGTH.search(data, 0, end)
            if length is not None:
                is_whole = len(data) - end >= int(length[1])
            else:
                is_whole = data.endswith(_LAST_CHUNK) or data[9:12] == b"204"
            if is_whole:
                self._received = b""
                return data[:end], data[end:]
        self._received = data
        return None

    def renewed_after(self, head: bytes) -> _Connection:
        """Return the connection, dialled anew where `head` announces its end."""
        if _CLOSES.search(head):
            self.renew()
        return self

    def renew(self) -> None:
        self.plug.close()
        self.plug = self._dialled()


def _content(head: bytes, body: bytes) -> bytes:
    """Return a body without its chunks' sizes."""
    if _LENGTH.search(head):
        return body
    content = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        content += body[: int(size, 16)]
        body = body[int(size, 16) + 2 :]
    return content


class _Checker:
    """Looks at every answer of one cell: the first whole, the others for status and length."""

    def __init__(self, expected: Expected) -> None:
        self._expected = expected
        self._length: int | None = None
        self._status = b" %d " % expected.status

    def __call__(self, head: bytes, body: bytes) -> None:
        if self._length is None or not _LENGTH.search(head):
            body = _content(head, body)
        if self._length is None:
            self._expected.check(head, body)
            self._length = len(body)
        elif len(body) != self._length or not head.startswith(self._status, 8):
            raise WrongAnswerError(f"expected {self._length} bytes like before, got {head!r} {body[:300]!r}")


@dataclass(frozen=True, slots=True)
class Closed:
    """What came of a closed loop."""

    requests: int
    wall_s: float


class _Busy:
    """Persistent connections that are waited for together."""

    def __init__(self, port: int, request: bytes, count: int) -> None:
        self._poll = select.epoll()
        self.connections: dict[int, _Connection] = {}
        self._port = port
        for _ in range(count):
            self._add(_Connection(port, request))

    def _add(self, one: _Connection) -> None:
        self.connections[one.plug.fileno()] = one
        self._poll.register(one.plug, select.EPOLLIN)

    def answered(self) -> Iterator[tuple[_Connection, bytes, bytes]]:
        """Wait for whole answers, and return each with its connection, ready for the next request."""
        ready = self._poll.poll(_WITHIN_S)
        if not ready:
            raise WrongAnswerError(f"port {self._port} has not answered for {_WITHIN_S:.0f} s")
        for number, _ in ready:
            one = self.connections[number]
            if (answer := one.take()) is None:
                continue
            if _CLOSES.search(answer[0]):
                del self.connections[number]
                self._poll.unregister(number)
                one.renew()
                self._add(one)
            yield one, *answer

    def close(self) -> None:
        self._poll.close()
        for one in self.connections.values():
            one.plug.close()


def closed(
    port: int, request: bytes, expected: Expected, *, connections: int, stop_after_s: float, requests: int | None = None
) -> Closed:
    """Send the next request on each connection as soon as the last is answered; until time or `requests` are over."""
    check = _Checker(expected)
    with closing(_Busy(port, request, connections)) as busy:
        began = time.perf_counter()
        end = began + stop_after_s
        limit = requests or sys.maxsize
        sent = answered = 0
        for one in islice(busy.connections.values(), limit):
            one.send()
            sent += 1
        while answered < sent:
            goes_on = time.perf_counter() < end
            for one, head, body in busy.answered():
                check(head, body)
                answered += 1
                if goes_on and sent < limit:
                    one.send()
                    sent += 1
        return Closed(answered, time.perf_counter() - began)


def opened(
    port: int, request: bytes, expected: Expected, *, connections: int, rate_per_s: float, count: int
) -> list[float]:
    """Send `count` requests, `rate_per_s` of them a second; return how long after it was due each was answered."""
    check = _Checker(expected)
    idle = deque(_Connection(port, request) for _ in range(connections))
    busy: dict[socket.socket, _Connection] = {}
    took_s: list[float] = []
    try:
        _warm(idle, check)
        began = time.perf_counter() + 0.01
        sent = 0
        while len(took_s) < count:
            wait_s = _WITHIN_S
            if sent < count and idle:
                due = began + sent / rate_per_s
                wait_s = due - time.perf_counter()
                if wait_s <= 0:
                    one = idle.popleft()
                    one.due_s = due
                    one.send()
                    busy[one.plug] = one
                    sent += 1
                    continue
            # Not epoll, which counts in milliseconds.
            ready, _, _ = select.select(list(busy), (), (), wait_s)
            if not ready and wait_s == _WITHIN_S:
                raise WrongAnswerError(f"port {port} has not answered for {_WITHIN_S:.0f} s")
            for plug in ready:
                one = busy[plug]
                if (answer := one.take()) is not None:
                    took_s.append(time.perf_counter() - one.due_s)
                    check(*answer)
                    del busy[plug]
                    idle.append(one.renewed_after(answer[0]))
        return took_s
    finally:
        for one in (*idle, *busy.values()):
            one.plug.close()


def _warm(connections: Iterable[_Connection], check: _Checker) -> None:
    """Use all connections, and with them the proxy's to its upstream, before any time is taken."""
    for one in connections:
        one.send()
    for one in connections:
        while (answer := one.take()) is None:
            pass
        check(*answer)


def downloaded(port: int, size: int, sample: Callable[[], None]) -> float:
    """Fetch `size` bytes and return how long that took; `sample` is called a few times on the way."""
    buffer = bytearray(MIB)
    with socket.create_connection(("127.0.0.1", port), timeout=_WITHIN_S) as plug:
        began = time.perf_counter()
        plug.sendall(f"GET {DOWNLOAD_PATH}{size} HTTP/1.1\r\nHost: sidecar.example\r\n\r\n".encode())
        head = b""
        while (end := head.find(b"\r\n\r\n") + 4) == 3:
            piece = plug.recv(65536)
            if not piece:
                raise WrongAnswerError(f"port {port} ended the head of a download: {head!r}")
            head += piece
        length = _LENGTH.search(head, 0, end)
        if not head.startswith(b"HTTP/1.1 200 ") or length is None or int(length[1]) != size:
            raise WrongAnswerError(f"expected a download of {size} bytes, got {head[:300]!r}")
        received = len(head) - end
        sample_at = size // 4
        while received < size:
            count = plug.recv_into(buffer)
            if not count:
                raise WrongAnswerError(f"port {port} ended a download after {received} of {size} bytes")
            received += count
            if received >= sample_at:
                sample()
                sample_at += size // 4
        return time.perf_counter() - began


def is_answered(port: int, path: str, within_s: float) -> bool:
    """Return whether a GET of `path` is answered with 200 at once."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=within_s) as plug:
            plug.sendall(f"GET {path} HTTP/1.1\r\nHost: sidecar.example\r\nAuthorization: Bearer x\r\n\r\n".encode())
            return plug.recv(4096).startswith(b"HTTP/1.1 200 ")
    except OSError:
        return False
