"""What the runtime needs of a broker: the ports that conclave.runtime.kafka fills, and in memory conclave.testing.broker.

Every method that talks to the broker raises LostDependency when it is away, within a time limit of the implementation's
own. What was asked for then may or may not have happened.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from conclave.runtime.record import Output, Record, Tp


@dataclass(frozen=True, slots=True)
class Membership:
    """A consumer's place in its group: the same member in the next generation never lost its partitions in between."""

    member_id: str
    generation: int

    def follows(self, before: "Membership") -> bool:
        """Whether it is the same member's, one generation on."""
        return self.member_id == before.member_id and self.generation == before.generation + 1


@dataclass(frozen=True, slots=True)
class Rebalance:
    """What the consumer tells about its partitions. Both are awaited inside the rebalance: be quick."""

    on_revoked: Callable[[Collection[Tp]], Awaitable[None]]
    on_assigned: Callable[[Collection[Tp]], Awaitable[None]]


class GroupConsumer(Protocol):
    """A member of a consumer group, read_committed. It never commits: offsets travel in the lanes' transactions."""

    async def start(self, topics: Sequence[str], rebalance: Rebalance) -> None:
        """Connects and joins the group."""
        ...

    async def poll(self, partitions: Collection[Tp], *, timeout_ms: int, max_records: int) -> list[Record]:
        """At most `max_records` records of these partitions; empty after `timeout_ms`. Must not be cancelled."""
        ...

    def touch(self) -> None:
        """Tells the group that this member is alive although it has no room to poll."""
        ...

    def seek(self, tp: Tp, offset: int) -> None:
        """The next record polled of `tp` is the one at `offset`. What was prefetched before is dropped."""
        ...

    async def position(self, tp: Tp) -> int:
        """The offset that will be polled next: transaction markers are stepped over."""
        ...

    def membership(self) -> Membership:
        """This member's id and generation."""
        ...

    async def is_member(self) -> bool:
        """True when the broker confirms this member in the group's current generation. Raises nothing."""
        ...

    def end_offset(self, tp: Tp) -> int | None:
        """The last stable offset of a partition, as of its latest fetch; None before the first."""
        ...

    def is_read_out(self, tp: Tp) -> bool:
        """True when all below `end_offset` was polled. What was not delivered of it are markers, and what was taken back."""
        ...

    async def stop(self, limit_s: float | None = None) -> None:
        """Leaves the group and closes the connections, within `limit_s`, or a limit of its own."""
        ...


class TransactionalProducer(Protocol):
    """The holder of one transactional id. See conclave.runtime.transaction for the order of its steps.

    All but `open` and `close` raise Fenced when the id has a newer holder. After any failure only `open` helps.
    """

    async def open(self) -> None:
        """A new incarnation of the id: ends the former holder's open transaction, and fences it for good."""
        ...

    async def begin(self) -> None:
        """Begins a transaction."""
        ...

    async def send(self, outputs: Iterable[Output]) -> None:
        """Hands over records of the transaction. Returns before the broker has them: see `acknowledged`."""
        ...

    async def send_offsets(self, consumer_group: str, offsets: Mapping[Tp, tuple[int, str]]) -> None:
        """Makes offsets with their metadata part of the transaction."""
        ...

    async def acknowledged(self) -> None:
        """Returns once the broker has every record sent since `begin`. Raises when it refused one."""
        ...

    async def commit(self) -> None:
        """Commits all that the broker has of the transaction. It does not fail for records that were refused."""
        ...

    async def close(self, limit_s: float | None = None) -> None:
        """Lets go of the connections, within `limit_s`, or a limit of its own.

        The broker ends an open transaction when the id is opened again.
        """
        ...


class PlainProducer(Protocol):
    """An idempotent producer outside any transaction: for clients, and for what a redo may repeat."""

    async def start(self) -> None:
        """Connects."""
        ...

    async def publish(self, outputs: Iterable[Output]) -> None:
        """Returns once the broker has all `outputs`."""
        ...

    async def stop(self) -> None:
        """Closes the connections."""
        ...


class LogReader(Protocol):
    """Reads partitions without a group, read_committed: the log as a log."""

    async def start(self) -> None:
        """Connects."""
        ...

    async def partitions(self, topic: str) -> list[Tp]:
        """The partitions of a topic, in order; empty when there is no such topic."""
        ...

    def assign(self, positions: Mapping[Tp, int]) -> None:
        """Reads these partitions from these offsets on."""
        ...

    async def begin_offsets(self, partitions: Collection[Tp]) -> dict[Tp, int]:
        """The first offset of each partition that the log still has."""
        ...

    async def end_offsets(self, partitions: Collection[Tp]) -> dict[Tp, int]:
        """The offset after the last stable one, of each partition."""
        ...

    async def position(self, tp: Tp) -> int:
        """The offset that will be read next: transaction markers are stepped over."""
        ...

    async def poll(self, *, timeout_ms: int, max_records: int = 1000) -> list[Record]:
        """The next records of all assigned partitions; empty after `timeout_ms`."""
        ...

    async def stop(self) -> None:
        """Closes the connections."""
        ...


class GroupReader(Protocol):
    """Reads what a consumer group has come to, from outside of it."""

    async def start(self) -> None:
        """Connects."""
        ...

    async def committed(self, partitions: Collection[Tp]) -> dict[Tp, tuple[int, str]]:
        """Committed offset and metadata of each partition that has one."""
        ...

    async def num_members(self) -> int:
        """How many are in the group now."""
        ...

    async def stop(self) -> None:
        """Closes the connections."""
        ...


class Broker(Protocol):
    """A broker's address, and what can be made to talk to it. Making one of these connects nothing yet."""

    def group_consumer(
        self,
        consumer_group: str,
        client_id: str,
        *,
        session_timeout_ms: int,
        max_poll_interval_ms: int,
        instance_id: str | None = None,
    ) -> GroupConsumer:
        """A member-to-be of a consumer group.

        One with an `instance_id` takes over the place, partitions and all, of the member that had it before, without a rebalance,
        and keeps its place for the session's time after it has stopped.
        """
        ...

    def transactional_producer(self, transactional_id: str) -> TransactionalProducer:
        """A holder-to-be of a transactional id."""
        ...

    def plain_producer(self) -> PlainProducer:
        """A producer without transactions."""
        ...

    def log_reader(self, *, follows: bool = False) -> LogReader:
        """A reader without a group. `follows`: it is assigned its partitions once, and reads them for long."""
        ...

    def group_reader(self, consumer_group: str) -> GroupReader:
        """A reader of what a consumer group has come to."""
        ...

    async def committed(
        self, consumer_group: str, partitions: Collection[Tp] | None = None
    ) -> dict[Tp, tuple[int, str]]:
        """Committed offset and metadata of each partition that has one; of all partitions when None are given."""
        ...
