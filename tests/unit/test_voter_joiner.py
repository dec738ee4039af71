import itertools
import math

import pytest
from msgspec import structs
from msgspec.structs import replace

from conclave.domain.joining import Decision, Wait
from conclave.domain.stopping import leader_confidence
from conclave.errors import Rejected, Unbegun
from conclave.runtime.dead_letters import Cause, Reason, cause_of
from conclave.runtime.limits import MAX_OUTPUT_BYTES
from conclave.testing import events as made
from schemas import codec, flow
from schemas.events import Event, SampleRequested, StepClosed, StepDecided, TallyCarried
from schemas.values import Ask, Ballot, Outcome, PathFailure, StepContext, StopReason, TallyRow
from services.voter.joiner import Voter
from services.voter.settings import VoterSettings

VOTER = Voter(VoterSettings(voter_grace_s=2.0, voter_orphan_s=3600.0))
STEP = made.context()
GRACE_MS, ORPHAN_MS = 2_000, 3_600_000


def paths(*answers: str | None, of: StepContext = STEP, launched: int | None = None) -> list[Event]:
    return [made.decoded(of, index, launched or len(answers), answer) for index, answer in enumerate(answers)]


def decide(events: list[Event], now_ms: int = made.NOW_MS) -> Decision:
    outcome = VOTER.join(events, now_ms)
    assert isinstance(outcome, Decision)
    return outcome


def verdict_of(decision: Decision) -> StepDecided:
    assert isinstance(decision.outputs[0], StepDecided)
    return decision.outputs[0]


def test_a_unanimous_first_wave_is_the_verdict_and_the_group_ends() -> None:
    decision = decide(paths("4", "4.0", "$4", "4."))
    verdict = verdict_of(decision)
    assert (len(decision.outputs), decision.carry) == (1, None)
    assert (verdict.answer, verdict.outcome, verdict.stop_reason) == ("4", Outcome.MAJORITY, StopReason.CONFIDENT)
    assert (verdict.confidence, verdict.margin, verdict.agreement, verdict.entropy) == (0.96875, 1.0, 1.0, 0.0)
    assert (verdict.launched, verdict.policy, verdict.arm, verdict.decided_ms) == (4, "default", "default", made.NOW_MS)
    assert [(ballot.sample_index, ballot.answer, ballot.tokens_out) for ballot in verdict.ballots] == [
        (0, "4", 5),
        (1, "4.0", 5),
        (2, "$4", 5),
        (3, "4.", 5),
    ]


@pytest.mark.parametrize("answer", ["12/25", "02134", "3.10", "McDonald's", "Paris", "Straße"])
def test_the_answer_comes_back_as_the_first_path_of_the_winning_cluster_wrote_it(answer: str) -> None:
    context = made.context(made.ask("fixed-8"))
    others = ["  " + answer + ". "] * 5
    events = paths("0", None, answer, *others, of=context)
    verdict = verdict_of(decide(events[::-1]))
    assert (verdict.answer, [(row.answer, row.votes) for row in verdict.tally]) == (answer, [(answer, 6), ("0", 1)])
    assert [ballot.tally_row for ballot in verdict.ballots] == [1, None, *[0] * 6]


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_the_order_of_arrival_changes_nothing(order: tuple[int, ...]) -> None:
    events = paths("4", "5", "4", "4")
    assert decide([events[index] for index in order]) == decide(events)


def test_a_wave_that_is_not_all_in_is_waited_for_until_its_deadline_and_grace() -> None:
    assert VOTER.join(paths("4", "4", "4", launched=4), made.NOW_MS) == Wait(made.DEADLINE_MS + GRACE_MS)


def test_a_wave_that_does_not_satisfy_the_rule_is_followed_by_exactly_its_deficit() -> None:
    decision = decide(paths("4", "5", "4", "4"))
    assert [
        (sample.sample_index, sample.launched) for sample in decision.outputs if isinstance(sample, SampleRequested)
    ] == [
        (4, 7),
        (5, 7),
        (6, 7),
    ]
    carry = decision.carry
    assert isinstance(carry, TallyCarried)
    assert (carry.launched, carry.is_decided, len(carry.ballots)) == (7, False, 4)


def test_the_carry_and_the_next_wave_together_are_the_verdict() -> None:
    carry = decide(paths("4", "5", "4", "4")).carry
    assert carry is not None
    late = [made.decoded(STEP, index, 7, "4") for index in (6, 5, 4)]
    verdict = verdict_of(decide([*late, carry]))
    assert (verdict.answer, verdict.launched, [row.votes for row in verdict.tally]) == ("4", 7, [6, 1])


def test_failed_samples_are_no_votes_but_have_reported() -> None:
    events = [*paths("4", "4", "4", launched=4), made.failed(STEP, 3, 4)]
    assert [sample.sample_index for sample in decide(events).outputs if isinstance(sample, SampleRequested)] == [4]


def test_when_the_rule_is_never_satisfied_the_vote_ends_with_max_samples_and_a_tie_is_an_outcome() -> None:
    context = made.context(made.ask(max_samples=4))
    verdict = verdict_of(decide(paths("5", "4", "4", "5", of=context)))
    assert (verdict.outcome, verdict.stop_reason, verdict.answer, verdict.margin) == (
        Outcome.TIE,
        StopReason.EXHAUSTED,
        "5",
        0.0,
    )


def test_a_vote_in_which_every_path_is_silent_is_decided_without_an_answer() -> None:
    context = made.context(made.ask("single"))
    verdict = verdict_of(decide(paths("...", of=context)))
    assert (verdict.outcome, verdict.answer, verdict.confidence, verdict.tally) == (Outcome.NO_ANSWER, None, 0.0, ())


def test_a_fixed_number_of_samples_is_waited_for_and_then_exhausted() -> None:
    context = made.context(made.ask("fixed-8"))
    assert isinstance(VOTER.join(paths(*["4"] * 7, of=context, launched=8), made.NOW_MS), Wait)
    assert verdict_of(decide(paths(*["4"] * 8, of=context))).stop_reason == StopReason.EXHAUSTED


def test_a_rule_satisfied_before_all_have_reported_closes_the_step_and_carries_on_until_they_have() -> None:
    decision = decide(paths("4", "4", "4", "4", launched=6))
    assert [type(output) for output in decision.outputs] == [StepDecided, StepClosed]
    carry = decision.carry
    assert isinstance(carry, TallyCarried)
    assert carry.is_decided
    cancelled = [made.failed(STEP, index, 6, PathFailure.CANCELLED) for index in (4, 5)]
    assert VOTER.join([cancelled[1], carry], made.NOW_MS) == Wait(made.DEADLINE_MS + ORPHAN_MS)
    assert decide([*cancelled, carry]) == Decision()


def test_only_the_shortest_satisfied_prefix_is_counted_whatever_else_is_in() -> None:
    verdict = verdict_of(decide(paths("4", "4", "4", "4", "5", "5")))
    assert (len(verdict.ballots), verdict.margin, verdict.launched) == (4, 1.0, 6)


def test_votes_beyond_a_gap_wait_for_launch_order() -> None:
    without_1 = [event for index, event in enumerate(paths("5", "4", "4", "4", "4", "4")) if index != 1]
    assert isinstance(VOTER.join(without_1, made.NOW_MS), Wait)


def test_a_group_without_its_first_sample_is_decided_after_its_deadline_on_all_that_is_there() -> None:
    events = paths("4", "5", "4", "4", "4")[1:]
    for now_ms in (made.NOW_MS, made.DEADLINE_MS + GRACE_MS - 1):
        assert VOTER.join(events, now_ms) == Wait(made.DEADLINE_MS + GRACE_MS)
    with pytest.raises(Unbegun, match=r"\$\.sample_index") as caught:
        VOTER.join(events, made.DEADLINE_MS + GRACE_MS)
    ended = VOTER.give_up(events, cause_of(caught.value), made.DEADLINE_MS + GRACE_MS)
    verdict = verdict_of(ended)
    assert (verdict.answer, verdict.stop_reason, len(verdict.ballots)) == ("4", StopReason.DEADLINE, 4)
    assert isinstance(ended.outputs[1], StepClosed)
    assert ended.carry is not None
    assert decide([ended.carry, *paths("9", launched=5)]) == Decision()


def test_samples_of_a_step_whose_beginning_is_elsewhere_count_as_failed_when_they_are_given_up() -> None:
    ended = VOTER.give_up(paths("4", "4", "4")[1:], Cause(Reason.HANDLER, "a bug"), made.NOW_MS)
    assert ended.outputs == ()
    assert ended.carry is not None
    verdict = verdict_of(decide([ended.carry, *paths("4", launched=3)], made.DEADLINE_MS))
    assert (verdict.answer, [row.votes for row in verdict.tally]) == ("4", [1])
    assert [ballot.failure for ballot in verdict.ballots] == [None, PathFailure.ENGINE, PathFailure.ENGINE]


def test_at_the_deadline_and_its_grace_the_vote_is_decided_on_all_that_is_there() -> None:
    events = [event for index, event in enumerate(paths("4", "5", "4", "4")) if index != 1]
    decision = decide(events, made.DEADLINE_MS + GRACE_MS)
    verdict = verdict_of(decision)
    assert (verdict.stop_reason, verdict.answer, len(verdict.ballots)) == (StopReason.DEADLINE, "4", 3)
    assert isinstance(decision.outputs[1], StepClosed)
    assert decision.carry is not None


def test_past_the_deadline_no_further_wave_is_launched() -> None:
    verdict = verdict_of(decide(paths("4", "5", "4", "4"), made.DEADLINE_MS))
    assert (verdict.stop_reason, verdict.answer) == (StopReason.DEADLINE, "4")


@pytest.mark.parametrize(
    "failure",
    [PathFailure.PROMPT_TOO_LONG, PathFailure.BAD_PROMPT, PathFailure.BAD_REQUEST, PathFailure.CANCELLED],
)
def test_no_wave_follows_when_every_further_sample_would_fail_the_same_way(failure: PathFailure) -> None:
    decision = decide([made.failed(STEP, index, 4, failure) for index in range(4)])
    assert (verdict_of(decision).outcome, len(decision.outputs)) == (Outcome.NO_ANSWER, 1)


def test_a_closing_carry_whose_samples_never_report_ends_in_the_end() -> None:
    carry = decide(paths("4", "4", "4", "4", launched=6)).carry
    assert carry is not None
    assert decide([carry], made.DEADLINE_MS + ORPHAN_MS) == Decision()


def test_a_sample_that_is_there_twice_counts_once_and_always_the_same_way() -> None:
    twice = [*paths("4", "4", "4", "4"), made.decoded(STEP, 3, 4, "5")]
    assert isinstance(VOTER.join([*paths("4", "4", launched=4), *paths("4", "4", launched=4)], made.NOW_MS), Wait)
    assert decide(twice) == decide(twice[::-1])
    assert sum(row.votes for row in verdict_of(decide(twice + twice)).tally) == 4


def test_a_sample_of_an_earlier_wave_that_comes_again_does_not_undo_the_later_one() -> None:
    first = paths("4", "5", "4", "4")
    carry = decide(first).carry
    assert carry is not None
    later = made.decoded(STEP, 4, 7, "4")
    for events in itertools.permutations([carry, later, first[0]]):
        assert isinstance(VOTER.join(list(events), made.NOW_MS), Wait)


@pytest.mark.parametrize(
    ("field", "forged"),
    [
        ("ask", made.ask(temperature=1.0)),
        ("step", made.context(fields={"question": "3+3?"}).step),
        ("deadline_ms", made.DEADLINE_MS + 1),
        ("arm", "other"),
    ],
)
def test_events_that_disagree_about_their_step_are_rejected_by_field(field: str, forged: object) -> None:
    events = [*paths("4", "4", launched=4), made.decoded(structs.replace(STEP, **{field: forged}), 2, 4, "4")]
    with pytest.raises(Rejected) as caught:
        VOTER.join(events, made.NOW_MS)
    assert caught.value.field == f"$.context.{field}"


def test_a_deadline_that_no_request_can_have_is_rejected() -> None:
    impossible = paths("4", of=made.context(deadline_ms=2**48 - 1), launched=4)
    with pytest.raises(Rejected, match=r"\$\.context\.deadline_ms") as caught:
        VOTER.join(impossible, made.NOW_MS)
    ended = VOTER.give_up(impossible, cause_of(caught.value), made.NOW_MS)
    assert (verdict_of(ended).outcome, ended.carry) == (Outcome.NO_ANSWER, None)


def test_a_step_that_is_given_up_has_a_verdict_without_answer_and_absorbs_what_still_comes() -> None:
    events = paths("4", "4", "4", launched=5)
    ended = VOTER.give_up(events, Cause(Reason.OUTPUT_TOO_LARGE, "big"), made.NOW_MS)
    verdict = verdict_of(ended)
    assert (verdict.outcome, verdict.answer, verdict.ballots, verdict.launched) == (Outcome.NO_ANSWER, None, (), 5)
    assert isinstance(ended.outputs[1], StepClosed)
    assert ended.carry is not None
    late = [made.decoded(STEP, index, 5, "4") for index in (3, 4)]
    assert isinstance(VOTER.join([late[0], ended.carry], made.NOW_MS), Wait)
    assert decide([*late, ended.carry]) == Decision()
    again = VOTER.give_up([late[0], ended.carry], Cause(Reason.HANDLER, "again"), made.NOW_MS)
    assert again.outputs == ()
    assert isinstance(again.carry, TallyCarried)
    assert [ballot.sample_index for ballot in again.carry.ballots] == [0, 1, 2, 3]


def test_a_step_of_which_all_is_given_up_leaves_nothing_behind() -> None:
    ended = VOTER.give_up(paths("4", "4"), Cause(Reason.HANDLER, "a bug"), made.NOW_MS)
    assert ([type(output) for output in ended.outputs], ended.carry) == ([StepDecided], None)


def test_an_event_of_another_type_is_rejected() -> None:
    with pytest.raises(Rejected, match="ce_type"):
        VOTER.key(made.verdict())


def test_more_samples_than_the_policy_allows_are_an_end_and_not_a_crash() -> None:
    context = made.context(made.ask(stopping="fixed", max_samples=2))
    assert verdict_of(decide(paths("4", "5", "4", of=context))).stop_reason == StopReason.EXHAUSTED


def test_what_a_forged_carry_says_of_weights_counts_for_nothing() -> None:
    ballots = tuple(Ballot(sample_index=index, answer="4", weight=0.0) for index in range(4))
    forged = TallyCarried(context=STEP, launched=4, ballots=ballots, is_decided=False)
    assert verdict_of(decide([forged])).tally == (TallyRow(answer="4", votes=4, weight=4.0),)


def test_early_stopping_answers_with_its_unanimous_window_and_not_with_the_overall_majority() -> None:
    context = made.context(made.ask("early-stopping", params={"window": 2}))
    verdict = verdict_of(decide(paths("5", "4", "5", "6", "5", "7", "4", "4", of=context)))
    assert (verdict.answer, verdict.stop_reason, verdict.margin, verdict.agreement) == ("4", "confident", 1.0, 1.0)
    assert [ballot.weight for ballot in verdict.ballots] == [0, 0, 0, 0, 0, 0, 1, 1]
    assert [(row.answer, row.votes, row.weight) for row in verdict.tally[:2]] == [("4", 3, 2.0), ("5", 3, 0.0)]
    assert verdict.confidence == leader_confidence(2, 0)


def test_early_stopping_without_any_unanimous_window_answers_with_the_majority() -> None:
    context = made.context(made.ask("early-stopping", params={"window": 2}, max_samples=4))
    verdict = verdict_of(decide(paths("4", "5", "4", "6", of=context)))
    assert (verdict.answer, verdict.stop_reason, verdict.agreement) == ("4", "exhausted", 0.5)


def test_a_verdict_is_as_sure_as_its_ask_says() -> None:
    stated = [
        replace(path, probability=share) for path, share in zip(paths("4", "4", "5"), (0.9, 0.7, 1.0), strict=True)
    ]
    figures = {}
    for way in ("lead", "share", "stated", "likelihood"):
        context = made.context(made.ask("fixed-8", max_samples=3, confidence=way))
        figures[way] = verdict_of(decide([replace(path, context=context) for path in stated])).confidence
    assert figures == {
        "lead": leader_confidence(2, 1),
        "share": pytest.approx(2 / 3),
        "stated": pytest.approx(0.8),
        "likelihood": pytest.approx(math.exp(-0.25)),
    }


def test_a_confidence_is_recalibrated_by_the_table_that_its_ask_carries() -> None:
    context = made.context(made.ask("fixed-8", max_samples=4, confidence="share", calibration=(0.0, 0.2, 1.0)))
    assert verdict_of(decide(paths("4", "4", "4", "5", of=context))).confidence == pytest.approx(0.6)


def test_ballots_weigh_as_their_ask_says() -> None:
    context = made.context(made.ask("fixed-8", max_samples=3, weighing="stated"))
    of = paths("4", "4", "5", of=context)
    stated = [replace(path, probability=share) for path, share in zip(of, (0.2, 0.3, 0.9), strict=True)]
    verdict = verdict_of(decide(stated))
    assert (verdict.answer, [ballot.weight for ballot in verdict.ballots]) == ("5", [0.2, 0.3, 0.9])


@pytest.mark.parametrize("field", ["stopping", "voting", "equivalence", "weighing", "confidence"])
def test_a_rule_that_is_not_known_here_is_waited_for_and_at_the_end_there_is_no_answer(field: str) -> None:
    of = made.context(made.ask(**{field: "of-tomorrow"}))
    events = paths("4", "4", "4", "4", of=of)
    assert VOTER.join(events, made.NOW_MS) == Wait(made.DEADLINE_MS + GRACE_MS)
    assert VOTER.carry(events).ballots[0].answer == "4"
    verdict = verdict_of(decide(events, made.DEADLINE_MS + GRACE_MS))
    assert (verdict.outcome, verdict.stop_reason, len(verdict.ballots)) == (Outcome.NO_ANSWER, "deadline", 4)


@pytest.mark.parametrize("ask", [made.ask("fixed-16"), made.ask("fixed-16", max_samples=256)])
@pytest.mark.parametrize("character", ["a", "é", "漢", "\u0001"])
def test_a_vote_on_the_longest_answers_fits_a_record_and_unlike_answers_stay_unlike(ask: Ask, character: str) -> None:
    of = made.context(ask, fields={"question": "?" * 16_384})
    answers = [character * 4093 + f"{index:03}" for index in range(ask.max_samples)]
    carry = VOTER.carry(paths(*answers, of=of))
    verdict = verdict_of(decide([carry]))
    assert len({ballot.answer for ballot in carry.ballots}) == ask.max_samples
    assert len(verdict.tally) == ask.max_samples
    assert max(len(codec.encode(event)) for event in (carry, verdict)) < MAX_OUTPUT_BYTES
    assert VOTER.carry([carry]) == carry


def test_what_the_voter_says_can_be_read_back_from_its_topics() -> None:
    closing = decide(paths("4", "4", "4", "4", launched=6))
    following = decide(paths("4", "5", "4", "4"))
    said = [*closing.outputs, *following.outputs, closing.carry, following.carry]
    for event in said:
        assert event is not None
        topic = flow.topic_of(type(event))
        assert codec.decode(topic, codec.versioned_type(type(event)), codec.encode(event)) == event


def test_a_leader_that_the_samples_left_cannot_catch_ends_sampling_as_settled() -> None:
    context = made.context(made.ask(max_samples=5, params={"stop_confidence": 1.0}))
    in_hand = [made.decoded(context, index, 3, "4") for index in range(3)]
    decision = VOTER.join(in_hand, made.NOW_MS)
    assert isinstance(decision, Decision)
    (verdict,) = decision.outputs
    assert isinstance(verdict, StepDecided)
    assert (verdict.stop_reason, verdict.answer, verdict.launched) == ("settled", "4", 3)


def test_a_vote_without_a_quorum_comes_to_no_consensus_with_its_tally() -> None:
    context = made.context(made.ask("fixed-8", max_samples=3, voting="quorum", params={"quorum": 0.5}))
    in_hand = [made.decoded(context, index, 3, str(index)) for index in range(3)]
    decision = VOTER.join(in_hand, made.NOW_MS)
    assert isinstance(decision, Decision)
    (verdict,) = decision.outputs
    assert isinstance(verdict, StepDecided)
    assert (verdict.outcome, verdict.stop_reason, verdict.answer) == (Outcome.NO_ANSWER, "no_consensus", None)
    assert [row.votes for row in verdict.tally] == [1, 1, 1]
