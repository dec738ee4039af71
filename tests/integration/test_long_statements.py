"""What takes the longer the larger the record is, is never taken for a server that is away."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import asyncpg
import pytest

from conclave.store import erasure, migrate
from conclave.store.connection import make_engine
from schemas.ids import new_request_id

HASTY_S = 0.3  # after which everyday work takes its server for lost
WAITS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock' AND clock_timestamp() - query_start > interval '0.6 s'
"""


async def upgrading(dsn: str) -> None:
    await asyncio.to_thread(migrate.upgrade, dsn)


async def erasing(dsn: str) -> None:
    await erasure.erase(dsn, [str(new_request_id())])


@pytest.mark.parametrize(
    ("work", "lock"), [(upgrading, migrate._LOCK), (erasing, erasure._LOCK)], ids=["migrate", "erase"]
)
async def test_it_waits_for_longer_than_a_statement_of_everyday_work(
    work: Callable[[str], Coroutine[Any, Any, None]], lock: int, fresh_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert make_engine.__kwdefaults__ is not None
    monkeypatch.setitem(make_engine.__kwdefaults__, "command_timeout_s", HASTY_S)
    other = await asyncpg.connect(fresh_database)
    await other.execute("SELECT pg_advisory_lock($1)", lock)
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        working = tasks.create_task(work(fresh_database))
        while not working.done() and not await other.fetchval(WAITS):
            await asyncio.sleep(0.02)
        assert not working.done(), "it did not wait for the lock"
        await other.execute("SELECT pg_advisory_unlock($1)", lock)
    await other.close()
