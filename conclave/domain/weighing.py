"""What a ballot weighs: `WEIGHINGS`, a function and a row each. It sees one ballot, so a ballot weighs the same in every prefix.

A weight is from 0 to 1, which the bound on sampling relies on. Whether weighing helps is for a replay to say: a figure that tells
right from wrong across questions may tell nothing within one, and only there a vote uses it (conclave.domain.discrimination).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from conclave.domain import log_linear
from conclave.domain.calibration import calibrated
from conclave.domain.params import Param, Params, number
from schemas.values import Ask, Ballot

# Of a ballot whose path says nothing of what it is weighed by: half a vote.
_UNSAID = 0.5

_HALF: Params = {"half_weight_tokens": Param(2000, 1, 10_000_000)}
_TEMPERATURE: Params = {"weight_temperature": Param(0.2, 0.01, 100.0)}


@dataclass(frozen=True, slots=True)
class Weighing:
    """A row of `WEIGHINGS`. `figure` is what it goes by, 0 to 1 and None where a path says nothing of it; none: by nothing."""

    weigh: Callable[[Ballot, Ask], float]
    params: Params = field(default_factory=dict)
    figure: Callable[[Ballot], float | None] | None = None


def alike(ballot: Ballot, ask: Ask) -> float:
    """One vote a path: self-consistency, arXiv 2203.11171."""
    return 1.0


def likelihood(ballot: Ballot) -> float | None:
    """The geometric mean probability of the path's tokens (the normalised weighted sum of arXiv 2203.11171)."""
    return _probability(ballot.mean_logprob)


def stated(ballot: Ballot) -> float | None:
    """The probability that the path gives its answer itself: confidence-informed self-consistency, arXiv 2502.06233."""
    return ballot.probability


def answer_likelihood(ballot: Ballot) -> float | None:
    """The geometric mean probability of the tokens of the answer alone."""
    return _probability(ballot.answer_logprob)


def lowest_group(ballot: Ballot) -> float | None:
    """The same of the tokens in a row that are least sure: lowest group confidence, arXiv 2508.15260."""
    return _probability(ballot.lowest_group_logprob)


def tail(ballot: Ballot) -> float | None:
    """The same of the path's last tokens: tail confidence, arXiv 2508.15260."""
    return _probability(ballot.tail_logprob)


def brevity(ballot: Ballot) -> float | None:
    """1 / (1 + thousands of tokens): of paths on one question the shorter ones are more often right."""
    return 1.0 / (1.0 + ballot.tokens_out / 1000) if ballot.tokens_out else None


def _brief(ballot: Ballot, ask: Ask) -> float:
    """A path of `half_weight_tokens` has half a vote; of much longer ones, a vote in inverse proportion to their length."""
    half = number(ask.params, _HALF, "half_weight_tokens")
    return half / (half + ballot.tokens_out) if ballot.tokens_out else _UNSAID


def said_of_itself(ballot: Ballot) -> float | None:
    """What a path says of itself: the probability that it states, else its tokens' likelihood; None for neither."""
    return likelihood(ballot) if ballot.probability is None else ballot.probability


def learned(ballot: Ballot, ask: Ask) -> float:
    """What the ask's table says that a path which says so much of itself is worth; one vote where there is no table.

    The table is learned from feedback: see conclave.domain.vote_learning.
    """
    if len(ask.vote_weights) < 2:
        return 1.0
    said = said_of_itself(ballot)
    return _UNSAID if said is None else calibrated(said, ask.vote_weights)


def _plain(figure: Callable[[Ballot], float | None]) -> Weighing:
    """The figure itself as weight."""

    def weigh(ballot: Ballot, ask: Ask) -> float:
        known = figure(ballot)
        return _UNSAID if known is None else known

    return Weighing(weigh, figure=figure)


def _softmax(figure: Callable[[Ballot], float | None]) -> Weighing:
    """exp(figure / temperature), of which the softmax over a vote's paths is a multiple: CISC, arXiv 2502.06233, equation 1.

    Scaled so that a figure of 1 weighs 1. The lower the temperature, the more the surest paths decide.
    """

    def weigh(ballot: Ballot, ask: Ask) -> float:
        known = figure(ballot)
        return math.exp(
            ((_UNSAID if known is None else known) - 1.0) / number(ask.params, _TEMPERATURE, "weight_temperature")
        )

    return Weighing(weigh, _TEMPERATURE, figure)


WEIGHINGS: dict[str, Weighing] = {
    "alike": Weighing(alike),
    "likelihood": _plain(likelihood),
    "stated": _plain(stated),
    "answer_likelihood": _plain(answer_likelihood),
    "lowest_group": _plain(lowest_group),
    "tail": _plain(tail),
    "brevity": Weighing(_brief, _HALF, brevity),
    "softmax_likelihood": _softmax(likelihood),
    "softmax_stated": _softmax(stated),
    "softmax_answer_likelihood": _softmax(answer_likelihood),
    "softmax_lowest_group": _softmax(lowest_group),
    "softmax_tail": _softmax(tail),
    "learned": Weighing(learned, figure=said_of_itself),
    "log_linear": Weighing(log_linear.weigh, log_linear.PARAMS),
}


def weight(ballot: Ballot, ask: Ask) -> float:
    """What a ballot weighs by the ask's rule, 0 to 1."""
    return min(max(WEIGHINGS[ask.weighing].weigh(ballot, ask), 0.0), 1.0)


def _probability(logprob: float | None) -> float | None:
    return None if logprob is None else math.exp(logprob)
