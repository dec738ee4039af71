"""A path is gone on from on servers that are known to do so, in their own words, and on no other."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from openai import AsyncOpenAI

from conclave.engine.breaker import Pace
from conclave.engine.continuation import CONTINUATIONS
from conclave.engine.openai_engine import OpenAIEngine
from conclave.engine.protocol import CannotGoOn, DecodeRequest
from conclave.prompts import Message
from services.decoder.settings import DecoderSettings
from tests.misbehaving_server import GOOD, MisbehavingServer, Reply, error, hang_up, http

QUESTION = Message("user", "How many?")
FIRST = DecodeRequest("first", (QUESTION,))
GONE_ON = DecodeRequest("gone on", (QUESTION, Message("assistant", "calculate(17-6)=11\n")))
PACE = Pace(shortest_pause_s=0.005, longest_pause_s=0.02)


def lists(*owners: str) -> Reply:
    """A server's list of its models."""
    rows = [{"id": f"m{i}", "object": "model", "created": 1, "owned_by": owner} for i, owner in enumerate(owners)]
    return http(200, json.dumps({"object": "list", "data": rows}))


@pytest.fixture(scope="module")
def connections() -> AsyncOpenAI:
    """One client for all: making one takes longer than most tests."""
    return AsyncOpenAI(base_url="http://127.0.0.1:1", api_key="none")


@asynccontextmanager
async def served(
    client: AsyncOpenAI, *replies: Reply, kind: str = ""
) -> AsyncIterator[tuple[MisbehavingServer, OpenAIEngine]]:
    """A server with these replies, and an engine on it."""
    server = MisbehavingServer(replies)
    await server.start()
    engine = OpenAIEngine("m", server.url, server=kind, pace=PACE, client=client)
    try:
        yield server, engine
    finally:
        await engine.stop()
        await server.stop()


@pytest.mark.parametrize("owner", CONTINUATIONS)
async def test_a_server_is_asked_what_it_is_once_and_then_to_go_on_in_its_own_words(
    owner: str, connections: AsyncOpenAI
) -> None:
    async with served(connections, GOOD, lists("someone", owner), GOOD) as (server, engine):
        await engine.decode(FIRST)
        for _ in range(2):
            assert (await engine.decode(GONE_ON)).text.endswith("Answer: 42")
    assert [call.path for call in server.calls] == ["/v1/chat/completions", "/v1/models", *["/v1/chat/completions"] * 2]
    asked = server.calls[-1].body
    assert asked["messages"][-1] == {"role": "assistant", "content": "calculate(17-6)=11\n"}
    assert {name: asked[name] for name in CONTINUATIONS[owner]} == dict(CONTINUATIONS[owner])
    assert "add_generation_prompt" not in server.calls[0].body, "a first turn is asked for as ever"


@pytest.mark.parametrize("models", [lists("openai"), lists(), error(404, "no such page"), http(200, "[]")])
async def test_a_server_that_is_not_known_to_go_on_is_not_asked_to(models: Reply, connections: AsyncOpenAI) -> None:
    async with served(connections, models, GOOD) as (server, engine):
        for _ in range(2):
            with pytest.raises(CannotGoOn, match="CONCLAVE_OPENAI_SERVER"):
                await engine.decode(GONE_ON)
        await engine.decode(FIRST)
    assert [call.path for call in server.calls] == ["/v1/models", "/v1/chat/completions"]


async def test_a_server_that_is_away_is_asked_again_what_it_is(connections: AsyncOpenAI) -> None:
    async with served(connections, hang_up, error(503, "loading"), error(429, "slow"), lists("vllm"), GOOD) as (
        _,
        engine,
    ):
        assert (await engine.decode(GONE_ON)).text.endswith("Answer: 42")


async def test_an_operator_may_say_what_the_server_is(
    connections: AsyncOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONCLAVE_MODEL", "m")
    monkeypatch.setenv("CONCLAVE_OPENAI_SERVER", "vllm")
    kind = DecoderSettings().options().openai_server  # type: ignore[call-arg]
    async with served(connections, GOOD, kind=kind) as (server, engine):
        await engine.decode(GONE_ON)
    assert server.calls[0].body["continue_final_message"] is True
