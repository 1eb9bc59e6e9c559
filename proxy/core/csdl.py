"""OData metadata: what a service says of itself in CSDL, as a catalog document.

Sources: OASIS, "OData CSDL XML Representation 4.01" (the elements read here), "OData URL Conventions 4.01" (the
routes; keys are segments of their own, as in the Defender APIs, and bound operations go by their unqualified names)
and "OData JSON Format 4.01" (the bodies).
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING, Final

from proxy.core.catalog import route_key

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from xml.etree.ElementTree import Element

    from proxy.core.catalog import RouteKey
    from proxy.core.model import JsonValue

EDMX: Final = "{http://docs.oasis-open.org/odata/ns/edmx}"
EDM: Final = "{http://docs.oasis-open.org/odata/ns/edm}"
_BEFORE_4: Final = "{http://schemas.microsoft.com/ado/"

_OPTIONAL: Final = "Org.OData.Core.V1.OptionalParameter"

# CSDL 4.01, 15.2: a letter or underscore, then at most 127 more, digits included.
_IDENTIFIER: Final = re.compile(r"[^\W\d]\w{0,127}")
_NAMESPACE: Final = re.compile(r"[^\W\d]\w{0,127}(?:\.[^\W\d]\w{0,127})*")
_COLLECTION: Final = re.compile(r"Collection\((.*)\)", re.DOTALL)
_NOT_IN_A_KEY: Final = re.compile(r"[^A-Za-z0-9._-]")

# What no service comes near, and no file may make us exceed.
_BASES_AT_MOST: Final = 50
_OPERATIONS_AT_MOST: Final = 50_000  # each parameter of one counted like one more
_PROPERTIES_AT_MOST: Final = 200_000  # a type without any counts like one
_NOTES_AT_MOST: Final = 1_000

_INTEGER: Final = {"type": "integer"}
_STRING: Final = {"type": "string"}
_FROM_METADATA: Final = {"x-source": "metadata"}
_OBJECT: Final = {"type": "object", "additionalProperties": True}

# OData JSON Format 4.01, 7.1. Types that stand for any value (Edm.Untyped, Edm.PrimitiveType) have no schema.
_PRIMITIVES: Final[Mapping[str, Mapping[str, JsonValue]]] = {
    "Edm.Binary": _STRING,
    "Edm.Boolean": {"type": "boolean"},
    "Edm.Byte": _INTEGER,
    "Edm.Date": _STRING | {"format": "date"},
    "Edm.DateTimeOffset": _STRING | {"format": "date-time"},
    "Edm.Decimal": {"type": "number"},
    "Edm.Double": {"type": "number"},
    "Edm.Duration": _STRING | {"format": "duration"},
    "Edm.Guid": _STRING | {"format": "uuid"},
    "Edm.Int16": _INTEGER,
    "Edm.Int32": _INTEGER,
    "Edm.Int64": _INTEGER,
    "Edm.SByte": _INTEGER,
    "Edm.Single": {"type": "number"},
    "Edm.String": _STRING,
    "Edm.TimeOfDay": _STRING,
    "Edm.ComplexType": _OBJECT,
    "Edm.EntityType": _OBJECT,
}


class CsdlError(Exception):
    """The document describes no service; `element` is where that shows."""

    def __init__(self, message: str, element: Element) -> None:
        super().__init__(message)
        self.element = element


@dataclass(frozen=True, slots=True)
class Note:
    """A part of the document that could not be used, and why."""

    message: str
    element: Element


@dataclass(frozen=True, slots=True)
class TypeName:
    """A type by its qualified name, aliases resolved; or a collection of it."""

    name: str
    is_collection: bool = False


@dataclass(frozen=True, slots=True)
class Property:
    """A property of a type: what it holds, and whether it leads to other entities."""

    type: TypeName
    is_navigation: bool = False


@dataclass(frozen=True, slots=True)
class Structured:
    """An entity type or a complex type, without what it inherits."""

    base: str | None
    is_open: bool
    properties: Mapping[str, Property]
    key: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Enumeration:
    """An enumeration type; of one with flags, several members may stand in one value."""

    members: tuple[str, ...]
    has_flags: bool


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of an action or function.

    `is_required` is true where it may be neither null nor left out. A collection never is: CSDL does not say
    whether one may be left out.
    """

    type: TypeName
    is_required: bool


@dataclass(frozen=True, slots=True)
class Procedure:
    """An action or a function; `binding` is what it is bound to, and not among its parameters."""

    name: str
    is_action: bool
    binding: TypeName | None
    parameters: Mapping[str, Parameter]
    returns: TypeName | None
    element: Element


@dataclass(slots=True)
class Service:
    """All that a CSDL document says and the catalog can use. Types and procedures go by their qualified names."""

    root: Element
    namespaces: list[str] = field(default_factory=list)
    structured: dict[str, Structured] = field(default_factory=dict)
    enumerations: dict[str, Enumeration] = field(default_factory=dict)
    definitions: dict[str, str] = field(default_factory=dict)
    procedures: dict[str, list[Procedure]] = field(default_factory=lambda: defaultdict(list))
    entity_sets: dict[str, str] = field(default_factory=dict)
    singletons: dict[str, str] = field(default_factory=dict)
    imports: dict[str, str] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Translation:
    """A catalog document, what is in it and what was left out of it: operations as `METHOD /path`."""

    document: dict[str, JsonValue]
    written: tuple[str, ...]
    left_out: tuple[str, ...]
    notes: tuple[Note, ...]


def read_service(root: Element) -> Service:
    """Return what the CSDL document below `root` says; parts that are faulty are left out and noted.

    Raises:
        CsdlError: it is no CSDL document of OData 4, or describes nothing that can be called.
    """
    return _Reader(root).service


def translate(
    service: Service, prefix: str, *, known: Collection[RouteKey] = (), taken: Iterable[str] = ()
) -> Translation:
    """Return the catalog document that `service` amounts to, its routes below `prefix`.

    Operations whose `route_key` is in `known` are left out; the names in `taken` are not given to others.

    Raises:
        CsdlError: the document describes more operations or properties than any service has.
    """
    return _Translator(service, prefix, known, taken).translation


class _Reader:
    """Reads one document. It goes to fixed places only, so the depth of the document does not matter."""

    def __init__(self, root: Element) -> None:
        self.service = Service(root)
        self._elements: dict[str, Element] = {}
        self._uses: dict[str, Element] = {}
        schemas = _schemas(root)
        self._aliases = _aliases(root, schemas)
        for schema in schemas:
            namespace = schema.get("Namespace", "")
            if _NAMESPACE.fullmatch(namespace):
                self.service.namespaces.append(namespace)
                self._types(schema, namespace)
            else:
                self._note(schema, f"its Namespace {_shown(namespace)} is none: the schema is left out")
        self._leave_circles()
        for schema in schemas:
            if schema.get("Namespace", "") in self.service.namespaces:
                self._procedures(schema, schema.get("Namespace", ""))
        # The names of a container are looked up last, when everything that they may refer to is known.
        for schema in schemas:
            for container in schema.findall(EDM + "EntityContainer"):
                self._container(container)
        for name, element in self._uses.items():
            if name not in self._elements and not name.startswith("Edm."):
                self._note(element, f"its Type {_shown(name)} is not in the document: it may hold anything")
        service = self.service
        if not (service.entity_sets or service.singletons or service.imports):
            raise CsdlError(
                "describes no entity set and nothing else that can be called; save the whole answer to "
                "GET /api/$metadata",
                root,
            )

    def _types(self, schema: Element, namespace: str) -> None:
        for element in schema:
            kind = element.tag.removeprefix(EDM)
            if kind not in {"EntityType", "ComplexType", "EnumType", "TypeDefinition"}:
                continue
            name = self._name(element)
            if name is None:
                continue
            qualified = f"{namespace}.{name}"
            if qualified in self._elements:
                self._note(element, f"{qualified} is there twice: only the first is used")
                continue
            self._elements[qualified] = element
            match kind:
                case "EnumType":
                    members = [
                        member for child in element.findall(EDM + "Member") if (member := self._name(child)) is not None
                    ]
                    self.service.enumerations[qualified] = Enumeration(
                        tuple(dict.fromkeys(members)), _is_true(element.get("IsFlags"))
                    )
                case "TypeDefinition":
                    self.service.definitions[qualified] = element.get("UnderlyingType", "")
                case _:
                    self.service.structured[qualified] = self._structured(element)

    def _structured(self, element: Element) -> Structured:
        properties: dict[str, Property] = {}
        for child in element:
            if child.tag not in {EDM + "Property", EDM + "NavigationProperty"}:
                continue
            name = self._name(child)
            if name is None:
                continue
            if name in properties:
                self._note(child, f"{name} is there twice: only the first is used")
                continue
            properties[name] = Property(self._type(child), child.tag == EDM + "NavigationProperty")
        base = element.get("BaseType")
        # An alias is given to a part of the key that lies deeper; that part has no other name.
        references = element.findall(f"{EDM}Key/{EDM}PropertyRef")
        key = tuple(reference.get("Alias") or reference.get("Name") or "" for reference in references)
        if not all(map(_IDENTIFIER.fullmatch, key)):
            self._note(element, "its Key is none: the single entity has no route")
            key = ()
        return Structured(
            self._resolved(base) if base is not None else None, _is_true(element.get("OpenType")), properties, key
        )

    def _leave_circles(self) -> None:
        """Cut off what a type inherits where that is unknown, or itself, or too long a story."""
        structured = self.service.structured
        depths: dict[str, int] = {}
        for start in structured:
            chain: dict[str, None] = {}
            name: str | None = start
            while name is not None and name not in depths and name not in chain:
                chain[name] = None
                base = structured[name].base
                if base is not None and base not in structured:
                    self._note(self._elements[name], f"its BaseType {_shown(base)} is not in the document")
                    self._cut(name)
                    base = None
                name = base
            if name is not None and name in chain:
                self._note(self._elements[name], f"{name} inherits from itself")
                self._cut(next(reversed(chain)))
                name = None
            depth = depths[name] if name is not None else -1
            for link in reversed(chain):
                depth += 1
                if depth > _BASES_AT_MOST:
                    self._note(self._elements[link], f"{link} has more than {_BASES_AT_MOST} base types")
                    self._cut(link)
                    depth = 0
                depths[link] = depth

    def _cut(self, name: str) -> None:
        old = self.service.structured[name]
        self.service.structured[name] = Structured(None, old.is_open, old.properties, old.key)

    def _procedures(self, schema: Element, namespace: str) -> None:
        for element in schema:
            if element.tag not in {EDM + "Action", EDM + "Function"}:
                continue
            name = self._name(element)
            if name is None:
                continue
            parameters: dict[str, Parameter] = {}
            binding: TypeName | None = None
            for index, child in enumerate(element.findall(EDM + "Parameter")):
                if index == 0 and _is_true(element.get("IsBound")):
                    binding = self._type(child)
                elif (parameter := self._name(child)) is not None and parameter not in parameters:
                    parameters[parameter] = self._parameter(child)
            if binding is None and _is_true(element.get("IsBound")):
                self._note(element, f"{name} is bound to nothing: it has no first parameter")
                continue
            returned = element.find(EDM + "ReturnType")
            self.service.procedures[f"{namespace}.{name}"].append(
                Procedure(
                    name,
                    element.tag == EDM + "Action",
                    binding,
                    parameters,
                    self._type(returned) if returned is not None else None,
                    element,
                )
            )

    def _parameter(self, element: Element) -> Parameter:
        type_name = self._type(element)
        terms = (annotation.get("Term", "") for annotation in element.findall(EDM + "Annotation"))
        is_optional = any(self._resolved(term) == _OPTIONAL for term in terms)
        # Absence of Nullable means true. For a collection it speaks of the elements (CSDL 4.01, 12.9).
        is_nullable = _is_true(element.get("Nullable", "true"))
        return Parameter(type_name, not (is_optional or is_nullable or type_name.is_collection))

    def _container(self, container: Element) -> None:
        service = self.service
        rows: dict[str, tuple[dict[str, str], str, Collection[str]]] = {
            EDM + "EntitySet": (service.entity_sets, "EntityType", service.structured),
            EDM + "Singleton": (service.singletons, "Type", service.structured),
            EDM + "ActionImport": (service.imports, "Action", service.procedures),
            EDM + "FunctionImport": (service.imports, "Function", service.procedures),
        }
        for element in container:
            if element.tag not in rows or (name := self._name(element)) is None:
                continue
            names, reference, known = rows[element.tag]
            target = self._resolved(element.get(reference, ""))
            if target not in known:
                self._note(element, f"{name} is left out: its {reference} {_shown(target)} is not in the document")
            elif names.setdefault(name, target) != target:
                self._note(element, f"{name} is there twice: only the first is used")

    def _name(self, element: Element) -> str | None:
        name = element.get("Name", "")
        if _IDENTIFIER.fullmatch(name):
            return name
        self._note(element, f"its Name {_shown(name)} is none: it is left out")
        return None

    def _type(self, element: Element) -> TypeName:
        text = element.get("Type", "")
        collection = _COLLECTION.fullmatch(text)
        name = self._resolved(collection[1] if collection else text)
        self._uses.setdefault(name, element)
        return TypeName(name, collection is not None)

    def _resolved(self, name: str) -> str:
        """Return a qualified name with the namespace in place of its alias."""
        qualifier, dot, last = name.strip().rpartition(".")
        return f"{self._aliases.get(qualifier, qualifier)}{dot}{last}"

    def _note(self, element: Element, message: str) -> None:
        if len(self.service.notes) < _NOTES_AT_MOST:
            self.service.notes.append(Note(message, element))


def _schemas(root: Element) -> list[Element]:
    if root.tag.startswith(_BEFORE_4):
        raise CsdlError("is metadata of OData 3 or older; only OData 4 is read", root)
    if root.tag == EDM + "Schema":
        return [root]
    if root.tag != EDMX + "Edmx":
        raise CsdlError(f"is no OData metadata: its root is {_shown(_local(root.tag))}, not edmx:Edmx", root)
    version = root.get("Version", "")
    if version.partition(".")[0] != "4":
        raise CsdlError(f"is metadata of OData {_shown(version)}; only OData 4 is read", root)
    within = [child for services in root.findall(EDMX + "DataServices") for child in services]
    schemas = [child for child in within if child.tag == EDM + "Schema"]
    if not schemas:
        if any(child.tag.startswith(_BEFORE_4) for child in within):
            raise CsdlError("is metadata of OData 3 or older; only OData 4 is read", within[0])
        raise CsdlError("holds no Schema; save the whole answer to GET /api/$metadata", root)
    return schemas


def _aliases(root: Element, schemas: list[Element]) -> dict[str, str]:
    """Return the namespaces by alias: those of the schemas and those of the documents that this one refers to."""
    includes = root.findall(f"{EDMX}Reference/{EDMX}Include")
    return {alias: element.get("Namespace", "") for element in (*includes, *schemas) if (alias := element.get("Alias"))}


def _is_true(text: str | None) -> bool:
    return text is not None and text.strip() == "true"


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def _shown(text: str) -> str:
    """Return a stranger's text fit for a message: quoted, and not long."""
    return repr(text if len(text) <= _SHOWN_AT_MOST else text[:_SHOWN_AT_MOST] + "…")


_SHOWN_AT_MOST: Final = 60


@dataclass(frozen=True, slots=True)
class _Route:
    """An operation to be: where it is, what it is called, what goes in and what comes out."""

    method: str
    path: str
    name: str
    tag: str
    summary: str
    path_parameters: Mapping[str, TypeName]
    body: Mapping[str, Parameter] | None = None
    returns: TypeName | None = None

    @property
    def title(self) -> str:
        return f"{self.method.upper()} {self.path}"


class _Translator:
    """Makes routes of what a service says, then a document of the routes."""

    def __init__(self, service: Service, prefix: str, known: Collection[RouteKey], taken: Iterable[str]) -> None:
        self._service = service
        self._prefix = prefix
        self._derived: dict[str, list[str]] = defaultdict(list)
        for name, structured in service.structured.items():
            if structured.base is not None:
                self._derived[structured.base].append(name)
        self._bound: dict[TypeName, list[Procedure]] = defaultdict(list)
        for procedures in service.procedures.values():
            for procedure in procedures:
                if procedure.binding is not None:
                    self._bound[procedure.binding].append(procedure)
        self._components = _component_names(service)
        self._properties = 0
        routes: dict[RouteKey, _Route] = {}
        for route in sorted(self._routes(), key=lambda route: (route.path.lower(), route.path, route.method)):
            routes.setdefault(route_key(route.method, route.path), route)
        named = list(_with_own_names(routes.values(), {*taken, "unknown"}))
        wanted = [route for route in named if route_key(route.method, route.path) not in known]
        left_out = [route.title for route in named if route_key(route.method, route.path) in known]
        self.translation = Translation(
            self._document(wanted, len(left_out)),
            tuple(route.title for route in wanted),
            tuple(left_out),
            tuple(self._unreachable()),
        )

    def _routes(self) -> Iterator[_Route]:
        total = 0
        for route in self._all_routes():
            total += 1 + len(route.path_parameters) + len(route.body or ())
            if total > _OPERATIONS_AT_MOST:
                raise CsdlError(
                    f"describes more than {_OPERATIONS_AT_MOST} operations and parameters, as no service does",
                    self._service.root,
                )
            yield route

    def _all_routes(self) -> Iterator[_Route]:
        service = self._service
        for name, type_name in service.entity_sets.items():
            path = f"{self._prefix}/{name}"
            many, single = TypeName(type_name, is_collection=True), TypeName(type_name)
            yield _Route("get", path, f"{name}_List", name, f"List {name}", {}, returns=many)
            yield from self._procedure_routes(many, path, name, {})
            item, keys = self._item(path, type_name)
            if keys:
                yield _Route("get", item, f"{name}_Get", name, f"Get one of {name}", keys, returns=single)
                yield from self._procedure_routes(single, item, name, keys)
        for name, type_name in service.singletons.items():
            path = f"{self._prefix}/{name}"
            yield _Route("get", path, f"{name}_Get", name, f"Get {name}", {}, returns=TypeName(type_name))
            yield from self._procedure_routes(TypeName(type_name), path, name, {})
        for name, target in service.imports.items():
            for procedure in service.procedures[target]:
                if procedure.binding is None:
                    yield self._call(procedure, f"{self._prefix}/{name}", name, name, {})

    def _item(self, path: str, type_name: str) -> tuple[str, dict[str, TypeName]]:
        """Return the path of a single entity, with its key as segments, and the types of these."""
        lineage = list(self._lineage(type_name))
        key = next((structured.key for structured in lineage if structured.key), ())
        types = {name: of.type for structured in reversed(lineage) for name, of in structured.properties.items()}
        return path + "".join(f"/{{{name}}}" for name in key), {
            name: types.get(name, TypeName("Edm.String")) for name in key
        }

    def _procedure_routes(
        self, binding: TypeName, path: str, tag: str, keys: Mapping[str, TypeName]
    ) -> Iterator[_Route]:
        """Yield what may be called at `path`, which holds `binding`; what a base type has is inherited."""
        name: str | None = binding.name
        while name is not None:
            for procedure in self._bound[TypeName(name, binding.is_collection)]:
                yield self._call(procedure, f"{path}/{procedure.name}", f"{tag}_{procedure.name}", tag, keys)
            name = self._service.structured[name].base

    def _call(self, procedure: Procedure, path: str, name: str, tag: str, keys: Mapping[str, TypeName]) -> _Route:
        summary = f"{'Action' if procedure.is_action else 'Function'} {procedure.name}"
        if procedure.is_action:
            return _Route("post", path, name, tag, summary, keys, procedure.parameters, procedure.returns)
        # URL Conventions 4.01, "Primitive Literals": strings, and enumerated values since 4.01, stand in quotes.
        parameters = dict(keys)
        arguments: list[str] = []
        for argument, parameter in procedure.parameters.items():
            placeholder = argument
            while placeholder in parameters:
                placeholder += "_"
            parameters[placeholder] = parameter.type
            value = f"{{{placeholder}}}"
            arguments.append(f"{argument}='{value}'" if self._is_quoted(parameter.type) else f"{argument}={value}")
        path += f"({','.join(arguments)})" if arguments else ""
        return _Route("get", path, name, tag, summary, parameters, returns=procedure.returns)

    def _is_quoted(self, type_name: TypeName) -> bool:
        name = self._service.definitions.get(type_name.name, type_name.name)
        return not type_name.is_collection and (name == "Edm.String" or name in self._service.enumerations)

    def _unreachable(self) -> Iterator[Note]:
        """Yield a note on each bound procedure without a route: no entity set holds what it is bound to."""
        held: set[str] = set()
        for start in (*self._service.entity_sets.values(), *self._service.singletons.values()):
            name: str | None = start
            while name is not None and name not in held:
                held.add(name)
                name = self._service.structured[name].base
        for binding, procedures in self._bound.items():
            if binding.name not in held:
                for procedure in procedures:
                    message = f"{procedure.name} is left out: no entity set holds {_shown(binding.name)}"
                    yield Note(message, procedure.element)

    def _lineage(self, name: str | None) -> Iterator[Structured]:
        """Yield a type and its base types."""
        while name is not None:
            yield self._service.structured[name]
            name = self._service.structured[name].base

    def _document(self, routes: list[_Route], left_out: int) -> dict[str, JsonValue]:
        paths: dict[str, JsonValue] = {}
        used: list[str] = []
        for route in routes:
            item = paths.setdefault(route.path, {})
            if route.path_parameters:
                item["parameters"] = [
                    {"name": name, "in": "path", "required": True, "schema": self._schema(type_name, used)}
                    for name, type_name in route.path_parameters.items()
                ]
            item[route.method] = self._operation(route, used)
        schemas: dict[str, JsonValue] = {}
        while used:
            name = used.pop()
            component = self._components[name]
            if component not in schemas:
                schemas[component] = {}
                schemas[component] = self._component(name, used)
        return {
            "openapi": "3.1.0",
            "info": {
                "title": f"OData service {', '.join(self._service.namespaces)}",
                "version": "1.0.0",
                "description": _description(len(routes), left_out),
            },
            "paths": paths,
            "components": {"schemas": dict(sorted(schemas.items()))},
        }

    def _operation(self, route: _Route, used: list[str]) -> dict[str, JsonValue]:
        operation: dict[str, JsonValue] = {"operationId": route.name, "summary": route.summary, "tags": [route.tag]}
        if route.body:
            required = [name for name, parameter in route.body.items() if parameter.is_required]
            schema: dict[str, JsonValue] = {"type": "object"}
            if required:
                schema["required"] = required
            schema["properties"] = {
                name: self._schema(parameter.type, used) | _FROM_METADATA for name, parameter in route.body.items()
            }
            operation["requestBody"] = {
                "required": bool(required),
                "content": {"application/json": {"schema": schema}},
            }
        if route.returns is None:
            operation["responses"] = {"204": {"description": "Done."}}
        else:
            content = {"application/json": {"schema": self._answer(route.returns, used)}}
            operation["responses"] = {"200": {"description": "Done.", "content": content}}
        return operation

    def _answer(self, returns: TypeName, used: list[str]) -> dict[str, JsonValue]:
        """Return the schema of an answer: all but single objects stand in a member `value`."""
        schema = self._schema(returns, used)
        if not returns.is_collection and returns.name in self._service.structured:
            return schema
        return {"type": "object", "properties": {"value": schema}}

    def _schema(self, type_name: TypeName, used: list[str]) -> dict[str, JsonValue]:
        """Return the schema of a value; a type that it refers to is entered in `used`."""
        name = self._service.definitions.get(type_name.name, type_name.name)
        if name in self._components:
            used.append(name)
            schema: dict[str, JsonValue] = {"$ref": f"#/components/schemas/{self._components[name]}"}
        else:
            schema = dict(_PRIMITIVES.get(name, {}))
        return {"type": "array", "items": schema} if type_name.is_collection else schema

    def _component(self, name: str, used: list[str]) -> dict[str, JsonValue]:
        enumeration = self._service.enumerations.get(name)
        if enumeration is not None:
            flags = {"description": "Several, joined by commas, make one value too."} if enumeration.has_flags else {}
            return flags | _STRING | ({"enum": list(enumeration.members)} if enumeration.members else {})
        # A value of a type may be one of a type derived from it: so the names of those are known in its place too.
        own, derived = list(self._counted(self._lineage(name))), list(self._counted(self._descendants(name)))
        variants: dict[str, dict[str, dict[str, JsonValue]]] = defaultdict(dict)
        marks: dict[str, dict[str, JsonValue]] = {}
        for index, structured in enumerate((*reversed(own), *derived)):
            for property_name, of in structured.properties.items():
                schema = self._schema(of.type, used)
                variants[property_name].setdefault(str(schema), schema)
                mark = {"x-navigation": True} if of.is_navigation else {}
                marks.setdefault(property_name, mark | ({"x-derived": True} if index >= len(own) else {}))
        # OData JSON Format 4.01, 4.6.3: by this member the derived type is told.
        properties: dict[str, JsonValue] = {"@odata.type": _STRING | {"x-derived": True}} if derived else {}
        for property_name, schemas in variants.items():
            first, *others = schemas.values()
            schema = {"anyOf": [first, *others]} if others else first
            properties[property_name] = schema | _FROM_METADATA | marks[property_name]
        is_open = any(structured.is_open for structured in (*own, *derived))
        return {"type": "object", "properties": properties} | ({"additionalProperties": True} if is_open else {})

    def _descendants(self, name: str) -> Iterator[Structured]:
        """Yield the types derived from the one named, however far."""
        pending = [*reversed(self._derived[name])]
        while pending:
            descendant = pending.pop()
            yield self._service.structured[descendant]
            pending += reversed(self._derived[descendant])

    def _counted(self, types: Iterable[Structured]) -> Iterator[Structured]:
        """Yield `types`. What they hold is copied into every type that inherits it, so a small file can hold much."""
        for structured in types:
            self._properties += max(len(structured.properties), 1)
            if self._properties > _PROPERTIES_AT_MOST:
                raise CsdlError(
                    f"describes types with more than {_PROPERTIES_AT_MOST} properties, each counted again where it is "
                    "inherited, as no service does; leave only the entity sets in the file that you need",
                    self._service.root,
                )
            yield structured


def _with_own_names(routes: Iterable[_Route], taken: set[str]) -> Iterator[_Route]:
    """Yield `routes`, each with a name of its own: overloads get the names of their arguments, or a number."""
    numbers: dict[str, Iterator[int]] = defaultdict(lambda: count(2))
    for route in routes:
        name = route.name
        if name in taken:
            name = "_".join((name, *(parameter.strip("_") for parameter in route.path_parameters)))
        while name in taken:
            name = f"{route.name}_{next(numbers[route.name])}"
        taken.add(name)
        yield replace(route, name=name)


def _component_names(service: Service) -> dict[str, str]:
    """Return the name of each type in the document: the last part of its own where no other type has that."""
    names = [*service.structured, *service.enumerations]
    by_last: dict[str, list[str]] = defaultdict(list)
    for name in names:
        by_last[_component_name(name.rpartition(".")[2])].append(name)
    components: dict[str, str] = {}
    taken = {last for last, sharing in by_last.items() if len(sharing) == 1}
    numbers: dict[str, Iterator[int]] = defaultdict(lambda: count(2))
    for last, sharing in by_last.items():
        for name in sharing:
            whole = _component_name(name)
            component = last if len(sharing) == 1 else whole
            while len(sharing) > 1 and component in taken:
                component = f"{whole}_{next(numbers[whole])}"
            taken.add(component)
            components[name] = component
    return components


def _component_name(name: str) -> str:
    # OpenAPI 3.1, 4.8.7.1: the keys of components are of these characters.
    return _NOT_IN_A_KEY.sub("_", name)


def _description(written: int, left_out: int) -> str:
    more = f"{left_out} more {'is' if left_out == 1 else 'are'}"
    elsewhere = f" {more} in the catalog that ships with it, and left out here." if left_out else ""
    there = f"{written} operation{'s' * (written != 1)}"
    return (
        "Made by `defender-sidecar catalog import-metadata` from the service's own OData metadata: "
        f"{there}.{elsewhere} Entities are read by GET; metadata does not say which of them can be created, changed "
        "or deleted, so POST, PATCH and DELETE of entities are not described. Whether a value may be null is left out. "
        "`x-navigation` marks what leads to other entities, `x-derived` what only derived types have."
    )
