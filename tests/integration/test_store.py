"""The record on a real server: idempotence, fencing, partitions, views and who may see what."""

import asyncio
import time
import uuid
from datetime import UTC, date, datetime, timedelta
from typing import Any

import asyncpg
import msgspec
import pytest
from alembic import command
from msgspec.structs import replace
from sqlalchemy import Connection, text

from conclave.cli.recordings import of_stored
from conclave.domain.complexity.outcomes import examples as needed_of
from conclave.domain.correlation import correlation
from conclave.domain.long_texts import stored
from conclave.domain.recall import Remembered
from conclave.domain.recorded import RecordedEvent
from conclave.domain.routing.examples import examples
from conclave.errors import Fenced, LostDependency, Rejected
from conclave.local.servers.postgres import PostgresServer
from conclave.store import migrate, partitions, queries
from conclave.store.connection import make_engine
from conclave.store.documents import Documents
from conclave.store.figures import RecordFigures
from conclave.store.migrate import current, upgrade
from conclave.store.observations import observations, outcomes
from conclave.store.reader import Reader
from conclave.store.recollection import Recollection
from conclave.store.rows import SHARED_TABLES, TABLES
from conclave.store.spending import Spending
from conclave.store.store import Store
from conclave.testing import events as made
from schemas import flow
from schemas.events import (
    Event,
    FeedbackGiven,
    PathDecoded,
    PathFailed,
    PoliciesRead,
    ReasoningRequested,
    RequestFailed,
)
from schemas.ids import derived_request_id, new_request_id
from schemas.values import (
    Ballot,
    Fingerprint,
    PathFailure,
    Policy,
    PolicyFile,
    RequestFailure,
    Step,
    TallyRow,
)

POLICY = made.policy()
PATHS = "reasoning.paths"


def _recorded(event: Event, offset: int = 0, topic: str = PATHS) -> RecordedEvent:
    key = flow.subject_of(event)
    return RecordedEvent(event, f"id-{offset}", key, topic, 0, offset, int(time.time() * 1000), None)


def _path(request: str, sample_index: int, answer: str | None, text: str = "so it is") -> PathDecoded:
    path = made.decoded(made.context(request_id=request, deadline_ms=0), sample_index, 16, answer)
    return replace(path, text=text)


def _trace(request: str, answers: str) -> list[Event]:
    """A request's events: one step, a path for each letter of `answers`, the last letter winning."""
    ballots = tuple(Ballot(sample_index=i, answer=answer) for i, answer in enumerate(answers))
    tally = (TallyRow(answer=answers[-1], votes=answers.count(answers[-1]), weight=1.0),)
    now_ms = int(time.time() * 1000)
    plan = replace(made.plan(of=POLICY), request_id=request, deadline_ms=now_ms)
    verdict = made.verdict(
        answer=answers[-1], request_id=request, tally=tally, ballots=ballots, launched=len(answers), decided_ms=now_ms
    )
    answer = made.answer(answers[-1], request_id=request, tally=tally, num_paths=len(answers))
    asked = ReasoningRequested(question="q\u00e9?", request_id=request, tags={"team": "a"})
    return [asked, plan, *(_path(request, i, each) for i, each in enumerate(answers)), verdict, answer]


@pytest.fixture
async def store(fresh_database: str):  # type: ignore[no-untyped-def]
    """A store with its partitions made and one partition of the log claimed."""
    store = Store(fresh_database)
    await store.maintain(int(time.time() * 1000))
    await store.claim([(PATHS, 0)])
    yield store
    await store.close()


async def test_a_batch_written_twice_leaves_one_row_each(store: Store, fresh_database: str) -> None:
    request = str(new_request_id())
    batch = [_recorded(event, offset) for offset, event in enumerate(_trace(request, "abbb"))]
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
    events = [event for request in requests for event in _trace(request, "ab")]
    batch = [_recorded(event, offset) for offset, event in enumerate(events)]
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
        _recorded(event) for request in (str(new_request_id()) for _ in range(30)) for event in _trace(request, "ab")
    ]
    assert await store.write(fresh, {}) == num_all - 1, "all but the policy"


async def test_a_former_owner_writes_neither_rows_nor_offsets(store: Store, fresh_database: str) -> None:
    await store.write([], {(PATHS, 0): 7})
    heir = Store(fresh_database)
    assert await heir.claim([(PATHS, 0)]) == {(PATHS, 0): 7}
    request = str(new_request_id())
    with pytest.raises(Fenced):
        await store.write([_recorded(_path(request, 0, "a"))], {(PATHS, 0): 99})
    assert await heir.claim([(PATHS, 0)]) == {(PATHS, 0): 7}
    assert (await queries.request_trace(fresh_database, request))["paths"] == []
    await heir.close()


async def test_a_failed_row_takes_its_whole_batch_and_the_offsets_back(store: Store, fresh_database: str) -> None:
    request = str(new_request_id())
    broken = PathFailed(
        context=_path(request, 0, "a").context, sample_index=1, launched=99999, failure=PathFailure.ENGINE, message="m"
    )
    with pytest.raises(Exception, match=r"int16|smallint|range"):
        await store.write([_recorded(_path(request, 0, "a")), _recorded(broken)], {(PATHS, 0): 3})
    assert (await queries.request_trace(fresh_database, request))["paths"] == []
    assert await store.claim([(PATHS, 0)]) == {(PATHS, 0): 0}


async def test_text_that_postgres_cannot_hold_is_kept_in_a_form_that_it_can(store: Store, fresh_database: str) -> None:
    request = str(new_request_id())
    await store.write([_recorded(_path(request, 0, "a\0b", text="x\0\ud800y\U0001f600"))], {})
    path = (await queries.request_trace(fresh_database, request))["paths"][0]
    assert "\0" not in path["text"]
    assert path["text"].endswith("y\U0001f600")


async def test_a_request_from_years_away_is_rejected_by_name_and_last_weeks_gets_its_partition(
    store: Store, fresh_database: str
) -> None:
    now_ms = int(time.time() * 1000)
    week_ago = str(derived_request_id(now_ms - 7 * 86_400_000, "a"))
    assert await store.write([_recorded(_path(week_ago, 0, "a"))], {}) == 4  # its step, too
    for timestamp_ms in (0, now_ms + 400 * 86_400_000, 2**48 - 1):
        with pytest.raises(Rejected) as caught:
            await store.write([_recorded(_path(str(derived_request_id(timestamp_ms, "a")), 0, "a"))], {})
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


async def test_votes_that_flip_the_majority_are_found_in_launch_order(store: Store, fresh_database: str) -> None:
    request = str(new_request_id())
    await store.write([_recorded(event) for event in _trace(request, "abbab")], {})
    flips = (await queries.request_trace(fresh_database, request))["flips"]
    assert [(flip["sample_index"], flip["from_answer"], flip["to_answer"]) for flip in flips] == [(2, "a", "b")]


async def test_how_much_paths_err_together_is_told_by_what_feedback_knows(store: Store, fresh_database: str) -> None:
    """Of three paths on a question all or none are right, but for one question; the fourth path of each counts for nothing."""
    known = [("aaab", "A"), ("bbba", "a"), ("aabb", "a "), ("aaaa", "a")]
    asked = []
    for answers, right in known:
        request = str(new_request_id())
        asked.append(request)
        feedback = FeedbackGiven(request_id=request, right_answer=right)
        await store.write([_recorded(event) for event in (*_trace(request, answers), feedback)], {})
    await store.write(
        [_recorded(event) for event in _trace(str(new_request_id()), "abba")], {}
    )  # nobody knows what is right
    (row,) = (await queries.request_trace(fresh_database, asked[0]))["correlation"]
    expected = correlation([(0, 3), (3, 3), (1, 3), (0, 3)])
    assert expected is not None
    assert (row["policy"], row["num_questions"]) == (POLICY.name, 4)
    assert (row["rho"], row["error_rate"]) == (pytest.approx(expected.rho), pytest.approx(expected.error_rate))


async def test_what_a_path_was_sure_of_and_the_quality_asked_for_are_recorded(
    store: Store, fresh_database: str
) -> None:
    request = str(new_request_id())
    figures = {"answer_logprob": -0.5, "lowest_group_logprob": -1.25, "tail_logprob": -0.25, "load": 0.75}
    asked = ReasoningRequested(question="q", request_id=request, quality="strict")
    await store.write([_recorded(asked), _recorded(replace(_path(request, 0, "4"), **figures))], {})
    (path,) = (await queries.request_trace(fresh_database, request))["paths"]
    assert {name: path[name] for name in figures} == figures
    connection = await asyncpg.connect(fresh_database)
    assert await connection.fetchval("SELECT quality FROM requests") == "strict"
    await connection.close()


async def test_stored_paths_are_played_again_with_what_feedback_says_is_right(
    store: Store, fresh_database: str
) -> None:
    told, rewarded, unknown = (str(new_request_id()) for _ in range(3))
    given = [
        FeedbackGiven(request_id=told, right_answer="b", reward=0.0),
        FeedbackGiven(request_id=rewarded, reward=1.0),
        FeedbackGiven(request_id=unknown, reward=0.0),
    ]
    for request in (told, rewarded, unknown):
        await store.write([_recorded(event) for event in _trace(request, "aba")], {})
    await store.write([_recorded(event, offset) for offset, event in enumerate(given)], {})
    found = of_stored(await queries.stored_paths(fresh_database, POLICY.name, 10))
    assert {each.id: each.gold for each in found} == {told: "b", rewarded: "a", unknown: None}
    assert all([ballot.answer for ballot in each.ballots] == ["a", "b", "a"] for each in found)
    assert await queries.stored_paths(fresh_database, "another", 10) == []


async def test_an_analyst_reads_every_view_and_no_table(store: Store, fresh_database: str) -> None:
    await store.write([_recorded(event) for event in _trace(str(new_request_id()), "aab")], {})
    connection = await asyncpg.connect(fresh_database)
    views = [
        row["viewname"] for row in await connection.fetch("SELECT viewname FROM pg_views WHERE schemaname = 'public'")
    ]
    comments = await connection.fetchval(
        "SELECT count(*) FROM pg_class c JOIN pg_description d ON d.objoid = c.oid WHERE relkind = 'v'"
        " AND relnamespace = 'public'::regnamespace"
    )
    assert comments == len(views) >= 5
    await connection.execute("SET ROLE analyst")
    for view in views:
        await connection.fetch(f"SELECT * FROM {view}")
    assert await connection.fetchval("SELECT requests FROM policy_cost") == 1
    for table in (*TABLES, *SHARED_TABLES, "consumer_offsets"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetch(f"SELECT * FROM {table}")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute("CREATE TABLE mine (x int)")
    await connection.close()


async def test_an_analyst_is_bounded_in_time_and_space_and_makes_nothing(postgres: PostgresServer) -> None:
    """P06, on a database that was migrated and not copied: a copy has no rights and settings of its own."""
    name, login = f"analysts_{uuid.uuid4().hex[:8]}", f"ann_{uuid.uuid4().hex[:8]}"
    admin = await asyncpg.connect(postgres.dsn())
    await admin.execute(f"CREATE DATABASE {name}")
    await admin.execute(f"CREATE ROLE {login} LOGIN PASSWORD 'p'")
    await asyncio.to_thread(upgrade, postgres.dsn(name))
    await admin.execute(f"GRANT analyst TO {login}")
    owner = await asyncpg.connect(postgres.dsn(name))
    ann = await asyncpg.connect(postgres.dsn(name), user=login, password="p")
    try:
        await owner.execute("SET ROLE analyst")
        for connection in (ann, owner):
            for setting in ("statement_timeout", "idle_in_transaction_session_timeout"):
                assert await connection.fetchval(f"SHOW {setting}") == "1min"
            assert await connection.fetchval("SHOW temp_file_limit") == "1GB"
        bounds = await admin.fetchrow("SELECT rolconnlimit, rolconfig FROM pg_roles WHERE rolname = 'analyst'")
        assert bounds is not None
        assert bounds["rolconnlimit"] == 10
        assert {"statement_timeout=60s", "default_transaction_read_only=on"} <= set(bounds["rolconfig"])
        await ann.fetch("SELECT * FROM request_summary")
        await ann.execute("SET statement_timeout = '100ms'")
        with pytest.raises(asyncpg.QueryCanceledError):
            await ann.execute("SELECT count(*) FROM generate_series(1, 1000000000000)")
        refused = ("CREATE TEMP TABLE mine (x int)", "CREATE TABLE mine (x int)", "SELECT lo_create(0)",
                   "SELECT lo_from_bytea(0, 'x')", "SET temp_file_limit = -1")  # fmt: skip
        for statement in refused:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await ann.execute(statement)
    finally:
        await ann.close()
        await owner.close()
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.execute(f"DROP ROLE {login}")
        await admin.close()


async def test_conclaves_own_connections_are_not_bounded_by_the_limits_for_analysts(postgres: PostgresServer) -> None:
    name = f"services_{uuid.uuid4().hex[:8]}"
    admin = await asyncpg.connect(postgres.dsn())
    await admin.execute(f"CREATE DATABASE {name}")
    await asyncio.to_thread(upgrade, postgres.dsn(name))
    engine = make_engine(postgres.dsn(name))
    try:
        async with engine.connect() as connection:
            for setting in ("statement_timeout", "idle_in_transaction_session_timeout"):
                assert (await connection.execute(text(f"SHOW {setting}"))).scalar() == "0"
    finally:
        await engine.dispose()
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.close()


async def test_feedback_of_two_sources_with_one_id_is_two_and_the_later_of_one_source_holds(
    store: Store, fresh_database: str
) -> None:
    """F02, F04 and F05."""
    request, now_ms = str(new_request_id()), int(time.time() * 1000)

    def given(reward: float, source: str, event_id: str, after_ms: int, event_source: str) -> RecordedEvent:
        event = FeedbackGiven(request_id=request, reward=reward, source=source)
        return RecordedEvent(event, event_id, request, "t", 0, 0, now_ms + after_ms, None, event_source)

    batch = [
        given(1.0, "ann", "1", 0, "/shop/web"),
        given(1.0, "ann", "1", 1, "/shop/web"),  # redelivered
        given(0.0, "bob", "1", 2, "/shop/mobile"),
        given(0.0, "ann", "2", 3, "/shop/web"),  # ann has changed her mind
        given(0.5, "cid", "x" * 8000, 4, "/" + "y" * 8000),
    ]
    await store.write(batch, {})
    rows = (await queries.request_trace(fresh_database, request))["feedback"]
    assert [(row["source"], row["reward"], row["is_latest"]) for row in rows] == [
        ("ann", 1.0, False), ("bob", 0.0, True), ("ann", 0.0, True), ("cid", 0.5, True),
    ]  # fmt: skip


async def test_a_request_of_1970_and_its_failure_have_their_rows(store: Store, fresh_database: str) -> None:
    for timestamp_ms in (0, int(datetime(2500, 1, 1, tzinfo=UTC).timestamp() * 1000), 2**48 - 1):
        request = str(derived_request_id(timestamp_ms, "a"))
        failed = RequestFailed(request_id=request, failure=RequestFailure.INVALID, message="$.request_id: too old")
        batch = [_recorded(ReasoningRequested(question="q", request_id=request)), _recorded(failed)]
        assert await store.write(batch, {}) == 4
        assert await store.write(batch, {}) == 0
        (row,) = (await queries.request_trace(fresh_database, request))["request"]
        assert (row["failure"], row["question"]) == ("invalid", "q")
        connection = await asyncpg.connect(fresh_database)
        found = await connection.fetchrow("SELECT * FROM failed_requests WHERE request_id = $1", uuid.UUID(request))
        await connection.close()
        assert found is not None
        assert (found["message"], found["question"]) == ("$.request_id: too old", "q")


def _downgrade(dsn: str, revision: str) -> None:
    def down(connection: Connection) -> None:
        config = migrate._config()
        config.attributes["connection"] = connection
        command.downgrade(config, revision)

    migrate._in_a_loop_of_its_own(migrate._run(dsn, down))


def test_migrations_go_down_and_up_again_with_rows_in_the_tables(fresh_database: str) -> None:
    store = Store(fresh_database)
    request, now_ms = str(new_request_id()), int(time.time() * 1000)
    opinion = FeedbackGiven(request_id=request, reward=1.0)
    batch = [RecordedEvent(opinion, "1", request, "t", 0, 0, now_ms, None, source) for source in ("/a", "/b")]

    async def write() -> None:
        await store.maintain(now_ms)
        await store.write(batch, {})
        await store.close()

    asyncio.run(write())
    _downgrade(fresh_database, "0001")
    upgrade(fresh_database)
    feedback = asyncio.run(queries.request_trace(fresh_database, request))["feedback"]
    assert [row["reward"] for row in feedback] == [1.0]


async def test_columns_of_the_record_are_those_that_rows_are_made_for(fresh_database: str) -> None:
    connection = await asyncpg.connect(fresh_database)
    for table, columns in (TABLES | SHARED_TABLES).items():
        query = "SELECT column_name FROM information_schema.columns WHERE table_name = $1 ORDER BY ordinal_position"
        assert tuple(row[0] for row in await connection.fetch(query, table)) == columns
    await connection.close()


def test_a_database_is_brought_to_the_newest_revision_and_a_second_time_changes_nothing(fresh_database: str) -> None:
    upgrade(fresh_database)
    revision, newest = current(fresh_database)
    assert revision == newest is not None


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
    path = replace(_path(request, 0, "a"), context=replace(made.context(request_id=request), step=step))
    failed = PathFailed(context=path.context, sample_index=1, launched=2, failure=PathFailure.ENGINE, message="m")
    await store.write([_recorded(event) for event in (path, failed, path)], {})
    (found,) = (await queries.request_trace(fresh_database, request))["steps"]
    assert {name: found[name] for name in ("step_index", "ask", "mark", "depends_on", "question", "why")} == {
        "step_index": 3, "ask": "sub_question", "mark": "#2", "depends_on": [1], "question": "b?", "why": "w",
    }  # fmt: skip
    assert found["fields"] == {"question": "b?", "earlier": "#1 = 3"}


async def test_a_policy_is_stored_once_whatever_uses_it(store: Store, fresh_database: str) -> None:
    for _ in range(3):
        await store.write([_recorded(event) for event in _trace(str(new_request_id()), "aab")], {})
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
    path = replace(_path(request, 0, "a"), text=shown, long_text=where)
    await store.write([_recorded(event) for event in (*chunks[:-1], path, *chunks[:2])], {})
    assert (await queries.request_trace(fresh_database, request))["paths"][0]["text"] == shown, "a chunk is missing yet"
    await store.write([_recorded(chunks[-1])], {})
    assert (await queries.request_trace(fresh_database, request))["paths"][0]["text"] == text


# -- what routers learn from ------------------------------------------------------------------------------------------


def _direct(request: str, answer: str, final: str | None = None) -> list[Event]:
    """A request of the policy escalate: its direct answer and, where there is a `final` one, what was thought over."""
    plan = replace(made.opened(made.policy("escalate")), request_id=request, deadline_ms=int(time.time() * 1000))
    asked = ReasoningRequested(question=f"{answer}?", request_id=request)
    direct = made.verdict(answer=answer, request_id=request, num_votes=1, confidence=0.9)
    if final is None:
        return [asked, plan, direct, made.answer(answer, request_id=request, tokens_out=7)]
    over = made.decoded(made.context(request_id=request, index=1, deadline_ms=0), 0, 4, final)
    over = replace(over, context=replace(over.context, step=replace(over.context.step, ask="whole")))
    verdict = made.verdict(1, answer=final, request_id=request)
    return [asked, plan, direct, over, verdict, made.answer(final, request_id=request, answered_by=1, tokens_out=30)]


async def test_what_was_answered_directly_is_told_with_what_is_known_of_it(store: Store, fresh_database: str) -> None:
    requests = [str(new_request_id()) for _ in range(4)]
    events = [
        *_direct(requests[0], "1"),
        *_direct(requests[1], "2", final="3"),
        *_direct(requests[2], "4"),
        *_trace(requests[3], "abbb"),
        FeedbackGiven(request_id=requests[0], reward=0.0, source="ann"),
        FeedbackGiven(request_id=requests[2], right_answer="5"),
    ]
    await store.write([_recorded(event, offset) for offset, event in enumerate(events)], {})
    since = datetime.now(UTC) - timedelta(days=1)
    found = await observations(fresh_database, since=since, form="direct", limit=100)
    taught = {(each.question, each.source): (each.wrong, each.weight) for each in examples(found)}
    assert taught == {
        ("1?", "reward"): (1.0, 1.0),
        ("2?", "thought over"): (1.0, 0.5),
        ("4?", "right answer"): (1.0, 1.0),
        ("q\u00e9?", "vote"): (0.0, 0.25),
    }
    assert len(await observations(fresh_database, since=since, form="direct", limit=2)) == 2
    assert await observations(fresh_database, since=datetime.now(UTC) + timedelta(days=1), form="direct", limit=9) == []


async def test_what_votes_and_rounds_came_to_is_told_with_what_is_known_of_it(
    store: Store, fresh_database: str
) -> None:
    agreed, split, round_after_round = (str(new_request_id()) for _ in range(3))
    plan = replace(made.opened(made.policy("contemplation")), request_id=round_after_round)
    rounds: list[Event] = [ReasoningRequested(question="rounds?", request_id=round_after_round), plan]
    for index, said in enumerate(("1", "2", "2")):
        context = made.context(request_id=round_after_round, index=index, deadline_ms=0)
        rounds += [
            replace(made.decoded(context, 0, 1, said)),
            made.verdict(index, answer=said, request_id=round_after_round, num_votes=1),
        ]
    events = [
        *_trace(agreed, "bbbbb"),
        *_trace(split, "abbb"),
        *rounds,
        made.answer("2", request_id=round_after_round, answered_by=2),
        FeedbackGiven(request_id=split, right_answer="a"),
    ]
    await store.write([_recorded(event, offset) for offset, event in enumerate(events)], {})
    since = datetime.now(UTC) - timedelta(days=1)
    found = await outcomes(fresh_database, "samples", since=since, limit=100)
    assert {(each.needed, each.source) for each in needed_of(found, "samples") if each.question == "q\u00e9?"} == {
        (4.0, "unjudged"),
        (5.0, "right answer"),
    }
    (thought,) = await outcomes(fresh_database, "rounds", since=since, limit=100)
    assert (thought.question, thought.said, thought.answer) == ("rounds?", ["1", "2", "2"], "2")
    assert [each.needed for each in needed_of([thought], "rounds")] == [2.0]
    assert len(await outcomes(fresh_database, "samples", since=since, limit=1)) == 1


async def test_what_was_spent_lately_is_known_while_the_database_answers(store: Store, fresh_database: str) -> None:
    spending = Spending(fresh_database)
    assert spending.tokens_last_hour() is None
    events = [*_direct(str(new_request_id()), "1"), *_direct(str(new_request_id()), "2", final="3")]
    await store.write([_recorded(event, offset) for offset, event in enumerate(events)], {})
    await spending.refresh()
    assert spending.tokens_last_hour() == 37.0
    away = Spending("postgresql://nobody@127.0.0.1:9/nothing")
    await away.refresh()
    assert away.tokens_last_hour() is None
    for each in (spending, away):
        await each.close()


async def test_documents_are_looked_up_by_all_words_else_by_any_and_what_is_away_is_an_observation(
    fresh_database: str,
) -> None:
    documents = Documents(fresh_database)
    try:
        assert (
            await documents.put("handbook", "Chairs may be returned within 30 days.\n\n" + "Other. " * 400, "english")
            > 1
        )
        assert await documents.put("prices", "A chair costs 40 dollars, a table 90.", "english") == 1
        assert (await documents.look_up("returning chairs")).startswith("[handbook] Chairs may be returned")
        found = (await documents.look_up("table refund")).splitlines()
        assert found == ["[prices] A chair costs 40 dollars, a table 90."]
        assert await documents.look_up("zebra") == "nothing is found; other words may be"
        assert (await documents.look_up(" \0")).startswith("error: ")
        for hostile in ("' OR 1=1 --", "a & | ! b", '"', "\ud800", "x" * 100_000, "chair <-> (", ":*"):
            assert isinstance(await documents.look_up(hostile), str)
        assert await documents.put("prices", "Nothing left.", "english") == 1
        assert [row[:2] for row in await documents.listed()] == [("handbook", 4), ("prices", 1)]
        assert await documents.remove("prices")
        assert not await documents.remove("prices")
    finally:
        await documents.close()
    away = Documents("postgresql://nobody@127.0.0.1:1/none")
    assert await away.look_up("chairs") == "error: the documents are away just now"
    await away.close()


# -- remembered answers -----------------------------------------------------------------------------------------------


def _answered(request: str, key: str, answer: str, *, recalled_from: str | None = None) -> list[Event]:
    found_by = Fingerprint(key=key, gist=f"gist of {key}", tenant="acme") if recalled_from is None else None
    plan = replace(made.plan(of=POLICY), request_id=request, deadline_ms=int(time.time() * 1000), fingerprint=found_by)
    verdict = made.verdict(answer=answer, request_id=request, agreement=0.75)
    given = made.answer(answer, request_id=request, tokens_out=70, recalled_from=recalled_from)
    asked = ReasoningRequested(question="q?", request_id=request)
    return [asked, replace(plan, recalled_from=recalled_from), verdict, given]


async def _newest(memory: Recollection, *keys: str, by_gist: bool = False) -> dict[str, Remembered]:
    return await memory.newest(keys, by_gist=by_gist, oldest_ms=int(time.time() * 1000) - 86_400_000)


async def test_the_newest_answer_is_found_by_key_and_by_gist(store: Store, fresh_database: str) -> None:
    requests = [str(new_request_id()) for _ in range(3)]
    events = [*_answered(requests[0], "k", "1"), *_answered(requests[1], "k", "2"), *_answered(requests[2], "l", "3")]
    events.append(RequestFailed(request_id=str(new_request_id()), failure=RequestFailure.NO_ANSWER, message="m"))
    for offset, event in enumerate(events):
        await store.write([_recorded(event, offset)], {})
        await asyncio.sleep(0.002)
    memory = Recollection(fresh_database)
    found = await _newest(memory, "k", "m")
    assert list(found) == ["k"]
    assert (found["k"].request_id, found["k"].answer, found["k"].agreement) == (requests[1], "2", 0.75)
    assert (found["k"].tally, found["k"].tokens_out, found["k"].is_disliked) == (made.answer("2").tally, 70, False)
    assert abs(found["k"].answered_ms - time.time() * 1000) < 60_000
    assert (await _newest(memory, "gist of l", by_gist=True))["gist of l"].key == "l"
    assert await memory.newest(["k"], by_gist=False, oldest_ms=int(time.time() * 1000) + 86_400_000) == {}
    await memory.close()


async def test_feedback_on_an_answer_or_on_one_recalled_from_it_counts(store: Store, fresh_database: str) -> None:
    said: list[tuple[dict[str, Any], bool]] = [
        ({"reward": 1.0}, False),
        ({"reward": 0.0}, True),
        ({"right_answer": "1.0"}, False),
        ({"right_answer": "2"}, True),
    ]
    events: list[Event] = []
    expected: dict[str, tuple[str, bool, float | None]] = {}
    against: set[str] = set()
    for number, (given, is_disliked) in enumerate(said * 2):
        first, second = str(new_request_id()), str(new_request_id())
        spoken_of = second if number >= len(said) else first
        events += [*_answered(first, f"k{number}", "1"), *_answered(second, "", "1", recalled_from=first)]
        events.append(FeedbackGiven(request_id=spoken_of, source="ann", **given))
        expected[f"k{number}"] = first, is_disliked, given.get("reward")
        against |= {first} if is_disliked or "right_answer" in given else set()
    await store.write([_recorded(event, offset) for offset, event in enumerate(events)], {})
    memory = Recollection(fresh_database)
    found = await _newest(memory, *expected)
    assert {key: (each.request_id, each.is_disliked, each.liking) for key, each in found.items()} == expected
    since_ms = int(time.time() * 1000) - 60_000
    assert await memory.spoken_against(since_ms) == against
    assert await memory.spoken_against(since_ms + 120_000) == set()
    await memory.close()


async def test_memory_of_a_database_that_is_away_says_so() -> None:
    memory = Recollection("postgresql://nobody@127.0.0.1:9/nothing")
    with pytest.raises(LostDependency):
        await _newest(memory, "k")
    await memory.close()


async def test_which_policies_were_changed_is_told_by_what_decomposers_read(store: Store, fresh_database: str) -> None:
    def read(number: int, instance: str, **policies: str) -> RecordedEvent:
        files = tuple(
            PolicyFile(policy=f"{name}@1", digest=digest, file=f"{name}.toml") for name, digest in policies.items()
        )
        return _recorded(PoliciesRead(instance=instance, read_ms=made.NOW_MS + number, policies=files), number)

    reads = [
        read(0, "one", ours="old", theirs="same"),
        read(1, "two", ours="old", theirs="same"),
        read(2, "one", ours="new", theirs="same", more="m"),
        read(3, "two", ours="new", theirs="same", more="m"),
        read(4, "two", ours="new", theirs="same"),
    ]
    await store.write([*reads, reads[0]], {})
    connection = await asyncpg.connect(fresh_database)
    await connection.execute("SET ROLE analyst")
    found = await connection.fetch("SELECT * FROM policy_changes ORDER BY read_at, policy")
    await connection.close()
    told = [(row["policy"], row["change"], row["digest_before"], row["digest_after"], row["instance"]) for row in found]
    assert told == [
        ("more@1", "added", None, "m", "one"),
        ("ours@1", "changed", "old", "new", "one"),
        ("more@1", "removed", "m", None, "two"),
    ]
    reader = Reader(fresh_database)
    audit = await RecordFigures(reader).audit()
    await reader.close()
    assert [(each.what, each.action, each.why) for each in audit if each.kind == "policy"][-1] == (
        "ours@1",
        "changed",
        "digest old → new, file ours.toml, read by one",
    )
