"""Reading records: as a member of a consumer group, and without one."""

import contextlib
from collections.abc import Collection, Mapping, Sequence

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor

from conclave.errors import LostDependency
from conclave.runtime.broker import Membership, Rebalance
from conclave.runtime.brokers import Brokers
from conclave.runtime.kafka.connecting import (
    LEAVE_S,
    READ_TIMEOUT_MS,
    REBALANCE_TIMEOUT_MS,
    connection_of,
    limited,
)
from conclave.runtime.limits import MAX_BATCH_BYTES
from conclave.runtime.record import Record, Tp

_HEARTBEAT_S = 10.0  # a broker that is there answers at once; a lane tries again soon
# That a broker holds a fetch back until there is something, which comes at once. What else the connection is asked for waits
# as long, such as other partitions after a rebalance; who follows asks for nothing else.
_MEMBER_WAIT_MS, _READER_WAIT_MS, _FOLLOWER_WAIT_MS = 250, 100, 1000
_RETRY_MS = 100  # before a request of a member's is made again


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
            **connection_of(brokers),
            group_id=group,
            client_id=client_id,
            group_instance_id=instance_id,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            partition_assignment_strategy=(RoundRobinPartitionAssignor,),
            session_timeout_ms=session_timeout_ms,
            heartbeat_interval_ms=max(100, session_timeout_ms // 5),
            rebalance_timeout_ms=REBALANCE_TIMEOUT_MS,
            request_timeout_ms=READ_TIMEOUT_MS,
            max_poll_interval_ms=max_poll_interval_ms,
            fetch_max_wait_ms=_MEMBER_WAIT_MS,
            retry_backoff_ms=_RETRY_MS,
            max_partition_fetch_bytes=MAX_BATCH_BYTES,
        )

    async def start(self, topics: Sequence[str], rebalance: Rebalance) -> None:
        """Connects and joins the group. Raises: LostDependency."""
        self._consumer.subscribe(list(topics), listener=_Listener(rebalance))
        await limited(self._consumer.start())

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
        return int(await limited(self._consumer.position(TopicPartition(*tp))))

    def membership(self) -> Membership:
        """This member's id and generation."""
        coordinator = self._consumer._coordinator
        return Membership(coordinator.member_id, coordinator.generation)

    async def is_member(self) -> bool:
        """True when the broker confirms this member in the group's current generation."""
        try:
            return bool(await limited(self._consumer._coordinator._do_heartbeat(), _HEARTBEAT_S))
        except LostDependency:
            return False

    def end_offset(self, tp: Tp) -> int | None:
        """The last stable offset of a partition, as of its latest fetch; None before the first."""
        offset = self._consumer.last_stable_offset(TopicPartition(*tp))
        return None if offset is None or offset < 0 else int(offset)

    def is_read_out(self, tp: Tp) -> bool:
        """True when all below `end_offset` was polled. What was not delivered of it are markers, and what was taken back."""
        end, assigned = self.end_offset(tp), self._consumer._subscription.subscription.assignment
        # The public `position` waits where there is none yet.
        state = assigned and assigned.state_value(TopicPartition(*tp))
        return end is not None and bool(state and state.has_valid_position and state.position >= end)

    async def stop(self, limit_s: float | None = None) -> None:
        """Leaves the group, unless it has an instance id, and closes the connections, in 10 s at most."""
        with contextlib.suppress(LostDependency):
            await limited(self._consumer.stop(), LEAVE_S if limit_s is None else min(limit_s, LEAVE_S))


class LogReader:
    """Reads partitions without a group: the log as a log. `follows`: the same ones for long, most often their end."""

    def __init__(self, brokers: Brokers | str, *, follows: bool = False) -> None:
        self._consumer = AIOKafkaConsumer(
            **connection_of(brokers),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            request_timeout_ms=READ_TIMEOUT_MS,
            fetch_max_wait_ms=_FOLLOWER_WAIT_MS if follows else _READER_WAIT_MS,
            max_partition_fetch_bytes=MAX_BATCH_BYTES,
        )

    async def start(self) -> None:
        """Connects. Raises: LostDependency."""
        await limited(self._consumer.start())

    async def partitions(self, topic: str) -> list[Tp]:
        """The partitions of a topic, in order; empty when there is no such topic."""
        await limited(self._consumer._client.force_metadata_update())
        found = self._consumer.partitions_for_topic(topic) or set()
        return [Tp(topic, partition) for partition in sorted(found)]

    def assign(self, positions: Mapping[Tp, int]) -> None:
        """Reads these partitions from these offsets on."""
        self._consumer.assign([TopicPartition(*tp) for tp in positions])
        for tp, offset in positions.items():
            self._consumer.seek(TopicPartition(*tp), offset)

    async def begin_offsets(self, partitions: Collection[Tp]) -> dict[Tp, int]:
        """The first offset of each partition that the log still has."""
        found = await limited(self._consumer.beginning_offsets([TopicPartition(*tp) for tp in partitions]))
        return {Tp(*tp): offset for tp, offset in found.items()}

    async def end_offsets(self, partitions: Collection[Tp]) -> dict[Tp, int]:
        """The offset after the last stable one, of each partition."""
        found = await limited(self._consumer.end_offsets([TopicPartition(*tp) for tp in partitions]))
        return {Tp(*tp): offset for tp, offset in found.items()}

    async def position(self, tp: Tp) -> int:
        """The offset that will be read next: transaction markers are stepped over."""
        return int(await limited(self._consumer.position(TopicPartition(*tp))))

    async def poll(self, *, timeout_ms: int, max_records: int = 1000) -> list[Record]:
        """The next records of all assigned partitions; empty after `timeout_ms`."""
        batches = await limited(self._consumer.getmany(timeout_ms=timeout_ms, max_records=max_records))
        return [record for batch in batches.values() for record in batch]

    async def stop(self) -> None:
        """Closes the connections, in 10 s at most."""
        with contextlib.suppress(LostDependency):
            await limited(self._consumer.stop(), LEAVE_S)
