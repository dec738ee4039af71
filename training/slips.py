"""Wrong paths like those that a small model makes, for the lessons of the critic."""

import random
from collections.abc import Sequence

from training.paths import Line, gold_lines
from training.problems import Calculation, Problem

_OFFSETS = (1, -1, 2, -2, 10, -10, 20, -20, 9, -9, 100, -100, 1000, -1000)
_LEFT_OUT_SHARE = 0.12
_MISREAD_SHARE = 0.15  # of the others
_EARLY_SHARE = 0.5  # slips drawn towards the beginning, so that many lines that a critic sees are wrong

Sources = Sequence[tuple[int | None, int | None]]


def corrupt(problem: Problem, rng: random.Random) -> tuple[list[Line], int]:
    """The lines of a wrong path and the index (from 0) of its first wrong one; what follows builds on the slip.

    The slips are those that models make: a wrong digit, another operator or operand, a sentence left out.
    """
    gold, sources = gold_lines(problem), problem.sources
    index = _where(len(gold), rng)
    if _may_be_left_out(index, gold, sources) and rng.random() < _LEFT_OUT_SHARE:
        skipped = _left_out(index, gold, sources)
        if skipped[index].result != gold[index].result:
            return skipped, index
    wrong = _slip(gold[index], [line.step.right for line in gold], rng)
    return _carried_on([*gold[:index], wrong], gold, sources), index


def near(step: Calculation, rng: random.Random) -> int:
    """A wrong result that looks like the right one."""
    right = step.result
    digits = str(right)
    if rng.random() < 0.6:
        at = rng.randrange(len(digits))
        wrong = int(digits[:at] + str(rng.randrange(10)) + digits[at + 1 :])
    elif step.op in "*/" and rng.random() < 0.4:
        wrong = right + rng.choice((step.right, -step.right, 1, -1))
    else:
        wrong = right + rng.choice(_OFFSETS)
    return wrong if wrong >= 0 and wrong != right else right + rng.choice((1, 2, 10))


def _where(num_lines: int, rng: random.Random) -> int:
    index = rng.randrange(num_lines)
    return rng.randrange(index + 1) if rng.random() < _EARLY_SHARE else index


def _may_be_left_out(index: int, gold: Sequence[Line], sources: Sources) -> bool:
    return index + 1 < len(gold) and sources[index + 1] == (index, None) and not gold[index].story


def _left_out(index: int, gold: Sequence[Line], sources: Sources) -> list[Line]:
    """The path without the step at `index`: the next one is done on what that would have changed."""
    following = gold[index + 1]
    step = Calculation(gold[index].step.left, following.step.op, following.step.right)
    merged = Line(step, abs(step.result), following.story)
    rest = [*gold[:index], merged, *gold[index + 2 :]]
    shifted = [
        *sources[:index],
        sources[index],
        *((_shift(left, index), _shift(right, index)) for left, right in sources[index + 2 :]),
    ]
    return _carried_on(rest[: index + 1], rest, shifted)


def _shift(source: int | None, index: int) -> int | None:
    return source - 1 if source is not None and source > index else source


def _slip(line: Line, operands: Sequence[int], rng: random.Random) -> Line:
    step = line.step
    if rng.random() >= _MISREAD_SHARE:
        return Line(step, near(step, rng), line.story)
    if rng.random() < 0.5:
        other = Calculation(step.left, rng.choice([op for op in "+-*" if op != step.op]), step.right)
    else:
        others = [each for each in operands if each not in (step.right, 0)]
        other = Calculation(step.left, step.op, rng.choice(others) if others else step.right + 1)
    result = abs(other.result)  # the right one after all, as of 2 * 2 for 2 + 2, is no slip
    return Line(other, result if result != line.result else near(step, rng), line.story)


def _carried_on(begun: Sequence[Line], gold: Sequence[Line], sources: Sources) -> list[Line]:
    """The path that `begun` begins, done rightly to its end on the numbers that it has."""
    lines = list(begun)
    for index in range(len(begun), len(gold)):
        step, (left, right) = gold[index].step, sources[index]
        follows = Calculation(
            step.left if left is None else lines[left].result,
            step.op,
            step.right if right is None else lines[right].result,
        )
        result = 0 if follows.op == "/" and not follows.right else abs(follows.result)
        lines.append(Line(follows, result, gold[index].story))
    return lines
