"""The whole pipeline for a test: real broker, real database, and every service as a process that can be killed."""

import asyncio
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from conclave.local.machine.ports import free_port
from conclave.local.servers.kafka import KafkaBroker
from conclave.runtime.kafka import LogReader
from conclave.testing.waiting import until
from schemas import codec, flow
from schemas.events import Event
from schemas.flow import Topic

SESSION_TIMEOUT_S = 6


@dataclass
class ServiceProcess:
    """One `python -m services.<name>`."""

    name: str
    environment: dict[str, str]
    log: Path
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    _out: IO[bytes] | None = None

    def start(self) -> None:
        """Starts it on a port of its own."""
        self.port = free_port()
        self._out = self.log.open("ab")
        environment = {**os.environ, **self.environment, "CONCLAVE_HTTP_PORT": str(self.port)}
        command = [sys.executable, "-m", f"services.{self.name}"]
        self.process = subprocess.Popen(command, env=environment, stdout=self._out, stderr=self._out)

    def send(self, number: signal.Signals) -> None:
        """Sends it a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """Ends it as a crash would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)
        self._close()

    def stop(self, limit_s: float = 30.0) -> int:
        """Drains it; its exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        try:
            return self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
            raise
        finally:
            self._close()

    def _close(self) -> None:
        if self._out is not None:
            self._out.close()

    def is_ready(self) -> bool:
        """What /ready says."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ready", timeout=2) as response:
                return bool(response.status == 200)
        except urllib.error.HTTPError as error:
            error.close()
            return False
        except OSError:
            return False

    @property
    def is_running(self) -> bool:
        """True while the process lives."""
        return self.process is not None and self.process.poll() is None


@dataclass
class Pipeline:
    """Service processes over one broker and database."""

    broker: KafkaBroker
    dsn: str
    folder: Path
    settings: dict[str, str] = field(default_factory=dict)
    services: dict[str, ServiceProcess] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """The broker's address."""
        return str(self.broker.endpoint)

    @property
    def journal(self) -> Path:
        """Where the decoders note every sample that they start."""
        return self.folder / "decoded"

    def add(self, name: str, label: str | None = None) -> ServiceProcess:
        """One more process of a service, started."""
        environment = {
            "CONCLAVE_BOOTSTRAP_SERVERS": self.address,
            "CONCLAVE_POSTGRES_DSN": self.dsn,
            "CONCLAVE_SESSION_TIMEOUT_MS": str(SESSION_TIMEOUT_S * 1000),
            "CONCLAVE_ENGINE": "scripted",
            "CONCLAVE_MODEL": "script",
            "CONCLAVE_SCRIPTED_JOURNAL": str(self.journal),
            "CONCLAVE_DRAIN_S": "3",
            **self.settings,
        }
        service = ServiceProcess(name, environment, self.folder / f"{label or name}.log")
        self.services[label or name] = service
        service.start()
        return service

    async def start(self) -> None:
        """Every service once, until all are ready."""
        for row in flow.SERVICES:
            self.add(row.name)
        await self.until_ready()

    async def until_ready(self) -> None:
        """Returns when every service says that it is ready."""
        for label, service in self.services.items():
            await until(service.is_ready, limit_s=90, what=f"readiness of {label} ({service.log})")

    def stop(self) -> None:
        """Stops whatever still runs."""
        for service in self.services.values():
            if service.is_running:
                service.stop()
        self.services.clear()

    def decoded(self) -> Counter[str]:
        """How often each sample was started."""
        return Counter(self.journal.read_text().split()) if self.journal.exists() else Counter()


async def read_log(address: str, topics: Iterable[Topic | str]) -> list[tuple[str, Event | None, bytes | None]]:
    """Everything committed in these topics up to now: (topic, event or None, value)."""
    reader = LogReader(address)
    await reader.start()
    try:
        partitions = [tp for topic in topics for tp in await reader.partitions(str(topic))]
        ends = await reader.end_offsets(partitions)
        reader.assign(await reader.begin_offsets(partitions))
        found: list[tuple[str, Event | None, bytes | None]] = []
        async with asyncio.timeout(60):
            while any([await reader.position(tp) < ends[tp] for tp in partitions]):
                for record in await reader.poll(timeout_ms=200):
                    event = None
                    if not record.topic.endswith(flow.DEAD_LETTER_SUFFIX):
                        event = codec.read(record.topic, record.headers, record.value)
                    found.append((record.topic, event, record.value))
        return found
    finally:
        await reader.stop()
