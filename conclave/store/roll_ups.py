"""Sums by the hour for analysts' views (migration 0024), kept right under late feedback, redelivery and crashes.

    the recorder    marks the hours of what it writes, in the transaction that writes it
    `refresh`       adds up the marked hours anew and takes the marks away, all in one snapshot
    a view          reads hours that are marked from the rows themselves, and all others from here

A mark that comes meanwhile is not in the snapshot, so it stays. So a view is right at any moment; it is only slower where much is
marked.
"""

import asyncio
import time
from datetime import UTC, date, datetime
from datetime import time as time_of_day

import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from conclave.errors import LostDependency
from conclave.store.connection import lost_when_away, make_engine
from conclave.store.rows import Rows

ROLLED = ("policy_hours", "vote_hours", "arm_hours")
_COUNTED_TABLES = ("plans", "answers", "verdicts", "feedback")  # what they add up
_EVERY_S = 30.0
_MOST_OF_TIME = (
    0.05  # that adding up may take: a backlog is worked off slowly rather than at the cost of what is recorded
)
_HOURS_AT_ONCE = 6  # in a transaction, that none takes long
_LOCK = 0x686F7572  # "hour"

_FORGET = text("DELETE FROM rolled.marks WHERE hour < :day")
_MARKED = text("SELECT DISTINCT hour FROM rolled.marks ORDER BY hour LIMIT :most")

log = structlog.get_logger(__name__)


def hours_of(rows: Rows) -> list[datetime]:
    """The hours that these rows belong to: to be marked in the transaction that writes them."""
    return sorted({_hour(row[1]) for table in _COUNTED_TABLES for row in rows.get(table, ())})


async def drop_before(connection: AsyncConnection, day: date) -> None:
    """Forgets the hours of before a day, whose rows are gone: sums are of the same time as all else that is seen."""
    values = {"day": datetime.combine(day, time_of_day(), UTC)}
    for name in ROLLED:
        await connection.execute(text(f"DELETE FROM rolled.{name} WHERE hour < :day"), values)
    await connection.execute(_FORGET, values)


class RollUps:
    """The sums of one database."""

    def __init__(self, dsn: str) -> None:
        self._engine = make_engine(dsn, connections=1)
        self._why_not = ""

    async def close(self) -> None:
        """Closes the connections."""
        await self._engine.dispose()

    async def follow(self) -> None:
        """Adds up what is marked, every half minute, for ever; a database that is away is said so once."""
        try:
            while True:
                began_s = time.monotonic()
                try:
                    await self.refresh()
                    self._why_not = ""
                except (LostDependency, SQLAlchemyError) as error:
                    if not self._why_not:
                        log.warning("hours_not_added_up", why=str(error)[:300])
                    self._why_not = str(error)[:300]
                await asyncio.sleep(max(_EVERY_S, (time.monotonic() - began_s) / _MOST_OF_TIME))
        finally:
            await self.close()

    async def refresh(self) -> int:
        """How many hours were added up: all that are marked, unless another process is at it. Raises: LostDependency."""
        num_hours = 0
        while True:
            hours = await self._refreshed()
            num_hours += len(hours)
            if len(hours) < _HOURS_AT_ONCE:
                return num_hours

    async def _refreshed(self) -> list[datetime]:
        """The hours that were added up in one transaction, the oldest first; none while another process is at it."""
        async with lost_when_away(), self._engine.connect() as connection:
            await connection.execution_options(isolation_level="REPEATABLE READ")
            async with connection.begin():
                # Without a wait: a snapshot that is taken before another one's end would meet its rows.
                if not (
                    await connection.execute(text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": _LOCK})
                ).scalar_one():
                    return []
                hours = list((await connection.execute(_MARKED, {"most": _HOURS_AT_ONCE})).scalars())
                if not hours:
                    return []
                of_hours = "hour = ANY(CAST(:hours AS timestamptz[]))"
                for name in ROLLED:
                    await connection.execute(text(f"DELETE FROM rolled.{name} WHERE {of_hours}"), {"hours": hours})
                    await connection.execute(
                        text(f"INSERT INTO rolled.{name} SELECT * FROM rolled.{name}_marked WHERE {of_hours}"),
                        {"hours": hours},
                    )
                await connection.execute(text(f"DELETE FROM rolled.marks WHERE {of_hours}"), {"hours": hours})
                return hours


def _hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)
