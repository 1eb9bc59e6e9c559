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
    """An alert that fires for the series in `fires` from minute `at` on, and not for any of `quiet` at its minute."""

    alert: str
    at: int
    fires: Samples
    labels: Mapping[str, str]
    summary: str
    description: str
    quiet: tuple[tuple[str, int, Samples], ...] = ()


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


def overhead(per_minute: dict[str, float]) -> Samples:
    return {
        f'defender_proxy_overhead_seconds_bucket{{operation="isolateMachine", le="{le}"}}': f"0+{count}x40"
        for le, count in per_minute.items()
    }


# Counters grow by fractions here, for rates that come close to a limit in few steps. What needs a number of requests or
# failures needs the whole window of five minutes, as the counters begin at zero.
CASES = [
    Case(
        # 3.3 a minute, of which 5.5 % fail.
        "DefenderSidecarErrorRatioHigh", 15,
        errors("InvalidInput", 400, "upstream", "0+0.18x40")
        | requests("updateAlert", 200, "0+3.12x40") | requests("updateAlert", 400, "0+0.18x40"),
        {"severity": "warning", "code": "InvalidInput", "origin": "upstream"},
        "InvalidInput is the answer to 5.455% of the requests",
        "The sidecar sidecar:9464 has answered 5.455% of its requests with InvalidInput (origin: upstream) for 10 "
        "minutes.",
        (
            ("3-of-61", 40, errors("InvalidInput", 400, "upstream", "0+3x40")
             | requests("updateAlert", 200, "0+58x40") | requests("updateAlert", 400, "0+3x40")),
            ("all-of-2.8-a-minute", 40, errors("InvalidInput", 400, "upstream", "0+2.8x40")
             | requests("updateAlert", 400, "0+2.8x40")),
            ("no-traffic", 40, errors("InvalidInput", 400, "upstream", "9x40") | requests("updateAlert", 400, "9x40")),
            ("throttled", 40, errors("TooManyRequests", 429, "upstream", "0+60x40")
             | requests("updateAlert", 429, "0+60x40")),
            ("refused-here", 40, errors("InvalidRequestBody", 400, "proxy", "0+60x40")
             | requests("updateAlert", 400, "0+60x40")),
        ),
    ),
    Case(
        # A lookup that finds nothing is let pass until it is every second one.
        "DefenderSidecarErrorRatioHigh", 11,
        errors("ResourceNotFound", 404, "upstream", "0+33x40")
        | requests("getAlert", 200, "0+27x40") | requests("getAlert", 404, "0+33x40"),
        {"severity": "warning", "code": "ResourceNotFound", "origin": "upstream"},
        "ResourceNotFound is the answer to 55% of the requests",
        "The sidecar sidecar:9464 has answered 55% of its requests with ResourceNotFound (origin: upstream) for 10 "
        "minutes.",
        (("29-lookups-of-60", 40, errors("ResourceNotFound", 404, "upstream", "0+29x40")
          | requests("getAlert", 200, "0+31x40") | requests("getAlert", 404, "0+29x40")),),
    ),
    Case(
        "DefenderSidecarErrorRatioHigh", 11,
        errors("ContentTooLarge", 413, "proxy", "0+11x40")
        | requests("updateAlert", 200, "0+189x40") | requests("updateAlert", 413, "0+11x40"),
        {"severity": "warning", "code": "ContentTooLarge", "origin": "proxy"},
        "ContentTooLarge is the answer to 5.5% of the requests",
        "The sidecar sidecar:9464 has answered 5.5% of its requests with ContentTooLarge (origin: proxy) for 10 "
        "minutes.",
        (("3-of-61-here", 40, errors("ContentTooLarge", 413, "proxy", "0+3x40")
          | requests("updateAlert", 200, "0+58x40") | requests("updateAlert", 413, "0+3x40")),),
    ),
    Case(
        # The first request of an operation is not seen by `rate`, its error is: the ratio is 1 at the most.
        "DefenderSidecarErrorRatioHigh", 11,
        errors("ServiceUnavailable", 503, "proxy", "0+60x40") | requests("updateAlert", 503, "0+30x40"),
        {"severity": "warning", "code": "ServiceUnavailable", "origin": "proxy"},
        "ServiceUnavailable is the answer to 100% of the requests",
        "The sidecar sidecar:9464 has answered 100% of its requests with ServiceUnavailable (origin: proxy) for 10 "
        "minutes.",
    ),
    Case(
        # The series begins with its first mismatch.
        "DefenderSidecarCaseMismatch", 10,
        mismatches("rejected", "none", "_x9 1x30"),
        {"severity": "warning", "operation": "isolateMachine", "parameter": "Comment", "action": "rejected"},
        "A client misspells Comment of isolateMachine",
        "Comment of isolateMachine came to the sidecar sidecar:9464 in another spelling than documented; the body was "
        "rejected. Within 30 minutes: 1.",
        (("none-for-half-an-hour", 40, mismatches("rejected", "none", "5x40")),),
    ),
    Case(
        # A restart within the half hour.
        "DefenderSidecarCaseMismatch", 42,
        mismatches("fixed", "accepted", "5x40 2x10"),
        {"severity": "warning", "operation": "isolateMachine", "parameter": "Comment", "action": "fixed"},
        "A client misspells Comment of isolateMachine",
        "Comment of isolateMachine came to the sidecar sidecar:9464 in another spelling than documented; the body was "
        "fixed. Within 30 minutes: 2.",
    ),
    Case(
        "DefenderSidecarCatalogInDoubt", 10,
        mismatches("observed", "accepted", "_x9 1x30"),
        {
            "severity": "info", "operation": "isolateMachine", "parameter": "Comment", "action": "observed",
            "outcome": "accepted",
        },
        "The service accepts another spelling of Comment of isolateMachine",
        "The upstream of sidecar:9464 accepted a body of isolateMachine in which Comment was not spelt as the catalog "
        "has it. Within 30 minutes: 1.",
        (
            ("refused", 12, mismatches("observed", "refused", "_x9 1x30")),
            ("fixed-first", 12, mismatches("fixed", "accepted", "_x9 1x30")),
            ("none-for-half-an-hour", 40, mismatches("observed", "accepted", "5x40")),
        ),
    ),
    Case(
        # After nine minutes they are three.
        "DefenderSidecarUnauthorized", 14,
        errors("Unauthorized", 401, "upstream", "0+0.15x40") | errors("other", 401, "upstream", "0+0.2x40"),
        {"severity": "critical"},
        "The upstream does not accept the token of the client of sidecar:9464",
        "3.5 calls within 10 minutes through the sidecar sidecar:9464 ended with 401.",
        (("2.8-in-10-minutes", 40, errors("Unauthorized", 401, "upstream", "0+0.28x40")),),
    ),
    Case(
        "DefenderSidecarForbidden", 14,
        errors("Forbidden", 403, "upstream", "0+0.35x40"),
        {"severity": "warning", "code": "Forbidden"},
        "Forbidden: the client of sidecar:9464 may not do what it tries",
        "3.5 calls within 10 minutes through the sidecar sidecar:9464 were refused with 403 and Forbidden.",
        (("2.8-in-10-minutes", 40, errors("Forbidden", 403, "upstream", "0+0.28x40")),),
    ),
    Case(
        "DefenderSidecarThrottled", 20,
        throttled("0+0.075x40") | requests("runAdvancedQuery", 200, "0+1.25x40")
        | requests("runAdvancedQuery", 429, "0+0.075x40"),
        {"severity": "warning", "operation": "runAdvancedQuery"},
        "runAdvancedQuery is throttled",
        "The upstream has throttled 5.66% of the calls of runAdvancedQuery through the sidecar sidecar:9464 for 15 "
        "minutes.",
        (
            ("3-of-61", 40, throttled("0+3x40") | requests("runAdvancedQuery", 200, "0+58x40")
             | requests("runAdvancedQuery", 429, "0+3x40")),
            ("one-a-minute", 40, throttled("0+1x40") | requests("runAdvancedQuery", 429, "0+1x40")),
        ),
    ),
    Case(
        # 3.5 in the window, one in nine.
        "DefenderSidecarUpstreamUnreachable", 8,
        failures("dns_error", "0+0.7x40") | requests("listMachines", 200, "0+5.6x40")
        | requests("listMachines", 502, "0+0.7x40"),
        {"severity": "critical", "failure": "dns_error"},
        "The upstream cannot be reached: dns_error",
        "11.11% of the requests to the sidecar sidecar:9464 have failed with dns_error for 3 minutes.",
        (
            ("1-of-11", 40, failures("dns_error", "0+1x40") | requests("listMachines", 200, "0+10x40")
             | requests("listMachines", 502, "0+1x40")),
            ("2.75-in-5-minutes", 40, failures("dns_error", "0+0.55x40") | requests("listMachines", 502, "0+0.55x40")),
            ("reached-and-failing", 40, failures("http_response_timeout", "0+1x40")
             | requests("listMachines", 504, "0+1x40")),
        ),
    ),
    Case(
        "DefenderSidecarUpstreamFailing", 15,
        failures("http_response_timeout", "0+0.7x40") | requests("listMachines", 200, "0+12.1x40")
        | requests("listMachines", 504, "0+0.7x40"),
        {"severity": "warning", "failure": "http_response_timeout"},
        "The upstream is reached and fails: http_response_timeout",
        "5.469% of the requests to the sidecar sidecar:9464 have failed with http_response_timeout for 10 minutes.",
        (
            ("1-of-21", 40, failures("http_response_timeout", "0+1x40") | requests("listMachines", 200, "0+20x40")
             | requests("listMachines", 504, "0+1x40")),
            ("2.75-in-5-minutes", 40, failures("http_response_timeout", "0+0.55x40")
             | requests("listMachines", 504, "0+0.55x40")),
            ("unreachable", 40, failures("dns_error", "0+1x40") | requests("listMachines", 502, "0+1x40")),
        ),
    ),
    Case(
        "DefenderSidecarOverheadHigh", 20,
        overhead({"0.005": 50, "0.01": 98.95, "0.05": 100, "+Inf": 100}) | requests("isolateMachine", 201, "0+3.3x40"),
        {"severity": "warning"},
        "The sidecar sidecar:9464 is slow",
        "The sidecar sidecar:9464 itself has added 11.9ms to one request in a hundred for 15 minutes, waiting for "
        "either side left out.",
        (
            ("9.9-ms", 40, overhead({"0.005": 50, "0.01": 100, "0.05": 100, "+Inf": 100})
             | requests("isolateMachine", 201, "0+100x40")),
            ("2.8-a-minute", 40, overhead({"0.005": 0, "0.01": 0, "0.05": 2.8, "+Inf": 2.8})
             | requests("isolateMachine", 201, "0+2.8x40")),
        ),
    ),
    Case(
        "DefenderSidecarNotReady", 2,
        {"defender_proxy_ready": "0x10"},
        {"severity": "critical"},
        "The sidecar sidecar:9464 is not ready",
        "The sidecar sidecar:9464 has answered /readyz with 503 for 2 minutes (defender_proxy_ready is 0).",
        (("ready", 10, {"defender_proxy_ready": "1x10"}),),
    ),
    Case(
        "DefenderSidecarDown", 2,
        {"up": "0x10"},
        {"severity": "critical"},
        "The sidecar sidecar:9464 cannot be scraped",
        "Prometheus has had no metrics from sidecar:9464 (defender-sidecar) for 2 minutes (up is 0).",
        (("up", 10, {"up": "1x10"}),),
    ),
    Case(
        "DefenderSidecarReloadFailed", 5,
        reloads("failed", "0x3 1x30"),
        {"severity": "warning", "result": "failed"},
        "The sidecar sidecar:9464 did not take new settings or a new catalog",
        "Settings, catalog or certificates were changed and could not be loaded by sidecar:9464, which goes on with "
        "what it had. Attempts within 30 minutes: 1.",
        (
            ("taken", 10, reloads("ok", "0x3 1x30")),
            ("none-for-half-an-hour", 40, reloads("failed", "0x3 1x40")),
        ),
    ),
    Case(
        "DefenderSidecarLogLinesDropped", 5,
        {"defender_proxy_log_lines_dropped_total": "0x3 1x30"},
        {"severity": "warning"},
        "The sidecar sidecar:9464 loses log lines",
        "Log lines of sidecar:9464 were dropped, as nobody read them in time. Within 15 minutes: 1.",
        (("none-for-a-quarter", 25, {"defender_proxy_log_lines_dropped_total": "0x3 7x30"}),),
    ),
    Case(
        "DefenderSidecarDefect", 5,
        errors("InternalServerError", 500, "proxy", "0x3 1x30"),
        {"severity": "critical", "code": "InternalServerError", "origin": "proxy"},
        "A defect in the sidecar sidecar:9464",
        "An exchange of sidecar:9464 ended with an error in the sidecar itself. Within 30 minutes: 1.",
        (
            ("of-the-upstream", 10, errors("InternalServerError", 500, "upstream", "0x3 1x30")),
            ("none-for-half-an-hour", 40, errors("InternalServerError", 500, "proxy", "0x3 1x40")),
        ),
    ),
]  # fmt: skip


def identified(series: str) -> str:
    name, _, labels = series.rstrip("}").partition("{")
    own = ", ".join(f'{label}="{value}"' for label, value in ID.items())
    return f"{name}{{{', '.join(filter(None, (labels, own)))}}}"


def promtool_test(alert: str, samples: Samples, expected: dict[int, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return a test of `alert`: what is `expected` to fire, by minute."""
    return {
        "interval": "1m",
        "input_series": [{"series": identified(series), "values": values} for series, values in samples.items()],
        "alert_rule_test": [
            {"eval_time": f"{minute}m", "alertname": alert, "exp_alerts": alerts} for minute, alerts in expected.items()
        ],
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
        told = next((case.labels[label] for label in ("code", "action") if label in case.labels), "fires")
        yield pytest.param(
            promtool_test(case.alert, case.fires, {case.at - 1: [], case.at: fired}), id=f"{name}-{told}"
        )
        for why, minute, samples in case.quiet:
            yield pytest.param(promtool_test(case.alert, samples, {minute: []}), id=f"{name}-not-{why}")


def promtool(*arguments: str) -> None:
    done = subprocess.run([program("promtool"), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("case", [*promtool_tests()])
def test_alert(case: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "tests.yml"
    tests = {
        "rule_files": [str(RULES_FILE)],
        "evaluation_interval": "1m",
        "group_eval_order": ["defender-sidecar-records", "defender-sidecar-alerts"],
        "tests": [case],
    }
    path.write_text(yaml.safe_dump(tests), "utf-8")
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
