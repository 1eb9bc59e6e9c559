"""Spans of exchanges, exported over OTLP: all that the proxy knows of OpenTelemetry, imported only where it is wanted.

An exchange is a SERVER span, its upstream leg a CLIENT span below it, in the stable semantic conventions for HTTP but
for `url.path`, `url.full`, `client.address` and the like: paths hold the names of machines and users, and what is not
logged is not exported either.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import asynccontextmanager
from time import time_ns
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode, format_trace_id, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from requests import Session

from proxy import __version__
from proxy.core import headers, tags
from proxy.core.catalog import METHODS, UNKNOWN
from proxy.core.model import Origin

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from opentelemetry.trace import Span
    from opentelemetry.trace import Tracer as SpanMaker

    from proxy.core.model import Fields, Outcome
    from proxy.listener import Request

    _Attributes = dict[str, str | int]

_SERVICE: Final = "defender-sidecar"
_SCHEMA: Final = "https://opentelemetry.io/schemas/1.23.0"
"""The first version in which the conventions for HTTP are stable."""

_TRACES_PATH: Final = "/v1/traces"
_TRACEPARENT: Final = "traceparent"
_TRACESTATE: Final = "tracestate"
_PROPAGATOR: Final = TraceContextTextMapPropagator()

_KNOWN_METHODS: Final = METHODS | {"CONNECT", "TRACE"}
_OTHER_METHOD: Final = "_OTHER"
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_FIRST_CLIENT_ERROR: Final = 400
_FIRST_SERVER_ERROR: Final = 500

_LAST_SPANS_S: Final = 2.0
_LAST_WORDS_S: Final = 0.25
_LOOKED_EACH_S: Final = 0.01

# They warn of what a client sent, at each of its requests: the exchange goes on in a trace of its own.
_ABOUT_CLIENTS: Final = ("opentelemetry.trace.span", "opentelemetry.trace.propagation.tracecontext")


class Tracing:
    """Exports spans for as long as a proxy runs. Use `opened` to make one."""

    def __init__(self, endpoint: str | None) -> None:
        session = Session()
        # Neither an egress proxy nor a .netrc of the environment is between a process and its collector.
        session.trust_env = False
        self._exporter = OTLPSpanExporter(None if endpoint is None else endpoint + _TRACES_PATH, session=session)
        self._provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._spans = self._provider.get_tracer(_SERVICE, __version__, _SCHEMA)

    @classmethod
    @asynccontextmanager
    async def opened(cls, endpoint: str | None) -> AsyncIterator[Tracing]:
        """Yield one that exports to `endpoint`, a base URL; None is for what the `OTEL_…` variables say.

        Leaving exports what is left, for as long as a collector that is slow or gone deserves.

        Raises:
            ValueError: a variable holds what the SDK cannot take; the text says which.
        """
        levels = {name: logging.getLogger(name).level for name in _ABOUT_CLIENTS}
        tracing = cls(endpoint)
        for name in levels:
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            yield tracing
        finally:
            await tracing._close()
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)

    def towards(self, upstream_url: str, *, is_tls: bool) -> Tracer:
        """Return what traces exchanges with the upstream at `upstream_url`; `is_tls` is said of the clients' side."""
        return Tracer(self._spans, upstream_url, is_tls=is_tls)

    async def _close(self) -> None:
        # A thread of its own, as the loop would wait for those of its pool without a limit.
        closing = threading.Thread(target=self._provider.shutdown, name="last-spans", daemon=True)
        closing.start()
        if not await _ends(closing, _LAST_SPANS_S):
            # It stops trying again, and tells while there is a log to tell it to.
            self._exporter.shutdown()  # type: ignore[no-untyped-call] # the library has no types for it
            await _ends(closing, _LAST_WORDS_S)


async def _ends(thread: threading.Thread, within_s: float) -> bool:
    """Whether `thread` ends in time; it is waited for until then."""
    loop = asyncio.get_running_loop()
    until = loop.time() + within_s
    while thread.is_alive() and loop.time() < until:  # noqa: ASYNC110 - a thread sets no event of a loop
        await asyncio.sleep(_LOOKED_EACH_S)
    return not thread.is_alive()


class Tracer:
    """Begins the traces of exchanges with one upstream."""

    __slots__ = ("_scheme", "_spans", "_upstream")

    def __init__(self, spans: SpanMaker, upstream_url: str, *, is_tls: bool) -> None:
        url = urlsplit(upstream_url)
        self._spans = spans
        self._scheme = "https" if is_tls else "http"
        self._upstream: _Attributes = {
            "server.address": url.hostname or "",
            "server.port": url.port or _DEFAULT_PORTS[url.scheme],
            "url.scheme": url.scheme,
            # What the leg speaks, whatever the client does.
            "network.protocol.version": "1.1",
        }

    def begin(self, request: Request) -> Trace:
        """Return the trace of an exchange that begins now, within the one that `request` names if any."""
        known = request.method if request.method in _KNOWN_METHODS else _OTHER_METHOD
        attributes: _Attributes = {
            "http.request.method": known,
            "url.scheme": self._scheme,
            "network.protocol.name": "http",
            "network.protocol.version": "1.1" if request.is_http_11 else "1.0",
        }
        name = "HTTP" if known == _OTHER_METHOD else known
        server = self._spans.start_span(name, _context_of(request.fields), SpanKind.SERVER, attributes)
        return Trace(self._spans, server, name, {"http.request.method": known, **self._upstream})


class Trace:
    """The spans of one exchange."""

    __slots__ = ("_client", "_client_began_ns", "_name", "_server", "_spans", "_upstream")

    def __init__(self, spans: SpanMaker, server: Span, name: str, upstream: _Attributes) -> None:
        self._spans = spans
        self._server = server
        self._name = name
        self._upstream = upstream
        self._client: Span | None = None
        self._client_began_ns = 0

    @property
    def trace_id(self) -> str | None:
        """The trace's ID in hexadecimal digits; None where OTEL_SDK_DISABLED leaves a request without one."""
        context = self._server.get_span_context()
        return format_trace_id(context.trace_id) if context.is_valid else None

    def onward(self, fields: Fields) -> Fields:
        """Return `fields` as they go on with the request, which is to be sent now: the leg's span is the parent.

        Where a safe method is sent a second time, both are of this one span.
        """
        self._client_began_ns = time_ns()
        self._client = self._spans.start_span(
            self._name,
            set_span_in_context(self._server, Context()),
            SpanKind.CLIENT,
            self._upstream,
            start_time=self._client_began_ns,
        )
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier, set_span_in_context(self._client, Context()))
        if not carrier:
            return fields
        return headers.replaced(headers.without(fields, _TRACESTATE.encode("ascii")), carrier.items())

    def end(self, outcome: Outcome) -> None:
        """End the spans of an exchange that is over."""
        if self._client is not None:
            self._end_client(self._client, outcome)
        server = self._server
        if server.is_recording():
            if outcome.operation != UNKNOWN.name:
                server.update_name(f"{self._name} {outcome.route}")
            server.set_attributes(_server_attributes(outcome))
            _tell_error(server, _server_error(outcome), outcome)
        server.end()

    def _end_client(self, client: Span, outcome: Outcome) -> None:
        if client.is_recording():
            if outcome.operation != UNKNOWN.name:
                client.update_name(f"{self._name} {outcome.route}")
            client.set_attributes(_client_attributes(outcome))
            _tell_error(client, _client_error(outcome), outcome)
        took_ns = int((outcome.upstream_s or 0.0) * 1e9)
        client.end(min(self._client_began_ns + took_ns, time_ns()))


def _resource() -> Resource:
    """Return who exports: this program, but for what OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say instead."""
    ours = {"service.name": _SERVICE, "service.version": __version__}
    return Resource.create({**ours, **OTELResourceDetector().detect().attributes})


def _context_of(fields: Fields) -> Context:
    """Return the trace context of a request; an empty one where it has none, or more than one (W3C Trace Context)."""
    parents = headers.values(fields, _TRACEPARENT.encode("ascii"))
    if len(parents) != 1:
        return Context()
    carrier: Mapping[str, list[str]] = {
        _TRACEPARENT: [parents[0].decode("latin-1")],
        _TRACESTATE: [value.decode("latin-1") for value in headers.values(fields, _TRACESTATE.encode("ascii"))],
    }
    return _PROPAGATOR.extract(carrier, Context())


def _server_attributes(outcome: Outcome) -> _Attributes:
    attributes = _attributes(outcome)
    attributes["defender.request_id"] = outcome.request_id
    if outcome.findings.mismatches:
        attributes["defender.case_mismatches"] = len(outcome.findings.mismatches)
    if outcome.status is not None:
        attributes["http.response.status_code"] = outcome.status
    if outcome.failure is not None:
        attributes["defender.failure"] = outcome.failure.label
    if outcome.error is not None:
        attributes |= _error_attributes(outcome)
    return attributes


def _client_attributes(outcome: Outcome) -> _Attributes:
    attributes = _attributes(outcome)
    if outcome.resend is not None:
        attributes["http.request.resend_count"] = 1
    if (status := _upstream_status(outcome)) is not None:
        attributes["http.response.status_code"] = status
        if outcome.error is not None:
            attributes |= _error_attributes(outcome)
    return attributes


def _attributes(outcome: Outcome) -> _Attributes:
    """Return what both spans have. `http.route` is a template; there is none for what the catalog does not know."""
    attributes: _Attributes = {"defender.operation": outcome.operation}
    if outcome.operation != UNKNOWN.name:
        attributes["http.route"] = outcome.route
    return attributes


def _error_attributes(outcome: Outcome) -> _Attributes:
    """Return what the response's header fields say of its error."""
    error = outcome.error
    if error is None:
        return {}
    return {
        "defender.error.code": tags.code_text(error),
        "defender.error.target": error.target_id,
        "defender.error.origin": error.origin.value,
    }


def _upstream_status(outcome: Outcome) -> int | None:
    """Return the status of the upstream's answer; None where the proxy answered, or nobody did."""
    if outcome.error is not None and outcome.error.origin is not Origin.UPSTREAM:
        return None
    return outcome.status


def _server_error(outcome: Outcome) -> str | None:
    """Return the `error.type` of an exchange that failed on this side; what a client did wrong is no error of it."""
    failure, status = outcome.failure, outcome.status
    if failure is not None and (not failure.is_client or failure.status >= _FIRST_SERVER_ERROR):
        return failure.label
    return str(status) if status is not None and status >= _FIRST_SERVER_ERROR else None


def _client_error(outcome: Outcome) -> str | None:
    """Return the `error.type` of a leg that failed, was refused by the upstream, or was left without an answer."""
    failure, status = outcome.failure, _upstream_status(outcome)
    if failure is not None and (failure.is_upstream or status is None):
        return failure.label
    return str(status) if status is not None and status >= _FIRST_CLIENT_ERROR else None


def _tell_error(span: Span, error_type: str | None, outcome: Outcome) -> None:
    if error_type is None:
        return
    span.set_attribute("error.type", error_type)
    # A failure's message is a text of ours. What an upstream says may hold anything, and its status tells enough.
    is_ours = outcome.failure is not None and outcome.failure.label == error_type
    span.set_status(Status(StatusCode.ERROR, outcome.failure.message if is_ours and outcome.failure else None))
