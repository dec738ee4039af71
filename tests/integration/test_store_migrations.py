"""The schema on a real server: its columns, and the way to the newest revision and back."""

import asyncio
import time

import asyncpg
from alembic import command
from sqlalchemy import Connection

from conclave.domain.recorded import RecordedEvent
from conclave.store import migrate, queries
from conclave.store.migrate import current, upgrade
from conclave.store.rows import SHARED_TABLES, TABLES
from conclave.store.store import Store
from schemas.events import FeedbackGiven
from schemas.ids import new_request_id


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
