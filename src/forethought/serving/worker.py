"""One of several processes of a service: python -m forethought.serving.worker STATE SOCKET PIPE."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from forethought.serving.processes import work

if __name__ == "__main__":
    state, listening, parent = sys.argv[1:]
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C reaches all processes; the one above tells when to stop
        work(Path(state), int(listening), int(parent))
