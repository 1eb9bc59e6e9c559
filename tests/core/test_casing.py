from __future__ import annotations

import json
import tracemalloc
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.casing import Shape, examine, fold, respell
from proxy.core.catalog import Document
from proxy.core.check import check
from proxy.core.jsontext import parse
from proxy.core.model import NOTHING_FOUND, Kind, Mode
from proxy.core.openapi import compile_catalog

if TYPE_CHECKING:
    from random import Random

    from proxy.core.model import CaseMismatch


def shape_of(schema: dict[str, Any], **schemas: dict[str, Any]) -> Shape:
    """Return the shape that the catalog makes of a body's schema; `schemas` can be referred to."""
    body = {"content": {"application/json": {"schema": schema}}}
    content = {
        "openapi": "3.1.0",
        "paths": {"/api/things": {"post": {"operationId": "thing", "requestBody": body}}},
        "components": {"schemas": schemas},
    }
    shape = compile_catalog([Document("test", content)]).operations[0].body
    assert shape is not None
    return shape


NODE = "#/components/schemas/Node"

ISOLATE = shape_of(
    {
        "required": ["Comment"],
        "properties": {
            "Comment": {"type": "string"},
            "IsolationType": {"enum": ["Full", "Selective", "UnManagedDevice"]},
            "rbacGroupNames": {"x-accepted-names": ["RbacGroupNames", "groups"]},
            "key": {},
            "Commands": {
                "type": "array",
                "items": {
                    "required": ["type"],
                    "properties": {
                        "type": {"enum": ["PutFile", "RunScript"]},
                        "params": {
                            "type": "array",
                            "items": {"properties": {"key": {"enum": ["ScriptName", "Args"]}, "value": {}}},
                        },
                    },
                },
            },
            "Tags": {"type": "array", "items": {"enum": ["Red Team", "blue_team"]}},
            "a/b": {"properties": {"c~d": {}}},
            "scan-name": {},
            "Grid": {"items": {"items": {"properties": {"x": {}}}}},
        },
    }
)


def mismatches(text: str | bytes, shape: Shape = ISOLATE) -> tuple[CaseMismatch, ...]:
    return examine(parse(text if isinstance(text, bytes) else text.encode()), shape).mismatches


def told(text: str | bytes, shape: Shape = ISOLATE) -> list[tuple[str, str, str]]:
    return [(found.pointer, found.got, found.expected) for found in mismatches(text, shape)]


@pytest.mark.parametrize(
    "spelling",
    [
        pytest.param("isolationtype", id="lower"),
        pytest.param("ISOLATIONTYPE", id="upper"),
        pytest.param("isolationType", id="camel"),
        pytest.param("Isolationtype", id="capitalised"),
        pytest.param("isolation_type", id="snake"),
        pytest.param("ISOLATION_TYPE", id="screaming-snake"),
        pytest.param("Isolation_Type", id="pascal-snake"),
        pytest.param("isolation-type", id="kebab"),
        pytest.param("Isolation-Type", id="train"),
        pytest.param("Isolation Type", id="spaces"),
        pytest.param(" IsolationType", id="leading-space"),
        pytest.param("IsolationType ", id="trailing-space"),
        pytest.param("_IsolationType__", id="underscores-around"),
        pytest.param("i-s_o l-a_t i-o_n t-y_p e", id="separators-everywhere"),
    ],
)
def test_recased_name_is_a_mismatch(spelling: str) -> None:
    text = json.dumps({"Comment": "", spelling: "Full"})
    assert told(text) == [(f"/{spelling}", spelling, "IsolationType")]
    assert respell(text.encode(), mismatches(text)) == b'{"Comment": "", "IsolationType": "Full"}'


@pytest.mark.parametrize(
    "spelling",
    [
        pytest.param("\u212aey", id="kelvin-sign"),
        pytest.param("I\u017folationType", id="long-s"),
        pytest.param("Isolat\u0131onType", id="dotless-i"),
        pytest.param("\u0130solationType", id="dotted-capital-i"),
        pytest.param("\uff29solationType", id="full-width-letter"),
        pytest.param("\u0421omment", id="cyrillic-letter"),
        pytest.param("Isolation\u00a0Type", id="no-break-space"),
        pytest.param("Isolation\u2010Type", id="hyphen-beyond-ascii"),
        pytest.param("Isolation\u00adType", id="soft-hyphen"),
        pytest.param("Isolation\tType", id="tab"),
        pytest.param("Isolation.Type", id="dot"),
        pytest.param("IsolationTypes", id="plural"),
        pytest.param("IsolationTyp", id="one-letter-short"),
        pytest.param("\ud800Comment", id="lone-surrogate"),
        pytest.param("", id="empty"),
        pytest.param("_- ", id="separators-alone"),
    ],
)
def test_other_difference_is_left_to_the_upstream(spelling: str) -> None:
    findings = examine(((spelling, "Full"),), ISOLATE)
    assert findings.mismatches == ()
    assert [unknown.got for unknown in findings.unknown] == [spelling]
    assert findings.unknown_count == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param('{"Comment": "comment", "IsolationType": "Full"}', [], id="spelt-right"),
        pytest.param('{"comment": 1}', [("/comment", "comment", "Comment")], id="scalar-for-a-string"),
        pytest.param('{"comment": null}', [("/comment", "comment", "Comment")], id="null-value"),
        pytest.param('{"Comment": null, "IsolationType": null, "Commands": null}', [], id="null-is-no-wrong-value"),
        pytest.param(r'{"\u0063omment": 1}', [("/comment", "comment", "Comment")], id="escaped-letter"),
        pytest.param(r'{"\u0043omment": 1}', [], id="escaped-letter-of-the-right-spelling"),
        pytest.param('{"RbacGroupNames": []}', [], id="second-documented-spelling"),
        pytest.param('{"groups": []}', [], id="third-documented-spelling"),
        pytest.param('{"rbacGroupNames": [], "groups": []}', [], id="two-documented-spellings-at-once"),
        pytest.param(
            '{"rbacgroupnames": []}', [("/rbacgroupnames", "rbacgroupnames", "rbacGroupNames")], id="third-in-lower"
        ),
        pytest.param('{"Groups": []}', [("/Groups", "Groups", "rbacGroupNames")], id="fix-proposes-the-first-spelling"),
        pytest.param(
            '{"commands": [{"Type": "RunScript"}]}',
            [("/commands", "commands", "Commands"), ("/commands/0/Type", "Type", "type")],
            id="below-a-misspelt-name",
        ),
        pytest.param(
            '{"Commands": [{"type": "RunScript"}, {"params": [{"Key": "Args"}, {"VALUE": ""}]}]}',
            [("/Commands/1/params/0/Key", "Key", "key"), ("/Commands/1/params/1/VALUE", "VALUE", "value")],
            id="two-arrays-deep",
        ),
        pytest.param('{"Commands": {"Type": "PutFile"}}', [("/Commands/Type", "Type", "type")], id="object-for-array"),
        pytest.param('[{"comment": 1}]', [("/0/comment", "comment", "Comment")], id="array-for-the-body"),
        pytest.param('{"a/b": [{"C~D": 1}]}', [("/a~1b/0/C~0D", "C~D", "c~d")], id="array-for-object"),
        pytest.param('{"Commands": [[{"Type": 1}]]}', [], id="array-in-an-array-that-has-none"),
        pytest.param('{"Grid": [[{"X": 1}]]}', [("/Grid/0/0/X", "X", "x")], id="array-in-an-array-that-has-some"),
        pytest.param('{"Grid": {"X": 1}}', [("/Grid/X", "X", "x")], id="object-for-array-of-arrays"),
        pytest.param('{"Grid": [[[{"X": 1}]]]}', [], id="array-too-many"),
        pytest.param(
            '{"A/B": {"C~d": 1}}', [("/A~1B", "A/B", "a/b"), ("/A~1B/C~0d", "C~d", "c~d")], id="pointer-is-escaped"
        ),
        pytest.param('{"ScanName": 1}', [("/ScanName", "ScanName", "scan-name")], id="separator-left-out"),
        pytest.param(
            '{"isolationtype": "Full", "comment": ""}',
            [("/isolationtype", "isolationtype", "IsolationType"), ("/comment", "comment", "Comment")],
            id="in-the-order-of-the-document",
        ),
        pytest.param(
            '{"comment": 1, "comment": 2}',
            [("/comment", "comment", "Comment"), ("/comment", "comment", "Comment")],
            id="wrong-name-twice",
        ),
        pytest.param('{"Elsewhere": {"comment": 1}}', [], id="below-an-unknown-name"),
        pytest.param('{"Comment": {"comment": 1}}', [], id="below-a-name-without-members"),
        pytest.param('{"type": "putfile"}', [], id="known-elsewhere-in-the-catalog"),
        pytest.param('{"Commands": ["type", 1, null, [], {}]}', [], id="array-of-anything"),
        pytest.param("{}", [], id="empty-object"),
        pytest.param("[]", [], id="empty-array"),
        pytest.param("null", [], id="null"),
        pytest.param('"comment"', [], id="string"),
        pytest.param("17", [], id="number"),
        pytest.param("true", [], id="literal"),
    ],
)
def test_names_are_compared_where_the_catalog_knows_them(text: str, expected: list[tuple[str, str, str]]) -> None:
    assert told(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param('{"IsolationType": "full"}', [("/IsolationType", "full", "Full")], id="lower"),
        pytest.param('{"IsolationType": "SELECTIVE"}', [("/IsolationType", "SELECTIVE", "Selective")], id="upper"),
        pytest.param(
            '{"IsolationType": "un_managed-device"}',
            [("/IsolationType", "un_managed-device", "UnManagedDevice")],
            id="separators",
        ),
        pytest.param(
            '{"isolationType": "full"}',
            [("/isolationType", "isolationType", "IsolationType"), ("/isolationType", "full", "Full")],
            id="below-a-misspelt-name-which-comes-first",
        ),
        pytest.param('{"Tags": ["Red Team", "RedTeam"]}', [("/Tags/1", "RedTeam", "Red Team")], id="in-an-array"),
        pytest.param('{"Tags": "Blue_Team"}', [("/Tags", "Blue_Team", "blue_team")], id="scalar-for-array"),
        pytest.param('{"IsolationType": ["full"]}', [("/IsolationType/0", "full", "Full")], id="array-for-scalar"),
        pytest.param(
            '{"Commands": [{"type": "putfile", "params": [{"key": "args"}]}]}',
            [("/Commands/0/type", "putfile", "PutFile"), ("/Commands/0/params/0/key", "args", "Args")],
            id="nested",
        ),
        pytest.param(
            '{"IsolationType": "full", "IsolationType": "FULL"}',
            [("/IsolationType", "full", "Full"), ("/IsolationType", "FULL", "Full")],
            id="of-a-repeated-name",
        ),
        pytest.param(r'{"IsolationType": "\u0066ull"}', [("/IsolationType", "full", "Full")], id="escaped"),
        pytest.param('{"IsolationType": "Fully"}', [], id="like-nothing-known"),
        pytest.param('{"IsolationType": "Se\u013aective"}', [], id="beyond-ascii"),
        pytest.param('{"IsolationType": ""}', [], id="empty"),
        pytest.param('{"IsolationType": 1}', [], id="no-string"),
        pytest.param('{"IsolationType": {"full": "full"}}', [], id="object-for-scalar"),
        pytest.param('{"Comment": "full"}', [], id="of-another-parameter"),
    ],
)
def test_enumerated_values_are_compared_too(text: str, expected: list[tuple[str, str, str]]) -> None:
    assert told(text) == expected


def test_misspelt_value_names_its_parameter() -> None:
    [found] = mismatches('{"Commands": [{"type": "putfile"}]}')
    assert (found.kind, found.parameter, found.required, found.conflict) == (Kind.VALUE, "type", False, False)


def test_misspelt_value_below_a_misspelt_name_names_the_documented_parameter() -> None:
    _, found = mismatches('{"isolation_type": "full"}')
    assert (found.kind, found.parameter) == (Kind.VALUE, "IsolationType")


def test_of_values_that_fold_alike_each_is_right_and_the_first_is_proposed() -> None:
    shape = shape_of({"properties": {"Type": {"enum": ["IpAddress", "ipAddress", "IP Address"]}}})
    assert told('{"Type": ["IpAddress", "ipAddress", "IP Address"]}', shape) == []
    assert told('{"Type": "ipaddress"}', shape) == [("/Type", "ipaddress", "IpAddress")]


@pytest.mark.parametrize(
    ("text", "conflicts"),
    [
        pytest.param('{"comment": 1}', [False], id="wrong-alone"),
        pytest.param('{"Comment": 1, "comment": 1}', [True], id="right-before-wrong"),
        pytest.param('{"comment": 1, "Comment": 1}', [True], id="wrong-before-right"),
        pytest.param('{"comment": 1, "COMMENT": 1}', [True, True], id="two-wrong-ones"),
        pytest.param('{"comment": 1, "comment": 1}', [False, False], id="one-wrong-spelling-twice"),
        pytest.param('{"groups": 1, "Groups": 1}', [True], id="second-documented-spelling-and-a-wrong-one"),
        pytest.param(
            '{"rbac_group_names": 1, "Groups": 1}', [True, True], id="wrong-spellings-of-two-documented-spellings"
        ),
        pytest.param('{"Commands": [{"type": 1}, {"Type": 1}]}', [False], id="right-in-another-element"),
        pytest.param('{"comment": 1, "Commands": [{"Type": 1}]}', [False, False], id="different-parameters"),
        pytest.param(r'{"\u0043omment": 1, "comment": 1}', [True], id="right-in-escapes"),
    ],
)
def test_two_spellings_in_one_object_conflict(text: str, conflicts: list[bool]) -> None:
    assert [found.conflict for found in mismatches(text)] == conflicts


@pytest.mark.parametrize(
    ("text", "required"),
    [
        pytest.param('{"comment": 1}', [True], id="required-under-a-wrong-spelling-alone"),
        pytest.param('{"comment": 1, "COMMENT": 1}', [True, True], id="required-under-two-wrong-spellings"),
        pytest.param('{"comment": 1, "Comment": 1}', [False], id="required-is-there"),
        pytest.param('{"key": 1, "isolationType": 1}', [False], id="optional-wrong-and-required-absent"),
        pytest.param('{"commands": [{"Type": 1}]}', [False, True], id="required-of-an-inner-object"),
    ],
)
def test_required_parameter_is_missing_where_no_right_spelling_is(text: str, required: list[bool]) -> None:
    assert [found.required for found in mismatches(text)] == required


def test_accepted_spelling_of_a_required_parameter_is_enough() -> None:
    shape = shape_of({"required": ["Ids"], "properties": {"Ids": {"x-accepted-names": ["machineIds"]}}})
    assert [found.required for found in mismatches('{"machineIds": 1, "ids": 1}', shape)] == [False]
    assert [found.required for found in mismatches('{"MachineIds": 1}', shape)] == [True]


def test_name_that_could_mean_two_parameters_is_left_to_the_upstream() -> None:
    shape = shape_of({"properties": {"sessionId": {}, "SessionID": {}, "Other": {}}})
    findings = examine(parse(b'{"sessionId": 1, "SessionID": 1, "session_id": 1, "other": 1}'), shape)
    assert [found.got for found in findings.mismatches] == ["other"]
    assert [unknown.got for unknown in findings.unknown] == ["session_id"]


@pytest.mark.parametrize(
    ("text", "duplicates"),
    [
        pytest.param('{"Comment": 1, "Comment": 2}', ["/Comment"], id="once"),
        pytest.param('{"Comment": 1, "Comment": 2, "Comment": 3}', ["/Comment"], id="told-once-however-often"),
        pytest.param('{"nobody": 1, "nobody": 2}', ["/nobody"], id="unknown-name"),
        pytest.param('{"comment": 1, "comment": 2}', ["/comment"], id="wrong-name"),
        pytest.param(r'{"Comment": 1, "\u0043omment": 2}', ["/Comment"], id="in-escapes"),
        pytest.param('{"Comment": 1, "comment": 2}', [], id="two-spellings-are-no-repetition"),
        pytest.param(
            '{"key": 1, "Commands": [{"type": 1, "type": 1}], "key": 2}',
            ["/Commands/0/type", "/key"],
            id="in-the-order-of-the-repeats",
        ),
        pytest.param('{"Elsewhere": {"a": 1, "a": 1}}', [], id="below-an-unknown-name"),
    ],
)
def test_repeated_names_are_found(text: str, duplicates: list[str]) -> None:
    assert list(examine(parse(text.encode()), ISOLATE).duplicates) == duplicates


@pytest.mark.parametrize(
    ("name", "near"),
    [
        pytest.param("Coment", "Comment", id="letter-left-out"),
        pytest.param("coments", "Comment", id="whatever-the-case"),
        pytest.param("IsolationTipe", "IsolationType", id="wrong-letter"),
        pytest.param("group", "rbacGroupNames", id="near-a-second-spelling-proposes-the-first"),
        pytest.param("Zebra", None, id="nothing-near"),
        pytest.param("Comment" * 100, None, id="very-long"),
        pytest.param("", None, id="empty"),
    ],
)
def test_unknown_name_is_told_with_the_name_it_resembles(name: str, near: str | None) -> None:
    [unknown] = examine(((name, 1),), ISOLATE).unknown
    assert (unknown.pointer, unknown.got, unknown.near) == (f"/{name}", name, near)


def test_unknown_names_are_all_counted_and_few_are_told() -> None:
    findings = examine(tuple((f"Coment{number}", 1) for number in range(100_000)), ISOLATE)
    assert findings.unknown_count == 100_000
    assert [unknown.got for unknown in findings.unknown] == [f"Coment{number}" for number in range(10)]


def test_unknown_names_of_many_objects_are_bounded_together() -> None:
    findings = examine((("Commands", [(("tipe", 1), ("tip", 1))] * 100),), ISOLATE)
    assert findings.unknown_count == 200
    assert len(findings.unknown) == 10


def test_unknown_names_are_told_in_the_order_of_the_document() -> None:
    text = b'{"Commands": [{"tipe": 1}, {"tip": {}}], "Coment": 1, "a/b": {"c~": 1}}'
    assert [unknown.pointer for unknown in examine(parse(text), ISOLATE).unknown] == [
        "/Commands/0/tipe",
        "/Commands/1/tip",
        "/Coment",
        "/a~1b/c~0",
    ]


def test_100000_names_that_fold_alike_are_examined() -> None:
    names = [f"comment{'_' * (number % 9)}{'-' * (number % 7)}" for number in range(100_000)]
    findings = examine(tuple((name, 1) for name in names), ISOLATE)
    assert len(findings.mismatches) == 100_000
    assert all(found.conflict for found in findings.mismatches)
    assert len(findings.duplicates) == len(set(names))


def test_deep_document_of_a_shape_within_itself_is_examined() -> None:
    shape = shape_of({"$ref": "#/components/schemas/Node"}, Node={"properties": {"Next": {"$ref": NODE}}})
    document: Any = ()
    for _ in range(900):
        document = (("next", document),)
    findings = examine(document, shape)
    assert len(findings.mismatches) == 900
    assert [found.path for found in findings.mismatches[:3]] == [(0,), (0, 0), (0, 0, 0)]


@pytest.mark.parametrize(
    "element",
    [
        pytest.param(b"[]", id="empty-arrays"),
        pytest.param(b'{"a":1}', id="unknown-names"),
        pytest.param(b'{"comment":1}', id="mismatches"),
    ],
)
def test_many_elements_in_deep_arrays_take_memory_in_proportion_to_the_body(element: bytes) -> None:
    text = b"[" * 900 + b",".join([element] * 4000) + b"]" * 900
    document = parse(text)
    tracemalloc.start()
    try:
        examine(document, ISOLATE)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 200 * len(text)


@pytest.mark.parametrize(
    ("name", "folded"),
    [
        pytest.param("IsolationType", "isolationtype", id="letters"),
        pytest.param("ABCXYZ", "abcxyz", id="whole-alphabet"),
        pytest.param("isolation_type-x y", "isolationtypexy", id="separators"),
        pytest.param("Sha1", "sha1", id="digits"),
        pytest.param("a.b/c~d@e", "a.b/c~d@e", id="other-signs"),
        pytest.param("\u212a\u0130\u0131\u00c9\u017f", "\u212a\u0130\u0131\u00c9\u017f", id="beyond-ascii"),
        pytest.param("_- ", "", id="separators-alone"),
        pytest.param("A" + "_" * 255, "a", id="256-characters"),
        pytest.param("A" + "_" * 256, "A" + "_" * 256, id="longer-than-any-spelling"),
    ],
)
def test_fold_overlooks_ascii_case_and_separators(name: str, folded: str) -> None:
    assert fold(name) == folded


@given(st.text())
def test_folding_twice_changes_nothing(name: str) -> None:
    assert fold(fold(name)) == fold(name)


@given(st.text(st.characters(codec="ascii"), max_size=300))
def test_ascii_folds_as_it_does_beside_other_letters(name: str) -> None:
    alone, beside = fold(name[:255]), fold(name[:255] + "\u212a")
    assert beside == alone + "\u212a"


@given(st.text(st.characters(codec="ascii"), max_size=100), st.randoms())
def test_recased_ascii_folds_alike(name: str, choices: Random) -> None:
    assert fold(recased(name, choices)) == fold(name)


def recased(name: str, choices: Random) -> str:
    """Return `name` with ASCII letters in random case and separators taken out and put in at random."""
    letters: list[str] = []
    for letter in name:
        if letter in "_- " and choices.random() < 0.5:
            continue
        if letter.isascii() and choices.random() < 0.5:
            letter = letter.swapcase()  # noqa: PLW2901 - the same letter, otherwise written
        letters.append(letter + choices.choice(["", "", "", "", "_", "-", " "]))
    return "".join(letters)


# One shape with everything in it: itself inside itself, arrays, values, second spellings, names that need care.
EVERYTHING = shape_of(
    {"$ref": NODE},
    Node={
        "required": ["Comment"],
        "properties": {
            "Comment": {},
            "IsolationType": {"enum": ["Full", "un_managed device"]},
            "machineIds": {"x-accepted-names": ["MachineIds", "ids"]},
            "Commands": {"type": "array", "items": {"properties": {"type": {}, "Inner": {"$ref": NODE}}}},
            "inner-node": {"$ref": NODE},
            "Grid": {"items": {"items": {"$ref": NODE}}},
            "a/b~c": {"$ref": NODE},
            'q"u\\o': {},
            "Gr\u00f6\u00dfe\U0001f600": {},
        },
    },
)
MARK = b"\xef\xbb\xbf"
ESCAPES = {'"': r"\"", "\\": r"\\", "/": r"\/", "\n": r"\n", "\t": r"\t", "\b": r"\b", "\f": r"\f", "\r": r"\r"}
SCALARS = [b"null", b"true", b"false", b"0", b"-0", b"1.50", b"1E400", b"10e-2", b"1" * 4400, b"12345678901234567890"]
FREE_NAMES = ["x", "comments", "{", "}", '"', "[,]", ":", "\\", "\ud800", "", "\u212aey", "Coment"]


class Writer:
    """Writes a random body twice at once: as a careless client would spell it, and as it should come out."""

    def __init__(self, choices: Random) -> None:
        self.choices = choices
        self.careless: list[bytes] = []
        self.right: list[bytes] = []
        self.misspelt = 0

    def both(self, piece: bytes) -> None:
        self.careless.append(piece)
        self.right.append(piece)

    def blank(self) -> None:
        self.both(self.choices.choice([b"", b"", b"", b" ", b"\n\t", b"\r\n  "]))

    def string(self, text: str) -> bytes:
        """Return `text` as a JSON string, each character in one of the ways that it may be written."""
        return b'"' + b"".join(self.character(character) for character in text) + b'"'

    def character(self, character: str) -> bytes:
        ways: list[str] = []
        if character >= " " and character not in '"\\' and not "\ud800" <= character <= "\udfff":
            ways += [character] * 6
        if character in ESCAPES:
            ways.append(ESCAPES[character])
        units = character.encode("utf-16-be", "surrogatepass")
        escape = "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
        ways += [escape, escape.upper().replace("U", "u")]
        return self.choices.choice(ways).encode()

    def text(self) -> str:
        return "".join(
            self.choices.choices('aZ0_- ,:{}[]"\\/\n\u00e9\u212a\U0001f600\ud800', k=self.choices.randrange(6))
        )

    def body(self) -> tuple[bytes, bytes]:
        """Return one body as a careless client would spell it, and as it should come out."""
        self.blank()
        if self.choices.random() < 0.1:
            self.value(EVERYTHING, 4)
        else:
            self.members("{}", [self.member(name, EVERYTHING, 4) for name in self.names(EVERYTHING)])
        self.blank()
        return b"".join(self.careless), b"".join(self.right)

    def value(self, shape: Shape, depth: int, levels: int | None = None) -> None:
        """Write a value where the catalog has `shape`; one without names and values allows anything.

        `levels` says in how many arrays more the shape holds, which is in one at least.
        """
        self.blank()
        match self.choices.choice("snaaooo" if depth else "ssn"):
            case "s" if shape.values and self.choices.random() < 0.7:
                self.both(self.string(self.choices.choice(sorted(shape.values))))
            case "s":
                # Behind this letter no text folds to an enumerated value.
                self.both(self.string("\u00e9" + self.text()))
            case "n":
                self.both(self.choices.choice(SCALARS))
            case "a":
                levels = max(shape.array_levels, 1) if levels is None else levels
                elements = shape if levels else Shape()
                write = partial(self.value, elements, depth - 1, levels - 1 if levels else None)
                self.members("[]", [write] * self.choices.randrange(4))
            case "o":
                self.members("{}", [self.member(name, shape, depth) for name in self.names(shape)])
        self.blank()

    def members(self, brackets: str, members: list[Any]) -> None:
        self.both(brackets[0].encode())
        self.blank()
        for index, write in enumerate(members):
            if index:
                self.both(b",")
            write()
        self.both(brackets[1].encode())

    def names(self, shape: Shape) -> list[tuple[str, str]]:
        """Return names for one object, repeats included, each as it is spelt and as it should be."""
        spellings: dict[str, str] = {}
        names: list[tuple[str, str]] = []
        for _ in range(self.choices.randrange(6)):
            known = self.choices.random() < 0.75 and bool(shape.parameters)
            name = self.choices.choice(sorted(shape.parameters) if known else FREE_NAMES)
            parameter = shape.parameters.get(name)
            if parameter is None:
                names.append((name, name))
                continue
            # One spelling of a parameter in one object: two would be a conflict, which no fix can settle.
            spelling = name if self.choices.random() < 0.4 else recased(name, self.choices)
            spelling = spellings.setdefault(parameter.name, spelling)
            names.append((spelling, spelling if spelling in shape.parameters else parameter.name))
        return names

    def member(self, names: tuple[str, str], shape: Shape, depth: int) -> Any:
        spelling, right = names
        parameter = shape.parameters.get(right)

        def write() -> None:
            self.blank()
            if spelling == right:
                self.both(self.string(right))
            else:
                self.misspelt += 1
                self.careless.append(self.string(spelling))
                self.right.append(json.dumps(right, ensure_ascii=False).encode())
            self.blank()
            self.both(b":")
            self.value(parameter.shape if parameter else Shape(), depth - 1)

        return write


@settings(max_examples=300)
@given(st.randoms(), st.sampled_from([b"", MARK]))
def test_fix_yields_the_right_names_and_changes_nothing_else(choices: Random, mark: bytes) -> None:
    writer = Writer(choices)
    careless, right = (mark + text for text in writer.body())
    found = mismatches(careless, EVERYTHING)
    assert len(found) == writer.misspelt
    assert all(one.kind is Kind.NAME and not one.conflict for one in found)
    assert respell(careless, found) == right
    assert check(careless, (), EVERYTHING, Mode.FIX, limit_bytes=0).fixed_body == (right if found else None)
    assert mismatches(right, EVERYTHING) == ()


@given(st.randoms())
def test_mismatch_leads_to_its_name(choices: Random) -> None:
    careless, _ = Writer(choices).body()
    document = parse(careless)
    for found in examine(document, EVERYTHING).mismatches:
        value, name = document, ""
        for index in found.path:
            name, value = value[index] if isinstance(value, tuple) else (str(index), value[index])
        assert name == found.got
        assert found.pointer.endswith("/" + name.replace("~", "~0").replace("/", "~1"))
        assert fold(found.got) == fold(found.expected) or found.expected == "machineIds"


@given(st.randoms())
def test_names_spelt_as_in_the_catalog_never_mismatch(choices: Random) -> None:
    _, right = Writer(choices).body()
    assert mismatches(right, EVERYTHING) == ()


@pytest.mark.parametrize(
    ("text", "right"),
    [
        pytest.param(
            '{ "comment" :\t"a" ,\r\n"IsolationType":"Full"}',
            '{ "Comment" :\t"a" ,\r\n"IsolationType":"Full"}',
            id="white-space-stays",
        ),
        pytest.param(
            '{"key": 1.0E+2, "comment": 0.10}', '{"key": 1.0E+2, "Comment": 0.10}', id="numbers-stay-as-written"
        ),
        pytest.param(f'{{"comment": {"7" * 5000}}}', f'{{"Comment": {"7" * 5000}}}', id="5000-digits-stay"),
        pytest.param(
            r'{"comment": "\u0041\/\ud800\n"}', r'{"Comment": "\u0041\/\ud800\n"}', id="escapes-in-values-stay"
        ),
        pytest.param(r'{"\u0063omment": 1}', '{"Comment": 1}', id="escapes-in-the-wrong-name-go"),
        pytest.param(
            r'{"\u006bey": 1, "comment": 1}', r'{"\u006bey": 1, "Comment": 1}', id="escapes-in-a-right-name-stay"
        ),
        pytest.param(
            '{"nobody": {"comment": 1}, "comment": 1}',
            '{"nobody": {"comment": 1}, "Comment": 1}',
            id="same-name-elsewhere-stays",
        ),
        pytest.param('{"comment": 1, "comment": 2}', '{"Comment": 1, "Comment": 2}', id="repeated-name-in-each-place"),
        pytest.param(
            '{"commands": [{"TYPE": 1, "Params": {"Key": 1}}]}',
            '{"Commands": [{"type": 1, "params": {"key": 1}}]}',
            id="on-every-level",
        ),
        pytest.param('{"IsolationType": "full"}', '{"IsolationType": "full"}', id="values-are-the-callers"),
    ],
)
def test_respelling_touches_the_names_alone(text: str, right: str) -> None:
    assert respell(text.encode(), mismatches(text)) == right.encode()


def test_nothing_found_is_told_as_nothing() -> None:
    assert examine(parse(b'{"Comment": "a", "Commands": [{"type": "PutFile"}]}'), ISOLATE) is NOTHING_FOUND
    assert examine(parse(b'{"comment": 1}'), Shape()) is NOTHING_FOUND


OPEN = shape_of(
    {
        "properties": {"Comment": {}, "Tags": {"enum": ["Red"]}},
        "additionalProperties": {"properties": {"Name": {"enum": ["Ann"]}}},
    }
)
LABELS = shape_of({"properties": {"Labels": {"additionalProperties": {"enum": ["Red", "Blue"]}}, "Id": {}}})
MAPS = shape_of({"additionalProperties": {"additionalProperties": {"properties": {"Name": {}}}}})


@pytest.mark.parametrize(
    ("text", "shape", "expected"),
    [
        pytest.param('{"Comment": 1, "Tags": "red"}', OPEN, [("/Tags", "red", "Red")], id="documented-name"),
        pytest.param('{"comment": 1, "COMMENT": 2}', OPEN, [], id="re-cased-names-are-the-callers"),
        pytest.param('{"tags": "red"}', OPEN, [], id="re-cased-name-has-not-the-values-of-the-documented"),
        pytest.param(
            '{"any": {"name": "ann"}}',
            OPEN,
            [("/any/name", "name", "Name"), ("/any/name", "ann", "Ann")],
            id="below-an-undocumented-name",
        ),
        pytest.param('{"comment": {"name": 1}}', OPEN, [("/comment/name", "name", "Name")], id="below-a-re-cased-name"),
        pytest.param('{"Labels": {"id": "blue"}}', LABELS, [("/Labels/id", "blue", "Blue")], id="values-of-a-map"),
        pytest.param('{"labels": {"a": "Blue"}}', LABELS, [("/labels", "labels", "Labels")], id="name-of-a-map"),
        pytest.param('{"a": {"b": {"name": 1}}}', MAPS, [("/a/b/name", "name", "Name")], id="map-of-maps"),
        pytest.param('[{"a": {"b": {"name": 1}}}]', MAPS, [("/0/a/b/name", "name", "Name")], id="array-of-maps"),
        pytest.param('{"a": 1, "b": null, "c": "x", "d": []}', MAPS, [], id="map-of-something-else"),
    ],
)
def test_names_of_an_open_object_are_the_callers_own(
    text: str, shape: Shape, expected: list[tuple[str, str, str]]
) -> None:
    assert told(text, shape) == expected


def test_a_name_of_an_open_object_that_resembles_a_documented_one_is_told() -> None:
    findings = examine(parse(b'{"comment": 1, "Comments": 2, "Anything": 3, "Tags": "Red"}'), OPEN)
    assert findings.mismatches == ()
    assert [(unknown.pointer, unknown.got, unknown.near) for unknown in findings.unknown] == [
        ("/comment", "comment", "Comment")
    ]
    assert findings.unknown_count == 1


def test_a_map_with_any_names_is_clean() -> None:
    assert (
        examine(parse(json.dumps({"Labels": {f"k{n}": "Red" for n in range(1000)}}).encode()), LABELS) is NOTHING_FOUND
    )


@pytest.mark.parametrize(
    ("text", "shape", "parameter"),
    [
        pytest.param('{"Labels": {"colour": "red"}}', LABELS, "Labels", id="map"),
        pytest.param('{"labels": {"colour": "red"}, "Id": 1}', LABELS, "Labels", id="misspelt-map"),
        pytest.param('{"own": {"Name": "ann"}}', OPEN, "Name", id="documented-name-in-a-map"),
    ],
)
def test_a_misspelt_value_below_a_callers_own_name_names_a_documented_parameter(
    text: str, shape: Shape, parameter: str
) -> None:
    found = mismatches(text, shape)[-1]
    assert (found.parameter, found.kind) == (parameter, Kind.VALUE)
