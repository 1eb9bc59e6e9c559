"""The nouns: what the rest of the proxy passes around, and nothing that acts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple, NewType, TypeAlias

if TYPE_CHECKING:
    from proxy.core.failure import Failure

Fields: TypeAlias = tuple[tuple[bytes, bytes], ...]
"""Header field lines as they stand on the wire: name and value, in order, repeats included."""

JsonValue: TypeAlias = Any
"""Decoded JSON; its readers narrow it with `match`."""

ErrorCode = NewType("ErrorCode", str)
"""An error code as the upstream, or the proxy itself, wrote it."""

RouteTemplate = NewType("RouteTemplate", str)
"""A documented path with its parameters in braces: `/api/machines/{id}/isolate`."""

TargetId = NewType("TargetId", str)
"""A tracking ID that may stand in a header: 1 to 128 characters of visible ASCII."""

Pointer = NewType("Pointer", str)
"""A JSON Pointer (RFC 6901)."""


class Mode(StrEnum):
    """What is done with a body that holds a case mismatch."""

    REJECT = "reject"
    FIX = "fix"
    OBSERVE = "observe"
    OFF = "off"


class Action(StrEnum):
    """What was done with a case mismatch; a label of `case_mismatches_total`."""

    REJECTED = "rejected"
    FIXED = "fixed"
    OBSERVED = "observed"


class Origin(StrEnum):
    """Who made an error response."""

    UPSTREAM = "upstream"
    PROXY = "proxy"


class TargetSource(StrEnum):
    """Where the target ID of an error was found."""

    ENVELOPE = "envelope"
    BODY = "body"
    HEADER = "header"
    PROXY = "proxy"


class BodyResult(StrEnum):
    """What came of checking a request body; a label of `bodies_total`."""

    CLEAN = "clean"
    MISMATCH = "mismatch"
    UNKNOWN_NAMES = "unknown_names"
    DUPLICATE_NAMES = "duplicate_names"
    TOO_LARGE = "too_large"
    NOT_JSON = "not_json"
    UNREADABLE = "unreadable"


class Kind(StrEnum):
    """What is misspelt: the name of a parameter, or one of its enumerated values."""

    NAME = "name"
    VALUE = "value"


class Unfixable(StrEnum):
    """Why a body with mismatches is refused although the mode is `fix`."""

    CONFLICT = "conflict"
    VALUE = "value"
    CODED = "coded"
    COVERED = "covered"


class Suspicion(StrEnum):
    """What is suspicious about a place in a body that the upstream refused."""

    NOT_JSON = "not_json"
    UNKNOWN_NAME = "unknown_name"
    MISSING = "missing"
    WRONG_TYPE = "wrong_type"
    UNDOCUMENTED_VALUE = "undocumented_value"


@dataclass(frozen=True, slots=True)
class CaseMismatch:
    """A name or an enumerated value that the catalog knows under another spelling.

    `pointer` leads to the name as received (RFC 6901); `parameter` is the documented name that the mismatch
    belongs to, also where a value is misspelt. `conflict` says that the same object holds the parameter under
    another spelling too, so that no rewriting can keep its meaning. `path` is the position in the document:
    the index of the member or element at each level, counted from 0.
    """

    pointer: Pointer
    got: str
    expected: str
    parameter: str
    kind: Kind
    required: bool
    conflict: bool
    path: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class UnknownName:
    """A name that no catalog entry explains, with the known name that it resembles."""

    pointer: Pointer
    got: str
    near: str | None


@dataclass(frozen=True, slots=True)
class Findings:
    """What the check found in one body, each group in document order."""

    mismatches: tuple[CaseMismatch, ...] = ()
    unknown: tuple[UnknownName, ...] = ()
    unknown_count: int = 0
    duplicates: tuple[Pointer, ...] = ()


NOTHING_FOUND = Findings()


@dataclass(frozen=True, slots=True)
class Suspect:
    """A place in a body that may be why the upstream refused it. It holds no value of the body.

    `expected` is what the catalog has there: the name that was perhaps meant, JSON types, or the enumerated values.
    `got` is the JSON type that stands there instead, or where the text stops being JSON; else empty.
    """

    suspicion: Suspicion
    pointer: Pointer
    expected: tuple[str, ...] = ()
    got: str = ""


@dataclass(frozen=True, slots=True)
class ErrorEnvelope:
    """The error shape of the Defender APIs: `{"error": {"code", "message", "target"}}`.

    `target` is the tracking ID, or None where the envelope has none that is one; `request_id` is the ID that
    OData and Graph keep in `innerError`.
    """

    code: ErrorCode
    message: str
    target: TargetId | None
    request_id: TargetId | None = None


@dataclass(frozen=True, slots=True)
class ErrorTag:
    """All that is said about an error response, in headers, log and metrics alike.

    `code` is verbatim; `label` is the documented code that it counts under, or `other`. `message` holds no secret.
    `shape` says what the body looked like, where that was not the envelope; `retry_after_s` how long the upstream asks
    to wait, if it does, and `quota` what else it tells about that.
    """

    code: ErrorCode
    label: str
    message: str
    target_id: TargetId
    target_source: TargetSource
    origin: Origin
    shape: str | None = None
    retry_after_s: int | None = None
    quota: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole error response as the client gets it: the proxy's own, or the upstream's made whole."""

    status: int
    reason: str
    fields: Fields
    body: bytes
    tag: ErrorTag


class Outcome(NamedTuple):
    """Everything that is known about one exchange at its end; times in seconds, sizes in bytes.

    `status` is None when the client left before it could be answered, `upstream_s` when nothing was sent upstream.
    `resend` says why a request was sent a second time, `defect` where the proxy itself broke. `not_fixed` says why
    mode `fix` refused a body, `suspects` what in it may have led to the upstream's error; `doc` is the operation's
    page. It is a named tuple because one is made for each exchange: a frozen dataclass takes three times as long.
    """

    method: str
    operation: str
    route: RouteTemplate
    status: int | None
    request_id: str
    duration_s: float
    upstream_s: float | None
    overhead_s: float
    request_bytes: int
    response_bytes: int
    mode: Mode | None = None
    body_result: BodyResult | None = None
    findings: Findings = NOTHING_FOUND
    action: Action | None = None
    error: ErrorTag | None = None
    failure: Failure | None = None
    resend: str | None = None
    defect: str | None = None
    trace_id: str | None = None
    not_fixed: tuple[Unfixable, ...] = ()
    suspects: tuple[Suspect, ...] = ()
    doc: str | None = None
