"""From what the record holds to an experiment's next weights: a pure function, so that anyone can compute them again.

A version, in the numbers that `decided` repeats:
    1. arms that break a guardrail are out, for the rest of the run, of every segment
    2. an arm that is better than each of the others, by an always-valid test, has won, for the rest of the run; in its segment, if
       there are any
    3. the arms that are left get the shares of their mode, by what is believed of them with what segments borrow of each other, or
       the next one of a ramp whose share has held for long enough; no arm wins or moves before each was observed often enough
    4. no share is below the floor, or moves further than the cap; what an arm that is out leaves goes to the control at once
    5. a shadow keeps its share of copies until the day's money is spent, and has it again the day after
    6. a shadow whose checks all hold becomes a ramp, if it has one; one that breaks a check is out like an arm by a guardrail
    7. a value of the tag that segments are made by is named once enough of its units were assigned, and starts as the rest stands
"""

from collections.abc import Mapping
from hashlib import sha256

import msgspec
from msgspec.structs import replace

from conclave.domain.experiments.assignment import REST, allocation_for, salt_of
from conclave.domain.experiments.evidence import Evidence
from conclave.domain.experiments.judging import broken, is_seen, winner_of
from conclave.domain.experiments.phases import in_force, ramp_since
from conclave.domain.experiments.pooling import correlation, pooled
from conclave.domain.experiments.posterior import probabilities_of_best
from conclave.domain.experiments.shares import first_allocation, ramped, with_holdout
from conclave.domain.experiments.states import States, Strata, segments_named, strata_of
from conclave.domain.experiments.targets import TARGETS, towards, with_floor
from conclave.domain.experiments.unseen import broken_check, may_be_seen, standings
from schemas.events import ExperimentChanged, WeightsPublished
from schemas.experiments import HOLDOUT, ArmState, Experiment, Mode, SegmentWeights, Shadow

_ANY_CHANGE = 1e-9
_RENEWED_MS = 900_000  # a version of a shadow's says that somebody still counts: four in the time that it holds
_LEAST_CHANGE = 0.005  # of a share: what moves by less is not worth a version

# What versions of before did not say: they keep their digests. The last field of all comes first.
_NEWER: tuple[tuple[str, object], ...] = (
    ("segment_correlation", 0.0),
    ("segments", {}),
    ("why", ""),
    ("ramp_since", 0),
    ("spent_micro", 0),
)

Best = Mapping[str, float]  # by arm: that it is the best


def next_weights(
    change: ExperimentChanged, evidence: Evidence, previous: WeightsPublished | None, watermark: Mapping[str, int]
) -> WeightsPublished | None:
    """The version that follows `previous`; None where nothing that decomposers go by would change."""
    strata = strata_of(in_force(change, previous), evidence, segments_named(change.revision, previous))
    found = decided(
        change, strata, previous, as_of_ms=evidence.as_of_ms, watermark=watermark, spent_micro=evidence.spent_micro
    )
    return found if _says_more(found, _of_run(change, previous), change) else None


def decided(
    change: ExperimentChanged,
    strata: Strata,
    previous: WeightsPublished | None,
    *,
    as_of_ms: int,
    watermark: Mapping[str, int],
    spent_micro: int = 0,
) -> WeightsPublished:
    """The version that follows `previous` from what is known of the arms, and of what a shadow has spent on this day."""
    experiment, before = in_force(change, previous), _of_run(change, previous)
    out, states = dict(before.out) if before else {}, strata[REST]
    newly_out = {arm: metric for arm, metric in broken(experiment, strata).items() if arm not in out}
    out |= newly_out  # 1, 6
    number, since = previous.version + 1 if previous else 1, ramp_since(change.revision, before)
    begins = bool(not since and not out and change.definition.ramp and may_be_seen(experiment, states))  # 6
    rho, best = _best_of_each(experiment, strata, out)
    left = {arm: states[arm] for arm in best[REST]}
    won = before.winner if before and before.winner not in out else None
    winner = None if experiment.segment_by else won or winner_of(experiment, left)  # 2
    may_move = is_seen(experiment, list(strata.values()), list(left))
    allocation = _before(experiment, before, REST)
    if begins:
        shares = ramped(experiment, change.definition.ramp[0])  # 6
    elif experiment.shadow is not None:
        shares = ramped(experiment, _shadowed(experiment.shadow, spent_micro, out))  # 5
    elif experiment.ramp and not newly_out:
        held_ms = as_of_ms - (before.as_of_ms if before else change.changed_ms)
        shares = _climbed(experiment, left, allocation, held_ms=held_ms, may_move=may_move)  # 3
    else:
        shares = _dealt(experiment, allocation, best[REST], winner, newly_out, may_move=may_move)  # 3, 4
    segments = {
        segment: _segment(
            experiment,
            before,
            segment,
            strata[segment],
            best[segment],
            out,
            newly_out,
            number=number,
            may_move=may_move,
        )
        for segment in sorted(strata)
        if segment != REST
    }  # 7
    has_won = winner != won or _winners(segments) != _winners(before.segments if before else {}, but=out)
    weights = WeightsPublished(
        experiment=experiment.name,
        version=number,
        revision=change.revision,
        allocation=with_holdout(experiment, shares | dict.fromkeys(out, 0.0)),
        reason="ramp" if begins else _reason(experiment, out, newly_out, spent_micro, has_won=has_won),
        winner=winner,
        out=out,
        salt=salt_of(experiment),
        states=_with_best(states, best[REST]),
        as_of_ms=as_of_ms,
        watermark=dict(watermark),
        previous_digest=previous.digest if previous else "",
        spent_micro=spent_micro,
        ramp_since=number if begins else since,
        why=_why(change.definition, experiment, states, newly_out, begins=begins),
        segments=segments,
        segment_correlation=rho,
    )
    return replace(weights, digest=digest(weights))


def digest(weights: WeightsPublished) -> str:
    """sha256 of all that a version says, but its digest: keys in alphabetical order, numbers as JSON writes them."""
    said = msgspec.json.encode(replace(weights, digest=""), order="deterministic")
    for name, default in _NEWER:
        if getattr(weights, name) != default:
            break
        said = said.removesuffix(f',"{name}":{msgspec.json.encode(default).decode()}}}'.encode()) + b"}"
    return sha256(said).hexdigest()


def _best_of_each(experiment: Experiment, strata: Strata, out: Mapping[str, str]) -> tuple[float, dict[str, Best]]:
    """By segment, how probably each arm that is left is the best; and the correlation by which segments borrow of each other."""
    own = {
        segment: {arm: (each.alpha, each.beta) for arm, each in states.items() if arm not in out}
        for segment, states in strata.items()
    }
    rho = correlation(own) if experiment.segment_by else 0.0
    return rho, {segment: probabilities_of_best(beliefs) for segment, beliefs in pooled(own, rho).items()}


def _segment(
    experiment: Experiment,
    before: WeightsPublished | None,
    segment: str,
    states: States,
    best: Best,
    out: Mapping[str, str],
    newly_out: Mapping[str, str],
    *,
    number: int,
    may_move: bool,
) -> SegmentWeights:
    """The weights of one segment; of one that is new, from where the rest stands."""
    known = before.segments.get(segment) if before else None
    allocation = _before(experiment, before, segment)
    won = known.winner if known and known.winner not in out else None
    winner = won or winner_of(experiment, {arm: states[arm] for arm in best})
    shares = _dealt(experiment, allocation, best, winner, newly_out, may_move=may_move)
    return SegmentWeights(
        allocation=with_holdout(experiment, shares | dict.fromkeys(out, 0.0)),
        states=_with_best(states, best),
        winner=winner,
        since=known.since if known else number,
    )


def _with_best(states: States, best: Best) -> dict[str, ArmState]:
    return {arm: replace(each, probability_best=best.get(arm, 0.0)) for arm, each in states.items()}


def _reason(
    experiment: Experiment,
    out: Mapping[str, str],
    newly_out: Mapping[str, str],
    spent_micro: int,
    *,
    has_won: bool,
) -> str:
    """Why there is a version, in a word."""
    if experiment.shadow is not None:
        if newly_out:
            return "check"
        return "update" if out or _shadowed(experiment.shadow, spent_micro, out) else "spent"
    return "guardrail" if newly_out else "winner" if has_won else "update"


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


def _shadowed(shadow: Shadow, spent_micro: int, out: Mapping[str, str]) -> float:
    """The share of requests that are copied: none any more on a day whose money is spent, or once a check is broken."""
    return shadow.share if not out and spent_micro < shadow.max_dollars_per_day * 1e6 else 0.0


def _dealt(
    experiment: Experiment,
    allocation: Mapping[str, float],
    best: Best,
    winner: str | None,
    newly_out: Mapping[str, str],
    *,
    may_move: bool,
) -> dict[str, float]:
    """The shares of before, moved towards those of the mode; of the winner, if there is one and the mode looks for it.

    What arms leave that are newly out goes to the control, and nothing else moves.
    """
    shares = _arms_shares(allocation)
    if newly_out:
        for arm in newly_out:
            shares[experiment.control] += shares.pop(arm)
        return shares
    shares = {arm: share for arm, share in shares.items() if arm in best}
    if not may_move:
        return shares
    target = TARGETS[experiment.mode](experiment, best)
    if winner is not None and experiment.mode is Mode.BEST_ARM:
        target = {arm: float(arm == winner) for arm in best}
    return towards(shares, with_floor(target, experiment.floor), experiment.max_change)


def _climbed(
    experiment: Experiment, left: States, allocation: Mapping[str, float], *, held_ms: int, may_move: bool
) -> dict[str, float]:
    """The next shares of a ramp once those in force have held long enough, else these; all is the control's once it is alone."""
    shares = {arm: share for arm, share in _arms_shares(allocation).items() if arm in left}
    candidate = next((arm for arm in left if arm != experiment.control), None)
    if candidate is None or held_ms < experiment.ramp_hold_s * 1000 or not may_move:
        return shares
    higher = (step for step in experiment.ramp if step > shares[candidate] + _LEAST_CHANGE / 2)
    return ramped(experiment, next(higher, shares[candidate]))


def _arms_shares(allocation: Mapping[str, float]) -> dict[str, float]:
    """The shares in force, of all that is not held out."""
    arms = {arm: share for arm, share in allocation.items() if arm != HOLDOUT}
    whole = sum(arms[arm] for arm in sorted(arms))
    return {arm: share / whole for arm, share in arms.items()}


def _of_run(change: ExperimentChanged, previous: WeightsPublished | None) -> WeightsPublished | None:
    """The version before, if it is of the same run."""
    return previous if previous is not None and previous.revision == change.revision else None


def _winners(segments: Mapping[str, SegmentWeights], but: Mapping[str, str] | None = None) -> dict[str, str]:
    """The arm that has won in each segment, but for arms that are out."""
    winners = {segment: each.winner for segment, each in segments.items() if each.winner is not None}
    return {segment: winner for segment, winner in winners.items() if winner not in (but or {})}


def _says_more(found: WeightsPublished, before: WeightsPublished | None, change: ExperimentChanged) -> bool:
    experiment = in_force(change, before)
    if found.winner != (before.winner if before else None) or found.out != (before.out if before else {}):
        return True
    if found.ramp_since != ramp_since(change.revision, before):
        return True
    segments = before.segments if before else {}
    if set(found.segments) != set(segments) or _winners(found.segments) != _winners(segments):
        return True
    since_ms = before.as_of_ms if before else change.changed_ms
    if experiment.shadow is not None and not found.out and found.as_of_ms - since_ms >= _RENEWED_MS:
        return True
    least = _LEAST_CHANGE if experiment.shadow is None else _ANY_CHANGE
    return any(
        abs(share - _before(experiment, before, segment).get(arm, 0.0)) >= least
        for segment in (REST, *found.segments)
        for arm, share in allocation_for(found, segment).items()
    )


def _before(experiment: Experiment, before: WeightsPublished | None, segment: str) -> Mapping[str, float]:
    """The allocation in force until now."""
    return allocation_for(before, segment) if before else first_allocation(experiment)
