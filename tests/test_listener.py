"""The client's side over real sockets: what is taken, what is refused and how, and what a response looks like."""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from proxy.listener import ConnectionLimits, GuardedConnection
from tests.conftest import dialled

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from proxy.simulator import Simulator
    from tests.conftest import Message, Proxied, Upstream, Wire

    StartProxy = Callable[..., Awaitable[Proxied]]
    StartUpstream = Callable[..., Awaitable[Upstream]]
    Ask = Callable[..., Awaitable[Message]]
    Dial = Callable[[Proxied], Awaitable[Wire]]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GET = b"GET /api/machines HTTP/1.1\r\nHost: sidecar\r\n"
POST = b"POST /upload HTTP/1.1\r\nHost: sidecar\r\n"
CHECKED = b"POST /api/machines/1/isolate HTTP/1.1\r\nHost: sidecar\r\nContent-Type: application/json\r\n"


async def assert_refused(proxied: Proxied, wire: Wire, status: int, failure: str) -> Message:
    """Assert that all there is to be read is the envelope for `failure`, and that the connection ends with it."""
    response = await wire.message()
    assert response.status == status
    assert response.is_whole
    assert response["X-Error-Origin"] == "proxy"
    assert response["X-Target-Id"] == response.error["target"]
    assert response["X-Error-Code"] == response["x-ms-error-code"] == response.error["code"]
    assert response["Content-Type"] == "application/json"
    assert response["Cache-Control"] == "no-store"
    assert response["Proxy-Status"].startswith("defender-sidecar; error=")
    assert response["X-Request-Id"]
    if status != 431 or "Connection" in response:
        # A head that is whole, if too large, leaves the connection usable.
        assert response["Connection"] == "close"
        assert await wire.rest() == b""
    event = await proxied.lines.event("proxy_error")
    assert (event["failure"], event["status"]) == (failure, status)
    assert event["target_id"] == response.error["target"]
    assert proxied.sample("errors_total", code=response.error["code"], status=str(status), origin="proxy") == 1
    assert proxied.sample("requests_total", operation=event["operation"], status=str(status)) == 1
    await proxied.until(lambda: proxied.sample("requests_in_flight") == 0)
    return response


class TestMalformed:
    @pytest.mark.parametrize(
        "request_bytes",
        [
            pytest.param(
                POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="length-and-chunked"
            ),
            pytest.param(
                POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n", id="chunked-and-length"
            ),
            pytest.param(POST + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde", id="two-lengths"),
            pytest.param(POST + b"Content-Length: 4, 5\r\n\r\nabcde", id="a-list-of-lengths"),
            pytest.param(POST + b"Content-Length: +4\r\n\r\nabcd", id="signed-length"),
            pytest.param(POST + b"Content-Length: -1\r\n\r\n", id="negative-length"),
            pytest.param(POST + b"Content-Length: 0x4\r\n\r\nabcd", id="hexadecimal-length"),
            pytest.param(POST + b"Content-Length: 4 4\r\n\r\nabcd", id="length-with-a-space"),
            pytest.param(POST + b"Content-Length: " + b"9" * 40 + b"\r\n\r\n", id="length-beyond-64-bits"),
            pytest.param(POST + b"Content-Length:\r\n\r\n", id="empty-length"),
            pytest.param(POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", id="unknown-transfer-coding"),
            pytest.param(POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", id="chunked-not-last"),
            pytest.param(
                POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", id="te-twice"
            ),
            pytest.param(POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", id="te-with-vertical-tab"),
            pytest.param(GET + b"X-Folded: a\r\n b\r\n\r\n", id="obs-fold"),
            pytest.param(GET + b" X-First: a\r\n\r\n", id="space-before-a-name"),
            pytest.param(GET + b"X-Space : a\r\n\r\n", id="space-before-the-colon"),
            pytest.param(POST + b"Content-Length : 4\r\n\r\nabcd", id="space-before-the-colon-of-the-length"),
            pytest.param(GET + b"X Space: a\r\n\r\n", id="space-in-a-name"),
            pytest.param(GET + b": a\r\n\r\n", id="no-name"),
            pytest.param(GET + b"no colon\r\n\r\n", id="no-colon"),
            pytest.param(GET + b"X-Nul: a\x00b\r\n\r\n", id="nul-in-a-value"),
            pytest.param(GET + b"X-\x00Nul: a\r\n\r\n", id="nul-in-a-name"),
            pytest.param(GET + b"X-Control: a\x01b\r\n\r\n", id="control-character-in-a-value"),
            pytest.param(GET + b"X-CR: a\rb\r\n\r\n", id="bare-cr-in-a-value"),
            pytest.param(GET + b"X-LF: a\nX-Next: b\r\n\r\n", id="bare-lf-after-a-field"),
            pytest.param(GET.replace(b"\r\n", b"\n") + b"\n", id="bare-lf-throughout"),
            pytest.param(b"GET /api\x00 HTTP/1.1\r\nHost: sidecar\r\n\r\n", id="nul-in-the-target"),
            pytest.param(b"GET api HTTP/1.1\r\nHost: sidecar\r\n\r\n", id="target-without-a-slash"),
            pytest.param(b"GET http://[::1/api HTTP/1.1\r\nHost: sidecar\r\n\r\n", id="target-with-half-an-address"),
            pytest.param(b"GET /a b HTTP/1.1\r\nHost: sidecar\r\n\r\n", id="space-in-the-target"),
            pytest.param(b"GET * HTTP/1.1\r\nHost: sidecar\r\n\r\n", id="asterisk-for-get"),
            pytest.param(b"GET /api\r\nHost: sidecar\r\n\r\n", id="http-0.9"),
            pytest.param(b"GET /api HTTP/2.0\r\nHost: sidecar\r\n\r\n", id="version-2.0"),
            pytest.param(b"GET /api HTTP/9.9\r\nHost: sidecar\r\n\r\n", id="version-9.9"),
            pytest.param(b"GET /api HTTP/1.1.1\r\nHost: sidecar\r\n\r\n", id="version-of-three-parts"),
            pytest.param(b"GET /api HTTQ/1.1\r\nHost: sidecar\r\n\r\n", id="another-protocol"),
            pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="http-2-preface"),
            pytest.param(b"G\x01T /api HTTP/1.1\r\nHost: sidecar\r\n\r\n", id="control-character-in-the-method"),
            pytest.param(GET + b"Host: other\r\n\r\n", id="two-hosts"),
            pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello\r\n\r\n", id="tls"),
            pytest.param(b"\x00" * 64 + b"\r\n\r\n", id="zeros"),
        ],
    )
    async def test_it_is_refused_and_nothing_forwarded(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial, request_bytes: bytes
    ) -> None:
        upstream = await start_upstream(OK)
        proxied = await start_proxy(upstream.url)
        wire = await dial(proxied)
        await wire.send(request_bytes)
        response = await assert_refused(proxied, wire, 400, "malformed_request")
        assert response.error["code"] == "BadRequest"
        assert upstream.wires == []

    @pytest.mark.parametrize(
        "codings",
        [b"gzip, chunked", b"Deflate , Chunked"],
        ids=["list", "letter-case"],
    )
    async def test_a_transfer_coding_that_would_be_lost(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial, codings: bytes
    ) -> None:
        """RFC 9112, 6.1: without the coding's name the content would be another."""
        upstream = await start_upstream(OK)
        proxied = await start_proxy(upstream.url)
        wire = await dial(proxied)
        await wire.send(POST + b"Transfer-Encoding: " + codings + b"\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        response = await wire.message()
        assert (response.status, response.error["code"]) == (501, "NotImplemented")
        assert (await proxied.lines.event("proxy_error"))["failure"] == "coding_refused"
        assert upstream.wires == []

    async def test_a_fragment_in_the_target(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask
    ) -> None:
        upstream = await start_upstream(OK)
        proxied = await start_proxy(upstream.url)
        response = await ask(proxied, "GET", "/api#fragment")
        assert (response.status, response["X-Error-Origin"]) == (400, "proxy")
        assert (await proxied.lines.event("proxy_error"))["failure"] == "malformed_request"
        assert upstream.wires == []

    async def test_chunks_in_http_1_0(self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial) -> None:
        """RFC 9112, 6.1: its framing is faulty, so that the connection ends with it, if it is not refused at all."""
        upstream = await start_upstream(OK)
        proxied = await start_proxy(upstream.url)
        wire = await dial(proxied)
        await wire.send(
            b"POST /upload HTTP/1.0\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n0\r\n\r\n"
        )
        response = await wire.message()
        assert response.status in {200, 400}
        assert response["Connection"] == "close"
        assert await wire.rest() == b""

    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(b"banana\r\nabcd\r\n0\r\n\r\n", id="no-size"),
            pytest.param(b"4\r\nabcdef\r\n0\r\n\r\n", id="more-than-its-size"),
            pytest.param(b"-4\r\nabcd\r\n0\r\n\r\n", id="negative-size"),
            pytest.param(b"0x4\r\nabcd\r\n0\r\n\r\n", id="0x"),
            pytest.param(b"fffffffffffffffff\r\nabcd\r\n0\r\n\r\n", id="size-beyond-64-bits"),
            pytest.param(b"4 \r\nabcd\r\n0\r\n\r\n", id="space-after-the-size"),
            pytest.param(b"4\nabcd\r\n0\r\n\r\n", id="bare-lf"),
        ],
    )
    @pytest.mark.parametrize("head", [POST, CHECKED], ids=["streamed", "checked"])
    async def test_chunks(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial, head: bytes, body: bytes
    ) -> None:
        async def listen(upstream: Upstream, wire: Wire) -> None:
            await upstream.request(wire)
            await wire.send(OK)

        upstream = await start_upstream(listen)
        proxied = await start_proxy(upstream.url)
        wire = await dial(proxied)
        await wire.send(head + b"Transfer-Encoding: chunked\r\n\r\n" + body)
        await assert_refused(proxied, wire, 400, "malformed_request")
        assert not any(request.is_whole for request in upstream.requests)
        if head is CHECKED:
            assert upstream.wires == []

    async def test_chunks_that_go_wrong_late(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial
    ) -> None:
        """The upstream has half of the body already; it must not be told that this is all."""

        async def listen(upstream: Upstream, wire: Wire) -> None:
            await upstream.request(wire)

        upstream = await start_upstream(listen)
        proxied = await start_proxy(upstream.url)
        wire = await dial(proxied)
        await wire.send(POST + b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
        await proxied.until(lambda: upstream.wires)
        await wire.send(b"banana\r\n")
        await assert_refused(proxied, wire, 400, "malformed_request")
        await proxied.until(lambda: upstream.requests)
        assert (upstream.requests[0].body, upstream.requests[0].is_whole) == (b"half", False)

    async def test_what_stands_behind_it_is_never_a_request(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial
    ) -> None:
        upstream = await start_upstream(OK)
        proxied = await start_proxy(upstream.url)
        wire = await dial(proxied)
        assert (await wire.ask("GET", "/first")).body == b"ok"
        await wire.send(GET + b"X-Nul: a\x00b\r\n\r\n" + GET + b"\r\n")
        await assert_refused(proxied, wire, 400, "malformed_request")
        assert [request.target for request in upstream.requests] == [b"/first"]

    @pytest.mark.parametrize(
        "good",
        [
            pytest.param(GET + b"\r\n", id="no-body"),
            pytest.param(POST + b"Content-Length: 4\r\n\r\nbody", id="length"),
            pytest.param(POST + b"Content-Length: 4\r\n\r\nbody\r\n", id="length-and-an-empty-line"),
            pytest.param(POST + b"Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n", id="chunked"),
            pytest.param(POST + b"Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nX-T: 1\r\n\r\n", id="trailers"),
        ],
    )
    @pytest.mark.parametrize(
        "garbage",
        [
            pytest.param(b"garbage\r\n\r\n", id="garbage"),
            pytest.param(b"\x00", id="nul"),
            pytest.param(GET + b"X-Nul: a\x00b\r\n\r\n", id="a-bad-field"),
            pytest.param(POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="two-framings"),
        ],
    )
    async def test_what_stands_before_it_is_answered(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial, good: bytes, garbage: bytes
    ) -> None:
        """All in one segment: good requests, one that breaks the framing, and what would be a good one behind it."""
        upstream = await start_upstream(OK)
        proxied = await start_proxy(upstream.url)
        wire = await dial(proxied)
        await wire.send(good * 3 + garbage + GET.replace(b"/api", b"/smuggled") + b"\r\n")
        for _ in range(3):
            response = await wire.message()
            assert (response.status, response.body) == (200, b"ok")
        response = await wire.message()
        assert (response.status, response["Connection"], response["X-Error-Origin"]) == (400, "close", "proxy")
        assert await wire.rest() == b""
        assert (await proxied.lines.event("proxy_error"))["failure"] == "malformed_request"
        assert {request.target for request in upstream.requests} == {good.split(b" ")[1]}
        assert [request.is_whole for request in upstream.requests] == [True] * 3

    async def test_a_body_that_breaks_behind_another_request(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial
    ) -> None:
        """The request that the malformed body belongs to is not the one that is being answered."""
        gate = asyncio.Event()

        async def wait(upstream: Upstream, wire: Wire) -> None:
            await upstream.request(wire)
            await gate.wait()
            await wire.send(OK)
            await upstream.request(wire)

        upstream = await start_upstream(wait)
        proxied = await start_proxy(upstream.url)
        wire = await dial(proxied)
        await wire.send(GET + b"\r\n" + POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n")
        await proxied.until(lambda: upstream.requests)
        await wire.send(b"banana\r\n" + GET + b"\r\n")
        gate.set()
        assert (await wire.message()).body == b"ok"
        assert (await wire.message()).status == 400
        assert await wire.rest() == b""
        assert sum(request.is_whole for request in upstream.requests) == 1

    @pytest.mark.parametrize(
        "first_line",
        [
            pytest.param(b"CONNECT api.security.microsoft.com:443 HTTP/1.1", id="connect"),
            pytest.param(b"CONNECT /api HTTP/1.1", id="connect-with-a-path"),
            pytest.param(b"TRACE /api HTTP/1.1", id="trace"),
            pytest.param(b"PROPFIND /api HTTP/1.1", id="webdav"),
        ],
    )
    async def test_methods_that_are_not_forwarded(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial, first_line: bytes
    ) -> None:
        upstream = await start_upstream(OK)
        proxied = await start_proxy(upstream.url)
        wire = await dial(proxied)
        await wire.send(first_line + b"\r\nHost: sidecar\r\n\r\n")
        response = await wire.message()
        assert response.status in {400, 501}
        assert response["X-Error-Origin"] == "proxy"
        assert response.is_whole
        await proxied.lines.event("proxy_error")
        # Whatever follows a CONNECT is no request of its own.
        if first_line.startswith(b"CONNECT"):
            await wire.send(GET + b"\r\n")
            assert await wire.rest() == b""
        assert upstream.wires == []


class TestLimits:
    @pytest.mark.parametrize(
        ("request_bytes", "status", "failure", "code"),
        [
            pytest.param(
                b"GET /api?$filter=" + b"x" * 17_000 + b" HTTP/1.1\r\nHost: sidecar\r\n\r\n",
                414, "target_too_long", "UriTooLong", id="long-target",
            ),
            pytest.param(
                GET + b"Authorization: Bearer " + b"x" * 33_000 + b"\r\n\r\n",
                431, "head_too_large", "RequestHeaderFieldsTooLarge", id="long-field",
            ),
            pytest.param(
                GET + b"x" * 33_000 + b": y\r\n\r\n",
                431, "head_too_large", "RequestHeaderFieldsTooLarge", id="long-name",
            ),
            pytest.param(
                GET + b"X: y\r\n" * 300 + b"\r\n",
                431, "head_too_large", "RequestHeaderFieldsTooLarge", id="many-fields",
            ),
            pytest.param(
                GET + (b"X: " + b"y" * 20_000 + b"\r\n") * 4 + b"\r\n",
                431, "head_too_large", "RequestHeaderFieldsTooLarge", id="large-head",
            ),
            pytest.param(
                GET + (b"X: " + b"y" * 20_000 + b"\r\n") * 100 + b"\r\n",
                431, "head_too_large", "RequestHeaderFieldsTooLarge", id="huge-head",
            ),
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("piece_bytes", [2**22, 1000], ids=["at-once", "in-pieces"])
    async def test_heads(
        self,
        start_proxy: StartProxy,
        start_upstream: StartUpstream,
        dial: Dial,
        request_bytes: bytes,
        status: int,
        failure: str,
        code: str,
        piece_bytes: int,
    ) -> None:
        upstream = await start_upstream(OK)
        proxied = await start_proxy(upstream.url)
        wire = await dial(proxied)

        async def send() -> None:
            for start in range(0, len(request_bytes), piece_bytes):
                await wire.send(request_bytes[start : start + piece_bytes])
                await asyncio.sleep(0)

        sending = asyncio.create_task(send())
        try:
            response = await assert_refused(proxied, wire, status, failure)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        assert response.error["code"] == code
        assert upstream.wires == []

    async def test_what_is_within_the_limits_passes(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask
    ) -> None:
        upstream = await start_upstream(OK)
        proxied = await start_proxy(upstream.url)
        target = "/api?" + "x" * 16_000
        token = b"Authorization: Bearer " + b"x" * 32_000
        response = await ask(proxied, "GET", target, token, *[b"X: y"] * 200)
        assert response.status == 200
        assert upstream.requests[0].target == target.encode()
        assert b"Authorization: " + upstream.requests[0]["Authorization"].encode() == token
        assert len(upstream.requests[0].values("X")) == 200

    async def test_a_head_that_never_ends(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial
    ) -> None:
        """Not whole, and larger than a whole one may be."""
        upstream = await start_upstream(OK)
        proxied = await start_proxy(upstream.url, {"limits.head_bytes": "2000"})
        wire = await dial(proxied)
        await wire.send(GET + (b"X: " + b"y" * 100 + b"\r\n") * 30)
        await assert_refused(proxied, wire, 431, "head_too_large")

    async def test_empty_lines_that_never_end(self, proxied: Proxied, dial: Dial) -> None:
        wire = await dial(proxied)
        with pytest.raises((ConnectionError, EOFError)):  # noqa: PT012 - whichever end comes first
            for _ in range(100):
                await wire.send(b"\r\n" * 2000)
                await asyncio.sleep(0)
            await wire.head()
            await wire.head()

    @pytest.mark.parametrize("head", [POST, CHECKED], ids=["streamed", "checked"])
    async def test_a_body_whose_length_is_over_the_limit(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial, head: bytes
    ) -> None:
        upstream = await start_upstream(OK)
        proxied = await start_proxy(upstream.url, {"limits.body_bytes": "1000"})
        wire = await dial(proxied)
        await wire.send(head + b"Content-Length: 1001\r\n\r\n" + b"x" * 1001)
        response = await wire.message()
        assert (response.status, response.is_whole) == (413, True)
        assert response["X-Error-Origin"] == "proxy"
        assert response.error["code"] == "ContentTooLarge"
        assert (await proxied.lines.event("proxy_error"))["failure"] == "body_too_large"
        assert upstream.wires == []

    @pytest.mark.parametrize("head", [POST, CHECKED], ids=["streamed", "checked"])
    async def test_a_chunked_body_that_grows_over_the_limit(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial, head: bytes
    ) -> None:
        async def listen(upstream: Upstream, wire: Wire) -> None:
            await upstream.request(wire)

        upstream = await start_upstream(listen)
        proxied = await start_proxy(upstream.url, {"limits.body_bytes": "1000"})
        wire = await dial(proxied)
        await wire.send(head + b"Transfer-Encoding: chunked\r\n\r\n" + b"64\r\n" + b"x" * 100 + b"\r\n")
        await asyncio.sleep(0.02)
        await wire.send((b"64\r\n" + b"x" * 100 + b"\r\n") * 10 + b"0\r\n\r\n")
        response = await wire.message()
        assert (response.status, response.is_whole) == (413, True)
        assert response.error["code"] == "ContentTooLarge"
        await asyncio.sleep(0.05)
        assert not any(request.is_whole for request in upstream.requests)

    async def test_a_body_at_the_limit_passes(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask
    ) -> None:
        upstream = await start_upstream(OK)
        proxied = await start_proxy(upstream.url, {"limits.body_bytes": "1000"})
        assert (await ask(proxied, "POST", "/upload", body=b"x" * 1000)).status == 200
        assert upstream.requests[0].body == b"x" * 1000

    async def test_requests_in_flight(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial, ask: Ask
    ) -> None:
        gate = asyncio.Event()

        async def wait(upstream: Upstream, wire: Wire) -> None:
            while True:
                await upstream.request(wire)
                await gate.wait()
                await wire.send(OK)

        upstream = await start_upstream(wait)
        proxied = await start_proxy(upstream.url, {"downstream.max_in_flight": "2"})
        wires = [await dial(proxied) for _ in range(2)]
        for wire in wires:
            await wire.send(GET + b"\r\n")
        await proxied.until(lambda: len(upstream.requests) == 2)
        response = await ask(proxied, "GET", "/api/machines")
        assert response.status == 503
        assert int(response["Retry-After"]) >= 1
        assert response["X-Error-Origin"] == "proxy"
        assert (await proxied.lines.event("proxy_error"))["failure"] == "overloaded"
        gate.set()
        for wire in wires:
            assert (await wire.message()).status == 200
        assert (await ask(proxied, "GET", "/api/machines")).status == 200
        assert len(upstream.requests) == 3

    async def test_connections(self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial) -> None:
        upstream = await start_upstream(OK)
        proxied = await start_proxy(upstream.url, {"downstream.max_connections": "2"})
        first, second = await dial(proxied), await dial(proxied)
        for wire in (first, second):
            assert (await wire.ask("GET", "/api")).status == 200
        third = await dial(proxied)
        await third.send(GET + b"\r\n")
        response = await third.message()
        assert (response.status, response.is_whole) == (503, True)
        assert response["Retry-After"]
        assert response["X-Error-Origin"] == "proxy"
        assert await third.rest() == b""
        await first.close()
        await asyncio.sleep(0.05)
        assert (await (await dial(proxied)).ask("GET", "/api")).status == 200
        assert (await second.ask("GET", "/api")).status == 200

    async def test_heads_behind_a_request_that_takes_its_time(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial
    ) -> None:
        """Each field is small enough and there are few; together they are more than a head may be."""
        answer = asyncio.Event()

        async def slow(upstream: Upstream, wire: Wire) -> None:
            await upstream.request(wire)
            await answer.wait()
            await wire.send(OK)

        upstream = await start_upstream(slow)
        proxied = await start_proxy(upstream.url)
        for end in (b"", b"\r\n"):
            answer.clear()
            wire = await dial(proxied)
            await wire.send(GET + b"\r\n")
            await proxied.until(lambda: proxied.sample("requests_in_flight"))
            await wire.send(GET + (b"A: " + b"b" * 30_000 + b"\r\n") * 3 + end)
            await asyncio.sleep(0.05)
            answer.set()
            assert (await wire.message()).body == b"ok"
            response = await wire.message()
            assert (response.status, response["Connection"]) == (431, "close")
            assert await wire.rest() == b""
        assert len(upstream.requests) == 2

    @pytest.mark.parametrize("end", [b"", b"\r\n"], ids=["partial", "whole"])
    async def test_what_is_sent_ahead_is_not_held(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial, end: bytes
    ) -> None:
        """Heads that will be refused take no more memory than the limit of one, however many are sent."""

        async def silent(upstream: Upstream, wire: Wire) -> None:
            await upstream.request(wire)
            await asyncio.sleep(60)

        upstream = await start_upstream(silent)
        proxied = await start_proxy(upstream.url)
        wire = await dial(proxied)
        await wire.send(GET + b"\r\n")
        await proxied.until(lambda: upstream.requests)
        tracemalloc.start()
        try:
            for _ in range(4):
                await wire.send(GET + (b"A: " + b"b" * 30_000 + b"\r\n") * 200 + end)
            await asyncio.sleep(0.2)
            held_bytes, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert held_bytes < 2_000_000

    @pytest.mark.parametrize(
        "length",
        [b"0" * 5000 + b"1", b"18446744073709551615", b"9223372036854775807"],
        ids=["zeros", "2^64-1", "2^63-1"],
    )
    async def test_a_length_that_nobody_can_count_to(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial, length: bytes
    ) -> None:
        upstream = await start_upstream(OK)
        proxied = await start_proxy(upstream.url)
        wire = await dial(proxied)
        await wire.send(
            POST + b"Content-Length: " + length + b"\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: sidecar\r\n\r\n"
        )
        await assert_refused(proxied, wire, 400, "malformed_request")
        assert upstream.wires == []


class TestUpgrade:
    """RFC 9110, 7.8: an upgrade may be ignored, but what follows the request must not be read out of step."""

    @pytest.mark.parametrize("protocol", [b"h2c", b"websocket", b"TLS/1.0"])
    async def test_it_is_ignored_and_the_connection_ends(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial, protocol: bytes
    ) -> None:
        upstream = await start_upstream(OK)
        proxied = await start_proxy(upstream.url)
        wire = await dial(proxied)
        await wire.send(
            GET + b"Connection: Upgrade\r\nUpgrade: " + protocol + b"\r\n\r\n" + POST + b"Content-Length: 40\r\n\r\n"
        )
        response = await wire.message()
        assert (response.body, response["Connection"]) == (b"ok", "close")
        with suppress(ConnectionError):
            await wire.send(b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
        assert await wire.rest() == b""
        assert [request.start_line for request in upstream.requests] == [b"GET /api/machines HTTP/1.1"]
        assert "Upgrade" not in upstream.requests[0]


class TestTimes:
    async def test_a_head_that_stops(self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial) -> None:
        upstream = await start_upstream(OK)
        proxied = await start_proxy(upstream.url, {"downstream.header_timeout_s": "0.3"})
        wire = await dial(proxied)
        began = time.perf_counter()
        await wire.send(GET)
        await assert_refused(proxied, wire, 408, "request_timeout")
        assert 0.2 < time.perf_counter() - began < 2
        assert upstream.wires == []

    @pytest.mark.parametrize(
        "framing",
        [b"Content-Length: 4\r\n\r\nbody", b"Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"],
        ids=["length", "chunked"],
    )
    @pytest.mark.parametrize("cut", [0, 1, 2, 3, 5, 7])
    async def test_a_body_is_no_head_that_stops(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial, framing: bytes, cut: int
    ) -> None:
        """However a request is cut into pieces, the connection stays open behind it."""
        upstream = await start_upstream(OK)
        proxied = await start_proxy(upstream.url, {"downstream.header_timeout_s": "0.5"})
        wire = await dial(proxied)
        request = POST + framing
        await wire.send(request[: len(request) - cut])
        if cut:
            await asyncio.sleep(0.05)
            await wire.send(request[len(request) - cut :])
        assert (await wire.message()).status == 200
        await asyncio.sleep(0.8)
        assert (await wire.ask("GET", "/api")).status == 200
        assert [event["event"] for event in proxied.lines.events()] == ["serving"]

    @pytest.mark.parametrize(
        "before",
        [
            pytest.param((GET + b"\r\n",), id="no-body"),
            pytest.param((POST + b"Content-Length: 4\r\n\r\nbody",), id="length"),
            pytest.param((POST + b"Content-Length: 4\r\n\r\nbo", b"dy"), id="length-in-pieces"),
            pytest.param((POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",), id="chunked"),
            pytest.param(
                (POST + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n0\r\n\r\n"), id="chunked-in-pieces"
            ),
        ],
    )
    async def test_a_head_that_stops_behind_a_request_in_one_segment(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial, before: tuple[bytes, ...]
    ) -> None:
        upstream = await start_upstream(OK)
        proxied = await start_proxy(upstream.url, {"downstream.header_timeout_s": "0.5"})
        wire = await dial(proxied)
        *first, last = before
        for piece in first:
            await wire.send(piece)
            await asyncio.sleep(0.05)
        await wire.send(last + GET)
        assert (await wire.message()).body == b"ok"
        assert (await wire.message()).status == 408
        assert await wire.rest() == b""

    @pytest.mark.parametrize(
        "request_bytes",
        [
            pytest.param(POST + b"Content-Length: 4\r\n\r\nbody\r\n", id="an-empty-line-behind-a-body"),
            pytest.param(GET + b"\r\n\r\n\r\n", id="empty-lines-behind-a-head"),
            pytest.param(POST + b"Content-Length: 8\r\n\r\n\r\n\r\n\r\n\r\n", id="a-body-of-empty-lines"),
            pytest.param(POST + b"Content-Length: 6\r\n\r\nx\r\n\r\ny", id="a-body-with-an-empty-line"),
            pytest.param(
                POST + b"Transfer-Encoding: chunked\r\n\r\n8\r\nx\r\n\r\n\r\ny\r\n0\r\n\r\n\r\n",
                id="a-chunk-with-empty-lines",
            ),
            pytest.param(POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-T: 1\r\n\r\n", id="trailers"),
        ],
    )
    @pytest.mark.parametrize("piece_bytes", [1000, 7, 1], ids=["at-once", "in-sevens", "byte-by-byte"])
    async def test_empty_lines_are_no_head_that_stops(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial, request_bytes: bytes, piece_bytes: int
    ) -> None:
        """RFC 9112, 2.2: neither behind a request nor within its body."""
        upstream = await start_upstream(OK)
        proxied = await start_proxy(upstream.url, {"downstream.header_timeout_s": "1"})
        wire = await dial(proxied)
        for start in range(0, len(request_bytes), piece_bytes):
            await wire.send(request_bytes[start : start + piece_bytes])
            await asyncio.sleep(0)
        assert (await wire.message()).body == b"ok"
        await asyncio.sleep(1.2)
        assert (await wire.ask("GET", "/api")).body == b"ok"
        assert [event["event"] for event in proxied.lines.events()] == ["serving"]
        assert len(upstream.requests) == 2

    async def test_ends_without_end_in_a_chunk(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial
    ) -> None:
        """What looks like the end of a message, 200,000 times: all of it arrives, and so does what stands behind it."""
        upstream = await start_upstream(OK)
        proxied = await start_proxy(upstream.url)
        wire = await dial(proxied)
        data = b"".join(b"%d\r\n\r\n" % number for number in range(200_000))
        chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data)
        request = POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunks
        sending = asyncio.create_task(wire.send(request * 2 + GET + b"\r\n"))
        for _ in range(3):
            assert (await wire.message()).body == b"ok"
        await sending
        assert [request.body for request in upstream.requests] == [data, data, b""]

    @pytest.mark.parametrize("garbage", [b"\x00", b"GET\r\n\r\n"], ids=["nul", "no-target"])
    async def test_what_breaks_the_rules_behind_many_ends(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial, garbage: bytes
    ) -> None:
        upstream = await start_upstream(OK)
        proxied = await start_proxy(upstream.url)
        wire = await dial(proxied)
        data = b"x\r\n\r\n" * 5000
        good = POST + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(data), data)
        await wire.send(good + garbage + GET + b"\r\n")
        assert (await wire.message()).body == b"ok"
        assert (await wire.message()).status == 400
        assert await wire.rest() == b""
        assert [request.body for request in upstream.requests] == [data]

    async def test_many_ends_give_others_a_turn(self) -> None:
        """Nothing is read while what was read is still to be parsed, and then reading goes on."""

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            body = await request.read()
            went_on.append(bool(request.transport and request.transport.is_reading()))
            return web.Response(body=b"%d" % len(body))

        class Watched(GuardedConnection):
            def data_received(self, data: bytes) -> None:
                super().data_received(data)
                if self.transport is not None:
                    reads_on.append(self.transport.is_reading())

        reads_on: list[bool] = []
        went_on: list[bool] = []
        loop = asyncio.get_running_loop()
        manager = web.Server(answer)
        limits = ConnectionLimits(header_timeout_s=10, head_bytes=65_536, max_connections=10)
        server = await loop.create_server(lambda: Watched(manager, limits, loop=loop), "127.0.0.1", 0)
        wire = await dialled(server.sockets[0].getsockname()[1])
        try:
            data = b"x\r\n\r\n" * 2000
            await wire.send(POST + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(data), data))
            assert (await wire.message()).body == b"%d" % len(data)
        finally:
            await wire.close()
            server.close()
            await manager.shutdown(timeout=1)
        assert not all(reads_on)
        assert went_on == [True]

    async def test_a_head_that_began_behind_many_requests(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial
    ) -> None:
        """More requests in one segment than are parsed ahead: what lies behind them is timed when its turn comes."""
        upstream = await start_upstream(OK)
        flags = {"downstream.header_timeout_s": "0.3", "downstream.keepalive_timeout_s": "30"}
        proxied = await start_proxy(upstream.url, flags)
        wire = await dial(proxied)
        await wire.send((GET + b"\r\n") * 100 + GET)
        for _ in range(100):
            assert (await wire.message()).body == b"ok"
        assert (await wire.message()).status == 408
        assert await wire.rest() == b""

    async def test_a_head_that_trickles(self, start_proxy: StartProxy, simulator: Simulator, dial: Dial) -> None:
        """Each byte is progress, and the head is late all the same."""
        proxied = await start_proxy(simulator.url, {"downstream.header_timeout_s": "0.4"})
        wire = await dial(proxied)
        await wire.send(GET + b"X-Slow: ")

        async def trickle() -> None:
            while True:
                await wire.send(b"x")
                await asyncio.sleep(0.05)

        sending = asyncio.create_task(trickle())
        try:
            assert (await wire.message()).status == 408
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        assert simulator.received == []

    @pytest.mark.parametrize("first", [b"", b"\r\n"], ids=["silence", "an-empty-line"])
    async def test_a_connection_on_which_nothing_is_asked(
        self, start_proxy: StartProxy, simulator: Simulator, dial: Dial, first: bytes
    ) -> None:
        proxied = await start_proxy(simulator.url, {"downstream.header_timeout_s": "0.3"})
        wire = await dial(proxied)
        if first:
            await wire.send(first)
        rest = await wire.rest()
        assert rest == b"" or rest.startswith(b"HTTP/1.1 408 ")

    async def test_the_second_head_of_a_connection(
        self, start_proxy: StartProxy, simulator: Simulator, dial: Dial
    ) -> None:
        proxied = await start_proxy(simulator.url, {"downstream.header_timeout_s": "0.3"})
        wire = await dial(proxied)
        assert (await wire.ask("GET", "/api/machines")).status == 200
        await asyncio.sleep(0.5)  # between requests the time is keepalive_timeout_s
        assert (await wire.ask("GET", "/api/machines")).status == 200
        await wire.send(GET)
        assert (await wire.message()).status == 408

    @pytest.mark.parametrize("half", [GET, b"G", b"GET /api HTTP/1.1\r\nHos"], ids=["fields", "a-letter", "a-field"])
    async def test_a_head_that_began_behind_another_request(
        self, start_proxy: StartProxy, simulator: Simulator, dial: Dial, half: bytes
    ) -> None:
        """Pipelining must be no way around the clock."""
        flags = {"downstream.header_timeout_s": "0.3", "downstream.keepalive_timeout_s": "30"}
        proxied = await start_proxy(simulator.url, flags)
        wire = await dial(proxied)
        await wire.send(GET + b"\r\n" + half)
        assert (await wire.message()).status == 200
        wire.within_s = 2
        assert (await wire.message()).status == 408

    async def test_an_idle_connection_is_closed(
        self, start_proxy: StartProxy, simulator: Simulator, dial: Dial
    ) -> None:
        proxied = await start_proxy(simulator.url, {"downstream.keepalive_timeout_s": "0.3"})
        wire = await dial(proxied)
        assert (await wire.ask("GET", "/api/machines")).status == 200
        began = time.perf_counter()
        assert await wire.rest() == b""
        assert 0.2 < time.perf_counter() - began < 2

    async def test_an_exchange_outlives_the_time_of_an_idle_connection(
        self, start_proxy: StartProxy, simulator: Simulator, dial: Dial
    ) -> None:
        flags = {"downstream.keepalive_timeout_s": "0.2", "downstream.header_timeout_s": "0.2"}
        proxied = await start_proxy(simulator.url, flags)
        wire = await dial(proxied)
        for _ in range(2):
            assert (await wire.ask("GET", "/_simulate/slow=0.5/api/machines")).status == 200

    @pytest.mark.parametrize("framing", [b"Content-Length: 100", b"Transfer-Encoding: chunked"], ids=["length", "te"])
    @pytest.mark.parametrize("head", [POST, CHECKED], ids=["streamed", "checked"])
    async def test_a_body_that_stops(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial, head: bytes, framing: bytes
    ) -> None:
        async def listen(upstream: Upstream, wire: Wire) -> None:
            await upstream.request(wire)

        upstream = await start_upstream(listen)
        proxied = await start_proxy(upstream.url, {"downstream.body_timeout_s": "0.3"})
        wire = await dial(proxied)
        began = time.perf_counter()
        await wire.send(head + framing + b"\r\n\r\n4\r\nhalf\r\n")
        response = await wire.message()
        assert 0.2 < time.perf_counter() - began < 2
        assert (response.status, response.is_whole) == (408, True)
        assert response.error["code"] == "RequestTimeout"
        assert response["X-Error-Origin"] == "proxy"
        assert (await proxied.lines.event("proxy_error"))["failure"] == "request_timeout"
        await proxied.until(lambda: proxied.sample("upstream_connections", state="in_use") == 0)
        await asyncio.sleep(0.02)
        assert not any(request.is_whole for request in upstream.requests)

    async def test_pauses_shorter_than_the_limit_may_be_many(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial
    ) -> None:
        upstream = await start_upstream(OK)
        proxied = await start_proxy(upstream.url, {"downstream.body_timeout_s": "0.4"})
        wire = await dial(proxied)
        await wire.send(POST + b"Content-Length: 8\r\n\r\n")
        for letter in b"abcdefgh":
            await wire.send(bytes([letter]))
            await asyncio.sleep(0.1)
        assert (await wire.message()).status == 200
        assert upstream.requests[0].body == b"abcdefgh"

    @pytest.mark.parametrize(
        ("begin", "more"),
        [
            pytest.param(b"4;", b"x" * 1000, id="a-chunk-extension"),
            pytest.param(b"", b"0" * 1000, id="zeros-in-a-chunk-size"),
            pytest.param(b"4\r\nbody\r\n0\r\nX-Trailer: ", b"x", id="a-trailer"),
            pytest.param(b"4\r\nbody\r\n0\r\n", b"X-Trailer: x\r\n" * 50, id="trailers"),
        ],
    )
    @pytest.mark.parametrize("head", [POST, CHECKED], ids=["streamed", "checked"])
    async def test_framing_that_never_ends(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial, head: bytes, begin: bytes, more: bytes
    ) -> None:
        """It is no progress of the body (RFC 9112, 7.1)."""

        async def listen(upstream: Upstream, wire: Wire) -> None:
            await upstream.request(wire)

        upstream = await start_upstream(listen)
        proxied = await start_proxy(upstream.url, {"downstream.body_timeout_s": "0.3"})
        wire = await dial(proxied)
        await wire.send(head + b"Transfer-Encoding: chunked\r\n\r\n" + begin)

        async def trickle() -> None:
            while True:
                await wire.send(more)
                await asyncio.sleep(0.01)

        sending = asyncio.create_task(trickle())
        try:
            assert (await wire.message()).status in {400, 408, 431}
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        await proxied.until(lambda: proxied.sample("requests_in_flight") == 0)
        assert not any(request.is_whole for request in upstream.requests)

    async def test_a_client_that_will_send_no_more_has_left(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial
    ) -> None:
        """A full close looks the same, and a client that has left must not keep the upstream busy."""
        ended = asyncio.Event()

        async def silent(upstream: Upstream, wire: Wire) -> None:
            await upstream.request(wire)
            await wire.rest()
            ended.set()

        upstream = await start_upstream(silent)
        proxied = await start_proxy(upstream.url)
        wire = await dial(proxied)
        await wire.send(GET + b"\r\n")
        await proxied.until(lambda: upstream.requests)
        wire.writer.write_eof()
        await proxied.until(ended.is_set)
        assert (await proxied.lines.event("proxy_error"))["failure"] == "client_disconnected"
        assert await wire.rest() == b""


class TestKeepAlive:
    async def test_many_requests_on_one_connection(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial
    ) -> None:
        upstream = await start_upstream(OK)
        proxied = await start_proxy(upstream.url)
        wire = await dial(proxied)
        for _ in range(5):
            response = await wire.ask("POST", "/upload", body=b"x")
            assert response.body == b"ok"
            assert "Connection" not in response
        assert len(upstream.wires) == 1

    async def test_it_survives_refusals_that_concern_one_request_alone(
        self, proxied: Proxied, simulator: Simulator, dial: Dial
    ) -> None:
        wire = await dial(proxied)
        refused = await wire.ask(
            "POST", "/api/machines/1/isolate", b"Content-Type: application/json", body=b'{"comment":"x"}'
        )
        looped = await wire.ask("GET", "/api/machines", b"Via: 1.1 defender-sidecar")
        passed = await wire.ask("GET", "/api/machines")
        assert [refused.status, looped.status, passed.status] == [400, 508, 200]
        assert len(simulator.received) == 1

    @pytest.mark.parametrize("head", [POST, CHECKED], ids=["streamed", "checked"])
    async def test_trailers_end_here(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial, head: bytes
    ) -> None:
        """RFC 9110, 6.5.1 lets a recipient discard them; none becomes a header field, of the next request neither."""
        upstream = await start_upstream(OK)
        proxied = await start_proxy(upstream.url)
        wire = await dial(proxied)
        trailed = (
            head + b"Trailer: Cookie\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
            b"Cookie: a=b\r\nAuthorization: x\r\nVia: 1.1 defender-sidecar\r\n\r\n"
        )
        for _ in range(2):
            await wire.send(trailed)
            assert (await wire.message()).body == b"ok"
        await wire.send(trailed + trailed + trailed)
        for _ in range(3):
            assert (await wire.message()).body == b"ok"
        for request in upstream.requests:
            assert (request.body, request.is_whole) == (b"{}", True)
            assert not {"Trailer", "Cookie", "Authorization"} & {name.decode() for name, _ in request.fields}
            assert request.values("Via") == ["1.1 defender-sidecar"]
        assert len(upstream.wires) == 1

    @pytest.mark.parametrize("line", [b"Content-Length: 99", b"Transfer-Encoding: identity"])
    async def test_trailers_that_would_frame_are_refused(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial, line: bytes
    ) -> None:
        """RFC 9110, 6.5.1: such a field may not stand there."""

        async def listen(upstream: Upstream, wire: Wire) -> None:
            await upstream.request(wire)

        upstream = await start_upstream(listen)
        proxied = await start_proxy(upstream.url)
        wire = await dial(proxied)
        await wire.send(
            POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n" + line + b"\r\n\r\n" + GET + b"\r\n"
        )
        assert (await wire.message()).status == 400
        assert await wire.rest() == b""
        assert not any(request.is_whole for request in upstream.requests)

    async def test_three_requests_at_once(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial
    ) -> None:
        async def echo(upstream: Upstream, wire: Wire) -> None:
            while True:
                asked = await upstream.request(wire)
                await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(asked.body), asked.body))

        upstream = await start_upstream(echo)
        proxied = await start_proxy(upstream.url)
        wire = await dial(proxied)
        await wire.send(
            POST + b"Content-Length: 3\r\n\r\none"
            + POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\n\r\n"
            + POST + b"Content-Length: 5\r\n\r\nthree"
        )  # fmt: skip
        assert [(await wire.message()).body for _ in range(3)] == [b"one", b"two", b"three"]
        assert [request.body for request in upstream.requests] == [b"one", b"two", b"three"]

    async def test_a_client_that_asks_for_the_end(self, proxied: Proxied, dial: Dial) -> None:
        wire = await dial(proxied)
        response = await wire.ask("GET", "/api/machines", b"Connection: close")
        assert (response.status, response["Connection"]) == (200, "close")
        assert await wire.rest() == b""


class TestHttp10:
    async def test_the_connection_ends_with_the_response(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial
    ) -> None:
        upstream = await start_upstream(OK)
        proxied = await start_proxy(upstream.url)
        wire = await dial(proxied)
        await wire.send(b"GET /api/machines HTTP/1.0\r\n\r\n")
        response = await wire.message()
        assert response.start_line in {b"HTTP/1.0 200 OK", b"HTTP/1.1 200 OK"}
        assert response.body == b"ok"
        assert await wire.rest() == b""
        assert upstream.requests[0].start_line == b"GET /api/machines HTTP/1.1"
        assert upstream.requests[0].values("Via") == ["1.0 defender-sidecar"]

    async def test_keep_alive_on_request(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial
    ) -> None:
        upstream = await start_upstream(OK)
        proxied = await start_proxy(upstream.url)
        wire = await dial(proxied)
        for _ in range(2):
            await wire.send(b"GET /api/machines HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            response = await wire.message()
            assert (response.body, response["Connection"].lower()) == (b"ok", "keep-alive")

    async def test_it_is_sent_no_chunks(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial
    ) -> None:
        upstream = await start_upstream(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nto\r\n2\r\nld\r\n0\r\n\r\n"
        )
        proxied = await start_proxy(upstream.url)
        wire = await dial(proxied)
        await wire.send(b"GET /api/machines HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        response = await wire.message()
        assert "Transfer-Encoding" not in response
        assert response.body == b"told"

    async def test_it_is_sent_no_interim_response(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial
    ) -> None:
        upstream = await start_upstream(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK)
        proxied = await start_proxy(upstream.url)
        wire = await dial(proxied)
        await wire.send(b"POST /upload HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx")
        assert (await wire.message()).status == 200


class TestExpect:
    @pytest.mark.parametrize(
        ("framing", "body"),
        [
            pytest.param(b"Content-Length: 4", b"body", id="length"),
            pytest.param(b"Transfer-Encoding: chunked", b"4\r\nbody\r\n0\r\n\r\n", id="chunked"),
        ],
    )
    async def test_the_upstream_says_whether_the_body_is_asked_for(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial, framing: bytes, body: bytes
    ) -> None:
        heads: list[Message] = []
        bodies: list[bytes] = []
        gate = asyncio.Event()

        async def agree(_upstream: Upstream, wire: Wire) -> None:
            for _ in range(2):
                heads.append(await wire.head())
                await gate.wait()
                await wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")
                bodies.append(await wire.reader.readexactly(len(body)))
                await wire.send(OK)

        upstream = await start_upstream(agree)
        proxied = await start_proxy(upstream.url)
        wire = await dial(proxied)
        for _ in range(2):
            await wire.send(POST + b"Expect: 100-continue\r\n" + framing + b"\r\n\r\n")
            gate.set()
            assert (await wire.message()).start_line == b"HTTP/1.1 100 Continue"
            await wire.send(body)
            assert (await wire.message()).body == b"ok"
        assert bodies == [body, body]
        assert [head.values("Expect") for head in heads] == [["100-continue"]] * 2
        assert [head.values("Content-Length") for head in heads] == [["4"] if b"Length" in framing else []] * 2
        assert len(upstream.wires) == 1

    async def test_an_upstream_that_does_not_know_the_expectation(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial
    ) -> None:
        """RFC 9110, 10.1.1: nobody waits for ever."""
        upstream = await start_upstream(OK)
        proxied = await start_proxy(upstream.url)
        wire = await dial(proxied)
        await wire.send(POST + b"Expect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        assert (await wire.message()).start_line == b"HTTP/1.1 100 Continue"
        await wire.send(b"body")
        assert (await wire.message()).body == b"ok"
        assert upstream.requests[0].body == b"body"

    @pytest.mark.parametrize("status", [b"200 OK", b"401 Unauthorized", b"413 Too Large", b"417 Expectation Failed"])
    @pytest.mark.parametrize("framing", [b"Content-Length: 4", b"Transfer-Encoding: chunked"], ids=["length", "te"])
    async def test_an_answer_that_does_without_the_body(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial, status: bytes, framing: bytes
    ) -> None:
        rests: list[bytes] = []

        async def decline(_upstream: Upstream, wire: Wire) -> None:
            await wire.head()
            await wire.send(b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\n\r\nno")
            rests.append(await wire.rest())

        upstream = await start_upstream(decline)
        proxied = await start_proxy(upstream.url)
        wire = await dial(proxied)
        await wire.send(POST + b"Expect: 100-continue\r\n" + framing + b"\r\n\r\n")
        response = await wire.message()
        assert response.start_line == b"HTTP/1.1 " + status
        assert (response["Connection"], response.is_whole) == ("close", True)
        await proxied.until(lambda: rests)
        assert rests == [b""]
        await wire.close()
        await proxied.until(lambda: proxied.sample("upstream_connections", state="in_use") == 0)
        assert proxied.sample("upstream_connections", state="idle") == 0

    async def test_a_client_that_does_not_wait(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial
    ) -> None:
        upstream = await start_upstream(OK)
        proxied = await start_proxy(upstream.url)
        wire = await dial(proxied)
        await wire.send(POST + b"Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n")
        assert [(await wire.message()).status for _ in range(2)] == [100, 200]
        assert upstream.requests[0].body == b"body"
        assert (await wire.ask("GET", "/api")).body == b"ok"

    async def test_a_client_of_http_1_0_expects_nothing(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial
    ) -> None:
        upstream = await start_upstream(OK)
        proxied = await start_proxy(upstream.url)
        wire = await dial(proxied)
        await wire.send(b"POST /upload HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        await asyncio.sleep(0.02)
        await wire.send(b"body")
        assert (await wire.message()).status == 200
        assert "Expect" not in upstream.requests[0]

    async def test_no_body_is_asked_for_that_will_be_refused(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial
    ) -> None:
        upstream = await start_upstream(OK)
        proxied = await start_proxy(upstream.url, {"limits.body_bytes": "1000"})
        wire = await dial(proxied)
        await wire.send(POST + b"Expect: 100-continue\r\nContent-Length: 1001\r\n\r\n")
        assert (await wire.message()).status == 413

    @pytest.mark.parametrize(
        "lines", [b"Expect: foo, 100-Continue", b"Expect: foo\r\nExpect: 100-continue"], ids=["list", "two-lines"]
    )
    async def test_it_is_found_among_other_expectations(
        self, proxied: Proxied, simulator: Simulator, dial: Dial, lines: bytes
    ) -> None:
        """RFC 9110, 10.1.1: the field is a list."""
        wire = await dial(proxied)
        await wire.send(
            b"POST /api/machines/1/isolate HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
            b"Content-Length: 42\r\n" + lines + b"\r\n\r\n"
        )
        assert (await wire.message()).status == 100
        await wire.send(b'{"Comment": "x",  "IsolationType": "Full"}')
        assert (await wire.message()).status == 201
        assert len(simulator.received) == 1

    async def test_a_checked_body(self, proxied: Proxied, simulator: Simulator, dial: Dial) -> None:
        wire = await dial(proxied)
        await wire.send(CHECKED + b"Expect: 100-Continue\r\nContent-Length: 15\r\n\r\n")
        assert (await wire.message()).status == 100
        await wire.send(b'{"comment":"x"}')
        assert (await wire.message()).status == 400
        assert simulator.received == []

    async def test_a_checked_body_is_here_before_the_upstream_is_asked(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial
    ) -> None:
        upstream = await start_upstream(OK)
        proxied = await start_proxy(upstream.url)
        wire = await dial(proxied)
        await wire.send(CHECKED + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert (await wire.message()).status == 100
        await wire.send(b"{}")
        assert (await wire.message()).body == b"ok"
        assert "Expect" not in upstream.requests[0]


class TestInterimResponses:
    """RFC 9110, 15.2: a proxy forwards them, but for those that it asked for itself."""

    HINTS = b"HTTP/1.1 103 Fr\xfche Hinweise\r\nLink: </a>; rel=preload\r\nlink: </b>\r\nX-Odd: \xff\t1\r\n\r\n"

    @pytest.mark.parametrize("body", [b"", b"x", b"x" * 100_000], ids=["no-body", "short", "streamed"])
    async def test_they_are_passed_on_as_they_are(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial, body: bytes
    ) -> None:
        gate = asyncio.Event()

        async def hint(upstream: Upstream, wire: Wire) -> None:
            for _ in range(2):
                await upstream.request(wire)
                await wire.send(b"HTTP/1.1 100 Continue\r\n\r\n" + self.HINTS)
                await gate.wait()
                await wire.send(b"HTTP/1.1 102 Processing\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\r\n" + OK)

        upstream = await start_upstream(hint)
        proxied = await start_proxy(upstream.url)
        wire = await dial(proxied)
        for _ in range(2):
            framing = b"Content-Length: %d\r\n\r\n" % len(body) if body else b"\r\n"
            await wire.send(POST + framing + body)
            hints = await wire.message()
            assert hints.start_line == b"HTTP/1.1 103 Fr\xfche Hinweise"
            assert hints.fields == ((b"Link", b"</a>; rel=preload"), (b"link", b"</b>"), (b"X-Odd", b"\xff\t1"))
            gate.set()
            processing = await wire.message()
            assert (processing.start_line, processing.fields) == (b"HTTP/1.1 102 Processing", ())
            response = await wire.message()
            assert (response.body, "Link" in response) == (b"ok", False)
        assert len(upstream.wires) == 1

    @pytest.mark.parametrize(
        "interim",
        [
            pytest.param(b"HTTP/1.1 103 Hints\r\n" + b"X: %b\r\n" % (b"y" * 20_000) * 4 + b"\r\n", id="too-large"),
            pytest.param(b"HTTP/1.1 102 Processing\r\n\r\n" * 17, id="too-many"),
            pytest.param(b"HTTP/1.1 103 Hints\r\nContent-Length: 2\r\n\r\nok", id="with-a-length"),
            pytest.param(
                b"HTTP/1.1 103 Hints\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", id="with-chunks"
            ),
        ],
    )
    async def test_they_are_bounded_and_have_no_body(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial, interim: bytes
    ) -> None:
        upstream = await start_upstream(interim + OK)
        proxied = await start_proxy(upstream.url)
        wire = await dial(proxied)
        response = await wire.ask("POST", "/upload", body=b"x")
        while response.status < 200:
            response = await wire.message()
        assert (response.status, response["X-Error-Origin"]) == (502, "proxy")
        assert (await proxied.lines.event("proxy_error"))["failure"] == "http_protocol_error"


class TestResponses:
    @pytest.mark.parametrize(
        "reason",
        [
            pytest.param(b"OK", id="usual"),
            pytest.param(b"Quite All Right, Thanks", id="odd"),
            pytest.param(b"", id="empty"),
            pytest.param(b"Gr\xfc\xdfe", id="obs-text"),
            pytest.param("Schön".encode(), id="utf-8"),
        ],
    )
    async def test_the_reason_phrase_is_kept(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask, reason: bytes
    ) -> None:
        upstream = await start_upstream(b"HTTP/1.1 200 " + reason + b"\r\nContent-Length: 2\r\n\r\nok")
        proxied = await start_proxy(upstream.url)
        response = await ask(proxied, "GET", "/api/machines")
        assert response.start_line == b"HTTP/1.1 200 " + reason

    async def test_a_status_line_without_a_reason_and_its_space(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask
    ) -> None:
        """RFC 9112, 4, wants the space; servers that leave it out are many."""
        upstream = await start_upstream(b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok")
        proxied = await start_proxy(upstream.url)
        assert (await ask(proxied, "GET", "/api/machines")).start_line == b"HTTP/1.1 200 "

    @pytest.mark.parametrize("status", [299, 399, 418, 499, 599])
    async def test_statuses_that_nobody_registered(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask, status: int
    ) -> None:
        upstream = await start_upstream(b"HTTP/1.1 %d Hm\r\nContent-Length: 2\r\n\r\nok" % status)
        proxied = await start_proxy(upstream.url)
        response = await ask(proxied, "GET", "/api/machines")
        assert response.start_line == b"HTTP/1.1 %d Hm" % status
        assert (response.body if status < 400 else response.error["message"].encode()) == b"ok"
        assert ("X-Error-Code" in response) is (status >= 400)

    async def test_an_empty_error_stays_empty_where_nothing_is_normalised(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial
    ) -> None:
        upstream = await start_upstream(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        proxied = await start_proxy(upstream.url, {"errors.normalise": "false"})
        wire = await dial(proxied)
        for _ in range(2):  # the second shows that no stray byte followed the first
            response = await wire.ask("POST", "/api/machines")
            assert (response.status, response["Content-Length"], response.body) == (400, "0", b"")

    async def test_nothing_is_added_to_a_plain_response_but_the_request_id(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask
    ) -> None:
        upstream = await start_upstream(OK)
        proxied = await start_proxy(upstream.url)
        response = await ask(proxied, "GET", "/api/machines")
        assert sorted(name for name, _ in response.fields) == [b"Content-Length", b"X-Request-Id"]

    async def test_fields_keep_their_order_repeats_case_and_bytes(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask
    ) -> None:
        fields = (
            (b"dAtE", b"Tue, 24 Nov 2026 00:00:00 GMT"),
            (b"Set-Cookie", b"a=1; Expires=Wed, 25 Nov 2026 00:00:00 GMT"),
            (b"SERVER", b"odd/1.0"),
            (b"Set-Cookie", b"b=2"),
            (b"Link", b"</a>; rel=next"),
            (b"link", b"</b>; rel=prev"),
            (b"X-Empty", b""),
            (b"X-Bytes", b"Gr\xfc\xdfe \xc3\xbc\t\x80\xff"),
            (b"x-odd!#$%&'*+.^_`|~", b'"quoted, text"'),
            (b"Content-Type", b"text/plain"),
        )
        head = b"".join(name + b": " + value + b"\r\n" for name, value in fields)
        upstream = await start_upstream(b"HTTP/1.1 200 OK\r\n" + head + b"Content-Length: 2\r\n\r\nok")
        proxied = await start_proxy(upstream.url)
        response = await ask(proxied, "GET", "/api/machines")
        ours = (b"X-Request-Id", b"Content-Length")
        assert tuple(line for line in response.fields if line[0] not in ours) == fields

    async def test_hop_by_hop_fields_end_here(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask
    ) -> None:
        upstream = await start_upstream(
            b"HTTP/1.1 200 OK\r\nConnection: X-Private, keep-alive\r\nx-private: 1\r\nConnection: x-other\r\n"
            b"X-Other: 2\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nProxy-Connection: keep-alive\r\n"
            b"Trailer: X-T\r\nUpgrade: h2c\r\nTE: x\r\nX-Kept: 3\r\nContent-Length: 2\r\n\r\nok"
        )
        proxied = await start_proxy(upstream.url)
        response = await ask(proxied, "GET", "/api/machines")
        assert response.status == 200
        assert sorted(name for name, _ in response.fields) == [b"Content-Length", b"X-Kept", b"X-Request-Id"]

    @pytest.mark.parametrize(
        ("method", "answer", "status", "length"),
        [
            pytest.param("HEAD", b"200 OK\r\nContent-Length: 1234", 200, ["1234"], id="head-with-length"),
            pytest.param("HEAD", b"200 OK", 200, [], id="head-without-length"),
            pytest.param("HEAD", b"404 Not Found\r\nContent-Length: 77", 404, ["77"], id="head-of-an-error"),
            pytest.param("GET", b"204 No Content", 204, [], id="204"),
            pytest.param("GET", b"304 Not Modified\r\nContent-Length: 1234\r\nETag: x", 304, ["1234"], id="304"),
            pytest.param("GET", b"304 Not Modified\r\nETag: x", 304, [], id="304-without-length"),
            pytest.param("GET", b"200 OK\r\nContent-Length: 0", 200, ["0"], id="empty"),
            pytest.param("HEAD", b"400 Bad Request\r\nContent-Type: text/html", 400, [], id="head-of-a-page"),
        ],
    )
    async def test_without_a_body(
        self,
        start_proxy: StartProxy,
        start_upstream: StartUpstream,
        dial: Dial,
        method: str,
        answer: bytes,
        status: int,
        length: list[str],
    ) -> None:
        upstream = await start_upstream(b"HTTP/1.1 " + answer + b"\r\n\r\n")
        proxied = await start_proxy(upstream.url)
        wire = await dial(proxied)
        for _ in range(2):  # the second shows that no stray byte followed the first
            response = await wire.ask(method, "/api/machines/1e5bc9d7")
            assert response.status == status
            assert response.values("Content-Length") == length
            assert response.body == b""
            if status not in {400, 404}:
                assert "Transfer-Encoding" not in response

    async def test_a_head_response_that_announces_chunks(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial
    ) -> None:
        upstream = await start_upstream(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        proxied = await start_proxy(upstream.url)
        wire = await dial(proxied)
        for _ in range(2):
            response = await wire.ask("HEAD", "/api/machines")
            assert (response.status, response.body) == (200, b"")

    async def test_chunks(self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial) -> None:
        """Extensions and trailers end here; what a trailer says never becomes a header field."""
        upstream = await start_upstream(
            b"HTTP/1.1 200 OK\r\nTrailer: Set-Cookie\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"3;x=y\r\none\r\n4\r\n two\r\n0\r\nSet-Cookie: a=b\r\nLocation: /x\r\n\r\n"
        )
        proxied = await start_proxy(upstream.url)
        wire = await dial(proxied)
        for _ in range(2):
            response = await wire.ask("GET", "/api/machines")
            assert (response.status, response.body, response.is_whole) == (200, b"one two", True)
            assert response.values("Transfer-Encoding") == ["chunked"]
            assert not {"Set-Cookie", "Location", "Trailer"} & {name.decode() for name, _ in response.fields}
        assert len(upstream.wires) == 1

    @pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/1.0"])
    async def test_a_body_that_ends_with_the_connection(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial, version: bytes
    ) -> None:
        async def answer(upstream: Upstream, wire: Wire) -> None:
            await upstream.request(wire)
            await wire.send(version + b" 200 OK\r\n\r\nfirst")
            await asyncio.sleep(0.02)
            await wire.send(b" last")

        upstream = await start_upstream(answer)
        proxied = await start_proxy(upstream.url)
        wire = await dial(proxied)
        for _ in range(2):
            response = await wire.ask("GET", "/api/machines")
            assert (response.body, response.is_whole) == (b"first last", True)


class TestEverySplit:
    """How a stream is cut into segments makes no difference to what comes of it."""

    @pytest.mark.parametrize(
        ("stream", "statuses"),
        [
            pytest.param(
                b"POST /api/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\nXX\r\n",
                [400], id="chunk-that-breaks",
            ),
            pytest.param(
                b"POST /api/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                b"4\r\n\r\n\r\n\r\n0\r\nA: b\r\n\r\nGET /api/b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
                [200, 200], id="chunked-then-get",
            ),
            pytest.param(
                b"POST /api/a HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n\r\n\r\nok\r\n"
                b"GET /api/b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
                [200, 200], id="length-then-get",
            ),
            pytest.param(
                b"GET /api/a HTTP/1.1\r\nHost: a\r\n\r\nGET /api/b HTTP/1.1\r\nHost: a\r\nA : b\r\n\r\n",
                [200, 400], id="get-then-malformed",
            ),
        ],
    )  # fmt: skip
    async def test_makes_no_difference(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, stream: bytes, statuses: list[int]
    ) -> None:
        upstream = await start_upstream(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        # One that waited for its timer would be a 408.
        proxied = await start_proxy(upstream.url, {"downstream.body_timeout_s": "5"})

        async def outcome(at: int) -> list[int]:
            wire = await dialled(proxied.port)
            await wire.send(stream[:at])
            await asyncio.sleep(0.02)
            await wire.send(stream[at:])
            try:
                seen = [(await wire.message()).status for _ in statuses]
                # What is sent to a connection that has ended is answered with a reset.
                with suppress(ConnectionResetError):
                    assert await wire.reader.read() == b""
            finally:
                await wire.close()
            return seen

        outcomes = await asyncio.gather(*(outcome(at) for at in range(1, len(stream))))
        assert [at for at, seen in enumerate(outcomes, 1) if seen != statuses] == []


class TestDeparture:
    async def test_a_client_that_leaves_is_noticed_behind_what_it_has_pipelined(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial
    ) -> None:
        """What it sent ahead fills the queue, so that nothing more is read, its end neither."""

        async def never(upstream: Upstream, wire: Wire) -> None:
            await upstream.request(wire)
            await wire.reader.read()
            left.set()

        left = asyncio.Event()
        proxied = await start_proxy((await start_upstream(never)).url)
        wire = await dial(proxied)
        await wire.send(b"GET /api/machines HTTP/1.1\r\nHost: a\r\n\r\n" * 40)
        await proxied.until(lambda: proxied.sample("requests_in_flight") == 1)
        wire.reset()
        async with asyncio.timeout(wire.within_s):
            await left.wait()
        assert (await proxied.lines.event("proxy_error"))["failure"] == "client_disconnected"

    async def test_a_client_that_leaves_is_noticed_while_the_upstream_takes_nothing(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial
    ) -> None:
        async def deaf(_upstream: Upstream, wire: Wire) -> None:
            await wire.head()
            await left.wait()

        left = asyncio.Event()
        proxied = await start_proxy((await start_upstream(deaf)).url)
        wire = await dial(proxied)
        await wire.send(b"POST /api/files HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n")
        sending = asyncio.create_task(wire.send(bytes(50_000_000)))
        await proxied.until(lambda: proxied.sample("requests_in_flight") == 1)
        await asyncio.sleep(0.3)
        wire.reset()
        try:
            await proxied.until(lambda: proxied.sample("requests_in_flight") == 0)
        finally:
            left.set()
            await asyncio.gather(sending, return_exceptions=True)


async def test_a_head_that_has_begun_outlives_the_keep_alive_timer(
    start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial
) -> None:
    upstream = await start_upstream(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    proxied = await start_proxy(upstream.url, {"downstream.keepalive_timeout_s": "1"})
    wire = await dial(proxied)
    assert (await wire.ask("GET", "/api/machines")).status == 200
    await wire.send(b"GET /api/machines HTTP/1.1\r\n")
    await asyncio.sleep(2)
    await wire.send(b"Host: a\r\n\r\n")
    assert (await wire.message()).status == 200
