from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.shapes import ShapesError, compile_shapes, recognise

GUID = "3a1f5d3c-7c2a-4a37-8a71-0d3a3a0f2f11"
DATA = yaml.safe_load((Path(__file__).parents[2] / "config/error_shapes.yaml").read_text("utf-8"))
SHAPES = compile_shapes(DATA)
NAMES = frozenset({"sha1"})


@pytest.mark.parametrize(
    ("document", "shape", "code", "message", "target"),
    [
        pytest.param({"error": {"code": "x", "message": "y", "target": GUID}}, "envelope", "x", "y", GUID, id="whole"),
        pytest.param({"error": {"code": "x", "innerError": {"request-id": GUID}}}, "envelope", "x", None, GUID, id="i"),
        pytest.param(
            {"error": {"code": "", "message": "y", "innererror": {"code": "deeper", "request-id": GUID}}},
            "odata", "deeper", "y", GUID, id="graph-without-a-code",
        ),
        pytest.param({"error": {"code": 404, "message": "y"}}, "odata", "404", "y", None, id="code-number"),
        pytest.param(
            {"error": {"code": "x", "message": {"lang": "en", "value": "y"}}}, "odata", "x", "y", None, id="verbose"
        ),
        pytest.param({"Error": {"Code": "x", "Message": "y", "Target": "Sha1"}}, "odata", "x", "y", None, id="case"),
        pytest.param(
            {"odata.error": {"code": "x", "message": {"value": "y"}}}, "odata3", "x", "y", None, id="odata-3"
        ),
        pytest.param(
            {"error": "invalid_client", "error_description": "AADSTS1: y", "correlation_id": GUID},
            "entra", "invalid_client", "AADSTS1: y", GUID, id="entra",
        ),
        pytest.param({"error": "invalid_grant", "error_codes": [1]}, "oauth", "invalid_grant", None, None, id="oauth"),
        pytest.param({"error": "No such thing"}, "error_text", None, "No such thing", None, id="error-text"),
        pytest.param({"statusCode": 401, "message": "y"}, "gateway", "401", "y", None, id="management"),
        pytest.param({"Message": "y"}, "gateway", None, "y", None, id="message"),
        pytest.param(
            {"fault": {"faultstring": "y", "detail": {"errorcode": "x"}}}, "fault", "x", "y", None, id="apigee"
        ),
        pytest.param(
            {"type": "about:blank", "title": "t", "status": 400, "detail": "y", "traceId": GUID},
            "problem", None, "y", GUID, id="problem",
        ),
        pytest.param(
            {"timestamp": 1, "status": 404, "error": "Not Found"}, "spring", "404", "Not Found", None, id="spring"
        ),
        pytest.param({"errors": [{"code": "x", "message": "y"}]}, "errors", "x", "y", None, id="errors"),
        pytest.param({"x": 1}, "json", None, None, None, id="unknown"),
        pytest.param([1], "json", None, None, None, id="array"),
        pytest.param("plain", "text", None, "plain", None, id="string"),
        pytest.param({"message": {"a": 1}, "detail": "y"}, "gateway", None, "y", None, id="message-that-is-none"),
        pytest.param({"code": True, "message": " "}, "json", None, None, None, id="values-that-are-none"),
        pytest.param({"message": "y" * 9000}, "gateway", None, "y" * 2047 + "…", None, id="long"),
    ],
)  # fmt: skip
def test_shapes_of_json(
    document: object, shape: str, code: str | None, message: str | None, target: str | None
) -> None:
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        found = recognise(json.dumps(document).encode(encoding), "text/html", SHAPES, NAMES)
        assert (found.shape, found.code, found.message, found.target) == (shape, code, message, target)


def test_json_within_a_json_string_is_unwrapped_once() -> None:
    document = {"error": {"code": "x", "message": "y"}}
    assert recognise(json.dumps(json.dumps(document)).encode(), "", SHAPES).shape == "envelope"
    assert recognise(json.dumps(json.dumps(json.dumps(document))).encode(), "", SHAPES).shape == "text"


@pytest.mark.parametrize(
    ("content", "media_type", "shape", "code", "message"),
    [
        pytest.param(b"", "", "empty", None, None, id="empty"),
        pytest.param(b" \r\n", "text/html", "empty", None, None, id="white-space"),
        pytest.param("\ufeff".encode("utf-16-le"), "", "empty", None, None, id="mark-alone"),
        pytest.param(b"no\n healthy  upstream", "text/plain", "text", None, "no healthy upstream", id="text"),
        pytest.param(b"<html><title>502</title>", "text/plain", "html", None, "502", id="html-by-its-looks"),
        pytest.param(b"<center>Oops</center>", "text/html", "html", None, "Oops", id="html-by-its-type"),
        pytest.param(b"hm<html><title>x</title>", "", "html", None, "x", id="words-before-the-page"),
        pytest.param(b"<html><body></body></html>", "", "html", None, None, id="empty-page"),
        pytest.param(b"<Error><Code>X</Code><Message>y</Message></Error>", "", "xml", "X", "y", id="xml"),
        pytest.param(b"<?xml version='1.0'?><a><b/></a>", "text/html", "xml", None, None, id="xml-without-words"),
        pytest.param(b"<3", "", "text", None, "<3", id="no-markup"),
        pytest.param(b'{"error":{"code":"X","message":"no', "", "broken_json", "X", None, id="cut-off"),
        pytest.param(b'{"code":"X","message":"a \\"b"', "", "broken_json", "X", 'a "b', id="cut-off-later"),
        pytest.param(b"nope", "application/json", "broken_json", None, None, id="claims-to-be-json"),
        pytest.param(b"\x00\x01\x02\x03", "", "binary", None, None, id="binary"),
        pytest.param(b"[" * 100_000, "", "broken_json", None, None, id="deep"),
    ],
)
def test_shapes_of_anything_else(
    content: bytes, media_type: str, shape: str, code: str | None, message: str | None
) -> None:
    found = recognise(content, media_type, SHAPES)
    assert (found.shape, found.code, found.message) == (shape, code, message)


def test_ids_in_xml_and_in_half_a_json() -> None:
    assert recognise(f"<Error><RequestId>{GUID}</RequestId></Error>".encode(), "", SHAPES).target == GUID
    assert recognise(f'{{"error":{{"target":"{GUID}","code":"x'.encode(), "", SHAPES).target == GUID


def test_numbers_stay_what_they_can_be() -> None:
    found = recognise(b'{"x":1e999,"y":12345678901234567890,"z":0.1,"n":%b}' % (b"9" * 5000), "", SHAPES)
    assert found.document == {"x": "1e999", "y": 12345678901234567890, "z": 0.1, "n": "9" * 5000}


def broken(change: str) -> Any:
    document = copy.deepcopy(DATA)
    match change:
        case "kind":
            document["json"][0]["when"] = {"/error": "thing"}
        case "path":
            document["json"][0]["code"] = ["error"]
        case "paths":
            document["json"][0]["message"] = "/error"
        case "key":
            document["json"][0]["massage"] = []
        case "name":
            document["json"][0]["name"] = "envelope"
        case "when":
            del document["json"][0]["when"]
        case "elements":
            document["xml"]["code"] = "code"
        case "element key":
            document["html"]["codes"] = []
        case "section":
            document["sml"] = {}
    return document


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ("kind", "/json/0/when//error: must be one of"),
        ("path", "/json/0/code: each must be a path"),
        ("paths", "/json/0/message: must be a list"),
        ("key", "/json/0/massage: no such key"),
        ("name", "/json/0/name: must be a word"),
        ("when", "/json/0: must hold"),
        ("elements", "/xml/code: must be a list of names"),
        ("element key", "/html/codes: no such key"),
        ("section", "/sml: no such key"),
    ],
)
def test_rules_that_cannot_be_used_are_told_with_their_place(change: str, place: str) -> None:
    with pytest.raises(ShapesError) as raised:
        compile_shapes(broken(change))
    (problem,) = raised.value.problems
    assert problem.startswith(place)


@pytest.mark.parametrize("document", [None, [], {}, {"json": {}, "xml": {}, "html": {}}, "x"])
def test_what_holds_no_rules_is_refused(document: object) -> None:
    with pytest.raises(ShapesError):
        compile_shapes(document)


@given(st.binary(), st.sampled_from(["", "text/html", "application/json; charset=utf-16"]))
def test_any_bytes_are_answered(content: bytes, media_type: str) -> None:
    assert recognise(content, media_type, SHAPES).shape
