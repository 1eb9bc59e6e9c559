"""`python -m tests.soak.watched`: the proxy, settings from the environment, with a watchdog in its event loop.

It logs the port at which it tells for how many milliseconds the loop was late at the worst since the last question.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from proxy.configuration import load_configuration
from proxy.loop import run
from proxy.server import keep_pauses_short, serving

_INTERVAL_S = 0.002


async def main() -> None:
    """Serve until SIGTERM."""
    configuration = load_configuration(None, os.environ, {})
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    worst_s = 0.0

    async def watch() -> None:
        nonlocal worst_s
        while True:
            due = loop.time() + _INTERVAL_S
            await asyncio.sleep(_INTERVAL_S)
            worst_s = max(worst_s, loop.time() - due)

    def tell(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal worst_s
        writer.write(b"%.3f" % (worst_s * 1000))
        writer.close()
        worst_s = 0.0

    async with serving(configuration, sys.stdout) as running:
        keep_pauses_short()
        server = await asyncio.start_server(tell, "127.0.0.1", 0)
        running.log.info("watching", port=server.sockets[0].getsockname()[1])
        watching = asyncio.create_task(watch())
        await stop.wait()
        watching.cancel()
        server.close()


if __name__ == "__main__":
    run(main())
