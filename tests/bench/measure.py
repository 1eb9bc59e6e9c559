"""One run: every proxy before the same upstream, in turns, round by round, so that a busy machine hits all alike.

The proxies share one core, of which only one has work at a time; client and upstream have the others.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil
import trustme

from tests.bench.load import Expected, closed, downloaded, opened
from tests.bench.proxies import StartError, on_cores, running, sidecar_launch
from tests.bench.workloads import MIB, POST, WORKLOADS
from tests.fidelity.peers import ROOT, UPSTREAM_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tests.bench.proxies import Proxy, Running
    from tests.bench.workloads import Workload

DIRECT: Final = "direct"
"""The upstream itself, asked without a proxy: what the client can do, and what latency is added to."""

CELLS: Final = tuple(workload.name for workload in WORKLOADS)
SECTIONS: Final = (*CELLS, "latency", "download", "start", "workers")
"""All that can be measured, by the name that `--only` takes."""

_AT_REST_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how often: seconds and requests count for each proxy, workload and round."""

    rounds: int = 7
    cell_s: float = 1.5
    warm_s: float = 0.2
    connections: int = 8
    requests: int | None = None
    """At the most so many requests a cell, where time is not to decide."""
    rate_per_s: float = 200.0
    latency_s: float = 5.0
    latency_connections: int = 16
    download_bytes: int = 1024 * MIB
    download_rounds: int = 3
    starts: int = 5


QUICK: Final = Plan(rounds=3, cell_s=0.4, latency_s=2.0, download_rounds=1, starts=2)


@dataclass(frozen=True, slots=True)
class Cell:
    """One proxy, one workload, one round; without CPU time for the upstream itself."""

    workload: str
    proxy: str
    round: int
    requests: int
    wall_s: float
    cpu_s: float | None
    rss_bytes: int = 0
    pss_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Latency:
    """Times from when a request was due until its answer, in microseconds, of one round."""

    proxy: str
    round: int
    count: int
    p50_us: float
    p99_us: float
    worst_us: float


@dataclass(frozen=True, slots=True)
class Download:
    """One large body; `growth_bytes` is by how much more the proxy held at the most than before."""

    proxy: str
    round: int
    size_bytes: int
    wall_s: float
    cpu_s: float | None
    growth_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Start:
    """From the start of the process until it is ready, and what it holds then."""

    proxy: str
    round: int
    ready_after_s: float
    rss_bytes: int
    pss_bytes: int


@dataclass(frozen=True, slots=True)
class Workers:
    """The sidecar with so many workers, all on the same cores as client and upstream; CPU time is that of all."""

    workers: int
    round: int
    requests: int
    wall_s: float
    cpu_s: float


@dataclass(slots=True)
class Results:
    """All raw figures of a run, and why some are absent."""

    cells: list[Cell] = field(default_factory=list)
    latencies: list[Latency] = field(default_factory=list)
    downloads: list[Download] = field(default_factory=list)
    starts: list[Start] = field(default_factory=list)
    workers: list[Workers] = field(default_factory=list)
    event_loops: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Cores:
    """Who runs where; on a machine with one core all share that."""

    proxies: frozenset[int]
    client: frozenset[int]
    upstream: frozenset[int]
    all: frozenset[int]

    @classmethod
    def of_this_machine(cls) -> Cores:
        """Return the last core for the proxies, the first for the client, and one between, if any, for the upstream."""
        numbers = sorted(os.sched_getaffinity(0))
        upstream = numbers[1] if len(numbers) > 2 else numbers[0]
        return cls(frozenset(numbers[-1:]), frozenset(numbers[:1]), frozenset({upstream}), frozenset(numbers))


@dataclass(frozen=True, slots=True)
class Upstream:
    """A running upstream."""

    port: int
    process: psutil.Process


@contextmanager
def upstream(cores: frozenset[int], certificate: Path | None = None) -> Iterator[Upstream]:
    """Run the upstream on `cores` for the length of the block, with TLS where there is a certificate."""
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        arguments = (str(listener.fileno()), *(() if certificate is None else (str(certificate),)))
        with (
            on_cores(cores),
            subprocess.Popen(
                (sys.executable, "-m", "tests.bench.upstream", *arguments), pass_fds=(listener.fileno(),), cwd=ROOT
            ) as process,
        ):
            try:
                yield Upstream(listener.getsockname()[1], psutil.Process(process.pid))
            finally:
                process.terminate()


def certificates(folder: Path) -> tuple[Path, Path]:
    """Return files with an authority's certificate, and with the upstream's and its key."""
    authority = trustme.CA()
    ca_file, certificate = folder / "ca.pem", folder / "upstream.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    authority.issue_cert(UPSTREAM_NAME).private_key_and_cert_chain_pem.write_to_path(str(certificate))
    return ca_file, certificate


def expected_of(workload: Workload, proxy: Proxy | None) -> Expected:
    """Return what a proxy has to answer; None is the upstream itself."""
    if proxy is not None and (own := workload.own_answers.get(proxy.kind)) is not None:
        return Expected(*own, is_whole=False)
    return Expected(workload.answer.status, workload.answer.body)


class Run:
    """Measures `proxies` as `plan` says; `say` is told what is going on."""

    def __init__(
        self, proxies: Sequence[Proxy], sections: Sequence[str], plan: Plan, say: Callable[[str], None]
    ) -> None:
        self.results: Final = Results()
        self._proxies = [proxy for proxy in proxies if proxy.program is not None]
        self.results.notes += [f"{one.title} is left out: {one.left_out}" for one in proxies if one.program is None]
        self._sections = sections
        self._plan = plan
        self._say = say
        self._cores = Cores.of_this_machine()
        if len(self._cores.all) == 1:
            self.results.notes.append("proxies, client and upstream share one core: only CPU times mean anything")

    def __call__(self) -> Results:
        """Measure everything."""
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            ca_file, certificate = certificates(folder)
            plain = stack.enter_context(upstream(self._cores.upstream))
            encrypted = stack.enter_context(upstream(self._cores.upstream, certificate))
            stack.enter_context(on_cores(self._cores.client))
            if "start" in self._sections:
                self._start_up(plain, folder)
            self._cells(plain, encrypted, folder, ca_file)
            if "workers" in self._sections and any(proxy.name == "sidecar" for proxy in self._proxies):
                self._workers(plain, folder)
        return self.results

    def _start_up(self, plain: Upstream, folder: Path) -> None:
        for number in range(self._plan.starts):
            for proxy in (one for one in self._in_turn(number) if _takes_part(one, "start")):
                self._say(f"start {number + 1}/{self._plan.starts}: {proxy.title}")
                with running(proxy, plain.port, folder, self._cores.proxies) as one:
                    time.sleep(_AT_REST_S)
                    self.results.starts.append(Start(proxy.name, number, one.ready_after_s, *one.memory()))

    def _in_turn(self, number: int) -> list[Proxy]:
        """Return the proxies in the order of a round: who goes first is not always the same."""
        first = number % len(self._proxies) if self._proxies else 0
        return self._proxies[first:] + self._proxies[:first]

    def _cells(self, plain: Upstream, encrypted: Upstream, folder: Path, ca_file: Path) -> None:
        workloads = [workload for workload in WORKLOADS if workload.name in self._sections]
        with ExitStack() as stack:
            lanes: dict[bool, dict[str, Running]] = {False: {}, True: {}}
            for proxy in self._proxies:
                one = stack.enter_context(running(proxy, plain.port, folder, self._cores.proxies))
                lanes[False][proxy.name] = one
                if proxy.program == sys.executable:
                    self.results.event_loops[proxy.name] = one.event_loop()
                if any(one.is_encrypted and _takes_part(proxy, one.name) for one in workloads):
                    lanes[True][proxy.name] = stack.enter_context(
                        running(proxy, encrypted.port, folder, self._cores.proxies, ca_file)
                    )
            for number in range(self._plan.rounds):
                self._round(workloads, lanes, plain, number)

    def _round(
        self, workloads: Sequence[Workload], lanes: Mapping[bool, Mapping[str, Running]], plain: Upstream, number: int
    ) -> None:
        where = f"round {number + 1}/{self._plan.rounds}"
        for workload in workloads:
            self._say(f"{where}: {workload.title}")
            if not workload.is_encrypted:
                self._cell(workload, None, plain.port, number)
            for one in self._taking_part(workload.name, lanes[workload.is_encrypted], number):
                self._cell(workload, one, one.port, number)
        if "latency" in self._sections:
            self._say(f"{where}: latency")
            self._latency(None, plain.port, number)
            for one in self._taking_part("latency", lanes[False], number):
                self._latency(one, one.port, number)
        if "download" in self._sections and number < self._plan.download_rounds:
            self._say(f"{where}: download")
            self._download(None, plain.port, number)
            for one in self._taking_part("download", lanes[False], number):
                self._download(one, one.port, number)

    def _taking_part(self, section: str, lane: Mapping[str, Running], number: int) -> list[Running]:
        return [lane[proxy.name] for proxy in self._in_turn(number) if _takes_part(proxy, section)]

    def _cell(self, workload: Workload, one: Running | None, port: int, number: int) -> None:
        expected = expected_of(workload, one.proxy if one is not None else None)
        plan, request = self._plan, workload.request()
        closed(port, request, expected, connections=plan.connections, stop_after_s=plan.warm_s, requests=plan.requests)
        before = one.cpu_s() if one is not None else 0.0
        came = closed(
            port, request, expected, connections=plan.connections, stop_after_s=plan.cell_s, requests=plan.requests
        )
        name, cpu_s, memory = DIRECT, None, (0, 0)
        if one is not None:
            name, cpu_s, memory = one.proxy.name, one.cpu_s() - before, one.memory()
        self.results.cells.append(Cell(workload.name, name, number, came.requests, came.wall_s, cpu_s, *memory))

    def _latency(self, one: Running | None, port: int, number: int) -> None:
        plan = self._plan
        took_s = opened(
            port,
            POST.request(),
            expected_of(POST, one.proxy if one is not None else None),
            connections=plan.latency_connections,
            rate_per_s=plan.rate_per_s,
            count=plan.requests or int(plan.rate_per_s * plan.latency_s),
        )
        steps = statistics.quantiles(took_s, n=100, method="inclusive")
        name = DIRECT if one is None else one.proxy.name
        figures = (1e6 * steps[49], 1e6 * steps[98], 1e6 * max(took_s))
        self.results.latencies.append(Latency(name, number, len(took_s), *figures))

    def _download(self, one: Running | None, port: int, number: int) -> None:
        size = self._plan.download_bytes
        if one is None:
            self.results.downloads.append(Download(DIRECT, number, size, downloaded(port, size, lambda: None), None))
            return
        held = one.memory().rss_bytes
        seen = [held]
        before = one.cpu_s()
        wall_s = downloaded(port, size, lambda: seen.append(one.memory().rss_bytes))
        cpu_s = one.cpu_s() - before
        self.results.downloads.append(Download(one.proxy.name, number, size, wall_s, cpu_s, max(seen) - held))

    def _workers(self, plain: Upstream, folder: Path) -> None:
        (sidecar,) = (proxy for proxy in self._proxies if proxy.name == "sidecar")
        with ExitStack() as stack:
            stack.enter_context(on_cores(self._cores.all))
            plain.process.cpu_affinity(sorted(self._cores.all))
            stack.callback(plain.process.cpu_affinity, sorted(self._cores.upstream))
            by_count: dict[int, Running] = {}
            for count in (1, 2):
                proxy = replace(sidecar, launch=sidecar_launch(workers=count))
                try:
                    by_count[count] = stack.enter_context(running(proxy, plain.port, folder, self._cores.all))
                except StartError as error:
                    self.results.notes.append(f"two workers are not measured: {str(error).splitlines()[0]}")
                    return
            for number in range(self._plan.rounds):
                for count, one in by_count.items():
                    self._say(f"round {number + 1}/{self._plan.rounds}: workers, {count}")
                    self.results.workers.append(self._with_workers(count, one, plain, number))

    def _with_workers(self, count: int, one: Running, plain: Upstream, number: int) -> Workers:
        plan, request, expected = self._plan, POST.request(), expected_of(POST, one.proxy)

        def used_s() -> float:
            times = plain.process.cpu_times()
            return one.cpu_s() + time.process_time() + times.user + times.system

        connections = 2 * plan.connections
        closed(one.port, request, expected, connections=connections, stop_after_s=plan.warm_s, requests=plan.requests)
        before = used_s()
        came = closed(
            one.port, request, expected, connections=connections, stop_after_s=plan.cell_s, requests=plan.requests
        )
        return Workers(count, number, came.requests, came.wall_s, used_s() - before)


def _takes_part(proxy: Proxy, section: str) -> bool:
    return section not in proxy.never and (not proxy.only or section in proxy.only)
