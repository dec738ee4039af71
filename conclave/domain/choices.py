"""Candidates among which a model chooses: how they are written into a prompt, and which of them its words mean.

    A: 36
    B: It rained,
       and they stayed.

Lines that go on are indented, so whatever a candidate says, none can pass for another. Where a candidate is itself a letter, as
of a multiple choice, they are numbered: a label must not be mistaken for an answer.
"""

import re
from collections.abc import Sequence

from conclave.domain import wording
from conclave.domain.equivalence import are_same

MAX_CANDIDATES = 8
_INDENT = "   "
_LETTERS, _NUMBERS = "ABCDEFGH", "12345678"
_LABELLED = re.compile(r"([A-H1-8]): (.*)")


def written(candidates: Sequence[str]) -> str:
    """The candidates, eight at most, as a prompt has them."""
    pairs = zip(_labels(candidates), candidates, strict=False)
    return "\n".join(f"{label}: " + each.replace("\n", f"\n{_INDENT}") for label, each in pairs)


def candidates_of(text: str) -> tuple[str, ...]:
    """The candidates that `written` wrote; none for any other text."""
    found: list[str] = []
    for line in text.split("\n"):
        first = _LABELLED.fullmatch(line)
        if (
            first is not None
            and len(found) < MAX_CANDIDATES
            and first[1] in (_LETTERS[len(found)], _NUMBERS[len(found)])
        ):
            found.append(first[2])
        elif found and line.startswith(_INDENT):
            found[-1] += "\n" + line.removeprefix(_INDENT)
        else:
            return ()
    return tuple(found)


def chosen(words: str, candidates: Sequence[str], naming: str) -> str | None:
    """The candidate that a model's words mean, its label or the same answer; None where that is none or several.

    `naming`: the pattern by which words name a label, with a group `label`.
    """
    said, labels = wording.groups(naming, words), _labels(candidates)
    label = "" if said is None else said.get("label", "").upper()
    if len(label) == 1 and (place := labels.find(label)) >= 0:
        return candidates[place] if place < len(candidates) else None
    found = [each for each in candidates if are_same(each, words)]
    return found[0] if len(found) == 1 else None


def _labels(candidates: Sequence[str]) -> str:
    return (
        _NUMBERS
        if any(len(each.strip("(). ")) == 1 and each.strip("(). ").isalpha() for each in candidates)
        else _LETTERS
    )
