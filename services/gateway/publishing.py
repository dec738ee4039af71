"""The gateway's producer: what a client sends becomes an event in the log."""

import asyncio
import time
import uuid
from dataclasses import dataclass
from typing import Protocol

from conclave.errors import LostDependency
from conclave.runtime.broker import Broker, PlainProducer
from conclave.runtime.record import Output, output_of
from schemas.events import Event


@dataclass(eq=False)
class NotSent(LostDependency):
    """The log was not reached: it has nothing of the event, and will not have it."""


class Log(Protocol):
    """Where the gateway's events go. Raises LostDependency, and but for NotSent the log may have the event all the same."""

    async def publish(self, event: Event, *, event_id: str | None = None, traceparent: str | None = None) -> None: ...


class LogWriter:
    """Publishes events. It connects when it first has to, and anew after a failure: a gateway starts without a broker."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._producer: PlainProducer | None = None
        self._connecting = asyncio.Lock()
        self._failed = (0, "")  # how many tries to connect, and why the latest one

    async def publish(self, event: Event, *, event_id: str | None = None, traceparent: str | None = None) -> None:
        """Returns once the broker has the event. Raises: NotSent; LostDependency, and it may have it all the same."""
        output = output_of(
            event,
            service="gateway",
            event_id=event_id or uuid.uuid4().hex,
            parent=traceparent,
            now_ms=time.time_ns() // 1_000_000,
        )
        await self.publish_raw(output)

    async def publish_raw(self, output: Output) -> None:
        """Returns once the broker has this record, whatever it holds. Raises: as `publish`."""
        producer = await self._connected()
        try:
            await producer.publish([output])
        except LostDependency:
            await self._let_go(producer)
            raise

    async def close(self) -> None:
        """Closes the connections."""
        if self._producer is not None:
            await self._let_go(self._producer)

    async def _connected(self) -> PlainProducer:
        """The producer. Who waited for a try that failed makes none of its own: else each of many would wait for all before it."""
        num_failed, _ = self._failed
        async with self._connecting:
            if self._producer is None:
                if self._failed[0] > num_failed:
                    raise NotSent("kafka", self._failed[1])
                self._producer = await self._connect()
            return self._producer

    async def _connect(self) -> PlainProducer:
        producer = self._broker.plain_producer()
        try:
            await producer.start()
        except LostDependency as error:
            await producer.stop()
            self._failed = (self._failed[0] + 1, error.why)
            raise NotSent(error.dependency, error.why) from error
        except asyncio.CancelledError:
            await producer.stop()
            raise
        return producer

    async def _let_go(self, producer: PlainProducer) -> None:
        """Others that publish with it get the same error and ask for a new one."""
        if self._producer is producer:
            self._producer = None
            await producer.stop()
