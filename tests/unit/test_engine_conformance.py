"""Every way in which model servers are known to misbehave: each sample has one terminal event, soon, and says what happened.

tests/misbehaviours.py has the table of them. The real decoder and the real engine run against a server on the loopback interface;
pauses are shortened, and what never gets well is given a deadline of a second.
"""

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace
from openai import AsyncOpenAI

from conclave.engine.openai_engine import OpenAIEngine
from conclave.engine.pace import Pace
from conclave.engine.trouble import Trouble, TroubleKind
from conclave.runtime.handler import Arrival
from conclave.testing import events as made
from conclave.testing.waiting import until
from schemas import codec
from schemas.events import PathDecoded, PathFailed, SampleRequested
from schemas.values import Ask, FinishReason, PathFailure
from services.decoder.handler import Decoder
from tests.misbehaving_server import (
    GOOD,
    Exchange,
    MisbehavingServer,
    Reply,
    chunk,
    error,
    http,
    silence,
    stream,
    then,
)
from tests.misbehaviours import BARRED, CASES, STOP, refuses

PACE = Pace(shortest_pause_s=0.005, longest_pause_s=0.02, longest_recheck_s=0.02, longest_told_s=2.0, silence_s=0.2)
ASK = Ask(form="chain_of_thought", max_tokens=2048)


@asynccontextmanager
async def served(
    client: AsyncOpenAI, *replies: Reply, pace: Pace = PACE
) -> AsyncIterator[tuple[MisbehavingServer, OpenAIEngine, Decoder]]:
    """A server with these replies, and a decoder on it."""
    server = MisbehavingServer(replies)
    await server.start()
    engine = OpenAIEngine("m", server.url, pace=pace, client=client)
    try:
        yield server, engine, Decoder(engine)
    finally:
        await engine.stop()
        await server.stop()


def sample(*, left_s: float = 600.0, index: int = 0, **ask: str) -> SampleRequested:
    """A sample of a question with the answer 42."""
    context = made.context(
        replace(ASK, **ask), prompt_set="instruct-v1", deadline_ms=round((time.time() + left_s) * 1000)
    )
    return SampleRequested(context=context, sample_index=index, launched=index + 1)


async def end_of(decoder: Decoder, event: SampleRequested) -> PathDecoded | PathFailed:
    """The sample's terminal event, as whoever reads it from the log has it."""
    now_ms = time.time_ns() // 1_000_000
    (end,) = await decoder.handle(event, Arrival("id", "key", now_ms, now_ms, "reasoning.samples/0/0"))
    read = codec.decode("reasoning.paths", codec.versioned_type(type(end)), codec.encode(end))
    assert isinstance(read, PathDecoded | PathFailed)
    return read


@pytest.mark.parametrize("name", CASES)
async def test_a_sample_ends_soon_and_says_what_happened(name: str, connections: AsyncOpenAI) -> None:
    replies, must = CASES[name]
    async with served(connections, *replies) as (server, _, decoder):
        started = time.monotonic()
        async with asyncio.timeout(must.within_s):
            end = await end_of(decoder, sample(left_s=must.left_s))
        took_s = time.monotonic() - started
    if must.failure is not None:
        assert isinstance(end, PathFailed), end
        assert end.failure is must.failure, end.message
        assert must.says in end.message
    else:
        assert isinstance(end, PathDecoded), end
        assert end.answer == must.answer
        assert must.finish is None or end.finish_reason is must.finish
    assert len(server.calls) <= must.calls, f"{len(server.calls)} calls"
    assert took_s >= must.after_s, f"it came again after {took_s:.2f} s"


@pytest.mark.parametrize(
    ("name", "tokens", "mean_logprob", "reasoning"),
    [
        ("429 twice", (12, 8), None, ""),
        ("usage with a null", (12, None), None, ""),
        ("usage missing", (None, None), None, ""),
        ("usage negative and absurd", (None, None), None, ""),
        ("usage as text", (None, None), None, ""),
        ("log probabilities with a null", (None, None), -0.1, ""),
        ("log probabilities with NaN", (None, None), None, ""),
        ("log probabilities of minus infinity", (None, None), -100.0, ""),
        ("log probabilities above 0", (None, None), 0.0, ""),
        ("a thought apart from the answer", (None, None), None, "Answer: 5?"),
        ("a thought and no answer", (None, None), None, "We need … Answer: 5 maybe"),
    ],
)
async def test_what_is_unknown_is_unknown_and_a_thought_is_kept_apart(
    name: str,
    tokens: tuple[int | None, int | None],
    mean_logprob: float | None,
    reasoning: str,
    connections: AsyncOpenAI,
) -> None:
    async with served(connections, *CASES[name][0]) as (_, _, decoder):
        path = await end_of(decoder, sample())
    assert isinstance(path, PathDecoded)
    assert (path.tokens_in, path.tokens_out, path.mean_logprob, path.reasoning) == (*tokens, mean_logprob, reasoning)
    assert "maybe" not in path.text


def test_there_are_as_many_ways_to_misbehave_as_are_asked_for() -> None:
    assert len(CASES) >= 60


@pytest.mark.parametrize("name", BARRED)
async def test_a_setting_at_fault_is_named_burns_nothing_and_is_seen_to_be_mended(
    name: str, connections: AsyncOpenAI
) -> None:
    reply, setting, says = BARRED[name]
    heard: list[Trouble | None] = []
    async with served(connections, reply, reply, reply, GOOD) as (server, engine, decoder):
        await engine.start(heard.append)
        trouble = engine.trouble()
        assert trouble is not None
        assert (trouble.kind, trouble.setting) == (TroubleKind.BARRED, setting)
        assert says in trouble.why
        assert not decoder.may_take()
        assert setting in str(decoder.status()["engine_trouble"])
        ends = await asyncio.gather(*(end_of(decoder, sample(index=index)) for index in range(8)))
        assert [end.answer for end in ends if isinstance(end, PathDecoded)] == ["42"] * 8, "they waited, and went on"
        assert decoder.may_take()
        assert [each is not None for each in heard] == [True, False], "said once, and once that it is mended"
        assert len(server.calls) == 4 + 8, (
            "while a setting is at fault only one call at a time sees whether it still is"
        )


async def test_what_waits_for_a_setting_to_be_mended_ends_at_its_deadline_and_names_it(
    connections: AsyncOpenAI,
) -> None:
    async with served(connections, error(401, "Incorrect API key provided")) as (_, _, decoder):
        end = await end_of(decoder, sample(left_s=0.3))
        assert isinstance(end, PathFailed)
        assert end.failure is PathFailure.DEADLINE
        assert "look at CONCLAVE_OPENAI_API_KEY: 401 Incorrect API key provided" in end.message


async def test_what_ends_at_its_deadline_in_a_begun_answer_says_why_the_answer_before_was_in_vain(
    connections: AsyncOpenAI,
) -> None:
    cut = stream(chunk("Answer: 4"), done=False)
    patient = dataclasses.replace(PACE, silence_s=60.0)  # the second is still thought to go on at the deadline
    async with served(connections, cut, then(cut, silence), pace=patient) as (_, _, decoder):
        end = await end_of(decoder, sample(left_s=1.0))
    assert isinstance(end, PathFailed)
    assert end.failure is PathFailure.DEADLINE
    assert "without a finish reason" in end.message


async def test_a_server_that_is_stopped_and_started_again_costs_no_sample(connections: AsyncOpenAI) -> None:
    loading, proxy = error(503, "Loading model"), http(502, "Bad Gateway", "text/plain")
    heard: list[Trouble | None] = []
    async with served(connections, GOOD) as (server, engine, decoder):
        await engine.start(heard.append)
        await server.stop()
        samples = [asyncio.create_task(end_of(decoder, sample(index=index))) for index in range(20)]
        await until(lambda: not decoder.may_take(), limit_s=5, what="an engine that is away")
        server.replies, server.calls = [proxy] * 3 + [loading] * 3 + [GOOD], []
        await server.start()
        ends = await asyncio.gather(*samples)
    assert [end.answer for end in ends if isinstance(end, PathDecoded)] == ["42"] * 20
    assert [each is not None for each in heard] == [True, False]
    assert heard[0] is not None
    assert heard[0].kind is TroubleKind.AWAY


async def test_what_a_server_asks_of_one_call_everyone_obeys(connections: AsyncOpenAI) -> None:
    times: list[float] = []

    async def reply(call: Exchange) -> None:
        times.append(time.monotonic())
        await (http(429, "{}", Retry_After="0.4") if call.number == 0 else GOOD)(call)

    async with served(connections, reply) as (_, _, decoder):
        first = asyncio.create_task(end_of(decoder, sample()))
        await until(lambda: not decoder.may_take(), limit_s=5, what="a pause")
        others = [asyncio.create_task(end_of(decoder, sample(index=index))) for index in range(1, 6)]
        ends = await asyncio.gather(first, *others)
    assert all(isinstance(end, PathDecoded) for end in ends)
    assert min(times[1:]) - times[0] >= 0.4
    assert len(times) == 7


async def test_after_an_outage_the_server_gets_one_call_then_more(connections: AsyncOpenAI) -> None:
    running, at_once = 0, []

    async def slow(call: Exchange) -> None:
        nonlocal running
        running += 1
        at_once.append(running)
        await asyncio.sleep(0.02)  # a path takes its time
        running -= 1
        await GOOD(call)

    async with served(connections, error(503, "Loading model"), GOOD, slow) as (_, engine, decoder):
        await engine.start()
        await asyncio.gather(*(end_of(decoder, sample(index=index)) for index in range(32)))
    assert at_once[0] == 1
    assert max(at_once[:3]) <= 2, "the second and third call start when the first was taken"
    assert max(at_once) >= 4


async def test_what_a_server_refuses_is_remembered(connections: AsyncOpenAI) -> None:
    async with served(connections, refuses("stream_options", "Extra inputs are not permitted: stream_options")) as (
        server,
        _,
        decoder,
    ):
        ends = await asyncio.gather(*(end_of(decoder, sample(index=index)) for index in range(8)))
        assert all(isinstance(end, PathDecoded) for end in ends)
        before = len(server.calls)
        assert before <= 16, "calls that ran at the same time learn the same thing once each"
        await end_of(decoder, sample(index=9))
        assert len(server.calls) == before + 1
        assert "stream_options" not in server.calls[-1].body
        assert server.calls[-1].body["logprobs"] is True


async def test_a_stop_string_that_a_server_does_not_take_still_ends_a_path(connections: AsyncOpenAI) -> None:
    refusing = refuses("stop", "Unsupported parameter: 'stop' is not supported with this model.", param="stop")
    runs_on = stream(chunk("Answer: 42\n<calculate>6*7</calc"), chunk("ulate>43\nAnswer: 43"), STOP)
    async with served(connections, refusing, runs_on) as (_, _, decoder):
        end = await end_of(decoder, sample(form="tool"))
    assert isinstance(end, PathDecoded)
    assert (end.text, end.finish_reason) == ("Answer: 42\n<calculate>6*7", FinishReason.STOP)


async def test_an_array_of_stop_strings_that_is_too_long_is_no_prompt_that_is_too_long(
    connections: AsyncOpenAI,
) -> None:
    said = "Invalid 'stop': array too long. Expected an array with maximum length 0, but got an array with length 1 instead."
    refusing = refuses("stop", said, param="stop", code="array_above_max_length")
    async with served(connections, refusing) as (server, _, decoder):
        end = await end_of(decoder, sample(form="tool"))
        assert isinstance(end, PathDecoded), end
        assert len(server.calls) == 2
