"""Where log lines go: rendered on the spot, written by a thread, so that a full pipe never stops an exchange."""

from __future__ import annotations

import logging
import os
import queue
import sys
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from time import monotonic, time
from typing import TYPE_CHECKING, Final, Protocol, TextIO

import structlog

from proxy.core.console import readable
from proxy.core.repeats import WINDOW_S, LeftOut, Pattern, Repeats

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

    OnEvent = Callable[[str], None] | None

_LINES_WAITING_AT_MOST: Final = 10_000
_LAST_LINES_S: Final = 2.0

LEVELS: Final = ("debug", "info", "warning", "error")

LIBRARY_MESSAGE: Final = "library_message"
REPEATED: Final = "repeated"


class LogStream(Protocol):
    """As much of a text stream as a log needs."""

    def isatty(self) -> bool:
        """Whether a person reads it."""

    def write(self, text: str, /) -> int:
        """Take `text`, which is a whole line."""

    def flush(self) -> None:
        """Pass on what was taken."""


class LineWriter:
    """A bounded queue of lines and the thread that writes them; what does not fit is dropped and counted.

    `on_pause` is called in that thread before it waits for a line, and returns for how many seconds at the most.
    """

    def __init__(
        self,
        stream: LogStream,
        on_dropped: Callable[[], None],
        on_pause: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._stream = stream
        self._on_dropped = on_dropped
        self._on_pause = on_pause
        self._lines: queue.Queue[str | None] = queue.Queue(_LINES_WAITING_AT_MOST)
        self._thread = threading.Thread(target=self._write_lines, name="log-writer", daemon=True)
        self._thread.start()

    def msg(self, line: str) -> None:
        """Queue `line`; called by structlog under the name of each level."""
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self._on_dropped()

    debug = info = warning = error = msg

    def close(self) -> None:
        """Write what is queued, for as long as a reader that has gone away deserves."""
        try:
            self._lines.put(None, timeout=_LAST_LINES_S)
        except queue.Full:
            return
        self._thread.join(_LAST_LINES_S)

    def _write_lines(self) -> None:
        is_open = True
        while is_open:
            try:
                line = self._lines.get(timeout=self._on_pause())
            except queue.Empty:
                continue
            is_open = line is not None
            try:
                if line is not None:
                    self._stream.write(line + "\n")
                if self._lines.empty():
                    self._stream.flush()
            except Exception:  # noqa: BLE001 - whatever it is, the next line deserves its chance
                # The reader is gone, or the stream is closed: there is nobody left to tell.
                self._on_dropped()


class Log:
    """The log: a line for each call, from the level and in the form that it follows, both of which may change.

    `on_event` is called with the level of each line, `on_left_out` with the event of each that repeats others.
    """

    def __init__(
        self,
        stream: LogStream,
        on_event: OnEvent,
        on_dropped: Callable[[], None],
        on_left_out: Callable[[str], None],
        window_s: float,
    ) -> None:
        self._stream = stream
        self._on_event = on_event
        self._on_left_out = on_left_out
        self._window_s = window_s
        self._repeats = Repeats(0)
        # Of a kind that whoever holds it may take once more: a collected object may complain at any moment.
        self._lock = threading.RLock()
        self._writer = LineWriter(stream, on_dropped, self._pause_s)
        self.follow(level="info", style="auto", repeats=0)

    def follow(self, *, level: str, style: str, repeats: int) -> None:
        """Go by these from now on; see `logging_to`."""
        with self._lock:
            ended, self._repeats = self._repeats.end(), Repeats(repeats, self._window_s)
        self._tell(ended)
        self._written = frozenset(LEVELS[LEVELS.index(level) :])
        # Bound here: a logger that is not would look for its class and processors at each line.
        self._logger: FilteringBoundLogger = structlog.wrap_logger(
            self._writer,
            processors=_processors(self._stream, style, self._on_event),
            wrapper_class=structlog.make_filtering_bound_logger(level),
        ).bind()

    def repeatable(self, pattern: Pattern, fields: Mapping[str, object]) -> None:
        """Write a line of `pattern` with `fields`, or count it where enough that say the same were written lately."""
        if not self.writes(pattern.level):
            return
        now_s = monotonic()
        with self._lock:
            is_written = self._repeats.admits(pattern, fields, now_s)
            ended = self._repeats.ended(now_s)
        self._tell(ended)
        if is_written:
            getattr(self._logger, pattern.level)(pattern.event, **fields)
        else:
            self._on_left_out(pattern.event)

    def close(self) -> None:
        """Tell at once how many lines were left out, and write what is queued."""
        with self._lock:
            ended = self._repeats.end()
        self._tell(ended)
        self._writer.close()

    def _pause_s(self) -> float | None:
        """Tell of windows that are over, and return the seconds until the next one is."""
        now_s = monotonic()
        with self._lock:
            ended, next_end_s = self._repeats.ended(now_s), self._repeats.next_end_s
        self._tell(ended)
        return None if next_end_s is None else max(0.0, next_end_s - now_s)

    def _tell(self, left_out: Iterable[LeftOut]) -> None:
        ahead_s = time() - monotonic()
        for each in left_out:
            fields = {
                "of": each.pattern.event,
                **dict(each.pattern.fields),
                "left_out": each.count,
                "first_at": _timestamp(ahead_s + each.first_s),
                "last_at": _timestamp(ahead_s + each.last_s),
                **each.ids,
            }
            getattr(self._logger, each.pattern.level)(REPEATED, **fields)

    def writes(self, level: str) -> bool:
        """Whether a line of `level` is written, so that nobody need gather what it would hold."""
        return level in self._written

    def debug(self, event: str, **fields: object) -> None:
        """Write a line for whoever looks into the proxy."""
        self._logger.debug(event, **fields)

    def info(self, event: str, **fields: object) -> None:
        """Write a line about what goes as it should."""
        self._logger.info(event, **fields)

    def warning(self, event: str, **fields: object) -> None:
        """Write a line about what somebody may want to mend."""
        self._logger.warning(event, **fields)

    def error(self, event: str, **fields: object) -> None:
        """Write a line about what somebody has to mend."""
        self._logger.error(event, **fields)


class _LibraryHandler(logging.Handler):
    """Turns a library's record into a line without its text, which may quote what a client or an upstream sent."""

    def __init__(self, logger: Log) -> None:
        super().__init__(logging.WARNING)
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        fields = {"logger": record.name, "place": f"{record.module}:{record.lineno}"}
        if record.exc_info and record.exc_info[0]:
            fields["exception_type"] = record.exc_info[0].__name__
        level = "error" if record.levelno >= logging.ERROR else "warning"
        self._logger.repeatable(Pattern(level, LIBRARY_MESSAGE, tuple(fields.items())), fields)


@contextmanager
def logging_to(
    stream: LogStream,
    *,
    level: str = "info",
    style: str = "auto",
    repeats: int = 0,
    on_event: OnEvent = None,
    on_dropped: Callable[[], None] | None = None,
    on_left_out: Callable[[str], None] | None = None,
    window_s: float = WINDOW_S,
) -> Iterator[Log]:
    """Yield a log whose lines go to `stream`, and have the libraries' loggers use it too.

    `style` is `json`, `console` or `auto`: coloured for a terminal, JSON lines for anything else. Of lines that say
    the same, `repeats` are written in `window_s`, and then one that tells how many more there were; 0 writes all.
    `on_event` is called with the level of each line that passes `level`, `on_dropped` for each that could not be
    written, `on_left_out` with the event of each that repeats others.
    """
    log = Log(stream, on_event, on_dropped or (lambda: None), on_left_out or (lambda _event: None), window_s)
    log.follow(level=level, style=style, repeats=repeats)
    handler = _LibraryHandler(log)
    root = logging.getLogger()
    former, former_level = root.handlers[:], root.level
    root.handlers, root.level = [handler], logging.WARNING
    try:
        yield log
    finally:
        root.handlers, root.level = former, former_level
        log.close()


def _processors(stream: LogStream, style: str, on_event: OnEvent) -> list[Processor]:
    is_console = style == "console" or (style == "auto" and stream.isatty())

    def count(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        if on_event is not None:
            on_event(event["level"])
        return event

    form: list[Processor] = (
        [_readable, structlog.dev.ConsoleRenderer(colors=stream.isatty(), pad_event_to=16, sort_keys=False)]
        if is_console
        else [_in_order, structlog.processors.JSONRenderer(ensure_ascii=True)]
    )
    return [
        structlog.processors.add_log_level,
        count,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        *form,
    ]


def _timestamp(at_s: float) -> str:
    """Return a moment in seconds since 1970 as the lines have theirs."""
    return datetime.fromtimestamp(at_s, UTC).isoformat().replace("+00:00", "Z")


def _in_order(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Put what every line has first, so that a person can read down a column."""
    return {"timestamp": event.pop("timestamp"), "level": event.pop("level"), "event": event.pop("event"), **event}


def _readable(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Put what is no text into one, and escape what would steer a terminal, which JSON does anyway."""
    return {name: readable(value) for name, value in event.items()}


def stdout() -> TextIO:
    """Return a stream to standard output, with what it cannot encode escaped instead of raising.

    It is not `sys.stdout`: when nobody reads the pipe, the writing thread is stuck inside the stream, and at exit the
    interpreter would wait for `sys.stdout`. A standard output that is closed takes every line and keeps none.
    """
    if sys.stdout is None:
        return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123 - lives as long as the process
    try:
        descriptor = sys.stdout.fileno()
    except OSError:
        return sys.stdout  # it was redirected inside this process
    return os.fdopen(descriptor, "w", encoding=sys.stdout.encoding, errors="backslashreplace", closefd=False)
