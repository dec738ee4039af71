"""From a record to an event, and from events to the records that publish them. No I/O."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

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
from conclave.runtime.record import Origin, Output, Record, coordinates
from schemas import cloudevents, codec
from schemas.codec import Defect, UnreadableEvent
from schemas.envelope import Headers, header, rfc3339, trace_of
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
class Translator:
    """Reads records as events, and writes a service's events as records: with ids of the causing event, and its trace."""

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
        headers = attributes(record)
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
        caused, published, num_bytes = self._caused(cause), [], 0
        for index, event in enumerate((*events, carry) if carry is not None else events):
            output = self._output(caused, event, index, is_carry=event is carry)
            size = output.size
            num_bytes += size
            if size > MAX_OUTPUT_BYTES:
                raise _too_large(event, size, MAX_OUTPUT_BYTES)
            if num_bytes > MAX_COMPLETION_BYTES:
                raise _too_large(event, num_bytes, MAX_COMPLETION_BYTES, what=f"{index + 1} outputs, the last one")
            published.append(output)
        return tuple(published)

    def publishable(
        self, cause: Record, events: Iterable[Event], carry: Event | None = None
    ) -> tuple[tuple[Output, ...], list[Unpublishable]]:
        """The same for what gives something up: those that can be published, and what is wrong with the others."""
        caused, published, refused = self._caused(cause), [], []
        for index, event in enumerate((*events, carry) if carry is not None else events):
            try:
                output = self._output(caused, event, index, is_carry=event is carry)
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

    def _caused(self, cause: Record) -> "_Caused":
        headers = attributes(cause)
        trace = trace_of(header(headers, "traceparent"))
        origin = Origin(self.service, trace, rfc3339(self.clock_ms()))
        return _Caused(origin, _identity(cause, headers), cause.partition)

    def _output(self, caused: "_Caused", event: Event, index: int, *, is_carry: bool) -> Output:
        kind = type(event).__name__
        try:
            output = caused.origin.output(
                event,
                derived_event_id(self.service, caused.identity, kind, index),
                partition=caused.partition if is_carry else None,
            )
            # What cannot be read back would be a dead letter one service on, where nobody knows what waits for it.
            codec.check(event, output.value or b"")
        except UnreadableEvent as error:
            raise Unpublishable(Cause(Reason.OUTPUT_INVALID, f"{kind}: {error}", error.field)) from error
        except Exception as error:  # no event at all, or one that no JSON can hold
            raise Unpublishable(Cause(Reason.OUTPUT_INVALID, f"{kind}: {error}")) from error
        return output


class _Caused(NamedTuple):
    """What outputs take over from the record that caused them."""

    origin: Origin
    identity: str
    partition: int


def _too_large(event: Event, num_bytes: int, max_bytes: int, *, what: str = "an output") -> Unpublishable:
    text = f"{what}, {type(event).__name__}: {num_bytes} bytes; at most {max_bytes}"
    return Unpublishable(Cause(Reason.OUTPUT_TOO_LARGE, text))


def event_id(record: Record) -> str:
    """The CloudEvents id of a record; its coordinates where a producer set none."""
    return header(attributes(record), "ce_id") or coordinates(record)


def _identity(record: Record, headers: Headers) -> str:
    """What tells a record from all others: its id, which is unique within its source, and for Conclave's own everywhere.

    `headers` hold its attributes.
    """
    known = header(headers, "ce_id") or coordinates(record)
    source = header(headers, "ce_source") or ""
    return known if not source or source.startswith("/conclave/") else f"{source} {known}"


def attributes(record: Record) -> Headers:
    """The headers with the attributes of the record's envelope, which stand there or (structured mode) in its value."""
    return cloudevents.attribute_headers(record.headers, record.value)
