from msgspec.structs import replace

from conclave import prompts
from conclave.domain import planning
from conclave.domain.policies import POLICIES
from conclave.testing import events as made
from schemas.events import ReasoningRequested
from schemas.values import MAX_QUESTION_CHARS, Route, StoppingRule


def test_policies_are_named_as_their_rows_say() -> None:
    assert {name: policy.name for name, policy in POLICIES.items()} == {name: name for name in POLICIES}
    assert {"default", "direct", "fixed-8", "instruct"} <= set(POLICIES)


def test_the_default_policy_is_adaptive_consistency_up_to_16_chains_of_thought() -> None:
    policy = POLICIES["default"]
    assert (policy.stopping, policy.max_samples, policy.form) == (
        StoppingRule.ADAPTIVE_CONSISTENCY,
        16,
        "chain_of_thought",
    )


def test_a_request_becomes_one_step_with_its_deadline_and_its_limit_on_samples() -> None:
    request = ReasoningRequested(question="2+2?", max_samples=3, deadline_s=1.5)
    plan = planning.plan(request, made.REQUEST_ID, POLICIES["default"], 1_000)
    assert [(step.index, step.question, step.depends_on) for step in plan.steps] == [(0, "2+2?", ())]
    assert (plan.policy.max_samples, plan.deadline_ms, plan.route) == (3, 2_500, Route.EXPLICIT)


def test_the_direct_policy_takes_the_direct_route() -> None:
    plan = planning.plan(ReasoningRequested(question="2+2?"), made.REQUEST_ID, POLICIES["direct"], 0)
    assert plan.route is Route.DIRECT


def test_a_step_starts_with_as_many_samples_as_its_rule_needs_at_least() -> None:
    sizes = {
        name: len(planning.first_wave(made.context(POLICIES[name])))
        for name in ("default", "direct", "fixed-8", "ahead-3")
    }
    assert sizes == {"default": 4, "direct": 1, "fixed-8": 8, "ahead-3": 3}


def test_the_samples_of_a_wave_follow_those_launched_before() -> None:
    wave = planning.wave(made.context(), 4, 3)
    assert [(sample.sample_index, sample.launched) for sample in wave] == [(4, 7), (5, 7), (6, 7)]


def test_steps_are_released_once_all_they_depend_on_is_decided() -> None:
    plan = made.plan((), (), (0, 1), (2,))
    assert planning.first_steps(plan) == (0, 1)
    assert planning.released_steps(plan, {0}, (0, 1)) == ()
    assert planning.released_steps(plan, {0, 1}, (0, 1)) == (2,)
    assert planning.released_steps(plan, {0, 1}, (0, 1, 2)) == ()


def test_a_step_is_told_the_answers_of_the_steps_it_depends_on() -> None:
    context = planning.step_context(made.plan((), (), (1, 0)), 2, {0: "3", 1: "4"})
    assert context.fields == {
        "question": "part 2?",
        "earlier": "#1 = 3\n#2 = 4",
        "earlier_in_full": "#1: part 0? = 3\n#2: part 1? = 4",
    }
    assert context.policy == replace(POLICIES["default"], form="sub_question")


def test_a_step_of_several_that_depends_on_none_is_told_nothing_and_asked_alike() -> None:
    context = planning.step_context(made.plan((), (0,)), 0, {})
    assert context.fields == {"question": "part 0?", "earlier": "nothing", "earlier_in_full": "nothing"}
    assert context.policy.form == "sub_question"


def test_the_only_step_of_a_plan_is_asked_in_the_form_of_its_policy() -> None:
    context = planning.step_context(made.plan(()), 0, {})
    assert context.fields == {"question": made.plan(()).steps[0].question}
    assert context.policy == POLICIES["default"]


def test_the_prompt_set_of_every_policy_has_the_forms_that_it_asks_for_and_fields_to_fill_them() -> None:
    for policy in POLICIES.values():
        plan = made.plan((), (0,), policy=policy)
        for index in (0, 1):
            context = planning.step_context(plan, index, {0: "3"})
            form = prompts.load(context.policy.prompt_set).form(context.policy.form)
            assert form.render(context.fields).messages


def test_earlier_answers_never_outgrow_the_field_that_carries_them() -> None:
    plan = made.plan((), (), (0, 1))
    context = planning.step_context(plan, 2, {0: "3" * 4096, 1: "4" * 4096})
    assert len(context.fields["earlier"]) <= MAX_QUESTION_CHARS
