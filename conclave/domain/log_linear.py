"""What a path is worth by several of its own figures at once: a weight whose logarithm is linear in them.

One figure tells little where several together tell much: of two paths that are as likely, the one is unsure in one place and
the other a little everywhere. Coefficients are a policy's parameters, fitted to recorded samples of its model and form
(conclave.domain.vote_learning.path_evidence); of another model they say nothing.
"""

import math
from collections.abc import Callable, Mapping

from conclave.domain.params import Param, Params, number
from schemas.values import Ask, Ballot

_COEFFICIENT = Param(0.0, -1000.0, 1000.0)


def _path_logprob(ballot: Ballot) -> float | None:
    """The log probability of all of the path's tokens: of one with several turns, as if all were as likely as those that answer."""
    return None if ballot.mean_logprob is None else ballot.mean_logprob * ballot.tokens_out


def _hundred_tokens(ballot: Ballot) -> float | None:
    return ballot.tokens_out / 100 if ballot.tokens_out else None


# The figures, by the parameter that is their coefficient: log probabilities in nats, length in hundreds of tokens.
FIGURES: Mapping[str, Callable[[Ballot], float | None]] = {
    "per_path_logprob": _path_logprob,
    "per_lowest_group_logprob": lambda ballot: ballot.lowest_group_logprob,
    "per_tail_logprob": lambda ballot: ballot.tail_logprob,
    "per_hundred_tokens": _hundred_tokens,
}

PARAMS: Params = {
    "log_weight": Param(0.0, -1000.0, 1000.0),  # of a path whose figures are all 0
    **dict.fromkeys(FIGURES, _COEFFICIENT),
    "unsaid_weight": Param(0.5, 0.0, 1.0),  # of a path that lacks one of the figures that count
}


def weigh(ballot: Ballot, ask: Ask) -> float:
    """min(1, exp(log_weight + Σ coefficient · figure)); `unsaid_weight` where a figure that counts is not known."""
    exponent = number(ask.params, PARAMS, "log_weight")
    for name, figure in FIGURES.items():
        coefficient = number(ask.params, PARAMS, name)
        if coefficient:
            known = figure(ballot)
            if known is None:
                return number(ask.params, PARAMS, "unsaid_weight")
            exponent += coefficient * known
    return math.exp(min(exponent, 0.0))
