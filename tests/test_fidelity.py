"""The sidecar and its peers before the same scripted upstream: `tests/fidelity/cases.py` has the table.

`python -m tests.fidelity` prints it.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Final, TypeAlias

import pytest

from tests.fidelity.cases import CASES, GROUPS
from tests.fidelity.messages import read_answers, read_requests
from tests.fidelity.peers import PEERS, Command, Lane, Peer
from tests.fidelity.runner import carried_out

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.fidelity.messages import End
    from tests.fidelity.runner import Verdict

    Results: TypeAlias = "dict[str, dict[str, Verdict]]"

# All proxies run the whole table at once, in the set-up of the first test that asks for what came of it.
pytestmark = pytest.mark.timeout(300)

MISSED: Final[dict[str, str]] = {}
"""Cases that the sidecar does not pass yet, and why. One that passes must go from here."""


def _relay(program: str, lanes: Sequence[Lane], _folder: Path) -> tuple[Command, ...]:
    pairs = (f"{lane.port}:{lane.upstream_port}" for lane in lanes)
    return ((program, "-m", "tests.fidelity.relay", *pairs),)


RELAY: Final = Peer("relay", sys.executable, _relay)

PASSED_BY_A_RELAY: Final = (
    "target: quotes",
    "request fields: order within a name",
    "chunks up: odd sizes and letter case",
    "HEAD keeps Content-Length",
    "103 is forwarded",
    "Expect is asked end to end",
)
FAILED_BY_A_RELAY: Final = (
    "request fields: hop-by-hop ones are removed",
    "Via is added",
    "response fields: hop-by-hop ones are removed",
    "103 does not go to HTTP/1.0",
    "HTTP/1.0 gets no chunks",
    "a head that does not come",
    "an upstream that refuses",
    "a stale pooled connection: GET is sent again",
    "Content-Length, then chunked",
    "Content-Length: two different ones",
    "Transfer-Encoding: xchunked",
    "chunk: a negative size",
    "obs-fold",
    "field: a space before the colon",
    "Host: two",
    "TRACE",
    "a target of 100 KB",
    "upstream: two Content-Lengths",
    "upstream: CR alone in a value",
)


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """What came of each case, by proxy and case: all of them for the proxies that are installed, a few for a relay."""
    folder = tmp_path_factory.mktemp("fidelity")
    installed = [peer for peer in PEERS if peer.program is not None]
    chosen = [case for case in CASES if case.name in PASSED_BY_A_RELAY + FAILED_BY_A_RELAY]

    async def collected() -> list[tuple[Verdict, ...]]:
        return await asyncio.gather(
            *(carried_out(peer, folder) for peer in installed), carried_out(RELAY, folder, chosen)
        )

    verdicts = asyncio.run(collected())
    names = [*(peer.name for peer in installed), RELAY.name]
    return {name: {each.case.name: each for each in found} for name, found in zip(names, verdicts, strict=True)}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            case.name,
            id=case.name,
            marks=[pytest.mark.xfail(reason=MISSED[case.name], strict=True)] if case.name in MISSED else [],
        )
        for case in CASES
    ],
)
def test_the_sidecar_passes(results: Results, name: str) -> None:
    verdict = results["sidecar"][name]
    assert verdict.is_passed, f"\n{verdict}"


@pytest.mark.parametrize("peer", [peer for peer in PEERS if peer.name != "sidecar"], ids=lambda peer: peer.name)
def test_it_passes_at_least_as_many_as(results: Results, peer: Peer) -> None:
    if peer.program is None:
        pytest.skip(f"{peer.name} is not installed")
    passed = {name: sum(verdict.is_passed for verdict in found.values()) for name, found in results.items()}
    assert passed["sidecar"] >= passed[peer.name]
    # One that is set up wrong would make the comparison worthless.
    assert passed[peer.name] > 0.8 * len(CASES), "\n".join(map(str, results[peer.name].values()))


@pytest.mark.parametrize("name", PASSED_BY_A_RELAY)
def test_a_blind_relay_passes(results: Results, name: str) -> None:
    verdict = results["relay"][name]
    assert verdict.is_passed, f"\n{verdict}"


@pytest.mark.parametrize("name", FAILED_BY_A_RELAY)
def test_a_blind_relay_fails(results: Results, name: str) -> None:
    verdict = results["relay"][name]
    assert not verdict.is_passed
    assert all(expected and came for expected, came in verdict.failures)


class TestTable:
    def test_no_two_cases_have_the_same_name(self) -> None:
        assert len({case.name for case in CASES}) == len(CASES) == sum(map(len, GROUPS.values()))

    def test_every_case_has_a_section_and_something_to_hold(self) -> None:
        assert [case.name for case in CASES if not case.section.startswith(("RFC 9", "RFC 8", "goal"))] == []
        assert [case.name for case in CASES if not case.checks or not case.sends] == []

    def test_what_is_missed_is_in_the_table(self) -> None:
        assert set(MISSED) <= {case.name for case in CASES}


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
EARLY = b"HTTP/1.1 103 Early Hints\r\n\r\n"


class TestMessages:
    @pytest.mark.parametrize(
        ("data", "methods", "end", "read", "rest"),
        [
            pytest.param(OK, ["GET"], "open", [(b"ok", True)], b"", id="length"),
            pytest.param(OK + b"x", ["GET"], "open", [(b"ok", True)], b"x", id="more-than-the-length"),
            pytest.param(OK[:-1], ["GET"], "closed", [(b"o", False)], b"", id="less-than-the-length"),
            pytest.param(OK[:-2] + OK, ["HEAD", "GET"], "open", [(b"", True), (b"ok", True)], b"", id="head"),
            pytest.param(CHUNKED + b"2;x\r\nok\r\n0\r\n\r\n", ["GET"], "open", [(b"ok", True)], b"", id="chunks"),
            pytest.param(CHUNKED + b"2\r\nok\r\n", ["GET"], "closed", [(b"ok", False)], b"", id="no-last-chunk"),
            pytest.param(CHUNKED + b"2\r\nok0\r\n\r\n", ["GET"], "open", [(b"ok", False)], b"", id="no-line-behind"),
            pytest.param(CHUNKED + b"0\r\nA: b\r\n\r\nx", ["GET"], "open", [(b"", True)], b"x", id="trailers"),
            pytest.param(b"HTTP/1.1 200 OK\r\n\r\nok", ["GET"], "closed", [(b"ok", True)], b"", id="close"),
            pytest.param(b"HTTP/1.1 200 OK\r\n\r\nok", ["GET"], "reset", [(b"ok", False)], b"", id="reset"),
            pytest.param(EARLY + OK + EARLY, ["GET"], "open", [(b"ok", True)], EARLY, id="interim"),
            pytest.param(EARLY, ["GET"], "open", [], EARLY, id="interim-alone"),
        ],
    )
    def test_answers(
        self, data: bytes, methods: list[str], end: End, read: list[tuple[bytes, bool]], rest: bytes
    ) -> None:
        answers, behind = read_answers(data, methods, end)
        assert [(answer.body, answer.is_whole) for answer in answers] == read
        assert behind == rest

    def test_requests(self) -> None:
        post = b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nT: 1\r\n\r\n"
        first, second, third = read_requests(post + b"GET /b HTTP/1.1\r\nA:  b \r\na: c\r\n\r\n" + post[:60])
        assert (first.method, first.target, first.body, first.trailers) == (b"POST", b"/a", b"ok", ((b"T", b"1"),))
        assert (second.target, second.values(b"a"), second.is_whole) == (b"/b", [b"b", b"c"], True)
        assert not third.is_whole
