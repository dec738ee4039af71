"""`python -m benchmarks.wire`: bytes that a path costs on the wire and in the log, by event and field, and what compressing saves.

Every service on a broker in memory, with the scripted engine, whose texts are short: bytes do not depend on the machine. A batch
is what a transaction writes to a partition, compressed whole as producers do. What that costs is CPU time, the best of several
rounds. With `--real`, also what the segments of a real broker hold after the same questions, all at once, by codec.
"""

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterable

import click
import msgspec
from aiokafka import codec as compression

from benchmarks.load.machine import usage
from benchmarks.load.stacks import leaders
from benchmarks.measuring import record
from benchmarks.pipeline import store_paths
from benchmarks.stack import stack
from conclave.runtime.record import headers_size, output_of
from conclave.testing import laws, settling
from conclave.testing.cluster import Cluster
from conclave.testing.log import StoredRecord
from conclave.testing.loop import VirtualLoop
from conclave.testing.network import Network
from conclave.testing.pipeline import Pipeline
from conclave.testing.processes import SETTINGS, Process, Processes
from conclave.testing.record import Database
from conclave.testing.simulation import quiet
from conclave.testing.stage import START_MS
from schemas import flow
from schemas.events import ReasoningRequested
from schemas.ids import derived_request_id

_SERVICES = ("decomposer", "decoder", "voter", "aggregator", "recorder")
_SAMPLES, _PARTITIONS = 8, 4
_QUESTION = "A baker sells {} loaves a day at 3 dollars each. How much does she take in a week of six days?"
_CODECS: dict[str, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]] = {
    "lz4": (compression.lz4_encode, compression.lz4_decode),
    "snappy": (compression.snappy_encode, compression.snappy_decode),
    "zstd": (compression.zstd_encode, compression.zstd_decode),
    "gzip": (compression.gzip_encode, compression.gzip_decode),
}
_ROUNDS = 5


def played(num_requests: int, gap_s: float) -> list[StoredRecord]:
    """All that the log holds once so many requests, of 8 samples each and `gap_s` apart, are answered and recorded."""
    loop = VirtualLoop()  # type: ignore[abstract]
    topics = {row.topic.value: 1 if row.is_broadcast else _PARTITIONS for row in flow.TOPICS}
    topics |= {flow.dead_letter_topic(row.topic.value): 1 for row in flow.TOPICS if not row.is_broadcast}
    rng = random.Random(0)
    cluster = Cluster(loop, rng, topics, START_MS)
    database = Database(Network(loop, rng, "postgres"))
    settings = SETTINGS.model_copy(update={"max_in_flight": 4096, "duplicate_window": 10_000})
    processes = Processes(loop, rng, cluster, database, _died, settings)

    async def play() -> None:
        for service in _SERVICES:
            processes.start(service)
        for number in range(num_requests):
            request = ReasoningRequested(
                question=_QUESTION.format(number),
                request_id=derived_request_id(cluster.now_ms, str(number)),
                policy="fixed-8",
                max_samples=_SAMPLES,
                deadline_s=86_400.0,
            )
            cluster.publish(
                [output_of(request, service="test", event_id=str(number), parent=None, now_ms=cluster.now_ms)]
            )
            await asyncio.sleep(gap_s)
        while not settling.is_settled(cluster, database):  # noqa: ASYNC110  (in virtual time: nobody waits)
            await asyncio.sleep(1.0)
        for process in list(processes.alive.values()):
            processes.stop(process)
        await asyncio.sleep(10.0)

    with quiet():
        loop.run_until_complete(play())
    return [each for topic in topics for each in cluster.records(topic)]


def _died(process: Process, error: BaseException) -> None:
    raise AssertionError(f"{process.endpoint.name} died") from error


def by_event(records: Iterable[StoredRecord], num_paths: int) -> dict[str, dict[str, float]]:
    """Bytes a path of each event: its key and headers, and each field of its value."""
    found: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for each in records:
        (event,) = laws.events([each])
        fields = found[type(event).__name__]
        fields["key and headers"] += (len(each.key or b"") + headers_size(each.headers)) / num_paths
        for name, value in msgspec.json.decode(each.value or b"{}", type=dict[str, msgspec.Raw]).items():
            fields[name] += (len(name) + 4 + len(bytes(value))) / num_paths
    return {name: dict(sorted(fields.items(), key=lambda row: -row[1])) for name, fields in found.items()}


def batches(records: Iterable[StoredRecord]) -> list[bytes]:
    """What each transaction wrote to each partition, as one text."""
    found: dict[tuple[object, ...], list[bytes]] = defaultdict(list)
    for each in records:
        header_bytes = b"".join(name.encode() + (value or b"") for name, value in each.headers)
        written = id(each.transaction) if each.transaction is not None else each.offset
        found[each.topic, each.partition, written].append((each.key or b"") + header_bytes + (each.value or b""))
    return [b"".join(each) for each in found.values()]


def compressed(found: list[bytes], num_paths: int) -> dict[str, dict[str, float]]:
    """By codec: bytes a path in the log, and CPU µs a path to compress once and to read once."""
    told: dict[str, dict[str, float]] = {"none": {"bytes": sum(map(len, found)) / num_paths}}
    for name, (encode, decode) in _CODECS.items():
        packed = [encode(each) for each in found]
        told[name] = {
            "bytes": sum(map(len, packed)) / num_paths,
            "compress_us": _best_s(encode, found) / num_paths * 1e6,
            "decompress_us": _best_s(decode, packed) / num_paths * 1e6,
        }
    return told


def _best_s(work: Callable[[bytes], bytes], texts: list[bytes]) -> float:
    took_s = []
    for _ in range(_ROUNDS):
        started = time.process_time()
        for each in texts:
            work(each)
        took_s.append(time.process_time() - started)
    return min(took_s)


def without_defaults(records: Iterable[StoredRecord], num_paths: int) -> float:
    """Bytes a path of all values, were fields left out that have their default."""
    num_bytes = 0
    for each in records:
        (event,) = laws.events([each])
        num_bytes += len(msgspec.json.encode(_slim(event))) + len(each.key or b"") + headers_size(each.headers)
    return num_bytes / num_paths


def _slim(value: object) -> object:
    match value:
        case msgspec.Struct():
            return {
                field.encode_name: _slim(getattr(value, field.name))
                for field in msgspec.structs.fields(value)
                if field.required or getattr(value, field.name) != _default(field)
            }
        case dict():
            return {key: _slim(each) for key, each in value.items()}
        case list() | tuple():
            return [_slim(each) for each in value]
        case _:
            return value


def _default(field: msgspec.structs.FieldInfo) -> object:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return field.default


async def stored(num_requests: int, rounds: int) -> dict[str, dict[str, float]]:
    """By codec: bytes a path in the segments of a real broker, and CPU µs a path of all parts; the least of the rounds."""
    found: dict[str, dict[str, float]] = {}
    for _ in range(rounds):
        for name in ("none", "lz4", "snappy", "zstd"):
            settings = {"CONCLAVE_SCRIPTED_LATENCY_MS": "0", "CONCLAVE_KAFKA_COMPRESSION": name}
            async with stack(settings) as (pipeline, server):
                await store_paths(pipeline, server, num_requests)  # warm
                parts = leaders(pipeline, server)
                log, cpu_s = _log_bytes(pipeline), sum(each.cpu_s for each in usage(parts).values())
                await store_paths(pipeline, server, num_requests)
                cpu_s = sum(each.cpu_s for each in usage(parts).values()) - cpu_s
                num_paths = num_requests * _SAMPLES
                told = {"bytes": (_log_bytes(pipeline) - log) / num_paths, "cpu_us": cpu_s / num_paths * 1e6}
            before = found.setdefault(name, told)
            found[name] = {key: min(value, before[key]) for key, value in told.items()}
            print(f"  {name:<8} {told['bytes']:7.0f} bytes a path in the log, {told['cpu_us']:6.0f} µs CPU", flush=True)
    return found


def _log_bytes(pipeline: Pipeline) -> int:
    return sum(path.stat().st_size for path in pipeline.broker.data_dir.rglob("reasoning.*/*.log"))


def measure(num_requests: int) -> dict[str, object]:
    """What a path costs at a trickle, where a batch holds one request's records at most, and all at once."""
    result: dict[str, object] = {"samples": _SAMPLES, "requests": num_requests}
    num_paths = num_requests * _SAMPLES
    for name, gap_s in (("at a trickle", 5.0), ("all at once", 0.0)):
        records = played(num_requests, gap_s)
        found = batches(records)
        told = compressed(found, num_paths)
        result[name] = {
            "events": by_event(records, num_paths),
            "batches": len(found),
            "compressed": told,
            "without_defaults": without_defaults(records, num_paths),
        }
        _show(name, result[name])
    return result


def _show(name: str, told: object) -> None:
    assert isinstance(told, dict)
    print(f"{name}: {told['batches']} batches")
    for event, fields in told["events"].items():
        largest = ", ".join(f"{field} {num:.0f}" for field, num in list(fields.items())[:5])
        print(f"  {event:<20} {sum(fields.values()):7.0f} bytes a path: {largest}")
    for codec, row in told["compressed"].items():
        costs = ", ".join(f"{key} {value:.1f}" for key, value in row.items() if key != "bytes")
        print(f"  {codec:<20} {row['bytes']:7.0f} bytes a path in the log; {costs}")
    print(f"  {'without defaults':<20} {told['without_defaults']:7.0f}")


@click.command()
@click.option("--requests", "num_requests", default=200, show_default=True)
@click.option("--real", "rounds", default=0, show_default=True, help="Rounds on real servers, of 1,000 requests each.")
def main(num_requests: int, rounds: int) -> None:
    """Measure the bytes that a path costs; the result goes to benchmarks/results/."""
    result = measure(num_requests)
    if rounds:
        result["stored"] = asyncio.run(stored(1000, rounds))
    print(record("wire", result))


if __name__ == "__main__":
    main()
