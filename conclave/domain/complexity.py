"""How hard a question looks: `ESTIMATORS`, a function each, from its words alone.

An estimate is a number of points, about one for each step that the question wants, 0 at least. How much is thought follows from
it by a policy's `effort`: max(least, round(per_point * points)), `most` at most.
"""

import re
from collections.abc import Callable

from msgspec.structs import replace

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
}


def figure(effort: Effort, question: str) -> int:
    """How many rounds or samples a question gets."""
    points = ESTIMATORS[effort.estimator](question)
    return min(max(effort.least, round(effort.per_point * points)), effort.most)


def fitted(policy: Policy, question: str) -> tuple[Policy, dict[str, str]]:
    """The policy with the effort that the question wants put into its parameters and asks, and the reason in words.

    Its digest stays: it is one policy, whatever it is asked.
    """
    effort = policy.effort
    if effort is None or effort.estimator not in ESTIMATORS:
        return policy, {}
    number = figure(effort, question)
    params = {**policy.params, **dict.fromkeys(effort.params, float(number))}
    asks = {name: _with_samples(ask, number) if name in effort.samples_of else ask for name, ask in policy.asks.items()}
    points = ESTIMATORS[effort.estimator](question)
    return replace(policy, params=params, asks=asks), {
        "effort": f"{number}, for {points:g} points by {effort.estimator}"
    }


def _with_samples(ask: Ask, number: int) -> Ask:
    return replace(ask, max_samples=number)


def _depth(text: str) -> int:
    deepest = depth = 0
    for character in text:
        depth = max(0, depth + _BRACKETS.get(character, 0))
        deepest = max(deepest, depth)
    return deepest
