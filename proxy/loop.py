"""The event loop that a proxy runs on: uvloop's where it is installed, else asyncio's own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_T = TypeVar("_T")

UVLOOP: Final = "uvloop"
ASYNCIO: Final = "asyncio"


def _factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    asyncio_alone = {ASYNCIO: asyncio.new_event_loop}
    try:
        import uvloop  # noqa: PLC0415 - it may be missing: it is made for CPython on Linux and macOS alone
    except ImportError:
        return asyncio_alone
    return {UVLOOP: uvloop.new_event_loop, **asyncio_alone}


FACTORIES: Final = _factories()
"""What makes a loop of each kind that there is here, the better one first."""


def new_loop() -> asyncio.AbstractEventLoop:
    """Return a new loop of the best kind that there is."""
    return next(iter(FACTORIES.values()))()


def run(main: Coroutine[Any, Any, _T]) -> _T:
    """Run `main` to its end on a loop of the best kind that there is, and return what it returns."""
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(main)


def kind_of(loop: asyncio.AbstractEventLoop) -> str:
    """Return which kind of loop `loop` is."""
    return UVLOOP if type(loop).__module__.partition(".")[0] == UVLOOP else ASYNCIO
