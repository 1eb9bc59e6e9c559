"""What can go wrong on the proxy's own side, and what each failure becomes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, unique
from typing import Final


@dataclass(frozen=True, slots=True)
class _Meaning:
    """`token` is the error type of RFC 9209 (2.3); `code` and `message` stand in the envelope."""

    status: int
    token: str
    code: str
    message: str


@unique
class Failure(Enum):
    """A failure of the proxy's own making or finding, named as in logs and in `upstream_failures_total`."""

    DNS_ERROR = _Meaning(502, "dns_error", "BadGateway", "The name of the upstream cannot be resolved.")
    CONNECTION_REFUSED = _Meaning(502, "connection_refused", "BadGateway", "The upstream refused the connection.")
    CONNECTION_TIMEOUT = _Meaning(
        504, "connection_timeout", "GatewayTimeout", "The upstream did not accept a connection in time."
    )
    DESTINATION_UNAVAILABLE = _Meaning(
        502, "destination_unavailable", "BadGateway", "The upstream cannot be reached from here."
    )
    TLS_CERTIFICATE_ERROR = _Meaning(
        502, "tls_certificate_error", "BadGateway", "The certificate of the upstream is not trusted."
    )
    TLS_PROTOCOL_ERROR = _Meaning(
        502, "tls_protocol_error", "BadGateway", "No TLS session with the upstream came about."
    )
    EGRESS_PROXY_ERROR = _Meaning(
        502, "destination_unavailable", "BadGateway", "The egress proxy did not connect to the upstream."
    )
    CONNECTION_TERMINATED = _Meaning(
        502, "connection_terminated", "BadGateway", "The upstream closed the connection before it answered."
    )
    HTTP_RESPONSE_TIMEOUT = _Meaning(
        504, "http_response_timeout", "GatewayTimeout", "The upstream did not answer in time."
    )
    CONNECTION_WRITE_TIMEOUT = _Meaning(
        504, "connection_write_timeout", "GatewayTimeout", "The upstream stopped reading the request."
    )
    HTTP_PROTOCOL_ERROR = _Meaning(
        502, "http_protocol_error", "BadGateway", "The upstream answered with something that is not HTTP."
    )
    CONNECTION_READ_TIMEOUT = _Meaning(
        504, "connection_read_timeout", "GatewayTimeout", "The upstream stopped in the middle of its response."
    )
    HTTP_RESPONSE_INCOMPLETE = _Meaning(
        502, "http_response_incomplete", "BadGateway", "The upstream broke off in the middle of its response."
    )
    CONNECTION_LIMIT_REACHED = _Meaning(
        503, "connection_limit_reached", "ServiceUnavailable", "All connections to the upstream stayed busy."
    )

    MALFORMED_REQUEST = _Meaning(400, "http_request_error", "BadRequest", "The request is not well-formed HTTP.")
    REQUEST_TIMEOUT = _Meaning(408, "http_request_error", "RequestTimeout", "The request did not arrive in time.")
    BODY_TOO_LARGE = _Meaning(
        413, "http_request_error", "ContentTooLarge", "The request body is larger than the proxy accepts."
    )
    TARGET_TOO_LONG = _Meaning(
        414, "http_request_error", "UriTooLong", "The request target is longer than the proxy accepts."
    )
    HEAD_TOO_LARGE = _Meaning(
        431, "http_request_error", "RequestHeaderFieldsTooLarge", "The request head is larger than the proxy accepts."
    )
    METHOD_REFUSED = _Meaning(501, "http_request_denied", "NotImplemented", "The proxy does not forward this method.")
    CODING_REFUSED = _Meaning(
        501, "http_request_error", "NotImplemented", "The proxy knows no transfer coding but chunked."
    )
    LOOP_DETECTED = _Meaning(
        508, "proxy_loop_detected", "LoopDetected", "The upstream of this proxy leads back to the proxy."
    )
    OVERLOADED = _Meaning(
        503, "connection_limit_reached", "ServiceUnavailable", "The proxy carries as many requests as it may."
    )
    CLIENT_DISCONNECTED = _Meaning(
        400, "http_request_error", "BadRequest", "The client left before the exchange was over."
    )
    CLIENT_WRITE_TIMEOUT = _Meaning(
        400, "connection_write_timeout", "BadRequest", "The client stopped reading the response."
    )
    SHUTTING_DOWN = _Meaning(
        503, "proxy_internal_response", "ServiceUnavailable", "The proxy shut down before the exchange was over."
    )
    INTERNAL_ERROR = _Meaning(500, "proxy_internal_error", "InternalServerError", "The proxy met an error of its own.")

    @property
    def label(self) -> str:
        """The name in logs and metrics."""
        return self.name.lower()

    @property
    def status(self) -> int:
        """The status code that the client gets."""
        return self.value.status

    @property
    def token(self) -> str:
        """The error type for `Proxy-Status` (RFC 9209)."""
        return self.value.token

    @property
    def code(self) -> str:
        """The error code in the envelope."""
        return self.value.code

    @property
    def message(self) -> str:
        """One sentence for the envelope; it tells nothing about the request."""
        return self.value.message

    @property
    def is_upstream(self) -> bool:
        """Whether the upstream leg failed, and not the client or the proxy."""
        return self in _UPSTREAM_FAILURES

    @property
    def is_client(self) -> bool:
        """Whether the client failed, and not the upstream or the proxy."""
        return self in _CLIENT_FAILURES


_UPSTREAM_FAILURES: Final = frozenset(
    {
        Failure.DNS_ERROR,
        Failure.CONNECTION_REFUSED,
        Failure.CONNECTION_TIMEOUT,
        Failure.CONNECTION_TERMINATED,
        Failure.CONNECTION_LIMIT_REACHED,
        Failure.CONNECTION_READ_TIMEOUT,
        Failure.CONNECTION_WRITE_TIMEOUT,
        Failure.DESTINATION_UNAVAILABLE,
        Failure.EGRESS_PROXY_ERROR,
        Failure.HTTP_PROTOCOL_ERROR,
        Failure.HTTP_RESPONSE_INCOMPLETE,
        Failure.HTTP_RESPONSE_TIMEOUT,
        Failure.TLS_CERTIFICATE_ERROR,
        Failure.TLS_PROTOCOL_ERROR,
    }
)

_CLIENT_FAILURES: Final = frozenset(
    {
        Failure.BODY_TOO_LARGE,
        Failure.CLIENT_DISCONNECTED,
        Failure.CLIENT_WRITE_TIMEOUT,
        Failure.CODING_REFUSED,
        Failure.HEAD_TOO_LARGE,
        Failure.MALFORMED_REQUEST,
        Failure.METHOD_REFUSED,
        Failure.REQUEST_TIMEOUT,
        Failure.TARGET_TOO_LONG,
    }
)
