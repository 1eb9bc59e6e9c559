"""The client's side of the proxy: connections, their limits, and responses written byte for byte.

aiohttp parses requests and runs one handler after the other on each connection. What it would do on its own beyond
that is replaced here: error pages that echo input, tracebacks that hold it, fields that a response did not have.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage, LineTooLong
from aiohttp.http_writer import HttpVersion11, StreamWriter
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from proxy.core import headers
from proxy.core.failure import Failure
from proxy.errors import UnusableInputError
from proxy.progress import held_for_peer, reset

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable

    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.http_parser import RawRequestMessage
    from aiohttp.streams import StreamReader

    from proxy.core.model import Fields, Reply
    from proxy.settings import Settings

_IDLE_SWEEP_S: Final = 0.02
_LINGERING_S: Final = 5.0
_LAST_MOMENT_S: Final = 0.1
_END_OF_HEAD: Final = b"\r\n\r\n"

# What aiohttp's parser says of one that has too many fields; `_parse_failure` knows it by its text.
_TOO_MUCH: Final = "Too many headers received"

# RFC 9110, 6.4.1 and RFC 9112, 6.3: responses that end with their head, whatever their fields say.
_BODILESS: Final = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})


class ListenError(UnusableInputError):
    """An address cannot be listened on; the text says which, why, and what to do."""


class HeadWriter(StreamWriter):
    """A writer that takes a message head in bytes, so that nothing is lost in another encoding."""

    def hold_head(self, head: bytes) -> None:
        """Keep `head` until the first piece of the body, to go out with it, or until `send_headers`."""
        self._headers_buf = head
        self._headers_written = False


class RawResponse(web.StreamResponse):
    """A response with exactly the fields given, but for its framing and `Connection`.

    `length` is the announced size of the body in bytes; None where only its end will tell. `body` is what
    `write_eof` sends last, whole responses therefore in one piece with their head.
    """

    def __init__(self, status: int, reason: str, fields: Fields, length: int | None, body: bytes = b"") -> None:
        super().__init__(status=status)
        self._raw_reason = reason.encode("utf-8", "surrogateescape")
        self._raw_fields = fields
        self._length = length
        self._last_piece = body
        self._ends_with_connection = False

    async def _start(self, request: web.BaseRequest) -> AbstractStreamWriter:
        """Hold the head in the writer; it leaves with the first piece of the body."""
        writer = request.writer
        if not isinstance(writer, HeadWriter):
            raise TypeError(writer)
        self._req = request
        self._payload_writer = writer
        is_http_11 = request.version >= HttpVersion11
        # aiohttp's parser stops behind a head that asks for an upgrade, and what follows would be read out of step.
        is_last = connection_of(request).is_draining or request._message.upgrade  # noqa: SLF001 - told nowhere else
        may_go_on = self._keep_alive is not False and not is_last
        keep_alive = bool(request.keep_alive and may_go_on)
        framing: Fields = ()
        if self._length is not None:
            if self.status != HTTPStatus.NO_CONTENT:
                framing = ((b"Content-Length", b"%d" % self._length),)
        elif request.method != "HEAD" and self.status not in _BODILESS:
            if is_http_11:
                writer.enable_chunking()
                framing = ((b"Transfer-Encoding", b"chunked"),)
            else:
                self._ends_with_connection = True
                keep_alive = False
        if not keep_alive:
            framing = (*framing, (b"Connection", b"close"))
        elif not is_http_11:
            framing = (*framing, (b"Connection", b"keep-alive"))
        self._keep_alive = keep_alive
        # RFC 9110, 6.2: the version is our own, whatever the client's; its framing follows the client's.
        start_line = b"HTTP/1.1 %d " % self.status + self._raw_reason
        writer.hold_head(headers.head(start_line, (*self._raw_fields, *framing)))
        return writer

    async def write_eof(self, data: bytes = b"") -> None:
        """End the response; a response to HEAD ends with its head (RFC 9110, 9.3.2)."""
        last_piece = data or self._last_piece
        if self._req is not None and self._req.method == "HEAD":
            last_piece = b""
        await super().write_eof(last_piece)

    def break_off(self) -> None:
        """End the connection, so that the client sees that the response is not whole (RFC 9112, 8).

        A body that the end of the connection delimits would look whole after an orderly one, so it is reset.
        """
        transport = self._req.transport if self._req is not None else None
        if transport is None:
            return
        if self._ends_with_connection:
            reset(transport)
        else:
            transport.close()

    def send_head(self) -> None:
        """Send the head now, before any piece of the body is here."""
        if isinstance(self._payload_writer, HeadWriter):
            self._payload_writer.send_headers()


class ClientConnection(RequestHandler):
    """One connection from a client, with the timers and limits that aiohttp leaves out."""

    __slots__ = (
        "_body",
        "_carries_on",
        "_head_bytes",
        "_head_timer",
        "_is_deaf",
        "_limits",
        "_listener",
        "_open_transport",
        "is_given_up",
    )

    def __init__(self, listener: Listener, **kwargs: Any) -> None:
        super().__init__(listener, **kwargs)
        self._listener = listener
        # Those that its parser goes by, to the end of the connection.
        self._limits = listener.settings.limits
        self._head_timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._body: StreamReader = EMPTY_PAYLOAD
        self._is_deaf = False
        self._carries_on = False
        self._open_transport: asyncio.WriteTransport | None = None
        self.is_given_up = False

    @property
    def is_draining(self) -> bool:
        """Whether the response under way is to be the connection's last."""
        return self._listener.is_draining

    @property
    def is_idle(self) -> bool:
        """Whether no request is being carried or waiting to be."""
        return self._waiter is not None and not self._messages

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for a request, or turn the client away where there are too many."""
        super().connection_made(transport)
        self._open_transport = self.transport
        if len(self._listener.connections) > self._listener.settings.downstream.max_connections:
            self._refuse(Failure.OVERLOADED)
        else:
            self._watch_head()

    def carry_on(self) -> None:
        """Let the exchange under way come to its end even if the client leaves."""
        self._carries_on = True

    def give_up(self) -> None:
        """End the exchange under way: its time is over."""
        if self._task_handler is not None and not self.is_idle:
            self.is_given_up = True
            self._task_handler.cancel()

    def dismiss(self) -> None:
        """Close the connection, idle as it is.

        A client that does not look at its idle connections does not answer the end of a TLS session either, and would
        be waited for: with nothing left to send, it is not.
        """
        transport = self._open_transport
        self.force_close()
        if transport is not None and transport.get_extra_info("ssl_object") and not held_for_peer(transport):
            transport.abort()

    def begin_request(self) -> None:
        """Forget what held for the request before."""
        self._carries_on = False

    def connection_lost(self, exc: BaseException | None) -> None:
        """End what was going on, unless it has to be carried on without the client."""
        self._unwatch_head()
        self._open_transport = None
        task = self._task_handler
        super().connection_lost(exc)
        if task is None or task.done():
            return
        if self._carries_on:
            self._listener.carry_on(task)
        else:
            task.cancel()

    def data_received(self, data: bytes) -> None:
        """Parse what came; a head that is not whole yet is timed and measured."""
        if self._is_deaf:
            return
        waiting, body = len(self._messages), self._body
        body_bytes = None if body.is_eof() else body.total_bytes
        super().data_received(data)
        if len(self._messages) > waiting:
            self._unwatch_head()
            self._end_malformed_body()
            self._refuse_unfit(waiting)
            message, self._body = self._messages[-1]
            # How much of the data is the beginning of yet another head cannot be told, but whether any is.
            begun_bytes = int(self._body.is_eof() and not _ends_with(message, data))
        elif body_bytes is None:
            begun_bytes = len(data)
        elif body.is_eof() and not _END_OF_HEAD.endswith(data[-4:]):
            # Behind the last chunk of a body there is the end of a line; else its length tells.
            begun_bytes = len(data) - (body.total_bytes - body_bytes)
        else:
            begun_bytes = 0
        if begun_bytes and self.transport is not None:
            self._head_has_begun(data, begun_bytes)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it may hold what the client sent
    ) -> web.StreamResponse:
        """Return the envelope for a request that could not be parsed, or for an error of the proxy's own."""
        if request.writer.output_size > 0:
            # The response has begun; only breaking off tells the client that it is not whole.
            raise ConnectionError
        failure = self._parse_failure(exc) if status == HTTPStatus.BAD_REQUEST else Failure.INTERNAL_ERROR
        reply = self._listener.refuse(failure)
        response = own_response(reply)
        response.force_close()
        request.protocol.keep_alive(False)  # noqa: FBT003 - aiohttp's signature
        return response

    def log_exception(self, *_args: Any, **_kwargs: Any) -> None:
        """Say nothing here: the arguments may hold what the client sent, and the outcome is recorded elsewhere."""

    def _parse_failure(self, error: BaseException | None) -> Failure:
        """Return what a parser's error is called; it tells a long target from a long field by the limit alone."""
        limits = self._limits
        match error:
            case LineTooLong(args=(excerpt, limit, *_)) if int(limit) == limits.target_bytes:
                is_target = limits.target_bytes != limits.field_bytes or str(excerpt).startswith(("b'/", "b'http", "/"))
                return Failure.TARGET_TOO_LONG if is_target else Failure.HEAD_TOO_LARGE
            case LineTooLong():
                return Failure.HEAD_TOO_LARGE
            case BadHttpMessage(message=message) if message == _TOO_MUCH:
                return Failure.HEAD_TOO_LARGE
        return Failure.MALFORMED_REQUEST

    def _head_has_begun(self, data: bytes, begun_bytes: int) -> None:
        self._head_bytes += begun_bytes
        # RFC 9112, 2.2: an empty line before a request is no part of it; old clients send one behind a body.
        if self._head_timer is None and data.strip(b"\r\n"):
            self._watch_head()
        if self._head_bytes > self._limits.head_bytes:
            if self.is_idle:
                self._refuse(Failure.HEAD_TOO_LARGE)
            else:
                self._refuse_behind(_TOO_MUCH)

    def _refuse_unfit(self, first: int) -> None:
        """Let the first of the waiting requests that is unfit to be carried be the last thing that is answered."""
        for index in range(first, len(self._messages)):
            message = self._messages[index][0]
            if isinstance(message, _ErrInfo):
                continue
            if headers.size(message.raw_headers) > self._limits.head_bytes:
                complaint = _TOO_MUCH
            elif not headers.is_length(message.headers.get("Content-Length", "0")):
                complaint = "Content-Length is no number"
            else:
                continue
            while len(self._messages) > index:
                self._messages.pop()
            self._refuse_behind(complaint)
            return

    def _refuse_behind(self, complaint: str) -> None:
        """Refuse the next request once those before it are answered; nothing more is read."""
        self._messages.append((_ErrInfo(status=400, exc=BadHttpMessage(complaint), message=""), EMPTY_PAYLOAD))
        self._is_deaf = True

    def _end_malformed_body(self) -> None:
        """Tell whoever reads a body that it will not end well: aiohttp queues the error behind it, and both wait."""
        request = self._current_request
        if request is None or request.content.is_eof() or not self._messages:
            return
        if isinstance(self._messages[-1][0], _ErrInfo):
            request.content.set_exception(web.RequestPayloadError())

    def _watch_head(self) -> None:
        self._head_timer = self._loop.call_later(
            self._listener.settings.downstream.header_timeout_s, self._head_is_late
        )

    def _unwatch_head(self) -> None:
        self._head_bytes = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if not self.is_idle:
            # It began behind a request that is still being answered; its turn to be answered comes after that.
            self._watch_head()
        elif self._head_bytes:
            self._refuse(Failure.REQUEST_TIMEOUT)
        else:
            # Nothing was asked, so nothing is answered.
            self.force_close()

    def _refuse(self, failure: Failure) -> None:
        """Answer outside of any request, and end the connection."""
        self._unwatch_head()
        if self.transport is not None:
            reply = self._listener.refuse(failure)
            fields = (*reply.fields, (b"Content-Length", b"%d" % len(reply.body)), (b"Connection", b"close"))
            start_line = f"HTTP/1.1 {reply.status} {reply.reason}".encode("ascii")
            self.transport.write(headers.head(start_line, fields) + reply.body)
        self.force_close()


class Listener(web.Server):
    """The server that connections belong to; `refuse` makes the reply to a request that never became one."""

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        refuse: Callable[[Failure], Reply],
        settings: Settings,
    ) -> None:
        super().__init__(handler, request_factory=self._request_of)
        self.refuse = refuse
        self.settings = settings
        self.is_draining = False
        self._carried_on: set[asyncio.Task[None]] = set()
        self._event_loop = asyncio.get_running_loop()

    def __call__(self) -> RequestHandler:
        """Return the protocol for a new connection."""
        return ClientConnection(
            self,
            loop=self._event_loop,
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=self.settings.downstream.keepalive_timeout_s,
            lingering_time=_LINGERING_S,
            max_line_size=self.settings.limits.target_bytes,
            max_field_size=self.settings.limits.field_bytes,
            max_headers=self.settings.limits.fields,
        )

    def _request_of(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        _writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> web.BaseRequest:
        if isinstance(protocol, ClientConnection):
            protocol.begin_request()
        writer = HeadWriter(protocol, self._event_loop)
        return web.BaseRequest(message, payload, protocol, writer, task, self._event_loop)

    def carry_on(self, task: asyncio.Task[None]) -> None:
        """Keep `task`, whose client has left, until it is done."""
        self._carried_on.add(task)
        task.add_done_callback(self._carried_on.discard)

    async def drain(self, timeout_s: float) -> None:
        """Close idle connections at once and the others after their response, or when `timeout_s` is over.

        A connection that is kept alive by nobody's request would otherwise hold the process for its whole timeout.
        What is not answered by then is answered with an error.
        """
        self.is_draining = True
        await self._until_over(self._event_loop.time() + timeout_s)
        for connection in self._client_connections():
            connection.give_up()
        for task in self._carried_on:
            task.cancel()
        await self._until_over(self._event_loop.time() + _LAST_MOMENT_S)
        # To aiohttp a timeout of 0 is none at all.
        await self.shutdown(timeout=_LAST_MOMENT_S)

    async def _until_over(self, deadline: float) -> None:
        """Wait until all exchanges are over, or for the deadline on the event loop's clock."""
        while (self.connections or self._carried_on) and self._event_loop.time() < deadline:
            for connection in self._client_connections():
                if connection.is_idle:
                    connection.dismiss()
            await asyncio.sleep(_IDLE_SWEEP_S)

    def _client_connections(self) -> list[ClientConnection]:
        return [connection for connection in self.connections if isinstance(connection, ClientConnection)]


def _ends_with(message: RawRequestMessage | _ErrInfo, data: bytes) -> bool:
    """Whether `data`, in which `message` and all of its body ended, ends with them."""
    if isinstance(message, _ErrInfo):
        return True
    length = 0 if message.chunked else int(message.headers.get("Content-Length", "0"))
    return _END_OF_HEAD.endswith(data[: len(data) - length][-4:])


def connection_of(request: web.BaseRequest) -> ClientConnection:
    """Return the connection that `request` came on; all that a `Listener` takes are of this one kind."""
    connection = request.protocol
    if not isinstance(connection, ClientConnection):
        raise TypeError(connection)
    return connection


def own_response(reply: Reply) -> RawResponse:
    """Return the response that carries `reply`."""
    return RawResponse(reply.status, reply.reason, reply.fields, len(reply.body), reply.body)


class Entrance:
    """Where clients come in: the sockets that are listened on, and whether TLS is spoken there."""

    def __init__(self, listener: Listener, servers: list[asyncio.Server]) -> None:
        self._listener = listener
        self._servers = servers

    @property
    def address(self) -> tuple[str, int]:
        """The host and the port in use."""
        host, port = self._servers[0].sockets[0].getsockname()[:2]
        return host, port

    async def reopen(self, tls: ssl.SSLContext | None, settings: Settings) -> None:
        """Take new connections over `tls`, or in plain for None, on the same sockets.

        Nobody is turned away meanwhile: whoever is waiting to be accepted waits in a queue of the kernel's, which the
        sockets' duplicates share.

        Raises:
            OSError: they cannot be duplicated; all is as it was.
        """
        servers: list[asyncio.Server] = []
        try:
            for server in self._servers:
                for plug in server.sockets:
                    servers.append(await _server_on(self._listener, tls, settings, sock=plug.dup()))  # noqa: PERF401
        except BaseException:
            _close_all(servers)
            raise
        former, self._servers = self._servers, servers
        _close_all(former)

    def close(self) -> None:
        """Accept nobody any more."""
        _close_all(self._servers)


def _close_all(servers: list[asyncio.Server]) -> None:
    for server in servers:
        server.close()


@asynccontextmanager
async def listening(
    listener: Listener, host: str, port: int, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Entrance]:
    """Accept connections for `listener`, over `tls` if given; leaving stops accepting and drains.

    Raises:
        ListenError: the address is taken, or is not this machine's.
    """
    try:
        server = await _server_on(listener, tls, listener.settings, host=host, port=port)
    except OSError as error:
        raise ListenError(listen_problem(host, port, error)) from error
    entrance = Entrance(listener, [server])
    try:
        yield entrance
    finally:
        entrance.close()
        await listener.drain(listener.settings.drain.timeout_s)


async def _server_on(
    listener: Listener, tls: ssl.SSLContext | None, settings: Settings, **where: Any
) -> asyncio.Server:
    downstream = settings.downstream
    if tls is not None:
        where["ssl"] = tls
        where["ssl_handshake_timeout"] = downstream.header_timeout_s
        # This also bounds how long what is left may take to be read.
        where["ssl_shutdown_timeout"] = downstream.write_timeout_s
    server: asyncio.Server = await asyncio.get_running_loop().create_server(listener, backlog=1024, **where)
    return server


def listen_problem(host: str, port: int, error: OSError) -> str:
    """Return one line that says why `host` and `port` cannot be listened on."""
    # asyncio wraps the reason in a sentence of its own; a name that does not resolve has a negative number.
    number = error.errno or 0
    reason = os.strerror(number) if number > 0 else error.strerror or "no such address"
    return f"cannot listen on {host}:{port} ({reason.lower()}); choose another address, or port 0 for any free one"
