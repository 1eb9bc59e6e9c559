"""Whole exchanges as text: the files in `scenarios/`, each a request, what becomes of it, and what is told of it.

In a file, lines end in LF where the wire has CRLF, `<length>` in a head stands for the size of the body behind it,
and in what is expected `<guid>` stands for a GUID, the same wherever it is written in one file, `<id>` for another,
`<upstream>` for the upstream's authority, and `<date>` for a date.

    about      one sentence
    flags      settings, dotted
    request    what the client sends
    received   what the upstream then receives; left out where that is nothing
    answer     what the upstream says
    response   what the client receives
    log        the one line that is written, but for its times; left out where there is none
    samples    every counter of exchanges that is not zero
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.conftest import Message, Proxied, Upstream, Wire

SCENARIOS = [
    pytest.param(tomllib.loads(path.read_text("utf-8")), id=path.stem)
    for path in sorted((Path(__file__).parent / "scenarios").glob("*.toml"))
]

GUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
PATTERNS = {
    "guid": GUID,
    "id": GUID,
    "date": r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT",
    "length": r"\d+",
}
KEYS = {"about", "flags", "request", "received", "answer", "response", "log", "samples"}

TIMES = {"timestamp", "duration_ms", "upstream_ms"}
COUNTERS = re.compile(
    r"^defender_proxy_((?:requests|errors|operation_errors|case_mismatches|bodies|upstream_failures|retries|throttled)"
    r"_total\S*) (\S+)$",
    re.MULTILINE,
)


def on_the_wire(text: str) -> bytes:
    """Return the message that `text` writes down: its head in CRLF, its body without the last line's end."""
    head, _, body = text.partition("\n\n")
    body = body.removesuffix("\n")
    head = head.replace("<length>", str(len(body.encode())))
    return (head.rstrip("\n").replace("\n", "\r\n") + "\r\n\r\n" + body).encode()


def as_text(message: Message) -> str:
    """Return `message` as a scenario writes it down."""
    fields = [name.decode("latin-1") + ": " + value.decode("latin-1") for name, value in message.fields]
    return "\n".join([message.start_line.decode("latin-1"), *fields, "", message.body.decode()]).rstrip("\n") + "\n"


def matched(expected: str, got: str, known: dict[str, str]) -> None:
    """Assert that `got` is what `expected` says; what placeholders stand for is kept in `known`."""
    seen: set[str] = set()

    def pattern(part: str) -> str:
        name = part[1:-1]
        if name not in PATTERNS and name not in known:
            return re.escape(part)
        if name in known and name != "length":
            return re.escape(known[name])
        if name in seen and name != "length":
            return f"(?P={name})"
        seen.add(name)
        return PATTERNS[name] if name == "length" else f"(?P<{name}>{PATTERNS[name]})"

    expression = "".join(map(pattern, re.split(r"(<[a-z]+>)", expected)))
    match = re.fullmatch(expression, got)
    if match is None:
        pytest.fail(f"got\n\n{got}\nwhere this was expected\n\n{expected}", pytrace=False)
    known |= match.groupdict()


@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_scenario(
    scenario: dict[str, Any],
    start_proxy: Callable[..., Awaitable[Proxied]],
    start_upstream: Callable[..., Awaitable[Upstream]],
    dial: Callable[[Proxied], Awaitable[Wire]],
) -> None:
    assert scenario.keys() <= KEYS

    async def answer(upstream: Upstream, wire: Wire) -> None:
        while True:
            await upstream.request(wire)
            await wire.send(on_the_wire(scenario["answer"]))

    upstream = await start_upstream(answer)
    proxied = await start_proxy(upstream.url, scenario.get("flags"))
    wire = await dial(proxied)
    request = on_the_wire(scenario["request"])
    await wire.send(request)
    response = await wire.message(request.partition(b" ")[0].decode())

    known = {"upstream": upstream.url.removeprefix("http://")}
    assert response.is_whole
    matched(scenario["response"], as_text(response), known)

    assert len(upstream.requests) == ("received" in scenario)
    for received in upstream.requests:
        matched(scenario["received"], as_text(received), known)

    if "log" in scenario:
        await proxied.lines.event(scenario["log"]["event"])
    events = [event for event in proxied.lines.events() if event["event"] != "serving"]
    told = [{key: value for key, value in event.items() if key not in TIMES} for event in events]
    wanted = [filled(scenario["log"], known)] if "log" in scenario else []
    assert told == wanted

    counted = {name: float(value) for name, value in COUNTERS.findall(await proxied.scrape()) if float(value)}
    assert counted == {name: float(value) for name, value in scenario["samples"].items()}


def filled(value: Any, known: dict[str, str]) -> Any:
    """Return `value` with what the placeholders stood for, when the response was read."""
    match value:
        case str():
            return re.sub(r"<([a-z]+)>", lambda match: known.get(match[1], match[0]), value)
        case dict():
            return {key: filled(member, known) for key, member in value.items()}
        case list():
            return [filled(element, known) for element in value]
    return value
