"""`python -m benchmarks.in_flight`: a fixed number in flight against one by pressure, on a model of a cache-bound engine.

Steady, bursty and long-tailed load; the mean and deviation of how many sequences run, and what is thrown out and computed again.
By pressure there are two more ways: paths that run are cut, and gone on with before any other once there is room (decision 0065).
The engine is the model of conclave.testing.cache_bound, in steps of its own: no figure here is of a card or of this machine.
"""

import random
import statistics
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

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


class Cutting(StrEnum):
    """Which of those that run are cut, as the engine is pressed."""

    NONE = "none"
    THROWN_OUT = "thrown out"  # by the engine, as soon as it has
    YOUNGEST = "youngest"  # those over the limit, as soon as it is cut


@dataclass(frozen=True, slots=True)
class Played:
    """What came of a load: running sequences over steps, and what the cache cost."""

    tokens_per_s: float
    mean_running: float
    deviation: float
    mean_cache_use: float
    num_preempted: int
    num_computed_again: int


def played(
    load: str,
    *,
    capacity: int,
    min_running: int | None,
    num_paths: int,
    cutting: Cutting = Cutting.NONE,
    seed: int = 1,
) -> Played:
    """A load through the line that decoders have, and an engine whose cache holds `capacity` tokens."""
    rng, engine = random.Random(seed), CacheBoundEngine(capacity)
    line = Line(max_running=_MOST, min_running=min_running)
    lengths = [max(8, min(1500, round(rng.lognormvariate(5.0, _SIGMA[load])))) for _ in range(num_paths)]
    under_way: dict[Sequence, Ticket] = {}
    cut: list[tuple[Sequence, Ticket]] = []  # in the order in which they began
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
        while cut and line.may_begin(engine.load()):
            sequence, held = cut.pop(0)
            under_way[sequence] = held
            line.running += 1
            engine.go_on(sequence)
        while not cut and (ticket := line.next(engine.load())) is not None:
            under_way[engine.add(_PROMPT, lengths[ticket.number - 1])] = ticket
        ended = engine.step()
        running.append(engine.num_running)
        cache.append(engine.load().kv_cache_use)
        for sequence in ended:
            line.bore(decoded(sequence, engine.now_ms))
            line.finished(under_way.pop(sequence), float(sequence.generated))
            tokens, num_ended = tokens + sequence.generated, num_ended + 1
        for sequence in _to_cut(cutting, line, engine):
            engine.cut(sequence)
            line.running -= 1
            cut.append((sequence, under_way.pop(sequence)))
        cut.sort(key=lambda each: each[1].number)
    return Played(
        1000 * tokens / engine.now_ms,
        statistics.fmean(running),
        statistics.pstdev(running),
        statistics.fmean(cache),
        engine.num_preempted,
        engine.num_computed_again,
    )


def _to_cut(cutting: Cutting, line: Line, engine: CacheBoundEngine) -> list[Sequence]:
    match cutting:
        case Cutting.NONE:
            return []
        case Cutting.THROWN_OUT:
            return engine.thrown_out()
        case Cutting.YOUNGEST:
            line.may_begin(engine.load())  # looks at the pressure
            return engine.youngest(line.running - line.limit)
        case _:
            assert_never(cutting)


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
            for name, least, cutting in (
                ("fixed", None, Cutting.NONE),
                ("by pressure", _LEAST, Cutting.NONE),
                ("by pressure, thrown out cut", _LEAST, Cutting.THROWN_OUT),
                ("by pressure, youngest cut", _LEAST, Cutting.YOUNGEST),
            ):
                got = played(load, capacity=capacity, min_running=least, num_paths=paths, cutting=cutting)
                print(
                    f"{load:<12} cache {capacity:>7}  {name:<27} {got.tokens_per_s:8.0f} tokens/s   running "
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
