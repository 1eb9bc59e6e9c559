from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.catalog import Document
from proxy.core.references import ROOT, Place, References, is_in_network, within_folder

CONTENT = {"a": {"b/c": [10, {"d~e": 20}], "": 30, "f g": 40, "3": 50}}


@pytest.mark.parametrize(
    ("reference", "value"),
    [
        pytest.param("#", CONTENT, id="whole"),
        pytest.param("", CONTENT, id="empty"),
        pytest.param("#/a/b~1c/0", 10, id="element"),
        pytest.param("#/a/b~1c/1/d~0e", 20, id="escapes"),
        pytest.param("#/a/", 30, id="empty-name"),
        pytest.param("#/a/f%20g", 40, id="percent-encoded"),
        pytest.param("#/a/3", 50, id="number-as-a-name"),
        pytest.param("b.yaml", {"x": 1}, id="file"),
        pytest.param("./b.yaml#/x", 1, id="place-in-a-file"),
        pytest.param("c/../b.yaml#/x", 1, id="detour"),
        pytest.param("b%2Eyaml#/x", 1, id="percent-encoded-file"),
    ],
)
def test_reference_leads_there(reference: str, value: Any) -> None:
    references = References(Document("d", CONTENT, {"b.yaml": {"x": 1}}))
    assert references.target(reference, ROOT)[0] == value
    assert references.problems == ()


@pytest.mark.parametrize(
    "reference", ["#/a/b~1c/2", "#/a/b~1c/-1", "#/a/b~1c/x", "#/a/b~1c/0/0", "#/b", "#/a/b~1c/" + "9" * 5000]
)
def test_reference_to_nothing_is_reported_once(reference: str) -> None:
    references = References(Document("d", CONTENT))
    place = Place("", "/here")
    assert references.target(reference, place) == (None, place)
    references.target(reference, place)
    [problem] = references.problems
    assert (problem.document, problem.pointer) == ("d", "/here")


@pytest.mark.parametrize(
    ("name", "file", "told"),
    [
        pytest.param("api.yaml", "", "api.yaml", id="document"),
        pytest.param("api.yaml", "b.yaml", "b.yaml", id="file"),
        pytest.param("/etc/apis/api.yaml", "sub/b.yaml", "/etc/apis/sub/b.yaml", id="folder"),
    ],
)
def test_problem_names_its_file(name: str, file: str, told: str) -> None:
    problem = References(Document(name, None)).problem(Place(file, "/x"), "is wrong")
    assert (problem.document, problem.pointer, problem.message) == (told, "/x", "is wrong")


def test_place_below_is_a_pointer() -> None:
    assert Place("f", "/a").below("b/c", 0, "~") == Place("f", "/a/b~1c/0/~0")


@pytest.mark.parametrize(
    ("path", "base", "expected"),
    [
        pytest.param("b.yaml", "", "b.yaml", id="beside"),
        pytest.param("b.yaml", "sub/a.yaml", "sub/b.yaml", id="beside-in-a-folder"),
        pytest.param("../b.yaml", "sub/a.yaml", "b.yaml", id="up-within"),
        pytest.param("../../b.yaml", "sub/a.yaml", None, id="up-and-out"),
        pytest.param("x/../../sub/b.yaml", "", None, id="out-and-in-again"),
        pytest.param("..", "", None, id="parent"),
        pytest.param("./", "", None, id="folder-itself"),
        pytest.param("%2e%2e/b", "", None, id="encoded"),
        pytest.param("..\\b", "", None, id="backslash"),
        pytest.param("/b", "", None, id="absolute"),
        pytest.param("\\b", "", None, id="absolute-backslash"),
        pytest.param("c:b", "", None, id="drive"),
        pytest.param("a\0b", "", None, id="null"),
    ],
)
def test_path_stays_in_the_folder(path: str, base: str, expected: str | None) -> None:
    assert within_folder(path, base) == expected


@given(st.from_regex(r"(\.\.|\.|a|/|\\|%2e|%2f|:|\0){0,8}", fullmatch=True), st.sampled_from(["", "a/b", "a/b/c"]))
def test_no_path_leaves_the_folder(path: str, base: str) -> None:
    found = within_folder(path, base)
    assert found is None or not {"", ".", ".."} & set(found.split("/"))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        pytest.param("https://x.test/a", True, id="https"),
        pytest.param("HTTP:a", True, id="scheme"),
        pytest.param("//x.test", True, id="host"),
        pytest.param("\\\\x.test", True, id="share"),
        pytest.param("a/b.yaml", False, id="path"),
        pytest.param("c:/a", False, id="drive"),
        pytest.param("", False, id="empty"),
    ],
)
def test_address(*, path: str, expected: bool) -> None:
    assert is_in_network(path) is expected
