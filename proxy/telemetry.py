"""Counters, histograms and log lines, all rendered from the outcome of an exchange."""

from __future__ import annotations

import platform
from collections import Counter as Counts
from time import time
from typing import TYPE_CHECKING, Final, TypeVar, cast

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from proxy import __version__
from proxy.core import tags
from proxy.core.failure import Failure
from proxy.core.model import BodyResult
from proxy.core.recent import Recent
from proxy.logs import LIBRARY_MESSAGE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from proxy.core.catalog import Catalog
    from proxy.core.codes import ErrorCodes
    from proxy.core.model import ErrorTag, Outcome
    from proxy.logs import Log

    _Add = Callable[[], None]
    _Observe = Callable[[float], None]

_PREFIX: Final = "defender_proxy"
_TARGET_LABEL: Final = "target_id"
# OpenMetrics, "Exemplars": names and values of the labels together.
_EXEMPLAR_LENGTH_AT_MOST: Final = 128

# In seconds. OpenTelemetry's advice for HTTP durations, and beyond: an advanced hunting query runs for ten minutes.
_DURATION_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 180, 660)
_OVERHEAD_BUCKETS: Final = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25)

RELOAD_OK: Final = "ok"
RELOAD_FAILED: Final = "failed"
RELOAD_RESULTS: Final = (RELOAD_OK, RELOAD_FAILED)

_Metric = TypeVar("_Metric", Counter, Histogram)

# The `_created` series double the size of a scrape, and nobody asks for them.
disable_created_metrics()  # type: ignore[no-untyped-call] # the library has no types for it


class _Series:
    """What every exchange of one operation adds to, found once: `requests` by status, the times as they are needed."""

    __slots__ = ("duration", "overhead", "requests", "upstream_duration")

    def __init__(self, duration: _Observe, overhead: _Observe) -> None:
        self.requests: dict[int | None, _Add] = {}
        self.duration = duration
        self.overhead = overhead
        self.upstream_duration: _Observe | None = None


class Telemetry:
    """Tells each exchange once: to the counters, and to the log where it is worth a line."""

    def __init__(self, registry: CollectorRegistry, catalog: Catalog, codes: ErrorCodes) -> None:
        self.registry = registry
        self.recent = Recent()
        self._children: dict[tuple[object, ...], Counter | Histogram] = {}
        self._series: dict[str, _Series] = {}
        self._requests = self._counter("requests", "Exchanges, by operation and status.", "operation", "status")
        self._errors = self._counter(
            "errors", "Error responses, by documented code; exemplar: the target ID.", "code", "status", "origin"
        )
        self._operation_errors = self._counter(
            "operation_errors", "Error responses, by operation and documented code.", "operation", "code"
        )
        self._mismatches = self._counter(
            "case_mismatches",
            "Misspelt names and values in request bodies, and what the upstream then said.",
            "operation", "parameter", "action", "outcome",
        )  # fmt: skip
        self._bodies = self._counter("bodies", "Request bodies, by what the check found.", "result")
        self._duration = self._histogram("request_duration_seconds", "From request head to the end of the response.")
        self._upstream_duration = self._histogram("upstream_duration_seconds", "Spent on the upstream leg.")
        self._overhead = self._histogram(
            "overhead_seconds", "Spent in the proxy itself, waiting for either side left out.", _OVERHEAD_BUCKETS
        )
        self._of_result: dict[BodyResult, _Add] = {r: self._bodies.labels(r.value).inc for r in BodyResult}
        self._failures = self._counter("upstream_failures", "Failed upstream legs, by failure.", "failure")
        self._retries = self._counter("retries", "Safe requests sent a second time, by reason.", "reason")
        self._throttled = self._counter("throttled", "Responses with status 429 from the upstream.", "operation")
        self._log_events = self._counter("log_events", "Log lines, by level.", "level")
        self._log_dropped = self._counter("log_lines_dropped", "Log lines that could not be written in time.")
        self._log_suppressed = self._counter(
            "log_lines_suppressed", "Log lines that were left out, as others said the same, by event.", "event"
        )
        self.in_flight = self._gauge("requests_in_flight", "Exchanges under way.")
        self.ready = self._gauge("ready", "1 while the proxy serves, 0 before and while it drains.")
        self._operations = self._gauge("catalog_operations", "Operations in the catalog.")
        self._reloads = self._counter("config_reloads", "Reloads of settings and catalog, by result.", "result")
        build_info = self._gauge("build_info", "Always 1; the labels tell what runs.", "version", "python")
        build_info.labels(__version__, platform.python_version()).set(1)
        self._logger: Log | None = None
        self._logs_requests = False
        for result in RELOAD_RESULTS:
            self._child(self._reloads, result)
        self.follow(catalog, codes)

    def follow(self, catalog: Catalog, codes: ErrorCodes) -> None:
        """Tell of exchanges by `catalog` and `codes` from now on; what was counted stays."""
        self._codes = codes
        self._operations.set(len(catalog.operations))
        self._start_at_zero(codes)

    def count_reload(self, result: str) -> None:
        """Count a reload with one of `RELOAD_RESULTS`."""
        self._child(self._reloads, result).inc()

    def log_to(self, logger: Log, *, requests: bool) -> None:
        """Write the lines to `logger`; where `requests` says so, one for every exchange, however many say the same."""
        self._logger = logger
        self._logs_requests = requests

    def watch(self, in_flight: Callable[[], int], connections: Callable[[], Mapping[str, int]]) -> None:
        """Export at each scrape how many exchanges are under way, and the connections to the upstream by state."""
        self.in_flight.set_function(in_flight)
        self.registry.register(_Connections(connections))

    def count_log_line(self, level: str) -> None:
        """Count one line of `level`."""
        self._child(self._log_events, level).inc()

    def count_dropped_line(self) -> None:
        """Count one line that was not written."""
        self._child(self._log_dropped).inc()

    def count_suppressed_line(self, event: str) -> None:
        """Count one line about `event` that was left out, as others said the same."""
        self._child(self._log_suppressed, event).inc()

    def record(self, outcome: Outcome) -> None:
        """Count `outcome` and, where it is worth it, write the line about it and remember it. Never raises."""
        self._count(outcome)
        if not (self._logs_requests or tags.is_worth_a_line(outcome)):
            return
        level, is_kept = tags.log_level(outcome), Recent.is_kept(outcome)
        logger = self._logger if self._logger is not None and self._logger.writes(level) else None
        if logger is None and not is_kept:
            return
        fields = tags.log_fields(outcome, self._codes)
        if logger is not None:
            if self._logs_requests:
                getattr(logger, level)(tags.log_event(outcome), **fields)
            else:
                logger.repeatable(tags.pattern_of(outcome), fields)
        if is_kept:
            self.recent.record(outcome, fields, time())

    def _count(self, outcome: Outcome) -> None:
        series = self._series.get(outcome.operation) or self._series_of(outcome.operation)
        (series.requests.get(outcome.status) or self._requests_of(series, outcome))()
        series.duration(outcome.duration_s)
        series.overhead(outcome.overhead_s)
        if outcome.upstream_s is not None:
            (series.upstream_duration or self._upstream_duration_of(series, outcome))(outcome.upstream_s)
        if outcome.body_result is not None:
            self._of_result[outcome.body_result]()
        if outcome.resend is not None:
            self._child(self._retries, outcome.resend).inc()
        if outcome.action is not None:
            self._count_mismatches(outcome, outcome.action.value)
        if outcome.failure is not None and outcome.failure.is_upstream:
            self._child(self._failures, outcome.failure.label).inc()
        if outcome.error is not None:
            self._count_error(outcome, outcome.error)

    def _count_mismatches(self, outcome: Outcome, action: str) -> None:
        said = tags.mismatch_outcome(outcome)
        for parameter, times in Counts(m.parameter for m in outcome.findings.mismatches).items():
            self._child(self._mismatches, outcome.operation, parameter, action, said).inc(times)

    def _count_error(self, outcome: Outcome, error: ErrorTag) -> None:
        labels: dict[str, str] = {_TARGET_LABEL: error.target_id}
        is_short = len(_TARGET_LABEL) + len(error.target_id) <= _EXEMPLAR_LENGTH_AT_MOST
        child = self._child(self._errors, error.label, tags.status_label(outcome), error.origin.value)
        child.inc(exemplar=labels if is_short else None)
        self._child(self._operation_errors, outcome.operation, error.label).inc()
        if tags.is_throttled(outcome):
            self._child(self._throttled, outcome.operation).inc()

    def _series_of(self, operation: str) -> _Series:
        """Return the series of an operation that no exchange was counted for yet, entered for the next one."""
        series = _Series(self._duration.labels(operation).observe, self._overhead.labels(operation).observe)
        return self._series.setdefault(operation, series)

    def _requests_of(self, series: _Series, outcome: Outcome) -> _Add:
        """Return what counts requests with the status of `outcome`; each but those without a label is kept."""
        label = tags.status_label(outcome)
        add: _Add = self._requests.labels(outcome.operation, label).inc
        return add if label == tags.OTHER_STATUS else series.requests.setdefault(outcome.status, add)

    def _upstream_duration_of(self, series: _Series, outcome: Outcome) -> _Observe:
        """Return what takes the times on the upstream leg, which an operation need not have."""
        series.upstream_duration = self._upstream_duration.labels(outcome.operation).observe
        return series.upstream_duration

    def _start_at_zero(self, codes: ErrorCodes) -> None:
        """Create what can be foreseen: `rate` sees the first error only if a zero came before it."""
        for code, status, origin in codes.expected():
            self._child(self._errors, code, str(status), origin.value)
        for failure in Failure:
            if failure.is_upstream:
                self._child(self._failures, failure.label)
        self._child(self._retries, Failure.CONNECTION_TERMINATED.label)
        self._child(self._log_dropped)
        for event in (*tags.EVENTS, LIBRARY_MESSAGE):
            self._child(self._log_suppressed, event)

    def _counter(self, name: str, documentation: str, *labels: str) -> Counter:
        return Counter(name, documentation, labels, namespace=_PREFIX, registry=self.registry)

    def _gauge(self, name: str, documentation: str, *labels: str) -> Gauge:
        return Gauge(name, documentation, labels, namespace=_PREFIX, registry=self.registry)

    def _histogram(self, name: str, documentation: str, buckets: tuple[float, ...] = _DURATION_BUCKETS) -> Histogram:
        return Histogram(
            name, documentation, ("operation",), namespace=_PREFIX, registry=self.registry, buckets=buckets
        )

    def _child(self, metric: _Metric, *labels: str) -> _Metric:
        """Return the series of `metric` with `labels`; prometheus_client's own look-up costs a lock each time."""
        key = (metric, *labels)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = metric.labels(*labels) if labels else metric
        return cast("_Metric", child)


class _Connections(Collector):
    """Asks for the number of upstream connections when it is scraped, and at no other time."""

    def __init__(self, connections: Callable[[], Mapping[str, int]]) -> None:
        self._connections = connections

    def collect(self) -> Iterable[GaugeMetricFamily]:
        family = GaugeMetricFamily(
            f"{_PREFIX}_upstream_connections", "Open connections to the upstream, by state.", labels=("state",)
        )
        for state, count in self._connections().items():
            family.add_metric((state,), count)
        yield family
