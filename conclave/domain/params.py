"""The parameters that a rule or a strategy reads: each declared with its default and range where it is used."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter. What a policy says is checked against the range at the door; here a value beyond it counts as its end."""

    default: float
    low: float
    high: float
    is_whole: bool = False

    @property
    def expected(self) -> str:
        """What a value must be, in words."""
        return f"{'a whole number' if self.is_whole else 'a number'} from {self.low:g} to {self.high:g}"

    def takes(self, value: float) -> bool:
        """True for a value within the range."""
        return self.low <= value <= self.high and not (self.is_whole and value != int(value))


Params = Mapping[str, Param]


def number(values: Mapping[str, float], declared: Params, name: str) -> float:
    """The value of a declared parameter: as given, within its range, or its default."""
    param = declared[name]
    return min(max(values.get(name, param.default), param.low), param.high)


def whole_number(values: Mapping[str, float], declared: Params, name: str) -> int:
    """The value of a declared parameter that is a whole number."""
    return int(number(values, declared, name))
