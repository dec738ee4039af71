"""`python -m benchmarks.analyst`: how long analysts wait for each view of the record, on a million stored paths.

    python -m benchmarks.analyst             # generates in a PostgreSQL of its own; writes benchmarks/results/analyst.json
    python -m benchmarks.analyst --paths 100000 --explain flipped_votes

Requests of the last week (`analyst_record.sql`). What is asked of a view is what it is for (`QUESTIONS`): a view that adds up is
read whole, one that lists is read from its newest row on, or added up. As the analyst's role, three times; the median counts, on
warm buffers. Hours are added up but for the newest two (`_MARKED_HOURS`), as they are while a recorder runs.
"""

import asyncio
import shutil
import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import click

from benchmarks.measuring import record
from conclave.local.servers.postgres import PostgresServer
from conclave.store.migrate import upgrade
from conclave.store.roll_ups import RollUps
from conclave.store.store import Store

_RECORD = Path(__file__).with_name("analyst_record.sql")
_STATE = Path(__file__).parents[1] / ".conclave"  # which git ignores
_ROUNDS = 3
_DAYS = 7
_PER_REQUEST = 8.0  # paths, on average
_MARKED_HOURS = 2
_LIMIT_MS = 1000.0
_LIMIT_OF_ARMS_MS = 100.0

_LATEST = "SELECT * FROM {view} ORDER BY asked_at DESC LIMIT 100"
_SOME = "SELECT * FROM {view} LIMIT 100"
_WHOLE = "SELECT * FROM {view}"
_OF_ONE = (
    "SELECT * FROM {view} WHERE request_id = (SELECT request_id FROM request_summary ORDER BY asked_at DESC LIMIT 1)"
)
# What each view is asked.
QUESTIONS: dict[str, str] = {
    "request_summary": _LATEST,
    "asked_steps": _LATEST,
    "path_votes": _OF_ONE,
    "path_turns": _OF_ONE,
    "step_agreement": "SELECT arm, avg(agreement), avg(entropy) FROM {view} GROUP BY arm",
    "flipped_votes": "SELECT to_answer, count(*) FROM {view} GROUP BY to_answer ORDER BY 2 DESC LIMIT 20",
    "arm_votes": _WHOLE,
    "policy_hours": _WHOLE,
    "vote_hours": _WHOLE,
    "arm_hours": _WHOLE,
    "policy_cost": _WHOLE,
    "vote_correlation": _WHOLE,
    "vote_correlation_by_day": _WHOLE,
    "policy_changes": _WHOLE,
    "failed_paths": "SELECT failure, count(*) FROM {view} GROUP BY failure",
    "failed_requests": _LATEST,
    "experiment_history": _WHOLE,
    "recalled_requests": _LATEST,
    "weights_history": _WHOLE,
    "given_feedback": _LATEST,
    "experiment_exposures": (
        "SELECT variation_id, count(*) FROM (SELECT DISTINCT variation_id, user_id FROM {view}) t GROUP BY variation_id"
    ),
    "experiment_outcomes": _LATEST,
    "arms_by_day": _WHOLE,
    "sample_ratio": _WHOLE,
    "feedback_lag": _WHOLE,
    "calibration_bins": _WHOLE,
    "worst_questions": _LATEST,
    "review_queue": _LATEST,
    "orphan_feedback": _WHOLE,
    "shadow_answers": _LATEST,
    "shadow_agreement": _WHOLE,
}
# What answers by arm, for which a dashboard waits.
OF_ARMS = (
    "policy_cost",
    "arm_votes",
    "step_agreement",
    "arms_by_day",
    "sample_ratio",
    "policy_hours",
    "vote_hours",
    "arm_hours",
    "experiment_exposures",
    "shadow_agreement",
)


@click.command()
@click.option("--paths", "num_paths", default=1_000_000, show_default=True)
@click.option("--explain", "explained", help="Print the plan of this view's question.")
def main(num_paths: int, explained: str | None) -> None:
    """Generates the paths, asks each view, and records how long each took."""
    _STATE.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="analyst-", dir=_STATE))
    try:
        found = asyncio.run(_measured(folder, num_paths, explained))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    slow = {view: took for view, took in found.items() if took > (_LIMIT_OF_ARMS_MS if view in OF_ARMS else _LIMIT_MS)}
    for view, took in found.items():
        click.echo(f"{view:<24} {took:8.1f} ms{'  too slow' if view in slow else ''}")
    if explained is None:
        click.echo(record("analyst", {"paths": num_paths, "median_ms": found, "too_slow": sorted(slow)}))


async def _measured(folder: Path, num_paths: int, explained: str | None) -> dict[str, float]:
    server = PostgresServer(folder / "postgres")
    await server.start()
    try:
        await asyncio.to_thread(upgrade, server.dsn())
        await _partitioned(server.dsn())
        connection = await asyncpg.connect(server.dsn(), timeout=30)
        try:
            await _generate(connection, round(num_paths / _PER_REQUEST))
            await _added_up(server.dsn(), connection)
            return await _asked(connection, explained)
        finally:
            await connection.close()
    finally:
        await server.stop()


async def _partitioned(dsn: str) -> None:
    """Partitions for every day of the week that is generated."""
    store = Store(dsn)
    now = datetime.now(UTC)
    try:
        for days in range(_DAYS + 1, -1, -1):
            await store.maintain(round((now - timedelta(days=days)).timestamp() * 1000))
    finally:
        await store.close()


async def _generate(connection: asyncpg.Connection, num_requests: int) -> None:
    began = time.monotonic()
    await connection.execute("SET statement_timeout = 0")  # analysts' limit is the database's
    await connection.execute(f"SET conclave.requests = {num_requests}; SET conclave.days = {_DAYS}")
    await connection.execute(_RECORD.read_text())
    await connection.execute("VACUUM (ANALYZE)")
    number = await connection.fetchval("SELECT count(*) FROM paths")
    click.echo(f"{number:,} paths of {num_requests:,} requests generated in {time.monotonic() - began:.0f} s")


async def _added_up(dsn: str, connection: asyncpg.Connection) -> None:
    """Adds up all hours that there are, and marks the newest ones again, in which a recorder would be writing."""
    await connection.execute(
        "INSERT INTO rolled.marks SELECT DISTINCT date_bin('1 hour', asked_at, '2000-01-01Z') FROM requests"
    )
    sums, began = RollUps(dsn), time.monotonic()
    try:
        number = await sums.refresh()
    finally:
        await sums.close()
    click.echo(f"{number} hours added up in {time.monotonic() - began:.1f} s")
    await connection.execute(
        f"INSERT INTO rolled.marks SELECT DISTINCT hour FROM rolled.policy_hours ORDER BY 1 DESC LIMIT {_MARKED_HOURS}"
    )
    await connection.execute("VACUUM (ANALYZE) rolled.policy_hours, rolled.vote_hours, rolled.arm_hours, rolled.marks")


async def _asked(connection: asyncpg.Connection, explained: str | None) -> dict[str, float]:
    """Milliseconds by view; of one without a question of its own, some rows are asked for."""
    rows = await connection.fetch("SELECT viewname FROM pg_views WHERE schemaname = 'public' ORDER BY 1")
    questions = {row["viewname"]: _SOME for row in rows} | QUESTIONS
    await connection.execute("RESET statement_timeout; SET ROLE analyst; SET jit = off")
    found = {}
    for view, question in questions.items():
        query = question.format(view=view)
        if view == explained:
            for row in await connection.fetch(f"EXPLAIN (ANALYZE, BUFFERS, SUMMARY) {query}"):
                click.echo(row[0])
        await connection.fetch(query)  # warm
        figures = []
        for _ in range(_ROUNDS):
            began = time.perf_counter()
            await connection.fetch(query)
            figures.append(1000 * (time.perf_counter() - began))
        found[view] = round(statistics.median(figures), 1)
    return found


if __name__ == "__main__":
    main()
