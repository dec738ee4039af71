"""The envelope of an event: CloudEvents 1.0 attributes and W3C trace context, as Kafka headers (binary mode).

Every header is optional for a producer: a record without any on `reasoning.requests` is a ReasoningRequested.
"""

import random
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

from msgspec import Struct

Headers = tuple[tuple[str, bytes], ...]

CONTENT_TYPE = "application/json"
_SPECVERSION, _JSON = ("ce_specversion", b"1.0"), ("content-type", CONTENT_TYPE.encode())
_TYPE_PATTERN = re.compile(r"conclave\.(?P<name>[A-Za-z]{1,64})\.v(?P<version>[0-9]{1,4})")
_TRACEPARENT_PATTERN = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})"
)


class Envelope(Struct, frozen=True, kw_only=True):
    """Who said what, when, about which request, and as part of which trace."""

    id: str
    type: str  # conclave.<event>.v<version>
    source: str  # /conclave/<service>
    subject: str
    time: str  # RFC 3339
    traceparent: str

    def to_headers(self) -> Headers:
        """The Kafka headers of the CloudEvents binary content mode."""
        return (
            _SPECVERSION,
            ("ce_id", self.id.encode()),
            ("ce_type", self.type.encode()),
            ("ce_source", self.source.encode()),
            ("ce_subject", self.subject.encode()),
            ("ce_time", self.time.encode()),
            _JSON,
            ("traceparent", self.traceparent.encode()),
        )


def is_own(headers: Headers) -> bool:
    """True for headers as `Envelope.to_headers` makes them: of binary mode, for certain. False where that is not plain to see."""
    return len(headers) == 8 and headers[0] == _SPECVERSION and headers[6] == _JSON and headers[7][0] == "traceparent"


def header(headers: Iterable[tuple[str, bytes | None]], name: str) -> str | None:
    """The last header of that name as text; None when absent, empty or not UTF-8."""
    found = None
    for key, value in headers:
        if key == name and value:
            try:
                found = value.decode()
            except UnicodeDecodeError:
                found = None
    return found


def type_name(event_type: type, version: int = 1) -> str:
    """The CloudEvents type of an event struct."""
    return f"conclave.{event_type.__name__}.v{version}"


def parse_type(text: str) -> tuple[str, int] | None:
    """Event name and major version of a CloudEvents type; None when it is not one of ours."""
    match = _TYPE_PATTERN.fullmatch(text)
    return (match["name"], int(match["version"])) if match else None


class Trace(NamedTuple):
    """A W3C trace that spans are added to. Ids tell spans apart and are no secret, so they need no more than chance."""

    trace_id: str
    flags: str

    def span(self) -> str:
        """The traceparent of a new span of it."""
        return f"00-{self.trace_id}-{random.getrandbits(64) or 1:016x}-{self.flags}"


def trace_of(parent: str | None) -> Trace:
    """The trace that a traceparent belongs to; a new sampled one when `parent` is absent or invalid."""
    match = _TRACEPARENT_PATTERN.fullmatch(parent) if parent else None
    if match is None or match["version"] == "ff" or match["trace"] == "0" * 32 or match["span"] == "0" * 16:
        return Trace(f"{random.getrandbits(128) or 1:032x}", "01")
    return Trace(match["trace"], match["flags"])


def rfc3339(timestamp_ms: int) -> str:
    """A time in UTC as CloudEvents wants it, to the millisecond."""
    seconds, milliseconds = divmod(timestamp_ms, 1000)
    return f"{_second(seconds)}.{milliseconds:03d}Z"


@lru_cache(maxsize=16)  # much is published within a second
def _second(timestamp_s: int) -> str:
    return datetime.fromtimestamp(timestamp_s, UTC).isoformat(timespec="seconds").removesuffix("+00:00")
