"""Puts the parts together, listens, and ends in good order."""

from __future__ import annotations

import asyncio
import os
import signal
import urllib.request
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import aiohttp
from aiohttp.http_parser import HttpRequestParser, HttpRequestParserPy
from prometheus_client import CollectorRegistry

from proxy.admin import Phase, Readiness, admin_application, administering
from proxy.errors import UnusableInputError
from proxy.exchange import Exchange
from proxy.listener import Listener, ListenError, listen_problem, listening
from proxy.logs import logging_to
from proxy.telemetry import Telemetry
from proxy.upstream import AiohttpUpstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import TextIO

    from structlog.typing import FilteringBoundLogger

    from proxy.configuration import Configuration
    from proxy.core.catalog import Catalog
    from proxy.core.codes import ErrorCodes
    from proxy.core.shapes import Shapes
    from proxy.settings import Settings

_OLDEST_AIOHTTP: Final = (3, 14, 1)


class StartError(UnusableInputError):
    """The proxy cannot start; the text is one line that says why and what to do."""


@dataclass(frozen=True, slots=True)
class Running:
    """A proxy that serves: where, and what it has counted so far."""

    url: str
    admin_url: str
    registry: CollectorRegistry
    readiness: Readiness
    logger: FilteringBoundLogger


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


@asynccontextmanager
async def serving(
    settings: Settings, catalog: Catalog, codes: ErrorCodes, shapes: Shapes, stream: TextIO
) -> AsyncIterator[Running]:
    """Run a proxy for the length of the block; its log lines go to `stream`.

    Leaving drains: no longer ready but still accepting for `drain.delay_s`, then what runs may finish within
    `drain.timeout_s`. The admin listener outlives the traffic, so that probes can watch.

    Raises:
        ListenError: an address cannot be listened on.
        StartError: the egress proxy that the environment names is none.
    """
    egress_proxy = _egress_proxy(settings)
    registry = CollectorRegistry()
    telemetry = Telemetry(registry, catalog, codes)
    readiness = Readiness(telemetry.ready)
    async with AsyncExitStack() as stack:
        logger = stack.enter_context(
            logging_to(
                stream,
                level=settings.log.level,
                style=settings.log.format,
                on_event=telemetry.count_log_line,
                on_dropped=telemetry.count_dropped_line,
            )
        )
        telemetry.log_to(logger, requests=settings.log.requests)
        admin = admin_application(registry, readiness)
        try:
            admin_address = await stack.enter_async_context(
                administering(admin, settings.admin.host, settings.admin.port)
            )
        except OSError as error:
            raise ListenError(listen_problem(settings.admin.host, settings.admin.port, error)) from error
        upstream = await stack.enter_async_context(
            AiohttpUpstream.opened(
                settings.upstream.url,
                egress_proxy=egress_proxy,
                max_connections=settings.upstream.max_connections,
                connect_timeout_s=settings.upstream.connect_timeout_s,
                response_timeout_s=settings.upstream.response_timeout_s,
                idle_timeout_s=settings.upstream.idle_timeout_s,
                keepalive_timeout_s=settings.upstream.keepalive_timeout_s,
            )
        )
        telemetry.watch_connections(upstream.connections)
        exchange = Exchange(settings, catalog, codes, shapes, upstream, telemetry)
        listener = Listener(exchange, exchange.refuse, settings)
        address = await stack.enter_async_context(listening(listener, settings.listen.host, settings.listen.port))
        running = Running(_url(*address), _url(*admin_address), registry, readiness, logger)
        readiness.phase = Phase.SERVING
        logger.info(
            "serving",
            listen=running.url,
            admin=running.admin_url,
            upstream=settings.upstream.url,
            mode=settings.check.mode.value,
            operations=len(catalog.operations),
        )
        try:
            yield running
        finally:
            readiness.phase = Phase.DRAINING
            logger.info("draining", delay_s=settings.drain.delay_s, timeout_s=settings.drain.timeout_s)
            await asyncio.sleep(settings.drain.delay_s)


async def serve(configuration: Configuration, stream: TextIO) -> None:
    """Run a proxy until SIGTERM or SIGINT, then drain; a second signal ends the process at once.

    Raises:
        ListenError: an address cannot be listened on.
        StartError: this aiohttp is not to be trusted.
    """
    require_parser()
    settings = configuration.loaded.settings
    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            # Whoever asks twice does not want to wait; nothing that could be saved is left.
            os._exit(1)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    async with serving(settings, configuration.catalog, configuration.codes, configuration.shapes, stream) as running:
        # Its default would end the process without a drain, and whoever sends it expects the contrary.
        loop.add_signal_handler(signal.SIGHUP, running.logger.warning, "reload_not_supported")
        await stop.wait()


def _egress_proxy(settings: Settings) -> str | None:
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


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
