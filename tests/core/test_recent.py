from __future__ import annotations

import json
from typing import Any, cast

import pytest

from proxy.core import tags
from proxy.core.codes import MISMATCH_HELP, ErrorCodes, Help
from proxy.core.failure import Failure
from proxy.core.model import (
    Action,
    CaseMismatch,
    ErrorCode,
    ErrorTag,
    Findings,
    Kind,
    Mode,
    Origin,
    Outcome,
    Pointer,
    RouteTemplate,
    Suspect,
    Suspicion,
    TargetId,
    TargetSource,
)
from proxy.core.recent import ERRORS_AT_MOST, MISSPELLINGS_AT_MOST, Recent

PAGE = "https://learn.microsoft.com/defender-endpoint/api/common-errors"
CODES = ErrorCodes({"Forbidden": 403}, {}, {"Forbidden": Help("No permission.", "Grant it.", (PAGE,))})

PLAIN = Outcome(
    method="POST", operation="isolateMachine", route=RouteTemplate("/api/machines/{id}/isolate"), status=201,
    request_id="r-1", duration_s=1, upstream_s=1, overhead_s=0, request_bytes=70, response_bytes=20, mode=Mode.REJECT,
)  # fmt: skip


def tag(code: str = "Forbidden", message: str = "No.", origin: Origin = Origin.UPSTREAM) -> ErrorTag:
    label = code if code == "Forbidden" else "other"
    return ErrorTag(ErrorCode(code), label, message, TargetId("t-1"), TargetSource.ENVELOPE, origin)


def mismatch(got: str, expected: str = "Comment", kind: Kind = Kind.NAME, *, conflict: bool = False) -> CaseMismatch:
    return CaseMismatch(Pointer("/" + got), got, expected, expected, kind, required=True, conflict=conflict, path=(0,))


def with_mismatches(*mismatches: CaseMismatch, action: Action = Action.FIXED, **others: Any) -> Outcome:
    return PLAIN._replace(findings=Findings(mismatches), action=action, **others)


FORBIDDEN = PLAIN._replace(status=403, error=tag())
LEFT = PLAIN._replace(status=None, failure=Failure.CLIENT_DISCONNECTED)
CUT = PLAIN._replace(status=200, failure=Failure.HTTP_RESPONSE_INCOMPLETE)


def record(recent: Recent, *outcomes: Outcome, at_s: float = 1000.0) -> None:
    for outcome in outcomes:
        recent.record(outcome, tags.log_fields(outcome, CODES), at_s)


def told(recent: Recent, part: str, since: int = 0) -> list[dict[str, Any]]:
    return cast("list[dict[str, Any]]", recent.since(since)[part])


@pytest.mark.parametrize(
    ("outcome", "is_kept"),
    [
        pytest.param(PLAIN, False, id="plain"),
        pytest.param(FORBIDDEN, True, id="error"),
        pytest.param(with_mismatches(mismatch("comment")), True, id="fixed"),
        pytest.param(LEFT, False, id="client left"),
        pytest.param(
            LEFT._replace(findings=Findings((mismatch("comment"),)), action=Action.OBSERVED), True, id="misspelt"
        ),
        pytest.param(CUT, True, id="cut off"),
    ],
)
def test_what_is_kept(outcome: Outcome, is_kept: bool) -> None:  # noqa: FBT001 - a column of the table
    assert Recent.is_kept(outcome) == is_kept


def test_an_error_has_what_the_log_line_has() -> None:
    recent = Recent()
    record(recent, FORBIDDEN, at_s=1000.12345)
    (error,) = told(recent, "errors")
    assert error == {
        "seq": 1, "at": 1000.123, "event": "upstream_error", "method": "POST", "operation": "isolateMachine",
        "route": "/api/machines/{id}/isolate", "status": 403, "code": "Forbidden", "label": "Forbidden",
        "origin": "upstream", "message": "No.", "failure": None, "target_id": "t-1", "target_source": "envelope",
        "request_id": "r-1", "retry_after_s": None, "cause": "No permission.", "remedy": "Grant it.", "page": PAGE,
        "operation_page": None, "fixes": [], "suspects": [],
    }  # fmt: skip


def test_a_response_that_was_cut_off_is_an_error_without_an_id() -> None:
    recent = Recent()
    record(recent, CUT)
    (error,) = told(recent, "errors")
    assert (error["status"], error["code"], error["failure"]) == (200, "BadGateway", "http_response_incomplete")
    assert error["target_id"] is None
    assert not told(recent, "counts"), "errors_total does not count it either"


def test_errors_are_counted_by_code_status_and_origin() -> None:
    recent = Recent()
    own = FORBIDDEN._replace(error=tag("Weird", origin=Origin.PROXY))
    record(recent, FORBIDDEN, FORBIDDEN, own, FORBIDDEN._replace(status=401))
    counts = {(c["code"], c["status"], c["origin"]): c["count"] for c in told(recent, "counts")}
    assert counts == {
        ("Forbidden", "403", "upstream"): 2,
        ("other", "403", "proxy"): 1,
        ("Forbidden", "401", "upstream"): 1,
    }


def test_memory_is_bounded() -> None:
    recent = Recent()
    record(recent, *[FORBIDDEN] * (ERRORS_AT_MOST + 7))
    record(recent, *[with_mismatches(mismatch(f"comment{i}")) for i in range(MISSPELLINGS_AT_MOST + 7)])
    errors, misspellings = told(recent, "errors"), told(recent, "misspellings")
    assert [error["seq"] for error in errors] == [*range(8, ERRORS_AT_MOST + 8)]
    assert [item["got"] for item in misspellings] == [f"comment{i}" for i in range(7, MISSPELLINGS_AT_MOST + 7)]
    assert told(recent, "counts")[0]["count"] == ERRORS_AT_MOST + 7


def test_what_comes_from_strangers_is_short_and_harmless() -> None:
    recent = Recent()
    text = "\u202egnp.exe\x1b[2J\ud800\n" + "\x00" * 10**6
    outcome = with_mismatches(
        *[mismatch(text)] * 60, action=Action.REJECTED, status=400, error=tag(text, text),
        suspects=(Suspect(Suspicion.UNKNOWN_NAME, Pointer("/" + text), (text,)),) * 20,
    )  # fmt: skip
    record(recent, outcome)
    shown = json.dumps(recent.since(), ensure_ascii=False)
    assert shown.isprintable()
    assert len(shown) < 12_000
    assert told(recent, "errors")[0]["message"].startswith(r"\u202egnp.exe\x1b[2J\ud800\n")


def test_misspellings_are_counted_once_for_each_request() -> None:
    recent = Recent()
    record(recent, with_mismatches(mismatch("comment"), mismatch("comment"), mismatch("COMMENT")), at_s=5)
    record(recent, with_mismatches(mismatch("comment"), action=Action.REJECTED, status=400), at_s=6)
    items = {item["got"]: item for item in told(recent, "misspellings")}
    assert items["comment"]["count"] == 2
    assert items["comment"]["actions"] == {"fixed": 1, "rejected": 1}
    assert items["comment"]["fix"] == "rename 'comment' to 'Comment'"
    assert items["comment"]["at"] == 6
    assert items["COMMENT"]["count"] == 1
    assert not told(recent, "errors")


def test_values_and_conflicts_are_told_apart_from_names() -> None:
    recent = Recent()
    record(recent, with_mismatches(mismatch("full", "Full", Kind.VALUE), mismatch("full", "Full")))
    record(recent, with_mismatches(mismatch("full", "Full", conflict=True)))
    assert [(item["is_value"], item["is_conflict"], item["fix"]) for item in told(recent, "misspellings")] == [
        (True, False, "write 'Full' for 'full'"),
        (False, False, "rename 'full' to 'Full'"),
        (False, True, "keep one spelling alone: 'Full', not 'full'"),
    ]


def test_an_accepted_misspelling_casts_doubt_on_the_catalog() -> None:
    recent = Recent()
    record(recent, with_mismatches(mismatch("comment"), action=Action.OBSERVED))
    record(recent, with_mismatches(mismatch("comment"), action=Action.OBSERVED, status=400, error=tag()))
    (item,) = told(recent, "misspellings")
    assert (item["count"], item["accepted"]) == (2, 1)


def test_a_mismatch_leads_to_its_fixes_and_not_to_the_log() -> None:
    recent = Recent()
    own = tag("MissingRequiredParameter", origin=Origin.PROXY)
    record(recent, with_mismatches(mismatch("comment"), action=Action.REJECTED, status=400, error=own, doc=PAGE))
    (error,) = told(recent, "errors")
    assert error["cause"] == MISMATCH_HELP.cause
    assert error["remedy"] is None
    assert error["fixes"] == ["/comment: rename 'comment' to 'Comment'"]
    assert error["operation_page"] == told(recent, "misspellings")[0]["page"] == PAGE


@pytest.mark.parametrize(
    ("suspicion", "pointer", "expected", "got", "text"),
    [
        (Suspicion.NOT_JSON, "", ("object",), "line 1", "the body is not JSON (got: line 1); expected: object"),
        (Suspicion.UNKNOWN_NAME, "/Com", ("Comment",), "", "/Com is not documented; perhaps Comment was meant"),
        (Suspicion.UNKNOWN_NAME, "/x", (), "", "/x is not documented"),
        (Suspicion.MISSING, "/Comment", ("string",), "", "/Comment is required and missing; expected: string"),
        (
            *(Suspicion.WRONG_TYPE, "/a", ("string", "null"), "number"),
            "/a has another type than documented (got: number); expected: string, null",
        ),
        (
            *(Suspicion.UNDOCUMENTED_VALUE, "/a", ("A", "B"), ""),
            "/a has a value that is not documented; expected one of: A, B",
        ),
    ],
)
def test_a_suspect_is_a_sentence(
    suspicion: Suspicion, pointer: str, expected: tuple[str, ...], got: str, text: str
) -> None:
    recent = Recent()
    record(recent, FORBIDDEN._replace(suspects=(Suspect(suspicion, Pointer(pointer), expected, got),)))
    assert told(recent, "errors")[0]["suspects"] == [text]


def test_since_tells_what_has_changed_and_is_still_known() -> None:
    recent = Recent()
    record(recent, FORBIDDEN, with_mismatches(mismatch("comment")), FORBIDDEN._replace(status=401))
    assert [error["seq"] for error in told(recent, "errors", 1)] == [3]
    assert [count["status"] for count in told(recent, "counts", 1)] == ["401"]
    assert [item["got"] for item in told(recent, "misspellings", 1)] == ["comment"]
    assert recent.since(3) == {"seq": 3, "errors": [], "counts": [], "misspellings": []}
    record(recent, *[FORBIDDEN] * 500)
    assert len(told(recent, "errors", 3)) == ERRORS_AT_MOST
    assert [count["count"] for count in told(recent, "counts", 3)] == [501]


def test_a_listener_is_told_of_each_change() -> None:
    recent, seen = Recent(), []
    recent.tell(lambda: seen.append(recent.seq))
    record(recent, FORBIDDEN, with_mismatches(mismatch("comment")))
    assert seen == [1, 2]
