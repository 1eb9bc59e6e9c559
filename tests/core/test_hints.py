from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from proxy.core.casing import Shape, examine, respell
from proxy.core.catalog import Document
from proxy.core.hints import OMITTED, corrected_names, fix_of, suspects
from proxy.core.jsontext import parse
from proxy.core.openapi import compile_catalog

if TYPE_CHECKING:
    from proxy.core.model import Suspect

SECRET = "s3cr3t-value-of-a-caller"  # noqa: S105 - it opens nothing


def shape_of(schema: dict[str, Any], **schemas: dict[str, Any]) -> Shape:
    """Return the shape that the catalog makes of a body's schema; `schemas` can be referred to."""
    operation = {"operationId": "thing", "requestBody": {"content": {"application/json": {"schema": schema}}}}
    paths = {"/api/things": {"post": operation}}
    content = {"openapi": "3.1.0", "paths": paths, "components": {"schemas": schemas}}
    shape = compile_catalog([Document("test", content)]).operations[0].body
    assert shape is not None
    return shape


TYPED = {
    "type": "object",
    "required": ["Comment"],
    "properties": {
        "Comment": {"type": "string"},
        "IsolationType": {"type": "string", "enum": ["Full", "Selective"]},
        "Minutes": {"type": "integer"},
        "Score": {"type": "number"},
        "Force": {"type": "boolean"},
        "Title": {"type": "string", "x-accepted-names": ["title"]},
        "Either": {"type": ["string", "array"]},
        "Anything": {},
        "Ids": {"type": "array", "items": {"type": "string"}},
        "Tags": {"type": "array", "items": {"type": "string", "enum": ["Red", "Blue"]}},
        "Grid": {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}},
        "Commands": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["type"],
                "properties": {
                    "type": {"type": "string"},
                    "params": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "properties": {"key": {"type": "string"}, "value": {"type": "string"}},
                        },
                    },
                },
            },
        },
        "Labels": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "required": ["Colour"],
                "properties": {"Colour": {"type": "string"}},
            },
        },
    },
}
ISOLATE = shape_of(TYPED)
TREE = shape_of(
    {"$ref": "#/components/schemas/Node"},
    Node={
        "type": "object",
        "properties": {"Next": {"$ref": "#/components/schemas/Node"}, "Name": {"type": "string"}},
    },
)


def body(**members: Any) -> bytes:
    return json.dumps({"Comment": "x"} | members).encode()


def told(text: bytes, shape: Shape = ISOLATE) -> list[tuple[str, str, tuple[str, ...], str]]:
    return [(one.suspicion.value, one.pointer, one.expected, one.got) for one in suspects(parse(text), shape)]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        pytest.param(b'{"comment": 1}', ["/Comment"], id="one"),
        pytest.param(b'{"isolation_type": 1, "COMMENT": 2}', ["/IsolationType", "/Comment"], id="order-of-the-body"),
        pytest.param(b'{"comment": 1, "Comment": 2}', ["/Comment"], id="two-spellings-once"),
        pytest.param(b'{"title": 1}', ["/title"], id="accepted-spelling-stays"),
        pytest.param(b'{"Coment": 1, "comment": 2}', ["/Comment"], id="unknown-is-left-out"),
        pytest.param(
            b'{"commands": [{"Type": 1}, {"Params": [{"Key": 1}]}]}',
            ["/Commands", "/Commands/0/type", "/Commands/1/params", "/Commands/1/params/0/key"],
            id="nested",
        ),
        pytest.param(b'{"commands": {"Type": 1}}', ["/Commands", "/Commands/type"], id="object-for-an-array"),
        pytest.param(b'[{"comment": 1}]', ["/0/Comment"], id="array-for-an-object"),
        pytest.param(b'[[{"comment": 1}]]', [], id="array-in-an-array-that-has-none"),
        pytest.param(
            b'{"labels": {"a/b": {"colour": 1}}}', ["/Labels", "/Labels/a~1b/Colour"], id="names-of-the-callers-own"
        ),
        pytest.param(b"{}", [], id="empty"),
        pytest.param(b"1", [], id="scalar"),
    ],
)
def test_names_as_they_should_be_spelt(text: bytes, names: list[str]) -> None:
    assert corrected_names(parse(text), ISOLATE) == tuple(names)


def test_names_are_those_of_the_body_once_it_is_fixed() -> None:
    text = b'{"comment": 1, "commands": [{"Type": 1, "PARAMS": [{"Key": 1, "value": 2}]}], "isolation-type": "Full"}'
    fixed = respell(text, examine(parse(text), ISOLATE).mismatches)
    assert corrected_names(parse(text), ISOLATE) == corrected_names(parse(fixed), ISOLATE)
    assert not examine(parse(fixed), ISOLATE).mismatches


@pytest.mark.parametrize(
    ("text", "suspect"),
    [
        pytest.param(body(Isolatontype=1), ("unknown_name", "/Isolatontype", ("IsolationType",), ""), id="near-miss"),
        pytest.param(body(Zzz=1), ("unknown_name", "/Zzz", (), ""), id="unknown-name"),
        pytest.param(b"{}", ("missing", "/Comment", ("string",), ""), id="missing"),
        pytest.param(body(Commands=[{}]), ("missing", "/Commands/0/type", ("string",), ""), id="missing-within"),
        pytest.param(body(Labels={"a": {}}), ("missing", "/Labels/a/Colour", ("string",), ""), id="missing-by-others"),
        pytest.param(b'{"Comment": null}', ("wrong_type", "/Comment", ("string",), "null"), id="required-and-null"),
        pytest.param(b'{"Comment": 5}', ("wrong_type", "/Comment", ("string",), "number"), id="number-for-string"),
        pytest.param(body(Force="true"), ("wrong_type", "/Force", ("boolean",), "string"), id="string-for-boolean"),
        pytest.param(body(Minutes=True), ("wrong_type", "/Minutes", ("integer",), "boolean"), id="boolean-for-integer"),
        pytest.param(body(Minutes=1.5), ("wrong_type", "/Minutes", ("integer",), "number"), id="fraction-for-integer"),
        pytest.param(body(Minutes="5"), ("wrong_type", "/Minutes", ("integer",), "string"), id="string-for-integer"),
        pytest.param(body(Ids="a"), ("wrong_type", "/Ids", ("array",), "string"), id="string-for-array"),
        pytest.param(body(Ids=["a", 2]), ("wrong_type", "/Ids/1", ("string",), "number"), id="wrong-element"),
        pytest.param(body(Ids=[["a"]]), ("wrong_type", "/Ids/0", ("string",), "array"), id="array-for-element"),
        pytest.param(body(Grid=[1]), ("wrong_type", "/Grid/0", ("array",), "number"), id="element-for-array"),
        pytest.param(body(Grid=[["1"]]), ("wrong_type", "/Grid/0/0", ("integer",), "string"), id="wrong-inmost"),
        pytest.param(body(Either=1), ("wrong_type", "/Either", ("array", "string"), "number"), id="neither-type"),
        pytest.param(
            body(IsolationType="Partly"),
            ("undocumented_value", "/IsolationType", ("Full", "Selective"), ""),
            id="value-outside-of-the-enumeration",
        ),
        pytest.param(
            body(Tags=["Red", "Green"]), ("undocumented_value", "/Tags/1", ("Red", "Blue"), ""), id="element-outside"
        ),
        pytest.param(b'[{"Comment": ""}]', ("wrong_type", "", ("object",), "array"), id="array-for-body"),
        pytest.param(b"null", ("wrong_type", "", ("object",), "null"), id="null-for-body"),
    ],
)
def test_suspect(text: bytes, suspect: tuple[str, str, tuple[str, ...], str]) -> None:
    (found,) = told(text)
    assert (found[0], found[1], sorted(found[2]), found[3]) == (suspect[0], suspect[1], sorted(suspect[2]), suspect[3])


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(body(), id="required-alone"),
        pytest.param(body(IsolationType="Full", Minutes=5, Score=1.5, Force=False), id="right-types"),
        pytest.param(body(Minutes=5.0), id="integer-with-a-point"),
        pytest.param(body(Score=5), id="integer-for-number"),
        pytest.param(body(Either="a"), id="one-of-two-types"),
        pytest.param(body(Either=["a"]), id="the-other-of-two-types"),
        pytest.param(body(Anything={"a": [1, None]}), id="anything"),
        pytest.param(body(Title=None), id="optional-and-null"),
        pytest.param(body(title="x"), id="accepted-spelling"),
        pytest.param(body(IsolationType="full"), id="misspelt-value-is-a-mismatch"),
        pytest.param(b'{"comment": "x"}', id="misspelt-name-is-a-mismatch-and-not-missing"),
        pytest.param(body(Grid=[[1, 2], []]), id="grid"),
        pytest.param(body(Labels={"a": {"Colour": ""}}), id="names-of-the-callers-own"),
    ],
)
def test_nothing_is_suspicious(text: bytes) -> None:
    assert told(text) == []


def test_a_pointer_leads_to_the_place_in_the_body_as_it_was_received() -> None:
    assert told(b'{"comment": "x", "commands": [{"type": 1}]}') == [
        ("wrong_type", "/commands/0/type", ("string",), "number")
    ]


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        pytest.param(b'{"comment": 1}', "rename 'comment' to 'Comment'", id="name"),
        pytest.param(b'{"IsolationType": "FULL"}', "write 'Full' for 'FULL'", id="value"),
        pytest.param(
            b'{"Comment": 1, "comment": 1}', "keep one spelling alone: 'Comment', not 'comment'", id="conflict"
        ),
        pytest.param(
            b'{"comment%s": 1}' % (b"_" * 200), f"rename 'comment{'_' * 56}…' to 'Comment'", id="long-spelling"
        ),
    ],
)
def test_fix_of_a_mismatch(text: bytes, fix: str) -> None:
    assert fix_of(examine(parse(text), ISOLATE).mismatches[0]) == fix


# Bounds.


def size(found: tuple[Suspect, ...]) -> int:
    return sum(len(one.pointer) + len(one.got) + sum(map(len, one.expected)) for one in found)


HOSTILE = [
    pytest.param({f"name{n}": n for n in range(50_000)}, ISOLATE, id="50000-unknown-names"),
    pytest.param({"commands": [{"Type": n} for n in range(10_000)]}, ISOLATE, id="10000-mismatches"),
    pytest.param({"Commands": [{} for _ in range(50_000)]}, ISOLATE, id="50000-missing"),
    pytest.param({"Commands": [n for n in range(50_000)]}, ISOLATE, id="50000-wrong-types"),  # noqa: C416
    pytest.param({"Ids": [[] for _ in range(50_000)]}, ISOLATE, id="50000-arrays"),
    pytest.param({"Labels": {"x" * 100_000: {"colour": 1}}}, ISOLATE, id="long-name-of-the-callers-own"),
    pytest.param({f"{'x' * 5_000}{n}": n for n in range(100)}, ISOLATE, id="long-unknown-names"),
]


@pytest.mark.parametrize(("document", "shape"), HOSTILE)
def test_what_is_found_is_bounded(document: dict[str, Any], shape: Shape) -> None:
    parsed = parse(json.dumps(document).encode())
    began = time.perf_counter()
    names, found = corrected_names(parsed, shape), suspects(parsed, shape)
    assert time.perf_counter() - began < 3
    assert len(names) <= 101
    assert sum(map(len, names)) < 100_000
    assert len(found) <= 20
    assert size(found) < 200_000


def test_more_names_than_are_told_end_in_an_ellipsis() -> None:
    names = corrected_names(parse(json.dumps({"Commands": [{"Type": 1}] * 10_000}).encode()), ISOLATE)
    assert len(names) == 101
    assert names[0] == "/Commands"
    assert names[-1] == OMITTED


@pytest.mark.parametrize(("count", "is_whole"), [(99, True), (100, False)])
def test_a_hundred_names_are_told_whole(*, count: int, is_whole: bool) -> None:
    names = corrected_names(parse(json.dumps({"Commands": [{"Type": 1}] * count}).encode()), ISOLATE)
    assert (OMITTED not in names) is is_whole
    assert len(names) == 100 + (not is_whole)


def test_names_that_are_not_looked_for_end_in_an_ellipsis() -> None:
    names = corrected_names(parse(json.dumps({f"n{n}": 1 for n in range(20_000)} | {"comment": 1}).encode()), ISOLATE)
    assert names == (OMITTED,)


def test_a_body_is_followed_as_deep_as_one_can_be_meant() -> None:
    text = b'{"next":' * 200 + b"1" + b"}" * 200
    assert len(corrected_names(parse(text), TREE)) == 32
    assert told(text, TREE) == []


# Properties.

scalars = st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.just(SECRET)
spellings = st.sampled_from(["Comment", "comment", "commands", "Commands", "Type", "params", "Key", "Coment", "Labels"])
documents = st.recursive(
    scalars,
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(spellings, inside, max_size=5),
    max_leaves=30,
)


@given(documents)
def test_no_value_of_a_body_is_told(document: Any) -> None:
    parsed = parse(json.dumps(document).encode())
    assert SECRET not in repr(suspects(parsed, ISOLATE))
    assert SECRET not in repr(corrected_names(parsed, ISOLATE))


@given(documents)
def test_whatever_the_body_names_lead_somewhere_in_the_fixed_one(document: Any) -> None:
    text = json.dumps(document).encode()
    mismatches = examine(parse(text), ISOLATE).mismatches
    assume(not any(mismatch.conflict for mismatch in mismatches))
    fixed = json.loads(respell(text, mismatches))
    for name in corrected_names(parse(text), ISOLATE):
        value = fixed
        for token in name.split("/")[1:]:
            value = value[int(token)] if isinstance(value, list) else value[token]
