"""The admin listener: metrics for Prometheus, probes for whoever runs the process, and what else is to be shown."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from copy import copy
from enum import Enum
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from proxy.listener import ConnectionLimits, GuardedConnection
from proxy.progress import Watch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from prometheus_client import Gauge, Metric
    from prometheus_client.samples import Sample

    from proxy.core.failure import Failure

    Gather = Callable[[], Awaitable[Collector]]

_SHUTDOWN_S: Final = 1.0
# aiohttp's own default for a runner is an hour; scrapers come every minute or so.
_KEEPALIVE_S: Final = 75.0
# One that does not read for so long is not scraping any more; Prometheus gives up after 10 s by default.
_WRITE_TIMEOUT_S: Final = 30.0

# Written in less than a millisecond.
_SAMPLES_AT_ONCE: Final = 100

LIMITS: Final = ConnectionLimits(header_timeout_s=10, head_bytes=32 * 1024, max_connections=64)
"""What a scraper may take up, or somebody who only looks like one."""


class Phase(Enum):
    """Where in its life the proxy is."""

    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"


class Readiness:
    """Whether requests should be sent here; the gauge follows it."""

    def __init__(self, gauge: Gauge) -> None:
        self._gauge = gauge
        self._phase = Phase.STARTING
        gauge.set(0)

    @property
    def phase(self) -> Phase:
        """The phase that the proxy is in."""
        return self._phase

    @phase.setter
    def phase(self, phase: Phase) -> None:
        self._phase = phase
        self._gauge.set(phase is Phase.SERVING)


def admin_application(
    source: Collector | Gather, readiness: Readiness, routes: Iterable[web.AbstractRouteDef] = ()
) -> web.Application:
    """Return the application that answers `/metrics`, `/healthz`, `/readyz` and `routes`.

    `source` has what is measured, or gathers it anew at each scrape.
    """

    async def metrics(request: web.Request) -> web.Response:
        # Which of Prometheus' text formats is up to the scraper; exemplars are in OpenMetrics alone.
        try:
            encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        except (TypeError, ValueError):
            # It takes the version of a format for numbers.
            encode, content_type = choose_encoder("")
        registry = await source() if callable(source) else source
        return web.Response(body=await exposed(registry, encode), headers={"Content-Type": content_type})

    async def healthz(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_request: web.Request) -> web.Response:
        is_ready = readiness.phase is Phase.SERVING
        return web.Response(text=f"{readiness.phase.value}\n", status=200 if is_ready else 503)

    application = web.Application()
    application.add_routes([web.get("/metrics", metrics), web.get("/healthz", healthz), web.get("/readyz", readyz)])
    application.add_routes(routes)
    return application


class _Families(Collector):
    """What an encoder is to write: the families of metrics that are here already."""

    def __init__(self, *families: Metric) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


async def exposed(registry: Collector, encode: Callable[[Collector], bytes]) -> bytes:
    """Return what `encode` makes of `registry`, a few samples at a time: in between everything else has its turn.

    Thousands of series take tens of milliseconds. In a thread they would hold up the event loop too, for the
    interpreter's switch interval each time that it has something to do.
    """
    end = encode(_Families())
    pieces: list[bytes] = []
    for family in registry.collect():
        head = encode(_Families(_with_samples(family, []))).removesuffix(end)
        pieces.append(head)
        for first in range(0, len(family.samples), _SAMPLES_AT_ONCE):
            samples = family.samples[first : first + _SAMPLES_AT_ONCE]
            pieces.append(encode(_Families(_with_samples(family, samples))).removesuffix(end)[len(head) :])
            await asyncio.sleep(0)
    pieces.append(end)
    return b"".join(pieces)


def _with_samples(family: Metric, samples: list[Sample]) -> Metric:
    part = copy(family)
    part.samples = samples
    return part


@asynccontextmanager
async def administering(
    application: web.Application,
    host: str,
    port: int,
    *,
    limits: ConnectionLimits = LIMITS,
    write_timeout_s: float = _WRITE_TIMEOUT_S,
) -> AsyncIterator[tuple[str, int]]:
    """Serve `application` and yield the address in use.

    Raises:
        OSError: the address is taken, or is not this machine's.
    """
    loop = asyncio.get_running_loop()
    # A stream of events would otherwise outlive its reader until there is something to be told.
    runner = web.AppRunner(application, shutdown_timeout=_SHUTDOWN_S, handler_cancellation=True)
    await runner.setup()
    manager = runner.server
    if manager is None:
        raise RuntimeError("the runner has no server")
    try:
        server = await loop.create_server(
            lambda: _Connection(
                manager, limits, write_timeout_s=write_timeout_s, loop=loop, keepalive_timeout=_KEEPALIVE_S
            ),
            host,
            port,
        )
        try:
            address = server.sockets[0].getsockname()
            yield address[0], address[1]
        finally:
            server.close()
    finally:
        await runner.cleanup()


class _Connection(GuardedConnection):
    """A connection whose error pages name the status alone: aiohttp's own quote what the client sent."""

    __slots__ = ("_write_timeout_s",)

    def __init__(self, manager: web.Server, limits: ConnectionLimits, *, write_timeout_s: float, **kwargs: Any) -> None:
        super().__init__(manager, limits, **kwargs)
        self._write_timeout_s = write_timeout_s

    def refusal(self, failure: Failure) -> bytes:
        """Return a response that tells the status alone."""
        status = HTTPStatus(failure.status)
        return (
            f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: text/plain; charset=utf-8\r\n"
            f"Content-Length: {len(status.phrase) + 1}\r\nConnection: close\r\n\r\n{status.phrase}\n"
        ).encode("ascii")

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Write the response for as long as somebody reads it."""
        with Watch(self.transport, self._write_timeout_s):
            return await super().finish_response(request, resp, start_time)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it quotes the request
    ) -> web.StreamResponse:
        """Return a page that tells the status alone; the log gets the kind of error too (see `logs`)."""
        self.log_exception("The admin listener could not answer", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError
        response = web.Response(status=status, text=f"{HTTPStatus(status).phrase}\n")
        response.force_close()
        return response
