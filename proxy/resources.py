"""The data that ships with the package: catalog documents and error codes, read from YAML."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxy.core.catalog import CatalogError, CatalogProblem
from proxy.core.codes import ErrorCodes, Help, page_address
from proxy.core.openapi import compile_catalog
from proxy.core.shapes import ShapesError, compile_shapes
from proxy.documents import UnreadableError, read_document, read_yaml, with_lines
from proxy.errors import UnusableInputError
from proxy.files import unrecorded

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from proxy.core.catalog import Catalog, Document, Operation
    from proxy.core.shapes import Shapes


def config_folder() -> Path:
    """Return the folder of the shipped data: inside the installed package, beside it in a checkout.

    Raises:
        FileNotFoundError: the installation is incomplete.
    """
    package = Path(str(files("proxy")))
    for folder in (package / "config", package.parent / "config"):
        if (folder / "error_codes.yaml").is_file():
            return folder
    raise FileNotFoundError(f"{package / 'config'}: the data of the package is missing; install it again")


def load_catalog(extra: Iterable[Path] = ()) -> Catalog:
    """Return the catalog of the shipped documents and `extra` ones, which alone are recorded.

    The shipped ones change with the code that reads them, and not while it runs.

    Raises:
        CatalogError: with every problem of every document, and its line.
    """
    documents: list[Document] = []
    problems: list[CatalogProblem] = []
    with unrecorded():
        _read_into(documents, problems, _shipped())
    _read_into(documents, problems, [(path, str(path)) for path in extra])
    notes: tuple[CatalogProblem, ...] = ()
    try:
        catalog = compile_catalog(documents)
    except CatalogError as error:
        problems += _with_lines(error.problems)
        notes = error.notes
    if problems:
        raise CatalogError(tuple(problems), notes)
    return catalog


def _read_into(documents: list[Document], problems: list[CatalogProblem], files: Iterable[tuple[Path, str]]) -> None:
    """Add the documents behind `files`, paths with what they are called, and what is wrong with the others."""
    for path, name in files:
        try:
            documents.append(read_document(path, name))
        except CatalogError as error:
            problems += error.problems


@dataclass(frozen=True, slots=True)
class Validation:
    """What is to be said about documents that are to be added: what is wrong, and what the sidecar cannot use."""

    problems: tuple[CatalogProblem, ...]
    notes: tuple[CatalogProblem, ...]
    operations: tuple[Operation, ...]
    """Those of the documents, if nothing is wrong with them."""


def validated(extra: Sequence[Path]) -> Validation:
    """Return what comes of loading the documents `extra` beside the shipped ones, each place with its line."""
    shipped = {name for _, name in _shipped()}
    try:
        catalog = load_catalog(extra)
    except CatalogError as error:
        notes = tuple(note for note in error.notes if note.document not in shipped)
        return Validation(error.problems, _with_lines(notes), ())
    known = {operation.name for operation in load_catalog().operations}
    notes = tuple(note for note in catalog.notes if note.document not in shipped)
    operations = tuple(operation for operation in catalog.operations if operation.name not in known)
    return Validation((), _with_lines(notes), operations)


def shipped_documents() -> list[Document]:
    """Return the documents of the shipped catalog."""
    return [read_document(path, name) for path, name in _shipped()]


def _shipped() -> list[tuple[Path, str]]:
    """Return the shipped documents and what they are called."""
    return [(path, path.name) for path in sorted((config_folder() / "catalog").glob("*.yaml"))]


def _with_lines(problems: tuple[CatalogProblem, ...]) -> tuple[CatalogProblem, ...]:
    return with_lines(problems, config_folder() / "catalog")


def load_error_codes() -> ErrorCodes:
    """Return the documented error codes, each with what helps."""
    entries = read_yaml(config_folder() / "error_codes.yaml")["codes"]
    statuses = {entry["code"]: entry["status"] for entry in entries}
    aliases = {alias: entry["code"] for entry in entries for alias in entry.get("aliases", ())}
    helps = {
        entry["code"]: Help(entry["cause"], entry["remedy"], tuple(map(page_address, entry["pages"])))
        for entry in entries
    }
    return ErrorCodes(statuses, aliases, helps)


class UnusableShapesError(UnusableInputError):
    """The rules for errors cannot be used; the text has a line for each problem."""


def load_error_shapes(path: Path | None = None) -> Shapes:
    """Return the rules by which the shapes of errors are told apart, those of `path` in place of the shipped ones.

    Raises:
        UnusableShapesError: with every problem.
    """
    path = config_folder() / "error_shapes.yaml" if path is None else path
    try:
        return compile_shapes(read_yaml(path))
    except ShapesError as error:
        raise UnusableShapesError("\n".join(f"{path}: {problem}" for problem in error.problems)) from error
    except UnreadableError as error:
        place = str(path) if error.line is None else f"{path}:{error.line}"
        raise UnusableShapesError(f"{place}: {error.reason}") from error


def log_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of the log's lines in their JSON form."""
    schema: dict[str, Any] = json.loads((config_folder() / "log.schema.json").read_text("utf-8"))
    return schema
