import pytest
from msgspec.structs import replace

from conclave.domain.joining import Decision, Wait
from conclave.domain.stopping import STOPPING_RULES
from conclave.domain.strategies import STRATEGIES
from conclave.domain.thinking import verdict_of
from conclave.errors import Rejected
from conclave.runtime.dead_letters import Cause, Reason, cause_of
from conclave.testing import events as made
from schemas import codec, flow
from schemas.events import (
    AnswerReached,
    Event,
    RequestCancelled,
    RequestFailed,
    SampleRequested,
    StepClosed,
    ThoughtCarried,
)
from schemas.values import Ballot, Budget, Outcome, PathFailure, RequestFailure, Step, StopReason, TallyRow
from services.aggregator.joiner import Aggregator
from services.aggregator.settings import AggregatorSettings
from services.voter.settings import VoterSettings

AGGREGATOR = Aggregator(AggregatorSettings(aggregator_grace_s=5.0, aggregator_orphan_s=7200.0))
GRACE_MS, ORPHAN_MS = 5_000, 7_200_000
PLAN = made.plan()
TWO = made.plan(2)
SPLIT = made.opened(made.policy("least-to-most"))
PARTS = made.verdict(0, "1: How many has Tom?\n2: How many has Ann?\n3 needs 1 2: Add #1 and #2.", num_votes=1)


def decide(events: list[Event], now_ms: int = made.NOW_MS) -> Decision:
    outcome = AGGREGATOR.join(events, now_ms)
    assert isinstance(outcome, Decision)
    return outcome


def carry_of(decision: Decision) -> ThoughtCarried:
    assert isinstance(decision.carry, ThoughtCarried)
    return decision.carry


def failure_of(decision: Decision) -> RequestFailed:
    assert isinstance(decision.outputs[0], RequestFailed)
    return decision.outputs[0]


def answer_of(decision: Decision) -> AnswerReached:
    assert isinstance(decision.outputs[0], AnswerReached)
    return decision.outputs[0]


def launched(decision: Decision) -> dict[int, int]:
    """How many samples of each step a decision launches."""
    steps = [output.context.step_index for output in decision.outputs if isinstance(output, SampleRequested)]
    return {index: steps.count(index) for index in steps}


def test_the_verdict_on_the_only_step_is_the_answer_and_the_group_ends() -> None:
    both: list[Event] = [PLAN, made.verdict(answer="4")]
    for events in (both, both[::-1]):
        decision = decide(events)
        (answer,) = decision.outputs
        assert isinstance(answer, AnswerReached)
        assert (answer.answer, answer.confidence, answer.margin, decision.carry) == ("4", 0.96875, 1.0, None)
        assert (answer.num_paths, answer.tokens_in, answer.tokens_out, answer.elapsed_ms) == (4, 40, 20, 50.0)
        assert (answer.strategy, answer.policy, answer.answered_by) == ("vote", "default", 0)
        assert [(step.step_index, step.answer, step.num_samples) for step in answer.steps] == [(0, "4", 4)]


def test_a_tie_is_answered_and_marked() -> None:
    assert answer_of(decide([PLAN, made.verdict(outcome=Outcome.TIE, margin=0.0)])).outcome is Outcome.TIE


def test_a_plan_waits_for_its_verdicts_until_its_deadline_and_grace() -> None:
    assert AGGREGATOR.join([PLAN], made.NOW_MS) == Wait(made.DEADLINE_MS + GRACE_MS)


def test_the_aggregator_waits_longer_than_the_voter() -> None:
    assert AggregatorSettings().aggregator_grace_s > VoterSettings().voter_grace_s


def test_a_strategy_is_asked_only_once_no_step_is_open() -> None:
    assert isinstance(AGGREGATOR.join([TWO, made.verdict(0, "3")], made.NOW_MS), Wait)
    assert answer_of(decide([TWO, made.verdict(1, "4"), made.verdict(0, None)])).answered_by == 1


def test_a_split_launches_the_parts_that_need_nothing_and_then_those_whose_needs_are_known() -> None:
    first = decide([SPLIT, PARTS])
    assert launched(first) == {1: 4, 2: 4}
    assert [(step.mark, step.depends_on) for step in carry_of(first).grown] == [("#1", (0,)), ("#2", (0,))]
    events: list[Event] = [made.verdict(2, "4"), carry_of(first), made.verdict(1, "3")]
    second = decide(events)
    assert launched(second) == {3: 4}
    sample = second.outputs[0]
    assert isinstance(sample, SampleRequested)
    assert sample.context.step == Step(
        index=3,
        ask="sub_question",
        mark="#3",
        depends_on=(1, 2),
        fields={
            "question": "Add #1 and #2.",
            "earlier": "#1 = 3\n#2 = 4",
            "earlier_in_full": "#1: How many has Tom? = 3\n#2: How many has Ann? = 4",
        },
    )
    assert sample.context.ask == made.policy("least-to-most").asks["sub_question"]
    answer = answer_of(decide([carry_of(second), made.verdict(3, "7")]))
    assert (answer.answer, answer.answered_by, answer.num_paths) == ("7", 3, 13)
    assert answer.confidence == pytest.approx(0.96875**3)
    assert [step.mark for step in answer.steps] == ["split", "#1", "#2", "#3"]


def test_the_only_step_without_an_answer_fails_the_request_and_the_group_ends() -> None:
    decision = decide([PLAN, made.verdict(answer=None)])
    assert (failure_of(decision).failure, len(decision.outputs), decision.carry) == (RequestFailure.NO_ANSWER, 1, None)
    assert failure_of(decision).num_paths == 4


@pytest.mark.parametrize(
    "late",
    [
        made.verdict(answer=None, stop_reason=StopReason.DEADLINE),
        made.verdict(answer=None, ballots=(Ballot(sample_index=0, failure=PathFailure.DEADLINE),)),
    ],
)
def test_a_step_that_ran_out_of_time_fails_the_request_for_its_deadline(late: Event) -> None:
    assert failure_of(decide([PLAN, late])).failure is RequestFailure.DEADLINE


def test_at_deadline_and_grace_a_request_is_answered_by_what_is_there_and_its_open_steps_are_closed() -> None:
    decision = decide([TWO, made.verdict(0, "3")], made.DEADLINE_MS + GRACE_MS)
    assert answer_of(decision).answer == "3"
    assert decision.outputs[1:] == (StepClosed(request_id=made.REQUEST_ID, step_index=1),)
    late = made.verdict(1, "4")
    assert isinstance(AGGREGATOR.join([carry_of(decision)], made.NOW_MS), Wait)
    assert decide([carry_of(decision), late], made.DEADLINE_MS + GRACE_MS) == Decision()


def test_at_deadline_and_grace_a_request_without_any_answer_fails() -> None:
    decision = decide([TWO, made.verdict(0, None)], made.DEADLINE_MS + GRACE_MS)
    assert failure_of(decision).failure is RequestFailure.DEADLINE
    assert failure_of(decision).message == "1 of 2 steps were decided in time"
    assert decision.outputs[1:] == (StepClosed(request_id=made.REQUEST_ID, step_index=1),)


def test_nothing_is_launched_past_the_deadline() -> None:
    decision = decide([SPLIT, PARTS], made.DEADLINE_MS)
    assert (launched(decision), failure_of(decision).failure) == ({}, RequestFailure.DEADLINE)


def test_a_strategy_that_would_spend_more_steps_than_its_budget_must_end() -> None:
    policy = made.policy("escalate")
    plan = made.opened(replace(policy, budget=Budget(max_steps=1)))
    unsure = made.verdict(0, "4", num_votes=1, confidence=0.3)
    assert launched(decide([made.opened(policy), unsure])) == {1: 4}
    assert (answer_of(decide([plan, unsure])).answer, answer_of(decide([plan, unsure])).confidence) == ("4", 0.3)


def test_a_strategy_that_has_spent_its_tokens_must_end() -> None:
    policy = made.policy("escalate")
    unsure = made.verdict(0, "4", num_votes=1, confidence=0.3)  # it cost 5 tokens
    for max_tokens, is_over in ((5, True), (20, True), (21, False)):  # 16 are the least that a path is worth
        plan = made.opened(replace(policy, budget=Budget(max_tokens=max_tokens)))
        assert bool(launched(decide([plan, unsure]))) is not is_over


def test_a_request_s_own_limit_on_samples_holds_for_votes_and_leaves_single_questions_alone() -> None:
    plan = replace(made.opened(made.policy("escalate")), max_samples=2)
    decision = decide([plan, made.verdict(0, None)])
    assert launched(decision) == {1: 2}


@pytest.mark.parametrize("table", ["strategy", "stopping"])
def test_a_name_that_is_not_known_here_is_waited_for_until_the_deadline_and_grace(table: str) -> None:
    policy = made.policy("escalate")
    if table == "strategy":
        newer = replace(policy, strategy="of-tomorrow")
    else:
        newer = replace(policy, asks={**policy.asks, "whole": replace(policy.asks["whole"], stopping="of-tomorrow")})
    assert "of-tomorrow" not in (*STRATEGIES, *STOPPING_RULES)
    events: list[Event] = [replace(made.opened(policy), policy=newer), made.verdict(0, None)]
    assert AGGREGATOR.join(events, made.NOW_MS) == Wait(made.DEADLINE_MS + GRACE_MS)
    assert failure_of(decide(events, made.DEADLINE_MS + GRACE_MS)).failure is RequestFailure.DEADLINE


def test_a_closed_request_whose_verdicts_never_come_is_forgotten_in_the_end() -> None:
    carry = carry_of(decide([PLAN], made.DEADLINE_MS + GRACE_MS))
    assert AGGREGATOR.join([carry], made.DEADLINE_MS + GRACE_MS) == Wait(made.DEADLINE_MS + GRACE_MS + ORPHAN_MS)
    assert decide([carry], made.DEADLINE_MS + GRACE_MS + ORPHAN_MS) == Decision()


def test_verdicts_without_a_plan_wait_and_are_given_up_by_request() -> None:
    assert AGGREGATOR.join([made.verdict()], made.NOW_MS) == Wait(made.NOW_MS + ORPHAN_MS)
    with pytest.raises(Rejected) as caught:
        AGGREGATOR.join([made.verdict()], made.NOW_MS + ORPHAN_MS)
    assert caught.value.field == "$.request_id"
    assert AGGREGATOR.give_up([made.verdict()], cause_of(caught.value), made.NOW_MS) == Decision()


def test_a_verdict_from_the_far_future_is_rejected_rather_than_kept_for_ever() -> None:
    with pytest.raises(Rejected, match=r"\$\.decided_ms"):
        AGGREGATOR.join([made.verdict(decided_ms=2**48 - 1)], made.NOW_MS)


@pytest.mark.parametrize("step_index", [2, 63])
def test_a_verdict_on_a_step_that_was_never_asked_is_rejected(step_index: int) -> None:
    with pytest.raises(Rejected) as caught:
        AGGREGATOR.join([TWO, made.verdict(step_index)], made.NOW_MS)
    assert caught.value.field == "$.step_index"
    ended = AGGREGATOR.give_up([TWO, made.verdict(step_index)], cause_of(caught.value), made.NOW_MS)
    assert [type(output) for output in ended.outputs] == [RequestFailed, StepClosed, StepClosed]
    assert failure_of(ended).failure is RequestFailure.INVALID
    assert isinstance(AGGREGATOR.join([carry_of(ended), made.verdict(0)], made.NOW_MS), Wait)
    assert decide([made.verdict(1), made.verdict(0), carry_of(ended)]) == Decision()


def test_a_request_is_given_up_once_whatever_comes_afterwards() -> None:
    ended = AGGREGATOR.give_up([TWO, made.verdict(0)], Cause(Reason.OUTPUT_TOO_LARGE, "big"), made.NOW_MS)
    assert failure_of(ended).failure is RequestFailure.NO_ANSWER
    assert ended.outputs[1:] == (StepClosed(request_id=made.REQUEST_ID, step_index=1),)
    again = AGGREGATOR.give_up([made.plan(3), carry_of(ended)], Cause(Reason.REJECTED, "plans differ"), made.NOW_MS)
    assert (again.outputs, again.carry) == ((), ended.carry)


def test_what_a_request_leaves_behind_when_given_up_is_small_however_large_its_votes_were() -> None:
    big = made.verdict(0, "x" * 4096, num_votes=256)
    ended = AGGREGATOR.give_up([TWO, big], Cause(Reason.OUTPUT_TOO_LARGE, "y" * 10_000), made.NOW_MS)
    assert all(len(codec.encode(event)) < 10_000 for event in (*ended.outputs, carry_of(ended)))


def test_plans_that_differ_are_rejected() -> None:
    with pytest.raises(Rejected, match=r"\$\.plan"):
        AGGREGATOR.join([PLAN, TWO], made.NOW_MS)


def test_steps_that_were_added_differently_are_rejected() -> None:
    one, other = (
        ThoughtCarried(plan=PLAN, grown=(Step(index=1, fields={"question": text}),), verdicts=(), is_closed=False)
        for text in ("a?", "b?")
    )
    with pytest.raises(Rejected, match=r"\$\.plan"):
        AGGREGATOR.join([one, other], made.NOW_MS)


def test_a_deadline_that_no_request_can_have_is_rejected() -> None:
    with pytest.raises(Rejected, match=r"\$\.deadline_ms"):
        AGGREGATOR.join([replace(PLAN, deadline_ms=2**48 - 1)], made.NOW_MS)


def test_of_two_verdicts_on_a_step_the_same_one_always_counts() -> None:
    events: list[Event] = [TWO, made.verdict(0, "3"), made.verdict(0, "8"), made.verdict(1, "4")]
    assert decide(events) == decide(events[::-1])


def test_a_verdict_that_was_acted_upon_is_not_replaced_by_one_that_repeats_it() -> None:
    carry = replace(carry_of(decide([SPLIT, PARTS])))
    other = made.verdict(0, "1: What else?", num_votes=1, decided_ms=made.NOW_MS - 1)
    events: list[Event] = [carry, other, made.verdict(1, "3"), made.verdict(2, "4")]
    assert launched(decide(events)) == {3: 4}


def test_a_verdict_alone_is_its_own_carry_and_several_cannot_be_carried() -> None:
    assert AGGREGATOR.carry([made.verdict()]) == made.verdict()
    with pytest.raises(Rejected, match=r"\$\.request_id"):
        AGGREGATOR.carry([made.verdict(0), made.verdict(1)])


def test_a_verdict_is_carried_without_ballots_and_with_its_heaviest_answers_only() -> None:
    rows = tuple(TallyRow(answer=f"{index} " * 200, votes=1, weight=1.0) for index in range(20))
    carried = verdict_of(made.verdict(0, "4", tally=rows))
    assert [row.answer[:5] for row in carried.tally] == [f"{index} {index} {index}"[:5] for index in range(8)]
    assert len({row.answer for row in carried.tally}) == 8
    assert (carried.num_paths, carried.tokens_in, carried.tokens_out) == (4, 40, 20)


def test_an_event_of_another_type_is_rejected() -> None:
    with pytest.raises(Rejected, match="ce_type"):
        AGGREGATOR.key(made.failed(made.context(), 0, 1))


def test_what_the_aggregator_says_can_be_read_back_from_its_topics() -> None:
    decisions = [
        decide([PLAN, made.verdict()]),
        decide([SPLIT, PARTS]),
        decide([PLAN], made.DEADLINE_MS + GRACE_MS),
    ]
    for event in (
        event for decision in decisions for event in (*decision.outputs, decision.carry) if event is not None
    ):
        topic = flow.topic_of(type(event))
        assert codec.decode(topic, codec.versioned_type(type(event)), codec.encode(event)) == event


CANCELLED = RequestCancelled(request_id=PLAN.request_id, until_ms=made.DEADLINE_MS)


def test_a_cancelled_request_ends_at_once_and_its_open_steps_are_closed() -> None:
    events: list[Event] = [TWO, CANCELLED, made.verdict(0, "4")]
    for each in (events, events[::-1]):
        decision = decide(each)
        failure, closure = decision.outputs
        assert isinstance(failure, RequestFailed)
        assert (failure.failure, failure.num_paths) == (RequestFailure.CANCELLED, 4)
        assert closure == StepClosed(request_id=PLAN.request_id, step_index=1)
        carry = carry_of(decision)
        assert carry.is_closed
        assert decide([carry, made.verdict(1)]) == Decision(), "what comes late has no effect"
        assert AGGREGATOR.join([carry, CANCELLED], made.NOW_MS) == Wait(made.DEADLINE_MS + GRACE_MS + ORPHAN_MS)


def test_a_cancellation_waits_for_its_plan_and_is_forgotten_in_time() -> None:
    assert AGGREGATOR.join([CANCELLED], made.NOW_MS) == Wait(made.DEADLINE_MS)
    assert AGGREGATOR.carry([CANCELLED, CANCELLED]) == CANCELLED
    assert AGGREGATOR.join([CANCELLED], made.DEADLINE_MS) == Decision()
    assert failure_of(decide([CANCELLED, PLAN])).failure is RequestFailure.CANCELLED
    carried = AGGREGATOR.carry([CANCELLED, PLAN])
    assert isinstance(carried, ThoughtCarried)
    assert failure_of(decide([carried])).failure is RequestFailure.CANCELLED


def test_a_cancellation_forged_for_a_far_day_is_held_two_days_at_most() -> None:
    forged = RequestCancelled(request_id=PLAN.request_id, until_ms=2**48 - 1)
    assert AGGREGATOR.join([forged], made.NOW_MS) == Wait(made.NOW_MS + 2 * 86_400_000)
