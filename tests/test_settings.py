"""Settings: four layers, one verdict; every problem at once, each on one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it brings no types
from pydantic import ValidationError

from proxy.core.model import Mode
from proxy.settings import Address, LogFormat, LogLevel, Settings, describe, load_settings, settings_schema
from tests.loading import answer, problem, problems, variable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

DOCUMENTED = Path(__file__).parent.parent / "config" / "proxy.yaml"


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


# What must differ.


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
        "listen: 8080\nworkers: 0\ncheck:\n  mode: off\nworkerz: 4\n"
    )
    environment = {"DEFENDER_SIDECAR_LISTN": "x", variable("drain.delay_s"): "soon"}
    flags = {"admin": "nowhere"}
    assert [str(found) for found in problems(path, environment, flags)] == [
        f"{path}:2: upstream.ulr = https://one.example: must be a known key; did you mean upstream.url?",
        f"{path}:3: upstream.max_connections = many: must be a whole number, 1 or more",
        f"{path}:4: listen = 8080: must be HOST:PORT, such as 127.0.0.1:8080; did you mean 127.0.0.1:8080?",
        f"{path}:5: workers = 0: must be a whole number, 1 or more",
        f"{path}:7: check.mode = off: must be reject, fix or observe; `off` goes under check.operations, by operation",
        f"{path}:8: workerz = 4: must be a known key; did you mean workers?",
        "DEFENDER_SIDECAR_DRAIN__DELAY_S: drain.delay_s = soon: must be a number of seconds, 0 or more",
        "DEFENDER_SIDECAR_LISTN: listn = x: must be the name of a setting; did you mean DEFENDER_SIDECAR_LISTEN?",
        "--admin: admin = nowhere: must be HOST:PORT, such as 127.0.0.1:9464; did you mean nowhere:9464?",
    ]


def test_what_is_overridden_need_not_be_valid_but_known(written: Callable[[str], Path]) -> None:
    assert load_settings(written("listen: bad"), {}, {"listen": "127.0.0.1:1"}).settings.listen.port == 1
    assert problem(written("upstream: bad"), {}, {"upstream.url": "http://host"}).key == "upstream"


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
        pytest.param("workers: 2", True, id="workers"),
        pytest.param("workers: 0", False, id="no-workers"),
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
