"""`make bench-experiments`: what experiments promise, by simulation over a fixed set of instances with fixed seeds.

Every decision is that of the reweighter (conclave.domain.experiments); only users are simulated: they answer late, the
dissatisfied less often, and all arms may drift together. A look is taken after every batch. Targets are issue 14's.
"""

import math
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import click
import numpy as np
from msgspec.structs import replace

from benchmarks.measuring import record
from benchmarks.track_and_stop import least_of_uniform, optimal_shares
from conclave.domain.experiments.judging import winner_of
from conclave.domain.experiments.posterior import probabilities_of_best
from conclave.domain.experiments.targets import TARGETS, with_floor
from conclave.domain.statistics.betting import Outcomes, interval
from conclave.domain.statistics.dealing import Dealt, log_evidence_of_tilt
from schemas.experiments import Arm, ArmState, Experiment, MetricCounts, Mode

_FLOOR = 0.02
_RISK = 0.05
_ALARM = math.log(1000)
Shares = Mapping[str, float]
Allocate = Callable[[Experiment, Mapping[str, Outcomes]], Shares]


@dataclass(frozen=True, slots=True)
class Instance:
    """Arms and their users. Response rates depend on the outcome: (of the content, of others)."""

    means: tuple[float, ...]
    delay: int = 0  # batches between a question and what its user says
    response: tuple[float, float] = (1.0, 1.0)
    drift: float = 0.0  # of all means together, over the whole run

    @property
    def name(self) -> str:
        """What it is called in the results."""
        arms = f"{len(self.means)} arms, best {max(self.means):.2f}, gap {self.gap * 100:.0f} points"
        told = [f"delay {self.delay}"] if self.delay else []
        told += ["silence depends on the outcome"] if self.response[0] != self.response[1] else []
        return ", ".join([arms, *told, *([f"drift {self.drift:+.2f}"] if self.drift else [])])

    @property
    def gap(self) -> float:
        """Between the best arm and the next."""
        best, second = sorted(self.means, reverse=True)[:2]
        return best - second

    @property
    def arms(self) -> list[str]:
        """Their names, the best one first."""
        return [f"arm-{place}" for place in range(len(self.means))]

    def experiment(self, mode: Mode) -> Experiment:
        """The experiment that is run on it."""
        arms = {arm: Arm(policy="p") for arm in self.arms}
        return Experiment(
            name="simulated", arms=arms, control=self.arms[-1], mode=mode, floor=_FLOOR, risk=_RISK, max_change=1.0
        )


def _arms(num: int, best: float, gap: float) -> tuple[float, ...]:
    """The best arm, the next one `gap` below, and the others a little further down each."""
    return (best, *(max(0.02, best - gap * (1 + 0.5 * place)) for place in range(num - 1)))


INSTANCES: tuple[Instance, ...] = (
    *(Instance(_arms(num, 0.7, gap)) for num in (2, 4, 8) for gap in (0.05, 0.1, 0.2)),
    Instance(_arms(4, 0.7, 0.1), delay=5),
    Instance(_arms(4, 0.7, 0.1), response=(0.6, 0.3)),
    Instance(_arms(4, 0.6, 0.1), delay=5, response=(0.6, 0.3), drift=-0.1),
)


@dataclass(slots=True)
class Run:
    """One simulated experiment, look by look."""

    instance: Instance
    rng: np.random.Generator
    batch: int
    served: dict[str, int] = field(default_factory=dict)
    outcomes: dict[str, Outcomes] = field(default_factory=dict)
    _late: list[dict[str, tuple[int, int]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.served = dict.fromkeys(self.instance.arms, 0)
        self.outcomes = dict.fromkeys(self.instance.arms, Outcomes(0, 0))

    def serve(self, shares: Shares, progress: float) -> None:
        """Deals a batch out by the shares, and hears what earlier ones have to say by now."""
        arms = self.instance.arms
        dealt = self.rng.multinomial(self.batch, [shares[arm] for arm in arms])
        heard = {}
        for arm, mean, num in zip(arms, self.instance.means, dealt, strict=True):
            good = self.rng.binomial(num, min(1.0, max(0.0, mean + self.instance.drift * progress)))
            said = self.rng.binomial([good, num - good], self.instance.response)
            heard[arm] = (int(said.sum()), int(said[0]))
            self.served[arm] += int(num)
        self._late.append(heard)
        if len(self._late) > self.instance.delay:
            for arm, (num, total) in self._late.pop(0).items():
                before = self.outcomes[arm]
                self.outcomes[arm] = Outcomes(before.num + num, before.total + total)

    def truth(self, arm: str) -> float:
        """The mean of what an arm's users say, without drift."""
        mean = self.instance.means[self.instance.arms.index(arm)]
        good, bad = (mean * self.instance.response[0], (1 - mean) * self.instance.response[1])
        return good / (good + bad)


def states_of(outcomes: Mapping[str, Outcomes]) -> dict[str, ArmState]:
    """As the reweighter has them."""
    return {
        arm: ArmState(
            alpha=1 + each.total,
            beta=1 + each.num - each.total,
            counts={"reward": MetricCounts(num_observed=int(each.num), sum_micro=int(each.total) * 1_000_000)},
        )
        for arm, each in outcomes.items()
    }


def by_mode(experiment: Experiment, outcomes: Mapping[str, Outcomes]) -> Shares:
    """The shares that the reweighter would give."""
    if experiment.mode is Mode.FIXED:  # whatever the best may be
        return TARGETS[Mode.FIXED](experiment, dict.fromkeys(outcomes, 0.0))
    best = probabilities_of_best({arm: (1 + each.total, 1 + each.num - each.total) for arm, each in outcomes.items()})
    return with_floor(TARGETS[experiment.mode](experiment, best), experiment.floor)


def by_track_and_stop(experiment: Experiment, outcomes: Mapping[str, Outcomes]) -> Shares:
    """The shares that would be optimal if the means seen were the true ones."""
    return with_floor(optimal_shares({arm: each.mean for arm, each in outcomes.items()}), experiment.floor)


def runs(instance: Instance, num: int, seed: int, batch: int) -> Iterator[Run]:
    """Independent runs of an instance."""
    for child in np.random.SeedSequence(seed).spawn(num):
        yield Run(instance, np.random.default_rng(child), batch)


def until_found(run: Run, experiment: Experiment, allocate: Allocate, limit: int) -> tuple[str | None, int]:
    """The winner that is named, None within `limit` units, and how many units it took."""
    total = 0
    while total < limit:
        run.serve(allocate(experiment, run.outcomes), total / limit)
        total += run.batch
        winner = winner_of(experiment, states_of(run.outcomes))
        if winner is not None:
            return winner, total
    return None, limit


def finding(instance: Instance, num: int, seed: int, batch: int, limit: int) -> dict[str, object]:
    """How often the wrong arm wins, and the median number of units until one does, by way of sharing them out."""
    ways: dict[str, tuple[Mode, Allocate]] = {
        "top two": (Mode.BEST_ARM, by_mode),
        "uniform": (Mode.FIXED, by_mode),
        "track and stop": (Mode.BEST_ARM, by_track_and_stop),
    }
    found: dict[str, object] = {"instance": instance.name}
    for way, (mode, allocate) in ways.items():
        ended = [
            until_found(run, instance.experiment(mode), allocate, limit) for run in runs(instance, num, seed, batch)
        ]
        units = sorted(each for _, each in ended)
        found[way] = {
            "wrong": sum(winner not in (None, "arm-0") for winner, _ in ended),
            "not within limit": sum(winner is None for winner, _ in ended),
            "median units": int(statistics.median(units)),
        }
    return found


def _least_of_uniform(instance: Instance) -> float:
    """The share of equal shares' units that any rule needs, at a risk that is small enough."""
    return round(least_of_uniform(dict(zip(instance.arms, instance.means, strict=True))), 2)


def losing(instance: Instance, num: int, seed: int, batch: int, horizon: int) -> dict[str, object]:
    """Good outcomes lost against serving the best arm only, by Thompson sampling and by equal shares."""
    found: dict[str, object] = {"instance": instance.name, "horizon": horizon}
    best = max(instance.means)
    for mode in (Mode.REGRET, Mode.FIXED):
        lost = []
        for run in runs(instance, num, seed, batch):
            for served in range(0, horizon, batch):
                run.serve(by_mode(instance.experiment(mode), run.outcomes), served / horizon)
            lost.append(
                sum((best - mean) * run.served[arm] for arm, mean in zip(instance.arms, instance.means, strict=True))
            )
        found[mode.value] = round(statistics.mean(lost), 1)
    return found


def covering(instance: Instance, num: int, seed: int, batch: int, horizon: int) -> dict[str, object]:
    """In how many runs every arm's interval held the truth at every look, while shares moved by Thompson sampling."""
    held = looks = 0
    for run in runs(instance, num, seed, batch):
        is_held = True
        for served in range(0, horizon, batch):
            run.serve(by_mode(instance.experiment(Mode.REGRET), run.outcomes), served / horizon)
            for arm in instance.arms:
                lower, upper = interval(run.outcomes[arm], _RISK / len(instance.arms))
                is_held &= lower <= run.truth(arm) <= upper
            looks += 1
        held += is_held
    return {"instance": instance.name, "runs": num, "looks": looks, "held at all looks": held, "level": 1 - _RISK}


def dealing(num: int, seed: int, looks: int, batch: int, leak: float, every: int = 1) -> dict[str, object]:
    """How many runs with moving shares raise a sample-ratio alarm at any look, and the median units until they do.

    It is looked at after `every` batches.

    `leak` is the share of an arm's units that are lost: 0.04 of an arm at one half are two points of all traffic.
    """
    instance, alarms, units = Instance((0.6, 0.6)), 0, []
    experiment = replace(instance.experiment(Mode.REGRET), floor=0.2)
    for run in runs(instance, num, seed, batch):
        dealt: dict[int, Dealt] = {}
        for look in range(looks):
            shares = by_mode(experiment, run.outcomes)
            before = dict(run.served)
            run.serve(shares, 0.0)
            counts = {arm: run.served[arm] - before[arm] for arm in instance.arms}
            counts["arm-0"] -= int(run.rng.binomial(counts["arm-0"], leak))
            dealt[look] = Dealt(shares, counts)
            if (look + 1) % every == 0 and log_evidence_of_tilt(dealt.values()) >= _ALARM:
                alarms += 1
                units.append((look + 1) * batch)
                break
    median = int(statistics.median(units)) if units else None
    return {"leak": leak, "runs": num, "units": looks * batch, "alarms": alarms, "median units to it": median}


@click.command()
@click.option("--runs", "num", default=20, show_default=True, help="Of each instance.")
@click.option("--seed", default=14, show_default=True)
@click.option("--limit", default=40_000, show_default=True, help="Units after which a run is given up.")
@click.option(
    "--only-long-leak", is_flag=True, help="How long it takes to find a leak of two points, and nothing else."
)
def main(num: int, seed: int, limit: int, only_long_leak: bool) -> None:
    """Runs all simulations and records what they came to."""
    result: dict[str, object] = {"runs": num, "seed": seed, "floor": _FLOOR, "risk": _RISK}
    # Two points of all traffic are so little that an alarm of one in a thousand needs this long.
    result["least of uniform"] = {each.name: _least_of_uniform(each) for each in INSTANCES}
    result["long leak"] = [_said(dealing(4 * num, seed, 300, 500, leak, every=5)) for leak in (0.0, 0.04)]
    if only_long_leak:
        print(record("experiments_leak", result))
        return
    result["finding"] = [_said(finding(each, num, seed, 100, limit)) for each in INSTANCES]
    result["losing"] = [_said(losing(each, num, seed, 100, 10_000)) for each in INSTANCES[:9]]
    result["covering"] = [_said(covering(each, num, seed, 100, 5_000)) for each in INSTANCES[:11:3]]
    result["dealing"] = [_said(dealing(4 * num, seed, 60, 500, leak)) for leak in (0.0, 0.04, 0.1)]
    print(record("experiments", result))


def _said(found: dict[str, object]) -> dict[str, object]:
    print(found, flush=True)
    return found


if __name__ == "__main__":
    main()
