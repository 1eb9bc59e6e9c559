"""The demonstration: telling calls through the proxy to the simulator, each checked, all shown in one table.

What a call should come to is written out beside it as plain literals; nothing here asks the proxy's own rules.
"""

from __future__ import annotations

import asyncio
import io
import json
import re
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text
from structlog.dev import ConsoleRenderer
from yarl import URL

from proxy import __version__, logs
from proxy.configuration import load_configuration
from proxy.server import require_parser, serving
from proxy.simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

    from rich.console import RenderableType

    from proxy.simulator import Received

GUID: Final = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
OLDER_ID: Final = r"\|[0-9a-f]{8}-[0-9a-f]{16}\."
"""The form of the hierarchical request IDs that parts of the service still write."""

_DEVICE: Final = "/api/machines/1e5bc9d7e413"
_MODES: Final = {"runAntiVirusScan": "fix", "unisolateMachine": "observe"}

_LINE_WITHIN_S: Final = 5.0
_ANSWER_WITHIN_S: Final = 30.0
_WIDE_FROM_COLUMNS: Final = 150
_FIRST_ERROR_STATUS: Final = 400


@dataclass(frozen=True, slots=True)
class Expected:
    """What one call should come to.

    `forwarded` is the body that reaches the upstream, None where nothing may reach it. `code`, `origin`,
    `target_source` and `target_form` (a pattern) are empty where there is no error; `message` is empty where the
    text is the upstream's own business. `fields` and `logged` name the header fields and log fields that matter.
    """

    status: int
    event: str
    forwarded: str | None = None
    code: str = ""
    origin: str = ""
    message: str = ""
    target_source: str = ""
    target_form: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    logged: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Call:
    """One call: what is sent, which parts of its body are misspelt, and what should come of it.

    `simulate` is what the simulator is asked to do instead of answering as documented.
    """

    title: str
    method: str
    path: str
    expected: Expected
    body: str = ""
    wrong: tuple[str, ...] = ()
    simulate: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a call: the response, what the upstream received meanwhile, and the log line.

    `error` is the envelope's content, empty for any other body; `event` is empty where nothing was logged.
    """

    status: int
    reason: str
    request_id: str
    fields: Mapping[str, str]
    error: Mapping[str, Any]
    received: tuple[tuple[str, str, str], ...]
    event: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Deviation:
    """Something that came out otherwise than it should."""

    what: str
    expected: object
    got: object


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A command to try next; `{proxy}` and `{admin}` stand for the addresses."""

    purpose: str
    command: str


_ISOLATE: Final = '{"Comment": "Beacon seen", "IsolationType": "Full"}'

CALLS: Final = (
    Call(
        "The right spelling is forwarded as it is",
        "POST",
        f"{_DEVICE}/isolate",
        Expected(201, "request", forwarded=_ISOLATE, logged={"operation": "isolateMachine"}),
        body=_ISOLATE,
    ),
    Call(
        "A read has no body to check",
        "GET",
        "/api/machines?$top=2",
        Expected(200, "request", forwarded="", logged={"operation": "listMachines", "route": "/api/machines"}),
    ),
    Call(
        "reject: a required parameter in the wrong case",
        "POST",
        f"{_DEVICE}/isolate",
        Expected(
            400,
            "case_mismatch",
            code="MissingRequiredParameter",
            origin="proxy",
            message="Body parameters are case-sensitive: 'comment' must be 'Comment' "
            "(POST /api/machines/{id}/isolate).",
            target_source="proxy",
            target_form=GUID,
            logged={
                "operation": "isolateMachine",
                "action": "rejected",
                "mismatches": [{"pointer": "/comment", "got": "comment", "expected": "Comment"}],
            },
        ),
        body='{"comment": "Beacon seen", "IsolationType": "Full"}',
        wrong=('"comment"',),
    ),
    Call(
        "reject: snake_case",
        "POST",
        f"{_DEVICE}/isolate",
        Expected(
            400,
            "case_mismatch",
            code="InvalidRequestBody",
            origin="proxy",
            message="Body parameters are case-sensitive: 'isolation_type' must be 'IsolationType' "
            "(POST /api/machines/{id}/isolate).",
            target_source="proxy",
            target_form=GUID,
            logged={
                "operation": "isolateMachine",
                "action": "rejected",
                "mismatches": [{"pointer": "/isolation_type", "got": "isolation_type", "expected": "IsolationType"}],
            },
        ),
        body='{"Comment": "Beacon seen", "isolation_type": "Full"}',
        wrong=('"isolation_type"',),
    ),
    Call(
        "reject: an enumerated value in the wrong case",
        "POST",
        f"{_DEVICE}/isolate",
        Expected(
            400,
            "case_mismatch",
            code="InvalidRequestBody",
            origin="proxy",
            message="Body parameters are case-sensitive: value 'full' of 'IsolationType' must be 'Full' "
            "(POST /api/machines/{id}/isolate).",
            target_source="proxy",
            target_form=GUID,
            logged={
                "operation": "isolateMachine",
                "action": "rejected",
                "mismatches": [{"pointer": "/IsolationType", "got": "full", "expected": "Full"}],
            },
        ),
        body='{"Comment": "Beacon seen", "IsolationType": "full"}',
        wrong=('"full"',),
    ),
    Call(
        "reject: nested names, all told at once",
        "POST",
        f"{_DEVICE}/runliveresponse",
        Expected(
            400,
            "case_mismatch",
            code="InvalidRequestBody",
            origin="proxy",
            message="Body parameters are case-sensitive: 'commands' must be 'Commands', 'Type' must be 'type', "
            "'Key' must be 'key' (POST /api/machines/{machine_id}/runliveresponse).",
            target_source="proxy",
            target_form=GUID,
            logged={
                "operation": "runLiveResponse",
                "action": "rejected",
                "mismatches": [
                    {"pointer": "/commands", "got": "commands", "expected": "Commands"},
                    {"pointer": "/commands/0/Type", "got": "Type", "expected": "type"},
                    {"pointer": "/commands/0/params/0/Key", "got": "Key", "expected": "key"},
                ],
            },
        ),
        body='{"Comment": "Triage", "commands": [{"Type": "RunScript", '
        '"params": [{"Key": "ScriptName", "value": "triage.ps1"}]}]}',
        wrong=('"commands"', '"Type"', '"Key"'),
    ),
    Call(
        "fix: the names are put right, every other byte stays",
        "POST",
        f"{_DEVICE}/runAntiVirusScan",
        Expected(
            201,
            "case_mismatch",
            forwarded='{ "Comment":"Monthly scan",  "ScanType":"Quick" }',
            fields={"X-Case-Mismatch": "comment=Comment, scan_type=ScanType"},
            logged={
                "operation": "runAntiVirusScan",
                "mode": "fix",
                "action": "fixed",
                "mismatches": [
                    {"pointer": "/comment", "got": "comment", "expected": "Comment"},
                    {"pointer": "/scan_type", "got": "scan_type", "expected": "ScanType"},
                ],
            },
        ),
        body='{ "comment":"Monthly scan",  "scan_type":"Quick" }',
        wrong=('"comment"', '"scan_type"'),
    ),
    Call(
        "fix: of two spellings nobody can say which was meant",
        "POST",
        f"{_DEVICE}/runAntiVirusScan",
        Expected(
            400,
            "case_mismatch",
            code="InvalidRequestBody",
            origin="proxy",
            message="Body parameters are case-sensitive: 'comment' must be 'Comment', of which the body holds "
            "another spelling too: keep one (POST /api/machines/{id}/runAntiVirusScan). The body was not fixed: it "
            "holds a parameter under two spellings.",
            target_source="proxy",
            target_form=GUID,
            logged={
                "operation": "runAntiVirusScan",
                "mode": "fix",
                "action": "rejected",
                "mismatches": [{"pointer": "/comment", "got": "comment", "expected": "Comment"}],
            },
        ),
        body='{"Comment": "Monthly scan", "comment": "Weekly scan", "ScanType": "Quick"}',
        wrong=('"comment"',),
    ),
    Call(
        "observe: forwarded as it is; the upstream refuses it",
        "POST",
        f"{_DEVICE}/unisolate",
        Expected(
            400,
            "upstream_error",
            forwarded='{"comment": "Clean again"}',
            code="MissingRequiredParameter",
            origin="upstream",
            target_source="envelope",
            target_form=GUID,
            fields={"X-Case-Mismatch": "comment=Comment"},
            logged={
                "operation": "unisolateMachine",
                "mode": "observe",
                "action": "observed",
                "mismatches": [{"pointer": "/comment", "got": "comment", "expected": "Comment"}],
            },
        ),
        body='{"comment": "Clean again"}',
        wrong=('"comment"',),
    ),
    Call(
        "A gzip-coded error is read in a copy and passed on as it came",
        "POST",
        "/api/advancedhunting/run",
        Expected(
            403,
            "upstream_error",
            forwarded='{"Query": "DeviceInfo | take 1"}',
            code="Forbidden",
            origin="upstream",
            target_source="envelope",
            target_form=GUID,
            fields={"Content-Encoding": "gzip"},
            logged={"operation": "runAdvancedHuntingXdr"},
        ),
        body='{"Query": "DeviceInfo | take 1"}',
        simulate="Forbidden, gzip",
    ),
    Call(
        "An error with a target ID of the older form",
        "GET",
        _DEVICE,
        Expected(
            404,
            "upstream_error",
            forwarded="",
            code="NotFound",
            origin="upstream",
            target_source="envelope",
            target_form=OLDER_ID,
            logged={"operation": "getMachine", "route": "/api/machines/{id}"},
        ),
        simulate="NotFound, target=activity",
    ),
    Call(
        "Throttling: how long to wait is passed on",
        "GET",
        "/api/alerts",
        Expected(
            429,
            "upstream_error",
            forwarded="",
            code="TooManyRequests",
            origin="upstream",
            target_source="envelope",
            target_form=GUID,
            fields={"Retry-After": "10"},
            logged={"operation": "listAlerts", "level": "info"},
        ),
        simulate="TooManyRequests",
    ),
    Call(
        "Throttling told in words alone: the wait becomes a header",
        "GET",
        "/api/alerts",
        Expected(
            429,
            "upstream_error",
            forwarded="",
            code="TooManyRequests",
            origin="upstream",
            message="The rate limit is exceeded. Try again in 53 seconds.",
            target_source="proxy",
            target_form=GUID,
            fields={"Retry-After": "53"},
            logged={"operation": "listAlerts", "level": "info", "shape": "gateway", "retry_after_s": 53},
        ),
        simulate="shape=quota",
    ),
    Call(
        "An Entra error becomes the envelope; its correlation ID is the target",
        "GET",
        "/api/alerts",
        Expected(
            401,
            "upstream_error",
            forwarded="",
            code="invalid_client",
            origin="upstream",
            target_source="body",
            target_form=GUID,
            fields={"Content-Type": "application/json"},
            logged={"operation": "listAlerts", "shape": "entra"},
        ),
        simulate="shape=entra",
    ),
    Call(
        "A gateway's HTML page becomes the envelope; the proxy makes the target ID",
        "GET",
        "/api/incidents",
        Expected(
            502,
            "upstream_error",
            forwarded="",
            code="BadGateway",
            origin="upstream",
            message="502 Bad Gateway",
            target_source="proxy",
            target_form=GUID,
            fields={"Content-Type": "application/json"},
            logged={"operation": "listIncidents", "shape": "html"},
        ),
        simulate="html",
    ),
    Call(
        "The upstream resets the connection: an error of the proxy's own",
        "POST",
        f"{_DEVICE}/isolate",
        Expected(
            502,
            "proxy_error",
            forwarded=_ISOLATE,
            code="BadGateway",
            origin="proxy",
            message="The upstream closed the connection before it answered.",
            target_source="proxy",
            target_form=GUID,
            fields={"Proxy-Status": "defender-sidecar; error=connection_terminated"},
            logged={"operation": "isolateMachine", "failure": "connection_terminated"},
        ),
        body=_ISOLATE,
        simulate="reset",
    ),
)

_POST: Final = "curl -i {proxy}" + _DEVICE + "/isolate -H 'Content-Type: application/json' -d '{{%s}}'"

SUGGESTIONS: Final = (
    Suggestion("the right spelling", _POST % '"Comment": "Try it", "IsolationType": "Full"'),
    Suggestion("the wrong case: refused, nothing is sent upstream", _POST % '"comment": "Try it"'),
    Suggestion("an error on demand", "curl -i {proxy}/api/alerts -H 'X-Simulate: Forbidden'"),
    Suggestion(
        "the headers alone",
        "curl -s -o /dev/null -D - {proxy}/api/alerts -H 'X-Simulate: NotFound, target=activity'",
    ),
    Suggestion("the errors counted so far", "curl -s {admin}/metrics | grep '^defender_proxy_errors_total.* [1-9]'"),
    Suggestion(
        "the same with the latest target ID of each",
        "curl -s {admin}/metrics -H 'Accept: application/openmetrics-text' | grep target_id=",
    ),
)


async def demo(*, stays_up: bool) -> bool:
    """Run the calls, show what came of them, and return whether every one came out as it should.

    With `stays_up` the addresses are shown too, and the proxy's log as it is written, until SIGINT or SIGTERM.

    Raises:
        StartError: this aiohttp is not to be trusted.
    """
    require_parser()
    console = Console(file=logs.stdout(), highlight=False, markup=False, emoji=False)
    journal = Journal()
    async with Simulator.listening() as simulator:
        flags = {
            "listen": "127.0.0.1:0",
            "admin": "127.0.0.1:0",
            "upstream.url": simulator.url,
            "check.operations": json.dumps(_MODES),
            "log.format": "json",
            "log.requests": "true",
            "drain.delay_s": "0",
            "drain.timeout_s": "2",
        }
        async with serving(load_configuration(None, {}, flags), journal) as proxy:
            results = await results_of(CALLS, proxy.url, simulator, journal)
            failed = show(console, CALLS, results)
            if stays_up:
                # Before anybody is told that Ctrl-C ends it.
                for number in (signal.SIGINT, signal.SIGTERM):
                    asyncio.get_running_loop().add_signal_handler(number, journal.end)
                _show_addresses(console, proxy.url, proxy.admin_url, simulator.url)
                await _follow(console, journal)
    return not failed


class Journal(io.StringIO):
    """The stream that the proxy logs to: its lines, read back as events and handed to the event loop."""

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()

    def write(self, text: str) -> int:
        """Take one line; called from the thread that writes the log."""
        self._loop.call_soon_threadsafe(self._events.put_nowait, json.loads(text))
        return len(text)

    def end(self) -> None:
        """Let `events` come to its end."""
        self._events.put_nowait(None)

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """Yield the events as they come, until `end` is called."""
        while (event := await self._events.get()) is not None:
            yield event

    async def event_of(self, request_id: str) -> dict[str, Any]:
        """Return the event of that exchange; empty where none comes within some seconds."""
        try:
            async with asyncio.timeout(_LINE_WITHIN_S):
                async for event in self.events():
                    if event.get("request_id") == request_id:
                        return event
        except TimeoutError:
            pass
        return {}


async def results_of(
    calls: Iterable[Call], proxy_url: str, simulator: Simulator, journal: Journal
) -> tuple[Result, ...]:
    """Send the calls one after the other and return what came of each."""
    results = []
    timeout = aiohttp.ClientTimeout(total=_ANSWER_WITHIN_S)
    async with aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session:
        for number, call in enumerate(calls, 1):
            request_id = f"demo-{number}"
            simulator.received.clear()
            status, reason, fields, body = await _send(session, call, proxy_url, request_id)
            event = await journal.event_of(request_id) if status else {}
            received = tuple(map(_told, simulator.received))
            results.append(Result(status, reason, request_id, fields, _error_in(body), received, event))
    return tuple(results)


async def _send(
    session: aiohttp.ClientSession, call: Call, proxy_url: str, request_id: str
) -> tuple[int, str, Mapping[str, str], bytes]:
    """Return status, reason phrase, fields and decoded body; status 0 where there was no response."""
    fields = {"X-Request-Id": request_id}
    if call.body:
        fields["Content-Type"] = "application/json"
    if call.simulate:
        fields["X-Simulate"] = call.simulate
    try:
        async with session.request(
            call.method, URL(proxy_url + call.path, encoded=True), data=call.body.encode() or None, headers=fields
        ) as response:
            return response.status, response.reason or "", response.headers, await response.read()
    except (aiohttp.ClientError, TimeoutError) as error:
        return 0, type(error).__name__, {}, b""


def _told(received: Received) -> tuple[str, str, str]:
    return received.method, received.target, received.body.decode("utf-8", "replace")


def _error_in(body: bytes) -> Mapping[str, Any]:
    try:
        document = json.loads(body)
    except ValueError:
        return {}
    match document:
        case {"error": dict(error)}:
            return error
    return {}


def deviations(call: Call, result: Result) -> tuple[Deviation, ...]:
    """Return where `result` is not what `call` should come to."""
    expected, fields, event = call.expected, result.fields, result.event
    target = fields.get("X-Target-Id", "")
    forwarded = () if expected.forwarded is None else ((call.method, call.path, expected.forwarded),)
    pairs: list[tuple[str, object, object]] = [
        ("status", expected.status, result.status),
        ("X-Request-Id", result.request_id, fields.get("X-Request-Id", "")),
        ("X-Error-Code", expected.code, fields.get("X-Error-Code", "")),
        ("X-Error-Origin", expected.origin, fields.get("X-Error-Origin", "")),
        ("X-Target-Source", expected.target_source, fields.get("X-Target-Source", "")),
        *((name, value, fields.get(name, "")) for name, value in expected.fields.items()),
        ("received by the upstream", forwarded, result.received),
        ("event in the log", expected.event, event.get("event", "")),
        ("status in the log", expected.status, event.get("status")),
        ("error_code in the log", expected.code, event.get("error_code", "")),
        ("origin in the log", expected.origin, event.get("origin", "")),
        ("target_id in the log", target, event.get("target_id", "")),
        *((f"{name} in the log", value, event.get(name)) for name, value in expected.logged.items()),
    ]
    if not re.fullmatch(expected.target_form, target):
        pairs.append(("form of the target ID", expected.target_form or "none", target))
    if result.error:
        pairs += [
            ("code in the body", expected.code, result.error.get("code")),
            ("target in the body", target, result.error.get("target")),
        ]
    if expected.message:
        pairs.append(("message in the body", expected.message, result.error.get("message", "")))
    return tuple(Deviation(*pair) for pair in pairs if pair[1] != pair[2])


def show(console: Console, calls: Sequence[Call], results: Sequence[Result]) -> int:
    """Show what came of the calls and return how many came out otherwise than they should."""
    console.print(Text.assemble(("defender-sidecar", "bold"), f" {__version__} before a simulated Defender API"))
    console.print("Its mode is reject, but fix for runAntiVirusScan and observe for unisolateMachine.")
    console.print()
    checked = [(call, result, deviations(call, result)) for call, result in zip(calls, results, strict=True)]
    is_wide = console.width >= _WIDE_FROM_COLUMNS
    table = Table(box=box.ROUNDED, show_lines=True, show_header=is_wide, expand=is_wide, border_style="dim")
    table.add_column("", justify="right", no_wrap=True)
    if is_wide:
        table.add_column("Sent", ratio=6, overflow="fold")
        table.add_column("Came back", ratio=6, overflow="fold")
        table.add_column("Target ID", min_width=36, overflow="fold")
        table.add_column("Logged", ratio=5, overflow="fold")
    for number, (call, result, faults) in enumerate(checked, 1):
        mark = Text.assemble(f"{number} ", _mark(console, is_right=not faults))
        row = _wide_row if is_wide else _narrow_row
        table.add_row(mark, *row(call, result, faults))
    console.print(table)
    failed = sum(bool(faults) for _, _, faults in checked)
    verdict = f"{len(checked) - failed} of {len(checked)} as they should be"
    console.print(Text.assemble(_mark(console, is_right=not failed), " ", (verdict, "bold red" if failed else "bold")))
    return failed


def _mark(console: Console, *, is_right: bool) -> tuple[str, str]:
    has_signs = console.encoding.startswith("utf")
    if is_right:
        return "✓" if has_signs else "ok", "bold green"
    return "✗" if has_signs else "NO", "bold red"


def _wide_row(call: Call, result: Result, faults: Sequence[Deviation]) -> Iterable[RenderableType]:
    sent = Text("\n").join(
        [Text(call.title, "bold"), _sent(call), Text("upstream got ", "dim") + _received(call, result)]
    )
    back = _came_back(call, result)
    if faults:
        back = Text("\n").join([back, _told_faults(faults)])
    return sent, back, _target(result, "\n"), _logged(result)


def _narrow_row(call: Call, result: Result, faults: Sequence[Deviation]) -> Iterable[RenderableType]:
    facts = Table.grid(padding=(0, 1))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    facts.add_row("sent", _sent(call))
    facts.add_row("upstream got", _received(call, result))
    facts.add_row("came back", _came_back(call, result))
    if target := _target(result, " "):
        facts.add_row("target ID", target)
    facts.add_row("logged", _logged(result))
    if faults:
        facts.add_row("", _told_faults(faults))
    yield Group(Text(call.title, "bold"), facts)


def _sent(call: Call) -> Text:
    text = Text.assemble((call.method, "bold cyan"), f" {call.path}")
    if call.simulate:
        text.append(f"\nX-Simulate: {call.simulate}")
    if call.body:
        body = Text(call.body)
        body.highlight_words(call.wrong, "bold red")
        text.append("\n").append_text(body)
    return text


def _received(call: Call, result: Result) -> Text:
    match result.received:
        case ():
            return Text("nothing", "bold")
        case ((_, _, body),):
            return Text("the same" if body == call.body else body)
    return Text(f"{len(result.received)} requests", "bold red")


def _came_back(call: Call, result: Result) -> Text:
    is_error = not 0 < result.status < _FIRST_ERROR_STATUS
    text = Text.assemble((f"{result.status} {result.reason}", "bold magenta" if is_error else "bold green"))
    if code := result.fields.get("X-Error-Code"):
        text.append("  ").append(code, "bold").append(f" (origin: {result.fields.get('X-Error-Origin', 'unknown')})")
    if message := result.error.get("message"):
        text.append(f"\n{message}")
    for name in call.expected.fields:
        text.append(f"\n{name}: {result.fields.get(name, 'missing')}", "cyan")
    return text


def _target(result: Result, separator: str) -> Text:
    """Return the target ID and its source; nothing where the response is no error."""
    if not (target := result.fields.get("X-Target-Id")):
        return Text()
    return Text.assemble((target, "bold"), f"{separator}(source: {result.fields.get('X-Target-Source', 'unknown')})")


def _logged(result: Result) -> Text:
    event = result.event
    if not event:
        return Text("nothing", "bold red")
    text = Text.assemble(f"{event.get('level')} ", (str(event.get("event")), "bold cyan"))
    for name in ("operation", "mode", "action", "failure"):
        if name in event:
            text.append(f" {name}={event[name]}")
    for mismatch in event.get("mismatches", ()):
        text.append(f"\n{mismatch['pointer']}: {mismatch['got']} -> {mismatch['expected']}")
    return text


def _told_faults(faults: Sequence[Deviation]) -> Text:
    return Text("\n").join(
        Text(f"{fault.what}: expected {fault.expected!r}, got {fault.got!r}", "bold red") for fault in faults
    )


def _show_addresses(console: Console, proxy_url: str, admin_url: str, simulator_url: str) -> None:
    console.print()
    addresses = Table.grid(padding=(0, 2))
    for name, url in (
        ("Proxy", proxy_url),
        ("Status page", f"{admin_url}/"),
        ("Metrics", f"{admin_url}/metrics"),
        ("Readiness", f"{admin_url}/readyz"),
        ("Simulator", simulator_url),
    ):
        addresses.add_row(Text(name, "bold"), Text(url, "cyan"))
    console.print(addresses)
    for suggestion in SUGGESTIONS:
        console.print()
        console.print(Text(f"# {suggestion.purpose}", "dim"))
        # On one line however narrow the terminal: what is copied has to run.
        console.print(suggestion.command.format(proxy=proxy_url, admin=admin_url), soft_wrap=True)
    console.print()
    console.print("Below is the proxy's log, as your calls come in. Ctrl-C ends.")


async def _follow(console: Console, journal: Journal) -> None:
    """Show the log in its console form, until the journal ends."""
    has_colours = console.is_terminal and not console.no_color
    rendered = ConsoleRenderer(colors=has_colours, pad_event_to=16, sort_keys=False)
    async for event in journal.events():
        console.print(Text.from_ansi(str(rendered(None, "", event))), soft_wrap=True)
