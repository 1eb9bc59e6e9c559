"""The proxy as a process of its own: what it logs, what it counts, what it holds."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import threading
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Final

import psutil

from tests.conftest import dialled
from tests.documented import undocumented

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

_STARTED_WITHIN_S: Final = 30.0
_ENDED_WITHIN_S: Final = 30.0
_SAMPLE: Final = re.compile(r"defender_proxy_(\w+)(?:\{(.*)\})? (\S+)")
_LABEL: Final = re.compile(r'(\w+)="([^"]*)"')

Series = tuple[str, frozenset[tuple[str, str]]]
"""A metric's name without its prefix, and its labels."""


@dataclass(slots=True)
class ProxyProcess:
    """A running `python -m proxy run`; `lines` are its log lines so far, in order."""

    process: asyncio.subprocess.Process
    lines: list[dict[str, Any]] = field(default_factory=list)
    port: int = 0
    admin_port: int = 0

    @property
    def facts(self) -> psutil.Process:
        return psutil.Process(self.process.pid)

    @property
    def peak_bytes(self) -> int:
        """The most memory that it has ever held (VmHWM; proc(5))."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:  # noqa: PTH123 - no file
            return 1024 * int(next(line for line in status if line.startswith("VmHWM")).split()[1])

    def forget_peak(self) -> None:
        """Begin to measure the peak anew (proc(5), clear_refs)."""
        with open(f"/proc/{self.process.pid}/clear_refs", "w", encoding="ascii") as refs:  # noqa: PTH123 - no file
            refs.write("5")

    async def samples(self) -> dict[Series, float]:
        """Return all that is counted, by series."""
        wire = await dialled(self.admin_port)
        try:
            text = (await wire.ask("GET", "/metrics", b"Connection: close")).body.decode()
        finally:
            await wire.close()
        return {
            (match[1], frozenset(_LABEL.findall(match[2] or ""))): float(match[3])
            for match in map(_SAMPLE.fullmatch, text.splitlines())
            if match is not None
        }


@asynccontextmanager
async def proxy_process(
    upstream_url: str, variables: Mapping[str, str], *, command: tuple[str, ...] = ("-m", "proxy", "run")
) -> AsyncIterator[ProxyProcess]:
    """Run the proxy for the length of the block; `variables` are settings: `CHECK__MODE`.

    Raises:
        RuntimeError: it does not start, or does not end on SIGTERM with status 0 and nothing on standard error.
    """
    usual = {"LISTEN": "127.0.0.1:0", "ADMIN": "127.0.0.1:0", "DRAIN__DELAY_S": "0", "DRAIN__TIMEOUT_S": "5"}
    usual |= {"UPSTREAM__URL": upstream_url, "LOG__FORMAT": "json"}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DEFENDER_SIDECAR_")}
    environment |= {f"DEFENDER_SIDECAR_{name}": value for name, value in (usual | dict(variables)).items()}
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as log:
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, *command, stdout=writer, stderr=asyncio.subprocess.PIPE, env=environment
            )
        finally:
            os.close(writer)
        running = ProxyProcess(process)
        # A thread, since lines must not wait for a busy event loop: what the pipe does not take, the proxy drops.
        reading = threading.Thread(target=_read_lines, args=(log, running.lines), daemon=True)
        reading.start()
        try:
            async with asyncio.timeout(_STARTED_WITHIN_S):
                while not running.lines and process.returncode is None:  # noqa: ASYNC110 - a thread fills it
                    await asyncio.sleep(0.01)
            if process.returncode is None:
                running.port, running.admin_port = (
                    int(running.lines[0][name].rpartition(":")[2]) for name in ("listen", "admin")
                )
                yield running
        finally:
            complaint = await _end(process)
            await asyncio.to_thread(reading.join)
        # Afterwards, since the reading thread has to keep up. Those who look into the proxy write a line of their own.
        problems = undocumented(line for line in running.lines if line["event"] != "watching")
        if problems:
            raise RuntimeError(f"lines that config/log.schema.json does not allow: {problems[:10]}")
        if process.returncode or complaint:
            raise RuntimeError(f"the proxy ended with status {process.returncode}: {complaint[-4000:]}")


async def _end(process: asyncio.subprocess.Process) -> str:
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(_ENDED_WITHIN_S):
            _, complaint = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return f"it was still there {_ENDED_WITHIN_S:.0f} s after SIGTERM"
    return complaint.decode(errors="replace")


def _read_lines(log: IO[bytes], lines: list[dict[str, Any]]) -> None:
    lines.extend(json.loads(line) for line in log)
