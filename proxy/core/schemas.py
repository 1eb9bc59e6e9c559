"""Schemas: what the names, values and types of JSON bodies are, put together from all that a schema refers to."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from graphlib import CycleError, TopologicalSorter
from operator import attrgetter
from typing import TYPE_CHECKING, Final, TypeAlias, TypeGuard

from proxy.core.casing import Parameter, Shape, fold
from proxy.core.references import ROOT, Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from proxy.core.catalog import CatalogProblem
    from proxy.core.model import JsonValue
    from proxy.core.references import References

NAMES_AT_MOST: Final = 5_000_000
"""How many names the schemas of one document may come to, each counted wherever it is put together with others.

The largest public document that was tried, with 22,361 operations, needs less than half of that.
"""

_SHAPE_COUNTS: Final = 10
"""How many names a shape counts for beside its own."""

_ENDLESS: Final = 1_000
"""How deep arrays nest that hold themselves: deeper than any body."""

# What a schema says beside a `$ref` (OpenAPI 3.1) matters if it is one of these.
_KEYWORDS: Final = frozenset(
    {
        "additionalProperties", "allOf", "anyOf", "const", "dependentSchemas", "discriminator", "else", "enum", "items",
        "nullable", "oneOf", "patternProperties", "prefixItems", "properties", "required", "then", "type",
        "unevaluatedProperties",
    }
)  # fmt: skip

# Without any of these, a schema is a scalar's, as most are.
_REFERRING: Final = (_KEYWORDS | {"$ref"}) - {"const", "enum", "nullable", "type"}

_TYPES: Final = frozenset({"array", "boolean", "integer", "null", "number", "object", "string"})
_ARRAY: Final = frozenset({"array", "null"})
_OPENING: Final = ("additionalProperties", "unevaluatedProperties")

State: TypeAlias = tuple[bool, tuple[int, ...]]
"""Schemas that describe one place, by number: whether any of them may hold there, or all do."""


_Extensions: TypeAlias = "dict[int, list[tuple[Mapping[str, JsonValue], Place]]]"
"""By the identity of a schema: those whose `allOf` refers to it, each with its place."""


class TooManyNamesError(Exception):
    """The schemas of the document combine in too many ways."""


@dataclass(frozen=True, slots=True)
class _Spelling:
    """Where a name is spelt like that, the further spellings that are accepted, each with its own sources, and values.

    See `Parameter` for the values.
    """

    sources: tuple[str, ...] = ()
    accepted: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    example: JsonValue = None
    is_read_only: bool = False

    def __or__(self, other: _Spelling) -> _Spelling:
        accepted = {
            name: _merged(self.accepted.get(name, ()), other.accepted.get(name, ()))
            for name in (*self.accepted, *other.accepted)
        }
        return _Spelling(
            _merged(self.sources, other.sources),
            accepted,
            other.example if self.example is None else self.example,
            self.is_read_only or other.is_read_only,
        )


def _merged(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one + other))


@dataclass(frozen=True, slots=True)
class _View:
    """What is said about one place, by one schema or by several put together.

    `names` leads to the schemas of each name's value, `others` to those of undocumented names' values and `elements`
    to those of an array's elements. `spellings` says of each name what else is known of it.
    `strings` are the enumerated ones, None if any string may stand here; `types` is None if anything may. `text_format`
    is what a string is otherwise, such as `date-time`, empty if nothing is said of that.
    """

    names: Mapping[str, State] = field(default_factory=dict)
    spellings: Mapping[str, _Spelling] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    strings: tuple[str, ...] | None = None
    types: frozenset[str] | None = None
    is_open: bool = False
    is_closed: bool = False
    others: State | None = None
    elements: State | None = None
    text_format: str = ""

    @property
    def may_be_object(self) -> bool:
        return self.types is None or "object" in self.types

    @property
    def is_array_alone(self) -> bool:
        """Whether only an array may stand here."""
        alone = self.types is not None and self.types <= _ARRAY
        return alone and not (self.names or self.others or self.strings)

    @property
    def is_free_form(self) -> bool:
        """Whether this is an object of which nothing is said."""
        return self.types is not None and "object" in self.types and not (self.names or self.required or self.is_closed)


_NOTHING: Final = _View()
_PLAIN_SPELLING: Final = _Spelling()


@dataclass(slots=True, eq=False)
class _Schema:
    """A schema of the document, and what it refers to in order to describe one place.

    All of `parts` hold beside `own`; of each group in `choices` at least one does. `core` is the view without the
    choices that lead back here: what such a choice takes from this schema, since it stands for itself already.
    """

    number: int
    value: Mapping[str, JsonValue]
    place: Place
    own: _View = _NOTHING
    parts: tuple[_Schema, ...] = ()
    choices: tuple[tuple[_Schema, ...], ...] = ()
    is_read: bool = False
    core: _View = _NOTHING
    view: _View | None = None


class Schemas:
    """The schemas of one document, as the shapes of what they describe.

    A schema may refer to itself in every way that JSON Schema has. So nothing here recurses; each schema is read
    once, and what is put together is bounded.
    """

    def __init__(self, references: References, *, siblings: bool) -> None:
        """Begin with nothing read.

        `siblings`: whether a `$ref` may have other keywords beside it (OpenAPI 3.1), or they are ignored (3.0).
        """
        self._references = references
        self._siblings = siblings
        self._schemas: list[_Schema] = []
        self._by_id: dict[int, _Schema] = {}
        self._nothing = self._entered({}, ROOT)
        self._views: dict[State, _View] = {}
        self._shapes: dict[State, Shape] = {}
        self._plain: dict[tuple[frozenset[str], bool, str], Shape] = {}
        self._extensions: dict[str, _Extensions] = {}
        self._left = NAMES_AT_MOST
        self.names: set[str] = set()
        """Every name of the shapes made so far, folded."""
        self.notes: list[CatalogProblem] = []

    def shape(self, schemas: Iterable[tuple[JsonValue, Place]]) -> Shape:
        """Return the shape of a place that any of `schemas`, each with its own place, may describe.

        Raises:
            TooManyNamesError: they combine without end.
        """
        pending: list[tuple[State, _View, _Lists]] = []
        numbers = {self._schema(value, place).number for value, place in schemas}
        shape = self._started((len(numbers) > 1, tuple(sorted(numbers))), pending)
        while pending:
            self._fill(*pending.pop(), pending)
        return shape

    def example(self, value: JsonValue, place: Place) -> JsonValue:
        """Return the example that a schema gives, the one beside a `$ref` before what that leads to."""
        beside = value.get("example") if isinstance(value, dict) else None
        return self._schema(value, place).value.get("example") if beside is None else beside

    # Reading: one schema, as it stands.

    def _schema(self, value: JsonValue, place: Place) -> _Schema:
        """Return the schema that `value` is or refers to; where it is none, one that says nothing.

        True and False are schemas too (OpenAPI 3.1) and name nothing.
        """
        passed: dict[int, None] = {}
        while (
            isinstance(value, dict)
            and id(value) not in self._by_id
            and isinstance(reference := value.get("$ref"), str)
            and not (self._siblings and value.keys() & _KEYWORDS)
        ):
            if id(value) in passed:
                self._references.report(place, f"$ref {reference!r} leads back to itself; let it lead to a definition")
                value = None
                break
            passed[id(value)] = None
            value, place = self._references.target(reference, place)
        if isinstance(value, bool):
            value = None
        content = self._references.checked(value, dict, place)
        schema = self._nothing if content is None else self._by_id.get(id(content)) or self._entered(content, place)
        self._by_id.update(dict.fromkeys(passed, schema))
        return schema

    def _entered(self, value: Mapping[str, JsonValue], place: Place) -> _Schema:
        schema = _Schema(len(self._schemas), value, place)
        self._schemas.append(schema)
        self._by_id[id(value)] = schema
        return schema

    def _read(self, schema: _Schema) -> None:
        """Fill in what `schema` says itself and what it refers to."""
        schema.is_read = True
        value, place = schema.value, schema.place
        strings, types = self._read_values(schema)
        given = value.get("format")
        text_format = given if isinstance(given, str) else ""
        if value.keys().isdisjoint(_REFERRING):
            schema.own = _View(strings=strings, types=types, text_format=text_format)
            return
        names, spellings = self._read_properties(value.get("properties"), place)
        others = [*self._below(schema, *_OPENING), *self._mapped(schema, "patternProperties")]
        # Once, `items` was a list where `prefixItems` is one now.
        read_items = self._listed if isinstance(value.get("items"), list) else self._below
        items = [*read_items(schema, "items"), *self._listed(schema, "prefixItems")]
        schema.own = _View(
            names,
            spellings,
            self._read_required(schema),
            strings,
            types,
            bool(others) or any(value.get(key) is True for key in _OPENING),
            value.get("additionalProperties") is False,
            _state(others) if others else None,
            _state(items) if items else None,
            text_format,
        )
        reference = self._references.checked(value.get("$ref"), str, place.below("$ref"))
        referred = [] if reference is None else self._by_reference(reference, place)
        schema.parts = (*referred, *self._listed(schema, "allOf"))
        alternatives = [self._listed(schema, "oneOf"), self._listed(schema, "anyOf")]
        if not any(alternatives):
            alternatives.append(self._by_discriminator(schema))
        conditional = (*self._below(schema, "then", "else"), *self._mapped(schema, "dependentSchemas"))
        alternatives += [[one, self._nothing] for one in conditional]
        schema.choices = tuple(map(tuple, filter(None, alternatives)))
        self._spend(len(names) + len(others) + len(items) + len(schema.parts) + sum(map(len, schema.choices)))

    def _read_required(self, schema: _Schema) -> frozenset[str]:
        required, place = schema.value.get("required"), schema.place.below("required")
        if isinstance(required, bool):
            # The draft that OpenAPI 3.0 builds on had the lists, the one before it did not.
            self.notes.append(self._references.problem(place, "true and false mean nothing here; list the names"))
            return frozenset()
        names = self._references.checked(required, list, place) or []
        if not _is_texts(names):
            self._references.report(place, "must be a list of names")
        return frozenset(name for name in names if isinstance(name, str))

    def _read_properties(self, properties: JsonValue, place: Place) -> tuple[dict[str, State], dict[str, _Spelling]]:
        names: dict[str, State] = {}
        spellings: dict[str, _Spelling] = {}
        owners: dict[str, str] = {}
        for key, content in (self._references.checked(properties, dict, place.below("properties")) or {}).items():
            name, here = str(key), place.below("properties", key)
            schema = self._schema(content, here)
            names[name] = (False, (schema.number,))
            accepted = content.get("x-accepted-names", []) if isinstance(content, dict) else []
            if not _is_texts(accepted):
                self._references.report(here.below("x-accepted-names"), "must be a list of names")
                accepted = []
            for spelling in dict.fromkeys((name, *accepted)):
                if owners.setdefault(spelling, name) != name:
                    self._references.report(
                        here, f"the spelling {spelling!r} belongs to {owners[spelling]!r} too; take it from one of them"
                    )
            source = content.get("x-source") if isinstance(content, dict) else None
            further = content.get("x-accepted-sources") if isinstance(content, dict) else None
            by_spelling = further if isinstance(further, dict) else {}
            # What stands beside a `$ref` goes before what that leads to.
            given = content if isinstance(content, dict) else {}
            spelling_of = _Spelling(
                _texts(source),
                {one: _texts(by_spelling.get(one)) for one in accepted},
                self.example(content, here),
                given.get("readOnly", schema.value.get("readOnly")) is True,
            )
            if spelling_of != _PLAIN_SPELLING:
                spellings[name] = spelling_of
        return names, spellings

    def _read_values(self, schema: _Schema) -> tuple[tuple[str, ...] | None, frozenset[str] | None]:
        """Return the enumerated strings of `schema` (None for any) and its types (None for all)."""
        value = schema.value
        given = value.get("type")
        types = {name for name in (given if isinstance(given, list) else [given]) if isinstance(name, str)} & _TYPES
        listed: list[JsonValue] | None = None
        if "enum" in value:
            if isinstance(value["enum"], list):
                listed = value["enum"]
            else:
                self._references.report(schema.place.below("enum"), "must be a list of values")
        elif "const" in value:
            listed = [value["const"]]
        if not types:
            # Who writes `properties` means an object, though JSON Schema lets a text pass there.
            types |= {name for key, name in _IMPLIED.items() if key in value}
            types |= {_type_of(member) for member in listed or ()}
        if types and value.get("nullable") is True:
            types.add("null")
        if listed is not None:
            return tuple(dict.fromkeys(member for member in listed if isinstance(member, str))), frozenset(types)
        return (None if not types or "string" in types else ()), frozenset(types) or None

    def _by_reference(self, reference: str, place: Place) -> list[_Schema]:
        value, there = self._references.target(reference, place)
        return [] if value is None else [self._schema(value, there)]

    def _by_discriminator(self, schema: _Schema) -> list[_Schema]:
        """Return the schemas that may take the place of `schema` by its discriminator, itself included.

        Without a mapping those are all that extend it (OpenAPI 3.1, 4.8.25, "Discriminator Object").
        """
        discriminator = schema.value.get("discriminator")
        if not isinstance(discriminator, dict):
            return []
        mapping = discriminator.get("mapping")
        if isinstance(mapping, dict):
            place = schema.place.below("discriminator", "mapping")
            kinds = {
                self._schema(*found)
                for key, name in mapping.items()
                if isinstance(name, str)
                # A mapping is a hint: one that leads nowhere loses nothing but the hint.
                and not isinstance(found := self._references.found(_as_reference(name), place.below(key)), str)
            }
        else:
            kinds = set(self._extending(schema))
        kinds.discard(schema)
        return [*sorted(kinds, key=attrgetter("number")), self._nothing] if kinds else []

    def _extending(self, schema: _Schema) -> Iterator[_Schema]:
        """Yield the schemas of the same file whose `allOf` refers to `schema`, or to one that does."""
        file = schema.place.file
        if file not in self._extensions:
            self._extensions[file] = self._extensions_in(file)
        pending, seen = [schema.value], {id(schema.value)}
        while pending:
            for value, place in self._extensions[file].get(id(pending.pop()), ()):
                if id(value) not in seen:
                    seen.add(id(value))
                    pending.append(value)
                    yield self._schema(value, place)

    def _extensions_in(self, file: str) -> _Extensions:
        extensions: _Extensions = {}
        found = self._references.found("#/components/schemas", Place(file, ""))
        for name, value in found[0].items() if isinstance(found[0], dict) else ():
            place = Place(file, "").below("components", "schemas", name)
            parts = value.get("allOf") if isinstance(value, dict) else None
            for part in parts if isinstance(parts, list) else ():
                reference = part.get("$ref") if isinstance(part, dict) else None
                # Who needs a schema whose reference leads nowhere is told elsewhere.
                extended = self._references.found(reference, place) if isinstance(reference, str) else ""
                if not isinstance(extended, str):
                    extensions.setdefault(id(extended[0]), []).append((value, place))
        return extensions

    def _below(self, schema: _Schema, *keys: str) -> list[_Schema]:
        """Return the schemas that stand under `keys`; true and false add nothing."""
        return [
            self._schema(schema.value[key], schema.place.below(key))
            for key in keys
            if not isinstance(schema.value.get(key), bool | None)
        ]

    def _listed(self, schema: _Schema, key: str) -> list[_Schema]:
        """Return the schemas of the list under `key`."""
        listed = self._references.checked(schema.value.get(key), list, schema.place.below(key)) or []
        return [self._schema(value, schema.place.below(key, index)) for index, value in enumerate(listed)]

    def _mapped(self, schema: _Schema, key: str) -> list[_Schema]:
        """Return the schemas of the mapping under `key`."""
        mapped = self._references.checked(schema.value.get(key), dict, schema.place.below(key)) or {}
        return [self._schema(value, schema.place.below(key, name)) for name, value in mapped.items()]

    # Putting together: what several schemas say about one place.

    def _view(self, state: State) -> _View:
        """Return what the schemas of `state` say."""
        view = self._views.get(state)
        if view is None:
            is_any, numbers = state
            views = [self._settled(self._schemas[number]) for number in numbers]
            view = self._views[state] = self._any(views) if is_any else self._all(views)
        return view

    def _settled(self, root: _Schema) -> _View:
        """Return what `root` says with all that it refers to.

        Schemas that refer to each other in a circle are found by Tarjan's algorithm (1972), the innermost first, so
        that whatever else a schema refers to is settled before.
        """
        if root.view is not None:
            return root.view
        order = {root: 0}
        low = {root: 0}
        open_ones = [root]
        path = [(root, self._referred(root))]
        while path:
            schema, referred = path[-1]
            for other in referred:
                if other.view is None and other not in order:
                    order[other] = low[other] = len(order)
                    open_ones.append(other)
                    path.append((other, self._referred(other)))
                    break
                if other.view is None:
                    low[schema] = min(low[schema], order[other])
            else:
                path.pop()
                if path:
                    low[path[-1][0]] = min(low[path[-1][0]], low[schema])
                if low[schema] == order[schema]:
                    first = open_ones.index(schema)
                    self._conclude(open_ones[first:])
                    del open_ones[first:]
        return _said(root)

    def _referred(self, schema: _Schema) -> Iterator[_Schema]:
        if not schema.is_read:
            self._read(schema)
        yield from schema.parts
        for choice in schema.choices:
            yield from choice

    def _conclude(self, circle: list[_Schema]) -> None:
        """Settle the schemas of `circle`, each of which leads to every other (or a single one).

        The usual circle is the hierarchy: `Pet` is one of `Dog` and `Cat`, and all of `Pet` holds for `Dog`. What `Dog`
        takes from `Pet` is what `Pet` says without that choice. A circle of nothing but parts, or but choices, says
        nothing at all.
        """
        if len(circle) == 1 and not (circle[0].parts or circle[0].choices):
            circle[0].core = circle[0].view = circle[0].own
            return
        inside = set(circle)
        try:
            by_parts = _ordered(circle, lambda schema: schema.parts)
            by_choices = _ordered(circle, lambda schema: (other for choice in schema.choices for other in choice))
        except CycleError as error:
            self._references.report(
                error.args[1][0].place,
                "the schema is made of itself, by allOf, oneOf, anyOf or $ref alone; break the circle",
            )
            for schema in circle:
                schema.core = schema.view = schema.own
            return
        for schema in by_parts:
            straight = [choice for choice in schema.choices if inside.isdisjoint(choice)]
            schema.core = self._all(
                [
                    schema.own,
                    *(part.core if part in inside else _said(part) for part in schema.parts),
                    *(self._any([_said(other) for other in choice]) for choice in straight),
                ]
            )
        for schema in by_choices:
            leading_back = [choice for choice in schema.choices if not inside.isdisjoint(choice)]
            schema.view = self._all(
                [schema.core, *(self._any([_said(other) for other in choice]) for choice in leading_back)]
            )

    def _all(self, views: Sequence[_View]) -> _View:
        """Return what `views` say if all of them hold."""
        views = [view for view in views if view is not _NOTHING] or [_NOTHING]
        if len(views) == 1:
            return views[0]
        return _View(
            self._joined_names([view.names for view in views], is_any=False),
            _joined_spellings(views),
            frozenset().union(*(view.required for view in views)),
            _common([view.strings for view in views]),
            _common_types([view.types for view in views]),
            any(view.is_open for view in views),
            any(view.is_closed for view in views),
            self._joined([view.others for view in views], is_any=True),
            self._joined([view.elements for view in views], is_any=False),
            next((view.text_format for view in views if view.text_format), ""),
        )

    def _any(self, views: Sequence[_View]) -> _View:
        """Return what `views` say if any of them holds.

        Required is what all of those require that describe an object.
        """
        if len(views) == 1:
            return views[0]
        requirements = [view.required for view in views if view.may_be_object]
        names = self._joined_names([view.names for view in views], is_any=True)
        return _View(
            names,
            _joined_spellings(views),
            frozenset.intersection(*requirements) if requirements else frozenset(),
            _union([view.strings for view in views]),
            _union_of_types([view.types for view in views]),
            any(view.is_open or (bool(names) and view.is_free_form) for view in views),
            all(view.is_closed for view in views),
            self._joined([view.others for view in views], is_any=True),
            self._joined([view.elements for view in views], is_any=True),
            views[0].text_format if len({view.text_format for view in views}) == 1 else "",
        )

    def _joined_names(self, several: Iterable[Mapping[str, State]], *, is_any: bool) -> Mapping[str, State]:
        several = list({id(names): names for names in several if names}.values())
        if len(several) <= 1:
            return several[0] if several else {}
        self._spend(sum(map(len, several)))
        joined = dict(several[0])
        for names in several[1:]:
            for name, state in names.items():
                other = joined.get(name)
                joined[name] = (
                    state if other is None or other == state else self._one_state(other, state, is_any=is_any)
                )
        return joined

    def _joined(self, states: Iterable[State | None], *, is_any: bool) -> State | None:
        joined: State | None = None
        for state in states:
            if state is not None and state != joined:
                joined = state if joined is None else self._one_state(joined, state, is_any=is_any)
        return joined

    def _one_state(self, one: State, other: State, *, is_any: bool) -> State:
        numbers = tuple(sorted({*one[1], *other[1]}))
        self._spend(len(numbers))
        return is_any or one[0] or other[0], numbers

    def _spend(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise TooManyNamesError

    # Building: the shapes, one for each place and nothing twice.

    def _started(self, state: State, pending: list[tuple[State, _View, _Lists]]) -> Shape:
        """Return the shape of `state`; a new one is entered into `pending`, its names still to be filled in."""
        shape = self._shapes.get(state)
        if shape is not None:
            return shape
        types = self._view(state).types or frozenset()
        innermost, levels = self._innermost(state)
        if levels:
            elements = self._started(innermost, pending)
            shape = replace(
                elements,
                array_levels=elements.array_levels + levels,
                types=types,
                element_types=elements.element_types if elements.array_levels else elements.types,
            )
        else:
            view, levels = self._looked_through(state)
            if view.names or view.strings or view.others:
                lists = _Lists()
                values = view.strings or ()
                shape = Shape(
                    lists.parameters, lists.by_fold, frozenset(values), _by_fold(values), levels, types,
                    view.is_open, lists.others, text_format=view.text_format, choices=values,
                )  # fmt: skip
                pending.append((state, view, lists))
            else:
                plain = Shape(
                    _NO_NAMES, _NO_NAMES, frozenset(), _NO_VALUES, 0, types, view.is_open, text_format=view.text_format
                )
                shape = self._plain.setdefault((types, view.is_open, view.text_format), plain)
        self._shapes[state] = shape
        return shape

    def _innermost(self, state: State) -> tuple[State, int]:
        """Return what stands in an array that is nothing else, and how many of such stand in each other here.

        An array of nothing but itself has no elements.
        """
        seen = {state}
        view = self._view(state)
        while view.elements is not None and view.is_array_alone:
            if view.elements in seen:
                return _NO_STATE, len(seen)
            state = view.elements
            seen.add(state)
            self._spend(1)
            view = self._view(state)
        return state, len(seen) - 1

    def _looked_through(self, state: State) -> tuple[_View, int]:
        """Return what stands at `state` or, where that is an array, in it; and how deep arrays nest."""
        views = [self._view(state)]
        seen = {state}
        while (elements := views[-1].elements) is not None:
            if elements in seen:
                return self._any(views), _ENDLESS
            seen.add(elements)
            self._spend(1)
            views.append(self._view(elements))
        return self._any(views), len(views) - 1

    def _fill(self, state: State, view: _View, lists: _Lists, pending: list[tuple[State, _View, _Lists]]) -> None:
        """Enter the names of `view`, and the shapes of their values, into `lists`."""
        self._spend(_SHAPE_COUNTS + len(view.names))
        spellings: dict[str, Parameter] = {}
        for name, values in view.names.items():
            of_name = view.spellings.get(name, _PLAIN_SPELLING)
            shape = self._started(values, pending)
            parameter = Parameter(
                name, name in view.required, shape, of_name.sources, of_name.accepted, of_name.example,
                of_name.is_read_only,
            )  # fmt: skip
            lists.parameters[name] = parameter
            spellings.update(dict.fromkeys(of_name.accepted, parameter))
        # The name of one parameter may be a further spelling of another, where two schemas disagree: it is the name.
        for spelling, parameter in spellings.items():
            lists.parameters.setdefault(spelling, parameter)
        shared: set[str] = set()
        for spelling, parameter in lists.parameters.items():
            folded = fold(spelling)
            if lists.by_fold.setdefault(folded, parameter) is not parameter:
                shared.add(folded)
        self.names |= lists.by_fold.keys()
        for folded in shared:
            del lists.by_fold[folded]
        if view.others is not None:
            below = self._started(view.others, pending)
            if below.parameters is not _NO_NAMES or below.values:
                lists.others.append(below)
        if view.is_open and view.names:
            place = self._schemas[state[1][0]].place
            self.notes.append(
                self._references.problem(
                    place,
                    "an open object (additionalProperties): names in it are never refused, as they may be anything",
                )
            )


@dataclass(frozen=True, slots=True)
class _Lists:
    """The parts of a shape that are filled in after it is made, as it may have itself inside."""

    parameters: dict[str, Parameter] = field(default_factory=dict)
    by_fold: dict[str, Parameter] = field(default_factory=dict)
    others: list[Shape] = field(default_factory=list)


_NO_STATE: Final[State] = (False, ())

_NO_NAMES: Final[Mapping[str, Parameter]] = {}
_NO_VALUES: Final[Mapping[str, str]] = {}

_IMPLIED: Final = {
    "properties": "object",
    "additionalProperties": "object",
    "patternProperties": "object",
    "items": "array",
    "prefixItems": "array",
}


def _state(schemas: Iterable[_Schema]) -> State:
    numbers = {schema.number for schema in schemas}
    return len(numbers) > 1, tuple(sorted(numbers))


def _said(schema: _Schema) -> _View:
    """Return the view of a schema that is settled."""
    return schema.view or _NOTHING


def _ordered(circle: list[_Schema], referred: Callable[[_Schema], Iterable[_Schema]]) -> list[_Schema]:
    """Return the schemas of `circle` so that each comes after those of them that it refers to.

    Raises:
        CycleError: there is no such order.
    """
    inside = set(circle)
    graph = {schema: [other for other in referred(schema) if other in inside] for schema in circle}
    return circle if not any(graph.values()) else list(TopologicalSorter(graph).static_order())


def _joined_spellings(views: Iterable[_View]) -> Mapping[str, _Spelling]:
    joined: dict[str, _Spelling] = {}
    for view in views:
        for name, spelling in view.spellings.items():
            joined[name] = joined[name] | spelling if name in joined else spelling
    return joined


def _texts(value: JsonValue) -> tuple[str, ...]:
    """Return the text, or the texts, that `value` is; none for anything else."""
    listed = [value] if isinstance(value, str) else value
    return tuple(listed) if _is_texts(listed) else ()


def _common(several: Iterable[tuple[str, ...] | None]) -> tuple[str, ...] | None:
    """Return the enumerated strings that stand in all of `several`; None, any string, stands for itself in none."""
    enumerated = [strings for strings in several if strings is not None]
    if not enumerated:
        return None
    kept = set(enumerated[0]).intersection(*enumerated[1:])
    return tuple(string for string in enumerated[0] if string in kept)


def _union(several: Sequence[tuple[str, ...] | None]) -> tuple[str, ...] | None:
    """Return the enumerated strings that stand in any of `several`; None if one of them allows any string."""
    if any(strings is None for strings in several):
        return None
    return tuple(dict.fromkeys(string for strings in several for string in strings or ()))


def _common_types(several: Iterable[frozenset[str] | None]) -> frozenset[str] | None:
    kept: frozenset[str] | None = None
    for types in several:
        # Types that exclude each other would leave none; an integer is a number.
        kept = types if kept is None else (kept & types or kept if types is not None else kept)
    return kept


def _union_of_types(several: Sequence[frozenset[str] | None]) -> frozenset[str] | None:
    if any(types is None for types in several):
        return None
    return frozenset().union(*(types or () for types in several))


def _type_of(value: JsonValue) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case str():
            return "string"
        case int() | float():
            return "number"
        case list():
            return "array"
    return "object"


def _as_reference(name: str) -> str:
    """Return the reference that a discriminator's `name` stands for: itself, or one to the schema of that name."""
    return name if re.search("[#/.]", name) else f"#/components/schemas/{name}"


def _is_texts(value: JsonValue) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _by_fold(values: Sequence[str]) -> Mapping[str, str]:
    """Return the values by folded spelling; of two that differ in spelling alone, the first is proposed."""
    return {fold(value): value for value in reversed(values)}
