"""What `catalog list` and `catalog show` say of the catalog: its operations, and all that is known of one."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rich.text import Text

from proxy.errors import UnusableInputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from rich.console import Console

    from proxy.core.casing import Parameter, Shape
    from proxy.core.catalog import Catalog, Operation

# An example goes no deeper: a schema may hold itself.
_DEPTH_AT_MOST: Final = 6

_EXAMPLES_BY_FORMAT: Final = {
    "date": "2026-01-31",
    "date-time": "2026-01-31T12:00:00Z",
    "duration": "P30D",
    "email": "soc@contoso.example",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://contoso.example/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
_EXAMPLES_BY_TYPE: Final[tuple[tuple[str, Any], ...]] = (
    ("string", "text"),
    ("integer", 1),
    ("number", 1.5),
    ("boolean", True),
    ("null", None),
)


class UnknownOperationError(UnusableInputError):
    """No operation of the catalog is called like that; the text says which was perhaps meant."""


def find_operation(catalog: Catalog, name: str) -> Operation:
    """Return the operation that is called `name`.

    Raises:
        UnknownOperationError: there is none.
    """
    by_name = {operation.name: operation for operation in catalog.operations}
    if name in by_name:
        return by_name[name]
    by_lower = {known.lower(): known for known in by_name}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1)
    advice = f"did you mean {_plain(by_lower[near[0]])}?" if near else "`catalog list` names them all"
    raise UnknownOperationError(f"the catalog has no operation {name!r}; {advice}")


@dataclass(frozen=True, slots=True)
class Row:
    """One parameter of a body, or one property of an entity.

    `place` is the path to it, with `[]` behind each array, and `depth` how many names stand before its own there.
    """

    place: str
    name: str
    depth: int
    type: str
    is_required: bool
    values: tuple[str, ...]
    sources: tuple[str, ...]
    accepted: Mapping[str, tuple[str, ...]]
    is_read_only: bool


def rows(shape: Shape) -> Iterator[Row]:
    """Yield the parameters of `shape` in the order of the documents, each before those inside it."""
    around: tuple[int, ...] = (id(shape.parameters),)
    pending = [("", parameter, around) for parameter in _named(shape)]
    while pending:
        before, parameter, above = pending.pop()
        held = parameter.shape
        place = f"{before}{parameter.name}{'[]' * held.array_levels}"
        yield Row(
            place,
            parameter.name,
            len(above) - 1,
            type_of(held),
            parameter.required,
            held.choices,
            parameter.sources,
            parameter.accepted,
            parameter.is_read_only,
        )
        if id(held.parameters) not in above:
            inside = (*above, id(held.parameters))
            pending += ((f"{place}.", inner, inside) for inner in _named(held))


def _named(shape: Shape) -> list[Parameter]:
    """Return the parameters of `shape`, the last one first, each once however many spellings it has."""
    return list({id(parameter): parameter for parameter in shape.parameters.values()}.values())[::-1]


def type_of(shape: Shape) -> str:
    """Return what may stand at a place, in words: `string`, `array of object`, `string (date-time)`."""
    words = " or ".join(sorted(shape.types - {"null"})) or "any"
    if shape.text_format and shape.types & {"string"}:
        words += f" ({shape.text_format})"
    if shape.array_levels:
        elements = " or ".join(sorted(shape.element_types - {"null"})) or ("object" if shape.parameters else "any")
        words = words.replace("array", "array of " * shape.array_levels + elements, 1)
    return words


def example_of(shape: Shape) -> Any:
    """Return a body that is spelt as the catalog has it: the documents' own, or put together from what they say.

    Of enumerated values it has the first. Left out is what the service fills in, and what no page describes and the
    service does not require, if there is anything else.
    """
    return _example(shape, 0) if shape.example is None else shape.example


def _example(shape: Shape, depth: int) -> Any:
    if shape.array_levels and "array" in shape.types:
        value = _example_of_one(shape, shape.element_types, depth)
        for _ in range(shape.array_levels):
            value = [value]
        return value
    return _example_of_one(shape, shape.types, depth)


def _example_of_one(shape: Shape, types: frozenset[str], depth: int) -> Any:
    if shape.choices:
        return shape.choices[0]
    if shape.parameters and depth < _DEPTH_AT_MOST:
        named = _named(shape)[::-1]
        settable = [one for one in named if one.required or not one.is_read_only]
        described = [one for one in settable if one.required or one.sources != ("metadata",)]
        return {
            one.name: _example(one.shape, depth + 1) if one.example is None else one.example
            for one in described or settable
        }
    if "string" in types and shape.text_format in _EXAMPLES_BY_FORMAT:
        return _EXAMPLES_BY_FORMAT[shape.text_format]
    if "object" in types or shape.parameters:
        return {}
    return next((example for kind, example in _EXAMPLES_BY_TYPE if kind in types), "text")


def as_json(operation: Operation) -> dict[str, Any]:
    """Return all that is known of `operation`, for programs."""
    known: dict[str, Any] = {
        "operation": operation.name,
        "method": operation.method,
        "path": operation.template,
        "page": operation.doc,
        "source": operation.source,
        "deprecated": operation.deprecated,
        "checked": operation.is_checked,
        "media_types": list(operation.media_types),
    }
    if operation.body is not None:
        known["parameters"] = [_row_as_json(row) for row in rows(operation.body)]
        known["example"] = example_of(operation.body)
    if operation.entity is not None:
        known["properties"] = [_row_as_json(row) for row in rows(operation.entity)]
        known["filterable"] = list(operation.filterable)
    return known


def _row_as_json(row: Row) -> dict[str, Any]:
    return {
        "name": row.place,
        "type": row.type,
        "required": row.is_required,
        "read_only": row.is_read_only,
        "values": list(row.values),
        "source": list(row.sources),
        "accepted": {spelling: list(sources) for spelling, sources in row.accepted.items()},
    }


def as_lines(catalog: Catalog) -> Iterator[str]:
    """Yield a heading and one line for each operation, its cells apart by tabs: for `grep`, `cut` and `sort`."""
    yield "operation\tmethod\tpath\tparameters\tpage"
    for operation in catalog.operations:
        cells = operation.name, operation.method, operation.template, ", ".join(_names(operation)), operation.doc or ""
        yield "\t".join(map(_plain, cells))


def print_list(console: Console, catalog: Catalog) -> None:
    """Print each operation with its request, its parameters and its page."""
    for operation in catalog.operations:
        _print(console, [operation.name], "", "bold")
        _print(console, [operation.method, operation.template])
        _print(console, _with_commas(_names(operation)), style="cyan")
        _print(console, [operation.doc] if operation.doc else [], style="dim")
    checked = sum(operation.is_checked for operation in catalog.operations)
    told = f"\n{len(catalog.operations)} operations, {checked} with a body that is checked; *: required"
    console.print(Text(told), soft_wrap=True)


def _names(operation: Operation) -> list[str]:
    named = _named(operation.body)[::-1] if operation.body is not None else []
    return [parameter.name + ("*" if parameter.required else "") for parameter in named]


def print_operation(console: Console, operation: Operation) -> None:
    """Print what is known of `operation`: its names and values, and an example that is right."""
    _print(console, [operation.name], "", "bold")
    _print(console, [operation.method, operation.template], "")
    _print(console, [operation.doc] if operation.doc else [], "", "dim")
    if operation.source:
        _print(console, [f"no page documents it; known from {operation.source}"], "", "dim")
    if operation.deprecated:
        _print(console, ["deprecated"], "", "yellow")
    if operation.media_types:
        console.print()
        _print(console, [f"body is {' or '.join(operation.media_types)}: never checked"], "", "bold")
    if operation.body is not None:
        why = "" if operation.is_checked else ", never checked: the service takes names in any case"
        console.print()
        _print(console, [f"body{why} (*: required)"], "", "bold")
        _print_rows(console, operation.body)
        console.print()
        _print(console, ["example"], "", "bold")
        text = json.dumps(example_of(operation.body), indent=2, ensure_ascii=False)
        console.print(Text("\n".join(map(_plain, text.split("\n")))), soft_wrap=True)
    if operation.entity is not None:
        console.print()
        _print(console, ["returns"], "", "bold")
        _print_rows(console, operation.entity)
        if operation.filterable:
            console.print()
            _print(console, ["$filter takes:", *_with_commas(operation.filterable)], "")


def _print_rows(console: Console, shape: Shape) -> None:
    """Print each name with its type, and below it, further in, its values and where it comes from."""
    for row in rows(shape):
        before = "  " * (row.depth + 1)
        name = Text(f"{before}{_plain(row.name)}", "bold")
        name.append(f"{'*' if row.is_required else ''}  {_plain(row.type)}", "not bold")
        if row.is_read_only:
            name.append(", filled in by the service", "not bold")
        console.print(name, soft_wrap=True)
        if row.values:
            _print(console, ["one of", *_with_commas(map(_quoted, row.values))], before + "    ")
        if row.accepted:
            further = (
                f"{_quoted(one)} ({', '.join(sources)})" if sources else _quoted(one)
                for one, sources in row.accepted.items()
            )
            _print(console, ["also accepted:", *_with_commas(further)], before + "    ")
        if row.sources:
            _print(console, ["from", *_with_commas(row.sources)], before + "    ", "dim")


def _print(console: Console, words: Iterable[str], before: str = "    ", style: str = "") -> None:
    """Print `words` in lines that each begin with `before`; a word is never broken, however narrow the console."""
    lines: list[str] = []
    for word in words:
        kept = _plain(word)
        if lines and len(lines[-1]) + 1 + len(kept) <= console.width:
            lines[-1] += f" {kept}"
        else:
            lines.append(before + kept)
    for line in lines:
        console.print(Text(line, style), soft_wrap=True)


def _with_commas(words: Iterable[str]) -> list[str]:
    listed = list(words)
    return [f"{word}," for word in listed[:-1]] + listed[-1:]


def _quoted(value: str) -> str:
    """Return `value` so that it reads as one: in quotes if it holds a comma, or nothing but blanks."""
    return json.dumps(value, ensure_ascii=False) if "," in value or not value.strip() else value


def _plain(text: str) -> str:
    """Return `text` with what is not printable as JSON escapes it: names may come from anybody's documents."""
    return text if text.isprintable() else "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)
