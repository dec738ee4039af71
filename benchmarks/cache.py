"""`python -m benchmarks.cache`: what remembering answers is worth: questions known again, and who must go when there is no room.

    python -m benchmarks.cache          # writes benchmarks/results/cache.json

- **Known again**: of 10,000 near twins, how many are taken for their sister (none may); of paraphrases by templates, how many are
  known. Computed.
- **Evictions**: a stream of 2,000 requests, drawn by Zipf's law from the questions of data/problems, is replayed under each
  eviction at three sizes of the front. Hit rates are computed. Costs are *simulated*: a miss takes 4 to 16 paths of 12 tokens and
  18 more for each step of the problem, at 2 ms a token, a hit 1 ms. So latencies compare evictions, and are nobody's milliseconds.
"""

import itertools
import json
import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from benchmarks.measuring import record
from conclave.domain.recall import gist
from conclave.domain.recall.front import EVICTIONS, Front
from conclave.testing.near_questions import near_twins, paraphrases

_PROBLEMS = Path(__file__).parents[1] / "data" / "problems"
_NUM_REQUESTS, _EXPONENT = 2_000, 1.0
_SHARES = (0.05, 0.15, 0.4)  # of the bytes of all answers
_HIT_MS, _MS_A_TOKEN = 1.0, 2.0
_TOKENS_A_PATH, _TOKENS_A_STEP = (
    12,
    18,
)  # of a chain of thought, and of each of its steps: what the shipped model writes
_SEED = 13


@dataclass(frozen=True, slots=True)
class Question:
    """A question of the stream, with what answering it costs and what keeping the answer takes."""

    text: str
    tokens: int
    num_bytes: int

    @property
    def miss_ms(self) -> float:
        """How long thinking about it takes, at a fixed speed."""
        return self.tokens * _MS_A_TOKEN


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a stream came to under one eviction at one size."""

    eviction: str
    share_of_bytes: float
    hit_rate: float
    mean_ms: float
    p99_ms: float
    tokens: int


def questions(rng: random.Random) -> list[Question]:
    """The problems that ship. Harder ones cost more: more steps a path, and more paths before the vote is clear."""
    lines = [line for name in ("test.jsonl", "demo.jsonl") for line in (_PROBLEMS / name).read_text().splitlines()]
    found = []
    for line in lines:
        problem = json.loads(line)
        steps = int(problem["difficulty"])
        num_paths = min(16, 4 + rng.randint(0, 2 * steps))
        tokens = num_paths * (_TOKENS_A_PATH + _TOKENS_A_STEP * steps)
        found.append(Question(problem["question"], tokens, 512 + 132 * rng.randint(1, 1 + steps)))
    return found


def stream(rng: random.Random, among: Sequence[Question], number: int) -> list[Question]:
    """So many requests: the k-th most frequent question comes with a probability that goes as 1 / k (Zipf)."""
    ranked = list(among)
    rng.shuffle(ranked)
    return rng.choices(ranked, [1.0 / (rank**_EXPONENT) for rank in range(1, len(ranked) + 1)], k=number)


def replay(requests: Sequence[Question], eviction: str, share: float) -> Replayed:
    """The stream through a front that holds a share of the bytes of all its answers."""
    distinct = {each.text: each.num_bytes for each in requests}
    front: Front[str] = Front(round(share * sum(distinct.values())), eviction)
    spent_ms, tokens, hits = [], 0, 0
    for each in requests:
        if front.get(each.text) is not None:
            hits += 1
            spent_ms.append(_HIT_MS)
            continue
        spent_ms.append(each.miss_ms)
        tokens += each.tokens
        front.put(each.text, each.text, num_bytes=each.num_bytes, cost=float(each.tokens))
    spent_ms.sort()
    p99_ms = spent_ms[math.ceil(0.99 * len(spent_ms)) - 1]
    mean_ms = sum(spent_ms) / len(spent_ms)
    return Replayed(eviction, share, hits / len(requests), mean_ms, p99_ms, tokens)


def known_again() -> dict[str, object]:
    """Twins that were taken for their sisters, and paraphrases that were known, by kind."""
    rng = random.Random(_SEED)
    twins, wrong = Counter[str](), Counter[str]()
    for kind, one, other in near_twins(rng, 10_000):
        twins[kind] += 1
        wrong[kind] += gist(one) == gist(other)
    said, known = Counter[str](), Counter[str]()
    for kind, one, other in paraphrases(rng, 2_200):
        said[kind] += 1
        known[kind] += gist(one) == gist(other)
    return {
        "near_twins": twins.total(),
        "wrong_reuses": wrong.total(),
        "paraphrases": said.total(),
        "known": known.total() / said.total(),
        "known_by_way": {kind: known[kind] / number for kind, number in said.items()},
    }


def falls(rows: Sequence[Replayed]) -> dict[str, list[float]]:
    """By how much the mean latency falls for ten points of hit rate, from each size to the next.

    A hit costs next to nothing, so the mean goes as one minus the hit rate: the higher that is, the more ten points are worth.
    """
    found: dict[str, list[float]] = {}
    for eviction in EVICTIONS:
        sizes = [row for row in rows if row.eviction == eviction]
        pairs = itertools.pairwise(sizes)
        found[eviction] = [(1 - b.mean_ms / a.mean_ms) / (10 * (b.hit_rate - a.hit_rate)) for a, b in pairs]
    return found


@click.command()
@click.option("--write/--no-write", default=True, help="Write benchmarks/results/cache.json.")
def main(write: bool) -> None:
    """Measures, prints and writes."""
    rng = random.Random(_SEED)
    requests = stream(rng, questions(rng), _NUM_REQUESTS)
    rows = [replay(requests, eviction, share) for share in _SHARES for eviction in EVICTIONS]
    again = known_again()
    click.echo(f"{again['wrong_reuses']} of {again['near_twins']} near twins taken for their sister")
    click.echo(f"{again['known']:.1%} of {again['paraphrases']} paraphrases known again")
    none_ms = sum(each.miss_ms for each in requests) / len(requests)
    click.echo(
        f"{len(requests)} requests, {len({each.text for each in requests})} questions; without a cache {none_ms:.0f} ms"
    )
    click.echo("front   eviction   hit rate   mean ms   P99 ms   tokens")
    for row in rows:
        click.echo(
            f"{row.share_of_bytes:5.0%}   {row.eviction:<9} {row.hit_rate:8.1%} {row.mean_ms:9.0f} {row.p99_ms:8.0f} "
            f"{row.tokens:8d}"
        )
    fall = falls(rows)
    for eviction, shares in fall.items():
        told = ", ".join(f"{each:.1%}" for each in shares)
        click.echo(f"{eviction}: from size to size the mean falls by {told} for ten points of hit rate")
    if write:
        measured = {
            "simulated": "costs of a miss and of a hit; hit rates and who is known again are computed",
            "known_again": again,
            "without_cache_mean_ms": none_ms,
            "fall_of_the_mean_for_ten_points": fall,
            "evictions": [asdict(row) for row in rows],
        }
        click.echo(record("cache", measured))


if __name__ == "__main__":
    main()
