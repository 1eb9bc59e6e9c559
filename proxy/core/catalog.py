"""The catalog: OpenAPI documents compiled into a route matcher and, for each operation, a table of names."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from string import ascii_lowercase, ascii_uppercase
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from proxy.core.casing import Parameter, Shape, fold
from proxy.core.jsontext import pointer_token
from proxy.core.model import JsonValue, RouteTemplate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

METHODS: Final = frozenset({"GET", "PUT", "POST", "DELETE", "OPTIONS", "HEAD", "PATCH"})
"""The methods that an OpenAPI path item can describe and that the proxy forwards (TRACE it does not)."""

_VERSION = re.compile(r"v\d+(?:\.\d+)?|beta")
_PARAMETER = re.compile(r"\{[^{}]+\}")
_NO_SHAPE: Final = Shape()

# `str.lower` would make a "k" of the Kelvin sign.
_ASCII_LOWER: Final = str.maketrans(ascii_uppercase, ascii_lowercase)


@dataclass(frozen=True, slots=True)
class Operation:
    """A documented operation: what a request is called in logs and metrics, and what its body may hold.

    `body` is None where the documentation describes no JSON body; `policed` is false where the service takes
    names in any case. `doc` is the documentation page.
    """

    name: str
    method: str
    template: RouteTemplate
    body: Shape | None = None
    policed: bool = True
    doc: str | None = None

    @property
    def is_checked(self) -> bool:
        """Whether there is a body to check, and a reason to."""
        return self.policed and self.body is not None and bool(self.body)


UNKNOWN: Final = Operation("unknown", "", RouteTemplate("unknown"))
"""Stands for every request that no operation of the catalog describes."""


@dataclass(frozen=True, slots=True)
class Document:
    """A decoded OpenAPI document and the name to report its problems under."""

    name: str
    content: JsonValue


@dataclass(frozen=True, slots=True)
class CatalogProblem:
    """Something in a document that cannot be used: where (a JSON Pointer) and what to do about it."""

    document: str
    pointer: str
    message: str

    def __str__(self) -> str:
        """Return the problem as one line."""
        return f"{self.document}: {self.pointer or '/'}: {self.message}"


class CatalogError(Exception):
    """The documents do not make a catalog; `problems` holds every reason found."""

    def __init__(self, problems: tuple[CatalogProblem, ...]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


@dataclass(slots=True)
class _Node:
    """One level of the route matcher: what may follow, by literal segment or by any."""

    literals: dict[str, _Node] = field(default_factory=dict)
    parameter: _Node | None = None
    operations: dict[str, Operation] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Catalog:
    """The operations, and the way from a request to one of them."""

    operations: tuple[Operation, ...]
    names: frozenset[str]
    """Every parameter name of the catalog, folded."""
    _root: _Node

    def match(self, method: str, target: str) -> Operation:
        """Return the operation of a request with `method` and origin-form `target`, or `UNKNOWN`.

        The path is compared segment by segment, percent-decoded, without regard to ASCII case, empty segments
        and an API version behind `/api`. The cost depends on the length of the path, not on the catalog's size.
        """
        segments = tuple(_segments(target.partition("?")[0]))
        node = _find(self._root, segments, 0, method)
        return node.operations[method] if node is not None else UNKNOWN


def compile_catalog(documents: Iterable[Document]) -> Catalog:
    """Return the catalog that OpenAPI 3.0 or 3.1 `documents` describe.

    Raises:
        CatalogError: with every document that is none, every operation that is claimed twice and every part
            that the check could not use.
    """
    problems: list[CatalogProblem] = []
    root = _Node()
    by_name: dict[str, tuple[Operation, str]] = {}
    names: set[str] = set()
    for document in documents:
        compiler = _Compiler(document, problems)
        for operation, pointer in compiler.operations():
            node = _node_for(root, operation.template)
            claimed = node.operations.setdefault(operation.method, operation)
            if claimed is not operation:
                owner = by_name[claimed.name][1] if claimed.name in by_name else document.name
                problems.append(
                    CatalogProblem(
                        document.name, pointer, f"{operation.name} claims the route of {claimed.name} in {owner}"
                    )
                )
            elif operation.name in by_name or operation.name == UNKNOWN.name:
                problems.append(
                    CatalogProblem(document.name, pointer, f"operationId {operation.name!r} is taken; choose another")
                )
            else:
                by_name[operation.name] = operation, document.name
        names |= compiler.names
    if problems:
        raise CatalogError(tuple(problems))
    return Catalog(tuple(operation for operation, _ in by_name.values()), frozenset(names), root)


def _segments(path: str) -> Iterator[str]:
    """Yield the segments of `path` in the form that routes are compared in."""
    after_api = False
    for raw in path.split("/"):
        segment = (unquote(raw) if "%" in raw else raw).translate(_ASCII_LOWER)
        if not segment or (after_api and _VERSION.fullmatch(segment)):
            continue
        after_api = segment == "api"
        yield segment


def _node_for(root: _Node, template: RouteTemplate) -> _Node:
    """Return the node of `template`, made where it is new."""
    node = root
    for segment in _segments(template):
        if _PARAMETER.fullmatch(segment):
            if node.parameter is None:
                node.parameter = _Node()
            node = node.parameter
        else:
            node = node.literals.setdefault(segment, _Node())
    return node


def _find(node: _Node, segments: tuple[str, ...], index: int, method: str) -> _Node | None:
    """Return the node that `segments` lead to, a literal preferred at each level, or None.

    Goes no deeper than the deepest template, whatever the client sends.
    """
    if index == len(segments):
        return node if method in node.operations else None
    literal = node.literals.get(segments[index])
    found = _find(literal, segments, index + 1, method) if literal is not None else None
    if found is None and node.parameter is not None:
        found = _find(node.parameter, segments, index + 1, method)
    return found


class _Compiler:
    """Reads one document, collecting problems instead of stopping at the first."""

    def __init__(self, document: Document, problems: list[CatalogProblem]) -> None:
        self._document = document
        self._problems = problems
        self._shapes: dict[int, Shape] = {}
        self.names: set[str] = set()

    def operations(self) -> Iterator[tuple[Operation, str]]:
        """Yield each operation with the pointer to it."""
        match self._document.content:
            case {"openapi": str(version), "paths": dict(paths), **rest} if version.startswith(("3.0.", "3.1.")):
                policed = rest.get("x-case-sensitive", True) is not False
            case {"openapi": version} if not str(version).startswith(("3.0.", "3.1.")):
                self._report("/openapi", f"version {version!r} is not supported; write 3.1.0")
                return
            case _:
                self._report("", "not an OpenAPI document: it needs `openapi` and `paths`")
                return
        for path, item in paths.items():
            pointer = "/paths" + pointer_token(str(path))
            match item:
                case dict() if str(path).startswith("/"):
                    for method, content in item.items():
                        if str(method).upper() in METHODS:
                            yield from self._operation(str(path), str(method), content, policed, pointer)
                case _:
                    self._report(pointer, "a path must start with a slash and hold a mapping")

    def _operation(
        self,
        path: str,
        method: str,
        content: JsonValue,
        policed: bool,  # noqa: FBT001 - handed on from the document, never a literal
        path_pointer: str,
    ) -> Iterator[tuple[Operation, str]]:
        pointer = path_pointer + pointer_token(method)
        match content:
            case {"operationId": str(name), **rest} if name:
                body = self._body(rest.get("requestBody"), pointer + "/requestBody")
                doc = rest.get("x-doc")
                operation = Operation(
                    name,
                    method.upper(),
                    RouteTemplate(path),
                    body,
                    policed and rest.get("x-case-sensitive", True) is not False,
                    doc if isinstance(doc, str) else None,
                )
                yield operation, pointer
            case _:
                self._report(pointer, "an operation needs an `operationId`, its name in logs and metrics")

    def _body(self, request_body: JsonValue, pointer: str) -> Shape | None:
        match self._resolved(request_body, pointer):
            case {"content": dict(content)}:
                for media_type, media in content.items():
                    if is_json_media_type(str(media_type)) and isinstance(media, dict):
                        return self._shape(media.get("schema"), f"{pointer}/content{pointer_token(media_type)}/schema")
        return None

    def _resolved(self, node: JsonValue, pointer: str) -> JsonValue:
        """Return `node`, or what its local `$ref` leads to; references in a row are followed."""
        seen: set[str] = set()
        while isinstance(node, dict) and isinstance(reference := node.get("$ref"), str):
            if not reference.startswith("#/"):
                self._report(pointer, f"$ref {reference!r} leaves the document; only `#/…` is followed")
                return None
            if reference in seen:
                self._report(pointer, f"$ref {reference!r} leads back to itself")
                return None
            seen.add(reference)
            node = self._document.content
            for token in reference[2:].split("/"):
                key = unquote(token).replace("~1", "/").replace("~0", "~")
                if not isinstance(node, dict) or key not in node:
                    self._report(pointer, f"$ref {reference!r} leads nowhere")
                    return None
                node = node[key]
        return node

    def _shape(self, schema: JsonValue, pointer: str) -> Shape:
        """Return the shape of `schema`; one that refers to itself has itself inside."""
        schema, levels = self._elements(schema, pointer)
        if not isinstance(schema, dict):
            return _NO_SHAPE
        shape = self._shapes.get(id(schema))
        if shape is None:
            shape = self._shape_of_one(schema, pointer + "/items" * levels)
        return replace(shape, array_levels=levels) if levels else shape

    def _elements(self, schema: JsonValue, pointer: str) -> tuple[JsonValue, int]:
        """Return the schema of what stands in the innermost array, and how deep arrays nest; 0 for no array."""
        seen: set[int] = set()
        levels = 0
        while isinstance(schema := self._resolved(schema, pointer + "/items" * levels), dict) and "items" in schema:
            if id(schema) in seen:
                return None, 0  # an array that holds itself and nothing else has no names
            seen.add(id(schema))
            schema = schema["items"]
            levels += 1
        return schema, levels

    def _shape_of_one(self, schema: dict[str, JsonValue], pointer: str) -> Shape:
        parameters: dict[str, Parameter] = {}
        by_fold: dict[str, Parameter] = {}
        enumeration = schema.get("enum", [])
        if not isinstance(enumeration, list):
            self._report(pointer + "/enum", "must be a list of values")
            enumeration = []
        values = [value for value in enumeration if isinstance(value, str)]
        shape = self._shapes[id(schema)] = Shape(parameters, by_fold, frozenset(values), _by_fold(values))
        required = schema.get("required")
        properties = schema.get("properties")
        if isinstance(properties, dict):
            for name, content in properties.items():
                place = f"{pointer}/properties{pointer_token(name)}"
                parameter = Parameter(
                    str(name), isinstance(required, list) and name in required, self._shape(content, place)
                )
                self._add(parameter, content, parameters, place)
            by_fold.update(_unambiguous(parameters))
            self.names |= {fold(name) for name in parameters}
        return shape

    def _add(self, parameter: Parameter, content: JsonValue, parameters: dict[str, Parameter], place: str) -> None:
        """Enter `parameter` under every spelling that the documentation gives it."""
        accepted = content.get("x-accepted-names", []) if isinstance(content, dict) else []
        if not isinstance(accepted, list) or not all(isinstance(name, str) for name in accepted):
            self._report(place + "/x-accepted-names", "must be a list of names")
            return
        for spelling in (parameter.name, *accepted):
            if parameters.setdefault(spelling, parameter) is not parameter:
                self._report(place, f"the spelling {spelling!r} belongs to another parameter here")

    def _report(self, pointer: str, message: str) -> None:
        self._problems.append(CatalogProblem(self._document.name, pointer, message))


def is_json_media_type(media_type: str) -> bool:
    """Whether `media_type`, parameters and case aside, holds JSON (RFC 8259; RFC 6839, 3.1 for `+json`)."""
    essence = media_type.partition(";")[0].strip(" \t").lower()
    return essence in {"application/json", "text/json"} or (
        essence.startswith("application/") and essence.endswith("+json")
    )


def _unambiguous(parameters: Mapping[str, Parameter]) -> dict[str, Parameter]:
    """Return the parameters by folded spelling, without those that two parameters share."""
    by_fold: dict[str, Parameter] = {}
    shared: set[str] = set()
    for spelling, parameter in parameters.items():
        folded = fold(spelling)
        if by_fold.setdefault(folded, parameter) is not parameter:
            shared.add(folded)
    return {folded: parameter for folded, parameter in by_fold.items() if folded not in shared}


def _by_fold(values: list[str]) -> dict[str, str]:
    """Return the values by folded spelling; of two that differ in spelling alone, the first is proposed."""
    return {fold(value): value for value in reversed(values)}
