"""Certificates and keys as files, made into what TLS is spoken with; every problem with one is told under its key."""

from __future__ import annotations

import hashlib
import re
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from proxy.files import about_to_read

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_BYTES_AT_MOST: Final = 8 * 1024 * 1024
_ALPN: Final = ("http/1.1",)

# RFC 7468, 2 and 3: text may stand around the blocks, in whatever encoding.
_CERTIFICATES: Final = re.compile(rb"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----[^-]*-----END [A-Z0-9 ]+-----")
_KEY: Final = re.compile(rb"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----")
# RFC 5958, and RFC 1421, 4.6.1.1, which OpenSSL's own form goes by.
_ENCRYPTED_KEY: Final = re.compile(rb"-----BEGIN ENCRYPTED PRIVATE KEY-----|^Proc-Type: *4, *ENCRYPTED", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Tls:
    """What one side speaks TLS with; two are equal that were made from the same certificates and keys."""

    context: ssl.SSLContext = field(compare=False)
    mark: bytes


class TlsFilesError(Exception):
    """The files cannot be used; `remedies` says by the name of a file what it must be."""

    def __init__(self, remedies: Mapping[str, str]) -> None:
        super().__init__(", ".join(remedies))
        self.remedies = remedies


def server_tls(certificate: Path, key: Path) -> Tls:
    """Return what clients are met with: TLS 1.2 or later, for HTTP/1.1.

    Raises:
        TlsFilesError: of `certificate` and `key`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A client could have a handshake repeated as often as it likes, and each costs this side more.
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(_ALPN)
    return Tls(context, _load_pair(context, {"certificate": certificate, "key": key}))


def client_tls(
    ca_file: Path | None = None, client_certificate: Path | None = None, client_key: Path | None = None
) -> Tls:
    """Return what an upstream is met with: TLS 1.2 or later, verified against `ca_file` or the system's certificates.

    A client certificate and its key are shown to an upstream that asks for one.

    Raises:
        TlsFilesError: of `ca_file`, `client_certificate` and `client_key`.
    """
    remedies: dict[str, str] = {}
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(_ALPN)
    if ca_file is None:
        context.load_default_certs()
    else:
        try:
            context.load_verify_locations(cadata=_certificates(_read(ca_file)))
        except ValueError as error:
            remedies["ca_file"] = str(error)
    mark = hashlib.sha256(b"".join(context.get_ca_certs(binary_form=True))).digest()
    if client_certificate is not None and client_key is not None:
        try:
            mark += _load_pair(context, {"client_certificate": client_certificate, "client_key": client_key})
        except TlsFilesError as error:
            remedies |= error.remedies
    if remedies:
        raise TlsFilesError(remedies)
    return Tls(context, mark)


def _load_pair(context: ssl.SSLContext, paths: Mapping[str, Path]) -> bytes:
    """Give `context` the certificate and the key at `paths`, and return what sets them apart from others."""
    remedies: dict[str, str] = {}
    data: dict[str, bytes] = {}
    certificate, key = paths
    for name, check in ((certificate, _certificates), (key, _check_key)):
        try:
            data[name] = _read(paths[name])
            check(data[name])
        except ValueError as error:
            remedies[name] = str(error)
    if not remedies:
        remedies = dict(_loading_problems(context, paths))
    if remedies:
        raise TlsFilesError(remedies)
    return hashlib.sha256(data[certificate]).digest() + hashlib.sha256(data[key]).digest()


def _loading_problems(context: ssl.SSLContext, paths: Mapping[str, Path]) -> Iterator[tuple[str, str]]:
    certificate, key = paths
    try:
        # Without a password OpenSSL would ask for one at the terminal.
        context.load_cert_chain(paths[certificate], paths[key], password="")
    except ssl.SSLError as error:
        reason = (error.reason or "").upper()
        if reason in _NO_PAIR:
            yield key, "must be the private key of this certificate; it belongs to another one"
        elif reason in _WEAK:
            yield certificate, f"must be a certificate that is strong enough: {reason.lower().replace('_', ' ')}"
        else:
            yield key, f"must be a private key in PEM that can be read{_because(error)}"
    except OSError as error:
        yield certificate, f"must be a file that can be read: {error.strerror or type(error).__name__}"


# OpenSSL's err.h, X509err.h and sslerr.h.
_NO_PAIR: Final = {"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"}
_WEAK: Final = {"EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK"}


def _read(path: Path) -> bytes:
    about_to_read(path)
    try:
        with path.open("rb") as file:
            data = file.read(_BYTES_AT_MOST + 1)
    except FileNotFoundError:
        raise ValueError("must name a file that is there") from None
    except IsADirectoryError:
        raise ValueError("must name a file, not a folder") from None
    except OSError as error:
        raise ValueError(f"must name a file that can be read: {error.strerror or type(error).__name__}") from None
    if len(data) > _BYTES_AT_MOST:
        raise ValueError(f"must name a file of at most {_BYTES_AT_MOST} bytes")
    return data


def _certificates(data: bytes) -> str:
    """Return the certificates in `data`, without what stands around them.

    Raises:
        ValueError: with the remedy; there is none, or one cannot be read.
    """
    blocks = _CERTIFICATES.findall(data)
    if not blocks:
        raise ValueError("must be in PEM, and hold a certificate: a block that starts with BEGIN CERTIFICATE")
    text = b"\n".join(blocks).decode("ascii", "replace")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError) as error:
        raise ValueError(f"must hold certificates that can be read{_because(error)}") from None
    return text


def _check_key(data: bytes) -> None:
    if _ENCRYPTED_KEY.search(data):
        raise ValueError("must not be encrypted, as nobody is there to type a password; `openssl pkey` decrypts it")
    if not _KEY.search(data):
        raise ValueError("must be in PEM, and hold a private key: a block that starts with BEGIN PRIVATE KEY")


def _because(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    return f" ({str(reason).lower().replace('_', ' ')})" if reason else ""
