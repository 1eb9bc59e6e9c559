"""Stands in for your program: it asks for one alert now and then, by way of the sidecar, and prints what came back."""

from __future__ import annotations

import os
import signal
import sys
import time
import urllib.error
import urllib.request

_PAUSE_S = 30
_TIMEOUT_S = 60


def main() -> None:
    """Ask until SIGTERM."""
    # The first process of a container gets no signal that it does not ask for.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit())
    base_url = os.environ["DEFENDER_BASE_URL"]
    token = os.environ.get("DEFENDER_TOKEN")
    request = urllib.request.Request(
        f"{base_url}/api/alerts?$top=1", headers={"Authorization": f"Bearer {token}"} if token else {}
    )
    while True:
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
                print(response.status)
        except urllib.error.HTTPError as error:
            with error:
                print(error.code, error.headers["X-Error-Code"], error.headers["X-Target-Id"])
        except OSError as error:
            print(error)
        time.sleep(_PAUSE_S)


if __name__ == "__main__":
    main()
