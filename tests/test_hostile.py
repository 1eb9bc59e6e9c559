"""Bodies that mean harm, in every mode: forwarded byte for byte, fixed but for a name, or refused with an envelope.

How long each may hold up the event loop is measured by hand: python -m tests.soak hostile.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING

import pytest

from tests.soak.hostile import BODIES, ERRORS, JSON, RIGHT, Body, Mirror, asked
from tests.soak.process import ProxyProcess, proxy_process

if TYPE_CHECKING:
    from tests.conftest import Message

MIB = 2**20

# Some thirty times what the slowest takes.
ANSWERED_WITHIN_S = 30.0


def verdict(body: Body, mode: str, sent: bytes, answer: Message, arrived: list[bytes]) -> str:
    """Return what is wrong with what became of `sent`, nothing where it is as it has to be."""
    is_refused = body.right is not None and (mode == "reject" or (mode == "fix" and not body.is_fixable))
    if is_refused:
        if (answer.status, answer["X-Error-Origin"], arrived) != (400, "proxy", []):
            return f"not refused: {answer.status}"
        return "" if answer.error["details"] and len(answer.body) < MIB else "its envelope"
    wanted = body.right() if body.right is not None and mode == "fix" else sent
    if (answer.status, arrived) != (200, [wanted]):
        return f"status {answer.status}, arrived {[piece[:60] for piece in arrived]}"
    if ("X-Case-Mismatch" in answer) != (body.right is not None):
        return f"X-Case-Mismatch: {answer.values('X-Case-Mismatch')}"
    return ""


class TestRequests:
    @pytest.mark.parametrize("mode", ["reject", "fix", "observe"])
    async def test_what_becomes_of_each(self, mode: str) -> None:
        wrong: dict[str, str] = {}
        async with (
            Mirror() as mirror,
            proxy_process(f"http://127.0.0.1:{mirror.port}", {"CHECK__MODE": mode}) as proxy,
        ):
            await asked(proxy.port, JSON, body=RIGHT)
            held_bytes = peak_bytes(proxy)
            for case, body in BODIES.items():
                mirror.bodies.clear()
                sent = body.make()
                answer = await asked(proxy.port, *body.lines, body=sent, within_s=ANSWERED_WITHIN_S)
                if problem := verdict(body, mode, sent, answer, mirror.bodies):
                    wrong[case] = problem
            grown_bytes = peak_bytes(proxy) - held_bytes
        assert not wrong
        assert not [line for line in proxy.lines if "defect" in line]
        assert grown_bytes < 128 * MIB, "a document of 1 MB may become objects of 50 MB, one after the other"

    async def test_many_at_once_are_answered_beside_each_other(self) -> None:
        """Bombs on all connections at a time: memory stays bounded, and everybody gets an answer."""
        bombs = ["a gzip bomb", "a deflate bomb", "49,000 names", "arrays, 40,000 deep"]
        sent = [(BODIES[case].lines, BODIES[case].make()) for case in bombs] * 5
        async with Mirror() as mirror, proxy_process(f"http://127.0.0.1:{mirror.port}", {}) as proxy:
            held_bytes = peak_bytes(proxy)
            answers = await asyncio.gather(
                *(asked(proxy.port, *lines, body=body, within_s=ANSWERED_WITHIN_S) for lines, body in sent)
            )
            grown_bytes = peak_bytes(proxy) - held_bytes
        assert [answer.status for answer in answers] == [200, 200, 400, 200] * 5
        assert grown_bytes < 256 * MIB


class TestErrors:
    async def test_what_becomes_of_each(self) -> None:
        wrong: dict[str, str] = {}
        async with Mirror() as mirror, proxy_process(f"http://127.0.0.1:{mirror.port}", {}) as proxy:
            await asked(proxy.port, JSON, body=RIGHT)
            held_bytes = peak_bytes(proxy)
            for case, error in ERRORS.items():
                sent = mirror.say(error)
                answer = await asked(proxy.port, JSON, body=RIGHT, within_s=ANSWERED_WITHIN_S)
                tagged = (answer.status, answer.reason, answer["X-Error-Origin"], len(answer.values("X-Target-Id")))
                if tagged != (400, b"Hostile", "upstream", 1) or not 1 <= len(answer["X-Target-Id"]) <= 128:
                    wrong[case] = f"{tagged} {answer.fields}"
                elif error.is_whole:
                    told = json.loads(answer.body, parse_int=float)["error"] if "Content-Encoding" not in answer else {}
                    if not (isinstance(told.get("code"), str) and told.get("target") == answer["X-Target-Id"]):
                        wrong[case] = f"no envelope: {answer.body[:100]!r}"
                elif answer.body != sent:
                    wrong[case] = f"changed: {answer.body[:100]!r}"
            grown_bytes = peak_bytes(proxy) - held_bytes
        assert not wrong
        assert not [line for line in proxy.lines if "defect" in line]
        assert grown_bytes < 128 * MIB


def peak_bytes(proxy: ProxyProcess) -> int:
    """Return the most memory that the proxy ever held; only Linux tells."""
    return proxy.peak_bytes if sys.platform == "linux" else 0
