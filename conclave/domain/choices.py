"""Choices: candidates as they are written into a prompt, which of them a model's words mean, and options of the question itself.

    A: 36
    B: It rained,
       and they stayed.

Lines that go on are indented, so whatever a candidate says, none can pass for another. Where a candidate is itself a letter, as
of a multiple choice, they are numbered: a label must not be mistaken for an answer.
"""

import re
from collections.abc import Sequence

from conclave.domain import wording
from conclave.domain.equivalence import are_same, doubts

MAX_CANDIDATES = 8
_INDENT = "   "
_LETTERS, _NUMBERS = "ABCDEFGH", "12345678"
_OPTION_LETTERS = "ABCDEFGHIJ"
_OPTION = re.compile(r"(?<![^\s(\[,;])[(\[]?([A-J])[).:\]](?=\s)")
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
    if len(label) == 1 and label in labels:
        return _labelled(label, candidates)
    found = [each for each in candidates if are_same(each, words)]
    if found:
        return found[0] if len(found) == 1 else None
    return _labelled(doubts.option(words) or "", candidates)  # "B. Paris", as it is written beside its label


def of_question(answer: str, question: str) -> str:
    """The letter alone of an answer such as "B. Paris" where the question has an option B; "C. elegans" is the name elsewhere."""
    letter = doubts.option(answer)
    options = _options(question) if letter is not None else {}
    if letter is None or letter not in options:
        return answer
    said = answer[2:].strip().casefold()
    is_named = answer.casefold() in (text for other, text in options.items() if other != letter)
    return answer if is_named and not options[letter].startswith(said) else letter


def _options(question: str) -> dict[str, str]:
    """What stands behind each letter from A on, in order and at least two, in small letters."""
    places: list[re.Match[str]] = []
    for match in _OPTION.finditer(question):
        if match[1] == _OPTION_LETTERS[len(places) : len(places) + 1]:
            places.append(match)
    if len(places) < 2:
        return {}
    ends = [*(match.start() for match in places[1:]), len(question)]
    texts = (question[match.end() : end].strip(" \n\t,;.") for match, end in zip(places, ends, strict=True))
    return {match[1]: text.casefold() for match, text in zip(places, texts, strict=True)}


def _labelled(label: str, candidates: Sequence[str]) -> str | None:
    place = _labels(candidates).find(label) if label else -1
    return candidates[place] if 0 <= place < len(candidates) else None


def _labels(candidates: Sequence[str]) -> str:
    return (
        _NUMBERS
        if any(len(each.strip("(). ")) == 1 and each.strip("(). ").isalpha() for each in candidates)
        else _LETTERS
    )
