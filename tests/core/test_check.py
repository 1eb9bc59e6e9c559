from __future__ import annotations

import gzip
import json
import tracemalloc
import zlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.catalog import Document
from proxy.core.check import NOT_JSON, TOO_LARGE, UNCHECKED, check, may_be_json, suspects
from proxy.core.model import Action, BodyResult, Mode, Suspicion, Unfixable
from proxy.core.openapi import compile_catalog

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.core.casing import Shape
    from proxy.core.check import Checked
    from proxy.core.model import Fields

LIMIT_BYTES = 1_000_000
JSON = ((b"Content-Type", b"application/json"),)
MODES = [Mode.REJECT, Mode.FIX, Mode.OBSERVE]


def _isolate() -> Shape:
    schema = {
        "required": ["Comment"],
        "properties": {
            "Comment": {},
            "IsolationType": {"enum": ["Full", "Selective"]},
            "machineIds": {"x-accepted-names": ["ids"]},
            "Commands": {"items": {"properties": {"type": {}, "params": {"properties": {"key": {}}}}}},
        },
    }
    operation = {"operationId": "isolate", "requestBody": {"content": {"application/json": {"schema": schema}}}}
    paths = {"/api/machines/{id}/isolate": {"post": operation}}
    shape = compile_catalog([Document("test", {"openapi": "3.1.0", "paths": paths})]).operations[0].body
    assert shape is not None
    return shape


ISOLATE = _isolate()


def checked(body: bytes, fields: Fields = JSON, mode: Mode = Mode.REJECT, limit_bytes: int = LIMIT_BYTES) -> Checked:
    return check(body, fields, ISOLATE, mode, limit_bytes=limit_bytes)


def raw_deflate(body: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(body) + compressor.flush()


CODINGS: list[tuple[bytes, Callable[[bytes], bytes]]] = [
    (b"gzip", gzip.compress),
    (b"x-gzip", gzip.compress),
    (b"GZIP", gzip.compress),
    (b"deflate", zlib.compress),
    (b"deflate", raw_deflate),
    (b"deflate, gzip", lambda body: gzip.compress(zlib.compress(body))),
    (b"gzip, identity", gzip.compress),
]
CODING_IDS = ["gzip", "x-gzip", "upper-case", "deflate", "raw-deflate", "deflate-then-gzip", "identity-on-top"]


@pytest.mark.parametrize(
    "types",
    [
        pytest.param([], id="no-type"),
        pytest.param([b"application/json"], id="json"),
        pytest.param([b"application/json; charset=utf-8"], id="charset"),
        pytest.param([b'application/json;odata="verbose"'], id="other-parameter"),
        pytest.param([b"Application/JSON ;charset=UTF-8"], id="letter-case"),
        pytest.param([b" application/json "], id="white-space"),
        pytest.param([b"text/json"], id="text-json"),
        pytest.param([b"application/problem+json"], id="problem-json"),
        pytest.param([b"application/vnd.example.v2+json; v=1"], id="vendor-json"),
        pytest.param([b"text/plain"], id="text"),
        pytest.param([b"text/plain; charset=utf-8"], id="text-with-charset"),
        pytest.param([b""], id="empty-type"),
        pytest.param([b"application/json", b"text/plain"], id="two-types-that-may-be"),
    ],
)
def test_body_of_this_type_may_be_json(types: list[bytes]) -> None:
    assert may_be_json(tuple((b"content-TYPE", value) for value in types))


@pytest.mark.parametrize(
    "types",
    [
        pytest.param([b"application/octet-stream"], id="octets"),
        pytest.param([b"multipart/form-data; boundary=x"], id="upload"),
        pytest.param([b"application/x-www-form-urlencoded"], id="form"),
        pytest.param([b"text/html"], id="html"),
        pytest.param([b"application/xml"], id="xml"),
        pytest.param([b"application/jsonp"], id="longer-name"),
        pytest.param([b"application/json-seq"], id="json-sequence"),
        pytest.param([b"image/svg+xml"], id="other-suffix"),
        pytest.param([b"text/plain+x"], id="text-with-suffix"),
        pytest.param([b"json"], id="no-slash"),
        pytest.param([b"application/json", b"text/html"], id="one-of-two-types-is-not"),
    ],
)
def test_body_of_this_type_is_no_json(types: list[bytes]) -> None:
    assert not may_be_json((*((b"Content-Type", value) for value in types), (b"Accept", b"application/json")))


@pytest.mark.parametrize(
    ("body", "result"),
    [
        pytest.param(b'{"Comment": "x"}', BodyResult.CLEAN, id="right"),
        pytest.param(b"{}", BodyResult.CLEAN, id="empty-object"),
        pytest.param(b"[]", BodyResult.CLEAN, id="empty-array"),
        pytest.param(b"null", BodyResult.CLEAN, id="null"),
        pytest.param(b"1", BodyResult.CLEAN, id="number"),
        pytest.param(b'"comment"', BodyResult.CLEAN, id="string"),
        pytest.param(b'\xef\xbb\xbf{"Comment": "x"}', BodyResult.CLEAN, id="byte-order-mark"),
        pytest.param(b'{"Comment": %b}' % (b"9" * 5000), BodyResult.CLEAN, id="5000-digits"),
        pytest.param(rb'{"Comment": "\ud800"}', BodyResult.CLEAN, id="lone-surrogate-in-a-value"),
        pytest.param(rb'{"\ud800": 1}', BodyResult.UNKNOWN_NAMES, id="lone-surrogate-in-a-name"),
        pytest.param(b'{"comment": "x"}', BodyResult.MISMATCH, id="wrong-name"),
        pytest.param(rb'{"\u0063omment": 1}', BodyResult.MISMATCH, id="wrong-name-in-escapes"),
        pytest.param(b'\xef\xbb\xbf{"comment": "x"}', BodyResult.MISMATCH, id="wrong-name-behind-a-byte-order-mark"),
        pytest.param(b'{"IsolationType": "full"}', BodyResult.MISMATCH, id="wrong-value"),
        pytest.param(b'{"nobody": 1}', BodyResult.UNKNOWN_NAMES, id="unknown-name"),
        pytest.param(b'{"Comment": 1, "Comment": 2}', BodyResult.DUPLICATE_NAMES, id="repeated-name"),
        pytest.param(b'{"x": 1, "x": 2}', BodyResult.DUPLICATE_NAMES, id="repeated-unknown-name"),
        pytest.param(b'{"comment": 1, "comment": 2, "x": 3}', BodyResult.MISMATCH, id="mismatch-outweighs-the-rest"),
        pytest.param(b"{", BodyResult.UNREADABLE, id="unfinished"),
        pytest.param(b" ", BodyResult.UNREADABLE, id="blank"),
        pytest.param(b'{"comment": NaN}', BodyResult.UNREADABLE, id="nan"),
        pytest.param('{"comment": 1}'.encode("utf-16"), BodyResult.UNREADABLE, id="utf-16"),
        pytest.param(b'{"comment": "\xe9"}', BodyResult.UNREADABLE, id="latin-1"),
        pytest.param(b'{"comment": 1} {}', BodyResult.UNREADABLE, id="two-documents"),
        pytest.param(b"[" * 40_000 + b"]" * 40_000, BodyResult.UNREADABLE, id="40000-deep"),
        pytest.param(b"[" * 100_000 + b"]" * 100_000, BodyResult.TOO_LARGE, id="100000-deep"),
        pytest.param(b'{"Commands":' * 40_000 + b"1" + b"}" * 40_000, BodyResult.UNREADABLE, id="40000-deep-objects"),
    ],
)
def test_body_has_one_result(body: bytes, result: BodyResult) -> None:
    assert checked(body).result is result


def test_empty_body_is_none() -> None:
    assert checked(b"") == UNCHECKED
    assert checked(b"", ((b"Content-Encoding", b"gzip"),)) == UNCHECKED
    assert UNCHECKED.result is None


def test_constants_say_why_a_body_is_not_read() -> None:
    assert (TOO_LARGE.result, NOT_JSON.result) == (BodyResult.TOO_LARGE, BodyResult.NOT_JSON)


@pytest.mark.parametrize(
    ("fields", "result"),
    [
        pytest.param(JSON, BodyResult.UNREADABLE, id="declared"),
        pytest.param(((b"content-type", b"application/problem+json"),), BodyResult.UNREADABLE, id="declared-by-suffix"),
        pytest.param((), BodyResult.NOT_JSON, id="without-a-type"),
        pytest.param(((b"Content-Type", b"text/plain"),), BodyResult.NOT_JSON, id="text"),
        pytest.param(((b"Content-Type", b""),), BodyResult.NOT_JSON, id="empty-type"),
    ],
)
def test_text_that_is_no_json_is_unreadable_where_json_was_declared(fields: Fields, result: BodyResult) -> None:
    assert checked(b"Hello, world", fields).result is result


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param((), id="without-a-type"),
        pytest.param(((b"Content-Type", b"text/plain"),), id="text"),
        pytest.param(((b"Content-Type", b"application/json; charset=utf-16"),), id="whatever-the-charset-says"),
    ],
)
def test_json_of_another_type_is_checked_too(fields: Fields) -> None:
    assert checked(b'{"comment": 1}', fields).action is Action.REJECTED


@pytest.mark.parametrize(
    ("mode", "action", "fixed_body"),
    [
        pytest.param(Mode.REJECT, Action.REJECTED, None, id="reject"),
        pytest.param(Mode.FIX, Action.FIXED, b' {"Comment" : 1.0}\n', id="fix"),
        pytest.param(Mode.OBSERVE, Action.OBSERVED, None, id="observe"),
    ],
)
def test_mode_says_what_is_done(mode: Mode, action: Action, fixed_body: bytes | None) -> None:
    found = checked(b' {"comment" : 1.0}\n', mode=mode)
    assert (found.result, found.action, found.fixed_body) == (BodyResult.MISMATCH, action, fixed_body)
    assert [mismatch.got for mismatch in found.findings.mismatches] == ["comment"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"Comment": 1}', id="right"),
        pytest.param(b'{"nobody": 1}', id="unknown-name"),
        pytest.param(b'{"Comment": 1, "Comment": 2}', id="repeated-name"),
        pytest.param(b'{"machineIds": 1, "ids": 1}', id="two-documented-spellings"),
        pytest.param(b"{", id="unreadable"),
        pytest.param(b"", id="empty"),
    ],
)
def test_nothing_is_done_without_a_mismatch(body: bytes, mode: Mode) -> None:
    found = checked(body, mode=mode)
    assert (found.action, found.fixed_body) == (None, None)


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        pytest.param(b'{"IsolationType": "full"}', JSON, id="misspelt-value"),
        pytest.param(b'{"comment": 1, "IsolationType": "full"}', JSON, id="misspelt-value-beside-a-name"),
        pytest.param(b'{"Comment": 1, "comment": 1}', JSON, id="right-and-wrong-spelling"),
        pytest.param(b'{"comment": 1, "COMMENT": 1}', JSON, id="two-wrong-spellings"),
        pytest.param(b'{"ids": 1, "Ids": 1}', JSON, id="accepted-and-wrong-spelling"),
        pytest.param(
            b'{"comment": 1, "Commands": [{"type": 1, "Type": 1}]}', JSON, id="one-conflict-among-several-mismatches"
        ),
        pytest.param(
            gzip.compress(b'{"comment": 1}'), (*JSON, (b"Content-Encoding", b"gzip")), id="coded-body"
        ),
        pytest.param(b'{"comment": 1}', (*JSON, (b"Cache-Control", b"no-transform")), id="no-transform"),
        pytest.param(
            b'{"comment": 1}', (*JSON, (b"cache-control", b"no-cache, No-Transform")), id="no-transform-in-a-list"
        ),
        pytest.param(b'{"comment": 1}', (*JSON, (b"Content-Digest", b"sha-256=:x:")), id="content-digest"),
        pytest.param(b'{"comment": 1}', (*JSON, (b"Repr-Digest", b"sha-256=:x:")), id="repr-digest"),
        pytest.param(b'{"comment": 1}', (*JSON, (b"digest", b"SHA-256=x")), id="older-digest"),
        pytest.param(b'{"comment": 1}', (*JSON, (b"Content-MD5", b"x")), id="md5"),
        pytest.param(b'{"comment": 1}', (*JSON, (b"Signature", b"sig=:x:")), id="signature"),
    ],
)  # fmt: skip
def test_what_a_fix_cannot_make_right_is_rejected(body: bytes, fields: Fields) -> None:
    found = checked(body, fields, Mode.FIX)
    assert (found.result, found.action, found.fixed_body) == (BodyResult.MISMATCH, Action.REJECTED, None)


@pytest.mark.parametrize(
    ("body", "fixed_body"),
    [
        pytest.param(b'{"comment": 1, "comment": 2}', b'{"Comment": 1, "Comment": 2}', id="repeated-wrong-name"),
        pytest.param(
            b'{"Comment": 1, "Comment": 2, "isolation type": "Full"}',
            b'{"Comment": 1, "Comment": 2, "IsolationType": "Full"}',
            id="repeated-name-beside-a-mismatch",
        ),
        pytest.param(b'{"Ids": [1 ]}', b'{"machineIds": [1 ]}', id="proposed-spelling-of-several"),
        pytest.param(b'\xef\xbb\xbf{"comment":1}', b'\xef\xbb\xbf{"Comment":1}', id="byte-order-mark-stays"),
        pytest.param(
            b'{"comment":%b}' % (b"9" * 5000), b'{"Comment":%b}' % (b"9" * 5000), id="5000-digits-stay"
        ),
        pytest.param(rb'{"comment":"\uD800\/"}', rb'{"Comment":"\uD800\/"}', id="lone-surrogate-stays"),
        pytest.param(b'{"comment":1,"nobody":2}', b'{"Comment":1,"nobody":2}', id="unknown-name-stays"),
        pytest.param(rb'{"\u0063omment":1}', b'{"Comment":1}', id="name-in-escapes"),
    ],
)  # fmt: skip
def test_fix_changes_names_alone(body: bytes, fixed_body: bytes) -> None:
    found = checked(body, mode=Mode.FIX)
    assert (found.action, found.fixed_body) == (Action.FIXED, fixed_body)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param((*JSON, (b"Cache-Control", b"no-cache, max-age=0")), id="other-cache-directives"),
        pytest.param((*JSON, (b"Want-Content-Digest", b"sha-256=1")), id="a-digest-is-asked-for"),
        pytest.param((*JSON, (b"Content-Encoding", b"")), id="empty-coding"),
        pytest.param((*JSON, (b"Content-Encoding", b"identity , Identity")), id="coding-that-is-none"),
        pytest.param((*JSON, (b"Authorization", b"Bearer x")), id="bearer-token"),
    ],
)
def test_fields_that_do_not_cover_the_body_allow_a_fix(fields: Fields) -> None:
    assert checked(b'{"comment": 1}', fields, Mode.FIX).fixed_body == b'{"Comment": 1}'


@pytest.mark.parametrize(
    ("body", "coding", "result"),
    [
        pytest.param(gzip.compress(b'{"Comment": 1}'), b"gzip", BodyResult.CLEAN, id="gzip"),
        pytest.param(b'{"Comment": 1}', b"identity", BodyResult.CLEAN, id="identity"),
        pytest.param(b'{"Comment": 1}', b"gzip", BodyResult.UNREADABLE, id="not-what-it-claims"),
        pytest.param(gzip.compress(b'{"Comment": 1}')[:-4], b"gzip", BodyResult.UNREADABLE, id="cut-short"),
        pytest.param(b'{"Comment": 1}', b"br", BodyResult.UNREADABLE, id="unknown-coding"),
        pytest.param(b'{"Comment": 1}', b"gzip, zstd", BodyResult.UNREADABLE, id="unknown-coding-on-top"),
        pytest.param(gzip.compress(b"{"), b"gzip", BodyResult.UNREADABLE, id="no-json-inside"),
        pytest.param(gzip.compress(b""), b"gzip", BodyResult.UNREADABLE, id="nothing-inside"),
        pytest.param(gzip.compress(b" " * LIMIT_BYTES + b"{}"), b"gzip", BodyResult.TOO_LARGE, id="too-large-inside"),
        pytest.param(gzip.compress(b'{"Comment": 1}'), b"", BodyResult.UNREADABLE, id="coding-not-told"),
    ],
)
def test_coded_body_has_one_result(body: bytes, coding: bytes, result: BodyResult) -> None:
    found = checked(body, (*JSON, (b"content-encoding", coding)))
    assert (found.result, found.action) == (result, None)


def test_codings_on_several_lines_are_one_list() -> None:
    body = gzip.compress(zlib.compress(b'{"comment": 1}'))
    fields = ((b"Content-Encoding", b"deflate"), (b"Content-Encoding", b"gzip"))
    assert checked(body, fields).result is BodyResult.MISMATCH


@pytest.mark.parametrize(("coding", "encode"), CODINGS, ids=CODING_IDS)
def test_bomb_is_too_large_and_takes_no_memory(coding: bytes, encode: Callable[[bytes], bytes]) -> None:
    body = encode(b" " * 20_000_000)
    tracemalloc.start()
    try:
        found = checked(body, ((b"Content-Encoding", coding),), limit_bytes=100_000)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found == TOO_LARGE
    assert peak_bytes < 1_000_000


def test_50000_names_are_checked() -> None:
    body = b"{" + b",".join(b'"nobody%d":1' % number for number in range(50_000)) + b"}"
    found = checked(body)
    assert (found.result, found.findings.unknown_count) == (BodyResult.UNKNOWN_NAMES, 50_000)


@pytest.mark.parametrize("value", [b"0", b"{}", b"[]", b'{"comment":0}'])
def test_more_values_than_can_be_read_in_passing_are_too_large(value: bytes) -> None:
    body = b"[" + b",".join([value] * 50_001) + b"]"
    assert checked(body, limit_bytes=10 * len(body)) == TOO_LARGE


def test_many_wrong_names_are_fixed() -> None:
    body = b"[" + b",".join([b'{"comment":1}'] * 20_000) + b"]"
    assert checked(body, mode=Mode.FIX).fixed_body == body.replace(b"comment", b"Comment")


NAMES = [
    *("Comment", "comment", "COMMENT", "com_ment", "IsolationType", "isolation_type", "isolationType", "machineIds"),
    *("ids", "Ids", "machine-ids", "Commands", "commands", "type", "Type", "params", "PARAMS", "key", "Key", "nobody"),
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5)
    | st.sampled_from(["Full", "full", "Selective", "selective", "type"]),
    lambda values: st.lists(values, max_size=4) | st.dictionaries(st.sampled_from(NAMES), values, max_size=5),
    max_leaves=15,
)  # fmt: skip
TEXTS = st.tuples(VALUES, st.booleans(), st.sampled_from([None, 1])).map(
    lambda drawn: json.dumps(drawn[0], ensure_ascii=drawn[1], indent=drawn[2]).encode()
)
CODING_LISTS = st.sampled_from(
    [b"", b"gzip", b"deflate", b"x-gzip", b"br", b"identity", b"gzip,deflate", b",", b"\xff"]
)
TYPES = st.sampled_from([b"application/json", b"text/plain", b"", b"\xff/+json"])


@given(st.binary() | TEXTS, TYPES, CODING_LISTS, st.sampled_from(MODES), st.sampled_from([0, 10, LIMIT_BYTES]))
def test_any_bytes_are_answered(body: bytes, media_type: bytes, coding: bytes, mode: Mode, limit_bytes: int) -> None:
    fields = ((b"Content-Type", media_type), (b"Content-Encoding", coding))
    found = checked(body, fields, mode, limit_bytes)
    assert (found.result is None) == (not body)
    assert (found.action is None) == (not found.findings.mismatches)
    assert (found.result is BodyResult.MISMATCH) == bool(found.findings.mismatches)
    assert (found.fixed_body is not None) == (found.action is Action.FIXED)


@given(st.binary(), st.sampled_from(CODINGS), st.sampled_from(MODES))
def test_any_bytes_in_a_coding_are_answered(
    body: bytes, coded: tuple[bytes, Callable[[bytes], bytes]], mode: Mode
) -> None:
    coding, encode = coded
    assert checked(encode(body), ((b"Content-Encoding", coding),), mode).result is not None


@given(TEXTS, st.sampled_from(CODINGS), st.sampled_from([Mode.REJECT, Mode.OBSERVE]))
def test_coded_or_plain_the_verdict_is_the_same(
    body: bytes, coded: tuple[bytes, Callable[[bytes], bytes]], mode: Mode
) -> None:
    coding, encode = coded
    assert checked(encode(body), (*JSON, (b"Content-Encoding", coding)), mode) == checked(body, mode=mode)


@given(TEXTS)
def test_fixed_body_has_no_mismatch_left(body: bytes) -> None:
    found = checked(body, mode=Mode.FIX)
    if found.fixed_body is None:
        assert found.action is not Action.FIXED
        return
    again = checked(found.fixed_body, mode=Mode.FIX)
    assert (again.findings.mismatches, again.action) == ((), None)


@given(TEXTS)
def test_mode_changes_what_is_done_and_not_what_is_found(body: bytes) -> None:
    verdicts = [checked(body, mode=mode) for mode in MODES]
    assert len({verdict.findings for verdict in verdicts}) == 1
    assert len({verdict.result for verdict in verdicts}) == 1


@pytest.mark.parametrize(
    ("body", "fields", "reasons"),
    [
        pytest.param(b'{"Comment": 1, "comment": 2}', (), [Unfixable.CONFLICT], id="two-spellings"),
        pytest.param(b'{"Comment": 1, "IsolationType": "full"}', (), [Unfixable.VALUE], id="misspelt-value"),
        pytest.param(gzip.compress(b'{"comment": 1}'), ((b"Content-Encoding", b"gzip"),), [Unfixable.CODED], id="gzip"),
        pytest.param(b'{"comment": 1}', ((b"Content-Digest", b"sha-256=:x:"),), [Unfixable.COVERED], id="digest"),
        pytest.param(b'{"comment": 1}', ((b"Cache-Control", b"no-transform"),), [Unfixable.COVERED], id="no-transform"),
        pytest.param(
            gzip.compress(b'{"Comment": 1, "comment": 2, "IsolationType": "full"}'),
            ((b"Content-Encoding", b"gzip"), (b"Digest", b"x")),
            [Unfixable.CONFLICT, Unfixable.VALUE, Unfixable.CODED, Unfixable.COVERED],
            id="all-of-them",
        ),
    ],
)
def test_fix_says_why_it_did_not(body: bytes, fields: Fields, reasons: list[Unfixable]) -> None:
    found = checked(body, (*JSON, *fields), Mode.FIX)
    assert (found.action, found.fixed_body, list(found.not_fixed)) == (Action.REJECTED, None, reasons)
    assert checked(body, (*JSON, *fields), Mode.REJECT).not_fixed == ()


def test_a_rejected_body_comes_with_the_names_that_it_should_have() -> None:
    body = b'{"commands": [{"Type": 1}], "comment": 1, "strange": 2}'
    assert checked(body).names == ("/Commands", "/Commands/0/type", "/Comment")
    assert checked(gzip.compress(body), (*JSON, (b"Content-Encoding", b"gzip"))).names == checked(body).names


@pytest.mark.parametrize("mode", [Mode.FIX, Mode.OBSERVE])
def test_a_body_that_is_forwarded_costs_no_names(mode: Mode) -> None:
    assert checked(b'{"comment": 1}', mode=mode).names == ()


@pytest.mark.parametrize(
    ("body", "fields", "found"),
    [
        pytest.param(b'{"IsolationType": "Full"}', (), [(Suspicion.MISSING, "/Comment", "")], id="plain"),
        pytest.param(
            gzip.compress(b'{"IsolationType": "Full"}'),
            ((b"Content-Encoding", b"gzip"),),
            [(Suspicion.MISSING, "/Comment", "")],
            id="gzip",
        ),
        pytest.param(b'{"Comment": "x"}', (), [], id="right"),
        pytest.param(
            b'{"Comment":\n "a\nb"}',
            (),
            [(Suspicion.NOT_JSON, "", "line 2, column 4")],
            id="raw-line-break",
        ),
        pytest.param(b'{"Comment": "x",}', (), [(Suspicion.NOT_JSON, "", "line 1, column 17")], id="trailing-comma"),
        pytest.param(b"{'Comment': 1}", (), [(Suspicion.NOT_JSON, "", "line 1, column 2")], id="single-quotes"),
        pytest.param(b'{"Comment": "\xff"}', (), [(Suspicion.NOT_JSON, "", "")], id="not-utf-8"),
        pytest.param(b"[" * 40_000, (), [(Suspicion.NOT_JSON, "", "")], id="too-deep"),
        pytest.param(b"", (), [], id="empty"),
        pytest.param(b"[" + b"1," * 150_000 + b"1]", (), [], id="too-many-values"),
        pytest.param(b"no gzip", ((b"Content-Encoding", b"gzip"),), [], id="not-in-its-coding"),
        pytest.param(gzip.compress(b" " * 2_000_000), ((b"Content-Encoding", b"gzip"),), [], id="too-large"),
        pytest.param(b"{}", ((b"Content-Encoding", b"br"),), [], id="unknown-coding"),
    ],
)
def test_suspects_in_a_body(body: bytes, fields: Fields, found: list[tuple[Suspicion, str, str]]) -> None:
    told = suspects(body, (*JSON, *fields), ISOLATE, limit_bytes=LIMIT_BYTES)
    assert [(one.suspicion, one.pointer, one.got) for one in told] == found


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_any_bytes_have_suspects_or_none(body: bytes) -> None:
    assert len(suspects(body, JSON, ISOLATE, limit_bytes=LIMIT_BYTES)) <= 20
