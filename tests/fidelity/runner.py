"""Carries the table of cases out against a proxy: a case at a time on each of its lanes, several lanes at once."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tests.fidelity.cases import CASES, Case, Leave, Wait
from tests.fidelity.checks import Seen
from tests.fidelity.messages import read_answers
from tests.fidelity.peers import running
from tests.fidelity.upstream import Pause, Upstream, Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.fidelity.peers import Lane, Peer

_LANES: Final = 6
_CASE_WITHIN_S: Final = 6.0

_SETTLE_S: Final = 0.02
"""Between two cases on a lane, for a proxy to notice that the upstream's connections are gone."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a case; `failures` are pairs of what was expected and what came instead."""

    case: Case
    failures: tuple[tuple[str, str], ...]

    @property
    def is_passed(self) -> bool:
        return not self.failures

    def __str__(self) -> str:
        lines = [f"{self.case.name} ({self.case.section})"]
        for expected, came in self.failures:
            lines += [f"  expected: {expected}", f"  came:     {came}"]
        return "\n".join(lines)


@dataclass(slots=True)
class _Run:
    """A case in the making."""

    case: Case
    upstream: Upstream
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    client: Wire | None = None
    left_at: float | None = None

    def seen(self) -> Seen:
        client = self.client
        received = bytes(client.received) if client is not None else b""
        end = client.end if client is not None else "open"
        answers, rest = read_answers(received, self.case.methods, end)
        wires = self.upstream.wires
        ended_at = max((wire.ended_at for wire in wires), default=0.0)
        is_abandoned = self.left_at is not None and bool(wires) and all(wire.end != "open" for wire in wires)
        return Seen(
            answers=answers,
            rest=rest,
            end=end,
            requests=tuple(self.upstream.requests()),
            upstream_bytes=b"".join(bytes(wire.received) for wire in wires),
            upstream_ends=tuple(wire.end for wire in wires),
            abandoned_after_s=max(0.0, ended_at - self.left_at) if is_abandoned and self.left_at is not None else None,
        )

    async def until(self, holds: Callable[[Seen], bool], at_most_s: float) -> None:
        """Wait until `holds` does, the client's connection has ended, or the time is over."""
        try:
            async with asyncio.timeout(at_most_s):
                while not holds(seen := self.seen()) and (seen.end == "open" or self.left_at is not None):
                    await self.changed.wait()
                    self.changed.clear()
        except TimeoutError:
            return

    def is_answered(self, seen: Seen) -> bool:
        return len(seen.answers) >= len(self.case.methods) and seen.answers[-1].is_whole


async def _carried_out(case: Case, lane: Lane, upstream: Upstream) -> Verdict:
    run = _Run(case, upstream)
    await upstream.begin(case.upstream, run.changed.set)
    plug = socket.socket()
    plug.setblocking(False)  # noqa: FBT003 - the standard library's own
    try:
        await asyncio.get_running_loop().sock_connect(plug, ("127.0.0.1", lane.port))
    except OSError as error:
        plug.close()
        return Verdict(case, (("the proxy accepts a connection", str(error)),))
    client = run.client = Wire(plug, run.changed.set)
    try:
        try:
            async with asyncio.timeout(_CASE_WITHIN_S * 2):
                await _sent(run, client)
        except TimeoutError:
            return Verdict(case, (("the proxy takes what it is sent, or ends the connection", str(run.seen())),))
        await run.until(case.until or run.is_answered, _CASE_WITHIN_S)
        if case.linger_s:
            await run.until(lambda _: False, case.linger_s)
        seen = run.seen()
    finally:
        client.close()
        await upstream.finish()
    failed = [check for check in case.checks if not check.holds(seen)]
    return Verdict(case, tuple((check.expected, check.came(seen)) for check in failed))


async def _sent(run: _Run, client: Wire) -> None:
    for step in run.case.sends:
        match step:
            case bytes():
                await client.send(step)
            case Pause(seconds):
                await asyncio.sleep(seconds)
            case Wait(until, at_most_s):
                await run.until(until, at_most_s)
            case Leave(reset):
                run.left_at = time.monotonic()
                client.close(reset=reset)


async def carried_out(peer: Peer, folder: Path, cases: Sequence[Case] = CASES) -> tuple[Verdict, ...]:
    """Return the verdict on each of `cases` for `peer`, in their order.

    A case that fails is tried once more when all others are done, lest a busy machine decide.
    """
    async with AsyncExitStack() as stack:
        upstreams = [Upstream.listening() for _ in range(_LANES)]
        for upstream in upstreams:
            stack.callback(upstream.plug.close)
            accepting = asyncio.create_task(upstream.accept())
            stack.callback(asyncio.get_running_loop().remove_reader, upstream.plug)
            stack.callback(accepting.cancel)
        # Bound, so that nobody else listens there, but not listening.
        dead = stack.enter_context(socket.socket())
        dead.bind(("127.0.0.1", 0))
        ports = [*(upstream.port for upstream in upstreams), dead.getsockname()[1]]
        *lanes, dead_lane = await stack.enter_async_context(running(peer, ports, folder))
        free: asyncio.Queue[tuple[Lane, Upstream]] = asyncio.Queue()
        for pair in zip(lanes, upstreams, strict=True):
            free.put_nowait(pair)

        async def on_a_lane(case: Case) -> Verdict:
            lane, upstream = await free.get()
            try:
                return await _carried_out(case, lane if case.is_listening else dead_lane, upstream)
            finally:
                await asyncio.sleep(_SETTLE_S)
                free.put_nowait((lane, upstream))

        verdicts = {verdict.case.name: verdict for verdict in await asyncio.gather(*map(on_a_lane, cases))}
        again = (verdict.case for verdict in tuple(verdicts.values()) if not verdict.is_passed)
        verdicts |= {verdict.case.name: verdict for verdict in await asyncio.gather(*map(on_a_lane, again))}
        return tuple(verdicts[case.name] for case in cases)
