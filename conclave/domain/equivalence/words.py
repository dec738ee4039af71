"""Words: numbers in words, and when two spellings are the same word. Case matters in symbols, not in words."""

import re
from fractions import Fraction

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_SMALL = (
    {word: number for number, word in enumerate(_ONES)}
    | {word: 20 + 10 * i for i, word in enumerate(_TENS)}
    | {"dozen": 12}
)
_LARGE = {"hundred": 100, "thousand": 1_000, "million": 1_000_000, "billion": 10**9, "trillion": 10**12}
_DENOMINATORS = "half third quarter fifth sixth seventh eighth ninth tenth".split()
_PARTS = {word: number for number, word in enumerate(_DENOMINATORS, 2)} | {"fourth": 4}

_ONE_OR_HALF = re.compile(
    r"(?P<half>half )?an? (?=(?P<dozen>dozen\b)|(?:hundred|thousand|million|billion|trillion)\b)", re.IGNORECASE
)
_ARTICLE = re.compile(r"^(?:the|an?)\s+(?=\S)", re.IGNORECASE)
_HEDGE = re.compile(
    r"^(?:about|approximately|approx\.?|roughly|around|circa|ca\.|≈|~|\\approx)\s*(?=\S)", re.IGNORECASE
)
_ABBREVIATION = re.compile(r"\b[^\W\d_](?:\.[^\W\d_])+\b\.?|\b(?:Dr|Mr|Mrs|Ms|St|Mt|Prof|Jr|Sr)\.")
_TOKEN = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
# Short words that are no symbols, whatever their case.
_SHORT_WORDS = frozenset("no ok so if on in at to he it we go up an as by or is me my of do am be hi us".split())
_LONG_WORD = 5


def leading_number_word(text: str) -> tuple[Fraction, str] | None:
    """The number in words with which the text begins, and what follows it: "thirty-six apples" is 36 and "apples"."""
    if match := _ONE_OR_HALF.match(text):
        found = leading_number_word(("" if match["dozen"] else "one ") + text[match.end() :])
        return (found[0] / 2, found[1]) if found is not None and match["half"] else found
    words = re.split(r"(?:\s+|(?<=\w)-(?=\w))", text)
    total = current = 0
    taken = 0
    for position, word in enumerate(words[:16]):
        lower = word.lower()
        if lower in _SMALL and (taken == 0 or position == taken):
            number = _SMALL[lower]
            if current % 100 and not (current % 10 == 0 and current % 100 >= 20 and 0 < number < 10):
                break
            current += number
        elif lower in _LARGE and taken:
            scale = _LARGE[lower]
            current = (current or 1) * scale
            if scale > 100:
                total, current = total + current, 0
        elif (
            lower == "and"
            and taken
            and position + 1 < len(words)
            and words[position + 1].lower() in _SMALL
            and (total or current >= 100)
        ):
            taken = position + 1
            continue
        else:
            break
        taken = position + 1
    if not taken:
        return None
    rest = words[taken:]
    value = Fraction(total + current)
    if rest and (part := _PARTS.get(rest[0].lower().removesuffix("s").replace("halve", "half"))):
        return value / part, " ".join(rest[1:])
    return value, " ".join(rest)


def without_hedge(text: str) -> str:
    """The text without a word that only says that it is not exact."""
    return _HEDGE.sub("", text)


def folded(text: str) -> str:
    """One spelling of all that are the same words: Yes and yes, New York and NEW YORK; but Co, CO and X, x stay apart."""
    text = _ABBREVIATION.sub(lambda match: match[0].replace(".", ""), _ARTICLE.sub("", text))
    tokens = _TOKEN.findall(text)
    is_shouted = text.isupper() and any(len(token) >= 4 for token in tokens)
    is_phrase = sum(len(token) >= 3 for token in tokens) >= 1 and len(tokens) > 1
    return " ".join(_TOKEN.sub(lambda match: _folded_token(match[0], is_phrase, is_shouted), text).split())


def _folded_token(token: str, is_phrase: bool, is_shouted: bool) -> str:
    lower = token.casefold()
    if is_shouted or len(token) >= _LONG_WORD or lower in _SHORT_WORDS or not token.isascii():
        return lower
    if any(char.isdigit() for char in token):
        return token
    if len(token) >= 3:
        return lower if token.islower() or token.istitle() or token.isupper() else token
    return lower if len(token) == 2 and is_phrase and token.istitle() else token
