from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.throttling import LONGEST_WAIT_S, parsed_date_s, quota_facts, wait_s

NOW_S = 1_784_000_000.0


def wait(message: str = "", *fields: tuple[bytes, bytes], status: int = 429) -> int | None:
    return wait_s(status, fields, message, now_s=NOW_S)


def in_s(seconds: float) -> bytes:
    return formatdate(NOW_S + seconds, usegmt=True).encode()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param([(b"Retry-After", b"20")], 20, id="seconds"),
        pytest.param([(b"Retry-After", b"0")], 0, id="now"),
        pytest.param([(b"Retry-After", b"1.2")], 2, id="fraction"),
        pytest.param([(b"retry-after", in_s(90))], 90, id="date"),
        pytest.param([(b"retry-after", in_s(-90))], 0, id="date-that-is-past"),
        pytest.param([(b"Date", in_s(3600)), (b"retry-after", in_s(3690))], 90, id="by-the-clock-of-the-sender"),
        pytest.param([(b"Retry-After", b"soon"), (b"Retry-After", b"5")], 5, id="second-line"),
        pytest.param([(b"Retry-After", b"99999999")], None, id="three-years"),
        pytest.param([(b"x-ms-retry-after-ms", b"1500")], 2, id="milliseconds"),
        pytest.param([(b"retry-after-ms", b"1500"), (b"retry-after", b"9")], 9, id="retry-after-first"),
        pytest.param([(b"RateLimit-Reset", b"30")], 30, id="reset"),
        pytest.param([(b"X-RateLimit-Reset", b"%d" % (NOW_S + 30))], 30, id="reset-as-a-time"),
        pytest.param([(b"X-RateLimit-Reset", b"soon")], None, id="reset-that-is-none"),
        pytest.param([], None, id="nothing"),
    ],
)
def test_wait_in_fields(fields: list[tuple[bytes, bytes]], expected: int | None) -> None:
    assert wait("", *fields) == wait("", *fields, status=503) == expected
    assert wait("", *fields, status=500) is None


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        pytest.param("Rate limit is exceeded. Try again in 53 seconds.", 53, id="seconds"),
        pytest.param("Out of call volume quota. Quota will be replenished in 1.02:03:04.", 93784, id="days-and-clock"),
        pytest.param("Quota exceeded; you can run queries again after 00:12:30", 750, id="clock"),
        pytest.param("Please wait at least 2 minutes before the next call", 120, id="minutes"),
        pytest.param("It resets in 3 hours", 10800, id="hours"),
        pytest.param("retry after 1500 milliseconds", 2, id="milliseconds"),
        pytest.param("retry after 1500ms", 2, id="ms"),
        pytest.param("calls quota exceeded! maximum allowed 45 per 00:01:00", 60, id="window"),
        pytest.param("Limit of 100 calls per hour reached", 3600, id="window-in-words"),
        pytest.param("allowed 45 per 00:01:00. Try again in 9 seconds", 9, id="wait-before-window"),
        pytest.param("Too many requests.", None, id="nothing"),
        pytest.param("Error 42 in module 7", None, id="numbers-that-are-no-wait"),
        pytest.param("Try again in 90 days", None, id="too-long-to-be-meant"),
    ],
)
def test_wait_in_the_message(message: str, expected: int | None) -> None:
    assert wait(message) == expected


def test_fields_are_believed_before_the_message() -> None:
    assert wait("Try again in 53 seconds", (b"retry-after", b"7")) == 7


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        pytest.param("Sun, 06 Nov 1994 08:49:37 GMT", 784111777, id="usual"),
        pytest.param("Sunday, 06-Nov-94 08:49:37 GMT", 784111777, id="two-digits"),
        pytest.param("Sunday, 06-Nov-33 08:49:37 GMT", 2014879777, id="two-digits-to-come"),
        pytest.param("Sun Nov  6 08:49:37 1994", 784111777, id="asctime"),
        pytest.param("Sun, 31 Feb 1994 08:49:37 GMT", None, id="no-such-day"),
        pytest.param("Sun, 06 Nix 1994 08:49:37 GMT", None, id="no-such-month"),
        pytest.param("Sun, 06 Nov 1994 28:49:37 GMT", None, id="no-such-hour"),
        pytest.param("Sun, 06 Nov 1494 08:49:37 GMT", None, id="before-the-epoch"),
        pytest.param("tomorrow", None, id="none"),
    ],
)
def test_dates(date: str, expected: int | None) -> None:
    assert parsed_date_s(date) == expected


@given(st.integers(0, 4_000_000_000))
def test_a_date_is_read_as_it_was_written(moment_s: int) -> None:
    assert parsed_date_s(formatdate(moment_s, usegmt=True)) == moment_s


@given(st.lists(st.sampled_from(["in", "after", "per", "allowed", " ", "5", "٣", "s", "00:01:00", "1e9", "."])))
def test_any_message_is_answered(parts: list[str]) -> None:
    waits = wait("".join(parts), (b"retry-after", "".join(parts).encode()))
    assert waits is None or 0 <= waits <= LONGEST_WAIT_S


def test_quota_facts() -> None:
    fields = (
        (b"X-MS-RateLimit-Remaining-Tenant-Reads", b"11999"),
        (b"RateLimit", b'"default";r=0;t=30'),
        (b"X-RateLimit-Limit", b"45"),
        (b"X-RateLimit-Key", b"caf\xe9"),
        (b"X-Other", b"1"),
    )
    assert quota_facts(fields, "maximum allowed 45 per 00:01:00") == (
        ("x-ms-ratelimit-remaining-tenant-reads", "11999"),
        ("ratelimit", '"default";r=0;t=30'),
        ("x-ratelimit-limit", "45"),
        ("allowed", "45"),
        ("per_s", "60"),
    )
    assert len(quota_facts(((b"x-ratelimit-limit", b"1"),) * 50, "")) == 10
