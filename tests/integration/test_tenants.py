"""Tenants in the record: their own rows in every view and table of SQL, and no words of those whose content is off."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
from msgspec.structs import replace

from conclave.domain import external
from conclave.domain.api_keys import Scope
from conclave.domain.external import Known
from conclave.domain.recorded import RecordedEvent
from conclave.errors import Rejected
from conclave.local.servers.postgres import PostgresServer
from conclave.store.accounts import Accounts
from conclave.store.erasure import erase
from conclave.store.ledger import Entry, Ledger, Limits
from conclave.store.migrate import upgrade
from conclave.store.rows import TABLES
from conclave.store.store import Store
from conclave.store.tool_ledger import ToolLedger
from conclave.testing import events as made
from migrations.tenant_views import NOT_FOR_TENANTS
from schemas import flow
from schemas.events import Event, FeedbackGiven, ReasoningRequested, RequestFailed, TextStored
from schemas.experiments import Assignment
from schemas.ids import derived_request_id, new_request_id
from schemas.values import Ask, Ballot, Fingerprint, RequestFailure, TallyRow, Turn

NOW_MS = int(time.time() * 1000)
SECRET = "S3CR3T"
UNFILLED = {"tool_calls", "tool_call_payloads", "approvals"}  # of calls of tools, which these requests have none of


def _events(request_id: str, said: str, reward: float) -> list[Event]:
    """All that the record can have of a request, with `said` wherever anybody's words may stand."""
    asked = ReasoningRequested(question=said, request_id=request_id, tags={said: said})
    assignment = Assignment(experiment="trial", revision=1, unit=said, draw=7)
    found_by = Fingerprint(key=f"key {said}", gist=f"gist {said}", tenant=said)
    plan = replace(
        made.plan(), request_id=request_id, arm="a", assignment=assignment, fingerprint=found_by, reasons={said: said}
    )
    context = made.context(request_id=request_id, fields={"question": said}, why=said, mark=said)
    turn = Turn(form="whole", text=said, answer=said, tokens_out=1)
    paths = [
        replace(made.decoded(context, at, 16, answer), text=said, reasoning=said, turns=(turn,), probability=0.9)
        for at, answer in enumerate((said, f"{said}?", said))
    ]
    ballots = tuple(Ballot(sample_index=at, answer=path.answer, tally_row=at % 2) for at, path in enumerate(paths))
    tally = (TallyRow(answer=said, votes=2, weight=2.0), TallyRow(answer=f"{said}?", votes=1, weight=1.0))
    opinion: dict[str, Any] = {
        "comment": said,
        "right_answer": said,
        "about_answer": said,
        "chosen": said,
        "rejected": said,
    }
    return [
        asked,
        plan,
        *paths,
        TextStored(request_id=request_id, digest="0" * 64, chunk_index=0, text=said),
        made.verdict(request_id=request_id, answer=said, ballots=ballots, tally=tally, margin=0.1),
        made.answer(said, request_id=request_id, tally=tally, margin=0.1),
        FeedbackGiven(request_id=request_id, reward=reward, source=said, feedback_id=said, **opinion),
        FeedbackGiven(request_id=request_id, reward=reward, source=said, feedback_id=f"2 {said}", supersedes=said),
    ]


def _failed(request_id: str, said: str) -> list[Event]:
    asked = ReasoningRequested(question=said, request_id=request_id)
    return [asked, RequestFailed(request_id=request_id, failure=RequestFailure.NO_ANSWER, message=said)]


def _recorded(events: Iterable[Event], source: str = "") -> list[RecordedEvent]:
    return [
        RecordedEvent(
            event, f"id-{at}", flow.subject_of(event), flow.topic_of(type(event)).value, 0, at, NOW_MS, None, source
        )
        for at, event in enumerate(events)
    ]


def _ids(tenant: str, count: int) -> list[str]:
    return [derived_request_id(NOW_MS - 1000, f"{tenant} {at}") for at in range(count)]


async def _record(dsn: str, asked: dict[str, list[str]], *, is_kept: bool = True, said: str = "36") -> None:
    """Requests of tenants, as the gateway enters them and the recorder writes them; the last of each fails."""
    store, ledger = Store(dsn), Ledger(dsn)
    try:
        await store.maintain(NOW_MS)
        for tenant, request_ids in asked.items():
            for at, request_id in enumerate(request_ids):
                await ledger.enter(Entry(request_id, tenant, b"d", 600.0, is_kept=is_kept), Limits())
                is_last = at == len(request_ids) - 1
                events = _failed(request_id, said) if is_last else _events(request_id, said, reward=at % 2)
                await store.write(_recorded(events, said), {})
    finally:
        await store.close()
        await ledger.close()


async def _rows(connection: "asyncpg.Connection[asyncpg.Record]", name: str) -> list[str]:
    return sorted(repr(dict(row)) for row in await connection.fetch(f"SELECT * FROM {name}"))


@asynccontextmanager
async def _person(postgres: PostgresServer, dsn: str, member_of: str) -> AsyncIterator[Any]:
    """A person of their own login, who was let in with a role."""
    login = f"ann_{uuid.uuid4().hex[:8]}"
    admin = await asyncpg.connect(postgres.dsn())
    await admin.execute(f"CREATE ROLE {login} LOGIN PASSWORD 'p' IN ROLE \"{member_of}\"")
    connection = await asyncpg.connect(dsn, user=login, password="p")
    try:
        yield connection
    finally:
        await connection.close()
        await admin.execute(f"DROP ROLE {login}")
        await admin.close()


@pytest.fixture
async def databases(postgres: PostgresServer, migrated_template: str) -> AsyncIterator[tuple[str, str]]:
    """A database with the requests of one tenant, and one with those of another as well. Copies have no rights of their own."""
    ours, theirs = _ids("ours", 4), _ids("theirs", 5)
    names = [f"tenants_{uuid.uuid4().hex[:8]}" for _ in range(2)]
    admin = await asyncpg.connect(postgres.dsn())
    for name in names:
        await admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{migrated_template}"')
    alone, mixed = map(postgres.dsn, names)
    await _record(alone, {"ours": ours})
    await _record(mixed, {"ours": ours, "theirs": theirs})
    yield alone, mixed
    for name in names:
        await admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    for tenant in ("ours", "theirs"):
        await admin.execute(f"DROP ROLE IF EXISTS tenant_{tenant}")
    await admin.close()


async def test_a_tenant_sees_in_every_view_what_an_analyst_would_see_were_there_nobody_else(
    postgres: PostgresServer, databases: tuple[str, str]
) -> None:
    alone, mixed = databases
    accounts = Accounts(mixed)
    role = await accounts.make_role("ours", actor="ann")
    assert role == await accounts.make_role("ours", actor="ann"), "twice is once"
    owner, analyst = await asyncpg.connect(mixed), await asyncpg.connect(alone)
    try:
        listed = "SELECT viewname FROM pg_views WHERE schemaname = '{}'"
        views = {row["viewname"] for row in await owner.fetch(listed.format("public"))}
        assert {row["viewname"] for row in await owner.fetch(listed.format("tenant"))} == views - NOT_FOR_TENANTS
        await analyst.execute("SET ROLE analyst")
        async with _person(postgres, mixed, role) as person:
            told = 0
            for view in sorted(views - NOT_FOR_TENANTS):
                found = await _rows(person, f"tenant.{view}")
                assert found == await _rows(analyst, view), view
                told += bool(found)
            assert told >= len(views) / 2, "most views have something to tell of these requests"
            for view in NOT_FOR_TENANTS:
                with pytest.raises(asyncpg.UndefinedTableError):
                    await person.fetch(f"SELECT * FROM tenant.{view}")
    finally:
        await owner.close()
        await analyst.close()
        await accounts.close()


async def test_a_tenant_reads_its_own_rows_of_every_table_and_nothing_else(
    postgres: PostgresServer, databases: tuple[str, str]
) -> None:
    alone, mixed = databases
    accounts = Accounts(mixed)
    await accounts.create("ours", [Scope.ASK], actor="ann")
    role, other = [await accounts.make_role(tenant, actor="ann") for tenant in ("ours", "theirs")]
    await accounts.close()
    owner, owner_alone = await asyncpg.connect(mixed), await asyncpg.connect(alone)
    try:
        tables = [
            row["relname"]
            for row in await owner.fetch(
                "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace"
            )
        ]
        async with _person(postgres, mixed, role) as person:
            for table in tables:
                if table in TABLES:
                    assert await _rows(person, table) == await _rows(owner_alone, table), table
                    if table not in UNFILLED:
                        assert len(await _rows(owner, table)) > len(await _rows(person, table)) > 0, table
                elif table == "gateway_requests":
                    rows = await person.fetch("SELECT request_id, tenant FROM gateway_requests")
                    assert {row["tenant"] for row in rows} == {"ours"}
                    assert len(rows) == 4
                    with pytest.raises(asyncpg.InsufficientPrivilegeError):
                        await person.fetch("SELECT digest FROM gateway_requests")
                else:
                    with pytest.raises(asyncpg.InsufficientPrivilegeError):
                        await person.fetch(f"SELECT * FROM {table}")
            for attack in (
                f"SET ROLE {other}", "SET ROLE analyst", "SELECT * FROM request_summary",
                "SET SESSION AUTHORIZATION conclave", "DELETE FROM requests", "CREATE TABLE mine (x int)",
                "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'", "CREATE VIEW tenant.mine AS SELECT 1",
                "ALTER TABLE requests DISABLE ROW LEVEL SECURITY",
                "SELECT pg_advisory_lock(1)", "SELECT lo_create(0)", "SELECT pg_notify('a', 'b')",
            ):  # fmt: skip
                with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.ReadOnlySQLTransactionError)):
                    await person.execute(attack)
            await person.execute("SET row_security = off")
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
                await person.fetch("SELECT * FROM requests")
            assert await person.fetchval("SELECT count(*) FROM pg_stats WHERE tablename = 'requests'") == 0
        async with _person(postgres, mixed, "tenant") as nobody:
            assert await _rows(nobody, "tenant.request_summary") == [], "a member of the group is of no tenant yet"
    finally:
        await owner.close()
        await owner_alone.close()


async def test_a_role_that_is_dropped_shows_nothing_and_one_that_cannot_be_named_is_refused(
    postgres: PostgresServer, databases: tuple[str, str]
) -> None:
    accounts = Accounts(databases[1])
    try:
        role = await accounts.make_role("ours", actor="ann")
        async with _person(postgres, databases[1], role) as person:
            assert len(await _rows(person, "tenant.request_summary")) == 4
            await accounts.drop_role("ours", actor="ann")
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await _rows(person, "tenant.request_summary")
        for name in ("x" * 60, 'a"; DROP ROLE analyst; --'):
            with pytest.raises(Rejected):
                await accounts.make_role(name, actor="ann")
        noted = [(row["action"], row["tenant"]) for row in await accounts.changes()]
        assert noted == [("drop role", "ours"), ("make role", "ours")]
    finally:
        await accounts.close()


async def test_analysts_take_no_locks_send_no_word_and_hold_no_transaction_for_long(postgres: PostgresServer) -> None:
    """On a database that was migrated and not copied: a copy has no settings of its own."""
    name = f"bounded_{uuid.uuid4().hex[:8]}"
    admin = await asyncpg.connect(postgres.dsn())
    await admin.execute(f"CREATE DATABASE {name}")
    await asyncio.to_thread(upgrade, postgres.dsn(name))
    try:
        async with _person(postgres, postgres.dsn(name), "analyst") as ann:
            assert await ann.fetchval("SHOW transaction_timeout") == "5min"
            for statement in (
                "SELECT pg_advisory_lock(1)", "SELECT pg_try_advisory_xact_lock(1, 2)", "SELECT pg_notify('a', 'b')",
                "SELECT pg_advisory_xact_lock_shared(1)",
            ):  # fmt: skip
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await ann.execute(statement)
            await ann.execute("SET transaction_timeout = '100ms'")
            with pytest.raises(asyncpg.PostgresConnectionError):
                await ann.execute("BEGIN; SELECT pg_sleep(5)")
    finally:
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.close()


async def _called(dsn: str, request_id: str, observed: str) -> tuple[Known, str | None, bool]:
    """What the ledger of tools knows of a call of this request that has been made, and came to this."""
    ledger = ToolLedger(dsn)
    ask = Ask(form="none", program="external", tools=("mail.send",))
    event = external.released(made.context(ask, request_id=request_id))
    try:
        assert (await ledger.begin(request_id, event)).known is Known.NEW
        await ledger.end(request_id, observed, is_failed=False)
        known = await ledger.begin(request_id, event)
        return known.known, known.observed, known.is_failed
    finally:
        await ledger.close()


async def test_what_comes_of_a_call_of_a_request_that_was_erased_meanwhile_is_not_kept(fresh_database: str) -> None:
    request_id = str(new_request_id())  # of no gateway's
    await erase(fresh_database, [request_id])
    assert await _called(fresh_database, request_id, "S3CR3T") == (Known.DONE, None, False)


async def _all_that_is_stored(dsn: str) -> dict[str, str]:
    """Every row of every table of the database, as text, by table."""
    connection = await asyncpg.connect(dsn)
    try:
        tables = await connection.fetch(
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace"
        )
        return {row["relname"]: "\n".join(await _rows(connection, row["relname"])) for row in tables}
    finally:
        await connection.close()


async def test_of_a_tenant_whose_content_is_off_no_word_reaches_any_table_and_every_figure_does(
    fresh_database: str,
) -> None:
    await _record(fresh_database, {"silent": _ids("silent", 3)}, is_kept=False, said=SECRET)
    await _record(fresh_database, {"ours": _ids("ours", 3)}, said="36")
    assert await _called(fresh_database, _ids("silent", 1)[0], f"sent {SECRET}") == (Known.DONE, None, False)
    assert await _called(fresh_database, _ids("ours", 1)[0], "sent 36") == (Known.DONE, "sent 36", False)
    stored = await _all_that_is_stored(fresh_database)
    assert {table for table, rows in stored.items() if SECRET in rows} == set()
    connection = await asyncpg.connect(fresh_database)
    try:
        figures = [
            [tuple(row) for row in await connection.fetch(query, _ids(tenant, 3))]
            for query in (
                "SELECT count(*), sum(num_paths), sum(tokens_out), avg(confidence) FROM answers WHERE request_id = ANY($1)",
                "SELECT count(*), sum(tokens_out) FROM paths WHERE request_id = ANY($1)",
                "SELECT count(*), sum(weight) FROM ballots WHERE request_id = ANY($1)",
                "SELECT count(*), avg(reward) FROM given_feedback WHERE is_latest AND request_id = ANY($1)",
            )
            for tenant in ("silent", "ours")
        ]
        assert figures[::2] == figures[1::2]
    finally:
        await connection.close()


async def test_what_comes_late_of_an_erased_request_is_erased_as_it_comes(fresh_database: str) -> None:
    request_ids = _ids("ours", 3)
    await _record(fresh_database, {"ours": request_ids})
    await erase(fresh_database, request_ids)
    store = Store(fresh_database)
    try:
        late = FeedbackGiven(request_id=request_ids[0], reward=1.0, comment=SECRET, feedback_id="late")
        assert await store.write(_recorded([late]), {}) == 2
    finally:
        await store.close()
    assert SECRET not in (await _all_that_is_stored(fresh_database))["feedback_payloads"]
