"""Which request bodies are checked, and what their findings lead to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from proxy.core import casing, headers
from proxy.core.coding import DecodedTooLargeError, UndecodableError, decoded
from proxy.core.headers import is_json_media_type
from proxy.core.jsontext import UnreadableJsonError, parse
from proxy.core.model import NOTHING_FOUND, Action, BodyResult, Fields, Findings, Kind, Mode

if TYPE_CHECKING:
    from proxy.core.casing import Shape


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of checking one body: the verdict and, when it was fixed, the bytes to send in its place.

    `action` is None where there is no mismatch.
    """

    result: BodyResult | None
    findings: Findings = NOTHING_FOUND
    action: Action | None = None
    fixed_body: bytes | None = None


# Read in some 30 ms. The largest batch that the documentation allows, 500 indicators, has less than 20,000.
_VALUES_AT_MOST: Final = 100_000

UNCHECKED = Checked(None)
TOO_LARGE = Checked(BodyResult.TOO_LARGE)
NOT_JSON = Checked(BodyResult.NOT_JSON)


def may_be_json(fields: Fields) -> bool:
    """Whether a body with these header `fields` is worth reading as JSON.

    JSON that is sent without a content type, or as `text/plain`, is: real clients do both.
    """
    types = headers.values(fields, b"content-type")
    return not types or all(_may_hold_json(value.decode("latin-1")) for value in types)


def check(body: bytes, fields: Fields, shape: Shape, mode: Mode, *, limit_bytes: int) -> Checked:
    """Return what the check says of `body`, sent with header `fields` for an operation whose body has `shape`.

    `limit_bytes` bounds the decoded copy of a coded body. An empty body is not one, and has no result.
    """
    if not body:
        return UNCHECKED
    codings = headers.joined(fields, b"content-encoding")
    try:
        text = decoded(body, codings, limit_bytes=limit_bytes) if codings else body
        if _has_too_many_values(text):
            return TOO_LARGE
        findings = casing.examine(parse(text), shape)
    except DecodedTooLargeError:
        return TOO_LARGE
    except UndecodableError:
        return Checked(BodyResult.UNREADABLE)
    except UnreadableJsonError:
        declared = any(is_json_media_type(v.decode("latin-1")) for v in headers.values(fields, b"content-type"))
        return Checked(BodyResult.UNREADABLE if declared else BodyResult.NOT_JSON)
    if not findings.mismatches:
        return Checked(_result(findings), findings)
    if mode is Mode.OBSERVE:
        return Checked(BodyResult.MISMATCH, findings, Action.OBSERVED)
    if mode is Mode.FIX and _is_fixable(findings, fields):
        fixed = casing.respell(body, findings.mismatches)
        return Checked(BodyResult.MISMATCH, findings, Action.FIXED, fixed)
    return Checked(BodyResult.MISMATCH, findings, Action.REJECTED)


def _has_too_many_values(text: bytes) -> bool:
    """Whether reading `text` would hold up everything else: Python's JSON reader lets no other thread run meanwhile."""
    if len(text) <= _VALUES_AT_MOST:
        return False
    return text.count(b",") + text.count(b"{") + text.count(b"[") > _VALUES_AT_MOST


def _may_hold_json(media_type: str) -> bool:
    return is_json_media_type(media_type) or media_type.partition(";")[0].strip(" \t").lower() in {"", "text/plain"}


def _is_fixable(findings: Findings, fields: Fields) -> bool:
    """Whether rewriting names alone makes the body right, and nothing forbids it.

    A value is the caller's to change; of two spellings of one parameter nobody can say which was meant; a coded
    body would have to be coded anew; and a digest or `no-transform` (RFC 9110, 7.7) covers the bytes as they are.
    """
    return not (
        any(mismatch.conflict or mismatch.kind is Kind.VALUE for mismatch in findings.mismatches)
        or headers.is_coded(fields)
        or headers.is_covered(fields)
    )


def _result(findings: Findings) -> BodyResult:
    if findings.duplicates:
        return BodyResult.DUPLICATE_NAMES
    return BodyResult.UNKNOWN_NAMES if findings.unknown_count else BodyResult.CLEAN
