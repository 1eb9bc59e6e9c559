"""A stand-in upstream for demos and tests: the Defender APIs as Microsoft's documentation describes them.

It answers the documented operations under `/api` and `/api/v1.0`, insists on the exact spelling of body
parameters as the real service does, and fails on demand: in any documented way, and in the undocumented ways
of networks. It needs no token, evaluates no `$filter`, and shares nothing with the proxy that it is to test.

What goes wrong is asked for by the request itself, in the header `X-Simulate: DIRECTIVE, DIRECTIVE`, or by the
path, `/_simulate/DIRECTIVE,DIRECTIVE/api/...`, for clients that cannot set headers. Both may be given. Letter
case does not matter here. Of several codes, codings or broken connections the last one holds; of several
directives that fix the answer (a code to echo) the one that stands first in this list:

    shape=NAME          an error of another shape: graph, odata, arm, entra, gateway, message, quota, fault, problem,
                        xml, soap, text, broken, utf-16, array, mislabelled; a status or a code changes its status
    a documented code   that error with its documented status: Forbidden, TooManyRequests, ODataError, ...
    status=CODE         an error envelope with that status (400 to 599); also changes the status of a code
    empty=STATUS        that status (200 to 599) and an empty body
    html                502 and the HTML page of a gateway
    size=BYTES          200 and a body of that many bytes, streamed
    echo                200 and JSON that describes the request exactly as it arrived
    target=FORM         the form of the envelope's target: guid, activity (|<8hex>-<16hex>.) or none
    retry-after=FORM    the field of a throttled answer: a number of seconds, date or none
    gzip, deflate       the body is coded so, whatever it is
    slow=SECONDS        a pause before the head
    trickle=SECONDS     a pause between the pieces of the body, which is sent chunked
    reset               the connection is reset before the head
    reset-head          the connection is reset inside the head
    truncate            the whole length is announced, half of the body is sent, the connection is closed
    garbage             bytes that are not HTTP, then the connection is closed
    stall               the head and half of the body are sent; the rest never comes

An unknown directive is answered with 400 and the list of the known ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import secrets
import socket
import struct
import zlib
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from email.utils import formatdate
from enum import Enum, auto
from itertools import chain
from time import time
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self
from urllib.parse import unquote, urlsplit
from uuid import uuid4

from aiohttp import web

from proxy.simulator_data import CODES, SHAPES, Operation, ServiceError, Tenant, check, route

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

BODY_LIMIT_BYTES: Final = 64 * 1024 * 1024
KEPT_BODY_BYTES: Final = 1024 * 1024
RECEIVED_LIMIT: Final = 1000
BODY_PAUSE_S: Final = 30.0
_PIECE_BYTES: Final = 64 * 1024
_RETRY_AFTER_S: Final = "10"
_LONGEST_PAUSE_S: Final = 3600.0
_LARGEST_SIZE: Final = 2**40
_JSON: Final = "application/json; charset=utf-8"
_GATEWAY_PAGE: Final = (
    b"<!DOCTYPE html>\r\n<html><head><title>502 Bad Gateway</title></head>\r\n"
    b"<body><center><h1>502 Bad Gateway</h1></center><hr><center>simulated gateway</center></body></html>\r\n"
)
_CODES: Final = {code.lower(): code for code in CODES}


class Ending(Enum):
    """How an answer comes to a bad end."""

    RESET = auto()
    RESET_HEAD = auto()
    TRUNCATE = auto()
    GARBAGE = auto()
    STALL = auto()


# What is sent where no whole head is.
_HEADLESS: Final[Mapping[Ending | None, bytes]] = {
    Ending.RESET: b"",
    Ending.RESET_HEAD: b"HTTP/1.1 200 OK\r\nContent-Type: applicat",
    Ending.GARBAGE: b"\x15\x03\x01\x00\x02\x02\x50 this is not HTTP\r\n\r\n",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What the directives of one request ask for."""

    shape: str | None = None
    code: str | None = None
    status: int | None = None
    empty: int | None = None
    html: bool = False
    size: int | None = None
    echo: bool = False
    target: str = "guid"
    retry_after: str | None = None
    coding: str | None = None
    slow_s: float = 0.0
    trickle_s: float | None = None
    ending: Ending | None = None


class UnknownDirectiveError(ValueError):
    """A directive is not known, or its value is not one."""


@dataclass(frozen=True, slots=True)
class _Directive:
    """`read` turns the value behind `=` into fields of `Plan`, or raises ValueError."""

    form: str
    meaning: str
    read: Callable[[str], dict[str, Any]]


def _flag(**changes: Any) -> Callable[[str], dict[str, Any]]:
    def read(value: str) -> dict[str, Any]:
        if value:
            raise ValueError(value)
        return changes

    return read


def _integer(name: str, least: int, most: int) -> Callable[[str], dict[str, Any]]:
    def read(value: str) -> dict[str, Any]:
        if not (value.isascii() and value.isdecimal() and least <= int(value) <= most):
            raise ValueError(value)
        return {name: int(value)}

    return read


def _pause(name: str) -> Callable[[str], dict[str, Any]]:
    def read(value: str) -> dict[str, Any]:
        if not 0 <= float(value) <= _LONGEST_PAUSE_S:
            raise ValueError(value)
        return {name: float(value)}

    return read


def _read_target(value: str) -> dict[str, Any]:
    if value not in {"guid", "activity", "none"}:
        raise ValueError(value)
    return {"target": value}


def _read_shape(value: str) -> dict[str, Any]:
    if value not in SHAPES:
        raise ValueError(value)
    return {"shape": value}


def _read_retry_after(value: str) -> dict[str, Any]:
    if value not in {"date", "none"}:
        _integer("", 0, int(_LONGEST_PAUSE_S))(value)
    return {"retry_after": value}


DIRECTIVES: Final[Mapping[str, _Directive]] = {
    "shape": _Directive("shape=NAME", "an error of another shape; see below", _read_shape),
    "status": _Directive("status=CODE", "an error envelope with that status, 400 to 599", _integer("status", 400, 599)),
    "empty": _Directive("empty=STATUS", "that status, 200 to 599, and an empty body", _integer("empty", 200, 599)),
    "html": _Directive("html", "502 and the HTML page of a gateway", _flag(html=True)),
    "size": _Directive("size=BYTES", "200 and a body of that many bytes, streamed", _integer("size", 0, _LARGEST_SIZE)),
    "echo": _Directive("echo", "200 and JSON that describes the request as it arrived", _flag(echo=True)),
    "target": _Directive("target=FORM", "the form of the envelope's target: guid, activity, none", _read_target),
    "retry-after": _Directive("retry-after=FORM", "of a throttled answer: seconds, date or none", _read_retry_after),
    "gzip": _Directive("gzip", "the body is gzip-coded", _flag(coding="gzip")),
    "deflate": _Directive("deflate", "the body is deflate-coded", _flag(coding="deflate")),
    "slow": _Directive("slow=SECONDS", "a pause before the head", _pause("slow_s")),
    "trickle": _Directive("trickle=SECONDS", "a pause between pieces of the body, sent chunked", _pause("trickle_s")),
    "reset": _Directive("reset", "a reset before the head", _flag(ending=Ending.RESET)),
    "reset-head": _Directive("reset-head", "a reset inside the head", _flag(ending=Ending.RESET_HEAD)),
    "truncate": _Directive("truncate", "half of the announced body, then the end", _flag(ending=Ending.TRUNCATE)),
    "garbage": _Directive("garbage", "bytes that are not HTTP, then the end", _flag(ending=Ending.GARBAGE)),
    "stall": _Directive("stall", "half of the body; the rest never comes", _flag(ending=Ending.STALL)),
}

HELP: Final = "\n".join(
    [
        "What goes wrong is asked for in a request header, or in the path:",
        "",
        "  X-Simulate: DIRECTIVE, DIRECTIVE",
        "  /_simulate/DIRECTIVE,DIRECTIVE/api/...",
        "",
        "Directives:",
        *(f"  {directive.form:<18}{directive.meaning}" for directive in DIRECTIVES.values()),
        "",
        "Shapes of errors, each with the status that `status=CODE` changes:",
        *(f"  {name:<28}{shape.status}" for name, shape in SHAPES.items()),
        "",
        "Error codes, each with its documented status:",
        *(f"  {code:<28}{status}" for code, (status, _) in CODES.items()),
    ]
)
"""What `simulate --help` prints."""


def plan_of(text: str) -> Plan:
    """Return the plan that comma-separated directives make.

    Raises:
        UnknownDirectiveError: its text names the directive and lists the known ones.
    """
    changes: dict[str, Any] = {}
    for item in filter(None, map(str.strip, text.split(","))):
        name, _, value = item.lower().partition("=")
        try:
            changes |= {"code": _CODES[item.lower()]} if item.lower() in _CODES else DIRECTIVES[name].read(value)
        except (KeyError, ValueError) as exc:
            known = ", ".join(chain((directive.form for directive in DIRECTIVES.values()), CODES))
            raise UnknownDirectiveError(f"Unknown directive '{item[:80]}'; known are: {known}.") from exc
    return Plan(**changes)


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it arrived, and what was answered.

    `fields` and `target` are as on the wire; `body` is the content still coded, its first mebibyte at most,
    while `body_bytes` and `sha256` tell of all of it. `complete` is false if the client left inside the
    body, or sent too much. `status` is None where no status was sent, `code` where the answer is no envelope.
    """

    method: str
    target: str
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes
    status: int | None = None
    code: str | None = None
    body_bytes: int = 0
    sha256: str = ""
    complete: bool = True


@dataclass(frozen=True, slots=True)
class _Answer:
    """A response to be; `size`, if there is one, stands for a body of that many filler bytes."""

    status: int
    body: bytes = b""
    content_type: str = _JSON
    code: str | None = None
    size: int | None = None
    close: bool = False


class _BrokenOff(web.StreamResponse):
    """Stands for an answer that is over already: aiohttp takes it as a client that left, and closes."""

    async def prepare(self, request: web.BaseRequest) -> NoReturn:
        """Never write anything."""
        raise ConnectionResetError(f"{request.method}: broken off on demand")


def _decoded(body: bytes, codings: list[str]) -> bytes:
    """Return the content without its codings; the list is in the order of application (RFC 9110, 8.4)."""
    for coding in reversed(codings):
        match coding:
            case "identity" | "":
                continue
            case "gzip" | "x-gzip" | "deflate":
                decoder = zlib.decompressobj(wbits=47)
            case _:
                raise ServiceError("InvalidRequestBody")
        try:
            body = decoder.decompress(body, BODY_LIMIT_BYTES)
        except zlib.error as exc:
            raise ServiceError("InvalidRequestBody") from exc
        if not decoder.eof:
            raise ServiceError("InvalidRequestBody")
    return body


def _json(document: Any, status: int = 200) -> _Answer:
    return _Answer(status, json.dumps(document).encode())


def _envelope(code: str, message: str | None, plan: Plan) -> _Answer:
    """Return the documented error body; `target` is the tracking ID, a new one each time."""
    status, text = CODES[code]
    error = {"code": code, "message": message or text}
    if plan.target == "guid":
        error["target"] = str(uuid4())
    elif plan.target == "activity":
        error["target"] = f"|{secrets.token_hex(4)}-{secrets.token_hex(8)}."
    body = json.dumps({"error": error}).encode()
    return _Answer(plan.status or status, body, code=code)


def _shaped(name: str, plan: Plan) -> _Answer:
    shape = SHAPES[name]
    text = shape.text.replace("{id}", str(uuid4()))
    status = plan.status or (CODES[plan.code][0] if plan.code else shape.status)
    return _Answer(status, text.encode(shape.encoding), shape.media_type)


def _code_for(status: int) -> str:
    fallback = "InternalServerError" if status >= 500 else "BadRequest"  # noqa: PLR2004  # RFC 9110, 15: classes
    return next((code for code, (documented, _) in CODES.items() if documented == status), fallback)


def _pieces(answer: _Answer, plan: Plan) -> tuple[int | None, Iterator[bytes]]:
    """Return the length of the coded body, None if that is not known beforehand, and the body in pieces."""
    if answer.size is None:
        body = answer.body
        if plan.coding is not None and body:
            coder = zlib.compressobj(wbits=31 if plan.coding == "gzip" else 15)
            body = coder.compress(body) + coder.flush()
        step = max(1, min(_PIECE_BYTES, len(body) // 8))
        return len(body), (body[start : start + step] for start in range(0, len(body), step))
    size = answer.size
    filler = b"0123456789abcdef" * (_PIECE_BYTES // 16)
    plain = (filler[: min(_PIECE_BYTES, size - start)] for start in range(0, size, _PIECE_BYTES))
    if plan.coding is None:
        return size, plain
    return None, _coded(plain, zlib.compressobj(wbits=31 if plan.coding == "gzip" else 15))


def _coded(pieces: Iterator[bytes], coder: zlib._Compress) -> Iterator[bytes]:
    """Yield a piece for each, empty ones among them: the coder keeps much to itself."""
    for piece in pieces:
        yield coder.compress(piece)
    yield coder.flush()


def _reset(transport: asyncio.Transport) -> None:
    """Close with RST rather than FIN, where the platform lets us."""
    plug = transport.get_extra_info("socket")
    with contextlib.suppress(OSError, AttributeError):
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


async def _send(request: web.BaseRequest, answer: _Answer, plan: Plan) -> web.StreamResponse:
    """Write the answer, or what the plan leaves of it."""
    transport = request.transport
    if transport is None:
        return _BrokenOff()
    if plan.ending in _HEADLESS:
        transport.write(_HEADLESS[plan.ending])
        if plan.ending is not Ending.GARBAGE:
            _reset(transport)
        return _BrokenOff()
    length, pieces = _pieces(answer, plan)
    cut = plan.ending is not None
    response = _head(request, answer, plan, max(length, 2) if cut and length is not None else length)
    try:
        await response.prepare(request)
        if request.method == "HEAD" or answer.status in (204, 304):
            pieces = iter(())
        await _send_body(response, _half(length, pieces) if cut else pieces, plan.trickle_s)
    except ConnectionError:
        return _BrokenOff()
    if plan.ending is Ending.STALL:
        await asyncio.Event().wait()  # until the connection is gone: then aiohttp cancels this handler
    return _BrokenOff() if cut else response


def _head(request: web.BaseRequest, answer: _Answer, plan: Plan, length: int | None) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, headers={"Server": "defender-simulator"})
    if length != 0:
        response.headers["Content-Type"] = answer.content_type
    if plan.coding is not None and length != 0:
        response.headers["Content-Encoding"] = plan.coding
    if answer.status == 429:  # noqa: PLR2004  # common-errors.md: the service tells the seconds
        response.headers.update(_retry_after(plan))
    if answer.status == 401:  # noqa: PLR2004  # RFC 9110, 11.6.1: a 401 names a challenge
        response.headers["WWW-Authenticate"] = 'Bearer authorization_uri="https://login.microsoftonline.com/common"'
    if length is not None and (plan.trickle_s is None or length == 0):
        response.content_length = length
    elif request.version < (1, 1):
        response.force_close()
    if answer.close:
        response.force_close()
    return response


def _retry_after(plan: Plan) -> dict[str, str]:
    """Return the field; an error of another shape has none unless asked for, as gateways tell the wait in the text."""
    form = plan.retry_after or ("none" if plan.shape else _RETRY_AFTER_S)
    if form == "none":
        return {}
    return {"Retry-After": formatdate(time() + int(_RETRY_AFTER_S), usegmt=True) if form == "date" else form}


def _half(length: int | None, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the first half, or the first piece of what has no known length."""
    rest = length // 2 if length is not None else None
    for piece in pieces:
        yield piece[:rest]
        if rest is None:
            if piece:
                return
        elif (rest := rest - len(piece)) <= 0:
            return


async def _send_body(response: web.StreamResponse, pieces: Iterator[bytes], pause_s: float | None) -> None:
    started = False
    for piece in pieces:
        await asyncio.sleep(pause_s or 0 if started else 0)  # others have their turn, however large the body
        if piece:
            await response.write(piece)
            started = True


class Simulator:
    """The stand-in upstream; get one from `listening`.

    `url` is its origin, such as `http://127.0.0.1:49152`. `received` holds the latest requests, the oldest
    first, and may be cleared; a request is there before its answer is sent.
    """

    def __init__(self) -> None:
        self.url = ""
        self.received: list[Received] = []
        self._tenant = Tenant()
        self._wildcard = False

    @classmethod
    @asynccontextmanager
    async def listening(
        cls, host: str = "127.0.0.1", port: int = 0, *, tls: ssl.SSLContext | None = None
    ) -> AsyncIterator[Self]:
        """Serve on that address until the block is left; port 0 takes a free one.

        Leaving does not wait for answers that are under way: their connections are aborted.
        """
        simulator = cls()
        server = web.Server(
            simulator._handle,
            handler_cancellation=True,
            auto_decompress=False,
            access_log=None,
            max_line_size=_PIECE_BYTES,
            max_field_size=_PIECE_BYTES,
            max_headers=1000,
            lingering_time=1.0,
        )
        listener = await asyncio.get_running_loop().create_server(server, host, port, ssl=tls)
        address, bound_port = listener.sockets[0].getsockname()[:2]
        simulator._wildcard = address in {"0.0.0.0", "::"}  # noqa: S104  # compared, not bound
        simulator.url = f"{'https' if tls else 'http'}://{f'[{address}]' if ':' in address else address}:{bound_port}"
        try:
            yield simulator
        finally:
            listener.close()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await _abort_all(server)
            await server.shutdown(0.1)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        prefix, path = _split(request.raw_path)
        refusal = None
        try:
            plan = plan_of(",".join([*request.headers.getall("X-Simulate", []), prefix]))
        except UnknownDirectiveError as exc:
            plan = Plan()
            refusal = _envelope("BadRequest", str(exc), plan)
        operation, subject_id = route(request.method, path.partition("?")[0])
        whole = plan.echo or (operation is not None and operation.parameters is not None)
        intake = _Intake(whole=whole)
        try:
            await intake.take(request)
        except Exception:  # noqa: BLE001  # whatever ends an upload early: aiohttp has many names for it
            self._remember(request, intake, None, complete=False)
            return _BrokenOff()
        except asyncio.CancelledError:
            self._remember(request, intake, None, complete=False)
            raise
        try:
            answer = (
                refusal or _on_demand(request, intake, plan) or self._answer(request, intake, operation, subject_id)
            )
        except ServiceError as error:
            answer = _envelope(error.code, error.message, plan)
        self._remember(request, intake, None if plan.ending in _HEADLESS else answer, complete=not intake.too_large)
        await asyncio.sleep(plan.slow_s)
        return await _send(request, answer, plan)

    def _remember(self, request: web.BaseRequest, intake: _Intake, answer: _Answer | None, *, complete: bool) -> None:
        self.received.append(
            Received(
                request.method,
                request.raw_path,
                tuple(request.raw_headers),
                bytes(intake.held[:KEPT_BODY_BYTES]),
                status=answer.status if answer else None,
                code=answer.code if answer else None,
                body_bytes=intake.body_bytes,
                sha256=intake.digest.hexdigest(),
                complete=complete,
            )
        )
        del self.received[:-RECEIVED_LIMIT]
        if intake.body_bytes > _PIECE_BYTES:
            while sum(len(received.body) for received in self.received) > BODY_LIMIT_BYTES:
                del self.received[0]

    def _answer(
        self, request: web.BaseRequest, intake: _Intake, operation: Operation | None, subject_id: str
    ) -> _Answer:
        """Return what the service itself answers."""
        target, origin = _origin_form(request.raw_path), self._origin(request)
        if operation is None:
            text = f"The resource '{target.partition('?')[0][:200]}' was not found."
            raise ServiceError("ResourceNotFound", text)
        if operation.parameters is None:
            return _json(self._tenant.read(operation, subject_id, target, origin))
        codings = ",".join(request.headers.getall("Content-Encoding", [])).lower().split(",")
        try:
            document = json.loads(_decoded(bytes(intake.held), [coding.strip() for coding in codings]))
        except (ValueError, RecursionError) as exc:
            raise ServiceError("InvalidRequestBody") from exc
        check(operation.parameters, document)
        answered = self._tenant.write(operation, subject_id, document, origin)
        return _Answer(operation.status) if answered is None else _json(answered, operation.status)

    def _origin(self, request: web.BaseRequest) -> str:
        """Return our own address; bound to every address we go by the name that the request used."""
        host = request.headers.get("Host")
        return f"{urlsplit(self.url).scheme}://{host}" if self._wildcard and host else self.url


class _Intake:
    """The request body as it comes in: hashed, and held as far as it is needed."""

    def __init__(self, *, whole: bool) -> None:
        self.held = bytearray()
        self.body_bytes = 0
        self.digest = hashlib.sha256()
        self.too_large = False
        self._limit = BODY_LIMIT_BYTES if whole else KEPT_BODY_BYTES

    async def take(self, request: web.BaseRequest) -> None:
        """Read to the end of the body, or until there is too much of it."""
        # RFC 9110, 10.1.1. aiohttp's low-level server leaves the interim response to its handler.
        if request.version >= (1, 1) and request.headers.get("Expect", "").lower() == "100-continue":
            transport = request.transport
            if transport is not None:
                transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # A chunk that is malformed ends nothing in aiohttp 3.14 if its head came before: only time does.
        clock = asyncio.get_running_loop()
        async with asyncio.timeout(BODY_PAUSE_S) as patience:
            async for piece in request.content.iter_any():
                patience.reschedule(clock.time() + BODY_PAUSE_S)
                self.body_bytes += len(piece)
                self.digest.update(piece)
                self.held += piece[: self._limit - len(self.held)]
                if self.body_bytes > BODY_LIMIT_BYTES:
                    self.too_large = True
                    return


def _description(request: web.BaseRequest, intake: _Intake) -> dict[str, Any]:
    return {
        "method": request.method,
        "target": request.raw_path,
        "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in request.raw_headers],
        "body": intake.held.decode("latin-1"),
        "sha256": intake.digest.hexdigest(),
    }


def _on_demand(request: web.BaseRequest, intake: _Intake, plan: Plan) -> _Answer | None:
    """Return the answer that the directives fix, None if the service is to find it."""
    answer = None
    if intake.too_large:
        text = f"The body is larger than {BODY_LIMIT_BYTES} bytes."
        answer = replace(_envelope("InvalidRequestBody", text, plan), status=413, close=True)
    elif plan.shape is not None:
        answer = _shaped(plan.shape, plan)
    elif plan.code is not None or plan.status is not None:
        answer = _envelope(plan.code or _code_for(plan.status or 0), None, plan)
    elif plan.empty is not None:
        answer = _Answer(plan.empty)
    elif plan.html:
        answer = _Answer(502, _GATEWAY_PAGE, "text/html")
    elif plan.size is not None:
        answer = _Answer(200, content_type="application/octet-stream", size=plan.size)
    elif plan.echo:
        answer = _json(_description(request, intake))
    return answer


def _origin_form(target: str) -> str:
    """Return path and query of a request target in origin-form or absolute-form (RFC 9112, 3.2)."""
    _, scheme, rest = target.partition("://")
    return target if target.startswith("/") or not scheme else f"/{rest.partition('/')[2]}"


def _split(target: str) -> tuple[str, str]:
    """Return the directives in the path, none being empty, and the target without them."""
    path = _origin_form(target)
    mark = "/_simulate/"
    if not path.lower().startswith(mark):
        return "", path
    directives, _, rest = path[len(mark) :].partition("/")
    return unquote(directives), f"/{rest}"


async def _abort_all(server: web.Server) -> None:
    """Abort every connection and wait until their handlers have been told."""
    while server.connections:
        for connection in server.connections:
            if connection.transport is not None:
                connection.transport.abort()
        await asyncio.sleep(0.005)


async def serve(host: str, port: int, announce: Callable[[str], None] | None = None) -> None:
    """Serve until cancelled; `announce` is given the URL once requests are accepted."""
    async with Simulator.listening(host, port) as simulator:
        if announce is not None:
            announce(simulator.url)
        await asyncio.Event().wait()
