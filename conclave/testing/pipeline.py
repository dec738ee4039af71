"""The whole pipeline over a real broker and database, with every service as a process that can be killed."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from conclave.local import probe
from conclave.local.machine.ports import free_port
from conclave.local.servers.kafka import KafkaBroker
from conclave.local.service import ServiceProcess
from conclave.runtime.brokers import Brokers
from conclave.runtime.kafka import LogReader
from conclave.testing.waiting import until_async
from schemas import codec, flow
from schemas.events import Event
from schemas.flow import Topic

SESSION_TIMEOUT_S = 6
_SHOWN_OF_A_LOG = 3000  # characters


@dataclass
class Pipeline:
    """Service processes over one broker and database."""

    broker: KafkaBroker
    dsn: str
    folder: Path
    settings: dict[str, str] = field(default_factory=dict)
    own_settings: Callable[[str], Mapping[str, str]] = lambda service: {}
    services: dict[str, ServiceProcess] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """The broker's address."""
        return str(self.broker.endpoint)

    @property
    def journal(self) -> Path:
        """Where the decoders note every sample that they start."""
        return self.folder / "decoded"

    async def add(self, name: str, label: str | None = None) -> ServiceProcess:
        """One more process of a service, started on a port of its own."""
        environment = {
            **os.environ,
            "CONCLAVE_BOOTSTRAP_SERVERS": self.address,
            "CONCLAVE_POSTGRES_DSN": self.dsn,
            "CONCLAVE_SESSION_TIMEOUT_MS": str(SESSION_TIMEOUT_S * 1000),
            "CONCLAVE_ENGINE": "scripted",
            "CONCLAVE_MODEL": "script",
            "CONCLAVE_SCRIPTED_JOURNAL": str(self.journal),
            "CONCLAVE_DRAIN_S": "3",
            "CONCLAVE_GATEWAY_PORT": "0",
            "CONCLAVE_INSTANCE_ID": label or name,
            **self.settings,
            **self.own_settings(name),
        }
        port = free_port(avoid=frozenset(each.port for each in self.services.values()))
        service = ServiceProcess(
            label or name,
            flow.service_row(name).module,
            port=port,
            environment=environment | {"CONCLAVE_HTTP_PORT": str(port)},
            log_path=self.folder / f"{label or name}.log",
            directory=Path.cwd(),
        )
        self.services[service.name] = service
        await service.start()
        return service

    @asynccontextmanager
    async def running(self, *, limit_s: float = 90.0) -> AsyncIterator[Self]:
        """Every service once, all ready; whatever runs at the end is stopped."""
        try:
            for name in flow.SERVICES:
                await self.add(name)
            await self.until_ready(limit_s=limit_s)
            yield self
        finally:
            await self.stop()

    async def until_ready(self, *, limit_s: float = 90.0) -> None:
        """Returns when every service says that it is ready. Raises: AssertionError, with what one that is not says of itself."""
        for label, service in self.services.items():
            try:
                await until_async(service.is_ready, limit_s=limit_s, what=f"readiness of {label}")
            except AssertionError as error:
                said = (await probe.readiness(service.url)).body
                logged = service.log_path.read_text()[-_SHOWN_OF_A_LOG:]
                raise AssertionError(f"{error}: {said}\n{service.log_path} ends with\n{logged}") from None

    async def stop(self) -> None:
        """Stops whatever still runs, frozen or not."""
        for service in self.services.values():
            service.send(signal.SIGCONT)
            await service.stop()
        self.services.clear()

    def decoded(self) -> Counter[str]:
        """How often each sample was started."""
        return Counter(self.journal.read_text().split()) if self.journal.exists() else Counter()


async def read_log(
    address: Brokers | str, topics: Iterable[Topic | str]
) -> list[tuple[str, Event | None, bytes | None]]:
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
