"""The rules in `deploy/prometheus`: each alert fires when it should and not before, and all of them on real metrics."""

from __future__ import annotations

import asyncio
import re
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from proxy.resources import load_catalog, load_error_codes
from proxy.telemetry import Telemetry
from tests.observed import DEPLOY, observing
from tests.scraping import program
from tests.test_readme import section, tables

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping
    from pathlib import Path

    from tests.conftest import Reloading

RULES_FILE = DEPLOY / "prometheus" / "rules.yml"
RULES = [rule for group in yaml.safe_load(RULES_FILE.read_text("utf-8"))["groups"] for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDS = {rule["record"]: rule["expr"] for rule in RULES if "record" in rule}

ID = {"job": "defender-sidecar", "instance": "sidecar:9464"}
EVALUATED_WITHIN_S = 30.0

Samples = dict[str, str]
"""Values of series, a minute apart, in promtool's notation; `job` and `instance` are added to the labels."""


@dataclass(frozen=True, slots=True)
class Case:
    """An alert that fires at `at` for the series in `fires`, and does not for any of `quiet`."""

    alert: str
    at: str
    fires: Samples
    labels: Mapping[str, str]
    summary: str
    description: str
    quiet: tuple[tuple[str, Samples], ...]


def errors(code: str, status: int, origin: str, values: str) -> Samples:
    return {f'defender_proxy_errors_total{{code="{code}", status="{status}", origin="{origin}"}}': values}


def requests(operation: str, status: int, values: str) -> Samples:
    return {f'defender_proxy_requests_total{{operation="{operation}", status="{status}"}}': values}


def mismatches(action: str, outcome: str, values: str) -> Samples:
    labels = f'operation="isolateMachine", parameter="Comment", action="{action}", outcome="{outcome}"'
    return {f"defender_proxy_case_mismatches_total{{{labels}}}": values}


def failures(failure: str, values: str) -> Samples:
    return {f'defender_proxy_upstream_failures_total{{failure="{failure}"}}': values}


def reloads(result: str, values: str) -> Samples:
    return {f'defender_proxy_config_reloads_total{{result="{result}"}}': values}


def throttled(values: str) -> Samples:
    return {'defender_proxy_throttled_total{operation="runAdvancedQuery"}': values}


def overhead(per_minute: dict[str, int]) -> Samples:
    return {
        f'defender_proxy_overhead_seconds_bucket{{operation="isolateMachine", le="{le}"}}': f"0+{count}x40"
        for le, count in per_minute.items()
    }


CASES = [
    Case(
        "DefenderSidecarErrorRatioHigh", "25m",
        # 4 of 60 a minute.
        errors("InvalidInput", 400, "upstream", "0+4x40")
        | requests("updateAlert", 200, "0+56x40") | requests("updateAlert", 400, "0+4x40"),
        {"severity": "warning", "code": "InvalidInput", "origin": "upstream"},
        "InvalidInput is the answer to 6.667% of the requests",
        "The sidecar sidecar:9464 has answered 6.667% of its requests with InvalidInput (origin: upstream) for 10 "
        "minutes.",
        (
            ("3-of-61", errors("InvalidInput", 400, "upstream", "0+3x40")
             | requests("updateAlert", 200, "0+58x40") | requests("updateAlert", 400, "0+3x40")),
            ("all-of-2-a-minute", errors("InvalidInput", 400, "upstream", "0+2x40")
             | requests("updateAlert", 400, "0+2x40")),
            ("no-traffic", errors("InvalidInput", 400, "upstream", "9x40") | requests("updateAlert", 400, "9x40")),
            ("29-lookups-of-60", errors("ResourceNotFound", 404, "upstream", "0+29x40")
             | requests("getAlert", 200, "0+31x40") | requests("getAlert", 404, "0+29x40")),
            ("throttled", errors("TooManyRequests", 429, "upstream", "0+60x40") | requests("x", 429, "0+60x40")),
            ("refused-here", errors("InvalidRequestBody", 400, "proxy", "0+60x40") | requests("x", 400, "0+60x40")),
        ),
    ),
    Case(
        # A lookup that finds nothing is let pass until it is every second one.
        "DefenderSidecarErrorRatioHigh", "25m",
        errors("ResourceNotFound", 404, "upstream", "0+45x40")
        | requests("getAlert", 200, "0+15x40") | requests("getAlert", 404, "0+45x40"),
        {"severity": "warning", "code": "ResourceNotFound", "origin": "upstream"},
        "ResourceNotFound is the answer to 75% of the requests",
        "The sidecar sidecar:9464 has answered 75% of its requests with ResourceNotFound (origin: upstream) for 10 "
        "minutes.",
        (),
    ),
    Case(
        # The first request of an operation is not seen by `rate`, its error is: the ratio is 1 at the most.
        "DefenderSidecarErrorRatioHigh", "25m",
        errors("ServiceUnavailable", 503, "proxy", "0+60x40") | requests("updateAlert", 503, "0+30x40"),
        {"severity": "warning", "code": "ServiceUnavailable", "origin": "proxy"},
        "ServiceUnavailable is the answer to 100% of the requests",
        "The sidecar sidecar:9464 has answered 100% of its requests with ServiceUnavailable (origin: proxy) for 10 "
        "minutes.",
        (),
    ),
    Case(
        # The series begins with its first mismatch.
        "DefenderSidecarCaseMismatch", "12m",
        mismatches("rejected", "none", "_x9 1x30"),
        {"severity": "warning", "operation": "isolateMachine", "parameter": "Comment", "action": "rejected"},
        "A client misspells Comment of isolateMachine",
        "Comment of isolateMachine came to the sidecar sidecar:9464 in another spelling than documented; the body was "
        "rejected. Within 30 minutes: 1.",
        (("just-now", mismatches("rejected", "none", "_x12 1x30")),),
    ),
    Case(
        "DefenderSidecarCaseMismatch", "45m",
        # A restart within the half hour.
        mismatches("fixed", "accepted", "5x40 2x10"),
        {"severity": "warning", "operation": "isolateMachine", "parameter": "Comment", "action": "fixed"},
        "A client misspells Comment of isolateMachine",
        "Comment of isolateMachine came to the sidecar sidecar:9464 in another spelling than documented; the body was "
        "fixed. Within 30 minutes: 2.",
        (("longer-ago", mismatches("fixed", "accepted", "5x60")),),
    ),
    Case(
        "DefenderSidecarCatalogInDoubt", "12m",
        mismatches("observed", "accepted", "_x9 1x30"),
        {
            "severity": "info", "operation": "isolateMachine", "parameter": "Comment", "action": "observed",
            "outcome": "accepted",
        },
        "The service accepts another spelling of Comment of isolateMachine",
        "The upstream of sidecar:9464 accepted a body of isolateMachine in which Comment was not spelt as the catalog "
        "has it. Within 30 minutes: 1.",
        (
            ("refused", mismatches("observed", "refused", "_x9 1x30")),
            ("fixed-first", mismatches("fixed", "accepted", "_x9 1x30")),
        ),
    ),
    Case(
        "DefenderSidecarUnauthorized", "30m",
        # A steady rate has the same `increase` in any window; its counter may stand at fractions.
        errors("Unauthorized", 401, "upstream", "0+0.3x40") | errors("other", 401, "upstream", "0+0.2x40"),
        {"severity": "critical"},
        "The upstream does not accept the token of the client of sidecar:9464",
        "5 calls within 10 minutes through the sidecar sidecar:9464 ended with 401.",
        (("2-in-10-minutes", errors("Unauthorized", 401, "upstream", "0+0.2x40")),),
    ),
    Case(
        "DefenderSidecarForbidden", "30m",
        errors("Forbidden", 403, "upstream", "0+0.5x40"),
        {"severity": "warning", "code": "Forbidden"},
        "Forbidden: the client of sidecar:9464 may not do what it tries",
        "5 calls within 10 minutes through the sidecar sidecar:9464 were refused with 403 and Forbidden.",
        (("2-in-10-minutes", errors("Forbidden", 403, "upstream", "0+0.2x40")),),
    ),
    Case(
        "DefenderSidecarThrottled", "25m",
        throttled("0+4x40") | requests("runAdvancedQuery", 200, "0+56x40")
        | requests("runAdvancedQuery", 429, "0+4x40"),
        {"severity": "warning", "operation": "runAdvancedQuery"},
        "runAdvancedQuery is throttled",
        "The upstream has throttled 6.667% of the calls of runAdvancedQuery through the sidecar sidecar:9464 for 15 "
        "minutes.",
        (
            ("3-of-61", throttled("0+3x40") | requests("runAdvancedQuery", 200, "0+58x40")
             | requests("runAdvancedQuery", 429, "0+3x40")),
            ("one-a-minute", throttled("0+1x40") | requests("runAdvancedQuery", 429, "0+1x40")),
        ),
    ),
    Case(
        "DefenderSidecarUpstreamUnreachable", "15m",
        failures("dns_error", "0+1x40") | requests("listMachines", 200, "0+4x40")
        | requests("listMachines", 502, "0+1x40"),
        {"severity": "critical", "failure": "dns_error"},
        "The upstream cannot be reached: dns_error",
        "20% of the requests to the sidecar sidecar:9464 have failed with dns_error for 3 minutes.",
        (
            ("1-of-11", failures("dns_error", "0+1x40") | requests("listMachines", 200, "0+10x40")
             | requests("listMachines", 502, "0+1x40")),
            ("twice-in-5-minutes", failures("dns_error", "0+0.4x40") | requests("listMachines", 502, "0+0.4x40")),
            ("reached-and-failing", failures("http_response_timeout", "0+1x40")
             | requests("listMachines", 504, "0+1x40")),
        ),
    ),
    Case(
        "DefenderSidecarUpstreamFailing", "25m",
        failures("http_response_timeout", "0+1x40") | requests("listMachines", 200, "0+14x40")
        | requests("listMachines", 504, "0+1x40"),
        {"severity": "warning", "failure": "http_response_timeout"},
        "The upstream is reached and fails: http_response_timeout",
        "6.667% of the requests to the sidecar sidecar:9464 have failed with http_response_timeout for 10 minutes.",
        (
            ("1-of-21", failures("http_response_timeout", "0+1x40") | requests("listMachines", 200, "0+20x40")
             | requests("listMachines", 504, "0+1x40")),
            ("twice-in-5-minutes", failures("http_response_timeout", "0+0.4x40")
             | requests("listMachines", 504, "0+0.4x40")),
            ("unreachable", failures("dns_error", "0+1x40") | requests("listMachines", 502, "0+1x40")),
        ),
    ),
    Case(
        "DefenderSidecarOverheadHigh", "25m",
        overhead({"0.005": 50, "0.01": 98, "0.05": 100, "+Inf": 100}) | requests("isolateMachine", 201, "0+100x40"),
        {"severity": "warning"},
        "The sidecar sidecar:9464 is slow",
        "The sidecar sidecar:9464 itself has added 30ms to one request in a hundred for 15 minutes, waiting for either "
        "side left out.",
        (
            ("below-10-ms", overhead({"0.005": 50, "0.01": 100, "0.05": 100, "+Inf": 100})
             | requests("isolateMachine", 201, "0+100x40")),
            ("hardly-any", overhead({"0.005": 0, "0.01": 0, "0.05": 2, "+Inf": 2})
             | requests("isolateMachine", 201, "0+2x40")),
        ),
    ),
    Case(
        "DefenderSidecarNotReady", "3m",
        {"defender_proxy_ready": "0x10"},
        {"severity": "critical"},
        "The sidecar sidecar:9464 is not ready",
        "The sidecar sidecar:9464 has answered /readyz with 503 for 2 minutes (defender_proxy_ready is 0).",
        (("since-a-minute", {"defender_proxy_ready": "1x1 0x10"}), ("ready", {"defender_proxy_ready": "1x10"})),
    ),
    Case(
        "DefenderSidecarDown", "3m",
        {"up": "0x10"},
        {"severity": "critical"},
        "The sidecar sidecar:9464 cannot be scraped",
        "Prometheus has had no metrics from sidecar:9464 (defender-sidecar) for 2 minutes (up is 0).",
        (("since-a-minute", {"up": "1x1 0x10"}), ("up", {"up": "1x10"})),
    ),
    Case(
        "DefenderSidecarReloadFailed", "10m",
        reloads("failed", "0x3 1x30"),
        {"severity": "warning", "result": "failed"},
        "The sidecar sidecar:9464 did not take new settings or a new catalog",
        "Settings, catalog or certificates were changed and could not be loaded by sidecar:9464, which goes on with "
        "what it had. Attempts within 30 minutes: 1.",
        (("taken", reloads("ok", "0x3 1x30")), ("none-since-the-start", reloads("failed", "1x30"))),
    ),
    Case(
        "DefenderSidecarLogLinesDropped", "10m",
        {"defender_proxy_log_lines_dropped_total": "0x3 7x30"},
        {"severity": "warning"},
        "The sidecar sidecar:9464 loses log lines",
        "Log lines of sidecar:9464 were dropped, as nobody read them in time. Within 15 minutes: 7.",
        (("none-since-the-start", {"defender_proxy_log_lines_dropped_total": "7x30"}),),
    ),
    Case(
        "DefenderSidecarDefect", "10m",
        errors("InternalServerError", 500, "proxy", "0x3 1x30"),
        {"severity": "critical", "code": "InternalServerError", "origin": "proxy"},
        "A defect in the sidecar sidecar:9464",
        "An exchange of sidecar:9464 ended with an error in the sidecar itself. Within 30 minutes: 1.",
        (("of-the-upstream", errors("InternalServerError", 500, "upstream", "0x3 1x30")),),
    ),
]  # fmt: skip


def identified(series: str) -> str:
    name, _, labels = series.rstrip("}").partition("{")
    own = ", ".join(f'{label}="{value}"' for label, value in ID.items())
    return f"{name}{{{', '.join(filter(None, (labels, own)))}}}"


def promtool_test(case: Case, samples: Samples, expected: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "interval": "1m",
        "input_series": [{"series": identified(series), "values": values} for series, values in samples.items()],
        "alert_rule_test": [{"eval_time": case.at, "alertname": case.alert, "exp_alerts": expected}],
    }


def promtool_tests() -> Iterator[Any]:
    for case in CASES:
        annotations = {
            "summary": case.summary,
            "description": case.description,
            "runbook": ALERTS[case.alert]["annotations"]["runbook"],
        }
        fired = [{"exp_labels": {**ID, **case.labels}, "exp_annotations": annotations}]
        name = case.alert.removeprefix("DefenderSidecar")
        yield pytest.param(promtool_test(case, case.fires, fired), id=f"{name}-{case.labels.get('code', 'fires')}")
        for why, samples in case.quiet:
            yield pytest.param(promtool_test(case, samples, []), id=f"{name}-not-{why}")


def promtool(*arguments: str) -> None:
    done = subprocess.run([program("promtool"), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("case", [*promtool_tests()])
def test_alert(case: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "tests.yml"
    path.write_text(
        yaml.safe_dump({"rule_files": [str(RULES_FILE)], "evaluation_interval": "1m", "tests": [case]}), "utf-8"
    )
    promtool("test", "rules", str(path))


def test_every_alert_has_its_cases() -> None:
    assert {case.alert for case in CASES} == {*ALERTS}
    assert {case.alert for case in CASES if case.quiet} == {*ALERTS}


def test_promtool_finds_no_fault_in_the_files() -> None:
    promtool("check", "rules", "--lint=all", "--lint-fatal", str(RULES_FILE))
    promtool("check", "config", str(DEPLOY / "prometheus" / "prometheus.yml"))


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_what_to_do(name: str) -> None:
    rule = ALERTS[name]
    assert {*rule} == {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in {"info", "warning", "critical"}
    assert {*rule["annotations"]} == {"summary", "description", "runbook"}
    assert "$value" in rule["annotations"]["description"]
    runbook = rule["annotations"]["runbook"]
    assert "Look first" in runbook
    assert re.search(r"[Tt]arget IDs?|target_id", runbook)


def test_the_readme_tells_of_every_alert() -> None:
    _, table = tables(section("Dashboards and alerts"))
    assert [(row["alert"], row["severity"], row["for"]) for row in table] == [
        (name, rule["labels"]["severity"], rule["for"]) for name, rule in ALERTS.items()
    ]
    assert all(row["when"] for row in table)


@pytest.mark.parametrize("name", RECORDS)
def test_a_recording_rule_is_named_as_prometheus_advises(name: str) -> None:
    level, metric, operations = name.split(":")
    assert level.split("_")[0] == "instance"
    assert metric.startswith("defender_proxy_")
    assert re.fullmatch(r"rate5m|ratio_rate5m|p99_rate5m|delta30m", operations)


def test_the_metrics_and_failures_named_exist() -> None:
    registry = CollectorRegistry()
    Telemetry(registry, load_catalog(), load_error_codes())
    written = {family.name for family in registry.collect()}
    failures = {sample.labels["failure"] for family in registry.collect() if family.name.endswith("upstream_failures")
                for sample in family.samples}  # fmt: skip
    codes = {sample.labels["code"] for family in registry.collect() if family.name == "defender_proxy_errors"
             for sample in family.samples}  # fmt: skip
    for rule in RULES:
        for metric in re.findall(r"(?<![:\w])defender_proxy_\w+", rule["expr"]):
            assert re.sub(r"_(total|bucket)$", "", metric) in written
        for record in re.findall(r"\w+:defender_proxy_\w+:\w+", rule["expr"]):
            assert record in RECORDS
        for label, known in (("failure", failures), ("code", codes)):
            for values in re.findall(rf'{label}[!=]~?"([^"]+)"', rule["expr"]):
                assert {*values.split("|")} <= known


async def test_a_real_prometheus_evaluates_them(
    start_reloading: Callable[..., Awaitable[Reloading]], tmp_path: Path
) -> None:
    async with observing(start_reloading, tmp_path) as observed:
        prometheus = observed.prometheus
        expected = {
            f"DefenderSidecar{name}"
            for name in (
                "CaseMismatch", "CatalogInDoubt", "ErrorRatioHigh", "Forbidden", "ReloadFailed", "Throttled",
                "Unauthorized", "UpstreamFailing", "UpstreamUnreachable",
            )
        }  # fmt: skip
        unevaluated, firing = {*RECORDS}, dict[str, list[dict[str, Any]]]()
        deadline = time.monotonic() + EVALUATED_WITHIN_S
        while (unevaluated or not expected <= {*firing}) and time.monotonic() < deadline:
            for record in sorted(unevaluated):
                found = (await prometheus.api("query", query=record))["result"]
                if any(sample["value"][1] != "NaN" for sample in found):
                    unevaluated.discard(record)
            firing.clear()
            for alert in (await prometheus.api("alerts"))["alerts"]:
                if alert["state"] == "firing":
                    firing.setdefault(alert["labels"]["alertname"], []).append(alert)
            await asyncio.sleep(0.2)
        assert (unevaluated, expected - {*firing}) == (set(), set())
        assert not {*firing} & {f"DefenderSidecar{name}" for name in ("Defect", "Down", "LogLinesDropped", "NotReady")}

        told = [text for alerts in firing.values() for alert in alerts for text in alert["annotations"].values()]
        assert not [text for text in told if "<no value>" in text or "error expanding" in text]
        assert {alert["labels"]["failure"] for alert in firing["DefenderSidecarUpstreamUnreachable"]} == {
            "connection_refused"
        }
        assert {
            (alert["labels"]["operation"], alert["labels"]["parameter"], alert["labels"]["action"])
            for alert in firing["DefenderSidecarCaseMismatch"]
        } == {
            ("isolateMachine", "Comment", "rejected"),
            ("runAntiVirusScan", "Comment", "fixed"),
            ("runAntiVirusScan", "ScanType", "fixed"),
            ("unisolateMachine", "Comment", "observed"),
        }
        groups = (await prometheus.api("rules"))["groups"]
        assert not [rule["lastError"] for group in groups for rule in group["rules"] if "lastError" in rule]
