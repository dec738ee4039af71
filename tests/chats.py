"""Chats as OpenAI's own client has them: what the tests of them do."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from openai import AsyncOpenAI

from schemas.events import ReasoningRequested, RequestCancelled
from tests.gateway_in_memory import World

ASKED: Any = [{"role": "user", "content": "What is 6 times 6?"}]


@asynccontextmanager
async def client_of(world: World) -> AsyncIterator[AsyncOpenAI]:
    async with world.serving(), AsyncOpenAI(base_url=f"{world.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def requests_of(world: World) -> list[ReasoningRequested]:
    return [event for event in world.published if isinstance(event, ReasoningRequested)]


def cancelled_of(world: World) -> list[str]:
    return [event.request_id for event in world.published if isinstance(event, RequestCancelled)]
