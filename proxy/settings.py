"""Settings: read once from defaults, file, environment and flags, with every problem told at once.

Owns the keys, their defaults and what each may hold. `load_settings` is the one way in: it reads the file and
otherwise only what it is handed. Constructing `Settings` directly reads nothing at all.
"""

import difflib
import ipaddress
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from proxy.core.headers import HOP_BY_HOP
from proxy.core.model import Mode

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

ENVIRONMENT_PREFIX = "DEFENDER_SIDECAR_"

_Loader: "type[yaml.CSafeLoader | yaml.SafeLoader]" = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Loc: TypeAlias = tuple[str | int, ...]
_E = TypeVar("_E", bound=StrEnum)

_MAX_FILE_BYTES = 1 << 20
# libyaml's composer recurses on the C stack: a file of 100,000 brackets ends the process, not the parse.
_MAX_FILE_DEPTH = 32
# What JSON carries exactly (RFC 8259, 6), and well below what a C size can hold.
_MAX_INTEGER = 2**53 - 1
_MAX_SHOWN = 100


# What is wrong.


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with the settings, fit to be printed on one line.

    `key` is dotted, `config` for the file as a whole; `value` is as given, secrets masked, and empty where there is
    none to show; `origin` is `FILE:LINE`, a variable, a flag or `default`; `message` is the remedy.
    """

    key: str
    value: str
    origin: str
    message: str

    def __str__(self) -> str:
        given = f"{self.key} = {self.value}" if self.value else self.key
        return f"{self.origin}: {given}: {self.message}"


class SettingsError(Exception):
    """The settings cannot be used; `problems` says why, at least once, one line each."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class _ClashError(ValueError):
    """Two keys hold what must be different; `other` is the one that was read first."""

    def __init__(self, other: tuple[str, ...]) -> None:
        self.other = other
        super().__init__(f"must differ from {_dotted(other)}")


# What a value may be. Each reader returns the value or raises ValueError with the remedy.


class _Text(str):
    """A value from the environment or a flag: text that may stand for a number or a truth value."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen: a host name or IP address, and a port; port 0 stands for any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def overlaps(self, other: "Address") -> bool:
        """Whether the two cannot both be listened on; a wildcard covers its address family."""
        if self.port != other.port or self.port == 0:
            return False
        hosts = {self.host.lower(), other.host.lower()}
        return (
            len(hosts) == 1
            or ("0.0.0.0" in hosts and not any(":" in host for host in hosts))  # noqa: S104 - compared, not bound
            or ("::" in hosts and all(":" in host for host in hosts))
        )


class LogLevel(StrEnum):
    """The least severity that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """The form of a log line; `auto` is `console` on a terminal, else `json`."""

    AUTO = "auto"
    JSON = "json"
    CONSOLE = "console"


# RFC 952 and RFC 1123, 2.1, and the underscore that container networks put into host names.
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME = re.compile(rf"(?=.{{1,254}}\Z){_LABEL}(?:\.{_LABEL})*\.?")
_HOST_PORT = re.compile(r"(?P<host>\[[^\[\]]*\]|[^:\[\]]*)(?::(?P<port>[^:\[\]]*))?")
_PORT = re.compile(r"0|[1-9][0-9]{0,4}")
_LAST_PORT = 65535

# RFC 3986, appendix B, behind the scheme: unlike urlsplit it answers any text.
_AFTER_SCHEME = re.compile(r"(?P<authority>[^/?#]*)(?P<path>[^?#]*)(?P<query>\?[^#]*)?(?P<fragment>#.*)?", re.DOTALL)
_DEFAULT_PORTS = {"http": 80, "https": 443}

# RFC 9110, 5.6.2.
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# The fields that say where a body ends and how it is to be read: a response that lost those would be read wrongly.
_RESERVED_FIELDS = {name.decode() for name in HOP_BY_HOP} | {
    "content-encoding",
    "content-length",
    "content-type",
    "host",
}

_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17}(?:_[0-9]{1,17})*)")
_DECIMAL = re.compile(r"[-+]?[0-9]{1,300}(?:\.[0-9]{0,300})?(?:[eE][-+]?[0-9]{1,3})?")
_WITH_UNIT = re.compile(r"(?P<number>[0-9]{1,9}(?:\.[0-9]{1,9})?)\s*(?P<unit>[A-Za-z]+)")
_UNIT_S = {"ms": 0.001, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_UNIT_BYTES = {
    "b": 1,
    **{
        f"{letter}{rest}": 1 << shift for letter, shift in (("k", 10), ("m", 20), ("g", 30)) for rest in ("", "b", "ib")
    },
}
_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def _closest(word: str, words: Iterable[str]) -> str | None:
    return next(iter(difflib.get_close_matches(word, list(words), n=1)), None)


def _did_you_mean(remedy: str, guess: object) -> str:
    return f"{remedy}; did you mean {guess}?" if guess else remedy


def _host(text: str) -> str | None:
    """Return a host in its usual spelling, IPv6 without its brackets; None for what is no host."""
    if text.startswith("["):
        # A zone (RFC 4007) belongs to one machine's interfaces and has no agreed place in a URL.
        try:
            return None if "%" in text else str(ipaddress.IPv6Address(text[1:-1]))
        except ValueError:
            return None
    if not _HOST_NAME.fullmatch(text):
        return None
    if text.rstrip(".").rpartition(".")[2].isdigit():
        # WHATWG URL, "ends in a number": such a name is an IPv4 address or nothing. `1:30` is no host and port.
        try:
            return str(ipaddress.IPv4Address(text))
        except ValueError:
            return None
    return text


def _host_and_port(text: str) -> tuple[str | None, int | None, bool]:
    """Return host, port and whether a port was written; None for each that is missing or wrong."""
    match = _HOST_PORT.fullmatch(text)
    if match is None:
        return None, None, False
    port = match["port"]
    number = int(port) if port and _PORT.fullmatch(port) else None
    return _host(match["host"]), None if number is not None and number > _LAST_PORT else number, port is not None


def _address(value: object, info: ValidationInfo) -> Address:
    if isinstance(value, Address):
        return value
    usual = _USUAL_ADDRESS[info.field_name or "listen"]
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)  # `listen: 8080` in YAML
    if not isinstance(value, str):
        raise ValueError(f"must be HOST:PORT, such as {usual}")  # noqa: TRY004 - pydantic takes ValueError
    host, port, has_port = _host_and_port(value)
    if host is not None and port is not None:
        return Address(host, port)
    if host is not None and has_port:
        raise ValueError(f"must end in a port from 0 to {_LAST_PORT}")
    if port is not None and value.startswith(":"):
        raise ValueError(
            f"must name a host: 0.0.0.0:{port} for all interfaces, 127.0.0.1:{port} for this machine alone"
        )
    raise ValueError(_did_you_mean(f"must be HOST:PORT, such as {usual}", _nearby_address(value, usual)))


def _nearby_address(text: str, usual: Address) -> Address | None:
    """Return the address that `text` comes close to; `usual` is the key's default."""
    bare = re.sub(r"(?i)\Ahttps?://|/+\Z", "", text)
    head, _, tail = text.rpartition(":")
    for spelling in (
        f"{text}:{usual.port}",
        f"{usual.host}:{text}",
        re.sub(r"\A\*:", "0.0.0.0:", text),
        bare,
        f"{bare}:{usual.port}",
        f"[{head}]:{tail}",
        f"[{text}]:{usual.port}",
    ):
        host, port, _ = _host_and_port(spelling)
        if host is not None and port is not None:
            return Address(host, port)
    return None


def _upstream_url(value: object) -> str:
    """Return `scheme://host[:port]` in lower case, without the scheme's own port and without a slash at its end."""
    such = "such as https://api.security.microsoft.com"
    if not isinstance(value, str):
        raise ValueError(f"must be an absolute URL, {such}")  # noqa: TRY004 - pydantic takes ValueError
    if not re.fullmatch(r"[!-~]+", value):
        raise ValueError(f"must be an absolute URL in visible ASCII without spaces, {such}")
    scheme, separator, rest = value.partition("://")
    scheme = scheme.lower()
    known = bool(separator) and scheme in _DEFAULT_PORTS
    if not known:
        scheme = "http" if re.match(r"(?i)http\b", value) else "https"
        rest = rest if separator else re.sub(r"(?i)\Ahttps?(?::/*|/+)|\A/+", "", value)
    parts = _AFTER_SCHEME.fullmatch(rest)
    authority, path = (parts["authority"], parts["path"]) if parts else (rest, "")
    host, port, has_port = _host_and_port(authority.rpartition("@")[2])
    has_port = has_port and not authority.endswith(":")  # RFC 3986, 3.2.3: the port may be empty
    faults = [
        fault
        for faulty, fault in (
            (not known, "must begin with https:// or http://"),
            ("@" in rest, "must hold no user name or password: clients authorise themselves"),
            (host is None, "must name a host: a DNS name or an IP address, IPv6 in brackets"),
            (has_port and not port, f"must have a port from 1 to {_LAST_PORT} or none"),
            (path not in {"", "/"}, "must have no path: the path of each request is forwarded as it came"),
            (parts is not None and parts["query"] is not None, "must have no query"),
            (parts is not None and parts["fragment"] is not None, "must have no fragment"),
        )
        if faulty
    ]
    url = None
    if host is not None and (port or not has_port):
        suffix = f":{port}" if port and port != _DEFAULT_PORTS[scheme] else ""
        url = f"{scheme}://{f'[{host}]' if ':' in host else host.lower()}{suffix}"
    if not faults and url is not None:
        return url
    # What precedes a stray "@" may be a password rather than a host; it is not to be repeated.
    raise ValueError(_did_you_mean("; ".join(faults), None if "@" in rest.replace(authority, "", 1) else url))


def _number(value: object) -> float | None:
    """Return a finite number, None for anything else: a truth value is no number."""
    if isinstance(value, _Text):
        value = float(value) if _DECIMAL.fullmatch(value) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _with_unit(value: object, units: Mapping[str, float]) -> float | None:
    """Return what `10s` or `64KiB` amount to; only a guess, for units are no part of a value."""
    match = _WITH_UNIT.fullmatch(value) if isinstance(value, str) else None
    factor = units.get(match["unit"].lower()) if match else None
    return float(match["number"]) * factor if match and factor else None


def _time_s(value: object) -> float:
    number = _number(value)
    if number is None or number <= 0:
        guess = _with_unit(value, _UNIT_S)
        raise ValueError(_did_you_mean("must be a number of seconds above 0", guess and f"{guess:.12g}"))
    return number


def _delay_s(value: object) -> float:
    number = _number(value)
    if number is None or number < 0:
        guess = _with_unit(value, _UNIT_S)
        raise ValueError(_did_you_mean("must be a number of seconds, 0 or more", guess and f"{guess:.12g}"))
    return number + 0.0  # -0.0 becomes 0.0


def _integer(value: object) -> int | None:
    if isinstance(value, _Text):
        return int(value) if _INTEGER.fullmatch(value) and len(value) < _MAX_SHOWN else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _whole(least: int, of: str) -> Callable[[object], int]:
    """Return a reader of whole numbers from `least` up to what JSON can carry; `of` is " of bytes" or nothing."""

    def read(value: object) -> int:
        number = _integer(value)
        if number is not None and least <= number <= _MAX_INTEGER:
            return number
        if number is not None and number > _MAX_INTEGER:
            raise ValueError(f"must be at most {_MAX_INTEGER}")
        guess = _with_unit(value, _UNIT_BYTES) if of else None
        remedy = f"must be a whole number{of}, {least} or more"
        raise ValueError(_did_you_mean(remedy, guess and int(guess)))

    return read


def _one_process(value: object) -> int:
    if _integer(value) == 1:
        return 1
    raise ValueError("must be 1: this version runs one process; run more replicas instead")


def _truth(value: object) -> bool:
    if isinstance(value, _Text) and value.lower() in _TRUTH:
        return _TRUTH[value.lower()]
    if isinstance(value, bool):
        return value
    guess = _TRUTH.get(value.lower()) if isinstance(value, str) else None
    raise ValueError(_did_you_mean("must be true or false", None if guess is None else str(guess).lower()))


def _choice(value: object, choices: Iterable[_E]) -> _E:
    by_name = {str(choice): choice for choice in choices}
    if isinstance(value, str) and value in by_name:
        return by_name[value]
    *most, last = by_name
    guess = _closest(value.strip().lower(), by_name) if isinstance(value, str) else None
    raise ValueError(_did_you_mean(f"must be {', '.join(most)} or {last}", guess))


def _mode(value: object) -> Mode:
    # YAML 1.1 reads a bare `off` as false.
    if value is False or value == Mode.OFF:
        raise ValueError("must be reject, fix or observe; `off` goes under check.operations, by operation")
    return _choice(value, (Mode.REJECT, Mode.FIX, Mode.OBSERVE))


def _operation_mode(value: object) -> Mode:
    # YAML 1.1 reads a bare `off` as false, and programs that rewrite YAML spell it so.
    return Mode.OFF if value is False else _choice(value, Mode)


def _log_level(value: object) -> LogLevel:
    return _choice(value, LogLevel)


def _log_format(value: object) -> LogFormat:
    return _choice(value, LogFormat)


def _field_name(value: object) -> str:
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise ValueError("must be a header field's name: letters, digits and - without spaces, such as X-Target-Id")
    if value.lower() in _RESERVED_FIELDS:
        raise ValueError("must be another name: HTTP itself gives this one a meaning")
    return str(value)


def _operations(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise ValueError(_OPERATIONS_REMEDY)


def _files(value: object) -> object:
    if isinstance(value, list | tuple):
        return value
    guess = f"[{value}]" if isinstance(value, str) and re.fullmatch(r"[\w./-]+", value) else None
    raise ValueError(_did_you_mean("must be a list of paths", guess))


def _path(value: object) -> Path:
    if isinstance(value, Path):
        return value
    if not isinstance(value, str):
        raise ValueError("must be a path; if it looks like a number or a date, put it in quotes")  # noqa: TRY004
    if not _is_path(value):
        raise ValueError("must be the path of an OpenAPI document")
    return Path(value)


def _shown_path(path: Path) -> str:
    return str(path)


_OPERATIONS_REMEDY = "must be a mapping of operation to mode, such as {updateAlert: observe}"
_USUAL_ADDRESS = {"listen": Address("127.0.0.1", 8080), "admin": Address("127.0.0.1", 9464)}

_Listen = Annotated[
    Address,
    PlainValidator(_address),
    WithJsonSchema({"type": "string", "pattern": r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+):[0-9]{1,5}$"}),
    PlainSerializer(str, return_type=str),
]
_Url = Annotated[str, Field(pattern=r"^[Hh][Tt][Tt][Pp][Ss]?://[^/?#@]+/?$"), BeforeValidator(_upstream_url)]
_Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False), BeforeValidator(_time_s)]
_Delay = Annotated[float, Field(ge=0, allow_inf_nan=False), BeforeValidator(_delay_s)]
_Count = Annotated[int, Field(ge=1, le=_MAX_INTEGER), BeforeValidator(_whole(1, ""))]
_Bytes = Annotated[int, Field(ge=1, le=_MAX_INTEGER), BeforeValidator(_whole(1, " of bytes"))]
_BytesOrNoLimit = Annotated[int, Field(ge=0, le=_MAX_INTEGER), BeforeValidator(_whole(0, " of bytes"))]
_Workers = Annotated[int, PlainValidator(_one_process), WithJsonSchema({"type": "integer", "const": 1})]
_Truth = Annotated[bool, PlainValidator(_truth), WithJsonSchema({"type": "boolean"})]
_Mode = Annotated[
    Mode, BeforeValidator(_mode), WithJsonSchema({"enum": [str(mode) for mode in Mode if mode is not Mode.OFF]})
]
_OperationMode = Annotated[
    Mode, BeforeValidator(_operation_mode), WithJsonSchema({"enum": [*(str(mode) for mode in Mode), False]})
]
_LogLevel = Annotated[
    LogLevel, BeforeValidator(_log_level), WithJsonSchema({"enum": [str(level) for level in LogLevel]})
]
_LogFormat = Annotated[
    LogFormat, BeforeValidator(_log_format), WithJsonSchema({"enum": [str(form) for form in LogFormat]})
]
_FieldName = Annotated[str, Field(pattern=rf"^{_TOKEN.pattern}$"), BeforeValidator(_field_name)]
_Path = Annotated[
    Path,
    PlainValidator(_path),
    PlainSerializer(_shown_path, return_type=str),
    WithJsonSchema({"type": "string", "minLength": 1}),
]


# The keys.


class _Section(BaseModel):
    """A mapping of the settings file: frozen, with no keys but its own, and silent about what it was given."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True)


class UpstreamSettings(_Section):
    """The API behind the proxy and the connections to it."""

    url: _Url = Field(
        default="https://api.security.microsoft.com",
        description="Where requests go: scheme, host and, where it is not the usual one, port. TLS is verified.",
    )
    connect_timeout_s: _Seconds = Field(default=10.0, description="Seconds for a connection with its TLS handshake.")
    response_timeout_s: _Seconds = Field(
        default=660.0, description="Seconds until the response's head; advanced hunting runs for ten minutes."
    )
    idle_timeout_s: _Seconds = Field(default=60.0, description="Seconds that a response body may pause.")
    keepalive_timeout_s: _Seconds = Field(
        default=15.0, description="Seconds after which an idle pooled connection is closed."
    )
    max_connections: _Count = Field(default=100, description="Connections to the upstream at one time.")
    proxy_from_environment: _Truth = Field(
        default=False, description="Reach the upstream by the egress proxy that HTTPS_PROXY and NO_PROXY name."
    )


class DownstreamSettings(_Section):
    """The clients' side."""

    header_timeout_s: _Seconds = Field(
        default=10.0, description="Seconds for a whole request head, and for the first byte of a new connection."
    )
    body_timeout_s: _Seconds = Field(default=30.0, description="Seconds that a request body may pause.")
    write_timeout_s: _Seconds = Field(
        default=30.0, description="Seconds without progress towards a client that does not read."
    )
    keepalive_timeout_s: _Seconds = Field(
        default=75.0, description="Seconds after which a client's idle connection is closed."
    )
    max_connections: _Count = Field(default=1024, description="Clients' connections at one time.")
    max_in_flight: _Count = Field(default=512, description="Exchanges at one time.")


class LimitSettings(_Section):
    """The largest request that is taken."""

    target_bytes: _Bytes = Field(default=16384, description="Bytes of a request target: path and query.")
    field_bytes: _Bytes = Field(default=32768, description="Bytes of one header field; tokens are long.")
    head_bytes: _Bytes = Field(default=65536, description="Bytes of a whole request head.")
    fields: _Count = Field(default=256, description="Header fields of a request.")
    body_bytes: _BytesOrNoLimit = Field(default=0, description="Bytes of a request body; 0 for no limit.")


class CheckSettings(_Section):
    """The check of a body's parameters for their letter case."""

    mode: _Mode = Field(
        default=Mode.REJECT,
        description="On a mismatch: reject with 400, fix the names and forward, or observe, which forwards as is.",
    )
    operations: Annotated[
        Mapping[str, _OperationMode],
        BeforeValidator(_operations),
        AfterValidator(MappingProxyType),
        PlainSerializer(dict, return_type=dict[str, Mode]),
    ] = Field(
        default_factory=dict,
        description="The mode by operation, where it differs: reject, fix, observe, or off for no check.",
        json_schema_extra={"default": {}},
    )
    max_body_bytes: _Bytes = Field(
        default=1048576, description="Bytes of the largest body that is checked; larger ones are forwarded unchecked."
    )
    report_header: _Truth = Field(
        default=True, description="Name what was found in a response header, in the modes fix and observe."
    )


class ErrorSettings(_Section):
    """The error responses of the upstream."""

    max_body_bytes: _Bytes = Field(
        default=262144, description="Bytes of the largest error body that is read; larger ones are passed on as is."
    )


class HeaderSettings(_Section):
    """The names of the header fields that the proxy writes; no two alike."""

    target_id: _FieldName = Field(default="X-Target-Id", description="The target ID of an error.")
    target_source: _FieldName = Field(default="X-Target-Source", description="Where the target ID was found.")
    error_code: _FieldName = Field(default="X-Error-Code", description="The code of an error.")
    error_origin: _FieldName = Field(default="X-Error-Origin", description="Who made an error: upstream or proxy.")
    case_mismatch: _FieldName = Field(
        default="X-Case-Mismatch", description="The mismatches that were fixed or observed."
    )
    request_id: _FieldName = Field(
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

    level: _LogLevel = Field(default=LogLevel.INFO, description="The least severity that is logged.")
    format: _LogFormat = Field(
        default=LogFormat.AUTO, description="json, console, or auto: console on a terminal, else json."
    )
    requests: _Truth = Field(
        default=False, description="One line for every exchange, not only for errors and mismatches."
    )


class CatalogSettings(_Section):
    """What the proxy knows beyond the documented operations that it brings along."""

    files: Annotated[tuple[_Path, ...], BeforeValidator(_files)] = Field(
        default=(),
        description="Paths of OpenAPI documents to add; relative ones start at the settings file's folder.",
    )


class DrainSettings(_Section):
    """The way out after SIGTERM."""

    delay_s: _Delay = Field(default=2.0, description="Seconds of accepting connections while not ready; 0 for none.")
    timeout_s: _Seconds = Field(default=30.0, description="Seconds for running exchanges to finish.")


class Settings(BaseSettings):
    """All settings, frozen. Constructed directly, it holds what it is given and the defaults, and reads nothing."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True, title="defender-sidecar settings"
    )

    listen: _Listen = Field(
        default=_USUAL_ADDRESS["listen"],
        description="HOST:PORT for clients, IPv6 in brackets; port 0 takes any free one.",
        json_schema_extra={"default": str(_USUAL_ADDRESS["listen"])},
    )
    admin: _Listen = Field(
        default=_USUAL_ADDRESS["admin"],
        description="HOST:PORT for /metrics, /healthz, /readyz and the status page; not the clients' own.",
        json_schema_extra={"default": str(_USUAL_ADDRESS["admin"])},
    )
    workers: _Workers = Field(default=1, description="Processes; this version runs one. For more, run more replicas.")
    upstream: UpstreamSettings = Field(
        default_factory=UpstreamSettings, description="The API behind the proxy and the connections to it."
    )
    downstream: DownstreamSettings = Field(default_factory=DownstreamSettings, description="The clients' side.")
    limits: LimitSettings = Field(default_factory=LimitSettings, description="The largest request that is taken.")
    check: CheckSettings = Field(
        default_factory=CheckSettings, description="The check of a body's parameters for their letter case."
    )
    errors: ErrorSettings = Field(default_factory=ErrorSettings, description="The error responses of the upstream.")
    headers: HeaderSettings = Field(
        default_factory=HeaderSettings, description="The names of the header fields that the proxy writes."
    )
    log: LogSettings = Field(default_factory=LogSettings, description="The log on standard output.")
    catalog: CatalogSettings = Field(
        default_factory=CatalogSettings, description="What the proxy knows beyond what it brings along."
    )
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


def _leaves() -> Iterator[tuple[str, ...]]:
    for name, info in Settings.model_fields.items():
        section = _section(info)
        if section is None:
            yield (name,)
        else:
            yield from ((name, inner) for inner in section.model_fields)


_LEAVES: tuple[tuple[str, ...], ...] = tuple(_leaves())
_SECTIONS: tuple[tuple[str, ...], ...] = tuple(
    (name,) for name, info in Settings.model_fields.items() if _section(info)
)
_OPERATIONS = ("check", "operations")
_FILES = ("catalog", "files")
_VARIABLES = {ENVIRONMENT_PREFIX + "__".join(loc).upper(): loc for loc in _LEAVES}
_OPERATION_VARIABLE = f"{ENVIRONMENT_PREFIX}CHECK__OPERATIONS__"
_FLAGS = {"upstream.url": "--upstream", "check.mode": "--mode"}

# Read before the settings, to find the file.
_CONFIG_VARIABLE = f"{ENVIRONMENT_PREFIX}CONFIG"
# Kubernetes tells every container of the Services in its namespace by variables of the Service's name in capitals
# ("Discovering services: environment variables"). For a Service that is called `defender-sidecar`, or begins so, they
# look like ours, and a Pod must not fail to start for them. `_PORT` is theirs only if it holds a URL: a plain number
# there was meant for us, and is told so.
_SERVICE_VARIABLE = re.compile(
    rf"{ENVIRONMENT_PREFIX}(?:[A-Z0-9_]+_)?"
    r"(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)"
)
_SERVICE_URL_VARIABLE = re.compile(rf"{ENVIRONMENT_PREFIX}(?:[A-Z0-9_]+_)?PORT")
_SERVICE_URL = re.compile(r"(?:tcp|udp|sctp)://")


# How it is told.

_SECRET = re.compile(r"(?i)pass|pwd|secret|token|credential|api_?key|authori[sz]ation|cookie|bearer")
_SCHEME = re.compile(r"[^A-Za-z0-9]*[A-Za-z][A-Za-z0-9+.-]*:?//+")


def _masked(loc: _Loc, text: str) -> str:
    """Return `text` without what may be a secret: user name, password and query of a URL, or all of it."""
    if not _is_known(loc) and _SECRET.search(".".join(map(str, loc))):
        return "***"
    if loc != ("upstream", "url") and "//" not in text and not re.search(r":.*@", text, re.DOTALL):
        return text
    scheme = match[0] if (match := _SCHEME.match(text)) else ""
    rest = text[len(scheme) :]
    before, at, host = rest.rpartition("@")
    if at:
        if re.search(r"[?#]", before):
            return f"{scheme}***"
        rest = f"***@{host}"
    return scheme + re.sub(r"([?#]).+", r"\1***", rest, count=1, flags=re.DOTALL)


def _shown(text: str) -> str:
    """Return `text` on one line, bounded, without control characters; as it is where it is harmless."""
    short = text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"
    return short if short and short.isprintable() and short == short.strip() else repr(short)


def _dotted(loc: _Loc) -> str:
    dotted = ""
    for part in loc:
        dotted += f"[{part}]" if isinstance(part, int) else f"{'.' if dotted else ''}{_shown(part)}"
    return dotted


def _given(loc: _Loc, text: str) -> str:
    if (loc in _SECTIONS or not _is_known(loc)) and text.lstrip().startswith(("{", "[")):
        return "{…}"  # nobody knows what is in there
    return _shown(_masked(loc, text))


def _is_known(loc: _Loc) -> bool:
    return loc in _LEAVES or loc in _SECTIONS or loc[:2] in {_OPERATIONS, _FILES}


def _squashed(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _meant(loc: _Loc) -> tuple[str, ...] | None:
    """Return the key that an unknown one resembles: spelt alike, of the same name elsewhere, or near by difflib."""
    dotted = ".".join(str(part)[:_MAX_SHOWN] for part in loc)
    by_squashed = {_squashed(".".join(known)): known for known in (*_SECTIONS, *_LEAVES)}
    if exact := by_squashed.get(_squashed(dotted)):
        return exact
    namesakes = {".".join(known): known for known in _LEAVES if known[-1] == re.split(r"\.|__", dotted.lower())[-1]}
    if namesakes:
        return namesakes[difflib.get_close_matches(dotted, namesakes, n=1, cutoff=0)[0]]
    siblings = {known[-1]: known for known in (*_SECTIONS, *_LEAVES) if known[:-1] == loc[:-1]}
    if near := _closest(str(loc[-1]).lower()[:_MAX_SHOWN], siblings):
        return siblings[near]
    near = _closest(_squashed(dotted), (name for name, known in by_squashed.items() if known != loc[:-1]))
    return by_squashed[near] if near else None


# Where it comes from. Each layer is a source for pydantic-settings, and remembers where each value stood.


@dataclass(frozen=True, slots=True)
class _Given:
    """A value as one layer gives it; `order` sorts problems as their reader meets them: layer, then line."""

    value: object
    shown: str
    origin: str
    order: tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Found:
    """What one layer holds: values by location, an element of a list included, and its problems in place."""

    values: dict[_Loc, _Given] = field(default_factory=dict)
    problems: list[tuple[tuple[int, int], Problem]] = field(default_factory=list)

    def reject(self, loc: _Loc, given: _Given, message: str) -> None:
        """Add a problem with a value."""
        self.problems.append((given.order, Problem(_dotted(loc), given.shown, given.origin, message)))


class _Layer(PydanticBaseSettingsSource):
    """One layer's values, nested as the model is."""

    def __init__(self, values: Mapping[_Loc, _Given]) -> None:
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

_FILE, _ENVIRONMENT, _FLAG, _DEFAULT = range(4)


class _FileError(Exception):
    """The file as a whole cannot be read; `place` is line and column, as far as they are known."""

    def __init__(self, message: str, *place: int) -> None:
        self.place = place
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class _File:
    """The reading of one settings file into `found`."""

    path: Path
    found: _Found = field(default_factory=_Found)
    constructor: yaml.constructor.SafeConstructor = field(default_factory=yaml.constructor.SafeConstructor)

    def read(self) -> _Found:
        """Return the values of the file, and what is wrong with it."""
        try:
            root = self._root(self._text())
            if root is not None:
                self._mapping(root, ())
        except _FileError as exc:
            origin = ":".join([_shown(str(self.path)), *map(str, exc.place)])
            order = (_FILE, exc.place[0] if exc.place else 0)
            self.found.problems.append((order, Problem("config", "", origin, str(exc))))
        return self.found

    def _text(self) -> str:
        try:
            with self.path.open("rb") as file:
                raw = file.read(_MAX_FILE_BYTES + 1)
        except FileNotFoundError:
            raise _FileError("must name a file that is there; without one, the defaults hold") from None
        except IsADirectoryError:
            raise _FileError("must name a file, not a folder") from None
        except OSError as exc:
            raise _FileError(f"must name a file that can be read: {exc.strerror or type(exc).__name__}") from None
        except ValueError:
            raise _FileError("must name a file, without the character NUL") from None
        if len(raw) > _MAX_FILE_BYTES:
            raise _FileError(f"must be at most {_MAX_FILE_BYTES} bytes long")
        try:
            return raw.decode("utf-8-sig")
        except UnicodeDecodeError as exc:
            line = raw.count(b"\n", 0, exc.start) + 1
            raise _FileError("must be UTF-8 text; save it in that encoding", line) from None

    @staticmethod
    def _root(text: str) -> yaml.MappingNode | None:
        try:
            depth = 0
            for event in yaml.parse(text, Loader=_Loader):
                depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
                if depth > _MAX_FILE_DEPTH:
                    raise _FileError(f"must be nested at most {_MAX_FILE_DEPTH} levels deep", _line(event))
            root = yaml.compose(text, Loader=_Loader)
        except yaml.MarkedYAMLError as exc:
            mark = exc.problem_mark or exc.context_mark
            what = ": ".join(part for part in (exc.context, exc.problem) if part)
            raise _FileError(
                f"must be valid YAML: {what}", *((mark.line + 1, mark.column + 1) if mark else ())
            ) from None
        except yaml.reader.ReaderError as exc:
            before = text[: exc.position]
            line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
            raise _FileError("must be valid YAML: control characters must be escaped", line, column) from None
        if root is None or _is_null(root):
            return None
        if not isinstance(root, yaml.MappingNode):
            raise _FileError("must be a mapping of settings, such as `listen: 127.0.0.1:8080`", _line(root))
        return root

    def _given(self, loc: _Loc, key: yaml.Node, node: yaml.Node) -> _Given:
        shown = _folded(node)
        if isinstance(node, yaml.ScalarNode):
            shown = _given(loc, node.value or ("null" if _is_null(node) else ""))
        line = _line(key)
        return _Given(None, shown, f"{_shown(str(self.path))}:{line}", (_FILE, line))

    def _entries(self, node: yaml.MappingNode, outer: _Loc) -> Iterator[tuple[_Loc, _Given, yaml.Node]]:
        """Yield location, place and value of each entry; a second of one name is a problem, for YAML keeps the last."""
        lines: dict[str, int] = {}
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else _folded(key)
            loc = (*outer, name)
            given = self._given(loc, key, value)
            if name in lines:
                self.found.reject(loc, given, f"must be given once: it stands on line {lines[name]} already")
            else:
                lines[name] = _line(key)
                yield loc, given, value

    def _mapping(self, node: yaml.MappingNode, outer: _Loc) -> None:
        for loc, given, value in self._entries(node, outer):
            if loc in _SECTIONS:
                # A section whose every line is commented out is null, and means its defaults.
                if isinstance(value, yaml.MappingNode):
                    self._mapping(value, loc)
                elif not _is_null(value):
                    first = next(known[1] for known in _LEAVES if known[0] == loc[0])
                    self.found.reject(loc, given, f"must be a mapping of keys such as {first}")
            elif loc == _OPERATIONS:
                self._operations(loc, given, value)
            elif loc == _FILES and (isinstance(value, yaml.SequenceNode) or _is_null(value)):
                self._files(loc, given, value)
            elif loc in _LEAVES:
                self._leaf(loc, given, value)
            else:
                self.found.reject(loc, given, _unknown_key(loc))

    def _operations(self, loc: _Loc, given: _Given, node: yaml.Node) -> None:
        if isinstance(node, yaml.MappingNode):
            self._keep(loc, given, {})
            for inner, mode_given, mode in self._entries(node, loc):
                self._leaf(inner, mode_given, mode)
        elif _is_null(node):
            self._keep(loc, given, {})
        else:
            self.found.reject(loc, given, _OPERATIONS_REMEDY)

    def _files(self, loc: _Loc, given: _Given, node: yaml.Node) -> None:
        elements = node.value if isinstance(node, yaml.SequenceNode) else []
        paths: list[object] = []
        for index, element in enumerate(elements):
            inner = (*loc, index)
            self._leaf(inner, self._given(inner, element, element), element)
            held = self.found.values.get(inner)
            path = held.value if held else None
            paths.append(self.path.parent / path if isinstance(path, str) and _is_path(path) else path)
        self._keep(loc, given, paths)

    def _leaf(self, loc: _Loc, given: _Given, node: yaml.Node) -> None:
        # No key holds a collection but the two that are read apart, so that merge keys and aliases, by which a small
        # file grows without bounds, are never followed.
        if not isinstance(node, yaml.ScalarNode):
            self._keep(loc, given, None)
            return
        if _is_odd_number(node):
            self._keep(loc, given, node.value)
            return
        try:
            value = self.constructor.construct_object(node)
        except (yaml.YAMLError, ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError):
            # A foreign tag, the 31st of February, a number of 5,000 digits, `!!bool maybe`.
            self.found.reject(loc, given, "must be a plain YAML value, within YAML's range and without a tag")
        else:
            self._keep(loc, given, value)

    def _keep(self, loc: _Loc, given: _Given, value: object) -> None:
        self.found.values[loc] = _Given(value, given.shown, given.origin, given.order)


def _unknown_key(loc: _Loc) -> str:
    if (meant := _meant(loc)) is not None:
        if ".".join(map(str, loc)) == ".".join(meant):
            return f"must be nested: `{meant[-1]}:` under `{meant[0]}:`"
        return f"must be a known key; did you mean {_dotted(meant)}?"
    known = ", ".join(key[-1] for key in (*_LEAVES, *_SECTIONS) if key[:-1] == loc[:-1])
    return f"must be a known key: {known}" if known else "must be a known key"


def _line(part: yaml.Node | yaml.Event) -> int:
    return part.start_mark.line + 1 if part.start_mark else 1


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _is_odd_number(node: yaml.ScalarNode) -> bool:
    """Whether YAML 1.1 reads a number into what nobody means as one: `1:30` as 90, `010` as 8."""
    if node.tag not in {"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"}:
        return False
    return ":" in node.value or re.match(r"[-+]?0[0-9_]", node.value) is not None


def _is_path(text: str) -> bool:
    return bool(text) and "\0" not in text


def _folded(node: yaml.Node) -> str:
    return "[…]" if isinstance(node, yaml.SequenceNode) else "{…}"


def _read_environment(environment: Mapping[str, str]) -> _Found:
    """Return what the variables with our prefix say; an empty one is a problem.

    A variable that is empty is nearly always one whose source was missing, and to run on the default upstream then,
    or without a limit that somebody meant to set, is worse than not to run.
    """
    found = _Found()
    # Sorted, CHECK__OPERATIONS comes before CHECK__OPERATIONS__updateAlert, which is the more particular.
    for index, (name, text) in enumerate(sorted(environment.items())):
        if not name.upper().startswith(ENVIRONMENT_PREFIX) or _is_foreign(name, text):
            continue
        suffix = name[len(ENVIRONMENT_PREFIX) :]
        order = (_ENVIRONMENT, index)
        if (loc := _VARIABLES.get(name)) is not None:
            _read_text(found, loc, _Given(_Text(text), _given(loc, text), name, order))
        elif name.startswith(_OPERATION_VARIABLE) and (operation := name[len(_OPERATION_VARIABLE) :]):
            inner = (*_OPERATIONS, operation)
            _read_text(found, inner, _Given(_Text(text), _given(inner, text), _shown(name), order))
        else:
            unknown: _Loc = tuple(suffix.lower().split("__"))
            key = _dotted(unknown) if suffix else _shown(name)
            origin = _shown(name)
            shown = _given(unknown, text)
            found.problems.append((order, Problem(key, shown, origin, _unknown_variable(unknown, suffix))))
    return found


def _is_foreign(name: str, text: str) -> bool:
    """Whether a variable with our prefix is none of the settings'."""
    return (
        name == _CONFIG_VARIABLE
        or _SERVICE_VARIABLE.fullmatch(name) is not None
        or (_SERVICE_URL_VARIABLE.fullmatch(name) is not None and _SERVICE_URL.match(text) is not None)
    )


def _unknown_variable(loc: _Loc, suffix: str) -> str:
    meant = _meant(loc) if suffix else None
    if meant is None:
        return "must be the name of a setting; unset it, or see `config show` for the keys"
    if meant in _SECTIONS:
        meant = next(known for known in _LEAVES if known[:1] == meant)
        return f"must name one key of this section, such as {ENVIRONMENT_PREFIX}{'__'.join(meant).upper()}"
    return f"must be the name of a setting; did you mean {ENVIRONMENT_PREFIX}{'__'.join(meant).upper()}?"


def _read_flags(flags: Mapping[str, str]) -> _Found:
    found = _Found()
    for key, text in flags.items():
        loc = tuple(key.split("."))
        given = _Given(_Text(text), _given(loc, text), _FLAGS.get(key, f"--{_shown(key)}"), (_FLAG, 0))
        if loc in _LEAVES:
            _read_text(found, loc, given)
        else:
            found.reject(loc, given, _unknown_key(loc))
    return found


def _read_text(found: _Found, loc: _Loc, given: _Given) -> None:
    """Add a value from the environment or a flag; lists and mappings are JSON."""
    if not given.value:
        remedy = "unset it" if given.order[0] == _ENVIRONMENT else "leave it out"
        found.reject(loc, given, f"must not be empty; {remedy} for the default")
    elif loc == _OPERATIONS:
        _read_json_operations(found, loc, given)
    elif loc == _FILES:
        _read_json_files(found, loc, given)
    else:
        found.values[loc] = given


def _read_json_operations(found: _Found, loc: _Loc, given: _Given) -> None:
    modes = _json(given.value)
    if not isinstance(modes, dict):
        remedy = 'must be a JSON object of operation to mode, each once, such as {"updateAlert": "observe"}'
        found.reject(loc, given, remedy)
        return
    found.values[loc] = _Given({}, given.shown, given.origin, given.order)
    for operation, mode in modes.items():
        value = mode if isinstance(mode, str | bool) else None
        inner = (*loc, operation)
        shown = given.shown if value is None else _given(inner, value if isinstance(value, str) else json.dumps(value))
        found.values[inner] = _Given(value, shown, given.origin, given.order)


def _read_json_files(found: _Found, loc: _Loc, given: _Given) -> None:
    paths = _json(given.value)
    if not isinstance(paths, list):
        guess = json.dumps([given.value]) if re.fullmatch(r"[\w./-]+", str(given.value)) else None
        found.reject(loc, given, _did_you_mean('must be a JSON list of paths, such as ["catalog.yaml"]', guess))
        return
    found.values[loc] = _Given(paths, given.shown, given.origin, given.order)
    for index, path in enumerate(paths):
        shown = _given((*loc, index), path) if isinstance(path, str) else given.shown
        found.values[(*loc, index)] = _Given(path, shown, given.origin, given.order)


def _json(text: object) -> object:
    """Return a JSON document; None for what is none, or names a member twice."""

    def once(members: list[tuple[str, object]]) -> dict[str, object]:
        document = dict(members)
        if len(document) != len(members):
            raise ValueError("a name stands twice")
        return document

    try:
        return json.loads(str(text), object_pairs_hook=once)
    except (ValueError, RecursionError):
        return None


# The way in, and the ways to look at what came of it.


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, and for each dotted key where its value came from.

    An origin is `default`, `FILE:LINE`, a variable's name or a flag's. An operation under `check.operations` has a
    key of its own, `check.operations.updateAlert`, for file, environment and flags are merged there.
    """

    settings: Settings
    origins: Mapping[str, str]


def load_settings(path: Path | None, environment: Mapping[str, str], flags: Mapping[str, str]) -> Loaded:
    """Return the settings: flags before environment before file before defaults.

    `path` is the settings file, None for none; `flags` maps dotted keys, such as `upstream.url`, to text. A list is
    replaced by the next layer, the modes under `check.operations` are merged. What a later layer overrides need not
    be valid, but must be a known key. Variables outside `DEFENDER_SIDECAR_` are ignored.

    Raises:
        SettingsError: with every problem of every layer, in the order file (by line), environment, flags.
    """
    layers = [_Found() if path is None else _File(path).read(), _read_environment(environment), _read_flags(flags)]
    values: dict[_Loc, _Given] = {}
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
    if problems or settings is None:
        # Outside the handler: pydantic's own error holds the values unmasked.
        raise SettingsError(problem for _, problem in sorted(problems, key=lambda placed: placed[0]))
    return Loaded(settings, MappingProxyType(_origins(settings, values)))


def _problem(loc: _Loc, error: object, values: Mapping[_Loc, _Given]) -> tuple[tuple[int, int], Problem]:
    """Return what pydantic found at `loc` as a problem, and its place among the others."""
    message = str(error)
    if isinstance(error, _ClashError):
        other = error.other
        if loc not in values:
            # The default was there first: whoever wrote the other value can change it.
            loc, other = other, tuple(map(str, loc))
        there = values.get(other)
        shown = there.shown if there else _scalar(_default(other))
        message = f"must differ from {_dotted(other)}, which is {shown} ({there.origin if there else 'default'})"
    given = values.get(loc)
    if given is None:
        given = next((values[loc[:end]] for end in range(len(loc), 0, -1) if loc[:end] in values), None)
    if given is None:
        given = _Given(None, "", "default", (_DEFAULT, 0))
    return given.order, Problem(_dotted(loc), given.shown, given.origin, message)


def _default(loc: tuple[str, ...]) -> object:
    value: object = Settings()
    for name in loc:
        value = getattr(value, name)
    return value


def _origins(settings: Settings, values: Mapping[_Loc, _Given]) -> dict[str, str]:
    origins = {}
    for loc in _LEAVES:
        given = values.get(loc)
        origins[".".join(loc)] = given.origin if given else "default"
        if loc == _OPERATIONS:
            by_operation = {name: values[(*loc, name)].origin for name in settings.check.operations}
            if given is None and by_operation:
                origins[".".join(loc)] = next(iter(by_operation.values()))
            origins |= {".".join((*loc, name)): origin for name, origin in by_operation.items()}
    return origins


def describe(loaded: Loaded) -> list[tuple[str, str, str]]:
    """Return key, value and origin of every setting, in the order of the file.

    A value is written as YAML writes it on one line, secrets masked. Each operation under `check.operations` has a
    row of its own; the mapping itself has one only where it is empty.
    """
    rows = []
    for loc in _LEAVES:
        value: object = loaded.settings
        for name in loc:
            value = getattr(value, name)
        entries: dict[tuple[str, ...], object] = {loc: value}
        if isinstance(value, Mapping) and value:
            entries = {(*loc, name): mode for name, mode in value.items()}
        for entry, held in entries.items():
            rows.append((_dotted(entry), _masked(entry, _scalar(held)), loaded.origins[".".join(entry)]))
    return rows


def _scalar(value: object) -> str:
    """Return a value as one line of YAML, which reads back as the same."""
    plain: object = value
    match value:
        case float() if value.is_integer() and value <= _MAX_INTEGER:
            plain = int(value)
        case Mapping():
            plain = {name: str(mode) for name, mode in value.items()}
        case tuple():
            plain = [str(path) for path in value]
        case bool() | int() | float():
            pass
        case _:
            plain = str(value)
    for style in (None, '"'):
        text = yaml.safe_dump(plain, default_flow_style=True, default_style=style, allow_unicode=True, width=math.inf)
        text = text.removesuffix("...\n").strip()
        if text.isprintable():
            break
    return text


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
            if known.get("type") in {"array", "object"}:
                known["type"] = [known["type"], "null"]
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return dialect | schema | {"description": "The settings file of defender-sidecar; every key may be left out."}
