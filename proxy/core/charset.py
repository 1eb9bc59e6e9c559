"""Content as text: by its byte order mark, by what its type claims, or by how it looks."""

from __future__ import annotations

import codecs
import re
from typing import Final

# RFC 3629, 6 and RFC 2781, 3.2. UTF-32 comes first: its mark for little-endian begins with that of UTF-16.
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

# What a type may claim, by the names of the WHATWG's Encoding Standard: its `iso-8859-1` and `us-ascii` are
# windows-1252, as senders mean that. UTF-16 without a mark is little-endian there.
_CLAIMED: Final = {
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "us-ascii": "cp1252",
    "iso-8859-1": "cp1252",
    "latin1": "cp1252",
    "windows-1252": "cp1252",
    "iso-8859-15": "iso8859-15",
    "utf-16": "utf-16-le",
    "utf-16le": "utf-16-le",
    "utf-16be": "utf-16-be",
}

_CHARSET: Final = re.compile(r';\s*charset\s*=\s*"?([A-Za-z0-9_.:-]+)', re.IGNORECASE)
_CONTROLS: Final = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f]")


def as_text(content: bytes, media_type: str) -> str | None:
    """Return `content`, which no coding covers, as text without its byte order mark; None where it is no text.

    `media_type` is the value of `Content-Type`, or empty. A mark is believed before the type, as it is in browsers.
    """
    encoding = None
    for mark, named in _MARKS:
        if content.startswith(mark):
            content, encoding = content[len(mark) :], named
            break
    else:
        encoding = _by_zeros(content)
        if encoding is None and (claim := _CHARSET.search(media_type)) is not None:
            encoding = _CLAIMED.get(claim[1].lower())
    for candidate in filter(None, (encoding, "utf-8", "cp1252")):
        try:
            text = content.decode(candidate)
        except UnicodeDecodeError:
            continue
        return None if _CONTROLS.search(text) else text
    return None


def _by_zeros(content: bytes) -> str | None:
    """Return the UTF-16 that `content` seems to be in: one of its first two characters is ASCII (RFC 4627, 3)."""
    zeros = [byte == 0 for byte in content[:2]]
    if zeros == [True, False]:
        return "utf-16-be"
    return "utf-16-le" if zeros == [False, True] else None
