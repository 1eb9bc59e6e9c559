from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.markup import READ_AT_MOST, first_of, first_texts, is_html, is_xml

if TYPE_CHECKING:
    from collections.abc import Iterator


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
        pytest.param("<html><title>a</html><p>b", "title", "a", id="ends-with-the-one-around-it"),
        pytest.param("<b><title>a</b>c", "title", "a", id="ends-with-the-one-around-it-and-no-later"),
        pytest.param("<title> &#32;<i></i></title><title>a</title>", "title", "a", id="space-is-no-text"),
        pytest.param("<SCRIPT>x</script><title>yes</title>", "title", "yes", id="script-in-another-case"),
        pytest.param("<svg/><title>yes</title>", "title", "yes", id="nothing-to-pass-over"),
        pytest.param(f"<a>x&#{'1' * 5000};y</a>", "a", "x\ufffdy", id="number-that-python-refuses"),
        pytest.param("<a>" + "b" * 3000, "a", "b" * 2047 + "…", id="long"),
        pytest.param("2 < 3 and <b>4</b> > 1", "", "2 3 and 4 > 1", id="signs-nobody-escaped"),
    ],
)
def test_text_of_an_element(page: str, name: str, text: str) -> None:
    assert first_texts(page, {name})[name] == text


def test_only_what_is_asked_for_is_kept() -> None:
    assert first_texts("<h1>b</h1><title>a</title>", {"title", "h2"}) == {"title": "a", "": "b a"}


def test_the_first_that_is_there() -> None:
    found = first_texts("<h1>b</h1><title>a</title>", {"title", "h1"})
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


def nested(depth: int) -> str:
    """Distinct elements around text, each closed."""
    names = [f"a{index}" for index in range(depth)]
    inside = "x y " * ((READ_AT_MOST - 16 * depth) // 4)
    return "".join(f"<{name}>" for name in names) + inside + "".join(f"</{name}>" for name in reversed(names))


WORST: dict[str, str] = {
    # The first took 6 s when a tag that never ends was tried at every border between its name and its attributes.
    "tag-that-never-ends": "<html><" + "a" * READ_AT_MOST,
    "attributes-that-never-end": "<a" + " b" * READ_AT_MOST,
    "nested": nested(490),
    "nested-in-vain": "<title>" * 490 + " " * (READ_AT_MOST // 2) + "</title>" * 490,
    "ends-of-nothing": "<b>" * 500 + "</i>" * 500,
    "number": "&#" + "1" * READ_AT_MOST,
    **{
        piece: piece * READ_AT_MOST
        for piece in (
            *("<", "<a ", "<!--", "<![CDATA[", "<![CDATA[]]>", "<a>", "</a>", "<script>", "<script></", "&", "&#"),
            *("&#1", "<a></b>", "<!", "<?", "<!DOCTYPE ", "<![", "<a/>", " ", "<a ='"),
        )
    },
}


@pytest.mark.parametrize("page", WORST.values(), ids=WORST.keys())
def test_the_steps_that_a_hostile_page_takes_grow_with_its_length(page: str) -> None:
    """Stopped by the clock of the process itself: 2 s of it, where the worst of these needs some milliseconds."""
    with no_longer_than(2):
        assert "" in first_texts(page, {"title", "a", "h1"})
        is_html(page)
        is_xml(page)


@contextmanager
def no_longer_than(cpu_s: float) -> Iterator[None]:
    def stop(*_: object) -> NoReturn:
        raise TimeoutError(f"more than {cpu_s} s of CPU time")

    former = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, cpu_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, former)


@given(
    st.lists(st.sampled_from(["<", ">", "/", "a", "title", "<title>", "</title>", "<!--", "-->", "&#x110000;", " "]))
)
def test_any_text_is_answered(parts: list[str]) -> None:
    assert "" in first_texts("".join(parts), {"title", "a"})
