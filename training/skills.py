"""Training texts: for each skill, the fields of its prompt form and the gold completion, from a problem.

A completion is a list of pieces; a piece that the model is not to learn (a tool's result) is marked as given.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from training.criticism import check, criticism, verdict
from training.generator import draw_calculation
from training.non_problems import non_problem, retelling
from training.parts import NOTHING, answers_of, needed_answers, plan_text, split
from training.paths import LABELS, Line, Style, careful_text, gold_lines, part_lines, path_text
from training.problems import MAX_STEPS, Problem
from training.slips import corrupt, near

# Of the paths of a chain of thought: a vote gains from paths that err differently.
_STYLE_SHARES = {Style.IN_THE_HEAD: 0.42, Style.FROM_THE_LEFT: 0.33, Style.ON_PAPER: 0.25}
_WRONG_SHARE = 0.72  # of the paths that the critic learns on
DECLINE = "Answer: no"  # what the prompt set's `declines` is


class Skill(StrEnum):
    """What the reasoner is taught; each but the last two names a prompt form of the set reasoner-v3."""

    CHAIN_OF_THOUGHT = "chain_of_thought"
    DIRECT = "direct"
    TOOL = "tool"
    DECOMPOSE = "decompose"
    SUB_QUESTION = "sub_question"
    CRITICISE = "criticise"
    RETRY = "retry"
    CONFIDENCE = "confidence"
    CALCULATE = "calculate"  # bare arithmetic: taught, never asked for, so no prompt set has it
    DECLINE = "decline"  # what is no word problem, in the forms of others


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a completion."""

    text: str
    is_given: bool = False


@dataclass(frozen=True, slots=True)
class Lesson:
    """One training example: which form, its fields, and what the model should say."""

    skill: Skill
    fields: dict[str, str]
    completion: tuple[Piece, ...]


# Where what is asked may be no word problem, and how often each is taught with it: who thinks step by step is asked most.
_DECLINING: dict[Skill, float] = {
    Skill.CHAIN_OF_THOUGHT: 0.45,
    Skill.DIRECT: 0.15,
    Skill.TOOL: 0.15,
    Skill.DECOMPOSE: 0.15,
    Skill.SUB_QUESTION: 0.10,
}
# Which lessons say nothing in the words of their question, so that it may be told in any.
_RETOLD = frozenset({Skill.CHAIN_OF_THOUGHT, Skill.DIRECT, Skill.TOOL})


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of the curriculum: until which share of the training's time, on which problems, and the share of each skill."""

    until: float
    max_steps: int
    batch_scale: float  # steps count for more than a smooth gradient while copying is learnt
    shares: dict[Skill, float]  # of all lessons, by weight
    retold_share: float = 0.0  # of the lessons that may be told in other names and things


# Copying comes first, on short problems: of numbers, and of claims, which can't be guessed where they are wrong. Then all skills;
# the critic learns early and well, so what is left of the time is mostly for thinking step by step.
_SHARES: dict[Skill, tuple[float, float, float]] = {
    Skill.CHAIN_OF_THOUGHT: (0.38, 0.26, 0.36),
    Skill.DIRECT: (0.00, 0.02, 0.02),
    Skill.TOOL: (0.05, 0.05, 0.05),
    Skill.DECOMPOSE: (0.00, 0.11, 0.12),
    Skill.SUB_QUESTION: (0.12, 0.09, 0.10),
    Skill.CRITICISE: (0.15, 0.18, 0.10),
    Skill.RETRY: (0.00, 0.09, 0.05),
    Skill.CONFIDENCE: (0.00, 0.02, 0.02),
    Skill.CALCULATE: (0.30, 0.08, 0.08),
    Skill.DECLINE: (0.00, 0.10, 0.10),
}
_FIRST, _SECOND, _THIRD = ({skill: row[column] for skill, row in _SHARES.items()} for column in range(3))
STAGES: tuple[Stage, ...] = (
    Stage(until=0.13, max_steps=3, batch_scale=0.5, shares=_FIRST),
    Stage(until=0.27, max_steps=MAX_STEPS, batch_scale=1.0, shares=_SECOND, retold_share=0.1),
    Stage(until=1.0, max_steps=MAX_STEPS, batch_scale=1.0, shares=_THIRD, retold_share=0.1),
)
# Of a model that has learnt the rest: half of the lessons, short ones, are of what is no word problem; the others keep the rest.
REFINING = replace(STAGES[-1], shares={**_THIRD, Skill.DECLINE: 0.9}, retold_share=0.2)


def stage_at(share: float, stages: Sequence[Stage] = STAGES) -> Stage:
    """The one of the stages that the training is in after this share, 0 to 1, of its time."""
    return next((stage for stage in stages if share < stage.until), stages[-1])


def lesson(problem: Problem, rng: random.Random, stage: Stage = STAGES[-1]) -> Lesson:
    """A lesson on `problem` in a skill drawn by its share in the stage."""
    skill = rng.choices(tuple(stage.shares), weights=tuple(stage.shares.values()))[0]
    taught = teach(skill, problem, rng)
    if skill in _RETOLD and stage.retold_share and rng.random() < stage.retold_share:
        return replace(taught, fields={"question": retelling(problem, rng)})
    return taught


def teach(skill: Skill, problem: Problem, rng: random.Random) -> Lesson:
    """A lesson on `problem` in this skill."""
    return _LESSONS[skill](problem, rng)


def _style(rng: random.Random) -> Style:
    return rng.choices(tuple(_STYLE_SHARES), weights=tuple(_STYLE_SHARES.values()))[0]


def _direct(problem: Problem, rng: random.Random) -> Lesson:
    return Lesson(Skill.DIRECT, {"question": problem.question}, (Piece(f"Answer: {problem.answer}"),))


def _chain_of_thought(problem: Problem, rng: random.Random) -> Lesson:
    said = path_text(gold_lines(problem), _style(rng))
    return Lesson(Skill.CHAIN_OF_THOUGHT, {"question": problem.question}, (Piece(said),))


def _tool(problem: Problem, rng: random.Random) -> Lesson:
    pieces: list[Piece] = []
    note = ""
    for line in gold_lines(problem):
        pieces.append(Piece(f"{note}calculate({line.step.expression})"))
        pieces.append(Piece(f"={line.result}\n", is_given=True))
        note = line.note
    return Lesson(Skill.TOOL, {"question": problem.question}, (*pieces, Piece(f"Answer: {problem.answer}")))


def _calculate(problem: Problem, rng: random.Random) -> Lesson:
    """Bare sums, of numbers drawn evenly (stories see the small ones much more): worked out in writing, or checked."""
    lines = [
        Line(step, step.result)
        for step in (draw_calculation(rng) for _ in range(min(problem.num_steps + 2, MAX_STEPS)))
    ]
    match rng.choice(("from the left", "on paper", "on paper", "checked")):
        case "checked":
            return _checked(lines, rng)
        case style:
            return Lesson(Skill.CALCULATE, {}, tuple(piece for line in lines for piece in _sum(line, Style(style))))


def _sum(line: Line, style: Style) -> tuple[Piece, Piece]:
    expression, text = line.step.expression, f"{line.sum_text(style)}\n"
    return Piece(text[: len(expression) + 1], is_given=True), Piece(text[len(expression) + 1 :])


def _checked(lines: Sequence[Line], rng: random.Random) -> Lesson:
    """Claims, half of them wrong, and each done again with what to say of it."""
    claims = [Line(line.step, near(line.step, rng)) if rng.random() < 0.5 else line for line in lines]
    said = (f"{label} {check(line.step, claim)}" for label, line, claim in zip(LABELS, lines, claims, strict=False))
    numbered = zip(LABELS, claims, strict=False)
    fields = {"claims": "\n".join(f"{label} {claim.sum_text(Style.IN_THE_HEAD)}" for label, claim in numbered)}
    return Lesson(Skill.CALCULATE, fields, (Piece("".join(said)),))


def _decompose(problem: Problem, rng: random.Random) -> Lesson:
    return Lesson(Skill.DECOMPOSE, {"question": problem.question}, (Piece(plan_text(split(problem))),))


def _sub_question(problem: Problem, rng: random.Random) -> Lesson:
    parts = split(problem)
    part = rng.choice(parts)
    fields = {"question": part.text, "earlier": needed_answers(part.needs, answers_of(parts))}
    return Lesson(Skill.SUB_QUESTION, fields, (Piece(path_text(part_lines(part.steps), Style.ON_PAPER)),))


def _criticise(problem: Problem, rng: random.Random) -> Lesson:
    gold = gold_lines(problem)
    path, wrong_index = corrupt(problem, rng) if rng.random() < _WRONG_SHARE else (gold, None)
    fields = {"question": problem.question, "path": path_text(path, _style(rng))}
    return Lesson(Skill.CRITICISE, fields, (Piece(criticism(problem, path, wrong_index)),))


def _retry(problem: Problem, rng: random.Random) -> Lesson:
    gold = gold_lines(problem)
    path, wrong_index = corrupt(problem, rng)
    fields = {
        "question": problem.question,
        "path": path_text(path, _style(rng)),
        "criticism": verdict(gold, wrong_index),
    }
    return Lesson(Skill.RETRY, fields, (Piece(careful_text(problem)),))


def _confidence(problem: Problem, rng: random.Random) -> Lesson:
    is_right = rng.random() < 0.5
    path = gold_lines(problem) if is_right else corrupt(problem, rng)[0]
    fields = {"question": problem.question, "path": path_text(path, _style(rng))}
    return Lesson(Skill.CONFIDENCE, fields, (Piece("95" if is_right else "5"),))


def _decline(problem: Problem, rng: random.Random) -> Lesson:
    asked_as = rng.choices(tuple(_DECLINING), weights=tuple(_DECLINING.values()))[0]
    fields = {"question": non_problem(problem, rng)}
    if asked_as is Skill.SUB_QUESTION:
        fields["earlier"] = NOTHING if rng.random() < 0.7 else needed_answers((1,), {1: str(problem.answer)})
    return Lesson(asked_as, fields, (Piece(DECLINE),))


_LESSONS: dict[Skill, Callable[[Problem, random.Random], Lesson]] = {
    Skill.DIRECT: _direct,
    Skill.CHAIN_OF_THOUGHT: _chain_of_thought,
    Skill.TOOL: _tool,
    Skill.DECOMPOSE: _decompose,
    Skill.SUB_QUESTION: _sub_question,
    Skill.CRITICISE: _criticise,
    Skill.RETRY: _retry,
    Skill.CONFIDENCE: _confidence,
    Skill.CALCULATE: _calculate,
    Skill.DECLINE: _decline,
}
