"""Where settings come from: the file, the environment and the flags, each read for itself.

A layer says what was given and where it stood; what is given twice, or to no key, is a problem here. Whether it is a
value is for the types of the keys to say.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, TypeAlias

import yaml

from proxy.files import about_to_read
from proxy.settings_problems import FILES, OPERATIONS, PATHS, Problem, dotted, one_line
from proxy.settings_values import OPERATIONS_REMEDY, Text, did_you_mean, is_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from proxy.settings_problems import Key, Keys, Loc

Order: TypeAlias = tuple[int, int]
"""The place of a problem among the others, as their reader meets them: layer, then line."""

ENVIRONMENT_PREFIX: Final = "DEFENDER_SIDECAR_"
"""What the names of our variables begin with."""

CONFIG_VARIABLE: Final = f"{ENVIRONMENT_PREFIX}CONFIG"
"""The variable that names the file: no setting, as it is read before them."""

_FILE, _ENVIRONMENT, _FLAG, _DEFAULT, _ELSEWHERE = range(5)


@dataclass(frozen=True, slots=True)
class Given:
    """A value as one layer gives it: `shown` and `origin` are as in a `Problem` with it, `order` is its place."""

    value: object
    shown: str
    origin: str
    order: Order


@dataclass(frozen=True, slots=True)
class Found:
    """What one layer holds: values by location, an element of a list included, and its problems in place."""

    values: dict[Loc, Given] = field(default_factory=dict)
    problems: list[tuple[Order, Problem]] = field(default_factory=list)

    def reject(self, loc: Loc, given: Given, message: str) -> None:
        """Add a problem with a value."""
        self.problems.append((given.order, Problem(dotted(loc), given.shown, given.origin, message)))


DEFAULT: Final = Given(None, "", "default", (_DEFAULT, 0))

ELSEWHERE: Final[Order] = (_ELSEWHERE, 0)
"""The place of a problem that no layer is to blame for."""
"""What no layer gives."""


# The file.

_Loader: Final[type[yaml.CSafeLoader | yaml.SafeLoader]] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_MAX_FILE_BYTES: Final = 1 << 20
# libyaml's composer recurses on the C stack: a file of 100,000 brackets ends the process, not the parse.
_MAX_FILE_DEPTH: Final = 32


def read_file(path: Path, keys: Keys) -> Found:
    """Return what a YAML file says; each origin is `FILE:LINE`.

    Relative paths start at the file's folder. A file that cannot be read is one problem.
    """
    return _File(path, keys).read()


class _FileError(Exception):
    """The file as a whole cannot be read; `place` is line and column, as far as they are known."""

    def __init__(self, message: str, *place: int) -> None:
        self.place = place
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class _File:
    """The reading of one settings file into `found`."""

    path: Path
    keys: Keys
    found: Found = field(default_factory=Found)
    constructor: yaml.constructor.SafeConstructor = field(default_factory=yaml.constructor.SafeConstructor)

    def read(self) -> Found:
        try:
            root = self._root(self._text())
            if root is not None:
                self._mapping(root, ())
        except _FileError as exc:
            origin = ":".join([one_line(str(self.path)), *map(str, exc.place)])
            order = (_FILE, exc.place[0] if exc.place else 0)
            self.found.problems.append((order, Problem("config", "", origin, str(exc))))
        return self.found

    def _text(self) -> str:
        about_to_read(self.path)
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

    def _given(self, loc: Loc, key: yaml.Node, node: yaml.Node) -> Given:
        shown = _folded(node)
        if isinstance(node, yaml.ScalarNode):
            shown = self.keys.shown(loc, node.value or ("null" if _is_null(node) else ""))
        line = _line(key)
        return Given(None, shown, f"{one_line(str(self.path))}:{line}", (_FILE, line))

    def _entries(self, node: yaml.MappingNode, outer: Loc) -> Iterator[tuple[Loc, Given, yaml.Node]]:
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

    def _mapping(self, node: yaml.MappingNode, outer: Loc) -> None:
        for loc, given, value in self._entries(node, outer):
            if loc in self.keys.sections:
                # A section whose every line is commented out is null, and means its defaults.
                if isinstance(value, yaml.MappingNode):
                    self._mapping(value, loc)
                elif not _is_null(value):
                    first = self.keys.first(loc)
                    self.found.reject(loc, given, f"must be a mapping of keys such as {first[-1]}")
            elif loc == OPERATIONS:
                self._operations(loc, given, value)
            elif loc == FILES and (isinstance(value, yaml.SequenceNode) or _is_null(value)):
                self._files(loc, given, value)
            elif loc in self.keys.leaves:
                self._leaf(loc, given, value)
                if loc in PATHS and loc in self.found.values:
                    self._keep(loc, given, self._from_folder(self.found.values[loc].value))
            else:
                self.found.reject(loc, given, self.keys.remedy(loc))

    def _operations(self, loc: Loc, given: Given, node: yaml.Node) -> None:
        if isinstance(node, yaml.MappingNode):
            self._keep(loc, given, {})
            for inner, mode_given, mode in self._entries(node, loc):
                self._leaf(inner, mode_given, mode)
        elif _is_null(node):
            self._keep(loc, given, {})
        else:
            self.found.reject(loc, given, OPERATIONS_REMEDY)

    def _files(self, loc: Loc, given: Given, node: yaml.Node) -> None:
        elements = node.value if isinstance(node, yaml.SequenceNode) else []
        paths: list[object] = []
        for index, element in enumerate(elements):
            inner = (*loc, index)
            self._leaf(inner, self._given(inner, element, element), element)
            held = self.found.values.get(inner)
            paths.append(self._from_folder(held.value if held else None))
        self._keep(loc, given, paths)

    def _from_folder(self, path: object) -> object:
        """Return `path`, from the file's folder on where it is a relative one."""
        return self.path.parent / path if isinstance(path, str) and is_path(path) else path

    def _leaf(self, loc: Loc, given: Given, node: yaml.Node) -> None:
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

    def _keep(self, loc: Loc, given: Given, value: object) -> None:
        self.found.values[loc] = replace(given, value=value)


def _line(part: yaml.Node | yaml.Event) -> int:
    return part.start_mark.line + 1 if part.start_mark else 1


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _is_odd_number(node: yaml.ScalarNode) -> bool:
    """Whether YAML 1.1 reads a number into what nobody means as one: `1:30` as 90, `010` as 8."""
    if node.tag not in {"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"}:
        return False
    return ":" in node.value or re.match(r"[-+]?0[0-9_]", node.value) is not None


def _folded(node: yaml.Node) -> str:
    return "[…]" if isinstance(node, yaml.SequenceNode) else "{…}"


# Environment and flags: text, and JSON where a key holds a collection.

_FLAGS: Final = {"upstream.url": "--upstream", "check.mode": "--mode"}

# Kubernetes tells every container of the Services in its namespace by variables of the Service's name in capitals
# ("Discovering services: environment variables"). For a Service that is called `defender-sidecar`, or begins so, they
# look like ours, and a Pod must not fail to start for them. `_PORT` is theirs only if it holds a URL: a plain number
# there was meant for us, and is told so.
_SERVICE_VARIABLE: Final = re.compile(
    rf"{ENVIRONMENT_PREFIX}(?:[A-Z0-9_]+_)?"
    r"(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)"
)
_SERVICE_URL_VARIABLE: Final = re.compile(rf"{ENVIRONMENT_PREFIX}(?:[A-Z0-9_]+_)?PORT")
_SERVICE_URL: Final = re.compile(r"(?:tcp|udp|sctp)://")


def read_environment(environment: Mapping[str, str], keys: Keys) -> Found:
    """Return what the variables with our prefix say; each origin is a variable, and an empty one is a problem.

    A variable that is empty is nearly always one whose source was missing, and to run on the default upstream then,
    or without a limit that somebody meant to set, is worse than not to run.
    """
    found = Found()
    variables = {_variable(key): key for key in keys.leaves}
    within_operations = f"{_variable(OPERATIONS)}__"
    # Sorted, CHECK__OPERATIONS comes before CHECK__OPERATIONS__updateAlert, which is the more particular.
    for index, (name, text) in enumerate(sorted(environment.items())):
        if not name.upper().startswith(ENVIRONMENT_PREFIX) or _is_foreign(name, text):
            continue
        suffix = name[len(ENVIRONMENT_PREFIX) :]
        order = (_ENVIRONMENT, index)
        loc = variables.get(name)
        if loc is None and name.startswith(within_operations) and name != within_operations:
            loc = (*OPERATIONS, name.removeprefix(within_operations))
        if loc is not None:
            _read_text(found, keys, loc, Given(Text(text), keys.shown(loc, text), one_line(name), order))
        else:
            unknown = tuple(suffix.lower().split("__"))
            key = dotted(unknown) if suffix else one_line(name)
            remedy = _remedy(keys.meant(unknown) if suffix else None, keys)
            found.problems.append((order, Problem(key, keys.shown(unknown, text), one_line(name), remedy)))
    return found


def _is_foreign(name: str, text: str) -> bool:
    """Whether a variable with our prefix is none of the settings'."""
    return (
        name == CONFIG_VARIABLE
        or _SERVICE_VARIABLE.fullmatch(name) is not None
        or (_SERVICE_URL_VARIABLE.fullmatch(name) is not None and _SERVICE_URL.match(text) is not None)
    )


def _variable(key: Key) -> str:
    return ENVIRONMENT_PREFIX + "__".join(key).upper()


def _remedy(meant: Key | None, keys: Keys) -> str:
    """Return what to do about an unknown variable that resembles the one of `meant`."""
    if meant is None:
        return "must be the name of a setting; unset it, or see `config show` for the keys"
    if meant in keys.sections:
        return f"must name one key of this section, such as {_variable(keys.first(meant))}"
    return f"must be the name of a setting; did you mean {_variable(meant)}?"


def read_flags(flags: Mapping[str, str], keys: Keys) -> Found:
    """Return what flags, given as dotted key and text, say; each origin is a flag as it was typed."""
    found = Found()
    for key, text in flags.items():
        loc = tuple(key.split("."))
        given = Given(Text(text), keys.shown(loc, text), _FLAGS.get(key, f"--{one_line(key)}"), (_FLAG, 0))
        if loc in keys.leaves:
            _read_text(found, keys, loc, given)
        else:
            found.reject(loc, given, keys.remedy(loc))
    return found


def _read_text(found: Found, keys: Keys, loc: Loc, given: Given) -> None:
    """Add a value from the environment or a flag; lists and mappings are JSON."""
    if not given.value:
        remedy = "unset it" if given.order[0] == _ENVIRONMENT else "leave it out"
        found.reject(loc, given, f"must not be empty; {remedy} for the default")
    elif loc == OPERATIONS:
        _read_json_operations(found, keys, loc, given)
    elif loc == FILES:
        _read_json_files(found, keys, loc, given)
    else:
        found.values[loc] = given


def _read_json_operations(found: Found, keys: Keys, loc: Loc, given: Given) -> None:
    modes = _json(given.value)
    if not isinstance(modes, dict):
        remedy = 'must be a JSON object of operation to mode, each once, such as {"updateAlert": "observe"}'
        found.reject(loc, given, remedy)
        return
    found.values[loc] = replace(given, value={})
    for operation, mode in modes.items():
        inner = (*loc, operation)
        if isinstance(mode, str | bool):
            text = mode if isinstance(mode, str) else json.dumps(mode)
            found.values[inner] = replace(given, value=mode, shown=keys.shown(inner, text))
        else:
            found.values[inner] = replace(given, value=None)


def _read_json_files(found: Found, keys: Keys, loc: Loc, given: Given) -> None:
    paths = _json(given.value)
    if not isinstance(paths, list):
        guess = json.dumps([given.value]) if re.fullmatch(r"[\w./-]+", str(given.value)) else None
        found.reject(loc, given, did_you_mean('must be a JSON list of paths, such as ["catalog.yaml"]', guess))
        return
    found.values[loc] = replace(given, value=paths)
    for index, path in enumerate(paths):
        inner = (*loc, index)
        shown = keys.shown(inner, path) if isinstance(path, str) else given.shown
        found.values[inner] = replace(given, value=path, shown=shown)


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
