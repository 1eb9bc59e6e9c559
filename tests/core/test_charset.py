from __future__ import annotations

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.charset import as_text

TEXT = '{"a":"größe 🦉"}'


@pytest.mark.parametrize(
    ("content", "media_type", "text"),
    [
        pytest.param(b"", "", "", id="empty"),
        pytest.param(TEXT.encode(), "", TEXT, id="utf-8"),
        pytest.param(codecs.BOM_UTF8 + TEXT.encode(), "", TEXT, id="utf-8-with-a-mark"),
        pytest.param(TEXT.encode("utf-16"), "", TEXT, id="utf-16"),
        pytest.param(codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"), "", TEXT, id="utf-16-be-with-a-mark"),
        pytest.param(TEXT.encode("utf-32"), "", TEXT, id="utf-32"),
        pytest.param(TEXT.encode("utf-16-le"), "", TEXT, id="utf-16-le-without-a-mark"),
        pytest.param(TEXT.encode("utf-16-be"), "", TEXT, id="utf-16-be-without-a-mark"),
        pytest.param("größe".encode("latin-1"), "", "größe", id="neither-utf"),
        pytest.param("größe".encode("latin-1"), 'text/html; Charset="ISO-8859-1"', "größe", id="latin-1"),
        pytest.param("größe".encode(), "text/html; charset=iso-8859-99", "größe", id="unknown-charset"),
        pytest.param("größe".encode(), "text/html; charset=us-ascii", "grÃ¶ÃŸe", id="claimed-to-be-another"),
        pytest.param("語".encode("utf-16-le"), "text/plain; charset=utf-16", "語", id="utf-16-by-its-type"),
        pytest.param(codecs.BOM_UTF8 + "ö".encode(), "text/plain; charset=utf-16", "ö", id="mark-before-type"),
        pytest.param(b"\x1b[31mred", "", "\x1b[31mred", id="escape"),
        pytest.param(b"\x1f\x8b\x08\x01", "text/html", None, id="gzip"),
        pytest.param(b"a\x00b\x00\x00", "", None, id="zeros"),
        pytest.param(b"\x81\xff", "", None, id="nothing"),
    ],
)
def test_text(content: bytes, media_type: str, text: str | None) -> None:
    assert as_text(content, media_type) == text


@given(st.binary(), st.text())
def test_any_bytes_are_answered(content: bytes, media_type: str) -> None:
    text = as_text(content, media_type)
    assert text is None or text.encode() is not None


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"])), st.sampled_from(["utf-8-sig", "utf-16", "utf-32"]))
def test_a_mark_is_enough(text: str, encoding: str) -> None:
    assert as_text(text.encode(encoding), "text/plain; charset=windows-1252") == text
