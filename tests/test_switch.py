"""What an exchange begins with it keeps: the upstream leg too, which lives as long as it is used."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from proxy.simulator import Simulator
from tests.conftest import dialled

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.conftest import Reloading

    Start = Callable[..., Awaitable[Reloading]]


async def test_another_upstream_is_taken_and_the_former_one_left_after_its_last_exchange(
    start_reloading: Start,
) -> None:
    reloading = await start_reloading()
    idle, busy = await dialled(reloading.proxied.port), await dialled(reloading.proxied.port)
    assert (await idle.ask("GET", "/api/alerts")).status == 200
    slow = asyncio.create_task(busy.ask("GET", "/api/machines", b"X-Simulate: slow=1"))
    await reloading.proxied.until(lambda: reloading.proxied.sample("upstream_connections", state="in_use") == 1)

    async with Simulator.listening() as other:
        reloading.write(upstream_url=other.url)
        assert (await reloading.reload())["changed"] == ["upstream.url"]

        assert (await idle.ask("GET", "/api/alerts")).status == 200
        assert [each.target for each in other.received] == ["/api/alerts"]
        assert not slow.done()
        assert (await slow).status == 200
        await reloading.proxied.until(lambda: reloading.proxied.sample("upstream_connections", state="idle") == 1)
        assert reloading.proxied.sample("upstream_connections", state="in_use") == 0
    await idle.close()
    await busy.close()


async def test_connections_are_kept_where_nothing_of_the_upstream_changes(
    start_reloading: Start, start_upstream: Any
) -> None:
    upstream = await start_upstream(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    reloading = await start_reloading()
    reloading.upstream_url = upstream.url
    reloading.write()
    await reloading.reload()
    wire = await dialled(reloading.proxied.port)
    for mode in ("fix", "observe", "reject"):
        assert (await wire.ask("GET", "/api/alerts")).status == 200
        reloading.write(f"check: {{mode: {mode}}}")
        await reloading.reload()
    assert (len(upstream.wires), len(upstream.requests)) == (1, 3)
    await wire.close()
