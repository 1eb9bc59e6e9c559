"""The Grafana dashboard: file and code agree, and every query of every panel has an answer on real metrics."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
import time
from itertools import combinations
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from proxy.core import tags
from proxy.resources import load_error_codes
from tests.observed import DEPLOY, exemplars, observing
from tests.test_readme import full_outcome

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from tests.conftest import Reloading

GRAFANA = DEPLOY / "grafana"
DASHBOARD: dict[str, Any] = json.loads((GRAFANA / "dashboards" / "defender-sidecar.json").read_text("utf-8"))
VARIABLES = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}

# What Grafana puts in place of its variables, where everything is chosen. The run is a short one.
SUBSTITUTED = {
    "$__rate_interval": "1m",
    "$__range": "5m",
    "$__auto": "1m",
    "$instance": VARIABLES["instance"]["allValue"],
    "$operation": VARIABLES["operation"]["allValue"],
    "${log_stream:raw}": VARIABLES["log_stream"]["query"],
}


def panels() -> Iterator[dict[str, Any]]:
    """Yield all panels, those of folded rows and the rows themselves included."""
    for panel in DASHBOARD["panels"]:
        yield panel
        yield from panel.get("panels") or ()


CHARTS = [panel for panel in panels() if panel["type"] != "row"]
QUERIES = [(panel, target) for panel in CHARTS for target in panel["targets"]]


def queries(kind: str) -> list[Any]:
    """Return each query for a data source of `kind`, with its panel's title."""
    return [
        pytest.param(target, id=f"{panel['title']}-{index}")
        for panel in CHARTS
        for index, target in enumerate(panel["targets"])
        if target["datasource"]["type"] == kind
    ]


def substituted(expression: str) -> str:
    for name, value in SUBSTITUTED.items():
        expression = expression.replace(name, value)
    assert "$" not in expression, expression
    return expression


def module() -> Any:
    """Return the code of the dashboard, which is a script and in no package."""
    spec = importlib.util.spec_from_file_location("defender_sidecar_dashboard", GRAFANA / "dashboard.py")
    assert spec
    assert spec.loader
    code = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = code
    spec.loader.exec_module(code)
    return code


def test_the_file_is_what_the_code_writes() -> None:
    assert module().text() == (GRAFANA / "dashboards" / "defender-sidecar.json").read_text("utf-8")


def test_the_rows() -> None:
    assert [panel["title"] for panel in panels() if panel["type"] == "row"] == [
        "Overview", "Errors by code", "Case mismatches", "Throttling", "Latency and overhead", "Upstream", "Process",
        "Logs (Loki)",
    ]  # fmt: skip


def test_the_variables() -> None:
    assert [(name, variable["type"]) for name, variable in VARIABLES.items()] == [
        ("prometheus", "datasource"),
        ("loki", "datasource"),
        ("instance", "query"),
        ("operation", "query"),
        ("log_stream", "textbox"),
    ]


def test_every_panel_has_a_number_of_its_own() -> None:
    numbers = [panel["id"] for panel in panels()]
    assert len(numbers) == len({*numbers})
    assert all(numbers)


def test_no_panel_lies_on_another_or_beside_the_grid() -> None:
    def cells(panel: dict[str, Any]) -> set[tuple[int, int]]:
        at = panel["gridPos"]
        return {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}

    for panel in panels():
        assert all(0 <= x < 24 for x, _ in cells(panel)), panel["title"]
    for one, other in combinations(panels(), 2):
        assert not cells(one) & cells(other), (one["title"], other["title"])


def test_every_line_of_the_grid_is_filled() -> None:
    for panel in CHARTS:
        at = panel["gridPos"]
        beside = sum(other["gridPos"]["w"] for other in CHARTS if other["gridPos"]["y"] == at["y"])
        assert beside == 24, panel["title"]


@pytest.mark.parametrize("panel", CHARTS, ids=lambda panel: panel["title"])
def test_a_panel_says_what_it_shows(panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
    assert [target["refId"] for target in panel["targets"]] == [*"ABC"[: len(panel["targets"])]]
    if panel["type"] in {"stat", "timeseries", "heatmap"}:
        assert panel["fieldConfig"]["defaults"]["unit"]
    sources = {panel["datasource"]["uid"], *(target["datasource"]["uid"] for target in panel["targets"])}
    assert sources in ({"${prometheus}"}, {"${loki}"})


def test_no_colour_is_a_number() -> None:
    assert not re.search(r'"#[0-9a-fA-F]{3,8}"|rgba?\(', json.dumps(DASHBOARD))


def test_exemplars_are_asked_for_where_they_are() -> None:
    asked = [target["expr"] for _, target in QUERIES if target.get("exemplar")]
    assert asked
    assert all("defender_proxy_errors_total" in expression for expression in asked)


async def test_every_query_has_an_answer(start_reloading: Callable[..., Awaitable[Reloading]], tmp_path: Path) -> None:
    began = time.time()
    async with observing(start_reloading, tmp_path) as observed:
        prometheus, ended = observed.prometheus, time.time() + 1
        for panel, target in QUERIES:
            if target["datasource"]["type"] != "prometheus":
                continue
            expression = substituted(target["expr"])
            if target.get("instant"):
                found = (await prometheus.api("query", query=expression))["result"]
                values = [series["value"][1] for series in found]
            else:
                found = (
                    await prometheus.api(
                        "query_range", query=expression, start=str(began), end=str(ended), step="1"
                    )
                )["result"]  # fmt: skip
                values = [value for series in found for _, value in series["values"]]
            assert [value for value in values if value != "NaN"], (panel["title"], expression)
            labels = {label for series in found for label in series["metric"]}
            assert {*re.findall(r"{{(\w+)}}", target.get("legendFormat", ""))} <= labels, panel["title"]

        for name in ("instance", "operation"):
            query = substituted(VARIABLES[name]["query"].replace("label_values", ""))
            selector, label = query.strip("()").rsplit(", ", 1)
            series = await prometheus.api("series", **{"match[]": selector})
            assert {each[label] for each in series}, name

        (expression,) = (substituted(target["expr"]) for _, target in QUERIES if target.get("exemplar"))
        shown = await exemplars(observed, expression, began, ended)
    assert {*shown} == {*observed.targets}
    for of, told in shown.items():
        assert set(told) <= set(observed.targets[of])  # a scrape meets the latest alone
        assert told[-1] == observed.targets[of][-1]


@pytest.mark.parametrize("panel", [panel for panel in CHARTS if panel["type"] == "table"], ids=lambda p: p["title"])
def test_a_table_names_the_columns_that_its_query_has(panel: dict[str, Any]) -> None:
    (target,) = panel["targets"]
    options = panel["transformations"][-1]["options"]
    columns = {*options["indexByName"]}
    assert {*options["renameByName"]} <= columns
    if grouped := re.search(r"(?:sum|max) by \(([^)]*)\)", target["expr"]):
        labels = {*grouped[1].split(", ")}
        assert {column for column in columns if not column.startswith("Value")} == labels
    else:
        assert columns <= log_labels()
    if panel["options"].get("sortBy"):
        shown = {options["renameByName"].get(column, column) for column in columns}
        assert {by["displayName"] for by in panel["options"]["sortBy"]} <= shown


def log_labels() -> set[str]:
    """Return the labels that LogQL's `json` makes of the log lines: lists have none, objects one for each member."""
    labels = {"timestamp", "level", "event"}
    for name, value in tags.log_fields(full_outcome(), load_error_codes()).items():
        match value:
            case dict():
                labels |= {f"{name}_{member}" for member in value}
            case list():
                pass
            case _:
                labels.add(name)
    return labels


@pytest.mark.parametrize("target", queries("loki"))
def test_a_query_for_log_lines_names_documented_fields(target: dict[str, Any]) -> None:
    expression = substituted(target["expr"])
    assert f"{{{VARIABLES['log_stream']['query']}}} | json" in expression
    stages = expression.partition("} | json")[2]
    # json NAME="PATH": the path is into the line, and the name is a label from then on.
    paths = dict(re.findall(r'(\w+)="([\w\[\].]+)"(?=,| \|)', stages.partition(" | ")[0] + " |"))
    fields = tags.log_fields(full_outcome(), load_error_codes())
    for path in paths.values():
        at: Any = fields
        for step in re.findall(r"\w+", path):
            at = at[int(step)] if step.isdecimal() else at[step]
    known = {*paths} if paths else log_labels()
    compared = {*re.findall(r'\| (\w+)(?:=~|!=|=)["`]', stages)} - {"__error__"}
    shown = {*re.findall(r"{{\.(\w+)}}", stages)}
    grouped = {name for names in re.findall(r"by \(([^)]*)\)", expression) for name in names.split(", ")}
    assert compared
    assert compared | shown | grouped <= known
    events = {tags.CASE_MISMATCH, tags.UPSTREAM_ERROR, tags.PROXY_ERROR, tags.REQUEST}
    for values in re.findall(r'event=~?"([^"]*)"', stages):
        assert {*values.split("|")} <= events


def test_an_exemplar_leads_to_the_log_line() -> None:
    files = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "defender-sidecar.yml").read_text("utf-8"))
    prometheus, loki = files["datasources"]
    (destination,) = prometheus["jsonData"]["exemplarTraceIdDestinations"]
    assert destination["name"] == "target_id"
    # Provisioning reads $$ as one $.
    url = urlsplit(destination["url"].replace("$$", "$"))
    assert url.path == "/explore"
    (pane,) = json.loads(parse_qs(url.query)["panes"][0]).values()
    assert pane["datasource"] == loki["uid"]
    (query,) = pane["queries"]
    assert query["expr"] == f"{{{VARIABLES['log_stream']['query']}}} | json | target_id=`${{__value.raw}}`"
    scraped = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text("utf-8"))
    assert prometheus["jsonData"]["timeInterval"] == scraped["global"]["scrape_interval"]


def test_the_dashboard_is_provisioned() -> None:
    (provider,) = yaml.safe_load(
        (GRAFANA / "provisioning" / "dashboards" / "defender-sidecar.yml").read_text("utf-8")
    )["providers"]  # fmt: skip
    assert provider["type"] == "file"
    assert provider["options"]["path"] == "/var/lib/grafana/dashboards"
