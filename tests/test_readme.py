"""The README says what the code does: its tables, examples and commands are read and compared."""

from __future__ import annotations

import ast
import asyncio
import io
import json
import platform
import re
import shlex
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase
from rich.console import Console

from proxy import __version__, cli
from proxy.catalog_report import find_operation, print_operation
from proxy.configuration import load_configuration
from proxy.core import tags
from proxy.core.casing import fold
from proxy.core.failure import Failure
from proxy.core.model import (
    Action,
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
from proxy.logs import LEVELS, LIBRARY_MESSAGE, REPEATED
from proxy.loop import ASYNCIO, UVLOOP
from proxy.reload import RELOAD_FAILED_EVENT, RELOADED
from proxy.resources import load_catalog, load_error_codes
from proxy.server import serving
from proxy.settings import HeaderSettings, describe, load_settings
from proxy.telemetry import Telemetry
from tests import picture
from tests.conftest import QUICK, Lines
from tests.documented import branches

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from proxy.simulator import Simulator
    from tests.conftest import Proxied

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
MASKS = (
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "GUID"),
    (r"\w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT", "DATE"),
)

# Set by HTTP itself or by fixed names; all others in the table of headers are settings.
FIXED_HEADERS = {"x-ms-error-code", "Proxy-Status", "Cache-Control", "Retry-After"}
# What may be said in the same words again, and how many sentences are more than that at the least.
SHORT_WORDS = 5
MANY = 100
ANOTHER_API = """
openapi: 3.1.0
info: {title: Brews, version: '1'}
paths:
  /v4/brews:
    post:
      operationId: orderBrew
      requestBody:
        content:
          application/json:
            schema: {type: object, properties: {BrewKind: {type: string}}}
      responses: {'201': {description: Ordered}}
"""
# Nobody is left to answer.
UNANSWERED = {"client_disconnected", "client_write_timeout"}


def section(title: str) -> str:
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def tables(text: str) -> list[list[dict[str, str]]]:
    """Return the tables in `text`, a mapping of heading to cell for each row; backticks around a cell are dropped."""
    found = []
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()]
        heads, ruler, *body = rows
        assert all(set(cell) == {"-"} for cell in ruler)
        found.append([dict(zip(heads, (bare(cell) for cell in row), strict=True)) for row in body])
    return found


def bare(cell: str) -> str:
    return cell[1:-1] if re.fullmatch(r"`[^`]*`", cell) else cell


def quoted(cell: str) -> list[str]:
    """Return what stands in backticks in a cell, or the cell itself where it is bare."""
    return re.findall(r"`([^`]+)`", cell) or [cell]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def masked(text: str) -> str:
    for pattern, mask in MASKS:
        text = re.sub(pattern, mask, text)
    return text


def test_the_two_commands_stand_on_lines_of_their_own() -> None:
    lines = README.splitlines()
    for command in ("bash .ci/demo", "bash .ci/test"):
        assert lines.count(command) == 1
        assert (ROOT / command.split()[1]).is_file()


def test_modes() -> None:
    (table,) = tables(section("The three modes"))
    assert [row["mode"] for row in table] == [mode.value for mode in Mode if mode is not Mode.OFF]
    (default,) = [row["mode"] for row in table if "default" in row["on a case mismatch"]]
    assert load_settings(None, {}, {}).settings.check.mode.value == default


def test_operations_that_are_checked() -> None:
    (table,) = tables(section("What is checked, and what never is"))
    checked = [operation for operation in load_catalog().operations if operation.is_checked]
    assert {row["operation"]: row["request"] for row in table} == {
        operation.name: f"{operation.method} {operation.template}" for operation in checked
    }


def test_spellings_that_are_a_mismatch() -> None:
    found = re.search(r"are ignored: (.*?) for `IsolationType`", README, re.DOTALL)
    assert found
    assert {fold(name) for name in quoted(found[1])} == {"isolationtype"}


def test_response_headers() -> None:
    (table,) = tables(section("Response headers"))
    names = [row["header"] for row in table]
    assert {*names} == {*HeaderSettings().model_dump().values(), *FIXED_HEADERS}
    assert len(names) == len({*names})
    (sources,) = [row["value"] for row in table if row["header"] == "X-Target-Source"]
    assert {*quoted(sources)} == {source.value for source in TargetSource}


def test_log_fields() -> None:
    _, _, table, *_ = tables(section("Log"))
    told = tags.log_fields(full_outcome(), load_error_codes())
    assert [row["field"] for row in table] == ["timestamp", "level", "event", *told]
    allowed = {name for event in tags.EVENTS for name in branches()[event]["properties"]}
    assert allowed == {"timestamp", "level", "event", *told}


def test_log_events() -> None:
    exchanges, others, *_ = tables(section("Log"))
    assert {row["event"] for row in exchanges} == {*tags.EVENTS}
    assert {row["event"] for row in (*exchanges, *others)} == {*branches()}
    for row in exchanges:
        levels = {level for level in quoted(row["level"]) if level in LEVELS}
        assert levels == {*branches()[row["event"]]["properties"]["level"]["enum"]}, row["event"]


def test_log_fields_of_other_lines() -> None:
    _, others, _, repeated, _ = tables(section("Log"))
    first = ["timestamp", "level", "event"]
    for row in others:
        _, fields = [*row.values()][2:]
        allowed = [*branches()[row["event"]]["properties"]]
        if row["event"] == REPEATED:
            assert {*first, *(name for line in repeated for name in quoted(line["field"]))} == {*allowed}
        else:
            assert {*first, *quoted(fields)} == {*allowed}, row["event"]
            assert {*quoted(row["level"])} == {*branches()[row["event"]]["properties"]["level"]["enum"]}


def test_the_schema_of_the_log_knows_the_same_words_as_the_code() -> None:
    properties = {name: schema for branch in branches().values() for name, schema in branch["properties"].items()}
    enumerated: dict[str, Iterable[str]] = {
        "target_source": TargetSource, "action": Action, "mode": {*Mode} - {Mode.OFF},
        "failure": (failure.label for failure in Failure), "loop": (UVLOOP, ASYNCIO),
        "of": (*tags.EVENTS, LIBRARY_MESSAGE),
    }  # fmt: skip
    for name, values in enumerated.items():
        assert sorted(properties[name]["enum"]) == sorted(values), name
    assert [*properties["not_fixed"]["items"]["enum"]] == [*Unfixable]
    assert [*properties["suspects"]["items"]["properties"]["suspicion"]["enum"]] == [*Suspicion]


def test_every_line_that_the_code_writes_is_in_the_schema() -> None:
    """By name and fields, as far as they stand in the call; what the tests' runs do not meet is held here as well."""
    written = set()
    for path in (ROOT / "proxy").rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text("utf-8"))):
            match call:
                case ast.Call(func=ast.Attribute(value=owner, attr=level), args=[ast.Constant(str(event)), *_]) if (
                    level in LEVELS and ast.unparse(owner).endswith("log")
                ):
                    allowed = branches()[event]["properties"]
                    assert {keyword.arg for keyword in call.keywords if keyword.arg} <= {*allowed}, event
                    assert level in allowed["level"]["enum"], event
                    written.add(event)
    assert written == {*branches()} - {*tags.EVENTS, LIBRARY_MESSAGE, REPEATED, RELOADED, RELOAD_FAILED_EVENT}


def test_explanations() -> None:
    *_, table = tables(section("Log"))
    assert [row["suspicion"] for row in table] == [suspicion.value for suspicion in Suspicion]
    _, _, explanations = section("Log").partition("### Explanations")
    help_fields = tags.log_fields(full_outcome(), load_error_codes())["help"]
    assert isinstance(help_fields, dict)
    assert {*help_fields} <= {*quoted(explanations)}


def test_reasons_not_to_fix() -> None:
    (row,) = (row for row in tables(section("Log"))[2] if row["field"] == "not_fixed")
    assert quoted(row["meaning"])[1:] == [reason.value for reason in Unfixable]


def test_metrics() -> None:
    registry = CollectorRegistry()
    telemetry = Telemetry(registry, load_catalog(), load_error_codes())
    telemetry.watch(lambda: 0, lambda: {"in_use": 0, "idle": 0})
    written = {family.name + ("_total" if family.type == "counter" else "") for family in registry.collect()}
    (table,) = tables(section("Metrics"))
    assert {f"defender_proxy_{row['metric']}" for row in table} == written
    labels = {f"defender_proxy_{row['metric']}": quoted(row["labels"]) for row in table}
    for metric in vars(telemetry).values():
        if isinstance(metric, MetricWrapperBase):
            (family,) = metric.describe()
            name = family.name + ("_total" if family.type == "counter" else "")
            assert labels.pop(name) == ([*vars(metric)["_labelnames"]] or ["none"]), name
    # These two are not kept by the object.
    assert labels.pop("defender_proxy_upstream_connections") == ["state"]
    assert {*labels} <= {"defender_proxy_build_info", "defender_proxy_catalog_operations"}
    build_info = registry.get_sample_value(
        "defender_proxy_build_info",
        dict(zip(labels["defender_proxy_build_info"], (__version__, platform.python_version()), strict=True)),
    )
    assert build_info == 1


def test_metrics_named_in_the_text_exist() -> None:
    known = {f"defender_proxy_{row['metric']}" for row in tables(section("Metrics"))[0]}
    assert {*re.findall(r"defender_proxy_\w*\w(?=`)", README)} - {"defender_proxy_"} <= known


def test_settings_and_their_defaults() -> None:
    described = {key: value for key, value, _ in describe(load_settings(None, {}, {}))}
    (table,) = tables(section("Settings"))
    for row in table:
        assert described[row["key"]] == row["default"]
    sections = {key.partition(".")[0] for key in described if "." in key}
    named = {
        name for name in re.findall(r"`([a-z_]+\.[a-z_.]+)", README) if name.partition(".")[0] in sections
    } - {path.name for path in (ROOT / "proxy").glob("*.py")}  # fmt: skip
    assert named <= {*described}


def test_flags_exist() -> None:
    catalog = (["catalog", command] for command in ("list", "show", "validate", "import-metadata"))
    commands = (["run"], ["demo"], ["simulate"], ["config", "show"], ["config", "schema"], *catalog)
    shown = "".join(help_of(*command) for command in commands)
    # Other programs have flags of their own.
    without_others = re.sub(r"\b(?:docker|kubectl) (?:[^\n`]*\\\n)*[^\n`]*", "", README)
    ours = set(re.findall(r"(?<![\w-])--[a-z]+", without_others))
    assert ours - {"--help"} <= {*re.findall(r"--[a-z]+", shown)}


def test_settings_example_is_valid(tmp_path: Path) -> None:
    (example,) = blocks("yaml")
    path = tmp_path / "mine.yaml"
    path.write_text(example)
    operations = load_settings(path, {}, {}).settings.check.operations
    assert {*operations} == {*yaml.safe_load(example)["check"]["operations"]}
    assert {*operations} <= {operation.name for operation in load_catalog().operations}


def test_failures() -> None:
    _, table = tables(section("When something fails"))
    written = {row["failure"]: (int(row["status"]), row["code"]) for row in table}
    assert written == {
        failure.label: (failure.status, failure.code) for failure in Failure if failure.label not in UNANSWERED
    }
    for label in UNANSWERED:
        assert f"`{label}`" in section("When something fails")


def test_error_codes() -> None:
    table, _ = tables(section("When something fails"))
    codes = load_error_codes()
    assert {row["code"]: int(row["status"]) for row in table} == codes.statuses
    assert {bare(row["alias"]): row["code"] for row in table if row["alias"]} == codes.aliases


def test_what_is_shown_of_an_operation() -> None:
    (excerpt,) = (block for block in blocks("console") if "catalog show" in block)
    command, _, rest = excerpt.partition("\n")
    out = io.StringIO()
    console = Console(file=out, width=104, highlight=False, markup=False, emoji=False)
    print_operation(console, find_operation(load_catalog(), command.split()[-1]))
    drawn = [line.rstrip() for line in out.getvalue().splitlines()]
    # As long a rule as the table is wide has no place in the file.
    assert [line for line in rest.splitlines() if "─" not in line] == [line for line in drawn if "─" not in line]


def test_modules() -> None:
    package = ROOT / "proxy"
    modules = {str(path.relative_to(package)) for path in package.rglob("*.py") if not path.name.startswith("__")}
    written = [row["module"] for table in tables(section("How the code is laid out")) for row in table]
    assert len(written) == len({*written})
    assert {*written} == modules


def test_excerpt_of_the_demonstration() -> None:
    (excerpt,) = blocks("text")
    shown = masked(picture.demonstration())
    for record in records(excerpt):
        assert record in shown


def test_the_picture_shows_what_the_demonstration_prints() -> None:
    anew = picture.drawn(picture.demonstration(coloured=True))
    assert masked(picture.FILE.read_text("utf-8")) == masked(anew), "draw it anew: python -m tests.picture"


def test_the_picture_and_the_text_say_the_same() -> None:
    (excerpt,) = blocks("text")
    root = ET.fromstring(picture.FILE.read_text("utf-8"))  # noqa: S314 - it is our own
    _, *lines = ("".join(element.itertext()) for element in root.iter("{http://www.w3.org/2000/svg}text"))
    without_frame = re.sub(r"[│\s]", "", "".join(records(excerpt)))
    assert masked(re.sub(r"\s", "", "".join(lines))) == without_frame


def test_the_picture_needs_nothing_from_elsewhere() -> None:
    text = picture.FILE.read_text("utf-8")
    root = ET.fromstring(text)  # noqa: S314 - it is our own
    names = {name.rpartition("}")[2] for element in root.iter() for name in (element.tag, *element.attrib)}
    assert not names & {"a", "foreignObject", "href", "image", "script", "src", "use"}
    assert not re.search(r"url\(|@import|@font-face|<[!?]", text)
    assert re.findall(r"https?:[^\"]*", text) == ["http://www.w3.org/2000/svg"]
    assert "prefers-color-scheme: dark" in text
    assert f"]({picture.FILE.relative_to(ROOT)})" in section("See it work")


def records(table: str) -> list[str]:
    """Return the calls in a table of the demonstration, what differs each time masked."""
    return [record.strip("╭╮╰╯─┬┴\n") for record in re.split(r"^├.*\n", masked(table), flags=re.MULTILINE)]


async def test_example_in_python(simulator: Simulator, start_proxy: Callable[..., Awaitable[Proxied]]) -> None:
    (example,) = blocks("python")
    proxied = await start_proxy(simulator.url)
    assert await output_of_example(example, proxied.url) == "Pending\n"
    refused = await output_of_example(example.replace('"Comment"', '"comment"'), proxied.url)
    line = await proxied.lines.event("case_mismatch")
    assert refused.splitlines() == [
        f"{line['error_code']}: {line['error_message']}",
        f"said by: proxy, target ID: {line['target_id']}",
    ]
    assert [dict(received.fields)[b"Authorization"] for received in simulator.received] == [b"Bearer made-up"]


async def output_of_example(example: str, url: str) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", example, env={"DEFENDER_URL": url, "DEFENDER_TOKEN": "made-up"}, stdout=subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()


def test_troubleshooting_says_what_the_error_codes_say() -> None:
    (table,) = tables(section("Troubleshooting"))
    helps = load_error_codes().helps
    told = [row["code"] for row in table]
    assert told == [code for code in helps if code in told]
    assert [(row["cause"], row["remedy"]) for row in table] == [
        (helps[code].cause, helps[code].remedy) for code in told
    ]


@pytest.fixture
def in_folder_of_another_api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my-api.yaml").write_text(ANOTHER_API, "utf-8")
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("in_folder_of_another_api")
async def test_commands_for_another_api(simulator: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = (block for block in blocks("sh") if "catalog validate" in block)
    validate, run = (shlex.split(line) for line in example.splitlines())
    assert run[1:-1] == ["defender-sidecar", "run", "--upstream"]
    assert await asyncio.to_thread(cli.main, validate[1:]) == 0, capsys.readouterr().err
    variables = dict([run[0].split("=", 1)])
    flags = QUICK | {"upstream.url": simulator.url}
    async with (
        serving(load_configuration(None, variables, flags), Lines()) as proxy,
        aiohttp.ClientSession() as session,
        session.post(proxy.url + "/v4/brews", json={"brew_kind": "Espresso"}) as answer,
    ):
        assert "'brew_kind' must be 'BrewKind' (POST /v4/brews)" in await answer.text()
    assert not simulator.received


async def test_example_of_a_rejection(simulator: Simulator, start_proxy: Callable[..., Awaitable[Proxied]]) -> None:
    (example,) = (block for block in blocks("console") if "curl -i" in block)
    command, _, response = example.partition("\n")
    body = re.search(r"-d '(.*)'", command)
    url = re.search(r"http://127\.0\.0\.1:8080(\S+)", command)
    assert body
    assert url
    proxied = await start_proxy(simulator.url)
    async with (
        aiohttp.ClientSession() as session,
        session.post(proxied.url + url[1], data=body[1], headers={"Content-Type": "application/json"}) as answer,
    ):
        head = [f"{name.decode()}: {value.decode()}" for name, value in answer.raw_headers]
        got = "\n".join([f"HTTP/1.1 {answer.status} {answer.reason}", *head, "", await answer.text(), ""])
    assert masked(got) == masked(response)


async def test_example_of_an_error_made_whole(
    simulator: Simulator, start_proxy: Callable[..., Awaitable[Proxied]]
) -> None:
    (example,) = (block for block in blocks("console") if "curl -s" in block)
    command, _, response = example.partition("\n")
    found = re.search(r"http://127\.0\.0\.1:8080(\S+) -H '(\S+): (.*)'", command)
    assert found
    path, name, value = found.groups()
    proxied = await start_proxy(simulator.url)
    async with (
        aiohttp.ClientSession() as session,
        session.get(proxied.url + path, headers={name: value}) as answer,
    ):
        assert masked(await answer.text()) == masked(response.rstrip("\n"))


async def test_example_of_a_log_line(simulator: Simulator, start_proxy: Callable[..., Awaitable[Proxied]]) -> None:
    (example,) = (json.loads(block) for block in blocks("json"))
    proxied = await start_proxy(simulator.url)
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            proxied.url + "/api/machines/1e5bc9d7e413/isolate",
            data='{"comment": "Beacon seen"}',
            headers={"Content-Type": "application/json"},
        ),
    ):
        line = await proxied.lines.event("case_mismatch")
    assert [*line] == [*example]
    varying = {"timestamp", "target_id", "duration_ms", "request_id"}
    assert {name: value for name, value in line.items() if name not in varying} == {
        name: value for name, value in example.items() if name not in varying
    }


@pytest.mark.parametrize("link", sorted({*re.findall(r"\]\(([^)#:]+)\)", README)}))
def test_links_lead_somewhere(link: str) -> None:
    assert (ROOT / link).exists()


def test_contents() -> None:
    contents, _, _ = README.partition("\n## ")
    titles = re.findall(r"^## (.*)$", README, re.MULTILINE)
    assert re.findall(r"\[([^\]]*)\]\(#", contents) == titles


@pytest.mark.parametrize("anchor", sorted({*re.findall(r"\]\(#([^)]*)\)", README)}))
def test_links_within_lead_to_a_heading(anchor: str) -> None:
    titles = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", README, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    assert [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles].count(anchor) == 1


def test_links_by_name_are_all_defined() -> None:
    named = re.findall(r"\[[^\]]+\]\[(\w+)\]", README)
    assert sorted(named) == sorted(re.findall(r"^\[(\w+)\]: https://", README, re.MULTILINE))


def test_no_sentence_stands_twice() -> None:
    prose = re.sub(r"^(?:```.*?^```|\|.*?)$", "", README, flags=re.MULTILINE | re.DOTALL)
    sentences = [" ".join(sentence.split()) for sentence in re.split(r"(?<=[.:;])\s+|\n\n", prose)]
    long = [sentence for sentence in sentences if sentence.count(" ") >= SHORT_WORDS]
    assert len(long) > MANY
    assert sorted(long) == sorted({*long})


def test_the_changelog_has_an_entry_for_this_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert re.search(rf"^## \[{re.escape(__version__)}\] - (Unreleased|\d{{4}}-\d\d-\d\d)$", changelog, re.MULTILINE)


def help_of(*command: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "proxy", *command, "--help"], cwd=ROOT, capture_output=True, encoding="utf-8", check=True
    ).stdout


def full_outcome() -> Outcome:
    """Return an outcome of which every field of the log has something to tell."""
    mismatch = CaseMismatch(
        Pointer("/comment"), "comment", "Comment", "Comment", Kind.NAME, required=True, conflict=False, path=(0,)
    )
    outcome = Outcome(
        method="POST", operation="isolateMachine", route=RouteTemplate("/api/machines/{id}/isolate"), status=400,
        request_id="1", duration_s=1, upstream_s=1, overhead_s=0, request_bytes=1, response_bytes=1,
        mode=Mode.OBSERVE, action=Action.OBSERVED, resend="connection_terminated", defect="Error at x.py:1",
        trace_id="1", failure=Failure.INTERNAL_ERROR,
        findings=Findings(
            (mismatch,) * 1000, (UnknownName(Pointer("/Coment"), "Coment", "Comment"),), 1, (Pointer("/a"),)
        ),
        not_fixed=(Unfixable.VALUE,), suspects=(Suspect(Suspicion.UNKNOWN_NAME, Pointer("/Coment")),), doc="x.md",
        error=ErrorTag(
            ErrorCode("Forbidden"), "Forbidden", "No.", TargetId("1"), TargetSource.ENVELOPE, Origin.UPSTREAM,
            shape="gateway", retry_after_s=1, quota=(("allowed", "45"),),
        ),
    )  # fmt: skip
    optional: list[Any] = list(outcome)
    assert optional.count(None) == 1, "only body_result is told by the metrics alone"
    return outcome
