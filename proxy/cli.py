"""The command line: `defender-sidecar`."""

# ruff: noqa: T201 - printing is what a command is for

from __future__ import annotations

import argparse
import asyncio
import errno
import io
import json
import os
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from proxy import __version__, logs, loop, simulator, workers
from proxy.configuration import load_configuration
from proxy.errors import UnusableInputError
from proxy.reload import Source
from proxy.resources import log_schema, shipped_documents, validated
from proxy.server import StartError, serve
from proxy.settings import CONFIG_VARIABLE, describe, settings_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console

    from proxy.configuration import Configuration

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_UNUSABLE: Final = 2

_STANDARD_ERROR: Final = 2

# What a standard output that goes to a file or a device fails with; any other error is a defect, and is shown as one.
_CANNOT_WRITE: Final = frozenset({errno.EBADF, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC})

_LAST_PORT: Final = 65535
_PIPED_WIDTH: Final = 160

_FLAGS: Final = {
    "upstream": "upstream.url",
    "listen": "listen",
    "admin": "admin",
    "mode": "check.mode",
    "workers": "workers",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that `arguments` name and return the exit status: 0, 1 for findings, 2 for unusable input."""
    _fill_standard_descriptors()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A name in a document may hold what the terminal's encoding does not.
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            options = _parser().parse_args(arguments)
            return int(options.command(options))
        finally:
            # Not at exit, where a reader that has gone makes the interpreter complain.
            print(end="", flush=True)
    except UnusableInputError as error:
        for line in str(error).splitlines():
            print(f"defender-sidecar: {line}", file=sys.stderr)
        return EXIT_UNUSABLE
    except KeyboardInterrupt:
        return EXIT_FAILED
    except BrokenPipeError:
        # The reader has seen enough, as `head` does. Python would complain once more at exit.
        _leave_stdout()
        return EXIT_FAILED
    except OSError as error:
        if error.errno not in _CANNOT_WRITE:
            raise
        _leave_stdout()
        print(f"defender-sidecar: cannot write the output: {(error.strerror or str(error)).lower()}", file=sys.stderr)
        return EXIT_UNUSABLE


def _fill_standard_descriptors() -> None:
    """Open the null device where standard input or an output is closed: what is opened next would take its number.

    uvloop ends the process when it comes to close such a descriptor.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STANDARD_ERROR:
        pass
    os.close(descriptor)


def _leave_stdout() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(options: argparse.Namespace) -> int:
    source = Source(partial(_configuration, options))
    configuration, stream = source.read(), logs.stdout()
    if options.worker_at is not None:
        loop.run(workers.work(configuration, source, workers.Place.of_argument(options.worker_at), stream))
    elif configuration.settings.workers > 1:
        loop.run(workers.lead(configuration, source, stream, (sys.executable, *sys.orig_argv[1:])))
    else:
        loop.run(serve(configuration, source, stream))
    return EXIT_OK


def _demo(options: argparse.Namespace) -> int:
    from proxy.demo import demo  # noqa: PLC0415 - its table costs memory that the proxy does not need

    return EXIT_OK if loop.run(demo(stays_up=not options.once)) else EXIT_FAILED


def _simulate(options: argparse.Namespace) -> int:
    host, _, port = options.listen.rpartition(":")
    if not host or not (port.isascii() and port.isdecimal() and int(port) <= _LAST_PORT):
        raise StartError(f"--listen {options.listen}: must be HOST:PORT, such as 127.0.0.1:8081")
    try:
        asyncio.run(
            simulator.serve(host.strip("[]"), int(port), lambda url: print(f"the simulator is at {url}", flush=True))
        )
    except KeyboardInterrupt:
        return EXIT_OK  # there is no other way to end it
    except BrokenPipeError:
        raise
    except OSError as error:
        # asyncio puts the address into the text once more; a name that does not resolve has a negative number.
        reason = os.strerror(error.errno).lower() if error.errno and error.errno > 0 else error.strerror or error
        raise StartError(f"cannot listen on {options.listen} ({reason}); choose another") from error
    return EXIT_OK


def _config_show(options: argparse.Namespace) -> int:
    rows = describe(_configuration(options).loaded)
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for key, value, origin in rows:
        print(f"{key:<{widths[0]}}  {value:<{widths[1]}}  {origin}")
    return EXIT_OK


def _catalog_list(options: argparse.Namespace) -> int:
    from proxy import catalog_report  # noqa: PLC0415 - its tables cost memory that the proxy does not need

    catalog = _configuration(options).catalog
    if options.format == "json":
        print(json.dumps([catalog_report.as_json(operation) for operation in catalog.operations], indent=2))
    elif sys.stdout.isatty():
        _print_table(lambda console: catalog_report.print_list(console, catalog))
    else:
        for line in catalog_report.as_lines(catalog):
            print(line)
    return EXIT_OK


def _catalog_show(options: argparse.Namespace) -> int:
    from proxy import catalog_report  # noqa: PLC0415 - as above

    operation = catalog_report.find_operation(_configuration(options).catalog, options.operation)
    if options.format == "json":
        print(json.dumps(catalog_report.as_json(operation), indent=2))
    else:
        _print_table(lambda console: catalog_report.print_operation(console, operation))
    return EXIT_OK


def _catalog_validate(options: argparse.Namespace) -> int:
    validation = validated([Path(file) for file in options.files])
    for problem in validation.problems:
        print(f"error: {problem}")
    for note in validation.notes:
        print(f"note: {note}")
    if validation.problems:
        return EXIT_UNUSABLE
    checked = sum(operation.is_checked for operation in validation.operations)
    count = len(validation.operations)
    print(f"{count} {'operation' if count == 1 else 'operations'} can be added, {checked} with a body that is checked")
    return EXIT_OK


def _catalog_import_metadata(options: argparse.Namespace) -> int:
    from proxy import metadata  # noqa: PLC0415 - the proxy itself reads no XML

    if options.compare and options.output:
        raise UnusableInputError("--output: --compare writes to standard output alone; leave one of the two out")
    if options.format == "json" and not options.compare:
        raise UnusableInputError("--format json: is for --compare, a document is always YAML; leave it out")
    path = Path(options.file)
    documents = [document.content for document in shipped_documents()]
    if options.compare:
        comparison = metadata.compare_metadata(path, documents, prefix=options.prefix)
        if options.format == "json":
            print(metadata.render_json(comparison))
        else:
            width = shutil.get_terminal_size().columns if sys.stdout.isatty() else metadata.PIPED_WIDTH
            print(metadata.render_text(comparison, width))
        return EXIT_FAILED if comparison else EXIT_OK
    imported = metadata.import_metadata(path, documents, prefix=options.prefix, takes_all=options.all)
    text = metadata.to_yaml(imported.document)
    if options.output:
        metadata.save(text, imported, Path(options.output))
    else:
        print(text, end="")
    for line in metadata.summary(imported):
        print(line, file=sys.stderr)
    return EXIT_OK


def _print_table(draw: Callable[[Console], None]) -> None:
    """Print what `draw` draws, without the spaces behind."""
    from rich.console import Console  # noqa: PLC0415 - as above

    width = None if sys.stdout.isatty() else _PIPED_WIDTH
    console = Console(file=sys.stdout, width=width, highlight=False, markup=False, emoji=False)
    with console.capture() as capture:
        draw(console)
    for line in capture.get().strip("\n").splitlines():
        print(line.rstrip())


def _config_schema(options: argparse.Namespace) -> int:
    print(json.dumps(log_schema() if options.log else settings_schema(), indent=2))
    return EXIT_OK


def _configuration(options: argparse.Namespace) -> Configuration:
    path = options.config or os.environ.get(CONFIG_VARIABLE) or None
    flags = {key: value for name, key in _FLAGS.items() if (value := getattr(options, name)) is not None}
    return load_configuration(Path(path) if path else None, os.environ, flags)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="defender-sidecar",
        description="A sidecar proxy for the Microsoft Defender APIs: it checks the case of body parameters, "
        "hands on the target ID of every error, and counts errors by code.",
    )
    parser.add_argument("--version", action="version", version=f"defender-sidecar {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser(
        "run",
        help="run the proxy",
        description="Run the proxy until SIGTERM. Flags override the environment (DEFENDER_SIDECAR_…), which "
        "overrides the file.",
        epilog="example: defender-sidecar run --upstream https://api.security.microsoft.com --mode observe",
    )
    _add_settings(run)
    run.add_argument("--worker-at", metavar="PLACE", help=argparse.SUPPRESS)
    run.set_defaults(command=_run)

    demo = commands.add_parser(
        "demo",
        help="show what the proxy does, against the built-in simulator",
        description="Start the simulator and the proxy on free ports, send a dozen telling calls and show what came "
        "of each; then stay up for calls of your own.",
    )
    demo.add_argument(
        "--once", action="store_true", help="end after the calls, with status 0 if all went as they should"
    )
    demo.set_defaults(command=_demo)

    simulate = commands.add_parser(
        "simulate",
        help="run the simulator: an upstream that behaves as the documentation says",
        description="Run the simulator until it is interrupted.",
        epilog=simulator.HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    simulate.add_argument("--listen", metavar="HOST:PORT", default="127.0.0.1:8081", help="default: %(default)s")
    simulate.set_defaults(command=_simulate)

    _add_catalog(commands)

    config = commands.add_parser("config", help="show the settings in force, or their schema")
    config_commands = config.add_subparsers(required=True, metavar="COMMAND")
    show = config_commands.add_parser(
        "show", help="show every setting, its value and where it comes from", description="Takes the flags of `run`."
    )
    _add_settings(show)
    show.set_defaults(command=_config_show)
    schema = config_commands.add_parser("schema", help="print the JSON Schema of the settings file, or of the log")
    schema.add_argument("--log", action="store_true", help="of the lines of the log, in their JSON form")
    schema.set_defaults(command=_config_schema)
    return parser


def _add_catalog(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    catalog = commands.add_parser("catalog", help="look at the operations that the proxy knows, or add to them")
    catalog_commands = catalog.add_subparsers(required=True, metavar="COMMAND")
    listing = catalog_commands.add_parser(
        "list",
        help="list all operations",
        description="List the operations of the shipped catalog and of the documents that the settings add.",
    )
    listing.set_defaults(command=_catalog_list)
    show = catalog_commands.add_parser(
        "show",
        help="show one operation: names, values, sources, and a body that is right",
        epilog="example: defender-sidecar catalog show isolateMachine",
    )
    show.add_argument("operation", metavar="OPERATION", help="its name, as `catalog list` and the log have it")
    show.set_defaults(command=_catalog_show)
    for command in (listing, show):
        command.add_argument("--format", choices=("text", "json"), default="text", help="default: %(default)s")
        _add_settings(command)
    validate = catalog_commands.add_parser(
        "validate",
        help="check OpenAPI documents for `catalog.files`",
        description="Load the documents beside the shipped catalog, and tell by line what is wrong with them, with "
        "status 2, and what in them the proxy cannot use.",
    )
    validate.add_argument("files", metavar="FILE", nargs="+", help="OpenAPI 3.0 or 3.1, YAML or JSON")
    validate.set_defaults(command=_catalog_validate)
    metadata = catalog_commands.add_parser(
        "import-metadata",
        help="turn a service's OData metadata into an OpenAPI document",
        description="Write what the answer to GET /api/$metadata describes as a document for `catalog.files`: the "
        "operations that the shipped catalog lacks. With --compare, tell instead what it knows that the catalog does "
        "not, and where they disagree: status 1 if there is anything.",
        epilog="example: defender-sidecar catalog import-metadata metadata.xml --output tenant.yaml",
    )
    metadata.add_argument("file", metavar="FILE", help="the metadata (OData 4, XML); - for standard input")
    metadata.add_argument("--prefix", metavar="PATH", default="/api", help="what stands before each entity set (/api)")
    metadata.add_argument("--all", action="store_true", help="write also what the shipped catalog has")
    metadata.add_argument("--output", metavar="FILE", help="where to write it; else to standard output")
    metadata.add_argument("--compare", action="store_true", help="compare with the shipped catalog instead")
    metadata.add_argument("--format", choices=("text", "json"), default="text", help="of a comparison: %(default)s")
    metadata.set_defaults(command=_catalog_import_metadata)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", help=f"settings file (YAML); else ${CONFIG_VARIABLE}")
    parser.add_argument("--upstream", metavar="URL", help="where requests go")
    parser.add_argument("--listen", metavar="HOST:PORT", help="where clients connect; port 0: any free one")
    parser.add_argument("--admin", metavar="HOST:PORT", help="where /metrics, /healthz and /readyz are")
    parser.add_argument("--mode", metavar="reject|fix|observe", help="what to do with a body in the wrong case")
    parser.add_argument("--workers", metavar="N", help="number of processes that carry requests (default: 1)")
