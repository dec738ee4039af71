"""A path of several turns ends in exactly one terminal event, wherever it is cut."""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import msgspec
import pytest
from msgspec.structs import replace

from conclave import prompts
from conclave.domain.long_texts import MAX_LONG_TEXT_CHARS
from conclave.domain.path_watch import BrokenOff
from conclave.engine.protocol import Decoded, DecodeRequest, EngineLoad, EngineLost, PromptTooLong
from conclave.engine.trouble import Listener, Trouble, ignore
from conclave.prompts import PromptSet
from conclave.prompts.reading import read_set
from conclave.runtime.handler import Arrival
from conclave.runtime.limits import MAX_OUTPUT_BYTES
from conclave.tools import TOOLS
from conclave.tools.toolbox import Toolbox
from schemas import codec
from schemas.events import PathDecoded, PathFailed, SampleRequested, StepClosed, TextStored
from schemas.ids import new_request_id
from schemas.values import MAX_TEXT_CHARS, Ask, FinishReason, PathFailure, Step, StepContext
from services.decoder.handler import Decoder

TOOL = Ask(form="tool", program="tools", max_turns=12, tools=("whole_calculator",))
CRITICISED = Ask(form="chain_of_thought", program="criticised", max_turns=3)
STATED = Ask(form="chain_of_thought", program="stated", max_turns=2)

Say = Callable[[DecodeRequest], str | Exception]


def decoded(text: str, finish: FinishReason = FinishReason.STOP, logprob: float = -0.1) -> Decoded:
    """One turn as an engine gives it."""
    return Decoded(
        text=text, finish_reason=finish, tokens_in=10, tokens_out=5, mean_logprob=logprob, min_logprob=2 * logprob,
        queued_ms=1.0, first_token_ms=2.0, total_ms=3.0,
    )  # fmt: skip


@dataclass
class Speaker:
    """An engine that says what `say` makes of the request, after a few turns of the loop."""

    say: Callable[[DecodeRequest], Decoded | str | Exception]
    num_waits: Callable[[], int] = lambda: 0
    max_running: int = 2
    name: str = "fake"
    model: str = "none"
    running: int = 0
    asked: list[DecodeRequest] = field(default_factory=list)

    async def start(self, hear: Listener = ignore) -> None:
        """Nothing to do."""

    async def stop(self) -> None:
        """Nothing to do."""

    def trouble(self) -> Trouble | None:
        """None ever."""
        return None

    def load(self) -> EngineLoad:
        """What runs."""
        return EngineLoad(self.running, 0, 0.0)

    async def decode(self, request: DecodeRequest) -> Decoded:
        """What there is to say."""
        self.running += 1
        self.asked.append(request)
        try:
            for _ in range(self.num_waits()):
                await asyncio.sleep(0)
            said = self.say(request)
            if isinstance(said, Exception):
                raise said
            return decoded(said) if isinstance(said, str) else said
        finally:
            self.running -= 1


def calculating(request: DecodeRequest) -> str:
    """The shipped model's way with a tool: two sums, then the answer."""
    said = request.messages[-1].content if request.messages[-1].role == "assistant" else ""
    return ("calculate(17-6", "#1=11\ncalculate(11*4", "Answer: 44")[said.count("\n") - said.count("#")]


def arguing(request: DecodeRequest) -> str:
    """An attempt, a criticism and a better attempt, or how sure it is."""
    asked = request.messages[-1].content
    if asked.endswith("Check it."):
        return "a 1+1=3? no\nStep 1 is wrong: 1+1=3"
    if asked.endswith("How sure?"):
        return "95"
    return "a 1+1=2\nAnswer: 2" if asked.endswith("Try again.") else "a 1+1=3\nAnswer: 3"


def sample(ask: Ask, *, left_ms: int = 60_000, prompt_set: str = "reasoner-v3") -> SampleRequested:
    """A path to decode."""
    context = StepContext(
        request_id=new_request_id(),
        step=Step(index=0, fields={"question": "1+1?"}),
        ask=ask,
        prompt_set=prompt_set,
        policy="default",
        deadline_ms=int(time.time() * 1000) + left_ms,
    )
    return SampleRequested(context=context, sample_index=0, launched=1)


def arrival() -> Arrival:
    """Now."""
    now_ms = int(time.time() * 1000)
    return Arrival("id", "key", now_ms, now_ms, "reasoning.samples/0/0")


async def ended(decoder: Decoder, one: SampleRequested) -> PathDecoded | PathFailed:
    """The one end of a sample, which can be written and read, after the chunks of a long text."""
    *chunks, event = await decoder.handle(one, arrival())
    assert all(isinstance(chunk, TextStored) for chunk in chunks)
    assert isinstance(event, PathDecoded | PathFailed)
    value = codec.encode(event)
    assert len(value) < MAX_OUTPUT_BYTES
    assert codec.decode("reasoning.paths", codec.versioned_type(type(event)), value) == event
    return event


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


async def test_a_call_that_was_cut_is_not_made() -> None:
    path = await ended(Decoder(Speaker(lambda _: decoded("calculate(17-6", FinishReason.LENGTH))), sample(TOOL))
    assert isinstance(path, PathDecoded)
    assert (path.answer, path.turns) == (None, ())


async def test_a_path_that_calls_for_ever_ends_with_its_turns() -> None:
    path = await ended(Decoder(Speaker(lambda request: f"calculate({len(str(request.messages))}+1")), sample(TOOL))
    assert isinstance(path, PathDecoded)
    assert (path.answer, path.tokens_out, len(path.turns)) == (None, 12 * 5, 22)


async def test_a_path_that_makes_the_same_call_for_ever_is_cut() -> None:
    path = await ended(Decoder(Speaker(lambda _: "calculate(1+1")), sample(TOOL))
    assert isinstance(path, PathDecoded)
    assert (path.answer, path.tokens_out, len(path.turns)) == (None, 3 * 5, 4)


async def test_a_call_of_a_tool_that_the_form_does_not_offer_is_answered_with_those_that_it_does() -> None:
    def says(request: DecodeRequest) -> str:
        return "Action: oracle[why?]" if request.messages[-1].role == "user" else "Thought: well.\nAnswer: 7"

    ask = Ask(form="react", program="tools", max_turns=4, tools=("calculator", "units", "dates", "expression"))
    path = await ended(Decoder(Speaker(says)), sample(ask, prompt_set="instruct-v1"))
    assert isinstance(path, PathDecoded)
    assert path.turns[1].tool == "oracle"
    assert path.turns[1].answer == "error: there is no tool oracle; there are: calculator, units, dates, expression"
    assert path.answer == "7"


def _any_argument() -> dict[str, PromptSet]:
    text = """
        [forms.tool]
        user = "{question}"
        stop = [")"]
        answer = ['Answer: (.*)']
        tool = "calculator"
        call = '(?s)c\\((?P<argument>.*)'
        observe = ")={result}\\n"
    """
    found, faults = read_set("own", "own.toml", text, TOOLS)
    assert faults == []
    return {**prompts.shipped(), "own": found}


@pytest.mark.parametrize(
    ("argument", "observation"),
    [
        ("1" * 10_000_000, None),
        ("1" * 10_000, "error: the expression has 10,000 characters, at most 1,000 are read"),
        ("(" * 10_000 + "1", "error: the expression has 10,001 characters, at most 1,000 are read"),
        ("(" * 900 + "1", "error: nested more than 64 deep"),
        ("9**9**9", "error: a number on the way is too large"),
        ("1/0", "error: division by zero"),
        ("__import__('os')", "error: '_' is no part of an expression"),
    ],
    ids=lambda text: str(text)[:12],
)
async def test_whatever_is_handed_to_a_tool_is_answered_and_the_path_goes_on(
    argument: str, observation: str | None
) -> None:
    said = iter([f"c({argument}", "Answer: 1"])
    decoder = Decoder(Speaker(lambda _: next(said)), find_prompts=partial(prompts.load, sets=_any_argument()))
    path = await ended(decoder, sample(replace(TOOL, tools=("calculator",)), prompt_set="own"))
    assert isinstance(path, PathDecoded)
    if observation is None:
        assert path.answer is None
        assert path.long_text is not None
        assert path.long_text.num_chars == MAX_LONG_TEXT_CHARS
    else:
        assert (path.answer, path.turns[1].answer) == ("1", observation)


async def test_a_tool_that_hangs_is_left_behind_and_one_that_waits_is_cut_with_its_path() -> None:
    ends = asyncio.Event()
    loop = asyncio.get_running_loop()

    def hang(argument: str) -> str:
        with contextlib.suppress(Exception):
            asyncio.run_coroutine_threadsafe(ends.wait(), loop).result(30)
        return "late"

    ask = replace(TOOL, tools=("calculator",))
    find_prompts = partial(prompts.load, sets=_any_argument())
    slow = Decoder(Speaker(lambda r: "c(1" if len(r.messages) == 1 else "Answer: 1"), find_prompts=find_prompts,
                   toolbox=Toolbox({"calculator": hang}, limit_s=0.05))  # fmt: skip
    path = await ended(slow, sample(ask, prompt_set="own"))
    assert isinstance(path, PathDecoded)
    assert (path.answer, path.turns[1].answer) == ("1", "error: calculator took more than 0.05 s")

    patient = Decoder(Speaker(lambda _: "c(1"), find_prompts=find_prompts,
                      toolbox=Toolbox({"calculator": hang}, limit_s=60.0))  # fmt: skip
    one = sample(ask, prompt_set="own")
    task = asyncio.create_task(ended(patient, one))
    await asyncio.sleep(0.01)
    patient.hear(StepClosed(request_id=one.context.request_id, step_index=0))
    cut = await task
    assert isinstance(cut, PathFailed)
    assert cut.failure is PathFailure.CANCELLED
    ends.set()


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
