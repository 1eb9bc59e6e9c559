"""What a value of a setting may be: the types that the keys are declared with.

Each type has a reader, which takes what YAML gave or a `Text`, and returns the value or raises ValueError with the
remedy. No reader knows where its value came from, and none touches file, environment or network.
"""

import difflib
import ipaddress
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
)

from proxy.core.headers import HOP_BY_HOP
from proxy.core.model import Mode

_E = TypeVar("_E", bound=StrEnum)

MAX_INTEGER: Final = 2**53 - 1
"""The largest whole number: what JSON carries exactly (RFC 8259, 6), and well below what a C size can hold."""

OPERATIONS_REMEDY: Final = "must be a mapping of operation to mode, such as {updateAlert: observe}"
"""The remedy for what is no mapping of operations."""


class Text(str):
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


USUAL_ADDRESS: Final = {"listen": Address("127.0.0.1", 8080), "admin": Address("127.0.0.1", 9464)}
"""The default of each key that holds an address."""


def closest(word: str, words: Iterable[str]) -> str | None:
    """Return the one of `words` that `word` resembles; None where none is near."""
    return next(iter(difflib.get_close_matches(word, list(words), n=1)), None)


def did_you_mean(remedy: str, guess: object) -> str:
    """Return a remedy and, where there is a guess, the question for it."""
    return f"{remedy}; did you mean {guess}?" if guess else remedy


# Addresses and URLs.

# RFC 952 and RFC 1123, 2.1, and the underscore that container networks put into host names.
_LABEL: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME: Final = re.compile(rf"(?=.{{1,254}}\Z){_LABEL}(?:\.{_LABEL})*\.?")
_HOST_PORT: Final = re.compile(r"(?P<host>\[[^\[\]]*\]|[^:\[\]]*)(?::(?P<port>[^:\[\]]*))?")
_PORT: Final = re.compile(r"0|[1-9][0-9]{0,4}")
_LAST_PORT: Final = 65535

# RFC 3986, appendix B, behind the scheme: unlike urlsplit it answers any text.
_AFTER_SCHEME: Final = re.compile(
    r"(?P<authority>[^/?#]*)(?P<path>[^?#]*)(?P<query>\?[^#]*)?(?P<fragment>#.*)?", re.DOTALL
)
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


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
    usual = USUAL_ADDRESS[info.field_name or "listen"]
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
    raise ValueError(did_you_mean(f"must be HOST:PORT, such as {usual}", _nearby_address(value, usual)))


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
    raise ValueError(did_you_mean("; ".join(faults), None if "@" in rest.replace(authority, "", 1) else url))


_OTLP_ENDPOINT: Final = re.compile(r"(?P<base>[Hh][Tt][Tt][Pp][Ss]?://[^/?#@]+)(?P<path>(?:/[^?#]*)?)")


def _otlp_endpoint(value: object) -> str | None:
    """Return the base URL of a receiver of OTLP over HTTP, without a slash at its end."""
    if value is None:
        return None
    such = "such as http://127.0.0.1:4318"
    parts = _OTLP_ENDPOINT.fullmatch(value) if isinstance(value, str) and re.fullmatch(r"[!-~]+", value) else None
    if parts is None:
        raise ValueError(f"must be the URL of a receiver of OTLP over HTTP, without user, query or fragment, {such}")
    path = parts["path"].rstrip("/")
    if path.endswith("/v1/traces"):
        raise ValueError(f"must be without /v1/traces, which is put behind it, {such}")
    return _upstream_url(parts["base"]) + path


# Numbers.

_INTEGER: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17}(?:_[0-9]{1,17})*)")
_DECIMAL: Final = re.compile(r"[-+]?[0-9]{1,300}(?:\.[0-9]{0,300})?(?:[eE][-+]?[0-9]{1,3})?")
# Python reads no integer of more than 4,300 digits, and no key means one of a hundred.
_MAX_DIGITS: Final = 99
_WITH_UNIT: Final = re.compile(r"(?P<number>[0-9]{1,9}(?:\.[0-9]{1,9})?)\s*(?P<unit>[A-Za-z]+)")
_UNIT_S: Final = {"ms": 0.001, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_UNIT_BYTES: Final = {
    "b": 1,
    **{
        f"{letter}{rest}": 1 << shift for letter, shift in (("k", 10), ("m", 20), ("g", 30)) for rest in ("", "b", "ib")
    },
}


def _number(value: object) -> float | None:
    """Return a finite number, None for anything else: a truth value is no number."""
    if isinstance(value, Text):
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


def _seconds(*, above_0: bool) -> Callable[[object], float]:
    """Return a reader of seconds: any number above 0, or 0 as well."""
    remedy = f"must be a number of seconds{' above 0' if above_0 else ', 0 or more'}"

    def read(value: object) -> float:
        number = _number(value)
        if number is None or number < 0 or (above_0 and number == 0):
            guess = _with_unit(value, _UNIT_S)
            raise ValueError(did_you_mean(remedy, guess and f"{guess:.12g}"))
        return number + 0.0  # -0.0 becomes 0.0

    return read


def _integer(value: object) -> int | None:
    if isinstance(value, Text):
        return int(value) if _INTEGER.fullmatch(value) and len(value) <= _MAX_DIGITS else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _whole(least: int, of: str) -> Callable[[object], int]:
    """Return a reader of whole numbers from `least` up to what JSON can carry; `of` is " of bytes" or nothing."""

    def read(value: object) -> int:
        number = _integer(value)
        if number is not None and least <= number <= MAX_INTEGER:
            return number
        if number is not None and number > MAX_INTEGER:
            raise ValueError(f"must be at most {MAX_INTEGER}")
        guess = _with_unit(value, _UNIT_BYTES) if of else None
        remedy = f"must be a whole number{of}, {least} or more"
        raise ValueError(did_you_mean(remedy, guess and int(guess)))

    return read


# Words.

_TRUTH: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}

# RFC 9110, 5.6.2.
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# The fields that say where a body ends and how it is to be read: a response that lost those would be read wrongly.
_RESERVED_FIELDS: Final = {name.decode() for name in HOP_BY_HOP} | {
    "content-encoding",
    "content-length",
    "content-type",
    "host",
}


def _truth(value: object) -> bool:
    if isinstance(value, Text) and value.lower() in _TRUTH:
        return _TRUTH[value.lower()]
    if isinstance(value, bool):
        return value
    guess = _TRUTH.get(value.lower()) if isinstance(value, str) else None
    raise ValueError(did_you_mean("must be true or false", None if guess is None else str(guess).lower()))


def _choice(value: object, choices: Iterable[_E]) -> _E:
    by_name = {str(choice): choice for choice in choices}
    if isinstance(value, str) and value in by_name:
        return by_name[value]
    *most, last = by_name
    guess = closest(value.strip().lower(), by_name) if isinstance(value, str) else None
    raise ValueError(did_you_mean(f"must be {', '.join(most)} or {last}", guess))


def _mode(value: object) -> Mode:
    # YAML 1.1 reads a bare `off` as false.
    if value is False or value == Mode.OFF:
        raise ValueError("must be reject, fix or observe; `off` goes under check.operations, by operation")
    return _choice(value, (Mode.REJECT, Mode.FIX, Mode.OBSERVE))


def _operation_mode(value: object) -> Mode:
    # YAML 1.1 reads a bare `off` as false, and programs that rewrite YAML spell it so.
    return Mode.OFF if value is False else _choice(value, Mode)


def _field_name(value: object) -> str:
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise ValueError("must be a header field's name: letters, digits and - without spaces, such as X-Target-Id")
    if value.lower() in _RESERVED_FIELDS:
        raise ValueError("must be another name: HTTP itself gives this one a meaning")
    return str(value)


# Collections and paths.


def _operations(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise ValueError(OPERATIONS_REMEDY)


def _files(value: object) -> object:
    if isinstance(value, list | tuple):
        return value
    guess = f"[{value}]" if isinstance(value, str) and re.fullmatch(r"[\w./-]+", value) else None
    raise ValueError(did_you_mean("must be a list of paths", guess))


def is_path(text: str) -> bool:
    """Whether `text` can be a path at all."""
    return bool(text) and "\0" not in text


def _path(value: object, what: str) -> Path:
    if isinstance(value, Path):
        return value
    if not isinstance(value, str):
        raise ValueError("must be a path; if it looks like a number or a date, put it in quotes")  # noqa: TRY004
    if not is_path(value):
        raise ValueError(f"must be the path of {what}")
    return Path(value)


def _document_path(value: object) -> Path:
    return _path(value, "an OpenAPI document")


def _pem_path(value: object) -> Path | None:
    return None if value is None else _path(value, "a file in PEM")


# The types.

ListenAddress = Annotated[
    Address,
    PlainValidator(_address),
    WithJsonSchema({"type": "string", "pattern": r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+):[0-9]{1,5}$"}),
    PlainSerializer(str, return_type=str),
]
"""HOST:PORT, IPv6 in brackets; only for the keys of `USUAL_ADDRESS`."""

UpstreamUrl = Annotated[str, Field(pattern=r"^[Hh][Tt][Tt][Pp][Ss]?://[^/?#@]+/?$"), BeforeValidator(_upstream_url)]
"""An origin, held as `scheme://host[:port]`."""

OtlpEndpoint = Annotated[
    str | None, Field(pattern=r"^[Hh][Tt][Tt][Pp][Ss]?://[^/?#@]+(/[^?#]*)?$"), BeforeValidator(_otlp_endpoint)
]
"""The base URL of a receiver of OTLP over HTTP; None for what the environment says."""

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False), BeforeValidator(_seconds(above_0=True))]
"""A time above 0."""

Delay = Annotated[float, Field(ge=0, allow_inf_nan=False), BeforeValidator(_seconds(above_0=False))]
"""A time in seconds; 0 for none."""

Count = Annotated[int, Field(ge=1, le=MAX_INTEGER), BeforeValidator(_whole(1, ""))]
"""A number of things, at least one."""

CountOrNoLimit = Annotated[int, Field(ge=0, le=MAX_INTEGER), BeforeValidator(_whole(0, ""))]
"""A whole number, 0 for no limit."""

Bytes = Annotated[int, Field(ge=1, le=MAX_INTEGER), BeforeValidator(_whole(1, " of bytes"))]
"""A size, at least one byte."""

BytesOrNoLimit = Annotated[int, Field(ge=0, le=MAX_INTEGER), BeforeValidator(_whole(0, " of bytes"))]
"""A size; 0 for no limit."""

Truth = Annotated[bool, PlainValidator(_truth), WithJsonSchema({"type": "boolean"})]
"""True or false."""

Level = Annotated[
    LogLevel,
    BeforeValidator(partial(_choice, choices=LogLevel)),
    WithJsonSchema({"enum": [str(level) for level in LogLevel]}),
]
"""A `LogLevel`, by its name."""

Format = Annotated[
    LogFormat,
    BeforeValidator(partial(_choice, choices=LogFormat)),
    WithJsonSchema({"enum": [str(form) for form in LogFormat]}),
]
"""A `LogFormat`, by its name."""

CheckMode = Annotated[
    Mode, BeforeValidator(_mode), WithJsonSchema({"enum": [str(mode) for mode in Mode if mode is not Mode.OFF]})
]
"""A mode for all operations: any but off."""

_OperationMode = Annotated[
    Mode, BeforeValidator(_operation_mode), WithJsonSchema({"enum": [*(str(mode) for mode in Mode), False]})
]

OperationModes = Annotated[
    Mapping[str, _OperationMode],
    BeforeValidator(_operations),
    AfterValidator(MappingProxyType),
    PlainSerializer(dict, return_type=dict[str, Mode]),
]
"""Modes by operation, off among them; nobody can change the mapping."""

FieldName = Annotated[str, Field(pattern=rf"^{_TOKEN.pattern}$"), BeforeValidator(_field_name)]
"""The name of a header field that the proxy may write."""

_Path = Annotated[
    Path,
    PlainValidator(_document_path),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "minLength": 1}),
]

PemFile = Annotated[
    Path | None,
    PlainValidator(_pem_path),
    PlainSerializer(lambda path: None if path is None else str(path)),
    WithJsonSchema({"type": ["string", "null"], "minLength": 1}),
]
"""The path of a file with certificates or a key; None for none."""

Files = Annotated[tuple[_Path, ...], BeforeValidator(_files)]
"""Paths, in the order in which they are given."""
