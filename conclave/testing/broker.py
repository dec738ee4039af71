"""A simulated process's way to a broker in memory: conclave.runtime.broker's ports on conclave.testing.cluster.

    cluster = Cluster(loop, random.Random(seed), {"topic": 2})
    broker = MemoryBroker(cluster, Endpoint("voter-1"))       # of one simulated process

It behaves as aiokafka on Apache Kafka does where the runtime can tell: read_committed, transactions with epochs and
markers, commits that count a moment after they were confirmed, eager rebalances, sessions, and positions that start at
the committed offset.
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from contextvars import Context, copy_context
from functools import partial
from typing import Any

from conclave.errors import LostDependency
from conclave.runtime import broker
from conclave.runtime.broker import Membership, Rebalance
from conclave.runtime.record import Output, Record, Tp
from conclave.testing.cluster import Cluster
from conclave.testing.groups import Heartbeat, Joined, UnknownMember
from conclave.testing.log import StoredRecord
from conclave.testing.network import Endpoint, Request

_START_LIMIT_S = 10.0
_RETRY_S = 0.1


class MemoryBroker:
    """A simulated process's way to the cluster: conclave.runtime.broker.Broker."""

    def __init__(self, cluster: Cluster, endpoint: Endpoint) -> None:
        self.cluster, self.endpoint = cluster, endpoint

    def request(self, kind: Request, effect: Callable[[], Any]) -> "asyncio.Future[Any]":
        """What the cluster answers. Raises: LostDependency, Fenced."""
        return self.cluster.network.request(self.endpoint, kind, effect)

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

    def log_reader(self) -> broker.LogReader:
        """A reader without a group."""
        return MemoryLogReader(self)

    def group_reader(self, consumer_group: str) -> broker.GroupReader:
        """A reader of what a consumer group has come to."""
        return MemoryGroupReader(self, consumer_group)

    async def committed(
        self, consumer_group: str, partitions: Collection[Tp] | None = None
    ) -> dict[Tp, tuple[int, str]]:
        """Committed offset and metadata of each partition that has one. Raises: LostDependency."""
        found: dict[Tp, tuple[int, str]] = await self.request(
            Request.COMMITTED, lambda: self.cluster.committed(consumer_group, partitions)
        )
        return found


class MemoryConsumer:
    """conclave.runtime.broker.GroupConsumer. A task keeps its place in the group, a timer sends its heartbeats."""

    def __init__(
        self, way: MemoryBroker, group: str, session_s: float, max_poll_interval_s: float, instance_id: str | None
    ) -> None:
        self._way, self._cluster, self._group, self._instance_id = way, way.cluster, group, instance_id
        self._session_s, self._max_poll_interval_s = session_s, max_poll_interval_s
        self._topics: tuple[str, ...] = ()
        self._member_id, self._generation = "", -1
        self._assignment: tuple[Tp, ...] = ()
        self._positions: dict[Tp, int] = {}
        self._fetched_end: dict[Tp, int] = {}
        self._must_join = asyncio.Event()
        self._has_joined = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._next_beat: asyncio.TimerHandle | None = None
        self._context = Context()
        self._polled_at = 0.0

    async def start(self, topics: Sequence[str], rebalance: Rebalance) -> None:
        """Joins the group. Raises: LostDependency."""
        self._topics = tuple(topics)
        self._must_join.set()
        self._polled_at = self._cluster.loop.time()
        self._run(self._keep_place(rebalance), "coordination")
        self._context = copy_context()  # of this process: while it is frozen, it sends no heartbeat
        self._beat_later()
        try:
            async with asyncio.timeout(_START_LIMIT_S):
                await self._has_joined.wait()
        except TimeoutError:
            raise LostDependency("kafka", "the group could not be joined") from None

    async def poll(self, partitions: Collection[Tp], *, timeout_ms: int, max_records: int) -> list[Record]:
        """At most `max_records` records of these partitions; empty after `timeout_ms`."""
        loop = self._cluster.loop
        until = loop.time() + timeout_ms / 1000
        while True:
            self._polled_at = loop.time()
            records = self._read(partitions or self._assignment, max_records)
            left_s = until - loop.time()
            if records or left_s <= 0:
                return list(records)
            await self._cluster.changed(dict.fromkeys(tp.topic for tp in partitions), left_s)

    def _read(self, partitions: Collection[Tp], max_records: int) -> list[StoredRecord]:
        if self._cluster.network.is_away or self._way.endpoint.is_cut:
            return []
        grown: list[Tp] = []
        for tp in partitions:
            if tp not in self._assignment:
                continue
            last_stable = self._fetched_end[tp] = self._cluster.partitions[tp].last_stable
            if tp not in self._positions:
                self._positions[tp] = self._cluster.committed(self._group, [tp]).get(tp, (0, ""))[0]
            if self._positions[tp] < last_stable:
                grown.append(tp)
        if len(grown) > 1:
            grown.sort()
            self._cluster.rng.shuffle(grown)
        records: list[StoredRecord] = []
        for tp in grown:
            found, self._positions[tp] = self._cluster.partitions[tp].fetch(
                self._positions[tp], max_records - len(records)
            )
            records += found
        return records

    def touch(self) -> None:
        """Tells the group that this member is alive although it has no room to poll."""
        self._polled_at = self._cluster.loop.time()

    def seek(self, tp: Tp, offset: int) -> None:
        """The next record polled of `tp` is the one at `offset`. Raises: AssertionError for one that isn't assigned."""
        assert tp in self._assignment, f"no current assignment for partition {tp}"
        self._positions[tp] = offset

    async def position(self, tp: Tp) -> int:
        """The offset that will be polled next. Raises: LostDependency for a partition that isn't assigned or sought."""
        if tp not in self._positions:
            raise LostDependency("kafka", f"no position in partition {tp}")
        return self._positions[tp]

    def membership(self) -> Membership:
        """This member's id and generation."""
        return Membership(self._member_id, self._generation)

    async def is_member(self) -> bool:
        """True when the broker confirms this member in the group's current generation."""
        member_id, generation = self._member_id, self._generation
        try:
            answer = await self._way.request(
                Request.HEARTBEAT, lambda: self._cluster.group(self._group).heartbeat(member_id, generation)
            )
        except LostDependency:
            return False
        if answer is Heartbeat.OK:
            return True
        if answer is Heartbeat.UNKNOWN and member_id == self._member_id:
            self._member_id, self._generation = "", -1
        self._must_join.set()
        return answer is Heartbeat.REBALANCING

    def end_offset(self, tp: Tp) -> int | None:
        """The last stable offset of a partition, as of its latest fetch; None before the first."""
        assert tp in self._assignment, "Partition is not assigned"
        return self._fetched_end.get(tp)

    async def stop(self) -> None:
        """Leaves the group, unless it has an instance id that is to come back."""
        if self._next_beat is not None:
            self._next_beat.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        await self._leave()

    async def _leave(self) -> None:
        member_id, self._member_id, self._generation = self._member_id, "", -1
        if member_id and self._instance_id is None:
            try:
                await self._way.request(Request.LEAVE, lambda: self._cluster.group(self._group).remove(member_id))
            except LostDependency:
                return

    async def _keep_place(self, rebalance: Rebalance) -> None:
        while True:
            await self._must_join.wait()
            await rebalance.on_revoked(list(self._assignment))
            joined = await self._join()
            self._member_id, self._generation = joined.member_id, joined.generation
            self._assignment = joined.assignment
            self._positions.clear()
            self._fetched_end.clear()
            self._must_join.clear()
            self._has_joined.set()
            await rebalance.on_assigned(list(self._assignment))

    async def _join(self) -> Joined:
        while True:
            ask = partial(
                self._cluster.group(self._group).join,
                self._way.endpoint.name,
                self._member_id,
                self._topics,
                self._session_s,
                self._instance_id,
            )
            try:
                joined: Joined = await self._way.request(Request.JOIN, ask)
                return joined
            except UnknownMember:
                self._member_id = ""
            except LostDependency:
                await asyncio.sleep(_RETRY_S)

    def _run(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.append(task)
        self._way.endpoint.tasks.append(task)

    def _beat_later(self) -> None:
        self._next_beat = self._cluster.loop.call_later(self._session_s / 3, self._beat, context=self._context)

    def _beat(self) -> None:
        """A sign of life. A task for each, which sleeps in between, made of them a quarter of all callbacks."""
        if self._way.endpoint.is_cut:
            return
        if not self._member_id or (self._is_known() and not self._is_late()):
            self._beat_later()
        else:
            self._run(self._beat_in_doubt(), "heartbeat")

    async def _beat_in_doubt(self) -> None:
        """A heartbeat that may not arrive, or may be told more than that it was heard; or one that is the last."""
        if not self._is_known():
            await self.is_member()
        if self._is_late():
            await self._leave()
            self._must_join.set()
        self._beat_later()

    def _is_late(self) -> bool:
        """True for one that has not polled for so long that it leaves, unless it is to come back."""
        unpolled_s = self._cluster.loop.time() - self._polled_at
        return self._instance_id is None and unpolled_s > self._max_poll_interval_s

    def _is_known(self) -> bool:
        """True where a heartbeat would come to nothing but that its member is heard of; then it was, at once.

        Sent one by one, as requests, such heartbeats were three in five of all callbacks.
        """
        if not self._cluster.network.is_clear(self._way.endpoint, Request.HEARTBEAT):
            return False
        return self._cluster.group(self._group).heartbeat(self._member_id, self._generation) is Heartbeat.OK


class MemoryTransactionalProducer:
    """conclave.runtime.broker.TransactionalProducer. After any failure only `open` helps, as with aiokafka."""

    def __init__(self, way: MemoryBroker, transactional_id: str) -> None:
        self._way, self._cluster, self._id = way, way.cluster, transactional_id
        self._epoch: int | None = None
        self._batches: list[asyncio.Future[None]] | None = None  # of the open transaction

    async def open(self) -> None:
        """A new incarnation of the id. Raises: LostDependency."""
        self._epoch = self._batches = None
        self._epoch = await self._way.request(Request.OPEN, lambda: self._cluster.open(self._id, self._way.endpoint))

    async def begin(self) -> None:
        """Begins a transaction. Raises: LostDependency."""
        if self._epoch is None or self._batches is not None:
            raise LostDependency("kafka", "the producer is closed, or inside a transaction")
        self._batches = []

    async def send(self, outputs: Iterable[Output]) -> None:
        """Hands over records, a request for each partition. Raises: LostDependency."""
        batches = self._inside()
        of: dict[Tp, list[Output]] = {}
        for output in outputs:
            of.setdefault(self._cluster.place(output), []).append(output)
        for tp, batch in of.items():
            batches.append(self._request(Request.PRODUCE, self._cluster.produce, tp, batch))

    async def send_offsets(self, consumer_group: str, offsets: Mapping[Tp, tuple[int, str]]) -> None:
        """Makes offsets part of the transaction. Raises: Fenced, LostDependency."""
        self._inside()
        await self._request(Request.OFFSETS, self._cluster.add_offsets, consumer_group, dict(offsets))

    async def acknowledged(self) -> None:
        """Returns once the cluster has all that was sent. Raises: Fenced, LostDependency."""
        for batch in self._inside():
            await batch

    async def commit(self) -> None:
        """Commits once no batch is under way, whatever became of them. Raises: Fenced, LostDependency."""
        batches = self._inside()
        if batches:
            await asyncio.wait(batches)
        await self._request(Request.COMMIT, self._cluster.commit)
        self._batches = None

    async def close(self) -> None:
        """Lets go."""
        self._epoch = self._batches = None

    def _inside(self) -> "list[asyncio.Future[None]]":
        if self._epoch is None or self._batches is None:
            raise LostDependency("kafka", "outside any transaction")
        return self._batches

    def _request(self, kind: Request, effect: Callable[..., None], *args: object) -> "asyncio.Future[None]":
        epoch = self._epoch
        return self._way.request(kind, lambda: effect(self._id, epoch, *args))


class MemoryPlainProducer:
    """conclave.runtime.broker.PlainProducer."""

    def __init__(self, way: MemoryBroker) -> None:
        self._way = way

    async def start(self) -> None:
        """Connects. Raises: LostDependency."""
        await self._way.request(Request.METADATA, lambda: None)

    async def publish(self, outputs: Iterable[Output]) -> None:
        """Returns once the cluster has all `outputs`. Raises: LostDependency."""
        batch = list(outputs)
        await self._way.request(Request.PRODUCE, lambda: self._way.cluster.publish(batch))

    async def stop(self) -> None:
        """Nothing to close."""


class MemoryLogReader:
    """conclave.runtime.broker.LogReader."""

    def __init__(self, way: MemoryBroker) -> None:
        self._way, self._cluster = way, way.cluster
        self._positions: dict[Tp, int] = {}

    async def start(self) -> None:
        """Connects. Raises: LostDependency."""
        await self._way.request(Request.METADATA, lambda: None)

    async def partitions(self, topic: str) -> list[Tp]:
        """The partitions of a topic. Raises: LostDependency."""
        found: list[Tp] = await self._way.request(Request.METADATA, lambda: list(self._cluster.topic(topic)))
        return found

    def assign(self, positions: Mapping[Tp, int]) -> None:
        """Reads these partitions from these offsets on."""
        self._positions = dict(positions)

    async def begin_offsets(self, partitions: Collection[Tp]) -> dict[Tp, int]:
        """The first offset of each partition that is not deleted. Raises: LostDependency."""
        found: dict[Tp, int] = await self._way.request(
            Request.METADATA, lambda: {tp: self._cluster.partitions[tp].begin for tp in partitions}
        )
        return found

    async def end_offsets(self, partitions: Collection[Tp]) -> dict[Tp, int]:
        """The offset after the last stable one, of each partition. Raises: LostDependency."""
        found: dict[Tp, int] = await self._way.request(
            Request.METADATA, lambda: {tp: self._cluster.partitions[tp].last_stable for tp in partitions}
        )
        return found

    async def position(self, tp: Tp) -> int:
        """The offset that will be read next."""
        return self._positions[tp]

    async def poll(self, *, timeout_ms: int, max_records: int = 1000) -> list[Record]:
        """The next records of all assigned partitions; empty after `timeout_ms`."""
        records: list[Record] = []
        until = self._cluster.loop.time() + timeout_ms / 1000
        while True:
            if not self._cluster.network.is_away and not self._way.endpoint.is_cut:
                for tp, position in self._positions.items():
                    found, self._positions[tp] = self._cluster.partitions[tp].fetch(
                        position, max_records - len(records)
                    )
                    records += found
            left_s = until - self._cluster.loop.time()
            if records or left_s <= 0:
                return records
            await self._cluster.changed(dict.fromkeys(tp.topic for tp in self._positions), left_s)

    async def stop(self) -> None:
        """Nothing to close."""


class MemoryGroupReader:
    """conclave.runtime.broker.GroupReader."""

    def __init__(self, way: MemoryBroker, consumer_group: str) -> None:
        self._way, self._group = way, consumer_group

    async def start(self) -> None:
        """Connects. Raises: LostDependency."""
        await self._way.request(Request.METADATA, lambda: None)

    async def committed(self, partitions: Collection[Tp]) -> dict[Tp, tuple[int, str]]:
        """Committed offset and metadata of each partition that has one. Raises: LostDependency."""
        return await self._way.committed(self._group, partitions)

    async def num_members(self) -> int:
        """How many are in the group now. Raises: LostDependency."""
        found: int = await self._way.request(
            Request.METADATA, lambda: len(self._way.cluster.group(self._group).members)
        )
        return found

    async def stop(self) -> None:
        """Nothing to close."""
