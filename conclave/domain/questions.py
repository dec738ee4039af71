"""What can be seen of a question without a model: its words, numbers and signs. Pure, and linear in the question's length."""

import re
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from conclave.domain.equivalence.words import leading_number_word

# A number keeps its separators; a word its apostrophes and inner hyphens; every other character that shows is a sign.
_TOKEN = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+(?:['’\-][^\W\d_]+)*|[^\w\s]|_")
_GROUPED = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_NUMBER_WORDS = frozenset(
    (
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
        "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety dozen hundred thousand million billion"
    ).split()
)
_JOINED_WORDS = 8  # of one number in words, at most
_MAX_DIGITS = 64  # a longer number is seen as text


class Kind(StrEnum):
    """What a token is."""

    WORD = "word"
    NUMBER = "number"
    SIGN = "sign"


@dataclass(frozen=True, slots=True)
class Token:
    """A word, number or sign as it is written; `value` of a number, in digits or in words, of up to 64 digits."""

    kind: Kind
    text: str
    value: Fraction | None = None


def tokens(question: str) -> tuple[Token, ...]:
    """The tokens of a question in order. A number in words is one token: "thirty-six apples" are 36 and "apples"."""
    written = [match[0].replace("’", "'") for match in _TOKEN.finditer(question)]
    found: list[Token] = []
    at = 0
    while at < len(written):
        text = written[at]
        taken, token = 1, Token(Kind.SIGN, text)
        if text[0].isdecimal():
            token = Token(Kind.NUMBER, text, _value(text))
        elif text[0].isalpha():
            taken, token = _word(written, at)
        found.append(token)
        at += taken
    return tuple(found)


def _value(text: str) -> Fraction | None:
    """The value of a number in digits; None for what may be something else: 1.2.3, 1,5, and digits of other scripts."""
    if not text.isascii() or len(text) > _MAX_DIGITS:
        return None
    if _GROUPED.fullmatch(text):
        text = text.replace(",", "")
    return Fraction(text) if text.count(".") <= 1 and "," not in text else None


def _word(written: list[str], at: int) -> tuple[int, Token]:
    """The word at a place, or the number in words that begins there; and how many tokens it takes."""
    text = written[at]
    if text.casefold().partition("-")[0] not in _NUMBER_WORDS:
        return 1, Token(Kind.WORD, text)
    ahead = written[at : at + _JOINED_WORDS]
    found = leading_number_word(" ".join(ahead))
    if found is None:
        return 1, Token(Kind.WORD, text)
    value, rest = found
    # What is left is told by its tokens, as a hyphen is part of one: "sixty-three", but also "two-thirds".
    taken = len(ahead) - len(_TOKEN.findall(rest))
    return (taken, Token(Kind.NUMBER, " ".join(ahead[:taken]), value)) if taken > 0 else (1, Token(Kind.WORD, text))
