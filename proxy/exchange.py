"""The main path: one request in, one response out."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from email.utils import formatdate
from functools import partial
from http import HTTPStatus
from random import getrandbits
from time import perf_counter, time
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from proxy.core import check, headers, rewrite, tags
from proxy.core.accept import prefers_problem
from proxy.core.catalog import METHODS, UNKNOWN, Operation
from proxy.core.codes import may_blame_body
from proxy.core.coding import UndecodableError
from proxy.core.envelope import parse_id
from proxy.core.failure import Failure
from proxy.core.masking import credentials_of, is_clean
from proxy.core.model import Action, ErrorTag, Mode, Outcome, Suspect, TargetId
from proxy.core.normalise import ErrorResponse, Form, Rules, answer_to, problem_of
from proxy.core.recode import Recoder, TruncatedError
from proxy.core.replies import refuse, reply_of
from proxy.errors import place_of
from proxy.listener import Response
from proxy.progress import StalledError
from proxy.upstream import SAFE_METHODS, UpstreamError, UpstreamRequest, UpstreamResponse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from proxy.core.catalog import Catalog
    from proxy.core.codes import ErrorCodes
    from proxy.core.model import Fields, Reply
    from proxy.core.shapes import Shapes
    from proxy.listener import Request
    from proxy.settings import Settings
    from proxy.telemetry import Telemetry
    from proxy.tracing import Tracer
    from proxy.upstream import Upstream

# A body above this is checked in a thread: below, the check takes less than switching to one does. So is a coded one of
# any size, as a few hundred bytes may become a megabyte.
_CHECKED_IN_THREAD_ABOVE_BYTES: Final = 32 * 1024

_T = TypeVar("_T")

_FIRST_ERROR_STATUS: Final = 400

# What aiohttp's parser makes of a body that breaks its framing.
_MALFORMED: Final = (web.RequestPayloadError, HttpProcessingError)
_NOT_MODIFIED: Final = 304

# RFC 9112, 3.2.2: in absolute-form the authority is part of the target; which host is asked stays ours to say.
_ABSOLUTE_FORM: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+.\-]*://[^/?]*")

# W3C Trace Context, 3.2: version, trace ID, parent ID, flags.
# An ID of zeros alone, and the version ff, are invalid.
_TRACEPARENT: Final = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")


class RefusedError(Exception):
    """The request cannot be carried, for a reason of its own."""

    def __init__(self, failure: Failure, detail: str = "") -> None:
        super().__init__(failure.label)
        self.failure = failure
        self.detail = detail


class _Content(NamedTuple):
    """What goes out of a response: fields, length, as much of the body as is here, and what rewrites the rest."""

    fields: Fields
    length: int | None
    begun: bytes = b""
    is_whole: bool = False
    recoder: Recoder | None = None


class Traffic:
    """How many exchanges are under way, whatever settings they began with, and the turn of those that take long.

    One of those at a time runs in a thread: of two, neither would be done sooner, and the event loop would wait for
    both of them.
    """

    __slots__ = ("_turn", "in_flight")

    def __init__(self) -> None:
        self.in_flight = 0
        self._turn = asyncio.Semaphore()

    async def in_thread(self, function: Callable[[], _T]) -> _T:
        """Return what `function` returns in a thread, when its turn has come."""
        async with self._turn:
            return await asyncio.to_thread(function)


class Exchange:
    """Carries requests to one upstream by one catalog and one set of settings."""

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        codes: ErrorCodes,
        shapes: Shapes,
        upstream: Upstream,
        telemetry: Telemetry,
        traffic: Traffic,
        tracer: Tracer | None = None,
    ) -> None:
        self.settings = settings
        self.catalog = catalog
        self.codes = codes
        self.shapes = shapes
        self.upstream = upstream
        self.telemetry = telemetry
        self.traffic = traffic
        self.tracer = tracer
        self.origin = rewrite.origin_of(settings.upstream.url)

    def __call__(self, request: Request) -> Awaitable[None]:
        """Carry one request to the upstream and its answer back, and tell of it."""
        return _Course(self, request).run()

    def refuse(self, failure: Failure) -> Reply:
        """Return the reply to bytes that never became a request, and count it as an exchange."""
        reply = reply_of(failure, new_target())
        request_id = _new_uuid()
        self.telemetry.record(
            Outcome(
                method="", operation=UNKNOWN.name, route=UNKNOWN.template, status=reply.status, request_id=request_id,
                duration_s=0, upstream_s=None, overhead_s=0, request_bytes=0, response_bytes=len(reply.body),
                error=reply.tag, failure=failure,
            )
        )  # fmt: skip
        names = self.settings.headers
        ours = ((names.request_id, request_id), *tags.error_fields(reply.tag, names))
        return replace(reply, fields=headers.replaced((_date(), *reply.fields), ours))

    def mode_of(self, operation: Operation) -> Mode:
        """Return what is done with a mismatch in a body of `operation`."""
        return self.settings.check.operations.get(operation.name, self.settings.check.mode)


class _Course:
    """The course of one exchange: what is known of it so far, and the steps still to take."""

    __slots__ = (
        *("_checked", "_defect", "_exchange", "_failure", "_fields", "_forwarded", "_is_asked_for_body", "_operation"),
        *("_outgoing", "_request", "_request_bytes", "_request_id", "_resend", "_response_bytes", "_settings"),
        *("_started", "_status", "_suspects", "_tag", "_trace", "_upstream_s", "_waited_s"),
    )

    def __init__(self, exchange: Exchange, request: Request) -> None:
        self._exchange = exchange
        self._settings = exchange.settings
        self._request = request
        self._fields = request.fields
        self._operation = UNKNOWN
        self._checked = check.UNCHECKED
        self._forwarded = b""
        self._suspects: tuple[Suspect, ...] = ()
        self._started = perf_counter()
        self._waited_s = 0.0
        self._upstream_s: float | None = None
        self._request_bytes = 0
        self._response_bytes = 0
        self._status: int | None = None
        self._tag: ErrorTag | None = None
        self._failure: Failure | None = None
        self._resend: str | None = None
        self._defect: str | None = None
        self._outgoing: Response | None = None
        self._is_asked_for_body = not _expects_continue(request)
        self._request_id = _request_id(self._fields)
        self._trace = None if exchange.tracer is None else exchange.tracer.begin(request)

    async def run(self) -> None:
        """Take the request through check, upstream and normalisation, answer it whatever happens, and tell of it."""
        exchange = self._exchange
        exchange.traffic.in_flight += 1
        try:
            await self._run()
        finally:
            exchange.traffic.in_flight -= 1
            outcome = self._outcome()
            exchange.telemetry.record(outcome)
            if self._trace is not None:
                self._trace.end(outcome)

    async def _run(self) -> None:
        try:
            self._screen()
            await self._answer()
        except RefusedError as error:
            self._failure = error.failure
            await self._give(reply_of(error.failure, new_target(), detail=error.detail))
        except UpstreamError as error:
            self._failure = error.failure
            await self._give(reply_of(error.failure, new_target()))
        except asyncio.CancelledError:
            if not self._request.connection.is_given_up:
                self._failure = self._failure or Failure.CLIENT_DISCONNECTED
                raise
            self._failure = self._failure or Failure.SHUTTING_DOWN
            if self._status is not None:
                # Half a response is out.
                self._break_off()
                raise
            await self._give(reply_of(Failure.SHUTTING_DOWN, new_target()))
        except StalledError:
            self._failure = Failure.CLIENT_WRITE_TIMEOUT
            raise
        except ConnectionError:
            # Nobody is left to read an answer.
            self._failure = self._failure or Failure.CLIENT_DISCONNECTED
            raise
        except Exception as error:
            # The last resort: a defect of ours. Only its kind and place are told, as its text may quote the request.
            self._failure = Failure.INTERNAL_ERROR
            self._defect = place_of(error)
            if self._status is not None:
                self._break_off()
                raise ConnectionAbortedError from error
            await self._give(reply_of(Failure.INTERNAL_ERROR, new_target()))

    async def _answer(self) -> None:
        """Answer a request that may be carried, with what the upstream says of it if that is asked."""
        target = self._target()
        if self._request.method == "OPTIONS" and headers.max_forwards(self._fields) == 0:
            await self._answer_options()
            return
        self._operation = self._exchange.catalog.match(self._request.method, target.decode("latin-1"))
        body = await self._checked_body()
        if self._checked.action is Action.REJECTED:
            await self._give(refuse(self._operation, self._checked, new_target()))
            return
        response = await self._send(target, body)
        try:
            await self._relay(response)
        finally:
            response.close()
            if not isinstance(body, bytes):
                await response.upload_ended()

    def _outcome(self) -> Outcome:
        """Return all that is known, once the exchange is over."""
        duration_s = perf_counter() - self._started
        checked = self._checked
        return Outcome(
            method=self._request.method,
            operation=self._operation.name,
            route=self._operation.template,
            status=self._status,
            request_id=self._request_id,
            duration_s=duration_s,
            upstream_s=self._upstream_s,
            overhead_s=max(0.0, duration_s - self._waited_s),
            request_bytes=self._request_bytes,
            response_bytes=self._response_bytes,
            mode=self._exchange.mode_of(self._operation),
            body_result=checked.result,
            findings=checked.findings,
            action=checked.action,
            error=self._tag,
            failure=self._failure,
            resend=self._resend,
            defect=self._defect,
            trace_id=_trace_id(self._fields) if self._trace is None else self._trace.trace_id,
            not_fixed=checked.not_fixed,
            suspects=self._suspects,
            doc=self._operation.doc,
        )

    def _screen(self) -> None:
        """Refuse what may not be forwarded."""
        request, limits = self._request, self._settings.limits
        if self._exchange.traffic.in_flight > self._settings.downstream.max_in_flight:
            raise RefusedError(Failure.OVERLOADED)
        fields = self._fields
        if request.method not in METHODS:
            raise RefusedError(Failure.METHOD_REFUSED)
        if not headers.is_chunked_alone(fields):
            raise RefusedError(Failure.CODING_REFUSED)
        if request.version[0] != 1 or (not request.is_http_11 and headers.values(fields, b"transfer-encoding")):
            # RFC 9112, 6.1: in HTTP/1.0 that field has no meaning that both sides would share.
            raise RefusedError(Failure.MALFORMED_REQUEST)
        if isinstance(request.content.exception(), _MALFORMED):
            # It is known to be malformed before any of it was sent.
            raise RefusedError(Failure.MALFORMED_REQUEST)
        if any(host and not headers.is_authority(host) for host in headers.values(fields, b"host")):
            # RFC 9112, 3.2.
            raise RefusedError(Failure.MALFORMED_REQUEST, "Its Host must be a host and, if need be, a port.")
        if headers.leads_back(fields):
            raise RefusedError(Failure.LOOP_DETECTED)
        if limits.body_bytes and (request.length or 0) > limits.body_bytes:
            raise RefusedError(Failure.BODY_TOO_LARGE)

    def _target(self) -> bytes:
        """Return the request target in origin-form, byte for byte."""
        target = self._request.target
        is_options = self._request.method == "OPTIONS"
        if (authority := _ABSOLUTE_FORM.match(target)) is not None:
            target = target[authority.end() :]
            if not target.startswith(b"/"):
                # RFC 9112, 3.2.4: the server as a whole is meant where an OPTIONS names no path.
                target = b"*" if is_options and not target else b"/" + target
        if is_options and target == b"*":
            return target
        if not target.startswith(b"/") or b"#" in target:
            raise RefusedError(Failure.MALFORMED_REQUEST, "Its target must be a path that starts with '/'.")
        return target

    async def _checked_body(self) -> bytes | AsyncIterator[bytes]:
        """Return the body to forward: whole once it was checked, else as the stream that it comes in."""
        if not self._request.has_body:
            return b""
        mode = self._exchange.mode_of(self._operation)
        shape = self._operation.body
        if shape is None or not self._operation.is_checked or mode is Mode.OFF:
            return self._unchecked_body()
        if not check.may_be_json(self._fields):
            self._checked = check.NOT_JSON
            return self._unchecked_body()
        limit_bytes = self._settings.check.max_body_bytes
        if (self._request.length or 0) > limit_bytes:
            self._checked = check.TOO_LARGE
            return self._unchecked_body()
        body, is_whole = await self._read_up_to(limit_bytes)
        if not is_whole:
            self._checked = check.TOO_LARGE
            return self._pieces(body)
        arguments = (body, self._fields, shape, mode)
        if self._takes_long(body):
            self._checked = await self._exchange.traffic.in_thread(
                partial(check.check, *arguments, limit_bytes=limit_bytes)
            )
        else:
            self._checked = check.check(*arguments, limit_bytes=limit_bytes)
        # It is held until it was sent in any case; of a body that was streamed nothing is kept.
        self._forwarded = body if self._checked.fixed_body is None else self._checked.fixed_body
        return self._forwarded

    def _takes_long(self, body: bytes) -> bool:
        return len(body) > _CHECKED_IN_THREAD_ABOVE_BYTES or headers.is_coded(self._fields)

    async def _suspects_of(self, error: ErrorTag, status: int) -> tuple[Suspect, ...]:
        """Return what in the body may have led to the upstream's `error`, if it is one that a body can lead to."""
        body, shape = self._forwarded, self._operation.body
        if not body or shape is None or not may_blame_body(error.label, status):
            return ()
        limit_bytes = self._settings.check.max_body_bytes
        if self._takes_long(body):
            return await self._exchange.traffic.in_thread(
                partial(check.suspects, body, self._fields, shape, limit_bytes=limit_bytes)
            )
        return check.suspects(body, self._fields, shape, limit_bytes=limit_bytes)

    def _unchecked_body(self) -> bytes | AsyncIterator[bytes]:
        """Return the body as the stream that it is, or whole where it is here already and streaming would only cost."""
        body = None if self._request.length is None else self._body_at_hand()
        return self._pieces() if body is None else body

    def _body_at_hand(self) -> bytes | None:
        """Return the body if all of it is here already; None if it is still to be waited for, or asked for."""
        content = self._request.content
        if not (content.is_eof() and self._is_asked_for_body):
            return None
        body = content.read_nowait()
        self._count_received(len(body))
        return body

    def _count_received(self, size: int) -> None:
        """Count `size` more bytes of the request's body.

        Raises:
            RefusedError: it is larger than the limit.
        """
        self._request_bytes += size
        limit_bytes = self._settings.limits.body_bytes
        if limit_bytes and self._request_bytes > limit_bytes:
            raise RefusedError(Failure.BODY_TOO_LARGE)

    async def _read_up_to(self, limit_bytes: int) -> tuple[bytes, bool]:
        """Return the body so far and whether that is all of it; it stops at the first piece past `limit_bytes`."""
        if (body := self._body_at_hand()) is not None:
            return body, len(body) <= limit_bytes
        pieces: list[bytes] = []
        async for piece in self._pieces():
            pieces.append(piece)
            if self._request_bytes > limit_bytes:
                return b"".join(pieces), False
        return b"".join(pieces), True

    async def _pieces(self, first: bytes = b"") -> AsyncIterator[bytes]:
        """Yield the request body as it arrives, behind the part of it that was read before.

        Raises:
            RefusedError: it is malformed, larger than the limit, or stops for longer than it may.
            ConnectionError: the client has left.
        """
        if first:
            yield first
        elif not self._is_asked_for_body and self._request.transport is not None:
            # RFC 9110, 10.1.1: the client waits for this; nobody has asked for its body before now.
            self._is_asked_for_body = True
            self._request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while piece := await self._next_piece():
            self._count_received(len(piece))
            yield piece

    async def _next_piece(self) -> bytes:
        """Return what is here of the request's body, or what comes next; `b""` at its end.

        Raises:
            RefusedError: it is malformed, or stops for longer than it may.
        """
        content = self._request.content
        try:
            if (piece := content.read_nowait()) or content.is_eof():
                return piece
            began = perf_counter()
            try:
                async with asyncio.timeout(self._settings.downstream.body_timeout_s):
                    return await content.readany()
            finally:
                self._waited_s += perf_counter() - began
        except TimeoutError as error:
            raise RefusedError(Failure.REQUEST_TIMEOUT) from error
        except _MALFORMED as error:
            raise RefusedError(Failure.MALFORMED_REQUEST) from error

    async def _send(self, target: bytes, body: bytes | AsyncIterator[bytes]) -> UpstreamResponse:
        """Send the request upstream and return its response, head read."""
        request = self._request
        length: int | None = request.length
        if isinstance(body, bytes) and (body or length is not None):
            length = len(body)
        began = perf_counter()
        waited_s = self._waited_s
        try:
            response = await self._exchange.upstream.send(
                UpstreamRequest(
                    request.method,
                    target,
                    self._onward_fields(),
                    body,
                    length,
                    self._request_is_complete,
                    self._pass_interim,
                    self._note_resend,
                    asks_first=not (isinstance(body, bytes) or self._is_asked_for_body),
                )
            )
        finally:
            self._upstream_s = perf_counter() - began
            self._waited_s = waited_s + self._upstream_s
        return response

    def _onward_fields(self) -> Fields:
        """Return the fields that go on with the request."""
        version = b"1.1" if self._request.is_http_11 else b"1.0"
        fields = headers.end_to_end_request(self._fields, version)
        if self._trace is not None:
            fields = self._trace.onward(fields)
        left = headers.max_forwards(self._fields) if self._request.method == "OPTIONS" else None
        return fields if left is None else headers.set_in_place(fields, b"Max-Forwards", b"%d" % (left - 1))

    def _note_resend(self, failure: Failure) -> None:
        self._resend = failure.label

    def _pass_interim(self, status: int, reason: str, fields: Fields) -> None:
        """Pass an interim response on, but to a client of HTTP/1.0, which knows none (RFC 9110, 15.2)."""
        transport = self._request.transport
        if transport is not None and self._request.is_http_11:
            start_line = b"HTTP/1.1 %d " % status + reason.encode("utf-8", "surrogateescape")
            transport.write(headers.head(start_line, headers.end_to_end_response(fields)))

    def _break_off(self) -> None:
        if self._outgoing is not None:
            self._outgoing.break_off()

    def _request_is_complete(self) -> None:
        """Go on without the client from here, if the request may change something.

        It will be carried out whether the client waits for it or not, and what became of it is to be in the log.
        """
        if self._request.method not in SAFE_METHODS:
            self._request.connection.carry_on()

    async def _relay(self, response: UpstreamResponse) -> None:
        """Pass the upstream's response on, tagged if it is an error."""
        fields = self._relocated(headers.end_to_end_response(response.fields))
        if response.status >= _FIRST_ERROR_STATUS:
            content = await self._error_content(response, fields)
        elif self._may_page:
            content = await self._page_content(response, fields)
        elif response.is_whole:
            # It goes out in one piece with its head.
            content = _Content(fields, response.length, response.read_whole(), is_whole=True)
        else:
            content = _Content(fields, response.length)
        whole = content.begun if content.is_whole else b""
        outgoing = Response(
            self._request,
            response.status,
            response.reason,
            self._tagged(content.fields),
            content.length,
            # RFC 9110, 10.1.1: whether a body that was not asked for comes all the same is up to the client.
            is_last=self._request.has_body and not self._is_asked_for_body,
        )
        self._outgoing = outgoing
        self._status = response.status
        self._response_bytes = len(content.begun)
        if not content.is_whole:
            await self._stream(response, outgoing, content.begun, content.recoder)
        await outgoing.end(whole)

    async def _error_content(self, response: UpstreamResponse, fields: Fields) -> _Content:
        """Return what the client is to get of an error, and tag it."""
        body, is_whole = await self._error_body(response)
        is_cut = self._failure is not None
        reply = await self._made_whole(response, fields, body if is_whole else None, is_cut=is_cut)
        self._tag = reply.tag
        self._suspects = await self._suspects_of(reply.tag, response.status)
        if not is_whole or (is_cut and not reply.body):
            # It stays as it is; of one that is cut the client has to see that it is not whole.
            return _Content(reply.fields, response.length, body)
        length: int | None = len(reply.body)
        if self._request.method == "HEAD" and not reply.body:
            media_type = headers.values(fields, b"content-type")
            # The length of another body says nothing of this one's.
            length = response.length if headers.values(reply.fields, b"content-type") == media_type else None
        return _Content(reply.fields, length, reply.body, is_whole=True)

    async def _page_content(self, response: UpstreamResponse, fields: Fields) -> _Content:
        """Return what the client is to get of an answer that may link to a next page."""
        recoder = self._recoder(response.status, fields)
        if recoder is None:
            return _Content(fields, None if response.status == _NOT_MODIFIED else response.length)
        # A part of what the upstream has would not fit to the rest of what the client got. `ETag` stays: it is what the
        # upstream compares `If-Match` and `If-None-Match` with (RFC 9110, 13.1).
        fields = headers.without(fields, b"accept-ranges")
        if response.is_whole and self._request.method != "HEAD":
            body = await self._rewritten(response, recoder)
            return _Content(fields, len(body), body, is_whole=True)
        # Nobody knows its length before the body was read (RFC 9110, 8.6), and so neither HEAD nor 304 tells one.
        return _Content(fields, None, recoder=recoder)

    async def _made_whole(
        self, response: UpstreamResponse, fields: Fields, body: bytes | None, *, is_cut: bool
    ) -> Reply:
        """Return an upstream's error in the form that the client is to get; `body` is None if it is not read whole."""
        exchange, errors = self._exchange, self._settings.errors
        is_head = self._request.method == "HEAD"
        error = ErrorResponse(
            response.status, response.reason, fields, body, is_head, is_cut, credentials_of(self._fields)
        )
        rules = Rules(exchange.codes, exchange.shapes, exchange.catalog.names, errors.max_body_bytes)
        form = self._form if errors.normalise and not headers.forbids_transform(self._fields) else Form.KEPT
        answer = partial(answer_to, error, rules, form, own_target=new_target(), now_s=time())
        if len(body or b"") > _CHECKED_IN_THREAD_ABOVE_BYTES or headers.is_coded(fields):
            return await self._exchange.traffic.in_thread(answer)
        return answer()

    @property
    def _form(self) -> Form:
        """The form that the client wants its errors in."""
        return Form.PROBLEM if prefers_problem(self._fields) else Form.ENVELOPE

    def _relocated(self, fields: Fields) -> Fields:
        """Return `fields` with what a client follows in them turned to the proxy's own address."""
        if self._settings.rewrite.location and rewrite.names_location(fields) and (own := self._own_address()):
            return rewrite.relocated(fields, self._exchange.origin, own)
        return fields

    def _own_address(self) -> bytes | None:
        """Return the proxy's own address as this client knows it; None where nothing tells."""
        transport = self._request.transport
        if transport is None:
            return None
        authority = rewrite.own_authority(self._request.target, headers.values(self._fields, b"host"))
        authority = authority or rewrite.authority_at(transport.get_extra_info("sockname"))
        scheme = b"http" if transport.get_extra_info("ssl_object") is None else b"https"
        return None if authority is None else scheme + b"://" + authority

    @property
    def _may_page(self) -> bool:
        """Whether links to next pages are to be turned where the response has any."""
        return self._operation.pages and self._settings.rewrite.next_link and self._request.method in {"GET", "HEAD"}

    def _recoder(self, status: int, fields: Fields) -> Recoder | None:
        """Return what turns the links in a body that comes with `status` and `fields`; None if nothing is to."""
        coding = rewrite.coding_of_page(status, fields)
        if coding is None or headers.forbids_transform(self._fields) or (own := self._own_address()) is None:
            return None
        return Recoder(coding, rewrite.LinkRewriter(self._exchange.origin, own))

    async def _rewritten(self, response: UpstreamResponse, recoder: Recoder) -> bytes:
        """Return a body that is here already with its links turned, or as it came if it has none."""
        pieces: list[bytes] = []
        turned: list[bytes] = []
        while piece := await response.read():
            pieces.append(piece)
            for part in _parts_of(recoder, piece):
                turned.append(part)
                await _give_way(recoder)
        turned.append(_end_of(recoder))
        return b"".join(turned if recoder.has_changed else pieces)

    async def _stream(
        self, response: UpstreamResponse, outgoing: Response, first: bytes, recoder: Recoder | None
    ) -> None:
        """Write the body piece by piece; the slower side sets the pace, and memory holds one piece.

        Raises:
            ConnectionError: either side broke off; the client sees that the response is not whole.
        """
        if first:
            await outgoing.write(first)
        elif not response.is_whole:
            outgoing.send_head()
        began = perf_counter()
        try:
            while piece := await response.read():
                if recoder is not None:
                    await self._pass_on(outgoing, recoder, piece)
                    continue
                self._response_bytes += len(piece)
                await outgoing.write(piece)
            if recoder is not None and (rest := _end_of(recoder)):
                self._response_bytes += len(rest)
                await outgoing.write(rest)
        except UpstreamError as error:
            # The head is out, so that no status can tell of this: ending the connection early has to.
            self._failure = error.failure
            outgoing.break_off()
            raise ConnectionAbortedError from error
        finally:
            streamed_s = perf_counter() - began
            self._waited_s += streamed_s
            self._upstream_s = (self._upstream_s or 0.0) + streamed_s

    async def _pass_on(self, outgoing: Response, recoder: Recoder, piece: bytes) -> None:
        """Write what `piece` becomes with its links turned."""
        began = perf_counter()
        for part in _parts_of(recoder, piece):
            # All that is streaming counts as waiting, but for this.
            self._waited_s -= perf_counter() - began
            if part:
                self._response_bytes += len(part)
                await outgoing.write(part)
            await _give_way(recoder)
            began = perf_counter()

    async def _error_body(self, response: UpstreamResponse) -> tuple[bytes, bool]:
        """Return as much of an error's body as may be held, and whether that is all there will be.

        That it stopped or broke off before its end is then known as the failure.
        """
        limit_bytes = self._settings.errors.max_body_bytes
        pieces: list[bytes] = []
        size = 0
        began = perf_counter()
        try:
            # One that comes byte by byte is passed on as it comes, so that it cannot hold back its own head for ever.
            while size <= limit_bytes and perf_counter() - began < self._settings.upstream.idle_timeout_s:
                piece = await response.read()
                if not piece:
                    return b"".join(pieces), True
                pieces.append(piece)
                size += len(piece)
            return b"".join(pieces), False
        except UpstreamError as error:
            self._failure = error.failure
            return b"".join(pieces), True
        finally:
            read_s = perf_counter() - began
            self._waited_s += read_s
            self._upstream_s = (self._upstream_s or 0.0) + read_s

    async def _answer_options(self) -> None:
        """Answer an OPTIONS that may not be forwarded any more as its final recipient (RFC 9110, 7.6.2)."""
        allow = (b"Allow", ", ".join(sorted(METHODS)).encode("ascii"))
        self._status = HTTPStatus.NO_CONTENT
        fields = self._tagged((_date(), allow))
        is_last = not self._request.content.is_eof()
        await Response(self._request, self._status, self._status.phrase, fields, 0, is_last=is_last).end()

    async def _give(self, reply: Reply) -> None:
        """Answer with a reply of the proxy's own."""
        if self._settings.errors.normalise and self._form is Form.PROBLEM:
            reply = problem_of(reply)
        self._tag = reply.tag
        self._status = reply.status
        self._response_bytes = len(reply.body)
        fields = self._tagged((_date(), *reply.fields))
        is_done = self._failure not in {Failure.METHOD_REFUSED, Failure.MALFORMED_REQUEST, Failure.CODING_REFUSED}
        # What follows would be the rest of a body that nobody wants or knows the end of (RFC 9112, 6.3), or the inside
        # of a tunnel that was refused.
        is_last = not (is_done and self._request.content.is_eof())
        outgoing = Response(self._request, reply.status, reply.reason, fields, len(reply.body), is_last=is_last)
        await outgoing.end(reply.body)

    def _tagged(self, fields: Fields) -> Fields:
        """Return `fields` with what the proxy has to say in headers."""
        names = self._settings.headers
        ours = [(names.request_id, self._request_id)]
        if self._tag is not None:
            ours += tags.error_fields(self._tag, names, fields)
        if self._checked.action in {Action.FIXED, Action.OBSERVED} and self._settings.check.report_header:
            ours.append((names.case_mismatch, tags.mismatch_field(self._checked.findings)))
        return headers.replaced(fields, ours)


def _parts_of(recoder: Recoder, piece: bytes) -> Iterator[bytes]:
    """Yield what `piece` becomes.

    Raises:
        UpstreamError: it is not in its coding.
    """
    try:
        yield from recoder.feed(piece)
    except UndecodableError as error:
        raise UpstreamError(Failure.HTTP_PROTOCOL_ERROR) from error


async def _give_way(recoder: Recoder) -> None:
    """Let others have their turn, however much a piece expands to."""
    if recoder.is_coded:
        await asyncio.sleep(0)


def _end_of(recoder: Recoder) -> bytes:
    """Return the end of a rewritten body.

    Raises:
        UpstreamError: it ended too early, by its coding.
    """
    try:
        return recoder.end()
    except TruncatedError as error:
        raise UpstreamError(Failure.HTTP_RESPONSE_INCOMPLETE) from error


def new_target() -> TargetId:
    """Return a target ID for an error that has none."""
    return TargetId(_new_uuid())


def _new_uuid() -> str:
    """Return a random UUID (RFC 9562, 5.4) as text; the standard library's takes several times as long."""
    digits = f"{getrandbits(128):032x}"
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def _request_id(fields: Fields) -> str:
    """Return the client's own ID for the request where it sent one that may stand in a header, else a new one."""
    for name in (b"x-request-id", b"client-request-id"):
        for value in headers.values(fields, name):
            if (request_id := parse_id(value.decode("latin-1"))) is not None and is_clean(request_id):
                return request_id
    return _new_uuid()


def _trace_id(fields: Fields) -> str | None:
    for value in headers.values(fields, b"traceparent"):
        if (match := _TRACEPARENT.fullmatch(value.decode("latin-1"))) is not None:
            return match[1]
    return None


def _expects_continue(request: Request) -> bool:
    if not headers.values(request.fields, b"expect"):
        return False
    listed = headers.joined(request.fields, b"expect").lower().split(",")
    return request.is_http_11 and "100-continue" in {member.strip(" \t") for member in listed}


def _date() -> tuple[bytes, bytes]:
    return b"Date", formatdate(usegmt=True).encode("ascii")
