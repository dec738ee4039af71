"""A path is gone on from on servers that are known to do so, in their own words, and on no other."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace
from openai import AsyncOpenAI

from conclave.engine.continuation import CONTINUATIONS
from conclave.engine.cut import Cut
from conclave.engine.openai_engine import OpenAIEngine
from conclave.engine.pace import Pace
from conclave.engine.protocol import CannotGoOn, Decoded, DecodeRequest
from conclave.prompts import Message
from conclave.testing.waiting import until
from services.decoder import handing_on
from services.decoder.settings import DecoderSettings
from tests.misbehaving_server import GOOD, Exchange, MisbehavingServer, Reply, chunk, error, hang_up, http, raw, stream

QUESTION = Message("user", "How many?")
FIRST = DecodeRequest("first", (QUESTION,))
GONE_ON = DecodeRequest("gone on", (QUESTION, Message("assistant", "calculate(17-6)=11\n")))
PACE = Pace(shortest_pause_s=0.005, longest_pause_s=0.02)


def lists(*owners: str) -> Reply:
    """A server's list of its models."""
    rows = [{"id": f"m{i}", "object": "model", "created": 1, "owned_by": owner} for i, owner in enumerate(owners)]
    return http(200, json.dumps({"object": "list", "data": rows}))


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


# -- a path that is cut -----------------------------------------------------------------------------------------------

TOKENS = (*(f"word{number} " for number in range(20)), "Answer: 42")
LONG = DecodeRequest("long", (QUESTION,), max_tokens=100)


def typist(*, thinks: bool = False, counts: bool = True, told: asyncio.Event | None = None) -> Reply:
    """Says the tokens that are not said yet, as many as it may. With `told`, five of them and then the others once that is set."""

    async def reply(call: Exchange) -> None:
        last = call.body["messages"][-1]
        said = last["content"] if last["role"] == "assistant" else ""
        before = next(number for number in range(len(TOKENS)) if "".join(TOKENS[:number]) == said)
        end = min(len(TOKENS), before + call.body["max_tokens"])
        events: list[dict[str, object]] = [chunk(reasoning_content="Hm. ")] if thinks else []
        for place in range(before, end):
            (choice,) = (event := chunk(TOKENS[place]))["choices"]
            choice["logprobs"] = {"content": [{"token": TOKENS[place], "logprob": -0.25 - place / 64}]}
            events.append(event)
        events.append(chunk(finish="length" if end < len(TOKENS) else "stop"))
        if counts:
            usage = {"prompt_tokens": 10 + before, "completion_tokens": end - before}
            events.append({"choices": [], "usage": usage})
        if told is not None:
            await stream(*events[:5], done=False)(call)
            await told.wait()
            events = events[5:]
            await raw(b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events))(call)
        else:
            await stream(*events)(call)

    return reply


async def in_parts(engine: OpenAIEngine, request: DecodeRequest) -> tuple[Decoded, int]:
    """All of a path, and in how many parts it was decoded."""
    whole, number = await engine.decode(request), 1
    while whole.is_cut:
        before = handing_on.begun(whole, engine.model)
        left = request.max_tokens - (whole.tokens_out or 0)
        rest = replace(request, prefix=handing_on.prefix(before), max_tokens=left)
        whole, number = handing_on.joined(before, await engine.decode(rest)), number + 1
    return whole, number


async def test_a_path_in_chunks_is_the_path_in_one_go(connections: AsyncOpenAI) -> None:
    async with served(connections, typist(), kind="vllm") as (server, engine):
        whole = await engine.decode(LONG)
        parts, number = await in_parts(engine, replace(LONG, chunk_tokens=8))
    assert number == 3
    assert [call.body["max_tokens"] for call in server.calls] == [100, 8, 8, 8]
    assert [call.body.get("continue_final_message") for call in server.calls] == [None, None, True, True]
    assert (parts.text, parts.tokens_in, parts.tokens_out) == ("".join(TOKENS), 10, len(TOKENS))
    assert (parts.token_texts, parts.finish_reason) == (whole.token_texts, whole.finish_reason)
    assert parts.token_logprobs == pytest.approx(whole.token_logprobs)


@pytest.mark.parametrize("reply", [typist(thinks=True), typist(counts=False)])
async def test_what_cannot_be_gone_on_from_is_seen_once_and_decoded_in_one_go(
    reply: Reply, connections: AsyncOpenAI
) -> None:
    async with served(connections, reply, kind="sglang") as (server, engine):
        for _ in range(2):
            path = await engine.decode(replace(LONG, chunk_tokens=8))
            assert (path.text, path.is_cut) == ("".join(TOKENS), False)
    assert [call.body["max_tokens"] for call in server.calls] == [8, 100, 100]


async def test_on_a_server_that_is_not_known_to_go_on_nothing_is_cut(connections: AsyncOpenAI) -> None:
    cut = Cut()
    cut.ask()
    async with served(connections, lists("someone"), typist()) as (server, engine):
        for _ in range(2):
            path = await engine.decode(replace(LONG, chunk_tokens=8, cut=cut))
            assert (path.text, path.is_cut) == ("".join(TOKENS), False)
    assert [call.path for call in server.calls] == ["/v1/models", *["/v1/chat/completions"] * 2]


async def test_a_stream_that_is_cut_ends_with_the_tokens_that_there_are(connections: AsyncOpenAI) -> None:
    told, cut = asyncio.Event(), Cut()
    async with served(connections, typist(told=told), typist(), kind="vllm") as (_, engine):
        task = asyncio.create_task(engine.decode(replace(LONG, cut=cut)))
        await until(lambda: engine.load().running == 1, what="a call")
        cut.ask()
        told.set()
        part = await task
        assert part.is_cut
        assert 0 < (part.tokens_out or 0) < len(TOKENS)
        before = handing_on.begun(part, engine.model)
        rest = await engine.decode(replace(LONG, prefix=handing_on.prefix(before)))
    whole = handing_on.joined(before, rest)
    assert (whole.text, whole.tokens_out, whole.tokens_in) == ("".join(TOKENS), len(TOKENS), None)
