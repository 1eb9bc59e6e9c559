"""The real Prometheus scrapes the admin port, and what it then knows is what was sent."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from typing import TYPE_CHECKING

import aiohttp

from tests.scraping import end, program, scraping

if TYPE_CHECKING:
    from pathlib import Path

    from proxy.simulator import Simulator
    from tests.conftest import Proxied

SCRAPED_WITHIN_S = 15.0

CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: defender-sidecar
    static_configs: [{{targets: ['{target}']}}]
"""

RIGHT = {"Comment": "x", "IsolationType": "Full"}
WRONG = {"comment": "x", "IsolationType": "Full"}

# What is asked of the simulator, with which body, and the code that it is to be counted under; `None`: no error.
CALLS: list[tuple[str, dict[str, str], str | None]] = [
    ("", RIGHT, None),
    ("", WRONG, "MissingRequiredParameter"),
    ("", {"Comment": "x", "isolationtype": "Full"}, "InvalidRequestBody"),
    ("MissingRequiredParameter", RIGHT, "MissingRequiredParameter"),
    ("InvalidRequestBody", RIGHT, "InvalidRequestBody"),
    ("Forbidden", RIGHT, "Forbidden"),
    ("Forbidden, target=activity", RIGHT, "Forbidden"),
    ("Forbidden, gzip", RIGHT, "Forbidden"),
    ("TooManyRequests", RIGHT, "TooManyRequests"),
    ("InternalServerError", RIGHT, "InternalServerError"),
    ("reset", RIGHT, "BadGateway"),
    ("garbage", RIGHT, "BadGateway"),
]


async def send_all(proxied: Proxied, times: int) -> tuple[Counter[str], dict[tuple[str, str, str], list[str]]]:
    """Send each of the calls `times` times; return the errors by code, and the target IDs given by series."""
    errors: Counter[str] = Counter()
    targets: dict[tuple[str, str, str], list[str]] = {}
    async with aiohttp.ClientSession() as client:
        for simulate, body, code in CALLS * times:
            async with client.post(
                f"{proxied.url}/api/machines/m1/isolate", json=body, headers={"X-Simulate": simulate}
            ) as response:
                answer = await response.read()
            fields = response.headers
            assert fields.get("X-Error-Code") == code, answer
            if code is not None:
                errors[code] += 1
                assert json.loads(answer)["error"]["target"] == fields["X-Target-Id"]
                series = code, str(response.status), fields["X-Error-Origin"]
                targets.setdefault(series, []).append(fields["X-Target-Id"])
    return errors, targets


async def test_prometheus_counts_what_was_sent(proxied: Proxied, tmp_path: Path) -> None:
    began = time.time()
    async with scraping(CONFIG.format(target=proxied.admin_url.removeprefix("http://")), tmp_path) as prometheus:

        async def known() -> dict[str, float]:
            return await prometheus.query("sum by (code) (defender_proxy_errors_total)")

        async with asyncio.timeout(SCRAPED_WITHIN_S):
            while not (before := await known()):  # noqa: ASYNC110 - it is another process that is waited for
                await asyncio.sleep(0.1)
        # Known codes are there before the first error, for `rate` to see that one too.
        assert set(before.values()) == {0}
        assert {"Forbidden", "TooManyRequests", "BadGateway"} <= set(before)

        errors, targets = await send_all(proxied, times=3)

        async with asyncio.timeout(SCRAPED_WITHIN_S):
            while sum((await known()).values()) < errors.total():  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        assert await known() == dict.fromkeys(before, 0.0) | dict(errors)
        assert await prometheus.query("sum by (status) (defender_proxy_requests_total)") == {
            "201": 3.0,
            "400": 12.0,
            "403": 9.0,
            "429": 3.0,
            "500": 3.0,
            "502": 6.0,
        }
        assert await prometheus.query("sum by (parameter) (defender_proxy_case_mismatches_total)") == {
            "Comment": 3.0,
            "IsolationType": 3.0,
        }
        assert await prometheus.query("sum by (job) (up)") == {"defender-sidecar": 1.0}

        found = await prometheus.api(
            "query_exemplars", query="defender_proxy_errors_total", start=str(began), end=str(time.time() + 60)
        )
        exemplars = {
            tuple(each["seriesLabels"][name] for name in ("code", "status", "origin")): [
                exemplar["labels"]["target_id"] for exemplar in each["exemplars"]
            ]
            for each in found
        }
        assert set(exemplars) == set(targets)
        for series, told in exemplars.items():
            assert set(told) <= set(targets[series])  # a scrape meets the latest alone
            assert told[-1] == targets[series][-1]


async def test_promtool_finds_no_fault(proxied: Proxied, simulator: Simulator) -> None:
    await send_all(proxied, times=1)
    assert simulator.received
    async with aiohttp.ClientSession() as client, client.get(f"{proxied.admin_url}/metrics") as response:
        exposed = await response.read()

    process = await asyncio.create_subprocess_exec(
        program("promtool"),
        "check",
        "metrics",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        said, _ = await process.communicate(exposed)
    finally:
        await end(process)

    assert (process.returncode, said.decode()) == (0, "")
