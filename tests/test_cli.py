"""The command line: what it prints, how it ends, and that it never ends in a traceback."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING

import pytest
import yaml
from jsonschema import Draft202012Validator  # type: ignore[import-untyped] # comes without types

from proxy import __version__
from proxy.cli import main
from proxy.resources import config_folder
from proxy.simulator import HELP

if TYPE_CHECKING:
    from pathlib import Path

TIMEOUT_S = 15

# The command, in a process that SIGINT reaches: a shell that runs the tests in the background has it ignored.
INTERRUPTIBLE = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from proxy.cli import main
sys.exit(main())
"""
IN_USE = os.strerror(errno.EADDRINUSE).lower()


def environment() -> dict[str, str]:
    """Return our own environment, with Python's output buffered, as it is by default."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


def sidecar(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "proxy", *arguments],
        capture_output=True,
        check=False,
        encoding="utf-8",
        env=environment(),
        timeout=TIMEOUT_S,
    )


def rows(text: str) -> dict[str, tuple[str, str]]:
    """Return value and origin by key of what `config show` prints."""
    return {
        key: (value, origin)
        for key, value, origin in (re.split(r" {2,}", line, maxsplit=2) for line in text.splitlines())
    }


# Version and help.


def test_the_module_is_the_command() -> None:
    ended = sidecar("--version")

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"defender-sidecar {__version__}\n", "")


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ((), ("run", "demo", "simulate", "catalog", "config", "--version")),
        (("run",), ("--config", "--upstream", "--listen", "--admin", "--mode", "--workers", "DEFENDER_SIDECAR_")),
        (("demo",), ("--once",)),
        (("simulate",), ("--listen", "X-Simulate", "slow=SECONDS", "TooManyRequests")),
        (("catalog",), ("list", "show", "validate", "import-metadata")),
        (("catalog", "list"), ("--config", "--format")),
        (("catalog", "show"), ("OPERATION", "--config", "--format")),
        (("catalog", "validate"), ("FILE",)),
        (("catalog", "import-metadata"), ("FILE", "--prefix", "--all", "--output", "--compare", "--format")),
        (("config",), ("show", "schema")),
        (("config", "show"), ("--config", "--upstream", "--mode")),
        (("config", "schema"), ("--help",)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_help_names_what_there_is(
    command: tuple[str, ...], names: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])

    said = capsys.readouterr()
    assert ended.value.code == 0
    assert said.out.startswith(" ".join(["usage: defender-sidecar", *command]))
    assert said.err == ""
    assert [name for name in names if name not in said.out] == []


def test_the_help_of_the_simulator_is_whole(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["simulate", "--help"])

    assert HELP in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [[], ["brew"], ["config"], ["config", "brew"], ["run", "--brew"], ["run", "--mode"], ["run", "extra"]],
    ids=lambda value: " ".join(value) or "none",
)
def test_a_command_that_is_none_is_told_with_the_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)

    said = capsys.readouterr()
    assert ended.value.code == 2
    assert said.out == ""
    assert said.err.startswith("usage: defender-sidecar")
    assert re.match(r"defender-sidecar[\w ]*: error: ", said.err.splitlines()[-1])


# Settings.


def test_config_show_tells_every_key_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "show"]) == 0

    shown = rows(capsys.readouterr().out)
    assert shown["upstream.url"] == ("https://api.security.microsoft.com", "default")
    assert shown["drain.delay_s"] == ("2", "default")
    documented = yaml.safe_load((config_folder() / "proxy.yaml").read_text("utf-8"))
    keys = {f"{key}.{inner}" for key, section in documented.items() if isinstance(section, dict) for inner in section}
    assert set(shown) == keys | {key for key, section in documented.items() if not isinstance(section, dict)}


def test_config_show_tells_where_each_value_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "proxy.yaml"
    path.write_text("listen: 127.0.0.1:81\nadmin: 127.0.0.1:82\ncheck:\n  mode: fix\n", "utf-8")
    monkeypatch.setenv("DEFENDER_SIDECAR_ADMIN", "127.0.0.1:83")
    monkeypatch.setenv("DEFENDER_SIDECAR_CHECK__MODE", "reject")

    assert main(["config", "show", "--config", str(path), "--mode", "observe"]) == 0

    shown = rows(capsys.readouterr().out)
    assert shown["listen"] == ("127.0.0.1:81", f"{path}:1")
    assert shown["admin"] == ("127.0.0.1:83", "DEFENDER_SIDECAR_ADMIN")
    assert shown["check.mode"] == ("observe", "--mode")
    assert shown["workers"] == ("1", "default")


@pytest.mark.parametrize(
    ("flag", "value", "key"),
    [
        ("--upstream", "https://eu.api.security.microsoft.com", "upstream.url"),
        ("--listen", "127.0.0.1:0", "listen"),
        ("--admin", "[::1]:9000", "admin"),
        ("--mode", "fix", "check.mode"),
        ("--workers", "1", "workers"),
    ],
)
def test_each_flag_sets_its_key(flag: str, value: str, key: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "show", flag, value]) == 0

    shown, origin = rows(capsys.readouterr().out)[key]
    assert (str(yaml.safe_load(shown)), origin) == (value, flag)


def test_the_settings_file_may_be_named_by_a_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    named, other = tmp_path / "named.yaml", tmp_path / "other.yaml"
    named.write_text("log: {level: debug}\n", "utf-8")
    other.write_text("log: {level: error}\n", "utf-8")
    monkeypatch.setenv("DEFENDER_SIDECAR_CONFIG", str(named))

    assert main(["config", "show"]) == 0
    assert rows(capsys.readouterr().out)["log.level"] == ("debug", f"{named}:1")
    assert main(["config", "show", "--config", str(other)]) == 0
    assert rows(capsys.readouterr().out)["log.level"] == ("error", f"{other}:1")


def test_config_show_masks_what_is_secret(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("DEFENDER_SIDECAR_UPSTREAM__URL", "https://user:hunter2@api.example")

    main(["config", "show"])

    said = capsys.readouterr()
    assert "hunter2" not in said.out + said.err


def test_config_show_refuses_what_run_would(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "show", "--mode", "brew", "--upstream", "api.example"]) == 2

    said = capsys.readouterr()
    assert said.out == ""
    assert [line.split(": ")[:2] for line in said.err.splitlines()] == [
        ["defender-sidecar", "--upstream"],
        ["defender-sidecar", "--mode"],
    ]


def test_the_documented_settings_file_holds_the_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    main(["config", "show"])
    usual = rows(capsys.readouterr().out)

    assert main(["config", "show", "--config", str(config_folder() / "proxy.yaml")]) == 0

    shown = rows(capsys.readouterr().out)
    assert {key: value for key, (value, _) in shown.items()} == {key: value for key, (value, _) in usual.items()}


def test_config_schema_is_a_json_schema_that_the_documented_file_satisfies() -> None:
    ended = sidecar("config", "schema")
    assert (ended.returncode, ended.stderr) == (0, "")

    schema = json.loads(ended.stdout)
    assert schema["$schema"] == Draft202012Validator.META_SCHEMA["$id"]
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    validator.validate(yaml.safe_load((config_folder() / "proxy.yaml").read_text("utf-8")))
    assert not validator.is_valid({"check": {"mode": "brew"}})
    assert not validator.is_valid({"brew": 1})


def test_config_schema_of_the_log_is_the_file_that_ships() -> None:
    ended = sidecar("config", "schema", "--log")
    assert (ended.returncode, ended.stderr) == (0, "")

    schema = json.loads(ended.stdout)
    assert schema == json.loads((config_folder() / "log.schema.json").read_text("utf-8"))
    Draft202012Validator.check_schema(schema)


# The catalog.


def test_the_catalog_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["catalog", "list"]) == 0
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading.split("\t")[0] == "operation"
    assert "isolateMachine" in {line.split("\t")[0] for line in lines}

    assert main(["catalog", "list", "--format", "json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == len(lines)


def test_an_operation_is_shown_with_a_body_that_is_right(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["catalog", "show", "isolateMachine"]) == 0
    said = capsys.readouterr().out
    assert "UnManagedDevice" in said
    assert json.loads(said[said.index("{\n") :]) == {"Comment": "Asked for in ticket 4711", "IsolationType": "Full"}
    assert not [line for line in said.splitlines() if line != line.rstrip()]

    assert main(["catalog", "show", "isolateMachine", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["method"] == "POST"


def test_an_operation_that_is_not_there_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["catalog", "show", "isolateMachines"]) == 2
    said = capsys.readouterr()
    assert said.err == (
        "defender-sidecar: the catalog has no operation 'isolateMachines'; did you mean isolateMachine?\n"
    )
    assert said.out == ""


def test_the_operations_of_extra_documents_are_listed_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document, settings = tmp_path / "extra.yaml", tmp_path / "proxy.yaml"
    document.write_text("openapi: 3.1.0\npaths: {/brews: {post: {operationId: brewCoffee}}}\n", "utf-8")
    settings.write_text("catalog: {files: [extra.yaml]}\n", "utf-8")

    assert main(["catalog", "list", "--config", str(settings)]) == 0
    assert "\nbrewCoffee\tPOST\t/brews\t\t\n" in capsys.readouterr().out


def test_a_document_is_validated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "extra.yaml"
    path.write_text(
        "openapi: 3.1.0\n"
        "paths:\n"
        "  /brews:\n"
        "    post:\n"
        "      operationId: brewCoffee\n"
        "      requestBody: {content: {application/json: {}}}\n",
        "utf-8",
    )

    assert main(["catalog", "validate", str(path)]) == 0
    note, summary = capsys.readouterr().out.splitlines()
    place = "/paths/~1brews/post/requestBody/content/application~1json"
    assert note == f"note: {path}:6: {place}: the body names no properties: there is nothing to compare with"
    assert summary == "1 operation can be added, 0 with a body that is checked"

    path.write_text(path.read_text("utf-8").replace("/brews", "brews"), "utf-8")
    assert main(["catalog", "validate", str(path), str(tmp_path / "missing.yaml")]) == 2
    assert capsys.readouterr().out.splitlines() == [
        f"error: {tmp_path / 'missing.yaml'}: cannot be read: there is no such file",
        f"error: {path}:3: /paths/brews: a path must start with a slash and hold a mapping",
    ]


METADATA = """<?xml version="1.0" encoding="utf-8"?>
<edmx:Edmx Version="4.0" xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx">
  <edmx:DataServices>
    <Schema Namespace="Bar" xmlns="http://docs.oasis-open.org/odata/ns/edm">
      <EntityType Name="Brew"><Key><PropertyRef Name="id"/></Key><Property Name="id" Type="Edm.String"/></EntityType>
      <Action Name="Sip" IsBound="true">
        <Parameter Name="it" Type="Bar.Brew"/><Parameter Name="Depth" Type="Edm.Int32" Nullable="false"/>
      </Action>
      <EntityContainer Name="Container"><EntitySet Name="Brews" EntityType="Bar.Brew"/></EntityContainer>
    </Schema>
  </edmx:DataServices>
</edmx:Edmx>
"""


def test_metadata_becomes_a_document_that_can_be_added(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metadata, document = tmp_path / "metadata.xml", tmp_path / "tenant.yaml"
    metadata.write_text(METADATA, "utf-8")

    assert main(["catalog", "import-metadata", str(metadata), "--output", str(document)]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert "3 operations" in said.err
    assert main(["catalog", "validate", str(document)]) == 0
    assert "3 operations can be added, 1 with a body that is checked" in capsys.readouterr().out

    assert main(["catalog", "import-metadata", str(metadata)]) == 0
    assert capsys.readouterr().out == document.read_text("utf-8")


def test_metadata_is_compared_with_the_catalog(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metadata = tmp_path / "metadata.xml"
    metadata.write_text(METADATA, "utf-8")

    assert main(["catalog", "import-metadata", str(metadata), "--compare"]) == 1
    assert "Sip" in capsys.readouterr().out
    assert main(["catalog", "import-metadata", str(metadata), "--compare", "--format", "json"]) == 1
    assert "Sip" in json.dumps(json.loads(capsys.readouterr().out))

    metadata.write_text("{}", "utf-8")
    assert main(["catalog", "import-metadata", str(metadata)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    ("terminal", "width"), [(None, 110), (60, 60), (150, 150)], ids=["piped", "narrow-terminal", "wide-terminal"]
)
def test_a_comparison_is_folded_to_the_terminal(
    terminal: int | None,
    width: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken = "".join(f'<Parameter Name="Parameter{index}" Type="Edm.Int32"/>' for index in range(50))
    metadata = tmp_path / "metadata.xml"
    metadata.write_text(METADATA.replace("</Action>", taken + "</Action>"), "utf-8")
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal is not None)
    monkeypatch.setenv("COLUMNS", str(terminal or 70))

    assert main(["catalog", "import-metadata", str(metadata), "--compare"]) == 1

    longest = max(map(len, capsys.readouterr().out.splitlines()))
    assert width - len("Parameter10, ") < longest <= width


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--compare", "--output", "new.yaml"], "--output: --compare writes to standard output alone"),
        (["--format", "json"], "--format json: is for --compare"),
    ],
    ids=["output-of-a-comparison", "format-of-a-document"],
)
def test_flags_that_would_do_nothing_are_refused(
    flags: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "metadata.xml").write_text(METADATA, "utf-8")

    assert main(["catalog", "import-metadata", "metadata.xml", *flags]) == 2

    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"defender-sidecar: {message}")
    assert len(said.err.splitlines()) == 1
    assert not (tmp_path / "new.yaml").exists()


# A reader that has seen enough, as `head` has.


@pytest.mark.parametrize(
    "command", ["catalog list", "config show", "config schema", "--help", "--version", "simulate --listen 127.0.0.1:0"]
)
def test_a_reader_that_leaves_is_no_reason_to_complain(command: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "proxy", *command.split()],
            stdout=writer,
            stderr=subprocess.PIPE,
            check=False,
            encoding="utf-8",
            env=environment(),
            timeout=TIMEOUT_S,
        )
    finally:
        os.close(writer)

    assert (ended.returncode, ended.stderr) == (1, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")  # noqa: PTH110 - no path of ours
@pytest.mark.parametrize("command", ["catalog list", "config show"])
def test_an_output_that_cannot_be_written_is_told_in_one_line(command: str) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:  # noqa: PTH123 - as above
        ended = subprocess.run(
            [sys.executable, "-m", "proxy", *command.split()],
            stdout=full, stderr=subprocess.PIPE, check=False, encoding="utf-8", env=environment(), timeout=TIMEOUT_S,
        )  # fmt: skip

    reason = os.strerror(errno.ENOSPC).lower()
    assert (ended.returncode, ended.stderr) == (2, f"defender-sidecar: cannot write the output: {reason}\n")


def test_what_the_terminal_cannot_show_is_escaped(tmp_path: Path) -> None:
    path = tmp_path / "extra.yaml"
    path.write_text("openapi: 3.1.0\npaths: {caf\u00e9: {}}\n", "utf-8")

    ended = subprocess.run(
        [sys.executable, "-m", "proxy", "catalog", "validate", str(path)],
        capture_output=True, check=False, encoding="ascii", timeout=TIMEOUT_S,
        env=environment() | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
    )  # fmt: skip

    assert (ended.returncode, ended.stderr) == (2, "")
    assert "/paths/caf\\xe9: a path must start with a slash" in ended.stdout


def test_a_standard_output_that_is_closed_is_no_reason_to_complain() -> None:
    ended = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-m", "proxy", "config", "show"],
        stderr=subprocess.PIPE,
        check=False,
        encoding="utf-8",
        env=environment(),
        timeout=TIMEOUT_S,
    )

    assert (ended.returncode, ended.stderr) == (0, "")


# The simulator.


def test_simulate_says_where_it_is_and_answers_until_it_is_interrupted() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTIBLE, "simulate", "--listen", "127.0.0.1:0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env=environment(),
    ) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            found = re.search(r"http://127\.0\.0\.1:\d+", said)
            assert found, said
            with urllib.request.urlopen(f"{found[0]}/api/machines", timeout=TIMEOUT_S) as response:  # noqa: S310 - http
                assert json.load(response)["value"]
            process.send_signal(signal.SIGINT)
            _, complaint = process.communicate(timeout=TIMEOUT_S)
        finally:
            process.kill()

    assert (complaint, process.returncode) == ("", 0)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "127.0.0.1:", ":8081", "127.0.0.1:http", "127.0.0.1:65536", "a:\u00b2"]
)
def test_simulate_refuses_what_is_no_address(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--listen", address]) == 2

    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == f"defender-sidecar: --listen {address}: must be HOST:PORT, such as 127.0.0.1:8081\n"


def test_simulate_refuses_an_address_that_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"

        assert main(["simulate", "--listen", address]) == 2

    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"defender-sidecar: cannot listen on {address} ({IN_USE}); choose another"
