"""Whom to answer about a record that can't be read as a request: what its key, its JSON and its envelope still tell. Pure."""

import re

from conclave.runtime.handler import Arrival
from schemas.ids import canonical_uuid, derived_request_id, is_request_id

# Looked for as bytes: the JSON may be cut off, or hold the id at any depth. UTF-16 without its zero bytes looks the same.
_CLAIM = re.compile(rb'"request_id"\s*:\s*"([^"\\]{32,45})"')
_MAX_SHOWN_CHARS = 100


def claimed_request_id(value: bytes | None, arrival: Arrival) -> str | None:
    """The id under which the producer of an unreadable record is told of it; None when it left nothing to be found by.

    In this order: `request_id` in the value, the record's key, the CloudEvents id and subject, each in any spelling of a
    UUIDv7; then, for a record that has a key or a CloudEvents id of another kind, the id that a request there would have got.
    """
    match = _CLAIM.search((value or b"").replace(b"\0", b""))
    claims = (
        match[1].decode("utf-8", "replace") if match else "",
        arrival.key.strip('"'),
        arrival.event_id,
        arrival.subject,
    )
    found = next((each for each in map(canonical_uuid, claims) if is_request_id(each)), None)
    if found is None and _names(arrival):
        return derived_request_id(arrival.recorded_ms, arrival.coordinates)
    return found


def record_named(arrival: Arrival) -> str:
    """The record in words: where it lies, and what its producer knows it by."""
    return " ".join([f"the record {arrival.coordinates}", *_names(arrival)])


def _names(arrival: Arrival) -> list[str]:
    names = {"key": arrival.key, "source": arrival.source, "id": arrival.event_id}
    if arrival.event_id == arrival.coordinates:  # none was given
        names["id"] = ""
    return [
        f"{name} {text[:_MAX_SHOWN_CHARS]!r}"
        for name, text in names.items()
        if text and (name != "source" or names["id"])
    ]
