"""Nothing is lost and nothing counts twice, whatever is killed or told to end: services, the broker, the database, a decoder."""

import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import pytest
from msgspec.structs import replace as replace_fields

from conclave.local.servers.kafka import KafkaBroker
from conclave.local.servers.postgres import PostgresServer
from conclave.runtime.client import Client
from conclave.store.migrate import upgrade
from conclave.testing.pipeline import SESSION_TIMEOUT_S, Pipeline, read_log
from conclave.testing.waiting import until_async
from schemas.events import (
    AnswerReached,
    PathDecoded,
    PathFailed,
    ReasoningRequested,
    RequestFailed,
    SampleRequested,
    StepDecided,
)
from schemas.flow import Topic
from schemas.ids import new_request_id, path_id
from schemas.values import Ask
from tests.handed_on import alike, in_one_go
from tests.integration.conftest import finish, own_broker
from tests.speakers import sample

IN_FLIGHT = 32
IN_CHUNKS = """
about = "Paths that are handed on every 16 tokens."
prompt_set = "reasoner-v3"

[asks.whole]
form = "chain_of_thought"
max_samples = 6
chunk_tokens = 16
"""

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def broker(session_dir: Path, jars_dir: Path) -> Iterator[KafkaBroker]:
    """A broker that this module may kill."""
    with own_broker(session_dir / "kafka-crashes", jars_dir, partitions=4) as broker:
        yield broker


@pytest.fixture(scope="module")
def server(session_dir: Path) -> Iterator[PostgresServer]:
    """A database that this module may kill."""
    server = PostgresServer(session_dir / "pg-crashes")
    finish(server.start())
    upgrade(server.dsn())
    yield server
    finish(server.stop())


@pytest.fixture
async def pipeline(broker: KafkaBroker, server: PostgresServer, tmp_path: Path) -> AsyncIterator[Pipeline]:
    """Every service once, on the scripted engine, with few messages in flight."""
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "in-chunks.toml").write_text(IN_CHUNKS)
    settings = {
        "CONCLAVE_MAX_IN_FLIGHT": str(IN_FLIGHT),
        "CONCLAVE_SCRIPTED_LATENCY_MS": "40",
        "CONCLAVE_POLICIES_DIR": str(tmp_path / "policies"),
    }
    async with Pipeline(broker, server.dsn(), tmp_path, settings).running() as pipeline:
        yield pipeline


async def _publish(pipeline: Pipeline, number: int, policy: str | None = None) -> list[str]:
    """The ids of so many requests, published in the background's pace; every tenth twice."""
    requests = [
        ReasoningRequested(question=f"How much is {i}?", request_id=new_request_id(), deadline_s=3600, policy=policy)
        for i in range(number)
    ]
    async with Client(pipeline.address) as client:
        await client.publish_many([*requests, *requests[::10]])
    return [str(request.request_id) for request in requests]


async def _recorded(server: PostgresServer, table: str, ids: list[str]) -> int:
    try:
        connection = await asyncpg.connect(server.dsn(), timeout=5)
    except (OSError, asyncpg.PostgresError, TimeoutError):
        return -1
    try:
        return int(await connection.fetchval(f"SELECT count(*) FROM {table} WHERE request_id = ANY($1::uuid[])", ids))
    finally:
        await connection.close()


async def _until_answered(pipeline: Pipeline, server: PostgresServer, ids: list[str], limit_s: float = 240) -> None:
    async def all_recorded() -> bool:
        return await _recorded(server, "answers", ids) == len(ids)

    await until_async(all_recorded, limit_s=limit_s, what=f"{len(ids)} recorded answers (logs in {pipeline.folder})")


@dataclass
class Ends:
    """What was launched of some requests, and the ends that all of it has come to, each counted."""

    answers: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)
    launched: Counter[str] = field(default_factory=Counter)
    paths: Counter[str] = field(default_factory=Counter)


async def _ends(pipeline: Pipeline, ids: list[str]) -> Ends:
    """What the log says by now. A request that failed is an error."""
    wanted, ends = set(ids), Ends()
    topics = (Topic.ANSWERS, Topic.STEPS, Topic.SAMPLES, Topic.PATHS)
    for _, event, _ in await read_log(pipeline.address, topics):
        match event:
            case AnswerReached() | RequestFailed() if event.request_id in wanted:
                assert isinstance(event, AnswerReached), event
                ends.answers[event.request_id] += 1
            case StepDecided() if event.request_id in wanted:
                ends.verdicts[event.request_id] += 1
            case SampleRequested(progress=None) if event.context.request_id in wanted:
                ends.launched[path_id(event.context.step_id, event.sample_index)] += 1
            case PathDecoded() | PathFailed() if event.context.request_id in wanted:
                ends.paths[path_id(event.context.step_id, event.sample_index)] += 1
    return ends


async def _assert_once(pipeline: Pipeline, server: PostgresServer, ids: list[str]) -> Counter[str]:
    """Each request has one answer and one verdict, each sample launched one terminal event, in the log and in the record."""

    async def all_have_ended() -> bool:
        ends = await _ends(pipeline, ids)
        return set(ends.launched) <= set(ends.paths)

    await until_async(all_have_ended, what="a terminal event of every sample launched")
    ends = await _ends(pipeline, ids)
    assert ends.answers == dict.fromkeys(ids, 1)
    assert ends.verdicts == dict.fromkeys(ids, 1)
    assert ends.launched == dict.fromkeys(ends.launched, 1), "a sample was launched twice"
    assert ends.paths == ends.launched, "a sample has not exactly one terminal event"
    paths = ends.paths

    async def all_paths() -> bool:
        return await _recorded(server, "paths", ids) == len(paths)

    await until_async(all_paths, what=f"{len(paths)} recorded paths")
    for table in ("requests", "plans", "verdicts"):
        assert await _recorded(server, table, ids) == len(ids), table
    return paths


async def test_every_request_is_answered_once_though_everything_is_killed_in_turn(
    pipeline: Pipeline, broker: KafkaBroker, server: PostgresServer
) -> None:
    ids = await _publish(pipeline, 500)
    for name in ("decoder", "voter", "decomposer", "aggregator", "recorder"):
        victim = pipeline.services[name]
        await victim.kill()
        await victim.start()
        # The next one falls while this one is back at work, not while all wait for the group.
        await until_async(victim.is_ready, limit_s=60, what=f"{name} back")
    await broker.kill()
    await broker.start()
    await server.kill()
    await server.start()
    await _until_answered(pipeline, server, ids)
    paths = await _assert_once(pipeline, server, ids)
    started = pipeline.decoded()
    again = sum(started.values()) - len(started)
    assert again <= 2 * IN_FLIGHT, f"{again} samples were decoded again, with {IN_FLIGHT} in flight at the one kill"
    assert set(paths) <= set(started)
    assert all(service.is_running for service in pipeline.services.values())


async def test_a_second_decoder_takes_over_what_a_killed_one_had_and_goes_on_from_the_last_chunks(
    pipeline: Pipeline, server: PostgresServer
) -> None:
    await pipeline.add("decoder", "decoder-2")
    await pipeline.until_ready()
    long = await _publish(pipeline, 50, policy="in-chunks")
    ids = [*long, *await _publish(pipeline, 50)]
    await until_async(lambda: _has_decoded(pipeline, 40), what="the first paths")
    await pipeline.services.pop("decoder").kill()
    await _until_answered(pipeline, server, ids)
    await _assert_once(pipeline, server, ids)
    log = await read_log(pipeline.address, [Topic.PATHS])
    paths = [event for _, event, _ in log if isinstance(event, PathDecoded) and event.context.request_id in long]
    assert sum(path.num_handed_on for path in paths) > len(long)
    started = pipeline.decoded()
    for path in paths:
        assert alike(path) == alike(await in_one_go(path)), "a path is not the one that it would have been"
        sample_id = path_id(path.step_id, path.sample_index)
        assert started[sample_id] <= 1 + path.num_handed_on + 1, "more than a chunk was decoded again"


async def test_a_decoder_told_to_end_hands_on_what_it_has_begun_and_another_finishes_it(
    broker: KafkaBroker, server: PostgresServer, tmp_path: Path
) -> None:
    decoders = Pipeline(broker, server.dsn(), tmp_path, {"CONCLAVE_DRAIN_S": "2"})
    decoders.settings["CONCLAVE_SCRIPTED_LATENCY_MS"] = "20000"
    slow = await decoders.add("decoder", "slow")
    decoders.settings["CONCLAVE_SCRIPTED_LATENCY_MS"] = "40"
    await decoders.add("decoder", "fast")
    try:
        await decoders.until_ready()
        samples = [
            replace_fields(each, context=replace_fields(each.context, deadline_ms=2**47))
            for each in (sample(Ask(form="chain_of_thought", chunk_tokens=chunk)) for chunk in (0, 16) * 12)
        ]
        async with Client(decoders.address) as client:
            await client.publish_many(samples)
        await until_async(lambda: _has_decoded(decoders, len(samples)), limit_s=120, what="every path begun")
        process = slow.process
        assert process is not None
        assert await process.stop(timeout_s=30), "it had to be killed: it did not end within its drain time"
        ids = {each.context.request_id for each in samples}
        await until_async(lambda: _have_ended(decoders, ids), limit_s=120, what="the end of every path")
        paths = await _paths_of(decoders, ids)
    finally:
        await decoders.stop()
    assert Counter(path.context.request_id for path in paths) == dict.fromkeys(ids, 1)
    handed_on = [path for path in paths if path.num_handed_on]
    assert {path.context.ask.chunk_tokens for path in handed_on} == {0, 16}, "it takes no chunks to be handed on"
    started = decoders.decoded()
    for path in paths:
        assert isinstance(path, PathDecoded)
        assert alike(path) == alike(await in_one_go(path)), "a path is not the one that it would have been"
        sample_id = path_id(path.step_id, path.sample_index)
        assert started[sample_id] <= 1 + path.num_handed_on + 1, "it was begun anew"


async def _paths_of(pipeline: Pipeline, ids: set[str]) -> list[PathDecoded | PathFailed]:
    log = await read_log(pipeline.address, [Topic.PATHS])
    ends = [event for _, event, _ in log if isinstance(event, PathDecoded | PathFailed)]
    return [each for each in ends if each.context.request_id in ids]


async def _have_ended(pipeline: Pipeline, ids: set[str]) -> bool:
    return {each.context.request_id for each in await _paths_of(pipeline, ids)} == ids


async def test_a_decoder_frozen_past_its_session_publishes_nothing_that_counts_twice(
    pipeline: Pipeline, server: PostgresServer
) -> None:
    await pipeline.add("decoder", "decoder-2")
    await pipeline.until_ready()
    ids = await _publish(pipeline, 200)
    await until_async(lambda: _has_decoded(pipeline, 40), what="the first paths")
    frozen = pipeline.services["decoder"]
    frozen.send(signal.SIGSTOP)
    thawed_at = time.monotonic() + SESSION_TIMEOUT_S + 3
    await until_async(lambda: _is_past(thawed_at), what="the session's end")
    await _until_answered(pipeline, server, ids)
    frozen.send(signal.SIGCONT)
    await until_async(frozen.is_ready, limit_s=60, what="the thawed decoder back in its group")
    more = await _publish(pipeline, 50)
    await _until_answered(pipeline, server, more)
    await _assert_once(pipeline, server, ids + more)


async def _has_decoded(pipeline: Pipeline, number: int) -> bool:
    return len(pipeline.decoded()) >= number


async def _is_past(moment: float) -> bool:
    return time.monotonic() > moment
