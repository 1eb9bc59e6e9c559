from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.envelope import ID_LENGTH_AT_MOST, parse_envelope, parse_id, parse_target, render_envelope
from proxy.core.model import ErrorCode, ErrorEnvelope, TargetId

GUID = "0f4d4b3e-5a1c-4c68-9d2b-7e1f00a9c3d4"
NAMES = frozenset({"comment", "sha1", "fileidentifiersha256", "commands", "params"})


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("a", id="one-character"),
        pytest.param("!~", id="ends-of-visible-ascii"),
        pytest.param('"<>,;=\\', id="signs"),
        pytest.param("x" * 128, id="128-characters"),
        pytest.param(GUID, id="guid"),
    ],
)
def test_visible_ascii_may_stand_in_a_header(value: str) -> None:
    assert parse_id(value) == value


NO_IDS = [
    pytest.param("", id="empty"),
    pytest.param("x" * 129, id="129-characters"),
    pytest.param("a b", id="space"),
    pytest.param("a\tb", id="tab"),
    pytest.param("a\r\nSet-Cookie: b", id="line-break"),
    pytest.param(GUID + "\n", id="line-break-at-the-end"),
    pytest.param("\r" + GUID, id="carriage-return-at-the-start"),
    pytest.param("a\x00", id="nul"),
    pytest.param("a\x7f", id="delete"),
    pytest.param("\u00e9", id="latin-1"),
    pytest.param("\u0661\u0662", id="digits-beyond-ascii"),
    pytest.param("\ud800", id="lone-surrogate"),
    pytest.param(None, id="null"),
    pytest.param(4711, id="number"),
    pytest.param(1.5, id="fraction"),
    pytest.param(True, id="literal"),
    pytest.param({"id": GUID}, id="object"),
    pytest.param([GUID], id="array"),
    pytest.param(GUID.encode(), id="bytes"),
]


@pytest.mark.parametrize("value", NO_IDS)
def test_anything_else_may_not_stand_in_a_header(value: object) -> None:
    assert parse_id(value) is None
    assert parse_target(value) is None


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(GUID, id="guid"),
        pytest.param(GUID.upper(), id="guid-in-upper-case"),
        pytest.param("abcdefab-abcd-abcd-abcd-abcdefabcdef", id="guid-without-a-digit"),
        pytest.param(GUID.replace("-", ""), id="guid-without-dashes"),
        pytest.param("{" + GUID + "}", id="guid-in-braces"),
        pytest.param("|eb291c4-5f0e3a1b2c4d6e7f.", id="older-form"),
        pytest.param("|76dce355-471ae6d819782413.", id="older-form-as-recorded"),
        pytest.param("|eb291c4-5f0e3a1b2c4d6e7f.1_8a7b.", id="older-form-with-children"),
        pytest.param("|abcdefab-abcdefabcdefabcd.", id="older-form-without-a-digit"),
        pytest.param("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", id="trace-context"),
        pytest.param("0HLQ3V2N8K1AB:00000001", id="connection-and-request"),
        pytest.param("7e1f00a9c3d4", id="hexadecimal"),
        pytest.param("20240131T120000Z_x7", id="time"),
        pytest.param("123456789012", id="long-number"),
        pytest.param("req_8fJ2kq0Z", id="prefixed-token"),
        pytest.param("x1" * 64, id="128-characters"),
    ],
)
def test_tracking_id_is_a_target(target: str) -> None:
    assert parse_target(target, NAMES) == target


@pytest.mark.parametrize(
    "target",
    [
        pytest.param("Comment", id="parameter"),
        pytest.param("comment", id="other-letter-case"),
        pytest.param("nobodyKnowsThis", id="name-outside-the-catalog"),
        pytest.param("isolation_type", id="snake"),
        pytest.param("isolation-type", id="kebab"),
        pytest.param("Sha1", id="name-of-the-catalog-with-a-digit"),
        pytest.param("sha_1", id="name-of-the-catalog-otherwise-spelt"),
        pytest.param("Commands[0].params", id="path"),
        pytest.param("Commands[0].params[12].key", id="longer-path"),
        pytest.param("Commands/0/params", id="path-with-slashes"),
        pytest.param("/Commands/0/params", id="json-pointer"),
        pytest.param("#/Commands/0/params", id="json-pointer-in-a-fragment"),
        pytest.param("$.Commands[0].type", id="json-path"),
        pytest.param("$['Commands'][0]['type']", id="json-path-in-brackets"),
        pytest.param("Machines(Sha1)", id="parentheses"),
        pytest.param("Commands[0].FileIdentifierSha256", id="path-to-a-name-with-digits"),
        pytest.param("@odata.type", id="annotation"),
        pytest.param("query", id="graph"),
        pytest.param("...", id="separators-alone"),
        pytest.param("$", id="whole-document"),
        pytest.param("-", id="dash"),
    ],
)
def test_name_of_a_property_is_no_target(target: str) -> None:
    assert parse_target(target, NAMES) is None


def test_name_with_a_digit_is_told_from_an_id_by_the_catalog() -> None:
    assert parse_target("Sha1") == "Sha1"
    assert parse_target("Sha1", {"sha1"}) is None


@given(st.text() | st.from_regex(r"[!-~]{0,130}") | st.none() | st.integers() | st.lists(st.text()))
def test_target_is_a_sane_id_or_none(value: object) -> None:
    target = parse_target(value, NAMES)
    assert target is None or target == value
    assert target is None or (0 < len(target) <= ID_LENGTH_AT_MOST and all("!" <= sign <= "~" for sign in target))


def envelope(code: str, message: str = "", target: str | None = None, request_id: str | None = None) -> ErrorEnvelope:
    return ErrorEnvelope(
        ErrorCode(code),
        message,
        None if target is None else TargetId(target),
        None if request_id is None else TargetId(request_id),
    )


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(
            {"error": {"code": "NotFound", "message": "No such machine.", "target": GUID}},
            envelope("NotFound", "No such machine.", GUID),
            id="as-documented",
        ),
        pytest.param(
            {"error": {"code": "InvalidInput", "message": "x", "target": "|eb291c4-5f0e3a1b2c4d6e7f."}},
            envelope("InvalidInput", "x", "|eb291c4-5f0e3a1b2c4d6e7f."),
            id="older-target",
        ),
        pytest.param({"error": {"code": "429"}}, envelope("429"), id="code-alone"),
        pytest.param({"error": {"code": "x", "message": None}}, envelope("x"), id="message-null"),
        pytest.param({"error": {"code": "x", "message": ""}}, envelope("x"), id="message-empty"),
        pytest.param({"error": {"code": "x", "target": None}}, envelope("x"), id="target-null"),
        pytest.param({"error": {"code": "x", "target": {"id": GUID}}}, envelope("x"), id="target-object"),
        pytest.param({"error": {"code": "x", "target": 7}}, envelope("x"), id="target-number"),
        pytest.param({"error": {"code": "x", "target": "Comment"}}, envelope("x"), id="target-names-a-property"),
        pytest.param({"error": {"code": "x", "target": "Sha1"}}, envelope("x"), id="target-names-a-parameter"),
        pytest.param({"error": {"code": "x", "target": "a\r\nb"}}, envelope("x"), id="target-breaks-lines"),
        pytest.param({"error": {"code": "a b\u00e9\n"}}, envelope("a b\u00e9\n"), id="code-is-verbatim"),
        pytest.param(
            {"error": {"code": "x", "innerError": {"request-id": GUID}}}, envelope("x", request_id=GUID), id="graph"
        ),
        pytest.param(
            {"error": {"code": "x", "innererror": {"request-id": GUID}}}, envelope("x", request_id=GUID), id="odata"
        ),
        pytest.param(
            {"error": {"code": "x", "target": "query", "innererror": {"request-id": GUID, "date": "now"}}},
            envelope("x", request_id=GUID),
            id="property-and-request-id",
        ),
        pytest.param(
            {"error": {"code": "x", "innerError": {"code": "y"}, "innererror": {"request-id": GUID}}},
            envelope("x", request_id=GUID),
            id="both-inner-errors",
        ),
        pytest.param({"error": {"code": "x", "innerError": {"request-id": 7}}}, envelope("x"), id="request-id-number"),
        pytest.param({"error": {"code": "x", "innerError": {"request-id": "a b"}}}, envelope("x"), id="request-id-odd"),
        pytest.param({"error": {"code": "x", "innerError": [GUID]}}, envelope("x"), id="inner-error-array"),
        pytest.param({"error": {"code": "x", "innerError": None}}, envelope("x"), id="inner-error-null"),
        pytest.param({"error": {"code": "x", "details": [{}]}, "@odata.context": ""}, envelope("x"), id="more-members"),
    ],
)
def test_envelope_is_read(body: object, expected: ErrorEnvelope) -> None:
    assert parse_envelope(json.dumps(body).encode(), NAMES) == expected
    assert parse_envelope(b"\xef\xbb\xbf" + json.dumps(body, indent=1).encode(), NAMES) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(b'{"error":{"code":"a","code":"b"}}', envelope("b"), id="repeated-name-has-its-last-value"),
        pytest.param(b'{"error":{"code":"x","n":%b}}' % (b"9" * 5000), envelope("x"), id="5000-digits"),
        pytest.param('{"error":{"code":"x","message":"\u00e9"}}'.encode(), envelope("x", "\u00e9"), id="utf-8"),
        pytest.param(rb'{"error":{"code":"x","message":"\ud800"}}', envelope("x", "\ud800"), id="lone-surrogate"),
        pytest.param(b'{"error":{"code":"x"},"n":' + b"[" * 200 + b"]" * 200 + b"}", envelope("x"), id="200-deep"),
    ],
)
def test_odd_text_of_an_envelope_is_read(body: bytes, expected: ErrorEnvelope) -> None:
    assert parse_envelope(body) == expected


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"<html>502 Bad Gateway</html>", id="html"),
        pytest.param(b"Bad Request", id="text"),
        pytest.param(b"null", id="null"),
        pytest.param(b"[]", id="array"),
        pytest.param(b'[{"error":{"code":"x"}}]', id="envelope-in-an-array"),
        pytest.param(b'"error"', id="string"),
        pytest.param(b"429", id="number"),
        pytest.param(b"{}", id="no-error"),
        pytest.param(b'{"error":null}', id="error-null"),
        pytest.param(b'{"error":[]}', id="error-array"),
        pytest.param(b'{"error":"invalid_client","error_description":"x"}', id="entra"),
        pytest.param(b'{"error":{}}', id="no-code"),
        pytest.param(b'{"error":{"code":""}}', id="code-empty"),
        pytest.param(b'{"error":{"code":null}}', id="code-null"),
        pytest.param(b'{"error":{"code":400}}', id="code-number"),
        pytest.param(b'{"error":{"code":["x"]}}', id="code-array"),
        pytest.param(b'{"error":{"code":"x","message":{"value":"y"}}}', id="message-object"),
        pytest.param(b'{"Error":{"code":"x"}}', id="error-in-upper-case"),
        pytest.param(b'{"error":{"Code":"x"}}', id="code-in-upper-case"),
        pytest.param(b'{"statusCode":401,"message":"x"}', id="gateway"),
        pytest.param(b'{"type":"about:blank","title":"x","status":400}', id="problem"),
        pytest.param(b'{"error":{"code":"x"}', id="unfinished"),
        pytest.param(b'{"error":{"code":"\xff"}}', id="not-utf-8"),
        pytest.param('{"error":{"code":"x"}}'.encode("utf-16"), id="utf-16"),
        pytest.param(b"[" * 100_000, id="100000-deep"),
        pytest.param(b'{"error":' * 100_000 + b"1" + b"}" * 100_000, id="100000-deep-errors"),
        pytest.param(b"\x1f\x8b\x08\x00", id="coded"),
    ],
)
def test_anything_else_is_no_envelope(body: bytes) -> None:
    assert parse_envelope(body, NAMES) is None


DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.just(GUID),
    lambda values: (
        st.lists(values, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "code", "message", "target", "innerError", "innererror", "request-id"]), values
        )
    ),
    max_leaves=12,
)


@given(st.binary())
def test_any_bytes_are_answered(body: bytes) -> None:
    parse_envelope(body, NAMES)


@given(DOCUMENTS | DOCUMENTS.map(lambda error: {"error": error}))
def test_any_document_is_answered(document: object) -> None:
    found = parse_envelope(json.dumps(document).encode(), NAMES)
    assert found is None or found.code
    assert found is None or isinstance(found.message, str)


@given(st.text(min_size=1), st.text(), st.sampled_from([GUID, "|eb291c4-5f0e3a1b2c4d6e7f."]), st.lists(st.text()))
def test_rendered_envelope_reads_as_it_was_meant(code: str, message: str, target: str, told: list[str]) -> None:
    body = render_envelope(code, message, TargetId(target), [{"code": "a", "message": text} for text in told])
    assert body.isascii()
    assert parse_envelope(body) == envelope(code, message, target)


def test_details_are_left_out_where_there_are_none() -> None:
    assert render_envelope("a", "b", TargetId("c")) == b'{"error": {"code": "a", "message": "b", "target": "c"}}'
    assert json.loads(render_envelope("a", "b", TargetId("c"), [{"code": "d"}])) == {
        "error": {"code": "a", "message": "b", "target": "c", "details": [{"code": "d"}]}
    }


def test_lone_surrogate_can_be_rendered() -> None:
    assert b"\\ud800" in render_envelope("a", "\ud800", TargetId("c"))
