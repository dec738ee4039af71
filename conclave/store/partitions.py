"""Daily partitions of the record: made ahead of time, dropped by retention. There is no default partition.

Dropping detaches concurrently first, so that readers of other days never wait.
"""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from conclave.store.connection import lost_when_away
from conclave.store.rows import TABLES

_LOCK = 0x70617274  # "part"


def partition_name(table: str, day: date) -> str:
    """The name of a table's partition of one day."""
    return f"{table}_p{day:%Y%m%d}"


async def create(engine: AsyncEngine, days: Iterable[date]) -> None:
    """Makes the partitions of `days` that are missing. Raises: LostDependency."""
    wanted = sorted(set(days))
    async with lost_when_away(), engine.begin() as connection:
        await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        for day in wanted:
            bounds = f"FROM ('{day} 00:00:00+00') TO ('{day + timedelta(days=1)} 00:00:00+00')"
            for table in TABLES:
                name = partition_name(table, day)
                await connection.execute(
                    text(f"CREATE TABLE IF NOT EXISTS {name} PARTITION OF {table} FOR VALUES {bounds}")
                )


async def existing(engine: AsyncEngine) -> dict[str, list[date]]:
    """The days that each table has partitions for."""
    query = """
        SELECT parent.relname, child.relname FROM pg_inherits
        JOIN pg_class parent ON parent.oid = inhparent JOIN pg_class child ON child.oid = inhrelid
        WHERE parent.relkind = 'p' AND child.relkind = 'r' ORDER BY 1, 2
    """
    found: dict[str, list[date]] = {table: [] for table in TABLES}
    async with lost_when_away(), engine.connect() as connection:
        for table, name in await connection.execute(text(query)):
            if table in found:
                found[table].append(datetime.strptime(name.rpartition("_p")[2], "%Y%m%d").replace(tzinfo=UTC).date())
    return found


async def drop_before(engine: AsyncEngine, day: date) -> int:
    """How many partitions older than `day` were dropped. Raises: LostDependency."""
    old = [(table, each) for table, days in (await existing(engine)).items() for each in days if each < day]
    # DETACH … CONCURRENTLY cannot run inside a transaction.
    async with lost_when_away(), engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        for table, each in old:
            name = partition_name(table, each)
            await connection.execute(text(f"ALTER TABLE {table} DETACH PARTITION {name} CONCURRENTLY"))
            await connection.execute(text(f"DROP TABLE {name}"))
    return len(old)
