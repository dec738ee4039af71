"""Where the time of requests went, from the record and from who asked."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from benchmarks.load.arrivals import Level
from benchmarks.load.driving import Asked

# From one moment of a request to the next; the last two are of no stage, and overlap the others.
STAGES = {
    "into the log": ("asked", "taken"),
    "planned": ("taken", "planned"),
    "first path": ("planned", "first_path"),
    "decided": ("first_path", "decided"),
    "concluded": ("decided", "answered"),
    "told": ("answered", "told"),
    "all of it": ("asked", "told"),
    "until it was accepted": ("asked", "accepted"),
}
_MOMENTS = """
    SELECT a.request_id::text, extract(epoch FROM r.recorded_at)::float8 AS taken,
           extract(epoch FROM p.planned_at)::float8 AS planned, extract(epoch FROM a.answered_at)::float8 AS answered,
           (SELECT extract(epoch FROM min(recorded_at))::float8 FROM paths WHERE request_id = a.request_id) AS first_path,
           (SELECT extract(epoch FROM max(decided_at))::float8 FROM verdicts WHERE request_id = a.request_id) AS decided
    FROM answers a JOIN plans p USING (asked_at, request_id) JOIN requests r USING (asked_at, request_id)
    WHERE a.request_id = ANY($1::uuid[])
"""
_PATHS = """
    SELECT request_id::text, waited_ms, queued_ms, first_token_ms, total_ms, tokens_out FROM paths
    WHERE request_id = ANY($1::uuid[]) AND failure IS NULL
"""
_AT_ONCE = 5_000


@dataclass(frozen=True, slots=True)
class PathFigures:
    """What the record knows of a decoded path, in milliseconds and tokens; None: unknown."""

    request_id: str
    waited_ms: float | None  # for turns on the engine, in the decoder
    queued_ms: float | None  # in the engine's own queue
    first_token_ms: float | None
    total_ms: float
    tokens_out: int | None


async def recorded(dsn: str, asked: Sequence[Asked]) -> tuple[dict[str, dict[str, float]], list[PathFigures]]:
    """The moments of each request, in seconds since 1970, and all its decoded paths."""
    connection = await asyncpg.connect(dsn)
    moments: dict[str, dict[str, float]] = {}
    paths: list[PathFigures] = []
    try:
        ids = [each.request_id for each in asked]
        for first in range(0, len(ids), _AT_ONCE):
            some = ids[first : first + _AT_ONCE]
            rows = await connection.fetch(_MOMENTS, some)
            moments |= {row["request_id"]: {k: v for k, v in row.items() if isinstance(v, float)} for row in rows}
            paths += [PathFigures(**row) for row in await connection.fetch(_PATHS, some)]
    finally:
        await connection.close()
    return moments, paths


def spans(asked: Sequence[Asked], moments: dict[str, dict[str, float]]) -> dict[Level, dict[str, list[float]]]:
    """Milliseconds of each stage of each request, by level. What was told before it was recorded took no time."""
    found: dict[Level, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for each in asked:
        known = {**moments.get(each.request_id, {}), "asked": each.asked, "told": each.told}
        if each.accepted is not None:
            known["accepted"] = each.accepted
        for name, (first, last) in STAGES.items():
            if first in known and last in known:
                found[each.level][name].append(1000 * max(0.0, known[last] - known[first]))
    return found
