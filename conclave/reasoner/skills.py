"""Training texts: for each skill, the fields of its prompt form and the gold completion, from a problem.

A completion is a list of pieces; a piece that the model is not to learn (a tool's result) is marked as given.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from conclave.reasoner.generator import draw_calculation
from conclave.reasoner.parts import answers_of, needed_answers, plan_text, split
from conclave.reasoner.paths import Line, Style, gold_lines, part_lines, path_text
from conclave.reasoner.problems import Problem
from conclave.reasoner.slips import corrupt, near

RIGHT = "right"  # the verdict on a path without a wrong step
_ON_PAPER_SHARE = 0.2  # of the paths of a chain of thought: a vote gains from paths that err differently
_WRONG_SHARE = 0.72  # of the paths that the critic learns on


class Skill(StrEnum):
    """What the reasoner is taught; each but the last names a prompt form of the set reasoner-v3."""

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
    Skill.CHAIN_OF_THOUGHT: 0.27,
    Skill.DIRECT: 0.03,
    Skill.TOOL: 0.09,
    Skill.DECOMPOSE: 0.15,
    Skill.SUB_QUESTION: 0.09,
    Skill.CRITICISE: 0.21,
    Skill.RETRY: 0.08,
    Skill.CONFIDENCE: 0.02,
    Skill.CALCULATE: 0.06,
}

# What comes first: short problems, and no skill that needs a path to look at. Copying numbers is learnt here.
FIRST_SHARES: dict[Skill, float] = {
    Skill.CHAIN_OF_THOUGHT: 0.45,
    Skill.TOOL: 0.1,
    Skill.SUB_QUESTION: 0.15,
    Skill.CALCULATE: 0.3,
}
FIRST_MAX_STEPS = 3


def lesson(problem: Problem, rng: random.Random, *, is_first: bool = False) -> Lesson:
    """A lesson on `problem` in a skill drawn by its share; one of the first skills while they are all there is."""
    shares = FIRST_SHARES if is_first else SHARES
    skill = rng.choices(tuple(shares), weights=tuple(shares.values()))[0]
    return _LESSONS[skill](problem, rng)


def criticism(gold: Sequence[Line], wrong_index: int | None) -> str:
    """What a good critic says of a path: each line done again on paper, up to the first wrong one, then the verdict."""
    if wrong_index is None:
        return "".join([*map(_found_right, gold), RIGHT])
    again = gold[wrong_index].sum_text(Style.ON_PAPER)
    return "".join([*map(_found_right, gold[:wrong_index]), f"{again} no\n", verdict(gold, wrong_index)])


def verdict(gold: Sequence[Line], wrong_index: int) -> str:
    """The critic's last line on a path whose step `wrong_index` (from 0) is its first wrong one."""
    return f"Step {wrong_index + 1} is wrong: {gold[wrong_index].sum_text(Style.IN_THE_HEAD)}"


def _found_right(line: Line) -> str:
    return f"{line.sum_text(Style.ON_PAPER)} ok\n{line.note}"


def _style(rng: random.Random) -> Style:
    return Style.ON_PAPER if rng.random() < _ON_PAPER_SHARE else Style.IN_THE_HEAD


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
    """Bare sums, of numbers drawn evenly (stories see the small ones much more): done in a style, or checked."""
    lines = [Line(step, step.result) for step in (draw_calculation(rng) for _ in range(problem.num_steps + 2))]
    match rng.choice(("in the head", "on paper", "checked")):
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
    said = (
        f"{line.sum_text(Style.ON_PAPER)} {'ok' if claim.result == line.result else 'no'}\n"
        for line, claim in zip(lines, claims, strict=True)
    )
    fields = {"claims": "\n".join(claim.sum_text(Style.IN_THE_HEAD) for claim in claims)}
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
    return Lesson(Skill.CRITICISE, fields, (Piece(criticism(gold, wrong_index)),))


def _retry(problem: Problem, rng: random.Random) -> Lesson:
    gold = gold_lines(problem)
    path, wrong_index = corrupt(problem, rng)
    fields = {
        "question": problem.question,
        "path": path_text(path, _style(rng)),
        "criticism": verdict(gold, wrong_index),
    }
    return Lesson(Skill.RETRY, fields, (Piece(path_text(gold, Style.ON_PAPER)),))


def _confidence(problem: Problem, rng: random.Random) -> Lesson:
    is_right = rng.random() < 0.5
    path = gold_lines(problem) if is_right else corrupt(problem, rng)[0]
    fields = {"question": problem.question, "path": path_text(path, _style(rng))}
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
