"""Settings and catalog, read together: each names parts of the other, and the problems of both are told at once."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.core.catalog import CatalogError
from proxy.core.text import printable
from proxy.resources import load_catalog, load_error_codes, load_error_shapes
from proxy.settings import Loaded, Problem, Remark, load_settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from proxy.core.catalog import Catalog, CatalogProblem
    from proxy.core.codes import ErrorCodes
    from proxy.core.shapes import Shapes
    from proxy.settings import Loc


@dataclass(frozen=True, slots=True)
class Configuration:
    """All that a proxy is started with."""

    loaded: Loaded
    catalog: Catalog
    codes: ErrorCodes
    shapes: Shapes


def load_configuration(path: Path | None, environment: Mapping[str, str], flags: Mapping[str, str]) -> Configuration:
    """Return the settings, as `load_settings` reads them, and the catalog with the documents that they name.

    Raises:
        SettingsError: with every problem of the settings and of those documents.
    """
    catalogs: list[Catalog] = []

    def examine(files: Mapping[Loc, Path], operations: Iterable[Loc]) -> Iterator[Remark]:
        try:
            catalog = load_catalog(files.values())
        except CatalogError as error:
            # Which operations there are cannot be told yet.
            yield from (_remark(problem, files) for problem in error.problems)
            return
        catalogs.append(catalog)
        known = {operation.name.lower(): operation.name for operation in catalog.operations}
        for loc in operations:
            name = str(loc[-1])
            if name not in known.values():
                near = difflib.get_close_matches(name.lower(), known, n=1)
                advice = f"did you mean {known[near[0]]}?" if near else "`catalog list` names them"
                yield loc, f"must be an operation of the catalog; {advice}"

    loaded = load_settings(path, environment, flags, examine)
    return Configuration(loaded, catalogs[0], load_error_codes(), load_error_shapes())


def _remark(problem: CatalogProblem, files: Mapping[Loc, Path]) -> Remark:
    """Return what is wrong with a document: at its own line, or where the settings name it if it has none."""
    if problem.line is None and not problem.pointer:
        for loc, path in files.items():
            if str(path) == problem.document:
                return loc, f"must name an OpenAPI document; this one {printable(problem.message)}"
    place = problem.document if problem.line is None else f"{problem.document}:{problem.line}"
    return Problem(printable(problem.pointer), "", printable(place), printable(problem.message))
