"""Bodies far larger than memory should be, both ways through the proxy as a process: what that costs it.

The two ends are blocking sockets in threads: nothing of theirs is faster or simpler, and no event loop of theirs
decides when the proxy may go on.
"""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.soak.process import ProxyProcess

PIECE: Final = bytes(range(256)) * 1024
_WITHIN_S: Final = 120.0


@dataclass(slots=True)
class Peer:
    """An upstream that takes one connection and does on it what `script` says; `sent_bytes` grows as it sends."""

    script: Callable[[Peer, socket.socket], None]
    port: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    is_stopped: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def listening(self) -> Iterator[Peer]:
        """Take connections for the length of the block; what goes wrong in the script is raised at its end."""
        faults: list[BaseException] = []

        def serve() -> None:
            try:
                plug, _ = server.accept()
                with plug:
                    plug.settimeout(_WITHIN_S)
                    self.script(self, plug)
            except BaseException as error:  # noqa: BLE001 - it is raised where somebody sees it
                faults.append(error)

        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(_WITHIN_S)
            self.port = server.getsockname()[1]
            thread = threading.Thread(target=serve, daemon=True)
            thread.start()
            try:
                yield self
            finally:
                self.is_stopped.set()
            thread.join(_WITHIN_S)
        if faults:
            raise faults[0]

    def send(self, plug: socket.socket, size: int) -> None:
        """Send `size` bytes, counting them as the kernel takes them."""
        send_pieces(plug, size, self._count)

    def _count(self, sent_bytes: int) -> None:
        self.sent_bytes += sent_bytes


@dataclass(frozen=True, slots=True)
class Figures:
    """What a stream cost: how long it took, and by how much the proxy's peak memory grew."""

    size_bytes: int
    duration_s: float
    growth_bytes: int
    received_bytes: int


def send_pieces(plug: socket.socket, size: int, count: Callable[[int], None] = lambda _: None) -> None:
    """Send `size` bytes of filler; `count` is told of each piece that the kernel has taken."""
    view = memoryview(PIECE)
    left = size
    while left:
        sent = plug.send(view[: min(left, len(PIECE))])
        count(sent)
        left -= sent


def head_of(plug: socket.socket) -> tuple[bytes, bytes]:
    """Return a message's head, and what came behind it already."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = plug.recv(65536)
        if not piece:
            raise EOFError(data)
        data += piece
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest


def receive(plug: socket.socket, size: int) -> int:
    """Read `size` bytes, or what comes until the end, and return how many came."""
    buffer = bytearray(2**18)
    received = 0
    while received < size and (count := plug.recv_into(buffer, min(len(buffer), size - received))):
        received += count
    return received


def dial(port: int) -> socket.socket:
    """Return a new connection to the proxy."""
    plug = socket.create_connection(("127.0.0.1", port), timeout=_WITHIN_S)
    plug.settimeout(_WITHIN_S)
    return plug


def downloading(size: int) -> Callable[[Peer, socket.socket], None]:
    """Return the script of an upstream that answers with `size` bytes."""

    def script(peer: Peer, plug: socket.socket) -> None:
        head_of(plug)
        plug.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        peer.send(plug, size)

    return script


def uploading(size: int) -> Callable[[Peer, socket.socket], None]:
    """Return the script of an upstream that takes `size` bytes before it answers."""

    def script(peer: Peer, plug: socket.socket) -> None:
        _, rest = head_of(plug)
        peer.received_bytes = len(rest) + receive(plug, size - len(rest))
        plug.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    return script


def down(proxy: ProxyProcess, size: int) -> Figures:
    """Fetch `size` bytes through `proxy`."""
    with _measured(proxy) as measure, dial(proxy.port) as plug:
        plug.sendall(b"GET /soak/down HTTP/1.1\r\nHost: sidecar\r\n\r\n")
        head, rest = head_of(plug)
        if not head.startswith(b"HTTP/1.1 200 "):
            raise AssertionError(head)
        return measure(size, len(rest) + receive(plug, size - len(rest)))


def up(proxy: ProxyProcess, peer: Peer, size: int) -> Figures:
    """Send `size` bytes through `proxy` to `peer`."""
    with _measured(proxy) as measure, dial(proxy.port) as plug:
        plug.sendall(b"POST /soak/up HTTP/1.1\r\nHost: sidecar\r\nContent-Length: %d\r\n\r\n" % size)
        send_pieces(plug, size)
        head, _ = head_of(plug)
        if not head.startswith(b"HTTP/1.1 204 "):
            raise AssertionError(head)
        return measure(size, peer.received_bytes)


@contextmanager
def _measured(proxy: ProxyProcess) -> Iterator[Callable[[int, int], Figures]]:
    proxy.forget_peak()
    before = proxy.peak_bytes
    began = perf_counter()
    yield lambda size, received: Figures(size, perf_counter() - began, proxy.peak_bytes - before, received)
