"""What `catalog list` and `catalog show` say of the catalog: its operations, and all that is known of one."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rich import box
from rich.table import Table
from rich.text import Text

from proxy.errors import UnusableInputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

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
    advice = f"did you mean {by_lower[near[0]]}?" if near else "`catalog list` names them all"
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
    """Return a body that is spelt as the catalog has it, with the first of enumerated values.

    Left out is what no page describes and the service does not require, if there is anything else.
    """
    return _example(shape, 0)


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
        described = [one for one in named if one.required or one.sources != ("metadata",)]
        return {parameter.name: _example(parameter.shape, depth + 1) for parameter in described or named}
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
        "deprecated": operation.deprecated,
        "checked": operation.is_checked,
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
        "values": list(row.values),
        "source": list(row.sources),
        "accepted": {spelling: list(sources) for spelling, sources in row.accepted.items()},
    }


def as_lines(catalog: Catalog) -> Iterator[str]:
    """Yield a heading and one line for each operation, its cells apart by tabs: for `grep`, `cut` and `sort`."""
    yield "operation\tmethod\tpath\tparameters\tpage"
    for operation in catalog.operations:
        cells = operation.name, operation.method, operation.template, _listed(operation), operation.doc or ""
        yield "\t".join(cells)


def print_list(console: Console, catalog: Catalog) -> None:
    """Print each operation with its request, its parameters and its page."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", expand=False)
    table.add_column("operation", no_wrap=True, style="bold")
    table.add_column("request, parameters, page", overflow="fold")
    for operation in catalog.operations:
        told = Text(f"{operation.method} {operation.template}")
        for text, style in ((_listed(operation), "cyan"), (operation.doc or "", "dim")):
            if text:
                told.append(f"\n{text}", style)
        table.add_row(Text(operation.name), told)
    console.print(table)
    checked = sum(operation.is_checked for operation in catalog.operations)
    console.print(Text(f"{len(catalog.operations)} operations, {checked} with a body that is checked; *: required"))


def _listed(operation: Operation) -> str:
    named = _named(operation.body)[::-1] if operation.body is not None else []
    return ", ".join(parameter.name + ("*" if parameter.required else "") for parameter in named)


def print_operation(console: Console, operation: Operation) -> None:
    """Print what is known of `operation`: its names and values, and an example that is right."""
    console.print(Text(operation.name, style="bold"))
    console.print(Text(f"{operation.method} {operation.template}"))
    if operation.doc:
        console.print(Text(operation.doc, style="dim"))
    if operation.deprecated:
        console.print(Text("deprecated", style="yellow"))
    if operation.body is not None:
        why = "" if operation.is_checked else ", never checked: the service takes names in any case"
        console.print(Text(f"\nbody{why}", style="bold"))
        console.print(_table(operation.body))
        console.print(Text("example", style="bold"))
        console.print(Text(json.dumps(example_of(operation.body), indent=2, ensure_ascii=False)))
    if operation.entity is not None:
        console.print(Text("\nreturns", style="bold"))
        console.print(_table(operation.entity))
        if operation.filterable:
            console.print(Text(f"$filter takes: {', '.join(operation.filterable)}"))


def _table(shape: Shape) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("name (*: required)", no_wrap=True)
    table.add_column("type", no_wrap=True)
    table.add_column("values", overflow="fold")
    table.add_column("source", overflow="fold", max_width=16)
    for row in rows(shape):
        values = Text(", ".join(row.values))
        if row.accepted:
            spellings = (f"{one} ({', '.join(sources)})" if sources else one for one, sources in row.accepted.items())
            values.append(("\n" if values else "") + f"also accepted: {', '.join(spellings)}", "dim")
        name = "  " * row.depth + row.name + ("*" if row.is_required else "")
        table.add_row(Text(name), Text(row.type), values, ", ".join(row.sources))
    return table
