"""A consumer group as its coordinator keeps it: members, sessions, generations, and who has which partition.

Rebalances are eager: all members join anew, and the partitions are dealt out round robin. A member that does not join
within the rebalance's time, or is not heard of for its session's time, is out.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from conclave.runtime.record import Tp
from conclave.testing.loop import WORLD


class Heartbeat(StrEnum):
    """What a coordinator answers to a member's sign of life."""

    OK = "ok"
    REBALANCING = "rebalancing"
    UNKNOWN = "unknown"  # no member, or of another generation


class UnknownMember(Exception):
    """Whoever asks to join under this id is not in the group any more."""


@dataclass(frozen=True, slots=True)
class Joined:
    """A member's place in a new generation."""

    member_id: str
    generation: int
    assignment: tuple[Tp, ...]


@dataclass(slots=True)
class Member:
    """One member."""

    member_id: str
    name: str  # of its process
    topics: tuple[str, ...]
    session_s: float
    deadline: float
    instance_id: str | None = None
    assignment: tuple[Tp, ...] = ()
    joining: "asyncio.Future[Joined] | None" = None


@dataclass(slots=True)
class ConsumerGroup:
    """See the module's docstring. `partitions_of` gives a topic's partitions."""

    loop: asyncio.AbstractEventLoop
    rng: random.Random
    partitions_of: Callable[[str], Sequence[Tp]]
    rebalance_s: float
    generation: int = 0
    is_rebalancing: bool = False
    members: dict[str, Member] = field(default_factory=dict)
    last_id_of: dict[str, str] = field(default_factory=dict)  # by process: the latest that it was known under
    _limit: asyncio.TimerHandle | None = None

    def join(
        self, name: str, member_id: str, topics: Sequence[str], session_s: float, instance_id: str | None = None
    ) -> "asyncio.Future[Joined]":
        """The member's place, once all have joined, or at once that of the member that had the instance id before (KIP-345).

        Raises: UnknownMember for an id that is out.
        """
        if member_id and member_id not in self.members:
            raise UnknownMember(member_id)
        before = None
        if not member_id:
            before = next(
                (each for each in self.members.values() if instance_id and each.instance_id == instance_id), None
            )
            member_id = f"{self.rng.getrandbits(32):08x}-{name}"
            self.members[member_id] = Member(member_id, name, tuple(topics), session_s, 0.0, instance_id)
            self._watch(self.members[member_id])
        self.last_id_of[name] = member_id
        member = self.members[member_id]
        self._heard_of(member)
        if before is not None and self._has_replaced(before, member):
            return self._placed(member)
        if member.joining is not None:
            member.joining.cancel()
        member.joining = self.loop.create_future()
        joining = member.joining
        self.rebalance()
        self._complete_if_all()
        return joining

    def _has_replaced(self, before: Member, member: Member) -> bool:
        """Puts the older holder of an instance id out. True where the younger has its partitions, False where all join anew."""
        del self.members[before.member_id]
        if before.joining is not None:
            before.joining.cancel()
        if self.is_rebalancing or before.topics != member.topics:
            return False
        member.assignment = before.assignment
        return True

    def _placed(self, member: Member) -> "asyncio.Future[Joined]":
        placed: asyncio.Future[Joined] = self.loop.create_future()
        placed.set_result(Joined(member.member_id, self.generation, member.assignment))
        return placed

    def heartbeat(self, member_id: str, generation: int) -> Heartbeat:
        """Takes note that the member lives."""
        member = self.members.get(member_id)
        if member is None or generation != self.generation:
            return Heartbeat.UNKNOWN
        self._heard_of(member)
        return Heartbeat.REBALANCING if self.is_rebalancing else Heartbeat.OK

    def remove(self, member_id: str) -> None:
        """The member leaves, or is put out."""
        member = self.members.pop(member_id, None)
        if member is None:
            return
        if member.joining is not None:
            member.joining.cancel()
        if self.members:
            self.rebalance()
            self._complete_if_all()

    def rebalance(self) -> None:
        """Has all members join anew."""
        if not self.is_rebalancing:
            self.is_rebalancing = True
            self._limit = self.loop.call_later(self.rebalance_s, self._complete, context=WORLD)

    def _complete_if_all(self) -> None:
        if self.is_rebalancing and all(member.joining is not None for member in self.members.values()):
            self._complete()

    def _complete(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None
        self.is_rebalancing = False
        for member in [member for member in self.members.values() if member.joining is None]:
            del self.members[member.member_id]
        self.generation += 1
        self._deal_out()
        for member in self.members.values():
            joining, member.joining = member.joining, None
            self._heard_of(member)
            if joining is not None and not joining.done():
                joining.set_result(Joined(member.member_id, self.generation, member.assignment))

    def _deal_out(self) -> None:
        members = sorted(self.members.values(), key=lambda member: member.member_id)
        dealt: dict[str, list[Tp]] = {member.member_id: [] for member in members}
        topics = sorted({topic for member in members for topic in member.topics})
        for turn, tp in enumerate(tp for topic in topics for tp in self.partitions_of(topic)):
            takers = [member for member in members if tp.topic in member.topics]
            dealt[takers[turn % len(takers)].member_id].append(tp)
        for member in members:
            member.assignment = tuple(dealt[member.member_id])

    def _heard_of(self, member: Member) -> None:
        member.deadline = self.loop.time() + member.session_s

    def _watch(self, member: Member) -> None:
        """Puts the member out once its session is over."""
        if self.members.get(member.member_id) is not member:
            return
        now = self.loop.time()
        if member.joining is None and member.deadline and now >= member.deadline:
            self.remove(member.member_id)
            return
        due = member.deadline if member.joining is None and member.deadline > now else now + member.session_s
        self.loop.call_at(due, self._watch, member, context=WORLD)
