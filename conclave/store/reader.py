"""Reads the record: a pool of connections that can't write, with a limit on how long a query may take."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import text

from conclave.store.connection import lost_when_away, make_engine

Record = dict[str, Any]


class Reader:
    """Rows of the record. Nothing is connected before the first query."""

    def __init__(self, dsn: str, *, connections: int = 4, statement_timeout_s: float = 10.0) -> None:
        self._engine = make_engine(
            dsn, connections=connections, statement_timeout_s=statement_timeout_s, is_read_only=True
        )

    async def rows(self, query: str, values: Mapping[str, Any] | None = None) -> list[Record]:
        """What `query` finds, a mapping a row; `:name` in it stands for a value.

        Raises: LostDependency when Postgres is away.
        """
        async with lost_when_away(), self._engine.connect() as connection:
            found = (await connection.execute(text(query), dict(values or {}))).mappings().all()
            return [dict(row) for row in found]

    async def close(self) -> None:
        """Closes the connections."""
        await self._engine.dispose()
