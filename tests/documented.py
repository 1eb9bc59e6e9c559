"""The schema of the log, held against lines that a proxy has really written."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from jsonschema import Draft202012Validator  # type: ignore[import-untyped] # comes without types

from proxy.resources import log_schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_DEFINED: Final = "#/$defs/"

_KEPT: Final[list[str]] = []


def keep(line: str) -> None:
    """Have `line` held against the schema at the end of the test that runs."""
    _KEPT.append(line)


def heard(line: str | bytes) -> Any:
    """Return what a proxy's line in JSON says, and keep it."""
    keep(line if isinstance(line, str) else line.decode())
    return json.loads(line)


def taken() -> list[str]:
    """Return the lines that were kept since this was last asked."""
    lines, _KEPT[:] = _KEPT[:], []
    return lines


@cache
def branches() -> dict[str, dict[str, Any]]:
    """Return the schema of each event by its name, with what it refers to put in its place."""
    schema = log_schema()
    definitions = schema["$defs"]

    def whole(part: Any) -> Any:
        match part:
            case {"$ref": str(reference)}:
                return whole(definitions[reference.removeprefix(_DEFINED)])
            case dict():
                return {name: whole(inner) for name, inner in part.items()}
            case list():
                return [whole(inner) for inner in part]
            case _:
                return part

    names = [branch["$ref"].removeprefix(_DEFINED) for branch in schema["oneOf"]]
    return {name: whole(definitions[name]) for name in names}


@cache
def _validators() -> dict[str, Draft202012Validator]:
    return {name: Draft202012Validator(branch) for name, branch in branches().items()}


def undocumented(lines: Iterable[str | Mapping[str, Any]]) -> list[str]:
    """Return what in `lines` the schema does not allow: event, field and reason; the console form is left out."""
    found = []
    for each in lines:
        if isinstance(each, str) and not each.startswith("{"):
            continue
        line: Mapping[str, Any] = json.loads(each) if isinstance(each, str) else each
        validator = _validators().get(line["event"])
        if validator is None:
            found.append(f"{line['event']}: no such event")
        elif not validator.is_valid(line):
            found += [f"{line['event']}: {error.json_path}: {error.message}" for error in validator.iter_errors(line)]
    return found
