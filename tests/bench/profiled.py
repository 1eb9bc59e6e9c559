"""The sidecar under cProfile: where the time of a request goes. What it says is of shares: it slows calls down."""

from __future__ import annotations

import io
import pstats
import re
import signal
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trustme

from tests.bench.load import closed
from tests.bench.measure import Cores, expected_of, upstream
from tests.bench.proxies import contestants, on_cores, running, sidecar_launch
from tests.bench.workloads import WORKLOADS
from tests.fidelity.peers import ROOT, UPSTREAM_NAME

if TYPE_CHECKING:
    from tests.bench.load import Closed
    from tests.bench.measure import Plan

_FUNCTIONS: Final = 40
_TIMES_A_CELL: Final = 4


def profile(name: str, plan: Plan) -> str:
    """Return the functions of the sidecar that take the most time in `name`, themselves and with what they call."""
    (workload,) = (one for one in WORKLOADS if one.name == name)
    cores = Cores.of_this_machine()
    (sidecar,) = contestants(frozenset({"sidecar"}))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        figures = folder / "profile"
        with ExitStack() as stack:
            certificate = ca_file = None
            if workload.is_encrypted:
                authority = trustme.CA()
                ca_file, certificate = folder / "ca.pem", folder / "upstream.pem"
                authority.cert_pem.write_to_path(str(ca_file))
                chain = authority.issue_cert(UPSTREAM_NAME).private_key_and_cert_chain_pem
                chain.write_to_path(str(certificate))
            behind = stack.enter_context(upstream(cores.upstream, certificate))
            proxy = sidecar.with_launch(sidecar_launch(arguments=("-m", "tests.bench.profiled_proxy", str(figures))))
            one = stack.enter_context(running(proxy, behind.port, folder, cores.proxies, ca_file))
            with on_cores(cores.client):

                def asked(stop_after_s: float) -> Closed:
                    return closed(
                        one.port,
                        workload.request(),
                        expected_of(workload, one.proxy),
                        connections=plan.connections,
                        stop_after_s=stop_after_s,
                        requests=plan.requests,
                    )

                asked(plan.warm_s)
                one.process.send_signal(signal.SIGUSR1)
                came = asked(plan.cell_s * _TIMES_A_CELL)
        text = io.StringIO()
        stats = pstats.Stats(str(figures), stream=text)
        stats.sort_stats("tottime").print_stats(_FUNCTIONS)
        stats.sort_stats("cumtime").print_stats(_FUNCTIONS)
    lines = re.sub(r"\S*/(site-packages|lib/python3\.\d+)/", "", text.getvalue().replace(f"{ROOT}/", ""))
    return f"{came.requests:,} requests: {workload.title}\n{lines}"
