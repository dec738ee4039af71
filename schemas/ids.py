"""Identifiers: what they look like, what is inside them and how one derives from another.

request_id   UUIDv7, lower case                      0198c5b2-7e1a-7c3e-9d55-2f6a1b0c4d5e
step_id      <request_id>/<step index>               0198c5b2-…-2f6a1b0c4d5e/0
path_id      <step_id>/<sample index>                0198c5b2-…-2f6a1b0c4d5e/0/7
event_id     26 characters of base32, derived from the event that caused it
"""

import itertools
import re
from collections.abc import Callable
from hashlib import blake2b
from typing import NewType
from uuid import UUID

import uuid_utils

RequestId = NewType("RequestId", str)
StepId = NewType("StepId", str)
PathId = NewType("PathId", str)
EventId = NewType("EventId", str)

# Base32 (RFC 4648) of 128 bits, in lower case and without its padding, two characters at a time.
_PAIRS = tuple(map("".join, itertools.product("abcdefghijklmnopqrstuvwxyz234567", repeat=2)))
_PADDING_BITS, _SHIFTS = 2, range(120, -1, -10)

UUID7_PATTERN = "^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"
# As producers write one, which `canonical_uuid` reads: in capitals, in braces, without dashes, after urn:uuid:.
_WRITTEN = "[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?7[0-9a-fA-F]{3}-?[89abAB][0-9a-fA-F]{3}-?[0-9a-fA-F]{12}"
WRITTEN_UUID7_PATTERN = rf"^(?:(?:[uU][rR][nN]:[uU][uU][iI][dD]:)?{_WRITTEN}|\{{{_WRITTEN}\}})$"

_is_uuid7: Callable[[str], re.Match[str] | None] = re.compile(UUID7_PATTERN).fullmatch
_is_written_uuid7: Callable[[str], re.Match[str] | None] = re.compile(WRITTEN_UUID7_PATTERN).fullmatch


def new_request_id() -> RequestId:
    """A fresh UUIDv7: unique, and ordered by the time of asking."""
    return RequestId(str(uuid_utils.uuid7()))


def is_request_id(text: str) -> bool:
    """True when `text` is a UUIDv7 in its lower-case canonical form."""
    return _is_uuid7(text) is not None


def canonical_uuid(text: str) -> str:
    """A UUIDv7 in whatever spelling in its canonical one; any other text as it is."""
    return str(UUID(text.lower())) if _is_written_uuid7(text) else text


def derived_request_id(timestamp_ms: int, *origin: str) -> RequestId:
    """The UUIDv7 of a request that came without one: always the same for the same time and `origin`.

    `origin` names the record (topic, partition, offset), so that reading it again gives the same request.
    """
    random_bits = int.from_bytes(_digest(origin), "big") & ((1 << 74) - 1)
    high = (timestamp_ms & ((1 << 48) - 1)) << 80 | 7 << 76 | (random_bits >> 62) << 64
    return RequestId(str(UUID(int=high | 2 << 62 | random_bits & ((1 << 62) - 1))))


def shadow_id(request_id: str) -> RequestId:
    """The id of the copy of a request that a shadow answers. Of one request there is one at most."""
    return derived_request_id(asked_at_ms(request_id), request_id, "shadow")


def asked_at_ms(request_id: str) -> int:
    """Milliseconds since the epoch that the UUIDv7 `request_id` carries in its first 48 bits."""
    return int(request_id[:8] + request_id[9:13], 16)


def step_id(request_id: str, step_index: int) -> StepId:
    """The id of one step of a request's plan."""
    return StepId(f"{request_id}/{step_index}")


def path_id(step: str, sample_index: int) -> PathId:
    """The id of one sample of a step, and of the path that it becomes."""
    return PathId(f"{step}/{sample_index}")


def derived_event_id(service: str, cause: str, kind: str, index: int) -> EventId:
    """The id of the `index`-th output of `kind` that `service` makes of the event `cause`.

    It is the same after a redo, a retry or a replay, so whatever is seen twice is recognised.
    """
    bits = int.from_bytes(_digest((service, cause, kind, str(index))), "big") << _PADDING_BITS
    return EventId("".join([_PAIRS[bits >> shift & 1023] for shift in _SHIFTS]))


def _digest(parts: tuple[str, ...]) -> bytes:
    return blake2b("\0".join(parts).encode("utf-8", "replace"), digest_size=16).digest()
