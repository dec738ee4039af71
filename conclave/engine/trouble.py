"""What keeps an engine from decoding, for whoever operates it."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class TroubleKind(StrEnum):
    """How an engine is kept from decoding."""

    AWAY = "away"  # it can't be reached, or does nothing but fail: it is tried again until it answers
    BARRED = "barred"  # a setting or an account is at fault: it will not pass by itself
    BUSY = "busy"  # it takes nothing more for a while, and has said so
    UNSTEADY = "unsteady"  # it answers, and the latest call failed nevertheless


@dataclass(frozen=True, slots=True)
class Trouble:
    """One reason. `setting` names what an operator has to mend, "" where there is nothing to mend."""

    kind: TroubleKind
    why: str
    setting: str = ""

    @property
    def keeps_from_taking(self) -> bool:
        """True while there is no use in taking more samples."""
        return self.kind is not TroubleKind.UNSTEADY

    @property
    def makes_unready(self) -> bool:
        """True while the engine decodes nothing, and nobody knows until when."""
        return self.kind in (TroubleKind.AWAY, TroubleKind.BARRED)

    def __str__(self) -> str:
        return f"look at {self.setting}: {self.why}" if self.setting else self.why


TroubleListener = Callable[[Trouble | None], None]  # hears what makes the engine unready, and None when it is back


def ignore(_: Trouble | None) -> None:
    """Hears nothing."""
