"""Sums worked out in writing: column by column, or a place at a time from the left."""

from collections.abc import Iterable
from itertools import accumulate, zip_longest

from training.problems import Calculation


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


def places(step: Calculation) -> list[str]:
    """What a sum has come to after each place from the left, but not the last; empty where there is only one place.

    `+`, `-`: the right number's places one after the other (347-85: 267, then 262). `*`: the left number's (347*6: 1800, 2040,
    then 2082). `/`: what is still to divide after each digit of the quotient (2082/6: 282, 42, and the quotient is 347).
    """
    match step.op:
        case "+":
            return _texts(accumulate(_terms(step.right), initial=step.left))[1:-1]
        case "-" if step.left >= step.right:
            return _texts(accumulate((-term for term in _terms(step.right)), initial=step.left))[1:-1]
        case "*":
            return _texts(accumulate(term * step.right for term in _terms(step.left)))[:-1]
        case "/" if step.right:
            given_out = accumulate(_place_values(step.result))
            return _texts(step.left - each * step.right for each in given_out)[:-1]
        case _:
            return []


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


def _place_values(number: int) -> list[int]:
    """What each digit stands for, from the left: 305 is 300, 0 and 5."""
    return [digit * 10**power for power, digit in enumerate(_from_units(number))][::-1]


def _terms(number: int) -> list[int]:
    """Its place values without those that are 0: what is there to add or to multiply."""
    return [value for value in _place_values(number) if value]


def _texts(numbers: Iterable[int]) -> list[str]:
    return [str(number) for number in numbers]


def _from_units(number: int) -> list[int]:
    return [int(digit) for digit in reversed(str(number))]
