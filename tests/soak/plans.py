"""What each request of a chaos run is, and what its two ends are to do with it, all drawn from one seed."""

# ruff: noqa: S311 - a run must be repeatable from its seed

from __future__ import annotations

import json
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})

# A machine's ID holds the sequence number: the path tells which request it is, wherever it turns up.
PATH_MARK: Final = "soak"

MODES: Final = {
    "isolateMachine": "reject",
    "unisolateMachine": "observe",
    "runAntiVirusScan": "fix",
    "restrictCodeExecution": "off",
}
"""The mode of each checked operation of a run: every one of them is met."""

CHECKED_AT_MOST_BYTES: Final = 65536

_FILLER: Final = Random(0).randbytes(400_000)


@dataclass(frozen=True, slots=True)
class Route:
    """An operation as clients ask for it; `path` has the sequence number put in."""

    operation: str
    method: str
    path: str
    takes_body: bool = False


ROUTES: Final = (
    Route("getMachine", "GET", "/api/machines/{}"),
    Route("getMachine", "GET", "/api/v1.0//Machines/{}/?$filter=a%20eq%20'b%2F'"),
    Route("unknown", "GET", "/soak/{}"),
    Route("unknown", "HEAD", "/soak/{}"),
    Route("unknown", "OPTIONS", "/soak/{}"),
    Route("unknown", "DELETE", "/soak/{}"),
    Route("unknown", "POST", "/soak/{}", takes_body=True),
    Route("unknown", "PUT", "/soak/{}", takes_body=True),
    Route("isolateMachine", "POST", "/api/machines/{}/isolate", takes_body=True),
    Route("unisolateMachine", "POST", "/api/machines/{}/unisolate", takes_body=True),
    Route("runAntiVirusScan", "POST", "/api/machines/{}/runAntiVirusScan", takes_body=True),
    Route("restrictCodeExecution", "POST", "/api/machines/{}/restrictCodeExecution", takes_body=True),
)

CLIENTS: Final = {
    "plain": 700,
    "slow": 40,
    "slow reader": 30,
    "leaves": 30,
    "resets": 30,
    "half a body": 30,
    "half a head": 20,
    "leaves within the response": 30,
    "malformed": 20,
    "stops": 3,
}
"""What clients do, each with its weight. Who `stops` waits until the proxy has had enough."""

UPSTREAMS: Final = {
    "answer": 300,
    "answer in chunks": 60,
    "answer to the end": 40,
    "answer slowly": 30,
    "answer at length": 20,
    "answer after interim ones": 20,
    "no content": 30,
    "envelope": 60,
    "page": 30,
    "simulator": 100,
    "flaky": 40,
    "reset before the head": 20,
    "close before the head": 20,
    "reset in the head": 20,
    "reset in the body": 20,
    "close in the body": 20,
    "close in a chunk": 20,
    "close in an error": 20,
    "garbage": 20,
    "garbage in chunks": 10,
    "early": 20,
    "early, then close": 20,
    "answer twice": 30,
    "answer, then stray bytes": 30,
    "answer, then close": 30,
    "answer, then reset": 30,
    "stall before the head": 3,
    "stall in the body": 3,
}
"""What the upstream does, each with its weight. The two that stall cost a whole timeout each."""

DIRECTIVES: Final = ("", "echo", "Forbidden", "TooManyRequests", "NotFound, gzip", "shape=graph", "html", "size=70000")


@dataclass(frozen=True, slots=True)
class Request:
    """One request, and what is to happen to it.

    Its body is `text` and `filler_bytes` more; `right_body` is what a fix makes of it. `result` is the label in
    `bodies_total` of a body that the check reads, None where it reads none; `misspelt` are the documented spellings
    that the body misses.
    """

    sequence: int
    request_id: str
    route: Route
    client: str
    upstream: str
    text: bytes = b""
    filler_bytes: int = 0
    right_body: bytes = b""
    content_type: str = "application/json"
    is_chunked: bool = False
    result: str | None = None
    misspelt: tuple[str, ...] = ()
    directive: str = ""
    pause_s: float = 0.0
    resets: bool = False

    @property
    def body(self) -> bytes:
        """The whole body. It is not kept: a hundred thousand of them would fill the memory."""
        return self.text + _FILLER[: self.filler_bytes]

    @property
    def target(self) -> str:
        return self.route.path.format(f"{PATH_MARK}{self.sequence}")

    @property
    def mode(self) -> str | None:
        return MODES.get(self.route.operation)

    @property
    def leaves(self) -> bool:
        return self.client in {"leaves", "resets", "half a body", "half a head", "leaves within the response"}

    @property
    def is_refused(self) -> bool:
        """Whether the proxy itself has to refuse it for its misspelt names."""
        return self.mode == "reject" and bool(self.misspelt)


@dataclass(frozen=True, slots=True)
class _Body:
    content: bytes
    right: bytes
    result: str | None
    misspelt: tuple[str, ...] = ()
    content_type: str = "application/json"
    filler_bytes: int = 0


def requests(seed: int, count: int | None = None) -> Iterator[Request]:
    """Yield `count` requests, without end where that is None; the same ones for the same seed."""
    choices = Random(seed)
    sequence = 0
    while count is None or sequence < count:
        yield _request(choices, seed, sequence)
        sequence += 1


def _request(choices: Random, seed: int, sequence: int) -> Request:
    route = choices.choice(ROUTES)
    client = _drawn(choices, CLIENTS)
    upstream = _drawn(choices, UPSTREAMS)
    body = _body(choices, route, sequence) if route.takes_body else _Body(b"", b"", None)
    if client in {"half a body", "stops"} and len(body.content) + body.filler_bytes < 2:
        client = "plain"
    return Request(
        sequence=sequence,
        request_id=f"soak-{seed}-{sequence}",
        route=route,
        client=client,
        upstream=upstream,
        text=body.content,
        filler_bytes=body.filler_bytes,
        right_body=body.right,
        content_type=body.content_type,
        is_chunked=bool(body.content) and choices.random() < 0.3,
        result=body.result,
        misspelt=body.misspelt,
        directive=choices.choice(DIRECTIVES) if upstream == "simulator" else "",
        pause_s=choices.choice([0, 0, 0.001, 0.01, 0.03]),
        resets=choices.random() < 0.5,
    )


def _drawn(choices: Random, weights: Mapping[str, int]) -> str:
    return choices.choices(list(weights), list(weights.values()))[0]


_SCAN: Final = {"Comment": "scan it", "ScanType": "Full"}
_ISOLATE: Final = {"Comment": "contain it", "IsolationType": "Full"}
_COMMENT: Final = {"Comment": "as agreed"}


@dataclass(slots=True)
class _Checked:
    """The body of an operation that is checked: its documented names, right and wrong."""

    members: dict[str, str]
    wrong: dict[str, str] = field(default_factory=dict)


_MEMBERS: Final = {
    "isolateMachine": _Checked(_ISOLATE, {"Comment": "comment", "IsolationType": "isolation_type"}),
    "unisolateMachine": _Checked(_COMMENT, {"Comment": "COMMENT"}),
    "runAntiVirusScan": _Checked(_SCAN, {"Comment": "comment", "ScanType": "scan-Type"}),
    "restrictCodeExecution": _Checked(_COMMENT, {"Comment": "comment"}),
}


def _body(choices: Random, route: Route, sequence: int) -> _Body:  # noqa: C901 - a table of kinds
    checked = _MEMBERS.get(route.operation)
    if checked is None:
        size = choices.choice([0, 1, 200, 5000, 70_000, len(_FILLER)])
        return _Body(b"%d:" % sequence, b"", None, content_type="application/octet-stream", filler_bytes=size)
    kind = choices.choice(["right", "right", "wrong", "wrong", "unknown", "repeated", "not JSON", "broken", "large"])
    members = checked.members | {"Comment": f"{checked.members['Comment']} ({sequence})"}
    misspelt: tuple[str, ...] = ()
    right = json.dumps(members, indent=choices.choice([None, 1])).encode()
    content = right
    result, content_type = "clean", "application/json"
    match kind:
        case "wrong":
            misspelt = tuple(name for name in members if choices.random() < 0.7) or ("Comment",)
            for name in misspelt:
                content = content.replace(b'"%b"' % name.encode(), b'"%b"' % checked.wrong[name].encode())
            result = "mismatch"
        case "unknown":
            content = right.replace(b"{", b'{"Zweck": [1.50, {"a": "\\u00e9"}], ', 1)
            result = "unknown_names"
        case "repeated":
            content = right.replace(b"{", b'{"Comment": "twice", ', 1)
            result = "duplicate_names"
        case "not JSON":
            content, result, content_type = b"<a>%d</a>" % sequence, "not_json", "application/xml"
        case "broken":
            content, result = right[:-1], "unreadable"
        case "large":
            content = right.replace(b"(", b"(" + b"x" * CHECKED_AT_MOST_BYTES)
            result = "too_large"
    if kind != "wrong":
        right = content
    if MODES[route.operation] == "off":
        return _Body(content, content, None, content_type=content_type)
    return _Body(content, right, result, misspelt, content_type)
