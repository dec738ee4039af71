"""Dead letters: the bytes as received, and in headers why no one could handle them and where they lay."""

import traceback
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import version

from conclave.errors import ConclaveError, Rejected
from conclave.runtime.record import Output, Record
from schemas import flow
from schemas.codec import UnreadableEvent
from schemas.envelope import Headers, header, rfc3339

PREFIX = "conclave-"
_MAX_MESSAGE_CHARS = 2000
REPLAY_HEADER = (
    PREFIX + "replay"
)  # set by `conclave dead-letters replay`: makes a replayed request new to deduplication


class Reason(StrEnum):
    """Why a record was given up; the first four are schemas.codec.Defect's."""

    UNDECODABLE = "undecodable"
    SCHEMA = "schema"
    UNSUPPORTED_VERSION = "unsupported_version"
    UNKNOWN_TYPE = "unknown_type"
    REJECTED = "rejected"
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


def cause_of(error: Exception, attempts: int = 1) -> Cause:
    """The cause that an exception stands for."""
    match error:
        case UnreadableEvent():
            return Cause(Reason(error.defect.value), error.message, error.field, attempts)
        case Rejected():
            return Cause(Reason.REJECTED, str(error), error.field, attempts)
        case ConclaveError():
            return Cause(Reason.RETRIES_EXHAUSTED, str(error), "", attempts)
        case _:
            frames = "".join(traceback.format_tb(error.__traceback__)[-3:])
            return Cause(Reason.HANDLER, f"{type(error).__name__}: {error}", "", attempts, frames)


def dead_letter(record: Record, cause: Cause, *, service: str, now_ms: int) -> Output:
    """The record to publish to the source topic's dead letters: key, value and headers as received, and why."""
    added = {
        "reason": cause.reason.value,
        "field": cause.field,
        "error": cause.error[:_MAX_MESSAGE_CHARS],
        "stack": cause.stack[-2000:],
        "topic": record.topic,
        "partition": str(record.partition),
        "offset": str(record.offset),
        "recorded-at": rfc3339(max(0, record.timestamp)),
        "attempts": str(cause.attempts),
        "dead-at": rfc3339(now_ms),
        "service": service,
        "version": version("conclave"),
    }
    kept = tuple((name, value) for name, value in record.headers if name.removeprefix(PREFIX) not in added)
    new = tuple((PREFIX + name, value.encode("utf-8", "replace")) for name, value in added.items() if value)
    return Output(flow.dead_letter_topic(record.topic), record.key, record.value, kept + new)


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
    )


def replay(letter: DeadLetter, token: str) -> Output:
    """The record that gives a dead letter another try: as it was received, marked with a fresh `token`."""
    kept = tuple((name, value) for name, value in letter.headers if not name.startswith(PREFIX))
    return Output(letter.source_topic, letter.key, letter.value, (*kept, (REPLAY_HEADER, token.encode())))
