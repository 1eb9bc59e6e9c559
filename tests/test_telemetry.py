"""What is counted, under which names and labels, and how little it may cost."""

from __future__ import annotations

import io
import itertools
import json
import math
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from proxy import __version__
from proxy.core import check
from proxy.core.envelope import parse_id
from proxy.core.failure import Failure
from proxy.core.model import (
    Action,
    BodyResult,
    CaseMismatch,
    ErrorCode,
    ErrorTag,
    Findings,
    Kind,
    Mode,
    Origin,
    Outcome,
    Pointer,
    RouteTemplate,
    Suspect,
    Suspicion,
    TargetId,
    TargetSource,
    Unfixable,
    UnknownName,
)
from proxy.core.replies import reply_of, tag_upstream_error
from proxy.core.shapes import recognise
from proxy.logs import logging_to
from proxy.resources import load_catalog, load_error_codes, load_error_shapes
from proxy.telemetry import RELOAD_RESULTS, Telemetry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.samples import Sample

CATALOG = load_catalog()
CODES = load_error_codes()
SHAPES = load_error_shapes()

# DESIGN, section 5; `config_reloads_total` comes with reloading. Name without prefix, type, labels.
METRICS = [
    ("requests", "counter", {"operation", "status"}),
    ("errors", "counter", {"code", "status", "origin"}),
    ("operation_errors", "counter", {"operation", "code"}),
    ("case_mismatches", "counter", {"operation", "parameter", "action", "outcome"}),
    ("bodies", "counter", {"result"}),
    ("request_duration_seconds", "histogram", {"operation"}),
    ("upstream_duration_seconds", "histogram", {"operation"}),
    ("overhead_seconds", "histogram", {"operation"}),
    ("upstream_failures", "counter", {"failure"}),
    ("retries", "counter", {"reason"}),
    ("log_events", "counter", {"level"}),
    ("requests_in_flight", "gauge", set()),
    ("upstream_connections", "gauge", {"state"}),
    ("throttled", "counter", {"operation"}),
    ("build_info", "gauge", {"version", "python"}),
    ("ready", "gauge", set()),
    ("catalog_operations", "gauge", set()),
    ("log_lines_dropped", "counter", set()),
    ("log_lines_suppressed", "counter", {"event"}),
    ("config_reloads", "counter", {"result"}),
]

MISMATCH = CaseMismatch(Pointer("/comment"), "comment", "Comment", "Comment", Kind.NAME, True, False, (0,))  # noqa: FBT003


def telemetry() -> Telemetry:
    return Telemetry(CollectorRegistry(), CATALOG, CODES)


def tag(**changes: Any) -> ErrorTag:
    usual: dict[str, Any] = {
        "code": ErrorCode("Forbidden"),
        "label": "Forbidden",
        "message": "No.",
        "target_id": TargetId("0f4d4b3e-0000-4000-8000-000000000000"),
        "target_source": TargetSource.ENVELOPE,
        "origin": Origin.UPSTREAM,
    }
    return ErrorTag(**usual | changes)


def outcome(**changes: Any) -> Outcome:
    usual: dict[str, Any] = {
        "method": "POST",
        "operation": "isolateMachine",
        "route": RouteTemplate("/api/machines/{id}/isolate"),
        "status": 201,
        "request_id": "req-1",
        "duration_s": 0.2,
        "upstream_s": 0.15,
        "overhead_s": 0.0004,
        "request_bytes": 40,
        "response_bytes": 400,
    }
    return Outcome(**usual | changes)


def samples(registry: CollectorRegistry) -> Iterator[Sample]:
    for family in registry.collect():
        yield from family.samples


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(f"defender_proxy_{name}", labels)


def openmetrics(registry: CollectorRegistry) -> str:
    exposed: bytes = generate_latest(registry)  # type: ignore[no-untyped-call] # the library has no types for it
    return exposed.decode("utf-8")


def exemplar_of(registry: CollectorRegistry, name: str) -> dict[str, str] | None:
    """Return the labels of the exemplar of the one series of `name` that is not zero."""
    (found,) = (sample for sample in samples(registry) if sample.name == f"defender_proxy_{name}" and sample.value)
    return dict(found.exemplar.labels) if found.exemplar else None


# Names and labels.


def told_everything() -> Telemetry:
    """Return telemetry that has met one outcome of each kind."""
    told = telemetry()
    told.watch(lambda: 0, lambda: {"in_use": 1, "idle": 2})
    told.count_log_line("warning")
    told.record(outcome(body_result=BodyResult.CLEAN, resend="connection_terminated"))
    told.record(outcome(status=429, error=tag(label="TooManyRequests")))
    told.record(outcome(findings=Findings((MISMATCH,)), action=Action.OBSERVED))
    told.record(outcome(status=502, failure=Failure.DNS_ERROR, error=tag(origin=Origin.PROXY)))
    return told


@pytest.mark.parametrize(("name", "kind", "labels"), METRICS, ids=[name for name, *_ in METRICS])
def test_a_metric_has_the_name_the_type_and_the_labels_of_the_contract(name: str, kind: str, labels: set[str]) -> None:
    families = {family.name: family for family in told_everything().registry.collect()}

    family = families[f"defender_proxy_{name}"]
    assert family.type == kind
    assert family.documentation
    assert family.samples
    assert {frozenset(sample.labels) - {"le"} for sample in family.samples} == {frozenset(labels)}


def test_there_is_no_metric_beyond_the_contract() -> None:
    assert {family.name for family in told_everything().registry.collect()} == {
        f"defender_proxy_{name}" for name, *_ in METRICS
    }


def test_no_series_tells_when_another_was_created() -> None:
    assert not [sample.name for sample in samples(told_everything().registry) if sample.name.endswith("_created")]


def test_what_is_known_at_the_start_is_told() -> None:
    registry = telemetry().registry

    assert value(registry, "catalog_operations") == len(CATALOG.operations)
    assert value(registry, "ready") == 0
    assert value(registry, "requests_in_flight") == 0
    (build_info,) = (sample for sample in samples(registry) if sample.name == "defender_proxy_build_info")
    assert build_info.value == 1
    assert build_info.labels["version"] == __version__


# Zeros: `rate` sees the first error only if a zero came before it.


@pytest.mark.parametrize("code", CODES.statuses)
def test_a_documented_code_is_there_at_zero(code: str) -> None:
    labels = {"code": code, "status": str(CODES.statuses[code]), "origin": "upstream"}

    assert value(telemetry().registry, "errors_total", **labels) == 0


@pytest.mark.parametrize("failure", Failure, ids=lambda failure: failure.label)
def test_a_failure_is_there_at_zero(failure: Failure) -> None:
    registry = telemetry().registry

    assert value(registry, "errors_total", code=failure.code, status=str(failure.status), origin="proxy") == 0
    expected = 0 if failure.is_upstream else None
    assert value(registry, "upstream_failures_total", failure=failure.label) == expected


def test_rejections_and_body_results_are_there_at_zero() -> None:
    registry = telemetry().registry

    for code in ("MissingRequiredParameter", "InvalidRequestBody"):
        assert value(registry, "errors_total", code=code, status="400", origin="proxy") == 0
    for result in BodyResult:
        assert value(registry, "bodies_total", result=result.value) == 0
    assert value(registry, "log_lines_dropped_total") == 0


# One outcome, and what it counts.


def test_a_plain_outcome_is_counted_once() -> None:
    told = telemetry()

    told.record(outcome(body_result=BodyResult.CLEAN))

    registry = told.registry
    assert value(registry, "requests_total", operation="isolateMachine", status="201") == 1
    assert value(registry, "bodies_total", result="clean") == 1
    for name, total in (
        ("request_duration_seconds", 0.2),
        ("upstream_duration_seconds", 0.15),
        ("overhead_seconds", 0.0004),
    ):
        assert value(registry, f"{name}_count", operation="isolateMachine") == 1
        assert value(registry, f"{name}_sum", operation="isolateMachine") == total
    assert not [sample for sample in samples(registry) if "errors_total" in sample.name and sample.value]


def test_an_error_is_counted_by_code_and_by_operation() -> None:
    told = telemetry()

    told.record(outcome(status=403, error=tag()))

    assert value(told.registry, "errors_total", code="Forbidden", status="403", origin="upstream") == 1
    assert value(told.registry, "operation_errors_total", operation="isolateMachine", code="Forbidden") == 1
    assert value(told.registry, "throttled_total", operation="isolateMachine") is None


def test_a_refusal_by_the_proxy_spends_nothing_upstream() -> None:
    told = telemetry()

    told.record(outcome(status=400, upstream_s=None, findings=Findings((MISMATCH, MISMATCH)), action=Action.REJECTED))

    assert value(told.registry, "upstream_duration_seconds_count", operation="isolateMachine") is None
    labels = {"operation": "isolateMachine", "parameter": "Comment", "action": "rejected", "outcome": "none"}
    assert value(told.registry, "case_mismatches_total", **labels) == 2


@pytest.mark.parametrize(
    ("action", "status", "said"),
    [
        (Action.OBSERVED, 201, "accepted"),
        (Action.OBSERVED, 400, "refused"),
        (Action.FIXED, 201, "accepted"),
        (Action.FIXED, 500, "refused"),
        (Action.FIXED, None, "none"),
    ],
)
def test_a_mismatch_is_counted_with_what_the_upstream_then_said(action: Action, status: int | None, said: str) -> None:
    told = telemetry()

    told.record(outcome(status=status, findings=Findings((MISMATCH,)), action=action))

    labels = {"operation": "isolateMachine", "parameter": "Comment", "action": action.value, "outcome": said}
    assert value(told.registry, "case_mismatches_total", **labels) == 1


def test_only_the_upstreams_own_429_is_throttling() -> None:
    told = telemetry()

    told.record(outcome(status=429, error=tag(label="TooManyRequests")))
    told.record(outcome(status=429, error=tag(origin=Origin.PROXY)))

    assert value(told.registry, "throttled_total", operation="isolateMachine") == 1


@pytest.mark.parametrize("failure", [Failure.DNS_ERROR, Failure.MALFORMED_REQUEST])
def test_only_a_failure_of_the_upstream_leg_is_counted_as_one(failure: Failure) -> None:
    told = telemetry()

    told.record(outcome(status=failure.status, failure=failure))

    expected = 1 if failure.is_upstream else None
    assert value(told.registry, "upstream_failures_total", failure=failure.label) == expected


@pytest.mark.parametrize(
    ("status", "label"), [(None, "none"), (99, "other"), (100, "100"), (599, "599"), (600, "other")]
)
def test_a_status_is_a_label_of_a_closed_set(status: int | None, label: str) -> None:
    told = telemetry()

    told.record(outcome(status=status))

    assert value(told.registry, "requests_total", operation="isolateMachine", status=label) == 1


def test_a_numeric_code_counts_under_its_name() -> None:
    assert CODES.label("429", Origin.UPSTREAM) == "TooManyRequests"


def test_connections_are_asked_for_at_each_scrape() -> None:
    told, open_now = telemetry(), itertools.count(1)
    told.watch(lambda: 0, lambda: {"in_use": next(open_now), "idle": 0})

    assert [value(told.registry, "upstream_connections", state="in_use") for _ in range(2)] == [1, 2]


# Log lines.


def test_lines_are_counted_by_level() -> None:
    told = telemetry()
    with logging_to(io.StringIO(), on_event=told.count_log_line) as logger:
        told.log_to(logger, requests=False)
        told.record(outcome())
        told.record(outcome(status=403, error=tag()))
        told.record(outcome(status=502, failure=Failure.DNS_ERROR))

    assert value(told.registry, "log_events_total", level="warning") == 1
    assert value(told.registry, "log_events_total", level="error") == 1
    assert value(told.registry, "log_events_total", level="info") is None


def test_what_is_below_the_level_is_remembered_all_the_same() -> None:
    told, stream = telemetry(), io.StringIO()
    with logging_to(stream, level="error", on_event=told.count_log_line) as logger:
        told.log_to(logger, requests=True)
        told.record(outcome())
        told.record(outcome(status=403, error=tag()))
    assert stream.getvalue() == ""
    assert told.recent.seq == 1


def test_a_reload_goes_on_with_what_was_counted() -> None:
    told = telemetry()
    told.record(outcome(body_result=BodyResult.CLEAN))
    told.follow(CATALOG, CODES)
    told.record(outcome(body_result=BodyResult.CLEAN))
    assert value(told.registry, "requests_total", operation="isolateMachine", status="201") == 2
    assert value(told.registry, "request_duration_seconds_count", operation="isolateMachine") == 2
    assert value(told.registry, "bodies_total", result="clean") == 2


def test_statuses_that_http_does_not_have_are_one_series_of_each_operation() -> None:
    told = telemetry()
    for status in (42, 600, 999, 42):
        told.record(outcome(status=status))
    told.record(outcome(operation="unknown", status=999))
    assert value(told.registry, "requests_total", operation="isolateMachine", status="other") == 4
    assert value(told.registry, "requests_total", operation="unknown", status="other") == 1


def test_an_operation_that_sent_nothing_upstream_has_no_times_there() -> None:
    told = telemetry()
    told.record(outcome(upstream_s=None))
    assert value(told.registry, "upstream_duration_seconds_count", operation="isolateMachine") is None
    told.record(outcome())
    assert value(told.registry, "upstream_duration_seconds_count", operation="isolateMachine") == 1


# Exemplars: names and values of their labels have 128 characters together (OpenMetrics, "Exemplars").


@pytest.mark.parametrize(("length", "is_told"), [(1, True), (36, True), (119, True), (120, False), (128, False)])
def test_an_exemplar_is_told_up_to_128_characters_and_left_out_beyond(length: int, *, is_told: bool) -> None:
    told = telemetry()
    target_id = TargetId("x" * length)
    assert (len("target_id") + length <= 128) is is_told

    told.record(outcome(status=403, error=tag(target_id=target_id)))

    assert value(told.registry, "errors_total", code="Forbidden", status="403", origin="upstream") == 1
    assert exemplar_of(told.registry, "errors_total") == ({"target_id": target_id} if is_told else None)


def test_the_exemplar_is_the_latest_target_id() -> None:
    told = telemetry()

    for target_id in ("first", "second"):
        told.record(outcome(status=403, error=tag(target_id=TargetId(target_id))))

    assert exemplar_of(told.registry, "errors_total") == {"target_id": "second"}


@pytest.mark.parametrize("target_id", ["|eb291c4-5f0e3a1b2c4d6e7f.", "a\\b", "a\\nb", "a#b", "{a=1}", "a,b"])
def test_an_exemplar_reads_back_from_openmetrics_as_it_was(target_id: str) -> None:
    told = telemetry()
    assert parse_id(target_id) == target_id

    told.record(outcome(status=403, error=tag(target_id=TargetId(target_id))))

    families = text_string_to_metric_families(openmetrics(told.registry))  # type: ignore[no-untyped-call]
    (found,) = (s for family in families for s in family.samples if s.exemplar)
    assert found.exemplar.labels == {"target_id": target_id}


def test_a_quotation_mark_in_an_exemplar_is_escaped() -> None:
    told = telemetry()  # told by its text: the library's own parser does not read what the library writes here

    told.record(outcome(status=403, error=tag(target_id=TargetId('a"b'))))

    assert r' # {target_id="a\"b"} 1.0 ' in openmetrics(told.registry)


# Any outcome.

finite = st.floats(min_value=0, max_value=1e6)
anything = st.text(st.characters(exclude_categories=()), max_size=200)


def tagged(status: int, body: bytes) -> ErrorTag:
    found = recognise(body, "", SHAPES, CATALOG.names)
    return tag_upstream_error(status, "", (), found, codes=CODES, own_target=TargetId("own"), now_s=0)


@st.composite
def foreseen_outcomes(draw: st.DrawFn) -> Outcome:
    """Return what can come of an exchange, its code, path and target as strange as a stranger can make them."""
    operation = CATALOG.match(draw(st.sampled_from(["GET", "POST", "BREW"])), draw(anything | st.just("/api/alerts")))
    status = draw(st.none() | st.integers(100, 700))
    failure = draw(st.none() | st.sampled_from(Failure))
    error = None
    if failure is not None:
        error, status = reply_of(failure, TargetId("t")).tag, failure.status
    elif status is not None and status >= 400:
        code, target = draw(anything), draw(anything)
        body = f'{{"error":{{"code":{json.dumps(code)},"message":"m","target":{json.dumps(target)}}}}}'.encode()
        error = tagged(status, body)
    return outcome(
        operation=operation.name,
        route=operation.template,
        status=status,
        duration_s=draw(finite),
        upstream_s=draw(st.none() | finite),
        overhead_s=draw(finite),
        body_result=draw(st.none() | st.sampled_from(BodyResult)),
        error=error,
        failure=failure,
        resend=draw(st.sampled_from([None, "connection_terminated"])),
    )


LABELS = {
    "operation": {operation.name for operation in CATALOG.operations} | {"unknown"},
    "status": {str(status) for status in range(100, 600)} | {"none", "other"},
    "code": {*CODES.statuses, *(failure.code for failure in Failure), "other"},
    "origin": {"upstream", "proxy"},
    "result": {*map(str, BodyResult), *RELOAD_RESULTS},
    "failure": {failure.label for failure in Failure if failure.is_upstream},
    "reason": {"connection_terminated"},
    "action": set(map(str, Action)),
    "outcome": {"none", "accepted", "refused"},
}


@settings(max_examples=60, deadline=None)
@given(st.lists(foreseen_outcomes(), max_size=20))
def test_labels_are_closed_sets_whatever_comes(outcomes: list[Outcome]) -> None:
    told = telemetry()

    for each in outcomes:
        told.record(each)

    for sample in samples(told.registry):
        for name, known in LABELS.items():
            assert sample.labels.get(name, next(iter(known))) in known
    assert openmetrics(told.registry).endswith("# EOF\n")


def test_strange_codes_and_paths_add_no_series() -> None:
    told = telemetry()
    sizes = []

    for number in range(500):
        operation = CATALOG.match("GET", f"/wp-admin/{number}")
        body = b'{"error":{"code":"Strange%d","message":"","target":"t%d"}}' % (number, number)
        error = tagged(418, body)
        told.record(outcome(operation=operation.name, status=418, error=error))
        sizes.append(len(list(samples(told.registry))))

    assert len(set(sizes)) == 1
    assert value(told.registry, "errors_total", code="other", status="418", origin="upstream") == 500


def test_a_parameter_is_counted_under_its_documented_name_however_it_was_spelt() -> None:
    told = telemetry()
    operation = CATALOG.match("POST", "/api/machines/1/isolate")
    assert operation.body is not None

    for spelling in ("comment", "COMMENT", "cOmMeNt", "com_ment", "Com-Ment"):
        body = b'{"%s": "x", "IsolationType": "Full"}' % spelling.encode()
        checked = check.check(body, (), operation.body, Mode.OBSERVE, limit_bytes=1024)
        told.record(outcome(findings=checked.findings, action=checked.action))

    found = [s for s in samples(told.registry) if s.name == "defender_proxy_case_mismatches_total"]
    assert [(s.labels["parameter"], s.value) for s in found] == [("Comment", 5)]


numbers = st.floats() | st.integers(-(2**70), 2**70)
mismatches = st.builds(
    CaseMismatch,
    pointer=anything.map(Pointer),
    got=anything,
    expected=anything,
    parameter=anything,
    kind=st.sampled_from(Kind),
    required=st.booleans(),
    conflict=st.booleans(),
    path=st.just((0,)),
)
any_outcomes = st.builds(
    Outcome,
    method=anything,
    operation=anything,
    route=anything.map(RouteTemplate),
    status=st.none() | st.integers(-(2**70), 2**70),
    request_id=anything,
    duration_s=numbers,
    upstream_s=st.none() | numbers,
    overhead_s=numbers,
    request_bytes=st.integers(),
    response_bytes=st.integers(),
    mode=st.none() | st.sampled_from(Mode),
    body_result=st.none() | st.sampled_from(BodyResult),
    findings=st.builds(
        Findings,
        mismatches=st.lists(mismatches, max_size=3).map(tuple),
        unknown=st.lists(
            st.builds(UnknownName, pointer=anything.map(Pointer), got=anything, near=st.none() | anything), max_size=3
        ).map(tuple),
        unknown_count=st.integers(),
        duplicates=st.lists(anything.map(Pointer), max_size=3).map(tuple),
    ),
    action=st.none() | st.sampled_from(Action),
    error=st.none()
    | st.builds(
        ErrorTag,
        code=anything.map(ErrorCode),
        label=anything,
        message=anything,
        target_id=st.text(min_size=1, max_size=128).map(TargetId),
        target_source=st.sampled_from(TargetSource),
        origin=st.sampled_from(Origin),
    ),
    failure=st.none() | st.sampled_from(Failure),
    resend=st.none() | anything,
    defect=st.none() | anything,
    trace_id=st.none() | anything,
    not_fixed=st.lists(st.sampled_from(Unfixable), max_size=4).map(tuple),
    suspects=st.lists(
        st.builds(
            Suspect,
            suspicion=st.sampled_from(Suspicion),
            pointer=anything.map(Pointer),
            expected=st.lists(anything, max_size=3).map(tuple),
            got=anything,
        ),
        max_size=3,
    ).map(tuple),
    doc=st.none() | anything,
)


@pytest.mark.parametrize("style", ["json", "console"])
def test_recording_never_raises(style: str) -> None:
    told = telemetry()
    stream = io.StringIO()

    @settings(max_examples=150, deadline=None)
    @given(any_outcomes)
    def record(each: Outcome) -> None:
        told.record(each)

    with logging_to(stream, level="debug", style=style, on_dropped=told.count_dropped_line) as logger:
        told.log_to(logger, requests=True)
        record()

    assert value(told.registry, "log_lines_dropped_total") == 0
    assert all(line.isprintable() for line in stream.getvalue().split("\n"))


def test_recording_does_not_raise_where_times_are_no_numbers() -> None:
    told = telemetry()

    for number in (math.nan, math.inf, -math.inf, -1.0):
        told.record(outcome(duration_s=number, upstream_s=number, overhead_s=number))

    assert value(told.registry, "requests_total", operation="isolateMachine", status="201") == 4
