"""Errors made whole: whatever an upstream answers from 400 up becomes the one envelope, or problem details."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from proxy.core import headers
from proxy.core.accept import PROBLEM
from proxy.core.codes import OTHER, reason_phrase
from proxy.core.coding import DecodedTooLargeError, UndecodableError, UnknownCodingError, decoded, salvaged
from proxy.core.envelope import render_envelope
from proxy.core.jsontext import with_members
from proxy.core.masking import masked, masked_document
from proxy.core.model import Reply
from proxy.core.replies import tag_upstream_error
from proxy.core.shapes import BINARY, EMPTY, Recognised, as_code, recognise
from proxy.core.throttling import with_wait

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from proxy.core.codes import ErrorCodes
    from proxy.core.masking import Secrets
    from proxy.core.model import ErrorTag, Fields, JsonValue, TargetId
    from proxy.core.shapes import Shapes

_BOM: Final = b"\xef\xbb\xbf"
_JSON: Final = b"application/json"
_JSON_IN_UTF_8: Final = b"application/json; charset=utf-8"

ORIGINAL_AT_MOST: Final = 8192
"""How many characters of JSON the original takes in `innererror`; of a longer one, its beginning is kept as text."""

_PROBLEM: Final = "problem"
_EXCERPT_AT_MOST: Final = 2048
# What is longer than this is not masked to its end, only to be cut off then.
_MASKED_AT_MOST: Final = 2 * ORIGINAL_AT_MOST
_MEDIA_TYPE_AT_MOST: Final = 128
_DETAILS_AT_MOST: Final = 100

# Of problem details that a sender wrote, what nobody else can know.
_KEPT: Final = ("type", "title", "instance")
# Members of problem details (RFC 9457, 3.1), and what other shapes are told by: an extension is called otherwise.
_NO_EXTENSIONS: Final = frozenset(
    {"type", "title", "status", "detail", "instance", "code", "message", "target", "details", "error", "fault"}
    | {"odata.error", "errors", "statuscode", "error_description", "timestamp", "exceptionmessage"}
)


class Form(Enum):
    """What becomes of an error's body."""

    KEPT = "kept"
    ENVELOPE = "envelope"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Rules:
    """What errors are read by: codes, shapes, folded names that are never a target ID, and how much is decoded."""

    codes: ErrorCodes
    shapes: Shapes
    names: Collection[str]
    limit_bytes: int


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """An upstream's error as it came, hop-by-hop fields left out.

    `body` is None where there is more of it than may be held; `is_cut` says that it stopped, or broke off, before its
    end. `secrets` are the credentials that the request carried.
    """

    status: int
    reason: str
    fields: Fields
    body: bytes | None
    is_head: bool = False
    is_cut: bool = False
    secrets: Secrets = ()


def answer_to(response: ErrorResponse, rules: Rules, form: Form, *, own_target: TargetId, now_s: float) -> Reply:
    """Return what the client gets of `response`, and its tag.

    The body is empty where `response.body` is None, and where a body that is cut stays as it is. Such errors count as
    `other`. `own_target` is for an error that has no ID of its own, `now_s` the time since the epoch.
    """
    readable, content, found = _read(response, rules)
    tag = tag_upstream_error(
        response.status, response.reason, response.fields, found,
        codes=rules.codes, own_target=own_target, now_s=now_s, secrets=response.secrets,
    )  # fmt: skip
    if response.is_cut:
        tag = replace(tag, label=OTHER)
    if form is Form.KEPT:
        return Reply(response.status, response.reason, response.fields, _kept_body(response), tag)
    if response.is_head:
        fields = _of_head(with_wait(response.status, response.fields, tag.retry_after_s), form)
        return Reply(response.status, response.reason, fields, b"", tag)
    if found is None:
        fields = with_wait(response.status, response.fields, tag.retry_after_s)
        return Reply(response.status, response.reason, fields, _kept_body(response), tag)
    return normalise(readable, content, found, tag, form)


def _kept_body(response: ErrorResponse) -> bytes:
    """Return the body that goes out whole if it stays as it is; one that is cut has to be seen to be."""
    return b"" if response.is_cut else response.body or b""


def _read(response: ErrorResponse, rules: Rules) -> tuple[ErrorResponse, bytes | None, Recognised | None]:
    """Return the response, its content, None where codings hide it, and what that says, None where it is too much.

    A body that is not in the coding that it claims could be read by no client: what can be read of it takes its place.
    """
    body, fields = response.body, response.fields
    if body is None:
        return response, None, None
    codings = headers.joined(fields, b"content-encoding")
    media_type = headers.joined(fields, b"content-type")
    try:
        content = decoded(body, codings, limit_bytes=rules.limit_bytes) if body else b""
    except UnknownCodingError:
        return response, None, Recognised(BINARY)
    except DecodedTooLargeError:
        return response, None, None
    except UndecodableError:
        content = b""
    found = recognise(content, media_type, rules.shapes, rules.names, response.secrets)
    if not body or (content and found.shape != BINARY):
        return response, content, found
    content = salvaged(body, codings, limit_bytes=rules.limit_bytes)
    found = recognise(content, media_type, rules.shapes, rules.names, response.secrets)
    if found.shape in {BINARY, EMPTY}:
        return response, body, Recognised(BINARY)
    return replace(response, body=content, fields=headers.of_another_body(fields)), content, found


def normalise(
    response: ErrorResponse, content: bytes | None, found: Recognised, tag: ErrorTag, form: Form = Form.ENVELOPE
) -> Reply:
    """Return `response` as the envelope, or as problem details; `found` and `tag` say what its `content` is.

    The envelope is passed on byte for byte; one without a target, or without a message, gets that member, and every
    other byte stays. Everything else is written anew, with the original in `innererror`, masked and bounded. Status,
    reason and all fields stay but those that tell of the former body's bytes; a wait becomes `Retry-After` in seconds.
    What is in a coding that cannot be undone, or marked `no-transform`, keeps its body. Doing it twice changes nothing.
    """
    fields = with_wait(response.status, response.fields, tag.retry_after_s)
    kept = Reply(response.status, response.reason, fields, _kept_body(response), tag)
    if content is None or headers.forbids_transform(fields):
        return kept
    if form is Form.PROBLEM:
        if _is_problem(found, tag, fields):
            return kept
        if (body := _completed_problem(response, content, found, tag)) is not None:
            fields = _negotiated(headers.of_another_body(fields))
            return Reply(response.status, response.reason, fields, body, tag)
        return _as_problem(response, fields, found, tag)
    body, media_type = _as_envelope(response, content, found, tag)
    if body is None:
        return replace(kept, body=response.body or b"")
    return Reply(response.status, response.reason, headers.of_another_body(fields, media_type), body, tag)


def _of_head(fields: Fields, form: Form) -> Fields:
    """Return the fields of an answer to HEAD.

    What says that it is no JSON would have been written anew for a GET, so what tells of its bytes goes (RFC 9110,
    9.3.2). Of anything else nobody knows.
    """
    if headers.forbids_transform(fields):
        return fields
    if form is Form.PROBLEM:
        return _negotiated(headers.of_another_body(fields, PROBLEM.encode("ascii")))
    media_type = headers.joined(fields, b"content-type")
    if not media_type or headers.is_json_media_type(media_type):
        return fields
    return headers.of_another_body(fields, _JSON)


def problem_of(reply: Reply) -> Reply:
    """Return a reply of the proxy's own, whose body is the envelope, as problem details (RFC 9457)."""
    error = json.loads(reply.body)["error"]
    body = _problem(reply.status, reply.reason, reply.tag, error["message"], {}, _extensions(error))
    fields = headers.set_in_place(reply.fields, b"Content-Type", PROBLEM.encode("ascii"))
    return Reply(reply.status, reply.reason, _negotiated(fields), body, reply.tag)


def _as_envelope(
    response: ErrorResponse, content: bytes, found: Recognised, tag: ErrorTag
) -> tuple[bytes | None, bytes | None]:
    """Return the body as the envelope and its type; None for the body that need not change, and for such a type."""
    error = _error_with_room(found, tag)
    if error is not None and found.text is not None and found.text.lstrip().startswith("{"):
        lacking = {}
        if error.get("message") is None:
            lacking["message"] = _message(response, tag)
        if error.get("target") != tag.target_id:
            lacking["target"] = tag.target_id
        in_utf_8 = found.text.encode()
        if content.removeprefix(_BOM) != in_utf_8:
            return with_members(in_utf_8, ("error",), lacking), _JSON_IN_UTF_8
        return (with_members(content, ("error",), lacking), None) if lacking else (None, None)
    original = _original(response, found)
    return render_envelope(tag.code, _message(response, tag), tag.target_id, _details(response, found), original), _JSON


def _error_with_room(found: Recognised, tag: ErrorTag) -> Mapping[str, JsonValue] | None:
    """Return the error of an envelope whose target is the target ID, or that has none; None for anything else."""
    if found.envelope is None:
        return None
    error: Mapping[str, JsonValue] = found.document["error"]
    return error if error.get("target") in (None, "", tag.target_id) else None


def _message(response: ErrorResponse, tag: ErrorTag) -> str:
    return (
        tag.message
        or masked(response.reason, response.secrets)
        or reason_phrase(response.status)
        or str(response.status)
    )


def _details(response: ErrorResponse, found: Recognised) -> list[Any]:
    """Return the further errors, masked: the first ones, as far as there is room, and how many are left out."""
    shown: list[Any] = []
    room = ORIGINAL_AT_MOST
    for detail in found.details[:_DETAILS_AT_MOST]:
        room -= len(json.dumps(detail))
        if room < 0:
            break
        shown.append(masked_document(detail, response.secrets))
    if omitted := len(found.details) - len(shown):
        shown.append({"code": "DetailsOmitted", "message": f"{omitted} more are left out here."})
    return shown


def _is_short(found: Recognised) -> bool:
    return len(found.text or "") <= _MASKED_AT_MOST


def _original(response: ErrorResponse, found: Recognised) -> Mapping[str, JsonValue] | None:
    """Return the original for `innererror`, an object as in OData: without secrets, and bounded."""
    if found.shape == EMPTY:
        return None
    if isinstance(found.document, dict) and _is_short(found):
        document: dict[str, JsonValue] = masked_document(found.document, response.secrets)
        if len(json.dumps(document)) <= ORIGINAL_AT_MOST:
            return document
    original: dict[str, JsonValue] = {}
    if media_type := headers.joined(response.fields, b"content-type"):
        original["contentType"] = masked(media_type, response.secrets)[:_MEDIA_TYPE_AT_MOST]
    if found.shape == BINARY or found.text is None:
        return original | {"bytes": len(response.body or b"")}
    content = masked(found.text[:_MASKED_AT_MOST], response.secrets).strip()
    return original | {"content": content if len(content) <= _EXCERPT_AT_MOST else content[:_EXCERPT_AT_MOST] + "…"}


def _is_problem(found: Recognised, tag: ErrorTag, fields: Fields) -> bool:
    """Whether the response is what `_as_problem` makes of it already."""
    essence = headers.joined(fields, b"content-type").partition(";")[0].strip().lower()
    match found.document:
        case {"title": str(), "status": int(), "detail": str(), "code": str(code), "target": str(target)}:
            return essence == PROBLEM and code == tag.code and target == tag.target_id
    return False


def _completed_problem(response: ErrorResponse, content: bytes, found: Recognised, tag: ErrorTag) -> bytes | None:
    """Return problem details with the members that they lack, every other byte kept; None where they are none."""
    document, text = found.document, found.text
    if found.shape != _PROBLEM or not isinstance(document, dict) or text is None or not text.lstrip().startswith("{"):
        return None
    lacking = {"code": tag.code, "target": tag.target_id}
    if any(document.get(name) not in (None, "", value) for name, value in lacking.items()):
        return None
    if not headers.is_json_media_type(headers.joined(response.fields, b"content-type")) or content != text.encode():
        return None
    told = {"title": _title(response.status, response.reason), "detail": _message(response, tag)}
    lacking |= {name: value for name, value in told.items() if document.get(name) is None}
    return with_members(content, (), {name: value for name, value in lacking.items() if document.get(name) != value})


def _title(status: int, reason: str) -> str:
    """Return the title of problems of the type about:blank: the status' phrase (RFC 9457, 4.2.1)."""
    return reason_phrase(status) or reason or str(status)


def _as_problem(response: ErrorResponse, fields: Fields, found: Recognised, tag: ErrorTag) -> Reply:
    own: Mapping[str, str] = {}
    extensions: dict[str, JsonValue] = {}
    if (error := _error_with_room(found, tag)) is not None:
        extensions = _extensions(error, response.secrets) if _is_short(found) else {}
    else:
        original = _original(response, found)
        if isinstance(found.document, dict):
            texts = {name: found.document[name] for name in _KEPT if _is_short_text(found.document.get(name))}
            own = {name: masked(text, response.secrets) for name, text in texts.items()}
        if details := _details(response, found):
            extensions["details"] = details
        if original:
            extensions["innererror"] = original
    body = _problem(response.status, response.reason, tag, _message(response, tag), own, extensions)
    fields = _negotiated(headers.of_another_body(fields, PROBLEM.encode("ascii")))
    return Reply(response.status, response.reason, fields, body, tag)


def _problem(
    status: int,
    reason: str,
    tag: ErrorTag,
    detail: str,
    own: Mapping[str, str],
    extensions: Mapping[str, JsonValue],
) -> bytes:
    """Return problem details; `own` are the members that nobody but their sender can know."""
    title = _title(status, reason)
    document: dict[str, JsonValue] = {"type": "about:blank", "title": title, "status": status, "detail": detail, **own}
    # What is read of it again is the same then: only an envelope's code is of any length.
    return json.dumps({**document, "code": as_code(tag.code), "target": tag.target_id, **extensions}).encode()


def _extensions(error: Mapping[str, JsonValue], secrets: Secrets = ()) -> dict[str, JsonValue]:
    """Return the members of an envelope's error beside code, message and target, as far as they may be extensions."""
    rest = {name: value for name, value in error.items() if name.lower() not in _NO_EXTENSIONS}
    if isinstance(error.get("details"), list):
        rest["details"] = error["details"]
    extensions: dict[str, JsonValue] = masked_document(rest, secrets)
    return extensions


def _is_short_text(value: JsonValue) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _EXCERPT_AT_MOST


def _negotiated(fields: Fields) -> Fields:
    """Return `fields` for a body that the request's Accept has chosen (RFC 9110, 12.5.5)."""
    named = {token.strip().lower() for token in headers.joined(fields, b"vary").split(",")}
    return fields if named & {"*", "accept"} else (*fields, (b"Vary", b"Accept"))
