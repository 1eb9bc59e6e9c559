from __future__ import annotations

from http import HTTPStatus

import pytest

from proxy.core.failure import Failure

# RFC 9209, 2.3: the error types of the registry "HTTP Proxy Error Types".
PROXY_ERROR_TYPES = {
    "connection_limit_reached",
    "connection_read_timeout",
    "connection_refused",
    "connection_terminated",
    "connection_timeout",
    "connection_write_timeout",
    "destination_ip_prohibited",
    "destination_ip_unroutable",
    "destination_not_found",
    "destination_unavailable",
    "dns_error",
    "dns_timeout",
    "http_protocol_error",
    "http_request_denied",
    "http_request_error",
    "http_response_body_size",
    "http_response_content_coding",
    "http_response_header_section_size",
    "http_response_header_size",
    "http_response_incomplete",
    "http_response_timeout",
    "http_response_trailer_section_size",
    "http_response_trailer_size",
    "http_response_transfer_coding",
    "http_upgrade_failed",
    "proxy_configuration_error",
    "proxy_internal_error",
    "proxy_internal_response",
    "proxy_loop_detected",
    "tls_alert_received",
    "tls_certificate_error",
    "tls_protocol_error",
}

# Statuses whose name says that somebody was waited for.
TIMEOUTS = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.GATEWAY_TIMEOUT}

EACH_FAILURE = pytest.mark.parametrize("failure", Failure, ids=lambda failure: failure.label)


@EACH_FAILURE
def test_error_type_is_registered(failure: Failure) -> None:
    assert failure.token in PROXY_ERROR_TYPES


@EACH_FAILURE
def test_status_is_that_of_an_error(failure: Failure) -> None:
    assert 400 <= HTTPStatus(failure.status) <= 599


@EACH_FAILURE
def test_what_the_upstream_did_is_a_gateway_status(failure: Failure) -> None:
    assert (failure.status in {502, 504}) <= failure.is_upstream
    if failure.is_upstream:
        assert failure.status in {502, 503, 504}


@EACH_FAILURE
def test_nobody_else_is_at_fault_where_somebody_is(failure: Failure) -> None:
    assert not (failure.is_client and failure.is_upstream)
    assert (400 <= failure.status < 500) <= failure.is_client


@EACH_FAILURE
def test_what_took_too_long_is_called_a_timeout(failure: Failure) -> None:
    if failure.status in TIMEOUTS:
        assert failure.label.endswith("_timeout")


@EACH_FAILURE
def test_label_suits_logs_and_metrics(failure: Failure) -> None:
    assert failure.label == failure.name.lower()
    assert failure.label.replace("_", "").isalpha()
    assert failure.label.isascii()


@EACH_FAILURE
def test_code_reads_like_the_documented_ones(failure: Failure) -> None:
    assert failure.code.isascii()
    assert failure.code.isalpha()
    assert failure.code[0].isupper()


@EACH_FAILURE
def test_message_is_one_plain_sentence(failure: Failure) -> None:
    assert failure.message.isascii()
    assert failure.message[0].isupper()
    assert failure.message.count(".") == 1
    assert failure.message.endswith(".")


def test_codes_of_one_status_agree() -> None:
    assert len({(failure.status, failure.code) for failure in Failure}) == len({failure.status for failure in Failure})


@pytest.mark.parametrize(
    ("label", "status", "token"),
    [
        pytest.param("connection_refused", 502, "connection_refused", id="refused"),
        pytest.param("connection_timeout", 504, "connection_timeout", id="connect-timeout"),
        pytest.param("http_response_timeout", 504, "http_response_timeout", id="response-timeout"),
        pytest.param("connection_terminated", 502, "connection_terminated", id="reset"),
        pytest.param("http_response_incomplete", 502, "http_response_incomplete", id="broken-off"),
        pytest.param("dns_error", 502, "dns_error", id="name"),
        pytest.param("tls_certificate_error", 502, "tls_certificate_error", id="certificate"),
        pytest.param("tls_protocol_error", 502, "tls_protocol_error", id="tls"),
        pytest.param("body_too_large", 413, "http_request_error", id="body-too-large"),
        pytest.param("target_too_long", 414, "http_request_error", id="target-too-long"),
        pytest.param("head_too_large", 431, "http_request_error", id="head-too-large"),
        pytest.param("malformed_request", 400, "http_request_error", id="bad-request"),
        pytest.param("request_timeout", 408, "http_request_error", id="slow-request"),
        pytest.param("method_refused", 501, "http_request_denied", id="method"),
        pytest.param("loop_detected", 508, "proxy_loop_detected", id="loop"),
        pytest.param("overloaded", 503, "connection_limit_reached", id="overload"),
        pytest.param("internal_error", 500, "proxy_internal_error", id="defect"),
    ],
)
def test_failure_means(label: str, status: int, token: str) -> None:
    failure = Failure[label.upper()]
    assert (failure.status, failure.token) == (status, token)
