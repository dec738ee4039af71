"""From a record to an event, and from events to the records that publish them. No I/O."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from conclave.errors import ConclaveError
from conclave.runtime import dead_letters
from conclave.runtime.dead_letters import Cause, Reason
from conclave.runtime.handler import Arrival
from conclave.runtime.limits import (
    MAX_COMPLETION_BYTES,
    MAX_DEAD_LETTERS_BYTES,
    MAX_OUTPUT_BYTES,
    MAX_RECORD_BYTES,
    MAX_VALUE_BYTES,
)
from conclave.runtime.record import Output, Record, coordinates, output_of
from schemas import cloudevents, codec
from schemas.codec import Defect, UnreadableEvent
from schemas.envelope import header
from schemas.events import Event
from schemas.ids import derived_event_id

RequestKey = Callable[[Event, Arrival], str | None]


@dataclass(eq=False)
class Unpublishable(ConclaveError):
    """An event that no record can hold or that nobody could read."""

    cause: Cause

    def __str__(self) -> str:
        return self.cause.error


@dataclass(frozen=True, slots=True)
class Publisher:
    """Makes the outputs of one service: ids derived from the causing event, trace context handed on."""

    service: str
    clock_ms: Callable[[], int]

    def read(self, record: Record) -> Event:
        """The event in a record. Raises: UnreadableEvent, naming the field."""
        if record.value is not None and len(record.value) > MAX_VALUE_BYTES:
            message = f"expected at most {MAX_VALUE_BYTES} bytes without compression, got {len(record.value)}"
            raise UnreadableEvent(Defect.UNDECODABLE, "$", message)
        return codec.read(record.topic, record.headers, record.value)

    def arrival(self, record: Record) -> Arrival:
        """How the record came."""
        headers = cloudevents.attribute_headers(record.headers, record.value)
        return Arrival(
            event_id=header(headers, "ce_id") or coordinates(record),
            key=(record.key or b"").decode("utf-8", "replace"),
            recorded_ms=record.timestamp,
            now_ms=self.clock_ms(),
            coordinates=coordinates(record),
            source=header(headers, "ce_source") or "",
            subject=header(headers, "ce_subject") or "",
        )

    def outputs(self, cause: Record, events: Iterable[Event], carry: Event | None = None) -> tuple[Output, ...]:
        """The records that publish `events`, and `carry` to the cause's own partition.

        Raises: Unpublishable, for the first that breaks its own schema or is too large, alone or with those before it.
        """
        origin, published, num_bytes = _origin(cause), [], 0
        for index, event in enumerate((*events, carry) if carry is not None else events):
            output = self._output(origin, event, index, is_carry=event is carry)
            num_bytes += output.size
            if output.size > MAX_OUTPUT_BYTES:
                raise _too_large(event, output.size, MAX_OUTPUT_BYTES)
            if num_bytes > MAX_COMPLETION_BYTES:
                raise _too_large(event, num_bytes, MAX_COMPLETION_BYTES, what=f"{index + 1} outputs, the last one")
            published.append(output)
        return tuple(published)

    def publishable(
        self, cause: Record, events: Iterable[Event], carry: Event | None = None
    ) -> tuple[tuple[Output, ...], list[Unpublishable]]:
        """The same for what gives something up: those that can be published, and what is wrong with the others."""
        origin, published, refused = _origin(cause), [], []
        for index, event in enumerate((*events, carry) if carry is not None else events):
            try:
                output = self._output(origin, event, index, is_carry=event is carry)
                if output.size > MAX_RECORD_BYTES:
                    raise _too_large(event, output.size, MAX_RECORD_BYTES)
                published.append(output)
            except Unpublishable as error:
                refused.append(error)
        return tuple(published), refused

    def dead_letters(self, records: Iterable[Record], cause: Cause) -> list[Output]:
        """The records' dead letters, together about MAX_DEAD_LETTERS_BYTES at most: beyond that they go without values."""
        letters, left = [], MAX_DEAD_LETTERS_BYTES
        for record in records:
            room = min(MAX_RECORD_BYTES, left)
            letter = dead_letters.dead_letter(
                record, cause, service=self.service, now_ms=self.clock_ms(), max_bytes=room
            )
            letters.append(letter)
            left = max(0, left - letter.size)
        return letters

    def _output(self, origin: "_Origin", event: Event, index: int, *, is_carry: bool) -> Output:
        kind = type(event).__name__
        try:
            output = output_of(
                event,
                service=self.service,
                event_id=derived_event_id(self.service, origin.identity, kind, index),
                parent=origin.traceparent,
                now_ms=self.clock_ms(),
                partition=origin.partition if is_carry else None,
            )
            # What cannot be read back would be a dead letter one service on, where nobody knows what waits for it.
            codec.check(event, output.value or b"")
        except UnreadableEvent as error:
            raise Unpublishable(Cause(Reason.OUTPUT_INVALID, f"{kind}: {error}", error.field)) from error
        except Exception as error:  # no event at all, or one that no JSON can hold
            raise Unpublishable(Cause(Reason.OUTPUT_INVALID, f"{kind}: {error}")) from error
        return output


@dataclass(frozen=True, slots=True)
class _Origin:
    """What outputs take over from the record that caused them."""

    identity: str
    traceparent: str | None
    partition: int


def _origin(cause: Record) -> _Origin:
    return _Origin(_identity(cause), attribute(cause, "traceparent"), cause.partition)


def _too_large(event: Event, num_bytes: int, max_bytes: int, *, what: str = "an output") -> Unpublishable:
    text = f"{what}, {type(event).__name__}: {num_bytes} bytes; at most {max_bytes}"
    return Unpublishable(Cause(Reason.OUTPUT_TOO_LARGE, text))


def event_id(record: Record) -> str:
    """The CloudEvents id of a record; its coordinates where a producer set none."""
    return attribute(record, "ce_id") or coordinates(record)


def _identity(record: Record) -> str:
    """What tells a record from all others: its id, which is unique within its source, and for Conclave's own everywhere."""
    source = attribute(record, "ce_source") or ""
    return event_id(record) if not source or source.startswith("/conclave/") else f"{source} {event_id(record)}"


def attribute(record: Record, name: str) -> str | None:
    """An attribute of the record's envelope, which stands in its headers or (structured mode) in its value."""
    return header(cloudevents.attribute_headers(record.headers, record.value), name)
