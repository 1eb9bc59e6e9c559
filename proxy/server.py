"""Puts the parts together, listens, and ends in good order."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import urllib.request
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import aiohttp
from aiohttp.http_parser import HttpRequestParser, HttpRequestParserPy
from prometheus_client import CollectorRegistry, ProcessCollector

from proxy.admin import Phase, Readiness, admin_application, administering
from proxy.errors import UnusableInputError
from proxy.listener import Entrance, Listener, ListenError, listen_problem, listening
from proxy.logs import logging_to
from proxy.loop import kind_of
from proxy.reload import Reloader, Source
from proxy.settings import changed_keys
from proxy.status import Status
from proxy.switch import Switch
from proxy.telemetry import Telemetry

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
    from typing import TextIO

    from prometheus_client.registry import Collector

    from proxy.admin import Gather
    from proxy.configuration import Configuration
    from proxy.logs import Log, LogStream
    from proxy.settings import Settings
    from proxy.tracing import Tracing

_OLDEST_AIOHTTP: Final = (3, 14, 1)

_FIXED_KEYS: Final = ("listen", "admin", "workers", "tracing")
"""The keys that hold from start to end: their new values need a restart."""

# How long a thread that checks a large body may hold up the event loop, which waits for it again behind each of its
# system calls: with Python's 5 ms, an error with 20,000 details makes it 25 ms late in all, with this 4 ms.
_SWITCH_INTERVAL_S: Final = 0.0005


class StartError(UnusableInputError):
    """The proxy cannot start; the text is one line that says why and what to do."""


@dataclass(frozen=True, slots=True)
class Running:
    """A proxy that serves: where, and what it has counted so far."""

    url: str
    admin_url: str
    registry: CollectorRegistry
    readiness: Readiness
    log: Log


def require_parser() -> None:
    """Refuse to start on a parser that is known to be unsafe, or far slower than anyone expects.

    Raises:
        StartError: aiohttp is too old, or its C parser is missing.
    """
    version = tuple(int(part) for part in aiohttp.__version__.split(".")[:3] if part.isdigit())
    if version < _OLDEST_AIOHTTP:
        raise StartError(f"aiohttp {aiohttp.__version__} has known holes; install 3.14.1 or later")
    if HttpRequestParser is HttpRequestParserPy:
        raise StartError(
            "aiohttp runs without its C parser; install a wheel for this platform, and unset AIOHTTP_NO_EXTENSIONS"
        )


def require_tracing(settings: Settings) -> None:
    """Refuse to start where spans are wanted and nothing is there to export them.

    Raises:
        StartError: the extra `otel` is not installed.
    """
    if not settings.tracing.enabled:
        return
    try:
        import proxy.tracing  # noqa: F401, PLC0415 - most proxies export no spans, and have nothing to do it with
    except ImportError as error:
        raise StartError(
            f"tracing.enabled: needs the extra otel ({error.name or 'part of it'} cannot be imported); "
            "from a clone, pip install '.[otel]'"
        ) from error


@asynccontextmanager
async def _tracing(settings: Settings) -> AsyncIterator[Tracing | None]:
    """Export spans for the length of the block, and what is left of them at its end; yield None where none are wanted.

    Raises:
        StartError: the extra `otel` is not installed, or a variable for it cannot be used.
    """
    if not settings.tracing.enabled:
        yield None
        return
    require_tracing(settings)
    from proxy.tracing import Tracing  # noqa: PLC0415 - as above

    async with AsyncExitStack() as stack:
        try:
            tracing = await stack.enter_async_context(Tracing.opened(settings.tracing.otlp_endpoint))
        except ValueError as error:
            raise StartError(f"tracing.enabled: {error} Mend the OTEL_ variables, or set it to false") from error
        yield tracing


@asynccontextmanager
async def serving(
    configuration: Configuration,
    stream: TextIO,
    source: Source | None = None,
    reload_wanted: asyncio.Event | None = None,
) -> AsyncIterator[Running]:
    """Run a proxy for the length of the block; its log lines go to `stream`.

    `source` is where the configuration was read from. It is read anew when its files change and whenever
    `reload_wanted` is set. Leaving drains: no longer ready but still accepting for `drain.delay_s`, then what runs may
    finish within `drain.timeout_s`. The admin listener outlives the traffic, so that probes can watch.

    Raises:
        ListenError: an address cannot be listened on.
        StartError: the egress proxy that the environment names is none, or spans cannot be exported.
    """
    settings = configuration.settings
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    telemetry = Telemetry(registry, configuration.catalog, configuration.codes)
    readiness = Readiness(telemetry.ready)
    async with AsyncExitStack() as stack:
        log = stack.enter_context(logging_by(settings, stream, telemetry))
        telemetry.log_to(log, requests=settings.log.requests)
        status, admin_url = await stack.enter_async_context(administering_by(settings, registry, readiness, telemetry))
        plant = await stack.enter_async_context(carrying(configuration, telemetry, log))
        telemetry.watch(plant.switch.in_flight, plant.switch.connections)
        running = Running(plant.url, admin_url, registry, readiness, log)
        status.proxy_url = running.url
        readiness.phase = Phase.SERVING
        tell_start(log, configuration, running.url, running.admin_url)
        reloading: asyncio.Task[None] | None = None
        if source is not None:
            reloader = Reloader(
                source, reload_wanted or asyncio.Event(), plant.take_over, plant.reload_interval_s, log, telemetry
            )
            reloading = asyncio.create_task(reloader.run())
        try:
            yield running
        finally:
            if reloading is not None:
                reloading.cancel()
                await asyncio.wait([reloading])
            readiness.phase = Phase.DRAINING
            status.end()
            drain = plant.listener.settings.drain
            log.info("draining", delay_s=drain.delay_s, timeout_s=drain.timeout_s)
            await asyncio.sleep(drain.delay_s)


@contextmanager
def logging_by(settings: Settings, stream: LogStream, telemetry: Telemetry) -> Iterator[Log]:
    """Yield a log that goes by `settings`, and have `telemetry` count its lines and what it leaves out."""
    with logging_to(
        stream,
        level=settings.log.level,
        style=settings.log.format,
        repeats=settings.log.repeats_per_minute,
        on_event=telemetry.count_log_line,
        on_dropped=telemetry.count_dropped_line,
        on_left_out=telemetry.count_suppressed_line,
    ) as log:
        yield log


@asynccontextmanager
async def administering_by(
    settings: Settings, source: Collector | Gather, readiness: Readiness, telemetry: Telemetry
) -> AsyncIterator[tuple[Status, str]]:
    """Serve the admin listener at the address in `settings`; yield the status page and the URL in use.

    Raises:
        ListenError: the address cannot be listened on.
    """
    status = Status(telemetry.recent, lambda: readiness.phase.value)
    application, address = admin_application(source, readiness, status.routes()), settings.admin
    async with AsyncExitStack() as stack:
        try:
            in_use = await stack.enter_async_context(administering(application, address.host, address.port))
        except OSError as error:
            raise ListenError(listen_problem(address.host, address.port, error)) from error
        yield status, url_of("http", *in_use)


def tell_start(log: Log, configuration: Configuration, url: str, admin_url: str, **more: int) -> None:
    """Write the line that says what serves from now on, and where."""
    settings = configuration.settings
    log.info(
        "serving",
        listen=url,
        admin=admin_url,
        upstream=settings.upstream.url,
        mode=settings.check.mode.value,
        operations=len(configuration.catalog.operations),
        loop=kind_of(asyncio.get_running_loop()),
        **more,
    )


@asynccontextmanager
async def carrying(
    configuration: Configuration, telemetry: Telemetry, log: Log, plugs: Sequence[socket.socket] = ()
) -> AsyncIterator[Plant]:
    """Carry requests for the length of the block; leaving drains within `drain.timeout_s`.

    `plugs` are bound sockets to listen on in place of `listen`.

    Raises:
        ListenError: an address cannot be listened on.
        StartError: the egress proxy that the environment names is none, or spans cannot be exported.
    """
    settings, tls = configuration.settings, configuration.listener_tls
    async with (
        _tracing(settings) as tracing,
        Switch.opened(configuration, egress_proxy_of(settings), telemetry, tracing) as switch,
    ):
        listener = Listener(switch, switch.refuse, settings)
        address, context = settings.listen, tls.context if tls else None
        async with listening(listener, address.host, address.port, context, plugs) as entrance:
            yield Plant(configuration, switch, listener, entrance, telemetry, log)


def follow(former: Configuration, read: Configuration) -> tuple[Configuration, Mapping[str, object]]:
    """Return `read` as far as it can take the place of `former` while the proxy runs, and what is to be told of it."""
    fixed = {key: getattr(former.settings, key) for key in _FIXED_KEYS}
    restart_needed = [key for key, value in fixed.items() if value != getattr(read.settings, key)]
    # What is listened on stays what it was, and is compared with the next settings again.
    loaded = replace(read.loaded, settings=read.settings.model_copy(update=fixed))
    configuration = replace(read, loaded=loaded)
    told: dict[str, object] = {
        "changed": changed_keys(former.settings, configuration.settings),
        "operations": len(configuration.catalog.operations),
    }
    return configuration, told | ({"restart_needed": restart_needed} if restart_needed else {})


@dataclass(slots=True)
class Plant:
    """The parts of a running proxy that go by its configuration, and how they go over to another."""

    configuration: Configuration
    switch: Switch
    listener: Listener
    entrance: Entrance
    telemetry: Telemetry
    log: Log

    @property
    def url(self) -> str:
        """Where clients connect."""
        return url_of("https" if self.configuration.listener_tls else "http", *self.entrance.address)

    def reload_interval_s(self) -> float:
        """Return how often to look at the files."""
        return self.configuration.settings.reload.interval_s

    async def take_over(self, read: Configuration) -> Mapping[str, object]:
        """Go over to the configuration that was `read`, between two requests, and return what is to be told of it.

        Raises:
            OSError: the sockets cannot be listened on anew; all is as it was.
            StartError: the egress proxy that the environment names is none; all is as it was.
        """
        former = self.configuration.settings
        egress_proxy = egress_proxy_of(read.settings)
        configuration, told = follow(self.configuration, read)
        settings, tls = configuration.settings, configuration.listener_tls
        if tls != self.configuration.listener_tls or (tls and settings.downstream != former.downstream):
            await self.entrance.reopen(tls.context if tls else None, settings)
        await self.switch.follow(configuration, egress_proxy)
        self.listener.settings = settings
        self.telemetry.follow(configuration.catalog, configuration.codes)
        self.telemetry.log_to(self.log, requests=settings.log.requests)
        log = settings.log
        self.log.follow(level=log.level, style=log.format, repeats=log.repeats_per_minute)
        self.configuration = configuration
        if gc.get_freeze_count():
            # The former catalog is garbage by now but for exchanges under way, the new one is there to stay.
            _freeze()
        return told


def keep_pauses_short() -> None:
    """Set this process up for the event loop to be late by little, whatever is checked in threads beside it.

    Both settings are the whole process's, hence for whoever runs a proxy and nothing else. Call it when a proxy
    serves; what a reload brings is treated likewise.
    """
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    _freeze()


def _freeze() -> None:
    """Take what is in memory now out of garbage collection: to walk the catalog takes 20 ms and more, each time."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


async def serve(configuration: Configuration, source: Source, stream: TextIO) -> None:
    """Run a proxy until SIGTERM or SIGINT, then drain; a second signal ends the process at once, SIGHUP reloads.

    Raises:
        ListenError: an address cannot be listened on.
        StartError: this aiohttp is not to be trusted.
    """
    require_parser()
    stop = asyncio.Event()
    reload_wanted = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            # Whoever asks twice does not want to wait; nothing that could be saved is left.
            os._exit(1)
        stop.set()

    loop = asyncio.get_running_loop()
    # Its default would end the process without a drain, and whoever sends it expects the contrary.
    loop.add_signal_handler(signal.SIGHUP, reload_wanted.set)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    async with serving(configuration, stream, source, reload_wanted):
        keep_pauses_short()
        await stop.wait()


def egress_proxy_of(settings: Settings) -> str | None:
    """Return the egress proxy that the environment names for the upstream, if settings ask for one.

    Raises:
        StartError: what the environment names is no HTTP proxy.
    """
    url = urlsplit(settings.upstream.url)
    if not settings.upstream.proxy_from_environment or urllib.request.proxy_bypass_environment(url.netloc):  # type: ignore[attr-defined]
        return None
    named = urllib.request.getproxies_environment().get(url.scheme)
    if named is None:
        return None
    # Many leave the scheme out, and curl takes it for http.
    egress_proxy = named if "://" in named else f"http://{named}"
    if not _is_http(egress_proxy):
        # Its value may hold a password.
        raise StartError(
            f"{url.scheme.upper()}_PROXY: must be http://HOST:PORT; an HTTP proxy is the only kind supported"
        )
    return egress_proxy


def _is_http(url: str) -> bool:
    """Whether `url` is one of HTTP with a host, and a port if any."""
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def url_of(scheme: str, host: str, port: int) -> str:
    """Return the URL of an address that is listened on."""
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
