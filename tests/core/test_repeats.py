"""Which of the lines that say the same are written, and what is told of the others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.repeats import PATTERNS_AT_MOST, LeftOut, Pattern, Repeats

ONE = Pattern("warning", "upstream_error", (("status", 403),))
OTHER = Pattern("warning", "upstream_error", (("status", 404),))
IDS = {"target_id": "t", "request_id": "r", "error_message": "No."}


def test_the_first_are_admitted_and_the_others_counted() -> None:
    repeats = Repeats(2, 60)

    assert [repeats.admits(ONE, IDS | {"target_id": f"t{at}"}, at) for at in range(5)] == [True, True, *[False] * 3]

    assert repeats.ended(59.9) == []
    assert repeats.ended(60) == [LeftOut(ONE, 3, 2, 4, {"target_id": "t4", "request_id": "r"})]
    assert repeats.ended(60) == []


def test_patterns_are_counted_apart() -> None:
    repeats = Repeats(1, 60)

    assert repeats.admits(ONE, {}, 0)
    assert repeats.admits(OTHER, {}, 0)
    assert not repeats.admits(ONE, {}, 0)


def test_a_new_window_admits_again_and_the_former_one_is_told_all_the_same() -> None:
    repeats = Repeats(1, 60)
    assert [repeats.admits(ONE, {}, at) for at in (0, 1, 60, 61)] == [True, False, True, False]

    assert repeats.ended(60) == [LeftOut(ONE, 1, 1, 1, {})]
    assert repeats.ended(120) == [LeftOut(ONE, 1, 61, 61, {})]


def test_a_window_begins_with_its_first_line_and_is_over_though_others_come() -> None:
    repeats = Repeats(1, 60)
    admitted = [at for at in range(300) if repeats.admits(ONE, {}, at)]
    assert admitted == [0, 60, 120, 180, 240]


def test_where_nothing_was_left_out_nothing_is_told() -> None:
    repeats = Repeats(2, 60)
    assert repeats.admits(ONE, {}, 0)
    assert repeats.end() == []
    assert repeats.next_end_s is None


def test_no_limit_admits_all_and_remembers_nothing() -> None:
    repeats = Repeats(0)
    assert all(repeats.admits(ONE, {}, 0) for _ in range(100))
    assert repeats.next_end_s is None


def test_all_windows_can_be_ended_at_once() -> None:
    repeats = Repeats(1, 60)
    for pattern in (ONE, ONE, OTHER, OTHER, OTHER):
        repeats.admits(pattern, {}, 1)
    assert [(each.pattern, each.count) for each in repeats.end()] == [(ONE, 1), (OTHER, 2)]
    assert repeats.end() == []


def test_the_next_end_is_that_of_the_oldest_window() -> None:
    repeats = Repeats(1, 60)
    repeats.admits(ONE, {}, 1)
    repeats.admits(OTHER, {}, 2)
    assert repeats.next_end_s == 61
    repeats.ended(61)
    assert repeats.next_end_s == 62


@pytest.mark.parametrize("more", [1, 500])
def test_the_memory_is_bounded_and_what_is_forgotten_is_told(more: int) -> None:
    repeats = Repeats(1, 60)
    patterns = [Pattern("error", "proxy_error", (("status", number),)) for number in range(PATTERNS_AT_MOST + more)]
    for pattern in patterns:
        assert repeats.admits(pattern, {}, 0)
        assert not repeats.admits(pattern, {}, 0)
    assert [each.pattern for each in repeats.ended(0)] == patterns[:more]
    assert len(repeats.end()) == PATTERNS_AT_MOST


@given(
    st.integers(1, 4),
    st.lists(st.tuples(st.sampled_from([ONE, OTHER]), st.floats(0, 40), st.booleans()), max_size=80),
)
def test_every_line_is_written_or_told_of(at_most: int, lines: list[tuple[Pattern, float, bool]]) -> None:
    repeats, now_s, told, written = Repeats(at_most, 60), 0.0, 0, 0
    for pattern, pause_s, asks in lines:
        now_s += pause_s
        written += repeats.admits(pattern, {}, now_s)
        if asks:
            told += sum(each.count for each in repeats.ended(now_s))
    assert written + told + sum(each.count for each in repeats.end()) == len(lines)
