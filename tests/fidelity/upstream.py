"""An upstream that does as a script says and records every byte that comes, connection by connection."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from tests.fidelity.messages import read_requests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.fidelity.messages import End, Message

_READ_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Pause:
    """Do nothing for a while."""

    seconds: float


class Act(Enum):
    """What a script can do besides sending bytes and pausing."""

    ECHO = "answer with the request's target for a body"
    READ_ALL = "wait for the rest of the request"


@dataclass(frozen=True, slots=True)
class Naming:
    """Answer with `start_line`, `fields` and `content`, in which `@HOST@` stands for the `Host` of the request.

    That is how an upstream that makes absolute addresses calls itself.
    """

    start_line: bytes
    fields: tuple[bytes, ...]
    content: bytes = b""

    def for_host(self, host: bytes) -> bytes:
        content = self.content.replace(b"@HOST@", host)
        lines = (self.start_line, *self.fields, b"Content-Length: %d" % len(content), b"", b"")
        return b"\r\n".join(lines).replace(b"@HOST@", host) + content


Step: TypeAlias = bytes | Pause | Naming | Act


@dataclass(frozen=True, slots=True)
class Reply:
    """What the upstream does with one request: `steps` once it has read as much as `reads` says, `then` the rest.

    One with a `target` answers each request for that, however often it comes.
    """

    steps: tuple[Step, ...]
    reads: Literal["message", "head"] = "message"
    then: Literal["keep", "close", "reset", "stall"] = "keep"
    target: bytes | None = None


class Wire:
    """One TCP connection and all that came over it; `end` is how the other side left it."""

    def __init__(self, plug: socket.socket, on_change: Callable[[], None]) -> None:
        plug.setblocking(False)  # noqa: FBT003 - the standard library's own
        plug.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._plug = plug
        self._on_change = on_change
        self._changed = asyncio.Event()
        self.received = bytearray()
        self.end: End = "open"
        self.ended_at = 0.0
        self.pump = asyncio.create_task(self._read())

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        while self.end == "open":
            try:
                data = await loop.sock_recv(self._plug, _READ_BYTES)
            except OSError:
                self.end, self.ended_at = "reset", time.monotonic()
            else:
                self.received += data
                if not data:
                    self.end, self.ended_at = "closed", time.monotonic()
            self._changed.set()
            self._on_change()

    async def changed(self) -> None:
        """Return when something came, or ended."""
        await self._changed.wait()
        self._changed.clear()

    async def send(self, data: bytes) -> None:
        """Send `data`; a peer that has left already does not matter, as `end` tells."""
        with suppress(OSError):
            await asyncio.get_running_loop().sock_sendall(self._plug, data)

    def close(self, *, reset: bool = False) -> None:
        """Close it, now or before."""
        if self._plug.fileno() < 0:
            return
        loop = asyncio.get_running_loop()
        self.pump.cancel()
        # Before the descriptor's number can be another connection's.
        loop.remove_reader(self._plug)
        loop.remove_writer(self._plug)
        if reset:
            with suppress(OSError):
                self._plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._plug.close()


@dataclass(slots=True)
class Upstream:
    """A listening upstream: `script` answers requests in the order in which they begin, its last all that follow."""

    plug: socket.socket
    on_change: Callable[[], None] = lambda: None
    script: tuple[Reply, ...] = ()
    wires: list[Wire] = field(default_factory=list)
    _count: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @classmethod
    def listening(cls) -> Upstream:
        """Return one on a free port of the loopback address, which has to be run by `accept`."""
        plug = socket.create_server(("127.0.0.1", 0))
        plug.setblocking(False)  # noqa: FBT003 - the standard library's own
        return cls(plug)

    @property
    def port(self) -> int:
        port: int = self.plug.getsockname()[1]
        return port

    def requests(self) -> Iterator[Message]:
        """Yield what was asked, connection by connection; a request is not whole if it broke off or still comes."""
        for wire in self.wires:
            yield from read_requests(bytes(wire.received))

    async def begin(self, script: tuple[Reply, ...], on_change: Callable[[], None]) -> None:
        """Answer by `script` from now on, on new connections alone; `on_change` is called at each event."""
        await self.finish()
        self.script, self.on_change, self._count = script, on_change, 0

    async def finish(self) -> None:
        """End all connections and forget them."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for wire in self.wires:
            wire.close()
        self.on_change, self.script = lambda: None, ()
        self.wires, self._tasks = [], set()

    async def accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            plug, _ = await loop.sock_accept(self.plug)
            wire = Wire(plug, self.on_change)
            self.wires.append(wire)
            self._tasks.add(asyncio.create_task(self._serve(wire)))

    async def _serve(self, wire: Wire) -> None:
        answered = 0
        while await self._arrived(wire, answered, whole=False) and self.script:
            if not await self._answer(wire, answered):
                return
            answered += 1

    async def _answer(self, wire: Wire, answered: int) -> bool:
        """Do with the next request as the script says, and return whether another may follow on this connection."""
        reply = self._reply(self._requests(wire)[answered])
        if reply.reads == "message" and not await self._arrived(wire, answered, whole=True):
            return False
        for step in reply.steps:
            match step:
                case bytes():
                    await wire.send(step)
                case Pause(seconds):
                    await asyncio.sleep(seconds)
                case Naming():
                    await wire.send(step.for_host(b"".join(self._requests(wire)[answered].values(b"Host")[:1])))
                case Act.READ_ALL:
                    if not await self._arrived(wire, answered, whole=True):
                        return False
                case Act.ECHO:
                    target = self._requests(wire)[answered].target
                    await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(target) + target)
        if reply.then in {"close", "reset"}:
            wire.close(reset=reply.then == "reset")
        return reply.then == "keep" and await self._arrived(wire, answered, whole=True)

    def _reply(self, request: Message) -> Reply:
        for reply in self.script:
            if reply.target == request.target:
                return reply
        in_order = [reply for reply in self.script if reply.target is None]
        self._count += 1
        return in_order[min(self._count, len(in_order)) - 1]

    @staticmethod
    def _requests(wire: Wire) -> tuple[Message, ...]:
        return read_requests(bytes(wire.received))

    async def _arrived(self, wire: Wire, number: int, *, whole: bool) -> bool:
        """Wait for the head of the request of this number on `wire`, or all of it; false where the end comes first."""
        while True:
            requests = self._requests(wire)
            if len(requests) > number and (requests[number].is_whole or not whole):
                return True
            if wire.end != "open":
                return False
            await wire.changed()
