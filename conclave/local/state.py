"""What the supervisor writes down about its stack, for `status`, for clients and for whoever comes after a kill -9."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Self
from urllib.parse import quote

import msgspec

from conclave.local.errors import StackIsNotRunning, StackIsRunning
from conclave.local.machine.process import Mark

_STATE_DIR_VARIABLE = "CONCLAVE_STATE_DIR"


class Phase(StrEnum):
    """Where the stack as a whole is."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


class PartPhase(StrEnum):
    """Where one part is."""

    WAITING = "waiting"  # for what it needs
    STARTING = "starting"
    READY = "ready"
    UNREADY = "unready"  # it was ready, runs, and says that it is not now
    RESTARTING = "restarting"  # it died, and is started again after a pause
    STOPPED = "stopped"


class Part(msgspec.Struct, frozen=True):
    """One process of the stack, or one step such as the migrations (no port, no mark)."""

    name: str
    phase: PartPhase = PartPhase.WAITING
    port: int | None = None
    mark: Mark | None = None
    num_restarts: int = 0
    detail: str = ""
    web_port: int | None = None  # of a service that serves people and their programs


class Snapshot(msgspec.Struct, frozen=True):
    """The stack at one moment. It holds no secret: the database's password is in a file of its own."""

    supervisor: Mark
    phase: Phase = Phase.STARTING
    parts: tuple[Part, ...] = ()
    bootstrap_servers: str | None = None
    postgres: str | None = None  # host:port/database
    downloaded_bytes: int = 0
    download_bytes: int = 0
    failure: str | None = None


class Endpoints(msgspec.Struct, frozen=True):
    """Where a running stack is reached. `postgres_dsn` is a secret."""

    bootstrap_servers: str | None
    postgres_dsn: str | None
    http: dict[str, str]  # service -> http://host:port of /ready and /metrics
    web: dict[str, str] = {}  # service -> http://host:port of what it serves to people and their programs


@dataclass(frozen=True, slots=True)
class Folders:
    """The places of one stack, all under one folder: the checkout's `.conclave`."""

    root: Path

    @classmethod
    def default(cls) -> Self:
        """CONCLAVE_STATE_DIR, else `.conclave` in the checkout of this package, else in the working directory."""
        if named := os.environ.get(_STATE_DIR_VARIABLE):
            return cls(Path(named).absolute())
        checkout = checkout_folder()
        return cls((checkout or Path.cwd()) / ".conclave")

    @property
    def jars(self) -> Path:
        """Kafka's verified jars, a Maven repository."""
        return self.root / "jars"

    @property
    def kafka(self) -> Path:
        """The broker's data."""
        return self.root / "kafka"

    @property
    def postgres(self) -> Path:
        """The database's data and password."""
        return self.root / "postgres"

    @property
    def logs(self) -> Path:
        """A log a part."""
        return self.root / "logs"

    def log(self, part: str) -> Path:
        """The log of one part."""
        return self.logs / f"{part}.log"

    @property
    def state(self) -> Path:
        """The last snapshot."""
        return self.root / "stack.json"

    @property
    def lock(self) -> Path:
        """Locked by the supervisor while it lives."""
        return self.root / "supervisor.lock"


def checkout_folder() -> Path | None:
    """The checkout that this package lies in, None when it was installed without one."""
    folder = Path(__file__).resolve().parents[2]
    return folder if (folder / "pyproject.toml").exists() else None


def read_snapshot(folders: Folders) -> Snapshot | None:
    """The last snapshot written, None when there is none or it can't be read."""
    try:
        return msgspec.json.decode(folders.state.read_bytes(), type=Snapshot)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def write_snapshot(folders: Folders, snapshot: Snapshot) -> None:
    """Replaces the snapshot at once, so that a reader sees the old or the new one."""
    staging = folders.state.with_suffix(".tmp")
    staging.write_bytes(msgspec.json.format(msgspec.json.encode(snapshot)))
    staging.chmod(0o600)
    staging.replace(folders.state)


def is_supervised(folders: Folders) -> bool:
    """True while a supervisor lives: the kernel frees its lock however it ends."""
    try:
        with folders.lock.open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


@contextmanager
def supervising(folders: Folders) -> Iterator[None]:
    """Holds the stack for this process. Raises: StackIsRunning when another one has it."""
    with folders.lock.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            snapshot = read_snapshot(folders)
            raise StackIsRunning(snapshot.supervisor.pid if snapshot else 0) from None
        yield


def endpoints(folders: Folders | None = None) -> Endpoints:
    """Where this checkout's running stack is reached. Raises: StackIsNotRunning."""
    places = folders or Folders.default()
    snapshot = read_snapshot(places)
    if snapshot is None or not is_supervised(places):
        raise StackIsNotRunning(places.state)
    http = {part.name: f"http://127.0.0.1:{part.port}" for part in snapshot.parts if part.port and is_service(part)}
    web = {part.name: web_address(part) for part in snapshot.parts if part.web_port}
    return Endpoints(snapshot.bootstrap_servers, _dsn(places, snapshot), http, web)


def web_address(part: Part) -> str:
    """Where a service serves people and their programs."""
    return f"http://127.0.0.1:{part.web_port}"


def is_service(part: Part) -> bool:
    """True for a process of ours, which answers /ready and /metrics."""
    return part.port is not None and part.name not in ("kafka", "postgres")


def _dsn(folders: Folders, snapshot: Snapshot) -> str | None:
    if snapshot.postgres is None:
        return None
    password = quote((folders.postgres / "password").read_text(), safe="")
    return f"postgresql://conclave:{password}@{snapshot.postgres}"
