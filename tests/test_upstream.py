"""The upstream leg over real sockets: how connections are used, and every way in which an upstream fails."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from proxy.core.failure import Failure
from proxy.server import StartError
from proxy.upstream import AiohttpUpstream, UpstreamConnection, UpstreamError, UpstreamRequest
from tests.conftest import Wire, dialled
from tests.documented import heard

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from proxy.simulator import Simulator
    from proxy.upstream import UpstreamResponse
    from tests.conftest import Message, Proxied, Upstream

    StartProxy = Callable[..., Awaitable[Proxied]]
    StartUpstream = Callable[..., Awaitable[Upstream]]
    Ask = Callable[..., Awaitable[Message]]
    Dial = Callable[[Proxied], Awaitable[Wire]]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

HASTY = {"upstream.response_timeout_s": "0.3", "upstream.idle_timeout_s": "0.3", "upstream.connect_timeout_s": "0.3"}


def in_use(proxied: Proxied) -> float:
    return proxied.sample("upstream_connections", state="in_use")


def idle(proxied: Proxied) -> float:
    return proxied.sample("upstream_connections", state="idle")


async def assert_failed(proxied: Proxied, response: Message, status: int, failure: str) -> None:
    """Assert that `response` is the proxy's own envelope for `failure`, and that log and counters say the same."""
    assert (response.status, response.is_whole) == (status, True)
    assert response["X-Error-Origin"] == "proxy"
    assert response["X-Target-Source"] == "proxy"
    assert response["Cache-Control"] == "no-store"
    assert response["Proxy-Status"].startswith("defender-sidecar; error=")
    assert response["X-Target-Id"] == response.error["target"]
    assert response["X-Error-Code"] == response["x-ms-error-code"] == response.error["code"]
    event = await proxied.lines.event("proxy_error")
    assert (event["failure"], event["status"], event["origin"]) == (failure, status, "proxy")
    assert event["target_id"] == response.error["target"]
    assert event["level"] == "error"
    assert proxied.sample("upstream_failures_total", failure=failure) == 1
    code = response.error["code"]
    assert proxied.sample("errors_total", code=code, status=str(status), origin="proxy") == 1
    await proxied.until(lambda: in_use(proxied) == 0)
    await proxied.until(lambda: proxied.sample("requests_in_flight") == 0)


class TestNoConnection:
    async def test_refused(self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask) -> None:
        upstream = await start_upstream(OK)
        proxied = await start_proxy("http://127.0.0.1:1")
        await assert_failed(proxied, await ask(proxied, "POST", "/api", body=b"x"), 502, "connection_refused")
        assert upstream.wires == []

    async def test_a_name_that_nobody_resolves(self, start_proxy: StartProxy, ask: Ask) -> None:
        proxied = await start_proxy("http://upstream.invalid")
        await assert_failed(proxied, await ask(proxied, "GET", "/api"), 502, "dns_error")

    async def test_no_tls_where_tls_is_expected(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask
    ) -> None:
        async def plain(_upstream: Upstream, wire: Wire) -> None:
            await wire.reader.read(100)
            await wire.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

        upstream = await start_upstream(plain)
        proxied = await start_proxy(upstream.url.replace("http://", "https://"))
        await assert_failed(proxied, await ask(proxied, "GET", "/api"), 502, "tls_protocol_error")

    async def test_whoever_waits_for_a_connection_that_is_being_opened_shares_its_fate(
        self, start_proxy: StartProxy, ask: Ask
    ) -> None:
        """It is no matter of the limit where the upstream accepts nobody."""
        with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf, socket.socket() as plug:
            # The queue of those that nobody accepts is full with this one, or the next.
            plug.connect(deaf.getsockname())
            with socket.socket() as another:
                another.settimeout(0)
                another.connect_ex(deaf.getsockname())
                flags = {"upstream.max_connections": "1", "upstream.connect_timeout_s": "0.5"}
                proxied = await start_proxy("http://{}:{}".format(*deaf.getsockname()), flags)
                first = asyncio.ensure_future(ask(proxied, "GET", "/first"))
                await asyncio.sleep(0.2)
                second = await ask(proxied, "GET", "/second")
        assert [(await first).status, second.status] == [504, 504]
        assert proxied.sample("upstream_failures_total", failure="connection_timeout") == 2

    async def test_all_connections_stay_busy(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask, dial: Dial
    ) -> None:
        async def silent(upstream: Upstream, wire: Wire) -> None:
            await upstream.request(wire)
            await wire.rest()

        upstream = await start_upstream(silent)
        proxied = await start_proxy(
            upstream.url, {"upstream.max_connections": "1", "upstream.connect_timeout_s": "0.3"}
        )
        first = await dial(proxied)
        await first.send(b"GET /first HTTP/1.1\r\nHost: sidecar\r\n\r\n")
        await proxied.until(lambda: upstream.requests)
        response = await ask(proxied, "GET", "/second")
        assert (response.status, response.is_whole) == (503, True)
        assert response["Retry-After"]
        assert proxied.sample("upstream_failures_total", failure="connection_limit_reached") == 1
        assert in_use(proxied) == 1
        await first.close()
        await proxied.until(lambda: in_use(proxied) == 0)


class TestNoResponse:
    @pytest.mark.parametrize(
        ("answer", "status", "failure"),
        [
            pytest.param(b"", 502, "connection_terminated", id="nothing"),
            pytest.param(b"HTTP/1.1 200 OK\r\nContent-Ty", 502, "connection_terminated", id="half-a-head"),
            pytest.param(b"\x15\x03\x01 this is not HTTP\r\n\r\n", 502, "http_protocol_error", id="garbage"),
            pytest.param(b"HTTP/1.1 banana\r\n\r\n", 502, "http_protocol_error", id="no-status"),
            pytest.param(
                b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nokk",
                502, "http_protocol_error", id="two-lengths",
            ),
            pytest.param(
                b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok", 502, "http_protocol_error", id="negative-length"
            ),
            pytest.param(
                b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 70_000 + b"\r\nContent-Length: 2\r\n\r\nok",
                502, "http_protocol_error", id="one-long-field",
            ),
            pytest.param(
                b"HTTP/1.1 200 OK\r\n" + b"X-Many: x\r\n" * 300 + b"Content-Length: 2\r\n\r\nok",
                502, "http_protocol_error", id="300-fields",
            ),
            pytest.param(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
                502, "http_protocol_error", id="a-transfer-coding-nobody-asked-for",
            ),
            pytest.param(
                b"HTTP/1.1 200 OK\r\nContent-Length: " + b"0" * 5000 + b"2\r\n\r\nok",
                502, "http_protocol_error", id="a-length-of-5000-zeros",
            ),
            pytest.param(
                b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\nok",
                502, "http_protocol_error", id="a-length-nobody-can-count-to",
            ),
            pytest.param(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding : chunked\r\nContent-Length: 2\r\n\r\nok",
                502, "http_protocol_error", id="space-behind-a-name-of-framing",
            ),
            pytest.param(
                b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 502, "http_protocol_error", id="version-2.0"
            ),
            pytest.param(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: foo\r\nConnection: upgrade\r\n\r\n",
                502, "http_protocol_error", id="an-upgrade-nobody-asked-for",
            ),
            pytest.param(
                b"HTTP/1.1 200 OK\r\nX-Bad: a\x00b\r\nContent-Length: 2\r\n\r\nok",
                502, "http_protocol_error", id="nul-in-a-field",
            ),
            pytest.param(
                b"HTTP/1.1 200 OK\r\nX-Bad: a\x01b\r\nContent-Length: 2\r\n\r\nok",
                502, "http_protocol_error", id="control-character-in-a-field",
            ),
            pytest.param(
                b"HTTP/1.1 200 O\x01K\r\nContent-Length: 2\r\n\r\nok",
                502, "http_protocol_error", id="control-character-in-the-reason",
            ),
            pytest.param(
                b"HTTP/1.1 200 OK\r\nX Bad: a\r\nContent-Length: 2\r\n\r\nok",
                502, "http_protocol_error", id="space-in-a-field-name",
            ),
        ],
    )  # fmt: skip
    async def test_what_is_no_response_becomes_one(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask, answer: bytes, status: int, failure: str
    ) -> None:
        async def once(upstream: Upstream, wire: Wire) -> None:
            await upstream.request(wire)
            await wire.send(answer)

        upstream = await start_upstream(once)
        proxied = await start_proxy(upstream.url)
        # POST, since a GET may be sent twice.
        await assert_failed(proxied, await ask(proxied, "POST", "/api", body=b"x"), status, failure)
        assert len(upstream.requests) == 1

    @pytest.mark.parametrize("directive", ["reset", "reset-head"])
    async def test_reset(self, proxied: Proxied, simulator: Simulator, ask: Ask, directive: str) -> None:
        response = await ask(proxied, "POST", f"/_simulate/{directive}/upload", body=b"x")
        await assert_failed(proxied, response, 502, "connection_terminated")
        assert len(simulator.received) == 1

    async def test_a_head_that_does_not_come(self, start_proxy: StartProxy, simulator: Simulator, ask: Ask) -> None:
        proxied = await start_proxy(simulator.url, HASTY)
        began = time.perf_counter()
        response = await ask(proxied, "GET", "/_simulate/slow=30/api/machines")
        assert 0.25 < time.perf_counter() - began < 2
        await assert_failed(proxied, response, 504, "http_response_timeout")
        assert len(simulator.received) == 1

    async def test_a_head_that_trickles(self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask) -> None:
        """Progress within the head does not extend its time."""

        async def trickle(upstream: Upstream, wire: Wire) -> None:
            await upstream.request(wire)
            await wire.send(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while True:
                await wire.send(b"x")
                await asyncio.sleep(0.05)

        upstream = await start_upstream(trickle)
        proxied = await start_proxy(upstream.url, HASTY)
        response = await ask(proxied, "POST", "/api", body=b"x")
        await assert_failed(proxied, response, 504, "http_response_timeout")

    async def test_a_streamed_request_whose_answer_does_not_come(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask
    ) -> None:
        async def silent(upstream: Upstream, wire: Wire) -> None:
            await upstream.request(wire)
            await wire.rest()

        upstream = await start_upstream(silent)
        proxied = await start_proxy(upstream.url, HASTY)
        response = await ask(proxied, "PUT", "/upload", body=b"x" * 100_000)
        await assert_failed(proxied, response, 504, "http_response_timeout")
        assert [request.body for request in upstream.requests] == [b"x" * 100_000]

    async def test_an_upstream_that_does_not_read(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial
    ) -> None:
        async def deaf(_upstream: Upstream, wire: Wire) -> None:
            await wire.head()
            wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await asyncio.sleep(60)

        upstream = await start_upstream(deaf)
        proxied = await start_proxy(upstream.url, HASTY)
        wire = await dial(proxied)
        wire.writer.write(b"PUT /upload HTTP/1.1\r\nHost: sidecar\r\nContent-Length: 30000000\r\n\r\n")
        wire.writer.write(bytes(30_000_000))
        response = await wire.message()
        assert response.status == 504
        assert response["X-Error-Origin"] == "proxy"
        assert proxied.sample("upstream_failures_total", failure="connection_write_timeout") == 1

    async def test_a_client_that_sends_on_behind_an_early_answer_is_not_reset(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial
    ) -> None:
        """RFC 9112, 9.6: the rest of the body is read away, and the connection goes on."""

        async def early(upstream: Upstream, wire: Wire) -> None:
            await wire.head()
            await wire.send(OK)
            await upstream.request(wire)

        upstream = await start_upstream(early)
        proxied = await start_proxy(upstream.url)
        wire = await dial(proxied)
        await wire.send(b"POST /upload HTTP/1.1\r\nHost: sidecar\r\nContent-Length: 20\r\n\r\n")
        assert (await wire.message()).body == b"ok"
        for _ in range(20):
            await wire.send(b"x")
            await asyncio.sleep(0.02)
        await wire.send(b"GET /next HTTP/1.1\r\nHost: sidecar\r\n\r\n")
        assert (await wire.message()).body == b"ok"

    async def test_a_whole_body_that_an_upstream_does_not_read(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask
    ) -> None:
        """Standstill is noticed while it is written, long before an answer to it would be late."""

        async def deaf(_upstream: Upstream, wire: Wire) -> None:
            wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await asyncio.sleep(60)

        upstream = await start_upstream(deaf)
        flags = {"upstream.idle_timeout_s": "0.3", "check.max_body_bytes": "20000000"}
        proxied = await start_proxy(upstream.url, flags)
        body = b'{"Comment": "%b", "IsolationType": "Full"}' % (b"x" * 8_000_000)
        response = await ask(proxied, "POST", "/api/machines/1e5bc9d7e413/isolate", body=body)
        await assert_failed(proxied, response, 504, "connection_write_timeout")
        await proxied.until(lambda: in_use(proxied) == 0)

    async def test_an_upstream_that_answers_early_and_reads_no_more(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial
    ) -> None:
        """The answer is whole, whatever becomes of the rest of the request."""

        async def early(_upstream: Upstream, wire: Wire) -> None:
            await wire.head()
            wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
            for _ in range(10):
                await asyncio.sleep(0.1)
                await wire.send(b"x")
            await asyncio.sleep(60)

        upstream = await start_upstream(early)
        proxied = await start_proxy(upstream.url, {"upstream.idle_timeout_s": "0.3"})
        wire = await dial(proxied)
        wire.writer.write(b"PUT /upload HTTP/1.1\r\nHost: sidecar\r\nContent-Length: 30000000\r\n\r\n")
        wire.writer.write(bytes(30_000_000))
        response = await wire.message()
        assert (response.status, response.body, response.is_whole) == (200, b"x" * 10, True)


class TestHalfAResponse:
    """The client must see that a body is not whole: never a clean end."""

    @pytest.mark.parametrize(
        "half",
        [
            pytest.param(b"Content-Length: 100\r\n\r\nhalf", id="content-length"),
            pytest.param(b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", id="chunked"),
            pytest.param(b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n100\r\nmo", id="within-a-chunk"),
            pytest.param(b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n", id="before-the-last-line"),
        ],
    )
    @pytest.mark.parametrize("with_reset", [pytest.param(False, id="fin"), pytest.param(True, id="rst")])
    async def test_broken_off(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask, half: bytes, *, with_reset: bool
    ) -> None:
        async def break_off(upstream: Upstream, wire: Wire) -> None:
            await upstream.request(wire)
            await wire.send(b"HTTP/1.1 200 OK\r\n" + half)
            await asyncio.sleep(0.05)
            if with_reset:
                wire.reset()

        upstream = await start_upstream(break_off)
        proxied = await start_proxy(upstream.url)
        response = await ask(proxied, "GET", "/api/machines")
        assert (response.status, response.is_whole) == (200, False)
        assert b"halfmo".startswith(response.body)
        event = await proxied.lines.event("proxy_error")
        assert (event["failure"], event["status"]) == ("http_response_incomplete", 200)
        assert proxied.sample("upstream_failures_total", failure="http_response_incomplete") == 1
        assert len(upstream.requests) == 1
        await proxied.until(lambda: in_use(proxied) == 0)

    async def test_a_close_delimited_body_that_is_reset(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask
    ) -> None:
        async def break_off(upstream: Upstream, wire: Wire) -> None:
            await upstream.request(wire)
            await wire.send(b"HTTP/1.1 200 OK\r\n\r\nhalf")
            await asyncio.sleep(0.05)
            wire.reset()

        upstream = await start_upstream(break_off)
        proxied = await start_proxy(upstream.url)
        response = await ask(proxied, "GET", "/api/machines")
        assert (response.status, response.is_whole) == (200, False)

    async def test_a_client_of_http_1_0_sees_it_too(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial
    ) -> None:
        """Its response ends with the connection, so that only a reset tells of an end that came early."""

        async def break_off(upstream: Upstream, wire: Wire) -> None:
            await upstream.request(wire)
            await wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
            await asyncio.sleep(0.05)

        upstream = await start_upstream(break_off)
        proxied = await start_proxy(upstream.url)
        wire = await dial(proxied)
        await wire.send(b"GET /api/machines HTTP/1.0\r\n\r\n")
        assert not (await wire.message()).is_whole

    async def test_an_error_that_breaks_off_keeps_its_status(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask
    ) -> None:
        async def break_off(upstream: Upstream, wire: Wire) -> None:
            await upstream.request(wire)
            await wire.send(b'HTTP/1.1 400 Bad Request\r\nContent-Length: 100\r\n\r\n{"error":')

        upstream = await start_upstream(break_off)
        proxied = await start_proxy(upstream.url)
        response = await ask(proxied, "POST", "/api", body=b"x")
        assert (response.status, response.is_whole, response.error["code"]) == (400, True, "BadRequest")
        assert (await proxied.lines.event("proxy_error"))["failure"] == "http_response_incomplete"

    @pytest.mark.parametrize("framing", [b"Content-Length: 100", b"Transfer-Encoding: chunked"], ids=["length", "te"])
    async def test_stalled(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask, framing: bytes
    ) -> None:
        async def stall(upstream: Upstream, wire: Wire) -> None:
            await upstream.request(wire)
            await wire.send(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n4\r\nhalf\r\n")
            await wire.rest()

        upstream = await start_upstream(stall)
        proxied = await start_proxy(upstream.url, HASTY)
        began = time.perf_counter()
        response = await ask(proxied, "GET", "/api/machines")
        assert time.perf_counter() - began < 2
        assert (response.status, response.is_whole) == (200, False)
        assert (await proxied.lines.event("proxy_error"))["failure"] == "connection_read_timeout"
        await proxied.until(lambda: in_use(proxied) == 0)

    @pytest.mark.parametrize(
        ("begin", "more"),
        [
            pytest.param(b"4\r\nhalf\r\n4;", b"x" * 100, id="a-chunk-extension"),
            pytest.param(b"4\r\nhalf\r\n", b"0" * 100, id="zeros-in-a-chunk-size"),
            pytest.param(b"4\r\nhalf\r\n0\r\nX-Trailer: ", b"x" * 100, id="a-trailer"),
            pytest.param(b"4\r\nhalf\r\n0\r\n", b"X-Trailer: x\r\n", id="trailers"),
        ],
    )
    async def test_framing_that_never_ends(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask, begin: bytes, more: bytes
    ) -> None:
        """Each byte comes in time, and none of them is progress of the body (RFC 9112, 7.1)."""

        async def trickle(upstream: Upstream, wire: Wire) -> None:
            await upstream.request(wire)
            await wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + begin)
            while True:
                await wire.send(more)
                await asyncio.sleep(0.02)

        upstream = await start_upstream(trickle)
        proxied = await start_proxy(upstream.url, HASTY)
        response = await ask(proxied, "GET", "/api/machines")
        assert (response.status, response.body, response.is_whole) == (200, b"half", False)
        event = await proxied.lines.event("proxy_error")
        assert event["failure"] in {"connection_read_timeout", "http_protocol_error", "http_response_incomplete"}
        await proxied.until(lambda: in_use(proxied) == 0)

    async def test_empty_lines_before_a_head_that_never_end(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask
    ) -> None:
        async def trickle(upstream: Upstream, wire: Wire) -> None:
            await upstream.request(wire)
            while True:
                await wire.send(b"\r\n")
                await asyncio.sleep(0.02)

        upstream = await start_upstream(trickle)
        proxied = await start_proxy(upstream.url, HASTY)
        response = await ask(proxied, "POST", "/api", body=b"x")
        await assert_failed(proxied, response, 504, "http_response_timeout")

    async def test_stalled_within_an_error(self, start_proxy: StartProxy, simulator: Simulator, ask: Ask) -> None:
        proxied = await start_proxy(simulator.url, HASTY)
        response = await ask(proxied, "GET", "/_simulate/Forbidden,stall/api/machines")
        assert (response.status, response.is_whole, response.error["code"]) == (403, True, "Forbidden")
        assert (await proxied.lines.event("proxy_error"))["failure"] == "connection_read_timeout"

    async def test_pauses_shorter_than_the_limit_may_be_many(
        self, start_proxy: StartProxy, simulator: Simulator, ask: Ask
    ) -> None:
        proxied = await start_proxy(simulator.url, HASTY)
        response = await ask(proxied, "GET", "/_simulate/trickle=0.1/api/machines")
        assert (response.status, response.is_whole) == (200, True)

    async def test_the_pause_is_not_timed_once_the_body_is_whole(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial
    ) -> None:
        """A leftover timer would end the next exchange on the same connection."""

        async def pause(upstream: Upstream, wire: Wire) -> None:
            for _ in range(2):
                await upstream.request(wire)
                await asyncio.sleep(0.5 if len(upstream.requests) > 1 else 0)
                await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha")
                await asyncio.sleep(0.1)
                await wire.send(b"lf")

        upstream = await start_upstream(pause)
        proxied = await start_proxy(upstream.url, {"upstream.idle_timeout_s": "0.3"})
        wire = await dial(proxied)
        for _ in range(2):
            assert (await wire.ask("GET", "/api/machines")).body == b"half"
            await asyncio.sleep(0.4)
        assert len(upstream.wires) == 1

    @pytest.mark.parametrize("status", [b"200 OK", b"400 Bad Request"], ids=["streamed", "held"])
    @pytest.mark.parametrize("then", ["stays", "leaves"])
    @pytest.mark.parametrize(
        "broken", [b"ZZ\r\n", b"2\r\nokXX", b"f" * 17 + b"\r\n", b"0\r\n" + b"A: b\r\n" * 300], ids=str
    )
    async def test_a_body_whose_chunks_break_later(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask,
        status: bytes, broken: bytes, then: str,
    ) -> None:  # fmt: skip
        async def break_off(upstream: Upstream, wire: Wire) -> None:
            await upstream.request(wire)
            await wire.send(b"HTTP/1.1 " + status + b"\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n")
            await asyncio.sleep(0.1)
            await wire.send(broken)
            await asyncio.sleep(60 if then == "stays" else 0)

        upstream = await start_upstream(break_off)
        proxied = await start_proxy(upstream.url)
        response = await ask(proxied, "GET", "/api/machines")
        # Of an error an envelope is made, so that it is whole all the same.
        assert (response.status, response.is_whole) == ((400, True) if status.startswith(b"4") else (200, False))
        assert (await proxied.lines.event("proxy_error"))["failure"] in {
            "http_protocol_error",
            "http_response_incomplete",
        }
        await proxied.until(lambda: (in_use(proxied), proxied.sample("requests_in_flight")) == (0, 0))

    async def test_a_head_may_take_longer_than_a_pause(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial
    ) -> None:
        """One timer serves both limits: neither counts for the other's time."""

        async def slow(upstream: Upstream, wire: Wire) -> None:
            while True:
                await upstream.request(wire)
                await asyncio.sleep(0.7)
                await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha")
                await asyncio.sleep(0.05 if len(upstream.requests) < 3 else 60)
                await wire.send(b"lf")

        upstream = await start_upstream(slow)
        proxied = await start_proxy(upstream.url, {"upstream.idle_timeout_s": "0.3"})
        wire = await dial(proxied)
        for _ in range(2):
            assert (await wire.ask("GET", "/api/machines")).body == b"half"
        assert not (await wire.ask("GET", "/api/machines")).is_whole
        assert (await proxied.lines.event("proxy_error"))["failure"] == "connection_read_timeout"
        assert len(upstream.wires) == 1

    async def test_an_error_that_trickles_is_passed_on_as_it_comes(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask
    ) -> None:
        """Each byte ends a pause, and all of them together take longer than a client may be left without a head."""

        async def trickle(upstream: Upstream, wire: Wire) -> None:
            await upstream.request(wire)
            await wire.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 10\r\n\r\n")
            for _ in range(10):
                await wire.send(b"x")
                await asyncio.sleep(0.1)

        upstream = await start_upstream(trickle)
        proxied = await start_proxy(upstream.url, {"upstream.idle_timeout_s": "0.4"})
        response = await ask(proxied, "GET", "/api/machines")
        assert (response.status, response.body, response["X-Error-Code"]) == (400, b"x" * 10, "other")


class TestEverySplit:
    @pytest.mark.parametrize(
        ("answer", "is_whole"),
        [
            pytest.param(b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\nXX\r\n", False, id="chunk-that-breaks"),
            pytest.param(b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\nA: b\r\n\r\n", True, id="chunked"),
            pytest.param(b"Content-Length: 5\r\n\r\nabcde", True, id="length"),
        ],
    )
    async def test_makes_no_difference(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask, answer: bytes, *, is_whole: bool
    ) -> None:
        whole = b"HTTP/1.1 200 OK\r\n" + answer

        async def split(upstream: Upstream, wire: Wire) -> None:
            while True:
                at = int((await upstream.request(wire)).target.rpartition(b"/")[2])
                await wire.send(whole[:at])
                await asyncio.sleep(0.02)
                await wire.send(whole[at:])

        upstream = await start_upstream(split)
        proxied = await start_proxy(upstream.url)
        ends = range(1, len(whole))
        responses = await asyncio.gather(*(ask(proxied, "GET", f"/api/whatever/{at}") for at in ends))
        for response in responses:
            # Where all of it came at once, it was known to be broken before its head went on.
            assert response.is_whole is is_whole or response.status == 502
            assert not is_whole or response.body == b"abcde"
        await proxied.until(lambda: proxied.sample("requests_in_flight") == 0)
        assert proxied.sample("upstream_failures_total", failure="connection_read_timeout") == 0


class TestRead:
    async def test_a_body_that_came_with_its_head_is_read_without_waiting(self, start_upstream: StartUpstream) -> None:
        upstream = await start_upstream(OK)
        async with AiohttpUpstream.opened(upstream.url) as leg:
            for _ in range(2):
                response = await leg.send(UpstreamRequest("GET", b"/", ()))
                assert (response.is_whole, response.length, response.read_whole()) == (True, 2, b"ok")
                assert (response.read_whole(), await response.read()) == (b"", b"")
                response.close()
                response = await leg.send(UpstreamRequest("GET", b"/", ()))
                assert (await response.read(), await response.read()) == (b"ok", b"")
                response.close()
            assert leg.connections() == {"in_use": 0, "idle": 1}
        assert len(upstream.wires) == 1

    async def test_a_body_that_is_still_to_come_is_not_taken_for_whole(self, start_upstream: StartUpstream) -> None:
        async def slow(upstream: Upstream, wire: Wire) -> None:
            await upstream.request(wire)
            await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha")
            await rest.wait()
            await wire.send(b"lf")

        rest = asyncio.Event()
        upstream = await start_upstream(slow)
        async with AiohttpUpstream.opened(upstream.url) as leg:
            response = await leg.send(UpstreamRequest("GET", b"/", ()))
            with pytest.raises(RuntimeError, match="not whole"):
                response.read_whole()
            rest.set()
            pieces = [piece async for piece in _pieces(response)]
            assert b"".join(pieces) == b"half"
            response.close()

    @pytest.mark.parametrize("size", [10, 200_000], ids=["with-its-head", "behind-its-head"])
    async def test_a_body_that_is_whole_goes_out_as_it_is(self, start_upstream: StartUpstream, size: int) -> None:
        upstream = await start_upstream(OK)
        body = os.urandom(size)
        async with AiohttpUpstream.opened(upstream.url) as leg:
            (await leg.send(UpstreamRequest("POST", b"/", (), body, size))).close()
        assert [request.body for request in upstream.requests] == [body]

    async def test_lines_may_end_with_a_line_feed_alone(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial
    ) -> None:
        """RFC 9112, 2.2: the head ends sooner then than where four bytes say that a head may end."""

        async def bare(upstream: Upstream, wire: Wire) -> None:
            while True:
                await upstream.request(wire)
                await wire.send(b"HTTP/1.1 200 OK\nContent-Length: 8\n\nab\r\n\r\n")
                await asyncio.sleep(0.05)
                await wire.send(b"cd")

        upstream = await start_upstream(bare)
        proxied = await start_proxy(upstream.url)
        wire = await dial(proxied)
        for _ in range(2):
            assert (await wire.ask("GET", "/api/machines")).body == b"ab\r\n\r\ncd"
        assert len(upstream.wires) == 1


async def _pieces(response: UpstreamResponse) -> AsyncIterator[bytes]:
    while piece := await response.read():
        yield piece


class TestHeadTooLarge:
    @pytest.mark.parametrize(
        "head",
        [
            pytest.param(b"HTTP/1.1 200 OK\r\n" + (b"A: " + b"b" * 60_000 + b"\r\n") * 10, id="fields"),
            pytest.param(b"HTTP/1.1 100 C\r\n\r\n" * 10_000, id="interim-ones"),
        ],
    )
    async def test_is_not_read_on(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask, head: bytes
    ) -> None:
        upstream = await start_upstream(head + b"\r\n")
        proxied = await start_proxy(upstream.url)
        await assert_failed(proxied, await ask(proxied, "GET", "/api/machines"), 502, "http_protocol_error")


class TestRestart:
    async def test_no_safe_request_fails_when_the_upstream_is_replaced_under_load(
        self, start_proxy: StartProxy, dial: Dial
    ) -> None:
        """The new one listens before the old one ends, as in a rolling restart; pooled connections die all the same."""

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.add(writer)
            try:
                while True:
                    await reader.readuntil(b"\r\n\r\n")
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            except (asyncio.IncompleteReadError, ConnectionError):
                writer.close()

        async def load() -> None:
            wire = await dial(proxied)
            while not is_over.is_set():
                statuses.append((await wire.ask("GET", "/api/machines/1")).status)

        writers: set[asyncio.StreamWriter] = set()
        statuses: list[int] = []
        is_over = asyncio.Event()
        server = await asyncio.start_server(answer, "127.0.0.1", 0, reuse_port=True)
        port = server.sockets[0].getsockname()[1]
        proxied = await start_proxy(f"http://127.0.0.1:{port}")
        clients = [asyncio.create_task(load()) for _ in range(8)]
        for _ in range(5):
            seen = len(statuses)
            await proxied.until(lambda: len(statuses) >= seen + 100)  # noqa: B023 - awaited at once
            former, server = server, await asyncio.start_server(answer, "127.0.0.1", port, reuse_port=True)
            former.close()
            old, writers = writers, set()
            for writer in old:
                writer.transport.abort()
        is_over.set()
        await asyncio.gather(*clients)
        server.close()
        assert set(statuses) == {200}


def _own_names(hosts: Path) -> list[str]:
    """Return what to put before a command that is to read its names from `hosts`, empty where that cannot be had."""
    prefix = [
        "unshare",
        "--mount",
        "--map-root-user",
        "sh",
        "-c",
        'mount --bind "$0" /etc/hosts && exec "$@"',
        str(hosts),
    ]
    try:
        done = subprocess.run([*prefix, "true"], capture_output=True, check=False, timeout=10)
    except OSError:
        return []
    return prefix if done.returncode == 0 else []


async def test_a_name_that_leads_elsewhere_is_followed_once_the_old_address_is_gone(
    tmp_path: Path,
) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost\n127.0.0.1 upstream.test\n")
    prefix = _own_names(hosts)
    if not prefix:
        pytest.skip("needs a mount namespace of its own, for names of its own")

    async def serve(name: bytes, host: str, port: int = 0) -> asyncio.Server:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            # Each answer is its connection's last.
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\n" + name)
            writer.close()

        return await asyncio.start_server(answer, host, port)

    old = await serve(b"old", "127.0.0.1")
    port = old.sockets[0].getsockname()[1]
    new = await serve(b"new", "127.0.0.2", port)
    command = [*prefix, sys.executable, "-m", "proxy", "run", "--upstream", f"http://upstream.test:{port}"]
    process = await asyncio.create_subprocess_exec(
        *command, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "DEFENDER_SIDECAR_DRAIN__DELAY_S": "0"},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        serving = heard(await process.stdout.readline())
        wire = await dialled(int(serving["listen"].rpartition(":")[2]))
        assert (await wire.ask("GET", "/api/machines/1")).body == b"old"
        hosts.write_text("127.0.0.1 localhost\n127.0.0.2 upstream.test\n")
        old.close()
        assert (await wire.ask("GET", "/api/machines/1")).status == 502
        assert (await wire.ask("GET", "/api/machines/1")).body == b"new"
        await wire.close()
    finally:
        process.terminate()
        await process.wait()
        new.close()


class TestSurplus:
    """Bytes behind the end of a response say nothing of it (RFC 9112, 6.3), and nothing to whoever asks next."""

    @pytest.mark.parametrize(
        ("method", "answer", "status", "body"),
        [
            pytest.param("GET", b"200 OK\r\nContent-Length: 2\r\n\r\nok and more", 200, b"ok", id="length"),
            pytest.param("GET", b"200 OK\r\nContent-Length: 0\r\n\r\nmore", 200, b"", id="no-body"),
            pytest.param("HEAD", b"200 OK\r\nContent-Length: 4\r\n\r\nmore", 200, b"", id="body-behind-head"),
            pytest.param("GET", b"204 No Content\r\n\r\nmore", 204, b"", id="body-behind-204"),
            pytest.param("GET", b'304 Not Modified\r\nETag: "x"\r\n\r\nmore', 304, b"", id="body-behind-304"),
            pytest.param(
                "GET",
                b"103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\nmore",
                103,
                b"",
                id="interim-one",
            ),
        ],
    )
    @pytest.mark.parametrize("cut", [None, 1, 3], ids=["one-segment", "byte-by-byte", "in-threes"])
    async def test_it_costs_the_connection_alone(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial,
        method: str, answer: bytes, status: int, body: bytes, cut: int | None,
    ) -> None:  # fmt: skip
        async def script(upstream: Upstream, wire: Wire) -> None:
            await upstream.request(wire)
            whole = b"HTTP/1.1 " + answer
            for at in range(0, len(whole), cut or len(whole)):
                await wire.send(whole[at : at + (cut or len(whole))])
                await asyncio.sleep(0)
            # A second request on this connection would be answered so.
            await upstream.request(wire)
            await wire.send(b"HTTP/1.1 500 Off by one\r\nContent-Length: 0\r\n\r\n")

        upstream = await start_upstream(script)
        proxied = await start_proxy(upstream.url)
        wire = await dial(proxied)
        for _ in range(2):
            await wire.send(f"{method} /api/machines/1 HTTP/1.1\r\nHost: sidecar\r\n\r\n".encode())
            response = await wire.message(method)
            assert (response.status, response.body) == (status, body)
            if status < 200:
                assert (await wire.message(method)).status == 204
        assert len(upstream.wires) == 2


class TestPool:
    @pytest.mark.parametrize(
        ("stray", "rest"),
        [
            pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL", b"", id="an-answer"),
            pytest.param(b"HTTP/1.1 408 Request Ti", b"meout\r\nContent-Length: 4\r\n\r\nEVIL", id="half-a-head"),
            pytest.param(b"HTTP/1.1 200 OK\r\nX-Pad: ", b"HTTP/1.1 200 OK\r\n\r\n", id="half-a-field"),
            pytest.param(b"\r\n", b"", id="an-empty-line"),
            pytest.param(b"zzz", b"", id="garbage"),
            pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n", b"", id="an-interim-response"),
        ],
    )
    @pytest.mark.parametrize("when", ["at-once", "later"])
    async def test_what_comes_unasked_is_nobodys_answer(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask, stray: bytes, rest: bytes, when: str
    ) -> None:
        """It would be the answer to the next request, and that one's answer the next but one's."""

        async def chatter(upstream: Upstream, wire: Wire) -> None:
            is_first = len(upstream.wires) == 1
            if is_first:
                await upstream.request(wire)
                await wire.send(OK + (stray if when == "at-once" else b""))
                await asyncio.sleep(0.05)
                await wire.send(stray if when == "later" else b"")
            await upstream.request(wire)
            await wire.send((rest if is_first else b"") + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmine")

        upstream = await start_upstream(chatter)
        proxied = await start_proxy(upstream.url)
        # What stands behind an answer in one segment may spoil that answer, and no other.
        first = await ask(proxied, "POST", "/api")
        assert first.body == b"ok" or (when, first.status) == ("at-once", 502)
        await asyncio.sleep(0.15)
        assert (await ask(proxied, "POST", "/api")).body == b"mine"
        # An empty line behind an answer means nothing.
        assert len(upstream.wires) == 2 or (when, stray) == ("at-once", b"\r\n")

    async def test_what_the_event_loop_has_not_read_yet_is_seen(self) -> None:
        """It may come while a body is being checked, between two looks of the event loop."""
        one, other = socket.socketpair()
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: UpstreamConnection(loop), sock=one)
        with other:
            seen = [connection.has_input]
            other.send(b"x")
            seen.append(connection.has_input)
        connection.close()
        assert [*seen, connection.has_input] == [False, True, True]

    def test_reading_maps_no_memory_anew(self) -> None:
        async def size_of_reads() -> object:
            one, other = socket.socketpair()
            loop = asyncio.get_running_loop()
            transport, connection = await loop.create_connection(lambda: UpstreamConnection(loop), sock=one)
            other.close()
            connection.close()
            return getattr(transport, "max_size", None)

        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            assert runner.run(size_of_reads()) == 64 * 1024

    async def test_what_comes_unasked_ends_the_connection_at_once(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask
    ) -> None:
        """Nobody has to come for it first, and none of it is kept."""

        async def chatter(upstream: Upstream, wire: Wire) -> None:
            await upstream.request(wire)
            await wire.send(OK)
            await unasked.wait()
            await wire.send(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
            await wire.rest()

        unasked = asyncio.Event()
        upstream = await start_upstream(chatter)
        proxied = await start_proxy(upstream.url)
        assert (await ask(proxied, "GET", "/api")).body == b"ok"
        assert idle(proxied) == 1
        unasked.set()
        await proxied.until(lambda: idle(proxied) == 0)
        await proxied.until(upstream.wires[0].reader.at_eof)

    async def test_connections_are_used_again(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask
    ) -> None:
        upstream = await start_upstream(OK)
        proxied = await start_proxy(upstream.url)
        for method in ("GET", "POST", "GET", "PUT"):
            assert (await ask(proxied, method, "/api")).body == b"ok"
        assert len(upstream.wires) == 1
        assert (in_use(proxied), idle(proxied)) == (0, 1)

    async def test_the_one_used_last_is_used_next_and_those_too_many_grow_old(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial
    ) -> None:
        gate = asyncio.Event()

        async def answer(upstream: Upstream, wire: Wire) -> None:
            while True:
                await upstream.request(wire)
                await gate.wait()
                await wire.send(OK)

        upstream = await start_upstream(answer)
        proxied = await start_proxy(upstream.url, {"upstream.keepalive_timeout_s": "0.5"})
        wires = [await dial(proxied) for _ in range(3)]
        answers = asyncio.gather(*(wire.ask("GET", "/first") for wire in wires))
        await proxied.until(lambda: len(upstream.requests) == 3)
        gate.set()
        await answers
        await proxied.until(lambda: idle(proxied) == 3)
        # Were they used in turn, none of them would ever grow old.
        for _ in range(100):
            assert (await wires[0].ask("GET", "/next")).body == b"ok"
            await asyncio.sleep(0.05)
            if idle(proxied) == 1:
                break
        assert len(upstream.wires) == 3
        assert [wire.reader.at_eof() for wire in upstream.wires].count(True) == 2

    async def test_whoever_waits_for_a_connection_gets_it_in_turn(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial
    ) -> None:
        gate = asyncio.Event()

        async def answer(upstream: Upstream, wire: Wire) -> None:
            while True:
                await upstream.request(wire)
                await gate.wait()
                await wire.send(OK)

        upstream = await start_upstream(answer)
        proxied = await start_proxy(upstream.url, {"upstream.max_connections": "1"})
        wires = [await dial(proxied) for _ in range(5)]
        for number, wire in enumerate(wires, 1):
            await wire.send(b"GET /%d HTTP/1.1\r\nHost: sidecar\r\n\r\n" % number)
            await proxied.until(lambda: proxied.sample("requests_in_flight") == number)  # noqa: B023 - awaited at once
        # One that leaves passes its turn on.
        wires[2].reset()
        await proxied.until(lambda: proxied.sample("requests_in_flight") == 4)
        gate.set()
        for wire in (wires[0], wires[1], wires[3], wires[4]):
            assert (await wire.message()).body == b"ok"
        assert [request.target for request in upstream.requests] == [b"/1", b"/2", b"/4", b"/5"]
        assert len(upstream.wires) == 1
        await proxied.until(lambda: (in_use(proxied), idle(proxied)) == (0, 1))

    async def test_a_connection_that_ends_makes_room_for_another(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask
    ) -> None:
        upstream = await start_upstream(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
        proxied = await start_proxy(upstream.url, {"upstream.max_connections": "2"})
        answers = await asyncio.gather(*(ask(proxied, "POST", "/api") for _ in range(10)))
        assert {(answer.status, answer.body) for answer in answers} == {(200, b"ok")}
        assert len(upstream.wires) == 10
        await proxied.until(lambda: (in_use(proxied), idle(proxied)) == (0, 0))

    async def test_connections_that_cannot_be_opened_take_no_room(self) -> None:
        with socket.socket() as plug:
            plug.bind(("127.0.0.1", 0))
            nobody = f"http://127.0.0.1:{plug.getsockname()[1]}"
            async with AiohttpUpstream.opened(nobody, max_connections=2, connect_timeout_s=1) as leg:
                for _ in range(5):
                    with pytest.raises(UpstreamError) as caught:
                        await leg.send(UpstreamRequest("POST", b"/", ()))
                    assert caught.value.failure is Failure.CONNECTION_REFUSED
                assert leg.connections() == {"in_use": 0, "idle": 0}

    async def test_a_leg_that_is_closed_lets_nobody_wait(self, start_upstream: StartUpstream) -> None:
        async def silent(upstream: Upstream, wire: Wire) -> None:
            await upstream.request(wire)
            is_asked.set()
            await wire.rest()

        is_asked = asyncio.Event()
        upstream = await start_upstream(silent)
        async with AiohttpUpstream.opened(upstream.url, max_connections=1) as leg:
            asked = [asyncio.create_task(leg.send(UpstreamRequest("POST", b"/", ()))) for _ in range(2)]
            await is_asked.wait()
        failures = await asyncio.gather(*asked, return_exceptions=True)
        assert [failure.failure for failure in failures if isinstance(failure, UpstreamError)] == [
            Failure.CONNECTION_TERMINATED
        ] * 2

    async def test_an_idle_connection_is_closed_in_time(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask
    ) -> None:
        upstream = await start_upstream(OK)
        proxied = await start_proxy(upstream.url, {"upstream.keepalive_timeout_s": "0.2"})
        await ask(proxied, "GET", "/api")
        await proxied.until(lambda: idle(proxied) == 0)
        await proxied.until(upstream.wires[0].reader.at_eof)

    @pytest.mark.parametrize(
        "answer",
        [
            pytest.param(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", id="connection-close"),
            pytest.param(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", id="http-1.0"),
        ],
    )
    async def test_a_connection_whose_end_was_announced_is_not_used_again(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask, answer: bytes
    ) -> None:
        upstream = await start_upstream(answer)
        proxied = await start_proxy(upstream.url)
        for _ in range(2):
            response = await ask(proxied, "GET", "/api")
            assert (response.status, response.body) == (200, b"ok")
            assert "Connection" not in response
        assert len(upstream.wires) == 2

    @pytest.mark.parametrize(
        ("answer", "connections"),
        [
            pytest.param(b"HTTP/1.1 200 OK\r\n\r\n", 1, id="no-length"),
            pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 1, id="chunked"),
            pytest.param(b"HTTP/1.1 200 OK\r\nConnection: x, Close\r\n\r\n", 3, id="close"),
            pytest.param(b"HTTP/1.0 200 OK\r\n\r\n", 3, id="http-1.0"),
        ],
    )
    async def test_the_answer_to_head_ends_with_its_head(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask, answer: bytes, connections: int
    ) -> None:
        """RFC 9112, 6.3: whatever its fields say, and so its connection may be used again."""
        upstream = await start_upstream(answer)
        proxied = await start_proxy(upstream.url)
        for _ in range(3):
            assert (await ask(proxied, "HEAD", "/api")).status == 200
        assert len(upstream.wires) == connections

    async def test_a_body_behind_the_answer_to_head_is_nobodys_answer(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask
    ) -> None:
        async def surplus(upstream: Upstream, wire: Wire) -> None:
            await upstream.request(wire)
            await wire.send(b"HTTP/1.1 200 OK\r\n\r\n")
            await asyncio.sleep(0.05)
            await wire.send(OK.replace(b"ok", b"no"))
            await upstream.request(wire)

        upstream = await start_upstream(surplus)
        proxied = await start_proxy(upstream.url)
        for _ in range(2):
            assert (await ask(proxied, "HEAD", "/api")).status == 200
            await asyncio.sleep(0.15)
        assert len(upstream.wires) == 2

    @pytest.mark.parametrize("framing", [b"Content-Length: %d" % len(OK), b"Transfer-Encoding: chunked"])
    async def test_a_body_that_a_204_announces_is_nobodys_answer(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask, framing: bytes
    ) -> None:
        """RFC 9110, 8.6: it may not, and whatever comes of it could come behind the next request."""

        async def announcing(upstream: Upstream, wire: Wire) -> None:
            await upstream.request(wire)
            await wire.send(b"HTTP/1.1 204 No Content\r\n" + framing + b"\r\n\r\n")
            await upstream.request(wire)

        upstream = await start_upstream(announcing)
        proxied = await start_proxy(upstream.url)
        for _ in range(2):
            assert (await ask(proxied, "GET", "/api")).status == 204
        assert len(upstream.wires) == 2

    async def test_closed_meanwhile(self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask) -> None:
        """An end that is known before the request is sent costs nobody anything: not even a POST."""

        async def once(upstream: Upstream, wire: Wire) -> None:
            await upstream.request(wire)
            await wire.send(OK)

        upstream = await start_upstream(once)
        proxied = await start_proxy(upstream.url)
        for _ in range(3):
            assert (await ask(proxied, "POST", "/api", body=b"x")).body == b"ok"
            await asyncio.sleep(0.05)
        assert len(upstream.requests) == 3
        assert proxied.sample("retries_total", reason="connection_terminated") == 0

    @pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
    async def test_a_safe_request_that_met_a_dying_connection_is_sent_once_more(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask, method: str
    ) -> None:
        async def die_at_the_second(upstream: Upstream, wire: Wire) -> None:
            await upstream.request(wire)
            await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            await upstream.request(wire)

        upstream = await start_upstream(die_at_the_second)
        proxied = await start_proxy(upstream.url)
        await ask(proxied, "GET", "/first")
        assert (await ask(proxied, method, "/second")).status == 200
        assert [request.target for request in upstream.requests] == [b"/first", b"/second", b"/second"]
        assert upstream.requests[1] == upstream.requests[2]
        assert len(upstream.wires) == 2
        assert proxied.sample("retries_total", reason="connection_terminated") == 1

    async def test_a_resend_never_meets_a_pooled_connection(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask, dial: Dial
    ) -> None:
        """Several pooled connections die at once; one resend has to do."""
        gate = asyncio.Event()

        async def die_at_the_second(upstream: Upstream, wire: Wire) -> None:
            await upstream.request(wire)
            await gate.wait()
            await wire.send(OK)
            await upstream.request(wire)

        upstream = await start_upstream(die_at_the_second)
        proxied = await start_proxy(upstream.url)
        wires = [await dial(proxied) for _ in range(4)]
        answers = asyncio.gather(*(wire.ask("GET", "/first") for wire in wires))
        await proxied.until(lambda: len(upstream.requests) == 4)
        gate.set()
        assert {answer.status for answer in await answers} == {200}
        await proxied.until(lambda: idle(proxied) == 4)
        assert (await ask(proxied, "GET", "/second")).status == 200
        assert len(upstream.requests) == 6

    async def test_sent_twice_at_the_most(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask
    ) -> None:
        async def die(upstream: Upstream, wire: Wire) -> None:
            await upstream.request(wire)

        upstream = await start_upstream(die)
        proxied = await start_proxy(upstream.url)
        response = await ask(proxied, "GET", "/api")
        await assert_failed(proxied, response, 502, "connection_terminated")
        assert len(upstream.requests) == 2
        assert proxied.sample("retries_total", reason="connection_terminated") == 1
        assert (await proxied.lines.event("proxy_error"))["resend"] == "connection_terminated"

    @pytest.mark.parametrize(
        ("method", "body"),
        [
            pytest.param("POST", b"x", id="post"),
            pytest.param("POST", b"", id="post-without-a-body"),
            pytest.param("PATCH", b"x", id="patch"),
            pytest.param("PUT", b"x", id="put"),
            pytest.param("DELETE", b"", id="delete"),
        ],
    )
    async def test_an_unsafe_request_is_never_sent_twice(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask, method: str, body: bytes
    ) -> None:
        async def die_at_the_second(upstream: Upstream, wire: Wire) -> None:
            await upstream.request(wire)
            await wire.send(OK)
            await upstream.request(wire)

        upstream = await start_upstream(die_at_the_second)
        proxied = await start_proxy(upstream.url)
        await ask(proxied, "GET", "/first")
        response = await ask(proxied, method, "/second", body=body)
        await assert_failed(proxied, response, 502, "connection_terminated")
        assert len(upstream.requests) == 2
        assert proxied.sample("retries_total", reason="connection_terminated") == 0

    @pytest.mark.parametrize(
        "surplus",
        [
            pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen", id="a-response-nobody-asked-for"),
            pytest.param(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n", id="a-late-408"),
            pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n", id="an-interim-response"),
            pytest.param(b"stolen", id="bytes"),
            pytest.param(b"\r\n", id="an-empty-line"),
        ],
    )
    @pytest.mark.parametrize("delay_s", [0, 0.05], ids=["at-once", "while-idle"])
    async def test_what_comes_unasked_is_given_to_nobody(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask, surplus: bytes, delay_s: float
    ) -> None:
        async def chatty(upstream: Upstream, wire: Wire) -> None:
            while True:
                asked = await upstream.request(wire)
                answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(asked.target), asked.target)
                if delay_s:
                    await wire.send(answer)
                    await asyncio.sleep(delay_s)
                    await wire.send(surplus)
                else:
                    await wire.send(answer + surplus)

        upstream = await start_upstream(chatty)
        proxied = await start_proxy(upstream.url)
        for number in range(3):
            response = await ask(proxied, "GET", f"/{number}")
            # Bytes that are no HTTP, in one segment with the response, may spoil it, but never become one.
            if (surplus, delay_s, response.status) != (b"stolen", 0, 502):
                assert (response.status, response.body) == (200, b"/%d" % number)
            await asyncio.sleep(2 * delay_s)
        if surplus != b"\r\n":
            assert len(upstream.wires) == 3

    async def test_a_response_with_two_framings_ends_where_its_chunks_do(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask
    ) -> None:
        """RFC 9112, 6.3: Transfer-Encoding overrides Content-Length, and nobody may be told both."""
        upstream = await start_upstream(
            b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
        )
        proxied = await start_proxy(upstream.url)
        response = await ask(proxied, "GET", "/api")
        assert (response.status, response.is_whole) in {(200, True), (502, True)}
        if response.status == 200:
            assert response.body == b"ok"
            assert response.values("Content-Length") == []

    async def test_a_response_that_is_not_read_to_its_end_costs_its_connection(
        self, start_proxy: StartProxy, simulator: Simulator, dial: Dial, ask: Ask
    ) -> None:
        proxied = await start_proxy(simulator.url)
        wire = await dial(proxied)
        await wire.send(b"GET /_simulate/size=50000000/big HTTP/1.1\r\nHost: sidecar\r\n\r\n")
        await wire.head()
        wire.reset()
        await proxied.until(lambda: in_use(proxied) == 0)
        assert idle(proxied) == 0
        assert (await ask(proxied, "GET", "/api/machines")).status == 200


class TestClientLeaves:
    async def test_while_it_waits(self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial) -> None:
        ended: list[float] = []

        async def silent(upstream: Upstream, wire: Wire) -> None:
            await upstream.request(wire)
            await wire.rest()
            ended.append(time.perf_counter())

        upstream = await start_upstream(silent)
        proxied = await start_proxy(upstream.url)
        wire = await dial(proxied)
        await wire.send(b"GET /api HTTP/1.1\r\nHost: sidecar\r\n\r\n")
        await proxied.until(lambda: upstream.requests)
        left = time.perf_counter()
        await wire.close()
        await proxied.until(lambda: ended)
        assert ended[0] - left < 1
        event = await proxied.lines.event("proxy_error")
        assert event["failure"] == "client_disconnected"
        assert "status" not in event
        assert proxied.sample("requests_total", operation="unknown", status="none") == 1
        await proxied.until(lambda: (in_use(proxied), proxied.sample("requests_in_flight")) == (0, 0))

    @pytest.mark.parametrize("target", ["/upload", "/api/machines/1/isolate"], ids=["streamed", "checked"])
    async def test_while_something_is_changed(self, proxied: Proxied, dial: Dial, target: str) -> None:
        """The machine is isolated or is not, whoever waits for it: the log must say which, and under what target ID."""
        wire = await dial(proxied)
        body = b'{"Comment": "c", "IsolationType": "Full"}'
        await wire.send(
            f"POST {target} HTTP/1.1\r\nHost: sidecar\r\nX-Simulate: Forbidden, slow=0.3\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        )
        await asyncio.sleep(0.05)
        await wire.send(body)
        await proxied.until(lambda: in_use(proxied))
        await wire.close()
        event = await proxied.lines.event("proxy_error")
        assert (event["failure"], event["level"]) == ("client_disconnected", "warning")
        assert (event["status"], event["error_code"], event["origin"]) == (403, "Forbidden", "upstream")
        assert event["target_source"] == "envelope"
        assert proxied.sample("errors_total", code="Forbidden", status="403", origin="upstream") == 1
        await proxied.until(lambda: (in_use(proxied), proxied.sample("requests_in_flight")) == (0, 0))

    async def test_before_anything_could_be_changed(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial
    ) -> None:
        """What waits for a connection is not sent for a client that has left: it may have asked elsewhere."""
        answer = asyncio.Event()

        async def slow(upstream: Upstream, wire: Wire) -> None:
            while True:
                await upstream.request(wire)
                await answer.wait()
                await wire.send(OK)

        upstream = await start_upstream(slow)
        proxied = await start_proxy(upstream.url, {"upstream.max_connections": "1"})
        first, second = await dial(proxied), await dial(proxied)
        await first.send(b"GET /api HTTP/1.1\r\nHost: sidecar\r\n\r\n")
        await proxied.until(lambda: upstream.requests)
        await second.send(b"DELETE /api/indicators/1 HTTP/1.1\r\nHost: sidecar\r\n\r\n")
        await proxied.until(lambda: proxied.sample("requests_in_flight") == 2)
        second.reset()
        assert (await proxied.lines.event("proxy_error"))["failure"] == "client_disconnected"
        answer.set()
        assert (await first.message()).body == b"ok"
        await asyncio.sleep(0.1)
        assert [request.start_line for request in upstream.requests] == [b"GET /api HTTP/1.1"]

    async def test_it_says_that_it_will_send_no_more_and_reads_nothing(
        self, start_proxy: StartProxy, simulator: Simulator, dial: Dial
    ) -> None:
        proxied = await start_proxy(simulator.url, {"downstream.write_timeout_s": "0.3"})
        wire = await dial(proxied)
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await wire.send(b"GET /_simulate/size=100000000/api HTTP/1.1\r\nHost: sidecar\r\n\r\n")
        await asyncio.sleep(0.2)
        wire.writer.write_eof()
        await proxied.lines.event("proxy_error")
        await proxied.until(lambda: (in_use(proxied), proxied.sample("requests_in_flight")) == (0, 0))

    async def test_the_drain_waits_for_what_is_carried_on(
        self, start_proxy: StartProxy, simulator: Simulator, dial: Dial
    ) -> None:
        async with AsyncExitStack() as stack:
            proxied = await start_proxy(simulator.url, within=stack)
            wire = await dial(proxied)
            await wire.send(b"DELETE /api/indicators/1 HTTP/1.1\r\nHost: a\r\nX-Simulate: NotFound, slow=0.4\r\n\r\n")
            await proxied.until(lambda: in_use(proxied))
            await wire.close()
        assert (await proxied.lines.event("proxy_error"))["status"] == 404

    @pytest.mark.parametrize("framing", [b"Content-Length: 100", b"Transfer-Encoding: chunked"], ids=["length", "te"])
    @pytest.mark.parametrize("target", [b"/upload", b"/api/machines/1/isolate"], ids=["streamed", "checked"])
    async def test_within_its_request(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial, framing: bytes, target: bytes
    ) -> None:
        """What was half sent must not look whole to the upstream; what was to be checked was not sent at all."""

        async def listen(upstream: Upstream, wire: Wire) -> None:
            await upstream.request(wire)

        upstream = await start_upstream(listen)
        proxied = await start_proxy(upstream.url)
        wire = await dial(proxied)
        await wire.send(b"POST " + target + b" HTTP/1.1\r\nHost: sidecar\r\n" + framing + b"\r\n\r\n4\r\nhalf\r\n")
        await (proxied.until(lambda: upstream.wires) if target == b"/upload" else asyncio.sleep(0.1))
        await wire.close()
        assert (await proxied.lines.event("proxy_error"))["failure"] == "client_disconnected"
        if target == b"/upload":
            await proxied.until(lambda: upstream.requests)
            assert not upstream.requests[0].is_whole
        else:
            assert upstream.wires == []
        await proxied.until(lambda: (in_use(proxied), proxied.sample("requests_in_flight")) == (0, 0))

    async def test_within_its_response(self, proxied: Proxied, simulator: Simulator, dial: Dial) -> None:
        wire = await dial(proxied)
        await wire.send(b"GET /_simulate/trickle=0.05,size=100000000/api HTTP/1.1\r\nHost: sidecar\r\n\r\n")
        await wire.head()
        await wire.close()
        assert (await proxied.lines.event("proxy_error"))["failure"] == "client_disconnected"
        await proxied.until(lambda: (in_use(proxied), proxied.sample("requests_in_flight")) == (0, 0))
        assert len(simulator.received) == 1

    async def test_it_stays_and_reads_slowly(self, start_proxy: StartProxy, simulator: Simulator, dial: Dial) -> None:
        """The whole takes several times the standstill that is allowed; there is none."""
        proxied = await start_proxy(simulator.url, {"downstream.write_timeout_s": "0.4"})
        wire = await dial(proxied)
        wire.within_s = 30
        size = 12_000_000
        began = time.perf_counter()
        await wire.send(b"GET /_simulate/size=%d/api HTTP/1.1\r\nHost: sidecar\r\n\r\n" % size)
        await wire.head()
        read = 0
        while read < size:
            read += len(await wire.reader.read(200_000))
            await asyncio.sleep(0.04 if time.perf_counter() - began < 2 else 0)
        assert time.perf_counter() - began > 2
        assert not [event for event in proxied.lines.events() if event["event"] == "proxy_error"]

    async def test_it_stays_but_does_not_read(self, start_proxy: StartProxy, simulator: Simulator, dial: Dial) -> None:
        proxied = await start_proxy(simulator.url, {"downstream.write_timeout_s": "0.3"})
        wire = await dial(proxied)
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await wire.send(b"GET /_simulate/size=100000000/api HTTP/1.1\r\nHost: sidecar\r\n\r\n")
        assert (await proxied.lines.event("proxy_error"))["failure"] == "client_write_timeout"
        await proxied.until(lambda: (in_use(proxied), proxied.sample("requests_in_flight")) == (0, 0))


class TestEgressProxy:
    async def test_a_plain_upstream_is_asked_for_in_absolute_form(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """RFC 9112, 3.2.2; and the credentials of the egress proxy are for it alone (RFC 9110, 11.7.2)."""
        egress = await start_upstream(OK)
        monkeypatch.setenv("http_proxy", egress.url.replace("http://", "http://user:word@"))
        proxied = await start_proxy("http://defender.example", {"upstream.proxy_from_environment": "true"})
        assert (await ask(proxied, "GET", "/api/machines?$top=1")).status == 200
        (request,) = egress.requests
        assert request.start_line == b"GET http://defender.example/api/machines?$top=1 HTTP/1.1"
        assert request["Host"] == "defender.example"
        assert request["Proxy-Authorization"] == "Basic dXNlcjp3b3Jk"

    async def test_a_tunnel_is_asked_for_with_two_fields(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """RFC 9110, 9.3.6: no more than where to, and who asks."""
        heads: list[Message] = []

        async def refuse(_upstream: Upstream, wire: Wire) -> None:
            heads.append(await wire.head())
            await wire.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

        egress = await start_upstream(refuse)
        monkeypatch.setenv("https_proxy", egress.url.replace("http://", "http://user:word@"))
        proxied = await start_proxy("https://defender.example", {"upstream.proxy_from_environment": "true"})
        response = await ask(proxied, "GET", "/api/machines", b"Authorization: Bearer S3CR3T")
        await assert_failed(proxied, response, 502, "egress_proxy_error")
        assert heads[0].start_line == b"CONNECT defender.example:443 HTTP/1.1"
        assert sorted(heads[0].fields) == [
            (b"Host", b"defender.example"),
            (b"Proxy-Authorization", b"Basic dXNlcjp3b3Jk"),
        ]

    async def test_a_scheme_may_be_left_out(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        egress = await start_upstream(OK)
        monkeypatch.setenv("http_proxy", egress.url.removeprefix("http://"))
        proxied = await start_proxy("http://defender.example", {"upstream.proxy_from_environment": "true"})
        assert (await ask(proxied, "GET", "/api/machines")).status == 200
        assert len(egress.requests) == 1

    @pytest.mark.parametrize(
        "named", ["http://[::", "socks5://user:S3CR3T@127.0.0.1:1080", "http://", "http://host:port", "ftp://host"]
    )
    async def test_what_is_no_http_proxy_is_told_at_the_start(
        self, start_proxy: StartProxy, monkeypatch: pytest.MonkeyPatch, named: str
    ) -> None:
        monkeypatch.setenv("https_proxy", named)
        with pytest.raises(StartError, match=r"HTTPS_PROXY: must be http://HOST:PORT") as caught:
            await start_proxy("https://defender.example", {"upstream.proxy_from_environment": "true"})
        assert "S3CR3T" not in str(caught.value)

    async def test_it_is_not_used_unasked(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        egress, upstream = await start_upstream(OK), await start_upstream(OK)
        monkeypatch.setenv("http_proxy", egress.url)
        proxied = await start_proxy(upstream.url)
        assert (await ask(proxied, "GET", "/api/machines")).status == 200
        assert (len(egress.requests), len(upstream.requests)) == (0, 1)
