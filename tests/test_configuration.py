"""Settings and catalog together: what each needs of the other, and that no problem of either waits for another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from proxy.configuration import load_configuration
from proxy.settings import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

DOCUMENT = "openapi: 3.1.0\npaths: {/brews: {post: {operationId: brewCoffee}}}\n"


def told(path: Path | None, environment: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_configuration(path, environment or {}, {})
    return str(caught.value).splitlines()


def test_without_anything_there_are_the_defaults_and_the_shipped_catalog() -> None:
    configuration = load_configuration(None, {}, {})

    assert configuration.loaded.settings.check.operations == {}
    assert configuration.catalog.match("POST", "/api/machines/1/isolate").name == "isolateMachine"
    assert "MissingRequiredParameter" in configuration.codes.statuses


def test_an_operation_of_an_extra_document_may_have_a_mode(tmp_path: Path) -> None:
    (tmp_path / "extra.yaml").write_text(DOCUMENT, "utf-8")
    path = tmp_path / "proxy.yaml"
    path.write_text("catalog: {files: [extra.yaml]}\n", "utf-8")
    mode = {"DEFENDER_SIDECAR_CHECK__OPERATIONS": '{"brewCoffee": "off"}'}

    assert load_configuration(path, mode, {}).catalog.match("POST", "/brews").name == "brewCoffee"
    (line,) = told(None, mode)
    assert line.startswith(
        "DEFENDER_SIDECAR_CHECK__OPERATIONS: check.operations.brewCoffee = off: must be an operation"
    )


def test_every_problem_of_settings_and_documents_is_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "proxy.yaml"
    path.write_text(
        "listen: nowhere\n"
        "check:\n"
        "  operations: {updateAlert: nope}\n"
        "catalog:\n"
        "  files:\n"
        "    - missing.yaml\n"
        "    - broken.yaml\n"
        "    - faulty.yaml\n"
        "    - list.yaml\n",
        "utf-8",
    )
    (tmp_path / "broken.yaml").write_text("[\n" * 2000, "utf-8")
    (tmp_path / "faulty.yaml").write_text("openapi: 3.1.0\npaths:\n  brews: {}\n", "utf-8")
    (tmp_path / "list.yaml").write_text("- openapi\n", "utf-8")

    lines = told(path, {"DEFENDER_SIDECAR_LOG__LEVEL": "loud"})

    assert [line.split(": ")[:2] for line in lines] == [
        [f"{path}:1", "listen = nowhere"],
        [f"{path}:3", "check.operations.updateAlert = nope"],
        [f"{path}:6", "catalog.files[0] = missing.yaml"],
        [f"{path}:9", "catalog.files[3] = list.yaml"],
        ["DEFENDER_SIDECAR_LOG__LEVEL", "log.level = loud"],
        [lines[5].partition(": ")[0], lines[5].split(": ")[1]],
        [f"{tmp_path / 'faulty.yaml'}:3", "/paths/brews"],
    ]
    assert lines[5].startswith(f"{tmp_path / 'broken.yaml'}:")


def test_a_document_forges_no_line(tmp_path: Path) -> None:
    path = tmp_path / "proxy.yaml"
    path.write_text("catalog: {files: [extra.yaml]}\n", "utf-8")
    (tmp_path / "extra.yaml").write_text('openapi: 3.1.0\npaths: {"/a\\nforged\\e[31m": {}}\n', "utf-8")

    (line,) = told(path)
    assert line.startswith(rf"{tmp_path / 'extra.yaml'}:2: /paths/~1a\nforged\x1b[31m: a path must not hold")


def test_a_misspelt_operation_is_told_beside_other_problems(tmp_path: Path) -> None:
    path = tmp_path / "proxy.yaml"
    path.write_text("check: {mode: sometimes, operations: {isolatMachine: fix}}\n", "utf-8")

    assert [line.split(": ", 1)[1].partition(":")[0] for line in told(path)] == [
        "check.mode = sometimes",
        "check.operations.isolatMachine = fix",
    ]


@pytest.mark.parametrize("files", ["[7]", "[null]", "[[a]]", "extra.yaml"])
def test_what_is_no_path_is_told_once(tmp_path: Path, files: str) -> None:
    path = tmp_path / "proxy.yaml"
    path.write_text(f"catalog: {{files: {files}}}\n", "utf-8")

    (line,) = told(path)

    assert line.startswith(f"{path}:1: catalog.files")
