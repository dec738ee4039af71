"""Sums worked out in writing: on paper and from the left, the work must lead to the result."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.columns import columns, places
from training.problems import Calculation

numbers = st.integers(0, 99_999)
digits = st.integers(1, 9)


def read(found: list[str]) -> int:
    """The last column whole, then the last digits of the others backwards."""
    return int("".join([found[-1], *(column[-1] for column in reversed(found[:-1]))]))


@given(left=numbers, right=numbers)
def test_the_columns_of_an_addition_read_backwards_are_the_sum(left: int, right: int) -> None:
    assert read(columns(Calculation(left, "+", right))) == left + right


@given(left=numbers, right=digits)
def test_the_columns_of_a_product_read_backwards_are_the_product(left: int, right: int) -> None:
    assert read(columns(Calculation(left, "*", right))) == left * right


@given(left=numbers, right=numbers)
def test_the_columns_of_a_difference_read_backwards_are_the_difference(left: int, right: int) -> None:
    left, right = max(left, right), min(left, right)
    found = [column.removesuffix("-") for column in columns(Calculation(left, "-", right))]
    assert int("".join(reversed(found))) == left - right


@given(left=numbers, right=digits)
def test_each_digit_of_a_quotient_is_what_its_column_holds_of_the_divisor(left: int, right: int) -> None:
    found = [tuple(map(int, re.split("[->]", column))) for column in columns(Calculation(left, "/", right))]
    assert all(multiple == right * digit and 0 <= divided - multiple < right for divided, multiple, digit in found)
    assert int("".join(str(digit) for _, _, digit in found)) == left // right
    assert found[-1][0] - found[-1][1] == left % right


@given(left=numbers, right=numbers)
def test_what_is_added_or_taken_a_place_at_a_time_from_the_left_comes_to_the_sum(left: int, right: int) -> None:
    for op, high, low in (("+", left, right), ("-", max(left, right), min(left, right))):
        step = Calculation(high, op, low)
        totals = [high, *map(int, places(step)), step.result]
        moved = [abs(after - before) for before, after in pairwise(totals)]
        assert sum(moved) == low
        assert all(len(str(each).rstrip("0")) <= 1 for each in moved), "more than one place at a time"


@given(left=numbers, right=digits)
def test_a_product_from_the_left_grows_by_a_digit_times_the_other_number(left: int, right: int) -> None:
    step = Calculation(left, "*", right)
    grown = [after - before for before, after in pairwise([0, *map(int, places(step)), step.result])]
    assert [each // right for each in grown if each] == [
        int(d) * 10**i for i, d in enumerate(str(left)[::-1]) if d != "0"
    ][::-1]


@given(left=numbers, right=digits)
def test_a_quotient_from_the_left_leaves_less_than_the_divisor_at_every_place(left: int, right: int) -> None:
    step = Calculation(left, "/", right)
    power = len(str(step.result)) - 1
    for rest in map(int, places(step)):
        assert 0 <= rest < right * 10**power
        power -= 1
    assert power == 0


@pytest.mark.parametrize(
    ("left", "op", "right", "on_paper", "from_the_left"),
    [
        (347, "*", 6, "42 28 20", "1800 2040"),
        (347, "+", 85, "12 13 4", "427"),
        (347, "+", 205, "12 5 5", "547"),
        (347, "-", 85, "2 6- 2", "267"),
        (2082, "/", 6, "2-0>0 20-18>3 28-24>4 42-42>7", "282 42"),
        (7, "+", 5, "12", ""),
        (5, "-", 7, "", ""),
        (5, "/", 0, "", ""),
    ],
)
def test_work_looks_as_it_is_described(left: int, op: str, right: int, on_paper: str, from_the_left: str) -> None:
    step = Calculation(left, op, right)
    assert " ".join(columns(step)) == on_paper
    assert " ".join(places(step)) == from_the_left
