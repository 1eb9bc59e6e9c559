"""OpenAPI documents, read into a catalog: operations, their routes and the shapes of their bodies."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from proxy.core.catalog import (
    METHODS,
    SEGMENTS_AT_MOST,
    UNKNOWN,
    Catalog,
    CatalogError,
    CatalogProblem,
    Operation,
    Routes,
    parts_of,
    without_version,
)
from proxy.core.headers import is_json_media_type
from proxy.core.model import JsonValue, RouteTemplate
from proxy.core.references import ROOT, Place, References
from proxy.core.schemas import Schemas, TooManyNamesError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from proxy.core.casing import Shape
    from proxy.core.catalog import Document

_READABLE: Final = re.compile(r"3\.[01](?:\.\d+.*)?", re.DOTALL)
_NAME_LENGTH_AT_MOST: Final = 256
_JSON_RANGES: Final = frozenset({"*/*", "application/*"})
_PATH: Final = re.compile(rf"(?:/[^/?#]*){{1,{SEGMENTS_AT_MOST}}}")
_VARIABLE: Final = re.compile(r"\{([^{}]*)\}")
_PARAMETER: Final = re.compile(r"\{[^{}/]*\}")
# What a path item holds beside its operations; those of TRACE are not read, as the proxy does not forward it.
_ITEM_FIELDS: Final = frozenset({"$ref", "summary", "description", "parameters", "servers", "trace"})
# What stands before the path of a server's URL; a relative one begins with its path.
_AUTHORITY: Final = re.compile(r"(?:[^/?#]*:)?//[^/?#]*")

# How the member ends, or is, that links to the next page.
_NEXT_LINK: Final = "nextLink"

_Fields = dict[str, tuple[JsonValue, Place]]
"""The fields of an object, each with the place where it stands."""


@dataclass(frozen=True, slots=True)
class _Described:
    """An operation as a document describes it: where, under which templates, and what a read of it returns.

    `pageable` is what Microsoft's extension says of its pages, None where it has none.
    """

    operation: Operation
    templates: tuple[str, ...]
    place: Place
    responses: JsonValue
    responses_place: Place
    pageable: Mapping[str, JsonValue] | None


def compile_catalog(documents: Iterable[Document]) -> Catalog:
    """Return the catalog that OpenAPI 3.0 or 3.1 `documents` describe.

    Raises:
        CatalogError: with every document that is none, every operation that is claimed twice and every part
            that the check could not use.
    """
    problems: list[CatalogProblem] = []
    notes: list[CatalogProblem] = []
    names: set[str] = set()
    claims = _Claims()
    for document in documents:
        reader = _Reader(document)
        for operation, templates, place in reader.operations():
            if (message := claims.made(operation, templates, document.name)) is not None:
                reader.references.report(place, message)
        problems += reader.references.problems
        notes += reader.notes
        names |= reader.names
    if problems:
        raise CatalogError(tuple(problems), tuple(notes))
    return Catalog(tuple(claims.operations.values()), frozenset(names), claims.routes, tuple(notes))


class _Claims:
    """The names and routes that are taken, and by whom."""

    def __init__(self) -> None:
        self.routes = Routes()
        self.operations: dict[str, Operation] = {}
        self._documents: dict[str, str] = {}
        self._by_plain_route: dict[object, list[tuple[Operation, str, object]]] = {}

    def made(self, operation: Operation, templates: Iterable[str], document: str) -> str | None:
        """Enter `operation`; return what is wrong with it, None if nothing is."""
        for template in templates:
            owner = self._owner(operation, template, document)
            if owner is not None:
                place = self._documents[owner.name]
                return (
                    f"{operation.name} claims the route of {owner.name} ({owner.method} {owner.template})"
                    f"{'' if place == document else f' in {place}'}; take one of them out. Neither the names of path "
                    "parameters nor letter case nor slashes at the end tell routes apart"
                )
        taken = f"operationId {operation.name!r} is taken"
        if operation.name == UNKNOWN.name:
            return f"{taken}: requests that no operation describes are called that; choose another"
        if (owner := self.operations.get(operation.name)) is not None:
            place = self._documents[owner.name]
            where = "" if place == document else f" in {place}"
            return f"{taken} by {owner.method} {owner.template}{where}; choose another"
        self.operations[operation.name] = operation
        self._documents[operation.name] = document
        return None

    def _owner(self, operation: Operation, template: str, document: str) -> Operation | None:
        """Return the operation that `template` belongs to already.

        Two documents that claim one route but for an API version claim the same, unless both write a version: one
        document may well tell versions apart.
        """
        parts = parts_of(template)
        plain = without_version(parts)
        alike = self._by_plain_route.setdefault((operation.method, plain), [])
        for owner, owner_document, owner_parts in alike:
            if owner is not operation and (
                owner_parts == parts or (document != owner_document and plain in (parts, owner_parts))
            ):
                return owner
        alike.append((operation, document, parts))
        self.routes.claim(template, operation)
        return None


class _Reader:
    """Reads one document, collecting problems instead of stopping at the first."""

    def __init__(self, document: Document) -> None:
        self.references = References(document)
        self.notes: list[CatalogProblem] = []
        self._content = document.content
        self._schemas = Schemas(self.references, siblings=False)
        self._bodies: dict[int, Shape | None] = {}
        self._unnamed: list[tuple[Place, str]] = []
        self._unreachable: list[tuple[Place, str]] = []

    @property
    def names(self) -> set[str]:
        """Every name that a body or an entity may hold, folded."""
        return self._schemas.names

    def operations(self) -> Iterator[tuple[Operation, tuple[str, ...], Place]]:
        """Yield each operation with its templates and the place where it stands."""
        try:
            described = list(self._described())
            self.notes += self._schemas.notes
            for one in described:
                yield (self._read(one) if one.operation.method == "GET" else one.operation), one.templates, one.place
        except TooManyNamesError:
            self.references.report(
                ROOT,
                "its schemas combine in millions of ways; take out alternatives (anyOf, oneOf) that repeat each other",
            )

    def _described(self) -> Iterator[_Described]:
        match self._content:
            case {"openapi": str(version), "paths": dict(paths)} if _READABLE.fullmatch(version):
                self._schemas = Schemas(self.references, siblings=not version.startswith("3.0"))
            case {"openapi": version} if not (isinstance(version, str) and _READABLE.fullmatch(version)):
                self.references.report(ROOT.below("openapi"), _advice(version))
                return
            case {"swagger": _}:
                self.references.report(
                    ROOT.below("swagger"),
                    "not an OpenAPI 3 document but its forerunner, Swagger 2; convert it to OpenAPI 3.0",
                )
                return
            case _:
                self.references.report(ROOT, "not an OpenAPI document: it needs `openapi` and `paths`")
                return
        for key, content in paths.items():
            path, place = str(key), ROOT.below("paths", key)
            if path.startswith("x-"):
                continue
            if not isinstance(content, dict) or not path.startswith("/"):
                self.references.report(place, "a path must start with a slash and hold a mapping")
            elif (flaw := _flaw(path)) is not None:
                self.references.report(place, flaw)
            elif (item := self._fields(content, place)) is not None:
                yield from self._item(path, item, place)
        self._tell_of_groups()

    def _item(self, path: str, item: _Fields, place: Place) -> Iterator[_Described]:
        for method, (content, here) in item.items():
            if method.lower() in _ITEM_FIELDS or method.startswith("x-"):
                continue
            if method.upper() not in METHODS:
                self.references.report(here, "neither a method, such as get or post, nor a field of a path; correct it")
            elif not isinstance(content, dict):
                self.references.report(here, "an operation must be a mapping, such as {operationId: getThing}")
            elif re.search(r"[?#]", path):
                self._unreachable.append((here, path))
            elif path.count("/") > SEGMENTS_AT_MOST:
                self.references.report(place, f"a path may have {SEGMENTS_AT_MOST} segments at most; shorten it")
                return
            else:
                yield from self._operation(path, method.upper(), content, item, here)

    def _operation(
        self, path: str, method: str, content: Mapping[str, JsonValue], item: _Fields, place: Place
    ) -> Iterator[_Described]:
        further = content.get("x-alternate-paths", [])
        if not (isinstance(further, list) and all(isinstance(one, str) and _PATH.fullmatch(one) for one in further)):
            self.references.report(
                place.below("x-alternate-paths"),
                f"must be a list of paths, each of 1 to {SEGMENTS_AT_MOST} segments and with a slash first",
            )
            further = []
        bases = self._bases(content, item, place)
        templates = tuple(base + one for one in dict.fromkeys((path, *further)) for base in bases)
        name = content.get("operationId")
        if name is None or name == "":
            # What a request to it looks like: unique, and nothing to guess. OpenTelemetry calls spans alike.
            name = f"{method} {templates[0]}"
            self._unnamed.append((place, name))
        elif not isinstance(name, str) or len(name) > _NAME_LENGTH_AT_MOST or not name.isprintable():
            self.references.report(
                place.below("operationId"),
                f"an `operationId` must be a text of one line and {_NAME_LENGTH_AT_MOST} characters at most",
            )
            return
        self.references.checked(content.get("responses"), dict, place.below("responses"))
        filterable = content.get("x-filterable", [])
        if not (isinstance(filterable, list) and all(isinstance(one, str) for one in filterable)):
            self.references.report(place.below("x-filterable"), "must be a list of names")
            filterable = []
        body = self._body(content.get("requestBody"), place.below("requestBody"))
        operation = Operation(
            name,
            method,
            RouteTemplate(templates[0]),
            body,
            policed=self._flag(self._content, "x-case-sensitive", ROOT) is not False
            and self._flag(content, "x-case-sensitive", place) is not False,
            doc=self.references.checked(content.get("x-doc"), str, place.below("x-doc")),
            deprecated=self._flag(content, "deprecated", place) is True,
            filterable=tuple(filterable),
            source=self.references.checked(content.get("x-source"), str, place.below("x-source")),
            media_types=self._media_types(content.get("requestBody"), place.below("requestBody"))
            if body is None
            else (),
        )
        pageable = self.references.checked(content.get("x-ms-pageable"), dict, place.below("x-ms-pageable"))
        yield _Described(operation, templates, place, content.get("responses"), place.below("responses"), pageable)

    def _flag(self, content: Mapping[str, JsonValue], key: str, place: Place) -> bool | None:
        return self.references.checked(content.get(key), bool, place.below(key))

    def _body(self, content: JsonValue, place: Place) -> Shape | None:
        """Return the shape of a request's JSON body."""
        # Many operations may share one, by an alias.
        if id(content) not in self._bodies:
            self._bodies[id(content)] = self._shape_of_body(content, place)
        return self._bodies[id(content)]

    def _shape_of_body(self, content: JsonValue, place: Place) -> Shape | None:
        """Return the shape of a request's JSON body; what cannot be checked is noted."""
        reports = self.references.reports
        body = self._fields(content, place) or {}
        media, media_place = self._media(body, place)
        if not media:
            return None
        schemas = self._json_schemas(media, media_place)
        if not schemas:
            kinds = ", ".join(map(str, media))
            if self.references.reports == reports:
                self.notes.append(
                    self.references.problem(media_place, f"the body is no JSON ({kinds}): it is not checked")
                )
            return None
        shape = self._schemas.shape(schemas)
        if not shape and self.references.reports == reports:
            self.notes.append(
                self.references.problem(schemas[0][1], "the body names no properties: there is nothing to compare with")
            )
        example = self._example(media, media_place)
        return shape if example is None else replace(shape, example=example)

    def _media(self, body: _Fields, place: Place) -> tuple[Mapping[str, JsonValue], Place]:
        """Return what a body or response, which stands at `place`, may be sent as, and the place where that stands."""
        content, place = body.get("content", (None, place))
        media: Mapping[str, JsonValue] = self.references.checked(content, dict, place) or {}
        misplaced = place.below("schema") if "schema" in media else body.get("schema", (None, None))[1]
        if misplaced is not None and (not media or "schema" in media):
            self.references.report(
                misplaced, "belongs below `content` and a media type, such as application/json; move it there"
            )
        return media, place

    def _media_types(self, content: JsonValue, place: Place) -> tuple[str, ...]:
        """Return the media types that a request's body may have."""
        media, _ = (self._fields(content, place) or {}).get("content", (None, place))
        return tuple(map(str, media)) if isinstance(media, dict) else ()

    def _json_media(self, media: Mapping[JsonValue, JsonValue], place: Place) -> list[tuple[_Fields, Place]]:
        """Return what is said of bodies that are JSON; a range such as `*/*` counts where no JSON is named."""
        by_type = {str(key): (value, place.below(key)) for key, value in media.items()}
        named = [entry for key, entry in by_type.items() if is_json_media_type(key)] or [
            entry for key, entry in by_type.items() if key.partition(";")[0].strip(" \t") in _JSON_RANGES
        ]
        return [(self._fields(value, there) or {}, there) for value, there in named]

    def _json_schemas(self, media: Mapping[JsonValue, JsonValue], place: Place) -> list[tuple[JsonValue, Place]]:
        """Return the schemas of what may be sent as JSON."""
        return [one.get("schema", ({}, there)) for one, there in self._json_media(media, place)]

    def _example(self, media: Mapping[JsonValue, JsonValue], place: Place) -> JsonValue:
        """Return the first example of a JSON body that stands beside a schema or in it."""
        for one, _ in self._json_media(media, place):
            example, _ = one.get("example", (None, place))
            if example is None and "schema" in one:
                example = self._schemas.example(*one["schema"])
            if example is not None:
                return example
        return None

    def _read(self, described: _Described) -> Operation:
        """Return the operation of a GET with what is known of its answer: one entity or many, and whether it pages."""
        answer = self._answer(described.responses, described.responses_place)
        pages = _links_on(answer)
        if described.pageable is not None:
            # AutoRest, "x-ms-pageable": without a name for the link there is but one page.
            pages = described.pageable.get("nextLinkName", _NEXT_LINK) is not None
        entity = None if answer is None else _looked_through(answer)
        return replace(described.operation, entity=entity, pages=pages)

    def _answer(self, content: JsonValue, place: Place) -> Shape | None:
        """Return the shape of what a read returns; None where that is not told."""
        responses = self._fields(content, place) or {}
        for status in ("200", "2XX", "2xx"):
            response = self._fields(*responses[status]) if status in responses else None
            if response and (schemas := self._json_schemas(*self._media(response, place))):
                return self._schemas.shape(schemas)
        return None

    def _bases(self, operation: Mapping[str, JsonValue], item: _Fields, place: Place) -> list[str]:
        """Return the base paths of an operation's nearest servers, nothing twice; "" stands for none."""
        for value, there in (
            (operation.get("servers"), place.below("servers")),
            item.get("servers", (None, ROOT)),
            (self._content.get("servers"), ROOT.below("servers")),
        ):
            if servers := self.references.checked(value, list, there):
                return list(
                    dict.fromkeys(self._base(server, there.below(index)) for index, server in enumerate(servers))
                )
        return [""]

    def _base(self, value: JsonValue, place: Place) -> str:
        """Return the base path of the server that stands at `place`."""
        server: Mapping[str, JsonValue] = self.references.checked(value, dict, place) or {}
        url = self.references.checked(server.get("url"), str, place.below("url"))
        path = _base_path(url or "", server.get("variables"))
        if (flaw := _flaw(path)) is not None:
            self.references.report(place.below("url"), flaw)
        return path

    def _fields(self, value: JsonValue, place: Place) -> _Fields | None:
        """Return the fields of the object that `value` is or refers to, those beside the reference first of all."""
        fields: _Fields = {}
        seen: set[int] = set()
        while isinstance(value, dict) and id(value) not in seen:
            seen.add(id(value))
            for key, content in value.items():
                fields.setdefault(str(key), (content, place.below(key)))
            reference = self.references.checked(value.get("$ref"), str, place.below("$ref"))
            if reference is None:
                return fields
            value, place = self.references.target(reference, place)
        if isinstance(value, dict):
            self.references.report(place, f"$ref {value['$ref']!r} leads back to itself; let it lead to a definition")
        self.references.checked(value, dict, place)
        return None

    def _tell_of_groups(self) -> None:
        """Note what concerns many operations alike: once for the document, at the first of them."""
        if self._unnamed:
            place, name = self._unnamed[0]
            self.notes.append(
                self.references.problem(
                    place,
                    f"no `operationId` in {_counted(self._unnamed)}: named by method and path, such as {name!r}",
                )
            )
        if self._unreachable:
            place, path = self._unreachable[0]
            self.notes.append(
                self.references.problem(
                    place,
                    f"a query or fragment belongs to the path of {_counted(self._unreachable)}, such as {path!r}: "
                    "no request can be told to be theirs, so they are left out",
                )
            )


def _counted(operations: list[tuple[Place, str]]) -> str:
    return f"{len(operations)} operations" if len(operations) > 1 else "one operation"


def _advice(version: JsonValue) -> str:
    """Return what to write in place of `version`, which is none that is read."""
    if isinstance(version, float) and _READABLE.fullmatch(str(version)):
        patch = 3 if str(version) == "3.0" else 0
        return f'{version} is a number; write it in quotes and with a patch number: "{version}.{patch}"'
    told = f"version {version!r}" if isinstance(version, str | int | float) else "this version"
    return f"{told} is not supported; write 3.1.0"


def _flaw(path: str) -> str | None:
    """Return what is wrong with a documented `path`; None if nothing is."""
    if not path.isprintable():
        return "a path must not hold control characters or others that cannot be seen; take them out"
    if re.search(r"[{}]", _PARAMETER.sub("", path)):
        return "a brace of the path has no partner in its segment; write parameters as {name}"
    return None


def _base_path(url: str, variables: JsonValue) -> str:
    """Return the path of a server's `url`, without a slash at its end; a variable of it stands for whole segments.

    A variable at the very beginning has to stand for the host as well: its default is taken.
    """
    defaults = {
        str(name): str(variable["default"])
        for name, variable in (variables.items() if isinstance(variables, dict) else ())
        if isinstance(variable, dict) and isinstance(variable.get("default"), str | int | float)
    }
    first = _VARIABLE.match(url)
    if first is not None and "//" in defaults.get(first[1], ""):
        url = defaults[first[1]] + url[first.end() :]
    path = re.split(r"[?#]", _AUTHORITY.sub("", url, count=1) if _AUTHORITY.match(url) else url)[0]
    path = _VARIABLE.sub(lambda variable: _segments_of(variable[0], defaults.get(variable[1])), path)
    path = path.strip("/")
    return "/" + path if path else ""


def _segments_of(variable: str, default: str | None) -> str:
    """Return what to compare `variable` with: as many segments as its `default` has."""
    if default is None:
        return variable
    return "/".join([variable] * len([segment for segment in default.split("/") if segment]))


def _links_on(answer: Shape | None) -> bool:
    """Whether an answer may link to a next page: it has a member for that, or is a collection as OData has it.

    OData JSON 4.01, "Collection of Entities": a collection is an object with its elements under `value`, so that an
    array alone has no place for a link.
    """
    if answer is None or answer.array_levels:
        return False
    values = answer.parameters.get("value")
    is_collection = values is not None and (values.shape.array_levels > 0 or "array" in values.shape.types)
    return is_collection or any(name.endswith(_NEXT_LINK) for name in answer.parameters)


def _looked_through(shape: Shape) -> Shape | None:
    """Return the shape of one entity: that of an array's elements, and of those under OData's `value`.

    None where it has no names.
    """
    values = shape.parameters.get("value")
    if (
        values is not None
        and values.shape.array_levels
        and all(name == "value" or name.startswith("@") for name in shape.parameters)
    ):
        shape = values.shape
    return (replace(shape, array_levels=0) if shape.array_levels else shape) if shape.parameters else None
