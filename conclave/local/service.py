"""One service process of the stack, and what it says of itself over HTTP."""

import asyncio
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from conclave.local.machine.ports import LOOPBACK
from conclave.local.machine.process import Command, Process

_ANSWER_TIMEOUT_S = 3.0
_DRAIN_TIMEOUT_S = 25.0  # the services' own limit is 15 s; an engine's shutdown may take longer
_LAG = "conclave_lag"


class ServiceProcess:
    """`python -m services.<name>` with its settings in the environment; started again, it keeps its port."""

    def __init__(
        self, name: str, module: str, *, port: int, environment: Mapping[str, str], log_path: Path, directory: Path
    ) -> None:
        self.name = name
        self.port = port
        self._command = Command(
            name=name,
            arguments=[sys.executable, "-m", module],
            environment=environment,
            log_path=log_path,
            directory=directory,
            death_signal=signal.SIGKILL,
        )
        self._process: Process | None = None

    @property
    def log_path(self) -> Path:
        """Where it logs."""
        return self._command.log_path

    @property
    def process(self) -> Process | None:
        """The process, None before the first start and after a stop."""
        return self._process

    async def start(self) -> None:
        """Starts the process and does not wait until it is ready."""
        self._process = Process(self._command)

    async def stop(self) -> None:
        """Has it drain, within a limit, and ends whatever it left behind."""
        if self._process:
            await self._process.stop(timeout_s=_DRAIN_TIMEOUT_S)
            self._process = None

    async def kill(self) -> None:
        """Ends it now, with every process of its session."""
        if self._process:
            await self._process.kill()
            self._process = None

    async def is_ready(self) -> bool:
        """True when it answers that it is ready."""
        return await get(self.port, "/ready") is not None


async def lag_of(port: int) -> int | None:
    """The records a service has still to read, None where it does not say."""
    text = await get(port, "/metrics")
    if text is None:
        return None
    families = text_string_to_metric_families(text)
    samples = [sample.value for family in families if family.name == _LAG for sample in family.samples]
    return int(sum(samples)) if samples else None


async def get(port: int, path: str) -> str | None:
    """The body of a 200 answer from the loopback interface, None for any other answer or none."""
    try:
        async with asyncio.timeout(_ANSWER_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            try:
                writer.write(f"GET {path} HTTP/1.0\r\nHost: {LOOPBACK}\r\n\r\n".encode())
                answer = await reader.read()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return None
    head, _, body = answer.decode(errors="replace").partition("\r\n\r\n")
    return body if " 200 " in head.partition("\r\n")[0] + " " else None
