"""Bodies that mean harm, as a table; and for how long each holds up the proxy's event loop.

The table is used twice: tests/test_hostile.py asserts what becomes of each body, and `python -m tests.soak hostile`
measures, under load, how late the loop's own clock runs meanwhile.
"""

from __future__ import annotations

import asyncio
import gzip
import zlib
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Final, Self

from tests.conftest import Message, Wire, dialled
from tests.soak.process import ProxyProcess, proxy_process

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

PATH: Final = "/api/machines/1e5bc9d7/isolate"
JSON: Final = b"Content-Type: application/json"
GZIP: Final = b"Content-Encoding: gzip"
RIGHT: Final = b'{"Comment": "a", "IsolationType": "Full"}'
DEFLATE: Final = b"Content-Encoding: deflate"

_MIB: Final = 2**20

# Thirty times what is decoded at the most; a thousandth of it is sent.
_BOMB_BYTES: Final = 32 * _MIB


@dataclass(frozen=True, slots=True)
class Body:
    """A request body; `right` is what a fix makes of it, None where the check has nothing to say of it.

    Then it has to arrive as it was sent, in every mode. `is_fixable` is false where `fix` refuses it as `reject` does.
    """

    make: Callable[[], bytes]
    right: Callable[[], bytes] | None = None
    lines: tuple[bytes, ...] = (JSON,)
    is_fixable: bool = True


def _misspelt(make: Callable[[bytes], bytes], *lines: bytes) -> Body:
    """Return a body that holds a name; it is misspelt."""
    return Body(lambda: make(b"comment"), lambda: make(b"Comment"), (JSON, *lines))


def _unread(make: Callable[[], bytes], *lines: bytes) -> Body:
    return Body(make, None, (JSON, *lines))


@cache
def bomb(size: int, window_bits: int) -> bytes:
    """Return JSON of `size` bytes, coded to a thousandth of that."""
    coder = zlib.compressobj(wbits=window_bits)
    pieces = [coder.compress(b'{"comment": "')]
    pieces += [coder.compress(bytes(_MIB).replace(b"\0", b"a")) for _ in range(size // _MIB)]
    return b"".join((*pieces, coder.compress(b'"}'), coder.flush()))


BODIES: Final = {
    "arrays, 100,000 deep": _unread(lambda: b'{"comment": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "arrays, 40,000 deep": _unread(lambda: b'{"comment": ' + b"[" * 40_000 + b"]" * 40_000 + b"}"),
    "objects, 40,000 deep": _unread(lambda: b'{"comment":' * 40_000 + b"0" + b"}" * 40_000),
    "objects, 80,000 deep": _unread(lambda: b'{"comment":' * 80_000 + b"0" + b"}" * 80_000),
    "arrays that never end": _unread(lambda: b"[" * 1_000_000),
    "arrays, 500 deep": _misspelt(lambda name: b'{"%b": ' % name + b"[" * 500 + b"]" * 500 + b"}"),
    "49,000 names": _misspelt(lambda name: b'{"%b": 0, ' % name + _names(49_000) + b"}"),
    "51,000 names": _unread(lambda: b'{"comment": 0, ' + _names(51_000) + b"}"),
    "one wrong name, 49,000 times": _misspelt(lambda name: b"{" + b",".join([b'"%b":0' % name] * 49_000) + b"}"),
    "24,000 empty arrays": _misspelt(lambda name: b'{"%b": [' % name + b",".join([b"[]"] * 24_000) + b"]}"),
    "a million empty arrays": _unread(lambda: b'{"comment": [' + b",".join([b"[]"] * 300_000) + b"]}"),
    "a string of 10 MB": _unread(lambda: b'{"comment": "' + b"a" * 10_000_000 + b'"}'),
    "a string of 1 MB": _misspelt(lambda name: b'{"%b": "' % name + b"a" * 1_000_000 + b'"}'),
    "a string of escapes": _misspelt(lambda name: b'{"%b": "' % name + b"\\u0061" * 170_000 + b'"}'),
    "a string of quotes": _misspelt(lambda name: b'{"%b": "' % name + b'\\"' * 500_000 + b'"}'),
    "a string that never ends": _unread(lambda: b'{"comment": "' + b"\\\\" * 500_000),
    "a name of 1 MB": _misspelt(lambda name: b'{"%b": 0, "' % name + b"x" * 1_000_000 + b'": 0}'),
    "duplicate names": _misspelt(lambda name: b'{"%b": "a", "%b": "b"}' % (name, name)),
    "both spellings": Body(
        lambda: b'{"comment": "a", "Comment": "b"}', lambda: b"", (JSON,), is_fixable=False
    ),
    "a huge exponent": _misspelt(lambda name: b'{"%b": 1e999999999}' % name),
    "a number of a million digits": _misspelt(lambda name: b'{"%b": ' % name + b"9" * 1_000_000 + b"}"),
    "a fraction of a million digits": _misspelt(lambda name: b'{"%b": 0.' % name + b"1" * 1_000_000 + b"}"),
    "49,000 numbers of ten digits": _misspelt(
        lambda name: b'{"%b": [' % name + b",".join([b"123456.89"] * 49_000) + b"]}"
    ),
    "NaN": _unread(lambda: b'{"comment": NaN}'),
    "Infinity": _unread(lambda: b'{"comment": -Infinity}'),
    "lone surrogates": _misspelt(lambda name: b'{"%b": "\\ud800", "\\udfff": 0}' % name),
    "a byte order mark": _misspelt(lambda name: b'\xef\xbb\xbf{"%b": 0}' % name),
    "UTF-16": _unread(lambda: '{"comment": 0}'.encode("utf-16")),
    "UTF-32": _unread(lambda: '{"comment": 0}'.encode("utf-32")),
    "a charset that it is not in": Body(
        lambda: b'{"comment": "\xc3\xa9"}',
        lambda: b'{"Comment": "\xc3\xa9"}',
        (b"Content-Type: application/json; charset=utf-16",),
    ),
    "ISO 8859-1": _unread(lambda: b'{"comment": "\xe9"}'),
    "invalid UTF-8": _unread(lambda: b'{"comment": "\xc0\x80\xf5"}'),
    "trailing garbage": _unread(lambda: b'{"comment": 0}}'),
    "two documents": _unread(lambda: b'{"comment": 0}{"comment": 0}'),
    "a NUL at the end": _unread(lambda: b'{"comment": 0}\0'),
    "white space, 1 MB": _misspelt(lambda name: b" " * 1_000_000 + b'{"%b": 0}' % name),
    "gzip": Body(
        lambda: gzip.compress(b'{"comment": 0}'), lambda: b"", (JSON, GZIP), is_fixable=False
    ),
    "gzip of 1 MB": Body(lambda: gzip.compress(b'{"comment": 0}' + b" " * 1_000_000), lambda: b"", (JSON, GZIP),
                         is_fixable=False),
    "a gzip bomb": _unread(lambda: bomb(_BOMB_BYTES, 31), GZIP),
    "a gzip bomb in gzip": _unread(lambda: gzip.compress(bomb(_BOMB_BYTES, 31)), b"Content-Encoding: gzip, gzip"),
    "a deflate bomb": _unread(lambda: bomb(_BOMB_BYTES, 15), DEFLATE),
    "a bare deflate bomb": _unread(lambda: bomb(_BOMB_BYTES, -15), DEFLATE),
    "gzip, 50,000 members": _unread(lambda: gzip.compress(b"") * 50_000, GZIP),
    "gzip, cut off": _unread(lambda: gzip.compress(b'{"comment": 0}')[:-3], GZIP),
    "gzip that is none": _unread(lambda: b'{"comment": 0}', GZIP),
    "a thousand codings": _unread(lambda: b'{"comment": 0}', b"Content-Encoding: " + b", ".join([b"gzip"] * 1000)),
    "the Kelvin sign": _unread(lambda: b'{"\xe2\x84\xaaomment": 0, "\\u212aey": 0}'),
    "a dotless i": _unread('{"\u0131solationType": "Full", "\u0130solationType": "Full"}'.encode),
    "zero-width characters": _unread('{"Com\u200bment": 0, "\ufeffComment": 0}'.encode),
    "full-width letters": _unread('{"\uff23omment": 0}'.encode),
    "names near each other": _misspelt(
        lambda name: b'{"%b": 0, ' % name + b",".join(b'"IsolationTyp%03d": 0' % n for n in range(1000)) + b"}"
    ),
    "nothing but a string": _unread(lambda: b'"comment"'),
    "nothing but white space": _unread(lambda: b" \r\n"),
}  # fmt: skip


def _names(count: int) -> bytes:
    return b",".join(b'"%x":0' % number for number in range(count))


@dataclass(frozen=True, slots=True)
class Error:
    """An upstream's error; `is_whole` says that the client gets an envelope, else that it gets the body as it came."""

    make: Callable[[], bytes]
    media_type: bytes = b"application/json"
    lines: tuple[bytes, ...] = ()
    is_whole: bool = True


_LARGEST: Final = 262_144

ERRORS: Final = {
    "arrays, 100,000 deep": Error(lambda: b"[" * 100_000 + b"]" * 100_000),
    "an envelope, arrays below": Error(
        lambda: b'{"error": {"code": "a", "message": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}"
    ),
    "30,000 names": Error(lambda: b"{" + _names(25_000) + b"}"),
    "a code of 250 KB": Error(lambda: b'{"error": {"code": "' + b"c" * 250_000 + b'", "message": "m"}}'),
    "a message of 250 KB": Error(lambda: b'{"error": {"code": "a", "message": "' + b"m" * 250_000 + b'"}}'),
    "a message of escapes": Error(lambda: b'{"error": {"code": "a", "message": "' + b"\\u0000" * 40_000 + b'"}}'),
    "a target of 250 KB": Error(
        lambda: b'{"error": {"code": "a", "message": "m", "target": "' + b"t" * 250_000 + b'"}}'
    ),
    "20,000 details": Error(
        lambda: b'{"error": {"code": "a", "message": "m", "details": ['
        + b",".join([b'{"code":"b"}'] * 18_000)
        + b"]}}"
    ),
    "tokens everywhere": Error(lambda: b"Bearer eyJhbGciOi.eyJzdWIiOi.abc " * 7900, b"text/plain"),
    "a token that never ends": Error(lambda: b"eyJ" + b"a" * 260_000, b"text/plain"),
    "dots": Error(lambda: b"a." * 130_000, b"text/plain"),
    "dashes": Error(lambda: b"-" * 260_000, b"text/plain"),
    "secrets": Error(lambda: b"password=" * 28_000, b"text/plain"),
    "signatures": Error(lambda: b"?sig=%41&sig=" * 19_000, b"text/plain"),
    "white space": Error(lambda: b" \n" * 130_000, b"text/plain"),
    "waits": Error(lambda: b"Try again in " * 20_000, b"text/plain"),
    "digits": Error(lambda: b"1" * 260_000, b"text/plain"),
    "angle brackets": Error(lambda: b"<" * 260_000, b"text/html"),
    "tags that never end": Error(lambda: b"<a " * 86_000, b"text/html"),
    "titles that never end": Error(lambda: b"<title>" * 37_000, b"text/html"),
    "comments that never end": Error(lambda: b"<!--" * 65_000, b"text/html"),
    "entities": Error(lambda: b"<title>" + b"&amp" * 60_000 + b"</title>", b"text/html"),
    "scripts": Error(lambda: b"<script>" * 32_000 + b"<title>t</title>", b"text/html"),
    "elements, 50,000 deep": Error(lambda: b"<a>" * 37_000 + b"</a>" * 37_000, b"application/xml"),
    "a billion laughs": Error(
        lambda: b'<!DOCTYPE a [<!ENTITY b "ha">'
        + b"".join(b'<!ENTITY b%d "%b">' % (n, b"&b%d;" % (n - 1) * 10) for n in range(1, 20))
        + b"]><error><message>&b19;</message></error>",
        b"application/xml",
    ),
    "a gzip bomb": Error(lambda: bomb(_BOMB_BYTES, 31), lines=(GZIP,), is_whole=False),
    "a deflate bomb": Error(lambda: bomb(_BOMB_BYTES, 15), lines=(DEFLATE,), is_whole=False),
    "gzip, cut off": Error(lambda: gzip.compress(b'{"error": "a"}')[:-3], lines=(GZIP,)),
    "NaN": Error(lambda: b'{"error": {"code": "a", "message": NaN}}'),
    "a number of 250,000 digits": Error(
        lambda: b'{"error": {"code": "a", "message": "m"}, "n": ' + b"9" * 250_000 + b"}"
    ),
    "lone surrogates": Error(lambda: b'{"error": {"code": "\\ud800", "message": "\\udfff", "target": "\\ud800"}}'),
    "UTF-16": Error(lambda: '{"error": {"code": "a", "message": "m"}}'.encode("utf-16")),
    "UTF-16, cut off": Error(lambda: b"\xff\xfe" + b"{\0" * 100_000 + b"\0"),
    "invalid UTF-8": Error(lambda: b'{"error": {"code": "\xff", "message": "' + b"\xff\xfe" * 100_000 + b'"}}'),
    "NULs": Error(lambda: bytes(250_000)),
    "noise": Error(lambda: bytes(range(256)) * 1000, b"application/octet-stream"),
    "an error that is too large": Error(lambda: b"{" + b" " * _LARGEST + b"}", is_whole=False),
}  # fmt: skip


class Mirror:
    """An upstream that keeps the last body it got, and answers with what it is told to."""

    def __init__(self) -> None:
        self.port = 0
        self.bodies: list[bytes] = []
        self.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=2**24)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close everything."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def say(self, error: Error, status: int = 400) -> bytes:
        """Answer from now on with `error`; return its body."""
        body = error.make()
        lines = (b"Content-Type: " + error.media_type, *error.lines, b"Content-Length: %d" % len(body))
        self.answer = b"\r\n".join((b"HTTP/1.1 %d Hostile" % status, *lines, b"", body))
        return body

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(Wire(reader, writer)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, wire: Wire) -> None:
        wire.within_s = 60
        with suppress(EOFError, OSError):
            while True:
                message = await wire.message()
                if message.target.startswith(b"/load"):
                    await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                else:
                    self.bodies.append(message.body)
                    await wire.send(self.answer)
        wire.writer.close()


async def asked(port: int, *lines: bytes, body: bytes, within_s: float = 10.0) -> Message:
    """Return the proxy's answer to `body`."""
    wire = await dialled(port)
    wire.within_s = within_s
    try:
        return await wire.ask("POST", PATH, *lines, body=body)
    finally:
        await wire.close()


@dataclass(frozen=True, slots=True)
class Lateness:
    """For how long one case held up the event loop at the worst, in milliseconds, and how long its answer took."""

    case: str
    late_ms: float
    answered_ms: float


async def lateness(mode: str, *, rounds: int = 3, clients: int = 4) -> list[Lateness]:
    """Return what each case costs the event loop of a proxy in `mode` while `clients` ask for something else."""
    found: list[Lateness] = []
    async with AsyncExitStack() as stack:
        mirror = await stack.enter_async_context(Mirror())
        proxy = await stack.enter_async_context(
            proxy_process(
                f"http://127.0.0.1:{mirror.port}", {"CHECK__MODE": mode}, command=("-m", "tests.soak.watched")
            )
        )
        load = [asyncio.create_task(_ask_on(proxy.port)) for _ in range(clients)]
        try:
            found.append(await _worst(proxy, "the load alone", partial(asyncio.sleep, 0.3), rounds))
            for case, body, lines in _all_bodies():
                found.append(await _worst(proxy, case, partial(asked, proxy.port, *lines, body=body), rounds))
            for case, error in ERRORS.items():
                mirror.say(error)
                act = partial(asked, proxy.port, JSON, body=RIGHT)
                found.append(await _worst(proxy, f"error: {case}", act, rounds))
        finally:
            for task in load:
                task.cancel()
            await asyncio.gather(*load, return_exceptions=True)
    return found


def _all_bodies() -> Iterator[tuple[str, bytes, tuple[bytes, ...]]]:
    return ((case, body.make(), body.lines) for case, body in BODIES.items())


async def _worst(proxy: ProxyProcess, case: str, act: Callable[[], Awaitable[object]], rounds: int) -> Lateness:
    loop = asyncio.get_running_loop()
    late_ms = answered_ms = 0.0
    for _ in range(rounds):
        await _late_ms(proxy)
        began = loop.time()
        await act()
        answered_ms = max(answered_ms, (loop.time() - began) * 1000)
        late_ms = max(late_ms, await _late_ms(proxy))
    return Lateness(case, late_ms, answered_ms)


async def _late_ms(proxy: ProxyProcess) -> float:
    """Return how late the proxy's loop was at the worst since this was asked last."""
    async with asyncio.timeout(10):
        while not (ports := [line["port"] for line in proxy.lines if line["event"] == "watching"]):  # noqa: ASYNC110 - a thread
            await asyncio.sleep(0.01)
    wire = await dialled(ports[0])
    try:
        return float(await wire.rest())
    finally:
        await wire.close()


async def _ask_on(port: int) -> None:
    """Ask for something small again and again."""
    wire = await dialled(port)
    wire.within_s = 60
    while True:
        await wire.ask("GET", "/load")
        await asyncio.sleep(0.002)
