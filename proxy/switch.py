"""What holds now: an exchange takes the settings and the upstream leg of its beginning, and keeps them to its end."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.exchange import Exchange, Traffic
from proxy.upstream import AiohttpUpstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from proxy.configuration import Configuration
    from proxy.core.failure import Failure
    from proxy.core.model import Reply
    from proxy.listener import Request
    from proxy.settings import UpstreamSettings
    from proxy.telemetry import Telemetry
    from proxy.tls import Tls
    from proxy.tracing import Tracing


@dataclass(frozen=True, slots=True)
class _Route:
    """All that an upstream leg depends on; as long as it stays the same, so does the leg with its connections."""

    settings: UpstreamSettings
    tls: Tls | None
    egress_proxy: str | None


class _Leg:
    """An upstream leg, and how many exchanges are still to use it."""

    def __init__(self, route: _Route, upstream: AiohttpUpstream, stack: AsyncExitStack) -> None:
        self.route = route
        self.upstream = upstream
        self.users = 0
        self.is_retired = False
        self._stack = stack

    @classmethod
    async def opened(cls, route: _Route) -> _Leg:
        settings = route.settings
        stack = AsyncExitStack()
        upstream = await stack.enter_async_context(
            AiohttpUpstream.opened(
                settings.url,
                tls=None if route.tls is None else route.tls.context,
                egress_proxy=route.egress_proxy,
                max_connections=settings.max_connections,
                connect_timeout_s=settings.connect_timeout_s,
                response_timeout_s=settings.response_timeout_s,
                idle_timeout_s=settings.idle_timeout_s,
                keepalive_timeout_s=settings.keepalive_timeout_s,
            )
        )
        return cls(route, upstream, stack)

    async def close(self) -> None:
        await self._stack.aclose()


class Switch:
    """Carries each request by the configuration that holds when it begins. Use `opened` to make one."""

    def __init__(self, telemetry: Telemetry, tracing: Tracing | None) -> None:
        self._telemetry = telemetry
        self._tracing = tracing
        self._traffic = Traffic()
        self._legs: set[_Leg] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._exchange: Exchange
        self._leg: _Leg

    @classmethod
    @asynccontextmanager
    async def opened(
        cls,
        configuration: Configuration,
        egress_proxy: str | None,
        telemetry: Telemetry,
        tracing: Tracing | None = None,
    ) -> AsyncIterator[Switch]:
        """Yield one that carries by `configuration`; leaving closes all connections to upstreams."""
        switch = cls(telemetry, tracing)
        await switch.follow(configuration, egress_proxy)
        try:
            yield switch
        finally:
            for leg in list(switch._legs):
                await leg.close()
            await asyncio.gather(*switch._closing)

    async def follow(self, configuration: Configuration, egress_proxy: str | None) -> None:
        """Carry by `configuration` what begins from now on.

        The upstream's connections are kept unless what they depend on has changed; else they are closed as soon as
        the last exchange that may use them is over.
        """
        settings = configuration.settings
        route = _Route(settings.upstream, configuration.upstream_tls, egress_proxy)
        former = self._leg if self._legs else None
        leg = former if former is not None and former.route == route else await _Leg.opened(route)
        is_tls, tracing = configuration.listener_tls is not None, self._tracing
        self._exchange = Exchange(
            settings,
            configuration.catalog,
            configuration.codes,
            configuration.shapes,
            leg.upstream,
            self._telemetry,
            self._traffic,
            None if tracing is None else tracing.towards(settings.upstream.url, is_tls=is_tls),
        )
        self._leg = leg
        self._legs.add(leg)
        if former is not None and former is not leg:
            former.is_retired = True
            self._close_unused(former)

    async def __call__(self, request: Request) -> None:
        """Carry one request to the upstream and its answer back."""
        leg = self._leg
        leg.users += 1
        try:
            await self._exchange(request)
        finally:
            leg.users -= 1
            if leg.is_retired:
                self._close_unused(leg)

    def refuse(self, failure: Failure) -> Reply:
        """Return the reply to bytes that never became a request, and count it as an exchange."""
        return self._exchange.refuse(failure)

    def in_flight(self) -> int:
        """Return the number of exchanges under way."""
        return self._traffic.in_flight

    def connections(self) -> Mapping[str, int]:
        """Return the number of open connections to upstreams by state: `in_use` and `idle`."""
        counts = {"in_use": 0, "idle": 0}
        for leg in self._legs:
            for state, count in leg.upstream.connections().items():
                counts[state] += count
        return counts

    def _close_unused(self, leg: _Leg) -> None:
        if leg.users or leg not in self._legs:
            return
        self._legs.remove(leg)
        task = asyncio.get_running_loop().create_task(leg.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
