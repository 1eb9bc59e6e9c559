"""The status page over raw sockets: what is in it, what may not be, and the stream that keeps it up to date."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import socket
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Gauge

from proxy.admin import Readiness, admin_application, administering
from proxy.core import tags
from proxy.core.model import (
    ErrorCode,
    ErrorTag,
    Origin,
    Outcome,
    RouteTemplate,
    TargetId,
    TargetSource,
)
from proxy.core.recent import Recent
from proxy.status import Status, StreamLimits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from proxy.simulator import Simulator
    from tests.conftest import Message, Proxied, Reloading, Upstream

_WITHIN_S: Final = 5.0
QUICK: Final = StreamLimits(pause_s=0.01, heartbeat_s=0.05, stall_s=1.0)
SLEEPY: Final = StreamLimits(pause_s=0.01)

SECRETS: Final = ("S3CR3T-TOKEN", "S3CR3T-QUERY", "S3CR3T-VALUE", "S3CR3T-COOKIE")

HOSTILE: Final = (
    "</script><script>alert(1)</script></style><img src=x onerror=alert(1)></noscript>\u202egnp.exe {{script}}"
)


def erring(message: str = "No.", target: str = "t-1", code: str = "Forbidden") -> Outcome:
    return Outcome(
        method="GET", operation="listMachines", route=RouteTemplate("/api/machines"), status=403, request_id="r-1",
        duration_s=1, upstream_s=1, overhead_s=0, request_bytes=0, response_bytes=0,
        error=ErrorTag(
            ErrorCode(code), "Forbidden", message, TargetId(target), TargetSource.ENVELOPE, Origin.UPSTREAM
        ),
    )  # fmt: skip


def record(recent: Recent, outcome: Outcome, at_s: float = 1000.0) -> None:
    recent.record(outcome, tags.log_fields(outcome), at_s)


class Stream:
    """A reader of `/events`."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.last_id = ""

    async def block(self) -> str:
        """Return the next event or comment; empty at the end of the stream."""
        async with asyncio.timeout(_WITHIN_S):
            lines = []
            while (line := (await self.response.content.readline()).decode()) not in {"", "\n"}:
                lines.append(line)
        return "".join(lines)

    async def event(self) -> dict[str, Any]:
        """Return the next event."""
        while (block := await self.block()).startswith(":"):
            pass
        found = re.fullmatch(r"id: (.+)\ndata: (.+)\n", block)
        assert found, block
        self.last_id = found[1]
        state: dict[str, Any] = json.loads(found[2])
        assert state["id"] == found[1]
        return state


@asynccontextmanager
async def following(url: str, after: str = "", last_event_id: str = "") -> AsyncIterator[Stream]:
    fields = {"Last-Event-ID": last_event_id} if last_event_id else {}
    async with (
        aiohttp.ClientSession(read_bufsize=2**22) as session,
        session.get(f"{url}/events", params={"after": after}, headers=fields) as response,
    ):
        yield Stream(response)


@asynccontextmanager
async def shown(limits: StreamLimits = SLEEPY) -> AsyncIterator[tuple[str, Recent, Status]]:
    """Serve a page of its own."""
    recent = Recent()
    status = Status(recent, lambda: "serving", limits)
    registry = CollectorRegistry()
    readiness = Readiness(Gauge("ready", "Whether it is.", registry=registry))
    application = admin_application(registry, readiness, status.routes())
    async with administering(application, "127.0.0.1", 0) as (host, port):
        yield f"http://{host}:{port}", recent, status


async def fetch(url: str) -> tuple[aiohttp.ClientResponse, str]:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response, await response.text()


class Elements(HTMLParser):
    """The elements of a page, as a browser without scripts finds them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text: list[str] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag in {"script", "style"}:
            self.scripts.append((dict(attrs), ""))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem:
            attributes, before = self.scripts[-1]
            self.scripts[-1] = attributes, before + data
        else:
            self.text.append(data)


# The page.


async def test_the_page_comes_with_a_policy_that_allows_it_alone(proxied: Proxied) -> None:
    response, text = await fetch(f"{proxied.admin_url}/")

    assert response.status == 200
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert response.headers["X-Frame-Options"] == "DENY"
    policy = dict(part.split(" ", 1) for part in response.headers["Content-Security-Policy"].split("; "))
    style, _, script = (text for _, text in Elements(text).scripts)
    hashes = [base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in (style, script)]
    assert policy == {
        "default-src": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "style-src": f"'sha256-{hashes[0]}'",
        "script-src": f"'sha256-{hashes[1]}'",
        "connect-src": "'self'",
        "img-src": "data:",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }


async def test_the_page_needs_nothing_from_elsewhere(proxied: Proxied) -> None:
    _, text = await fetch(f"{proxied.admin_url}/")
    elements = Elements(text)
    sources = [value for name, value in elements.attributes if name in {"src", "href", "action", "data", "srcset"}]
    assert [source for source in sources if not (source or "").startswith("data:")] == ["metrics", "readyz"]
    assert not [name for name, _ in elements.attributes if name == "style" or name.startswith("on")]
    assert "url(" not in text
    assert "@import" not in text
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|\{\{", text)


async def test_an_empty_page_says_what_it_is_for_and_what_to_try(proxied: Proxied) -> None:
    _, text = await fetch(f"{proxied.admin_url}/")
    words = " ".join("".join(Elements(text).text).split())
    assert "Nothing has failed so far" in words
    assert f"curl -i {proxied.url}/api/machines/1e5bc9d7e413/isolate" in words
    assert f"curl -i {proxied.url}/api/machines " in words
    assert '<section id="empty" class="empty">' in text
    assert "<caption>" not in text


async def test_what_to_try_leads_to_what_the_page_promises(
    proxied: Proxied, ask: Callable[..., Awaitable[Message]]
) -> None:
    body = b'{"comment": "A try"}'
    answer = await ask(
        proxied, "POST", "/api/machines/1e5bc9d7e413/isolate", b"Content-Type: application/json", body=body
    )
    _, text = await fetch(f"{proxied.admin_url}/")
    assert answer["X-Target-Id"] in "".join(Elements(text).text)
    assert body.decode() in "".join(Elements(text).text)
    assert "rename 'comment' to 'Comment'" in "".join(Elements(text).text)
    assert '<section id="empty" class="empty" hidden>' in text


async def test_without_scripts_it_is_three_tables(proxied: Proxied, ask: Callable[..., Awaitable[Message]]) -> None:
    answer = await ask(proxied, "GET", "/api/machines", b"X-Simulate: Forbidden", b"X-Request-Id: mine-1")
    await ask(proxied, "PATCH", "/api/alerts/1", b"Content-Type: application/json", body=b'{"assignedto": "x"}')
    _, text = await fetch(f"{proxied.admin_url}/")
    elements = Elements(text[text.index("<noscript>") : text.index("</noscript>")])
    assert elements.tags.count("caption") == 3
    for fact in (
        answer["X-Target-Id"],
        "mine-1",
        "403",
        "Forbidden",
        "listMachines",
        "updateAlert",
        "PATCH /api/alerts/{id}",
    ):
        assert fact in elements.text, fact
    assert ("href", "https://learn.microsoft.com/defender-endpoint/api/common-errors") in elements.attributes


async def test_hostile_text_stays_text() -> None:
    async with shown() as (url, recent, _):
        _, before = await fetch(f"{url}/")
        record(recent, erring(HOSTILE, "|" + "x" * 127, HOSTILE))
        _, text = await fetch(f"{url}/")
    elements, harmless = Elements(text), Elements(before)
    assert len(elements.scripts) == len(harmless.scripts) == 3
    assert elements.scripts[0] == harmless.scripts[0]
    assert elements.scripts[2] == harmless.scripts[2]
    assert "img" not in elements.tags
    assert not [name for name, _ in elements.attributes if name.startswith("on")]
    visible = HOSTILE.replace("\u202e", r"\u202e")
    assert visible in elements.text
    assert text.isprintable() or not [c for c in text if not c.isprintable() and c != "\n"]
    (error,) = json.loads(elements.scripts[1][1])["errors"]
    assert error["message"] == visible


async def test_an_address_of_another_scheme_is_no_link() -> None:
    async with shown() as (url, recent, _):
        outcome = erring()._replace(doc="javascript:alert(1)")
        fields = tags.log_fields(outcome) | {"help": {"page": "javascript:alert(1)", "operation_page": "http://x"}}
        recent.record(outcome, fields, 1.0)
        _, text = await fetch(f"{url}/")
    links = [value for name, value in Elements(text).attributes if name == "href"]
    assert not [link for link in links if link and ("javascript" in link or link == "http://x")]


async def test_no_secret_gets_there(
    start_upstream: Callable[..., Awaitable[Upstream]],
    start_proxy: Callable[..., Awaitable[Proxied]],
    ask: Callable[..., Awaitable[Message]],
) -> None:
    echo = b'{"error": {"code": "Bad", "message": "not allowed: Bearer S3CR3T-TOKEN", "target": "t-9"}}'
    upstream = await start_upstream(
        b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nSet-Cookie: a=S3CR3T-COOKIE\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (len(echo), echo)
    )
    proxied = await start_proxy(upstream.url)
    await ask(
        proxied, "POST", "/api/machines/1/isolate?sig=S3CR3T-QUERY", b"Authorization: Bearer S3CR3T-TOKEN",
        b"Cookie: a=S3CR3T-COOKIE", b"Content-Type: application/json",
        body=b'{"comment": "S3CR3T-VALUE", "IsolationType": "S3CR3T-VALUE"}',
    )  # fmt: skip
    await ask(proxied, "GET", "/api/machines?sig=S3CR3T-QUERY", b"Authorization: Bearer S3CR3T-TOKEN")
    _, text = await fetch(f"{proxied.admin_url}/")
    async with following(proxied.admin_url) as stream:
        state = await stream.event()
    assert len(state["errors"]) == 2
    for secret in SECRETS:
        assert secret not in text
        assert secret not in json.dumps(state)


async def test_plain_traffic_leaves_no_trace(proxied: Proxied, ask: Callable[..., Awaitable[Message]]) -> None:
    assert (await ask(proxied, "GET", "/api/machines")).status == 200
    async with following(proxied.admin_url) as stream:
        state = await stream.event()
    assert state["seq"] == 0


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
@pytest.mark.parametrize("path", ["/", "/events"])
async def test_nothing_can_be_changed(proxied: Proxied, method: str, path: str) -> None:
    async with aiohttp.ClientSession() as session, session.request(method, proxied.admin_url + path) as response:
        assert response.status == 405


async def test_head_gets_no_stream(proxied: Proxied) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.head(f"{proxied.admin_url}/") as response:
            assert response.status == 200
        async with session.head(f"{proxied.admin_url}/events") as response:
            assert response.status == 405


# The stream.


async def test_a_stream_begins_with_what_is_known_and_goes_on_with_what_happens(
    proxied: Proxied, ask: Callable[..., Awaitable[Message]]
) -> None:
    first = await ask(proxied, "GET", "/api/machines", b"X-Simulate: Forbidden")
    async with following(proxied.admin_url) as stream:
        state = await stream.event()
        assert stream.response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert stream.response.headers["Cache-Control"] == "no-store"
        assert stream.response.headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in stream.response.headers["Content-Security-Policy"]
        assert (state["reset"], state["phase"], state["seq"]) == (True, "serving", 1)
        assert [error["target_id"] for error in state["errors"]] == [first["X-Target-Id"]]

        second = await ask(proxied, "GET", "/api/alerts", b"X-Simulate: TooManyRequests")
        state = await stream.event()
        assert (state["reset"], state["seq"]) == (False, 2)
        assert [error["target_id"] for error in state["errors"]] == [second["X-Target-Id"]]
        assert [count["code"] for count in state["counts"]] == ["TooManyRequests"]


async def test_the_page_and_the_stream_meet_without_a_gap() -> None:
    async with shown() as (url, recent, _):
        record(recent, erring(target="t-1"))
        _, text = await fetch(f"{url}/")
        after = json.loads(Elements(text).scripts[1][1])["id"]
        record(recent, erring(target="t-2"))
        for given in ({"after": after}, {"last_event_id": after}, {"after": "x", "last_event_id": after}):
            async with following(url, **given) as stream:
                state = await stream.event()
            assert state["reset"] is False
            assert [error["target_id"] for error in state["errors"]] == ["t-2"]


@pytest.mark.parametrize(
    "after", ["0123456789abcdef.1", "1", ".", "\u0661", "x" * 4000, "0123456789abcdef." + "9" * 3000]
)
async def test_an_id_of_another_process_begins_anew(after: str) -> None:
    async with shown() as (url, recent, _):
        record(recent, erring())
        async with following(url, after) as stream:
            state = await stream.event()
    assert state["reset"] is True
    assert len(state["errors"]) == 1


async def test_a_number_from_the_future_begins_anew() -> None:
    async with shown() as (url, recent, _):
        record(recent, erring())
        async with following(url) as stream:
            instance = (await stream.event())["id"].partition(".")[0]
        async with following(url, f"{instance}.2") as stream:
            assert (await stream.event())["reset"] is True


async def test_heartbeats_keep_a_quiet_stream_open() -> None:
    async with shown(QUICK) as (url, recent, _), following(url) as stream:
        await stream.event()
        assert await stream.block() == ":\n"
        assert await stream.block() == ":\n"
        record(recent, erring())
        assert (await stream.event())["seq"] == 1


async def test_a_burst_is_told_in_few_events() -> None:
    async with shown(replace(SLEEPY, pause_s=0.3)) as (url, recent, _), following(url) as stream:
        await stream.event()
        for _ in range(5000):
            record(recent, erring())
        events = [await stream.event()]
        while events[-1]["seq"] < 5000:
            events.append(await stream.event())
    assert len(events) <= 2
    assert sum(len(event["errors"]) for event in events) <= 200
    assert events[-1]["counts"][0]["count"] == 5000


async def test_streams_are_bounded_and_make_room_when_their_reader_leaves() -> None:
    async with AsyncExitStack() as stack:
        url, _, _ = await stack.enter_async_context(shown(replace(SLEEPY, streams_at_most=2)))
        await (await stack.enter_async_context(following(url))).event()
        async with following(url) as second:
            await second.event()
            response, text = await fetch(f"{url}/events")
            assert (response.status, text) == (503, "Too many pages are being kept up to date.\n")
            assert "Retry-After" in response.headers
            response, _ = await fetch(f"{url}/")
            assert response.status == 200
        async with asyncio.timeout(_WITHIN_S):
            while True:
                async with following(url) as third:
                    if third.response.status == 200:
                        break
                await asyncio.sleep(0.01)


async def test_a_reader_that_leaves_is_no_news(proxied: Proxied, ask: Callable[..., Awaitable[Message]]) -> None:
    for _ in range(3):
        async with following(proxied.admin_url) as stream:
            await stream.event()
    await ask(proxied, "GET", "/api/machines", b"X-Simulate: Forbidden")
    await fetch(f"{proxied.admin_url}/")
    await proxied.lines.event("upstream_error")
    assert [event["event"] for event in proxied.lines.events()] == ["serving", "upstream_error"]


async def test_a_reader_that_stops_reading_is_dropped_and_holds_up_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async with shown(QUICK) as (url, recent, status), following(url) as other:
        await other.event()
        with socket.socket() as plug:
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            plug.settimeout(0)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(plug, ("127.0.0.1", int(url.rpartition(":")[2])))
            await loop.sock_sendall(plug, b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
            async with asyncio.timeout(30):
                while len(status._streams) < 2:  # noqa: ASYNC110, SLF001 - nothing tells of it from outside
                    await asyncio.sleep(0.01)
                while len(status._streams) == 2:  # noqa: SLF001 - likewise
                    for _ in range(100):
                        record(recent, erring("W" * 1000, "|" + "x" * 100))
                    # The other one gets them meanwhile.
                    while (await other.event())["seq"] < recent.seq:
                        pass
            with suppress(ConnectionError):
                while await loop.sock_recv(plug, 2**20):
                    pass
    assert not caplog.records


async def test_streams_end_when_the_proxy_drains(
    simulator: Simulator, start_proxy: Callable[..., Awaitable[Proxied]]
) -> None:
    async with AsyncExitStack() as stack, AsyncExitStack() as life:
        proxied = await start_proxy(simulator.url, {"drain.delay_s": "2"}, within=life)
        stream = await stack.enter_async_context(following(proxied.admin_url))
        assert (await stream.event())["phase"] == "serving"
        closing = asyncio.create_task(life.aclose())
        assert (await stream.event())["phase"] == "draining"
        assert await stream.block() == ""
        response, text = await fetch(f"{proxied.admin_url}/events")
        assert (response.status, text) == (503, "The proxy is about to end.\n")
        _, text = await fetch(f"{proxied.admin_url}/")
        assert 'data-phase="draining"' in text
        await closing


async def test_what_is_shown_survives_a_reload(
    start_reloading: Callable[..., Awaitable[Reloading]], ask: Callable[..., Awaitable[Message]]
) -> None:
    reloading = await start_reloading("check: {mode: reject}")
    proxied = reloading.proxied
    body = {"body": b'{"comment": "x"}'}
    request = ("POST", "/api/machines/1e5bc9d7e413/unisolate", b"Content-Type: application/json")
    async with following(proxied.admin_url) as stream:
        await stream.event()
        await ask(proxied, *request, **body)
        assert (await stream.event())["misspellings"][0]["actions"] == {"rejected": 1}
        reloading.write("check: {mode: fix}")
        await reloading.reload()
        await ask(proxied, *request, **body)
        (item,) = (await stream.event())["misspellings"]
        assert item["actions"] == {"rejected": 1, "fixed": 1}
