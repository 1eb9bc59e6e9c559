"""The case check: which names and values of a body the catalog knows under another spelling."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field, replace
from heapq import nsmallest
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, TypeAlias

from proxy.core.jsontext import pointer_token, respelt
from proxy.core.model import (
    NOTHING_FOUND,
    CaseMismatch,
    Findings,
    JsonValue,
    Kind,
    Pointer,
    UnknownName,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# ASCII alone: "\u212a" (the Kelvin sign) is not "k" to the upstream, whatever `str.lower` says.
_FOLDED = {ord(upper): ord(upper) + 32 for upper in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"} | dict.fromkeys(map(ord, "_- "))

# "Did you mean" is a courtesy with a quadratic cost: few names, and short ones.
_NEAR_NAMES_AT_MOST = 10
_NEAR_LENGTH_AT_MOST = 64
_NEAR_SIMILARITY = 0.8


# Nobody misspells a parameter with more characters than this, and what is built from a name grows with it.
_NAME_LENGTH_AT_MOST = 256


def fold(name: str) -> str:
    """Return `name` without the differences that the check overlooks: ASCII case, `_`, `-` and spaces.

    A name of more than 256 characters is returned as it is: it is no spelling of anything.
    """
    if len(name) > _NAME_LENGTH_AT_MOST:
        return name
    if name.isascii():
        # The same in a third of the time.
        return name.lower().replace("_", "").replace("-", "").replace(" ", "")
    return name.translate(_FOLDED)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One documented parameter; `name` is the spelling that a fix proposes, `accepted` are the others that pass.

    `sources` say where the spelling comes from, the strongest first, and `accepted` does so of each other one; empty
    where nobody wrote it down. `example` is a value that the documents give, None if none. A read-only parameter is
    for the service to fill in.
    """

    name: str
    required: bool
    shape: Shape
    sources: tuple[str, ...] = ()
    accepted: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    example: JsonValue = None
    is_read_only: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """What the catalog knows of one place in a body: its names and its enumerated values.

    An array has the shape of its elements; `array_levels` says how deep arrays nest here. `parameters` holds every
    accepted spelling, `by_fold` every folded one that can mean only one parameter; `values` and `value_by_fold` are
    the same for enumerated values, `choices` has those in the order of the document. `types` are the JSON types
    that may stand here and `element_types` those of the elements of an array, empty if that is unknown; `text_format`
    is what kind of string is meant, as JSON Schema has it (`date-time`).

    An open object takes names of the caller's own, so that none in it is misspelt; `others` is the shape of what
    stands under those, if that has one. `example` is a whole body as the documents give it, None if they do not.
    """

    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    by_fold: Mapping[str, Parameter] = field(default_factory=dict)
    values: frozenset[str] = frozenset()
    value_by_fold: Mapping[str, str] = field(default_factory=dict)
    array_levels: int = 0
    types: frozenset[str] = frozenset()
    is_open: bool = False
    others: Sequence[Shape] = ()
    element_types: frozenset[str] = frozenset()
    text_format: str = ""
    choices: tuple[str, ...] = ()
    example: JsonValue = None

    def __bool__(self) -> bool:
        """Whether there is anything to compare with."""
        return bool(self.parameters or self.values or self.others)


def examine(document: JsonValue, shape: Shape) -> Findings:
    """Return what `document`, as `jsontext.parse` reads it, spells otherwise than `shape`.

    Places that the catalog does not know are not looked into, and arrays within arrays only where it has such. An
    array stands for its elements, also where the catalog has one element alone, and the reverse. A folded name that
    could mean two parameters is left to the upstream to judge, as is any name that resembles none. Never raises,
    however deep the document.

    Source: Defender for Endpoint, "Handling REST API errors", on the case of body parameters.
    """
    if _is_plain(document, shape) or _is_spelt_right(document, shape):
        return NOTHING_FOUND
    mismatches: list[CaseMismatch] = []
    strange: list[_Strange] = []
    duplicates: list[tuple[tuple[int, ...], Pointer]] = []
    pending: list[_Place] = [(document, shape, (), "", "")]
    while pending:
        value, shape, path, pointer, parameter_name = pending.pop()
        match value:
            case tuple():
                names = _examine_names(value, shape, path, pointer)
                mismatches += names.mismatches
                duplicates += names.repeats
                strange += (((*path, index), pointer, name, shape) for index, name in names.strange)
                for index, (name, member) in enumerate(value):
                    below = shape.parameters.get(name) or _below(name, shape, parameter_name)
                    if below is not None and not _is_plain(member, below.shape):
                        place = (*path, index), pointer + pointer_token(name), below.name
                        pending.append((member, below.shape, *place))
            case list():
                elements = shape if shape.array_levels <= 1 else replace(shape, array_levels=shape.array_levels - 1)
                pending += (
                    (element, elements, (*path, index), pointer + pointer_token(index), parameter_name)
                    for index, element in enumerate(value)
                    if not (
                        _is_plain(element, shape)
                        or _is_spelt_right(element, shape)
                        or (shape.array_levels <= 1 and isinstance(element, list))
                    )
                )
            case str():
                expected = shape.value_by_fold[fold(value)]
                mismatches.append(
                    CaseMismatch(
                        Pointer(pointer), value, expected, parameter_name, Kind.VALUE,
                        required=False, conflict=False, path=path,
                    )
                )  # fmt: skip
    if not (mismatches or strange or duplicates):
        return NOTHING_FOUND
    # The order of positions is the order of the document, and a name stands before its value.
    mismatches.sort(key=attrgetter("path", "kind"))
    duplicates.sort()
    unknown = tuple(
        UnknownName(Pointer(pointer + pointer_token(name)), name, _near(name, shape))
        for _, pointer, name, shape in nsmallest(_NEAR_NAMES_AT_MOST, strange, key=itemgetter(0))
    )
    return Findings(tuple(mismatches), unknown, len(strange), tuple(pointer for _, pointer in duplicates))


def respell(text: bytes, mismatches: tuple[CaseMismatch, ...]) -> bytes:
    """Return `text` with the misspelt names put right and every other byte as it was."""
    return respelt(text, {m.path: m.expected for m in mismatches if m.kind is Kind.NAME})


_Place: TypeAlias = tuple[JsonValue, Shape, tuple[int, ...], str, str]
"""A value to look into, its shape, its position, the pointer to it, and the parameter it belongs to."""

_Strange: TypeAlias = tuple[tuple[int, ...], str, str, Shape]
"""A name that resembles none: its position, the pointer to its object, itself, and the shape of its object."""


@dataclass(frozen=True, slots=True)
class _Names:
    """What the names of one object show: the misspelt, those that resemble no known one, and the repeated."""

    mismatches: tuple[CaseMismatch, ...] = ()
    strange: tuple[tuple[int, str], ...] = ()
    repeats: tuple[tuple[tuple[int, ...], Pointer], ...] = ()


_NO_FINDINGS = _Names()


def _is_plain(value: JsonValue, shape: Shape) -> bool:
    """Whether `value` needs no look: a scalar, a string that is spelt right or like nothing known, an unknown place."""
    kind = type(value)
    if kind is str:
        return not shape.value_by_fold or value in shape.values or fold(value) not in shape.value_by_fold
    if kind is tuple:
        return not (shape.parameters or shape.others)
    # An array's elements are looked into where there is anything to compare them with.
    return kind is not list or not shape


def _is_spelt_right(value: JsonValue, shape: Shape) -> bool:
    """Whether `value` is an object of documented names, each there once, with nothing to look into: nearly all are."""
    if type(value) is not tuple:
        return False
    parameters = shape.parameters
    for name, member in value:
        parameter = parameters.get(name)
        if parameter is None or not _is_plain(member, parameter.shape):
            return False
    return len(value) < 2 or len(dict(value)) == len(value)  # noqa: PLR2004 - one alone is not repeated


def _below(name: str, shape: Shape, parameter_name: str) -> Parameter | None:
    """Return the parameter that `name`, which is not documented as it is spelt, stands for.

    What stands in an open object under a name of the caller's own belongs to the parameter that the object does.
    """
    if not shape.is_open:
        return shape.by_fold.get(fold(name))
    return Parameter(parameter_name, required=False, shape=shape.others[0]) if shape.others else None


def _examine_names(
    pairs: tuple[tuple[str, JsonValue], ...], shape: Shape, path: tuple[int, ...], pointer: str
) -> _Names:
    """Return what the names of one object show, those of the objects inside it left aside."""
    parameters = shape.parameters
    names = dict(pairs)
    if len(names) == len(pairs) and names.keys() <= parameters.keys():
        return _NO_FINDINGS
    spellings: dict[str, set[str]] = {}
    wrong: list[tuple[int, str, Parameter]] = []
    strange: list[tuple[int, str]] = []
    for index, (name, _) in enumerate(pairs):
        parameter = parameters.get(name)
        if parameter is None:
            parameter = shape.by_fold.get(fold(name))
            # Of an open object's undocumented names, only one that may have been meant for a documented one is strange.
            if (parameter is None) is not shape.is_open:
                strange.append((index, name))
            if parameter is None or shape.is_open:
                continue
            wrong.append((index, name, parameter))
        spellings.setdefault(parameter.name, set()).add(name)
    mismatches = tuple(
        CaseMismatch(
            Pointer(pointer + pointer_token(name)), name, parameter.name, parameter.name, Kind.NAME,
            required=parameter.required and not spellings[parameter.name] & parameters.keys(),
            conflict=len(spellings[parameter.name]) > 1, path=(*path, index),
        )
        for index, name, parameter in wrong
    )  # fmt: skip
    return _Names(mismatches, tuple(strange), _repeats(pairs, names, path, pointer))


def _repeats(
    pairs: tuple[tuple[str, JsonValue], ...], names: Mapping[str, JsonValue], path: tuple[int, ...], pointer: str
) -> tuple[tuple[tuple[int, ...], Pointer], ...]:
    """Return the names that stand in `pairs` more than once, each with the position of its first repeat."""
    if len(names) == len(pairs):
        return ()
    seen: set[str] = set()
    repeats: dict[str, int] = {}
    for index, (name, _) in enumerate(pairs):
        if name in seen:
            repeats.setdefault(name, index)
        seen.add(name)
    return tuple(((*path, index), Pointer(pointer + pointer_token(name))) for name, index in repeats.items())


def _near(name: str, shape: Shape) -> str | None:
    """Return the documented name that `name` most resembles, if one comes close."""
    if len(name) > _NEAR_LENGTH_AT_MOST:
        return None
    near = difflib.get_close_matches(fold(name), shape.by_fold, n=1, cutoff=_NEAR_SIMILARITY)
    return shape.by_fold[near[0]].name if near else None
