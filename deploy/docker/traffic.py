"""Calls for the dashboard to show: right ones, misspelt ones and errors, through the proxy to the simulator.

Usage: traffic.py URL [--rounds N] [--rate CALLS_PER_SECOND]     (without --rounds: until it is interrupted)

In each round every call is made as often as its weight says, in another order. Needs nothing but Python.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import random
import sys
import time
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

_TIMEOUT_S: Final = 30


class Call(NamedTuple):
    """How often it is made in a round, the request, and what the simulator is asked to do instead of answering."""

    weight: int
    method: str
    path: str
    body: dict[str, Any] | None = None
    simulate: str = ""


_DEVICE: Final = "/api/machines/1e5bc9d7e413"

CALLS: Final = (
    Call(40, "GET", "/api/alerts?$top=10"),
    Call(20, "GET", "/api/machines?$top=5"),
    Call(8, "POST", "/api/advancedhunting/run", {"Query": "DeviceInfo | take 1"}),
    Call(8, "POST", f"{_DEVICE}/isolate", {"Comment": "Beacon seen", "IsolationType": "Full"}),
    Call(4, "POST", f"{_DEVICE}/isolate", {"comment": "Beacon seen", "IsolationType": "Full"}),
    Call(2, "POST", f"{_DEVICE}/isolate", {"Comment": "Beacon seen", "isolation_type": "Full"}),
    Call(2, "POST", f"{_DEVICE}/runAntiVirusScan", {"comment": "Monthly scan", "scanType": "Quick"}),
    Call(1, "POST", f"{_DEVICE}/unisolate", {"comment": "Clean again"}),
    Call(4, "GET", "/api/alerts", simulate="TooManyRequests"),
    Call(2, "GET", "/api/incidents", simulate="Forbidden"),
    Call(2, "GET", "/api/machines", simulate="Unauthorized"),
    Call(2, "GET", _DEVICE, simulate="NotFound, target=activity"),
    Call(1, "POST", f"{_DEVICE}/offboard", {"Comment": "Sold"}, simulate="ActiveRequestAlreadyExists"),
    Call(1, "GET", "/api/alerts", simulate="InternalServerError"),
    Call(1, "GET", "/api/alerts", simulate="shape=entra"),
    Call(1, "GET", "/api/incidents", simulate="html"),
    Call(1, "GET", "/api/incidents", simulate="reset"),
    Call(1, "GET", "/api/machines", simulate="slow=0.4"),
)


def make(url: str, call: Call) -> int:
    """Return the status that `call` gets at the proxy."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=_TIMEOUT_S)
    fields = {"X-Simulate": call.simulate} if call.simulate else {}
    body = None
    if call.body is not None:
        body = json.dumps(call.body)
        fields["Content-Type"] = "application/json"
    try:
        connection.request(call.method, call.path, body, fields)
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


def main() -> None:
    """Make the calls, until there were enough."""
    parser = argparse.ArgumentParser(description="Make calls for the dashboard to show.")
    parser.add_argument("url", metavar="URL", help="where the proxy is")
    parser.add_argument("--rounds", type=int, help="end after so many")
    parser.add_argument("--rate", type=float, default=5.0, help="calls a second (%(default)s)")
    options = parser.parse_args()
    calls = [call for call in CALLS for _ in range(call.weight)]
    for _ in itertools.count() if options.rounds is None else range(options.rounds):
        random.shuffle(calls)
        for call in calls:
            try:
                make(options.url, call)
            except (OSError, http.client.HTTPException) as error:
                # The proxy starts anew, say; the next call will tell.
                print(f"{call.method} {call.path}: {error}", file=sys.stderr, flush=True)
            time.sleep(1 / options.rate)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit()
