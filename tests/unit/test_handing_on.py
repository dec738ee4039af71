"""A path that is cut and gone on from, here or elsewhere, is the path that it would have been; whatever befalls its decoder."""

import asyncio
import json
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from conclave.domain.token_confidence import token_confidence
from conclave.engine.protocol import CannotGoOn, DecodeRequest, PromptTooLong
from conclave.engine.scripted import ScriptedEngine
from conclave.errors import PutBack
from conclave.testing.loop import VirtualLoop
from schemas import codec
from schemas.events import PathDecoded, PathFailed, SampleRequested, StepClosed
from schemas.flow import Topic
from schemas.values import Ask, FinishReason, PathFailure
from services.decoder import handing_on
from services.decoder.handler import Decoder
from tests.handed_on import LONG, Typist, alike, gone_through, of_id, read_back, typing
from tests.speakers import CRITICISED, STATED, TOOL, Speaker, arguing, arrival, calculating, sample


@pytest.mark.parametrize("ask", [LONG, *(replace(each, chunk_tokens=16) for each in (TOOL, STATED, CRITICISED))])
async def test_a_path_in_chunks_is_the_path_in_one_go(ask: Ask) -> None:
    engines = [ScriptedEngine(latency_ms=0.001) for _ in range(2)]
    was_handed_on = False
    for _ in range(10):
        one = sample(ask)
        path, number = await gone_through(one, [Decoder(engine) for engine in engines])
        whole_ask = replace(ask, chunk_tokens=0)
        context = replace(one.context, ask=whole_ask)
        whole, _ = await gone_through(replace(one, context=context), [Decoder(engines[0])])
        assert isinstance(path, PathDecoded)
        assert isinstance(whole, PathDecoded)
        assert alike(path) == alike(whole)
        assert path.num_handed_on == number
        was_handed_on = was_handed_on or number > 0
    assert was_handed_on


async def test_its_figures_are_those_of_all_its_tokens() -> None:
    tokens = (*(f"word{number} " for number in range(70)), "\nAnswer: ", "4", "2")
    path, number = await gone_through(sample(LONG), [Decoder(Typist(lambda _: tokens))])
    assert isinstance(path, PathDecoded)
    logprobs = [-0.25 - place / 64 for place in range(len(tokens))]
    sure = token_confidence(logprobs, tokens, text="".join(tokens), answer="42")
    assert (path.text, path.answer, path.num_handed_on, number) == ("".join(tokens), "42", 4, 4)
    assert (path.tokens_in, path.tokens_out) == (7, len(tokens))
    assert path.mean_logprob == pytest.approx(sum(logprobs) / len(logprobs))
    assert path.min_logprob == pytest.approx(min(logprobs))
    assert (path.answer_logprob, path.lowest_group_logprob, path.tail_logprob) == (
        sure.answer,
        sure.lowest_group,
        sure.tail,
    )
    assert (path.queued_ms, path.first_token_ms, path.total_ms) == (5.0, 2.0, 15.0)


async def test_the_figures_of_a_turn_that_was_over_before_the_cut_are_kept() -> None:
    attempt, said = ("Answer", ": ", "3"), tuple(f"{number}" for number in (9, 5))
    ask = replace(STATED, chunk_tokens=0)
    engine = Typist(
        lambda request: said if request.messages[-1].content.endswith("How sure?") else attempt, tokens_a_turn=1
    )
    decoder = Decoder(engine)
    handed_on = await _cut_after(decoder, sample(ask), num_turns=1)
    path, _ = await gone_through(handed_on, [Decoder(Typist(lambda _: said))])
    assert isinstance(path, PathDecoded)
    expected = token_confidence([-0.25, -0.25 - 1 / 64, -0.25 - 2 / 64], attempt, text="".join(attempt), answer="3")
    assert (path.answer, path.probability) == ("3", 0.95)
    assert (path.answer_logprob, path.tail_logprob) == (expected.answer, expected.tail)
    assert path.mean_logprob == pytest.approx(-0.25 - 1 / 64)


async def _cut_after(decoder: Decoder, one: SampleRequested, *, num_turns: int) -> SampleRequested:
    """What a decoder hands on that is told to once a path has so many turns."""
    task = asyncio.ensure_future(decoder.handle(one, arrival()))
    for _ in range(1_000):
        await asyncio.sleep(0)
        if any(len(path.turns) >= num_turns for path in decoder._under_way):
            break
    decoder.drain()
    decoder.hand_on(True)
    (event,) = await task
    assert isinstance(event, SampleRequested), event
    return read_back(event)


@pytest.mark.parametrize("ask", [TOOL, CRITICISED, STATED], ids=lambda ask: ask.program)
async def test_a_path_is_handed_on_from_any_moment_and_ends_as_if_nothing_had_happened(ask: Ask) -> None:
    say = calculating if ask is TOOL else arguing
    whole, _ = await gone_through(sample(ask), [Decoder(Typist(typing(say)))])
    assert isinstance(whole, PathDecoded)
    seen: set[int] = set()
    for num_turns_of_the_loop in range(0, 120, 3):
        one = sample(ask)
        event = await _cut_again_and_again(one, say, num_turns_of_the_loop)
        assert isinstance(event, PathDecoded)
        assert alike(replace(event, context=whole.context)) == alike(whole)
        seen.add(event.num_handed_on)
    assert {0, 1} < seen, "it was never cut twice"


async def _cut_again_and_again(
    one: SampleRequested, say: Callable[[DecodeRequest], str], num_turns_of_the_loop: int
) -> PathDecoded:
    """The end of a path whose decoders end, one after the other, a little later each time."""
    for number in range(20):
        decoder = Decoder(Typist(typing(say)))
        task = asyncio.ensure_future(decoder.handle(one, arrival()))
        for _ in range(num_turns_of_the_loop + number):
            await asyncio.sleep(0)
        decoder.drain()
        decoder.hand_on(True)
        try:
            (event,) = await task
        except PutBack:
            continue
        if isinstance(event, PathDecoded):
            return event
        assert isinstance(event, SampleRequested)
        one = read_back(event)
    raise AssertionError("it has not come to its end")


@pytest.mark.parametrize(("chunk_tokens", "is_last", "is_cut"), [(64, False, True), (0, False, False), (0, True, True)])
def test_what_a_rebalance_may_take_away_is_cut_only_where_the_policy_has_chunks(
    chunk_tokens: int, is_last: bool, is_cut: bool
) -> None:
    async def main() -> None:
        decoder = Decoder(ScriptedEngine(latency_ms=36_000_000))
        one = of_id(sample(replace(LONG, chunk_tokens=chunk_tokens), left_ms=86_400_000))
        task = asyncio.ensure_future(decoder.handle(one, arrival()))
        await asyncio.sleep(600)
        is_done = decoder.hand_on(is_last)
        await asyncio.sleep(0.001)
        assert is_done()
        assert task.done() is is_cut
        if not is_cut:
            task.cancel()
            return
        (event,) = await task
        assert isinstance(event, SampleRequested)
        assert event.progress is not None
        assert event.progress.begun is not None
        assert 0 < event.progress.tokens_out < 64

    VirtualLoop().run_until_complete(main())  # type: ignore[abstract]


def test_a_path_of_which_nothing_is_decoded_yet_goes_on_here_after_a_rebalance() -> None:
    async def main() -> None:
        decoder = Decoder(ScriptedEngine(latency_ms=36_000_000))
        task = asyncio.ensure_future(decoder.handle(of_id(sample(LONG, left_ms=86_400_000)), arrival()))
        await asyncio.sleep(0.001)
        is_done = decoder.hand_on(False)
        await asyncio.sleep(0.001)
        assert is_done()
        assert not task.done()
        event = (await task)[-1]
        assert isinstance(event, PathDecoded | SampleRequested)

    VirtualLoop().run_until_complete(main())  # type: ignore[abstract]


async def test_a_path_that_waits_for_its_next_turn_is_handed_on_from_there() -> None:
    engine = Typist(typing(calculating), max_running=1)
    decoder = Decoder(engine)
    one = sample(replace(TOOL, chunk_tokens=64))
    async with decoder._admission.turn("another"):
        task = asyncio.ensure_future(decoder.handle(one, arrival()))
        await asyncio.sleep(0)
        assert decoder.hand_on(False)(), "it has not begun: there is nothing to wait for"
        assert not task.done()
    async with asyncio.timeout(5):
        while not any(path.turns for path in decoder._under_way):
            await asyncio.sleep(0)
    async with decoder._admission.turn("another", has_begun=True):
        await asyncio.sleep(0.001)
        is_done = decoder.hand_on(False)
        (event,) = await task
        assert is_done()
    assert isinstance(event, SampleRequested)
    assert event.progress is not None
    assert event.progress.turns
    assert decoder.status()["engine_waiting"] == 0
    path, _ = await gone_through(read_back(event), [decoder])
    assert isinstance(path, PathDecoded)
    assert (path.answer, path.num_handed_on) == ("44", 1)
    assert len(engine.asked) == 3, "a turn was decoded twice"


async def test_what_is_closed_or_late_or_given_up_says_what_it_had_cost_elsewhere() -> None:
    decoder = Decoder(ScriptedEngine(latency_ms=0.001))
    (event,) = await decoder.handle(sample(LONG), arrival())
    while not isinstance(event, SampleRequested):
        (event,) = await decoder.handle(sample(LONG), arrival())
    late = replace(event, context=replace(event.context, deadline_ms=1))
    (failed,) = await decoder.handle(read_back(late), arrival())
    assert isinstance(failed, PathFailed)
    assert (failed.failure, failed.tokens_out, failed.num_handed_on) == (PathFailure.DEADLINE, 16, 1)
    decoder.hear(StepClosed(request_id=event.context.request_id, step_index=0))
    (failed,) = await decoder.handle(read_back(event), arrival())
    assert isinstance(failed, PathFailed)
    assert (failed.failure, failed.tokens_out) == (PathFailure.CANCELLED, 16)


async def test_a_path_that_no_event_can_hold_goes_on_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handing_on, "MAX_PROGRESS_BYTES", 100)
    tokens = (*(f"word{number} " for number in range(70)), "\nAnswer: ", "42")
    engine = Typist(lambda _: tokens)
    path, number = await gone_through(sample(LONG), [Decoder(engine)])
    assert isinstance(path, PathDecoded)
    assert (path.text, path.answer, path.tokens_out, number) == ("".join(tokens), "42", len(tokens), 0)
    assert len(engine.asked) == 5


@pytest.mark.parametrize("fault", [CannotGoOn(("vllm",)), PromptTooLong(9_000, 8_000)])
async def test_a_decoder_that_cannot_go_on_makes_an_end_of_it_all_the_same(fault: Exception) -> None:
    (handed_on,) = await Decoder(Typist(lambda _: ("Answer: 41", *(" and so on" * 4)))).handle(sample(LONG), arrival())
    assert isinstance(handed_on, SampleRequested)
    engine = Speaker(lambda request: "Answer: 42" if request.prefix is None else fault)
    path, _ = await gone_through(read_back(handed_on), [Decoder(engine)])
    assert isinstance(path, PathDecoded)
    if isinstance(fault, CannotGoOn):
        assert (path.answer, path.finish_reason, path.tokens_out) == ("42", FinishReason.STOP, 5)
    else:
        assert (path.finish_reason, path.tokens_out) == (FinishReason.LENGTH, 16)
        assert path.text.startswith("Answer: 41")


async def test_a_decoder_of_before_decodes_all_of_a_path_that_was_handed_on() -> None:
    decoder = Decoder(ScriptedEngine(latency_ms=0.001))
    one = sample(LONG)
    (handed_on,) = await decoder.handle(one, arrival())
    while not isinstance(handed_on, SampleRequested):
        one = sample(LONG)
        (handed_on,) = await decoder.handle(one, arrival())
    document = json.loads(codec.encode(handed_on))
    del document["progress"], document["context"]["ask"]["chunk_tokens"]
    value = json.dumps(document).encode()
    read = codec.decode(Topic.SAMPLES.value, codec.versioned_type(SampleRequested), value)
    (path,) = await decoder.handle(read, arrival())
    whole, _ = await gone_through(one, [decoder])
    assert isinstance(path, PathDecoded)
    assert isinstance(whole, PathDecoded)
    assert alike(path) == alike(whole)
