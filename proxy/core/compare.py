"""Two OpenAPI documents set against each other: what a service's own says that the catalog does not."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from proxy.core.casing import fold
from proxy.core.catalog import route_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from proxy.core.catalog import RouteKey
    from proxy.core.model import JsonValue


class Difference(StrEnum):
    """How the two differ, in the order in which it is told: what the catalog lacks, then where it disagrees."""

    ACTION = "action"
    READ = "read"
    PARAMETER = "parameter"
    PROPERTY = "property"
    NAVIGATION = "navigation"
    VALUE = "value"
    SPELLING = "spelling"
    TYPE = "type"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One difference at one place: an operation of the catalog, a type of the service, or a route.

    `name` is the parameter or property, dotted where it lies deeper and `[]` behind an array, or empty where the
    place itself is meant. `service` and `catalog` hold what each of them says; an empty `catalog` says nothing.
    """

    kind: Difference
    place: str
    name: str
    service: tuple[str, ...]
    catalog: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """All differences in a fixed order, and how much was compared."""

    operations: int
    types: int
    findings: tuple[Finding, ...]

    def __bool__(self) -> bool:
        """Whether anything differs."""
        return bool(self.findings)


def compare(catalog: Iterable[JsonValue], service: JsonValue) -> Comparison:
    """Return what the OpenAPI document `service` says that those of the `catalog` do not, and where they disagree.

    Operations are the same when their routes are. What the catalog says beyond the service is no difference: it
    knows the documentation too, and the service may be newer than the metadata.
    """
    known: dict[RouteKey, _Operation] = {}
    for document in catalog:
        for operation in operations(document):
            known.setdefault(operation.key, operation)
    comparer = _Comparer()
    for operation in operations(service):
        comparer.add(operation, known.get(operation.key))
    return comparer.comparison()


@dataclass(frozen=True, slots=True)
class _Operation:
    """An operation of a document, and the key of one of its routes."""

    key: RouteKey
    name: str
    title: str
    content: Mapping[str, JsonValue]
    document: JsonValue

    @property
    def body(self) -> _Schema:
        body = _resolved(self.content.get("requestBody"), self.document)
        return _Schema.of_content(body, self.document)

    @property
    def answer(self) -> _Schema:
        """Return the schema of what is read: the entity, arrays and OData's `value` looked through."""
        answers = self.content.get("responses")
        answer = next((answers[status] for status in ("200", "201") if status in answers), None) if answers else None
        schema = _Schema.of_content(_resolved(answer, self.document), self.document)
        members = schema.members
        value = members.get("value")
        if value is not None and all(name == "value" or name.startswith("@") for name in members):
            return value.schema
        return schema


def operations(document: JsonValue) -> Iterator[_Operation]:
    """Yield the operations of an OpenAPI document, one for each base path that its servers give it."""
    for path, item in document["paths"].items():
        for method, content in item.items():
            if isinstance(content, dict) and "operationId" in content:
                servers = content.get("servers") or item.get("servers") or document.get("servers") or [{"url": ""}]
                for base in dict.fromkeys(urlsplit(server["url"]).path.rstrip("/") for server in servers):
                    yield _Operation(
                        route_key(method, base + path),
                        content["operationId"],
                        f"{method.upper()} {base}{path}",
                        content,
                        document,
                    )


@dataclass(frozen=True, slots=True)
class _Member:
    """A parameter or property of a schema."""

    schema: _Schema
    is_required: bool = False
    is_navigation: bool = False
    is_derived: bool = False
    accepted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Schema:
    """A schema with what it refers to: the branches that it is made of, those of an array's elements for an array."""

    types: frozenset[str] = frozenset()
    is_array: bool = False
    values: tuple[str, ...] = ()
    component: str | None = None
    """The name of the first component that it refers to."""
    nodes: tuple[Mapping[str, JsonValue], ...] = ()
    required: frozenset[str] = frozenset()
    document: JsonValue = field(default=None, repr=False, compare=False, hash=False)

    @property
    def identity(self) -> frozenset[int]:
        """Return what tells this schema from others that do not have the same members."""
        return frozenset(id(node) for node in self.nodes if "properties" in node)

    @property
    def members(self) -> dict[str, _Member]:
        found: dict[str, _Member] = {}
        for node in self.nodes:
            for name, content in node.get("properties", {}).items():
                found.setdefault(
                    name,
                    _Member(
                        _Schema.of(content, self.document),
                        name in self.required,
                        content.get("x-navigation") is True,
                        content.get("x-derived") is True,
                        tuple(content.get("x-accepted-names", ())),
                    ),
                )
        return found

    @classmethod
    def of_content(cls, holder: JsonValue, document: JsonValue) -> _Schema:
        """Return the JSON schema of a request body or response, empty where there is none."""
        media = holder.get("content", {}).get("application/json", {}) if isinstance(holder, dict) else {}
        return cls.of(media.get("schema"), document)

    @classmethod
    def of(cls, schema: JsonValue, document: JsonValue) -> _Schema:
        nodes: list[Mapping[str, JsonValue]] = []
        types: set[str] = set()
        values: list[str] = []
        required: set[str] = set()
        component: str | None = None
        is_array = False
        seen: set[int] = set()
        # Of alternatives none has to be met; what all of the others ask for has to be there.
        pending: deque[tuple[JsonValue, bool]] = deque([(schema, True)])
        while pending:
            node, is_certain = pending.popleft()
            if not isinstance(node, dict) or id(node) in seen:
                continue
            seen.add(id(node))
            if "$ref" in node:
                component = component or node["$ref"].rpartition("/")[2]
                pending.append((_resolved(node, document), is_certain))
            for keyword, certainty in (("allOf", is_certain), ("anyOf", False), ("oneOf", False)):
                pending += ((branch, certainty) for branch in node.get(keyword, ()))
            if not is_array:
                types |= _types(node)
            if "items" in node:
                is_array = True
                pending.append((node["items"], is_certain))
            nodes.append(node)
            values += (value for value in node.get("enum", ()) if isinstance(value, str))
            required |= set(node.get("required", ())) if is_certain else set()
        return cls(
            frozenset(types), is_array, tuple(dict.fromkeys(values)), component, tuple(nodes), frozenset(required),
            document,
        )  # fmt: skip


def _types(schema: Mapping[str, JsonValue]) -> set[str]:
    stated = schema.get("type", ())
    return {stated} if isinstance(stated, str) else set(stated)


def _resolved(node: JsonValue, document: JsonValue) -> JsonValue:
    """Return what a local `$ref` leads to, or `node` where it holds none; None where it leads nowhere."""
    seen: set[str] = set()
    while isinstance(node, dict) and isinstance(reference := node.get("$ref"), str):
        if reference in seen or not reference.startswith("#/"):
            return None
        seen.add(reference)
        node = document
        for token in reference[2:].split("/"):
            key = unquote(token).replace("~1", "/").replace("~0", "~")
            node = node.get(key) if isinstance(node, dict) else None
    return node


class _Comparer:
    """Gathers the differences, operation by operation; entities are compared at the end, each once."""

    def __init__(self) -> None:
        self._findings: set[Finding] = set()
        self._operations = 0
        self._entities: dict[str, _Schema] = {}
        self._described: dict[str, list[_Schema]] = defaultdict(list)

    def add(self, service: _Operation, catalog: _Operation | None) -> None:
        """Compare one operation of the service with that of the catalog, if it has one."""
        if catalog is None:
            kind = Difference.READ if service.title.startswith("GET ") else Difference.ACTION
            self._find(kind, service.title, "", service.body.members)
            return
        self._operations += 1
        self._bodies(catalog.name, service.body, catalog.body)
        self._pair(service.answer, catalog.answer)

    def comparison(self) -> Comparison:
        """Return everything that was found."""
        for name, schema in self._entities.items():
            self._entity(name, schema, self._described[name])
        order = list(Difference)
        findings = sorted(self._findings, key=lambda finding: (order.index(finding.kind), finding))
        return Comparison(self._operations, len(self._entities), tuple(findings))

    def _find(
        self, kind: Difference, place: str, name: str, service: Iterable[str], catalog: Iterable[str] = ()
    ) -> None:
        self._findings.add(Finding(kind, place, name, tuple(service), tuple(catalog)))

    def _bodies(self, place: str, service: _Schema, catalog: _Schema) -> None:
        seen: set[tuple[frozenset[int], frozenset[int]]] = set()
        pending = [("", service, catalog)]
        while pending:
            path, ours, theirs = pending.pop()
            if (ours.identity, theirs.identity) in seen:
                continue
            seen.add((ours.identity, theirs.identity))
            known = theirs.members
            for name, member in ours.members.items():
                full = path + name
                spelling = _spelling(name, known)
                if spelling is None:
                    if not member.is_navigation:
                        self._find(Difference.PARAMETER, place, full, _kind_of(member.schema))
                    continue
                other = known[spelling]
                if spelling != name:
                    self._find(Difference.SPELLING, place, full, [name], [spelling, *other.accepted])
                self._one(place, full, member.schema, other.schema)
                # Metadata says it of the parameters alone, and not of those that hold a collection.
                if not path and not member.schema.is_array and member.is_required != other.is_required:
                    said = "required" if member.is_required else "may be null or left out"
                    self._find(
                        Difference.REQUIRED, place, full, [said], ["required" if other.is_required else "not required"]
                    )
                pending.append((f"{full}[]." if member.schema.is_array else f"{full}.", member.schema, other.schema))

    def _one(self, place: str, name: str, service: _Schema, catalog: _Schema) -> None:
        """Compare the types and the values of one parameter or property."""
        if service.types and catalog.types and not service.types <= _widened(catalog.types):
            self._find(Difference.TYPE, place, name, sorted(service.types), sorted(catalog.types))
        by_fold = {fold(value): value for value in reversed(catalog.values)}
        missing = [value for value in service.values if value not in catalog.values]
        for value in missing:
            if fold(value) in by_fold:
                self._find(Difference.SPELLING, place, name, [value], [by_fold[fold(value)]])
        new = [value for value in missing if fold(value) not in by_fold]
        if new:
            self._find(Difference.VALUE, place, name, new, catalog.values)

    def _pair(self, service: _Schema, catalog: _Schema) -> None:
        """Note for an entity of the service, and what hangs on it, which schemas of the catalog describe it."""
        seen: set[tuple[str, frozenset[int]]] = set()
        pending = [(service, catalog)]
        while pending:
            ours, theirs = pending.pop()
            if ours.component is None or not ours.members or (ours.component, theirs.identity) in seen:
                continue
            seen.add((ours.component, theirs.identity))
            self._entities.setdefault(ours.component, ours)
            known = theirs.members
            if not known:
                continue
            self._described[ours.component].append(theirs)
            for name, member in ours.members.items():
                spelling = _spelling(name, known)
                if spelling is not None:
                    pending.append((member.schema, known[spelling].schema))

    def _entity(self, place: str, service: _Schema, described: list[_Schema]) -> None:
        members = service.members
        known: dict[str, list[_Member]] = defaultdict(list)
        for schema in described:
            for name, member in schema.members.items():
                known[name].append(member)
        by_name = {name: others[0] for name, others in known.items()}
        missing: dict[Difference, list[str]] = {Difference.PROPERTY: [], Difference.NAVIGATION: []}
        for name, member in members.items():
            spelling = _spelling(name, by_name)
            if spelling is None:
                if not member.is_derived:
                    missing[Difference.NAVIGATION if member.is_navigation else Difference.PROPERTY].append(name)
                continue
            if spelling != name:
                self._find(Difference.SPELLING, place, name, [name], [spelling, *by_name[spelling].accepted])
            for other in known[spelling]:
                self._one(place, name, member.schema, other.schema)
        for kind, names in missing.items():
            if names:
                self._find(kind, place, "", names, by_name)


def _spelling(name: str, known: Mapping[str, _Member]) -> str | None:
    """Return the name under which `known` has what is called `name`, letter case aside."""
    if name in known:
        return name
    for other, member in known.items():
        if name in member.accepted or fold(other) == fold(name):
            return other
    return None


_WIDER: Final = {"number": "integer"}


def _widened(types: frozenset[str]) -> frozenset[str]:
    """Return `types` with those that they include."""
    return types | {_WIDER[name] for name in types if name in _WIDER}


def _kind_of(schema: _Schema) -> tuple[str, ...]:
    """Return what to say of a parameter that is not known at all: its values, else its type."""
    return schema.values or tuple(sorted(schema.types))
