from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core import tags
from proxy.core.codes import MISMATCH_HELP, ErrorCodes, Help
from proxy.core.failure import Failure
from proxy.core.model import (
    Action,
    CaseMismatch,
    ErrorCode,
    ErrorTag,
    Fields,
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
    Unfixable,
    UnknownName,
)

GUID = TargetId("3a1f5d3c-7c2a-4a37-8a71-0d3a3a0f2f11")


@dataclass(frozen=True)
class Names:
    target_id: str = "X-Target-Id"
    target_source: str = "X-Target-Source"
    error_code: str = "X-Error-Code"
    error_origin: str = "X-Error-Origin"
    case_mismatch: str = "X-Case-Mismatch"
    request_id: str = "X-Request-Id"


def mismatch(got: str, expected: str) -> CaseMismatch:
    return CaseMismatch(
        Pointer("/" + got), got, expected, expected, Kind.NAME, required=False, conflict=False, path=(0,)
    )


def tag(code: str = "Forbidden", label: str = "Forbidden", origin: Origin = Origin.UPSTREAM) -> ErrorTag:
    return ErrorTag(ErrorCode(code), label, "No.", GUID, TargetSource.ENVELOPE, origin)


PLAIN = Outcome(
    method="POST",
    operation="isolateMachine",
    route=RouteTemplate("/api/machines/{id}/isolate"),
    status=201,
    request_id="r-1",
    duration_s=0.0123456,
    upstream_s=0.01,
    overhead_s=0.0023456,
    request_bytes=70,
    response_bytes=20,
    mode=Mode.REJECT,
)
MISSPELT = Findings(mismatches=(mismatch("comment", "Comment"),))
REJECTED = PLAIN._replace(
    status=400, upstream_s=None, findings=MISSPELT, action=Action.REJECTED, error=tag(origin=Origin.PROXY)
)
OBSERVED = PLAIN._replace(findings=MISSPELT, action=Action.OBSERVED, mode=Mode.OBSERVE)
REFUSED = OBSERVED._replace(status=400, error=tag())


def fields_of(error: ErrorTag, fields: Fields = ()) -> dict[str, str]:
    return dict(tags.error_fields(error, Names(), fields))


def test_header_fields_of_an_error() -> None:
    assert fields_of(tag()) == {
        "X-Error-Code": "Forbidden",
        "X-Error-Origin": "upstream",
        "X-Target-Id": GUID,
        "X-Target-Source": "envelope",
        "x-ms-error-code": "Forbidden",
    }


def test_the_upstreams_own_error_code_field_stays() -> None:
    assert "x-ms-error-code" not in fields_of(tag(), ((b"X-MS-Error-Code", b"Theirs"),))


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("a\r\nSet-Cookie: b", id="line-break"),
        pytest.param("two words", id="space"),
        pytest.param("\u00e9", id="beyond-ascii"),
        pytest.param("x" * 129, id="129-characters"),
    ],
)
def test_a_code_that_cannot_stand_in_a_header_is_given_as_its_label(code: str) -> None:
    fields = fields_of(tag(code, "other"))
    assert fields["X-Error-Code"] == fields["x-ms-error-code"] == "other"


@given(st.text())
def test_whatever_the_code_its_field_is_visible_ascii(code: str) -> None:
    value = fields_of(tag(code or "x", "other"))["X-Error-Code"]
    assert value.isascii()
    assert value.isprintable()
    assert " " not in value


@pytest.mark.parametrize(
    ("got", "item"),
    [
        pytest.param("comment", "comment=Comment", id="token"),
        pytest.param("com ment", "com%20ment=Comment", id="space"),
        pytest.param("c\u00f6mment", "c%C3%B6mment=Comment", id="beyond-ascii"),
        pytest.param("a,b=c%", "a%2Cb%3Dc%25=Comment", id="what-separates-items"),
    ],
)
def test_item_of_the_mismatch_field(got: str, item: str) -> None:
    assert tags.mismatch_field(Findings(mismatches=(mismatch(got, "Comment"),))) == item


def test_the_mismatch_field_holds_ten_items_and_counts_the_rest() -> None:
    findings = Findings(mismatches=tuple(mismatch(f"name{n}", f"Name{n}") for n in range(13)))
    items = tags.mismatch_field(findings).split(", ")
    assert items == [*(f"name{n}=Name{n}" for n in range(10)), "+3"]


@pytest.mark.parametrize(
    ("outcome", "event", "level", "is_told"),
    [
        pytest.param(PLAIN, "request", "info", False, id="plain"),
        pytest.param(REJECTED, "case_mismatch", "warning", True, id="rejected"),
        pytest.param(OBSERVED, "case_mismatch", "warning", True, id="observed"),
        pytest.param(REFUSED, "upstream_error", "warning", True, id="observed-and-refused"),
        pytest.param(PLAIN._replace(status=429, error=tag()), "upstream_error", "info", True, id="throttled"),
        pytest.param(PLAIN._replace(status=500, error=tag()), "upstream_error", "warning", True, id="their-500"),
        pytest.param(
            PLAIN._replace(status=502, error=tag(origin=Origin.PROXY), failure=Failure.CONNECTION_REFUSED),
            "proxy_error",
            "error",
            True,
            id="no-connection",
        ),
        pytest.param(
            PLAIN._replace(failure=Failure.HTTP_RESPONSE_INCOMPLETE), "proxy_error", "error", True, id="broken-off"
        ),
        pytest.param(
            PLAIN._replace(status=501, error=tag(origin=Origin.PROXY), failure=Failure.METHOD_REFUSED),
            "proxy_error",
            "warning",
            True,
            id="the-clients-fault",
        ),
        pytest.param(
            PLAIN._replace(status=None, failure=Failure.CLIENT_DISCONNECTED), "proxy_error", "warning", True, id="left"
        ),
        pytest.param(
            PLAIN._replace(findings=Findings(duplicates=(Pointer("/a"),))), "request", "warning", True, id="repeated"
        ),
        pytest.param(
            PLAIN._replace(findings=Findings(unknown=(UnknownName(Pointer("/Coment"), "Coment", "Comment"),))),
            "request",
            "info",
            True,
            id="near-miss",
        ),
        pytest.param(
            PLAIN._replace(findings=Findings(unknown=(UnknownName(Pointer("/x"), "x", None),), unknown_count=1)),
            "request",
            "info",
            False,
            id="unknown-name",
        ),
    ],
)
def test_event_and_level(outcome: Outcome, event: str, level: str, is_told: bool) -> None:  # noqa: FBT001
    assert (tags.log_event(outcome), tags.log_level(outcome)) == (event, level)
    assert tags.is_worth_a_line(outcome) is is_told


def test_log_fields_of_a_rejection() -> None:
    assert tags.log_fields(REJECTED) == {
        "method": "POST",
        "operation": "isolateMachine",
        "route": "/api/machines/{id}/isolate",
        "status": 400,
        "error_code": "Forbidden",
        "error_message": "No.",
        "target_id": GUID,
        "target_source": "envelope",
        "origin": "proxy",
        "mode": "reject",
        "action": "rejected",
        "mismatches": [{"pointer": "/comment", "got": "comment", "expected": "Comment"}],
        "help": {
            "cause": MISMATCH_HELP.cause,
            "remedy": MISMATCH_HELP.remedy,
            "page": MISMATCH_HELP.pages[0],
            "fixes": ["/comment: rename 'comment' to 'Comment'"],
        },
        "duration_ms": 12.346,
        "request_bytes": 70,
        "response_bytes": 20,
        "request_id": "r-1",
    }


def test_log_fields_of_a_plain_request_hold_nothing_that_does_not_apply() -> None:
    assert tags.log_fields(PLAIN).keys() == {
        "method",
        "operation",
        "route",
        "status",
        "duration_ms",
        "upstream_ms",
        "request_bytes",
        "response_bytes",
        "request_id",
    }


def test_a_near_miss_is_told_and_a_stranger_is_not() -> None:
    unknown = (UnknownName(Pointer("/Coment"), "Coment", "Comment"), UnknownName(Pointer("/zzz"), "zzz", None))
    fields = tags.log_fields(PLAIN._replace(findings=Findings(unknown=unknown, unknown_count=2)))
    assert fields["did_you_mean"] == [{"pointer": "/Coment", "got": "Coment", "expected": "Comment"}]


HELP = Help("You may not.", "Ask.", ("https://a.example/1", "https://a.example/2"))
CODES = ErrorCodes({"Forbidden": 403}, {}, {"Forbidden": HELP})
FAILED = PLAIN._replace(status=502, failure=Failure.CONNECTION_REFUSED, error=tag(origin=Origin.PROXY))
FIXES = ["/comment: rename 'comment' to 'Comment'"]
MISMATCH = {"cause": MISMATCH_HELP.cause, "remedy": MISMATCH_HELP.remedy, "page": MISMATCH_HELP.pages[0]}
OF_CODE = {"cause": "You may not.", "remedy": "Ask.", "page": "https://a.example/1"}


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        pytest.param(PLAIN, None, id="plain"),
        pytest.param(REJECTED, MISMATCH | {"fixes": FIXES}, id="rejected"),
        pytest.param(OBSERVED, MISMATCH | {"fixes": FIXES}, id="observed"),
        pytest.param(REFUSED, OF_CODE | {"fixes": FIXES}, id="observed-and-refused"),
        pytest.param(PLAIN._replace(status=403, error=tag()), OF_CODE, id="error-of-the-upstream"),
        pytest.param(PLAIN._replace(status=409, error=tag("New", "other")), None, id="undocumented-code"),
        pytest.param(
            OBSERVED._replace(status=409, error=tag("New", "other")),
            MISMATCH | {"fixes": FIXES},
            id="undocumented-code-and-a-mismatch",
        ),
        pytest.param(FAILED, None, id="failure-of-ours"),
        pytest.param(FAILED._replace(findings=MISSPELT), {"fixes": FIXES}, id="failure-of-ours-and-a-mismatch"),
        pytest.param(
            PLAIN._replace(status=403, error=tag(), failure=Failure.CLIENT_DISCONNECTED), OF_CODE, id="client-left"
        ),
        pytest.param(
            OBSERVED._replace(doc="defender-endpoint/api/isolate-machine.md"),
            MISMATCH
            | {
                "operation_page": "https://learn.microsoft.com/defender-endpoint/api/isolate-machine",
                "fixes": FIXES,
            },
            id="with-the-operations-page",
        ),
        pytest.param(PLAIN._replace(doc="defender-endpoint/api/isolate-machine.md"), None, id="page-without-a-reason"),
    ],
)
def test_help(outcome: Outcome, expected: dict[str, object] | None) -> None:
    assert tags.log_fields(outcome, CODES).get("help") == expected


def test_suspects_are_told_in_full() -> None:
    suspects = (
        Suspect(Suspicion.UNKNOWN_NAME, Pointer("/zzz")),
        Suspect(Suspicion.WRONG_TYPE, Pointer("/Comment"), ("string",), "number"),
    )
    fields = tags.log_fields(PLAIN._replace(status=400, error=tag(), suspects=suspects))
    assert fields["suspects"] == [
        {"suspicion": "unknown_name", "pointer": "/zzz", "expected": []},
        {"suspicion": "wrong_type", "pointer": "/Comment", "got": "number", "expected": ["string"]},
    ]


def test_why_a_body_was_not_fixed_is_told() -> None:
    outcome = REJECTED._replace(mode=Mode.FIX, not_fixed=(Unfixable.VALUE, Unfixable.CODED))
    assert tags.log_fields(outcome)["not_fixed"] == ["value", "coded"]


def test_long_texts_are_bounded() -> None:
    error = replace(tag("c" * 10_000), message="m" * 10_000)
    findings = Findings(
        mismatches=tuple(mismatch("n" * 10_000, "N") for _ in range(1_000)),
        duplicates=tuple(Pointer("/" + "d" * 10_000) for _ in range(1_000)),
    )
    suspect = Suspect(Suspicion.UNDOCUMENTED_VALUE, Pointer("/" + "s" * 10_000), ("e" * 10_000,) * 3)
    outcome = PLAIN._replace(
        status=400, error=error, findings=findings, action=Action.OBSERVED, suspects=(suspect,) * 20
    )
    fields = tags.log_fields(outcome)
    assert len(json.dumps(fields)) < 100_000
    assert fields["mismatches_omitted"] == 950


def test_log_fields_are_json() -> None:
    any_outcome: list[Any] = [PLAIN, REJECTED, OBSERVED, REFUSED]
    for outcome in any_outcome:
        assert json.loads(json.dumps(tags.log_fields(outcome))) == tags.log_fields(outcome)


def test_header_log_and_label_tell_the_same() -> None:
    assert REFUSED.error is not None
    header, log = fields_of(REFUSED.error), tags.log_fields(REFUSED)
    assert header["X-Target-Id"] == log["target_id"]
    assert header["X-Error-Code"] == log["error_code"] == REFUSED.error.label
    assert header["X-Error-Origin"] == log["origin"]
    assert header["X-Target-Source"] == log["target_source"]
    assert tags.status_label(REFUSED) == str(log["status"])


@pytest.mark.parametrize(
    ("status", "label"),
    [
        pytest.param(None, "none", id="left-unanswered"),
        pytest.param(200, "200", id="200"),
        pytest.param(599, "599", id="599"),
        pytest.param(600, "other", id="beyond-the-classes"),
        pytest.param(999, "other", id="999"),
    ],
)
def test_status_label(status: int | None, label: str) -> None:
    assert tags.status_label(PLAIN._replace(status=status)) == label


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        pytest.param(REJECTED, "none", id="rejected-here"),
        pytest.param(OBSERVED, "accepted", id="accepted"),
        pytest.param(REFUSED, "refused", id="refused"),
        pytest.param(OBSERVED._replace(status=502, failure=Failure.CONNECTION_REFUSED), "none", id="never-asked"),
        pytest.param(OBSERVED._replace(status=None), "none", id="client-left"),
    ],
)
def test_what_the_upstream_said_of_a_mismatch(outcome: Outcome, said: str) -> None:
    assert tags.mismatch_outcome(outcome) == said


def test_only_the_upstream_throttles() -> None:
    assert tags.is_throttled(PLAIN._replace(status=429, error=tag()))
    assert not tags.is_throttled(PLAIN._replace(status=429, error=tag(origin=Origin.PROXY)))
    assert not tags.is_throttled(REFUSED)
