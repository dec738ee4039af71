"""Records as the runtime sees them: what comes in, what goes out, and where."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from conclave.runtime.limits import BATCH_OVERHEAD_BYTES, HEADER_OVERHEAD_BYTES
from schemas import codec, flow
from schemas.envelope import Envelope, Headers, child_traceparent, rfc3339
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


@dataclass(frozen=True, slots=True)
class Output:
    """A record to publish. `partition` None leaves the choice to the key's hash."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    partition: int | None = None

    @property
    def size(self) -> int:
        """The bytes of a batch that holds this record alone, without compression; never too few."""
        return BATCH_OVERHEAD_BYTES + len(self.key or b"") + len(self.value or b"") + headers_size(self.headers)


@dataclass(frozen=True, slots=True)
class Completion:
    """Finished work: these offsets are done as soon as these outputs are published, in one transaction."""

    offsets: tuple[int, ...]
    outputs: tuple[Output, ...] = ()


def headers_size(headers: Headers) -> int:
    """Bytes of headers in a record; never too few."""
    return sum(
        HEADER_OVERHEAD_BYTES
        + (len(name) if name.isascii() else len(name.encode("utf-8", "replace")))
        + len(value or b"")
        for name, value in headers
    )


def coordinates(record: Record) -> str:
    """Where a record lies, for ids that derive from it."""
    return f"{record.topic}/{record.partition}/{record.offset}"


def output_of(
    event: Event, *, service: str, event_id: str, parent: str | None, now_ms: int, partition: int | None = None
) -> Output:
    """The record that publishes `event` on its topic, under its key, in its CloudEvents envelope."""
    key = flow.key_of(event)
    envelope = Envelope(
        id=event_id,
        type=codec.versioned_type(type(event)),
        source=f"/conclave/{service}",
        subject=flow.subject_of(event),
        time=rfc3339(now_ms),
        traceparent=child_traceparent(parent),
    )
    topic = flow.topic_of(type(event))
    return Output(topic, key.encode(), codec.encode(event), envelope.to_headers(), partition)
