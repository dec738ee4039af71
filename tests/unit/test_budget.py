"""Budgets stop for real: whatever a model says, no more is generated than they allow, and what is there by then is answered."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from conclave.domain import budget, complexity, counting, planning
from conclave.policies import shipped
from conclave.testing import events as made
from schemas.events import AnswerReached, PathDecoded, ReasoningRequested, RequestFailed
from schemas.values import Allowance, Ask, Ballot, Budget, Effort, EndReason, Price, StopReason
from tests.unit.test_policies_end_to_end import Model, Pipeline

PRICE = Price(tokens_in=1.0, tokens_out=10.0)
POLICIES = Path("conclave/policies")

allowances = st.builds(
    Allowance,
    max_tokens=st.none() | st.integers(0, 3_000),
    max_dollars=st.none() | st.floats(0, 0.02),
    price=st.just(PRICE) | st.just(Price()),
)


@given(
    of_plan=allowances,
    ask=st.builds(
        Ask,
        form=st.just("any"),
        stopping=st.sampled_from(["fixed", "adaptive_consistency"]),
        max_samples=st.integers(1, 40),
        max_turns=st.integers(1, 4),
        max_tokens=st.integers(1, 400),
        allowance=st.none() | allowances,
    ),
    num_steps=st.integers(1, 4),
    prompt=st.integers(0, 200),
)
def test_the_waves_of_steps_cost_no_more_than_what_was_left_for_them(
    of_plan: Allowance, ask: Ask, num_steps: int, prompt: int
) -> None:
    limited = budget.limited(ask, of_plan, num_steps)
    ballots: list[Ballot] = []
    while num_more := counting.launch(ballots, len(ballots), limited):
        for _ in range(num_more):  # each path writes all that it may, and no two agree
            tokens = limited.max_tokens * limited.max_turns
            ballots.append(
                Ballot(sample_index=len(ballots), answer=str(len(ballots)), tokens_in=prompt, tokens_out=tokens)
            )
    spent = sum(ballot.tokens_out for ballot in ballots)
    assert ballots, "one path is always paid for"
    for allowance, share in ((of_plan, num_steps), (ask.allowance or Allowance(), 1)):
        if allowance.max_tokens is not None:
            # A turn has a token at least.
            assert spent <= max(allowance.max_tokens // share, limited.max_turns)
        if allowance.max_dollars is not None and of_plan.price == PRICE:
            for_tokens = budget.cost(PRICE, 0, spent)
            first_wave = counting.launch((), 0, limited)
            unforeseen = budget.cost(PRICE, prompt * first_wave, limited.max_turns)
            assert for_tokens <= 1.002 * allowance.max_dollars / share + unforeseen


def test_a_vote_that_can_pay_for_no_further_path_ends_for_want_of_budget() -> None:
    ask = Ask(form="any", max_tokens=100, allowance=Allowance(max_tokens=450))
    torn = [Ballot(sample_index=n, answer=str(n), tokens_out=100) for n in range(4)]
    assert counting.launch(torn, 4, ask) == 0
    assert counting.is_out_of_budget(torn, ask)
    assert counting.launch([replace(each, tokens_out=60) for each in torn], 4, ask) == 2
    assert counting.launch([replace(each, tokens_out=60) for each in torn], 5, replace(ask, schedule="at_once")) <= 1
    agreed = [replace(each, answer="7") for each in torn]
    assert not counting.is_out_of_budget(agreed, ask)


def test_prompts_are_charged_once_they_are_known() -> None:
    ask = Ask(form="any", stopping="fixed", max_samples=9, max_tokens=100)
    ask = replace(ask, allowance=Allowance(max_dollars=0.004, price=PRICE))
    assert budget.num_affordable([], ask) == 4  # 0.001 dollars each
    first = [Ballot(sample_index=0, answer="1", tokens_in=1_000, tokens_out=100)]
    assert budget.num_affordable(first, ask) == 1  # 0.002 each, of which one is spent


def policies_with(folder: Path, name: str, line: str) -> str:
    """A policy that ships, with one more line; its name."""
    text = re.sub(r"^budget = .*\n", "", (POLICIES / f"{name}.toml").read_text(), flags=re.M)
    (folder / f"own-{name}.toml").write_text(text.replace("prompt_set", f"{line}\nprompt_set", 1))
    return f"own-{name}"


@pytest.mark.parametrize("max_tokens", [20, 150, 600])
@pytest.mark.parametrize("policy", [name for name in shipped().names if "@" not in name])
async def test_no_policy_generates_more_than_its_budget_and_each_answers_with_the_best_so_far(
    tmp_path: Path, policy: str, max_tokens: int
) -> None:
    line = f"budget = {{ max_steps = 40, max_tokens = {max_tokens} }}"
    pipeline = Pipeline(Model("1", "2", "3", "4", "5", "6", "7"), folder=tmp_path)
    name = policies_with(tmp_path, policy, line)
    pipeline.begin()
    end = await pipeline.answer(ReasoningRequested(question="How many?", request_id=made.REQUEST_ID, policy=name))
    paths = [event for event in pipeline.events if isinstance(event, PathDecoded)]
    # A turn that may be one token long is, whatever is left.
    assert sum(path.tokens_out or 0 for path in paths) <= max_tokens
    if isinstance(end, AnswerReached):
        assert end.answer
    else:
        assert isinstance(end, RequestFailed)
        assert end.ended_by == EndReason.BUDGET
        assert "budget" in end.message
    if len(paths) > 1 and max_tokens == 150:
        assert end.ended_by in (EndReason.BUDGET, EndReason.DECIDED)


async def test_an_answer_that_the_budget_cut_short_says_so(tmp_path: Path) -> None:
    pipeline = Pipeline(Model("1", "2", "3", "4"), folder=tmp_path)
    name = policies_with(tmp_path, "default", "budget = { max_tokens = 300 }")
    pipeline.begin()
    end = await pipeline.answer(ReasoningRequested(question="How many?", request_id=made.REQUEST_ID, policy=name))
    assert isinstance(end, AnswerReached)
    assert (end.ended_by, end.answer) == ("budget", "1")
    assert pipeline.verdicts[0].stop_reason == StopReason.BUDGET


def test_the_seconds_of_a_budget_end_a_request_before_its_deadline() -> None:
    policy = replace(made.policy(), budget=Budget(max_seconds=10.0))
    request = ReasoningRequested(question="2+2?", request_id=made.REQUEST_ID, deadline_s=600.0)
    plan = planning.plan(request, made.REQUEST_ID, policy, made.NOW_MS)
    assert (plan.ends_ms, plan.deadline_ms) == (made.NOW_MS + 10_000, made.NOW_MS + 600_000)
    assert planning.step_context(plan, plan.steps[0]).deadline_ms == plan.ends_ms
    sooner = planning.plan(replace(request, deadline_s=5.0), made.REQUEST_ID, policy, made.NOW_MS)
    assert (sooner.spent_ms, sooner.ends_ms) == (None, made.NOW_MS + 5_000)


def test_more_is_thought_of_what_looks_harder_within_bounds() -> None:
    easy, hard = (
        "What is 2 + 2?",
        "Tom has 3 apples. He buys 4 more, and then gives half to Ann. How many are left over?",
    )
    effort = Effort(least=2, most=6, params=("rounds",), samples_of=("whole",))
    assert complexity.figure(effort, complexity.clauses(easy)) == 2
    assert complexity.figure(effort, complexity.clauses(hard)) == 6
    policy = replace(made.policy("contemplation"), effort=effort)
    fitted, reasons = complexity.fitted(policy, hard)
    assert (fitted.params["rounds"], fitted.asks["whole"].max_samples, fitted.digest) == (6.0, 6, policy.digest)
    assert reasons == {"effort": "6, for 7 points by clauses"}
    assert complexity.fitted(made.policy(), hard) == (made.policy(), {})


@pytest.mark.parametrize("estimator", complexity.ESTIMATORS)
@given(text=st.text(max_size=300))
def test_an_estimate_is_never_negative_whatever_the_question(estimator: str, text: str) -> None:
    assert complexity.ESTIMATORS[estimator](text) >= 0


def test_brackets_and_operators_count() -> None:
    assert complexity.clauses("((2 + 3) * 4)") == 4
    assert complexity.numbers("7 and 1,000 and 2.5") == 2
    assert complexity.clauses("Why?") == 0
