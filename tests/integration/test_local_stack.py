"""The embedded Kafka and PostgreSQL: what they promise to everything that stands on them."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import asyncpg
import pytest

from conclave.local.errors import LocalStackError, PortTaken
from conclave.local.machine.ports import LOOPBACK, free_port
from conclave.local.machine.process import Mark
from conclave.local.servers.jars import locked_jars
from conclave.local.servers.kafka import KafkaBroker
from conclave.local.servers.postgres import PostgresServer

_DEADLINE_S = 30.0


@pytest.fixture
async def broker(session_dir: Path, jars_dir: Path) -> AsyncIterator[KafkaBroker]:
    """A broker of this module's own, which a test may kill."""
    own = KafkaBroker(session_dir / f"kafka-{time.monotonic_ns()}", jars_dir=jars_dir)
    yield own
    await own.kill()


@pytest.fixture
async def server(session_dir: Path) -> AsyncIterator[PostgresServer]:
    """A server of this module's own, which a test may kill."""
    own = PostgresServer(session_dir / f"postgres-{time.monotonic_ns()}")
    yield own
    await own.stop()


async def test_rows_committed_before_a_kill_are_there_after_the_restart(server: PostgresServer) -> None:
    dsn = await server.start()
    await _run(dsn, "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (7)")
    await server.kill()
    assert await server.start() == dsn
    connection = await asyncpg.connect(dsn)
    assert await connection.fetchval("SELECT n FROM kept") == 7
    await connection.close()


async def test_a_killed_postgres_that_leaves_a_backend_behind_starts_again_once_that_has_ended(
    server: PostgresServer,
) -> None:
    connection = await asyncpg.connect(await server.start())
    backend = await connection.fetchval("SELECT pg_backend_pid()")
    os.kill(backend, signal.SIGSTOP)  # as slow to end as can be
    await server.kill()
    starting = asyncio.create_task(server.start())
    await _until(lambda: "pre-existing shared memory block" in server.log_path.read_text(), "the server to be refused")
    assert not starting.done()
    os.kill(backend, signal.SIGKILL)
    await starting
    connection.terminate()


async def test_postgres_runs_durably_and_never_as_root(server: PostgresServer) -> None:
    dsn = await server.start()
    assert server.pid is not None
    assert os.stat(f"/proc/{server.pid}").st_uid != 0
    connection = await asyncpg.connect(dsn)
    settings = [
        await connection.fetchval(f"SHOW {name}") for name in ("fsync", "synchronous_commit", "full_page_writes")
    ]
    assert settings == ["on", "on", "on"]
    await connection.close()


async def test_postgres_asks_for_its_password_which_only_its_owner_can_read(server: PostgresServer) -> None:
    await server.start()
    assert (server.home / "password").stat().st_mode & 0o777 == 0o600
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(server.dsn().replace((server.home / "password").read_text(), "wrong"))
    secret = (server.home / "password").read_text()
    assert secret not in server.log_path.read_text()
    assert all(secret not in argument for argument in _arguments(server.pid))


async def test_records_written_before_a_kill_are_there_after_the_restart(broker: KafkaBroker) -> None:
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
    from aiokafka.admin import AIOKafkaAdminClient, NewTopic

    endpoint = await broker.start()
    admin = AIOKafkaAdminClient(bootstrap_servers=endpoint)
    await admin.start()
    await admin.create_topics([NewTopic("kept", 1, 1)])
    await admin.close()
    async with (
        AIOKafkaProducer(bootstrap_servers=endpoint, transactional_id="test") as producer,
        producer.transaction(),
    ):
        await producer.send_and_wait("kept", b"seven")
    await broker.kill()
    assert await broker.start() == endpoint
    consumer = AIOKafkaConsumer(bootstrap_servers=endpoint, isolation_level="read_committed", enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign([TopicPartition("kept", 0)])
        await consumer.seek_to_beginning()
        record = await asyncio.wait_for(consumer.getone(), _DEADLINE_S)
        assert record.value == b"seven"
    finally:
        await consumer.stop()


async def test_servers_listen_on_the_loopback_interface_only(broker: KafkaBroker, server: PostgresServer) -> None:
    await broker.start()
    await server.start()
    for pid in (broker.pid, server.pid):
        addresses = _listening_addresses(pid)
        assert addresses
        assert all(address in ("0100007F", "0000000000000000FFFF00000100007F") for address in addresses)


async def test_a_taken_port_is_named(broker: KafkaBroker, server: PostgresServer) -> None:
    with socket.create_server((LOOPBACK, free_port())) as squatter:
        broker.port = server.port = squatter.getsockname()[1]
        for part in (broker, server):
            with pytest.raises(PortTaken) as raised:
                await part.start()
            assert str(broker.port) in str(raised.value)


async def test_a_corrupted_jar_is_fetched_again_before_it_is_used(broker: KafkaBroker, jars_dir: Path) -> None:
    await broker.start()
    await broker.stop()
    smallest = min(locked_jars(), key=lambda jar: jar.size)
    path = smallest.path_in(jars_dir)
    intact = path.read_bytes()
    path.unlink()  # a new file: the running brokers of other tests keep the old one mapped
    path.write_bytes(b"\0" + intact[1:])
    again = KafkaBroker(broker.data_dir, jars_dir=jars_dir, port=broker.port)
    try:
        await again.start()
        assert path.read_bytes() == intact
    finally:
        await again.kill()


@pytest.mark.parametrize("part", ["kafka", "postgres"])
async def test_a_server_dies_with_its_killed_parent_and_starts_again_on_its_data(
    part: str, broker: KafkaBroker, server: PostgresServer
) -> None:
    owned: KafkaBroker | PostgresServer = broker if part == "kafka" else server
    home = broker.data_dir if part == "kafka" else server.home
    parent, pid, port = _parent_of(part, home, broker._jars_dir)
    mark = Mark.of(pid)
    assert mark is not None
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    await _until(lambda: not mark.is_alive(), f"{part} to end with its parent")
    owned.port = port
    await owned.start()
    assert owned.pid != pid


async def test_a_full_disk_is_named_and_not_a_stack_of_java_frames(
    broker: KafkaBroker, server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("kafka", "postgres"):
        monkeypatch.setattr(f"conclave.local.servers.{module}._NEEDED_BYTES", 2**60)
    for part in (broker, server):
        with pytest.raises(LocalStackError, match="MiB free"):
            await part.start()


_PARENT = """
import asyncio, sys, time
from pathlib import Path
from conclave.local.servers.kafka import KafkaBroker
from conclave.local.servers.postgres import PostgresServer
part, home, jars = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
server = KafkaBroker(home, jars_dir=jars) if part == "kafka" else PostgresServer(home)
asyncio.run(server.start())
print(server.pid, server.port, flush=True)
time.sleep(600)
"""


def _parent_of(part: str, home: Path, jars_dir: Path) -> tuple[subprocess.Popen[str], int, int]:
    """A process that has started a server, the server's pid and its port."""
    arguments = [sys.executable, "-c", _PARENT, part, str(home), str(jars_dir)]
    parent = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid, port = map(int, parent.stdout.readline().split())
    return parent, pid, port


async def _run(dsn: str, *statements: str) -> None:
    connection = await asyncpg.connect(dsn)
    for statement in statements:
        await connection.execute(statement)
    await connection.close()


async def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {_DEADLINE_S} s for {what}"
        await asyncio.sleep(0.02)


def _arguments(pid: int | None) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")


def _listening_addresses(pid: int | None) -> list[str]:
    """The local addresses (hexadecimal, as in /proc/net/tcp) on which the process listens."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        target = os.readlink(descriptor)
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return [row[1].split(":")[0] for row in rows if row[3] == "0A" and row[9] in inodes]
