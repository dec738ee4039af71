"""Units converted exactly, as the vote reads them too (conclave.domain.equivalence.units); temperatures by their scales.

5 miles in km       ->  8.04672 km          90 km/h to m/s     ->  25 m/s
20 °C in °F         ->  68 °F               2 h in min         ->  120 min
5 kg in m           ->  error: kg and m measure different things
"""

import re
from fractions import Fraction

from conclave.domain.equivalence.numbers import leading_number, spelled
from conclave.domain.equivalence.units import Unit, read_unit
from conclave.errors import ConclaveError

MAX_CHARS = 200
_ASKED = re.compile(r"\s*(?P<amount>\S.*?)\s+(?:in|to|into|as|->|=>)\s+(?P<unit>\S.*?)\s*\??\s*", re.S)
# A temperature on each scale as a * kelvin + b: (a, b).
_SCALES = {"K": (Fraction(1), Fraction(0)), "°C": (Fraction(1), Fraction(-27315, 100))}
_SCALES["°F"] = (Fraction(9, 5), Fraction(-45967, 100))


class _Wrong(ConclaveError):
    """What is wrong with a conversion, in words for the model."""


def convert(argument: str) -> str:
    """An amount in another unit, `8.04672 km`, exact; or `error: …`. Total."""
    try:
        return _converted(argument)
    except _Wrong as wrong:
        return f"error: {wrong}"


def _converted(argument: str) -> str:
    if len(argument) > MAX_CHARS:
        raise _Wrong(f"at most {MAX_CHARS} characters are read")
    match = _ASKED.fullmatch(argument)
    if match is None:
        raise _Wrong("an amount and a unit are expected, such as 5 miles in km")
    amount, wanted = match["amount"], " ".join(match["unit"].split())
    number = leading_number(amount)
    if number is None:
        raise _Wrong(f"no number at the beginning of {amount[:40]!r}")
    value, of = number[0], number[1].strip()
    source, target = _unit(of), _unit(wanted)
    scales = [_scale(each) for each in (source, target)]
    if scales[0] and scales[1]:
        (a, b), (c, d) = _SCALES[scales[0]], _SCALES[scales[1]]
        return f"{spelled((value - b) / a * c + d)} {wanted}"
    if source.dimensions != target.dimensions or source.details != target.details:
        raise _Wrong(f"{of} and {wanted} measure different things")
    return f"{spelled(value * source.factor / target.factor)} {wanted}"


def _unit(text: str) -> Unit:
    found = read_unit(f" {' '.join(text.split())}") if text else None
    if found is None or found.factor == 0:
        raise _Wrong(f"{text[:40]!r} is no unit" if text else "a unit is missing behind the number")
    return found


def _scale(unit: Unit) -> str:
    """The scale of temperature that a unit is; empty for any other."""
    (symbol, power), *rest = unit.dimensions
    return symbol if not rest and power == 1 and symbol in _SCALES else ""
