"""What each step of the core costs: instructions per call, which another load does not change, and microseconds.

Run by hand: python tests/bench/core_cost.py [--json FILE] [--against FILE]

`--json` writes the figures down; `--against` compares with figures so written, and exits 1 where a step takes over 10 %
more instructions than it did. Before a change and after it:

    python tests/bench/core_cost.py --json before.json
    python tests/bench/core_cost.py --against before.json

Instructions are counted by callgrind (`valgrind` must be on PATH) and not by the processor's own counters, which
virtual machines seldom have; one run of the interpreter counts all steps, the loop around them left out. They depend
on the build of Python, and so figures of two versions are not compared. Microseconds are the least of several rounds.
"""

# ruff: noqa: T201 - printing is what it is for

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from itertools import repeat
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry

from proxy.core import check, headers, rewrite, tags
from proxy.core.envelope import parse_envelope
from proxy.core.model import ErrorCode, ErrorTag, Mode, Origin, Outcome, TargetId, TargetSource
from proxy.resources import load_catalog, load_error_codes
from proxy.settings import HeaderSettings
from proxy.telemetry import Telemetry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from proxy.core.casing import Shape
    from proxy.core.model import Fields

CALLS: Final = 200
WARM_UP_CALLS: Final = 50
# A step that takes a thousand times as long as others is not called as often.
LARGE: Final = "check 100 KB"
LARGE_CALLS: Final = 10
ROUNDS: Final = 15
TOLERANCE: Final = 1.10

# Callgrind writes what it has counted and starts anew wherever this function of the C library is entered; nothing else
# in the interpreter calls it.
MARK: Final = "getpgrp"

EMPTY: Final = "(the loop itself)"

REQUEST: Final[Fields] = (
    (b"Host", b"sidecar"),
    (b"User-Agent", b"playbook/1.0"),
    (b"Accept", b"application/json"),
    (b"Authorization", b"Bearer " + b"x" * 1200),
    (b"Content-Type", b"application/json"),
    (b"Content-Length", b"70"),
)
RESPONSE: Final[Fields] = (
    (b"Date", b"Tue, 15 Nov 1994 08:12:31 GMT"),
    (b"Content-Type", b"application/json; odata.metadata=minimal"),
    (b"Content-Length", b"91"),
    (b"Connection", b"keep-alive"),
    (b"Strict-Transport-Security", b"max-age=31536000; includeSubDomains"),
    (b"OData-Version", b"4.0"),
)
BODY: Final = b'{"Comment": "Isolated by a playbook for alert 637", "IsolationType": "Full"}'
MISSPELT: Final = b'{"comment": "Isolated by a playbook for alert 637", "isolationType": "Full"}'
INDICATORS: Final = json.dumps(
    {
        "Indicators": [
            {
                "indicatorValue": f"{number:040x}",
                "indicatorType": "FileSha1",
                "title": f"Seen in case {number}",
                "application": "playbook",
                "expirationTime": "2030-12-12T00:00:00Z",
                "action": "Alert",
                "severity": "Informational",
                "description": "Found by a playbook",
                "recommendedActions": "Ask the owner of the machine",
            }
            for number in range(330)
        ]
    }
).encode()
ERROR: Final = json.dumps(
    {
        "error": {
            "code": "ResourceNotFound",
            "message": "Machine 123123123 was not found",
            "target": "43f4cb08-8fac-4b65-9db1-745c2ae65f3a",
        }
    }
).encode()


def steps() -> dict[str, Callable[[], object]]:
    """Return what is measured, by name."""
    catalog, codes = load_catalog(), load_error_codes()
    telemetry = Telemetry(CollectorRegistry(), catalog, codes)
    isolate = catalog.match("POST", "/api/machines/1e5bc9d7e413/isolate")
    batch = catalog.match("POST", "/api/indicators/import")
    assert isolate.body is not None
    assert batch.body is not None
    shape, batch_shape = isolate.body, batch.body
    names = HeaderSettings()
    tag = ErrorTag(
        ErrorCode("ResourceNotFound"), "ResourceNotFound", "Machine 123123123 was not found",
        TargetId("43f4cb08-8fac-4b65-9db1-745c2ae65f3a"), TargetSource.ENVELOPE, Origin.UPSTREAM,
    )  # fmt: skip

    def checked(body: bytes, shape: Shape) -> check.Checked:
        fields = headers.IndexedFields(REQUEST)
        assert check.may_be_json(fields)
        return check.check(body, fields, shape, Mode.REJECT, limit_bytes=1 << 20)

    def outcome(status: int, error: ErrorTag | None = None) -> Outcome:
        return Outcome(
            method="POST", operation=isolate.name, route=isolate.template, status=status,
            request_id="c6f1d7e4-5d6a-4f2e-9c58-ffa4a1f0a3c5", duration_s=0.0123, upstream_s=0.0121, overhead_s=0.0002,
            request_bytes=len(BODY), response_bytes=91, mode=Mode.REJECT, body_result=clean.result,
            findings=clean.findings, action=None, error=error, failure=None, resend=None, defect=None, trace_id=None,
            not_fixed=(), suspects=(), doc=isolate.doc,
        )  # fmt: skip

    def request_fields() -> Fields:
        fields = headers.IndexedFields(REQUEST)
        assert headers.is_chunked_alone(fields)
        assert all(map(headers.is_authority, headers.values(fields, b"host")))
        assert not headers.leads_back(fields)
        for name in (b"x-request-id", b"client-request-id", b"traceparent", b"expect", b"content-encoding"):
            assert not headers.values(fields, name)
        return headers.end_to_end_request(fields, b"1.1")

    def response_fields() -> Fields:
        fields = headers.named(RESPONSE)
        assert fields is not None
        kept = headers.end_to_end_response(headers.IndexedFields(fields))
        assert not rewrite.names_location(kept)
        assert rewrite.coding_of_page(200, kept) == ""
        return headers.replaced(kept, ((names.request_id, "c6f1d7e4-5d6a-4f2e-9c58-ffa4a1f0a3c5"),))

    clean = checked(BODY, shape)
    return {
        EMPTY: lambda: None,
        "match a GET": lambda: catalog.match("GET", "/api/machines/1e5bc9d7e413"),
        "match a POST": lambda: catalog.match("POST", "/api/machines/1e5bc9d7e413/isolate"),
        "check a small POST": lambda: checked(BODY, shape),
        "check a POST with mismatches": lambda: checked(MISSPELT, shape),
        LARGE: lambda: checked(INDICATORS, batch_shape),
        "read an envelope": lambda: parse_envelope(ERROR, catalog.names),
        "fields of a request": request_fields,
        "fields of a response": response_fields,
        "fields of an error": lambda: headers.replaced(RESPONSE, tags.error_fields(tag, names, RESPONSE)),
        "write a head": lambda: headers.head(b"POST /api/machines/1e5bc9d7e413/isolate HTTP/1.1", REQUEST),
        "tell of a success": lambda: telemetry.record(outcome(201)),
        "tell of an error": lambda: telemetry.record(outcome(404, tag)),
    }


def calls_of(name: str) -> int:
    return LARGE_CALLS if name == LARGE else CALLS


def call(step: Callable[[], object], times: int) -> None:
    for _ in repeat(None, times):
        step()


def counted_here() -> None:
    """Call each step between two marks; run under callgrind."""
    for name, step in steps().items():
        call(step, min(WARM_UP_CALLS, calls_of(name)))
        os.getpgrp()
        call(step, calls_of(name))
        os.getpgrp()


def instructions() -> dict[str, float] | None:
    """Return the instructions that a call of each step takes; None where there is no valgrind."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "counts"
        command = (
            valgrind, "--tool=callgrind", f"--callgrind-out-file={out}", f"--dump-before={MARK}",
            sys.executable, __file__, "--counted-here",
        )  # fmt: skip
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, env={**os.environ, "PYTHONHASHSEED": "0"}
        )
        if done.returncode:
            raise SystemExit(done.stderr)
        # The first part is the start and the warming up of the first step, every second one a step.
        names = list(steps())
        totals = {
            name: total_of(out.with_name(f"{out.name}.{2 * number}")) / calls_of(name)
            for number, name in enumerate(names, 1)
        }
    return {name: total - totals[EMPTY] for name, total in totals.items() if name != EMPTY}


def total_of(part: Path) -> int:
    """Return what callgrind counted in `part`."""
    found = re.search(r"^totals: (\d+)$", part.read_text("utf-8"), re.MULTILINE)
    if found is None:
        raise SystemExit(f"{part.name} has no total")
    return int(found[1])


def times_us() -> dict[str, float]:
    """Return the microseconds that a call of each step takes, the loop itself left out."""
    least = dict.fromkeys(todo := steps(), float("inf"))
    for _ in range(ROUNDS):
        for name, step in todo.items():
            started = perf_counter()
            call(step, calls_of(name))
            least[name] = min(least[name], (perf_counter() - started) / calls_of(name) * 1e6)
    return {name: time - least[EMPTY] for name, time in least.items() if name != EMPTY}


def grown(now: Mapping[str, float], before: Mapping[str, float]) -> Iterable[str]:
    """Yield a sentence about each step that takes more instructions than it may."""
    for name in now.keys() & before.keys():
        if now[name] > before[name] * TOLERANCE:
            yield f"{name}: {now[name]:,.0f} instructions, {before[name]:,.0f} before"


def main() -> None:
    """Measure, print, and compare where that is asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    parser.add_argument("--against", type=Path, metavar="FILE", help="compare the instructions with those in FILE")
    parser.add_argument("--counted-here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.counted_here:
        counted_here()
        return
    counts, times = instructions(), times_us()
    python = f"{platform.python_implementation()} {platform.python_version()} {platform.machine()}"
    print(f"{python}\n\n{'':>30}  {'instructions':>12}  {'time':>10}")
    for name, time in times.items():
        print(f"{name:>30}  {f'{counts[name]:,.0f}' if counts else '-':>12}  {time:>7.2f} µs")
    if arguments.json is not None:
        figures = {"python": python, "instructions": counts, "us": times}
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    if arguments.against is not None:
        before = json.loads(arguments.against.read_text("utf-8"))
        if counts is None or before["instructions"] is None:
            raise SystemExit("without valgrind nothing was counted")
        if before["python"] != python:
            raise SystemExit(f"these figures are of {before['python']}")
        if problems := sorted(grown(counts, before["instructions"])):
            raise SystemExit("\n".join(problems))


if __name__ == "__main__":
    main()
