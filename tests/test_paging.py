"""Links that lead to the upstream come out leading to the proxy: whole exchanges over real sockets."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.conftest import Wire, dialled

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from proxy.simulator import Simulator
    from tests.conftest import Message, Proxied, Upstream

    StartProxy = Callable[..., Awaitable[Proxied]]
    StartUpstream = Callable[..., Awaitable[Upstream]]
    Ask = Callable[..., Awaitable[Message]]
    Dial = Callable[[Proxied], Awaitable[Wire]]

LIST = "/api/alerts"
UNKNOWN = "/api/whatever/there/is"
ENTITY = "/api/machines/1e5bc9d7"
PAGE = b'{"value": [{"id": 1}, {"id": 2}], "@odata.nextLink": "%b/api/alerts?$skip=2"}'
TURNED = PAGE % b"http://sidecar"
JSON = b"Content-Type: application/json"


def answer(body: bytes, *lines: bytes, status: bytes = b"200 OK") -> bytes:
    framing = b"Content-Length: %d" % len(body)
    return b"\r\n".join((b"HTTP/1.1 " + status, *lines, framing, b"", body))


async def paged(upstream: Upstream, wire: Wire) -> None:
    """Answer every request with a page that links to this upstream; the query says how."""
    while True:
        request = await upstream.request(wire)
        page, form = PAGE % upstream.url.encode(), request.target.rpartition(b"?")[2]
        match form:
            case b"gzip":
                await wire.send(answer(gzip.compress(page), JSON, b"Content-Encoding: gzip"))
            case b"deflate":
                await wire.send(answer(zlib.compress(page), JSON, b"Content-Encoding: deflate"))
            case b"digested":
                await wire.send(answer(page, JSON, b"Digest: sha-256=x"))
            case b"text":
                await wire.send(answer(page, b"Content-Type: text/plain"))
            case b"partial":
                await wire.send(answer(page, JSON, b"Content-Range: bytes 0-9/99", status=b"206 Partial Content"))
            case b"error":
                await wire.send(answer(page, JSON, status=b"409 Conflict"))
            case _:
                await wire.send(answer(page, JSON, b'ETag: "one"', b"Accept-Ranges: bytes"))


@pytest.mark.parametrize("coding", ["", "gzip", "deflate"])
async def test_a_client_that_follows_the_links_never_passes_the_proxy(
    simulator: Simulator, start_proxy: StartProxy, coding: str
) -> None:
    proxied = await start_proxy(simulator.url, {"log.requests": "true"})
    seen, url = [], f"{proxied.url}/api/machines?$top=1"
    fields = {"X-Simulate": coding} if coding else {}
    async with aiohttp.ClientSession() as session:
        whole = (await (await session.get(f"{simulator.url}/api/machines")).json())["value"]
        simulator.received.clear()
        while url:
            async with session.get(url, headers=fields) as response:
                assert response.headers.get("Content-Encoding", "") == coding
                page = await response.json()
            seen += page["value"]
            url = page.get("@odata.nextLink", "")
            assert not url or url.startswith(f"{proxied.url}/api/machines?")
    assert seen == whole
    assert len(seen) > 1
    # All that the upstream was asked came by way of the proxy.
    assert len(simulator.received) == len(seen)
    assert all((b"Via", b"1.1 defender-sidecar") in received.fields for received in simulator.received)
    assert proxied.sample("requests_total", operation="listMachines", status="200") == len(seen)


class TestWhichAnswers:
    async def test_a_page(self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask) -> None:
        proxied = await start_proxy((await start_upstream(paged)).url)
        response = await ask(proxied, "GET", LIST)
        assert response.body == TURNED
        assert response["Content-Length"] == str(len(TURNED))
        assert response["ETag"] == '"one"'
        assert "Accept-Ranges" not in response

    @pytest.mark.parametrize(
        ("method", "path", "lines", "flags"),
        [
            pytest.param("GET", ENTITY, (), {}, id="operation-that-does-not-page"),
            pytest.param("GET", UNKNOWN, (), {}, id="unknown"),
            pytest.param("POST", LIST, (), {}, id="post"),
            pytest.param("GET", f"{LIST}?digested", (), {}, id="digested"),
            pytest.param("GET", f"{LIST}?text", (), {}, id="no-json"),
            pytest.param("GET", f"{LIST}?partial", (), {}, id="partial"),
            pytest.param("GET", LIST, (b"Cache-Control: no-transform",), {}, id="no-transform"),
            pytest.param("GET", LIST, (), {"rewrite.next_link": "false"}, id="switched-off"),
            pytest.param("GET", f"{LIST}?error", (), {"errors.normalise": "false"}, id="error"),
        ],
    )
    async def test_others_are_left_alone(
        self,
        start_proxy: StartProxy,
        start_upstream: StartUpstream,
        ask: Ask,
        method: str,
        path: str,
        lines: tuple[bytes, ...],
        flags: dict[str, str],
    ) -> None:
        upstream = await start_upstream(paged)
        page = PAGE % upstream.url.encode()
        response = await ask(await start_proxy(upstream.url, flags), method, path, *lines)
        assert response.body == page
        assert response["Content-Length"] == str(len(page))

    @pytest.mark.parametrize("coding", ["gzip", "deflate"])
    async def test_coded(self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask, coding: str) -> None:
        proxied = await start_proxy((await start_upstream(paged)).url)
        response = await ask(proxied, "GET", f"{LIST}?{coding}")
        assert response["Content-Encoding"] == coding
        assert response["Content-Length"] == str(len(response.body))
        assert zlib.decompress(response.body, wbits=47) == TURNED

    @pytest.mark.parametrize("body", [b'{"value": [] }', gzip.compress(b'{"value": [] }'), b""])
    async def test_without_a_link_it_comes_as_it_is(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask, body: bytes
    ) -> None:
        coding = (b"Content-Encoding: gzip",) if body.startswith(b"\x1f") else ()
        proxied = await start_proxy((await start_upstream(answer(body, JSON, *coding))).url)
        response = await ask(proxied, "GET", LIST)
        assert (response.body, response["Content-Length"]) == (body, str(len(body)))


class TestOwnAddress:
    @pytest.mark.parametrize(
        ("target", "host", "own"),
        [
            pytest.param(LIST, b"Host: Sidecar.local:1234", b"http://Sidecar.local:1234", id="host"),
            pytest.param(f"http://other:99{LIST}", b"Host: sidecar", b"http://other:99", id="absolute-form"),
            pytest.param(LIST, b"Host:", None, id="empty"),
            pytest.param(LIST, b"X: no-host", None, id="none"),
        ],
    )
    async def test_as_the_client_knows_it(
        self,
        start_proxy: StartProxy,
        start_upstream: StartUpstream,
        dial: Dial,
        target: str,
        host: bytes,
        own: bytes | None,
    ) -> None:
        proxied = await start_proxy((await start_upstream(paged)).url)
        wire = await dial(proxied)
        await wire.send(b"GET %b HTTP/1.0\r\n%b\r\n\r\n" % (target.encode(), host))
        assert (await wire.message()).body == PAGE % (own or proxied.url.encode())


class TestFraming:
    @pytest.mark.parametrize("path", [LIST, "/api/machines"])
    async def test_head_announces_no_length_that_get_would_not_have(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial, path: str
    ) -> None:
        upstream = await start_upstream(answer(b"", JSON)[:-2].replace(b"Length: 0", b"Length: 99") + b"\r\n")
        wire = await dial(await start_proxy(upstream.url))
        for _ in range(2):
            response = await wire.ask("HEAD", path)
            assert response.status == 200
            assert not {"Content-Length", "Transfer-Encoding"} & {name.decode() for name, _ in response.fields}
        response = await wire.ask("HEAD", ENTITY)
        assert response["Content-Length"] == "99"

    async def test_nor_does_a_304(self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask) -> None:
        """RFC 9110, 8.6: its length would be that of the answer to a GET."""
        upstream = await start_upstream(b"HTTP/1.1 304 Not Modified\r\nETag: x\r\nContent-Length: 99\r\n\r\n")
        proxied = await start_proxy(upstream.url)
        response = await ask(proxied, "GET", LIST)
        assert (response.status, response["ETag"]) == (304, "x")
        assert "Content-Length" not in response
        assert (await ask(proxied, "GET", ENTITY))["Content-Length"] == "99"

    @pytest.mark.parametrize(("version", "framing"), [(b"1.1", "Transfer-Encoding"), (b"1.0", "Connection")])
    @pytest.mark.parametrize("coding", [b"identity", b"gzip"])
    async def test_what_streams_has_no_length(
        self,
        start_proxy: StartProxy,
        start_upstream: StartUpstream,
        dial: Dial,
        version: bytes,
        framing: str,
        coding: bytes,
    ) -> None:
        """It comes in two halves, the second only once the client has all of the first that can be told."""
        first_is_read = asyncio.Event()

        async def script(upstream: Upstream, wire: Wire) -> None:
            await upstream.request(wire)
            page = PAGE % upstream.url.encode()
            coder = zlib.compressobj(wbits=31)
            halves = [page[:40], page[40:]]
            if coding == b"gzip":
                halves = [
                    coder.compress(halves[0]) + coder.flush(zlib.Z_SYNC_FLUSH),
                    coder.compress(halves[1]) + coder.flush(),
                ]
            await wire.send(answer(b"".join(halves), JSON, b"Content-Encoding: " + coding)[: -len(halves[1])])
            await first_is_read.wait()
            await wire.send(halves[1])

        proxied = await start_proxy((await start_upstream(script)).url)
        wire = await dial(proxied)
        await wire.send(b"GET %b HTTP/%b\r\nHost: sidecar\r\n\r\n" % (LIST.encode(), version))
        head = await wire.head()
        assert "Content-Length" not in head
        assert head[framing] == ("chunked" if version == b"1.1" else "close")
        decoder, body, raw = zlib.decompressobj(31), b"", b""
        while len(body) < len(TURNED):
            if version == b"1.1":
                size = int(await asyncio.wait_for(wire.reader.readuntil(b"\r\n"), 5), 16)
                raw = (await wire.reader.readexactly(size + 2))[:-2]
            else:
                raw = await asyncio.wait_for(wire.reader.read(2**16), 5)
            assert raw
            body += decoder.decompress(raw) if coding == b"gzip" else raw
            if body == PAGE[:40]:
                first_is_read.set()
        assert first_is_read.is_set()
        assert body == TURNED

    @pytest.mark.parametrize("version", [b"1.1", b"1.0"])
    @pytest.mark.parametrize("damage", ["cut", "checksum"])
    async def test_a_damaged_coding_never_looks_whole(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial, version: bytes, damage: str
    ) -> None:
        """The framing is whole: only the coding tells."""
        coded = gzip.compress(PAGE % b"x")
        coded = coded[:-4] if damage == "cut" else coded[:-8] + bytes(8)

        async def script(upstream: Upstream, wire: Wire) -> None:
            await upstream.request(wire)
            await wire.send(answer(coded, JSON, b"Content-Encoding: gzip")[: -len(coded) + 20])
            await head_is_read.wait()
            await wire.send(coded[20:])

        head_is_read = asyncio.Event()
        proxied = await start_proxy((await start_upstream(script)).url)
        wire = await dial(proxied)
        await wire.send(b"GET %b HTTP/%b\r\nHost: sidecar\r\n\r\n" % (LIST.encode(), version))
        assert (await wire.head()).status == 200
        head_is_read.set()
        if version == b"1.1":
            assert not (await wire.rest()).endswith(b"0\r\n\r\n")
        else:
            with pytest.raises(ConnectionError):
                await asyncio.wait_for(wire.reader.read(), 5)
        event = await proxied.lines.event("proxy_error")
        assert event["failure"] == ("http_response_incomplete" if damage == "cut" else "http_protocol_error")

    async def test_a_damaged_coding_that_is_here_already_is_an_error(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask
    ) -> None:
        body = gzip.compress(b"{}")[:-4]
        proxied = await start_proxy((await start_upstream(answer(body, JSON, b"Content-Encoding: gzip"))).url)
        response = await ask(proxied, "GET", LIST)
        assert (response.status, response.error["code"]) == (502, "BadGateway")

    async def test_others_have_their_turn_while_a_bomb_streams(
        self, start_proxy: StartProxy, start_upstream: StartUpstream
    ) -> None:
        size = 256 * 2**20
        coder = zlib.compressobj(9, wbits=31)
        bomb = b"".join(coder.compress(bytes(2**20)) for _ in range(size >> 20)) + coder.flush()
        proxied = await start_proxy((await start_upstream(answer(bomb, JSON, b"Content-Encoding: gzip"))).url)
        wire = await dialled(proxied.port)
        wire.within_s = 60
        try:
            pending = asyncio.create_task(wire.ask("GET", LIST))
            await proxied.until(lambda: proxied.sample("requests_in_flight") == 1)
            turns = 0
            while not pending.done():
                await asyncio.sleep(0)
                turns += 1
            assert turns > size // 2**20
            decoder, total = zlib.decompressobj(31), 0
            data = pending.result().body
            assert len(data) < 8 * 2**20
            while data:
                total += len(decoder.decompress(data, 2**20))
                data = decoder.unconsumed_tail
            assert total + len(decoder.flush()) == size
            # It was work and no waiting: no machine does it in less.
            await proxied.until(lambda: proxied.sample("requests_in_flight") == 0)
            assert proxied.sample("overhead_seconds_sum", operation="listAlerts") > 0.02
        finally:
            await wire.close()


class TestLocation:
    @pytest.mark.parametrize("status", [b"201 Created", b"202 Accepted", b"302 Found", b"404 Not Found"])
    @pytest.mark.parametrize("name", ["Location", "Content-Location", "Operation-Location", "Azure-AsyncOperation"])
    async def test_it_leads_to_the_proxy(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask, status: bytes, name: str
    ) -> None:
        async def script(upstream: Upstream, wire: Wire) -> None:
            await upstream.request(wire)
            await wire.send(answer(b"", b"%b: %b/api/x%%2Fy?z" % (name.encode(), upstream.url.encode()), status=status))

        proxied = await start_proxy((await start_upstream(script)).url)
        response = await ask(proxied, "POST", UNKNOWN)
        assert response[name] == "http://sidecar/api/x%2Fy?z"

    async def test_switched_off(self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask) -> None:
        async def script(upstream: Upstream, wire: Wire) -> None:
            await upstream.request(wire)
            await wire.send(answer(b"", b"Location: %b/a" % upstream.url.encode()))

        upstream = await start_upstream(script)
        response = await ask(await start_proxy(upstream.url, {"rewrite.location": "false"}), "GET", UNKNOWN)
        assert response["Location"] == f"{upstream.url}/a"

    @pytest.mark.parametrize("url", ["https://elsewhere.test/a", "/api/a", "http://127.0.0.1.evil.test/"])
    async def test_elsewhere_stays_elsewhere(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask, url: str
    ) -> None:
        upstream = await start_upstream(answer(b"", b"Location: " + url.encode(), status=b"302 Found"))
        assert (await ask(await start_proxy(upstream.url), "GET", UNKNOWN))["Location"] == url
