"""A relay that hands on bytes as they come, blind to HTTP: `python -m tests.fidelity.relay PORT:UPSTREAM_PORT ...`.

What the table must find fault with, or it could not tell a proxy that protects anybody.
"""

from __future__ import annotations

import asyncio
import functools
import sys
from contextlib import suppress


async def _pumped(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
    finally:
        writer.close()


async def _relayed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, upstream_port: int) -> None:
    try:
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", upstream_port)
    except OSError:
        writer.close()
        return
    await asyncio.gather(_pumped(reader, upstream_writer), _pumped(upstream_reader, writer))


async def main(pairs: list[str]) -> None:
    servers = []
    for pair in pairs:
        port, upstream_port = map(int, pair.split(":"))
        relayed = functools.partial(_relayed, upstream_port=upstream_port)
        servers.append(await asyncio.start_server(relayed, "127.0.0.1", port))
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
