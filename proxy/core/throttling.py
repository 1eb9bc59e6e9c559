"""How long an upstream that has had enough asks to wait, and what it tells of the quota."""

from __future__ import annotations

import calendar
import math
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from proxy.core import headers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from proxy.core.model import Fields

THROTTLING_STATUSES: Final = frozenset({429, 503})
"""RFC 6585, 4 and RFC 9110, 15.6.4: the statuses that may say when to come back."""

LONGEST_WAIT_S: Final = 7 * 24 * 3600
"""A longer one is a slip, or a time that is meant otherwise."""

DEFAULT_WAIT_S: Final = 60
"""What a client is told where a 429 gives no usable wait: the documented quotas are in calls per minute."""

_NUMBER: Final = re.compile(r"\+?([0-9]{1,15}(?:\.[0-9]{1,9})?)")
_READ_AT_MOST: Final = 2048
_FACTS_AT_MOST: Final = 10

_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_OF_DAY: Final = r"(?P<h>\d\d):(?P<m>\d\d):(?P<s>\d\d)"

# RFC 9110, 5.6.7: a recipient accepts all three forms. They are also seen in lower case, and with UTC for GMT.
_DATES: Final = tuple(
    re.compile(form, re.ASCII | re.IGNORECASE)
    for form in (
        rf"\w{{3}}, (?P<day>\d\d) (?P<month>\w{{3}}) (?P<year>\d{{4}}) {_OF_DAY} (?:GMT|UTC)",
        rf"\w{{6,9}}, (?P<day>\d\d)-(?P<month>\w{{3}})-(?P<year>\d\d) {_OF_DAY} (?:GMT|UTC)",
        rf"\w{{3}} (?P<month>\w{{3}}) (?P<day>[ \d]\d) {_OF_DAY} (?P<year>\d{{4}})",
    )
)
# ISO 8601, as in RFC 3339, 5.6; one that names no offset is taken for UTC.
_MOMENT: Final = (
    r"(?:[a-z]{3}, \d\d [a-z]{3} \d{4} \d\d:\d\d:\d\d (?:GMT|UTC)|"
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d{1,9})?\s?(?:Z|UTC|GMT|[+-]\d\d:?\d\d)?)"
)
_MOMENT_PARTS: Final = re.compile(
    rf"(?i)(?P<year>\d{{4}})-(?P<month>\d\d)-(?P<day>\d\d)[T ]{_OF_DAY}(?:\.\d+)?\s?"
    r"(?:Z|UTC|GMT|(?P<sign>[+-])(?P<off_h>\d\d):?(?P<off_m>\d\d))?"
)

# Milliseconds, as Azure's services have them beside Retry-After or in its place.
_MILLISECONDS: Final = (b"retry-after-ms", b"x-ms-retry-after-ms")
# Seconds until the quota is full again, or the second (or millisecond) in which it is.
_RESETS: Final = (b"ratelimit-reset", b"x-ratelimit-reset", b"x-rate-limit-reset")
_REMAINDERS: Final = (b"ratelimit-remaining", b"x-ratelimit-remaining", b"x-rate-limit-remaining")
_EPOCH_FROM_S: Final = 1_000_000_000
_EPOCH_FROM_MS: Final = 1_000_000_000_000
# draft-ietf-httpapi-ratelimit-headers: `"burst";r=0;t=4` from -08 on, `limit=10, remaining=0, reset=4` before.
_QUOTA_PARAMETER: Final = re.compile(r"[;, \t](r|t|remaining|reset)\s?=\s?(\d{1,12})(?![\w.])")

# How the services write a length of time, "00:01:20", "PT1M20S", "1 minute and 20 seconds", "1,200 s" or "1m20s".
_CLOCK: Final = r"(?:\d{1,2}[.:])?\d{1,3}:[0-5]\d:[0-5]\d(?:\.\d{1,9})?(?![\d:]|\s?(?:UTC|GMT|Z|[ap]m)\b)"
_ISO: Final = r"PT?\d[\dHMSDTW.]{0,30}[HMSDW](?!\w)"
_UNIT: Final = r"(?:milliseconds?|msecs?|ms|minutes?|mins?|m|hours?|hrs?|h|days?|d|seconds?|secs?|s)(?![a-z_])"
_COUNT: Final = r"(?:\d{1,3}(?:,\d{3}){1,3}|\d{1,9})(?:\.\d{1,9})?"
_PART: Final = rf"{_COUNT}\s?-?{_UNIT}"
_LENGTH: Final = rf"(?:{_CLOCK}|{_ISO}|{_PART}(?:\s?,?\s?(?:and\s)?{_PART}){{0,4}})"
# One is taken whole or not at all: "30 seconds timeout" may not be read as "30 s" of it.
_TOLD: Final = rf"(?P<told>(?>{_MOMENT}|{_LENGTH}))(?!\s*(?:timed?[- ]?out|exceeded|expired|elapsed|ago)\b)"

_CLOCK_PARTS: Final = re.compile(r"(?:(?P<d>\d+)[.:])?(?P<h>\d+):(?P<m>\d+):(?P<s>\d+(?:\.\d+)?)")
_ISO_PARTS: Final = re.compile(
    r"(?i)P(?:(?P<w>\d+)W)?(?:(?P<d>\d+)D)?(?:T(?:(?P<h>\d+)H)?(?:(?P<m>\d+)M)?(?:(?P<s>\d+(?:\.\d+)?)S)?)?"
)
_WORD_PARTS: Final = re.compile(r"([\d.,]*\d)\s?-?([a-z]+)")
_WORDS: Final = re.compile(rf"(?i){_LENGTH}")
_SECONDS_OF_PART: Final = {"w": 604800.0, "d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
# By how a unit begins; the first that fits.
_SECONDS_OF: Final = {"ms": 0.001, "mill": 0.001, "m": 60.0, "h": 3600.0, "s": 1.0, "d": 86400.0}

_ABOUT: Final = r"(?:\s+(?:about|approximately|around|at\s+least|another|the\s+next))?"
# What may stand between such a phrase and its time: "try your request again in", "retry the same call after".
_OBJECT: Final = (
    r"(?:\s+(?:again|later|once|more|online|up|your|the|this|that|it|an?|another|same|api"
    r"|requests?|calls?|query|queries|operations?|commands?|actions?)){0,4}"
)
# Phrases about coming back. A wait is told by these alone in a 503, whose texts are full of other times.
_RETRY: Final = re.compile(
    r"(?i)\b(?:"
    r"(?:re-?try|try|(?<!respond )again|replenish(?:es|ed)|renew(?:s|ed)|refresh(?:es|ed)|refill(?:s|ed)|lifted"
    r"|restored|resumes?|resets|(?:be|will|quota|limit|window)\s+reset|be\s+(?:available|back))"
    # A clock behind `at` is a time of the day.
    rf"{_OBJECT}\s+(?:(?:in|after|for|until|within){_ABOUT}\s*+:?|(?:at|on)\s+(?=\d{{4}}-|[a-z]{{3}},))"
    r"|retry-?_?after\W{1,3}"
    r"|(?<!max )(?<!maximum )wait(?:\s+(?:time|period|for|until|at\s+least|about|another|of|is)){0,3}\s*+[:=]?"
    r"|(?:time|period)\s+remaining(?:\s+is)?\s*+[:=]?|remaining\s+(?:time|period)(?:\s+is)?\s*+[:=]?"
    rf")\s*{_TOLD}"
)
# What is enough in a 429.
_LATER: Final = re.compile(rf"(?i)\b(?:in|after|for|until){_ABOUT}\s+{_TOLD}")
# Calls in a length of time: "maximum allowed 45 per 00:01:00", "exceeded 1,500 API calls per hour", "10 calls/minute".
_QUOTA: Final = re.compile(
    r"(?i)(?P<lead>\b(?:allowed|limit(?: is| of)?|quota(?: of)?|max(?:imum)?(?: of)?|exceeded|more than|up to|at most)"
    r"\W{0,3})?"
    r"(?<![\w.,:])(?P<allowed>\d{1,3}(?:,\d{3}){1,3}|\d{1,9})"
    r"(?P<noun>\s+(?:[a-z]+\s+){0,2}?(?:calls?|requests?|queries|query|operations?|transactions?|actions?|executions?)\b)?"
    r"(?:\s+(?:are|is|were))?(?:\s+(?:allowed|permitted))?"
    r"(?:\s*/\s*|\s+(?:per|every|each|an?|(?P<within>(?:with)?in(?:\s+(?:an?|any|the\s+last|the))?))\s+)"
    rf"(?:(?P<told>{_LENGTH})|(?P<unit>{_UNIT}))"
)
# A time in a sentence that has one of these is how long something took, or may take.
_TIMED: Final = re.compile(r"(?i)\btime[ds]?[ -]?out|\brespon[ds]|\bdeadline|\belapsed|\btook\b|\bunreachable|\bidle\b")
_SENTENCE_END: Final = re.compile(r"[.!?;](?=\s|$)|\n")

_FACT_NAME: Final = re.compile(
    rb"(?:x-)?rate-?limit(?:-[a-z-]+)?|x-ms-ratelimit-[a-z-]+|x-ms-(?:request-charge|resource-unit|throttle-[a-z-]+)"
)
_FACT_VALUE: Final = re.compile(r'[A-Za-z0-9;=,:."%_/ -]{1,96}')


def wait_s(status: int, fields: Fields, message: str, *, now_s: float) -> int | None:
    """Return the whole seconds that a response with one of `THROTTLING_STATUSES` asks to wait, None for any other.

    Believed are, in this order: `Retry-After`, milliseconds in Azure's fields, a time to come back in the message, the
    reset of a rate limit, and the window of a quota that the message names, which is the longest that one has to wait.
    Each is passed over where it is none, or longer than `LONGEST_WAIT_S`. `now_s` is the time since the epoch, for a
    response without a `Date` of its own.
    """
    if status not in THROTTLING_STATUSES:
        return None
    sent_s = _sent_s(fields, now_s)
    waits_s = _waits_s(status, fields, message[:_READ_AT_MOST], sent_s)
    return next((max(0, math.ceil(wait)) for wait in waits_s if wait <= LONGEST_WAIT_S), None)


def with_wait(status: int, fields: Fields, told_s: int | None) -> Fields:
    """Return the `fields` of a response with `Retry-After` in seconds (RFC 9110, 10.2.3) where it has to do with waits.

    `told_s` is what `wait_s` has found. Where that is nothing, a 429 gets `DEFAULT_WAIT_S`, and a 503, which may last
    for any time, loses a field that nobody can use.
    """
    if status not in THROTTLING_STATUSES:
        return fields
    if told_s is None and status != HTTPStatus.TOO_MANY_REQUESTS:
        return tuple(line for line in fields if line[0].lower() != b"retry-after")
    return headers.set_in_place(fields, b"Retry-After", b"%d" % (DEFAULT_WAIT_S if told_s is None else told_s))


def _waits_s(status: int, fields: Fields, message: str, sent_s: float) -> Iterator[float]:
    """Yield every wait that is told, in seconds, the most reliable first."""
    told = (_told_s(text, sent_s) for text in _texts(fields, (b"retry-after",)))
    usable = [wait for wait in told if wait is not None and wait <= LONGEST_WAIT_S]
    # There should be one. Whoever comes back too early is throttled again.
    yield from sorted(usable, reverse=True)
    yield from (
        float(number[1]) / 1000 for text in _texts(fields, _MILLISECONDS) if (number := _NUMBER.fullmatch(text))
    )
    for found in _RETRY.finditer(message):
        yield from _only(_told_s(found["told"], sent_s))
    is_busy = status == HTTPStatus.TOO_MANY_REQUESTS
    if is_busy or _is_used_up(fields):
        resets = (_told_s(text, sent_s) for text in _texts(fields, _RESETS))
        # One that is past says nothing of the quota that is full now.
        yield from (reset for reset in resets if reset is not None and reset >= 0)
        yield from _resets_s(fields, is_busy=is_busy)
    if is_busy:
        for found in _LATER.finditer(_untimed(message)):
            yield from _only(_told_s(found["told"], sent_s))
    if (quota := _quota(message)) is not None:
        yield _window_s(quota)


def _only(wait: float | None) -> Iterable[float]:
    return () if wait is None else (wait,)


def _texts(fields: Fields, names: Iterable[bytes]) -> Iterator[str]:
    """Yield what each line called one of `names` says, a list of numbers one by one, parameters left out."""
    for name in names:
        for value in headers.values(fields, name):
            text = value.decode("latin-1")[:_READ_AT_MOST].partition(";")[0].strip()
            parts = [part.strip() for part in text.split(",")]
            yield from parts if all(map(_NUMBER.fullmatch, parts)) else [text]


def _is_used_up(fields: Fields) -> bool:
    """Whether no field says that there is quota left: services tell of their limits in any response."""
    return all(
        number[1].strip("0.") == "" for text in _texts(fields, _REMAINDERS) if (number := _NUMBER.fullmatch(text))
    )


def _resets_s(fields: Fields, *, is_busy: bool) -> list[float]:
    """Return the time until each quota of `RateLimit` resets: of those that are used up the longest first.

    Where none says that it is used up, one of them must be all the same if `is_busy`: the soonest first.
    """
    used_up: list[float] = []
    others: list[float] = []
    # A quota is a member of the list in the later form, the whole value in the former one.
    value = headers.joined(fields, b"ratelimit")[:_READ_AT_MOST]
    for member in [value] if "reset" in value else value.split(","):
        told = dict(_QUOTA_PARAMETER.findall(" " + member))
        left, reset = told.get("r", told.get("remaining")), told.get("t", told.get("reset"))
        if reset is not None:
            (used_up if left is not None and int(left) == 0 else others).append(float(reset))
    return sorted(used_up, reverse=True) or (sorted(others) if is_busy else [])


def _quota(message: str) -> re.Match[str] | None:
    """Return the first quota that `message` names: so many calls per length of time.

    So many calls within a time are one only where it says that there may not be more: else it is what was done.
    """
    named = _QUOTA.finditer(_untimed(message))
    return next((found for found in named if found["lead"] or (found["noun"] and not found["within"])), None)


def _window_s(quota: re.Match[str]) -> float:
    return _length_s(quota["told"] or "1 " + quota["unit"]) or 0.0


def _untimed(message: str) -> str:
    """Return `message` without the sentences that are about how long something takes."""
    return "\n".join(sentence for sentence in _SENTENCE_END.split(message) if not _TIMED.search(sentence))


def quota_facts(fields: Fields, message: str) -> tuple[tuple[str, str], ...]:
    """Return what a throttled response tells of the quota: its rate limit fields, then the message's numbers.

    Source: Azure Resource Manager, "throttling limits"; draft-ietf-httpapi-ratelimit-headers.
    """
    facts = [
        (name.decode("ascii").lower(), value.decode("latin-1"))
        for name, value in fields
        if _FACT_NAME.fullmatch(name.lower()) and _FACT_VALUE.fullmatch(value.decode("latin-1"))
    ][:_FACTS_AT_MOST]
    if (quota := _quota(message[:_READ_AT_MOST])) is not None:
        facts += [("allowed", quota["allowed"].replace(",", "")), ("per_s", str(math.ceil(_window_s(quota))))]
    return tuple(facts)


def _told_s(text: str, sent_s: float) -> float | None:
    """Return the seconds from `sent_s` on that `text` says in one of the forms of a time, None for any other text."""
    if (number := _NUMBER.fullmatch(text)) is not None:
        value = float(number[1])
        if value < _EPOCH_FROM_S:
            return value
        # One that is past is a slip, rather than a way to say now.
        left_s = (value / 1000 if value >= _EPOCH_FROM_MS else value) - sent_s
        return left_s if left_s >= 0 else None
    moment_s = parsed_date_s(text)
    if moment_s is None:
        moment_s = _moment_s(text)
    return _length_s(text) if moment_s is None else moment_s - sent_s


def _length_s(text: str) -> float | None:
    """Return a length of time in seconds, as a clock shows it, as in ISO 8601, or as counts of units."""
    for form in (_CLOCK_PARTS, _ISO_PARTS):
        if (told := form.fullmatch(text)) is not None:
            parts = {name: float(number) for name, number in told.groupdict().items() if number is not None}
            return sum(number * _SECONDS_OF_PART[name] for name, number in parts.items()) if parts else None
    if _WORDS.fullmatch(text) is None:
        return None
    return sum(float(count.replace(",", "")) * _unit_s(unit) for count, unit in _WORD_PARTS.findall(text.lower()))


def _unit_s(unit: str) -> float:
    return next((scale for start, scale in _SECONDS_OF.items() if unit.startswith(start)), 0.0)


def parsed_date_s(text: str) -> int | None:
    """Return an HTTP date as seconds since the epoch, None where it is none (RFC 9110, 5.6.7)."""
    for form in _DATES:
        if (date := form.fullmatch(text)) is None:
            continue
        if date["month"].lower() not in _MONTHS:
            return None
        year = int(date["year"])
        if year < 100:  # noqa: PLR2004 - two digits; RFC 9110 has more than 50 years ahead mean the past
            year += 1900 if year >= 70 else 2000  # noqa: PLR2004 - the epoch
        return _seconds_of_date(date, year, _MONTHS.index(date["month"].lower()) + 1)
    return None


def _moment_s(text: str) -> int | None:
    """Return a date and time of ISO 8601 as seconds since the epoch, None where it is none."""
    if (date := _MOMENT_PARTS.fullmatch(text)) is None:
        return None
    seconds = _seconds_of_date(date, int(date["year"]), int(date["month"]))
    if seconds is None or date["sign"] is None:
        return seconds
    offset_s = int(date["off_h"]) * 3600 + int(date["off_m"]) * 60
    return seconds - offset_s if date["sign"] == "+" else seconds + offset_s


def _seconds_of_date(date: re.Match[str], year: int, month: int) -> int | None:
    day, hour, minute, second = int(date["day"]), int(date["h"]), int(date["m"]), int(date["s"])
    if year < 1970 or not 1 <= month <= 12 or hour > 23:  # noqa: PLR2004
        return None
    if not 1 <= day <= calendar.monthrange(year, month)[1]:
        return None
    return calendar.timegm((year, month, day, hour, minute, second))


def _sent_s(fields: Fields, now_s: float) -> float:
    """Return when the response was sent: by its own clock, against which its other times are to be read."""
    for value in headers.values(fields, b"date"):
        if (date_s := parsed_date_s(value.decode("latin-1").strip())) is not None:
            return date_s
    return now_s
