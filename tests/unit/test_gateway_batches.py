"""Files and batches, by OpenAI's own client: thousands of requests that may take their time."""

import json
from collections.abc import Callable, Iterable
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from openai.types import Batch

from conclave.testing import events as made
from conclave.testing.waiting import until, until_async
from schemas.events import ReasoningRequested, RequestCancelled
from tests.gateway_in_memory import End, World, answering, failing


def _line(custom_id: str, text: str = "How many?", **changes: Any) -> dict[str, Any]:
    body = {"model": "default", "messages": [{"role": "user", "content": text}], **changes.pop("body", {})}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body, **changes}


def _client(world: World) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{world.url}/v1", api_key="none", max_retries=0)


async def _begun(client: AsyncOpenAI, lines: Iterable[object]) -> Batch:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    return await _begun_with(client, text.encode())


async def _begun_with(client: AsyncOpenAI, content: bytes) -> Batch:
    file = await client.files.create(file=("questions.jsonl", content), purpose="batch")
    assert (file.object, file.filename, file.status) == ("file", "questions.jsonl", "processed")
    return await client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"run": "7"}
    )


async def _ended(client: AsyncOpenAI, batch: Batch) -> Batch:
    async def is_over() -> bool:
        return (await client.batches.retrieve(batch.id)).status != "in_progress"

    await until_async(is_over, what="a batch that ends")
    return await client.batches.retrieve(batch.id)


async def _lines(client: AsyncOpenAI, file_id: str | None) -> list[dict[str, Any]]:
    content = await client.files.content(str(file_id))
    return [json.loads(line) for line in content.text.splitlines()]


def _asked(world: World) -> list[ReasoningRequested]:
    return [event for event in world.published if isinstance(event, ReasoningRequested)]


def _echoing() -> Callable[[ReasoningRequested], End]:
    return lambda request: made.answer(request.question, request_id=str(request.request_id))


async def test_every_line_is_answered_once_under_its_own_id() -> None:
    world = World(_echoing(), batch_open=5)
    async with world.serving(), _client(world) as client:
        batch = await _begun(client, [_line(f"line-{index}", f"question {index}") for index in range(30)])
        assert (batch.object, batch.completion_window, batch.metadata) == ("batch", "24h", {"run": "7"})
        done = await _ended(client, batch)
        assert done.status == "completed"
        assert done.request_counts is not None
        assert (done.request_counts.total, done.request_counts.completed, done.request_counts.failed) == (30, 30, 0)
        lines = await _lines(client, done.output_file_id)
        assert await _lines(client, done.error_file_id) == []
        assert [each.id async for each in client.batches.list()] == [batch.id]
    said = {line["custom_id"]: line["response"]["body"]["choices"][0]["message"]["content"] for line in lines}
    assert said == {f"line-{index}": f"question {index}" for index in range(30)}
    assert all(line["response"]["status_code"] == 200 for line in lines)
    assert len(_asked(world)) == 30
    assert {request.tags["tenant"] for request in _asked(world)} == {"local"}
    assert max(request.deadline_s for request in _asked(world)) <= 86_400


async def test_a_wrong_line_fails_alone_and_says_why() -> None:
    world = World(answering("36"))
    async with world.serving(), _client(world) as client:
        lines = [
            _line("good"),
            "not json",
            _line("good"),
            _line("", "nameless"),
            _line("several", body={"n": 2}),
            _line("elsewhere", url="/v1/embeddings"),
            _line("unknown", body={"model": "gpt-9"}),
        ]
        done = await _ended(client, await _begun(client, lines))
        wrong = await _lines(client, done.error_file_id)
        assert [line["custom_id"] for line in await _lines(client, done.output_file_id)] == ["good"]
    assert done.request_counts is not None
    assert (done.request_counts.completed, done.request_counts.failed) == (1, 6)
    assert [line["custom_id"] for line in wrong] == ["", "good", "", "several", "elsewhere", "unknown"]
    assert all(line["error"]["message"] and line["response"] is None for line in wrong)
    assert len(_asked(world)) == 1


async def test_a_request_without_an_answer_is_in_the_file_of_errors() -> None:
    world = World(failing("no_answer", "no luck"))
    async with world.serving(), _client(world) as client:
        done = await _ended(client, await _begun(client, [_line("a")]))
        (line,) = await _lines(client, done.error_file_id)
    assert (line["response"]["status_code"], line["response"]["body"]["error"]["code"]) == (422, "no_answer")


async def test_partial_results_are_there_and_a_cancelled_batch_asks_nothing_more() -> None:
    world = World(batch_open=2)
    async with world.serving(), _client(world) as client:
        batch = await _begun(client, [_line(f"line-{index}") for index in range(5)])
        await until(lambda: len(_asked(world)) == 2, what="as many as there is room for")
        first = str(_asked(world)[0].request_id)
        world.end(made.answer("36", request_id=first))
        await until(lambda: len(_asked(world)) == 3, what="the next one")
        assert len(await _lines(client, f"{batch.id}-output")) == 1
        cancelled = await client.batches.cancel(batch.id)
        assert cancelled.status == "cancelled", "what ran was cancelled"
        assert len([event for event in world.published if isinstance(event, RequestCancelled)]) == 2
    assert len(_asked(world)) == 3


async def test_a_line_that_was_asked_before_a_crash_is_the_same_request_after_it() -> None:
    world = World(answering("36"))
    async with world.serving(), _client(world) as client:
        batch = await _begun(client, [_line("a")])
        await _ended(client, batch)
        world.batches.asked_as.clear()  # as if the gateway had died before it noted the request
        await _ended(client, batch)
    assert len(_asked(world)) == 1


async def test_what_is_kept_is_masked() -> None:
    world = World(_echoing())
    canary = "canary.7f3a@secret.example"
    async with world.serving(), _client(world) as client:
        lines = [_line(canary, f"Is {canary} mine?", body={"metadata": {canary: canary}}), f"{{{canary}"]
        done = await _ended(client, await _begun(client, lines))
        kept = await client.files.content(done.input_file_id)
        assert canary not in kept.text
        assert [line["custom_id"] for line in await _lines(client, done.output_file_id)] == ["[EMAIL]"]
    assert canary not in repr(world.batches) + repr(world.published)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfe", b"a\0b"])
async def test_a_file_that_asks_for_nothing_makes_no_batch(content: bytes) -> None:
    world = World()
    async with world.serving(), _client(world) as client:
        with pytest.raises(openai.BadRequestError):
            await _begun_with(client, content)


async def test_a_file_or_batch_that_there_is_not_is_not_found() -> None:
    world = World()
    async with world.serving() as client:
        for path in ("/v1/files/x", "/v1/files/x/content", "/v1/batches/x", f"/v1/files/batch_{'0' * 32}-output"):
            assert (await client.get(path)).status_code == 404
        assert (await client.post("/v1/files", data={"purpose": "batch"})).status_code == 400
        assert (await client.post("/v1/files", content=b"nonsense")).status_code == 400


async def test_lines_are_of_the_class_that_fills_the_slack_whatever_they_ask_for() -> None:
    world = World(_echoing())
    urgent = {"body": {"service_tier": "priority", "conclave": {"priority": "interactive"}}}
    async with world.serving(), _client(world) as client:
        await _ended(client, await _begun(client, [_line("a"), _line("b", "And?", **urgent)]))
    assert [asked.priority for asked in _asked(world)] == ["batch", "batch"]


async def test_lines_of_a_tenant_whose_budget_is_spent_wait_and_are_asked_later() -> None:
    world, spent = World(_echoing()), [900]
    world.ledger.spent, world.batches.tokens_per_day = lambda tenant: spent[0], 900
    async with world.serving(), _client(world) as client:
        batch = await _begun(client, [_line("a"), _line("b")])
        await until(lambda: set(world.batches.put_back_lines) == {0, 1}, what="lines that are put back")
        assert _asked(world) == []
        assert (await client.batches.retrieve(batch.id)).status == "in_progress"
        spent[0] = 0
        done = await _ended(client, batch)
    assert done.request_counts is not None
    assert (done.request_counts.completed, done.request_counts.failed) == (2, 0)
