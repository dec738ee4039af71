"""What the servers of the stack have in common: one process on one port, which restarts keep."""

from abc import ABC, abstractmethod
from pathlib import Path
from signal import SIGTERM, Signals
from typing import ClassVar

from conclave.local.errors import PortTaken
from conclave.local.machine.ports import LOOPBACK, free_port, require_free
from conclave.local.machine.process import Process

_STOP_TIMEOUT_S = 15.0
_PORT_TRIES = 3  # another program may take a port between our looking and the server's listening


class Server(ABC):
    """A server process; start, stop, kill and start again keep its port and its data. Bound to no event loop."""

    NAME: ClassVar[str]  # as messages call it
    POLITE: ClassVar[Signals] = SIGTERM  # what asks it to shut down in order

    def __init__(self, *, port: int | None, log_path: Path) -> None:
        """`port` is the one it must have; without it, the first start chooses a free one."""
        self.port = port
        self.log_path = log_path.absolute()
        self._process: Process | None = None

    @property
    def process(self) -> Process | None:
        """The running process, None when it is stopped."""
        return self._process

    @property
    def pid(self) -> int | None:
        """The process's pid, None when it is stopped."""
        return self._process.pid if self._process else None

    @property
    def endpoint(self) -> str:
        """`host:port` for clients. Raises: RuntimeError before the first start."""
        if self.port is None:
            raise RuntimeError(f"{self.NAME} has no port before its first start")
        return f"{LOOPBACK}:{self.port}"

    @abstractmethod
    async def start(self) -> str:
        """Starts the server, waits until it serves and returns its address. Raises: LocalStackError."""

    async def stop(self) -> None:
        """Shuts the server down in order; kills it when that takes too long. Data and port stay."""
        if self._process:
            await self._process.stop(polite=self.POLITE, timeout_s=_STOP_TIMEOUT_S)
            self._process = None

    async def kill(self) -> None:
        """Ends the server as kill -9 does. Data and port stay."""
        if self._process:
            await self._process.kill()
            self._process = None

    @abstractmethod
    async def _launch(self, port: int) -> Process:
        """The server's process, once it serves on `port`. Raises: LocalStackError, of it PortTaken."""

    async def _launch_on_its_port(self) -> None:
        """Launches on the port asked for, or on a free one. Raises: LocalStackError."""
        is_ours_to_choose = self.port is None
        for tries_left in reversed(range(_PORT_TRIES)):
            port = self.port or free_port()
            require_free(self.NAME, port)
            try:
                self._process = await self._launch(port)
            except PortTaken:
                if not is_ours_to_choose or not tries_left:
                    raise
                continue
            self.port = port
            return
