"""OpenAI's own client over the gateway, unchanged: chat, streams, models, errors."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import openai
import pytest
from openai import AsyncOpenAI
from prometheus_client import REGISTRY

from conclave.domain.api_keys import Scope
from conclave.errors import LostDependency
from conclave.store.happenings import Happening
from conclave.store.ledger import Limits
from conclave.testing import events as made
from conclave.testing.waiting import until
from schemas.events import Event, ReasoningRequested, RequestCancelled
from services.gateway import streams
from tests.gateway_in_memory import World, answering, failing

ASKED: Any = [{"role": "user", "content": "What is 6 times 6?"}]


@asynccontextmanager
async def _client(world: World) -> AsyncIterator[AsyncOpenAI]:
    async with world.serving(), AsyncOpenAI(base_url=f"{world.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def _requests(world: World) -> list[ReasoningRequested]:
    return [event for event in world.published if isinstance(event, ReasoningRequested)]


async def test_a_completion_is_the_answer_with_its_vote() -> None:
    world = World(answering("36"))
    async with _client(world) as client:
        completion = await client.chat.completions.create(
            model="early-stopping",
            messages=ASKED,
            max_completion_tokens=500,
            temperature=0.2,
            metadata={"topic": "sums"},
            extra_body={"conclave": {"max_samples": 8, "max_tokens": 4000, "deadline_s": 60}},
        )
    (choice,) = completion.choices
    assert (choice.message.content, choice.message.role, choice.finish_reason) == ("36", "assistant", "stop")
    assert completion.usage is not None
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (40, 20)
    (asked,) = _requests(world)
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
    async with _client(world) as client:
        completion = await client.chat.completions.create(model="conclave", messages=ASKED, n=3)
    assert [choice.index for choice in completion.choices] == [0, 1, 2]
    assert len({request.request_id for request in _requests(world)}) == 3
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 60
    assert all(request.policy is None for request in _requests(world))


async def test_a_stream_reports_the_progress_and_then_the_answer() -> None:
    world = World()
    async with _client(world) as client:
        stream = await client.chat.completions.create(
            model="conclave", messages=ASKED, stream=True, stream_options={"include_usage": True}
        )
        (request,) = _requests(world)
        request_id = str(request.request_id)
        path = {"step_index": 0, "sample_index": 0, "answer": "36", "failure": None}
        world.record.happened[request_id] = [Happening("path/0/0", "path", path)]
        thought, said, usage, finish = "", "", None, None
        results: Any = None
        async for chunk in stream:
            for choice in chunk.choices:
                reasoning: Any = choice.delta.model_extra or {}
                thought += reasoning.get("reasoning_content", "")
                if thought and request_id not in world.record.ended:
                    world.end(made.answer("36", request_id=request_id))
                said += choice.delta.content or ""
                finish = choice.finish_reason or finish
            extra: Any = chunk.model_extra or {}
            results = extra.get("conclave", {}).get("results") or results
            usage = chunk.usage or usage
    assert thought == "step 0, path 0: 36\n"
    assert (said, finish) == ("36", "stop")
    assert usage is not None
    assert usage.total_tokens == 60
    assert results[0]["confidence"] == 0.96875
    assert world.answers.awaited == ()


async def test_a_stream_whose_answer_is_heard_before_the_record_has_a_word_says_how_it_was_thought() -> None:
    world = World()
    async with _client(world) as client:
        stream = await client.chat.completions.create(model="conclave", messages=ASKED, stream=True)
        (request,) = _requests(world)
        world.end(made.answer("36", request_id=str(request.request_id)))
        deltas = [choice.delta async for chunk in stream for choice in chunk.choices]
    thoughts = [thought for delta in deltas if (thought := (delta.model_extra or {}).get("reasoning_content"))]
    assert thoughts == ["policy default, strategy vote\n"]
    assert "".join(delta.content or "" for delta in deltas) == "36"


def _cancelled(world: World) -> list[str]:
    return [event.request_id for event in world.published if isinstance(event, RequestCancelled)]


async def test_a_stream_whose_client_goes_away_is_cancelled_and_leaves_nobody_waiting() -> None:
    world = World()
    async with _client(world) as client:
        stream = await client.chat.completions.create(model="conclave", messages=ASKED, stream=True)
        await stream.close()
        await until(lambda: world.answers.awaited == (), what="nobody waiting")
    assert _cancelled(world) == [request.request_id for request in _requests(world)]


async def test_when_a_choice_is_refused_those_before_it_are_cancelled() -> None:
    world = World()
    key = world.accounts.add("ours", Scope.ASK, limits=Limits(max_open=2))
    async with _client(world) as client:
        with pytest.raises(openai.RateLimitError):
            await client.with_options(api_key=key.text).chat.completions.create(model="conclave", messages=ASKED, n=3)
    assert len(_requests(world)) == 2
    assert _cancelled(world) == [request.request_id for request in _requests(world)]
    assert world.answers.awaited == ()


class Losing(World):
    """Its log takes one request, and is away when the second comes."""

    async def publish(self, event: Event, *, event_id: str | None = None, traceparent: str | None = None) -> None:
        if isinstance(event, ReasoningRequested) and len(_requests(self)) == 1:
            raise LostDependency("kafka", "it is away")
        await super().publish(event, event_id=event_id, traceparent=traceparent)


async def test_when_a_choice_is_not_published_those_before_it_are_cancelled() -> None:
    world = Losing()
    async with _client(world) as client:
        with pytest.raises(openai.InternalServerError):
            await client.chat.completions.create(model="conclave", messages=ASKED, n=3)
        await until(lambda: _cancelled(world) != [], what="the first choice cancelled")
    assert _cancelled(world) == [request.request_id for request in _requests(world)]


async def test_while_the_log_is_away_cancellations_wait_until_it_is_back() -> None:
    world = World()
    async with _client(world) as client:
        stream = await client.chat.completions.create(model="conclave", messages=ASKED, n=2, stream=True)
        world.is_log_away = True
        await stream.close()
        await until(lambda: REGISTRY.get_sample_value("conclave_http_cancellations_waiting") == 2, what="both waiting")
        assert _cancelled(world) == []
        world.is_log_away = False
        await until(lambda: len(_cancelled(world)) == 2, what="both cancelled")
    assert _cancelled(world) == [request.request_id for request in _requests(world)]


async def test_with_an_idempotency_key_the_next_try_finds_the_choices_before_the_refused_one() -> None:
    world = World()
    key = world.accounts.add("ours", Scope.ASK, limits=Limits(max_open=2))
    async with _client(world) as client:
        ours = client.with_options(api_key=key.text, default_headers={"Idempotency-Key": "k"})
        with pytest.raises(openai.RateLimitError):
            await ours.chat.completions.create(model="conclave", messages=ASKED, n=3)
        assert _cancelled(world) == []
        world.ledger.open = lambda request_id: request_id not in world.record.ended
        for request in _requests(world):
            world.end(made.answer("36", request_id=str(request.request_id)))
        world.answer = answering("36")
        completion = await ours.chat.completions.create(model="conclave", messages=ASKED, n=3)
    assert len(completion.choices) == 3
    assert len(_requests(world)) == 3


async def test_a_stream_tells_the_progress_of_every_choice_and_is_never_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "KEEP_ALIVE_S", 0.05)
    world = World()
    told: list[tuple[int, str]] = []
    said: dict[int, str] = {}
    num_silences = 0
    body = {"model": "conclave", "messages": ASKED, "n": 2, "stream": True}
    async with world.serving() as client, client.stream("POST", "/v1/chat/completions", json=body) as stream:
        ids = [str(request.request_id) for request in _requests(world)]
        for number, request_id in enumerate(ids):
            path = {"step_index": 0, "sample_index": number, "answer": "36", "failure": None}
            world.record.happened[request_id] = [Happening(f"path/0/{number}", "path", path)]
        world.end(made.answer("36", request_id=ids[0]))
        async for line in stream.aiter_lines():
            if line == ": still here":
                num_silences += len(told) == 2
                if num_silences == 3:  # long after the first choice has ended
                    world.end(made.answer("35", request_id=ids[1]))
                continue
            if not line.startswith("data: {"):
                continue
            (choice,) = json.loads(line.removeprefix("data: "))["choices"]
            if thought := choice["delta"].get("reasoning_content"):
                told.append((choice["index"], thought))
            said[choice["index"]] = said.get(choice["index"], "") + choice["delta"].get("content", "")
    assert sorted(told) == [(0, "step 0, path 0: 36\n"), (1, "step 0, path 1: 36\n")]
    assert said == {0: "36", 1: "35"}


async def test_what_a_client_waits_for_no_longer_is_cancelled() -> None:
    world = World()
    async with _client(world) as client:
        with pytest.raises(openai.APITimeoutError):
            await client.with_options(timeout=0.5).chat.completions.create(model="conclave", messages=ASKED, n=2)
        await until(lambda: world.answers.awaited == (), what="nobody waiting")
    assert _cancelled(world) == [request.request_id for request in _requests(world)]
    assert len(_cancelled(world)) == 2


async def test_what_has_an_idempotency_key_goes_on_without_its_client() -> None:
    world = World()
    async with _client(world) as client:
        patient = client.with_options(timeout=0.5, default_headers={"Idempotency-Key": "k"})
        with pytest.raises(openai.APITimeoutError):
            await patient.chat.completions.create(model="conclave", messages=ASKED)
        await until(lambda: world.answers.awaited == (), what="nobody waiting")
        assert _cancelled(world) == []
        (request,) = _requests(world)
        world.end(made.answer("36", request_id=str(request.request_id)))
        completion = await patient.chat.completions.create(model="conclave", messages=ASKED)
        assert completion.choices[0].message.content == "36"


async def test_the_turns_of_a_chat_are_one_conversation_and_other_chats_are_others() -> None:
    world = World(answering("36"))
    begun = [{"role": "system", "content": "Be brief."}, *ASKED]
    later = [*begun, {"role": "assistant", "content": "36"}, {"role": "user", "content": "And halved?"}]
    async with _client(world) as client:
        for messages in (begun, later, ASKED):
            await client.chat.completions.create(model="conclave", messages=messages)
        for messages in (begun, ASKED):
            await client.chat.completions.create(model="conclave", messages=messages, prompt_cache_key="mine")
        own: Any = {"conversation": "17"}
        await client.chat.completions.create(model="conclave", messages=ASKED, metadata=own)
    first, second, other, named, named_too, told = [event.tags["conversation"] for event in _requests(world)]
    assert first == second
    assert len({first, other, named}) == 3
    assert (named_too, told) == (named, "17")


async def test_a_conversation_is_one_question() -> None:
    world = World(answering())
    async with _client(world) as client:
        await client.chat.completions.create(
            model="conclave",
            messages=[
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": [{"type": "text", "text": "Six"}, {"type": "text", "text": "sevens?"}]},
                {"role": "assistant", "content": "42"},
                {"role": "user", "content": "And six more?"},
            ],
        )
    (asked,) = _requests(world)
    assert asked.question == "Be brief.\n\nUser: Six\nsevens?\n\nAssistant: 42\n\nUser: And six more?"


async def test_models_are_policies() -> None:
    async with _client(World()) as client:
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
    async with _client(world) as client:
        with pytest.raises(error, match="no luck"):
            await client.with_options(max_retries=2).chat.completions.create(model="conclave", messages=ASKED)
    assert len(_requests(world)) == 1, "the client would have asked again, and paid again"


async def test_a_failure_in_a_stream_is_an_error_of_the_client() -> None:
    async with _client(World(failing("no_answer", "no luck"))) as client:
        stream = await client.chat.completions.create(model="conclave", messages=ASKED, stream=True)
        with pytest.raises(openai.APIError, match="no luck"):
            async for _ in stream:
                pass


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
        body = {"model": "conclave", "messages": ASKED, **changes}
        refused = await client.post("/v1/chat/completions", json=body)
    assert refused.status_code in (400, 404), refused.text
    error = refused.json()["error"]
    assert error["param"] == param, error
    assert world.published == []


async def test_an_idempotency_key_brings_the_same_completion_back() -> None:
    world = World(answering("36"))
    async with world.serving() as client:
        body = {"model": "conclave", "messages": ASKED, "n": 2}
        first, second = [
            await client.post("/v1/chat/completions", json=body, headers={"Idempotency-Key": "k"}) for _ in range(2)
        ]
    assert first.json()["id"] == second.json()["id"]
    assert len(_requests(world)) == 2
    assert isinstance(first, httpx2.Response)


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
    async with _client(world) as client:
        completion = await client.chat.completions.create(model="default", messages=ASKED, **sent)
    (asked,) = _requests(world)
    assert asked.priority == priority
    extra: Any = completion.model_extra
    assert extra["conclave"]["ignored"] == []


async def test_a_tag_that_is_the_gateway_s_own_is_refused_as_the_field_that_was_sent() -> None:
    world = World()
    async with _client(world) as client:
        with pytest.raises(openai.BadRequestError) as refused:
            await client.chat.completions.create(model="conclave", messages=ASKED, metadata={"tenant": "theirs"})
    assert (refused.value.code, refused.value.param) == ("reserved_tag", "metadata")
    assert world.published == []


async def test_who_takes_nothing_more_of_a_stream_is_let_go_and_its_request_cancelled() -> None:
    world = World(settings={"gateway_client_timeout_s": 0.3})
    body = json.dumps({"model": "conclave", "messages": ASKED, "stream": True}).encode()
    async with world.serving():
        slow = socket.socket()
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.setblocking(False)
        with slow:
            await asyncio.get_running_loop().sock_connect(slow, ("127.0.0.1", int(world.url.rpartition(":")[2])))
            head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
            await asyncio.get_running_loop().sock_sendall(slow, head + body)
            await until(lambda: len(_requests(world)) == 1, what="the request")
            (request_id,) = (str(request.request_id) for request in _requests(world))
            path = {"step_index": 0, "answer": "36" * 50_000, "failure": None}
            world.record.happened[request_id] = [
                Happening(f"path/0/{number}", "path", {**path, "sample_index": number}) for number in range(150)
            ]
            await until(lambda: _cancelled(world) == [request_id], what="its cancellation")
            assert world.answers.awaited == ()


@pytest.mark.parametrize("key", [None, "k"])
async def test_what_a_gateway_that_stops_was_asked_is_cancelled_unless_its_client_can_come_back(
    key: str | None,
) -> None:
    world, headers = World(), {} if key is None else {"Idempotency-Key": key}
    async with _client(world) as client:
        asking = client.with_options(default_headers=headers).chat.completions
        asked = asyncio.create_task(asking.create(model="conclave", messages=ASKED))
        await until(lambda: len(_requests(world)) == 1, what="the request")
    with pytest.raises(openai.APIConnectionError):
        await asked
    assert _cancelled(world) == ([] if key else [str(_requests(world)[0].request_id)])


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
        refused = await client.post("/v1/chat/completions", json={"model": "conclave", "messages": ASKED, field: value})
    error = refused.json()["error"]
    assert (refused.status_code, error["param"], words in error["message"]) == (400, field, True)
