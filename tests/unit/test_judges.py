"""The judge of formulas as it runs: Math-Verify in a process that is killed when it takes too long."""

import json
import random
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from conclave.domain.equivalence.judged import is_worth_asking
from conclave.judges.latex import latex
from conclave.judges.pool import JudgePool
from conclave.judges.words import WALL_FACTOR

DATA = Path(__file__).parents[1] / "data" / "answers"
LIMIT_S = 1.0

SAME = [
    (r"\sin^2 x + \cos^2 x", "1*1"),
    ("e^{x+y}", r"e^x \cdot e^y"),
    (r"\frac{1}{1+\sqrt{2}}", r"\sqrt{2}-1"),
    ("(x+1)/(x^2-1)", r"\frac{1}{x-1}"),
    ("ln(8)", r"3\ln 2"),
    ("$2^{10}x$", "1024x"),
    ("sin(2x)", r"2\sin x\cos x"),
]
DIFFERENT = [
    ("x^2/y", "y/x^2"),
    ("x+10^{-20}", "x+10^{-21}"),  # Math-Verify alone: the same
    (r"2x+3y=\sin 0", r"5x-y=\sin 0"),
    ("(\\sqrt{2},2)", "\\{\\sqrt{2},2\\}"),
    (r"\sqrt{x^2}", "x"),
    ("e^x", "e^{x}+10^{-30}"),
    (r"\frac{1}{3}x", "0.333333x"),
    (r"2\sin x\cos x", r"2\sin(x\cos x)"),
]
PIECES = [*"xy23+-*/^{}()=,e", r"\frac", r"\sqrt", r"\sin", r"\pi", "10", r"\left(", r"\right)"]
HANGING = [
    "9^{9^{9^{9^{9}}}}x",
    r"\int_0^1 x^{x^{x^x}} dx",
    "(" * 60 + "x^y" + ")" * 60,
    r"\prod_{k=1}^{10^{12}} \sin(k) x",
]


@pytest.fixture(scope="module")
def pool() -> Iterator[JudgePool]:
    pool = JudgePool(limit_s=LIMIT_S)
    yield pool
    pool.close()


@pytest.mark.parametrize(("one", "other"), SAME)
def test_formulas_that_come_to_the_same_are_the_same_both_ways_round(pool: JudgePool, one: str, other: str) -> None:
    assert is_worth_asking(one, other)
    assert pool.decided(one, other)
    assert pool.decided(other, one)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_formulas_that_do_not_come_to_the_same_are_told_apart(pool: JudgePool, one: str, other: str) -> None:
    assert not pool.decided(one, other)
    assert not pool.decided(other, one)


def test_the_cases_of_two_answers_that_differ_stay_two_votes(pool: JudgePool) -> None:
    rows = [
        json.loads(line)
        for name in ("field", "own_equivalence")
        for line in (DATA / f"{name}.jsonl").read_text().splitlines()
    ]
    pairs = [
        (row["a"], row["b"]) for row in rows if "a" in row and not row["same"] and is_worth_asking(row["a"], row["b"])
    ]
    assert pairs
    # The judge looks past a gap in what a formula is defined for.
    assert [pair for pair in pairs if pool.decided(*pair)] == [(r"\frac{x^2-1}{x-1}", "x+1")]


@pytest.mark.parametrize("formula", HANGING)
def test_whatever_hangs_is_ended_and_the_next_pair_is_judged(pool: JudgePool, formula: str) -> None:
    assert pool.decided(formula, r"\sin(x)/y") is False
    assert pool.decided("e^{2x}", "e^x e^x")
    assert pool.longest_s < WALL_FACTOR * LIMIT_S + 5


def test_it_is_asked_without_waiting_and_remembers(pool: JudgePool) -> None:
    num_asked, started = pool.num_asked, time.monotonic()
    assert pool.known("e^{3x}", "e^x e^{2x}") is None
    assert time.monotonic() - started < 1.0
    assert pool.decided("e^x e^{2x}", "e^{3x}")
    assert pool.known("e^{3x}", "e^x e^{2x}") is True
    assert pool.num_asked == num_asked + 1


def test_a_closed_pool_tells_apart_and_waits_for_nobody() -> None:
    pool = JudgePool()
    assert pool.known("e^{5x}", "e^x") is None
    pool.close()
    assert pool.decided("e^{5x}", "e^x") is False


def test_what_is_made_of_an_answer_is_latex() -> None:
    assert latex("$sin(x)·π$") == r"\sin(x)\cdot \pi "
    assert latex("sqrt(x+1)") == r"\sqrt{x+1}"


def test_random_texts_of_formulas_never_hold_it_up(pool: JudgePool) -> None:
    rng = random.Random(5)
    texts = ["".join(rng.choices(PIECES, k=rng.randint(2, 12))) for _ in range(60)]
    for one, other in pairwise(texts):
        if is_worth_asking(one, other):
            pool.decided(one, other)
    assert pool.longest_s < WALL_FACTOR * LIMIT_S + 5
