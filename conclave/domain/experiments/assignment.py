"""From a unit to its arm: a draw by hash, so that anyone can draw again and nobody can choose."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

from conclave.domain.experiments.shares import MILLION, first_allocation, in_millionths
from schemas.events import ExperimentChanged, ReasoningRequested, WeightsPublished
from schemas.experiments import HOLDOUT, REQUEST, Experiment

SHADOW_HOLDS_MS = 3_600_000
REST = ""  # the segment of requests of no other, and of those that no version has named yet
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")  # of a segment, as schemas.values.Name
_DRAW_BITS = 53  # a draw is a whole number that a float, and JSON everywhere, holds exactly


@dataclass(frozen=True, slots=True)
class Drawn:
    """An arm, and the probability with which a draw falls on it."""

    arm: str
    propensity: float


def salt_of(experiment: Experiment) -> str:
    """What the draws of an experiment begin with."""
    return experiment.salt or experiment.name


def draw(experiment: Experiment, unit: str) -> int:
    """The unit's draw, a whole number from 0 to 2**53: the first bits of sha256 over salt, experiment and unit.

    It depends on nothing else, so a unit keeps its arm for as long as the arm's interval holds its draw.
    """
    said = "\0".join((salt_of(experiment), experiment.name, unit)).encode("utf-8", "surrogatepass")
    return int.from_bytes(sha256(said).digest()[:8], "big") >> (64 - _DRAW_BITS)


def arm_at(allocation: Mapping[str, float], drawn: int) -> Drawn:
    """The arm whose interval holds the draw: intervals follow each other by name, as long as their shares in millionths."""
    shares, end = in_millionths(allocation), 0
    for name in sorted(shares):
        end += shares[name]
        if drawn * MILLION < end << _DRAW_BITS:
            return Drawn(name, shares[name] / MILLION)
    raise AssertionError(f"shares that add up to {end} leave no room for draw {drawn}")


def served(experiment: Experiment, drawn: Drawn) -> Drawn:
    """By which arm a request is served: the one drawn, but for a shadow, which only answers a copy of it."""
    return drawn if experiment.shadow is None else Drawn(experiment.control, 1.0)


def is_counted(change: ExperimentChanged, weights: WeightsPublished | None, now_ms: int) -> bool:
    """True while somebody counts what a shadow costs: its share holds for an hour after the last word on it."""
    since_ms = weights.as_of_ms if weights is not None and weights.revision == change.revision else change.changed_ms
    return now_ms - since_ms <= SHADOW_HOLDS_MS


def unit_of(experiment: Experiment, request: ReasoningRequested, request_id: str) -> str | None:
    """Who is assigned: the request, or what its tag of the unit's name says. None for a request that takes no part."""
    if any(request.tags.get(tag) != value for tag, value in experiment.only_tags.items()):
        return None
    return request_id if experiment.unit == REQUEST else request.tags.get(experiment.unit) or None


def segment_of(experiment: Experiment, request: ReasoningRequested) -> str | None:
    """The request's segment, named yet or not: REST where its tag is missing or no name. None of an experiment without segments."""
    if not experiment.segment_by:
        return None
    said = request.tags.get(experiment.segment_by, REST)
    return said if _NAME.fullmatch(said) else REST


def allocation_of(
    experiment: Experiment, revision: int, weights: WeightsPublished | None, segment: str | None = None
) -> tuple[int, Mapping[str, float]]:
    """The version in force and its allocation for a segment, that of the rest where it names none such.

    Weights of another revision are of another run: 0 and the first shares.
    """
    if weights is None or weights.revision != revision:
        return 0, first_allocation(experiment)
    return weights.version, allocation_for(weights, segment)


def allocation_for(weights: WeightsPublished, segment: str | None) -> Mapping[str, float]:
    """A version's allocation for a segment."""
    named = weights.segments.get(segment or REST)
    return weights.allocation if named is None else named.allocation


def policy_arm(experiment: Experiment, arm: str) -> str:
    """The arm whose policy serves `arm`: the hold-out gets the control's."""
    return experiment.control if arm == HOLDOUT else arm
