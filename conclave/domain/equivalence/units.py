"""Units: which spellings are one unit, and how units of one kind convert. Case matters in symbols (mW, MW), not in names.

A unit that is no measure is a noun: "apples". Its last word says what is counted, those before it which ones.
"""

import re
from dataclasses import dataclass
from fractions import Fraction

Dimensions = tuple[tuple[str, int], ...]

_MAX_WORDS = 5


def _symbols(*rows: str) -> dict[str, tuple[str, Fraction]]:
    """Base and factor of each symbol, from rows of "symbol base factor" separated by bars."""
    entries = [entry.split() for row in rows for entry in row.split("|")]
    return {symbol: (base, Fraction(factor)) for symbol, base, factor in entries}


_OWN_BASE = (
    "K rad V A W J N Pa Hz Ω F C T H M mol eV cal bar atm Wh dB B lm mph rpm Bq u AU ha gal % ‰ ° °C °F "
    "$ € £ ¥ ₹ ₽ ₩ ₺ ₴ ₫ ₦ ฿ zł"
)
_SYMBOLS = _symbols(
    "m m 1|g g 1|t g 1000000|s s 1|sec s 1|min s 60|h s 3600|hr s 3600|d s 86400|wk s 604800|mo month 1|yr month 12",
    "L L 1|l L 1|ℓ L 1|cc L 1/1000|in m 254/10000|ft m 3048/10000|yd m 9144/10000|mi m 1609344/1000|lb lb 1|oz lb 1/16",
    "deg ° 1|b bit 1|bit bit 1|byte B 1|¢ $ 1/100|Rs ₹ 1",
    *(f"{symbol} {symbol} 1" for symbol in _OWN_BASE.split()),
)
_POWERS = {"p": -12, "n": -9, "μ": -6, "u": -6, "m": -3, "c": -2, "d": -1, "k": 3, "M": 6, "G": 9, "T": 12}
_PREFIXES = {symbol: Fraction(10) ** power for symbol, power in _POWERS.items()}
_PREFIXED = frozenset("m g s L l V A W J N Pa Hz Ω F C T H M mol eV cal bar B b bit byte Wh K Bq".split())
_NAME_PREFIXES = {
    "nano": "n", "micro": "μ", "milli": "m", "centi": "c", "deci": "d", "kilo": "k", "mega": "M", "giga": "G", "tera": "T",
}  # fmt: skip


def _names(*rows: str) -> dict[str, str]:
    """The symbol of each name in lower case and singular, from rows of "symbol: name, name" separated by semicolons."""
    pairs = [entry.split(":") for row in rows for entry in row.split(";")]
    return {name.strip(): symbol.strip() for symbol, listed in pairs for name in listed.split(",")}


_NAMES = _names(
    "m: metre, meter; g: gram, gramme; t: tonne; s: second, sec; min: minute, min; h: hour, hr; d: day; wk: week; mo: month",
    "yr: year; L: litre, liter; in: inch, inche; ft: foot, feet; yd: yard; mi: mile; lb: lbs; oz: ounce; gal: gallon; ha: hectare",
    "%: percent, pct; °: degree, deg; rad: radian; °C: celsius; °F: fahrenheit; K: kelvin; V: volt; A: ampere, amp; W: watt",
    "J: joule; N: newton; Pa: pascal; Hz: hertz; Ω: ohm; F: farad; C: coulomb; T: tesla; mol: mole; cal: calorie; byte: byte",
    "bit: bit; $: dollar, buck, usd, us$; ¢: cent; €: euro, eur; £: gbp; ¥: yen, jpy; ₹: rupee, inr; Rs: rs; ₩: won, krw",
    "₽: ruble, rouble, rub, рублей, рубля, рубль; ₺: lira, try; zł: pln, złoty",
)
_PHRASES = {
    "per cent": "%", "degrees celsius": "°C", "degree celsius": "°C", "degrees fahrenheit": "°F", "degree fahrenheit": "°F",
    "us dollars": "$", "u.s. dollars": "$", "us dollar": "$", "° c": "°C", "° f": "°F", "°c": "°C", "°f": "°F", "kmh": "km/h",
    "kph": "km/h", "miles per hour": "mph", "mile per hour": "mph", "mi/h": "mph", "miles/hour": "mph", "pounds sterling": "£",
    "euro cents": "eurocent",
}  # fmt: skip
_SIGNS_BEFORE = re.compile(r"(?:US ?\$|USD ?|EUR ?|GBP ?|JPY ?|INR ?|Rs\.? ?|[A-Z]{1,2}\$|[$€£¥₹₽₩₺₴₫₦฿]) ?")
_BEFORE = {"USD": "$", "US$": "$", "US $": "$", "EUR": "€", "GBP": "£", "JPY": "¥", "INR": "₹", "Rs": "₹", "Rs.": "₹"}
_CURRENCIES = frozenset("$ € £ ¥ ₹ ₽ ₩ ₺ ₴ ₫ ₦ ฿ zł pound".split())
POUNDS = "pound"  # of weight or of money: the other answers of the step tell

# A symbol that may stand right behind its number; of other letters that would be a product.
_ATTACHED = re.compile(
    r"(?:[mgshLlNJWVAKCΩ%‰°¢€£$₹₽]|[A-Za-zμ°Ω]{2,}\b|[^\W\d_a-zA-Z\u0370-\u03ff]|°[CF])(?![\w(])?|[㐀-鿿ぁ-ヿ가-힣฀-๿]"
)
_VARIABLE = re.compile(r"[\u0370-\u03a8\u03aa-\u03ff]|pi|[acefijknopqrvwxyzDEGIOPQRSUXYZ]")
_NO_NOUN = frozenset(
    (
        "mod or and to of plus minus times out over by less more than is if when for in at as on with because x y n but "
        "not either remainder base factorial squared cubed choose from e i am pm a.m p.m"
    ).split()
)
_TRAILING = re.compile(
    r"\s+(?:in total|in all|in the end|altogether|total|overall|left over|left|remaining|each|exactly|only"
    r"|(?:is|are|was|were|will|would|can|has|have|had|must) .*)$",
    re.IGNORECASE,
)
_TOKEN = re.compile(r"([^\s*/^()\d{}]+)(?:\^\{?(-?\d)\}?|(?<=[a-zA-Z])(\d)(?!\d))?")


@dataclass(frozen=True, slots=True)
class Unit:
    """What a number counts: dimensions with the factor to their base, or the noun with what specifies it."""

    dimensions: Dimensions
    factor: Fraction = Fraction(1)
    details: str = ""


def leading_currency(text: str) -> tuple[str, str]:
    """The currency with which an amount begins ("" for none), and the rest. The sign may stand before or behind it."""
    sign = re.match(r"([-+]?) ?", text)
    assert sign is not None
    match = _SIGNS_BEFORE.match(text, sign.end())
    if match is None or not re.match(r"[-+]? ?[\d.\\]", text[match.end() :]):
        return "", text
    if sign[1] and text[match.end() : match.end() + 1] in "+-":
        return "", text
    name = match[0].strip()
    return _BEFORE.get(name, name), sign[1] + text[match.end() :]


def is_money(unit: str) -> bool:
    """True for the unit of an amount in one currency, as readings have it: `5 $^1`."""
    return unit.endswith("^1") and unit.partition(" ")[2].removesuffix("^1") in _CURRENCIES


def read_unit(text: str) -> Unit | None:
    """The unit that is all of the text behind a number; None when it is none."""
    is_attached = text[:1] != " "
    bare = text.strip()
    if not bare or len(bare) > 60 or _VARIABLE.fullmatch(bare) or (is_attached and not _ATTACHED.match(bare)):
        return None
    if bare[0] == "(" and bare[-1] == ")":
        bare = bare[1:-1].strip()
    phrase = _PHRASES.get(bare.lower())
    if (measure := _measure(phrase or bare)) is not None:
        return measure
    return None if is_attached and bare[0].isascii() and bare[0] != "-" and len(bare) < 3 else _noun(bare)


def _measure(text: str) -> Unit | None:
    """Products and quotients of known units: "km/h", "kg m s^{-2}", "square metres per second"."""
    text = re.sub(r"\s+per\s+", "/", text.replace("**", "^"))
    text = re.sub(r"\b(square|sq\.?|cubic)\s+([^\W\d_]+)", lambda m: m[2] + ("^3" if m[1] == "cubic" else "^2"), text)
    text = re.sub(r"([^\W\d_]+) (squared|cubed)\b", lambda m: m[1] + ("^3" if m[2] == "cubed" else "^2"), text)
    dimensions: dict[str, int] = {}
    factor = Fraction(1)
    sign, position = 1, 0
    for match in _TOKEN.finditer(text):
        between = text[position : match.start()].strip()
        if between not in ("", "*", "/", "(") or len(dimensions) > 4:
            return None
        sign = -1 if between == "/" else sign
        known = _known(match[1].strip(".-") if len(match[1]) > 1 else match[1])
        if known is None:
            return None
        power = sign * int(match[2] or match[3] or 1)
        base, scale = known
        dimensions[base] = dimensions.get(base, 0) + power
        factor *= scale**power
        position = match.end()
    if text[position:].strip(" )"):
        return None
    if dimensions.get("m") == 3 and len(dimensions) == 1:
        return Unit((("L", 1),), factor * 1000)
    return Unit(tuple(sorted(item for item in dimensions.items() if item[1])), factor) if dimensions else None


def _known(word: str) -> tuple[str, Fraction] | None:
    if word in _SYMBOLS:
        return _SYMBOLS[word]
    if len(word) > 1 and word[0] in _PREFIXES and word[1:] in _PREFIXED:
        base, factor = _SYMBOLS[word[1:]]
        return base, factor * _PREFIXES[word[0]]
    lower = word.lower()
    if lower in ("pound", "pounds"):
        return POUNDS, Fraction(1)
    for name in (lower, lower.removesuffix("s")):
        if name in _NAMES:
            return _SYMBOLS[_NAMES[name]]
        for prefix, symbol in _NAME_PREFIXES.items():
            if name.startswith(prefix) and (inner := _NAMES.get(name.removeprefix(prefix))) in _PREFIXED:
                base, factor = _SYMBOLS[inner or ""]
                return base, factor * _PREFIXES[symbol]
    return None


def _noun(text: str) -> Unit | None:
    """A noun, with the words before it as details: "red apples" are apples."""
    previous = ""
    while previous != text:
        previous, text = text, _TRAILING.sub("", text)
    words = [word.casefold().removesuffix("'s") for word in text.split()]
    if (
        not words
        or len(words) > _MAX_WORDS
        or _VARIABLE.fullmatch(words[-1])
        or _VARIABLE.fullmatch(words[0])
        or words[0] in _NO_NOUN
        or any(word in _NO_NOUN for word in words[1:-1] if word != "of")
    ):
        return None
    if not all(re.fullmatch(r"[^\W\d_][^\W\d_'\-./]*(?:['\-./][^\W\d_]+)*", word) for word in words):
        return None
    if text.split()[0].isascii() and len(words) == 1 and len(words[0]) < 3:
        return Unit(((text.split()[0], 1),))  # a symbol that is not in the tables: its case matters
    if "of" in words[1:]:
        cut = words.index("of")
        return Unit(((_singular(words[cut - 1]), 1),), details=" ".join(words[: cut - 1] + words[cut:]))
    return Unit(((_singular(words[-1]), 1),), details=" ".join(words[:-1]))


def _singular(word: str) -> str:
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    return word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > 3 else word
