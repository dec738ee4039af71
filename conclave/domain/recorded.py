"""An event as it is recorded: with where it lay in the log, and when."""

from msgspec import Struct

from schemas.events import Event


class RecordedEvent(Struct, frozen=True):
    """One event of a batch for the record."""

    event: Event
    event_id: str
    key: str
    topic: str
    partition: int
    offset: int
    recorded_ms: int
    traceparent: str | None
    event_source: str = ""  # the CloudEvents source, within which `event_id` is unique
