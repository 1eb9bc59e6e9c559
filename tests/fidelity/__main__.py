"""Print the table of cases for all proxies that are installed: `python -m tests.fidelity [--json FILE] [PROXY ...]`."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.fidelity.cases import CASES, GROUPS
from tests.fidelity.peers import PEERS
from tests.fidelity.runner import carried_out

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.fidelity.peers import Peer
    from tests.fidelity.runner import Verdict


async def _results(peers: Sequence[Peer], folder: Path) -> dict[str, tuple[Verdict, ...]]:
    verdicts = await asyncio.gather(*(carried_out(peer, folder) for peer in peers))
    return dict(zip((peer.name for peer in peers), verdicts, strict=True))


def _table(results: Mapping[str, Sequence[Verdict]], versions: Mapping[str, str]) -> str:
    """Return the table as Markdown: a row for each case, the totals, and each failure with what came instead."""
    names = list(results)
    passed = {name: {verdict.case.name for verdict in results[name] if verdict.is_passed} for name in names}
    lines = [
        f"| case | section | {' | '.join(f'{name} {versions[name]}' for name in names)} |",
        f"| --- | --- |{' --- |' * len(names)}",
    ]
    for group, cases in GROUPS.items():
        totals = (sum(case.name in passed[name] for case in cases) for name in names)
        lines.append(f"| **{group}** | | {' | '.join(f'**{total}/{len(cases)}**' for total in totals)} |")
        for case in cases:
            marks = ("pass" if case.name in passed[name] else "FAIL" for name in names)
            lines.append(f"| {case.name.replace('|', '&#124;')} | {case.section} | {' | '.join(marks)} |")
    totals = (len(passed[name]) for name in names)
    lines.append(f"| **all** | | {' | '.join(f'**{total}/{len(CASES)}**' for total in totals)} |")
    for name in names:
        failed = [verdict for verdict in results[name] if not verdict.is_passed]
        lines += ["", f"{name} fails {len(failed)}:" if failed else f"{name} fails none."]
        lines += [f"- {verdict}" for verdict in failed]
    return "\n".join(lines)


def _document(results: Mapping[str, Sequence[Verdict]], versions: Mapping[str, str]) -> str:
    groups = {case.name: group for group, cases in GROUPS.items() for case in cases}
    proxies = {
        name: {
            "version": versions[name],
            "passed": sum(verdict.is_passed for verdict in verdicts),
            "failures": {
                verdict.case.name: [{"expected": expected, "came": came} for expected, came in verdict.failures]
                for verdict in verdicts
                if not verdict.is_passed
            },
        }
        for name, verdicts in results.items()
    }
    cases = [{"name": case.name, "section": case.section, "group": groups[case.name]} for case in CASES]
    return json.dumps({"cases": cases, "proxies": proxies}, indent=2)


def main() -> int:
    installed = [peer for peer in PEERS if peer.program is not None]
    parser = argparse.ArgumentParser(
        prog="python -m tests.fidelity",
        description="Run every case against the sidecar and its peers, and print what came of it as Markdown.",
    )
    parser.add_argument("proxies", metavar="PROXY", nargs="*", help=f"one of {', '.join(p.name for p in installed)}")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the results there as well")
    options = parser.parse_args()
    if unknown := set(options.proxies) - {peer.name for peer in installed}:
        parser.error(f"not installed, or no proxy of this table: {', '.join(sorted(unknown))}")
    peers = [peer for peer in installed if not options.proxies or peer.name in options.proxies]
    versions = {peer.name: peer.version() for peer in peers}
    with tempfile.TemporaryDirectory() as folder:
        results = asyncio.run(_results(peers, Path(folder)))
    sys.stdout.write(_table(results, versions) + "\n")
    if options.json is not None:
        options.json.write_text(_document(results, versions) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
