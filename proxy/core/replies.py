"""What the proxy itself answers, and how an upstream's error is tagged."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from proxy.core import headers
from proxy.core.codes import INVALID_REQUEST_BODY, MISSING_REQUIRED_PARAMETER, OTHER, ErrorCodes, reason_phrase
from proxy.core.envelope import parse_id, render_envelope
from proxy.core.masking import is_clean, masked
from proxy.core.model import (
    CaseMismatch,
    ErrorCode,
    ErrorTag,
    Fields,
    Kind,
    Origin,
    Reply,
    TargetId,
    TargetSource,
    Unfixable,
)
from proxy.core.text import shortened
from proxy.core.throttling import THROTTLING_STATUSES, quota_facts, wait_s

if TYPE_CHECKING:
    from proxy.core.catalog import Operation
    from proxy.core.check import Checked
    from proxy.core.failure import Failure
    from proxy.core.masking import Secrets
    from proxy.core.model import UnknownName
    from proxy.core.shapes import Recognised

TARGET_FIELDS: Final = (b"x-ms-request-id", b"request-id", b"x-ms-correlation-request-id")
"""Where Microsoft's services put the ID of a request, in the order in which they are believed."""

_STATUS: Final = re.compile("[45][0-9]{2}")
_NAMED_AT_MOST: Final = 10
_DETAILS_AT_MOST: Final = 1000
# RFC 9110, 5.6.4: a quoted string.
_DESCRIPTION: Final = re.compile(r'(?i)\berror_description="((?:[^"\\]|\\.)*)"')
_QUOTED_PAIR: Final = re.compile(r"\\(.)")
_NAME_LENGTH_AT_MOST: Final = 64
_POINTER_LENGTH_AT_MOST: Final = 256
_MESSAGE_LENGTH_AT_MOST: Final = 4096

_WHY_NOT_FIXED: Final = {
    Unfixable.CONFLICT: "it holds a parameter under two spellings",
    Unfixable.VALUE: "a misspelt value is the caller's to change",
    Unfixable.CODED: "it is compressed",
    Unfixable.COVERED: "a digest, a signature or no-transform covers it",
}


def refuse(operation: Operation, checked: Checked, target: TargetId) -> Reply:
    """Return the rejection of a body with mismatches: the upstream's own envelope, each mismatch in `details`.

    Behind the mismatches stand the unknown names that come near a documented one; `names` has the documented names as
    they should be spelt. Where mode `fix` did not mend the body, the message says why.

    Source: Defender for Endpoint, "Handling REST API errors", for the two codes; OData JSON Format 4.01, 21.1, for
    `details`.
    """
    mismatches = checked.findings.mismatches
    code = MISSING_REQUIRED_PARAMETER if any(m.required for m in mismatches) else INVALID_REQUEST_BODY
    told = ", ".join(map(explain, mismatches[:_NAMED_AT_MOST]))
    if len(mismatches) > _NAMED_AT_MOST:
        told += f" and {len(mismatches) - _NAMED_AT_MOST} more"
    message = f"Body parameters are case-sensitive: {told} ({operation.method} {operation.template})."
    if checked.not_fixed:
        message += f" The body was not fixed: {'; '.join(_WHY_NOT_FIXED[reason] for reason in checked.not_fixed)}."
    details = [
        _detail("ParameterCaseMismatch", m.pointer, m.expected, explain(m)) for m in mismatches[:_DETAILS_AT_MOST]
    ]
    details += [
        _detail("UnknownParameter", name.pointer, name.near, _explain_unknown(name, name.near))
        for name in checked.findings.unknown
        if name.near
    ]
    names = [shortened(pointer, _POINTER_LENGTH_AT_MOST) for pointer in checked.names]
    tag = ErrorTag(code, code, message, target, TargetSource.PROXY, Origin.PROXY)
    return _own_reply(400, "http_request_denied", tag, render_envelope(code, message, target, details, names=names))


def reply_of(failure: Failure, target: TargetId, *, detail: str = "") -> Reply:
    """Return the answer to a request that met `failure`; `detail` goes behind its message and holds no input."""
    message = f"{failure.message} {detail}".strip()
    tag = ErrorTag(ErrorCode(failure.code), failure.code, message, target, TargetSource.PROXY, Origin.PROXY)
    return _own_reply(failure.status, failure.token, tag, render_envelope(failure.code, message, target))


def tag_upstream_error(
    status: int,
    reason: str,
    fields: Fields,
    found: Recognised | None,
    *,
    codes: ErrorCodes,
    own_target: TargetId,
    now_s: float,
    secrets: Secrets = (),
) -> ErrorTag:
    """Return the tag of an upstream's response from 400 up.

    `found` is what its body says, None where that could not be read whole; `own_target` is used when the response has
    no ID of its own; `now_s` is the time since the epoch; `secrets` are what the request carried.
    """
    message = found.message or "" if found else ""
    retry_after_s = wait_s(status, fields, message, now_s=now_s)
    throttled = status in THROTTLING_STATUSES and (status == HTTPStatus.TOO_MANY_REQUESTS or retry_after_s is not None)
    if found is None or found.envelope is None:
        message = (
            message
            or _challenge(fields)
            or reason
            or reason_phrase(status)
            or f"The upstream answered with status {status}."
        )
    candidates: list[tuple[TargetId | None, TargetSource]] = []
    if found is not None:
        is_own = found.envelope is not None and found.envelope.target is not None
        candidates.append((found.target, TargetSource.ENVELOPE if is_own else TargetSource.BODY))
    candidates += [
        (parse_id(value), TargetSource.HEADER)
        for name in TARGET_FIELDS
        for value in (raw.decode("latin-1") for raw in headers.values(fields, name))
        if is_clean(value, secrets)
    ]
    target, source = next(
        ((target, source) for target, source in candidates if target is not None), (own_target, TargetSource.PROXY)
    )
    code = _code_of(status, fields, found, codes, is_throttled=throttled)
    return ErrorTag(
        code,
        codes.label(code, Origin.UPSTREAM),
        masked(message[:_MESSAGE_LENGTH_AT_MOST], secrets),
        target,
        source,
        Origin.UPSTREAM,
        found.shape if found is not None and found.envelope is None else None,
        retry_after_s,
        tuple((name, masked(fact, secrets)) for name, fact in quota_facts(fields, message)) if throttled else (),
    )


def _challenge(fields: Fields) -> str:
    """Return what a challenge says in words, as many a 401 does that has no body (RFC 6750, 3)."""
    told = _DESCRIPTION.search(headers.joined(fields, b"www-authenticate"))
    return _QUOTED_PAIR.sub(r"\1", told[1]).strip() if told else ""


def _code_of(
    status: int, fields: Fields, found: Recognised | None, codes: ErrorCodes, *, is_throttled: bool
) -> ErrorCode:
    """Return the code of an error: its own, word for word; else by its status, or by the number that it has for one.

    What is no envelope may have its code in a header field (Microsoft Azure REST API Guidelines, "errors").

    A code that holds a secret is none.
    """
    if found is None:
        return ErrorCode(OTHER)
    if found.envelope is not None and found.code:
        return found.envelope.code
    number = found.code if found.code and _STATUS.fullmatch(found.code) else None
    if found.code and number is None:
        return ErrorCode(found.code)
    for value in headers.values(fields, b"x-ms-error-code"):
        if (told := parse_id(value.decode("latin-1"))) is not None and not told.isdigit():
            return ErrorCode(told)
    return codes.of_status(HTTPStatus.TOO_MANY_REQUESTS if is_throttled else int(number or status))


def explain(mismatch: CaseMismatch) -> str:
    """Return the mismatch as a person would say it, long spellings shortened."""
    got = shortened(mismatch.got, _NAME_LENGTH_AT_MOST)
    if mismatch.kind is Kind.VALUE:
        return f"value '{got}' of '{mismatch.parameter}' must be '{mismatch.expected}'"
    if mismatch.conflict:
        return f"'{got}' must be '{mismatch.expected}', of which the body holds another spelling too: keep one"
    return f"'{got}' must be '{mismatch.expected}'"


def _explain_unknown(name: UnknownName, near: str) -> str:
    return f"'{shortened(name.got, _NAME_LENGTH_AT_MOST)}' is not documented: did you mean '{near}'?"


def _detail(code: str, pointer: str, expected: str, message: str) -> dict[str, str]:
    return {
        "code": code,
        "target": shortened(pointer, _POINTER_LENGTH_AT_MOST),
        "message": message,
        "expected": expected,
    }


def _own_reply(status: int, token: str, tag: ErrorTag, body: bytes) -> Reply:
    fields: Fields = (
        (b"Content-Type", b"application/json"),
        (b"Cache-Control", b"no-store"),
        # RFC 9209, 2: who failed, and how.
        (b"Proxy-Status", headers.PSEUDONYM + b"; error=" + token.encode("ascii")),
    )
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        fields = (*fields, (b"Retry-After", b"1"))
    return Reply(status, reason_phrase(status), fields, body, tag)
