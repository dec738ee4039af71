"""What an experiment has shown so far: each arm with intervals that hold at every look, and whether its traffic can be trusted."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from conclave.domain.experiments.assignment import REST, allocation_for
from conclave.domain.experiments.evidence import ANSWERED, Deal, Evidence, key_of, resolved
from conclave.domain.experiments.phases import in_force
from conclave.domain.experiments.pooling import borrowed_counts
from conclave.domain.experiments.reweighting import decided
from conclave.domain.experiments.shares import first_allocation, ramped
from conclave.domain.experiments.states import Strata, segments_named, strata_of
from conclave.domain.experiments.unseen import Standing, standings
from conclave.domain.statistics.betting import Outcomes, interval
from conclave.domain.statistics.dealing import Dealt, log_evidence_of_tilt
from conclave.domain.statistics.estimating import Estimate, Served, TooFew, augmented, self_normalised
from schemas.events import ExperimentChanged, WeightsPublished
from schemas.experiments import HOLDOUT, Experiment, MetricCounts

ALARM_RISK = 0.001  # of a sample-ratio alarm on a healthy experiment, for all its looks together

Allocations = Callable[[Deal], Mapping[str, float]]  # by which shares units were drawn
Phase = Literal["shadow", "ramp"]


@dataclass(frozen=True, slots=True)
class ArmReport:
    """An arm so far. `mean` is of those units whose window has passed; `lower` and `upper` hold at all looks at once."""

    arm: str
    policy: str
    share: float
    num_units: int
    num_resolved: float
    response_rate: float
    mean: float
    lower: float
    upper: float
    probability_best: float
    snips: Estimate | None  # None: too few to say
    aipw: Estimate | None
    out_by: str | None


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The sample-ratio test of one stage: units assigned, answered, or with feedback. An e-value of 1000 is an alarm."""

    stage: str
    log_evidence: float

    @property
    def is_alarm(self) -> bool:
        """True when it would happen to fewer than one in a thousand healthy experiments, however often they are looked at."""
        return self.log_evidence >= math.log(1 / ALARM_RISK)


@dataclass(frozen=True, slots=True)
class SegmentArm:
    """An arm in a segment, by the segment's own units; what it borrows of the others moves shares, and proves nothing."""

    arm: str
    share: float
    num_units: int
    num_resolved: float
    mean: float
    lower: float
    upper: float
    probability_best: float
    borrowed: float  # so many outcomes of its own are worth what it borrows


@dataclass(frozen=True, slots=True)
class SegmentReport:
    """A segment so far; "" is the rest."""

    segment: str
    winner: str | None
    arms: tuple[SegmentArm, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """An experiment so far."""

    experiment: Experiment
    revision: int
    version: int
    winner: str | None
    arms: tuple[ArmReport, ...]
    mismatches: tuple[Mismatch, ...]
    phase: Phase | None = None  # of one that begins unseen, or climbs
    checks: tuple[Standing, ...] = ()  # how those of its shadow stand, while it is one
    segments: tuple[SegmentReport, ...] = ()  # of an experiment that has them: the rest, then each that is named
    segment_correlation: float = 0.0


def phase_of(change: ExperimentChanged, weights: WeightsPublished | None) -> Phase | None:
    """Whether an experiment is a shadow or a ramp; None of one that is neither."""
    experiment = in_force(change, weights)
    return "shadow" if experiment.shadow is not None else "ramp" if experiment.ramp else None


def report(change: ExperimentChanged, evidence: Evidence, versions: Sequence[WeightsPublished]) -> Report:
    """The report of a run, by the evidence given, of the phase that it is in, and the weights published so far."""
    of_run = [weights for weights in versions if weights.revision == change.revision]
    last = of_run[-1] if of_run else None
    experiment = in_force(change, last)
    strata = strata_of(experiment, evidence, segments_named(change.revision, last))
    as_of_ms, spent_micro = evidence.as_of_ms, evidence.spent_micro
    now = decided(change, strata, last, as_of_ms=as_of_ms, watermark={}, spent_micro=spent_micro)
    allocations = _allocations(experiment, of_run)
    allocation = last.allocation if last else allocations((0, REST))
    arms = sorted(experiment.arms) + ([HOLDOUT] if experiment.holdout else [])
    best = {arm: state.probability_best for arm, state in now.states.items()}
    return Report(
        experiment,
        change.revision,
        last.version if last else 0,
        now.winner,
        tuple(_arm(experiment, evidence, allocations, arm, allocation, best, now.out) for arm in arms),
        mismatches(experiment, evidence, allocations),
        phase_of(change, last),
        standings(experiment, strata[REST]),
        _segments(experiment, strata, now, last) if experiment.segment_by else (),
        now.segment_correlation,
    )


def _allocations(experiment: Experiment, versions: Sequence[WeightsPublished]) -> Allocations:
    """By which shares units of a version and segment were drawn, and served."""
    known, first = {weights.version: weights for weights in versions}, first_allocation(experiment)

    def shares(deal: Deal) -> Mapping[str, float]:
        version, segment = deal
        if experiment.shadow is not None:  # whatever was drawn for a shadow, the control served
            return ramped(experiment, 0.0)
        if version == 0:
            return first
        return allocation_for(known[version], segment) if version in known else {}

    return shares


def _segments(
    experiment: Experiment, strata: Strata, now: WeightsPublished, last: WeightsPublished | None
) -> tuple[SegmentReport, ...]:
    """Each segment, and the rest before them, as it would be decided now and with the shares that are in force."""
    borrowed = borrowed_counts(
        {of: {arm: (each.alpha, each.beta) for arm, each in states.items()} for of, states in strata.items()},
        now.segment_correlation,
    )
    found = []
    for segment, states in sorted(
        ({REST: now.states} | {of: each.states for of, each in now.segments.items()}).items()
    ):
        allocation = allocation_for(last, segment) if last else first_allocation(experiment)
        winner = now.segments[segment].winner if segment != REST else None
        rows = []
        for arm, state in sorted(states.items()):
            counts = state.counts[key_of(experiment.goal)]
            outcomes = Outcomes(*resolved(experiment.goal, counts))
            lower, upper = interval(outcomes, experiment.risk)
            shown = (allocation.get(arm, 0.0), counts.num_units, outcomes.num, outcomes.mean, lower, upper)
            rows.append(SegmentArm(arm, *shown, state.probability_best, borrowed[segment][arm]))
        found.append(SegmentReport(segment, winner, tuple(rows)))
    return tuple(found)


def mismatches(experiment: Experiment, evidence: Evidence, allocations: Allocations) -> tuple[Mismatch, ...]:
    """Whether units were assigned, answered and judged in the shares that were drawn by."""
    goal, answered = key_of(experiment.goal), key_of(ANSWERED)
    stages: dict[str, tuple[str, Callable[[MetricCounts], int]]] = {
        "assigned": (goal, lambda counts: counts.num_units),
        "answered": (answered, lambda counts: counts.num_observed + counts.num_early),
        "judged": (goal, lambda counts: counts.num_observed + counts.num_early),
    }
    return tuple(
        Mismatch(stage, log_evidence_of_tilt(_dealt(evidence, allocations, key, num_of)))
        for stage, (key, num_of) in stages.items()
    )


def _dealt(
    evidence: Evidence, allocations: Allocations, key: str, num_of: Callable[[MetricCounts], int]
) -> list[Dealt]:
    return [
        Dealt(allocations(deal), {arm: num_of(counts) for arm, counts in arms.items()})
        for deal, arms in evidence.by_deal(key).items()
    ]


def _arm(
    experiment: Experiment,
    evidence: Evidence,
    allocations: Allocations,
    arm: str,
    allocation: Mapping[str, float],
    best: Mapping[str, float],
    out: Mapping[str, str],
) -> ArmReport:
    counts = evidence.of(key_of(experiment.goal), arm)
    outcomes = Outcomes(*resolved(experiment.goal, counts))
    lower, upper = interval(outcomes, experiment.risk)
    has_passed = counts.num_observed + counts.num_missing
    served = _served(experiment, evidence, allocations, arm)
    policy = experiment.arms[experiment.control if arm == HOLDOUT else arm].policy
    return ArmReport(
        arm=arm,
        policy=policy,
        share=allocation.get(arm, 0.0),
        num_units=counts.num_units,
        num_resolved=outcomes.num,
        response_rate=counts.num_observed / has_passed if has_passed else 0.0,
        mean=outcomes.mean,
        lower=lower,
        upper=upper,
        probability_best=best.get(arm, 0.0),
        snips=_or_none(self_normalised, served),
        aipw=_or_none(augmented, served),
        out_by=out.get(arm),
    )


def _served(experiment: Experiment, evidence: Evidence, allocations: Allocations, arm: str) -> list[Served]:
    """By version and segment: all units with an outcome, and those of the arm."""
    found = []
    for deal, arms in evidence.by_deal(key_of(experiment.goal)).items():
        all_arms = {name: resolved(experiment.goal, counts) for name, counts in arms.items()}
        num, total = all_arms.get(arm, (0.0, 0.0))
        propensity = allocations(deal).get(arm, 0.0)
        found.append(Served(sum(each for each, _ in all_arms.values()), propensity, num, total))
    return found


def _or_none(estimate: Callable[[Sequence[Served]], Estimate], served: Sequence[Served]) -> Estimate | None:
    try:
        return estimate(served)
    except TooFew:
        return None
