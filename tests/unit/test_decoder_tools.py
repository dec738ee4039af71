"""A path that calls tools: whatever it calls them with, and however they behave, it goes on."""

import asyncio
import contextlib
from functools import partial

import pytest
from msgspec.structs import replace

from conclave import prompts
from conclave.domain.long_texts import MAX_LONG_TEXT_CHARS
from conclave.engine.protocol import DecodeRequest
from conclave.prompts import PromptSet
from conclave.prompts.reading import read_set
from conclave.tools import TOOLS
from conclave.tools.toolbox import Toolbox
from schemas.events import PathDecoded, PathFailed, StepClosed
from schemas.values import Ask, FinishReason, PathFailure
from services.decoder.handler import Decoder
from tests.speakers import TOOL, Speaker, decoded, ended, sample


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
