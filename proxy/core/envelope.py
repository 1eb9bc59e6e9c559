"""The error envelope of the Defender APIs: read from strangers' bytes, and written."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from proxy.core.casing import fold
from proxy.core.model import ErrorCode, ErrorEnvelope, JsonValue, TargetId

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

ID_LENGTH_AT_MOST: Final = 128

_ID: Final = re.compile(rf"[!-~]{{1,{ID_LENGTH_AT_MOST}}}")
_GUID: Final = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_PATH_SEPARATORS: Final = re.compile(r"[./\[\]()@$#'\"]+")
# A name of a property in a path: an identifier without a digit, or an index.
_PATH_STEP: Final = re.compile(r"[A-Za-z_\-]+|\d{1,6}")

_DECODER: Final = json.JSONDecoder(parse_int=float)


def parse_id(value: object) -> TargetId | None:
    """Return `value` as an ID that may stand in a header: 1 to 128 characters of visible ASCII. Else None."""
    return TargetId(value) if isinstance(value, str) and _ID.fullmatch(value) else None


def parse_target(value: object, names: Collection[str] = ()) -> TargetId | None:
    """Return `value`, the `target` of an error, where it is a tracking ID; None where it is anything else.

    A GUID is one, and so is the older `|eb291c4-5f0e3a1b2c4d6e7f.`; any other token is one unless it reads as the
    name of a property or a path to one, which is what `target` means in OData and Graph. `names` are parameter
    names, folded, that are never IDs.

    Source: Defender for Endpoint, "Handling REST API errors"; OData JSON Format 4.01, 21.1, for the other meaning.
    """
    target = parse_id(value)
    if target is None or _GUID.fullmatch(target) or target.startswith("|"):
        return target
    steps = [step for step in _PATH_SEPARATORS.split(target) if step]
    if all(_PATH_STEP.fullmatch(step) or fold(step) in names for step in steps):
        return None
    return target


def parse_envelope(body: bytes, names: Collection[str] = ()) -> ErrorEnvelope | None:
    """Return the envelope that `body` is, decoded content and not a coded one; None where it is anything else.

    `names` are folded parameter names that are never a target ID. Any bytes get an answer: nothing is raised.
    """
    try:
        document: JsonValue = _DECODER.decode(body.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None
    return envelope_of(document, names)


def envelope_of(document: JsonValue, names: Collection[str] = ()) -> ErrorEnvelope | None:
    """Return the envelope that decoded JSON is, None where it is anything else; `names` as for `parse_envelope`."""
    match document:
        case {"error": {"code": str(code), **rest}} if code:
            message = rest.get("message")
            # A message that is no text makes this somebody else's shape; the documentation knows errors without one.
            if message is not None and not isinstance(message, str):
                return None
            return ErrorEnvelope(
                ErrorCode(code), message or "", parse_target(rest.get("target"), names), _inner_request_id(rest, names)
            )
    return None


def _inner_request_id(error: Mapping[Any, JsonValue], names: Collection[str]) -> TargetId | None:
    # Graph's documentation spells it both ways.
    for name in ("innerError", "innererror"):
        match error.get(name):
            case {"request-id": request_id}:
                return parse_target(request_id, names)
    return None


def render_envelope(
    code: str,
    message: str,
    target: TargetId,
    details: Sequence[Mapping[str, JsonValue]] = (),
    innererror: Mapping[str, JsonValue] | None = None,
    names: Sequence[str] = (),
) -> bytes:
    """Return the envelope as JSON in ASCII; `details`, `names` and `innererror` are left out when there are none."""
    error: dict[str, object] = {"code": code, "message": message, "target": target}
    if details:
        error["details"] = list(details)
    if names:
        error["names"] = list(names)
    if innererror:
        error["innererror"] = innererror
    return json.dumps({"error": error}).encode()
