"""Files and batches as OpenAI's own client has them: what the tests of both do."""

import json
from collections.abc import Callable, Iterable
from typing import Any

from openai import AsyncOpenAI
from openai.types import Batch

from conclave.testing import events as made
from conclave.testing.waiting import until_async
from schemas.events import ReasoningRequested
from tests.gateway_in_memory import End, World


def line(custom_id: str, text: str = "How many?", **changes: Any) -> dict[str, Any]:
    body = {"model": "default", "messages": [{"role": "user", "content": text}], **changes.pop("body", {})}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body, **changes}


def client_of(world: World) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{world.url}/v1", api_key="none", max_retries=0)


async def begun(client: AsyncOpenAI, lines: Iterable[object]) -> Batch:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    return await begun_with(client, text.encode())


async def begun_with(client: AsyncOpenAI, content: bytes) -> Batch:
    file = await client.files.create(file=("questions.jsonl", content), purpose="batch")
    assert (file.object, file.filename, file.status) == ("file", "questions.jsonl", "processed")
    return await client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"run": "7"}
    )


async def ended(client: AsyncOpenAI, batch: Batch) -> Batch:
    async def is_over() -> bool:
        return (await client.batches.retrieve(batch.id)).status != "in_progress"

    await until_async(is_over, what="a batch that ends")
    return await client.batches.retrieve(batch.id)


async def lines_of(client: AsyncOpenAI, file_id: str | None) -> list[dict[str, Any]]:
    content = await client.files.content(str(file_id))
    return [json.loads(line) for line in content.text.splitlines()]


def asked(world: World) -> list[ReasoningRequested]:
    return [event for event in world.published if isinstance(event, ReasoningRequested)]


def echoing() -> Callable[[ReasoningRequested], End]:
    return lambda request: made.answer(request.question, request_id=str(request.request_id))


def counted(batch: Batch) -> tuple[int, int, int]:
    counts = batch.request_counts
    assert counts is not None
    return counts.total, counts.completed, counts.failed
