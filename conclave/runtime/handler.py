"""What a service gives the runtime: a handler of single events, or a joiner of groups. Neither ever touches Kafka."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from conclave.domain.joining import Decision, Wait
from schemas.events import Event


@dataclass(frozen=True, slots=True)
class Arrival:
    """What a handler may know of how an event came, besides the event."""

    event_id: str
    key: str  # the record's key, "" when it has none
    recorded_ms: int  # the record's timestamp
    now_ms: int
    coordinates: str  # topic/partition/offset, for ids that must be the same on a re-read


class Handler(Protocol):
    """Turns one event into events, concurrently with others. It never publishes, commits, sleeps or connects."""

    async def handle(self, event: Event, arrival: Arrival) -> Sequence[Event]:
        """The events that follow from `event`, in the order in which they are to be published.

        Raises: Retryable to be called again after a backoff, Rejected to have the event dead-lettered, LostDependency
        to be called again once the dependency is back, without an attempt being charged.
        """
        ...


class Joiner(Protocol):
    """Joins the events of a group. Synchronous and pure: see conclave.domain.joining for the rules."""

    def key(self, event: Event) -> str:
        """The group that an event belongs to."""
        ...

    def join(self, events: Sequence[Event], now_ms: int) -> Decision | Wait:
        """What becomes of the group now. Raises: Rejected to dead-letter the whole group."""
        ...

    def carry(self, events: Sequence[Event]) -> Event:
        """One carry that stands for all `events`, with no effect: the runtime asks for it when a group is open too long."""
        ...


class Broadcast(Protocol):
    """Hears every event of the broadcast topics, in every replica, best effort."""

    def hear(self, event: Event) -> None:
        """Takes note of `event`. Must not fail and not block."""
        ...
