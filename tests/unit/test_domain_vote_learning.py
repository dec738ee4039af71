"""Votes that learn: weights that help on votes not learned from are taken, others refused; and thin evidence says nothing."""

import math
import random

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from msgspec.structs import replace

from conclave.domain import counting
from conclave.domain.vote_learning.abstaining import bound, lowest_quorum, with_quorum
from conclave.domain.vote_learning.calibrating import fit_of_table, fitted
from conclave.domain.vote_learning.judging import learned
from conclave.domain.vote_learning.labels import JudgedVote, LabelledPath, correlation, discounted, halves, paths_of
from conclave.domain.vote_learning.weights import vote_weights
from conclave.domain.weighing import said_of_itself, weight
from conclave.testing import events as made
from schemas.values import Ballot, StopReason

ASK = made.ask()


def _vote(rng: random.Random, number: int, *, telling: float, num: int = 5, by: str = "expert") -> JudgedVote:
    """A vote of paths that are right 45 % of the time; a path's likelihood tells so by `telling`, 0 for not at all."""
    ballots = []
    for index in range(num):
        is_right = rng.random() < 0.45
        likelihood = min(0.99, max(0.01, rng.gauss(0.5 + (telling if is_right else -telling), 0.12)))
        answer = "36" if is_right else str(37 + rng.randrange(2))
        ballots.append(Ballot(sample_index=index, answer=answer, mean_logprob=math.log(likelihood)))
    counted = counting.count(ballots, ASK, reason=StopReason.EXHAUSTED)
    assert counted.result.answer is not None
    right = "36" if by == "expert" else None
    reward = None if by == "expert" else float(counted.result.answer == "36")
    return JudgedVote(f"request {number}", tuple(ballots), counted.result.answer, reward, right)


def _votes(seed: int, num: int, **how: object) -> list[JudgedVote]:
    rng = random.Random(seed)
    return [_vote(rng, number, **how) for number in range(num)]  # type: ignore[arg-type]


def test_weights_that_help_on_votes_not_learned_from_are_taken() -> None:
    found = learned(ASK, _votes(1, 600, telling=0.15))
    assert found.refused is None
    assert found.gained > 2 * found.lost
    assert found.after.log_loss < found.before.log_loss
    assert found.after.ece < 0.1
    assert found.ask.weighing == "learned"
    assert list(found.ask.vote_weights) == sorted(found.ask.vote_weights)
    others = _votes(2, 400, telling=0.15)
    right = [
        sum(counting.count(vote.ballots, ask, reason=StopReason.EXHAUSTED).result.answer == "36" for vote in others)
        for ask in (ASK, found.ask)
    ]
    assert right[1] > right[0] + 20


@pytest.mark.parametrize("confidence", ["lead", "share"])
@pytest.mark.parametrize("before", [(), (0.0, 0.2)])
def test_learned_confidence_is_that_of_the_votes_as_they_are_weighed_from_then_on(
    confidence: str, before: tuple[float, ...]
) -> None:
    """Weights that help make answers right more often, so what was said of them before is no measure of what is to be said."""
    ask = replace(ASK, confidence=confidence, calibration=before)
    found = learned(ask, _votes(1, 1200, telling=0.15))
    told = [
        LabelledPath(counted.confidence, counted.result.answer == "36")
        for vote in _votes(2, 1200, telling=0.15)
        for counted in [counting.count(vote.ballots, found.ask, reason=StopReason.EXHAUSTED)]
    ]
    assert fit_of_table(told, ()).ece < 0.06


def test_likes_alone_never_gain_but_still_tell_what_a_path_is_worth() -> None:
    found = learned(ASK, _votes(3, 600, telling=0.15, by="user"))
    assert found.gained == 0  # of another answer than the disliked one nothing is known
    assert found.after.log_loss < found.before.log_loss


@pytest.mark.parametrize("seed", range(3))
def test_figures_that_tell_nothing_change_nothing_or_are_refused(seed: int) -> None:
    found = learned(ASK, _votes(seed, 400, telling=0.0))
    assert found.refused is not None or found.gained >= found.lost


def test_weights_that_lose_votes_are_refused() -> None:
    learnt, judged = halves(_votes(5, 400, telling=0.2))
    rng = random.Random(6)
    unlike = [
        JudgedVote(vote.request_id, _vote(rng, 0, telling=-0.2).ballots, vote.answer, None, "36") for vote in judged
    ]
    found = learned(ASK, [*learnt, *unlike])
    assert found.refused is not None
    assert "log loss" in found.refused or "lost" in found.refused


def test_weights_by_which_answers_would_be_surer_than_they_are_right_are_refused() -> None:
    """Paths say of themselves what they did, and go together where they did not: nothing is wrong with their table."""
    learnt, judged = halves(_votes(5, 800, telling=0.15))
    rng = random.Random(6)
    alike = []
    for vote in judged:
        is_right = rng.random() < 0.45
        said = (min(0.99, max(0.01, rng.gauss(0.65 if is_right else 0.35, 0.12))) for _ in range(5))
        answer = "36" if is_right else "37"
        ballots = (Ballot(sample_index=at, answer=answer, mean_logprob=math.log(each)) for at, each in enumerate(said))
        alike.append(JudgedVote(vote.request_id, tuple(ballots), answer, None, "36"))
    found = learned(replace(ASK, calibration=(0.5, 0.5)), [*learnt, *alike])
    assert found.after.log_loss < found.before.log_loss
    assert (found.gained, found.lost) == (0, 0)
    assert found.told_after.log_loss > found.told_before.log_loss
    assert "confidence" in str(found.refused)


def test_few_votes_are_too_few() -> None:
    assert "too few" in str(learned(ASK, _votes(7, 40, telling=0.2)).refused)
    assert "too few" in str(learned(ASK, []).refused)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=60))
def test_a_table_rises_and_stays_within_what_was_seen(drawn: list[tuple[float, bool]]) -> None:
    paths = [LabelledPath(score, is_right) for score, is_right in drawn]
    table = fitted(paths)
    if not paths:
        assert table == ()
        return
    assert list(table) == sorted(table)
    assert all(-1e-9 <= point <= 1 + 1e-9 for point in table)
    weights = vote_weights(table, 3)
    assert all(0.05 <= weight <= 1 for weight in weights)
    assert fit_of_table(paths, table).brier <= 1


def test_equal_figures_are_worth_one_probability_whatever_came_of_them() -> None:
    """Figures that a model states are few and round: what is right half of the time at each of them is worth a half at each."""
    tossed = [LabelledPath(score, is_right) for score in (0.8, 0.9) for is_right in (True, False) * 50]
    assert fitted(tossed) == pytest.approx([0.5] * 21)
    sure = [LabelledPath(0.9, is_right, weight) for is_right, weight in ((True, 30.0), (False, 10.0))]
    assert fitted([*tossed, *sure])[18] == pytest.approx((50 + 30 + 5 * 130 / 240) / (100 + 40 + 5))


def test_thin_evidence_weighs_all_votes_alike() -> None:
    table = fitted([LabelledPath(0.9, True), LabelledPath(0.2, False), LabelledPath(0.8, True)])
    assert all(abs(point - 2 / 3) < 0.15 for point in table)
    assert fit_of_table([], table).log_loss == 0
    assert set(vote_weights((0.5, 0.5), 2)) == {1.0}


def test_paths_that_say_the_same_count_as_fewer() -> None:
    rng = random.Random(8)
    independent = [[LabelledPath(0.5, rng.random() < 0.5) for _ in range(8)] for _ in range(100)]
    alike = [[LabelledPath(0.5, number % 2 == 0)] * 8 for number in range(100)]
    assert correlation(independent) < 0.05
    assert correlation(alike) == 1.0
    assert math.isclose(sum(path.weight for path in discounted(alike)), 100)
    assert sum(path.weight for path in discounted(independent)) > 500
    assert correlation([]) == correlation([[LabelledPath(0.5, True)]]) == 0.0


def test_a_thumbs_down_says_nothing_of_other_answers() -> None:
    ballots = tuple(
        Ballot(sample_index=index, answer=answer, mean_logprob=-0.1)
        for index, answer in enumerate(["1", "1", "2", None])
    )
    liked, disliked, unjudged = (JudgedVote("r", ballots, "1", reward) for reward in (1.0, 0.0, None))
    assert [path.is_right for path in paths_of([liked])[0]] == [True, True, False]
    assert [path.is_right for path in paths_of([disliked])[0]] == [False, False]
    assert paths_of([unjudged]) == [[]]
    corrected = JudgedVote("r", ballots, "1", 0.0, "2.0")
    assert [path.is_right for path in paths_of([corrected])[0]] == [False, False, True]


def test_a_vote_is_weighed_by_what_its_path_says_of_itself() -> None:
    ask = made.ask(weighing="learned", vote_weights=(0.0, 0.5, 1.0))
    stated = Ballot(sample_index=0, answer="1", probability=0.75, mean_logprob=-5.0)
    assert said_of_itself(stated) == 0.75
    assert weight(stated, ask) == 0.75
    assert math.isclose(weight(Ballot(sample_index=0, answer="1", mean_logprob=math.log(0.25)), ask), 0.25)
    assert weight(Ballot(sample_index=0, answer="1"), ask) == 0.5
    assert weight(stated, made.ask(weighing="learned")) == 1.0


def _clear_votes(rng: random.Random, num: int) -> list[tuple[float, bool]]:
    """Agreements, and whether each answer is wrong: the clearer the vote, the more often it is right."""
    agreements = [rng.choice([5, 6, 7, 8, 9, 10, 10]) / 10 for _ in range(num)]
    return [(agreement, rng.random() >= agreement) for agreement in agreements]


def test_the_share_of_wrong_answers_is_bounded_as_often_as_is_said_and_most_are_served() -> None:
    # Of those served by a quorum of 1, 0.9, 0.8 and 0.7, none, 1 in 30, 3 in 40 and 6 in 50 are wrong: 0.8 is the lowest within
    # 11 %, and answers 4 of 7.
    is_bounded = {quorum / 40: quorum > 28 for quorum in range(41)}
    held = served = 0
    for seed in range(100):
        found = lowest_quorum(_clear_votes(random.Random(seed), 4500), at_most=0.11, risk=0.05)
        assert found.quorum is not None
        held += is_bounded[found.quorum]
        served += found.share_served >= 0.8 * 4 / 7
    assert held >= 95
    assert served >= 95


def test_a_bound_that_is_looked_for_again_and_again_is_wrong_no_more_often_than_its_risk_says() -> None:
    ever_wrong = 0
    for seed in range(60):  # 3 in 40 are wrong of those that a quorum of 0.8 serves
        votes = _clear_votes(random.Random(seed), 3000)
        looks = (votes[:number] for number in range(40, 3001, 80))
        quorums = [lowest_quorum(judged, at_most=0.074, risk=0.2).quorum for judged in looks]
        ever_wrong += any(quorum is not None and quorum <= 0.8 for quorum in quorums)
    assert ever_wrong <= 12


def test_no_bound_is_claimed_without_evidence() -> None:
    assert bound(ASK, [], at_most=0.1, risk=0.05).quorum is None
    assert lowest_quorum(_clear_votes(random.Random(1), 20), at_most=0.02, risk=0.05).quorum is None


def test_a_quorum_is_one_of_the_votes_that_were_judged() -> None:
    ballots = tuple(Ballot(sample_index=index, answer="1" if index else "2") for index in range(5))
    votes = [JudgedVote(f"r{number}", ballots, "1", 1.0) for number in range(60)]
    found = bound(ASK, votes, at_most=0.2, risk=0.05)
    assert (found.num_judged, found.num_served, found.num_wrong, found.quorum) == (60, 60, 0, 0.0)
    unanimous_only = bound(
        ASK, [*votes, *(JudgedVote("w", ballots, "1", 0.0) for _ in range(60))], at_most=0.2, risk=0.05
    )
    assert unanimous_only.quorum is None
    ask = with_quorum(made.ask(params={"stop_confidence": 0.9}), 0.9, 0.2)
    assert (ask.voting, ask.params) == ("quorum", {"stop_confidence": 0.9, "quorum": 0.9, "at_most_wrong": 0.2})
    assert counting.count(ballots, ask, reason=StopReason.EXHAUSTED).result.answer is None
