"""Content as text: by its byte order mark, by its zeros, by what it or its type claims, or by how it looks."""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING, Final

from proxy.core.headers import is_json_media_type

if TYPE_CHECKING:
    from collections.abc import Iterator

# RFC 3629, 6 and RFC 2781, 3.2. UTF-32 comes first: its mark for little-endian begins with that of UTF-16.
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

# RFC 4627, 3: where the zeros are in text that begins with an ASCII character; the longer pattern first.
_ZEROS: Final = (
    ((True, True, True, False), "utf-32-be"),
    ((False, True, True, True), "utf-32-le"),
    ((True, False), "utf-16-be"),
    ((False, True), "utf-16-le"),
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
# `<meta charset="...">`, `<meta http-equiv="Content-Type" content="text/html; charset=...">`, `<?xml encoding="..."?>`.
_OWN_CLAIM: Final = re.compile(
    rb"""<(?:meta|\?xml)\b[^<>]{0,200}?\b(?:charset|encoding)\s*=\s*["']?\s*([A-Za-z0-9_.:-]{1,40})""", re.IGNORECASE
)
# HTML, "determining the character encoding": it stands within so many bytes.
_CLAIMED_WITHIN_BYTES: Final = 1024

_CONTROLS: Final = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_LOST: Final = "\ufffd"
_BEYOND_ASCII: Final = re.compile(f"[^\x00-\x7f{_LOST}]")
# Of text with more damage than this, the encoding was another one.
_LOST_AT_MOST: Final = 1 / 8


def as_text(content: bytes, media_type: str) -> str | None:
    """Return `content`, which no coding covers, as text without its byte order mark; None where it is no text.

    `media_type` is the value of `Content-Type`, or empty. A mark is believed first, as it is in browsers, then zeros
    that only UTF-16 and UTF-32 have. JSON is UTF-8 whatever its type says: a `charset` has no meaning there (RFC 8259,
    8.1 and 11), and is asked only about what cannot be UTF-8. Other text is what the type claims, else what a page
    claims itself, else UTF-8, else windows-1252. A byte that is wrong in an encoding that is right otherwise becomes
    one U+FFFD.
    """
    text = next((text for text in _readings(content, media_type) if text is not None), None)
    return None if text is None or _CONTROLS.search(text) else text


def _readings(content: bytes, media_type: str) -> Iterator[str | None]:
    """Yield what `content` reads as, the most likely first; None where it cannot be read so."""
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            content = content[len(mark) :]
            yield _strictly(content, encoding) or _loosely(content, encoding)
    zeros = tuple(byte == 0 for byte in content[:4])
    for pattern, encoding in _ZEROS:
        if zeros[: len(pattern)] == pattern:
            yield _strictly(content, encoding) or _loosely(content, encoding)
    claimed = _claimed(content, media_type)
    if claimed is not None and not _is_json(content, media_type):
        yield _strictly(content, claimed)
    yield _strictly(content, "utf-8")
    text = content.decode(errors="replace")
    # Letters of windows-1252 make no character of UTF-8, but for a rare pair; UTF-8 that is damaged has whole ones.
    if text.count(_LOST) <= len(_BEYOND_ASCII.findall(text)):
        yield text
    if claimed is not None:
        yield _strictly(content, claimed) or (_loosely(content, claimed) if claimed.startswith("utf-16") else None)
    yield _strictly(content, "cp1252")
    yield _loosely(content, "utf-8")


def _claimed(content: bytes, media_type: str) -> str | None:
    """Return the encoding that the type claims, or else the page itself; None for one that is not to be believed."""
    if (claim := _CHARSET.search(media_type)) is not None:
        encoding = _CLAIMED.get(claim[1].lower())
        # UTF-16 whose bytes are ASCII one by one, none of them zero, would be rare Chinese without a space or a stop.
        is_ascii = content.isascii() and b"\0" not in content
        return None if is_ascii and encoding is not None and encoding.startswith("utf-16") else encoding
    if (own := _OWN_CLAIM.search(content, 0, _CLAIMED_WITHIN_BYTES)) is not None:
        encoding = _CLAIMED.get(own[1].decode("ascii").lower())
        # It could be read byte by byte, and so it is no UTF-16: HTML takes that for UTF-8.
        return "utf-8" if encoding is not None and encoding.startswith("utf-16") else encoding
    return None


def _is_json(content: bytes, media_type: str) -> bool:
    """Whether `content` is meant as JSON: by its type, or by how it begins."""
    return is_json_media_type(media_type) or content.lstrip(b" \t\r\n")[:1] in {b"{", b"["}


def _strictly(content: bytes, encoding: str) -> str | None:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        return None


def _loosely(content: bytes, encoding: str) -> str | None:
    """Return `content` with what is damaged replaced, None where that is too much of it."""
    text = content.decode(encoding, errors="replace")
    return text if text.count(_LOST) <= _LOST_AT_MOST * len(text) else None
