"""The documented error codes: data from `config/error_codes.yaml`, and the closed set of labels made of it."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from proxy.core.failure import Failure
from proxy.core.model import ErrorCode, Origin

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

OTHER: Final = "other"
"""The label of every code that is not documented."""

MISSING_REQUIRED_PARAMETER: Final = ErrorCode("MissingRequiredParameter")
INVALID_REQUEST_BODY: Final = ErrorCode("InvalidRequestBody")


@dataclass(frozen=True, slots=True)
class ErrorCodes:
    """The documented codes with their statuses; `aliases` names the code that another spelling stands for."""

    statuses: Mapping[str, int]
    aliases: Mapping[str, str]

    def label(self, code: str, origin: Origin) -> str:
        """Return the label that `code` counts under: itself where it is known, `other` where it is not."""
        if code in self.statuses or (origin is Origin.PROXY and code in _OWN_CODES):
            return code
        return self.aliases.get(code, OTHER)

    def of_status(self, status: int) -> ErrorCode:
        """Return what to call an error that came without a code: by its status, `other` for one unheard of."""
        if (code := self.aliases.get(str(status))) is not None:
            return ErrorCode(code)
        words = reason_phrase(status).replace("-", " ").split()
        return ErrorCode("".join(map(str.capitalize, words)) or OTHER)

    def expected(self) -> Iterator[tuple[str, int, Origin]]:
        """Yield each (code, status, origin) that can be foreseen, so that its counter starts at zero."""
        for code, status in self.statuses.items():
            yield code, status, Origin.UPSTREAM
        yield MISSING_REQUIRED_PARAMETER, 400, Origin.PROXY
        yield INVALID_REQUEST_BODY, 400, Origin.PROXY
        for code, status in sorted({(failure.code, failure.status) for failure in Failure}):
            yield code, status, Origin.PROXY


# RFC 9110, 15.5: names that Python's table has only in its newer versions.
_RENAMED: Final = {
    413: "Content Too Large",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
}


def reason_phrase(status: int) -> str:
    """Return the registered name of `status`, an empty string for one that has none."""
    if (renamed := _RENAMED.get(status)) is not None:
        return renamed
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


_OWN_CODES: Final = frozenset(failure.code for failure in Failure) | {
    INVALID_REQUEST_BODY,
    MISSING_REQUIRED_PARAMETER,
}
