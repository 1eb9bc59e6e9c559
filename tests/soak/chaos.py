"""A bounded run of the proxy between clients and an upstream that both misbehave, and what it comes to."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from proxy.simulator import Simulator
from tests.soak.clients import Client, View
from tests.soak.compare import Run, disagreements
from tests.soak.plans import CHECKED_AT_MOST_BYTES, MODES, Request, requests
from tests.soak.process import ProxyProcess, proxy_process
from tests.soak.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

EXCHANGES: Final = {"request", "upstream_error", "case_mismatch", "proxy_error"}

_SETTLED_WITHIN_S: Final = 60.0
_WARM_UP: Final = 200

SETTINGS: Final = {
    "LOG__REQUESTS": "true",
    "CHECK__MODE": "reject",
    "CHECK__OPERATIONS": json.dumps(MODES),
    "CHECK__MAX_BODY_BYTES": str(CHECKED_AT_MOST_BYTES),
    "UPSTREAM__CONNECT_TIMEOUT_S": "10",
    "UPSTREAM__RESPONSE_TIMEOUT_S": "3",
    "UPSTREAM__IDLE_TIMEOUT_S": "3",
    "UPSTREAM__KEEPALIVE_TIMEOUT_S": "1",
    "DOWNSTREAM__BODY_TIMEOUT_S": "2",
    "DOWNSTREAM__MAX_IN_FLIGHT": "100000",
}


@dataclass(slots=True)
class Report:
    """What came of a run: how much there was, what each deed led to, and every disagreement.

    `crossed` requests met with stray bytes that were sent at the same moment.

    File descriptors are those of the proxy's process, without any connection but the one that asks.
    """

    seed: int
    requests: int = 0
    arrivals: int = 0
    crossed: int = 0
    duration_s: float = 0.0
    problems: list[str] = field(default_factory=list)
    failures: dict[str, int] = field(default_factory=dict)
    run: Run | None = None
    descriptors: tuple[int, int] = (0, 0)
    memory_bytes: tuple[int, int] = (0, 0)


@asynccontextmanager
async def upstream_for(planned: Mapping[int, Request]) -> AsyncIterator[Upstream]:
    """Yield an upstream for the requests that are `planned`, with a simulator behind it."""
    async with Simulator.listening() as simulator:
        upstream = Upstream(planned, int(simulator.url.rpartition(":")[2]))
        async with upstream.listening():
            forgetting = asyncio.create_task(_forget(simulator))
            try:
                yield upstream
            finally:
                await _cancelled(forgetting)


async def drive(
    port: int, planned: dict[int, Request], drawn: Iterator[Request], *, clients: int, seconds: float | None = None
) -> dict[int, View]:
    """Have `clients` send what is `drawn` to the proxy at `port`; return what they saw, by sequence number."""

    def noted() -> Iterator[Request]:
        for request in drawn:
            planned[request.sequence] = request
            yield request

    views: dict[int, View] = {}
    shared = noted()
    deadline = None if seconds is None else asyncio.get_running_loop().time() + seconds
    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(Client(port, shared, views).run(deadline))
    return views


async def chaos(seed: int, count: int | None, seconds: float | None = None, *, clients: int = 32) -> Report:
    """Return what came of `count` requests, or of as many as go into `seconds`, from `seed`."""
    loop = asyncio.get_running_loop()
    report = Report(seed)
    planned: dict[int, Request] = {}
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(upstream_for(planned))
        proxy = await stack.enter_async_context(proxy_process(f"http://127.0.0.1:{upstream.port}", SETTINGS))
        # What is opened once and kept, threads for one, is opened before anything is measured.
        await drive(proxy.port, planned, requests(seed + 1, _WARM_UP), clients=clients)
        await settled(proxy)
        first = len(proxy.lines)
        planned.clear()
        upstream.arrivals.clear()
        before = await proxy.samples()
        descriptors, memory_bytes = proxy.facts.num_fds(), proxy.facts.memory_info().rss
        refusing = asyncio.create_task(upstream.refuse_now_and_then())
        began = loop.time()
        try:
            views = await drive(proxy.port, planned, requests(seed, count), clients=clients, seconds=seconds)
        finally:
            report.duration_s = loop.time() - began
            await _cancelled(refusing)
        await settled(proxy)
        after = await proxy.samples()
        report.descriptors = descriptors, await _least_descriptors(proxy, descriptors)
        report.memory_bytes = memory_bytes, proxy.facts.memory_info().rss
        lines = [line for line in proxy.lines[first:] if line["event"] in EXCHANGES]
        report.problems += [f"the log has {line}" for line in proxy.lines if line["event"] == "library_message"]
        report.problems += [f"the upstream itself failed: {fault!r}" for fault in upstream.faults]
    report.run = run = Run(views, upstream.arrivals, lines, before, after, upstream.strays, upstream.refusing)
    report.problems += disagreements(run)
    report.problems += _secrets(lines)
    if report.descriptors[1] > report.descriptors[0]:
        report.problems.append("file descriptors: {} before, {} after".format(*report.descriptors))
    report.requests = len(views)
    report.arrivals = sum(map(len, upstream.arrivals.values()))
    report.crossed = sum(one.deed == "crossed" for ones in upstream.arrivals.values() for one in ones)
    for line in lines:
        name = line.get("failure", "none")
        report.failures[name] = report.failures.get(name, 0) + 1
    return report


async def settled(proxy: ProxyProcess) -> None:
    """Wait until no exchange is under way, no connection to the upstream is left, and the log says no more."""
    count, idle = -1, 0
    async with asyncio.timeout(_SETTLED_WITHIN_S):
        while idle < 3:
            await asyncio.sleep(0.2)
            samples = await proxy.samples()
            busy = [value for (name, _), value in samples.items() if name in _MUST_END]
            idle = 0 if any(busy) or len(proxy.lines) != count else idle + 1
            count = len(proxy.lines)


_MUST_END: Final = {"requests_in_flight", "upstream_connections"}


async def _least_descriptors(proxy: ProxyProcess, wanted: int) -> int:
    """Return the number of open descriptors, as soon as it is no more than `wanted`, or after a while."""
    with suppress(TimeoutError):
        async with asyncio.timeout(10):
            while proxy.facts.num_fds() > wanted:  # noqa: ASYNC110 - it is another process that is waited for
                await asyncio.sleep(0.1)
    return proxy.facts.num_fds()


def _secrets(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the lines that hold what no line may: the token that every client sends."""
    return [f"a line holds a token: {line}" for line in lines if "soaked-in-secrets" in json.dumps(line)]


async def _forget(simulator: Simulator) -> None:
    """Keep the simulator from remembering everything it was ever asked."""
    while True:
        await asyncio.sleep(1)
        simulator.received.clear()


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
