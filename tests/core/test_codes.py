from __future__ import annotations

from collections import Counter
from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.codes import (
    INVALID_REQUEST_BODY,
    MISSING_REQUIRED_PARAMETER,
    OTHER,
    ErrorCodes,
    Help,
    may_blame_body,
    page_address,
    reason_phrase,
)
from proxy.core.failure import Failure
from proxy.core.model import Origin

CODES = ErrorCodes(
    {
        "BadRequest": 400,
        "InvalidRequestBody": 400,
        "MissingRequiredParameter": 400,
        "Unauthorized": 401,
        "TooManyRequests": 429,
        "ResourceNotFound": 404,
    },
    {"429": "TooManyRequests", "400": "BadRequest", "404": "ResourceNotFound"},
)
ORIGINS = st.sampled_from(Origin)


@pytest.mark.parametrize(
    ("code", "origin", "label"),
    [
        pytest.param("TooManyRequests", Origin.UPSTREAM, "TooManyRequests", id="documented"),
        pytest.param("429", Origin.UPSTREAM, "TooManyRequests", id="number-stands-for-its-code"),
        pytest.param("MissingRequiredParameter", Origin.PROXY, "MissingRequiredParameter", id="ours-as-documented"),
        pytest.param("GatewayTimeout", Origin.PROXY, "GatewayTimeout", id="ours-alone"),
        pytest.param("GatewayTimeout", Origin.UPSTREAM, "other", id="ours-as-the-upstreams"),
        pytest.param("503", Origin.UPSTREAM, "other", id="number-of-nothing"),
        pytest.param("toomanyrequests", Origin.UPSTREAM, "other", id="letter-case"),
        pytest.param("NobodyKnows", Origin.UPSTREAM, "other", id="unknown"),
        pytest.param("NobodyKnows", Origin.PROXY, "other", id="unknown-of-ours"),
        pytest.param("other", Origin.UPSTREAM, "other", id="other"),
        pytest.param("", Origin.UPSTREAM, "other", id="empty"),
        pytest.param("TooManyRequests\n", Origin.UPSTREAM, "other", id="line-break-behind"),
        pytest.param("x" * 100_000, Origin.UPSTREAM, "other", id="very-long"),
    ],
)
def test_code_counts_under_a_label(code: str, origin: Origin, label: str) -> None:
    assert CODES.label(code, origin) == label


@given(st.text() | st.sampled_from([*CODES.statuses, *CODES.aliases]), ORIGINS)
def test_labels_are_a_closed_set(code: str, origin: Origin) -> None:
    foreseen = {code for code, _, expected in CODES.expected() if expected is origin}
    assert CODES.label(code, origin) in foreseen | set(CODES.statuses) | {OTHER}


@given(st.text() | st.sampled_from([*CODES.statuses, *CODES.aliases]), ORIGINS)
def test_label_of_a_label_is_itself(code: str, origin: Origin) -> None:
    label = CODES.label(code, origin)
    assert CODES.label(label, origin) == label


@pytest.mark.parametrize(
    ("status", "code"),
    [
        pytest.param(400, "BadRequest", id="documented"),
        pytest.param(429, "TooManyRequests", id="documented-as-a-number"),
        pytest.param(404, "ResourceNotFound", id="documented-under-another-name"),
        pytest.param(401, "Unauthorized", id="by-its-phrase"),
        pytest.param(503, "ServiceUnavailable", id="by-its-phrase-of-two-words"),
        pytest.param(203, "NonAuthoritativeInformation", id="hyphen"),
        pytest.param(413, "ContentTooLarge", id="renamed"),
        pytest.param(599, "other", id="unheard-of"),
        pytest.param(0, "other", id="zero"),
        pytest.param(-1, "other", id="negative"),
        pytest.param(100_000, "other", id="large"),
    ],
)
def test_error_without_a_code_is_called_by_its_status(status: int, code: str) -> None:
    assert CODES.of_status(status) == code


@pytest.mark.parametrize("status", [status for status in HTTPStatus if status >= 400], ids=str)
def test_name_of_a_status_is_a_name(status: HTTPStatus) -> None:
    code = ErrorCodes({}, {}).of_status(status)
    assert code[0].isupper()
    assert code.isascii()
    assert " " not in code


@pytest.mark.parametrize(
    ("status", "phrase"),
    [
        pytest.param(200, "OK", id="200"),
        pytest.param(404, "Not Found", id="404"),
        pytest.param(413, "Content Too Large", id="413"),
        pytest.param(414, "URI Too Long", id="414"),
        pytest.param(416, "Range Not Satisfiable", id="416"),
        pytest.param(422, "Unprocessable Content", id="422"),
        pytest.param(508, "Loop Detected", id="508"),
        pytest.param(299, "", id="unheard-of"),
        pytest.param(-1, "", id="negative"),
    ],
)
def test_status_has_its_registered_name_whatever_the_python(status: int, phrase: str) -> None:
    assert reason_phrase(status) == phrase


@pytest.mark.parametrize("failure", Failure, ids=lambda failure: failure.label)
def test_code_of_a_failure_is_the_name_of_its_status(failure: Failure) -> None:
    assert ErrorCodes({}, {}).of_status(failure.status) == failure.code


def test_every_failure_has_a_counter_from_the_start() -> None:
    foreseen = set(CODES.expected())
    assert {(failure.code, failure.status, Origin.PROXY) for failure in Failure} <= foreseen
    assert {(code, status, Origin.UPSTREAM) for code, status in CODES.statuses.items()} <= foreseen
    assert (MISSING_REQUIRED_PARAMETER, 400, Origin.PROXY) in foreseen
    assert (INVALID_REQUEST_BODY, 400, Origin.PROXY) in foreseen


def test_no_counter_is_foreseen_twice() -> None:
    assert Counter(CODES.expected()).most_common(1)[0][1] == 1


def test_what_is_foreseen_counts_under_its_own_label() -> None:
    for code, _, origin in CODES.expected():
        assert CODES.label(code, origin) == code


@pytest.mark.parametrize("code", [MISSING_REQUIRED_PARAMETER, INVALID_REQUEST_BODY])
def test_code_of_a_rejection_has_a_label_even_where_it_is_not_documented(code: str) -> None:
    assert ErrorCodes({}, {}).label(code, Origin.PROXY) == code


EXPLAINED = ErrorCodes(
    {"TooManyRequests": 429},
    {"429": "TooManyRequests"},
    {"TooManyRequests": Help("A quota is used up.", "Wait.", ("https://a.example/1", "https://a.example/2"))},
)


@pytest.mark.parametrize("code", ["TooManyRequests", "429"])
def test_a_documented_code_is_explained_under_each_of_its_names(code: str) -> None:
    assert EXPLAINED.help_with(code) == EXPLAINED.helps["TooManyRequests"]
    assert EXPLAINED.explanation(code) == (
        "TooManyRequests (429 Too Many Requests)\n"
        "cause   A quota is used up.\n"
        "remedy  Wait.\n"
        "page    https://a.example/1\n"
        "page    https://a.example/2"
    )


@given(st.text())
def test_a_code_that_is_not_documented_is_not_explained(code: str) -> None:
    assert CODES.help_with(code) is None
    assert CODES.explanation(code) is None


@pytest.mark.parametrize(
    ("label", "status", "may"),
    [
        pytest.param("InvalidRequestBody", 400, True, id="invalid-body"),
        pytest.param("MissingRequiredParameter", 400, True, id="missing-parameter"),
        pytest.param("InvalidInput", 400, True, id="invalid-input"),
        pytest.param("BadRequest", 400, True, id="bad-request"),
        pytest.param(OTHER, 400, True, id="undocumented-400"),
        pytest.param(OTHER, 422, True, id="undocumented-422"),
        pytest.param(OTHER, 409, False, id="undocumented-409"),
        pytest.param(OTHER, 500, False, id="undocumented-500"),
        pytest.param("InvalidHashValue", 400, False, id="names-the-value-itself"),
        pytest.param("Forbidden", 403, False, id="permission"),
        pytest.param("TooManyRequests", 429, False, id="quota"),
    ],
)
def test_which_errors_may_be_about_the_body(label: str, status: int, may: bool) -> None:  # noqa: FBT001
    assert may_blame_body(label, status) is may


@pytest.mark.parametrize(
    ("page", "address"),
    [
        pytest.param(
            "defender-endpoint/api/common-errors.md",
            "https://learn.microsoft.com/defender-endpoint/api/common-errors",
            id="endpoint",
        ),
        pytest.param(
            "defender-xdr/api-error-codes.md", "https://learn.microsoft.com/defender-xdr/api-error-codes", id="xdr"
        ),
        pytest.param("https://coffee.example/docs.md", "https://coffee.example/docs.md", id="address-already"),
        pytest.param("api-reference/v1.0/api/x.md", "api-reference/v1.0/api/x.md", id="other-documentation"),
        pytest.param("", "", id="empty"),
    ],
)
def test_address_of_a_page(page: str, address: str) -> None:
    assert page_address(page) == address
