"""What the reasoner is taught to say."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conclave import prompts
from conclave.domain.strategies.least_to_most import Part, split_of
from conclave.tools.calculator import calculate_whole
from schemas.values import Wording
from training.corpus import PROMPT_SET
from training.generator import Split, draw_calculation, generate
from training.parts import NOTHING, PART_MOVES, answers_of, needed_answers, plan_text, split
from training.paths import LABELS, Style, careful_text, gold_lines, path_text
from training.problems import Problem
from training.skills import STAGES, Skill, lesson, stage_at, teach
from training.slips import corrupt, near

problems = st.integers(0, 10_000).map(lambda seed: next(generate(seed, Split.TRAIN)))
randoms = st.integers(0, 10_000).map(random.Random)


def test_the_shares_of_the_skills_are_of_one_whole() -> None:
    assert set(STAGES[-1].shares) == set(Skill)
    for stage in STAGES:
        assert sum(stage.shares.values()) == pytest.approx(1.0)


def test_the_stages_cover_the_whole_training_in_order() -> None:
    assert [stage.until for stage in STAGES] == sorted(stage.until for stage in STAGES)
    assert STAGES[-1].until == 1.0
    assert [stage_at(share) for share in (0.0, 0.2, 0.5, 1.0)] == [STAGES[0], STAGES[1], STAGES[2], STAGES[2]]


def test_the_prompt_set_has_a_form_for_every_skill_but_bare_arithmetic() -> None:
    forms = prompts.load(PROMPT_SET).forms
    going_on = {
        "follow_up": "decompose",
        "next_line": "chain_of_thought",
        "finish": "chain_of_thought",
        "again_line": "retry",
    }
    read_otherwise = {"check": "criticise"}
    same = going_on | read_otherwise
    assert set(forms) == ({skill.value for skill in Skill} - {"calculate", "decline"}) | set(same)
    for form, of in same.items():  # the same words, gone on from what is there already, or read as an answer
        words = forms[form].user.replace("{blamed}", "{path}")
        assert (words, forms[form].begun != "") == (forms[of].user, form in going_on)


@given(problem=problems, rng=randoms)
def test_what_is_taught_to_what_is_no_word_problem_is_read_as_declining(problem: Problem, rng: random.Random) -> None:
    each = teach(Skill.DECLINE, problem, rng)
    form = prompts.load(PROMPT_SET).form(each.skill.value)
    assert form.render(each.fields).messages
    (said,) = each.completion
    assert form.read(said.text).is_declined


@given(problem=problems, rng=randoms)
def test_every_lesson_fills_its_form(problem: Problem, rng: random.Random) -> None:
    each = lesson(problem, rng)
    if each.skill is not Skill.CALCULATE:
        prompts.load(PROMPT_SET).form(each.skill.value).render(each.fields)
    assert any(not piece.is_given for piece in each.completion)


@given(problem=problems, rng=randoms)
@pytest.mark.parametrize("skill", [Skill.DIRECT, Skill.CHAIN_OF_THOUGHT, Skill.TOOL, Skill.RETRY])
def test_what_is_taught_states_the_gold_answer(skill: Skill, problem: Problem, rng: random.Random) -> None:
    each = teach(skill, problem, rng)
    text = "".join(piece.text for piece in each.completion)
    assert prompts.load(PROMPT_SET).form(skill.value).extract(text) == str(problem.answer)


@given(problem=problems)
def test_a_split_is_answered_part_by_part_to_the_gold_answer(problem: Problem) -> None:
    known: dict[int, int] = {}
    for number, part in enumerate(split(problem), 1):
        assert all(need in known for need in part.needs), "a part needs a later one"
        assert len(part.text.split(". ")) <= PART_MOVES + 2, "more than an opening, two moves and a question"
        for need in part.needs:
            assert f"#{need}" in part.text
            assert known[need] in (part.steps[0].left, part.steps[0].right)
        known[number] = part.steps[-1].result
    assert known[len(known)] == problem.answer
    assert answers_of(split(problem)) == {number: str(result) for number, result in known.items()}


def test_a_part_is_told_the_answers_that_it_needs() -> None:
    assert needed_answers((1, 3), {1: "36", 2: "7", 3: "5"}) == "#1 = 36\n#3 = 5"
    assert needed_answers((2,), {}) == "#2 = 0"
    assert needed_answers((), {1: "36"}) == NOTHING


@given(problem=problems)
def test_a_plan_is_read_by_the_strategy_as_it_was_written(problem: Problem) -> None:
    parts = split(problem)
    assert split_of(plan_text(parts), Wording()).parts == {
        number: Part(number, each.text, each.needs) for number, each in enumerate(parts, 1)
    }


@given(problem=problems, rng=randoms)
def test_a_made_slip_differs_from_the_gold_path_first_at_the_step_that_it_names(
    problem: Problem, rng: random.Random
) -> None:
    path, index = corrupt(problem, rng)
    gold = gold_lines(problem)
    assert path[:index] == gold[:index]
    assert (path[index].step, path[index].result) != (gold[index].step, gold[index].result)
    assert all(line.result >= 0 for line in path)


@given(problem=problems, rng=randoms)
def test_what_follows_a_slip_is_done_rightly_on_its_numbers(problem: Problem, rng: random.Random) -> None:
    path, index = corrupt(problem, rng)
    for line in path[index + 1 :]:
        assert str(line.result) == calculate_whole(line.step.expression) or line.step.left < line.step.right
    if len(path) == problem.num_steps:
        for line, (left, right) in list(zip(path, problem.sources, strict=True))[index + 1 :]:
            assert left is None or line.step.left == path[left].result
            assert right is None or line.step.right == path[right].result


@given(rng=randoms)
def test_a_near_result_is_wrong(rng: random.Random) -> None:
    step = draw_calculation(rng)
    assert near(step, rng) != step.result
    assert near(step, rng) >= 0


@given(problem=problems, style=st.sampled_from(Style))
def test_a_path_in_any_style_states_the_answer(problem: Problem, style: Style) -> None:
    text = path_text(gold_lines(problem), style)
    form = prompts.load(PROMPT_SET).form("chain_of_thought")
    assert form.extract(text) == str(problem.answer)
    assert all(f"={step.result}\n" in text for step in problem.calculations)
    assert text.count("#") == len(problem.story_ends)


@given(problem=problems)
def test_a_careful_path_quotes_every_sentence_before_its_sum(problem: Problem) -> None:
    text = careful_text(problem)
    assert prompts.load(PROMPT_SET).form("retry").extract(text) == str(problem.answer)
    lines = [line for line in text.splitlines() if not line.startswith("#")][:-1]
    told = zip(LABELS, problem.calculations, problem.sentences, strict=False)
    for line, (label, step, sentence) in zip(lines, told, strict=True):
        assert line.startswith(f"{label} {sentence} {step.expression}:" if sentence else f"{label} {step.expression}:")
        assert line.endswith(f"={step.result}")


@given(problem=problems, rng=randoms)
def test_the_results_of_the_tool_are_given_and_not_learnt(problem: Problem, rng: random.Random) -> None:
    each = teach(Skill.TOOL, problem, rng)
    given_text = [piece.text for piece in each.completion if piece.is_given]
    assert given_text == [f"={step.result}\n" for step in problem.calculations]


@given(rng=randoms)
def test_the_tool_answers_what_the_lessons_give(rng: random.Random) -> None:
    step = draw_calculation(rng)
    assert calculate_whole(step.expression) == str(step.result)


@pytest.mark.parametrize("text", ["", "I can not.", "one: what?", "1 needs: what?"])
def test_what_is_no_plan_has_no_parts(text: str) -> None:
    assert split_of(text, Wording()).parts == {}


def test_lessons_of_the_same_draw_are_the_same() -> None:
    problem = next(generate(3, Split.TRAIN))
    assert lesson(problem, random.Random(5)) == lesson(problem, random.Random(5))
