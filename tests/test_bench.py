"""The benchmark in its shortest form: that it runs, what it writes, and that it notices a wrong answer. No figure."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree as ET

import pytest

from tests.bench.load import Expected, WrongAnswerError, closed, downloaded, opened
from tests.bench.measure import Cell, Plan, Results, Run, Start, upstream
from tests.bench.proxies import Launch, Proxy, StartError, on_cores, running
from tests.bench.report import Report
from tests.bench.workloads import GET, MIB, POST, WORKLOADS
from tests.fidelity.peers import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.fidelity.peers import Lane

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="epoll, /proc and CPU affinity are Linux's"
)

SHORT: Final = Plan(rounds=1, warm_s=5, cell_s=5, requests=3, connections=2)
FACTS: Final[dict[str, str | int]] = {"cpu": "any", "cores": 2}
GET_ANSWER: Final = Expected(GET.answer.status, GET.answer.body)

ALWAYS: Final = """
import socket, sys
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as listener:
    while True:
        plug, _ = listener.accept()
        while plug.recv(65536):
            plug.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\n{}")
"""


def a_core() -> frozenset[int]:
    return frozenset({min(os.sched_getaffinity(0))})


def proxy_of(name: str, code: str = "") -> Proxy:
    """Return a stand-in for a proxy: a program that is told its port."""

    def launch(program: str, lane: Lane, _folder: Path) -> Launch:
        return Launch((program, "-c", code, str(lane.port)), lane.port, "/")

    return Proxy(name, name, sys.executable, launch, "1.0")


@contextmanager
def answering(script: Callable[[int], bytes]) -> Iterator[int]:
    """Answer the requests of one connection with what `script` returns for their number; yield the port."""

    def serve() -> None:
        plug, _ = listener.accept()
        with plug:
            number = 0
            while plug.recv(65536):
                plug.sendall(script(number))
                number += 1

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(10)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """Run the command for one workload; return what it wrote and printed."""
    folder = tmp_path_factory.mktemp("bench")
    command = ("-m", "tests.bench", "--only", "post", "--peers", "sidecar,plain,nginx", "--rounds", "2")
    files = folder / "cost.json", folder / "cost.svg"
    done = subprocess.run(
        (sys.executable, *command, "--requests", "5", "--json", str(files[0]), "--svg", str(files[1])),
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=100,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return *files, done.stdout


class TestCommand:
    def test_every_raw_figure_is_in_the_json(self, files: tuple[Path, Path, str]) -> None:
        document = json.loads(files[0].read_text("utf-8"))
        assert document.keys() == {"machine", "plan", "proxies", "targets", "cpu_us", "raw", "notes"}
        assert document["machine"].keys() == {"cpu", "cores", "kernel", "python"}
        assert document["proxies"]["sidecar"]["event_loop"] in {"asyncio", "uvloop"}
        cells = document["raw"]["cells"]
        names = {"direct", *document["proxies"]}
        assert names >= {"direct", "sidecar", "plain"}
        assert sorted((cell["proxy"], cell["round"]) for cell in cells) == [
            (name, number) for name in sorted(names) for number in (0, 1)
        ]
        for cell in cells:
            assert cell["requests"] == 5
            assert cell["proxy"] == "direct" or min(cell["cpu_s"], cell["rss_bytes"], cell["pss_bytes"]) > 0
        assert document["cpu_us"]["post"].keys() == set(document["proxies"])

    def test_the_picture_is_xml_for_light_and_dark(self, files: tuple[Path, Path, str]) -> None:
        text = files[1].read_text("utf-8")
        root = ET.fromstring(text)  # noqa: S314 - it is our own
        texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
        assert {"sidecar", "plain aiohttp proxy"} <= set(texts)
        assert "prefers-color-scheme: dark" in text

    def test_tables_ratios_and_targets_are_printed(self, files: tuple[Path, Path, str]) -> None:
        lines = files[2].splitlines()
        assert "CPU time per request" in lines
        assert any(line.startswith("| checked POST") and "µs" in line for line in lines)
        assert any(line.startswith("not measured") and "two workers" in line for line in lines)
        assert any("plain aiohttp proxy's to it: " in line for line in lines)

    @pytest.mark.parametrize("arguments", [("--only", "none"), ("--peers", "sidecar,none"), ("profile", "none")])
    def test_unknown_names_are_refused(self, arguments: tuple[str, ...]) -> None:
        done = subprocess.run(
            (sys.executable, "-m", "tests.bench", *arguments), capture_output=True, text=True, check=False, cwd=ROOT
        )
        assert done.returncode == 2
        assert "none" in done.stderr


class TestRun:
    def test_a_wrong_answer_ends_it(self) -> None:
        run = Run([proxy_of("wrong", ALWAYS)], ["get"], SHORT, lambda _: None)
        with pytest.raises(WrongAnswerError, match=r"got 200 b'\{\}'"):
            run()

    def test_a_proxy_that_does_not_start_ends_it(self) -> None:
        run = Run([proxy_of("absent", "raise SystemExit('no such option')")], ["get"], SHORT, lambda _: None)
        with pytest.raises(StartError, match=r"absent does not start \(status 1\): no such option"):
            run()

    def test_every_answer_of_the_upstream_is_as_expected(self) -> None:
        with upstream(a_core()) as behind:
            for workload in WORKLOADS:
                expected = Expected(workload.answer.status, workload.answer.body)
                came = closed(behind.port, workload.request(), expected, connections=3, stop_after_s=60, requests=10)
                assert came.requests == 10
            samples: list[int] = []
            assert downloaded(behind.port, 5 * MIB + 1, lambda: samples.append(1)) > 0
            assert len(samples) == 4

    def test_cpu_time_is_that_of_the_process(self, tmp_path: Path) -> None:
        with running(proxy_of("idle", ALWAYS), 0, tmp_path, a_core()) as one:
            before = one.cpu_s()
            closed(one.port, GET.request(), Expected(200, b"{}"), connections=1, stop_after_s=60, requests=50)
            assert 0 < one.cpu_s() - before < 60
            times = one.process.cpu_times()
            assert one.cpu_s() == pytest.approx(times.user + times.system, abs=0.05)

    def test_cores_are_given_back(self) -> None:
        before = os.sched_getaffinity(0)
        with on_cores(a_core()):
            assert os.sched_getaffinity(0) == a_core() == {min(before)}
        assert os.sched_getaffinity(0) == before


RIGHT: Final = GET.answer.message()


class TestClient:
    @pytest.mark.parametrize(
        "wrong",
        [
            pytest.param(RIGHT.replace(b"200", b"500", 1), id="status"),
            pytest.param(RIGHT.replace(b"Windows11", b"Windows10"), id="one byte"),
            pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", id="empty"),
            pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", id="chunks"),
        ],
    )
    def test_the_first_answer_is_compared_whole(self, wrong: bytes) -> None:
        with answering(lambda _: wrong) as port, pytest.raises(WrongAnswerError, match="expected 200"):
            closed(port, GET.request(), GET_ANSWER, connections=1, stop_after_s=60, requests=5)

    @pytest.mark.parametrize(
        "wrong",
        [
            pytest.param(RIGHT.replace(b"200", b"500", 1), id="status"),
            pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", id="length"),
        ],
    )
    def test_later_ones_by_status_and_length(self, wrong: bytes) -> None:
        with (
            answering(lambda number: wrong if number == 3 else RIGHT) as port,
            pytest.raises(WrongAnswerError, match="like before"),
        ):
            closed(port, GET.request(), GET_ANSWER, connections=1, stop_after_s=60, requests=5)

    def test_chunks_are_as_good_as_a_length(self) -> None:
        body = GET.answer.body
        chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        with answering(lambda _: chunked) as port:
            assert closed(port, GET.request(), GET_ANSWER, connections=1, stop_after_s=60, requests=5).requests == 5

    def test_a_stall_is_felt_by_all_that_were_due_meanwhile(self) -> None:
        stall_s, rate = 0.4, 100.0

        def script(number: int) -> bytes:
            if number == 5:
                time.sleep(stall_s)
            return RIGHT

        with answering(script) as port:
            took_s = opened(port, GET.request(), GET_ANSWER, connections=1, rate_per_s=rate, count=60)
        assert len(took_s) == 60
        # Of the 40 that were due within the stall, half were due in its first half: each waited for the other half.
        assert sum(one > stall_s / 2 for one in took_s) >= 0.9 * rate * stall_s / 2


class TestReport:
    @staticmethod
    def results(**cpu_s: float) -> Results:
        names = {name.replace("_", "-"): figure for name, figure in cpu_s.items()}
        return Results(
            cells=[
                Cell("post", name, number, 1_000, 1.0, figure * (1 + number), 50 * MIB, 40 * MIB)
                for name, figure in names.items()
                for number in (0, 1, 2)
            ],
            starts=[Start(name, 0, 0.5, 50 * MIB, 40 * MIB) for name in names],
        )

    def targets_of(self, **cpu_s: float) -> dict[str, str]:
        results = self.results(**cpu_s)
        report = Report(results, [proxy_of(name.replace("_", "-")) for name in cpu_s], Plan(), FACTS)
        return {target.name: str(target).partition(" ")[0] for target in report.targets()}

    def test_targets_at_their_bounds_are_met(self) -> None:
        targets = self.targets_of(sidecar=0.1, sidecar_off=0.1, plain=0.25, envoy=0.1)
        assert targets["CPU of a checked POST, to Envoy's"] == "met"
        assert targets["CPU of a checked POST, the plain aiohttp proxy's to it"] == "met"
        assert targets["CPU of a POST, check on to check off"] == "met"
        assert targets["ready"] == "met"
        assert targets["resident memory under load, to Envoy's"] == "NOT"
        assert targets["CPU of a GET, to Envoy's"] == "not"

    def test_targets_beyond_them_are_not(self) -> None:
        targets = self.targets_of(sidecar=0.11, sidecar_off=0.1, plain=0.25, envoy=0.1)
        assert targets["CPU of a checked POST, to Envoy's"] == "NOT"
        assert targets["CPU of a checked POST, the plain aiohttp proxy's to it"] == "NOT"
        assert targets["CPU of a POST, check on to check off"] == "NOT"

    @pytest.mark.parametrize(("wall_s", "is_told"), [(1.0, False), (2.0, True)])
    def test_a_busy_machine_is_told(self, wall_s: float, *, is_told: bool) -> None:
        results = Results(cells=[Cell("post", "a", 0, 10, wall_s, 0.95), Cell("post", "b", 0, 100, wall_s, 0.4)])
        text = Report(results, [proxy_of("a"), proxy_of("b")], Plan(), FACTS).text()
        assert ("the machine was busy: the slowest proxy got 48% of its core" in text) == is_told

    def test_names_are_escaped_in_the_picture(self) -> None:
        results = Results(cells=[Cell("post", "<a&b>", 0, 10, 1.0, 0.1), Cell("post", "c", 0, 10, 1.0, 0.9)])
        picture = Report(results, [proxy_of("<a&b>"), proxy_of("c")], Plan(), FACTS).picture()
        assert picture is not None
        root = ET.fromstring(picture)  # noqa: S314 - it is our own
        assert "<a&b>" in [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]

    def test_without_the_checked_post_there_is_no_picture(self) -> None:
        assert Report(Results(), [proxy_of("sidecar")], Plan(), FACTS).picture() is None
        assert POST.name == "post"
