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

from proxy.resources import load_catalog

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

CONFIG = Path(__file__).parent.parent / "config"

METHODS = {"get", "put", "post", "delete", "options", "head", "patch"}
SOURCES = ["metadata", "example", "table", "prose"]
RATES = {"per_minute", "per_hour"}
PAGE = re.compile(r"[a-z-]+(?:/[a-z0-9.-]+)*/[\w-]+\.md", re.ASCII)


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
            (media,) = content["requestBody"]["content"].values()
            return document, media["schema"]
    raise AssertionError(operation)


def entity_properties(document: str, operation: dict[str, Any]) -> dict[str, Any] | None:
    """Return the properties of what a successful `operation` answers with, an OData list looked through."""
    for status, response in operation["responses"].items():
        if status.startswith("2"):
            content = resolved(document, response).get("content", {})
            schema = resolved(document, content.get("application/json", {}).get("schema", {}))
            value = resolved(document, schema.get("properties", {}).get("value", schema))
            entity = resolved(document, value.get("items", value))
            properties: dict[str, Any] | None = entity.get("properties")
            return properties
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


def body_properties(document: str, schema: Any, seen: set[int]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each parameter of a body, nested ones included."""
    schema = resolved(document, schema)
    while "items" in schema:
        schema = resolved(document, schema["items"])
    if id(schema) not in seen:
        seen.add(id(schema))
        for name, content in schema.get("properties", {}).items():
            yield name, content
            yield from body_properties(document, content, seen)


OPERATIONS = [pytest.param(*operation, id=operation[3]["operationId"]) for operation in operations()]
SCHEMAS = [
    pytest.param(schema, id=place)
    for document, content in DOCUMENTS.items()
    for place, schema in object_schemas(content["components"]["schemas"], document)
]
BODIES = [
    pytest.param(document, content["operationId"], id=content["operationId"])
    for document, _, _, content in operations()
    if "requestBody" in content
]
ENUMERATIONS = [
    pytest.param(values, id=place)
    for document, content in DOCUMENTS.items()
    for place, values in enumerations(content, document)
]

ROUTES = [
    tuple(line.split())
    for line in (Path(__file__).parent / "documented_routes.txt").read_text("utf-8").splitlines()
    if not line.startswith("#")
]

# Actions that $metadata declares and no page documents.
UNDOCUMENTED = {
    "runCustomPlaybook": ("POST", "/api/machines/{id}/runCustomPlaybook"),
    "initiateInvestigation": ("POST", "/api/machines/{id}/initiateInvestigation"),
    "logsCollection": ("POST", "/api/machines/{id}/logsCollection"),
    "setExclusion": ("POST", "/api/machines/{id}/setExclusion"),
    "batchUpdateIndicators": ("POST", "/api/indicators/batchUpdate"),
}

# What they answer is no entity: nothing, a number, or not documented.
NO_ENTITY = {
    "batchUpdateAlerts",
    "batchDeleteIndicators",
    "deleteIndicator",
    "deleteLibraryFile",
    "batchDeleteScanDefinitions",
    "countMachineAlerts",
    "getInvestigationPackageUri",
    "getLiveResponseResult",
    "initiateInvestigation",
    "batchUpdateIndicators",
}

# Values that pages write in two ways; the first is proposed.
TWO_SPELLINGS = {("Onboarded", "onboarded"), ("Mailbox", "MailBox")}

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


@pytest.mark.parametrize(
    ("document", "sources"),
    [
        ("defender-endpoint", ["MicrosoftDocs/defender-docs", "$metadata", "publishes no official OpenAPI document"]),
        ("defender-xdr", ["MicrosoftDocs/defender-docs", "$metadata", "publishes no official OpenAPI document"]),
        ("graph-security", ["microsoftgraph/microsoft-graph-docs-contrib"]),
    ],
)
def test_document_names_its_sources(document: str, sources: list[str]) -> None:
    assert all(source in DOCUMENTS[document]["info"]["description"] for source in sources)


def test_operation_ids_are_unique() -> None:
    names = Counter(content["operationId"] for _, _, _, content in operations())
    assert max(names.values()) == 1, names.most_common(3)


def test_there_are_124_documented_operations() -> None:
    assert Counter(document for document, *_ in ROUTES) == {
        "defender-endpoint": 115,
        "defender-xdr": 4,
        "graph-security": 5,
    }


@pytest.mark.parametrize(("document", "name", "method", "path"), [pytest.param(*row, id=row[1]) for row in ROUTES])
def test_documented_route_is_there(document: str, name: str, method: str, path: str) -> None:
    assert (document, method.lower(), path) in {(d, m, p) for d, m, p, o in operations() if o["operationId"] == name}


def test_no_route_is_there_but_the_documented_and_those_of_metadata() -> None:
    documented = {name for _, name, _, _ in ROUTES}
    undocumented = {
        content["operationId"]: (method.upper(), path)
        for _, method, path, content in operations()
        if content["operationId"] not in documented
    }
    assert undocumented == UNDOCUMENTED


@pytest.mark.parametrize(("document", "method", "path", "operation"), OPERATIONS)
def test_operation_is_described(document: str, method: str, path: str, operation: dict[str, Any]) -> None:
    assert path.startswith("/security/" if document == "graph-security" else "/api/")
    assert operation["summary"]
    assert operation["tags"]
    assert set(operation["tags"]) <= {tag["name"] for tag in DOCUMENTS[document]["tags"]}
    assert operation["responses"]["default"] == {"$ref": "#/components/responses/Error"}
    assert any(status.startswith("2") for status in operation["responses"])
    assert method != "get" or "requestBody" not in operation


@pytest.mark.parametrize(("document", "method", "path", "operation"), OPERATIONS)
def test_operation_has_a_page_or_says_that_it_has_none(
    document: str, method: str, path: str, operation: dict[str, Any]
) -> None:
    del document, method, path
    if operation["operationId"] in UNDOCUMENTED:
        assert operation["x-source"] == "metadata"
        assert operation["description"].startswith("Not documented.")
        assert "x-doc" not in operation
        assert "x-rate-limit" not in operation
    else:
        assert PAGE.fullmatch(operation["x-doc"])
        assert "x-source" not in operation


@pytest.mark.parametrize(("document", "method", "path", "operation"), OPERATIONS)
def test_each_placeholder_is_a_declared_parameter(
    document: str, method: str, path: str, operation: dict[str, Any]
) -> None:
    del method
    declared = [
        resolved(document, parameter)
        for parameter in (*DOCUMENTS[document]["paths"][path].get("parameters", ()), *operation.get("parameters", ()))
    ]
    assert [p["name"] for p in declared if p["in"] == "path"] == re.findall(r"\{(\w+)\}", path)
    assert all(parameter["required"] for parameter in declared if parameter["in"] == "path")
    assert len({(parameter["in"], parameter["name"]) for parameter in declared}) == len(declared)


@pytest.mark.parametrize(("document", "method", "path", "operation"), OPERATIONS)
def test_answer_leads_to_an_entity(document: str, method: str, path: str, operation: dict[str, Any]) -> None:
    del method, path
    properties = entity_properties(document, operation)
    assert bool(properties) == (operation["operationId"] not in NO_ENTITY)
    # An entity's schema stands under a name of its own.
    assert properties is None or properties in [
        schema.get("properties") for schema in DOCUMENTS[document]["components"]["schemas"].values()
    ]


@pytest.mark.parametrize(
    ("document", "operation"),
    [
        pytest.param(document, content, id=content["operationId"])
        for document, _, _, content in operations()
        if "x-filterable" in content
    ],
)
def test_filterable_names_are_properties_of_the_entity(document: str, operation: dict[str, Any]) -> None:
    names = operation["x-filterable"]
    properties = entity_properties(document, operation)
    assert properties is not None
    assert set(names) <= properties.keys()
    assert len(set(names)) == len(names)
    assert "$filter" in {resolved(document, parameter)["name"] for parameter in operation["parameters"]}


def test_collections_page_and_nothing_else_does() -> None:
    """What is listed or exported as JSON pages; single entities, statistics, counts and download addresses do not."""
    reads = {operation.name: operation for operation in load_catalog().operations if operation.method == "GET"}
    paging = {name for name, operation in reads.items() if operation.pages}
    lists = {name for name in reads if re.match(r"list|find\w+By|export\w+Json", name)}
    assert lists - paging == {"listRecommendationSoftware"}  # its page shows one product, not a list
    assert not paging - lists
    assert not [o.name for o in load_catalog().operations if o.method != "GET" and o.pages]


def test_graph_is_never_policed() -> None:
    assert {name: content.get("x-case-sensitive", True) for name, content in DOCUMENTS.items()} == {
        "defender-endpoint": True,
        "defender-xdr": True,
        "graph-security": False,
    }


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
def test_each_accepted_name_has_a_source(schema: dict[str, Any]) -> None:
    for name, content in schema["properties"].items():
        accepted = content.get("x-accepted-names", [])
        assert [*content.get("x-accepted-sources", {})] == accepted, name
        weaker = SOURCES[1:]
        assert all(source in weaker for source in content.get("x-accepted-sources", {}).values()), name


def test_what_is_not_null_in_its_only_source_is_required() -> None:
    assert body_schema("setExclusion")[1] == {"$ref": "#/components/schemas/SetExclusionRequest"}
    assert DOCUMENTS["defender-endpoint"]["components"]["schemas"]["SetExclusionRequest"]["required"] == ["IsExcluded"]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_nothing_required_is_filled_in_by_the_service(schema: dict[str, Any]) -> None:
    assert not any(schema["properties"][name].get("readOnly") for name in schema.get("required", ()))


@pytest.mark.parametrize(("document", "operation"), BODIES)
def test_each_body_parameter_has_a_description(document: str, operation: str) -> None:
    for name, content in body_properties(document, body_schema(operation)[1], set()):
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
        assert value == first or (first.isalnum() and not value.isalnum()) or (first, value) in TWO_SPELLINGS


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
        pytest.param(
            "createAlertByReference",
            {
                "machineId": "m",
                "severity": "Low",
                "title": "t",
                "description": "d",
                "recommendedAction": "r",
                "eventTime": "2018-08-03T16:45:21.7115183Z",
                "reportId": "20776",
                "category": "Exploit",
            },
            id="alert-on-an-event",
        ),
        pytest.param("offboardMachine", {"Comment": "c"}, id="offboard"),
        pytest.param("startInvestigation", {"Comment": "c"}, id="investigate"),
        pytest.param("cancelMachineAction", {"Comment": "c"}, id="cancel"),
        pytest.param("setDeviceValue", {"DeviceValue": "High"}, id="value-of-a-device"),
        pytest.param("updateMachine", {"machineTags": ["a", "b"], "deviceValue": "High"}, id="change-to-a-device"),
        pytest.param("addOrRemoveMachineTag", {"Value": "t", "Action": "Add"}, id="tag"),
        pytest.param(
            "addOrRemoveTagForMultipleMachines", {"Value": "t", "Action": "Remove", "MachineIds": ["m"]}, id="tags"
        ),
        pytest.param("batchDeleteIndicators", {"IndicatorIds": ["1", "2"]}, id="indicators-to-delete"),
        pytest.param(
            "createScanDefinition",
            {
                "scanType": "Windows",
                "scanName": "n",
                "isActive": True,
                "target": "127.0.0.1",
                "intervalInHours": 1,
                "targetType": "Ip",
                "scannerAgent": {"machineId": "m"},
                "scanAuthenticationParams": {
                    "@odata.type": "#microsoft.windowsDefenderATP.api.WindowsAuthParams",
                    "type": "Kerberos",
                    "username": "u",
                    "domain": "d",
                    "isGmsaUser": True,
                },
            },
            id="scan-as-in-the-example",
        ),
        pytest.param(
            "createScanDefinition",
            {
                "scanType": "Network",
                "targetType": "IP Address",
                "scanAuthenticationParams": {
                    "@odata.type": "#microsoft.windowsDefenderATP.api.SnmpAuthParams",
                    "type": "AuthPriv",
                    "KeyVaultUrl": "k",
                    "KeyVaultSecretName": "s",
                    "Domain": "d",
                    "Username": "u",
                    "IsGMSAUser": True,
                    "CommunityString": "c",
                    "AuthProtocol": "SHA1",
                    "AuthPassword": "p",
                    "PrivProtocol": "3DES",
                    "PrivPassword": "p",
                },
            },
            id="scan-as-in-the-table",
        ),
        pytest.param(
            "updateScanDefinition",
            {
                "scannerAgent": {"AssignedApplicationId": "a", "ScannerSoftwareVersion": "v", "mdeClientVersion": "v"},
                "latestScan": {"status": "Fail", "failureReason": "r"},
                "scanAuthenticationParams": {"type": "Ntlm", "isgmsaUser": False, "keyVaultUri": "k"},
            },
            id="scan-as-in-the-answer",
        ),
        pytest.param("batchDeleteScanDefinitions", {"ScanDefinitionIds": ["1"]}, id="scans-to-delete"),
        pytest.param("getScanHistoryByDefinition", {"ScanDefinitionIds": ["1"]}, id="history-by-definition"),
        pytest.param("getScanHistoryBySession", {"SessionIds": "1"}, id="history-by-session"),
        pytest.param(
            "uploadLibraryFile",
            {"file": "f", "ParametersDescription": "p", "HasParameters": "true", "OverrideIfExists": "true"},
            id="form-as-in-the-example",
        ),
        pytest.param("uploadLibraryFile", {"File": "f", "Description": "d"}, id="form-as-in-the-table"),
        pytest.param("setExclusion", {"IsExcluded": True, "ExclusionReason": "DuplicateDevice"}, id="undocumented"),
        pytest.param("graphRunHuntingQuery", {"Query": "q", "Timespan": "P90D"}, id="query-of-graph"),
        pytest.param(
            "graphCreateAlertComment",
            {"@odata.type": "microsoft.graph.security.alertComment", "comment": "c"},
            id="comment-of-graph",
        ),
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
        pytest.param("batchDeleteIndicators", {"ids": ["1"]}, id="another-name"),
        pytest.param("getScanHistoryBySession", {"sessionId": "1"}, id="singular"),
        pytest.param("createScanDefinition", {"targets": "127.0.0.1"}, id="plural"),
        pytest.param("setDeviceValue", {"deviceValue": "Low"}, id="spelling-of-a-sibling"),
        pytest.param("createScanDefinition", {"scanAuthenticationParams": {"IsGmsaUser": True}}, id="fourth-spelling"),
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
        ("uploadLibraryFile", "file", ["File"]),
    ],
)
def test_strongest_source_names_the_parameter(operation: str, name: str, accepted: list[str]) -> None:
    document, schema = body_schema(operation)
    assert resolved(document, schema)["properties"][name]["x-accepted-names"] == accepted


@pytest.mark.parametrize(
    ("schema", "name", "accepted"),
    [
        ("ScanAuthenticationParams", "isgmsaUser", {"isGmsaUser": "example", "IsGMSAUser": "table"}),
        ("ScanAuthenticationParams", "username", {"Username": "table"}),
        ("ScanAuthenticationParams", "domain", {"Domain": "table"}),
        ("ScanAuthenticationParams", "keyVaultSecretName", {"KeyVaultSecretName": "table"}),
        ("ScanAuthenticationParams", "communityString", {"CommunityString": "table"}),
        ("ScanAuthenticationParams", "privProtocol", {"PrivProtocol": "table"}),
        ("ScannerAgentRequest", "assignedApplicationId", {"AssignedApplicationId": "example"}),
        ("Machine", "healthStatus", {"HealthStatus": "prose"}),
        ("Machine", "onboardingStatus", {"onboardingstatus": "table"}),
        ("Alert", "investigationId", {"InvestigationId": "prose"}),
        ("RemediationTask", "createdOn", {"createdon": "prose"}),
        ("BaselineConfiguration", "cce", {"CCE": "prose"}),
    ],
)
def test_weaker_sources_are_kept(schema: str, name: str, accepted: dict[str, str]) -> None:
    properties = DOCUMENTS["defender-endpoint"]["components"]["schemas"][schema]["properties"]
    assert properties[name]["x-accepted-sources"] == accepted


def test_error_codes_are_unique() -> None:
    codes = [entry["code"] for entry in CODES]
    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize("entry", [pytest.param(entry, id=entry["code"]) for entry in CODES])
def test_error_code_is_described(entry: dict[str, Any]) -> None:
    assert entry.keys() - {"aliases"} == {"code", "status", "cause", "remedy", "pages"}
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
