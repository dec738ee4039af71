"""What is known and believed of each arm, in each segment: from the record's counts, and as versions of the weights keep it.

A segment is a value of a tag, such as a type of task, that has shares of its own; all other requests are the rest. A version of the
weights names a value once enough of its units were assigned, for the rest of the run. A unit counts in the segment that the
version it was drawn by names: then all that is compared was dealt by the same shares, and where a unit counts is settled before
anything is heard of it, so evidence stays valid at every look (decision 0055).
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from conclave.domain.experiments.assignment import REST
from conclave.domain.experiments.evidence import (
    BETTER,
    WORSE,
    Cell,
    Evidence,
    added,
    arms_of,
    beside,
    key_of,
    metrics_of,
)
from conclave.domain.experiments.phases import candidate_of
from conclave.domain.experiments.posterior import belief
from schemas.events import WeightsPublished
from schemas.experiments import ArmState, Experiment, MetricCounts, SegmentWeights

States = Mapping[str, ArmState]  # by arm
Strata = Mapping[str, States]  # by segment; the rest's are always there


def states_of(experiment: Experiment, evidence: Evidence) -> dict[str, ArmState]:
    """What is known and believed of each arm; `reweighting.decided` adds how probably each is the best."""
    states = {}
    for arm in arms_of(experiment):
        alpha, beta = belief(experiment, evidence, arm)
        keys = (*metrics_of(experiment), *_beside(experiment, arm))
        states[arm] = ArmState(alpha=alpha, beta=beta, counts={key: evidence.of(key, arm) for key in keys})
    return states


def strata_of(experiment: Experiment, evidence: Evidence, known: Mapping[str, SegmentWeights]) -> Strata:
    """The states of the rest, of the segments that are `known`, and of those to be named now, which have no own units yet."""
    segments = [*known, *_new(experiment, evidence, known)]
    cells: dict[str, list[Cell]] = {segment: [] for segment in (REST, *sorted(segments))}
    for cell in evidence.cells:
        of = known.get(cell.segment)
        cells[cell.segment if of is not None and cell.weights_version >= of.since else REST].append(cell)
    return {segment: states_of(experiment, replace(evidence, cells=tuple(of))) for segment, of in cells.items()}


def strata_in(weights: WeightsPublished) -> Strata:
    """The states that a version rests on, by segment."""
    return {REST: weights.states} | {segment: weights.segments[segment].states for segment in sorted(weights.segments)}


def segments_named(revision: int, weights: WeightsPublished | None) -> Mapping[str, SegmentWeights]:
    """The segments that a run has named, by the newest version of its weights."""
    return weights.segments if weights is not None and weights.revision == revision else {}


def together(counts: Iterable[States], metric: str, arm: str) -> MetricCounts:
    """An arm's counts over all segments."""
    return added(states[arm].counts[metric] for states in counts)


def _new(experiment: Experiment, evidence: Evidence, known: Mapping[str, SegmentWeights]) -> list[str]:
    """Values that are not named yet and have units enough, the most frequent ones first, as far as there is room."""
    if not experiment.segment_by:
        return []
    units: dict[str, int] = {}
    for cell in evidence.cells:
        if cell.metric == key_of(experiment.goal) and cell.segment not in (REST, *known):
            units[cell.segment] = units.get(cell.segment, 0) + cell.counts.num_units
    enough = [segment for segment, num in units.items() if num >= max(1, experiment.min_observations)]
    room = max(0, experiment.max_segments - len(known))
    return sorted(enough, key=lambda segment: (-units[segment], segment))[:room]


def _beside(experiment: Experiment, arm: str) -> list[str]:
    """What is counted of an arm in a shadow's pairs: of the copies also by how much they were better and worse."""
    if experiment.shadow is None:
        return []
    keys = [beside(check.metric) for check in experiment.shadow.checks]
    if arm != candidate_of(experiment):
        return keys
    return [key + what for key in keys for what in ("", BETTER, WORSE)]
