"""Content that is rewritten under way, in its coding: decoded and coded anew as a stream, in bounded memory."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

from proxy.core.coding import UndecodableError, is_zlib

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.core.rewrite import LinkRewriter

_INPUT_BYTES: Final = 16 * 1024
_OUTPUT_BYTES: Final = 64 * 1024

# The window bits tell zlib which wrapping to expect, and to write.
_GZIP: Final = 31
_ZLIB: Final = 15
_RAW_DEFLATE: Final = -15

# RFC 1950, 2.2: two bytes tell the zlib format from its forerunner without wrapping.
_ZLIB_HEADER_BYTES: Final = 2

# The next hop is near: what a better compression saves there is less than what it costs here.
_LEVEL: Final = 1


class TruncatedError(UndecodableError):
    """Coded content ends before its coding says that it does."""


class Recoder:
    """Carries a body through a rewriter: `gzip`, `deflate`, or in no coding ("").

    Content that was coded comes out as one member, however many there were (RFC 1952, 2.2), and whatever has arrived
    whole goes out at once.
    """

    def __init__(self, coding: str, rewriter: LinkRewriter) -> None:
        self._coding = coding
        self._rewriter = rewriter
        self._window_bits = _GZIP if coding == "gzip" else 0
        self._first = b""
        self._decoder: zlib._Decompress | None = None
        self._coder: zlib._Compress | None = None
        self._is_over = False

    @property
    def is_coded(self) -> bool:
        """Whether a few bytes may become many."""
        return bool(self._coding)

    @property
    def has_changed(self) -> bool:
        """Whether any content was rewritten so far."""
        return self._rewriter.has_changed

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Yield what `piece` becomes, a bounded step at a time; empty where a step has nothing to send.

        Raises:
            UndecodableError: the content is not in its coding.
        """
        if not self._coding:
            yield self._rewriter.feed(piece)
            return
        if not self._window_bits:
            # Which of the two formats this is.
            piece = self._first + piece
            if len(piece) < _ZLIB_HEADER_BYTES:
                self._first = piece
                return
            self._window_bits = _ZLIB if is_zlib(piece) else _RAW_DEFLATE
        if self._coder is None:
            self._coder = zlib.compressobj(_LEVEL, wbits=self._window_bits)
        part = b""
        for start in range(0, len(piece), _INPUT_BYTES):
            for plain in self._decoded(piece[start : start + _INPUT_BYTES]):
                yield part
                part = self._coder.compress(self._rewriter.feed(plain))
        yield part + self._coder.flush(zlib.Z_SYNC_FLUSH)

    def end(self) -> bytes:
        """Return the end of the content; nothing where nothing came.

        Raises:
            TruncatedError: more should have come.
        """
        rest = self._rewriter.end()
        if not self._coding:
            return rest
        if self._first and self._coder is None:
            raise TruncatedError
        if self._coder is None:
            return b""
        if self._decoder is not None:
            raise TruncatedError
        return self._coder.compress(rest) + self._coder.flush()

    def _decoded(self, data: bytes) -> Iterator[bytes]:
        """Yield what coded `data` holds, in bounded pieces."""
        while True:
            if self._decoder is None:
                if self._is_over:
                    raise UndecodableError
                self._decoder = zlib.decompressobj(self._window_bits)
            try:
                plain = self._decoder.decompress(data, _OUTPUT_BYTES)
            except zlib.error as error:
                raise UndecodableError from error
            yield plain
            if self._decoder.eof:
                data = self._decoder.unused_data
                self._decoder = None
                # Only gzip may have a further member.
                self._is_over = self._window_bits != _GZIP
                if not data:
                    return
            else:
                data = self._decoder.unconsumed_tail
                if not data and len(plain) < _OUTPUT_BYTES:
                    return
