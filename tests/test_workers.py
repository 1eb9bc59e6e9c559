"""Several processes on one port: real ones, with real signals."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.openmetrics import parser as openmetrics_parser

from proxy.configuration import load_configuration
from proxy.listener import ListenError
from proxy.reload import Source
from proxy.server import StartError
from proxy.workers import _plug, _reserved, lead
from tests.conftest import QUICK, Lines, Upstream, Wire, dialled
from tests.soak.process import ProxyProcess, proxy_process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
    from pathlib import Path

    import psutil
    from prometheus_client import Metric

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux spreads connections over processes")

WITHIN_S = 30.0
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
REFUSAL = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
MISSPELT = b'{"comment": "a", "IsolationType": "Full"}'
# Each connection goes to either worker: that all go to one has a chance of 2 in 2**CONNECTIONS.
CONNECTIONS = 40


@asynccontextmanager
async def crew(upstream: Upstream, *arguments: str, **settings: str) -> AsyncIterator[ProxyProcess]:
    variables = {"WORKERS": "2", "RELOAD__INTERVAL_S": "0", **settings}
    async with proxy_process(upstream.url, variables, command=("-m", "proxy", "run", *arguments)) as running:
        yield running


@contextmanager
def ending(status: int) -> Iterator[None]:
    """Expect that the leader ends with `status`, which is not 0, within the block."""
    with pytest.raises(RuntimeError, match=f"ended with status {status:d}"):
        yield


def workers(running: ProxyProcess) -> list[psutil.Process]:
    return [child for child in running.facts.children() if "--worker-at" in child.cmdline()]


async def until(holds: Callable[[], Awaitable[object] | object]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while True:
            held = holds()
            if await held if asyncio.iscoroutine(held) else held:
                return
            await asyncio.sleep(0.02)


async def event(running: ProxyProcess, name: str, count: int = 1) -> dict[str, Any]:
    await until(lambda: sum(line["event"] == name for line in running.lines) >= count)
    return [line for line in running.lines if line["event"] == name][count - 1]


async def ask(port: int, method: str = "GET", target: str = "/api/alerts", body: bytes = b"") -> int:
    """Return the status of the answer on a connection of its own."""
    wire = await dialled(port)
    try:
        lines = (b"Content-Type: application/json",) if body else ()
        return (await wire.ask(method, target, b"Connection: close", *lines, body=body)).status
    finally:
        await wire.close()


async def total(running: ProxyProcess, name: str, **labels: str) -> float:
    """Return the sum of the series called `name` that have `labels`."""
    wanted = {*labels.items()}
    return sum(value for (found, has), value in (await running.samples()).items() if found == name and wanted <= has)


async def test_all_processes_answer_and_are_told_of_as_one(
    start_upstream: Callable[..., Awaitable[Upstream]],
) -> None:
    upstream = await start_upstream(REFUSAL)
    async with crew(upstream, LOG__REQUESTS="true") as running:
        started = running.lines[0]
        assert (started["event"], started["workers"]) == ("serving", 2)

        assert [await ask(running.port) for _ in range(CONNECTIONS)] == [403] * CONNECTIONS

        assert await total(running, "requests_total", status="403") == CONNECTIONS
        assert await total(running, "request_duration_seconds_count") == CONNECTIONS
        assert await total(running, "ready") == await total(running, "build_info") == 1
        assert await total(running, "requests_in_flight") == 0
        # Idle ones of both.
        await until(lambda: _has(running, "upstream_connections", 2, state="idle"))

        await event(running, "upstream_error", CONNECTIONS)
        wire = await dialled(running.admin_port)
        page = (await wire.ask("GET", "/", b"Connection: close")).body.decode()
        await wire.close()
        # The page counts what all of them met.
        assert f"<td>{CONNECTIONS}</td>" in page
        # What leader and workers logged.
        await until(lambda: _has(running, "log_events_total", len(running.lines)))
        assert await total(running, "log_events_total") == len(running.lines)

        wire = await dialled(running.admin_port)
        accept = b"Accept: application/openmetrics-text"
        shown = (await wire.ask("GET", "/metrics", b"Connection: close", accept)).body.decode()
        await wire.close()
        told = {line["target_id"] for line in running.lines if line["event"] == "upstream_error"}
        families: Iterable[Metric] = openmetrics_parser.text_string_to_metric_families(shown)  # type: ignore[no-untyped-call]
        exemplars = [sample.exemplar for family in families for sample in family.samples if sample.exemplar]
        assert {exemplar.labels["target_id"] for exemplar in exemplars} <= told
        assert exemplars


async def _has(running: ProxyProcess, name: str, at_least: float, **labels: str) -> bool:
    return await total(running, name, **labels) >= at_least


async def _is(running: ProxyProcess, name: str, value: float, **labels: str) -> bool:
    return await total(running, name, **labels) == value


async def hanging(upstream: Upstream, wire: Wire) -> None:
    await upstream.request(wire)
    await asyncio.Event().wait()


async def test_a_worker_that_dies_is_replaced(start_upstream: Callable[..., Awaitable[Upstream]]) -> None:
    async def script(upstream: Upstream, wire: Wire) -> None:
        while True:
            request = await upstream.request(wire)
            if request.target.endswith(b"/hang"):
                await asyncio.Event().wait()
            await wire.send(ANSWER)

    upstream = await start_upstream(script)
    async with crew(upstream) as running:
        hung = await dialled(running.port)
        await hung.send(b"GET /api/hang HTTP/1.1\r\nHost: a\r\n\r\n")
        await until(lambda: _has(running, "requests_in_flight", 1))
        former = workers(running)
        for worker in former:
            worker.kill()
        for count in (1, 2):
            died = await event(running, "worker_died", count)
            assert died["exit_status"] == -signal.SIGKILL
        assert {line["pid"] for line in running.lines if line["event"] == "worker_died"} == {one.pid for one in former}
        assert await hung.rest() == b""
        await hung.close()

        await until(lambda: _is_ready(running))
        # What the dead had under way is under way no more; what they counted stays.
        assert await total(running, "requests_in_flight") == 0
        assert {await ask(running.port) for _ in range(CONNECTIONS)} == {200}
        assert not {one.pid for one in former} & {one.pid for one in workers(running)}
        await until(lambda: _is(running, "requests_total", CONNECTIONS, status="200"))


async def _is_ready(running: ProxyProcess) -> bool:
    return await ask(running.admin_port, target="/readyz") == 200


async def test_a_drain_ends_what_runs(start_upstream: Callable[..., Awaitable[Upstream]]) -> None:
    go_on = asyncio.Event()

    async def script(upstream: Upstream, wire: Wire) -> None:
        await upstream.request(wire)
        await go_on.wait()
        await wire.send(ANSWER)

    upstream = await start_upstream(script)
    async with crew(upstream, DRAIN__TIMEOUT_S="20") as running:
        asked = asyncio.create_task(ask(running.port))
        await until(lambda: bool(upstream.requests))
        running.process.send_signal(signal.SIGTERM)
        await event(running, "draining")
        assert await ask(running.admin_port, target="/readyz") == 503
        go_on.set()
        assert await asked == 200
        async with asyncio.timeout(WITHIN_S):
            assert await running.process.wait() == 0


async def test_a_second_signal_ends_all_at_once(start_upstream: Callable[..., Awaitable[Upstream]]) -> None:
    upstream = await start_upstream(hanging)
    with ending(1):
        async with crew(upstream, DRAIN__TIMEOUT_S="600") as running:
            asked = asyncio.create_task(ask(running.port))
            await until(lambda: bool(upstream.requests))
            children = workers(running)
            running.process.send_signal(signal.SIGTERM)
            await event(running, "draining")
            running.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(WITHIN_S):
                assert await running.process.wait() == 1
            await until(lambda: not [child for child in children if child.is_running()])
            with pytest.raises((EOFError, ConnectionError)):
                await asked


async def test_a_reload_reaches_all(start_upstream: Callable[..., Awaitable[Upstream]], tmp_path: Path) -> None:
    upstream, path = await start_upstream(ANSWER), tmp_path / "proxy.yaml"
    path.write_text("check: {mode: reject}\n")

    async def answers(running: ProxyProcess) -> set[int]:
        calls = (ask(running.port, "POST", "/api/machines/1/isolate", MISSPELT) for _ in range(CONNECTIONS))
        return {await call for call in calls}

    async with crew(upstream, "--config", str(path)) as running:
        assert await answers(running) == {400}

        path.write_text("check: {mode: observe}\n")
        running.process.send_signal(signal.SIGHUP)
        assert (await event(running, "reloaded"))["changed"] == ["check.mode"]
        assert await answers(running) == {200}

        path.write_text("check: {mode: sometimes}\n")
        running.process.send_signal(signal.SIGHUP)
        assert "check.mode = sometimes" in (await event(running, "reload_failed"))["problems"][0]
        assert await answers(running) == {200}
        for result in ("ok", "failed"):
            assert await total(running, "config_reloads_total", result=result) == 1


async def test_workers_do_not_outlive_their_leader(start_upstream: Callable[..., Awaitable[Upstream]]) -> None:
    upstream = await start_upstream(ANSWER)
    with ending(-signal.SIGKILL):
        async with crew(upstream) as running:
            children = workers(running)
            running.process.kill()
            await until(lambda: not [child for child in children if child.is_running()])


async def ended(*arguments: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxy", "run", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(WITHIN_S):
        _, said = await process.communicate()
    return process.returncode, said.decode()


@pytest.mark.parametrize("has_reuse", [False, True], ids=["anybody", "another-crew"])
async def test_a_port_that_is_taken_is_told_as_by_one_process(*, has_reuse: bool) -> None:
    with socket.socket() as taken:
        if has_reuse:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        told = [await ended("--listen", listen, "--admin", "127.0.0.1:0", "--workers", count) for count in ("1", "2")]
    assert told[0] == told[1]
    status, said = told[1]
    assert status == 2
    assert said.startswith(f"defender-sidecar: cannot listen on {listen} (address already in use)")


async def test_numbers_in_files_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    status, said = await ended("--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--workers", "2")
    assert status == 2
    assert said.startswith("defender-sidecar: PROMETHEUS_MULTIPROC_DIR: must not be set")


async def test_a_port_is_one_crews_alone_while_nobody_listens() -> None:
    """Two crews of one user may share a port, as workers do, unless the first one sees to it."""
    async with _reserved("127.0.0.1", 0) as addresses:
        ((family, address),) = addresses
        with _plug(family, address):
            with pytest.raises(ListenError, match="address already in use"):
                async with _reserved(*address):
                    pass
            with _plug(family, address) as another:
                assert another.getsockname() == address


async def test_workers_that_only_end_are_given_up() -> None:
    def load() -> Any:
        return load_configuration(None, {}, QUICK | {"workers": "2"})

    source, lines = Source(load), Lines()
    with pytest.raises(StartError, match=r"3 worker processes in a row ended before they served.*status 7"):
        await lead(source.read(), source, lines, (sys.executable, "-c", "raise SystemExit(7)"))
    assert {event["event"] for event in lines.events()} == {"worker_died"}


async def test_a_program_that_is_not_there_is_given_up(tmp_path: Path) -> None:
    source, lines = Source(lambda: load_configuration(None, {}, QUICK | {"workers": "2"})), Lines()
    with pytest.raises(StartError, match=r"3 worker processes in a row .* none could be started"):
        await lead(source.read(), source, lines, (str(tmp_path / "python"),))
    events = lines.events()
    assert {(event["event"], event["reason"]) for event in events} == {
        ("worker_not_started", "No such file or directory")
    }
