"""The upstream leg: one request out, one response in, over a pool of persistent connections.

`Upstream` is all that the rest of the proxy knows of it. `AiohttpUpstream` stands on aiohttp's connector, which opens
connections, and on its response parser; the pool and what happens on a connection are its own. `ClientSession` is left
out: a session rewrites URLs, adds fields, keeps cookies and repeats requests on its own, and a proxy may do none of
these.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import math
import ssl
from collections import deque
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeAlias

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest
from aiohttp.http import HttpResponseParser
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_writer import HttpVersion11
from aiohttp.streams import EMPTY_PAYLOAD
from yarl import URL

from proxy.core import headers
from proxy.core.failure import Failure
from proxy.progress import StalledError, Watch, break_off, held_for_peer, poll_for_input, read_in_pieces

if TYPE_CHECKING:
    import select
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from aiohttp.connector import Connection
    from aiohttp.http_parser import RawResponseMessage
    from aiohttp.streams import StreamReader

    from proxy.core.model import Fields

Body: TypeAlias = "bytes | AsyncIterator[bytes]"
"""A request body: whole, or in pieces that are passed on as they come."""

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that may be sent a second time (RFC 9110, 9.2.1; TRACE is never forwarded)."""

_END_OF_HEAD: Final = b"\r\n\r\n"
_READ_BUFFER_BYTES: Final = 64 * 1024
_LINE_BYTES_AT_MOST: Final = 64 * 1024
_HEAD_BYTES_AT_MOST: Final = 256 * 1024
_FIELDS_AT_MOST: Final = 256
_INTERIM_RESPONSES_AT_MOST: Final = 16
_INTERIM_BYTES_AT_MOST: Final = 64 * 1024

_NO_CONTENT: Final = 204
_WITHOUT_BODY: Final = frozenset({_NO_CONTENT, 304})
"""Statuses of responses that end with their heads, whatever those say (RFC 9112, 6.3)."""

# Where a body ends whose length nobody tells: as its chunks say, or with its connection.
_CHUNKED: Final = -1
_UNTIL_CLOSE: Final = -2

_CHUNKED_LINE: Final = (b"Transfer-Encoding", b"chunked")

# A larger body is sent in pieces: an upstream that does not read it is noticed long before its answer is due.
_WRITTEN_AT_ONCE_BYTES: Final = 64 * 1024

_NEVER: Final = math.inf
_NO_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, sock_connect=None)

# RFC 9110, 10.1.1: an upstream may not know the expectation, so that nobody waits for its `100` for ever.
_CONTINUE_WITHIN_S: Final = 1.0


class UpstreamRequest(NamedTuple):
    """A request as it is to stand on the wire, but for its framing.

    `target` is in origin-form, byte for byte; `fields` lack `Host` and all framing. `length` is the size of the
    body in bytes, None for one that has to be chunked; a request without a body has none (`b""` and None).
    """

    method: str
    target: bytes
    fields: Fields
    body: Body = b""
    length: int | None = None
    when_whole: Callable[[], None] = lambda: None
    """Called when the last of the request goes to a connection: from then on the upstream may carry it out."""
    when_interim: Callable[[int, str, Fields], None] = lambda _status, _reason, _fields: None
    """Called with each interim response but 100 and 101, before `send` returns (RFC 9110, 15.2)."""
    when_resent: Callable[[Failure], None] = lambda _failure: None
    """Called when the request is about to be sent a second time, with what became of the first."""
    asks_first: bool = False
    """Whether the upstream is asked with `Expect: 100-continue` before the body is read (RFC 9110, 10.1.1)."""


class UpstreamResponse(Protocol):
    """The head of a response and, piece by piece, its body."""

    @property
    def status(self) -> int:
        """The status code, 200 or more."""

    @property
    def reason(self) -> str:
        """The reason phrase; bytes that are not UTF-8 are kept as lone surrogates."""

    @property
    def fields(self) -> Fields:
        """All field lines, as received."""

    @property
    def length(self) -> int | None:
        """The announced size of the body in bytes; None where only its end tells."""

    @property
    def is_whole(self) -> bool:
        """Whether the whole body is here already, so that no read of it will wait."""

    async def read(self) -> bytes:
        """Return the next piece of the body as it stands on the wire, `b""` at its end.

        Raises:
            UpstreamError: the body breaks off or stops.
        """

    def read_whole(self) -> bytes:
        """Return what is left of the body, without waiting; only where it is whole.

        Raises:
            UpstreamError: as `read` does.
        """

    def close(self) -> None:
        """Give the connection back; one whose response is not at its end is closed. May be called twice."""

    async def upload_ended(self) -> None:
        """Return when the request's body is read no more, which `close` has put an end to."""


class Upstream(Protocol):
    """Where requests go."""

    async def send(self, request: UpstreamRequest) -> UpstreamResponse:
        """Send `request` and return the response to it once its head is here. The caller closes it.

        Raises:
            UpstreamError: there is no response; nothing else, but for what reading the request's body raises.
        """

    def connections(self) -> Mapping[str, int]:
        """Return the number of open connections by state: `in_use` and `idle`."""


class UpstreamError(Exception):
    """The upstream leg failed, and how."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.label)
        self.failure = failure


class UpstreamConnection(ResponseHandler):
    """A connection to the upstream, which gives the bytes of a response to the exchange that waits for it.

    aiohttp's own serves for `CONNECT` alone. Its parser gets one response and no more: bytes behind its end make it
    fail, and it takes along what was good. They say nothing of that response (RFC 9112, 6.3), but the connection
    carries no other.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.idle_since_s = 0.0
        self.lost_by: Failure | None = None
        """What the end of the connection says to whoever was to use it; None while there is none."""
        self._pool: _Pool | None = None
        self._holder: Connection | None = None
        self._poll: select.poll | None = None
        self._exchange: _Response | None = None
        # How much of the body is to come; of a body without a length, where its end is to be seen.
        self._body_bytes_left = 0
        self._seam = b""
        self._head_bytes = self._interim_responses = self._interim_bytes = 0
        # One timer looks now and then whether somebody has waited for too long: most exchanges never need it.
        self._due_s = _NEVER
        self._look_every_s = _NEVER
        self._look_timer: asyncio.TimerHandle | None = None

    def belong_to(self, pool: _Pool, holder: Connection, look_every_s: float) -> None:
        """Be one of `pool`; `holder` is what the connector knows it by. No shorter limit than `look_every_s` is set."""
        self._pool = pool
        self._holder = holder
        self._look_every_s = look_every_s

    @property
    def is_open(self) -> bool:
        """Whether the event loop knows of no end of the connection."""
        return self.transport is not None and not self.transport.is_closing() and not self._should_close

    @property
    def is_fit(self) -> bool:
        """Whether an idle connection may carry a request: nothing has come, be it read by the event loop or not.

        Whatever came, bytes, an error or the end, was no answer to the request that would be next.
        """
        return self.is_open and not self.has_input

    @property
    def has_input(self) -> bool:
        """Whether something has come that the event loop has not read yet: bytes, an error or the end."""
        if self._poll is None:
            if self.transport is None:
                return True
            self._poll = poll_for_input(self.transport)
        return self._poll is None or self.transport is None or bool(self._poll.poll(0))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to read what comes."""
        read_in_pieces(transport)
        super().connection_made(transport)

    def begin(self, exchange: _Response, *, has_body: bool) -> None:
        """Expect a response for `exchange`; without `has_body` it ends with its head, as the answer to `HEAD` does."""
        self._exchange = exchange
        self._parser = HttpResponseParser(
            self,
            self._loop,
            _READ_BUFFER_BYTES,
            response_with_body=has_body,
            read_until_eof=True,
            auto_decompress=False,
            max_line_size=_LINE_BYTES_AT_MOST,
            max_field_size=_LINE_BYTES_AT_MOST,
            max_headers=_FIELDS_AT_MOST,
        )
        self._seam = b""
        self._head_bytes = self._interim_responses = self._interim_bytes = 0

    def new_future(self) -> asyncio.Future[None]:
        """Return what an exchange waits for on this connection."""
        return self._loop.create_future()

    def end(self) -> bool:
        """Expect nothing any more, and return whether the connection may carry another request.

        It may not where the response was not read to its end, or behind a part of yet another one.
        """
        exchange, self._exchange = self._exchange, None
        parser, self._parser = self._parser, None
        self._due_s = _NEVER
        if exchange is None or not (exchange.is_begun and exchange.is_whole and self.is_open):
            return False
        if self._body_bytes_left != _CHUNKED or parser is None:
            return True
        try:
            return parser.feed_eof() is None
        except HttpProcessingError:
            return False

    def discard(self) -> None:
        """Close the connection, and have the connector forget it."""
        holder, self._holder = self._holder, None
        if holder is not None:
            holder.close()

    def allow(self, seconds: float) -> None:
        """Have the exchange wait no longer than `seconds` from now for what it waits for, until `settle`."""
        now_s = self._loop.time()
        self._due_s = now_s + seconds
        if self._look_timer is None:
            self._look_timer = self._loop.call_at(now_s + self._look_every_s, self._look)

    def settle(self) -> None:
        """Limit the waiting no more: it is over."""
        self._due_s = _NEVER

    def _look(self) -> None:
        self._look_timer = None
        if self._due_s == _NEVER or self._exchange is None:
            return
        now_s = self._loop.time()
        if now_s < self._due_s:
            self._look_timer = self._loop.call_at(min(self._due_s, now_s + self._look_every_s), self._look)
        else:
            self._due_s = _NEVER
            self._exchange.give_up()

    async def drain(self) -> None:
        """Wait until what was written has gone down to what may be held.

        Raises:
            ConnectionError: the connection ends before that.
        """
        while self._paused:
            await self._drain_helper()

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: FBT001, FBT002 - aiohttp's own signature
        """Read on, if reading was paused: a body asks for it with each piece that is taken from it."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def data_received(self, data: bytes) -> None:
        """Give the parser what belongs to the head of the response, and its body what belongs there."""
        exchange = self._exchange
        if exchange is None:
            if self._parser is not None:
                super().data_received(data)
            elif data:
                # Unasked: it would be the answer to the next request.
                self._break()
            return
        if not exchange.is_begun:
            data = self._read_heads(exchange, data)
            if not data:
                return
            if len(data) == self._body_bytes_left and not exchange.payload.total_bytes:
                # Most are small enough to come with their head, and need nobody to hold what comes when.
                self._body_bytes_left = 0
                exchange.hold(data)
                return
        self._read_body(exchange.payload, data)

    def _read_body(self, payload: StreamReader, data: bytes) -> None:
        left = self._body_bytes_left
        if left > 0:
            if len(data) > left:
                data = data[:left]
                self._should_close = True
            self._body_bytes_left = left - len(data)
            payload.feed_data(data)
            if not self._body_bytes_left:
                payload.feed_eof()
        elif payload.is_eof():
            self._should_close = self._should_close or bool(data)
        elif left == _UNTIL_CLOSE:
            payload.feed_data(data)
        elif self._parse(data):
            self._should_close = True

    def _read_heads(self, exchange: _Response, data: bytes) -> bytes:
        """Parse heads until one is final, and return what stands behind it."""
        is_final = False
        while data and not is_final:
            end = self._end_of_head(data)
            self._head_bytes += end
            if self._head_bytes > _HEAD_BYTES_AT_MOST:
                self._break(Failure.HTTP_PROTOCOL_ERROR)
                return b""
            for message, payload in self._parse(data[:end]):
                if is_final:
                    self._should_close = True
                elif self._take_head(exchange, message, payload):
                    is_final = exchange.is_begun
                else:
                    self._break(Failure.HTTP_PROTOCOL_ERROR)
                    return b""
            data = data[end:]
        return data

    def _end_of_head(self, data: bytes) -> int:
        """Return where in `data` the head may end, or the end of `data`."""
        if self._seam:
            head = self._seam + data
            found = head.find(_END_OF_HEAD)
            if found >= 0:
                end = found + len(_END_OF_HEAD) - len(self._seam)
                self._seam = b""
                return end
            self._seam = head[-len(_END_OF_HEAD) + 1 :]
            return len(data)
        found = data.find(_END_OF_HEAD)
        if found >= 0:
            return found + len(_END_OF_HEAD)
        self._seam = data[-len(_END_OF_HEAD) + 1 :]
        return len(data)

    def _parse(self, data: bytes) -> Sequence[tuple[RawResponseMessage, StreamReader]]:
        """Return the heads that end in `data`; what stands behind them becomes their bodies."""
        if self._parser is None:
            return ()
        try:
            messages: Sequence[tuple[RawResponseMessage, StreamReader]] = self._parser.feed_data(data)[0]
        except Exception as error:  # noqa: BLE001 - whatever the parser trips over, it is no response
            self._break(Failure.HTTP_PROTOCOL_ERROR, error)
            return ()
        return messages

    def _take_head(self, exchange: _Response, message: RawResponseMessage, payload: StreamReader) -> bool:
        """Give a head to `exchange`, and return whether it is one that may stand there."""
        fields = headers.received(message.raw_headers)
        if fields is None or message.version.major != 1 or not _is_reason(message.reason):
            return False
        known = message.headers
        if "Transfer-Encoding" in known and not headers.is_chunked_alone(fields):
            return False
        is_chunked = bool(message.chunked)
        length: int | None = None
        if not is_chunked and (lengths := known.getall("Content-Length", ())):
            if len({*lengths}) > 1 or not headers.is_length(lengths[0]):
                return False
            length = int(lengths[0])
        if message.code < 200:  # noqa: PLR2004 - RFC 9110, 15.2: another head follows
            return self._take_interim_head(exchange, message, fields, has_body=is_chunked or bool(length))
        if message.should_close and not (exchange.method == "HEAD" and _is_persistent(message, fields)):
            self._should_close = True
        if payload.is_eof() or message.code in _WITHOUT_BODY:
            # RFC 9112, 6.3: it ends here, and RFC 9110, 8.6: a 204 announces no body. One may come all the same.
            if not payload.is_eof() or (message.code == _NO_CONTENT and (length or is_chunked)):
                self._should_close = True
            self._body_bytes_left = 0
            payload = EMPTY_PAYLOAD
        elif length is not None:
            self._body_bytes_left = length - payload.total_bytes
        else:
            self._body_bytes_left = _CHUNKED if is_chunked else _UNTIL_CLOSE
        self._due_s = _NEVER
        exchange.start(message, fields, length, payload)
        return True

    def _take_interim_head(
        self, exchange: _Response, message: RawResponseMessage, fields: Fields, *, has_body: bool
    ) -> bool:
        self._interim_responses += 1
        self._interim_bytes += headers.size(fields)
        if (
            message.code == 101  # noqa: PLR2004 - an upgrade that nobody asked for
            or self._interim_responses >= _INTERIM_RESPONSES_AT_MOST
            or self._interim_bytes > _INTERIM_BYTES_AT_MOST
            or has_body  # RFC 9110, 8.6 and RFC 9112, 6.1: an interim response has none
        ):
            return False
        exchange.hand_on(message.code, message.reason, fields)
        return True

    def _break(self, failure: Failure | None = None, cause: BaseException | None = None) -> None:
        """End the connection for what has come, which is `failure` to the exchange that meets it."""
        self._should_close = True
        self._parser = None
        if failure is not None and self._exchange is not None:
            self._exchange.fail(failure, cause)
        if self.transport is not None:
            self.transport.close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Tell whoever waits for something that it will not come."""
        exchange = self._exchange
        # TLS 1.3 tells of a client certificate that it misses behind the handshake.
        is_tls = isinstance(exc, ssl.SSLError)
        self.lost_by = Failure.TLS_PROTOCOL_ERROR if is_tls else Failure.CONNECTION_TERMINATED
        if self._look_timer is not None:
            self._look_timer.cancel()
            self._look_timer = None
        if exchange is not None:
            self._parser = None
            if not exchange.is_begun:
                exchange.fail(self.lost_by, exc)
            else:
                exchange.end_with_connection(exc, is_end_of_body=self._body_bytes_left == _UNTIL_CLOSE)
        super().connection_lost(exc)
        if self._pool is not None:
            self._pool.forget(self)


class _Connector(aiohttp.TCPConnector):
    """A connector that tells an egress proxy nothing but where to connect to, and who asks."""

    def _update_proxy_auth_header_and_build_proxy_req(self, req: ClientRequest) -> ClientRequest:
        """Return the `CONNECT` for `req` without the fields that aiohttp sends on its own, `User-Agent` among them."""
        request = super()._update_proxy_auth_header_and_build_proxy_req(req)
        for name in {*request.headers} - {"Host", "Proxy-Authorization"}:
            del request.headers[name]
        return request


class _Pool:
    """The connections of a leg, at most `limit` of them: in use, being opened, or idle.

    The one that was used last is used next, so that those too many grow old and are closed. Whoever finds none free
    waits in line for the next that is given back.
    """

    def __init__(
        self,
        connector: aiohttp.TCPConnector,
        address: ClientRequest,
        *,
        limit: int,
        connect_timeout_s: float,
        keepalive_timeout_s: float,
        look_every_s: float,
    ) -> None:
        self._connector = connector
        # The connector asks a request where to connect to; this one stands for all of them and is never sent.
        self._address = address
        self._limit = limit
        self._connect_timeout_s = connect_timeout_s
        self._keepalive_timeout_s = keepalive_timeout_s
        self._look_every_s = look_every_s
        self._loop = asyncio.get_running_loop()
        # Oldest first, each from the time at which it was given back.
        self._idle: deque[UpstreamConnection] = deque()
        # Each gets a connection, or with None the leave to open one.
        self._waiting: deque[asyncio.Future[UpstreamConnection | None]] = deque()
        self._free = limit
        self._opening = 0
        self._timer: asyncio.TimerHandle | None = None

    def connections(self) -> Mapping[str, int]:
        """Return the number of open connections by state: `in_use` and `idle`."""
        return {"in_use": self._in_use, "idle": len(self._idle)}

    @property
    def _in_use(self) -> int:
        return self._limit - self._free - self._opening

    def take(self) -> UpstreamConnection | None:
        """Return an idle connection that is fit for a request, if there is one; it is in use from then on."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_fit:
                self._free -= 1
                return connection
            connection.discard()
        return None

    async def open(self, *, fresh: bool) -> UpstreamConnection:
        """Return a connection that has just been opened or, unless it is to be `fresh`, given back; it is in use.

        Raises:
            UpstreamError: there is none in time.
        """
        is_in_line = False
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                if self._free:
                    self._free -= 1
                else:
                    is_in_line = True
                    connection = await self._next_given_back()
                    is_in_line = False
                    if connection is not None and connection.is_fit and not fresh:
                        return connection
                    if connection is not None:
                        connection.discard()
                return await self._opened()
        except (aiohttp.ClientError, OSError) as error:
            # The address may be an old one. The next connection has it looked up anew.
            self._connector.clear_dns_cache()
            if is_in_line and isinstance(error, TimeoutError) and not self._opening:
                # All were in use for all that time; who waits for one that is being opened shares its fate.
                raise UpstreamError(Failure.CONNECTION_LIMIT_REACHED) from error
            raise UpstreamError(_connect_failure(error)) from error

    async def _next_given_back(self) -> UpstreamConnection | None:
        waiter: asyncio.Future[UpstreamConnection | None] = self._loop.create_future()
        self._waiting.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.cancelled():
                with suppress(ValueError):
                    self._waiting.remove(waiter)
            elif waiter.exception() is None:
                # It came in the very moment in which nobody waited for it any more.
                self.give_back(waiter.result())
            raise

    async def _opened(self) -> UpstreamConnection:
        self._opening += 1
        try:
            return await self._dial()
        except BaseException:
            self.give_back(None)
            raise
        finally:
            self._opening -= 1

    async def _dial(self) -> UpstreamConnection:
        holder = await self._connector.connect(self._address, [], _NO_TIMEOUT)
        connection = holder.protocol
        if isinstance(connection, UpstreamConnection) and connection.is_open:
            connection.belong_to(self, holder, self._look_every_s)
            return connection
        holder.close()
        lost_by = connection.lost_by if isinstance(connection, UpstreamConnection) else None
        raise UpstreamError(lost_by or Failure.CONNECTION_TERMINATED)

    def give_back(self, connection: UpstreamConnection | None) -> None:
        """Have `connection` used by others; None where it is gone and another may be opened in its place."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        self._free += 1
        if connection is not None and not connection.is_open:
            connection.discard()
        elif connection is not None:
            connection.idle_since_s = self._loop.time()
            self._idle.append(connection)
            if self._timer is None:
                self._timer = self._loop.call_later(self._keepalive_timeout_s, self._close_old)

    def release(self, connection: UpstreamConnection, *, is_reusable: bool) -> None:
        """Take back a connection that was in use, or close it and have another opened in its place."""
        if is_reusable:
            self.give_back(connection)
        else:
            connection.discard()
            self.give_back(None)

    def forget(self, connection: UpstreamConnection) -> None:
        """Keep `connection` no longer if it is idle: it has ended."""
        if connection in self._idle:
            self._idle.remove(connection)
            connection.discard()

    def _close_old(self) -> None:
        self._timer = None
        now_s = self._loop.time()
        while self._idle:
            old_at_s = self._idle[0].idle_since_s + self._keepalive_timeout_s
            if old_at_s > now_s:
                self._timer = self._loop.call_at(old_at_s, self._close_old)
                return
            self._idle.popleft().discard()

    def close(self) -> None:
        """Have nobody wait for a connection any more; closing the connector ends those that are open."""
        if self._timer is not None:
            self._timer.cancel()
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_exception(aiohttp.ClientConnectionError("the leg is closed"))
        self._waiting.clear()


def _connect_failure(error: BaseException) -> Failure:
    """Return what a failure to connect is called; some exceptions are of several of these kinds."""
    match error:
        case TimeoutError():
            return Failure.CONNECTION_TIMEOUT
        case aiohttp.ClientConnectorCertificateError():
            return Failure.TLS_CERTIFICATE_ERROR
        case aiohttp.ClientSSLError():
            return Failure.TLS_PROTOCOL_ERROR
        case aiohttp.ClientConnectorDNSError():
            return Failure.DNS_ERROR
        case aiohttp.ClientProxyConnectionError() | aiohttp.ClientHttpProxyError():
            return Failure.EGRESS_PROXY_ERROR
        case OSError(errno=errno.ECONNREFUSED):
            return Failure.CONNECTION_REFUSED
        case OSError(errno=errno.ENETUNREACH | errno.EHOSTUNREACH | errno.EADDRNOTAVAIL):
            return Failure.DESTINATION_UNAVAILABLE
    return Failure.CONNECTION_TERMINATED


class AiohttpUpstream:
    """The leg over aiohttp's connector and parser. Use `opened` to make one.

    Trailers end here in both directions, as RFC 9110, 6.5.1, allows.

    Over TLS a body that only the end of its connection delimits is taken for whole even if no `close_notify` precedes
    that end (RFC 9112, 9.8, would have it incomplete): asyncio ends both alike, with `connection_lost(None)`.
    """

    def __init__(
        self, pool: _Pool, address: ClientRequest, *, response_timeout_s: float, idle_timeout_s: float
    ) -> None:
        self.pool = pool
        """Its connections."""
        self._address = address
        self._host_line = (b"Host", address.headers["Host"].encode("ascii"))
        self.response_timeout_s = response_timeout_s
        """How long a response head may take once the request is out."""
        self.idle_timeout_s = idle_timeout_s
        """The longest pause within a body, in either direction."""

    @classmethod
    @asynccontextmanager
    async def opened(
        cls,
        url: str,
        *,
        tls: ssl.SSLContext | None = None,
        egress_proxy: str | None = None,
        max_connections: int = 100,
        connect_timeout_s: float = 10,
        response_timeout_s: float = 660,
        idle_timeout_s: float = 60,
        keepalive_timeout_s: float = 15,
    ) -> AsyncIterator[AiohttpUpstream]:
        """Yield a leg to the origin `url`, through `egress_proxy` when one is given; times in seconds.

        `tls` is what TLS is spoken with, verification by the system's certificates unless given.
        """
        address = ClientRequest(
            "GET",
            URL(url),
            loop=asyncio.get_running_loop(),
            proxy=URL(egress_proxy) if egress_proxy else None,
        )
        # It opens connections and keeps none: the limit and the pool are our own.
        connector = _Connector(limit=0, ssl=True if tls is None else tls)
        # There is no other way in; `_connect` would take no connection of another kind.
        make = functools.partial(UpstreamConnection, loop=asyncio.get_running_loop())
        connector._factory = make  # type: ignore[assignment] # noqa: SLF001 - a `partial` of a subclass is no subtype
        pool = _Pool(
            connector,
            address,
            limit=max_connections,
            connect_timeout_s=connect_timeout_s,
            keepalive_timeout_s=keepalive_timeout_s,
            look_every_s=min(response_timeout_s, idle_timeout_s),
        )
        async with connector:
            try:
                yield cls(pool, address, response_timeout_s=response_timeout_s, idle_timeout_s=idle_timeout_s)
            finally:
                pool.close()

    def connections(self) -> Mapping[str, int]:
        """Return the number of open connections by state: `in_use` and `idle`."""
        return self.pool.connections()

    async def send(self, request: UpstreamRequest) -> UpstreamResponse:
        """Send `request` and return the response to it once its head is here. The caller closes it.

        A safe request that is whole in memory is sent once more, on a fresh connection, when the first connection
        ended before a response began: pooled connections die of old age all the time (RFC 9110, 9.2.2; RFC 9112,
        9.3.1). No other request is.

        Raises:
            UpstreamError: there is no response; nothing else, but for what reading the request's body raises.
        """
        pool, body = self.pool, request.body
        is_resent = False
        while True:
            try:
                connection = None if is_resent else pool.take()
                if connection is None:
                    connection = await pool.open(fresh=is_resent)
                response = _Response(self, connection, request)
                try:
                    if isinstance(body, bytes) and len(body) <= _WRITTEN_AT_ONCE_BYTES:
                        await response.exchanged(body)
                    else:
                        await response.exchange_heads(_pieces(body) if isinstance(body, bytes) else body)
                except BaseException:
                    response.close()
                    await response.upload_ended()
                    raise
            except UpstreamError as error:
                may_resend = not is_resent and request.method in SAFE_METHODS and isinstance(body, bytes)
                if not may_resend or error.failure is not Failure.CONNECTION_TERMINATED:
                    raise
                request.when_resent(error.failure)
                is_resent = True
            else:
                return response

    def head_of(self, request: UpstreamRequest) -> bytes:
        """Return the head of `request` with its framing and `Host`, which RFC 9110 (7.2) wants first."""
        if request.length is not None:
            framing: Fields = ((b"Content-Length", b"%d" % request.length),)
        elif isinstance(request.body, bytes):
            framing = ()
        else:
            framing = (_CHUNKED_LINE,)
        if request.asks_first:
            framing = (*framing, (b"Expect", b"100-continue"))
        target = request.target
        if self._address.proxy is not None and not self._address.is_ssl():
            # RFC 9112, 3.2.2: to a proxy the target goes in absolute-form.
            target = str(self._address.url.origin()).encode() + target
            if (credentials := self._address.headers.get("Proxy-Authorization")) is not None:
                framing = ((b"Proxy-Authorization", credentials.encode("ascii")), *framing)
        start_line = b"%b %b HTTP/1.1" % (request.method.encode("ascii"), target)
        return headers.head(start_line, (self._host_line, *request.fields, *framing))


class _Response:
    """One exchange on one connection."""

    __slots__ = (
        *("_connection", "_head", "_held", "_leg", "_length_when_read", "_lost_at_end", "_may_send", "_request"),
        *("_upload", "fields", "is_begun", "length", "method", "payload", "reason", "status"),
    )

    def __init__(self, leg: AiohttpUpstream, connection: UpstreamConnection, request: UpstreamRequest) -> None:
        self._leg = leg
        self._connection: UpstreamConnection | None = connection
        self._request = request
        self._head = connection.new_future()
        self._upload: asyncio.Task[None] | None = None
        self._may_send: asyncio.Event | None = None
        self._lost_at_end: UpstreamError | None = None
        self._length_when_read = 0
        self._held = b""
        self.method = request.method
        self.is_begun = False
        self.status = 0
        self.reason = ""
        self.fields: Fields = ()
        self.length: int | None = None
        self.payload: StreamReader = EMPTY_PAYLOAD

    @property
    def is_whole(self) -> bool:
        return self.payload.is_eof()

    def exchanged(self, body: bytes) -> asyncio.Future[None]:
        """Send the request with `body` and return what is done when the head of the response is here."""
        connection, transport = self._begun()
        head = self._leg.head_of(self._request)
        self._request.when_whole()
        transport.write(head + body)
        connection.allow(self._leg.response_timeout_s)
        return self._head

    async def exchange_heads(self, body: AsyncIterator[bytes]) -> None:
        """Read the head while `body` is still going out: an upstream may answer before it has read all of it."""
        request, head = self._request, self._head
        connection, transport = self._begun()
        transport.write(self._leg.head_of(request))
        self._may_send = may_send = asyncio.Event()
        patience: asyncio.TimerHandle | None = None
        if request.asks_first:
            patience = asyncio.get_running_loop().call_later(_CONTINUE_WITHIN_S, may_send.set)
        else:
            may_send.set()
        self._upload = asyncio.create_task(self._send_body(connection, body, may_send))
        try:
            await asyncio.wait({self._upload, head}, return_when=asyncio.FIRST_COMPLETED)
            if self._upload.done() and not (head.done() and head.exception() is None):
                self._upload.result()  # raises what went wrong with the body, for which there will be no answer
            if not head.done():
                connection.allow(self._leg.response_timeout_s)
            await head
        finally:
            if patience is not None:
                patience.cancel()

    def _begun(self) -> tuple[UpstreamConnection, asyncio.Transport]:
        connection = self._connection
        if connection is None or connection.transport is None:
            raise UpstreamError(Failure.CONNECTION_TERMINATED)
        connection.begin(self, has_body=self.method != "HEAD")
        return connection, connection.transport

    async def _send_body(
        self, connection: UpstreamConnection, body: AsyncIterator[bytes], may_send: asyncio.Event
    ) -> None:
        is_chunked = self._request.length is None
        while not may_send.is_set():
            await may_send.wait()
        async for piece in body:
            if piece and not await self._is_taken(connection, headers.chunk(piece) if is_chunked else piece):
                return
        self._request.when_whole()
        if is_chunked:
            await self._is_taken(connection, headers.LAST_CHUNK)

    async def _is_taken(self, connection: UpstreamConnection, piece: bytes) -> bool:
        """Write `piece` and return whether the upstream still takes what it is sent.

        Where it has closed its end it perhaps answered first; reading the head will tell.

        Raises:
            UpstreamError: it has read nothing for too long.
        """
        transport = connection.transport
        if transport is None or transport.is_closing():
            return False
        transport.write(piece)
        if not connection.writing_paused:
            return True
        try:
            # With the response here, what the upstream does not read of the request is its own affair.
            with Watch(transport, self._leg.idle_timeout_s, lambda: self.is_begun):
                await connection.drain()
        except StalledError as error:
            raise UpstreamError(Failure.CONNECTION_WRITE_TIMEOUT) from error
        except OSError:
            return False
        return True

    def hand_on(self, status: int, reason: str, fields: Fields) -> None:
        """Take an interim response."""
        if status != 100:  # noqa: PLR2004 - RFC 9110, 15.2.1: an answer to our own `Expect`, or to nothing
            self._request.when_interim(status, reason, fields)
        elif self._may_send is not None:
            self._may_send.set()

    def start(self, message: RawResponseMessage, fields: Fields, length: int | None, payload: StreamReader) -> None:
        """Take the final head; `payload` is what becomes the body."""
        self.is_begun = True
        self.status = message.code
        self.reason = message.reason
        self.fields = fields
        self.length = length
        self.payload = payload
        if self._may_send is not None:
            # An answer before any `100` does without the body: it is never read then.
            self._may_send.clear()
        if not self._head.done():
            self._head.set_result(None)

    def hold(self, body: bytes) -> None:
        """Take the whole of the body, before any of it was asked for."""
        self._held = body
        self.payload = EMPTY_PAYLOAD

    def fail(self, failure: Failure, cause: BaseException | None = None) -> None:
        """Have whoever waits for the head, or for more of the body, meet `failure`."""
        error = UpstreamError(failure)
        error.__cause__ = cause
        if self.is_begun:
            # What went wrong first is told: it ends the connection, which is another failure.
            if not self.payload.is_eof() and self.payload.exception() is None:
                break_off(self.payload, error)
        elif not self._head.done():
            self._head.set_exception(error)

    def end_with_connection(self, error: BaseException | None, *, is_end_of_body: bool) -> None:
        """Take the end of the connection for the body's, if that is what delimits it and the end was orderly."""
        if self.payload.is_eof():
            return
        if not is_end_of_body:
            self.fail(Failure.HTTP_RESPONSE_INCOMPLETE, error)
            return
        if error is not None:
            # RFC 9112, 8: a body that only the end of its connection delimits is whole if that end was orderly.
            self._lost_at_end = UpstreamError(Failure.HTTP_RESPONSE_INCOMPLETE)
            self._lost_at_end.__cause__ = error
        self.payload.feed_eof()

    def give_up(self) -> None:
        """Take the time allowed for the head, or for the next piece of the body, to be over."""
        if not self.is_begun:
            self.fail(Failure.HTTP_RESPONSE_TIMEOUT)
        elif self.payload.total_bytes == self._length_when_read:
            self.fail(Failure.CONNECTION_READ_TIMEOUT)

    async def read(self) -> bytes:
        if self._held:
            return self.read_whole()
        payload = self.payload
        piece = payload.read_nowait()
        if not piece and not payload.is_eof():
            connection = self._connection
            if connection is None:
                raise RuntimeError("the response is closed")
            self._length_when_read = payload.total_bytes
            # Any byte ends a pause only if it is one of the body: chunk extensions may go on for ever.
            connection.allow(self._leg.idle_timeout_s)
            piece = await payload.readany()
            connection.settle()
        if not piece and self._lost_at_end is not None:
            raise self._lost_at_end
        return piece

    async def upload_ended(self) -> None:
        if self._upload is not None and not self._upload.done():
            await asyncio.wait({self._upload})

    def read_whole(self) -> bytes:
        if not self.is_whole:
            raise RuntimeError("the body is not whole yet")
        held, self._held = self._held, b""
        piece = held or self.payload.read_nowait()
        if self._lost_at_end is not None:
            raise self._lost_at_end
        return piece

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if self._head.done() and not self._head.cancelled():
            self._head.exception()  # it may be that nobody has asked for it
        is_reusable = connection.end()
        upload = self._upload
        if upload is not None and (not upload.done() or upload.cancelled() or upload.exception() is not None):
            upload.cancel()
            # What is still to go out must not: the end of it would make the request whole.
            connection.abort()
            is_reusable = False
        elif not is_reusable and connection.transport is not None and held_for_peer(connection.transport):
            # It would be held for as long as the upstream pleases.
            connection.abort()
        self._leg.pool.release(connection, is_reusable=is_reusable)


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    """Yield a body that is too large to be written at once, so that whoever does not read it is noticed."""
    for begin in range(0, len(body), _WRITTEN_AT_ONCE_BYTES):
        yield body[begin : begin + _WRITTEN_AT_ONCE_BYTES]


def _is_reason(text: str) -> bool:
    """Whether `text` may stand in a status line: visible characters, spaces and tabs (RFC 9112, 4)."""
    return text.isprintable() or headers.is_valid(text.encode("utf-8", "surrogateescape"), ())


def _is_persistent(message: RawResponseMessage, fields: Fields) -> bool:
    """Whether the connection outlives `message` (RFC 9112, 9.3); one of HTTP/1.0 never does."""
    options = headers.joined(fields, b"connection").lower().split(",")
    return message.version >= HttpVersion11 and "close" not in {option.strip(" \t") for option in options}
