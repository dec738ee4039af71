import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from conclave.domain.counting import count
from conclave.domain.discrimination import discrimination
from conclave.domain.replay import Recording
from conclave.domain.token_confidence import token_confidence
from conclave.domain.weighing import WEIGHINGS, weight
from schemas.values import Ask, Ballot, StopReason

logprobs = st.none() | st.floats(-100.0, 0.0)
ballots = st.builds(
    Ballot,
    sample_index=st.just(0),
    answer=st.just("4"),
    probability=st.none() | st.floats(0.0, 1.0),
    tokens_out=st.integers(0, 2**53),
    mean_logprob=logprobs,
    answer_logprob=logprobs,
    lowest_group_logprob=logprobs,
    tail_logprob=logprobs,
)


def ask(weighing: str, **params: float) -> Ask:
    return Ask(form="any", weighing=weighing, params=params)


@given(ballots, st.sampled_from(sorted(WEIGHINGS)), st.floats(0.01, 100.0))
def test_a_weight_is_from_0_to_1_as_the_bound_on_sampling_relies_on(
    ballot: Ballot, weighing: str, temperature: float
) -> None:
    assert 0.0 <= weight(ballot, ask(weighing, weight_temperature=temperature)) <= 1.0


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_softmax_weights_are_a_multiple_of_the_softmax_over_the_votes_paths(temperature: float) -> None:
    figures = [0.9, 0.6, 0.75, 0.2]
    rule = ask("softmax_stated", weight_temperature=temperature)
    weights = [weight(Ballot(sample_index=0, probability=each), rule) for each in figures]
    exponentials = [math.exp(each / temperature) for each in figures]
    shares = [each / sum(exponentials) for each in exponentials]
    assert [each / sum(weights) for each in weights] == pytest.approx(shares)


def test_a_path_that_says_nothing_of_what_it_is_weighed_by_has_half_a_vote() -> None:
    # Where nothing has been learned yet, `learned` weighs all alike, and `log_linear` by no figure.
    others = ("alike", "learned", "log_linear")
    plain = [name for name in WEIGHINGS if name not in others and not name.startswith("softmax")]
    assert [weight(Ballot(sample_index=0), ask(name)) for name in plain] == [0.5] * 6
    assert weight(Ballot(sample_index=0), ask("softmax_tail", weight_temperature=0.5)) == pytest.approx(math.exp(-1))


@pytest.mark.parametrize(
    ("weighing", "field"),
    [
        ("likelihood", "mean_logprob"), ("answer_likelihood", "answer_logprob"),
        ("lowest_group", "lowest_group_logprob"), ("tail", "tail_logprob"),
    ],
)  # fmt: skip
def test_a_surer_path_outvotes_two_that_are_less_than_half_as_sure(weighing: str, field: str) -> None:
    cast = [
        replace(Ballot(sample_index=at, answer=answer), **{field: math.log(sure)})
        for at, (answer, sure) in enumerate([("5", 0.3), ("4", 0.9), ("5", 0.4)])
    ]
    assert count(cast, ask(weighing), reason=StopReason.EXHAUSTED).result.answer == "4"
    assert count(cast, ask("alike"), reason=StopReason.EXHAUSTED).result.answer == "5"


def test_of_brief_paths_a_vote_counts_in_inverse_proportion_to_their_length() -> None:
    rule = ask("brevity", half_weight_tokens=100)
    weights = [weight(Ballot(sample_index=0, tokens_out=tokens), rule) for tokens in (100, 300, 10_000, 20_000)]
    assert weights[:2] == [0.5, 0.25]
    assert weights[2] / weights[3] == pytest.approx(2.0, rel=0.01)


def test_the_least_sure_group_is_an_eighth_of_the_path_in_a_row() -> None:
    unsure = [-0.1] * 200
    unsure[90:115] = [-2.0] * 25
    figures = token_confidence(unsure)
    assert (figures.lowest_group, figures.tail, figures.answer) == (-2.0, -0.1, None)


@pytest.mark.parametrize(("length", "group"), [(1, 1), (10, 10), (40, 16), (160, 20), (40_000, 2048)])
def test_a_group_has_16_tokens_at_least_and_2048_at_most_and_no_more_than_there_are(length: int, group: int) -> None:
    logprobs = [0.0] * (length - 1) + [-1.0]
    assert token_confidence(logprobs).tail == round(-1.0 / group, 4)


def test_of_a_path_without_log_probabilities_nothing_is_known() -> None:
    figures = token_confidence((), (), text="Answer: 4", answer="4")
    assert (figures.lowest_group, figures.tail, figures.answer) == (None, None, None)


@pytest.mark.parametrize(
    ("pieces", "answer", "mean"),
    [
        (["4 and ", "so ", "Answer", ": ", "12", "5", "."], "125", -4.5),  # tokens 4 and 5 of 0, -1, -2, …
        (["4 ", "is ", "4"], "4", -2.0),  # the last of several
        (["Answer: 4", "2 is"], "42", -0.5),
        (["<think>", "So", " 7"], "7", -2.0),  # tokens around what is said
        (["So ", "seven"], "7", None),  # not as it was read
        (["", ""], "7", None),
    ],
)
def test_the_answers_tokens_are_those_in_which_it_stands_last(
    pieces: Sequence[str], answer: str, mean: float | None
) -> None:
    text = "".join(pieces).removeprefix("<think>")
    logprobs = [-float(at) for at in range(len(pieces))]
    assert token_confidence(logprobs, pieces, text=text, answer=answer).answer == mean


@given(st.lists(st.text(max_size=4), max_size=30), st.text(max_size=3), st.data())
def test_any_text_gives_figures_or_none(pieces: list[str], answer: str, data: st.DataObject) -> None:
    logprobs = data.draw(st.lists(st.floats(-100.0, 0.0), min_size=len(pieces), max_size=len(pieces)))
    text = "".join(pieces)[: data.draw(st.integers(0, 40))]
    figures = token_confidence(logprobs, pieces, text=text, answer=answer)
    for figure in (figures.lowest_group, figures.tail, figures.answer):
        assert figure is None or (-100.0 <= figure <= 0.0)


def questions(right: Sequence[float], wrong: Sequence[float], num_questions: int = 40) -> list[Recording]:
    """Questions on which right and wrong paths state these probabilities."""
    said = [("4", each) for each in right] + [("5", each) for each in wrong]
    cast = tuple(Ballot(sample_index=at, answer=answer, probability=sure) for at, (answer, sure) in enumerate(said))
    return [Recording(str(number), "4.0", cast) for number in range(num_questions)]


def stated(ballot: Ballot) -> float | None:
    return ballot.probability


def test_a_figure_is_recommended_where_it_tells_right_from_wrong_within_questions() -> None:
    found = discrimination(questions([0.9, 0.5], [0.4, 0.6]), stated, Ask(form="any"))
    assert found is not None
    assert (found.value, found.num_questions, found.num_pairs, found.is_recommended) == (0.75, 40, 160, True)


def test_a_figure_that_only_tells_hard_questions_from_easy_ones_is_not_recommended() -> None:
    easy, hard = questions([0.9, 0.9, 0.9], [0.9]), questions([0.2], [0.2, 0.2, 0.2])
    found = discrimination([*easy, *hard], stated, Ask(form="any"))
    assert found is not None
    assert (found.value, found.is_recommended) == (0.5, False)


def test_few_questions_are_not_enough_to_be_sure_of() -> None:
    mixed = [*questions([0.9], [0.4], 3), *questions([0.4], [0.9], 2)]
    found = discrimination(mixed, stated, Ask(form="any"))
    assert found is not None
    assert found.value > 0.5
    assert not found.is_recommended
    assert discrimination(questions([0.9], []), stated, Ask(form="any")) is None
    assert discrimination([], stated, Ask(form="any")) is None
