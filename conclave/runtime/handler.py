"""What a service gives the runtime: a handler of single events, or a joiner of groups. Neither ever touches Kafka.

Both also say how what they are asked to do ends when it is given up: see conclave.runtime.endings for the law.
"""

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from conclave.domain.joining import Decision, Wait
from conclave.runtime.dead_letters import Cause
from schemas.events import Event


class Arrival(Struct, frozen=True):
    """What a handler may know of how an event came, besides the event."""

    event_id: str
    key: str  # the record's key, "" when it has none
    recorded_ms: int  # the record's timestamp
    now_ms: int
    coordinates: str  # topic/partition/offset, for ids that must be the same on a re-read
    source: str = ""  # CloudEvents attributes, "" when not given
    subject: str = ""


class Handler(Protocol):
    """Turns one event into events, concurrently with others. It never publishes, commits, sleeps or connects."""

    async def handle(self, event: Event, arrival: Arrival) -> Sequence[Event]:
        """The events that follow from `event`, in the order in which they are to be published.

        Raises: Retryable to be called again after a backoff, Rejected to have the event given up at once, LostDependency
        to be called again once the dependency is back, without an attempt being charged.
        """
        ...

    def give_up(self, event: Event, arrival: Arrival, cause: Cause) -> Sequence[Event]:
        """The events that end what waits for `event`, published along with its dead letter. Small, and it must not fail."""
        ...

    def unreadable(self, value: bytes | None, arrival: Arrival, cause: Cause) -> Sequence[Event]:
        """The same for a record that holds no event: what its key or its `value` still tells whom to answer."""
        ...


class Joiner(Protocol):
    """Joins the events of a group. Synchronous and pure: see conclave.domain.joining for the rules."""

    def key(self, event: Event) -> str:
        """The group that an event belongs to."""
        ...

    def join(self, events: Sequence[Event], now_ms: int) -> Decision | Wait:
        """What becomes of the group now. Raises: Rejected to have the whole group given up."""
        ...

    def carry(self, events: Sequence[Event]) -> Event:
        """One carry that stands for all `events`, with no effect: the runtime asks for it when a group is open too long."""
        ...

    def give_up(self, events: Sequence[Event], cause: Cause, now_ms: int) -> Decision:
        """How the group ends now that all of it is dead-lettered: what tells others, and a carry that absorbs late events.

        Small, and it must not fail. A group that has had its end gets no second one.
        """
        ...


class Listener(Protocol):
    """Hears every event of the broadcast topics, in every replica, best effort."""

    def hear(self, event: Event) -> None:
        """Takes note of `event`. Must not fail and not block."""
        ...
