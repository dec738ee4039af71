"""`python -m benchmarks.in_flight`: a fixed number in flight against one by pressure, on a model of a cache-bound engine.

Steady, bursty and long-tailed load; the mean and deviation of how many sequences run, and what is thrown out and computed again.
The engine is the model of conclave.testing.cache_bound, in steps of its own: no figure here is of a card or of this machine.
"""

import random
import statistics
from dataclasses import dataclass

import click

from benchmarks.measuring import record
from conclave.domain.fair_queue import Ticket
from conclave.engine.admission import Line
from conclave.engine.protocol import Decoded
from conclave.testing.cache_bound import CacheBoundEngine, Sequence
from schemas.values import FinishReason

_PROMPT, _MOST, _LEAST, _SAMPLES = 100, 64, 4, 8
_BURST = 400  # paths that come at once
_SIGMA = {"steady": 0.2, "bursty": 0.2, "long-tailed": 0.9}


@dataclass(frozen=True, slots=True)
class Played:
    """What came of a load: running sequences over steps, and what the cache cost."""

    tokens_per_s: float
    mean_running: float
    deviation: float
    mean_cache_use: float
    num_preempted: int
    num_computed_again: int


def played(load: str, *, capacity: int, min_running: int | None, num_paths: int, seed: int = 1) -> Played:
    """A load through the line that decoders have, and an engine whose cache holds `capacity` tokens."""
    rng, engine = random.Random(seed), CacheBoundEngine(capacity)
    line = Line(max_running=_MOST, min_running=min_running)
    lengths = [max(8, min(1500, round(rng.lognormvariate(5.0, _SIGMA[load])))) for _ in range(num_paths)]
    under_way: dict[Sequence, Ticket] = {}
    num_asked = num_ended = tokens = 0
    running: list[float] = []
    cache: list[float] = []
    while num_ended < num_paths:
        if load == "bursty":
            due = num_asked + _BURST if not under_way and not line.queue.num_waiting else num_asked
        else:
            due = num_ended + 4 * _MOST
        while num_asked < min(due, num_paths):
            line.queue.enter(f"{num_asked // _SAMPLES}/0")
            num_asked += 1
        while (ticket := line.next(engine.load())) is not None:
            under_way[engine.add(_PROMPT, lengths[ticket.number - 1])] = ticket
        ended = engine.step()
        running.append(engine.num_running)
        cache.append(engine.load().kv_cache_use)
        for sequence in ended:
            line.bore(decoded(sequence, engine.now_ms))
            line.finished(under_way.pop(sequence), float(sequence.generated))
            tokens, num_ended = tokens + sequence.generated, num_ended + 1
    return Played(
        1000 * tokens / engine.now_ms,
        statistics.fmean(running),
        statistics.pstdev(running),
        statistics.fmean(cache),
        engine.num_preempted,
        engine.num_computed_again,
    )


def decoded(sequence: Sequence, now_ms: float) -> Decoded:
    """How an engine tells of a path that has ended."""
    return Decoded(
        text="",
        finish_reason=FinishReason.STOP,
        tokens_in=sequence.prompt,
        tokens_out=sequence.generated,
        mean_logprob=None,
        min_logprob=None,
        queued_ms=sequence.queued_ms,
        first_token_ms=0.0,
        total_ms=now_ms - sequence.began_ms,
    )


@click.command()
@click.option("--paths", default=4000, show_default=True)
@click.option("--record/--no-record", "is_recorded", default=False, help="Write the result to benchmarks/results/.")
def main(paths: int, is_recorded: bool) -> None:
    """Play each load with ample and with short cache, fixed and by pressure."""
    result: dict[str, object] = {}
    for load in _SIGMA:
        for capacity in (100_000, 12_000, 6_000):
            for name, least in (("fixed", None), ("by pressure", _LEAST)):
                got = played(load, capacity=capacity, min_running=least, num_paths=paths)
                print(
                    f"{load:<12} cache {capacity:>7}  {name:<12} {got.tokens_per_s:8.0f} tokens/s   running "
                    f"{got.mean_running:5.1f} ± {got.deviation:4.1f}   cache {got.mean_cache_use:4.0%}   "
                    f"thrown out {got.num_preempted:6d}   computed again {got.num_computed_again:8d}"
                )
                result[f"{load}, cache of {capacity} tokens, {name}"] = {
                    field: getattr(got, field) for field in Played.__slots__
                }
    if is_recorded:
        print(record("in_flight", {"paths": paths, "model": "conclave.testing.cache_bound", "played": result}))


if __name__ == "__main__":
    main()
