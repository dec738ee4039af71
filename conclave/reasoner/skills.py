"""Training texts: for each skill, the fields of its prompt form and the gold completion, from a problem.

A completion is a list of pieces; a piece that the model is not to learn (a tool's result) is marked as given.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from conclave.reasoner.generator import draw_calculation
from conclave.reasoner.problems import Calculation, Problem, Segment
from conclave.reasoner.slips import corrupt

PART_STEPS = 2  # most steps of a sub-question
RIGHT = "right"  # the verdict on a path without a wrong step


class Skill(StrEnum):
    """What the reasoner is taught; each but the last names a prompt form of the set reasoner-v2."""

    CHAIN_OF_THOUGHT = "chain_of_thought"
    DIRECT = "direct"
    TOOL = "tool"
    DECOMPOSE = "decompose"
    SUB_QUESTION = "sub_question"
    CRITICISE = "criticise"
    RETRY = "retry"
    CONFIDENCE = "confidence"
    CALCULATE = "calculate"  # bare arithmetic: taught, never asked for, so no prompt set has it


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


# Shares of the lessons. Arithmetic comes first and stays as a rest: it is in every other skill.
SHARES: dict[Skill, float] = {
    Skill.CHAIN_OF_THOUGHT: 0.33,
    Skill.DIRECT: 0.04,
    Skill.TOOL: 0.10,
    Skill.DECOMPOSE: 0.13,
    Skill.SUB_QUESTION: 0.07,
    Skill.CRITICISE: 0.17,
    Skill.RETRY: 0.09,
    Skill.CONFIDENCE: 0.03,
    Skill.CALCULATE: 0.04,
}

# What comes first: short problems, and no skill that needs a path to look at. Copying numbers is learnt here.
FIRST_SHARES: dict[Skill, float] = {
    Skill.CHAIN_OF_THOUGHT: 0.5,
    Skill.TOOL: 0.15,
    Skill.SUB_QUESTION: 0.1,
    Skill.CALCULATE: 0.25,
}
FIRST_MAX_STEPS = 3


def lesson(problem: Problem, rng: random.Random, *, is_first: bool = False) -> Lesson:
    """A lesson on `problem` in a skill drawn by its share; one of the first skills while they are all there is."""
    shares = FIRST_SHARES if is_first else SHARES
    skill = rng.choices(tuple(shares), weights=tuple(shares.values()))[0]
    return _LESSONS[skill](problem, rng)


def line(step: Calculation) -> str:
    """A step as a path writes it."""
    return f"{step.expression}={step.result}"


def path_text(steps: Sequence[Calculation]) -> str:
    """The gold reasoning: a line a step, then the answer."""
    return "\n".join([*map(line, steps), f"Answer: {steps[-1].result}"])


def _direct(problem: Problem, rng: random.Random) -> Lesson:
    return Lesson(Skill.DIRECT, {"question": problem.question}, (Piece(f"Answer: {problem.answer}"),))


def _chain_of_thought(problem: Problem, rng: random.Random) -> Lesson:
    return Lesson(Skill.CHAIN_OF_THOUGHT, {"question": problem.question}, (Piece(path_text(problem.calculations)),))


def _tool(problem: Problem, rng: random.Random) -> Lesson:
    pieces = []
    for step in problem.calculations:
        pieces += [Piece(f"calculate({step.expression})"), Piece(f"={step.result}\n", is_given=True)]
    return Lesson(Skill.TOOL, {"question": problem.question}, (*pieces, Piece(f"Answer: {problem.answer}")))


def _calculate(problem: Problem, rng: random.Random) -> Lesson:
    """As many sums as a problem has steps, but of numbers drawn evenly: stories see the small ones much more."""
    pieces = []
    for _ in range(2 * problem.num_steps + 2):
        step = draw_calculation(rng)
        pieces += [Piece(f"{step.expression}=", is_given=True), Piece(f"{step.result}\n")]
    return Lesson(Skill.CALCULATE, {}, tuple(pieces))


@dataclass(frozen=True, slots=True)
class SubQuestion:
    """A part of a problem: its text with `#n` for the answers of earlier parts, those parts, and its own steps."""

    text: str
    needs: tuple[int, ...]
    steps: tuple[Calculation, ...]


def split(problem: Problem) -> list[SubQuestion]:
    """The problem in parts of at most two steps each, in an order in which they can be answered."""
    parts: list[SubQuestion] = []
    ends: list[int] = []
    for segment in problem.segments:
        parts += _split_segment(segment, len(parts), None if problem.joint else problem.ending)
        ends.append(len(parts))
    if problem.joint:
        last = problem.calculations[-1]
        text = f"There are #{ends[0]} and #{ends[1]}. {problem.ending}"
        parts.append(SubQuestion(text, (ends[0], ends[1]), (last,)))
    return parts


def _split_segment(segment: Segment, offset: int, ending: str | None) -> list[SubQuestion]:
    """The parts of a segment, numbered from `offset` + 1; the last asks `ending` where there is one."""
    steps = segment.calculations()
    parts: list[SubQuestion] = []
    for begin in range(0, len(steps), PART_STEPS):
        before = offset + len(parts)
        opening = segment.opening.format(start=segment.start) if begin == 0 else f"Start from #{before}."
        is_last = begin + PART_STEPS >= len(steps)
        question = ending if ending and is_last else "How many is that?"
        text = " ".join((opening, *segment.sentences[begin : begin + PART_STEPS], question))
        parts.append(SubQuestion(text, () if begin == 0 else (before,), tuple(steps[begin : begin + PART_STEPS])))
    return parts


def plan_text(parts: Sequence[SubQuestion]) -> str:
    """How a split is written: `2 needs 1: ...`, a line a part."""
    needs = (f" needs {' '.join(map(str, part.needs))}" if part.needs else "" for part in parts)
    return "\n".join(
        f"{number}{each}: {part.text}" for number, (part, each) in enumerate(zip(parts, needs, strict=True), 1)
    )


def _decompose(problem: Problem, rng: random.Random) -> Lesson:
    return Lesson(Skill.DECOMPOSE, {"question": problem.question}, (Piece(plan_text(split(problem))),))


def _sub_question(problem: Problem, rng: random.Random) -> Lesson:
    """One part; one that needs no other is asked like any question."""
    parts = split(problem)
    part = rng.choice(parts)
    said = (Piece(path_text(part.steps)),)
    if not part.needs:
        return Lesson(Skill.CHAIN_OF_THOUGHT, {"question": part.text}, said)
    earlier = "\n".join(f"#{need} = {parts[need - 1].steps[-1].result}" for need in part.needs)
    return Lesson(Skill.SUB_QUESTION, {"question": part.text, "earlier": earlier}, said)


def criticism(problem: Problem, wrong_index: int | None) -> str:
    """What a good critic says of a path: each line done again, up to the first wrong one, then the verdict."""
    gold = problem.calculations
    if wrong_index is None:
        return "\n".join([*(f"{line(step)} ok" for step in gold), RIGHT])
    checked = [f"{line(step)} ok" for step in gold[:wrong_index]]
    return "\n".join([*checked, f"{line(gold[wrong_index])} no", verdict(problem, wrong_index)])


def verdict(problem: Problem, wrong_index: int) -> str:
    """The critic's last line on a path whose step `wrong_index` (from 0) is its first wrong one."""
    return f"Step {wrong_index + 1} is wrong: {line(problem.calculations[wrong_index])}"


def _criticise(problem: Problem, rng: random.Random) -> Lesson:
    path, wrong_index = corrupt(problem, rng) if rng.random() < 0.6 else (path_text(problem.calculations), None)
    fields = {"question": problem.question, "path": path}
    return Lesson(Skill.CRITICISE, fields, (Piece(criticism(problem, wrong_index)),))


def _retry(problem: Problem, rng: random.Random) -> Lesson:
    path, wrong_index = corrupt(problem, rng)
    fields = {"question": problem.question, "path": path, "criticism": verdict(problem, wrong_index)}
    return Lesson(Skill.RETRY, fields, (Piece(path_text(problem.calculations)),))


def _confidence(problem: Problem, rng: random.Random) -> Lesson:
    is_right = rng.random() < 0.5
    path = path_text(problem.calculations) if is_right else corrupt(problem, rng)[0]
    fields = {"question": problem.question, "path": path}
    return Lesson(Skill.CONFIDENCE, fields, (Piece("95" if is_right else "5"),))


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
}
