"""Handlers, joiners and a database that fail now and then, as a seed draws: what is given up must end all the same."""

import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from msgspec import structs

from conclave.domain.joining import Decision, Wait
from conclave.domain.recorded import RecordedEvent
from conclave.errors import LostDependency, Rejected, Retryable
from conclave.runtime.dead_letters import Cause
from conclave.runtime.handler import Arrival, Handler, Joiner
from conclave.testing import events as made
from schemas.events import Event
from schemas.values import MAX_TEXT_CHARS

_FAILURES: tuple[Exception, ...] = (
    LostDependency("engine", "planted"),
    Retryable("a planted failure", "it passes"),
    RuntimeError("planted"),
    Rejected("$", "something else", "planted"),
)
_UNPUBLISHABLE_SHARE = 0.2  # of the failures
_NO_EVENT = cast("Event", object())  # what no record can hold
_LONG = "\1" * MAX_TEXT_CHARS  # six times as many bytes in JSON
_TOO_LARGE = structs.replace(made.decoded(made.context(), 0, 1, "4"), text=_LONG, reasoning=_LONG)


@dataclass(frozen=True, slots=True)
class UnsteadyHandler:
    """A handler that fails with probability `failing`: before it does its work, or in that what it says can't be published."""

    handler: Handler
    rng: random.Random
    failing: float

    async def handle(self, event: Event, arrival: Arrival) -> Sequence[Event]:
        """What the handler makes of it. Raises: anything."""
        if self.rng.random() < self.failing:
            if self.rng.random() < _UNPUBLISHABLE_SHARE:
                return [*await self.handler.handle(event, arrival), self.rng.choice((_NO_EVENT, _TOO_LARGE))]
            raise self.rng.choice(_FAILURES)
        return await self.handler.handle(event, arrival)

    def give_up(self, event: Event, arrival: Arrival, cause: Cause) -> Sequence[Event]:
        """What the handler says; with something that can't be published, now and then, which costs no more than itself."""
        said = self.handler.give_up(event, arrival, cause)
        return [*said, self.rng.choice((_NO_EVENT, _TOO_LARGE))] if self.rng.random() < self.failing else said

    def unreadable(self, value: bytes | None, arrival: Arrival, cause: Cause) -> Sequence[Event]:
        """What the handler says."""
        return self.handler.unreadable(value, arrival, cause)


@dataclass(frozen=True, slots=True)
class UnsteadyJoiner:
    """A joiner that fails with probability `failing`: once a group, as nothing may fail for ever, and when it carries one."""

    joiner: Joiner
    rng: random.Random
    failing: float
    failed: set[str]  # keys of groups, shared by all processes of the service

    def key(self, event: Event) -> str:
        """What the joiner says."""
        return self.joiner.key(event)

    def join(self, events: Sequence[Event], now_ms: int) -> Decision | Wait:
        """What the joiner decides. Raises: anything."""
        key = self.joiner.key(events[0])
        if key not in self.failed and self.rng.random() < self.failing:
            self.failed.add(key)
            if self.rng.random() < _UNPUBLISHABLE_SHARE:
                return Decision((_NO_EVENT,))
            raise self.rng.choice(_FAILURES[2:])
        return self.joiner.join(events, now_ms)

    def carry(self, events: Sequence[Event]) -> Event:
        """What the joiner says. Raises: anything."""
        if self.rng.random() < self.failing:
            raise self.rng.choice(_FAILURES[2:])
        return self.joiner.carry(events)

    def give_up(self, events: Sequence[Event], cause: Cause, now_ms: int) -> Decision:
        """What the joiner says."""
        return self.joiner.give_up(events, cause, now_ms)


def is_poison(event: RecordedEvent) -> bool:
    """True for one event in six: a database that refuses some takes none of these."""
    return zlib.crc32(event.event_id.encode()) % 6 == 0
