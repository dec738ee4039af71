"""The record's writer: rows and the consumer's offsets in one transaction, idempotent, fenced by epoch.

A batch, in the numbers that `write` repeats:
    1. partitions for days not seen before
    2. offsets, `WHERE epoch = mine`: a former owner of the partition stops here, and its rows roll back
       words are taken out of the rows of requests whose content is not kept (conclave.store.bare)
    3. COPY into a staging table, one for each table of the record
    4. INSERT … SELECT … ON CONFLICT DO NOTHING: what was delivered before is there already
    5. the hours that are to be added up anew (conclave.store.roll_ups)
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from conclave.domain.recorded import RecordedEvent
from conclave.errors import Fenced, Rejected
from conclave.store import partitions, roll_ups
from conclave.store.bare import bared, request_ids
from conclave.store.connection import lost_when_away, make_engine
from conclave.store.rows import SHARED_TABLES, TABLES, Days, Row, Rows, rows_of

Position = tuple[str, int]

_CLAIM = text("""
    INSERT INTO consumer_offsets (topic, "partition", epoch) VALUES (:topic, :partition, 1)
    ON CONFLICT (topic, "partition") DO UPDATE SET epoch = consumer_offsets.epoch + 1
    RETURNING next_offset, epoch
""")
_MOVE = text("""
    UPDATE consumer_offsets SET next_offset = :next WHERE topic = :topic AND "partition" = :partition AND epoch = :epoch
""")
_BARE = text("""
    SELECT request_id FROM gateway_requests WHERE content <> 'kept' AND request_id = ANY(CAST(:ids AS uuid[]))
    UNION ALL SELECT shadow_id FROM gateway_requests WHERE content <> 'kept' AND shadow_id = ANY(CAST(:ids AS uuid[]))
""")


class Store:
    """See the module's docstring. One writer in a process."""

    def __init__(self, dsn: str, *, ahead_days: int = 2, retention_days: int = 90) -> None:
        self._engine = make_engine(dsn)
        self._ahead_days, self._retention_days = ahead_days, retention_days
        self._epochs: dict[Position, int] = {}
        self._days: set[date] = set()

    async def close(self) -> None:
        """Closes the connections."""
        await self._engine.dispose()

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
        async with lost_when_away(), self._engine.begin() as connection:
            await self._move(connection, offsets)  # 2
            num_new = await _insert(connection, bared(rows, await _bare(connection, rows)))
            await roll_ups.mark(connection, rows)  # 5
            return num_new

    async def maintain(self, now_ms: int) -> None:
        """Makes partitions for the days ahead and drops those past retention. Raises: LostDependency."""
        today = datetime.fromtimestamp(now_ms / 1000, UTC).date()
        ahead = [today + timedelta(days=offset) for offset in range(-1, self._ahead_days + 1)]
        await partitions.create(self._engine, ahead)
        self._days.update(ahead)
        oldest = today - timedelta(days=self._retention_days)
        await partitions.drop_before(self._engine, oldest)
        async with lost_when_away(), self._engine.begin() as connection:
            await roll_ups.drop_before(connection, oldest)
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

    async def _move(self, connection: AsyncConnection, offsets: Mapping[Position, int]) -> None:
        for (topic, partition), next_offset in sorted(offsets.items()):
            epoch = self._epochs.get((topic, partition), -1)
            values = {"topic": topic, "partition": partition, "next": next_offset, "epoch": epoch}
            if (await connection.execute(_MOVE, values)).rowcount == 0:
                raise Fenced(f"{topic}/{partition}")
        if not offsets:
            await connection.execute(text("SELECT 1"))  # the driver's transaction begins with the first statement


async def _bare(connection: AsyncConnection, rows: Rows) -> set[str]:
    """Those of the rows' requests whose words are not kept. A gateway notes that before it publishes the request.

    What is not kept of a request is not kept of its shadow's copy either.
    """
    found = await connection.execute(_BARE, {"ids": list(request_ids(rows))})
    return {str(request_id) for request_id in found.scalars()}


async def _insert(connection: AsyncConnection, rows: Rows) -> int:
    raw = (await connection.get_raw_connection()).driver_connection
    assert raw is not None
    num_new = 0
    for table, columns in (TABLES | SHARED_TABLES).items():
        records: list[Row] = rows.get(table, [])
        if not records:
            continue
        staging = f"staging_{table}"
        await raw.execute(f"CREATE TEMP TABLE IF NOT EXISTS {staging} (LIKE {table}) ON COMMIT DELETE ROWS")
        await raw.copy_records_to_table(staging, records=records, columns=columns)  # 3
        names = ", ".join(columns)
        status = await raw.execute(
            f"INSERT INTO {table} ({names}) SELECT {names} FROM {staging} ON CONFLICT DO NOTHING"
        )  # 4
        num_new += int(status.rpartition(" ")[2])
    return num_new
