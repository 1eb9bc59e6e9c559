from __future__ import annotations

import json
import tracemalloc
from typing import TYPE_CHECKING, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.jsontext import UnreadableJsonError, members, offsets, parse, pointer_token, respelt, with_members

if TYPE_CHECKING:
    from random import Random

    from proxy.core.model import JsonValue

BOM = b"\xef\xbb\xbf"


@pytest.mark.parametrize(
    ("text", "document"),
    [
        pytest.param(b'{"b": 1, "a": 2}', (("b", 1), ("a", 2)), id="object-keeps-order"),
        pytest.param(b'{"a": 1, "a": 2}', (("a", 1), ("a", 2)), id="repeated-name-keeps-both"),
        pytest.param(b"{}", (), id="empty-object"),
        pytest.param(b"[]", [], id="empty-array"),
        pytest.param(b'[{"a": []}, "b"]', [(("a", []),), "b"], id="array-is-a-list"),
        pytest.param(b"null", None, id="null"),
        pytest.param(b"true", True, id="literal"),
        pytest.param(b'"text"', "text", id="string"),
        pytest.param(b"-0.5e1", -5, id="number"),
        pytest.param(b" \t\r\n[ ]\n", [], id="white-space-around"),
        pytest.param(BOM + b"[]", [], id="byte-order-mark"),
        pytest.param(rb'{"\u0063omment": 1}', (("comment", 1),), id="escaped-name"),
        pytest.param(rb'"\ud83d\ude00"', "\U0001f600", id="surrogate-pair"),
        pytest.param(rb'"\ud800"', "\ud800", id="lone-surrogate"),
        pytest.param("\u00e9".encode().join([b'"', b'"']), "\u00e9", id="utf-8"),
        pytest.param(b'"\x7f"', "\x7f", id="delete-is-no-control-character"),
    ],
)
def test_text_is_read_whole(text: bytes, document: JsonValue) -> None:
    assert parse(text) == document


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(b"1" * 5000, id="5000-digits"),
        pytest.param(b"-" + b"9" * 5000, id="negative"),
        pytest.param(b"1e999999999", id="beyond-a-double"),
        pytest.param(b"0." + b"0" * 5000 + b"1", id="below-a-double"),
    ],
)
def test_number_of_any_size_is_read(number: bytes) -> None:
    match parse(b'{"a": %b}' % number):
        case (("a", float()),):
            pass
        case document:
            pytest.fail(repr(document))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b" \r\n", id="blank"),
        pytest.param(BOM, id="byte-order-mark-alone"),
        pytest.param(BOM + BOM + b"{}", id="two-byte-order-marks"),
        pytest.param('{"a": 1}'.encode("utf-16"), id="utf-16"),
        pytest.param('{"a": 1}'.encode("utf-16-le"), id="utf-16-without-mark"),
        pytest.param('{"a": 1}'.encode("utf-32"), id="utf-32"),
        pytest.param(b'{"a": "\xe9"}', id="latin-1"),
        pytest.param(b'"\xed\xa0\x80"', id="surrogate-in-utf-8"),
        pytest.param(b'"\xc0\xaf"', id="overlong-utf-8"),
        pytest.param(b'{"a": NaN}', id="nan"),
        pytest.param(b"[Infinity]", id="infinity"),
        pytest.param(b"-Infinity", id="minus-infinity"),
        pytest.param(b'{"a": 1,}', id="comma-before-brace"),
        pytest.param(b"[1,]", id="comma-before-bracket"),
        pytest.param(b"{'a': 1}", id="single-quotes"),
        pytest.param(b"{a: 1}", id="bare-name"),
        pytest.param(b'{"a": 1} // note', id="comment"),
        pytest.param(b"{} {}", id="two-documents"),
        pytest.param(b'{"a": 1', id="unfinished"),
        pytest.param(b'"a\nb"', id="line-break-in-string"),
        pytest.param(b'"a\x00b"', id="nul-in-string"),
        pytest.param(rb'"\x41"', id="strange-escape"),
        pytest.param(rb'"\u12"', id="short-escape"),
        pytest.param(b"01", id="leading-zero"),
        pytest.param(b"+1", id="plus-sign"),
        pytest.param(b".5", id="no-digit-before-point"),
        pytest.param(b"\x0b1", id="vertical-tab"),
        pytest.param("\u00a0{}".encode(), id="no-break-space"),
        pytest.param(b"True", id="capital-literal"),
        pytest.param(b"[" * 100_000, id="100000-open-brackets"),
        pytest.param(b"[" * 100_000 + b"]" * 100_000, id="100000-deep-arrays"),
        pytest.param(b'{"a":' * 100_000 + b"1" + b"}" * 100_000, id="100000-deep-objects"),
    ],
)
def test_anything_else_is_unreadable(text: bytes) -> None:
    with pytest.raises(UnreadableJsonError):
        parse(text)


@given(st.binary() | st.text(alphabet='{}[],:"\\u0019eE+-. ntfalsr', max_size=40).map(str.encode))
def test_any_bytes_are_read_or_unreadable(text: bytes) -> None:
    try:
        parse(text)
    except UnreadableJsonError:
        return
    json.loads(text.removeprefix(BOM), parse_int=float)


Node: TypeAlias = "bytes | list[Node] | tuple[tuple[str, Node], ...]"

SCALARS = [b"null", b"true", b"0", b"-0.0", b"1E+2", b"12345678901234567890", b'""', rb'"\"{,"', rb'"\\"', b'"[:]"']
NODES: st.SearchStrategy[Node] = st.recursive(
    st.sampled_from(SCALARS) | st.text().map(lambda text: json.dumps(text).encode()),
    lambda nodes: st.lists(nodes, max_size=4) | st.lists(st.tuples(st.text(), nodes), max_size=4).map(tuple),
    max_leaves=12,
)


def blank(choices: Random) -> bytes:
    return choices.choice([b"", b"", b" ", b"\n\t", b"\r\n"])


def pieces(node: Node, choices: Random, path: tuple[int, ...] = ()) -> list[tuple[bytes, tuple[int, ...] | None]]:
    """Return the text of `node` in pieces with random white space, each name with its position."""
    match node:
        case bytes():
            return [(blank(choices) + node + blank(choices), None)]
        case list():
            opening, closing = b"[", b"]"
            parts = [pieces(element, choices, (*path, index)) for index, element in enumerate(node)]
        case tuple():
            opening, closing = b"{", b"}"
            parts = [
                [
                    (blank(choices), None),
                    (json.dumps(name, ensure_ascii=choices.random() < 0.5).encode(), (*path, index)),
                    (blank(choices) + b":", None),
                    *pieces(member, choices, (*path, index)),
                ]
                for index, (name, member) in enumerate(node)
            ]
    told: list[tuple[bytes, tuple[int, ...] | None]] = [(blank(choices) + opening + blank(choices), None)]
    for index, part in enumerate(parts):
        told += [(b",", None), *part] if index else part
    return [*told, (closing + blank(choices), None)]


@given(NODES, st.randoms(), st.sampled_from([b"", BOM]))
def test_no_names_change_nothing(node: Node, choices: Random, mark: bytes) -> None:
    text = mark + b"".join(piece for piece, _ in pieces(node, choices))
    assert respelt(text, {}) == text
    assert respelt(text, {(99,): "a", (0, 99): "b", (): "c"}) == text


def test_a_string_of_escapes_is_passed_over_in_no_memory() -> None:
    text = b'{"a": "' + b'\\"' * 500_000 + b'", "b": "' + b"\\u0061" * 100_000 + b'", "c": 0}'
    tracemalloc.start()
    try:
        replaced = respelt(text, {(2,): "C"})
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert replaced == text.replace(b'"c"', b'"C"')
    assert peak_bytes < 3 * len(text)


@given(NODES, st.randoms(), st.sampled_from([b"", BOM]), st.data())
def test_chosen_names_change_and_nothing_else(node: Node, choices: Random, mark: bytes, data: st.DataObject) -> None:
    told = pieces(node, choices)
    positions = [path for _, path in told if path is not None]
    names = data.draw(st.dictionaries(st.sampled_from(positions), st.text()) if positions else st.just({}))
    expected = b"".join(
        json.dumps(names[path], ensure_ascii=False).encode() if path in names else piece for piece, path in told
    )
    assert respelt(mark + b"".join(piece for piece, _ in told), names) == mark + expected


@pytest.mark.parametrize(
    ("text", "names", "expected"),
    [
        pytest.param(b'{"a" : 1}', {(0,): "A"}, b'{"A" : 1}', id="one-name"),
        pytest.param(b'{"a":"a"}', {(0,): "A"}, b'{"A":"a"}', id="value-of-the-same-text-stays"),
        pytest.param(b'{"a":1,"a":2}', {(1,): "A"}, b'{"a":1,"A":2}', id="second-of-two-equal-names"),
        pytest.param(b'[{},{"a":1}]', {(1, 0): "A"}, b'[{},{"A":1}]', id="behind-an-empty-object"),
        pytest.param(b'{"x":[],"a":1}', {(1,): "A"}, b'{"x":[],"A":1}', id="behind-an-empty-array"),
        pytest.param(b'{"x":[1,[2,3]],"a":1}', {(1,): "A"}, b'{"x":[1,[2,3]],"A":1}', id="behind-commas-in-arrays"),
        pytest.param(b'{"x":"},{[","a":1}', {(1,): "A"}, b'{"x":"},{[","A":1}', id="behind-brackets-in-a-string"),
        pytest.param(rb'{"x":"\"","a":1}', {(1,): "A"}, rb'{"x":"\"","A":1}', id="behind-an-escaped-quote"),
        pytest.param(rb'{"x":"\\","a":1}', {(1,): "A"}, rb'{"x":"\\","A":1}', id="behind-an-escaped-backslash"),
        pytest.param(rb'{"\u0061":"\u0061"}', {(0,): "A"}, rb'{"A":"\u0061"}', id="escaped-name"),
        pytest.param(BOM + b'{"a":1}', {(0,): "A"}, BOM + b'{"A":1}', id="byte-order-mark-stays"),
        pytest.param(b'{"a":{"b":1}}', {(0,): "A", (0, 0): "B"}, b'{"A":{"B":1}}', id="name-within-a-name"),
        pytest.param(b'{"a":1}', {(0,): "\u00e9"}, '{"\u00e9":1}'.encode(), id="written-as-utf-8"),
        pytest.param(b'{"a":1}', {(0,): '"\\'}, rb'{"\"\\":1}', id="written-with-needed-escapes"),
        pytest.param(
            b'{"x":"' + rb"\"" * 100_000 + b'","a":1}',
            {(1,): "A"},
            b'{"x":"' + rb"\"" * 100_000 + b'","A":1}',
            id="100000-escapes-in-a-string",
        ),
    ],
)
def test_name_is_replaced_in_place(text: bytes, names: dict[tuple[int, ...], str], expected: bytes) -> None:
    assert respelt(text, names) == expected


@pytest.mark.parametrize(
    ("name", "token"),
    [
        pytest.param("Comment", "/Comment", id="plain"),
        pytest.param(0, "/0", id="index"),
        pytest.param("", "/", id="empty"),
        pytest.param("a/b", "/a~1b", id="slash"),
        pytest.param("a~b", "/a~0b", id="tilde"),
        pytest.param("~1", "/~01", id="tilde-before-one"),
        pytest.param("/~/", "/~1~0~1", id="both"),
    ],
)
def test_pointer_token_escapes_slash_and_tilde(name: str | int, token: str) -> None:
    assert pointer_token(name) == token


@pytest.mark.parametrize(
    ("pointer", "found"),
    [
        pytest.param("", b'{"a"', id="whole"),
        pytest.param("/a", b'"a": {', id="name"),
        pytest.param("/a/b~1c", rb'"b\u002fc"', id="escaped-name"),
        pytest.param("/a/b~1c/0", b" [1", id="first-element"),
        pytest.param("/a/b~1c/0/1", b" 2,", id="element-of-an-array-in-an-array"),
        pytest.param("/a/b~1c/1", b" {", id="element-behind-an-array"),
        pytest.param("/a/b~1c/1/x~0", b'"x~"', id="name-in-an-element"),
        pytest.param("/a/b~1c/2", b' "e"', id="text"),
        pytest.param("/z", b'"z"', id="name-behind-a-look-alike"),
        pytest.param("/a/none/more", b'"a": {', id="nothing"),
        pytest.param("/none", b'{"a"', id="nothing-at-all"),
        pytest.param("/a/b~1c/7", rb'"b\u002fc"', id="no-element"),
        pytest.param("/z/0", b'"z"', id="element-of-a-text"),
    ],
)
def test_pointer_leads_to_an_offset(pointer: str, found: bytes) -> None:
    text = rb"""{"a": {"b\u002fc": [ [1, 2, "[{,"], {"x~": {"z": 1}, "y": []}, "e"]}, "y": "z", "z": ""}"""
    assert text[offsets(text, ["/a/b~1c/0", pointer, "/z"])[pointer] :].startswith(found)


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=3),
        lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text(max_size=3), below, max_size=4),
    ),
    st.sampled_from([None, 1]),
)
def test_every_place_has_its_offset(document: JsonValue, indent: int | None) -> None:
    text = json.dumps(document, indent=indent).encode()
    values: dict[str, JsonValue] = {"": document}
    for pointer, value in list(values.items()):
        pending = [(pointer, value)]
        while pending:
            above, node = pending.pop()
            entries = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
            for name, below in entries:
                values[above + pointer_token(name)] = below
                pending.append((above + pointer_token(name), below))
    for pointer, offset in offsets(text, values).items():
        above, _, name = pointer.rpartition("/")
        rest = text[offset:].lstrip()
        if pointer and isinstance(values[above], dict):
            assert rest.startswith(json.dumps(name.replace("~1", "/").replace("~0", "~")).encode())
            rest = rest.partition(b":")[2] if b":" not in json.dumps(name).encode() else b""
        if rest:
            assert rest.lstrip().startswith(json.dumps(values[pointer], indent=indent).encode()[:1])


def test_where_members_stand() -> None:
    text = BOM + b'{ "a" : [1, {"x": 2}] , "b":"c:,}" ,"\\u0064":\t-1.5e3\n}'
    found = members(text, text.index(b"{"))
    assert [member.name for member in found] == ["a", "b", "d"]
    assert [text[member.name_start : member.name_end] for member in found] == [b'"a"', b'"b"', b'"\\u0064"']
    assert [text[m.value_start : m.value_end] for m in found] == [b'[1, {"x": 2}]', b'"c:,}"', b"-1.5e3"]


def test_an_empty_object_has_no_members() -> None:
    assert members(b"[{ }, 1]", 1) == []


NAMED = st.dictionaries(st.text(max_size=4), st.none() | st.text() | st.lists(st.integers()), min_size=1, max_size=4)


@given(
    inner=NAMED,
    added=st.dictionaries(st.text(max_size=4), st.text(), max_size=3),
    indent=st.sampled_from([None, 0, 2]),
    is_ascii=st.booleans(),
)
def test_members_are_added_and_every_other_byte_stays(
    inner: dict[str, object], added: dict[str, str], indent: int | None, *, is_ascii: bool
) -> None:
    text = json.dumps({"before": [{}], "error": inner, "behind": "}"}, indent=indent, ensure_ascii=is_ascii).encode(
        "utf-8", "surrogatepass"
    )
    result = with_members(text, ("error",), added)
    assert json.loads(result) == {"before": [{}], "error": inner | added, "behind": "}"}
    if not added.keys() & inner.keys():
        # What was added stands in one piece.
        length = len(result) - len(text)
        assert any(result[:at] + result[at + length :] == text for at in range(len(text) + 1))


@pytest.mark.parametrize(
    ("text", "place"),
    [
        pytest.param(b'\n {"a": }', "line 2, column 8", id="value"),
        pytest.param(b"  ", "line 1, column 3", id="nothing"),
        pytest.param(b"{} \n x \n", "line 2, column 2", id="more-behind"),
        pytest.param(b"{}\xc2\xa0", "line 1, column 3", id="another-space-behind"),
        pytest.param(b"\xc2\xa0{}", "line 1, column 1", id="another-space-before"),
        pytest.param(b"{}\x0b", "line 1, column 3", id="vertical-tab-behind"),
    ],
)
def test_the_place_is_where_the_text_stops_being_json(text: bytes, place: str) -> None:
    with pytest.raises(UnreadableJsonError) as caught:
        parse(text)
    assert caught.value.place == place
    with pytest.raises(json.JSONDecodeError) as reference:
        json.loads(text)
    assert place == f"line {reference.value.lineno}, column {reference.value.colno}"


@pytest.mark.parametrize("around", [b"", b" ", b"\r\n\t "])
def test_white_space_around_a_text_is_none_of_it(around: bytes) -> None:
    assert parse(around + b'{"a": [1]}' + around) == (("a", [1.0]),)
