"""The board on which a running stack records where each part is: a snapshot after each change."""

import asyncio
import contextlib
import os
from collections.abc import Callable
from typing import Any

import msgspec

from conclave.local.errors import LocalStackError
from conclave.local.machine.ports import free_port, is_free
from conclave.local.machine.process import Mark, Process
from conclave.local.servers.jars import Progress
from conclave.local.state import Folders, Part, PartPhase, Snapshot, write_snapshot


class Board:
    """Holds the snapshot, writes each new one to stack.json and tells `on_change`. Belongs to the event loop."""

    def __init__(self, folders: Folders, *, previous: Snapshot | None, on_change: Callable[[Snapshot], None]) -> None:
        mark = Mark.of(os.getpid())
        assert mark is not None
        self.snapshot = Snapshot(mark)
        self._folders, self._on_change = folders, on_change
        self._parts: dict[str, Part] = {}
        parts = previous.parts if previous else ()
        self._former_ports = {part.name: part.port for part in parts if part.port}
        self._former_ports |= {_web(part.name): part.web_port for part in parts if part.web_port}

    def part(self, name: str) -> Part:
        """Where a part is."""
        return self._parts.get(name, Part(name))

    def change(
        self,
        name: str,
        phase: PartPhase,
        *,
        process: Process | None = None,
        port: int | None = None,
        web_port: int | None = None,
        detail: str = "",
    ) -> None:
        """Records where a part is; without a process it has none."""
        old = self.part(name)
        self._parts[name] = msgspec.structs.replace(
            old,
            phase=phase,
            port=port or old.port,
            web_port=web_port or old.web_port,
            mark=process.mark if process else None,
            num_restarts=old.num_restarts + (phase is PartPhase.RESTARTING),
            detail=detail,
        )
        self.announce()

    def announce(self, **changes: Any) -> None:
        """Publishes a snapshot with these fields changed."""
        self.snapshot = msgspec.structs.replace(self.snapshot, parts=tuple(self._parts.values()), **changes)
        with contextlib.suppress(OSError):  # a full disk must not take the stack down: the next change is written again
            write_snapshot(self._folders, self.snapshot)
        self._on_change(self.snapshot)

    def former_port(self, name: str) -> int | None:
        """The port a part had in the last run if it is still free: what clients were told stays true."""
        port = self._former_ports.get(name)
        return port if port and is_free(port) else None

    def new_port(self, name: str) -> int:
        """A free port for a part, its former one where possible, and never one that another part has or had."""
        port = self.former_port(name) or free_port(avoid=frozenset(self._former_ports.values()))
        self._former_ports[name] = port
        return port

    def new_web_port(self, name: str, preferred: int) -> int:
        """The same for what a part serves to people: its former port, else the one that the docs name, else any free one."""
        former = self.former_port(_web(name))
        is_taken = preferred in self._former_ports.values() or not is_free(preferred)
        port = former or (self.new_port(_web(name)) if is_taken else preferred)
        self._former_ports[_web(name)] = port
        return port


def _web(name: str) -> str:
    return f"{name} (web)"


class DownloadProgress(Progress):
    """Puts a download's progress on the board, and breaks the download off when the stack is being stopped."""

    def __init__(self, board: Board) -> None:
        self._board, self._num_bytes, self.is_cancelled = board, 0, False
        self.loop: asyncio.AbstractEventLoop | None = None

    def begin(self, total_bytes: int) -> None:
        self._announce(download_bytes=total_bytes)

    def advance(self, num_bytes: int) -> None:
        if self.is_cancelled:
            raise LocalStackError("The download was broken off.")
        self._num_bytes += num_bytes
        self._announce(downloaded_bytes=self._num_bytes)

    def _announce(self, **changes: int) -> None:
        """Downloads run in a thread, the board belongs to the loop."""
        assert self.loop is not None
        self.loop.call_soon_threadsafe(lambda: self._board.announce(**changes))
