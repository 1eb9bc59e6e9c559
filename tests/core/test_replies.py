from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.catalog import Catalog, Document, Operation
from proxy.core.check import Checked, check
from proxy.core.codes import ErrorCodes
from proxy.core.failure import Failure
from proxy.core.model import ErrorTag, Fields, Mode, Origin, TargetId, TargetSource, Unfixable
from proxy.core.openapi import compile_catalog
from proxy.core.replies import explain, refuse, reply_of, tag_upstream_error
from proxy.core.shapes import Elements, Recognised, Shapes, recognise

TARGET = TargetId("0f4d4b3e-8f0c-4b6e-9a57-3d2f1c0b9a88")
GUID = "3a1f5d3c-7c2a-4a37-8a71-0d3a3a0f2f11"
CODES = ErrorCodes({"Forbidden": 403, "TooManyRequests": 429, "NotFound": 404}, {"429": "TooManyRequests"})

NO_SHAPES = Shapes((), Elements(), Elements())


def catalog() -> Catalog:
    schema = {
        "type": "object",
        "required": ["Comment"],
        "properties": {
            "Comment": {"type": "string"},
            "IsolationType": {"enum": ["Full", "Selective"]},
            "Tags": {"type": "array", "items": {"type": "object", "properties": {"key": {}}, "required": ["key"]}},
        },
    }
    isolate = {"operationId": "isolateMachine", "requestBody": {"content": {"application/json": {"schema": schema}}}}
    paths = {"/api/machines/{id}/isolate": {"post": isolate}}
    return compile_catalog([Document("test", {"openapi": "3.1.0", "paths": paths})])


ISOLATE: Operation = catalog().operations[0]


def checked(text: bytes, mode: Mode = Mode.REJECT, fields: Fields = ()) -> Checked:
    assert ISOLATE.body is not None
    return check(text, fields, ISOLATE.body, mode, limit_bytes=1_000_000)


def refused(text: bytes, mode: Mode = Mode.REJECT, fields: Fields = ()) -> dict[str, Any]:
    error: dict[str, Any] = json.loads(refuse(ISOLATE, checked(text, mode, fields), TARGET).body)["error"]
    return error


def test_the_rejection_is_the_one_of_the_contract() -> None:
    reply = refuse(ISOLATE, checked(b'{"comment": "x"}'), TARGET)
    assert (reply.status, reply.reason) == (400, "Bad Request")
    assert type(reply.status) is int  # an HTTPStatus is equal, but reads otherwise in a log for people
    assert json.loads(reply.body) == {
        "error": {
            "code": "MissingRequiredParameter",
            "message": "Body parameters are case-sensitive: 'comment' must be 'Comment' "
            "(POST /api/machines/{id}/isolate).",
            "target": TARGET,
            "details": [
                {
                    "code": "ParameterCaseMismatch",
                    "target": "/comment",
                    "message": "'comment' must be 'Comment'",
                    "expected": "Comment",
                }
            ],
            "names": ["/Comment"],
        }
    }
    assert reply.tag.code == reply.tag.label == "MissingRequiredParameter"
    assert (reply.tag.origin, reply.tag.target_id, reply.tag.target_source) == (
        Origin.PROXY,
        TARGET,
        TargetSource.PROXY,
    )
    assert reply.fields == (
        (b"Content-Type", b"application/json"),
        (b"Cache-Control", b"no-store"),
        (b"Proxy-Status", b"defender-sidecar; error=http_request_denied"),
    )


@pytest.mark.parametrize(
    ("text", "code"),
    [
        pytest.param(b'{"comment": 1}', "MissingRequiredParameter", id="required-under-a-wrong-spelling-alone"),
        pytest.param(b'{"comment": 1, "Comment": 2}', "InvalidRequestBody", id="required-is-there-too"),
        pytest.param(b'{"Comment": 1, "isolationType": 2}', "InvalidRequestBody", id="optional"),
        pytest.param(b'{"Comment": 1, "IsolationType": "full"}', "InvalidRequestBody", id="value"),
        pytest.param(b'{"Comment": 1, "Tags": [{"Key": 1}]}', "MissingRequiredParameter", id="required-within"),
    ],
)
def test_code_of_a_rejection(text: bytes, code: str) -> None:
    assert refused(text)["code"] == code


def test_all_mismatches_are_told_at_once() -> None:
    error = refused(b'{"comment": 1, "isolation_type": "full", "tags": [{"KEY": 1}, {"Key": 2}]}')
    assert [detail["target"] for detail in error["details"]] == [
        "/comment",
        "/isolation_type",
        "/isolation_type",
        "/tags",
        "/tags/0/KEY",
        "/tags/1/Key",
    ]
    for detail in error["details"]:
        assert detail["message"] in error["message"]


def test_more_mismatches_than_a_sentence_holds_are_counted_in_it_and_told_one_by_one_behind() -> None:
    error = refused(b'{"Comment": 1, "Tags": [' + b",".join([b'{"Key": 1}'] * 25) + b"]}")
    assert error["message"].count("must be") == 10
    assert "and 15 more" in error["message"]
    assert len(error["details"]) == 25


def test_a_rejection_is_bounded_however_many_mismatches_there_are() -> None:
    error = refused(b'{"Comment": 1, "Tags": [' + b",".join([b'{"Key": 1}'] * 5_000) + b"]}")
    assert len(error["details"]) == 1_000
    assert len(error["names"]) == 101
    assert error["names"][-1] == "…"


def test_ten_thousand_mismatches_with_long_names_make_no_large_reply() -> None:
    long = "K" + "_" * 90 + "ey"
    text = b'{"Comment": 1, "Tags": [' + b",".join([b'{"%s": 1}' % long.encode()] * 10_000) + b"]}"
    reply = refuse(ISOLATE, checked(text), TARGET)
    assert len(reply.body) < 500_000
    assert len(reply.tag.message) < 2_000


def test_names_are_those_of_the_corrected_body_in_its_order() -> None:
    error = refused(b'{"isolation_type": "Full", "tags": [{"KEY": 1}, {"key": 2}], "comment": 1, "strange": 1}')
    assert error["names"] == ["/IsolationType", "/Tags", "/Tags/0/key", "/Tags/1/key", "/Comment"]


def test_a_near_miss_is_told_behind_the_mismatches() -> None:
    error = refused(b'{"Isolatontype": "Full", "comment": 1, "strange": 1}')
    assert error["details"] == [
        {
            "code": "ParameterCaseMismatch",
            "target": "/comment",
            "message": "'comment' must be 'Comment'",
            "expected": "Comment",
        },
        {
            "code": "UnknownParameter",
            "target": "/Isolatontype",
            "message": "'Isolatontype' is not documented: did you mean 'IsolationType'?",
            "expected": "IsolationType",
        },
    ]


@pytest.mark.parametrize(
    ("text", "fields", "why"),
    [
        pytest.param(
            b'{"Comment": 1, "comment": 2}', (), "it holds a parameter under two spellings", id="two-spellings"
        ),
        pytest.param(
            b'{"Comment": 1, "IsolationType": "full"}', (), "a misspelt value is the caller's to change", id="value"
        ),
        pytest.param(
            gzip.compress(b'{"comment": 1}'), ((b"Content-Encoding", b"gzip"),), "it is compressed", id="coded"
        ),
        pytest.param(
            b'{"comment": 1}',
            ((b"Cache-Control", b"no-transform"),),
            "a digest, a signature or no-transform covers it",
            id="no-transform",
        ),
    ],
)
def test_a_rejection_in_mode_fix_says_why_it_is_one(text: bytes, fields: Fields, why: str) -> None:
    message = refused(text, Mode.FIX, fields)["message"]
    assert message.endswith(f"(POST /api/machines/{{id}}/isolate). The body was not fixed: {why}.")
    assert message.startswith("Body parameters are case-sensitive: ")
    assert "not fixed" not in refused(text, Mode.REJECT, fields)["message"]


def test_all_reasons_not_to_fix_are_told() -> None:
    text = gzip.compress(b'{"Comment": 1, "comment": 2, "IsolationType": "full"}')
    fields = ((b"Content-Encoding", b"gzip"), (b"Digest", b"x"))
    assert checked(text, Mode.FIX, fields).not_fixed == tuple(Unfixable)
    assert refused(text, Mode.FIX, fields)["message"].count("; ") == 3


SECRET = "s3cr3t-value-of-a-caller"  # noqa: S105 - it opens nothing


@given(
    st.dictionaries(
        st.sampled_from(["comment", "Comment", "isolation_type", "tags", "Coment"]),
        st.recursive(st.just(SECRET), lambda inside: st.lists(inside) | st.dictionaries(st.just("Key"), inside)),
    )
)
def test_no_value_of_a_body_is_in_its_rejection(document: dict[str, Any]) -> None:
    found = checked(json.dumps(document).encode())
    assert SECRET.encode() not in refuse(ISOLATE, found, TARGET).body


def test_a_long_spelling_is_shortened() -> None:
    name = "comment" + "_" * 200
    (mismatch,) = checked(json.dumps({name: 1}).encode()).findings.mismatches
    assert len(explain(mismatch)) < 100
    assert "…" in explain(mismatch)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param(b'{"comment": 1}', "'comment' must be 'Comment'", id="name"),
        pytest.param(
            b'{"IsolationType": "FULL"}', "value 'FULL' of 'IsolationType' must be 'Full'", id="enumerated-value"
        ),
        pytest.param(
            b'{"Comment": 1, "comment": 2}',
            "'comment' must be 'Comment', of which the body holds another spelling too: keep one",
            id="both-spellings",
        ),
    ],
)
def test_explanation(text: bytes, told: str) -> None:
    assert explain(checked(text).findings.mismatches[0]) == told


@pytest.mark.parametrize("failure", Failure)
def test_every_failure_becomes_the_envelope(failure: Failure) -> None:
    reply = reply_of(failure, TARGET)
    assert json.loads(reply.body) == {"error": {"code": failure.code, "message": failure.message, "target": TARGET}}
    assert reply.status == failure.status
    assert dict(reply.fields)[b"Proxy-Status"] == b"defender-sidecar; error=" + failure.token.encode()
    assert (b"Retry-After" in dict(reply.fields)) == (failure.status == 503)


def test_a_detail_stands_behind_the_message() -> None:
    reply = reply_of(Failure.MALFORMED_REQUEST, TARGET, detail="More.")
    assert reply.tag.message == f"{Failure.MALFORMED_REQUEST.message} More."


@pytest.mark.parametrize(
    ("body", "fields", "target", "source"),
    [
        pytest.param(
            {"error": {"code": "Forbidden", "message": "", "target": GUID}},
            ((b"x-ms-request-id", b"in-a-field"),),
            GUID,
            TargetSource.ENVELOPE,
            id="envelope-first",
        ),
        pytest.param(
            {"error": {"code": "Forbidden", "message": "", "target": "|eb291c4-5f0e3a1b2c4d6e7f."}},
            (),
            "|eb291c4-5f0e3a1b2c4d6e7f.",
            TargetSource.ENVELOPE,
            id="older-form",
        ),
        pytest.param(
            {"error": {"code": "Forbidden", "message": "", "target": "query", "innerError": {"request-id": GUID}}},
            ((b"x-ms-request-id", b"in-a-field"),),
            GUID,
            TargetSource.BODY,
            id="inner-error-where-the-target-names-a-property",
        ),
        pytest.param(
            {"error": {"code": "Forbidden", "message": "", "target": "Comment"}},
            ((b"request-id", b"second"), (b"X-MS-Request-Id", b"first")),
            "first",
            TargetSource.HEADER,
            id="field-by-rank",
        ),
        pytest.param(
            {"error": {"code": "Forbidden", "message": "", "target": None}},
            ((b"x-ms-request-id", b"not an id"), (b"x-ms-correlation-request-id", b"third")),
            "third",
            TargetSource.HEADER,
            id="field-that-is-no-id-is-passed-over",
        ),
        pytest.param({"error": {"code": "Forbidden", "message": ""}}, (), TARGET, TargetSource.PROXY, id="none"),
        pytest.param({"Message": "?"}, ((b"request-id", GUID.encode()),), GUID, TargetSource.HEADER, id="other-shape"),
    ],
)
def test_where_the_target_comes_from(body: object, fields: Fields, target: str, source: TargetSource) -> None:
    found = recognise(json.dumps(body).encode(), "", NO_SHAPES, catalog().names)
    tag = tag_upstream_error(403, "Forbidden", fields, found, codes=CODES, own_target=TARGET, now_s=0)
    assert (tag.target_id, tag.target_source) == (target, source)
    assert tag.origin is Origin.UPSTREAM


@pytest.mark.parametrize(
    ("status", "body", "code", "label"),
    [
        pytest.param(403, b'{"error":{"code":"Forbidden","message":"no"}}', "Forbidden", "Forbidden", id="documented"),
        pytest.param(429, b'{"error":{"code":"429","message":"no"}}', "429", "TooManyRequests", id="number"),
        pytest.param(400, b'{"error":{"code":"New","message":"no"}}', "New", "other", id="undocumented-is-kept"),
        pytest.param(429, b"<html>", "TooManyRequests", "TooManyRequests", id="none-but-a-status-of-one-code"),
        pytest.param(502, b"<html>", "BadGateway", "other", id="none"),
        pytest.param(413, b"", "ContentTooLarge", "other", id="renamed-status"),
        pytest.param(599, b"", "other", "other", id="unheard-of-status"),
        pytest.param(502, None, "other", "other", id="too-large-to-be-read"),
    ],
)
def test_code_of_an_upstream_error(status: int, body: bytes | None, code: str, label: str) -> None:
    found = None if body is None else recognise(body, "", NO_SHAPES)
    tag = tag_upstream_error(status, "Reason", (), found, codes=CODES, own_target=TARGET, now_s=0)
    assert (tag.code, tag.label) == (code, label)


def upstream_tag(status: int, found: Recognised, fields: Fields = ()) -> ErrorTag:
    return tag_upstream_error(status, "Reason", fields, found, codes=CODES, own_target=TARGET, now_s=0)


@pytest.mark.parametrize(
    ("status", "found", "code"),
    [
        pytest.param(400, Recognised("entra", "invalid_client"), "invalid_client", id="its-own"),
        pytest.param(403, Recognised("gateway", "404"), "NotFound", id="a-status-in-the-body"),
        pytest.param(403, Recognised("gateway", "40301"), "40301", id="a-number-that-is-no-status"),
        pytest.param(429, Recognised("gateway", "429"), "TooManyRequests", id="throttled"),
        pytest.param(503, Recognised("gateway", None, "Retry after 5 seconds"), "TooManyRequests", id="503-with-wait"),
        pytest.param(503, Recognised("gateway", "Busy", "Retry after 5 seconds"), "Busy", id="503-with-its-own"),
        pytest.param(503, Recognised("gateway", None, "Down"), "ServiceUnavailable", id="503-without-a-wait"),
    ],
)
def test_code_of_another_shape(status: int, found: Recognised, code: str) -> None:
    assert upstream_tag(status, found).code == code


def test_what_a_throttled_response_says() -> None:
    found = Recognised("gateway", None, "maximum allowed 45 per 00:01:00")
    tag = upstream_tag(429, found, ((b"x-ms-ratelimit-remaining-tenant-reads", b"0"),))
    assert (tag.shape, tag.retry_after_s) == ("gateway", 60)
    assert dict(tag.quota) == {"x-ms-ratelimit-remaining-tenant-reads": "0", "allowed": "45", "per_s": "60"}


def test_quota_of_a_response_that_is_not_throttled_is_nobodys_concern() -> None:
    assert upstream_tag(500, Recognised("text"), ((b"x-ratelimit-limit", b"10"),)).quota == ()


def test_the_message_is_told_without_its_secrets() -> None:
    assert upstream_tag(401, Recognised("text", None, "bad token eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.")).message == (
        "bad token ***"
    )


@pytest.mark.parametrize(
    ("status", "reason", "message"),
    [
        pytest.param(418, "Teapot", "Teapot", id="reason"),
        pytest.param(404, "", "Not Found", id="phrase"),
        pytest.param(599, "", "The upstream answered with status 599.", id="neither"),
    ],
)
def test_an_error_that_says_nothing_has_a_message_all_the_same(status: int, reason: str, message: str) -> None:
    tag = tag_upstream_error(status, reason, (), Recognised("empty"), codes=CODES, own_target=TARGET, now_s=0)
    assert tag.message == message
