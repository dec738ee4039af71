"""Keeps the parts of a stack running: whatever dies is started again, after a pause that grows."""

import asyncio
import time
from pathlib import Path
from typing import Any, Protocol

from conclave.local.board import Board
from conclave.local.errors import LocalStackError, PartDidNotStart
from conclave.local.machine.process import Process, log_tail
from conclave.local.service import ServiceProcess
from conclave.local.state import PartPhase, Phase

_READY_POLL_S, _WATCH_POLL_S = 0.2, 2.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S, _CALM_AFTER_S = 0.5, 30.0, 60.0
_DEATHS_BEFORE_READY = 3


class Runnable(Protocol):
    """What is kept running: a server or a service. Started again, it keeps its port."""

    @property
    def process(self) -> Process | None:
        """The process, None when it is stopped."""

    @property
    def log_path(self) -> Path:
        """Where it logs."""

    async def start(self) -> Any:
        """Starts it. Raises: LocalStackError."""

    async def stop(self) -> None:
        """Has it end in order, within a limit."""

    async def kill(self) -> None:
        """Ends it now, with all that it left in its session."""


class Keeper:
    """Watches parts and says on the board how they are."""

    def __init__(self, board: Board) -> None:
        self._board = board

    async def keep(self, name: str, part: Runnable) -> None:
        """Starts a part again whenever it dies. Raises: PartDidNotStart when it keeps dying while the stack starts."""
        pause_s, num_deaths = _FIRST_PAUSE_S, 0
        while True:
            process = part.process
            assert process is not None
            started = time.monotonic()
            await process.wait(float("inf"))
            reason = f"it ended with status {process.exit_status}"
            await part.kill()  # and what it left behind, such as an engine's processes
            num_deaths += 1
            if num_deaths >= _DEATHS_BEFORE_READY and self._is_starting():
                raise PartDidNotStart(name, f"{reason}, {num_deaths} times", part.log_path, log_tail(part.log_path))
            if time.monotonic() - started > _CALM_AFTER_S:
                pause_s = _FIRST_PAUSE_S
            self._board.change(name, PartPhase.RESTARTING, detail=reason)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            await self._start_again(name, part)

    async def watch(self, service: ServiceProcess) -> None:
        """Asks a service whether it is ready, often until it is and then now and again."""
        while True:
            phase, is_ready = self._board.part(service.name).phase, await service.is_ready()
            if is_ready and phase in (PartPhase.STARTING, PartPhase.UNREADY):
                self._board.change(service.name, PartPhase.READY, process=service.process)
            elif not is_ready and phase is PartPhase.READY and service.process:
                self._board.change(service.name, PartPhase.UNREADY, process=service.process)
            await asyncio.sleep(_WATCH_POLL_S if is_ready else _READY_POLL_S)

    async def _start_again(self, name: str, part: Runnable) -> None:
        """Starts a part that died, however often it takes once the stack was ready. Raises: LocalStackError before."""
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                await part.start()
            except LocalStackError as error:
                if self._is_starting():
                    raise
                self._board.change(name, PartPhase.RESTARTING, detail=str(error))
            else:
                phase = PartPhase.STARTING if isinstance(part, ServiceProcess) else PartPhase.READY
                self._board.change(name, phase, process=part.process)
                return
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _is_starting(self) -> bool:
        return self._board.snapshot.phase is Phase.STARTING
