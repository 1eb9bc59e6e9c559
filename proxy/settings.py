"""Settings: read once from defaults, file, environment and flags, with every problem told at once.

Owns the keys and their defaults; all that the rest of the proxy needs to know of settings is to be had from here.
`load_settings` is the one way in: it reads the file and otherwise only what it is handed. Constructing `Settings`
directly reads nothing at all.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from proxy.core.model import Mode
from proxy.settings_layers import (
    CONFIG_VARIABLE,
    DEFAULT,
    ELSEWHERE,
    Found,
    Given,
    Order,
    read_environment,
    read_file,
    read_flags,
)
from proxy.settings_problems import FILES, OPERATIONS, PATHS, Key, Keys, Loc, Problem, SettingsError, dotted, scalar
from proxy.settings_values import (
    USUAL_ADDRESS,
    Address,
    Bytes,
    BytesOrNoLimit,
    CheckMode,
    Count,
    CountOrNoLimit,
    Delay,
    FieldName,
    Files,
    Format,
    Level,
    ListenAddress,
    LogFormat,
    LogLevel,
    OperationModes,
    OtlpEndpoint,
    PemFile,
    Seconds,
    Truth,
    UpstreamUrl,
    is_path,
)

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

__all__ = [
    "CATALOG_FILES",
    "CONFIG_VARIABLE",
    "Address",
    "CatalogSettings",
    "CheckSettings",
    "DownstreamSettings",
    "DrainSettings",
    "ErrorSettings",
    "HeaderSettings",
    "LimitSettings",
    "Loaded",
    "Loc",
    "LogFormat",
    "LogLevel",
    "LogSettings",
    "Problem",
    "ReloadSettings",
    "RewriteSettings",
    "Settings",
    "SettingsError",
    "TlsSettings",
    "TracingSettings",
    "UpstreamSettings",
    "changed_keys",
    "describe",
    "load_settings",
    "settings_schema",
]


CATALOG_FILES = FILES
"""The key under which the documents of the catalog stand."""


# The keys.


class _ClashError(ValueError):
    """Two keys hold what must be different; `other` is the one that was read first."""

    def __init__(self, other: Key) -> None:
        self.other = other
        super().__init__(f"must differ from {dotted(other)}")


class _AloneError(ValueError):
    """Two keys of which one is no use without the other; `given` is the one that is there."""

    def __init__(self, given: Key, missing: Key) -> None:
        self.given = given
        super().__init__(f"must have {dotted(missing)} beside it: a certificate and its private key are used together")


def _together(section: str, certificate: str, value: Path | None, info: ValidationInfo) -> Path | None:
    """Return a key's path, given or not like that of its certificate, the key `certificate`."""
    if certificate in info.data and (info.data[certificate] is None) != (value is None):
        pair = (section, certificate), (section, info.field_name or "")
        raise _AloneError(*(pair if value is None else reversed(pair)))
    return value


class _Section(BaseModel):
    """A mapping of the settings file: frozen, with no keys but its own, and silent about what it was given."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True)


class TlsSettings(_Section):
    """What clients are met with; without a certificate, they connect in plain."""

    certificate: PemFile = Field(
        default=None, description="Path of the certificate, and those that lead to its authority, for clients; PEM."
    )
    key: PemFile = Field(default=None, description="Path of the certificate's private key, not encrypted; PEM.")

    @field_validator("key")
    @classmethod
    def _has_certificate(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        return _together("tls", "certificate", value, info)


class UpstreamSettings(_Section):
    """The API behind the proxy and the connections to it."""

    url: UpstreamUrl = Field(
        default="https://api.security.microsoft.com",
        description="Where requests go: scheme, host and, where it is not the usual one, port. TLS is verified.",
    )
    connect_timeout_s: Seconds = Field(default=10.0, description="Seconds for a connection with its TLS handshake.")
    response_timeout_s: Seconds = Field(
        default=660.0, description="Seconds until the response's head; advanced hunting runs for ten minutes."
    )
    idle_timeout_s: Seconds = Field(default=60.0, description="Seconds that a response body may pause.")
    keepalive_timeout_s: Seconds = Field(
        default=15.0, description="Seconds after which an idle pooled connection is closed."
    )
    max_connections: Count = Field(default=100, description="Connections to the upstream at one time.")
    proxy_from_environment: Truth = Field(
        default=False, description="Reach the upstream by the egress proxy that HTTPS_PROXY and NO_PROXY name."
    )
    ca_file: PemFile = Field(
        default=None, description="Path of the certificates to verify the upstream by, in place of the system's; PEM."
    )
    client_certificate: PemFile = Field(
        default=None, description="Path of the certificate to show to an upstream that asks for one; PEM."
    )
    client_key: PemFile = Field(
        default=None, description="Path of the client certificate's private key, not encrypted; PEM."
    )

    @field_validator("client_key")
    @classmethod
    def _has_certificate(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        return _together("upstream", "client_certificate", value, info)


class DownstreamSettings(_Section):
    """The clients' side."""

    header_timeout_s: Seconds = Field(
        default=10.0, description="Seconds for a whole request head, and for the first byte of a new connection."
    )
    body_timeout_s: Seconds = Field(default=30.0, description="Seconds that a request body may pause.")
    write_timeout_s: Seconds = Field(
        default=30.0, description="Seconds without progress towards a client that does not read."
    )
    keepalive_timeout_s: Seconds = Field(
        default=75.0, description="Seconds after which a client's idle connection is closed."
    )
    max_connections: Count = Field(default=1024, description="Clients' connections at one time.")
    max_in_flight: Count = Field(default=512, description="Exchanges at one time.")


class LimitSettings(_Section):
    """The largest request that is taken."""

    target_bytes: Bytes = Field(default=16384, description="Bytes of a request target: path and query.")
    field_bytes: Bytes = Field(default=32768, description="Bytes of one header field; tokens are long.")
    head_bytes: Bytes = Field(default=65536, description="Bytes of a whole request head.")
    fields: Count = Field(default=256, description="Header fields of a request.")
    body_bytes: BytesOrNoLimit = Field(default=0, description="Bytes of a request body; 0 for no limit.")


class CheckSettings(_Section):
    """The check of a body's parameters for their letter case."""

    mode: CheckMode = Field(
        default=Mode.REJECT,
        description="On a mismatch: reject with 400, fix the names and forward, or observe, which forwards as is.",
    )
    operations: OperationModes = Field(
        default_factory=dict,
        description="The mode by operation, where it differs: reject, fix, observe, or off for no check.",
        json_schema_extra={"default": {}},
    )
    max_body_bytes: Bytes = Field(
        default=1048576, description="Bytes of the largest body that is checked; larger ones are forwarded unchecked."
    )
    report_header: Truth = Field(
        default=True, description="Name what was found in a response header, in the modes fix and observe."
    )


class ErrorSettings(_Section):
    """The error responses of the upstream."""

    normalise: Truth = Field(
        default=True, description="Turn every error into the Defender envelope; false passes them on as they are."
    )
    max_body_bytes: Bytes = Field(
        default=262144, description="Bytes of the largest error body that is read; larger ones are passed on as is."
    )


class RewriteSettings(_Section):
    """Absolute URLs of the upstream, turned to the proxy's own address."""

    location: Truth = Field(
        default=True, description="Turn Location, Content-Location, Operation-Location and Azure-AsyncOperation."
    )
    next_link: Truth = Field(default=True, description="Turn @odata.nextLink in the answers of operations that page.")


class HeaderSettings(_Section):
    """The names of the header fields that the proxy writes; no two alike."""

    target_id: FieldName = Field(default="X-Target-Id", description="The target ID of an error.")
    target_source: FieldName = Field(default="X-Target-Source", description="Where the target ID was found.")
    error_code: FieldName = Field(default="X-Error-Code", description="The code of an error.")
    error_origin: FieldName = Field(default="X-Error-Origin", description="Who made an error: upstream or proxy.")
    case_mismatch: FieldName = Field(
        default="X-Case-Mismatch", description="The mismatches that were fixed or observed."
    )
    request_id: FieldName = Field(
        default="X-Request-Id", description="The ID of the request, on every response; a client may choose it."
    )

    @field_validator("*")
    @classmethod
    def _distinct(cls, value: str, info: ValidationInfo) -> str:
        for name, earlier in info.data.items():
            if value.lower() == earlier.lower():
                raise _ClashError(("headers", name))
        return value


class LogSettings(_Section):
    """The log on standard output."""

    level: Level = Field(default=LogLevel.INFO, description="The least severity that is logged.")
    format: Format = Field(
        default=LogFormat.AUTO, description="json, console, or auto: console on a terminal, else json."
    )
    requests: Truth = Field(
        default=False, description="One line for every exchange, not only for errors and mismatches."
    )
    repeats_per_minute: CountOrNoLimit = Field(
        default=60,
        description="Lines a minute that say the same, the others are counted; 0 for no limit, as with requests.",
    )


class TracingSettings(_Section):
    """Spans of exchanges over OTLP."""

    enabled: Truth = Field(
        default=False, description="Export a span for each exchange and its upstream leg; takes the extra otel."
    )
    otlp_endpoint: OtlpEndpoint = Field(
        default=None,
        description="Base URL of the receiver, OTLP over HTTP; null for what OTEL_EXPORTER_OTLP_ENDPOINT says.",
    )


class CatalogSettings(_Section):
    """What the proxy knows beyond the documented operations that it brings along."""

    files: Files = Field(
        default=(),
        description="Paths of OpenAPI documents to add; relative ones start at the settings file's folder.",
    )


class ReloadSettings(_Section):
    """How changed files are noticed."""

    interval_s: Delay = Field(
        default=2.0, description="Seconds between looks at the files; 0 for none, and SIGHUP is the only way."
    )


class DrainSettings(_Section):
    """The way out after SIGTERM."""

    delay_s: Delay = Field(default=2.0, description="Seconds of accepting connections while not ready; 0 for none.")
    timeout_s: Seconds = Field(default=30.0, description="Seconds for running exchanges to finish.")


class Settings(BaseSettings):
    """All settings, frozen. Constructed directly, it holds what it is given and the defaults, and reads nothing."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True, title="defender-sidecar settings"
    )

    listen: ListenAddress = Field(
        default=USUAL_ADDRESS["listen"],
        description="HOST:PORT for clients, IPv6 in brackets; port 0 takes any free one.",
        json_schema_extra={"default": str(USUAL_ADDRESS["listen"])},
    )
    admin: ListenAddress = Field(
        default=USUAL_ADDRESS["admin"],
        description="HOST:PORT for /metrics, /healthz and /readyz; not the clients' own.",
        json_schema_extra={"default": str(USUAL_ADDRESS["admin"])},
    )
    workers: Count = Field(default=1, description="Processes that carry requests; more than one on Linux alone.")
    tls: TlsSettings = Field(
        default_factory=TlsSettings, description="What clients are met with; without a certificate, plain HTTP."
    )
    upstream: UpstreamSettings = Field(
        default_factory=UpstreamSettings, description="The API behind the proxy and the connections to it."
    )
    downstream: DownstreamSettings = Field(default_factory=DownstreamSettings, description="The clients' side.")
    limits: LimitSettings = Field(default_factory=LimitSettings, description="The largest request that is taken.")
    check: CheckSettings = Field(
        default_factory=CheckSettings, description="The check of a body's parameters for their letter case."
    )
    errors: ErrorSettings = Field(default_factory=ErrorSettings, description="The error responses of the upstream.")
    rewrite: RewriteSettings = Field(
        default_factory=RewriteSettings, description="Absolute URLs of the upstream, turned to the proxy's own address."
    )
    headers: HeaderSettings = Field(
        default_factory=HeaderSettings, description="The names of the header fields that the proxy writes."
    )
    log: LogSettings = Field(default_factory=LogSettings, description="The log on standard output.")
    tracing: TracingSettings = Field(default_factory=TracingSettings, description="Spans of exchanges over OTLP.")
    catalog: CatalogSettings = Field(
        default_factory=CatalogSettings, description="What the proxy knows beyond what it brings along."
    )
    reload: ReloadSettings = Field(default_factory=ReloadSettings, description="How changed files are noticed.")
    drain: DrainSettings = Field(default_factory=DrainSettings, description="The way out after SIGTERM.")

    @field_validator("admin")
    @classmethod
    def _apart(cls, admin: Address, info: ValidationInfo) -> Address:
        listen = info.data.get("listen")
        if isinstance(listen, Address) and admin.overlaps(listen):
            raise _ClashError(("listen",))
        return admin

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the signature is pydantic-settings'
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read nothing but what was handed over: see `load_settings`."""
        return init_settings, *_LAYERS.get()


def _section(info: FieldInfo) -> type[_Section] | None:
    kind = info.annotation
    return kind if isinstance(kind, type) and issubclass(kind, _Section) else None


def _leaves() -> Iterator[Key]:
    for name, info in Settings.model_fields.items():
        section = _section(info)
        if section is None:
            yield (name,)
        else:
            yield from ((name, inner) for inner in section.model_fields)


_KEYS = Keys(
    leaves=tuple(_leaves()),
    sections=tuple((name,) for name, info in Settings.model_fields.items() if _section(info)),
)


class _Layer(PydanticBaseSettingsSource):
    """One layer's values as a source for pydantic-settings, nested as the model is."""

    def __init__(self, values: Mapping[Loc, Given]) -> None:
        super().__init__(Settings)
        self._nested: dict[str, Any] = {}
        for loc, given in values.items():
            *outer, last = (part for part in loc if isinstance(part, str))
            if len(outer) + 1 == len(loc):
                target = self._nested
                for part in outer:
                    target = target.setdefault(part, {})
                target[last] = given.value

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002
        """Return the value of a field, as the base class wants it told."""
        return self._nested.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        return self._nested


_LAYERS: ContextVar[tuple[_Layer, ...]] = ContextVar("settings_layers", default=())


# The way in, and the ways to look at what came of it.


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, and for each dotted key where its value came from.

    An origin is `default`, `FILE:LINE`, a variable's name or a flag's. An operation under `check.operations` has a
    key of its own, `check.operations.updateAlert`, for file, environment and flags are merged there.
    """

    settings: Settings
    origins: Mapping[str, str]


Remark: TypeAlias = tuple[Loc, str] | Problem
"""What is wrong with a value, by its location and the remedy; or a problem that has a place of its own."""

Examine: TypeAlias = Callable[[Mapping[Loc, Path], Iterable[Loc]], Iterable[Remark]]
"""Judges what settings alone cannot: the files behind all paths, and the names under `check.operations`."""


def load_settings(
    path: Path | None, environment: Mapping[str, str], flags: Mapping[str, str], examine: Examine | None = None
) -> Loaded:
    """Return the settings: flags before environment before file before defaults.

    `path` is the settings file, None for none; `flags` maps dotted keys, such as `upstream.url`, to text. A list is
    replaced by the next layer, the modes under `check.operations` are merged. What a later layer overrides need not
    be valid, but must be a known key. Variables outside `DEFENDER_SIDECAR_` are ignored. `examine` is asked in any
    case, so that its remarks are told with everything else.

    Raises:
        SettingsError: with every problem of every layer, in the order file (by line), environment, flags; then those
            that have a place of their own.
    """
    layers = [
        Found() if path is None else read_file(path, _KEYS),
        read_environment(environment, _KEYS),
        read_flags(flags, _KEYS),
    ]
    values: dict[Loc, Given] = {}
    for layer in layers:
        values |= layer.values
    problems = [problem for layer in layers for problem in layer.problems]
    settings: Settings | None = None
    errors: list[ErrorDetails] = []
    token = _LAYERS.set(tuple(_Layer(layer.values) for layer in reversed(layers)))
    try:
        settings = Settings()
    except ValidationError as exc:
        errors = exc.errors(include_url=False, include_input=False)
    finally:
        _LAYERS.reset(token)
    problems += [_problem(each["loc"], each.get("ctx", {}).get("error", each["msg"]), values) for each in errors]
    if examine is not None:
        for remark in examine(_files(values), [loc for loc in values if loc[:-1] == OPERATIONS]):
            problems.append((ELSEWHERE, remark) if isinstance(remark, Problem) else _problem(*remark, values))
    if problems or settings is None:
        # Outside the handler: pydantic's own error holds the values unmasked.
        raise SettingsError(problem for _, problem in sorted(problems, key=lambda placed: placed[0]))
    return Loaded(settings, MappingProxyType(_origins(settings, values)))


def _problem(loc: Loc, error: object, values: Mapping[Loc, Given]) -> tuple[Order, Problem]:
    """Return what pydantic found at `loc` as a problem, and its place among the others."""
    message = str(error)
    if isinstance(error, _AloneError):
        loc = error.given
    if isinstance(error, _ClashError):
        other = error.other
        if loc not in values:
            # The default was there first: whoever wrote the other value can change it.
            loc, other = other, tuple(map(str, loc))
        there = values.get(other, DEFAULT)
        shown = scalar(_value(Settings(), other)) if there is DEFAULT else there.shown
        message = f"must differ from {dotted(other)}, which is {shown} ({there.origin})"
    given = next((values[loc[:end]] for end in range(len(loc), 0, -1) if loc[:end] in values), DEFAULT)
    return given.order, Problem(dotted(loc), given.shown, given.origin, message)


def _files(values: Mapping[Loc, Given]) -> dict[Loc, Path]:
    """Return the files that the last layer to name any names, as far as they are paths."""
    given = values.get(FILES, DEFAULT).value
    found: dict[Loc, object] = (
        {(*FILES, index): path for index, path in enumerate(given)} if isinstance(given, list) else {}
    )
    found |= {key: values[key].value for key in _KEYS.leaves if key in PATHS and key in values}
    return {loc: Path(path) for loc, path in found.items() if isinstance(path, str | Path) and is_path(str(path))}


def _value(settings: Settings, key: Key) -> object:
    value: object = settings
    for name in key:
        value = getattr(value, name)
    return value


def _origins(settings: Settings, values: Mapping[Loc, Given]) -> dict[str, str]:
    origins = {}
    for key in _KEYS.leaves:
        origins[".".join(key)] = values.get(key, DEFAULT).origin
        if key == OPERATIONS:
            by_operation = {name: values[(*key, name)].origin for name in settings.check.operations}
            if key not in values and by_operation:
                origins[".".join(key)] = next(iter(by_operation.values()))
            origins |= {".".join((*key, name)): origin for name, origin in by_operation.items()}
    return origins


def describe(loaded: Loaded) -> list[tuple[str, str, str]]:
    """Return key, value and origin of every setting, in the order of the file.

    A value is written as YAML writes it on one line, secrets masked. Each operation under `check.operations` has a
    row of its own; the mapping itself has one only where it is empty.
    """
    rows = []
    for key in _KEYS.leaves:
        value = _value(loaded.settings, key)
        entries = {key: value}
        if isinstance(value, Mapping) and value:
            entries = {(*key, name): mode for name, mode in value.items()}
        for entry, held in entries.items():
            rows.append((dotted(entry), _KEYS.masked(entry, scalar(held)), loaded.origins[".".join(entry)]))
    return rows


def changed_keys(former: Settings, settings: Settings) -> list[str]:
    """Return the dotted keys whose values differ between the two, in the order of the file."""
    return [dotted(key) for key in _KEYS.leaves if _value(former, key) != _value(settings, key)]


def settings_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of the settings file.

    What it accepts may still be refused: two addresses alike, a port above 65535, a header field that HTTP needs.
    """
    schema = Settings.model_json_schema()
    for name, known in schema["properties"].items():
        # pydantic leaves out a description that the section's model has too; editors show the key's own.
        known["description"] = Settings.model_fields[name].description
        if "$ref" in known:
            # A section with nothing but comments is null.
            known["anyOf"] = [{"$ref": known.pop("$ref")}, {"type": "null"}]
    for definition in schema["$defs"].values():
        for known in definition["properties"].values():
            if known.get("type") in ("array", "object"):
                known["type"] = [known["type"], "null"]
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return dialect | schema | {"description": "The settings file of defender-sidecar; every key may be left out."}
