"""What can go wrong with the embedded stack, as values that say what to do next.

LocalStackError
├── PartMissing        a program, wheel or model that must be there is not
├── PortTaken          someone else listens where a part must
├── DiskFull           not enough room to start, or a part stopped for lack of it
├── DownloadFailed     an artifact could not be fetched
├── ChecksumMismatch   what was fetched is not what the lock file promises
├── PartDidNotStart    a part ended, or was not ready in time
├── StackIsRunning     `up` while another supervisor holds the stack
└── StackIsNotRunning  `down`, or a client, without a stack
"""

from dataclasses import dataclass
from pathlib import Path

from conclave.errors import ConclaveError


class LocalStackError(ConclaveError):
    """Any failure of the embedded stack that a person can act on. `str()` is meant to be shown without a traceback."""


@dataclass(eq=False)
class PartMissing(LocalStackError):
    """A program, wheel or model that must be there is not."""

    part: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.part} is missing. {self.remedy}"


@dataclass(eq=False)
class PortTaken(LocalStackError):
    """Someone else listens on a port that a part must have."""

    part: str
    port: int

    def __str__(self) -> str:
        return f"{self.part} needs port {self.port} on 127.0.0.1, and another process listens there."


@dataclass(eq=False)
class DiskFull(LocalStackError):
    """Not enough room at `path`. `free_bytes` is what was free when it was noticed."""

    path: Path
    free_bytes: int
    needed_bytes: int

    def __str__(self) -> str:
        free, needed = self.free_bytes / 2**20, self.needed_bytes / 2**20
        return f"The disk that holds {self.path} has {free:,.0f} MiB free; at least {needed:,.0f} MiB are needed."


@dataclass(eq=False)
class DownloadFailed(LocalStackError):
    """An artifact could not be fetched."""

    artifact: str
    reason: str

    def __str__(self) -> str:
        return f"{self.artifact} could not be downloaded: {self.reason}. Check the network and run the command again."


@dataclass(eq=False)
class ChecksumMismatch(LocalStackError):
    """What was fetched is not what the lock file promises; it was deleted and not used."""

    artifact: str
    expected: str
    found: str

    def __str__(self) -> str:
        return (
            f"{self.artifact} was downloaded, but its sha256 is {self.found[:16]}… where the lock file says "
            f"{self.expected[:16]}…. It was deleted. If that repeats, whatever serves the download altered it."
        )


@dataclass(eq=False)
class PartDidNotStart(LocalStackError):
    """A part ended, or was not ready in time. `tail` holds the last lines of its log."""

    part: str
    reason: str
    log_path: Path
    tail: str

    def __str__(self) -> str:
        lines = "".join(f"\n    {line}" for line in self.tail.splitlines())
        return f"{self.part} did not start: {self.reason}. The end of {self.log_path}:{lines or ' (empty)'}"


@dataclass(eq=False)
class StackIsRunning(LocalStackError):
    """Another supervisor holds this checkout's stack."""

    pid: int

    def __str__(self) -> str:
        return f"The stack of this checkout is already running (supervisor {self.pid}). Stop it with `conclave down`."


@dataclass(eq=False)
class StackIsNotRunning(LocalStackError):
    """Nothing to talk to."""

    state_path: Path

    def __str__(self) -> str:
        return f"No stack is running here ({self.state_path} names none). Start one with `conclave up`."
