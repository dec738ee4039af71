"""A path of several turns ends in exactly one terminal event, wherever it is cut."""

import asyncio
import random

import msgspec
import pytest
from msgspec.structs import replace

from conclave.domain.path_watch import BrokenOff
from conclave.engine.protocol import Decoded, DecodeRequest, EngineLost, PromptTooLong
from schemas.events import PathDecoded, PathFailed, StepClosed
from schemas.values import MAX_TEXT_CHARS, Ask, FinishReason, PathFailure
from services.decoder.handler import Decoder
from tests.speakers import CRITICISED, STATED, TOOL, Speaker, arguing, calculating, decoded, ended, sample


async def test_a_path_calls_its_tool_where_it_needs_one_and_goes_on_from_the_result() -> None:
    engine = Speaker(calculating)
    path = await ended(Decoder(engine), sample(TOOL))
    assert isinstance(path, PathDecoded)
    assert [message.content for message in engine.asked[-1].messages] == [
        "1+1?\nUse calculate.",
        "calculate(17-6)=11\n#1=11\ncalculate(11*4)=44\n",
    ]
    assert (path.answer, path.text, path.form) == ("44", "Answer: 44", "tool")
    assert [(turn.tool, turn.text) for turn in path.turns] == [
        (None, "calculate(17-6"), ("whole_calculator", ")=11\n"),
        (None, "#1=11\ncalculate(11*4"), ("whole_calculator", ")=44\n"),
    ]  # fmt: skip
    assert (path.tokens_in, path.tokens_out, path.queued_ms, path.first_token_ms, path.total_ms) == (30, 15, 3, 2, 9)


async def test_a_path_that_is_criticised_is_tried_again_and_gives_the_second_answer() -> None:
    path = await ended(Decoder(Speaker(arguing)), sample(CRITICISED))
    assert isinstance(path, PathDecoded)
    assert (path.answer, path.form) == ("2", "retry")
    assert [(turn.form, turn.answer) for turn in path.turns] == [
        ("chain_of_thought", "3"),
        ("criticise", "Step 1 is wrong: 1+1=3"),
    ]


async def test_a_path_that_says_how_sure_it_is_has_the_figures_of_its_answer() -> None:
    def say(request: DecodeRequest) -> Decoded:
        text = arguing(request)
        return decoded(text, logprob=-3.0 if text == "95" else -0.25)

    path = await ended(Decoder(Speaker(say)), sample(STATED))
    assert isinstance(path, PathDecoded)
    assert (path.answer, path.probability, path.mean_logprob, path.text) == ("3", 0.95, -0.25, "95")


async def test_a_path_of_one_turn_stays_as_it_was() -> None:
    path = await ended(Decoder(Speaker(arguing)), sample(Ask(form="chain_of_thought")))
    assert isinstance(path, PathDecoded)
    assert (path.answer, path.turns, path.form, path.probability) == ("3", (), None, None)


@pytest.mark.parametrize("ask", [CRITICISED, STATED, TOOL, Ask(form="chain_of_thought")])
async def test_a_path_whose_model_declines_ends_there_and_says_so(ask: Ask) -> None:
    engine = Speaker(lambda _: "Answer: no")
    path = await ended(Decoder(engine), sample(ask))
    assert isinstance(path, PathDecoded)
    assert (path.is_declined, path.answer, path.turns, len(engine.asked)) == (True, None, (), 1)


@pytest.mark.parametrize("character", ["\x01", "a", "ü", "𝒙"])
async def test_a_thought_as_long_as_may_be_fits_into_its_event_beside_a_text_as_long(character: str) -> None:
    def say(request: DecodeRequest) -> Decoded:
        return replace(decoded(f"{character * 60_000}\nAnswer: 3"), reasoning=character * MAX_TEXT_CHARS)

    path = await ended(Decoder(Speaker(say)), sample(Ask(form="chain_of_thought")))
    assert isinstance(path, PathDecoded)
    assert path.answer == "3"
    assert 60_000 < len(path.reasoning) <= MAX_TEXT_CHARS - len(path.text)


@pytest.mark.parametrize("ask", [TOOL, CRITICISED, STATED], ids=lambda ask: ask.program)
@pytest.mark.parametrize("cut", ["closed", "shutdown", "deadline", "lost", "nothing"])
async def test_a_path_that_is_cut_at_any_turn_has_exactly_one_end(ask: Ask, cut: str) -> None:
    rng = random.Random(f"{ask.program} {cut}")
    for _ in range(60):
        losses = iter([rng.random() < 0.4 for _ in range(4)] if cut == "lost" else [])

        def say(request: DecodeRequest, losses=losses) -> str | Exception:  # type: ignore[no-untyped-def]
            if next(losses, False):
                return EngineLost("died")
            return calculating(request) if ask is TOOL else arguing(request)

        engine = Speaker(say, num_waits=lambda: rng.randrange(3))
        decoder = Decoder(engine)
        one = sample(ask, left_ms=rng.choice([1, 2, 4]) if cut == "deadline" else 60_000)
        task = asyncio.create_task(ended(decoder, one))
        for _ in range(rng.randrange(30)):
            await asyncio.sleep(0.001 if cut == "deadline" and rng.random() < 0.1 else 0)
        if cut == "closed":
            decoder.hear(StepClosed(request_id=one.context.request_id, step_index=0))
        if cut == "shutdown":
            task.cancel()
        (end,) = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(end, PathDecoded | PathFailed) or (
            cut == "shutdown" and isinstance(end, asyncio.CancelledError)
        )
        if isinstance(end, PathFailed):
            expected = {"closed": PathFailure.CANCELLED, "deadline": PathFailure.DEADLINE, "lost": PathFailure.ENGINE}
            assert end.failure is expected[cut]
        assert engine.running == 0
        assert decoder.status()["engine_waiting"] == 0
        assert isinstance(await ended(decoder, sample(ask)), PathDecoded), "a place was not given back"


async def test_a_path_over_which_the_engine_died_in_its_third_turn_begins_again() -> None:
    turns: list[str | Exception] = [
        "calculate(17-6",
        "calculate(11*4",
        EngineLost("died"),
        "calculate(5+5",
        "Answer: 10",
    ]
    said = iter(turns)
    path = await ended(Decoder(Speaker(lambda _: next(said))), sample(TOOL))
    assert isinstance(path, PathDecoded)
    assert (path.answer, path.tokens_out, len(path.turns)) == ("10", 10, 2)


async def test_a_failed_path_says_in_which_turn_and_what_it_had_cost() -> None:
    def say(request: DecodeRequest) -> str | Exception:
        return "calculate(17-6" if len(request.messages) == 1 else EngineLost("died")

    path = await ended(Decoder(Speaker(say)), sample(TOOL))
    assert isinstance(path, PathFailed)
    assert path.message.startswith("in turn 3: the engine was lost 3 times")
    assert (path.tokens_in, path.tokens_out) == (10, 5)


@pytest.mark.parametrize(
    ("ask", "named"),
    [
        (replace(TOOL, program="dance"), "dance"),
        (replace(TOOL, form="shout"), "shout"),
        (replace(TOOL, tools=()), "whole_calculator"),
        (replace(TOOL, tools=("calculator",)), "whole_calculator"),
    ],
)
async def test_a_path_whose_program_form_or_tool_is_not_there_fails_and_names_it(ask: Ask, named: str) -> None:
    path = await ended(Decoder(Speaker(calculating)), sample(ask))
    assert isinstance(path, PathFailed)
    assert path.failure is PathFailure.BAD_PROMPT
    assert named in path.message


@pytest.mark.parametrize(
    ("ask", "answer"), [(TOOL, None), (CRITICISED, "3"), (STATED, "3")], ids=lambda each: str(each)[:4]
)
async def test_a_path_whose_next_prompt_is_too_long_ends_with_what_it_has(ask: Ask, answer: str | None) -> None:
    turns: list[str | Exception] = [
        "calculate(17-6" if ask is TOOL else "a 1+1=3\nAnswer: 3",
        PromptTooLong(2000, 1023),
    ]
    said = iter(turns)
    path = await ended(Decoder(Speaker(lambda _: next(said))), sample(ask))
    assert isinstance(path, PathDecoded)
    assert path.answer == answer


@pytest.mark.parametrize("filling", ["x", "\x01", "語", "\ud800", "\0"])
async def test_a_path_that_outgrows_its_event_ends_and_fits(filling: str) -> None:
    def say(request: DecodeRequest) -> str:
        return filling * 100_000 + "\nAnswer: 3\ncalculate(1+1"

    path = await ended(Decoder(Speaker(say)), sample(TOOL))
    assert isinstance(path, PathDecoded)
    assert path.answer is None, "it breaks off before a call"
    texts = [turn.text for turn in path.turns] + [path.text]
    assert 100_000 < sum(map(len, texts)) <= 262_144
    for ask in (CRITICISED, STATED, Ask(form="chain_of_thought")):
        path = await ended(Decoder(Speaker(lambda _: filling * 300_000 + "\nAnswer: 3")), sample(ask))
        assert isinstance(path, PathDecoded)
        assert path.answer == "3", "what it said at its end counts, whatever is kept of it"
        assert path.turns == ()
        assert len(msgspec.json.encode(path.text)) <= 1_000_002


async def test_a_path_that_its_watch_breaks_off_has_no_vote_and_keeps_what_it_said() -> None:
    broken = replace(decoded("I am sure. Answer: 4", FinishReason.ABORT), aborted=BrokenOff.LOOPS)
    engine = Speaker(lambda request: broken)
    end = await ended(Decoder(engine), sample(CRITICISED))
    assert isinstance(end, PathDecoded)
    assert (end.answer, end.finish_reason, end.tokens_out) == (None, FinishReason.ABORT, 5)
    assert end.text == "I am sure. Answer: 4"
    assert len(engine.asked) == 1, "nothing is said after it"


async def test_siblings_set_the_bar_once_enough_of_them_have_ended() -> None:
    ask = Ask(form="chain_of_thought", params={"confidence_keep": 0.5, "confidence_warmup": 2.0})
    sure = replace(decoded("Answer: 4"), token_logprobs=(-0.5,) * 5)
    engine = Speaker(lambda request: sure)
    decoder, first = Decoder(engine), sample(ask)
    for index in range(3):
        await ended(decoder, replace(first, sample_index=index, launched=3))
    assert [request.watch is not None for request in engine.asked] == [False, False, True]
    watch = engine.asked[-1].watch
    assert watch is not None
    assert watch.feed("", [-0.6] * 16) is BrokenOff.UNSURE
