"""What a client would rather have, by its `Accept`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from proxy.core import headers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.core.model import Fields

PROBLEM: Final = "application/problem+json"
"""Problem details (RFC 9457)."""

_JSON: Final = "application/json"

_RANGES_AT_MOST: Final = 100

# RFC 9110, 12.4.2: up to three decimals.
_WEIGHT: Final = re.compile(r"0(?:\.\d{0,3})?|1(?:\.0{0,3})?")


def prefers_problem(fields: Fields) -> bool:
    """Whether a request's `fields` rate `application/problem+json` above `application/json`.

    Equal weights do not: `*/*`, and lists of both. Source: RFC 9110, 12.5.1, where the most specific range holds.
    """
    accepted = headers.joined(fields, b"accept")
    if "problem" not in accepted.lower():
        return False
    ranges = list(_ranges(accepted))
    return _weight(ranges, PROBLEM) > _weight(ranges, _JSON)


def _ranges(accepted: str) -> Iterator[tuple[str, float]]:
    for item in accepted.split(",")[:_RANGES_AT_MOST]:
        media_range, *parameters = (part.strip(" \t").lower() for part in item.split(";"))
        weight = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.rstrip(" \t") == "q":
                value = value.strip(" \t")
                # What is no weight is no wish.
                weight = float(value) if _WEIGHT.fullmatch(value) else 0.0
        yield media_range, weight


def _weight(ranges: list[tuple[str, float]], media_type: str) -> float:
    """Return what the most specific range that covers `media_type` gives it, 0 where none does."""
    group = media_type.partition("/")[0] + "/*"
    for covering in (media_type, group, "*/*"):
        weights = [weight for media_range, weight in ranges if media_range == covering]
        if weights:
            return max(weights)
    return 0.0
