"""The table of cases: what the upstream does, what the client sends, and what has to come of it.

What is expected of each follows from the section that it names, of RFC 9110 (HTTP semantics), RFC 9112 (HTTP/1.1) or
another RFC. Where that leaves a choice, each outcome passes; what it says SHOULD be is expected. `goal` stands for what
the sidecar promises beyond the RFCs: nothing is changed on the way, a fault of the upstream is told as what it is, and
nobody makes the proxy wait for ever. No expectation knows which proxy it is held against.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeAlias

from tests.fidelity.checks import (
    BROKEN_OFF,
    CLEAN_UPSTREAM,
    ENDED,
    ENDED_OR_ANSWERED,
    FRAMED_ONCE,
    NOT_PROMOTED,
    NOTHING_FORWARDED,
    NOTHING_MORE,
    NOTHING_WHOLE,
    REFUSED,
    TRUNCATED,
    Check,
    Seen,
    answer_has,
    answer_head_clean,
    answer_head_has,
    answer_lacks,
    asked,
    asked_head_has,
    asked_only_with,
    asked_times,
    asked_with,
    asked_without,
    bodies,
    body,
    both,
    either,
    harmless,
    interim,
    interim_has,
    reason,
    status,
    uploaded,
    via,
)
from tests.fidelity.upstream import Act, Naming, Pause, Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.fidelity.messages import Message


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait until `until` holds, the client's connection ends, or `at_most_s` is over."""

    until: Callable[[Seen], bool]
    at_most_s: float = 6.0


@dataclass(frozen=True, slots=True)
class Leave:
    """Close the client's connection, in order or by a reset."""

    reset: bool = False


Send: TypeAlias = bytes | Pause | Wait | Leave


@dataclass(frozen=True, slots=True)
class Case:
    """A row of the table; `methods` are those of the requests in `sends` that get an answer each.

    The case is over when `until` holds, or the client's connection ends, or after six seconds, and `linger_s` later:
    time for what must not come.
    """

    name: str
    section: str
    sends: tuple[Send, ...]
    checks: tuple[Check, ...]
    upstream: tuple[Reply, ...]
    methods: tuple[str, ...] = ("GET",)
    until: Callable[[Seen], bool] | None = None
    linger_s: float = 0.0
    is_listening: bool = True
    """Whether anything listens at the upstream's address."""


OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SAYS_OK: Final = Reply((OK,))


def says(content: bytes, *lines: bytes) -> bytes:
    """Return a response of status 200 with `content`."""
    return b"\r\n".join((b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(content), *lines, b"", content))


def head(*lines: bytes) -> bytes:
    return b"\r\n".join((*lines, b"", b""))


def get(target: bytes = b"/probe", *lines: bytes) -> bytes:
    return head(b"GET " + target + b" HTTP/1.1", b"Host: sidecar.example", *lines)


def sent(method: bytes, content: bytes, *lines: bytes) -> bytes:
    """Return a request with a body of known length."""
    length = b"Content-Length: %d" % len(content)
    return head(method + b" /probe HTTP/1.1", b"Host: sidecar.example", length, *lines) + content


def post(*lines: bytes) -> bytes:
    """Return the head of a POST with `lines`, framing included."""
    return head(b"POST /probe HTTP/1.1", b"Host: sidecar.example", *lines)


CHUNKED: Final = b"Transfer-Encoding: chunked"


def answered(count: int = 1) -> Wait:
    return Wait(lambda seen: len([each for each in seen.answers if each.is_whole]) >= count)


ASKED: Final = Wait(lambda seen: bool(seen.requests))


def closed(seen: Seen) -> bool:
    return seen.end != "open"


def case(
    name: str,
    section: str,
    sends: bytes | tuple[Send, ...],
    *checks: Check,
    upstream: bytes | Reply | tuple[Reply, ...] = SAYS_OK,
    methods: tuple[str, ...] = ("GET",),
    until: Callable[[Seen], bool] | None = None,
    linger_s: float = 0.0,
) -> Case:
    script = (Reply((upstream,)),) if isinstance(upstream, bytes) else upstream
    return Case(
        name,
        section,
        (sends,) if isinstance(sends, bytes) else sends,
        checks,
        (script,) if isinstance(script, Reply) else script,
        methods,
        until,
        linger_s,
    )


# Fidelity: nothing changed on the way, nothing lost.

_TARGETS: Final = {
    "an encoded slash": b"/a%2Fb%2fc",
    "encoded dots": b"/a/%2e%2E/b",
    "a doubled slash": b"//a//b/",
    "parameters in the path": b"/a;v=1/b;v=2",
    "a plus": b"/a+b?c+d=e+f",
    "quotes": b"/it's?name='x'&other=%22y%22",
    "an OData filter": b"/api/machines?$filter=healthStatus%20eq%20'Active'%20and%20id%20ne%20%27b%27&$top=5",
    "an empty query": b"/probe?",
    "a query of marks": b"/probe?&&=&a=&=b&?",
    "upper and lower hex": b"/%c3%a9/%C3%A9",
    "needlessly encoded letters": b"/%61bc%7Edef~",
    "encoded controls": b"/a%01b%0d%0aX:%20y",
    "sub-delimiters": b"/!$&'()*+,;=:@-._~",
    "a colon and an at sign": b"/a:b@c",
    "a path that the proxy serves elsewhere": b"/metrics",
    "a query of 8 KB": b"/probe?$filter=" + b"id%20eq%20'0123456789abcdef'%20or%20" * 230,
    "a path of 4 KB": b"/" + b"segment/" * 500,
}


def _targets() -> Iterator[Case]:
    for what, target in _TARGETS.items():
        line = b"GET " + target + b" HTTP/1.1"
        yield case(f"target: {what}", "goal; RFC 3986 6.2", get(target), status(200), asked(line))


def _methods() -> Iterator[Case]:
    for method in (b"GET", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"):
        name = method.decode()
        yield case(
            f"{name} with a body",
            "RFC 9110 9.3",
            sent(method, b'{"a": 1}'),
            body(b"ok"),
            asked(method + b" /probe HTTP/1.1"),
            uploaded(b'{"a": 1}'),
            methods=(name,),
        )
    for method in (b"GET", b"DELETE", b"OPTIONS"):
        name = method.decode()
        yield case(
            f"{name} without a body",
            "RFC 9110 8.6",
            head(method + b" /probe HTTP/1.1", b"Host: sidecar.example"),
            body(b"ok"),
            asked(method + b" /probe HTTP/1.1"),
            asked_without(b"Content-Length", b"Transfer-Encoding"),
            methods=(name,),
        )
    for method in (b"POST", b"PUT", b"PATCH"):
        name = method.decode()
        yield case(
            f"{name} with Content-Length: 0",
            "RFC 9110 8.6",
            sent(method, b""),
            body(b"ok"),
            asked_with(b"Content-Length", b"0"),
            asked(method + b" /probe HTTP/1.1"),
            methods=(name,),
        )


_HEAD: Final = head(b"HEAD /probe HTTP/1.1", b"Host: sidecar.example")
_MANY: Final = tuple(b"X-Field-%03d: value %d" % (number, number) for number in range(90))
_GZIPPED: Final = gzip.compress(b'{"value": [1, 2, 3]}' * 50, mtime=0)
_LARGE: Final = bytes(range(256)) * 1024
_ENVELOPE: Final = (
    b'{"error":{"code":"NotFound","message":"Machine 1 was not found","target":"d3a4a5b6-0000-4000-8000-000000000001"}}'
)
_TRAILERS: Final = head(b"X-Sum: 900150983cd24fb0", b"X-Other: 1")
_FORBIDDEN_TRAILERS: Final = head(b"X-Sum: 1", b"Content-Length: 999", b"Set-Cookie: t=1", b"Authorization: t")


def _chunks(content: bytes, *sizes: int) -> bytes:
    """Return `content` in chunks of `sizes`, the last of which goes on."""
    pieces: list[bytes] = []
    while content:
        size = sizes[min(len(pieces), len(sizes) - 1)]
        pieces.append(b"%x\r\n" % len(content[:size]) + content[:size] + b"\r\n")
        content = content[size:]
    return b"".join(pieces) + b"0\r\n\r\n"


def chunked(framed: bytes, *lines: bytes) -> bytes:
    return head(b"HTTP/1.1 200 OK", CHUNKED, *lines) + framed


def _requests() -> Iterator[Case]:
    yield case(
        "request fields: order within a name",
        "RFC 9110 5.3",
        get(b"/probe", b"X-A: 1", b"X-B: 2", b"X-A: 3", b"X-A: 2"),
        asked_with(b"X-A", b"1", b"3", b"2"),
    )
    yield case(
        "request fields: an empty value", "RFC 9110 5.5", get(b"/probe", b"X-Empty:"), asked_with(b"X-Empty", b"")
    )
    yield case(
        "request fields: obs-text",
        "RFC 9110 5.5",
        get(b"/probe", b"X-Text: caf\xe9 \xff\xfe"),
        asked_with(b"X-Text", b"caf\xe9 \xff\xfe"),
    )
    yield case(
        "request fields: letter case of names",
        "goal",
        get(b"/probe", b"X-MiXeD-cAsE: v"),
        asked_head_has(b"\r\nX-MiXeD-cAsE:"),
    )
    yield case(
        "request fields: marks in a name",
        "RFC 9110 5.6.2",
        get(b"/probe", b"X_under.dot!#$%&'*+-^`|~: v"),
        asked_with(b"X_under.dot!#$%&'*+-^`|~", b"v"),
    )
    yield case(
        "request fields: a value of 16 KB",
        "goal",
        get(b"/probe", b"Authorization: Bearer " + b"t" * 16000),
        asked_with(b"Authorization", b"Bearer " + b"t" * 16000),
    )
    yield case(
        "request fields: 90 of them",
        "goal",
        get(b"/probe", *_MANY),
        asked_with(b"X-Field-000", b"value 0"),
        asked_with(b"X-Field-089", b"value 89"),
    )
    yield case(
        "request fields: white space around a value is no part of it",
        "RFC 9112 5.1",
        get(b"/probe", b"X-Space: \t in  side \t"),
        asked_with(b"X-Space", b"in  side"),
    )
    yield case(
        "request fields: none invented",
        "goal",
        get(b"/probe", b"X-Own: 1"),
        asked_only_with(b"Host", b"Via", b"Connection", b"X-Own"),
    )
    yield case(
        "request fields: hop-by-hop ones are removed",
        "RFC 9110 7.6.1",
        get(
            b"/probe", b"Connection: keep-alive, X-Drop, X-Never", b"X-Drop: 1", b"Keep-Alive: timeout=5", b"X-Keep: 1"
        ),
        asked_without(b"X-Drop", b"Keep-Alive"),
        asked_with(b"X-Keep", b"1"),
    )
    yield case(
        "request fields: Proxy-Connection and TE are removed",
        "RFC 9110 7.6.1, 10.1.4",
        get(b"/probe", b"Proxy-Connection: keep-alive", b"TE: trailers", b"Connection: TE"),
        asked_without(b"Proxy-Connection"),
        Check(
            "upstream got no TE, or one that its Connection names",
            lambda seen: (
                bool(seen.requests)
                and (
                    not seen.requests[0].values(b"TE")
                    or b"te" in b",".join(seen.requests[0].values(b"Connection")).lower().replace(b" ", b"").split(b",")
                )
            ),
        ),
    )
    yield case("Via is added", "RFC 9110 7.6.3", get(), via())
    yield case("Via is appended", "RFC 9110 7.6.3", get(b"/probe", b"Via: 1.0 fred"), via(b"1.0 fred"))
    yield case(
        "Host is there once",
        "RFC 9112 3.2",
        get(),
        Check("one Host", lambda seen: bool(seen.requests) and len(seen.requests[0].values(b"Host")) == 1),
    )
    yield case(
        "cookies and credentials cross",
        "RFC 9110 11.6.2",
        get(b"/probe", b"Cookie: a=1; b=2", b"Authorization: Bearer x.y.z"),
        asked_with(b"Cookie", b"a=1; b=2"),
        asked_with(b"Authorization", b"Bearer x.y.z"),
    )
    yield case(
        "a request without Content-Type gets none",
        "goal",
        sent(b"POST", b"raw"),
        asked_without(b"Content-Type"),
        uploaded(b"raw"),
        methods=("POST",),
    )
    yield case(
        "a gzip body up is untouched",
        "RFC 9110 7.7",
        sent(b"POST", _GZIPPED, b"Content-Encoding: gzip", b"Content-Type: application/json"),
        uploaded(_GZIPPED),
        asked_with(b"Content-Encoding", b"gzip"),
        asked_with(b"Content-Length", b"%d" % len(_GZIPPED)),
        methods=("POST",),
    )
    yield case(
        "a body of 256 KB up",
        "RFC 9112 6.2",
        sent(b"PUT", _LARGE),
        uploaded(_LARGE),
        asked_with(b"Content-Length", b"%d" % len(_LARGE)),
        methods=("PUT",),
    )
    yield case(
        "chunks up",
        "RFC 9112 7.1",
        (post(CHUNKED), b"3\r\nabc\r\n", Pause(0.05), b"4\r\ndefg\r\n0\r\n\r\n"),
        body(b"ok"),
        uploaded(b"abcdefg"),
        harmless(b"abcdefg"),
        methods=("POST",),
    )
    yield case(
        "chunks up: odd sizes and letter case",
        "RFC 9112 7.1",
        (
            post(CHUNKED),
            _chunks(_LARGE[:5000], 1, 2, 10, 1000, 171),
        ),
        uploaded(_LARGE[:5000]),
        methods=("POST",),
    )
    yield case(
        "chunks up: hex in capitals and leading zeros",
        "RFC 9112 7.1",
        post(CHUNKED) + b"00A\r\n0123456789\r\n000\r\n\r\n",
        uploaded(b"0123456789"),
        methods=("POST",),
    )
    yield case(
        "chunks up: extensions",
        "RFC 9112 7.1.1",
        post(CHUNKED) + b'3;a;b=c;d="e;f"\r\nabc\r\n0;last\r\n\r\n',
        harmless(b"abc"),
        body(b"ok"),
        methods=("POST",),
    )
    yield case(
        "chunks up: one byte a segment",
        "RFC 9112 7.1",
        (
            post(CHUNKED),
            *(step for byte in b"3\r\nabc\r\n0\r\n\r\n" for step in (bytes([byte]), Pause(0.005))),
        ),
        uploaded(b"abc"),
        methods=("POST",),
    )
    yield case(
        "chunks up: trailers are not promoted",
        "RFC 9110 6.5.1",
        post(CHUNKED) + b"3\r\nabc\r\n0\r\n" + _FORBIDDEN_TRAILERS,
        either(
            BROKEN_OFF,
            both(uploaded(b"abc"), NOT_PROMOTED, body(b"ok")),
        ),
        methods=("POST",),
    )
    yield case(
        "chunks up: trailers leave the message intact",
        "RFC 9112 7.1.2",
        (post(CHUNKED, b"Trailer: X-Sum") + b"3\r\nabc\r\n0\r\n" + _TRAILERS, answered(), get(b"/next")),
        uploaded(b"abc"),
        bodies(b"/probe", b"/next"),
        upstream=Reply((Act.ECHO,)),
        methods=("POST", "GET"),
    )
    yield case(
        "a head one byte a segment",
        "RFC 9112 2.2",
        tuple(step for byte in get() for step in (bytes([byte]), Pause(0.002))),
        body(b"ok"),
        asked(b"GET /probe HTTP/1.1"),
    )
    yield case(
        "an empty line before the request",
        "RFC 9112 2.2",
        b"\r\n" + get(),
        body(b"ok"),
        asked(b"GET /probe HTTP/1.1"),
    )
    yield case(
        "a scheme and Host in the target",
        "RFC 9112 3.2.2",
        head(b"GET http://sidecar.example/a%2Fb?c HTTP/1.1", b"Host: sidecar.example"),
        body(b"ok"),
        Check(
            "the path reaches the upstream as it was sent",
            lambda seen: bool(seen.requests) and seen.requests[0].target.endswith(b"/a%2Fb?c"),
        ),
    )


def _responses() -> Iterator[Case]:
    yield case(
        "Set-Cookie repeated",
        "RFC 9110 5.3",
        get(),
        answer_has(b"Set-Cookie", b"a=1; Path=/", b"b=2", b"a=3"),
        upstream=says(b"ok", b"Set-Cookie: a=1; Path=/", b"Set-Cookie: b=2", b"Set-Cookie: a=3"),
    )
    yield case(
        "response fields: order within a name",
        "RFC 9110 5.3",
        get(),
        answer_has(b"Link", b"<1>", b"<2>", b"<3>"),
        upstream=says(b"ok", b"Link: <1>", b"X-B: 1", b"Link: <2>", b"Link: <3>"),
    )
    yield case(
        "response fields: an empty value",
        "RFC 9110 5.5",
        get(),
        answer_has(b"X-Empty", b""),
        upstream=says(b"ok", b"X-Empty:"),
    )
    yield case(
        "response fields: obs-text",
        "RFC 9110 5.5",
        get(),
        answer_has(b"X-Text", b"caf\xe9 \xff\xfe"),
        upstream=says(b"ok", b"X-Text: caf\xe9 \xff\xfe"),
    )
    yield case(
        "response fields: letter case of names",
        "goal",
        get(),
        answer_head_has(b"\r\nX-MiXeD-cAsE:"),
        upstream=says(b"ok", b"X-MiXeD-cAsE: v"),
    )
    yield case(
        "response fields: a value of 16 KB",
        "goal",
        get(),
        answer_has(b"X-Large", b"v" * 16000),
        upstream=says(b"ok", b"X-Large: " + b"v" * 16000),
    )
    yield case(
        "response fields: 90 of them",
        "goal",
        get(),
        answer_has(b"X-Field-000", b"value 0"),
        answer_has(b"X-Field-089", b"value 89"),
        upstream=says(b"ok", *_MANY),
    )
    yield case(
        "response fields: ETag, Date and Server are kept",
        "RFC 9110 6.6.1, 8.8.3, 10.2.4",
        get(),
        answer_has(b"ETag", b'W/"1"'),
        answer_has(b"Date", b"Sun, 06 Nov 1994 08:49:37 GMT"),
        answer_has(b"Server", b"Kestrel"),
        upstream=says(b"ok", b'ETag: W/"1"', b"Date: Sun, 06 Nov 1994 08:49:37 GMT", b"Server: Kestrel"),
    )
    yield case(
        "response fields: hop-by-hop ones are removed",
        "RFC 9110 7.6.1",
        get(),
        answer_lacks(b"X-Drop", b"Proxy-Connection"),
        answer_has(b"X-Keep", b"1"),
        body(b"ok"),
        upstream=says(
            b"ok", b"Connection: X-Drop, keep-alive", b"X-Drop: 1", b"Proxy-Connection: keep-alive", b"X-Keep: 1"
        ),
    )
    yield case(
        "response fields: the upstream's Keep-Alive is its own affair",
        "RFC 9110 7.6.1",
        get(),
        Check(
            "the upstream's Keep-Alive does not cross",
            lambda seen: bool(seen.answers) and b"timeout=77" not in seen.answers[0].values(b"Keep-Alive"),
        ),
        upstream=says(b"ok", b"Connection: keep-alive", b"Keep-Alive: timeout=77"),
    )
    yield case(
        "Content-Type absent stays absent",
        "RFC 9110 8.3",
        get(),
        answer_lacks(b"Content-Type"),
        body(b"ok"),
        upstream=OK,
    )
    yield case(
        "WWW-Authenticate and Retry-After cross",
        "RFC 9110 11.6.1",
        get(),
        answer_has(b"WWW-Authenticate", b'Bearer realm="a"', b"Negotiate"),
        answer_has(b"Retry-After", b"7"),
        upstream=says(b"ok", b'WWW-Authenticate: Bearer realm="a"', b"WWW-Authenticate: Negotiate", b"Retry-After: 7"),
    )
    yield case(
        "a reason phrase of its own",
        "goal",
        get(),
        status(200),
        reason(b"All Is Well"),
        upstream=b"HTTP/1.1 200 All Is Well\r\nContent-Length: 2\r\n\r\nok",
    )
    yield case(
        "an error of the upstream's, byte for byte",
        "goal",
        get(),
        status(404),
        body(_ENVELOPE),
        answer_has(b"Content-Type", b"application/json"),
        upstream=head(
            b"HTTP/1.1 404 Not Found", b"Content-Type: application/json", b"Content-Length: %d" % len(_ENVELOPE)
        )
        + _ENVELOPE,
    )
    yield case(
        "a status nobody knows",
        "RFC 9110 15",
        get(),
        status(299),
        body(b"ok"),
        upstream=b"HTTP/1.1 299 Odd\r\nContent-Length: 2\r\n\r\nok",
    )
    yield case(
        "a redirect is not followed",
        "RFC 9110 15.4",
        get(),
        status(302),
        answer_has(b"Location", b"/next"),
        asked_times(1),
        upstream=b"HTTP/1.1 302 Found\r\nLocation: /next\r\nContent-Length: 0\r\n\r\n",
    )
    # The upstream calls itself by the Host that it got: a proxy that hands on the client's needs not rewrite anything.
    yield case(
        "a redirect stays with the proxy",
        "goal; RFC 9110 10.2.2",
        get(),
        status(302),
        Check(
            "Location names the address that the client asked",
            lambda seen: (
                bool(seen.answers)
                and seen.answers[0].values(b"Location") in ([b"http://sidecar.example/next?a=%2F"], [b"/next?a=%2F"])
            ),
            lambda seen: repr([answer.values(b"Location") for answer in seen.answers]),
        ),
        upstream=Reply((Naming(b"HTTP/1.1 302 Found", (b"Location: http://@HOST@/next?a=%2F",)),)),
    )
    yield case(
        "the next page stays with the proxy",
        "goal",
        get(b"/api/machines?$top=1"),
        body(b'{"value":[{"id":1}],"@odata.nextLink":"http://sidecar.example/api/machines?$top=1&$skiptoken=a%2Fb"}'),
        upstream=Reply(
            (
                Naming(
                    b"HTTP/1.1 200 OK",
                    (b"Content-Type: application/json",),
                    b'{"value":[{"id":1}],"@odata.nextLink":"http://@HOST@/api/machines?$top=1&$skiptoken=a%2Fb"}',
                ),
            )
        ),
    )
    yield case(
        "HEAD keeps Content-Length",
        "RFC 9110 8.6, 9.3.2",
        (_HEAD, answered(), get(b"/next")),
        answer_has(b"Content-Length", b"1234"),
        body(b"/next", at=1),
        asked(b"HEAD /probe HTTP/1.1", b"GET /next HTTP/1.1"),
        upstream=(Reply((b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n",)), Reply((Act.ECHO,))),
        methods=("HEAD", "GET"),
    )
    yield case(
        "HEAD with chunked",
        "RFC 9112 6.1",
        (_HEAD, answered(), get(b"/next")),
        status(200),
        body(b"/next", at=1),
        upstream=(Reply((head(b"HTTP/1.1 200 OK", CHUNKED),)), Reply((Act.ECHO,))),
        methods=("HEAD", "GET"),
    )
    yield case(
        "204 has no content",
        "RFC 9110 15.3.5, 8.6",
        (get(), answered(), get(b"/next")),
        status(204),
        answer_lacks(b"Content-Length", b"Transfer-Encoding"),
        body(b"/next", at=1),
        upstream=(Reply((b'HTTP/1.1 204 No Content\r\nETag: "1"\r\n\r\n',)), Reply((Act.ECHO,))),
        methods=("GET", "GET"),
    )
    yield case(
        "304 keeps Content-Length and ETag",
        "RFC 9110 15.4.5, 8.6",
        # An answer whose links to next pages may have to be turned has another length than the upstream's.
        (get(b"/api/machines/1", b'If-None-Match: "1"'), answered(), get(b"/next")),
        status(304),
        answer_has(b"Content-Length", b"1234"),
        answer_has(b"ETag", b'"1"'),
        body(b"/next", at=1),
        upstream=(
            Reply((b'HTTP/1.1 304 Not Modified\r\nContent-Length: 1234\r\nETag: "1"\r\n\r\n',)),
            Reply((Act.ECHO,)),
        ),
        methods=("GET", "GET"),
    )
    yield case(
        "an empty body",
        "RFC 9112 6.3",
        get(),
        body(b""),
        answer_has(b"Content-Length", b"0"),
        upstream=b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    )
    yield case(
        "a gzip body down is untouched",
        "RFC 9110 7.7",
        get(b"/probe", b"Accept-Encoding: gzip"),
        body(_GZIPPED),
        answer_has(b"Content-Encoding", b"gzip"),
        answer_has(b"Content-Length", b"%d" % len(_GZIPPED)),
        upstream=says(_GZIPPED, b"Content-Encoding: gzip", b"Content-Type: application/octet-stream"),
    )
    yield case(
        "a gzip body nobody asked for is untouched",
        "RFC 9110 7.7",
        get(),
        body(_GZIPPED),
        answer_has(b"Content-Encoding", b"gzip"),
        asked_without(b"Accept-Encoding"),
        upstream=says(_GZIPPED, b"Content-Encoding: gzip", b"Content-Type: application/octet-stream"),
    )
    yield case("a body of 256 KB down", "RFC 9112 6.2", get(), body(_LARGE), upstream=says(_LARGE))
    yield case(
        "chunks down",
        "RFC 9112 7.1",
        get(),
        body(b"abcdefg"),
        FRAMED_ONCE,
        upstream=Reply((chunked(b"3\r\nabc\r\n"), Pause(0.05), b"4\r\ndefg\r\n0\r\n\r\n")),
    )
    yield case(
        "chunks down: odd sizes",
        "RFC 9112 7.1",
        get(),
        body(_LARGE[:5000]),
        upstream=chunked(_chunks(_LARGE[:5000], 1, 2, 10, 1000, 171)),
    )
    yield case(
        "chunks down: extensions, capitals, leading zeros",
        "RFC 9112 7.1.1",
        get(),
        body(b"0123456789"),
        upstream=chunked(b'00A;a="b;c"\r\n0123456789\r\n00;x\r\n\r\n'),
    )
    yield case(
        "chunks down: trailers are not promoted",
        "RFC 9110 6.5.1",
        get(b"/probe", b"TE: trailers", b"Connection: TE"),
        either(TRUNCATED, both(body(b"abc"), NOT_PROMOTED)),
        upstream=chunked(b"3\r\nabc\r\n0\r\n" + _FORBIDDEN_TRAILERS),
    )
    yield case(
        "chunks down: trailers leave the message intact",
        "RFC 9112 7.1.2",
        (get(b"/probe", b"TE: trailers", b"Connection: TE"), answered(), get(b"/next")),
        bodies(b"abc", b"/next"),
        upstream=(Reply((chunked(b"3\r\nabc\r\n0\r\n" + _TRAILERS, b"Trailer: X-Sum"),)), Reply((Act.ECHO,))),
        methods=("GET", "GET"),
    )
    yield case(
        "chunks down: each as it comes",
        "goal",
        (get(), Wait(lambda seen: bool(seen.answers and seen.answers[0].body), 1.0)),
        Check(
            "the first chunk is here before the second is sent",
            lambda seen: bool(seen.answers) and seen.answers[0].body == b"data: 1\n\n",
        ),
        upstream=Reply((chunked(b"9\r\ndata: 1\n\n\r\n", b"Content-Type: text/event-stream"),), then="stall"),
        until=lambda _: True,
    )
    yield case(
        "a body that the connection's end delimits",
        "RFC 9112 6.3",
        get(),
        body(b"until the end"),
        upstream=Reply((b"HTTP/1.1 200 OK\r\n\r\nuntil ", Pause(0.05), b"the end"), then="close"),
    )
    yield case(
        "an answer of HTTP/1.0",
        "RFC 9112 2.3",
        get(),
        body(b"old"),
        Check(
            "the answer says HTTP/1.1",
            lambda seen: bool(seen.answers) and seen.answers[0].start_line[:8] == b"HTTP/1.1",
        ),
        upstream=Reply((b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nold",), then="close"),
    )
    yield case(
        "an upstream that closes after each answer",
        "RFC 9112 9.6",
        (get(b"/1"), answered(), get(b"/2"), answered(2), sent(b"POST", b"x")),
        bodies(b"ok", b"ok", b"ok"),
        upstream=Reply((says(b"ok", b"Connection: close"),), then="close"),
        methods=("GET", "GET", "POST"),
    )


def _interim() -> Iterator[Case]:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    yield case(
        "103 is forwarded",
        "RFC 9110 15.2",
        get(),
        interim(103),
        interim_has(b"Link", b"</a>"),
        body(b"ok"),
        upstream=early + OK,
    )
    yield case(
        "103 twice, then 200 later",
        "RFC 9110 15.2",
        get(),
        interim(103, 103),
        body(b"ok"),
        upstream=Reply((early, Pause(0.03), early, Pause(0.03), OK)),
    )
    yield case(
        "103 comes at once",
        "RFC 8297 2",
        (get(), Wait(lambda seen: bool(seen.rest or seen.answers), 1.0)),
        Check("103 is here before the final answer is sent", lambda seen: seen.rest.startswith(b"HTTP/1.1 103 ")),
        upstream=Reply((early,), then="stall"),
        until=lambda _: True,
    )
    yield case(
        "102 is forwarded",
        "RFC 9110 15.2",
        get(),
        interim(102),
        body(b"ok"),
        upstream=b"HTTP/1.1 102 Processing\r\n\r\n" + OK,
    )
    yield case(
        "103 does not go to HTTP/1.0",
        "RFC 9110 15.2",
        head(b"GET /probe HTTP/1.0", b"Host: sidecar.example"),
        interim(),
        body(b"ok"),
        upstream=early + OK,
    )
    expecting = post(b"Content-Length: 4", b"Expect: 100-continue")
    continued = Wait(lambda seen: seen.rest.startswith(b"HTTP/1.1 100") or bool(seen.answers), 1.5)
    yield case(
        "Expect is asked end to end",
        "RFC 9110 10.1.1",
        (expecting, continued, b"body"),
        asked_with(b"Expect", b"100-continue"),
        interim(100),
        body(b"ok"),
        uploaded(b"body"),
        upstream=Reply((b"HTTP/1.1 100 Continue\r\n\r\n", Act.READ_ALL, OK), reads="head"),
        methods=("POST",),
    )
    yield case(
        "Expect is answered",
        "RFC 9110 10.1.1",
        (expecting, Wait(continued.until, 1.5), b"body"),
        body(b"ok"),
        uploaded(b"body"),
        upstream=Reply((Pause(0.1), b"HTTP/1.1 100 Continue\r\n\r\n", Act.READ_ALL, OK), reads="head"),
        methods=("POST",),
    )
    yield case(
        "Expect and a final answer: the body is never asked for",
        "RFC 9110 10.1.1",
        (expecting, continued),
        status(417),
        interim(),
        upstream=Reply((b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n",), reads="head"),
        methods=("POST",),
    )
    yield case(
        "Expect of a client that does not wait",
        "RFC 9110 10.1.1",
        expecting + b"body",
        body(b"ok"),
        uploaded(b"body"),
        upstream=Reply((Act.READ_ALL, OK), reads="head"),
        methods=("POST",),
    )
    yield case(
        "an answer before the body is read",
        "RFC 9112 9.3",
        (post(b"Content-Length: 100000"), b"x" * 1000, ASKED, Wait(lambda seen: bool(seen.answers))),
        status(413),
        NOTHING_MORE,
        upstream=Reply(
            (b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",), "head", "stall"
        ),
        methods=("POST",),
    )
    yield case(
        "an answer while the body still comes",
        "RFC 9112 9.3",
        (post(CHUNKED), b"3\r\nabc\r\n", Wait(lambda seen: bool(seen.answers)), b"3\r\ndef\r\n0\r\n\r\n"),
        status(200),
        Check("the answer is whole", lambda seen: bool(seen.answers) and seen.answers[0].body == b"early"),
        upstream=Reply((says(b"early"),), reads="head"),
        methods=("POST",),
    )


_OLD: Final = head(b"GET /probe HTTP/1.0", b"Host: sidecar.example")


def _connections() -> Iterator[Case]:
    yield case("HTTP/1.0 without keep-alive is closed", "RFC 9112 9.3", _OLD, body(b"ok"), ENDED, until=closed)
    yield case(
        "HTTP/1.0 without Host",
        "RFC 9112 3.2",
        head(b"GET /probe HTTP/1.0"),
        body(b"ok"),
        Check(
            "upstream got one Host, if it was asked by HTTP/1.1",
            lambda seen: (
                bool(seen.requests)
                and (seen.requests[0].version == b"HTTP/1.0" or len(seen.requests[0].values(b"Host")) == 1)
            ),
        ),
    )
    yield case(
        "HTTP/1.0 is sent on in the proxy's own version",
        "RFC 9112 2.3",
        _OLD,
        body(b"ok"),
        asked(b"GET /probe HTTP/1.1"),
    )
    yield case(
        "HTTP/1.0 gets no chunks",
        "RFC 9112 6.1",
        _OLD,
        answer_lacks(b"Transfer-Encoding"),
        body(b"abcdefg"),
        upstream=Reply((chunked(b"3\r\nabc\r\n"), Pause(0.05), b"4\r\ndefg\r\n0\r\n\r\n")),
        until=closed,
    )
    yield case(
        "HTTP/1.0 with keep-alive",
        "RFC 9112 9.3",
        (head(b"GET /1 HTTP/1.0", b"Connection: keep-alive", b"Host: sidecar.example"), answered()),
        body(b"/1"),
        Check(
            "the connection stays if the answer says keep-alive, and ends if not",
            lambda seen: (
                bool(seen.answers)
                and (b"keep-alive" in b",".join(seen.answers[0].values(b"Connection")).lower()) == (seen.end == "open")
            ),
        ),
        upstream=Reply((Act.ECHO,)),
        linger_s=0.3,
    )
    yield case(
        "HTTP/1.0 with keep-alive, asked again",
        "RFC 9112 9.3",
        (
            head(b"GET /1 HTTP/1.0", b"Connection: keep-alive", b"Host: sidecar.example"),
            answered(),
            head(b"GET /2 HTTP/1.0", b"Connection: close", b"Host: sidecar.example"),
        ),
        either(bodies(b"/1", b"/2"), both(body(b"/1"), ENDED)),
        upstream=Reply((Act.ECHO,)),
        methods=("GET", "GET"),
    )
    yield case(
        "HTTP/1.0 POST",
        "RFC 9112 6.3",
        head(b"POST /probe HTTP/1.0", b"Host: sidecar.example", b"Content-Length: 3") + b"abc",
        body(b"ok"),
        uploaded(b"abc"),
        asked_times(1),
        methods=("POST",),
    )
    yield case(
        "keep-alive",
        "RFC 9112 9.3",
        (get(b"/1"), answered(), sent(b"POST", b"x"), answered(2), get(b"/3")),
        bodies(b"/1", b"/probe", b"/3"),
        upstream=Reply((Act.ECHO,)),
        methods=("GET", "POST", "GET"),
    )
    yield case(
        "Connection: close of the client",
        "RFC 9112 9.6",
        get(b"/1", b"Connection: close") + get(b"/2"),
        bodies(b"/1"),
        ENDED,
        asked(b"GET /1 HTTP/1.1"),
        answer_has(b"Connection", b"close"),
        upstream=Reply((Act.ECHO,)),
        methods=("GET", "GET"),
        until=closed,
    )
    yield case(
        "the upstream's Connection: close is not the client's",
        "RFC 9110 7.6.1",
        (get(b"/1"), answered(), get(b"/2")),
        bodies(b"ok", b"ok"),
        upstream=Reply((says(b"ok", b"Connection: close"),), then="close"),
        methods=("GET", "GET"),
    )
    twenty = [b"/%d" % number for number in range(20)]
    yield case(
        "20 requests in one segment",
        "RFC 9112 9.3.2",
        b"".join(get(target) for target in twenty),
        bodies(*twenty),
        upstream=Reply((Act.ECHO,)),
        methods=("GET",) * 20,
    )
    yield case(
        "requests with bodies in one segment",
        "RFC 9112 9.3.2",
        sent(b"POST", b"GET /not-me HTTP/1.1\r\n\r\n") + post(CHUNKED) + _chunks(b"abc", 1) + get(b"/last"),
        bodies(b"/probe", b"/probe", b"/last"),
        upstream=Reply((Act.ECHO,)),
        methods=("POST", "POST", "GET"),
    )
    yield case(
        "pipelined, the first answer slow",
        "RFC 9112 9.3.2",
        get(b"/1") + get(b"/2"),
        bodies(b"/1", b"/2"),
        upstream=(Reply((Pause(0.2), Act.ECHO)), Reply((Act.ECHO,))),
        methods=("GET", "GET"),
    )
    yield case(
        "a good request before garbage",
        "RFC 9112 9.3.2, 2.2",
        get(b"/good") + b"GARBAGE\r\n\r\n",
        body(b"/good"),
        Check(
            "behind it a refusal or the connection's end",
            lambda seen: seen.end != "open" and all(answer.status >= 400 for answer in seen.answers[1:]),
        ),
        asked(b"GET /good HTTP/1.1"),
        upstream=Reply((Act.ECHO,)),
        methods=("GET", "GET"),
        until=closed,
    )


# Faults: no fault of either side makes the proxy hang, leak or lie.


def _faults() -> Iterator[Case]:
    refused = case("an upstream that refuses", "RFC 9110 15.6", get(), status(502, 503, 504), FRAMED_ONCE)
    yield replace(refused, is_listening=False)
    for how in ("close", "reset"):
        yield case(
            f"{how} before the head",
            "RFC 9110 9.2.2, 15.6",
            get(),
            status(502, 503),
            Check("GET is sent twice at most", lambda seen: len(seen.requests) <= 2),
            upstream=Reply((), then=how),
        )
        yield case(
            f"{how} within the head",
            "RFC 9110 15.6",
            sent(b"POST", b"x"),
            status(502, 503),
            asked_times(1),
            upstream=Reply((b"HTTP/1.1 200 OK\r\nContent-Le", Pause(0.05)), then=how),
            methods=("POST",),
        )
        yield case(
            f"{how} within a body of known length",
            "RFC 9112 8",
            get(),
            TRUNCATED,
            upstream=Reply((b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc", Pause(0.05)), then=how),
            until=closed,
        )
        yield case(
            f"{how} within a chunk",
            "RFC 9112 8",
            get(),
            TRUNCATED,
            upstream=Reply((chunked(b"3\r\nabc\r\n64\r\ndef"), Pause(0.05)), then=how),
            until=closed,
        )
        yield case(
            f"{how} between chunks",
            "RFC 9112 8",
            get(),
            TRUNCATED,
            upstream=Reply((chunked(b"3\r\nabc\r\n"), Pause(0.05)), then=how),
            until=closed,
        )
    yield case(
        "reset within a body that the connection's end delimits",
        "RFC 9112 8",
        get(),
        TRUNCATED,
        upstream=Reply((b"HTTP/1.1 200 OK\r\n\r\nuntil ", Pause(0.05)), then="reset"),
        until=closed,
    )
    yield case(
        "a truncated chunk to HTTP/1.0",
        "RFC 9112 8",
        _OLD,
        Check(
            "502 to 504, or a reset in place of an orderly end",
            lambda seen: seen.end == "reset" or bool(seen.answers and seen.answers[0].status >= 500),
        ),
        upstream=Reply((chunked(b"3\r\nabc\r\n"), Pause(0.05)), then="reset"),
        until=closed,
    )
    yield case("a head that does not come", "RFC 9110 15.6.5", get(), status(504), upstream=Reply((), then="stall"))
    yield case(
        "half a head",
        "RFC 9110 15.6.5",
        get(),
        status(502, 504),
        upstream=Reply((b"HTTP/1.1 200 OK\r\nX-Half:",), then="stall"),
    )
    yield case(
        "a body that stalls",
        "RFC 9112 8",
        get(),
        TRUNCATED,
        ENDED,
        upstream=Reply((b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc",), then="stall"),
        until=closed,
    )
    yield case(
        "a chunk that stalls",
        "RFC 9112 8",
        get(),
        TRUNCATED,
        ENDED,
        upstream=Reply((chunked(b"3\r\nabc\r\n"),), then="stall"),
        until=closed,
    )
    for what, garbage in {
        "garbage": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "zeros": b"\0" * 200 + b"\r\n\r\n",
        "a bad status line": b"HTTP/1.1 2OO OK\r\nContent-Length: 2\r\n\r\nok",
        "a status of two digits": b"HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok",
        "a status of four digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok",
        "another protocol": b"HTTQ/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/2 in words": b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    }.items():
        yield case(
            f"upstream: {what} for an answer",
            "RFC 9110 15.6.3",
            get(),
            status(502, 503),
            upstream=Reply((garbage,), then="close"),
        )
    yield case(
        "upstream: a head of 2 MB",
        "goal; RFC 9110 15.6.3",
        get(),
        either(status(502, 503), both(ENDED, Check("no answer", lambda seen: not seen.answers))),
        upstream=Reply(
            (head(b"HTTP/1.1 200 OK", *(b"X-%d: %s" % (n, b"v" * 1000) for n in range(2000))),), then="close"
        ),
    )
    yield case(
        "a stale pooled connection: GET is sent again",
        "goal; RFC 9110 9.2.2",
        (get(b"/1"), answered(), get(b"/2")),
        bodies(b"/1", b"/2"),
        asked_times(3),
        upstream=(Reply((Act.ECHO,)), Reply((), then="close"), Reply((Act.ECHO,))),
        methods=("GET", "GET"),
    )
    yield case(
        "a pooled connection that is reset: POST is not sent twice",
        "RFC 9110 9.2.2",
        (get(b"/1"), answered(), sent(b"POST", b"isolate")),
        # RFC 9112, 9.3.1 and 9.5: the connection's end without an answer leaves it to the client to try again.
        either(status(502, 503, at=1), both(ENDED, bodies(b"/1"))),
        asked_times(1, b"POST"),
        upstream=(Reply((Act.ECHO,)), Reply((), then="reset"), Reply((Act.ECHO,))),
        methods=("GET", "POST"),
        linger_s=0.3,
    )
    yield case(
        "a new connection that closes: POST is not sent twice",
        "RFC 9110 9.2.2",
        sent(b"POST", b"isolate"),
        status(502, 503),
        asked_times(1, b"POST"),
        upstream=(Reply((), then="close"), Reply((Act.ECHO,))),
        methods=("POST",),
        linger_s=0.3,
    )
    yield case(
        "a pooled connection closed meanwhile",
        "RFC 9112 9.3",
        (get(b"/1"), answered(), Pause(0.3), sent(b"POST", b"x")),
        bodies(b"/1", b"/probe"),
        upstream=(Reply((Act.ECHO, Pause(0.1)), then="close"), Reply((Act.ECHO,))),
        methods=("GET", "POST"),
    )
    late = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 4\r\nConnection: close\r\n\r\nlate"
    for what, extra in {
        "a late 408": late,
        "a doubled answer": says(b"doubled"),
        "one stray byte": b"x",
        "an empty line": b"\r\n",
    }.items():
        yield case(
            f"unasked on an idle connection: {what}",
            "RFC 9112 9.2",
            (get(b"/1"), answered(), Pause(0.2), get(b"/2")),
            bodies(b"/1", b"/2"),
            upstream=(Reply((Act.ECHO, Pause(0.05), extra), target=b"/1"), Reply((Act.ECHO,))),
            methods=("GET", "GET"),
        )
    yield case(
        "an answer given twice in one segment",
        "RFC 9112 9.2",
        (get(b"/1"), answered(), Pause(0.05), get(b"/2")),
        bodies(b"first", b"/2"),
        upstream=(Reply((says(b"first") + says(b"doubled"),), target=b"/1"), Reply((Act.ECHO,))),
        methods=("GET", "GET"),
    )
    yield case(
        "an answer longer than it says",
        "RFC 9112 6.3",
        (get(b"/1"), answered(), Pause(0.05), get(b"/2")),
        bodies(b"ok", b"/2"),
        upstream=(Reply((OK + b"and more",), target=b"/1"), Reply((Act.ECHO,))),
        methods=("GET", "GET"),
    )
    for method, line in (("HEAD", b"200 OK"), ("GET", b"204 No Content"), ("GET", b"304 Not Modified")):
        yield case(
            f"a body behind {line.decode() if method == 'GET' else method}",
            "RFC 9112 6.3",
            (head(method.encode() + b" /1 HTTP/1.1", b"Host: sidecar.example"), answered(), Pause(0.05), get(b"/2")),
            status(int(line[:3])),
            body(b"/2", at=1),
            upstream=(
                Reply((b"HTTP/1.1 " + line + b"\r\nContent-Length: 4\r\n\r\nevil",), target=b"/1"),
                Reply((Act.ECHO,)),
            ),
            methods=(method, "GET"),
        )
    for how, leave in (("leaves", Leave()), ("resets", Leave(reset=True))):
        yield case(
            f"the client {how} while it waits",
            "goal; RFC 9112 9.6",
            (get(), ASKED, Pause(0.1), leave),
            Check(
                "the upstream's request ends within 1.5 s",
                lambda seen: seen.abandoned_after_s is not None and seen.abandoned_after_s < 1.5,
                lambda seen: f"{seen.abandoned_after_s} s; {seen.upstream_ends}",
            ),
            upstream=Reply((), then="stall"),
            until=lambda seen: seen.abandoned_after_s is not None,
        )
    yield case(
        "the client leaves within its body",
        "RFC 9112 8",
        (post(b"Content-Length: 100"), b"x" * 50, ASKED, Pause(0.1), Leave()),
        NOTHING_WHOLE,
        Check(
            "the upstream's request ends within 1.5 s",
            lambda seen: not seen.requests or (seen.abandoned_after_s is not None and seen.abandoned_after_s < 1.5),
        ),
        methods=("POST",),
        until=lambda seen: seen.abandoned_after_s is not None,
    )
    yield case(
        "the client leaves within a chunk",
        "RFC 9112 8",
        (post(CHUNKED), b"3\r\nabc\r\n64\r\nx", ASKED, Pause(0.1), Leave()),
        NOTHING_WHOLE,
        methods=("POST",),
        until=lambda seen: seen.abandoned_after_s is not None,
    )
    yield case(
        "the client leaves within the answer",
        "goal; RFC 9112 9.6",
        (get(), Wait(lambda seen: bool(seen.answers)), Pause(0.1), Leave(reset=True)),
        Check(
            "the upstream's request ends within 1.5 s",
            lambda seen: seen.abandoned_after_s is not None and seen.abandoned_after_s < 1.5,
            lambda seen: f"{seen.abandoned_after_s} s; {seen.upstream_ends}",
        ),
        upstream=Reply((says(b"x" * 1000)[:-500],), then="stall"),
        until=lambda seen: seen.abandoned_after_s is not None,
    )
    yield case(
        "a slow head", "goal; RFC 9110 15.5.9", b"GET /probe HT", ENDED_OR_ANSWERED, NOTHING_FORWARDED, until=closed
    )
    yield case(
        "a head that drips",
        "goal; RFC 9110 15.5.9",
        (b"GET /probe HTTP/1.1\r\nX: ", *(step for _ in range(50) for step in (b"x", Pause(0.1)))),
        ENDED_OR_ANSWERED,
        NOTHING_FORWARDED,
        until=lambda _: True,
    )
    yield case(
        "a body that does not come",
        "goal; RFC 9110 15.5.9",
        (post(b"Content-Length: 100"), b"x" * 10),
        ENDED_OR_ANSWERED,
        NOTHING_WHOLE,
        methods=("POST",),
        until=closed,
    )
    yield case(
        "chunks that do not come",
        "goal; RFC 9110 15.5.9",
        (post(CHUNKED), b"3\r\nabc\r\n"),
        ENDED_OR_ANSWERED,
        NOTHING_WHOLE,
        methods=("POST",),
        until=closed,
    )


# Attacks: nothing smuggled, nowhere else reached.

_SMUGGLED: Final = get(b"/smuggled")

# RFC 9112, 6.3: CL beside TE may be refused, or TE alone counts and the connection ends with the answer.
_BY_CODING: Final = either(REFUSED, both(harmless(), ENDED))


def _framing() -> Iterator[Case]:
    for what, lines in {
        "Content-Length, then chunked": (b"Content-Length: %d" % (5 + len(_SMUGGLED)), CHUNKED),
        "chunked, then Content-Length": (CHUNKED, b"Content-Length: %d" % (5 + len(_SMUGGLED))),
        "chunked and a short Content-Length": (b"Content-Length: 3", CHUNKED),
    }.items():
        yield _attack(what, "RFC 9112 6.1, 6.3", post(*lines) + b"0\r\n\r\n" + _SMUGGLED, _BY_CODING)
    for what, lengths in {
        "two different ones": (b"Content-Length: 4", b"Content-Length: 5"),
        "a list of different ones": (b"Content-Length: 4, 5",),
        "a negative one": (b"Content-Length: -4",),
        "one with a plus": (b"Content-Length: +4",),
        "a hexadecimal one": (b"Content-Length: 0x4",),
        "one with a space inside": (b"Content-Length: 4 4",),
        "an empty one": (b"Content-Length:",),
        "one beyond 64 bits": (b"Content-Length: " + b"9" * 30,),
        "one that wraps around 64 bits": (b"Content-Length: 18446744073709551620",),
        "letters": (b"Content-Length: four",),
        "a decimal point": (b"Content-Length: 4.0",),
        "an underscore": (b"Content-Length: 0_4",),
        "Arabic digits": (b"Content-Length: \xd9\xa4",),
        "one and a list that differs": (b"Content-Length: 4", b"Content-Length: 4, 5"),
    }.items():
        # RFC 9112, 6.3: without Transfer-Encoding and with an invalid Content-Length the framing is invalid: 400.
        yield _attack(f"Content-Length: {what}", "RFC 9112 6.3", post(*lengths) + b"abcd" + _SMUGGLED, REFUSED)
    for what, lengths in {
        "two equal ones": (b"Content-Length: 4", b"Content-Length: 4"),
        "a list of equal ones": (b"Content-Length: 4, 4",),
        "leading zeros": (b"Content-Length: 0004",),
    }.items():
        # RFC 9110, 8.6: refused, or taken for the one valid value that it repeats.
        yield _attack(
            f"Content-Length: {what}", "RFC 9110 8.6", post(*lengths) + b"abcd", either(REFUSED, harmless(b"abcd"))
        )
    for what, codings in {
        "xchunked": (b"xchunked",),
        "chunked, identity": (b"chunked, identity",),
        "a vertical tab before chunked": (b"\x0bchunked",),
        "identity": (b"identity",),
        "chunked in quotes": (b'"chunked"',),
        "empty": (b"",),
        "chunked;q=1": (b"chunked;q=1",),
        "a null byte behind chunked": (b"chunked\0",),
        "chunked, then identity on a second line": (b"chunked", b"identity"),
    }.items():
        # RFC 9112, 6.1 and 6.3: a last coding other than chunked gets 400, one that is not understood 501.
        coded = post(*(b"Transfer-Encoding: " + coding for coding in codings))
        yield _attack(f"Transfer-Encoding: {what}", "RFC 9112 6.1, 6.3", coded + b"0\r\n\r\n" + _SMUGGLED, REFUSED)
    for what, coding in {"identity": b"identity", "empty": b"", "xchunked": b"xchunked"}.items():
        yield _attack(
            f"Transfer-Encoding: {what}, and the next request at once",
            "RFC 9112 6.3",
            post(b"Transfer-Encoding: " + coding) + _SMUGGLED,
            REFUSED,
        )
    yield _attack(
        "Transfer-Encoding: a coding that nobody knows",
        "RFC 9112 6.1",
        post(b"Transfer-Encoding: foo, chunked") + b"0\r\n\r\n",
        REFUSED,
    )
    for what, repeated in {
        "chunked twice": (b"Transfer-Encoding: chunked, chunked",),
        "chunked on two lines": (CHUNKED, CHUNKED),
        # The list of RFC 9110, 5.6.1 may have empty elements.
        "a comma before chunked": (b"Transfer-Encoding: , chunked",),
    }.items():
        # RFC 9112, 7: a sender must not apply chunked twice; no rule says what a recipient does with such a list.
        yield _attack(
            f"Transfer-Encoding: {what}",
            "RFC 9112 6.1, 7",
            post(*repeated) + b"0\r\n\r\n",
            either(REFUSED, harmless()),
        )
    yield _attack(
        "Transfer-Encoding: CHUNKED",
        "RFC 9112 7",
        post(b"Transfer-Encoding: CHUNKED") + b"3\r\nabc\r\n0\r\n\r\n",
        harmless(b"abc"),
    )
    yield _attack(
        "Transfer-Encoding of HTTP/1.0",
        "RFC 9112 6.1",
        head(b"POST /probe HTTP/1.0", b"Host: sidecar.example", b"Connection: keep-alive", CHUNKED)
        + b"0\r\n\r\n"
        + _SMUGGLED,
        either(REFUSED, both(harmless(), ENDED)),
    )
    yield _attack(
        "Transfer_Encoding is another field",
        "RFC 9110 5.1",
        post(b"Transfer_Encoding: chunked", b"Content-Length: 5") + b"0\r\n\r\n",
        either(REFUSED, harmless(b"0\r\n\r\n")),
    )
    yield _attack(
        "GET with a body that looks like a request",
        "RFC 9110 9.3.1",
        sent(b"GET", _SMUGGLED),
        either(REFUSED, harmless(_SMUGGLED)),
        methods=("GET", "GET"),
    )
    yield _attack(
        "Connection names Content-Length",
        "RFC 9110 7.6.1",
        sent(b"POST", _SMUGGLED, b"Connection: Content-Length"),
        either(REFUSED, harmless(_SMUGGLED)),
    )
    yield _attack(
        "Connection names Transfer-Encoding",
        "RFC 9110 7.6.1",
        post(CHUNKED, b"Connection: Transfer-Encoding") + b"3\r\nabc\r\n0\r\n\r\n",
        either(REFUSED, harmless(b"abc")),
    )


def _attack(
    name: str, section: str, sends: bytes | tuple[Send, ...], *checks: Check, methods: tuple[str, ...] = ("POST", "GET")
) -> Case:
    """Return a case that waits a little longer, for a second answer or request that must not come."""
    return case(
        name,
        section,
        sends,
        *checks,
        upstream=Reply((Act.ECHO,)),
        methods=methods,
        until=lambda seen: any(answer.is_whole for answer in seen.answers),
        linger_s=0.25,
    )


def _chunk_attacks() -> Iterator[Case]:
    for what, framed in {
        "a size beyond 64 bits": b"10000000000000003\r\nabc\r\n0\r\n\r\n",
        "a size of sixteen F": b"FFFFFFFFFFFFFFFF\r\nabc\r\n0\r\n\r\n",
        "a negative size": b"-3\r\nabc\r\n0\r\n\r\n",
        "a size with a plus": b"+3\r\nabc\r\n0\r\n\r\n",
        "a size with 0x": b"0x3\r\nabc\r\n0\r\n\r\n",
        "an empty size": b"\r\nabc\r\n0\r\n\r\n",
        "a size of letters": b"xyz\r\nabc\r\n0\r\n\r\n",
        "an underscore in a size": b"0_3\r\nabc\r\n0\r\n\r\n",
        "a space in a size": b"0 3\r\nabc\r\n0\r\n\r\n",
        "more data than the size": b"3\r\nabcd\r\n0\r\n\r\n",
        "no CRLF behind the data": b"3\r\nabc0\r\n\r\n\r\n",
        "a wrong pair behind the data": b"3\r\nabcXX0\r\n\r\n",
        "a size and no semicolon": b"3 abc\r\nabc\r\n0\r\n\r\n",
        "an endless size": b"0" * 100_000,
        "an endless extension": b"3;" + b"x" * 1_000_000,
    }.items():
        yield _attack(f"chunk: {what}", "RFC 9112 7.1", post(CHUNKED) + framed + get(b"/next"), BROKEN_OFF)
    for what, framed in {
        # RFC 9112, 7.1: no white space there, though 7.1.1 tells of recipients that take it before an extension.
        "a space before the size": b" 3\r\nabc\r\n0\r\n\r\n",
        "a space behind the size": b"3 \r\nabc\r\n0\r\n\r\n",
        # RFC 9112, 2.2 lets a line of the head end in LF alone; who takes it here has to send CRLF on.
        "LF alone behind the size": b"3\nabc\r\n0\r\n\r\n",
        "LF alone behind the data": b"3\r\nabc\n0\r\n\r\n",
        "LF alone within an extension": b"3;a\nb\r\nabc\r\n0\r\n\r\n",
        "LF alone at the end": b"3\r\nabc\r\n0\n\n",
    }.items():
        allowed = BROKEN_OFF if "within" in what else either(BROKEN_OFF, harmless(b"abc"))
        yield _attack(f"chunk: {what}", "RFC 9112 7.1, 2.2", post(CHUNKED) + framed, allowed)
    yield case(
        "trailers without end",
        "goal; RFC 9112 7.1.2",
        post(CHUNKED) + b"0\r\n" + b"X-Trailer: v\r\n" * 60_000,
        BROKEN_OFF,
        methods=("POST",),
    )


def _is_folded(messages: Callable[[Seen], tuple[Message, ...]]) -> Check:
    """Hold where the fold in the first message's X-Fold became spaces, how many ever."""

    def is_folded(seen: Seen) -> bool:
        values = messages(seen)[0].values(b"X-Fold") if messages(seen) else []
        return [value.split() for value in values] == [[b"a", b"b"]] and not {*b"\r\n"} & {*values[0]}

    return Check("the fold is replaced by spaces", is_folded)


def _head_attacks() -> Iterator[Case]:
    # RFC 9112, 5.2: an obs-fold gets 400 or is replaced by spaces.
    folded = either(REFUSED, both(harmless(), _is_folded(lambda seen: seen.requests)))
    yield _head_attack("obs-fold", "RFC 9112 5.2", get(b"/probe", b"X-Fold: a\r\n b"), folded)
    yield _head_attack(
        "obs-fold with a tab", "RFC 9112 5.2", get(b"/probe", b"X-Fold: a\r\n\tb"), either(REFUSED, harmless())
    )
    yield _head_attack(
        "obs-fold of Transfer-Encoding",
        "RFC 9112 5.2",
        post(b"Transfer-Encoding:\r\n chunked") + b"0\r\n\r\n",
        either(REFUSED, harmless()),
    )
    # RFC 9112, 2.2: LF alone may be taken for the end of a line, and is then sent on as CRLF.
    yield _head_attack(
        "LF alone throughout", "RFC 9112 2.2", get().replace(b"\r\n", b"\n"), either(REFUSED, harmless())
    )
    yield _head_attack(
        "LF alone behind a field", "RFC 9112 2.2", get(b"/probe", b"X: a\nY: b"), either(REFUSED, harmless())
    )
    # RFC 9112, 2.2: CR alone is invalid or becomes a space. RFC 9110, 5.5: NUL likewise; other controls may stay.
    yield _head_attack("CR alone in a value", "RFC 9112 2.2", get(b"/probe", b"X: a\rb"), either(REFUSED, harmless()))
    yield _head_attack(
        "CR alone before a field",
        "RFC 9112 2.2",
        get(b"/probe", b"X: a\rContent-Length: 5"),
        either(REFUSED, harmless()),
    )
    yield _head_attack("NUL in a value", "RFC 9110 5.5", get(b"/probe", b"X: a\0b"), either(REFUSED, harmless()))
    for what, request in {
        "NUL in a name": get(b"/probe", b"X\0Y: a"),
        "a space before the colon": get(b"/probe", b"X-Space : a"),
        "a space before the colon of Content-Length": post(b"Content-Length : 4") + b"abcd",
        "a tab before the colon of Transfer-Encoding": post(b"Transfer-Encoding\t: chunked") + b"0\r\n\r\n",
        "a space in a name": get(b"/probe", b"X Y: a"),
        "no name": get(b"/probe", b": a"),
        "no colon": get(b"/probe", b"X-None"),
        "a name that is not ASCII": get(b"/probe", b"X-\xe9: a"),
    }.items():
        yield _head_attack(f"field: {what}", "RFC 9112 5.1; RFC 9110 5.1, 5.6.2", request, REFUSED)
    # RFC 9112, 2.2: such a line is refused, or read without it; no other reading.
    yield _head_attack(
        "a line with a space before the first field",
        "RFC 9112 2.2",
        head(b"GET /probe HTTP/1.1", b" Host: evil.example", b"Host: sidecar.example"),
        either(REFUSED, harmless()),
    )
    for what, line in {
        "NUL in the target": b"GET /a\0b HTTP/1.1",
        "a control in the target": b"GET /a\x01b HTTP/1.1",
        "DEL in the target": b"GET /a\x7fb HTTP/1.1",
        "a space in the target": b"GET /a b HTTP/1.1",
        "a target without a slash": b"GET api HTTP/1.1",
        "an asterisk for GET": b"GET * HTTP/1.1",
        "an empty target": b"GET  HTTP/1.1",
        "a control in the method": b"G\x01T /probe HTTP/1.1",
        "a bracket in the method": b"G(T /probe HTTP/1.1",
        "an empty method": b" /probe HTTP/1.1",
        "another protocol": b"GET /probe HTTQ/1.1",
        "version 1.1.1": b"GET /probe HTTP/1.1.1",
        "version 1.10": b"GET /probe HTTP/1.10",
        "version in small letters": b"GET /probe http/1.1",
        "an authority for GET": b"GET sidecar.example:80 HTTP/1.1",
    }.items():
        yield _head_attack(f"request line: {what}", "RFC 9112 2.3, 3", head(line, b"Host: sidecar.example"), REFUSED)
    # RFC 9110, 2.5: read as the highest minor version known, and never sent on as HTTP/1.9.
    yield _head_attack(
        "request line: version 1.9",
        "RFC 9110 2.5",
        head(b"GET /probe HTTP/1.9", b"Host: a"),
        either(REFUSED, harmless()),
    )
    # RFC 9110, 15.6.6: a major version that is not served gets 505, if the server wishes.
    yield _head_attack(
        "request line: version 2.0",
        "RFC 9110 2.5",
        head(b"GET /probe HTTP/2.0", b"Host: a"),
        either(REFUSED, harmless()),
    )
    yield _head_attack("HTTP/0.9", "RFC 9112 A", b"GET /probe\r\n", either(REFUSED, CLEAN_UPSTREAM))
    # RFC 9113, 3.4: who speaks HTTP/2 may do so here.
    yield _head_attack(
        "the preface of HTTP/2",
        "RFC 9112 3; RFC 9113 3.4",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        NOTHING_FORWARDED,
        ENDED_OR_ANSWERED,
    )
    yield _head_attack("a TLS hello", "RFC 9112 3", b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00\r\n\r\n", REFUSED)
    for what, hosts in {
        "none": (),
        "two": (b"Host: sidecar.example", b"Host: evil.example"),
        "two equal ones": (b"Host: sidecar.example", b"Host: sidecar.example"),
        "one with a space": (b"Host: sidecar.example evil.example",),
        "one with a path": (b"Host: sidecar.example/path",),
        "one with user information": (b"Host: me@sidecar.example",),
        "a list": (b"Host: sidecar.example, evil.example",),
    }.items():
        yield _head_attack(f"Host: {what}", "RFC 9112 3.2", head(b"GET /probe HTTP/1.1", *hosts), REFUSED)
    yield _head_attack(
        "another host in the target",
        "RFC 9112 3.2.2",
        head(b"GET http://elsewhere.invalid/probe HTTP/1.1", b"Host: sidecar.example"),
        either(REFUSED, both(harmless(), asked(b"GET /probe HTTP/1.1"))),
    )
    yield _head_attack(
        "another host behind an @",
        "RFC 9112 3.2.2; RFC 9110 4.2.4",
        head(b"GET http://sidecar.example@elsewhere.invalid/probe HTTP/1.1", b"Host: sidecar.example"),
        either(REFUSED, both(harmless(), asked(b"GET /probe HTTP/1.1"))),
    )
    yield _head_attack(
        "CONNECT",
        "goal; RFC 9110 9.3.6",
        head(b"CONNECT elsewhere.invalid:443 HTTP/1.1", b"Host: elsewhere.invalid:443"),
        REFUSED,
        methods=("POST", "GET"),
    )
    yield _head_attack(
        "TRACE", "goal; RFC 9110 9.3.8", head(b"TRACE /probe HTTP/1.1", b"Host: sidecar.example"), REFUSED
    )
    yield _head_attack(
        "a target of 100 KB",
        "RFC 9110 4.1, RFC 9112 3",
        get(b"/" + b"a" * 100_000),
        status(414),
        NOTHING_FORWARDED,
    )
    yield _head_attack(
        "a field of 100 KB",
        "RFC 9110 5.4; RFC 6585 5",
        get(b"/probe", b"X-Large: " + b"v" * 100_000),
        status(400, 413, 431),
        NOTHING_FORWARDED,
    )
    yield _head_attack(
        "a head of 300 KB",
        "RFC 9110 5.4; RFC 6585 5",
        get(b"/probe", *(b"X-%d: %s" % (number, b"v" * 1200) for number in range(250))),
        either(status(400, 413, 431), ENDED),
        NOTHING_FORWARDED,
    )
    yield _head_attack(
        "20,000 fields",
        "RFC 9110 5.4; RFC 6585 5",
        get(b"/probe", *(b"X: 1",) * 20_000),
        either(status(400, 413, 431), ENDED),
        NOTHING_FORWARDED,
    )
    yield case(
        "empty lines without end", "goal; RFC 9112 2.2", b"\r\n" * 500_000, ENDED, NOTHING_FORWARDED, until=closed
    )


def _head_attack(
    name: str, section: str, sends: bytes, *checks: Check, methods: tuple[str, ...] = ("GET", "GET")
) -> Case:
    return _attack(name, section, sends, *checks, methods=methods)


def _hostile_upstreams() -> Iterator[Case]:
    gateway_error = status(502, 503)
    for what, lines in {
        "two Content-Lengths": (b"Content-Length: 2", b"Content-Length: 3"),
        "a list of Content-Lengths": (b"Content-Length: 2, 3",),
        "a negative Content-Length": (b"Content-Length: -2",),
        "a Content-Length with a plus": (b"Content-Length: +2",),
        "a hexadecimal Content-Length": (b"Content-Length: 0x2",),
        "a Content-Length of letters": (b"Content-Length: two",),
        "a Content-Length beyond 64 bits": (b"Content-Length: " + b"9" * 30,),
    }.items():
        # RFC 9112, 6.3: a proxy that gets such a response must answer 502.
        yield case(
            f"upstream: {what}",
            "RFC 9112 6.3",
            get(),
            gateway_error,
            upstream=Reply((head(b"HTTP/1.1 200 OK", *lines) + b"ok",), then="close"),
        )
    # RFC 9112, 6.3: Transfer-Encoding overrides, and Content-Length must not be forwarded beside it.
    yield case(
        "upstream: Content-Length and chunked",
        "RFC 9112 6.3",
        (get(b"/1"), answered(), Pause(0.05), get(b"/2")),
        either(
            gateway_error,
            both(body(b"abc"), FRAMED_ONCE),
        ),
        body(b"/2", at=1),
        upstream=(
            Reply((chunked(b"3\r\nabc\r\n0\r\n\r\n", b"Content-Length: 50"),), target=b"/1"),
            Reply((Act.ECHO,)),
        ),
        methods=("GET", "GET"),
    )
    yield case(
        "upstream: obs-fold",
        "RFC 9112 5.2",
        get(),
        either(gateway_error, _is_folded(lambda seen: seen.answers)),
        upstream=says(b"ok", b"X-Fold: a\r\n b"),
    )
    for what, line in {
        "CR alone in a value": b"X: a\rSet-Cookie: evil=1",
        "LF alone in a value": b"X: a\nSet-Cookie: evil=1",
        "NUL in a value": b"X: a\0b",
    }.items():
        # RFC 9112, 2.2; RFC 9110, 5.5: refused, or replaced; never sent on.
        yield case(
            f"upstream: {what}",
            "RFC 9112 2.2; RFC 9110 5.5",
            get(),
            either(gateway_error, answer_head_clean()),
            Check("there is an answer", lambda seen: bool(seen.answers)),
            upstream=says(b"ok", line),
        )
    yield case(
        "upstream: CR alone in the reason phrase",
        "RFC 9112 2.2, 4",
        get(),
        Check("there is an answer", lambda seen: bool(seen.answers)),
        answer_head_clean(),
        upstream=b"HTTP/1.1 200 O\rK\r\nContent-Length: 2\r\n\r\nok",
    )
    yield case(
        "upstream: a space before the colon",
        "RFC 9112 5.1",
        get(),
        either(
            gateway_error,
            Check(
                "without the space", lambda seen: bool(seen.answers) and seen.answers[0].values(b"X-Space") == [b"a"]
            ),
            both(status(200), answer_lacks(b"X-Space", b"X-Space ")),
        ),
        upstream=says(b"ok", b"X-Space : a"),
    )
    for what, framed in {
        "a size of letters": b"3\r\nabc\r\nxyz\r\nabc\r\n0\r\n\r\n",
        "a size beyond 64 bits": b"3\r\nabc\r\n10000000000000003\r\nabc\r\n0\r\n\r\n",
        "more data than the size": b"3\r\nabcd\r\n0\r\n\r\n",
        "a negative size": b"3\r\nabc\r\n-1\r\nabc\r\n0\r\n\r\n",
    }.items():
        yield case(
            f"upstream: chunk with {what}", "RFC 9112 7.1, 8", get(), TRUNCATED, upstream=chunked(framed), until=closed
        )
    yield case(
        "upstream: 101 that nobody asked for",
        "RFC 9110 15.2.2, 7.8",
        get(),
        either(gateway_error, both(ENDED, Check("no 101", lambda seen: all(a.status != 101 for a in seen.answers)))),
        upstream=b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n" + OK,
    )
    yield case(
        "upstream: 100 that nobody asked for",
        "RFC 9110 15.2",
        get(),
        body(b"ok"),
        upstream=b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
    )
    yield case(
        "upstream: 1xx without end",
        "goal; RFC 9110 15.2",
        get(),
        ENDED_OR_ANSWERED,
        upstream=Reply((b"HTTP/1.1 103 Early Hints\r\n\r\n" * 20_000,), then="stall"),
        until=lambda seen: seen.end != "open" or bool(seen.answers),
    )
    yield case(
        "upstream: 1xx behind the answer",
        "RFC 9112 9.2",
        (get(b"/1"), answered(), Pause(0.05), get(b"/2")),
        bodies(b"ok", b"/2"),
        upstream=(Reply((OK + b"HTTP/1.1 103 Early Hints\r\nX: late\r\n\r\n",), target=b"/1"), Reply((Act.ECHO,))),
        methods=("GET", "GET"),
    )
    yield case(
        "upstream: a coding that nobody knows",
        "RFC 9112 6.1, 6.3",
        get(),
        either(gateway_error, status(501), ENDED),
        Check(
            "the coding is never lost while its content is kept",
            lambda seen: (
                not seen.answers
                or seen.answers[0].status >= 500
                or b"foo" in b",".join(seen.answers[0].values(b"Transfer-Encoding"))
            ),
        ),
        upstream=Reply(
            (head(b"HTTP/1.1 200 OK", b"Transfer-Encoding: foo, chunked") + b"3\r\nabc\r\n0\r\n\r\n",), then="close"
        ),
    )


GROUPS: Final = {
    "targets": tuple(_targets()),
    "methods": tuple(_methods()),
    "requests": tuple(_requests()),
    "responses": tuple(_responses()),
    "interim responses": tuple(_interim()),
    "connections": tuple(_connections()),
    "faults": tuple(_faults()),
    "framing attacks": tuple(_framing()),
    "chunk attacks": tuple(_chunk_attacks()),
    "head attacks": tuple(_head_attacks()),
    "hostile upstreams": tuple(_hostile_upstreams()),
}
"""All cases by what they are about."""

CASES: Final = tuple(each for group in GROUPS.values() for each in group)
