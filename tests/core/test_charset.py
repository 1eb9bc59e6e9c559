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
        pytest.param("a•".encode("utf-32-be"), "", "a•", id="utf-32-be-without-a-mark"),
        pytest.param("a•".encode("utf-32-le"), "", "a•", id="utf-32-le-without-a-mark"),
        pytest.param(TEXT.encode(), "application/json; charset=iso-8859-1", TEXT, id="json-is-utf-8"),
        pytest.param(TEXT.encode(), "text/plain; charset=iso-8859-1", TEXT, id="json-by-its-looks"),
        pytest.param(b'"\xc3\xb6"', "text/json; charset=latin1", '"ö"', id="json-by-its-type"),
        pytest.param(b'{"a": 1}', "application/json; charset=utf-16", '{"a": 1}', id="ascii-json-as-utf-16"),
        pytest.param(b"all is lost.", "text/plain; charset=utf-16", "all is lost.", id="ascii-text-as-utf-16"),
        pytest.param(TEXT.encode("utf-16-be"), "application/json", TEXT, id="json-in-utf-16"),
        pytest.param('{"a":"größe"}'.encode("latin-1"), "application/json", '{"a":"größe"}', id="json-in-latin-1"),
        pytest.param(b'{"a":"\xa4"}', "application/json; charset=iso-8859-15", '{"a":"€"}', id="json-as-it-claims"),
        pytest.param("• a".encode("utf-16-le"), "text/plain; charset=utf-16", "• a", id="utf-16-with-a-zero"),
        pytest.param(b"<meta charset='utf-8'>\xc3\xb6", "text/html", "<meta charset='utf-8'>ö", id="meta"),
        pytest.param(b'<META charset="iso-8859-15">\xa4', "", '<META charset="iso-8859-15">€', id="meta-latin-9"),
        pytest.param(b"<meta charset=utf-16>\xc3\xb6", "", "<meta charset=utf-16>ö", id="meta-cannot-be-utf-16"),
        pytest.param(
            b'<meta http-equiv="x" content="text/html; charset=iso-8859-15">\xa4', "text/html; charset=latin1",
            '<meta http-equiv="x" content="text/html; charset=iso-8859-15">¤', id="type-before-meta",
        ),
        pytest.param(
            b'<meta http-equiv="x" content="text/html; charset=iso-8859-15">\xa4', "text/html",
            '<meta http-equiv="x" content="text/html; charset=iso-8859-15">€', id="meta-as-a-type",
        ),
        pytest.param(
            b'<?xml version="1.0" encoding="ISO-8859-15"?>\xa4', "text/xml",
            '<?xml version="1.0" encoding="ISO-8859-15"?>€', id="xml-declaration",
        ),
    ],
)  # fmt: skip
def test_text(content: bytes, media_type: str, text: str | None) -> None:
    assert as_text(content, media_type) == text


@pytest.mark.parametrize(
    ("content", "media_type", "text"),
    [
        pytest.param(b"gr\xc3\xb6\xc3\x9fe\xff!", "", "größe\ufffd!", id="utf-8"),
        pytest.param(b'{"a":"gr\xc3\xb6\xff"}', "application/json; charset=latin1", '{"a":"grö\ufffd"}', id="json"),
        pytest.param(b"gr\xc3\xb6\xc3", "text/plain; charset=utf-8", "grö\ufffd", id="broken-off"),
        pytest.param(codecs.BOM_UTF8 + b"it is all right \xff", "", "it is all right \ufffd", id="with-a-mark"),
        pytest.param(TEXT.encode("utf-16")[:-1], "", TEXT[:-1] + "\ufffd", id="utf-16-broken-off"),
        pytest.param(TEXT.encode("utf-16-le") + b"!", "", TEXT + "\ufffd", id="zeros-broken-off"),
        pytest.param(
            "語語語語語語語語".encode("utf-16-be") + b"\x01", "text/plain; charset=utf-16be", "語語語語語語語語\ufffd",
            id="claimed-utf-16-broken-off",
        ),
        pytest.param(b"no more than one wrong \x81", "", "no more than one wrong \ufffd", id="in-no-encoding"),
    ],
)  # fmt: skip
def test_a_wrong_byte_costs_one_character(content: bytes, media_type: str, text: str) -> None:
    assert as_text(content, media_type) == text


@given(st.binary(), st.text())
def test_any_bytes_are_answered(content: bytes, media_type: str) -> None:
    text = as_text(content, media_type)
    assert text is None or text.encode() is not None


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"])), st.sampled_from(["utf-8-sig", "utf-16", "utf-32"]))
def test_a_mark_is_enough(text: str, encoding: str) -> None:
    assert as_text(text.encode(encoding), "text/plain; charset=windows-1252") == text
