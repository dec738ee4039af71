"""What a good critic says of a path."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conclave import prompts
from training.corpus import PROMPT_SET
from training.criticism import RIGHT, compared, criticism
from training.generator import Split, generate
from training.paths import LABELS, gold_lines
from training.problems import Problem
from training.skills import Skill, teach
from training.slips import corrupt

problems = st.integers(0, 10_000).map(lambda seed: next(generate(seed, Split.TRAIN)))
randoms = st.integers(0, 10_000).map(random.Random)


@given(problem=problems, rng=randoms)
def test_the_critic_stops_at_the_first_wrong_line_and_names_it(problem: Problem, rng: random.Random) -> None:
    path, index = corrupt(problem, rng)
    found = criticism(problem, path, index)
    assert (found.count(" ok\n"), found.count(" no\n")) == (index, 1)
    verdict = prompts.load(PROMPT_SET).form("criticise").extract(found)
    assert (
        verdict
        == f"Step {index + 1} is wrong: {problem.calculations[index].expression}={gold_lines(problem)[index].result}"
    )


def test_a_slip_that_comes_to_the_right_result_after_all_is_none() -> None:
    problem = next(generate(1998, Split.TRAIN))
    path, index = corrupt(problem, random.Random(1))
    assert path[index].result != gold_lines(problem)[index].result


@given(problem=problems)
def test_a_path_without_a_mistake_is_found_right_to_its_end(problem: Problem) -> None:
    found = criticism(problem, gold_lines(problem), None)
    assert (found.count(" ok\n"), found.count(" no\n")) == (problem.num_steps, 0)
    assert prompts.load(PROMPT_SET).form("criticise").extract(found) == RIGHT


@given(problem=problems, rng=randoms)
def test_the_critic_quotes_the_claim_and_the_sentence_before_it_does_the_sum(
    problem: Problem, rng: random.Random
) -> None:
    path, index = corrupt(problem, rng)
    lines = [line for line in criticism(problem, path, index).splitlines() if not line.startswith("#")][:-1]
    told = zip(LABELS, path, problem.calculations, problem.sentences, strict=False)
    for line, (label, claim, step, sentence) in zip(lines, told, strict=False):
        quoted = f"{sentence} " if sentence else ""
        assert line.startswith(f"{label} {claim.step.expression}={claim.result}? {quoted}{step.expression}:")
    assert len(lines) == index + 1


@pytest.mark.parametrize(
    ("own", "claimed", "pairs"),
    [(2082, 2092, "22,00,89"), (7, 7, "77"), (12, 120, "11,22,_0"), (120, 12, "11,22,0_"), (0, 5, "05")],
)
def test_numbers_are_compared_up_to_the_first_digit_that_differs(own: int, claimed: int, pairs: str) -> None:
    assert compared(own, claimed) == pairs


@given(own=st.integers(0, 9_999), claimed=st.integers(0, 9_999))
def test_only_equal_numbers_compare_without_a_difference(own: int, claimed: int) -> None:
    assert all(pair[0] == pair[1] for pair in compared(own, claimed).split(",")) == (own == claimed)


@given(problem=problems, rng=randoms)
def test_checked_claims_are_right_or_wrong_as_is_said_of_them(problem: Problem, rng: random.Random) -> None:
    while not (each := teach(Skill.CALCULATE, problem, rng)).fields.get("claims"):
        pass
    said = "".join(piece.text for piece in each.completion).splitlines()
    for claim, line in zip(each.fields["claims"].splitlines(), said, strict=True):
        quoted, _, again = line.partition("? ")
        assert quoted == claim
        assert again.split(":")[0] == claim.split("=")[0].split(" ")[1]
        pairs, _, found = again.rpartition("=")[2].partition(" ")
        assert (found == "ok") == all(pair[0] == pair[1] for pair in pairs.split(","))
