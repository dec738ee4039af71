"""Publishing records: in transactions, and outside them."""

import asyncio
import contextlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import aiokafka.producer.sender as _sender
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import InvalidProducerEpoch, ProducerFenced
from aiokafka.structs import OffsetAndMetadata

from conclave.errors import Fenced, LostDependency, Rejected
from conclave.runtime.brokers import Brokers
from conclave.runtime.kafka.connecting import (
    CLOSE_S,
    LEAVE_S,
    LOST,
    REQUEST_TIMEOUT_MS,
    TIME_LIMIT_S,
    compression_of,
    connection_of,
    limited,
)
from conclave.runtime.kafka.partitions import partition_of
from conclave.runtime.limits import MAX_RECORD_BYTES, PRODUCER_BATCH_BYTES
from conclave.runtime.record import Output, Tp

# After a commit the broker answers CONCURRENT_TRANSACTIONS until its markers are written. aiokafka waits this long before
# it asks again; its own 20 ms would be the median of a hop (docs/decisions/0004).
_sender.BACKOFF_OVERRIDE = 0.002
_RETRY_MS = (
    5  # before a request is made again that the broker could not serve just then: most often a marker is under way
)
_PLAIN_BATCH_BYTES = 1 << 18  # what a client publishes at once is small; one record may be larger


class TransactionalProducer:
    """One transactional id. Opening it fences whoever held the id before, and ends their open transaction."""

    def __init__(self, brokers: Brokers | str, transactional_id: str) -> None:
        self._brokers = brokers
        self._transactional_id = transactional_id
        self._producer: AIOKafkaProducer | None = None
        self._sent: list[asyncio.Future[object]] = []

    async def open(self) -> None:
        """A new incarnation of the id. Raises: LostDependency."""
        await self.close()
        producer = AIOKafkaProducer(
            **connection_of(self._brokers),
            compression_type=compression_of(self._brokers),
            transactional_id=self._transactional_id,
            acks="all",
            transaction_timeout_ms=round(TIME_LIMIT_S * 1000),
            max_batch_size=PRODUCER_BATCH_BYTES,
            max_request_size=MAX_RECORD_BYTES,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            retry_backoff_ms=_RETRY_MS,
            partitioner=partition_of,
        )
        self._producer = producer
        await limited(producer.start())

    async def begin(self) -> None:
        """Begins a transaction. Raises: Fenced, LostDependency."""
        self._sent = []
        with self._told_apart() as producer:
            await producer.begin_transaction()

    async def send(self, outputs: Iterable[Output]) -> None:
        """Hands over records of the transaction. Raises: Fenced, LostDependency."""
        with self._told_apart() as producer:
            for output in outputs:
                future = await _send(producer, output)
                future.add_done_callback(_retrieve)
                self._sent.append(future)

    async def send_offsets(self, consumer_group: str, offsets: Mapping[Tp, tuple[int, str]]) -> None:
        """Makes offsets part of the transaction. Raises: Fenced, LostDependency."""
        structs = {TopicPartition(*tp): OffsetAndMetadata(*offset) for tp, offset in offsets.items()}
        with self._told_apart() as producer:
            await producer.send_offsets_to_transaction(structs, consumer_group)

    async def acknowledged(self) -> None:
        """Returns once the broker has every record sent since `begin`. Raises: Fenced, LostDependency."""
        with self._told_apart():
            for future in self._sent:
                await future

    async def commit(self) -> None:
        """Commits. It would succeed although a record was refused. Raises: Fenced, LostDependency."""
        with self._told_apart() as producer:
            await producer.commit_transaction()

    @contextmanager
    def _told_apart(self) -> Iterator[AIOKafkaProducer]:
        """The open producer; what it raises becomes Fenced or LostDependency."""
        if self._producer is None:
            raise LostDependency("kafka", "the producer is closed")
        try:
            yield self._producer
        except (ProducerFenced, InvalidProducerEpoch):
            raise Fenced(self._transactional_id) from None
        except LOST as error:
            raise LostDependency("kafka", repr(error)) from error

    async def close(self, limit_s: float | None = None) -> None:
        """Lets go of the connections, in 5 s at most. The broker ends an open transaction when the id is opened again."""
        producer, self._producer = self._producer, None
        if producer is not None:
            with contextlib.suppress(LostDependency, asyncio.InvalidStateError):
                await limited(producer.stop(), CLOSE_S if limit_s is None else min(limit_s, CLOSE_S))


class PlainProducer:
    """An idempotent producer outside any transaction: for clients, and for what a redo may repeat."""

    def __init__(self, brokers: Brokers | str) -> None:
        self._producer = AIOKafkaProducer(
            **connection_of(brokers),
            compression_type=compression_of(brokers),
            enable_idempotence=True,
            acks="all",
            max_batch_size=_PLAIN_BATCH_BYTES,
            max_request_size=MAX_RECORD_BYTES,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            partitioner=partition_of,
        )

    async def start(self) -> None:
        """Connects. Raises: LostDependency."""
        await limited(self._producer.start())

    async def publish(self, outputs: Iterable[Output]) -> None:
        """Returns once the broker has all `outputs`. Raises: LostDependency."""
        try:
            async with asyncio.timeout(TIME_LIMIT_S):
                for future in [await _send(self._producer, output) for output in outputs]:
                    await future
        except LOST as error:
            raise LostDependency("kafka", repr(error)) from error

    async def stop(self) -> None:
        """Closes the connections, in 10 s at most."""
        with contextlib.suppress(LostDependency):
            await limited(self._producer.stop(), LEAVE_S)


async def _send(producer: AIOKafkaProducer, output: Output) -> "asyncio.Future[object]":
    if output.size > MAX_RECORD_BYTES:
        raise Rejected("record", f"at most {MAX_RECORD_BYTES} bytes for {output.topic}", f"{output.size} bytes")
    headers = [(name, value or b"") for name, value in output.headers]
    key = b"" if output.key is None and output.value is None else output.key
    future: asyncio.Future[object] = await producer.send(
        output.topic, key=key, value=output.value, headers=headers, partition=output.partition
    )
    return future


def _retrieve(sent: "asyncio.Future[object]") -> None:
    """Takes note of a failure that nobody awaits any more, as after a fencing: asyncio would complain of it."""
    if not sent.cancelled():
        sent.exception()
