"""A sample ends in exactly one terminal event, whatever happens to it."""

import asyncio
import threading
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from conclave import prompts
from conclave.domain.extraction import EXTRACTORS
from conclave.engine.protocol import Decoded, DecodeRequest, EngineLoad, EngineLost, PromptTooLong
from conclave.engine.scripted import ScriptedEngine
from conclave.engine.trouble import Trouble, TroubleKind, TroubleListener, ignore
from conclave.prompts import Form, PromptSet
from conclave.prompts.current import CurrentPrompts
from conclave.runtime.dead_letters import Cause, Reason
from conclave.runtime.handler import Arrival
from conclave.runtime.limits import MAX_OUTPUT_BYTES
from schemas import codec, flow
from schemas.events import PathDecoded, PathFailed, SampleRequested, StepClosed, TextStored
from schemas.ids import new_request_id
from schemas.values import MAX_TEXT_CHARS, Ask, FinishReason, PathFailure, Step, StepContext
from services.decoder.handler import Decoder

DECODED = Decoded(
    text="1+1=2\nAnswer: 2", finish_reason=FinishReason.STOP, tokens_in=5, tokens_out=7, mean_logprob=-0.1, min_logprob=-0.5,
    queued_ms=0.0, first_token_ms=1.0, total_ms=2.0,
)  # fmt: skip


@dataclass
class FakeEngine:
    """Answers what it is told to, once it is released."""

    outcomes: list[Decoded | Exception] = field(default_factory=lambda: [DECODED])
    is_held: bool = False
    max_running: int = 4
    name: str = "fake"
    model: str = "none"
    started: int = 0
    running: int = 0
    in_trouble: Trouble | None = None

    async def start(self, hear: TroubleListener = ignore) -> None:
        """Nothing to do."""

    def trouble(self) -> Trouble | None:
        """What it is told to have."""
        return self.in_trouble

    async def stop(self) -> None:
        """Nothing to do."""

    def load(self) -> EngineLoad:
        """What runs."""
        return EngineLoad(self.running, 0, 0.0)

    async def decode(self, request: DecodeRequest) -> Decoded:
        """The next outcome."""
        self.started += 1
        self.running += 1
        try:
            if self.is_held:
                await asyncio.Event().wait()
            outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
            if isinstance(outcome, Exception):
                raise outcome
            return outcome
        finally:
            self.running -= 1


def _arrival() -> Arrival:
    now_ms = int(time.time() * 1000)
    return Arrival("id", "key", now_ms, now_ms, "reasoning.samples/0/0")


def _sample(
    *, left_ms: int = 60_000, fields: dict[str, str] | None = None, prompt_set: str = "reasoner-v3", **ask: str
) -> SampleRequested:
    context = StepContext(
        request_id=new_request_id(),
        step=Step(index=0, fields={"question": "1+1?"} if fields is None else fields),
        ask=replace(Ask(form="chain_of_thought"), **ask),
        prompt_set=prompt_set,
        policy="default",
        deadline_ms=int(time.time() * 1000) + left_ms,
    )
    return SampleRequested(context=context, sample_index=0, launched=1)


async def _end(decoder: Decoder, sample: SampleRequested) -> PathDecoded | PathFailed:
    *chunks, event = await decoder.handle(sample, _arrival())
    assert all(isinstance(chunk, TextStored) for chunk in chunks)
    assert isinstance(event, PathDecoded | PathFailed)
    topic = "reasoning.paths"
    assert codec.decode(topic, codec.versioned_type(type(event)), codec.encode(event)) == event
    return event


async def _until(condition) -> None:  # type: ignore[no-untyped-def]
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


@pytest.mark.parametrize(("cached", "told"), [(None, None), (0, 0), (3, 3)])
async def test_a_path_says_how_much_of_its_prompt_was_in_the_engine_s_cache(
    cached: int | None, told: int | None
) -> None:
    end = await _end(Decoder(FakeEngine([replace(DECODED, tokens_cached=cached)])), _sample())
    assert isinstance(end, PathDecoded)
    assert (end.tokens_in, end.tokens_cached) == (5, told)


async def test_a_decoded_path_carries_its_answer_and_what_it_cost() -> None:
    path = await _end(Decoder(FakeEngine()), _sample())
    assert isinstance(path, PathDecoded)
    assert (path.answer, path.tokens_out, path.mean_logprob, path.engine) == ("2", 7, -0.1, "fake")


async def test_a_decoded_path_carries_how_sure_its_tokens_were_and_how_full_the_engine_was() -> None:
    pieces = ("1+1=", "2\n", "Answer", ": ", "2", "<end>")
    logprobs = (-0.1, -0.2, 0.0, 0.0, -0.6, -0.3)
    engine = FakeEngine(outcomes=[replace(DECODED, token_logprobs=logprobs, token_texts=pieces)])
    path = await _end(Decoder(engine), _sample())
    assert isinstance(path, PathDecoded)
    assert (path.answer, path.answer_logprob, path.load) == ("2", -0.6, 0.0)
    assert path.tail_logprob == path.lowest_group_logprob == -0.2  # a path this short is one group
    plain = await _end(Decoder(FakeEngine()), _sample())
    assert isinstance(plain, PathDecoded)
    assert (plain.answer_logprob, plain.tail_logprob, plain.lowest_group_logprob) == (None, None, None)


async def test_an_engine_is_full_while_a_path_waits_for_it() -> None:
    engine = FakeEngine(max_running=1, running=1)
    path = await _end(Decoder(engine), _sample())
    assert isinstance(path, PathDecoded)
    assert path.load == 1.0


@pytest.mark.parametrize(
    ("asked", "failure", "named"),
    [
        ({"prompt_set": "none"}, PathFailure.BAD_PROMPT, "none"),
        ({"form": "nonsense"}, PathFailure.BAD_PROMPT, "nonsense"),
        ({"fields": {"other": "x"}}, PathFailure.BAD_PROMPT, "question"),
        ({"left_ms": -1}, PathFailure.DEADLINE, "deadline"),
    ],
)
async def test_a_sample_that_cannot_be_decoded_fails_at_once_and_says_why(
    asked: dict[str, Any], failure: PathFailure, named: str
) -> None:
    engine = FakeEngine()
    path = await _end(Decoder(engine), _sample(**asked))
    assert isinstance(path, PathFailed)
    assert path.failure is failure
    assert named in path.message
    assert engine.started == 0


async def test_a_prompt_too_long_for_the_model_is_named_with_both_lengths() -> None:
    path = await _end(Decoder(FakeEngine([PromptTooLong(5000, 1023)])), _sample())
    assert isinstance(path, PathFailed)
    assert path.failure is PathFailure.PROMPT_TOO_LONG
    assert "5000" in path.message
    assert "1023" in path.message


async def test_a_closed_step_ends_what_runs_what_waits_and_what_comes_later() -> None:
    engine = FakeEngine(is_held=True, max_running=1)
    decoder, sample = Decoder(engine), _sample()
    running, waiting = (asyncio.create_task(_end(decoder, sample)) for _ in range(2))
    await _until(lambda: engine.running == 1 and decoder.status()["engine_waiting"] == 1)
    decoder.hear(StepClosed(request_id=sample.context.request_id, step_index=0))
    later = await _end(decoder, sample)
    ends = [await running, await waiting, later]
    assert [end.failure for end in ends if isinstance(end, PathFailed)] == [PathFailure.CANCELLED] * 3
    assert engine.running == 0
    assert engine.started == 1
    assert decoder.status()["engine_waiting"] == 0
    engine.is_held = False
    assert isinstance(await _end(decoder, _sample()), PathDecoded), "a slot was not given back"


async def test_a_shutdown_ends_a_sample_without_an_event_and_frees_its_place() -> None:
    engine = FakeEngine(is_held=True, max_running=1)
    decoder = Decoder(engine)
    tasks = [asyncio.create_task(decoder.handle(_sample(), _arrival())) for _ in range(3)]
    await _until(lambda: engine.running == 1)
    for task in tasks:
        task.cancel()
    assert all(isinstance(end, asyncio.CancelledError) for end in await asyncio.gather(*tasks, return_exceptions=True))
    engine.is_held = False
    assert isinstance(await _end(decoder, _sample()), PathDecoded)


async def test_a_sample_still_decoding_at_its_deadline_is_given_up() -> None:
    engine = FakeEngine(is_held=True)
    path = await _end(Decoder(engine), _sample(left_ms=50))
    assert isinstance(path, PathFailed)
    assert path.failure is PathFailure.DEADLINE
    assert engine.running == 0


@dataclass
class ReluctantEngine(FakeEngine):
    """Lets go of a path that is given up only once it is allowed to."""

    is_letting_go: asyncio.Event = field(default_factory=asyncio.Event)
    may_let_go: asyncio.Event = field(default_factory=asyncio.Event)

    async def decode(self, request: DecodeRequest) -> Decoded:
        """Nothing."""
        try:
            await asyncio.Event().wait()
        finally:
            self.is_letting_go.set()
            await self.may_let_go.wait()
        return DECODED


async def test_a_sample_that_comes_while_its_step_s_others_are_given_up_is_given_up_too() -> None:
    engine, sample, arrival = ReluctantEngine(), _sample(left_ms=50), _arrival()
    decoder = Decoder(engine)
    first = asyncio.create_task(decoder.handle(sample, arrival))
    await engine.is_letting_go.wait()
    late = asyncio.create_task(decoder.handle(replace(sample, sample_index=1, launched=2), arrival))
    engine.is_letting_go.clear()
    try:
        async with asyncio.timeout(5):
            await engine.is_letting_go.wait()
    finally:
        engine.may_let_go.set()
    for (end,) in (await first, await late):
        assert isinstance(end, PathFailed)
        assert end.failure is PathFailure.DEADLINE


async def test_a_sample_is_decoded_again_when_the_engine_died_over_it_and_fails_at_the_third_time() -> None:
    assert isinstance(
        await _end(Decoder(FakeEngine([EngineLost("died"), EngineLost("died"), DECODED])), _sample()), PathDecoded
    )
    engine = FakeEngine([EngineLost("died")])
    path = await _end(Decoder(engine), _sample())
    assert isinstance(path, PathFailed)
    assert path.failure is PathFailure.ENGINE
    assert "died" in path.message
    assert (engine.started, engine.running) == (3, 0)


@pytest.mark.parametrize(
    ("trouble", "takes"), [(None, True), *((kind, kind is TroubleKind.UNSTEADY) for kind in TroubleKind)]
)
async def test_nothing_is_taken_while_the_engine_is_in_trouble(trouble: TroubleKind | None, takes: bool) -> None:
    engine = FakeEngine(in_trouble=None if trouble is None else Trouble(trouble, "why"))
    assert Decoder(engine).may_take() is takes


async def test_a_sample_that_waited_in_vain_says_what_for() -> None:
    engine = FakeEngine(
        is_held=True, in_trouble=Trouble(TroubleKind.BARRED, "401 wrong key", "CONCLAVE_OPENAI_API_KEY")
    )
    path = await _end(Decoder(engine), _sample(left_ms=50))
    assert isinstance(path, PathFailed)
    assert (path.failure, "look at CONCLAVE_OPENAI_API_KEY: 401 wrong key" in path.message) == (
        PathFailure.DEADLINE,
        True,
    )


async def test_a_sample_that_is_given_up_ends_as_a_failed_path_that_says_why() -> None:
    sample = _sample()
    (path,) = Decoder(FakeEngine()).give_up(sample, _arrival(), Cause(Reason.HANDLER, "KeyError: '\0'"))
    assert isinstance(path, PathFailed)
    assert (path.context, path.sample_index, path.failure) == (sample.context, 0, PathFailure.ENGINE)
    assert "handler" in path.message
    assert "KeyError" in path.message
    assert codec.decode("reasoning.paths", codec.versioned_type(PathFailed), codec.encode(path)) == path


@pytest.mark.parametrize(
    ("text", "finish", "answer"),
    [
        ("It makes 12,500.\nAnswer: 12", FinishReason.LENGTH, None),
        ("Answer: 12500\n\nNote that", FinishReason.LENGTH, "12500"),
        ("<think>Answer: 5, but", FinishReason.LENGTH, None),
        ("So it is \\boxed{12500}", FinishReason.LENGTH, "12500"),
        ("Answer: 12", FinishReason.STOP, "12"),
        ("Answer: 12\n", FinishReason.CONTENT_FILTER, None),
        ("Answer: 12\n", FinishReason.TOOL_CALLS, None),
    ],
)
async def test_an_answer_counts_only_where_the_path_came_to_it(text: str, finish: FinishReason, answer: str) -> None:
    decoder = Decoder(FakeEngine([replace(DECODED, text=text, finish_reason=finish)]))
    path = await _end(decoder, _sample(prompt_set="instruct-v1"))
    assert isinstance(path, PathDecoded)
    assert (path.answer, path.text) == (answer, text)


async def test_the_answer_of_a_text_too_long_to_be_kept_is_read_at_its_end_and_off_the_loop() -> None:
    readers: list[str] = []

    def extract(text: str, is_cut: bool) -> str | None:
        readers.append(threading.current_thread().name)
        return EXTRACTORS["final_answer"](text, is_cut)

    form = Form("chain_of_thought", "{question}", extractor=extract)
    sets = {"mine": PromptSet("mine", {form.name: form})}
    texts = ["x " * 200_000 + "\nAnswer: 7", "Answer: 7"]
    for text in texts:
        decoder = Decoder(FakeEngine([replace(DECODED, text=text)]), find_prompts=partial(prompts.load, sets=sets))
        path = await _end(decoder, _sample(prompt_set="mine"))
        assert isinstance(path, PathDecoded)
        assert path.answer == "7"
        assert (path.long_text is not None) is (len(text) > MAX_TEXT_CHARS)
    assert [name == threading.current_thread().name for name in readers] == [False, True]


async def test_a_prompt_set_that_was_deployed_a_moment_ago_is_looked_for_once_more(tmp_path: Path) -> None:
    current = CurrentPrompts(tmp_path, tools=())
    decoder = Decoder(FakeEngine([DECODED, DECODED]), find_prompts=current.find, look_again=current.refresh)
    early = await _end(decoder, _sample(prompt_set="mine"))
    assert isinstance(early, PathFailed)
    assert (early.failure, "mine" in early.message) == (PathFailure.BAD_PROMPT, True)
    form = '[forms.chain_of_thought]\nuser = "{question}"\nanswer = ["(.+)"]\n'
    (tmp_path / "mine.toml").write_text(form)
    assert isinstance(await _end(decoder, _sample(prompt_set="mine")), PathDecoded)
    (tmp_path / "mine.toml").unlink()
    current.refresh()
    assert isinstance(await _end(decoder, _sample(prompt_set="mine")), PathDecoded), "a path of a step that had begun"


async def test_text_that_neither_json_nor_postgres_can_hold_is_replaced() -> None:
    strange = Decoded(
        text="a\0b\ud800c", finish_reason=FinishReason.LENGTH, tokens_in=1, tokens_out=1, mean_logprob=None,
        min_logprob=None, queued_ms=0.0, first_token_ms=0.0, total_ms=0.0,
    )  # fmt: skip
    path = await _end(Decoder(FakeEngine([strange])), _sample())
    assert isinstance(path, PathDecoded)
    assert path.answer is None
    assert "\0" not in path.text


async def test_the_scripted_engine_repeats_itself_and_honours_cancellation() -> None:
    engine = ScriptedEngine(latency_ms=0)
    sample = _sample()
    first, again = [await _end(Decoder(engine), sample) for _ in range(2)]
    assert isinstance(first, PathDecoded)
    assert isinstance(again, PathDecoded)
    assert (first.answer, first.tokens_out, first.mean_logprob) == (again.answer, again.tokens_out, again.mean_logprob)
    slow = ScriptedEngine(latency_ms=1e9)
    task = asyncio.create_task(Decoder(slow).handle(sample, _arrival()))
    await _until(lambda: slow.load().running == 1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert slow.load().running == 0


@pytest.mark.parametrize("character", ["x", "漢", "\u0001"])
async def test_a_text_that_is_too_long_for_its_event_goes_before_it_in_chunks(character: str) -> None:
    text = character * 600_000 + "\nAnswer: 42"
    engine = FakeEngine([replace(DECODED, text=text)])
    sample = _sample()
    *chunks, path = await Decoder(engine).handle(sample, _arrival())
    assert isinstance(path, PathDecoded)
    assert path.answer == "42"
    assert text.endswith(path.text)
    assert path.long_text is not None
    assert path.long_text.num_chunks == len(chunks)
    assert "".join(chunk.text for chunk in chunks if isinstance(chunk, TextStored)) == text
    assert {flow.key_of(chunk) for chunk in chunks} == {sample.context.request_id}
    assert all(len(codec.encode(event)) < MAX_OUTPUT_BYTES for event in (*chunks, path))
