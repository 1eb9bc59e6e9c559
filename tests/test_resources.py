"""The shipped data, and what is said of catalog documents that cannot be used."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from proxy.core.catalog import UNKNOWN, CatalogError, CatalogProblem
from proxy.core.model import Origin
from proxy.resources import (
    UnusableShapesError,
    config_folder,
    load_catalog,
    load_error_codes,
    load_error_shapes,
    validated,
)

if TYPE_CHECKING:
    from pathlib import Path

OPERATION = "    post:\n      operationId: brewCoffee\n"
DOCUMENT = "openapi: 3.1.0\npaths:\n  /brews:\n" + OPERATION
SCHEMA = DOCUMENT + "      requestBody: {content: {application/json: {schema: %s}}}\n"

# Defender for Endpoint, "Common REST API error codes".
DOCUMENTED_CODES = {
    "BadRequest": 400,
    "ODataError": 400,
    "InvalidInput": 400,
    "InvalidRequestBody": 400,
    "InvalidHashValue": 400,
    "InvalidDomainName": 400,
    "InvalidIpAddress": 400,
    "InvalidUrl": 400,
    "MaximumBatchSizeExceeded": 400,
    "MissingRequiredParameter": 400,
    "OsPlatformNotSupported": 400,
    "ClientVersionNotSupported": 400,
    "Unauthorized": 401,
    "Forbidden": 403,
    "DisabledFeature": 403,
    "DisallowedOperation": 403,
    "NotFound": 404,
    "ResourceNotFound": 404,
    "InternalServerError": 500,
}


def test_the_shipped_data_is_found_in_a_checkout() -> None:
    assert (config_folder() / "proxy.yaml").is_file()
    assert list((config_folder() / "catalog").glob("*.yaml"))


def test_the_shipped_catalog_loads() -> None:
    catalog = load_catalog()

    assert len(catalog.operations) >= 12
    assert catalog.match("POST", "/api/machines/1/isolate").name == "isolateMachine"
    assert catalog.match("GET", "/nowhere") is UNKNOWN


def test_the_shipped_error_codes_load() -> None:
    codes = load_error_codes()

    assert codes.statuses.items() >= DOCUMENTED_CODES.items()
    assert codes.label("429", Origin.UPSTREAM) == "TooManyRequests"
    assert set(codes.aliases.values()) <= set(codes.statuses)
    assert not set(codes.aliases) & set(codes.statuses)


def test_the_shipped_error_shapes_load() -> None:
    shapes = load_error_shapes()

    assert {shape.name for shape in shapes.json} >= {"odata", "entra", "gateway", "fault", "problem"}
    assert shapes.xml.code
    assert shapes.html.message


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        pytest.param("json: []\nxml: {code: x}\nhtml: {}\n", ": /xml/code: must be a list of names", id="content"),
        pytest.param("json: [\n", ":2: is not", id="no-yaml"),
        pytest.param(None, ": cannot be read: there is no such file", id="no-file"),
    ],
)
def test_error_shapes_that_cannot_be_used_are_told_with_their_place(
    tmp_path: Path, content: str | None, problem: str
) -> None:
    path = tmp_path / "shapes.yaml"
    if content is not None:
        path.write_text(content, "utf-8")
    with pytest.raises(UnusableShapesError) as caught:
        load_error_shapes(path)
    assert str(caught.value).startswith(f"{path}{problem}")


@pytest.mark.parametrize("code", load_error_codes().statuses)
def test_every_documented_code_has_a_cause_a_remedy_and_a_page(code: str) -> None:
    told = load_error_codes().helps[code]

    for sentence in (told.cause, told.remedy):
        assert sentence[0].isupper()
        assert sentence.endswith(".")
        assert len(sentence) <= 120
    assert told.cause != told.remedy
    assert told.pages
    assert all(re.fullmatch(r"https://learn\.microsoft\.com/defender-(endpoint|xdr)/[a-z/-]+", p) for p in told.pages)
    explanation = load_error_codes().explanation(code)
    assert explanation is not None
    assert {told.cause, told.remedy} <= {line[8:] for line in explanation.splitlines()}


def test_an_extra_document_adds_its_operations(tmp_path: Path) -> None:
    shipped, path = load_catalog(), tmp_path / "extra.yaml"
    path.write_text(DOCUMENT, "utf-8")

    catalog = load_catalog([path])

    assert len(catalog.operations) == len(shipped.operations) + 1
    assert catalog.match("POST", "/brews").name == "brewCoffee"
    assert catalog.match("POST", "/api/machines/1/isolate").name == "isolateMachine"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_an_extra_document_may_begin_with_a_byte_order_mark(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "extra.yaml"
    path.write_text(DOCUMENT, encoding)

    assert load_catalog([path]).match("POST", "/brews").name == "brewCoffee"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        pytest.param("", "not an OpenAPI document", id="empty"),
        pytest.param("- openapi", "not an OpenAPI document", id="a list"),
        pytest.param("openapi: 3.1.0", "not an OpenAPI document", id="no paths"),
        pytest.param(DOCUMENT.replace("3.1.0", "2.0"), "/openapi: version 2.0 is not supported", id="Swagger 2"),
        pytest.param("openapi: 3.1.0\n\tpaths: {}", "2: is not YAML: found a tab character", id="a tab"),
        pytest.param("openapi: [", "is not YAML: did not find expected node content", id="an open bracket"),
        pytest.param("openapi: 3.1.0\n---\npaths: {}", "2: a second document begins", id="two documents"),
        pytest.param("a: \0", "is not YAML: ", id="a control character"),
        pytest.param(
            "!!python/object:os.system {}",
            "1: the tag tag:yaml.org,2002:python/object:os.system means nothing",
            id="a tag of Python's",
        ),
        pytest.param("[" * 2000, "1: ", id="two thousand open brackets"),
        pytest.param(b"a: 1\ncaf\xe9: 1", "2: is not UTF-8 text", id="Latin-1"),
        pytest.param(
            DOCUMENT.replace("/brews", "brews"), "3: /paths/brews: a path must start with a slash", id="no slash"
        ),
        pytest.param(
            DOCUMENT.replace("operationId: brewCoffee", "operationId: 7"),
            "5: /paths/~1brews/post/operationId: an `operationId` must be a text",
            id="a number for a name",
        ),
        pytest.param(
            DOCUMENT.replace("brewCoffee", "isolateMachine"),
            "4: /paths/~1brews/post: operationId 'isolateMachine' is taken",
            id="an operationId of the shipped catalog",
        ),
        pytest.param(
            DOCUMENT.replace("/brews", "/api/machines/{machine}/isolate"),
            "(POST /api/machines/{id}/isolate) in defender-endpoint.yaml",
            id="a route of the shipped catalog",
        ),
        pytest.param(SCHEMA % "{$ref: '#/nowhere'}", "'#/nowhere' leads nowhere", id="a reference to nothing"),
        pytest.param(
            SCHEMA % "{$ref: 'other.yaml#/a'}",
            "'other.yaml#/a' leads nowhere: cannot be read: there is no such file",
            id="a reference to another file",
        ),
        pytest.param(
            SCHEMA % "{properties: {Comment: {x-accepted-names: comment}}}",
            "/Comment/x-accepted-names: must be a list of names",
            id="accepted names that are no list",
        ),
    ],
)
def test_an_extra_document_that_cannot_be_used_is_named(tmp_path: Path, content: str | bytes, told: str) -> None:
    path = tmp_path / "extra.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))

    with pytest.raises(CatalogError) as caught:
        load_catalog([path])

    (problem,) = str(caught.value).splitlines()
    assert problem.startswith(f"{path}:")
    assert told in problem


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param("&s {type: array, items: *s}", id="an alias in itself"),
        pytest.param("{$ref: '#/x-tree'}", id="a reference to itself"),
    ],
)
def test_an_array_of_arrays_of_the_same_kind_is_a_schema_too(tmp_path: Path, schema: str) -> None:
    path = tmp_path / "extra.yaml"
    path.write_text(SCHEMA % schema + "x-tree: {type: array, items: {$ref: '#/x-tree'}}\n", "utf-8")

    assert load_catalog([path]).match("POST", "/brews").name == "brewCoffee"


@pytest.mark.parametrize("keyword", ["enum", "required", "properties", "items", "type", "$ref", "x-accepted-names"])
@pytest.mark.parametrize("value", ["5", "[[]]"])
def test_a_keyword_of_the_wrong_type_is_taken_or_told(tmp_path: Path, keyword: str, value: str) -> None:
    path = tmp_path / "extra.yaml"
    path.write_text(SCHEMA % f"{{{keyword}: {value}, properties: {{Cup: {{{keyword}: {value}}}}}}}", "utf-8")

    told: tuple[CatalogProblem, ...] = ()
    try:
        load_catalog([path])
    except CatalogError as error:
        told = error.problems
    assert {problem.document for problem in told} <= {str(path)}


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "extra.yaml"

    with pytest.raises(CatalogError) as caught:
        load_catalog([path])

    assert str(caught.value) == f"{path}: cannot be read: there is no such file"


def test_a_folder_in_place_of_a_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CatalogError) as caught:
        load_catalog([tmp_path])

    assert str(caught.value) == f"{tmp_path}: cannot be read: Is a directory"


def test_every_file_that_cannot_be_read_is_told_at_once(tmp_path: Path) -> None:
    broken, missing = tmp_path / "broken.yaml", tmp_path / "missing.yaml"
    broken.write_text("[", "utf-8")

    with pytest.raises(CatalogError) as caught:
        load_catalog([broken, missing])

    assert [problem.document for problem in caught.value.problems] == [str(broken), str(missing)]


def test_a_document_that_can_be_added_is_valid_with_notes(tmp_path: Path) -> None:
    path = tmp_path / "extra.yaml"
    path.write_text(SCHEMA % "{}", "utf-8")

    validation = validated([path])

    assert validation.problems == ()
    assert [operation.name for operation in validation.operations] == ["brewCoffee"]
    place = "/paths/~1brews/post/requestBody/content/application~1json/schema"
    assert [str(note) for note in validation.notes] == [
        f"{path}:6: {place}: the body names no properties: there is nothing to compare with"
    ]


def test_a_document_that_cannot_be_added_is_told_with_its_notes(tmp_path: Path) -> None:
    path, missing = tmp_path / "extra.yaml", tmp_path / "missing.yaml"
    path.write_text(SCHEMA % "{}" + "  brews: {}\n", "utf-8")

    validation = validated([path])

    assert [str(problem) for problem in validation.problems] == [
        f"{path}:7: /paths/brews: a path must start with a slash and hold a mapping"
    ]
    assert [note.line for note in validation.notes] == [6]
    assert validation.operations == ()
    assert [str(problem) for problem in validated([path, missing]).problems] == [
        f"{missing}: cannot be read: there is no such file",
        f"{path}:7: /paths/brews: a path must start with a slash and hold a mapping",
    ]


def test_a_faulty_file_that_a_document_refers_to_is_named(tmp_path: Path) -> None:
    path = tmp_path / "extra.yaml"
    path.write_text(SCHEMA % "{$ref: 'sub/schemas.yaml#/Brew'}", "utf-8")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "schemas.yaml").write_text("Brew:\n  properties:\n    Kind:\n      enum: Mocha\n", "utf-8")

    with pytest.raises(CatalogError) as caught:
        load_catalog([path])

    assert str(caught.value) == f"{tmp_path}/sub/schemas.yaml:4: /Brew/properties/Kind/enum: must be a list of values"
