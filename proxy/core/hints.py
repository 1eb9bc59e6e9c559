"""What helps beyond the verdict: how a body should be spelt, and what in it may be why the upstream refused it."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from proxy.core.casing import Shape, examine, fold
from proxy.core.jsontext import pointer_token
from proxy.core.model import CaseMismatch, JsonValue, Kind, Pointer, Suspect, Suspicion
from proxy.core.text import shortened

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.core.casing import Parameter

OMITTED: Final = Pointer("…")
"""Stands last in a list of names that goes on."""

_NAMES_AT_MOST: Final = 100
_SUSPECTS_AT_MOST: Final = 20
_VALUES_AT_MOST: Final = 30
# Some ten milliseconds. What is found by then is enough to begin with.
_PLACES_AT_MOST: Final = 10_000
# No documented body comes near these; what is built from names grows with both.
_DEPTH_AT_MOST: Final = 32
_NAME_LENGTH_AT_MOST: Final = 256
_SHOWN_LENGTH_AT_MOST: Final = 64

_NOT_KNOWN: Final = Shape()


class _Place(NamedTuple):
    """A value in a body and what the catalog has there; `parameter` is what its name stands for, if it has one."""

    pointer: str
    value: JsonValue
    shape: Shape
    types: frozenset[str]
    parameter: Parameter | None = None
    depth: int = 0


def corrected_names(document: JsonValue, shape: Shape) -> tuple[Pointer, ...]:
    """Return pointers to the documented names in `document`, spelt as they should be, in its order.

    A name that stands under two spellings is there once, one that the catalog does not know is left out. Where there
    are more than 100, or they cannot all be looked for, the last element is `…`.
    """
    names: dict[Pointer, None] = {}
    for count, place in enumerate(_places(document, shape, as_received=False)):
        if len(names) > _NAMES_AT_MOST or count == _PLACES_AT_MOST:
            return (*islice(names, _NAMES_AT_MOST), OMITTED)
        if place.parameter is not None:
            names[Pointer(place.pointer)] = None
    return tuple(names) if len(names) <= _NAMES_AT_MOST else (*islice(names, _NAMES_AT_MOST), OMITTED)


def suspects(document: JsonValue, shape: Shape) -> tuple[Suspect, ...]:
    """Return the places in `document` where the catalog has something else, 20 at the most; case mismatches left aside.

    First come unknown names; then, in the order of the document, required parameters that are missing, values of
    another JSON type than documented, and values outside of an enumeration. An optional `null` is not suspicious.
    """
    found = [
        Suspect(Suspicion.UNKNOWN_NAME, unknown.pointer, (unknown.near,) if unknown.near else ())
        for unknown in examine(document, shape).unknown
    ]
    for place in islice(_places(document, shape, as_received=True), _PLACES_AT_MOST):
        found += _suspects_at(place)
        if len(found) >= _SUSPECTS_AT_MOST:
            break
    return tuple(found[:_SUSPECTS_AT_MOST])


def fix_of(mismatch: CaseMismatch) -> str:
    """Return what is to be done about `mismatch`, long spellings shortened."""
    got, expected = shortened(mismatch.got, _SHOWN_LENGTH_AT_MOST), mismatch.expected
    if mismatch.kind is Kind.VALUE:
        return f"write '{expected}' for '{got}'"
    if mismatch.conflict:
        return f"keep one spelling alone: '{expected}', not '{got}'"
    return f"rename '{got}' to '{expected}'"


def _places(document: JsonValue, shape: Shape, *, as_received: bool) -> Iterator[_Place]:
    """Yield the places in `document`, each before those inside it.

    A pointer has the names of the body where it is `as_received`, else as they should be spelt.
    """
    pending = [iter((_Place("", document, shape, shape.types),))]
    while pending:
        place = next(pending[-1], None)
        if place is None:
            pending.pop()
            continue
        yield place
        if place.depth < _DEPTH_AT_MOST:
            pending.append(_inside(place, as_received=as_received))


def _inside(place: _Place, *, as_received: bool) -> Iterator[_Place]:
    """Yield what stands right inside `place`; what the catalog does not know, with a shape that knows nothing."""
    shape, depth = place.shape, place.depth + 1
    match place.value:
        case tuple() if shape.parameters or shape.others:
            for name, member in place.value:
                parameter = _meant(name, shape)
                if parameter is not None:
                    is_right = as_received or name in shape.parameters
                    pointer = place.pointer + pointer_token(name if is_right else parameter.name)
                    yield _Place(pointer, member, parameter.shape, parameter.shape.types, parameter, depth)
                elif shape.others and len(name) <= _NAME_LENGTH_AT_MOST:
                    other = shape.others[0]
                    yield _Place(place.pointer + pointer_token(name), member, other, other.types, None, depth)
                else:
                    yield _Place(place.pointer, None, _NOT_KNOWN, frozenset(), None, depth)
        case list():
            # As in `casing.examine`: an array stands for its elements, and a further level only where it is documented.
            is_deep = shape.array_levels > 1
            elements = replace(shape, array_levels=shape.array_levels - 1) if is_deep else shape
            types = frozenset({"array"}) if is_deep else shape.element_types
            for index, element in enumerate(place.value):
                below = _NOT_KNOWN if isinstance(element, list) and not is_deep else elements
                yield _Place(place.pointer + pointer_token(index), element, below, types, None, depth)


def _meant(name: str, shape: Shape) -> Parameter | None:
    """Return the parameter that `name` stands for, in whatever spelling; in an open object, its own alone."""
    return shape.parameters.get(name) or (None if shape.is_open else shape.by_fold.get(fold(name)))


def _suspects_at(place: _Place) -> Iterator[Suspect]:
    value, shape, pointer = place.value, place.shape, Pointer(place.pointer)
    if value is None and (place.parameter is not None and not place.parameter.required):
        return
    if not _fits(value, place.types):
        yield Suspect(Suspicion.WRONG_TYPE, pointer, tuple(sorted(place.types)), _type_of(value))
        return
    match value:
        case tuple() if shape.parameters:
            # A parameter is one object, under however many spellings it is accepted.
            there = {id(_meant(name, shape)) for name, _ in value}
            for parameter in shape.parameters.values():
                if parameter.required and id(parameter) not in there:
                    there.add(id(parameter))
                    missing = Pointer(pointer + pointer_token(parameter.name))
                    yield Suspect(Suspicion.MISSING, missing, tuple(sorted(parameter.shape.types)))
        case str() if shape.values and value not in shape.values and fold(value) not in shape.value_by_fold:
            yield Suspect(Suspicion.UNDOCUMENTED_VALUE, pointer, shape.choices[:_VALUES_AT_MOST])


def _fits(value: JsonValue, types: frozenset[str]) -> bool:
    """Whether `value` is of one of the JSON `types`; empty ones mean that anything may stand there."""
    kind = _type_of(value)
    if not types or kind in types:
        return True
    # An integer is read as a float: see `jsontext`.
    return kind == "number" and "integer" in types and value.is_integer()


def _type_of(value: JsonValue) -> str:
    match value:
        case tuple():
            return "object"
        case list():
            return "array"
        case str():
            return "string"
        case bool():
            return "boolean"
        case None:
            return "null"
    return "number"
