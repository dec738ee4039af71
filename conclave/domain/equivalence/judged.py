"""Equivalences of which a judge decides what no reading of one answer can: whether two formulas come to the same.

`short_answer` clusters come first; a judge is asked for pairs of formulas that it tells apart, and what it says can only join
clusters. Which pairs are asked, in which order, and what is made of the words is decided here; who answers them is an argument. A
judge is slow and may run out of time, so its word is given once and kept with the ballot (`Ballot.same_as`): whoever counts the
ballots again comes to the same.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

from conclave.domain.equivalence.cleaning import cleaned
from conclave.domain.equivalence.readings import read

Same = Callable[[str, str], bool | None]  # None: it is not known yet

JUDGED = frozenset({"math"})  # rows of EQUIVALENCES
MAX_REPRESENTATIVES = 16  # that an answer is compared with, the earliest; with those beyond it is told apart
MAX_FORMULA_CHARS = 256

FUNCTIONS = frozenset(
    "arccos arcsin arctan cosh sinh tanh coth cos cot csc deg det exp gcd inf ln log max min sec sin sqrt tan lg".split()
)
_COMMANDS = FUNCTIONS | frozenset(
    (
        "frac dfrac tfrac binom infty pi theta alpha beta gamma lambda mu sigma omega phi "
        "cdot times div pm int sum prod lim to partial left right over floor lceil rceil lfloor rfloor"
    ).split()
)
_LETTERS = re.compile(r"(\\?)([A-Za-z]{2,})")
_WORDS_OF_TWO = frozenset("am an as at be by do go he if in is it me my no of on or pm so to up us we".split())
_MARK = re.compile(r"[\\^=+*/()|√π]|\d\s*[A-Za-z]|[A-Za-z]\s*\d|(?<=.)-")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:/\d+)?")
_NAMED = re.compile(r"(?<![\\A-Za-z])[A-Za-z]+\d")  # CO2, v1, x2: a name, and not a product
_OTHER_KINDS = ("date ", "time ", "ratio ", "code ", "base ", "compound ", "long ", "deep ", "either ")


@lru_cache(maxsize=16_384)
def is_formula(answer: str) -> bool:
    """True for what a computer algebra system can be asked about: signs, numbers, variables and known functions, no words."""
    text = cleaned(answer)
    reading = read(answer)
    if not text or len(text) > MAX_FORMULA_CHARS or not _MARK.search(text):
        return False
    if _NAMED.search(text) or reading.unit or reading.value.startswith(_OTHER_KINDS):
        return False
    return all(_is_mathematical(*match.groups()) for match in _LETTERS.finditer(text))


def is_worth_asking(one: str, other: str) -> bool:
    """True for two formulas of which not both are plain numbers: those are compared exactly without any judge.

    And which have no letter in both cases: to the judge x and X are one variable.
    """
    if not (is_formula(one) and is_formula(other)):
        return False
    letters = {letter for letter in one + other if letter.isalpha()}
    if any(letter.swapcase() in letters for letter in letters if letter != letter.swapcase()):
        return False
    return not all(_NUMBER.fullmatch(read(each).value) for each in (one, other))


def represented(
    answers: Sequence[str], labels: Sequence[str], known: Sequence[int | None], same: Same
) -> tuple[list[int | None], bool]:
    """For each formula, in launch order, the place of the earlier one that is the same by the judge, or its own place; and
    whether all is known. None for what is no formula, and from the first on of which it is not known yet.

    `labels` are the clusters of `short_answer`, "" of an answer that says nothing; of each cluster the first formula is compared.
    What is `known` stays.
    """
    found: list[int | None] = list(known)
    representatives: dict[str, int] = {}
    for place, (answer, label) in enumerate(zip(answers, labels, strict=True)):
        if not label or not is_formula(answer):
            continue
        if found[place] is None and label not in representatives:
            firsts = list(representatives.values())[:MAX_REPRESENTATIVES]
            verdicts = [
                (first, is_worth_asking(answers[first], answer) and same(answers[first], answer)) for first in firsts
            ]
            if any(verdict is None for _, verdict in verdicts):
                return found, False
            found[place] = next((first for first, verdict in verdicts if verdict), place)
        elif found[place] is None:
            found[place] = place
        if found[place] == place:
            representatives.setdefault(label, place)
    return found, True


def joined(labels: Sequence[str], same_as: Sequence[int | None]) -> list[str]:
    """The labels, clusters made one where a judge found an answer of the one to be the same as one of the other.

    So sameness is symmetric and transitive whatever the judge says of single pairs. A cluster of several has the label of the
    earliest of them.
    """
    leader: dict[str, str] = {}
    first_at = {label: place for place, label in reversed(list(enumerate(labels)))}

    def leading(label: str) -> str:
        while (above := leader.get(label, label)) != label:
            label = above
        return label

    for place, earlier in enumerate(same_as[: len(labels)]):
        if earlier is None or not 0 <= earlier < place or not (labels[place] and labels[earlier]):
            continue
        one, other = leading(labels[earlier]), leading(labels[place])
        if one != other:
            early, late = sorted((one, other), key=first_at.__getitem__)
            leader[late] = early
    return [leading(label) for label in labels]


def _is_mathematical(backslash: str, letters: str) -> bool:
    if backslash:
        return letters in _COMMANDS
    return letters in FUNCTIONS or (len(letters) == 2 and letters.lower() not in _WORDS_OF_TWO)
