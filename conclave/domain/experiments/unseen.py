"""What a shadow must show before anyone is served by its policy, and what ends it: tests that hold at every look.

A pair is a request and its copy. Of each unit the first pair counts, once the deadlines of both have passed: who is quick to answer
is not who is slow. Whatever has not ended by then counts as the worst that it could be where the shadow is to be trusted, and as
the best where it is to be ended: what the record lacks proves neither.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from conclave.domain.experiments.evidence import BETTER, WORSE, beside
from conclave.domain.experiments.phases import candidate_of
from conclave.domain.statistics.betting import Outcomes, log_evidence_above, log_evidence_below
from conclave.domain.statistics.paired import Differences, log_evidence_of_difference
from schemas.experiments import ArmState, Experiment, Guardrail, MetricCounts

States = Mapping[str, ArmState]
_NONE = MetricCounts()


@dataclass(frozen=True, slots=True)
class Standing:
    """How a check stands. Evidence is the logarithm of an e-value; at `wanted` it is decided, one way or the other."""

    check: Guardrail
    key: str  # of the metric
    num_pairs: int  # whose deadlines have passed
    num_missing: int  # of these, pairs of which one has not ended
    mean: float  # of the copies that ended
    served_mean: float  # of what was served in their place
    evidence_for: float
    evidence_against: float
    is_enough: bool  # pairs for the experiment's `min_observations`

    @property
    def wanted(self) -> float:
        """The evidence at which it is decided."""
        return math.log(1 / self.check.risk)

    @property
    def holds(self) -> bool:
        """True when the shadow is known to keep to it."""
        return self.is_enough and self.evidence_for >= self.wanted

    @property
    def is_broken(self) -> bool:
        """True when the shadow is known not to."""
        return self.is_enough and self.evidence_against >= self.wanted

    def __str__(self) -> str:
        """The check and its figures, in words: whole counts, and means to three places."""
        bound = (
            f"at least {self.check.at_least:g}"
            if self.check.at_least is not None
            else f"at most {self.check.max_drop:g} below {self.served_mean:.3f}"
        )
        missing = f", {self.num_missing} without an end" if self.num_missing else ""
        return f"{self.key} {self.mean:.3f}, wanted {bound}, of {self.num_pairs} pairs{missing}"


def standings(experiment: Experiment, states: States) -> tuple[Standing, ...]:
    """How each check of an experiment's shadow stands by what is known of its arms; none without a shadow."""
    if experiment.shadow is None:
        return ()
    return tuple(_standing(experiment, check, states) for check in experiment.shadow.checks)


def broken_check(experiment: Experiment, states: States) -> Standing | None:
    """The first check that the shadow is known to break."""
    return next((each for each in standings(experiment, states) if each.is_broken), None)


def may_be_seen(experiment: Experiment, states: States) -> bool:
    """True once every check is known to hold: a shadow that breaks one is trusted with that one's `risk` at most."""
    found = standings(experiment, states)
    return bool(found) and all(each.holds for each in found)


def _standing(experiment: Experiment, check: Guardrail, states: States) -> Standing:
    candidate, key = candidate_of(experiment), beside(check.metric)
    of_copies, better, worse = (states[candidate].counts.get(name, _NONE) for name in (key, key + BETTER, key + WORSE))
    of_served = states[experiment.control].counts.get(key, _NONE)
    num, missing = of_copies.num_observed + of_copies.num_missing, of_copies.num_missing
    if check.at_least is not None:
        worst, best = (Outcomes(num, of_copies.sum_micro / 1e6 + more) for more in (0, missing))
        found = log_evidence_above(worst, check.at_least), log_evidence_below(best, check.at_least)
    else:
        won, lost, drop = better.sum_micro / 1e6, worse.sum_micro / 1e6, check.max_drop or 0.0
        found = (
            log_evidence_of_difference(Differences(num, won, lost + missing), above=-drop),
            log_evidence_of_difference(Differences(num, won + missing, lost).mirrored(), above=drop),
        )
    return Standing(
        check=check,
        key=key,
        num_pairs=num,
        num_missing=missing,
        mean=_mean(of_copies),
        served_mean=_mean(of_served),
        evidence_for=found[0],
        evidence_against=found[1],
        is_enough=num >= max(1, experiment.min_observations),
    )


def _mean(counts: MetricCounts) -> float:
    return counts.sum_micro / 1e6 / counts.num_observed if counts.num_observed else 0.0
