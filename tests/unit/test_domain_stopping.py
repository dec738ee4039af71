from collections.abc import Sequence
from fractions import Fraction
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from conclave.domain import stopping
from conclave.domain.equivalence import EQUIVALENCES
from conclave.domain.stopping import (
    STOPPING_RULES,
    Stop,
    bound,
    leader_confidence,
    shortest_stop,
)
from conclave.domain.stopping.bayes_factor import factor_of_leading, probability_of_leading
from conclave.domain.stopping.early_stopping import window
from conclave.domain.stopping.likelihood_ratio import mixture_ratio
from conclave.domain.voting import VOTING_RULES
from conclave.testing import events as made
from conclave.testing.rules import next_wave, num_needed
from schemas.values import MAX_SAMPLES, Ask, Ballot, StopReason

ANSWERS = ["a", "b", "c", ""]
answer_lists = st.lists(st.sampled_from(ANSWERS) | st.just("a"), max_size=24)
asks = st.builds(
    Ask,
    form=st.just("any"),
    stopping=st.sampled_from(sorted(STOPPING_RULES)),
    params=st.fixed_dictionaries(
        {
            "stop_confidence": st.sampled_from([0.0, 0.5, 0.8, 0.95, 0.99, 1.0]),
            "window": st.integers(1, 7).map(float),
            "lead": st.integers(1, 6).map(float),
            "contested_lead": st.integers(0, 8).map(float),
            "first": st.integers(1, 5).map(float),
            "share": st.sampled_from([0.0, 0.5, 0.75, 1.0]),
            "p1": st.sampled_from([0.6, 0.8, 0.95]),
            "alpha": st.sampled_from([0.01, 0.1, 0.4]),
            "factor": st.sampled_from([1.0, 5.0, 30.0]),
            "concentration": st.sampled_from([0.1, 0.3, 1.0]),
            "bound": st.sampled_from([0.0, 1.0]),
        }
    ),
    max_samples=st.integers(1, 64),
)

# The rules alone, without the bound that ends sampling whatever they say.
open_asks = asks.filter(lambda ask: ask.stopping != "fixed" and not ask.params["bound"])
bound_asks = asks.filter(lambda ask: ask.stopping != "early_stopping" and ask.params["bound"] == 1)


def one_vote(answers: Sequence[str]) -> list[Sequence[str]]:
    """The vote on answers that differ where their texts do."""
    return [EQUIVALENCES["verbatim"](answers)]


def stop_of(answers: list[str], ask: Ask) -> int | None:
    """How many samples there are when sampling ends."""
    stop = shortest_stop(answers, ask, one_vote)
    return stop.length if stop else None


def ask(stopping: str, max_samples: int = 16, **params: float) -> Ask:
    return Ask(form="any", stopping=stopping, max_samples=max_samples, params=params)


@pytest.mark.parametrize(("leader", "runner_up"), [(1, 0), (4, 0), (5, 1), (3, 3), (7, 2), (20, 19), (0, 0)])
def test_leader_confidence_is_the_beta_posterior_integrated_term_by_term(leader: int, runner_up: int) -> None:
    # P(p > 1/2) for Beta(a+1, b+1): x^a (1-x)^b expanded and integrated from 1/2 to 1, over the same from 0 to 1.
    def integral(low: Fraction) -> Fraction:
        terms = (
            (-1) ** i * comb(runner_up, i) * (1 - low ** (leader + i + 1)) / (leader + i + 1)
            for i in range(runner_up + 1)
        )
        return sum(terms, Fraction(0))

    expected = integral(Fraction(1, 2)) / integral(Fraction(0)) if leader else 0
    assert leader_confidence(leader, runner_up) == float(expected)


def test_a_unanimous_first_wave_of_four_satisfies_the_default_policy() -> None:
    assert [next_wave(["a"] * seen, made.ask()) for seen in range(5)] == [4, 3, 2, 1, 0]


def test_one_dissent_costs_the_default_policy_more_samples() -> None:
    assert next_wave(["a", "b", "a", "a"], made.ask()) == 3
    assert next_wave(["a", "a", "a", ""], made.ask()) == 1


def test_early_stopping_takes_windows_one_after_the_other() -> None:
    rule = ask("early_stopping", window=3)
    assert [num_needed(answers, rule) for answers in ([], ["a"], ["a", "b"], ["a", "b", "b"], ["b", "b", ""])] == [
        3,
        2,
        4,
        3,
        3,
    ]
    # Three in a row, but across two windows.
    assert stop_of(["a", "b", "b", "b", "c", "c"], rule) is None
    assert stop_of(["a", "b", "b", "c", "c", "c"], rule) == 6


def test_ahead_by_k_counts_the_lead_over_the_runner_up() -> None:
    assert stop_of(["a", "b", "a", "a", "a", "a"], ask("ahead_by_k", lead=3)) == 5


def test_a_contested_lead_is_larger_than_one_that_nobody_contests() -> None:
    rule = ask("ahead_by_k", lead=2, contested_lead=4)
    assert stop_of(["a", "a", "a", "a"], rule) == 2
    assert stop_of(["a", "b", "a", "a", "a", "a", "a"], rule) == 6


def test_doubling_judges_at_4_8_and_16_samples_only() -> None:
    rule = ask("doubling", max_samples=64, share=0.75)
    assert [num_needed(answers, rule) for answers in ([], ["a"], ["a", "b"], ["a", "b", "c"], ["a"] * 3 + ["b"])] == [
        4, 3, 2, 5, 0,
    ]  # fmt: skip
    assert stop_of(["a", "b", "a", "c", *"aaaa"], rule) == 8
    assert num_needed([""] * 4, rule) == 12  # of 8 the four others can be three quarters no more


def test_a_fixed_number_is_drawn_whatever_the_answers_say() -> None:
    rule = ask("fixed", max_samples=8)
    assert (next_wave([], rule), next_wave(["a"] * 8, rule), shortest_stop(["a"] * 8, rule, one_vote)) == (
        8,
        0,
        None,
    )


@given(answer_lists, open_asks | bound_asks)
def test_the_shortest_stop_is_the_first_satisfied_prefix(answers: list[str], ask: Ask) -> None:
    satisfied = [length for length in range(len(answers) + 1) if num_needed(answers[:length], ask) == 0]
    assert stop_of(answers, ask) == (satisfied[0] if satisfied else None)


@given(answer_lists, open_asks, st.data())
def test_no_continuation_satisfies_a_rule_before_its_deficit_is_met(
    answers: list[str], ask: Ask, data: st.DataObject
) -> None:
    needed = min(num_needed(answers, ask), 40)
    further = data.draw(st.lists(st.sampled_from(ANSWERS), min_size=0, max_size=max(0, needed - 1)))
    assert needed == 0 or num_needed([*answers, *further], ask) > 0


@given(answer_lists, open_asks)
def test_a_deficit_is_met_when_all_further_votes_go_to_the_leader(answers: list[str], ask: Ask) -> None:
    needed = num_needed(answers, ask)
    if ask.stopping == "early_stopping":
        open_window = answers[len(answers) - len(answers) % window(ask) :]
        leader = next((answer for answer in open_window if answer), "a")
    else:
        leader = max("abc", key=answers.count)
    if needed < MAX_SAMPLES:  # more can't be launched: the rule can't be satisfied any more
        assert num_needed([*answers, *[leader] * needed], ask) == 0


@given(answer_lists, asks)
def test_a_wave_is_never_more_than_the_policy_allows(answers: list[str], ask: Ask) -> None:
    assert 0 <= next_wave(answers, ask) <= max(0, ask.max_samples - len(answers))


@given(answer_lists)
def test_a_sample_without_an_answer_votes_for_nobody(answers: list[str]) -> None:
    assert stopping.top_two(answers) == stopping.top_two([answer for answer in answers if answer])


@pytest.mark.parametrize(("leader", "runner_up"), [(1, 0), (3, 1), (5, 5), (12, 7)])
def test_the_mixture_ratio_is_the_average_over_all_probabilities_above_a_half(leader: int, runner_up: int) -> None:
    steps = 20_000
    points = (0.5 + (step + 0.5) / (2 * steps) for step in range(steps))
    average = sum((2 * p) ** leader * (2 * (1 - p)) ** runner_up for p in points) / steps
    assert mixture_ratio(leader, runner_up) == pytest.approx(average, rel=1e-6)


def test_sprt_waits_for_walds_upper_boundary() -> None:
    rule = ask("sprt", max_samples=40, p1=0.8, alpha=0.05, beta=0.2)  # log 16 / log 1.6 = 5.9
    assert num_needed([], rule) == 6
    assert num_needed(["a"] * 6, rule) == 0
    assert num_needed(["a"] * 6 + ["b"], rule) == 2  # log 16 + log 2.5 over log 1.6 = 7.8


@pytest.mark.parametrize(
    ("votes", "concentration", "probability"),
    # Of two, P(Beta(a, b) > 1/2); of three alike, a third.
    [((3,), 1.0, 1 - 2**-3), ((1,), 1.0, 0.5), ((1, 1), 1.0, 1 / 3), ((2, 1), 1.0, 1 - 2 * 0.25 + 1 / 9)],
)
def test_the_probability_of_leading_is_that_of_the_largest_dirichlet_share(
    votes: tuple[int, ...], concentration: float, probability: float
) -> None:
    assert probability_of_leading(votes, concentration) == pytest.approx(probability, abs=2e-4)


def test_a_bayes_factor_heeds_all_answers_and_not_the_first_two_only() -> None:
    assert factor_of_leading((6, 4, 4), 0.3) < factor_of_leading((6, 4), 0.3)


@given(answer_lists, bound_asks, st.data())
def test_what_the_bound_spares_could_not_have_changed_the_winner(
    answers: list[str], ask: Ask, data: st.DataObject
) -> None:
    stop = shortest_stop(answers, ask, one_vote)
    if stop is None or stop.reason is StopReason.CONFIDENT:
        return
    seen = answers[: stop.length]
    num_left = ask.max_samples - stop.length
    assert num_left > 0
    rest = data.draw(st.lists(st.sampled_from(ANSWERS), min_size=num_left, max_size=num_left))
    assert max("abc", key=[*seen, *rest].count) == max("abc", key=seen.count)
    assert [*seen, *rest].count(max("abc", key=seen.count)) > sorted(map([*seen, *rest].count, "abc"))[-2]


@given(
    st.lists(st.sampled_from(ANSWERS) | st.just("a"), min_size=2, max_size=12),
    st.integers(2, 12),
    st.sampled_from([0.4, 0.5, 0.55, 0.6, 0.75, 1.0]),
)
def test_what_the_bound_spares_could_not_have_changed_whether_there_is_an_answer(
    answers: list[str], max_samples: int, share: float
) -> None:
    params = {"bound": 1.0, "quorum": share}
    ask = Ask(form="any", stopping="fixed", voting="quorum", params=params, max_samples=max_samples)
    stop = shortest_stop(answers, ask, one_vote)
    if stop is None or stop.reason is StopReason.CONFIDENT:
        return
    seen = answers[: stop.length]
    for each in ["", *ANSWERS, "none of these"]:
        rest = [each] * (max_samples - stop.length)
        assert answer_of([*seen, *rest], ask) == answer_of(seen, ask)


def test_a_leader_that_cannot_be_caught_is_no_answer_yet_where_a_vote_has_a_quorum() -> None:
    without = Ask(form="any", stopping="fixed", max_samples=11, params={"bound": 1.0, "quorum": 0.5})
    scattered = [*"aaaa", *"bcdef"]
    assert stopping.shortest_stop(scattered, without, one_vote) == Stop(9, StopReason.SETTLED)
    with_quorum = replace(without, voting="quorum")
    assert shortest_stop(scattered, with_quorum, one_vote) is None
    assert (answer_of(scattered, with_quorum), answer_of([*scattered, "a", "a"], with_quorum)) == (None, "a")
    assert shortest_stop([*"aaaa", *"bcdefghi"], with_quorum, one_vote) == Stop(
        10, StopReason.SETTLED
    )  # two short of six


def answer_of(answers: Sequence[str], ask: Ask) -> str | None:
    """What a vote on answers that differ where their texts do comes to."""
    ballots = [Ballot(sample_index=at, answer=answer or None) for at, answer in enumerate(answers)]
    return VOTING_RULES[ask.voting].decide(ballots, EQUIVALENCES["verbatim"](answers), ask).answer


@given(answer_lists, bound_asks)
def test_the_bound_never_asks_for_more_than_the_rule(answers: list[str], ask: Ask) -> None:
    without = Ask(form="any", stopping=ask.stopping, max_samples=ask.max_samples, params={**ask.params, "bound": 0.0})
    assert num_needed(answers, ask) <= num_needed(answers, without)


def test_a_lead_of_weights_is_safe_once_what_is_left_weighs_less() -> None:
    settled = Ask(form="any", stopping="fixed", max_samples=6, params={"bound": 1.0})
    assert shortest_stop(["a", "a", "b", "a"], settled, one_vote) is None
    assert shortest_stop(["a", "a", "a", "b", "a"], settled, one_vote) == Stop(5, StopReason.SETTLED)
    assert shortest_stop(["a", "a", "a", "a"], settled, one_vote) == Stop(4, StopReason.SETTLED)
    assert shortest_stop(["a", "a", "a", "a"], settled, one_vote, [0.5, 0.5, 0.5, 0.5]) is None
    assert bound.num_needed(["a", "a", "a", "a"], [0.5] * 4, settled) == 1


@given(st.lists(st.sampled_from("abc"), max_size=12), st.floats(0.5, 0.99))
def test_evidence_of_which_a_vote_is_one_is_adaptive_consistency(answers: list[str], confidence: float) -> None:
    counted = ask("adaptive_consistency", max_samples=40, stop_confidence=confidence, bound=0.0)
    weighed = ask("evidence", max_samples=40, stop_confidence=confidence, votes_of_evidence=1.0, bound=0.0)
    leader, runner_up = stopping.top_two(answers)
    if abs(leader_confidence(leader, runner_up) - confidence) > 1e-9:
        assert (num_needed(answers, weighed, [1.0] * len(answers)) == 0) is (num_needed(answers, counted) == 0)


@pytest.mark.parametrize(
    ("weights", "needed"), [([1.0, 1.0], 0), ([0.8, 0.8], 0), ([0.5, 0.5], 1), ([0.9, 0.1], 1), ([0.0, 0.0], 2)]
)
def test_surer_samples_are_more_evidence(weights: list[float], needed: int) -> None:
    rule = ask("evidence", max_samples=40, stop_confidence=0.9, votes_of_evidence=2.0, bound=0.0)
    assert num_needed(["a", "a"], rule, weights) == needed


def test_evidence_against_the_leader_counts_by_its_weight() -> None:
    rule = ask("evidence", max_samples=40, stop_confidence=0.9, votes_of_evidence=2.0, bound=0.0)
    assert num_needed(["a", "a", "b"], rule, [1.0, 1.0, 0.1]) == 0
    assert num_needed(["a", "a", "b"], rule, [1.0, 1.0, 1.0]) > 0
    assert num_needed(["a", "b", "b"], rule, [1.0, 0.25, 0.25]) == num_needed(["a", "b"], rule, [1.0, 0.5])


def test_the_window_that_would_decide_is_waited_for_whatever_the_lead() -> None:
    rule = ask("early_stopping", max_samples=10, window=4)
    assert num_needed(["a", "a", "a", "b"], rule) == 4  # bbbb would make it b
    assert stop_of(["a", "a", "a", "b", "a", "a", "c", "a"], rule) == 8  # only two are left, and a leads by four
