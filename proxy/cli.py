"""The command line: `defender-sidecar`."""

# ruff: noqa: T201 - printing is what a command is for

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from proxy import __version__, logs, simulator
from proxy.core.catalog import CatalogError
from proxy.listener import ListenError
from proxy.server import StartError, serve
from proxy.settings import CONFIG_VARIABLE, SettingsError, describe, load_settings, settings_schema

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.settings import Loaded

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_UNUSABLE: Final = 2

_LAST_PORT: Final = 65535

_FLAGS: Final = {
    "upstream": "upstream.url",
    "listen": "listen",
    "admin": "admin",
    "mode": "check.mode",
    "workers": "workers",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that `arguments` name and return the exit status: 0, 1 for findings, 2 for unusable input."""
    try:
        try:
            options = _parser().parse_args(arguments)
            return int(options.command(options))
        finally:
            # Not at exit, where a reader that has gone makes the interpreter complain.
            print(end="", flush=True)
    except (SettingsError, CatalogError, ListenError, StartError) as error:
        for line in str(error).splitlines():
            print(f"defender-sidecar: {line}", file=sys.stderr)
        return EXIT_UNUSABLE
    except KeyboardInterrupt:
        return EXIT_FAILED
    except BrokenPipeError:
        # The reader has seen enough, as `head` does. Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED


def _run(options: argparse.Namespace) -> int:
    asyncio.run(serve(_loaded(options), logs.stdout()))
    return EXIT_OK


def _demo(options: argparse.Namespace) -> int:
    from proxy.demo import demo  # noqa: PLC0415 - its table costs memory that the proxy does not need

    return EXIT_OK if asyncio.run(demo(stays_up=not options.once)) else EXIT_FAILED


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
    rows = describe(_loaded(options))
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for key, value, origin in rows:
        print(f"{key:<{widths[0]}}  {value:<{widths[1]}}  {origin}")
    return EXIT_OK


def _config_schema(_options: argparse.Namespace) -> int:
    print(json.dumps(settings_schema(), indent=2))
    return EXIT_OK


def _loaded(options: argparse.Namespace) -> Loaded:
    path = options.config or os.environ.get(CONFIG_VARIABLE) or None
    flags = {key: value for name, key in _FLAGS.items() if (value := getattr(options, name)) is not None}
    return load_settings(Path(path) if path else None, os.environ, flags)


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

    config = commands.add_parser("config", help="show the settings in force, or their schema")
    config_commands = config.add_subparsers(required=True, metavar="COMMAND")
    show = config_commands.add_parser(
        "show", help="show every setting, its value and where it comes from", description="Takes the flags of `run`."
    )
    _add_settings(show)
    show.set_defaults(command=_config_show)
    schema = config_commands.add_parser("schema", help="print the JSON Schema of the settings file")
    schema.set_defaults(command=_config_schema)
    return parser


def _add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", help=f"settings file (YAML); else ${CONFIG_VARIABLE}")
    parser.add_argument("--upstream", metavar="URL", help="where requests go")
    parser.add_argument("--listen", metavar="HOST:PORT", help="where clients connect; port 0: any free one")
    parser.add_argument("--admin", metavar="HOST:PORT", help="where /metrics, /healthz and /readyz are")
    parser.add_argument("--mode", metavar="reject|fix|observe", help="what to do with a body in the wrong case")
    parser.add_argument("--workers", metavar="N", help="number of processes; this version runs 1")
