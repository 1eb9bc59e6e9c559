"""Documents as files: what YAML and JSON may hold, which files belong to a document, and where problems stand."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from proxy import documents
from proxy.core.catalog import CatalogError, CatalogProblem
from proxy.documents import BYTES_AT_MOST, UnreadableError, read_document, read_yaml, with_lines

if TYPE_CHECKING:
    from pathlib import Path


def written(folder: Path, text: str | bytes, name: str = "api.yaml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(CatalogError) as caught:
        read_document(path)
    [problem] = caught.value.problems
    assert problem.document == str(path)
    return str(caught.value).removeprefix(str(path))


@pytest.mark.parametrize(
    ("text", "content"),
    [
        pytest.param("", None, id="empty"),
        pytest.param("# nothing", None, id="comment"),
        pytest.param(
            "a: 1\nb: [x, -2.5, 1e3, 0x1F, 0o17, +3]", {"a": 1, "b": ["x", -2.5, 1000.0, 31, 15, 3]}, id="numbers"
        ),
        pytest.param("[true, True, FALSE, ~, null, ]", [True, True, False, None, None], id="literals"),
        pytest.param("a:\nb: ''", {"a": None, "b": ""}, id="nothing-and-empty-text"),
        pytest.param(
            "[yes, No, on, off, y, n]", ["yes", "No", "on", "off", "y", "n"], id="words-that-yaml-1.1-takes-for-truth"
        ),
        pytest.param(
            "[2026-01-01, 12:30, 0777, 1_000, .inf, =]",
            ["2026-01-01", "12:30", 777, "1_000", ".inf", "="],
            id="yaml-1.1",
        ),
        pytest.param(
            "{200: a, no: b, 1.0: c, null: d, true: e, ~: f}",
            {"200": "a", "no": "b", "1.0": "c", "null": "d", "true": "e", "~": "f"},
            id="keys-are-texts",
        ),
        pytest.param("['1', \"true\", !!str 5]", ["1", "true", "5"], id="quoted"),
        pytest.param("[!!int '5', !!float 5, !!null '', !!bool 'true']", [5, 5, None, True], id="tagged"),
        pytest.param("!!map {a: !!seq []}", {"a": []}, id="tagged-collections"),
        pytest.param("a: &x {b: 1}\nc: *x", {"a": {"b": 1}, "c": {"b": 1}}, id="alias"),
        pytest.param("a: &x b\n*x : 1", {"a": "b", "b": 1}, id="alias-as-a-key"),
        pytest.param(
            "a: &x {b: 1, c: 2}\nd: {<<: *x, c: 3}", {"a": {"b": 1, "c": 2}, "d": {"b": 1, "c": 3}}, id="merge"
        ),
        pytest.param(
            "- &x {b: 1}\n- &y {b: 2, c: 2}\n- {<<: [*x, *y], d: 3}",
            [{"b": 1}, {"b": 2, "c": 2}, {"b": 1, "c": 2, "d": 3}],
            id="merge-of-two",
        ),
        pytest.param("a: {<<: {b: 1}}", {"a": {"b": 1}}, id="merge-in-place"),
        pytest.param("a: &x {<<: *x, b: 1}", {"a": {"b": 1}}, id="merge-of-itself"),
        pytest.param("9" * 5000, float("inf"), id="endless-number"),
        pytest.param("---\na: 1\n...\n", {"a": 1}, id="markers"),
        pytest.param("\ufeffa: 1", {"a": 1}, id="byte-order-mark"),
        pytest.param('{"a": [1, "x", null, true]}', {"a": [1, "x", None, True]}, id="json"),
        pytest.param('\ufeff {"a": 1}', {"a": 1}, id="json-with-a-byte-order-mark"),
        pytest.param("{a: 1, 'b': [2]}", {"a": 1, "b": [2]}, id="yaml-that-begins-like-json"),
    ],
)
def test_yaml_is_read_as_json_would_mean_it(tmp_path: Path, text: str, content: Any) -> None:
    assert read_document(written(tmp_path, text)).content == content
    assert read_yaml(written(tmp_path, text)) == content


def test_a_mapping_may_hold_itself(tmp_path: Path) -> None:
    content = read_document(written(tmp_path, "&a {b: *a}")).content
    assert content["b"] is content


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param("a: 1\nb: [", ":3: is not YAML: did not find expected node content (column 1)", id="open-bracket"),
        pytest.param("a: 1\na: 2", ":2: the key 'a' stands twice", id="key-twice"),
        pytest.param("a: *x", ":1: the alias *x stands for nothing", id="alias"),
        pytest.param("a: 1\n---\nb: 1", ":2: a second document begins; a file holds one", id="two-documents"),
        pytest.param("? [a]\n: b", ":1: a key must be a text", id="list-as-a-key"),
        pytest.param("a: &x {}\n? *x\n: b", ":2: a key must be a text", id="mapping-as-a-key"),
        pytest.param(
            "!!python/object:os.system {}",
            ":1: the tag tag:yaml.org,2002:python/object:os.system means nothing in JSON",
            id="tag-of-a-mapping",
        ),
        pytest.param("a: !secret x", ":1: the tag !secret means nothing in JSON, or not here", id="tag-of-a-scalar"),
        pytest.param(
            "a: !!int x",
            ":1: the tag tag:yaml.org,2002:int means nothing in JSON, or not here",
            id="number-that-is-none",
        ),
        pytest.param("a: {<<: 1}", ":1: << takes a mapping, or a list of such", id="merge-of-a-number"),
        pytest.param("a: {<<: [[]]}", ":1: << takes a mapping, or a list of such", id="merge-of-a-list"),
        pytest.param("a: \0", ": is not YAML: unacceptable character", id="control-character"),
        pytest.param(b"a: 1\nb: caf\xe9", ":2: is not UTF-8 text; save it in that encoding", id="latin-1"),
        pytest.param('{"a":' * 100_000, ": is nested too deeply to be read", id="json-braces"),
        pytest.param('{"a": 1,\n"a": 2}', ":2: the key 'a' stands twice", id="json-key-twice"),
    ],
)
def test_what_is_no_document_is_refused_by_line(tmp_path: Path, text: str | bytes, told: str) -> None:
    assert refusal(written(tmp_path, text)).startswith(told)


@pytest.mark.parametrize("opening", ["- ", "[", "{a: ", "? ", "a: ["])
def test_what_is_nested_too_deeply_is_refused(tmp_path: Path, opening: str) -> None:
    # Newer versions of libyaml have a limit of their own.
    told = refusal(written(tmp_path, opening * 100_000))
    assert told.startswith(":1: ")
    assert "levels" in told or "nesting depth" in told or "a key must be a text" in told or "not allowed" in told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param(
            '{"a": 1,\n}', ":2: is not JSON: Expecting property name enclosed in double quotes (column 1)", id="comma"
        ),
        pytest.param("a: 1", ":1: is not JSON: Expecting value (column 1)", id="yaml"),
        pytest.param("", ":1: is not JSON: Expecting value (column 1)", id="empty"),
        pytest.param('{"a": ' + "9" * 5000 + "}", ": is not JSON: Exceeds the limit", id="endless-number"),
        pytest.param("[" * 100_000, ": is nested too deeply to be read", id="brackets"),
        pytest.param('{"a": 1,\n"b": {"c": 2,\n"c": 3}}', ":3: the key 'c' stands twice", id="key-twice"),
        pytest.param('{"a": "\\ud800",\n"a": 3}', ": the key 'a' stands twice", id="key-twice-in-no-yaml"),
    ],
)
def test_what_is_called_json_must_be_that(tmp_path: Path, text: str, told: str) -> None:
    assert refusal(written(tmp_path, text, "api.json")).startswith(told)


def test_a_file_that_is_not_there_or_none_at_all_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.yaml") == ": cannot be read: there is no such file"
    assert refusal(tmp_path) == ": cannot be read: Is a directory"
    with pytest.raises(CatalogError, match=r"a\\x00b: cannot be read: that is no path"):
        read_document(tmp_path / "a\0b")
    with pytest.raises(UnreadableError, match="no such file"):
        read_yaml(tmp_path / "none.yaml")


def test_a_file_that_is_too_large_is_refused_without_reading_it_all(tmp_path: Path) -> None:
    path = written(tmp_path, "")
    with path.open("wb") as file:
        file.truncate(BYTES_AT_MOST * 100)
    assert refusal(path).startswith(": is too large: a document may have 64 MiB and 1000 files")


def test_aliases_that_double_cost_no_more_than_they_hold(tmp_path: Path) -> None:
    lists = "\n".join(f"- &l{n} [*l{n - 1}, *l{n - 1}]" for n in range(1, 60))
    content = read_document(written(tmp_path, f"- &l0 {{$ref: 'x.yaml'}}\n{lists}\n")).content
    assert len(content) == 60


def test_merges_that_double_cost_no_more_than_they_hold(tmp_path: Path) -> None:
    mappings = "\n".join(f"- &m{n} {{<<: [*m{n - 1}, *m{n - 1}]}}" for n in range(1, 60))
    assert read_document(written(tmp_path, f"- &m0 {{a: 1}}\n{mappings}\n")).content[59] == {"a": 1}


def test_merges_that_grow_are_bounded(tmp_path: Path) -> None:
    mappings = "\n".join(f"- &m{n} {{<<: *m{n - 1}, k{n}: 1}}" for n in range(1, 3_000))
    assert "<< copies more keys than a document needs" in refusal(written(tmp_path, f"- &m0 {{a: 1}}\n{mappings}\n"))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text(), below, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_yaml_of_json_is_the_same(value: Any) -> None:
    # PyYAML's writer breaks lines at characters that YAML 1.2 takes for text, and its reader differs: none of ours.
    text = yaml.safe_dump(value, allow_unicode=False)
    if yaml.safe_load(text) == value:
        assert documents._Builder(text).value() == value  # noqa: SLF001 - from a text, without a file for each example


@given(st.text(alphabet="ab:-{}[],&*!<'\"#?|>% \n\t0.~", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        documents._Builder(text, keeps_lines=True).value()  # noqa: SLF001 - likewise
    except UnreadableError as error:
        assert error.reason  # noqa: PT017 - both ways out are right


def test_files_that_a_document_refers_to_are_read_with_it(tmp_path: Path) -> None:
    path = written(tmp_path, "paths: {/a: {$ref: 'sub/a.yaml'}}\nx: [{$ref: './b.json#/B'}, {$ref: '#/x'}]")
    written(tmp_path, "{$ref: '../c.yaml#/C', again: {$ref: 'a.yaml'}}", "sub/a.yaml")
    written(tmp_path, '{"B": {"$ref": "api.yaml"}}', "b.json")
    written(tmp_path, "C: 1", "c.yaml")
    document = read_document(path, "the api")
    assert document.name == "the api"
    assert document.unread == {}
    assert document.files.keys() == {"api.yaml", "sub/a.yaml", "b.json", "c.yaml"}
    assert document.files["api.yaml"] is document.content
    assert document.files["b.json"] == {"B": {"$ref": "api.yaml"}}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a: {$ref: x.yaml}", id="plain"),
        pytest.param("a: {'$ref': 'x.yaml#/y'}", id="quoted"),
        pytest.param('a: {"$ref" : "x.yaml"}', id="double-quoted"),
        pytest.param('{"a": {"$ref": "x.yaml"}}', id="json"),
        pytest.param('{"a": {"$ref"\n:\n"x.yaml"}}', id="json-on-lines"),
        pytest.param('{"a": {"\\u0024ref": "x.yaml"}}', id="escaped-in-json"),
        pytest.param('a: {"\\x24ref": "x.yaml"}', id="escaped-in-yaml"),
        pytest.param("a:\n  $ref: >-\n    x.yaml", id="folded"),
        pytest.param("a:\n  ? $ref\n  : x.yaml", id="explicit-key"),
        pytest.param("a: {$ref: &x x.yaml}", id="anchored"),
    ],
)
def test_references_are_found_however_they_are_written(tmp_path: Path, text: str) -> None:
    written(tmp_path, "y: 1", "x.yaml")
    assert "x.yaml" in read_document(written(tmp_path, text)).files


def test_files_out_of_the_folder_or_in_the_network_are_not_touched(tmp_path: Path) -> None:
    written(tmp_path, "secret: 1", "outside.yaml")
    folder = tmp_path / "folder"
    path = written(
        folder, "[{$ref: ../outside.yaml}, {$ref: link.yaml}, {$ref: /etc/hostname}, {$ref: 'https://x.test/a'}]"
    )
    (folder / "link.yaml").symlink_to(tmp_path / "outside.yaml")
    document = read_document(path)
    assert document.files.keys() == {"api.yaml"}
    assert document.unread == {"link.yaml": "it is a link that leaves the folder of the document"}


def test_a_link_within_the_folder_is_read(tmp_path: Path) -> None:
    written(tmp_path, "a: 1", "real.yaml")
    (tmp_path / "link.yaml").symlink_to("real.yaml")
    assert read_document(written(tmp_path, "$ref: link.yaml")).files["link.yaml"] == {"a": 1}


def test_a_file_that_cannot_be_read_is_told_why(tmp_path: Path) -> None:
    path = written(tmp_path, "[{$ref: none.yaml}, {$ref: broken.yaml}, {$ref: sub}]")
    written(tmp_path, "a: 1\na: 2", "broken.yaml")
    (tmp_path / "sub").mkdir()
    assert read_document(path).unread == {
        "none.yaml": "cannot be read: there is no such file",
        "broken.yaml": f"{tmp_path / 'broken.yaml'}:2: the key 'a' stands twice",
        "sub": "cannot be read: Is a directory",
    }


def test_a_document_has_so_many_files_at_most(tmp_path: Path) -> None:
    path = written(tmp_path, json.dumps([{"$ref": f"f{n}.yaml"} for n in range(1_100)]))
    for number in range(1_100):
        written(tmp_path, "a", f"f{number}.yaml")
    document = read_document(path)
    assert len(document.files) == 1_000
    assert len(document.unread) == 101


TEXT = """\
openapi: 3.1.0
paths:
  /a:
    get: {operationId: x}
    post:
      tags:
        - one
        - two
  /b: &b
    get:
      operationId: y
  /c: *b
  /d:
    <<: *b
    put: {}
"""


@pytest.mark.parametrize(
    ("pointer", "line"),
    [
        pytest.param("/openapi", 1, id="first"),
        pytest.param("/paths", 2, id="mapping"),
        pytest.param("/paths/~1a/get/operationId", 4, id="flow"),
        pytest.param("/paths/~1a/post/tags/1", 8, id="element"),
        pytest.param("/paths/~1c", 12, id="alias"),
        pytest.param("/paths/~1c/get/operationId", 11, id="through-an-alias"),
        pytest.param("/paths/~1d/get", 10, id="merged"),
        pytest.param("/paths/~1d/put", 15, id="beside-merged"),
        pytest.param("/paths/~1a/put/x", 3, id="nearest-that-is-there"),
        pytest.param("/paths/~1a/post/tags/7", 6, id="no-element"),
        pytest.param("/info", 1, id="nothing"),
    ],
)
def test_a_problem_has_its_line(tmp_path: Path, pointer: str, line: int) -> None:
    path = written(tmp_path, TEXT)
    (problem,) = with_lines([CatalogProblem(str(path), pointer, "is wrong")], tmp_path)
    assert str(problem) == f"{path}:{line}: {pointer}: is wrong"


@pytest.mark.parametrize(("name", "bom"), [("api.json", ""), ("api.yaml", ""), ("api.json", "\ufeff")])
def test_a_problem_in_json_has_its_line(tmp_path: Path, name: str, bom: str) -> None:
    path = written(tmp_path, bom + json.dumps(yaml.safe_load(TEXT.replace("<<: *b", "")), indent=1), name)
    lines = path.read_text("utf-8-sig").splitlines()
    problems = [CatalogProblem(str(path), f"/paths/~1{key}", "is wrong") for key in "dabc"]
    for problem, key in zip(with_lines(problems, tmp_path), "dabc", strict=True):
        assert problem.line is not None
        assert f'"/{key}": ' in lines[problem.line - 1]


def test_a_problem_of_a_shipped_document_is_looked_up_in_its_folder(tmp_path: Path) -> None:
    written(tmp_path, TEXT, "shipped.yaml")
    (problem,) = with_lines([CatalogProblem("shipped.yaml", "/paths", "is wrong")], tmp_path)
    assert str(problem) == "shipped.yaml:2: /paths: is wrong"


@pytest.mark.parametrize(
    "problem",
    [
        pytest.param(CatalogProblem("none.yaml", "/paths", "is wrong"), id="file-that-has-gone"),
        pytest.param(CatalogProblem("broken.yaml", "/paths", "is wrong"), id="file-that-is-broken"),
        pytest.param(CatalogProblem("api.yaml", "", "is wrong"), id="whole-document"),
        pytest.param(CatalogProblem("api.yaml", "/paths", "is wrong", 7), id="line-that-is-known"),
    ],
)
def test_a_problem_without_a_place_is_told_as_it_is(tmp_path: Path, problem: CatalogProblem) -> None:
    written(tmp_path, TEXT)
    written(tmp_path, "[", "broken.yaml")
    assert with_lines([problem], tmp_path) == (problem,)
