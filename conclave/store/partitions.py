"""Daily partitions of the record: made ahead of time, dropped by retention. There is no default partition.

Dropping detaches concurrently first, so that readers of other days never wait.
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from conclave.store.connection import lost_when_away
from conclave.store.rows import TABLES

_LOCK = 0x70617274  # "part"
_DROP_LOCK = 0x64726F70  # "drop": another one, as dropping may wait for long
_TRY_LOCK, _UNLOCK = text("SELECT pg_try_advisory_lock(:lock)"), text("SELECT pg_advisory_unlock(:lock)")
_IN_THE_WAY_S = 2.0  # of everyone else
MARK = "conclave: past retention, to be dropped"
_PARTITIONS = text("""
    SELECT parent.relname, child.relname, inhdetachpending FROM pg_inherits
    JOIN pg_class parent ON parent.oid = inhparent JOIN pg_class child ON child.oid = inhrelid
    WHERE parent.relkind = 'p' AND child.relkind = 'r' AND pg_table_is_visible(child.oid)
""")
_DETACHED = text(f"""
    SELECT relname FROM pg_class WHERE relkind = 'r' AND NOT relispartition AND pg_table_is_visible(oid)
    AND obj_description(oid, 'pg_class') = '{MARK}' ORDER BY 1
""")


@dataclass(frozen=True, slots=True)
class _Partition:
    table: str
    name: str
    day: date
    is_detaching: bool  # which was broken off


def partition_name(table: str, day: date) -> str:
    """The name of a table's partition of one day."""
    return f"{table}_p{day:%Y%m%d}"


async def create(engine: AsyncEngine, days: Iterable[date]) -> None:
    """Makes the partitions of `days` that are missing.

    That waits for whoever reads the table, and others wait behind it: so for a moment only. Raises: LostDependency.
    """
    wanted = sorted(set(days))
    async with lost_when_away(), engine.begin() as connection:
        await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        await connection.execute(text(f"SET LOCAL lock_timeout = {round(_IN_THE_WAY_S * 1000)}"))
        for day in wanted:
            bounds = f"FROM ('{day} 00:00:00+00') TO ('{day + timedelta(days=1)} 00:00:00+00')"
            for table in TABLES:
                name = partition_name(table, day)
                await connection.execute(
                    text(f"CREATE TABLE IF NOT EXISTS {name} PARTITION OF {table} FOR VALUES {bounds}")
                )


async def existing(engine: AsyncEngine) -> dict[str, list[date]]:
    """The days that each table has partitions for. Raises: LostDependency."""
    found: dict[str, list[date]] = {table: [] for table in TABLES}
    async with lost_when_away(), engine.connect() as connection:
        for each in await _partitions(connection):
            found[each.table].append(each.day)
    return found


async def drop_before(engine: AsyncEngine, day: date) -> int:
    """How many partitions older than `day` were dropped; none while another process is at it.

    Detaching waits for whoever reads the table, a backup as well as an analyst, for as long as the engine lets a statement take; it
    holds up neither readers nor writers meanwhile. What was broken off is gone on with the next time. For each partition:
        1. it is marked, so that a table that an operator has detached is never taken for one of these
        2. it is detached, concurrently; to the end, where that was broken off
        3. what is marked and no partition any more is dropped, whoever detached it
    Raises: LostDependency.
    """
    # DETACH … CONCURRENTLY cannot run inside a transaction.
    async with lost_when_away(), engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        if not (await connection.execute(_TRY_LOCK, {"lock": _DROP_LOCK})).scalar_one():
            return 0
        try:
            for each in await _partitions(connection):
                if each.day < day:
                    await connection.execute(text(f"COMMENT ON TABLE {each.name} IS '{MARK}'"))  # 1
                    how = "FINALIZE" if each.is_detaching else "CONCURRENTLY"
                    await connection.execute(text(f"ALTER TABLE {each.table} DETACH PARTITION {each.name} {how}"))  # 2
            old = [name for name in (await connection.execute(_DETACHED)).scalars() if _is_before(name, day)]
            for name in old:
                await connection.execute(text(f"DROP TABLE {name}"))  # 3
            await connection.execute(_UNLOCK, {"lock": _DROP_LOCK})
        except BaseException:
            await connection.invalidate()  # the lock is the session's
            raise
        return len(old)


async def _partitions(connection: AsyncConnection) -> list[_Partition]:
    """All partitions of days, the oldest first."""
    rows = (await connection.execute(_PARTITIONS)).all()
    found = [
        _Partition(table, name, day, is_detaching)
        for table, name, is_detaching in rows
        if table in TABLES and (day := _day_of(table, name)) is not None
    ]
    return sorted(found, key=lambda each: (each.day, each.name))


def _day_of(table: str, name: str) -> date | None:
    """The day of a table's partition by its name; None where it is not named as `create` names them."""
    with suppress(ValueError):
        day = datetime.strptime(name.removeprefix(f"{table}_p"), "%Y%m%d").replace(tzinfo=UTC).date()
        return day if partition_name(table, day) == name else None
    return None


def _is_before(name: str, day: date) -> bool:
    found = _day_of(name.rpartition("_p")[0], name)
    return found is not None and found < day
