"""What can be wrong with settings, and how it is told: on one line, with a remedy, and without a secret.

Owns how keys and values are written for people. `proxy.settings` declares the keys and hands them over as `Keys`.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import yaml

from proxy.errors import UnusableInputError
from proxy.settings_values import MAX_INTEGER, closest

if TYPE_CHECKING:
    from collections.abc import Iterable

Key: TypeAlias = tuple[str, ...]
"""The names of a key or a section, from the outside in."""

Loc: TypeAlias = tuple[str | int, ...]
"""Where something stands: names, known or not, and the index of a list's element."""

OPERATIONS: Final[Key] = ("check", "operations")
"""The key that holds a mapping, which is merged from all layers."""

FILES: Final[Key] = ("catalog", "files")
"""The key that holds a list; a later layer's replaces it."""

PATHS: Final[frozenset[Key]] = frozenset(
    {
        ("tls", "certificate"),
        ("tls", "key"),
        ("upstream", "ca_file"),
        ("upstream", "client_certificate"),
        ("upstream", "client_key"),
    }
)
"""The keys that hold one path each, or nothing."""

_MAX_SHOWN: Final = 100
_SECRET: Final = re.compile(r"(?i)pass|pwd|secret|token|credential|api_?key|authori[sz]ation|cookie|bearer")
_SCHEME: Final = re.compile(r"[^A-Za-z0-9]*[A-Za-z][A-Za-z0-9+.-]*:?//+")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with the settings, fit to be printed on one line.

    `key` is dotted, `config` for the file as a whole; `value` is as given, secrets masked, and empty where there is
    none to show; `origin` is `FILE:LINE`, a variable, a flag or `default`; `message` is the remedy.
    """

    key: str
    value: str
    origin: str
    message: str

    def __str__(self) -> str:
        given = f"{self.key} = {self.value}" if self.value else self.key
        return ": ".join(filter(None, (self.origin, given, self.message)))


class SettingsError(UnusableInputError):
    """The settings cannot be used; `problems` says why, at least once, one line each."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys that there are: leaves hold a value, sections hold leaves; both in the order of the file."""

    leaves: tuple[Key, ...]
    sections: tuple[Key, ...]

    def know(self, loc: Loc) -> bool:
        """Whether `loc` is a key, or stands within one that holds a collection."""
        return loc in self.leaves or loc in self.sections or loc[:2] in {OPERATIONS, FILES}

    def first(self, section: Loc) -> Key:
        """Return the first key of a section, for an example."""
        return next(leaf for leaf in self.leaves if leaf[:1] == section)

    def meant(self, loc: Loc) -> Key | None:
        """Return the key that an unknown one resembles: spelt alike, of the same name elsewhere, or near by difflib."""
        written = ".".join(str(part)[:_MAX_SHOWN] for part in loc)
        by_squashed = {_squashed(".".join(known)): known for known in (*self.sections, *self.leaves)}
        if exact := by_squashed.get(_squashed(written)):
            return exact
        name = re.split(r"\.|__", written.lower())[-1]
        namesakes = {".".join(known): known for known in self.leaves if known[-1] == name}
        if namesakes:
            return namesakes[difflib.get_close_matches(written, namesakes, n=1, cutoff=0)[0]]
        siblings = {known[-1]: known for known in (*self.sections, *self.leaves) if known[:-1] == loc[:-1]}
        if near := closest(str(loc[-1]).lower()[:_MAX_SHOWN], siblings):
            return siblings[near]
        near = closest(_squashed(written), (name for name, known in by_squashed.items() if known != loc[:-1]))
        return by_squashed[near] if near else None

    def remedy(self, loc: Loc) -> str:
        """Return what to do about a key that is unknown."""
        if (meant := self.meant(loc)) is not None:
            if ".".join(map(str, loc)) == ".".join(meant):
                return f"must be nested: `{meant[-1]}:` under `{meant[0]}:`"
            return f"must be a known key; did you mean {dotted(meant)}?"
        known = ", ".join(key[-1] for key in (*self.leaves, *self.sections) if key[:-1] == loc[:-1])
        return f"must be a known key: {known}" if known else "must be a known key"

    def masked(self, loc: Loc, text: str) -> str:
        """Return `text` without what may be a secret: user name, password and query of a URL, or all of it."""
        if not self.know(loc) and _SECRET.search(".".join(map(str, loc))):
            return "***"
        if loc != ("upstream", "url") and "//" not in text and not re.search(r":.*@", text, re.DOTALL):
            return text
        scheme = match[0] if (match := _SCHEME.match(text)) else ""
        rest = text[len(scheme) :]
        before, at, host = rest.rpartition("@")
        if at:
            if re.search(r"[?#]", before):
                return f"{scheme}***"
            rest = f"***@{host}"
        return scheme + re.sub(r"([?#]).+", r"\1***", rest, count=1, flags=re.DOTALL)

    def shown(self, loc: Loc, text: str) -> str:
        """Return the text of a value as it may be shown: on one line, bounded, secrets masked."""
        if (loc in self.sections or not self.know(loc)) and text.lstrip().startswith(("{", "[")):
            return "{…}"  # nobody knows what is in there
        return one_line(self.masked(loc, text))


def one_line(text: str) -> str:
    """Return `text` on one line, bounded, without control characters; as it is where it is harmless."""
    short = text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"
    return short if short and short.isprintable() and short == short.strip() else repr(short)


def dotted(loc: Loc) -> str:
    """Return a location as a message names it: `check.operations.updateAlert`, `catalog.files[1]`."""
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f"{'.' if text else ''}{one_line(part)}"
    return text


def scalar(value: object) -> str:
    """Return the value of a key as one line of YAML, which reads back as the same."""
    plain: object = value
    match value:
        case float() if value.is_integer() and value <= MAX_INTEGER:
            plain = int(value)
        case Mapping():
            plain = {name: str(mode) for name, mode in value.items()}
        case tuple():
            plain = [str(path) for path in value]
        case bool() | int() | float() | None:
            pass
        case _:
            plain = str(value)
    for style in (None, '"'):
        text = yaml.safe_dump(plain, default_flow_style=True, default_style=style, allow_unicode=True, width=math.inf)
        text = text.removesuffix("...\n").strip()
        if text.isprintable():
            break
    return text


def _squashed(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
