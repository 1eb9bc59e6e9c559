from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.catalog import Document
from proxy.core.references import ROOT, References
from proxy.core.schemas import Schemas, TooManyNamesError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.core.casing import Shape

Schema = dict[str, Any]


def ref(name: str) -> Schema:
    return {"$ref": f"#/{name}"}


def shape_of(schema: Schema, **schemas: Any) -> Shape:
    """Return the shape of `schema`; `schemas` can be referred to."""
    shape, problems = read(schema, **schemas)
    assert problems == []
    return shape


def read(schema: Schema, **schemas: Any) -> tuple[Shape, list[str]]:
    """Return the shape of `schema` and what is reported."""
    references = References(Document("test", schemas))
    shape = Schemas(references, siblings=True).shape([(schema, ROOT.below("body"))])
    return shape, [str(problem) for problem in references.problems]


def names(shape: Shape) -> dict[str, bool]:
    """Return the names of `shape`, and whether each is required."""
    return {name: parameter.required for name, parameter in shape.parameters.items()}


def props(*keys: str, required: tuple[str, ...] = (), **more: Any) -> Schema:
    return {"properties": {key: {} for key in keys}, "required": list(required), **more}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        pytest.param({"allOf": [props("a"), props("b")]}, {"a": False, "b": False}, id="all-names"),
        pytest.param(
            {"allOf": [props("a", required=("a",)), props("b")], "required": ["b"]},
            {"a": True, "b": True},
            id="all-required",
        ),
        pytest.param({"allOf": [props("a"), {"required": ["a"]}]}, {"a": True}, id="required-elsewhere"),
        pytest.param({"oneOf": [props("a"), props("b")]}, {"a": False, "b": False}, id="one-names"),
        pytest.param(
            {"oneOf": [props("a", "b", required=("a", "b")), props("a", "c", required=("a",))]},
            {"a": True, "b": False, "c": False},
            id="one-required-in-all",
        ),
        pytest.param(
            {"anyOf": [props("a", required=("a",)), {"type": "string"}, {"type": "null"}]},
            {"a": True},
            id="no-object-requires-nothing",
        ),
        pytest.param({"anyOf": [props("a", required=("a",)), {}]}, {"a": False}, id="anything-requires-nothing"),
        pytest.param(
            {**props("a", "b"), "anyOf": [{"required": ["a"]}, {"required": ["b"]}]},
            {"a": False, "b": False},
            id="one-of-two-is-required",
        ),
        pytest.param(
            {**props("a", "b"), "anyOf": [{"required": ["a"]}, {"required": ["a", "b"]}]},
            {"a": True, "b": False},
            id="required-either-way",
        ),
        pytest.param(
            {"allOf": [{"oneOf": [props("a"), props("b")]}, props("c", required=("c",))]},
            {"c": True, "a": False, "b": False},
            id="one-within-all",
        ),
        pytest.param(
            {"oneOf": [{"allOf": [props("a", required=("a",)), props("b")]}, props("a", required=("a",))]},
            {"a": True, "b": False},
            id="all-within-one",
        ),
        pytest.param(
            {**props("a"), "if": props("x"), "then": props("b", required=("b",)), "else": props("c")},
            {"a": False, "b": False, "c": False},
            id="then-and-else",
        ),
        pytest.param(
            {**props("a"), "dependentSchemas": {"a": props("b", required=("b",))}},
            {"a": False, "b": False},
            id="dependent",
        ),
        pytest.param({**props("a"), "not": props("b")}, {"a": False}, id="not"),
        pytest.param({"allOf": [ref("A"), ref("B")]}, {"a": False, "b": False}, id="references"),
        pytest.param({**ref("A"), **props("c")}, {"c": False, "a": False}, id="beside-a-reference"),
        pytest.param({"allOf": [], "oneOf": None, "properties": None, "required": None}, {}, id="nothing"),
        pytest.param({"allOf": [True, None, props("a")]}, {"a": False}, id="no-schemas"),
        pytest.param(
            {"properties": {"a": True, "b": None, "c": False}, "required": ["a"]},
            {"a": True, "b": False, "c": False},
            id="no-schemas-below",
        ),
    ],
)
def test_names_of_all_that_a_schema_refers_to_are_known(schema: Schema, expected: dict[str, bool]) -> None:
    assert names(shape_of(schema, A=props("a"), B=props("b"))) == expected


@pytest.mark.parametrize(
    ("schema", "values"),
    [
        pytest.param({"enum": ["a", "b", 1]}, {"a", "b"}, id="enum"),
        pytest.param({"const": "a"}, {"a"}, id="const"),
        pytest.param({"oneOf": [{"const": "a"}, {"const": "b"}]}, {"a", "b"}, id="one-of-constants"),
        pytest.param({"anyOf": [{"enum": ["a"]}, {"enum": ["b"]}]}, {"a", "b"}, id="any-enum"),
        pytest.param({"anyOf": [{"enum": ["a"]}, {"type": "string"}]}, set(), id="any-string"),
        pytest.param({"anyOf": [{"enum": ["a"]}, {}]}, set(), id="anything"),
        pytest.param({"anyOf": [{"enum": ["a"]}, {"type": ["string", "null"]}]}, set(), id="string-or-null"),
        pytest.param({"anyOf": [{"enum": ["a"]}, {"type": "null"}]}, {"a"}, id="or-null"),
        pytest.param({"anyOf": [{"enum": ["a"]}, {"type": "integer"}]}, {"a"}, id="or-number"),
        pytest.param({"anyOf": [{"enum": ["a"]}, props("x")]}, {"a"}, id="or-object"),
        pytest.param({"allOf": [{"type": "string"}, {"enum": ["a"]}]}, {"a"}, id="all-string"),
        pytest.param({"allOf": [{"enum": ["a", "b"]}, {"enum": ["b", "c"]}]}, {"b"}, id="all-enums"),
        pytest.param({"allOf": [{"enum": ["a", "b"]}], "nullable": True}, {"a", "b"}, id="nullable"),
        pytest.param({"type": "string", "enum": ["a"], "anyOf": [{"pattern": "a"}, {}]}, {"a"}, id="enum-and-pattern"),
        pytest.param({"items": {"enum": ["a"]}}, {"a"}, id="array"),
        pytest.param({"items": {"anyOf": [{"enum": ["a"]}, {"type": "string"}]}}, set(), id="array-of-strings"),
        pytest.param({"anyOf": [{"enum": ["a"]}, {"items": {"enum": ["b"]}}]}, {"a", "b"}, id="one-or-many"),
        pytest.param({"anyOf": [{"type": "string"}, {"items": {"enum": ["b"]}}]}, set(), id="any-string-or-many"),
        pytest.param({"prefixItems": [{"enum": ["a"]}, {"enum": ["b"]}]}, {"a", "b"}, id="tuple"),
        pytest.param({"items": [{"enum": ["a"]}, {"enum": ["b"]}]}, {"a", "b"}, id="tuple-of-old"),
        pytest.param({"prefixItems": [{"type": "string"}], "items": {"enum": ["b"]}}, set(), id="tuple-and-rest"),
        pytest.param({"type": "integer", "enum": [1]}, set(), id="numbers"),
    ],
)
def test_values_are_those_that_no_branch_leaves_free(schema: Schema, values: set[str]) -> None:
    assert shape_of(schema).values == values
    assert shape_of(props("x") | {"properties": {"p": schema}}).parameters["p"].shape.values == values


def test_of_values_the_order_of_the_document_counts() -> None:
    assert shape_of({"oneOf": [{"enum": ["IpAddress"]}, {"enum": ["ipAddress"]}]}).value_by_fold == {
        "ipaddress": "IpAddress"
    }


@pytest.mark.parametrize(
    ("schema", "types"),
    [
        pytest.param({"type": "string"}, {"string"}, id="one"),
        pytest.param({"type": ["string", "null"]}, {"string", "null"}, id="list"),
        pytest.param({"type": "string", "nullable": True}, {"string", "null"}, id="nullable"),
        pytest.param({}, set(), id="unknown"),
        pytest.param({"type": "text"}, set(), id="no-type"),
        pytest.param({"type": {}}, set(), id="no-name"),
        pytest.param(props("a"), {"object"}, id="properties"),
        pytest.param({"items": {"type": "string"}}, {"array"}, id="items"),
        pytest.param({"type": "array", "items": props("a")}, {"array"}, id="array-with-names"),
        pytest.param(
            {"enum": ["a", 1, None, True, [], {}]},
            {"string", "number", "null", "boolean", "array", "object"},
            id="enum",
        ),
        pytest.param({"anyOf": [{"type": "string"}, {"type": "integer"}]}, {"string", "integer"}, id="any"),
        pytest.param({"anyOf": [{"type": "string"}, {}]}, set(), id="any-unknown"),
        pytest.param({"allOf": [{"type": ["string", "null"]}, {"type": "string"}]}, {"string"}, id="all"),
        pytest.param(
            {"allOf": [{"type": "integer"}, {"type": "number"}]}, {"integer"}, id="all-that-exclude-each-other"
        ),
        pytest.param({"allOf": [{"description": "x"}, {"type": "string"}]}, {"string"}, id="all-unknown"),
    ],
)
def test_types(schema: Schema, types: set[str]) -> None:
    assert shape_of(schema).types == types


@pytest.mark.parametrize(
    ("schema", "is_open"),
    [
        pytest.param(props("a"), False, id="by-default"),
        pytest.param(props("a", additionalProperties=False), False, id="closed"),
        pytest.param(props("a", additionalProperties=None), False, id="null"),
        pytest.param(props("a", additionalProperties=True), True, id="open"),
        pytest.param(props("a", additionalProperties={}), True, id="of-anything"),
        pytest.param(props("a", additionalProperties={"type": "string"}), True, id="of-strings"),
        pytest.param(props("a", unevaluatedProperties=True), True, id="unevaluated"),
        pytest.param(props("a", patternProperties={"^x": {}}), True, id="by-pattern"),
        pytest.param({"allOf": [props("a"), {"additionalProperties": True}]}, True, id="part"),
        pytest.param({"oneOf": [props("a"), props("b", additionalProperties=True)]}, True, id="alternative"),
        pytest.param({"oneOf": [props("a"), {"type": "object"}]}, True, id="any-object-instead"),
        pytest.param(
            {"oneOf": [props("a"), {"type": "object", "additionalProperties": False}]}, False, id="empty-object-instead"
        ),
        pytest.param({"oneOf": [props("a"), {"type": "object", "required": ["a"]}]}, False, id="requirement-instead"),
        pytest.param(
            {**props("a"), "oneOf": [{"type": "object"}, {"type": "object"}]}, False, id="alternatives-without-names"
        ),
        pytest.param({"oneOf": [props("a"), {}]}, False, id="anything-instead"),
    ],
)
def test_an_object_is_open(*, schema: Schema, is_open: bool) -> None:
    assert shape_of(schema).is_open is is_open


def test_the_values_of_a_map_have_a_shape() -> None:
    shape = shape_of(
        {"additionalProperties": props("a"), "patternProperties": {"x": props("b"), "y": {"type": "string"}}}
    )
    [below] = shape.others
    assert set(below.parameters) == {"a", "b"}
    assert shape


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param({"additionalProperties": {"type": "string"}}, id="strings"),
        pytest.param({"additionalProperties": {"items": {"type": "string"}}}, id="arrays"),
        pytest.param({"additionalProperties": True}, id="anything"),
    ],
)
def test_a_map_of_what_has_no_names_is_nothing_to_look_into(schema: Schema) -> None:
    assert not shape_of(schema)
    assert shape_of(schema).others == () or not list(shape_of(schema).others)


def test_a_map_may_hold_itself() -> None:
    shape = shape_of(ref("A"), A={"additionalProperties": ref("A"), "properties": {"a": {}}})
    assert shape.others[0] is shape


def test_a_name_in_several_branches_has_the_names_of_all() -> None:
    shape = shape_of({"oneOf": [{"properties": {"x": props("a", required=("a",))}}, {"properties": {"x": props("b")}}]})
    assert names(shape.parameters["x"].shape) == {"a": False, "b": False}
    shape = shape_of({"allOf": [{"properties": {"x": props("a", required=("a",))}}, {"properties": {"x": props("b")}}]})
    assert names(shape.parameters["x"].shape) == {"a": True, "b": False}


def test_accepted_names_and_sources_of_all_branches_count() -> None:
    first = {"x-accepted-names": ["B"], "x-source": "metadata"}
    second = {"x-accepted-names": ["C", "B"], "x-source": ["table", "prose"]}
    shape = shape_of({"oneOf": [{"properties": {"b": first}}, {"properties": {"b": second}}]})
    assert [*shape.parameters["b"].accepted] == ["B", "C"]
    assert shape.parameters["b"].sources == ("metadata", "table", "prose")
    assert shape.parameters["C"] is shape.parameters["B"] is shape.parameters["b"]


def test_what_one_branch_calls_a_further_spelling_may_be_a_name_in_another() -> None:
    shape = shape_of({"oneOf": [{"properties": {"b": {"x-accepted-names": ["B"]}}}, props("B")]})
    assert shape.parameters["B"].name == "B"
    assert "b" not in shape.by_fold


PET = {
    "Pet": {**props("kind", required=("kind",)), "oneOf": [ref("Dog"), ref("Cat")]},
    "Dog": {"allOf": [ref("Pet"), props("bark", required=("bark",))]},
    "Cat": {"allOf": [ref("Pet"), props("mew")]},
}


def test_a_hierarchy_leads_down_but_not_back_up_and_down() -> None:
    assert names(shape_of(ref("Pet"), **PET)) == {"kind": True, "bark": False, "mew": False}
    assert names(shape_of(ref("Dog"), **PET)) == {"kind": True, "bark": True}
    assert names(shape_of({"oneOf": [ref("Dog"), ref("Pet")]}, **PET)) == {"kind": True, "bark": False, "mew": False}


def test_a_hierarchy_of_three_levels() -> None:
    schemas = {
        "Thing": {
            **props("id"),
            "discriminator": {"mapping": {"user": "#/User", "group": "#/Group", "thing": "#/Thing"}},
        },
        "User": {"allOf": [ref("Thing"), props("name")], "oneOf": [ref("Guest"), {}]},
        "Guest": {"allOf": [ref("User"), props("host")]},
        "Group": {"allOf": [ref("Thing"), props("members", required=("members",))]},
    }
    assert set(names(shape_of(ref("Thing"), **schemas))) == {"id", "name", "host", "members"}
    assert set(names(shape_of(ref("User"), **schemas))) == {"id", "name", "host"}
    assert set(names(shape_of(ref("Guest"), **schemas))) == {"id", "name", "host"}
    assert names(shape_of(ref("Group"), **schemas)) == {"id": False, "members": True}
    assert not shape_of(ref("Thing"), **schemas).parameters["members"].required


@pytest.mark.parametrize(
    "mapping",
    [
        pytest.param({"dog": "#/components/schemas/Dog"}, id="reference"),
        pytest.param({"dog": "Dog"}, id="name"),
    ],
)
def test_a_discriminator_adds_the_names_of_its_kinds(mapping: dict[str, Any]) -> None:
    dog = {"allOf": [{"$ref": "#/components/schemas/Pet"}, props("bark", required=("bark",))]}
    pet = props("kind", required=("kind",)) | {"discriminator": {"mapping": mapping}}
    shape = shape_of({"$ref": "#/components/schemas/Pet"}, components={"schemas": {"Pet": pet, "Dog": dog}})
    assert names(shape) == {"kind": True, "bark": False}


def test_a_discriminator_without_a_mapping_means_all_that_extend_the_schema() -> None:
    def extending(name: str, *keys: str) -> Schema:
        return {"allOf": [{"$ref": f"#/components/schemas/{name}"}, props(*keys)]}

    schemas = {
        "Pet": props("kind", "Comment", required=("kind",)) | {"discriminator": {"propertyName": "kind"}},
        "Dog": extending("Pet", "bark"),
        "Puppy": extending("Dog", "comment"),
        "Stone": props("weight") | {"allOf": [7, {"$ref": 7}, {"$ref": "#/no"}]},
        "Sand": True,
        "Dust": {"allOf": 7},
    }
    shape = shape_of({"$ref": "#/components/schemas/Pet"}, components={"schemas": schemas})
    assert names(shape) == {"kind": True, "Comment": False, "bark": False, "comment": False}
    shape = shape_of({"$ref": "#/components/schemas/Dog"}, components={"schemas": schemas})
    assert names(shape) == {"kind": True, "Comment": False, "bark": False}


@pytest.mark.parametrize(
    "discriminator", [7, {}, {"mapping": 7}, {"mapping": {"a": 7, "b": "#/no", "c": "No", "d": "https://x.test/"}}]
)
def test_a_discriminator_is_a_hint(discriminator: Any) -> None:
    assert names(shape_of(props("a") | {"discriminator": discriminator})) == {"a": False}


def test_arrays_nest_without_end_where_they_hold_themselves() -> None:
    shape = shape_of(ref("A"), A={"anyOf": [props("a"), {"items": ref("A")}]})
    assert set(shape.parameters) == {"a"}
    assert shape.array_levels >= 1_000


@pytest.mark.parametrize(
    ("schemas", "place"),
    [
        pytest.param({"A": {"allOf": [ref("B")]}, "B": {"allOf": [ref("A")]}}, "/A", id="parts"),
        pytest.param({"A": {"oneOf": [ref("B"), {}]}, "B": {"anyOf": [ref("A")]}}, "/A", id="choices"),
        pytest.param({"A": ref("A")}, "/A", id="reference"),
        pytest.param({"A": ref("B"), "B": ref("C"), "C": ref("B")}, "/B", id="references"),
        pytest.param({"A": {**ref("A"), "type": "object"}}, "/A", id="reference-and-more"),
    ],
)
def test_a_circle_of_one_kind_is_reported(schemas: dict[str, Any], place: str) -> None:
    _, [told] = read({"properties": {"x": ref("A")}}, **schemas)
    assert told.startswith(f"test: {place}: ")


# Alternatives that double from level to level, deep chains and large circles: the work has to stay in proportion.


def doubled(keyword: str, last: Schema, count: int = 40) -> dict[str, Schema]:
    levels = {f"L{n}": {keyword: [ref(f"L{n + 1}"), ref(f"L{n + 1}")]} for n in range(count)}
    return levels | {f"L{count}": last}


@pytest.mark.parametrize("keyword", ["allOf", "anyOf", "oneOf"])
def test_doubling_alternatives_cost_no_more_than_they_hold(keyword: str) -> None:
    assert set(shape_of(ref("L0"), **doubled(keyword, props("a"))).parameters) == {"a"}


def test_doubling_properties_cost_no_more_than_they_hold() -> None:
    levels = {f"L{n}": {"properties": {"a": ref(f"L{n + 1}"), "b": ref(f"L{n + 1}")}} for n in range(40)}
    shape = shape_of(ref("L0"), **levels, L40=props("end"))
    for _ in range(40):
        shape = shape.parameters["b"].shape
    assert set(shape.parameters) == {"end"}


def test_doubling_alternatives_that_lead_back_are_settled() -> None:
    last = {"allOf": [ref("L0"), props("a")]}
    shape, problems = read(ref("L0"), **doubled("anyOf", last))
    assert problems == []
    assert set(shape.parameters) == {"a"}


@pytest.mark.parametrize("key", ["allOf", "oneOf", "items", "$ref", "additionalProperties"])
def test_a_chain_of_any_length_is_followed(key: str) -> None:
    count = 20_000

    def link(number: int) -> Schema:
        following = ref(f"L{number + 1}")
        return following if key == "$ref" else {key: [following] if key.endswith("Of") else following}

    shape = shape_of(ref("L0"), **{f"L{n}": link(n) for n in range(count)}, **{f"L{count}": props("a")})
    if key == "additionalProperties":
        for _ in range(count):
            [shape] = shape.others
    assert set(shape.parameters) == {"a"}
    assert shape.array_levels == (count if key == "items" else 0)


def test_a_large_circle_is_settled() -> None:
    count = 3_000
    kinds = {f"K{n}": {"allOf": [ref("Base"), props(f"n{n}")]} for n in range(count)}
    base = {**props("id"), "oneOf": [ref(name) for name in kinds]}
    shape = shape_of({"properties": {name: ref(name) for name in ("Base", *kinds)}}, Base=base, **kinds)
    assert len(shape.parameters["Base"].shape.parameters) == count + 1
    assert set(shape.parameters["K7"].shape.parameters) == {"id", "n7"}


def test_combinations_without_end_are_refused() -> None:
    # A name may lead on or stay: after n names, any subset of the levels is possible.
    levels = {f"L{n}": {"properties": {"a": ref(f"L{n + 1}"), "b": ref(f"L{n + 1}")}} for n in range(40)}
    stays = {"anyOf": [{"properties": {"a": ref("S"), "b": ref("S")}}, {"properties": {"a": ref("L0")}}]}
    with pytest.raises(TooManyNamesError):
        read(ref("S"), S=stays, **levels)


# An independent reading of composed schemas: names by walking every branch anew.

SCALARS: st.SearchStrategy[Schema] = st.sampled_from([{}, {"type": "string"}, {"enum": ["a"]}, {"type": "null"}])


def composed(below: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    several = st.lists(below, min_size=1, max_size=3)
    return st.fixed_dictionaries(
        {},
        optional={
            "properties": st.dictionaries(st.sampled_from("abc"), below, min_size=1, max_size=2),
            "required": st.lists(st.sampled_from("abc"), max_size=2),
            "allOf": several,
            "oneOf": several,
            "anyOf": several,
            "items": below,
        },
    )


SCHEMAS = st.recursive(SCALARS, composed, max_leaves=20)


def branches(schema: Schema) -> Iterator[Schema]:
    """Yield `schema` and every schema that may hold in its place."""
    yield schema
    for key in ("allOf", "oneOf", "anyOf"):
        for branch in schema.get(key, ()):
            yield from branches(branch)
    if "items" in schema:
        yield from branches(schema["items"])


def paths(schemas: list[Schema]) -> set[tuple[str, ...]]:
    """Return every way by names that any of `schemas` documents."""
    below: dict[str, list[Schema]] = {}
    for schema in schemas:
        for branch in branches(schema):
            for name, content in branch.get("properties", {}).items():
                below.setdefault(name, []).append(content)
    return {(name,) for name in below} | {(name, *path) for name in below for path in paths(below[name])}


def paths_of(shape: Shape) -> set[tuple[str, ...]]:
    found = {(name,) for name in shape.parameters}
    return found | {(name, *path) for name, below in shape.parameters.items() for path in paths_of(below.shape)}


@given(SCHEMAS)
def test_a_name_known_to_any_branch_is_known(schema: Schema) -> None:
    assert paths_of(shape_of(schema)) == paths([schema])


def enumerated(schema: Schema) -> set[str] | None:
    """Return the enumerated texts of `schema`, which has no arrays; None for any text."""
    if schema.get("type") == "null" or "properties" in schema:
        own: set[str] | None = set()
    else:
        own = set(schema["enum"]) if "enum" in schema else None
    for branch in schema.get("allOf", ()):
        own = both(own, enumerated(branch))
    for key in ("oneOf", "anyOf"):
        if key in schema:
            several = [enumerated(branch) for branch in schema[key]]
            own = both(own, None if None in several else {text for texts in several for text in texts or ()})
    return own


def both(one: set[str] | None, other: set[str] | None) -> set[str] | None:
    return other if one is None else one if other is None else one & other


TEXTS: st.SearchStrategy[Schema] = st.one_of(
    SCALARS, st.lists(st.sampled_from("abcd"), min_size=1, unique=True).map(lambda texts: {"enum": texts})
)
CHOICES = st.recursive(
    TEXTS,
    lambda below: st.fixed_dictionaries(
        {}, optional={key: st.lists(below, min_size=1, max_size=3) for key in ("allOf", "oneOf", "anyOf")}
    ),
    max_leaves=15,
)


@given(CHOICES)
def test_values_are_what_every_part_and_some_branch_allows(schema: Schema) -> None:
    assert shape_of(schema).values == (enumerated(schema) or set())


KEYS = ("allOf", "oneOf", "anyOf")
GRAPHS = st.dictionaries(
    st.sampled_from("ABCD"),
    st.fixed_dictionaries(
        {"properties": st.dictionaries(st.sampled_from("abc"), st.sampled_from("ABCD").map(ref), max_size=2)},
        optional={
            **{key: st.lists(st.sampled_from("ABCD").map(ref), min_size=1, max_size=3) for key in KEYS},
            "items": st.sampled_from("ABCD").map(ref),
            "additionalProperties": st.sampled_from("ABCD").map(ref),
        },
    ),
    min_size=4,
)


@given(GRAPHS)
def test_schemas_that_refer_to_each_other_in_any_way_are_settled(schemas: dict[str, Schema]) -> None:
    shape, _ = read({"properties": {name: ref(name) for name in "ABCD"}}, **schemas)
    for name in "ABCD":
        assert shape.parameters[name].shape.parameters.keys() >= (
            schemas[name]["properties"].keys() if "items" not in schemas[name] else set()
        )
