"""A time as people say it: so long ago, or a date."""

import re
from datetime import UTC, datetime, timedelta

import click

_AGO = re.compile(r"(\d{1,5})([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def since(context: click.Context, option: click.Parameter, said: str | None) -> datetime | None:
    """An option's moment: `30m`, `12h`, `7d`, `4w`, or a date or time in ISO 8601, in UTC where it names no zone."""
    if said is None:
        return None
    ago = _AGO.fullmatch(said)
    try:
        if ago is not None:
            return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        moment = datetime.fromisoformat(said)
    except (ValueError, OverflowError):
        expected = f"expected 30m, 12h, 7d or a date such as 2026-11-01, got {said!r}"
        raise click.BadParameter(expected, context, option) from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
