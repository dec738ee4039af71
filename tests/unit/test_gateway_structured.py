"""Answers that fit a JSON Schema, by OpenAI's own client, unchanged: `response_format`, `parse` and streams of it."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal

import openai
import pytest
from msgspec.structs import replace
from openai import AsyncOpenAI
from pydantic import BaseModel

from conclave.domain.structured.answer_schema import accepted, field_names
from conclave.testing import events as made
from schemas.events import ReasoningRequested, RequestFailed
from schemas.values import FieldVerdict, Outcome, RequestFailure
from tests.gateway_in_memory import End, World, answering

ASKED: list[Any] = [{"role": "user", "content": "What did Tom buy, and what did he pay?"}]


class Item(BaseModel):
    name: str
    n: int


class Order(BaseModel):
    total: float
    items: list[Item]
    currency: Literal["EUR", "USD"]


ORDER = {"total": 4.5, "items": [{"name": "apple", "n": 3}], "currency": "EUR"}


def _verdicts(request: ReasoningRequested, *, contested: str = "") -> tuple[FieldVerdict, ...]:
    """What the pipeline says of each field of the schema that it was sent."""
    assert request.answer_schema is not None
    outcome = {True: Outcome.NO_ANSWER, False: Outcome.MAJORITY}
    return tuple(
        FieldVerdict(name=name, outcome=outcome[name == contested], confidence=0.9, agreement=0.75, margin=0.5)
        for name in field_names(accepted(request.answer_schema))
    )


def _writing(value: object) -> Callable[[ReasoningRequested], End]:
    """Answers with this, as JSON."""
    return lambda request: replace(
        made.answer(json.dumps(value), request_id=str(request.request_id)), fields=_verdicts(request)
    )


def _torn(request: ReasoningRequested) -> End:
    """Has no consensus on what was paid."""
    return RequestFailed(
        request_id=str(request.request_id),
        failure=RequestFailure.NO_ANSWER,
        message="no step came to an answer that the request could have; there was no consensus on total",
        fields=_verdicts(request, contested="total"),
    )


@asynccontextmanager
async def _client(world: World) -> AsyncIterator[AsyncOpenAI]:
    async with world.serving(), AsyncOpenAI(base_url=f"{world.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def _requests(world: World) -> list[ReasoningRequested]:
    return [event for event in world.published if isinstance(event, ReasoningRequested)]


async def test_parse_gives_the_answer_as_the_type_that_it_was_asked_for() -> None:
    world = World(_writing(ORDER))
    async with _client(world) as client:
        completion = await client.chat.completions.parse(model="instruct", messages=ASKED, response_format=Order)
    assert completion.choices[0].message.parsed == Order.model_validate(ORDER)
    (asked,) = _requests(world)
    assert asked.answer_schema is not None
    assert "$ref" not in json.dumps(asked.answer_schema), "references are written out"
    assert list(asked.answer_schema["properties"]) == ["total", "items", "currency"]
    told: Any = completion.model_extra
    fields = told["conclave"]["results"][0]["fields"]
    assert [(each["name"], each["outcome"]) for each in fields] == [
        ("total", "majority"), ("items", "majority"), ("currency", "majority"),
    ]  # fmt: skip
    assert told["conclave"]["ignored"] == []


async def test_a_stream_ends_with_the_parsed_answer() -> None:
    world = World(_writing(ORDER))
    async with (
        _client(world) as client,
        client.chat.completions.stream(model="instruct", messages=ASKED, response_format=Order) as stream,
    ):
        async for _ in stream:
            pass
        completion = await stream.get_final_completion()
    assert completion.choices[0].message.parsed == Order.model_validate(ORDER)


async def test_a_json_object_is_any_object_and_voted_on_as_a_whole() -> None:
    world = World(_writing({"anything": [1]}))
    async with _client(world) as client:
        completion = await client.chat.completions.create(
            model="instruct", messages=ASKED, response_format={"type": "json_object"}
        )
    assert json.loads(completion.choices[0].message.content or "") == {"anything": [1]}
    assert _requests(world)[0].answer_schema == {"type": "object"}


async def test_a_field_without_a_consensus_is_named_in_the_error() -> None:
    async with _client(World(_torn)) as client:
        with pytest.raises(openai.UnprocessableEntityError, match="no consensus on total") as caught:
            await client.chat.completions.parse(model="instruct", messages=ASKED, response_format=Order)
    body: Any = caught.value.body
    assert (caught.value.code, caught.value.param) == ("no_consensus", "total")
    fields = body["conclave"]["results"][0]["fields"]
    assert [each["name"] for each in fields if each["outcome"] == "no_answer"] == ["total"]


async def test_an_answer_that_does_not_fit_is_none() -> None:
    async with _client(World(_writing({**ORDER, "total": "a lot"}))) as client:
        with pytest.raises(openai.UnprocessableEntityError, match="does not fit the schema"):
            await client.chat.completions.parse(model="instruct", messages=ASKED, response_format=Order)


async def test_a_policy_that_gives_no_structured_answers_is_the_model_s_fault() -> None:
    told = "$.policy: expected one that gives structured answers: instruct, got 'default'"
    refusing = World(
        lambda request: RequestFailed(request_id=str(request.request_id), failure=RequestFailure.INVALID, message=told)
    )
    async with _client(refusing) as client:
        with pytest.raises(openai.BadRequestError, match="instruct") as caught:
            await client.chat.completions.parse(model="default", messages=ASKED, response_format=Order)
    assert caught.value.param == "model"


def _format(schema: object) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


BROKEN: list[tuple[Any, str]] = [
    ({"type": "array"}, ""),
    ({"type": "object", "properties": {"a": {"type": "text"}}}, ".properties.a.type"),
    ({"type": "object", "properties": {"a": {"type": "string", "pattern": "(a+)+$"}}}, ".properties.a.pattern"),
    ({"type": "object", "properties": {"a": {"$ref": "https://x.example/y"}}}, ".properties.a.$ref"),
    ({"type": "object", "properties": {str(n): {} for n in range(40)}}, ""),
]


@pytest.mark.parametrize(("schema", "at"), BROKEN)
async def test_a_schema_that_cannot_be_taken_is_refused_with_its_field(schema: object, at: str) -> None:
    world = World(answering())
    async with world.serving() as client:
        body = {"model": "instruct", "messages": ASKED, "response_format": _format(schema)}
        refused = await client.post("/v1/chat/completions", json=body)
        asked = await client.post("/v1/requests", json={"question": "How many?", "answer_schema": schema})
    for response, field in ((refused, "response_format.json_schema.schema"), (asked, "answer_schema")):
        assert response.status_code == 400, response.text
        assert response.json()["error"]["code"] == "invalid_schema"
        assert response.json()["error"]["param"] == field + at
    assert world.published == []


async def test_the_same_result_is_told_by_the_api_of_requests() -> None:
    world = World(_writing(ORDER))
    schema = {"type": "object", "properties": {"total": {"type": "number", "description": "ask a@b.example"}}}
    async with world.serving() as client:
        taken = await client.post("/v1/requests", json={"question": "How many?", "answer_schema": schema})
        result = (await client.get(f"/v1/requests/{taken.json()['id']}/result")).json()
    assert json.loads(result["answer"]) == ORDER
    assert [each["name"] for each in result["fields"]] == ["total"]
    sent = _requests(world)[0].answer_schema
    assert sent is not None
    assert sent["properties"]["total"]["description"] == "ask [EMAIL]", "a schema is masked as questions are"
