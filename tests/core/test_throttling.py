from __future__ import annotations

from datetime import UTC, datetime
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.throttling import DEFAULT_WAIT_S, LONGEST_WAIT_S, parsed_date_s, quota_facts, wait_s, with_wait

NOW_S = 1_784_000_000.0


def wait(message: str = "", *fields: tuple[bytes, bytes], status: int = 429) -> int | None:
    return wait_s(status, fields, message, now_s=NOW_S)


def in_s(seconds: float) -> bytes:
    return formatdate(NOW_S + seconds, usegmt=True).encode()


def iso(seconds: float) -> bytes:
    return datetime.fromtimestamp(NOW_S + seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode()


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
        pytest.param(
            [(b"Retry-After", b"99999999"), (b"x-ms-retry-after-ms", b"1500")], 2, id="usable-before-too-long"
        ),
        pytest.param([(b"Retry-After", b"5, 10")], 10, id="list"),
        pytest.param([(b"Retry-After", b"5"), (b"Retry-After", in_s(60))], 60, id="the-longest-of-several"),
        pytest.param([(b"Retry-After", b"+5")], 5, id="plus"),
        pytest.param([(b"Retry-After", b" 5;x=1 ")], 5, id="parameter"),
        pytest.param([(b"Retry-After", b"-5")], None, id="negative"),
        pytest.param([(b"Retry-After", b"")], None, id="empty"),
        pytest.param([(b"Retry-After", b"9" * 4000)], None, id="digits"),
        pytest.param([(b"Retry-After", b"PT1M30.5S")], 91, id="iso-length"),
        pytest.param([(b"Retry-After", b"P1DT1H")], 90000, id="iso-days"),
        pytest.param([(b"Retry-After", b"PT")], None, id="iso-nothing"),
        pytest.param([(b"Retry-After", b"00:01:30")], 90, id="clock"),
        pytest.param([(b"Retry-After", b"1m30s")], 90, id="units"),
        pytest.param([(b"Retry-After", b"%d" % (NOW_S + 30))], 30, id="epoch"),
        pytest.param([(b"Retry-After", b"%d" % (NOW_S - 30))], None, id="epoch-that-is-past"),
        pytest.param([(b"Retry-After", in_s(90).lower())], 90, id="date-in-lower-case"),
        pytest.param([(b"Retry-After", in_s(90).replace(b"GMT", b"UTC"))], 90, id="date-in-utc"),
        pytest.param([(b"Retry-After", iso(90) + b"Z")], 90, id="iso-time"),
        pytest.param([(b"Retry-After", iso(90) + b".123")], 90, id="iso-time-without-offset"),
        pytest.param([(b"Retry-After", iso(3690) + b"+01:00")], 90, id="iso-time-with-offset"),
        pytest.param([(b"Retry-After", iso(-3510) + b"-01:00")], 90, id="iso-time-west"),
        pytest.param([(b"Retry-After", b"2026-13-01T00:00:00Z")], None, id="iso-time-that-is-none"),
        pytest.param(
            [(b"x-ms-retry-after-ms", b"-1"), (b"retry-after-ms", b"2500.5")], 3, id="milliseconds-with-a-point"
        ),
        pytest.param([(b"RateLimit", b"limit=10, remaining=0, reset=4")], 4, id="ratelimit-07"),
        pytest.param([(b"RateLimit", b'"default";r=0;t=4')], 4, id="ratelimit-08"),
        pytest.param(
            [(b"RateLimit", b'"a";r=0;t=4, "b";r=9;t=800'), (b"RateLimit", b'"c"; r=0; t=7')], 7, id="ratelimits"
        ),
        pytest.param([(b"RateLimit", b'"default";r=0')], None, id="ratelimit-without-a-time"),
        pytest.param([(b"X-RateLimit-Reset", b"%d" % ((NOW_S + 30) * 1000))], 30, id="reset-in-milliseconds"),
        pytest.param([(b"X-RateLimit-Reset", b"%d" % (NOW_S - 30))], None, id="reset-that-is-past"),
        pytest.param([(b"X-RateLimit-Reset", b"6m0s")], 360, id="reset-with-units"),
        pytest.param(
            [(b"X-RateLimit-Remaining", b"0"), (b"X-RateLimit-Reset", b"9")], 9, id="reset-of-what-is-used-up"
        ),
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
        pytest.param("Please wait 1 minute and 30 seconds", 90, id="two-units"),
        pytest.param("Try again in 1h, 2m and 3.5s.", 3724, id="three-units"),
        pytest.param("exceeded 45 calls per minute", 60, id="window-of-calls"),
        pytest.param("exceeded 1,500 requests per hour, retry in 1,200 seconds", 1200, id="thousands"),
        pytest.param("exceeded 15 calls within 1 minute, wait 20 s", 20, id="wait-behind-a-window"),
        pytest.param("No more than 10 calls/minute", 60, id="slash"),
        pytest.param("Request timed out, retry in 5 s", 5, id="timeout-and-wait"),
        pytest.param("Try again in PT2M.", 120, id="iso-length"),
        pytest.param("Retry-After: 30 seconds", 30, id="as-the-field"),
        pytest.param("Try again at 2026-07-14T03:34:20Z.", 60, id="iso-time"),
        pytest.param("Blocked until 2026-07-14 03:34:20", 60, id="until-a-time"),
        pytest.param("Try again on Tue, 14 Jul 2026 03:34:20 GMT", 60, id="date"),
        pytest.param("Try again after 03:34:20 UTC", None, id="time-of-the-day"),
        pytest.param("Blocked for 5 minutes", 300, id="bare"),
        pytest.param("maximum allowed 9 per 02:00:00 for 5 keys", 7200, id="window-of-hours"),
    ],
)
def test_wait_in_the_message(message: str, expected: int | None) -> None:
    assert int(NOW_S) == 1_784_000_000  # Tue, 14 Jul 2026 03:33:20 GMT
    assert wait(message) == expected


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        pytest.param("Service is busy. Try again in 53 seconds.", 53, id="retry"),
        pytest.param("Retry the request after 10 seconds", 10, id="retry-the-request"),
        pytest.param("We will be back online in 10 minutes", 600, id="maintenance"),
        pytest.param("Gateway timeout; please wait for 20 s", 20, id="wait"),
        pytest.param("maximum allowed 45 per 00:01:00", 60, id="quota"),
        pytest.param("Blocked for 5 minutes", None, id="bare"),
        pytest.param("Started in 20 s, shut down after 30 s", None, id="bare-ones"),
        pytest.param("Error 503 in 5 s", None, id="took-so-long"),
        pytest.param("Handled 3 requests in 20 s", None, id="what-was-done"),
        pytest.param("No more than 3 requests within 20 s", 20, id="what-may-be-done"),
    ],
)
def test_wait_in_the_message_of_a_503(message: str, expected: int | None) -> None:
    assert wait(message, status=503) == expected


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    "message",
    [
        "upstream request timeout after 30 seconds",
        "The backend did not respond within 60 seconds",
        "The backend did not respond again within 60 seconds",
        "Connection timed out after 15 s",
        "timed-out in 00:00:15",
        "Gave up after 30 seconds timeout",
        "The last retry after 30 seconds timed out",
        "Limit of 100 items per 5 minutes report",
        "5 requests within 30 seconds timed out",
        "Retries exhausted, the deadline passed after 10 s",
        "The maximum wait time of 30 seconds was exceeded",
    ],
)
def test_a_time_that_something_took_is_no_wait(message: str, status: int) -> None:
    assert wait(message, status=status) is None
    assert quota_facts((), message) == ()


def test_a_503_with_quota_left_is_not_throttled() -> None:
    """Services tell of their limits in any response."""
    fields = [(b"RateLimit-Remaining", b"50"), (b"RateLimit-Reset", b"3000")]
    assert wait("", *fields, status=503) is None
    assert wait("", *fields) == 3000
    policy = (b"RateLimit", b'"a";r=50;t=3000, "b";r=7;t=20')
    assert wait("", policy, status=503) is None
    assert wait("", policy) == 20


def test_a_field_that_is_unusable_gives_way_to_the_message() -> None:
    assert wait("Try again in 4 seconds", (b"retry-after", b"99999999")) == 4


@pytest.mark.parametrize(
    ("status", "told_s", "expected"),
    [
        pytest.param(429, 7, [b"7"], id="told"),
        pytest.param(503, 0, [b"0"], id="told-now"),
        pytest.param(429, None, [b"%d" % DEFAULT_WAIT_S], id="default"),
        pytest.param(503, None, [], id="removed"),
        pytest.param(403, None, [b"-5", b"soon"], id="other-status"),
    ],
)
def test_fields_with_the_wait(status: int, told_s: int | None, expected: list[bytes]) -> None:
    fields = ((b"A", b"1"), (b"retry-after", b"-5"), (b"Retry-After", b"soon"))
    told = with_wait(status, fields, told_s)
    assert told[0] == fields[0]
    assert [value for _, value in told[1:]] == expected


@pytest.mark.parametrize(("status", "expected"), [(429, ((b"Retry-After", b"60"),)), (503, ())])
def test_fields_where_nothing_is_told(status: int, expected: object) -> None:
    assert with_wait(status, (), None) == expected


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


@given(
    st.lists(
        st.sampled_from(
            [
                "in",
                "after",
                "per",
                "allowed",
                " ",
                "5",
                "٣",
                "s",
                "00:01:00",
                "1e9",
                ".",
                "try",
                "PT",
                "calls",
                "/",
                "wait",
            ]
        )
    )
)
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
    assert quota_facts((), "exceeded 1,500 calls per hour") == (("allowed", "1500"), ("per_s", "3600"))
    assert len(quota_facts(((b"x-ratelimit-limit", b"1"),) * 50, "")) == 10
