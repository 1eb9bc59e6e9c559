"""Spans, as a receiver of OTLP gets them: real bytes over real sockets."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from proxy import __version__
from proxy.configuration import Configuration, load_configuration
from proxy.server import StartError
from tests.conftest import QUICK, Message, Proxied, Reloading, Upstream, Wire, dialled
from tests.soak.process import proxy_process

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from opentelemetry.proto.common.v1.common_pb2 import KeyValue

    from proxy.simulator import Simulator

    Ask = Callable[..., Awaitable[Message]]
    StartReloading = Callable[..., Awaitable[Reloading]]
    StartProxy = Callable[..., Awaitable[Proxied]]
    Script = bytes | Callable[[Upstream, Wire], Coroutine[Any, Any, None]]
    StartUpstream = Callable[[Script], Awaitable[Upstream]]

ROOT: Final = Path(__file__).parent.parent
TRACE: Final = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT: Final = "00f067aa0ba902b7"
TRACEPARENT: Final = f"traceparent: 00-{TRACE}-{PARENT}-01".encode()
TAKEN: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
ISOLATE: Final = "/api/machines/fb9ab6be3965095a09c057be7c90f0a2/isolate"
ROUTE: Final = "/api/machines/{id}/isolate"
JSON: Final = b"Content-Type: application/json"
WITHIN_S: Final = 30.0
LINUX: Final = pytest.mark.skipif(sys.platform != "linux", reason="only Linux spreads connections over processes")


def values_of(pairs: Any) -> dict[str, str | int]:
    """Return attributes as a mapping; a value of another kind than text and whole numbers is an error."""
    found: dict[str, str | int] = {}
    pair: KeyValue
    for pair in pairs:
        kind = pair.value.WhichOneof("value")
        assert kind in {"string_value", "int_value"}, pair
        found[pair.key] = getattr(pair.value, kind)
    return found


@dataclass(frozen=True, slots=True)
class Spans:
    """What a collector was sent so far."""

    collector: Upstream

    @property
    def exports(self) -> list[ExportTraceServiceRequest]:
        for request in self.collector.requests:
            assert request.target == b"/v1/traces"
            assert request["Content-Type"] == "application/x-protobuf"
        return [ExportTraceServiceRequest.FromString(request.body) for request in self.collector.requests]

    @property
    def all(self) -> list[Span]:
        return [
            span for export in self.exports for of_resource in export.resource_spans
            for of_scope in of_resource.scope_spans for span in of_scope.spans
        ]  # fmt: skip

    @property
    def raw(self) -> bytes:
        """Everything that was sent, headers and all."""
        return b"\n".join(
            b"\n".join([request.start_line, *(b": ".join(line) for line in request.fields), request.body])
            for request in self.collector.requests
        )

    def of(self, kind: Span.SpanKind.ValueType) -> list[Span]:
        return [span for span in self.all if span.kind == kind]

    async def arrive(self, count: int) -> tuple[list[Span], list[Span]]:
        """Return the SERVER and the CLIENT spans as soon as there are `count` of them in all, and no more."""
        async with asyncio.timeout(WITHIN_S):
            while len(self.all) < count:  # noqa: ASYNC110 - it looks at the world outside
                await asyncio.sleep(0.01)
        assert len(self.all) == count
        return self.of(Span.SPAN_KIND_SERVER), self.of(Span.SPAN_KIND_CLIENT)

    async def pair(self) -> tuple[Span, Span]:
        """Return the SERVER and the CLIENT span of the only exchange."""
        (server,), (client,) = await self.arrive(2)
        return server, client


@pytest.fixture
async def spans(start_upstream: StartUpstream, monkeypatch: pytest.MonkeyPatch) -> Spans:
    """A collector that takes what it is sent; exporters of this process are quick to send."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    return Spans(await start_upstream(TAKEN))


def traced(spans: Spans, **flags: str) -> dict[str, str]:
    return {"tracing.enabled": "true", "tracing.otlp_endpoint": spans.collector.url, **flags}


def upstream_port(url: str) -> int:
    return int(url.rpartition(":")[2])


def failed(span: Span) -> bool:
    return span.status.code == Status.STATUS_CODE_ERROR


class TestAnExchange:
    async def test_is_a_span_between_the_clients_and_the_upstreams(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask, spans: Spans
    ) -> None:
        upstream = await start_upstream(ANSWER)
        proxied = await start_proxy(upstream.url, traced(spans) | {"log.requests": "true"})
        response = await ask(
            proxied, "GET", "/api/machines?$top=1", TRACEPARENT, b"tracestate: a=1", b"tracestate: b=2"
        )

        server, client = await spans.pair()
        assert server.trace_id.hex() == client.trace_id.hex() == TRACE
        assert server.parent_span_id.hex() == PARENT
        assert client.parent_span_id == server.span_id
        (seen,) = upstream.requests
        assert seen["traceparent"].startswith(f"00-{TRACE}-{client.span_id.hex()}-")
        assert int(seen["traceparent"][-2:], 16) & 1
        assert seen["tracestate"] == "a=1,b=2"
        assert server.start_time_unix_nano <= client.start_time_unix_nano
        assert client.start_time_unix_nano <= client.end_time_unix_nano <= server.end_time_unix_nano

        assert server.name == client.name == "GET /api/machines"
        assert values_of(server.attributes) == {
            "http.request.method": "GET",
            "http.route": "/api/machines",
            "http.response.status_code": 200,
            "network.protocol.name": "http",
            "network.protocol.version": "1.1",
            "url.scheme": "http",
            "defender.operation": "listMachines",
            "defender.request_id": response["X-Request-Id"],
        }
        assert values_of(client.attributes) == {
            "http.request.method": "GET",
            "http.route": "/api/machines",
            "http.response.status_code": 200,
            "network.protocol.version": "1.1",
            "server.address": "127.0.0.1",
            "server.port": upstream_port(upstream.url),
            "url.scheme": "http",
            "defender.operation": "listMachines",
        }
        assert server.status.code == client.status.code == Status.STATUS_CODE_UNSET
        assert (await proxied.lines.event("request"))["trace_id"] == TRACE

    @pytest.mark.parametrize(
        "lines",
        [
            pytest.param((), id="none"),
            pytest.param((b"traceparent: 00-" + b"0" * 32 + b"-00f067aa0ba902b7-01",), id="zeros"),
            pytest.param((b"traceparent: ff" + TRACEPARENT[15:],), id="version-ff"),
            pytest.param((TRACEPARENT + b"-more",), id="too-long"),
            pytest.param((b"traceparent: " + b"\xff" * 600,), id="bytes"),
            pytest.param((TRACEPARENT, TRACEPARENT.replace(b"00f067", b"00f068")), id="two"),
        ],
    )
    async def test_without_a_valid_parent_begins_a_trace(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask, spans: Spans, lines: tuple[bytes, ...]
    ) -> None:
        upstream = await start_upstream(ANSWER)
        proxied = await start_proxy(upstream.url, traced(spans) | {"log.requests": "true"})
        await ask(proxied, "GET", "/api/machines", *lines, b"tracestate: a=1")

        server, client = await spans.pair()
        assert server.trace_id == client.trace_id != bytes.fromhex(TRACE)
        assert not server.parent_span_id
        (seen,) = upstream.requests
        assert seen["traceparent"].split("-")[1:3] == [server.trace_id.hex(), client.span_id.hex()]
        assert "tracestate" not in seen
        # Who reads the line finds the trace.
        assert (await proxied.lines.event("request"))["trace_id"] == server.trace_id.hex()

    @pytest.mark.parametrize("state", [b"\xff=\xfe", b"A=b", b"a=1,a=2", b"x" * 600, b"a=\tb"])
    async def test_goes_on_without_a_state_that_is_none_and_without_a_word(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask, spans: Spans, state: bytes
    ) -> None:
        upstream = await start_upstream(ANSWER)
        proxied = await start_proxy(upstream.url, traced(spans))
        assert (await ask(proxied, "GET", "/api/machines", TRACEPARENT, b"tracestate: " + state)).status == 200
        server, _ = await spans.pair()
        assert server.trace_id.hex() == TRACE
        assert "tracestate" not in upstream.requests[0]
        assert {event["event"] for event in proxied.lines.events()} == {"serving"}

    async def test_that_is_not_sampled_is_not_exported_but_passed_on(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask, spans: Spans
    ) -> None:
        upstream = await start_upstream(ANSWER)
        async with AsyncExitStack() as stack:
            proxied = await start_proxy(upstream.url, traced(spans), within=stack)
            await ask(proxied, "GET", "/api/machines", TRACEPARENT[:-1] + b"0", b"tracestate: a=1")
        (seen,) = upstream.requests
        version, trace, parent, flags = seen["traceparent"].split("-")
        assert (version, trace, flags, seen["tracestate"]) == ("00", TRACE, "00", "a=1")
        assert parent != PARENT
        # Leaving has flushed.
        assert not spans.collector.requests

    async def test_of_an_unknown_route_names_no_path(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask, spans: Spans
    ) -> None:
        upstream = await start_upstream(ANSWER)
        proxied = await start_proxy(upstream.url, traced(spans))
        await ask(proxied, "DELETE", "/nowhere/secretive")
        server, client = await spans.pair()
        assert server.name == client.name == "DELETE"
        for span in (server, client):
            attributes = values_of(span.attributes)
            assert attributes["defender.operation"] == "unknown"
            assert "http.route" not in attributes
        assert b"secretive" not in spans.raw

    async def test_by_http_1_0_and_a_strange_method(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask, spans: Spans
    ) -> None:
        upstream = await start_upstream(ANSWER)
        proxied = await start_proxy(upstream.url, traced(spans))
        assert (await ask(proxied, "PROPFIND", "/api/machines")).status == 501
        (server,), clients = await spans.arrive(1)
        attributes = values_of(server.attributes)
        assert not clients
        assert (server.name, attributes["http.request.method"]) == ("HTTP", "_OTHER")
        assert attributes["error.type"] == attributes["defender.failure"] == "method_refused"
        assert failed(server)

        wire = await dialled(proxied.port)
        await wire.send(b"GET /api/machines HTTP/1.0\r\n\r\n")
        await wire.message()
        await wire.close()
        (_, server), (client,) = await spans.arrive(3)
        assert values_of(server.attributes)["network.protocol.version"] == "1.0"
        assert values_of(client.attributes)["network.protocol.version"] == "1.1"


class TestErrors:
    @pytest.mark.parametrize(
        ("simulated", "status", "is_fault"),
        [("NotFound", 404, False), ("TooManyRequests", 429, False), ("InternalServerError", 500, True)],
    )
    async def test_have_code_and_target_as_in_the_response(
        self,
        start_proxy: StartProxy,
        simulator: Simulator,
        ask: Ask,
        spans: Spans,
        simulated: str,
        status: int,
        is_fault: bool,  # noqa: FBT001 - a row of the table
    ) -> None:
        proxied = await start_proxy(simulator.url, traced(spans))
        response = await ask(proxied, "GET", f"/_simulate/{simulated}/api/machines")
        assert response.status == status

        server, client = await spans.pair()
        for span in (server, client):
            attributes = values_of(span.attributes)
            assert attributes["http.response.status_code"] == status
            assert attributes["defender.error.code"] == response["X-Error-Code"]
            assert attributes["defender.error.target"] == response["X-Target-Id"]
            assert attributes["defender.error.origin"] == response["X-Error-Origin"] == "upstream"
        assert failed(client)
        assert values_of(client.attributes)["error.type"] == str(status)
        # What a client did wrong is no error of a server's.
        assert failed(server) is is_fault
        assert ("error.type" in values_of(server.attributes)) is is_fault

    async def test_of_an_upstream_may_hold_anything(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask, spans: Spans
    ) -> None:
        """A lone surrogate does not encode: it would cost the whole batch."""
        body = b'{"error": {"code": "\\ud800\\u0000", "message": "tell-tale", "target": "0f4d4b3e-1"}}'
        head = b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        upstream = await start_upstream(head + body)
        proxied = await start_proxy(upstream.url, traced(spans))
        response = await ask(proxied, "GET", "/api/machines")
        server, _ = await spans.pair()
        assert values_of(server.attributes)["defender.error.code"] == response["X-Error-Code"]
        assert b"tell-tale" not in spans.raw

    async def test_of_the_upstream_leg_are_told_of_both(self, start_proxy: StartProxy, ask: Ask, spans: Spans) -> None:
        proxied = await start_proxy("http://127.0.0.1:9", traced(spans))
        response = await ask(proxied, "GET", "/api/machines")
        assert response.status == 502

        server, client = await spans.pair()
        theirs, ours = values_of(client.attributes), values_of(server.attributes)
        assert theirs["error.type"] == ours["error.type"] == ours["defender.failure"] == "connection_refused"
        assert failed(client)
        assert failed(server)
        assert server.status.message == client.status.message == "The upstream refused the connection."
        assert ours["http.response.status_code"] == 502
        # Nobody answered there.
        assert "http.response.status_code" not in theirs
        assert "defender.error.code" not in theirs
        assert ours["defender.error.origin"] == response["X-Error-Origin"] == "proxy"
        assert ours["defender.error.code"] == response["X-Error-Code"]
        assert ours["defender.error.target"] == response["X-Target-Id"]

    async def test_in_the_middle_of_a_body(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask, spans: Spans
    ) -> None:
        async def breaking_off(upstream: Upstream, wire: Wire) -> None:
            await upstream.request(wire)
            await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")

        upstream = await start_upstream(breaking_off)
        proxied = await start_proxy(upstream.url, traced(spans))
        assert not (await ask(proxied, "GET", "/api/machines")).is_whole
        for span in await spans.pair():
            attributes = values_of(span.attributes)
            assert attributes["http.response.status_code"] == 200
            assert attributes["error.type"] == "http_response_incomplete"
            assert failed(span)

    async def test_of_a_client_that_left(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, spans: Spans
    ) -> None:
        left = asyncio.Event()

        async def waiting(upstream: Upstream, wire: Wire) -> None:
            await upstream.request(wire)
            await left.wait()

        upstream = await start_upstream(waiting)
        proxied = await start_proxy(upstream.url, traced(spans))
        wire = await dialled(proxied.port)
        await wire.send(b"GET /api/machines HTTP/1.1\r\nHost: sidecar\r\n\r\n")
        await proxied.until(lambda: upstream.requests, WITHIN_S)
        wire.reset()
        server, client = await spans.pair()
        left.set()
        attributes = values_of(server.attributes)
        assert attributes["defender.failure"] == "client_disconnected"
        assert "http.response.status_code" not in attributes
        assert not failed(server)
        assert failed(client)
        assert values_of(client.attributes)["error.type"] == "client_disconnected"


class TestTheCheck:
    @pytest.mark.parametrize("mode", ["fix", "observe"])
    async def test_counts_mismatches(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask, spans: Spans, mode: str
    ) -> None:
        upstream = await start_upstream(ANSWER)
        proxied = await start_proxy(upstream.url, traced(spans) | {"check.mode": mode})
        await ask(proxied, "POST", ISOLATE, JSON, body=b'{"comment": "a", "isolationtype": "Full"}')
        server, client = await spans.pair()
        assert server.name == f"POST {ROUTE}"
        assert values_of(server.attributes)["defender.case_mismatches"] == 2
        assert values_of(server.attributes)["http.route"] == ROUTE
        assert not failed(server)
        assert not failed(client)

    async def test_sends_nothing_upstream_of_what_it_refuses(
        self, start_proxy: StartProxy, simulator: Simulator, ask: Ask, spans: Spans
    ) -> None:
        proxied = await start_proxy(simulator.url, traced(spans))
        response = await ask(proxied, "POST", ISOLATE, JSON, TRACEPARENT, body=b'{"comment": "a"}')
        (server,), clients = await spans.arrive(1)
        assert not clients
        attributes = values_of(server.attributes)
        assert attributes["http.response.status_code"] == response.status == 400
        assert attributes["defender.case_mismatches"] == 1
        assert attributes["defender.error.code"] == response["X-Error-Code"] == "MissingRequiredParameter"
        assert attributes["defender.error.origin"] == "proxy"
        assert not failed(server)


async def test_a_request_that_is_sent_again_is_counted(
    start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask, spans: Spans
) -> None:
    async def closing(upstream: Upstream, wire: Wire) -> None:
        await upstream.request(wire)
        await wire.send(ANSWER)
        await upstream.request(wire)
        if len(upstream.wires) > 1:
            await wire.send(ANSWER)

    upstream = await start_upstream(closing)
    proxied = await start_proxy(upstream.url, traced(spans))
    await ask(proxied, "GET", "/api/machines")
    assert (await ask(proxied, "GET", "/api/machines")).status == 200
    _, clients = await spans.arrive(4)
    assert [values_of(span.attributes).get("http.request.resend_count") for span in clients] == [None, 1]
    first, second, third = (request["traceparent"] for request in upstream.requests)
    assert first != second == third


async def test_no_secret_and_no_value_is_in_what_is_sent(
    start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask, spans: Spans
) -> None:
    body = b'{"error": {"code": "BadRequest", "message": "mE55age of B0dy-value", "target": "0f4d4b3e-1"}}'
    head = b"HTTP/1.1 400 Bad Request\r\nSet-Cookie: id=c00kie-back\r\nContent-Length: %d\r\n\r\n" % len(body)
    upstream = await start_upstream(head + body)
    async with AsyncExitStack() as stack:
        proxied = await start_proxy(upstream.url, traced(spans) | {"check.mode": "observe"}, within=stack)
        await ask(
            proxied,
            "POST",
            "/api/machines/mach1ne-name/isolate?key=qu3ry-value",
            *(b"Authorization: Bearer t0ken", b"Cookie: id=c00kie", b"User-Agent: ag3nt"),
            *(b"X-Forwarded-For: 192.0.2.77", b"baggage: user=bagg4ge", JSON, TRACEPARENT),
            body=b'{"comment": "B0dy-value", "IsolationType": "Full"}',
        )
    secrets = (
        *(b"t0ken", b"c00kie", b"qu3ry", b"B0dy-value", b"mE55age", b"mach1ne", b"ag3nt", b"192.0.2.77"),
        b"bagg4ge",
    )
    assert len(spans.all) == 2
    assert not [secret for secret in secrets if secret in spans.raw]
    # All of them were there to be found, and the baggage goes on as it came.
    assert upstream.requests[0]["baggage"] == "user=bagg4ge"
    assert upstream.requests[0]["Authorization"] == "Bearer t0ken"


class TestTheEnvironment:
    async def test_says_where_to_who_and_what_else(
        self,
        start_proxy: StartProxy,
        simulator: Simulator,
        ask: Ask,
        spans: Spans,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", spans.collector.url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=blue")
        monkeypatch.setenv("OTEL_SERVICE_NAME", "soar-sidecar")
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=no,deployment.environment.name=test")
        proxied = await start_proxy(simulator.url, {"tracing.enabled": "true"})
        await ask(proxied, "GET", "/api/machines")
        await spans.pair()
        assert spans.collector.requests[0]["x-tenant"] == "blue"
        (resource,) = [values_of(each.resource.attributes) for each in spans.exports[0].resource_spans]
        assert resource["service.name"] == "soar-sidecar"
        assert resource["service.version"] == __version__
        assert resource["deployment.environment.name"] == "test"

    async def test_need_say_nothing(
        self, start_proxy: StartProxy, simulator: Simulator, ask: Ask, spans: Spans
    ) -> None:
        proxied = await start_proxy(simulator.url, traced(spans))
        await ask(proxied, "GET", "/api/machines")
        await spans.pair()
        (resource,) = [values_of(each.resource.attributes) for each in spans.exports[0].resource_spans]
        assert resource["service.name"] == "defender-sidecar"

    async def test_says_what_is_sampled(
        self,
        start_proxy: StartProxy,
        start_upstream: StartUpstream,
        ask: Ask,
        spans: Spans,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
        upstream = await start_upstream(ANSWER)
        proxied = await start_proxy(upstream.url, traced(spans))
        await ask(proxied, "GET", "/api/alerts")
        await ask(proxied, "GET", "/api/machines", TRACEPARENT)
        server, _ = await spans.pair()
        assert server.name == "GET /api/machines"
        assert not int(upstream.requests[0]["traceparent"][-2:], 16) & 1

    async def test_may_switch_it_off(
        self,
        start_proxy: StartProxy,
        start_upstream: StartUpstream,
        ask: Ask,
        spans: Spans,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
        upstream = await start_upstream(ANSWER)
        async with AsyncExitStack() as stack:
            proxied = await start_proxy(upstream.url, traced(spans) | {"log.requests": "true"}, within=stack)
            await ask(proxied, "GET", "/api/machines")
            await ask(proxied, "GET", "/api/machines", TRACEPARENT)
        assert "trace_id" not in await proxied.lines.event("request")
        assert (await proxied.lines.event("request", 2))["trace_id"] == TRACE
        assert "traceparent" not in upstream.requests[0]
        assert upstream.requests[1]["traceparent"] == TRACEPARENT.partition(b": ")[2].decode()
        assert not spans.collector.requests

    async def test_puts_no_egress_proxy_before_the_collector(
        self, start_proxy: StartProxy, simulator: Simulator, ask: Ask, spans: Spans, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        proxied = await start_proxy(simulator.url, traced(spans))
        await ask(proxied, "GET", "/api/machines")
        await spans.pair()

    async def test_that_cannot_be_used_is_told(
        self, start_proxy: StartProxy, spans: Spans, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "0")
        with pytest.raises(StartError, match="max_queue_size"):
            await start_proxy("http://127.0.0.1:9", traced(spans))


class TestTheCollector:
    async def test_gets_the_last_spans_when_the_proxy_drains(
        self, start_proxy: StartProxy, simulator: Simulator, ask: Ask, spans: Spans, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "3600000")
        async with AsyncExitStack() as stack:
            proxied = await start_proxy(simulator.url, traced(spans), within=stack)
            await ask(proxied, "GET", "/api/machines")
            assert not spans.collector.requests
        assert len(spans.all) == 2

    async def test_that_is_gone_costs_no_answer_and_is_told_without_its_address(
        self, start_proxy: StartProxy, simulator: Simulator, ask: Ask, spans: Spans
    ) -> None:
        flags = traced(spans) | {"tracing.otlp_endpoint": "http://127.0.0.1:9/tell-tale"}
        async with asyncio.timeout(WITHIN_S), AsyncExitStack() as stack:
            proxied = await start_proxy(simulator.url, flags, within=stack)
            for _ in range(3):
                assert (await ask(proxied, "GET", "/api/machines")).status == 200
            line = await proxied.lines.event("library_message")
        assert line["logger"].startswith("opentelemetry.")
        assert "tell-tale" not in proxied.lines.getvalue()

    async def test_that_never_answers_holds_up_neither_answers_nor_the_end(
        self,
        start_proxy: StartProxy,
        start_upstream: StartUpstream,
        simulator: Simulator,
        ask: Ask,
        spans: Spans,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        async def silent(upstream: Upstream, wire: Wire) -> None:
            await upstream.request(wire)
            await asyncio.Event().wait()

        # A full queue loses the oldest.
        monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "4")
        monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "2")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "3600")
        collector = await start_upstream(silent)
        flags = traced(spans) | {"tracing.otlp_endpoint": collector.url}
        async with asyncio.timeout(WITHIN_S), AsyncExitStack() as stack:
            proxied = await start_proxy(simulator.url, flags, within=stack)
            await ask(proxied, "GET", "/api/machines")
            await proxied.until(lambda: collector.requests, WITHIN_S)
            for _ in range(10):
                assert (await ask(proxied, "GET", "/api/machines")).status == 200
            # The queue is full, which the SDK tells.
            await proxied.lines.event("library_message")
        assert len(collector.requests) == 1


class TestSettings:
    async def test_change_with_a_restart_only(self, start_reloading: StartReloading, ask: Ask, spans: Spans) -> None:
        enabled = "false"

        def load() -> Configuration:
            flags = {"upstream.url": upstream_url, "tracing.otlp_endpoint": spans.collector.url}
            return load_configuration(None, {}, QUICK | flags | {"tracing.enabled": enabled})

        upstream_url = "http://127.0.0.1:9"
        reloading = await start_reloading(load=load)
        enabled, upstream_url = "true", reloading.upstream_url
        event = await reloading.reload()
        assert event["restart_needed"] == ["tracing"]
        assert event["changed"] == ["upstream.url"]
        assert (await ask(reloading.proxied, "GET", "/api/machines")).status == 200
        assert not spans.collector.requests

    async def test_of_the_upstream_change_at_once(
        self,
        start_reloading: Callable[..., Awaitable[Reloading]],
        start_upstream: StartUpstream,
        ask: Ask,
        spans: Spans,
    ) -> None:
        upstream = await start_upstream(ANSWER)

        def load() -> Configuration:
            return load_configuration(None, {}, QUICK | traced(spans) | {"upstream.url": upstream_url})

        upstream_url = "http://127.0.0.1:9"
        reloading = await start_reloading(load=load)
        upstream_url = upstream.url
        await reloading.reload()
        await ask(reloading.proxied, "GET", "/api/machines")
        _, client = await spans.pair()
        assert values_of(client.attributes)["server.port"] == upstream_port(upstream.url)


SERVED = """
import asyncio, io, sys
from proxy.configuration import load_configuration
from proxy.server import serving
from proxy import cli, workers
from tests.conftest import QUICK, dialled

async def main():
    configuration = load_configuration(None, {}, QUICK | {"upstream.url": sys.argv[1]})
    async with serving(configuration, io.StringIO()) as running:
        wire = await dialled(int(running.url.rpartition(":")[2]))
        print((await wire.ask("GET", "/api/machines", *map(str.encode, sys.argv[2:]))).status)
        await wire.close()
    print(*(name for name in sys.modules if name.partition(".")[0] in {"opentelemetry", "requests", "google"}))

asyncio.run(main())
"""


async def test_off_it_is_not_even_imported_and_the_context_passes_byte_for_byte(start_upstream: StartUpstream) -> None:
    upstream = await start_upstream(ANSWER)
    lines = ["TraceParent:  00-UPPER-and-no-trace ", "tracestate: a=1,,b", "tracestate: c", "traceparent: 2"]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SERVED, upstream.url, *lines), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(WITHIN_S):
        output, _ = await process.communicate()
    assert output.decode().split("\n") == ["200", "", ""]
    (seen,) = upstream.requests
    passed = [(name, value) for name, value in seen.fields if name.lower().startswith(b"trace")]
    assert passed == [
        (b"TraceParent", b"00-UPPER-and-no-trace"),
        (b"tracestate", b"a=1,,b"),
        (b"tracestate", b"c"),
        (b"traceparent", b"2"),
    ]


@pytest.mark.parametrize(
    "workers",
    ["1", pytest.param("2", marks=pytest.mark.skipif(sys.platform != "linux", reason="several run on Linux alone"))],
)
def test_without_the_extra_it_says_how_to_get_it(workers: str) -> None:
    code = "import sys; sys.modules['opentelemetry.sdk'] = None; from proxy.cli import main; sys.exit(main())"
    settings = {
        "DEFENDER_SIDECAR_TRACING__ENABLED": "true",
        "DEFENDER_SIDECAR_LISTEN": QUICK["listen"],
        "DEFENDER_SIDECAR_ADMIN": QUICK["admin"],
        "DEFENDER_SIDECAR_WORKERS": workers,
    }
    ended = subprocess.run(
        [sys.executable, "-c", code, "run"],
        cwd=ROOT, env=os.environ | settings, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert "tracing.enabled" in line
    assert "from a clone, pip install '.[otel]'" in line


@LINUX
async def test_each_of_several_processes_exports(start_upstream: StartUpstream, spans: Spans) -> None:
    upstream = await start_upstream(ANSWER)
    variables = {"WORKERS": "2", "TRACING__ENABLED": "true", "TRACING__OTLP_ENDPOINT": spans.collector.url}
    count = 40
    async with proxy_process(upstream.url, variables, command=("-m", "proxy", "run")) as running:
        for _ in range(count):
            wire = await dialled(running.port)
            assert (await wire.ask("GET", "/api/machines", b"Connection: close")).status == 200
            await wire.close()
        servers, clients = await spans.arrive(2 * count)
    assert len(servers) == len(clients) == count
    instances = {
        values_of(each.resource.attributes)["service.instance.id"]
        for export in spans.exports for each in export.resource_spans
    }  # fmt: skip
    assert len(instances) == 2


def test_the_settings_file_says_what_the_default_is() -> None:
    configuration = load_configuration(ROOT / "config" / "proxy.yaml", {}, {})
    assert (configuration.settings.tracing.enabled, configuration.settings.tracing.otlp_endpoint) == (False, None)
    assert json.dumps(configuration.settings.tracing.model_dump()) == '{"enabled": false, "otlp_endpoint": null}'
