"""Reckoning with dates of the Gregorian calendar, years 1 to 9999, written as 2024-02-28.

2024-02-28 + 3 days                     ->  2024-03-02
2024-01-31 + 1 month                    ->  2024-02-29         the last day, where the month has no such day
days from 2024-02-28 to 2024-03-01      ->  2                  also weeks, months and years, whole ones
weekday of 2024-02-29                   ->  Thursday
is 2023 a leap year                     ->  no
"""

import re
from calendar import isleap, monthrange
from datetime import date, timedelta

from conclave.errors import ConclaveError

MAX_CHARS = 200
_DATE = r"(\d{4})-(\d{1,2})-(\d{1,2})"
_UNIT = r"(day|week|month|year)s?"
_MOVED = re.compile(rf"{_DATE} ?([+-]|plus|minus) ?(\d{{1,7}}) {_UNIT}", re.ASCII)
_BETWEEN = re.compile(
    rf"(?:(?:how many|number of) )?{_UNIT} (?:from|between) {_DATE} (?:to|until|and) {_DATE}", re.ASCII
)
_WEEKDAY = re.compile(rf"(?:what )?(?:week)?day(?: of(?: the week)?)?(?: of| is)? ?{_DATE}", re.ASCII)
_LEAP = re.compile(r"(?:is )?(\d{1,4})(?: is)? an? leap year", re.ASCII)
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


class _Wrong(ConclaveError):
    """What is wrong with a question about dates, in words for the model."""


def reckon(argument: str) -> str:
    """A date, a number, a weekday, yes or no, as the question wants it; or `error: …`. Total."""
    try:
        return _reckoned(argument)
    except _Wrong as wrong:
        return f"error: {wrong}"


def _reckoned(argument: str) -> str:
    if len(argument) > MAX_CHARS:
        raise _Wrong(f"at most {MAX_CHARS} characters are read")
    said = " ".join(argument.casefold().replace("−", "-").replace("?", " ").split())
    if match := _MOVED.fullmatch(said):
        year, month, day, sign, number, unit = match.groups()
        steps = int(number) * (-1 if sign in ("-", "minus") else 1)
        return _moved(_date(year, month, day), steps, unit).isoformat()
    if match := _BETWEEN.fullmatch(said):
        unit, *numbers = match.groups()
        return str(_between(_date(*numbers[:3]), _date(*numbers[3:]), unit))
    if match := _WEEKDAY.fullmatch(said):
        return _WEEKDAYS[_date(*match.groups()).weekday()]
    if match := _LEAP.fullmatch(said):
        return "yes" if isleap(int(match[1])) else "no"
    raise _Wrong("expected such as 2024-02-28 + 3 days, days from 2024-02-28 to 2024-03-01, weekday of 2024-02-29")


def _date(year: str, month: str, day: str) -> date:
    try:
        return date(int(year), int(month), int(day))
    except ValueError:
        raise _Wrong(f"{year}-{month}-{day} is no date") from None


def _moved(start: date, steps: int, unit: str) -> date:
    try:
        if unit in ("day", "week"):
            return start + timedelta(days=steps * (7 if unit == "week" else 1))
        months = start.year * 12 + start.month - 1 + steps * (12 if unit == "year" else 1)
        year, month = divmod(months, 12)
        return date(year, month + 1, min(start.day, monthrange(year, month + 1)[1]))
    except (ValueError, OverflowError):
        raise _Wrong("beyond the years 1 to 9999") from None


def _between(first: date, second: date, unit: str) -> int:
    """Whole units from the first to the second date; negative when the second comes before."""
    if second < first:
        return -_between(second, first, unit)
    days = (second - first).days
    if unit in ("day", "week"):
        return days // (7 if unit == "week" else 1)
    months = (second.year - first.year) * 12 + second.month - first.month
    is_last = second.day == monthrange(second.year, second.month)[1]
    months -= second.day < first.day and not is_last
    return months // (12 if unit == "year" else 1)
