"""The contracts: round trips, agreement of codec and JSON Schema, ids, envelope, compatibility, generated documents."""

import contextlib
import copy
import json
import random
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import jsonschema
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings

from conclave.testing import events as made
from schemas import __main__ as tool
from schemas import codec, documents, envelope, flow, ids, upcasts
from schemas.codec import Defect, UnreadableEvent
from schemas.compatibility import breaks
from schemas.events import Event, PathDecoded, ReasoningRequested
from tests.drawn import EVENTS, any_event, document

VALIDATORS = {
    name: jsonschema.Draft202012Validator(documents.json_schema(event)) for name, event in codec.EVENT_TYPES.items()
}
slow = settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=60)


def _topic(event: Event) -> str:
    return flow.topic_of(type(event)).value


def test_every_event_has_a_strategy_a_topic_and_a_schema() -> None:
    assert set(EVENTS) == set(codec.EVENT_TYPES.values()) == {event for row in flow.TOPICS for event in row.events}


@slow
@given(any_event)
def test_an_event_survives_its_encoding_and_agrees_with_its_schema(event: Event) -> None:
    value = codec.encode(event)
    assert codec.decode(_topic(event), codec.versioned_type(type(event)), value) == event
    VALIDATORS[type(event).__name__].validate(json.loads(value))


@slow
@given(any_event, st.data())
def test_what_the_schema_refuses_the_codec_refuses_and_names(event: Event, data: st.DataObject) -> None:
    mutated = _mutate(copy.deepcopy(document(event)), data)
    validator = VALIDATORS[type(event).__name__]
    try:
        codec.decode(_topic(event), codec.versioned_type(type(event)), msgspec.json.encode(mutated))
        refusal = None
    except UnreadableEvent as error:
        refusal = error
    if refusal is None:
        validator.validate(mutated)  # the codec reads what the schema allows, and nothing else
    else:
        assert refusal.field.startswith("$")


def _mutate(value: Any, data: st.DataObject) -> Any:
    """The document with one place replaced, removed or added."""
    if isinstance(value, dict) and value and data.draw(st.booleans()):
        name = data.draw(st.sampled_from(sorted(value)))
        match data.draw(st.sampled_from(["descend", "remove", "add"])):
            case "descend":
                value[name] = _mutate(value[name], data)
            case "remove":
                del value[name]
            case _:
                value["no_such_field"] = 1
        return value
    if isinstance(value, list) and value and data.draw(st.booleans()):
        index = data.draw(st.integers(0, len(value) - 1))
        value[index] = _mutate(value[index], data)
        return value
    return data.draw(st.sampled_from([None, -1, 2**60, 1.5, "", "x" * 5000, [], {}, True, "no such member"]))


@pytest.mark.parametrize(
    ("value", "defect", "field"),
    [
        (b"{}", Defect.SCHEMA, "$.question"),
        (b'{"question": 1}', Defect.SCHEMA, "$.question"),
        (b'{"question": "  "}', Defect.SCHEMA, "$.question"),
        (b'{"question": "a\\u0000b"}', Defect.SCHEMA, "$.question"),
        (b'{"question": "q", "polcy": "x"}', Defect.SCHEMA, "$.polcy"),
        (b'{"question": "q", "request_id": "7"}', Defect.SCHEMA, "$.request_id"),
        (b'{"question": "q", "max_samples": 1e400}', Defect.SCHEMA, "$.max_samples"),
        (b'{"question": "q", "tags": {"a": [1]}}', Defect.SCHEMA, "$.tags[...]"),
        (b"[1]", Defect.SCHEMA, "$"),
        (b"{", Defect.UNDECODABLE, "$"),
        (b"\xff\xfe", Defect.UNDECODABLE, "$"),
        (None, Defect.UNDECODABLE, "$"),
    ],
)
def test_a_malformed_request_is_refused_by_the_name_of_its_field(
    value: bytes | None, defect: Defect, field: str
) -> None:
    with pytest.raises(UnreadableEvent) as caught:
        codec.decode("reasoning.requests", None, value)
    assert (caught.value.defect, caught.value.field) == (defect, field)


def test_a_request_needs_no_more_than_a_question() -> None:
    assert codec.decode("reasoning.requests", None, b'{"question": "2+2?"}') == ReasoningRequested(question="2+2?")


@pytest.mark.parametrize(
    ("ce_type", "defect"),
    [
        ("conclave.ReasoningRequested.v2", Defect.UNSUPPORTED_VERSION),
        ("conclave.PathDecoded.v1", Defect.UNKNOWN_TYPE),
        ("com.example.Other", Defect.UNKNOWN_TYPE),
    ],
)
def test_an_event_of_another_type_or_version_is_refused(ce_type: str, defect: Defect) -> None:
    with pytest.raises(UnreadableEvent) as caught:
        codec.decode("reasoning.requests", ce_type, b'{"question": "q"}')
    assert (caught.value.defect, caught.value.field) == (defect, "ce_type")


@given(st.integers(0, 2**48 - 1), st.text(max_size=20))
def test_derived_ids_are_uuid7_of_their_time_and_always_the_same(timestamp_ms: int, origin: str) -> None:
    request = ids.derived_request_id(timestamp_ms, origin)
    assert ids.is_request_id(request)
    assert ids.asked_at_ms(request) == timestamp_ms
    assert request == ids.derived_request_id(timestamp_ms, origin)


@given(st.none() | st.text(max_size=60))
def test_a_child_span_is_valid_whatever_its_parent_claims(parent: str | None) -> None:
    child = envelope.trace_of(parent).span()
    assert envelope.trace_of(child).span().split("-")[1] == child.split("-")[1], "the trace was not handed on"


def test_generated_documents_are_up_to_date_and_break_no_reader() -> None:
    assert tool.stale() == []
    assert tool.broken() == []


RELEASED = sorted(tool._RELEASED.glob("v*/*.json"))


def test_every_event_of_version_1_was_released_with_bytes_to_read() -> None:
    assert len(RELEASED) >= 13
    assert {path for path in RELEASED if not path.with_suffix(".jsonl").exists()} == set()


@pytest.mark.parametrize("path", RELEASED, ids=lambda path: f"{path.stem}.{path.parent.name}")
def test_what_was_written_in_a_released_version_is_read_by_this_one(path: Path) -> None:
    _, event = tool._released(path)
    assert event is not None
    topic, written = flow.topic_of(event), f"conclave.{path.stem}.{path.parent.name}"
    lines = path.with_suffix(".jsonl").read_bytes().splitlines()
    assert len(set(lines)) > 10
    validator = jsonschema.Draft202012Validator(json.loads(path.read_text()))
    for line in lines:
        validator.validate(json.loads(line))
        read = codec.decode(topic, written, line)
        assert type(read) is event
        assert codec.decode(topic, codec.versioned_type(event), codec.encode(read)) == read


@pytest.mark.parametrize("path", [path for path in RELEASED if path.stem != "StepClosed"], ids=lambda path: path.stem)
@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_a_spoilt_event_of_a_released_version_is_refused_and_never_a_crash(path: Path, data: st.DataObject) -> None:
    _, event = tool._released(path)
    assert event is not None
    line = data.draw(st.sampled_from(path.with_suffix(".jsonl").read_bytes().splitlines()))
    spoilt = msgspec.json.encode(_mutate(json.loads(line), data))
    with contextlib.suppress(UnreadableEvent):
        read = codec.decode(flow.topic_of(event), f"conclave.{path.stem}.{path.parent.name}", spoilt)
        assert codec.decode(flow.topic_of(event), codec.versioned_type(event), codec.encode(read)) == read


def test_a_version_that_no_row_leads_on_from_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(upcasts.UPCASTS, ("PlanMade", 1))
    assert [problem for problem in tool.broken() if problem.startswith("PlanMade: version 1")]


def test_recorded_bytes_that_can_no_longer_be_read_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    spoiling = upcasts.Upcast("PlanMade", lambda document: {"plan": document["no such field"]})
    monkeypatch.setitem(upcasts.UPCASTS, ("PlanMade", 1), spoiling)
    assert any("PlanMade.jsonl:1: $" in problem for problem in tool.broken())


def test_versions_are_walked_one_by_one_and_an_event_may_change_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(upcasts.UPCASTS, ("Old", 1), upcasts.Upcast("Older", lambda document: document | {"a": 1}))
    monkeypatch.setitem(upcasts.UPCASTS, ("Older", 2), upcasts.Upcast("New", lambda document: document | {"b": 2}))
    way = upcasts.way_from("Old", 1)
    assert (way.event, way.version, way.walk({})) == ("New", 3, {"a": 1, "b": 2})


def _object(**changes: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], **changes}


_B = {"a": {"type": "integer"}, "b": {"type": "integer"}}


@pytest.mark.parametrize(
    ("old", "new", "is_break"),
    [
        (_object(), _object(), False),
        (_object(), _object(properties=_B), False),  # an optional field more
        (_object(), _object(properties=_B, required=["a", "b"]), True),  # old events lack it
        (_object(), _object(properties={}, required=[]), True),  # old readers need it
        (_object(), _object(properties={"a": {"type": "string"}}), True),
        (_object(properties={"a": {"type": "integer", "maximum": 5}}), _object(), True),  # old readers refuse more
        (_object(), _object(properties={"a": {"type": "integer", "maximum": 5}}), True),  # old events may hold more
        (_object(properties={"a": {"enum": ["x"]}}), _object(properties={"a": {"enum": ["x", "y"]}}), True),
        (_object(properties={"a": {"enum": ["x", "y"]}}), _object(properties={"a": {"enum": ["x"]}}), True),
        (_object(additionalProperties=False), _object(properties=_B, additionalProperties=False), True),
        (_object(properties={"a": {"anyOf": [{"type": "integer"}, {"type": "null"}]}}), _object(), True),
        (_object(), _object(properties={"a": {"anyOf": [{"type": "integer"}, {"type": "null"}]}}), True),
    ],
)
def test_a_change_breaks_an_internal_event_when_either_side_would_refuse(old: Any, new: Any, is_break: bool) -> None:
    assert bool(breaks(old, new, is_producer_facing=False)) is is_break


def test_an_optional_field_may_be_added_to_what_producers_write() -> None:
    old, new = _object(additionalProperties=False), _object(properties=_B, additionalProperties=False)
    assert breaks(old, new, is_producer_facing=True) == []
    assert breaks(new, old, is_producer_facing=True), "a removed field is still in the log"


@pytest.mark.parametrize("place", ["StepContext", "Step", "Ask"])
@pytest.mark.parametrize("event", ["SampleRequested", "PathDecoded", "PathFailed", "TallyCarried"])
def test_a_new_field_of_what_is_handed_on_must_have_a_default(event: str, place: str) -> None:
    """A relay of before drops it: what reads on then must have something to put in its place."""
    old = documents.json_schema(codec.EVENT_TYPES[event])
    new = copy.deepcopy(old)
    new["$defs"][place]["properties"]["added"] = {"type": "integer", "default": 0}
    assert breaks(old, new, is_producer_facing=False) == []
    new["$defs"][place]["required"].append("added")
    assert [each for each in breaks(old, new, is_producer_facing=False) if "added is required" in each]


@pytest.mark.parametrize("kind", sorted(codec.EVENT_TYPES.values(), key=lambda kind: str(kind)))
def test_a_check_of_what_was_written_is_as_strict_as_reading_it(kind: type[Event]) -> None:
    @given(EVENTS[kind], st.integers(0, 2**32))
    @settings(max_examples=25, deadline=None)
    def hold(event: Event, seed: int) -> None:
        value = codec.encode(event)
        codec.check(event, value)
        codec.check(event, value)  # the context is known by now
        broken: Any = document(event)
        context = broken.get("context")
        rng = random.Random(seed)
        name = rng.choice(sorted(broken))
        broken[name] = rng.choice([None, -7, "no such", [], {}, 1.5])
        if context is not None and name == "context":
            return  # what was sound is not looked at again: an event's context cannot change
        spoiled = json.dumps(broken).encode()
        assert _is_read(kind, spoiled) is _is_checked(event, spoiled)

    hold()


def _is_read(kind: type[Event], value: bytes) -> bool:
    try:
        msgspec.json.decode(value, type=kind)
    except (ValueError, msgspec.MsgspecError):
        return False
    return True


def _is_checked(event: Event, value: bytes) -> bool:
    try:
        codec.check(event, value)
    except codec.UnreadableEvent:
        return False
    return True


def test_events_of_one_step_have_one_context_between_them_and_one_that_differs_has_its_own() -> None:
    path, other = (made.decoded(made.context(), index, 2, "36") for index in range(2))
    written = [codec.encode(each) for each in (path, other)]
    first, second = (codec.decode(flow.Topic.PATHS, codec.versioned_type(PathDecoded), each) for each in written)
    assert isinstance(first, PathDecoded)
    assert isinstance(second, PathDecoded)
    assert (first, second) == (path, other)
    assert first.context is second.context
    spoilt = written[1].replace(b'"step":{"index":', b'"step":{"index":-1')
    assert spoilt != written[1]
    with pytest.raises(UnreadableEvent) as refused:
        codec.decode(flow.Topic.PATHS, codec.versioned_type(PathDecoded), spoilt)
    assert refused.value.field == "$.context.step.index"
