"""The catalog's data: valid OpenAPI documents, each name with its source, no two of them mistakable."""

from __future__ import annotations

import re
from collections import Counter
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from openapi_spec_validator import validate

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

CONFIG = Path(__file__).parent.parent / "config"

METHODS = {"get", "put", "post", "delete", "options", "head", "patch"}
SOURCES = ["metadata", "example", "table", "prose"]
RATES = {"per_minute", "per_hour"}
PAGE = re.compile(r"[a-z-]+(?:/[a-z-]+)*/[\w-]+\.md", re.ASCII)


class UniqueKeyReader(yaml.SafeLoader):
    """Reads YAML as the proxy does, but refuses a mapping that holds a key twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002
        mapping = super().construct_mapping(node, deep=deep)
        if len(mapping) != len(node.value):
            raise yaml.constructor.ConstructorError(None, None, "a key stands twice", node.start_mark)
        return mapping


def read(path: Path) -> Any:
    reader = UniqueKeyReader(path.read_text(encoding="utf-8"))
    try:
        return reader.get_single_data()
    finally:
        reader.dispose()


DOCUMENTS = {path.stem: read(path) for path in sorted((CONFIG / "catalog").glob("*.yaml"))}
CODES = read(CONFIG / "error_codes.yaml")["codes"]


def fold(name: str) -> str:
    """Return `name` without what the check overlooks: ASCII letter case, `_`, `-` and spaces."""
    return re.sub("[A-Z]", lambda upper: chr(ord(upper[0]) + 32), re.sub("[-_ ]", "", name))


def operations() -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """Yield document, method, path and content of each operation."""
    for document, content in DOCUMENTS.items():
        for path, item in content["paths"].items():
            for method, operation in item.items():
                if method in METHODS:
                    yield document, method, path, operation


def object_schemas(node: Any, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each schema that has properties, with its place in the document."""
    match node:
        case dict():
            # A parameter may be called `properties`; a schema's `properties` hold schemas.
            if isinstance(node.get("properties"), dict) and "x-source" not in node["properties"]:
                yield place, node
            for key, value in node.items():
                yield from object_schemas(value, f"{place}/{key}")
        case list():
            for index, value in enumerate(node):
                yield from object_schemas(value, f"{place}/{index}")


def enumerations(node: Any, place: str) -> Iterator[tuple[str, list[Any]]]:
    match node:
        case dict():
            if isinstance(node.get("enum"), list):
                yield place, node["enum"]
            for key, value in node.items():
                yield from enumerations(value, f"{place}/{key}")
        case list():
            for index, value in enumerate(node):
                yield from enumerations(value, f"{place}/{index}")


def resolved(document: str, node: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        target: Any = DOCUMENTS[document]
        for token in node["$ref"].removeprefix("#/").split("/"):
            target = target[token]
        node = target
    return node


def body_schema(operation: str) -> tuple[str, dict[str, Any]]:
    for document, _, _, content in operations():
        if content["operationId"] == operation:
            return document, content["requestBody"]["content"]["application/json"]["schema"]
    raise AssertionError(operation)


def misfits(document: str, schema: dict[str, Any], value: Any, place: str = "") -> Iterator[str]:
    """Yield each name and enumerated value of a body that its schema does not spell like that."""
    schema = resolved(document, schema)
    match value:
        case dict():
            properties = schema.get("properties", {})
            spellings = {
                spelling: name
                for name, content in properties.items()
                for spelling in (name, *content.get("x-accepted-names", ()))
            }
            for name, member in value.items():
                if name in spellings:
                    yield from misfits(document, properties[spellings[name]], member, f"{place}/{name}")
                else:
                    yield f"{place}/{name}"
        case list():
            for index, element in enumerate(value):
                yield from misfits(document, schema["items"], element, f"{place}/{index}")
        case str() if value not in schema.get("enum", [value]):
            yield f"{place}={value}"


OPERATIONS = [pytest.param(*operation, id=operation[3]["operationId"]) for operation in operations()]
SCHEMAS = [
    pytest.param(schema, id=place)
    for document, content in DOCUMENTS.items()
    for place, schema in object_schemas(content, document)
]
ENUMERATIONS = [
    pytest.param(values, id=place)
    for document, content in DOCUMENTS.items()
    for place, values in enumerations(content, document)
]

ROUTES = {
    "isolateMachine": ("POST", "/api/machines/{id}/isolate"),
    "unisolateMachine": ("POST", "/api/machines/{id}/unisolate"),
    "restrictCodeExecution": ("POST", "/api/machines/{id}/restrictCodeExecution"),
    "unrestrictCodeExecution": ("POST", "/api/machines/{id}/unrestrictCodeExecution"),
    "runAntiVirusScan": ("POST", "/api/machines/{id}/runAntiVirusScan"),
    "stopAndQuarantineFile": ("POST", "/api/machines/{id}/StopAndQuarantineFile"),
    "collectInvestigationPackage": ("POST", "/api/machines/{id}/collectInvestigationPackage"),
    "runLiveResponse": ("POST", "/api/machines/{machine_id}/runliveresponse"),
    "submitIndicator": ("POST", "/api/indicators"),
    "importIndicators": ("POST", "/api/indicators/import"),
    "updateAlert": ("PATCH", "/api/alerts/{id}"),
    "batchUpdateAlerts": ("POST", "/api/alerts/batchUpdate"),
    "runAdvancedQuery": ("POST", "/api/advancedqueries/run"),
    "updateIncident": ("PATCH", "/api/incidents/{id}"),
    "runAdvancedHuntingXdr": ("POST", "/api/advancedhunting/run"),
    "listMachines": ("GET", "/api/machines"),
    "getMachine": ("GET", "/api/machines/{id}"),
    "listMachineActions": ("GET", "/api/machineactions"),
    "getMachineAction": ("GET", "/api/machineactions/{id}"),
    "listAlerts": ("GET", "/api/alerts"),
    "getAlert": ("GET", "/api/alerts/{id}"),
    "listIndicators": ("GET", "/api/indicators"),
    "deleteIndicator": ("DELETE", "/api/indicators/{id}"),
    "listIncidents": ("GET", "/api/incidents"),
    "getIncident": ("GET", "/api/incidents/{id}"),
}

INDICATOR = {
    "indicatorValue": "0" * 40,
    "indicatorType": "FileSha1",
    "action": "AlertAndBlock",
    "title": "t",
    "description": "d",
    "severity": "Informational",
    "rbacGroupNames": ["a", "b"],
}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_document_is_valid_openapi(document: str) -> None:
    validate(DOCUMENTS[document])


@pytest.mark.parametrize("document", DOCUMENTS)
def test_document_names_its_sources(document: str) -> None:
    description = DOCUMENTS[document]["info"]["description"]
    assert "MicrosoftDocs/defender-docs" in description
    assert "$metadata" in description
    assert "publishes no official OpenAPI document" in description


def test_operation_ids_are_unique() -> None:
    names = Counter(content["operationId"] for _, _, _, content in operations())
    assert max(names.values()) == 1, names.most_common(3)


@pytest.mark.parametrize(("operation", "route"), ROUTES.items())
def test_documented_route_is_there(operation: str, route: tuple[str, str]) -> None:
    assert route in {(m.upper(), path) for _, m, path, o in operations() if o["operationId"] == operation}


@pytest.mark.parametrize(("document", "method", "path", "operation"), OPERATIONS)
def test_operation_is_described(document: str, method: str, path: str, operation: dict[str, Any]) -> None:
    assert path.startswith("/api/")
    assert PAGE.fullmatch(operation["x-doc"])
    assert operation["summary"]
    assert operation["tags"]
    assert set(operation["tags"]) <= {tag["name"] for tag in DOCUMENTS[document]["tags"]}
    assert operation["responses"]["default"] == {"$ref": "#/components/responses/Error"}
    assert any(status.startswith("2") for status in operation["responses"])
    assert method != "get" or "requestBody" not in operation


@pytest.mark.parametrize(("document", "method", "path", "operation"), OPERATIONS)
def test_rate_limit_is_in_calls(document: str, method: str, path: str, operation: dict[str, Any]) -> None:
    del document, method, path
    limit = operation.get("x-rate-limit", {"per_minute": 1})
    assert limit
    assert limit.keys() <= RATES
    assert all(type(calls) is int and calls > 0 for calls in limit.values())


@pytest.mark.parametrize("schema", SCHEMAS)
def test_each_property_has_a_source(schema: dict[str, Any]) -> None:
    for name, content in schema["properties"].items():
        source = content.get("x-source")
        sources = [source] if isinstance(source, str) else source
        assert sources, name
        assert sources == [known for known in SOURCES if known in sources], name


@pytest.mark.parametrize("schema", SCHEMAS)
def test_each_property_has_a_description(schema: dict[str, Any], request: pytest.FixtureRequest) -> None:
    document = request.node.callspec.id.partition("/")[0]
    for name, content in schema["properties"].items():
        assert resolved(document, content).get("description"), name


@pytest.mark.parametrize("schema", SCHEMAS)
def test_required_parameters_exist(schema: dict[str, Any]) -> None:
    assert set(schema.get("required", ())) <= schema["properties"].keys()


@pytest.mark.parametrize("schema", SCHEMAS)
def test_no_two_parameters_can_be_mistaken_for_each_other(schema: dict[str, Any]) -> None:
    owners: dict[str, str] = {}
    spellings: list[str] = []
    for name, content in schema["properties"].items():
        for spelling in (name, *content.get("x-accepted-names", ())):
            spellings.append(spelling)
            assert owners.setdefault(fold(spelling), name) == name
    assert len(set(spellings)) == len(spellings)


@pytest.mark.parametrize("values", ENUMERATIONS)
def test_no_two_values_can_be_mistaken_for_each_other(values: list[Any]) -> None:
    assert all(isinstance(value, str) for value in values)
    assert len(set(values)) == len(values)
    proposed: dict[str, str] = {}
    for value in values:
        # Only a label such as "Unwanted software" may stand beside the value that it is a label of.
        first = proposed.setdefault(fold(value), value)
        assert value == first or (first.isalnum() and not value.isalnum())


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        pytest.param("isolateMachine", {"Comment": "c", "IsolationType": "Full"}, id="isolate"),
        pytest.param("isolateMachine", {"Comment": "c", "IsolationType": "UnManagedDevice"}, id="contain"),
        pytest.param("unisolateMachine", {"Comment": "c"}, id="unisolate"),
        pytest.param("restrictCodeExecution", {"Comment": "c"}, id="restrict"),
        pytest.param("unrestrictCodeExecution", {"Comment": "c"}, id="unrestrict"),
        pytest.param("collectInvestigationPackage", {"Comment": "c"}, id="collect"),
        pytest.param("runAntiVirusScan", {"Comment": "c", "ScanType": "Quick"}, id="scan"),
        pytest.param("stopAndQuarantineFile", {"Comment": "c", "Sha1": "0" * 40}, id="quarantine"),
        pytest.param(
            "isolateMachine",
            {"Comment": "c", "ExternalId": "e", "RequestSource": "PublicApi", "Title": "t"},
            id="from-metadata",
        ),
        pytest.param(
            "runLiveResponse",
            {
                "Commands": [
                    {"type": "PutFile", "params": [{"key": "FileName", "value": "v"}]},
                    {
                        "type": "RunScript",
                        "params": [{"key": "ScriptName", "value": "v"}, {"key": "Args", "value": "v"}],
                    },
                    {"type": "GetFile", "params": [{"key": "Path", "value": "v"}]},
                ],
                "Comment": "c",
            },
            id="two-conventions-in-one-body",
        ),
        pytest.param("submitIndicator", INDICATOR, id="indicator"),
        pytest.param("submitIndicator", INDICATOR | {"rbacGroupNames": "a,b"}, id="groups-as-text"),
        pytest.param("submitIndicator", INDICATOR | {"GenerateAlert": "TRUE"}, id="generate-alert-in-prose"),
        pytest.param("submitIndicator", INDICATOR | {"generateAlert": "False"}, id="generate-alert-in-table"),
        pytest.param("submitIndicator", INDICATOR | {"generateAlert": True}, id="generate-alert-in-metadata"),
        pytest.param("submitIndicator", INDICATOR | {"externalID": "e"}, id="external-id-in-table"),
        pytest.param("submitIndicator", INDICATOR | {"createdBySource": "portal"}, id="name-of-a-user"),
        pytest.param("importIndicators", {"Indicators": [INDICATOR, INDICATOR]}, id="indicators"),
        pytest.param(
            "updateAlert",
            {
                "status": "Resolved",
                "assignedTo": "a",
                "classification": "FalsePositive",
                "determination": "NotMalicious",
                "comment": "c",
            },
            id="alert-as-in-the-example",
        ),
        pytest.param(
            "updateAlert",
            {
                "Status": "InProgress",
                "assignedTo": "a",
                "Classification": "InformationalExpectedActivity",
                "Determination": "ConfirmedActivity",
                "Comment": "c",
            },
            id="alert-as-in-the-table",
        ),
        pytest.param(
            "batchUpdateAlerts",
            {
                "alertIds": ["a"],
                "classification": "Informational, expected activity",
                "determination": "ConfirmedUserActivity",
            },
            id="alerts-with-display-text",
        ),
        pytest.param("updateAlert", {"determination": "Unwanted software"}, id="label-beside-a-value"),
        pytest.param("runAdvancedQuery", {"Query": "q"}, id="query"),
        pytest.param("runAdvancedHuntingXdr", {"Query": "q"}, id="query-over-all-products"),
        pytest.param(
            "updateIncident",
            {
                "status": "Active",
                "assignedTo": "a",
                "classification": "TruePositive",
                "determination": "NoEnoughDataToValidate",
                "tags": ["t"],
                "comment": "c",
            },
            id="incident",
        ),
    ],
)
def test_documented_body_is_spelt_right(operation: str, body: dict[str, Any]) -> None:
    assert list(misfits(*body_schema(operation), body)) == []


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        pytest.param("isolateMachine", {"isolationType": "Full"}, id="camel-case-for-pascal-case"),
        pytest.param("isolateMachine", {"IsolationType": "UnmanagedDevice"}, id="one-letter-of-a-value"),
        pytest.param("submitIndicator", {"IndicatorValue": "v"}, id="pascal-case-for-camel-case"),
        pytest.param("importIndicators", {"Indicators": [{"action": "alert"}]}, id="value-inside-a-list"),
        pytest.param("runLiveResponse", {"Commands": [{"Type": "GetFile"}]}, id="heading-of-the-table"),
        pytest.param("batchUpdateAlerts", {"Status": "New"}, id="spelling-of-another-page"),
        pytest.param("runAdvancedQuery", {"query": "q"}, id="query"),
    ],
)
def test_other_spellings_are_none_of_the_catalog(operation: str, body: dict[str, Any]) -> None:
    assert len(list(misfits(*body_schema(operation), body))) == 1


@pytest.mark.parametrize(
    ("operation", "name", "accepted"),
    [
        ("updateAlert", "status", ["Status"]),
        ("updateAlert", "classification", ["Classification"]),
        ("updateAlert", "determination", ["Determination"]),
        ("updateAlert", "comment", ["Comment"]),
        ("submitIndicator", "generateAlert", ["GenerateAlert"]),
        ("submitIndicator", "externalId", ["externalID"]),
    ],
)
def test_strongest_source_names_the_parameter(operation: str, name: str, accepted: list[str]) -> None:
    document, schema = body_schema(operation)
    assert resolved(document, schema)["properties"][name]["x-accepted-names"] == accepted


def test_error_codes_are_unique() -> None:
    codes = [entry["code"] for entry in CODES]
    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize("entry", [pytest.param(entry, id=entry["code"]) for entry in CODES])
def test_error_code_is_described(entry: dict[str, Any]) -> None:
    assert entry.keys() <= {"code", "status", "pages", "aliases"}
    assert re.fullmatch("[A-Za-z]+", entry["code"])
    assert HTTPStatus(entry["status"]) >= HTTPStatus.BAD_REQUEST
    assert entry["pages"]
    assert all(PAGE.fullmatch(page) for page in entry["pages"])


def test_aliases_belong_to_one_code_each() -> None:
    aliases = [alias for entry in CODES for alias in entry.get("aliases", ())]
    assert all(isinstance(alias, str) for alias in aliases)
    assert len(set(aliases)) == len(aliases)
    assert not set(aliases) & {entry["code"] for entry in CODES}


def test_numeric_aliases_are_the_status() -> None:
    aliases = {alias: entry for entry in CODES for alias in entry.get("aliases", ()) if alias.isdigit()}
    assert aliases["429"]["code"] == "TooManyRequests"
    assert all(int(alias) == entry["status"] for alias, entry in aliases.items())


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("BadRequest", 400),
        ("ODataError", 400),
        ("InvalidInput", 400),
        ("InvalidRequestBody", 400),
        ("InvalidHashValue", 400),
        ("InvalidDomainName", 400),
        ("InvalidIpAddress", 400),
        ("InvalidUrl", 400),
        ("MaximumBatchSizeExceeded", 400),
        ("MissingRequiredParameter", 400),
        ("OsPlatformNotSupported", 400),
        ("ClientVersionNotSupported", 400),
        ("ActiveRequestAlreadyExists", 400),
        ("Unauthorized", 401),
        ("Forbidden", 403),
        ("DisabledFeature", 403),
        ("DisallowedOperation", 403),
        ("NotFound", 404),
        ("ResourceNotFound", 404),
        ("TooManyRequests", 429),
        ("InternalServerError", 500),
    ],
)
def test_documented_error_code_is_there(code: str, status: int) -> None:
    assert (code, status) in {(entry["code"], entry["status"]) for entry in CODES}
