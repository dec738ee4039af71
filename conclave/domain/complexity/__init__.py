"""How hard a question looks: `ESTIMATORS`, a function each, from its words alone.

An estimate is a number of points, about one for each step that the question wants, 0 at least. How much is thought follows from
it by a policy's `effort`: max(least, round(per_point * points)), `most` at most.

The row `learned` is what the record taught (`needs.py`, from `outcomes.py` by `fitting.py`), and the first row until it has.
"""

import re
from collections.abc import Callable

from msgspec.structs import replace

from conclave.domain.complexity.needs import Needs
from schemas.values import Ask, Effort, Policy

_MAX_CHARS = 16_384
_OPERATORS = re.compile(
    r"(?<=[\d)\s])[-+*/×÷^=%](?=[\s(\d])"
    r"|\b(?:times|twice|thrice|double[ds]?|triple[ds]?|half|halves|third|quarter|percent|per|each|every|split|shared?|divided?"
    r"|equally|more|fewer|less|plus|minus|add(?:ed|s)?|gives?|gave|gets?|got|buys?|bought|sells?|sold|spends?|spent|takes?|took"
    r"|loses?|lost|wins?|won|earns?|pays?|left over|total|altogether|average|difference|product|sum|ratio)\b",
    re.I,
)
_CLAUSES = re.compile(
    r"[.;?!]+(?=\s|$)|,\s+(?:and|but|then|which|who|so)\b|\b(?:if|when|after|before|while|then|because|unless)\b", re.I
)
_NUMBERS = re.compile(r"\d+(?:[.,]\d+)*")
_BRACKETS = {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}


def clauses(question: str) -> float:
    """Operators, half of the clauses beyond the first, and the depth of brackets."""
    text = question[:_MAX_CHARS]
    operators = len(_OPERATORS.findall(text))
    num_clauses = max(1, len(_CLAUSES.findall(text)))
    return operators + (num_clauses - 1) / 2 + _depth(text)


def numbers(question: str) -> float:
    """The numbers that have to be brought together: one less than there are."""
    return float(max(0, len(_NUMBERS.findall(question[:_MAX_CHARS])) - 1))


def length(question: str) -> float:
    """A point for every twelve words."""
    return len(question[:_MAX_CHARS].split()) / 12


ESTIMATORS: dict[str, Callable[[str], float]] = {
    "clauses": clauses,
    "numbers": numbers,
    "length": length,
    "learned": clauses,  # until something is: see `estimate`
}


def estimate(estimator: str, question: str, needs: Needs | None = None) -> tuple[float, str]:
    """The points that a row gives, and whose they are in words. Raises: KeyError for a name that no row has."""
    if estimator != "learned":
        return ESTIMATORS[estimator](question), estimator
    if needs is None:
        return ESTIMATORS[estimator](question), "clauses, as nothing is learned"
    return needs.points(question), f"learned@{needs.digest}"


def figure(effort: Effort, points: float) -> int:
    """How many rounds or samples so many points are worth."""
    return min(max(effort.least, round(effort.per_point * points)), effort.most)


def fitted(policy: Policy, question: str, needs: Needs | None = None) -> tuple[Policy, dict[str, str]]:
    """The policy with the effort that the question wants put into its parameters and asks, and the reason in words.

    Its digest stays: it is one policy, whatever it is asked.
    """
    effort = policy.effort
    if effort is None or effort.estimator not in ESTIMATORS:
        return policy, {}
    points, by = estimate(effort.estimator, question, needs)
    number = figure(effort, points)
    params = {**policy.params, **dict.fromkeys(effort.params, float(number))}
    asks = {name: _with_samples(ask, number) if name in effort.samples_of else ask for name, ask in policy.asks.items()}
    return replace(policy, params=params, asks=asks), {"effort": f"{number}, for {points:.4g} points by {by}"}


def _with_samples(ask: Ask, number: int) -> Ask:
    return replace(ask, max_samples=number)


def _depth(text: str) -> int:
    deepest = depth = 0
    for character in text:
        depth = max(0, depth + _BRACKETS.get(character, 0))
        deepest = max(deepest, depth)
    return deepest
