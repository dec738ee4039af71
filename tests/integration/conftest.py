"""Real servers, started once for a test session on free ports, with their data under .conclave/ and gone afterwards."""

import asyncio
import os
import shutil
import time
import uuid
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import pytest

from conclave.local.servers.kafka import KafkaBroker
from conclave.local.servers.postgres import PostgresServer
from conclave.runtime.topics import ensure_topics
from conclave.store.store import Store
from tests.record_of_events import Recorded, empty_record

_CHECKOUT = Path(__file__).resolve().parents[2]
_STATE = _CHECKOUT / ".conclave"
_TEMPLATE = "conclave_template"
T = TypeVar("T")


def finish(steps: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine, run on a loop of its own: session fixtures must not hang on a test's loop."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(steps)
    finally:
        loop.close()


@pytest.fixture(scope="session")
def jars_dir() -> Path:
    """Where the verified jars of this checkout lie, shared with `conclave up`."""
    return _STATE / "jars"


@pytest.fixture(scope="session")
def session_dir() -> Iterator[Path]:
    """A folder for this test session's servers, removed at its end."""
    folder = _STATE / f"tests-{os.getpid()}"
    folder.mkdir(parents=True)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def kafka(session_dir: Path, jars_dir: Path) -> Iterator[KafkaBroker]:
    """A running broker without topics. A test that kills it must start it again."""
    broker = KafkaBroker(session_dir / "kafka", jars_dir=jars_dir)
    finish(broker.start())
    yield broker
    finish(broker.stop())


@contextmanager
def own_broker(folder: Path, jars_dir: Path, *, partitions: int) -> Iterator[KafkaBroker]:
    """A running broker with Conclave's topics, of one module alone: it may be killed, and what is in it counted."""
    broker = KafkaBroker(folder, jars_dir=jars_dir)
    finish(broker.start())
    finish(ensure_topics(str(broker.endpoint), partitions=partitions))
    yield broker
    finish(broker.stop())


@pytest.fixture(scope="session")
def postgres(session_dir: Path) -> Iterator[PostgresServer]:
    """A running server with one empty database. A test that kills it must start it again."""
    server = PostgresServer(session_dir / "postgres")
    finish(server.start())
    yield server
    finish(server.stop())


@pytest.fixture(scope="session")
def migrated_template(postgres: PostgresServer) -> str:
    """The name of a database with all migrations applied once, to be copied and never written to."""
    from conclave.store.migrate import upgrade

    finish(_execute(postgres, f'CREATE DATABASE "{_TEMPLATE}"'))
    upgrade(postgres.dsn(_TEMPLATE))
    return _TEMPLATE


@pytest.fixture
def fresh_database(postgres: PostgresServer, migrated_template: str) -> Iterator[str]:
    """The DSN of a migrated database of this test alone."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    finish(_execute(postgres, f'CREATE DATABASE "{name}" TEMPLATE "{migrated_template}"'))
    yield postgres.dsn(name)
    finish(_execute(postgres, f'DROP DATABASE "{name}" WITH (FORCE)'))


@pytest.fixture
async def store(fresh_database: str) -> AsyncIterator[Store]:
    """A store with its partitions made and one partition of the log claimed."""
    store = Store(fresh_database)
    await store.maintain(int(time.time() * 1000))
    await store.claim([("reasoning.paths", 0)])
    yield store
    await store.close()


async def _execute(postgres: PostgresServer, statement: str) -> None:
    connection = await asyncpg.connect(postgres.dsn())
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture
async def record(fresh_database: str) -> AsyncIterator[Recorded]:
    """An empty record, and ways to let things happen in it."""
    async with empty_record(fresh_database) as record:
        yield record
