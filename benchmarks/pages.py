"""How long the server takes over each page of a large record: `python -m benchmarks.pages [--paths N]`.

A PostgreSQL of its own gets so many paths, spread over a month, by COPY; then each page is asked for in turns, through the same
application that the gateway serves. What counts is the time until the whole page is there: exit status 1 where the median of one is
above `--limit-ms`. Left out are `/system/log` and dead letters, which ask Kafka and no table, and the report of an experiment: it
counts all of its units, and comes into its page when it is there. `--explain` prints the plans.
"""

import argparse
import asyncio
import bisect
import json
import random
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
from starlette.applications import Starlette
from starlette.types import Message, Scope

from benchmarks.measuring import in_turns, medians, percentile, record
from conclave.domain.recorded import RecordedEvent
from conclave.local.servers.postgres import PostgresServer
from conclave.store import figures, listing
from conclave.store.learning import Learning
from conclave.store.listing import Filter, Key
from conclave.store.migrate import upgrade
from conclave.store.reader import Reader
from conclave.store.reviews import Reviews
from conclave.store.rows import TABLES
from conclave.store.store import Store
from conclave.store.view import RecordView
from conclave.testing import events as made
from schemas import flow
from schemas.ids import derived_request_id
from services.gateway.pages import routes

_PATHS_A_REQUEST = 5
_DAYS = 30
_POLICIES = ("default", "sure", "fixed-8", "least-to-most", "escalate")
_WORDS = ("apples", "pens", "books", "dollars", "shells", "cards", "cups", "coins", "keys", "nuts", "balls", "beads")
_TEXT = "Step 1: 347 + 85 = 432\nStep 2: 432 - 120 = 312\nAnswer: 312\n" * 4

_EXPERIMENT = "trial"
# Of 2,000 requests in a row, those of each tenant: nearly all, one in ten, and one.
_TENANTS, _TENANTS_UP_TO = ("shop", "lab", "rare"), (1799, 1999)
Rows = dict[str, list[dict[str, Any]]]


def rows_of_requests(first: int, num: int, total: int, now: datetime) -> Rows:
    """The rows of `num` requests out of `total`, the later ones nearer to now."""
    rng = random.Random(first)
    rows: Rows = {table: [] for table in (*TABLES, "gateway_requests")}
    for number in range(first, first + num):
        asked = now - timedelta(days=_DAYS) * (1 - number / total)
        _request(rows, rng, number, asked.replace(microsecond=asked.microsecond // 1000 * 1000))
    return rows


def _request(rows: Rows, rng: random.Random, number: int, at: datetime) -> None:
    key = (uuid.UUID(derived_request_id(round(at.timestamp() * 1000), f"pages {number}")), at)
    policy, answer = rng.choice(_POLICIES), str(rng.randrange(1000))
    is_assigned = number % 2 == 0
    arm = "ab"[number // 2 % 2] if is_assigned else "default"
    question = (
        f"Tom has {rng.randrange(999)} {rng.choice(_WORDS)} and {rng.randrange(99)} {rng.choice(_WORDS)}. How many?"
    )
    said = [answer if rng.random() < 0.8 else str(rng.randrange(1000)) for _ in range(_PATHS_A_REQUEST)]
    votes = said.count(answer)
    sure = rng.betavariate(8, 1.5)
    share = votes / len(said)
    later = at + timedelta(milliseconds=900)
    new: dict[str, dict[str, Any]] = {
        "requests": {"recorded_at": at, "deadline_s": 600.0},
        "gateway_requests": {"tenant": _TENANTS[bisect.bisect(_TENANTS_UP_TO, number % 2000)], "digest": b"", "created_at": at,
                             "deadline_at": later},
        "request_payloads": {"question": question, "tags": "{}"},
        "plans": {"planned_at": at, "strategy": "vote", "arm": arm, "propensity": 0.5 if is_assigned else 1.0, "policy": policy,
                  "num_steps": 1, "deadline_at": later, "policy_digest": "", "log_partition": 0, "log_offset": number,
                  "experiment": _EXPERIMENT if is_assigned else None, "revision": 1 if is_assigned else None,
                  "unit": f"user {number % 5000}" if is_assigned else None, "draw": number if is_assigned else None},
        "plan_payloads": {"reasons": "{}"},
        "steps": {"step_index": 0, "depends_on": [], "ask": "whole", "mark": ""},
        "step_payloads": {"step_index": 0, "question": question, "fields": "{}", "why": ""},
        "verdicts": {"step_index": 0, "decided_at": later, "outcome": "majority", "stop_reason": "confident", "answer": answer,
                     "confidence": sure, "margin": share / 2, "agreement": share, "entropy": 0.4, "launched": len(said),
                     "policy": policy, "arm": arm, "num_votes": len(said), "num_for_winner": votes,
                     "num_flips": int(number % 9 == 0)},
        "verdict_payloads": {"step_index": 0, "tally": json.dumps([{"answer": answer, "votes": votes, "weight": votes}])},
        "answers": {"answered_at": later, "outcome": "majority", "answer": answer, "confidence": sure, "margin": share / 2,
                    "strategy": "vote", "arm": arm, "policy": policy, "num_paths": len(said), "tokens_in": 200,
                    "tokens_out": 60 * len(said), "elapsed_ms": rng.lognormvariate(6.5, 0.6), "answered_by": 0,
                    "ended_by": "decided", "log_partition": 0, "log_offset": number},
        "answer_payloads": {"steps": "[]", "tally": "[]"},
    }  # fmt: skip
    if number % 20 == 0:
        new["feedback"] = {"event_id": "1", "given_at": later, "reward": float(rng.random() < sure), "source": "ann",
                           "event_source": "/a", "rater": "expert" if number % 100 == 0 else "user", "log_partition": 0,
                           "log_offset": number}  # fmt: skip
        new["feedback_payloads"] = {"event_id": "1", "event_source": "/a"}
    for table, values in new.items():
        rows[table].append(_row(key, values))
    for index, each in enumerate(said):
        _path(rows, rng, key, index, each, policy)


def _path(rows: Rows, rng: random.Random, key: tuple[uuid.UUID, datetime], index: int, said: str, policy: str) -> None:
    place = {"step_index": 0, "sample_index": index}
    took = rng.lognormvariate(6, 0.4)
    figures = {"tokens_in": 40, "tokens_out": 60, "mean_logprob": -0.1}
    path = {
        "recorded_at": key[1],
        "launched": 5,
        "answer": said,
        "finish_reason": "stop",
        "min_logprob": -1.0,
        "queued_ms": 9.0,
        "first_token_ms": 60.0,
        "total_ms": took,
        "model": "reasoner",
        "engine": "vllm",
        "policy": policy,
        "arm": "default",
    }
    rows["paths"].append(_row(key, place | figures | path))
    rows["path_payloads"].append(_row(key, place | {"text": _TEXT, "turns": "[]"}))
    rows["ballots"].append(_row(key, place | figures | {"answer": said, "weight": 1.0}))


def _row(key: tuple[uuid.UUID, datetime], values: dict[str, Any]) -> dict[str, Any]:
    return {"request_id": key[0], "asked_at": key[1], **values}


async def fill(dsn: str, num_paths: int) -> list[str]:
    """Fills the record, and returns ids of some of its requests."""
    now, total = datetime.now(UTC), num_paths // _PATHS_A_REQUEST
    store = Store(dsn)
    days = [round((now - timedelta(days=back)).timestamp() * 1000) for back in range(_DAYS + 1, -1, -1)]
    for day_ms in days:
        await store.maintain(day_ms)
    began = made.started(made.experiment(name=_EXPERIMENT), changed_ms=days[0])
    topic = flow.topic_of(type(began)).value
    await store.write([RecordedEvent(began, "1", _EXPERIMENT, topic, 0, 0, days[0], None, "/a")], {})
    await store.close()
    connection = await asyncpg.connect(dsn)
    for first in range(0, total, 5_000):
        rows = rows_of_requests(first, min(5_000, total - first), total, now)
        for table, records in rows.items():
            if records:  # every row of a table says the same of itself; what it does not say is as the table has it
                values = [tuple(each.values()) for each in records]
                await connection.copy_records_to_table(table, records=values, columns=list(records[0]))
    await connection.execute("ANALYZE")
    found = await connection.fetch("SELECT request_id FROM requests TABLESAMPLE SYSTEM (1) LIMIT 20")
    await connection.close()
    return [str(row["request_id"]) for row in found]


async def fetch(app: Starlette, path: str, query: str = "") -> float:
    """How many milliseconds a page took. Raises: AssertionError when it was not there."""
    scope: Scope = {
        "type": "http", "http_version": "1.1", "method": "GET", "scheme": "http", "path": path, "raw_path": path.encode(),
        "query_string": query.encode(), "headers": [(b"host", b"localhost")], "server": ("localhost", 80), "root_path": "",
    }  # fmt: skip
    status = 0

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status
        status = message.get("status", status)

    started = time.perf_counter()
    await app(scope, receive, send)
    assert status == 200, f"{path}: {status}"
    return (time.perf_counter() - started) * 1000


def pages(app: Starlette, ids: list[str], deep: Key) -> dict[str, Callable[[], Awaitable[float]]]:
    """Every page, and lists with each filter."""
    stories = _cycled(ids)
    place = f"before={deep.asked_at.strftime('%Y-%m-%dT%H:%M:%S.%f')}%2B00:00&before_id={deep.request_id}"
    queries = {
        "list": "",
        "list, far back": place,
        "list by policy": "policy=sure",
        "list by arm": "arm=b",
        "list by confidence": "max_confidence=0.5",
        "list by agreement": "max_agreement=0.3",
        "list by words": "text=shells+coins",
        "list by a rare word": "text=%22tom+has+7%22",
        "list by words that are not there": "text=xyzzy",
        "list of failures": "outcome=failed",
        "list of open ones": "outcome=open",
        "list with feedback": "has_feedback=1",
        "list by tenant": "tenant=lab",
        "list by a rare tenant": "tenant=rare",
        "list by a rare tenant and policy": "tenant=rare&policy=sure",
        "list by a rare tenant and words": "tenant=rare&text=shells",
        "list by a tenant that is not there": "tenant=nobody",
    }
    return {
        **{name: lambda query=query: fetch(app, "/requests", query) for name, query in queries.items()},  # type: ignore[misc]
        "first page": lambda: fetch(app, "/"),
        "live": lambda: fetch(app, "/live"),
        "a request": lambda: fetch(app, f"/requests/{next(stories)}"),
        "a request as JSON": lambda: fetch(app, f"/requests/{next(stories)}.json"),
        "comparison": lambda: fetch(app, "/compare", f"id={next(stories)}&id={next(stories)}"),
        "quality": lambda: fetch(app, "/quality"),
        "experiments": lambda: fetch(app, "/experiments"),
        "an experiment": lambda: fetch(app, f"/experiments/{_EXPERIMENT}"),
        "review": lambda: fetch(app, "/review", "reviewer=ann"),
        "system": lambda: fetch(app, "/system"),
        "changes": lambda: fetch(app, "/system/changes"),
    }


def _cycled(ids: list[str]) -> Iterator[str]:
    while True:
        yield from ids


async def explain(reader: Reader) -> None:
    """Prints how the server goes about each list and figure."""
    queries: dict[str, tuple[str, dict[str, Any]]] = {
        "policies": (figures._POLICIES, {}),
        "calibration": (figures._CALIBRATION, {}),
    }
    for wanted in (
        Filter(),
        Filter(policy="sure"),
        Filter(text="shells coins"),
        Filter(max_agreement=0.3),
        Filter(text="xyzzy"),
    ):
        query, values = listing.keys_query(wanted, None)
        queries[str(wanted)] = (query, values | {"limit": 51})
    for name, (query, values) in queries.items():
        print(name)
        for row in await reader.rows(f"EXPLAIN (ANALYZE, COSTS OFF) {query}", values):
            if "never executed" not in row["QUERY PLAN"]:
                print("   ", row["QUERY PLAN"])


async def main() -> None:
    """Fills, measures, records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--paths", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--home", type=Path, help="keeps the server's data there")
    parser.add_argument("--explain", action="store_true")
    parser.add_argument("--limit-ms", type=float, default=300.0)
    parser.add_argument("--record", action="store_true", help="writes the result to benchmarks/results/")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="conclave-pages-") as folder:
        server = PostgresServer((arguments.home or Path(folder)) / "postgres")
        dsn = await server.start()
        try:
            await asyncio.to_thread(upgrade, dsn)
            ids = await fill(dsn, arguments.paths)
            reader = Reader(dsn)
            if arguments.explain:
                await explain(reader)
            deep = (await RecordView(reader).requests(Filter(), limit=1)).lines[0]
            key = Key(deep.asked_at - timedelta(days=_DAYS - 2), deep.request_id)
            trials, desk = Learning(dsn), Reviews(dsn)
            app = Starlette(routes=routes(reader, trials=trials, desk=desk))
            taken = await in_turns(pages(app, ids, key), rounds=arguments.rounds)
            for each in (reader, trials, desk):
                await each.close()
        finally:
            await server.stop()
    result = {
        "num_paths": arguments.paths,
        "median_ms": {name: round(each, 1) for name, each in medians(taken).items()},
        "slowest_ms": {name: round(percentile(each, 1.0), 1) for name, each in taken.items()},
    }
    print(json.dumps(result, indent=1))
    if arguments.record:
        print("recorded in", record("pages", result))
    slow = {name: each for name, each in medians(taken).items() if each > arguments.limit_ms}
    print(f"above {arguments.limit_ms:g} ms: {', '.join(slow) or 'none'}")
    sys.exit(1 if slow else 0)


if __name__ == "__main__":
    asyncio.run(main())
