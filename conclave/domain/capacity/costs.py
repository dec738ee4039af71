"""What is known of a stack: the CPU of its parts, as measured, and how many of what it has."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

SERVICES = ("decomposer", "decoder", "voter", "aggregator", "recorder")  # each process of them is a loop on one core


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU of one part: at rest, of each of its processes; for a path, a request and a transaction.

    Of Kafka the transactions are those of all services, of Postgres those of the recorder.
    """

    idle_cores: float
    path_us: float
    request_us: float
    transaction_us: float

    def seconds(self, paths: float, requests: float, transactions: float) -> float:
        """CPU of some work."""
        return (self.path_us * paths + self.request_us * requests + self.transaction_us * transactions) / 1e6


@dataclass(frozen=True, slots=True)
class Costs:
    """What one stack was measured to cost.

    `hop_ms`: from a commit until the next service has the event, beside CPU. `uneven`: deviation over mean of a job's CPU. `used`:
    the share of the cores that the parts had at most; the rest went to others, and to switching.
    """

    parts: Mapping[str, Cost]
    hop_ms: float
    uneven: float
    used: float


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
class Played:
    """What came of requests that were played: how long each took from when it was due, in the order of the answers.

    `busy_s`: CPU of each part. `transactions`: of each service. `running_s`: seconds of places taken on the engine.
    """

    took_s: tuple[float, ...]
    lasted_s: float
    busy_s: Mapping[str, float]
    transactions: Mapping[str, int]
    running_s: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a stack does at a rate. `cores_of` counts the cores that each part takes; a percentile is None beyond the limit."""

    most_per_s: float
    limited_by: str
    cores_of: Mapping[str, float]
    p50_ms: float | None
    p99_ms: float | None
    running: float | None = None  # paths on the engine, on average
