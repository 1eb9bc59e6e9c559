"""What most tests start from: the simulator and the proxy, both on real sockets."""

from __future__ import annotations

import asyncio
import io
import json
import os
import socket
import struct
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pytest

from proxy.configuration import Configuration, load_configuration
from proxy.loop import FACTORIES
from proxy.reload import Source
from proxy.resources import load_catalog, load_error_codes, load_error_shapes
from proxy.server import serving
from proxy.settings import load_settings
from proxy.simulator import Simulator
from tests.documented import keep, taken, undocumented

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
    from pathlib import Path

    from prometheus_client import CollectorRegistry

pytest.register_assert_rewrite("tests.image", "tests.loading", "tests.observed", "tests.scraping")

LOOPS: Final = tuple(FACTORIES)
ALL_LOOPS: Final = "all"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--loop",
        choices=(*LOOPS, ALL_LOOPS),
        default=LOOPS[0],
        help="the event loop that tests run on (default: %(default)s); those marked `every_loop` run on all of them",
    )


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    wanted = config.getoption("--loop")
    if wanted == ALL_LOOPS or item.get_closest_marker("every_loop"):
        return FACTORIES
    return {wanted: FACTORIES[wanted]}


# Fast enough to notice a hang, slow enough for a busy machine.
_EVENT_WITHIN_S = 5.0

QUICK = {
    "listen": "127.0.0.1:0",
    "admin": "127.0.0.1:0",
    "drain.delay_s": "0",
    "drain.timeout_s": "2",
}


@pytest.fixture(autouse=True)
def _lines_are_documented() -> Iterator[None]:
    """Have every line that a proxy wrote to `Lines`, or that was `heard`, be one that `config/log.schema.json` allows.

    It begins before the fixtures that start proxies, so that the lines of their end are there as well.
    """
    yield
    assert not undocumented(taken())


class Lines(io.StringIO):
    """A stream of JSON log lines that can be waited for."""

    def write(self, text: str) -> int:
        keep(text)
        return super().write(text)

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.getvalue().splitlines() if line]

    async def event(self, name: str, count: int = 1) -> dict[str, Any]:
        """Return the `count`th line whose event is `name`, as soon as it is written."""
        async with asyncio.timeout(_EVENT_WITHIN_S):
            while True:
                found = [event for event in self.events() if event["event"] == name]
                if len(found) >= count:
                    return found[count - 1]
                await asyncio.sleep(0.005)


@dataclass(frozen=True, slots=True)
class Proxied:
    """A running proxy: where it is, what it counted, what it wrote."""

    url: str
    admin_url: str
    registry: CollectorRegistry
    lines: Lines

    def sample(self, name: str, **labels: str) -> float:
        """Return the value of `defender_proxy_<name>` with exactly `labels`; 0 where there is none."""
        return self.registry.get_sample_value(f"defender_proxy_{name}", labels) or 0.0

    async def until(self, holds: Callable[[], object], within_s: float = 3.0) -> None:
        """Wait until `holds` does."""
        async with asyncio.timeout(within_s):
            while not holds():  # noqa: ASYNC110 - it looks at the world outside
                await asyncio.sleep(0.005)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    async def scrape(self, *lines: bytes) -> str:
        """Return what `/metrics` says to a scraper that sends header `lines`."""
        wire = await dialled(int(self.admin_url.rpartition(":")[2]))
        try:
            return (await wire.ask("GET", "/metrics", *lines)).body.decode()
        finally:
            await wire.close()


@dataclass(frozen=True, slots=True)
class Message:
    """A request or a response as it stood on the wire; `is_whole` is false where the connection ended within it.

    `framed` is the body with its chunks' sizes, `body` without.
    """

    start_line: bytes
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes = b""
    framed: bytes = b""
    is_whole: bool = True

    @property
    def status(self) -> int:
        return int(self.start_line.split(b" ")[1])

    @property
    def reason(self) -> bytes:
        return self.start_line.split(b" ", 2)[2]

    @property
    def target(self) -> bytes:
        return self.start_line.split(b" ", 1)[1].rpartition(b" ")[0]

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = json.loads(self.body)["error"]
        return error

    def values(self, name: str) -> list[str]:
        return [value.decode("latin-1") for key, value in self.fields if key.lower() == name.lower().encode()]

    def __getitem__(self, name: str) -> str:
        """Return the value of the one field line that is called `name`."""
        (value,) = self.values(name)
        return value

    def __contains__(self, name: str) -> bool:
        return bool(self.values(name))


class Wire:
    """One connection, spoken in bytes; no wait is longer than `within_s`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.within_s = _EVENT_WITHIN_S

    async def send(self, data: bytes) -> None:
        async with asyncio.timeout(self.within_s):
            self.writer.write(data)
            await self.writer.drain()

    async def head(self) -> Message:
        """Return the next message without its body; raises EOFError where there is none."""
        async with asyncio.timeout(self.within_s):
            try:
                head = await self.reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionError) as error:
                raise EOFError(getattr(error, "partial", b"")) from error
        start_line, *lines = head[:-4].split(b"\r\n")
        fields = (line.partition(b":") for line in lines)
        return Message(start_line, tuple((name, value.strip(b" \t")) for name, _, value in fields))

    async def message(self, method: str = "GET") -> Message:
        """Return the next message with its body; `method` is the one that a response belongs to."""
        head = await self.head()
        is_response = head.start_line.startswith(b"HTTP/")
        if is_response and (method == "HEAD" or head.status < 200 or head.status in {204, 304}):
            return head
        framed, pieces, is_whole = b"", [], True
        try:
            async with asyncio.timeout(self.within_s):
                if "chunked" in ", ".join(head.values("Transfer-Encoding")):
                    size = -1
                    while size:
                        line = await self.reader.readuntil(b"\r\n")
                        size = int(line.split(b";")[0], 16)
                        piece = await self.reader.readexactly(size + 2)
                        framed += line + piece
                        pieces.append(piece[:-2])
                elif lengths := head.values("Content-Length"):
                    pieces.append(await self.reader.readexactly(int(lengths[0])))
                elif is_response:
                    pieces.append(await self.reader.read())
        except asyncio.IncompleteReadError as error:
            pieces.append(error.partial)
            is_whole = False
        except ConnectionError:
            is_whole = False
        body = b"".join(pieces)
        return Message(head.start_line, head.fields, body, framed or body, is_whole)

    async def rest(self) -> bytes:
        """Return what comes until the other side closes; a reset is an end as well."""
        data = b""
        async with asyncio.timeout(self.within_s):
            try:
                while piece := await self.reader.read(65536):
                    data += piece
            except ConnectionError:
                pass
        return data

    async def ask(self, method: str, target: str, *lines: bytes, body: bytes = b"") -> Message:
        """Send a request with `lines` for header fields and return the response to it."""
        framing = (b"Content-Length: %d" % len(body),) if body else ()
        start_line = f"{method} {target} HTTP/1.1".encode("latin-1")
        await self.send(b"\r\n".join((start_line, b"Host: sidecar", *lines, *framing, b"", body)))
        return await self.message(method)

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        plug = self.writer.get_extra_info("socket")
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def close(self) -> None:
        self.writer.close()
        try:
            async with asyncio.timeout(self.within_s):
                await self.writer.wait_closed()
        except (OSError, TimeoutError):
            self.writer.transport.abort()


@dataclass(slots=True)
class Upstream:
    """A scripted upstream: `requests` is what it was asked, `wires` its connections, in order."""

    url: str = ""
    requests: list[Message] = field(default_factory=list)
    wires: list[Wire] = field(default_factory=list)

    async def request(self, wire: Wire) -> Message:
        """Return the next request on `wire` and remember it."""
        message = await wire.message()
        self.requests.append(message)
        return message


_READ_LIMIT_BYTES: Final = 2**22


async def dialled(port: int) -> Wire:
    """Return a new connection to `port` of this machine."""
    async with asyncio.timeout(_EVENT_WITHIN_S):
        return Wire(*await asyncio.open_connection("127.0.0.1", port, limit=_READ_LIMIT_BYTES))


@pytest.fixture
async def dial() -> AsyncIterator[Callable[[Proxied], Awaitable[Wire]]]:
    """Open connections with `await dial(proxied)`; they close with the test."""
    async with AsyncExitStack() as stack:

        async def dial(proxied: Proxied) -> Wire:
            wire = await dialled(proxied.port)
            stack.push_async_callback(wire.close)
            return wire

        yield dial


@pytest.fixture
async def ask() -> Callable[..., Awaitable[Message]]:
    """Send a request on a connection of its own: `await ask(proxied, "POST", "/api", b"X: y", body=b"{}")`."""

    async def ask(proxied: Proxied, method: str, target: str, *lines: bytes, body: bytes = b"") -> Message:
        wire = await dialled(proxied.port)
        try:
            return await wire.ask(method, target, *lines, body=body)
        finally:
            await wire.close()

    return ask


@pytest.fixture
async def start_upstream() -> AsyncIterator[Callable[..., Awaitable[Upstream]]]:
    """Start upstreams with `await start_upstream(script)`; they stop with the test.

    `script` is the bytes that answer every request, or a coroutine function that is given the upstream and each
    new connection; the connection closes with its end.
    """
    tasks: list[asyncio.Task[None]] = []
    servers: list[asyncio.Server] = []

    async def start(script: bytes | Callable[[Upstream, Wire], Coroutine[Any, Any, None]]) -> Upstream:
        upstream = Upstream()

        async def serve(wire: Wire) -> None:
            try:
                if not isinstance(script, bytes):
                    await script(upstream, wire)
                    return
                while True:
                    await upstream.request(wire)
                    await wire.send(script)
            except (EOFError, ConnectionError):
                pass
            finally:
                await wire.close()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            wire = Wire(reader, writer)
            wire.within_s = 60  # the test is over before that, and its end cancels the wait
            upstream.wires.append(wire)
            tasks.append(asyncio.create_task(serve(wire)))

        server = await asyncio.start_server(accept, "127.0.0.1", 0, limit=_READ_LIMIT_BYTES)
        servers.append(server)
        upstream.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        return upstream

    yield start
    for server in servers:
        server.close()
    for task in tasks:
        task.cancel()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    faults = [end for end in ends if isinstance(end, Exception)]
    if faults:
        raise ExceptionGroup("a script failed", faults)


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator.listening() as running:
        yield running


@pytest.fixture
async def start_proxy() -> AsyncIterator[Callable[..., Awaitable[Proxied]]]:
    """Start proxies with `await start_proxy(upstream_url, {"check.mode": "fix"})`; they stop with the test.

    One that is to stop before that is started `within` a stack of the test's own.

    None of them may have met a defect of its own, whatever the test did to it.
    """
    catalog, codes, shapes = load_catalog(), load_error_codes(), load_error_shapes()
    started: list[Proxied] = []
    async with AsyncExitStack() as stack:

        async def start(
            upstream_url: str, flags: dict[str, str] | None = None, *, within: AsyncExitStack = stack
        ) -> Proxied:
            loaded = load_settings(None, {}, QUICK | {"upstream.url": upstream_url} | (flags or {}))
            lines = Lines()
            running = await within.enter_async_context(serving(Configuration(loaded, catalog, codes, shapes), lines))
            started.append(Proxied(running.url, running.admin_url, running.registry, lines))
            return started[-1]

        yield start
    defects = [event for proxied in started for event in proxied.lines.events() if "defect" in event]
    assert not defects


def _write_settings(path: Path, upstream_url: str, *lines: str) -> None:
    new = path.with_suffix(".new")
    new.write_text("\n".join((f"upstream: {{url: '{upstream_url}'}}", *lines, "")), "utf-8")
    new.rename(path)


@dataclass(slots=True)
class Reloading:
    """A proxy that runs by the file at `path`, and may be told to read it anew."""

    proxied: Proxied
    path: Path
    wanted: asyncio.Event
    upstream_url: str

    def write(self, *lines: str, upstream_url: str = "") -> None:
        """Replace the settings file as an editor does."""
        _write_settings(self.path, upstream_url or self.upstream_url, *lines)

    async def reload(self, event: str = "reloaded") -> dict[str, Any]:
        """Ask for a reload and return the line about it."""
        before = sum(line["event"] == event for line in self.proxied.lines.events())
        self.wanted.set()
        return await self.proxied.lines.event(event, before + 1)


@pytest.fixture
async def start_reloading(tmp_path: Path, simulator: Simulator) -> AsyncIterator[Callable[..., Awaitable[Reloading]]]:
    """Start a proxy with `await start_reloading("check: {mode: fix}")`; it reloads when asked to."""
    async with AsyncExitStack() as stack:

        async def start(*lines: str, interval_s: float = 0, load: Any = None) -> Reloading:
            flags = {
                "listen": "127.0.0.1:0",
                "admin": "127.0.0.1:0",
                "drain.delay_s": "0",
                "reload.interval_s": str(interval_s),
            }
            path = tmp_path / "proxy.yaml"
            log, wanted = Lines(), asyncio.Event()
            _write_settings(path, simulator.url, *lines)
            source = Source(load or (lambda: load_configuration(path, {}, flags)))
            running = await stack.enter_async_context(serving(source.read(), log, source, wanted))
            proxied = Proxied(running.url, running.admin_url, running.registry, log)
            return Reloading(proxied, path, wanted, simulator.url)

        yield start


@pytest.fixture
async def proxied(simulator: Simulator, start_proxy: Callable[..., Awaitable[Proxied]]) -> Proxied:
    """A proxy with default settings before the simulator."""
    return await start_proxy(simulator.url)


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str | bytes], Path]:
    """Write a settings file with `written(content)`, which returns its path."""

    def write(content: str | bytes) -> Path:
        path = tmp_path / "proxy.yaml"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the developer's own settings and egress proxies out of the tests."""
    for name in list(os.environ):
        if name.startswith("DEFENDER_SIDECAR_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
