"""Training texts: for each skill, the fields of its prompt form and the gold completion, from a problem.

A completion is a list of pieces; a piece that the model is not to learn (a tool's result) is marked as given.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from conclave.reasoner.problems import Calculation, Problem, Segment


class Skill(StrEnum):
    """What the reasoner is taught; each names a prompt form of the set reasoner-v1."""

    CHAIN_OF_THOUGHT = "chain_of_thought"
    DIRECT = "direct"
    TOOL = "tool"
    DECOMPOSE = "decompose"
    SUB_QUESTION = "sub_question"
    CRITICISE = "criticise"
    RETRY = "retry"
    CONFIDENCE = "confidence"


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


SHARES: dict[Skill, float] = {
    Skill.CHAIN_OF_THOUGHT: 0.40,
    Skill.DIRECT: 0.08,
    Skill.TOOL: 0.10,
    Skill.DECOMPOSE: 0.10,
    Skill.SUB_QUESTION: 0.08,
    Skill.CRITICISE: 0.13,
    Skill.RETRY: 0.08,
    Skill.CONFIDENCE: 0.03,
}


# What comes first: short problems, and no skill that needs a path to look at. Copying numbers is learnt here.
FIRST_SKILLS = (Skill.CHAIN_OF_THOUGHT, Skill.DIRECT, Skill.TOOL, Skill.SUB_QUESTION)
FIRST_MAX_STEPS = 3


def lesson(problem: Problem, rng: random.Random, *, is_first: bool = False) -> Lesson:
    """A lesson on `problem` in a skill drawn by its share; one of the first skills while they are all there is."""
    skills = FIRST_SKILLS if is_first else tuple(SHARES)
    skill = rng.choices(skills, weights=[SHARES[each] for each in skills])[0]
    return _LESSONS[skill](problem, rng)


def path_text(steps: list[Calculation]) -> str:
    """The gold reasoning: a line a step, then the answer."""
    return "\n".join([*(f"{step.expression}={step.result}" for step in steps), f"Answer: {steps[-1].result}"])


def _direct(problem: Problem, rng: random.Random) -> Lesson:
    return Lesson(Skill.DIRECT, {"question": problem.question}, (Piece(f"Answer: {problem.answer}"),))


def _chain_of_thought(problem: Problem, rng: random.Random) -> Lesson:
    return Lesson(Skill.CHAIN_OF_THOUGHT, {"question": problem.question}, (Piece(path_text(problem.calculations)),))


def _tool(problem: Problem, rng: random.Random) -> Lesson:
    pieces = []
    for step in problem.calculations:
        pieces += [Piece(f"calculate({step.expression})"), Piece(f"={step.result}\n", is_given=True)]
    return Lesson(Skill.TOOL, {"question": problem.question}, (*pieces, Piece(f"Answer: {problem.answer}")))


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
        parts += _split_segment(segment, len(parts))
        ends.append(len(parts))
    if problem.joint:
        last = problem.calculations[-1]
        first, second = ends if last.left == problem.segments[0].result else ends[::-1]
        text = f"There are #{first} and #{second}. {problem.ending}"
        parts.append(SubQuestion(text, (first, second), (last,)))
    return parts


def _split_segment(segment: Segment, offset: int) -> list[SubQuestion]:
    steps = segment.calculations()
    parts: list[SubQuestion] = []
    for begin in range(0, len(steps), 2):
        taken = steps[begin : begin + 2]
        sentences = segment.sentences[begin : begin + 2]
        needs: tuple[int, ...] = () if begin == 0 else (offset + len(parts),)
        start = str(segment.start) if begin == 0 else f"#{needs[0]}"
        is_last = begin + 2 >= len(steps)
        question = segment.question if is_last else "How many is that?"
        text = " ".join((segment.opening.format(start=start), *sentences, question))
        parts.append(SubQuestion(text, needs, tuple(taken)))
    return parts


def _decompose(problem: Problem, rng: random.Random) -> Lesson:
    lines = []
    for number, part in enumerate(split(problem), 1):
        needs = f" needs {' '.join(str(each) for each in part.needs)}" if part.needs else ""
        lines.append(f"{number}{needs}: {part.text}")
    return Lesson(Skill.DECOMPOSE, {"question": problem.question}, (Piece("\n".join(lines)),))


def _sub_question(problem: Problem, rng: random.Random) -> Lesson:
    parts = split(problem)
    part = rng.choice(parts)
    earlier = " ".join(f"#{need}={parts[need - 1].steps[-1].result}" for need in part.needs) or "#0=0"
    fields = {"question": part.text, "earlier": earlier}
    return Lesson(Skill.SUB_QUESTION, fields, (Piece(path_text(list(part.steps))),))


def corrupt(problem: Problem, rng: random.Random) -> tuple[str, int, Calculation]:
    """A wrong path, the index of its first wrong step, and that step as it should be.

    The slip is one that models make: a digit of a result, an operator or an operand; what follows builds on it.
    """
    gold = problem.calculations
    index = rng.randrange(len(gold))
    right = gold[index]
    lines = [f"{step.expression}={step.result}" for step in gold[:index]]
    shown, value = _slip(right, rng)
    lines.append(f"{shown}={value}")
    carried = {right.result: value}
    for step in gold[index + 1 :]:
        follows = Calculation(carried.get(step.left, step.left), step.op, carried.get(step.right, step.right))
        result = follows.result if follows.right or follows.op in "+-*" else 0
        carried[step.result] = result
        lines.append(f"{follows.expression}={result}")
        value = result
    return "\n".join([*lines, f"Answer: {value}"]), index, right


def _slip(step: Calculation, rng: random.Random) -> tuple[str, int]:
    kind = rng.random()
    if kind < 0.75:
        off = rng.choice((1, -1, 10, -10, 2, -2, 100, 9))
        wrong = step.result + off if step.result + off >= 0 else step.result + abs(off)
        return step.expression, wrong
    if kind < 0.9:
        other = Calculation(step.left, rng.choice([op for op in "+-*" if op != step.op]), step.right)
    else:
        other = Calculation(step.left, step.op, step.right + rng.choice((1, 2, 10)))
    wrong = abs(other.result)
    return other.expression, wrong if wrong != step.result else wrong + 1


def verdict(index: int, right: Calculation) -> str:
    """What a good critic says of a path whose step `index` (from 0) is its first wrong one."""
    return f"step {index + 1} is wrong, {right.expression}={right.result}"


def _criticise(problem: Problem, rng: random.Random) -> Lesson:
    if rng.random() < 0.5:
        fields = {"question": problem.question, "path": path_text(problem.calculations)}
        return Lesson(Skill.CRITICISE, fields, (Piece("right"),))
    path, index, right = corrupt(problem, rng)
    return Lesson(Skill.CRITICISE, {"question": problem.question, "path": path}, (Piece(verdict(index, right)),))


def _retry(problem: Problem, rng: random.Random) -> Lesson:
    path, index, right = corrupt(problem, rng)
    fields = {"question": problem.question, "path": path, "criticism": verdict(index, right)}
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
}
