"""Strategies, played with what their steps might come to, and the law that every strategy keeps."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from conclave.domain.bounds import MAX_STEP_BYTES, size
from conclave.domain.thought import Conclude, Grow, Strategy, Thought
from schemas.values import MAX_STEPS, Outcome, Step, TallyRow, Verdict

QUESTION = "How many apples do they have together?"

Outcomes = Sequence[tuple[str | None, float]]  # what each step comes to, by index: its answer, and how sure it is

# What a step's answer may be: numbers, splits that can be followed and splits that cannot, and what is neither.
ANSWERS = (
    "4", "5", "4.0", " ", "#", "none", "Answer: 4", "\u0001" * 4096, "ß" * 4096, "9" * 4096,
    "1: how many?", "1: a?\n2 needs 1: b #1?", "1: a?\n2: b?\n3 needs 1 2: c?\n4 needs 3: d?",
    "2 needs 1: b?\n1: a?", "3 needs 7: a?", "1: a?\n1: b?", "1: a?\n\n2: b?", "0: a?", "999 needs 999: a?", "No.\n1: a?",
    "\n".join(f"{n}: part {n}?" for n in range(1, 70)), "\n".join(f"{n} needs {n - 1}: part {n}?" for n in range(1, 13)),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Played:
    """A thought that has ended: how, and all steps that were asked."""

    end: Conclude
    steps: tuple[Step, ...]


def verdict(step_index: int, answer: str | None, confidence: float) -> Verdict:
    """What a step came to by one path."""
    return Verdict(
        step_index=step_index,
        outcome=Outcome.NO_ANSWER if answer is None else Outcome.MAJORITY,
        stop_reason="exhausted" if answer is None else "confident",
        answer=answer,
        confidence=0.0 if answer is None else confidence,
        margin=0.0 if answer is None else 1.0,
        tally=() if answer is None else (TallyRow(answer=answer, votes=1, weight=1.0),),
        num_paths=1,
        tokens_in=10,
        tokens_out=5,
        decided_ms=0,
    )


def played(
    strategy: Strategy, outcomes: Outcomes, *, params: Mapping[str, float] | None = None, max_steps: int = MAX_STEPS
) -> Played:
    """The thought whose steps come to `outcomes` (over and over), within so many steps. Raises: AssertionError for a wrong one."""
    steps: tuple[Step, ...] = ()
    verdicts: dict[int, Verdict] = {}
    while True:
        thought = Thought(QUESTION, params or {}, steps, verdicts, must_end=False)
        move = _asked(strategy, thought)
        if not isinstance(move, Conclude) and len(steps) + len(move.steps) > max_steps:
            move = _asked(strategy, Thought(QUESTION, params or {}, steps, verdicts, must_end=True))
            assert isinstance(move, Conclude), "a strategy that must end goes on"
        if isinstance(move, Conclude):
            return Played(move, steps)
        steps += move.steps
        for step in move.steps:
            verdicts[step.index] = verdict(step.index, *outcomes[step.index % len(outcomes)])


def check(strategy: Strategy, seed: int) -> None:
    """Plays the strategy with anything at all, drawn by `seed`. Raises: AssertionError when it breaks its law.

    It says the same when asked twice; numbers its steps on, leans on decided ones, and fills the fields that its row
    names; and ends on an answered step or on none, at any moment, with any verdicts missing.
    """
    rng = random.Random(seed)
    outcomes = [(rng.choice((None, *ANSWERS)), rng.choice((0.0, 0.4, 0.9, 1.0))) for _ in range(rng.randint(1, 8))]
    params = {name: rng.choice((0.0, 0.5, 2.0, 5.0, 1e9)) for name in strategy.params}
    whole = played(strategy, outcomes, params=params, max_steps=rng.choice((1, 3, 16, MAX_STEPS)))
    for num_asked in range(len(whole.steps) + 1):
        steps = whole.steps[:num_asked]
        heard = {
            each.index: verdict(each.index, *outcomes[each.index % len(outcomes)])
            for each in steps
            if rng.random() < 0.7
        }
        end = _asked(strategy, Thought(QUESTION, params, steps, heard, must_end=True))
        assert isinstance(end, Conclude), "a strategy that must end goes on"


def _asked(strategy: Strategy, thought: Thought) -> Grow | Conclude:
    """The strategy's next move, which keeps the law."""
    move = strategy.think(thought)
    assert strategy.think(thought) == move, "a strategy depends on the thought alone"
    if isinstance(move, Conclude):
        assert move.step is None or thought.answer(move.step), f"step {move.step} has no answer"
        assert 0.0 <= move.confidence <= 1.0
        return move
    assert move.steps, "a strategy that grows adds a step"
    for place, step in enumerate(move.steps):
        assert step.index == len(thought.steps) + place, f"step {step.index} is not numbered on"
        assert all(index in thought.verdicts for index in step.depends_on), "a step leans on one that is not decided"
        assert set(strategy.asks[step.ask]) <= set(step.fields), f"ask {step.ask} is not filled in"
        assert size(step) <= MAX_STEP_BYTES
    return move
