"""What the reasoner is taught to say."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conclave import prompts
from conclave.reasoner.corpus import PROMPT_SET
from conclave.reasoner.evaluation import calculate, parse_plan
from conclave.reasoner.generator import Split, generate
from conclave.reasoner.problems import Problem
from conclave.reasoner.skills import (
    FIRST_SHARES,
    PART_STEPS,
    RIGHT,
    SHARES,
    Skill,
    criticism,
    lesson,
    path_text,
    plan_text,
    split,
)
from conclave.reasoner.slips import corrupt

problems = st.integers(0, 10_000).map(lambda seed: next(generate(seed, Split.TRAIN)))
randoms = st.integers(0, 10_000).map(random.Random)


def test_the_shares_of_the_skills_are_of_one_whole() -> None:
    assert set(SHARES) == set(Skill)
    assert sum(SHARES.values()) == pytest.approx(1.0)
    assert sum(FIRST_SHARES.values()) == pytest.approx(1.0)


def test_the_prompt_set_has_a_form_for_every_skill_but_bare_arithmetic() -> None:
    forms = prompts.load(PROMPT_SET).forms
    assert set(forms) == {skill.value for skill in Skill} - {"calculate"}


@given(problem=problems, rng=randoms)
def test_every_lesson_fills_its_form(problem: Problem, rng: random.Random) -> None:
    each = lesson(problem, rng)
    if each.skill is not Skill.CALCULATE:
        prompts.load(PROMPT_SET).form(each.skill.value).render(each.fields)
    assert any(not piece.is_given for piece in each.completion)


@given(problem=problems, rng=randoms)
@pytest.mark.parametrize("skill", [Skill.DIRECT, Skill.CHAIN_OF_THOUGHT, Skill.TOOL, Skill.RETRY])
def test_what_is_taught_states_the_gold_answer(skill: Skill, problem: Problem, rng: random.Random) -> None:
    while (each := lesson(problem, rng)).skill is not skill or each.fields.get("question") != problem.question:
        pass
    text = "".join(piece.text for piece in each.completion)
    assert prompts.load(PROMPT_SET).form(skill.value).extract_answer(text) == str(problem.answer)


@given(problem=problems)
def test_a_split_is_answered_part_by_part_to_the_gold_answer(problem: Problem) -> None:
    known: dict[int, int] = {}
    for number, part in enumerate(split(problem), 1):
        assert all(need in known for need in part.needs), "a part needs a later one"
        assert len(part.steps) <= PART_STEPS
        for need in part.needs:
            assert f"#{need}" in part.text
            assert known[need] in (part.steps[0].left, part.steps[0].right)
        known[number] = part.steps[-1].result
    assert known[len(known)] == problem.answer


@given(problem=problems)
def test_a_plan_is_read_as_it_was_written(problem: Problem) -> None:
    parts = split(problem)
    read = parse_plan(plan_text(parts))
    assert [(part.needs, part.text) for part in read] == [(part.needs, part.text) for part in parts]
    assert [part.number for part in read] == list(range(1, len(parts) + 1))


@given(problem=problems, rng=randoms)
def test_a_made_slip_differs_from_the_gold_path_first_at_the_step_that_it_names(
    problem: Problem, rng: random.Random
) -> None:
    path, index = corrupt(problem, rng)
    wrong, gold = path.splitlines(), path_text(problem.calculations).splitlines()
    assert wrong[:index] == gold[:index]
    assert wrong[index] != gold[index]
    assert wrong[-1].startswith("Answer: ")


@given(problem=problems, rng=randoms)
def test_the_critic_goes_through_the_path_and_ends_with_its_verdict(problem: Problem, rng: random.Random) -> None:
    form = prompts.load(PROMPT_SET).form("criticise")
    _, index = corrupt(problem, rng)
    found = criticism(problem, index)
    assert found.count(" ok") == index
    assert str(form.extract_answer(found)).startswith(f"Step {index + 1} is wrong: ")
    assert form.extract_answer(criticism(problem, None)) == RIGHT


@given(problem=problems, rng=randoms)
def test_the_results_of_the_tool_are_given_and_not_learnt(problem: Problem, rng: random.Random) -> None:
    while (each := lesson(problem, rng)).skill is not Skill.TOOL:
        pass
    given_text = [piece.text for piece in each.completion if piece.is_given]
    assert given_text == [f"={step.result}\n" for step in problem.calculations]


@pytest.mark.parametrize("op", ["/", "%"])
def test_the_tool_survives_a_division_by_nothing(op: str) -> None:
    assert calculate(5, op, 0) == 0


@pytest.mark.parametrize("text", ["", "I can not.", "one: what?", "1 needs: what?"])
def test_what_is_no_plan_has_no_parts(text: str) -> None:
    assert parse_plan(text) == []


def test_lessons_of_the_same_draw_are_the_same() -> None:
    problem = next(generate(3, Split.TRAIN))
    assert lesson(problem, random.Random(5)) == lesson(problem, random.Random(5))
