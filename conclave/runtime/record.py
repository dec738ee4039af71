"""Records as the runtime sees them: what comes in, what goes out, and where."""

from typing import NamedTuple, Protocol

from msgspec import Struct
from msgspec.structs import force_setattr

from conclave.runtime.limits import BATCH_OVERHEAD_BYTES, HEADER_OVERHEAD_BYTES
from schemas import codec, flow
from schemas.envelope import Envelope, Headers, Trace, rfc3339, trace_of
from schemas.events import Event


class Tp(NamedTuple):
    """A topic's partition."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}"


class Record(Protocol):
    """A record as consumed. The client library's own records fit, so none is copied."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Headers: ...


class Output(Struct, frozen=True):
    """A record to publish. `partition` None leaves the choice to the key's hash.

    `size`: the bytes of a batch that holds this record alone, without compression; never too few. Counted once, as it is asked for
    by all that bounds what is published.
    """

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    partition: int | None = None
    size: int = 0

    def __post_init__(self) -> None:
        size = BATCH_OVERHEAD_BYTES + len(self.key or b"") + len(self.value or b"") + headers_size(self.headers)
        force_setattr(self, "size", size)


class Completion(Struct, frozen=True):
    """Finished work: these offsets are done as soon as these outputs are published, in one transaction."""

    offsets: tuple[int, ...]
    outputs: tuple[Output, ...] = ()


def headers_size(headers: Headers) -> int:
    """Bytes of headers in a record; never too few."""
    num_bytes = HEADER_OVERHEAD_BYTES * len(headers)
    for name, value in headers:
        num_bytes += len(name) if name.isascii() else len(name.encode("utf-8", "replace"))
        num_bytes += len(value or b"")
    return num_bytes


def coordinates(record: Record) -> str:
    """Where a record lies, for ids that derive from it."""
    return f"{record.topic}/{record.partition}/{record.offset}"


def located(coordinates: str) -> tuple[Tp, int]:
    """The partition and the offset that coordinates name."""
    topic, partition, offset = coordinates.rsplit("/", 2)
    return Tp(topic, int(partition)), int(offset)


def output_of(
    event: Event, *, service: str, event_id: str, parent: str | None, now_ms: int, partition: int | None = None
) -> Output:
    """The record that publishes `event` on its topic, under its key, in its CloudEvents envelope."""
    origin = Origin(service, trace_of(parent), rfc3339(now_ms))
    return origin.output(event, event_id, partition=partition)


class Origin(NamedTuple):
    """What all events that a service publishes of one cause at one time have in common."""

    service: str
    trace: Trace
    time: str  # RFC 3339

    def output(self, event: Event, event_id: str, *, partition: int | None = None) -> Output:
        """The record that publishes `event` on its topic, under its key, in its CloudEvents envelope."""
        key = flow.key_of(event)
        envelope = Envelope(
            id=event_id,
            type=codec.versioned_type(type(event)),
            source=f"/conclave/{self.service}",
            subject=flow.subject_of(event, key),
            time=self.time,
            traceparent=self.trace.span(),
        )
        topic = flow.topic_of(type(event))
        return Output(topic, key.encode(), codec.encode(event), envelope.to_headers(), partition)
