"""What an answer says: `read`, from its text alone. Whether two answers are the same vote is then a matter of their readings.

say nothing     "", "...", "**"
a choice        (B), B), Option B
a moment        2024-01-05, 3:30 pm, 2:3
a quantity      36, 36 km, $36, 1 h 30 min, thirty-six apples
a collection    2, 5 | {2, 5} | (2, 5) | [2, 5) | x > 2 | (−∞, 1) ∪ (2, ∞)
a formula       x^2+1, 3√2, y = 2x+1
words           Paris, the mitochondria
"""

import re
from fractions import Fraction
from functools import lru_cache

from msgspec import Struct
from msgspec.structs import replace

from conclave.domain.equivalence import doubts, expressions, moments, polynomials, units, words
from conclave.domain.equivalence.cleaning import MAX_CHARS, cleaned
from conclave.domain.equivalence.numbers import leading_number, spelled

_MAX_STRUCTURED_CHARS = 256  # longer text is read as words
_MAX_ELEMENTS, _MAX_DEPTH = 32, 4


class Reading(Struct, frozen=True):
    """What one answer says.

    `value` is what a bare answer has in common with one that says more: the number without its unit, the time without am or pm.
    """

    value: str  # "" says nothing
    unit: str = ""  # what the number counts, with the amount in its base: "" for a bare value
    details: str = ""  # which ones of what is counted: the red ones of the red apples
    variable: str = ""  # what the value is of
    ratio: str = ""  # what it would be as a ratio, for what may be a time
    is_ratio: bool = False  # it can't be a time
    doubt: str = ""  # why it may be something else: "comma", "amount", "option"
    others: "tuple[Reading, ...]" = ()  # what it may be, if another answer of the step says the same beyond doubt


SILENT = Reading("")

_SAYS_SOMETHING = re.compile(r"[^\W_]|[+<>=%&#@$€£¥°∞∅∈∪∩√|^/*(){}\[\]]")
_CHOICE = re.compile(
    r"(?:(?:option|choice|answer) )?(?:\(([A-Ja-j])\)|\[([A-Ja-j])\]|([A-Ja-j])\)|([A-Ea-e]))[.:]?", re.IGNORECASE
)
_NAMED_CHOICE = re.compile(r"(?:option|choice|answer) ([A-Ja-j])", re.IGNORECASE)
_LETTER = r"[A-Za-z\u0370-\u03ff]"
_VARIABLE = re.compile(
    rf"((?:{_LETTER}(?:_\{{?\w{{1,8}}\}}?|')?(?:\([a-zθ](?:, ?[a-z])*\))?)|\([a-z](?:, ?[a-z]){{1,3}}\)|[A-Za-z][A-Za-z ]{{1,30}}?)"
    r" ?(?:=|∈|:=) ?(.+)"
)
_BASE = re.compile(r"\(?([0-9A-Fa-f]+)\)?(?: ?_ ?\{? ?(\d{1,2}) ?\}?|,? \(?(?:in )?base (\d{1,2})\)?)")
_BASE_WORDS = re.compile(r"_ ?\{ ?(two|three|four|five|six|seven|eight|nine|ten|twelve|sixteen) ?\}")
_SEPARATOR = re.compile(r",\s+and\s+|,\s+or\s+|\s+and\s+|\s+or\s+|\s*;\s*|,\s+", re.IGNORECASE)
_COMMA = re.compile(r"\s*[,;]\s*")
_CALCULATION = re.compile(r"(?:[\d\s.,+\-*/()^%$€£°{}\\]|(?<![A-Za-z])[A-Za-z]{2,}(?![A-Za-z]))+")
_CHAIN = re.compile(r"(.+?) ?([<≤]) ?([A-Za-z\u0370-\u03ff]) ?([<≤]) ?(.+)")
_COMPARISON = re.compile(r"([A-Za-z\u0370-\u03ff]) ?([<>≤≥]) ?(.+)|(.+?) ?([<>≤≥]) ?([A-Za-z\u0370-\u03ff])")
_MIRRORED = {"<": ">", ">": "<", "≤": "≥", "≥": "≤"}
_SLASHED_DATE = re.compile(r"\d{1,4}/\d{1,2}/\d{1,4}")
_RANGE = re.compile(r"\d+(?:-\d+)+")
_CODE = re.compile(r"0\d{3,}|\d+(?:\.\d+){2,}|\d[\d ]*-[\d -]*|0\d[\d ]{6,}")
_INFINITY = re.compile(r"([-+]?) ?(?:∞|infinity|inf)", re.IGNORECASE)
_EMPTY_SET = re.compile(r"\{ ?\}|∅|(?:the )?(?:empty|null) set", re.IGNORECASE)
_MINUS = re.compile(r"(?:minus|negative) (?=\S)", re.IGNORECASE)
_THOUSANDS = re.compile(r"\D*\d{1,3}(?:,\d{3})+(?!\d).*")
_OR = re.compile(r"\bor\b", re.IGNORECASE)
_MATHS_MARK = re.compile(r"[\\^_{}=<>≤≥∈∪∩→]|[-+*/]\s?\(")
_OPENING, _CLOSING = "([{", ")]}"


@lru_cache(maxsize=16_384)
def read(answer: str) -> Reading:
    """The reading of an answer. Total; work is bounded for any text."""
    text = cleaned(answer)
    if len(text) > MAX_CHARS:
        return Reading("long " + text)
    return _read(words.without_hedge(text), 0)


def _read(text: str, depth: int) -> Reading:
    text = text.strip()
    if not _SAYS_SOMETHING.search(text):
        return SILENT
    if depth > _MAX_DEPTH:
        return Reading("deep " + text)
    if len(text) > _MAX_STRUCTURED_CHARS:
        return Reading("words " + _as_words(text))
    for reader in _READERS:
        if (reading := reader(text, depth)) is not None:
            return _doubted(text, reading, depth)
    return _doubted(text, Reading("words " + _as_words(text)), depth)


def _doubted(text: str, reading: Reading, depth: int) -> Reading:
    """The reading with what else it may be; a unit or a currency leaves no doubt that it is one amount."""
    pointed = doubts.with_point(text)
    if (written := doubts.written_out(pointed or text)) and (amount := _quantity(written, depth)) is not None:
        if units.is_money(amount.unit):
            return amount
        if pointed is None:
            return replace(reading, doubt="amount", others=(amount,))
    if pointed and (decimal := _quantity(pointed, depth)) is not None:
        return decimal if decimal.unit else Reading("comma " + text, doubt="comma", others=(decimal, reading))
    if letter := doubts.option(text):
        return replace(reading, doubt="option", others=(Reading("words " + letter),))
    return reading


def _as_words(text: str) -> str:
    if _MATHS_MARK.search(text):
        return re.sub(r"([_^])\{(\w)\}", r"\1\2", re.sub(r"\s+", "", text))
    return words.folded(text)


def _choice(text: str, depth: int) -> Reading | None:
    match = _CHOICE.fullmatch(text) or _NAMED_CHOICE.fullmatch(text)
    letter = next((group for group in match.groups() if group), "") if match else ""
    return Reading("words " + letter.upper()) if letter else None


def _moment(text: str, depth: int) -> Reading | None:
    if (date := moments.date(text)) is not None:
        return Reading("date " + date)
    time, ratio = moments.clock(text), moments.ratio(text)
    if time is not None:
        shown = f"{time.hour % 12}:{time.minute:02}:{time.second:02}"
        exact = f"time {time.hour}:{time.minute:02}:{time.second:02}" if time.half else ""
        return Reading(f"time {shown}", exact, ratio=f"ratio {ratio}" if ratio else "")
    if ratio is not None:
        return Reading(f"ratio {ratio}", ratio=f"ratio {ratio}", is_ratio=True)
    return Reading("words " + text) if _SLASHED_DATE.fullmatch(text) else None


def _code(text: str, depth: int) -> Reading | None:
    """Digits that are no number: a post code, a telephone number, a version, a score."""
    if (_CODE.fullmatch(text) or _RANGE.fullmatch(text)) and not re.fullmatch(r"0+", text):
        return Reading("code " + text.replace(" ", ""))
    return None


def _in_base(text: str, depth: int) -> Reading | None:
    text = _BASE_WORDS.sub(lambda word: f"_{(words.leading_number_word(word[1]) or ('', ''))[0]}", text)
    match = _BASE.fullmatch(text)
    if match is None or not 2 <= int(match[2] or match[3]) <= 36:
        return None
    return Reading(f"base {match[2] or match[3]} {match[1].lstrip('0').upper() or '0'}")


def _quantity(text: str, depth: int) -> Reading | None:
    minus = _MINUS.match(text)
    currency, amount = units.leading_currency(text[minus.end() :] if minus else text)
    found = leading_number(amount) or words.leading_number_word(amount)
    if found is None or (minus and found[0] <= 0):
        return None
    value, rest = (-found[0] if minus else found[0]), found[1]
    if not rest.strip():
        if currency:
            return _measured(spelled(value), value, units.Unit(((currency, 1),)))
        return Reading(spelled(value))
    if not minus and not amount[:1].isalpha() and (compound := _compound(amount)) is not None and not currency:
        return compound
    unit = units.read_unit(
        currency + rest
        if currency
        else rest
        if amount[:1].isdigit() or rest[:1] == " " or not amount[:1].isalpha()
        else " " + rest
    )
    return None if unit is None else _measured(spelled(value), value, unit)


def _measured(value: str, amount: Fraction, unit: units.Unit) -> Reading:
    shown = "*".join(f"{base}^{power}" for base, power in unit.dimensions)
    return Reading(value, f"{spelled(amount * unit.factor)} {shown}", unit.details)


def _compound(text: str) -> Reading | None:
    """1 hour 30 minutes, 5 ft 3 in: amounts of one kind, added."""
    parts = re.findall(r"(\d[\d,.]*) ?([A-Za-z]+)(?:,? (?:and )?|$)", text)
    if len(parts) < 2 or len(parts) > 4 or "".join(f"{n}{u}" for n, u in parts) != re.sub(r",? (?:and )?", "", text):
        return None
    total, dimensions = Fraction(0), None
    for shown, name in parts:
        number, unit = leading_number(shown), units.read_unit(" " + name)
        if number is None or number[1] or unit is None or unit.details or dimensions not in (None, unit.dimensions):
            return None
        total, dimensions = total + number[0] * unit.factor, unit.dimensions
    base = "*".join(f"{base}^{power}" for base, power in dimensions or ())
    return Reading("compound " + text, f"{spelled(total)} {base}")


def _assigned(text: str, depth: int) -> Reading | None:
    """x = 5, n = 2, 3, 4, x ∈ [3, 8): what is said of a variable."""
    match = _VARIABLE.fullmatch(text)
    if match is None or re.search(r"[=∈<>≤≥]", match[2]) or len(match[1].split()) > 4:
        return None
    value = _read(match[2], depth + 1)
    name = re.sub(r"[\s{}]", "", match[1]) if len(match[1]) < 8 else words.folded(match[1])
    return None if value is SILENT or value.variable else replace(value, variable=name)


def _reckoned(text: str, depth: int) -> Reading | None:
    """25 * 3 + 25 * 4 = 75 + 100 = 175 tablespoons: what a calculation comes to."""
    parts = [part.strip() for part in text.split("=")]
    if not 1 < len(parts) <= _MAX_ELEMENTS or not all(_is_calculation(part) for part in parts[:-1]):
        return None
    return _read(parts[-1], depth + 1)


def _is_calculation(text: str) -> bool:
    """True for numbers, with or without units, that an operator joins; a letter of its own would be a variable."""
    return _CALCULATION.fullmatch(text) is not None and re.search(r"\d.*[-+*/^]", text) is not None


def _compared(text: str, depth: int) -> Reading | None:
    """x > 2 as (2, ∞), 3 ≤ x < 8 as [3, 8)."""
    if match := _CHAIN.fullmatch(text):
        low, high = _read(match[1], depth + 1), _read(match[5], depth + 1)
        return Reading(
            f"{'[' if match[2] == '≤' else '('}{low.value}, {high.value}{']' if match[4] == '≤' else ')'}",
            variable=match[3],
        )
    if (match := _COMPARISON.fullmatch(text)) is None:
        return None
    variable, sign, bound = (match[1], match[2], match[3]) if match[1] else (match[6], _MIRRORED[match[5]], match[4])
    if re.search(r"[<>≤≥=]", bound):
        return None
    value = _read(bound, depth + 1).value
    if sign in ">≥":
        return Reading(f"{'[' if sign == '≥' else '('}{value}, ∞)", variable=variable)
    return Reading(f"(-∞, {value}{']' if sign == '≤' else ')'}", variable=variable)


def _empty(text: str, depth: int) -> Reading | None:
    return Reading("words ∅") if _EMPTY_SET.fullmatch(text) else None


def _infinite(text: str, depth: int) -> Reading | None:
    match = _INFINITY.fullmatch(text)
    return Reading(("-" if match[1] == "-" else "") + "∞") if match else None


def _union(text: str, depth: int) -> Reading | None:
    parts = _split(text, re.compile(r" ?[∪] ?|(?<=[)\]}]) U (?=[(\[{])"))
    if not 1 < len(parts) <= _MAX_ELEMENTS:
        return None
    return Reading(" ∪ ".join(sorted(_read(part, depth + 1).value for part in parts)))


def _bracketed(text: str, depth: int) -> Reading | None:
    """A tuple, interval, set or list in brackets; one thing in brackets is that thing."""
    if text[0] not in _OPENING or text[-1] not in _CLOSING or len(text) < 3 or _closing(text) != len(text) - 1:
        return None
    kind = text[0] + text[-1]
    parts = _split(text[1:-1], _COMMA)
    if len(parts) == 1:
        return _read(parts[0], depth + 1) if kind in ("()", "[]", "{}") else None
    if len(parts) > _MAX_ELEMENTS:
        return None
    values = _values([_read(part, depth + 1) for part in parts])
    if kind == "{}":
        return Reading(_unordered(sorted(set(values))))
    return Reading(f"{kind[0]}{', '.join(values)}{kind[1]}")


def _listed(text: str, depth: int) -> Reading | None:
    """2, 5 | 2 and 5 | x = 2 or x = 5 | ±3: in any order."""
    if "±" in text and (match := re.fullmatch(r"((?:\w{1,8} ?= ?)?)± ?(.+)", text)) and "±" not in match[2]:
        return _listed(f"{match[1]}{match[2]}, {match[1]}-{match[2]}", depth) if re.match(r"[\d\\]", match[2]) else None
    parts = [each for part in _split(text, _SEPARATOR) for each in _split_bare(part)]
    if not 1 < len(parts) <= _MAX_ELEMENTS or any(len(part.split()) > 4 or not part for part in parts):
        return None
    if parts[-1].split() and re.match(r"(?:and|or) ", parts[-1]):
        parts[-1] = parts[-1].split(None, 1)[1]
    readings = [_read(part, depth + 1) for part in parts]
    names = {reading.variable for reading in readings}
    if SILENT in readings:
        return None
    is_of_one = names == {readings[0].variable, ""} and not any(reading.variable for reading in readings[1:])
    if len(names) == 1 or (readings[0].variable and is_of_one):
        bare = [replace(reading, variable="") for reading in readings]
        return Reading(_joined(text, _values(bare)), variable=readings[0].variable)
    return Reading(_joined(text, _values(readings)))


def _joined(text: str, values: list[str]) -> str:
    """Values in any order. Of numbers "2 or 5" says what "2 and 5" does, of words it does not."""
    is_either = any(value.startswith("words ") for value in values) and _OR.search(text) is not None
    return ("either " if is_either else "") + _unordered(sorted(values))


def _unordered(values: list[str]) -> str:
    return values[0] if len(values) == 1 else "{" + ", ".join(values) + "}"


def _values(readings: list[Reading]) -> list[str]:
    return [f"{r.variable} = {_valued(r)}" if r.variable else _valued(r) for r in readings]


def _valued(reading: Reading) -> str:
    return f"{reading.unit} {reading.details}".strip() if reading.unit else reading.value


def _formula(text: str, depth: int) -> Reading | None:
    left, equals, right = text.partition("=")
    polynomial = expressions.formula(left)
    if polynomial is None:
        return _measured_formula(text)
    if not equals:
        number = polynomials.constant(polynomial)
        return Reading(spelled(number) if number is not None else "formula " + polynomials.text_of(polynomial))
    other = expressions.formula(right)
    if other is None:
        return None
    return Reading("equation " + polynomials.text_of(polynomials.normalised(polynomials.minus(polynomial, other))))


def _measured_formula(text: str) -> Reading | None:
    """3π cm, \\frac{\\sqrt{3}}{2} m^2, 45√2°: a formula before a known unit."""
    for position in [match.start() for match in re.finditer(r" |(?<=[\w}])(?=[°%])", text)][:8]:
        unit = units.read_unit(" " + text[position:].strip())
        if unit is None or unit.details:
            continue
        polynomial = expressions.formula(text[:position])
        if polynomial is not None:
            amount = polynomials.text_of(polynomials.scaled(polynomial, unit.factor))
            shown = "*".join(f"{base}^{power}" for base, power in unit.dimensions)
            number = polynomials.constant(polynomial)
            return Reading(
                spelled(number) if number is not None else "formula " + polynomials.text_of(polynomial),
                f"{amount} {shown}",
            )
    return None


def _split(text: str, separator: "re.Pattern[str]") -> list[str]:
    """The parts of the text between separators that stand in no brackets."""
    depths, depth = [], 0
    for char in text:
        depth += (char in _OPENING) - (char in _CLOSING)
        depths.append(depth)
    parts, start = [], 0
    for match in separator.finditer(text):
        if depths[match.start()] == 0:
            parts.append(text[start : match.start()].strip())
            start = match.end()
    return [*parts, text[start:].strip()]


def _split_bare(text: str) -> list[str]:
    """The parts between commas without a space, but for those of thousands: "1,2" of "1,2 and 3"."""
    return [text] if _THOUSANDS.fullmatch(text) else _split(text, re.compile(","))


def _closing(text: str) -> int:
    """Where the bracket with which the text begins is closed, by a bracket of whatever kind."""
    depth = 0
    for position, char in enumerate(text):
        depth += (char in _OPENING) - (char in _CLOSING)
        if depth == 0:
            return position
    return -1


_READERS = (
    _choice, _moment, _code, _in_base, _empty, _infinite, _quantity, _bracketed, _union, _compared, _reckoned, _assigned, _listed,
    _formula,
)  # fmt: skip
