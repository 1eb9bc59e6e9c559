"""What a case can ask for: predicates on what the client and the upstream saw, each with its words for a report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fidelity.messages import End, Message


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of a case.

    `rest` is what the client got behind its last answer, `requests` what the upstream was asked, `upstream_bytes` all
    that reached it, `end` how the client's connection stands. `abandoned_after_s` is the time from the client's leaving
    to the end of the upstream's last connection, or None where either did not happen.
    """

    answers: tuple[Message, ...] = ()
    rest: bytes = b""
    end: End = "open"
    requests: tuple[Message, ...] = ()
    upstream_bytes: bytes = b""
    upstream_ends: tuple[End, ...] = ()
    abandoned_after_s: float | None = None

    @property
    def client_side(self) -> str:
        said = [answer.brief for answer in self.answers]
        if self.rest:
            said.append(f"{len(self.rest)} bytes more: {self.rest[:48]!r}")
        return f"client: {'; '.join(said) or 'nothing'}; connection {self.end}"

    @property
    def upstream_side(self) -> str:
        said = [request.brief for request in self.requests]
        if not said and self.upstream_bytes:
            said = [f"{self.upstream_bytes[:48]!r}"]
        return f"upstream: {'; '.join(said) or 'nothing'}"

    def __str__(self) -> str:
        return f"{self.client_side} | {self.upstream_side}"


@dataclass(frozen=True, slots=True)
class Check:
    """What is expected, whether it holds, and what to show where it does not."""

    expected: str
    holds: Callable[[Seen], bool]
    came: Callable[[Seen], str] = str


def either(*checks: Check) -> Check:
    """Hold where any of `checks` does: the RFC leaves the choice."""
    return Check(
        " or ".join(check.expected for check in checks),
        lambda seen: any(check.holds(seen) for check in checks),
        str,
    )


def both(*checks: Check) -> Check:
    return Check(
        " and ".join(check.expected for check in checks), lambda seen: all(check.holds(seen) for check in checks)
    )


# What the client saw.


def status(*codes: int, at: int = 0) -> Check:
    return Check(
        f"answer {at + 1} is {' or '.join(map(str, codes))}",
        lambda seen: len(seen.answers) > at and seen.answers[at].status in codes,
    )


def body(content: bytes, at: int = 0) -> Check:
    shown = repr(content) if len(content) < 40 else f"{len(content)} bytes"
    return Check(
        f"answer {at + 1} is whole with body {shown}",
        lambda seen: len(seen.answers) > at and seen.answers[at].is_whole and seen.answers[at].body == content,
        lambda seen: repr(seen.answers[at].body[:60]) if len(seen.answers) > at else str(seen),
    )


def bodies(*contents: bytes) -> Check:
    return Check(
        f"{len(contents)} answers in the order of the requests",
        lambda seen: [answer.body for answer in seen.answers if answer.is_whole] == list(contents),
        lambda seen: f"{len(seen.answers)} answers; {seen}"[:400],
    )


def answer_has(name: bytes, *values: bytes, at: int = 0) -> Check:
    return Check(
        f"answer has {name.decode()}: {list(values)!r}"[:200],
        lambda seen: len(seen.answers) > at and seen.answers[at].values(name) == list(values),
        lambda seen: f"{seen.answers[at].values(name)!r}"[:200] if len(seen.answers) > at else str(seen),
    )


def answer_lacks(*names: bytes, at: int = 0) -> Check:
    return Check(
        f"answer is without {', '.join(name.decode() for name in names)}",
        lambda seen: len(seen.answers) > at and not any(seen.answers[at].values(name) for name in names),
        lambda seen: (
            repr([(name, seen.answers[at].values(name)) for name in names]) if len(seen.answers) > at else str(seen)
        ),
    )


def answer_head_has(piece: bytes) -> Check:
    return Check(
        f"answer's head has {piece!r} as it was sent",
        lambda seen: bool(seen.answers) and piece in seen.answers[0].head,
        lambda seen: repr(seen.answers[0].head[:300]) if seen.answers else str(seen),
    )


def answer_head_clean() -> Check:
    """Hold where no answer's head has a CR or LF that does not end a line, or a NUL."""

    def is_clean(seen: Seen) -> bool:
        heads = (answer.head.replace(b"\r\n", b"") for answer in seen.answers)
        return not any(mark in head for head in heads for mark in (b"\r", b"\n", b"\0"))

    return Check("no bare CR, bare LF or NUL in the answer's head", is_clean)


def reason(text: bytes) -> Check:
    return Check(
        f"the reason phrase is {text!r}",
        lambda seen: bool(seen.answers) and seen.answers[0].reason == text,
        lambda seen: repr(seen.answers[0].start_line) if seen.answers else str(seen),
    )


def interim(*codes: int) -> Check:
    return Check(
        f"interim responses {codes or 'none'}",
        lambda seen: bool(seen.answers) and [each.status for each in seen.answers[0].interim] == list(codes),
        lambda seen: repr([each.start_line for answer in seen.answers for each in answer.interim]) + f"; {seen}",
    )


def interim_has(name: bytes, value: bytes) -> Check:
    return Check(
        f"an interim response has {name.decode()}: {value!r}",
        lambda seen: any(value in each.values(name) for answer in seen.answers for each in answer.interim),
    )


FRAMED_ONCE: Final = Check(
    "the answer has one framing: Content-Length or Transfer-Encoding, and one of it",
    lambda seen: (
        bool(seen.answers)
        and len([*seen.answers[0].values(b"Content-Length"), *seen.answers[0].values(b"Transfer-Encoding")]) <= 1
    ),
)

ENDED: Final = Check("the client's connection ends", lambda seen: seen.end != "open")

ENDED_OR_ANSWERED: Final = Check(
    "the client gets an answer from 400 up, or its connection ends",
    lambda seen: seen.end != "open" or any(answer.status >= 400 for answer in seen.answers),
)

NOTHING_MORE: Final = Check("nothing behind the answer", lambda seen: not seen.rest)


def _is_truncated(seen: Seen) -> bool:
    if not seen.answers:
        return seen.end != "open"
    last = seen.answers[-1]
    return last.status >= 500 or (not last.is_whole and seen.end != "open")


TRUNCATED: Final = Check("the client sees that the answer broke off", _is_truncated)


# What the upstream saw.


def asked(*lines: bytes) -> Check:
    """Hold where the upstream got exactly these whole requests, by their start lines."""
    return Check(
        f"upstream got {list(lines)!r}"[:300],
        lambda seen: sorted(request.start_line for request in seen.requests if request.is_whole) == sorted(lines),
        lambda seen: f"{[request.start_line for request in seen.requests if request.is_whole]!r}; {seen.client_side}"[
            :400
        ],
    )


def asked_times(count: int, method: bytes = b"") -> Check:
    return Check(
        f"upstream got {count} {method.decode() or 'request'}{'' if count == 1 else 's'}",
        lambda seen: len([request for request in seen.requests if request.method == method or not method]) == count,
    )


def asked_with(name: bytes, *values: bytes) -> Check:
    return Check(
        f"upstream got {name.decode()}: {list(values)!r}"[:200],
        lambda seen: bool(seen.requests) and seen.requests[0].values(name) == list(values),
        lambda seen: f"{seen.requests[0].values(name)!r}"[:200] if seen.requests else str(seen),
    )


def asked_without(*names: bytes) -> Check:
    return Check(
        f"upstream did not get {', '.join(name.decode() for name in names)}",
        lambda seen: bool(seen.requests) and not any(seen.requests[0].values(name) for name in names),
        lambda seen: repr([(name, seen.requests[0].values(name)) for name in names]) if seen.requests else str(seen),
    )


def asked_only_with(*names: bytes) -> Check:
    """Hold where the upstream's request has no fields but these."""
    known = {name.lower() for name in names}
    return Check(
        f"upstream got no fields but {', '.join(name.decode() for name in names)}",
        lambda seen: bool(seen.requests) and {name.lower() for name, _ in seen.requests[0].fields} <= known,
        lambda seen: repr([name for name, _ in seen.requests[0].fields]) if seen.requests else str(seen),
    )


def asked_head_has(piece: bytes) -> Check:
    return Check(
        f"upstream's head has {piece[:60]!r} as it was sent",
        lambda seen: bool(seen.requests) and piece in seen.requests[0].head,
        lambda seen: repr(seen.requests[0].head[:300]) if seen.requests else str(seen),
    )


def uploaded(content: bytes) -> Check:
    shown = repr(content) if len(content) < 40 else f"{len(content)} bytes"
    return Check(
        f"upstream got a whole body of {shown}",
        lambda seen: bool(seen.requests) and seen.requests[0].is_whole and seen.requests[0].body == content,
        lambda seen: repr(seen.requests[0].body[:60]) if seen.requests else str(seen),
    )


def via(*before: bytes) -> Check:
    """Hold where the upstream's Via lists `before` and then an entry for HTTP/1.1 (RFC 9110, 7.6.3)."""

    def is_appended(seen: Seen) -> bool:
        if not seen.requests:
            return False
        entries = [entry.strip() for entry in b",".join(seen.requests[0].values(b"Via")).split(b",")]
        return entries[:-1] == list(before) and entries[-1].startswith((b"1.1 ", b"HTTP/1.1 "))

    return Check(
        f"upstream's Via is {[*before, b'1.1 <name>']!r}",
        is_appended,
        lambda seen: repr(seen.requests[0].values(b"Via")) if seen.requests else str(seen),
    )


NOTHING_FORWARDED: Final = Check("nothing reaches the upstream", lambda seen: not seen.upstream_bytes)

NOTHING_WHOLE: Final = Check(
    "no whole request reaches the upstream", lambda seen: not any(request.is_whole for request in seen.requests)
)

_FRAMING: Final = (b"content-length", b"transfer-encoding")


def _is_unambiguous(request: Message) -> bool:
    """Whether `request` is framed in one way and has one `Host`, so that no reader of it can think it another."""
    framing = [(name.lower(), value.lower()) for name, value in request.fields if name.lower() in _FRAMING]
    if len(framing) > 1 or len(request.values(b"Host")) != 1:
        return False
    head = request.head.replace(b"\r\n", b"")
    if any(mark in head for mark in (b"\r", b"\n", b"\0")) or b"\r\n " in request.head or b"\r\n\t" in request.head:
        return False
    return all(value.isdigit() if name == b"content-length" else value == b"chunked" for name, value in framing)


def harmless(content: bytes = b"", method: bytes = b"") -> Check:
    """Hold where the upstream got this one request, clean and in one framing, and the client its answer alone."""

    def is_harmless(seen: Seen) -> bool:
        if len(seen.requests) != 1 or len(seen.answers) != 1 or seen.rest:
            return False
        (request,) = seen.requests
        is_alone = len(seen.upstream_bytes) == len(request.head) + len(request.framed)
        is_same = request.is_whole and request.body == content and method in {b"", request.method}
        return is_alone and is_same and _is_unambiguous(request) and request.version == b"HTTP/1.1"

    return Check("one clean request with the right body is forwarded", is_harmless)


CLEAN_UPSTREAM: Final = Check(
    "upstream gets no more than one whole request, in one framing and with one Host",
    lambda seen: len(seen.requests) == 1 and seen.requests[0].is_whole and _is_unambiguous(seen.requests[0]),
)

NOT_PROMOTED: Final = Check(
    "no field of the trailers is among those of the head",
    lambda seen: (
        not any(
            message.values(b"Set-Cookie")
            or message.values(b"Authorization")
            or b"999" in message.values(b"Content-Length")
            for message in (*seen.requests, *seen.answers)
        )
    ),
)


def _is_refusal(seen: Seen) -> bool:
    """Whether the client got one answer from 400 up and nothing else, or its connection ended without a word."""
    if seen.rest or len(seen.answers) > 1:
        return False
    return seen.answers[0].status >= 400 if seen.answers else seen.end != "open"


REFUSED: Final = both(Check("refused", _is_refusal), NOTHING_FORWARDED)
"""For what a proxy sees in the head of a request."""

BROKEN_OFF: Final = both(Check("refused", _is_refusal), NOTHING_WHOLE)
"""For what a proxy sees in the body of a request, whose head it may have sent on already."""
