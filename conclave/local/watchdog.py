"""Ends what a killed supervisor's services had started. The services themselves die by the kernel's hand.

It waits at the reading end of a pipe whose other end only the supervisor holds, and which the kernel closes with it.
"""

import signal
import sys
from pathlib import Path

from conclave.local.plan import KAFKA, POSTGRES
from conclave.local.state import Folders, read_snapshot


def main() -> None:
    """Returns when the supervisor is gone and the sessions of its services are empty."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    snapshot = read_snapshot(Folders(Path(sys.argv[1])))
    if snapshot is None:
        return
    for part in snapshot.parts:
        if part.mark and part.name not in (KAFKA, POSTGRES):
            part.mark.kill_session()


if __name__ == "__main__":
    main()
