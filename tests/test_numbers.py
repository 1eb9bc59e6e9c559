"""What several processes have counted, as one sum."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder

from proxy.numbers import Numbers, Told, added

if TYPE_CHECKING:
    from proxy.numbers import Sum

OPEN_METRICS = choose_encoder("application/openmetrics-text")[0]


class Process:
    """A process that counts, and what another one knows of it."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.errors = Counter("errors", "Errors.", ("code",), registry=self.registry)
        self.times = Histogram("times_seconds", "Times.", ("operation",), registry=self.registry, buckets=(1, 2))
        self.open = Gauge("open", "Open now.", registry=self.registry)
        self.told = Told(self.registry)
        self.numbers = Numbers()

    def tell(self) -> int:
        """Tell the other one by JSON, and return how many samples that took."""
        news = [json.loads(json.dumps(document)) for document in self.told.news()]
        self.numbers = self.numbers.updated(news)
        return sum(len(document["samples"]) for document in news)


async def summed(*processes: Process | Numbers, own_alone: frozenset[str] = frozenset()) -> Sum:
    others = [one if isinstance(one, Numbers) else one.numbers for one in processes]
    return await added(CollectorRegistry(), others, own_alone=own_alone)


def values(total: Sum) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value for family in total.collect() for sample in family.samples
    }


async def test_what_one_has_counted_is_shown_as_it_shows_it() -> None:
    one = Process()
    for number in range(250):
        one.errors.labels(f"code{number}").inc(exemplar={"target_id": str(number)})
        one.times.labels(f"operation{number}").observe(number)
    one.tell()
    assert OPEN_METRICS(await summed(one)) == OPEN_METRICS(one.registry)


async def test_series_of_the_same_labels_are_added_up() -> None:
    one, other = Process(), Process()
    one.errors.labels("a").inc(2)
    other.errors.labels("a").inc(3)
    other.errors.labels("b").inc()
    one.open.set(4)
    other.open.set(5)
    for process in (one, other):
        process.times.labels("x").observe(1.5)
        process.tell()
    assert values(await summed(one, other)) == {
        ("errors_total", "a"): 5,
        ("errors_total", "b"): 1,
        ("times_seconds_bucket", "x", "1.0"): 0,
        ("times_seconds_bucket", "x", "2.0"): 2,
        ("times_seconds_bucket", "x", "+Inf"): 2,
        ("times_seconds_count", "x"): 2,
        ("times_seconds_sum", "x"): 3,
        ("open",): 9,
    }


async def test_of_two_exemplars_the_later_one_is_shown() -> None:
    one, other = Process(), Process()
    for process, target_id in ((one, "former"), (other, "latter")):
        process.errors.labels("a").inc(exemplar={"target_id": target_id})
        process.tell()
    for total in (await summed(one, other), await summed(other, one)):
        (exemplar,) = (s.exemplar for family in total.collect() for s in family.samples if s.exemplar)
        assert exemplar.labels == {"target_id": "latter"}


async def test_only_what_has_changed_is_told() -> None:
    one = Process()
    one.errors.labels("a").inc()
    one.times.labels("x").observe(1.5)
    assert one.tell() == 7
    assert one.tell() == 0
    one.errors.labels("a").inc()
    assert one.tell() == 1
    assert values(await summed(one))["errors_total", "a"] == 2


async def test_of_who_has_ended_the_counters_stay() -> None:
    one, other = Process(), Process()
    for process in (one, other):
        process.errors.labels("a").inc()
        process.times.labels("x").observe(0.5)
        process.open.set(1)
        process.tell()
    total = values(await summed(Numbers().outlived_by(one.numbers), other))
    assert total["errors_total", "a"] == total["times_seconds_count", "x"] == 2
    assert total["times_seconds_sum", "x"] == 1
    assert total["open",] == 1


async def test_a_sum_of_times_does_not_go_down_when_its_parts_change_places() -> None:
    processes = [Process() for _ in range(3)]
    for process, time_s in zip(processes, (0.1, 0.2, 0.3), strict=True):
        process.times.labels("x").observe(time_s)
        process.tell()
    one, other, third = processes
    totals = [
        values(total)["times_seconds_sum", "x"]
        for total in (
            await summed(one, other, third),
            await summed(Numbers().outlived_by(third.numbers), other, one),
            await summed(Numbers().outlived_by(other.numbers).outlived_by(third.numbers), one),
        )
    ]
    assert len(set(totals)) == 1


async def test_families_of_one_s_own_are_told_by_it_alone() -> None:
    own, other = Process(), Process()
    own.open.set(1)
    other.open.set(1)
    other.errors.labels("a").inc()
    other.tell()
    total = values(await added(own.registry, [other.numbers], own_alone=frozenset({"open"})))
    assert total == {("open",): 1, ("errors_total", "a"): 1}


async def test_others_have_their_turn_while_it_is_added_up() -> None:
    one = Process()
    for number in range(1000):
        one.errors.labels(str(number)).inc()
    one.tell()
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await summed(one, one)
    task.cancel()
    assert turns >= 30
