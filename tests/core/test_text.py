from __future__ import annotations

import pytest

from proxy.core.text import printable, shortened


@pytest.mark.parametrize(
    ("text", "limit", "shown"),
    [
        pytest.param("", 3, "", id="nothing"),
        pytest.param("abc", 3, "abc", id="just-fits"),
        pytest.param("abcd", 3, "ab…", id="one-too-many"),
        pytest.param("abcd", 1, "…", id="no-room-for-any"),
    ],
)
def test_a_long_text_ends_with_an_ellipsis(text: str, limit: int, shown: str) -> None:
    assert shortened(text, limit) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("größer als", "größer als", id="beyond-ascii"),
        pytest.param("a\x1b[31mb", "a\\x1b[31mb", id="escape"),
        pytest.param("a\r\nb", "a\\r\\nb", id="line-break"),
        pytest.param("a\u202eb", "a\\u202eb", id="right-to-left-override"),
        pytest.param("a\ud800b", "a\\ud800b", id="lone-surrogate"),
    ],
)
def test_what_would_steer_a_terminal_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown
