"""The shape of the package, held as a table: who may import whom, what the core stays clear of, where tests live."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "proxy"


class Row(NamedTuple):
    """What a module may import: modules of `proxy` (`core` stands for all of it), and packages from outside.

    The standard library is open to the shell; what the core may take from it stands in `IMPURE`.
    """

    inside: frozenset[str]
    outside: frozenset[str]


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def row(inside: str = "", outside: str = "") -> Row:
    return Row(words(inside), words(outside))


# A new module must be entered here, which is when to ask where it belongs. `__init__` holds but the version.
CORE = row("core")
# A decoder is as pure as the rest, and the standard library has none for this coding.
CORE_CODING = row("core", "brotli")
SHELL = {
    "__init__": row(),
    "__main__": row("cli"),
    "admin": row("core listener progress", "aiohttp prometheus_client"),
    "catalog_report": row("core errors", "rich"),
    "cli": row(
        "__init__ catalog_report configuration demo errors logs loop metadata reload resources server settings "
        "simulator workers",
        "rich",
    ),
    "configuration": row("core files resources settings tls"),
    "demo": row(
        "__init__ configuration core admin exchange listener logs server simulator telemetry upstream",
        "aiohttp rich structlog yarl",
    ),
    "documents": row("core files", "yaml"),
    "errors": row(),
    "files": row(),
    "exchange": row("core errors listener progress settings telemetry tracing upstream", "aiohttp"),
    "listener": row("core errors progress settings", "aiohttp"),
    "logs": row("core", "structlog"),
    "loop": row("", "uvloop"),
    "metadata": row("core errors", "defusedxml yaml"),
    "numbers": row("", "prometheus_client"),
    "progress": row("", "aiohttp"),
    "reload": row("configuration errors files logs telemetry"),
    "resources": row("core documents errors files"),
    "server": row(
        "admin configuration errors listener logs loop reload settings status switch telemetry tracing",
        "aiohttp prometheus_client",
    ),
    "settings": row(
        "core settings_layers settings_problems settings_values", "pydantic pydantic_core pydantic_settings"
    ),
    "settings_layers": row("files settings_problems settings_values", "yaml"),
    "settings_problems": row("errors settings_values", "yaml"),
    "settings_values": row("core", "pydantic"),
    # The stand-in shares nothing with the proxy: it must not share our mistakes.
    "simulator": row("simulator_data", "aiohttp"),
    "simulator_data": row(),
    "status": row("__init__ core progress", "aiohttp"),
    "switch": row("configuration core exchange listener settings telemetry tls tracing upstream", "aiohttp"),
    "telemetry": row("__init__ core logs", "prometheus_client"),
    "tls": row("files"),
    "tracing": row("__init__ core listener", "opentelemetry requests"),
    "upstream": row("core progress", "aiohttp yarl"),
    "workers": row(
        "admin configuration core errors listener logs loop numbers reload server settings status telemetry",
        "prometheus_client",
    ),
}

# Import names whose distribution is called otherwise, or comes with another that is declared.
DISTRIBUTIONS = {"yaml": "pyyaml", "pydantic_core": "pydantic"}

# Modules that are imported only where an extra is installed.
OPTIONAL = {"tracing": "otel"}

# No core module may import these itself: clocks, chance, files, processes, the outside world. `sys.modules` cannot
# tell, as the interpreter needs several of them to start.
IMPURE = words(
    "asyncio concurrent datetime io logging multiprocessing os pathlib queue random sched secrets select selectors "
    "shutil signal socket socketserver ssl subprocess tempfile threading time uuid"
)

# Nor may anything that it imports bring in these.
UNWANTED = words(
    "_socket _ssl aiohttp asyncio http.client http.server logging multidict multiprocessing prometheus_client pydantic "
    "select selectors socket ssl structlog subprocess urllib.request yaml yarl"
)


def name_of(path: Path) -> str:
    """Return a module's name below `proxy`: `core.model`, `upstream`, `core.__init__`."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


SOURCES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
MODULES = sorted(SOURCES)
CORE_MODULES = [name for name in MODULES if name.startswith("core.")]


def importable(name: str) -> str:
    """Return what to write after `import` for the module of this name."""
    return ".".join(["proxy", *name.split(".")]).removesuffix(".__init__")


def inside_names(dotted: str) -> set[str]:
    """Return the module of `proxy` that a dotted name means: the longest part of it that is a module."""
    parts = dotted.split(".")[1:]
    for length in range(len(parts), -1, -1):
        for name in (".".join(parts[:length]), ".".join([*parts[:length], "__init__"])):
            if name in SOURCES:
                return {name}
    return {dotted}


def imports(name: str) -> set[str]:
    """Return the dotted names that a module imports, in functions and for type checkers too."""
    package = ["proxy", *name.split(".")[:-1]]
    found: set[str] = set()
    for node in ast.walk(ast.parse(SOURCES[name].read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=aliases):
                found.update(alias.name for alias in aliases)
            case ast.ImportFrom(module=module, names=aliases, level=level):
                above = package[: len(package) - level + 1] if level else []
                base = ".".join([*above, *([module] if module else [])])
                found.update(f"{base}.{alias.name}" for alias in aliases)
    return found


def is_ours(dotted: str) -> bool:
    return dotted.partition(".")[0] == "proxy"


def inside(name: str) -> set[str]:
    """Return the modules of `proxy` that a module imports."""
    return {found for dotted in imports(name) if is_ours(dotted) for found in inside_names(dotted)} - {name}


def top_levels(name: str) -> set[str]:
    """Return the top-level packages that a module imports, apart from `proxy`."""
    return {dotted.split(".")[0] for dotted in imports(name) if not is_ours(dotted)} - {"__future__"}


def outside(name: str) -> set[str]:
    """Return the top-level packages that a module imports from neither `proxy` nor the standard library."""
    return top_levels(name) - sys.stdlib_module_names


def rule(name: str) -> Row:
    if name == "core.coding":
        return CORE_CODING
    return CORE if name.startswith("core.") else SHELL[name]


def run(code: str, *flags: str) -> str:
    """Run Python code in a process of its own, at the top of the checkout, and return what it prints."""
    done = subprocess.run(
        [sys.executable, *flags, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_table_names_every_module_and_no_other() -> None:
    assert set(SHELL) == {name for name in MODULES if not name.startswith("core.")}


@pytest.mark.parametrize("name", MODULES)
def test_imports_from_the_package_follow_the_table(name: str) -> None:
    allowed = rule(name).inside
    strays = {found for found in inside(name) if found.split(".")[0] not in allowed}
    assert not strays, f"proxy.{name} may import {sorted(allowed) or 'nothing'} from proxy"


@pytest.mark.parametrize("name", MODULES)
def test_imports_from_outside_follow_the_table(name: str) -> None:
    allowed = rule(name).outside
    assert outside(name) <= allowed, f"proxy.{name} may import {sorted(allowed) or 'nothing'} from outside"


@pytest.mark.parametrize("name", CORE_MODULES)
def test_the_core_imports_no_clock_no_chance_and_no_input_or_output(name: str) -> None:
    assert not top_levels(name) & IMPURE


@pytest.mark.parametrize("name", CORE_MODULES)
def test_the_core_brings_in_no_event_loop_no_logging_and_no_network(name: str) -> None:
    code = f"import sys; before = set(sys.modules); import {importable(name)}; print(*set(sys.modules) - before)"
    # -S leaves site-packages out: only the standard library is there to be imported.
    brought_in = set(run(code, "-S", "-E").split())
    assert importable(name) in brought_in
    assert not brought_in & UNWANTED


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {name: inside(name) for name in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))


# Importing __main__ is running the program; tests/test_cli.py does.
@pytest.mark.parametrize("name", [name for name in MODULES if name != "__main__"])
def test_a_fresh_process_imports_it_without_a_warning_or_a_word(name: str) -> None:
    assert not run(f"import {importable(name)}", "-W", "error")


# Nouns and a common name do nothing that could be tested; what the simulator knows is seen in what it answers.
WITHOUT_TESTS = {"core.model", "errors", "simulator_data"}


@pytest.mark.parametrize(
    "name",
    [name for name in MODULES if name.split(".")[-1] not in {"__init__", "__main__"} and name not in WITHOUT_TESTS],
)
def test_it_has_its_test_file(name: str) -> None:
    *folders, last = name.split(".")
    assert ROOT.joinpath("tests", *folders, f"test_{last}.py").is_file()


def test_declared_dependencies_are_those_that_are_imported() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    for modules, requirements in (
        (set(MODULES) - OPTIONAL.keys(), project["dependencies"]),
        *(({name}, extras.pop(extra)) for name, extra in OPTIONAL.items()),
    ):
        declared = {re.split(r"[^\w-]", requirement)[0].lower() for requirement in requirements}
        imported = {found for name in modules for found in outside(name)}
        known = {DISTRIBUTIONS.get(name, name.replace("_", "-")) for name in imported}
        # One namespace, several distributions.
        of_namespace = {name for name in declared if name.startswith("opentelemetry-")}
        assert known - {"opentelemetry"} == declared - of_namespace
        assert ("opentelemetry" in known) == bool(of_namespace)
    assert not extras
