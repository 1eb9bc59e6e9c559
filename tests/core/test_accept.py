from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.accept import prefers_problem


@pytest.mark.parametrize(
    "accept",
    [
        "application/problem+json",
        "Application/Problem+JSON",
        "application/problem+json; charset=utf-8",
        "application/problem+json, */*;q=0.8",
        "application/json;q=0.9, application/problem+json",
        "application/json;q=0.1 , application/problem+json ; q = 0.2",
        "text/html, application/problem+json;q=0.001",
        "application/*;q=0.5, application/problem+json;q=0.6",
        "application/json;q=0, application/problem+json;q=0.3, */*",
        "application/json;q=2, application/problem+json",
    ],
)
def test_problem_details_are_preferred(accept: str) -> None:
    assert prefers_problem(((b"Accept", accept.encode()),))


@pytest.mark.parametrize(
    "accept",
    [
        "",
        "*/*",
        "application/*",
        "application/json",
        "application/json, application/problem+json",
        "application/problem+json, application/json",
        "application/problem+json;q=0",
        "application/problem+json;q=0, */*",
        "application/problem+json;q=0.5, */*",
        "application/problem+json;q=0.50, application/*;q=0.5",
        "application/problem+json;q=high",
        "application/problem+json;q=1.001",
        "application/problem+json;q=-1",
        "application/problem+xml",
        "problem",
    ],
)
def test_the_envelope_is_as_good(accept: str) -> None:
    assert not prefers_problem(((b"Accept", accept.encode()),))


def test_several_lines_are_one_list() -> None:
    assert prefers_problem(((b"accept", b"application/json;q=0.5"), (b"ACCEPT", b"application/problem+json")))
    assert not prefers_problem(((b"accept", b"application/json"), (b"ACCEPT", b"application/problem+json")))


@given(st.lists(st.sampled_from(["application/problem+json", "*/*", ";", ",", "q=", "=", "1", "0.5", " ", "\x00"])))
def test_any_field_is_answered(parts: list[str]) -> None:
    assert prefers_problem(((b"accept", "".join(parts).encode()),)) in {True, False}
