"""What is asked and what is answered: requests as bytes, the upstream's answers by request line, and what must come."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final

MIB: Final = 2**20
DOWNLOAD_PATH: Final = "/api/bench/download/"
"""The upstream answers a GET of this and a number with so many bytes."""

_TOKEN: Final = "Bearer " + "x" * 1200
"""As long as Entra's are."""

_MACHINE_ID: Final = "1e5bc9d7e413ddd7902c2932e418702b84d0cc07"
_MACHINE: Final = {
    "id": _MACHINE_ID,
    "computerDnsName": "desktop-1.contoso.example",
    "firstSeen": "2026-08-02T14:55:03Z",
    "lastSeen": "2026-11-24T06:06:59Z",
    "osPlatform": "Windows11",
    "healthStatus": "Active",
    "riskScore": "Low",
    "exposureLevel": "Medium",
    "machineTags": ["finance", "tier 1"],
}
_ACTION: Final = {
    "id": "5382f7ea-7557-4ab7-9782-d50480024a4e",
    "type": "Isolate",
    "requestor": "playbook@contoso.example",
    "requestorComment": "Isolated by a playbook for alert 637",
    "status": "Pending",
    "machineId": _MACHINE_ID,
    "creationDateTimeUtc": "2026-11-24T07:20:14Z",
}
_TARGET_ID: Final = "8f0c4b6e-9a57-4d2f-91c0-b9a880f4d4b3"
_INDICATOR: Final = {
    "indicatorValue": "220e7d15b011d7fac48f2bd61114db1022197f7f",
    "indicatorType": "FileSha1",
    "action": "BlockAndRemediate",
    "title": "Unwanted tool",
    "description": "A tool that nobody may run.",
    "severity": "Medium",
    "expirationTime": "2027-01-31T12:00:00Z",
    "recommendedActions": "Ask the owner of the device.",
    "rbacGroupNames": ["Servers"],
    "generateAlert": True,
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What the upstream answers to a request line."""

    status: int
    body: bytes

    def message(self) -> bytes:
        """Return it as it stands on the wire."""
        head = f"HTTP/1.1 {self.status} Bench\r\nContent-Type: application/json\r\nContent-Length: {len(self.body)}\r\n"
        return head.encode() + b"Date: Tue, 24 Nov 2026 09:12:44 GMT\r\n\r\n" + self.body


@dataclass(frozen=True, slots=True)
class Workload:
    """One request, sent over and over; `own_answers` are those of proxies that do not ask the upstream."""

    name: str
    title: str
    line: str
    answer: Answer
    body: bytes = b""
    own_answers: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    """By kind of proxy: the status, and a text that the body holds."""
    is_encrypted: bool = False
    """Whether the proxy speaks TLS with the upstream."""

    def request(self) -> bytes:
        """Return the request as it stands on the wire."""
        content = f"Content-Type: application/json\r\nContent-Length: {len(self.body)}\r\n" if self.body else ""
        head = f"{self.line} HTTP/1.1\r\nHost: sidecar.example\r\nAuthorization: {_TOKEN}\r\n"
        return f"{head}Accept: application/json\r\nUser-Agent: bench\r\n{content}\r\n".encode() + self.body


def _json(document: Any) -> bytes:
    """Return `document` as most programs write it: one that parses and writes it anew changes no byte."""
    return json.dumps(document, separators=(",", ":")).encode()


_ISOLATE: Final = f"POST /api/machines/{_MACHINE_ID}/isolate"
_ISOLATED: Final = Answer(201, _json(_ACTION))
_RIGHT: Final = _json({"Comment": "Isolated by a playbook for alert 637", "IsolationType": "Full"})
_MISSPELT: Final = _json({"comment": "Released by a playbook for alert 637"})
_INDICATORS: Final = _json({"Indicators": [_INDICATOR] * 268})
_MACHINES: Final = _json({"value": [_MACHINE] * 322})
_IMPORTED: Final = Answer(200, _json({"value": [{"id": "2841", "indicator": "220e7d15b0", "isFailed": False}]}))
_REFUSED: Final = Answer(
    400,
    _json(
        {
            "error": {
                "code": "MissingRequiredParameter",
                "message": "Parameter Comment is missing.",
                "target": _TARGET_ID,
            }
        }
    ),
)
_ABSENT: Final = Answer(
    404, _json({"error": {"code": "ResourceNotFound", "message": "No such machine.", "target": _TARGET_ID}})
)

GET: Final = Workload("get", "small GET", f"GET /api/machines/{_MACHINE_ID}", Answer(200, _json(_MACHINE)))
POST: Final = Workload("post", "checked POST", _ISOLATE, _ISOLATED, _RIGHT)

WORKLOADS: Final = (
    GET,
    POST,
    Workload(
        "mismatch",
        "POST with mismatch",
        f"POST /api/machines/{_MACHINE_ID}/unisolate",
        _REFUSED,
        _MISSPELT,
        {"sidecar": (400, b"must be 'Comment'"), "prism": (422, b"required property 'Comment'")},
    ),
    Workload("error", "error response", "GET /api/machines/ffffffffffffffffffffffffffffffffffffffff", _ABSENT),
    Workload("body", "100 KB JSON body", "POST /api/indicators/import", _IMPORTED, _INDICATORS),
    Workload("answer", "100 KB JSON answer", "GET /api/machines", Answer(200, _MACHINES)),
    Workload("tls", "checked POST, TLS upstream", _ISOLATE, _ISOLATED, _RIGHT, is_encrypted=True),
)

ANSWERS: Final = {workload.line.encode(): workload.answer.message() for workload in WORKLOADS}
"""The upstream's answers by request line, without its version."""
