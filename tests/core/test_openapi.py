from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.catalog import METHODS, SEGMENTS_AT_MOST, UNKNOWN, Catalog, CatalogError, Document
from proxy.core.openapi import compile_catalog

if TYPE_CHECKING:
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


def test_an_operation_has_the_further_paths_that_it_lists() -> None:
    described = {"operationId": "brew", "x-alternate-paths": ["/coffee/{id}", "/brews/{id}"]}
    catalog = compiled({"openapi": "3.1.0", "servers": [{"url": "/v1"}], "paths": {"/brews/{id}": {"get": described}}})

    assert [operation.template for operation in catalog.operations] == ["/v1/brews/{id}"]
    assert {catalog.match("GET", f"/v1/{path}/7").name for path in ("brews", "coffee")} == {"brew"}


@pytest.mark.parametrize("further", ["/coffee", [5], ["coffee"], ["/coffee?hot"], ["/c" * 101], [None]])
def test_further_paths_are_a_list_of_paths(further: object) -> None:
    described = {"operationId": "brew", "x-alternate-paths": further}

    [(_, place, told)] = problems({"openapi": "3.1.0", "paths": {"/brews": {"get": described}}})

    assert place == "/paths/~1brews/get/x-alternate-paths"
    assert told.startswith("must be a list of paths")


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
        pytest.param(named("op", requestBody={"content": {"application/json": {}}}), id="no-schema-object"),
        pytest.param(with_body({"additionalProperties": {"type": "string"}}), id="map"),
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
    assert list(shape.parameters) == ["Comment", "Type", "ids", "List", "machineIds"]
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
A = "/components/schemas/A"
NAME = "/paths/~1a/get/operationId"
BODY = "/paths/~1a/post/requestBody"


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
        pytest.param({"swagger": "2.0", "paths": {}}, "/swagger", "convert it to OpenAPI 3.0", id="openapi-2"),
        pytest.param({"openapi": "2.0", "paths": {}}, "/openapi", "'2.0' is not supported", id="openapi-2-renamed"),
        pytest.param({"openapi": "4.0.0", "paths": {}}, "/openapi", "write 3.1.0", id="openapi-4"),
        pytest.param({"openapi": "3.10.0", "paths": {}}, "/openapi", "is not supported", id="openapi-3.10"),
        pytest.param({"openapi": 3.1, "paths": {}}, "/openapi", "in quotes", id="version-as-a-number"),
        pytest.param({"openapi": 3.0, "paths": {}}, "/openapi", '"3.0.3"', id="3.0-as-a-number"),
        pytest.param({"openapi": 2.0, "paths": {}}, "/openapi", "2.0 is not supported", id="2.0-as-a-number"),
        pytest.param({"openapi": None, "paths": {}}, "/openapi", "is not supported", id="no-version"),
        pytest.param({"openapi": [[]], "paths": {}}, "/openapi", "this version is not", id="version-in-a-list"),
        pytest.param(openapi({"a": {}}), "/paths/a", "must start with a slash", id="path-without-a-slash"),
        pytest.param(openapi({"/a/{b}": None}), "/paths/~1a~1{b}", "hold a mapping", id="empty-path"),
        pytest.param(openapi({"/a": []}), "/paths/~1a", "hold a mapping", id="list-of-operations"),
        pytest.param(openapi({"/a": {"get": None}}), "/paths/~1a/get", "must be a mapping", id="no-operation"),
        pytest.param(openapi({"/a": {"get": {"operationId": 7}}}), NAME, "must be a text", id="number-name"),
        pytest.param(openapi({"/a": {"get": {"operationId": []}}}), NAME, "must be a text", id="list-name"),
        pytest.param(openapi({"/a": {"get": named("a\nb")}}), NAME, "of one line", id="name-of-two-lines"),
        pytest.param(openapi({"/a": {"get": named("a" * 257)}}), NAME, "256 characters", id="long-name"),
        pytest.param(
            openapi({"/a" * 101: {"get": named("op")}}), "/paths/" + "~1a" * 101, "100 segments at most", id="long-path"
        ),
        pytest.param(
            openapi({"/a": {"get": named("op", **{"x-filterable": "x"})}}),
            "/paths/~1a/get/x-filterable",
            "must be a list of names",
            id="filterable-in-a-text",
        ),
        pytest.param(
            openapi({"/a": {"get": named("op", **{"x-ms-pageable": 1})}}),
            "/paths/~1a/get/x-ms-pageable",
            "",
            id="pageable-that-is-a-number",
        ),
        pytest.param(
            openapi({"/a": {"$ref": "#/paths/~1a"}}), "/paths/~1a", "leads back to itself", id="path-that-is-itself"
        ),
        pytest.param(
            openapi({"/a": {"get": named("unknown")}}), "/paths/~1a/get", "'unknown' is taken", id="name-that-is-ours"
        ),
        pytest.param(one({"$ref": "b.yaml#/x"}), SCHEMA, "'b.yaml#/x' leads nowhere: the file", id="ref-to-no-file"),
        pytest.param(one({"$ref": "https://x.test/"}), SCHEMA, "points to the network", id="ref-to-a-host"),
        pytest.param(one({"$ref": "//x.test/a"}), SCHEMA, "points to the network", id="ref-to-a-host-by-slashes"),
        pytest.param(one({"$ref": "urn:x"}), SCHEMA, "points to the network", id="ref-to-a-name"),
        pytest.param(one({"$ref": "file:///etc/a"}), SCHEMA, "points to the network", id="ref-by-scheme"),
        pytest.param(one({"$ref": "../b.yaml"}), SCHEMA, "leaves the folder", id="ref-out-of-the-folder"),
        pytest.param(one({"$ref": "a/../../b.yaml"}), SCHEMA, "leaves the folder", id="ref-out-by-a-detour"),
        pytest.param(one({"$ref": "%2E%2E/b.yaml"}), SCHEMA, "leaves the folder", id="ref-out-by-encoding"),
        pytest.param(one({"$ref": "..\\b.yaml"}), SCHEMA, "leaves the folder", id="ref-out-by-backslash"),
        pytest.param(one({"$ref": "/etc/b.yaml"}), SCHEMA, "leaves the folder", id="ref-to-the-root"),
        pytest.param(one({"$ref": "C:/b.yaml"}), SCHEMA, "leaves the folder", id="ref-to-a-drive"),
        pytest.param(one({"$ref": "."}), SCHEMA, "leaves the folder", id="ref-to-the-folder"),
        pytest.param(one({"$ref": "#Name"}), SCHEMA, "names an anchor", id="ref-to-an-anchor"),
        pytest.param(one({"$ref": "#/paths/~1a/post/tags/0"}), SCHEMA, "leads nowhere", id="ref-into-no-list"),
        pytest.param(one({"$ref": REF + "No"}), SCHEMA, "schemas/No' leads nowhere", id="ref-to-nothing"),
        pytest.param(one({"$ref": "#/openapi/x"}), SCHEMA, "leads nowhere", id="ref-through-a-text"),
        pytest.param(
            one({"$ref": REF + "A"}, {"A": {"$ref": REF + "A"}}), A, "leads back to itself", id="ref-to-itself"
        ),
        pytest.param(
            one({"$ref": REF + "A"}, {"A": {"$ref": REF + "B"}, "B": {"$ref": REF + "A"}}),
            A,
            "leads back to itself",
            id="refs-in-a-circle",
        ),
        pytest.param(
            one({"$ref": REF + "A"}, {"A": {"allOf": [{"$ref": REF + "A"}]}}), A, "of itself", id="part-of-itself"
        ),
        pytest.param(
            one({"$ref": REF + "A"}, {"A": {"oneOf": [{"$ref": REF + "A"}, {}]}}), A, "of itself", id="one-of-itself"
        ),
        pytest.param(
            one({"$ref": REF + "A"}, {"A": {"$ref": REF + "A", "type": "object"}}), A, "of itself", id="ref-and-more"
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
            "'A' belongs to 'A' too",
            id="accepted-name-of-another",
        ),
        pytest.param(
            one({"properties": {"A": {"x-accepted-names": ["B"]}, "B": {}}}),
            SCHEMA + "/properties/B",
            "'B' belongs to 'A' too",
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
        pytest.param("/a/{id}", "/a/{name}", "of first (GET /a/{id}) in 1.yaml; take", id="other-parameter-name"),
        pytest.param("/a/b", "/A/B", "of first (GET /a/b) in 1.yaml; take", id="letter-case"),
        pytest.param("/a/b", "/a//b/", "of first (GET /a/b) in 1.yaml; take", id="slashes"),
        pytest.param("/api/a", "/api/v1.0/a", "of first (GET /api/a) in 1.yaml; take", id="version"),
        pytest.param("/api/v1/a", "/api/a", "of first (GET /api/v1/a) in 1.yaml; take", id="version-first"),
        pytest.param("/a/f(x={x},y={y})", "/a/f(y={b},x='{a}')", "of first (GET /a/f(x={x},y={y}))", id="function"),
        pytest.param("/a/{b}.json", "/a/{c}.JSON", "of first (GET /a/{b}.json) in 1.yaml; take", id="mixed"),
    ],
)
def test_route_is_claimed_once(first: str, second: str, message: str) -> None:
    told = problems(openapi({first: {"get": named("first")}}), openapi({second: {"get": named("second")}}))
    [(document, pointer, reason)] = told
    assert (document, pointer) == ("2.yaml", "/paths" + "/" + second.replace("/", "~1") + "/get")
    assert reason.startswith("second claims the route of first (")
    assert message in reason


def test_route_is_claimed_once_within_a_document() -> None:
    told = problems(openapi({"/a/{b}": {"get": named("first")}, "/a/{c}": {"get": named("second")}}))
    [(document, pointer, reason)] = told
    assert (document, pointer) == ("1.yaml", "/paths/~1a~1{c}/get")
    assert reason.startswith("second claims the route of first (GET /a/{b}); take one")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param({"/api/v1/a": "one"}, {"/api/v2/a": "two"}, id="two-versions-in-two-documents"),
        pytest.param({"/api/v1/a": "one", "/api/a": "two"}, {}, id="version-and-none-in-one-document"),
        pytest.param({"/a/{id}": "one", "/a/{id}.json": "two", "/a/f(x={x})": "three"}, {}, id="unlike-segments"),
    ],
)
def test_routes_that_differ_are_claimed_apart(first: dict[str, str], second: dict[str, str]) -> None:
    paths = [{path: {"get": named(name)} for path, name in document.items()} for document in (first, second)]
    catalog = compiled(*map(openapi, paths))
    for path, name in (first | second).items():
        assert catalog.match("GET", path.replace("{id}", "7").replace("{x}", "7")).name == name


def test_name_is_taken_once() -> None:
    again = {"/b": {"get": named("op")}, "/c": {"post": named("two")}, "/d": {"get": named("two")}}
    assert problems(openapi({"/a": {"get": named("op")}}), openapi(again)) == [
        ("2.yaml", "/paths/~1b/get", "operationId 'op' is taken by GET /a in 1.yaml; choose another"),
        ("2.yaml", "/paths/~1d/get", "operationId 'two' is taken by POST /c; choose another"),
    ]


def test_every_problem_of_every_document_is_told() -> None:
    told = problems(
        None,
        openapi({"a": {}, "/b": {"get": None, "post": with_body({"$ref": "x"}, "other")}}),
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


def posted(**more: object) -> dict[str, Any]:
    return openapi({"/a": {"post": named("op", **more)}})


def read(response: object) -> dict[str, Any]:
    return openapi({"/a": {"get": named("op", responses={"200": response})}})


@pytest.mark.parametrize(
    ("content", "pointer", "message"),
    [
        pytest.param(posted(requestBody=[1]), BODY, "must be a mapping", id="body-in-a-list"),
        pytest.param(posted(requestBody="x"), BODY, "must be a mapping", id="body-in-a-text"),
        pytest.param(posted(requestBody={"$ref": 5}), BODY + "/$ref", "must be a text", id="reference"),
        pytest.param(posted(requestBody={"schema": {}}), BODY + "/schema", "belongs below `content`", id="no-content"),
        pytest.param(
            posted(requestBody={"content": []}), BODY + "/content", "must be a mapping", id="content-in-a-list"
        ),
        pytest.param(
            posted(requestBody={"content": "x"}), BODY + "/content", "must be a mapping", id="content-in-a-text"
        ),
        pytest.param(
            posted(requestBody={"content": {"schema": {}}}),
            BODY + "/content/schema",
            "a media type",
            id="no-media-type",
        ),
        pytest.param(
            posted(requestBody={"content": {"application/json": [1]}}),
            BODY + "/content/application~1json",
            "must be a mapping",
            id="media-type-in-a-list",
        ),
        pytest.param(one("Foo"), SCHEMA, "must be a mapping", id="schema-in-a-text"),
        pytest.param(one([{}]), SCHEMA, "must be a mapping", id="schema-in-a-list"),
        pytest.param(one({"$ref": 5}), SCHEMA + "/$ref", "must be a text", id="reference-of-a-schema"),
        pytest.param(one({"allOf": {}}), SCHEMA + "/allOf", "must be a list", id="all-of-a-mapping"),
        pytest.param(one({"oneOf": "x"}), SCHEMA + "/oneOf", "must be a list", id="one-of-a-text"),
        pytest.param(one({"anyOf": ["x"]}), SCHEMA + "/anyOf/0", "must be a mapping", id="any-of-texts"),
        pytest.param(
            one({"properties": ["A"]}), SCHEMA + "/properties", "must be a mapping", id="properties-in-a-list"
        ),
        pytest.param(
            one({"properties": {"A": "string"}}), SCHEMA + "/properties/A", "must be a mapping", id="property-in-a-text"
        ),
        pytest.param(one({"items": "x"}), SCHEMA + "/items", "must be a mapping", id="items-in-a-text"),
        pytest.param(one({"required": "A"}), SCHEMA + "/required", "must be a list", id="required-text"),
        pytest.param(one({"required": [1]}), SCHEMA + "/required", "a list of names", id="required-number"),
        pytest.param(
            one({"dependentSchemas": []}), SCHEMA + "/dependentSchemas", "must be a mapping", id="schemas-in-a-list"
        ),
        pytest.param(posted(responses=5), "/paths/~1a/post/responses", "must be a mapping", id="responses"),
        pytest.param(read(5), "/paths/~1a/get/responses/200", "must be a mapping", id="response"),
        pytest.param(
            read({"content": []}), "/paths/~1a/get/responses/200/content", "must be a mapping", id="response-in-a-list"
        ),
        pytest.param(posted(**{"x-doc": 5}), "/paths/~1a/post/x-doc", "must be a text", id="doc"),
        pytest.param(posted(deprecated="no"), "/paths/~1a/post/deprecated", "must be true or false", id="deprecated"),
        pytest.param(
            posted(**{"x-case-sensitive": "false"}), "/paths/~1a/post/x-case-sensitive", "without quotes", id="case"
        ),
        pytest.param(
            posted() | {"x-case-sensitive": "false"}, "/x-case-sensitive", "without quotes", id="case-of-a-document"
        ),
        pytest.param(posted() | {"servers": "/v1"}, "/servers", "must be a list", id="servers-in-a-text"),
        pytest.param(posted() | {"servers": ["/v1"]}, "/servers/0", "must be a mapping", id="server-in-a-text"),
        pytest.param(posted() | {"servers": [{"url": 5}]}, "/servers/0/url", "must be a text", id="server-of-5"),
        pytest.param(posted(servers={"url": "/v1"}), "/paths/~1a/post/servers", "must be a list", id="own-servers"),
        pytest.param(
            openapi({"/a": {"servers": 5, "post": {}}}), "/paths/~1a/servers", "must be a list", id="servers-of-a-path"
        ),
        pytest.param(posted() | {"servers": [{"url": "/{v"}]}, "/servers/0/url", "no partner", id="brace-of-a-server"),
        pytest.param(
            posted() | {"servers": [{"url": "/\n"}]}, "/servers/0/url", "cannot be seen", id="lines-of-a-server"
        ),
        pytest.param(openapi({"/q/{id": {}}), "/paths/~1q~1{id", "no partner", id="opening-brace"),
        pytest.param(openapi({"/q/id}": {}}), "/paths/~1q~1id}", "no partner", id="closing-brace"),
        pytest.param(openapi({"/{a/b}": {}}), "/paths/~1{a~1b}", "in its segment", id="braces-around-a-slash"),
        pytest.param(openapi({"/a\n": {"post": {}}}), "/paths/~1a\n", "cannot be seen", id="path-of-two-lines"),
        pytest.param(openapi({"/\x1b[31m": {"post": {}}}), "/paths/~1\x1b[31m", "cannot be seen", id="path-in-colour"),
        pytest.param(openapi({"/a": {"pots": {}}}), "/paths/~1a/pots", "neither a method", id="misspelt-method"),
    ],
)
def test_what_would_change_the_check_unseen_is_refused(content: object, pointer: str, message: str) -> None:
    with pytest.raises(CatalogError) as caught:
        compiled(content)
    [problem] = caught.value.problems
    assert problem.pointer == pointer
    assert message in problem.message
    assert all("there is nothing to compare with" not in note.message for note in caught.value.notes)
    assert all("the body is no JSON" not in note.message for note in caught.value.notes)


def test_reference_to_nothing_is_told_alone() -> None:
    for content in (one({"$ref": "#/x"}), posted(requestBody={"content": {"application/json": {"$ref": "#/x"}}})):
        with pytest.raises(CatalogError) as caught:
            compiled(content)
        assert len(caught.value.problems) == 1
        assert caught.value.notes == ()


def test_what_a_path_holds_beside_operations_is_no_fault() -> None:
    more: dict[str, Any] = {"summary": "", "description": "", "parameters": [], "servers": [], "trace": {}, "x-a": 5}
    assert [operation.name for operation in compiled(openapi({"/a": {**more, "get": named("op")}})).operations] == [
        "op"
    ]


def test_true_as_required_is_noted() -> None:
    [note] = compiled(one({"properties": {"A": {"properties": {}, "required": True}}})).notes
    assert note.pointer == SCHEMA + "/properties/A/required"
    assert "list the names" in note.message


def test_operation_without_a_name_is_called_by_method_and_path() -> None:
    content = openapi({"/a/{b}": {"get": {}, "post": {"operationId": ""}}, "/c": {"get": named("getC")}})
    catalog = compiled(content | {"servers": [{"url": "https://x.test/base"}]})
    assert [operation.name for operation in catalog.operations] == ["GET /base/a/{b}", "POST /base/a/{b}", "getC"]
    [note] = catalog.notes
    assert (note.document, note.pointer) == ("1.yaml", "/paths/~1a~1{b}/get")
    assert note.message == "no `operationId` in 2 operations: named by method and path, such as 'GET /base/a/{b}'"


def test_paths_that_no_request_has_are_left_out() -> None:
    catalog = compiled(openapi({"/#a=b": {"get": named("one")}, "/a?b={c}": {"get": named("two")}, "x-more": 1}))
    assert catalog.operations == ()
    [note] = catalog.notes
    assert (note.pointer, note.message.split(":")[0]) == (
        "/paths/~1#a=b/get", "a query or fragment belongs to the path of 2 operations, such as '/#a=b'"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("operation", "pointer", "message"),
    [
        pytest.param(
            with_body({}, media_type="multipart/form-data"),
            "/requestBody/content",
            "the body is no JSON (multipart/form-data): it is not checked",
            id="body-of-another-type",
        ),
        pytest.param(
            with_body({"type": "object"}),
            "/requestBody/content/application~1json/schema",
            "the body names no properties: there is nothing to compare with",
            id="no-properties",
        ),
        pytest.param(
            named("op", requestBody={"content": {"application/json": None}}),
            "/requestBody/content/application~1json",
            "the body names no properties: there is nothing to compare with",
            id="no-media-type-object",
        ),
        pytest.param(
            with_body({"properties": {"a": {"properties": {"b": {}}, "additionalProperties": True}}}),
            "/requestBody/content/application~1json/schema/properties/a",
            "an open object (additionalProperties): names in it are never refused, as they may be anything",
            id="open-object",
        ),
    ],
)
def test_what_cannot_be_checked_is_noted(operation: dict[str, Any], pointer: str, message: str) -> None:
    [note] = compiled(openapi({"/a": {"post": operation}})).notes
    assert (note.document, note.pointer, note.message) == ("1.yaml", "/paths/~1a/post" + pointer, message)


def test_what_can_be_checked_is_not_noted() -> None:
    entity = {"responses": {"200": {"content": {"application/json": {"schema": {"properties": {"b": {}}, **OPEN}}}}}}
    closed = {"properties": {"a": {"additionalProperties": {"type": "string"}}}, "additionalProperties": False}
    assert compiled(openapi({"/a": {"post": with_body(closed), "get": named("get", **entity)}})).notes == ()


OPEN: dict[str, Any] = {"additionalProperties": True}


@pytest.mark.parametrize(
    ("types", "names"),
    [
        pytest.param(["application/json; charset=utf-8"], {"A0"}, id="parameter"),
        pytest.param(["*/*"], {"A0"}, id="any-range"),
        pytest.param(["application/*"], {"A0"}, id="range"),
        pytest.param(["application/*+json"], {"A0"}, id="range-of-json"),
        pytest.param(["text/plain", "application/json"], {"A1"}, id="json-beside-another"),
        pytest.param(["*/*", "application/json"], {"A1"}, id="json-beside-a-range"),
        pytest.param(["application/json", "application/merge-patch+json"], {"A0", "A1"}, id="two-kinds-of-json"),
        pytest.param(["text/*"], set(), id="range-of-text"),
    ],
)
def test_media_types_that_may_be_json_are_read(types: list[str], names: set[str]) -> None:
    content: dict[str, Any] = {key: {"schema": {"properties": {f"A{number}": {}}}} for number, key in enumerate(types)}
    [operation] = compiled(openapi({"/a": {"post": named("op", requestBody={"content": content})}})).operations
    assert set(operation.body.parameters if operation.body else ()) == names


@pytest.mark.parametrize(
    ("servers", "template", "targets"),
    [
        pytest.param([{"url": "https://x.test"}], "/a", ["/a"], id="host"),
        pytest.param([{"url": "https://x.test/"}], "/a", ["/a"], id="host-and-slash"),
        pytest.param([{"url": "/"}], "/a", ["/a"], id="slash"),
        pytest.param([{"url": "https://x.test/base/v4/"}], "/base/v4/a", ["/base/v4/a", "/BASE/v4/a"], id="path"),
        pytest.param([{"url": "//x.test/base"}], "/base/a", ["/base/a"], id="without-a-scheme"),
        pytest.param([{"url": "/base"}], "/base/a", ["/base/a"], id="without-a-host"),
        pytest.param([{"url": "base"}], "/base/a", ["/base/a"], id="relative"),
        pytest.param([{"url": "https://x.test/base?q=1#f"}], "/base/a", ["/base/a"], id="query-and-fragment"),
        pytest.param(
            [{"url": "https://x.test/one"}, {"url": "https://y.test/two"}],
            "/one/a",
            ["/one/a", "/two/a"],
            id="two-paths",
        ),
        pytest.param([{"url": "https://x.test/b"}, {"url": "https://y.test/b"}], "/b/a", ["/b/a"], id="two-hosts"),
        pytest.param([{"url": "https://{host}.test/b"}], "/b/a", ["/b/a"], id="variable-in-the-host"),
        pytest.param([{"url": "{protocol}://{host}/b"}], "/b/a", ["/b/a"], id="variable-for-the-scheme"),
        pytest.param([{"url": "https://x.test/{stage}"}], "/{stage}/a", ["/v1/a", "/test/a"], id="variable"),
        pytest.param(
            [{"url": "https://x.test/{base}", "variables": {"base": {"default": "api/v2"}}}],
            "/{base}/{base}/a",
            ["/api/v2/a", "/x/y/a"],
            id="variable-of-two-segments",
        ),
        pytest.param(
            [{"url": "https://x.test/{base}", "variables": {"base": {"default": ""}}}],
            "/a",
            ["/a"],
            id="empty-variable",
        ),
        pytest.param(
            [{"url": "{server}/b", "variables": {"server": {"default": "https://x.test/top"}}}],
            "/top/b/a",
            ["/top/b/a"],
            id="variable-for-a-url",
        ),
        pytest.param(
            [{"url": "https://x.test/v{version}"}], "/v{version}/a", ["/v1/a", "/v2.0/a"], id="part-of-a-segment"
        ),
        pytest.param([], "/a", ["/a"], id="none"),
        pytest.param([{}], "/a", ["/a"], id="no-url"),
        pytest.param([{"url": "/", "variables": 7}], "/a", ["/a"], id="no-variables"),
    ],
)
def test_operations_are_found_below_the_paths_of_their_servers(
    servers: list[Any], template: str, targets: list[str]
) -> None:
    catalog = compiled(openapi({"/a": {"get": named("op")}}, servers=servers))
    assert [operation.template for operation in catalog.operations] == [template]
    assert {catalog.match("GET", target).name for target in targets} == {"op"}
    assert catalog.match("GET", "/x/y/z/a") is UNKNOWN


@pytest.mark.parametrize(
    ("item", "operation", "target"),
    [
        pytest.param({}, {}, "/document/a", id="document"),
        pytest.param({"servers": [{"url": "/item"}]}, {}, "/item/a", id="item"),
        pytest.param(
            {"servers": [{"url": "/item"}]}, {"servers": [{"url": "/operation"}]}, "/operation/a", id="operation"
        ),
        pytest.param({"servers": []}, {"servers": []}, "/document/a", id="empty-lists"),
    ],
)
def test_the_nearest_servers_count(item: dict[str, Any], operation: dict[str, Any], target: str) -> None:
    paths = {"/a": {"get": named("op", **operation), **item}}
    catalog = compiled(openapi(paths, servers=[{"url": "/document"}]))
    assert [
        found for found in ("/document/a", "/item/a", "/operation/a") if catalog.match("GET", found).name == "op"
    ] == [target]


def test_same_route_below_different_servers_is_no_claim() -> None:
    first = openapi({"/a": {"get": {}}}, servers=[{"url": "/one"}])
    catalog = compiled(first, first | {"servers": [{"url": "/two"}]})
    assert [operation.name for operation in catalog.operations] == ["GET /one/a", "GET /two/a"]


def test_operation_is_told_with_all_that_is_documented() -> None:
    entity = {"properties": {"id": {"type": "string", "x-source": ["metadata", "table"]}, "n": {"type": "integer"}}}
    content = openapi(
        {
            "/a": {
                "get": named(
                    "op",
                    deprecated=True,
                    responses={"200": {"$ref": "#/components/responses/A"}},
                    **{"x-filterable": ["id", "n"]},
                )
            }
        },
        components={"responses": {"A": {"content": {"application/json": {"schema": entity}}}}},
    )
    [operation] = compiled(content).operations
    assert (operation.deprecated, operation.filterable) == (True, ("id", "n"))
    assert operation.entity is not None
    assert operation.entity.parameters["id"].sources == ("metadata", "table")
    assert operation.entity.parameters["n"].shape.types == {"integer"}
    assert compiled(content).names == {"id", "n"}


ENTITY: dict[str, Any] = {"properties": {"id": {}}}


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param(ENTITY, id="itself"),
        pytest.param({"items": ENTITY}, id="array"),
        pytest.param({"properties": {"value": {"items": ENTITY}}}, id="odata-wrapper"),
        pytest.param(
            {"properties": {"@odata.context": {}, "value": {"items": ENTITY}, "@odata.nextLink": {}}},
            id="with-annotations",
        ),
        pytest.param(
            {"allOf": [{"properties": {"@odata.count": {}}}, {"properties": {"value": {"items": ENTITY}}}]}, id="all"
        ),
        pytest.param({"anyOf": [ENTITY, {"type": "null"}]}, id="nothing-instead"),
    ],
)
@pytest.mark.parametrize("status", ["200", 200, "2XX"])
def test_entity_is_found(schema: dict[str, Any], status: str | int) -> None:
    responses = {"404": {}, status: {"content": {"application/json;odata.metadata=minimal": {"schema": schema}}}}
    [operation] = compiled(openapi({"/a": {"get": named("op", responses=responses)}})).operations
    assert operation.entity is not None
    assert set(operation.entity.parameters) == {"id"}
    assert operation.entity.array_levels == 0


@pytest.mark.parametrize(
    ("method", "responses", "names"),
    [
        pytest.param("get", None, None, id="no-responses"),
        pytest.param("get", {"200": {"description": "none"}}, None, id="no-content"),
        pytest.param("get", {"200": {"content": {"text/csv": {"schema": ENTITY}}}}, None, id="no-json"),
        pytest.param("get", {"200": {"content": {"application/json": {"schema": {}}}}}, None, id="no-names"),
        pytest.param("get", {"404": {"content": {"application/json": {"schema": ENTITY}}}}, None, id="error"),
        pytest.param("post", {"200": {"content": {"application/json": {"schema": ENTITY}}}}, None, id="no-read"),
        pytest.param(
            "get",
            {
                "200": {
                    "content": {"application/json": {"schema": {"properties": {"value": {"items": ENTITY}, "id": {}}}}}
                }
            },
            {"value", "id"},
            id="entity-with-values-of-its-own",
        ),
        pytest.param(
            "get",
            {"200": {"content": {"application/json": {"schema": {"properties": {"value": ENTITY}}}}}},
            {"value"},
            id="value-that-is-no-array",
        ),
    ],
)
def test_entity_is_what_a_read_returns(method: str, responses: Any, names: set[str] | None) -> None:
    [operation] = compiled(openapi({"/a": {method: named("op", responses=responses)}})).operations
    assert (set(operation.entity.parameters) if operation.entity else None) == names


def answering(schema: object, media_type: str = "application/json") -> dict[str, Any]:
    return {"200": {"content": {media_type: {"schema": schema}}}}


@pytest.mark.parametrize(
    ("described", "pages"),
    [
        pytest.param({"responses": answering({"properties": {"value": {"items": ENTITY}}})}, True, id="collection"),
        pytest.param({"responses": answering({"properties": {"value": {"type": "array"}}})}, True, id="any-elements"),
        pytest.param(
            {"responses": answering({"properties": {"items": {"type": "array"}, "@odata.nextLink": {}}})},
            True,
            id="link",
        ),
        pytest.param({"responses": answering({"properties": {"id": {}, "a@odata.nextLink": {}}})}, True, id="expanded"),
        pytest.param({}, False, id="no-responses"),
        pytest.param({"responses": answering({})}, False, id="no-schema"),
        pytest.param({"responses": answering(ENTITY)}, False, id="entity"),
        pytest.param({"responses": answering({"properties": {"value": {"type": "string"}}})}, False, id="text-value"),
        pytest.param({"responses": answering({"items": ENTITY})}, False, id="array"),
        pytest.param({"responses": answering(ENTITY), "x-ms-pageable": {"nextLinkName": "next"}}, True, id="pageable"),
        pytest.param({"responses": answering(ENTITY), "x-ms-pageable": {}}, True, id="pageable-by-default"),
        pytest.param(
            {
                "responses": answering({"properties": {"value": {"items": ENTITY}}}),
                "x-ms-pageable": {"nextLinkName": None},
            },
            False,
            id="one-page",
        ),
    ],
)
def test_which_operations_page(described: dict[str, Any], pages: bool) -> None:  # noqa: FBT001 - a row's expectation
    read, written = compiled(
        openapi({"/a": {"get": named("r", **described), "post": named("w", **described)}})
    ).operations
    assert (read.pages, written.pages) == (pages, False)
    assert not UNKNOWN.pages


def test_path_items_may_be_references() -> None:
    catalog = compiled(
        openapi(
            {"/a": {"$ref": "#/x-items/A", "get": named("own")}, "/b/{c}": {"$ref": "#/x-items/B"}},
            **{"x-items": {"A": {"get": named("overridden"), "post": named("taken")}, "B": {"put": named("other")}}},
        )
    )
    assert {(o.name, o.method, o.template) for o in catalog.operations} == {
        ("own", "GET", "/a"), ("taken", "POST", "/a"), ("other", "PUT", "/b/{c}")
    }  # fmt: skip


def test_references_lead_through_the_files_of_the_folder() -> None:
    files = {
        "paths/a.yaml": {"post": with_body({"$ref": "../schemas.json#/A"}, "op")},
        "schemas.json": {"A": {"properties": {"b": {"$ref": "#/B"}, "c": {"$ref": "deep/c.yaml"}}}, "B": {"enum": 5}},
        "deep/c.yaml": {"properties": {"d": {"$ref": "../api.yaml#/components/schemas/D"}, "e": {"$ref": "e.yaml"}}},
        "api.yaml": (content := openapi({"/a": {"$ref": "paths/a.yaml"}}, components={"schemas": {"D": {"enum": 7}}})),
    }
    unread = {"deep/e.yaml": "cannot be read: it is too dark"}
    with pytest.raises(CatalogError) as caught:
        compile_catalog([Document("folder/api.yaml", content, files, unread)])
    assert sorted(str(caught.value).splitlines()) == [
        "folder/api.yaml: /components/schemas/D/enum: must be a list of values",
        "folder/deep/c.yaml: /properties/e: $ref 'e.yaml' leads nowhere: cannot be read: it is too dark",
        "folder/schemas.json: /B/enum: must be a list of values",
    ]


@pytest.mark.parametrize(("version", "names"), [("3.0.3", {"a"}), ("3.1.0", {"a", "b"})])
def test_what_stands_beside_a_reference_counts_since_3_1(version: str, names: set[str]) -> None:
    content = one({"$ref": REF + "A", "properties": {"b": {}}}, {"A": {"properties": {"a": {}}}})
    [operation] = compiled(content | {"openapi": version}).operations
    assert operation.body is not None
    assert set(operation.body.parameters) == names


def test_path_may_have_as_many_segments_as_that() -> None:
    path = "/a" * SEGMENTS_AT_MOST
    assert compiled(openapi({path: {"get": named("op")}})).match("GET", path).name == "op"


@pytest.mark.parametrize("count", [2_000])
def test_many_operations_may_share_one_body(count: int) -> None:
    body: dict[str, Any] = {
        "content": {f"application/x{number}+json": {"schema": {"properties": {"a": {}}}} for number in range(count)}
    }
    catalog = compiled(
        openapi({f"/a{number}": {"post": named(str(number), requestBody=body)} for number in range(count)})
    )
    assert len(catalog.operations) == count


SCRAPS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(0, 5)
    | st.sampled_from(["", "3.1.0", "A", "#/paths", "#/paths/~1a", REF + "A", REF + "B", "object"]),
    lambda scraps: (
        st.lists(scraps, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *(
                        "properties",
                        "items",
                        "enum",
                        "required",
                        "$ref",
                        "x-accepted-names",
                        "application/json",
                        "schema",
                    ),
                    *("allOf", "oneOf", "anyOf", "additionalProperties", "type", "const", "discriminator", "mapping"),
                    *(
                        "then",
                        "dependentSchemas",
                        "prefixItems",
                        "patternProperties",
                        "nullable",
                        "x-source",
                        "content",
                    ),
                ]
            ),
            scraps,
            max_size=4,
        )
    ),
    max_leaves=20,
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
        SCRAPS.map(lambda scrap: openapi({"/a": scrap, "/b": {"get": scrap}}, servers=scrap)),
        SCRAPS.map(lambda scrap: openapi({"/a": {"get": named("op", responses={"200": scrap}, servers=scrap)}})),
        st.dictionaries(st.sampled_from("AB"), SCRAPS).map(lambda scraps: one({"$ref": REF + "A"}, scraps)),
    )
)
def test_any_document_is_compiled_or_reported(content: object) -> None:
    with contextlib.suppress(CatalogError):
        compiled(content)
