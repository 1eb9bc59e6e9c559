"""Whether what was written is being read: slowness is patiently waited for, standstill is not."""

from __future__ import annotations

import array
import asyncio
import gc
import select
import socket
import struct
import sys
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from aiohttp.streams import StreamReader

_LOOKS: Final = 4
"""How often a look is taken within the time allowed; a standstill is noticed that much later at the most."""

_PIECE_BYTES: Final = 64 * 1024


class StalledError(ConnectionAbortedError):
    """The peer has stopped reading, and its connection has been ended."""


class Watch:
    """Ends a connection whose peer takes nothing of what is written within the block for `timeout_s`.

    The kernel's own buffer counts: a peer that reads a little at a time makes progress long before there is room
    for more. Once `is_idle_talk` says that nobody depends on what is written, the connection is left alone.

    Raises:
        StalledError: at the end of the block, in place of whatever the end of the connection led to.
    """

    __slots__ = (
        *("_has_stalled", "_idle_looks", "_interval_s", "_is_idle_talk", "_loop", "_timer", "_transport"),
        "_unread_bytes",
    )

    def __init__(
        self,
        transport: asyncio.WriteTransport | None,
        timeout_s: float,
        is_idle_talk: Callable[[], bool] = lambda: False,
    ) -> None:
        self._transport = transport
        self._is_idle_talk = is_idle_talk
        self._interval_s = timeout_s / _LOOKS
        self._loop = asyncio.get_running_loop()
        self._unread_bytes: int | None = None
        self._idle_looks = 0
        self._timer: asyncio.TimerHandle | None = None
        self._has_stalled = False

    def __enter__(self) -> Self:
        self._timer = self._loop.call_later(self._interval_s, self._look)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._has_stalled:
            raise StalledError from error

    def _look(self) -> None:
        self._timer = None
        # One that is closing still holds what it has to send, and its peer may never take it.
        if self._transport is None or self._is_idle_talk():
            return
        unread_bytes = unread_by_peer(self._transport)
        if self._unread_bytes is None or unread_bytes < self._unread_bytes:
            self._idle_looks = 0
        else:
            self._idle_looks += 1
        self._unread_bytes = unread_bytes
        if self._idle_looks < _LOOKS:
            self._timer = self._loop.call_later(self._interval_s, self._look)
        else:
            self._has_stalled = True
            reset(self._transport)


def reset(transport: asyncio.WriteTransport) -> None:
    """End the connection so that its peer sees that something is missing: an orderly end could be that of a body."""
    plug = transport.get_extra_info("socket")
    if plug is not None and plug.fileno() >= 0:
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def read_in_pieces(transport: asyncio.BaseTransport) -> None:
    """Have asyncio ask for no more than 64 KiB at a time.

    For the 256 KiB that it asks for otherwise, glibc maps memory anew and gives it back each time (mallopt(3),
    `M_MMAP_THRESHOLD`), which costs more than all the rest of the reading. uvloop has a buffer that stays.
    """
    if hasattr(transport, "max_size"):
        transport.max_size = _PIECE_BYTES


def has_left(transport: asyncio.BaseTransport) -> bool:
    """Whether the peer has closed or reset the connection, which the event loop cannot see while nothing is read."""
    # poll(2): an error and a hang-up are told of in any case; an orderly end has an event of its own on Linux.
    return _has_event(transport, getattr(select, "POLLRDHUP", 0))


def poll_for_input(transport: asyncio.BaseTransport) -> select.poll | None:
    """Return what tells whether something has come: bytes, an error or the end; None of a closed connection.

    It is good for as long as the connection is open: then another may have its number.
    """
    return _poll_for(transport, select.POLLIN)


def _has_event(transport: asyncio.BaseTransport, events: int) -> bool:
    """Whether poll(2) tells of any of `events`, an error or a hang-up; a connection that is closed has them all."""
    poll = _poll_for(transport, events)
    return poll is None or bool(poll.poll(0))


def _poll_for(transport: asyncio.BaseTransport, events: int) -> select.poll | None:
    plug = transport.get_extra_info("socket")
    if plug is None or plug.fileno() < 0:
        return None
    poll = select.poll()
    poll.register(plug.fileno(), events)
    return poll


def break_off(body: StreamReader, error: BaseException) -> None:
    """Have whoever reads `body` meet `error`, which the parser came upon.

    A reader that the same bytes have just woken would go back to sleep without a look at it, and so it is told twice.
    """
    body.set_exception(error)
    asyncio.get_running_loop().call_soon(body.set_exception, error)


def unread_by_peer(transport: asyncio.WriteTransport) -> int:
    """Return how many of the bytes written to `transport` its peer has not acknowledged yet.

    Without a TCP socket below, or on a system that does not tell, it is what the process itself still holds.
    """
    return held_for_peer(transport) + _in_kernel(transport)


def held_for_peer(transport: asyncio.WriteTransport) -> int:
    """Return how many of the bytes written to `transport` the process itself still holds."""
    # TLS writes to a transport of its own, of which an event loop tells nobody, and which asyncio forgets once it is
    # closed.
    session = getattr(transport, "_ssl_protocol", transport)
    if session is None:
        return 0
    below = _below_uvloops(transport) if session is transport else getattr(session, "_transport", None)
    return transport.get_write_buffer_size() + (below.get_write_buffer_size() if below else 0)


def _below_uvloops(transport: asyncio.WriteTransport) -> asyncio.WriteTransport | None:
    """Return what TLS writes to on uvloop; None without TLS."""
    session = transport.get_extra_info("uvloop.sslproto")
    if session is None:
        return None
    # It is in a field of a C structure, into which nothing but the garbage collector can look.
    fields = gc.get_referents(session)
    return next((one for one in fields if one is not transport and hasattr(one, "get_write_buffer_size")), None)


if sys.platform in {"linux", "darwin"}:
    import fcntl

    # tcp(7): SIOCOUTQ, "the amount of unsent data in the socket send queue", of which acknowledged data is no part.
    # macOS has the same as an option of the socket: SO_NWRITE in <sys/socket.h>.
    _SIOCOUTQ: Final = 0x5411
    _SO_NWRITE: Final = 0x1024

    def _in_kernel(transport: asyncio.WriteTransport) -> int:
        plug = transport.get_extra_info("socket")
        if plug is None:
            return 0
        try:
            if sys.platform == "darwin":
                return int(plug.getsockopt(socket.SOL_SOCKET, _SO_NWRITE))
            held = array.array("i", [0])
            fcntl.ioctl(plug.fileno(), _SIOCOUTQ, held)
        except (OSError, ValueError):
            return 0  # it has just been closed
        return held[0]

else:

    def _in_kernel(_transport: asyncio.WriteTransport) -> int:
        return 0
