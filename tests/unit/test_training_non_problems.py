"""Texts that are no word problems, and problems told in other words."""

import itertools
import random
import re
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training import non_problems
from training.families import NAMES, THINGS
from training.generator import Split, generate
from training.non_problems import non_problem, retelling, written
from training.problems import Problem

FOLDER = Path(__file__).resolve().parents[2] / "data" / "problems"

problems = st.integers(0, 10_000).map(lambda seed: next(generate(seed, Split.TRAIN)))
seeds = st.integers(0, 10_000)


@given(problem=problems, seed=seeds)
def test_a_text_repeats_with_its_seed_and_is_never_blank(problem: Problem, seed: int) -> None:
    text = non_problem(problem, random.Random(seed))
    assert text == non_problem(problem, random.Random(seed))
    assert text.strip()
    assert text != problem.question


@given(problem=problems, seed=seeds)
def test_a_problem_in_other_names_and_things_has_the_same_numbers_in_the_same_places(
    problem: Problem, seed: int
) -> None:
    told = retelling(problem, random.Random(seed))
    assert re.findall(r"\d+", told) == re.findall(r"\d+", problem.question)
    assert len(told.split()) == len(problem.question.split())
    assert not set(re.findall(r"\w+", told)) & {*NAMES, *THINGS} - {"books", "coins", "pens", "keys"}


def test_no_made_up_word_of_a_retelling_is_a_name_or_thing_that_others_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """One in a thousand made-up words is: Ben, Ron, nut, pens."""
    made = itertools.cycle(("ben", "nut", "pens", "ron", "zork"))
    monkeypatch.setattr(non_problems, "_pseudo_word", lambda rng: next(made))
    problem = next(generate(3, Split.TRAIN))
    told = {
        word.casefold() for seed in range(40) for word in re.findall(r"\w+", retelling(problem, random.Random(seed)))
    }
    assert "zork" in told
    assert not told & {"ben", "nut", "ron"}


def test_what_was_written_by_hand_is_taught_by_no_lesson() -> None:
    kept = {*written(FOLDER / "non_problems.jsonl"), *written(FOLDER / "non_problems_development.jsonl")}
    assert len(written(FOLDER / "non_problems.jsonl")) == 100
    rng = random.Random(1)
    taught = {non_problem(problem, rng) for problem in islice(generate(1, Split.TRAIN), 3000)}
    assert {text for text in taught & kept if len(text) > 8} == set()
    assert len(taught) > 2900, "hardly one twice"
