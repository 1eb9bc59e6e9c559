"""A plain aiohttp proxy, as one writes it in half an hour: `python -m tests.bench.plain URL PORT [CA_FILE]`."""

from __future__ import annotations

import ssl
import sys
from typing import TYPE_CHECKING, Final

from aiohttp import ClientSession, TCPConnector, web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_SESSION: Final = web.AppKey("session", ClientSession)
_NOT_FORWARDED: Final = frozenset({"host", "content-length", "transfer-encoding", "connection", "keep-alive"})
_BUFFERED_AT_MOST_BYTES: Final = 2**20


def application(url: str, ca_file: str | None = None) -> web.Application:
    async def session(app: web.Application) -> AsyncIterator[None]:
        verified_by = True if ca_file is None else ssl.create_default_context(cafile=ca_file)
        async with ClientSession(connector=TCPConnector(ssl=verified_by), auto_decompress=False) as app[_SESSION]:
            yield

    async def forward(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        fields = {name: value for name, value in request.headers.items() if name.lower() not in _NOT_FORWARDED}
        async with request.app[_SESSION].request(
            request.method, url + request.raw_path, headers=fields, data=body or None
        ) as answer:
            headers = {name: value for name, value in answer.headers.items() if name.lower() not in _NOT_FORWARDED}
            if answer.content_length is not None and answer.content_length <= _BUFFERED_AT_MOST_BYTES:
                return web.Response(status=answer.status, headers=headers, body=await answer.read())
            response = web.StreamResponse(status=answer.status, headers=headers)
            response.content_length = answer.content_length
            await response.prepare(request)
            async for piece in answer.content.iter_any():
                await response.write(piece)
            return response

    app = web.Application(client_max_size=0)
    app.cleanup_ctx.append(session)
    app.router.add_route("*", "/{path:.*}", forward)
    return app


def main(url: str, port: str, ca_file: str | None = None) -> None:
    web.run_app(application(url, ca_file), host="127.0.0.1", port=int(port), access_log=None, print=None)


if __name__ == "__main__":
    main(*sys.argv[1:])
