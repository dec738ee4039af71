"""Sums worked out on paper: column by column, each a fact that a small model knows by heart."""

from itertools import zip_longest

from conclave.reasoner.problems import Calculation


def columns(step: Calculation) -> list[str]:
    """The columns of a sum in the order in which they are worked; empty where paper does not help (a negative result).

    `+`, `*`: from the units on, each with what is carried into it; the last column whole and the last digits of the others,
    read backwards, are the result (347*6: 42, 28, 20 = 2082). `-`: digits from the units on, one that borrows marked with `-`
    (347-85: 2, 6-, 2 = 262). `/`: from the left, what is divided at each digit, the multiple of the divisor that it
    holds and how many times (2082/6: 2-0>0, 20-18>3, 28-24>4, 42-42>7 = 347); what a column leaves begins the next.
    """
    match step.op:
        case "+":
            return _added(step.left, step.right)
        case "-":
            return _subtracted(step.left, step.right) if step.left >= step.right else []
        case "*":
            return _multiplied(step.left, step.right)
        case _:
            return _divided(step.left, step.right) if step.right else []


def _added(left: int, right: int) -> list[str]:
    found, carried = [], 0
    for a, b in zip_longest(_from_units(left), _from_units(right), fillvalue=0):
        found.append(str(a + b + carried))
        carried = (a + b + carried) // 10
    return found


def _subtracted(left: int, right: int) -> list[str]:
    found, borrowed = [], 0
    for a, b in zip_longest(_from_units(left), _from_units(right), fillvalue=0):
        difference = a - b - borrowed
        borrowed = int(difference < 0)
        found.append(f"{difference % 10}{'-' * borrowed}")
    return found


def _multiplied(left: int, right: int) -> list[str]:
    found, carried = [], 0
    for digit in _from_units(left):
        found.append(str(digit * right + carried))
        carried = (digit * right + carried) // 10
    return found


def _divided(left: int, right: int) -> list[str]:
    found, rest = [], 0
    for digit in reversed(_from_units(left)):
        divided = 10 * rest + digit
        rest = divided % right
        found.append(f"{divided}-{divided - rest}>{divided // right}")
    return found


def _from_units(number: int) -> list[int]:
    return [int(digit) for digit in reversed(str(number))]
