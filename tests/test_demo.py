"""The demonstration runs, notices what is not as it should be, and prints commands that work."""

from __future__ import annotations

import asyncio
import io
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from rich.console import Console

from proxy.demo import CALLS, Call, Expected, Journal, Result, deviations, results_of, show
from proxy.simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ROOT = Path(__file__).parents[1]
READY = "Ctrl-C ends."
WITHIN_S = 30

# What each command has to bring forth, in the order in which they are printed.
FOUND_IN_OUTPUT = (
    ("HTTP/1.1 201 Created", '"requestorComment": "Try it"'),
    ("HTTP/1.1 400 Bad Request", "X-Error-Origin: proxy", "'comment' must be 'Comment'"),
    ("HTTP/1.1 403 Forbidden", "X-Error-Code: Forbidden", "X-Target-Id: "),
    ("HTTP/1.1 404 Not Found", "X-Target-Id: |", "X-Target-Source: envelope"),
    ('defender_proxy_errors_total{code="Forbidden",origin="upstream",status="403"} 2.0',),
    ('# {target_id="',),
)


def environment(**more: str) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if name not in {"FORCE_COLOR", "NO_COLOR"}}
    return {**plain, "PYTHONUTF8": "1", **more}


def demo_once(**more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "proxy", "demo", "--once"],
        cwd=ROOT,
        env=environment(**more),
        capture_output=True,
        encoding="utf-8",
        timeout=WITHIN_S,
        check=False,
    )


@pytest.mark.parametrize("columns", ["80", "100", "200"])
def test_once_shows_every_call_and_ends_well(columns: str) -> None:
    ended = demo_once(COLUMNS=columns)
    assert ended.returncode == 0, ended.stdout
    assert ended.stderr == ""
    assert f"{len(CALLS)} of {len(CALLS)} as they should be" in ended.stdout
    assert max(map(len, ended.stdout.splitlines())) <= int(columns)
    assert "\x1b" not in ended.stdout
    # Lines break anywhere: read the table column by column, and compare without white space.
    rows = [line.split("│")[1:-1] for line in ended.stdout.splitlines() if line.startswith("│")]
    told = "".join("".join(column) for column in zip(*rows, strict=True)).replace(" ", "")
    for call in CALLS:
        code = call.expected.code and f"{call.expected.code}(origin:{call.expected.origin})"
        for part in (call.method + call.path, str(call.expected.status), call.expected.event, code):
            assert part in told, call.title
    for word in ("nothing", '"ScanType":"Quick"', "mode=observe", "failure=connection_terminated", "source:envelope"):
        assert word in told
    assert re.search(r"\|[0-9a-f]{8}-[0-9a-f]{16}\.", ended.stdout)


def test_colour_marks_the_wrong_name() -> None:
    assert '{\x1b[1;31m"comment"\x1b[0m: "Beacon seen"' in demo_once(FORCE_COLOR="1", COLUMNS="100").stdout


def test_a_terminal_without_unicode_gets_ascii() -> None:
    ended = demo_once(PYTHONIOENCODING="ascii")
    assert ended.returncode == 0
    assert ended.stdout.isascii()
    assert "\\u" not in ended.stdout
    assert f"ok {len(CALLS)} of {len(CALLS)}" in ended.stdout


class Staying:
    """A demo that stays up: what it has printed so far, and a way to wait for more."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.printed = ""

    async def until(self, text: str) -> str:
        assert self.process.stdout is not None
        async with asyncio.timeout(WITHIN_S):
            while text not in self.printed:
                piece = await self.process.stdout.read(65536)
                assert piece, self.printed
                self.printed += piece.decode()
        return self.printed

    async def end(self, number: signal.Signals) -> tuple[int, str, str]:
        """Send a signal and return the exit status, and what was still written to stdout and stderr."""
        self.process.send_signal(number)
        async with asyncio.timeout(WITHIN_S):
            rest, errors = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, rest.decode(), errors.decode()


@asynccontextmanager
async def staying() -> AsyncIterator[Staying]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxy", "demo", cwd=ROOT, env=environment(),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        running = Staying(process)
        await running.until(READY)
        yield running
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def run_with_curl(command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, command
    return output.decode()


async def run_without_curl(command: str) -> str:
    """Do what the command says for those options of curl and that use of grep which the demo prints."""
    words = shlex.split(command)
    bar = words.index("|") if "|" in words else len(words)
    curl, grep = words[1:bar], words[bar + 1 :]
    headers: dict[str, str] = {}
    options: dict[str, Any] = {}
    url, shows_head = "", False
    arguments = iter(curl)
    for word in arguments:
        match word:
            case "-s":
                pass
            case "-i":
                shows_head = True
            case "-D" | "-o":
                assert next(arguments) == {"-D": "-", "-o": os.devnull}[word]
                shows_head = shows_head or word == "-D"
            case "-H":
                name, _, value = next(arguments).partition(": ")
                headers[name] = value
            case "-d":
                options = {"method": "POST", "data": next(arguments)}
            case _:
                assert word.startswith("http://127.0.0.1:"), word
                url = word
    async with (
        aiohttp.ClientSession() as session,
        session.request(url=url, headers=headers, **{"method": "GET", **options}) as response,
    ):
        lines = (await response.text()).splitlines() if "-o" not in curl else []
        if shows_head:
            head = [f"{name}: {value}" for name, value in response.headers.items()]
            lines = [f"HTTP/1.1 {response.status} {response.reason}", *head, "", *lines]
    if grep:
        assert grep[0] == "grep"
        lines = [line for line in lines if re.search(grep[1], line)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    "run",
    [
        pytest.param(
            run_with_curl, id="curl", marks=pytest.mark.skipif(shutil.which("curl") is None, reason="curl is missing")
        ),
        pytest.param(run_without_curl, id="aiohttp"),
    ],
)
async def test_every_printed_command_works(run: Any) -> None:
    async with staying() as running:
        commands = [line for line in running.printed.splitlines() if line.startswith("curl ")]
        assert len(commands) == len(FOUND_IN_OUTPUT)
        for command, wanted in zip(commands, FOUND_IN_OUTPUT, strict=True):
            output = await run(command)
            for text in wanted:
                assert text in output, command
        log = (await running.until("error_code=NotFound")).partition(READY)[2]
        assert [line.split()[3] for line in log.splitlines() if line.strip()] == [
            "request", "case_mismatch", "upstream_error", "upstream_error",
        ]  # fmt: skip


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_it_leaves_quietly_on_a_signal(number: signal.Signals) -> None:
    async with staying() as running:
        for name in ("Proxy", "Metrics", "Readiness", "Simulator"):
            assert re.search(rf"^{name} +http://127\.0\.0\.1:\d+", running.printed, re.MULTILINE)
        assert await running.end(number) == (0, "", "")


async def test_what_is_printed_is_ready() -> None:
    async with staying() as running:
        readiness = re.search(r"^Readiness +(\S+)", running.printed, re.MULTILINE)
        assert readiness
        async with aiohttp.ClientSession() as session, session.get(readiness[1]) as response:
            assert response.status == 200


TARGET = "0f4d4b3e-8f0c-4b6e-9a57-3d2f1c0b9a88"
CALL = Call(
    "wrong case",
    "POST",
    "/api/machines/1/isolate",
    Expected(
        400,
        "case_mismatch",
        code="MissingRequiredParameter",
        origin="proxy",
        message="'comment' must be 'Comment'",
        target_source="proxy",
        target_form=".{36}",
        fields={"Cache-Control": "no-store"},
        logged={"action": "rejected"},
    ),
    body='{"comment": ""}',
    wrong=('"comment"',),
)
FIELDS = {
    "X-Request-Id": "demo-1",
    "X-Error-Code": "MissingRequiredParameter",
    "X-Error-Origin": "proxy",
    "X-Target-Source": "proxy",
    "X-Target-Id": TARGET,
    "Cache-Control": "no-store",
}
ERROR = {"code": "MissingRequiredParameter", "message": "'comment' must be 'Comment'", "target": TARGET}
EVENT = {
    "event": "case_mismatch",
    "level": "warning",
    "status": 400,
    "error_code": "MissingRequiredParameter",
    "origin": "proxy",
    "target_id": TARGET,
    "action": "rejected",
}
RIGHT = Result(400, "Bad Request", "demo-1", FIELDS, ERROR, (), EVENT)


def test_what_is_right_has_no_deviation() -> None:
    assert deviations(CALL, RIGHT) == ()


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        pytest.param({"status": 200}, {"status"}, id="status"),
        pytest.param({"fields": FIELDS | {"X-Error-Code": "other"}}, {"X-Error-Code"}, id="code"),
        pytest.param({"fields": FIELDS | {"X-Error-Origin": "upstream"}}, {"X-Error-Origin"}, id="origin"),
        pytest.param({"fields": FIELDS | {"X-Target-Source": "body"}}, {"X-Target-Source"}, id="target-source"),
        pytest.param({"fields": FIELDS | {"X-Request-Id": "another"}}, {"X-Request-Id"}, id="request-id"),
        pytest.param({"fields": FIELDS | {"Cache-Control": "public"}}, {"Cache-Control"}, id="field"),
        pytest.param(
            {"fields": FIELDS | {"X-Target-Id": TARGET[::-1]}},
            {"target in the body", "target_id in the log"},
            id="target-differs",
        ),
        pytest.param({"error": ERROR | {"target": "another"}}, {"target in the body"}, id="target-in-body"),
        pytest.param({"error": ERROR | {"message": "No."}}, {"message in the body"}, id="message"),
        pytest.param({"error": {}}, {"message in the body"}, id="no-envelope"),
        pytest.param({"received": (("POST", "/", "{}"),)}, {"received by the upstream"}, id="was-forwarded"),
        pytest.param({"event": EVENT | {"event": "request"}}, {"event in the log"}, id="event"),
        pytest.param({"event": EVENT | {"action": "fixed"}}, {"action in the log"}, id="log-field"),
        pytest.param({"event": EVENT | {"target_id": "another"}}, {"target_id in the log"}, id="target-in-log"),
    ],
)
def test_a_deviation_is_noticed(changes: dict[str, Any], what: set[str]) -> None:
    assert {deviation.what for deviation in deviations(CALL, replace(RIGHT, **changes))} == what


def test_no_line_in_the_log_is_a_deviation() -> None:
    assert "event in the log" in {deviation.what for deviation in deviations(CALL, replace(RIGHT, event={}))}


@pytest.mark.parametrize("columns", [80, 200])
def test_a_deviation_is_shown_with_what_was_expected(columns: int) -> None:
    console = Console(file=io.StringIO(), width=columns, highlight=False, markup=False)
    wrong = replace(CALL, expected=replace(CALL.expected, status=201))
    assert show(console, (CALL, wrong), (RIGHT, RIGHT)) == 1
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert "status: expected 201, got 400" in shown
    assert "1 of 2 as they should be" in shown


async def test_a_proxy_that_does_not_answer_is_shown_not_raised() -> None:
    async with Simulator.listening() as simulator:
        (result,) = await results_of((CALL,), "http://127.0.0.1:9", simulator, Journal())
    assert (result.status, result.reason) == (0, "ClientConnectorError")
    assert deviations(CALL, result)
