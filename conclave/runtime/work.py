"""What a service does with its events: it handles each by itself, or joins those of a group."""

from collections.abc import Callable
from dataclasses import dataclass

from conclave.runtime.handler import Handler, Joiner
from conclave.runtime.translation import RequestKey


@dataclass(frozen=True, slots=True)
class Handles:
    """Single events, concurrently. `request_key` gives the ids by which an event published twice is recognised."""

    handler: Handler
    request_key: RequestKey | None = None
    may_take: Callable[[], bool] = lambda: True  # False while `handler` could do nothing with more events
    drain: Callable[[], None] = lambda: None  # told once the service ends: what has not begun may raise PutBack
    # Told when what runs may be lost: before a rebalance, and (True) when the service is about to end. The handler may end what
    # it does with events that let another go on from there. What it returns tells whether all of that has been done.
    hand_on: Callable[[bool], Callable[[], bool]] = lambda is_last: lambda: True


@dataclass(frozen=True, slots=True)
class Joins:
    """Groups of events."""

    joiner: Joiner


Work = Handles | Joins
