"""What is told of the catalog: every operation with an example that the check finds nothing wrong with."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import pytest
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
WITH_BODY = [pytest.param(operation, id=operation.name) for operation in CATALOG.operations if operation.body]


def shape_of(schema: Any) -> Shape:
    content = {"application/json": {"schema": schema}}
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
    assert "also accepted: Status (table)" in text
    assert "defender-endpoint/api/update-alert.md" in text
    assert '"status": "New"' in text


def test_what_a_read_returns_is_told() -> None:
    text = drawn(lambda console: print_operation(console, find_operation(CATALOG, "listMachines")))

    assert "computerDnsName" in text
    assert "$filter takes: " in text
    assert "example" not in text


def test_what_is_never_checked_says_so() -> None:
    text = drawn(lambda console: print_operation(console, find_operation(CATALOG, "graphUpdateAlert")))

    assert "never checked" in text


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_list_names_every_operation_in_any_width(width: int) -> None:
    text = drawn(lambda console: print_list(console, CATALOG), width)

    assert all(len(line) <= width for line in text.splitlines())
    assert width == 40 or all(operation.name in text for operation in CATALOG.operations)
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
    assert isolate["example"] == {"Comment": "text", "IsolationType": "Full"}
    assert isolate["parameters"][0] == {
        "name": "Comment",
        "type": "string",
        "required": True,
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
