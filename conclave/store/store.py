"""The record's writer: rows and the consumer's offsets in one transaction, idempotent, fenced by epoch.

A batch, in the numbers that `write` repeats:
    1. partitions for days not seen before
    2. one statement: offsets, of `epoch = mine`, so that a former owner of the partition stops here and its rows roll back; and
       the hours that are to be added up anew (conclave.store.roll_ups)
    3. words are taken out of the rows of requests whose content is not kept (conclave.store.bare). Erasing counts on the
       transaction having its number before that is asked (conclave.store.erasure). A fork of a request that is erased is erased
       as it comes, with what was recorded of it before: the transaction begins anew after that
    4. rows, ON CONFLICT DO NOTHING: what was delivered before is there already. Many of a table go by COPY straight into it, as
       hardly anything is delivered twice; where something was, by COPY into a staging table first, and so do some batches after it
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from conclave.domain.recorded import RecordedEvent
from conclave.errors import Fenced, Rejected
from conclave.store import partitions, roll_ups
from conclave.store.bare import bared, forks, request_ids
from conclave.store.connection import ALREADY_THERE, lost_when_away, make_engine
from conclave.store.erasure import erase_with_forks
from conclave.store.rows import SHARED_TABLES, TABLES, Days, Row, Rows, rows_of

Position = tuple[str, int]

_FEW_ROWS = 24  # of a table: faster one by one in a single round trip than by COPY into a staging table
_PATIENCE_S = 900.0  # of upkeep with whoever reads what it drops; then it goes on the next time
_STAGED_AFTER = 16  # batches, once something was delivered twice: more of it may follow
_REPEATED = {
    "steps",
    "step_payloads",
    *SHARED_TABLES,
}  # rows that several events of a batch, or of several, bring along

_CLAIM = text("""
    INSERT INTO consumer_offsets (topic, "partition", epoch) VALUES (:topic, :partition, 1)
    ON CONFLICT (topic, "partition") DO UPDATE SET epoch = consumer_offsets.epoch + 1
    RETURNING next_offset, epoch
""")
# In one order everywhere, so that two writers never wait for each other.
_MOVE = """
    WITH marked AS (INSERT INTO rolled.marks SELECT unnest($5::timestamptz[])),
    mine AS MATERIALIZED (
        SELECT o.topic, o."partition", m.next FROM consumer_offsets o
        JOIN unnest($1::text[], $2::int[], $3::bigint[], $4::bigint[]) AS m (topic, "partition", next, epoch)
            ON o.topic = m.topic AND o."partition" = m."partition" AND o.epoch = m.epoch
        ORDER BY 1, 2 FOR UPDATE OF o)
    UPDATE consumer_offsets o SET next_offset = mine.next FROM mine WHERE o.topic = mine.topic AND o."partition" = mine."partition"
    RETURNING o.topic, o."partition"
"""
_MARK = "INSERT INTO rolled.marks SELECT unnest($1::timestamptz[])"
_FORGOTTEN = text("DELETE FROM erased_requests WHERE erased_at < :day")
_NUMBERED = "SELECT pg_current_xact_id()"
_BARE = """
    SELECT request_id FROM erased_requests WHERE request_id = ANY($1::uuid[])
    UNION ALL SELECT request_id FROM gateway_requests WHERE content <> 'kept' AND request_id = ANY($1::uuid[])
    UNION ALL SELECT shadow_id FROM gateway_requests WHERE content <> 'kept' AND shadow_id = ANY($1::uuid[])
"""


_LATE = """
    SELECT f.fork FROM unnest($1::uuid[], $2::uuid[]) AS f (fork, of) JOIN erased_requests e ON e.request_id = f.of
    WHERE NOT EXISTS (SELECT FROM erased_requests n WHERE n.request_id = f.fork)
"""


@dataclass(eq=False)
class _Late(Exception):
    """Rolls a batch back: these forks are of requests that are erased, and are not noted to be."""

    forks: list[str]


class Store:
    """See the module's docstring. One writer in a process."""

    def __init__(self, dsn: str, *, ahead_days: int = 2, retention_days: int = 90) -> None:
        self._dsn, self._engine = dsn, make_engine(dsn)
        # Whoever reads what is dropped is waited for, which may take longer than a statement of everyday work.
        self._upkeep = make_engine(dsn, connections=1, statement_timeout_s=_PATIENCE_S, command_timeout_s=None)
        self._ahead_days, self._retention_days = ahead_days, retention_days
        self._epochs: dict[Position, int] = {}
        self._days: set[date] = set()
        self._writer: AsyncConnection | None = None  # kept: to take it from the pool for each batch costs a round trip
        self._staged: set[str] = set()  # the staging tables that it has
        self._num_staged = 0  # batches to come that go through staging tables

    async def close(self) -> None:
        """Closes the connections."""
        if self._writer is not None:
            await self._writer.close()
        await self._engine.dispose()
        await self._upkeep.dispose()

    async def claim(self, wanted: Sequence[Position]) -> dict[Position, int]:
        """The offset at which each partition goes on; its former owner can write no more. Raises: LostDependency."""
        claimed: dict[Position, int] = {}
        epochs: dict[Position, int] = {}
        async with lost_when_away(), self._engine.begin() as connection:
            # In one order everywhere, so that two claimants never wait for each other.
            for topic, partition in sorted(wanted):
                row = (await connection.execute(_CLAIM, {"topic": topic, "partition": partition})).one()
                claimed[topic, partition], epochs[topic, partition] = int(row[0]), int(row[1])
        self._epochs = epochs
        return claimed

    async def write(self, batch: Sequence[RecordedEvent], offsets: Mapping[Position, int]) -> int:
        """Rows that were new. Raises: Fenced, LostDependency, Rejected for a request whose day can have no partition."""
        days = self._days_allowed()
        rows = rows_of(batch, days)
        await self._ensure_days(rows, days)  # 1
        forked = forks(batch)
        while True:
            try:
                async with self._transaction() as driver:
                    await self._move(driver, offsets, roll_ups.hours_of(rows))  # 2
                    await _check_forks(driver, forked)
                    return await self._insert(driver, bared(rows, await _bare(driver, rows)))  # 3, 4
            except _Late as late:
                await erase_with_forks(self._dsn, late.forks)

    async def maintain(self, now_ms: int) -> None:
        """Makes partitions for the days ahead and drops those past retention. Raises: LostDependency."""
        today = datetime.fromtimestamp(now_ms / 1000, UTC).date()
        ahead = [today + timedelta(days=offset) for offset in range(-1, self._ahead_days + 1)]
        await partitions.create(self._engine, ahead)
        self._days.update(ahead)
        oldest = today - timedelta(days=self._retention_days)
        await partitions.drop_before(self._upkeep, oldest)
        async with lost_when_away(), self._upkeep.begin() as connection:
            await roll_ups.drop_before(connection, oldest)
            await connection.execute(_FORGOTTEN, {"day": oldest})
        self._days = {day for day in self._days if day >= oldest}

    def _days_allowed(self) -> Days:
        """The first and the last day that may have partitions."""
        today = datetime.now(UTC).date()
        return today - timedelta(days=self._retention_days), today + timedelta(days=max(2, self._ahead_days))

    async def _ensure_days(self, rows: Rows, allowed: Days) -> None:
        days = {row[1].date() for table in TABLES for row in rows.get(table, ())} - self._days
        if not days:
            return
        first, last = allowed
        outside = sorted(day for day in days if not first <= day <= last)
        if outside:
            raise Rejected("$.request_id", f"a UUIDv7 made between {first} and {last}", str(outside[0]))
        await partitions.create(self._engine, days)
        self._days |= days

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Any]:
        """The driver's connection in a transaction. Raises: LostDependency."""
        async with lost_when_away():
            if self._writer is None:
                self._writer, self._staged = await self._engine.connect(), set()
            writer, staged = self._writer, set(self._staged)
            driver: Any = (await writer.get_raw_connection()).driver_connection
            try:
                async with driver.transaction():
                    yield driver
            except BaseException as error:
                self._staged = staged  # tables that were made in it are gone with it
                if driver.is_closed() or not isinstance(error, Exception):  # cancelled in the midst of a statement
                    self._writer = None
                    await writer.invalidate()
                    await writer.close()
                raise

    async def _move(self, driver: Any, offsets: Mapping[Position, int], hours: Sequence[datetime]) -> None:
        if not offsets:
            await (driver.execute(_MARK, hours) if hours else driver.execute(_NUMBERED))
            return
        wanted = sorted(offsets)
        topics, numbers = [topic for topic, _ in wanted], [partition for _, partition in wanted]
        nexts, epochs = [offsets[each] for each in wanted], [self._epochs.get(each, -1) for each in wanted]
        moved = {(row[0], row[1]) for row in await driver.fetch(_MOVE, topics, numbers, nexts, epochs, hours)}
        for topic, partition in wanted:
            if (topic, partition) not in moved:
                raise Fenced(f"{topic}/{partition}")

    async def _insert(self, driver: Any, rows: Rows) -> int:
        """How many rows were new."""
        if self._num_staged == 0 and any(len(records) > _FEW_ROWS for records in rows.values()):
            staged = set(self._staged)
            try:
                async with driver.transaction():  # a savepoint
                    return await self._written(driver, rows, are_new=True)
            except ALREADY_THERE:
                self._staged, self._num_staged = staged, _STAGED_AFTER
        self._num_staged = max(0, self._num_staged - 1)
        return await self._written(driver, rows, are_new=False)

    async def _written(self, driver: Any, rows: Rows, *, are_new: bool) -> int:
        num_new = 0
        for table, columns in (TABLES | SHARED_TABLES).items():
            records: list[Row] = rows.get(table, [])
            if not records:
                continue
            if len(records) <= _FEW_ROWS:
                num_new += len(await driver.fetchmany(_ONE[table], records))
            elif are_new and table not in _REPEATED:
                num_new += _count(await driver.copy_records_to_table(table, records=records, columns=columns))
            else:
                num_new += await self._through_staging(driver, table, columns, records)
        return num_new

    async def _through_staging(self, driver: Any, table: str, columns: Sequence[str], records: list[Row]) -> int:
        names, staging = ", ".join(columns), f"staging_{table}"
        if table not in self._staged:
            await driver.execute(f"CREATE TEMP TABLE IF NOT EXISTS {staging} (LIKE {table}) ON COMMIT DELETE ROWS")
            self._staged.add(table)
        await driver.copy_records_to_table(staging, records=records, columns=columns)
        query = f"INSERT INTO {table} ({names}) SELECT {names} FROM {staging} ON CONFLICT DO NOTHING"
        return _count(await driver.execute(query))


def _count(status: str) -> int:
    """Of a command's tag: the rows that it is about."""
    return int(status.rpartition(" ")[2])


def _one_row(table: str, columns: Sequence[str]) -> str:
    values = ", ".join(f"${place}" for place in range(1, len(columns) + 1))
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({values}) ON CONFLICT DO NOTHING RETURNING 1"


_ONE = {table: _one_row(table, columns) for table, columns in (TABLES | SHARED_TABLES).items()}


async def _check_forks(driver: Any, forked: Mapping[str, str]) -> None:
    """Raises: _Late for forks of requests that are erased. `conclave erase` finds those whose transaction does not see it noted."""
    if forked and (late := await driver.fetch(_LATE, list(forked), list(forked.values()))):
        raise _Late([str(row[0]) for row in late])


async def _bare(driver: Any, rows: Rows) -> set[str]:
    """Those of the rows' requests whose words are not kept. A gateway notes that before it publishes the request.

    What is not kept of a request is not kept of its shadow's copy either.
    """
    ids = list(request_ids(rows))
    return {str(row[0]) for row in await driver.fetch(_BARE, ids)} if ids else set()
