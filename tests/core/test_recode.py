from __future__ import annotations

import gzip
import os
import zlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.coding import UndecodableError
from proxy.core.recode import Recoder, TruncatedError
from proxy.core.rewrite import LinkRewriter, origin_of

if TYPE_CHECKING:
    from collections.abc import Callable

BEFORE = b'{"value": [1, 2, 3], "@odata.nextLink": "https://up.test/api?$skip=3"}'
AFTER = b'{"value": [1, 2, 3], "@odata.nextLink": "http://here:1/api?$skip=3"}'


def recoder(coding: str) -> Recoder:
    return Recoder(coding, LinkRewriter(origin_of("https://up.test"), b"http://here:1"))


def raw_deflated(data: bytes) -> bytes:
    coder = zlib.compressobj(wbits=-15)
    return coder.compress(data) + coder.flush()


CODED: dict[str, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]] = {
    "gzip": (gzip.compress, gzip.decompress),
    "zlib": (zlib.compress, zlib.decompress),
    "raw": (raw_deflated, lambda data: zlib.decompress(data, wbits=-15)),
    "": (bytes, bytes),
}
TOKEN = {"gzip": "gzip", "zlib": "deflate", "raw": "deflate", "": ""}
forms = pytest.mark.parametrize("form", CODED)
coded_forms = pytest.mark.parametrize("form", [form for form in CODED if form])


def whole(recoder: Recoder, data: bytes, step: int = 2**20) -> bytes:
    parts = [part for at in range(0, len(data), step) for part in recoder.feed(data[at : at + step])]
    return b"".join(parts) + recoder.end()


@forms
@pytest.mark.parametrize("step", [1, 2, 7, 2**20])
def test_links_are_turned_and_the_coding_stays(form: str, step: int) -> None:
    code, decode = CODED[form]
    one = recoder(TOKEN[form])
    assert decode(whole(one, code(BEFORE), step)) == AFTER
    assert one.has_changed
    assert one.is_coded == bool(form)


@forms
def test_without_a_link_the_content_stays(form: str) -> None:
    code, decode = CODED[form]
    content = os.urandom(300_000)
    one = recoder(TOKEN[form])
    assert decode(whole(one, code(content), 10_000)) == content
    assert not one.has_changed


@forms
def test_nothing_becomes_nothing(form: str) -> None:
    one = recoder(TOKEN[form])
    assert one.end() == b""


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=5), st.integers(1, 40))
def test_several_members(contents: list[bytes], step: int) -> None:
    """RFC 1952, 2.2. A link may lie across them."""
    data = b"".join(gzip.compress(content) for content in (*contents, BEFORE[:50], b"", BEFORE[50:]))
    assert gzip.decompress(whole(recoder("gzip"), data, step)) == b"".join(contents) + AFTER


@coded_forms
def test_what_arrived_goes_out_at_once(form: str) -> None:
    window_bits = {"gzip": 31, "zlib": 15, "raw": -15}[form]
    coder = zlib.compressobj(wbits=window_bits)
    one, seen = recoder(TOKEN[form]), zlib.decompressobj(window_bits)
    for content in (b'{"value": [', b"1, ", b"2, "):
        flushed = coder.compress(content) + coder.flush(zlib.Z_SYNC_FLUSH)
        assert seen.decompress(b"".join(one.feed(flushed))) == content


@coded_forms
@pytest.mark.parametrize("kept", [1, 5, 20, -1])
def test_cut_off(form: str, kept: int) -> None:
    data = CODED[form][0](BEFORE)[:kept]
    one = recoder(TOKEN[form])
    for _ in one.feed(data):
        pass
    with pytest.raises(TruncatedError):
        one.end()


@pytest.mark.parametrize(
    ("token", "data"),
    [
        pytest.param("gzip", BEFORE, id="not-coded"),
        pytest.param("gzip", zlib.compress(BEFORE), id="another-coding"),
        pytest.param("gzip", gzip.compress(BEFORE)[:-8] + bytes(8), id="checksum"),
        pytest.param("gzip", gzip.compress(BEFORE) + b"tail", id="rest-that-is-no-member"),
        pytest.param("deflate", zlib.compress(BEFORE) + zlib.compress(BEFORE), id="two-zlib-streams"),
        pytest.param("deflate", b"\xff\xff\xff\xff", id="no-deflate"),
    ],
)
def test_damaged(token: str, data: bytes) -> None:
    with pytest.raises(UndecodableError):
        whole(recoder(token), data)


def test_a_bomb_streams() -> None:
    """64 MiB out of 64 KiB: no step makes much of it, and what comes out is as small again."""
    coder = zlib.compressobj(9, wbits=31)
    bomb = b"".join(coder.compress(bytes(2**20)) for _ in range(64)) + coder.flush()
    one = recoder("gzip")
    parts = list(one.feed(bomb))
    assert len(parts) > 1000
    assert max(map(len, parts)) < 2**16
    assert zlib.decompressobj(31).decompress(b"".join(parts) + one.end()) == bytes(64 * 2**20)
