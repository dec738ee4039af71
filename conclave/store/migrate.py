"""Brings a database to the newest schema. Several processes may do so at once."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

import migrations
from conclave.store.connection import lost_when_away, make_engine

_LOCK = 0x636F6E63  # "conc": any number that nobody else locks


def upgrade(dsn: str) -> None:
    """Applies every migration that is missing. Raises: LostDependency."""
    _in_a_loop_of_its_own(_run(dsn, _upgrade))


def current(dsn: str) -> tuple[str | None, str | None]:
    """The revision of the database, and the newest that there is. Raises: LostDependency."""
    found: list[str | None] = []
    _in_a_loop_of_its_own(_run(dsn, lambda connection: found.append(_revision(connection))))
    return found[0], ScriptDirectory.from_config(_config()).get_current_head()


def _upgrade(connection: Connection) -> None:
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    return config


async def _run(dsn: str, work) -> None:  # type: ignore[no-untyped-def]
    engine = make_engine(dsn, connections=1, command_timeout_s=None)  # an index takes as long as its table is large
    try:
        async with lost_when_away(), engine.begin() as connection:
            await connection.run_sync(work)
    finally:
        await engine.dispose()


def _in_a_loop_of_its_own(work) -> None:  # type: ignore[no-untyped-def]
    """Runs a coroutine whether or not the caller's thread has a loop already."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, work).result()
