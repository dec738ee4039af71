"""vLLM itself, on the pinned version and the shipped model: figures, cancelling, long prompts, a dead and a hung core."""

import asyncio
import gc
import importlib
import json
import math
import os
import signal
import time
import warnings
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import pytest_asyncio
from msgspec.structs import replace

from conclave import policies
from conclave.domain.path_watch import Bar, BrokenOff, Watch
from conclave.domain.structured.answer_schema import accepted, read
from conclave.engine import ENGINES, EngineOptions
from conclave.engine.cut import Cut
from conclave.engine.pace import Pace
from conclave.engine.protocol import DecodeRequest, Engine, EngineLost, PromptTooLong
from conclave.prompts import Message
from conclave.runtime.handler import Arrival
from schemas.events import Event, PathDecoded, SampleRequested
from schemas.ids import new_request_id
from schemas.values import FinishReason, Step, StepContext
from services.decoder import handing_on
from services.decoder.handler import Decoder

NUM_PROBLEMS = 40
MODEL = Path(__file__).resolve().parents[2] / "models" / "reasoner"

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore"),  # of vLLM, torch and transformers: dozens, none of them ours
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[Engine]:
    """One engine for all tests: it takes half a minute to start."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("VLLM_CPU_OMP_THREADS_BIND", str((os.cpu_count() or 1) - 1))
        environment.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        engine = ENGINES["vllm"](EngineOptions(model=str(MODEL), max_running=16, pace=Pace(silence_s=10.0)))
        await engine.start()
        yield engine
        await engine.stop()
    # vLLM's clients of dead engine cores leave sockets to the garbage collector: now, and not in someone else's test.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


def _request(number: int, *, max_tokens: int = 60) -> DecodeRequest:
    question = f"Tom has {number} apples. Tom buys 7 more. How many apples does Tom have now?\nThink step by step."
    return DecodeRequest(str(number), (Message("user", question),), max_tokens=max_tokens)


async def test_a_path_has_text_and_sane_figures(engine: Engine) -> None:
    decoded = await engine.decode(_request(5))
    assert decoded.text
    assert decoded.tokens_in is not None
    assert decoded.tokens_out is not None
    assert decoded.tokens_in > 10
    assert 0 < decoded.tokens_out <= 60
    assert decoded.mean_logprob is not None
    assert decoded.min_logprob is not None
    assert decoded.min_logprob <= decoded.mean_logprob <= 0
    assert len(decoded.token_logprobs) == len(decoded.token_texts) == decoded.tokens_out
    assert decoded.text in "".join(decoded.token_texts)
    assert math.isfinite(decoded.min_logprob)
    assert 0 <= decoded.queued_ms <= decoded.first_token_ms <= decoded.total_ms


async def test_paths_of_one_prompt_differ(engine: Engine) -> None:
    # At a temperature at which even a sure model wavers.
    request = replace(_request(5), temperature=2.0)
    paths = await asyncio.gather(*(engine.decode(request) for _ in range(24)))
    assert len({path.text for path in paths}) > 1


async def test_cancelling_frees_the_engine(engine: Engine) -> None:
    tasks = [asyncio.create_task(engine.decode(_request(i, max_tokens=900))) for i in range(400)]
    await _until(lambda: engine.load().running + engine.load().waiting > 50, "a busy engine")
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    # The figures come with the engine's steps, so something must run for them to be seen.
    await engine.decode(_request(1, max_tokens=8))
    await _until(lambda: engine.load().running + engine.load().waiting == 0, "an idle engine")
    assert engine.load().kv_cache_use < 0.05
    started = time.monotonic()
    await engine.decode(_request(2, max_tokens=2))
    assert time.monotonic() - started < 30, "cancelled samples were still decoded"


async def test_a_path_in_chunks_is_gone_on_from_its_tokens(engine: Engine) -> None:
    request = replace(_request(5), temperature=0.0)
    whole, part = await engine.decode(request), await engine.decode(replace(request, chunk_tokens=7))
    num_parts = 1
    while part.is_cut:
        before = handing_on.begun(part, engine.model)
        assert len(part.token_ids) == part.tokens_out == 7 * num_parts
        left = request.max_tokens - 7 * num_parts
        rest = replace(request, max_tokens=left, chunk_tokens=7, prefix=handing_on.prefix(before))
        part, num_parts = handing_on.joined(before, await engine.decode(rest)), num_parts + 1
    assert (part.text, part.token_texts, part.finish_reason) == (whole.text, whole.token_texts, whole.finish_reason)
    assert (part.tokens_in, part.tokens_out) == (whole.tokens_in, whole.tokens_out)
    assert part.token_logprobs == pytest.approx(whole.token_logprobs, abs=1e-3)
    assert num_parts == -(-(whole.tokens_out or 0) // 7)


@pytest.mark.parametrize("watch", [None, Watch()])
async def test_a_path_that_is_cut_ends_with_what_there_is_and_frees_the_engine(
    engine: Engine, watch: Watch | None
) -> None:
    cut = Cut()
    request = replace(_request(4, max_tokens=900), temperature=2.0, cut=cut, watch=watch)
    task = asyncio.create_task(engine.decode(request))
    await _until(lambda: engine.load().running == 1, "a path under way")
    await asyncio.sleep(0.05)  # for some tokens: their number is whatever it is
    cut.ask()
    async with asyncio.timeout(5):
        part = await task
    assert part.is_cut or part.finish_reason is FinishReason.STOP
    assert part.tokens_out == len(part.token_logprobs)
    assert part.tokens_out is not None
    assert part.tokens_out < 900
    await engine.decode(_request(1, max_tokens=8))  # its own count comes with its steps
    await _until(lambda: engine.load().running + engine.load().waiting == 0, "an idle engine")
    at_once = await engine.decode(replace(request, watch=None))
    assert (at_once.is_cut, (at_once.tokens_out or 0) < 100) == (True, True)


async def test_what_is_cancelled_leaves_the_engine_idle_within_a_second(engine: Engine) -> None:
    request = replace(_request(4, max_tokens=900), temperature=2.0)  # as hot as vLLM takes: paths are long
    tasks = [asyncio.create_task(engine.decode(request)) for _ in range(200)]
    await _until(lambda: engine.load().running == 16, "a full engine")
    cancelled = time.monotonic()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await engine.decode(_request(1, max_tokens=8))  # its own count comes with its steps
    await _until(lambda: engine.load().running + engine.load().waiting == 0, "an idle engine")
    assert time.monotonic() - cancelled < 1.0
    assert engine.load().kv_cache_use < 0.05


async def test_of_all_that_it_is_given_one_waits_in_the_engine_to_take_the_place_of_one_that_ends(
    engine: Engine,
) -> None:
    tasks = [asyncio.create_task(engine.decode(_request(number))) for number in range(engine.max_running)]
    await _until(lambda: (engine.load().running, engine.load().waiting) == (16, 1), "a full engine, and one that waits")
    assert all(each.text for each in await asyncio.gather(*tasks))


async def test_a_path_below_its_siblings_bar_is_broken_off_in_the_engine(engine: Engine) -> None:
    told = " ".join(
        f"Then Tom buys {number} more." for number in (85, 120, 45, 212, 31)
    )  # long enough to be looked at on the way
    asked = f"Tom has 347 apples. {told} How many apples does Tom have now?\nThink step by step."
    request = DecodeRequest("unsure", (Message("user", asked),), max_tokens=900, temperature=2.0)
    watches = [Watch(Bar(16, -0.001)) for _ in range(16)]
    paths = await asyncio.gather(*(engine.decode(replace(request, watch=watch)) for watch in watches))
    broken_off = [path for path in paths if path.aborted is not None]
    assert broken_off, "at this temperature no group of tokens is as sure as that"
    for path in broken_off:
        assert (path.aborted, path.finish_reason) == (BrokenOff.UNSURE, FinishReason.ABORT)
        assert 16 <= (path.tokens_out or 0) < 200
        assert len(path.token_logprobs) == path.tokens_out
        assert path.text
    others = [path for path in paths if path.aborted is None]
    assert all((path.tokens_out or 0) < 48 for path in others), (
        "what ends by itself before it is looked at is left alone"
    )
    await engine.decode(_request(1, max_tokens=8))
    await _until(lambda: engine.load().running + engine.load().waiting == 0, "an idle engine")


async def test_a_watched_path_that_is_sure_ends_as_any_other(engine: Engine) -> None:
    request = replace(_request(5), temperature=0.0)
    watched = await engine.decode(replace(request, watch=Watch(Bar(16, -50.0))))
    plain = await engine.decode(request)
    assert (watched.text, watched.finish_reason, watched.aborted) == (plain.text, plain.finish_reason, None)
    assert watched.token_logprobs == pytest.approx(plain.token_logprobs, abs=1e-3)


async def test_a_path_that_is_held_to_a_schema_says_what_fits_it(engine: Engine) -> None:
    schema = accepted(
        {
            "type": "object",
            "properties": {
                "apples": {"type": "integer", "minimum": 0, "maximum": 9999},
                "who": {"enum": ["Tom", "Ann"]},
            },
            "required": ["apples", "who"],
            "additionalProperties": False,
        }
    )
    request = replace(_request(3), json_schema=schema, max_tokens=200)
    paths = await asyncio.gather(*(engine.decode(request) for _ in range(12)))
    ended = [path for path in paths if path.finish_reason is FinishReason.STOP]
    assert len(ended) >= 9, [path.text for path in paths]
    assert all(read(path.text, schema) is not None for path in ended), [path.text for path in ended]
    assert all(path.mean_logprob is not None for path in paths)


async def test_a_schema_that_can_not_be_held_to_is_left_to_whoever_reads_the_answer(engine: Engine) -> None:
    schema = '{"type": "object", "properties": {"n": {"type": "nothing"}}}'
    for _ in range(2):
        assert (await engine.decode(replace(_request(5), json_schema=schema))).text
    assert len(engine._unheld) == 1  # type: ignore[attr-defined]


async def test_a_prompt_too_long_is_refused_with_both_lengths(engine: Engine) -> None:
    with pytest.raises(PromptTooLong) as caught:
        await engine.decode(DecodeRequest("long", (Message("user", "apples " * 3000),)))
    assert caught.value.limit == 1023
    assert caught.value.num_tokens is not None
    assert caught.value.num_tokens > 1023


async def test_a_path_is_gone_on_from_what_it_said_and_a_tools_result(engine: Engine) -> None:
    asked = "There are 70 pens in Ron's box. Then Ron gets 4 times as many. How many pens does Ron have now?\nUse calculate."
    question = Message("user", asked)
    begun = DecodeRequest("tool", (question,), stop=(")",), temperature=0.0)
    first = await engine.decode(begun)
    assert first.text == "calculate(70*4"
    # What stands there counts, whatever the model would have said: no newline is trimmed, no new turn begins.
    said = Message("assistant", first.text + ")=281\n")
    second = await engine.decode(replace(begun, messages=(question, said)))
    assert second.text == "Answer: 281"
    assert (second.tokens_in or 0) > (first.tokens_in or 0) + (first.tokens_out or 0)


async def _paths(engine: Engine, policy_name: str, problems: Sequence[dict[str, str]]) -> list[PathDecoded]:
    """A path for each problem under a policy that ships, by the decoder."""
    policy = policies.shipped().find(policy_name)
    assert policy is not None
    decoder, now_ms = Decoder(engine), round(time.time() * 1000)

    async def path(question: str) -> Event:
        context = StepContext(
            request_id=new_request_id(),
            step=Step(index=0, fields={"question": question}),
            ask=policy.asks["whole"],
            prompt_set=policy.prompt_set,
            policy=policy.name,
            deadline_ms=now_ms + 600_000,
        )
        sample = SampleRequested(context=context, sample_index=0, launched=1)
        (end,) = await decoder.handle(sample, Arrival("id", "key", now_ms, now_ms, "reasoning.samples/0/0"))
        return end

    ends = await asyncio.gather(*(path(each["question"]) for each in problems))
    assert all(isinstance(end, PathDecoded) for end in ends)
    return [end for end in ends if isinstance(end, PathDecoded)]


async def test_the_shipped_model_calls_its_tool_heeds_its_critic_and_says_how_sure_it_is(engine: Engine) -> None:
    lines = (MODEL.parents[1] / "data" / "problems" / "test.jsonl").read_text().splitlines()[:NUM_PROBLEMS]
    problems = [json.loads(line) for line in lines]
    answers = [each["answer"] for each in problems]

    by_tool = await _paths(engine, "tool", problems)
    right = sum(path.answer == answer for path, answer in zip(by_tool, answers, strict=True))
    calls = sum(turn.tool is not None for path in by_tool for turn in path.turns)
    print(f"tool: {right} of {len(problems)} right, {calls} calls")
    assert right >= 0.7 * len(problems), "nine in ten are right (models/reasoner/README.md)"
    assert calls >= len(problems)

    criticised = await _paths(engine, "criticised", problems)
    first = sum(path.turns[0].answer == answer for path, answer in zip(criticised, answers, strict=True))
    last = sum(path.answer == answer for path, answer in zip(criticised, answers, strict=True))
    print(f"criticised: {first} right at first, {last} at last")
    assert last > first, "one retry mends most of what is wrong (models/reasoner/README.md)"

    sure = await _paths(engine, "sure", problems)
    print("sure:", Counter((path.probability, path.answer == a) for path, a in zip(sure, answers, strict=True)))
    said = [path.probability for path in sure if path.answer is not None]
    assert all(each is not None and 0 <= each <= 1 for each in said)
    # It was taught these two, and draws another digit now and then.
    assert sum(each in {0.05, 0.95} for each in said) >= 0.9 * len(said)


async def test_conversations_leave_the_remembered_prompts_alone(engine: Engine) -> None:
    await engine.decode(_request(5, max_tokens=1))
    remembered = list(engine._prompts._known)  # type: ignore[attr-defined]
    going_on = (*_request(5).messages, Message("assistant", "a 5+"))
    await engine.decode(replace(_request(5, max_tokens=1), messages=going_on))
    assert list(engine._prompts._known) == remembered  # type: ignore[attr-defined]


async def test_an_engine_core_that_dies_is_replaced_and_decodes_again(engine: Engine) -> None:
    pid = await _lost_over_its_samples(engine, signal.SIGKILL)
    assert await _decodes_again(engine)
    assert _core_pid(engine) != pid


async def test_an_engine_core_that_hangs_is_taken_for_dead(engine: Engine) -> None:
    assert await _decodes_again(engine)
    pid = await _lost_over_its_samples(engine, signal.SIGSTOP)
    await _until(lambda: not Path(f"/proc/{pid}").exists(), "an end of the process that hung")


async def _lost_over_its_samples(engine: Engine, fault: signal.Signals) -> int:
    """The process id of the engine core that a signal befell; every sample that it decoded ended, or was lost."""
    pid = _core_pid(engine)
    tasks = [asyncio.create_task(engine.decode(_request(i, max_tokens=900))) for i in range(100)]
    await _until(lambda: engine.load().running > 0, "running samples")
    os.kill(pid, fault)
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert any(isinstance(end, EngineLost) for end in ends)
    assert not [end for end in ends if isinstance(end, Exception) and not isinstance(end, EngineLost)]
    return pid


def _core_pid(engine: Engine) -> int:
    # By name: nothing but the decoder and this test may import the module.
    module = importlib.import_module("conclave.engine.vllm.engine")
    (pid,) = module.core_pids(engine._llm)  # type: ignore[attr-defined]
    return int(pid)


async def _decodes_again(engine: Engine) -> bool:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        try:
            return bool((await engine.decode(_request(1))).text)
        except EngineLost:
            await asyncio.sleep(0.5)
    return False


async def _until(condition, what: str) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, f"not {what} within 60 s"
        await asyncio.sleep(0.01)
