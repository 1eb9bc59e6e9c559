"""What is told of the catalog: every operation with an example that the check finds nothing wrong with."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from jsonschema import Draft202012Validator  # type: ignore[import-untyped] # comes without types
from referencing import Registry
from referencing.jsonschema import DRAFT202012
from rich.console import Console

from proxy.catalog_report import (
    UnknownOperationError,
    as_json,
    as_lines,
    example_of,
    find_operation,
    print_list,
    print_operation,
    rows,
    type_of,
)
from proxy.core.casing import examine
from proxy.core.catalog import Document
from proxy.core.jsontext import parse
from proxy.core.model import NOTHING_FOUND
from proxy.core.openapi import compile_catalog
from proxy.resources import load_catalog

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.core.casing import Shape

CATALOG = load_catalog()
DOCUMENTS = [
    yaml.load(path.read_text("utf-8"), Loader=yaml.CSafeLoader)
    for path in sorted((Path(__file__).parent.parent / "config" / "catalog").glob("*.yaml"))
]
WITH_BODY = [pytest.param(operation, id=operation.name) for operation in CATALOG.operations if operation.body]


def shape_of(schema: Any, **beside: Any) -> Shape:
    content = {"application/json": {"schema": schema, **beside}}
    operation = {"operationId": "brewCoffee", "requestBody": {"content": content}}
    document = {"openapi": "3.1.0", "paths": {"/brews": {"post": operation}}}
    shape = compile_catalog([Document("test", document)]).operations[0].body
    assert shape is not None
    return shape


def drawn(draw: Callable[[Console], None], width: int = 120) -> str:
    out = io.StringIO()
    draw(Console(file=out, width=width, highlight=False, markup=False, emoji=False))
    return out.getvalue()


@pytest.mark.parametrize("operation", WITH_BODY)
def test_the_example_of_an_operation_is_right(operation: Any) -> None:
    example = example_of(operation.body)

    assert example
    assert examine(parse(json.dumps(example).encode()), operation.body) is NOTHING_FOUND
    required = {parameter.name for parameter in operation.body.parameters.values() if parameter.required}
    body = example[0] if isinstance(example, list) else example
    assert required <= body.keys()


def validator(name: str) -> Draft202012Validator:
    """Return what the document of an operation itself says of its body."""
    for document in DOCUMENTS:
        for path, item in document["paths"].items():
            for method, operation in item.items():
                if method != "parameters" and operation["operationId"] == name:
                    place = f"{path.replace('~', '~0').replace('/', '~1')}/{method}/requestBody/content"
                    reference = f"urn:document#/paths/{place}/application~1json/schema".replace("{", "%7B")
                    registry: Registry[Any] = Registry().with_resource(
                        "urn:document", DRAFT202012.create_resource(document)
                    )
                    return Draft202012Validator({"$ref": reference.replace("}", "%7D")}, registry=registry)
    raise AssertionError(name)


@pytest.mark.parametrize("operation", WITH_BODY)
def test_the_example_of_an_operation_fits_its_own_schema(operation: Any) -> None:
    validator(operation.name).validate(example_of(operation.body))


@pytest.mark.parametrize("operation", WITH_BODY)
def test_the_example_of_an_operation_has_nothing_that_the_service_fills_in(operation: Any) -> None:
    filled_in = {row.place for row in rows(operation.body) if row.is_read_only}

    def places(value: Any, place: str = "") -> set[str]:
        match value:
            case dict():
                below = [places(member, f"{place}.{name}".lstrip(".")) for name, member in value.items()]
                return {place}.union(*below)
            case list():
                return {place}.union(*(places(element, f"{place}[]") for element in value))
        return {place}

    assert not places(example_of(operation.body)) & filled_in


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("getScanHistoryByDefinition", {"ScanDefinitionIds": ["4ad8d463-6b3a-4894-b62a-a2de7dd2d8ae"]}),
        ("getScanHistoryBySession", {"SessionIds": ["4ad8d463-6b3a-4894-b62a-a2de7dd2d8ae"]}),
        ("submitIndicator", {"generateAlert": True, "rbacGroupNames": ["Servers"], "indicatorType": "FileSha1"}),
        ("createScanDefinition", {"targetType": "Ip", "intervalInHours": 24}),
        ("batchUpdateIndicators", {"Indicators": [
            {"id": "995", "action": "Audit", "title": "Unwanted tool", "severity": "Low"}]}),
    ],
)  # fmt: skip
def test_examples_are_of_the_strongest_source(name: str, part: dict[str, Any]) -> None:
    body = find_operation(CATALOG, name).body
    assert body is not None
    assert example_of(body).items() >= part.items()


def test_an_example_signs_in_in_one_way() -> None:
    body = find_operation(CATALOG, "updateScanDefinition").body
    assert body is not None
    assert example_of(body)["scanAuthenticationParams"].keys() == {
        "@odata.type", "type", "username", "domain", "isgmsaUser",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("properties", "example"),
    [
        ({"p": {"type": "string", "example": "x"}}, {"p": "x"}),
        ({"p": {"$ref": "#/components/schemas/P"}}, {"p": "below"}),
        ({"p": {"$ref": "#/components/schemas/P", "example": "beside"}}, {"p": "beside"}),
        ({"p": {"type": ["string", "boolean"], "example": False}}, {"p": False}),
        ({"p": {"readOnly": True}, "q": {"type": "integer"}}, {"q": 1}),
        ({"p": {"readOnly": True}}, {}),
    ],
)
def test_examples_and_read_only_properties_of_a_document(properties: Any, example: Any) -> None:
    schema = {"properties": properties}
    content = {"application/json": {"schema": schema}}
    document = {
        "openapi": "3.1.0",
        "components": {"schemas": {"P": {"type": "string", "example": "below"}}},
        "paths": {"/brews": {"post": {"operationId": "brewCoffee", "requestBody": {"content": content}}}},
    }
    shape = compile_catalog([Document("test", document)]).operations[0].body
    assert shape is not None

    assert example_of(shape) == example


def test_an_example_of_a_whole_body_goes_first() -> None:
    schema = {"properties": {"p": {"type": "string"}}, "example": {"p": "of the schema"}}

    assert example_of(shape_of(schema)) == {"p": "of the schema"}
    assert example_of(shape_of(schema, example={"p": "of the body"})) == {"p": "of the body"}


def test_values_are_in_the_order_of_the_document() -> None:
    shape = shape_of({"properties": {"p": {"enum": ["B b", "Bb", "A", "bb"]}}})

    assert shape.parameters["p"].shape.choices == ("B b", "Bb", "A", "bb")


@pytest.mark.parametrize("width", [20, 40, 80])
@pytest.mark.parametrize("operation", [pytest.param(one, id=one.name) for one in CATALOG.operations])
def test_no_spelling_is_broken_however_narrow_the_console(operation: Any, width: int) -> None:
    def words(text: str) -> set[str]:
        return {*text.replace(",", " ").split()}

    wide = drawn(lambda console: print_operation(console, operation), 10_000)
    assert words(drawn(lambda console: print_operation(console, operation), width)) == words(wide)


def test_a_value_with_a_comma_reads_as_one() -> None:
    text = drawn(lambda console: print_operation(console, find_operation(CATALOG, "batchUpdateAlerts")), 40)

    assert '"Informational, expected activity"' in text


def test_a_body_that_is_no_json_is_told_to_be_unchecked() -> None:
    operation = find_operation(CATALOG, "uploadLibraryFile")

    assert "\nbody is multipart/form-data: never checked\n" in drawn(
        lambda console: print_operation(console, operation)
    )
    assert as_json(operation)["media_types"] == ["multipart/form-data"]


def test_an_operation_without_a_page_says_where_it_is_known_from() -> None:
    operation = find_operation(CATALOG, "setExclusion")

    assert "known from metadata" in drawn(lambda console: print_operation(console, operation))
    assert as_json(operation)["source"] == "metadata"


def test_what_the_service_fills_in_is_told() -> None:
    text = drawn(lambda console: print_operation(console, find_operation(CATALOG, "submitIndicator")))

    assert "  createdBy  string, filled in by the service\n" in text


def test_no_document_can_forge_a_line_or_a_cell() -> None:
    bad = "a\tb\nc\x1b[2K\x9b1m\u202e"
    schema = {"properties": {bad: {"type": "string", "enum": [bad], "x-source": bad, "x-accepted-names": [bad + "2"]}}}
    content = {"application/json": {"schema": schema}}
    described = {"x-doc": bad, "x-source": bad, "requestBody": {"content": content}}
    other: Any = {"requestBody": {"content": {bad: {}}}}
    catalog = compile_catalog(
        [Document("test", {"openapi": "3.1.0", "paths": {"/brews": {"post": described, "put": other}}})]
    )

    _, *lines = as_lines(catalog)
    assert len(lines) == 2
    assert {line.count("\t") for line in lines} == {4}
    told = drawn(lambda console: print_list(console, catalog))
    for operation in catalog.operations:
        told += drawn(lambda console, one=operation: print_operation(console, one))  # type: ignore[misc]
    assert told.replace("\n", "").isprintable()
    assert "".join(line.replace("\t", "") for line in lines).isprintable()
    assert "\nc" not in told
    with pytest.raises(UnknownOperationError) as caught:
        find_operation(catalog, f"POST /{bad}")
    assert str(caught.value).isprintable()
    told = drawn(lambda console: print_operation(console, catalog.operations[0]))
    assert json.loads(told[told.index("{\n") :]) == {bad: bad}


@pytest.mark.parametrize(
    ("schema", "example", "words"),
    [
        ({"type": "string"}, "text", "string"),
        ({"type": "string", "enum": ["B", "A"]}, "B", "string"),
        ({"type": "string", "format": "date-time"}, "2026-01-31T12:00:00Z", "string (date-time)"),
        ({"type": "string", "format": "unheard-of"}, "text", "string (unheard-of)"),
        ({"type": "integer"}, 1, "integer"),
        ({"type": "number"}, 1.5, "number"),
        ({"type": ["boolean", "null"]}, True, "boolean"),
        ({"type": "null"}, None, "any"),
        ({"type": "object"}, {}, "object"),
        ({}, "text", "any"),
        ({"type": "array", "items": {"type": "integer"}}, [1], "array of integer"),
        ({"type": "array", "items": {"type": "array", "items": {}}}, [["text"]], "array of array of any"),
        ({"type": "array", "items": {"properties": {"a": {"type": "string"}}}}, [{"a": "text"}], "array of object"),
        ({"type": ["array", "string"], "items": {"type": "string"}}, "text", "array or string"),
    ],
)
def test_examples_and_types(schema: Any, example: Any, words: str) -> None:
    shape = shape_of({"type": "object", "properties": {"p": schema}}).parameters["p"].shape

    assert example_of(shape) == example
    assert type_of(shape) == words


def test_a_schema_inside_itself_comes_to_an_end() -> None:
    document = {
        "openapi": "3.1.0",
        "components": {"schemas": {"Node": {"properties": {"Next": {"$ref": "#/components/schemas/Node"}}}}},
        "paths": {
            "/nodes": {
                "post": {
                    "operationId": "link",
                    "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Node"}}}},
                }
            }
        },
    }
    shape = compile_catalog([Document("test", document)]).operations[0].body
    assert shape is not None

    assert [row.place for row in rows(shape)] == ["Next"]
    assert json.dumps(example_of(shape)).count("Next") == 6


def test_rows_are_in_the_order_of_the_document_each_before_what_is_inside() -> None:
    operation = find_operation(CATALOG, "runLiveResponse")
    assert operation.body is not None

    listed = [(row.place, row.depth) for row in rows(operation.body)]

    assert listed[:6] == [
        ("Comment", 0),
        ("Commands[]", 0),
        ("Commands[].type", 1),
        ("Commands[].params[]", 1),
        ("Commands[].params[].key", 2),
        ("Commands[].params[].value", 2),
    ]


def test_the_source_of_every_spelling_is_told() -> None:
    operation = find_operation(CATALOG, "updateAlert")
    assert operation.body is not None

    (status,) = (row for row in rows(operation.body) if row.place == "status")

    assert status.sources[0] == "metadata"
    assert status.accepted == {"Status": ("table",)}
    text = drawn(lambda console: print_operation(console, operation))
    assert "also accepted: Status (table)\n" in text
    assert "defender-endpoint/api/update-alert.md" in text
    assert '"status": "New"' in text


def test_what_a_read_returns_is_told() -> None:
    text = drawn(lambda console: print_operation(console, find_operation(CATALOG, "listMachines")))

    assert "computerDnsName" in text
    assert "$filter takes: " in text
    assert "\nexample\n" not in text


def test_what_is_never_checked_says_so() -> None:
    text = drawn(lambda console: print_operation(console, find_operation(CATALOG, "graphUpdateAlert")))

    assert "never checked" in text


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_list_names_every_operation_in_any_width(width: int) -> None:
    text = drawn(lambda console: print_list(console, CATALOG), width)

    assert all(len(line) <= width or " " not in line.strip() for line in text.splitlines()[:-1])
    assert all(operation.name in text and operation.template in text for operation in CATALOG.operations)
    assert f"{len(CATALOG.operations)} operations" in text


def test_the_lines_of_the_list_have_five_cells() -> None:
    heading, *lines = as_lines(CATALOG)

    assert heading.split("\t") == ["operation", "method", "path", "parameters", "page"]
    assert [line.split("\t")[0] for line in lines] == [operation.name for operation in CATALOG.operations]
    assert {line.count("\t") for line in lines} == {4}
    (isolate,) = (line for line in lines if line.startswith("isolateMachine\t"))
    assert isolate.split("\t")[1:4] == [
        "POST",
        "/api/machines/{id}/isolate",
        "Comment*, IsolationType, ExternalId, RequestSource, Title",
    ]


def test_everything_is_there_for_programs() -> None:
    known = json.loads(json.dumps([as_json(operation) for operation in CATALOG.operations]))

    (isolate,) = (one for one in known if one["operation"] == "isolateMachine")
    assert isolate["checked"] is True
    assert isolate["example"] == {"Comment": "Asked for in ticket 4711", "IsolationType": "Full"}
    assert isolate["parameters"][0] == {
        "name": "Comment",
        "type": "string",
        "required": True,
        "read_only": False,
        "values": [],
        "source": ["metadata", "example", "table"],
        "accepted": {},
    }


@pytest.mark.parametrize(
    ("name", "advice"),
    [("isolatMachine", "did you mean isolateMachine?"), ("ISOLATEMACHINE", "isolateMachine?"), ("x", "catalog list")],
)
def test_an_operation_that_is_not_there(name: str, advice: str) -> None:
    with pytest.raises(UnknownOperationError) as caught:
        find_operation(CATALOG, name)
    assert advice in str(caught.value)
