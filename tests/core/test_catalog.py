from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.catalog import (
    METHODS,
    UNKNOWN,
    Catalog,
    CatalogError,
    CatalogProblem,
    Document,
    compile_catalog,
    is_json_media_type,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from proxy.core.casing import Shape

REF = "#/components/schemas/"


def openapi(paths: object, **more: object) -> dict[str, Any]:
    return {"openapi": "3.1.0", "paths": paths, **more}


def named(name: str, **more: object) -> dict[str, Any]:
    return {"operationId": name, **more}


def with_body(schema: object, name: str = "op", media_type: str = "application/json", **more: object) -> dict[str, Any]:
    return named(name, requestBody={"content": {media_type: {"schema": schema}}}, **more)


def one(schema: object, schemas: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return a document with one operation, `POST /a`, whose body has `schema`."""
    return openapi({"/a": {"post": with_body(schema)}}, components={"schemas": schemas or {}})


def compiled(*contents: object) -> Catalog:
    return compile_catalog(Document(f"{number}.yaml", content) for number, content in enumerate(contents, 1))


def shape_of(schema: object, schemas: dict[str, Any] | None = None) -> Shape:
    shape = compiled(one(schema, schemas)).operations[0].body
    assert shape is not None
    return shape


def problems(*contents: object) -> list[tuple[str, str, str]]:
    with pytest.raises(CatalogError) as caught:
        compiled(*contents)
    assert str(caught.value).splitlines() == [str(problem) for problem in caught.value.problems]
    return [(problem.document, problem.pointer, problem.message) for problem in caught.value.problems]


ROUTES = compiled(
    openapi(
        {
            "/": {"get": named("root")},
            "/api/machines": {"get": named("listMachines")},
            "/api/machines/{id}": {"get": named("getMachine"), "patch": named("updateMachine")},
            "/api/machines/{id}/isolate": {"post": named("isolateMachine")},
            "/api/machines/findbytag": {"get": named("findMachinesByTag")},
            "/api/machines/findbytag/tags/{tag}": {"get": named("getTag")},
            "/api/machines/{id}/tags": {"post": named("tagMachine")},
            "/api/alerts/CreateAlertByReference": {"post": named("createAlert")},
            "/api/alerts/{id}": {"post": named("updateAlert")},
            "/api/keys/{a}/{b}/{c}": {"get": named("getKey")},
            "/api/keys/{a}/fixed/{c}": {"delete": named("deleteKey")},
            "/v2/things": {"get": named("listThings")},
        }
    )
)


@pytest.mark.parametrize(
    ("method", "target", "name"),
    [
        pytest.param("GET", "/api/machines", "listMachines", id="plain"),
        pytest.param("GET", "/api/machines/1f2e", "getMachine", id="parameter"),
        pytest.param("PATCH", "/api/machines/1f2e", "updateMachine", id="by-method"),
        pytest.param("POST", "/api/machines/1f2e/isolate", "isolateMachine", id="behind-a-parameter"),
        pytest.param("GET", "/api/v1.0/machines", "listMachines", id="version"),
        pytest.param("GET", "/api/v1/machines", "listMachines", id="whole-version"),
        pytest.param("GET", "/api/V1.0/machines", "listMachines", id="version-in-upper-case"),
        pytest.param("GET", "/api/beta/machines", "listMachines", id="beta"),
        pytest.param("GET", "/api//v1.0//machines", "listMachines", id="version-between-double-slashes"),
        pytest.param("GET", "/api/machines/", "listMachines", id="trailing-slash"),
        pytest.param("GET", "/api/machines//", "listMachines", id="trailing-slashes"),
        pytest.param("POST", "//api///machines//1f2e//isolate", "isolateMachine", id="double-slashes"),
        pytest.param("POST", "/API/Machines/1F2E/ISOLATE", "isolateMachine", id="letter-case"),
        pytest.param("POST", "/api/alerts/createalertbyreference", "createAlert", id="literal-in-lower-case"),
        pytest.param("POST", "/api/m%61chines/1/i%73olate", "isolateMachine", id="percent-encoded-letters"),
        pytest.param("POST", "/%61pi/v1%2E0/machines/1/isolate", "isolateMachine", id="percent-encoded-version"),
        pytest.param("POST", "/api/machines/a%2Fb/isolate", "isolateMachine", id="encoded-slash-stays-in-its-segment"),
        pytest.param("POST", "/api/machines/%20/isolate", "isolateMachine", id="encoded-space"),
        pytest.param("POST", "/api/machines/%FF%00/isolate", "isolateMachine", id="octets-that-are-no-text"),
        pytest.param("POST", "/api/machines/%zz%/isolate", "isolateMachine", id="broken-encoding"),
        pytest.param("POST", "/api/machines/\xe9\xff/isolate", "isolateMachine", id="octets-beyond-ascii"),
        pytest.param("GET", "/api/machines?$filter=a/b", "listMachines", id="query"),
        pytest.param("GET", "/api/machines/?", "listMachines", id="empty-query"),
        pytest.param("GET", "/api/machines?/1f2e", "listMachines", id="path-in-the-query"),
        pytest.param("GET", "/api/machines/findbytag", "findMachinesByTag", id="literal-before-parameter"),
        pytest.param("GET", "/api/machines/findbytag/tags/x", "getTag", id="deeper-below-the-literal"),
        pytest.param("POST", "/api/machines/findbytag/isolate", "isolateMachine", id="back-from-the-literal"),
        pytest.param("POST", "/api/machines/findbytag/tags", "tagMachine", id="back-from-two-literals"),
        pytest.param("PATCH", "/api/machines/findbytag", "updateMachine", id="back-for-the-method"),
        pytest.param("GET", "/api/keys/1/fixed/3", "getKey", id="back-for-the-method-in-the-middle"),
        pytest.param("DELETE", "/api/keys/1/fixed/3", "deleteKey", id="literal-in-the-middle"),
        pytest.param("GET", "/", "root", id="root"),
        pytest.param("GET", "", "root", id="empty"),
        pytest.param("GET", "/v2/things", "listThings", id="version-elsewhere-is-a-segment"),
    ],
)
def test_request_belongs_to_an_operation(method: str, target: str, name: str) -> None:
    assert ROUTES.match(method, target).name == name


@pytest.mark.parametrize(
    ("method", "target"),
    [
        pytest.param("GET", "/api/nothing", id="unknown-route"),
        pytest.param("GET", "/api", id="part-of-a-route"),
        pytest.param("GET", "/machines", id="without-its-first-segment"),
        pytest.param("GET", "/x/api/machines", id="something-before"),
        pytest.param("POST", "/api/machines/1/isolate/more", id="something-behind"),
        pytest.param("DELETE", "/api/machines", id="unknown-method"),
        pytest.param("HEAD", "/api/machines", id="method-that-is-not-documented"),
        pytest.param("get", "/api/machines", id="methods-are-case-sensitive"),
        pytest.param("", "/api/machines", id="no-method"),
        pytest.param("POST", "/api/machines/a/b/isolate", id="slash-within-a-parameter"),
        pytest.param("POST", "/api%2Fmachines/1/isolate", id="encoded-slash-is-no-separator"),
        pytest.param("GET", "/api/machines%2F", id="encoded-slash-at-the-end"),
        pytest.param("GET", "/api/v1.0.0/machines", id="version-of-three-parts"),
        pytest.param("GET", "/api/va/machines", id="no-version"),
        pytest.param("GET", "/v1.0/machines", id="version-without-api"),
        pytest.param("DELETE", "/api/%E2%84%AAeys/1/fixed/3", id="kelvin-sign-is-no-k"),
        pytest.param("GET", "/api/mach%C4%B1nes", id="dotless-i-is-no-i"),
        pytest.param("GET", "/things", id="version-elsewhere-is-not-optional"),
        pytest.param("GET", "/a" * 10_000, id="10000-segments"),
        pytest.param("GET", "/api/keys" + "/fixed" * 10_000, id="10000-segments-below-a-route"),
        pytest.param("GET", "/api" * 10_000, id="10000-times-api"),
        pytest.param("GET", "/" + "%2F" * 100_000, id="very-long-segment"),
    ],
)
def test_any_other_request_is_unknown(method: str, target: str) -> None:
    assert ROUTES.match(method, target) is UNKNOWN


def test_10000_slashes_are_none() -> None:
    assert ROUTES.match("GET", "/" * 10_000 + "api/machines" + "/" * 10_000).name == "listMachines"


@given(st.sampled_from(["GET", "POST", "BREW"]), st.text() | st.from_regex(r"(/(api|v1|machines|fixed|%2F|{id}|))*"))
def test_any_target_is_answered(method: str, target: str) -> None:
    operation = ROUTES.match(method, target)
    assert operation is UNKNOWN or operation in ROUTES.operations


@given(st.sampled_from(ROUTES.operations), st.text(min_size=1).filter(lambda text: text.lower() != "findbytag"))
def test_every_template_matches_itself_filled_in(operation: Any, value: str) -> None:
    filled = "".join(f"%{octet:02x}" for octet in value.encode())
    target = "/".join(filled if part.startswith("{") else part.swapcase() for part in operation.template.split("/"))
    if operation.name not in {"getKey", "updateAlert"}:
        assert ROUTES.match(operation.method, target) is operation


def lines_run(function: Callable[[], object]) -> int:
    """Return how many lines of Python `function` takes."""
    count = 0

    def trace(_frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    former = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(former)
    return count


def many(count: int) -> Catalog:
    """Return a catalog of three routes, `count` times over, each with two methods."""
    routes = ("/api/thing{}", "/api/thing{}/{{id}}", "/api/{{id}}/part{}")
    paths = {
        route.format(number): {method: named(f"{method}{number}-{which}") for method in ("get", "post")}
        for number in range(count)
        for which, route in enumerate(routes)
    }
    return compiled(openapi(paths))


@pytest.mark.parametrize(
    "target",
    [
        pytest.param("/api/thing0/x", id="known"),
        pytest.param("/api/x/part0", id="behind-a-parameter"),
        pytest.param("/api/thing0/x/y", id="unknown"),
        pytest.param("/nowhere", id="unknown-from-the-start"),
    ],
)
def test_a_match_costs_the_same_among_6_or_5000_operations(target: str) -> None:
    few, lots = many(1), many(834)
    assert len(lots.operations) > 5000
    assert few.match("GET", target).name == lots.match("GET", target).name
    assert lines_run(lambda: lots.match("GET", target)) == lines_run(lambda: few.match("GET", target))


def test_catalog_without_documents_knows_nothing() -> None:
    empty = compile_catalog([])
    assert (empty.operations, empty.names) == ((), frozenset())
    assert empty.match("GET", "/") is UNKNOWN


def test_operation_is_told_as_documented() -> None:
    content = openapi(
        {"/api/Things/{id}": {"post": with_body({"properties": {"Name": {}}}, "Do", **{"x-doc": "do.md"})}}
    )
    [operation] = compiled(content).operations
    assert (operation.name, operation.method, operation.template) == ("Do", "POST", "/api/Things/{id}")
    assert (operation.policed, operation.is_checked, operation.doc) == (True, True, "do.md")


def test_every_method_but_trace_is_read() -> None:
    item = {method.lower(): named(method) for method in (*METHODS, "TRACE")}
    assert {operation.method for operation in compiled(openapi({"/a": item})).operations} == METHODS
    assert "TRACE" not in METHODS


def test_names_of_all_documents_are_kept_folded() -> None:
    inner = {"properties": {"Sha-1": {"x-accepted-names": ["file_Hash"]}}}
    first, second = one({"properties": {"IsolationType": inner}}), one({"items": {"properties": {"Comment": {}}}})
    second["paths"] = {"/b": {"post": second["paths"]["/a"]["post"] | {"operationId": "other"}}}
    assert compiled(first, second).names == {"isolationtype", "sha1", "filehash", "comment"}


@pytest.mark.parametrize(
    "version", [pytest.param("3.0.0", id="first"), pytest.param("3.0.4", id="3.0"), pytest.param("3.1.1", id="3.1")]
)
def test_openapi_3_is_read(version: str) -> None:
    assert len(compiled(one({}) | {"openapi": version}).operations) == 1


@pytest.mark.parametrize(
    ("document", "operation", "policed"),
    [
        pytest.param({}, {}, True, id="unless-told-otherwise"),
        pytest.param({"x-case-sensitive": False}, {}, False, id="not-by-document"),
        pytest.param({}, {"x-case-sensitive": False}, False, id="not-by-operation"),
        pytest.param({"x-case-sensitive": True}, {"x-case-sensitive": True}, True, id="by-both"),
        pytest.param({"x-case-sensitive": True}, {"x-case-sensitive": False}, False, id="operation-is-nearer"),
    ],
)
def test_case_is_policed(*, document: dict[str, Any], operation: dict[str, Any], policed: bool) -> None:
    content = openapi({"/a": {"post": with_body({"properties": {"A": {}}}) | operation}}, **document)
    [compiled_operation] = compiled(content).operations
    assert (compiled_operation.policed, compiled_operation.is_checked) == (policed, policed)


@pytest.mark.parametrize(
    "operation",
    [
        pytest.param(named("op"), id="no-body"),
        pytest.param(with_body({"properties": {"A": {}}}, media_type="multipart/form-data"), id="body-of-another-type"),
        pytest.param(with_body({}), id="schema-without-names"),
        pytest.param(with_body({"type": "string"}), id="scalar"),
        pytest.param(with_body({"properties": {}}), id="no-properties"),
        pytest.param(with_body(None), id="no-schema"),
        pytest.param(named("op", requestBody={"content": {"application/json": None}}), id="no-media-type-object"),
        pytest.param(named("op", requestBody={"description": "none"}), id="no-content"),
    ],
)
def test_nothing_to_compare_with_is_not_checked(operation: dict[str, Any]) -> None:
    [compiled_operation] = compiled(openapi({"/a": {"post": operation}})).operations
    assert not compiled_operation.is_checked


def test_the_json_of_several_media_types_is_read() -> None:
    content: dict[str, Any] = {"text/csv": {}, "application/vnd.x+json; v=1": {"schema": {"properties": {"A": {}}}}}
    [operation] = compiled(openapi({"/a": {"post": named("op", requestBody={"content": content})}})).operations
    assert operation.body is not None
    assert set(operation.body.parameters) == {"A"}


def test_schema_becomes_a_shape() -> None:
    shape = shape_of(
        {
            "required": ["Comment"],
            "properties": {
                "Comment": {},
                "Type": {"enum": ["Full", 1, None, "FULL"]},
                "ids": {"x-accepted-names": ["machineIds"]},
                "List": {"items": {"items": {"properties": {"key": {}}}}},
            },
        }
    )
    assert list(shape.parameters) == ["Comment", "Type", "ids", "machineIds", "List"]
    assert [shape.parameters[name].required for name in ("Comment", "Type")] == [True, False]
    assert shape.parameters["machineIds"] is shape.parameters["ids"]
    assert {folded: parameter.name for folded, parameter in shape.by_fold.items()} == {
        "comment": "Comment",
        "type": "Type",
        "ids": "ids",
        "machineids": "ids",
        "list": "List",
    }
    assert shape.parameters["Type"].shape.values == {"Full", "FULL"}
    assert shape.parameters["Type"].shape.value_by_fold == {"full": "Full"}
    assert set(shape.parameters["List"].shape.parameters) == {"key"}


def test_spellings_that_two_parameters_share_are_ambiguous() -> None:
    shape = shape_of({"properties": {"id": {}, "ID": {}, "i_d": {}, "name": {"x-accepted-names": ["Na-me"]}}})
    assert set(shape.parameters) == {"id", "ID", "i_d", "name", "Na-me"}
    assert set(shape.by_fold) == {"name"}


def test_names_that_yaml_reads_as_something_else_are_texts() -> None:
    shape = shape_of({"properties": {False: {}, 1: {}, None: {}}})
    assert set(shape.parameters) == {"False", "1", "None"}


@pytest.mark.parametrize(
    ("reference", "schemas"),
    [
        pytest.param("#/components/schemas/A", {"A": {"properties": {"Name": {}}}}, id="direct"),
        pytest.param(REF + "B", {"B": {"$ref": REF + "A"}, "A": {"properties": {"Name": {}}}}, id="in-a-row"),
        pytest.param(REF + "a~1b~0c", {"a/b~c": {"properties": {"Name": {}}}}, id="escaped-pointer"),
        pytest.param(REF + "a%20b", {"a b": {"properties": {"Name": {}}}}, id="percent-encoded"),
        pytest.param(REF + "A/properties/x", {"A": {"properties": {"x": {"properties": {"Name": {}}}}}}, id="deeper"),
        pytest.param(REF + "A", {"A": {"items": {"$ref": REF + "B"}}, "B": {"properties": {"Name": {}}}}, id="array"),
    ],
)
def test_local_reference_is_followed(reference: str, schemas: dict[str, Any]) -> None:
    assert set(shape_of({"$ref": reference}, schemas).parameters) == {"Name"}


def test_body_and_schema_may_both_be_references() -> None:
    content = openapi(
        {"/a": {"post": named("op", requestBody={"$ref": "#/components/requestBodies/A"})}},
        components={
            "requestBodies": {"A": {"content": {"application/json": {"schema": {"$ref": REF + "A"}}}}},
            "schemas": {"A": {"properties": {"Name": {}}}},
        },
    )
    assert compiled(content).operations[0].is_checked


def test_schema_within_itself_has_itself_inside() -> None:
    shape = shape_of(
        {"$ref": REF + "Node"},
        {"Node": {"properties": {"next": {"$ref": REF + "Node"}, "all": {"items": {"$ref": REF + "Node"}}}}},
    )
    assert shape.parameters["next"].shape is shape
    assert shape.parameters["all"].shape.parameters is shape.parameters
    assert set(shape.by_fold) == {"next", "all"}


def test_two_schemas_within_each_other_have_each_other_inside() -> None:
    schemas = {"A": {"properties": {"b": {"$ref": REF + "B"}}}, "B": {"properties": {"a": {"$ref": REF + "A"}}}}
    shape = shape_of({"$ref": REF + "A"}, schemas)
    assert shape.parameters["b"].shape.parameters["a"].shape is shape


@pytest.mark.parametrize(
    "schemas",
    [
        pytest.param({"A": {"items": {"$ref": REF + "A"}}}, id="of-itself"),
        pytest.param({"A": {"items": {"$ref": REF + "B"}}, "B": {"items": {"$ref": REF + "A"}}}, id="of-each-other"),
        pytest.param({"A": {"items": {"items": {"$ref": REF + "A"}}}}, id="of-arrays-of-itself"),
    ],
)
def test_array_of_nothing_but_itself_is_compiled_or_reported(schemas: dict[str, Any]) -> None:
    with contextlib.suppress(CatalogError):
        assert not compiled(one({"$ref": REF + "A"}, schemas)).operations[0].is_checked


def test_array_whose_elements_hold_the_array_is_known_on_every_level() -> None:
    nodes = {"items": {"$ref": REF + "Node"}}
    shape = shape_of(
        {"$ref": REF + "Nodes"}, {"Nodes": nodes, "Node": {"properties": {"all": {"$ref": REF + "Nodes"}}}}
    )
    for _ in range(3):
        assert set(shape.parameters) == {"all"}
        shape = shape.parameters["all"].shape


SCHEMA = "/paths/~1a/post/requestBody/content/application~1json/schema"


@pytest.mark.parametrize(
    ("content", "pointer", "message"),
    [
        pytest.param(None, "", "not an OpenAPI document", id="empty-document"),
        pytest.param([], "", "not an OpenAPI document", id="list"),
        pytest.param("openapi: 3.1.0", "", "not an OpenAPI document", id="text"),
        pytest.param({}, "", "it needs `openapi` and `paths`", id="empty-mapping"),
        pytest.param({"openapi": "3.1.0"}, "", "it needs `openapi` and `paths`", id="no-paths"),
        pytest.param(openapi(None), "", "it needs `openapi` and `paths`", id="empty-paths"),
        pytest.param(openapi([]), "", "it needs `openapi` and `paths`", id="paths-in-a-list"),
        pytest.param({"swagger": "2.0", "paths": {}}, "", "not an OpenAPI document", id="openapi-2"),
        pytest.param({"openapi": "2.0", "paths": {}}, "/openapi", "'2.0' is not supported", id="openapi-2-renamed"),
        pytest.param({"openapi": "4.0.0", "paths": {}}, "/openapi", "write 3.1.0", id="openapi-4"),
        pytest.param({"openapi": "3.10.0", "paths": {}}, "/openapi", "is not supported", id="openapi-3.10"),
        pytest.param({"openapi": 3.1, "paths": {}}, "/openapi", "3.1 is not supported", id="version-as-a-number"),
        pytest.param({"openapi": None, "paths": {}}, "/openapi", "is not supported", id="no-version"),
        pytest.param(openapi({"a": {}}), "/paths/a", "must start with a slash", id="path-without-a-slash"),
        pytest.param(openapi({"/a/{b}": None}), "/paths/~1a~1{b}", "hold a mapping", id="empty-path"),
        pytest.param(openapi({"/a": []}), "/paths/~1a", "hold a mapping", id="list-of-operations"),
        pytest.param(openapi({"/a": {"get": {}}}), "/paths/~1a/get", "needs an `operationId`", id="no-name"),
        pytest.param(openapi({"/a": {"get": None}}), "/paths/~1a/get", "needs an `operationId`", id="no-operation"),
        pytest.param(openapi({"/a": {"get": named("")}}), "/paths/~1a/get", "needs an `operationId`", id="empty-name"),
        pytest.param(
            openapi({"/a": {"get": {"operationId": 7}}}), "/paths/~1a/get", "needs an `operationId`", id="number-name"
        ),
        pytest.param(
            openapi({"/a": {"get": named("unknown")}}), "/paths/~1a/get", "'unknown' is taken", id="name-that-is-ours"
        ),
        pytest.param(one({"$ref": "b.yaml#/x"}), SCHEMA, "'b.yaml#/x' leaves the document", id="ref-to-a-file"),
        pytest.param(one({"$ref": "https://x.test/"}), SCHEMA, "leaves the document", id="ref-to-a-host"),
        pytest.param(one({"$ref": REF + "No"}), SCHEMA, "schemas/No' leads nowhere", id="ref-to-nothing"),
        pytest.param(one({"$ref": "#/openapi/x"}), SCHEMA, "leads nowhere", id="ref-through-a-text"),
        pytest.param(
            one({"$ref": REF + "A"}, {"A": {"$ref": REF + "A"}}), SCHEMA, "leads back to itself", id="ref-to-itself"
        ),
        pytest.param(
            one({"$ref": REF + "A"}, {"A": {"$ref": REF + "B"}, "B": {"$ref": REF + "A"}}),
            SCHEMA,
            "leads back to itself",
            id="refs-in-a-circle",
        ),
        pytest.param(
            one({"properties": {"a/b": {"items": {"$ref": "#/x"}}}}),
            SCHEMA + "/properties/a~1b/items",
            "leads nowhere",
            id="ref-deep-inside",
        ),
        pytest.param(
            openapi({"/a": {"post": named("op", requestBody={"$ref": "#/x"})}}),
            "/paths/~1a/post/requestBody",
            "leads nowhere",
            id="ref-of-a-body",
        ),
        pytest.param(
            one({"properties": {"A": {"x-accepted-names": "B"}}}),
            SCHEMA + "/properties/A/x-accepted-names",
            "must be a list of names",
            id="accepted-names-in-a-text",
        ),
        pytest.param(
            one({"properties": {"A": {"x-accepted-names": ["B", 1]}}}),
            SCHEMA + "/properties/A/x-accepted-names",
            "must be a list of names",
            id="accepted-name-that-is-a-number",
        ),
        pytest.param(
            one({"properties": {"A": {}, "B": {"x-accepted-names": ["A"]}}}),
            SCHEMA + "/properties/B",
            "'A' belongs to another parameter",
            id="accepted-name-of-another",
        ),
        pytest.param(
            one({"properties": {"A": {"x-accepted-names": ["B"]}, "B": {}}}),
            SCHEMA + "/properties/B",
            "'B' belongs to another parameter",
            id="name-accepted-for-another",
        ),
        pytest.param(
            one({"properties": {"A": {"enum": 5}}}), SCHEMA + "/properties/A/enum", "must be a list", id="enum-of-5"
        ),
        pytest.param(
            one({"properties": {"A": {"enum": "B"}}}), SCHEMA + "/properties/A/enum", "must be a list", id="enum-text"
        ),
    ],
)  # fmt: skip
def test_problem_is_told_with_its_place(content: object, pointer: str, message: str) -> None:
    [(document, place, told)] = problems(content)
    assert (document, place) == ("1.yaml", pointer)
    assert message in told


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        pytest.param("/a/{id}", "/a/{name}", "second claims the route of first in 1.yaml", id="other-parameter-name"),
        pytest.param("/a/b", "/A/B", "second claims the route of first in 1.yaml", id="letter-case"),
        pytest.param("/a/b", "/a//b/", "second claims the route of first in 1.yaml", id="slashes"),
        pytest.param("/api/a", "/api/v1.0/a", "second claims the route of first in 1.yaml", id="version"),
    ],
)
def test_route_is_claimed_once(first: str, second: str, message: str) -> None:
    told = problems(openapi({first: {"get": named("first")}}), openapi({second: {"get": named("second")}}))
    assert told == [("2.yaml", "/paths" + "/" + second.replace("/", "~1") + "/get", message)]


def test_route_is_claimed_once_within_a_document() -> None:
    told = problems(openapi({"/a/{b}": {"get": named("first")}, "/a/{c}": {"get": named("second")}}))
    assert told == [("1.yaml", "/paths/~1a~1{c}/get", "second claims the route of first in 1.yaml")]


def test_name_is_taken_once() -> None:
    told = problems(openapi({"/a": {"get": named("op")}}), openapi({"/b": {"get": named("op")}}))
    assert told == [("2.yaml", "/paths/~1b/get", "operationId 'op' is taken; choose another")]


def test_every_problem_of_every_document_is_told() -> None:
    told = problems(
        None,
        openapi({"a": {}, "/b": {"get": {}, "post": with_body({"$ref": "x"}, "other")}}),
        openapi({"/c": {"get": named("op")}}),
        openapi({"/c": {"get": named("op")}}),
    )
    assert [(document, pointer) for document, pointer, _ in told] == [
        ("1.yaml", ""),
        ("2.yaml", "/paths/a"),
        ("2.yaml", "/paths/~1b/get"),
        ("2.yaml", "/paths/~1b/post/requestBody/content/application~1json/schema"),
        ("4.yaml", "/paths/~1c/get"),
    ]


@pytest.mark.parametrize(
    ("problem", "line"),
    [
        pytest.param(CatalogProblem("a.yaml", "/paths", "is wrong"), "a.yaml: /paths: is wrong", id="place"),
        pytest.param(CatalogProblem("a.yaml", "", "is wrong"), "a.yaml: /: is wrong", id="whole-document"),
    ],
)
def test_problem_is_one_line(problem: CatalogProblem, line: str) -> None:
    assert str(problem) == line


SCRAPS = st.recursive(
    st.none() | st.booleans() | st.integers(0, 5) | st.sampled_from(["", "3.1.0", "A", "#/paths", "#/paths/~1a"]),
    lambda scraps: (
        st.lists(scraps, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["properties", "items", "enum", "required", "$ref", "x-accepted-names", "application/json", "schema"]
            ),
            scraps,
            max_size=4,
        )
    ),
    max_leaves=15,
)


@given(
    st.one_of(
        SCRAPS,
        SCRAPS.map(openapi),
        st.dictionaries(st.just("/a"), SCRAPS).map(openapi),
        SCRAPS.map(lambda scrap: openapi({"/a": {"post": named("op", requestBody=scrap)}})),
        SCRAPS.map(lambda scrap: openapi({"/a": {"post": named("op", requestBody={"content": scrap})}})),
        SCRAPS.map(one),
        SCRAPS.map(lambda scrap: one({"properties": scrap})),
        st.dictionaries(st.sampled_from("AB"), SCRAPS).map(lambda scraps: one({"$ref": REF + "A"}, scraps)),
    )
)
def test_any_document_is_compiled_or_reported(content: object) -> None:
    with contextlib.suppress(CatalogError):
        compiled(content)


@pytest.mark.parametrize(
    ("media_type", "is_json"),
    [
        pytest.param("application/json", True, id="json"),
        pytest.param("APPLICATION/Json", True, id="letter-case"),
        pytest.param(" application/json ; charset=utf-8", True, id="parameter"),
        pytest.param("text/json", True, id="text-json"),
        pytest.param("application/problem+json", True, id="problem"),
        pytest.param("application/vnd.x.v1+JSON;a=b", True, id="vendor"),
        pytest.param("text/plain", False, id="text"),
        pytest.param("application/jsonx", False, id="longer-name"),
        pytest.param("application/json+xml", False, id="other-suffix"),
        pytest.param("x/y+json", False, id="other-tree"),
        pytest.param("text/html; x=application/json", False, id="json-in-a-parameter"),
        pytest.param("", False, id="empty"),
    ],
)
def test_json_media_types(*, media_type: str, is_json: bool) -> None:
    assert is_json_media_type(media_type) is is_json
