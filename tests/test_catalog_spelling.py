"""Every name and value of the shipped catalog, as the check treats it, and every route, as the matcher finds it.

The documents are read here once more, without the loader: they say what has to hold, the loaded catalog does it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
import yaml

from proxy.core.check import Checked, check
from proxy.core.model import Action, BodyResult, Kind, Mode
from proxy.resources import load_catalog

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.core.catalog import Catalog, Operation

CATALOG = Path(__file__).parent.parent / "config" / "catalog"
DOCUMENTS = {
    path.stem: yaml.load(path.read_text("utf-8"), Loader=yaml.CSafeLoader) for path in sorted(CATALOG.glob("*.yaml"))
}
METHODS = {"get", "put", "post", "delete", "patch"}
JSON = ((b"content-type", b"application/json"),)

# What the wire holds in place of a placeholder, where not any word will do.
SAMPLES = {"ip": "10.0.0.1", "timestamp": "2019-09-22T08:44:05Z", "key": "'10.166.93.61'", "index": "0"}


@dataclass(frozen=True)
class Documented:
    """An operation as its document has it; `bases` are the paths that its servers put before its own."""

    name: str
    method: str
    path: str
    bases: tuple[str, ...]
    body: Place | None


@dataclass(frozen=True)
class Name:
    """A parameter as its document has it: the spelling to propose, all that pass, and what its value may be."""

    name: str
    accepted: tuple[str, ...]
    required: bool
    values: tuple[str, ...]
    levels: int


@dataclass(frozen=True)
class Place:
    """An object in a body: the names on the way to it with the arrays around each, and its own names."""

    way: tuple[Name, ...]
    names: tuple[Name, ...]
    inside: tuple[Place, ...]

    def __str__(self) -> str:
        """Return the way to this place, as it reads in the id of a test."""
        return ".".join(step.name for step in self.way) or "body"

    def everywhere(self) -> Iterator[Place]:
        """Yield this place and all inside it."""
        yield self
        for place in self.inside:
            yield from place.everywhere()

    def holding(self, name: str, value: object = None) -> tuple[bytes, str]:
        """Return a body that holds `name` here and nothing else but the way to it, and the pointer to it."""
        document: Any = {name: value}
        pointer = "/" + name
        for step in reversed(self.way):
            for _ in range(step.levels):
                document = [document]
            document = {step.name: document}
            pointer = f"/{step.name}" + "/0" * step.levels + pointer
        return json.dumps(document).encode(), pointer


def resolved(document: str, node: dict[str, Any]) -> dict[str, Any]:
    """Return `node`, or what it refers to."""
    while "$ref" in node:
        target: Any = DOCUMENTS[document]
        for token in node["$ref"].removeprefix("#/").split("/"):
            target = target[token]
        node = target
    return node


def element(document: str, schema: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """Return the schema inside the arrays of `schema`, and their number."""
    schema, levels = resolved(document, schema), 0
    while "items" in schema:
        schema, levels = resolved(document, schema["items"]), levels + 1
    return schema, levels


def place_of(document: str, schema: dict[str, Any], way: tuple[Name, ...] = ()) -> Place:
    schema, _ = element(document, schema)
    names, inside = [], []
    for name, content in schema["properties"].items():
        value, levels = element(document, content)
        parameter = Name(
            name,
            (name, *content.get("x-accepted-names", ())),
            name in schema.get("required", ()),
            tuple(value.get("enum", ())),
            levels,
        )
        names.append(parameter)
        if "properties" in value:
            inside.append(place_of(document, value, (*way, parameter)))
    return Place(way, tuple(names), tuple(inside))


def documented_operations() -> Iterator[Documented]:
    for document, content in DOCUMENTS.items():
        policed = content.get("x-case-sensitive", True)
        bases = tuple(dict.fromkeys(re.sub(r"^https://[^/]*", "", server["url"]) for server in content["servers"]))
        for path, item in content["paths"].items():
            for method, operation in item.items():
                if method in METHODS:
                    media = operation.get("requestBody", {}).get("content", {}).get("application/json")
                    body = place_of(document, media["schema"]) if media and policed else None
                    yield Documented(operation["operationId"], method.upper(), path, bases, body)


DOCUMENTED = tuple(documented_operations())
BODIES = {documented.name: documented.body for documented in DOCUMENTED if documented.body is not None}
PLACES = [(name, place) for name, body in BODIES.items() for place in body.everywhere()]
NAMES = [(name, place, parameter) for name, place in PLACES for parameter in place.names]

each_place = pytest.mark.parametrize(
    ("name", "place"), [pytest.param(name, place, id=f"{name}-{place}") for name, place in PLACES]
)
each_name = pytest.mark.parametrize(
    ("name", "place", "parameter"),
    [pytest.param(name, place, one, id=f"{name}-{place}-{one.name}") for name, place, one in NAMES],
)
each_enumeration = pytest.mark.parametrize(
    ("name", "place", "parameter"),
    [pytest.param(name, place, one, id=f"{name}-{place}-{one.name}") for name, place, one in NAMES if one.values],
)
each_operation = pytest.mark.parametrize("documented", [pytest.param(one, id=one.name) for one in DOCUMENTED])


@cache
def catalog() -> Catalog:
    return load_catalog()


@cache
def operation(name: str) -> Operation:
    (found,) = (operation for operation in catalog().operations if operation.name == name)
    return found


def checked(name: str, body: bytes, mode: Mode = Mode.REJECT) -> Checked:
    shape = operation(name).body
    assert shape is not None
    return check(body, JSON, shape, mode, limit_bytes=1 << 20)


def fold(name: str) -> str:
    """Return `name` without what the check overlooks: ASCII letter case, `_`, `-` and spaces."""
    return re.sub("[A-Z]", lambda upper: chr(ord(upper[0]) + 32), re.sub("[-_ ]", "", name))


def words(name: str) -> list[str]:
    return re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^A-Za-z\d\s_-]+", name)


def recasings(name: str) -> set[str]:
    """Return the ways in which clients write `name` who write all names in one way."""
    lower = [word.lower() for word in words(name)]
    pascal = "".join(word.capitalize() for word in lower)
    return {
        name.lower(),
        name.upper(),
        name[:1].lower() + name[1:],
        name[:1].upper() + name[1:],
        pascal[:1].lower() + pascal[1:],
        pascal,
        "_".join(lower),
        "-".join(lower),
        " ".join(lower),
        "_".join(lower).upper(),
    }


def test_there_are_bodies_to_check() -> None:
    assert len(BODIES) == 34
    assert {*BODIES} == {op.name for op in catalog().operations if op.is_checked}


@pytest.mark.parametrize("name", ["IsolationType", "mitreTechniques", "isgmsaUser", "@odata.type", "3DES"])
def test_recasings_differ_in_nothing_but_spelling(name: str) -> None:
    assert {fold(spelling) for spelling in recasings(name)} == {fold(name)}


def test_recasings_cover_the_usual_ones() -> None:
    assert recasings("IsolationType") == {
        "isolationtype", "ISOLATIONTYPE", "isolationType", "IsolationType",
        "isolation_type", "isolation-type", "isolation type", "ISOLATION_TYPE",
    }  # fmt: skip


@each_name
def test_documented_spellings_pass(name: str, place: Place, parameter: Name) -> None:
    for spelling in parameter.accepted:
        body, _ = place.holding(spelling)
        assert checked(name, body) == Checked(BodyResult.CLEAN), spelling


@each_name
def test_other_spellings_are_caught(name: str, place: Place, parameter: Name) -> None:
    wrong = {recasing for spelling in parameter.accepted for recasing in recasings(spelling)} - {*parameter.accepted}
    assert wrong
    for spelling in wrong:
        body, pointer = place.holding(spelling)
        found = checked(name, body)
        (mismatch,) = found.findings.mismatches
        assert (found.result, found.action) == (BodyResult.MISMATCH, Action.REJECTED)
        assert (mismatch.kind, mismatch.pointer, mismatch.got) == (Kind.NAME, pointer, spelling)
        assert (mismatch.expected, mismatch.parameter) == (parameter.name, parameter.name)
        assert mismatch.required is parameter.required
        assert not found.findings.unknown_count


@each_name
def test_other_spellings_are_put_right(name: str, place: Place, parameter: Name) -> None:
    right, _ = place.holding(parameter.name)
    for spelling in recasings(parameter.name) - {*parameter.accepted}:
        body, _ = place.holding(spelling)
        assert checked(name, body, Mode.FIX).fixed_body == right


@each_enumeration
def test_documented_values_pass(name: str, place: Place, parameter: Name) -> None:
    for value in parameter.values:
        body, _ = place.holding(parameter.name, in_arrays(value, parameter))
        assert checked(name, body) == Checked(BodyResult.CLEAN), value


@each_enumeration
def test_other_spellings_of_values_are_caught(name: str, place: Place, parameter: Name) -> None:
    proposed: dict[str, str] = {}
    for value in parameter.values:
        proposed.setdefault(fold(value), value)
    for wrong in {recasing for value in parameter.values for recasing in recasings(value)} - {*parameter.values}:
        for spelling in parameter.accepted:
            body, pointer = place.holding(spelling, in_arrays(wrong, parameter))
            (mismatch,) = checked(name, body).findings.mismatches
            assert (mismatch.kind, mismatch.pointer) == (Kind.VALUE, pointer + "/0" * parameter.levels)
            assert (mismatch.got, mismatch.expected) == (wrong, proposed[fold(wrong)])
            assert mismatch.parameter == parameter.name


def in_arrays(value: object, parameter: Name) -> object:
    for _ in range(parameter.levels):
        value = [value]
    return value


EVERY_SPELLING = sorted({spelling for _, _, parameter in NAMES for spelling in parameter.accepted})


@each_place
def test_no_name_leaks_from_elsewhere(name: str, place: Place) -> None:
    here = {fold(spelling): parameter for parameter in place.names for spelling in parameter.accepted}
    for spelling in EVERY_SPELLING:
        body, pointer = place.holding(spelling)
        findings = checked(name, body).findings
        parameter = here.get(fold(spelling))
        if parameter is None:
            assert not findings.mismatches, spelling
            assert [unknown.pointer for unknown in findings.unknown] == [pointer]
        elif spelling in parameter.accepted:
            assert not findings.mismatches, spelling
        else:
            assert [mismatch.expected for mismatch in findings.mismatches] == [parameter.name], spelling


@pytest.mark.parametrize(
    ("name", "body", "mismatches"),
    [
        pytest.param("isolateMachine", {"Comment": "c"}, [], id="Comment-of-an-action"),
        pytest.param("isolateMachine", {"comment": "c"}, ["Comment"], id="comment-of-an-action"),
        pytest.param("batchUpdateAlerts", {"comment": "c"}, [], id="comment-of-alerts"),
        pytest.param("batchUpdateAlerts", {"Comment": "c"}, ["comment"], id="Comment-of-alerts"),
        pytest.param("updateAlert", {"Comment": "c", "Status": "New"}, [], id="both-on-one-page"),
        pytest.param("updateIncident", {"Comment": "c"}, ["comment"], id="Comment-of-an-incident"),
        pytest.param("updateIncident", {"comments": "c"}, [], id="another-word"),
        pytest.param("addOrRemoveMachineTag", {"Action": "Add", "Value": "t"}, [], id="Action-of-a-tag"),
        pytest.param("addOrRemoveMachineTag", {"action": "Add"}, ["Action"], id="action-of-a-tag"),
        pytest.param("submitIndicator", {"action": "Block"}, [], id="action-of-an-indicator"),
        pytest.param("submitIndicator", {"Action": "Block"}, ["action"], id="Action-of-an-indicator"),
        pytest.param("addOrRemoveMachineTag", {"value": "t"}, ["Value"], id="value-of-a-tag"),
        pytest.param(
            "runLiveResponse", {"Commands": [{"params": [{"value": "v"}]}]}, [], id="value-of-a-live-response"
        ),
        pytest.param(
            "runLiveResponse", {"Commands": [{"params": [{"Value": "v"}]}]}, ["value"], id="Value-of-a-live-response"
        ),
        pytest.param("setDeviceValue", {"DeviceValue": "Low"}, [], id="DeviceValue-of-the-action"),
        pytest.param("setDeviceValue", {"deviceValue": "Low"}, ["DeviceValue"], id="deviceValue-of-the-action"),
        pytest.param("updateMachine", {"deviceValue": "Low"}, [], id="deviceValue-of-the-change"),
        pytest.param("updateMachine", {"DeviceValue": "Low"}, ["deviceValue"], id="DeviceValue-of-the-change"),
        pytest.param("runAntiVirusScan", {"scanType": "Quick"}, ["ScanType"], id="scanType-of-an-antivirus-scan"),
        pytest.param("createScanDefinition", {"ScanType": "Network"}, ["scanType"], id="ScanType-of-a-definition"),
        pytest.param("batchDeleteIndicators", {"indicatorIds": ["1"]}, ["IndicatorIds"], id="indicatorIds"),
        pytest.param("batchDeleteIndicators", {"ids": ["1"]}, [], id="ids"),
        pytest.param(
            "getScanHistoryByDefinition", {"scanDefinitionIds": ["1"]}, ["ScanDefinitionIds"], id="scanDefinitionIds"
        ),
        pytest.param("getScanHistoryBySession", {"sessionId": "1"}, [], id="sessionId"),
        pytest.param("createScanDefinition", {"targets": "t", "authenticationParameters": {}}, [], id="other-words"),
        pytest.param("createScanDefinition", {"targetType": "IP Address"}, [], id="target-type-in-the-table"),
        pytest.param("createScanDefinition", {"targetType": "Ip"}, [], id="target-type-in-the-example"),
        pytest.param(
            "updateScanDefinition",
            {"scanAuthenticationParams": {"@odata.type": "#microsoft.windowsDefenderATP.api.WindowsAuthParams",
                                          "type": "Kerberos", "username": "u", "domain": "d", "isGmsaUser": True}},
            [],
            id="authentication-in-the-example",
        ),
        pytest.param(
            "updateScanDefinition",
            {"scanAuthenticationParams": {"Username": "u", "Domain": "d", "IsGMSAUser": True, "KeyVaultUrl": "k"}},
            [],
            id="authentication-in-the-table",
        ),
        pytest.param(
            "updateScanDefinition",
            {"scanAuthenticationParams": {"IsGmsaUser": True, "AUTHPASSWORD": "p"}},
            ["isgmsaUser", "authPassword"],
            id="authentication-as-nowhere",
        ),
        *(
            pytest.param("updateIncident", {name: label}, [], id=f"label-{label}")
            for name, label in [
                ("classification", "True positive"),
                ("classification", "False Positive"),
                ("classification", "Informational, expected activity"),
                ("determination", "Multi staged attack"),
                ("determination", "Not enough data to validate"),
                ("determination", "Security test"),
            ]
        ),
        pytest.param("updateAlert", {"classification": "True positive"}, [], id="heading-of-alerts"),
        pytest.param("initiateInvestigation", {"comment": "c"}, ["Comment"], id="undocumented-action"),
    ],
)  # fmt: skip
def test_names_that_other_operations_write_otherwise(name: str, body: dict[str, Any], mismatches: list[str]) -> None:
    found = checked(name, json.dumps(body).encode())
    assert [mismatch.expected for mismatch in found.findings.mismatches] == mismatches


def test_graph_is_named_and_never_policed() -> None:
    graph = [op for op in catalog().operations if op.name.startswith("graph")]
    assert len(graph) == 5
    assert not any(op.policed or op.is_checked for op in graph)


# ---- Routes


def target(operation: Documented, base: str | None = None) -> str:
    """Return a path on the wire that `operation` answers to."""
    base = operation.bases[0] if base is None else base
    return base + re.sub(r"\{(\w+)\}", lambda m: SAMPLES.get(m[1], "1e5bc9d7e413"), operation.path)


def encoded(path: str) -> str:
    """Return `path` with every octet percent-encoded but the slashes."""
    return "/".join("".join(f"%{ord(char):02X}" for char in segment) for segment in path.split("/"))


def found(method: str, path: str) -> str:
    return catalog().match(method, path).name


@each_operation
def test_operation_is_found_by_its_documented_path(documented: Documented) -> None:
    for base in documented.bases:
        assert found(documented.method, target(documented, base)) == documented.name
        assert found(documented.method, target(documented, base) + "?$top=5&$filter=a/b") == documented.name


@each_operation
def test_operation_is_found_in_any_letter_case(documented: Documented) -> None:
    for path in (target(documented).lower(), target(documented).upper(), target(documented).swapcase()):
        assert found(documented.method, path) == documented.name


@each_operation
def test_operation_is_found_percent_encoded(documented: Documented) -> None:
    path = target(documented)
    for coded in (encoded(path), encoded(path).lower(), quote(path, safe="/"), quote(path, safe="/'(),=:$")):
        assert found(documented.method, coded) == documented.name, coded


@each_operation
def test_operation_is_found_past_empty_segments(documented: Documented) -> None:
    path = target(documented)
    for more in (path + "/", path + "//", "/" + path, path.replace("/", "//"), path.replace("/", "///") + "/"):
        assert found(documented.method, more) == documented.name, more


@each_operation
def test_a_version_behind_api_makes_no_difference(documented: Documented) -> None:
    path = target(documented)
    for version in ("/api/v1.0/", "/API/V1.0/", "/api//v1.0//", "/%61pi/v1%2E0/"):
        assert found(documented.method, re.sub("^/api/", version, path)) == documented.name


@each_operation
def test_operation_is_found_by_its_method_alone(documented: Documented) -> None:
    others = {op.method for op in DOCUMENTED if op.path == documented.path}
    for method in {"GET", "POST", "PATCH", "PUT", "DELETE"} - others:
        assert found(method, target(documented)) != documented.name


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("machines/findbyip(ip='10.0.0.1',timestamp=2019-09-22T08:44:05Z)", "findMachinesByIp"),
        ("Machines/FindByIp(Ip='10.0.0.1',Timestamp=2019-09-22T08:44:05Z)", "findMachinesByIp"),
        ("machines/findbyip(timestamp=2019-09-22T08:44:05Z,ip='10.0.0.1')", "findMachinesByIp"),
        ("machines/findbyip(ip='2001:db8::1',timestamp=2019-09-22T08:44:05Z)", "findMachinesByIp"),
        ("machines/findbyip(ip=%2710.0.0.1%27,timestamp=2019-09-22T08%3A44%3A05Z)", "findMachinesByIp"),
        ("machines/findbyip%28ip%3D%2710.0.0.1%27%2Ctimestamp%3D2019-09-22T08:44:05Z%29", "findMachinesByIp"),
        ("machines/find(timestamp=2018-06-19T10:00:00Z,key='10.166.93.61')", "findMachineByInternalIp"),
        ("machines/find(key='10.166.93.61',timestamp=2018-06-19T10:00:00Z)", "findMachineByInternalIp"),
        ("machines/findbytag?tag=testTag&useStartsWithFilter=true", "findMachinesByTag"),
        ("machineactions/988cc94e/GetLiveResponseResultDownloadLink(index=0)", "getLiveResponseResult"),
        ("machineactions/988cc94e/getliveresponseresultdownloadlink(index=12)", "getLiveResponseResult"),
        ("machines/findbyip", "getMachine"),
        ("machines/mymachine1.contoso.com", "getMachine"),
        ("machines/1e5bc9d7e413/alerts/$count?$filter=status+ne+'Resolved'", "countMachineAlerts"),
        ("machines/1e5bc9d7e413/alerts/%24count", "countMachineAlerts"),
        ("software/google-_-chrome/getmissingkbs", "listSoftwareMissingKbs"),
        ("recommendations/va-_-google-_-chrome/software", "listRecommendationSoftware"),
        ("vulnerabilities/machinesVulnerabilities", "listVulnerabilitiesByMachineAndSoftware"),
        ("Vulnerabilities/CVE-2019-0608", "getVulnerability"),
        ("domains/securitycenter.windows.com/stats?lookBackHours=48", "getDomainStatistics"),
        ("indicators/import", "unknown"),
    ],
)
def test_paths_as_the_pages_write_them(path: str, name: str) -> None:
    assert found("GET", "/api/" + path) == name
    assert found("GET", "/api/v1.0/" + path) == name


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("POST", "/API/machines/1e5bc9d7e413/runliveresponse", "runLiveResponse"),
        ("GET", "/alerts/da637/domains", "listAlertDomains"),
        ("GET", "/alerts/da637/ips", "listAlertIps"),
        ("GET", "/api/machineactions/988cc94e/GetPackageUri", "getInvestigationPackageUri"),
        ("GET", "/api/remediationtasks/", "listRemediationTasks"),
        ("GET", "/api/public/avdeviceshealth", "exportDeviceAvHealthJson"),
        ("GET", "/api/v1.0/public/AvDevicesHealth/", "exportDeviceAvHealthJson"),
        ("GET", "/api/deviceavinfo", "exportDeviceAvHealthJson"),
        ("POST", "/v1.0/security/runHuntingQuery", "graphRunHuntingQuery"),
        # get-agent-details.md writes the path of the whole list once.
        ("GET", "/api/DeviceAuthenticatedScanAgents", "listScanAgents"),
    ],
)
def test_the_other_paths_that_pages_give_lead_to_the_same_operation(method: str, path: str, name: str) -> None:
    assert found(method, path) == name


def segment_rank(template: str, segment: str) -> int | None:
    """Return how exactly `template` fits `segment`: 2 literally, 1 in part, 0 as any, None if not at all."""
    if re.fullmatch(r"\{\w+\}", template):
        return 0
    pattern = re.sub(r"\\\{\w+\\\}", ".*", re.escape(template))
    if re.fullmatch(pattern, segment, re.IGNORECASE) is None:
        return None
    return 2 if "{" not in template else 1


def rank(documented: Documented, method: str, segments: list[str]) -> list[int] | None:
    templates = documented.path.split("/")
    if documented.method != method or len(templates) != len(segments):
        return None
    ranks = [segment_rank(template, segment) for template, segment in zip(templates, segments, strict=True)]
    return None if None in ranks else [one for one in ranks if one is not None]


@each_operation
def test_no_operation_shadows_another(documented: Documented) -> None:
    """A placeholder may hold what is a literal of a sibling: the most literal of all that fit is found."""
    templates = documented.path.split("/")
    for index, template in enumerate(templates):
        if not re.fullmatch(r"\{\w+\}", template):
            continue
        literals = {
            other.path.split("/")[index]
            for other in DOCUMENTED
            if len(other.path.split("/")) > index and "{" not in other.path.split("/")[index]
        }
        for literal in literals - {""}:
            segments = target(replace(documented, bases=("",))).split("/")
            segments[index] = literal
            fitting = {op.name: rank(op, documented.method, segments) for op in DOCUMENTED}
            best = max(ranks for ranks in fitting.values() if ranks is not None)
            path = documented.bases[0] + "/".join(segments)
            assert fitting[found(documented.method, path)] == best, path


def test_no_two_operations_have_the_same_template() -> None:
    templates = [(op.method, re.sub(r"\{\w+\}", "{}", op.path).lower()) for op in DOCUMENTED]
    assert len(set(templates)) == len(templates) == len(catalog().operations)
