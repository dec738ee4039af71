"""Partitions past retention go, whoever reads them, whatever was broken off, and however many recorders are at it."""

import asyncio
from datetime import UTC, date, datetime

import asyncpg
import pytest

from conclave.errors import LostDependency
from conclave.store import partitions
from conclave.store.connection import make_engine
from conclave.store.rows import TABLES

OLD, TODAY = date(2001, 2, 3), datetime.now(UTC).date()


async def tables_of(dsn: str, day: date) -> set[str]:
    """The tables that hold a day's rows, or did."""
    connection = await asyncpg.connect(dsn)
    rows = await connection.fetch(
        "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE $1", f"%p{day:%Y%m%d}"
    )
    await connection.close()
    return {row[0] for row in rows}


async def test_what_a_reader_held_up_is_detached_to_the_end_the_next_time(fresh_database: str) -> None:
    hurried, patient = make_engine(fresh_database, statement_timeout_s=1.0), make_engine(fresh_database)
    await partitions.create(patient, [OLD])
    reader = await asyncpg.connect(fresh_database)
    await reader.execute("BEGIN")
    await reader.fetch("SELECT * FROM paths")
    with pytest.raises(LostDependency, match="statement timeout"):
        await partitions.drop_before(hurried, TODAY)
    pending = "SELECT count(*) FROM pg_inherits WHERE inhdetachpending"
    assert await reader.fetchval(pending) == 1
    await reader.execute("COMMIT")
    assert await partitions.drop_before(patient, TODAY) == len(TABLES)
    assert await reader.fetchval(pending) == 0
    assert await tables_of(fresh_database, OLD) == set()
    await reader.close()
    await hurried.dispose()
    await patient.dispose()


async def test_a_partition_that_a_reader_holds_up_holds_up_others_for_a_moment_only(
    fresh_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitions, "_IN_THE_WAY_S", 0.1)
    engine, reader = make_engine(fresh_database), await asyncpg.connect(fresh_database)
    await reader.execute("BEGIN")
    await reader.fetch("SELECT * FROM paths")
    with pytest.raises(LostDependency, match="lock timeout"):
        await partitions.create(engine, [OLD])
    await reader.execute("COMMIT")
    await partitions.create(engine, [OLD])
    assert len(await tables_of(fresh_database, OLD)) == len(TABLES)
    await reader.close()
    await engine.dispose()


async def test_a_table_that_was_detached_and_not_dropped_is_found_again_and_an_operator_s_is_left(
    fresh_database: str,
) -> None:
    engine = make_engine(fresh_database)
    await partitions.create(engine, [OLD])
    ours, theirs = (partitions.partition_name(table, OLD) for table in ("answers", "plans"))
    operator = await asyncpg.connect(fresh_database)
    await operator.execute(f"COMMENT ON TABLE {ours} IS '{partitions.MARK}'")
    for table, name in (("answers", ours), ("plans", theirs)):
        await operator.execute(f"ALTER TABLE {table} DETACH PARTITION {name}")
    await operator.close()
    assert await partitions.drop_before(engine, TODAY) == len(TABLES) - 1
    assert await tables_of(fresh_database, OLD) == {theirs}
    await engine.dispose()


async def test_two_recorders_that_are_due_at_once_drop_each_partition_once(fresh_database: str) -> None:
    engines = [make_engine(fresh_database) for _ in range(2)]
    await partitions.create(engines[0], [OLD])
    assert sum(await asyncio.gather(*(partitions.drop_before(each, TODAY) for each in engines))) == len(TABLES)
    assert await tables_of(fresh_database, OLD) == set()
    for engine in engines:
        await engine.dispose()
