"""One outcome, told three ways: response header fields, log fields, metric labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from proxy.core import headers
from proxy.core.codes import MISMATCH_HELP, ErrorCodes, Help, page_address
from proxy.core.envelope import parse_id
from proxy.core.hints import fix_of
from proxy.core.model import NOTHING_FOUND, Action, ErrorTag, Fields, Findings, Origin, Outcome, Suspect, Unfixable
from proxy.core.repeats import Pattern
from proxy.core.text import shortened

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

UPSTREAM_ERROR: Final = "upstream_error"
CASE_MISMATCH: Final = "case_mismatch"
PROXY_ERROR: Final = "proxy_error"
REQUEST: Final = "request"
EVENTS: Final = (CASE_MISMATCH, UPSTREAM_ERROR, PROXY_ERROR, REQUEST)
"""What lines about exchanges are called."""

OTHER_STATUS: Final = "other"
"""The label of a status that HTTP does not have."""

_MS_ERROR_CODE: Final = "x-ms-error-code"
_MISMATCHES_IN_HEADER_AT_MOST: Final = 10
_MISMATCHES_IN_LOG_AT_MOST: Final = 50
_FIXES_IN_LOG_AT_MOST: Final = 10
_MESSAGE_LENGTH_AT_MOST: Final = 1024
_TEXT_LENGTH_AT_MOST: Final = 256
_FIRST_ERROR_STATUS: Final = 400
_TOO_MANY_REQUESTS: Final = 429
_SERVICE_UNAVAILABLE: Final = 503

_NO_CODES: Final = ErrorCodes({}, {})


class HeaderNames(Protocol):
    """What the response header fields are called; the defaults are the ones shown."""

    @property
    def target_id(self) -> str:
        """`X-Target-Id`."""

    @property
    def target_source(self) -> str:
        """`X-Target-Source`."""

    @property
    def error_code(self) -> str:
        """`X-Error-Code`."""

    @property
    def error_origin(self) -> str:
        """`X-Error-Origin`."""

    @property
    def case_mismatch(self) -> str:
        """`X-Case-Mismatch`."""

    @property
    def request_id(self) -> str:
        """`X-Request-Id`."""


def error_fields(tag: ErrorTag, names: HeaderNames, fields: Fields = ()) -> Iterator[tuple[str, str]]:
    """Yield the header fields of an error response; `fields` are the ones it has already."""
    code = code_text(tag)
    yield names.error_code, code
    yield names.error_origin, tag.origin
    yield names.target_id, tag.target_id
    yield names.target_source, tag.target_source
    if not headers.values(fields, _MS_ERROR_CODE.encode("ascii")):
        yield _MS_ERROR_CODE, code


def code_text(tag: ErrorTag) -> str:
    """Return the code of an error; one that cannot stand in a header (RFC 9110, 5.5) is given as its label."""
    return parse_id(tag.code) or tag.label


def mismatch_field(findings: Findings) -> str:
    """Return the mismatches as `got=expected` items in visible ASCII, ten at the most, the rest counted as `+N`."""
    items = [
        f"{headers.as_token(m.got[:_TEXT_LENGTH_AT_MOST])}={headers.as_token(m.expected)}"
        for m in findings.mismatches[:_MISMATCHES_IN_HEADER_AT_MOST]
    ]
    if (rest := len(findings.mismatches) - len(items)) > 0:
        items.append(f"+{rest}")
    return ", ".join(items)


def log_event(outcome: Outcome) -> str:
    """Return what the line about `outcome` is called."""
    if outcome.failure is not None:
        return PROXY_ERROR
    if outcome.error is not None and outcome.error.origin is Origin.UPSTREAM:
        return UPSTREAM_ERROR
    return CASE_MISMATCH if outcome.action is not None else REQUEST


def log_level(outcome: Outcome) -> str:
    """Return how loud the line is: `error` for a failure on this side, `warning` for what a caller should mend."""
    if outcome.failure is not None:
        return "warning" if outcome.failure.is_client else "error"
    if is_throttled(outcome):
        return "info"
    if outcome.error is not None or outcome.action is not None or outcome.findings.duplicates:
        return "warning"
    return "info"


def is_worth_a_line(outcome: Outcome) -> bool:
    """Whether `outcome` is told even where plain requests are not: a repeated name or a near miss is."""
    if outcome.findings is NOTHING_FOUND and outcome.error is None and outcome.failure is None:
        # Nearly every one.
        return outcome.action is not None
    if log_event(outcome) != REQUEST:
        return True
    return bool(outcome.findings.duplicates) or any(name.near for name in outcome.findings.unknown)


def log_fields(outcome: Outcome, codes: ErrorCodes = _NO_CODES) -> dict[str, object]:
    """Return the fields of the line about `outcome`, those that do not apply left out; `codes` are for its `help`.

    Holds names and documented values, never a value of the body, a field of the request or its query.
    """
    error, findings = outcome.error, outcome.findings
    fields: dict[str, object | None] = {
        "method": outcome.method or None,
        "operation": outcome.operation,
        "route": outcome.route,
        "status": outcome.status,
        "error_code": shortened(error.code) if error else None,
        "error_message": shortened(error.message, _MESSAGE_LENGTH_AT_MOST) if error else None,
        "target_id": error.target_id if error else None,
        "target_source": error.target_source.value if error else None,
        "origin": error.origin.value if error else None,
        "shape": error.shape if error else None,
        "retry_after_s": error.retry_after_s if error else None,
        "quota": dict(error.quota) or None if error else None,
        "mode": outcome.mode.value if outcome.mode and findings.mismatches else None,
        "action": outcome.action.value if outcome.action else None,
        **(_told(findings, outcome.not_fixed) if findings is not NOTHING_FOUND else {}),
        "suspects": list(map(_suspect, outcome.suspects)) if outcome.suspects else None,
        "help": _help(outcome, codes),
        "duration_ms": round(outcome.duration_s * 1000, 3),
        "upstream_ms": round(outcome.upstream_s * 1000, 3) if outcome.upstream_s is not None else None,
        "request_bytes": outcome.request_bytes,
        "response_bytes": outcome.response_bytes,
        "request_id": outcome.request_id,
        "trace_id": outcome.trace_id,
        "failure": outcome.failure.label if outcome.failure else None,
        "resend": outcome.resend,
        "defect": outcome.defect,
    }
    return {name: value for name, value in fields.items() if value is not None}


def pattern_of(outcome: Outcome) -> Pattern:
    """Return what the line about `outcome` has in common with those that say the same of other exchanges."""
    findings = outcome.findings
    fields: list[tuple[str, object]] = [("operation", outcome.operation), ("status", outcome.status)]
    if outcome.error is not None:
        fields.append(("error_code", shortened(outcome.error.code)))
    if outcome.failure is not None:
        fields.append(("failure", outcome.failure.label))
    if outcome.defect is not None:
        fields.append(("defect", outcome.defect))
    if findings is not NOTHING_FOUND:
        names = {m.parameter for m in findings.mismatches} | {name.near for name in findings.unknown if name.near}
        if names:
            fields.append(("parameters", tuple(sorted(names))))
    return Pattern(
        log_level(outcome), log_event(outcome), tuple((name, value) for name, value in fields if value is not None)
    )


def _told(findings: Findings, not_fixed: Sequence[Unfixable]) -> dict[str, object | None]:
    """Return the fields about what the check found, and why that was not mended."""
    return {
        "mismatches": [
            {"pointer": shortened(m.pointer), "got": shortened(m.got), "expected": m.expected}
            for m in findings.mismatches[:_MISMATCHES_IN_LOG_AT_MOST]
        ]
        or None,
        "mismatches_omitted": max(0, len(findings.mismatches) - _MISMATCHES_IN_LOG_AT_MOST) or None,
        "not_fixed": [reason.value for reason in not_fixed] or None,
        "did_you_mean": [
            {"pointer": shortened(name.pointer), "got": shortened(name.got), "expected": name.near}
            for name in findings.unknown
            if name.near
        ]
        or None,
        "duplicates": [shortened(pointer) for pointer in findings.duplicates[:_MISMATCHES_IN_LOG_AT_MOST]] or None,
    }


def _suspect(suspect: Suspect) -> dict[str, object]:
    """Return what is told of one place in a body that was refused."""
    return {
        "suspicion": suspect.suspicion.value,
        "pointer": shortened(suspect.pointer),
        **({"got": suspect.got} if suspect.got else {}),
        "expected": [shortened(text) for text in suspect.expected],
    }


def help_with(outcome: Outcome, codes: ErrorCodes) -> Help | None:
    """Return what helps with `outcome`: by the code of the upstream's error, else by what the check found.

    A failure of the proxy's own has none: its code means something else than the service's, and its message says it.
    """
    error = outcome.error
    if error is not None and error.origin is Origin.UPSTREAM and (told := codes.help_with(error.label)) is not None:
        return told
    return MISMATCH_HELP if outcome.findings.mismatches and outcome.failure is None else None


def _help(outcome: Outcome, codes: ErrorCodes) -> dict[str, object] | None:
    """Return the explanation of `outcome`: cause, remedy, the pages, and how each mismatch is fixed."""
    told = help_with(outcome, codes)
    mismatches = outcome.findings.mismatches
    if told is None and not (mismatches or outcome.suspects):
        return None
    fixes = [f"{shortened(m.pointer)}: {shortened(fix_of(m))}" for m in mismatches[:_FIXES_IN_LOG_AT_MOST]]
    fields: dict[str, object | None] = {
        "cause": told.cause if told else None,
        "remedy": told.remedy if told else None,
        "page": told.pages[0] if told and told.pages else None,
        "operation_page": page_address(outcome.doc) if outcome.doc and (fixes or outcome.suspects) else None,
        "fixes": fixes or None,
    }
    return {name: value for name, value in fields.items() if value is not None} or None


def status_label(outcome: Outcome) -> str:
    """Return the status as a label: `none` for a client that left unanswered, `other` outside 100 to 599."""
    if outcome.status is None:
        return "none"
    return str(outcome.status) if 100 <= outcome.status <= 599 else OTHER_STATUS  # noqa: PLR2004 - RFC 9110, 15


def is_throttled(outcome: Outcome) -> bool:
    """Whether the upstream asks for fewer requests: 429 (RFC 6585, 4), or a 503 that says how long to wait."""
    error = outcome.error
    if error is None or error.origin is not Origin.UPSTREAM:
        return False
    return outcome.status == _TOO_MANY_REQUESTS or (
        outcome.status == _SERVICE_UNAVAILABLE and error.retry_after_s is not None
    )


def mismatch_outcome(outcome: Outcome) -> str:
    """Return what the upstream then said of a body with mismatches: `none`, `accepted` or `refused`."""
    if outcome.action is Action.REJECTED or outcome.status is None:
        return "none"
    if outcome.failure is not None and not outcome.failure.is_client:
        return "none"
    return "refused" if outcome.status >= _FIRST_ERROR_STATUS else "accepted"
