"""A real Prometheus, started for a test and asked by its HTTP API."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import time
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

UNPACKED = Path(__file__).parent.parent / ".cache" / "prometheus" / "usr" / "bin"

STARTED_WITHIN_S = 30.0
ENDED_WITHIN_S = 10.0


def program(name: str) -> str:
    """Return the path of a program that comes with Prometheus."""
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), str(UNPACKED)]))
    if found is None:
        pytest.fail(f"{name} is missing: run the tests by `bash .ci/test`, which fetches it, or put it on PATH")
    return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as lent:
        return int(lent.getsockname()[1])


class Prometheus:
    """A running Prometheus, asked by its HTTP API."""

    def __init__(self, url: str, client: aiohttp.ClientSession) -> None:
        self.url = url
        self.client = client

    async def is_ready(self) -> bool:
        with suppress(aiohttp.ClientError):
            async with self.client.get(f"{self.url}/-/ready") as response:
                return response.status == 200
        return False

    async def api(self, path: str, **parameters: str) -> Any:
        async with self.client.get(f"{self.url}/api/v1/{path}", params=parameters) as response:
            answer = await response.json()
        assert answer["status"] == "success", answer
        return answer["data"]

    async def query(self, expression: str) -> dict[str, float]:
        """Return the value for each value of the one label of the result, now."""
        found = (await self.api("query", query=expression))["result"]
        return {"".join(series["metric"].values()): float(series["value"][1]) for series in found}


@asynccontextmanager
async def scraping(config: str, folder: Path) -> AsyncIterator[Prometheus]:
    """Run a Prometheus by `config`, its data below `folder`."""
    path, log, port = folder / "prometheus.yml", folder / "log", free_port()
    path.write_text(config, "utf-8")
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            program("prometheus"),
            f"--config.file={path}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--enable-feature=exemplar-storage",
            stdout=output,
            stderr=output,
        )
    try:
        async with aiohttp.ClientSession() as client:
            prometheus = Prometheus(f"http://127.0.0.1:{port}", client)
            deadline = time.monotonic() + STARTED_WITHIN_S
            while not await prometheus.is_ready():
                if process.returncode is not None or time.monotonic() > deadline:
                    pytest.fail(f"Prometheus does not start: {log.read_text('utf-8')}")
                await asyncio.sleep(0.05)
            yield prometheus
    finally:
        await end(process)


async def end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(ENDED_WITHIN_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
