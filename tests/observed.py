"""A sidecar that meets a bit of everything, seen by a Prometheus that runs by the files in `deploy/prometheus`."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import yaml

from tests.scraping import free_port, scraping

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.conftest import Reloading
    from tests.scraping import Prometheus

DEPLOY = Path(__file__).parents[1] / "deploy"
SCRAPED_WITHIN_S = 30.0

SETTINGS = "check: {operations: {runAntiVirusScan: fix, unisolateMachine: observe}}"
DEVICE = "/api/machines/1e5bc9d7e413"
RIGHT = '{"Comment": "x", "IsolationType": "Full"}'
WRONG = '{"comment": "x", "IsolationType": "Full"}'

# Method, path, body, and what the simulator is asked for.
CALLS = (
    ("GET", "/api/machines", "", ""),
    ("POST", f"{DEVICE}/isolate", RIGHT, ""),
    ("POST", f"{DEVICE}/isolate", WRONG, ""),
    ("POST", f"{DEVICE}/runAntiVirusScan", '{"comment": "x", "scan_type": "Quick"}', ""),
    ("POST", f"{DEVICE}/unisolate", '{"comment": "x"}', ""),
    ("POST", f"{DEVICE}/unisolate", '{"comment": "x"}', "echo"),
    *(("POST", "/api/advancedqueries/run", '{"Query": "DeviceInfo"}', "TooManyRequests"),) * 8,
    *(("GET", "/api/alerts", "", "Unauthorized"),) * 3,
    *(("GET", "/api/alerts", "", "Forbidden, target=activity"),) * 3,
    ("GET", "/api/alerts", "", "InternalServerError"),
    ("GET", "/api/machines", "", "status=418"),
    ("GET", "/api/machines", "", "reset"),
    *(("POST", f"{DEVICE}/isolate", RIGHT, "garbage"),) * 3,
)

Series = tuple[str, str, str]


@dataclass(slots=True)
class Observed:
    """What has been sent, and a Prometheus that knows of it: the target IDs by code, status and origin, in order."""

    prometheus: Prometheus
    targets: dict[Series, list[str]] = field(default_factory=dict)

    @property
    def errors(self) -> int:
        return sum(map(len, self.targets.values()))


def configured(target: str, folder: Path) -> str:
    """Return `prometheus.yml` for `target`, everything each second; its rules, which wait for nothing, are put beside.

    What is left as it is: names, expressions, labels, annotations, and that exemplars are kept.
    """
    rules = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text("utf-8"))
    for group in rules["groups"]:
        for rule in group["rules"]:
            if "alert" in rule:
                rule["for"] = "0s"
    (folder / "rules.yml").write_text(yaml.safe_dump(rules), "utf-8")
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text("utf-8"))
    config["global"] |= {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    (scrape,) = config["scrape_configs"]
    scrape["static_configs"] = [{"targets": [target]}]
    return yaml.safe_dump(config)


async def _send(url: str, observed: Observed, *calls: tuple[str, str, str, str]) -> None:
    async with aiohttp.ClientSession() as client:
        for method, path, body, simulate in calls:
            fields = {"X-Simulate": simulate, "Content-Type": "application/json"}
            async with client.request(method, url + path, data=body or None, headers=fields) as response:
                answer = await response.read()
            if response.status >= 400:
                told = response.headers
                assert json.loads(answer)["error"]["target"] == told["X-Target-Id"]
                series = told["X-Error-Code"], str(response.status), told["X-Error-Origin"]
                observed.targets.setdefault(series, []).append(told["X-Target-Id"])


async def until_known(observed: Observed) -> None:
    """Wait for Prometheus to have scraped every error."""

    async def known() -> float:
        return sum((await observed.prometheus.query("sum(defender_proxy_errors_total)")).values())

    async with asyncio.timeout(SCRAPED_WITHIN_S):
        while await known() < observed.errors:  # noqa: ASYNC110 - it is another process that is waited for
            await asyncio.sleep(0.1)


@asynccontextmanager
async def observing(
    start_reloading: Callable[..., Awaitable[Reloading]], folder: Path, *, rounds: int = 2
) -> AsyncIterator[Observed]:
    """Send everything `rounds` times, with faulty settings and an upstream that is not there in between."""
    reloading = await start_reloading(SETTINGS)
    url, admin = reloading.proxied.url, reloading.proxied.admin_url
    nowhere = f"http://127.0.0.1:{free_port()}"
    async with scraping(configured(admin.removeprefix("http://"), folder), folder) as prometheus:
        observed = Observed(prometheus)
        async with asyncio.timeout(SCRAPED_WITHIN_S):
            while not await prometheus.query("defender_proxy_ready"):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        for _ in range(rounds):
            await _send(url, observed, *CALLS)
            reloading.write(SETTINGS, "no_such_key: 1")
            await reloading.reload("reload_failed")
            reloading.write(SETTINGS, upstream_url=nowhere)
            await reloading.reload()
            await _send(url, observed, *(("GET", "/api/machines", "", ""),) * 4)
            reloading.write(SETTINGS)
            await reloading.reload()
            await until_known(observed)
        yield observed


async def exemplars(observed: Observed, expression: str, start_s: float, end_s: float) -> dict[Series, list[str]]:
    """Return the target IDs that the exemplars of `expression` hold, by code, status and origin."""
    found: list[dict[str, Any]] = await observed.prometheus.api(
        "query_exemplars", query=expression, start=str(start_s), end=str(end_s)
    )
    return {
        (each["seriesLabels"]["code"], each["seriesLabels"]["status"], each["seriesLabels"]["origin"]): [
            exemplar["labels"]["target_id"] for exemplar in each["exemplars"]
        ]
        for each in found
    }
