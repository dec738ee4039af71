"""The documents made from the contracts: JSON Schemas, the AsyncAPI description, and the diagram of the flow."""

from typing import Any

import msgspec

from schemas import cloudevents, codec, flow, producers
from schemas.codec import is_producer_facing
from schemas.envelope import CONTENT_TYPE
from schemas.events import Event, FeedbackGiven, ReasoningRequested
from schemas.ids import UUID7_PATTERN
from schemas.values import BLANK_PATTERN

_DIALECT = "https://json-schema.org/draft/2020-12/schema"

# Headers of CloudEvents' binary content mode, all optional for a producer.
_HEADERS: dict[str, str] = {
    "ce_specversion": "always 1.0",
    "ce_id": "unique id of the event; derived from the causing event for Conclave's own",
    "ce_type": "conclave.<Event>.v<version>; without it the topic's first event is assumed",
    "ce_source": "/conclave/<service>, or the producer's own URI",
    "ce_subject": "the request id",
    "ce_time": "RFC 3339",
    "traceparent": "W3C trace context; handed on to every event that follows",
}


def _given(name: str) -> dict[str, Any]:
    return {"required": [name], "properties": {name: {"not": {"type": "null"}}}}


_WITHDRAWN = {"required": ["is_withdrawn"], "properties": {"is_withdrawn": {"const": True}}}
# What a producer's event checks besides its fields (its __post_init__), as JSON Schema. That a rating lies within its scale
# can't be said there.
_CHECKED: dict[type[Event], dict[str, Any]] = {
    ReasoningRequested: {"allOf": [{"properties": {"question": {"not": {"pattern": BLANK_PATTERN}}}}]},
    FeedbackGiven: {
        "allOf": [
            {"anyOf": [*map(_given, ("reward", "right_answer", "comment", "rating", "chosen")), _WITHDRAWN]},
            {"if": _given("sample_index"), "then": _given("step_index")},
            {"if": _given("scale"), "then": _given("rating")},
            {"if": _given("chosen"), "then": _given("rejected"), "else": {"not": _given("rejected")}},
            {"if": _WITHDRAWN, "then": _given("supersedes")},
        ]
    },
}


def json_schema(event: type[Event]) -> dict[str, Any]:
    """A self-contained JSON Schema (2020-12) of one event: of all that is read as one."""
    schema = msgspec.json.schema(event)
    if is_producer_facing(event):
        schema = producers.written_schema(schema, event)
        schema["$defs"][event.__name__] |= _CHECKED.get(event, {})
    return {"$schema": _DIALECT, "title": codec.versioned_type(event), **schema}


def structured_schema(event: type[Event]) -> dict[str, Any]:
    """The JSON Schema of a producer's event as a CloudEvent in structured mode."""
    return cloudevents.structured_schema(json_schema(event), [codec.versioned_type(event)])


def asyncapi(version: str) -> dict[str, Any]:
    """The AsyncAPI 3 description: topics as channels, services as operations."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Conclave",
            "version": version,
            "description": "Questions in, voted answers out. Made from schemas/flow.py.",
        },
        "defaultContentType": CONTENT_TYPE,
        "channels": {row.topic.value: _channel(row) for row in flow.TOPICS},
        "operations": {name: operation for row in flow.SERVICES.values() for name, operation in _operations(row)},
        "components": {
            "messages": {
                name: message
                for row in flow.TOPICS
                for event in row.events
                for name, message in _messages(row, event).items()
            },
        },
    }


def _channel(row: flow.TopicRow) -> dict[str, Any]:
    return {
        "address": row.topic.value,
        "description": f"Keyed by {row.key.value}. Dead letters: {flow.dead_letter_topic(row.topic.value)}.",
        "messages": {
            name: {"$ref": f"#/components/messages/{name}"} for event in row.events for name in _messages(row, event)
        },
        "bindings": {
            "kafka": {
                "topic": row.topic.value,
                "topicConfiguration": {
                    "cleanup.policy": row.cleanup.split(","),
                    "retention.ms": int(row.retention_days * 86_400_000),
                },
            }
        },
    }


def _messages(row: flow.TopicRow, event: type[Event]) -> dict[str, dict[str, Any]]:
    """The ways in which an event is written: in binary mode, and by producers in structured mode too."""
    key: dict[str, Any] = {"type": "string", "description": row.key.value}
    if is_producer_facing(event):
        key["description"] = f"should be the {row.key.value}; anything is taken"
    elif row.key is flow.Key.REQUEST:
        key["pattern"] = UUID7_PATTERN
    binary = {
        "name": codec.versioned_type(event),
        "contentType": CONTENT_TYPE,
        "summary": (event.__doc__ or "").strip().splitlines()[0],
        "headers": {
            "type": "object",
            "properties": {name: {"type": "string", "description": text} for name, text in _HEADERS.items()},
        },
        "payload": {"$ref": f"./{event.__name__}.json"},
        "bindings": {"kafka": {"key": key}},
    }
    if not is_producer_facing(event):
        return {event.__name__: binary}
    content_type = {"type": "string", "description": f"{cloudevents.STRUCTURED_CONTENT_TYPE}, with any parameters"}
    structured = binary | {
        "contentType": cloudevents.STRUCTURED_CONTENT_TYPE,
        "headers": {"type": "object", "properties": {"content-type": content_type}},
        "payload": {"$ref": f"./{event.__name__}.cloudevent.json"},
    }
    return {event.__name__: binary, f"{event.__name__}Structured": structured}


def _operations(row: flow.ServiceRow) -> list[tuple[str, dict[str, Any]]]:
    received = [
        (f"{row.name}.receives.{topic.value}", {"action": "receive", "channel": {"$ref": f"#/channels/{topic.value}"}})
        for topic in (*row.consumes, *row.broadcasts)
    ]
    topics = dict.fromkeys(flow.topic_of(event) for event in row.emits)
    return received + [
        (
            f"{row.name}.sends.{topic.value}",
            {
                "action": "send",
                "channel": {"$ref": f"#/channels/{topic.value}"},
                "messages": [
                    {"$ref": f"#/channels/{topic.value}/messages/{event.__name__}"}
                    for event in row.emits
                    if flow.topic_of(event) is topic
                ],
            },
        )
        for topic in topics
    ]


def diagram() -> str:
    """The flow as a Mermaid flowchart: services, and the topics between them with the events on the arrows."""
    lines = ["flowchart LR", "  producers([producers]) --> requests"]
    for row in flow.TOPICS:
        lines.append(f"  {_node(row.topic)}[/{row.topic.value}/]")
    for service in flow.SERVICES.values():
        lines += [f"  {_node(topic)} --> {service.name}" for topic in service.consumes]
        lines += [f"  {_node(topic)} -.-> {service.name}" for topic in service.broadcasts]
        if service.serves_web:
            lines += [f"  {service.name} <-- HTTP --> people([people, programs])", f"  postgres --> {service.name}"]
        for topic in dict.fromkeys(flow.topic_of(event) for event in service.emits):
            names = ", ".join(event.__name__ for event in service.emits if flow.topic_of(event) is topic)
            lines.append(f'  {service.name} -- "{names}" --> {_node(topic)}')
    lines += ["  recorder --> postgres[(PostgreSQL)]", "  answers --> users([anyone])", "  producers --> feedback"]
    return "\n".join(lines)


def _node(topic: flow.Topic) -> str:
    return topic.value.removeprefix("reasoning.")
