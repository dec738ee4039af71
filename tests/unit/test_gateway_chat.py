"""OpenAI's own client over the gateway, unchanged: chat, models, errors."""

from typing import Any

import openai
import pytest

from tests import chats
from tests.gateway_in_memory import World, answering, failing


async def test_a_completion_is_the_answer_with_its_vote() -> None:
    world = World(answering("36"))
    async with chats.client_of(world) as client:
        completion = await client.chat.completions.create(
            model="early-stopping",
            messages=chats.ASKED,
            max_completion_tokens=500,
            temperature=0.2,
            metadata={"topic": "sums"},
            extra_body={"conclave": {"max_samples": 8, "max_tokens": 4000, "deadline_s": 60}},
        )
    (choice,) = completion.choices
    assert (choice.message.content, choice.message.role, choice.finish_reason) == ("36", "assistant", "stop")
    assert completion.usage is not None
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (40, 20)
    (asked,) = chats.requests_of(world)
    assert (asked.question, asked.policy, asked.max_samples) == ("What is 6 times 6?", "early-stopping", 8)
    assert (asked.max_turn_tokens, asked.max_tokens, asked.deadline_s) == (500, 4000, 60)
    assert asked.tags["topic"] == "sums"
    vote: Any = completion.model_extra
    assert vote["conclave"]["results"][0]["tally"] == [{"answer": "36", "votes": 4, "weight": 4.0}]
    assert vote["conclave"]["ignored"] == ["temperature"]
    assert completion.id == f"chatcmpl-{asked.request_id}"
    assert completion._request_id == asked.request_id


async def test_each_choice_is_a_vote_of_its_own() -> None:
    world = World(answering("36"))
    async with chats.client_of(world) as client:
        completion = await client.chat.completions.create(model="conclave", messages=chats.ASKED, n=3)
    assert [choice.index for choice in completion.choices] == [0, 1, 2]
    assert len({request.request_id for request in chats.requests_of(world)}) == 3
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 60
    assert all(request.policy is None for request in chats.requests_of(world))


async def test_the_turns_of_a_chat_are_one_conversation_and_other_chats_are_others() -> None:
    world = World(answering("36"))
    begun = [{"role": "system", "content": "Be brief."}, *chats.ASKED]
    later = [*begun, {"role": "assistant", "content": "36"}, {"role": "user", "content": "And halved?"}]
    async with chats.client_of(world) as client:
        for messages in (begun, later, chats.ASKED):
            await client.chat.completions.create(model="conclave", messages=messages)
        for messages in (begun, chats.ASKED):
            await client.chat.completions.create(model="conclave", messages=messages, prompt_cache_key="mine")
        own: Any = {"conversation": "17"}
        await client.chat.completions.create(model="conclave", messages=chats.ASKED, metadata=own)
    first, second, other, named, named_too, told = [event.tags["conversation"] for event in chats.requests_of(world)]
    assert first == second
    assert len({first, other, named}) == 3
    assert (named_too, told) == (named, "17")


async def test_a_conversation_is_one_question() -> None:
    world = World(answering())
    async with chats.client_of(world) as client:
        await client.chat.completions.create(
            model="conclave",
            messages=[
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": [{"type": "text", "text": "Six"}, {"type": "text", "text": "sevens?"}]},
                {"role": "assistant", "content": "42"},
                {"role": "user", "content": "And six more?"},
            ],
        )
    (asked,) = chats.requests_of(world)
    assert asked.question == "Be brief.\n\nUser: Six\nsevens?\n\nAssistant: 42\n\nUser: And six more?"


async def test_models_are_policies() -> None:
    async with chats.client_of(World()) as client:
        names = [model.id async for model in client.models.list()]
        assert names[0] == "conclave"
        assert {"default", "early-stopping", "least-to-most"} <= set(names)
        assert (await client.models.retrieve("default")).owned_by == "conclave"
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("gpt-9")


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        ("invalid", openai.BadRequestError),
        ("no_answer", openai.UnprocessableEntityError),
        ("deadline", openai.InternalServerError),
    ],
)
async def test_a_request_without_an_answer_is_an_error_that_is_not_tried_again(
    failure: str, error: type[openai.APIStatusError]
) -> None:
    world = World(failing(failure, "no luck"))
    async with chats.client_of(world) as client:
        with pytest.raises(error, match="no luck"):
            await client.with_options(max_retries=2).chat.completions.create(model="conclave", messages=chats.ASKED)
    assert len(chats.requests_of(world)) == 1, "the client would have asked again, and paid again"


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"model": "gpt-9"}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "assistant", "content": "hm"}]}, "messages"),
        ({"messages": [{"role": "user", "content": "x" * 20_000}]}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages[0].content[0].type",
        ),
        ({"n": 9}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"logprobs": True}, "logprobs"),
        ({"conclave": {"max_sample": 3}}, "conclave.max_sample"),
    ],
)
async def test_what_cannot_be_done_is_refused_with_its_field(changes: dict[str, Any], param: str) -> None:
    world = World(answering())
    async with world.serving() as client:
        body = {"model": "conclave", "messages": chats.ASKED, **changes}
        refused = await client.post("/v1/chat/completions", json=body)
    assert refused.status_code in (400, 404), refused.text
    error = refused.json()["error"]
    assert error["param"] == param, error
    assert world.published == []


@pytest.mark.parametrize(
    ("sent", "priority"),
    [
        ({"service_tier": "flex"}, "batch"),
        ({"service_tier": "priority"}, "interactive"),
        ({"service_tier": "auto"}, None),
        ({}, None),
        ({"service_tier": "flex", "extra_body": {"conclave": {"priority": "interactive"}}}, "interactive"),
    ],
)
async def test_a_service_tier_is_a_priority(sent: Any, priority: str | None) -> None:
    world = World(answering("36"))
    async with chats.client_of(world) as client:
        completion = await client.chat.completions.create(model="default", messages=chats.ASKED, **sent)
    (asked,) = chats.requests_of(world)
    assert asked.priority == priority
    extra: Any = completion.model_extra
    assert extra["conclave"]["ignored"] == []


async def test_a_tag_that_is_the_gateway_s_own_is_refused_as_the_field_that_was_sent() -> None:
    world = World()
    async with chats.client_of(world) as client:
        with pytest.raises(openai.BadRequestError) as refused:
            await client.chat.completions.create(model="conclave", messages=chats.ASKED, metadata={"tenant": "theirs"})
    assert (refused.value.code, refused.value.param) == ("reserved_tag", "metadata")
    assert world.published == []


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("tools", [{"type": "function", "function": {"name": "f"}}], "a policy names those"),
        ("functions", [{"name": "f"}], "a policy names the tools"),
        ("logprobs", True, "no log probabilities"),
    ],
)
async def test_what_an_agent_s_client_asks_for_and_is_not_done_is_refused_in_words(
    field: str, value: Any, words: str
) -> None:
    async with World().serving() as client:
        refused = await client.post(
            "/v1/chat/completions", json={"model": "conclave", "messages": chats.ASKED, field: value}
        )
    error = refused.json()["error"]
    assert (refused.status_code, error["param"], words in error["message"]) == (400, field, True)
