import pytest
from msgspec.structs import replace

from conclave.domain import planning
from conclave.domain.strategies import STRATEGIES
from conclave.domain.thought import Conclude, Grow, Strategy
from conclave.errors import Rejected
from conclave.testing import events as made
from schemas.events import ReasoningRequested
from schemas.values import Budget, Step


def test_the_default_policy_is_a_vote_by_adaptive_consistency_up_to_16_chains_of_thought() -> None:
    policy = made.policy()
    ask = policy.asks["whole"]
    assert (policy.strategy, ask.stopping, ask.max_samples, ask.form) == (
        "vote",
        "adaptive_consistency",
        16,
        "chain_of_thought",
    )


def test_a_request_becomes_one_step_with_its_deadline_and_its_limit_on_samples() -> None:
    request = ReasoningRequested(question="2+2?", max_samples=3, deadline_s=1.5)
    plan = planning.plan(request, made.REQUEST_ID, made.policy(), 1_000)
    assert plan.steps == (Step(index=0, ask="whole", fields={"question": "2+2?"}),)
    assert (plan.policy, plan.deadline_ms) == (made.policy(), 2_500)
    assert planning.step_context(plan, plan.steps[0]).ask == replace(made.ask(), max_samples=3)


def test_a_step_carries_its_own_ask_and_not_the_whole_policy() -> None:
    plan = made.opened(made.policy("escalate"))
    context = planning.step_context(plan, plan.steps[0])
    assert (context.ask, context.policy, context.prompt_set) == (
        made.policy("escalate").asks["direct"],
        "escalate",
        "reasoner-v3",
    )


def test_a_step_starts_with_as_many_samples_as_its_rule_needs_at_least() -> None:
    sizes = {
        name: len(planning.first_wave(made.context(made.ask(name))))
        for name in ("default", "direct", "fixed-8", "ahead-3")
    }
    assert sizes == {"default": 4, "direct": 1, "fixed-8": 8, "ahead-3": 3}


def test_the_samples_of_a_wave_follow_those_launched_before() -> None:
    wave = planning.wave(made.context(), 4, 3)
    assert [(sample.sample_index, sample.launched) for sample in wave] == [(4, 7), (5, 7), (6, 7)]


def test_a_policy_whose_budget_its_strategy_cannot_open_within_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STRATEGIES, "vote", Strategy(lambda _: Conclude(None), asks={"whole": ("question",)}))
    with pytest.raises(Rejected, match="open with"):
        planning.plan(ReasoningRequested(question="2+2?"), made.REQUEST_ID, made.policy(), 0)


def test_a_policy_may_open_with_no_more_steps_than_its_budget_has(monkeypatch: pytest.MonkeyPatch) -> None:
    both = Grow(tuple(Step(index=index, fields={"question": "?"}) for index in range(2)))
    monkeypatch.setitem(STRATEGIES, "vote", Strategy(lambda _: both, asks={"whole": ("question",)}))
    request = ReasoningRequested(question="2+2?")
    assert len(planning.plan(request, made.REQUEST_ID, made.policy(), 0).steps) == 2
    with pytest.raises(Rejected):
        planning.plan(request, made.REQUEST_ID, replace(made.policy(), budget=Budget(max_steps=1)), 0)


def test_a_requests_own_limits_on_tokens_hold_besides_those_of_its_policy() -> None:
    request = ReasoningRequested(question="2+2?", max_tokens=900, max_turn_tokens=100)
    plan = planning.plan(request, made.REQUEST_ID, made.policy(), made.NOW_MS)
    context = planning.step_context(plan, plan.steps[0])
    assert context.ask.max_tokens == 100
    assert context.ask.allowance is not None
    assert context.ask.allowance.max_tokens == 900
    generous = planning.plan(
        ReasoningRequested(question="2+2?", max_turn_tokens=100_000), made.REQUEST_ID, made.policy(), made.NOW_MS
    )
    own = generous.policy.asks[generous.steps[0].ask]
    assert planning.step_context(generous, generous.steps[0]).ask.max_tokens == own.max_tokens
