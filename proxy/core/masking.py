"""Secrets taken out of texts that strangers wrote, before these go where they did not come from."""

from __future__ import annotations

import binascii
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.core.model import Fields, JsonValue

MASK: Final = "***"

Secrets: TypeAlias = tuple[str, ...]
"""Values that are known to be secret, and are masked wherever they stand."""

_DEPTH_AT_MOST: Final = 24
_PASSES_AT_MOST: Final = 8
_OMITTED: Final = "…"

# What the name of a secret ends in, its words run together: `X-Api-Key`, `dbPassword`, `client_secret`.
_ENDINGS: Final = (
    "password", "passwd", "passphrase", "passcode", "pwd", "secret", "secrets", "token", "jwt", "credential",
    "credentials", "authorization", "cookie", "cookies", "assertion", "signature", "codeverifier", "authcode",
    "authorizationcode", "connectionstring", "querystring",
    "accesskey", "accountkey", "apikey", "authkey", "clientkey", "encryptionkey", "functionkey", "functionskey",
    "hostkey", "masterkey", "primarykey", "privatekey", "secondarykey", "secretkey", "sessionkey", "sharedkey",
    "signingkey", "storagekey", "subscriptionkey", "symmetrickey",
)  # fmt: skip
# Too short to be told by an ending.
_WHOLE_WORDS: Final = frozenset({"sig"})
# What may stand behind it: `passwordHash`, `secretText`, `token_value`. Of `tokenType` the last word is none of these.
_TRAILING: Final = frozenset(
    {"base", "current", "encoded", "hash", "new", "old", "plain", "plaintext", "raw", "string", "text", "value"}
)
# Fields whose value is the rest of the line.
_LINES: Final = ("authorization", "cookie", "cookies")

_NAME_LENGTH_AT_MOST: Final = 64
_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")

_SCHEMES: Final = (
    "bearer", "basic", "dpop", "pop", "negotiate", "ntlm", "digest", "hawk", "sharedkey", "sharedkeylite",
    "sharedaccesssignature",
)  # fmt: skip
# Words that follow a name and a colon, or a scheme, in sentences: "token: expired", "Bearer token".
_PROSE: Final = frozenset(
    {"a", "an", "and", "are", "at", "be", "but", "by", "can", "cannot", "contains", "could", "did", "do", "does",
     "empty", "expired", "expires", "false", "field", "for", "from", "has", "have", "header", "if", "in",
     "incorrect", "invalid", "is", "it", "length", "malformed", "may", "minimum", "missing", "must", "no", "none",
     "not", "null", "oauth", "oauth2", "of", "on", "only", "or", "please", "required", "should", "that", "the",
     "there", "this", "to", "token", "tokens", "too", "true", "undefined", "unknown", "value", "was", "were", "when",
     "which", "will", "with", "wrong", "you", "your"}
)  # fmt: skip
_WORD_LENGTH_AT_MOST: Final = 20
_TOKEN_LENGTH_AT_LEAST: Final = 4
_PLAIN_WORD: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_PUNCTUATION: Final = ".:;!?()[]{}"

# In JSON that stands in a text as it was sent, a backslash and what it escapes belong together, or the text would end
# elsewhere. Quantifiers are possessive throughout: nothing is read twice, whatever a stranger writes.
_ESCAPED: Final = r"\\[^\"'\snrt]"
_BARE: Final = re.compile(
    rf"(?i)(?:(?:{'|'.join(_SCHEMES)})[^\S\r\n]++)?+(?:[^\s&;,\"'<>\\]|{_ESCAPED})++"
)  # fmt: skip
_BARE_IN_JSON: Final = re.compile(rf"(?:[^\s&;,\"'<>\\\[\]{{}}]|{_ESCAPED})++")
_LINE: Final = re.compile(rf"(?:[^\r\n\"'<>\\]|{_ESCAPED})++")
_NAMED: Final = re.compile(r"(?<![\w-])([\w-]++)(\\*+[\"']?+\s*+[=:]>?+\s*+)")
_QUOTE: Final = re.compile(r"(?<!\\)(\\*+)([\"'])")
_STRUCTURE: Final = re.compile(r"(?<!\\)(\\*+)\"|[\[\]{}]")

# RFC 7519: parts in base64url, of which the first is a JSON object; a part may be cut off.
_JWT: Final = re.compile(r"(?:(?<![A-Za-z0-9])|(?<=\\[nrt]))eyJ[\w-]{8,}+(?:\.[\w-]*+){0,4}+")
# RFC 9110, 11.4: a scheme and its credentials.
_SCHEME: Final = re.compile(
    rf"(?i)(?<![\w-])({'|'.join(_SCHEMES)})(\s++(?:\\++[\"']|')?+)((?:[^\s\"'<>,\\]|{_ESCAPED})++)"
)
# What follows a scheme in a challenge (RFC 9110, 11.6.1) and is no secret: RFC 6750, RFC 7616, Entra ID.
_CHALLENGE: Final = re.compile(
    r"(?:algs|authorization_uri|charset|client_id|error|error_description|error_uri|nonce|realm|resource_id|scope)="
)
# RFC 3986, 3.2.1.
_USER: Final = re.compile(r"(:\\*+/\\*+/)[^\s/?#\"'<>\\]*@")
# A query goes on over the spaces of an OData expression, such as `$filter=name eq 'x y' and id ne 1`.
_OPERAND: Final = rf"(?:[^\s\"'<>\\]|{_ESCAPED}|(?<=[\s(,='])'[^'\"\\\r\n]*+'?+)++"
_ODATA: Final = "eq|ne|gt|ge|lt|le|and|or|in|has|add|sub|mul|div|mod|asc|desc"
_QUERY: Final = re.compile(
    rf"(?<![^\s\"'<>?])([^\s\"'<>?]*+)\?((?=[^\s\"'<>$]*+\$){_OPERAND}"
    rf"(?:(?:[ ]++(?:{_ODATA})\b(?:[ ]not\b)?+|(?<=,)(?=[ ]'))(?:[ ]++{_OPERAND})?+)*+|{_OPERAND})"
)
_QUERY_PARAMETER: Final = re.compile(r"[\w$.~%-]++=")
_ELEMENT: Final = re.compile(r"(<([\w.:-]++)[^<>]*+>(?:<!\[CDATA\[)?+)([^<]++)")

_BASIC: Final = "basic"
_SECRET_LENGTH_AT_LEAST: Final = 6
# This much of a secret is told by its beginning, as a text may be cut off within it.
_HEAD_LENGTH: Final = 16
_REST: Final = re.compile(r"\A[\w.~+/=%-]*+")


def masked(text: str, secrets: Secrets = ()) -> str:
    """Return `text` with secrets replaced: tokens, credentials, signatures, values under names of secrets, queries.

    So are the `secrets` that are known. What stays is what a person needs to see which secret it was. It takes time
    in proportion to the length of `text`; masking twice changes nothing.
    """
    for _ in range(_PASSES_AT_MOST):
        # What a mask takes away may have hidden what stands beside it: `token=Bearer Bearer abc`.
        before, text = text, _masked_once(text, secrets)
        if text == before:
            break
    return text


def _masked_once(text: str, secrets: Secrets) -> str:
    for secret in secrets:
        if secret[:_HEAD_LENGTH] in text:
            text = _without(text, secret)
    if "eyJ" in text:
        text = _JWT.sub(MASK, text)
    # Most texts hold none of what the rules need, and finding that out is cheap.
    has_value = "=" in text or ":" in text
    if has_value and "@" in text:
        text = _USER.sub(rf"\1{MASK}@", text)
    if "?" in text:
        text = _QUERY.sub(_without_query, text)
    folded = text.lower()
    if any(scheme in folded for scheme in _SCHEMES):
        text = _SCHEME.sub(_without_credentials, text)
    if has_value and any(word in folded for word in _HINTS):
        text = "".join(_without_values(text))
    if "</" in text:
        text = _ELEMENT.sub(_without_content, text)
    return text


def is_clean(text: str, secrets: Secrets = ()) -> bool:
    """Whether nothing in `text` would be masked."""
    return masked(text, secrets) == text


def masked_document(document: JsonValue, secrets: Secrets = (), depth: int = 0) -> JsonValue:
    """Return decoded JSON with its texts masked, and with whatever stands under the name of a secret.

    There, true, false and null stay. What is nested more than 24 deep is left out.
    """
    match document:
        case str():
            return masked(document, secrets)
        case dict() | list() if depth >= _DEPTH_AT_MOST:
            return _OMITTED
        case dict():
            return {
                shown: MASK
                if not (value is None or isinstance(value, bool)) and is_secret_name(shown)
                else masked_document(value, secrets, depth + 1)
                for shown, value in ((masked(name, secrets), value) for name, value in document.items())
            }
        case list():
            return [masked_document(value, secrets, depth + 1) for value in document]
    return document


def is_secret_name(name: str) -> bool:
    """Whether what is called `name`, in whatever way its words are joined, is a secret."""
    return _is_secret_name(name[-_NAME_LENGTH_AT_MOST:])


@lru_cache(maxsize=1024)
def _is_secret_name(name: str) -> bool:
    words = [word.lower() for word in _WORD.findall(name)]
    while words:
        if words[-1] in _WHOLE_WORDS or "".join(words).endswith(_ENDINGS):
            return True
        if words[-1] not in _TRAILING and not words[-1].isdigit():
            return False
        words.pop()
    return False


# A part of every ending: what a text must hold for a value under such a name to be in it.
_HINTS: Final = ("pass", "pwd", "secret", "token", "jwt", "credential", "auth", "cookie", "assertion", "sig", "key",
                 "verifier", "string")  # fmt: skip


def credentials_of(fields: Fields) -> Secrets:
    """Return the credentials in the fields of a request, as they may be repeated in an answer to it, longest first.

    Those are what follows a scheme (RFC 9110, 11.4), the password in it (RFC 7617), each value of a cookie, and the
    value of each field that has the name of a secret. What is shorter than 6 characters is no secret to be found.
    """
    found: set[str] = set()
    for raw_name, raw_value in fields:
        name = raw_name.decode("latin-1")
        if is_secret_name(name):
            for secret in _credentials_in(name.lower(), raw_value.decode("latin-1").strip()):
                if _can_be_found(secret := secret.strip("*")):
                    found |= {secret, quote(secret, safe=""), unquote(secret)}
    return tuple(sorted(filter(_can_be_found, found), key=len, reverse=True))


def _can_be_found(secret: str) -> bool:
    """Whether masking `secret` hides it, and not what the rules go by."""
    is_long = len(secret) >= _SECRET_LENGTH_AT_LEAST
    return is_long and MASK not in secret and secret.lower() not in {*_SCHEMES, *_ENDINGS}


def _credentials_in(name: str, value: str) -> Iterator[str]:
    if name == "cookie":
        yield from (pair.partition("=")[2].strip().strip('"') for pair in value.split(";"))
        return
    scheme, _, rest = value.partition(" ")
    rest = rest.strip()
    if not name.endswith("authorization") or not rest:
        yield value
        return
    yield rest
    if scheme.lower() == _BASIC:
        try:
            password = binascii.a2b_base64(rest).decode("utf-8", "replace").partition(":")[2]
        except binascii.Error:
            return
        yield password


def _without(text: str, secret: str) -> str:
    """Return `text` without `secret`, be it cut off."""
    text, head = text.replace(secret, MASK), secret[:_HEAD_LENGTH]
    if "*" in head:
        # Before a mask, something else would look like it.
        return text
    first, *others = text.split(head)
    return MASK.join([first, *(_REST.sub("", other) for other in others)])


def _without_query(match: re.Match[str]) -> str:
    path, query = match[1], match[2]
    if "/" not in path and "?" not in query and not _QUERY_PARAMETER.match(query):
        # A question mark in a sentence.
        return match[0]
    return f"{path}?{MASK}"


def _without_credentials(match: re.Match[str]) -> str:
    scheme, space, token = match.groups()
    bare = token.rstrip(_PUNCTUATION)
    is_word = bare.lower() in _PROSE or (len(bare) <= _WORD_LENGTH_AT_MOST and _PLAIN_WORD.fullmatch(bare))
    if is_word or _CHALLENGE.match(token) or len(bare) < _TOKEN_LENGTH_AT_LEAST:
        return match[0]
    return f"{scheme}{space}{MASK}"


def _without_content(match: re.Match[str]) -> str:
    if match[3].isspace() or not is_secret_name(match[2]):
        return match[0]
    return f"{match[1]}{MASK}"


def _without_values(text: str) -> Iterator[str]:
    """Yield the pieces of `text`, with the mask for what stands behind the name of a secret and `=` or `:`."""
    done = at = 0
    while (named := _NAMED.search(text, at)) is not None:
        at = named.end()
        if not is_secret_name(named[1]):
            continue
        begin, end, mask = _value_behind(named, text)
        if begin < end:
            yield text[done:begin]
            yield mask
            done = at = end
    yield text[done:]


def _value_behind(named: re.Match[str], text: str) -> tuple[int, int, str]:
    """Return where the value behind a name begins and ends, and the mask for it; nothing, where it is no secret."""
    at = named.end()
    if (opening := _QUOTE.match(text, at)) is not None:
        return opening.end(), _closing(text, opening), MASK
    name_quote = _QUOTE.match(named[2])
    mask = f"{name_quote[0]}{MASK}{name_quote[0]}" if name_quote else MASK
    end = _end_of_nested(text, at) if text.startswith(("{", "["), at) else at
    if name_quote:
        rest = None if at < end else _BARE_IN_JSON.match(text, at)
    elif named[1].lower().endswith(_LINES):
        rest = None if "\n" in named[2] else _LINE.match(text, end)
    else:
        rest = _BARE.match(text, end)
    if rest is None:
        return at, end, mask
    if at == end and rest[0].strip(_PUNCTUATION).lower() in _PROSE:
        return at, at, MASK
    return at, rest.end(), mask


def _closing(text: str, opening: re.Match[str]) -> int:
    """Return where the string ends that `opening`, a quote with the backslashes before it, begins."""
    level = len(opening[1])
    for found in _QUOTE.finditer(text, opening.end()):
        if found[2] == opening[2] and _closes(len(found[1]), level):
            return max(found.start(), found.end() - 1 - level)
    return len(text)


def _closes(backslashes: int, level: int) -> bool:
    r"""Whether a quote behind so many backslashes ends a string that began with one behind `level` of them.

    In JSON within a string of JSON a quote is `\"`, and one that belongs to the inner string is `\\\"`.
    """
    return backslashes < level or (backslashes - level) % (2 * level + 2) == 0


def _end_of_nested(text: str, start: int) -> int:
    """Return where the object or array that begins at `start` ends: with the text, if it is cut off."""
    depth = 0
    level: int | None = None
    for found in _STRUCTURE.finditer(text, start):
        if found[1] is not None:
            backslashes = len(found[1])
            if level is None:
                level = backslashes
            elif _closes(backslashes, level):
                level = None
        elif level is None:
            depth += 1 if found[0] in "[{" else -1
            if depth == 0:
                return found.end()
    return len(text)
