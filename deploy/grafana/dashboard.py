"""The Grafana dashboard as code: run this file to write `dashboards/defender-sidecar.json` anew.

It needs `grafana-foundation-sdk` (the dependency group `test`). All panels take their data from the metrics themselves,
so that the dashboard works without the recording rules; the number of alerts alone needs them. Colours are named, not
numbered, so that each of Grafana's themes has its own tone of them.
"""

from __future__ import annotations

from pathlib import Path
from string import ascii_uppercase
from typing import TYPE_CHECKING, Final

from grafana_foundation_sdk.builders import common, dashboard, heatmap, logs, loki, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import heatmap as heatmap_models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from grafana_foundation_sdk.cog.builder import Builder

FILE: Final = Path(__file__).parent / "dashboards" / "defender-sidecar.json"

# Schemas of Grafana 11.6; later versions bring a dashboard up to date as they load it.
UID: Final = "defender-sidecar"
STREAM: Final = 'container="defender-sidecar"'
"""Which log lines in Loki are the sidecar's, as long as the dashboard's variable does not say otherwise."""

_INSTANCE: Final = 'instance=~"$instance"'
_OPERATION: Final = f'{_INSTANCE}, operation=~"$operation"'
_RATE: Final = "$__rate_interval"

_PROMETHEUS: Final = models.DataSourceRef(type_val="prometheus", uid="${prometheus}")
_LOKI: Final = models.DataSourceRef(type_val="loki", uid="${loki}")
_LINES: Final = "{${log_stream:raw}}"

_HEIGHT: Final = 8
_COLUMNS: Final = 24
# As the alerts have them.
_RATIO_LIMIT: Final = 0.05
_OVERHEAD_LIMIT_S: Final = 0.01

Panel = stat.Panel | timeseries.Panel | table.Panel | heatmap.Panel | logs.Panel


def metric(name: str, selector: str, window: str = "") -> str:
    """Return a selector of `defender_proxy_<name>`, over `window` where there is one."""
    return f"defender_proxy_{name}{{{selector}}}" + (f"[{window}]" if window else "")


def of_process(expression: str) -> str:
    """Return the part of `expression`, about metrics that every program has, that is about sidecars, by instance."""
    return f"sum by (instance) ({expression} and on (job, instance) {metric('build_info', _INSTANCE)})"


def rate(name: str, selector: str, by: str = "") -> str:
    """Return the sum of the rates of a counter, by the labels `by`."""
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate({metric(name, selector, _RATE)}))"


def quantile(share: float, name: str, by: str = "") -> str:
    """Return a quantile of a histogram in seconds."""
    labels = f"{by}, le" if by else "le"
    return f"histogram_quantile({share}, {rate(f'{name}_bucket', _OPERATION, labels)})"


def mean(name: str) -> str:
    """Return the mean of a histogram in seconds."""
    return f"{rate(f'{name}_sum', _OPERATION)} / {rate(f'{name}_count', _OPERATION)}"


def over_time(expression: str, legend: str = "", *, exemplars: bool = False) -> prometheus.Dataquery:
    """Return a query for the whole of the time that is shown."""
    query = prometheus.Dataquery().expr(expression).range().datasource(_PROMETHEUS)
    return query.legend_format(legend or "__auto").exemplar(exemplars)


def now(expression: str, legend: str = "") -> prometheus.Dataquery:
    """Return a query for the end of the time that is shown."""
    return prometheus.Dataquery().expr(expression).instant().datasource(_PROMETHEUS).legend_format(legend or "__auto")


def rows_now(expression: str) -> prometheus.Dataquery:
    """Return a query for the end of the time that is shown, one row for each series."""
    return now(expression).format(PromQueryFormat.TABLE)


def steps(*values: tuple[float | None, str]) -> dashboard.ThresholdsConfig:
    """Return absolute thresholds."""
    return (
        dashboard.ThresholdsConfig()
        .mode(models.ThresholdsMode.ABSOLUTE)
        .steps([models.Threshold(value=value, color=color) for value, color in values])
    )


def figure(title: str, description: str, query: prometheus.Dataquery, unit: str = "short") -> stat.Panel:
    """Return one large number."""
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(_PROMETHEUS)
        .with_target(query.ref_id("A"))
        .unit(unit)
        .height(4)
        .span(3)
        .graph_mode(common_models.BigValueGraphMode.NONE)
        .color_mode(common_models.BigValueColorMode.VALUE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(steps((None, "text")))
    )


def name_of_series(panel: stat.Panel, nothing: str) -> stat.Panel:
    """Have `panel` show what its series are called instead of their values, `nothing` where there are none."""
    return panel.text_mode(common_models.BigValueTextMode.NAME).no_value(nothing)


def graph(
    title: str, description: str, unit: str, span: int, queries: Sequence[prometheus.Dataquery | loki.Dataquery]
) -> timeseries.Panel:
    """Return lines over time with the legend below."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(_PROMETHEUS)
        .unit(unit)
        .min(0)
        .height(_HEIGHT)
        .span(span)
        .line_width(1)
        .fill_opacity(10)
        .show_points(common_models.VisibilityMode.AUTO)
        .color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
        .legend(
            common.VizLegendOptions()
            .display_mode(common_models.LegendDisplayMode.TABLE)
            .placement(common_models.LegendPlacement.BOTTOM)
            .show_legend(show_legend=True)
            .calcs(["mean", "max"])
        )
        .tooltip(
            common.VizTooltipOptions()
            .mode(common_models.TooltipDisplayMode.MULTI)
            .sort(common_models.SortOrder.DESCENDING)
        )
    )
    for letter, query in zip(ascii_uppercase, queries, strict=False):
        panel = panel.with_target(query.ref_id(letter))
    return panel


def bars(panel: timeseries.Panel) -> timeseries.Panel:
    """Stack what `panel` shows as bars: for what comes now and then, and in kinds."""
    return (
        panel.draw_style(common_models.GraphDrawStyle.BARS)
        .fill_opacity(80)
        .line_width(0)
        .stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL).group("A"))
    )


def limited(panel: timeseries.Panel, limit: float) -> timeseries.Panel:
    """Draw the limit of an alert into `panel`."""
    return panel.thresholds(steps((None, "transparent"), (limit, "orange"))).thresholds_style(
        common.GraphThresholdsStyleConfig().mode(common_models.GraphThresholdsStyleMode.DASHED)
    )


def rows(
    title: str,
    description: str,
    span: int,
    query: prometheus.Dataquery | loki.Dataquery,
    columns: Mapping[str, str],
) -> table.Panel:
    """Return a table of `columns`, heading by name, in this order; the last one is what it is sorted by."""
    *_, last = columns.values()
    return (
        table.Panel()
        .title(title)
        .description(description)
        .datasource(_PROMETHEUS)
        .with_target(query.ref_id("A"))
        .height(_HEIGHT)
        .span(span)
        .decimals(0)
        .filterable(filterable=True)
        .sort_by([common.TableSortByFieldState().display_name(last).desc(desc=True)])
        .with_transformation(
            models.DataTransformerConfig(
                id_val="organize",
                options={
                    "excludeByName": {"Time": True},
                    "indexByName": {name: index for index, name in enumerate(columns)},
                    "renameByName": dict(columns),
                },
            )
        )
    )


def overview() -> Iterator[Panel]:
    """Yield what tells at a glance whether all is well."""
    ratio = f"({rate('operation_errors_total', _OPERATION)} or vector(0)) / {rate('requests_total', _OPERATION)}"
    yield figure(
        "Requests",
        "Exchanges per second, whatever came of them.",
        over_time(rate("requests_total", _OPERATION)),
        "reqps",
    ).graph_mode(common_models.BigValueGraphMode.AREA)
    yield (
        figure("Error ratio", "Share of requests answered with 400 or above.", over_time(ratio), "percentunit")
        .thresholds(steps((None, "green"), (0.01, "yellow"), (_RATIO_LIMIT, "red")))
        .no_value("no traffic")
    )
    yield name_of_series(
        figure(
            "Most frequent error",
            "The code that most errors have had in the time that is shown; of all operations.",
            now(f"topk(1, sum by (code) (increase({metric('errors_total', _INSTANCE, '$__range')})) > 0)", "{{code}}"),
        ),
        "none",
    )
    yield figure(
        "Case mismatches",
        "Misspelt names and values in bodies since the processes began. Any at all is a mistake in a client.",
        now(f"sum({metric('case_mismatches_total', _OPERATION)}) or vector(0)"),
    ).thresholds(steps((None, "green"), (1, "orange")))
    yield figure("In flight", "Exchanges under way.", over_time(f"sum({metric('requests_in_flight', _INSTANCE)})"))
    yield (
        figure(
            "Ready",
            "Whether every instance serves; each is not ready before and while it drains.",
            now(f"min({metric('ready', _INSTANCE)})"),
        )
        .mappings(
            [
                models.ValueMap(
                    options={
                        "0": models.ValueMappingResult(text="no", color="red"),
                        "1": models.ValueMappingResult(text="yes", color="green"),
                    }
                )
            ]
        )
        .no_value("down")
    )
    yield figure(
        "Alerts",
        "Alerts of rules.yml that fire; 0 also where Prometheus has not loaded them.",
        now(f'count(ALERTS{{alertname=~"DefenderSidecar.+", alertstate="firing", {_INSTANCE}}}) or vector(0)'),
    ).thresholds(steps((None, "green"), (1, "red")))
    yield name_of_series(
        figure("Version", "What runs.", now(f"count by (version) ({metric('build_info', _INSTANCE)})", "{{version}}")),
        "none",
    )
    yield bars(
        graph(
            "Requests by status",
            "What the clients got; none: the client left before it was answered.",
            "reqps",
            12,
            [over_time(rate("requests_total", _OPERATION, "status"), "{{status}}")],
        )
    )
    yield graph(
        "Requests by operation",
        "The ten operations that are asked for most, by their names in the catalog.",
        "reqps",
        12,
        [over_time(f"topk(10, {rate('requests_total', _OPERATION, 'operation')})", "{{operation}}")],
    )


def errors() -> Iterator[Panel]:
    """Yield the errors by code, with the target IDs that support asks for."""
    yield bars(
        graph(
            "Errors by code",
            "Error responses of all operations. Each diamond is an exemplar: its target_id is what Microsoft's support "
            "asks for, and leads to the log line. Exemplars need Prometheus to run with "
            "--enable-feature=exemplar-storage.",
            "reqps",
            14,
            [
                over_time(
                    f"{rate('errors_total', _INSTANCE, 'code, origin')} > 0", "{{code}} ({{origin}})", exemplars=True
                )
            ],
        )
    )
    yield rows(
        "Errors by code, status and origin",
        "How many in the time that is shown; of all operations. The logs below have the target ID of each.",
        10,
        rows_now(
            f"sort_desc(sum by (code, status, origin) (increase({metric('errors_total', _INSTANCE, '$__range')})) > 0)"
        ),
        {"code": "code", "status": "status", "origin": "origin", "Value": "errors"},
    )
    yield bars(
        graph(
            "Errors by operation and code",
            "Which calls fail, and how.",
            "reqps",
            14,
            [
                over_time(
                    f"{rate('operation_errors_total', _OPERATION, 'operation, code')} > 0", "{{operation}} {{code}}"
                )
            ],
        )
    )
    yield (
        rows(
            "Error ratio by operation",
            "Share of the requests in the time that is shown that were answered with 400 or above.",
            10,
            rows_now(
                "sort_desc(clamp_max("
                f"sum by (operation) (increase({metric('operation_errors_total', _OPERATION, '$__range')}))"
                f" / sum by (operation) (increase({metric('requests_total', _OPERATION, '$__range')})), 1) > 0)"
            ),
            {"operation": "operation", "Value": "error ratio"},
        )
        .unit("percentunit")
        .decimals(1)
    )


def mismatches() -> Iterator[Panel]:
    """Yield the case mismatches: mistakes in clients, each of them to be mended once."""
    labels = "operation, parameter, action, outcome"
    yield bars(
        graph(
            "Mismatches by operation and parameter",
            "Misspelt names and values in bodies. The first of its kind since the start shows in the table alone.",
            "cps",
            12,
            [
                over_time(
                    f"{rate('case_mismatches_total', _OPERATION, 'operation, parameter')} > 0",
                    "{{operation}} {{parameter}}",
                )
            ],
        )
    )
    yield rows(
        "Mismatches since the start",
        "By the documented spelling, what was done (rejected, fixed, observed), and what the upstream then said (none, "
        "accepted, refused). Observed and accepted: the catalog may be stricter than the service.",
        12,
        rows_now(f"sort_desc(sum by ({labels}) ({metric('case_mismatches_total', _OPERATION)}))"),
        {
            "operation": "operation",
            "parameter": "parameter",
            "action": "action",
            "outcome": "outcome",
            "Value": "mismatches",
        },
    )
    yield bars(
        graph(
            "Mismatches by action and outcome",
            "What was done about them, and what the upstream then said.",
            "cps",
            12,
            [
                over_time(
                    f"{rate('case_mismatches_total', _OPERATION, 'action, outcome')} > 0", "{{action}}, {{outcome}}"
                )
            ],
        )
    )
    yield graph(
        "Bodies by result of the check",
        "Request bodies of operations that are checked, of all operations. too_large, not_json and unreadable were "
        "forwarded without a check.",
        "reqps",
        12,
        [over_time(rate("bodies_total", _INSTANCE, "result"), "{{result}}")],
    )


def throttling() -> Iterator[Panel]:
    """Yield what the upstream's quotas refuse."""
    throttled = rate("throttled_total", _OPERATION, "operation")
    yield graph(
        "Throttled by operation",
        "Responses with 429, or 503 and a wait, from the upstream. The log has the quota and the wait.",
        "reqps",
        12,
        [over_time(throttled, "{{operation}}")],
    )
    yield limited(
        graph(
            "Share throttled",
            "Of the operation's requests. The alert begins at the dashed line.",
            "percentunit",
            12,
            [
                over_time(
                    f"clamp_max({throttled} / {rate('requests_total', _OPERATION, 'operation')}, 1)", "{{operation}}"
                )
            ],
        ),
        _RATIO_LIMIT,
    )


def latency() -> Iterator[Panel]:
    """Yield how long exchanges take, and how much of it is the sidecar's."""
    shares = ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
    yield graph(
        "Duration",
        "From the head of the request to the end of the response.",
        "s",
        8,
        [over_time(quantile(share, "request_duration_seconds"), name) for share, name in shares],
    )
    yield graph(
        "Upstream and overhead",
        "Means: how long the upstream leg takes, and what the sidecar adds, waiting for either side left out.",
        "s",
        8,
        [
            over_time(mean("upstream_duration_seconds"), "upstream"),
            over_time(mean("overhead_seconds"), "overhead"),
        ],
    )
    yield limited(
        graph(
            "Overhead",
            "What the sidecar itself adds. The alert on p99 begins at the dashed line.",
            "s",
            8,
            [over_time(quantile(share, "overhead_seconds"), name) for share, name in shares],
        ),
        _OVERHEAD_LIMIT_S,
    )
    yield (
        heatmap.Panel()
        .title("Durations")
        .description("How many exchanges took how long.")
        .datasource(_PROMETHEUS)
        .with_target(
            prometheus.Dataquery()
            .expr(f"sum by (le) (increase({metric('request_duration_seconds_bucket', _OPERATION, _RATE)}))")
            .range()
            .ref_id("A")
            .datasource(_PROMETHEUS)
            .legend_format("{{le}}")
            .format(PromQueryFormat.HEATMAP)
        )
        .height(_HEIGHT)
        .span(12)
        .unit("short")
        .y_axis(heatmap.YAxisConfig().unit("s"))
        .exemplars_color("orange")
        .color(heatmap.HeatmapColorOptions().mode(heatmap_models.HeatmapColorMode.SCHEME).scheme("Blues").steps(32))
        .mode(common_models.TooltipDisplayMode.SINGLE)
    )
    yield graph(
        "Upstream p95 by operation",
        "The ten slowest operations of the upstream.",
        "s",
        12,
        [over_time(f"topk(10, {quantile(0.95, 'upstream_duration_seconds', 'operation')})", "{{operation}}")],
    )


def upstream() -> Iterator[Panel]:
    """Yield how the upstream leg fares."""
    yield bars(
        graph(
            "Failures of the upstream leg",
            "By failure, as in the log; of all operations. The README tells what each means.",
            "cps",
            8,
            [over_time(f"{rate('upstream_failures_total', _INSTANCE, 'failure')} > 0", "{{failure}}")],
        )
    )
    yield graph(
        "Retries",
        "Safe requests that were sent a second time, by reason; of all operations.",
        "cps",
        8,
        [over_time(rate("retries_total", _INSTANCE, "reason"), "{{reason}}")],
    )
    yield graph(
        "Upstream connections",
        "Open connections to the upstream.",
        "short",
        8,
        [over_time(f"sum by (state) ({metric('upstream_connections', _INSTANCE)})", "{{state}}")],
    )


def process() -> Iterator[Panel]:
    """Yield what the processes tell of themselves."""
    yield graph(
        "CPU",
        "Seconds of CPU per second; an instance of several processes does not tell them.",
        "percentunit",
        8,
        [over_time(of_process(f"rate(process_cpu_seconds_total{{{_INSTANCE}}}[{_RATE}])"), "{{instance}}")],
    )
    yield graph(
        "Memory",
        "Resident memory; an instance of several processes does not tell it.",
        "bytes",
        8,
        [over_time(of_process(f"process_resident_memory_bytes{{{_INSTANCE}}}"), "{{instance}}")],
    )
    yield graph(
        "File descriptors",
        "Open ones, connections above all; an instance of several processes does not tell them.",
        "short",
        8,
        [over_time(of_process(f"process_open_fds{{{_INSTANCE}}}"), "{{instance}}")],
    )
    yield graph(
        "Log lines",
        "By level; dropped: nobody read them in time; left out: others said the same.",
        "cps",
        8,
        [
            over_time(rate("log_events_total", _INSTANCE, "level"), "{{level}}"),
            over_time(rate("log_lines_dropped_total", _INSTANCE), "dropped"),
            over_time(rate("log_lines_suppressed_total", _INSTANCE), "left out"),
        ],
    )
    yield bars(
        graph(
            "Reloads",
            "Of settings, catalog and certificates. After a failed one the former ones hold.",
            "short",
            8,
            [
                over_time(
                    f"sum by (result) (increase({metric('config_reloads_total', _INSTANCE, _RATE)}))", "{{result}}"
                )
            ],
        )
    )
    yield rows(
        "Instances",
        "What runs where, and how many operations its catalog knows.",
        8,
        rows_now(
            f"max by (instance, version, python) ({metric('build_info', _INSTANCE)})"
            f" * on (instance) group_left () max by (instance) ({metric('catalog_operations', _INSTANCE)})"
        ),
        {"instance": "instance", "version": "version", "python": "Python", "Value": "operations"},
    )


def log_lines() -> Iterator[Panel]:
    """Yield what the log lines in Loki have beyond the metrics."""
    told = '| json | __error__="" | operation=~"$operation"'
    yield bars(
        graph(
            "Lines by event",
            "Log lines of the operations that are chosen.",
            "short",
            12,
            [
                loki.Dataquery()
                .expr(f"sum by (event) (count_over_time({_LINES} {told} [$__auto]))")
                .query_type("range")
                .legend_format("{{event}}")
                .datasource(_LOKI)
            ],
        ).datasource(_LOKI)
    )
    yield rows(
        "What was sent, and what it must be",
        "The first mismatch of each body, in the time that is shown.",
        12,
        loki.Dataquery()
        .expr(
            "sum by (operation, got, expected) (count_over_time("
            f'{_LINES} | json operation="operation", got="mismatches[0].got", expected="mismatches[0].expected"'
            ' | got!="" | operation=~"$operation" [$__range]))'
        )
        .query_type("instant")
        .datasource(_LOKI),
        {"operation": "operation", "got": "sent", "expected": "must be", "Value #A": "bodies"},
    ).datasource(_LOKI)
    yield (
        rows(
            "Target IDs for support",
            "The latest errors of the upstream. target_id is what Microsoft's support asks for.",
            _COLUMNS,
            loki.Dataquery()
            .expr(f'{_LINES} {told} | event="upstream_error" | target_source!="proxy"')
            .query_type("range")
            .max_lines(200)
            .datasource(_LOKI),
            {
                "timestamp": "timestamp", "operation": "operation", "status": "status", "error_code": "error_code",
                "target_id": "target_id", "request_id": "request_id", "error_message": "error_message",
                "help_remedy": "remedy",
            },
        )
        .datasource(_LOKI)
        .sort_by([common.TableSortByFieldState().display_name("timestamp").desc(desc=True)])
        # Of the labels that `json` makes, to columns; the columns that are not named above are left out.
        .transformations(
            [
                models.DataTransformerConfig(
                    id_val="extractFields", options={"source": "labels", "format": "json", "replace": True}
                ),
                models.DataTransformerConfig(
                    id_val="filterFieldsByName",
                    options={
                        "include": {
                            "names": [
                                "timestamp", "operation", "status", "error_code", "target_id", "request_id",
                                "error_message", "help_remedy",
                            ]
                        }
                    },
                ),
                models.DataTransformerConfig(
                    id_val="organize",
                    options={
                        "indexByName": {
                            "timestamp": 0, "operation": 1, "status": 2, "error_code": 3, "target_id": 4,
                            "request_id": 5, "error_message": 6, "help_remedy": 7,
                        },
                        "renameByName": {"help_remedy": "remedy"},
                    },
                ),
            ]
        )
    )  # fmt: skip
    yield (
        logs.Panel()
        .title("Errors and mismatches")
        .description("One line for each; open one for all its fields, among them help, suspects and mismatches.")
        .datasource(_LOKI)
        .with_target(
            loki.Dataquery()
            .expr(
                f'{_LINES} {told} | event=~"upstream_error|proxy_error|case_mismatch"'
                " | line_format `{{.operation}} {{.status}} {{.error_code}} {{.failure}} {{.action}} {{.target_id}}"
                " {{.error_message}}`"
            )
            .query_type("range")
            .ref_id("A")
            .max_lines(500)
            .datasource(_LOKI)
        )
        .no_value("no lines")
        .height(10)
        .span(_COLUMNS)
        .show_time(show_time=True)
        .wrap_log_message(wrap_log_message=True)
        .enable_log_details(enable_log_details=True)
        .sort_order(common_models.LogsSortOrder.DESCENDING)
        .dedup_strategy(common_models.LogsDedupStrategy.NONE)
    )


ROWS: Final = {
    "Overview": overview,
    "Errors by code": errors,
    "Case mismatches": mismatches,
    "Throttling": throttling,
    "Latency and overhead": latency,
    "Upstream": upstream,
    "Process": process,
    "Logs (Loki)": log_lines,
}


def variables() -> Iterator[Builder[models.VariableModel]]:
    """Yield what can be chosen at the top."""
    yield dashboard.DatasourceVariable("prometheus").label("Prometheus").type("prometheus")
    yield dashboard.DatasourceVariable("loki").label("Loki").type("loki")
    for name, query, everything in (
        ("instance", "label_values(defender_proxy_build_info, instance)", ".*"),
        ("operation", f"label_values(defender_proxy_requests_total{{{_INSTANCE}}}, operation)", ".+"),
    ):
        yield (
            dashboard.QueryVariable(name)
            .label(name.capitalize())
            .datasource(_PROMETHEUS)
            .query(query)
            .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(models.VariableSort.ALPHABETICAL_ASC)
            .multi(multi=True)
            .include_all(include_all=True)
            .all_value(everything)
            .current(models.VariableOption(selected=True, text="All", value="$__all"))
        )
    yield (
        dashboard.TextBoxVariable("log_stream")
        .label("Log stream")
        .description("Which log lines in Loki are the sidecar's: the labels that the log collector gives them.")
        .default_value(STREAM)
        .current(models.VariableOption(selected=True, text=STREAM, value=STREAM))
    )


def build() -> models.Dashboard:
    """Return the dashboard, its panels numbered and laid out in their order."""
    builder = (
        dashboard.Dashboard("Defender sidecar")
        .uid(UID)
        .description("Errors by code with their target IDs, case mismatches, throttling, latency and upstream health.")
        .tags(["defender-sidecar", "microsoft-defender"])
        .time("now-1h", "now")
        .refresh("30s")
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .editable()
    )
    for variable in variables():
        builder = builder.with_variable(variable)
    number = 0
    for title, panels in ROWS.items():
        number += 1
        row = dashboard.Row(title).id(number)
        # There may be no Loki: its queries are not run before somebody opens the row.
        is_folded = panels is log_lines
        if not is_folded:
            builder = builder.with_row(row)
        for panel in panels():
            number += 1
            panel.id(number)
            if is_folded:
                row = row.with_panel(panel)
            else:
                builder = builder.with_panel(panel)
        if is_folded:
            builder = builder.with_row(row.collapsed(collapsed=True))
    return builder.build()


def text() -> str:
    """Return the dashboard as the file has it."""
    return JSONEncoder(sort_keys=True, indent=2).encode(build()) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), "utf-8")
