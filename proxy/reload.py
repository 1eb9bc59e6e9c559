"""Settings and files read anew, on request or because a file has changed; what is faulty is told and not taken over."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Final, TypeVar

from proxy.errors import UnusableInputError, place_of
from proxy.files import changed, recorded
from proxy.telemetry import RELOAD_FAILED, RELOAD_OK

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from proxy.configuration import Configuration
    from proxy.files import Look
    from proxy.logs import Log
    from proxy.telemetry import Telemetry

_T = TypeVar("_T")

RELOADED: Final = "reloaded"
RELOAD_FAILED_EVENT: Final = "reload_failed"

# Whoever writes a file in place is given time to end: half of a settings file may be valid, and mean something else.
_SETTLING_S: Final = 0.2
_PROBLEMS_AT_MOST: Final = 100


class Source:
    """Where a configuration is read from, again and again, and what the files looked like when it was last read."""

    def __init__(self, load: Callable[[], Configuration]) -> None:
        self._load = load
        self._looks: Mapping[Path, Look] = {}

    def changed(self) -> dict[Path, Look]:
        """Return the files that look otherwise than when they were read, and how."""
        return changed(self._looks)

    def read(self) -> Configuration:
        """Return what the files say.

        Raises:
            UnusableInputError: with every problem.
        """
        with recorded() as looks:
            try:
                configuration = self._load()
            except BaseException:
                # Which files there would have been besides may not be known now.
                self._looks = {**self._looks, **looks}
                raise
        self._looks = looks
        return configuration


class Reloader:
    """Reads `source` anew whenever `wanted` is set or a file has changed, and hands what comes of it to `take_over`.

    One reading follows another, and one that is wanted meanwhile comes after: the last to ask sees what it asked for.
    `take_over` returns what is to be told of it, as fields of a log line. `interval_s` is asked before each wait.
    """

    def __init__(
        self,
        source: Source,
        wanted: asyncio.Event,
        take_over: Callable[[Configuration], Awaitable[Mapping[str, object]]],
        interval_s: Callable[[], float],
        log: Log,
        telemetry: Telemetry,
    ) -> None:
        self._source = source
        self._wanted = wanted
        self._take_over = take_over
        self._interval_s = interval_s
        self._log = log
        self._telemetry = telemetry

    async def run(self) -> None:
        """Reload whenever there is reason to, until cancelled."""
        while True:
            trigger = "signal" if await self._is_wanted() else "file"
            files = await in_thread(self._source.changed)
            if trigger == "file":
                if not files:
                    continue
                files = await self._settled(files)
            self._wanted.clear()
            await self._reload(trigger, [str(path) for path in files])

    async def _is_wanted(self) -> bool:
        """Wait for a request, or for the time to look at the files; return whether it is a request."""
        try:
            async with asyncio.timeout(self._interval_s() or None):
                await self._wanted.wait()
        except TimeoutError:
            return False
        return True

    async def _settled(self, files: dict[Path, Look]) -> dict[Path, Look]:
        """Return what has changed, once it does not change any more."""
        while True:
            await asyncio.sleep(_SETTLING_S)
            later = await in_thread(self._source.changed)
            if later == files:
                return files
            files = later

    async def _reload(self, trigger: str, files: list[str]) -> None:
        try:
            fields = await self._take_over(await in_thread(self._source.read))
        except Exception as error:  # noqa: BLE001 - what runs goes on, and this is told
            problems = problems_of(error)
        else:
            self._telemetry.count_reload(RELOAD_OK)
            self._log.info(RELOADED, trigger=trigger, **({"files": files} if files else {}), **fields)
            return
        self._telemetry.count_reload(RELOAD_FAILED)
        told: dict[str, object] = {"problems": problems[:_PROBLEMS_AT_MOST]}
        if len(problems) > _PROBLEMS_AT_MOST:
            told["problems_omitted"] = len(problems) - _PROBLEMS_AT_MOST
        self._log.error(RELOAD_FAILED_EVENT, trigger=trigger, **({"files": files} if files else {}), **told)


def problems_of(error: Exception) -> list[str]:
    """Return what kept a configuration from being taken over, a problem a line."""
    match error:
        case UnusableInputError():
            return str(error).splitlines()
        case OSError():
            return [f"the system refuses: {error.strerror or type(error).__name__}"]
    return [f"a defect of the proxy's own: {place_of(error)}"]


async def in_thread(function: Callable[[], _T]) -> _T:
    """Return what `function` returns in a thread of its own.

    It is none of the event loop's, which are waited for at the end: a file system that hangs would hold the process.
    """
    loop = asyncio.get_running_loop()
    result: asyncio.Future[_T] = loop.create_future()

    def settle(value: _T | None, error: BaseException | None) -> None:
        if result.cancelled():
            return
        if error is not None:
            result.set_exception(error)
        else:
            result.set_result(value)  # type: ignore[arg-type] # None only where the function returns it

    def run() -> None:
        value, error = None, None
        try:
            value = function()
        except Exception as raised:  # noqa: BLE001 - it is raised where it is awaited
            error = raised
        try:
            loop.call_soon_threadsafe(settle, value, error)
        except RuntimeError:
            return  # the loop has ended meanwhile, and nobody awaits it

    threading.Thread(target=run, name="reload", daemon=True).start()
    return await result
