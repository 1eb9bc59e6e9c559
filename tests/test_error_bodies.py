"""Errors as they come in practice, each through a real proxy: what the client gets, what is logged, what is counted.

The bodies are made from documented shapes, and from what was seen; the texts are ours.
"""

# ruff: noqa: E501 - a row of the table stands on a line
from __future__ import annotations

import asyncio
import gzip
import json
import re
import zlib
from dataclasses import dataclass
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import brotli
import pytest

from proxy.simulator import DIRECTIVES
from proxy.simulator_data import CODES, SHAPES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from proxy.simulator import Simulator
    from tests.conftest import Message, Proxied, Upstream, Wire

    StartProxy = Callable[..., Awaitable[Proxied]]
    StartUpstream = Callable[..., Awaitable[Upstream]]
    Ask = Callable[..., Awaitable[Message]]

GUID = "3a1f5d3c-7c2a-4a37-8a71-0d3a3a0f2f11"
OLDER = "|eb291c4-5f0e3a1b2c4d6e7f."
MADE_HERE = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
JSON = "application/json"
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJvaWQiOiIxIn0.c2lnbmF0dXJl"


@dataclass(frozen=True, slots=True)
class Case:
    """A response and what becomes of it; `target` is None where the proxy makes it, `label` where it is the code.

    `form` says what became of the body: `same` for every byte, `spliced` for one member more, `anew`. `wait` is what the
    upstream has told; the client of a 429 gets a minute where that is nothing.
    """

    status: int
    body: bytes
    code: str
    message: str
    form: str = "anew"
    target: str | None = None
    source: str = "proxy"
    shape: str | None = None
    label: str | None = None
    media_type: str = JSON
    fields: tuple[str, ...] = ()
    wait: int | None = None


def case(name: str, status: int, body: object, code: str, message: str, **more: Any) -> Any:
    if isinstance(body, str):
        body = body.encode()
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return pytest.param(Case(status, data, code, message, **more), id=name)


def whole(code: str, message: str, target: str = GUID) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "target": target}}


SAME: dict[str, Any] = {"form": "same", "target": GUID, "source": "envelope"}
OTHER: dict[str, Any] = {"label": "other"}
HTML: dict[str, Any] = {"media_type": "text/html", "shape": "html"}
XML: dict[str, Any] = {"media_type": "application/xml", "shape": "xml"}
TEXT: dict[str, Any] = {"media_type": "text/plain", "shape": "text"}
FROM_BODY: dict[str, Any] = {"target": GUID, "source": "body"}
GATEWAY: dict[str, Any] = {"shape": "gateway"}

CASES = [
    # Defender.
    case("defender", 403, whole("Forbidden", "No."), "Forbidden", "No.", **SAME),
    case("defender-as-text", 403, whole("Forbidden", "No."), "Forbidden", "No.", **SAME | {"media_type": "text/plain"}),
    case("defender-no-type", 404, whole("NotFound", "No."), "NotFound", "No.", **SAME | {"media_type": ""}),
    case("defender-spaced", 404, '{ "error" :{"code":"NotFound","message":"a\\u0062","target":"GUID"}}\n'.replace("GUID", GUID), "NotFound", "ab", **SAME),
    case("defender-mark", 400, b"\xef\xbb\xbf" + json.dumps(whole("BadRequest", "x")).encode(), "BadRequest", "x", **SAME),
    case("defender-older-id", 400, whole("InvalidInput", "x", OLDER), "InvalidInput", "x", **SAME | {"target": OLDER}),
    case("defender-undocumented", 409, whole("QuiteNew", "x"), "QuiteNew", "x", **SAME, **OTHER),
    case("defender-empty-message", 500, whole("InternalServerError", ""), "InternalServerError", "", **SAME),
    case("defender-no-target", 400, '{"error":{"code":"InvalidInput","message":"x"}}', "InvalidInput", "x", form="spliced"),
    case("defender-target-null", 400, '{"error":{"code":"InvalidInput","message":"x","target":null}}', "InvalidInput", "x", form="spliced"),
    case("defender-no-message", 500, '{"error":{"code":"InternalServerError","target":"GUID"}}'.replace("GUID", GUID), "InternalServerError", "Reason", form="spliced", target=GUID, source="envelope"),
    case("defender-header-id", 400, '{"error":{"code":"BadRequest","message":"x"}}', "BadRequest", "x", form="spliced", target=GUID, source="header", fields=("x-ms-request-id: " + GUID,)),
    case("defender-property", 400, whole("InvalidInput", "x", "Comment"), "InvalidInput", "x"),
    case("defender-parameter", 400, whole("InvalidInput", "x", "sha1"), "InvalidInput", "x"),
    case("defender-long-target", 400, whole("InvalidInput", "x", "1" * 129), "InvalidInput", "x"),
    case("defender-hostile-target", 400, whole("InvalidInput", "x", "1\r\nX-Forged: 1"), "InvalidInput", "x"),
    case("defender-target-object", 400, {"error": {"code": "InvalidInput", "message": "x", "target": {"id": 1}}}, "InvalidInput", "x"),
    case("defender-target-number", 400, {"error": {"code": "InvalidInput", "message": "x", "target": 7}}, "InvalidInput", "x"),
    case("defender-gzip", 403, gzip.compress(json.dumps(whole("Forbidden", "No.")).encode()), "Forbidden", "No.", **SAME, fields=("Content-Encoding: gzip",)),
    case("defender-deflate", 403, zlib.compress(json.dumps(whole("Forbidden", "No.")).encode()), "Forbidden", "No.", **SAME, fields=("Content-Encoding: deflate",)),
    case("defender-br", 403, brotli.compress(json.dumps(whole("Forbidden", "No.")).encode()), "Forbidden", "No.", **SAME, fields=("Content-Encoding: br",)),
    case("defender-gzip-no-target", 403, gzip.compress(b'{"error":{"code":"Forbidden","message":"No."}}'), "Forbidden", "No.", form="spliced", fields=("Content-Encoding: gzip",)),
    case("defender-utf-16", 403, json.dumps(whole("Forbidden", "No.")).encode("utf-16"), "Forbidden", "No.", form="recoded", target=GUID, source="envelope"),
    case("defender-in-a-string", 403, json.dumps(json.dumps(whole("Forbidden", "No."))), "Forbidden", "No.", target=GUID, source="envelope"),
    case("defender-code-number", 404, {"error": {"code": 404, "message": "x"}}, "NotFound", "x", shape="odata"),
    case("defender-upper-case", 403, {"Error": {"Code": "Forbidden", "Message": "x", "Target": GUID}}, "Forbidden", "x", shape="odata", **FROM_BODY),
    case("defender-cut-off", 403, '{"error":{"code":"Forbidden","message":"The us', "Forbidden", "Reason", shape="broken_json"),
    case("defender-latin-1", 403, json.dumps(whole("Forbidden", "Größe"), ensure_ascii=False).encode(), "Forbidden", "Größe", **SAME | {"media_type": JSON + "; charset=iso-8859-1"}),
    case("defender-claims-utf-16", 403, json.dumps(whole("Forbidden", "abcd")), "Forbidden", "abcd", **SAME | {"media_type": JSON + "; charset=utf-16"}),
    case("defender-wrong-byte", 403, json.dumps(whole("Forbidden", "Größe"), ensure_ascii=False).encode().replace(b"Gr", b"G\xff"), "Forbidden", "G\ufffdöße", form="recoded", target=GUID, source="envelope"),
    # Graph and OData.
    case("graph", 403, {"error": {"code": "accessDenied", "message": "x", "innerError": {"date": "d", "request-id": GUID}}}, "accessDenied", "x", form="spliced", **FROM_BODY, **OTHER),
    case("graph-lower-case", 404, {"error": {"code": "itemNotFound", "message": "x", "innererror": {"request-id": GUID}}}, "itemNotFound", "x", form="spliced", **FROM_BODY, **OTHER),
    case("graph-nested-code", 400, {"error": {"code": "", "message": "x", "innerError": {"code": "deep", "request-id": GUID}}}, "deep", "x", shape="odata", **FROM_BODY, **OTHER),
    case("graph-throttled", 429, {"error": {"code": "TooManyRequests", "message": "Too many requests.", "innerError": {"request-id": GUID}}}, "TooManyRequests", "Too many requests.", form="spliced", **FROM_BODY),
    case("odata-property", 400, {"error": {"code": "BadRequest", "message": "x", "target": "status", "details": [{"code": "a", "message": "b"}]}}, "BadRequest", "x"),
    case("odata-verbose", 400, {"error": {"code": "BadRequest", "message": {"lang": "en-US", "value": "x"}}}, "BadRequest", "x", shape="odata"),
    case("odata-3", 400, {"odata.error": {"code": "Request_BadRequest", "message": {"lang": "en", "value": "x"}, "requestId": GUID}}, "Request_BadRequest", "x", shape="odata3", **FROM_BODY, **OTHER),
    # Azure Resource Manager.
    case("arm", 404, {"error": {"code": "ResourceNotFound", "message": "x", "target": None, "details": [], "additionalInfo": []}}, "ResourceNotFound", "x", form="spliced"),
    case("arm-details", 409, {"error": {"code": "Conflict", "details": [{"code": "InUse", "message": "x"}], "message": "y"}}, "Conflict", "y", form="spliced", **OTHER),
    # Entra ID.
    case("entra", 401, {"error": "invalid_client", "error_description": "AADSTS7000215: Not\r\nvalid.", "error_codes": [7000215], "trace_id": "b", "correlation_id": GUID}, "invalid_client", "AADSTS7000215: Not valid.", shape="entra", **FROM_BODY, **OTHER),
    case("entra-trace", 400, {"error": "invalid_grant", "error_description": "x", "trace_id": GUID}, "invalid_grant", "x", shape="entra", **FROM_BODY, **OTHER),
    case("entra-bare", 400, {"error": "invalid_request"}, "invalid_request", "Reason", shape="oauth", **OTHER),
    case("entra-busy", 503, {"error": "temporarily_unavailable", "error_description": "x"}, "temporarily_unavailable", "x", shape="entra", **OTHER, fields=("Retry-After: 9",), wait=9),
    # Gateways.
    case("management", 401, '{ "statusCode": 401, "message": "No key." }', "Unauthorized", "No key.", **GATEWAY),
    case("management-activity", 500, {"statusCode": 500, "message": "x", "activityId": GUID}, "InternalServerError", "x", **GATEWAY, **FROM_BODY),
    case("management-quota", 429, {"statusCode": 429, "message": "Try again in 53 seconds."}, "TooManyRequests", "Try again in 53 seconds.", **GATEWAY, wait=53),
    case("management-volume", 403, {"statusCode": 403, "message": "The quota is full for 2.01:00:00."}, "Forbidden", "The quota is full for 2.01:00:00.", **GATEWAY),
    case("message", 404, {"Message": "No such thing."}, "NotFound", "No such thing.", **GATEWAY),
    case("web-api", 500, {"Message": "It failed.", "ExceptionMessage": "null", "StackTrace": "at x"}, "InternalServerError", "null", shape="webapi"),
    case("fault", 500, {"fault": {"faultstring": "x", "detail": {"errorcode": "steps.Failed"}}}, "steps.Failed", "x", shape="fault", **OTHER),
    case("spring", 404, {"timestamp": "t", "status": 404, "error": "Not Found", "path": "/api"}, "NotFound", "Not Found", shape="spring"),
    case("cloud-gateway", 403, {"message": "Forbidden"}, "Forbidden", "Forbidden", **GATEWAY),
    case("flat", 400, {"code": "InvalidInput", "message": "x", "target": GUID}, "InvalidInput", "x", **GATEWAY, **FROM_BODY),
    case("errors", 422, {"errors": [{"code": "bad", "detail": "x"}]}, "bad", "x", shape="errors", **OTHER),
    case("graphql", 400, {"errors": [{"message": "x", "extensions": {"code": "PARSE"}}]}, "PARSE", "x", shape="errors", **OTHER),
    case("error-text", 400, {"error": "It did not work"}, "BadRequest", "It did not work", shape="error_text"),
    case("detail", 404, {"detail": "Not Found"}, "NotFound", "Not Found", **GATEWAY),
    # Problem details.
    case("problem", 400, {"type": "about:blank", "title": "Bad Request", "status": 400, "detail": "x"}, "BadRequest", "x", shape="problem", media_type="application/problem+json"),
    case("problem-trace", 400, {"type": "t", "title": "One or more errors", "status": 400, "traceId": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "errors": {"a": ["b"]}}, "BadRequest", "One or more errors", shape="problem", target="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", source="body"),
    # Pages.
    case("html", 502, "<html><head><title>502 Bad\nGateway</title></head><body><h1>x</h1></body></html>", "BadGateway", "502 Bad Gateway", **HTML, **OTHER),
    case("html-heading", 503, "<!DOCTYPE html><html><body><h1>Down &amp; out</h1></body></html>", "ServiceUnavailable", "Down & out", **HTML, **OTHER),
    case("html-words", 403, "<html><body><p>Your IP <b>is</b> blocked</p></body></html>", "Forbidden", "Your IP is blocked", **HTML),
    case("html-gzip", 502, gzip.compress(b"<html><title>x</title></html>"), "BadGateway", "x", **HTML, **OTHER, fields=("Content-Encoding: gzip", "ETag: x")),
    case("html-as-json", 502, "<html><title>x</title></html>", "BadGateway", "x", shape="html", **OTHER),
    case("html-no-words", 504, "<html></html>", "GatewayTimeout", "Reason", **HTML, **OTHER),
    case("html-script", 403, "<html><script>var title='<title>no</title>'</script><title>yes</title>", "Forbidden", "yes", **HTML),
    case("html-tag-that-never-ends", 502, "<html><title>x</title><" + "a" * 30_000, "BadGateway", "x", **HTML, **OTHER),
    case("xml-storage", 403, f"<?xml version='1.0'?><Error><Code>AuthFailed</Code><Message>x</Message><RequestId>{GUID}</RequestId></Error>", "AuthFailed", "x", **XML, **FROM_BODY, **OTHER),
    case("xml-atom", 404, "<m:error xmlns:m='m'><m:code>Gone</m:code><m:message>x</m:message></m:error>", "Gone", "x", **XML, **OTHER),
    case("xml-soap", 500, "<s:Envelope><s:Body><s:Fault><faultcode>s:Server</faultcode><faultstring>x</faultstring></s:Fault></s:Body></s:Envelope>", "s:Server", "x", **XML, **OTHER),
    case("xml-entities", 400, "<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><Error><Message>&b;</Message></Error>", "BadRequest", "&b;", **XML),
    # Text and nothing.
    case("text", 503, "no healthy upstream", "ServiceUnavailable", "no healthy upstream", **TEXT, **OTHER),
    case("text-latin-1", 400, "Größe".encode("latin-1"), "BadRequest", "Größe", shape="text", media_type="text/plain; charset=iso-8859-1"),
    case("text-utf-16", 400, "Größe".encode("utf-16"), "BadRequest", "Größe", **TEXT),
    case("text-as-json", 500, "It failed", "InternalServerError", "Reason", shape="broken_json"),
    case("text-with-a-token", 401, f"Bad token: {JWT}", "Unauthorized", "Bad token: ***", **TEXT),
    case("json-string", 400, '"It failed"', "BadRequest", "It failed", shape="text"),
    case("json-array", 400, "[1, 2]", "BadRequest", "Reason", shape="json"),
    case("json-unknown", 400, {"ok": False}, "BadRequest", "Reason", shape="json"),
    case("json-deep", 400, b"[" * 50_000, "BadRequest", "Reason", shape="broken_json"),
    case("binary", 500, b"\x00\x01\x02\x03", "InternalServerError", "Reason", shape="binary", media_type="application/octet-stream"),
    case("empty", 405, b"", "MethodNotAllowed", "Reason", shape="empty", **OTHER, fields=("Allow: POST",)),
    case("empty-header-id", 500, b"", "InternalServerError", "Reason", shape="empty", fields=("request-id: " + GUID,), target=GUID, source="header"),
    case("html-br", 502, brotli.compress(b"<html><title>x</title></html>"), "BadGateway", "x", **HTML, **OTHER, fields=("Content-Encoding: br", "ETag: x")),
    case("br-damaged", 500, brotli.compress(b"x" * 1000)[:-1], "InternalServerError", "Reason", shape="binary", fields=("Content-Encoding: br",)),
    case("json-called-gzip", 403, json.dumps(whole("Forbidden", "No.")).encode(), "Forbidden", "No.", form="recoded", target=GUID, source="envelope", fields=("Content-Encoding: gzip",)),
    case("gzip-called-nothing", 403, gzip.compress(json.dumps(whole("Forbidden", "No.")).encode()), "Forbidden", "No.", form="recoded", target=GUID, source="envelope"),
    case("gzip-of-nothing", 500, b"", "InternalServerError", "Reason", shape="empty", fields=("Content-Encoding: gzip",)),
    case("errors-of-text", 400, {"errors": ["No such thing."]}, "BadRequest", "No such thing.", shape="errors"),
    case("msg", 400, {"msg": "No such thing."}, "BadRequest", "No such thing.", shape="gateway"),
    case("gzip-damaged", 500, gzip.compress(bytes(range(256)))[:20], "InternalServerError", "Reason", shape="binary", fields=("Content-Encoding: gzip",)),
    # Throttling.
    case("throttled-quota", 429, whole("429", "API calls quota exceeded! maximum allowed 45 per 00:01:00"), "429", "API calls quota exceeded! maximum allowed 45 per 00:01:00", **SAME, label="TooManyRequests", wait=60),
    case("throttled-seconds", 429, whole("TooManyRequests", "x"), "TooManyRequests", "x", **SAME, fields=("Retry-After: 20",), wait=20),
    case("throttled-date", 429, whole("TooManyRequests", "x"), "TooManyRequests", "x", **SAME, fields=("Date: " + formatdate(0, usegmt=True), "Retry-After: " + formatdate(90, usegmt=True)), wait=90),
    case("throttled-empty", 429, b"", "TooManyRequests", "Reason", shape="empty", fields=("x-ms-retry-after-ms: 2500",), wait=3),
    case("throttled-silent", 429, whole("TooManyRequests", "x"), "TooManyRequests", "x", **SAME, fields=("Retry-After: -5",)),
    case("throttled-too-long", 429, whole("TooManyRequests", "Try again in 4 seconds"), "TooManyRequests", "Try again in 4 seconds", **SAME, fields=("Retry-After: 99999999",), wait=4),
    case("throttled-policy", 429, whole("TooManyRequests", "x"), "TooManyRequests", "x", **SAME, fields=('RateLimit: "default";r=0;t=4',), wait=4),
    case("throttled-calls", 429, "exceeded 45 calls per minute", "TooManyRequests", "exceeded 45 calls per minute", **TEXT, wait=60),
    case("timeout", 503, "upstream request timeout after 30 seconds", "ServiceUnavailable", "upstream request timeout after 30 seconds", **TEXT, **OTHER),
    case("unusable-wait", 503, "no healthy upstream", "ServiceUnavailable", "no healthy upstream", **TEXT, **OTHER, fields=("Retry-After: soon",)),
    case("throttled-page", 503, "<html><title>Busy</title></html>", "TooManyRequests", "Busy", **HTML, fields=("Retry-After: 5",), wait=5),
]  # fmt: skip


def test_there_are_at_least_sixty() -> None:
    assert len(CASES) >= 60


@pytest.mark.parametrize("given", CASES)
async def test_an_error_in_the_wild(
    given: Case, start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask
) -> None:
    """Envelope, header fields, log line and counters."""
    lines = [*([f"Content-Type: {given.media_type}"] if given.media_type else []), *given.fields, "X-Kept: as it is"]
    head = "\r\n".join([f"HTTP/1.1 {given.status} Reason", *lines, f"Content-Length: {len(given.body)}", "", ""])
    upstream = await start_upstream(head.encode() + given.body)
    proxied = await start_proxy(upstream.url)

    response = await ask(proxied, "GET", "/api/machines")

    assert (response.status, response.reason) == (given.status, b"Reason")
    target = response["X-Target-Id"]
    assert target == given.target if given.target else MADE_HERE.fullmatch(target)
    assert (response["X-Target-Source"], response["X-Error-Origin"]) == (given.source, "upstream")
    assert response["X-Error-Code"] == response["x-ms-error-code"] == given.code
    assert response["X-Kept"] == "as it is"
    assert int(response["Content-Length"]) == len(response.body)
    wait = 60 if given.wait is None and given.status == 429 else given.wait
    assert response.values("Retry-After") == ([] if wait is None else [str(wait)])

    content = response.body
    if "Content-Encoding" in response:
        assert given.form == "same"
        is_brotli = response["Content-Encoding"] == "br"
        content = brotli.decompress(content) if is_brotli else zlib.decompress(content, wbits=47)
    error = json.loads(content.decode("utf-8-sig"))["error"]
    assert (error["code"], error["message"], error["target"]) == (given.code, given.message, target)
    assert JWT not in content.decode()
    if given.form == "same":
        assert response.body == given.body
    elif given.form == "spliced":
        assert error == json.loads(plain(given))["error"] | {"message": given.message, "target": target}
    elif given.form == "anew":
        assert response["Content-Type"] == JSON
        assert "ETag" not in response
        assert ("innererror" in error) == bool(given.body)

    event = await proxied.lines.event("upstream_error")
    told = {name: event.get(name) for name in ("status", "error_code", "error_message", "target_id", "target_source")}
    message = given.message if given.form != "spliced" or "message" in json.loads(plain(given))["error"] else ""
    assert told == {
        "status": given.status,
        "error_code": given.code,
        "error_message": message,
        "target_id": target,
        "target_source": given.source,
    }
    assert (event.get("shape"), event.get("retry_after_s")) == (given.shape, given.wait)
    assert event["level"] == ("info" if given.wait is not None or given.status == 429 else "warning")
    assert event["response_bytes"] == len(response.body)

    label = given.label or given.code
    assert proxied.sample("errors_total", code=label, status=str(given.status), origin="upstream") == 1
    assert proxied.sample("operation_errors_total", operation="listMachines", code=label) == 1
    assert proxied.sample("requests_total", operation="listMachines", status=str(given.status)) == 1
    is_throttled = given.status == 429 or (given.status == 503 and given.wait is not None)
    assert proxied.sample("throttled_total", operation="listMachines") == is_throttled


def plain(given: Case) -> bytes:
    return gzip.decompress(given.body) if given.body.startswith(b"\x1f\x8b") else given.body


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        pytest.param("application/problem+json", "problem", id="problem"),
        pytest.param("application/json;q=0.5, application/problem+json", "problem", id="rather-a-problem"),
        pytest.param("application/json, application/problem+json", "envelope", id="either"),
        pytest.param("*/*", "envelope", id="anything"),
    ],
)
@pytest.mark.parametrize("directives", ["Forbidden", "shape=graph", "shape=problem", "html", "reset", "empty=404"])
async def test_the_form_that_the_client_prefers(
    proxied: Proxied, ask: Ask, accept: str, form: str, directives: str
) -> None:
    response = await ask(
        proxied, "GET", "/api/machines", b"X-Simulate: " + directives.encode(), b"Accept: " + accept.encode()
    )
    document = json.loads(response.body)
    if form == "envelope":
        assert response["Content-Type"].partition(";")[0] == "application/json"
        told = document["error"]
        assert "Vary" not in response
    else:
        assert response["Content-Type"] == "application/problem+json"
        assert response["Vary"] == "Accept"
        told = document
        assert document["status"] == response.status
        assert all(isinstance(document[name], str) and document[name] for name in ("type", "title", "detail"))
    assert told["code"] == response["X-Error-Code"]
    assert told["target"] == response["X-Target-Id"]


async def test_a_rejection_as_problem_details(proxied: Proxied, ask: Ask) -> None:
    response = await ask(
        proxied, "POST", "/api/machines/1/isolate", b"Content-Type: application/json",
        b"Accept: application/problem+json", body=b'{"comment": "x"}',
    )  # fmt: skip
    document = json.loads(response.body)
    assert (document["status"], document["code"]) == (400, "MissingRequiredParameter")
    assert document["details"][0]["target"] == "/comment"
    assert document["target"] == response["X-Target-Id"]


async def test_head_keeps_its_empty_body_and_gets_the_fields(
    start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask
) -> None:
    upstream = await start_upstream(
        b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: 99\r\nETag: x\r\n\r\n"
    )
    proxied = await start_proxy(upstream.url)
    response = await ask(proxied, "HEAD", "/api/machines")
    assert (response.status, response["X-Error-Code"], response["Content-Type"]) == (502, "BadGateway", JSON)
    assert MADE_HERE.fullmatch(response["X-Target-Id"])
    assert "Content-Length" not in response
    assert "ETag" not in response


async def test_head_of_what_may_be_the_envelope_keeps_its_length(
    start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask
) -> None:
    upstream = await start_upstream(
        b"HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n"
    )
    proxied = await start_proxy(upstream.url)
    response = await ask(proxied, "HEAD", "/api/machines")
    assert (response["Content-Length"], response["X-Error-Code"]) == ("99", "NotFound")


@pytest.mark.parametrize("side", ["request", "response"])
async def test_what_may_not_be_transformed_is_passed_on(
    start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask, side: str
) -> None:
    line = b"Cache-Control: no-transform"
    theirs = line + b"\r\n" if side == "response" else b""
    upstream = await start_upstream(
        b"HTTP/1.1 401 Unauthorized\r\nContent-Type: application/json\r\n%bContent-Length: 17\r\n\r\n" % theirs
        + b'{"Message":"No."}'
    )
    proxied = await start_proxy(upstream.url)
    response = await ask(proxied, "GET", "/api/machines", *([line] if side == "request" else []))
    assert response.body == b'{"Message":"No."}'
    assert (response["X-Error-Code"], response["X-Target-Source"]) == ("Unauthorized", "proxy")


OPAQUE = "opaqueTokenOfThisVeryRequest"
CARRIED = (b"Authorization: Bearer " + OPAQUE.encode(), b"Cookie: session=cookieOfThisRequest")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param({"error": OPAQUE}, "Unauthorized", id="code"),
        pytest.param({"error": JWT, "error_codes": [1]}, "Unauthorized", id="token-for-a-code"),
        pytest.param({"message": f"No {OPAQUE} here", "requestId": OPAQUE}, "Unauthorized", id="message-and-target"),
        pytest.param({"message": "x", "requestId": JWT}, "Unauthorized", id="token-for-a-target"),
        pytest.param(
            {"message": "x", "password": 1234567, "a": {"sessionToken": [OPAQUE]}}, "Unauthorized", id="original"
        ),
        pytest.param(
            {"error": {"code": "Denied", "message": "x", "target": OPAQUE, "details": [{OPAQUE: OPAQUE}]}},
            "Denied",
            id="envelope",
        ),
        pytest.param(f"<html><title>{OPAQUE}</title>cookieOfThisRequest", "Unauthorized", id="page"),
        pytest.param('{"message": "cookieOfThisRequest", "code": "' + OPAQUE + '", "a', "Unauthorized", id="cut-off"),
    ],
)
@pytest.mark.parametrize("accept", ["application/json", "application/problem+json"])
async def test_what_the_request_carried_is_not_repeated(
    start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask, body: object, code: str, accept: str
) -> None:
    sent = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    head = f"HTTP/1.1 401 No {OPAQUE}\r\nContent-Type: application/json\r\nContent-Length: {len(sent)}\r\n\r\n"
    upstream = await start_upstream(head.encode() + sent)
    proxied = await start_proxy(upstream.url)
    response = await ask(proxied, "GET", "/api/machines", *CARRIED, f"Accept: {accept}".encode())
    assert (response["X-Error-Code"], response["X-Target-Source"]) == (code, "proxy")
    event = await proxied.lines.event("upstream_error")
    assert (event["error_code"], event["target_id"]) == (code, response["X-Target-Id"])
    told = response.body.decode() + json.dumps(event) + response["X-Target-Id"]
    for secret in (OPAQUE, JWT, "cookieOfThisRequest", "1234567"):
        assert secret not in told


async def test_the_envelope_is_passed_on_as_it_is_and_told_without_secrets(
    start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask
) -> None:
    body = json.dumps(whole(OPAQUE, f"No {OPAQUE} here")).encode()
    upstream = await start_upstream(b"HTTP/1.1 403 No\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    proxied = await start_proxy(upstream.url)
    response = await ask(proxied, "GET", "/api/machines", *CARRIED)
    assert (response.body, response["X-Error-Code"], response["X-Target-Id"]) == (body, "Forbidden", GUID)
    event = await proxied.lines.event("upstream_error")
    assert (event["error_code"], event["error_message"]) == ("Forbidden", "No *** here")


async def test_a_token_is_no_request_id(proxied: Proxied, ask: Ask) -> None:
    response = await ask(proxied, "GET", "/api/machines", f"X-Request-Id: {JWT}".encode())
    assert MADE_HERE.fullmatch(response["X-Request-Id"])


async def test_switched_off_nothing_is_rewritten_and_everything_tagged(
    start_proxy: StartProxy, start_upstream: StartUpstream, ask: Ask
) -> None:
    body = b'{"error":"invalid_client","error_description":"x","correlation_id":"%b"}' % GUID.encode()
    date = formatdate(90, usegmt=True).encode()
    upstream = await start_upstream(
        b"HTTP/1.1 429 Wait\r\nETag: x\r\nRetry-After: %b\r\nContent-Length: %d\r\n\r\n%b" % (date, len(body), body)
    )
    proxied = await start_proxy(upstream.url, {"errors.normalise": "false"})
    response = await ask(proxied, "GET", "/api/machines", b"Accept: application/problem+json")
    assert (response.body, response["ETag"], response["Retry-After"]) == (body, "x", date.decode())
    assert (response["X-Target-Id"], response["X-Target-Source"]) == (GUID, "body")
    own = await ask(proxied, "POST", "/api/machines/1/isolate", b"Content-Type: application/json",
        b"Accept: application/problem+json", body=b'{"comment": "x"}')  # fmt: skip
    assert own.error["code"] == "MissingRequiredParameter"


class TestBadInput:
    """Bodies that never end, or are larger than anybody reads."""

    async def test_a_hundred_megabytes_are_streamed_on(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Callable[[Proxied], Awaitable[Wire]]
    ) -> None:
        piece, times = b"x" * 1_000_000, 100

        async def vast(upstream: Upstream, wire: Wire) -> None:
            await upstream.request(wire)
            await wire.send(b"HTTP/1.1 500 Oops\r\nContent-Length: %d\r\n\r\n" % (len(piece) * times))
            for _ in range(times):
                await wire.send(piece)

        upstream = await start_upstream(vast)
        proxied = await start_proxy(upstream.url)
        wire = await dial(proxied)
        wire.within_s = 60
        response = await wire.ask("GET", "/api/machines")
        assert (response.status, len(response.body), response.is_whole) == (500, len(piece) * times, True)
        assert (response["X-Error-Code"], response["X-Target-Source"]) == ("other", "proxy")
        await proxied.lines.event("upstream_error")
        assert proxied.sample("errors_total", code="other", status="500", origin="upstream") == 1

    async def test_an_endless_one_reaches_the_client_as_it_comes(
        self, start_proxy: StartProxy, start_upstream: StartUpstream, dial: Callable[[Proxied], Awaitable[Wire]]
    ) -> None:
        async def endless(upstream: Upstream, wire: Wire) -> None:
            await upstream.request(wire)
            await wire.send(b"HTTP/1.1 503 Busy\r\nRetry-After: 9\r\nTransfer-Encoding: chunked\r\n\r\n")
            while True:
                await wire.send(b"4\r\nmore\r\n")
                await asyncio.sleep(0)

        upstream = await start_upstream(endless)
        proxied = await start_proxy(upstream.url, {"errors.max_body_bytes": "1000"})
        wire = await dial(proxied)
        await wire.send(b"GET /api/machines HTTP/1.1\r\nHost: sidecar\r\n\r\n")
        head = await wire.head()
        assert (head.status, head["X-Error-Code"], head["Retry-After"]) == (503, "other", "9")
        assert await wire.reader.readexactly(5000)

    @pytest.mark.parametrize(
        ("ending", "failure"), [("stall", "connection_read_timeout"), ("truncate", "http_response_incomplete")]
    )
    async def test_one_that_is_cut_keeps_its_status_and_counts_as_other(
        self, start_proxy: StartProxy, simulator: Simulator, ask: Ask, ending: str, failure: str
    ) -> None:
        proxied = await start_proxy(simulator.url, {"upstream.idle_timeout_s": "0.2"})
        response = await ask(
            proxied, "GET", "/api/machines", f"X-Simulate: TooManyRequests, retry-after=7, {ending}".encode()
        )
        assert (response.status, response["Retry-After"], response.is_whole) == (429, "7", True)
        assert response.error["code"] == response["X-Error-Code"] == "TooManyRequests"
        assert response["X-Error-Origin"] == "upstream"
        event = await proxied.lines.event("proxy_error")
        assert (event["failure"], event["status"], event["origin"]) == (failure, 429, "upstream")
        assert proxied.sample("errors_total", code="other", status="429", origin="upstream") == 1
        assert proxied.sample("upstream_failures_total", failure=failure) == 1
        assert proxied.sample("throttled_total", operation="listMachines") == 1

    async def test_one_that_stalls_and_has_to_stay_as_it_is_ends_the_connection(
        self, start_proxy: StartProxy, simulator: Simulator, ask: Ask
    ) -> None:
        proxied = await start_proxy(simulator.url, {"upstream.idle_timeout_s": "0.2", "errors.normalise": "false"})
        response = await ask(proxied, "GET", "/api/machines", b"X-Simulate: shape=graph, stall")
        assert (response.status, response["X-Error-Origin"], response.is_whole) == (403, "upstream", False)

    async def test_one_that_stalls_behind_the_limit_ends_the_connection(
        self, start_proxy: StartProxy, simulator: Simulator, ask: Ask
    ) -> None:
        proxied = await start_proxy(simulator.url, {"upstream.idle_timeout_s": "0.2", "errors.max_body_bytes": "20"})
        response = await ask(proxied, "GET", "/api/machines", b"X-Simulate: shape=graph, stall")
        assert (response.status, response["X-Error-Code"], response.is_whole) == (403, "other", False)


# What a request may ask of the simulator, and whether it is a failure in itself.
FAILURES = [
    *CODES,
    *(f"shape={name}" for name in SHAPES),
    *(f"status={status}" for status in (400, 404, 418, 429, 451, 499, 500, 503, 599)),
    *(f"empty={status}" for status in (400, 401, 405, 429, 500, 599)),
    "html",
    "html, gzip",
    "shape=graph, gzip",
    "shape=xml, deflate",
    "Forbidden, target=none",
    "Forbidden, target=activity",
    "TooManyRequests, retry-after=date",
    "shape=quota, retry-after=none",
    "Forbidden, slow=0.01",
    "shape=entra, trickle=0.01",
    "reset",
    "reset-head",
    "garbage",
    "shape=graph, stall",
    "shape=graph, truncate",
    "html, truncate",
    "frobnicate",
]


def read_as_a_client(response: Message) -> tuple[str, str, str]:
    """Return code, message and target: all that this client knows of errors."""
    content = response.body
    if "Content-Encoding" in response:
        is_brotli = response["Content-Encoding"] == "br"
        content = brotli.decompress(content) if is_brotli else zlib.decompress(content, wbits=47)
    error = json.loads(content.decode("utf-8-sig"))["error"]
    return error["code"], error["message"], error["target"]


def test_every_directive_that_can_fail_is_asked_for() -> None:
    asked = {item.strip().partition("=")[0] for failure in FAILURES for item in failure.split(",")}
    assert set(DIRECTIVES) - {"size", "echo"} <= asked


@pytest.mark.parametrize("coding", ["", ", gzip"], ids=["plain", "gzip"])
@pytest.mark.parametrize("failure", FAILURES)
async def test_a_client_that_reads_only_the_envelope_handles_every_failure(
    start_proxy: StartProxy, simulator: Simulator, ask: Ask, failure: str, coding: str
) -> None:
    proxied = await start_proxy(simulator.url, {"upstream.idle_timeout_s": "0.3"})
    response = await ask(proxied, "POST", "/api/machines/1/isolate", b"Content-Type: application/json",
        b"X-Simulate: " + failure.encode() + coding.encode(), body=b'{"Comment": "x"}')  # fmt: skip
    assert response.status >= 400
    code, message, target = read_as_a_client(response)
    assert code
    assert message
    assert target == response["X-Target-Id"]
    assert response["X-Error-Origin"] in {"upstream", "proxy"}
