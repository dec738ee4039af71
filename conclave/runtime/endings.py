"""The law of endings, in the one place that keeps it.

    What a service has read ends in exactly one completion, that is, in one transaction: in what its handler or joiner
    makes of it, or in its dead letters together with the events by which the handler or joiner gives it up.

So every sample launched has exactly one terminal event and every request accepted one answer or failure, whatever the
cause:

    a record that cannot be read                   its dead letter + Handler.unreadable
    a handler that rejects, or fails every time    its dead letter + Handler.give_up
    a joiner that rejects a group, or fails        the dead letters of all its records + Joiner.give_up
    an output that breaks its own schema           as if the handler or joiner had rejected what it made it from
    an output that is larger than a record         the same

A joiner that neither decides nor waits for a time of its own is held to the law by its deadlines (services/*/joiner.py).
"""

from collections.abc import Callable, Container, Sequence

import structlog
from msgspec import Struct, structs

from conclave.domain.joining import Decision
from conclave.runtime import dead_letters, metrics
from conclave.runtime.dead_letters import Cause
from conclave.runtime.groups import Group, records_of
from conclave.runtime.handler import Handler, Joiner
from conclave.runtime.record import Completion, Output, Record
from conclave.runtime.translation import Translator, Unpublishable
from schemas import flow
from schemas.codec import UnreadableEvent
from schemas.envelope import header
from schemas.events import Event

_AGAIN_HEADER = "conclave-given-up"  # of a carry: how often it has been given up as it is
_MOST_AGAIN, _MAX_DIGITS = 3, 4

log = structlog.get_logger(__name__)


class Ending(Struct, frozen=True):
    """What became of records: in a word, for metrics and logs, and as the completion that makes it so."""

    outcome: str
    completion: Completion
    carry: Output | None = None  # of the completion's outputs, what goes to the group that has ended


def given_up(joiner: Joiner, events: Sequence[Event], cause: Cause, now_ms: int, *, num_before: int = 0) -> Decision:
    """How a group ends that is given up: as its joiner says, but a carry that is itself at fault is not carried for ever.

    `num_before`: so often it has been given up as it is. A carry is all that tells later events that their group has had its
    end, so it takes as many faults to lose one. One that says less than before is another one: what failed once may have failed
    for what is no longer in it.
    """
    decision = joiner.give_up(events, cause, now_ms)
    is_lost = is_again(events, decision) and num_before >= _MOST_AGAIN
    return Decision() if is_lost and not decision.outputs else decision


def is_again(events: Sequence[Event], decision: Decision) -> bool:
    """True where all that a decision carries is the one event that the group was."""
    return decision.carry is not None and len(events) == 1 and events[0] == decision.carry


class Endings:
    """The endings of all that one service reads. Pure but for its translator's clock; see the module's docstring."""

    def __init__(self, translator: Translator, *, handler: Handler | None = None, joiner: Joiner | None = None) -> None:
        self._translator, self._handler, self._joiner = translator, handler, joiner

    def handled(self, record: Record, event: Event, outputs: Sequence[Event]) -> Ending:
        """The event has become `outputs`; or is given up, when one of them can't be published."""
        try:
            published = self._translator.outputs(record, outputs)
        except Unpublishable as error:
            return self.failed(record, event, error.cause)
        return Ending("handled", Completion((record.offset,), published))

    def failed(self, record: Record, event: Event, cause: Cause) -> Ending:
        """The event is given up."""
        handler = self._handler
        assert handler is not None
        arrival = self._translator.arrival(record)
        return self._given_up([record], cause, lambda: Decision(tuple(handler.give_up(event, arrival, cause))))

    def unreadable(self, record: Record, error: UnreadableEvent, *, known: Container[str] = ()) -> Ending:
        """The record is given up; without a dead letter where another service is the topic's guardian.

        `known` holds the keys of those that are being answered already: what claims to be one of them ends none.
        """
        cause, handler = dead_letters.cause_of(error), self._handler
        if flow.topic_row(record.topic).guardian != self._translator.service:
            return Ending(cause.reason.value, Completion((record.offset,)))

        def give_up() -> Decision:
            if handler is None:
                return Decision()
            said = handler.unreadable(record.value, self._translator.arrival(record), cause)
            return Decision(tuple(event for event in said if flow.key_of(event) not in known))

        return self._given_up([record], cause, give_up)

    def decided(self, group: Group, decision: Decision) -> Ending:
        """The group has had its effect; or is given up as a whole, when one of its outputs can't be published."""
        records = records_of(group)
        try:
            published = self._translator.outputs(records[0], decision.outputs, decision.carry)
        except Unpublishable as error:
            return self.group_failed(group, error.cause)
        kinds = ",".join(sorted({type(event).__name__ for event in decision.outputs})) or "absorbed"
        carry = published[-1] if decision.carry is not None else None
        return Ending(kinds, Completion(group.offsets, published), carry)

    def group_failed(self, group: Group, cause: Cause) -> Ending:
        """The whole group is given up."""
        joiner, events, now_ms = self._joiner, group.events, self._translator.clock_ms()
        assert joiner is not None
        records = records_of(group)
        num_before = _num_given_up(records[0]) if len(records) == 1 else 0

        def give_up() -> Decision:
            return given_up(joiner, events, cause, now_ms, num_before=num_before)

        return self._given_up(records, cause, give_up, number=num_before + 1 if len(records) == 1 else None)

    def _given_up(
        self, records: Sequence[Record], cause: Cause, give_up: Callable[[], Decision], *, number: int | None = None
    ) -> Ending:
        """`number`: what a carry is to say of how often it has been given up."""
        letters = self._translator.dead_letters(records, cause)
        for record in records:
            metrics.DEAD_LETTERS.labels(record.topic, cause.reason.value).inc()
        published, carry = self._last_words(records[0], give_up)
        if carry is not None and number is not None:
            carry = _marked(carry, number)
        offsets = tuple(record.offset for record in records)
        said = published if carry is None else (*published, carry)
        return Ending(cause.reason.value, Completion(offsets, (*letters, *said)), carry)

    def _last_words(self, record: Record, give_up: Callable[[], Decision]) -> tuple[tuple[Output, ...], Output | None]:
        """What giving up publishes, and beside that its carry. A fault in it is said, and costs no more than the event at fault."""
        try:
            decision = give_up()
        except Exception:
            log.exception("give_up_failed", topic=record.topic, partition=record.partition, offset=record.offset)
            return (), None
        published, refused = self._translator.publishable(record, decision.outputs, decision.carry)
        for error in refused:
            log.error("give_up_unpublishable", topic=record.topic, offset=record.offset, error=error.cause.error)
        carry = next((output for output in published if output.partition is not None), None)
        return tuple(output for output in published if output is not carry), carry


def _num_given_up(record: Record) -> int:
    """How often a carry has been given up as it is."""
    said = header(record.headers, _AGAIN_HEADER) or "0"
    return int(said) if said.isdecimal() and len(said) < _MAX_DIGITS else _MOST_AGAIN


def _marked(carry: Output, number: int) -> Output:
    return structs.replace(carry, headers=(*carry.headers, (_AGAIN_HEADER, str(number).encode())))
