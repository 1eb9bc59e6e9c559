"""Reloads: between two requests, none of them lost, and never into something faulty."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trustme

from proxy.configuration import load_configuration
from proxy.simulator import Simulator
from tests.conftest import Wire, dialled
from tests.documented import heard

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from proxy.configuration import Configuration
    from tests.conftest import Proxied, Reloading

    Start = Callable[..., Awaitable[Reloading]]

MISSPELT = b'{"comment": "Beacon seen", "IsolationType": "Full"}'
ISOLATE = "/api/machines/1e5bc9d7e413/isolate"
DOCUMENT = "openapi: 3.1.0\npaths: {/brews: {post: {operationId: brewCoffee}}}\n"


async def isolate(reloading: Reloading) -> int:
    wire = await dialled(reloading.proxied.port)
    try:
        return (await wire.ask("POST", ISOLATE, b"Content-Type: application/json", body=MISSPELT)).status
    finally:
        await wire.close()


async def test_settings_are_taken_over(start_reloading: Start) -> None:
    reloading = await start_reloading()
    assert await isolate(reloading) == 400

    reloading.write("check: {mode: fix}", "downstream: {max_in_flight: 7}")
    event = await reloading.reload()

    assert await isolate(reloading) == 201
    assert (event["level"], event["trigger"], event["files"]) == ("info", "signal", [str(reloading.path)])
    assert event["changed"] == ["downstream.max_in_flight", "check.mode"]
    assert event["operations"] == reloading.proxied.sample("catalog_operations")
    assert "restart_needed" not in event
    assert reloading.proxied.sample("config_reloads_total", result="ok") == 1
    assert reloading.proxied.registry.get_sample_value("defender_proxy_config_reloads_total", {"result": "failed"}) == 0


async def test_the_catalog_is_taken_over(start_reloading: Start) -> None:
    reloading = await start_reloading()
    before = reloading.proxied.sample("catalog_operations")
    (reloading.path.parent / "brews.yaml").write_text(DOCUMENT, "utf-8")
    reloading.write("catalog: {files: [brews.yaml]}", "log: {requests: true}")

    event = await reloading.reload()

    assert event["changed"] == ["log.requests", "catalog.files"]
    assert event["operations"] == reloading.proxied.sample("catalog_operations") == before + 1
    wire = await dialled(reloading.proxied.port)
    await wire.ask("POST", "/brews")
    await wire.close()
    assert (await reloading.proxied.lines.event("upstream_error"))["operation"] == "brewCoffee"


async def test_what_is_faulty_is_told_and_not_taken_over(start_reloading: Start) -> None:
    reloading = await start_reloading("check: {mode: fix}")
    reloading.write("check: {mode: sometimes}", "listn: x", "tls: {certificate: missing.pem, key: missing.pem}")

    event = await reloading.reload("reload_failed")

    path = reloading.path
    assert event["level"] == "error"
    assert [problem.split(": must")[0] for problem in event["problems"]] == [
        f"{path}:2: check.mode = sometimes",
        f"{path}:3: listn = x",
        f"{path}:4: tls.certificate = missing.pem",
        f"{path}:4: tls.key = missing.pem",
    ]
    assert await isolate(reloading) == 201
    assert reloading.proxied.sample("config_reloads_total", result="failed") == 1

    reloading.write("check: {mode: reject}")
    assert (await reloading.reload())["changed"] == ["check.mode"]
    assert await isolate(reloading) == 400


async def test_a_defect_of_ours_is_told_by_its_place_and_ends_nothing(start_reloading: Start) -> None:
    faulty = False

    def load() -> Configuration:
        if faulty:
            raise KeyError("a secret")
        return load_configuration(None, {}, {"listen": "127.0.0.1:0", "admin": "127.0.0.1:0", "drain.delay_s": "0"})

    reloading = await start_reloading(load=load)
    faulty = True
    event = await reloading.reload("reload_failed")
    assert event["problems"][0].startswith("a defect of the proxy's own: KeyError at test_reload.py:")
    faulty = False
    assert (await reloading.reload())["changed"] == []


async def test_what_needs_a_restart_is_named_each_time_and_the_rest_is_taken_over(start_reloading: Start) -> None:
    listen, mode = "127.0.0.1:0", "reject"

    def load() -> Configuration:
        flags = {"listen": listen, "admin": "127.0.0.1:0", "drain.delay_s": "0", "check.mode": mode}
        return load_configuration(None, {}, flags | {"upstream.url": upstream_url})

    upstream_url = "http://127.0.0.1:9"
    reloading = await start_reloading(load=load)
    listen, mode = "127.0.0.1:1", "fix"
    event = await reloading.reload()
    assert (event["changed"], event["restart_needed"]) == (["check.mode"], ["listen"])

    upstream_url = reloading.upstream_url
    event = await reloading.reload()
    assert (event["changed"], event["restart_needed"]) == (["upstream.url"], ["listen"])
    assert await isolate(reloading) == 201

    listen = "127.0.0.1:0"
    assert "restart_needed" not in await reloading.reload()


async def test_the_level_and_the_form_of_the_log_follow(start_reloading: Start) -> None:
    reloading = await start_reloading("log: {level: error}")
    assert await isolate(reloading) == 400

    reloading.write("log: {level: info}")
    await reloading.reload()
    assert await isolate(reloading) == 400

    await reloading.proxied.lines.event("case_mismatch")
    assert [event["event"] for event in reloading.proxied.lines.events()] == ["reloaded", "case_mismatch"]
    reloading.write("log: {level: info, format: console}")
    reloading.wanted.set()
    await reloading.proxied.until(lambda: "changed=log.format" in reloading.proxied.lines.getvalue())


async def test_limits_of_a_connection_hold_to_its_end(start_reloading: Start) -> None:
    reloading = await start_reloading()
    former = await dialled(reloading.proxied.port)
    assert (await former.ask("GET", "/api/alerts")).status == 200
    reloading.write("limits: {target_bytes: 64}")
    await reloading.reload()

    long = "/api/alerts?" + "x" * 100
    later = await dialled(reloading.proxied.port)
    assert (await later.ask("GET", long)).status == 414
    assert (await former.ask("GET", long)).status == 200
    assert (await former.ask("GET", "/" + "x" * 20000)).status == 414
    await former.close()
    await later.close()


async def test_no_request_is_lost_under_load(start_reloading: Start) -> None:
    """Clients that keep their connections, and clients that come anew, across reloads good and faulty."""
    reloading = await start_reloading()
    proxied: Proxied = reloading.proxied
    is_over = False
    statuses: list[int] = []

    async def client(number: int) -> None:
        wire = await dialled(proxied.port)
        while not is_over:
            if number % 2:
                await wire.close()
                wire = await dialled(proxied.port)
            statuses.append((await wire.ask("GET", "/api/alerts")).status)
        await wire.close()

    async with Simulator.listening() as other:
        clients = [asyncio.create_task(client(number)) for number in range(20)]
        for turn in range(12):
            enough = len(statuses) + 40
            is_faulty = turn % 3 == 2
            reloading.write(
                f"check: {{mode: {'never' if is_faulty else ('fix', 'reject')[turn % 2]}}}",
                upstream_url=other.url if turn % 2 else "",
            )
            await reloading.reload("reload_failed" if is_faulty else "reloaded")
            async with asyncio.timeout(10):
                while len(statuses) < enough:  # noqa: ASYNC110 - the clients count
                    await asyncio.sleep(0.005)
        is_over = True
        await asyncio.gather(*clients)
        assert other.received
    assert {*statuses} == {200}
    assert len(statuses) >= 480
    assert proxied.sample("config_reloads_total", result="ok") == 8
    assert proxied.sample("config_reloads_total", result="failed") == 4


async def test_requests_to_reload_that_coincide_end_with_what_was_written_last(start_reloading: Start) -> None:
    reloading = await start_reloading()
    for mode in ("fix", "observe", "reject", "fix"):
        reloading.write(f"check: {{mode: {mode}}}")
        reloading.wanted.set()
        await asyncio.sleep(0.01)

    async def is_fixed() -> bool:
        return await isolate(reloading) == 201

    async with asyncio.timeout(10):
        while not await is_fixed():  # noqa: ASYNC110 - it is the proxy that is waited for
            await asyncio.sleep(0.01)
    await reloading.reload()
    assert await is_fixed()


# Files.


async def test_a_changed_file_is_taken_over(start_reloading: Start) -> None:
    reloading = await start_reloading(interval_s=0.05)
    document = reloading.path.parent / "brews.yaml"
    document.write_text(DOCUMENT, "utf-8")
    reloading.write("catalog: {files: [brews.yaml]}")
    event = await reloading.proxied.lines.event("reloaded")
    assert (event["trigger"], event["files"]) == ("file", [str(reloading.path)])
    before = event["operations"]

    document.write_text(DOCUMENT.replace("}}\n", "}, /teas: {post: {operationId: brewTea}}}\n"), "utf-8")
    event = await reloading.proxied.lines.event("reloaded", 2)
    assert (event["files"], event["changed"], event["operations"]) == ([str(document)], [], before + 1)

    document.unlink()
    event = await reloading.proxied.lines.event("reload_failed")
    assert event["problems"][0].startswith(f"{reloading.path}:2: catalog.files[0] = brews.yaml: must name")

    document.write_text(DOCUMENT, "utf-8")
    event = await reloading.proxied.lines.event("reloaded", 3)
    assert event["operations"] == before


async def test_a_faulty_file_is_told_once(start_reloading: Start) -> None:
    reloading = await start_reloading(interval_s=0.02)
    reloading.write("check: {mode: never}")
    await reloading.proxied.lines.event("reload_failed")
    await asyncio.sleep(0.5)
    assert reloading.proxied.sample("config_reloads_total", result="failed") == 1


# TLS.


def certificate_of(wire: Wire) -> bytes:
    found: bytes | None = wire.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    assert found
    return found


async def test_a_renewed_certificate_meets_the_next_client(start_reloading: Start, tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.create_default_context()
    authority.configure_trust(context)

    def issue() -> bytes:
        issued = authority.issue_cert("127.0.0.1")
        issued.cert_chain_pems[0].write_to_path(tmp_path / "tls.pem")
        issued.private_key_pem.write_to_path(tmp_path / "tls.key")
        return ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())

    @asynccontextmanager
    async def client() -> AsyncIterator[Wire]:
        wire = Wire(*await asyncio.open_connection("127.0.0.1", reloading.proxied.port, ssl=context))
        yield wire
        await wire.close()

    first = issue()
    secured = "tls: {certificate: tls.pem, key: tls.key}"
    reloading = await start_reloading(secured)
    async with client() as former:
        assert certificate_of(former) == first
        second = issue()
        event = await reloading.reload()
        assert event["files"] == [str(tmp_path / "tls.pem"), str(tmp_path / "tls.key")]
        async with client() as later:
            assert certificate_of(later) == second
            assert (await later.ask("GET", "/api/alerts")).status == 200
        assert (await former.ask("GET", "/api/alerts")).status == 200

        # From TLS to plain and back, on the same port.
        reloading.write()
        assert (await reloading.reload())["changed"] == ["tls.certificate", "tls.key"]
        assert await isolate(reloading) == 400
        reloading.write(secured)
        await reloading.reload()
        async with client() as last:
            assert (await last.ask("GET", "/api/alerts")).status == 200
        assert (await former.ask("GET", "/api/alerts")).status == 200


# The process.


async def test_sighup_reloads_a_real_process(simulator: Simulator, tmp_path: Path) -> None:
    path = tmp_path / "proxy.yaml"
    path.write_text("reload: {interval_s: 0}\ndrain: {delay_s: 0}\n", "utf-8")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxy", "run", "--config", str(path), "--listen", "127.0.0.1:0",
        "--admin", "127.0.0.1:0", "--upstream", simulator.url,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=dict(os.environ),
    )  # fmt: skip
    assert process.stdout
    assert process.stderr

    async def event(name: str) -> dict[str, Any]:
        assert process.stdout
        async with asyncio.timeout(15):
            while True:
                found: dict[str, Any] = heard(await process.stdout.readline())
                if found["event"] == name:
                    return found

    try:
        serving_event = await event("serving")
        path.write_text("check: {mode: fix}\nlisten: 127.0.0.1:1\nupstream: {url: nowhere}\n", "utf-8")
        process.send_signal(signal.SIGHUP)
        reloaded = await event("reloaded")
        # The flags go before the file, as at start.
        assert reloaded["changed"] == ["check.mode", "reload.interval_s", "drain.delay_s"]
        wire = await dialled(int(serving_event["listen"].rpartition(":")[2]))
        assert (await wire.ask("POST", ISOLATE, body=MISSPELT)).status == 201
        path.write_text("check: {mode: never}\n", "utf-8")
        process.send_signal(signal.SIGHUP)
        assert "check.mode = never" in (await event("reload_failed"))["problems"][0]
        assert (await wire.ask("POST", ISOLATE, body=MISSPELT)).status == 201
        await wire.close()
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(15):
            assert await process.wait() == 0
        assert await process.stderr.read() == b""
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
