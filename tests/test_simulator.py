from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import json
import re
import time
import zlib
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import pytest_asyncio

import proxy.simulator as simulator_module
from proxy.simulator import DIRECTIVES, HELP, Plan, Simulator, UnknownDirectiveError, plan_of, serve
from proxy.simulator_data import CODES, SHAPES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
ACTIVITY = re.compile(r"\|[0-9a-f]{8}-[0-9a-f]{16}\.")
ISOLATE = "/api/machines/abc/isolate"
RIGHT = {"Comment": "look", "IsolationType": "Full"}
INDICATOR = {
    "indicatorValue": "203.0.113.9",
    "indicatorType": "IpAddress",
    "action": "Block",
    "title": "t",
    "description": "d",
}


@pytest_asyncio.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator.listening() as listening:
        yield listening


@pytest_asyncio.fixture
async def session(simulator: Simulator) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(simulator.url, auto_decompress=False) as opened:
        yield opened


async def raw(simulator: Simulator, request: bytes, *, half_open_s: float = 0.0) -> bytes:
    """Send bytes, and return all that comes back until the end of the connection, or for a while."""
    host, _, port = simulator.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    arrived = b""
    try:
        writer.write(request)
        async with asyncio.timeout(half_open_s or 5):
            while piece := await reader.read(65536):
                arrived += piece
    except TimeoutError:
        assert half_open_s, "the connection should have ended"
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    return arrived


async def arrival(simulator: Simulator) -> None:
    async with asyncio.timeout(5):
        while not simulator.received:  # noqa: ASYNC110  # it is a plain list, for the sake of its other readers
            await asyncio.sleep(0.005)


def get(directives: str, target: str = "/api/machines") -> bytes:
    return f"GET {target} HTTP/1.1\r\nHost: x\r\nX-Simulate: {directives}\r\nConnection: close\r\n\r\n".encode()


def body_of(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


ACCEPTED: dict[str, tuple[str, str, dict[str, Any], int]] = {
    "isolate": ("POST", "machines/a/isolate", RIGHT, 201),
    "unisolate": ("POST", "machines/a/unisolate", {"Comment": "x"}, 201),
    "restrict": ("POST", "machines/a/restrictCodeExecution", {"Comment": "x"}, 201),
    "unrestrict": ("POST", "machines/a/unrestrictCodeExecution", {"Comment": "x"}, 201),
    "scan": ("POST", "machines/a/runAntiVirusScan", {"Comment": "x", "ScanType": "Quick"}, 201),
    "quarantine": ("POST", "machines/a/StopAndQuarantineFile", {"Comment": "x", "Sha1": "8" * 40}, 201),
    "collect": ("POST", "machines/a/collectInvestigationPackage", {"Comment": "x"}, 201),
    "live-response": (
        "POST",
        "machines/a/runliveresponse",
        {
            "Comment": "x",
            "Commands": [{"type": "RunScript", "params": [{"key": "ScriptName", "value": "a.ps1"}]}],
        },
        201,
    ),
    "indicator": ("POST", "indicators", INDICATOR, 200),
    "indicator-group-list": ("POST", "indicators", {**INDICATOR, "rbacGroupNames": ["a"]}, 200),
    "indicator-generate-alert-in-prose-spelling": ("POST", "indicators", {**INDICATOR, "GenerateAlert": "TRUE"}, 200),
    "import": ("POST", "indicators/import", {"Indicators": [INDICATOR]}, 200),
    "alert": ("PATCH", "alerts/a", {"status": "Resolved", "comment": "x"}, 200),
    "alert-in-table-spelling": ("PATCH", "alerts/a", {"Status": "Resolved", "Comment": "x"}, 200),
    "alerts": ("POST", "alerts/batchUpdate", {"alertIds": ["a"], "status": "New"}, 200),
    "incident": ("PATCH", "incidents/4711", {"status": "Active", "tags": ["a"]}, 200),
    "hunting": ("POST", "advancedhunting/run", {"Query": "DeviceInfo"}, 200),
    "query": ("POST", "advancedqueries/run", {"Query": "DeviceInfo"}, 200),
    "optional-null": ("POST", "machines/a/isolate", {"Comment": "x", "IsolationType": None}, 201),
}


@pytest.mark.parametrize("prefix", ["/api/", "/api/v1.0/", "/API/V1.0//"])
@pytest.mark.parametrize(("method", "path", "document", "status"), ACCEPTED.values(), ids=ACCEPTED)
async def test_documented_spelling_is_accepted(
    session: aiohttp.ClientSession, prefix: str, method: str, path: str, document: dict[str, Any], status: int
) -> None:
    async with session.request(method, prefix + path, json=document) as response:
        assert response.status == status, await response.text()


MISSING, BODY, INPUT = "MissingRequiredParameter", "InvalidRequestBody", "InvalidInput"


@pytest.mark.parametrize(
    ("method", "path", "document", "code", "named"),
    [
        pytest.param("POST", "machines/a/isolate", {"comment": "x"}, MISSING, "Comment", id="isolate-lower"),
        pytest.param("POST", "machines/a/isolate", {"COMMENT": "x"}, MISSING, "Comment", id="isolate-upper"),
        pytest.param("POST", "machines/a/isolate", {"Comment": None}, MISSING, "Comment", id="isolate-null"),
        pytest.param("POST", "machines/a/isolate", {**RIGHT, "comment": "x"}, BODY, "", id="isolate-both"),
        pytest.param("POST", "machines/a/isolate", {"Comment": "x", "isolationType": "Full"}, BODY, "", id="camel"),
        pytest.param(
            "POST", "machines/a/isolate", {"Comment": "x", "IsolationType": "full"}, INPUT, "full", id="value"
        ),
        pytest.param("POST", "machines/a/isolate", {"Comment": 1}, BODY, "", id="number-for-text"),
        pytest.param("POST", "machines/a/isolate", ["Comment"], BODY, "", id="array-for-object"),
        pytest.param("POST", "machines/a/unisolate", {"comment": "x"}, MISSING, "Comment", id="unisolate"),
        pytest.param("POST", "machines/a/restrictCodeExecution", {"comment": ""}, MISSING, "Comment", id="restrict"),
        pytest.param(
            "POST", "machines/a/unrestrictCodeExecution", {"comment": ""}, MISSING, "Comment", id="unrestrict"
        ),
        pytest.param(
            "POST", "machines/a/runAntiVirusScan", {"Comment": "x", "scanType": "Full"}, MISSING, "ScanType", id="scan"
        ),
        pytest.param(
            "POST",
            "machines/a/runAntiVirusScan",
            {"Comment": "x", "ScanType": "quick"},
            INPUT,
            "quick",
            id="scan-value",
        ),
        pytest.param(
            "POST", "machines/a/StopAndQuarantineFile", {"Comment": "x", "SHA1": "8"}, MISSING, "Sha1", id="quarantine"
        ),
        pytest.param(
            "POST", "machines/a/collectInvestigationPackage", {"comment": ""}, MISSING, "Comment", id="collect"
        ),
        pytest.param("POST", "machines/a/runliveresponse", {"commands": []}, BODY, "", id="live-response"),
        pytest.param("POST", "machines/a/runliveresponse", {"Commands": [{"Type": "GetFile"}]}, BODY, "", id="nested"),
        pytest.param(
            "POST",
            "machines/a/runliveresponse",
            {"Commands": [{"type": "GetFile", "params": [{"Key": "Path"}]}]},
            BODY,
            "",
            id="nested-twice",
        ),
        pytest.param(
            "POST",
            "machines/a/runliveresponse",
            {"Commands": [{"type": "GetFile", "params": [{"key": "path"}]}]},
            INPUT,
            "path",
            id="nested-value",
        ),
        pytest.param("POST", "machines/a/runliveresponse", {"Commands": {}}, BODY, "", id="object-for-array"),
        pytest.param(
            "POST", "indicators", {**INDICATOR, "IndicatorValue": INDICATOR["indicatorValue"]}, BODY, "", id="indicator"
        ),
        pytest.param("POST", "indicators", {**INDICATOR, "action": "alert"}, INPUT, "alert", id="indicator-value"),
        pytest.param("POST", "indicators", {"Title": "t"}, MISSING, "indicatorValue", id="indicator-pascal"),
        pytest.param("POST", "indicators/import", {"indicators": []}, MISSING, "Indicators", id="import"),
        pytest.param(
            "POST",
            "indicators/import",
            {"Indicators": [{"Action": "Block"}]},
            MISSING,
            "indicatorValue",
            id="import-item",
        ),
        pytest.param(
            "POST",
            "indicators/import",
            {"Indicators": [INDICATOR] * 501},
            "MaximumBatchSizeExceeded",
            "501",
            id="import-501",
        ),
        pytest.param("PATCH", "alerts/a", {"AssignedTo": "x"}, BODY, "", id="alert"),
        pytest.param("PATCH", "alerts/a", {"status": "resolved"}, INPUT, "resolved", id="alert-value"),
        pytest.param("POST", "alerts/batchUpdate", {"AlertIds": ["a"]}, MISSING, "alertIds", id="alerts"),
        pytest.param("POST", "alerts/batchUpdate", {"alertIds": [1]}, BODY, "", id="alerts-numbers"),
        pytest.param("POST", "alerts/batchUpdate", {"alertIds": ["a"], "Status": "New"}, BODY, "", id="alerts-pascal"),
        pytest.param("PATCH", "incidents/1", {"Status": "Active"}, BODY, "", id="incident"),
        pytest.param("PATCH", "incidents/1", {"status": "active"}, INPUT, "active", id="incident-value"),
        pytest.param("POST", "advancedhunting/run", {"query": "x"}, MISSING, "Query", id="hunting"),
        pytest.param("POST", "advancedqueries/run", {"QUERY": "x"}, MISSING, "Query", id="query"),
    ],
)
async def test_other_spelling_is_refused(
    session: aiohttp.ClientSession, method: str, path: str, document: Any, code: str, named: str
) -> None:
    async with session.request(method, f"/api/{path}", json=document) as response:
        error = (await response.json())["error"]
    assert (response.status, error["code"]) == (400, code)
    assert named in error["message"]
    assert GUID.fullmatch(error["target"])


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        pytest.param({}, b"", id="empty"),
        pytest.param({}, b"{", id="broken"),
        pytest.param({}, b"\xff\xfe\xfd", id="not-text"),
        pytest.param({}, b"[" * 100_000, id="bottomless"),
        pytest.param({"Content-Encoding": "gzip"}, b"{}", id="not-gzip"),
        pytest.param({"Content-Encoding": "gzip"}, gzip.compress(b"{}")[:-4], id="cut-gzip"),
        pytest.param({"Content-Encoding": "br"}, b"{}", id="unknown-coding"),
    ],
)
async def test_unreadable_body_is_refused(session: aiohttp.ClientSession, fields: dict[str, str], body: bytes) -> None:
    async with session.post(ISOLATE, data=body, headers=fields) as response:
        assert response.status == 400
        assert (await response.json())["error"]["code"] == "InvalidRequestBody"


@pytest.mark.parametrize(
    ("coding", "encode"),
    [
        pytest.param("gzip", gzip.compress, id="gzip"),
        pytest.param("deflate", zlib.compress, id="deflate"),
        pytest.param("deflate, gzip", lambda body: gzip.compress(zlib.compress(body)), id="both"),
    ],
)
async def test_coded_request_is_checked_decoded_and_kept_coded(
    simulator: Simulator, session: aiohttp.ClientSession, coding: str, encode: Any
) -> None:
    for document, status in ((RIGHT, 201), ({"comment": "x"}, 400)):
        body = encode(json.dumps(document).encode())
        async with session.post(ISOLATE, data=body, headers={"Content-Encoding": coding}) as response:
            assert response.status == status
        assert simulator.received[-1].body == body


async def test_action_is_pending_and_listed(simulator: Simulator, session: aiohttp.ClientSession) -> None:
    async with session.post(ISOLATE, json=RIGHT) as response:
        action = await response.json()
    assert GUID.fullmatch(action["id"])
    expected = {"type": "Isolate", "status": "Pending", "requestorComment": "look", "machineId": "abc"}
    assert {name: action[name] for name in expected} == expected
    assert action["@odata.context"].startswith(f"{simulator.url}/api/$metadata#MachineActions")
    async with session.get("/api/machineactions") as response:
        assert [listed["id"] for listed in (await response.json())["value"]] == [action["id"]]


async def test_changes_are_kept(session: aiohttp.ClientSession) -> None:
    async with session.patch("/api/incidents/4711", json={"status": "Resolved", "comment": "done"}) as response:
        assert (await response.json())["comments"][0]["comment"] == "done"
    async with session.get("/api/incidents") as response:
        assert (await response.json())["value"][0]["status"] == "Resolved"
    async with session.post("/api/indicators", json=INDICATOR) as response:
        submitted = await response.json()
    async with session.get("/api/indicators") as response:
        assert (await response.json())["value"][-1]["id"] == submitted["id"]


async def test_success_bodies_are_as_documented(session: aiohttp.ClientSession) -> None:
    async with session.post("/api/alerts/batchUpdate", json={"alertIds": ["a"]}) as response:
        assert await response.read() == b""
    async with session.post("/api/indicators/import", json={"Indicators": [INDICATOR]}) as response:
        (result,) = (await response.json())["value"]
    assert (result["indicator"], result["isFailed"], result["failureReason"]) == ("203.0.113.9", False, None)
    async with session.post("/api/advancedqueries/run", json={"Query": "x"}) as response:
        assert set(await response.json()) == {"Schema", "Results"}
    async with session.post("/api/advancedhunting/run", json={"Query": "x"}) as response:
        assert set(await response.json()) == {"Stats", "Schema", "Results"}
    async with session.get("/api/machines/Ab%20c") as response:
        assert (await response.json())["id"] == "Ab c"
    async with session.head("/api/machines") as response:
        assert response.status == 200
        assert int(response.headers["Content-Length"]) > 100


@pytest.mark.parametrize("path", ["/", "/api", "/api/nothing", "/api/machines/a/b/isolate", "/_simulate/gzip"])
async def test_unknown_route_is_not_found(session: aiohttp.ClientSession, path: str) -> None:
    async with session.get(path) as response:
        assert response.status == 404
    async with session.get("/api/alerts/batchUpdate") as response:
        assert (await response.json())["error"]["code"] == "ResourceNotFound"


@pytest.mark.parametrize("prefix", ["", "/_simulate/deflate"])
async def test_pages_follow_absolute_links(simulator: Simulator, prefix: str) -> None:
    url, ids = f"{simulator.url}{prefix}/api/machines?$filter=a%20eq%20'b'&$top=3", []
    async with aiohttp.ClientSession() as session:
        for expected in (3, 3, 1):
            async with session.get(url) as response:
                page = await response.json()
            assert len(page["value"]) == expected
            ids += [machine["id"] for machine in page["value"]]
            url = page.get("@odata.nextLink", "")
            assert url.startswith(f"{simulator.url}{prefix}/api/machines?$filter=a%20eq%20'b'&") or expected == 1
    assert url == ""
    assert len(set(ids)) == 7


@pytest.mark.parametrize("query", ["", "?$skip=2", "?%24top=7", "?$top=0", "?$top=9&$skip=8"])
async def test_last_page_has_no_link(session: aiohttp.ClientSession, query: str) -> None:
    async with session.get(f"/api/machines{query}") as response:
        assert "@odata.nextLink" not in await response.json()


@pytest.mark.parametrize("value", ["-1", "x", "", "9" * 5000, "\u0662"])
async def test_faulty_page_size_is_an_odata_error(session: aiohttp.ClientSession, value: str) -> None:
    async with session.get("/api/machines", params={"$top": value}) as response:
        assert (await response.json())["error"]["code"] == "ODataError"


async def test_wildcard_address_goes_by_the_name_in_the_request() -> None:
    async with Simulator.listening("0.0.0.0") as simulator, aiohttp.ClientSession() as session:  # noqa: S104
        url = simulator.url.replace("0.0.0.0", "127.0.0.1")  # noqa: S104
        async with session.get(f"{url}/api/machines?$top=1", headers={"Host": "upstream.test"}) as response:
            assert (await response.json())["@odata.nextLink"].startswith("http://upstream.test/api/machines?")


@pytest.mark.parametrize("code", CODES)
async def test_each_code_comes_on_demand(simulator: Simulator, session: aiohttp.ClientSession, code: str) -> None:
    async with session.get("/any", headers={"X-Simulate": code}) as response:
        error = (await response.json())["error"]
    assert response.status == CODES[code][0]
    assert (error["code"], bool(error["message"])) == (code, True)
    assert GUID.fullmatch(error["target"])
    assert ("Retry-After" in response.headers) == (code == "TooManyRequests")
    assert ("WWW-Authenticate" in response.headers) == (code == "Unauthorized")
    assert simulator.received[-1].code == code


@pytest.mark.parametrize(
    ("directives", "status", "code"),
    [
        pytest.param("status=418", 418, "BadRequest", id="status-alone"),
        pytest.param("status=403", 403, "Forbidden", id="documented-status"),
        pytest.param("status=503", 503, "InternalServerError", id="server-status"),
        pytest.param("NotFound, status=410", 410, "NotFound", id="code-and-status"),
        pytest.param("unauthorized", 401, "Unauthorized", id="lower-case"),
        pytest.param("Forbidden,NotFound", 404, "NotFound", id="last-code-holds"),
        pytest.param("echo,html,empty=500,Forbidden", 403, "Forbidden", id="code-goes-first"),
    ],
)
async def test_status_on_demand(session: aiohttp.ClientSession, directives: str, status: int, code: str) -> None:
    async with session.get("/api/machines", headers={"X-Simulate": directives}) as response:
        assert (response.status, (await response.json())["error"]["code"]) == (status, code)


@pytest.mark.parametrize("name", SHAPES)
async def test_each_shape_comes_on_demand(simulator: Simulator, session: aiohttp.ClientSession, name: str) -> None:
    shape = SHAPES[name]
    bodies = set()
    for directives, status in ((f"shape={name}", shape.status), (f"shape={name}, status=418", 418)):
        async with session.get("/any", headers={"X-Simulate": directives}) as response:
            assert (response.status, response.headers["Content-Type"]) == (status, shape.media_type)
            text = (await response.read()).decode(shape.encoding)
            assert "{id}" not in text
            bodies.add(text)
    assert len(bodies) == (2 if "{id}" in shape.text else 1)
    assert simulator.received[-1].code is None


@pytest.mark.parametrize(
    ("form", "pattern"),
    [
        pytest.param("7", r"7", id="seconds"),
        pytest.param("date", r"\w{3}, .* GMT", id="date"),
        pytest.param("none", None, id="none"),
    ],
)
async def test_forms_of_retry_after(session: aiohttp.ClientSession, form: str, pattern: str | None) -> None:
    async with session.get("/any", headers={"X-Simulate": f"TooManyRequests, retry-after={form}"}) as response:
        got = response.headers.get("Retry-After")
    assert re.fullmatch(pattern, got or "") if pattern else got is None


@pytest.mark.parametrize(
    ("form", "pattern"), [("guid", GUID), ("activity", ACTIVITY), ("none", None)], ids=["guid", "activity", "none"]
)
async def test_target_forms(session: aiohttp.ClientSession, form: str, pattern: re.Pattern[str] | None) -> None:
    targets = []
    for path in (ISOLATE, ISOLATE, f"/_simulate/Forbidden{ISOLATE}"):
        async with session.post(path, json={}, headers={"X-Simulate": f"target={form}"}) as response:
            targets.append((await response.json())["error"].get("target"))
    if pattern is None:
        assert targets == [None] * 3
    else:
        assert all(pattern.fullmatch(target) for target in targets)
        assert len(set(targets)) == 3


@pytest.mark.parametrize(
    "answer", ["", "Forbidden", "html", "echo", "size=200000", "size=0", "status=418", "trickle=0", "frobnicate"]
)
@pytest.mark.parametrize(("coding", "wbits"), [("gzip", 31), ("deflate", 15)], ids=["gzip", "deflate"])
async def test_any_body_is_coded(session: aiohttp.ClientSession, answer: str, coding: str, wbits: int) -> None:
    async with session.get("/api/alerts", headers={"X-Simulate": f"{coding},{answer}"}) as response:
        assert response.headers.get("Content-Encoding") == (None if answer == "frobnicate" else coding)
        if answer != "frobnicate":  # nothing is done by halves
            body = zlib.decompress(await response.read(), wbits=wbits)
            assert len(body) == int(answer[5:]) if answer.startswith("size") else body


async def test_empty_body_has_no_coding(session: aiohttp.ClientSession) -> None:
    async with session.get("/api/alerts", headers={"X-Simulate": "gzip,empty=401"}) as response:
        assert await response.read() == b""
        assert "Content-Encoding" not in response.headers


async def test_gateway_page(simulator: Simulator, session: aiohttp.ClientSession) -> None:
    async with session.get("/api/machines", headers={"X-Simulate": "html"}) as response:
        assert (response.status, response.content_type) == (502, "text/html")
        assert "<html>" in await response.text()
    assert (simulator.received[-1].status, simulator.received[-1].code) == (502, None)


@pytest.mark.parametrize("status", [200, 204, 304, 401, 503])
async def test_empty_answers(session: aiohttp.ClientSession, status: int) -> None:
    for _ in range(2):  # the connection stays usable
        async with session.get("/api/machines", headers={"X-Simulate": f"empty={status}"}) as response:
            assert (response.status, await response.read()) == (status, b"")
            assert "Content-Type" not in response.headers


async def test_path_prefix(simulator: Simulator, session: aiohttp.ClientSession) -> None:
    async with session.post(f"/_simulate/status=429,%67zip{ISOLATE}?a=b", headers={"X-Simulate": "html"}) as response:
        assert (response.status, response.headers["Content-Encoding"]) == (429, "gzip")
    async with session.post(f"/_simulate/slow=0{ISOLATE}", json=RIGHT) as response:
        assert response.status == 201
    assert simulator.received[-1].target == f"/_simulate/slow=0{ISOLATE}"


@pytest.mark.parametrize(
    "directive",
    [
        "frobnicate",
        "Forbiden",
        "status=200",
        "status=x",
        "shape",
        "shape=round",
        "retry-after=soon",
        "retry-after=-1",
        "empty=100",
        "empty",
        "size=-1",
        "size=9999999999999999",
        "slow=nan",
        "slow=-1",
        "trickle=inf",
        "target=id",
        "gzip=9",
        "reset=1",
    ],
)
async def test_unknown_directive_is_named(session: aiohttp.ClientSession, directive: str) -> None:
    async with session.get("/api/machines", headers={"X-Simulate": f"slow=0,{directive}"}) as response:
        error = (await response.json())["error"]
    assert (response.status, error["code"]) == (400, "BadRequest")
    assert f"'{directive}'" in error["message"]
    assert "slow=SECONDS" in error["message"]
    assert "TooManyRequests" in error["message"]


def test_no_directive_is_no_plan() -> None:
    assert plan_of(" , ") == Plan()
    with pytest.raises(UnknownDirectiveError):
        plan_of("size=" + "9" * 5000)


def test_directives_are_told_in_help_and_docstring() -> None:
    for name, directive in DIRECTIVES.items():
        assert directive.form in HELP
        assert f" {name}" in (simulator_module.__doc__ or "")
    assert all(code in HELP for code in CODES)


async def test_slow_head(session: aiohttp.ClientSession) -> None:
    started = time.monotonic()
    async with session.get("/api/machines", headers={"X-Simulate": "slow=0.2"}) as response:
        assert response.status == 200
    assert 0.15 < time.monotonic() - started < 3


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_trickled_body_comes_in_pieces(simulator: Simulator, version: str) -> None:
    started = time.monotonic()
    request = f"GET /api/machines HTTP/{version}\r\nHost: x\r\nX-Simulate: trickle=0.02\r\n".encode()
    answer = await raw(simulator, request + (b"Connection: close\r\n" if version == "1.1" else b"") + b"\r\n")
    assert 0.12 < time.monotonic() - started < 3
    assert (b"transfer-encoding: chunked" in answer.lower()) == (version == "1.1")
    assert b"content-length" not in answer.lower()
    assert answer.endswith(b"0\r\n\r\n") == (version == "1.1")


async def test_reset_before_the_head(simulator: Simulator) -> None:
    with pytest.raises(ConnectionResetError):
        await raw(simulator, get("reset"))
    received = simulator.received[-1]
    assert (received.status, received.code, received.complete) == (None, None, True)


async def test_reset_inside_the_head(simulator: Simulator) -> None:
    host, _, port = simulator.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(get("reset-head"))
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)) as caught:
        await reader.readuntil(b"\r\n\r\n")
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    if isinstance(caught.value, asyncio.IncompleteReadError):
        assert caught.value.partial.startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize("answer", ["", "size=300000,", "html,", "empty=503,"])
async def test_truncated_body(simulator: Simulator, answer: str) -> None:
    response = await raw(simulator, get(f"{answer}truncate"))
    announced = int(response.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    sent = len(body_of(response))
    assert sent < announced
    assert sent in (announced // 2, 0)


@pytest.mark.parametrize("how", ["trickle=0", "size=3000000,gzip"])
async def test_truncated_chunks(simulator: Simulator, how: str) -> None:
    response = await raw(simulator, get(f"{how},truncate"))
    assert body_of(response)
    assert not response.endswith(b"0\r\n\r\n")


async def test_garbage(simulator: Simulator, session: aiohttp.ClientSession) -> None:
    assert not (await raw(simulator, get("garbage"))).startswith(b"HTTP/")
    with pytest.raises(aiohttp.ClientError):
        await session.get("/api/machines", headers={"X-Simulate": "garbage"})


async def test_stalled_body_lasts_as_long_as_its_connection(simulator: Simulator) -> None:
    response = await raw(simulator, get("stall"), half_open_s=0.2)
    announced = int(response.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    assert 0 < len(body_of(response)) == announced // 2
    assert response.startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    "directives", ["stall", "slow=60", "trickle=60", "size=1000000000000", "size=1000000000000,gzip"]
)
async def test_leaving_does_not_wait(directives: str) -> None:
    async with Simulator.listening() as simulator:
        host, _, port = simulator.url.removeprefix("http://").partition(":")
        _, writer = await asyncio.open_connection(host, int(port))  # never reads
        writer.write(get(directives))
        await arrival(simulator)
        await asyncio.sleep(0.05)
        started = time.monotonic()
    assert time.monotonic() - started < 1
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def test_size_is_streamed(session: aiohttp.ClientSession) -> None:
    async with session.get("/x", headers={"X-Simulate": "size=10000001"}) as response:
        assert response.status == 200
        assert response.headers["Content-Length"] == "10000001"
        assert sum([len(piece) async for piece in response.content.iter_any()]) == 10_000_001


async def test_echo_tells_exactly_what_arrived(simulator: Simulator) -> None:
    body = b"\x00\xe9{}\r\n"
    head = (
        b"PUT /Api//x%2fy?q=%27a'&b HTTP/1.1\r\nhOsT: Example\r\nX-Twice: 1\r\nX-SIMULATE: echo\r\n"
        b"X-twice: \xe9\r\nconnection: close\r\ncontent-length: 6\r\n\r\n"
    )
    echoed = json.loads(body_of(await raw(simulator, head + body)))
    assert echoed == {
        "method": "PUT",
        "target": "/Api//x%2fy?q=%27a'&b",
        "headers": [
            ["hOsT", "Example"],
            ["X-Twice", "1"],
            ["X-SIMULATE", "echo"],
            ["X-twice", "\xe9"],
            ["connection", "close"],
            ["content-length", "6"],
        ],
        "body": body.decode("latin-1"),
        "sha256": hashlib.sha256(body).hexdigest(),
    }
    received = simulator.received[-1]
    assert (received.method, received.target, received.body) == ("PUT", echoed["target"], body)
    assert received.fields[3] == (b"X-twice", b"\xe9")
    assert (received.status, received.complete) == (200, True)


async def test_absolute_form_is_routed_by_its_path(simulator: Simulator) -> None:
    answer = await raw(simulator, get("", "http://elsewhere.test/api/machines?$top=1"))
    assert json.loads(body_of(answer))["@odata.nextLink"] == f"{simulator.url}/api/machines?$top=1&$skip=1"
    assert simulator.received[-1].target == "http://elsewhere.test/api/machines?$top=1"


async def test_large_upload_is_hashed(simulator: Simulator, session: aiohttp.ClientSession) -> None:
    piece = bytes(1024 * 1024)

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(50):
            yield piece

    async with session.post("/api/libraryfiles", data=pieces(), headers={"X-Simulate": "empty=200"}) as response:
        assert response.status == 200
    received = simulator.received[-1]
    assert (received.body_bytes, received.complete) == (50 * len(piece), True)
    assert received.sha256 == hashlib.sha256(piece * 50).hexdigest()
    assert received.body == piece


async def test_body_beyond_the_limit_is_refused(simulator: Simulator) -> None:
    host, _, port = simulator.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n")
    with contextlib.suppress(ConnectionError):
        for _ in range(65):
            writer.write(bytes(1024 * 1024))
            await writer.drain()
    assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
    assert simulator.received[-1].complete is False
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def test_client_that_leaves_inside_its_body_is_recorded(simulator: Simulator) -> None:
    request = f"POST {ISOLATE} HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{{".encode()
    await raw(simulator, request, half_open_s=0.1)
    await arrival(simulator)
    received = simulator.received[-1]
    assert (received.body, received.complete, received.status) == (b"{", False, None)


async def test_broken_chunk_is_recorded(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulator_module, "BODY_PAUSE_S", 0.2)
    host, _, port = simulator.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"POST {ISOLATE} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
    await asyncio.sleep(0.05)
    writer.write(b"2\r\n{}\r\nnonsense\r\n")
    with contextlib.suppress(ConnectionError):
        await asyncio.wait_for(reader.read(), 5)
    assert simulator.received[0].complete is False
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def test_expectation_is_met(simulator: Simulator) -> None:
    body = json.dumps(RIGHT).encode()
    head = f"POST {ISOLATE} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nConnection: close\r\n"
    answer = await raw(simulator, f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\n")


async def test_received_is_bounded(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulator_module, "RECEIVED_LIMIT", 5)
    for number in range(8):
        await raw(simulator, get("", f"/{number}"))
    assert [received.target for received in simulator.received] == ["/3", "/4", "/5", "/6", "/7"]


async def test_serve_announces_and_ends_when_cancelled() -> None:
    announced: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve("127.0.0.1", 0, announced.set_result))
    async with aiohttp.ClientSession(await announced) as session, session.get("/api/alerts") as response:
        assert response.status == 200
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
