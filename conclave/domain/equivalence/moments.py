"""Dates, times of day and ratios: January 5, 2024 is 2024-01-05, 3:30 pm is 15:30, 4:6 is 2:3; but 11:00 is not 1:00."""

import re
from dataclasses import dataclass
from math import gcd

_MONTHS = "january february march april may june july august september october november december".split()
_MONTH = (
    r"(?P<month>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|"
    r"nov(?:ember)?|dec(?:ember)?)\.?"
)
_WEEKDAY = r"(?:(?:mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(?:day)?\.?,? )?(?:on )?(?:the )?"
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_DATES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"{_WEEKDAY}{_MONTH} {_DAY}(?:,? (?P<year>\d{{4}}))?",
        rf"{_WEEKDAY}{_DAY} (?:of )?{_MONTH}(?:,? (?P<year>\d{{4}}))?",
        rf"{_MONTH},? (?P<year>\d{{4}})",
        r"(?P<year>\d{4})-(?P<month>\d{1,2})-(?P<day>\d{1,2})",
        r"(?P<year>\d{4})/(?P<month>\d{1,2})/(?P<day>\d{1,2})",
        r"(?P<day>\d{1,2})\.(?P<month>\d{1,2})\.(?P<year>\d{4})",
    )
)
_TIME = re.compile(
    r"(?P<hour>\d{1,2})(?:[:.](?P<minute>[0-5]\d))?(?::(?P<second>[0-5]\d))?"
    r"(?: ?(?P<half>[ap])\.? ?m\.?| ?o'clock| ?(?P<h>h|hrs|hours|uhr))?",
    re.IGNORECASE,
)
_NAMED_TIMES = {"noon": (12, 0), "midday": (12, 0), "midnight": (0, 0)}
_RATIO = re.compile(r"(\d{1,9}) ?: ?(\d{1,9})(?: ?: ?(\d{1,9}))?(?: ?: ?(\d{1,9}))?")


@dataclass(frozen=True, slots=True)
class Clock:
    """A time of day. `half` is "" when the text does not say whether it is before or after noon."""

    hour: int
    minute: int
    second: int
    half: str


def date(text: str) -> str | None:
    """The date as ISO 8601 writes it, as far as it is given."""
    for pattern in _DATES:
        if (match := pattern.fullmatch(text)) is None:
            continue
        parts = match.groupdict()
        name = parts["month"].lower().rstrip(".")
        month = (
            int(name) if name.isdigit() else next(i for i, each in enumerate(_MONTHS, 1) if each.startswith(name[:3]))
        )
        day = int(parts.get("day") or 1)
        if 1 <= month <= 12 and 1 <= day <= 31:
            return f"{parts.get('year') or '----'}-{month:02}" + (f"-{day:02}" if parts.get("day") else "")
    return None


def clock(text: str) -> Clock | None:
    """The time of day; a bare number is none."""
    if named := _NAMED_TIMES.get(re.sub(r"^12 ", "", text.lower())):
        return Clock(named[0], named[1], 0, "pm" if named[0] else "am")
    match = _TIME.fullmatch(text)
    if match is None or not (match["minute"] or match["half"] or "'" in text) or match["h"]:
        return None
    if "." in text.split()[0].rstrip(".") and not match["half"] and ":" not in text:
        return None  # 3.30 is a number, 3.30 pm a time
    hour, minute, second = int(match["hour"]), int(match["minute"] or 0), int(match["second"] or 0)
    half = match["half"].lower() + "m" if match["half"] else ""
    if hour > 24 or (half and not 1 <= hour <= 12):
        return None
    if half:
        hour = hour % 12 + (12 if half == "pm" else 0)
    elif hour > 12 or hour == 0:
        half = "pm" if 12 <= hour < 24 else "am"
    return Clock(hour % 24, minute, second, half)


def ratio(text: str) -> str | None:
    """The ratio in lowest terms."""
    if (match := _RATIO.fullmatch(text)) is None:
        return None
    numbers = [int(group) for group in match.groups() if group is not None]
    common = gcd(*numbers) or 1
    return ":".join(str(number // common) for number in numbers)
