"""From what the record holds to an experiment's next weights: a pure function, so that anyone can compute them again.

A version, in the numbers that `decided` repeats:
    1. arms that break a guardrail are out, for the rest of the run
    2. an arm that is better than each of the others, by an always-valid test, has won, for the rest of the run
    3. the arms that are left get the shares of their mode, or the next one of a ramp whose share has held for long enough; no arm
       wins or moves before each was observed often enough
    4. no share is below the floor, or moves further than the cap; what an arm that is out leaves goes to the control at once
    5. a shadow keeps its share of copies until the day's money is spent, and has it again the day after
    6. a shadow whose checks all hold becomes a ramp, if it has one; one that breaks a check is out like an arm by a guardrail
"""

import math
from collections.abc import Mapping
from hashlib import sha256

import msgspec
from msgspec.structs import replace

from conclave.domain.experiments.assignment import salt_of
from conclave.domain.experiments.evidence import (
    BETTER,
    WORSE,
    Evidence,
    arms_of,
    beside,
    key_of,
    known,
    metrics_of,
    resolved,
)
from conclave.domain.experiments.phases import candidate_of, in_force, ramp_since
from conclave.domain.experiments.posterior import belief, probabilities_of_best
from conclave.domain.experiments.shares import first_allocation, ramped, with_holdout
from conclave.domain.experiments.targets import TARGETS, towards, with_floor
from conclave.domain.experiments.unseen import broken_check, may_be_seen, standings
from conclave.domain.statistics.betting import Outcomes, log_evidence_below, log_evidence_of_lead
from schemas.events import ExperimentChanged, WeightsPublished
from schemas.experiments import HOLDOUT, ArmState, Experiment, Guardrail, Metric, Mode, Shadow

_ANY_CHANGE = 1e-9
_RENEWED_MS = 900_000  # a version of a shadow's says that somebody still counts: four in the time that it holds
_LEAST_CHANGE = 0.005  # of a share: what moves by less is not worth a version

States = Mapping[str, ArmState]


def states_of(experiment: Experiment, evidence: Evidence) -> dict[str, ArmState]:
    """What is known and believed of each arm; `decided` adds how probably each is the best."""
    states = {}
    for arm in arms_of(experiment):
        alpha, beta = belief(experiment, evidence, arm)
        keys = (*metrics_of(experiment), *_beside(experiment, arm))
        states[arm] = ArmState(alpha=alpha, beta=beta, counts={key: evidence.of(key, arm) for key in keys})
    return states


def _beside(experiment: Experiment, arm: str) -> list[str]:
    """What is counted of an arm in a shadow's pairs: of the copies also by how much they were better and worse."""
    if experiment.shadow is None:
        return []
    keys = [beside(check.metric) for check in experiment.shadow.checks]
    if arm != candidate_of(experiment):
        return keys
    return [key + what for key in keys for what in ("", BETTER, WORSE)]


def next_weights(
    change: ExperimentChanged, evidence: Evidence, previous: WeightsPublished | None, watermark: Mapping[str, int]
) -> WeightsPublished | None:
    """The version that follows `previous`; None where nothing that decomposers go by would change."""
    states = states_of(in_force(change, previous), evidence)
    found = decided(
        change, states, previous, as_of_ms=evidence.as_of_ms, watermark=watermark, spent_micro=evidence.spent_micro
    )
    return found if _says_more(found, _of_run(change, previous), change) else None


def decided(
    change: ExperimentChanged,
    states: States,
    previous: WeightsPublished | None,
    *,
    as_of_ms: int,
    watermark: Mapping[str, int],
    spent_micro: int = 0,
) -> WeightsPublished:
    """The version that follows `previous` from what is known of the arms, and of what a shadow has spent on this day."""
    experiment, before = in_force(change, previous), _of_run(change, previous)
    out = dict(before.out) if before else {}
    newly_out = {arm: metric for arm, metric in broken(experiment, states).items() if arm not in out}
    out |= newly_out  # 1, 6
    number, since = previous.version + 1 if previous else 1, ramp_since(change.revision, before)
    begins = bool(not since and not out and change.definition.ramp and may_be_seen(experiment, states))  # 6
    best = probabilities_of_best({arm: (each.alpha, each.beta) for arm, each in states.items() if arm not in out})
    left = {arm: states[arm] for arm in best}
    won = before.winner if before and before.winner not in out else None
    winner = won or winner_of(experiment, left)  # 2
    given_back = _given_back(experiment, before, newly_out) if newly_out else None
    if begins:
        shares = ramped(experiment, change.definition.ramp[0])  # 6
    elif experiment.shadow is not None:
        shares = ramped(experiment, _shadowed(experiment.shadow, spent_micro, out))  # 5
    elif given_back:
        shares = given_back
    elif experiment.ramp:
        since_ms = before.as_of_ms if before else change.changed_ms
        shares = _climbed(experiment, left, before, held_ms=as_of_ms - since_ms)  # 3
    else:
        shares = _moved(experiment, left, best, winner, before)  # 3, 4
    weights = WeightsPublished(
        experiment=experiment.name,
        version=number,
        revision=change.revision,
        allocation=with_holdout(experiment, shares | dict.fromkeys(out, 0.0)),
        reason="ramp"
        if begins
        else _reason(experiment, out, newly_out, winner if winner != won else None, spent_micro),
        winner=winner,
        out=out,
        salt=salt_of(experiment),
        states={arm: replace(each, probability_best=best.get(arm, 0.0)) for arm, each in states.items()},
        as_of_ms=as_of_ms,
        watermark=dict(watermark),
        previous_digest=previous.digest if previous else "",
        spent_micro=spent_micro,
        ramp_since=number if begins else since,
        why=_why(change.definition, experiment, states, newly_out, begins=begins),
    )
    return replace(weights, digest=digest(weights))


def broken(experiment: Experiment, states: States) -> dict[str, str]:
    """The arms that break a guardrail, or a shadow's check, each with the metric; never the control: its traffic has nowhere to go.

    One-sided tests that are valid at every look: an arm that keeps to a guardrail is ever out by it with probability `risk`
    at most.
    """
    found = {
        arm: key_of(guardrail.metric)
        for guardrail in reversed(experiment.guardrails)
        for arm in states
        if arm != experiment.control and _breaks(guardrail, arm, experiment, states)
    }
    check = broken_check(experiment, states)
    return found if check is None else {candidate_of(experiment): check.key}


def winner_of(experiment: Experiment, states: States) -> str | None:
    """The arm that is better than each of the others, but for the experiment's risk; None while none is known to be.

    Each pair is tested by the likelihood ratio of Bernoulli outcomes against mixtures (conclave.domain.statistics.betting),
    at the risk divided by the number of rivals: all of them must be beaten, and any may be the true best.
    """
    if len(states) < 2 or not _is_seen(experiment, states):
        return None
    outcomes = {arm: _outcomes(experiment.goal, each) for arm, each in states.items()}
    wanted = math.log((len(states) - 1) / experiment.risk)
    leader = max(sorted(outcomes), key=lambda arm: outcomes[arm].mean)
    rivals = [arm for arm in outcomes if arm != leader]
    has_won = all(log_evidence_of_lead(outcomes[leader], outcomes[arm]) >= wanted for arm in rivals)
    return leader if has_won else None


def digest(weights: WeightsPublished) -> str:
    """sha256 of all that a version says, but its digest: keys in alphabetical order, numbers as JSON writes them."""
    said = msgspec.json.encode(replace(weights, digest=""), order="deterministic")
    # Versions of before had no such fields, and keep their digests.
    for name, default in (("why", ""), ("ramp_since", 0), ("spent_micro", 0)):
        if getattr(weights, name) != default:
            break
        said = said.removesuffix(f',"{name}":{msgspec.json.encode(default).decode()}}}'.encode()) + b"}"
    return sha256(said).hexdigest()


def _reason(
    experiment: Experiment,
    out: Mapping[str, str],
    newly_out: Mapping[str, str],
    new_winner: str | None,
    spent_micro: int,
) -> str:
    """Why there is a version, in a word."""
    if experiment.shadow is not None:
        if newly_out:
            return "check"
        return "update" if out or _shadowed(experiment.shadow, spent_micro, out) else "spent"
    return "guardrail" if newly_out else "winner" if new_winner else "update"


def _why(
    definition: Experiment, experiment: Experiment, states: States, newly_out: Mapping[str, str], *, begins: bool
) -> str:
    """Why a shadow becomes a ramp, or either of them ends, with the figures that say so; "" of any other version."""
    if definition.shadow is None or not definition.shadow.checks:
        return ""
    if begins:
        return "its checks hold: " + "; ".join(map(str, standings(experiment, states)))
    check = broken_check(experiment, states)
    if newly_out and check is not None:
        return f"it breaks a check: {check}"
    return "".join(f"{arm} breaks the guardrail {metric}" for arm, metric in newly_out.items())


def _given_back(experiment: Experiment, before: WeightsPublished | None, out: Mapping[str, str]) -> dict[str, float]:
    """The shares of before, those of the arms that are out at the control."""
    shares = _arms_shares(experiment, before)
    for arm in out:
        shares[experiment.control] += shares.pop(arm)
    return shares


def _moved(
    experiment: Experiment,
    left: States,
    best: Mapping[str, float],
    winner: str | None,
    before: WeightsPublished | None,
) -> dict[str, float]:
    """The shares of before, moved towards those of the mode; of the winner, if there is one and the mode looks for it."""
    shares = {arm: share for arm, share in _arms_shares(experiment, before).items() if arm in left}
    if not _is_seen(experiment, left):
        return shares
    target = TARGETS[experiment.mode](experiment, best)
    if winner is not None and experiment.mode is Mode.BEST_ARM:
        target = {arm: float(arm == winner) for arm in left}
    return towards(shares, with_floor(target, experiment.floor), experiment.max_change)


def _shadowed(shadow: Shadow, spent_micro: int, out: Mapping[str, str]) -> float:
    """The share of requests that are copied: none any more on a day whose money is spent, or once a check is broken."""
    return shadow.share if not out and spent_micro < shadow.max_dollars_per_day * 1e6 else 0.0


def _climbed(
    experiment: Experiment, left: States, before: WeightsPublished | None, *, held_ms: int
) -> dict[str, float]:
    """The next shares of a ramp once those in force have held long enough, else these; all is the control's once it is alone."""
    shares = {arm: share for arm, share in _arms_shares(experiment, before).items() if arm in left}
    candidate = next((arm for arm in left if arm != experiment.control), None)
    if candidate is None or held_ms < experiment.ramp_hold_s * 1000 or not _is_seen(experiment, left):
        return shares
    higher = (step for step in experiment.ramp if step > shares[candidate] + _LEAST_CHANGE / 2)
    return ramped(experiment, next(higher, shares[candidate]))


def _is_seen(experiment: Experiment, states: States) -> bool:
    """True once each arm was observed often enough to judge by."""
    counts = (each.counts[key_of(experiment.goal)] for each in states.values())
    return all(known(experiment.goal, each)[0] >= experiment.min_observations for each in counts)


def _arms_shares(experiment: Experiment, before: WeightsPublished | None) -> dict[str, float]:
    """The shares in force, of all that is not held out."""
    allocation = before.allocation if before else first_allocation(experiment)
    arms = {arm: share for arm, share in allocation.items() if arm != HOLDOUT}
    whole = sum(arms[arm] for arm in sorted(arms))
    return {arm: share / whole for arm, share in arms.items()}


def _breaks(guardrail: Guardrail, arm: str, experiment: Experiment, states: States) -> bool:
    key, wanted = key_of(guardrail.metric), math.log(1 / guardrail.risk)
    of_arm = Outcomes(*resolved(guardrail.metric, states[arm].counts[key]))
    if guardrail.at_least is not None:
        return log_evidence_below(of_arm, guardrail.at_least) >= wanted
    control = Outcomes(*resolved(guardrail.metric, states[experiment.control].counts[key]))
    return log_evidence_of_lead(control, of_arm, by=guardrail.max_drop or 0.0) >= wanted


def _outcomes(metric: Metric, state: ArmState) -> Outcomes:
    return Outcomes(*resolved(metric, state.counts[key_of(metric)]))


def _of_run(change: ExperimentChanged, previous: WeightsPublished | None) -> WeightsPublished | None:
    """The version before, if it is of the same run."""
    return previous if previous is not None and previous.revision == change.revision else None


def _says_more(found: WeightsPublished, before: WeightsPublished | None, change: ExperimentChanged) -> bool:
    experiment = in_force(change, before)
    allocation = before.allocation if before else first_allocation(experiment)
    if found.winner != (before.winner if before else None) or found.out != (before.out if before else {}):
        return True
    if found.ramp_since != ramp_since(change.revision, before):
        return True
    since_ms = before.as_of_ms if before else change.changed_ms
    if experiment.shadow is not None and not found.out and found.as_of_ms - since_ms >= _RENEWED_MS:
        return True
    least = _LEAST_CHANGE if experiment.shadow is None else _ANY_CHANGE
    return any(abs(share - allocation.get(arm, 0.0)) >= least for arm, share in found.allocation.items())
