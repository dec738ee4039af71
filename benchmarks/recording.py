"""`python -m benchmarks.recording`: how fast paths are recorded, what the marks of hours cost, and a bare COPY of the same rows.

    python -m benchmarks.recording             # in a PostgreSQL of its own; writes benchmarks/results/recording.json
    python -m benchmarks.recording --rounds 1 --paths 20000

What is recorded is what a request of eight paths leaves behind (`happened`), in the order of the log: in batches of 2,000 events,
as a recorder takes that has much before it, and of 13, as one does that keeps up with a trickle. Runs of each take turns,
A B A B: with the marks that hour roll-ups need, without, and, of large batches, a bare COPY of the very same rows into the same
tables, which takes no notice of what was delivered before, of offsets, erasure or hours. Events are decoded already; the CPU is
that of this process and of the server's.
"""

import asyncio
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import asyncpg
import click
from msgspec.structs import replace

from benchmarks.load.machine import Usage, usage
from benchmarks.measuring import in_turns, medians, record
from conclave.domain.recorded import RecordedEvent
from conclave.local.servers.postgres import PostgresServer
from conclave.store import roll_ups
from conclave.store.migrate import upgrade
from conclave.store.rows import SHARED_TABLES, TABLES, Rows, rows_of
from conclave.store.store import Store
from conclave.testing import events as made
from schemas import flow
from schemas.events import Event, ReasoningRequested
from schemas.ids import derived_request_id
from schemas.values import Ballot, TallyRow

_STATE = Path(__file__).parents[1] / ".conclave"  # which git ignores
_PER_REQUEST = 8
_BATCH = 2000
_TEXT = "Step 1: 347 + 85 = 432. Step 2: half of it is 216. " * 8
_AIM_PATHS_S, _AIM_OF_COPY = 5000.0, 0.6
_TRICKLE, _FEW = (
    1600,
    13,
)  # paths of each run at a trickle, and events at once: a tenth of a second at 12 requests a second

Batches = Sequence[Sequence[RecordedEvent]]


@click.command()
@click.option("--paths", "num_paths", default=120_000, show_default=True, help="Of each run with large batches.")
@click.option("--rounds", default=4, show_default=True)
def main(num_paths: int, rounds: int) -> None:
    """Records them, tells the figures, and exits with 1 where recording is slower than it is meant to be."""
    _STATE.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="recording-", dir=_STATE))
    try:
        found = asyncio.run(_measured(folder, num_paths, rounds))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for name, figure in found.items():
        click.echo(f"{name:<44} {figure:12.3f}")
    click.echo(record("recording", {"paths": num_paths, "rounds": rounds, **found}))
    raise SystemExit(int(found["paths_s"] < _AIM_PATHS_S or found["rows_s_of_bare_copy"] < _AIM_OF_COPY))


async def _measured(folder: Path, num_paths: int, rounds: int) -> dict[str, float]:
    server = PostgresServer(folder / "postgres")
    await server.start()
    try:
        await asyncio.to_thread(upgrade, server.dsn())
        return await Bench(server.dsn(), await _postmaster(server.dsn())).run(num_paths, rounds)
    finally:
        await server.stop()


async def _postmaster(dsn: str) -> int:
    """The pid of the server's first process, whose children the others are."""
    connection = await asyncpg.connect(dsn)
    try:
        return _parent(await connection.fetchval("SELECT pg_backend_pid()"))
    finally:
        await connection.close()


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


class Bench:
    """The runs. Each writes requests of its own, so that none finds the rows of another."""

    def __init__(self, dsn: str, postmaster: int) -> None:
        self._dsn, self._number = dsn, 0
        self._leaders = {"recorder": os.getpid(), "postgres": postmaster}
        self._cpu_us: dict[str, list[tuple[float, float]]] = {}

    async def run(self, num_paths: int, rounds: int) -> dict[str, float]:
        """Medians of all runs, and the ratios."""
        store = Store(self._dsn)
        await store.maintain(_now_ms())
        await store.claim([(row.topic.value, 0) for row in flow.TOPICS])
        runs: dict[str, Callable[[], Awaitable[float]]] = {
            "paths/s": lambda: self._recorded(store, "full", num_paths, _BATCH),
            "paths/s without marks": lambda: self._recorded(
                store, "full, no marks", num_paths, _BATCH, has_marks=False
            ),
            "paths/s of a bare COPY": lambda: self._copied(num_paths),
            "by 13, paths/s": lambda: self._recorded(store, "trickle", _TRICKLE, _FEW),
            "by 13, paths/s without marks": lambda: self._recorded(
                store, "trickle, no marks", _TRICKLE, _FEW, has_marks=False
            ),
        }
        try:
            await self._recorded(store, "warm-up", 4 * _PER_REQUEST * 100, _BATCH)
            taken = medians(await in_turns(runs, rounds=rounds))
        finally:
            await store.close()
        return {
            "paths_s": taken["paths/s"],
            "marks_full_ratio": taken["paths/s"] / taken["paths/s without marks"],
            "bare_copy_paths_s": taken["paths/s of a bare COPY"],
            "rows_s_of_bare_copy": taken["paths/s"] / taken["paths/s of a bare COPY"],
            "trickle_paths_s": taken["by 13, paths/s"],
            "marks_trickle_ratio": taken["by 13, paths/s"] / taken["by 13, paths/s without marks"],
            **self._costs(),
        }

    def _costs(self) -> dict[str, float]:
        """CPU microseconds a path, and how much more with marks than without."""
        medians_of = {
            name: (statistics.median(own for own, _ in each), statistics.median(server for _, server in each))
            for name, each in self._cpu_us.items()
        }
        bare, full = sum(medians_of["bare COPY"]), sum(medians_of["full"])
        found: dict[str, float] = {"bare_copy_us": bare, "cpu_of_bare_copy": bare / full}
        for name in ("full", "trickle"):
            own, server = medians_of[name]
            without = sum(medians_of[f"{name}, no marks"])
            found |= {f"{name}_recorder_us": own, f"{name}_postgres_us": server}
            found[f"marks_{name}_cpu_ratio"] = (own + server) / without
        return found

    async def _recorded(self, store: Store, name: str, num_paths: int, size: int, *, has_marks: bool = True) -> float:
        """Paths a second."""
        batches = self._batches(num_paths, size)
        hours = roll_ups.hours_of if has_marks else lambda rows: []
        with mock.patch.object(roll_ups, "hours_of", hours):
            began, before = time.perf_counter(), usage(self._leaders)
            for batch in batches:
                await store.write(batch, {(batch[-1].topic, 0): batch[-1].offset + 1})
            took_s = time.perf_counter() - began
            self._cost(name, before, num_paths)
        return num_paths / took_s

    def _cost(self, name: str, before: Mapping[str, Usage], num_paths: int) -> None:
        """Notes what a path has cost since then: of this process, and of the server."""
        after = usage(self._leaders)
        own, server = (1e6 * (after[each].cpu_s - before[each].cpu_s) / num_paths for each in self._leaders)
        self._cpu_us.setdefault(name, []).append((own, server))

    async def _copied(self, num_paths: int) -> float:
        """Paths a second of the same rows, made beforehand as a recorder makes them, by COPY into the same tables."""
        known: set[object] = set()
        batches = [_once(rows_of(batch), known) for batch in self._batches(num_paths, _BATCH)]
        connection = await asyncpg.connect(self._dsn)
        try:
            began, before = time.perf_counter(), usage(self._leaders)
            for rows in batches:
                async with connection.transaction():
                    for table, columns in TABLES.items():
                        if rows.get(table):
                            await connection.copy_records_to_table(table, records=rows[table], columns=columns)
            took_s = time.perf_counter() - began
            self._cost("bare COPY", before, num_paths)
            return num_paths / took_s
        finally:
            await connection.close()

    def _batches(self, num_paths: int, size: int) -> Batches:
        """As they lie in the log."""
        events: list[RecordedEvent] = []
        for _ in range(num_paths // _PER_REQUEST):
            self._number += 1
            for event in happened(self._number):
                topic = flow.topic_of(type(event)).value
                key, at = flow.subject_of(event), len(events)
                events.append(RecordedEvent(event, f"{self._number}/{at}", key, topic, 0, at, _now_ms(), None))
        return [events[start : start + size] for start in range(0, len(events), size)]


def _once(rows: Rows, known: set[object]) -> dict[str, list[Any]]:
    """The rows of a batch without those that were there before, each path's step: a bare COPY would refuse them.

    Shared tables are left out; `known` is of all batches.
    """
    found: dict[str, list[Any]] = {}
    for table, listed in rows.items():
        if table in SHARED_TABLES:
            continue
        if table not in ("steps", "step_payloads"):
            found[table] = listed
            continue
        found[table] = [row for row in listed if (table, *row[:3]) not in known]
        known |= {(table, *row[:3]) for row in listed}
    return found


def happened(number: int) -> Iterator[Event]:
    """What a request of eight paths leaves behind."""
    request_id = str(derived_request_id(_now_ms(), f"recorded {number}"))
    ballots = tuple(Ballot(sample_index=index, answer="216") for index in range(_PER_REQUEST))
    tally = (TallyRow(answer="216", votes=_PER_REQUEST, weight=float(_PER_REQUEST)),)
    yield ReasoningRequested(question=_TEXT[:200], request_id=request_id, tags={"user": f"{number % 500}"})
    yield replace(made.plan(), request_id=request_id)
    context = made.context(request_id=request_id, deadline_ms=_now_ms() + 600_000)
    for index in range(_PER_REQUEST):
        yield replace(
            made.decoded(context, index, _PER_REQUEST, "216"), text=_TEXT, mean_logprob=-0.2, min_logprob=-3.0
        )
    yield made.verdict(request_id=request_id, answer="216", ballots=ballots, tally=tally, launched=_PER_REQUEST)
    yield made.answer("216", request_id=request_id, tally=tally, num_paths=_PER_REQUEST)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


if __name__ == "__main__":
    main()
