"""What a stack carries, what keeps it from more, and how long answers take at a rate."""

from collections.abc import Iterator
from itertools import count, repeat
from random import Random

from conclave.domain.capacity.costs import SERVICES, Costs, Played, Prediction, Stack
from conclave.domain.capacity.pipeline import Pipeline

_SEED = 1
_FULL = 0.85  # of a core, of the cores or of the places: then these are what limits
_NUM_AT_ONCE = 2000
_FEWEST, _MOST = 400, 6_000  # requests of a play
_PLACES_OVER = 20  # a burst fills the engine's places so often


def at_once(costs: Costs, stack: Stack, num_requests: int) -> Played:
    """What comes of so many requests that all wait at the beginning."""
    return Pipeline(costs, stack, Random(_SEED)).play(repeat(0.0), num_requests)


def at_rate(costs: Costs, stack: Stack, requests_per_s: float, num_requests: int, *, is_even: bool = False) -> Played:
    """The same for requests that come one by one: at random (Poisson), or at even gaps."""
    random = Random(_SEED)
    due_s = (number / requests_per_s for number in count()) if is_even else _poisson(requests_per_s, Random(_SEED + 1))
    return Pipeline(costs, stack, random).play(due_s, num_requests)


def most_per_s(costs: Costs, stack: Stack) -> tuple[float, str]:
    """Requests a second that the stack carries, and what keeps it from more."""
    engine = stack.engine
    fills = 0 if engine is None else _PLACES_OVER * engine.places // stack.samples
    num_requests = max(_NUM_AT_ONCE if engine is None else _FEWEST, min(_MOST, fills))
    played = at_once(costs, stack, num_requests)
    limit = _limit(costs, stack, played)
    if engine is None:
        return num_requests / played.lasted_s, limit
    # Without its beginning and its end, when places are empty that are taken in the long run.
    first, last = num_requests // 5, num_requests * 4 // 5
    return (last - first) / (played.took_s[last] - played.took_s[first]), limit


def _limit(costs: Costs, stack: Stack, played: Played) -> str:
    """What was fullest."""
    lasted_s = played.lasted_s
    uses = {"the cores": sum(cores_of(costs, stack, played).values()) / (costs.used * stack.cores)}
    for part in SERVICES:
        uses[f"one core for each {part}"] = played.busy_s[part] / lasted_s / stack.processes(part)
    if stack.engine is not None:
        uses["the engine"] = played.running_s / lasted_s / stack.engine.places
    name = max(uses, key=lambda each: uses[each])
    return name if uses[name] >= _FULL else "waiting of one stage for another"


def cores_of(costs: Costs, stack: Stack, played: Played) -> dict[str, float]:
    """The cores that each part took, on average, what it takes at rest included."""
    return {
        part: stack.processes(part) * cost.idle_cores + played.busy_s.get(part, 0.0) / played.lasted_s
        for part, cost in costs.parts.items()
    }


def predicted(costs: Costs, stack: Stack, requests_per_s: float) -> Prediction:
    """What becomes of a stack that is asked so much, at random moments."""
    most, limited_by = most_per_s(costs, stack)
    engine = stack.engine
    path_s = 0.0 if engine is None else engine.path_s(min(engine.places, requests_per_s * stack.samples))
    num_requests = round(max(_FEWEST, min(_MOST, requests_per_s * (10 * path_s + 5))))
    played = at_rate(costs, stack, requests_per_s, num_requests)
    used = cores_of(costs, stack, played)
    if requests_per_s >= most:
        return Prediction(most, limited_by, used, None, None)
    p50_ms, p99_ms = percentiles_ms(played)
    running = None if engine is None else played.running_s / played.lasted_s
    return Prediction(most, limited_by, used, p50_ms, p99_ms, running)


def percentiles_ms(played: Played) -> tuple[float, float]:
    """The median and the 99th percentile, of those that came after the first tenth."""
    took_s = sorted(played.took_s[len(played.took_s) // 10 :])
    return tuple(1000 * took_s[min(len(took_s) - 1, int(len(took_s) * share))] for share in (0.5, 0.99))  # type: ignore[return-value]


def _poisson(per_s: float, random: Random) -> Iterator[float]:
    at_s = 0.0
    while True:
        at_s += random.expovariate(per_s)
        yield at_s
