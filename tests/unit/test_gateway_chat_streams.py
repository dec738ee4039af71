"""A chat as a stream: its progress, its answer, its failure."""

import json
from typing import Any

import openai
import pytest

from conclave.store.happenings import Happening
from conclave.testing import events as made
from services.gateway import streams
from tests import chats
from tests.gateway_in_memory import World, failing


async def test_a_stream_reports_the_progress_and_then_the_answer() -> None:
    world = World()
    async with chats.client_of(world) as client:
        stream = await client.chat.completions.create(
            model="conclave", messages=chats.ASKED, stream=True, stream_options={"include_usage": True}
        )
        (request,) = chats.requests_of(world)
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
    async with chats.client_of(world) as client:
        stream = await client.chat.completions.create(model="conclave", messages=chats.ASKED, stream=True)
        (request,) = chats.requests_of(world)
        world.end(made.answer("36", request_id=str(request.request_id)))
        deltas = [choice.delta async for chunk in stream for choice in chunk.choices]
    thoughts = [thought for delta in deltas if (thought := (delta.model_extra or {}).get("reasoning_content"))]
    assert thoughts == ["policy default, strategy vote\n"]
    assert "".join(delta.content or "" for delta in deltas) == "36"


async def test_a_stream_tells_the_progress_of_every_choice_and_is_never_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "KEEP_ALIVE_S", 0.05)
    world = World()
    told: list[tuple[int, str]] = []
    said: dict[int, str] = {}
    num_silences = 0
    body = {"model": "conclave", "messages": chats.ASKED, "n": 2, "stream": True}
    async with world.serving() as client, client.stream("POST", "/v1/chat/completions", json=body) as stream:
        ids = [str(request.request_id) for request in chats.requests_of(world)]
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


async def test_a_failure_in_a_stream_is_an_error_of_the_client() -> None:
    async with chats.client_of(World(failing("no_answer", "no luck"))) as client:
        stream = await client.chat.completions.create(model="conclave", messages=chats.ASKED, stream=True)
        with pytest.raises(openai.APIError, match="no luck"):
            async for _ in stream:
                pass
