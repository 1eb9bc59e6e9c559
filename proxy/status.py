"""The status page: what failed and what was misspelt, live, for somebody with a browser.

The page is one document with its style and its script inside, which the policy knows by their hashes. It is brought up
to date by server-sent events (HTML, 9.2), each with what has changed since the last one that its reader took.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from base64 import b64encode
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from html import escape
from importlib.resources import files
from time import time
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from proxy import __version__
from proxy.progress import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from proxy.core.recent import Document, Recent

_PLACEHOLDER: Final = re.compile(r"\{\{([a-z_]+)\}\}")
# The number of digits is bounded, as Python takes its time over long ones.
_EVENT_ID: Final = re.compile(r"([0-9a-f]{16})\.([0-9]{1,15})")

_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_NOTHING_ALLOWED: Final = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """What the streams of events may take up, and their pace."""

    streams_at_most: int = 16
    pause_s: float = 0.25
    """Between two events of a stream: what happens meanwhile is told in one."""
    heartbeat_s: float = 15.0
    stall_s: float = 30.0
    """How long a reader may take nothing of what was sent."""


LIMITS: Final = StreamLimits()


class Status:
    """Shows what `recent` remembers, at `/` and as events at `/events`.

    `phase` tells where in its life the proxy is. A stream holds no queue, but the number of the last change that it has
    told; it tells the next ones when its reader has taken those, or what is left of them.
    """

    def __init__(self, recent: Recent, phase: Callable[[], str], limits: StreamLimits = LIMITS) -> None:
        self.proxy_url = ""
        self._recent = recent
        self._phase = phase
        self._limits = limits
        # Numbers of changes mean nothing to the next process at this address.
        self._instance = secrets.token_hex(8)
        self._streams: set[asyncio.Event] = set()
        self._is_over = False
        parts = {name: _asset(f"status.{name}") for name in ("css", "js")}
        self._page = _asset("status.html")
        self._parts = {"style": parts["css"], "script": parts["js"], "version": escape(__version__)}
        self._page_policy = "; ".join(
            (
                _NOTHING_ALLOWED,
                f"style-src '{_hash(parts['css'])}'",
                f"script-src '{_hash(parts['js'])}'",
                "connect-src 'self'",
                "img-src data:",
                "require-trusted-types-for 'script'",
                "trusted-types 'none'",
            )
        )
        recent.tell(self._wake)

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return what is answered."""
        return [web.get("/", self._show), web.get("/events", self._follow, allow_head=False)]

    def end(self) -> None:
        """End all streams once they have told what there is, and begin no other: the process is about to end."""
        self._is_over = True
        self._wake()

    async def _show(self, _request: web.Request) -> web.Response:
        return web.Response(
            text=self._html(),
            content_type="text/html",
            headers={**_HEADERS, "Content-Security-Policy": self._page_policy},
        )

    async def _follow(self, request: web.Request) -> web.StreamResponse:
        fields = {**_HEADERS, "Content-Security-Policy": _NOTHING_ALLOWED}
        if self._is_over or len(self._streams) >= self._limits.streams_at_most:
            reason = "The proxy is about to end." if self._is_over else "Too many pages are being kept up to date."
            return web.Response(status=503, text=f"{reason}\n", headers={**fields, "Retry-After": "10"})
        changed = asyncio.Event()
        response = web.StreamResponse(headers=fields)
        response.content_type, response.charset = "text/event-stream", "utf-8"
        response.force_close()
        self._streams.add(changed)
        try:
            await response.prepare(request)
            await self._tell(request, response, changed)
        except ConnectionError:
            # The reader is gone, or has stopped reading.
            return response
        finally:
            self._streams.discard(changed)
        return response

    async def _tell(self, request: web.Request, response: web.StreamResponse, changed: asyncio.Event) -> None:
        """Send what has changed whenever something has, and a comment where nothing does for long."""
        told = self._told(request.headers.get("Last-Event-ID") or request.query.get("after", ""))
        while True:
            changed.clear()
            is_last = self._is_over
            event = {**self._state(told or 0), "reset": told is None}
            told = self._recent.seq
            await self._send(request, response, f"id: {event['id']}\ndata: {json.dumps(event)}\n\n".encode())
            if is_last:
                return
            await asyncio.sleep(self._limits.pause_s)
            while not changed.is_set():
                try:
                    async with asyncio.timeout(self._limits.heartbeat_s):
                        await changed.wait()
                except TimeoutError:
                    await self._send(request, response, b":\n\n")

    async def _send(self, request: web.Request, response: web.StreamResponse, data: bytes) -> None:
        """Send `data` and wait until the process holds none of it any more.

        Raises:
            ConnectionError: the reader is gone, or has not read for too long.
        """
        transport = request.transport
        if transport is None:
            raise ConnectionResetError
        with Watch(transport, self._limits.stall_s):
            await response.write(data)
            while transport.get_write_buffer_size():  # noqa: ASYNC110 - nobody tells of the kernel's taking it
                await asyncio.sleep(self._limits.pause_s)

    def _told(self, event_id: str) -> int | None:
        """Return up to which change the reader knows all; None where it has to begin anew."""
        found = _EVENT_ID.fullmatch(event_id)
        if found is None or found[1] != self._instance or int(found[2]) > self._recent.seq:
            return None
        return int(found[2])

    def _state(self, told: int = 0) -> Document:
        return {
            "id": f"{self._instance}.{self._recent.seq}",
            "phase": self._phase(),
            "now": round(time(), 3),
            **self._recent.since(told),
        }

    def _wake(self) -> None:
        for changed in self._streams:
            changed.set()

    def _html(self) -> str:
        state = self._state()
        commands = _commands(self.proxy_url)
        values = self._parts | {
            "phase": escape(str(state["phase"])),
            "try_mismatch": escape(commands[0]),
            "try_error": escape(commands[1]),
            "empty": "" if self._recent.seq == 0 else " hidden",
            "tables": _tables(state),
            # In a script element only `<` could begin something else (HTML, 4.12.1.3).
            "state": json.dumps(state).replace("<", "\\u003c"),
        }
        # In one go, so that nothing that is put in is ever looked through for places to put something in.
        return _PLACEHOLDER.sub(lambda found: values[found[1]], self._page)


def _asset(name: str) -> str:
    return (files("proxy") / "page" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Return the hash of an element's text as CSP 3, 2.3.1, writes it."""
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode('ascii')}"


def _commands(url: str) -> tuple[str, str]:
    """Return a call with a misspelt parameter, and one that the upstream refuses for want of a token."""
    body = """-H 'Content-Type: application/json' -d '{"comment": "A try"}'"""
    return f"curl -i {url}/api/machines/1e5bc9d7e413/isolate {body}", f"curl -i {url}/api/machines"


# For a browser that runs no scripts: the same facts as plain tables.


def _tables(state: Document) -> str:
    errors, counts, misspellings = (_documents(state[name]) for name in ("errors", "counts", "misspellings"))
    return "".join(
        (
            _table(
                "Errors by code",
                ("Code", "Status", "Origin", "Count"),
                (map(_cell, (c["code"], c["status"], c["origin"], c["count"])) for c in counts),
            ),
            _table(
                "Case mismatches",
                ("Operation", "Request", "Fix", "Requests"),
                (
                    map(_cell, (m["operation"], f"{m['method']} {m['route']}", m["fix"], m["count"]))
                    for m in misspellings
                ),
            ),
            _table(
                "Latest errors",
                ("Time (UTC)", "Status", "Code", "Operation", "Message", "Target ID", "Request ID", "What helps"),
                (
                    (
                        _cell(datetime.fromtimestamp(e["at"], UTC).strftime("%Y-%m-%d %H:%M:%S")),
                        *map(_cell, (e["status"], e["code"], e["operation"], e["message"])),
                        *map(_cell, (e["target_id"], e["request_id"])),
                        _help_cell(e),
                    )
                    for e in reversed(errors)
                ),
            ),
        )
    )


def _documents(value: object) -> list[dict[str, Any]]:
    return value if isinstance(value, list) else []


def _table(caption: str, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    if not body:
        return ""
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    return (
        f'<div class="scroll"><table><caption>{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cell(value: object) -> str:
    return f"<td>{'' if value is None else escape(str(value))}</td>"


def _help_cell(error: Mapping[str, Any]) -> str:
    lines = [escape(text) for text in (error["cause"], error["remedy"], *error["fixes"], *error["suspects"]) if text]
    lines += [
        f'<a href="{escape(page)}" rel="noreferrer">{escape(page)}</a>'
        for page in (error["page"], error["operation_page"])
        if page and page.startswith("https://")
    ]
    return f"<td>{'<br>'.join(lines)}</td>"
