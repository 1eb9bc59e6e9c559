"""Whole exchanges over real sockets: what the upstream receives, what the client gets, what is logged and counted."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import re
import threading
import time
import zlib
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from proxy.exchange import Traffic

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from proxy.simulator import Simulator
    from tests.conftest import Message, Proxied, Upstream, Wire

    StartProxy = Callable[..., Awaitable[Proxied]]
    StartUpstream = Callable[..., Awaitable[Upstream]]
    Ask = Callable[..., Awaitable[Message]]
    Dial = Callable[[Proxied], Awaitable[Wire]]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
JSON = b"Content-Type: application/json"
ACCEPT_IT = b"X-Simulate: empty=200"

ISOLATE = "/api/machines/1e5bc9d7/isolate"
RIGHT = b'{"Comment": "contain it", "IsolationType": "Full"}'
WRONG = b'{"comment": "contain it", "isolation_type": "Full"}'

GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

# "Handling REST API errors", Defender for Endpoint.
STATUSES = {
    "BadRequest": (400, b"Bad Request"),
    "ODataError": (400, b"Bad Request"),
    "InvalidInput": (400, b"Bad Request"),
    "InvalidRequestBody": (400, b"Bad Request"),
    "InvalidHashValue": (400, b"Bad Request"),
    "InvalidDomainName": (400, b"Bad Request"),
    "InvalidIpAddress": (400, b"Bad Request"),
    "InvalidUrl": (400, b"Bad Request"),
    "MaximumBatchSizeExceeded": (400, b"Bad Request"),
    "MissingRequiredParameter": (400, b"Bad Request"),
    "OsPlatformNotSupported": (400, b"Bad Request"),
    "ClientVersionNotSupported": (400, b"Bad Request"),
    "Unauthorized": (401, b"Unauthorized"),
    "Forbidden": (403, b"Forbidden"),
    "DisabledFeature": (403, b"Forbidden"),
    "DisallowedOperation": (403, b"Forbidden"),
    "NotFound": (404, b"Not Found"),
    "ResourceNotFound": (404, b"Not Found"),
    "InternalServerError": (500, b"Internal Server Error"),
}


class TestErrors:
    @pytest.mark.parametrize("coding", ["plain", "gzip"])
    @pytest.mark.parametrize("code", STATUSES)
    async def test_a_documented_code_passes_through(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask, code: str, coding: str
    ) -> None:
        """Body bytes, header, log line and counter of each of the 19."""
        status, reason = STATUSES[code]
        target = "0f4d4b3e-90d1-4f1c-8a3c-27d1b3a3c6f1"
        # Spaces and an escape that no JSON writer would choose: only a copy of the bytes keeps them.
        plain = b'{ "error" : {"code":"%b","message":"It \\u0069s so.", "target":"%b" }}\n' % (
            code.encode(), target.encode(),
        )  # fmt: skip
        body = gzip.compress(plain) if coding == "gzip" else plain
        fields = (
            (b"Content-Type", b"application/json; charset=utf-8"),
            *(((b"Content-Encoding", b"gzip"),) if coding == "gzip" else ()),
            (b"WWW-Authenticate", b"Bearer"),
            (b"Retry-After", b"7"),
        )
        head = b"".join(name + b": " + value + b"\r\n" for name, value in fields)
        upstream = await start_upstream(
            b"HTTP/1.1 %d %b\r\n%bContent-Length: %d\r\n\r\n%b" % (status, reason, head, len(body), body)
        )
        proxied = await start_proxy(upstream.url)

        response = await ask(proxied, "POST", ISOLATE, JSON, b"X-Request-Id: my-own-id", body=RIGHT)

        assert (response.status, response.reason, response.body) == (status, reason, body)
        assert response.fields == (
            *fields,
            (b"X-Request-Id", b"my-own-id"),
            (b"X-Error-Code", code.encode()),
            (b"X-Error-Origin", b"upstream"),
            (b"X-Target-Id", target.encode()),
            (b"X-Target-Source", b"envelope"),
            (b"x-ms-error-code", code.encode()),
            (b"Content-Length", b"%d" % len(body)),
        )

        event = await proxied.lines.event("upstream_error")
        assert event.pop("duration_ms") >= event.pop("upstream_ms") > 0
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", event.pop("timestamp"))
        assert event.pop("help").keys() == {"cause", "remedy", "page"}
        assert event == {
            "level": "warning",
            "event": "upstream_error",
            "method": "POST",
            "operation": "isolateMachine",
            "route": "/api/machines/{id}/isolate",
            "status": status,
            "error_code": code,
            "error_message": "It is so.",
            "target_id": target,
            "target_source": "envelope",
            "origin": "upstream",
            "request_bytes": len(RIGHT),
            "response_bytes": len(body),
            "request_id": "my-own-id",
        }

        assert proxied.sample("errors_total", code=code, status=str(status), origin="upstream") == 1
        assert proxied.sample("operation_errors_total", operation="isolateMachine", code=code) == 1
        assert proxied.sample("requests_total", operation="isolateMachine", status=str(status)) == 1
        exemplar = (
            rf'^defender_proxy_errors_total\{{code="{code}",origin="upstream",status="{status}"\}} 1\.0 '
            rf'# \{{target_id="{target}"\}} 1\.0 \d+\.\d+$'
        )
        metrics = await proxied.scrape(b"Accept: application/openmetrics-text; version=1.0.0")
        assert re.search(exemplar, metrics, re.MULTILINE)
        assert metrics.endswith("# EOF\n")

    @pytest.mark.parametrize("code", STATUSES)
    async def test_it_counts_from_zero(self, proxied: Proxied, code: str) -> None:
        status, _ = STATUSES[code]
        series = f'defender_proxy_errors_total{{code="{code}",origin="upstream",status="{status}"}} 0.0'
        assert series in await proxied.scrape()

    @pytest.mark.parametrize("coding", ["gzip", "deflate"])
    async def test_the_simulator_agrees(self, proxied: Proxied, simulator: Simulator, ask: Ask, coding: str) -> None:
        response = await ask(proxied, "GET", f"/_simulate/Forbidden,{coding},target=activity/api/machines")
        envelope = json.loads(zlib.decompress(response.body, wbits=47))["error"]
        assert response["Content-Encoding"] == coding
        assert response["X-Error-Code"] == simulator.received[0].code == envelope["code"] == "Forbidden"
        assert response["X-Target-Id"] == envelope["target"]
        assert envelope["target"].startswith("|")

    @pytest.mark.parametrize(
        ("fields", "target", "source"),
        [
            pytest.param(b"", None, "proxy", id="none"),
            pytest.param(b"x-ms-request-id: from-the-header\r\n", "from-the-header", "header", id="x-ms-request-id"),
            pytest.param(
                b"x-ms-correlation-request-id: third\r\nrequest-id: second\r\n", "second", "header", id="two-of-three"
            ),
            pytest.param(b"request-id: " + b"x" * 129 + b"\r\n", None, "proxy", id="too-long"),
            pytest.param(b"request-id: a b\r\n", None, "proxy", id="not-visible"),
        ],
    )
    @pytest.mark.parametrize("body", [b"", b"<html>no</html>", b"gateway says no"], ids=["empty", "html", "text"])
    async def test_an_error_without_an_envelope_has_a_target_all_the_same(
        self,
        start_proxy: StartProxy,
        start_upstream: StartUpstream,
        ask: Ask,
        fields: bytes,
        target: str | None,
        source: str,
        body: bytes,
    ) -> None:
        upstream = await start_upstream(
            b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\n%bContent-Length: %d\r\n\r\n%b"
            % (fields, len(body), body)
        )
        proxied = await start_proxy(upstream.url)
        response = await ask(proxied, "GET", "/api/machines")
        assert (response.status, response["X-Error-Origin"]) == (502, "upstream")
        assert response["X-Target-Source"] == source
        assert response["X-Target-Id"] == target if target else GUID.fullmatch(response["X-Target-Id"])
        event = await proxied.lines.event("upstream_error")
        assert (event["target_id"], event["target_source"]) == (response["X-Target-Id"], source)

    @pytest.mark.parametrize(
        ("code", "label", "header"),
        [
            pytest.param("429", "TooManyRequests", "429", id="numeric"),
            pytest.param("Brand-New", "other", "Brand-New", id="unheard-of"),
            pytest.param("two words", "other", "other", id="not-visible"),
            pytest.param("x\\r\\nX-Forged: 1", "other", "other", id="a-new-line"),
            pytest.param("x" * 200, "other", "other", id="long"),
        ],
    )
    async def test_codes_that_are_not_documented(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask, code: str, label: str, header: str
    ) -> None:
        body = b'{"error":{"code":"%b","message":"m","target":"8b9a3f0e-1"}}' % code.encode()
        upstream = await start_upstream(
            b"HTTP/1.1 429 Slow Down\r\nRetry-After: 10\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        proxied = await start_proxy(upstream.url)
        response = await ask(proxied, "GET", "/api/machines")
        assert (response["X-Error-Code"], response["Retry-After"], response.body) == (header, "10", body)
        assert "Set-Cookie" not in response
        event = await proxied.lines.event("upstream_error")
        assert event["error_code"] == json.loads(body)["error"]["code"]
        assert proxied.sample("errors_total", code=label, status="429", origin="upstream") == 1
        assert proxied.sample("throttled_total", operation="listMachines") == 1

    async def test_what_the_upstream_says_in_our_fields_is_replaced_and_x_ms_error_code_kept(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask
    ) -> None:
        upstream = await start_upstream(
            b"HTTP/1.1 404 Not Found\r\nX-Target-Id: forged\r\nx-error-origin: forged\r\nx-target-id: again\r\n"
            b"X-MS-Error-Code: Verbatim\r\nX-Request-Id: theirs\r\nContent-Length: 0\r\n\r\n"
        )
        proxied = await start_proxy(upstream.url)
        response = await ask(proxied, "GET", "/api/machines")
        assert GUID.fullmatch(response["X-Target-Id"])
        assert response["X-Error-Origin"] == "upstream"
        assert response.values("x-ms-error-code") == ["Verbatim"]
        assert response["X-Request-Id"] != "theirs"

    async def test_an_error_larger_than_is_read_is_passed_on_whole(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask
    ) -> None:
        body = b'{"error":{"code":"Forbidden","message":"' + b"x" * 5000 + b'"}}'
        upstream = await start_upstream(b"HTTP/1.1 403 Forbidden\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        proxied = await start_proxy(upstream.url, {"errors.max_body_bytes": "1000"})
        response = await ask(proxied, "GET", "/api/machines")
        assert (response.status, response.body, response.is_whole) == (403, body, True)
        assert response["X-Error-Origin"] == "upstream"
        assert GUID.fullmatch(response["X-Target-Id"])

    @pytest.mark.parametrize(
        "coded",
        [
            pytest.param((b"zstd", b"\x28\xb5\x2f\xfd", "Forbidden"), id="unknown-coding"),
            pytest.param((b"gzip", gzip.compress(b" " * 10_000_000), "other"), id="bomb"),
        ],
    )
    async def test_an_error_that_cannot_be_decoded_is_passed_on_as_it_is(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask, coded: tuple[bytes, bytes, str]
    ) -> None:
        coding, body, code = coded
        upstream = await start_upstream(
            b"HTTP/1.1 403 Forbidden\r\nContent-Encoding: %b\r\nContent-Length: %d\r\n\r\n%b"
            % (coding, len(body), body)
        )
        proxied = await start_proxy(upstream.url)
        response = await ask(proxied, "GET", "/api/machines")
        assert (response.status, response.body) == (403, body)
        assert response["X-Error-Code"] == code

    async def test_names_of_the_fields_can_be_chosen(
        self, start_proxy: StartProxy, simulator: Simulator, ask: Ask
    ) -> None:
        proxied = await start_proxy(simulator.url, {"headers.target_id": "X-Ticket", "headers.request_id": "X-Ours"})
        response = await ask(proxied, "GET", "/_simulate/NotFound/api/machines")
        assert response["X-Ticket"] == response.error["target"]
        assert response["X-Ours"]
        assert "X-Target-Id" not in response
        assert "X-Request-Id" not in response


def mismatches(proxied: Proxied, parameter: str, action: str, outcome: str) -> float:
    labels = {"operation": "isolateMachine", "parameter": parameter, "action": action, "outcome": outcome}
    return proxied.sample("case_mismatches_total", **labels)


class TestModes:
    async def test_reject(self, proxied: Proxied, simulator: Simulator, ask: Ask) -> None:
        response = await ask(proxied, "POST", ISOLATE, JSON, body=WRONG)
        assert (response.status, response.reason) == (400, b"Bad Request")
        target = response["X-Target-Id"]
        assert GUID.fullmatch(target)
        assert response["X-Target-Source"] == response["X-Error-Origin"] == "proxy"
        assert response["X-Error-Code"] == response["x-ms-error-code"] == "MissingRequiredParameter"
        assert response["Cache-Control"] == "no-store"
        assert response["Proxy-Status"].startswith("defender-sidecar; error=")
        assert response["Content-Type"].startswith("application/json")
        assert "X-Case-Mismatch" not in response
        assert json.loads(response.body) == {
            "error": {
                "code": "MissingRequiredParameter",
                "message": "Body parameters are case-sensitive: 'comment' must be 'Comment', "
                "'isolation_type' must be 'IsolationType' (POST /api/machines/{id}/isolate).",
                "target": target,
                "details": [
                    {
                        "code": "ParameterCaseMismatch",
                        "target": "/comment",
                        "message": "'comment' must be 'Comment'",
                        "expected": "Comment",
                    },
                    {
                        "code": "ParameterCaseMismatch",
                        "target": "/isolation_type",
                        "message": "'isolation_type' must be 'IsolationType'",
                        "expected": "IsolationType",
                    },
                ],
                "names": ["/Comment", "/IsolationType"],
            }
        }
        assert simulator.received == []
        event = await proxied.lines.event("case_mismatch")
        assert event["mismatches"] == [
            {"pointer": "/comment", "got": "comment", "expected": "Comment"},
            {"pointer": "/isolation_type", "got": "isolation_type", "expected": "IsolationType"},
        ]
        assert (event["mode"], event["status"], event["target_id"]) == ("reject", 400, target)
        assert "upstream_ms" not in event
        for parameter in ("Comment", "IsolationType"):
            assert mismatches(proxied, parameter, "rejected", "none") == 1
        assert proxied.sample("bodies_total", result="mismatch") == 1
        assert proxied.sample("errors_total", code="MissingRequiredParameter", status="400", origin="proxy") == 1

    async def test_reject_where_nothing_required_is_missing(
        self, proxied: Proxied, simulator: Simulator, ask: Ask
    ) -> None:
        response = await ask(proxied, "POST", ISOLATE, JSON, body=b'{"Comment":"x","isolationType":"Full"}')
        assert response.error["code"] == response["X-Error-Code"] == "InvalidRequestBody"
        assert simulator.received == []

    @pytest.mark.parametrize(
        ("sent", "received"),
        [
            pytest.param(
                b'{ "comment" : "caf\\u00e9 \\/",\r\n\t"n": 1.0e+2 ,"big":123456789012345678901234567890,"z":[]}  \n',
                b'{ "Comment" : "caf\\u00e9 \\/",\r\n\t"n": 1.0e+2 ,"big":123456789012345678901234567890,"z":[]}  \n',
                id="white-space-numbers-escapes",
            ),
            pytest.param(b'{"\\u0063omment":"x"}', b'{"Comment":"x"}', id="escaped-name"),
            pytest.param(
                b'{"isolation-type":"Full","COMMENT":"comment"}', b'{"IsolationType":"Full","Comment":"comment"}',
                id="order-and-values",
            ),
            pytest.param(b'\xef\xbb\xbf{"comment":"x"}', b'\xef\xbb\xbf{"Comment":"x"}', id="byte-order-mark"),
            pytest.param('{"comment":"Größe 🦉"}'.encode(), '{"Comment":"Größe 🦉"}'.encode(), id="utf-8"),
        ],
    )  # fmt: skip
    async def test_fix_changes_the_names_alone(
        self, start_proxy: StartProxy, simulator: Simulator, ask: Ask, sent: bytes, received: bytes
    ) -> None:
        proxied = await start_proxy(simulator.url, {"check.mode": "fix"})
        response = await ask(proxied, "POST", ISOLATE, JSON, ACCEPT_IT, body=sent)
        assert response.status == 200
        assert [request.body for request in simulator.received] == [received]
        lengths = [value for name, value in simulator.received[0].fields if name.lower() == b"content-length"]
        assert lengths == [b"%d" % len(received)]
        assert response["X-Case-Mismatch"]
        event = await proxied.lines.event("case_mismatch")
        assert (event["mode"], event["action"], event["status"]) == ("fix", "fixed", 200)
        assert event["request_bytes"] == len(sent)

    async def test_fix_nested_and_in_arrays(self, start_proxy: StartProxy, simulator: Simulator, ask: Ask) -> None:
        proxied = await start_proxy(simulator.url, {"check.mode": "fix"})
        sent = b'{"Commands":[{"Type":"RunScript","Params":[{"Key":"ScriptName","Value":"a.ps1"}]}],"comment":"x"}'
        right = b'{"Commands":[{"type":"RunScript","params":[{"key":"ScriptName","value":"a.ps1"}]}],"Comment":"x"}'
        response = await ask(proxied, "POST", "/api/machines/1/runliveresponse", JSON, body=sent)
        assert 200 <= response.status < 300
        assert simulator.received[0].body == right
        assert response["X-Case-Mismatch"] == "Type=type, Params=params, Key=key, Value=value, comment=Comment"

    @pytest.mark.parametrize(
        ("directive", "outcome", "status"),
        [
            pytest.param(b"empty=204", "accepted", 204, id="accepted"),
            pytest.param(b"InvalidRequestBody", "refused", 400, id="refused"),
            pytest.param(b"reset", "none", 502, id="no-answer"),
        ],
    )
    @pytest.mark.parametrize(("mode", "action"), [("fix", "fixed"), ("observe", "observed")])
    async def test_what_the_upstream_then_said_is_counted(
        self,
        start_proxy: StartProxy,
        simulator: Simulator,
        ask: Ask,
        directive: bytes,
        outcome: str,
        status: int,
        mode: str,
        action: str,
    ) -> None:
        proxied = await start_proxy(simulator.url, {"check.mode": mode})
        response = await ask(proxied, "POST", ISOLATE, JSON, b"X-Simulate: " + directive, body=WRONG)
        assert response.status == status
        for parameter in ("Comment", "IsolationType"):
            assert mismatches(proxied, parameter, action, outcome) == 1
        assert response["X-Case-Mismatch"] == "comment=Comment, isolation_type=IsolationType"

    async def test_observe_forwards_the_original(self, start_proxy: StartProxy, simulator: Simulator, ask: Ask) -> None:
        proxied = await start_proxy(simulator.url, {"check.mode": "observe"})
        response = await ask(proxied, "POST", ISOLATE, JSON, body=WRONG)
        # The service judges for itself.
        assert (response.status, response["X-Error-Origin"]) == (400, "upstream")
        assert simulator.received[0].body == WRONG
        event = await proxied.lines.event("upstream_error")
        assert (event["mode"], event["action"]) == ("observe", "observed")
        assert [found["got"] for found in event["mismatches"]] == ["comment", "isolation_type"]

    async def test_off(self, start_proxy: StartProxy, simulator: Simulator, ask: Ask) -> None:
        proxied = await start_proxy(simulator.url, {"check.operations": '{"isolateMachine": "off"}'})
        response = await ask(proxied, "POST", ISOLATE, JSON, ACCEPT_IT, body=WRONG)
        assert response.status == 200
        assert simulator.received[0].body == WRONG
        assert "X-Case-Mismatch" not in response
        assert [event for event in proxied.lines.events() if event["event"] != "serving"] == []
        assert all(proxied.sample("bodies_total", result=result) == 0 for result in ("clean", "mismatch"))

    async def test_each_operation_may_have_its_own(
        self, start_proxy: StartProxy, simulator: Simulator, ask: Ask
    ) -> None:
        proxied = await start_proxy(
            simulator.url,
            {
                "check.mode": "observe",
                "check.operations": json.dumps(
                    {"isolateMachine": "reject", "unisolateMachine": "fix", "runAntiVirusScan": "off"}
                ),
            },
        )
        seen: dict[str, Any] = {}
        for action in ("isolate", "unisolate", "runAntiVirusScan", "restrictCodeExecution"):
            body = b'{"comment":"' + action.encode() + b'"}'
            response = await ask(proxied, "POST", f"/api/machines/1/{action}", JSON, ACCEPT_IT, body=body)
            seen[action] = response.status, response.values("X-Case-Mismatch")
        assert seen == {
            "isolate": (400, []),
            "unisolate": (200, ["comment=Comment"]),
            "runAntiVirusScan": (200, []),
            "restrictCodeExecution": (200, ["comment=Comment"]),
        }
        assert [request.body for request in simulator.received] == [
            b'{"Comment":"unisolate"}', b'{"comment":"runAntiVirusScan"}', b'{"comment":"restrictCodeExecution"}',
        ]  # fmt: skip

    @pytest.mark.parametrize("mode", ["reject", "fix"])
    @pytest.mark.parametrize(
        "body",
        [b'{"Comment":"a","comment":"b"}', b'{"comment":"a","COMMENT":"b"}'],
        ids=["right-and-wrong", "two-wrong-ones"],
    )
    async def test_two_spellings_of_one_parameter_are_never_fixed(
        self, start_proxy: StartProxy, simulator: Simulator, ask: Ask, mode: str, body: bytes
    ) -> None:
        proxied = await start_proxy(simulator.url, {"check.mode": mode})
        response = await ask(proxied, "POST", ISOLATE, JSON, body=body)
        assert (response.status, response["X-Error-Origin"]) == (400, "proxy")
        assert simulator.received == []
        assert (await proxied.lines.event("case_mismatch"))["action"] == "rejected"

    @pytest.mark.parametrize("mode", ["reject", "fix", "observe"])
    async def test_an_exact_repeat_is_never_refused(
        self, start_proxy: StartProxy, simulator: Simulator, ask: Ask, mode: str
    ) -> None:
        proxied = await start_proxy(simulator.url, {"check.mode": mode})
        body = b'{"Comment":"a","Comment":"b"}'
        assert (await ask(proxied, "POST", ISOLATE, JSON, ACCEPT_IT, body=body)).status == 200
        assert simulator.received[0].body == body
        assert (await proxied.lines.event("request"))["duplicates"] == ["/Comment"]
        assert proxied.sample("bodies_total", result="duplicate_names") == 1

    async def test_an_accepted_second_spelling(self, proxied: Proxied, simulator: Simulator, ask: Ask) -> None:
        """update-alert.md uses both; neither is a mismatch."""
        for body in (b'{"Status":"New","comment":"x"}', b'{"status":"New","Comment":"x"}'):
            response = await ask(proxied, "PATCH", "/api/alerts/da1", JSON, ACCEPT_IT, body=body)
            assert response.status == 200
            assert "X-Case-Mismatch" not in response
        assert len(simulator.received) == 2
        assert proxied.sample("bodies_total", result="clean") == 2

    async def test_a_name_that_nothing_explains_is_the_upstreams_to_judge(
        self, proxied: Proxied, simulator: Simulator, ask: Ask
    ) -> None:
        body = b'{"Comment":"x","Isolationtpye":"Full"}'
        assert (await ask(proxied, "POST", ISOLATE, JSON, ACCEPT_IT, body=body)).status == 200
        assert simulator.received[0].body == body
        assert proxied.sample("bodies_total", result="unknown_names") == 1
        event = await proxied.lines.event("request")
        assert event["did_you_mean"] == [
            {"pointer": "/Isolationtpye", "got": "Isolationtpye", "expected": "IsolationType"}
        ]

    @pytest.mark.parametrize("mode", ["reject", "observe"])
    async def test_values(self, start_proxy: StartProxy, simulator: Simulator, ask: Ask, mode: str) -> None:
        """A real client was broken by `alert` for `Alert` (F3)."""
        proxied = await start_proxy(simulator.url, {"check.mode": mode})
        body = (
            b'{"indicatorValue":"a.example","indicatorType":"DomainName",'
            b'"action":"alert","title":"t","description":"d"}'
        )
        response = await ask(proxied, "POST", "/api/indicators", JSON, ACCEPT_IT, body=body)
        if mode == "reject":
            assert response.error["details"][0]["message"] == "value 'alert' of 'action' must be 'Alert'"
            assert simulator.received == []
        else:
            assert response["X-Case-Mismatch"] == "alert=Alert"
            assert simulator.received[0].body == body


class TestExplaining:
    SUSPICIOUS = b'{"IsolatonType": "Full", "Comment": 5, "Zzz": "value-of-a-caller"}'

    @pytest.mark.parametrize("code", ["InvalidRequestBody", "MissingRequiredParameter", "InvalidInput", "BadRequest"])
    async def test_what_is_suspicious_in_a_body_that_the_upstream_refused(
        self, proxied: Proxied, ask: Ask, code: str
    ) -> None:
        response = await ask(proxied, "POST", ISOLATE, JSON, b"X-Simulate: " + code.encode(), body=self.SUSPICIOUS)
        assert (response.status, response["X-Error-Origin"]) == (400, "upstream")
        event = await proxied.lines.event("upstream_error")
        assert event["suspects"] == [
            {"suspicion": "unknown_name", "pointer": "/IsolatonType", "expected": ["IsolationType"]},
            {"suspicion": "unknown_name", "pointer": "/Zzz", "expected": []},
            {"suspicion": "wrong_type", "pointer": "/Comment", "got": "number", "expected": ["string"]},
        ]
        assert event["help"].keys() == {"cause", "remedy", "page", "operation_page"}
        assert event["help"]["operation_page"] == "https://learn.microsoft.com/defender-endpoint/api/isolate-machine"
        assert "value-of-a-caller" not in proxied.lines.getvalue()
        assert "suspect" not in repr(response.fields).lower()

    async def test_an_undocumented_400_is_looked_into_too(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask
    ) -> None:
        answer = b'{"error":{"code":"New","message":""}}'
        head = b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n" % len(answer)
        upstream = await start_upstream(head + answer)
        proxied = await start_proxy(upstream.url)
        await ask(proxied, "POST", ISOLATE, JSON, body=self.SUSPICIOUS)
        event = await proxied.lines.event("upstream_error")
        assert (event["error_code"], len(event["suspects"])) == ("New", 3)
        assert "cause" not in event["help"]

    @pytest.mark.parametrize("simulated", [b"Forbidden", b"InvalidHashValue", b"InternalServerError", b"empty=200"])
    async def test_other_answers_cost_no_look(self, proxied: Proxied, ask: Ask, simulated: bytes) -> None:
        await ask(proxied, "POST", ISOLATE, JSON, b"X-Simulate: " + simulated, body=self.SUSPICIOUS)
        event = await proxied.lines.event("request" if b"200" in simulated else "upstream_error")
        assert "suspects" not in event

    async def test_a_body_that_is_no_json_is_told_with_its_place(self, proxied: Proxied, ask: Ask) -> None:
        """A raw line break within a query string (microsoft-365-docs#10581)."""
        body = b'{"Query": "DeviceInfo\n| limit 1"}'
        await ask(proxied, "POST", "/api/advancedqueries/run", JSON, b"X-Simulate: InvalidRequestBody", body=body)
        (suspect,) = (await proxied.lines.event("upstream_error"))["suspects"]
        assert (suspect["suspicion"], suspect["got"]) == ("not_json", "line 1, column 22")

    async def test_a_fixed_body_is_looked_into_as_it_was_sent(
        self, start_proxy: StartProxy, simulator: Simulator, ask: Ask
    ) -> None:
        proxied = await start_proxy(simulator.url, {"check.mode": "fix"})
        body = b'{"comment": 5, "isolationtype": 1}'
        await ask(proxied, "POST", ISOLATE, JSON, b"X-Simulate: InvalidRequestBody", body=body)
        suspects = (await proxied.lines.event("upstream_error"))["suspects"]
        assert [suspect["pointer"] for suspect in suspects] == ["/Comment", "/IsolationType"]

    async def test_a_large_body_is_looked_into_as_well(self, proxied: Proxied, ask: Ask) -> None:
        body = json.dumps({"Comment": 5, "more": "x" * 100_000}).encode()
        await ask(proxied, "POST", ISOLATE, JSON, b"X-Simulate: InvalidRequestBody", body=body)
        assert len((await proxied.lines.event("upstream_error"))["suspects"]) == 2

    @pytest.mark.parametrize(
        "flags",
        [
            pytest.param({"check.max_body_bytes": "10"}, id="larger-than-the-limit"),
            pytest.param({"check.operations": '{"isolateMachine": "off"}'}, id="not-checked"),
        ],
    )
    async def test_a_body_that_was_not_checked_is_not_looked_into(
        self, start_proxy: StartProxy, simulator: Simulator, ask: Ask, flags: dict[str, str]
    ) -> None:
        proxied = await start_proxy(simulator.url, flags)
        await ask(proxied, "POST", ISOLATE, JSON, b"X-Simulate: InvalidRequestBody", body=self.SUSPICIOUS)
        assert "suspects" not in await proxied.lines.event("upstream_error")

    async def test_hostile_bodies_make_no_long_lines(self, proxied: Proxied, ask: Ask) -> None:
        body = json.dumps({"x" * 400 + str(n): n for n in range(1_000)} | {"IsolationType": "Partly"}).encode()
        await ask(proxied, "POST", ISOLATE, JSON, b"X-Simulate: InvalidRequestBody", body=body)
        await proxied.lines.event("upstream_error")
        assert max(map(len, proxied.lines.getvalue().splitlines())) < 16_000

    async def test_fix_says_why_it_refused(self, start_proxy: StartProxy, simulator: Simulator, ask: Ask) -> None:
        proxied = await start_proxy(simulator.url, {"check.mode": "fix"})
        body = gzip.compress(b'{"comment": "x"}')
        response = await ask(proxied, "POST", ISOLATE, JSON, b"Content-Encoding: gzip", body=body)
        assert response.error["message"].endswith("The body was not fixed: it is compressed.")
        assert response.error["names"] == ["/Comment"]
        event = await proxied.lines.event("case_mismatch")
        assert (event["mode"], event["not_fixed"]) == ("fix", ["coded"])


class TestReportHeader:
    async def test_ten_items_and_the_number_of_the_rest(
        self, start_proxy: StartProxy, simulator: Simulator, ask: Ask
    ) -> None:
        proxied = await start_proxy(simulator.url, {"check.mode": "observe"})
        body = json.dumps({"Indicators": [{"Title": str(number)} for number in range(12)]}).encode()
        response = await ask(proxied, "POST", "/api/indicators/import", JSON, ACCEPT_IT, body=body)
        assert response["X-Case-Mismatch"] == ", ".join(["Title=title"] * 10 + ["+2"])

    async def test_names_in_it_are_visible_ascii(self, start_proxy: StartProxy, simulator: Simulator, ask: Ask) -> None:
        proxied = await start_proxy(simulator.url, {"check.mode": "observe"})
        body = b'{"Com ment":"x","ISOLATION Type":"Full"}'
        response = await ask(proxied, "POST", ISOLATE, JSON, ACCEPT_IT, body=body)
        assert response["X-Case-Mismatch"] == "Com%20ment=Comment, ISOLATION%20Type=IsolationType"

    async def test_it_can_be_switched_off(self, start_proxy: StartProxy, simulator: Simulator, ask: Ask) -> None:
        proxied = await start_proxy(simulator.url, {"check.mode": "fix", "check.report_header": "false"})
        response = await ask(proxied, "POST", ISOLATE, JSON, ACCEPT_IT, body=WRONG)
        assert response.status == 200
        assert "X-Case-Mismatch" not in response


class TestWhatIsChecked:
    @pytest.mark.parametrize(
        "lines",
        [
            pytest.param((JSON,), id="json"),
            pytest.param((b"Content-Type: Application/JSON; charset=utf-8",), id="json-with-charset"),
            pytest.param((b"Content-Type: text/json",), id="text-json"),
            pytest.param((b"Content-Type: application/vnd.api+json",), id="json-suffix"),
            pytest.param((b"Content-Type: text/plain",), id="text-plain"),
            pytest.param((b"Content-Type: text/plain; charset=utf-8",), id="text-plain-with-charset"),
            pytest.param((b"Content-Type:",), id="empty-type"),
            pytest.param((), id="no-type"),
        ],
    )
    async def test_types(self, proxied: Proxied, simulator: Simulator, ask: Ask, lines: tuple[bytes, ...]) -> None:
        assert (await ask(proxied, "POST", ISOLATE, *lines, body=WRONG)).status == 400
        assert simulator.received == []
        assert proxied.sample("bodies_total", result="mismatch") == 1

    @pytest.mark.parametrize(
        ("lines", "body", "result"),
        [
            pytest.param((JSON,), RIGHT, "clean", id="right"),
            pytest.param((JSON,), b"{}", "clean", id="no-members"),
            pytest.param((JSON,), b'{"Comment":null}', "clean", id="null"),
            pytest.param((JSON,), b"[]", "clean", id="array"),
            pytest.param((JSON,), b"{", "unreadable", id="half-a-json"),
            pytest.param((JSON,), b'{"comment":NaN}', "unreadable", id="nan"),
            pytest.param((JSON,), b'{"comment":"\xff"}', "unreadable", id="not-utf-8"),
            pytest.param((JSON,), b"[" * 40_000, "unreadable", id="deep"),
            pytest.param((JSON,), b'{"a":' * 5000 + b"1" + b"}" * 5000, "unreadable", id="deep-and-whole"),
            pytest.param((JSON, b"Content-Encoding: gzip"), WRONG, "unreadable", id="not-the-gzip-it-claims"),
            pytest.param((JSON, b"Content-Encoding: zstd"), WRONG, "unreadable", id="unknown-coding"),
            pytest.param((b"Content-Type: text/plain",), b"comment: x", "not_json", id="plain-text"),
            pytest.param((), b"comment=x", "not_json", id="no-type-and-no-json"),
            pytest.param((b"Content-Type: application/octet-stream",), WRONG, "not_json", id="octets"),
            pytest.param(
                (b"Content-Type: multipart/form-data; boundary=x",),
                b'--x\r\nContent-Disposition: form-data; name="comment"\r\n\r\n{"comment":1}\r\n--x--\r\n',
                "not_json", id="multipart",
            ),
        ],
    )  # fmt: skip
    async def test_what_holds_no_mismatch_is_forwarded_as_it_is_and_counted(
        self, proxied: Proxied, simulator: Simulator, ask: Ask, lines: tuple[bytes, ...], body: bytes, result: str
    ) -> None:
        assert (await ask(proxied, "POST", ISOLATE, *lines, ACCEPT_IT, body=body)).status == 200
        assert simulator.received[0].body == body
        results = ("clean", "mismatch", "unknown_names", "duplicate_names", "too_large", "not_json", "unreadable")
        assert {name: proxied.sample("bodies_total", result=name) for name in results} == {
            name: float(name == result) for name in results
        }

    async def test_an_empty_body(self, proxied: Proxied, simulator: Simulator, dial: Dial) -> None:
        wire = await dial(proxied)
        response = await wire.ask("POST", ISOLATE, JSON, ACCEPT_IT, b"Content-Length: 0")
        assert response.status == 200
        lengths = [value for name, value in simulator.received[0].fields if name == b"Content-Length"]
        assert lengths == [b"0"]
        assert (await wire.ask("POST", ISOLATE, JSON, ACCEPT_IT)).status == 200
        assert all("Content-Length" not in str(name) for name, _ in simulator.received[1].fields)

    async def test_a_route_without_a_documented_body_is_not_looked_into(
        self, proxied: Proxied, simulator: Simulator, ask: Ask
    ) -> None:
        for target in ("/api/nowhere", "/api/machines"):
            await ask(proxied, "POST", target, JSON, ACCEPT_IT, body=WRONG)
        assert [request.body for request in simulator.received] == [WRONG, WRONG]
        assert proxied.sample("requests_total", operation="unknown", status="200") == 2

    @pytest.mark.parametrize(
        "target",
        [
            "/api/v1.0/machines/1/isolate",
            "/api/machines/1/isolate/",
            "//api//machines/1/isolate",
            "/API/Machines/1/ISOLATE",
            "/api/machines/1/isolate?api-version=1",
            "/api/machines/%31/%69solate",
        ],
    )
    async def test_other_ways_to_write_the_path(
        self, start_proxy: StartProxy, simulator: Simulator, ask: Ask, target: str
    ) -> None:
        proxied = await start_proxy(simulator.url, {"check.mode": "observe"})
        response = await ask(proxied, "POST", target, JSON, ACCEPT_IT, body=WRONG)
        assert "X-Case-Mismatch" in response
        assert simulator.received[0].target == target

    @pytest.mark.parametrize(
        ("coding", "coded"),
        [
            ("gzip", gzip.compress),
            ("x-gzip", gzip.compress),
            ("deflate", zlib.compress),
            ("deflate", lambda body: zlib.compress(body, wbits=-15)),
            ("gzip, gzip", lambda body: gzip.compress(gzip.compress(body))),
        ],
        ids=["gzip", "x-gzip", "deflate", "raw-deflate", "gzip-twice"],
    )
    async def test_coded_bodies(
        self, proxied: Proxied, simulator: Simulator, ask: Ask, coding: str, coded: Callable[[bytes], bytes]
    ) -> None:
        lines = (JSON, b"Content-Encoding: " + coding.encode(), ACCEPT_IT)
        assert (await ask(proxied, "POST", ISOLATE, *lines, body=coded(WRONG))).status == 400
        assert simulator.received == []
        right = coded(RIGHT)  # once: gzip writes the second down in which it ran
        assert (await ask(proxied, "POST", ISOLATE, *lines, body=right)).status == 200
        assert simulator.received[0].body == right
        assert (b"Content-Encoding", coding.encode()) in simulator.received[0].fields
        assert proxied.sample("bodies_total", result="clean") == 1

    async def test_a_coded_body_is_never_rewritten(
        self, start_proxy: StartProxy, simulator: Simulator, ask: Ask
    ) -> None:
        proxied = await start_proxy(simulator.url, {"check.mode": "fix"})
        response = await ask(proxied, "POST", ISOLATE, JSON, b"Content-Encoding: gzip", body=gzip.compress(WRONG))
        assert (response.status, response["X-Error-Origin"]) == (400, "proxy")
        assert simulator.received == []

    async def test_a_bomb(self, proxied: Proxied, simulator: Simulator, ask: Ask) -> None:
        bomb = gzip.compress(b" " * 20_000_000)
        lines = (JSON, b"Content-Encoding: gzip", ACCEPT_IT)
        assert (await ask(proxied, "POST", ISOLATE, *lines, body=bomb)).status == 200
        assert simulator.received[0].body == bomb
        assert proxied.sample("bodies_total", result="too_large") == 1

    async def test_chunks_are_put_together_for_the_check(
        self, start_proxy: StartProxy, simulator: Simulator, dial: Dial
    ) -> None:
        proxied = await start_proxy(simulator.url, {"check.mode": "fix"})
        wire = await dial(proxied)
        head = f"POST {ISOLATE} HTTP/1.1\r\nHost: sidecar\r\n".encode() + JSON + b"\r\n" + ACCEPT_IT + b"\r\n"
        await wire.send(head + b"Transfer-Encoding: chunked\r\n\r\n")
        for start in range(0, len(WRONG), 7):
            piece = WRONG[start : start + 7]
            await wire.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            await asyncio.sleep(0.002)
        await wire.send(b"0\r\n\r\n")
        assert (await wire.message()).status == 200
        assert simulator.received[0].body == WRONG.replace(b"comment", b"Comment").replace(
            b"isolation_type", b"IsolationType"
        )

    @pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
    async def test_a_body_over_the_limit_is_streamed_whole(
        self, start_proxy: StartProxy, simulator: Simulator, dial: Dial, *, chunked: bool
    ) -> None:
        proxied = await start_proxy(simulator.url, {"check.max_body_bytes": "1000"})
        body = b'{"comment":"' + b"x" * 300_000 + b'"}'
        wire = await dial(proxied)
        head = f"POST {ISOLATE} HTTP/1.1\r\nHost: sidecar\r\n".encode() + JSON + b"\r\n" + ACCEPT_IT + b"\r\n"
        if chunked:
            pieces = [body[start : start + 50_000] for start in range(0, len(body), 50_000)]
            framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
            await wire.send(head + b"Transfer-Encoding: chunked\r\n\r\n" + framed)
        else:
            await wire.send(head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        assert (await wire.message()).status == 200
        assert simulator.received[0].body == body
        assert proxied.sample("bodies_total", result="too_large") == 1

    async def test_a_large_body_within_the_limit_is_checked(
        self, proxied: Proxied, simulator: Simulator, ask: Ask
    ) -> None:
        body = b'{"comment":"' + b"x" * 1_000_000 + b'"}'
        assert (await ask(proxied, "POST", ISOLATE, JSON, body=body)).status == 400
        assert simulator.received == []


class TestMalformed:
    @pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
    async def test_a_body_that_is_seen_to_be_broken_takes_its_head_along(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial, method: str
    ) -> None:
        upstream = await start_upstream(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        proxied = await start_proxy(upstream.url)
        wire = await dial(proxied)
        head = f"{method} /api/whatever HTTP/1.1\r\nHost: sidecar\r\nTransfer-Encoding: chunked\r\n\r\n"
        await wire.send(head.encode() + b"zz\r\n\r\n")
        assert (await wire.message()).status == 400
        assert upstream.requests == []

    @pytest.mark.parametrize("host", [b"a b", b"a/path", b"me@a", b"a, b"])
    async def test_a_host_that_is_none(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial, host: bytes
    ) -> None:
        """RFC 9112, 3.2."""
        upstream = await start_upstream(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        wire = await dial(await start_proxy(upstream.url))
        await wire.send(b"GET /api/machines HTTP/1.1\r\nHost: %b\r\n\r\n" % host)
        response = await wire.message()
        assert (response.status, response.error["code"]) == (400, "BadRequest")
        assert upstream.requests == []

    async def test_a_request_whose_length_nobody_knows_is_the_last_on_its_connection(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial
    ) -> None:
        """RFC 9112, 6.3."""
        upstream = await start_upstream(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        wire = await dial(await start_proxy(upstream.url))
        await wire.send(b"POST /api/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n")
        await wire.send(b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
        response = await wire.message()
        assert (response.status, response["Connection"]) == (501, "close")
        with suppress(ConnectionResetError):
            assert await wire.reader.read() == b""
        assert upstream.requests == []


class TestMaxForwards:
    """RFC 9110, 7.6.2."""

    async def test_one_that_may_not_be_forwarded_is_answered_here(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask
    ) -> None:
        upstream = await start_upstream(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        proxied = await start_proxy(upstream.url)
        response = await ask(proxied, "OPTIONS", "*", b"Max-Forwards: 0")
        assert (response.status, response.body) == (204, b"")
        assert response["Allow"] == "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"
        assert upstream.requests == []
        assert proxied.sample("requests_total", operation="unknown", status="204") == 1

    @pytest.mark.parametrize(
        ("method", "sent", "received"),
        [
            pytest.param("OPTIONS", "3", ["2"], id="counted-down"),
            pytest.param("OPTIONS", "many", ["many"], id="no-number"),
            pytest.param("GET", "0", ["0"], id="of-another-method"),
        ],
    )
    async def test_any_other_goes_on(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask,
        method: str, sent: str, received: list[str],
    ) -> None:  # fmt: skip
        upstream = await start_upstream(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        proxied = await start_proxy(upstream.url)
        assert (await ask(proxied, method, "/api/machines", f"Max-Forwards: {sent}".encode())).status == 200
        assert upstream.requests[0].values("Max-Forwards") == received


class TestForwarding:
    @pytest.mark.parametrize(
        "target",
        [
            b"/api/machines",
            b"/api/files%2Fa%2fb",
            b"/api/%2e%2e/%2E./../x/./y",
            b"//api///machines//",
            b"/api/a;b=c;d/e+f/%20/~-_.!$&'()*,;=:@",
            b"/api/indicators?$filter=indicatorType%20eq%20'Url'+and+title%20ne%20%22x%22&$top=5",
            b"/api?x=%21&y='\"`<>{}|\\^[]",
            b"/api?",
            b"/api??a=?b",
            b"/api?a=b&a=b&&",
            b"/api/%",
            b"/api/%zz?%",
            b"/api/" + b"x" * 8192 + b"?" + b"y=z&" * 1000,
            b"/",
            b"/?q",
            b"/http://other.example/api",
        ],
        ids=[
            "plain", "escaped-slashes", "dots", "doubled-slashes", "punctuation", "odata", "unwise-characters",
            "empty-query", "two-question-marks", "repeats", "bare-percent", "broken-escapes", "long", "root",
            "root-with-query", "url-in-the-path",
        ],
    )  # fmt: skip
    async def test_path_and_query_stay_byte_for_byte(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial, target: bytes
    ) -> None:
        upstream = await start_upstream(OK)
        proxied = await start_proxy(upstream.url)
        wire = await dial(proxied)
        await wire.send(b"GET " + target + b" HTTP/1.1\r\nHost: sidecar\r\n\r\n")
        assert (await wire.message()).status == 200
        assert upstream.requests[0].start_line == b"GET " + target + b" HTTP/1.1"

    @pytest.mark.parametrize(
        "target", ["/api/größe?q=🦉".encode(), b"/api/\xff\xfe", b"/api?\x80"], ids=["utf-8", "path", "query"]
    )
    async def test_bytes_that_no_uri_may_hold_are_kept_or_refused(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial, target: bytes
    ) -> None:
        """RFC 3986, 2: they would have to be escaped; nobody may do that on the client's behalf."""
        upstream = await start_upstream(OK)
        proxied = await start_proxy(upstream.url)
        wire = await dial(proxied)
        await wire.send(b"GET " + target + b" HTTP/1.1\r\nHost: sidecar\r\n\r\n")
        status = (await wire.message()).status
        assert [status, *(request.target for request in upstream.requests)] in ([200, target], [400])

    @pytest.mark.parametrize(
        ("target", "forwarded"),
        [
            (b"http://other.example/api?a=%2F", b"/api?a=%2F"),
            (b"HTTPS://user:secret@other.example:444/api", b"/api"),
            (b"http://other.example", b"/"),
            (b"http://other.example?q", b"/?q"),
            (b"http://other.example//x", b"//x"),
        ],
        ids=["http", "credentials-and-port", "no-path", "query-alone", "doubled-slash"],
    )
    async def test_absolute_form_does_not_choose_the_host(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial, target: bytes, forwarded: bytes
    ) -> None:
        upstream = await start_upstream(OK)
        proxied = await start_proxy(upstream.url)
        wire = await dial(proxied)
        await wire.send(b"GET " + target + b" HTTP/1.1\r\nHost: other.example\r\n\r\n")
        assert (await wire.message()).status == 200
        assert upstream.requests[0].target == forwarded
        assert upstream.requests[0].values("Host") == [upstream.url.removeprefix("http://")]

    async def test_options_for_the_whole_server(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask
    ) -> None:
        upstream = await start_upstream(OK)
        proxied = await start_proxy(upstream.url)
        assert (await ask(proxied, "OPTIONS", "*")).status == 200
        assert upstream.requests[0].start_line == b"OPTIONS * HTTP/1.1"

    async def test_nothing_is_invented_but_via(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial
    ) -> None:
        upstream = await start_upstream(OK)
        proxied = await start_proxy(upstream.url)
        wire = await dial(proxied)
        await wire.send(b"GET /api HTTP/1.1\r\nHost: sidecar\r\n\r\n")
        await wire.message()
        await wire.send(b"POST /api HTTP/1.1\r\nhost: sidecar\r\ncontent-length: 2\r\n\r\nhi")
        await wire.message()
        host = (b"Host", upstream.url.removeprefix("http://").encode())
        via = (b"Via", b"1.1 defender-sidecar")
        assert upstream.requests[0].fields == (host, via)
        assert upstream.requests[1].fields == (host, via, (b"Content-Length", b"2"))

    async def test_fields_keep_their_order_repeats_case_and_bytes(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial
    ) -> None:
        fields = (
            (b"authorization", b"Bearer abc"),
            (b"User-Agent", b'mdatp/1.0 (odd; "quoted")'),
            (b"X-Repeat", b"1"),
            (b"Cookie", b"a=1"),
            (b"x-repeat", b"2"),
            (b"COOKIE", b"b=2; c=3"),
            (b"X-Empty", b""),
            (b"X-Bytes", b"Gr\xfc\xdfe \xc3\xbc\t\x80\xff"),
            (b"x-odd!#$%&'*+.^_`|~", b"1, 2,,3"),
            (b"Accept", b"*/*;q=0.1"),
            (b"accept-encoding", b"gzip;q=0"),
            (b"X-Forwarded-For", b"192.0.2.1"),
            (b"traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            (b"X-Repeat", b"1"),
            (b"Via", b"1.1 other"),
        )
        upstream = await start_upstream(OK)
        proxied = await start_proxy(upstream.url)
        wire = await dial(proxied)
        head = b"".join(name + b": " + value + b"\r\n" for name, value in fields)
        await wire.send(b"GET /api HTTP/1.1\r\nHost: sidecar\r\n" + head + b"\r\n")
        assert (await wire.message()).status == 200
        host = (b"Host", upstream.url.removeprefix("http://").encode())
        assert upstream.requests[0].fields == (host, *fields, (b"Via", b"1.1 defender-sidecar"))

    async def test_hop_by_hop_fields_end_here(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask
    ) -> None:
        upstream = await start_upstream(OK)
        proxied = await start_proxy(upstream.url)
        response = await ask(
            proxied, "GET", "/api",
            b"Connection: keep-alive, X-Private", b"x-private: 1", b"connection: x-other,", b"X-Other: 2",
            b"Keep-Alive: timeout=5", b"Proxy-Authorization: Basic c2VjcmV0", b"Proxy-Connection: keep-alive",
            b"TE: trailers", b"Trailer: X-T", b"Upgrade: websocket", b"X-Kept: 3",
        )  # fmt: skip
        assert response.status == 200
        assert [name for name, _ in upstream.requests[0].fields] == [b"Host", b"X-Kept", b"Via"]

    @pytest.mark.parametrize(
        "via",
        [b"1.1 defender-sidecar", b"1.0 fred, 1.1 defender-sidecar (x), 1.1 p.example", b"HTTP/1.1 defender-sidecar"],
    )
    async def test_a_loop(self, proxied: Proxied, simulator: Simulator, ask: Ask, via: bytes) -> None:
        response = await ask(proxied, "GET", "/api/machines", b"Via: " + via)
        assert (response.status, response["X-Error-Origin"]) == (508, "proxy")
        assert response.error["code"] == "LoopDetected"
        assert simulator.received == []
        assert (await proxied.lines.event("proxy_error"))["failure"] == "loop_detected"

    async def test_a_loop_through_the_proxy_itself_ends(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask
    ) -> None:
        async def relay(upstream: Upstream, wire: Wire) -> None:
            asked = await upstream.request(wire)
            reader, writer = await asyncio.open_connection("127.0.0.1", proxied.port)
            fields = b"".join(name + b": " + value + b"\r\n" for name, value in asked.fields)
            writer.write(asked.start_line + b"\r\n" + fields + b"Connection: close\r\n\r\n")
            await wire.send(await reader.read())
            writer.close()

        upstream = await start_upstream(relay)
        proxied = await start_proxy(upstream.url)
        assert (await ask(proxied, "GET", "/api/machines")).status == 508
        assert len(upstream.requests) == 1

    async def test_chunks_in_chunks_out(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial
    ) -> None:
        upstream = await start_upstream(OK)
        proxied = await start_proxy(upstream.url)
        wire = await dial(proxied)
        await wire.send(
            b"POST /upload HTTP/1.1\r\nHost: sidecar\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n"
            b"3;x=y\r\none\r\n4\r\n two\r\n0\r\nX-T: 1\r\nCookie: a=b\r\n\r\n"
        )
        assert (await wire.message()).status == 200
        asked = upstream.requests[0]
        assert (asked.body, asked.is_whole) == (b"one two", True)
        assert [name for name, _ in asked.fields] == [b"Host", b"Via", b"Transfer-Encoding"]
        assert (await wire.ask("POST", "/upload", body=b"x")).status == 200
        assert upstream.requests[1].values("Content-Length") == ["1"]

    async def test_a_get_with_a_body(self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask) -> None:
        upstream = await start_upstream(OK)
        proxied = await start_proxy(upstream.url)
        assert (await ask(proxied, "GET", "/api", body=b"odd")).status == 200
        assert upstream.requests[0].body == b"odd"

    async def test_a_gzip_response_stays_as_it_is(self, proxied: Proxied, ask: Ask) -> None:
        response = await ask(proxied, "GET", "/api/machines/1e5bc9d7", b"X-Simulate: gzip")
        assert response["Content-Encoding"] == "gzip"
        assert json.loads(gzip.decompress(response.body))["id"]
        assert int(response["Content-Length"]) == len(response.body)

    async def test_cookies_are_not_kept(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial
    ) -> None:
        upstream = await start_upstream(
            b"HTTP/1.1 200 OK\r\nSet-Cookie: session=secret; Path=/\r\nSet-Cookie: b=2\r\nContent-Length: 2\r\n\r\nok"
        )
        proxied = await start_proxy(upstream.url)
        wire = await dial(proxied)
        for _ in range(2):
            response = await wire.ask("GET", "/api/machines")
            assert response.values("Set-Cookie") == ["session=secret; Path=/", "b=2"]
        assert all("Cookie" not in request for request in upstream.requests)

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    async def test_redirects_are_passed_on(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask, status: int
    ) -> None:
        upstream = await start_upstream(
            b"HTTP/1.1 %d Elsewhere\r\nLocation: https://other.example/a%%2Fb?c=d\r\nContent-Length: 4\r\n\r\ngone"
            % status
        )
        proxied = await start_proxy(upstream.url)
        response = await ask(proxied, "POST", "/api", body=b"x")
        assert (response.status, response.body) == (status, b"gone")
        assert response["Location"] == "https://other.example/a%2Fb?c=d"
        assert len(upstream.requests) == 1

    @pytest.mark.parametrize(
        ("line", "kept"),
        [
            (b"X-Request-Id: my-own-id", "my-own-id"),
            (b"client-request-id: 5d1a9f6e", "5d1a9f6e"),
            (b"X-Request-Id: not sane", None),
            (b"X-Request-Id: " + b"x" * 129, None),
            (b"X-Request-Id: \xfc", None),
            (b"X-Other: 1", None),
        ],
        ids=["own", "microsofts", "with-a-space", "long", "obs-text", "none"],
    )
    async def test_the_request_id(self, proxied: Proxied, ask: Ask, line: bytes, kept: str | None) -> None:
        response = await ask(proxied, "GET", "/_simulate/NotFound/api/machines", line)
        assert response["X-Request-Id"] == kept if kept else GUID.fullmatch(response["X-Request-Id"])
        assert (await proxied.lines.event("upstream_error"))["request_id"] == response["X-Request-Id"]

    async def test_the_trace_id_is_logged(self, proxied: Proxied, ask: Ask) -> None:
        line = b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        await ask(proxied, "GET", "/_simulate/NotFound/api/machines", line)
        assert (await proxied.lines.event("upstream_error"))["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"

    @pytest.mark.parametrize(
        "value",
        [
            pytest.param(b"00-" + b"0" * 32 + b"-00f067aa0ba902b7-01", id="zeros-for-the-trace"),
            pytest.param(b"00-4bf92f3577b34da6a3ce929d0e0e4736-" + b"0" * 16 + b"-01", id="zeros-for-the-parent"),
            pytest.param(b"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", id="version-ff"),
            pytest.param(b"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", id="upper-case"),
            pytest.param(b"4bf92f3577b34da6a3ce929d0e0e4736", id="an-id-alone"),
        ],
    )
    async def test_what_is_no_trace_is_not(self, proxied: Proxied, ask: Ask, value: bytes) -> None:
        """W3C Trace Context, 3.2.2: such a field is as if it were not there."""
        await ask(proxied, "GET", "/_simulate/NotFound/api/machines", b"traceparent: " + value)
        assert "trace_id" not in await proxied.lines.event("upstream_error")

    @pytest.mark.parametrize("wanted", [False, True], ids=["off", "on"])
    async def test_plain_requests_are_logged_on_demand(
        self, start_proxy: StartProxy, simulator: Simulator, ask: Ask, *, wanted: bool
    ) -> None:
        proxied = await start_proxy(simulator.url, {"log.requests": str(wanted).lower()})
        await ask(proxied, "GET", "/api/machines?$top=1")
        if wanted:
            event = await proxied.lines.event("request")
            assert (event["operation"], event["route"], event["status"]) == ("listMachines", "/api/machines", 200)
        else:
            await asyncio.sleep(0.05)
            assert {event["event"] for event in proxied.lines.events()} == {"serving"}


class TestStreaming:
    async def test_the_first_piece_of_a_response_does_not_wait_for_the_last(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial
    ) -> None:
        gate = asyncio.Event()

        async def drip(upstream: Upstream, wire: Wire) -> None:
            await upstream.request(wire)
            await wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            await gate.wait()
            gate.clear()
            await wire.send(b"5\r\nfirst\r\n")
            await gate.wait()
            await wire.send(b"4\r\nlast\r\n0\r\n\r\n")

        upstream = await start_upstream(drip)
        proxied = await start_proxy(upstream.url)
        wire = await dial(proxied)
        await wire.send(b"GET /api HTTP/1.1\r\nHost: sidecar\r\n\r\n")
        assert (await wire.head()).status == 200
        gate.set()
        async with asyncio.timeout(3):
            assert await wire.reader.readexactly(10) == b"5\r\nfirst\r\n"
        gate.set()
        async with asyncio.timeout(3):
            assert await wire.reader.readexactly(14) == b"4\r\nlast\r\n0\r\n\r\n"

    @pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
    async def test_the_first_piece_of_a_request_does_not_wait_for_the_last(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial, *, chunked: bool
    ) -> None:
        arrived = asyncio.Event()
        rest: list[bytes] = []

        async def listen(_upstream: Upstream, wire: Wire) -> None:
            await wire.head()
            assert await wire.reader.readexactly(8 if chunked else 3) == (b"3\r\none\r\n" if chunked else b"one")
            arrived.set()
            rest.append(await wire.reader.readexactly(13 if chunked else 3))
            await wire.send(OK)

        upstream = await start_upstream(listen)
        proxied = await start_proxy(upstream.url)
        wire = await dial(proxied)
        framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: 6"
        await wire.send(b"POST /upload HTTP/1.1\r\nHost: sidecar\r\n" + framing + b"\r\n\r\n")
        await wire.send(b"3\r\none\r\n" if chunked else b"one")
        async with asyncio.timeout(3):
            await arrived.wait()
        last = b"3\r\ntwo\r\n0\r\n\r\n" if chunked else b"two"
        await wire.send(last)
        assert (await wire.message()).body == b"ok"
        assert rest == [last]

    @pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
    async def test_20_mb_up(self, proxied: Proxied, simulator: Simulator, dial: Dial, *, chunked: bool) -> None:
        piece = bytes(range(256)) * 400
        count = 200
        digest = hashlib.sha256()
        wire = await dial(proxied)
        wire.within_s = 20
        framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % (count * len(piece))
        await wire.send(b"PUT /upload HTTP/1.1\r\nHost: sidecar\r\n" + ACCEPT_IT + b"\r\n" + framing + b"\r\n\r\n")
        for _ in range(count):
            digest.update(piece)
            await wire.send(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        if chunked:
            await wire.send(b"0\r\n\r\n")
        assert (await wire.message()).status == 200
        received = simulator.received[0]
        assert (received.body_bytes, received.sha256) == (count * len(piece), digest.hexdigest())

    @pytest.mark.parametrize("coding", ["", ",gzip"], ids=["length", "gzip-and-chunked"])
    async def test_20_mb_down(self, proxied: Proxied, dial: Dial, coding: str) -> None:
        wire = await dial(proxied)
        wire.within_s = 20
        response = await wire.ask("GET", f"/_simulate/size=20971520{coding}/api")
        body = zlib.decompress(response.body, wbits=47) if coding else response.body
        assert response.is_whole
        assert hashlib.sha256(body).digest() == hashlib.sha256(b"0123456789abcdef" * (20971520 // 16)).digest()

    async def test_an_upstream_that_answers_before_the_body_is_read(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial
    ) -> None:
        async def hasty(_upstream: Upstream, wire: Wire) -> None:
            await wire.head()
            await wire.send(b"HTTP/1.1 413 Too Much\r\nConnection: close\r\nContent-Length: 4\r\n\r\nstop")
            await asyncio.sleep(1)

        upstream = await start_upstream(hasty)
        proxied = await start_proxy(upstream.url)
        wire = await dial(proxied)
        await wire.send(b"POST /upload HTTP/1.1\r\nHost: sidecar\r\nContent-Length: 20000000\r\n\r\n" + bytes(1000))
        response = await wire.message()
        assert (response.status, response.error["message"], response["X-Error-Origin"]) == (413, "stop", "upstream")
        await proxied.until(lambda: proxied.sample("upstream_connections", state="in_use") == 0)
        assert proxied.sample("upstream_connections", state="idle") == 0

    async def test_an_upstream_that_answers_while_the_body_is_on_its_way(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Dial
    ) -> None:
        """Both directions at once: the response may end long before the request does."""

        async def duplex(_upstream: Upstream, wire: Wire) -> None:
            if (await wire.head()).start_line.startswith(b"GET"):
                await wire.send(OK)
                return
            await wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(3):
                piece = await wire.reader.readexactly(1)
                await wire.send(b"1\r\n%b\r\n" % piece)
            await wire.send(b"0\r\n\r\n")

        upstream = await start_upstream(duplex)
        proxied = await start_proxy(upstream.url)
        wire = await dial(proxied)
        await wire.send(b"POST /upload HTTP/1.1\r\nHost: sidecar\r\nContent-Length: 3\r\n\r\n")
        assert (await wire.head()).status == 200
        async with asyncio.timeout(3):
            for letter in (b"a", b"b", b"c"):
                await wire.send(letter)
                assert await wire.reader.readexactly(6) == b"1\r\n" + letter + b"\r\n"
            assert await wire.reader.readexactly(5) == b"0\r\n\r\n"
        assert (await wire.ask("GET", "/api")).body == b"ok"


SECRETS = ("S3CRET-token", "S3CRET-cookie", "S3CRET-query", "S3CRET-body", "S3CRET-path")


def secretive(first_line: str, body: bytes, *lines: bytes) -> bytes:
    """Return a request that holds a secret wherever clients put them."""
    fields = (
        b"Host: sidecar",
        b"Authorization: Bearer S3CRET-token",
        b"Cookie: session=S3CRET-cookie",
        *lines,
        *((b"Content-Length: %d" % len(body),) if body else ()),
    )
    return b"\r\n".join((first_line.encode(), *fields, b"", body))


class TestSecrets:
    @pytest.mark.parametrize("mode", ["reject", "fix", "observe"])
    async def test_none_appears_in_log_metrics_or_answer(
        self, start_proxy: StartProxy, simulator: Simulator, dial: Dial, capfd: pytest.CaptureFixture[str], mode: str
    ) -> None:
        flags = {
            "check.mode": mode,
            "log.requests": "true",
            "log.level": "debug",
            "downstream.body_timeout_s": "0.2",
            "downstream.header_timeout_s": "0.2",
            "upstream.response_timeout_s": "0.3",
            "upstream.idle_timeout_s": "0.3",
        }
        proxied = await start_proxy(simulator.url, flags)
        refusing = await start_proxy("http://127.0.0.1:1", flags)
        lost = await start_proxy("http://upstream.invalid", flags)

        query = "?access_token=S3CRET-query"
        isolate = f"POST /api/machines/S3CRET-path/isolate{query} HTTP/1.1"
        right = b'{"Comment":"S3CRET-body"}'
        wrong = b'{"comment":"S3CRET-body","IsolationType":"full","\xf0\x9f\xa6\x89":"S3CRET-body"}'
        requests = [
            secretive(isolate, right, JSON),
            secretive(isolate, wrong, JSON),
            secretive(isolate, b'{"Comment":"S3CRET-body","Comment":"S3CRET-body","Coment":"S3CRET-body"}', JSON),
            secretive(isolate, b'{"Comment":"S3CRET-body', JSON),
            secretive(isolate, b'{"Comment":{"S3CRET":"S3CRET-body"}}', JSON),
            secretive(isolate, b"S3CRET-body", JSON, b"Content-Encoding: gzip"),
            secretive(f"GET http://user:S3CRET-token@h.example/api{query} HTTP/1.1", b""),
            secretive(f"GET /api{query}#S3CRET-query HTTP/1.1", b""),
            secretive(f"TRACE /api{query} HTTP/1.1", b""),
            secretive(f"S3CRET-token /api{query} HTTP/1.1", b""),
            secretive(f"GET /api{query} HTTP/S3CRET-query", b""),
            secretive(f"GET /api{query} HTTP/1.1", b"", b"Bad Name: S3CRET-token"),
            secretive(f"GET /api{query} HTTP/1.1", b"", b"X-Nul: \x00S3CRET-token"),
            secretive(f"GET /api{query} HTTP/1.1", b"", b"X-Long: S3CRET-token" + b"x" * 40_000),
            secretive(f"GET /api{query}{'x' * 17_000} HTTP/1.1", b""),
            secretive(f"GET /api{query} HTTP/1.1", b"", *[b"X-Many: S3CRET-token"] * 300),
            secretive(f"POST /upload{query} HTTP/1.1", b"", b"Content-Length: S3CRET-token"),
            secretive(f"POST /upload{query} HTTP/1.1", b"", b"Transfer-Encoding: chunked") + b"S3CRET-body\r\n\r\n",
            secretive(f"POST /upload{query} HTTP/1.1", b"", b"Content-Length: 100") + b"S3CRET-body",
            secretive(f"GET /api{query} HTTP/1.1", b"")[:-4],
            secretive(f"GET /api{query} HTTP/1.1", b"", b"Via: 1.1 defender-sidecar"),
            *(
                secretive(isolate, right, JSON, b"X-Simulate: " + directive)
                for directive in (
                    b"Forbidden", b"html", b"reset", b"reset-head", b"garbage", b"truncate", b"slow=30",
                    b"Forbidden,stall", b"Forbidden,truncate", b"Forbidden,gzip", b"empty=500",
                )
            ),
        ]  # fmt: skip

        async def carry(to: Proxied, data: bytes) -> Message | None:
            wire = await dial(to)
            try:
                await wire.send(data)
                return await wire.message()
            except EOFError:
                return None

        answers = [await carry(proxied, data) for data in requests]
        answers += [await carry(to, requests[0]) for to in (refusing, lost)]
        leaving = await dial(proxied)
        await leaving.send(secretive(isolate, right, JSON, b"X-Simulate: slow=5"))
        await asyncio.sleep(0.05)
        leaving.reset()

        own = [answer for answer in answers if answer and answer.values("X-Error-Origin") == ["proxy"]]
        assert len(own) >= 20
        said = [answer.body.decode() + repr(answer.fields) for answer in own]
        for each in (proxied, refusing, lost):
            await each.lines.event("proxy_error")
            said += [
                each.lines.getvalue(),
                await each.scrape(),
                await each.scrape(b"Accept: application/openmetrics-text"),
            ]
        captured = capfd.readouterr()
        said += [captured.out, captured.err]
        assert [(secret, text) for text in said for secret in SECRETS if secret in text] == []


class TestLeaks:
    async def test_200_mixed_exchanges_leave_nothing_behind(
        self, start_proxy: StartProxy, simulator: Simulator, dial: Dial
    ) -> None:
        flags = {
            "check.mode": "fix",
            "downstream.body_timeout_s": "0.3",
            "downstream.header_timeout_s": "0.3",
            "downstream.keepalive_timeout_s": "0.3",
            "upstream.response_timeout_s": "0.3",
            "upstream.idle_timeout_s": "0.3",
            "upstream.keepalive_timeout_s": "0.3",
        }
        proxied = await start_proxy(simulator.url, flags)
        await (await dial(proxied)).ask("GET", "/api/machines")
        await proxied.until(lambda: proxied.sample("upstream_connections", state="idle") == 0)
        before = len(asyncio.all_tasks())

        async def carry(data: bytes, *, leave: bool) -> None:
            wire = await dial(proxied)
            await wire.send(data)
            try:
                if leave:
                    await asyncio.sleep(0.02)
                    wire.reset()
                else:
                    await wire.message()
            except (EOFError, ConnectionError):
                pass
            finally:
                await wire.close()

        directives = (
            b"echo", b"Forbidden", b"reset", b"reset-head", b"garbage", b"truncate", b"stall", b"slow=30",
            b"empty=204", b"gzip", b"size=3000000", b"trickle=0.02", b"Forbidden,stall", b"html",
        )  # fmt: skip
        head = f"POST {ISOLATE} HTTP/1.1\r\nHost: sidecar\r\n".encode() + JSON + b"\r\n"
        requests = [
            *(
                head + b"X-Simulate: " + each + b"\r\nContent-Length: %d\r\n\r\n" % len(WRONG) + WRONG
                for each in directives
            ),
            *(b"GET /api/x HTTP/1.1\r\nHost: sidecar\r\nX-Simulate: " + each + b"\r\n\r\n" for each in directives),
            *(
                b"PUT /upload HTTP/1.1\r\nHost: sidecar\r\nX-Simulate: " + each + b"\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n" + b"4\r\nbody\r\n" * 3 + end
                for each in directives
                for end in (b"0\r\n\r\n", b"", b"banana\r\n")
            ),
            b"GET /api HTTP/1.1\r\nX: \x00\r\n\r\n",
            b"GET /api HTTP/1.1\r\n",
            head + b"Content-Length: 100\r\n\r\nhalf",
        ]
        for number in range(0, 210, 30):
            batch = [(number + index) % len(requests) for index in range(30)]
            await asyncio.gather(*(carry(requests[index], leave=(number + index) % 4 == 3) for index in batch))

        await proxied.until(lambda: proxied.sample("requests_in_flight") == 0)
        await proxied.until(lambda: proxied.sample("upstream_connections", state="in_use") == 0)
        await proxied.until(lambda: proxied.sample("upstream_connections", state="idle") == 0)
        await proxied.until(lambda: len(asyncio.all_tasks()) <= before)
        assert (await (await dial(proxied)).ask("GET", "/api/machines")).status == 200


async def test_what_takes_long_runs_in_a_thread_one_after_the_other() -> None:
    running = threading.Semaphore()

    def alone(number: int) -> int:
        is_alone = running.acquire(blocking=False)
        time.sleep(0.02)
        if is_alone:
            running.release()
        return number if is_alone and threading.current_thread() is not threading.main_thread() else -1

    traffic = Traffic()
    assert await asyncio.gather(*(traffic.in_thread(partial(alone, number)) for number in range(5))) == [0, 1, 2, 3, 4]
