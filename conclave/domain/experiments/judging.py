"""Which arms have broken a guardrail, and which has won: tests that are valid at every look, in each segment by itself.

Arms are never compared over segments: where shares differ by segment, an arm that is served where questions are easy would look
better than it is.
"""

import math
from collections.abc import Sequence

from conclave.domain.experiments.assignment import REST
from conclave.domain.experiments.evidence import key_of, known, resolved
from conclave.domain.experiments.phases import candidate_of
from conclave.domain.experiments.states import States, Strata, together
from conclave.domain.experiments.unseen import broken_check
from conclave.domain.statistics.betting import Outcomes, log_evidence_below, log_evidence_of_lead
from schemas.experiments import ArmState, Experiment, Guardrail, Metric


def broken(experiment: Experiment, strata: Strata) -> dict[str, str]:
    """The arms that break a guardrail, or a shadow's check, each with the metric; never the control: its traffic has nowhere to go.

    One-sided tests that are valid at every look: an arm that keeps to a guardrail in every segment is ever out by it with
    probability `risk` at most. It is out of all segments.
    """
    found = {
        arm: key_of(guardrail.metric)
        for guardrail in reversed(experiment.guardrails)
        for arm in strata[REST]
        if arm != experiment.control and _breaks(guardrail, arm, experiment, strata)
    }
    check = broken_check(experiment, strata[REST])
    return found if check is None else {candidate_of(experiment): check.key}


def winner_of(experiment: Experiment, states: States) -> str | None:
    """The arm that is better than each of the others, but for the experiment's risk; None while none is known to be.

    Each pair is tested by the likelihood ratio of Bernoulli outcomes against mixtures (conclave.domain.statistics.betting),
    at the risk divided by the number of rivals: all of them must be beaten, and any may be the true best. Of an experiment with
    segments, `states` are of one, and the risk is divided by how many there may be, too.
    """
    if len(states) < 2 or not is_seen(experiment, [states], list(states)):
        return None
    outcomes = {arm: _outcomes(experiment.goal, each) for arm, each in states.items()}
    num_tests = (len(states) - 1) * (experiment.max_segments if experiment.segment_by else 1)
    wanted = math.log(num_tests / experiment.risk)
    leader = max(sorted(outcomes), key=lambda arm: outcomes[arm].mean)
    rivals = [arm for arm in outcomes if arm != leader]
    has_won = all(log_evidence_of_lead(outcomes[leader], outcomes[arm]) >= wanted for arm in rivals)
    return leader if has_won else None


def is_seen(experiment: Experiment, of: Sequence[States], arms: Sequence[str]) -> bool:
    """True once each arm was observed often enough to judge by, in all segments given together."""
    key = key_of(experiment.goal)
    return all(known(experiment.goal, together(of, key, arm))[0] >= experiment.min_observations for arm in arms)


def over_segments(evidence: Sequence[float], num_segments: int) -> float:
    """The logarithm of an e-value that is large where all of `evidence` is a little, or one of it very: these are logarithms, too.

    Half the product, which is one as no two segments have a unit in common, and half the mean over all segments that there may
    be, of which those that are not there yet count 1. Of a single one it is that.
    """
    if num_segments == 1:
        return evidence[0]
    missing = [0.0] * (num_segments - len(evidence))
    product = sum(evidence) + math.log(0.5)
    terms = [product, *(each - math.log(2 * num_segments) for each in (*evidence, *missing))]
    largest = max(terms)
    return largest + math.log(sum(math.exp(each - largest) for each in terms))


def _breaks(guardrail: Guardrail, arm: str, experiment: Experiment, strata: Strata) -> bool:
    evidence = [_evidence(guardrail, arm, experiment.control, strata[segment]) for segment in sorted(strata)]
    num_segments = experiment.max_segments + 1 if experiment.segment_by else 1
    return over_segments(evidence, num_segments) >= math.log(1 / guardrail.risk)


def _evidence(guardrail: Guardrail, arm: str, control: str, states: States) -> float:
    of_arm = _outcomes(guardrail.metric, states[arm])
    if guardrail.at_least is not None:
        return log_evidence_below(of_arm, guardrail.at_least)
    return log_evidence_of_lead(_outcomes(guardrail.metric, states[control]), of_arm, by=guardrail.max_drop or 0.0)


def _outcomes(metric: Metric, state: ArmState) -> Outcomes:
    return Outcomes(*resolved(metric, state.counts[key_of(metric)]))
