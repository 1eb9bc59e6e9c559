"""The proxies that are measured: how each is set up, started on its cores, and what it has used so far.

nginx and Envoy are those of tests/fidelity, set up to do what the sidecar does but the check. Prism is the other that
checks bodies; it gets the very document that the sidecar ships, and is installed below .cache by npm.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, NamedTuple

import aiohttp
import psutil

from tests.bench.load import is_answered
from tests.bench.workloads import GET
from tests.fidelity.peers import PEERS, ROOT, UPSTREAM_NAME, Lane, environment, free_ports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_PRISM: Final = ROOT / ".cache" / "prism"
_PRISM_PINS: Final = Path(__file__).parent / "prism"
_DOCUMENT: Final = ROOT / "config" / "catalog" / "defender-endpoint.yaml"

_START_WITHIN_S: Final = 60.0
_STOP_WITHIN_S: Final = 15.0
_POLL_S: Final = 0.002


class StartError(Exception):
    """A proxy did not start; the text has what it said."""


class Launch(NamedTuple):
    """A command to start, and where it says that it is ready."""

    command: tuple[str, ...]
    ready_port: int
    ready_path: str


@dataclass(frozen=True, slots=True)
class Proxy:
    """One that is measured: `program` is None where it cannot be, for the reason in `left_out`."""

    name: str
    title: str
    program: str | None
    launch: Callable[[str, Lane, Path], Launch]
    version: str
    kind: str = "forwards"
    """Whose own answers it gives: see `Workload.own_answers`."""
    environment: Mapping[str, str] = field(default_factory=dict)
    only: frozenset[str] = frozenset()
    """The workloads that it takes part in; empty for all."""
    never: frozenset[str] = frozenset()
    """The workloads that it cannot take part in."""
    left_out: str = ""


def _url(lane: Lane) -> str:
    host = "127.0.0.1" if lane.ca_file is None else UPSTREAM_NAME
    return f"{'http' if lane.ca_file is None else 'https'}://{host}:{lane.upstream_port}"


# The sidecar.


def sidecar_launch(
    *, operations: Mapping[str, str] | None = None, workers: int = 1, arguments: tuple[str, ...] = ("-m", "proxy")
) -> Callable[[str, Lane, Path], Launch]:
    """Return how the sidecar starts, with its defaults but for these."""

    def launch(program: str, lane: Lane, folder: Path) -> Launch:
        (admin,) = free_ports(1)
        settings = {
            "listen": f"127.0.0.1:{lane.port}",
            "admin": f"127.0.0.1:{admin}",
            "upstream": {"url": _url(lane), "ca_file": None if lane.ca_file is None else str(lane.ca_file)},
            "check": {"operations": dict(operations or {})},
            "drain": {"delay_s": 0, "timeout_s": 5},
        }
        file = folder / f"sidecar-{lane.port}.yaml"
        file.write_text(json.dumps(settings), encoding="utf-8")
        more = ("--workers", str(workers)) if workers != 1 else ()
        return Launch((program, *arguments, "run", "--config", str(file), *more), admin, "/readyz")

    return launch


# The plain aiohttp proxy.


def _plain(program: str, lane: Lane, _folder: Path) -> Launch:
    verified_by = () if lane.ca_file is None else (str(lane.ca_file),)
    return Launch((program, "-m", "tests.bench.plain", _url(lane), str(lane.port), *verified_by), lane.port, _asked())


def _asked() -> str:
    return GET.line.removeprefix("GET ")


# nginx and Envoy.


def _fidelity(name: str, title: str) -> Proxy:
    peer = next(peer for peer in PEERS if peer.name == name)

    def launch(program: str, lane: Lane, folder: Path) -> Launch:
        own = folder / f"{name}-{lane.port}"
        own.mkdir()
        (command,) = peer.configure(program, [lane], own)
        return Launch(command, lane.port, _asked())

    return Proxy(
        name,
        title,
        peer.program,
        launch,
        peer.version() if peer.program is not None else "",
        environment=peer.environment,
        left_out="not installed",
    )


# Prism.


def _prism(program: str, lane: Lane, _folder: Path) -> Launch:
    options = ("--errors", "--verboseLevel", "fatal", "--host", "127.0.0.1", "--port", str(lane.port))
    # `npm ci` puts this into place; running it by node itself leaves no shell between.
    script = _PRISM / "node_modules" / "@stoplight" / "prism-cli" / "dist" / "index.js"
    return Launch((program, str(script), "proxy", str(_DOCUMENT), _url(lane), *options), lane.port, _asked())


def _with_prism() -> Proxy:
    """Return Prism, installed if need be by npm from the versions in tests/bench/prism."""
    version = json.loads((_PRISM_PINS / "package.json").read_text("utf-8"))["dependencies"]["@stoplight/prism-cli"]
    node, npm = shutil.which("node"), shutil.which("npm")
    left_out = "" if node and npm else "node and npm are not both on PATH"
    if npm and not left_out:
        left_out = _install_prism(npm)
    return Proxy(
        "prism",
        "Prism",
        None if left_out else node,
        _prism,
        version,
        kind="prism",
        never=frozenset({"download"}),
        left_out=left_out,
    )


def _install_prism(npm: str) -> str:
    """Install Prism where it is not yet, and return why that cannot be; empty where it is there."""
    pins = _PRISM_PINS / "package-lock.json"
    done = _PRISM / "node_modules" / "installed-from.json"
    if done.is_file() and done.read_bytes() == pins.read_bytes():
        return ""
    _PRISM.mkdir(parents=True, exist_ok=True)
    for file in _PRISM_PINS.iterdir():
        shutil.copy(file, _PRISM)
    try:
        subprocess.run(
            (npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel", "error"),
            cwd=_PRISM,
            capture_output=True,
            text=True,
            check=True,
            timeout=600,
        )
    except subprocess.CalledProcessError as error:
        return f"npm cannot install it: {error.stderr.strip()[:300]}"
    except subprocess.TimeoutExpired:
        return "npm did not install it within ten minutes"
    shutil.copy(pins, done)
    return ""


def contestants(names: frozenset[str] | None = None) -> list[Proxy]:
    """Return the proxies of those `names`, all of them if None, whether they can be measured or not."""
    version = subprocess.run(
        (sys.executable, "-m", "proxy", "--version"), capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.split()[-1]
    build: dict[str, Callable[[], Proxy]] = {
        "sidecar": lambda: Proxy("sidecar", "sidecar", sys.executable, sidecar_launch(), version, "sidecar"),
        "sidecar-off": lambda: Proxy(
            "sidecar-off",
            "sidecar, check off",
            sys.executable,
            sidecar_launch(operations={"isolateMachine": "off"}),
            version,
            only=frozenset({"post"}),
        ),
        "plain": lambda: Proxy(
            "plain", "plain aiohttp proxy", sys.executable, _plain, f"aiohttp {aiohttp.__version__}"
        ),
        "nginx": lambda: _fidelity("nginx", "nginx"),
        "envoy": lambda: _fidelity("envoy", "Envoy"),
        "prism": _with_prism,
    }
    return [make() for name, make in build.items() if names is None or name in names]


NAMES: Final = ("sidecar", "sidecar-off", "plain", "nginx", "envoy", "prism")


# Processes.


class Memory(NamedTuple):
    """What the processes of a proxy hold, in bytes; `pss_bytes` shares what several hold among them."""

    rss_bytes: int
    pss_bytes: int


@dataclass(frozen=True, slots=True)
class Running:
    """A proxy that answers at `port`; `ready_after_s` is how long that took from its start."""

    proxy: Proxy
    port: int
    process: psutil.Process
    ready_after_s: float

    def processes(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]

    def cpu_s(self) -> float:
        """Return the CPU time of all its processes and their threads so far.

        The clock of another process has its number in its own (clock_getcpuclockid(3)); /proc counts in steps of 10 ms.
        """
        return sum(time.clock_gettime((~one.pid << 3) | 2) for one in self.processes())

    def memory(self) -> Memory:
        facts = [one.memory_full_info() for one in self.processes()]
        return Memory(sum(one.rss for one in facts), sum(one.pss for one in facts))

    def event_loop(self) -> str:
        """Return what runs its coroutines, for one that is written in Python."""
        maps = Path(f"/proc/{self.process.pid}/maps").read_text("utf-8")
        return "uvloop" if "uvloop" in maps else "asyncio"


@contextmanager
def on_cores(cores: frozenset[int]) -> Iterator[None]:
    """Run the block, and the processes that it starts, on `cores` alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def running(
    proxy: Proxy, upstream_port: int, folder: Path, cores: frozenset[int], ca_file: Path | None = None
) -> Iterator[Running]:
    """Run `proxy` on `cores` for the length of the block.

    Raises:
        StartError: it cannot be measured, ends at once, or is not ready in time.
    """
    if proxy.program is None:
        raise StartError(f"{proxy.title}: {proxy.left_out}")
    (port,) = free_ports(1)
    launch = proxy.launch(proxy.program, Lane(port, upstream_port, ca_file), folder)
    trust = {"NODE_EXTRA_CA_CERTS": str(ca_file)} if ca_file is not None else {}
    log = folder / f"{proxy.name}-{port}.log"
    with log.open("wb") as output:
        with on_cores(cores):
            began = time.perf_counter()
            process = _popen(launch.command, environment() | dict(proxy.environment) | trust, output)
        try:
            while not is_answered(launch.ready_port, launch.ready_path, _START_WITHIN_S):
                if process.poll() is not None or time.perf_counter() - began > _START_WITHIN_S:
                    said = log.read_text(encoding="utf-8", errors="replace")
                    raise StartError(f"{proxy.title} does not start (status {process.poll()}): {said[-1500:]}")
                time.sleep(_POLL_S)
            yield Running(proxy, port, psutil.Process(process.pid), time.perf_counter() - began)
        finally:
            _stop(process)


def _popen(command: tuple[str, ...], variables: Mapping[str, str], output: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=ROOT, env=dict(variables)
    )


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def machine() -> dict[str, str | int]:
    """Return what was measured on."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
