"""A short run of the soak, and whether its comparison would notice: see tests/soak for the long ones."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.soak.chaos import Report, chaos, drive, upstream_for
from tests.soak.compare import Run, disagreements
from tests.soak.plans import requests

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.conftest import Proxied
    from tests.soak.plans import Request

SEED = 20
REQUESTS = 300
CLIENTS = 24


@pytest.fixture(scope="module")
def report() -> Report:
    print(f"seed {SEED}")  # noqa: T201 - pytest shows it where something fails
    return asyncio.run(chaos(SEED, REQUESTS, clients=CLIENTS))


@pytest.fixture
def run(report: Report) -> Run:
    assert report.run is not None
    return report.run


class TestShortRun:
    def test_clients_upstream_log_and_metrics_agree(self, report: Report) -> None:
        assert not report.problems
        assert report.requests == REQUESTS

    def test_both_sides_misbehaved(self, report: Report) -> None:
        assert report.failures.keys() >= {
            *("client_disconnected", "connection_terminated", "http_protocol_error", "http_response_incomplete"),
            *("malformed_request", "none"),
        }

    def test_no_descriptor_is_left_open(self, report: Report) -> None:
        before, after = report.descriptors
        assert 0 < after <= before

    def test_the_same_seed_draws_the_same_requests(self) -> None:
        assert list(requests(SEED, 50)) == list(requests(SEED, 50)) != list(requests(SEED + 1, 50))


class TestComparison:
    """Each account is falsified in one place, which has to be noticed."""

    def test_a_line_that_is_missing(self, run: Run) -> None:
        plain = plainly_answered(run)
        lines = [line for line in run.lines if line["request_id"] != plain.request_id]
        assert mentions(disagreements(replace(run, lines=lines)), plain.target, "0 lines")

    def test_a_line_with_another_status(self, run: Run) -> None:
        plain = plainly_answered(run)
        falsified = replace(run, lines=with_line(run, plain, status=201))
        assert mentions(disagreements(falsified), plain.target, "the client saw status 200, the log has 201")
        assert mentions(disagreements(falsified), plain.target, "the upstream sent 200")

    def test_a_line_with_a_failure_that_was_none(self, run: Run) -> None:
        plain = plainly_answered(run)
        falsified = replace(run, lines=with_line(run, plain, failure="http_response_timeout", event="proxy_error"))
        assert mentions(disagreements(falsified), plain.target, "the failure http_response_timeout")

    def test_an_answer_for_somebody_else(self, run: Run) -> None:
        plain = plainly_answered(run)
        view = run.views[plain.sequence]
        assert view.answer is not None
        fields = tuple((name, b"0" if name == b"X-Soak-Sequence" else value) for name, value in view.answer.fields)
        for answer in (replace(view.answer, fields=fields), replace(view.answer, body=b'{"sequence": 0}')):
            views = {**run.views, plain.sequence: replace(view, answer=answer)}
            assert mentions(disagreements(replace(run, views=views)), plain.target, "an")

    def test_half_an_answer(self, run: Run) -> None:
        plain = plainly_answered(run)
        view = run.views[plain.sequence]
        assert view.answer is not None
        views = {**run.views, plain.sequence: replace(view, answer=replace(view.answer, is_whole=False))}
        assert mentions(disagreements(replace(run, views=views)), plain.target, "half a response")

    def test_an_unsafe_request_that_arrived_twice(self, run: Run) -> None:
        plain = plainly_answered(run, "POST")
        arrivals = {**run.arrivals, plain.sequence: [*run.arrivals[plain.sequence]] * 2}
        assert mentions(disagreements(replace(run, arrivals=arrivals)), plain.target, "2 times")

    def test_a_body_that_arrived_changed(self, run: Run) -> None:
        plain = plainly_answered(run, "POST")
        (arrival,) = run.arrivals[plain.sequence]
        arrivals = {**run.arrivals, plain.sequence: [replace(arrival, sha256="0")]}
        assert mentions(disagreements(replace(run, arrivals=arrivals)), plain.target, "its body arrived as another")

    def test_a_request_that_should_have_been_refused(self, run: Run) -> None:
        refused = next(view.request for view in run.views.values() if view.request.is_refused)
        plain = plainly_answered(run)
        arrivals = {**run.arrivals, refused.sequence: run.arrivals[plain.sequence]}
        assert mentions(disagreements(replace(run, arrivals=arrivals)), refused.target, "it has to be refused")

    def test_a_head_that_nobody_sent(self, run: Run) -> None:
        assert mentions(disagreements(replace(run, strays=[b"GET / HTTP/1.1"])), "nobody sent it")

    @pytest.mark.parametrize(
        "name",
        [
            *("requests_total", "errors_total", "operation_errors_total", "upstream_failures_total", "retries_total"),
            *("case_mismatches_total", "bodies_total", "log_events_total", "requests_in_flight"),
        ],
    )
    def test_a_metric_that_is_off_by_one(self, run: Run, name: str) -> None:
        key = next(key for key, value in run.after.items() if key[0] == name and (value or name.endswith("flight")))
        after = {**run.after, key: run.after[key] + 1}
        assert mentions(disagreements(replace(run, after=after)), "metrics: ")


async def test_no_task_is_left_behind(start_proxy: Callable[..., Awaitable[Proxied]]) -> None:
    planned: dict[int, Request] = {}
    async with upstream_for(planned) as upstream:
        times = {"upstream.response_timeout_s": "1", "upstream.idle_timeout_s": "1", "downstream.body_timeout_s": "1"}
        proxied = await start_proxy(f"http://127.0.0.1:{upstream.port}", times)
        await drive(proxied.port, planned, requests(SEED, 1), clients=1)
        at_rest = asyncio.all_tasks()
        await drive(proxied.port, planned, requests(SEED + 1, 300), clients=CLIENTS)
        await proxied.until(lambda: not proxied.sample("requests_in_flight"), within_s=15)
        await upstream.closed()
        await proxied.until(lambda: asyncio.all_tasks() <= at_rest, within_s=15)


def plainly_answered(run: Run, method: str = "GET") -> Request:
    """Return a request with `method` that met with no trouble at all."""
    return next(
        view.request
        for view in run.views.values()
        if (view.request.client, view.request.upstream, view.request.route.method) == ("plain", "answer", method)
        and view.answer is not None
        and view.answer.status == 200
        and len(run.arrivals[view.request.sequence]) == 1
    )


def with_line(run: Run, request: Request, **changes: Any) -> list[dict[str, Any]]:
    """Return the lines of `run` with `changes` to that of `request`."""
    return [{**line, **(changes if line["request_id"] == request.request_id else {})} for line in run.lines]


def mentions(problems: list[str], *words: str) -> bool:
    return any(all(word in problem for word in words) for problem in problems)
