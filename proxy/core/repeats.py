"""Lines that say once more what others have said: the first of each pattern are written, the others are counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

WINDOW_S: Final = 60.0
PATTERNS_AT_MOST: Final = 1000

_IDS: Final = ("target_id", "request_id")


class Pattern(NamedTuple):
    """What lines have in common that say the same; `fields` are names and values, those that apply."""

    level: str
    event: str
    fields: tuple[tuple[str, object], ...]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """How many lines of `pattern` were left out from `first_s` to `last_s`; `ids` are those of the last one."""

    pattern: Pattern
    count: int
    first_s: float
    last_s: float
    ids: Mapping[str, object]


@dataclass(slots=True)
class _Window:
    """The time in which lines of one pattern are counted; it begins with the first of them."""

    ends_s: float
    written: int = 0
    left_out: int = 0
    first_s: float = 0.0
    last_s: float = 0.0
    ids: Mapping[str, object] | None = None


class Repeats:
    """Admits `at_most` lines of each pattern in `window_s`, and remembers how many more there were; 0 admits all.

    Times are seconds of a clock that does not go back. The memory is bounded: where more patterns are about than are
    remembered, the oldest window ends before its time.
    """

    def __init__(self, at_most: int, window_s: float = WINDOW_S) -> None:
        self._at_most = at_most
        self._window_s = window_s
        # In the order of their ends, as all of them are equally long.
        self._windows: dict[Pattern, _Window] = {}
        self._ended: list[LeftOut] = []

    def admits(self, pattern: Pattern, fields: Mapping[str, object], now_s: float) -> bool:
        """Return whether a line of `pattern` with `fields` is to be written, and count it if not."""
        if not self._at_most:
            return True
        self._end_until(now_s)
        window = self._windows.get(pattern)
        if window is None:
            if len(self._windows) >= PATTERNS_AT_MOST:
                self._end(next(iter(self._windows)))
            window = self._windows[pattern] = _Window(now_s + self._window_s)
        if window.written < self._at_most:
            window.written += 1
            return True
        window.first_s = window.first_s if window.left_out else now_s
        window.last_s = now_s
        window.left_out += 1
        window.ids = {name: fields[name] for name in _IDS if name in fields}
        return False

    def ended(self, now_s: float) -> list[LeftOut]:
        """Return what was left out in windows that are over, each once."""
        self._end_until(now_s)
        ended, self._ended = self._ended, []
        return ended

    def end(self) -> list[LeftOut]:
        """End all windows, and return what was left out in them."""
        for pattern in list(self._windows):
            self._end(pattern)
        ended, self._ended = self._ended, []
        return ended

    @property
    def next_end_s(self) -> float | None:
        """When the next window is over; None where there is none."""
        window = next(iter(self._windows.values()), None)
        return None if window is None else window.ends_s

    def _end_until(self, now_s: float) -> None:
        while (ends_s := self.next_end_s) is not None and ends_s <= now_s:
            self._end(next(iter(self._windows)))

    def _end(self, pattern: Pattern) -> None:
        window = self._windows.pop(pattern)
        if window.left_out:
            self._ended.append(LeftOut(pattern, window.left_out, window.first_s, window.last_s, window.ids or {}))
