"""`conclave up`, `down` and `status` as a person uses them, with Kafka alone: what they do is the same for every part."""

import asyncio
import contextlib
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conclave.local.board import Board
from conclave.local.errors import ChecksumMismatch, DownloadFailed, PartDidNotStart
from conclave.local.keeper import Keeper
from conclave.local.machine.ports import LOOPBACK, free_port
from conclave.local.machine.process import Mark
from conclave.local.servers.jars import ensure_jars, locked_jars
from conclave.local.service import ServiceProcess
from conclave.local.state import Folders, Part, PartPhase, Snapshot, read_snapshot, write_snapshot
from schemas.flow import SERVICES

_DEADLINE_S = 60.0
_CHECKOUT = Path(__file__).resolve().parents[2]
_COMMANDS = (
    "import click; from conclave.local.commands import up, down, status; click.Group(commands=[up, down, status])()"
)


@pytest.fixture
def folders(session_dir: Path, jars_dir: Path) -> Iterator[Folders]:
    """The folders of a stack of this test's own, which shares the checkout's jars and is stopped at the end."""
    ensure_jars(jars_dir)
    own = Folders(session_dir / f"stack-{time.monotonic_ns()}")
    own.root.mkdir()
    own.jars.symlink_to(jars_dir)
    yield own
    _conclave(own, "down")


def test_up_returns_when_all_is_ready_and_down_ends_every_process(folders: Folders) -> None:
    up = _conclave(folders, "up", "--only", "kafka")
    assert up.returncode == 0, up.stderr
    report = _status(folders)
    kafka = report["parts"][0]
    assert (report["phase"], kafka["name"], kafka["phase"]) == ("ready", "kafka", "ready")
    assert report["bootstrap_servers"] == f"127.0.0.1:{kafka['port']}"
    again = _conclave(folders, "up", "--only", "kafka")
    assert again.returncode == 0
    assert _status(folders)["parts"][0]["pid"] == kafka["pid"], "a stack that runs is left as it is"
    marks = [_mark(kafka["pid"]), _mark(report["supervisor_pid"])]
    down = _conclave(folders, "down")
    assert down.returncode == 0, down.stderr
    assert not any(mark.is_alive() for mark in marks)
    assert _conclave(folders, "status").returncode == 1


def test_a_killed_supervisor_takes_its_parts_along_and_the_next_one_keeps_the_port(folders: Folders) -> None:
    _conclave(folders, "up", "--only", "kafka")
    before = _status(folders)
    broker = _mark(before["parts"][0]["pid"])
    os.kill(before["supervisor_pid"], signal.SIGKILL)
    _until(lambda: not broker.is_alive(), "the broker to end with its supervisor")
    assert _conclave(folders, "status").returncode == 1
    assert _conclave(folders, "up", "--only", "kafka").returncode == 0
    after = _status(folders)
    assert after["bootstrap_servers"] == before["bootstrap_servers"]


def test_a_killed_part_is_started_again_on_its_port_and_the_restart_is_shown(folders: Folders) -> None:
    _conclave(folders, "up", "--only", "kafka")
    before = _status(folders)["parts"][0]
    os.kill(before["pid"], signal.SIGKILL)

    def is_back() -> bool:
        now = _status(folders)["parts"][0]
        return bool(now["phase"] == "ready" and now["pid"] != before["pid"] and now["num_restarts"] == 1)

    _until(is_back, "the broker to be back")
    assert _status(folders)["parts"][0]["port"] == before["port"]


def test_ctrl_c_in_the_foreground_stops_the_stack_in_order(folders: Folders) -> None:
    foreground = subprocess.Popen(
        [sys.executable, "-c", _COMMANDS, "up", "--foreground", "--only", "kafka"], env=_environment(folders), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    _until(lambda: _phase(folders) == "ready", "the stack to be ready")
    foreground.send_signal(signal.SIGINT)
    output, _ = foreground.communicate(timeout=_DEADLINE_S)
    assert foreground.returncode == 0, output
    assert "stopped" in output
    assert "Traceback" not in output
    assert _phase(folders) == "stopped"


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGKILL])
def test_services_that_wait_for_what_they_need_end_with_their_supervisor(
    folders: Folders, signal_number: signal.Signals
) -> None:
    foreground = subprocess.Popen(
        [sys.executable, "-c", _COMMANDS, "up", "--foreground", "--engine", "scripted"], env=_environment(folders),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    _until(lambda: len(_held(folders)) == len(SERVICES), "all services to be held")
    snapshot = read_snapshot(folders)
    assert snapshot is not None
    assert {part.phase for part in snapshot.parts if part.name in SERVICES} == {PartPhase.WAITING}
    held = _held(folders)
    foreground.send_signal(signal_number)
    output, _ = foreground.communicate(timeout=_DEADLINE_S)
    _until(lambda: not any(mark.is_alive() for mark in held), "the held services to end")
    assert foreground.returncode == (0 if signal_number is signal.SIGINT else -signal_number), output
    assert "Traceback" not in output


def test_a_failure_is_a_message_and_not_a_traceback(folders: Folders, tmp_path: Path) -> None:
    for arguments, said in ((["--only", "zoo"], "No part is called zoo"), (["--model", str(tmp_path)], "is missing")):
        failed = _conclave(folders, "up", *arguments)
        assert failed.returncode == 1
        assert said in failed.stderr
        assert "Traceback" not in failed.stderr


async def test_a_service_that_keeps_dying_fails_the_start_with_the_end_of_its_log(folders: Folders) -> None:
    board = Board(folders, previous=None, on_change=lambda snapshot: None)
    service = _service("no_such_service", folders, free_port())
    await service.start()
    with pytest.raises(PartDidNotStart, match="No module named"):
        await Keeper(board).keep(service.name, service)
    assert board.part(service.name).num_restarts == 2


async def test_readiness_is_what_the_service_says_over_http(folders: Folders) -> None:
    board = Board(folders, previous=None, on_change=lambda snapshot: None)
    answer = {"status": 503}
    with _http({"/ready": lambda: (answer["status"], b"{}")}) as port:
        service = _service("no_such_service", folders, port)
        board.change(service.name, PartPhase.STARTING)
        watching = asyncio.create_task(Keeper(board).watch(service))
        assert not await service.is_ready()
        answer["status"] = 200
        await _until_async(lambda: board.part(service.name).phase is PartPhase.READY, "the service to be ready")
        watching.cancel()


def test_the_watchdog_ends_what_a_dead_service_had_started(folders: Folders) -> None:
    service = subprocess.Popen(
        [sys.executable, "-c", _SERVICE_WITH_A_CHILD], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert service.stdout is not None
    child = _mark(int(service.stdout.readline()))
    own, service_mark = _mark(os.getpid()), _mark(service.pid)
    write_snapshot(folders, Snapshot(own, parts=(Part("decoder", PartPhase.READY, 1, service_mark),)))
    watchdog = subprocess.Popen(
        [sys.executable, "-m", "conclave.local.watchdog", str(folders.root)], stdin=subprocess.PIPE, cwd=_CHECKOUT
    )
    service.kill()
    service.wait()
    service.stdout.close()
    assert child.is_alive(), "an orphan outlives its parent: that is what the watchdog is for"
    watchdog.communicate()
    _until(lambda: not child.is_alive(), "the orphan to end")


@pytest.mark.parametrize(("served", "error"), [(b"not the jar", ChecksumMismatch), (None, DownloadFailed)])
def test_a_download_that_is_not_what_the_lock_file_says_is_never_kept(
    served: bytes | None, error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jar = locked_jars()[0]
    answer: tuple[int, bytes] = (404, b"") if served is None else (200, served)
    with _http({"": lambda: answer}) as port:
        monkeypatch.setenv("CONCLAVE_MAVEN_URL", f"http://{LOOPBACK}:{port}")
        with pytest.raises(error, match=jar.artifact):
            ensure_jars(tmp_path, jars=[jar])
    assert not jar.path_in(tmp_path).exists()


def test_an_unreachable_repository_is_a_failed_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONCLAVE_MAVEN_URL", f"http://{LOOPBACK}:{free_port()}")
    with pytest.raises(DownloadFailed, match="refused"):
        ensure_jars(tmp_path, jars=locked_jars()[:1])


_SERVICE_WITH_A_CHILD = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""


class _http:  # noqa: N801  (used as a function)
    """A loopback HTTP server that answers a path, or its beginning, with (status, body); its port as a context."""

    def __init__(self, routes: dict[str, Callable[[], tuple[int, bytes]]]) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                route = next(answer for path, answer in routes.items() if self.path.startswith(path))
                status, body = route()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                return

        self._server = http.server.ThreadingHTTPServer((LOOPBACK, 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> int:
        self._thread.start()
        return int(self._server.server_address[1])

    def __exit__(self, *failure: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _service(name: str, folders: Folders, port: int) -> ServiceProcess:
    environment = dict(os.environ)
    return ServiceProcess(
        name, f"services.{name}", port=port, environment=environment, log_path=folders.log(name), directory=_CHECKOUT
    )


def _environment(folders: Folders) -> dict[str, str]:
    return {**os.environ, "CONCLAVE_STATE_DIR": str(folders.root), "PYTHONPATH": str(_CHECKOUT), "PYTHONWARNINGS": ""}


def _conclave(folders: Folders, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _COMMANDS, *arguments]
    return subprocess.run(command, env=_environment(folders), capture_output=True, text=True, timeout=_DEADLINE_S)


def _status(folders: Folders) -> Any:
    return json.loads(_conclave(folders, "status", "--json").stdout)


def _phase(folders: Folders) -> str:
    snapshot = read_snapshot(folders)
    return snapshot.phase if snapshot else ""


def _mark(pid: int) -> Mark:
    mark = Mark.of(pid)
    assert mark is not None
    return mark


def _held(folders: Folders) -> list[Mark]:
    """The processes that are held for the stack in these folders."""
    found = []
    for process in (entry for entry in Path("/proc").iterdir() if entry.name.isdigit()):
        with contextlib.suppress(OSError):
            arguments, environment = ((process / each).read_bytes().split(b"\0") for each in ("cmdline", "environ"))
            is_ours = f"CONCLAVE_STATE_DIR={folders.root}".encode() in environment
            if is_ours and b"conclave.local.held" in arguments and arguments[1] == b"-m":
                found.append(_mark(int(process.name)))
    return found


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {_DEADLINE_S} s for {what}"
        time.sleep(0.02)


async def _until_async(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {_DEADLINE_S} s for {what}"
        await asyncio.sleep(0.02)
