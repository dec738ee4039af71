"""What producers write: a table of shapes, the rules of tolerance, and that the JSON Schemas say the same as the code."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import click
import hypothesis.strategies as st
import jsonschema
import msgspec
import pytest
from hypothesis import given, settings

from conclave.cli.publishing import _read as read_lines
from conclave.errors import Rejected
from conclave.policies.current import CurrentPolicies
from conclave.runtime.dead_letters import Cause, Reason, cause_of
from conclave.runtime.handler import Arrival
from conclave.runtime.record import Output, output_of
from conclave.runtime.translation import Translator
from conclave.testing import events as made
from schemas import codec, documents, producers
from schemas.codec import UnreadableEvent
from schemas.compatibility import refusals
from schemas.envelope import Headers, header
from schemas.events import Event, FeedbackGiven, PlanMade, ReasoningRequested, RequestFailed, SampleRequested
from schemas.ids import UUID7_PATTERN, WRITTEN_UUID7_PATTERN, canonical_uuid, derived_request_id
from schemas.values import RequestFailure, is_blank
from services.decomposer.handler import Decomposer
from services.decomposer.settings import DecomposerSettings
from tests.drawn import request_ids
from tests.producer_shapes import SHAPES, STRUCTURED, Answered, Dead, Shape, Told

REQUEST_ID = made.REQUEST_ID


@dataclass(frozen=True)
class Written:
    """A record of `reasoning.requests` as a broker would deliver it."""

    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    offset: int = 0
    topic: str = "reasoning.requests"
    partition: int = 0
    timestamp: int = made.NOW_MS


PLAIN: dict[type[Event], Any] = {
    event: jsonschema.Draft202012Validator(documents.json_schema(event))
    for event in (ReasoningRequested, FeedbackGiven)
}
WRAPPED = jsonschema.Draft202012Validator(documents.structured_schema(ReasoningRequested))


def _decomposer() -> Decomposer:
    return Decomposer(DecomposerSettings(), CurrentPolicies("default"))


def _published(record: Written, events: Iterable[Event]) -> list[Output]:
    return [
        output_of(event, service="decomposer", event_id=f"{record.offset}", parent=None, now_ms=made.NOW_MS)
        for event in events
    ]


async def _way_of(
    key: bytes | None, headers: Headers, value: bytes | None
) -> tuple[list[ReasoningRequested], PlanMade]:
    """The request each time that it is read, until it is planned; hops go through bytes as in the log."""
    decomposer, translator = _decomposer(), Translator("decomposer", lambda: made.NOW_MS)
    seen = []
    for offset in range(4):
        record = Written(key, value, headers, offset)
        event = translator.read(record)
        assert isinstance(event, ReasoningRequested)
        seen.append(event)
        first, *_ = outputs = list(await decomposer.handle(event, translator.arrival(record)))
        if isinstance(first, PlanMade):
            assert any(isinstance(output, SampleRequested) for output in outputs)
            return seen, first
        (output,) = _published(record, outputs)
        key, headers, value = output.key, output.headers, output.value
    raise AssertionError(f"{seen[-1]} comes back for ever")


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
async def test_a_shape_gives_what_the_table_says(shape: Shape) -> None:
    key, value, headers = shape.bytes_with(REQUEST_ID)
    match shape.end:
        case Answered(has_own_id=has_own_id, fields=fields):
            (first, *_), plan = await _way_of(key, headers, value)
            assert (first.request_id == REQUEST_ID) is has_own_id
            assert {name: getattr(first, name) for name in fields} == fields
            assert plan.question == first.question
        case Dead(field=field, reason=reason):
            with pytest.raises((UnreadableEvent, Rejected)) as caught:
                await _way_of(key, headers, value)
            error: Any = caught.value
            found = error.defect if isinstance(error, UnreadableEvent) else "rejected"
            assert (error.field, found) == (field, reason), str(error)


@pytest.mark.parametrize("shape", [each for each in SHAPES if isinstance(each.end, Dead)], ids=lambda shape: shape.name)
def test_the_producer_of_what_is_refused_is_told_where_it_left_something_to_be_found_by(shape: Shape) -> None:
    key, value, headers = shape.bytes_with(REQUEST_ID)
    decomposer, translator = _decomposer(), Translator("decomposer", lambda: made.NOW_MS)
    record = Written(key, value, headers)
    arrival = translator.arrival(record)
    assert isinstance(shape.end, Dead)
    try:
        told = decomposer.give_up(
            translator.read(record), arrival, Cause(Reason.REJECTED, "$.policy: expected another")
        )
    except UnreadableEvent as error:
        told = decomposer.unreadable(value, arrival, cause_of(error))
    published, refused = translator.publishable(record, told)
    assert not refused
    match shape.end.told:
        case Told.NOBODY:
            assert not published
        case Told.OWN:
            (failed,) = told
            assert isinstance(failed, RequestFailed)
            assert (failed.request_id, failed.failure) == (REQUEST_ID, RequestFailure.INVALID)
            assert shape.end.field in failed.message
        case Told.ITS_OWN:
            (failed,) = told
            assert isinstance(failed, RequestFailed)
            assert failed.request_id == (key or b"").decode()
        case Told.ANOTHER:
            (failed,) = told
            assert isinstance(failed, RequestFailed)
            assert failed.request_id == derived_request_id(made.NOW_MS, "reasoning.requests/0/0")
            named = (key or b"").decode() or dict(headers)["ce_id"].decode()
            assert repr(named) in failed.message


# What a parsed document does not show: a key twice, 1e999, the content type; and Python's `$` matches before a line break.
_UNSEEN = re.compile("twice|1 and then|then set|1e999|surrogate|line break|a batch of CloudEvents")


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_the_schema_says_of_a_shape_what_the_codec_says(shape: Shape) -> None:
    _, value, headers = shape.bytes_with(REQUEST_ID)
    try:
        document = json.loads((value or b"").decode("utf-8-sig"), parse_constant=int)
    except (ValueError, RecursionError):
        return  # no JSON document, so no question for a schema
    if _UNSEEN.search(shape.name):
        return
    is_wrapped = headers == STRUCTURED or (isinstance(document, dict) and "specversion" in document)
    validator = WRAPPED if is_wrapped else PLAIN[ReasoningRequested]
    is_bad_value = isinstance(shape.end, Dead) and shape.end.field.startswith("$") and shape.end.reason != "rejected"
    assert validator.is_valid(document) is not is_bad_value


_scalar = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
_tags = st.dictionaries(st.text(max_size=5), _scalar, max_size=3)
_odd = st.sampled_from(["", " ", "\u200b", "q", "default", 1.0, 16.0, True])
_any = st.recursive(
    _odd | st.none() | st.integers(-2, 300) | st.floats(-2, 300),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=4,
)
_spelled = request_ids.flatmap(
    lambda each: st.sampled_from(
        [each, each.upper(), f"{{{each}}}", each.replace("-", ""), f"urn:uuid:{each}", f"{{{each}", "7"]
    )
)
_fields: dict[type[Event], dict[str, st.SearchStrategy[Any]]] = {
    ReasoningRequested: {
        "question": st.just("q") | _any, "request_id": _spelled | _any, "idempotency_key": _any, "policy": _any,
        "max_samples": _any, "deadline_s": _any, "tags": _tags | _any,
    },
    FeedbackGiven: {"request_id": _spelled, "reward": _any, "right_answer": _any, "comment": _any, "source": _any, "more": _any},
}  # fmt: skip


@settings(deadline=None, max_examples=400)
@given(st.data(), st.sampled_from(list(_fields)))
def test_code_and_schema_accept_the_same_documents(data: st.DataObject, event_type: type[Event]) -> None:
    document = data.draw(st.fixed_dictionaries({}, optional=_fields[event_type]))
    value = msgspec.json.encode(document)
    document = json.loads(value)  # with NaN as null, as a serialiser would write it
    try:
        producers.read(value, event_type)
        is_read = True
    except msgspec.ValidationError:
        is_read = False
    assert PLAIN[event_type].is_valid(document) is is_read, document


@given(request_ids)
def test_every_usual_spelling_of_an_id_is_the_same_id(request_id: str) -> None:
    plain = request_id.replace("-", "")
    for spelled in (
        request_id,
        request_id.upper(),
        f"{{{plain}}}",
        f"{{{request_id}}}",
        plain,
        f"URN:UUID:{plain.upper()}",
    ):
        assert canonical_uuid(spelled) == request_id
    assert canonical_uuid(f"{{{request_id}") == f"{{{request_id}"


def test_a_reader_of_every_spelling_takes_the_canonical_one_and_not_the_other_way() -> None:
    canonical, written = ({"type": "string", "pattern": each} for each in (UUID7_PATTERN, WRITTEN_UUID7_PATTERN))
    assert refusals(written, canonical) == []
    assert refusals(canonical, written)


@given(st.text())
def test_what_python_calls_white_space_is_blank(text: str) -> None:
    assert is_blank(text) or text.strip()


@pytest.mark.parametrize("text", ["a", "日", "🍎", "۳", "\u200b?", "e\u0301"])
def test_what_can_be_seen_is_not_blank(text: str) -> None:
    assert not is_blank(text)


async def test_equal_source_and_id_in_either_mode_are_one_request_whatever_else_differs() -> None:
    binary = (("ce_id", b"1"), ("ce_source", b"/shop/web"))
    wrapped = json.dumps(
        {"specversion": "1.0", "id": "1", "source": "/shop/web", "data": {"question": "again?"}}
    ).encode()
    records = [
        Written(None, b'{"question": "q"}', binary),
        Written(b"k", wrapped, STRUCTURED, offset=9, partition=1, timestamp=made.NOW_MS + 86_400_000),
    ]
    decomposer, translator = _decomposer(), Translator("decomposer", lambda: made.NOW_MS)
    arrived: list[Output] = []
    for record in records:
        event = translator.read(record)
        assert decomposer.request_key(event, translator.arrival(record)) is None  # not yet under its key
        arrived += _published(record, await decomposer.handle(event, translator.arrival(record)))
    assert arrived[0].key == arrived[1].key, "they would lie in two partitions"
    noted = []
    for offset, output in enumerate(arrived):
        record = Written(output.key, output.value, output.headers, offset, partition=2, timestamp=made.NOW_MS + offset)
        noted.append(decomposer.request_key(translator.read(record), translator.arrival(record)))
    assert noted[0] == noted[1] is not None


def test_another_source_or_id_and_a_missing_one_are_no_duplicates() -> None:
    def key(**headers: bytes) -> str | None:
        given = tuple((f"ce_{name}", text) for name, text in headers.items())
        event = codec.read("reasoning.requests", given, b'{"question": "q"}')
        assert isinstance(event, ReasoningRequested)
        return event.idempotency_key

    assert len({key(source=b"/a", id=b"1"), key(source=b"/b", id=b"1"), key(source=b"/a", id=b"2"), key(id=b"1")}) == 4
    assert key(id=b"1") is None
    assert key(source=b"/a") is None


def test_a_request_id_or_a_key_of_its_own_goes_before_source_and_id() -> None:
    headers: Headers = (("ce_id", b"1"), ("ce_source", b"/a"))
    for fields in ({"request_id": REQUEST_ID}, {"idempotency_key": "mine"}):
        event = codec.read("reasoning.requests", headers, json.dumps({"question": "q", **fields}).encode())
        assert isinstance(event, ReasoningRequested)
        assert event.idempotency_key == fields.get("idempotency_key")


async def test_a_request_under_its_idempotency_key_gets_one_id_from_where_it_lies() -> None:
    decomposer, event = (
        _decomposer(),
        ReasoningRequested(question="q", idempotency_key="order 17"),
    )
    arrival = Arrival("event", "order 17", made.NOW_MS, made.NOW_MS + 7, "reasoning.requests/0/42")
    (first,), (again,) = await decomposer.handle(event, arrival), await decomposer.handle(event, arrival)
    assert isinstance(first, ReasoningRequested)
    assert first == again
    assert first.request_id == derived_request_id(made.NOW_MS, "reasoning.requests/0/42")
    assert decomposer.request_key(event, arrival) == "idempotency key order 17"


def test_a_reward_may_be_true_or_false_and_nothing_else_of_text() -> None:
    for written, reward in ((b"true", 1.0), (b"false", 0.0), (b"1", 1.0)):  # F06
        value = b'{"request_id": "' + REQUEST_ID.encode() + b'", "reward": ' + written + b"}"
        event = codec.read("reasoning.feedback", (), value)
        assert isinstance(event, FeedbackGiven)
        assert event.reward == reward
    for wrong in (b"-1", b"2", b'"1"', b"null"):  # F07, F10
        with pytest.raises(UnreadableEvent) as caught:
            codec.read(
                "reasoning.feedback", (), b'{"request_id": "' + REQUEST_ID.encode() + b'", "reward": ' + wrong + b"}"
            )
        assert caught.value.field == "$.reward"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"request_id": "7d1f6c0e-3b0a-4c5e-9d55-2f6a1b0c4d5e"}, "$.request_id: Expected a UUIDv7"),
        ({"question": "a\0b"}, "$.question: Expected `str` without U+0000"),
        ({"max_samples": 1.5}, "$.max_samples: Expected `int | null`, got `float`"),
        ({"deadline_s": "60"}, "$.deadline_s: Expected `float`, got `str`"),
    ],
)
def test_a_refusal_says_what_was_expected_in_words(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UnreadableEvent) as caught:
        codec.read("reasoning.requests", (), json.dumps({"question": "q", **fields}).encode())
    assert str(caught.value) == message


def test_what_services_write_to_each_other_is_read_without_tolerance() -> None:
    value = json.dumps({"request_id": REQUEST_ID.upper(), "step_index": 0}).encode()
    with pytest.raises(UnreadableEvent):
        codec.decode("reasoning.control", "conclave.StepClosed.v2", value)


def test_the_trace_and_the_id_of_a_structured_event_are_handed_on() -> None:
    parent = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    value = json.dumps(
        {"specversion": "1.0", "id": "7", "source": "/s", "traceparent": parent, "data": {"question": "q"}}
    ).encode()
    translator = Translator("decomposer", lambda: made.NOW_MS)
    record = Written(None, value, STRUCTURED)
    assert translator.arrival(record).event_id == "7"
    failed = RequestFailed(request_id=REQUEST_ID, failure=RequestFailure.INVALID, message="m")
    (output,) = translator.outputs(record, [failed])
    assert (header(output.headers, "traceparent") or "").startswith("00-" + "a" * 32)


def test_a_file_to_publish_may_begin_with_a_byte_order_mark_and_be_written_by_any_serialiser() -> None:  # K06
    lines = read_lines(BytesIO(b'\xef\xbb\xbf{"question": "q", "tags": null, "max_samples": 2.0}\n'), {})
    assert [(line.request.tags, line.request.max_samples) for line in lines] == [({}, 2)]


def test_a_file_in_utf16_is_refused_by_that_name() -> None:
    with pytest.raises(click.UsageError, match="UTF-16"):
        read_lines(BytesIO('{"question": "q"}\n'.encode("utf-16")), {})


@pytest.mark.parametrize(
    ("line", "field"),
    [
        (b'{"question": "q", "question": "r"}', "question"),
        (b'{"question": "q", "idempotency_key": "k"}', "idempotency_key"),
    ],
)
def test_a_line_that_is_ambiguous_is_not_published(line: bytes, field: str) -> None:
    with pytest.raises(click.UsageError, match=rf"line 1: .*\$\.{field}"):
        read_lines(BytesIO(line), {})
