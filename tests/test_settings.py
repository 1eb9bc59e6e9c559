"""Settings: four layers, one verdict; every problem at once, each on one line, none of them telling a secret."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it brings no types
from pydantic import ValidationError

from proxy.core.model import Mode
from proxy.settings import (
    Address,
    Loaded,
    LogFormat,
    LogLevel,
    Problem,
    Settings,
    SettingsError,
    describe,
    load_settings,
    settings_schema,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

DOCUMENTED = Path(__file__).parent.parent / "config" / "proxy.yaml"


def problems(
    path: Path | None = None, environment: Mapping[str, str] | None = None, flags: Mapping[str, str] | None = None
) -> tuple[Problem, ...]:
    with pytest.raises(SettingsError) as caught:
        load_settings(path, environment or {}, flags or {})
    assert caught.value.problems
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None, "pydantic's error holds the values unmasked"
    assert str(caught.value).splitlines() == [str(problem) for problem in caught.value.problems]
    return caught.value.problems


def problem(
    path: Path | None = None, environment: Mapping[str, str] | None = None, flags: Mapping[str, str] | None = None
) -> Problem:
    (only,) = problems(path, environment, flags)
    return only


def variable(key: str) -> str:
    return "DEFENDER_SIDECAR_" + key.upper().replace(".", "__")


def value_of(settings: Settings, key: str) -> Any:
    value: Any = settings
    for name in key.split("."):
        value = getattr(value, name)
    return value


def from_environment(key: str, text: str) -> Any:
    return value_of(load_settings(None, {variable(key): text}, {}).settings, key)


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str | bytes], Path]:
    def write(content: str | bytes) -> Path:
        path = tmp_path / "proxy.yaml"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


# Layers.


def leaves(document: Mapping[str, Any], outer: str = "") -> Iterator[str]:
    for name, value in document.items():
        if isinstance(value, dict) and name != "operations":
            yield from leaves(value, f"{outer}{name}.")
        else:
            yield f"{outer}{name}"


def test_the_documented_file_holds_every_key_with_its_default() -> None:
    loaded = load_settings(DOCUMENTED, {}, {})
    assert loaded.settings == Settings()
    assert "default" not in loaded.origins.values()
    assert list(leaves(yaml.safe_load(DOCUMENTED.read_text(encoding="utf-8")))) == list(loaded.origins)


def test_the_documented_file_agrees_with_itself_on_lines() -> None:
    lines = DOCUMENTED.read_text(encoding="utf-8").splitlines()
    for key, origin in load_settings(DOCUMENTED, {}, {}).origins.items():
        path, _, line = origin.rpartition(":")
        assert path == str(DOCUMENTED)
        assert lines[int(line) - 1].strip().startswith(f"{key.rpartition('.')[2]}:")


def test_nothing_given_means_the_defaults() -> None:
    loaded = load_settings(None, {}, {})
    assert loaded.settings == Settings()
    assert set(loaded.origins.values()) == {"default"}
    assert loaded.settings.listen == Address("127.0.0.1", 8080)
    assert loaded.settings.admin == Address("127.0.0.1", 9464)
    assert loaded.settings.upstream.url == "https://api.security.microsoft.com"
    assert loaded.settings.upstream.response_timeout_s == 660
    assert loaded.settings.check.mode is Mode.REJECT
    assert loaded.settings.check.operations == {}
    assert loaded.settings.log.level is LogLevel.INFO
    assert loaded.settings.log.format is LogFormat.AUTO
    assert loaded.settings.catalog.files == ()


@pytest.mark.parametrize(
    ("layers", "port", "origin"),
    [
        pytest.param((), 8080, "default", id="default"),
        pytest.param(("file",), 1001, "{path}:1", id="file-over-default"),
        pytest.param(("file", "environment"), 1002, "DEFENDER_SIDECAR_LISTEN", id="environment-over-file"),
        pytest.param(("environment", "flag"), 1003, "--listen", id="flag-over-environment"),
        pytest.param(("file", "environment", "flag"), 1003, "--listen", id="flag-over-all"),
    ],
)
def test_the_later_layer_wins(layers: tuple[str, ...], port: int, origin: str, written: Callable[[str], Path]) -> None:
    path = written("listen: 127.0.0.1:1001") if "file" in layers else None
    environment = {"DEFENDER_SIDECAR_LISTEN": "127.0.0.1:1002"} if "environment" in layers else {}
    flags = {"listen": "127.0.0.1:1003"} if "flag" in layers else {}
    loaded = load_settings(path, environment, flags)
    assert loaded.settings.listen.port == port
    assert loaded.origins["listen"] == origin.format(path=path)


def test_layers_meet_within_a_section(written: Callable[[str], Path]) -> None:
    path = written("upstream:\n  url: http://one.example\n  max_connections: 7\n")
    environment = {variable("upstream.connect_timeout_s"): "3"}
    loaded = load_settings(path, environment, {"upstream.url": "http://two.example"})
    upstream = loaded.settings.upstream
    assert (upstream.url, upstream.max_connections, upstream.connect_timeout_s) == ("http://two.example", 7, 3)
    assert loaded.origins["upstream.url"] == "--upstream"
    assert loaded.origins["upstream.max_connections"] == f"{path}:3"
    assert loaded.origins["upstream.connect_timeout_s"] == "DEFENDER_SIDECAR_UPSTREAM__CONNECT_TIMEOUT_S"


def test_modes_of_operations_are_merged(written: Callable[[str], Path]) -> None:
    path = written("check:\n  operations:\n    a: fix\n    b: fix\n    c: fix\n    d: off\n")
    environment = {
        variable("check.operations"): '{"b": "observe", "c": "observe", "e": false}',
        "DEFENDER_SIDECAR_CHECK__OPERATIONS__c": "reject",
    }
    loaded = load_settings(path, environment, {})
    assert loaded.settings.check.operations == {
        "a": Mode.FIX,
        "b": Mode.OBSERVE,
        "c": Mode.REJECT,
        "d": Mode.OFF,
        "e": Mode.OFF,
    }
    assert loaded.origins["check.operations.a"] == f"{path}:3"
    assert loaded.origins["check.operations.b"] == "DEFENDER_SIDECAR_CHECK__OPERATIONS"
    assert loaded.origins["check.operations.c"] == "DEFENDER_SIDECAR_CHECK__OPERATIONS__c"


def test_an_operation_in_a_variable_keeps_its_case() -> None:
    loaded = load_settings(None, {"DEFENDER_SIDECAR_CHECK__OPERATIONS__updateAlert": "off"}, {})
    assert loaded.settings.check.operations == {"updateAlert": Mode.OFF}
    assert loaded.origins["check.operations"] == "DEFENDER_SIDECAR_CHECK__OPERATIONS__updateAlert"


@pytest.mark.parametrize(
    "flag", [("upstream.url", "--upstream"), ("check.mode", "--mode"), ("workers", "--workers"), ("admin", "--admin")]
)
def test_a_problem_names_the_flag_as_it_was_typed(flag: tuple[str, str]) -> None:
    assert problem(flags={flag[0]: "~"}).origin == flag[1]


def test_settings_are_frozen() -> None:
    settings = Settings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.upstream.url = "http://other.example"
    with pytest.raises(TypeError):
        settings.check.operations["updateAlert"] = Mode.OFF  # type: ignore[index]


def test_settings_come_out_as_they_went_in() -> None:
    settings = Settings.model_validate({"check": {"operations": {"updateAlert": "off"}}, "listen": "[::1]:80"})
    assert Settings.model_validate(settings.model_dump(mode="json")) == settings


def test_construction_reads_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN", "127.0.0.1:1")
    monkeypatch.setenv("DEFENDER_SIDECAR_LISTEN", "127.0.0.1:1")
    assert Settings().listen.port == 8080
    assert Settings.model_validate({"listen": "127.0.0.1:5"}).listen.port == 5


# Values.


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        pytest.param("listen", "0.0.0.0:80", Address("0.0.0.0", 80), id="wildcard"),  # noqa: S104 - compared, not bound
        pytest.param("listen", "127.0.0.1:0", Address("127.0.0.1", 0), id="any-free-port"),
        pytest.param("listen", "[::1]:80", Address("::1", 80), id="ipv6"),
        pytest.param("listen", "[0:0::1]:80", Address("::1", 80), id="ipv6-in-its-usual-spelling"),
        pytest.param("listen", "proxy_1.local:65535", Address("proxy_1.local", 65535), id="name"),
        pytest.param("upstream.url", "https://api.security.microsoft.com/", "https://api.security.microsoft.com"),
        pytest.param("upstream.url", "HTTP://Host.Example:8080", "http://host.example:8080", id="lower-case"),
        pytest.param("upstream.url", "https://host:443", "https://host", id="own-port-of-https"),
        pytest.param("upstream.url", "http://host:80/", "http://host", id="own-port-of-http"),
        pytest.param("upstream.url", "http://host:443", "http://host:443", id="foreign-port"),
        pytest.param("upstream.url", "http://host:", "http://host", id="empty-port"),
        pytest.param("upstream.url", "http://[::1]:9000", "http://[::1]:9000", id="url-with-ipv6"),
        pytest.param("upstream.url", "http://10.0.0.1", "http://10.0.0.1", id="url-with-ipv4"),
        pytest.param("upstream.connect_timeout_s", "0.25", 0.25, id="fraction"),
        pytest.param("upstream.connect_timeout_s", "1e2", 100.0, id="exponent"),
        pytest.param("drain.delay_s", "0", 0.0, id="no-delay"),
        pytest.param("limits.body_bytes", "0", 0, id="no-limit"),
        pytest.param("limits.head_bytes", "65_536", 65536, id="grouped-digits"),
        pytest.param("log.requests", "true", True, id="true"),
        pytest.param("log.requests", "1", True, id="one"),
        pytest.param("log.requests", "YES", True, id="yes"),
        pytest.param("check.report_header", "false", False, id="false"),
        pytest.param("check.report_header", "0", False, id="zero"),
        pytest.param("check.report_header", "No", False, id="no"),
        pytest.param("check.mode", "fix", Mode.FIX, id="mode"),
        pytest.param("log.level", "debug", LogLevel.DEBUG, id="level"),
        pytest.param("headers.target_id", "x-target", "x-target", id="field-name"),
        pytest.param("catalog.files", '["a.yaml", "/b.yaml"]', (Path("a.yaml"), Path("/b.yaml")), id="json-paths"),
    ],
)
def test_text_becomes_a_value(key: str, text: str, value: object) -> None:
    held = from_environment(key, text)
    assert held == value
    assert type(held) is type(value)


@pytest.mark.parametrize(
    ("key", "text", "remedy"),
    [
        pytest.param("listen", "8080", "such as 127.0.0.1:8080; did you mean 127.0.0.1:8080?", id="port-alone"),
        pytest.param("admin", "10.0.0.1", "such as 127.0.0.1:9464; did you mean 10.0.0.1:9464?", id="host-alone"),
        pytest.param("listen", ":8080", "must name a host: 0.0.0.0:8080 for all interfaces", id="no-host"),
        pytest.param("listen", "*:8080", "did you mean 0.0.0.0:8080?", id="star"),
        pytest.param("listen", "::1:8080", "did you mean [::1]:8080?", id="ipv6-without-brackets"),
        pytest.param("listen", "::1", "did you mean [::1]:8080?", id="ipv6-alone"),
        pytest.param("listen", "http://0.0.0.0:80/", "did you mean 0.0.0.0:80?", id="url-as-address"),
        pytest.param("listen", "localhost:65536", "port from 0 to 65535", id="port-past-the-last"),
        pytest.param("listen", "localhost:http", "port from 0 to 65535", id="port-by-name"),
        pytest.param("listen", "localhost:٣", "port from 0 to 65535", id="port-in-arabic-digits"),
        pytest.param("listen", "256.0.0.1:80", "must be HOST:PORT", id="no-ipv4"),
        pytest.param("listen", "1:30", "must be HOST:PORT", id="number-for-a-host"),
        pytest.param("workers", "4", "must be 1: this version runs one process; run more replicas", id="workers"),
        pytest.param("upstream.url", "api.example.com", "did you mean https://api.example.com?", id="no-scheme"),
        pytest.param("upstream.url", "localhost:9000", "did you mean https://localhost:9000?", id="host-and-port"),
        pytest.param("upstream.url", "https:/host", "did you mean https://host?", id="one-slash"),
        pytest.param("upstream.url", "http//host", "did you mean http://host?", id="no-colon"),
        pytest.param("upstream.url", "ftp://host", "must begin with https:// or http://", id="foreign-scheme"),
        pytest.param("upstream.url", "https://host/api", "must have no path: ", id="path"),
        pytest.param("upstream.url", "https://host/api", "did you mean https://host?", id="path-left-out"),
        pytest.param("upstream.url", "https://host/?a=b", "must have no query", id="query"),
        pytest.param("upstream.url", "https://host?", "must have no query", id="empty-query"),
        pytest.param("upstream.url", "https://host#", "must have no fragment", id="fragment"),
        pytest.param("upstream.url", "https://u:p@host", "no user name or password", id="userinfo"),
        pytest.param("upstream.url", "https://u:p@host", "did you mean https://host?", id="userinfo-left-out"),
        pytest.param("upstream.url", "https://", "must name a host", id="no-host-in-url"),
        pytest.param("upstream.url", "https://host:0", "port from 1 to 65535", id="no-port-zero-upstream"),
        pytest.param("upstream.url", "https://[::1", "must name a host", id="open-bracket"),
        pytest.param("upstream.url", "https://ho st", "without spaces", id="space"),
        pytest.param("upstream.url", "https://münchen.example", "visible ASCII", id="beyond-ascii"),
        pytest.param("upstream.connect_timeout_s", "nan", "number of seconds above 0", id="nan"),
        pytest.param("upstream.connect_timeout_s", "inf", "number of seconds above 0", id="infinity"),
        pytest.param("upstream.connect_timeout_s", "1e999", "number of seconds above 0", id="beyond-float"),
        pytest.param("upstream.connect_timeout_s", "0", "number of seconds above 0", id="zero-seconds"),
        pytest.param("drain.delay_s", "-1", "number of seconds, 0 or more", id="negative-delay"),
        pytest.param("upstream.connect_timeout_s", "10s", "did you mean 10?", id="seconds-with-unit"),
        pytest.param("upstream.connect_timeout_s", "500ms", "did you mean 0.5?", id="milliseconds"),
        pytest.param("upstream.response_timeout_s", "11m", "did you mean 660?", id="minutes"),
        pytest.param("limits.head_bytes", "64KiB", "did you mean 65536?", id="kibibytes"),
        pytest.param("limits.head_bytes", "0", "whole number of bytes, 1 or more", id="zero-bytes"),
        pytest.param("limits.body_bytes", "-1", "whole number of bytes, 0 or more", id="negative-bytes"),
        pytest.param("limits.fields", "1.5", "whole number, 1 or more", id="half-a-field"),
        pytest.param("limits.fields", "010", "whole number, 1 or more", id="octal-or-not"),
        pytest.param("limits.fields", "9007199254740992", "at most 9007199254740991", id="beyond-json"),
        pytest.param("limits.fields", "9" * 5000, "whole number", id="five-thousand-digits"),
        pytest.param("log.requests", "on", "must be true or false", id="on"),
        pytest.param("log.level", "warn", "debug, info, warning or error; did you mean warning?", id="level"),
        pytest.param("log.level", "INFO", "did you mean info?", id="level-in-capitals"),
        pytest.param("check.mode", "off", "`off` goes under check.operations", id="off-for-all"),
        pytest.param("check.mode", "Reject", "did you mean reject?", id="mode-in-capitals"),
        pytest.param("headers.target_id", "X Target", "header field's name", id="field-with-space"),
        pytest.param("headers.target_id", "Content-Length", "HTTP itself gives this one a meaning", id="framing"),
        pytest.param("headers.target_id", "keep-alive", "HTTP itself gives this one a meaning", id="hop-by-hop"),
        pytest.param("check.operations", "updateAlert=fix", "must be a JSON object", id="no-json"),
        pytest.param("check.operations", '{"a": "fix", "a": "off"}', "each once", id="json-says-it-twice"),
        pytest.param("check.operations", "[" * 100_000, "must be a JSON object", id="json-without-end"),
        pytest.param("catalog.files", "a.yaml", 'did you mean ["a.yaml"]?', id="path-without-json"),
    ],
)
def test_a_bad_value_comes_with_its_remedy(key: str, text: str, remedy: str) -> None:
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


def test_each_fault_of_a_url_has_its_own_remedy() -> None:
    message = problem(flags={"upstream.url": "https://u@host:99999/api?x#y"}).message
    for remedy in ("no user name", "port from 1", "no path", "no query", "no fragment"):
        assert remedy in message


@pytest.mark.parametrize(
    ("listen", "admin", "apart"),
    [
        pytest.param("127.0.0.1:80", "127.0.0.1:80", False, id="same"),
        pytest.param("localhost:80", "LOCALHOST:80", False, id="same-name"),
        pytest.param("0.0.0.0:80", "127.0.0.1:80", False, id="wildcard-covers-ipv4"),
        pytest.param("[::1]:80", "[::]:80", False, id="wildcard-covers-ipv6"),
        pytest.param("0.0.0.0:80", "[::1]:80", True, id="other-family"),
        pytest.param("127.0.0.1:80", "127.0.0.1:81", True, id="other-port"),
        pytest.param("127.0.0.1:80", "127.0.0.2:80", True, id="other-host"),
        pytest.param("127.0.0.1:0", "127.0.0.1:0", True, id="any-free-port-each"),
    ],
)
def test_the_two_listeners_are_apart(listen: str, admin: str, *, apart: bool) -> None:
    flags = {"listen": listen, "admin": admin}
    if apart:
        assert str(load_settings(None, {}, flags).settings.listen) == listen
    else:
        found = problem(flags=flags)
        assert found.origin == "--admin"
        assert found.message == f"must differ from listen, which is {listen} (--listen)"


def test_a_clash_with_a_default_is_laid_to_who_wrote_the_other() -> None:
    found = problem(flags={"listen": "127.0.0.1:9464"})
    assert str(found) == "--listen: listen = 127.0.0.1:9464: must differ from admin, which is 127.0.0.1:9464 (default)"
    found = problem(environment={variable("headers.target_id"): "x-error-code"})
    assert found.key == "headers.target_id"
    assert found.message == "must differ from headers.error_code, which is X-Error-Code (default)"


# Every problem at once.


def test_every_problem_of_every_layer_is_told_in_the_order_that_one_meets_them(
    written: Callable[[str], Path],
) -> None:
    path = written(
        "upstream:\n  ulr: https://one.example\n  max_connections: many\n"
        "listen: 8080\nworkers: 2\ncheck:\n  mode: off\nworkerz: 4\n"
    )
    environment = {"DEFENDER_SIDECAR_LISTN": "x", variable("drain.delay_s"): "soon"}
    flags = {"admin": "nowhere"}
    assert [str(found) for found in problems(path, environment, flags)] == [
        f"{path}:2: upstream.ulr = https://one.example: must be a known key; did you mean upstream.url?",
        f"{path}:3: upstream.max_connections = many: must be a whole number, 1 or more",
        f"{path}:4: listen = 8080: must be HOST:PORT, such as 127.0.0.1:8080; did you mean 127.0.0.1:8080?",
        f"{path}:5: workers = 2: must be 1: this version runs one process; run more replicas instead",
        f"{path}:7: check.mode = off: must be reject, fix or observe; `off` goes under check.operations, by operation",
        f"{path}:8: workerz = 4: must be a known key; did you mean workers?",
        "DEFENDER_SIDECAR_DRAIN__DELAY_S: drain.delay_s = soon: must be a number of seconds, 0 or more",
        "DEFENDER_SIDECAR_LISTN: listn = x: must be the name of a setting; did you mean DEFENDER_SIDECAR_LISTEN?",
        "--admin: admin = nowhere: must be HOST:PORT, such as 127.0.0.1:9464; did you mean nowhere:9464?",
    ]


def test_what_is_overridden_need_not_be_valid_but_known(written: Callable[[str], Path]) -> None:
    assert load_settings(written("listen: bad"), {}, {"listen": "127.0.0.1:1"}).settings.listen.port == 1
    assert problem(written("upstream: bad"), {}, {"upstream.url": "http://host"}).key == "upstream"


# Secrets.


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("https://me:hunter2@host", "https://***@host", id="userinfo"),
        pytest.param("me:hunter2@host", "***@host", id="userinfo-without-scheme"),
        pytest.param("https//me:hunter2@host", "https//***@host", id="userinfo-behind-a-broken-scheme"),
        pytest.param("https://me:hun/ter2@host", "https://***@host", id="slash-in-password"),
        pytest.param("https://me:123/hunter2@host", "https://***@host", id="number-and-slash-in-password"),
        pytest.param("https://me:hunter2@@host", "https://***@host", id="at-in-password"),
        pytest.param("https://me:hun?ter2@host", "https://***", id="question-mark-in-password"),
        pytest.param("https://host?sig=hunter2", "https://host?***", id="query"),
        pytest.param("https://host/?a=1#hunter2", "https://host/?***", id="query-and-fragment"),
        pytest.param("https://host#hunter2", "https://host#***", id="fragment"),
        pytest.param("https://me@host?sig=hunter2", "https://***@host?***", id="userinfo-and-query"),
    ],
)
def test_secrets_in_a_url_are_masked(text: str, shown: str) -> None:
    found = problem(flags={"upstream.url": text})
    assert found.value == shown
    assert not re.search("me|hun|ter2|123", found.value + found.message.partition("; did you mean")[2])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param("UPSTREAM__TOKEN", "hunter2", id="secret-by-name"),
        pytest.param("UPSTREAM__PASSWORD", "hunter2", id="password"),
        pytest.param("UPSTREAM__ULR", "https://me:hunter2@host", id="url-under-an-unknown-key"),
        pytest.param("UPSTREAM", '{"auth": "hunter2"}', id="json"),
        pytest.param("LISTEN", "http://me:hunter2@host:80", id="url-for-an-address"),
        pytest.param("CATALOG__FILES", "https://me:hunter2@host/a b.yaml", id="url-for-a-path"),
    ],
)
def test_secrets_elsewhere_are_masked_too(name: str, text: str) -> None:
    assert "hunter2" not in str(problem(environment={f"DEFENDER_SIDECAR_{name}": text}))


def test_an_unknown_mapping_is_not_shown(written: Callable[[str], Path]) -> None:
    assert problem(written("auth: {client: hunter2}")).value == "{…}"


def test_an_operation_is_no_secret_for_its_name() -> None:
    loaded = load_settings(None, {"DEFENDER_SIDECAR_CHECK__OPERATIONS__resetPassword": "fix"}, {})
    assert ("check.operations.resetPassword", "fix") in [row[:2] for row in describe(loaded)]


# The environment.


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


def test_an_unknown_flag_key_is_a_problem() -> None:
    assert problem(flags={"upstrem.url": "x"}).message == "must be a known key; did you mean upstream.url?"


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
        pytest.param("[" * 100_000, ":1", "nested at most 32 levels", id="nested-without-end"),
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
    assert message in found.message


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


# What is shown.


def test_what_is_described_reads_back_as_the_same(written: Callable[[str], Path]) -> None:
    environment = {
        variable("listen"): "[::1]:0",
        variable("drain.delay_s"): "0.5",
        variable("catalog.files"): '["a.yaml", "on", "a\\nb: c", "\\ud800"]',
        variable("check.operations"): '{"updateAlert": "off"}',
        variable("headers.target_id"): "0x10",
    }
    loaded = load_settings(None, environment, {})
    document: dict[str, Any] = {}
    for key, text, _ in describe(loaded):
        assert text.isprintable()
        *outer, last = key.split(".")
        target = document
        for name in outer:
            target = target.setdefault(name, {})
        target[last] = yaml.safe_load(text)
    files = document["catalog"].pop("files")
    assert files == [str(path) for path in loaded.settings.catalog.files]
    again = load_settings(written(json.dumps(document)), {}, {}).settings
    assert again == loaded.settings.model_copy(update={"catalog": again.catalog})


def test_description_follows_the_file() -> None:
    rows = describe(load_settings(DOCUMENTED, {}, {"check.mode": "fix"}))
    assert rows[0] == ("listen", "127.0.0.1:8080", f"{DOCUMENTED}:9")
    assert ("check.mode", "fix", "--mode") in rows
    assert ("check.operations", "{}") in [row[:2] for row in rows]
    assert ("upstream.connect_timeout_s", "10") in [row[:2] for row in rows]
    assert ("log.requests", "false") in [row[:2] for row in rows]
    assert [key for key, _, _ in rows] == list(leaves(yaml.safe_load(DOCUMENTED.read_text(encoding="utf-8"))))


@pytest.fixture(scope="module")
def schema() -> Draft202012Validator:
    document = settings_schema()
    assert document["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(document)
    return Draft202012Validator(document)


def test_the_schema_describes_every_key_with_its_default(schema: Draft202012Validator) -> None:
    documented = yaml.safe_load(DOCUMENTED.read_text(encoding="utf-8"))
    for name, known in schema.schema["properties"].items():
        assert known["description"]
        if "anyOf" not in known:
            assert known["default"] == documented[name]
            continue
        section = schema.schema["$defs"][known["anyOf"][0]["$ref"].rpartition("/")[2]]
        assert {key: inner["default"] for key, inner in section["properties"].items()} == documented[name]
        assert all(inner["description"] for inner in section["properties"].values())


@pytest.mark.parametrize(
    ("content", "valid"),
    [
        pytest.param(DOCUMENTED.read_text(encoding="utf-8"), True, id="documented"),
        pytest.param("check: {operations: {a: off, b: fix}}", True, id="off"),
        pytest.param("upstream:\ncheck: {operations: }", True, id="commented-out"),
        pytest.param("catalog: {files: [a.yaml]}", True, id="paths"),
        pytest.param("upstream: {ulr: x}", False, id="unknown"),
        pytest.param("listen: 8080", False, id="number-for-an-address"),
        pytest.param("listen: ':8080'", False, id="no-host"),
        pytest.param("check: {mode: off}", False, id="off-for-all"),
        pytest.param("workers: 2", False, id="workers"),
        pytest.param("drain: {timeout_s: 0}", False, id="no-time"),
        pytest.param("limits: {fields: 0}", False, id="no-fields"),
        pytest.param("upstream: {url: 'https://host/api'}", False, id="path"),
        pytest.param("headers: {target_id: X Target}", False, id="no-token"),
        pytest.param("log: {level: loud}", False, id="level"),
    ],
)
def test_the_schema_judges_as_the_loader_does(
    content: str, schema: Draft202012Validator, written: Callable[[str], Path], *, valid: bool
) -> None:
    assert schema.is_valid(yaml.safe_load(content)) is valid
    if valid:
        load_settings(written(content), {}, {})
    else:
        problems(written(content))


# Whatever is given, there are settings or problems, each on one line of text.


KEYS = [*load_settings(None, {}, {}).origins]
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates()
NAMES = st.sampled_from([part for key in KEYS for part in key.split(".")]) | st.text(max_size=5)
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


def answer(path: Path | None, environment: Mapping[str, str], flags: Mapping[str, str]) -> Loaded | None:
    loaded: Loaded | None = None
    with suppress(SettingsError):
        loaded = load_settings(path, environment, flags)
    if loaded is None:
        for found in problems(path, environment, flags):
            assert str(found).isprintable()
            assert found.key
            assert found.message
        return None
    assert all(cell.isprintable() for row in describe(loaded) for cell in row)
    return loaded


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("settings") / "proxy.yaml"


@given(content=st.binary() | st.text().map(str.encode))
@example(content=b"a: !!float .")
@example(content=b"a: !!int ''")
@example(content=b"listen: !!timestamp x")
@example(content=b"listen: !!binary \xc3\xbc")
@example(content=b"log: {<<: [*a]}")
@example(content=b"log: &a\n  <<: *a\n")
@example(content=b"workers: 0b_")
@example(content=b"workers: 0x_")
@example(content=b"drain: {delay_s: -_.0}")
def test_any_bytes_as_a_file_are_answered(scratch: Path, content: bytes) -> None:
    scratch.write_bytes(content)
    answer(scratch, {}, {})


@given(document=st.dictionaries(NAMES, DOCUMENTS, max_size=5))
def test_any_document_as_a_file_is_answered(scratch: Path, document: dict[str, Any]) -> None:
    scratch.write_text(yaml.safe_dump(document), encoding="utf-8")
    answer(scratch, {}, {})


@given(key=st.sampled_from(KEYS), content=DOCUMENTS)
def test_any_value_of_a_key_is_answered(scratch: Path, key: str, content: Any) -> None:
    for name in reversed(key.split(".")):
        content = {name: content}
    scratch.write_text(yaml.safe_dump(content), encoding="utf-8")
    answer(scratch, {}, {})


@given(key=st.sampled_from(KEYS), text=st.text() | DOCUMENTS.map(lambda value: json.dumps(value, default=str)))
@example(key="listen", text="-" * 10_000)
@example(key="upstream.url", text="https://" + "a" * 10_000)
def test_any_text_in_a_variable_or_flag_is_answered_alike(key: str, text: str) -> None:
    from_variable = answer(None, {variable(key): text}, {})
    from_flag = answer(None, {}, {key: text})
    assert (from_variable and from_variable.settings) == (from_flag and from_flag.settings)


@given(name=st.text(), text=st.text())
def test_any_variable_of_our_prefix_is_answered(name: str, text: str) -> None:
    answer(None, {f"DEFENDER_SIDECAR_{name}": text, f"DEFENDER_SIDECAR_CHECK__OPERATIONS__{name}": "fix"}, {})


@given(host=st.from_regex(r"[a-z]{1,9}(\.[a-z]{2,5})?", fullmatch=True), port=st.integers(0, 65535))
def test_an_address_is_written_as_it_was_read(host: str, port: int) -> None:
    assert str(from_environment("listen", f"{host}:{port}")) == f"{host}:{port}"


@given(password=st.text("abcxyz/?#@:%", min_size=1).map(lambda text: f"s3cret{text}"), host=st.sampled_from(["h", ""]))
def test_no_password_is_ever_repeated(password: str, host: str) -> None:
    for text in (f"https://me:{password}@{host}", f"me:{password}@{host}", f"https://{host}?sig={password}"):
        for key in ("upstream.url", "listen"):
            for found in problems(flags={key: text}):
                assert "s3cret" not in str(found)


@given(url=st.from_regex(r"https?://[a-z0-9.:\[\]-]{1,30}/?", fullmatch=True))
def test_a_normal_url_stays_as_it_is(url: str) -> None:
    loaded = answer(None, {}, {"upstream.url": url})
    if loaded is not None:
        assert from_environment("upstream.url", loaded.settings.upstream.url) == loaded.settings.upstream.url
        assert not loaded.settings.upstream.url.endswith("/")
