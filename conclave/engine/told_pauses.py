"""How long a server asks to be left alone, from the headers of its answer."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_EPOCH_S = 1e9  # a bare number above this is a time, not a duration
_WINDOWS = ("requests", "tokens", "input-tokens", "output-tokens")


def told_pause_s(headers: Mapping[str, str], *, now_s: float) -> float | None:
    """Seconds from now, 0 or more; None where the answer says nothing. Header names are in lower case.

    `retry-after-ms` comes first, then `retry-after` (seconds, or a date), then the resets of those rate limits of which
    nothing remains. A date is compared with the server's own clock where its answer has one.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return max(0.0, milliseconds / 1000)
    base_s = _date_s(headers.get("date")) or now_s
    asked = headers.get("retry-after")
    if asked is not None:
        return _pause_s(asked, base_s)
    return spent_limit_s(headers, now_s=now_s)


def spent_limit_s(headers: Mapping[str, str], *, now_s: float) -> float | None:
    """Seconds until the rate limits of which nothing remains are reset; None when something remains of all."""
    base_s = _date_s(headers.get("date")) or now_s
    pauses = [
        pause
        for remaining, reset in _limits(headers)
        if _number(remaining) == 0 and (pause := _pause_s(reset, base_s)) is not None
    ]
    return max(pauses, default=None)


def _limits(headers: Mapping[str, str]) -> list[tuple[str | None, str]]:
    """(what remains, when it is reset) of each rate limit that the headers tell of."""
    names = [(f"x-ratelimit-remaining-{each}", f"x-ratelimit-reset-{each}") for each in _WINDOWS]
    names += [(f"{prefix}ratelimit-remaining", f"{prefix}ratelimit-reset") for prefix in ("x-", "")]
    names += [(f"anthropic-ratelimit-{each}-remaining", f"anthropic-ratelimit-{each}-reset") for each in _WINDOWS]
    return [(headers.get(remaining), headers[reset]) for remaining, reset in names if reset in headers]


def _pause_s(text: str, base_s: float) -> float | None:
    number = _number(text)
    if number is not None:
        if number > _EPOCH_S:
            number = (number / 1000 if number > _EPOCH_S * 100 else number) - base_s
        return max(0.0, number)
    parts = _DURATION.findall(text)
    if parts and _DURATION.sub("", text.strip()) == "":
        return sum(float(amount) * _UNITS_S[unit] for amount, unit in parts)
    date_s = _date_s(text)
    return None if date_s is None else max(0.0, date_s - base_s)


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if abs(number) < 1e15 else None  # also false for NaN


def _date_s(text: str | None) -> float | None:
    """Seconds since 1970 of a date as HTTP or ISO 8601 write it."""
    if not text:
        return None
    for read in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            date = read(text.strip())
        except (ValueError, TypeError, OverflowError):
            continue
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    return None
