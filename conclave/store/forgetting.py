"""Forgetting what is older than the record: a few rows a transaction, so that no statement takes longer than it may."""

from datetime import timedelta

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncEngine

from conclave.store.connection import lost_when_away


def statement(table: str, key: str) -> TextClause:
    """What deletes so many of a table's rows that were created too long ago."""
    old = f"SELECT {key} FROM {table} WHERE created_at < now() - CAST(:age AS interval) ORDER BY created_at LIMIT :at_once"
    return text(f"DELETE FROM {table} WHERE {key} IN ({old})")


async def forgotten(engine: AsyncEngine, delete: TextClause, older_than_days: int, *, at_once: int) -> int:
    """How many rows were deleted. Raises: LostDependency, and what was deleted until then stays so."""
    values = {"age": timedelta(days=older_than_days), "at_once": at_once}
    num_rows = 0
    while True:
        async with lost_when_away(), engine.begin() as connection:
            num_now = (await connection.execute(delete, values)).rowcount
        num_rows += num_now
        if num_now < at_once:
            return num_rows
