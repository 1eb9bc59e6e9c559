"""What a person would read of an HTML or XML page: its elements' text, never the mark-up."""

from __future__ import annotations

import html
import re
from collections import Counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

READ_AT_MOST: Final = 32 * 1024
"""How many characters of a page are looked at; a title stands at its beginning."""

_ELEMENTS_AT_MOST: Final = 1000
_TEXT_LENGTH_AT_MOST: Final = 2048

# `[^<>]` and not `[^>]`: a page of nothing but `<` is then read in one pass. Neither part gives back what it has taken:
# both can take the same characters, and a tag that never ends would be tried at every border between them.
_TAG: Final = re.compile(r"<(/?)([A-Za-z_][^\s<>/]*+)([^<>]*+)>")
_SPACE: Final = re.compile(r"\s+")
# No character has that many digits, and Python refuses to read a number of more than 4,300.
_NO_CHARACTER: Final = re.compile(r"&#[0-9]{9,}+;?")
_IS_HTML: Final = re.compile(r"<\s*(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE)
_IS_XML: Final = re.compile(r"<\?xml\b|<!DOCTYPE\s++(?!html)|<[A-Za-z_][\w.:-]*(?:\s[^<>]*)?/?>", re.IGNORECASE)

# Elements whose content nobody reads, with what ends them.
_UNREAD: Final = {
    name: re.compile(rf"</{name}\b", re.IGNORECASE) for name in ("script", "style", "template", "svg", "noscript")
}


def is_html(text: str) -> bool:
    """Whether `text` is an HTML page by its first words, whatever its type says."""
    return _IS_HTML.search(text[:1024]) is not None


def is_xml(text: str) -> bool:
    """Whether `text` begins as an XML document."""
    return _IS_XML.match(text.lstrip()[:1024]) is not None


def first_texts(text: str, names: Collection[str]) -> dict[str, str]:
    """Return the text of the first element of each of `names` that holds any, and of the whole page under an empty one.

    `names` are local ones (`m:code` is `code`) in lower case; the answer is in the order in which the elements end. An
    element that nobody ends does so with the one around it, or with the page. No document type is read, and so no
    entity but the predefined ones; comments and scripts are passed over. Any text is answered, in time that its length
    bounds: each piece of it is read once, and joined with others once for each of `names`.
    """
    found: dict[str, str] = {}
    words: list[str] = []
    open_at: list[tuple[str, int]] = []
    how_many_open: Counter[str] = Counter()

    def end_last() -> str:
        name, begun = open_at.pop()
        how_many_open[name] -= 1
        if name in names and name not in found and len(words) > begun:
            found[name] = _bounded(" ".join(words[begun:]))
        return name

    for name, is_end, piece in _pieces(text[:READ_AT_MOST]):
        if content := _readable(piece):
            words.append(content)
        if name and not is_end:
            open_at.append((name, len(words)))
            how_many_open[name] += 1
        elif how_many_open[name]:
            while end_last() != name:
                pass
    while open_at:
        end_last()
    found[""] = _bounded(" ".join(words))
    return found


def first_of(found: dict[str, str], names: Sequence[str]) -> str | None:
    """Return the text of the first of `names` that `first_texts` has found, None if there is none."""
    return next((found[name] for name in names if found.get(name)), None)


def _pieces(text: str) -> Iterator[tuple[str, bool, str]]:
    """Yield each tag's name, whether it ends an element, and the text before it; the last one has no name."""
    position = 0
    gathered: list[str] = []
    for _ in range(_ELEMENTS_AT_MOST):
        start = text.find("<", position)
        if start < 0:
            break
        gathered.append(text[position:start])
        if text.startswith("<!--", start):
            position = _behind(text, "-->", start)
            continue
        if text.startswith("<![CDATA[", start):
            position = _behind(text, "]]>", start)
            gathered.append(html.escape(text[start + 9 : position].removesuffix("]]>"), quote=False))
            continue
        tag = _TAG.match(text, start)
        if tag is None:
            # A declaration, an instruction, or a sign that nobody escaped.
            position = _behind_declaration(text, start) if text[start + 1 : start + 2] in {"!", "?"} else start + 1
            continue
        name = tag[2].rpartition(":")[2].lower()
        position = tag.end()
        if tag[3].rstrip().endswith("/"):
            gathered.append(" ")
            continue
        if not tag[1] and (unread := _UNREAD.get(tag[2].lower())) is not None:
            end = unread.search(text, position)
            position = _behind(text, ">", end.end()) if end else len(text)
            continue
        yield name, bool(tag[1]), "".join(gathered)
        gathered.clear()
    else:
        return
    yield "", False, "".join(gathered) + text[position:]


def _behind_declaration(text: str, start: int) -> int:
    """Return where `text` goes on behind a declaration, the brackets of a document type included."""
    end = _behind(text, ">", start)
    return _behind(text, "]>", start) if "[" in text[start:end] else end


def _behind(text: str, end: str, start: int) -> int:
    """Return where `text` goes on behind the next `end`; its own end where there is none."""
    found = text.find(end, start)
    return len(text) if found < 0 else found + len(end)


def _readable(piece: str) -> str:
    """Return `piece` on one line, its references resolved."""
    return _SPACE.sub(" ", html.unescape(_NO_CHARACTER.sub("\ufffd", piece))).strip()


def _bounded(text: str) -> str:
    return text if len(text) <= _TEXT_LENGTH_AT_MOST else text[: _TEXT_LENGTH_AT_MOST - 1] + "…"
