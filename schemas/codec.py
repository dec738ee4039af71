"""Events to bytes and back. Decoding never lets anything through that the JSON Schemas would not.

What is written is the newest version of an event; what is read may also be one before (schemas.upcasts).
"""

import re
from collections import OrderedDict
from enum import StrEnum
from functools import cache

import msgspec
from msgspec.structs import asdict, replace

from schemas import cloudevents, flow, producers
from schemas.envelope import Headers, header, parse_type, type_name
from schemas.events import Event, ReasoningRequested
from schemas.ids import UUID7_PATTERN
from schemas.upcasts import Way, way_from
from schemas.values import NO_NUL_PATTERN, StepContext

EVENT_TYPES: dict[str, type[Event]] = {event.__name__: event for row in flow.TOPICS for event in row.events}

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # all that decoders raise
_PATH = re.compile(r" - at `(?P<path>[^`]*)`$")
_FIELD = re.compile(r"Object (?:missing required|contains unknown) field `(?P<field>.*)`")

# Patterns that say less to a producer than words do.
_IN_WORDS = {UUID7_PATTERN: "a UUIDv7", NO_NUL_PATTERN: "`str` without U+0000"}


class Defect(StrEnum):
    """Why bytes are no event. Dead letters carry it as their reason."""

    UNDECODABLE = "undecodable"  # not JSON in UTF-8
    SCHEMA = "schema"  # JSON, but not as the schema wants it
    UNSUPPORTED_VERSION = "unsupported_version"
    UNKNOWN_TYPE = "unknown_type"


class UnreadableEvent(ValueError):
    """Bytes that are no event of the topic they lie in. `field` is a JSON path such as `$.steps[0].index`."""

    def __init__(self, defect: Defect, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.defect = defect
        self.field = field
        self.message = message


def encode(event: Event) -> bytes:
    """The event as UTF-8 JSON."""
    return _ENCODER.encode(event)


def version_of(event_type: type[Event]) -> int:
    """The major version of an event that this code writes."""
    return event_type.VERSION


def versioned_type(event_type: type[Event]) -> str:
    """The CloudEvents type that this code writes for an event."""
    return type_name(event_type, version_of(event_type))


def is_producer_facing(event_type: type[Event]) -> bool:
    """True for events that anyone may publish: there, an unknown field is an error."""
    return bool(event_type.__struct_config__.forbid_unknown_fields)


def read(topic: str, headers: Headers, value: bytes | None) -> Event:
    """The event that a record of `topic` holds, in CloudEvents' binary or structured mode or without an envelope.

    Raises: UnreadableEvent, naming the field and what was expected there.
    """
    if value is None or not cloudevents.is_structured(headers, value):
        event = decode(topic, header(headers, "ce_type"), value)
    else:
        try:
            headers, value = cloudevents.binary_mode(headers, value)
        except _UNREADABLE as error:
            raise _named(error) from None
        try:
            event = decode(topic, header(headers, "ce_type"), value)
        except UnreadableEvent as error:
            field = "$.type" if error.field == "ce_type" else f"$.data{error.field.removeprefix('$')}"
            raise UnreadableEvent(error.defect, field, error.message) from None
    if isinstance(event, ReasoningRequested) and event.request_id is None and event.idempotency_key is None:
        return replace(event, idempotency_key=cloudevents.idempotency_key(headers))
    return event


def decode(topic: str, ce_type: str | None, value: bytes | None) -> Event:
    """The event that a record of `topic` holds.

    A record without `ce_type` is read as the topic's first event type, so that a producer needs no headers.

    Raises: UnreadableEvent, naming the field and what was expected there.
    """
    event_type, way = _event_type(topic, ce_type)
    if value is None:
        raise UnreadableEvent(Defect.UNDECODABLE, "$", "the record has no value; expected a JSON object")
    try:
        if way.steps:
            return _upcast(event_type, way, value)
        if is_producer_facing(event_type):
            return producers.read(value, event_type)
        return _of_a_step(event_type, value) if _has_context(event_type) else _decoder(event_type).decode(value)
    except _UNREADABLE as error:
        raise _named(error) from None


def check(event: Event, value: bytes) -> None:
    """Nothing, if `value`, which encodes `event`, can be read. Raises: UnreadableEvent.

    As strict as `decode` and faster: a step's context is most of a sample or a path, and the same in all of the step. One
    that has been read or checked is not checked again.
    """
    context: StepContext | None = getattr(event, "context", None)
    is_sound = context is not None and _SOUND.get(id(context)) is context
    try:
        (_decoder_but_context if is_sound else _decoder)(type(event)).decode(value)
    except _UNREADABLE as error:
        raise _named(error) from None
    if context is not None and not is_sound:
        _note_sound(context)


def _of_a_step(event_type: type[Event], value: bytes) -> Event:
    """An event with its step's context, which is the same one for all events that have it byte for byte alike."""
    outer = _decoder_but_context(event_type).decode(value)
    written = bytes(getattr(outer, "context"))  # noqa: B009  (Raw there, and only there)
    context = _CONTEXTS.get(written)
    if context is None:
        event = _decoder(event_type).decode(value)
        context = getattr(event, "context")  # noqa: B009  (not of every event)
        if len(written) <= _MAX_SHARED_BYTES:
            _CONTEXTS[written] = context
            _note_sound(context)
            if len(_CONTEXTS) > _MAX_SOUND:
                _CONTEXTS.popitem(last=False)
        return event
    return event_type(**asdict(outer) | {"context": context})


def _note_sound(context: StepContext) -> None:
    _SOUND[id(context)] = context  # held on to, so that no other can have its id
    if len(_SOUND) > _MAX_SOUND:
        _SOUND.popitem(last=False)


def _event_type(topic: str, ce_type: str | None) -> tuple[type[Event], Way]:
    """The event that a record holds, and the way to it from the version that was written."""
    expected = flow.topic_row(topic).events
    if ce_type is None:
        return expected[0], Way(expected[0].__name__, version_of(expected[0]), ())
    parsed = parse_type(ce_type)
    way = way_from(*parsed) if parsed else None
    event_type = EVENT_TYPES.get(way.event) if way else None
    if way is None or event_type not in expected:
        names = ", ".join(versioned_type(each) for each in expected)
        raise UnreadableEvent(Defect.UNKNOWN_TYPE, "ce_type", f"expected one of {names}, got {ce_type[:200]!r}")
    if way.version != version_of(event_type):
        message = f"expected {versioned_type(event_type)}, got {ce_type!r}"
        raise UnreadableEvent(Defect.UNSUPPORTED_VERSION, "ce_type", message)
    return event_type, way


def _upcast(event_type: type[Event], way: Way, value: bytes) -> Event:
    document = msgspec.json.decode(value)
    try:
        newest = way.walk(document)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise msgspec.ValidationError(f"Expected the version before {versioned_type(event_type)}: {error!r}") from None
    return msgspec.convert(newest, event_type)


def _named(error: Exception) -> UnreadableEvent:
    """What a decoder raised, with the field at fault."""
    if isinstance(error, msgspec.ValidationError):
        return UnreadableEvent(Defect.SCHEMA, *at_fault(error))
    return UnreadableEvent(Defect.UNDECODABLE, "$", f"expected JSON in UTF-8: {error}")


def at_fault(error: msgspec.ValidationError) -> tuple[str, str]:
    """Msgspec's message split into the field's JSON path and what was expected: of one that is missing or unknown its own."""
    message = str(error)
    at = _PATH.findall(message)
    text = _PATH.sub("", _PATH.sub("", message))
    for pattern, words in _IN_WORDS.items():
        text = text.replace(f"`str` matching regex {pattern!r}", words)
    path = next((found for found in reversed(at) if found != "$"), "$")
    named = _FIELD.fullmatch(text)
    if named and named["field"]:
        path = f"{path}.{named['field']}"
    return path, text


_ENCODER = msgspec.json.Encoder()

_MAX_SHARED_BYTES = 16_384  # of a context that is kept
_MAX_SOUND = 512  # contexts of a few kilobytes; one that is forgotten is merely checked again
_SOUND: OrderedDict[int, StepContext] = OrderedDict()  # read or checked, by what tells it apart here
_CONTEXTS: OrderedDict[bytes, StepContext] = OrderedDict()  # read, as they were written


@cache
def _has_context(event_type: type[Event]) -> bool:
    return "context" in event_type.__struct_fields__


@cache
def _decoder(event_type: type[Event]) -> msgspec.json.Decoder[Event]:
    return msgspec.json.Decoder(event_type)


@cache
def _decoder_but_context(event_type: type[Event]) -> msgspec.json.Decoder[Event]:
    """A decoder of all of an event but its context, which it skips."""
    fields = [("context", msgspec.Raw)]
    return msgspec.json.Decoder(
        msgspec.defstruct(event_type.__name__, fields, bases=(event_type,), frozen=True, kw_only=True)
    )
