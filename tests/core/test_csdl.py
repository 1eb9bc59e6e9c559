"""OData metadata as a catalog document; the service is a coffee bar, written by hand from the rules of the format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from defusedxml.ElementTree import fromstring
from openapi_spec_validator import validate

from proxy.core.catalog import Document, route_key
from proxy.core.csdl import CsdlError, Service, Translation, read_service, translate
from proxy.core.openapi import compile_catalog

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

EDM = "http://docs.oasis-open.org/odata/ns/edm"

TYPES = """
<EntityType Name="Brew">
  <Key><PropertyRef Name="id"/></Key>
  <Property Name="id" Type="Edm.Guid" Nullable="false"/>
  <Property Name="strength" Type="Bar.Strength"/>
  <Property Name="notes" Type="Collection(Edm.String)"/>
  <NavigationProperty Name="barista" Type="Bar.Barista"/>
</EntityType>
<EntityType Name="Espresso" BaseType="Bar.Brew"><Property Name="shots" Type="Edm.Byte" Nullable="false"/></EntityType>
<EntityType Name="Barista">
  <Key><PropertyRef Name="shop"/><PropertyRef Name="number"/></Key>
  <Property Name="shop" Type="Edm.String" Nullable="false"/>
  <Property Name="number" Type="Edm.Int32" Nullable="false"/>
  <NavigationProperty Name="brews" Type="Collection(Bar.Brew)"/>
</EntityType>
<EnumType Name="Strength"><Member Name="Mild"/><Member Name="Strong"/></EnumType>
"""
SETS = '<EntitySet Name="Brews" EntityType="Bar.Brew"/>'


def parameter(name: str, type_name: str, more: str = "", inside: str = "") -> str:
    return f'<Parameter Name="{name}" Type="{type_name}" {more}>{inside}</Parameter>'


def action(name: str, *parameters: str, returns: str = "") -> str:
    bound = ' IsBound="true"' if parameters and 'Name="it"' in parameters[0] else ""
    return f'<Action Name="{name}"{bound}>{"".join(parameters)}{returns}</Action>'


def function(name: str, *parameters: str, returns: str = "Edm.String") -> str:
    return action(name, *parameters, returns=f'<ReturnType Type="{returns}"/>').replace("Action", "Function")


ON_ONE = parameter("it", "Bar.Brew")
ON_ALL = parameter("it", "Collection(Bar.Brew)")


def document(
    content: str = "", container: str = SETS, around: str = "", *, types: str = TYPES, alias: str = ""
) -> Element:
    root: Element = fromstring(
        '<edmx:Edmx Version="4.0" xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx">'
        '<edmx:Reference Uri="core.xml"><edmx:Include Namespace="Org.OData.Core.V1" Alias="Core"/></edmx:Reference>'
        f'<edmx:DataServices><Schema Namespace="Bar" {alias} xmlns="{EDM}">{types}{content}'
        f'<EntityContainer Name="C">{container}</EntityContainer></Schema>{around}</edmx:DataServices></edmx:Edmx>'
    )
    return root


def service(content: str = "", container: str = SETS, around: str = "", **more: Any) -> Service:
    return read_service(document(content, container, around, **more))


def translated(content: str = "", container: str = SETS, prefix: str = "/api", **more: Any) -> Translation:
    translation = translate(service(content, container, **more), prefix)
    validate(translation.document)
    compile_catalog([Document("new.yaml", translation.document)])
    return translation


def titles(content: str = "", container: str = SETS, **more: Any) -> list[str]:
    return [*translated(content, container, **more).written]


def names(translation: Translation) -> dict[str, str]:
    """Return the operations of a document, by name."""
    return {
        operation["operationId"]: f"{method.upper()} {path}"
        for path, item in translation.document["paths"].items()
        for method, operation in item.items()
        if method != "parameters"
    }


def schemas(content: str = "", container: str = SETS, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = translated(content, container, **more).document["components"]["schemas"]
    return found


def body(*parameters: str, content: str = "") -> dict[str, Any]:
    """Return the schema of the body of an action with the given parameters."""
    translation = translated(content + action("Drink", ON_ONE, *parameters))
    request = translation.document["paths"]["/api/Brews/{id}/Drink"]["post"]["requestBody"]
    schema: dict[str, Any] = request["content"]["application/json"]["schema"]
    assert request["required"] == ("required" in schema)
    return schema


def notes(content: str = "", container: str = SETS, **more: Any) -> list[str]:
    described = service(content, container, **more)
    return [note.message for note in (*described.notes, *translate(described, "/api").notes)]


def test_an_entity_set_is_read_as_a_list_and_one_by_one() -> None:
    translation = translated()

    assert names(translation) == {"Brews_List": "GET /api/Brews", "Brews_Get": "GET /api/Brews/{id}"}
    paths = translation.document["paths"]
    reference = {"$ref": "#/components/schemas/Brew"}
    assert paths["/api/Brews"]["get"]["responses"]["200"]["content"]["application/json"]["schema"] == {
        "type": "object",
        "properties": {"value": {"type": "array", "items": reference}},
    }
    assert paths["/api/Brews/{id}"]["get"]["responses"]["200"]["content"]["application/json"]["schema"] == reference
    assert paths["/api/Brews/{id}"]["parameters"] == [
        {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "format": "uuid"}}
    ]


@pytest.mark.parametrize(
    ("content", "container", "expected"),
    [
        pytest.param(action("Sip", ON_ONE), SETS, "POST /api/Brews/{id}/Sip", id="action-on-one"),
        pytest.param(action("Pour", ON_ALL), SETS, "POST /api/Brews/Pour", id="action-on-all"),
        pytest.param(function("Age", ON_ONE), SETS, "GET /api/Brews/{id}/Age", id="function-on-one"),
        pytest.param(function("Best", ON_ALL), SETS, "GET /api/Brews/Best", id="function-on-all"),
        pytest.param(
            function("Find", ON_ALL, parameter("q", "Edm.String"), parameter("n", "Edm.Int32")),
            SETS,
            "GET /api/Brews/Find(q='{q}',n={n})",
            id="strings-in-quotes",
        ),
        pytest.param(
            function("Find", ON_ALL, parameter("s", "Bar.Strength")),
            SETS,
            "GET /api/Brews/Find(s='{s}')",
            id="enumerated-values-in-quotes",
        ),
        pytest.param(
            '<TypeDefinition Name="Tag" UnderlyingType="Edm.String"/>'
            + function("Find", ON_ALL, parameter("t", "Bar.Tag")),
            SETS,
            "GET /api/Brews/Find(t='{t}')",
            id="definition-of-a-string-in-quotes",
        ),
        pytest.param(
            function("Find", ON_ALL, parameter("ids", "Collection(Edm.String)")),
            SETS,
            "GET /api/Brews/Find(ids={ids})",
            id="collection-goes-by-alias",
        ),
        pytest.param(
            function("Find", ON_ONE, parameter("id", "Edm.Int32")),
            SETS,
            "GET /api/Brews/{id}/Find(id={id_})",
            id="argument-called-as-the-key",
        ),
        pytest.param(
            "",
            '<EntitySet Name="Baristas" EntityType="Bar.Barista"/>',
            "GET /api/Baristas/{shop}/{number}",
            id="key-of-two-parts",
        ),
        pytest.param("", '<Singleton Name="Me" Type="Bar.Barista"/>', "GET /api/Me", id="singleton"),
        pytest.param(
            action("Rest", parameter("it", "Bar.Barista")),
            '<Singleton Name="Me" Type="Bar.Barista"/>',
            "POST /api/Me/Rest",
            id="action-on-a-singleton",
        ),
        pytest.param(
            action("Close"), '<ActionImport Name="Shut" Action="Bar.Close"/>', "POST /api/Shut", id="action-import"
        ),
        pytest.param(
            function("Menu", parameter("day", "Edm.Date")),
            '<FunctionImport Name="Menu" Function="Bar.Menu"/>',
            "GET /api/Menu(day={day})",
            id="function-import",
        ),
        pytest.param(
            action("Sip", ON_ONE),
            '<EntitySet Name="Espressi" EntityType="Bar.Espresso"/>',
            "POST /api/Espressi/{id}/Sip",
            id="what-the-base-type-has",
        ),
    ],
)
def test_what_can_be_called_has_a_route(content: str, container: str, expected: str) -> None:
    assert expected in titles(content, container)


def test_the_prefix_stands_before_every_route() -> None:
    for prefix in ("", "/odata/v4"):
        written = translated(action("Pour", ON_ALL), prefix=prefix).written
        assert written == (f"GET {prefix}/Brews", f"POST {prefix}/Brews/Pour", f"GET {prefix}/Brews/{{id}}")


def test_an_overload_is_called_where_its_own_type_is_held() -> None:
    on_baristas = parameter("it", "Collection(Bar.Barista)")
    ids, numbers = parameter("BrewIds", "Collection(Edm.Guid)"), parameter("numbers", "Collection(Edm.Int32)")

    translation = translated(
        action("BatchDelete", ON_ALL, ids) + action("BatchDelete", on_baristas, numbers),
        SETS + '<EntitySet Name="Baristas" EntityType="Bar.Barista"/>',
    )

    catalog = compile_catalog([Document("new.yaml", translation.document)])
    shapes = {operation.name: operation.body for operation in catalog.operations if operation.body is not None}
    assert {name: [*shape.parameters] for name, shape in shapes.items()} == {
        "Brews_BatchDelete": ["BrewIds"],
        "Baristas_BatchDelete": ["numbers"],
    }


def test_two_sets_of_one_type_have_their_own_operations() -> None:
    translation = translated(action("Sip", ON_ONE), SETS + '<EntitySet Name="Old" EntityType="Bar.Brew"/>')

    assert {"Brews_Sip", "Old_Sip"} < names(translation).keys()


def test_overloads_of_a_function_get_names_of_their_own_that_do_not_depend_on_the_order() -> None:
    overloads = [function("Find", ON_ALL, parameter(name, "Edm.String")) for name in ("tag", "ip")]

    first, second = (names(translated("".join(order))) for order in (overloads, overloads[::-1]))

    assert first == second
    assert first["Brews_Find"] == "GET /api/Brews/Find(ip='{ip}')"
    assert first["Brews_Find_tag"] == "GET /api/Brews/Find(tag='{tag}')"


def test_a_name_that_is_taken_is_not_given_again() -> None:
    described = service(container=SETS + '<ActionImport Name="unknown" Action="Bar.Close"/>', content=action("Close"))

    found = names(translate(described, "/api", taken={"Brews_List", "Brews_Get", "Brews_Get_id"}))

    assert found == {
        "Brews_List_2": "GET /api/Brews",
        "Brews_Get_2": "GET /api/Brews/{id}",
        "unknown_2": "POST /api/unknown",
    }


def test_a_function_that_is_called_as_a_read_has_a_name_of_its_own() -> None:
    assert names(translated(function("List", ON_ALL)))["Brews_List_2"] == "GET /api/Brews/List"


def test_routes_that_differ_in_letter_case_alone_are_one() -> None:
    content = action("Sip", ON_ONE) + action("SIP", ON_ONE)

    assert [title for title in titles(content) if title.startswith("POST")] == ["POST /api/Brews/{id}/SIP"]


def test_known_routes_are_left_out_with_the_types_that_only_they_use() -> None:
    described = service(action("Pour", ON_ALL, parameter("Strength", "Bar.Strength")))

    translation = translate(
        described, "/api", known={route_key("GET", "/api/brews"), route_key("GET", "/api/brews/{id}")}
    )

    assert translation.written == ("POST /api/Brews/Pour",)
    assert translation.left_out == ("GET /api/Brews", "GET /api/Brews/{id}")
    assert [*translation.document["components"]["schemas"]] == ["Strength"]


def test_a_parameter_is_required_where_it_may_be_neither_null_nor_left_out() -> None:
    optional = '<Annotation Term="Core.OptionalParameter"/>'
    schema = body(
        parameter("Comment", "Edm.String"),
        parameter("Cups", "Edm.Int32", 'Nullable="false"'),
        parameter("Strength", "Bar.Strength", 'Nullable="false"', optional),
        parameter("Sugar", "Edm.Int32", 'Nullable="false"', optional.replace("Core.", "Org.OData.Core.V1.")),
        parameter("Milk", "Edm.Int32", 'Nullable="false"', '<Annotation Term="Core.Description" String="?"/>'),
        parameter("Names", "Collection(Edm.String)", 'Nullable="false"'),
    )

    assert schema["required"] == ["Cups", "Milk"]
    assert [*schema["properties"]] == ["Comment", "Cups", "Strength", "Sugar", "Milk", "Names"]


@pytest.mark.parametrize(
    ("type_name", "expected"),
    [
        pytest.param("Edm.String", {"type": "string"}, id="string"),
        pytest.param("Edm.Boolean", {"type": "boolean"}, id="boolean"),
        pytest.param("Edm.Int64", {"type": "integer"}, id="integer"),
        pytest.param("Edm.Double", {"type": "number"}, id="number"),
        pytest.param("Edm.DateTimeOffset", {"type": "string", "format": "date-time"}, id="time"),
        pytest.param("Edm.Untyped", {}, id="anything"),
        pytest.param("Edm.ComplexType", {"type": "object", "additionalProperties": True}, id="any-object"),
        pytest.param("Bar.Strength", {"$ref": "#/components/schemas/Strength"}, id="enumeration"),
        pytest.param("Bar.Cup", {"type": "integer"}, id="definition"),
        pytest.param(
            "Collection(Bar.Strength)",
            {"type": "array", "items": {"$ref": "#/components/schemas/Strength"}},
            id="collection",
        ),
        pytest.param("Elsewhere.Thing", {}, id="type-of-another-document"),
    ],
)
def test_a_type_is_what_its_values_are_in_json(type_name: str, expected: dict[str, Any]) -> None:
    schema = body(parameter("p", type_name), content='<TypeDefinition Name="Cup" UnderlyingType="Edm.Int32"/>')

    assert schema["properties"]["p"] == expected | {"x-source": "metadata"}


@pytest.mark.parametrize(
    ("enumeration", "expected"),
    [
        pytest.param(
            '<EnumType Name="E" UnderlyingType="Edm.Byte"><Member Name="B" Value="7"/>'
            '<Member Name="A" Value="0"/></EnumType>',
            {"type": "string", "enum": ["B", "A"]},
            id="with-values",
        ),
        pytest.param(
            '<EnumType Name="E"><Member Name="A"/><Member Name="A"/></EnumType>',
            {"type": "string", "enum": ["A"]},
            id="a-member-twice",
        ),
        pytest.param('<EnumType Name="E"/>', {"type": "string"}, id="without-members"),
        pytest.param(
            '<EnumType Name="E" IsFlags="true"><Member Name="A" Value="1"/></EnumType>',
            {"description": "Several, joined by commas, make one value too.", "type": "string", "enum": ["A"]},
            id="flags",
        ),
    ],
)
def test_an_enumeration_lists_its_members(enumeration: str, expected: dict[str, Any]) -> None:
    assert schemas(enumeration + action("Sip", ON_ONE, parameter("e", "Bar.E")))["E"] == expected


def test_a_type_has_what_it_inherits_and_what_is_derived_from_it() -> None:
    found = schemas(container='<EntitySet Name="Espressi" EntityType="Bar.Espresso"/>' + SETS)

    assert [*found["Espresso"]["properties"]] == ["id", "strength", "notes", "barista", "shots"]
    assert [*found["Brew"]["properties"]] == ["@odata.type", "id", "strength", "notes", "barista", "shots"]
    assert found["Brew"]["properties"]["shots"] == {"type": "integer", "x-source": "metadata", "x-derived": True}
    assert "x-derived" not in found["Espresso"]["properties"]["shots"]
    assert found["Brew"]["properties"]["barista"] == {
        "$ref": "#/components/schemas/Barista",
        "x-source": "metadata",
        "x-navigation": True,
    }


def test_a_property_that_derived_types_give_different_types_may_have_any_of_them() -> None:
    derived = "".join(
        f'<ComplexType Name="C{index}" BaseType="Bar.Base"><Property Name="p" Type="{kind}"/></ComplexType>'
        for index, kind in enumerate(["Edm.String", "Edm.Int32", "Edm.String"])
    )
    content = '<ComplexType Name="Base" Abstract="true"/>' + derived

    found = schemas(content + action("Sip", ON_ONE, parameter("b", "Bar.Base")))

    assert found["Base"]["properties"]["p"]["anyOf"] == [{"type": "string"}, {"type": "integer"}]


def test_an_open_type_may_hold_more() -> None:
    open_type = '<ComplexType Name="Bag" OpenType="true"/>'

    assert schemas(open_type + action("Sip", ON_ONE, parameter("b", "Bar.Bag")))["Bag"]["additionalProperties"] is True
    assert "additionalProperties" not in schemas()["Brew"]


def test_a_type_may_refer_to_itself() -> None:
    step = '<ComplexType Name="Step"><Property Name="then" Type="Collection(Bar.Step)"/></ComplexType>'

    translation = translated(step + action("Sip", ON_ONE, parameter("Steps", "Collection(Bar.Step)")))

    operation = compile_catalog([Document("new.yaml", translation.document)]).match("POST", "/api/brews/1/sip")
    assert operation.body is not None
    shape = operation.body.parameters["Steps"].shape
    for _ in range(5):
        shape = shape.parameters["then"].shape
    assert [*shape.parameters] == ["then"]


def test_an_alias_stands_for_its_namespace() -> None:
    content = action("Sip", parameter("it", "Self.Brew"), parameter("s", "Self.Strength"))

    assert "POST /api/Brews/{id}/Sip" in titles(
        content, '<EntitySet Name="Brews" EntityType="Self.Brew"/>', alias='Alias="Self"'
    )


def test_schemas_may_be_several_and_hold_types_of_one_name() -> None:
    other = (
        f'<Schema Namespace="Bar.Tools" xmlns="{EDM}"><EntityType Name="Brew"><Key><PropertyRef Name="tool"/></Key>'
        '<Property Name="tool" Type="Edm.String"/></EntityType></Schema>'
    )

    translation = translated(container=SETS + '<EntitySet Name="Tools" EntityType="Bar.Tools.Brew"/>', around=other)

    assert "GET /api/Tools/{tool}" in translation.written
    assert {"Bar.Brew", "Bar.Tools.Brew"} < translation.document["components"]["schemas"].keys()
    assert "Bar, Bar.Tools" in translation.document["info"]["title"]


def test_names_beyond_ascii_stay_names_and_their_schemas_get_other_keys() -> None:
    types = '<ComplexType Name="Größe"/><ComplexType Name="Gr__e"/>'
    content = action("Wählen", ON_ONE, parameter("a", "Bar.Größe"), parameter("b", "Bar.Gr__e"))

    translation = translated(types + content)

    assert "POST /api/Brews/{id}/Wählen" in translation.written
    assert {*translation.document["components"]["schemas"]} == {
        "Barista",
        "Brew",
        "Strength",
        "Bar.Gr__e",
        "Bar.Gr__e_2",
    }


def test_annotations_and_what_else_there_is_are_passed_over() -> None:
    content = (
        '<Annotations Target="Bar.Brew/id"><Annotation Term="Core.Description" String="?"/></Annotations>'
        '<Term Name="T" Type="Edm.String"/><x:other xmlns:x="urn:x" Name="!"/>'
    )

    assert titles(content) == titles()
    assert notes(content) == []


def test_a_schema_alone_is_a_document_too() -> None:
    root = fromstring(
        f'<Schema Namespace="Bar" xmlns="{EDM}">{TYPES}<EntityContainer>{SETS}</EntityContainer></Schema>'
    )

    assert translate(read_service(root), "").written == ("GET /Brews", "GET /Brews/{id}")


@pytest.mark.parametrize(
    ("content", "container", "note"),
    [
        pytest.param('<EnumType Name="a/b"/>', SETS, "its Name 'a/b' is none: it is left out", id="no-name"),
        pytest.param("<ComplexType/>", SETS, "its Name '' is none: it is left out", id="name-missing"),
        pytest.param(
            f'<ComplexType Name="{"x" * 5000}"/>',
            SETS,
            f"its Name '{'x' * 60}…' is none: it is left out",
            id="long-name",
        ),
        pytest.param(
            '<ComplexType Name="Brew"/>', SETS, "Bar.Brew is there twice: only the first is used", id="type-twice"
        ),
        pytest.param(
            '<ComplexType Name="C"><Property Name="p" Type="Edm.Int32"/>'
            '<Property Name="p" Type="Edm.Date"/></ComplexType>',
            SETS,
            "p is there twice: only the first is used",
            id="property-twice",
        ),
        pytest.param(
            '<ComplexType Name="C" BaseType="Bar.Nothing"/>',
            SETS,
            "its BaseType 'Bar.Nothing' is not in the document",
            id="base-nowhere",
        ),
        pytest.param(
            '<ComplexType Name="C"><Property Name="p" Type="Bar.Nothing"/></ComplexType>',
            SETS,
            "its Type 'Bar.Nothing' is not in the document: it may hold anything",
            id="type-nowhere",
        ),
        pytest.param(
            "",
            SETS + '<EntitySet Name="S" EntityType="Bar.Nothing"/>',
            "S is left out: its EntityType 'Bar.Nothing' is not in the document",
            id="set-of-nothing",
        ),
        pytest.param(
            "",
            SETS + '<EntitySet Name="Brews" EntityType="Bar.Barista"/>',
            "Brews is there twice: only the first is used",
            id="set-twice",
        ),
        pytest.param(
            '<EntityType Name="K"><Key><PropertyRef Name="a/b"/></Key></EntityType>',
            SETS,
            "its Key is none: the single entity has no route",
            id="key-is-a-path",
        ),
        pytest.param(
            '<Action Name="A" IsBound="true"/>', SETS, "A is bound to nothing: it has no first parameter", id="unbound"
        ),
        pytest.param(
            action("A", parameter("it", "Bar.Barista")),
            SETS,
            "A is left out: no entity set holds 'Bar.Barista'",
            id="bound-to-what-no-set-holds",
        ),
    ],
)
def test_what_is_faulty_is_left_out_and_noted(content: str, container: str, note: str) -> None:
    assert notes(content, container) == [note]
    assert titles(content, container) == titles()


def test_a_schema_without_a_namespace_is_left_out_and_noted() -> None:
    other = f'<Schema Namespace="a b" xmlns="{EDM}"><Action Name="A"/></Schema>'

    assert notes(around=other) == ["its Namespace 'a b' is none: the schema is left out"]


@pytest.mark.parametrize("length", [1, 2, 3])
def test_types_that_inherit_from_themselves_are_cut_off(length: int) -> None:
    circle = "".join(
        f'<ComplexType Name="C{index}" BaseType="Bar.C{(index + 1) % length}">'
        f'<Property Name="p{index}" Type="Edm.String"/></ComplexType>'
        for index in range(length)
    )

    assert notes(circle) == ["Bar.C0 inherits from itself"]
    names_of = schemas(circle + action("Sip", ON_ONE, parameter("c", "Bar.C0")))["C0"]["properties"]
    assert {f"p{index}" for index in range(length)} <= names_of.keys()


def test_inheritance_is_followed_so_far() -> None:
    chain = "".join(f'<ComplexType Name="C{index}" BaseType="Bar.C{index + 1}"/>' for index in range(200))

    found = notes(chain + '<ComplexType Name="C200"/>')

    assert found == [f"Bar.C{index} has more than 50 base types" for index in (149, 98, 47)]


@pytest.mark.parametrize(
    ("procedures", "parameters", "sets"),
    [
        pytest.param(300, 0, 400, id="operations"),
        pytest.param(1, 1_000, 100, id="parameters"),
    ],
)
def test_a_service_with_more_to_call_than_any_is_refused(procedures: int, parameters: int, sets: int) -> None:
    taken = [parameter(f"p{index}", "Edm.String") for index in range(parameters)]
    content = "".join(action(f"A{index}", ON_ONE, *taken) for index in range(procedures))
    container = "".join(f'<EntitySet Name="S{index}" EntityType="Bar.Brew"/>' for index in range(sets))

    with pytest.raises(CsdlError, match="more than 50000 operations and parameters"):
        translate(service(content, container), "/api")


def test_a_long_key_of_many_sets_is_refused_too() -> None:
    key = "".join(f'<PropertyRef Name="k{index}"/>' for index in range(1_000))
    types = f'<EntityType Name="Wide"><Key>{key}</Key></EntityType>'
    sets = "".join(f'<EntitySet Name="S{index}" EntityType="Bar.Wide"/>' for index in range(200))

    with pytest.raises(CsdlError, match="more than 50000 operations and parameters"):
        translate(service(types, sets), "/api")


@pytest.mark.parametrize(
    ("properties", "chain", "leaves"),
    [
        pytest.param(1_000, 1, 999, id="inherited"),
        pytest.param(1_000, 1, 200, id="just-beyond"),
        pytest.param(0, 45, 5_000, id="derived-without-any"),
    ],
)
def test_types_that_hold_more_in_the_document_than_any_are_refused(properties: int, chain: int, leaves: int) -> None:
    held = "".join(f'<Property Name="p{index}" Type="Edm.String"/>' for index in range(properties))
    bases = [f"T{min(index, chain) - 1}" for index in range(1, chain + leaves)]
    types = f'<EntityType Name="T0">{held}</EntityType>' + "".join(
        f'<EntityType Name="T{index}" BaseType="Bar.{base}"/>' for index, base in enumerate(bases, 1)
    )
    sets = "".join(f'<EntitySet Name="S{index}" EntityType="Bar.T{index}"/>' for index in range(chain + leaves))
    described = service(types, sets)

    with pytest.raises(CsdlError, match=r"more than 200000 properties.*leave only the entity sets"):
        translate(described, "/api")


def test_types_whose_names_get_the_same_key_get_short_ones() -> None:
    letters = [chr(0x4E00 + index) for index in range(1_000)]
    types = "".join(f'<ComplexType Name="{letter}"/>' for letter in letters)
    taken = (parameter(f"p{index}", f"Bar.{letter}") for index, letter in enumerate(letters))

    keys = translate(service(types + action("Sip", ON_ONE, *taken)), "/api").document["components"]["schemas"]

    assert {"Bar._", *(f"Bar.__{number}" for number in range(2, 1_001))} < keys.keys()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("<html/>", "no OData metadata: its root is 'html'", id="html"),
        pytest.param('<Edmx Version="4.0"/>', "no OData metadata: its root is 'Edmx'", id="no-namespace"),
        pytest.param(
            '<e:Edmx Version="1.0" xmlns:e="http://schemas.microsoft.com/ado/2007/06/edmx"/>',
            "OData 3 or older",
            id="version-3",
        ),
        pytest.param(
            '<Schema xmlns="http://schemas.microsoft.com/ado/2008/09/edm"/>',
            "OData 3 or older",
            id="schema-of-version-2",
        ),
        pytest.param(
            '<e:Edmx Version="5.0" xmlns:e="http://docs.oasis-open.org/odata/ns/edmx"/>',
            "metadata of OData '5.0'; only OData 4 is read",
            id="version-5",
        ),
        pytest.param(
            '<e:Edmx Version="4.0" xmlns:e="http://docs.oasis-open.org/odata/ns/edmx"/>', "holds no Schema", id="empty"
        ),
        pytest.param(
            '<e:Edmx Version="4.0" xmlns:e="http://docs.oasis-open.org/odata/ns/edmx"><e:DataServices>'
            '<Schema xmlns="http://schemas.microsoft.com/ado/2009/11/edm"/></e:DataServices></e:Edmx>',
            "OData 3 or older",
            id="schema-of-version-3",
        ),
        pytest.param(
            f'<Schema Namespace="Bar" xmlns="{EDM}">{TYPES}</Schema>', "describes no entity set", id="types-only"
        ),
    ],
)
def test_what_describes_no_service_is_refused(text: str, message: str) -> None:
    with pytest.raises(CsdlError, match=message):
        read_service(fromstring(text))


def test_the_document_says_what_it_is_and_what_it_leaves_out() -> None:
    described = service()

    description = translate(described, "/api", known={route_key("GET", "/api/brews")}).document["info"]["description"]

    assert "1 operation. 1 more is in the catalog" in description
    assert "POST, PATCH and DELETE of entities are not described" in description
