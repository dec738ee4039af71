"""The problems that the reasoner learns on and is measured with."""

import json
import re
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.families import NAMES
from training.generator import Split, development, draw_calculation, generate, held_out, split_of
from training.problems import MAX_STEPS, MAX_VALUE, Calculation, Problem

DATA = Path(__file__).resolve().parents[2] / "data" / "problems"
seeds = st.integers(0, 10_000)


def without_names(problem: Problem) -> str:
    return re.sub("|".join(NAMES), "_", problem.question)


@given(seed=seeds, side=st.sampled_from(Split))
def test_every_step_stays_within_the_numbers_that_the_model_knows(seed: int, side: Split) -> None:
    problem = next(generate(seed, side))
    for step in problem.calculations:
        assert 0 <= step.result <= MAX_VALUE
        assert step.right > 0 or step.op != "/"
    assert problem.answer == problem.calculations[-1].result
    assert 1 <= problem.num_steps <= MAX_STEPS


@given(seed=seeds)
def test_every_number_of_a_step_is_in_the_question_or_comes_from_an_earlier_step(seed: int) -> None:
    problem = next(generate(seed, Split.TRAIN))
    asked = [int(digits) for digits in re.findall(r"\d+", problem.question)]
    steps = problem.calculations
    for index, (step, (left, right)) in enumerate(zip(steps, problem.sources, strict=True)):
        assert all(source is None or source < index for source in (left, right)), "a step needs a later one"
        assert step.left in asked if left is None else step.left == steps[left].result
        assert step.right in asked if right is None else step.right == steps[right].result


@given(seed=seeds)
def test_the_sentence_of_a_step_holds_its_number(seed: int) -> None:
    problem = next(generate(seed, Split.TRAIN))
    for step, sentence, (_, right) in zip(problem.calculations, problem.sentences, problem.sources, strict=True):
        assert sentence in problem.question
        assert right is not None or not sentence or str(step.right) in sentence


@given(seed=seeds)
def test_the_first_of_two_compared_stories_has_more(seed: int) -> None:
    problem = next(generate(seed, Split.TRAIN, min_steps=3))
    if problem.joint == "-":
        first, second = (problem.calculations[end].result for end in problem.story_ends)
        assert first >= second
        assert problem.answer == first - second


@given(seed=seeds)
def test_what_is_left_over_takes_three_steps(seed: int) -> None:
    problems = generate(seed, Split.TRAIN, min_steps=3)
    problem = next(each for each in problems if each.family == "remainders")
    *_, shares, given_out, left_over = problem.calculations
    assert left_over.result == shares.left % shares.right
    assert (given_out.left, given_out.right, left_over.right) == (shares.result, shares.right, given_out.result)


@given(seed=seeds, side=st.sampled_from(Split))
def test_the_same_seed_tells_the_same_problems(seed: int, side: Split) -> None:
    assert list(islice(generate(seed, side), 3)) == list(islice(generate(seed, side), 3))


@given(seed=seeds, steps=st.integers(1, MAX_STEPS))
def test_as_many_steps_come_as_are_asked_for(seed: int, steps: int) -> None:
    assert next(generate(seed, Split.TRAIN, min_steps=steps, max_steps=steps)).num_steps == steps


def test_training_and_test_share_no_template_instance() -> None:
    trained = {without_names(problem) for problem in islice(generate(1, Split.TRAIN), 5_000)}
    trained |= {without_names(problem) for problem in development(500)}
    assert trained.isdisjoint(without_names(problem) for problem in held_out(600))


@given(seed=seeds, names=st.permutations(NAMES))
def test_other_names_leave_a_problem_on_its_side(seed: int, names: list[str]) -> None:
    problem = next(generate(seed, Split.TEST))
    others = dict(zip(NAMES, names, strict=True))
    text = re.sub("|".join(NAMES), lambda found: others[found[0]], problem.question)
    renamed = Problem("renamed", (), None, text)
    assert split_of(renamed) is Split.TEST


@pytest.mark.parametrize(("name", "begin", "end"), [("test", 0, 500), ("demo", 500, 600)])
def test_the_files_hold_what_the_generator_tells(name: str, begin: int, end: int) -> None:
    rows = [json.loads(line) for line in (DATA / f"{name}.jsonl").read_text().splitlines()]
    problems = held_out(600)[begin:end]
    assert [row["question"] for row in rows] == [problem.question for problem in problems]
    assert [row["answer"] for row in rows] == [str(problem.answer) for problem in problems]
    assert [row["difficulty"] for row in rows] == [problem.num_steps for problem in problems]
    assert len({row["id"] for row in rows}) == end - begin


def test_the_held_out_problems_have_every_family_and_every_length() -> None:
    problems = held_out(500)
    assert {problem.num_steps for problem in problems} == set(range(1, MAX_STEPS + 1))
    assert {problem.family for problem in problems} == {
        *("quantities", "money", "comparisons", "ages", "units", "rates", "two_branches", "remainders")
    }


@given(rng=st.randoms(use_true_random=False))
def test_bare_arithmetic_stays_within_the_same_bounds(rng: object) -> None:
    step = draw_calculation(rng)  # type: ignore[arg-type]
    assert 0 <= step.result <= MAX_VALUE
    assert step.op != "/" or step.right > 0


@pytest.mark.parametrize(("op", "result"), [("+", 17), ("-", 7), ("*", 60), ("/", 2)])
def test_a_calculation_comes_to_its_result(op: str, result: int) -> None:
    assert Calculation(12, op, 5).result == result
