"""Whether a peer reads: tried on real sockets with buffers of the kernel between."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import TYPE_CHECKING

import pytest
import trustme

from proxy.progress import StalledError, Watch, held_for_peer, poll_for_input, read_in_pieces, unread_by_peer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.every_loop

PIECE = bytes(4_000_000)


@pytest.fixture
async def pair() -> AsyncIterator[tuple[asyncio.StreamWriter, asyncio.StreamReader]]:
    """A connection: its writing end, and the end whose reading the test decides on."""
    one, other = socket.socketpair()
    _, writer = await asyncio.open_connection(sock=one)
    reader, other_writer = await asyncio.open_connection(sock=other, limit=1024)
    yield writer, reader
    for end in (writer, other_writer):
        end.transport.abort()


@pytest.fixture
async def tls_pair() -> AsyncIterator[tuple[asyncio.StreamWriter, asyncio.StreamReader]]:
    """The same over TLS."""
    authority = trustme.CA()
    server_side, client_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(server_side)
    authority.configure_trust(client_side)
    accepted: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(lambda _, writer: accepted.set_result(writer), "127.0.0.1", 0, ssl=server_side)
    reader, other_writer = await asyncio.open_connection(
        *server.sockets[0].getsockname(), ssl=client_side, server_hostname="localhost", limit=1024
    )
    writer = await accepted
    yield writer, reader
    for end in (writer, other_writer):
        end.transport.abort()
    server.close()


async def write(writer: asyncio.StreamWriter, timeout_s: float) -> None:
    with Watch(writer.transport, timeout_s):
        writer.write(PIECE)
        await writer.drain()


async def test_a_peer_that_reads_nothing_is_left(pair: tuple[asyncio.StreamWriter, asyncio.StreamReader]) -> None:
    writer, _ = pair
    with pytest.raises(StalledError):
        await write(writer, 0.2)
    assert writer.transport.is_closing()


async def test_a_peer_that_reads_slowly_is_waited_for(
    pair: tuple[asyncio.StreamWriter, asyncio.StreamReader],
) -> None:
    """The whole takes several times longer than the standstill that is allowed."""
    writer, reader = pair
    clock = asyncio.get_running_loop().time
    began = clock()
    writing = asyncio.create_task(write(writer, 0.4))
    read = 0
    while not writing.done():
        read += len(await reader.read(100_000))
        await asyncio.sleep(0.08 if clock() - began < 1.2 else 0)
    await writing
    assert clock() - began > 1.2
    assert read < len(PIECE)


async def test_what_the_peer_has_not_read_is_told(pair: tuple[asyncio.StreamWriter, asyncio.StreamReader]) -> None:
    writer, _ = pair
    assert unread_by_peer(writer.transport) == 0
    writer.write(PIECE)
    assert 0 < unread_by_peer(writer.transport) <= 2 * len(PIECE)


async def test_what_waits_below_tls_is_told(tls_pair: tuple[asyncio.StreamWriter, asyncio.StreamReader]) -> None:
    """TLS itself soon holds none of it: its transport's own count is 0 long before the peer has all."""
    writer, reader = tls_pair
    more_than_the_kernel_takes = 4 * PIECE
    assert held_for_peer(writer.transport) == 0
    writer.write(more_than_the_kernel_takes)
    assert writer.transport.get_write_buffer_size() == 0
    assert held_for_peer(writer.transport) > 0
    writer.close()
    assert held_for_peer(writer.transport) > 0
    assert await reader.readexactly(len(more_than_the_kernel_takes)) == more_than_the_kernel_takes
    while held_for_peer(writer.transport):  # noqa: ASYNC110 - the fixture's event loop has to send it
        await asyncio.sleep(0.005)
    writer.transport.abort()
    assert held_for_peer(writer.transport) == 0


async def test_what_is_done_in_time_leaves_no_timer(
    pair: tuple[asyncio.StreamWriter, asyncio.StreamReader],
) -> None:
    writer, reader = pair
    with Watch(writer.transport, 0.1):
        writer.write(b"x")
        await writer.drain()
    await asyncio.sleep(0.3)
    assert not writer.transport.is_closing()
    assert await reader.read(1) == b"x"


async def test_a_connection_that_is_gone_is_no_standstill() -> None:
    with Watch(None, 0.05):
        await asyncio.sleep(0.2)


def test_no_more_is_asked_for_than_memory_costs_nothing_for() -> None:
    asked: list[int] = []

    class Plug(socket.socket):
        def recv(self, size: int, *flags: int) -> bytes:
            asked.append(size)
            return super().recv(size, *flags)

    async def read() -> bytes:
        class Protocol(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                read_in_pieces(transport)

            def data_received(self, data: bytes) -> None:
                seen.set_result(data)

        loop = asyncio.get_running_loop()
        seen: asyncio.Future[bytes] = loop.create_future()
        one, other = socket.socketpair()
        transport, _ = await loop.create_connection(Protocol, sock=Plug(fileno=one.detach()))
        with other:
            other.send(b"x")
            data = await seen
        transport.close()
        return data

    # uvloop reads by itself, and into a buffer that stays.
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        assert runner.run(read()) == b"x"
    assert set(asked) == {64 * 1024}


async def test_input_is_told_before_the_event_loop_reads_it() -> None:
    one, other = socket.socketpair()
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=one)
    with other:
        poll = poll_for_input(transport)
        assert poll is not None
        assert poll.poll(0) == []
        other.send(b"x")
        assert poll.poll(0) != []
    transport.close()
    await asyncio.sleep(0)
    assert poll_for_input(transport) is None
