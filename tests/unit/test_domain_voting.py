import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conclave.domain import voting
from conclave.domain.voting import VoteResult
from schemas.values import Ask, Ballot, Outcome, PathFailure

answers = st.lists(st.sampled_from(["a", "b", "c", None]), max_size=40)


def ballots(*answers: str | None) -> list[Ballot]:
    return [Ballot(sample_index=index, answer=answer) for index, answer in enumerate(answers)]


def majority(cast: Sequence[Ballot]) -> VoteResult:
    """The vote when answers are the same only if their texts are."""
    return voting.majority(cast, [ballot.answer or "" for ballot in cast], Ask(form="any"))


def test_the_answer_with_most_votes_wins_with_its_margin_agreement_and_entropy() -> None:
    count = majority(ballots("b", "a", None, "a", "c"))
    assert (count.outcome, count.answer) == (Outcome.MAJORITY, "a")
    assert (count.margin, count.agreement, count.entropy) == (0.25, 0.5, 1.5)
    assert [(row.answer, row.votes, row.weight) for row in count.tally] == [("a", 2, 2.0), ("b", 1, 1.0), ("c", 1, 1.0)]


def test_a_tie_reports_the_answer_launched_earliest_with_margin_0() -> None:
    count = majority(ballots(None, "b", "a", "a", "b"))
    assert (count.outcome, count.answer, count.margin, count.entropy) == (Outcome.TIE, "b", 0.0, 1.0)


@pytest.mark.parametrize("silent", [[], [Ballot(sample_index=0)], [Ballot(sample_index=0, failure=PathFailure.ENGINE)]])
def test_a_vote_in_which_nobody_answers_comes_to_no_answer(silent: list[Ballot]) -> None:
    count = majority(silent)
    assert (count.outcome, count.answer, count.margin, count.agreement, count.entropy) == (
        Outcome.NO_ANSWER,
        None,
        0,
        0,
        0,
    )


def test_votes_without_any_weight_come_to_no_answer() -> None:
    assert majority([Ballot(sample_index=0, answer="a", weight=0.0)]).outcome is Outcome.NO_ANSWER


def test_weight_and_not_the_number_of_votes_decides() -> None:
    weighed = [Ballot(sample_index=0, answer="a", weight=3.0), *ballots("b", "b")]
    assert majority(weighed).answer == "a"


def test_labels_are_counted_and_the_first_in_launch_order_of_a_cluster_says_what_it_is_called() -> None:
    cast = ballots("Paris", "...", "paris.", None, "PARIS", "Rome")
    count = voting.majority(cast, ["paris", "", "paris", "", "paris", "rome"], Ask(form="any"))
    assert (count.answer, [(row.answer, row.votes) for row in count.tally]) == ("Paris", [("Paris", 3), ("Rome", 1)])
    assert count.rows == (0, None, 0, None, 0, 1)


@given(answers)
def test_shares_are_shares_and_missing_answers_are_no_votes(drawn: list[str | None]) -> None:
    count = majority(ballots(*drawn))
    assert sum(row.votes for row in count.tally) == sum(answer is not None for answer in drawn)
    assert 0 <= count.margin <= count.agreement <= 1
    assert 0 <= count.entropy <= math.log2(3) + 1e-12
    assert (count.outcome is Outcome.TIE) == (len(count.tally) > 1 and count.margin == 0)


@given(answers, st.integers(0, 40))
def test_one_more_vote_for_the_winner_keeps_it_winning(drawn: list[str | None], position: int) -> None:
    winner = majority(ballots(*drawn)).answer
    more = [*drawn[:position], winner, *drawn[position:]]
    assert majority(ballots(*more)).answer == winner


def test_without_a_quorum_there_is_no_answer_and_the_tally_says_who_said_what() -> None:
    cast = ballots("a", "a", "b", "c", None)
    labels = [ballot.answer or "" for ballot in cast]
    for share, outcome, answer in ((0.5, Outcome.MAJORITY, "a"), (0.51, Outcome.NO_ANSWER, None)):
        ask = Ask(form="any", voting="quorum", params={"quorum": share})
        result = voting.VOTING_RULES["quorum"].decide(cast, labels, ask)
        assert (result.outcome, result.answer) == (outcome, answer)
        assert [(row.answer, row.votes) for row in result.tally] == [("a", 2), ("b", 1), ("c", 1)]


@pytest.mark.parametrize(
    ("answers", "flips"),
    [("", 0), ("aaa", 0), ("ab", 0), ("abb", 1), ("abbaa", 2), ("abbab", 1), ("abcc", 1), ("abbaab", 2)],
)
def test_the_lead_changes_where_another_answer_has_more_votes_than_any_before(answers: str, flips: int) -> None:
    found = voting.flips(enumerate(answers))
    assert len(found) == flips
    assert all(each.to_answer == answers[each.sample_index] != each.from_answer for each in found)
