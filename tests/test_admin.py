"""The admin listener: what scrapers and probes are told, and that clients' traffic stays elsewhere."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client import parser as text_parser
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.registry import Collector

from proxy.admin import LIMITS, Phase, Readiness, admin_application, administering, exposed
from proxy.listener import ConnectionLimits
from tests.conftest import Wire, dialled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from prometheus_client import Metric

    from proxy.simulator import Simulator
    from tests.conftest import Proxied

# What Prometheus 2 and 3 send.
PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;"
    "q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def erring(proxied: Proxied, client: aiohttp.ClientSession) -> str:
    """Send one call that fails, and return its target ID."""
    async with client.get(f"{proxied.url}/api/machines", headers={"X-Simulate": "Forbidden"}) as response:
        await response.read()
        return response.headers["X-Target-Id"]


def value(families: Iterable[Metric], name: str, **labels: str) -> float:
    (found,) = (
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == f"defender_proxy_{name}" and sample.labels.items() >= labels.items()
    )
    return found


# Metrics.


@pytest.mark.parametrize("accept", [None, "*/*", "text/plain", "text/plain;version=0.0.4", "text/html", "", ";;,,=;"])
async def test_metrics_are_in_prometheus_text_by_default(
    proxied: Proxied, client: aiohttp.ClientSession, erring: str, accept: str | None
) -> None:
    fields = {} if accept is None else {"Accept": accept}
    async with client.get(f"{proxied.admin_url}/metrics", headers=fields) as response:
        text = await response.text()

    assert response.status == 200
    assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    families = list(text_parser.text_string_to_metric_families(text))
    assert value(families, "errors_total", code="Forbidden", status="403", origin="upstream") == 1
    assert value(families, "errors_total", code="NotFound", origin="upstream") == 0
    assert value(families, "requests_total", status="403") == 1
    assert value(families, "ready") == 1
    assert erring not in text


@pytest.mark.parametrize(
    "accept",
    [
        pytest.param(PROMETHEUS_2, id="Prometheus 2"),
        pytest.param(PROMETHEUS_3, id="Prometheus 3"),
        pytest.param("application/openmetrics-text", id="by hand"),
    ],
)
async def test_metrics_are_in_openmetrics_for_whom_asks(
    proxied: Proxied, client: aiohttp.ClientSession, erring: str, accept: str
) -> None:
    async with client.get(f"{proxied.admin_url}/metrics", headers={"Accept": accept}) as response:
        text = await response.text()

    assert response.status == 200
    assert response.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0; charset=utf-8")
    assert text.endswith("# EOF\n")
    families = list(openmetrics_parser.text_string_to_metric_families(text))  # type: ignore[no-untyped-call]
    assert value(families, "errors_total", code="Forbidden", status="403", origin="upstream") == 1
    (exemplar,) = (s.exemplar for family in families for s in family.samples if s.exemplar)
    assert exemplar.labels == {"target_id": erring}
    assert exemplar.value == 1


def crowded() -> CollectorRegistry:
    """Return a registry with some thousand series, with what each kind of metric has, and one that has none."""
    registry = CollectorRegistry()
    errors = Counter("errors", 'With a "quote", a \\ and\na line.', ("code",), registry=registry)
    times = Histogram("times_seconds", "Times.", ("operation",), unit="seconds", registry=registry)
    Gauge("depth", "How deep.", registry=registry).set(1)
    Counter("never", "Nothing yet.", ("kind",), registry=registry)
    for number in range(200):
        errors.labels(f'"{number}"').inc(exemplar={"target_id": str(number)})
        times.labels(f"operation{number}").observe(number)
    return registry


ENCODERS = [pytest.param(choose_encoder(accept)[0], id=name) for name, accept in (("text", ""), ("om", PROMETHEUS_2))]


@pytest.mark.parametrize("encode", ENCODERS)
async def test_metrics_are_the_same_in_slices(encode: Callable[[Collector], bytes]) -> None:
    registry = crowded()
    assert await exposed(registry, encode) == encode(registry)
    assert await exposed(CollectorRegistry(), encode) == encode(CollectorRegistry())


@pytest.mark.parametrize("encode", ENCODERS)
async def test_others_have_their_turn_during_a_scrape(encode: Callable[[Collector], bytes]) -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    text = await exposed(crowded(), encode)
    task.cancel()
    assert text.count(b"\n") > 3000
    assert turns >= 30


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text;version=latest",
        "application/openmetrics-text;version=1.x",
        "text/plain;version=one",
        "application/openmetrics-text;version=1.0.0;escaping",
        "application/openmetrics-text;version==",
    ],
)
async def test_an_accept_field_that_nobody_understands_gets_metrics_too(
    proxied: Proxied, client: aiohttp.ClientSession, accept: str
) -> None:
    async with client.get(f"{proxied.admin_url}/metrics", headers={"Accept": accept}) as response:
        text = await response.text()

    assert response.status == 200
    assert "defender_proxy_ready 1.0" in text


async def test_asking_for_metrics_is_no_traffic(proxied: Proxied, client: aiohttp.ClientSession) -> None:
    for _ in range(3):
        async with client.get(f"{proxied.admin_url}/metrics") as response:
            text = await response.text()

    assert "defender_proxy_requests_total{" not in text
    await proxied.lines.event("serving")
    assert [event["event"] for event in proxied.lines.events()] == ["serving"]


# Probes.


async def test_the_probes_of_a_proxy_that_serves(proxied: Proxied, client: aiohttp.ClientSession) -> None:
    for path, text in (("/healthz", "ok\n"), ("/readyz", "serving\n")):
        async with client.get(f"{proxied.admin_url}{path}") as response:
            assert (response.status, await response.text()) == (200, text)
            assert response.content_type == "text/plain"


@pytest.mark.parametrize(("phase", "status"), [(Phase.STARTING, 503), (Phase.SERVING, 200), (Phase.DRAINING, 503)])
async def test_ready_is_who_serves_and_alive_is_who_answers(
    client: aiohttp.ClientSession, phase: Phase, status: int
) -> None:
    registry = CollectorRegistry()
    readiness = Readiness(Gauge("ready", "Whether it is.", registry=registry))
    readiness.phase = phase

    async with administering(admin_application(registry, readiness), "127.0.0.1", 0) as (host, port):
        async with client.get(f"http://{host}:{port}/readyz") as response:
            assert (response.status, await response.text()) == (status, f"{phase.value}\n")
        async with client.get(f"http://{host}:{port}/healthz") as response:
            assert response.status == 200

    assert registry.get_sample_value("ready") == (phase is Phase.SERVING)


async def test_nobody_is_ready_from_the_start() -> None:
    registry = CollectorRegistry()

    readiness = Readiness(Gauge("ready", "Whether it is.", registry=registry))

    assert readiness.phase is Phase.STARTING
    assert registry.get_sample_value("ready") == 0


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz"])
async def test_head_is_answered_as_get_without_the_body(
    proxied: Proxied, client: aiohttp.ClientSession, path: str
) -> None:
    async with client.get(f"{proxied.admin_url}{path}") as response:
        whole = await response.read()
        expected = response.status, response.headers["Content-Type"]

    async with client.head(f"{proxied.admin_url}{path}") as response:
        assert (response.status, response.headers["Content-Type"]) == expected
        assert await response.read() == b""

    assert whole


@pytest.mark.parametrize("path", ["/nothing", "/metrics/", "/METRICS", "/metrics/x", "/healthz%2f", "//metrics"])
async def test_there_is_nothing_else(proxied: Proxied, client: aiohttp.ClientSession, path: str) -> None:
    async with client.get(f"{proxied.admin_url}{path}") as response:
        assert response.status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_nothing_can_be_changed(proxied: Proxied, client: aiohttp.ClientSession, method: str) -> None:
    async with client.request(method, f"{proxied.admin_url}/metrics") as response:
        assert response.status == 405
        assert response.headers["Allow"] == "GET,HEAD"


# Two ports, two things.


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz", "/"])
async def test_the_clients_port_forwards_what_the_admin_port_answers(
    proxied: Proxied, client: aiohttp.ClientSession, simulator: Simulator, path: str
) -> None:
    async with client.get(f"{proxied.url}{path}") as response:
        text = await response.text()

    assert response.status == 404
    assert response.headers["X-Error-Origin"] == "upstream"
    assert [received.target for received in simulator.received] == [path]
    assert "defender_proxy" not in text


@pytest.mark.parametrize("path", ["/api/machines", "/api/v1.0/machines", "/_simulate/echo/x"])
async def test_the_admin_port_forwards_nothing(
    proxied: Proxied, client: aiohttp.ClientSession, simulator: Simulator, path: str
) -> None:
    async with client.get(f"{proxied.admin_url}{path}") as response:
        assert response.status == 404

    assert not simulator.received


async def test_an_address_that_is_taken_is_an_error(proxied: Proxied) -> None:
    registry = CollectorRegistry()
    application = admin_application(registry, Readiness(Gauge("ready", "Whether it is.", registry=registry)))

    with pytest.raises(OSError, match="address already in use"):
        async with administering(application, "127.0.0.1", int(proxied.admin_url.rpartition(":")[2])):
            pass


async def test_a_malformed_request_is_not_quoted(proxied: Proxied) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(proxied.admin_url.rpartition(":")[2]))
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer S3CR3T\x00\r\n\r\n")
    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()
    assert b" 400 " in answer.partition(b"\r\n")[0]
    assert b"S3CR3T" not in answer


async def test_what_goes_wrong_on_the_admin_port_is_logged_but_not_told(
    proxied: Proxied, client: aiohttp.ClientSession
) -> None:
    class Faulty(Collector):
        def collect(self) -> Iterable[Metric]:
            raise RuntimeError("S3CR3T")

        def describe(self) -> Iterable[Metric]:
            return ()

    proxied.registry.register(Faulty())
    async with client.get(f"{proxied.admin_url}/metrics") as response:
        assert (response.status, await response.text()) == (500, "Internal Server Error\n")

    event = await proxied.lines.event("library_message")
    assert (event["level"], event["exception_type"]) == ("error", "RuntimeError")
    assert "S3CR3T" not in proxied.lines.getvalue()


# What a scraper may take up.


@pytest.fixture
async def narrow() -> AsyncIterator[int]:
    """Run an admin listener with narrow limits, and return its port."""
    registry = CollectorRegistry()
    for number in range(2000):
        Gauge(f"gauge_{number}", "A long line. " * 40, registry=registry)
    readiness = Readiness(Gauge("ready", "Whether it is.", registry=registry))
    limits = ConnectionLimits(header_timeout_s=0.3, head_bytes=2000, max_connections=3)
    application = admin_application(registry, readiness)
    async with administering(application, "127.0.0.1", 0, limits=limits, write_timeout_s=0.3) as (_, port):
        yield port


GET_HEALTH = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        pytest.param(b"", None, id="silence"),
        pytest.param(b"GET /metrics HTTP/1.1\r\nHos", 408, id="half-a-head"),
        pytest.param(b"GET /metrics HTTP/1.1\r\n" + b"X: " + b"y" * 3000, 431, id="a-large-head"),
    ],
)
async def test_a_head_is_late_or_large_here_too(narrow: int, sent: bytes, status: int | None) -> None:
    wire = await dialled(narrow)
    await wire.send(sent)
    if status is not None:
        response = await wire.message()
        assert (response.status, response["Connection"], response.is_whole) == (status, "close", True)
    assert await wire.rest() == b""
    await wire.close()


async def test_a_late_head_behind_a_request(narrow: int) -> None:
    wire = await dialled(narrow)
    await wire.send(GET_HEALTH + b"GET")
    assert [(await wire.message()).status for _ in range(2)] == [200, 408]
    assert await wire.rest() == b""
    await wire.close()


async def test_connections_are_counted(narrow: int) -> None:
    wires = [await dialled(narrow) for _ in range(3)]
    for wire in wires:
        assert (await wire.ask("GET", "/healthz")).status == 200
    surplus = await dialled(narrow)
    assert (await surplus.message()).status == 503
    assert await surplus.rest() == b""
    for wire in (*wires, surplus):
        await wire.close()


async def test_a_flood_of_requests_is_answered_one_by_one(narrow: int) -> None:
    wire = await dialled(narrow)
    await wire.send(GET_HEALTH * 500)
    for _ in range(500):
        assert (await wire.message()).body == b"ok\n"
    await wire.close()


async def test_a_large_body_is_not_kept(narrow: int) -> None:
    wire = await dialled(narrow)
    await wire.send(b"GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n")
    assert (await wire.message()).status == 200
    for _ in range(20):
        await wire.send(bytes(1_000_000))
    await wire.close()
    again = await dialled(narrow)
    assert (await again.ask("GET", "/healthz")).status == 200
    await again.close()


async def test_a_scraper_that_does_not_read_is_not_waited_for(narrow: int) -> None:
    """It asks for more than the kernel holds on its behalf."""
    plug = socket.socket()
    plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plug.settimeout(0)
    await asyncio.get_running_loop().sock_connect(plug, ("127.0.0.1", narrow))
    deaf = Wire(*await asyncio.open_connection(sock=plug))
    deaf.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await deaf.send(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n" * 50)
    others = [await dialled(narrow) for _ in range(2)]
    for wire in others:
        assert (await wire.ask("GET", "/healthz")).status == 200
    # The place that it took is free again, whatever it has not read.
    async with asyncio.timeout(5):
        while True:
            another = await dialled(narrow)
            others.append(another)
            with suppress(EOFError, ConnectionError):
                if (await another.ask("GET", "/healthz")).status == 200:
                    break
            await asyncio.sleep(0.05)
    for wire in (*others, deaf):
        await wire.close()


def test_the_limits_leave_room_for_who_scrapes() -> None:
    assert LIMITS.max_connections >= 16
    assert LIMITS.header_timeout_s <= 10
