"""`conclave prepare` as a deployment runs it, before its services."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import asyncpg

from conclave.local.servers.kafka import KafkaBroker
from conclave.local.servers.postgres import PostgresServer
from conclave.runtime.topics import wrong_topics
from conclave.store.migrate import current


async def test_a_new_deployment_is_prepared_and_an_old_one_left_as_it_is(
    session_dir: Path, jars_dir: Path, postgres: PostgresServer
) -> None:
    connection = await asyncpg.connect(postgres.dsn())
    await connection.execute("CREATE DATABASE prepared")
    await connection.close()
    broker = KafkaBroker(session_dir / "kafka-prepare", jars_dir=jars_dir)
    address, dsn = await broker.start(), postgres.dsn("prepared")
    try:
        first = await _prepare(address, dsn)
        assert "reasoning.requests" in first
        assert await wrong_topics(address) == []
        revision, newest = await asyncio.to_thread(current, dsn)
        assert revision == newest
        assert "none, all were there" in await _prepare(address, dsn)
    finally:
        await broker.kill()


async def _prepare(address: str, dsn: str) -> str:
    where = {"CONCLAVE_BOOTSTRAP_SERVERS": address, "CONCLAVE_POSTGRES_DSN": dsn, "CONCLAVE_TOPIC_PARTITIONS": "2"}
    command = [sys.executable, "-m", "conclave.cli", "prepare"]
    done = await asyncio.to_thread(
        subprocess.run, command, env={**os.environ, **where}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
