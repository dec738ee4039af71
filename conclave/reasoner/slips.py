"""Wrong paths like those that a small model makes, for the lessons of the critic."""

import random

from conclave.reasoner.problems import Calculation, Problem

_OFFSETS = (1, -1, 2, -2, 10, -10, 20, -20, 9, -9, 100, -100)


def corrupt(problem: Problem, rng: random.Random) -> tuple[str, int]:
    """A wrong path and the index (from 0) of its first wrong step; what follows builds on the slip.

    The slips are those that models make: a wrong digit, another operator or operand, a sentence left out.
    """
    gold = problem.calculations
    index = rng.randrange(len(gold))
    rest = gold[index + 1 :]
    if rest and rng.random() < 0.2:
        first = Calculation(gold[index].left, rest[0].op, rest[0].right)
        wrong, value, rest = first.expression, first.result if first.result >= 0 else -first.result, rest[1:]
        if f"{wrong}={value}" == f"{gold[index].expression}={gold[index].result}":
            return corrupt(problem, rng)
    else:
        wrong, value = _slip(gold[index], problem, rng)
    lines = [f"{step.expression}={step.result}" for step in gold[:index]]
    lines.append(f"{wrong}={value}")
    carried = {gold[index].result: value}
    if len(lines) + len(rest) < len(gold):  # a step was left out: what it came to is what the one before came to
        carried = {gold[index + 1].result: value}
    for step in rest:
        follows = Calculation(carried.get(step.left, step.left), step.op, carried.get(step.right, step.right))
        value = abs(follows.result) if follows.right or follows.op in "+-*" else 0
        carried[step.result] = value
        lines.append(f"{follows.expression}={value}")
    return "\n".join([*lines, f"Answer: {value}"]), index


def _slip(step: Calculation, problem: Problem, rng: random.Random) -> tuple[str, int]:
    kind = rng.random()
    if kind < 0.7:
        return step.expression, _near(step, rng)
    if kind < 0.85:
        other = Calculation(step.left, rng.choice([op for op in "+-*" if op != step.op]), step.right)
    else:
        operands = [each.right for each in problem.calculations if each.right != step.right]
        other = Calculation(step.left, step.op, rng.choice(operands) if operands else step.right + 1)
    return other.expression, abs(other.result)


def _near(step: Calculation, rng: random.Random) -> int:
    """A wrong result that looks like the right one."""
    right = step.result
    digits = str(right)
    if rng.random() < 0.4:
        at = rng.randrange(len(digits))
        wrong = int(digits[:at] + str(rng.randrange(10)) + digits[at + 1 :])
    elif step.op in "*/" and rng.random() < 0.5:
        wrong = right + rng.choice((step.right, -step.right, 1, -1))
    else:
        wrong = right + rng.choice(_OFFSETS)
    return wrong if wrong >= 0 and wrong != right else right + rng.choice((1, 2, 10))
