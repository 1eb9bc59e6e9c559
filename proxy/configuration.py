"""Settings and the files that they name, read together, so that the problems of all are told at once."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from proxy.core.catalog import CatalogError
from proxy.core.text import printable
from proxy.files import unrecorded
from proxy.resources import load_catalog, load_error_codes, load_error_shapes
from proxy.settings import CATALOG_FILES, Loaded, Problem, Remark, load_settings
from proxy.tls import TlsFilesError, client_tls, server_tls

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
    from pathlib import Path

    from proxy.core.catalog import Catalog, CatalogProblem
    from proxy.core.codes import ErrorCodes
    from proxy.core.shapes import Shapes
    from proxy.settings import Loc, Settings
    from proxy.tls import Tls

_SERVER_FILES: Final = ("certificate", "key")
_CLIENT_FILES: Final = ("ca_file", "client_certificate", "client_key")


@dataclass(frozen=True, slots=True)
class Configuration:
    """All that a proxy runs by."""

    loaded: Loaded
    catalog: Catalog
    codes: ErrorCodes
    shapes: Shapes
    listener_tls: Tls | None = None
    """What clients are met with; None for plain HTTP."""
    upstream_tls: Tls | None = None
    """What an upstream is met with; None where it is reached in plain."""

    @property
    def settings(self) -> Settings:
        """The settings alone."""
        return self.loaded.settings


def load_configuration(path: Path | None, environment: Mapping[str, str], flags: Mapping[str, str]) -> Configuration:
    """Return the settings, as `load_settings` reads them, and what became of the files that they name.

    Raises:
        SettingsError: with every problem of the settings and of those files.
    """
    examination = _Examination()
    loaded = load_settings(path, environment, flags, examination)
    if examination.catalog is None:
        raise RuntimeError("no problem was told, and there is no catalog")
    with unrecorded():
        codes, shapes = load_error_codes(), load_error_shapes()
    upstream_tls = None
    if loaded.settings.upstream.url.startswith("https:"):
        upstream_tls = examination.upstream_tls or client_tls()
    return Configuration(loaded, examination.catalog, codes, shapes, examination.listener_tls, upstream_tls)


@dataclass(slots=True)
class _Examination:
    """Reads the files behind settings, tells what is wrong with them, and keeps what came of them."""

    catalog: Catalog | None = None
    listener_tls: Tls | None = None
    upstream_tls: Tls | None = None

    def __call__(self, files: Mapping[Loc, Path], operations: Iterable[Loc]) -> Iterator[Remark]:
        yield from self._tls(files)
        yield from self._catalog(files, operations)

    def _tls(self, files: Mapping[Loc, Path]) -> Iterator[Remark]:
        ours = {name: path for name in _SERVER_FILES if (path := files.get(("tls", name)))}
        theirs = {name: path for name in _CLIENT_FILES if (path := files.get(("upstream", name)))}
        # That one of a pair is missing is told of the settings themselves.
        if len(ours) == len(_SERVER_FILES):
            self.listener_tls = yield from _made("tls", server_tls, ours)
        if theirs:
            self.upstream_tls = yield from _made("upstream", client_tls, theirs)

    def _catalog(self, files: Mapping[Loc, Path], operations: Iterable[Loc]) -> Iterator[Remark]:
        documents = {loc: path for loc, path in files.items() if loc[:-1] == CATALOG_FILES}
        try:
            self.catalog = load_catalog(documents.values())
        except CatalogError as error:
            # Which operations there are cannot be told yet.
            yield from (_remark(problem, documents) for problem in error.problems)
            return
        known = {operation.name.lower(): operation.name for operation in self.catalog.operations}
        for loc in operations:
            name = str(loc[-1])
            if name not in known.values():
                near = difflib.get_close_matches(name.lower(), known, n=1)
                advice = f"did you mean {known[near[0]]}?" if near else "`catalog list` names them"
                yield loc, f"must be an operation of the catalog; {advice}"


def _made(section: str, make: Callable[..., Tls], files: Mapping[str, Path]) -> Generator[Remark, None, Tls | None]:
    """Return what `make` makes of `files`, the keys of `section`; yield what is wrong with them."""
    try:
        return make(**files)
    except TlsFilesError as error:
        for name, remedy in error.remedies.items():
            yield (section, name), remedy
    return None


def _remark(problem: CatalogProblem, files: Mapping[Loc, Path]) -> Remark:
    """Return what is wrong with a document: at its own line, or where the settings name it if it has none."""
    if problem.line is None and not problem.pointer:
        for loc, path in files.items():
            if str(path) == problem.document:
                return loc, f"must name an OpenAPI document; this one {printable(problem.message)}"
    place = problem.document if problem.line is None else f"{problem.document}:{problem.line}"
    return Problem(printable(problem.pointer), "", printable(place), printable(problem.message))
