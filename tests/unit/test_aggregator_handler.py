import pytest
from msgspec.structs import replace

from conclave.domain.joining import Decision, Wait
from conclave.errors import Rejected
from conclave.runtime.dead_letters import Cause, Reason, cause_of
from conclave.testing import events as made
from schemas import codec, flow
from schemas.events import AnswerReached, Event, PlanCarried, RequestFailed, SampleRequested, StepClosed
from schemas.values import Ballot, Outcome, PathFailure, RequestFailure, StopReason
from services.aggregator.handler import Aggregator
from services.aggregator.settings import AggregatorSettings
from services.voter.settings import VoterSettings

AGGREGATOR = Aggregator(AggregatorSettings(aggregator_grace_s=5.0, aggregator_orphan_s=7200.0))
GRACE_MS, ORPHAN_MS = 5_000, 7_200_000
PLAN = made.plan()
DIAMOND = made.plan((), (), (0, 1))


def decide(events: list[Event], now_ms: int = made.NOW_MS) -> Decision:
    outcome = AGGREGATOR.join(events, now_ms)
    assert isinstance(outcome, Decision)
    return outcome


def failure_of(decision: Decision) -> RequestFailed:
    assert isinstance(decision.outputs[0], RequestFailed)
    return decision.outputs[0]


def test_the_verdict_on_the_only_step_is_the_answer_and_the_group_ends() -> None:
    both: list[Event] = [PLAN, made.verdict(answer="4")]
    for events in (both, both[::-1]):
        decision = decide(events)
        (answer,) = decision.outputs
        assert isinstance(answer, AnswerReached)
        assert (answer.answer, answer.confidence, answer.margin, decision.carry) == ("4", 0.96875, 1.0, None)
        assert (answer.num_paths, answer.tokens_in, answer.tokens_out, answer.elapsed_ms) == (4, 40, 20, 50.0)
        assert [(step.step_index, step.answer, step.num_samples) for step in answer.steps] == [(0, "4", 4)]


def test_a_tie_is_answered_and_marked() -> None:
    (answer,) = decide([PLAN, made.verdict(outcome=Outcome.TIE, margin=0.0)]).outputs
    assert isinstance(answer, AnswerReached)
    assert answer.outcome is Outcome.TIE


def test_a_plan_waits_for_its_verdicts_until_its_deadline_and_grace() -> None:
    assert AGGREGATOR.join([PLAN], made.NOW_MS) == Wait(made.DEADLINE_MS + GRACE_MS)


def test_the_aggregator_waits_longer_than_the_voter() -> None:
    assert AggregatorSettings().aggregator_grace_s > VoterSettings().voter_grace_s


def test_a_step_is_launched_once_all_that_it_depends_on_is_decided() -> None:
    assert isinstance(AGGREGATOR.join([DIAMOND, made.verdict(0, "3")], made.NOW_MS), Wait)
    decision = decide([DIAMOND, made.verdict(1, "4"), made.verdict(0, "3")])
    samples = [output for output in decision.outputs if isinstance(output, SampleRequested)]
    assert [(sample.context.step_index, sample.sample_index) for sample in samples] == [
        (2, index) for index in range(4)
    ]
    assert samples[0].context.fields == {
        "question": "part 2?",
        "earlier": "#1 = 3\n#2 = 4",
        "earlier_in_full": "#1: part 0? = 3\n#2: part 1? = 4",
    }
    assert isinstance(decision.carry, PlanCarried)
    assert decision.carry.launched_steps == (0, 1, 2)
    (answer,) = decide([made.verdict(2, "7"), decision.carry]).outputs
    assert isinstance(answer, AnswerReached)
    assert (answer.answer, answer.num_paths, answer.confidence) == ("7", 12, 0.96875**3)


def test_a_step_without_an_answer_fails_the_request_and_closes_what_is_open() -> None:
    decision = decide([DIAMOND, made.verdict(0, None)])
    assert failure_of(decision).failure is RequestFailure.NO_ANSWER
    assert decision.outputs[1:] == (StepClosed(request_id=made.REQUEST_ID, step_index=1),)
    assert decision.carry is not None
    assert isinstance(AGGREGATOR.join([decision.carry], made.NOW_MS), Wait)
    assert decide([made.verdict(1, "4"), decision.carry]) == Decision()


def test_the_only_step_without_an_answer_fails_the_request_and_the_group_ends() -> None:
    decision = decide([PLAN, made.verdict(answer=None)])
    assert (failure_of(decision).failure, len(decision.outputs), decision.carry) == (RequestFailure.NO_ANSWER, 1, None)
    assert failure_of(decision).num_paths == 4


def test_a_step_that_nothing_builds_on_may_stay_without_an_answer() -> None:
    (answer,) = decide([made.plan((), ()), made.verdict(0, None), made.verdict(1, "4")]).outputs
    assert isinstance(answer, AnswerReached)
    assert answer.confidence == 0.96875


@pytest.mark.parametrize(
    "late",
    [
        made.verdict(answer=None, stop_reason=StopReason.DEADLINE),
        made.verdict(answer=None, ballots=(Ballot(sample_index=0, failure=PathFailure.DEADLINE),)),
    ],
)
def test_a_step_that_ran_out_of_time_fails_the_request_for_its_deadline(late: Event) -> None:
    assert failure_of(decide([PLAN, late])).failure is RequestFailure.DEADLINE


def test_at_its_deadline_and_grace_a_request_fails_closes_its_steps_and_absorbs_late_verdicts() -> None:
    decision = decide([DIAMOND, made.verdict(0, "3")], made.DEADLINE_MS + GRACE_MS)
    assert failure_of(decision).failure is RequestFailure.DEADLINE
    assert decision.outputs[1:] == (StepClosed(request_id=made.REQUEST_ID, step_index=1),)
    assert decision.carry is not None
    assert decide([decision.carry, made.verdict(1, "4")], made.DEADLINE_MS + GRACE_MS) == Decision()


def test_a_closed_plan_whose_verdicts_never_come_ends_in_the_end() -> None:
    carry = decide([PLAN], made.DEADLINE_MS + GRACE_MS).carry
    assert carry is not None
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


@pytest.mark.parametrize("step_index", [2, 31])
def test_a_verdict_on_a_step_that_was_not_launched_ends_the_request_as_invalid(step_index: int) -> None:
    with pytest.raises(Rejected) as caught:
        AGGREGATOR.join([DIAMOND, made.verdict(step_index)], made.NOW_MS)
    assert caught.value.field == "$.step_index"
    ended = AGGREGATOR.give_up([DIAMOND, made.verdict(step_index)], cause_of(caught.value), made.NOW_MS)
    assert [type(output) for output in ended.outputs] == [RequestFailed, StepClosed, StepClosed]
    assert failure_of(ended).failure is RequestFailure.INVALID
    assert ended.carry is not None
    assert isinstance(AGGREGATOR.join([ended.carry, made.verdict(0)], made.NOW_MS), Wait)
    assert decide([made.verdict(1), made.verdict(0), ended.carry]) == Decision()


def test_a_request_is_given_up_once_whatever_comes_afterwards() -> None:
    ended = AGGREGATOR.give_up([DIAMOND, made.verdict(0)], Cause(Reason.OUTPUT_TOO_LARGE, "big"), made.NOW_MS)
    assert failure_of(ended).failure is RequestFailure.NO_ANSWER
    assert ended.outputs[1:] == (StepClosed(request_id=made.REQUEST_ID, step_index=1),)
    assert ended.carry is not None
    again = AGGREGATOR.give_up([made.plan((), (0,)), ended.carry], Cause(Reason.REJECTED, "plans differ"), made.NOW_MS)
    assert again.outputs == ()
    assert again.carry == ended.carry


def test_what_a_request_leaves_behind_when_given_up_is_small_however_large_its_votes_were() -> None:
    big = made.verdict(0, "x" * 4096, num_votes=256)
    ended = AGGREGATOR.give_up([DIAMOND, big], Cause(Reason.OUTPUT_TOO_LARGE, "y" * 10_000), made.NOW_MS)
    assert ended.carry is not None
    assert all(len(codec.encode(event)) < 10_000 for event in (*ended.outputs, ended.carry))


def test_a_carry_of_steps_that_its_plan_does_not_have_ends_the_request_as_invalid() -> None:
    forged = PlanCarried(plan=PLAN, verdicts=(made.verdict(1, None),), launched_steps=(1,), is_closed=False)
    with pytest.raises(Rejected, match=r"\$\.launched_steps") as caught:
        AGGREGATOR.join([forged], made.NOW_MS)
    ended = AGGREGATOR.give_up([forged], cause_of(caught.value), made.NOW_MS)
    assert (failure_of(ended).failure, ended.carry) == (RequestFailure.INVALID, None)


def test_plans_that_differ_are_rejected() -> None:
    with pytest.raises(Rejected, match=r"\$\.plan"):
        AGGREGATOR.join([PLAN, DIAMOND], made.NOW_MS)


def test_a_deadline_that_no_request_can_have_is_rejected() -> None:
    with pytest.raises(Rejected, match=r"\$\.deadline_ms"):
        AGGREGATOR.join([replace(PLAN, deadline_ms=2**48 - 1)], made.NOW_MS)


def test_of_two_verdicts_on_a_step_the_same_one_always_counts() -> None:
    events: list[Event] = [DIAMOND, made.verdict(0, "3"), made.verdict(0, "8"), made.verdict(1, "4")]
    assert decide(events) == decide(events[::-1])


def test_a_verdict_alone_is_its_own_carry_and_several_cannot_be_carried() -> None:
    assert AGGREGATOR.carry([made.verdict()]) == made.verdict()
    with pytest.raises(Rejected, match=r"\$\.request_id"):
        AGGREGATOR.carry([made.verdict(0), made.verdict(1)])


def test_an_event_of_another_type_is_rejected() -> None:
    with pytest.raises(Rejected, match="ce_type"):
        AGGREGATOR.key(made.failed(made.context(), 0, 1))


def test_what_the_aggregator_says_can_be_read_back_from_its_topics() -> None:
    decisions = [
        decide([PLAN, made.verdict()]),
        decide([DIAMOND, made.verdict(0, "3"), made.verdict(1, "4")]),
        decide([PLAN], made.DEADLINE_MS + GRACE_MS),
    ]
    for event in (
        event for decision in decisions for event in (*decision.outputs, decision.carry) if event is not None
    ):
        topic = flow.topic_of(type(event))
        assert codec.decode(topic, codec.versioned_type(type(event)), codec.encode(event)) == event
