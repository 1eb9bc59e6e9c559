"""The client's side of the proxy: connections, their limits, and responses written byte for byte.

aiohttp parses requests and runs one handler after the other on each connection. What it would do on its own beyond
that is replaced here: error pages that echo input, tracebacks that hold it, fields that a response did not have.
"""

from __future__ import annotations

import asyncio
import os
import re
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage, HttpProcessingError, LineTooLong
from aiohttp.http_parser import HttpRequestParser
from aiohttp.http_writer import HttpVersion11
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from proxy.core import headers
from proxy.core.failure import Failure
from proxy.errors import UnusableInputError
from proxy.progress import Watch, break_off, has_left, held_for_peer, read_in_pieces, reset

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from aiohttp.http_parser import RawRequestMessage
    from aiohttp.streams import StreamReader

    from proxy.core.model import Fields, Reply
    from proxy.settings import Settings

_DEPARTURE_LOOK_S: Final = 0.5
_IDLE_SWEEP_S: Final = 0.02
_LINGERING_S: Final = 5.0
_LAST_MOMENT_S: Final = 0.1

# RFC 9112, 2.1 and 7.1: heads and chunked bodies end with an empty line behind another line, and nowhere else.
_END_OF_LINES: Final = b"\r\n\r\n"
_LINE_ENDS: Final = re.compile(rb"[\r\n]*")
_LINE_END: Final = b"\r\n"
_SEAM_BYTES: Final = 4

# Parsed in about a millisecond. Whoever writes such ends into a chunked body fits 50,000 of them into one read.
_PARTS_AT_ONCE: Final = 1024

# What aiohttp's parser says of one that has too many fields; `_parse_failure` knows it by its text.
_TOO_MUCH: Final = "Too many headers received"

# RFC 9110, 6.4.1 and RFC 9112, 6.3: responses that end with their head, whatever their fields say.
_NO_CONTENT: Final = 204
_BODILESS: Final = frozenset({_NO_CONTENT, 304})


class ListenError(UnusableInputError):
    """An address cannot be listened on; the text says which, why, and what to do."""


class Request:
    """A request as it came, and the connection that it is answered on.

    `target` and `fields` are what stands on the wire, byte for byte; `version` is that of HTTP, major and minor.
    `length` is the announced size of the body in bytes, None where it is chunked or there is none.
    """

    __slots__ = (
        *("connection", "content", "fields", "has_body", "is_http_11", "is_last", "length", "method", "target"),
        "version",
    )

    def __init__(self, message: RawRequestMessage, content: StreamReader, connection: ClientConnection) -> None:
        self.method: str = message.method
        self.target = message.path.encode("utf-8", "surrogateescape")
        self.version: tuple[int, int] = message.version
        self.is_http_11 = self.version >= HttpVersion11
        self.fields: Fields = headers.IndexedFields(message.raw_headers)
        self.content = content
        self.connection = connection
        self.has_body = content is not EMPTY_PAYLOAD
        length = message.headers.get("Content-Length")
        self.length = None if length is None else int(length)
        # aiohttp's parser stops behind a head that asks for an upgrade, and what follows would be read out of step.
        self.is_last: bool = message.should_close or message.upgrade

    @property
    def transport(self) -> asyncio.Transport | None:
        """What the client is connected by; None once it has left."""
        return self.connection.transport


class Response:
    """A response with exactly the fields given, but for its framing and `Connection`.

    `length` is the announced size of the body in bytes; None where only its end will tell. The head is held back until
    there is a first piece of the body to go out with it, or until `send_head`. `is_last` ends the connection with it.
    """

    __slots__ = ("_connection", "_ends_with_connection", "_has_body", "_held", "_is_chunked")

    def __init__(
        self, request: Request, status: int, reason: str, fields: Fields, length: int | None, *, is_last: bool = False
    ) -> None:
        self._connection = connection = request.connection
        self._is_chunked = self._ends_with_connection = False
        # RFC 9110, 9.3.2: a response to HEAD ends with its head.
        self._has_body = request.method != "HEAD"
        is_last = is_last or request.is_last or connection.is_draining
        framing: Fields = ()
        if length is not None:
            if status != _NO_CONTENT:
                framing = ((b"Content-Length", b"%d" % length),)
        elif self._has_body and status not in _BODILESS:
            if request.is_http_11:
                self._is_chunked = True
                framing = ((b"Transfer-Encoding", b"chunked"),)
            else:
                self._ends_with_connection = is_last = True
        if is_last:
            framing = (*framing, (b"Connection", b"close"))
        elif not request.is_http_11:
            framing = (*framing, (b"Connection", b"keep-alive"))
        connection.is_kept_alive = not is_last
        # RFC 9110, 6.2: the version is our own, whatever the client's; its framing follows the client's.
        start_line = b"HTTP/1.1 %d " % status + reason.encode("utf-8", "surrogateescape")
        self._held = headers.head(start_line, (*fields, *framing))

    def send_head(self) -> None:
        """Send the head now, before any piece of the body is here."""
        self._connection.send(self._head())

    def _head(self) -> bytes:
        """Return the head where it is still to be sent."""
        held, self._held = self._held, b""
        return held

    async def write(self, piece: bytes) -> None:
        """Send a piece of the body, which is not empty, and return when there is room for more.

        Raises:
            ConnectionError: the client has left, or has read nothing for too long; the connection is gone.
        """
        if self._is_chunked:
            piece = headers.chunk(piece)
        self._connection.send(self._head() + piece if self._held else piece)
        if self._connection.writing_paused:
            await self._connection.room()

    async def end(self, piece: bytes = b"") -> None:
        """Send the last piece of the body, if any, and the end of the response.

        Raises:
            ConnectionError: as `write`.
        """
        if not self._has_body:
            piece = b""
        elif self._is_chunked:
            piece = headers.chunk(piece) + headers.LAST_CHUNK if piece else headers.LAST_CHUNK
        if piece or self._held:
            self._connection.send(self._head() + piece)
        if self._connection.writing_paused:
            await self._connection.room()

    def break_off(self) -> None:
        """End the connection, so that the client sees that the response is not whole (RFC 9112, 8).

        A body that the end of the connection delimits would look whole after an orderly one, so it is reset.
        """
        transport = self._connection.transport
        if transport is None:
            return
        if self._ends_with_connection:
            reset(transport)
        else:
            transport.close()


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
        *("_body", "_body_bytes_left", "_decompresses", "_departure_timer", "_has_read_body", "_head_bytes"),
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
        self._has_read_body = False
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
        read_in_pieces(transport)
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

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: FBT001, FBT002 - aiohttp's signature
        """Read on; aiohttp asks for that at each read of a body, also where reading was never paused."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

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
            # Its end is known, so that the parser need not look for it.
            self._body.feed_data(data[begin:end])
            if not self._body_bytes_left:
                self._body.feed_eof()
            return end
        is_head = self._body.is_eof()
        if is_head and not self._seam:
            # RFC 9112, 2.2: an empty line before a request is no part of it; old clients send one behind a body.
            first = begin
            begin = _empty_lines(data, begin)
            self._head_bytes += begin - first
            if begin == len(data):
                return begin
            if self._has_read_body:
                self._renew_parser()
        end = self._end_of_lines(data, begin)
        waiting = len(self._messages)
        super().data_received(data[begin:end])
        if is_head:
            self._head_bytes += end - begin
        if len(self._messages) > waiting:
            head_bytes = self._head_bytes
            self._unwatch_head()
            self._message_has_begun(head_bytes)
        elif is_head and self._head_timer is None and self.transport is not None:
            self._watch_head()
        return end

    def _renew_parser(self) -> None:
        """Forget the body of the message before, most of which the parser has not seen, and its trailers.

        aiohttp's parser counts the last of them to the next head, and a trailer field must not become a header field,
        of this message or another (RFC 9110, 6.5.1). Between two messages the parser holds nothing else. How many
        messages may be in the queue is seen to by `_is_full`.
        """
        self._has_read_body = False
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
        seam = self._seam
        if seam and (end := _behind_lines(seam + data[begin : begin + _SEAM_BYTES], 0)):
            end += begin - len(seam)
        elif not (end := _behind_lines(data, begin)):
            self._seam = (seam + data[max(begin, len(data) - _SEAM_BYTES) :])[-_SEAM_BYTES:]
            return len(data)
        self._seam = b""
        return end

    def _message_has_begun(self, head_bytes: int) -> None:
        """Take note of the message that has just been parsed; one that is unfit is the last thing that is answered."""
        message, body = self._messages[-1]
        if isinstance(message, _ErrInfo):
            # Nothing behind a framing error is ever parsed (RFC 9112, 11.2).
            self._is_deaf = True
            if not self._body.is_eof():
                # aiohttp queues the error behind the body, whose reader would wait for the rest of it.
                break_off(self._body, web.RequestPayloadError())
            return
        length = message.headers.get("Content-Length")
        if head_bytes > (limit := self._limits.head_bytes) and headers.size(message.raw_headers) > limit:
            complaint = _TOO_MUCH
        elif length is not None and not headers.is_length(length):
            complaint = "Content-Length is no number"
        else:
            self._body = body
            self._body_bytes_left = 0 if length is None or body.is_eof() else int(length)
            self._has_read_body = body is not EMPTY_PAYLOAD
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


def _empty_lines(data: bytes, begin: int) -> int:
    """Return where the line ends end that stand at `begin`, if any do."""
    return _LINE_ENDS.match(data, begin).end()  # type: ignore[union-attr] # it matches nothing, too


def _behind_lines(data: bytes, begin: int) -> int:
    """Return where the first empty line behind another line ends, both after `begin`; 0 if there is none."""
    found = data.find(_END_OF_LINES, begin + 1)
    while found >= 0 and data[found - 1] in _LINE_END:
        found = data.find(_END_OF_LINES, _empty_lines(data, found))
    return found + len(_END_OF_LINES) if found >= 0 else 0


class ClientConnection(GuardedConnection):
    """One connection from a client of the proxy; the exchanges on it may be ended, or outlive it."""

    __slots__ = (
        *("_carries_on", "_is_begun", "_listener", "_open_transport", "_parser_limits"),
        *("is_given_up", "is_kept_alive"),
    )

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
        self._is_begun = False
        self._open_transport: asyncio.WriteTransport | None = None
        self.is_given_up = False
        self.is_kept_alive = True

    @property
    def is_draining(self) -> bool:
        """Whether the response under way is to be the connection's last."""
        return self._listener.is_draining

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for a request, or turn the client away where there are too many."""
        super().connection_made(transport)
        self._open_transport = self.transport

    async def start(self) -> None:
        """Answer one request after the other.

        aiohttp's own would make a task, a writer and several objects more for each of them.
        """
        while not self._force_close:
            if not self._messages:
                self._waiter = self._loop.create_future()
                try:
                    await self._waiter
                finally:
                    self._waiter = None
            message, content = self._messages.popleft()
            if self._parser is not None:
                self._parser.message_consumed()
            if self._buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
                self._resume_reading_if_drained()
            if not await self._is_answered(message, content) or self._close or self._force_close:
                break
            self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
            if self._keepalive_handle is None:
                self._keepalive_handle = self._loop.call_at(self._next_keepalive_close_time, self._process_keepalive)
        if not self._force_close:
            await self._flush()
            self._task_handler = None
            if self.transport is not None:
                self.transport.close()

    async def _flush(self) -> None:
        """Wait until all that was written is read, however slowly: nobody looks after a connection once it closes."""
        transport = self.transport
        self._is_deaf = True
        if transport is None or transport.is_closing() or not transport.get_write_buffer_size():
            return
        transport.set_write_buffer_limits(0)
        if self.writing_paused:
            with suppress(ConnectionError):
                await self.room()

    async def _is_answered(self, message: RawRequestMessage | _ErrInfo, content: StreamReader) -> bool:
        """Have one request answered, and return whether there may be another on this connection."""
        self._carries_on = self._is_begun = False
        # Until a response says so, there may not be another.
        self.is_kept_alive = False
        try:
            if isinstance(message, _ErrInfo):
                self.send(self.refusal(self._parse_failure(message.exc)))
                return False
            await self._listener.handler(Request(message, content, self))
        except ConnectionError:
            return False
        except asyncio.CancelledError:
            self.force_close()
            raise
        except Exception:  # noqa: BLE001 - one connection must not end the others
            # A defect of ours; it is recorded elsewhere, and must not be told here, as it may quote the request.
            if self._is_begun:
                self.force_close()
            else:
                self._refuse(Failure.INTERNAL_ERROR)
            return False
        if not content.is_eof():
            await self._linger(content)
        return self.is_kept_alive

    async def _linger(self, content: StreamReader) -> None:
        """Read on for a while what nobody wants any more: who still sends would be reset, and not see the answer.

        Source: RFC 9112, 9.6.
        """
        deadline = self._loop.time() + _LINGERING_S
        try:
            async with asyncio.timeout_at(deadline):
                while not self._force_close and not content.is_eof():
                    await content.readany()
        except (TimeoutError, web.RequestPayloadError, HttpProcessingError):
            self.is_kept_alive = False

    def send(self, data: bytes) -> None:
        """Write `data` to the client.

        Raises:
            ConnectionResetError: it has left.
        """
        transport = self.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError
        self._is_begun = True
        transport.write(data)

    async def room(self) -> None:
        """Return when there is room for more to be written, as long as the client goes on reading, however slowly.

        Raises:
            ConnectionError: it has left, or has read nothing for too long; the connection is gone.
        """
        with Watch(self.transport, self._listener.settings.downstream.write_timeout_s):
            await self._drain_helper()

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
        handler: Callable[[Request], Awaitable[None]],
        refuse: Callable[[Failure], Reply],
        settings: Settings,
    ) -> None:
        # aiohttp keeps the connections and ends them; they call the handler themselves.
        super().__init__(handler)  # type: ignore[arg-type]
        self.handler = handler
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
            max_line_size=self.settings.limits.target_bytes,
            max_field_size=self.settings.limits.field_bytes,
            max_headers=self.settings.limits.fields,
        )

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
