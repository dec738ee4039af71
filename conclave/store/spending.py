"""What was spent lately, as the record has it, for thresholds that follow a budget. Asked now and then, never waited for."""

import asyncio
import time

import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from conclave.errors import LostDependency
from conclave.store.connection import lost_when_away, make_engine

_ASKED_EVERY_S = 10.0
_HOLDS_S = 60.0  # how long the last figure is worth anything
# A request lives a day at most; the bound on asked_at leaves all other partitions alone.
_TOKENS = text("""
    SELECT coalesce(sum(tokens_out), 0) FROM answers
    WHERE asked_at > now() - interval '25 hours' AND answered_at > now() - interval '1 hour'
""")

log = structlog.get_logger(__name__)


class Spending:
    """The latest figures of one database."""

    def __init__(self, dsn: str) -> None:
        self._engine = make_engine(dsn)
        self._tokens, self._asked_at_s = 0.0, float("-inf")
        self._is_away = False

    def tokens_last_hour(self) -> float | None:
        """Tokens that were generated for requests that ended within the last hour; None when that is not known now."""
        return self._tokens if time.monotonic() - self._asked_at_s < _HOLDS_S else None

    async def follow(self) -> None:
        """Asks every few seconds, for ever."""
        try:
            while True:
                await self.refresh()
                await asyncio.sleep(_ASKED_EVERY_S)
        finally:
            await self.close()

    async def close(self) -> None:
        """Closes the connections."""
        await self._engine.dispose()

    async def refresh(self) -> None:
        """Asks now; a database that is away, or has no such table yet, is said so once."""
        try:
            async with lost_when_away(), self._engine.connect() as connection:
                self._tokens = float((await connection.execute(_TOKENS)).scalar_one())
            self._asked_at_s, self._is_away = time.monotonic(), False
        except (LostDependency, SQLAlchemyError) as error:
            if not self._is_away:
                log.warning("spending_unknown", why=str(error)[:300])
            self._is_away = True
