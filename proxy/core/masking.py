"""Secrets taken out of texts that strangers wrote, before these go where they did not come from."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from proxy.core.model import JsonValue

MASK: Final = "***"

_DEPTH_AT_MOST: Final = 24
_OMITTED: Final = "…"

_NAMES: Final = (
    r"authorization|proxy-authorization|cookie|set-cookie|password|passwd|pwd|secret|client[_-]?secret|"
    r"client[_-]?assertion|access[_-]?token|refresh[_-]?token|id[_-]?token|sas[_-]?token|token|assertion|"
    r"api[_-]?key|account[_-]?key|shared[_-]?access[_-]?key|(?:ocp-apim-)?subscription-key|x-functions-key|"
    r"sig|signature|private[_-]?key|credentials?"
)
_SECRET_NAME: Final = re.compile(_NAMES, re.IGNORECASE)

# What every rule needs; most texts hold none of it.
_HINT: Final = re.compile(r"(?i)eyJ|[=\"']|authorization|cookie|bearer|sharedaccess|negotiate|sharedkey|pop\s|basic")

# Each with what is kept in front of the mask. The order matters: a whole field before its parts.
_RULES: Final = (
    # A field line of credentials, to its end.
    re.compile(r"(?i)\b((?:proxy-)?authorization|(?:set-)?cookie)(\s*[:=]\s*)[^\r\n\"'<>]+"),
    # RFC 7519: three parts in base64url, of which the first is a JSON object; a part may be cut off.
    re.compile(r"()()\beyJ[\w-]{8,}(?:\.[\w-]*){0,4}"),
    # RFC 6750: a scheme and its token. A digit tells one from the next word of a sentence.
    re.compile(r"(?i)\b(bearer|sharedaccesssignature|negotiate|sharedkey|pop)(\s+)(?=[^\s\"'<>]*\d)[^\s\"'<>,]{16,}"),
    # RFC 7617: base64 of `user:password`. "Basic authentication" is none.
    re.compile(r"\b([Bb]asic|BASIC)(\s+)(?=[\w+/]*(?:\d|[a-z][A-Z]|=))[A-Za-z0-9+/]{6,}={0,2}"),
    # `name=value` in a query, a form or a connection string. In prose a colon may follow the name of anything.
    re.compile(rf"(?i)(?<![\w-])({_NAMES})([\"']?\s*=\s*[\"']?)[^\s&;,\"'<>]+"),
    # `"name": "value"`, in JSON that is no whole document.
    re.compile(rf"(?i)([\"'](?:{_NAMES})[\"'])(\s*:\s*[\"'])(?:[^\"'\\]|\\.)*"),
)  # fmt: skip


def masked(text: str) -> str:
    """Return `text` with tokens, credentials and signatures replaced: JWTs, `Authorization`, cookies, `sig=`, keys.

    What stays is what a person needs to see which secret it was. Masking twice changes nothing.
    """
    if not _HINT.search(text):
        return text
    for rule in _RULES:
        text = rule.sub(rf"\1\2{MASK}", text)
    return text


def masked_document(document: JsonValue, depth: int = 0) -> JsonValue:
    """Return decoded JSON with its texts masked, and with whatever stands under the name of a secret.

    What is nested more than 24 deep is left out.
    """
    match document:
        case str():
            return masked(document)
        case dict() | list() if depth >= _DEPTH_AT_MOST:
            return _OMITTED
        case dict():
            return {
                masked(name): MASK
                if _SECRET_NAME.fullmatch(name) and isinstance(value, str)
                else masked_document(value, depth + 1)
                for name, value in document.items()
            }
        case list():
            return [masked_document(value, depth + 1) for value in document]
    return document
