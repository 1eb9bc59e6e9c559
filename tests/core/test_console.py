from __future__ import annotations

import pytest

from proxy.core.console import readable


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "plain"),
        (403, 403),
        (None, None),
        ([{"pointer": "/comment", "got": "comment", "expected": "Comment"}], "/comment: comment -> Comment"),
        (
            [
                {"pointer": "/a", "got": "a", "expected": "A"},
                {"pointer": "/b", "got": "b", "expected": "B"},
            ],
            "/a: a -> A, /b: b -> B",
        ),
        (("Comment", "IsolationType"), "Comment, IsolationType"),
        ({"cause": "why", "fix": ["one", "two"]}, "cause: why; fix: one, two"),
        (
            {"suspicion": "wrong_type", "pointer": "/a", "got": "string", "expected": ["number", "null"]},
            "suspicion: wrong_type; pointer: /a; got: string; expected: number, null",
        ),
        ([], ""),
    ],
)
def test_values_are_told_as_texts(value: object, text: object) -> None:
    assert readable(value) == text


@pytest.mark.parametrize(
    "value",
    [
        "\x1b[31mred",
        ["\x1b[31mred"],
        {"\x1b[31m": "\x1b[31mred"},
        {"pointer": "/\x1b[31m", "got": "\x1b[31m", "expected": "A"},
    ],
)
def test_nothing_steers_a_terminal(value: object) -> None:
    assert "\x1b" not in str(readable(value))
