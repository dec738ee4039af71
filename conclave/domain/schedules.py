"""When which samples of a step are launched: `SCHEDULES`, a function and a row each.

A schedule decides how bold sampling is, never what it comes to: votes count in launch order, over samples that have all
reported, and what is cancelled never votes. So the verdict is the same whatever the schedule and whatever arrives first; what
differs is how long it takes and what is decoded in vain.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil

from conclave.domain.params import Param, Params, number, whole_number
from schemas.values import MAX_SAMPLES, Ask

_IN_FLIGHT: Params = {"in_flight": Param(8, 1, MAX_SAMPLES, is_whole=True)}
_LOOKAHEAD: Params = {"lookahead": Param(4.0, 1.0, 16.0)}


@dataclass(frozen=True, slots=True)
class Standing:
    """How far the sampling of a step is, while nothing is decided."""

    needed: int  # samples beyond the first `in_order` that it takes at least
    in_order: int  # so many first samples have all reported
    launched: int
    reported: int
    most: int  # samples that the ask allows
    load: float | None  # how full the engine was when the latest paths ended, 0 to 1; None: nobody has said

    @property
    def running(self) -> int:
        """Samples that have not reported."""
        return self.launched - self.reported


@dataclass(frozen=True, slots=True)
class Schedule:
    """A row of `SCHEDULES`: how many samples to launch now. A patient one launches none while any runs, and is not asked then."""

    num_more: Callable[[Standing, Ask], int]
    params: Params = field(default_factory=dict)
    is_patient: bool = False


def waves(standing: Standing, ask: Ask) -> int:
    """The deficit once all that was launched has reported: the fewest samples, and the fewest events."""
    return standing.needed


def as_needed(standing: Standing, ask: Ask) -> int:
    """The deficit as soon as it is known to be one: no sample more than in waves, and none later."""
    return standing.in_order + standing.needed - standing.launched


def in_flight(standing: Standing, ask: Ask) -> int:
    """As many as keep `in_flight` of them running."""
    return whole_number(ask.params, _IN_FLIGHT, "in_flight") - standing.running


def at_once(standing: Standing, ask: Ask) -> int:
    """All that the ask allows: the shortest wait, and the most that is decoded in vain."""
    return standing.most - standing.launched


def auto(standing: Standing, ask: Ask) -> int:
    """`lookahead` times the deficit while the engine is idle, less the fuller it is, and no more than the deficit when it is full.

    As long as nobody has said how full it is, it counts as idle: where it is not, what is launched in vain waits for its turn in
    the decoder, and is cancelled there.
    """
    boldness = number(ask.params, _LOOKAHEAD, "lookahead") - 1.0
    factor = 1.0 + boldness * (1.0 - (standing.load or 0.0))
    return standing.in_order + ceil(standing.needed * factor) - standing.launched


SCHEDULES: dict[str, Schedule] = {
    "waves": Schedule(waves, is_patient=True),
    "as_needed": Schedule(as_needed),
    "in_flight": Schedule(in_flight, _IN_FLIGHT),
    "at_once": Schedule(at_once),
    "auto": Schedule(auto, _LOOKAHEAD),
}


def num_to_launch(standing: Standing, ask: Ask) -> int:
    """How many samples to launch now, within what the ask allows; with none running, at least those that are needed."""
    schedule = SCHEDULES[ask.schedule]
    if schedule.is_patient and standing.running:
        return 0
    num_left = max(0, standing.most - standing.launched)
    least = 0 if standing.running else standing.needed
    return min(max(schedule.num_more(standing, ask), least, 0), num_left)
