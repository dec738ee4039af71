"""A tenant's budget of tokens over the last 24 hours, counted by the hour in which requests ended. Pure: ages are arguments."""

from collections.abc import Collection
from dataclasses import dataclass

WINDOW_HOURS = 24
_WINDOW_S = WINDOW_HOURS * 3600.0


@dataclass(frozen=True, slots=True)
class Spent:
    """Tokens of the requests that ended in an hour which began `age_s` ago."""

    age_s: float
    tokens: int


def free_in_s(hours: Collection[Spent], under_way: int, tokens_per_day: int) -> float | None:
    """Seconds until something of the budget is free; None where it is now.

    An hour counts as a whole until 24 hours after it began. `under_way` are tokens that open requests have generated so far: they
    will count in the hour in which these end, so where they alone are too much it takes 24 hours.
    """
    counted = sorted((hour for hour in hours if hour.age_s < _WINDOW_S), key=lambda hour: -hour.age_s)
    spent = under_way + sum(hour.tokens for hour in counted)
    if spent < tokens_per_day:
        return None
    for hour in counted:
        spent -= hour.tokens
        if spent < tokens_per_day:
            return _WINDOW_S - hour.age_s
    return _WINDOW_S
