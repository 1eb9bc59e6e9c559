from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core import headers
from proxy.core.accept import PROBLEM
from proxy.core.codes import ErrorCodes
from proxy.core.envelope import parse_envelope
from proxy.core.failure import Failure
from proxy.core.model import TargetId, TargetSource
from proxy.core.normalise import ORIGINAL_AT_MOST, ErrorResponse, Form, Rules, answer_to, problem_of
from proxy.core.replies import reply_of
from proxy.core.shapes import compile_shapes

if TYPE_CHECKING:
    from proxy.core.model import Fields, Reply

GUID = "3a1f5d3c-7c2a-4a37-8a71-0d3a3a0f2f11"
OWN = TargetId("0f4d4b3e-8f0c-4b6e-9a57-3d2f1c0b9a88")
NAMES = frozenset({"comment", "sha1"})
CODES = ErrorCodes({"Forbidden": 403, "TooManyRequests": 429}, {"429": "TooManyRequests", "403": "Forbidden"})
SHAPES = compile_shapes(yaml.safe_load((Path(__file__).parents[2] / "config/error_shapes.yaml").read_text("utf-8")))
LIMIT_BYTES = 100_000
RULES = Rules(CODES, SHAPES, NAMES, LIMIT_BYTES)
JSON: Fields = ((b"Content-Type", b"application/json"),)
HTML: Fields = ((b"Content-Type", b"text/html"),)


def answer(
    body: bytes | None,
    fields: Fields = (),
    form: Form = Form.ENVELOPE,
    status: int = 403,
    reason: str = "Forbidden",
    *,
    is_head: bool = False,
) -> Reply:
    response = ErrorResponse(status, reason, fields, body, is_head=is_head)
    return answer_to(response, RULES, form, own_target=OWN, now_s=0)


def error_of(reply: Reply) -> dict[str, Any]:
    error: dict[str, Any] = json.loads(reply.body)["error"]
    return error


@pytest.mark.parametrize("prefix", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte-order-mark"])
@pytest.mark.parametrize("coding", ["identity", "gzip", "deflate"])
def test_the_envelope_passes_byte_for_byte(coding: str, prefix: bytes) -> None:
    body = prefix + b'{ "error" : {"code":"Forbidden","message":"It \\u0069s so.", "target":"%b" }}\n' % GUID.encode()
    coded = {"gzip": gzip.compress(body), "deflate": zlib.compress(body), "identity": body}[coding]
    fields = (*JSON, (b"Content-Encoding", coding.encode()), (b"ETag", b'"x"'), (b"Digest", b"sha-256=x"))
    reply = answer(coded, fields)
    assert (reply.body, reply.fields) == (coded, fields)
    assert (reply.tag.code, reply.tag.target_id, reply.tag.shape) == ("Forbidden", GUID, None)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(
            '{"error":{"code":"x","message":"y"}}', '{"error":{"code":"x","message":"y","target":"T"}}', id="compact"
        ),
        pytest.param(
            '{"error": {"code": "x", "message": "y"}}',
            '{"error": {"code": "x", "message": "y", "target": "T"}}',
            id="spaced",
        ),
        pytest.param(
            '{\n  "error": {\n    "code": "x",\n    "message": "y"\n  }\n}\n',
            '{\n  "error": {\n    "code": "x",\n    "message": "y",\n    "target": "T"\n  }\n}\n',
            id="indented",
        ),
        pytest.param(
            '{"error":{"code":"x","message":"y","target":null,"n":1.50}}',
            '{"error":{"code":"x","message":"y","target":"T","n":1.50}}',
            id="null",
        ),
        pytest.param(
            '{"error":{"target" : "","code":"x","message":"y"}}',
            '{"error":{"target" : "T","code":"x","message":"y"}}',
            id="empty",
        ),
        pytest.param(
            '{"error":{"message":"y","code":"x","innerError":{"target":"z","a":[{},"}"]}},"error2":{}}',
            '{"error":{"message":"y","code":"x","innerError":{"target":"z","a":[{},"}"]},"target":"T"},"error2":{}}',
            id="another-target-further-in",
        ),
        pytest.param(
            '{"error":1,"error":{"code":"x","message":"y \\"}","e":1E400}}',
            '{"error":1,"error":{"code":"x","message":"y \\"}","e":1E400,"target":"T"}}',
            id="the-last-of-equal-names",
        ),
        pytest.param('{"error":{"code":"x"}}', '{"error":{"code":"x","message":"Forbidden","target":"T"}}', id="bare"),
        pytest.param(
            '{"error":{"code":"x","message":null,"target":"' + GUID + '"}}',
            '{"error":{"code":"x","message":"Forbidden","target":"' + GUID + '"}}',
            id="message-null",
        ),
        pytest.param(
            '{"error":{"code":"x","message":"größe 🦉"}}',
            '{"error":{"code":"x","message":"größe 🦉","target":"T"}}',
            id="beyond-ascii",
        ),
    ],
)
def test_what_an_envelope_lacks_is_spliced_in(before: str, after: str) -> None:
    fields = (*JSON, (b"ETag", b"x"), (b"x-ms-request-id", b"kept"), (b"Content-Encoding", b"gzip"))
    expected = after.replace('"T"', '"kept"').encode()
    for mark in (b"", b"\xef\xbb\xbf"):
        reply = answer(gzip.compress(mark + before.encode()), fields)
        assert reply.body == mark + expected
        assert reply.fields == (*JSON, (b"x-ms-request-id", b"kept"))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
def test_an_envelope_in_another_encoding_is_sent_in_utf_8_with_every_character_kept(encoding: str) -> None:
    text = '{ "error":{"code":"x","message":"größe","target":"' + GUID + '"}}'
    reply = answer(text.encode(encoding), ((b"Content-Type", b"application/json; charset=" + encoding.encode()),))
    assert reply.body == text.encode()
    assert reply.fields == ((b"Content-Type", b"application/json; charset=utf-8"),)


def test_a_target_that_names_a_property_gives_way_and_is_kept_inside() -> None:
    document = {
        "error": {
            "code": "ODataError",
            "message": "Invalid filter clause",
            "target": "status",
            "details": [{"code": "a", "message": "b", "target": "status"}],
            "innerError": {"request-id": GUID},
        }
    }
    reply = answer(json.dumps(document).encode(), JSON)
    assert error_of(reply) == {
        "code": "ODataError",
        "message": "Invalid filter clause",
        "target": GUID,
        "details": [{"code": "a", "message": "b", "target": "status"}],
        "innererror": document,
    }
    assert reply.tag.target_source is TargetSource.BODY


HOSTILE = [
    pytest.param("x" * 129, id="long"),
    pytest.param("a\r\nX-Forged: b", id="line-break"),
    pytest.param("größe", id="beyond-ascii"),
    pytest.param({"id": GUID}, id="object"),
    pytest.param([GUID], id="array"),
    pytest.param(4711, id="number"),
    pytest.param(True, id="literal"),
    pytest.param("\ud800", id="lone-surrogate"),
]


@pytest.mark.parametrize("target", HOSTILE)
def test_hostile_targets_are_replaced(target: object) -> None:
    document = {"error": {"code": "x", "message": "y", "target": target}}
    reply = answer(json.dumps(document).encode(), JSON)
    error = error_of(reply)
    assert (error["code"], error["message"], error["target"]) == ("x", "y", OWN)
    assert error["innererror"] == document


def test_a_page_becomes_the_envelope() -> None:
    page = b"<!DOCTYPE html><html><head><title>502 Bad\r\nGateway</title></head><body><h1>No</h1></body></html>"
    fields = (
        (b"Server", b"edge"),
        (b"content-type", b"text/html"),
        (b"Set-Cookie", b"a=b"),
        (b"ETag", b'"1"'),
        (b"Last-Modified", b"x"),
        (b"Accept-Ranges", b"bytes"),
        (b"Content-Range", b"x"),
        (b"Digest", b"x"),
        (b"Content-Digest", b"x"),
        (b"Repr-Digest", b"x"),
        (b"Content-MD5", b"x"),
        (b"WWW-Authenticate", b"Bearer"),
        (b"x-ms-request-id", GUID.encode()),
    )
    reply = answer(page, fields, status=502, reason="Nope")
    assert error_of(reply) == {
        "code": "BadGateway",
        "message": "502 Bad Gateway",
        "target": GUID,
        "innererror": {"contentType": "text/html", "content": page.decode()},
    }
    assert reply.fields == (
        (b"Server", b"edge"),
        (b"content-type", b"application/json"),
        (b"Set-Cookie", b"a=b"),
        (b"WWW-Authenticate", b"Bearer"),
        (b"x-ms-request-id", GUID.encode()),
    )
    assert (reply.status, reply.reason, reply.tag.shape) == (502, "Nope", "html")


def test_an_empty_body_has_no_original() -> None:
    assert error_of(answer(b"")) == {"code": "Forbidden", "message": "Forbidden", "target": OWN}


def test_bytes_that_are_no_text_are_told_by_their_number() -> None:
    assert error_of(answer(b"\x00\x01\x02\xff"))["innererror"] == {"bytes": 4}


def test_the_original_is_bounded() -> None:
    for body in (b"x" * 90_000, json.dumps({"message": "x", "more": "y" * 90_000}).encode(), b"<html>" + b"<p>" * 9000):
        reply = answer(body, HTML)
        assert len(reply.body) < 2 * ORIGINAL_AT_MOST
        assert error_of(reply)["innererror"]["content"].endswith("…")


def test_the_original_holds_no_secret() -> None:
    jwt = "eyJhbGciOiJSUzI1NiJ9.eyJvaWQiOiIxIn0.c2lnbmF0dXJl"
    document = {
        "message": f"Bad token {jwt}",
        "Authorization": "opaque-value-1",
        "headers": {"X": "Bearer abcdefghij0123456789"},
        "url": "https://x.blob.example/a?sv=1&sig=c2VjcmV0&se=2",
    }
    reply = answer(json.dumps(document).encode(), JSON)
    for secret in (jwt, "opaque-value-1", "abcdefghij0123456789", "c2VjcmV0"):
        assert secret.encode() not in reply.body
        assert secret not in reply.tag.message
    assert error_of(reply)["innererror"]["url"] == "https://x.blob.example/a?***"


@pytest.mark.parametrize(
    ("body", "fields", "form"),
    [
        pytest.param(
            b"<html>", (*HTML, (b"Cache-Control", b"private, No-Transform")), Form.ENVELOPE, id="no-transform"
        ),
        pytest.param(
            b"<html>", (*HTML, (b"Cache-Control", b"no-transform")), Form.PROBLEM, id="no-transform-for-a-problem"
        ),
        pytest.param(b"\x28\xb5\x2f\xfd", (*JSON, (b"Content-Encoding", b"zstd")), Form.ENVELOPE, id="unknown-coding"),
        pytest.param(b"<html>", (*HTML, (b"Retry-After", b"x")), Form.KEPT, id="switched-off"),
    ],
)
def test_what_is_kept_as_it_is(body: bytes, fields: Fields, form: Form) -> None:
    reply = answer(body, fields, form)
    assert (reply.body, reply.fields) == (body, fields)
    assert (reply.tag.code, reply.tag.target_id) == ("Forbidden", OWN)


def test_what_decodes_to_more_than_is_read_is_kept_and_counts_as_other() -> None:
    body, fields = gzip.compress(b" " * 1_000_000), (*JSON, (b"Content-Encoding", b"gzip"))
    reply = answer(body, fields)
    assert (reply.body, reply.fields, reply.tag.label, reply.tag.target_id) == (body, fields, "other", OWN)


WHOLE = b'{"error":{"code":"Forbidden","message":"No.","target":"%b"}}' % GUID.encode()


@pytest.mark.parametrize(
    ("body", "coding"),
    [
        pytest.param(WHOLE, b"gzip", id="no-gzip-at-all"),
        pytest.param(b"\xef\xbb\xbf" + WHOLE, b"deflate", id="no-deflate-at-all"),
        pytest.param(WHOLE, b"br", id="no-br-at-all"),
        pytest.param(gzip.compress(WHOLE), b"", id="gzip-that-nobody-names"),
        pytest.param(gzip.compress(WHOLE), b"identity", id="gzip-called-identity"),
        pytest.param(gzip.compress(WHOLE), b"br", id="gzip-called-br"),
        pytest.param(gzip.compress(WHOLE)[:-6], b"gzip", id="cut-in-its-checksum"),
        pytest.param(gzip.compress(WHOLE)[:-8] + bytes(8), b"gzip", id="wrong-checksum"),
        pytest.param(gzip.compress(WHOLE) + bytes(16), b"gzip", id="zeros-behind"),
        pytest.param(zlib.compress(WHOLE)[:-4] + bytes(4), b"deflate", id="wrong-checksum-of-deflate"),
    ],
)
def test_what_is_not_in_the_coding_that_it_claims_is_read_all_the_same(body: bytes, coding: bytes) -> None:
    """No client could have read it so; it goes out in no coding."""
    lines = ((b"Content-Encoding", coding), (b"ETag", b'"x"')) if coding else ((b"ETag", b'"x"'),)
    reply = answer(body, (*JSON, *lines))
    assert json.loads(reply.body.decode("utf-8-sig")) == json.loads(WHOLE)
    assert (reply.tag.code, reply.tag.target_id, reply.fields) == ("Forbidden", GUID, JSON)


def test_the_beginning_of_a_page_that_is_cut_in_its_coding_is_read() -> None:
    page = b"<html><title>Bad gateway 7</title>" + b"".join(b"%x" % number**5 for number in range(1000))
    coded = gzip.compress(page)
    reply = answer(coded[: len(coded) // 2], (*HTML, (b"Content-Encoding", b"gzip")))
    assert (reply.tag.code, reply.tag.message, reply.tag.shape) == ("Forbidden", "Bad gateway 7", "html")


@pytest.mark.parametrize(
    ("body", "form", "code", "is_written"),
    [
        pytest.param(b'{"error":{"code":"Busy","mess', Form.ENVELOPE, "Busy", True, id="code-is-there"),
        pytest.param(b'{"error":{"co', Form.ENVELOPE, "Forbidden", True, id="code-is-missing"),
        pytest.param(b"", Form.ENVELOPE, "Forbidden", True, id="nothing-came"),
        pytest.param(WHOLE, Form.ENVELOPE, "Forbidden", True, id="announced-as-longer"),
        pytest.param(b"<html><title>No.", Form.PROBLEM, "Forbidden", True, id="problem"),
        pytest.param(WHOLE, Form.KEPT, "Forbidden", False, id="switched-off"),
    ],
)
def test_a_body_that_is_cut_is_made_whole_unless_it_has_to_stay(
    body: bytes, form: Form, code: str, *, is_written: bool
) -> None:
    response = ErrorResponse(403, "Forbidden", JSON, body, is_cut=True)
    reply = answer_to(response, RULES, form, own_target=OWN, now_s=0)
    assert (reply.status, reply.tag.code, reply.tag.label) == (403, code, "other")
    assert bool(reply.body) is is_written
    if is_written:
        document = json.loads(reply.body)
        assert (document if form is Form.PROBLEM else document["error"])["code"] == code


def test_details_are_kept_as_far_as_there_is_room() -> None:
    details = [{"code": f"D{number}", "message": "x" * 200} for number in range(80)]
    body = json.dumps({"error": {"code": "Conflict", "message": "No.", "target": "value", "details": details}})
    shown = error_of(answer(body.encode(), JSON))["details"]
    assert shown[:-1] == details[: len(shown) - 1]
    assert len(shown) > 30
    assert shown[-1] == {"code": "DetailsOmitted", "message": f"{81 - len(shown)} more are left out here."}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(
            '{"type":"https://e.test/p", "title":"Out of credit", "status":403, "detail":"Buy.",  "balance":30}',
            '{"type":"https://e.test/p", "title":"Out of credit", "status":403, "detail":"Buy.",  "balance":30,'
            '  "code":"Forbidden",  "target":"T"}',
            id="extension-members",
        ),
        pytest.param(
            '{"title":"Out of credit","status":403,"code":"NoCredit"}',
            '{"title":"Out of credit","status":403,"code":"NoCredit","target":"T","detail":"Out of credit"}',
            id="code-of-its-own",
        ),
    ],
)
def test_problem_details_get_what_they_lack_and_keep_every_other_byte(before: str, after: str) -> None:
    fields = ((b"Content-Type", b"application/problem+json"), (b"Vary", b"Accept"))
    reply = answer(before.encode(), fields, Form.PROBLEM)
    assert reply.body.decode() == after.replace('"T"', f'"{OWN}"')
    again = answer(reply.body, reply.fields, Form.PROBLEM)
    assert (again.body, again.fields) == (reply.body, reply.fields)


@pytest.mark.parametrize("code", ["1" * 300, "a  b\n c", " x "])
def test_a_code_beyond_measure_is_told_as_problem_details_tell_it(code: str) -> None:
    body = json.dumps({"error": {"code": code, "message": "No."}}).encode()
    reply = answer(body, JSON, Form.PROBLEM)
    again = answer(reply.body, reply.fields, Form.PROBLEM)
    assert (again.body, again.fields) == (reply.body, reply.fields)


def test_a_code_in_a_header_field_is_that_of_an_error_without_one() -> None:
    fields = ((b"x-ms-error-code", b"BlobNotFound"),)
    assert answer(b"", fields, status=404).tag.code == "BlobNotFound"
    assert answer(WHOLE, (*JSON, *fields)).tag.code == "Forbidden"


def test_what_a_challenge_says_is_the_message_of_an_error_without_one() -> None:
    challenge = b'Bearer realm="", error="invalid_token", error_description="The \\"token\\" expired"'
    reply = answer(b"", ((b"WWW-Authenticate", challenge),), status=401, reason="Unauthorized")
    assert error_of(reply)["message"] == 'The "token" expired'


def test_what_nobody_can_decode_is_written_anew() -> None:
    coded = gzip.compress(bytes(range(256)))[:20]
    reply = answer(coded, (*JSON, (b"Content-Encoding", b"gzip")))
    assert error_of(reply) == {
        "code": "Forbidden",
        "message": "Forbidden",
        "target": OWN,
        "innererror": {"contentType": "application/json", "bytes": 20},
    }
    assert reply.fields == JSON


def test_a_body_that_is_not_read_is_tagged_as_other_and_its_wait_told() -> None:
    reply = answer(None, (*HTML, (b"Retry-After", b"Thu, 01 Jan 1970 00:00:30 GMT")), status=429)
    assert (reply.tag.code, reply.tag.label, reply.body) == ("other", "other", b"")
    assert reply.fields == (*HTML, (b"Retry-After", b"30"))


def test_a_wait_becomes_a_field() -> None:
    reply = answer(b'{"error":{"code":"429","message":"maximum allowed 45 per 00:01:00","target":"%b"}}' % GUID.encode(), JSON, status=429)  # noqa: E501 # fmt: skip
    assert reply.fields == (*JSON, (b"Retry-After", b"60"))
    assert error_of(reply)["code"] == "429"


@pytest.mark.parametrize(
    ("fields", "form", "expected"),
    [
        pytest.param((*JSON, (b"ETag", b"1")), Form.ENVELOPE, (*JSON, (b"ETag", b"1")), id="json"),
        pytest.param((*HTML, (b"ETag", b"1")), Form.ENVELOPE, JSON, id="html"),
        pytest.param((), Form.ENVELOPE, (), id="no-type"),
        pytest.param(JSON, Form.PROBLEM, ((b"Content-Type", PROBLEM.encode()), (b"Vary", b"Accept")), id="problem"),
        pytest.param(HTML, Form.KEPT, HTML, id="switched-off"),
        pytest.param(
            (*HTML, (b"Cache-Control", b"no-transform")),
            Form.ENVELOPE,
            (*HTML, (b"Cache-Control", b"no-transform")),
            id="no-transform",
        ),
    ],
)
def test_an_answer_to_head_has_no_body_and_the_fields_of_one(fields: Fields, form: Form, expected: Fields) -> None:
    reply = answer(b"", fields, form, is_head=True)
    assert (reply.body, reply.fields) == (b"", expected)


def problem(reply: Reply) -> dict[str, Any]:
    assert headers.values(reply.fields, b"content-type") == [b"application/problem+json"]
    assert headers.values(reply.fields, b"vary") == [b"Accept"]
    document: dict[str, Any] = json.loads(reply.body)
    return document


def test_an_envelope_as_problem_details() -> None:
    body = {"error": {"code": "Forbidden", "message": "No.", "target": GUID, "innerError": {"a": 1}, "details": [{}]}}
    assert problem(answer(json.dumps(body).encode(), JSON, Form.PROBLEM)) == {
        "type": "about:blank",
        "title": "Forbidden",
        "status": 403,
        "detail": "No.",
        "code": "Forbidden",
        "target": GUID,
        "innerError": {"a": 1},
        "details": [{}],
    }


def test_problem_details_stay_what_they_are_and_get_what_they_lack() -> None:
    body = {"type": "https://x.example/p", "title": "Odd", "instance": "/1", "detail": "So.", "traceId": GUID}
    assert problem(answer(json.dumps(body).encode(), (), Form.PROBLEM)) == {
        "type": "https://x.example/p",
        "title": "Odd",
        "status": 403,
        "detail": "So.",
        "instance": "/1",
        "code": "Forbidden",
        "target": GUID,
        "innererror": body,
    }


@pytest.mark.parametrize("failure", Failure)
def test_an_error_of_the_proxys_own_as_problem_details(failure: Failure) -> None:
    reply = problem_of(reply_of(failure, OWN))
    document = problem(reply)
    assert (document["code"], document["target"], document["status"]) == (failure.code, OWN, failure.status)
    assert document["detail"] == failure.message
    assert (b"Cache-Control", b"no-store") in reply.fields


MEMBERS = ["error", "Error", "code", "message", "target", "innerError", "innererror", "request-id", "details", "type"]
MORE_MEMBERS = [
    "error_description",
    "statusCode",
    "Message",
    "title",
    "status",
    "detail",
    "fault",
    "errors",
    "instance",
]
MARKUP = ["<html>", "<title>", "</title>", "<m:code>", "</m:code>", "<!--", "<![CDATA[", "a", "&#0;", "&lt;", "<", ">"]
ODD = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([GUID, "429", "in-words"])
)
DOCUMENTS = st.recursive(
    ODD,
    lambda values: (
        st.lists(values, max_size=3) | st.dictionaries(st.sampled_from([*MEMBERS, *MORE_MEMBERS]), values, max_size=5)
    ),
    max_leaves=14,
)
TEXTS = DOCUMENTS.flatmap(
    lambda document: st.sampled_from(
        [json.dumps(document), json.dumps({"error": document}, indent=1), json.dumps(json.dumps(document))]
    )
)
BODIES = (
    st.binary(max_size=60)
    | TEXTS.flatmap(lambda text: st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]).map(text.encode))
    | TEXTS.flatmap(lambda text: st.integers(0, len(text)).map(lambda end: text[:end].encode()))
    | st.lists(st.sampled_from(MARKUP)).map(lambda parts: "".join(parts).encode())
)
FIELDS = st.lists(
    st.sampled_from(
        [
            (b"Content-Type", b"application/json"),
            (b"Content-Type", b"application/problem+json"),
            (b"Content-Type", b"text/html; charset=utf-16"),
            (b"Content-Encoding", b"gzip"),
            (b"Content-Encoding", b"br"),
            (b"ETag", b'"x"'),
            (b"Retry-After", b"Thu, 01 Jan 1970 00:00:30 GMT"),
            (b"x-ms-request-id", b"in-words"),
            (b"request-id", GUID.encode()),
            (b"Vary", b"Origin"),
            (b"Cache-Control", b"no-transform"),
        ]
    ),
    max_size=4,
    unique_by=lambda line: line[0],
).map(tuple)


@settings(max_examples=600, deadline=None)
@given(
    BODIES,
    FIELDS,
    st.sampled_from([400, 403, 429, 503, 599]),
    st.sampled_from(["", "Reason"]),
    st.sampled_from([Form.ENVELOPE, Form.PROBLEM]),
)
def test_any_body_is_answered_and_normalising_twice_changes_nothing(
    body: bytes, fields: Fields, status: int, reason: str, form: Form
) -> None:
    if headers.is_coded(fields) and body[:1] > b"a":
        body = gzip.compress(body, mtime=0)
    once = answer(body, fields, form, status, reason)
    is_free = not headers.forbids_transform(fields) and (b"Content-Encoding", b"br") not in fields
    if is_free and form is Form.ENVELOPE:
        content = gzip.decompress(once.body) if headers.is_coded(once.fields) else once.body
        envelope = parse_envelope(content, NAMES)
        assert envelope is not None
        assert envelope.code == once.tag.code
        assert json.loads(content.decode("utf-8-sig"))["error"]["target"] == once.tag.target_id
    elif is_free:
        assert json.loads(once.body)["target"] == once.tag.target_id
        assert json.loads(once.body)["code"] == once.tag.code
    twice = answer(once.body, once.fields, form, status, reason)
    assert (twice.body, twice.fields) == (once.body, once.fields)
    assert (twice.tag.code, twice.tag.target_id) == (once.tag.code, once.tag.target_id)
