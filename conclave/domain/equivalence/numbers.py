"""Numbers as people and models write them, read exactly; and how an exact number is spelled."""

import re
from fractions import Fraction

_MAX_DIGITS = 64  # beyond that a number is compared as text
_MAX_POWER_OF_TEN = 60

_GROUPED = r"[1-9]\d{0,2}(?:,\d{3})+|\d{1,3}(?: \d{3})+|\d{1,3}(?:'\d{3})+|\d{1,2}(?:,\d{2})+,\d{3}|\d+"
_POWER = r"(?:[eE](?P<exponent>[-+]?\d{1,3})(?![\w^])| ?(?:\*|x|X) ?10 ?\^ ?\{?(?P<power>[-+]?\d{1,3})\}?(?!\d))?"
_DECIMAL = re.compile(rf"(?P<whole>{_GROUPED})?(?P<part>(?<=\d)\.\d*|\.\d+)?{_POWER}")
_REPEATING = re.compile(r"(\d*)\.(\d*)\\overline\{(\d+)\}")
_TEN = re.compile(r"10 ?\^ ?\{?(?P<power>[-+]?\d{1,3})\}?(?!\d)")
_FRACTION = re.compile(r"\\frac\{ ?([-+]?\d+) ?\}\{ ?([-+]?\d+) ?\}|\{?(\d+)\}? ?/ ?\{?(\d+)\}?(?![\d.,]\d)")
_MIXED = re.compile(r"(\d+)(?: ?\\frac\{ ?(\d+) ?\}\{ ?(\d+) ?\}| (\d+)/(\d+))(?![\d.,]\d)")
_SIGN = re.compile(r"([-+]?) ?")
_CODE = re.compile(r"0\d{3,}|\d+(?:\.\d+){2,}")  # a post code, an account, a version: no number
_MULTIPLIERS = {
    "hundred": 2, "thousand": 3, "lakh": 5, "million": 6, "crore": 7, "billion": 9, "trillion": 12,
    "mn": 6, "mln": 6, "bn": 9,
}  # fmt: skip
_MAX_MULTIPLIERS = 2  # three hundred thousand
_MULTIPLIER = re.compile(r" ?(" + "|".join(_MULTIPLIERS) + r")s?\b", re.IGNORECASE)


def leading_number(text: str) -> tuple[Fraction, str] | None:
    """The number with which the text begins, and what follows it; None when it begins with none."""
    sign = _SIGN.match(text)
    assert sign is not None
    unsigned = text[sign.end() :]
    found = _unsigned(unsigned)
    if found is None:
        return None
    value, rest = found
    for _ in range(_MAX_MULTIPLIERS):
        if multiplier := _MULTIPLIER.match(rest):
            value, rest = value * 10 ** _MULTIPLIERS[multiplier[1].lower()], rest[multiplier.end() :]
    return (-value if sign[1] == "-" else value), rest


def number(text: str) -> Fraction | None:
    """The number that the text is; None when it is none, or more."""
    found = leading_number(text)
    return found[0] if found is not None and not found[1].strip() else None


def _unsigned(text: str) -> tuple[Fraction, str] | None:
    if _CODE.match(text) and not re.match(r"0+(?:\.\d*)?(?![\d.])", text):
        return None
    if match := _MIXED.match(text):
        whole, top, bottom = [group for group in match.groups() if group is not None]
        is_mixed = len(match[0]) <= _MAX_DIGITS and int(top) < int(bottom)
        return _quotient(top, bottom, text[match.end() :], int(whole)) if is_mixed else None
    if match := _FRACTION.match(text):
        top, bottom = [group for group in match.groups() if group is not None]
        return _quotient(top, bottom, text[match.end() :], 0) if len(match[0]) <= _MAX_DIGITS else None
    if (match := _REPEATING.match(text)) and len(match[0]) <= _MAX_DIGITS:
        return _repeating(match[1], match[2], match[3]), text[match.end() :]
    if match := _TEN.match(text):
        return (Fraction(10) ** int(match["power"]), text[match.end() :]) if _is_bounded(match["power"]) else None
    match = _DECIMAL.match(text)
    if match is None or not (match["whole"] or match["part"]) or match.end() > _MAX_DIGITS:
        return None
    digits = re.sub("[, ']", "", match["whole"] or "0") + (match["part"] or "").rstrip(".")
    exponent = match["exponent"] or match["power"] or "0"
    return (Fraction(digits) * Fraction(10) ** int(exponent), text[match.end() :]) if _is_bounded(exponent) else None


def _quotient(top: str, bottom: str, rest: str, whole: int) -> tuple[Fraction, str] | None:
    return (whole + Fraction(int(top), int(bottom)), rest) if int(bottom) else None


def _repeating(whole: str, part: str, period: str) -> Fraction:
    nines = Fraction(int(period), (10 ** len(period) - 1) * 10 ** len(part))
    return Fraction(int(whole or "0")) + (Fraction(int(part), 10 ** len(part)) if part else 0) + nines


def _is_bounded(exponent: str) -> bool:
    return abs(int(exponent)) <= _MAX_POWER_OF_TEN


def spelled(value: Fraction) -> str:
    """A decimal where one is exact, else a reduced fraction."""
    twos, rest = _factored(value.denominator, 2)
    fives, rest = _factored(rest, 5)
    if rest != 1:
        return f"{value.numerator}/{value.denominator}"
    places = max(twos, fives)
    digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
    whole, part = (digits[:-places], digits[-places:]) if places else (digits, "")
    return ("-" if value < 0 else "") + whole + (f".{part}" if part else "")


def _factored(number: int, prime: int) -> tuple[int, int]:
    """How often `prime` divides `number`, and what is left."""
    times = 0
    while number % prime == 0:
        number, times = number // prime, times + 1
    return times, number
