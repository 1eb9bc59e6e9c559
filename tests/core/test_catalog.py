from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.catalog import UNKNOWN, Catalog, CatalogError, CatalogProblem, Operation, Routes, parts_of, route_key
from proxy.core.model import RouteTemplate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import FrameType


def catalog_of(paths: dict[str, dict[str, str]]) -> Catalog:
    """Return a catalog of the operations that stand, by name, under path and method."""
    routes = Routes()
    operations = []
    for path, item in paths.items():
        for method, name in item.items():
            operation = Operation(name, method, RouteTemplate(path))
            assert routes.claim(path, operation) is operation
            operations.append(operation)
    return Catalog(tuple(operations), frozenset(), routes)


ROUTES = catalog_of(
    {
        "/": {"GET": "root"},
        "/api/machines": {"GET": "listMachines"},
        "/api/machines/{id}": {"GET": "getMachine", "PATCH": "updateMachine"},
        "/api/machines/{id}/isolate": {"POST": "isolateMachine"},
        "/api/machines/findbytag": {"GET": "findMachinesByTag"},
        "/api/machines/findbytag/tags/{tag}": {"GET": "getTag"},
        "/api/machines/{id}/tags": {"POST": "tagMachine"},
        "/api/alerts/CreateAlertByReference": {"POST": "createAlert"},
        "/api/alerts/{id}": {"POST": "updateAlert"},
        "/api/keys/{a}/{b}/{c}": {"GET": "getKey"},
        "/api/keys/{a}/fixed/{c}": {"DELETE": "deleteKey"},
        "/v2/things": {"GET": "listThings"},
    }
)


@pytest.mark.parametrize(
    ("method", "target", "name"),
    [
        pytest.param("GET", "/api/machines", "listMachines", id="plain"),
        pytest.param("GET", "/api/machines/1f2e", "getMachine", id="parameter"),
        pytest.param("PATCH", "/api/machines/1f2e", "updateMachine", id="by-method"),
        pytest.param("POST", "/api/machines/1f2e/isolate", "isolateMachine", id="behind-a-parameter"),
        pytest.param("GET", "/api/v1.0/machines", "listMachines", id="version"),
        pytest.param("GET", "/api/v1/machines", "listMachines", id="whole-version"),
        pytest.param("GET", "/api/V1.0/machines", "listMachines", id="version-in-upper-case"),
        pytest.param("GET", "/api/beta/machines", "listMachines", id="beta"),
        pytest.param("GET", "/api//v1.0//machines", "listMachines", id="version-between-double-slashes"),
        pytest.param("GET", "/api/machines/", "listMachines", id="trailing-slash"),
        pytest.param("GET", "/api/machines//", "listMachines", id="trailing-slashes"),
        pytest.param("POST", "//api///machines//1f2e//isolate", "isolateMachine", id="double-slashes"),
        pytest.param("POST", "/API/Machines/1F2E/ISOLATE", "isolateMachine", id="letter-case"),
        pytest.param("POST", "/api/alerts/createalertbyreference", "createAlert", id="literal-in-lower-case"),
        pytest.param("POST", "/api/m%61chines/1/i%73olate", "isolateMachine", id="percent-encoded-letters"),
        pytest.param("POST", "/%61pi/v1%2E0/machines/1/isolate", "isolateMachine", id="percent-encoded-version"),
        pytest.param("POST", "/api/machines/a%2Fb/isolate", "isolateMachine", id="encoded-slash-stays-in-its-segment"),
        pytest.param("POST", "/api/machines/%20/isolate", "isolateMachine", id="encoded-space"),
        pytest.param("POST", "/api/machines/%FF%00/isolate", "isolateMachine", id="octets-that-are-no-text"),
        pytest.param("POST", "/api/machines/%zz%/isolate", "isolateMachine", id="broken-encoding"),
        pytest.param("POST", "/api/machines/\xe9\xff/isolate", "isolateMachine", id="octets-beyond-ascii"),
        pytest.param("GET", "/api/machines?$filter=a/b", "listMachines", id="query"),
        pytest.param("GET", "/api/machines/?", "listMachines", id="empty-query"),
        pytest.param("GET", "/api/machines?/1f2e", "listMachines", id="path-in-the-query"),
        pytest.param("GET", "/api/machines/findbytag", "findMachinesByTag", id="literal-before-parameter"),
        pytest.param("GET", "/api/machines/findbytag/tags/x", "getTag", id="deeper-below-the-literal"),
        pytest.param("POST", "/api/machines/findbytag/isolate", "isolateMachine", id="back-from-the-literal"),
        pytest.param("POST", "/api/machines/findbytag/tags", "tagMachine", id="back-from-two-literals"),
        pytest.param("PATCH", "/api/machines/findbytag", "updateMachine", id="back-for-the-method"),
        pytest.param("GET", "/api/keys/1/fixed/3", "getKey", id="back-for-the-method-in-the-middle"),
        pytest.param("DELETE", "/api/keys/1/fixed/3", "deleteKey", id="literal-in-the-middle"),
        pytest.param("GET", "/", "root", id="root"),
        pytest.param("GET", "", "root", id="empty"),
        pytest.param("GET", "/v2/things", "listThings", id="version-elsewhere-is-a-segment"),
    ],
)
def test_request_belongs_to_an_operation(method: str, target: str, name: str) -> None:
    assert ROUTES.match(method, target).name == name


@pytest.mark.parametrize(
    ("method", "target"),
    [
        pytest.param("GET", "/api/nothing", id="unknown-route"),
        pytest.param("GET", "/api", id="part-of-a-route"),
        pytest.param("GET", "/machines", id="without-its-first-segment"),
        pytest.param("GET", "/x/api/machines", id="something-before"),
        pytest.param("POST", "/api/machines/1/isolate/more", id="something-behind"),
        pytest.param("DELETE", "/api/machines", id="unknown-method"),
        pytest.param("HEAD", "/api/machines/1/isolate", id="head-without-a-get"),
        pytest.param("get", "/api/machines", id="methods-are-case-sensitive"),
        pytest.param("", "/api/machines", id="no-method"),
        pytest.param("POST", "/api/machines/a/b/isolate", id="slash-within-a-parameter"),
        pytest.param("POST", "/api%2Fmachines/1/isolate", id="encoded-slash-is-no-separator"),
        pytest.param("GET", "/api/machines%2F", id="encoded-slash-at-the-end"),
        pytest.param("GET", "/api/v1.0.0/machines", id="version-of-three-parts"),
        pytest.param("GET", "/api/va/machines", id="no-version"),
        pytest.param("GET", "/v1.0/machines", id="version-without-api"),
        pytest.param("DELETE", "/api/%E2%84%AAeys/1/fixed/3", id="kelvin-sign-is-no-k"),
        pytest.param("GET", "/api/mach%C4%B1nes", id="dotless-i-is-no-i"),
        pytest.param("GET", "/things", id="version-elsewhere-is-not-optional"),
        pytest.param("GET", "/a" * 10_000, id="10000-segments"),
        pytest.param("GET", "/api/keys" + "/fixed" * 10_000, id="10000-segments-below-a-route"),
        pytest.param("GET", "/api" * 10_000, id="10000-times-api"),
        pytest.param("GET", "/" + "%2F" * 100_000, id="very-long-segment"),
    ],
)
def test_any_other_request_is_unknown(method: str, target: str) -> None:
    assert ROUTES.match(method, target) is UNKNOWN


def test_10000_slashes_are_none() -> None:
    assert ROUTES.match("GET", "/" * 10_000 + "api/machines" + "/" * 10_000).name == "listMachines"


@given(st.sampled_from(["GET", "POST", "BREW"]), st.text() | st.from_regex(r"(/(api|v1|machines|fixed|%2F|{id}|))*"))
def test_any_target_is_answered(method: str, target: str) -> None:
    operation = ROUTES.match(method, target)
    assert operation is UNKNOWN or operation in ROUTES.operations


@given(st.sampled_from(ROUTES.operations), st.text(min_size=1).filter(lambda text: text.lower() != "findbytag"))
def test_every_template_matches_itself_filled_in(operation: Any, value: str) -> None:
    filled = "".join(f"%{octet:02x}" for octet in value.encode())
    target = "/".join(filled if part.startswith("{") else part.swapcase() for part in operation.template.split("/"))
    if operation.name not in {"getKey", "updateAlert"}:
        assert ROUTES.match(operation.method, target) is operation


def lines_run(function: Callable[[], object]) -> int:
    """Return how many lines of Python `function` takes."""
    count = 0

    def trace(_frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    former = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(former)
    return count


def many(count: int) -> Catalog:
    """Return a catalog of five routes, `count` times over, each with two methods."""
    routes = (
        *("/api/thing{}", "/api/thing{}/{{id}}", "/api/{{id}}/part{}", "/api/things/{{id}}:act{:05}"),
        "/api/things/find{}(by={{by}},at={{at}})",
    )
    return catalog_of(
        {
            route.format(number): {method: f"{method}{number}-{which}" for method in ("GET", "POST")}
            for number in range(count)
            for which, route in enumerate(routes)
        }
    )


@pytest.mark.parametrize(
    "target",
    [
        pytest.param("/api/thing0/x", id="known"),
        pytest.param("/api/x/part0", id="behind-a-parameter"),
        pytest.param("/api/thing0/x/y", id="unknown"),
        pytest.param("/api/things/7:act00000", id="mixed"),
        pytest.param("/api/things/find0(at=1,by='x')", id="function"),
        pytest.param("/nowhere", id="unknown-from-the-start"),
    ],
)
def test_a_match_costs_the_same_among_10_or_5000_operations(target: str) -> None:
    few, lots = many(1), many(501)
    assert len(lots.operations) > 5000
    assert few.match("GET", target).name == lots.match("GET", target).name
    assert lines_run(lambda: lots.match("GET", target)) == lines_run(lambda: few.match("GET", target))


def test_catalog_without_documents_knows_nothing() -> None:
    empty = catalog_of({})
    assert empty.match("GET", "/") is UNKNOWN


SPECIAL = catalog_of(
    {
        "/api/machines/{id}": {"GET": "get"},
        "/api/machines/findbyip(ip='{ip}',timestamp={timestamp})": {"GET": "findByIp"},
        "/api/machines/find(timestamp={time},key={IP})": {"GET": "find"},
        "/api/machines/find(key={key})": {"GET": "findByKey"},
        "/api/machines/{id}/Download(index={command-index})": {"GET": "download"},
        "/api/machines('{id}')": {"GET": "byKey"},
        "/api/alerts/ns.delta()": {"GET": "delta"},
        "/files/{id}.json": {"GET": "json"},
        "/files/{id}.min.json": {"GET": "minJson"},
        "/files/{name}.{kind}": {"GET": "kind"},
        "/files/readme.json": {"GET": "readme"},
        "/files/{from}-{to}": {"GET": "range"},
        "/files/{from}--{to}": {"GET": "longRange"},
        "/files/v{version}": {"GET": "version"},
        "/files/{id}": {"GET": "file", "DELETE": "deleteFile"},
        "/files/{a}{b}/two": {"GET": "two"},
        "/jobs/{id}:cancel": {"POST": "cancel"},
        "/jobs/{id}:cancel/log": {"GET": "cancelLog"},
        "/jobs/{id}/log": {"GET": "log"},
        "/odd/f({a}": {"GET": "open"},
        "/odd/f(x=1,y={y})": {"GET": "mixedCall"},
        "/odd/{unclosed": {"GET": "unclosed"},
        "/api/v2/users": {"GET": "users2"},
        "/api/users": {"GET": "users"},
        "/api/{kind}/all": {"GET": "all"},
    }
)


@pytest.mark.parametrize(
    ("target", "name"),
    [
        pytest.param("/api/machines/findbyip(ip='10.0.0.1',timestamp=2019-09-22T08:44:05Z)", "findByIp", id="function"),
        pytest.param("/api/machines/FindByIp(IP='x',TimeStamp=1)", "findByIp", id="letter-case"),
        pytest.param("/api/machines/findbyip(timestamp=1,ip='x')", "findByIp", id="other-order"),
        pytest.param("/api/machines/findbyip(ip=%2710.0.0.1%27,timestamp=1)", "findByIp", id="encoded-quotes"),
        pytest.param("/api/machines/findbyip%28ip='x'%2Ctimestamp%3D1%29", "findByIp", id="everything-encoded"),
        pytest.param("/api/machines/findbyip(ip='a,b)=(c',timestamp=1)", "findByIp", id="punctuation-in-quotes"),
        pytest.param("/api/machines/findbyip(ip='a%2Fb',timestamp=1)", "findByIp", id="slash-in-quotes"),
        pytest.param("/api/machines/findbyip(ip='O''Neil, x=1',timestamp=1)", "findByIp", id="doubled-quote"),
        pytest.param("/api/machines/findbyip(ip='O'Neil',timestamp=1)", "findByIp", id="quote-that-is-not-doubled"),
        pytest.param("/api/machines/findbyip(ip='',timestamp='')", "findByIp", id="empty-values"),
        pytest.param("/api/machines/findbyip(ip=@p,timestamp=@t)?@p='x'&@t=1", "findByIp", id="aliases"),
        pytest.param("/api/machines/findbyip( ip = 'x', timestamp = 1 )", "findByIp", id="spaces"),
        pytest.param("/api/v1.0/machines/findbyip(ip='x',timestamp=1)", "findByIp", id="behind-a-version"),
        pytest.param("/api/machines/find(timestamp=1,key='x')", "find", id="two-arguments"),
        pytest.param("/api/machines/find(key='x')", "findByKey", id="one-of-the-arguments"),
        pytest.param("/api/machines/find(key='timestamp=1,x')", "findByKey", id="argument-within-quotes"),
        pytest.param("/api/machines/find(other='x')", "get", id="other-argument-is-a-parameter"),
        pytest.param("/api/machines/find(key='x'", "get", id="function-that-does-not-end"),
        pytest.param("/api/machines/find", "get", id="name-without-arguments"),
        pytest.param("/api/machines/1/download(index=0)", "download", id="below-a-parameter"),
        pytest.param("/api/machines('1f')", "byKey", id="key"),
        pytest.param("/api/machines(1f)", "byKey", id="key-without-quotes"),
        pytest.param("/api/machines(id='1f')", "unknown", id="key-with-a-name"),
        pytest.param("/api/alerts/NS.delta()", "delta", id="no-arguments-are-text"),
        pytest.param("/files/a.json", "json", id="suffix"),
        pytest.param("/files/a.min.json", "minJson", id="longer-suffix-wins"),
        pytest.param("/files/README.json", "readme", id="text-wins"),
        pytest.param("/files/a.yaml", "kind", id="text-between-two"),
        pytest.param("/files/a.b.c", "kind", id="text-between-two-twice"),
        pytest.param("/files/.json", "file", id="nothing-before-the-suffix"),
        pytest.param("/files/a.", "file", id="nothing-behind-the-text"),
        pytest.param("/files/1-2", "range", id="range"),
        pytest.param("/files/1--2", "longRange", id="longer-text-between-wins"),
        pytest.param("/files/v1", "version", id="prefix"),
        pytest.param("/files/v", "file", id="nothing-behind-the-prefix"),
        pytest.param("/files/%61%2Ejson", "json", id="encoded"),
        pytest.param("/files/ab/two", "two", id="two-parameters-are-one"),
        pytest.param("/jobs/1/log", "log", id="plain-beside-mixed"),
        pytest.param("/jobs/1:cancel/log", "cancelLog", id="mixed-in-the-middle"),
        pytest.param("/odd/f(x", "open", id="bracket-that-does-not-end"),
        pytest.param("/odd/f(x=1,y=2)", "mixedCall", id="function-with-a-value-of-its-own"),
        pytest.param("/odd/{unclosed", "unclosed", id="brace-that-does-not-end"),
        pytest.param("/api/v2/users", "users2", id="documented-version"),
        pytest.param("/api/v3/users", "users", id="other-version"),
        pytest.param("/api/v2/all", "all", id="version-for-a-parameter"),
        pytest.param("/api/v2/v2/users", "unknown", id="two-versions"),
    ],
)
def test_the_most_special_route_wins(target: str, name: str) -> None:
    assert SPECIAL.match("GET", target).name == name


def test_a_special_route_without_the_method_hides_no_other() -> None:
    assert SPECIAL.match("DELETE", "/files/a.json").name == "deleteFile"
    assert SPECIAL.match("POST", "/jobs/1:cancel").name == "cancel"


@pytest.mark.parametrize(
    "target",
    [
        pytest.param("/api/machines/f(" + "'" * 16_000 + ")", id="quotes"),
        pytest.param("/api/machines/f(" + "' " * 8_000 + ")", id="quotes-and-spaces"),
        pytest.param("/api/machines/f(" + "''," * 5_000 + ")", id="many-arguments"),
        pytest.param("/files/" + ".-" * 8_000, id="many-dots"),
        pytest.param("/api" + "/v1" * 5_000, id="many-versions"),
        pytest.param("/api" * 5_000, id="many-apis"),
    ],
)
def test_a_long_segment_is_answered(target: str) -> None:
    assert SPECIAL.match("GET", target) in {UNKNOWN, *SPECIAL.operations}


# Independent of the matcher's tables: each segment of a template as a pattern, each route tried by itself.
WORDS = ("a", "b", "ab", "x.json")
PARTS = st.sampled_from(
    [
        *WORDS,
        "{p}",
        "{p}.json",
        "{p}.x.json",
        "a{p}",
        "a{p}b",
        "{p}-{q}",
        "{p}--{q}",
        "a{p}-{q}",
        "f(k={p})",
        "f(j={p},k='{q}')",
    ]
)
TEMPLATES = st.lists(PARTS, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))
SEGMENTS = st.sampled_from(
    [
        *WORDS,
        "z",
        "z.json",
        "z.x.json",
        "az",
        "azb",
        "z-z",
        "z--z",
        "az-z",
        "a-b",
        "f(k=1)",
        "f(k='a,b',j=2)",
        "f(j=2,k=1)",
        "f()",
    ]
)


def rank(part: str) -> tuple[int, int, int]:
    """Return the order in which a template's segment is tried: texts, functions, mixed ones, parameters."""
    if "{" not in part:
        return (0, 0, 0)
    if "(" in part:
        return (1, 0, 0)
    texts = re.split(r"\{\w\}", part)
    if not any(texts):
        return (3, 0, 0)
    return (2, -len(texts[0]) - len(texts[-1]), -len("".join(texts[1:-1])))


def fits(part: str, segment: str) -> bool:
    if "(" in part:
        quoted = re.sub(r"'[^']*'", "", segment)
        return quoted.startswith("f(") and sorted(re.findall(r"\w(?==)", quoted)) == sorted(
            re.findall(r"\w(?==)", part)
        )
    return re.fullmatch("(.+)".join(map(re.escape, re.split(r"\{\w\}", part))), segment) is not None


def fitting(templates: Iterable[str], segments: list[str]) -> Iterator[tuple[list[tuple[int, int, int]], str]]:
    for template in templates:
        parts = template.split("/")[1:]
        if len(parts) == len(segments) and all(map(fits, parts, segments)):
            yield [rank(part) for part in parts], template


def routes_of(templates: Iterable[str]) -> Routes:
    routes = Routes()
    for template in templates:
        routes.claim(template, Operation(template, "GET", RouteTemplate(template)))
    return routes


@given(st.lists(TEMPLATES, max_size=12), st.lists(SEGMENTS, min_size=1, max_size=4))
def test_the_tables_find_what_a_search_finds(templates: list[str], segments: list[str]) -> None:
    found = routes_of(templates).find("GET", "/" + "/".join(segments))
    expected = sorted(fitting(templates, segments))
    assert (found is None) == (not expected)
    if found is not None:
        assert [rank(part) for part in found.template.split("/")[1:]] == expected[0][0]
        assert found.template in {template for _, template in expected}


@given(st.lists(TEMPLATES, min_size=1, max_size=12))
def test_no_route_hides_another(templates: list[str]) -> None:
    routes = routes_of(templates)
    for template in templates:
        found = routes.find("GET", re.sub(r"\{\w\}", "\u00e9", template))
        assert found is not None
        assert parts_of(found.template) == parts_of(template)


@given(TEMPLATES, TEMPLATES)
def test_two_templates_claim_one_route_if_each_fits_the_other_filled_in(one: str, other: str) -> None:
    def filled(template: str) -> list[str]:
        return re.sub(r"\{\w\}", "\u00e9", template).split("/")[1:]

    mutual = any(fitting([one], filled(other))) and any(fitting([other], filled(one)))
    assert (parts_of(one) == parts_of(other)) is mutual


@pytest.mark.parametrize(
    ("problem", "line"),
    [
        pytest.param(CatalogProblem("a.yaml", "/paths", "is wrong"), "a.yaml: /paths: is wrong", id="place"),
        pytest.param(CatalogProblem("a.yaml", "/paths", "is wrong", 7), "a.yaml:7: /paths: is wrong", id="line"),
        pytest.param(CatalogProblem("a.yaml", "", "is wrong", 7), "a.yaml:7: is wrong", id="line-without-a-place"),
        pytest.param(CatalogProblem("a.yaml", "", "is wrong"), "a.yaml: is wrong", id="whole-document"),
        pytest.param(
            CatalogProblem("\x9b.yaml", "/a\nb", "is \x1b[31mwrong\u2028", 7),
            r"\x9b.yaml:7: /a\nb: is \x1b[31mwrong\u2028",
            id="what-cannot-be-printed",
        ),
    ],
)
def test_problem_is_one_line(problem: CatalogProblem, line: str) -> None:
    assert str(problem) == line


def test_error_tells_every_problem_on_a_line() -> None:
    problems = CatalogProblem("a.yaml", "/paths", "is wrong"), CatalogProblem("b.yaml", "", "is wrong too")
    error = CatalogError(problems)
    assert error.problems == problems
    assert str(error).splitlines() == ["a.yaml: /paths: is wrong", "b.yaml: is wrong too"]


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("/api/Brews/{id}/Sip", id="same"),
        pytest.param("/API/brews/{BrewId}/sip", id="letter-case-and-placeholder"),
        pytest.param("//api//brews/{id}/sip/", id="empty-segments"),
        pytest.param("/api/v1.0/brews/{id}/sip", id="version"),
        pytest.param("/api/beta/brews/{id}/sip", id="beta"),
    ],
)
def test_routes_that_match_the_same_have_one_key(path: str) -> None:
    assert route_key("post", path) == route_key("POST", "/api/brews/{}/sip")


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        pytest.param("/api/find(ip='{IP}',at={t})", "/api/find(at={x}, ip='{y}')", True, id="order-of-arguments"),
        pytest.param("/api/find(ip='{IP}')", "/api/find(at={x})", False, id="other-arguments"),
        pytest.param("/v1.0/brews", "/brews", False, id="a-version-elsewhere-counts"),
        pytest.param("/api/{name}.json", "/api/{id}.json", True, id="placeholder-in-a-segment"),
        pytest.param("/api/{name}.json", "/api/{name}.yaml", False, id="text-in-a-segment"),
        pytest.param("/api/\u212aeg", "/api/keg", False, id="kelvin-sign"),
    ],
)
def test_the_key_of_a_route_keeps_what_tells_routes_apart(*, one: str, other: str, alike: bool) -> None:
    assert (route_key("GET", one) == route_key("GET", other)) is alike
