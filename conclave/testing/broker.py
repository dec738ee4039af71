"""A simulated process's way to a broker in memory: conclave.runtime.broker's ports on conclave.testing.cluster.

    cluster = Cluster(loop, random.Random(seed), {"topic": 2})
    broker = MemoryBroker(cluster, Endpoint("voter-1"))       # of one simulated process

It behaves as aiokafka on Apache Kafka does where the runtime can tell: read_committed, transactions with epochs and
markers, commits that count a moment after they were confirmed, eager rebalances, sessions, and positions that start at
the committed offset.
"""

from conclave.runtime import broker
from conclave.testing.consuming import MemoryConsumer
from conclave.testing.producing import MemoryPlainProducer, MemoryTransactionalProducer
from conclave.testing.reading import MemoryGroupReader, MemoryLogReader
from conclave.testing.way import Way


class MemoryBroker(Way):
    """A simulated process's way to the cluster as its broker: conclave.runtime.broker.Broker."""

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
        return MemoryConsumer(self, consumer_group, session_timeout_ms / 1000, max_poll_interval_ms / 1000, instance_id)

    def transactional_producer(self, transactional_id: str) -> broker.TransactionalProducer:
        """A holder-to-be of a transactional id."""
        return MemoryTransactionalProducer(self, transactional_id)

    def plain_producer(self) -> broker.PlainProducer:
        """A producer without transactions."""
        return MemoryPlainProducer(self)

    def log_reader(self, *, follows: bool = False) -> broker.LogReader:
        """A reader without a group."""
        return MemoryLogReader(self)

    def group_reader(self, consumer_group: str) -> broker.GroupReader:
        """A reader of what a consumer group has come to."""
        return MemoryGroupReader(self, consumer_group)
