"""Lines, and the thread that writes them, whatever becomes of the stream."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import re
import threading
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from proxy import logs
from proxy.core.repeats import Pattern
from proxy.logs import LineWriter, logging_to
from tests.documented import undocumented

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from proxy.simulator import Simulator
    from tests.conftest import Proxied

# RFC 3339, 5.6, in UTC.
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
SECRET = "eyJ0eXAiOiJKV1QiLCJhbGciOiJub25lIn0"  # noqa: S105 - it opens nothing


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Blocked(io.StringIO):
    """A stream whose reader does not read, until `released` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.released = threading.Event()

    def write(self, text: str) -> int:
        self.entered.set()
        self.released.wait()
        return super().write(text)


class Faulty(io.StringIO):
    """A stream that raises `error` for each line that holds `bad`."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def write(self, text: str) -> int:
        if "bad" in text:
            raise self.error
        return super().write(text)


class Tally:
    """Counts its calls, from whatever thread they come."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


@contextlib.contextmanager
def writing(stream: io.StringIO, dropped: Tally) -> Iterator[LineWriter]:
    writer = LineWriter(stream, dropped)
    try:
        yield writer
    finally:
        if isinstance(stream, Blocked):
            stream.released.set()
        writer.close()


def written(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def waited_for(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 5
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.002)
    return condition()


# Lines.


def test_a_line_is_json_with_what_every_line_has_first() -> None:
    stream = io.StringIO()

    with logging_to(stream) as logger:
        logger.warning("upstream_error", status=400, target_id="1-2")

    (event,) = written(stream)
    assert list(event) == ["timestamp", "level", "event", "status", "target_id"]
    assert TIMESTAMP.fullmatch(event["timestamp"])
    assert (event["level"], event["event"]) == ("warning", "upstream_error")
    assert (event["status"], event["target_id"]) == (400, "1-2")


def test_a_line_is_one_line_of_ascii_whatever_it_holds() -> None:
    stream = io.StringIO()
    text = "a\nb\r\u2028\x1b[31m\udce9\u00e9\0"

    with logging_to(stream) as logger:
        logger.info("request", error_message=text)

    line = stream.getvalue()
    assert line.isascii()
    assert line[:-1].isprintable()
    assert json.loads(line)["error_message"] == text


@pytest.mark.parametrize(("stream", "is_json"), [(io.StringIO, True), (Terminal, False)], ids=["pipe", "terminal"])
def test_auto_writes_for_whoever_reads(stream: type[io.StringIO], *, is_json: bool) -> None:
    out = stream()

    with logging_to(out, style="auto") as logger:
        logger.info("request", status=200)

    assert out.getvalue().startswith("{") is is_json
    assert ("\x1b[" in out.getvalue()) is not is_json


def test_a_terminal_gets_json_where_it_is_asked_for() -> None:
    out = Terminal()

    with logging_to(out, style="json") as logger:
        logger.info("request")

    assert written(out)[0]["event"] == "request"


def test_the_console_form_is_no_json_and_coloured_for_a_terminal_alone() -> None:
    out = io.StringIO()

    with logging_to(out, style="console") as logger:
        logger.warning("upstream_error", status=400, error_code="BadRequest", target_id="1-2")

    (line,) = out.getvalue().splitlines()
    assert not set(line) & set('{}"\x1b')
    assert "[warning" in line
    assert "upstream_error" in line
    assert "error_code=BadRequest" in line
    assert "target_id=1-2" in line


def test_the_console_form_tells_a_fix_as_a_person_would() -> None:
    out = io.StringIO()
    with logging_to(out, style="console") as logger:
        logger.warning("case_mismatch", mismatches=[{"pointer": "/comment", "got": "comment", "expected": "Comment"}])
    assert "'/comment: comment -> Comment'" in out.getvalue()


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ({"event": "sunrise"}, "sunrise: no such event"),
        ({"event": "draining", "delay_s": 1.0, "timeout_s": "soon"}, "$.timeout_s"),
        ({"event": "draining", "delay_s": 1.0, "timeout_s": 2.0, "token": "secret"}, "'token' was unexpected"),
        ({"event": "draining", "delay_s": 1.0}, "'timeout_s' is a required property"),
    ],
)
def test_a_line_that_the_schema_does_not_have_is_found(line: dict[str, object], complaint: str) -> None:
    head = {"timestamp": "2026-11-24T09:12:44.000000Z", "level": "info"}
    assert not undocumented([head | {"event": "draining", "delay_s": 1.0, "timeout_s": 2.0}])
    assert any(complaint in problem for problem in undocumented([head | line]))


@pytest.mark.parametrize("text", ["\x1b[2J", "a\x9b31m", "first\nsecond", "a\rb", "\u202etxt.exe", "\u2028"])
def test_the_console_form_lets_no_text_steer_the_terminal(text: str) -> None:
    out = io.StringIO()

    with logging_to(out, style="console") as logger:
        logger.warning("upstream_error", error_code=text, mismatches=[{"pointer": f"/{text}"}])
        logger.warning("after")

    first, second = out.getvalue().split("\n")[:2]
    assert first.isprintable()
    assert "after" in second


# Levels.


@pytest.mark.parametrize(("level", "expected"), [(level, logs.LEVELS[n:]) for n, level in enumerate(logs.LEVELS)])
def test_what_is_below_the_level_is_neither_written_nor_counted(level: str, expected: tuple[str, ...]) -> None:
    stream = io.StringIO()
    counted: list[str] = []

    with logging_to(stream, level=level, on_event=counted.append) as logger:
        for each in logs.LEVELS:
            getattr(logger, each)("request")

    assert [event["level"] for event in written(stream)] == list(expected)
    assert counted == list(expected)


@pytest.mark.parametrize("level", logs.LEVELS)
def test_the_log_can_be_asked_what_it_writes(level: str) -> None:
    stream = io.StringIO()
    with logs.logging_to(stream, level=level) as log:
        told = [name for name in logs.LEVELS if log.writes(name)]
        for name in logs.LEVELS:
            getattr(log, name)(name)
        log.follow(level="debug", style="json", repeats=0)
        assert log.writes("debug")
    assert told == [json.loads(line)["event"] for line in stream.getvalue().splitlines()]


# Lines that say the same.

PATTERN = Pattern("warning", "upstream_error", (("operation", "listAlerts"), ("status", 403)))


def test_of_lines_that_say_the_same_the_first_are_written_and_the_others_counted_at_the_end() -> None:
    stream, left_out = io.StringIO(), list[str]()

    with logging_to(stream, repeats=2, on_left_out=left_out.append) as log:
        for number in range(5):
            fields = {"operation": "listAlerts", "status": 403, "target_id": f"t{number}", "request_id": f"r{number}"}
            log.repeatable(PATTERN, fields)

    *lines, last = written(stream)
    assert [(line["event"], line["target_id"]) for line in lines] == [
        ("upstream_error", "t0"),
        ("upstream_error", "t1"),
    ]
    assert left_out == ["upstream_error"] * 3
    first_at, last_at = last.pop("first_at"), last.pop("last_at")
    assert TIMESTAMP.fullmatch(last.pop("timestamp"))
    assert lines[-1]["timestamp"] <= first_at <= last_at
    assert last == {
        "level": "warning", "event": "repeated", "of": "upstream_error", "operation": "listAlerts", "status": 403,
        "left_out": 3, "target_id": "t4", "request_id": "r4",
    }  # fmt: skip


def test_what_was_left_out_is_told_when_the_window_ends_though_no_other_line_comes() -> None:
    stream = io.StringIO()

    with logging_to(stream, repeats=1, window_s=0.5) as log:
        log.repeatable(PATTERN, {})
        log.repeatable(PATTERN, {})
        assert waited_for(lambda: '"repeated"' in stream.getvalue())

    assert [line["event"] for line in written(stream)] == ["upstream_error", "repeated"]


def test_what_was_left_out_is_counted_as_one_line() -> None:
    counted: list[str] = []

    with logging_to(io.StringIO(), repeats=1, on_event=counted.append) as log:
        for _ in range(10):
            log.repeatable(PATTERN, {})

    assert counted == ["warning", "warning"]


def test_what_is_below_the_level_is_not_left_out() -> None:
    left_out: list[str] = []

    with logging_to(io.StringIO(), level="error", repeats=1, on_left_out=left_out.append) as log:
        for _ in range(3):
            log.repeatable(PATTERN, {})

    assert not left_out


def test_no_limit_leaves_nothing_out_and_a_new_one_tells_of_what_was() -> None:
    stream = io.StringIO()

    with logging_to(stream, repeats=1) as log:
        log.repeatable(PATTERN, {})
        log.repeatable(PATTERN, {})
        log.follow(level="error", style="json", repeats=0)
        log.follow(level="info", style="json", repeats=0)
        for _ in range(3):
            log.repeatable(PATTERN, {})

    assert [line["event"] for line in written(stream)] == ["upstream_error", "repeated", *["upstream_error"] * 3]


def test_a_library_that_says_the_same_again_and_again_is_told_of_once() -> None:
    stream = io.StringIO()

    with logging_to(stream, repeats=1):
        for number in range(5):
            logging.getLogger("asyncio").error("task %d failed", number)

    first, last = written(stream)
    assert (first["event"], last["event"], last["of"]) == ("library_message", "repeated", "library_message")
    assert (last["left_out"], last["logger"], last["place"]) == (4, first["logger"], first["place"])


def test_lines_of_many_threads_are_written_or_counted() -> None:
    stream = io.StringIO()

    with logging_to(stream, repeats=10) as log:

        def complain() -> None:
            for _ in range(500):
                log.repeatable(PATTERN, {})

        threads = [threading.Thread(target=complain) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    *lines, last = written(stream)
    assert (len(lines), last["left_out"]) == (10, 1990)


async def test_a_client_in_a_loop_gets_its_errors_and_the_log_their_number(
    simulator: Simulator, start_proxy: Callable[..., Any]
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        proxied = await start_proxy(simulator.url, {"log.repeats_per_minute": "3"}, within=stack)
        targets = []
        async with aiohttp.ClientSession() as session:
            for _ in range(20):
                async with session.post(f"{proxied.url}/api/machines/m1/isolate", json={"comment": "x"}) as response:
                    targets.append(response.headers["X-Target-Id"])
            async with session.get(f"{proxied.url}/api/machines", headers={"X-Simulate": "NotFound"}) as response:
                assert response.status == 404
        await proxied.lines.event("upstream_error")

    lines = [line for line in proxied.lines.events() if line["event"] == "case_mismatch"]
    (repeated,) = (line for line in proxied.lines.events() if line["event"] == "repeated")
    assert [line["target_id"] for line in lines] == targets[:3]
    assert (repeated["of"], repeated["left_out"], repeated["parameters"]) == ("case_mismatch", 17, ["Comment"])
    assert (repeated["operation"], repeated["status"]) == ("isolateMachine", 400)
    assert repeated["error_code"] == "MissingRequiredParameter"
    assert repeated["target_id"] == targets[-1]
    assert proxied.sample("log_lines_suppressed_total", event="case_mismatch") == 17
    assert proxied.sample("log_lines_suppressed_total", event="upstream_error") == 0
    errors = {"code": "MissingRequiredParameter", "status": "400", "origin": "proxy"}
    assert proxied.sample("errors_total", **errors) == 20


async def test_with_a_line_for_every_request_there_is_one(
    simulator: Simulator, start_proxy: Callable[..., Any]
) -> None:
    proxied = await start_proxy(simulator.url, {"log.repeats_per_minute": "3", "log.requests": "true"})

    async with aiohttp.ClientSession() as session:
        for _ in range(10):
            async with session.get(f"{proxied.url}/api/machines", headers={"X-Simulate": "NotFound"}) as response:
                await response.read()

    await proxied.lines.event("upstream_error", 10)


# Libraries.


def test_a_librarys_record_becomes_a_line_without_its_text() -> None:
    stream = io.StringIO()

    with logging_to(stream):
        logging.getLogger("aiohttp.server").error(
            "Error handling %s", f"GET /?token={SECRET}", exc_info=ValueError(f"Bearer {SECRET}"), stack_info=True
        )

    (event,) = written(stream)
    assert SECRET not in stream.getvalue()
    assert "Error handling" not in stream.getvalue()
    assert (event["level"], event["event"]) == ("error", "library_message")
    assert event["logger"] == "aiohttp.server"
    assert re.fullmatch(r"test_logs:\d+", event["place"])
    assert event["exception_type"] == "ValueError"


@pytest.mark.parametrize("style", ["json", "console"])
def test_a_librarys_record_is_one_line_in_either_form(style: str) -> None:
    stream = io.StringIO()

    with logging_to(stream, style=style):
        logging.getLogger("asyncio").error("task failed", exc_info=OSError(SECRET))
        logging.getLogger("asyncio").warning("slow", extra={"token": SECRET})

    first, second = stream.getvalue().splitlines()
    assert "OSError" in first
    assert "exception" not in second
    assert SECRET not in stream.getvalue()


def test_a_librarys_record_below_a_warning_is_left_out() -> None:
    stream = io.StringIO()

    with logging_to(stream, level="debug"):
        logging.getLogger("asyncio").info("Using selector")
        logging.getLogger("aiohttp.access").debug("GET /")
        chatty = logging.getLogger("chatty")
        chatty.setLevel(logging.DEBUG)
        chatty.info("hello")

    assert not stream.getvalue()


@pytest.mark.parametrize(
    ("args", "text"),
    [
        pytest.param(("one",), "%s and %s", id="too few arguments"),
        pytest.param((1, 2), "none", id="too many arguments"),
        pytest.param(("x",), "%d", id="of the wrong type"),
    ],
)
def test_a_librarys_record_that_cannot_be_formatted_is_a_line_like_any_other(args: tuple[object], text: str) -> None:
    stream = io.StringIO()

    with logging_to(stream):
        logging.getLogger("aiohttp.client").warning(text, *args)

    assert [event["event"] for event in written(stream)] == ["library_message"]


def test_the_librarys_loggers_are_given_back() -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level

    with logging_to(io.StringIO()):
        assert root.handlers != before[0]

    assert (root.handlers, root.level) == before


async def test_what_the_admin_port_cannot_parse_is_not_repeated_in_the_log(proxied: Proxied) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(proxied.admin_url.rpartition(":")[2]))
    writer.write(f"GET /metrics HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {SECRET * 1000}\r\n\r\n".encode())
    await reader.read()
    writer.close()

    await proxied.lines.event("library_message")
    assert SECRET[:8] not in proxied.lines.getvalue()


# The line about an exchange: DESIGN, section 4.


async def test_the_line_about_an_error_of_the_upstream(proxied: Proxied, simulator: Simulator) -> None:
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    fields = {
        "Authorization": f"Bearer {SECRET}",
        "Cookie": f"session={SECRET}",
        "X-Simulate": "Forbidden",
        "X-Request-Id": "req-1",
        "traceparent": f"00-{trace_id}-00f067aa0ba902b7-01",
    }
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            f"{proxied.url}/api/machines/m1/isolate?secret={SECRET}",
            json={"Comment": SECRET, "IsolationType": "Full"},
            headers=fields,
        ) as response,
    ):
        body = await response.read()
        target_id = response.headers["X-Target-Id"]

    event = await proxied.lines.event("upstream_error")
    assert list(event)[:3] == ["timestamp", "level", "event"]
    assert TIMESTAMP.fullmatch(event.pop("timestamp"))
    assert 0 < event.pop("upstream_ms") <= event.pop("duration_ms")
    assert event.pop("error_message") == json.loads(body)["error"]["message"]
    assert event == {
        "level": "warning",
        "event": "upstream_error",
        "method": "POST",
        "operation": "isolateMachine",
        "route": "/api/machines/{id}/isolate",
        "status": 403,
        "error_code": "Forbidden",
        "target_id": target_id,
        "target_source": "envelope",
        "origin": "upstream",
        "help": {
            "cause": "The token is valid, but lacks a permission that the operation needs.",
            "remedy": "Grant the application or user the permission that the operation's page lists, then get a new "
            "token.",
            "page": "https://learn.microsoft.com/defender-endpoint/api/common-errors",
        },
        "request_bytes": simulator.received[-1].body_bytes,
        "response_bytes": len(body),
        "request_id": "req-1",
        "trace_id": trace_id,
    }
    assert SECRET not in proxied.lines.getvalue()


async def test_the_line_about_a_case_mismatch(proxied: Proxied) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            f"{proxied.url}/api/machines/m1/isolate", json={"comment": SECRET, "IsolationType": "Full"}
        ) as response,
    ):
        target_id = response.headers["X-Target-Id"]

    event = await proxied.lines.event("case_mismatch")
    assert event["mode"] == "reject"
    assert event["mismatches"] == [{"pointer": "/comment", "got": "comment", "expected": "Comment"}]
    assert (event["status"], event["error_code"], event["origin"]) == (400, "MissingRequiredParameter", "proxy")
    assert (event["target_id"], event["target_source"]) == (target_id, "proxy")
    assert "upstream_ms" not in event
    assert SECRET not in proxied.lines.getvalue()


async def test_the_line_about_a_failure(proxied: Proxied) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{proxied.url}/api/machines", headers={"X-Simulate": "garbage"}) as response,
    ):
        assert response.status == 502

    event = await proxied.lines.event("proxy_error")
    assert (event["level"], event["failure"], event["origin"]) == ("error", "http_protocol_error", "proxy")


@pytest.mark.parametrize("requests", ["true", "false"])
async def test_a_plain_request_has_a_line_where_it_is_asked_for(
    simulator: Simulator, start_proxy: Callable[..., Any], requests: str
) -> None:
    proxied = await start_proxy(simulator.url, {"log.requests": requests})

    async with aiohttp.ClientSession() as session:
        async with session.get(f"{proxied.url}/api/machines") as response:
            await response.read()
        async with session.get(f"{proxied.url}/api/machines", headers={"X-Simulate": "NotFound"}) as response:
            await response.read()

    await proxied.lines.event("upstream_error")
    names = [event["event"] for event in proxied.lines.events()]
    assert names.count("request") == (requests == "true")


# The stream.


def test_a_stream_that_blocks_does_not_block_the_caller_and_what_is_dropped_is_counted() -> None:
    stream, dropped = Blocked(), Tally()

    with writing(stream, dropped) as writer:
        writer.info("line 0")
        assert stream.entered.wait(5)
        began = time.monotonic()
        for number in range(1, 20_001):
            writer.info(f"line {number}")
        took_s = time.monotonic() - began

    assert took_s < 2
    lines = stream.getvalue().splitlines()
    assert len(lines) + dropped.count == 20_001
    assert lines == [f"line {number}" for number in range(10_001)]


def test_closing_does_not_wait_for_ever_for_a_stream_that_blocks() -> None:
    stream = Blocked()
    writer = LineWriter(stream, Tally())
    writer.info("line")

    began = time.monotonic()
    writer.close()

    assert time.monotonic() - began < 4
    stream.released.set()
    assert waited_for(lambda: stream.getvalue() == "line\n")


@pytest.mark.parametrize(
    "error", [BrokenPipeError(), OSError(28, "No space left"), ValueError("closed"), RuntimeError(), MemoryError()]
)
def test_a_stream_that_raises_does_not_end_the_writing(error: Exception) -> None:
    stream, dropped = Faulty(error), Tally()

    with writing(stream, dropped) as writer:
        for line in ("good 1", "bad 1", "bad 2", "good 2"):
            writer.info(line)

    assert stream.getvalue() == "good 1\ngood 2\n"
    assert dropped.count == 2


def test_a_stream_that_is_closed_is_no_reason_to_fail() -> None:
    stream, dropped = io.StringIO(), Tally()
    writer = LineWriter(stream, dropped)
    stream.close()

    writer.info("line")
    writer.close()

    assert dropped.count >= 1


def test_the_last_line_is_flushed(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("w", encoding="utf-8") as stream:
        writer = LineWriter(stream, Tally())
        for number in range(1000):
            writer.info(f"line {number}")
        writer.close()

        assert path.read_text("utf-8").splitlines()[-1] == "line 999"


def test_a_line_leaves_at_once(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("w", encoding="utf-8") as stream, logging_to(stream) as logger:
        logger.info("request")

        assert waited_for(lambda: "request" in path.read_text("utf-8"))


def test_lines_of_many_threads_stay_whole() -> None:
    stream = io.StringIO()

    with logging_to(stream) as logger:

        def write_lines() -> None:
            for _ in range(200):
                logger.info("request", text="x" * 500)

        threads = [threading.Thread(target=write_lines) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert len(written(stream)) == 800


def test_a_character_that_the_stream_cannot_encode_costs_one_line_at_most() -> None:
    raw, dropped = io.BytesIO(), Tally()
    with io.TextIOWrapper(raw, "ascii") as stream:
        with logging_to(stream, style="console", on_dropped=dropped) as logger:
            logger.info("request", error_code="caf\u00e9")
            logger.info("request", error_code="tea")

        assert b"tea" in raw.getvalue()
        assert dropped.count == 1


def test_standard_output_escapes_what_it_cannot_encode(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with (
        path.open("w", encoding="ascii") as out,
        contextlib.redirect_stdout(out),
        logging_to(logs.stdout(), style="console") as logger,
    ):
        logger.info("request", error_code="caf\u00e9 \U0001f600", error_message="\udce9")

    line = path.read_text("ascii")
    assert "caf\\xe9 \\U0001f600" in line
    assert "\\udce9" in line


def test_standard_output_inside_this_process_is_used_as_it_is() -> None:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert logs.stdout() is out
