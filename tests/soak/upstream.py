"""The upstream of a chaos run: it does to each request what its plan says, and keeps a record of all that it did."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import select
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import sleep, time
from typing import TYPE_CHECKING, Final

from tests.conftest import Message, Wire, dialled
from tests.soak.plans import PATH_MARK

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from tests.soak.plans import Request

_MARK: Final = re.compile(rb"/%b(\d+)" % PATH_MARK.encode())
_READ_LIMIT_BYTES: Final = 2**22
_ROWS: Final = b"x" * 150_000

SEQUENCE: Final = "X-Soak-Sequence"

HELD_S: Final = 30.0
"""How long the upstream would stay silent: longer than any timeout of the proxy's, which is to end it."""


# How long a request may be under way from the proxy's look at its connection until the bytes of it are here.
_CROSSING_S: Final = 0.001


@dataclass(slots=True)
class Arrival:
    """A request as it reached the upstream, and what became of it there.

    `deed` is what was done: `answered`, or the way in which it was not; `unfinished` while the request is not whole.
    `status` is that of a head that was sent; `answer` is the body that was meant to be sent.
    """

    method: str
    target: str
    request_id: str
    deed: str = "unfinished"
    status: int | None = None
    answer: bytes = b""
    body_bytes: int = 0
    sha256: str = ""
    is_complete: bool = False


@dataclass(slots=True)
class Upstream:
    """A raw upstream; `arrivals` are by sequence number, `strays` are heads that belong to no request of the run."""

    requests: Mapping[int, Request]
    simulator_port: int
    port: int = 0
    arrivals: dict[int, list[Arrival]] = field(default_factory=dict)
    strays: list[bytes] = field(default_factory=list)
    refusing: list[tuple[float, float]] = field(default_factory=list)
    faults: list[BaseException] = field(default_factory=list)
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Take requests for the length of the block."""
        await self._listen()
        try:
            yield
        finally:
            if self._server is not None:
                self._server.close()
            await self.closed()

    async def refuse_now_and_then(self, every_s: float = 0.7, for_s: float = 0.05) -> None:
        """Stop listening again and again, until cancelled; what is connected stays so."""
        while True:
            await asyncio.sleep(every_s)
            began = time()
            if self._server is not None:
                self._server.close()
            try:
                await asyncio.sleep(for_s)
            finally:
                await self._listen()
                self.refusing.append((began, time()))

    async def closed(self) -> None:
        """Close all connections; new ones are taken."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(
            self._accept, "127.0.0.1", self.port, limit=_READ_LIMIT_BYTES, backlog=512
        )
        self.port = self._server.sockets[0].getsockname()[1]

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = Wire(reader, writer)
        wire.within_s = HELD_S * 4
        task = asyncio.create_task(self._serve(wire))
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.faults.append(error)

    async def _serve(self, wire: Wire) -> None:
        try:
            while await self._exchange(wire):
                pass
        except (EOFError, OSError):
            pass  # the proxy has closed the connection, which is its right at any time
        finally:
            wire.writer.close()

    async def _exchange(self, wire: Wire) -> bool:
        """Take one request and return whether the connection goes on."""
        head = await wire.head()
        mark = _MARK.search(head.target)
        if mark is None or int(mark[1]) not in self.requests:
            self.strays.append(head.start_line)
            return False
        request = self.requests[int(mark[1])]
        ids = head.values("X-Request-Id")
        arrival = Arrival(head.start_line.split(b" ")[0].decode(), head.target.decode(), ids[0] if ids else "")
        attempts = self.arrivals.setdefault(request.sequence, [])
        attempts.append(arrival)
        plan = request.upstream
        if plan.startswith("early"):
            arrival.deed = "answered early" if plan == "early" else "answered early and closed"
            await wire.send(_whole(arrival, request, 200))
            if plan != "early":
                return False
        body = await _body(wire, head, arrival)
        if plan == "early":
            return True
        if plan == "flaky":
            plan = "reset before the head" if len(attempts) == 1 else "answer"
        if plan == "simulator":
            await self._ask_simulator(wire, head, body, arrival, request)
            return True
        return await self._act(wire, arrival, request, plan)

    async def _ask_simulator(self, wire: Wire, head: Message, body: bytes, arrival: Arrival, request: Request) -> None:
        """Pass the request on to the simulator, and its answer back with the sequence number added."""
        simulator = await dialled(self.simulator_port)
        try:
            lines = [name + b": " + value for name, value in head.fields if name.lower() != b"transfer-encoding"]
            if body and "Content-Length" not in head:
                lines.append(b"Content-Length: %d" % len(body))
            await simulator.send(b"\r\n".join((head.start_line, *lines, b"", body)))
            answer = await simulator.message(arrival.method)
        finally:
            await simulator.close()
        arrival.deed, arrival.status, arrival.answer = "answered", answer.status, answer.body
        kept = [
            name + b": " + value
            for name, value in answer.fields
            if name.lower() not in {b"content-length", b"transfer-encoding", b"connection"}
        ]
        mark = b"%b: %d" % (SEQUENCE.encode(), request.sequence)
        length = b"Content-Length: %d" % len(answer.body)
        await wire.send(b"\r\n".join((answer.start_line, *kept, mark, length, b"", answer.body)))

    async def _act(self, wire: Wire, arrival: Arrival, request: Request, plan: str) -> bool:  # noqa: C901, PLR0911, PLR0912, PLR0915 - a table of deeds, one a case
        """Do what `plan` says about a request that is here whole, and return whether the connection goes on."""
        arrival.deed = "answered"
        is_head = arrival.method == "HEAD"
        match plan:
            case "answer in chunks":
                await wire.send(_whole(arrival, request, 200, "chunks"))
                return True
            case "answer to the end":
                await wire.send(_whole(arrival, request, 200, "end"))
                return False
            case "answer slowly":
                answer = _whole(arrival, request, 200, "chunks", b"y" * 600)
                for at in range(0, len(answer), 200):
                    await wire.send(answer[at : at + 200])
                    await asyncio.sleep(0.002)
                return True
            case "answer at length":
                await wire.send(_whole(arrival, request, 200, "length", _ROWS))
                return True
            case "answer after interim ones":
                hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
                await wire.send(hints + _whole(arrival, request, 200))
                return True
            case "no content":
                arrival.status = 204
                await wire.send(b"HTTP/1.1 204 Nothing\r\n%b: %d\r\n\r\n" % (SEQUENCE.encode(), request.sequence))
                return True
            case "envelope":
                await wire.send(_error(arrival, request, 400 + request.sequence % 5))
                return True
            case "page":
                await wire.send(_page(arrival, request))
                return True
            case "reset before the head":
                arrival.deed = "cut before the head"
                wire.reset()
                return False
            case "close before the head":
                arrival.deed = "cut before the head"
                return False
            case "reset in the head":
                arrival.deed = "cut in the head"
                await wire.send(b"HTTP/1.1 200 OK\r\nContent-Len")
                wire.reset()
                return False
            case "reset in the body" | "close in the body" | "close in a chunk" | "close in an error":
                answer = (
                    _error(arrival, request, 500)
                    if plan == "close in an error"
                    else _whole(arrival, request, 200, "chunks" if plan == "close in a chunk" else "length", b"z" * 500)
                )
                arrival.deed = "answered" if is_head else "cut in the body"
                # A response to HEAD has no body to be cut.
                await wire.send(answer if is_head else answer[:-20])
                if plan == "reset in the body" and not is_head:
                    await asyncio.sleep(0.02)
                    wire.reset()
                return False
            case "garbage":
                arrival.deed = "garbage"
                await wire.send(b"\x15\x03\x01\x00\x02\x02\x50 soaked\r\n\r\n")
                return False
            case "garbage in chunks":
                answer = _whole(arrival, request, 200, "chunks")
                arrival.deed = "answered" if is_head else "garbage in chunks"
                await wire.send(answer if is_head else answer[:-5] + b"zz\r\n")
                await asyncio.sleep(0.05)
                return False
            case "answer twice":
                arrival.deed = "answered twice"
                await wire.send(_whole(arrival, request, 200) + _stray(request))
                await asyncio.sleep(0.05)
                return False
            case "answer, then stray bytes":
                await wire.send(_whole(arrival, request, 200))
                await asyncio.sleep(request.pause_s)
                if _has_input(wire):
                    return True  # the next request is under way: to it, stray bytes would be the answer
                arrival.deed = "answered twice"
                wire.writer.write(_stray(request))
                sleep(_CROSSING_S)  # noqa: ASYNC251 - nothing else may happen before the next look
                if _has_input(wire):
                    await self._cross(wire)
                await asyncio.sleep(0.05)
                return False
            case "answer, then close" | "answer, then reset":
                await wire.send(_whole(arrival, request, 200))
                await asyncio.sleep(request.pause_s)
                if plan == "answer, then reset":
                    if _has_input(wire):
                        return True
                    wire.reset()
                return False
            case "stall before the head":
                arrival.deed = "silent"
                await asyncio.sleep(HELD_S)
                return False
            case "stall in the body":
                answer = _whole(arrival, request, 200, "length", b"z" * 500)
                arrival.deed = "answered" if is_head else "stalled in the body"
                await wire.send(answer if is_head else answer[:-20])
                if is_head:
                    return True
                await asyncio.sleep(HELD_S)
                return False
        await wire.send(_whole(arrival, request, 200))
        return True

    async def _cross(self, wire: Wire) -> None:
        """Note the request that was sent while stray bytes were on their way to it."""
        head = await wire.head()
        mark = _MARK.search(head.target)
        if mark is not None:
            method, target = (part.decode() for part in head.start_line.split(b" ")[:2])
            crossed = Arrival(method, target, head["X-Request-Id"], "crossed")
            self.arrivals.setdefault(int(mark[1]), []).append(crossed)


async def _body(wire: Wire, head: Message, arrival: Arrival) -> bytes:
    """Read the request's body and enter it into `arrival`; it raises EOFError where it is not whole."""
    pieces: list[bytes] = []
    digest = hashlib.sha256()
    try:
        if head.values("Transfer-Encoding"):
            size = -1
            while size:
                size = int(await wire.reader.readuntil(b"\r\n"), 16)
                pieces.append((await wire.reader.readexactly(size + 2))[:-2])
        elif lengths := head.values("Content-Length"):
            pieces.append(await wire.reader.readexactly(int(lengths[0])))
    except asyncio.IncompleteReadError as error:
        raise EOFError from error
    body = b"".join(pieces)
    digest.update(body)
    arrival.body_bytes, arrival.sha256, arrival.is_complete = len(body), digest.hexdigest(), True
    return body


def _whole(arrival: Arrival, request: Request, status: int, kind: str = "length", filler: bytes = b"") -> bytes:
    """Return a whole answer, framed by its `length`, in `chunks` or by the `end`, and enter it into `arrival`."""
    arrival.status = status
    arrival.answer = b'{"sequence": %d, "rows": "%b"}' % (request.sequence, filler)
    return _framed(arrival, request, kind, b"application/json")


def _framed(arrival: Arrival, request: Request, kind: str, media_type: bytes) -> bytes:
    body = b"" if arrival.method == "HEAD" else arrival.answer
    lines = [
        b"HTTP/1.1 %d Soaked" % (arrival.status or 0),
        b"Content-Type: " + media_type,
        b"%b: %d" % (SEQUENCE.encode(), request.sequence),
    ]
    match kind:
        case "length":
            lines.append(b"Content-Length: %d" % len(arrival.answer))
        case "chunks":
            lines.append(b"Transfer-Encoding: chunked")
            half = len(body) // 2
            body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (body[:half], body[half:]) if piece)
            body += b"0\r\n\r\n" if arrival.method != "HEAD" else b""
        case _:
            lines.append(b"Connection: close")
    return b"\r\n".join((*lines, b"", body))


def _error(arrival: Arrival, request: Request, status: int) -> bytes:
    """Return an error that is the envelope already, so that not a byte of it may change."""
    arrival.status = status
    error = {"code": "ActiveRequestAlreadyExists", "message": f"sequence {request.sequence}", "target": "|1a2b-3c4d."}
    arrival.answer = json.dumps({"error": error}).encode()
    return _framed(arrival, request, "length", b"application/json")


def _page(arrival: Arrival, request: Request) -> bytes:
    arrival.status = 503
    arrival.answer = b"<html><title>sequence %d</title><p>Gone for lunch</p></html>" % request.sequence
    return _framed(arrival, request, "length", b"text/html")


def _stray(request: Request) -> bytes:
    """Return an answer that nobody asked for."""
    return b"HTTP/1.1 200 Stray\r\n%b: -1\r\nContent-Length: 5\r\n\r\n%05d" % (SEQUENCE.encode(), request.sequence)


def _has_input(wire: Wire) -> bool:
    """Whether something is here that was not read yet."""
    plug = wire.writer.get_extra_info("socket")
    if wire.reader._buffer or plug.fileno() < 0:  # type: ignore[attr-defined] # noqa: SLF001 - told nowhere else
        return True
    poll = select.poll()
    poll.register(plug.fileno(), select.POLLIN)
    return bool(poll.poll(0))
