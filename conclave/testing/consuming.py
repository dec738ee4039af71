"""A member of a consumer group of the broker in memory."""

import asyncio
import contextlib
from collections.abc import Collection, Coroutine, Sequence
from contextvars import Context, copy_context
from functools import partial
from typing import Any

from conclave.errors import LostDependency
from conclave.runtime.broker import Membership, Rebalance
from conclave.runtime.record import Record, Tp
from conclave.testing.groups import Heartbeat, Joined, UnknownMember
from conclave.testing.log import StoredRecord
from conclave.testing.network import Request
from conclave.testing.way import Way

_START_LIMIT_S = 10.0
_RETRY_S = 0.1


class MemoryConsumer:
    """conclave.runtime.broker.GroupConsumer. A task keeps its place in the group, a timer sends its heartbeats."""

    def __init__(
        self, way: Way, group: str, session_s: float, max_poll_interval_s: float, instance_id: str | None
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

    def is_read_out(self, tp: Tp) -> bool:
        """True when all below `end_offset` was polled. What was not delivered of it are markers, and what was taken back."""
        end = self.end_offset(tp)
        return end is not None and self._positions.get(tp, -1) >= end

    async def stop(self, limit_s: float | None = None) -> None:
        """Leaves the group, unless it has an instance id that is to come back."""
        if self._next_beat is not None:
            self._next_beat.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
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
