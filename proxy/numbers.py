"""What several processes have counted as one sum: what each tells of its own, and how that is added up."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Exemplar, Sample

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from prometheus_client.registry import Collector

    Document: TypeAlias = "dict[str, Any]"

Series: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]
"""A sample's name and its labels."""

Number: TypeAlias = tuple[float, "Exemplar | None"]

# Some hundred microseconds of work.
_SAMPLES_AT_ONCE: Final = 100
# Sums of whole multiples of a power of two are exact, whatever the order: a sum of times must not go down by the last
# bit when somebody is added earlier than before, as Prometheus would take that for a restart. This is about 1 µs.
_UNITS: Final = 2**20
# What a process that has ended has counted stays; what it had open, it has no more.
_STAYING: Final = frozenset({"counter", "histogram"})


class Told:
    """What a process has counted, as it is told to another one: each series whenever it has changed."""

    def __init__(self, registry: Collector) -> None:
        self._registry = registry
        self._told: dict[Series, float] = {}

    def news(self) -> Iterator[Document]:
        """Yield what has changed since it was last told, in documents for `Numbers.updated`, each of a few samples.

        One without samples tells nothing, and is where others may have their turn.
        """
        for family in self._registry.collect():
            for first in range(0, len(family.samples), _SAMPLES_AT_ONCE):
                samples = list(self._changed(family.samples[first : first + _SAMPLES_AT_ONCE]))
                yield {"family": [family.name, family.documentation, family.type], "samples": samples}

    def _changed(self, samples: Sequence[Sample]) -> Iterator[list[object]]:
        for sample in samples:
            series = (sample.name, tuple(sample.labels.items()))
            value = round(sample.value * _UNITS) / _UNITS
            if self._told.get(series) != value:
                self._told[series] = value
                exemplar = sample.exemplar
                has = [exemplar.labels, exemplar.value, exemplar.timestamp] if exemplar is not None else None
                yield [sample.name, series[1], value, has]


@dataclass(frozen=True, slots=True)
class _Family:
    documentation: str
    kind: str
    numbers: Mapping[Series, Number]


@dataclass(frozen=True, slots=True)
class Numbers:
    """What another process has counted, by the name of the family."""

    families: Mapping[str, _Family] = field(default_factory=dict)

    def updated(self, news: Iterable[Document]) -> Numbers:
        """Return these with `news` taken in."""
        families = dict(self.families)
        for document in news:
            name, documentation, kind = document["family"]
            numbers = {
                (sample, tuple((label, text) for label, text in labels)): (value, Exemplar(*has) if has else None)
                for sample, labels, value, has in document["samples"]
            }
            former = families.get(name)
            families[name] = _Family(documentation, kind, {**former.numbers, **numbers} if former else numbers)
        return Numbers(families)

    def outlived_by(self, ended: Numbers) -> Numbers:
        """Return these and what stays of `ended`, a process that is no more."""
        families = dict(self.families)
        for name, family in ended.families.items():
            if family.kind in _STAYING:
                former = families.get(name)
                numbers = dict(former.numbers) if former else {}
                _add(numbers, family.numbers.items())
                families[name] = _Family(family.documentation, family.kind, numbers)
        return Numbers(families)


class Sum:
    """Families of metrics that are added up already; a Collector."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """Return each family once."""
        return self._families


async def added(own: Collector, others: Iterable[Numbers], *, own_alone: frozenset[str]) -> Sum:
    """Return what `own` and `others` have counted, series of the same labels added up, those in `own_alone` left out.

    A few samples at a time are added: in between everything else has its turn.
    """
    kinds: dict[str, tuple[str, str]] = {}
    numbers: dict[str, dict[Series, Number]] = {}
    for family in own.collect():
        kinds[family.name] = (family.documentation, family.type)
        numbers[family.name] = {
            (sample.name, tuple(sample.labels.items())): (sample.value, sample.exemplar) for sample in family.samples
        }
    for other in others:
        for name, theirs in other.families.items():
            if name in own_alone:
                continue
            kinds.setdefault(name, (theirs.documentation, theirs.kind))
            sums = numbers.setdefault(name, {})
            for some in _slices(list(theirs.numbers.items())):
                _add(sums, some)
                await asyncio.sleep(0)
    families = []
    for name, (documentation, kind) in kinds.items():
        family = Metric(name, documentation, kind)
        for some in _slices(list(numbers[name].items())):
            family.samples += [
                Sample(sample, dict(labels), value, None, exemplar) for (sample, labels), (value, exemplar) in some
            ]
            await asyncio.sleep(0)
        families.append(family)
    return Sum(families)


def _slices(numbers: list[tuple[Series, Number]]) -> Iterator[list[tuple[Series, Number]]]:
    for first in range(0, len(numbers), _SAMPLES_AT_ONCE):
        yield numbers[first : first + _SAMPLES_AT_ONCE]


def _add(sums: dict[Series, Number], numbers: Iterable[tuple[Series, Number]]) -> None:
    """Add `numbers` to `sums`; of two exemplars the later one is shown."""
    for series, number in numbers:
        former = sums.get(series)
        sums[series] = number if former is None else (former[0] + number[0], _later(former[1], number[1]))


def _later(one: Exemplar | None, other: Exemplar | None) -> Exemplar | None:
    if one is None or other is None:
        return one or other
    return one if float(one.timestamp or 0) > float(other.timestamp or 0) else other
