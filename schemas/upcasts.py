"""How an event of a version before becomes one of the next: `UPCASTS`, a row for each event and break.

A row's function is pure: from the JSON object that its version allowed to the one that the next version wants. Contexts
are handed on by services that may be of either version, so equal objects must become equal objects. The codec walks from
row to row up to the version that the code knows; each is proved on the bytes recorded in schemas/released/.

A row may go once no log holds its version any more: 30 days (dead letters) after the last service that wrote it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

Document = dict[str, Any]
Convert = Callable[[Document], Document]


class Upcast(NamedTuple):
    """One step on: the event's name in the next version, and what its object becomes."""

    event: str
    convert: Convert


def as_it_was(document: Document) -> Document:
    """The same object: the next version takes it as it is."""
    return document


UPCASTS: dict[tuple[str, int], Upcast] = {
    ("PlanMade", 1): Upcast("PlanMade", as_it_was),
    ("SampleRequested", 1): Upcast("SampleRequested", as_it_was),
    ("PathDecoded", 1): Upcast("PathDecoded", as_it_was),
    ("PathFailed", 1): Upcast("PathFailed", as_it_was),
    ("TallyCarried", 1): Upcast("TallyCarried", as_it_was),
    ("StepDecided", 1): Upcast("StepDecided", as_it_was),
    ("PlanCarried", 1): Upcast("PlanCarried", as_it_was),
    ("AnswerReached", 1): Upcast("AnswerReached", as_it_was),
    ("RequestFailed", 1): Upcast("RequestFailed", as_it_was),
}


class Way(NamedTuple):
    """From an event as it was written to the newest that the rows lead to: its name and version, and the steps there."""

    event: str
    version: int
    steps: tuple[Convert, ...]

    def walk(self, document: Document) -> Document:
        """The object in the newest version. Raises: whatever a step makes of an object that its version did not allow."""
        for step in self.steps:
            document = step(document)
        return document


def way_from(event: str, version: int) -> Way:
    """The way from a version of an event to the newest one; without steps when no row leads on."""
    steps: list[Convert] = []
    while row := UPCASTS.get((event, version)):
        steps.append(row.convert)
        event, version = row.event, version + 1
    return Way(event, version, tuple(steps))
