"""What a person would read of an HTML or XML page: its elements' text, never the mark-up."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

READ_AT_MOST: Final = 32 * 1024
"""How many characters of a page are looked at; a title stands at its beginning."""

_ELEMENTS_AT_MOST: Final = 1000
_TEXT_LENGTH_AT_MOST: Final = 2048

# `[^<>]` and not `[^>]`: a page of nothing but `<` is then read in one pass.
_TAG: Final = re.compile(r"<(/?)([A-Za-z_][^\s<>/]*)([^<>]*)>")
_SPACE: Final = re.compile(r"\s+")
_IS_HTML: Final = re.compile(r"<\s*(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE)
_IS_XML: Final = re.compile(r"<\?xml\b|<!DOCTYPE\s+(?!html)|<[A-Za-z_][\w.:-]*(?:\s[^<>]*)?/?>", re.IGNORECASE)

# Elements whose content nobody reads, with what ends them.
_UNREAD: Final = frozenset({"script", "style", "template", "svg", "noscript"})


def is_html(text: str) -> bool:
    """Whether `text` is an HTML page by its first words, whatever its type says."""
    return _IS_HTML.search(text[:1024]) is not None


def is_xml(text: str) -> bool:
    """Whether `text` begins as an XML document."""
    return _IS_XML.match(text.lstrip()[:1024]) is not None


def first_texts(text: str) -> dict[str, str]:
    """Return the text of the first element of each name that holds any, and of the whole page under an empty name.

    Names are local ones (`m:code` is `code`) in lower case, in the order in which the elements end. No document type is
    read, and so no entity but the predefined ones; comments and scripts are passed over. Any text is answered.
    """
    found: dict[str, str] = {}
    words: list[str] = []
    open_at: list[tuple[str, int]] = []
    for name, is_end, piece in _pieces(text[:READ_AT_MOST]):
        if piece:
            words.append(piece)
        if not name:
            continue
        if not is_end:
            open_at.append((name, len(words)))
            continue
        depth = next((index for index in range(len(open_at) - 1, -1, -1) if open_at[index][0] == name), None)
        if depth is None:
            continue
        begun = open_at[depth][1]
        del open_at[depth:]
        if name not in found and (content := _readable(words[begun:])):
            found[name] = content
    for name, begun in reversed(open_at):
        # A page that breaks off: what an element has had so far.
        if name not in found and (content := _readable(words[begun:])):
            found[name] = content
    found[""] = _readable(words)
    return found


def first_of(found: dict[str, str], names: Sequence[str]) -> str | None:
    """Return the text of the first of `names` that `first_texts` has found, None if there is none."""
    return next((found[name] for name in names if found.get(name)), None)


def _pieces(text: str) -> Iterator[tuple[str, bool, str]]:
    """Yield each tag's name, whether it ends an element, and the text before it; the last one has no name."""
    position = 0
    gathered = ""
    for _ in range(_ELEMENTS_AT_MOST):
        start = text.find("<", position)
        if start < 0:
            break
        gathered += text[position:start]
        if text.startswith("<!--", start):
            position = _behind(text, "-->", start)
            continue
        if text.startswith("<![CDATA[", start):
            position = _behind(text, "]]>", start)
            gathered += html.escape(text[start + 9 : position].removesuffix("]]>"), quote=False)
            continue
        tag = _TAG.match(text, start)
        if tag is None:
            # A declaration, an instruction, or a sign that nobody escaped.
            position = _behind_declaration(text, start) if text[start + 1 : start + 2] in {"!", "?"} else start + 1
            continue
        name = tag[2].rpartition(":")[2].lower()
        position = tag.end()
        if name in _UNREAD and not tag[1]:
            position = _behind(text, ">", _behind(text, f"</{tag[2]}", position))
            continue
        if tag[3].rstrip().endswith("/"):
            gathered += " "
            continue
        yield name, bool(tag[1]), gathered
        gathered = ""
    else:
        return
    yield "", False, gathered + text[position:]


def _behind_declaration(text: str, start: int) -> int:
    """Return where `text` goes on behind a declaration, the brackets of a document type included."""
    end = _behind(text, ">", start)
    return _behind(text, "]>", start) if "[" in text[start:end] else end


def _behind(text: str, end: str, start: int) -> int:
    """Return where `text` goes on behind the next `end`; its own end where there is none."""
    found = text.find(end, start)
    return len(text) if found < 0 else found + len(end)


def _readable(words: Sequence[str]) -> str:
    text = _SPACE.sub(" ", html.unescape(" ".join(words))).strip()
    return text if len(text) <= _TEXT_LENGTH_AT_MOST else text[: _TEXT_LENGTH_AT_MOST - 1] + "…"
