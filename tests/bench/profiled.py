"""Where the time of a request goes within the sidecar, and what it costs on any machine, however busy.

`profile` is cProfile's: what it says is of shares, since it slows calls down. `instructions` counts those of the
processor, by Valgrind's callgrind: they hardly change from one run to the next, so that a regression of a hundredth
shows where times would not tell it.
"""

from __future__ import annotations

import io
import pstats
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.bench.load import closed
from tests.bench.measure import Cores, certificates, expected_of, upstream
from tests.bench.proxies import StartError, contestants, on_cores, running, sidecar_launch
from tests.bench.workloads import WORKLOADS
from tests.fidelity.peers import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.bench.load import Closed
    from tests.bench.measure import Plan
    from tests.bench.proxies import Running
    from tests.bench.workloads import Workload

_FUNCTIONS: Final = 40
_TIMES_A_CELL: Final = 4
_WARMED: Final = 200
_COUNTED: Final = 1_000
_WARM_WITHIN_S: Final = 60.0
_COUNT_WITHIN_S: Final = 300.0
"""Valgrind makes a program fifty times as slow."""


@contextmanager
def _sidecar(
    name: str, arguments: tuple[str, ...], plan: Plan, folder: Path, program: str = sys.executable
) -> Iterator[tuple[Running, Callable[[float, int | None], Closed]]]:
    """Run the sidecar before an upstream of its own, started as `arguments` say; yield it, and what asks it."""
    workload = _workload(name)
    cores = Cores.of_this_machine()
    (sidecar,) = contestants(frozenset({"sidecar"}))
    certificate = ca_file = None
    if workload.is_encrypted:
        ca_file, certificate = certificates(folder)
    proxy = replace(sidecar, program=program, launch=sidecar_launch(arguments=arguments))
    with (
        upstream(cores.upstream, certificate) as behind,
        running(proxy, behind.port, folder, cores.proxies, ca_file) as one,
        on_cores(cores.client),
    ):
        yield (
            one,
            lambda stop_after_s, requests: closed(
                one.port,
                workload.request(),
                expected_of(workload, one.proxy),
                connections=plan.connections,
                stop_after_s=stop_after_s,
                requests=requests,
            ),
        )


def _workload(name: str) -> Workload:
    return next(workload for workload in WORKLOADS if workload.name == name)


def profile(name: str, plan: Plan) -> str:
    """Return the functions of the sidecar that take the most time in `name`, themselves and with what they call."""
    with tempfile.TemporaryDirectory() as place:
        figures = Path(place) / "profile"
        arguments = ("-m", "tests.bench.profiled_proxy", str(figures))
        with _sidecar(name, arguments, plan, Path(place)) as (one, ask):
            ask(plan.warm_s, plan.requests)
            one.process.send_signal(signal.SIGUSR1)
            came = ask(plan.cell_s * _TIMES_A_CELL, plan.requests)
        text = io.StringIO()
        stats = pstats.Stats(str(figures), stream=text)
        stats.sort_stats("tottime").print_stats(_FUNCTIONS)
        stats.sort_stats("cumtime").print_stats(_FUNCTIONS)
    lines = re.sub(r"\S*/(site-packages|lib/python3\.\d+)/", "", text.getvalue().replace(f"{ROOT}/", ""))
    return f"{came.requests:,} requests: {_workload(name).title}\n{lines}"


def instructions(name: str, plan: Plan) -> str:
    """Return how many instructions the sidecar's process executes for one request of `name`, those of the kernel apart.

    Raises:
        StartError: Valgrind is not installed, or does not run the sidecar.
    """
    valgrind, control = shutil.which("valgrind"), shutil.which("callgrind_control")
    if valgrind is None or control is None:
        raise StartError("valgrind is not on PATH: it counts instructions")
    requests = plan.requests or _COUNTED
    with tempfile.TemporaryDirectory() as place:
        figures = Path(place) / "callgrind"
        options = ("--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={figures}", "--quiet")
        # The launch puts the interpreter first: here it is an argument of Valgrind's.
        arguments = (*options, sys.executable, "-m", "proxy")
        with _sidecar(name, arguments, plan, Path(place), valgrind) as (one, ask):
            ask(_WARM_WITHIN_S, _WARMED)
            _instrument(control, one, "on")
            came = ask(_COUNT_WITHIN_S, requests)
            _instrument(control, one, "off")
        total = re.search(r"^totals: (\d+)", figures.read_text("utf-8"), re.MULTILINE)
        if total is None:
            raise StartError("callgrind counted nothing")
    each = int(total[1]) / came.requests
    return f"{each:,.0f} instructions a request: {_workload(name).title}, {came.requests:,} of them\n"


def _instrument(control: str, one: Running, how: str) -> None:
    """Switch counting on or off; a failure of that is told in words alone, not by an exit status."""
    done = subprocess.run(
        (control, "-i", how, str(one.process.pid)), check=True, capture_output=True, text=True, timeout=60
    )
    if "OK" not in done.stdout:
        raise StartError(f"callgrind cannot be switched {how}: {done.stdout}{done.stderr}")
