"""Structured answers: what schemas are taken, and what a vote field by field comes to."""

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from conclave.domain import counting
from conclave.domain.programs import End, Speak
from conclave.domain.programs.structured import next_turn
from conclave.domain.replay import Recording, play
from conclave.domain.schedules import SCHEDULES
from conclave.domain.stopping import STOPPING_RULES
from conclave.domain.structured.answer_schema import MAX_FIELDS, accepted, field_names, read
from conclave.domain.structured.fields import canonical
from conclave.errors import Rejected
from schemas.values import Ask, Ballot, Outcome, StopReason, Turn

ORDER: dict[str, Any] = {
    "type": "object",
    "properties": {
        "total": {"type": "number"},
        "buyer": {"type": "string"},
        "items": {"type": "array", "items": {"$ref": "#/$defs/item"}},
        "note": {"type": "string"},
    },
    "required": ["total", "buyer", "items"],
    "additionalProperties": False,
    "$defs": {"item": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}},
}
SCHEMA = accepted(ORDER)


def ask(schema: str = SCHEMA, **changes: Any) -> Ask:
    return Ask(form="any", answer_schema=schema, **{"stopping": "fixed", "max_samples": 16, **changes})


def said(total: float, buyer: str, *items: int, **more: Any) -> str:
    return json.dumps({"total": total, "buyer": buyer, "items": [{"n": each} for each in items], **more})


def ballots(*answers: str | None) -> list[Ballot]:
    return [Ballot(sample_index=index, answer=answer) for index, answer in enumerate(answers)]


def counted(*answers: str | None, **changes: Any) -> counting.Counted:
    return counting.count(ballots(*answers), ask(**changes), reason=StopReason.EXHAUSTED)


def object_of(found: counting.Counted) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(found.result.answer or "null")
    return value


def test_references_are_written_out_and_the_schema_stays_what_it_says() -> None:
    assert "$ref" not in SCHEMA
    assert "$defs" not in SCHEMA
    assert field_names(SCHEMA) == ("total", "buyer", "items", "note")
    for value in (json.loads(said(1, "Tom", 2)), json.loads(said(1, "Tom", 2)) | {"more": 1}, {"total": 1}):
        assert Draft202012Validator(ORDER).is_valid(value) is (read(json.dumps(value), SCHEMA) is not None)


def changed(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def nested(depth: int) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": nested(depth - 1)}} if depth else {"type": "string"}


LONG = changed(**{f"p{n}": {"$ref": "#/$defs/d"} for n in range(20)}) | {"$defs": {"d": {"description": "x" * 10_000}}}
# Each definition has the next one twice: 2^40 schemas, written out.
DOUBLED = {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(40)} | {"d40": {"type": "string"}}


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({}, r"\$\.answer_schema: expected type \"object\" with up to 32 properties"),
        ({"type": "array", "items": {}}, "expected type \"object\""),
        (changed() | {"properties": []}, "with up to 32 properties"),
        (changed(**{"$": {}}), "up to 48 ASCII characters, and not \\$"),
        (changed(**{f"p{n}": {} for n in range(MAX_FIELDS + 1)}), "with up to 32 properties"),
        (changed(nün={}), "properties: expected names of up to 48 ASCII characters"),
        (changed(a={"type": "string", "pattern": "(a+)+$"}), r"properties\.a\.pattern: expected none of"),
        (changed(a={"type": "text"}), r"properties\.a\.type: expected as JSON Schema 2020-12 has it"),
        (changed(a={"$ref": "https://example.org/s.json"}), r"properties\.a\.\$ref: expected a definition of the schema's own"),
        (changed(a={"$ref": "#/$defs/none"}), "expected a definition of the schema's own"),
        (changed(a={"$ref": "#/$defs/a"}) | {"$defs": {"a": {"items": {"$ref": "#/$defs/a"}}}}, "does not contain itself"),
        (changed(a={"$ref": "#/$defs/d0"}) | {"$defs": DOUBLED}, "at most 500 schemas, 12 deep"),
        (changed(a=nested(20)), "at most 500 schemas, 12 deep"),
        (changed(a={"enum": ["x" * 9000]}), "up to 8192 characters"),
        (LONG, r"properties\.p3: expected up to 8192 characters, references written out"),  # before most of it is
        (changed(a=7), "expected as JSON Schema"),
    ],
)  # fmt: skip
def test_a_schema_that_cannot_be_taken_is_refused_at_once_with_what_was_expected(
    document: dict[str, Any], said: str
) -> None:
    started = time.process_time()
    with pytest.raises(Rejected, match=said):
        accepted(document)
    assert time.process_time() - started < 5


@pytest.mark.parametrize(("schema", "usable"), [("", True), (SCHEMA, True), ("{", False), ("[]", False), ("{}", False)])
def test_a_schema_that_no_door_has_taken_is_known_for_it(schema: str, usable: bool) -> None:
    assert (counting.unknown_rule(ask(schema)) is None) is usable


def test_a_property_may_be_called_as_a_keyword_is() -> None:
    document = changed(pattern={"type": "string"}, properties={"type": "integer"})
    assert field_names(accepted(document)) == ("pattern", "properties")


def test_each_field_has_its_own_winner_with_a_tally_and_a_confidence() -> None:
    found = counted(
        said(432, "Tom", 1, 2), said(432.0, "tom", 1), said(430, "Tom", 1, 2), said(432, "Ann", 1, 2), None, "no JSON"
    )
    assert object_of(found) == {"total": 432, "buyer": "Tom", "items": [{"n": 1}, {"n": 2}]}
    assert found.result.outcome is Outcome.MAJORITY
    assert [(each.name, [row.votes for row in each.tally]) for each in found.fields] == [
        ("total", [3, 1]), ("buyer", [3, 1]), ("items", [3, 1]), ("note", [4]),
    ]  # fmt: skip
    assert found.fields[0].tally[0].answer == "432"
    assert found.confidence == min(each.confidence for each in found.fields)
    assert found.result.agreement == 0.75
    assert [ballot.tally_row for ballot in found.ballots] == [0, 1, 2, 3, None, None]


def test_a_field_without_a_consensus_is_named_and_there_is_no_answer() -> None:
    found = counted(said(1, "Tom"), said(2, "Tom"), said(3, "Tom"))
    assert (found.result.outcome, found.result.answer, found.confidence) == (Outcome.NO_ANSWER, None, 0.0)
    assert [each.name for each in found.fields if each.outcome is not Outcome.MAJORITY] == ["total"]
    lenient = counted(said(1, "Tom"), said(1, "Tom"), said(2, "Tom"), said(3, "Tom"), params={"quorum": 0.5})
    strict = counted(said(1, "Tom"), said(1, "Tom"), said(2, "Tom"), said(3, "Tom"), params={"quorum": 0.6})
    assert (object_of(lenient)["total"], strict.result.answer) == (1, None)


def test_an_optional_field_is_left_out_where_most_leave_it_out() -> None:
    without = counted(said(1, "Tom"), said(1, "Tom", note="new"), said(1, "Tom"))
    assert "note" not in object_of(without)
    assert object_of(counted(said(1, "Tom", note="new"), said(1, "Tom", note="New"), said(1, "Tom")))["note"] == "new"


def test_winners_that_the_schema_does_not_allow_together_give_way_to_the_path_that_has_most_of_them() -> None:
    either = accepted(
        {
            "type": "object",
            "properties": {"paid": {"type": "boolean"}, "due": {"type": "integer"}, "who": {"type": "string"}},
            "required": ["paid", "due", "who"],
            "if": {"properties": {"paid": {"const": True}}},
            "then": {"properties": {"due": {"const": 0}}},
        }
    )
    cast = [(True, 0, "Tom"), (True, 0, "Ann"), (False, 5, "Tom"), (False, 5, "Tom"), (True, 0, "Tom")]
    answers = [json.dumps({"paid": paid, "due": due, "who": who}) for paid, due, who in cast]
    assert object_of(counted(*answers, schema=either)) == {"paid": True, "due": 0, "who": "Tom"}
    # Weighed so that paid and due come from different paths.
    apart = [json.dumps({"paid": True, "due": 0, "who": "a"})] * 3 + [
        json.dumps({"paid": False, "due": 5, "who": "b"})
    ] * 2
    found = counting.count(
        [Ballot(sample_index=at, answer=answer, probability=1.0 if at < 3 else 0.4) for at, answer in enumerate(apart)],
        ask(either, weighing="stated"),
        reason=StopReason.EXHAUSTED,
    )
    assert read(found.result.answer or "", either) is not None


def test_an_object_without_named_properties_is_voted_on_as_a_whole() -> None:
    anything = accepted({"type": "object"})
    cast = ['{"a": 1, "b": "x  y"}', '{"b": "x y", "a": 1.0}', '{"a": 2}', "[1]", None]
    found = counted(*cast, schema=anything)
    assert object_of(found) == {"a": 1, "b": "x  y"}
    assert [(each.name, [row.votes for row in each.tally]) for each in found.fields] == [("$", [2, 1])]
    assert found.confidence == found.fields[0].confidence > 0
    apart = counted('{"a": 1}', '{"a": 2}', '{"a": 3}', schema=anything)
    assert (apart.result.answer, apart.fields[0].outcome) == (None, Outcome.TIE)


def test_winners_that_are_too_long_together_give_way_to_what_one_path_said() -> None:
    letters = {"type": "object", "properties": {name: {"type": "string"} for name in "ab"}, "required": ["a", "b"]}
    long, other = "x" * 3000, "y" * 3000
    first = {"a": long, "b": "1"}
    crossed = [first, {"a": long, "b": "2"}, {"a": "3", "b": other}, {"a": "4", "b": other}, {"a": "5", "b": "5"}]
    found = counted(*map(json.dumps, crossed), schema=accepted(letters), params={"quorum": 0.4})
    assert object_of(found) == first


def test_sampling_goes_on_until_every_field_has_its_leader() -> None:
    rule = ask(stopping="ahead_by_k", params={"lead": 2})
    agreed = [said(1, "Tom"), said(2, "Tom"), said(1, "Tom"), said(1, "Tom")]
    assert counting.stop(ballots(*agreed[:2]), rule) is None  # of the buyer there is no doubt, of the total there is
    stop = counting.stop(ballots(*agreed), rule)
    assert stop is not None
    assert (stop.length, stop.reason) == (4, StopReason.CONFIDENT)
    assert counting.deficit(ballots(*agreed[:2]), rule) == 2


def test_equal_values_have_one_canonical_form() -> None:
    assert canonical({"b": 1.0, "a": ["x  y", True]}) == canonical({"a": ["x y", True], "b": 1})
    assert len({canonical(each) for each in (True, 1, "1", [1], None)}) == 5


numbers = st.integers(0, 2) | st.sampled_from([1.0, 2.5])
objects: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"total": numbers, "buyer": st.sampled_from(["Tom", "tom", "Ann", ""]), "items": st.just([])},
    optional={"note": st.sampled_from(["a", "b"])},
)
answers = st.lists(
    objects.map(json.dumps) | st.sampled_from([None, "{}", "[1]", "7", "{", ""]), min_size=1, max_size=16
)
asks = st.builds(
    ask,
    stopping=st.sampled_from(sorted(STOPPING_RULES)),
    schedule=st.sampled_from(sorted(SCHEDULES)),
    params=st.fixed_dictionaries({"window": st.just(3.0), "lead": st.integers(1, 3).map(float)}),
    max_samples=st.integers(1, 16),
)


@given(answers, asks)
@settings(max_examples=200, deadline=None)
def test_the_result_fits_the_schema_or_names_the_fields_that_had_no_consensus(cast: list[str | None], ask: Ask) -> None:
    found = counting.count(ballots(*cast), ask, reason=StopReason.EXHAUSTED)
    missing = [each.name for each in found.fields if each.outcome is not Outcome.MAJORITY]
    assert (found.result.answer is None) == bool(missing)
    assert found.result.answer is None or Draft202012Validator(ORDER).is_valid(json.loads(found.result.answer))
    assert 0.0 <= found.confidence <= 1.0
    assert [each.name for each in found.fields] == list(ORDER["properties"])


@given(st.lists(objects.map(json.dumps) | st.none(), min_size=16, max_size=16), asks, st.permutations(range(1, 17)))
@settings(max_examples=100, deadline=None)
def test_the_verdict_is_the_same_whatever_the_schedule_and_whichever_path_is_done_first(
    cast: list[str | None], ask: Ask, ticks: list[int]
) -> None:
    recording = Recording("q", None, tuple(ballots(*cast)))
    one_by_one = next(
        (stop for n in range(ask.max_samples + 1) if (stop := counting.stop(ballots(*cast)[:n], ask))), None
    )
    played = play(recording, ask, ticks)
    assert played.num_counted == (one_by_one.length if one_by_one else ask.max_samples)


def turn(text: str, answer: str | None = None) -> Turn:
    return Turn(form="any", text=text, answer=answer, tokens_out=3)


def test_a_path_thinks_freely_and_only_its_last_turn_is_held_to_the_schema() -> None:
    fields, rule = {"question": "How much?"}, ask(program="structured", max_turns=2)
    first = next_turn(fields, [], rule)
    assert first == Speak("any", fields)
    second = next_turn(fields, [turn("I think 4.")], rule)
    assert second == Speak("structured", {**fields, "path": "I think 4.", "schema": SCHEMA}, json_schema=SCHEMA)
    assert next_turn(fields, [turn("I think 4.", "4"), turn("{}", "{}")], rule) == End("{}", turn=1)
    assert next_turn(fields, [turn("I think 4.", "4")], ask(max_turns=1)) == End(None, turn=0)


@pytest.mark.parametrize("fence", ["```json\n{}\n```", "```{}```", " {} \n"])
def test_a_fence_around_json_is_passed_over(fence: str) -> None:
    assert read(fence.replace("{}", said(1, "Tom")), SCHEMA) == json.loads(said(1, "Tom"))
    assert read(fence.replace("{}", "so"), SCHEMA) is None
