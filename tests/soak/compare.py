"""Four accounts of one run, held against each other: the clients', the upstream's, the log and the metrics."""

# ruff: noqa: C901, PLR0912 - lists of what has to agree, one `if` each

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from tests.soak.plans import CHECKED_AT_MOST_BYTES, SAFE
from tests.soak.upstream import SEQUENCE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.conftest import Message
    from tests.soak.clients import View
    from tests.soak.plans import Request
    from tests.soak.process import Series
    from tests.soak.upstream import Arrival

# What the log may call each deed of the upstream's that was no whole answer.
FAILURES: Final = {
    "unfinished": {"connection_terminated"},
    "answered early and closed": {"connection_terminated"},
    "cut before the head": {"connection_terminated"},
    "cut in the head": {"connection_terminated"},
    "cut in the body": {"http_response_incomplete"},
    "garbage": {"http_protocol_error"},
    "garbage in chunks": {"http_protocol_error"},
    "silent": {"http_response_timeout"},
    "stalled in the body": {"connection_read_timeout"},
}

# What the upstream called a whole answer.
WHOLE: Final = {"answered", "answered twice", "answered early", "answered early and closed"}

# Those that leave a response whose head is out already without its end.
BREAKING: Final = {"http_response_incomplete", "http_protocol_error", "connection_read_timeout"}

# RFC 9112, 9.3.1: whoever takes a connection from a pool may find it closed, whatever the upstream does otherwise.
ALWAYS_POSSIBLE: Final = {"connection_terminated", "connection_refused"}

# Of an upstream that stops listening for a moment: how far its clock's reading and the line's may lie apart.
_CLOCK_S: Final = 3.0

# Of requests that may be meant by a line that names none.
_NEAR_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Run:
    """What is left of a run: all four accounts. Lines are those of exchanges, in their order."""

    views: Mapping[int, View]
    arrivals: Mapping[int, Sequence[Arrival]]
    lines: Sequence[Mapping[str, Any]]
    before: Mapping[Series, float]
    after: Mapping[Series, float]
    strays: Sequence[bytes] = ()
    refusing: Sequence[tuple[float, float]] = ()


@dataclass(slots=True)
class _Account:
    """One request in all accounts but the metrics."""

    view: View
    arrivals: Sequence[Arrival]
    lines: list[Mapping[str, Any]] = field(default_factory=list)

    @property
    def request(self) -> Request:
        return self.view.request


def disagreements(run: Run) -> list[str]:
    """Return every point on which the accounts differ, a line each; none where all four agree."""
    accounts = {sequence: _Account(view, run.arrivals.get(sequence, ())) for sequence, view in run.views.items()}
    by_id = {account.request.request_id: account for account in accounts.values()}
    unparsed: dict[str, Mapping[str, Any]] = {}
    found = [f"reached the upstream, though nobody sent it: {head!r}" for head in run.strays]
    for line in run.lines:
        account = by_id.get(line["request_id"])
        if account is not None:
            account.lines.append(line)
        else:
            unparsed[line["request_id"]] = line
    for account in accounts.values():
        request = account.request
        if request.client == "malformed" and (answer := account.view.answer) is not None:
            line_ = unparsed.pop(answer["X-Request-Id"], None)
            account.lines += [line_] if line_ is not None else []
        found += [f"{_told(account, accounts)}: {problem}" for problem in _of_one(account, run.refusing)]
    for line in unparsed.values():
        at = datetime.fromisoformat(line["timestamp"]).timestamp()
        near = [_told(a, accounts) for a in accounts.values() if not a.lines and abs(a.view.ended_at - at) < _NEAR_S]
        found.append(f"a line that belongs to no request: {json.dumps(line)}; without a line at that time: {near}")
    return found + list(_of_metrics(run, by_id))


def _told(account: _Account, accounts: Mapping[int, _Account]) -> str:
    """Return which request it is, what was to happen to it, and which one stood before it on its connection."""
    request, behind = account.request, accounts.get(-1 if account.view.behind is None else account.view.behind)
    plans = [
        f"{one.sequence} ({one.client}; {one.upstream})" for one in (request, *([behind.request] if behind else []))
    ]
    lasted = ", ".join(f"{line['duration_ms']:.0f} ms" for line in account.lines)
    return f"{request.route.method} {request.target}, {' behind '.join(plans)}, {lasted or 'no line'}"


def _of_one(account: _Account, refusing: Sequence[tuple[float, float]]) -> Iterator[str]:
    request, view, arrivals = account.request, account.view, account.arrivals
    if view.hung:
        yield "neither an answer nor an end came"
    if view.crossed:
        yield f"something came behind the last answer: {view.crossed[:80]!r}"
    yield from _of_arrivals(request, arrivals)
    if len(account.lines) != 1:
        if account.lines or not request.leaves:
            seen = view.answer and view.answer.body[:80]
            yield f"{len(account.lines)} lines in the log, the client saw {seen!r}"
        elif arrivals and request.client != "half a head":
            yield "reached the upstream without a line in the log"
        if request.client == "half a head" and arrivals:
            yield "half a head reached the upstream"
        return
    line = account.lines[0]
    if arrivals and arrivals[-1].deed == "crossed":
        # Its answer is whatever was on the way already when it was sent; that much HTTP/1.1 cannot help.
        return
    if line.get("defect"):
        yield f"a defect: {line['defect']}"
    yield from _of_failure(request, arrivals, line, refusing)
    yield from _of_line(request, arrivals, line)
    if view.answer is not None:
        yield from _of_answer(request, arrivals, line, view.answer)
    elif not request.leaves and not (line.get("failure") and line.get("status", 200) < 400):
        yield f"the client saw no answer, the log has status {line.get('status')}"


def _of_arrivals(request: Request, arrivals: Sequence[Arrival]) -> Iterator[str]:
    is_safe = request.route.method in SAFE
    if len(arrivals) > (2 if is_safe else 1):
        yield f"reached the upstream {len(arrivals)} times"
    if arrivals and (request.is_refused or request.client in {"malformed", "half a head"}):
        yield "reached the upstream, though it has to be refused"
    for arrival in arrivals:
        if (arrival.method, arrival.target) != (request.route.method, request.target):
            yield f"arrived as {arrival.method} {arrival.target}"
        if arrival.request_id != request.request_id:
            yield f"arrived with the ID {arrival.request_id}"
        if not arrival.is_complete:
            continue
        if request.client in {"half a body", "stops"}:
            yield "half a body arrived as a whole one"
        wanted = request.right_body if request.mode == "fix" else request.body
        if arrival.sha256 != hashlib.sha256(wanted).hexdigest():
            yield f"its body arrived as another one of {arrival.body_bytes} bytes"


def _of_failure(
    request: Request, arrivals: Sequence[Arrival], line: Mapping[str, Any], refusing: Sequence[tuple[float, float]]
) -> Iterator[str]:
    """Hold the failure in the log against what the upstream and the client did."""
    failure, deed = line.get("failure"), arrivals[-1].deed if arrivals else None
    allowed: set[str | None] = set(FAILURES.get(deed or "", ()))
    if not arrivals or line.get("resend"):
        allowed |= ALWAYS_POSSIBLE
    if deed in {None, *WHOLE}:
        allowed.add(None)
    if deed == "answered twice" and request.route.method == "HEAD":
        # The body of the answer that nobody asked for, which a HEAD has none of, is no HTTP.
        allowed.add("http_protocol_error")
    if request.is_refused:
        allowed = {None}
    if request.leaves:
        allowed |= {None, "client_disconnected"}
        # A body that ends in the middle is a malformed one, if it is read before its connection's end is noticed.
        allowed |= {"malformed_request"} if request.client == "half a body" else set()
    elif request.client == "stops":
        allowed = {"request_timeout"} | ({None} if (deed or "").startswith("answered early") else set())
        allowed |= ALWAYS_POSSIBLE if not arrivals else set()
    elif request.client == "malformed":
        allowed = {"malformed_request"}
    if failure not in allowed:
        yield f"the log has the failure {failure}, the upstream has {deed!r}"
    if failure == "connection_refused":
        at = datetime.fromisoformat(line["timestamp"]).timestamp()
        if not any(began - _CLOCK_S <= at <= ended + _CLOCK_S for began, ended in refusing):
            yield "the log says that the upstream refused it, which it did not then"
    resend = line.get("resend")
    if resend not in {None, "connection_terminated"}:
        yield f"it was sent a second time because of {resend}"
    if resend and request.route.method not in SAFE:
        yield "an unsafe request was sent a second time"
    if len(arrivals) > 1 and not resend:
        yield "reached the upstream twice, the log says nothing of it"
    if len(arrivals) > 1 and arrivals[0].deed not in {"cut before the head", "cut in the head"}:
        yield f"was sent a second time though the upstream has {arrivals[0].deed!r}"


def _of_line(request: Request, arrivals: Sequence[Arrival], line: Mapping[str, Any]) -> Iterator[str]:
    """Hold the rest of the line against what the upstream did and what the client sent."""
    failure, status, origin = line.get("failure"), line.get("status"), line.get("origin")
    if line["event"] != _event(line):
        yield f"the line is called {line['event']}"
    if request.client == "malformed":
        return
    if line["operation"] != request.route.operation:
        yield f"the log has the operation {line['operation']}"
    if status is not None and origin != "proxy":
        sent = arrivals[-1].status if arrivals else None
        if sent != status:
            yield f"the log has status {status}, the upstream sent {sent}"
    if origin == "proxy" and failure is None and not request.is_refused:
        yield "the log has an error of the proxy's own without a failure"
    if request.is_refused and origin == "proxy" and failure is None and line.get("action") != "rejected":
        yield f"the log has the action {line.get('action')}"
    wanted = {"fix": "fixed", "observe": "observed", "reject": "rejected"}.get(request.mode or "")
    if request.misspelt and line["request_bytes"] == len(request.body) and request.result == "mismatch":
        spelt = sorted(mismatch["expected"] for mismatch in line.get("mismatches", ()))
        if (line.get("action"), spelt) != (wanted, sorted(request.misspelt)):
            yield f"the log has {line.get('action')} {spelt}, the client misspelt {request.misspelt}"
    elif not request.misspelt and line.get("mismatches"):
        yield f"the log has mismatches, the client misspelt nothing: {line['mismatches']}"
    if line["request_bytes"] > len(request.body):
        yield f"the log has {line['request_bytes']} bytes of the request, the client sent {len(request.body)}"
    is_taken = any(arrival.is_complete for arrival in arrivals)
    if is_taken and line["request_bytes"] != len(request.body):
        yield f"the log has {line['request_bytes']} bytes of the request, the upstream got {len(request.body)}"


def _event(line: Mapping[str, Any]) -> str:
    if line.get("failure"):
        return "proxy_error"
    if line.get("origin") == "upstream":
        return "upstream_error"
    return "case_mismatch" if line.get("action") else "request"


def _of_answer(
    request: Request, arrivals: Sequence[Arrival], line: Mapping[str, Any], answer: Message
) -> Iterator[str]:
    """Hold what the client saw against the line, and against what the upstream sent."""
    failure = line.get("failure")
    if answer.status != line.get("status"):
        yield f"the client saw status {answer.status}, the log has {line.get('status')}"
    is_broken = failure in BREAKING and answer.status < 400
    if answer.is_whole == is_broken:
        yield f"the client saw {'a whole' if answer.is_whole else 'half a'} response, the log has {failure}"
    if answer.is_whole and len(answer.body) != line["response_bytes"] and request.route.method != "HEAD":
        yield f"the client saw {len(answer.body)} bytes, the log has {line['response_bytes']}"
    if request.client != "malformed" and answer.values("X-Request-Id") != [request.request_id]:
        yield f"the answer has the ID {answer.values('X-Request-Id')}"
    if answer.status >= 400:
        yield from _of_error(request, line, answer)
    if "X-Error-Origin" in answer and answer["X-Error-Origin"] == "proxy":
        if SEQUENCE in answer:
            yield "an answer of the proxy's own has a field of the upstream's"
        return
    if answer.values(SEQUENCE) != [str(request.sequence)]:
        yield f"the answer is for the request {answer.values(SEQUENCE)}"
    sent = arrivals[-1].answer if arrivals else b""
    is_plain = answer.status < 400 and request.route.method != "HEAD"
    if is_plain and (answer.body != sent if answer.is_whole else not sent.startswith(answer.body)):
        yield f"the client saw another body than the upstream sent: {answer.body[:80]!r}"
    marked = b"%d" % request.sequence
    if request.upstream in {"envelope", "page"} and answer.is_whole and request.route.method != "HEAD":
        if request.upstream == "envelope" and answer.body != sent:
            yield f"an envelope was changed: {answer.body[:80]!r}"
        if b"sequence " + marked not in answer.body:
            yield f"the error is that of another request: {answer.body[:80]!r}"


def _of_error(request: Request, line: Mapping[str, Any], answer: Message) -> Iterator[str]:
    told = {"X-Error-Origin": "origin", "X-Target-Id": "target_id", "X-Target-Source": "target_source"}
    for name, key in told.items():
        if answer.values(name) != [line.get(key)]:
            yield f"the client saw {name}: {answer.values(name)}, the log has {line.get(key)}"
    if answer.values("X-Error-Code") != [line.get("error_code")]:
        yield f"the client saw the code {answer.values('X-Error-Code')}, the log has {line.get('error_code')}"
    if request.route.method != "HEAD" and "Content-Encoding" not in answer and answer.is_whole:
        error = answer.error
        if (error["code"], error["target"]) != (line.get("error_code"), line.get("target_id")):
            yield f"the client saw the envelope of {error['code']}, the log has {line.get('error_code')}"


def _of_metrics(run: Run, by_id: Mapping[str, _Account]) -> Iterator[str]:
    """Hold each series that the lines and the clients' bodies foretell against the metrics."""
    known = {(dict(labels)["code"], dict(labels)["origin"]) for name, labels in run.before if name == "errors_total"}
    upstream = {dict(labels)["failure"] for name, labels in run.before if name == "upstream_failures_total"}
    wanted: Counter[Series] = Counter()

    def count(name: str, times: int = 1, **labels: str) -> None:
        wanted[name, frozenset(labels.items())] += times

    for line in run.lines:
        operation, status = line["operation"], str(line.get("status", "none"))
        count("requests_total", operation=operation, status=status)
        count("log_events_total", level=line["level"])
        if (code := line.get("error_code")) is not None:
            # An upstream's error that is not whole counts as `other`, whatever its code.
            is_cut = line["origin"] == "upstream" and line.get("failure") in upstream
            label = code if (code, line["origin"]) in known and not is_cut else "other"
            count("errors_total", code=label, status=status, origin=line["origin"])
            count("operation_errors_total", operation=operation, code=label)
        if line.get("failure") in upstream:
            count("upstream_failures_total", failure=line["failure"])
        if (resend := line.get("resend")) is not None:
            count("retries_total", reason=resend)
        for mismatch in line.get("mismatches", ()):
            labels = {"parameter": mismatch["expected"], "action": line["action"], "outcome": _outcome(line)}
            count("case_mismatches_total", operation=operation, **labels)
        account = by_id.get(line["request_id"])
        if account is not None and (result := _body_result(account.request, line)) is not None:
            count("bodies_total", result=result)
    names = {
        *("requests_total", "errors_total", "operation_errors_total", "upstream_failures_total", "retries_total"),
        *("case_mismatches_total", "bodies_total", "log_events_total", "log_lines_dropped_total"),
    }
    counted = {key: value - run.before.get(key, 0) for key, value in run.after.items() if key[0] in names}
    for key in sorted(wanted.keys() | counted.keys(), key=repr):
        if wanted[key] != counted.get(key, 0):
            name, labels_ = key
            told = ", ".join(f"{label}={value}" for label, value in sorted(labels_))
            yield f"metrics: {name}{{{told}}} rose by {counted.get(key, 0):.0f}, the other accounts have {wanted[key]}"
    in_flight = run.after["requests_in_flight", frozenset()]
    if in_flight:
        yield f"metrics: {in_flight:.0f} requests in flight, though all are over"


def _outcome(line: Mapping[str, Any]) -> str:
    """Return what the upstream made of a misspelt body, as the label has it."""
    if line["action"] == "rejected" or line.get("status") is None or line.get("origin") == "proxy":
        return "none"
    if line.get("failure") not in {None, "client_disconnected", "client_write_timeout"}:
        return "none"
    return "refused" if line["status"] >= 400 else "accepted"


def _body_result(request: Request, line: Mapping[str, Any]) -> str | None:
    """Return the label of the body's result: None where it was not checked, or the client left within it."""
    if request.client == "malformed":
        return None
    if request.result in {None, "not_json"}:
        return request.result
    if request.result == "too_large":
        is_told = not request.is_chunked or line["request_bytes"] > CHECKED_AT_MOST_BYTES
        return "too_large" if is_told else None
    is_read = line["request_bytes"] == len(request.body) and line.get("failure") != "request_timeout"
    return request.result if is_read else None
