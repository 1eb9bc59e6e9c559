from __future__ import annotations

import contextlib
import gzip
import zlib

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.coding import DecodedTooLargeError, UndecodableError, UnknownCodingError, decoded

TEXT = b'{"error": {"code": "NotFound", "message": "", "target": ""}}' * 3


def raw_deflate(body: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(body) + compressor.flush()


@pytest.mark.parametrize(
    ("body", "codings"),
    [
        pytest.param(gzip.compress(TEXT), "gzip", id="gzip"),
        pytest.param(gzip.compress(TEXT), "x-gzip", id="older-name-of-gzip"),
        pytest.param(zlib.compress(TEXT), "deflate", id="deflate"),
        pytest.param(zlib.compress(TEXT, 0), "deflate", id="deflate-stored"),
        pytest.param(zlib.compress(TEXT, 9), "deflate", id="deflate-at-its-best"),
        pytest.param(raw_deflate(TEXT), "deflate", id="deflate-without-its-wrapping"),
        pytest.param(brotli.compress(TEXT), "br", id="brotli"),
        pytest.param(gzip.compress(brotli.compress(TEXT)), "br, gzip", id="brotli-below-gzip"),
        pytest.param(TEXT, "identity", id="identity"),
        pytest.param(TEXT, "", id="no-coding"),
        pytest.param(gzip.compress(TEXT), "GZip", id="letter-case"),
        pytest.param(gzip.compress(TEXT), " gzip\t", id="white-space"),
        pytest.param(gzip.compress(TEXT), ", gzip,,", id="empty-elements"),
        pytest.param(gzip.compress(zlib.compress(TEXT)), "deflate, gzip", id="last-applied-is-undone-first"),
        pytest.param(gzip.compress(gzip.compress(TEXT)), "gzip,gzip", id="twice-the-same"),
        pytest.param(gzip.compress(TEXT[:50]) + gzip.compress(TEXT[50:]), "gzip", id="two-gzip-members"),
        pytest.param(gzip.compress(TEXT) + gzip.compress(b""), "gzip", id="empty-gzip-member-behind"),
    ],
)
def test_content_comes_back(body: bytes, codings: str) -> None:
    assert decoded(body, codings, limit_bytes=1000) == TEXT


@pytest.mark.parametrize(
    ("body", "codings"),
    [
        pytest.param(TEXT, "br", id="brotli-that-is-none"),
        pytest.param(b"", "br", id="empty-brotli"),
        pytest.param(brotli.compress(TEXT)[:-1], "br", id="last-byte-of-brotli-missing"),
        pytest.param(brotli.compress(TEXT) + b"more", "br", id="something-behind-brotli"),
        pytest.param(TEXT, "zstd", id="zstandard"),
        pytest.param(TEXT, "compress", id="lzw"),
        pytest.param(TEXT, "gzip;q=1", id="parameter"),
        pytest.param(TEXT, "gz\u00efp", id="beyond-ascii"),
        pytest.param(gzip.compress(TEXT), "zstd, gzip", id="unknown-below-a-known-one"),
        pytest.param(TEXT, "gzip", id="gzip-that-is-none"),
        pytest.param(TEXT, "deflate", id="deflate-that-is-none"),
        pytest.param(b"", "gzip", id="empty-gzip"),
        pytest.param(b"", "deflate", id="empty-deflate"),
        pytest.param(b"\x1f", "gzip", id="first-byte-alone"),
        pytest.param(b"\x78", "deflate", id="first-byte-of-deflate-alone"),
        pytest.param(gzip.compress(TEXT)[:-1], "gzip", id="last-byte-missing"),
        pytest.param(gzip.compress(TEXT)[:-8] + bytes(8), "gzip", id="wrong-checksum"),
        pytest.param(zlib.compress(TEXT)[:-1], "deflate", id="last-byte-of-deflate-missing"),
        pytest.param(raw_deflate(TEXT)[:-1], "deflate", id="last-byte-of-raw-deflate-missing"),
        pytest.param(gzip.compress(TEXT) + b"more", "gzip", id="something-behind"),
        pytest.param(gzip.compress(TEXT), "deflate", id="gzip-called-deflate"),
        # RFC 9110, 8.4.1.2: one stream. Of gzip alone there may be several in a row.
        pytest.param(zlib.compress(TEXT) + zlib.compress(TEXT), "deflate", id="two-deflate-streams"),
        pytest.param(raw_deflate(b"") * 2, "deflate", id="two-raw-deflate-streams"),
    ],
)
def test_what_cannot_be_decoded_is_said_so(body: bytes, codings: str) -> None:
    with pytest.raises(UndecodableError):
        decoded(body, codings, limit_bytes=1000)


@pytest.mark.parametrize(
    ("body", "codings"),
    [
        pytest.param(gzip.compress(bytes(100)), "gzip", id="gzip"),
        pytest.param(zlib.compress(bytes(100)), "deflate", id="deflate"),
        pytest.param(raw_deflate(bytes(100)), "deflate", id="raw-deflate"),
        pytest.param(brotli.compress(bytes(100)), "br", id="brotli"),
        pytest.param(gzip.compress(bytes(50)) * 2, "gzip", id="two-members-together"),
        pytest.param(gzip.compress(bytes(1)) * 100, "gzip", id="many-members-together"),
        pytest.param(gzip.compress(bytes(50)) * 2 + gzip.compress(b"") * 3, "gzip", id="empty-members-weigh-nothing"),
    ],
)
def test_content_up_to_the_limit_is_decoded(body: bytes, codings: str) -> None:
    assert decoded(body, codings, limit_bytes=100) == bytes(100)
    with pytest.raises(DecodedTooLargeError):
        decoded(body, codings, limit_bytes=99)


@pytest.mark.parametrize(
    ("body", "codings"),
    [
        pytest.param(gzip.compress(bytes(10_000_000)), "gzip", id="gzip"),
        pytest.param(zlib.compress(bytes(10_000_000)), "deflate", id="deflate"),
        pytest.param(gzip.compress(gzip.compress(bytes(10_000_000))), "gzip, gzip", id="bomb-in-a-layer"),
        pytest.param(gzip.compress(zlib.compress(bytes(10_000_000), 0)), "gzip, gzip", id="outer-layer"),
        pytest.param(brotli.compress(bytes(10_000_000), quality=5), "br", id="brotli"),
    ],
)
def test_bomb_is_refused(body: bytes, codings: str) -> None:
    with pytest.raises(DecodedTooLargeError):
        decoded(body, codings, limit_bytes=100_000)


def test_no_coding_has_no_limit() -> None:
    assert decoded(TEXT, "identity", limit_bytes=0) == TEXT


@given(st.binary(), st.sampled_from(["gzip", "deflate", "deflate,gzip", "x-gzip, identity", "br", ""]) | st.text())
def test_any_bytes_are_decoded_or_refused(body: bytes, codings: str) -> None:
    with contextlib.suppress(UndecodableError, DecodedTooLargeError):
        assert len(decoded(body, codings, limit_bytes=100)) <= max(100, len(body))


@given(st.binary(), st.integers(0, 9))
def test_any_content_comes_back(content: bytes, level: int) -> None:
    for body, codings in [
        (gzip.compress(content, level), "gzip"),
        (zlib.compress(content, level), "deflate"),
        (raw_deflate(content), "deflate"),
        (gzip.compress(raw_deflate(content), level), "deflate, gzip"),
        (brotli.compress(content, quality=level), "br"),
    ]:
        assert decoded(body, codings, limit_bytes=1000) == content


def test_a_content_of_countless_members_is_refused() -> None:
    """Each member makes zlib copy all that follows, so that their number counts squared."""
    member = gzip.compress(b"x")
    assert decoded(member * 100, "gzip", limit_bytes=1000) == b"x" * 100
    with pytest.raises(UndecodableError):
        decoded(member * 101, "gzip", limit_bytes=1000)


def test_content_in_countless_codings_is_refused() -> None:
    with pytest.raises(UndecodableError):
        decoded(gzip.compress(b"{}"), ", ".join(["identity"] * 1000 + ["gzip"]), limit_bytes=1000)


@pytest.mark.parametrize("codings", ["compress", "zstd", "gzip, zstd", ",".join(["gzip"] * 9)])
def test_a_coding_that_is_not_known_here_is_told_from_damage(codings: str) -> None:
    with pytest.raises(UnknownCodingError):
        decoded(TEXT, codings, limit_bytes=1000)
    with pytest.raises(UndecodableError) as raised:
        decoded(TEXT, "gzip", limit_bytes=1000)
    assert not isinstance(raised.value, UnknownCodingError)
