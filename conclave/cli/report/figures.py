"""How a report writes figures; what is not known is an empty text."""

from typing import Any

from conclave.domain.statistics.betting import Outcomes, interval

RISK = 0.05  # of an interval that is shown, at all looks together

Worth = tuple[float, float, float]  # a mean and the interval that it lies in


def mean_worth(judged: int, total: float | None) -> Worth | None:
    """The mean reward and the interval that it lies in; None where nobody judged."""
    if not judged or total is None:
        return None
    outcomes = Outcomes(judged, float(total))
    return outcomes.mean, *interval(outcomes, RISK)


def with_interval(found: Worth | None) -> str:
    """A mean with its interval."""
    return "" if found is None else f"{found[0]:.3f} [{found[1]:.3f}, {found[2]:.3f}]"


def tenth(place: int) -> str:
    """The ends of a tenth of what goes from 0 to 1."""
    return f"{place / 10:.1f} … {(place + 1) / 10:.1f}"


def whole(number: Any) -> str:
    """A count."""
    return f"{int(number or 0):,}"


def percent(share: float | None) -> str:
    """A share."""
    return "" if share is None else f"{share:.1%}"


def three_places(number: float | None) -> str:
    """A number from 0 to 1, or so."""
    return "" if number is None else f"{number:.3f}"


def dollars(amount: float | None) -> str:
    """An amount, which may be small; "?" where prices are not known."""
    return "?" if amount is None else f"{amount:.6f}"


def milliseconds(duration_ms: float | None) -> str:
    """A duration."""
    return "" if duration_ms is None else f"{duration_ms:,.0f} ms"


def age(seconds: float | None) -> str:
    """A longer one, in its own unit."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds is not None and seconds >= size:
            return f"{float(seconds) / size:.1f} {unit}"
    return "" if seconds is None else f"{float(seconds):.0f} s"
