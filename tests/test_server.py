"""The life of the whole process: a real one, from its start, or its refusal to, to its end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import json
import os
import re
import signal
import socket
import ssl
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import trustme

from proxy.simulator import Simulator
from tests.conftest import dialled
from tests.documented import heard

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
    from pathlib import Path

    Start = Callable[..., Awaitable["Sidecar"]]

# Long enough for a busy machine, short enough to tell a hang.
STARTED_WITHIN_S = 15.0
ENDED_WITHIN_S = 8.0
IN_USE = os.strerror(errno.EADDRINUSE).lower()
RESTING = ("--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")

MISSPELT = json.dumps({"Indicators": [{"indicatorvalue": "a.example"}] * 60}).encode()


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return our own environment with `variables`, and with Python's output buffered, as it is by default."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"} | dict(variables)


async def until(holds: Callable[[], Awaitable[object]], within_s: float = STARTED_WITHIN_S) -> None:
    async with asyncio.timeout(within_s):
        while not await holds():  # noqa: ASYNC110 - it is another process that is waited for
            await asyncio.sleep(0.01)


def drained(pipe: int) -> bytes:
    """Return what is in the pipe."""
    read = b""
    with contextlib.suppress(BlockingIOError):
        while piece := os.read(pipe, 65536):
            read += piece
    return read


@dataclass(slots=True)
class Sidecar:
    """A running process; `reader` is the end of the pipe that its standard output is, `client` speaks to it."""

    process: asyncio.subprocess.Process
    reader: int
    client: aiohttp.ClientSession
    url: str = ""
    admin_url: str = ""
    _read: bytes = b""

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def events(self) -> list[dict[str, Any]]:
        """Return all lines so far."""
        self._read += drained(self.reader)
        return self._parsed()

    async def serving(self) -> None:
        """Wait until it says where; nothing behind that line is read."""

        async def is_serving() -> bool:
            with contextlib.suppress(BlockingIOError):
                while not self._read.endswith(b"\n") and (piece := os.read(self.reader, 1)):
                    self._read += piece
            if self.process.returncode is not None and self.process.stderr is not None:
                raise AssertionError((await self.process.stderr.read()).decode())
            return self._read.endswith(b"\n")

        await until(is_serving)
        (event,) = self._parsed()
        self.url, self.admin_url = event["listen"], event["admin"]

    def _parsed(self) -> list[dict[str, Any]]:
        return [heard(line) for line in self._read.split(b"\n")[:-1]]

    async def get(self, path: str, simulate: str = "") -> tuple[int, bytes]:
        fields = {"X-Simulate": simulate, "Connection": "close"}
        async with self.client.get(self.url + path, headers=fields) as response:
            return response.status, await response.read()

    async def ready(self) -> int:
        async with self.client.get(f"{self.admin_url}/readyz") as response:
            return response.status

    async def metric(self, name: str) -> float:
        async with self.client.get(f"{self.admin_url}/metrics") as response:
            text = await response.text()
        return sum(map(float, re.findall(rf"^defender_proxy_{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE)))

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    async def ended(self, within_s: float = ENDED_WITHIN_S) -> int:
        """Return the exit status; what was said on standard error is a failure."""
        async with asyncio.timeout(within_s):
            status = await self.process.wait()
        assert self.process.stderr is not None
        assert (await self.process.stderr.read()).decode() == ""
        return status


@pytest.fixture
async def start(simulator: Simulator) -> AsyncIterator[Start]:
    """Start sidecars before the simulator with `await start(delay_s="1")`; they end with the test."""
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(aiohttp.ClientSession())

        async def start(upstream_url: str = simulator.url, *, certificates: str = "", **drain: str) -> Sidecar:
            reader, writer = os.pipe()
            os.set_blocking(reader, False)
            stack.callback(_close, reader)
            usual = {"delay_s": "0", "timeout_s": "5"} | drain
            variables = {f"DEFENDER_SIDECAR_DRAIN__{name.upper()}": value for name, value in usual.items()}
            if certificates:
                variables["SSL_CERT_FILE"] = certificates
            try:
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "proxy", "run", *RESTING, "--upstream", upstream_url,
                    stdout=writer, stderr=asyncio.subprocess.PIPE, env=environment(variables),
                )  # fmt: skip
            finally:
                os.close(writer)
            stack.push_async_callback(_end, process)
            sidecar = Sidecar(process, reader, client)
            await sidecar.serving()
            return sidecar

        yield start


def _close(descriptor: int) -> None:
    with contextlib.suppress(OSError):
        os.close(descriptor)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()


async def arrived(simulator: Simulator, count: int = 1) -> None:
    async def are_there() -> bool:
        return len(simulator.received) >= count

    await until(are_there)


# The end.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
async def test_a_signal_drains(start: Start, simulator: Simulator, number: int) -> None:
    sidecar = await start(delay_s="1")
    assert await sidecar.ready() == 200
    running = asyncio.create_task(sidecar.get("/api/machines", "slow=2"))
    await arrived(simulator)

    sidecar.signal(number)

    async def is_unready() -> bool:
        return await sidecar.ready() == 503

    await until(is_unready, within_s=0.8)
    # The program beside us may have to say goodbye yet.
    status, body = await sidecar.get("/api/machines")
    assert (status, bool(json.loads(body)["value"])) == (200, True)
    assert await sidecar.metric("ready") == 0

    async def is_refused() -> bool:
        with contextlib.suppress(aiohttp.ClientConnectorError):
            await sidecar.get("/api/machines")
            return False
        return True

    await until(is_refused, within_s=2)
    assert not running.done()
    assert await sidecar.ready() == 503
    status, body = await running
    assert (status, bool(json.loads(body)["value"])) == (200, True)
    assert await sidecar.ended() == 0
    assert [event["event"] for event in sidecar.events()] == ["serving", "draining"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it is read from /proc")
async def test_the_process_tells_of_itself(start: Start) -> None:
    sidecar = await start()
    async with sidecar.client.get(f"{sidecar.admin_url}/metrics") as response:
        names = set(re.findall(r"^(process_\w+) ", await response.text(), re.MULTILINE))
    assert {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"} <= names


async def test_an_answer_during_the_drain_is_the_last_of_its_connection(start: Start, simulator: Simulator) -> None:
    sidecar = await start()
    wire = await dialled(sidecar.port)
    await wire.send(b"GET /api/machines HTTP/1.1\r\nHost: a\r\nX-Simulate: slow=0.5\r\n\r\n")
    await arrived(simulator)

    sidecar.signal(signal.SIGTERM)

    # With its length or in chunks: whether all of it is here with the head is up to the network.
    answer = await wire.message()
    assert await wire.rest() == b""
    await wire.close()
    assert answer.status == 200
    assert answer["Connection"] == "close"
    assert json.loads(answer.body)["value"]
    assert await sidecar.ended() == 0


async def test_idle_clients_do_not_hold_the_process(start: Start) -> None:
    sidecar = await start()
    connections = [await asyncio.open_connection("127.0.0.1", sidecar.port) for _ in range(3)]
    connections.append(await asyncio.open_connection("127.0.0.1", int(sidecar.admin_url.rpartition(":")[2])))
    for (reader, writer), path in zip(connections[1:], (b"/api/machines", b"/api/alerts", b"/healthz"), strict=True):
        writer.write(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % path)
        assert await reader.readuntil(b"\r\n\r\n")

    sidecar.signal(signal.SIGTERM)

    assert await sidecar.ended(within_s=3) == 0
    for reader, writer in connections:
        await reader.read()
        assert reader.at_eof()
        writer.close()


async def test_a_client_in_the_middle_of_a_head_does_not_hold_the_process(start: Start) -> None:
    sidecar = await start()
    reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
    writer.write(b"GET /api/machines HTTP/1.1\r\nHos")
    await writer.drain()

    sidecar.signal(signal.SIGTERM)

    assert await sidecar.ended(within_s=3) == 0
    assert not (await reader.read()).startswith(b"HTTP/1.1 5")
    writer.close()


async def test_an_upload_under_way_is_completed(start: Start, simulator: Simulator) -> None:
    sidecar = await start()
    half = bytes(range(256)) * 1024
    reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
    head = "PUT /upload HTTP/1.1\r\nHost: a\r\nX-Simulate: echo\r\nContent-Type: application/octet-stream\r\n"
    writer.write(f"{head}Content-Length: {2 * len(half)}\r\n\r\n".encode() + half)
    await writer.drain()

    async def is_carried() -> bool:
        return await sidecar.metric("requests_in_flight") == 1

    await until(is_carried)
    sidecar.signal(signal.SIGTERM)

    async def is_closed() -> bool:
        return await sidecar.ready() == 503

    await until(is_closed)
    await asyncio.sleep(0.3)
    writer.write(half)
    await writer.drain()
    status_line, _, rest = (await reader.read()).partition(b"\r\n")
    writer.close()

    assert status_line == b"HTTP/1.1 200 OK"
    assert json.loads(rest.partition(b"\r\n\r\n")[2])["sha256"] == hashlib.sha256(half + half).hexdigest()
    assert simulator.received[0].complete
    assert await sidecar.ended() == 0


async def test_what_takes_longer_than_the_drain_is_told_so(start: Start, simulator: Simulator) -> None:
    sidecar = await start(timeout_s="0.3")
    running = asyncio.create_task(sidecar.get("/api/machines", "slow=60"))
    await arrived(simulator)

    sidecar.signal(signal.SIGTERM)

    status, body = await running
    assert status == 503
    assert json.loads(body)["error"]["code"] == "ServiceUnavailable"
    assert await sidecar.ended(within_s=4) == 0
    (event,) = (event for event in sidecar.events() if event["event"] == "proxy_error")
    assert (event["failure"], event["status"], event["level"]) == ("shutting_down", 503, "error")


async def test_a_response_that_ends_with_its_connection_looks_whole_to_nobody(
    start: Start, simulator: Simulator
) -> None:
    """To a client of HTTP/1.0 an orderly end of the connection is the end of the body."""
    sidecar = await start(timeout_s="0.3")
    reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
    writer.write(b"GET /api/machines HTTP/1.0\r\nX-Simulate: trickle=0.05, size=100000000\r\n\r\n")
    await arrived(simulator)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")

    sidecar.signal(signal.SIGTERM)

    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()
    assert await sidecar.ended(within_s=4) == 0


async def test_a_response_that_takes_longer_than_the_drain_is_broken_off(start: Start, simulator: Simulator) -> None:
    sidecar = await start(timeout_s="0.3")
    running = asyncio.create_task(sidecar.get("/api/machines", "trickle=0.05, size=100000000"))
    await arrived(simulator)
    await asyncio.sleep(0.2)

    sidecar.signal(signal.SIGTERM)

    with pytest.raises(aiohttp.ClientPayloadError):
        await running
    assert await sidecar.ended(within_s=4) == 0
    (event,) = (event for event in sidecar.events() if event["event"] == "proxy_error")
    assert (event["failure"], event["status"]) == ("shutting_down", 200)


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
async def test_a_second_signal_ends_at_once(start: Start, simulator: Simulator, second: int) -> None:
    sidecar = await start(delay_s="30", timeout_s="30")
    running = asyncio.create_task(sidecar.get("/api/machines", "slow=60"))
    await arrived(simulator)
    sidecar.signal(signal.SIGTERM)

    async def is_unready() -> bool:
        return await sidecar.ready() == 503

    await until(is_unready)
    sidecar.signal(second)

    assert await sidecar.ended(within_s=2) == 1
    with pytest.raises(aiohttp.ClientError):
        await running


# Standard output.


async def misspell(sidecar: Sidecar, times: int) -> None:
    """Have it write `times` long lines."""
    fields = {"Content-Type": "application/json"}
    for _ in range(times):
        async with (
            asyncio.timeout(2),
            sidecar.client.post(f"{sidecar.url}/api/indicators/import", data=MISSPELT, headers=fields) as response,
        ):
            assert response.status == 400
            await response.read()


async def test_a_reader_of_the_log_that_leaves_ends_nothing(start: Start) -> None:
    sidecar = await start()
    os.close(sidecar.reader)

    await misspell(sidecar, 20)

    async def is_counted() -> bool:
        return await sidecar.metric("log_lines_dropped_total") > 0

    await until(is_counted)
    sidecar.signal(signal.SIGTERM)
    assert await sidecar.ended() == 0


async def test_a_reader_of_the_log_that_does_not_read_blocks_nothing(start: Start) -> None:
    sidecar = await start()

    await misspell(sidecar, 60)

    assert await sidecar.metric("log_events_total") >= 60
    sidecar.signal(signal.SIGTERM)
    # It waits for the reader a little, but not for ever.
    assert await sidecar.ended() == 0
    assert 0 < len(drained(sidecar.reader)) < 60 * len(MISSPELT)


@pytest.mark.parametrize("closed", [">&-", "<&- >&-"], ids=["output", "input-too"])
async def test_a_standard_output_that_is_closed_is_no_reason_not_to_start(simulator: Simulator, closed: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as lent:
        admin = f"127.0.0.1:{lent.getsockname()[1]}"
    process = await asyncio.create_subprocess_exec(
        "/bin/sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-m", "proxy", "run",
        "--listen", "127.0.0.1:0", "--admin", admin, "--upstream", simulator.url,
        stderr=asyncio.subprocess.PIPE, env=environment({"DEFENDER_SIDECAR_DRAIN__DELAY_S": "0"}),
    )  # fmt: skip
    try:
        async with aiohttp.ClientSession() as client:
            sidecar = Sidecar(process, -1, client, admin_url=f"http://{admin}")

            async def is_ready() -> bool:
                assert process.returncode is None
                with contextlib.suppress(aiohttp.ClientError):
                    return await sidecar.ready() == 200
                return False

            await until(is_ready)
            sidecar.signal(signal.SIGTERM)
            assert await sidecar.ended() == 0
    finally:
        await _end(process)


# What cannot be started.


@pytest.fixture
def taken() -> Iterator[str]:
    """An address that somebody else listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


async def refused(*arguments: str, **variables: str) -> list[str]:
    """Run a sidecar that cannot start, and return what it says, each line without the name of the program."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxy", "run", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environment(variables),
    )  # fmt: skip
    try:
        async with asyncio.timeout(STARTED_WITHIN_S):
            out, said = await process.communicate()
    finally:
        await _end(process)
    assert process.returncode == 2
    assert out == b""
    lines = said.decode().splitlines()
    assert all(line.startswith("defender-sidecar: ") for line in lines), said.decode()
    return [line.removeprefix("defender-sidecar: ") for line in lines]


async def test_an_address_that_is_taken(taken: str) -> None:
    (said,) = await refused("--listen", taken, "--admin", "127.0.0.1:0")

    assert said == f"cannot listen on {taken} ({IN_USE}); choose another address, or port 0 for any free one"


async def test_an_admin_address_that_is_taken(taken: str) -> None:
    (said,) = await refused("--listen", "127.0.0.1:0", "--admin", taken)

    assert said == f"cannot listen on {taken} ({IN_USE}); choose another address, or port 0 for any free one"


async def test_an_address_of_another_machine() -> None:
    # RFC 5737: this one is for documentation and is nobody's.
    (said,) = await refused("--listen", "192.0.2.1:0", "--admin", "127.0.0.1:0")

    assert said.startswith("cannot listen on 192.0.2.1:0 (")


async def test_a_settings_file_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "proxy.yaml"

    (said,) = await refused(*RESTING, "--config", str(path))

    assert said == f"{path}: config: must name a file that is there; without one, the defaults hold"


async def test_a_folder_in_place_of_a_settings_file(tmp_path: Path) -> None:
    (said,) = await refused(*RESTING, "--config", str(tmp_path))

    assert said == f"{tmp_path}: config: must name a file, not a folder"


async def test_a_settings_file_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "proxy.yaml"
    path.symlink_to(path)  # whom permissions do not stop, a circle does

    (said,) = await refused(*RESTING, "--config", str(path))

    assert said.startswith(f"{path}: config: must name a file that can be read: ")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        pytest.param(b"check: {mode: reject\n", "config: ", id="an open brace"),
        pytest.param(b"\x93NUMPY\x01\x00", "config: must be UTF-8 text", id="no text"),
        pytest.param(b"upstream:\n  url: api.example\n", ":2: upstream.url = api.example: must ", id="no scheme"),
        pytest.param(b"chekc:\n  mode: fix\n", ":1: chekc", id="an unknown key"),
    ],
)
async def test_a_settings_file_that_makes_no_sense(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "proxy.yaml"
    path.write_bytes(content)

    (said,) = await refused(*RESTING, "--config", str(path))

    assert said.startswith(str(path))
    assert told in said


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--upstream", "api.security.microsoft.com"), "--upstream: upstream.url = api.security.microsoft.com: must "),
        (("--mode", "fixx"), "--mode: check.mode = fixx: must be reject, fix or observe"),
        (("--workers", "two"), "--workers: workers = two: must be a whole number, 1 or more"),
        (("--workers", "0"), "--workers: workers = 0: must be a whole number, 1 or more"),
        (("--listen", "8080"), "--listen: listen = 8080: must be HOST:PORT"),
        (("--admin", "127.0.0.1:http"), "--admin: admin = 127.0.0.1:http: must end in a port"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
async def test_a_flag_that_makes_no_sense(arguments: tuple[str, ...], told: str) -> None:
    (said,) = await refused(*arguments)

    assert said.startswith(told)


async def test_a_variable_that_makes_no_sense() -> None:
    (said,) = await refused(DEFENDER_SIDECAR_CHECK__MODE="fixx")

    assert said.startswith("DEFENDER_SIDECAR_CHECK__MODE: check.mode = fixx: must be reject, fix or observe")


async def test_an_aiohttp_without_its_c_parser() -> None:
    (said,) = await refused(*RESTING, AIOHTTP_NO_EXTENSIONS="1")

    assert said.startswith("aiohttp runs without its C parser; ")


# A process of its own, as what it looks at is the interpreter's: it reloads four times, and says after each what is
# left for a garbage collection to walk, what is not, and for how long a thread may hold up the others.
RELOADING = """
import asyncio, gc, json, os, signal, sys
from proxy.configuration import load_configuration
from proxy.loop import run
from proxy.reload import Source
from proxy.server import serve

class Lines(list):
    isatty = staticmethod(lambda: False)
    flush = staticmethod(lambda: None)
    write = list.append

async def told(event, times):
    while sum(json.loads(line)["event"] == event for line in list(lines)) < times:
        await asyncio.sleep(0.01)

async def main():
    source = Source(lambda: load_configuration(None, os.environ, {}))
    serving = asyncio.create_task(serve(source.read(), source, lines))
    await told("serving", 1)
    for times in range(1, 5):
        os.kill(os.getpid(), signal.SIGHUP)
        await told("reloaded", times)
        print(json.dumps([len(gc.get_objects()), gc.get_freeze_count(), sys.getswitchinterval()]))
    os.kill(os.getpid(), signal.SIGTERM)
    await serving

lines = Lines()
run(main())
"""


async def test_no_catalog_is_left_to_garbage_collection() -> None:
    """Neither the first one, nor one that was read anew; and those that were replaced do not stay."""
    settings = {
        "DEFENDER_SIDECAR_LISTEN": "127.0.0.1:0",
        "DEFENDER_SIDECAR_ADMIN": "127.0.0.1:0",
        "DEFENDER_SIDECAR_RELOAD__INTERVAL_S": "0",
        "DEFENDER_SIDECAR_DRAIN__DELAY_S": "0",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", RELOADING, stdout=asyncio.subprocess.PIPE, env=environment(settings)
    )
    try:
        async with asyncio.timeout(4 * STARTED_WITHIN_S):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    figures = [json.loads(line) for line in said.splitlines()]
    assert len(figures) == 4
    walked, frozen, intervals_s = zip(*figures, strict=True)
    assert max(walked) < 1000
    assert max(frozen[1:]) < 1.1 * frozen[0]
    assert max(intervals_s) < 0.005


@pytest.mark.parametrize(
    ("name", "is_trusted", "status", "failure"),
    [
        pytest.param("localhost", True, 201, None, id="trusted"),
        pytest.param("localhost", False, 502, "tls_certificate_error", id="unknown-authority"),
        pytest.param("defender.example", True, 502, "tls_certificate_error", id="of-another-name"),
    ],
)
async def test_an_upstream_over_tls(
    start: Start,
    tmp_path: Path,
    name: str,
    is_trusted: bool,  # noqa: FBT001
    status: int,
    failure: str | None,
) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    trusted = tmp_path / "authorities.pem"
    (authority if is_trusted else trustme.CA()).cert_pem.write_to_path(trusted)

    async with Simulator.listening(tls=context) as upstream:
        url = upstream.url.replace("127.0.0.1", "localhost")
        sidecar = await start(url, certificates=str(trusted))
        body = {"Comment": "Beacon seen"}
        async with sidecar.client.post(f"{sidecar.url}/api/machines/1/isolate", json=body) as response:
            assert response.status == status
        assert [received.status for received in upstream.received] == ([201] if is_trusted and not failure else [])
    sidecar.signal(signal.SIGTERM)
    assert await sidecar.ended() == 0
    assert [event.get("failure") for event in sidecar.events() if event["event"] == "proxy_error"] == (
        [failure] if failure else []
    )


async def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "proxy.yaml"
    path.write_text("drain:\n  delay_s: soon\nlog: {level: loud}\n", "utf-8")

    said = await refused("--config", str(path), "--mode", "fixx", DEFENDER_SIDECAR_ERRORS__MAX_BODY_BYTES="-1")

    assert [line.split(": ")[1].split(" ")[0] for line in said] == [
        "drain.delay_s",
        "log.level",
        "errors.max_body_bytes",
        "check.mode",
    ]


async def test_a_mode_for_an_operation_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "proxy.yaml"
    path.write_text("check: {operations: {isolatemachine: off, brewCoffee: fix}}\n", "utf-8")

    said = await refused(*RESTING, "--config", str(path))

    remedy = "must be an operation of the catalog"
    assert said == [
        f"{path}:1: check.operations.isolatemachine = off: {remedy}; did you mean isolateMachine?",
        f"{path}:1: check.operations.brewCoffee = fix: {remedy}; `catalog list` names them",
    ]


async def test_a_catalog_document_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "first.yaml").write_text("openapi: 2.0\n", "utf-8")
    (tmp_path / "second.yaml").write_text("openapi: 3.1.0\nopenapi: 3.1.0\n", "utf-8")
    path = tmp_path / "proxy.yaml"
    path.write_text("catalog: {files: [second.yaml, missing.yaml]}\n", "utf-8")

    said = await refused(*RESTING, "--config", str(path))

    remedy = "must name an OpenAPI document; this one cannot be read: there is no such file"
    assert said == [
        f"{path}:1: catalog.files[1] = missing.yaml: {remedy}",
        f"{tmp_path / 'second.yaml'}:2: the key 'openapi' stands twice",
    ]

    path.write_text("catalog: {files: [first.yaml]}\n", "utf-8")
    (line,) = await refused(*RESTING, "--config", str(path))
    assert line == f"{tmp_path / 'first.yaml'}:1: /openapi: version 2.0 is not supported; write 3.1.0"
