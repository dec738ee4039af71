"""`python -m benchmarks.segments`: what a prior shared by segments is worth, by simulation with fixed seeds.

Three ways to share out the same traffic by Thompson sampling: one belief for all types of task, one each, and one each with what
it borrows of the others (conclave.domain.experiments.pooling). Types come as often as 1, 1/2, 1/3, …; one more comes at half-time
only. What is told is how many good outcomes were lost against the best arm of each type.
"""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

import click
import numpy as np

from benchmarks.measuring import record
from conclave.domain.experiments.pooling import Beliefs, correlation, pooled
from conclave.domain.experiments.posterior import probabilities_of_best
from conclave.domain.experiments.targets import with_floor

_FLOOR = 0.02
_NUM_TYPES, _BATCH = 8, 100
_LATE = "late"
# How the correlation is had: None finds it.
WAYS: Mapping[str, float | None] = {"borrowed": None, "each on its own": 1.0, "one for all": 0.0}


@dataclass(frozen=True, slots=True)
class Instance:
    """Arms whose means differ by type: how often the best arm is another, and how far types lie apart for all arms."""

    name: str
    means: tuple[float, ...]
    share_turned: float  # of the types: their arms are in another order
    levels: float = 0.0  # standard deviation of a type's difficulty, which all arms share

    def drawn(self, rng: np.random.Generator) -> dict[str, list[float]]:
        """The means of the arms, type by type."""
        found = {}
        for place, of in enumerate([*(f"type-{number}" for number in range(_NUM_TYPES)), _LATE]):
            is_turned = (place + 0.5) / (_NUM_TYPES + 1) < self.share_turned
            means = rng.permutation(self.means) if is_turned else np.array(self.means)
            found[of] = [float(each) for each in np.clip(means + rng.normal(0, self.levels), 0.02, 0.98)]
        return found


INSTANCES = (
    Instance("alike", (0.7, 0.6, 0.5), 0.0),
    Instance("a quarter have another best arm", (0.7, 0.6, 0.5), 0.25),
    Instance("any arm may be the best", (0.7, 0.6, 0.5), 1.0),
    Instance("alike, but some are harder for all arms", (0.7, 0.6, 0.5), 0.0, levels=0.15),
)


def played(instance: Instance, way: str, rng: np.random.Generator, horizon: int) -> tuple[float, float]:
    """Good outcomes lost over all types, and of the late one in its half of the time."""
    means = instance.drawn(rng)
    frequency = np.array([1.0 / (1 + number) for number in range(_NUM_TYPES)])
    counts = {of: np.ones((2, len(instance.means))) for of in means}
    lost, lost_late = 0.0, 0.0
    for served in range(0, horizon, _BATCH):
        is_late = served >= horizon / 2
        weights = np.append(frequency, 0.2 if is_late else 0.0)
        dealt = rng.multinomial(_BATCH, weights / weights.sum())
        shares = _shares(counts, WAYS[way])
        for of, num in zip(means, dealt, strict=True):
            by_arm = rng.multinomial(num, shares[of])
            good = rng.binomial(by_arm, means[of])
            counts[of] += np.stack([good, by_arm - good])
            of_type = float(sum((max(means[of]) - mean) * each for mean, each in zip(means[of], by_arm, strict=True)))
            lost, lost_late = lost + of_type, lost_late + (of_type if of == _LATE else 0.0)
    return lost, lost_late


def _shares(counts: Mapping[str, np.ndarray], rho: float | None) -> dict[str, list[float]]:
    own: Beliefs = {
        of: {f"arm-{place}": (float(each[0, place]), float(each[1, place])) for place in range(each.shape[1])}
        for of, each in counts.items()
    }
    beliefs = pooled(own, correlation(own) if rho is None else rho)
    return {of: list(with_floor(probabilities_of_best(each), _FLOOR).values()) for of, each in beliefs.items()}


@click.command()
@click.option("--runs", "num", default=10, show_default=True, help="Of each instance, the same for each way.")
@click.option("--seed", default=14, show_default=True)
@click.option("--horizon", default=4_000, show_default=True, help="Units of a run.")
def main(num: int, seed: int, horizon: int) -> None:
    """Plays all instances and records what was lost."""
    result: dict[str, object] = {"runs": num, "seed": seed, "horizon": horizon, "floor": _FLOOR, "types": _NUM_TYPES}
    for instance in INSTANCES:
        ways: dict[str, object] = {}
        lost: dict[str, float] = {}
        for way in WAYS:
            seeds = np.random.SeedSequence(seed).spawn(num)
            ended = [played(instance, way, np.random.default_rng(each), horizon) for each in seeds]
            lost[way] = statistics.mean(all_types for all_types, _ in ended)
            ways[way] = {
                "lost": round(lost[way], 1),
                "lost of the late type": round(statistics.mean(late for _, late in ended), 1),
            }
        ways["borrowed of"] = {way: round(lost["borrowed"] / lost[way], 2) for way in WAYS if way != "borrowed"}
        print({instance.name: ways}, flush=True)
        result[instance.name] = ways
    print(record("segments", result))


if __name__ == "__main__":
    main()
