"""When two answers are the same vote: `EQUIVALENCES`, a function a rule.

A rule gives each answer of a step the label of its cluster, "" to one that says nothing. It sees the answers together, in
launch order, and depends on nothing else, so a prefix of a vote is judged by its own answers. Labels are for counting and
comparing only; what is shown is an answer as a path wrote it.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial

from conclave.domain.criticism import by_blame
from conclave.domain.equivalence.clusters import short_answer
from conclave.domain.equivalence.lines import line_result, plan
from schemas.values import Ask, Wording

Equivalence = Callable[[Sequence[str]], Sequence[str]]


def verbatim(answers: Sequence[str]) -> list[str]:
    """A cluster for each text: for what must come back as it was written, such as a plan."""
    return [answer.strip() for answer in answers]


# Rules that read a model's words: those of the ask's form.
WORDED: Mapping[str, Callable[[Sequence[str], Wording], Sequence[str]]] = {"blame": by_blame, "plan": plan}

EQUIVALENCES: dict[str, Equivalence] = {
    "short_answer": short_answer,  # numbers, quantities, formulas and words, however they are written
    "math": short_answer,  # and formulas that a judge finds to be the same: see judged.py
    "verbatim": verbatim,
    "line_result": line_result,  # lines of a calculation: what they come to, however it was worked out
    "blame": partial(by_blame, words=Wording()),  # verdicts of critics: the step that they blame
    "plan": partial(
        plan, words=Wording()
    ),  # splits into parts: their lines, but for case, spacing and what is said around them
}


def rule_of(ask: Ask) -> Equivalence:
    """The rule that an ask names, in the words of its form; always the same function for the same ones."""
    return _worded(ask.equivalence, ask.words) if ask.equivalence in WORDED else EQUIVALENCES[ask.equivalence]


@lru_cache(maxsize=64)
def _worded(name: str, words: Wording) -> Equivalence:
    rule = WORDED[name]
    return lambda answers: rule(answers, words)


def are_same(one: str, other: str) -> bool:
    """True when two short answers are the same vote where only they are cast."""
    label, of_other = short_answer([one, other])
    return label == of_other != ""
