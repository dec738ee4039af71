"""The record on a real server: idempotence, fencing, partitions, and what each event leaves in it."""

import time
import uuid
from datetime import UTC, date, datetime, timedelta

import asyncpg
import msgspec
import pytest
from msgspec.structs import replace

from conclave.domain.long_texts import stored
from conclave.errors import Fenced, LostDependency, Rejected
from conclave.store import partitions, queries
from conclave.store.rows import TABLES
from conclave.store.store import Store
from conclave.testing import events as made
from schemas.events import PathFailed, ReasoningRequested, RequestFailed
from schemas.ids import derived_request_id, new_request_id
from schemas.values import PathFailure, Policy, RequestFailure, Step
from tests.integration.recorded_events import PATHS, POLICY, path_of, recorded, trace_of


async def test_a_batch_written_twice_leaves_one_row_each(store: Store, fresh_database: str) -> None:
    request = str(new_request_id())
    batch = [recorded(event, offset) for offset, event in enumerate(trace_of(request, "abbb"))]
    first = await store.write(batch, {(PATHS, 0): 5})
    assert first > 0
    assert await store.write([*batch, *batch], {(PATHS, 0): 5}) == 0
    trace = await queries.request_trace(fresh_database, request)
    assert [path["vote"] for path in trace["paths"]] == list("abbb")
    assert trace["request"][0]["answer"] == "b"
    assert trace["request"][0]["tags"] == {"team": "a"}


async def test_large_batches_that_repeat_some_of_what_was_delivered_leave_one_row_each(
    store: Store, fresh_database: str
) -> None:
    requests = [str(new_request_id()) for _ in range(30)]
    events = [event for request in requests for event in trace_of(request, "ab")]
    batch = [recorded(event, offset) for offset, event in enumerate(events)]
    some, num_some = batch[: len(batch) // 2], await store.write(batch[: len(batch) // 2], {(PATHS, 0): 3})
    num_all = num_some + await store.write(batch, {(PATHS, 0): 5})
    assert await store.write([*batch, *batch], {(PATHS, 0): 5}) == 0
    assert await store.write([*some, *some], {}) == 0
    connection = await asyncpg.connect(fresh_database)
    counts = {table: await connection.fetchval(f"SELECT count(*) FROM {table}") for table in (*TABLES, "policies")}
    await connection.close()
    assert (counts["paths"], counts["ballots"], counts["answers"], counts["steps"]) == (60, 60, 30, 30)
    assert num_all == sum(counts.values())
    fresh = [
        recorded(event) for request in (str(new_request_id()) for _ in range(30)) for event in trace_of(request, "ab")
    ]
    assert await store.write(fresh, {}) == num_all - 1, "all but the policy"


async def test_a_former_owner_writes_neither_rows_nor_offsets(store: Store, fresh_database: str) -> None:
    await store.write([], {(PATHS, 0): 7})
    heir = Store(fresh_database)
    assert await heir.claim([(PATHS, 0)]) == {(PATHS, 0): 7}
    request = str(new_request_id())
    with pytest.raises(Fenced):
        await store.write([recorded(path_of(request, 0, "a"))], {(PATHS, 0): 99})
    assert await heir.claim([(PATHS, 0)]) == {(PATHS, 0): 7}
    assert (await queries.request_trace(fresh_database, request))["paths"] == []
    await heir.close()


async def test_a_failed_row_takes_its_whole_batch_and_the_offsets_back(store: Store, fresh_database: str) -> None:
    request = str(new_request_id())
    broken = PathFailed(
        context=path_of(request, 0, "a").context,
        sample_index=1,
        launched=99999,
        failure=PathFailure.ENGINE,
        message="m",
    )
    with pytest.raises(Exception, match=r"int16|smallint|range"):
        await store.write([recorded(path_of(request, 0, "a")), recorded(broken)], {(PATHS, 0): 3})
    assert (await queries.request_trace(fresh_database, request))["paths"] == []
    assert await store.claim([(PATHS, 0)]) == {(PATHS, 0): 0}


async def test_text_that_postgres_cannot_hold_is_kept_in_a_form_that_it_can(store: Store, fresh_database: str) -> None:
    request = str(new_request_id())
    await store.write([recorded(path_of(request, 0, "a\0b", text="x\0\ud800y\U0001f600"))], {})
    path = (await queries.request_trace(fresh_database, request))["paths"][0]
    assert "\0" not in path["text"]
    assert path["text"].endswith("y\U0001f600")


async def test_a_request_from_years_away_is_rejected_by_name_and_last_weeks_gets_its_partition(
    store: Store, fresh_database: str
) -> None:
    now_ms = int(time.time() * 1000)
    week_ago = str(derived_request_id(now_ms - 7 * 86_400_000, "a"))
    assert await store.write([recorded(path_of(week_ago, 0, "a"))], {}) == 4  # its step, too
    for timestamp_ms in (0, now_ms + 400 * 86_400_000, 2**48 - 1):
        with pytest.raises(Rejected) as caught:
            await store.write([recorded(path_of(str(derived_request_id(timestamp_ms, "a")), 0, "a"))], {})
        assert caught.value.field == "$.request_id"


async def test_partitions_are_made_ahead_and_dropped_by_retention(fresh_database: str) -> None:
    store = Store(fresh_database, ahead_days=3, retention_days=10)
    day_ms = 86_400_000
    long_ago = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1000)
    await store.maintain(long_ago)
    found = await partitions.existing(store._engine)
    assert set(found) == set(TABLES)
    assert all(days == [date(2025, 12, 31) + timedelta(days=i) for i in range(5)] for days in found.values())
    await store.maintain(long_ago + 12 * day_ms)
    found = await partitions.existing(store._engine)
    assert min(found["paths"]) == date(2026, 1, 3)
    assert max(found["paths"]) == date(2026, 1, 16)
    await store.close()


async def test_a_request_of_1970_and_its_failure_have_their_rows(store: Store, fresh_database: str) -> None:
    for timestamp_ms in (0, int(datetime(2500, 1, 1, tzinfo=UTC).timestamp() * 1000), 2**48 - 1):
        request = str(derived_request_id(timestamp_ms, "a"))
        failed = RequestFailed(request_id=request, failure=RequestFailure.INVALID, message="$.request_id: too old")
        batch = [recorded(ReasoningRequested(question="q", request_id=request)), recorded(failed)]
        assert await store.write(batch, {}) == 4
        assert await store.write(batch, {}) == 0
        (row,) = (await queries.request_trace(fresh_database, request))["request"]
        assert (row["failure"], row["question"]) == ("invalid", "q")
        connection = await asyncpg.connect(fresh_database)
        found = await connection.fetchrow("SELECT * FROM failed_requests WHERE request_id = $1", uuid.UUID(request))
        await connection.close()
        assert found is not None
        assert (found["message"], found["question"]) == ("$.request_id: too old", "q")


async def test_a_schema_of_another_version_is_waited_for(store: Store, fresh_database: str) -> None:
    batch = [recorded(event) for event in trace_of(str(new_request_id()), "ab")]
    connection = await asyncpg.connect(fresh_database)
    for ailing, mended, sqlstate in (
        ("ALTER TABLE ballots RENAME TO gone", "ALTER TABLE gone RENAME TO ballots", "42P01"),
        ("ALTER TABLE paths RENAME failure TO gone", "ALTER TABLE paths RENAME gone TO failure", "42703"),
    ):
        await connection.execute(ailing)
        with pytest.raises(LostDependency, match=sqlstate):
            await store.write(batch, {})
        await connection.execute(mended)
    await connection.close()
    assert await store.write(batch, {}) > 0


async def test_a_server_that_is_away_is_a_lost_dependency() -> None:
    store = Store("postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(LostDependency):
        await store.claim([("reasoning.paths", 0)])
    await store.close()


async def test_a_step_that_was_added_is_recorded_from_the_ends_of_its_samples(
    store: Store, fresh_database: str
) -> None:
    request = str(new_request_id())
    step = Step(
        index=3, ask="sub_question", fields={"question": "b?", "earlier": "#1 = 3"}, mark="#2", depends_on=(1,), why="w"
    )
    path = replace(path_of(request, 0, "a"), context=replace(made.context(request_id=request), step=step))
    failed = PathFailed(context=path.context, sample_index=1, launched=2, failure=PathFailure.ENGINE, message="m")
    await store.write([recorded(event) for event in (path, failed, path)], {})
    (found,) = (await queries.request_trace(fresh_database, request))["steps"]
    assert {name: found[name] for name in ("step_index", "ask", "mark", "depends_on", "question", "why")} == {
        "step_index": 3, "ask": "sub_question", "mark": "#2", "depends_on": [1], "question": "b?", "why": "w",
    }  # fmt: skip
    assert found["fields"] == {"question": "b?", "earlier": "#1 = 3"}


async def test_a_policy_is_stored_once_whatever_uses_it(store: Store, fresh_database: str) -> None:
    for _ in range(3):
        await store.write([recorded(event) for event in trace_of(str(new_request_id()), "aab")], {})
    connection = await asyncpg.connect(fresh_database)
    row = await connection.fetchrow("SELECT name, version, policy FROM policies WHERE digest = $1", POLICY.digest)
    assert row is not None
    assert (row["name"], row["version"]) == ("default", 1)
    assert msgspec.json.decode(row["policy"], type=Policy) == POLICY
    assert await connection.fetchval("SELECT count(*) FROM plans WHERE policy_digest = $1", POLICY.digest) == 3
    await connection.close()


@pytest.mark.parametrize("text", ["a" * 300_000, "漢字\n" * 100_000, "x\u0001\U0001f600" * 120_000])
async def test_a_text_that_is_too_long_for_its_event_is_read_back_verbatim(
    store: Store, fresh_database: str, text: str
) -> None:
    request = str(new_request_id())
    shown, where, chunks = stored(request, text)
    path = replace(path_of(request, 0, "a"), text=shown, long_text=where)
    await store.write([recorded(event) for event in (*chunks[:-1], path, *chunks[:2])], {})
    assert (await queries.request_trace(fresh_database, request))["paths"][0]["text"] == shown, "a chunk is missing yet"
    await store.write([recorded(chunks[-1])], {})
    assert (await queries.request_trace(fresh_database, request))["paths"][0]["text"] == text
