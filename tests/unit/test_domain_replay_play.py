"""Recordings played again: what is simulated is the clock, and nothing else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conclave.domain import comparison, counting
from conclave.domain.replay import Recording, full_vote, play
from conclave.domain.schedules import SCHEDULES
from conclave.domain.stopping import STOPPING_RULES
from schemas.values import Ask, Ballot, StopReason

ANSWERS = st.sampled_from(["4", "4", "4.0", "5", "6", None])
durations = st.lists(st.integers(1, 100), min_size=16, max_size=16)
recordings = st.lists(ANSWERS, min_size=16, max_size=16).map(lambda answers: recording(*answers))
asks = st.builds(
    Ask,
    form=st.just("any"),
    stopping=st.sampled_from(sorted(STOPPING_RULES)),
    schedule=st.sampled_from(sorted(SCHEDULES)),
    params=st.fixed_dictionaries({"window": st.integers(1, 4).map(float), "lead": st.integers(1, 4).map(float)}),
    max_samples=st.integers(1, 16),
)


def recording(*answers: str | None, gold: str | None = "4", tokens: int = 10) -> Recording:
    ballots = (Ballot(sample_index=at, answer=answer, tokens_out=tokens) for at, answer in enumerate(answers))
    return Recording("q", gold, tuple(ballots))


@given(recordings, asks, durations)
@settings(max_examples=300, deadline=None)
def test_whichever_paths_are_done_first_the_verdict_is_that_of_drawing_one_by_one(
    recording: Recording, ask: Ask, durations: list[int]
) -> None:
    drawn = next(
        (stop for n in range(ask.max_samples + 1) if (stop := counting.stop(recording.ballots[:n], ask))), None
    )
    length, reason = (drawn.length, drawn.reason) if drawn else (ask.max_samples, StopReason.EXHAUSTED)
    expected = counting.count(recording.ballots[:length], ask, reason=reason).result.answer
    # Shortest first, longest first, and any.
    for ticks in (sorted(durations), sorted(durations, reverse=True), durations):
        played = play(recording, ask, ticks)
        assert (played.answer, played.reason, played.num_counted) == (expected, reason, length)
        assert length <= played.num_launched <= ask.max_samples


def test_all_at_once_takes_as_long_as_the_longest_path_that_counts_and_pays_for_those_it_cancels() -> None:
    ask = Ask(form="any", stopping="ahead_by_k", schedule="at_once", params={"lead": 2}, max_samples=4)
    played = play(recording("4", "4", "5", "5"), ask, [3, 7, 5, 9])
    assert (played.latency, played.num_counted, played.num_launched) == (7, 2, 4)
    assert played.tokens == 10 + 10 + 10 + 7


def test_waves_take_the_sum_of_their_longest_paths() -> None:
    ask = Ask(form="any", stopping="ahead_by_k", params={"lead": 2}, max_samples=16)
    played = play(recording("4", "5", "4", "4"), ask, [3, 7, 5, 4])
    assert (played.latency, played.num_launched, played.tokens) == (7 + 5, 4, 40)


def test_a_recording_that_ends_before_the_rule_does_is_said_to_be_cut_short() -> None:
    ask = Ask(form="any", stopping="ahead_by_k", params={"lead": 5}, max_samples=16)
    assert play(recording("4", "4"), ask).is_cut_short
    assert not play(recording("4", "4", "4", "4", "4"), ask).is_cut_short


def test_answers_are_compared_with_the_right_one_as_the_ask_compares_them() -> None:
    once = Ask(form="any", stopping="fixed", max_samples=1)
    for equivalence, is_right in (("short_answer", True), ("verbatim", False)):
        ask = Ask(form="any", stopping="fixed", max_samples=1, equivalence=equivalence)
        assert play(recording("4.0"), ask).is_right(recording("4.0"), ask) is is_right
    unknown = recording("4", gold=None)
    assert play(unknown, once).is_right(unknown, once) is None
    assert full_vote(recording(None, "5", "5"), Ask(form="any")) == "5"


def test_a_summary_counts_each_set_alike_and_its_intervals_hold_its_figures() -> None:
    ask = Ask(form="any", stopping="fixed", max_samples=1)
    easy = [recording("4", "4", "4")] * 30
    hard = [recording("5", "4", "4")] * 10  # the first says 5, all of them 4
    sets = [comparison.outcomes(each, ask) for each in (easy, hard)]
    summary = comparison.summary(sets)
    assert summary.change is not None
    assert (summary.accuracy, summary.change.value, summary.worst_change) == (0.5, -0.5, -1.0)
    assert (summary.change.low, summary.change.high) == (-0.5, -0.5)  # no question of a set differs from the next
    assert (summary.samples.value, summary.agreement) == (1.0, 0.5)
    assert summary.token_share.value == pytest.approx(1 / 3)


def test_a_paired_interval_has_the_width_of_the_differences_and_not_of_the_accuracies() -> None:
    ask = Ask(form="any", stopping="fixed", max_samples=1)
    # Half of the questions are right either way: hard and easy ones cancel out.
    mixed = [recording(answer, answer) for answer in ("4", "5")] * 100
    summary = comparison.summary([comparison.outcomes(mixed, ask)])
    assert summary.change is not None
    assert (summary.change.low, summary.change.high) == (0.0, 0.0)


def test_without_right_answers_there_is_agreement_and_no_accuracy() -> None:
    ask = Ask(form="any", stopping="fixed", max_samples=1)
    summary = comparison.summary([comparison.outcomes([recording("4", gold=None)], ask)])
    assert (summary.accuracy, summary.change, summary.agreement) == (None, None, 1.0)


def test_an_interval_of_ninety_five_percent_holds_the_truth_about_as_often() -> None:
    rng = np.random.default_rng(7)
    held = 0
    for seed in range(100):
        right = (rng.random(80) < 0.3).astype(float)
        columns = dict.fromkeys(comparison.Outcomes.__dataclass_fields__, right)
        found = comparison.interval([comparison.Outcomes(**columns)], lambda of: of.right, seed=seed)
        held += found.low <= 0.3 <= found.high
    assert 87 <= held <= 100
