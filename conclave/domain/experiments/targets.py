"""Which shares the arms should have, by what is believed of them: `TARGETS`, a function a mode."""

from collections.abc import Callable, Mapping

from conclave.domain.experiments.shares import at_the_beginning
from schemas.experiments import Experiment, Mode

Best = Mapping[str, float]  # arm -> that it is the best
_TOP = 0.5  # how often the top arm is served itself, and not its strongest rival
_CERTAIN = 1e-12


def fixed(experiment: Experiment, best: Best) -> dict[str, float]:
    """The shares of the beginning, among the arms that are left."""
    first = at_the_beginning(experiment)
    whole = sum(first[arm] for arm in best)
    return {arm: first[arm] / whole for arm in best}


def regret(experiment: Experiment, best: Best) -> dict[str, float]:
    """Thompson sampling: an arm is served as often as it is the best."""
    return dict(best)


def best_arm(experiment: Experiment, best: Best) -> dict[str, float]:
    """Top-two probability sampling: half the time the best arm, half the time the best of the others.

    Russo, arXiv 1602.08448, section 3: ψᵢ = αᵢ (β + (1 − β) Σⱼ≠ᵢ αⱼ / (1 − αⱼ)).
    """
    shares = {}
    for arm, probability in best.items():
        as_second = sum(_second(best, first, arm) for first in best if first != arm)
        shares[arm] = _TOP * probability + (1 - _TOP) * as_second
    whole = sum(shares.values())
    return {arm: share / whole for arm, share in shares.items()} if whole > 0 else dict(best)


def _second(best: Best, first: str, arm: str) -> float:
    """That `first` comes first and `arm` second."""
    rest = 1.0 - best[first]
    if rest < _CERTAIN:  # nothing is known of the others: each may be second
        return best[first] / max(1, len(best) - 1)
    return best[first] * best[arm] / rest


TARGETS: dict[Mode, Callable[[Experiment, Best], dict[str, float]]] = {
    Mode.FIXED: fixed,
    Mode.REGRET: regret,
    Mode.BEST_ARM: best_arm,
}


def with_floor(shares: Mapping[str, float], floor: float) -> dict[str, float]:
    """The shares, mixed with equal ones so that each is at least `floor`."""
    room = 1.0 - floor * len(shares)
    return {arm: floor + room * share for arm, share in shares.items()}


def towards(before: Mapping[str, float], target: Mapping[str, float], max_change: float) -> dict[str, float]:
    """As far from `before` towards `target` as no share changes by more than `max_change`. Both add up to 1."""
    largest = max(abs(target[arm] - before.get(arm, 0.0)) for arm in target)
    step = 1.0 if largest <= max_change else max_change / largest
    return {arm: before.get(arm, 0.0) + step * (target[arm] - before.get(arm, 0.0)) for arm in target}
