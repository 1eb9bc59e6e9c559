"""Layers: what a file, a variable or a flag can say, and where each problem stood."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from proxy.core.model import Mode
from proxy.settings import Settings, load_settings
from tests.loading import problem, problems, variable

if TYPE_CHECKING:
    from collections.abc import Callable


# The file.


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("", id="empty"),
        pytest.param("# nothing\n", id="comment"),
        pytest.param("---\n", id="document-start"),
        pytest.param("{}", id="empty-mapping"),
        pytest.param("\ufeffworkers: 1", id="byte-order-mark"),
        pytest.param("upstream:\n  # url: https://host\n", id="section-commented-out"),
        pytest.param("check:\n  operations:\ncatalog:\n  files:\n", id="collections-commented-out"),
        pytest.param("workers: 1\r\nupstream:\r\n  max_connections: 100\r\n", id="carriage-returns"),
        pytest.param("upstream: {connect_timeout_s: 10}", id="whole-seconds"),
        pytest.param("workers: &one 1\n", id="anchor"),
    ],
)
def test_a_file_may_say_no_more_than_the_defaults(content: str, written: Callable[[str], Path]) -> None:
    assert load_settings(written(content), {}, {}).settings == Settings()


@pytest.mark.parametrize(
    ("content", "place", "message"),
    [
        pytest.param("a: b: c", ":1:5", "must be valid YAML: mapping values are not allowed", id="colon"),
        pytest.param("listen: [", ":2:1|:1:10", "must be valid YAML: while parsing a flow node", id="open-list"),
        pytest.param("a: 1\nb: \x01", ":2:4", "control characters must be escaped", id="control-character"),
        pytest.param("a: 1\n---\nb: 1", ":2:1", "expected a single document", id="two-documents"),
        pytest.param("- listen", ":1", "must be a mapping of settings", id="list"),
        pytest.param("\nlisten", ":2", "must be a mapping of settings", id="scalar"),
        pytest.param(b"a: 1\nb: \xff", ":2", "must be UTF-8 text", id="latin-1"),
        pytest.param("listen: x".encode("utf-16"), ":1", "must be UTF-8 text", id="utf-16"),
        pytest.param("[" * 100_000, ":1|:1:1001", "nested at most 32|maximum nesting depth", id="nested-without-end"),
        pytest.param("- " * 100_000, ":1", "nested at most 32 levels", id="nested-in-blocks"),
        pytest.param("#" * (1 << 20) + "\n", "", "must be at most 1048576 bytes", id="a-mebibyte"),
    ],
)
def test_a_file_that_cannot_be_read_says_where(
    content: str | bytes, place: str, message: str, written: Callable[[str | bytes], Path]
) -> None:
    path = written(content)
    found = problem(path)
    assert found.key == "config"
    assert found.origin in [f"{path}{each}" for each in place.split("|")]
    assert any(each in found.message for each in message.split("|"))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert problem(tmp_path / "none.yaml").message == "must name a file that is there; without one, the defaults hold"
    assert problem(tmp_path).message == "must name a file, not a folder"
    assert "must name a file that can be read" in problem(tmp_path / ("x" * 300)).message
    assert problem(Path("a\0b")).message == "must name a file, without the character NUL"


def test_problems_of_the_environment_are_told_beside_a_broken_file(tmp_path: Path) -> None:
    found = problems(tmp_path / "none.yaml", {variable("log.level"): "loud"})
    assert [each.key for each in found] == ["config", "log.level"]


@pytest.mark.parametrize(
    ("content", "key", "value", "line", "message"),
    [
        pytest.param("listen: 8080", "listen", "8080", 1, "did you mean 127.0.0.1:8080?", id="number-for-an-address"),
        pytest.param("listen: 1:30", "listen", "1:30", 1, "must be HOST:PORT", id="sexagesimal"),
        pytest.param("drain:\n delay_s: 1:30", "drain.delay_s", "1:30", 2, "seconds", id="sexagesimal-seconds"),
        pytest.param("limits: {fields: 010}", "limits.fields", "010", 1, "whole number", id="octal"),
        pytest.param("limits: {fields: '10'}", "limits.fields", "10", 1, "whole number", id="number-in-quotes"),
        pytest.param("limits: {fields: true}", "limits.fields", "true", 1, "whole number", id="truth-for-a-number"),
        pytest.param("drain: {delay_s: .inf}", "drain.delay_s", ".inf", 1, "seconds", id="infinity"),
        pytest.param("drain: {delay_s: .nan}", "drain.delay_s", ".nan", 1, "seconds", id="nan"),
        pytest.param("log: {requests: 1}", "log.requests", "1", 1, "true or false", id="number-for-a-truth"),
        pytest.param("log: {requests: 'yes'}", "log.requests", "yes", 1, "did you mean true?", id="truth-in-quotes"),
        pytest.param("check: {mode: off}", "check.mode", "off", 1, "`off` goes under", id="off-is-false-in-yaml"),
        pytest.param("check: {mode: on}", "check.mode", "on", 1, "must be reject, fix or observe", id="on-is-true"),
        pytest.param("check: {operations: {a: on}}", "check.operations.a", "on", 1, "must be", id="on-for-operation"),
        pytest.param("check: {operations: [a]}", "check.operations", "[…]", 1, "must be a mapping of", id="list"),
        pytest.param("upstream: https://host", "upstream", "https://host", 1, "keys such as url", id="no-section"),
        pytest.param("upstream: []", "upstream", "[…]", 1, "must be a mapping of keys", id="list-for-a-section"),
        pytest.param("listen:", "listen", "null", 1, "must be HOST:PORT", id="null"),
        pytest.param("listen: {host: x}", "listen", "{…}", 1, "must be HOST:PORT", id="mapping-for-an-address"),
        pytest.param("listen: &a [*a]", "listen", "[…]", 1, "must be HOST:PORT", id="list-in-itself"),
        pytest.param("catalog: {files: a.yaml}", "catalog.files", "a.yaml", 1, "did you mean [a.yaml]?", id="path"),
        pytest.param("catalog:\n  files:\n  - a\n  - 5", "catalog.files[1]", "5", 4, "in quotes", id="number-in-list"),
        pytest.param("catalog: {files: {a: b}}", "catalog.files", "{…}", 1, "list of paths", id="mapping-of-paths"),
        pytest.param("\nlistn: x", "listn", "x", 2, "did you mean listen?", id="unknown"),
        pytest.param("upstream.url: x", "upstream.url", "x", 1, "nested: `url:` under `upstream:`", id="dotted"),
        pytest.param("url: x", "url", "x", 1, "did you mean upstream.url?", id="section-forgotten"),
        pytest.param("drain: {xyzzy: 1}", "drain.xyzzy", "1", 1, "known key: delay_s, timeout_s", id="no-likeness"),
        pytest.param("drain: {delay-s: 1}", "drain.delay-s", "1", 1, "did you mean drain.delay_s?", id="hyphen"),
        pytest.param("5: x", "5", "x", 1, "must be a known key", id="number-for-a-key"),
        pytest.param("? [a]\n: x", "[…]", "x", 1, "must be a known key", id="list-for-a-key"),
        pytest.param("workers: 1\nworkers: 1", "workers", "1", 2, "once: it stands on line 1", id="twice"),
        pytest.param("log:\n  level: info\n  level: debug", "log.level", "debug", 3, "on line 2", id="twice-within"),
        pytest.param("log: {}\n\nlog: {}", "log", "{…}", 3, "on line 1", id="section-twice"),
        pytest.param("check: {operations: {a: fix, a: fix}}", "check.operations.a", "fix", 1, "once", id="mode-twice"),
        pytest.param("listen: !secret x", "listen", "x", 1, "without a tag", id="tag"),
        pytest.param("workers: !!bool x", "workers", "x", 1, "without a tag", id="tag-that-lies"),
        pytest.param("listen: 2001-02-31", "listen", "2001-02-31", 1, "YAML's range", id="no-such-day"),
        pytest.param("listen: 2001-02-03", "listen", "2001-02-03", 1, "must be HOST:PORT", id="day"),
        pytest.param(f"workers: {'9' * 5000}", "workers", "9" * 100 + "…", 1, "YAML's range", id="digits"),
        pytest.param('listen: "a\\nb"', "listen", "'a\\nb'", 1, "must be HOST:PORT", id="line-break-in-a-value"),
        pytest.param('"a\\nb": x', "'a\\nb'", "x", 1, "must be a known key", id="line-break-in-a-key"),
    ],
)
def test_a_problem_in_the_file_is_placed(
    content: str, key: str, value: str, line: int, message: str, written: Callable[[str], Path]
) -> None:
    path = written(content)
    found = problem(path)
    assert (found.key, found.value, found.origin) == (key, value, f"{path}:{line}")
    assert message in found.message


@pytest.mark.parametrize("spelling", ["off", "'off'", "false", "OFF"])
def test_off_may_be_spelt_as_yaml_reads_it(spelling: str, written: Callable[[str], Path]) -> None:
    loaded = load_settings(written(f"check:\n  operations:\n    updateAlert: {spelling}\n"), {}, {})
    assert loaded.settings.check.operations == {"updateAlert": Mode.OFF}


def test_relative_paths_start_where_they_are_written(tmp_path: Path, written: Callable[[str], Path]) -> None:
    path = written("catalog:\n  files: [own.yaml, ../b.yaml, /c.yaml]\n")
    assert load_settings(path, {}, {}).settings.catalog.files == (
        tmp_path / "own.yaml",
        tmp_path / "../b.yaml",
        Path("/c.yaml"),
    )
    environment = {variable("catalog.files"): '["own.yaml"]'}
    loaded = load_settings(path, environment, {})
    assert loaded.settings.catalog.files == (Path("own.yaml"),)
    assert loaded.origins["catalog.files"] == "DEFENDER_SIDECAR_CATALOG__FILES"


# The environment and the flags.


def test_an_operation_in_a_variable_keeps_its_case() -> None:
    loaded = load_settings(None, {"DEFENDER_SIDECAR_CHECK__OPERATIONS__updateAlert": "off"}, {})
    assert loaded.settings.check.operations == {"updateAlert": Mode.OFF}
    assert loaded.origins["check.operations"] == "DEFENDER_SIDECAR_CHECK__OPERATIONS__updateAlert"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        pytest.param("UPSTREAM_URL", "UPSTREAM__URL", id="one-underscore"),
        pytest.param("LISTN", "LISTEN", id="slip"),
        pytest.param("listen", "LISTEN", id="lower-case"),
        pytest.param("UPSTREAM", "UPSTREAM__URL", id="whole-section"),
        pytest.param("URL", "UPSTREAM__URL", id="section-forgotten"),
        pytest.param("CHECK__MODES", "CHECK__MODE", id="nested-slip"),
        pytest.param("CHECK__OPERATIONS__", "CHECK__OPERATIONS", id="operation-without-name"),
    ],
)
def test_an_unknown_variable_is_a_problem(name: str, meant: str) -> None:
    found = problem(environment={f"DEFENDER_SIDECAR_{name}": "x"})
    assert found.origin == f"DEFENDER_SIDECAR_{name}"
    assert re.search(rf"DEFENDER_SIDECAR_{meant}(?![A-Z_])", found.message)


@pytest.mark.parametrize("name", ["DEFENDER_SIDECAR_", "DEFENDER_SIDECAR_XYZZY", "DEFENDER_SIDECAR___"])
def test_a_variable_that_resembles_nothing_is_a_problem_too(name: str) -> None:
    assert "must be the name of a setting; unset it" in problem(environment={name: "x"}).message


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param("DEFENDER_SIDECAR_CONFIG", "/etc/proxy.yaml", id="path-of-the-file"),
        pytest.param("DEFENDER_SIDECAR_SERVICE_HOST", "10.0.0.1", id="service-host"),
        pytest.param("DEFENDER_SIDECAR_SERVICE_PORT", "8080", id="service-port"),
        pytest.param("DEFENDER_SIDECAR_SERVICE_PORT_HTTP", "8080", id="named-service-port"),
        pytest.param("DEFENDER_SIDECAR_PORT", "tcp://10.0.0.1:8080", id="port-as-url"),
        pytest.param("DEFENDER_SIDECAR_PORT_8080_TCP", "tcp://10.0.0.1:8080", id="port-by-number"),
        pytest.param("DEFENDER_SIDECAR_PORT_8080_TCP_ADDR", "10.0.0.1", id="its-address"),
        pytest.param("DEFENDER_SIDECAR_PORT_8080_TCP_PORT", "8080", id="its-port"),
        pytest.param("DEFENDER_SIDECAR_PORT_8080_TCP_PROTO", "tcp", id="its-protocol"),
        pytest.param("DEFENDER_SIDECAR_METRICS_SERVICE_HOST", "10.0.0.1", id="second-service"),
        pytest.param("DEFENDER_SIDECAR_METRICS_PORT", "tcp://10.0.0.1:9464", id="second-service-as-url"),
        pytest.param("DEFENDER_SIDECARS", "x", id="other-prefix"),
        pytest.param("PATH", "", id="nobody's"),
    ],
)
def test_what_is_not_for_the_settings_is_ignored(name: str, text: str) -> None:
    assert load_settings(None, {name: text}, {}).settings == Settings()


def test_a_plain_number_in_the_port_variable_was_meant_for_us() -> None:
    assert problem(environment={"DEFENDER_SIDECAR_PORT": "8080"}).origin == "DEFENDER_SIDECAR_PORT"


def test_an_empty_variable_is_a_problem() -> None:
    found = problem(environment={variable("upstream.url"): ""})
    assert (found.value, found.message) == ("''", "must not be empty; unset it for the default")
    assert problem(flags={"check.mode": ""}).message == "must not be empty; leave it out for the default"


@pytest.mark.parametrize(
    ("key", "text", "remedy"),
    [
        pytest.param("check.operations", "updateAlert=fix", "must be a JSON object", id="no-json"),
        pytest.param("check.operations", '{"a": "fix", "a": "off"}', "each once", id="json-says-it-twice"),
        pytest.param("check.operations", "[" * 100_000, "must be a JSON object", id="json-without-end"),
        pytest.param("catalog.files", "a.yaml", 'did you mean ["a.yaml"]?', id="path-without-json"),
    ],
)
def test_what_should_be_json_and_is_not_comes_with_its_remedy(key: str, text: str, remedy: str) -> None:
    found = problem(environment={variable(key): text})
    assert (found.key, found.origin) == (key, variable(key))
    assert remedy in found.message


@pytest.mark.parametrize(
    ("key", "text", "where"),
    [
        pytest.param("check.operations", '{"a": "fixx"}', "check.operations.a", id="mode-in-json"),
        pytest.param("check.operations", '{"a": ["fix"]}', "check.operations.a", id="list-for-a-mode"),
        pytest.param("check.operations", '{"a": true}', "check.operations.a", id="true-is-no-mode"),
        pytest.param("catalog.files", '["a.yaml", ""]', "catalog.files[1]", id="empty-path"),
        pytest.param("catalog.files", '[5, "a.yaml"]', "catalog.files[0]", id="number-for-a-path"),
        pytest.param("catalog.files", '["\\u0000"]', "catalog.files[0]", id="path-with-nul"),
    ],
)
def test_a_problem_within_json_is_placed(key: str, text: str, where: str) -> None:
    found = problem(environment={variable(key): text})
    assert (found.key, found.origin) == (where, variable(key))


def test_an_unknown_flag_key_is_a_problem() -> None:
    assert problem(flags={"upstrem.url": "x"}).message == "must be a known key; did you mean upstream.url?"


@pytest.mark.parametrize(
    "flag", [("upstream.url", "--upstream"), ("check.mode", "--mode"), ("workers", "--workers"), ("admin", "--admin")]
)
def test_a_problem_names_the_flag_as_it_was_typed(flag: tuple[str, str]) -> None:
    assert problem(flags={flag[0]: "~"}).origin == flag[1]
