"""What is too long for the test suite: `python -m tests.soak [chaos|streams|hostile]`, `chaos` if none is named.

chaos: clients and an upstream that misbehave at random; their accounts, the log and the metrics have to agree.
streams: a body of 1 GiB in either direction. hostile: for how long bodies that mean harm hold up the event loop.
Exit status 1 where anything came out otherwise than it has to; what it was is listed.
"""

# ruff: noqa: T201 - printing is what it is for

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
from typing import Final

from tests.soak import streams
from tests.soak.chaos import chaos
from tests.soak.hostile import lateness
from tests.soak.process import proxy_process

_LISTED_AT_MOST: Final = 50
_LATE_AT_MOST_MS: Final = 50
_MIB: Final = 2**20
_STREAM_BYTES: Final = 1024 * _MIB
_GROWTH_AT_MOST_BYTES: Final = 16 * _MIB


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("command", nargs="?", choices=["chaos", "streams", "hostile"], default="chaos")
    parser.add_argument("--requests", type=int, help="how many (default: 2000, or as many as go into --seconds)")
    parser.add_argument("--seconds", type=float, help="how long at the most")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="repeat a run (default: any)")
    parser.add_argument("--clients", type=int, default=32, help="how many at once (default: 32)")
    options = parser.parse_args()
    match options.command:
        case "streams":
            return asyncio.run(_streams())
        case "hostile":
            return asyncio.run(_hostile())
    count = options.requests if options.requests or options.seconds else 2000
    return asyncio.run(_chaos(options.seed, count, options.seconds, options.clients))


async def _chaos(seed: int, count: int | None, seconds: float | None, clients: int) -> int:
    print(f"seed {seed}", flush=True)
    report = await chaos(seed, count, seconds, clients=clients)
    print(f"{report.requests} requests in {report.duration_s:.1f} s, {report.arrivals} arrivals at the upstream")
    print("failures: " + ", ".join(f"{name} {times}" for name, times in sorted(report.failures.items())))
    print(f"crossed by stray bytes: {report.crossed}")
    print("file descriptors: {} before, {} after".format(*report.descriptors))
    print("memory: {:.1f} MiB before, {:.1f} MiB after".format(*(held / _MIB for held in report.memory_bytes)))
    for problem in report.problems[:_LISTED_AT_MOST]:
        print(f"- {problem}")
    print(f"{len(report.problems)} disagreements")
    return 1 if report.problems else 0


async def _streams() -> int:
    figures: dict[str, streams.Figures] = {}
    with streams.Peer(streams.downloading(_STREAM_BYTES)).listening() as peer:
        async with proxy_process(f"http://127.0.0.1:{peer.port}", {}) as proxy:
            figures["down"] = await asyncio.to_thread(streams.down, proxy, _STREAM_BYTES)
    with streams.Peer(streams.uploading(_STREAM_BYTES)).listening() as peer:
        async with proxy_process(f"http://127.0.0.1:{peer.port}", {}) as proxy:
            figures["up"] = await asyncio.to_thread(streams.up, proxy, peer, _STREAM_BYTES)
    is_right = True
    for way, one in figures.items():
        rate = one.size_bytes / one.duration_s / _MIB
        print(f"{way}: {rate:.0f} MiB/s, the peak of memory grew by {one.growth_bytes / _MIB:.1f} MiB")
        is_right &= one.received_bytes == one.size_bytes and one.growth_bytes < _GROWTH_AT_MOST_BYTES
    return 0 if is_right else 1


async def _hostile() -> int:
    is_right = True
    for mode in ("reject", "fix", "observe"):
        print(f"{mode:<44}{'late':>10}{'answered':>12}", flush=True)
        for found in sorted(await lateness(mode), key=lambda one: -one.late_ms):
            is_late = found.late_ms > _LATE_AT_MOST_MS
            is_right &= not is_late
            print(f"{'!' if is_late else ' '} {found.case:<42}{found.late_ms:>7.1f} ms{found.answered_ms:>9.1f} ms")
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
