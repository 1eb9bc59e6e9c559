"""What finding a request's operation costs, by the size of the catalog; and what the shipped catalog costs at start.

Run by hand: python tests/bench/match_routes.py

Each catalog is asked for 1,000 distinct targets of the same lengths, spread over all of its operations, in turns, so
that a busy machine slows both alike.
"""

# ruff: noqa: T201 - printing is what it is for

from __future__ import annotations

import subprocess
import sys
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Final

from proxy.core.catalog import UNKNOWN, Document
from proxy.core.openapi import compile_catalog
from proxy.resources import load_catalog

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.core.catalog import Catalog

TARGETS: Final = 1_000
ROUNDS: Final = 25
SIZES: Final = (10, 10_000)

# By the number of a family: of every ten operations two share a node with all others of their kind.
FAMILY: Final = (
    ("get", "/api/things{:04}"),
    ("post", "/api/things{:04}"),
    ("get", "/api/things{:04}/{{id}}"),
    ("patch", "/api/things{:04}/{{id}}"),
    ("delete", "/api/things{:04}/{{id}}"),
    ("post", "/api/things{:04}/{{id}}/isolate"),
    ("get", "/api/things{:04}/{{id}}/parts/{{part}}"),
    ("get", "/api/things{:04}/findby(name='{{name}}',at={{at}})"),
    ("post", "/api/jobs/{{id}}:act{:04}"),
    ("get", "/api/{{tenant}}/report{:04}"),
)


def catalog_of(size: int) -> Catalog:
    """Return a catalog of `size` operations."""
    paths: dict[str, dict[str, dict[str, str]]] = {}
    for number in range(size):
        method, path = FAMILY[number % len(FAMILY)]
        item = paths.setdefault(path.format(number // len(FAMILY)), {})
        item[method] = {"operationId": f"operation{number}"}
    return compile_catalog([Document("bench", {"openapi": "3.1.0", "paths": paths})])


def targets(size: int) -> list[tuple[str, str]]:
    """Return distinct requests to operations all over a catalog of `size`, with and without a version."""
    samples = [
        ("GET", "/api/things{0:04}?$top={1:04}"),
        ("POST", "/api/v1.0/things{0:04}?x={1:04}"),
        ("GET", "/api/things{0:04}/1e5bc9d7e4{1:04}"),
        ("PATCH", "/api/things{0:04}/1e5bc9d7e4{1:04}"),
        ("DELETE", "/API/Things{0:04}/1e5bc9d7e4{1:04}"),
        ("POST", "/api/v1.0/things{0:04}/1e5bc9d7e4{1:04}/isolate"),
        ("GET", "/api/things{0:04}/1e5bc9d7e4/parts/%7B{1:04}%7D"),
        ("GET", "/api/things{0:04}/findby(at=2019-09-22T08:44:05Z,name='a,{1:04}')"),
        ("POST", "/api/jobs/{1:04}:act{0:04}"),
        ("GET", "/api/tenant{1:04}/report{0:04}"),
    ]
    rounds = TARGETS // len(samples)
    families = size // len(FAMILY)
    return [
        (method, target.format(number * families // rounds, number))
        for number in range(rounds)
        for method, target in samples
    ]


def took_s(work: Callable[[], object]) -> float:
    """Return how long `work` takes, in seconds."""
    started = perf_counter()
    work()
    return perf_counter() - started


def matching() -> None:
    """Print what one match costs."""
    requests = {size: targets(size) for size in SIZES}
    catalogs = {size: catalog_of(size) for size in SIZES}
    for size, catalog in catalogs.items():
        matched = {catalog.match(*request) for request in requests[size]}
        assert len(set(requests[size])) == TARGETS
        assert UNKNOWN not in matched
        assert len(matched) == min(size, TARGETS)

    def all_of(size: int) -> Callable[[], None]:
        def ask() -> None:
            catalog = catalogs[size]
            for method, target in requests[size]:
                catalog.match(method, target)

        return ask

    rounds: dict[int, list[float]] = {size: [] for size in SIZES}
    for _ in range(ROUNDS):
        for size in SIZES:
            rounds[size].append(took_s(all_of(size)) / TARGETS * 1e6)
    print(f"one match, of {TARGETS:,} distinct targets, over {ROUNDS} interleaved rounds\n")
    print(f"{'operations':>10}  {'minimum':>9}  {'median':>9}")
    for size, times in rounds.items():
        print(f"{size:>10,}  {min(times):>6.2f} µs  {median(times):>6.2f} µs")


def start_up() -> None:
    """Print what the shipped catalog costs: in this process, and in a fresh one with all that reading it imports."""
    times = [took_s(load_catalog) * 1e3 for _ in range(ROUNDS)]
    print(f"\nthe shipped catalog, {len(load_catalog().operations)} operations, {ROUNDS} times\n")
    print(f"{'':>10}  {'minimum':>9}  {'median':>9}")
    print(f"{'loaded':>10}  {min(times):>6.1f} ms  {median(times):>6.1f} ms")
    code = (
        "from time import perf_counter as now; started = now(); from proxy.resources import load_catalog; "
        "imported = now(); load_catalog(); print(imported - started, now() - imported)"
    )
    fresh = [
        [float(part) * 1e3 for part in subprocess.check_output([sys.executable, "-c", code], text=True).split()]
        for _ in range(ROUNDS // 3)
    ]
    for name, column in (("imported", 0), ("first time", 1)):
        values = [parts[column] for parts in fresh]
        print(f"{name:>10}  {min(values):>6.1f} ms  {median(values):>6.1f} ms")


if __name__ == "__main__":
    matching()
    start_up()
