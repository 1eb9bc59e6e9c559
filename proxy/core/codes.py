"""The documented error codes: data from `config/error_codes.yaml`, and the closed set of labels made of it."""

from __future__ import annotations

from dataclasses import dataclass, field
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


# Codes that may be said of a body, and the statuses that may where the code is not documented (RFC 9110, 15.5.21).
# InvalidInput was seen for a value in the wrong case, in OpenCTI-Platform/connectors#4075.
_BODY_CODES: Final = frozenset({"BadRequest", "InvalidInput", INVALID_REQUEST_BODY, MISSING_REQUIRED_PARAMETER})
_BODY_STATUSES: Final = frozenset({400, 422})


@dataclass(frozen=True, slots=True)
class Help:
    """Why an error came about, what usually mends it, and the addresses of the pages that say so."""

    cause: str
    remedy: str
    pages: tuple[str, ...]


MISMATCH_HELP: Final = Help(
    "Body parameters are case-sensitive, and the catalog knows these under another spelling.",
    "Send them as `expected` has them.",
    ("https://learn.microsoft.com/defender-endpoint/api/common-errors",),
)
"""What helps with a case mismatch, whatever was done about it."""


@dataclass(frozen=True, slots=True)
class ErrorCodes:
    """The documented codes with their statuses; `aliases` names the code that another spelling stands for.

    `helps` explains documented codes.
    """

    statuses: Mapping[str, int]
    aliases: Mapping[str, str]
    helps: Mapping[str, Help] = field(default_factory=dict)

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

    def help_with(self, code: str) -> Help | None:
        """Return what helps with `code`, which may be an alias; None for one that is not documented."""
        return self.helps.get(self.aliases.get(code, code))

    def explanation(self, code: str) -> str | None:
        """Return all that is known of `code` as text of several lines; None for one that is not documented."""
        name = self.aliases.get(code, code)
        if (known := self.helps.get(name)) is None:
            return None
        status = self.statuses[name]
        lines = [
            f"{name} ({status} {reason_phrase(status)})",
            f"cause   {known.cause}",
            f"remedy  {known.remedy}",
            *(f"page    {page}" for page in known.pages),
        ]
        return "\n".join(lines)

    def expected(self) -> Iterator[tuple[str, int, Origin]]:
        """Yield each (code, status, origin) that can be foreseen, so that its counter starts at zero."""
        for code, status in self.statuses.items():
            yield code, status, Origin.UPSTREAM
        yield MISSING_REQUIRED_PARAMETER, 400, Origin.PROXY
        yield INVALID_REQUEST_BODY, 400, Origin.PROXY
        for code, status in sorted({(failure.code, failure.status) for failure in Failure}):
            yield code, status, Origin.PROXY


def may_blame_body(label: str, status: int) -> bool:
    """Whether an upstream's error that counts under `label` may be about the body of the request."""
    return label in _BODY_CODES or (label == OTHER and status in _BODY_STATUSES)


def page_address(page: str) -> str:
    """Return the address of a documentation page, given as its path in MicrosoftDocs/defender-docs.

    Anything else, such as the address that a catalog of one's own has, is returned as it is.
    """
    if page.startswith(("defender-endpoint/", "defender-xdr/")) and page.endswith(".md"):
        return f"https://learn.microsoft.com/{page.removesuffix('.md')}"
    return page


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
