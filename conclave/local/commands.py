"""`conclave up`, `down` and `status`."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click
import msgspec
from rich.console import Console
from rich.table import Table

from conclave.local import probe
from conclave.local.detached import start_detached
from conclave.local.display import Display
from conclave.local.errors import LocalStackError, PartDidNotStart, StackIsNotRunning
from conclave.local.machine.ports import LOOPBACK
from conclave.local.machine.process import log_tail
from conclave.local.plan import Plan, model_of
from conclave.local.state import (
    Folders,
    Part,
    PartPhase,
    Phase,
    Snapshot,
    is_service,
    is_supervised,
    read_snapshot,
    web_address,
)

_POLL_S = 0.1
_DOWN_TIMEOUT_S = 75.0
_APPEAR_TIMEOUT_S = 30.0
_NOT_READY_STATUS = 1
_PIPED_WIDTH = 240


@click.command()
@click.option("--foreground", "-f", is_flag=True, help="Stay attached; Ctrl-C drains and stops the stack.")
@click.option("--only", metavar="PART,…", default="", help="Run these parts only, e.g. kafka,postgres.")
@click.option("--scale", metavar="SERVICE=N", multiple=True, help="Run N processes of a service. May be repeated.")
@click.option(
    "--engine",
    default="vllm",
    envvar="CONCLAVE_ENGINE",
    show_default=True,
    help="What decodes: vllm, openai (any such server, named by CONCLAVE_OPENAI_BASE_URL), scripted, or one of your own.",
)
@click.option("--model", envvar="CONCLAVE_MODEL", help="A folder, or the name on a server.  [default: models/reasoner]")
def up(foreground: bool, only: str, scale: tuple[str, ...], engine: str, model: str | None) -> None:
    """Start Kafka, PostgreSQL and every service, and wait until all are ready.

    The stack runs in the background until `conclave down`; data stays in .conclave/. One that runs is left as it is.
    """
    with _shown_plainly():
        plan = _plan(only, scale, engine, model)
        folders = Folders.default()
        console = _console()
        if foreground:
            from conclave.local.supervisor import supervise  # with all that it imports, which the background needs not

            with Display(console) as display:
                supervise(plan, folders, display.show)
            return
        is_new = not is_supervised(folders)
        if is_new:
            plan.check()
            _start_in_background(plan, folders)
        display = Display(console, seen=None if is_new else read_snapshot(folders))
        snapshot = _follow_until_settled(folders, display)
        _print_endpoints(console, snapshot)


@click.command()
def down() -> None:
    """Stop this checkout's stack: services drain, then PostgreSQL and Kafka shut down. Data stays."""
    with _shown_plainly():
        folders = Folders.default()
        snapshot = read_snapshot(folders)
        if snapshot is None or not is_supervised(folders):
            click.echo("No stack is running here.")
            return
        _signal(snapshot.supervisor.pid, signal.SIGTERM)
        with Display(_console(), seen=snapshot) as display:
            _wait_until_gone(folders, display)
        click.echo("The stack has stopped.")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
def status(as_json: bool) -> None:
    """Show each part: state, pid, address, uptime and a service's lag. Exit status 0 when all is ready."""
    with _shown_plainly():
        folders = Folders.default()
        snapshot = read_snapshot(folders)
        is_running = is_supervised(folders)
        if snapshot is None or not is_running:
            click.echo(json.dumps({"phase": "stopped", "parts": []}) if as_json else "No stack is running here.")
            raise SystemExit(_NOT_READY_STATUS)
        rows = asyncio.run(_rows(snapshot))
        if as_json:
            click.echo(json.dumps(_report(snapshot, rows), indent=2))
        else:
            _console().print(_status_table(rows))
        if any(part.phase is not PartPhase.READY for part, _ in rows):
            raise SystemExit(_NOT_READY_STATUS)


def _console() -> Console:
    """The terminal, or what lines are piped to: those are not wrapped to a width that no one looks at."""
    console = Console()
    return console if console.is_terminal else Console(width=_PIPED_WIDTH)


@contextmanager
def _shown_plainly() -> Iterator[None]:
    """Turns what a person can act on into a message and exit status 1, without a traceback."""
    try:
        yield
    except LocalStackError as error:
        raise click.ClickException(str(error)) from None
    except PermissionError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}. Was it made by another user?") from None


def _plan(only: str, scale: tuple[str, ...], engine: str, model: str | None) -> Plan:
    parts = frozenset(part.strip() for part in only.split(",") if part.strip())
    replicas: dict[str, int] = {}
    for item in scale:
        name, _, number = item.partition("=")
        if not number.isdigit() or not 1 <= int(number) <= 64:
            raise click.BadParameter(f"{item!r}: expected SERVICE=N with N from 1 to 64", param_hint="--scale")
        replicas[name] = int(number)
    return Plan(parts, replicas, engine, model_of(engine, model))


def _start_in_background(plan: Plan, folders: Folders) -> None:
    """Starts a supervisor and returns when it holds the stack and has written its first snapshot."""
    child = start_detached(plan, folders)
    deadline = time.monotonic() + _APPEAR_TIMEOUT_S
    while True:
        snapshot = read_snapshot(folders)
        if snapshot is not None and snapshot.supervisor.pid == child.pid:
            return
        if child.poll() is not None or time.monotonic() >= deadline:
            log_path = folders.logs / "supervisor.log"
            if is_supervised(folders):
                return  # another `up` was faster: follow that one
            raise PartDidNotStart("The supervisor", "it ended at once", log_path, log_tail(log_path))
        time.sleep(_POLL_S)


def _follow_until_settled(folders: Folders, display: Display) -> Snapshot:
    """Shows the stack until it is ready. Ctrl-C stops it. Raises: LocalStackError when it fails or disappears."""
    with display:
        try:
            while True:
                # Alive is asked first: a supervisor that ends in between has written its last snapshot by then.
                is_alive = is_supervised(folders)
                snapshot = read_snapshot(folders)
                if snapshot is None:
                    raise StackIsNotRunning(folders.state)
                display.show(snapshot)
                if snapshot.failure and not is_alive:
                    raise LocalStackError(snapshot.failure)
                if snapshot.phase is Phase.READY and is_alive:
                    return snapshot
                if not is_alive:
                    log_path = folders.logs / "supervisor.log"
                    raise PartDidNotStart("The supervisor", "it is gone", log_path, log_tail(log_path))
                time.sleep(_POLL_S)
        except KeyboardInterrupt:
            if latest := read_snapshot(folders):
                _signal(latest.supervisor.pid, signal.SIGTERM)
            _wait_until_gone(folders, display)
            raise


def _wait_until_gone(folders: Folders, display: Display) -> None:
    """Shows the stack until its supervisor has ended. Raises: LocalStackError when that takes too long."""
    deadline = time.monotonic() + _DOWN_TIMEOUT_S
    before = read_snapshot(folders)
    while is_supervised(folders) or (before and before.supervisor.is_alive()):
        if snapshot := read_snapshot(folders):
            display.show(snapshot)
        if time.monotonic() >= deadline:
            raise LocalStackError(f"The stack did not stop within {_DOWN_TIMEOUT_S:.0f} s. Run `conclave down` again.")
        time.sleep(_POLL_S)
    if snapshot := read_snapshot(folders):
        display.show(snapshot)


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


async def _rows(snapshot: Snapshot) -> list[tuple[Part, int | None]]:
    """Each part with its lag, all asked at once."""
    parts = [_as_it_is(part) for part in snapshot.parts]
    lags = await asyncio.gather(*(_lag(part) for part in parts))
    return list(zip(parts, lags, strict=True))


def _as_it_is(part: Part) -> Part:
    """The part, not ready if its process has died since: on a full disk the supervisor can't write that down."""
    if part.mark is None or part.mark.is_alive():
        return part
    return msgspec.structs.replace(part, phase=PartPhase.RESTARTING, mark=None)


async def _lag(part: Part) -> int | None:
    return await probe.lag(f"http://{LOOPBACK}:{part.port}") if is_service(part) else None


def _report(snapshot: Snapshot, rows: list[tuple[Part, int | None]]) -> dict[str, object]:
    parts = [
        {
            "name": part.name,
            "phase": part.phase.value,
            "pid": part.mark.pid if part.mark else None,
            "port": part.port,
            "web": web_address(part) if part.web_port else None,
            "uptime_s": round(part.mark.uptime_s(), 1) if part.mark else None,
            "num_restarts": part.num_restarts,
            "lag": lag,
            "detail": part.detail,
        }
        for part, lag in rows
    ]
    return {
        "phase": snapshot.phase.value,
        "supervisor_pid": snapshot.supervisor.pid,
        "bootstrap_servers": snapshot.bootstrap_servers,
        "postgres": snapshot.postgres,
        "parts": parts,
    }


def _status_table(rows: list[tuple[Part, int | None]]) -> Table:
    table = Table("part", "state", "pid", "address", "uptime", "restarts", "lag", box=None, pad_edge=False)
    for part, lag in rows:
        pid, uptime = (str(part.mark.pid), _duration(part.mark.uptime_s())) if part.mark else ("", "")
        address = f"127.0.0.1:{part.port}" if part.port else ""
        address += f", web {web_address(part)}" if part.web_port else ""
        restarts = str(part.num_restarts) if part.mark else ""
        table.add_row(part.name, part.phase.value, pid, address, uptime, restarts, "" if lag is None else str(lag))
    return table


def _print_endpoints(console: Console, snapshot: Snapshot) -> None:
    console.print("The stack is ready.", highlight=False)
    if snapshot.bootstrap_servers:
        console.print(f"  Kafka       {snapshot.bootstrap_servers}", highlight=False)
    if snapshot.postgres:
        console.print(
            f"  PostgreSQL  {snapshot.postgres}  (user conclave, password in .conclave/postgres)", highlight=False
        )
    for part in snapshot.parts:
        if part.web_port:
            console.print(f"  Web, API    {web_address(part)}", highlight=False)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
