"""A cluster, as the runtime's port has it."""

from collections.abc import Collection
from dataclasses import dataclass

from conclave.runtime import broker
from conclave.runtime.brokers import Brokers
from conclave.runtime.kafka.administering import Admin, GroupReader
from conclave.runtime.kafka.consuming import GroupConsumer, LogReader
from conclave.runtime.kafka.producing import PlainProducer, TransactionalProducer
from conclave.runtime.record import Tp


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

    def log_reader(self, *, follows: bool = False) -> broker.LogReader:
        """A reader without a group."""
        return LogReader(self.brokers, follows=follows)

    def group_reader(self, consumer_group: str) -> broker.GroupReader:
        """A reader of what a consumer group has come to."""
        return GroupReader(self.brokers, consumer_group)

    async def committed(
        self, consumer_group: str, partitions: Collection[Tp] | None = None
    ) -> dict[Tp, tuple[int, str]]:
        """Committed offset and metadata of each partition that has one. Raises: LostDependency."""
        async with Admin(self.brokers) as admin:
            return await admin.committed(consumer_group, partitions)
