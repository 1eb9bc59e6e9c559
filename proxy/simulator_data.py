"""What the simulator knows: documented codes, operations and parameters, and a small tenant to act upon.

Written from Microsoft's reference pages, as plain literals in their exact spelling, and kept apart from
`config/` on purpose: the catalog that the proxy checks with must not vouch for itself. No sockets here;
`proxy.simulator` has them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote
from uuid import uuid4

if TYPE_CHECKING:
    from collections.abc import Mapping

# "Handling REST API errors" (Defender for Endpoint, common-errors.md; Defender XDR, api-error-codes.md) and
# run-live-response.md (ActiveRequestAlreadyExists). The texts are ours, in the documented sense.
CODES: Final[Mapping[str, tuple[int, str]]] = {
    "BadRequest": (400, "The request cannot be understood."),
    "ODataError": (400, "The OData query is not valid: unknown function 'frobnicate'."),
    "InvalidInput": (400, "The input 'simulated' is not valid."),
    "InvalidRequestBody": (400, "Request body is incorrect"),
    "InvalidHashValue": (400, "'0123' is no valid hash."),
    "InvalidDomainName": (400, "'simulated..example' is no valid domain."),
    "InvalidIpAddress": (400, "'192.0.2.256' is no valid IP address."),
    "InvalidUrl": (400, "'https//simulated.example' is no valid URL."),
    "MaximumBatchSizeExceeded": (400, "The batch is too large: received 501, allowed 500."),
    "MissingRequiredParameter": (400, "Parameter Comment is missing."),
    "OsPlatformNotSupported": (400, "The OS platform Simulated is not supported for this action."),
    "ClientVersionNotSupported": (400, "Isolate needs client version 10.8000 or later."),
    "ActiveRequestAlreadyExists": (400, "A live response session is already running on this device."),
    "Unauthorized": (401, "The token is missing, expired or not for this service."),
    "Forbidden": (403, "The token is valid, but its permissions do not cover this action."),
    "DisabledFeature": (403, "The feature is switched off for this tenant."),
    "DisallowedOperation": (403, "The operation Isolate is not allowed: the device is exempt."),
    "NotFound": (404, "Nothing here answers to this request."),
    "ResourceNotFound": (404, "The resource 'simulated' was not found."),
    "TooManyRequests": (429, "Too many requests; wait as Retry-After says."),
    "InternalServerError": (500, "Something failed inside the service; try again."),
}


@dataclass(frozen=True, slots=True)
class ErrorShape:
    """An error of another shape than the envelope; `{id}` in `text` stands for a new ID each time."""

    status: int
    media_type: str
    text: str
    encoding: str = "utf-8"


_JSON: Final = "application/json; charset=utf-8"

# Each as its maker documents it, or as it was seen; the texts are ours.
SHAPES: Final[Mapping[str, ErrorShape]] = {
    # Microsoft Graph, "error responses": no target, the ID further in.
    "graph": ErrorShape(
        403,
        "application/json",
        '{"error":{"code":"accessDenied","message":"The caller may not do this.",'
        '"innerError":{"date":"2025-06-30T11:19:00","request-id":"{id}","client-request-id":"{id}"}}}',
    ),
    # OData JSON Format 4.01, 21.1: the target is a property.
    "odata": ErrorShape(
        400,
        _JSON,
        '{"error":{"code":"BadRequest","message":"The filter is not valid.","target":"status",'
        '"details":[{"code":"Syntax","message":"Unknown function.","target":"$filter"}],"innererror":{}}}',
    ),
    # Azure Resource Manager, "error response".
    "arm": ErrorShape(
        404,
        _JSON,
        '{"error":{"code":"ResourceGroupNotFound","message":"There is no such resource group.","target":null,'
        '"details":[],"additionalInfo":[{"type":"PolicyViolation","info":{}}]}}',
    ),
    # Microsoft identity platform, "client credentials flow".
    "entra": ErrorShape(
        401,
        _JSON,
        '{"error":"invalid_client","error_description":"AADSTS7000215: The secret is not valid.\\r\\nTrace ID: {id}",'
        '"error_codes":[7000215],"timestamp":"2025-06-30 11:19:00Z","trace_id":"{id}","correlation_id":"{id}"}',
    ),
    # Azure API Management.
    "gateway": ErrorShape(401, "application/json", '{ "statusCode": 401, "message": "The key is missing." }'),
    "message": ErrorShape(404, _JSON, '{"Message":"No route answers to this address."}'),
    "quota": ErrorShape(
        429,
        "application/json",
        '{ "statusCode": 429, "message": "The rate limit is exceeded. Try again in 53 seconds." }',
    ),
    # Apigee, "fault handling".
    "fault": ErrorShape(
        500,
        "application/json",
        '{"fault":{"faultstring":"A policy failed","detail":{"errorcode":"steps.script.ExecutionFailed"}}}',
    ),
    # RFC 9457; ASP.NET Core adds traceId.
    "problem": ErrorShape(
        400,
        "application/problem+json",
        '{"type":"https://tools.ietf.org/html/rfc9110#section-15.5.1","title":"Bad Request","status":400,'
        '"detail":"One value is not valid.","traceId":"00-{id}-01"}',
    ),
    # Azure Storage, and OData in Atom.
    "xml": ErrorShape(
        403,
        "application/xml",
        '<?xml version="1.0" encoding="utf-8"?><Error><Code>AuthenticationFailed</Code>'
        "<Message>The signature does not fit.\nRequestId:{id}</Message></Error>",
    ),
    "soap": ErrorShape(
        500,
        "text/xml",
        '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><s:Fault><faultcode>s:Server</faultcode>'
        "<faultstring>It failed inside</faultstring></s:Fault></s:Body></s:Envelope>",
    ),
    "text": ErrorShape(503, "text/plain", "upstream connect error or disconnect/reset before headers"),
    "broken": ErrorShape(500, _JSON, '{"error":{"code":"InternalServerError","message":"It failed ins'),
    "utf-16": ErrorShape(400, "text/plain", '{"Message":"Größe 7 is unknown."}', "utf-16"),
    "array": ErrorShape(400, _JSON, '["not", "an", "error"]'),
    "mislabelled": ErrorShape(403, "text/html", '{"error":{"code":"Forbidden","message":"No.","target":"{id}"}}'),
}


class ServiceError(Exception):
    """An error envelope is the answer; without a message the code's own text serves."""

    def __init__(self, code: str, message: str | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.message = message


class Kind(Enum):
    """What JSON a parameter takes."""

    TEXT = auto()
    TEXTS = auto()
    TEXT_OR_TEXTS = auto()
    FLAG = auto()
    OBJECTS = auto()


@dataclass(frozen=True, slots=True)
class Parameter:
    """A body parameter; `values` are the only texts allowed, `most` bounds an array, `members` are its objects'."""

    required: bool = False
    kind: Kind = Kind.TEXT
    values: tuple[str, ...] = ()
    members: Mapping[str, Parameter] = field(default_factory=dict)
    most: int | None = None


class Shape(Enum):
    """What an operation answers."""

    MACHINE_ACTION = auto()
    PATCHED = auto()
    NOTHING = auto()
    INDICATOR = auto()
    IMPORT = auto()
    HUNTING = auto()
    PAGE = auto()
    MACHINE = auto()


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation; `path` stands behind `/api`, `*` for any one segment.

    `subject` is the machine action's type or the collection that is read or written. `parameters` is None
    for an operation without a body.
    """

    method: str
    path: str
    shape: Shape
    subject: str
    parameters: Mapping[str, Parameter] | None = None
    status: int = 200


def _texts(*values: str) -> Parameter:
    return Parameter(values=values)


_OPTIONAL: Final = Parameter()
_REQUIRED: Final = Parameter(required=True)

# isolate-machine.md and its siblings: PascalCase, Comment required. IsolationType is not marked as required.
_COMMENT: Final = {"Comment": _REQUIRED}

# run-live-response.md: Pascal, then lower case, then Pascal values, in one body; nothing is marked as required.
_LIVE_RESPONSE: Final = {
    "Comment": _OPTIONAL,
    "Commands": Parameter(
        kind=Kind.OBJECTS,
        members={
            "type": _texts("PutFile", "RunScript", "GetFile"),
            "params": Parameter(
                kind=Kind.OBJECTS,
                members={"key": _texts("FileName", "ScriptName", "Args", "Path"), "value": _OPTIONAL},
            ),
        },
    ),
}

# post-ti-indicator.md; the table writes generateAlert, its prose GenerateAlert and TRUE. externalID: ti-indicator.md.
_GENERATE_ALERT: Final = Parameter(kind=Kind.FLAG, values=("True", "False", "TRUE", "FALSE"))
_INDICATOR: Final = {
    "indicatorValue": _REQUIRED,
    "indicatorType": Parameter(
        required=True,
        values=("FileSha1", "FileMd5", "CertificateThumbprint", "FileSha256", "IpAddress", "DomainName", "Url"),
    ),
    "action": Parameter(
        required=True,
        values=("Alert", "Warn", "Block", "Audit", "BlockAndRemediate", "AlertAndBlock", "Allowed"),
    ),
    "application": _OPTIONAL,
    "title": _REQUIRED,
    "description": _REQUIRED,
    "expirationTime": _OPTIONAL,
    "severity": _texts("Informational", "Low", "Medium", "High"),
    "recommendedActions": _OPTIONAL,
    "rbacGroupNames": Parameter(kind=Kind.TEXT_OR_TEXTS),
    "educateUrl": _OPTIONAL,
    "generateAlert": _GENERATE_ALERT,
    "GenerateAlert": _GENERATE_ALERT,
    "externalID": _OPTIONAL,
}

# update-alert.md: the table's Status is status in the example, and so on; both are documented, assignedTo is not.
# ConfirmedUserActivity and Clean come from alerts.md and batch-update-alerts.md.
_ALERT_STATUS: Final = _texts("New", "InProgress", "Resolved")
_ALERT_CLASSIFICATION: Final = _texts(
    "TruePositive", "InformationalExpectedActivity", "Informational, expected activity", "FalsePositive"
)
_ALERT_DETERMINATION: Final = _texts(
    "MultiStagedAttack",
    "MaliciousUserActivity",
    "CompromisedUser",
    "Malware",
    "Phishing",
    "UnwantedSoftware",
    "SecurityTesting",
    "LineOfBusinessApplication",
    "ConfirmedActivity",
    "ConfirmedUserActivity",
    "NotMalicious",
    "Clean",
    "InsufficientData",
    "Other",
)
_ALERT_BATCH: Final = {
    "alertIds": Parameter(required=True, kind=Kind.TEXTS),
    "status": _ALERT_STATUS,
    "assignedTo": _OPTIONAL,
    "classification": _ALERT_CLASSIFICATION,
    "determination": _ALERT_DETERMINATION,
    "comment": _OPTIONAL,
}
_ALERT: Final = {
    "status": _ALERT_STATUS,
    "Status": _ALERT_STATUS,
    "assignedTo": _OPTIONAL,
    "classification": _ALERT_CLASSIFICATION,
    "Classification": _ALERT_CLASSIFICATION,
    "determination": _ALERT_DETERMINATION,
    "Determination": _ALERT_DETERMINATION,
    "comment": _OPTIONAL,
    "Comment": _OPTIONAL,
}

# api-update-incidents.md (Defender XDR).
_INCIDENT: Final = {
    "status": _texts("Active", "Resolved", "InProgress", "Redirected"),
    "assignedTo": _OPTIONAL,
    "classification": _texts("TruePositive", "InformationalExpectedActivity", "FalsePositive"),
    "determination": _texts(
        "MultiStagedAttack",
        "MaliciousUserActivity",
        "CompromisedAccount",
        "Malware",
        "Phishing",
        "UnwantedSoftware",
        "SecurityTesting",
        "LineOfBusinessApplication",
        "ConfirmedActivity",
        "Clean",
        "NoEnoughDataToValidate",
        "Other",
    ),
    "tags": Parameter(kind=Kind.TEXTS),
    "comment": _OPTIONAL,
}


def _action(name: str, kind: str, parameters: Mapping[str, Parameter]) -> Operation:
    """Return a machine action: 201 and a pending `machineAction` of that kind."""
    return Operation("POST", f"machines/*/{name}", Shape.MACHINE_ACTION, kind, parameters, 201)


OPERATIONS: Final = (
    _action("isolate", "Isolate", {**_COMMENT, "IsolationType": _texts("Full", "Selective", "UnManagedDevice")}),
    _action("unisolate", "Unisolate", _COMMENT),
    _action("restrictCodeExecution", "RestrictCodeExecution", _COMMENT),
    _action("unrestrictCodeExecution", "UnrestrictCodeExecution", _COMMENT),
    _action(
        "runAntiVirusScan",
        "RunAntiVirusScan",
        {**_COMMENT, "ScanType": Parameter(required=True, values=("Quick", "Full"))},
    ),
    _action("StopAndQuarantineFile", "StopAndQuarantineFile", {**_COMMENT, "Sha1": _REQUIRED}),
    _action("collectInvestigationPackage", "CollectInvestigationPackage", _COMMENT),
    _action("runliveresponse", "LiveResponse", _LIVE_RESPONSE),
    Operation("POST", "indicators", Shape.INDICATOR, "indicators", _INDICATOR),
    Operation(
        "POST",
        "indicators/import",
        Shape.IMPORT,
        "indicators",
        {"Indicators": Parameter(required=True, kind=Kind.OBJECTS, members=_INDICATOR, most=500)},
    ),
    Operation("POST", "alerts/batchUpdate", Shape.NOTHING, "alerts", _ALERT_BATCH),
    Operation("PATCH", "alerts/*", Shape.PATCHED, "alerts", _ALERT),
    Operation("PATCH", "incidents/*", Shape.PATCHED, "incidents", _INCIDENT),
    Operation("POST", "advancedhunting/run", Shape.HUNTING, "xdr", {"Query": _REQUIRED}),
    Operation("POST", "advancedqueries/run", Shape.HUNTING, "mde", {"Query": _REQUIRED}),
    Operation("GET", "machines", Shape.PAGE, "machines"),
    Operation("GET", "machines/*", Shape.MACHINE, "machines"),
    Operation("GET", "alerts", Shape.PAGE, "alerts"),
    Operation("GET", "incidents", Shape.PAGE, "incidents"),
    Operation("GET", "machineactions", Shape.PAGE, "machineactions"),
    Operation("GET", "indicators", Shape.PAGE, "indicators"),
)

_ENTITY_SETS: Final = {
    "machines": "Machines",
    "alerts": "Alerts",
    "incidents": "Incidents",
    "machineactions": "MachineActions",
    "indicators": "Indicators",
}
_KEPT_RECORDS: Final = 1000


def route(method: str, path: str) -> tuple[Operation | None, str]:
    """Return the operation and the ID in the path; its letter case is free, as with the real service."""
    segments = [unquote(segment) for segment in path.split("/") if segment]
    words = [segment.lower() for segment in segments]
    start = 2 if words[1:2] == ["v1.0"] else 1
    if words[:1] != ["api"]:
        return None, ""
    for operation in OPERATIONS:
        pattern = operation.path.lower().split("/")
        if operation.method == ("GET" if method == "HEAD" else method) and len(pattern) == len(words) - start:
            pairs = list(zip(pattern, words[start:], segments[start:], strict=True))
            if all(wanted in ("*", word) for wanted, word, _ in pairs):
                return operation, next((segment for wanted, _, segment in pairs if wanted == "*"), "")
    return None, ""


def check(parameters: Mapping[str, Parameter], document: Any) -> None:
    """Raise what the service would object to first; names and values count in their exact spelling.

    Raises:
        ServiceError: `MissingRequiredParameter`, `InvalidRequestBody`, `InvalidInput` or
            `MaximumBatchSizeExceeded`.
    """
    if not isinstance(document, dict):
        raise ServiceError("InvalidRequestBody")
    for name, parameter in parameters.items():
        if parameter.required and document.get(name) is None:
            raise ServiceError("MissingRequiredParameter", f"Parameter {name} is missing.")
    for name, value in document.items():
        known = parameters.get(name)
        if known is None:
            raise ServiceError("InvalidRequestBody")
        if value is not None:
            _check_value(name, known, value)


def _check_value(name: str, parameter: Parameter, value: Any) -> None:
    match parameter.kind, value:
        case ((Kind.TEXT | Kind.FLAG), str()):
            if parameter.values and value not in parameter.values:
                raise ServiceError("InvalidInput", f"The input '{value[:80]}' is not valid for {name}.")
        case (Kind.FLAG, bool()) | (Kind.TEXT_OR_TEXTS, str()):
            pass
        case ((Kind.TEXTS | Kind.TEXT_OR_TEXTS), list()) if all(isinstance(item, str) for item in value):
            pass
        case (Kind.OBJECTS, list()):
            if parameter.most is not None and len(value) > parameter.most:
                text = f"The batch is too large: received {len(value)}, allowed {parameter.most}."
                raise ServiceError("MaximumBatchSizeExceeded", text)
            for item in value:
                check(parameter.members, item)
        case _:
            raise ServiceError("InvalidRequestBody")


def _machine(machine_id: str, number: int = 0) -> dict[str, Any]:
    """Return a device as GET /api/machines/{id} shows it (machine.md)."""
    return {
        "id": machine_id,
        "computerDnsName": f"desktop-{number:02d}.contoso.example",
        "firstSeen": "2025-01-07T08:00:00Z",
        "lastSeen": "2025-06-30T11:20:00Z",
        "osPlatform": "Windows11",
        "version": "23H2",
        "osProcessor": "x64",
        "lastIpAddress": f"192.0.2.{number + 10}",
        "healthStatus": "Active",
        "onboardingStatus": "Onboarded",
        "riskScore": "Low",
        "exposureLevel": "Medium",
        "rbacGroupName": "Workstations",
        "machineTags": ["simulated"],
    }


def _alert(alert_id: str) -> dict[str, Any]:
    """Return an alert as PATCH /api/alerts/{id} shows it (alerts.md)."""
    return {
        "id": alert_id,
        "incidentId": 4711,
        "severity": "Medium",
        "status": "New",
        "classification": None,
        "determination": None,
        "assignedTo": None,
        "category": "Execution",
        "title": "Suspicious command line",
        "detectionSource": "WindowsDefenderAtp",
        "machineId": MACHINE_IDS[0],
        "alertCreationTime": "2025-06-30T11:19:00.1234567Z",
        "comments": [],
    }


def _incident(incident_id: str) -> dict[str, Any]:
    """Return an incident as PATCH /api/incidents/{id} shows it (api-incident.md)."""
    return {
        "incidentId": int(incident_id) if incident_id.isascii() and incident_id.isdecimal() else incident_id,
        "incidentName": "Suspicious command line on one endpoint",
        "createdTime": "2025-06-30T11:21:00.12Z",
        "lastUpdateTime": "2025-06-30T11:25:00.34Z",
        "status": "Active",
        "severity": "Medium",
        "classification": "NotSet",
        "determination": "NotSet",
        "assignedTo": None,
        "tags": [],
        "comments": [],
        "alerts": [],
    }


def _machine_action(kind: str, machine_id: str, document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a pending action as the service answers the call that starts it (machineaction.md)."""
    now = _now()
    commands = [
        {
            "index": index,
            "startTime": None,
            "endTime": None,
            "commandStatus": "Created",
            "errors": [],
            "command": command,
        }
        for index, command in enumerate(document.get("Commands") or [])
    ]
    return {
        "id": str(uuid4()),
        "type": kind,
        "title": None,
        "requestor": "analyst@contoso.example",
        "requestorComment": document.get("Comment"),
        "status": "Pending",
        "machineId": machine_id,
        "computerDnsName": "desktop-00.contoso.example",
        "creationDateTimeUtc": now,
        "lastUpdateDateTimeUtc": now,
        "scope": document.get("IsolationType") or document.get("ScanType"),
        "requestSource": "PublicApi",
        "errorHResult": 0,
        "relatedFileInfo": (
            {"fileIdentifier": document["Sha1"], "fileIdentifierType": "Sha1"} if "Sha1" in document else None
        ),
        "commands": commands,
    }


def _indicator(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return an indicator as the service answers the call that submits it (ti-indicator.md)."""
    return {
        "id": str(uuid4().int % 100_000),
        "indicatorValue": None,
        "indicatorType": None,
        "action": None,
        "severity": "Informational",
        "creationTimeDateTimeUtc": _now(),
        "createdBy": "analyst@contoso.example",
        "rbacGroupNames": [],
        **document,
    }


def _hunting(subject: str) -> dict[str, Any]:
    """Return the rows of any query (run-advanced-query-api.md; api-advanced-hunting.md adds `Stats`)."""
    rows = {
        "Schema": [{"Name": "Timestamp", "Type": "DateTime"}, {"Name": "DeviceName", "Type": "String"}],
        "Results": [{"Timestamp": "2025-06-30T11:19:00.1234567Z", "DeviceName": "desktop-00.contoso.example"}],
    }
    if subject == "mde":
        return rows
    statistics = {"ExecutionTime": 0.0312, "resource_usage": {"cpu": {"total cpu": "00:00:00.0156250"}}}
    return {"Stats": {**statistics, "dataset_statistics": [{"table_row_count": 1, "table_size": 95}]}, **rows}


MACHINE_IDS: Final = tuple(f"{number:02x}" * 20 for number in range(0x1A, 0x21))
"""The tenant's seven devices; an ID is 40 hexadecimal digits."""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


class Tenant:
    """The records that can be read and changed, by the path segment of their collection."""

    def __init__(self) -> None:
        self._records: dict[str, list[dict[str, Any]]] = {
            "machines": [_machine(machine_id, number) for number, machine_id in enumerate(MACHINE_IDS)],
            "alerts": [_alert(f"da63757{number}_-1234567890") for number in range(3)],
            "incidents": [_incident(str(number)) for number in range(4711, 4714)],
            "machineactions": [],
            "indicators": [
                _indicator(
                    {
                        "indicatorValue": "203.0.113.7",
                        "indicatorType": "IpAddress",
                        "action": "Block",
                        "title": "Simulated",
                        "description": "An address that nobody should call",
                    }
                )
            ],
        }

    def read(self, operation: Operation, subject_id: str, target: str, origin: str) -> dict[str, Any]:
        """Return what a GET of that target (path and query) answers; links lead to `origin`.

        Raises:
            ServiceError: `ODataError`, where `$top` or `$skip` is not a number.
        """
        context = f"{origin}/api/$metadata#{_ENTITY_SETS[operation.subject]}"
        if operation.shape is Shape.MACHINE:
            number = MACHINE_IDS.index(subject_id) if subject_id in MACHINE_IDS else len(MACHINE_IDS)
            return {"@odata.context": f"{context}/$entity", **_machine(subject_id, number)}
        path, _, query = target.partition("?")
        options = {unquote(pair.partition("=")[0]).lower(): pair for pair in query.split("&") if pair}
        top, skip = _number(options.pop("$top", None)), _number(options.pop("$skip", None)) or 0
        records = self._records[operation.subject]
        end = len(records) if top is None else skip + top
        page: dict[str, Any] = {"@odata.context": context, "value": records[skip:end]}
        if skip < end < len(records):
            page["@odata.nextLink"] = f"{origin}{path}?" + "&".join([*options.values(), f"$top={top}", f"$skip={end}"])
        return page

    def write(
        self, operation: Operation, subject_id: str, document: Mapping[str, Any], origin: str
    ) -> dict[str, Any] | None:
        """Carry out a checked request and return the answer, None where that is an empty body."""
        match operation.shape:
            case Shape.NOTHING:
                return None
            case Shape.HUNTING:
                return _hunting(operation.subject)
            case Shape.IMPORT:
                imported = [_indicator(item) for item in document["Indicators"]]
                self._keep("indicators", *imported)
                return {
                    "value": [
                        {
                            "id": item["id"],
                            "indicator": item["indicatorValue"],
                            "isFailed": False,
                            "failureReason": None,
                        }
                        for item in imported
                    ]
                }
            case Shape.MACHINE_ACTION:
                collection, record = "machineactions", _machine_action(operation.subject, subject_id, document)
                self._keep(collection, record)
            case Shape.INDICATOR:
                collection, record = "indicators", _indicator(document)
                self._keep(collection, record)
            case _:
                collection, record = operation.subject, self._patched(operation.subject, subject_id, document)
        return {"@odata.context": f"{origin}/api/$metadata#{_ENTITY_SETS[collection]}/$entity", **record}

    def _patched(self, collection: str, subject_id: str, document: Mapping[str, Any]) -> dict[str, Any]:
        """Return the record after the change; an ID that is not there gets a record that is not kept."""
        known = {str(record.get("id", record.get("incidentId"))): record for record in self._records[collection]}
        fresh = _alert if collection == "alerts" else _incident
        record = known.get(subject_id) or fresh(subject_id)
        changes = {name[0].lower() + name[1:]: value for name, value in document.items()}
        comment = changes.pop("comment", None)
        if comment is not None:
            added = {"comment": comment, "createdBy": "analyst@contoso.example", "createdTime": _now()}
            record["comments"] = [*record["comments"], added][-_KEPT_RECORDS:]
        record.update(changes)
        return record

    def _keep(self, collection: str, *added: dict[str, Any]) -> None:
        self._records[collection].extend(added)
        del self._records[collection][:-_KEPT_RECORDS]


def _number(option: str | None) -> int | None:
    """Return the number behind a query option such as `$top=5`."""
    if option is None:
        return None
    name, _, value = unquote(option).partition("=")
    if not (value.isascii() and value.isdecimal() and len(value) < 10):  # noqa: PLR2004  # an Int32
        raise ServiceError("ODataError", f"The value '{value[:80]}' of {name} is not a number from 0 up.")
    return int(value)
