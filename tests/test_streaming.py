"""Bodies that are passed on as they come: memory stays flat, the slower side sets the pace, nothing is held back."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.soak import streams
from tests.soak.process import proxy_process

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

    from tests.conftest import Proxied, Upstream, Wire

    StartProxy = Callable[..., Awaitable[Proxied]]
    StartUpstream = Callable[..., Awaitable[Upstream]]
    Dial = Callable[[Proxied], Awaitable[Wire]]

GIB = 2**30
MIB = 2**20

LINES = 50


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of a process's peak")
class TestMemory:
    """1 GiB takes some two seconds; the peak would tell of any buffer that grows with the body."""

    async def test_a_response_of_one_gibibyte(self) -> None:
        with streams.Peer(streams.downloading(GIB)).listening() as peer:
            async with proxy_process(f"http://127.0.0.1:{peer.port}", {}) as proxy:
                figures = await asyncio.to_thread(streams.down, proxy, GIB)
        assert figures.received_bytes == GIB
        assert figures.growth_bytes < 16 * MIB

    async def test_a_request_of_one_gibibyte(self) -> None:
        with streams.Peer(streams.uploading(GIB)).listening() as peer:
            async with proxy_process(f"http://127.0.0.1:{peer.port}", {}) as proxy:
                figures = await asyncio.to_thread(streams.up, proxy, peer, GIB)
        assert figures.received_bytes == GIB
        assert figures.growth_bytes < 16 * MIB


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of a process's peak")
class TestPushBack:
    """Who is not read stops sending: what is under way are the buffers of two connections and no more."""

    async def test_a_client_that_does_not_read(self) -> None:
        with streams.Peer(streams.downloading(GIB)).listening() as peer:
            async with proxy_process(f"http://127.0.0.1:{peer.port}", {}) as proxy:
                proxy.forget_peak()
                before = proxy.peak_bytes

                def ask() -> tuple[int, int]:
                    with streams.dial(proxy.port) as plug:
                        plug.sendall(b"GET /soak HTTP/1.1\r\nHost: sidecar\r\n\r\n")
                        _, rest = streams.head_of(plug)
                        stood_at = standstill(lambda: peer.sent_bytes)
                        return stood_at, len(rest) + streams.receive(plug, GIB - len(rest))

                stood_at, received = await asyncio.to_thread(ask)
                growth = proxy.peak_bytes - before
        assert 0 < stood_at < 64 * MIB
        assert received == GIB, "it goes on where it stopped"
        assert growth < 16 * MIB

    async def test_an_upstream_that_does_not_read(self) -> None:
        sent = [0]
        stood_at = [0]

        def script(peer: streams.Peer, plug: socket.socket) -> None:
            _, rest = streams.head_of(plug)
            stood_at[0] = standstill(lambda: sent[0])
            peer.received_bytes = len(rest) + streams.receive(plug, GIB - len(rest))
            plug.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

        def count(sent_bytes: int) -> None:
            sent[0] += sent_bytes

        with streams.Peer(script).listening() as peer:
            async with proxy_process(f"http://127.0.0.1:{peer.port}", {}) as proxy:
                proxy.forget_peak()
                before = proxy.peak_bytes

                def tell() -> bytes:
                    with streams.dial(proxy.port) as plug:
                        plug.sendall(b"PUT /soak HTTP/1.1\r\nHost: sidecar\r\nContent-Length: %d\r\n\r\n" % GIB)
                        streams.send_pieces(plug, GIB, count)
                        return streams.head_of(plug)[0]

                head = await asyncio.to_thread(tell)
                growth = proxy.peak_bytes - before
        assert head.startswith(b"HTTP/1.1 204 ")
        assert 0 < stood_at[0] < 64 * MIB
        assert peer.received_bytes == GIB
        assert growth < 16 * MIB


class TestOrder:
    """Either side says the next word only once the other has heard the last one: who holds any back ends it all."""

    @pytest.mark.parametrize("kind", ["chunks", "length", "end"])
    async def test_lines_arrive_as_they_are_sent(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial, kind: str
    ) -> None:
        heard = asyncio.Semaphore(0)
        framing = {
            "chunks": b"Transfer-Encoding: chunked\r\n",
            "length": b"Content-Length: %d\r\n" % sum(len(line(number)) for number in range(LINES)),
            "end": b"",
        }[kind]

        async def script(upstream: Upstream, wire: Wire) -> None:
            await upstream.request(wire)
            await wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" + framing + b"\r\n")
            for number in range(LINES):
                await heard.acquire()
                data = line(number)
                await wire.send(b"%x\r\n%b\r\n" % (len(data), data) if kind == "chunks" else data)
            if kind == "chunks":
                await wire.send(b"0\r\n\r\n")

        proxied = await start_proxy((await start_upstream(script)).url)
        wire = await dial(proxied)
        await wire.send(b"GET /soak HTTP/1.1\r\nHost: sidecar\r\n\r\n")
        assert (await wire.head()).status == 200
        for number in range(LINES):
            heard.release()
            async with asyncio.timeout(wire.within_s):
                assert (await wire.reader.readuntil(b"\n\n")).endswith(line(number))

    async def test_pieces_of_a_request_arrive_as_they_are_sent(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial
    ) -> None:
        heard = asyncio.Semaphore(0)

        async def script(_upstream: Upstream, wire: Wire) -> None:
            await wire.head()
            for number in range(LINES):
                heard.release()
                assert (await wire.reader.readuntil(b"\n\n")).endswith(line(number))
            await wire.reader.readuntil(b"0\r\n\r\n")
            await wire.send(b"HTTP/1.1 204 No Content\r\n\r\n")

        proxied = await start_proxy((await start_upstream(script)).url)
        wire = await dial(proxied)
        await wire.send(b"POST /soak HTTP/1.1\r\nHost: sidecar\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in range(LINES):
            async with asyncio.timeout(wire.within_s):
                await heard.acquire()
            await wire.send(b"%x\r\n%b\r\n" % (len(line(number)), line(number)))
        await wire.send(b"0\r\n\r\n")
        assert (await wire.message()).status == 204


def line(number: int) -> bytes:
    return b"data: %d\n\n" % number


def standstill(count: Callable[[], int]) -> int:
    """Return what `count` does once it has grown and then stayed the same for a while."""
    last, quiet = 0, 0
    while quiet < 10:
        time.sleep(0.05)
        now = count()
        quiet = quiet + 1 if now == last and now else 0
        last = now
    return last
