"""Strategies, played with what their steps might come to, and the law that every strategy keeps."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from conclave.domain import thinking
from conclave.domain.thought import Conclude, Strategy, Thought
from conclave.testing import events as made
from schemas import codec
from schemas.events import SampleRequested
from schemas.flow import Topic
from schemas.values import MAX_STEPS, Ask, Step, Verdict

QUESTION = "all of it?"

# What steps come to: answers, plans that can be followed and plans that cannot, and what is neither.
TEXTS = (
    "4", "5", "4.0", "", " ", "#", "none", "Answer: 4", "\u0001" * 4096, "ß" * 4096, "9" * 4096,
    "1: how many?", "1: a?\n2 needs 1: b #1?", "1: a?\n2: b?\n3 needs 1 2: c?\n4 needs 3: d?",
    "2 needs 1: b?\n1: a?", "3 needs 7: a?", "1: a?\n1: b?", "1: a?\n\n2: b?", "0: a?", "999 needs 999: a?",
    "\n".join(f"{n}: part {n}?" for n in range(1, 70)), "\n".join(f"{n} needs {n - 1}: part {n}?" for n in range(1, 13)),
)  # fmt: skip
_CONFIDENCES = (0.0, 0.4, 0.9, 1.0)
_PARAMS = (0.0, 0.5, 3.0, 1e9)  # within and beyond any range
_MARKS = ("", "#1", "#x", "whole", "again 1", "check #1")
_MAX_MOVES = 5

Coming = tuple[str | None, float]  # what a step comes to: its answer, and how sure it is


def verdict(step_index: int, coming: Coming, **changes: Any) -> Verdict:
    """What a strategy sees of a decided step; `changes` replace any of the fields of the event that decided it."""
    answer, confidence = coming
    decided = made.verdict(step_index, answer or None, confidence=confidence if answer else 0.0, **changes)
    return thinking.verdict_of(decided)


def played(
    strategy: Strategy,
    comings: Sequence[Coming],
    *,
    params: Mapping[str, float] | None = None,
    asks: Mapping[str, Ask] | None = None,
    **changes: Any,
) -> tuple[Conclude, Thought]:
    """The end of a question whose steps come to `comings`, by index, and its thought by then.

    `asks` say how questions are put, for their words; `changes` hold for every verdict. When no more comings are left, it must end.
    """
    thought = Thought(QUESTION, params or {}, (), {}, must_end=False, asks=asks or {})
    while True:
        move = strategy.think(replace(thought, must_end=len(thought.steps) >= len(comings)))
        if isinstance(move, Conclude):
            return move, thought
        steps = (*thought.steps, *move.steps)
        new = {step.index: verdict(step.index, comings[step.index], **changes) for step in move.steps}
        thought = replace(thought, steps=steps, verdicts={**thought.verdicts, **new})


def check(strategy: Strategy, rng: random.Random) -> None:
    """Plays the strategy with anything at all. Raises: AssertionError when it breaks its law.

    Asked twice, it says the same. What it grows is numbered on, leans on decided steps, by an ask that its row names, with
    the fields that the row promises, and can be read back from its event. It ends on an answered step or on none, and at
    once when it must, whatever has come.
    """
    params = {name: rng.choice(_PARAMS) for name in strategy.params}
    thought = Thought(QUESTION, params, (), {}, must_end=False)
    for _ in range(rng.randint(0, _MAX_MOVES)):
        thought = _grown(strategy, thought, rng)
    _check_end(strategy, thought, rng)


def check_foreign(strategy: Strategy, rng: random.Random) -> None:
    """Shows the strategy steps that it has not grown, as a record of anyone's may hold them. Raises: AssertionError unless it ends
    all the same, when it must.

    They are of its asks, and may lack every field, lean on nothing or on any step before them, and have any verdict or none.
    """
    steps = []
    for index in range(rng.randint(1, _MAX_MOVES)):
        fields = {name: rng.choice(TEXTS) for name in ("question", "path", "argument") if rng.random() < 0.3}
        leans_on = tuple(sorted(rng.sample(range(index), rng.randint(0, index))))
        ask, mark = rng.choice([*strategy.asks, "whole"]), rng.choice(_MARKS)
        steps.append(Step(index=index, ask=ask, fields=fields, mark=mark, depends_on=leans_on))
    verdicts = {step.index: verdict(step.index, _any_coming(rng)) for step in steps}
    params = {name: rng.choice(_PARAMS) for name in strategy.params}
    thought = Thought(QUESTION, params, tuple(steps), verdicts, must_end=False)
    strategy.think(thought)
    _check_end(strategy, thought, rng)


def _grown(strategy: Strategy, thought: Thought, rng: random.Random) -> Thought:
    """The thought after the strategy's next move, with verdicts on all steps; as it was at the end."""
    move = strategy.think(thought)
    assert strategy.think(thought) == move, "asked twice, it says two things"
    if isinstance(move, Conclude):
        assert move.step is None or thought.answer(move.step), f"it ends on step {move.step}, which has no answer"
        return thought
    first = len(thought.steps)
    assert [step.index for step in move.steps] == [*range(first, first + len(move.steps))], "steps are numbered on"
    assert move.steps, "it grows by nothing"
    for step in move.steps:
        assert all(index in thought.verdicts for index in step.depends_on), f"step {step.index} leans on an open one"
        assert step.ask in strategy.asks, f"its row names no ask {step.ask}"
        missing = set(strategy.asks[step.ask]) - set(step.fields)
        assert not missing, f"step {step.index} lacks {', '.join(sorted(missing))}"
        _check_can_be_read_back(step)
    if first + len(move.steps) > MAX_STEPS:
        return thought  # the aggregator asks for the end instead
    new = {step.index: verdict(step.index, _any_coming(rng)) for step in move.steps}
    return replace(thought, steps=(*thought.steps, *move.steps), verdicts={**thought.verdicts, **new})


def _check_can_be_read_back(step: Step) -> None:
    sample = SampleRequested(context=msgspec.structs.replace(made.context(), step=step), sample_index=0, launched=1)
    read = codec.decode(Topic.SAMPLES, codec.versioned_type(SampleRequested), codec.encode(sample))
    assert read == sample, f"step {step.index} is not what its event says"


def _check_end(strategy: Strategy, thought: Thought, rng: random.Random) -> None:
    heard = {index: each for index, each in thought.verdicts.items() if rng.random() < 0.5}
    for verdicts in (thought.verdicts, heard):
        end = strategy.think(replace(thought, verdicts=verdicts, must_end=True))
        assert isinstance(end, Conclude), "it must end, and asks for more"
        assert end.step is None or (end.step in verdicts and verdicts[end.step].answer), f"no answer at step {end.step}"
        assert 0.0 <= end.confidence <= 1.0, f"confidence {end.confidence}"


def _any_coming(rng: random.Random) -> Coming:
    return rng.choice((None, *TEXTS)), rng.choice(_CONFIDENCES)
