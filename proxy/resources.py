"""The data that ships with the package: catalog documents and error codes, read from YAML."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from proxy.core.catalog import Catalog, CatalogError, CatalogProblem, Document, compile_catalog
from proxy.core.codes import ErrorCodes

if TYPE_CHECKING:
    from collections.abc import Iterable

_Loader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


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
    """Return the catalog of the shipped documents and `extra` ones.

    Raises:
        CatalogError: with every problem of every document.
    """
    documents: list[Document] = []
    problems: list[CatalogProblem] = []
    shipped = sorted((config_folder() / "catalog").glob("*.yaml"))
    for path in (*shipped, *extra):
        name = path.name if path in shipped else str(path)
        try:
            documents.append(Document(name, _read_yaml(path)))
        except OSError as error:
            problems.append(CatalogProblem(name, "", f"cannot be read: {error.strerror or error}"))
        except UnicodeDecodeError:
            problems.append(CatalogProblem(name, "", "is not UTF-8 text"))
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            problems.append(CatalogProblem(name, "", f"is not YAML: {_first_line(error)}"))
    if problems:
        raise CatalogError(tuple(problems))
    return compile_catalog(documents)


def load_error_codes() -> ErrorCodes:
    """Return the documented error codes."""
    entries = _read_yaml(config_folder() / "error_codes.yaml")["codes"]
    statuses = {entry["code"]: entry["status"] for entry in entries}
    aliases = {alias: entry["code"] for entry in entries for alias in entry.get("aliases", ())}
    return ErrorCodes(statuses, aliases)


def _read_yaml(path: Path) -> Any:
    return yaml.load(path.read_text("utf-8"), Loader=_Loader)  # noqa: S506 - it is the safe loader, in C where built


def _first_line(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    return str(error).partition("\n")[0]
