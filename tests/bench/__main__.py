"""What the sidecar costs, beside its peers in the same run: `python -m tests.bench`.

The sidecar (with its check, and without), a plain aiohttp proxy, nginx, Envoy and Stoplight Prism are asked in turns,
round by round, by the same client for the same answers of the same upstream; those that are not installed are left
out. Printed are CPU time per request, requests per second, the latency that each adds at a fixed rate, memory,
start-up time, the rate of a large download, the ratios between them, and which targets are met. Linux alone.

`python -m tests.bench profile WORKLOAD` runs the sidecar under cProfile instead and prints where its time goes.
`python -m tests.bench instructions WORKLOAD` counts the instructions of one request by Valgrind, which tells more than
a time on a machine that is busy.

Exit status 1 where an answer is wrong or a proxy does not start: then no figure means anything, and none is printed.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

from tests.bench.load import WrongAnswerError
from tests.bench.measure import CELLS, QUICK, SECTIONS, Plan, Run
from tests.bench.profiled import instructions, profile
from tests.bench.proxies import NAMES, StartError, contestants, machine
from tests.bench.report import Report

_EXAMINE: Final = {"profile": profile, "instructions": instructions}


def _names(known: tuple[str, ...]) -> type[frozenset[str]]:
    """Return what reads names of `known` from an argument, with commas between."""

    def read(text: str) -> frozenset[str]:
        names = frozenset(text.split(","))
        if unknown := names - set(known):
            raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: known are {', '.join(known)}")
        return names

    return read  # type: ignore[return-value]


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", nargs="?", choices=["run", "profile", "instructions"], default="run")
    parser.add_argument("workload", nargs="?", choices=CELLS, default="post", help="of these two (default: post)")
    parser.add_argument("--quick", action="store_true", help="few and short rounds")
    parser.add_argument("--only", metavar="WORKLOAD", type=_names(SECTIONS), help=f"of {', '.join(SECTIONS)}")
    parser.add_argument("--peers", metavar="A,B", type=_names(NAMES), help=f"of {', '.join(NAMES)}")
    parser.add_argument("--rounds", type=int, help=f"how many (default: {Plan().rounds})")
    parser.add_argument("--requests", type=int, help="at the most so many requests a round, proxy and workload")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write every raw figure there")
    parser.add_argument("--svg", metavar="FILE", type=Path, help="write the CPU time of a checked POST there, as bars")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for."""
    options = _options(arguments)
    if not sys.platform.startswith("linux"):
        sys.stderr.write("it needs Linux: epoll, /proc and CPU affinity\n")
        return 1
    plan = QUICK if options.quick else Plan()
    plan = replace(plan, rounds=options.rounds or plan.rounds, requests=options.requests)
    try:
        if (examine := _EXAMINE.get(options.command)) is not None:
            sys.stdout.write(examine(options.workload, plan))
            return 0
        proxies = contestants(options.peers)
        sections = [name for name in SECTIONS if options.only is None or name in options.only]
        results = Run(proxies, sections, plan, _say)()
    except (WrongAnswerError, StartError) as error:
        sys.stderr.write(f"\nno figures: {error}\n")
        return 1
    report = Report(results, proxies, plan, machine())
    sys.stdout.write(report.text() + "\n")
    if options.json is not None:
        options.json.write_text(report.document(), encoding="utf-8")
    if options.svg is not None and (picture := report.picture()) is not None:
        options.svg.write_text(picture, encoding="utf-8")
    return 0


def _say(text: str) -> None:
    """Tell somebody who waits what is going on, on one line of a terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{text}")
        sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
