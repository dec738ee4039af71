"""How much a stack carries, and how long an answer takes, from what its parts were measured to cost. Pure.

    CPU        of each part: at rest, for each path, each request, and each transaction. At a trickle every path pays for a
               transaction of its own; the more come, the more share one: at λ a second by a partition it pays for
               1 / (1 + (λ / half)^k) of it, and k above 1 says that what waits for the processor shares the more
    limits     the cores together; one core of each process; the places on the engine
    waiting    Erlang's formula (M/M/c) of the cores and of the engine's places, M/D/1 of each service's process
    latency    what it is without load, and the waiting, scaled as it was fitted to one measured stack; beside it the slowest of a
               request's paths, whose lengths are taken to follow a gamma distribution

What was fitted and what was measured says the file of costs that `python -m benchmarks.scale` writes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import pow, sqrt

_MOST_USE = 0.999
ONE_PROCESS = ("decomposer", "decoder", "voter", "aggregator", "recorder")  # each a loop on one core


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU of one part. `idle_cores` is what each of its processes takes at rest."""

    idle_cores: float
    path_us: float
    request_us: float
    transaction_us: float


@dataclass(frozen=True, slots=True)
class Latency:
    """A percentile of the latency without an engine: at rest, and so many times the mean waiting."""

    base_ms: float
    waits: float


@dataclass(frozen=True, slots=True)
class Costs:
    """What one stack was measured to cost. `half`: paths a second of a partition at which two share a transaction; `steepness`: the
    power by which that grows."""

    parts: Mapping[str, Cost]
    half: float
    steepness: float
    used: float  # share of the cores that the parts had at saturation: the rest went to others, and to switching
    p50: Latency
    p99: Latency


@dataclass(frozen=True, slots=True)
class Engine:
    """Places for paths, over all decoders, and what a path takes there, by how many run. `spread`: deviation over mean."""

    places: int
    path_s: Callable[[float], float]
    spread: float = 0.5


@dataclass(frozen=True, slots=True)
class Stack:
    """What is asked about: processes of each service (one where it says nothing), cores, partitions, samples of a request."""

    samples: int
    cores: int
    replicas: Mapping[str, int] = field(default_factory=dict)
    partitions: int = 24
    engine: Engine | None = None

    def processes(self, part: str) -> int:
        """Of a part, at work: no more than there are partitions."""
        return min(self.replicas.get(part, 1), self.partitions)


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a stack does at a rate. `cores_of` counts the cores that each part takes; a percentile is None beyond the limit."""

    most_per_s: float
    limited_by: str
    cores_of: Mapping[str, float]
    p50_ms: float | None
    p99_ms: float | None
    running: float | None = None  # paths on the engine, on average


def predicted(costs: Costs, stack: Stack, requests_per_s: float) -> Prediction:
    """What becomes of a stack that is asked so much."""
    most, limited_by = most_per_s(costs, stack)
    paths_per_s = requests_per_s * stack.samples
    used = cores_of(costs, stack, paths_per_s)
    if requests_per_s >= most:
        return Prediction(most, limited_by, used, None, None)
    running = None if stack.engine is None else _running(stack.engine, paths_per_s)
    p50_ms, p99_ms = (_latency_ms(costs, stack, paths_per_s, running, each) for each in (0.5, 0.99))
    return Prediction(most, limited_by, used, p50_ms, p50_ms + max(0.0, p99_ms - p50_ms), running)


def most_per_s(costs: Costs, stack: Stack) -> tuple[float, str]:
    """Requests a second that the stack carries, and what keeps it from more."""
    limits: dict[str, Callable[[float], float]] = {
        "the cores": lambda rate: sum(cores_of(costs, stack, rate).values()) / (costs.used * stack.cores)
    }
    for part in costs.parts:
        if part in ONE_PROCESS:
            limits[f"one core for each {part}"] = lambda rate, part=part: (  # type: ignore[misc]
                _cores(costs, stack, part, rate) / stack.processes(part)
            )
    engine = stack.engine
    if engine is not None:
        limits["the engine"] = lambda rate: rate * engine.path_s(engine.places) / engine.places
    found = {name: _largest(use) / stack.samples for name, use in limits.items()}
    name = min(found, key=lambda each: found[each])
    return found[name], name


def cores_of(costs: Costs, stack: Stack, paths_per_s: float) -> dict[str, float]:
    """The cores that each part takes, were there enough of them."""
    return {part: _cores(costs, stack, part, paths_per_s) for part in costs.parts}


def _cores(costs: Costs, stack: Stack, part: str, paths_per_s: float) -> float:
    cost, processes = costs.parts[part], stack.processes(part)
    transactions = transactions_per_path(costs.half, costs.steepness, stack.partitions, paths_per_s)
    each_us = cost.path_us + cost.request_us / stack.samples + cost.transaction_us * transactions
    return processes * cost.idle_cores + paths_per_s * each_us / 1e6


def transactions_per_path(half: float, steepness: float, partitions: int, paths_per_s: float) -> float:
    """How much of a transaction a path pays for: all of it at a trickle, half of it at `half` paths a second of a partition."""
    return 1 / (1 + pow(paths_per_s / (partitions * half), steepness))


def _largest(use: Callable[[float], float]) -> float:
    """The largest rate at which `use` is at most 1. On the way there it may pass 1: then sharing more is what carries more."""
    low = 1e9
    while use(low) > 1.0 and low > 1e-9:
        low /= 2
    high = 2 * low
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if use(middle) <= 1.0 else (low, middle)
    return low


def waiting_s(costs: Costs, stack: Stack, paths_per_s: float) -> float:
    """Seconds that a request waits for CPU on average: for the cores, and in each service's process."""
    if paths_per_s <= 0:
        return 0.0
    requests_per_s = paths_per_s / stack.samples
    used = cores_of(costs, stack, paths_per_s)
    work_s = {
        part: (cores - stack.processes(part) * costs.parts[part].idle_cores) / requests_per_s
        for part, cores in used.items()
    }
    waited_s = queued_s(sum(work_s.values()), sum(used.values()) / (costs.used * stack.cores), stack.cores)
    for part in used:
        if part in ONE_PROCESS:
            use = min(_MOST_USE, used[part] / stack.processes(part))
            waited_s += work_s[part] * use / (2 * (1 - use))
    return waited_s


def queued_s(service_s: float, use: float, servers: int) -> float:
    """Seconds in the queue of M/M/c, on average (Erlang, 1917; the probability of waiting by the recursion of his formula B)."""
    use = min(_MOST_USE, use)
    blocked = 1.0
    for number in range(1, servers + 1):
        blocked = servers * use * blocked / (number + servers * use * blocked)
    waits = blocked / (1 - use + use * blocked)
    return waits * service_s / (servers * (1 - use))


def _running(engine: Engine, paths_per_s: float) -> float:
    """How many paths are on the engine, on average: Little's law, where what a path takes depends on how many run."""
    low, high = 0.0, float(engine.places)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if paths_per_s * engine.path_s(middle) > middle else (low, middle)
    return high


def _latency_ms(costs: Costs, stack: Stack, paths_per_s: float, running: float | None, share: float) -> float:
    """A percentile, 0.5 or 0.99, of asking to the answer."""
    told = costs.p50 if share == 0.5 else costs.p99
    ours_ms = told.base_ms + told.waits * waiting_s(costs, stack, paths_per_s) * 1000
    engine = stack.engine
    if engine is None or running is None:
        return ours_ms
    path_s = engine.path_s(running)
    queue_s = queued_s(path_s, running / engine.places, engine.places)
    middle_ms = costs.p50.base_ms + costs.p50.waits * waiting_s(costs, stack, paths_per_s) * 1000
    decoded_ms = [1000 * _slowest_s(path_s, engine.spread, stack.samples, each) for each in (0.5, share)]
    # Medians add up; what a percentile lies above its median adds up in squares, as of independent figures.
    above = ours_ms - middle_ms, decoded_ms[1] - decoded_ms[0]
    return middle_ms + decoded_ms[0] + 1000 * queue_s + sqrt(sum(each * each for each in above))


def _slowest_s(mean_s: float, spread: float, samples: int, share: float) -> float:
    """A percentile of the longest of so many paths."""
    if spread <= 0:
        return mean_s
    from scipy.stats import gamma

    shape = 1 / spread**2
    return float(gamma.ppf(pow(share, 1 / samples), shape, scale=mean_s / shape))
