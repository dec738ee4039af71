"""Child processes that leave nothing behind: they die with their parent, and are known by pid and start time."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import msgspec

from conclave.local.errors import DiskFull, LocalStackError, PartDidNotStart

_LAUNCHER = Path(__file__).with_name("launch.py")
_POLL_S = 0.02
_LOG_LIMIT_BYTES = 16 * 2**20
_TAIL_LINES = 12
_NO_SPACE = "No space left on device"
_HARDLY_ANY_BYTES = 4 * 2**20


class Mark(msgspec.Struct, frozen=True):
    """A process beyond doubt: a pid is reused some day, a pid with its start time (in ticks after boot) is not."""

    pid: int
    start_ticks: int
    boot_id: str

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """The mark of a process that exists, zombies included; None when there is none."""
        fields = _stat_fields(pid)
        return None if fields is None else cls(pid, int(fields[19]), _boot_id())

    def is_alive(self) -> bool:
        """True while this very process runs, or any of its threads (a zombie has ended)."""
        return _runs(self.pid, _stat_fields(self.pid)) and Mark.of(self.pid) == self

    def uptime_s(self) -> float:
        """Seconds since the process started."""
        ticks_per_s = os.sysconf("SC_CLK_TCK")
        return time.clock_gettime(time.CLOCK_BOOTTIME) - self.start_ticks / ticks_per_s

    def session_pids(self) -> list[int]:
        """The living processes of the session this process leads or led, itself included.

        The kernel gives the number to nobody while the session has a member, so members found under a leader that is
        gone are still ours; a *different* process with that pid means that the session ended long ago.
        """
        if self.boot_id != _boot_id() or Mark.of(self.pid) not in (None, self):
            return []
        candidates = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
        return [pid for pid in candidates if self._leads(pid)]

    def _leads(self, pid: int) -> bool:
        fields = _stat_fields(pid)
        if fields is None or not _runs(pid, fields):
            return False
        return int(fields[3]) == self.pid and int(fields[19]) >= self.start_ticks

    def kill_session(self) -> list[int]:
        """Ends every process of the session at once, and says which there were."""
        pids = self.session_pids()
        for pid in pids:
            _signal(pid, signal.SIGKILL)
        return pids


@dataclass(frozen=True, slots=True)
class Command:
    """What to run: arguments, environment (whole, nothing is inherited), and as whom."""

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    log_path: Path
    directory: Path | None = None
    owner: tuple[int, int] | None = None
    death_signal: signal.Signals = signal.SIGKILL
    pass_fds: tuple[int, ...] = field(default=())


class Process:
    """A running command in a session of its own.

    Start it from a thread that outlives it: the kernel sends the death signal when the *thread* that forked ends.
    """

    def __init__(self, command: Command) -> None:
        self.command = command
        command.log_path.parent.mkdir(parents=True, exist_ok=True)
        _rotate(command.log_path)
        owner = "-" if command.owner is None else f"{command.owner[0]}:{command.owner[1]}"
        directory = "-" if command.directory is None else str(command.directory)
        prefix = [sys.executable, "-I", "-S", str(_LAUNCHER), str(os.getpid()), str(int(command.death_signal))]
        with command.log_path.open("ab") as log:
            self._child = subprocess.Popen(
                [*prefix, owner, directory, *command.arguments],
                env=dict(command.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=command.pass_fds,
            )
        mark = Mark.of(self._child.pid)  # a child that is not waited for stays at least a zombie
        if mark is None:
            raise LocalStackError(f"{command.name} vanished while it was started.")
        self.mark = mark

    @property
    def pid(self) -> int:
        """The program's pid: the launcher was replaced by it."""
        return self._child.pid

    @property
    def exit_status(self) -> int | None:
        """None while it runs; negative for the signal that ended it."""
        return self._child.poll()

    async def wait(self, timeout_s: float) -> bool:
        """True when the process has ended within `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while self._child.poll() is None:
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(_POLL_S)
        return True

    def send(self, signal_number: signal.Signals) -> None:
        """Signals the process alone; nothing happens when it has ended."""
        if self._child.poll() is None:
            self._child.send_signal(signal_number)

    async def stop(self, *, polite: signal.Signals = signal.SIGTERM, timeout_s: float) -> bool:
        """Asks, waits, then kills with everything the process left in its session. True when asking was enough."""
        self.send(polite)
        has_ended = await self.wait(timeout_s)
        await self.kill()
        return has_ended

    async def kill(self) -> None:
        """Ends the process and its session now, as kill -9 does."""
        self.mark.kill_session()
        self._child.kill()
        self._child.wait()

    def failure(self, reason: str) -> LocalStackError:
        """What to raise when it did not start: DiskFull where its log says so, else PartDidNotStart."""
        tail = log_tail(self.command.log_path)
        # A full disk may have no room left even for the line that says so.
        if _NO_SPACE in tail or shutil.disk_usage(self.command.log_path.parent).free < _HARDLY_ANY_BYTES:
            return disk_full(self.command.log_path.parent)
        return PartDidNotStart(self.command.name, reason, self.command.log_path, tail)


def log_tail(path: Path, lines: int = _TAIL_LINES) -> str:
    """The last lines of a log, empty when there is none."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - 16_384))
            return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return ""


def require_space(path: Path, needed_bytes: int) -> None:
    """Raises: DiskFull when the disk that holds `path` has less than `needed_bytes` free."""
    if shutil.disk_usage(path).free < needed_bytes:
        raise disk_full(path, needed_bytes)


def disk_full(path: Path, needed_bytes: int = 200 * 2**20) -> DiskFull:
    """The error for a disk that ran out of room."""
    return DiskFull(path, shutil.disk_usage(path).free, needed_bytes)


def _rotate(log_path: Path) -> None:
    """Keeps one older log, so that a stack that is started every day does not fill the disk."""
    if log_path.exists() and log_path.stat().st_size > _LOG_LIMIT_BYTES:
        log_path.replace(log_path.with_suffix(log_path.suffix + ".1"))


def _signal(pid: int, signal_number: signal.Signals) -> None:
    try:
        os.kill(pid, signal_number)
    except ProcessLookupError:
        return


def _stat_fields(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the name, so [0] is the state, [3] the session, [19] the start time."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def _runs(pid: int, fields: list[str] | None) -> bool:
    """Whether the process of these fields has a thread that runs.

    The first thread of a killed process is a zombie while the others still end, and until the last has, its files and its ports are
    open: a JVM takes tens of milliseconds for that.
    """
    if fields is None:
        return False
    if fields[0] != "Z":
        return True
    try:
        return len(list(Path(f"/proc/{pid}/task").iterdir())) > 1
    except (FileNotFoundError, ProcessLookupError):
        return False


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
