"""Which request bodies are checked, and what their findings lead to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from proxy.core import casing, headers, hints
from proxy.core.coding import DecodedTooLargeError, UndecodableError, decoded
from proxy.core.headers import is_json_media_type
from proxy.core.jsontext import UnreadableJsonError, parse
from proxy.core.model import (
    NOTHING_FOUND,
    Action,
    BodyResult,
    Fields,
    Findings,
    JsonValue,
    Kind,
    Mode,
    Pointer,
    Suspect,
    Suspicion,
    Unfixable,
)

if TYPE_CHECKING:
    from proxy.core.casing import Shape


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of checking one body: the verdict and, when it was fixed, the bytes to send in its place.

    `action` is None where there is no mismatch. Of a rejected body, `names` are pointers to its documented names as
    they should be spelt, and `not_fixed` says why mode `fix` did not mend it.
    """

    result: BodyResult | None
    findings: Findings = NOTHING_FOUND
    action: Action | None = None
    fixed_body: bytes | None = None
    names: tuple[Pointer, ...] = ()
    not_fixed: tuple[Unfixable, ...] = ()


# Read in some 20 ms. The largest batch that the documentation allows, 500 indicators, has less than 20,000.
_VALUES_AT_MOST: Final = 50_000

UNCHECKED = Checked(None)
TOO_LARGE = Checked(BodyResult.TOO_LARGE)
NOT_JSON = Checked(BodyResult.NOT_JSON)
_CLEAN: Final = Checked(BodyResult.CLEAN)


def may_be_json(fields: Fields) -> bool:
    """Whether a body with these header `fields` is worth reading as JSON.

    JSON that is sent without a content type, or as `text/plain`, is: real clients do both.
    """
    types = headers.values(fields, b"content-type")
    return all(map(_may_hold_json, types))


def check(body: bytes, fields: Fields, shape: Shape, mode: Mode, *, limit_bytes: int) -> Checked:
    """Return what the check says of `body`, sent with header `fields` for an operation whose body has `shape`.

    `limit_bytes` bounds the decoded copy of a coded body. An empty body is not one, and has no result.
    """
    if not body:
        return UNCHECKED
    try:
        document = _document(body, fields, limit_bytes)
    except DecodedTooLargeError:
        return TOO_LARGE
    except UndecodableError:
        return Checked(BodyResult.UNREADABLE)
    except UnreadableJsonError:
        declared = any(is_json_media_type(v.decode("latin-1")) for v in headers.values(fields, b"content-type"))
        return Checked(BodyResult.UNREADABLE if declared else BodyResult.NOT_JSON)
    findings = casing.examine(document, shape)
    if findings is NOTHING_FOUND:
        return _CLEAN
    if not findings.mismatches:
        return Checked(_result(findings), findings)
    if mode is Mode.OBSERVE:
        return Checked(BodyResult.MISMATCH, findings, Action.OBSERVED)
    not_fixed = _reasons_not_to_fix(findings, fields) if mode is Mode.FIX else ()
    if mode is Mode.FIX and not not_fixed:
        fixed = casing.respell(body, findings.mismatches)
        return Checked(BodyResult.MISMATCH, findings, Action.FIXED, fixed)
    names = hints.corrected_names(document, shape)
    return Checked(BodyResult.MISMATCH, findings, Action.REJECTED, names=names, not_fixed=not_fixed)


def suspects(body: bytes, fields: Fields, shape: Shape, *, limit_bytes: int) -> tuple[Suspect, ...]:
    """Return what in `body`, which the upstream refused, may be why; the arguments are those of `check`.

    Empty where nothing is suspicious, or where the body is none that `check` reads.
    """
    try:
        return hints.suspects(_document(body, fields, limit_bytes), shape)
    except (DecodedTooLargeError, UndecodableError):
        return ()
    except UnreadableJsonError as error:
        return (Suspect(Suspicion.NOT_JSON, Pointer(""), ("JSON (RFC 8259)",), error.place),) if body else ()


def _document(body: bytes, fields: Fields, limit_bytes: int) -> JsonValue:
    """Return the document that `body` holds, read from a decoded copy.

    Raises:
        DecodedTooLargeError: it is larger than may be read.
        UndecodableError: it is not in the coding that `fields` name.
        UnreadableJsonError: it is not JSON.
    """
    codings = headers.joined(fields, b"content-encoding")
    text = decoded(body, codings, limit_bytes=limit_bytes) if codings else body
    if _has_too_many_values(text):
        raise DecodedTooLargeError
    return parse(text)


def _has_too_many_values(text: bytes) -> bool:
    """Whether reading `text` would hold up everything else: Python's JSON reader lets no other thread run meanwhile."""
    if len(text) <= _VALUES_AT_MOST:
        return False
    return text.count(b",") + text.count(b"{") + text.count(b"[") > _VALUES_AT_MOST


def _may_hold_json(value: bytes) -> bool:
    media_type = value.decode("latin-1")
    return is_json_media_type(media_type) or media_type.partition(";")[0].strip(" \t").lower() in {"", "text/plain"}


def _reasons_not_to_fix(findings: Findings, fields: Fields) -> tuple[Unfixable, ...]:
    """Return why rewriting names alone would not make the body right, or is forbidden; empty where it is neither.

    A value is the caller's to change; of two spellings of one parameter nobody can say which was meant; a coded
    body would have to be coded anew; and a digest or `no-transform` (RFC 9110, 7.7) covers the bytes as they are.
    """
    reasons = {
        Unfixable.CONFLICT: any(mismatch.conflict for mismatch in findings.mismatches),
        Unfixable.VALUE: any(mismatch.kind is Kind.VALUE for mismatch in findings.mismatches),
        Unfixable.CODED: headers.is_coded(fields),
        Unfixable.COVERED: headers.is_covered(fields),
    }
    return tuple(reason for reason, holds in reasons.items() if holds)


def _result(findings: Findings) -> BodyResult:
    if findings.duplicates:
        return BodyResult.DUPLICATE_NAMES
    return BodyResult.UNKNOWN_NAMES if findings.unknown_count else BodyResult.CLEAN
