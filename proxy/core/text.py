"""Text as it is shown to people: bounded, and harmless to a terminal."""

from __future__ import annotations


def shortened(text: str, limit: int = 256) -> str:
    """Return `text` in at most `limit` characters; of a longer one the last of them is `…`."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def printable(text: str) -> str:
    """Return `text` with what would steer a terminal or break the line escaped."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
