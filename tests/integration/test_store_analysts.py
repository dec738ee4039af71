"""The record as analysts read it: its views, and what an analyst may do."""

import asyncio
import itertools
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest
from msgspec.structs import replace
from sqlalchemy import text

from conclave.domain.correlation import correlation
from conclave.domain.equivalence import are_same
from conclave.domain.recorded import RecordedEvent
from conclave.local.servers.postgres import PostgresServer
from conclave.store import queries
from conclave.store.connection import make_engine
from conclave.store.figures import RecordFigures
from conclave.store.migrate import upgrade
from conclave.store.reader import Reader
from conclave.store.rows import SHARED_TABLES, TABLES
from conclave.store.store import Store
from conclave.store.summary import summary
from conclave.testing import events as made
from schemas.events import Event, FeedbackGiven, PlanMade, PoliciesRead, ReasoningRequested
from schemas.experiments import Assignment
from schemas.ids import derived_request_id, new_request_id
from schemas.values import Ballot, PolicyFile, TallyRow
from tests.integration.recorded_events import POLICY, path_of, recorded, trace_of

_DAY_MS = 86_400_000
TOLD = (Path(__file__).parents[2] / "docs" / "reference" / "record.md").read_text()


async def test_votes_that_flip_the_majority_are_found_in_launch_order(store: Store, fresh_database: str) -> None:
    request = str(new_request_id())
    await store.write([recorded(event) for event in trace_of(request, "abbab")], {})
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
        of_a_step = FeedbackGiven(request_id=request, right_answer="7", step_index=0)  # is none on the answer
        events = [*trace_of(request, answers), feedback, of_a_step]
        await store.write([recorded(event, offset) for offset, event in enumerate(events)], {})
    await store.write(
        [recorded(event) for event in trace_of(str(new_request_id()), "abba")], {}
    )  # nobody knows what is right
    (row,) = (await queries.request_trace(fresh_database, asked[0]))["correlation"]
    expected = correlation([(0, 3), (3, 3), (1, 3), (0, 3)])
    assert expected is not None
    assert (row["policy"], row["num_questions"]) == (POLICY.name, 4)
    assert (row["rho"], row["error_rate"]) == (pytest.approx(expected.rho), pytest.approx(expected.error_rate))


def _voted(request: str, *feedback: FeedbackGiven) -> list[Event]:
    """Three paths of four say 42 in words of their own, and win; the first says 7."""
    said = ("7", "42.0", "42", "$42")
    tally = (TallyRow(answer="42.0", votes=3, weight=3.0), TallyRow(answer="7", votes=1, weight=1.0))
    ballots = tuple(Ballot(sample_index=at, answer=each, tally_row=int(each == "7")) for at, each in enumerate(said))
    asked, plan, *_ = trace_of(request, "a")
    verdict = made.verdict(answer="42.0", request_id=request, tally=tally, ballots=ballots, launched=4)
    paths = [path_of(request, at, each) for at, each in enumerate(said)]
    return [asked, plan, *paths, verdict, made.answer("42.0", request_id=request, tally=tally), *feedback]


async def test_a_right_answer_that_no_path_wrote_so_is_found_in_the_cluster_that_says_it(
    store: Store, fresh_database: str
) -> None:
    """As a number that is written otherwise, or in words, by whoever says that what was served is right; else all are wrong."""
    known: list[tuple[str, float | None, int]] = [
        ("42.00", None, 1),
        (" 42\n", None, 1),
        ("forty-two", 1.0, 1),
        ("forty-two", None, 3),
        ("forty-two", 0.5, 3),  # it is right in part, which is another answer
        ("7", 1.0, 2),  # what is said to be right is there, and did not win
        ("8", 0.0, 3),
    ]
    for right, reward, _ in known:
        request = str(new_request_id())
        feedback = FeedbackGiven(request_id=request, right_answer=right, reward=reward)
        again = FeedbackGiven(request_id=request, right_answer=f"{right} ", source="another")
        events = _voted(request, feedback, again)
        await store.write([recorded(event, offset) for offset, event in enumerate(events)], {})
    connection = await asyncpg.connect(fresh_database)
    (overall,) = await connection.fetch("SELECT * FROM vote_correlation")
    (day,) = await connection.fetch("SELECT * FROM vote_correlation_by_day")
    await connection.close()
    expected = correlation([(wrong, 3) for _, _, wrong in known])
    assert expected is not None
    assert (overall["num_questions"], overall["rho"]) == (7, pytest.approx(expected.rho))
    assert [day[name] for name in ("none_wrong", "one_wrong", "two_wrong", "three_wrong")] == [0, 3, 1, 3]
    assert (day["rho"], day["error_rate"]) == (pytest.approx(expected.rho), pytest.approx(expected.error_rate))


async def test_what_is_one_plain_answer_is_one_vote(fresh_database: str) -> None:
    """The views know fewer answers for the same than votes do, and none that votes tell apart; no answer is too long for them."""
    written = [
        "42",
        "42.0",
        " +42",
        "042",
        "-42",
        "1,234",
        "1234.00",
        "12,34",
        "0",
        "-0.0",
        "0.5",
        ".5",
        "A",
        "a ",
        "b",
        "1e3",
    ]
    written += ["9" * 40, "9" * 40 + ".0", "9" * 200_000, "1" + ",000" * 40_000, "", "x\ty", "0,123"]
    connection = await asyncpg.connect(fresh_database)
    plain = {each: await connection.fetchval("SELECT plain_answer($1)", each) for each in written}
    await connection.close()
    pairs = [(one, other) for one, other in itertools.combinations(written, 2) if plain[one] == plain[other]]
    assert [(one, other) for one, other in pairs if not are_same(one, other)] == []
    assert {("42", "42.0"), ("42", " +42"), ("1,234", "1234.00"), ("0", "-0.0"), ("A", "a ")} <= set(pairs)


async def test_what_votes_are_worth_is_not_known_where_none_of_them_errs(store: Store, fresh_database: str) -> None:
    request = str(new_request_id())
    feedback = FeedbackGiven(request_id=request, right_answer="a")
    await store.write([recorded(event) for event in (*trace_of(request, "aaaa"), feedback)], {})
    connection = await asyncpg.connect(fresh_database)
    (day,) = await connection.fetch("SELECT * FROM vote_correlation_by_day")
    await connection.close()
    assert (day["num_questions"], day["rho"], day["mean_votes"], day["effective_votes"]) == (1, None, 4.0, None)


async def test_a_day_is_one_of_utc_whatever_the_time_zone_of_whoever_looks(store: Store, fresh_database: str) -> None:
    """Half an hour before and after midnight are two days to all, also where it is noon then."""
    midnight_ms = int(time.time() * 1000) // _DAY_MS * _DAY_MS
    for asked_ms in (midnight_ms - _DAY_MS // 48, midnight_ms + _DAY_MS // 48):
        request = str(derived_request_id(asked_ms, "asked"))
        asked, plan, *others = trace_of(request, "aab")
        assert isinstance(plan, PlanMade)
        assignment = Assignment(experiment="trial", revision=1, unit=request, draw=0)
        feedback = FeedbackGiven(request_id=request, right_answer="a", reward=1.0)
        events = [asked, replace(plan, arm="one", assignment=assignment), *others, feedback]
        await store.write([recorded(event, offset) for offset, event in enumerate(events)], {})
    connection = await asyncpg.connect(fresh_database)
    views = await connection.fetch(
        "SELECT table_name FROM information_schema.columns WHERE table_schema = 'public' AND column_name = 'day'"
        " AND table_name IN (SELECT viewname FROM pg_views WHERE schemaname = 'public')"
    )
    found: dict[str, dict[str, list[datetime]]] = {}
    for zone in ("UTC", "Etc/GMT+12", "Asia/Kathmandu"):
        await connection.execute(f"SET TimeZone = '{zone}'")
        for (view,) in views:
            rows = await connection.fetch(f"SELECT DISTINCT day FROM {view} ORDER BY 1")
            found.setdefault(view, {})[zone] = [row["day"] for row in rows]
    await connection.execute(
        f"ALTER DATABASE {await connection.fetchval('SELECT current_database()')} SET TimeZone = '{zone}'"
    )
    await connection.close()
    midnight = datetime.fromtimestamp(midnight_ms / 1000, UTC)
    assert {"arms_by_day", "feedback_lag", "vote_correlation_by_day"} <= set(found)
    for view, by_zone in found.items():
        for zone, days in by_zone.items():
            assert (view, zone, days) == (view, zone, [midnight - timedelta(days=1), midnight])
    told = await summary(fresh_database, midnight - timedelta(days=4))
    assert [row["at"] for row in told.rows["hours"]] == [midnight - timedelta(days=1), midnight]
    of_today = await summary(fresh_database, midnight + timedelta(minutes=1))
    assert [row["num_questions"] for row in of_today.rows["correlated"]] == [1]


async def test_what_a_path_was_sure_of_and_the_quality_asked_for_are_recorded(
    store: Store, fresh_database: str
) -> None:
    request = str(new_request_id())
    figures = {"answer_logprob": -0.5, "lowest_group_logprob": -1.25, "tail_logprob": -0.25, "load": 0.75}
    asked = ReasoningRequested(question="q", request_id=request, quality="strict")
    await store.write([recorded(asked), recorded(replace(path_of(request, 0, "4"), **figures))], {})
    (path,) = (await queries.request_trace(fresh_database, request))["paths"]
    assert {name: path[name] for name in figures} == figures
    connection = await asyncpg.connect(fresh_database)
    assert await connection.fetchval("SELECT quality FROM requests") == "strict"
    await connection.close()


async def test_an_analyst_reads_every_view_and_no_table(store: Store, fresh_database: str) -> None:
    await store.write([recorded(event) for event in trace_of(str(new_request_id()), "aab")], {})
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


async def test_every_table_and_view_is_told_of_by_its_name(store: Store, fresh_database: str) -> None:
    connection = await asyncpg.connect(fresh_database)
    found = await connection.fetch("""
        SELECT CASE relnamespace WHEN 'rolled'::regnamespace THEN 'rolled.' ELSE '' END || relname FROM pg_class
        WHERE relkind IN ('r', 'p', 'v') AND NOT relispartition AND relname NOT LIKE '%\\_marked' AND relname NOT LIKE '%\\_counted'
              AND relnamespace IN ('public'::regnamespace, 'rolled'::regnamespace) AND relname <> 'alembic_version'
    """)
    await connection.close()
    assert [name for (name,) in found if f"`{name}`" not in TOLD] == []


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


async def test_which_policies_were_changed_is_told_by_what_decomposers_read(store: Store, fresh_database: str) -> None:
    def read(number: int, instance: str, **policies: str) -> RecordedEvent:
        files = tuple(
            PolicyFile(policy=f"{name}@1", digest=digest, file=f"{name}.toml") for name, digest in policies.items()
        )
        return recorded(PoliciesRead(instance=instance, read_ms=made.NOW_MS + number, policies=files), number)

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
