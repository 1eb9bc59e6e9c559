"""Certificates and keys: what can be used, what cannot and why, and TLS on both sides of the proxy."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from proxy.configuration import load_configuration
from proxy.server import serving
from proxy.settings import SettingsError
from proxy.simulator import Simulator
from proxy.tls import client_tls, server_tls
from tests.conftest import QUICK, Lines, Proxied, Wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

pytestmark = pytest.mark.every_loop

AUTHORITY = trustme.CA()
ISSUED = AUTHORITY.issue_cert("localhost", "127.0.0.1")
OTHER = AUTHORITY.issue_cert("localhost", "127.0.0.1")


@pytest.fixture
def pem(tmp_path: Path) -> Callable[..., str]:
    """Write files with `pem("ca.pem", AUTHORITY.cert_pem)`, which returns the path."""

    def write(name: str, *parts: trustme.Blob | bytes) -> str:
        path = tmp_path / name
        path.write_bytes(b"\n".join(part if isinstance(part, bytes) else part.bytes() for part in parts))
        return str(path)

    return write


def encrypted(form: serialization.PrivateFormat) -> bytes:
    key = serialization.load_pem_private_key(ISSUED.private_key_pem.bytes(), None)
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.BestAvailableEncryption(b"a password"))


def rsa_key() -> bytes:
    return rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


CERTIFICATE = ISSUED.cert_chain_pems[0].bytes()
KEY = ISSUED.private_key_pem.bytes()
NO_CERTIFICATE = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
NO_KEY = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"


@pytest.mark.parametrize(
    ("certificate", "key", "told"),
    [
        pytest.param(b"junk", KEY, {"certificate": "must be in PEM, and hold a certificate"}, id="no-certificate"),
        pytest.param(NO_CERTIFICATE, KEY, {"certificate": "must hold certificates that can be read"}, id="cut-off"),
        pytest.param(CERTIFICATE, b"", {"key": "must be in PEM, and hold a private key"}, id="empty-key"),
        pytest.param(CERTIFICATE, NO_KEY, {"key": "must be a private key in PEM that can be read"}, id="key-cut-off"),
        pytest.param(
            CERTIFICATE, OTHER.private_key_pem.bytes(), {"key": "must be the private key of this"}, id="key-of-another"
        ),
        pytest.param(CERTIFICATE, rsa_key(), {"key": "must be the private key of this"}, id="key-of-another-type"),
        pytest.param(
            CERTIFICATE, encrypted(serialization.PrivateFormat.PKCS8), {"key": "must not be encrypted"}, id="encrypted"
        ),
        pytest.param(
            CERTIFICATE,
            encrypted(serialization.PrivateFormat.TraditionalOpenSSL),
            {"key": "must not be encrypted"},
            id="encrypted-of-old",
        ),
        pytest.param(
            KEY, CERTIFICATE, {"certificate": "must be in PEM", "key": "must be in PEM"}, id="one-for-the-other"
        ),
        pytest.param(
            None, None, {"certificate": "must name a file that is there", "key": "must name a file that is there"},
            id="missing",
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("section", ["tls", "upstream"])
def test_files_that_cannot_be_used_are_told_under_their_keys(
    tmp_path: Path, section: str, certificate: bytes | None, key: bytes | None, told: dict[str, str]
) -> None:
    prefix = "client_" if section == "upstream" else ""
    flags = {}
    for name, content in (("certificate", certificate), ("key", key)):
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        flags[f"{section}.{prefix}{name}"] = str(path)

    with pytest.raises(SettingsError) as caught:
        load_configuration(None, {}, flags)

    problems = {problem.key: problem.message for problem in caught.value.problems}
    assert {*problems} == {f"{section}.{prefix}{name}" for name in told}
    for name, remedy in told.items():
        assert problems[f"{section}.{prefix}{name}"].startswith(remedy)


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ("tls.certificate", "tls.key"),
        ("tls.key", "tls.certificate"),
        ("upstream.client_certificate", "upstream.client_key"),
        ("upstream.client_key", "upstream.client_certificate"),
    ],
)
def test_one_of_a_pair_is_told_to_need_the_other(given: str, missing: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_configuration(None, {}, {given: "a.pem"})

    (problem,) = caught.value.problems
    assert (problem.key, problem.value) == (given, "a.pem")
    assert problem.message.startswith(f"must have {missing} beside it")


def test_paths_start_at_the_folder_of_the_settings_file(tmp_path: Path, pem: Callable[..., str]) -> None:
    pem("tls.pem", KEY, *ISSUED.cert_chain_pems)
    pem("ca.pem", "Autorité\n".encode(), AUTHORITY.cert_pem)
    path = tmp_path / "proxy.yaml"
    path.write_text("tls: {certificate: tls.pem, key: tls.pem}\nupstream: {ca_file: ca.pem, client_key: null}\n")

    configuration = load_configuration(path, {}, {})

    assert configuration.settings.tls.certificate == tmp_path / "tls.pem"
    assert configuration.listener_tls is not None
    assert configuration.upstream_tls is not None
    assert [*configuration.upstream_tls.context.get_ca_certs(binary_form=True)] == [
        ssl.PEM_cert_to_DER_cert(AUTHORITY.cert_pem.bytes().decode())
    ]


def test_two_are_equal_if_their_files_say_the_same(tmp_path: Path, pem: Callable[..., str]) -> None:
    one = server_tls(tmp_path / pem("a", CERTIFICATE), tmp_path / pem("a.key", KEY))
    same = server_tls(tmp_path / pem("b", CERTIFICATE), tmp_path / pem("b.key", KEY))
    other = server_tls(tmp_path / pem("c", OTHER.cert_chain_pems[0]), tmp_path / pem("c.key", OTHER.private_key_pem))
    assert one == same
    assert one != other
    ca_file = tmp_path / pem("ca", AUTHORITY.cert_pem)
    assert client_tls(ca_file) == client_tls(ca_file)
    assert client_tls(ca_file) != client_tls(tmp_path / pem("ca2", trustme.CA().cert_pem))


@asynccontextmanager
async def proxied_by(flags: dict[str, str]) -> AsyncIterator[Proxied]:
    lines = Lines()
    async with serving(load_configuration(None, {}, QUICK | flags), lines) as running:
        yield Proxied(running.url, running.admin_url, running.registry, lines)


def trusting(version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    if version is not None:
        context.maximum_version = version
    return context


async def dialled(proxied: Proxied, context: ssl.SSLContext | None) -> Wire:
    return Wire(*await asyncio.open_connection("127.0.0.1", proxied.port, ssl=context))


# Clients.


@pytest.fixture
async def secured(simulator: Simulator, pem: Callable[..., str]) -> AsyncIterator[Proxied]:
    flags = {
        "upstream.url": simulator.url,
        "tls.certificate": pem("tls.pem", *ISSUED.cert_chain_pems),
        "tls.key": pem("tls.key", ISSUED.private_key_pem),
        "downstream.header_timeout_s": "0.5",
    }
    async with proxied_by(flags) as proxied:
        yield proxied


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_client_over_tls(secured: Proxied, version: ssl.TLSVersion) -> None:
    context = trusting(version)
    context.set_alpn_protocols(["h2", "http/1.1"])
    wire = await dialled(secured, context)

    assert (await wire.ask("GET", "/api/alerts")).status == 200
    assert (await wire.ask("POST", "/api/machines/1/isolate", body=b'{"comment": "a"}')).status == 400
    assert wire.writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
    assert secured.url.startswith("https://")
    assert secured.lines.events()[0]["listen"] == secured.url
    await wire.close()


async def test_a_client_below_tls_1_2_is_refused(secured: Proxied) -> None:
    context = trusting()
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = ssl.TLSVersion.TLSv1_1
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await dialled(secured, context)


async def test_a_client_in_plain_is_ended_without_a_word(secured: Proxied) -> None:
    wire = await dialled(secured, None)
    await wire.send(b"GET /api/alerts HTTP/1.1\r\nHost: a\r\n\r\n")
    assert b"HTTP/" not in await wire.rest()
    await wire.close()

    wire = await dialled(secured, trusting())
    assert (await wire.ask("GET", "/api/alerts")).status == 200
    await wire.close()
    assert [event["event"] for event in secured.lines.events()] == ["serving"]


async def test_a_handshake_that_does_not_come_is_ended(secured: Proxied) -> None:
    wire = await dialled(secured, None)
    assert await wire.rest() == b""
    await wire.close()
    assert [event["event"] for event in secured.lines.events()] == ["serving"]


async def test_an_idle_client_that_does_not_look_does_not_hold_the_drain(
    simulator: Simulator, pem: Callable[..., str]
) -> None:
    flags = {
        "upstream.url": simulator.url,
        "tls.certificate": pem("tls.pem", *ISSUED.cert_chain_pems),
        "tls.key": pem("tls.key", ISSUED.private_key_pem),
        "drain.timeout_s": "60",
    }
    async with AsyncExitStack() as stack:
        proxied = await stack.enter_async_context(proxied_by(flags))
        wire = await dialled(proxied, trusting())
        assert (await wire.ask("GET", "/api/alerts")).status == 200
        # As with a client that pools connections: what comes meanwhile is not read.
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        async with asyncio.timeout(20):
            await stack.aclose()
    wire.writer.transport.abort()


# The upstream.


@asynccontextmanager
async def upstream(*, asks_for_certificate: bool = False) -> AsyncIterator[Simulator]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ISSUED.configure_cert(context)
    if asks_for_certificate:
        AUTHORITY.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    async with Simulator.listening(tls=context) as simulator:
        yield simulator


async def test_an_upstream_of_a_private_authority(pem: Callable[..., str]) -> None:
    async with (
        upstream() as simulator,
        proxied_by({"upstream.url": simulator.url, "upstream.ca_file": pem("ca.pem", AUTHORITY.cert_pem)}) as proxied,
    ):
        wire = await dialled(proxied, None)
        assert (await wire.ask("GET", "/api/alerts")).status == 200
        await wire.close()


@pytest.mark.parametrize("authority", [trustme.CA(), None], ids=["another", "the-systems"])
async def test_an_upstream_of_another_authority(pem: Callable[..., str], authority: trustme.CA | None) -> None:
    trusted = {} if authority is None else {"upstream.ca_file": pem("ca.pem", authority.cert_pem)}
    async with upstream() as simulator, proxied_by({"upstream.url": simulator.url} | trusted) as proxied:
        wire = await dialled(proxied, None)
        assert (await wire.ask("GET", "/api/alerts")).status == 502
        assert (await proxied.lines.event("proxy_error"))["failure"] == "tls_certificate_error"
        assert not simulator.received
        await wire.close()


async def test_an_upstream_that_asks_for_a_certificate(pem: Callable[..., str]) -> None:
    flags = {
        "upstream.ca_file": pem("ca.pem", AUTHORITY.cert_pem),
        "upstream.client_certificate": pem("client.pem", *OTHER.cert_chain_pems),
        "upstream.client_key": pem("client.key", OTHER.private_key_pem),
    }
    async with (
        upstream(asks_for_certificate=True) as simulator,
        proxied_by({"upstream.url": simulator.url} | flags) as proxied,
    ):
        wire = await dialled(proxied, None)
        assert (await wire.ask("GET", "/api/alerts")).status == 200
        await wire.close()


async def test_an_upstream_that_misses_a_certificate_says_so_behind_the_handshake(pem: Callable[..., str]) -> None:
    """With TLS 1.3 the client's side of it is over by then; not so with asyncio's server, which sends no alert."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ISSUED.configure_cert(context)
    AUTHORITY.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED

    def refuse(listener: socket.socket) -> None:
        plug, _ = listener.accept()
        secured = context.wrap_socket(plug, server_side=True, do_handshake_on_connect=False)
        with pytest.raises(ssl.SSLError):
            secured.do_handshake()
        # With something unread the end would be a reset, which may overtake the alert.
        with socket.socket(fileno=secured.detach()) as bare:
            bare.shutdown(socket.SHUT_WR)
            while bare.recv(65536):
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        refusing = asyncio.create_task(asyncio.to_thread(refuse, listener))
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        async with proxied_by({"upstream.url": url, "upstream.ca_file": pem("ca.pem", AUTHORITY.cert_pem)}) as proxied:
            wire = await dialled(proxied, None)
            assert (await wire.ask("GET", "/api/alerts")).status == 502
            await wire.close()
            await refusing
            assert (await proxied.lines.event("proxy_error"))["failure"] == "tls_protocol_error"
