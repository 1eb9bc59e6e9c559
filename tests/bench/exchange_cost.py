"""What an exchange costs: CPU time per request of the sidecar's process, beside its peers in the same run.

Run by hand: python tests/bench/exchange_cost.py [requests per round]

Needs the dependency group `bench`. A plain aiohttp proxy is always a peer, nginx is one where it is on PATH. All are
asked in turns by the same clients, for the same answers of the same upstream; of the rounds the median counts. CPU
time is steadier than requests per second: what else the machine does changes it less.
"""

# ruff: noqa: T201 - printing is what it is for

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator

REQUESTS: Final = 3_000
ROUNDS: Final = 5
CLIENTS: Final = 8

ANSWER: Final = json.dumps(
    {"id": "5382f7ea-7557-4ab7-9782-d50480024a4e", "type": "Isolate", "status": "Pending"}
).encode()
BODY: Final = json.dumps({"Comment": "Isolated by a playbook for alert 637", "IsolationType": "Full"}).encode()
WORKLOADS: Final = {
    "GET": b"GET /api/machines/1e5bc9d7e413 HTTP/1.1\r\nHost: sidecar\r\nAuthorization: Bearer %s\r\n\r\n"
    % (b"x" * 1200),
    "checked POST": (
        b"POST /api/machines/1e5bc9d7e413/isolate HTTP/1.1\r\nHost: sidecar\r\nAuthorization: Bearer %s\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (b"x" * 1200, len(BODY), BODY)
    ),
}

PLAIN_PROXY: Final = """
import sys
import aiohttp
from aiohttp import web

async def forward(request):
    body = await request.read()
    headers = {name: value for name, value in request.headers.items() if name not in ("Host", "Content-Length")}
    url = sys.argv[1] + request.raw_path
    async with request.app["session"].request(request.method, url, headers=headers, data=body) as response:
        return web.Response(status=response.status, body=await response.read(), content_type=response.content_type)

async def session(app):
    async with aiohttp.ClientSession() as app["session"]:
        yield

app = web.Application()
app.cleanup_ctx.append(session)
app.router.add_route("*", "/{path:.*}", forward)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[2]), access_log=None, print=None)
"""

UPSTREAM: Final = """
import asyncio, sys

class Upstream(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.data = transport, b""

    def data_received(self, data):
        self.data += data
        head, separator, body = self.data.partition(b"\\r\\n\\r\\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\\r")[0] or 0)
        if separator and len(body) >= length:
            self.data = body[length:]
            self.transport.write(ANSWER)

ANSWER = b"HTTP/1.1 200 OK\\r\\nContent-Type: application/json\\r\\nContent-Length: %d\\r\\n\\r\\n%s" % (
    len(sys.argv[2]), sys.argv[2].encode()
)

async def main():
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()

asyncio.run(main())
"""

NGINX: Final = """
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log; user root;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  upstream api {{ server 127.0.0.1:{upstream}; keepalive 32; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://api; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Peer:
    """A proxy that runs: what it is called, its port, and the process whose time counts with its children's."""

    name: str
    port: int
    process: psutil.Process

    def cpu_s(self) -> float:
        times = [one.cpu_times() for one in (self.process, *self.process.children(recursive=True))]
        return sum(time.user + time.system for time in times)

    def memory_bytes(self) -> int:
        return sum(one.memory_info().rss for one in (self.process, *self.process.children(recursive=True)))


@contextmanager
def running(*command: str) -> Iterator[psutil.Process]:
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            yield psutil.Process(process.pid)
        finally:
            process.terminate()


async def free_port() -> int:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return port


async def answering(port: int) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return


async def ask(port: int, request: bytes, times: int) -> None:
    """Send `request` over one connection, the next one when the answer to the last is here."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(times):
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            raise SystemExit(f"port {port} answered {head[:100]!r}")
        await reader.readexactly(int(head.lower().partition(b"content-length:")[2].partition(b"\r")[0]))
    writer.close()


async def cost_us(peer: Peer, request: bytes, requests: int) -> float:
    """Return the CPU time that `peer` takes for one request, in microseconds."""
    before = peer.cpu_s()
    await asyncio.gather(*(ask(peer.port, request, requests // CLIENTS) for _ in range(CLIENTS)))
    return (peer.cpu_s() - before) / (requests // CLIENTS * CLIENTS) * 1e6


async def main(requests: int) -> None:
    """Start everything, measure, and print the table."""
    upstream = await free_port()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(running(sys.executable, "-c", UPSTREAM, str(upstream), ANSWER.decode()))
        url = f"http://127.0.0.1:{upstream}"
        ports = [await free_port() for _ in range(3)]
        sidecar = "-m", "proxy", "run", "--upstream", url, "--listen", f"127.0.0.1:{ports[0]}", "--admin", "127.0.0.1:0"
        commands = {
            "sidecar": (sys.executable, *sidecar),
            "plain aiohttp proxy": (sys.executable, "-c", PLAIN_PROXY, url, str(ports[1])),
        }
        if nginx := shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/bin"):
            (folder / "nginx.conf").write_text(NGINX.format(folder=folder, upstream=upstream, port=ports[2]), "utf-8")
            commands["nginx"] = nginx, "-c", str(folder / "nginx.conf")
        peers = [
            Peer(name, port, stack.enter_context(running(*command)))
            for (name, command), port in zip(commands.items(), ports, strict=False)
        ]
        for port in (upstream, *(peer.port for peer in peers)):
            await answering(port)
        print(f"CPU time per request, median of {ROUNDS} rounds of {requests:,} requests by {CLIENTS} clients\n")
        print(f"{'':>14}" + "".join(f"{peer.name:>24}" for peer in peers))
        for name, request in WORKLOADS.items():
            costs: dict[str, list[float]] = {peer.name: [] for peer in peers}
            for peer in peers:
                await cost_us(peer, request, requests // 5)
            for _ in range(ROUNDS):
                for peer in peers:
                    costs[peer.name].append(await cost_us(peer, request, requests))
            ours = median(costs["sidecar"])
            cells = (f"{median(costs[peer.name]):.0f} µs ({median(costs[peer.name]) / ours:.2f})" for peer in peers)
            print(f"{name:>14}" + "".join(f"{cell:>24}" for cell in cells))
        print(f"{'memory':>14}" + "".join(f"{peer.memory_bytes() / 2**20:>20.0f} MiB" for peer in peers))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else REQUESTS))
