"""What was done to an experiment: by people, whose changes say who and why, and by the reweighter, whose weights do."""

from collections.abc import Iterable
from dataclasses import dataclass

from schemas.events import ExperimentChanged, WeightsPublished

REWEIGHTER = "reweighter"
# What its versions do besides moving shares, by their reason.
_DEEDS = {
    "ramp": "shadow becomes ramp",
    "check": "shadow ends",
    "guardrail": "arm is out",
    "winner": "winner is named",
    "spent": "shadow rests until midnight",
}


@dataclass(frozen=True, slots=True)
class Done:
    """One thing that was done, when, by whom and why."""

    at_ms: int
    revision: int
    what: str
    by: str
    why: str


def history(changes: Iterable[ExperimentChanged], versions: Iterable[WeightsPublished]) -> list[Done]:
    """All of it, the first one first; versions that only move shares are left out."""
    done = [
        Done(each.changed_ms, each.revision, " ".join(filter(None, (each.change.value, each.arm))), each.by, each.why)
        for each in changes
    ]
    done += [
        Done(each.as_of_ms, each.revision, _DEEDS[each.reason], REWEIGHTER, f"version {each.version}: {_why(each)}")
        for each in versions
        if each.reason in _DEEDS
    ]
    return sorted(done, key=lambda each: (each.revision, each.at_ms))


def _why(weights: WeightsPublished) -> str:
    if weights.why:
        return weights.why
    match weights.reason:
        case "guardrail":
            return ", ".join(f"{arm} breaks {metric}" for arm, metric in weights.out.items())
        case "winner":
            return "; ".join(_winners(weights))
        case _:
            return f"{weights.spent_micro / 1e6:.2f} dollars were spent on this day"


def _winners(weights: WeightsPublished) -> list[str]:
    """The arms that have won, each with the segment that it has won."""
    won = {"": weights.winner} | {f" in {segment}": each.winner for segment, each in weights.segments.items()}
    return [f"{winner} is better than each of the others{where}" for where, winner in won.items() if winner]
