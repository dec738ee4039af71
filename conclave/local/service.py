"""One service process of a stack."""

import contextlib
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from conclave.local import held, probe
from conclave.local.machine.ports import LOOPBACK
from conclave.local.machine.process import Command, Process

_DRAIN_S = 15.0  # what a service has to drain unless it is told otherwise
_END_S = 10.0  # afterwards: an engine's shutdown takes a while


class HeldService:
    """A process that imports what a service needs, and waits for its settings. It ends when this process does."""

    def __init__(self, name: str, module: str, *, log_path: Path, directory: Path) -> None:
        self._environment = {"PYTHONUNBUFFERED": "1"} | dict(os.environ)
        descriptor, end = os.pipe()
        self._pipe = open(end, "wb", buffering=0)  # noqa: SIM115  (closed by release or kill)
        command = Command(
            name=name,
            arguments=[sys.executable, "-m", "conclave.local.held", str(descriptor), module],
            environment=self._environment,
            log_path=log_path,
            directory=directory,
            death_signal=signal.SIGKILL,
            pass_fds=(descriptor,),
        )
        try:
            self.process = Process(command)
        finally:
            os.close(descriptor)

    def release(self, environment: Mapping[str, str]) -> Process:
        """The process, which goes on with these settings; if it has ended meanwhile, then so it has."""
        own = self._environment
        settings = {name: value for name, value in environment.items() if own.get(name) != value}
        with contextlib.suppress(BrokenPipeError), self._pipe as pipe:
            pipe.write(held.told(settings))
        return self.process

    async def kill(self) -> None:
        """Ends it now."""
        self._pipe.close()
        await self.process.kill()


class ServiceProcess:
    """`python -m services.<name>` with its settings in the environment; started again, it keeps its port."""

    def __init__(
        self,
        name: str,
        module: str,
        *,
        port: int,
        environment: Mapping[str, str],
        log_path: Path,
        directory: Path,
        web_port: int | None = None,
    ) -> None:
        self.name = name
        self.port = port
        self.web_port = web_port
        self._command = Command(
            name=name,
            arguments=[sys.executable, "-m", module],
            environment=environment,
            log_path=log_path,
            directory=directory,
            death_signal=signal.SIGKILL,
        )
        self._process: Process | None = None
        self._stop_s = _stop_s(environment)

    @property
    def log_path(self) -> Path:
        """Where it logs."""
        return self._command.log_path

    @property
    def process(self) -> Process | None:
        """The process, None before the first start and after a stop."""
        return self._process

    @property
    def is_running(self) -> bool:
        """True while the process lives."""
        return self._process is not None and self._process.exit_status is None

    @property
    def url(self) -> str:
        """Where it serves /live, /ready and /metrics."""
        return f"http://{LOOPBACK}:{self.port}"

    async def start(self, held: HeldService | None = None) -> None:
        """Starts the process, or has a held one go on, and does not wait until it is ready."""
        self._process = held.release(self._command.environment) if held else Process(self._command)

    async def stop(self) -> None:
        """Has it drain, within a limit, and ends whatever it left behind."""
        if self._process:
            await self._process.stop(timeout_s=self._stop_s)
            self._process = None

    async def kill(self) -> None:
        """Ends it now, with every process of its session."""
        if self._process:
            await self._process.kill()
            self._process = None

    def send(self, signal_number: signal.Signals) -> None:
        """Signals the process alone; nothing happens when it does not run."""
        if self._process:
            self._process.send(signal_number)

    async def is_ready(self) -> bool:
        """True when it answers that it is ready."""
        return (await probe.readiness(self.url)).is_good


def _stop_s(environment: Mapping[str, str]) -> float:
    """How long a service may take to stop, by its own setting; one that it refuses is not asked to drain."""
    try:
        drain_s = float(environment.get("CONCLAVE_DRAIN_S", _DRAIN_S))
    except ValueError:
        drain_s = _DRAIN_S
    return drain_s + _END_S
