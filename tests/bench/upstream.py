"""The upstream of the benchmark: `python -m tests.bench.upstream FD [CERTIFICATE]`, on a socket that listens already.

It has to cost next to nothing beside the proxies: one thread and epoll, an answer looked up by request line and sent
in one piece. With a file that holds certificate and key it speaks TLS.
"""

from __future__ import annotations

import re
import select
import socket
import ssl
import sys
from contextlib import suppress
from typing import Final

from tests.bench.workloads import ANSWERS, DOWNLOAD_PATH

_PIECE: Final = memoryview(bytes(range(256)) * 4096)
_DOWNLOAD: Final = f"GET {DOWNLOAD_PATH}".encode()
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED: Final = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_RECEIVED_AT_MOST: Final = 2**18


def _is_whole(data: bytes) -> bool:
    """Return whether `data` is a whole request; clients of this upstream send none behind it before its answer."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return False
    if data.startswith(b"GET "):
        return True
    if length := _LENGTH.search(data, 0, end):
        return len(data) - end - 4 >= int(length[1])
    return _CHUNKED.search(data, 0, end) is None or data.endswith(b"\r\n0\r\n\r\n")


def _download(connection: socket.socket, size: int) -> None:
    """Send `size` bytes; nobody else wants anything of this upstream meanwhile."""
    connection.settimeout(None)
    connection.sendall(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n" % size
    )
    for begin in range(0, size, len(_PIECE)):
        connection.sendall(_PIECE[: size - begin])
    connection.settimeout(0)


def _answer(connection: socket.socket, data: bytes) -> None:
    line = data[: data.find(b" HTTP/")]
    if (message := ANSWERS.get(line)) is not None:
        sent = connection.send(message)
        if sent < len(message):
            connection.settimeout(None)
            connection.sendall(message[sent:])
            connection.settimeout(0)
    elif line.startswith(_DOWNLOAD):
        _download(connection, int(line.removeprefix(_DOWNLOAD)))
    else:
        connection.sendall(b"HTTP/1.1 501 Unexpected\r\nContent-Length: 0\r\n\r\n")


def _received(connection: socket.socket) -> bytes | None:
    """Return what has come; None for the end, nothing where TLS waits for more."""
    try:
        data = connection.recv(_RECEIVED_AT_MOST)
        while isinstance(connection, ssl.SSLSocket) and connection.pending():
            data += connection.recv(_RECEIVED_AT_MOST)
    except (BlockingIOError, ssl.SSLWantReadError):
        return b""
    except OSError:
        return None
    return data or None


def serve(listener: socket.socket, context: ssl.SSLContext | None) -> None:
    """Answer requests for ever."""
    poll = select.epoll()
    poll.register(listener, select.EPOLLIN)
    connections: dict[int, socket.socket] = {}
    begun: dict[int, bytes] = {}
    while True:
        for number, _ in poll.poll():
            connection = connections.get(number)
            if connection is None:
                accepted, _ = listener.accept()
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if context is not None:
                    try:
                        accepted = context.wrap_socket(accepted, server_side=True)
                    except OSError:
                        # Somebody who only looked whether anything listens.
                        continue
                accepted.settimeout(0)
                connections[accepted.fileno()] = accepted
                poll.register(accepted, select.EPOLLIN)
                continue
            data = _received(connection)
            if data is None:
                poll.unregister(number)
                begun.pop(number, None)
                connections.pop(number).close()
                continue
            if number in begun:
                data = begun.pop(number) + data
            if not _is_whole(data):
                begun[number] = data
                continue
            # A client that goes away shows at the next reading.
            with suppress(ConnectionError):
                _answer(connection, data)


def main(number: str, certificate: str | None = None) -> None:
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    with socket.socket(fileno=int(number)) as listener, suppress(KeyboardInterrupt):
        serve(listener, context)


if __name__ == "__main__":
    main(*sys.argv[1:])
