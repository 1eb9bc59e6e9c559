"""What a service's own document says that the catalog does not: one difference at a time."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.core.compare import Comparison, Difference, Finding, compare

STRING = {"type": "string"}


def openapi(paths: dict[str, Any], schemas: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"openapi": "3.1.0", "paths": paths, "components": {"schemas": schemas or {}}, **more}


def json_of(schema: Any) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": schema}}}


def action(schema: Any, name: str = "brew", schemas: dict[str, Any] | None = None) -> dict[str, Any]:
    return openapi({"/api/brews": {"post": {"operationId": name, "requestBody": json_of(schema)}}}, schemas)


def read(schema: Any, schemas: dict[str, Any] | None = None, name: str = "listBrews") -> dict[str, Any]:
    return openapi({"/api/brews": {"get": {"operationId": name, "responses": {"200": json_of(schema)}}}}, schemas)


def ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def objects(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": [*required], "properties": properties}


def listed(schema: Any) -> dict[str, Any]:
    return objects(value={"type": "array", "items": schema})


def in_bodies(service: Any, catalog: Any, schemas: dict[str, Any] | None = None) -> list[tuple[str, str, Any, Any]]:
    """Return the differences of two bodies as (kind, name, service, catalog)."""
    comparison = compare([action(catalog, schemas=schemas)], action(service, "Brews_Brew", schemas))
    assert comparison.operations == 1
    assert {finding.place for finding in comparison.findings} <= {"brew"}
    return [(str(found.kind), found.name, found.service, found.catalog) for found in comparison.findings]


def in_answers(service: Any, catalog: Any) -> list[tuple[str, str, str, Any]]:
    """Return the differences of two answers, with the entity `Brew`, as (kind, place, name, service)."""
    ours = read(listed(ref("Brew")), {"Brew": service, "Cup": objects(size=STRING), "Bean": objects(kind=STRING)})
    comparison = compare([read(catalog)], ours)
    return [(str(found.kind), found.place, found.name, found.service) for found in comparison.findings]


def test_a_document_does_not_differ_from_itself() -> None:
    document = action(objects(("a",), a=STRING, b={"type": "array", "items": objects(c={"enum": ["X", "Y"]})}))

    comparison = compare([document], document)

    assert not comparison
    assert comparison == Comparison(1, 0, ())


@pytest.mark.parametrize(
    ("service", "catalog", "expected"),
    [
        pytest.param(
            objects(a=STRING, b={"type": ["boolean", "null"]}),
            objects(a=STRING),
            [("parameter", "b", ("boolean", "null"), ())],
            id="parameter-with-its-types",
        ),
        pytest.param(
            objects(b={"type": "string", "enum": ["X", "Y"]}),
            objects(),
            [("parameter", "b", ("X", "Y"), ())],
            id="parameter-with-its-values",
        ),
        pytest.param(objects(), objects(a=STRING), [], id="what-the-catalog-knows-beyond-is-none"),
        pytest.param(
            objects(a=objects(b=STRING)), objects(a=objects()), [("parameter", "a.b", ("string",), ())], id="nested"
        ),
        pytest.param(
            objects(a={"type": "array", "items": objects(b=STRING)}),
            objects(a={"type": "array", "items": objects()}),
            [("parameter", "a[].b", ("string",), ())],
            id="in-an-array",
        ),
        pytest.param(
            objects(Comment=STRING),
            objects(comment=STRING),
            [("spelling", "Comment", ("Comment",), ("comment",))],
            id="case",
        ),
        pytest.param(
            objects(Comment=STRING),
            objects(comment=STRING | {"x-accepted-names": ["Comment"]}),
            [("spelling", "Comment", ("Comment",), ("comment", "Comment"))],
            id="accepted-but-not-proposed",
        ),
        pytest.param(
            objects(GroupIds=STRING),
            objects(rbacIds=STRING | {"x-accepted-names": ["GroupIds"]}),
            [("spelling", "GroupIds", ("GroupIds",), ("rbacIds", "GroupIds"))],
            id="accepted-and-quite-different",
        ),
        pytest.param(
            objects(a={"enum": ["X", "Y", "Z"]}),
            objects(a={"enum": ["Y"]}),
            [("value", "a", ("X", "Z"), ("Y",))],
            id="values",
        ),
        pytest.param(objects(a={"enum": ["X"]}), objects(a=STRING), [("value", "a", ("X",), ())], id="values-at-all"),
        pytest.param(objects(a={"enum": ["X"]}), objects(a={"enum": ["X", "Y"]}), [], id="values-beyond-are-none"),
        pytest.param(
            objects(a={"enum": ["Ip", "Url"]}),
            objects(a={"enum": ["IP", "Url"]}),
            [("spelling", "a", ("Ip",), ("IP",))],
            id="case-of-a-value",
        ),
        pytest.param(
            objects(a={"type": "integer"}), objects(a=STRING), [("type", "a", ("integer",), ("string",))], id="type"
        ),
        pytest.param(objects(a={"type": "integer"}), objects(a={"type": "number"}), [], id="integers-are-numbers"),
        pytest.param(
            objects(a={"type": "number"}),
            objects(a={"type": "integer"}),
            [("type", "a", ("number",), ("integer",))],
            id="numbers-are-not-integers",
        ),
        pytest.param(objects(a=STRING), objects(a={"type": ["array", "string"]}), [], id="one-type-of-two"),
        pytest.param(objects(a={}), objects(a=STRING), [], id="type-unknown-to-the-service"),
        pytest.param(objects(a=STRING), objects(a={}), [], id="type-unknown-to-the-catalog"),
        pytest.param(
            objects(a={"type": "array", "items": STRING}),
            objects(a=STRING),
            [("type", "a", ("array",), ("string",))],
            id="array-for-one",
        ),
        pytest.param(
            objects(("a",), a=STRING),
            objects(a=STRING),
            [("required", "a", ("required",), ("not required",))],
            id="required-by-the-service",
        ),
        pytest.param(
            objects(a=STRING),
            objects(("a",), a=STRING),
            [("required", "a", ("may be null or left out",), ("required",))],
            id="required-by-the-catalog",
        ),
        pytest.param(
            objects(a={"type": "array", "items": STRING}),
            objects(("a",), a={"type": "array", "items": STRING}),
            [],
            id="of-a-collection-metadata-does-not-say-it",
        ),
        pytest.param(
            objects(a=objects(b=STRING)),
            objects(a=objects(("b",), b=STRING)),
            [],
            id="of-a-property-metadata-does-not-say-it",
        ),
        pytest.param(objects(a=STRING | {"x-navigation": True}), objects(), [], id="navigation-in-a-body"),
        pytest.param(objects(), {}, [], id="no-body-in-the-catalog"),
    ],
)
def test_bodies(service: Any, catalog: Any, expected: list[Any]) -> None:
    assert in_bodies(service, catalog) == expected


@pytest.mark.parametrize("keyword", ["allOf", "anyOf", "oneOf"])
def test_the_branches_of_a_schema_count_as_one(keyword: str) -> None:
    branched = {keyword: [objects(a=STRING), ref("Other")]}

    assert in_bodies(objects(a=STRING, b=STRING), branched, {"Other": objects(b=STRING)}) == []
    assert in_bodies(branched, objects(a=STRING), {"Other": objects(b=STRING)}) == [("parameter", "b", ("string",), ())]


def test_of_alternatives_none_is_required() -> None:
    one = objects(("a",), a=STRING)

    assert in_bodies(objects(a=STRING), {"anyOf": [one, objects()]}) == []
    assert [kind for kind, *_ in in_bodies(objects(a=STRING), {"allOf": [one, objects()]})] == ["required"]


def test_schemas_that_refer_to_themselves_come_to_an_end() -> None:
    step = {"Step": objects(then=ref("Step"), tool=STRING), "Old": objects(then=ref("Old"))}

    assert in_bodies(objects(step=ref("Step")), objects(step=ref("Old")), step) == [
        ("parameter", "step.tool", ("string",), ())
    ]
    assert in_bodies(objects(step=ref("Step")), objects(step=ref("Nowhere")), step) == [
        ("parameter", "step.then", ("object",), ()),
        ("parameter", "step.tool", ("string",), ()),
    ]
    circle = {"A": ref("B"), "B": ref("A")}
    assert in_bodies(objects(a=STRING), ref("A"), circle) == [("parameter", "a", ("string",), ())]


@pytest.mark.parametrize(
    ("service", "catalog", "expected"),
    [
        pytest.param(objects(id=STRING), listed(objects(id=STRING)), [], id="same"),
        pytest.param(objects(id=STRING), objects(id=STRING), [], id="one-without-the-wrapper"),
        pytest.param(
            objects(id=STRING, cup=STRING, at=STRING),
            listed(objects(id=STRING)),
            [("property", "Brew", "", ("cup", "at"))],
            id="properties-in-one-finding",
        ),
        pytest.param(objects(id=STRING), {}, [("property", "Brew", "", ("id",))], id="undescribed"),
        pytest.param(
            objects(id=STRING, bean=ref("Bean") | {"x-navigation": True}),
            listed(objects(id=STRING)),
            [("navigation", "Brew", "", ("bean",))],
            id="navigation-by-itself",
        ),
        pytest.param(objects(id=STRING, x=STRING | {"x-derived": True}), listed(objects(id=STRING)), [], id="derived"),
        pytest.param(
            objects(dnsName=STRING),
            listed(objects(DNSName=STRING)),
            [("spelling", "Brew", "dnsName", ("dnsName",))],
            id="case",
        ),
        pytest.param(
            objects(a={"type": "integer", "enum": []}),
            listed(objects(a=STRING)),
            [("type", "Brew", "a", ("integer",))],
            id="type",
        ),
        pytest.param(
            objects(a={"enum": ["X"]}), listed(objects(a={"enum": []})), [("value", "Brew", "a", ("X",))], id="value"
        ),
        pytest.param(
            objects(cups={"type": "array", "items": ref("Cup")}),
            listed(objects(cups={"type": "array", "items": objects(colour=STRING)})),
            [("property", "Cup", "", ("size",))],
            id="what-hangs-on-it",
        ),
        pytest.param(objects(("id",), id=STRING), listed(objects(id=STRING)), [], id="required-says-nothing-of-reads"),
    ],
)
def test_answers(service: Any, catalog: Any, expected: list[Any]) -> None:
    assert in_answers(service, catalog) == expected


def test_what_one_operation_of_the_catalog_knows_of_a_type_all_know() -> None:
    def document(first: Any, second: Any, schemas: dict[str, Any] | None = None) -> dict[str, Any]:
        return openapi(
            {
                "/a": {"get": {"operationId": "a", "responses": {"200": json_of(first)}}},
                "/b": {"get": {"operationId": "b", "responses": {"200": json_of(second)}}},
            },
            schemas,
        )

    ours = document(ref("Brew"), listed(ref("Brew")), {"Brew": objects(id=STRING, cup=STRING, at=STRING)})

    comparison = compare([document(objects(id=STRING), listed(objects(cup=STRING)))], ours)

    assert comparison == Comparison(2, 1, (Finding(Difference.PROPERTY, "Brew", "", ("at",), ("id", "cup")),))


def test_operations_that_the_catalog_lacks_are_told_with_their_parameters() -> None:
    ours = openapi(
        {
            "/api/Brews/{id}/Sip": {"post": {"operationId": "S", "requestBody": json_of(objects(b=STRING, a=STRING))}},
            "/api/Brews": {"get": {"operationId": "L"}, "parameters": []},
        }
    )

    assert compare([], ours) == Comparison(
        0,
        0,
        (
            Finding(Difference.ACTION, "POST /api/Brews/{id}/Sip", "", ("b", "a")),
            Finding(Difference.READ, "GET /api/Brews", "", ()),
        ),
    )


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({"servers": [{"url": "https://bar.example/api"}, {"url": "https://bar.example"}]}, id="document"),
        pytest.param({"servers": [{"url": "/{version}/api"}, {"url": "/api/"}]}, id="path-without-a-host"),
    ],
)
def test_the_base_paths_of_servers_count(more: dict[str, Any]) -> None:
    catalog = openapi({"/BREWS": {"get": {"operationId": "listBrews"}}}, **more)

    assert compare([catalog], openapi({"/api/brews": {"get": {"operationId": "L"}}})).operations == 1


def test_the_order_is_that_of_kinds_then_of_places() -> None:
    ours = openapi(
        {
            f"/{name}": {
                "post": {"operationId": name, "requestBody": json_of(objects(B={"enum": ["X"]}, A=STRING, n=STRING))}
            }
            for name in ("y", "x")
        }
    )
    ours["paths"]["/z"] = {"get": {"operationId": "z"}}
    theirs = openapi(
        {
            f"/{name}": {"post": {"operationId": name, "requestBody": json_of(objects(b={"enum": ["x"]}, a=STRING))}}
            for name in ("x", "y")
        }
    )

    found = [
        (str(finding.kind), finding.place, finding.name, finding.service)
        for finding in compare([theirs], ours).findings
    ]

    assert found == [
        ("read", "GET /z", "", ()),
        ("parameter", "x", "n", ("string",)),
        ("parameter", "y", "n", ("string",)),
        ("spelling", "x", "A", ("A",)),
        ("spelling", "x", "B", ("B",)),
        ("spelling", "x", "B", ("X",)),
        ("spelling", "y", "A", ("A",)),
        ("spelling", "y", "B", ("B",)),
        ("spelling", "y", "B", ("X",)),
    ]
