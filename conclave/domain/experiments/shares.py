"""Shares of traffic in whole millionths, so that what is drawn by them is the same on every machine, bit for bit."""

from collections.abc import Mapping

from schemas.experiments import HOLDOUT, Experiment

MILLION = 1_000_000


def as_shares(micro: Mapping[str, int]) -> dict[str, float]:
    """The shares as events carry them, by name in alphabetical order."""
    return {name: micro[name] / MILLION for name in sorted(micro)}


def in_millionths(shares: Mapping[str, float]) -> dict[str, int]:
    """The shares in millionths, which add up to a million: what rounding leaves over goes to the largest remainders.

    Equal remainders are served in alphabetical order. What `as_shares` made comes back unchanged.
    """
    exact = {name: shares[name] * MILLION for name in sorted(shares)}
    whole = {name: round(value) if abs(value - round(value)) < 1e-6 else int(value) for name, value in exact.items()}
    left = MILLION - sum(whole.values())
    by_remainder = sorted(exact, key=lambda name: (whole[name] - exact[name], name))
    for place in range(abs(left)):
        name = by_remainder[place % len(by_remainder)] if left > 0 else by_remainder[-1 - place % len(by_remainder)]
        whole[name] += 1 if left > 0 else -1
    return whole


def with_holdout(experiment: Experiment, shares: Mapping[str, float]) -> dict[str, float]:
    """The allocation of all traffic: the arms' `shares`, which add up to 1, of what is not held out."""
    all_shares = {name: share * (1.0 - experiment.holdout) for name, share in shares.items()}
    if experiment.holdout > 0.0:
        all_shares[HOLDOUT] = experiment.holdout
    return as_shares(in_millionths(all_shares))


def at_the_beginning(experiment: Experiment) -> dict[str, float]:
    """The shares that an experiment begins with, without its hold-out: its shadow's, its ramp's, its arms' own, or equal ones."""
    if experiment.shadow is not None:
        return ramped(experiment, experiment.shadow.share)
    if experiment.ramp:
        return ramped(experiment, experiment.ramp[0])
    return {name: arm.share or 1.0 / len(experiment.arms) for name, arm in experiment.arms.items()}


def ramped(experiment: Experiment, share: float) -> dict[str, float]:
    """The shares of two arms, of which the one that is not the control has `share`."""
    return {arm: 1.0 - share if arm == experiment.control else share for arm in experiment.arms}


def first_allocation(experiment: Experiment) -> dict[str, float]:
    """The allocation in force before any weights are published."""
    return with_holdout(experiment, at_the_beginning(experiment))
