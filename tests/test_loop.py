"""Which event loop is taken."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from proxy import loop


async def kind() -> str:
    return loop.kind_of(asyncio.get_running_loop())


def test_the_loop_is_the_best_that_is_installed() -> None:
    pytest.importorskip("uvloop")
    assert loop.run(kind()) == loop.UVLOOP


def test_asyncio_has_a_loop_where_uvloop_is_missing() -> None:
    """A `None` in `sys.modules` is Python's own way to say that a module is not there."""
    script = (
        "import sys; sys.modules['uvloop'] = None; import asyncio; from proxy import loop\n"
        "async def main(): return loop.kind_of(asyncio.get_running_loop())\n"
        "print(loop.run(main()))"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert ended.stdout == "asyncio\n"


@pytest.mark.parametrize("name", loop.FACTORIES)
def test_each_kind_of_loop_is_known_by_its_name(name: str) -> None:
    with asyncio.Runner(loop_factory=loop.FACTORIES[name]) as runner:
        assert runner.run(kind()) == name
