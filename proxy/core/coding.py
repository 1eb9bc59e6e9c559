"""Bounded decoding of content codings, for inspection alone: what is forwarded stays coded."""

from __future__ import annotations

import contextlib
import zlib


class UndecodableError(ValueError):
    """The content cannot be decoded: an unknown coding, or bytes that are not what they claim to be."""


class UnknownCodingError(UndecodableError):
    """A coding is not known here; somebody else may be able to undo it."""


class DecodedTooLargeError(ValueError):
    """The content decodes to more than the limit."""


# Nobody applies more; whoever does means to keep us busy.
_CODINGS_AT_MOST = 8
_MEMBERS_AT_MOST = 100

# JSON and mark-up begin with these, and no coded content does.
_PLAIN = (b"{", b"[", b"<")
_SPACE = b"\xef\xbb\xbf \t\r\n"
_GZIP_MAGIC = b"\x1f\x8b"

# The window bits tell zlib which wrapping to expect.
_GZIP = 31
_ZLIB = 15
_RAW_DEFLATE = -15


def decoded(body: bytes, codings: str, *, limit_bytes: int) -> bytes:
    """Return `body` without the content codings that `codings`, the field's value, lists; the last was applied last.

    `gzip`, `x-gzip`, `deflate`, `br` and `identity` are known (RFC 9110, 8.4.1; RFC 7932). Holds at most `limit_bytes`
    of each layer.

    Raises:
        UnknownCodingError: a coding is unknown, or there are too many.
        UndecodableError: the bytes are damaged or incomplete.
        DecodedTooLargeError: a layer is larger than `limit_bytes`.
    """
    listed = [name.strip().lower() for name in codings.split(",")]
    if len(listed) > _CODINGS_AT_MOST:
        raise UnknownCodingError("too many codings")
    for coding in reversed(listed):
        match coding:
            case "" | "identity":
                continue
            case "gzip" | "x-gzip":
                body = _inflated(body, _GZIP, limit_bytes)
            case "deflate":
                body = _inflated(body, _ZLIB if is_zlib(body) else _RAW_DEFLATE, limit_bytes)
            case "br":
                body, is_whole = _unbrotlied(body, limit_bytes)
                if len(body) > limit_bytes:
                    raise DecodedTooLargeError
                if not is_whole:
                    raise UndecodableError
            case _:
                raise UnknownCodingError(coding)
    return body


def salvaged(body: bytes, codings: str, *, limit_bytes: int) -> bytes:
    """Return what can be read of `body`, which `decoded` cannot decode as `codings` claim, at most `limit_bytes` of it.

    That is the beginning of what is damaged or cut off, or all of what is in another coding, or in none. Empty where it
    is nothing.
    """
    if body.lstrip(_SPACE)[:1] in _PLAIN:
        return body
    if body.startswith(_GZIP_MAGIC):
        return _beginning(body, _GZIP, limit_bytes)
    match codings.rpartition(",")[2].strip().lower():
        case "deflate":
            return _beginning(body, _ZLIB, limit_bytes) or _beginning(body, _RAW_DEFLATE, limit_bytes)
        case "br":
            with contextlib.suppress(UndecodableError):
                return _unbrotlied(body, limit_bytes)[0]
            return b""
    return body


def _beginning(body: bytes, window_bits: int, limit_bytes: int) -> bytes:
    """Return the content of `body` up to where it is damaged; of what is damaged only at its end, nearly all."""
    inflater = zlib.decompressobj(window_bits)
    content = b""
    # A wrong checksum in the last bytes must not take along what is before it.
    for piece in (body[:-8], body[-8:-4], body[-4:]):
        try:
            content += inflater.decompress(piece, max(1, limit_bytes - len(content)))
        except zlib.error:
            break
        if inflater.eof or len(content) >= limit_bytes:
            break
    return content


def is_zlib(body: bytes) -> bool:
    """Whether deflate-coded content is in the zlib format, as RFC 9110, 8.4.1.2 has it; some leave its wrapping out."""
    return len(body) > 1 and body[0] & 0x0F == zlib.DEFLATED and int.from_bytes(body[:2]) % 31 == 0


def _inflated(body: bytes, window_bits: int, limit_bytes: int) -> bytes:
    """Return the content of `body`: of all its members, where it is gzip, which allows several (RFC 1952, 2.2)."""
    pieces: list[bytes] = []
    remaining = limit_bytes
    for _ in range(_MEMBERS_AT_MOST):
        inflater = zlib.decompressobj(window_bits)
        try:
            piece = inflater.decompress(body, remaining + 1)
        except zlib.error as error:
            raise UndecodableError from error
        if len(piece) > remaining:
            raise DecodedTooLargeError
        if not inflater.eof:
            raise UndecodableError
        pieces.append(piece)
        remaining -= len(piece)
        body = inflater.unused_data
        if not body:
            return b"".join(pieces)
        if window_bits != _GZIP:
            break
    raise UndecodableError


def _unbrotlied(body: bytes, limit_bytes: int) -> tuple[bytes, bool]:
    """Return the content of `body`, soon no more than `limit_bytes` of it, and whether it is whole.

    It is one stream with nothing behind it (RFC 7932, 2).
    """
    import brotli  # noqa: PLC0415 - the standard library has no decoder, and most proxies will never need this one

    decompressor = brotli.Decompressor()
    try:
        content: bytes = decompressor.process(body, output_buffer_limit=limit_bytes + 1)
    except brotli.error as error:
        raise UndecodableError from error
    return content, decompressor.is_finished()
