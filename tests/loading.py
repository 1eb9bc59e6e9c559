"""Ways to load settings in a test: for the problems, for the only one, or for whatever comes of it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from proxy.settings import Loaded, Problem, SettingsError, describe, load_settings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


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
