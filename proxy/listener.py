"""The client's side of the proxy: connections, their limits, and responses written byte for byte.

aiohttp parses requests and runs one handler after the other on each connection. What it would do on its own beyond
that is replaced here: error pages that echo input, tracebacks that hold it, fields that a response did not have.
"""

from __future__ import annotations

import asyncio
import os
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage, LineTooLong
from aiohttp.http_parser import HttpRequestParser
from aiohttp.http_writer import HttpVersion11, StreamWriter
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from proxy.core import headers
from proxy.core.failure import Failure
from proxy.errors import UnusableInputError
from proxy.progress import break_off, has_left, held_for_peer, reset

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.http_parser import RawRequestMessage
    from aiohttp.streams import StreamReader

    from proxy.core.model import Fields, Reply
    from proxy.settings import Settings

_DEPARTURE_LOOK_S: Final = 0.5
_IDLE_SWEEP_S: Final = 0.02
_LINGERING_S: Final = 5.0
_LAST_MOMENT_S: Final = 0.1

# RFC 9112, 2.1 and 7.1: heads and chunked bodies end with an empty line behind another line, and nowhere else.
_END_OF_LINES: Final = re.compile(rb"[^\r\n]\r\n\r\n")
_SEAM_BYTES: Final = 4

# Parsed in about a millisecond. Whoever writes such ends into a chunked body fits 50,000 of them into one read.
_PARTS_AT_ONCE: Final = 1024

# RFC 9112, 2.2: an empty line before a request is no part of it; old clients send one behind a body.
_EMPTY_LINES: Final = re.compile(rb"[\r\n]*")

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


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What one peer may take up: time for a head, bytes for a head, and connections."""

    header_timeout_s: float
    head_bytes: int
    max_connections: int


class GuardedConnection(RequestHandler):
    """One connection from a peer, with the timers and limits that aiohttp leaves out.

    aiohttp's parser is given what came in parts that end where a message may end, so that it is known what lies behind
    the last whole message, and so that a part that breaks the rules spoils none before it. Where there are very many
    parts, other connections have their turns in between, and no more is read meanwhile.
    """

    __slots__ = (
        *("_body", "_body_bytes_left", "_decompresses", "_departure_timer", "_has_old_trailers", "_head_bytes"),
        *("_head_timer", "_is_behind", "_is_deaf", "_limits", "_peers", "_seam", "_unparsed"),
    )

    def __init__(self, manager: web.Server, limits: ConnectionLimits, **kwargs: Any) -> None:
        super().__init__(manager, **kwargs)
        self._peers = manager
        self._limits = limits
        self._head_timer: asyncio.TimerHandle | None = None
        self._departure_timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._body: StreamReader = EMPTY_PAYLOAD
        self._body_bytes_left = 0
        # The last bytes of the head or the chunked body under way: its end may have begun in them.
        self._seam = b""
        self._unparsed = b""
        self._is_behind = False
        self._is_deaf = False
        self._has_old_trailers = False
        self._decompresses: bool = kwargs.get("auto_decompress", True)

    @property
    def is_idle(self) -> bool:
        """Whether no request is being carried or waiting to be."""
        return self._waiter is not None and not self._messages

    def refusal(self, failure: Failure) -> bytes:
        """Return the response, head and body, to what never became a request; the connection ends with it."""
        raise NotImplementedError

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for a request, or turn the peer away where there are too many."""
        super().connection_made(transport)
        if len(self._peers.connections) > self._limits.max_connections:
            self._refuse(Failure.OVERLOADED)
        else:
            self._watch_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Stop the clocks."""
        self._unwatch_head()
        if self._departure_timer is not None:
            self._departure_timer.cancel()
        super().connection_lost(exc)

    def _pause_transport_reading(self) -> None:
        """Look now and then whether the peer is still there: nobody else does while nothing is read."""
        super()._pause_transport_reading()
        if self._departure_timer is None:
            self._departure_timer = self._loop.call_later(_DEPARTURE_LOOK_S, self._look_for_departure)

    def _look_for_departure(self) -> None:
        self._departure_timer = None
        if self.transport is None or not (self._reading_paused or self._buffer_paused):
            return
        if has_left(self.transport):
            self.transport.abort()
        else:
            self._departure_timer = self._loop.call_later(_DEPARTURE_LOOK_S, self._look_for_departure)

    def _process_keepalive(self) -> None:
        """Close an idle connection in time; one on which a head has begun is timed by that."""
        if self._head_timer is None:
            super()._process_keepalive()
        else:
            self._keepalive_handle = None

    def force_close(self) -> None:
        """End the connection, if need be without what its peer does not read."""
        transport = self.transport
        super().force_close()
        if transport is not None and held_for_peer(transport):
            self._loop.call_later(_LINGERING_S, transport.abort)

    def data_received(self, data: bytes) -> None:
        """Parse what came, part by part; a head that is not whole yet is timed and measured."""
        if self._is_deaf:
            return
        if not data:
            # There is room again: first for what the parser itself has kept.
            super().data_received(b"")
        self._unparsed += data
        if not self._is_behind:
            self._parse_parts()

    def _parse_parts(self) -> None:
        """Parse what is not parsed yet, as far as there is room for it; what is left after many parts has to wait."""
        data, self._unparsed = self._unparsed, b""
        begin = parts = 0
        while begin < len(data) and not self._is_full and not self._is_deaf:
            if parts == _PARTS_AT_ONCE:
                self._fall_behind()
                break
            begin = self._parse_part(data, begin)
            parts += 1
        if not self._is_deaf:
            self._unparsed = data[begin:]
        if self._head_bytes > self._limits.head_bytes:
            if self.is_idle:
                self._refuse(Failure.HEAD_TOO_LARGE)
            else:
                self._refuse_behind(_TOO_MUCH)

    def _fall_behind(self) -> None:
        """Go on parsing when everyone else has had a turn; until then nothing more is read."""
        self._is_behind = True
        self._pause_transport_reading()
        self._loop.call_soon(self._catch_up)

    def _catch_up(self) -> None:
        self._is_behind = False
        if self.transport is None:
            return
        if not self._is_deaf:
            self._parse_parts()
        if not self._reading_paused and not self._buffer_paused:
            self._resume_transport_reading()

    def _resume_transport_reading(self) -> None:
        """Read on, unless what was read already is still to be parsed."""
        if not self._is_behind:
            super()._resume_transport_reading()

    @property
    def _is_full(self) -> bool:
        """Whether aiohttp has stopped reading, and asks for more with empty data."""
        return self._reading_paused or len(self._messages) >= self._max_msg_queue_size

    def _parse_part(self, data: bytes, begin: int) -> int:
        """Parse `data` from `begin` to where a message may end, and return where that is."""
        if self._body_bytes_left:
            end = min(len(data), begin + self._body_bytes_left)
            self._body_bytes_left -= end - begin
            super().data_received(data[begin:end])
            return end
        is_head = self._body.is_eof()
        if is_head and not self._seam:
            first = begin
            begin = _EMPTY_LINES.match(data, begin).end()  # type: ignore[union-attr] # it matches nothing, too
            self._head_bytes += begin - first
            if begin == len(data):
                return begin
            if self._has_old_trailers:
                self._renew_parser()
        end = self._end_of_lines(data, begin)
        waiting = len(self._messages)
        super().data_received(data[begin:end])
        if len(self._messages) > waiting:
            self._unwatch_head()
            self._message_has_begun()
        elif is_head:
            self._head_bytes += end - begin
            if self._head_timer is None and self.transport is not None:
                self._watch_head()
        return end

    def _renew_parser(self) -> None:
        """Forget the trailers of the message before: aiohttp's parser counts the last of them to the next head.

        RFC 9110, 6.5.1: a trailer field must not become a header field, of this message or another. Between two
        messages the parser holds nothing else.
        """
        self._has_old_trailers = False
        self._parser = HttpRequestParser(
            self,
            self._loop,
            self._read_bufsize,
            max_line_size=self.max_line_size,
            max_field_size=self.max_field_size,
            max_headers=self.max_headers,
            payload_exception=web.RequestPayloadError,
            auto_decompress=self._decompresses,
        )

    def _end_of_lines(self, data: bytes, begin: int) -> int:
        """Return where in `data` the head or the chunked body under way may end, or the end of `data`."""
        seam = self._seam + data[begin : begin + _SEAM_BYTES]
        if self._seam and (found := _END_OF_LINES.search(seam)):
            end = begin + found.end() - len(self._seam)
        elif found := _END_OF_LINES.search(data, begin):
            end = found.end()
        else:
            self._seam = (self._seam + data[max(begin, len(data) - _SEAM_BYTES) :])[-_SEAM_BYTES:]
            return len(data)
        self._seam = b""
        return end

    def _message_has_begun(self) -> None:
        """Take note of the message that has just been parsed; one that is unfit is the last thing that is answered."""
        message, body = self._messages[-1]
        if isinstance(message, _ErrInfo):
            # Nothing behind a framing error is ever parsed (RFC 9112, 11.2).
            self._is_deaf = True
            if not self._body.is_eof():
                # aiohttp queues the error behind the body, whose reader would wait for the rest of it.
                break_off(self._body, web.RequestPayloadError())
            return
        length = message.headers.get("Content-Length", "0")
        if headers.size(message.raw_headers) > self._limits.head_bytes:
            complaint = _TOO_MUCH
        elif not headers.is_length(length):
            complaint = "Content-Length is no number"
        else:
            self._body = body
            self._body_bytes_left = 0 if body.is_eof() else int(length)
            self._has_old_trailers = message.chunked
            # What follows may be of another protocol.
            self._is_deaf = message.upgrade and body.is_eof()
            return
        self._messages.pop()
        self._refuse_behind(complaint)

    def _refuse_behind(self, complaint: str) -> None:
        """Refuse the next request once those before it are answered; nothing more is read."""
        self._messages.append((_ErrInfo(status=400, exc=BadHttpMessage(complaint), message=""), EMPTY_PAYLOAD))
        self._is_deaf = True

    def _watch_head(self) -> None:
        self._head_timer = self._loop.call_later(self._limits.header_timeout_s, self._head_is_late)

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
        elif self._seam:
            self._refuse(Failure.REQUEST_TIMEOUT)
        else:
            # Nothing was asked, so nothing is answered.
            self.force_close()

    def _refuse(self, failure: Failure) -> None:
        """Answer outside of any request, and end the connection."""
        self._unwatch_head()
        self._is_deaf = True
        if self.transport is not None:
            self.transport.write(self.refusal(failure))
        self.force_close()


class ClientConnection(GuardedConnection):
    """One connection from a client of the proxy; the exchanges on it may be ended, or outlive it."""

    __slots__ = ("_carries_on", "_listener", "_open_transport", "_parser_limits", "is_given_up")

    def __init__(self, listener: Listener, **kwargs: Any) -> None:
        limits, downstream = listener.settings.limits, listener.settings.downstream
        super().__init__(
            listener,
            ConnectionLimits(downstream.header_timeout_s, limits.head_bytes, downstream.max_connections),
            **kwargs,
        )
        self._listener = listener
        # Those that its parser goes by, to the end of the connection.
        self._parser_limits = limits
        self._carries_on = False
        self._open_transport: asyncio.WriteTransport | None = None
        self.is_given_up = False

    @property
    def is_draining(self) -> bool:
        """Whether the response under way is to be the connection's last."""
        return self._listener.is_draining

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for a request, or turn the client away where there are too many."""
        super().connection_made(transport)
        self._open_transport = self.transport

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
        """End what was going on, unless it has to be carried on without the client.

        A client that has shut down its sending side alone counts as one that has left: what is received is the same
        for both, and whoever leaves must not keep the upstream busy. nginx decides likewise.
        """
        self._open_transport = None
        task = self._task_handler
        super().connection_lost(exc)
        if task is None or task.done():
            return
        if self._carries_on:
            self._listener.carry_on(task)
        else:
            task.cancel()

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
        limits = self._parser_limits
        match error:
            case LineTooLong(args=(excerpt, limit, *_)) if int(limit) == limits.target_bytes:
                is_target = limits.target_bytes != limits.field_bytes or str(excerpt).startswith(("b'/", "b'http", "/"))
                return Failure.TARGET_TOO_LONG if is_target else Failure.HEAD_TOO_LARGE
            case LineTooLong():
                return Failure.HEAD_TOO_LARGE
            case BadHttpMessage(message=message) if message == _TOO_MUCH:
                return Failure.HEAD_TOO_LARGE
        return Failure.MALFORMED_REQUEST

    def refusal(self, failure: Failure) -> bytes:
        """Return the envelope for `failure`; it counts as an exchange."""
        reply = self._listener.refuse(failure)
        fields = (*reply.fields, (b"Content-Length", b"%d" % len(reply.body)), (b"Connection", b"close"))
        start_line = f"HTTP/1.1 {reply.status} {reply.reason}".encode("ascii")
        return headers.head(start_line, fields) + reply.body


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
    listener: Listener,
    host: str,
    port: int,
    tls: ssl.SSLContext | None = None,
    plugs: Sequence[socket.socket] = (),
) -> AsyncIterator[Entrance]:
    """Accept connections for `listener`, over `tls` if given; leaving stops accepting and drains.

    Where there are `plugs`, it is on these, which are bound to the address already.

    Raises:
        ListenError: the address is taken, or is not this machine's.
    """
    places: list[dict[str, Any]] = [{"sock": plug} for plug in plugs] or [{"host": host, "port": port}]
    servers: list[asyncio.Server] = []
    try:
        for place in places:
            servers.append(await _server_on(listener, tls, listener.settings, **place))  # noqa: PERF401
    except OSError as error:
        _close_all(servers)
        raise ListenError(listen_problem(host, port, error)) from error
    entrance = Entrance(listener, servers)
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
