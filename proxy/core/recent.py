"""The latest errors and the case mismatches, in bounded memory: what the status page shows."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from proxy.core import tags
from proxy.core.codes import MISMATCH_HELP, OTHER
from proxy.core.hints import fix_of
from proxy.core.model import Kind, Origin, Suspicion
from proxy.core.text import printable, shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from proxy.core.model import Outcome

Document: TypeAlias = "dict[str, object]"

ERRORS_AT_MOST: Final = 100
MISSPELLINGS_AT_MOST: Final = 200
_SUSPECTS_AT_MOST: Final = 10
_MESSAGE_LENGTH_AT_MOST: Final = 1024
_MISMATCHES_AT_MOST: Final = 50
"""As many of one body as the log tells of."""


@dataclass(slots=True)
class _Count:
    """How often a code came with one status from one side; `seq` is of the last change."""

    code: str
    status: str
    origin: str
    seq: int = 0
    at_s: float = 0.0
    count: int = 0

    def document(self) -> Document:
        return {
            "code": self.code,
            "status": self.status,
            "origin": self.origin,
            "seq": self.seq,
            "at": round(self.at_s, 3),
            "count": self.count,
        }


@dataclass(frozen=True, slots=True)
class Misspelt:
    """One wrong spelling in a body: how to mend it, what was done about it, and whether the upstream took it.

    `is_value` tells a value from a name, `is_conflict` one that stands beside another spelling of the same parameter.
    """

    parameter: str
    method: str
    operation: str
    route: str
    page: str | None
    got: str
    expected: str
    is_value: bool
    is_conflict: bool
    fix: str
    action: str
    is_accepted: bool

    def facts(self) -> Document:
        """Return what is the same each time that the spelling is seen."""
        return {
            "method": self.method,
            "operation": self.operation,
            "route": self.route,
            "page": self.page,
            "got": self.got,
            "expected": self.expected,
            "is_value": self.is_value,
            "is_conflict": self.is_conflict,
            "fix": self.fix,
        }

    def document(self) -> Document:
        """Return this for another process."""
        return {
            "parameter": self.parameter,
            **self.facts(),
            "action": self.action,
            "is_accepted": self.is_accepted,
        }


@dataclass(slots=True)
class _Misspelling:
    """A wrong spelling in bodies of one operation, `first` seen in one of them, and in how many requests it was seen.

    `actions` counts these by what was done about it, `accepted` those that the upstream took all the same.
    """

    first: Misspelt
    seq: int = 0
    at_s: float = 0.0
    count: int = 0
    accepted: int = 0
    actions: dict[str, int] = field(default_factory=dict)

    def document(self) -> Document:
        return {
            **self.first.facts(),
            "seq": self.seq,
            "at": round(self.at_s, 3),
            "count": self.count,
            "accepted": self.accepted,
            "actions": dict(self.actions),
        }


@dataclass(frozen=True, slots=True)
class Note:
    """What is remembered of one exchange: texts and numbers alone, so that it can be told to another process.

    `counted` is the code's label, the status and the origin of an error; `error` is what the page shows of it.
    """

    at_s: float
    counted: tuple[str, str, str] | None
    error: Document | None
    misspelt: tuple[Misspelt, ...]

    def document(self) -> Document:
        """Return this for another process; `dataclasses.asdict` copies all of it, and takes seven times as long."""
        return {
            "at_s": self.at_s,
            "counted": self.counted,
            "error": self.error,
            "misspelt": [one.document() for one in self.misspelt],
        }

    @classmethod
    def of_document(cls, document: Mapping[str, Any]) -> Note:
        """Return the note that `document` was made of, though JSON knows no tuples."""
        label, status, origin = document["counted"] or ("", "", "")
        return cls(
            document["at_s"],
            (label, status, origin) if document["counted"] else None,
            document["error"],
            tuple(Misspelt(**one) for one in document["misspelt"]),
        )


def note_of(outcome: Outcome, fields: Mapping[str, object], at_s: float) -> Note:
    """Return what is to be remembered of `outcome`, whose log line has `fields`; see `Recent.is_kept`."""
    error = outcome.error
    return Note(
        at_s,
        (error.label, tags.status_label(outcome), error.origin.value) if error is not None else None,
        _error(outcome, fields, at_s) if error is not None or outcome.failure is not None else None,
        tuple(_misspelt(outcome, fields)) if outcome.action is not None else (),
    )


def _misspelt(outcome: Outcome, fields: Mapping[str, object]) -> Iterable[Misspelt]:
    """Yield each misspelling of the body once."""
    told = {
        (mismatch.parameter, _shown(mismatch.got), mismatch.kind, mismatch.conflict): mismatch
        for mismatch in outcome.findings.mismatches[:_MISMATCHES_AT_MOST]
    }
    page = _text_or_none(_mapping(fields.get("help")).get("operation_page"))
    action = outcome.action.value if outcome.action is not None else ""
    is_accepted = tags.mismatch_outcome(outcome) == "accepted"
    for mismatch in told.values():
        yield Misspelt(
            mismatch.parameter, outcome.method, outcome.operation, outcome.route, page, _shown(mismatch.got),
            _shown(mismatch.expected), mismatch.kind is Kind.VALUE, mismatch.conflict, _shown(fix_of(mismatch)),
            action, is_accepted,
        )  # fmt: skip


class Recent:
    """Remembers what failed and what was misspelt, since the process began; `seq` grows with each exchange of these.

    Whoever has seen everything up to some `seq` is brought up to date by `since` that one. What was forgotten
    meanwhile is left out, so that nothing has to be kept for those who come rarely.
    """

    def __init__(self) -> None:
        self.seq = 0
        self._errors: deque[Document] = deque(maxlen=ERRORS_AT_MOST)
        self._counts: dict[tuple[str, str, str], _Count] = {}
        self._misspellings: dict[tuple[object, ...], _Misspelling] = {}
        self._tell: Callable[[], None] = lambda: None

    def tell(self, listener: Callable[[], None]) -> None:
        """Call `listener` after each change; it takes the place of the one before."""
        self._tell = listener

    @staticmethod
    def is_kept(outcome: Outcome) -> bool:
        """Whether `outcome` is remembered: an error response, a failure but for a client that left, a mismatch."""
        if outcome.failure is not None and not outcome.failure.is_client:
            return True
        return outcome.error is not None or outcome.action is not None

    def record(self, outcome: Outcome, fields: Mapping[str, object], at_s: float) -> None:
        """Remember `outcome`, whose log line has `fields`, as of `at_s` in seconds since 1970; see `is_kept`."""
        self.add(note_of(outcome, fields, at_s))

    def add(self, note: Note) -> None:
        """Remember what `note` tells of an exchange, which may have been another process's."""
        self.seq += 1
        if note.counted is not None:
            self._count(note.counted, note.at_s)
        if note.error is not None:
            self._errors.append({"seq": self.seq, **note.error})
        for misspelt in note.misspelt:
            self._note_misspelling(misspelt, note.at_s)
        self._tell()

    def since(self, seq: int = 0) -> Document:
        """Return all that has changed after `seq` and is still known, each part with the oldest change first."""
        return {
            "seq": self.seq,
            "errors": [error for error in self._errors if error["seq"] > seq],  # type: ignore[operator] # it is a number
            "counts": [count.document() for count in sorted(self._counts.values(), key=_by_seq) if count.seq > seq],
            "misspellings": [item.document() for item in self._misspellings.values() if item.seq > seq],
        }

    def _count(self, key: tuple[str, str, str], at_s: float) -> None:
        count = self._counts.get(key)
        if count is None:
            count = self._counts[key] = _Count(*key)
        count.seq, count.at_s, count.count = self.seq, at_s, count.count + 1

    def _note_misspelling(self, misspelt: Misspelt, at_s: float) -> None:
        """Count a misspelling; the one that was not seen for longest makes room for a new one."""
        m = misspelt
        key = (m.operation, m.parameter, m.got, m.is_value, m.is_conflict)
        item = self._misspellings.pop(key, None)
        if item is None:
            item = _Misspelling(m)
        if len(self._misspellings) >= MISSPELLINGS_AT_MOST:
            del self._misspellings[next(iter(self._misspellings))]
        self._misspellings[key] = item
        item.seq, item.at_s, item.count = self.seq, at_s, item.count + 1
        item.actions[m.action] = item.actions.get(m.action, 0) + 1
        item.accepted += m.is_accepted


def _by_seq(count: _Count) -> int:
    return count.seq


def _error(outcome: Outcome, fields: Mapping[str, object], at_s: float) -> Document:
    """Return what the page shows of an error; a failure amid a response has no code but what failed, and no ID."""
    error, help_fields = outcome.error, _mapping(fields.get("help"))
    failure, remedy = outcome.failure, _text_or_none(help_fields.get("remedy"))
    code: str
    if error is not None:
        code, label, origin = error.code, error.label, error.origin
        message = str(fields.get("error_message", ""))
    else:
        code = label = failure.code if failure else OTHER
        origin = Origin.PROXY
        message = "The response had begun, and the client got a part of it."
    return {
        "at": round(at_s, 3),
        "event": tags.log_event(outcome),
        "method": outcome.method,
        "operation": outcome.operation,
        "route": outcome.route,
        "status": outcome.status,
        "code": _shown(code),
        "label": label,
        "origin": origin.value,
        "message": _shown(message, _MESSAGE_LENGTH_AT_MOST),
        "failure": failure.label if failure else None,
        "target_id": error.target_id if error else None,
        "target_source": error.target_source.value if error else None,
        "request_id": outcome.request_id,
        "retry_after_s": error.retry_after_s if error else None,
        "cause": _text_or_none(help_fields.get("cause")),
        # That of a mismatch leads to the fields of the log line; its fixes say the same.
        "remedy": None if remedy == MISMATCH_HELP.remedy else remedy,
        "page": _text_or_none(help_fields.get("page")),
        "operation_page": _text_or_none(help_fields.get("operation_page")),
        "fixes": [_shown(str(fix)) for fix in _list(help_fields.get("fixes"))],
        "suspects": [_suspect(_mapping(s)) for s in _list(fields.get("suspects"))[:_SUSPECTS_AT_MOST]],
    }


_SUSPICIONS: Final[Mapping[str, tuple[str, str]]] = {
    Suspicion.NOT_JSON: ("is not JSON", "expected: {}"),
    Suspicion.UNKNOWN_NAME: ("is not documented", "perhaps {} was meant"),
    Suspicion.MISSING: ("is required and missing", "expected: {}"),
    Suspicion.WRONG_TYPE: ("has another type than documented", "expected: {}"),
    Suspicion.UNDOCUMENTED_VALUE: ("has a value that is not documented", "expected one of: {}"),
}
"""What is said of a suspect, and of what the catalog has in its place."""


def _suspect(fields: Mapping[str, object]) -> str:
    """Return a suspect of the log line as a sentence without its end."""
    what, hint = _SUSPICIONS[str(fields["suspicion"])]
    pointer, got = str(fields["pointer"]), fields.get("got")
    expected = ", ".join(map(str, _list(fields.get("expected"))))
    return _shown(
        f"{pointer or 'the body'} {what}"
        + (f" (got: {got})" if got else "")
        + (f"; {hint.format(expected)}" if expected else "")
    )


def _shown(text: str, limit: int = 256) -> str:
    """Return `text`, bounded, with what is not printable escaped: bidirectional controls turn the text around them."""
    return shortened(printable(shortened(text, limit)), limit)


def _text_or_none(value: object) -> str | None:
    return printable(value) if isinstance(value, str) else None


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
