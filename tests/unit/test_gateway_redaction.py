"""A secret in what a client sends reaches neither the log nor the record nor the ledger, wherever it is planted."""

import json
from typing import Any

import pytest

from conclave.domain.api_keys import Scope
from conclave.domain.redaction import masker
from schemas import codec
from schemas.events import ReasoningRequested
from services.gateway.batch_lines import lines_of, masked_file
from services.gateway.errors import ApiError
from services.gateway.masking import masked, numbered
from tests import batch_calls
from tests.gateway_in_memory import World, answering

CANARY = "canary.7f3a@secret.example"


async def test_a_secret_reaches_nothing_that_is_kept_from_wherever_it_is_planted() -> None:
    world = World(answering("36"))
    async with world.serving() as client:
        body: dict[str, Any] = {"question": f"Is {CANARY} mine?", "tags": {CANARY: f"of {CANARY}"}}
        asked = await client.post("/v1/requests", json=body, headers={"Idempotency-Key": CANARY})
        assert asked.status_code == 202
        feedback = {
            "request_id": asked.json()["id"],
            "right_answer": CANARY,
            "comment": f"ask {CANARY}",
            "source": CANARY,
        }
        assert (await client.post("/v1/feedback", json=feedback)).status_code == 202
        chat = {
            "model": "conclave",
            "messages": [{"role": "system", "content": CANARY}, {"role": "user", "content": f"{CANARY}?"}],
            "metadata": {"who": CANARY},
            "user": CANARY,
        }
        told = await client.post("/v1/chat/completions", json=chat)
        assert told.status_code == 200
        assert CANARY not in told.text
        for wrong in ({**body, "policy": CANARY}, {**body, "no_such": CANARY}, {"question": [CANARY]}):
            assert (await client.post("/v1/requests", json=wrong)).status_code in (400, 404)
        state = await client.get(f"/v1/requests/{asked.json()['id']}")
    assert len(world.published) == 3
    assert CANARY.encode() not in b"".join(codec.encode(event) for event in world.published)
    assert CANARY not in repr(world.ledger.entries)
    assert state.json()["question"] == "Is [EMAIL] mine?"


async def test_a_tenant_may_have_its_texts_kept_as_they_are() -> None:
    world = World()
    key = world.accounts.add("ours", Scope.ASK, is_redacted=False)
    async with world.serving() as client:
        headers = {"Authorization": f"Bearer {key.text}"}
        await client.post("/v1/requests", json={"question": f"Is {CANARY} mine?"}, headers=headers)
    assert world.published[0].question == f"Is {CANARY} mine?"  # type: ignore[attr-defined]


ALIKE = {"ann@shop.example": "1", "bob@shop.example": "2", "[EMAIL] 2": "3", "plain": "4"}
APART = {"[EMAIL]": "1", "[EMAIL] 3": "2", "[EMAIL] 2": "3", "plain": "4"}


async def test_tags_that_are_the_same_once_masked_are_all_kept() -> None:
    world = World(answering("36"))
    async with world.serving() as client:
        await client.post("/v1/requests", json={"question": "?", "tags": ALIKE})
        chat = {"model": "conclave", "messages": [{"role": "user", "content": "?"}], "metadata": ALIKE}
        await client.post("/v1/chat/completions", json=chat)
        form: Any = {"data": {"purpose": "batch"}, "files": {"file": ("a.jsonl", b"x")}}
        file_id = (await client.post("/v1/files", **form)).json()["id"]
        batch = {"input_file_id": file_id, "endpoint": "/v1/chat/completions", "completion_window": "1h"}
        begun = await client.post("/v1/batches", json={**batch, "metadata": ALIKE})
    asked = [event.tags for event in world.published if isinstance(event, ReasoningRequested)]
    assert [{name: each[name] for name in APART} for each in asked] == [APART, APART]
    assert begun.json()["metadata"] == APART
    assert masked({"tags": [ALIKE]}, masker()) == {"tags": [APART]}
    assert masked_file(b'{"ann@shop.example":1,"bob@shop.example":2}', masker()) == '{"[EMAIL]":1,"[EMAIL] 2":2}\n'


def test_names_that_are_cut_are_told_apart_within_their_length() -> None:
    names = [f"{'x' * 20}{at}" for at in range(12)]
    found = numbered(names, lambda text: text, most=10)
    assert sorted({len(each) for each in found.values()}) == [10]
    assert len(set(found.values())) == 12


@pytest.mark.parametrize(("names", "status"), [(("ann@a.example", "bob@a.example"), 400), (("ann@a.example",), 202)])
async def test_a_schema_two_names_of_which_are_the_same_once_masked_is_refused(names: Any, status: int) -> None:
    schema = {"type": "object", "properties": {name: {"type": "string"} for name in names}, "required": list(names)}
    async with World().serving() as client:
        told = await client.post("/v1/requests", json={"question": "?", "answer_schema": schema})
    assert told.status_code == status, told.text
    if status == 400:
        assert told.json()["error"]["param"] == "answer_schema"
        assert told.json()["error"]["message"].endswith("once they are masked: [EMAIL]")


def _of_two(ref: str) -> dict[str, Any]:
    """A schema whose field is what one of two definitions says, whose names are the same once masked."""
    both = {"ann@a.example": {"type": "string"}, "bob@b.example": {"type": "integer"}}
    return {"type": "object", "properties": {"age": {"$ref": f"#/$defs/{ref}"}}, "$defs": both}


def _line_of(schema: dict[str, Any]) -> bytes:
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    return json.dumps(batch_calls.line("a", body={"response_format": wanted})).encode()


async def test_a_reference_is_to_the_definition_that_was_meant_though_two_names_are_the_same_once_masked() -> None:
    world = World(answering("36"))
    async with world.serving() as client:
        body = {"question": "?", "answer_schema": _of_two("bob@b.example")}
        told = await client.post("/v1/requests", json=body)
    assert told.status_code == 202, told.text
    (asked,) = (each for each in world.published if isinstance(each, ReasoningRequested))
    assert asked.answer_schema == {"type": "object", "properties": {"age": {"type": "integer"}}}


async def test_a_reference_to_a_definition_that_is_not_there_is_to_no_other_once_masked() -> None:
    schema = _of_two("bob@b.example") | {"$defs": {"ann@a.example": {"type": "string"}}}
    async with World().serving() as client:
        told = await client.post("/v1/requests", json={"question": "?", "answer_schema": schema})
    assert told.status_code == 400, told.text
    assert told.json()["error"]["param"] == "answer_schema.properties.age.$ref"
    with pytest.raises(
        ApiError, match=r"^400 invalid_schema: line 1, body.response_format.json_schema.schema: a reference"
    ):
        masked_file(_line_of(schema), masker())


@pytest.mark.parametrize(
    "schema",
    [_of_two("bob@b.example"), {"type": "object", "properties": {"ann@a.example": {}, "bob@b.example": {}}}],
)
def test_a_file_a_schema_of_which_has_two_names_that_are_the_same_once_masked_is_refused_with_its_line(
    schema: dict[str, Any],
) -> None:
    content = json.dumps(batch_calls.line("plain")).encode() + b"\n" + _line_of(schema)
    with pytest.raises(ApiError, match=r"line 2, body.response_format.*once they are masked: \[EMAIL\]") as caught:
        masked_file(content, masker())
    assert (caught.value.code, caught.value.param) == ("invalid_schema", "file")


def test_a_file_with_a_schema_that_can_t_be_taken_is_kept_and_its_line_fails_alone() -> None:
    wrong = {"type": "object", "properties": {"a": {"pattern": "ann@a.example"}}}
    right = _of_two("ann@a.example") | {"$defs": {"ann@a.example": {"type": "string"}}}
    kept = masked_file(_line_of(wrong) + b"\n" + _line_of(right), masker())
    assert '{"pattern":"[EMAIL]"}' in kept
    assert '{"$ref":"#/$defs/[EMAIL]"}' in kept
    refused, taken = lines_of(kept)
    assert ".properties.a.pattern" in str(refused.error)
    assert taken.error is None
