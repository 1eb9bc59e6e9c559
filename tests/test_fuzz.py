"""Bytes that nobody thought of, at the listener and at the fixer: answered or closed upon, and never half understood.

Properties of single rules stand with those rules, in tests/core.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import re
import threading
import zlib
from typing import TYPE_CHECKING, Any, Final, Self, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.configuration import load_configuration
from proxy.core.check import check
from proxy.core.model import Action, Mode
from proxy.loop import new_loop
from proxy.resources import load_catalog
from proxy.server import serving
from tests.conftest import QUICK, Lines, dialled

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from proxy.core.model import Fields

OPERATIONS: Final = [one for one in load_catalog().operations if one.body is not None and one.is_checked]
NAMES: Final = sorted({name for one in OPERATIONS if one.body for name in one.body.parameters})
LIMIT_BYTES: Final = 65536


# Spellings that the check overlooks the difference of.
WAYS: Final[list[Callable[[str], str]]] = [
    *(str, str.lower, str.upper, str.swapcase, "_".join),
    lambda name: f"{name[:1]}-{name[1:]}",
]


SPELLINGS: Final = st.builds(lambda name, way: way(name), st.sampled_from(NAMES), st.sampled_from(WAYS))
DOCUMENTS: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | SPELLINGS,
    lambda values: st.lists(values, max_size=4) | st.dictionaries(SPELLINGS | st.text(max_size=4), values, max_size=5),
    max_leaves=20,
)
TEXTS: Final = st.builds(
    lambda document, ascii_, indent: json.dumps(document, ensure_ascii=ascii_, indent=indent).encode(
        errors="surrogatepass"
    ),
    DOCUMENTS,
    st.booleans(),
    st.sampled_from([None, 0, 3]),
)


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """Return what `whole` draws with a few bytes struck out, put in, or repeated."""
    data = bytearray(draw(whole))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data)))
        match draw(st.integers(0, 2)):
            case 0:
                del data[at : at + draw(st.integers(1, 8))]
            case 1:
                data[at:at] = draw(st.binary(max_size=4) | st.sampled_from([b"\r\n", b"\0", b'"', b"{", b"\\", b","]))
            case _:
                data[at:at] = data[at : at + 20]
    return bytes(data)


LINES: Final = st.tuples(
    st.sampled_from([b"Content-Type", b"Content-Encoding", b"Content-MD5", b"Digest", b"Cache-Control"])
    | st.binary(max_size=8),
    st.sampled_from([b"application/json", b"text/plain; charset=utf-16", b"gzip", b"deflate", b"br", b"no-transform"])
    | st.binary(max_size=12),
)
# A string and the colon behind it: a name with all that belongs to it.
_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)


def without_names(text: bytes) -> tuple[bytes, list[str]]:
    """Return `text` without the names of its objects, and those."""
    pieces: list[bytes] = []
    names: list[str] = []
    kept_from = 0
    for token in _STRING.finditer(text):
        if text[token.end() :].lstrip(b" \t\r\n").startswith(b":"):
            pieces.append(text[kept_from : token.start()])
            names.append(json.loads(token[0]))
            kept_from = token.end()
    return b"".join((*pieces, text[kept_from:])), names


def folded(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "").replace(" ", "")


class TestCheck:
    @settings(max_examples=300, deadline=None)
    @given(
        st.sampled_from(OPERATIONS), damaged(TEXTS) | st.binary(), st.lists(LINES, max_size=4), st.sampled_from(Mode)
    )
    def test_any_bytes_with_any_fields_are_answered(
        self, operation: Any, body: bytes, lines: list[tuple[bytes, bytes]], mode: Mode
    ) -> None:
        found = check(body, tuple(lines), operation.body, mode, limit_bytes=LIMIT_BYTES)
        assert (found.result is None) == (not body)
        assert (found.action is None) == (not found.findings.mismatches)
        assert (found.fixed_body is not None) == (found.action is Action.FIXED)
        assert found.action is not Action.FIXED or mode is Mode.FIX

    @settings(max_examples=400, deadline=None)
    @given(st.sampled_from(OPERATIONS), damaged(TEXTS))
    def test_a_fix_changes_names_alone_and_leaves_no_mismatch(self, operation: Any, body: bytes) -> None:
        found = check(body, (), operation.body, Mode.FIX, limit_bytes=LIMIT_BYTES)
        if found.fixed_body is None:
            return
        (rest, names), (fixed_rest, fixed_names) = without_names(body), without_names(found.fixed_body)
        assert rest == fixed_rest
        changed = [(one, other) for one, other in zip(names, fixed_names, strict=True) if one != other]
        assert [one for one, _ in changed] == [mismatch.got for mismatch in found.findings.mismatches]
        assert [other for _, other in changed] == [mismatch.expected for mismatch in found.findings.mismatches]
        assert all(folded(one) == folded(other) for one, other in changed)
        again = check(found.fixed_body, (), operation.body, Mode.FIX, limit_bytes=LIMIT_BYTES)
        assert (again.findings.mismatches, again.action) == ((), None)

    @settings(max_examples=200, deadline=None)
    @given(st.sampled_from(OPERATIONS), damaged(TEXTS), st.sampled_from([b"gzip", b"deflate"]), st.sampled_from(Mode))
    def test_coded_or_plain_the_same_is_found(self, operation: Any, body: bytes, coding: bytes, mode: Mode) -> None:
        coded = gzip.compress(body) if coding == b"gzip" else zlib.compress(body)
        fields: Fields = ((b"Content-Type", b"application/json"),)
        plain = check(body, fields, operation.body, mode, limit_bytes=LIMIT_BYTES)
        found = check(coded, (*fields, (b"Content-Encoding", coding)), operation.body, mode, limit_bytes=LIMIT_BYTES)
        assert found.findings == plain.findings
        if body:
            assert found.result is plain.result


# What a strict reader takes: whatever the listener lets pass has to look like this to the upstream.
_HEAD: Final = re.compile(
    rb"(?:GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) (?:/[!-~\x80-\xff]*|\*) HTTP/1\.1\r\n"
    rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+: ?(?:[!-~\x80-\xff](?:[ \t!-~\x80-\xff]*[!-~\x80-\xff])?)?\r\n)*\r\n"
)
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_CODING: Final = re.compile(rb"\r\ntransfer-encoding: *chunked\r\n", re.IGNORECASE)
_CHUNK: Final = re.compile(rb"([0-9a-fA-F]+)\r\n")

REQUEST_LINES: Final = st.sampled_from(
    [
        *(b"GET /api/machines HTTP/1.1", b"POST /api/machines/1/isolate HTTP/1.1", b"PUT /fuzz?a=%2F HTTP/1.1"),
        *(b"GET http://elsewhere.example/a HTTP/1.1", b"HEAD /fuzz HTTP/1.0", b"OPTIONS * HTTP/1.1"),
        *(b"CONNECT elsewhere.example:443 HTTP/1.1", b"TRACE / HTTP/1.1", b"get / HTTP/1.1", b"GET / HTTP/2.0"),
        b"PRI * HTTP/2.0",
    ]
)
HEADER_LINES: Final = st.sampled_from(
    [
        *(b"Host: sidecar", b"Content-Length: 4", b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        *(b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: \x0bchunked", b"Content-Length: 4, 4"),
        *(b"Content-Length : 4", b" folded: yes", b"Connection: close", b"Connection: X-Gone", b"X-Gone: 1"),
        *(b"Expect: 100-continue", b"Upgrade: websocket", b"X: \xff\xfe", b"X: a\rb", b"X: a\nb", b": empty", b"X"),
        *(b"Content-Type: application/json", b"Content-Encoding: gzip", b"Via: 1.1 defender-sidecar"),
    ]
)
REQUEST_BODIES: Final = st.sampled_from(
    [
        *(b"", b"abcd", b"abcde", b'{"comment": 1}', b"4\r\nabcd\r\n0\r\n\r\n", b"4;a=b\r\nabcd\r\n0\r\nX: y\r\n\r\n"),
        *(b"-4\r\nabcd\r\n0\r\n\r\n", b"fffffffffffffffff\r\nabcd", b"4\nabcd\n0\n\n", b"0x4\r\nabcd\r\n0\r\n\r\n"),
        b"abcdGET /smuggled HTTP/1.1\r\nHost: sidecar\r\n\r\n",
    ]
)
REQUESTS: Final = st.builds(
    lambda line, lines, end, body: b"\r\n".join((line, *lines)) + end + body,
    REQUEST_LINES,
    st.lists(HEADER_LINES, max_size=5),
    st.sampled_from([b"\r\n\r\n", b"\r\n\r\n", b"\r\n\r\n", b"\n\n", b"\r\r"]),
    REQUEST_BODIES,
)
AT_ONCE: Final = 16


class Recorder(asyncio.Protocol):
    """A connection of an upstream that keeps all bytes, and answers each head with a 204."""

    connections: Final[list[Recorder]] = []
    open: Final[set[Recorder]] = set()

    def __init__(self) -> None:
        self.data = bytearray()
        self.heads = 0
        self.transport: asyncio.Transport | None = None
        self.connections.append(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.open.add(self)

    def connection_lost(self, exc: BaseException | None) -> None:  # noqa: ARG002 - asyncio's signature
        self.open.discard(self)

    def data_received(self, data: bytes) -> None:
        self.data += data
        # Behind a body that is whole; half a one is not answered, as of no other would be known where it ends.
        whole = sum(1 for message in messages(bytes(self.data)) if message is not None)
        for _ in range(whole - self.heads):
            if self.transport is not None:
                self.transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        self.heads = whole


def messages(data: bytes) -> Iterator[bytes | None]:
    """Yield each request in `data`, as a strict reader understands it, and None for one that is not whole.

    Raises:
        ValueError: something in `data` is no request.
    """
    at = 0
    while at < len(data):
        end = data.find(b"\r\n\r\n", at)
        if end < 0:
            yield None
            return
        head = data[at : end + 4]
        if not _HEAD.fullmatch(head):
            raise ValueError(head)
        lengths, codings = _LENGTH.findall(head[:-2] + b"\r\n"), _CODING.findall(head)
        if len(lengths) + len(codings) > 1:
            raise ValueError(head)
        body_end = _end_of_chunks(data, end + 4) if codings else end + 4 + int(lengths[0] if lengths else 0)
        if body_end is None or body_end > len(data):
            yield None
            return
        yield data[at:body_end]
        at = body_end


def _end_of_chunks(data: bytes, at: int) -> int | None:
    while (line := data.find(b"\r\n", at)) >= 0:
        size = _CHUNK.fullmatch(data[at : line + 2])
        if size is None:
            raise ValueError(data[at : line + 2])
        at = line + 2 + int(size[1], 16) + 2
        if at > len(data):
            return None
        if data[at - 2 : at] != b"\r\n":
            raise ValueError(data[at - 2 : at])
        if int(size[1], 16) == 0:
            return at
    return None


class Served:
    """A proxy before a `Recorder`, in an event loop of its own thread."""

    def __init__(self) -> None:
        self.port = 0
        self.lines = Lines()
        self._loop = new_loop()
        self._stop: asyncio.Event | None = None
        self._is_up = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._is_up.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        if self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)
        self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        server = await asyncio.get_running_loop().create_server(Recorder, "127.0.0.1", 0)
        times = dict.fromkeys(("header_timeout_s", "body_timeout_s", "keepalive_timeout_s"), "0.2")
        flags = {f"downstream.{name}": value for name, value in times.items()}
        flags |= {"upstream.url": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"}
        # One that is not whole gets no answer.
        flags |= {"upstream.response_timeout_s": "0.5", "check.mode": "fix"}
        async with serving(load_configuration(None, {}, QUICK | flags), self.lines) as running:
            self.port = int(running.url.rpartition(":")[2])
            self._is_up.set()
            await self._stop.wait()
        server.close()
        while Recorder.open:  # noqa: ASYNC110 - they end on their own
            await asyncio.sleep(0.005)

    def call(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Return what `coroutine` does, run in the proxy's own loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with Served() as served:
        yield served


async def told(port: int, data: bytes) -> bytes:
    """Return all that comes back for `data` until the proxy ends the connection, which it has to."""
    wire = await dialled(port)
    wire.within_s = 30
    try:
        with contextlib.suppress(ConnectionError):
            await wire.send(data)
        return await wire.rest()
    finally:
        await wire.close()


async def told_all(port: int, messages_: list[bytes]) -> list[bytes]:
    return await asyncio.gather(*(told(port, data) for data in messages_))


class TestListener:
    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        st.lists(
            damaged(REQUESTS) | damaged(st.builds(bytes.__add__, REQUESTS, REQUESTS)) | st.binary(min_size=1),
            min_size=AT_ONCE // 2,
            max_size=AT_ONCE,
        )
    )
    def test_any_bytes_get_an_answer_or_an_end_and_nothing_half_valid_passes(
        self, served: Served, sent: list[bytes]
    ) -> None:
        Recorder.connections.clear()
        for answer in served.call(told_all(served.port, sent)):
            assert not answer or answer.startswith(b"HTTP/1.1 "), answer
        for connection in Recorder.connections:
            list(messages(bytes(connection.data)))
        probe = b"GET /alive HTTP/1.1\r\nHost: sidecar\r\nConnection: close\r\n\r\n"
        assert served.call(told(served.port, probe)).startswith(b"HTTP/1.1 204 ")
        assert not [
            event for event in served.lines.events() if "defect" in event or event["event"] == "library_message"
        ]
