"""The upstream leg: one request out, one response in, over a pool of persistent connections.

`Upstream` is all that the rest of the proxy knows of it. `AiohttpUpstream` stands on aiohttp's connector and
response parser and leaves `ClientSession` out: a session rewrites URLs, adds fields, keeps cookies and repeats
requests on its own, and a proxy may do none of these.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import ssl
import weakref
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest
from aiohttp.helpers import _EXC_SENTINEL as _NO_CAUSE
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_writer import HttpVersion11, StreamWriter
from aiohttp.streams import EMPTY_PAYLOAD
from yarl import URL

from proxy.core import headers
from proxy.core.failure import Failure
from proxy.progress import StalledError, Watch, break_off, has_input

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

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

# RFC 9110, 10.1.1: an upstream may not know the expectation, so that nobody waits for its `100` for ever.
_CONTINUE_WITHIN_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
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

    def close(self) -> None:
        """Give the connection back; one whose response is not at its end is closed. May be called twice."""


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
    """A connection to the upstream, with what aiohttp's own leaves out for lack of a need in a client.

    aiohttp's parser gets one response and no more: bytes behind its end make it fail, and it takes along what was good.
    They say nothing of that response (RFC 9112, 6.3), but the connection carries no other.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        # How much of the body is to come: None while its head is, -1 where only the parser sees the end.
        self._body_bytes_left: int | None = None
        self._seam = b""
        self._head_bytes = self._interim_responses = 0
        self._has_surplus = False

    def set_response_params(self, **params: Any) -> None:
        """Get ready for a response."""
        self._body_bytes_left = None
        self._seam = b""
        self._head_bytes = self._interim_responses = 0
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        """Give the parser what belongs to the response."""
        if not data or self._parser is None:
            super().data_received(data)
        while data and self._parser is not None:
            if self._body_bytes_left is None:
                end = self._end_of_head(data)
                self._head_bytes += end
                if self._is_head_too_large():
                    return
            elif self._body_bytes_left < 0:
                end = len(data)
            else:
                end = min(len(data), self._body_bytes_left)
                self._body_bytes_left -= end
            if not end:
                self._has_surplus = self._should_close = True
                return
            super().data_received(data[:end])
            data = data[end:]

    def _is_head_too_large(self) -> bool:
        """Whether there is more of heads, interim ones included, than is read; if so, it is as if they were no HTTP."""
        if self._head_bytes <= _HEAD_BYTES_AT_MOST and self._interim_responses <= _INTERIM_RESPONSES_AT_MOST:
            return False
        self.set_exception(HttpProcessingError())
        if self.transport is not None:
            self.transport.close()
        return True

    def _end_of_head(self, data: bytes) -> int:
        """Return where in `data` the head may end, or the end of `data`."""
        head = self._seam + data
        found = head.find(_END_OF_HEAD)
        if found < 0:
            self._seam = head[-len(_END_OF_HEAD) + 1 :]
            return len(data)
        end = found + len(_END_OF_HEAD) - len(self._seam)
        self._seam = b""
        return end

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        """Take note of how long the body of a response is whose head has been parsed."""
        message, payload = data
        if message.code < 200:  # noqa: PLR2004 - RFC 9110, 15.2: another head follows
            self._interim_responses += 1
        else:
            length = message.headers.get("Content-Length", "")
            if payload.is_eof():
                self._body_bytes_left = 0
            else:
                is_known = headers.is_length(length) and not message.chunked
                self._body_bytes_left = int(length) if is_known else -1
        super().feed_data(data, size)

    @property
    def has_input(self) -> bool:
        """Whether something has come that the event loop has not read yet: bytes, an error or the end."""
        return self.transport is None or has_input(self.transport)

    def rest(self) -> bool:
        """Get ready to be idle, and return whether that is possible: not behind a part of yet another response.

        Without a parser, whatever comes meanwhile is kept, and seen when the connection is asked for again.
        """
        parser, self._parser = self._parser, None
        try:
            return parser is None or parser.feed_eof() is None
        except HttpProcessingError:
            return False

    def stay_open(self) -> None:
        """Take back that the connection ends with the response: aiohttp takes any without a length to be one such."""
        if self.is_connected() and self.exception() is None and not self._has_surplus:
            self._should_close = False

    def set_exception(self, exc: BaseException, exc_cause: BaseException = _NO_CAUSE) -> None:
        """Tell whoever reads a body too: aiohttp tells of a body that breaks its framing only who waits for a head."""
        super().set_exception(exc, exc_cause)
        if self._payload is not None and not self._payload.is_eof():
            break_off(self._payload, exc)


class _Connector(aiohttp.TCPConnector):
    """A connector that tells an egress proxy nothing but where to connect to, and who asks."""

    def _update_proxy_auth_header_and_build_proxy_req(self, req: ClientRequest) -> ClientRequest:
        """Return the `CONNECT` for `req` without the fields that aiohttp sends on its own, `User-Agent` among them."""
        request = super()._update_proxy_auth_header_and_build_proxy_req(req)
        for name in {*request.headers} - {"Host", "Proxy-Authorization"}:
            del request.headers[name]
        return request


class AiohttpUpstream:
    """The leg over aiohttp's connector. Use `opened` to make one.

    Trailers end here in both directions, as RFC 9110, 6.5.1, allows: aiohttp's writer cannot send any.

    Over TLS a body that only the end of its connection delimits is taken for whole even if no `close_notify` precedes
    that end (RFC 9112, 9.8, would have it incomplete): asyncio ends both alike, with `connection_lost(None)`.
    """

    def __init__(
        self,
        connector: aiohttp.TCPConnector,
        address: ClientRequest,
        *,
        max_connections: int,
        connect_timeout_s: float,
        response_timeout_s: float,
        idle_timeout_s: float,
    ) -> None:
        self._connector = connector
        # The connector asks a request where to connect to; this one stands for all of them and is never sent.
        self._address = address
        self._host_line = (b"Host", address.headers["Host"].encode("ascii"))
        self._max_connections = max_connections
        self._connect_timeout = aiohttp.ClientTimeout(connect=connect_timeout_s)
        self._response_timeout_s = response_timeout_s
        self._idle_timeout_s = idle_timeout_s
        self._in_use = 0
        self._known: weakref.WeakSet[ResponseHandler] = weakref.WeakSet()

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
        connector = _Connector(
            limit=max_connections, keepalive_timeout=keepalive_timeout_s, ssl=True if tls is None else tls
        )
        # There is no other way in; `_connect` would take no connection of another kind.
        make = functools.partial(UpstreamConnection, loop=asyncio.get_running_loop())
        connector._factory = make  # type: ignore[assignment] # noqa: SLF001 - a `partial` of a subclass is no subtype
        async with connector:
            yield cls(
                connector,
                address,
                max_connections=max_connections,
                connect_timeout_s=connect_timeout_s,
                response_timeout_s=response_timeout_s,
                idle_timeout_s=idle_timeout_s,
            )

    def connections(self) -> Mapping[str, int]:
        """Return the number of open connections by state: `in_use` and `idle`."""
        is_open = sum(protocol.is_connected() for protocol in self._known)
        return {"in_use": self._in_use, "idle": max(0, is_open - self._in_use)}

    async def send(self, request: UpstreamRequest) -> UpstreamResponse:
        """Send `request` and return the response to it once its head is here. The caller closes it.

        A safe request that is whole in memory is sent once more, on a fresh connection, when the first connection
        ended before a response began: pooled connections die of old age all the time (RFC 9110, 9.2.2; RFC 9112,
        9.3.1). No other request is.

        Raises:
            UpstreamError: there is no response; nothing else, but for what reading the request's body raises.
        """
        try:
            return await self._attempt(request)
        except UpstreamError as error:
            may_resend = request.method in SAFE_METHODS and isinstance(request.body, bytes)
            if not may_resend or error.failure is not Failure.CONNECTION_TERMINATED:
                raise
            request.when_resent(error.failure)
            return await self._attempt(request, fresh=True)

    async def _attempt(self, request: UpstreamRequest, *, fresh: bool = False) -> UpstreamResponse:
        response = _Response(self, await self._connect(fresh=fresh))
        try:
            await response.exchange_heads(request)
        except BaseException:
            response.close()
            raise
        return response

    async def _connect(self, *, fresh: bool) -> Connection:
        """Return a connection that is fit for a request; a `fresh` one has not carried any."""
        while True:
            try:
                connection = await self._connector.connect(self._address, [], self._connect_timeout)
            except (aiohttp.ClientError, OSError) as error:
                # The address may be an old one. The next connection has it looked up anew.
                self._connector.clear_dns_cache()
                raise UpstreamError(self._connect_failure(error)) from error
            protocol = connection.protocol
            if (
                not isinstance(protocol, UpstreamConnection)
                or protocol.should_close
                or (protocol in self._known and (fresh or protocol.has_input))
            ):
                # Bytes, an error or the end came while the connection was idle. Whatever it was, it was no answer to
                # the request that would be next.
                connection.close()
                continue
            self._known.add(protocol)
            self._in_use += 1
            return connection

    def release(self, connection: Connection, *, is_reusable: bool) -> None:
        """Take `connection` back into the pool, or close it."""
        self._in_use -= 1
        protocol = connection.protocol
        if is_reusable and isinstance(protocol, UpstreamConnection) and protocol.rest():
            connection.release()
        else:
            connection.close()

    def _connect_failure(self, error: BaseException) -> Failure:
        """Return what a failure to connect is called; some exceptions are of several of these kinds."""
        match error:
            case TimeoutError() if self._in_use >= self._max_connections:
                return Failure.CONNECTION_LIMIT_REACHED
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

    def head_of(self, request: UpstreamRequest) -> bytes:
        """Return the head of `request` with its framing and `Host`, which RFC 9110 (7.2) wants first."""
        if request.length is not None:
            framing: Fields = ((b"Content-Length", b"%d" % request.length),)
        elif isinstance(request.body, bytes):
            framing = ()
        else:
            framing = ((b"Transfer-Encoding", b"chunked"),)
        if request.asks_first:
            framing = (*framing, (b"Expect", b"100-continue"))
        target = request.target
        proxy_fields: Fields = ()
        if self._address.proxy is not None and not self._address.is_ssl():
            # RFC 9112, 3.2.2: to a proxy the target goes in absolute-form.
            target = str(self._address.url.origin()).encode() + target
            if (credentials := self._address.headers.get("Proxy-Authorization")) is not None:
                proxy_fields = ((b"Proxy-Authorization", credentials.encode("ascii")),)
        start_line = request.method.encode("ascii") + b" " + target + b" HTTP/1.1"
        return headers.head(start_line, (self._host_line, *request.fields, *proxy_fields, *framing))

    @property
    def response_timeout_s(self) -> float:
        """How long a response head may take once the request is out."""
        return self._response_timeout_s

    @property
    def idle_timeout_s(self) -> float:
        """The longest pause within a body, in either direction."""
        return self._idle_timeout_s


class _Response:
    """One exchange on one connection."""

    def __init__(self, leg: AiohttpUpstream, connection: Connection) -> None:
        if not isinstance(connection.protocol, UpstreamConnection):
            raise UpstreamError(Failure.CONNECTION_TERMINATED)
        self._leg = leg
        self._connection: Connection | None = connection
        self._protocol: UpstreamConnection = connection.protocol
        self._payload: StreamReader = EMPTY_PAYLOAD
        self._message: RawResponseMessage | None = None
        self._upload: asyncio.Task[None] | None = None
        self._fields: Fields = ()
        self._length: int | None = None
        self._is_delimited_by_close = False
        self._may_send = asyncio.Event()

    @property
    def status(self) -> int:
        return self._head.code

    @property
    def reason(self) -> str:
        return self._head.reason

    @property
    def fields(self) -> Fields:
        return self._fields

    @property
    def length(self) -> int | None:
        return self._length

    @property
    def is_whole(self) -> bool:
        return self._payload.is_eof()

    @property
    def _head(self) -> RawResponseMessage:
        if self._message is None:
            raise RuntimeError("the response has no head yet")
        return self._message

    async def exchange_heads(self, request: UpstreamRequest) -> None:
        """Send `request`, or as much of it as goes before the response begins, and read the response's head."""
        protocol, transport = self._protocol, self._protocol.transport
        if transport is None:
            raise UpstreamError(Failure.CONNECTION_TERMINATED)
        protocol.set_response_params(
            skip_payload=request.method == "HEAD",
            read_until_eof=True,
            auto_decompress=False,
            read_bufsize=_READ_BUFFER_BYTES,
            max_line_size=_LINE_BYTES_AT_MOST,
            max_field_size=_LINE_BYTES_AT_MOST,
            max_headers=_FIELDS_AT_MOST,
        )
        head = self._leg.head_of(request)
        if isinstance(request.body, bytes):
            request.when_whole()
            transport.write(head + request.body)
            await self._read_head(request)
        else:
            transport.write(head)
            await self._read_head_while_sending(request, request.body)
        self._length = None if self._head.chunked else _length_of(self._fields)
        self._is_delimited_by_close = self._length is None and not self._head.chunked
        if request.method == "HEAD" and _is_persistent(self._head, self._fields):
            self._protocol.stay_open()

    async def read(self) -> bytes:
        try:
            if self.is_whole:
                piece = await self._payload.readany()
            else:
                # aiohttp's own timer takes any byte for progress, and chunk extensions may go on for ever.
                async with _limited(self._leg.idle_timeout_s, Failure.CONNECTION_READ_TIMEOUT):
                    piece = await self._payload.readany()
            if not piece and self._is_delimited_by_close and isinstance(error := self._protocol.exception(), OSError):
                # RFC 9112, 8: a body that only the end of its connection delimits is whole if that end was orderly.
                raise error
        except HttpProcessingError as error:
            raise UpstreamError(Failure.HTTP_PROTOCOL_ERROR) from error
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamError(Failure.HTTP_RESPONSE_INCOMPLETE) from error
        return piece

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        is_sent = self._upload is None or (
            self._upload.done() and not self._upload.cancelled() and self._upload.exception() is None
        )
        if self._upload is not None:
            self._upload.cancel()
        if not is_sent:
            # What is still to go out must not: the end of it would make the request whole.
            self._protocol.abort()
        is_reusable = is_sent and self._message is not None and self._payload.is_eof()
        self._leg.release(connection, is_reusable=is_reusable)

    async def _read_head_while_sending(self, request: UpstreamRequest, body: AsyncIterator[bytes]) -> None:
        """Read the head while `body` is still going out: an upstream may answer before it has read all of it."""
        self._upload = asyncio.create_task(self._send_body(request, body))
        head = asyncio.create_task(self._next_head(request))
        if request.asks_first:
            patience = asyncio.get_running_loop().call_later(_CONTINUE_WITHIN_S, self._may_send.set)
            head.add_done_callback(lambda _: patience.cancel())
        else:
            self._may_send.set()
        try:
            await asyncio.wait({self._upload, head}, return_when=asyncio.FIRST_COMPLETED)
            if self._upload.done() and not (head.done() and head.exception() is None):
                self._upload.result()  # raises what went wrong with the body, for which there will be no answer
            if not head.done():
                async with _limited(self._leg.response_timeout_s, Failure.HTTP_RESPONSE_TIMEOUT):
                    await head
            head.result()
        finally:
            head.cancel()
            with suppress(asyncio.CancelledError, UpstreamError):
                await head

    async def _send_body(self, request: UpstreamRequest, body: AsyncIterator[bytes]) -> None:
        writer = StreamWriter(self._protocol, asyncio.get_running_loop())
        if request.length is None:
            writer.enable_chunking()
        while not self._may_send.is_set():
            await self._may_send.wait()
        async for piece in body:
            if not await self._is_taken(writer.write(piece)):
                return
        request.when_whole()
        await self._is_taken(writer.write_eof())

    async def _is_taken(self, writing: Awaitable[None]) -> bool:
        """Await `writing` and return whether the upstream still takes what it is sent.

        Where it has closed its end it perhaps answered first; reading the head will tell.

        Raises:
            UpstreamError: it has read nothing for too long.
        """
        try:
            # With the response here, what the upstream does not read of the request is its own affair.
            with Watch(self._protocol.transport, self._leg.idle_timeout_s, lambda: self._message is not None):
                await writing
        except StalledError as error:
            raise UpstreamError(Failure.CONNECTION_WRITE_TIMEOUT) from error
        except OSError:
            return False
        return True

    async def _read_head(self, request: UpstreamRequest) -> None:
        async with _limited(self._leg.response_timeout_s, Failure.HTTP_RESPONSE_TIMEOUT):
            await self._next_head(request)

    async def _next_message(self) -> tuple[RawResponseMessage, StreamReader]:
        try:
            return await self._protocol.read()
        except HttpProcessingError as error:
            raise UpstreamError(Failure.HTTP_PROTOCOL_ERROR) from error
        except (aiohttp.ClientError, OSError) as error:
            if isinstance(error.__cause__, ssl.SSLError):
                # TLS 1.3 tells of a client certificate that it misses behind the handshake.
                raise UpstreamError(Failure.TLS_PROTOCOL_ERROR) from error
            raise UpstreamError(Failure.CONNECTION_TERMINATED) from error

    async def _next_head(self, request: UpstreamRequest) -> None:
        """Read heads until one is final, and hand on those before it."""
        interim_bytes = 0
        for _ in range(_INTERIM_RESPONSES_AT_MOST):
            message, payload = await self._next_message()
            fields = headers.named(message.raw_headers)
            if fields is None or not headers.is_chunked_alone(fields):
                break
            if not headers.is_valid(message.reason.encode("utf-8", "surrogateescape"), fields):
                break
            if message.version.major != 1:
                break
            if message.code >= 200:  # noqa: PLR2004 - RFC 9110, 15.2: 1xx is interim
                self._message, self._payload, self._fields = message, payload, fields
                # An answer before any `100` does without the body: it is never read then.
                self._may_send.clear()
                return
            interim_bytes += headers.size(fields)
            if (
                message.code == 101  # noqa: PLR2004 - an upgrade that nobody asked for
                or interim_bytes > _INTERIM_BYTES_AT_MOST
                or message.chunked
                or _length_of(fields)
            ):
                # RFC 9110, 8.6 and RFC 9112, 6.1: nor has an interim response a body.
                break
            if message.code == 100:  # noqa: PLR2004 - RFC 9110, 15.2.1: an answer to our own `Expect`, or to nothing
                self._may_send.set()
            else:
                request.when_interim(message.code, message.reason, fields)
        raise UpstreamError(Failure.HTTP_PROTOCOL_ERROR)


def _is_persistent(message: RawResponseMessage, fields: Fields) -> bool:
    """Whether the connection outlives `message` (RFC 9112, 9.3); one of HTTP/1.0 never does."""
    options = headers.joined(fields, b"connection").lower().split(",")
    return message.version >= HttpVersion11 and "close" not in {option.strip(" \t") for option in options}


def _length_of(fields: Fields) -> int | None:
    """Return the length of a body as `fields` announce it; RFC 9112, 6.3: it counts where the body is not chunked."""
    lengths = {value.decode("latin-1") for value in headers.values(fields, b"content-length")}
    if not lengths:
        return None
    if len(lengths) > 1 or not headers.is_length(length := lengths.pop()):
        raise UpstreamError(Failure.HTTP_PROTOCOL_ERROR)
    return int(length)


@asynccontextmanager
async def _limited(seconds: float, failure: Failure) -> AsyncIterator[None]:
    """Let the block take no longer than `seconds`; a timeout of its own making becomes `failure`."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise UpstreamError(failure) from error
