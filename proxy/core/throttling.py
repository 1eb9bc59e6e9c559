"""How long an upstream that has had enough asks to wait, and what it tells of the quota."""

from __future__ import annotations

import calendar
import math
import re
from typing import TYPE_CHECKING, Final

from proxy.core import headers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from proxy.core.model import Fields

THROTTLING_STATUSES: Final = frozenset({429, 503})
"""RFC 6585, 4 and RFC 9110, 15.6.4: the statuses that may say when to come back."""

LONGEST_WAIT_S: Final = 7 * 24 * 3600
"""A longer one is a slip, or a time that is meant otherwise."""

_DELAY: Final = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,9})?")
_READ_AT_MOST: Final = 2048
_FACTS_AT_MOST: Final = 10

_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

# RFC 9110, 5.6.7: a recipient accepts all three forms.
_DATES: Final = (
    re.compile(r"\w{3}, (?P<day>\d\d) (?P<month>\w{3}) (?P<year>\d{4}) (?P<h>\d\d):(?P<m>\d\d):(?P<s>\d\d) GMT"),
    re.compile(r"\w{6,9}, (?P<day>\d\d)-(?P<month>\w{3})-(?P<year>\d\d) (?P<h>\d\d):(?P<m>\d\d):(?P<s>\d\d) GMT"),
    re.compile(r"\w{3} (?P<month>\w{3}) (?P<day>[ \d]\d) (?P<h>\d\d):(?P<m>\d\d):(?P<s>\d\d) (?P<year>\d{4})"),
)

# Milliseconds, as Azure's services have them beside Retry-After or in its place.
_MILLISECONDS: Final = (b"retry-after-ms", b"x-ms-retry-after-ms")
# Seconds until the quota is full again, or the second in which it is.
_RESETS: Final = (b"ratelimit-reset", b"x-ratelimit-reset", b"x-rate-limit-reset")
_EPOCH_FROM_S: Final = 1_000_000_000

# By how a unit begins; the first that fits.
_SECONDS_OF: Final = {"ms": 0.001, "mill": 0.001, "m": 60.0, "h": 3600.0, "s": 1.0, "d": 86400.0}
_CLOCK: Final = r"(?:(?P<days>\d{1,2})[.:])?(?P<h>\d{1,3}):(?P<m>[0-5]\d):(?P<s>[0-5]\d)(?:\.\d+)?"
_COUNT: Final = (
    r"(?P<count>\d{1,7}(?:\.\d{1,7})?)\s*"
    r"(?P<unit>milliseconds?|ms|minutes?|mins?|m|hours?|hrs?|h|days?|d|seconds?|secs?|s)\b"
)
# What the services write: "Try again in 53 seconds", "retry after 00:01:20", "resets in 12 minutes". Where there is no
# such thing, the window of a quota counts, which is the longest that one has to wait: "allowed 45 per 00:01:00".
_WAITS: Final = tuple(
    re.compile(rf"(?i)\b(?:in|after|for|until|within|wait|resets?|remaining|at least)\b[^.;\d]{{0,40}}?{duration}")
    for duration in (_CLOCK, _COUNT)
)
_QUOTA: Final = re.compile(
    r"(?i)\b(?:allowed|limit(?: is| of)?|quota(?: of)?|maximum(?: of)?)\W{0,3}(?P<allowed>\d{1,9})\b"
    rf"[^.;\d]{{0,30}}?\bper\s+(?:{_CLOCK}|(?P<count>\d{{1,4}}\s*)?(?P<unit>seconds?|minutes?|hours?|days?)\b)"
)

_FACT_NAME: Final = re.compile(
    rb"(?:x-)?rate-?limit(?:-[a-z-]+)?|x-ms-ratelimit-[a-z-]+|x-ms-(?:request-charge|resource-unit|throttle-[a-z-]+)"
)
_FACT_VALUE: Final = re.compile(r'[A-Za-z0-9;=,:."%_/ -]{1,96}')


def wait_s(status: int, fields: Fields, message: str, *, now_s: float) -> int | None:
    """Return the whole seconds that a response with one of `THROTTLING_STATUSES` asks to wait, None for any other.

    Believed are, in this order: `Retry-After` in seconds or as a date, milliseconds in Azure's fields, the message, and
    the reset of a rate limit. `now_s` is the time since the epoch, for a response without a `Date` of its own.
    """
    if status not in THROTTLING_STATUSES:
        return None
    seconds = next(_waits_s(fields, message[:_READ_AT_MOST], now_s), None)
    if seconds is None or seconds > LONGEST_WAIT_S:
        return None
    return max(0, math.ceil(seconds))


def _waits_s(fields: Fields, message: str, now_s: float) -> Iterator[float]:
    """Yield every wait that is told, in seconds, the most reliable first."""
    for value in headers.values(fields, b"retry-after"):
        text = value.decode("latin-1").strip()
        if _DELAY.fullmatch(text):
            yield float(text)
        elif (date_s := parsed_date_s(text)) is not None:
            yield date_s - _sent_s(fields, now_s)
    yield from (number / 1000 for number in _numbers(fields, _MILLISECONDS))
    for form in (*_WAITS, _QUOTA):
        if (told := form.search(message)) is not None:
            yield _seconds(told)
    for number in _numbers(fields, _RESETS):
        yield number - _sent_s(fields, now_s) if number >= _EPOCH_FROM_S else number


def _numbers(fields: Fields, names: Iterable[bytes]) -> Iterator[int]:
    for name in names:
        for value in headers.values(fields, name):
            if _DELAY.fullmatch(text := value.decode("latin-1")) and text.isdigit():
                yield int(text)


def quota_facts(fields: Fields, message: str) -> tuple[tuple[str, str], ...]:
    """Return what a throttled response tells of the quota: its rate limit fields, then the message's numbers.

    Source: Azure Resource Manager, "throttling limits"; draft-ietf-httpapi-ratelimit-headers.
    """
    facts = [
        (name.decode("ascii").lower(), value.decode("latin-1"))
        for name, value in fields
        if _FACT_NAME.fullmatch(name.lower()) and _FACT_VALUE.fullmatch(value.decode("latin-1"))
    ][:_FACTS_AT_MOST]
    if (quota := _QUOTA.search(message[:_READ_AT_MOST])) is not None:
        facts += [("allowed", quota["allowed"]), ("per_s", str(math.ceil(_seconds(quota))))]
    return tuple(facts)


def parsed_date_s(text: str) -> int | None:
    """Return an HTTP date as seconds since the epoch, None where it is none (RFC 9110, 5.6.7)."""
    for form in _DATES:
        if (date := form.fullmatch(text)) is None:
            continue
        month, day = _month(date["month"]), int(date["day"])
        year = int(date["year"])
        if year < 100:  # noqa: PLR2004 - two digits; RFC 9110 has more than 50 years ahead mean the past
            year += 1900 if year >= 70 else 2000  # noqa: PLR2004 - the epoch
        hour, minute, second = int(date["h"]), int(date["m"]), int(date["s"])
        if month is None or year < 1970 or not 1 <= day <= calendar.monthrange(year, month)[1] or hour > 23:  # noqa: PLR2004
            return None
        return calendar.timegm((year, month, day, hour, minute, second))
    return None


def _month(name: str) -> int | None:
    return _MONTHS.index(name) + 1 if name in _MONTHS else None


def _sent_s(fields: Fields, now_s: float) -> float:
    """Return when the response was sent: by its own clock, against which its other times are to be read."""
    for value in headers.values(fields, b"date"):
        if (date_s := parsed_date_s(value.decode("latin-1").strip())) is not None:
            return date_s
    return now_s


def _seconds(told: re.Match[str]) -> float:
    """Return the duration that `told` has found, as a clock shows it or as a count of a unit."""
    parts = told.groupdict()
    if parts.get("h") is not None:
        days, hours, minutes, seconds = (int(parts.get(name) or 0) for name in ("days", "h", "m", "s"))
        return ((days * 24 + hours) * 60 + minutes) * 60.0 + seconds
    unit = parts["unit"].lower()
    scale = next(scale for start, scale in _SECONDS_OF.items() if unit.startswith(start))
    return float(parts["count"] or 1) * scale
