"""`python -m proxy` is `defender-sidecar`."""

import sys

from proxy.cli import main

sys.exit(main())
