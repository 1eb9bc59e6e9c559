"""The sidecar with a profiler that SIGUSR1 switches on: `python -m tests.bench.profiled_proxy FILE ARGUMENT ...`.

Its start, which is nothing but reading code and data, would hide what a request costs.
"""

from __future__ import annotations

import cProfile
import runpy
import signal
import sys


def main() -> None:
    profiler = cProfile.Profile()
    signal.signal(signal.SIGUSR1, lambda *_: profiler.enable())
    file = sys.argv.pop(1)
    try:
        runpy.run_module("proxy", run_name="__main__", alter_sys=True)
    finally:
        profiler.disable()
        profiler.dump_stats(file)


if __name__ == "__main__":
    main()
