"""The clients of a chaos run: each sends its requests as their plans say, and keeps a record of what it saw."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, replace
from time import time
from typing import TYPE_CHECKING, Final

from tests.conftest import Message, Wire, dialled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.soak.plans import Request

ANSWERED_WITHIN_S: Final = 60.0
"""Every request gets an answer or an end sooner than that, however busy the machine."""

_BROKEN_CHUNK: Final = b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n"
_MALFORMED: Final = (
    b"Content-Length: 1\r\nContent-Length: 2",
    b"Content-Length: 1\r\nTransfer-Encoding: chunked",
    b"Content-Length: +1",
    b"Name : value",
    b"Name: a\x00b",
    _BROKEN_CHUNK,
)


@dataclass(frozen=True, slots=True)
class View:
    """What a client saw of one request: the whole of what it sent is out, and what came back, if anything did.

    `hung` is set where neither an answer nor an end came in time, `crossed` is what came behind the last answer of a
    connection, `behind` the sequence number of the request before it on the same connection, `ended_at` the time.
    """

    request: Request
    answer: Message | None = None
    hung: bool = False
    crossed: bytes = b""
    behind: int | None = None
    ended_at: float = 0.0


class Client:
    """Sends one request after the other, on one connection for as long as that lasts."""

    def __init__(self, port: int, requests: Iterator[Request], views: dict[int, View]) -> None:
        self._port = port
        self._requests = requests
        self._views = views
        self._wire: Wire | None = None
        self._former: int | None = None

    async def run(self, deadline: float | None = None) -> None:
        """Send what is left of the requests, or until `deadline` on the event loop's clock."""
        loop = asyncio.get_running_loop()
        try:
            while deadline is None or loop.time() < deadline:
                request = next(self._requests, None)
                if request is None:
                    return
                behind = self._former if self._wire is not None else None
                self._views[request.sequence] = replace(await self._view(request), behind=behind, ended_at=time())
                self._former = request.sequence
        finally:
            await self._drop()

    async def _view(self, request: Request) -> View:
        if self._wire is None:
            self._wire = await dialled(self._port)
            self._wire.within_s = ANSWERED_WITHIN_S
        wire = self._wire
        try:
            answer = await self._send(wire, request)
        except TimeoutError:
            await self._drop()
            return View(request, hung=True)
        except (EOFError, OSError):
            await self._drop()
            return View(request)
        if answer is None or not answer.is_whole or "close" in answer.values("Connection"):
            crossed = b""
            if answer is not None and answer.is_whole:
                # Behind the last answer there is nothing.
                crossed = await wire.rest() if self._wire is wire else b""
            await self._drop()
            return View(request, answer, crossed=crossed)
        return View(request, answer)

    async def _drop(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            await wire.close()

    async def _send(self, wire: Wire, request: Request) -> Message | None:  # noqa: C901 - a table of what clients do
        """Do as the plan says and return the answer, None where the client leaves without one."""
        data = _wire_form(request)
        head_bytes = data.index(b"\r\n\r\n") + 4
        match request.client:
            case "leaves" | "resets":
                await wire.send(data)
                await asyncio.sleep(request.pause_s)
                if request.client == "resets":
                    wire.reset()
                return None
            case "half a body" | "half a head":
                at = head_bytes // 2 if request.client == "half a head" else head_bytes + len(request.body) // 2
                await wire.send(data[:at])
                await asyncio.sleep(request.pause_s)
                if request.resets:
                    wire.reset()
                return None
            case "leaves within the response":
                await wire.send(data)
                await wire.head()
                if request.resets:
                    wire.reset()
                return None
            case "stops":
                await wire.send(data[: head_bytes + len(request.body) // 2])
                answer = await _answer(wire, request.route.method)
                # Whatever came next on this connection would be the other half.
                await self._drop()
                return answer
            case "slow":
                step = len(data) // 4 + 1
                for at in range(0, len(data), step):
                    await wire.send(data[at : at + step])
                    await asyncio.sleep(0.003)
            case "slow reader":
                await wire.send(data)
                await asyncio.sleep(0.02)
            case _ if len(data) > head_bytes + 60_000:
                return await self._read_while_sending(wire, request, data)
            case _:
                await wire.send(data)
        # Of a request whose head is not well-formed nobody knows whether it is a HEAD.
        is_known = request.client != "malformed" or _malformed(request) is _BROKEN_CHUNK
        return await _answer(wire, request.route.method if is_known else "GET")

    async def _read_while_sending(self, wire: Wire, request: Request, data: bytes) -> Message | None:
        """Read the answer while the body is going out: it may come before all of that is taken."""
        sending = asyncio.create_task(wire.send(data))
        try:
            answer = await _answer(wire, request.route.method)
        finally:
            was_sent = sending.done()
            sending.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError, TimeoutError):
                await sending
        if not was_sent:
            # What was not sent would be taken for the next request.
            await self._drop()
        return answer


async def _answer(wire: Wire, method: str) -> Message:
    """Return the final response; interim ones may come before it."""
    while True:
        message = await wire.message(method)
        if message.status >= 200:
            return message


def _malformed(request: Request) -> bytes:
    """Return the line that makes `request` malformed."""
    return _MALFORMED[request.sequence % len(_MALFORMED)]


def _wire_form(request: Request) -> bytes:
    """Return the request as it stands on the wire, its malformed line included where it is to have one."""
    lines = [
        f"{request.route.method} {request.target} HTTP/1.1".encode(),
        b"Host: sidecar",
        b"Authorization: Bearer soaked-in-secrets",
        f"X-Request-Id: {request.request_id}".encode(),
    ]
    if request.directive:
        lines.append(f"X-Simulate: {request.directive}".encode())
    if request.client == "malformed":
        lines.append(_malformed(request))
        return b"\r\n".join((*lines, b"", b""))
    body = request.body
    if body or request.route.takes_body:
        lines.append(f"Content-Type: {request.content_type}".encode())
    if request.is_chunked:
        lines.append(b"Transfer-Encoding: chunked")
        third = len(body) // 3 + 1
        pieces = [body[at : at + third] for at in range(0, len(body), third)]
        body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    elif body or request.route.takes_body:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join((*lines, b"", body))
