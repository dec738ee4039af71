"""What an answer may be besides what it looks like, for the other answers of the step to decide.

3,14         3.14, or the numbers 3 and 14
12k          twelve thousand, or twelve times k; 5M is five million or five mega-something
C. elegans   a name, or option C with its text

Each function here gives the text of the other meaning; None where there is no doubt.
"""

import re

_WITH_COMMA = re.compile(r"(?P<head>[^\d,.]{0,12})(?P<whole>\d+),(?P<part>\d+)(?![\d,.])(?P<rest>[^\d,]*)")
_THOUSANDS = re.compile(r"[1-9]\d{0,2},\d{3}")
_SHORTENED = re.compile(
    r"(?P<amount>(?P<sign>[^\w\d]{0,4}|[A-Z][A-Za-z.]{0,2} ?\$? ?)[-+]?\d[\d,]*(?:\.\d+)?)"
    r"(?P<space> ?)(?P<letter>[kKmMbBT])(?![\w^/*])(?P<rest>.*)"
)
_LETTERS = {"k": "thousand", "m": "million", "b": "billion", "t": "trillion"}
_LETTERED = re.compile(r"([A-J])\. +\S.*")


def with_point(text: str) -> str | None:
    """The text with its only comma, which sets no thousands apart, as a decimal point."""
    match = _WITH_COMMA.fullmatch(text)
    if match is None or _THOUSANDS.fullmatch(f"{match['whole']},{match['part']}"):
        return None
    return f"{match['head']}{match['whole']}.{match['part']}{match['rest']}"


def written_out(text: str) -> str | None:
    """The text with the letter behind its amount as a word; a letter that stands apart counts behind a currency only."""
    match = _SHORTENED.fullmatch(text)
    if match is None or (match["space"] and not match["sign"].strip("-+ ")):
        return None
    return f"{match['amount']} {_LETTERS[match['letter'].lower()]}{match['rest']}"


def option(text: str) -> str | None:
    """The letter of the option that the text may be."""
    match = _LETTERED.fullmatch(text)
    return None if match is None else match[1]
