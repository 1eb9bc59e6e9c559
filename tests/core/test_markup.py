from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.markup import READ_AT_MOST, first_of, first_texts, is_html, is_xml


@pytest.mark.parametrize(
    ("page", "name", "text"),
    [
        pytest.param("<html><head><title>502 Bad\n Gateway</title>", "title", "502 Bad Gateway", id="title"),
        pytest.param("<TITLE lang='en'>A &amp; B&#33;</TITLE>", "title", "A & B!", id="attributes-and-entities"),
        pytest.param("<title></title><h1>Gone</h1>", "h1", "Gone", id="heading"),
        pytest.param("<p>a<b>b</b><br/>c</p>", "p", "a b c", id="nested"),
        pytest.param("<script>x<title>no</title></script><title>yes</title>", "title", "yes", id="script"),
        pytest.param("<style>p{}</style>hello", "", "hello", id="style"),
        pytest.param("<!-- <title>no</title> --><title>yes</title>", "title", "yes", id="comment"),
        pytest.param("<title>half a", "title", "half a", id="broken-off"),
        pytest.param("<m:error><m:code>X</m:code></m:error>", "code", "X", id="prefix"),
        pytest.param("<a><![CDATA[1 < 2 &amp;]]></a>", "a", "1 < 2 &amp;", id="cdata"),
        pytest.param("<!DOCTYPE x [<!ENTITY e 'boom'>]><a>&e;</a>", "a", "&e;", id="entities-are-not-read"),
        pytest.param("<a>1</a><a>2</a>", "a", "1", id="first-of-two"),
        pytest.param("2 < 3 and <b>4</b> > 1", "", "2 3 and 4 > 1", id="signs-nobody-escaped"),
    ],
)
def test_text_of_an_element(page: str, name: str, text: str) -> None:
    assert first_texts(page)[name] == text


def test_the_first_that_is_there() -> None:
    found = first_texts("<h1>b</h1><title>a</title>")
    assert first_of(found, ("title", "h1")) == "a"
    assert first_of(found, ("h3", "h1")) == "b"
    assert first_of(found, ("h3",)) is None


@pytest.mark.parametrize(
    ("text", "html", "xml"),
    [
        pytest.param("<!doctype HTML>", True, False, id="doctype"),
        pytest.param("<html lang='x'>", True, True, id="html"),
        pytest.param("<?xml version='1.0'?><Error/>", False, True, id="xml"),
        pytest.param("<Error><Code>", False, True, id="xml-without-declaration"),
        pytest.param("<3 you", False, False, id="no-markup"),
    ],
)
def test_kinds_of_markup(text: str, *, html: bool, xml: bool) -> None:
    assert (is_html(text), is_xml(text)) == (html, xml)


@pytest.mark.parametrize(
    "piece", ["<", "<a ", "<!--", "<![CDATA[", "<a>", "</a>", "<script>", "&", "<a></b>", "<!", "<?"]
)
def test_hostile_pages_cost_little(piece: str) -> None:
    began = time.process_time()
    first_texts(piece * READ_AT_MOST)
    assert time.process_time() - began < 1


@given(
    st.lists(st.sampled_from(["<", ">", "/", "a", "title", "<title>", "</title>", "<!--", "-->", "&#x110000;", " "]))
)
def test_any_text_is_answered(parts: list[str]) -> None:
    assert "" in first_texts("".join(parts))
