"""The process that holds a stack: `python -m conclave.local.supervisor PLAN`, started by `conclave up`.

It may be killed at any time. Kafka, PostgreSQL and the services then get their death signal from the kernel, a watchdog
ends what the services had started themselves, and the next `up` ends whatever is still there.
"""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from conclave.local.detached import make_room, ordered
from conclave.local.errors import LocalStackError
from conclave.local.plan import POSTGRES, Plan
from conclave.local.stack import Stack
from conclave.local.state import Folders, Snapshot, read_snapshot, supervising


def supervise(plan: Plan, folders: Folders, on_change: Callable[[Snapshot], None] = lambda snapshot: None) -> None:
    """Runs a stack in this process until SIGTERM or Ctrl-C, then takes it down. A second signal ends it at once.

    Raises: LocalStackError.
    """
    make_room(folders)
    with supervising(folders):
        plan.check()
        previous = read_snapshot(folders)
        if previous is not None:
            end_leftovers(previous)
        asyncio.run(_supervise(Stack(plan, folders, previous=previous, on_change=on_change), folders))


def end_leftovers(previous: Snapshot) -> list[int]:
    """Kills what an earlier supervisor left running, by pid and start time, and says which pids those were.

    A PostgreSQL that is left is not among them: its next start ends it in a gentler way.
    """
    marks = [part.mark for part in previous.parts if part.mark and part.name != POSTGRES]
    return [pid for mark in marks for pid in mark.kill_session()]


async def _supervise(stack: Stack, folders: Folders) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    run = asyncio.create_task(stack.run(stop), name="run")

    def on_signal() -> None:
        if stop.is_set():
            killers.append(loop.create_task(stack.kill(), name="kill"))
        stop.set()

    killers: list[asyncio.Task[None]] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal)
    watchdog = _start_watchdog(folders)
    try:
        await run
    finally:
        assert watchdog.stdin is not None
        watchdog.stdin.close()
        watchdog.wait()


def _start_watchdog(folders: Folders) -> "subprocess.Popen[bytes]":
    """Starts the process that sees our end of the pipe close, however we end."""
    return subprocess.Popen(
        [sys.executable, "-m", "conclave.local.watchdog", str(folders.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def main() -> None:
    """Runs the plan of the first argument in the folder of the second."""
    plan = ordered(sys.argv[1])
    try:
        supervise(plan, Folders(Path(sys.argv[2])))
    except LocalStackError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
