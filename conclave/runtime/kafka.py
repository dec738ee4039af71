"""The only module that knows aiokafka: conclave.runtime.broker's ports on Apache Kafka, and the administration of topics.

Every call that talks to the broker is under a time limit: several of aiokafka's can wait for ever with the broker away.
Seven places reach into its private parts (pinned version, guarded by tests/integration/test_kafka_adapter.py): the sender's
backoff, the parser in C, a member's generation, its heartbeat, the touch that says that a full service is still alive,
the metadata of a reader, and the granting of rights (tests/integration/test_tls.py). conclave.runtime.kafka_headers is an eighth.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import aiokafka.producer.sender as _sender
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import (
    InvalidProducerEpoch,
    KafkaError,
    ProducerFenced,
    TopicAlreadyExistsError,
    for_code,
)
from aiokafka.protocol.admin import CreateAclsRequest
from aiokafka.record._crecords import default_records as _c_extension  # noqa: F401  (13 times slower without: fail at start)
from aiokafka.structs import OffsetAndMetadata

from conclave.errors import Fenced, LostDependency, Rejected
from conclave.runtime import broker, kafka_headers  # noqa: F401  (header names of any bytes: at import)
from conclave.runtime.broker import Membership, Rebalance
from conclave.runtime.brokers import Brokers, Compression
from conclave.runtime.kafka_partitions import partition_of
from conclave.runtime.limits import MAX_BATCH_BYTES, MAX_RECORD_BYTES, PRODUCER_BATCH_BYTES
from conclave.runtime.record import Output, Record, Tp
from conclave.runtime.rights import Operation, Resource, Right

# After a commit the broker answers CONCURRENT_TRANSACTIONS until its markers are written. aiokafka waits this long before
# it asks again; its own 20 ms would be the median of a hop (docs/decisions/0004).
_sender.BACKOFF_OVERRIDE = 0.002

# aiokafka logs every refused connection at error level, many a second. The runtime says once that the broker is away.
logging.getLogger("aiokafka").setLevel(logging.CRITICAL)

T = TypeVar("T")
TIME_LIMIT_S = 30.0  # of any one call: as long as a broker keeps a transaction open
_HEARTBEAT_S = 10.0  # a broker that is there answers at once; a lane tries again soon
_LEAVE_S = 10.0  # to leave a group in order, or to send what is buffered
_CLOSE_S = 5.0  # of connections that are given up anyway
_LOST = (KafkaError, OSError, TimeoutError, AssertionError)


def _connection(brokers: Brokers | str) -> dict[str, Any]:
    """What every client of aiokafka is told of where it connects, and how."""
    found = Brokers.of(brokers)
    told: dict[str, Any] = {
        "bootstrap_servers": found.servers,
        "security_protocol": found.security.value.upper(),
        "ssl_context": found.tls(),
    }
    if found.security.has_sasl:
        told |= {
            "sasl_mechanism": found.mechanism.value,
            "sasl_plain_username": found.username,
            "sasl_plain_password": found.password,
        }
    return told


def _compression(brokers: Brokers | str) -> str | None:
    """How aiokafka's producers are told to compress."""
    found = Brokers.of(brokers).compression
    return None if found is Compression.NONE else found.value


# Kafka's numbers for its words: org.apache.kafka.common.resource.ResourceType, PatternType, acl.AclOperation, AclPermissionType.
_RESOURCES = {Resource.TOPIC: 2, Resource.GROUP: 3, Resource.TRANSACTIONAL_ID: 5}
_OPERATIONS = {
    Operation.READ: 3, Operation.WRITE: 4, Operation.CREATE: 5, Operation.DESCRIBE: 8, Operation.DESCRIBE_CONFIGS: 10,
}  # fmt: skip
_LITERAL, _PREFIXED, _ALLOW, _ANY_HOST = 3, 4, 3, "*"


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, rebalance: Rebalance) -> None:
        self._rebalance = rebalance

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        await self._rebalance.on_revoked([Tp(*tp) for tp in revoked])

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        await self._rebalance.on_assigned([Tp(*tp) for tp in assigned])


class GroupConsumer:
    """A member of a consumer group. It never commits: offsets travel in the lanes' transactions."""

    def __init__(
        self,
        brokers: Brokers | str,
        group: str,
        client_id: str,
        *,
        session_timeout_ms: int,
        max_poll_interval_ms: int,
        instance_id: str | None,
    ) -> None:
        self._consumer = AIOKafkaConsumer(
            **_connection(brokers),
            group_id=group,
            client_id=client_id,
            group_instance_id=instance_id,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            partition_assignment_strategy=(RoundRobinPartitionAssignor,),
            session_timeout_ms=session_timeout_ms,
            heartbeat_interval_ms=max(100, session_timeout_ms // 5),
            rebalance_timeout_ms=30_000,
            request_timeout_ms=45_000,
            max_poll_interval_ms=max_poll_interval_ms,
            fetch_max_wait_ms=250,
            retry_backoff_ms=100,
            max_partition_fetch_bytes=MAX_BATCH_BYTES,
        )

    async def start(self, topics: Sequence[str], rebalance: Rebalance) -> None:
        """Connects and joins the group. Raises: LostDependency."""
        self._consumer.subscribe(list(topics), listener=_Listener(rebalance))
        await _limited(self._consumer.start())

    async def poll(self, partitions: Collection[Tp], *, timeout_ms: int, max_records: int) -> list[Record]:
        """At most `max_records` records of these partitions; empty after `timeout_ms`. Never cancel it.

        A `getmany` that is cancelled or fails switches aiokafka's check of the poll interval off for good.
        """
        wanted = [TopicPartition(*tp) for tp in partitions]
        batches = await self._consumer.getmany(*wanted, timeout_ms=timeout_ms, max_records=max_records)
        return [record for batch in batches.values() for record in batch]

    def touch(self) -> None:
        """Tells the group that this member is alive although it has no room to poll."""
        with self._consumer._subscription.fetch_context():
            pass

    def seek(self, tp: Tp, offset: int) -> None:
        """The next record polled of `tp` is the one at `offset`. What was prefetched before is dropped."""
        self._consumer.seek(TopicPartition(*tp), offset)

    async def position(self, tp: Tp) -> int:
        """The offset that will be polled next: transaction markers are stepped over. Raises: LostDependency."""
        return int(await _limited(self._consumer.position(TopicPartition(*tp))))

    def membership(self) -> Membership:
        """This member's id and generation."""
        coordinator = self._consumer._coordinator
        return Membership(coordinator.member_id, coordinator.generation)

    async def is_member(self) -> bool:
        """True when the broker confirms this member in the group's current generation."""
        try:
            return bool(await _limited(self._consumer._coordinator._do_heartbeat(), _HEARTBEAT_S))
        except LostDependency:
            return False

    def end_offset(self, tp: Tp) -> int | None:
        """The last stable offset of a partition, as of its latest fetch; None before the first."""
        offset = self._consumer.last_stable_offset(TopicPartition(*tp))
        return None if offset is None or offset < 0 else int(offset)

    async def stop(self) -> None:
        """Leaves the group, unless it has an instance id, and closes the connections, in 10 s at most."""
        with contextlib.suppress(LostDependency):
            await _limited(self._consumer.stop(), _LEAVE_S)


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
            **_connection(self._brokers),
            compression_type=_compression(self._brokers),
            transactional_id=self._transactional_id,
            acks="all",
            transaction_timeout_ms=30_000,
            max_batch_size=PRODUCER_BATCH_BYTES,
            max_request_size=MAX_RECORD_BYTES,
            request_timeout_ms=20_000,
            retry_backoff_ms=5,
            partitioner=partition_of,
        )
        self._producer = producer
        await _limited(producer.start())

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
        except _LOST as error:
            raise LostDependency("kafka", repr(error)) from error

    async def close(self) -> None:
        """Lets go of the connections, in 5 s at most. The broker ends an open transaction when the id is opened again."""
        producer, self._producer = self._producer, None
        if producer is not None:
            with contextlib.suppress(LostDependency, asyncio.InvalidStateError):
                await _limited(producer.stop(), _CLOSE_S)


class PlainProducer:
    """An idempotent producer outside any transaction: for clients, and for what a redo may repeat."""

    def __init__(self, brokers: Brokers | str) -> None:
        self._producer = AIOKafkaProducer(
            **_connection(brokers),
            compression_type=_compression(brokers),
            enable_idempotence=True,
            acks="all",
            max_batch_size=1 << 18,
            max_request_size=MAX_RECORD_BYTES,
            request_timeout_ms=20_000,
            partitioner=partition_of,
        )

    async def start(self) -> None:
        """Connects. Raises: LostDependency."""
        await _limited(self._producer.start())

    async def publish(self, outputs: Iterable[Output]) -> None:
        """Returns once the broker has all `outputs`. Raises: LostDependency."""
        try:
            async with asyncio.timeout(TIME_LIMIT_S):
                for future in [await _send(self._producer, output) for output in outputs]:
                    await future
        except _LOST as error:
            raise LostDependency("kafka", repr(error)) from error

    async def stop(self) -> None:
        """Closes the connections, in 10 s at most."""
        with contextlib.suppress(LostDependency):
            await _limited(self._producer.stop(), _LEAVE_S)


class LogReader:
    """Reads partitions without a group: the log as a log."""

    def __init__(self, brokers: Brokers | str) -> None:
        self._consumer = AIOKafkaConsumer(
            **_connection(brokers),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            request_timeout_ms=45_000,
            fetch_max_wait_ms=100,
            max_partition_fetch_bytes=MAX_BATCH_BYTES,
        )

    async def start(self) -> None:
        """Connects. Raises: LostDependency."""
        await _limited(self._consumer.start())

    async def partitions(self, topic: str) -> list[Tp]:
        """The partitions of a topic, in order; empty when there is no such topic."""
        await _limited(self._consumer._client.force_metadata_update())
        found = self._consumer.partitions_for_topic(topic) or set()
        return [Tp(topic, partition) for partition in sorted(found)]

    def assign(self, positions: Mapping[Tp, int]) -> None:
        """Reads these partitions from these offsets on."""
        self._consumer.assign([TopicPartition(*tp) for tp in positions])
        for tp, offset in positions.items():
            self._consumer.seek(TopicPartition(*tp), offset)

    async def begin_offsets(self, partitions: Collection[Tp]) -> dict[Tp, int]:
        """The first offset of each partition that the log still has."""
        found = await _limited(self._consumer.beginning_offsets([TopicPartition(*tp) for tp in partitions]))
        return {Tp(*tp): offset for tp, offset in found.items()}

    async def end_offsets(self, partitions: Collection[Tp]) -> dict[Tp, int]:
        """The offset after the last stable one, of each partition."""
        found = await _limited(self._consumer.end_offsets([TopicPartition(*tp) for tp in partitions]))
        return {Tp(*tp): offset for tp, offset in found.items()}

    async def position(self, tp: Tp) -> int:
        """The offset that will be read next: transaction markers are stepped over."""
        return int(await _limited(self._consumer.position(TopicPartition(*tp))))

    async def poll(self, *, timeout_ms: int, max_records: int = 1000) -> list[Record]:
        """The next records of all assigned partitions; empty after `timeout_ms`."""
        batches = await self._consumer.getmany(timeout_ms=timeout_ms, max_records=max_records)
        return [record for batch in batches.values() for record in batch]

    async def stop(self) -> None:
        """Closes the connections, in 10 s at most."""
        with contextlib.suppress(LostDependency):
            await _limited(self._consumer.stop(), _LEAVE_S)


class Admin:
    """Topics, committed offsets, and rights."""

    def __init__(self, brokers: Brokers | str) -> None:
        self._client = AIOKafkaAdminClient(**_connection(brokers), request_timeout_ms=20_000)

    async def __aenter__(self) -> "Admin":
        await _limited(self._client.start())
        return self

    async def __aexit__(self, *exc: object) -> None:
        with contextlib.suppress(LostDependency):
            await _limited(self._client.close(), _CLOSE_S)

    async def topics(self) -> dict[str, int]:
        """Every topic with its number of partitions."""
        described = await _limited(self._client.describe_topics())
        return {row["topic"]: len(row["partitions"]) for row in described}

    async def create_topic(self, name: str, partitions: int, replication: int, config: Mapping[str, str]) -> None:
        """Creates a topic; an existing one is left as it is. Raises: LostDependency."""
        topic = NewTopic(name, partitions, replication, topic_configs=dict(config))
        with contextlib.suppress(TopicAlreadyExistsError):
            response = await _limited(self._client.create_topics([topic]))
            for row in response.topic_errors:
                if row[1]:
                    raise for_code(row[1])(f"topic {name}: {row[2] if len(row) > 2 else ''}")

    async def topic_config(self, name: str) -> dict[str, str]:
        """A topic's settings, defaults included."""
        resource = ConfigResource(ConfigResourceType.TOPIC, name)
        responses = await _limited(self._client.describe_configs([resource]))
        return {entry[0]: entry[1] for response in responses for row in response.resources for entry in row[4]}

    async def grant(self, principal: str, right: Right) -> None:
        """Lets somebody do something, from any host. Raises: LostDependency, Rejected where that may not be altered here."""
        pattern = _PREFIXED if right.is_prefix else _LITERAL
        request = CreateAclsRequest(
            _RESOURCES[right.resource], right.name, pattern, principal, _ANY_HOST, _OPERATIONS[right.operation], _ALLOW
        )
        response = await _limited(self._client._send_to_controller(request))
        for code, message in response.creation_responses:
            if code:
                expected = "brokers with an authoriser, and to be one who may alter the cluster"
                raise Rejected("acls", expected, f"{for_code(code).__name__}: {message}")

    async def committed(self, group: str, partitions: Collection[Tp] | None = None) -> dict[Tp, tuple[int, str]]:
        """Committed offset and metadata of each partition that has one. Raises: LostDependency."""
        wanted = None if partitions is None else [TopicPartition(*tp) for tp in partitions]
        found = await _limited(self._client.list_consumer_group_offsets(group, partitions=wanted))
        return {Tp(*tp): (each.offset, each.metadata or "") for tp, each in found.items() if each.offset >= 0}

    async def num_members(self, group: str) -> int:
        """How many are in a consumer group; 0 where there is none. Raises: LostDependency."""
        responses = await _limited(self._client.describe_consumer_groups([group]))
        described = [row for response in responses for row in response.groups]
        for error_code, *_ in described:
            if error_code:
                raise LostDependency("kafka", repr(for_code(error_code)(f"group {group}")))
        return sum(len(row[5]) for row in described)


class GroupReader:
    """Reads what a consumer group has come to, on one connection that it keeps."""

    def __init__(self, brokers: Brokers | str, consumer_group: str) -> None:
        self._admin, self._group = Admin(brokers), consumer_group

    async def start(self) -> None:
        """Connects. Raises: LostDependency."""
        await self._admin.__aenter__()

    async def committed(self, partitions: Collection[Tp]) -> dict[Tp, tuple[int, str]]:
        """Committed offset and metadata of each partition that has one. Raises: LostDependency."""
        return await self._admin.committed(self._group, partitions)

    async def num_members(self) -> int:
        """How many are in the group now. Raises: LostDependency."""
        return await self._admin.num_members(self._group)

    async def stop(self) -> None:
        """Closes the connections."""
        await self._admin.__aexit__()


@dataclass(frozen=True, slots=True)
class Kafka:
    """An Apache Kafka cluster: conclave.runtime.broker.Broker."""

    brokers: Brokers | str

    def group_consumer(
        self,
        consumer_group: str,
        client_id: str,
        *,
        session_timeout_ms: int,
        max_poll_interval_ms: int,
        instance_id: str | None = None,
    ) -> broker.GroupConsumer:
        """A member-to-be of a consumer group."""
        return GroupConsumer(
            self.brokers,
            consumer_group,
            client_id,
            session_timeout_ms=session_timeout_ms,
            max_poll_interval_ms=max_poll_interval_ms,
            instance_id=instance_id,
        )

    def transactional_producer(self, transactional_id: str) -> broker.TransactionalProducer:
        """A holder-to-be of a transactional id."""
        return TransactionalProducer(self.brokers, transactional_id)

    def plain_producer(self) -> broker.PlainProducer:
        """A producer without transactions."""
        return PlainProducer(self.brokers)

    def log_reader(self) -> broker.LogReader:
        """A reader without a group."""
        return LogReader(self.brokers)

    def group_reader(self, consumer_group: str) -> broker.GroupReader:
        """A reader of what a consumer group has come to."""
        return GroupReader(self.brokers, consumer_group)

    async def committed(
        self, consumer_group: str, partitions: Collection[Tp] | None = None
    ) -> dict[Tp, tuple[int, str]]:
        """Committed offset and metadata of each partition that has one. Raises: LostDependency."""
        async with Admin(self.brokers) as admin:
            return await admin.committed(consumer_group, partitions)


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


async def _limited(work: Awaitable[T], limit_s: float = TIME_LIMIT_S) -> T:
    """The result of `work`. Raises: LostDependency after `limit_s`, or when the broker can't be reached."""
    try:
        async with asyncio.timeout(limit_s):
            return await work
    except _LOST as error:
        raise LostDependency("kafka", repr(error)) from error
