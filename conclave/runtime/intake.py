"""From a record to an event, and from results to the records that are published for them. No I/O."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from conclave.runtime import dead_letters, metrics
from conclave.runtime.dead_letters import Cause, Reason
from conclave.runtime.handler import Arrival
from conclave.runtime.lane import Completion
from conclave.runtime.record import Record, coordinates, output_of
from schemas import cloudevents, codec
from schemas.envelope import header
from schemas.events import Event
from schemas.ids import derived_event_id

# A record's own bytes plus what the client's batch adds to them stay below the producer's request limit.
MAX_OUTPUT_BYTES = 1_400_000

RequestKey = Callable[[Event, Arrival], str | None]


@dataclass(frozen=True, slots=True)
class Publisher:
    """Makes the outputs of one service: ids derived from the causing event, trace context handed on."""

    service: str
    clock_ms: Callable[[], int]

    def read(self, record: Record) -> Event:
        """The event in a record. Raises: UnreadableEvent, naming the field."""
        return codec.read(record.topic, record.headers, record.value)

    def arrival(self, record: Record) -> Arrival:
        """How the record came."""
        key = (record.key or b"").decode("utf-8", "replace")
        return Arrival(event_id(record), key, record.timestamp, self.clock_ms(), coordinates(record))

    def complete(
        self, cause: Record, offsets: tuple[int, ...], events: Iterable[Event], carry: Event | None = None
    ) -> Completion:
        """The completion that publishes `events` (and `carry`, to the cause's own partition) and finishes `offsets`."""
        parent, cause_id, now_ms = attribute(cause, "traceparent"), event_id(cause), self.clock_ms()
        outputs = [
            output_of(
                event,
                service=self.service,
                event_id=derived_event_id(self.service, cause_id, type(event).__name__, index),
                parent=parent,
                now_ms=now_ms,
                partition=cause.partition if event is carry else None,
            )
            for index, event in enumerate((*events, carry) if carry is not None else events)
        ]
        too_large = next((output for output in outputs if output.size > MAX_OUTPUT_BYTES), None)
        if too_large is not None:
            error = f"an output for {too_large.topic} of {too_large.size} bytes; at most {MAX_OUTPUT_BYTES}"
            return self.give_up([cause], Cause(Reason.OUTPUT_TOO_LARGE, error), offsets=offsets)
        return Completion(offsets, tuple(outputs))

    def give_up(
        self,
        records: Iterable[Record],
        cause: Cause,
        *,
        events: Iterable[Event] = (),
        offsets: tuple[int, ...] | None = None,
    ) -> Completion:
        """The completion that dead-letters `records` for one cause, and publishes `events` along with it."""
        given_up = list(records)
        now_ms = self.clock_ms()
        letters = [dead_letters.dead_letter(record, cause, service=self.service, now_ms=now_ms) for record in given_up]
        for record in given_up:
            metrics.DEAD_LETTERS.labels(record.topic, cause.reason.value).inc()
        finished = offsets or tuple(record.offset for record in given_up)
        published = self.complete(given_up[0], finished, events).outputs
        return Completion(finished, (*letters, *published))


def event_id(record: Record) -> str:
    """The CloudEvents id of a record; its coordinates where a producer set none."""
    return attribute(record, "ce_id") or coordinates(record)


def attribute(record: Record, name: str) -> str | None:
    """An attribute of the record's envelope, which stands in its headers or (structured mode) in its value."""
    return header(cloudevents.attribute_headers(record.headers, record.value), name)
