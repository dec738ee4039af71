"""Dead letters: the bytes as received, and in headers why no one could handle them and where they lay.

What a broker delivers may be larger than what it takes back: a compressed batch is measured compressed. A dead letter that
does not fit goes without the largest of value, headers received and key, if need be without two or all of them, and says
of each how large it was and what its SHA-256 is.
"""

import hashlib
import traceback
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.metadata import version

from conclave.errors import ConclaveError, Rejected, Unbegun
from conclave.runtime.limits import MAX_RECORD_BYTES
from conclave.runtime.record import Output, Record
from schemas import flow
from schemas.codec import UnreadableEvent
from schemas.envelope import Headers, header, rfc3339

PREFIX = "conclave-"
_MAX_MESSAGE_CHARS = 2000
_MAX_FIELD_CHARS = 500  # a JSON path holds names that a producer chose
_PARTITION = 0  # there is one, and a key of megabytes takes the client's hash a second
_LAST_MS = 253_402_300_799_999  # of the year 9999; a record's timestamp is whatever its producer says
REPLAY_HEADER = (
    PREFIX + "replay"
)  # set by `conclave dead-letters replay`: makes a replayed request new to deduplication


_LEFT_OUT_HEADERS = {f"{PREFIX}{part}-{what}" for part in ("value", "headers", "key") for what in ("bytes", "sha256")}


class Reason(StrEnum):
    """Why a record was given up; the first four are schemas.codec.Defect's."""

    UNDECODABLE = "undecodable"
    SCHEMA = "schema"
    UNSUPPORTED_VERSION = "unsupported_version"
    UNKNOWN_TYPE = "unknown_type"
    REJECTED = "rejected"
    UNBEGUN = "unbegun"  # the group that it belongs to has no beginning
    HANDLER = "handler"
    RETRIES_EXHAUSTED = "retries_exhausted"
    OUTPUT_TOO_LARGE = "output_too_large"
    OUTPUT_INVALID = "output_invalid"  # what was made of it breaks its own schema


@dataclass(frozen=True, slots=True)
class Cause:
    """Why one record was given up, and after how many attempts."""

    reason: Reason
    error: str
    field: str = ""
    attempts: int = 1
    stack: str = ""

    @property
    def message(self) -> str:
        """The error as an event's message can hold it: cut, and without what JSON or PostgreSQL do not take."""
        text = self.error[:_MAX_MESSAGE_CHARS].encode("utf-8", "replace").decode()
        return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


@cache
def _version() -> str:
    """This code's; read once, as looking it up takes milliseconds."""
    return version("conclave")


def cause_of(error: Exception, attempts: int = 1) -> Cause:
    """The cause that an exception stands for."""
    match error:
        case UnreadableEvent():
            return Cause(Reason(error.defect.value), error.message, error.field, attempts)
        case Unbegun():
            return Cause(Reason.UNBEGUN, str(error), error.field, attempts)
        case Rejected():
            return Cause(Reason.REJECTED, str(error), error.field, attempts)
        case ConclaveError():
            return Cause(Reason.RETRIES_EXHAUSTED, str(error), "", attempts)
        case _:
            frames = "".join(traceback.format_tb(error.__traceback__)[-3:])
            return Cause(Reason.HANDLER, f"{type(error).__name__}: {error}", "", attempts, frames)


def dead_letter(
    record: Record, cause: Cause, *, service: str, now_ms: int, max_bytes: int = MAX_RECORD_BYTES
) -> Output:
    """The record to publish to the source topic's dead letters: key, value and headers as received, and why.

    What makes it larger than `max_bytes` is left out, which its own headers say; they alone may be larger.
    """
    added = {
        "reason": cause.reason.value,
        "field": cause.field[:_MAX_FIELD_CHARS],
        "error": cause.error[:_MAX_MESSAGE_CHARS],
        "stack": cause.stack[-2000:],
        "topic": record.topic,
        "partition": str(record.partition),
        "offset": str(record.offset),
        "recorded-at": rfc3339(min(max(0, record.timestamp), _LAST_MS)),
        "attempts": str(cause.attempts),
        "dead-at": rfc3339(now_ms),
        "service": service,
        "version": _version(),
    }
    own = {PREFIX + name for name in added} | _LEFT_OUT_HEADERS
    kept = tuple((name, value) for name, value in record.headers if name not in own)
    topic, said = flow.dead_letter_topic(record.topic), _headers(added)
    letter = Output(topic, record.key, record.value, (*kept, *said), _PARTITION)
    if letter.size <= max_bytes:
        return letter
    parts = {
        "value": record.value or b"",
        "headers": b"".join(name.encode("utf-8", "replace") + (value or b"") for name, value in kept),
        "key": record.key or b"",
    }
    for part in sorted(parts, key=lambda part: -len(parts[part])):
        if letter.size <= max_bytes:
            break
        said += _left_out(part, parts.pop(part))
        letter = Output(
            topic,
            record.key if "key" in parts else None,
            record.value if "value" in parts else None,
            (*kept, *said) if "headers" in parts else said,
            _PARTITION,
        )
    return letter


def _left_out(part: str, data: bytes) -> Headers:
    """What a dead letter says of a part of its record that it has no room for."""
    return _headers({f"{part}-bytes": str(len(data)), f"{part}-sha256": hashlib.sha256(data).hexdigest()})


def _headers(named: dict[str, str]) -> Headers:
    return tuple((PREFIX + name, value.encode("utf-8", "replace")) for name, value in named.items() if value)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead letter as read back. `id` is its topic/partition/offset."""

    id: str
    source_topic: str
    reason: str
    field: str
    error: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    recorded_ms: int
    service: str = ""  # that gave it up

    @property
    def is_of_record_alone(self) -> bool:
        """True where only the record's database refused it: the topic's guardian may have handled it, and would do so twice."""
        return bool(self.service) and flow.topic_row(self.source_topic).guardian != self.service

    @property
    def left_out(self) -> tuple[str, ...]:
        """What of its record it had no room for: "value", "headers", "key"."""
        return tuple(part for part in ("value", "headers", "key") if header(self.headers, f"{PREFIX}{part}-bytes"))


@dataclass(frozen=True, slots=True)
class LetterPlace:
    """Where a dead letter lies."""

    source: flow.Topic
    partition: int
    offset: int

    @property
    def topic(self) -> str:
        """The topic of dead letters that it lies in."""
        return flow.dead_letter_topic(self.source.value)

    @classmethod
    def parsed(cls, letter_id: str) -> "LetterPlace":
        """Where the letter of that id lies. Raises: Rejected for what is no id of one."""
        name, _, rest = letter_id.partition("/")
        partition, _, offset = rest.partition("/")
        source = name.removesuffix(flow.DEAD_LETTER_SUFFIX)
        sources = {row.topic.value for row in flow.TOPICS if not row.is_broadcast}
        is_place = all(each.isascii() and each.isdecimal() and len(each) < 19 for each in (partition, offset))
        if source == name or source not in sources or not is_place:
            raise Rejected("ID", f"<topic>{flow.DEAD_LETTER_SUFFIX}/<partition>/<offset>", letter_id)
        return cls(flow.Topic(source), int(partition), int(offset))


def read(record: Record) -> DeadLetter:
    """A record of a dead-letter topic, its headers taken apart."""

    def text(name: str) -> str:
        return header(record.headers, PREFIX + name) or ""

    return DeadLetter(
        id=f"{record.topic}/{record.partition}/{record.offset}",
        source_topic=record.topic.removesuffix(flow.DEAD_LETTER_SUFFIX),
        reason=text("reason"),
        field=text("field"),
        error=text("error"),
        key=record.key,
        value=record.value,
        headers=record.headers,
        recorded_ms=record.timestamp,
        service=text("service"),
    )


def replay(letter: DeadLetter, token: str) -> Output:
    """The record that gives a dead letter another try: as it was received, marked with a fresh `token`.

    Raises: Rejected for a dead letter that lacks a part of its record, and for one of the record alone.
    """
    if letter.is_of_record_alone:
        expected = f"one by {flow.topic_row(letter.source_topic).guardian}, which alone would handle it again"
        raise Rejected("letter", expected, f"one by {letter.service}, whose database refused it")
    if letter.left_out:
        where = "/".join(header(letter.headers, PREFIX + name) or "" for name in ("topic", "partition", "offset"))
        raise Rejected(
            "letter", f"its whole record, which lies at {where}", f"one without {', '.join(letter.left_out)}"
        )
    kept = tuple((name, value) for name, value in letter.headers if not name.startswith(PREFIX))
    return Output(letter.source_topic, letter.key, letter.value, (*kept, (REPLAY_HEADER, token.encode())))
