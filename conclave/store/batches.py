"""Files of requests, and batches of them, in Postgres: any gateway goes on with what another has begun.

A line is claimed for a while, asked under an idempotency key of its own, and then has its request's id: whoever claims it again
after a crash asks the same request. What came of it is in `answers`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import text

from conclave.store.connection import lost_when_away, make_engine

_CLAIM_S = 60.0

_ADD_FILE = text("""
    INSERT INTO gateway_files (file_id, tenant, filename, content) VALUES (:file_id, :tenant, :filename, :content)
    RETURNING created_at
""")
_FILE = text("""
    SELECT file_id, tenant, filename, octet_length(content) AS num_bytes, created_at FROM gateway_files
    WHERE file_id = :file_id
""")
_CONTENT = text("SELECT content FROM gateway_files WHERE file_id = :file_id")
_ADD_BATCH = text("""
    INSERT INTO gateway_batches (batch_id, tenant, file_id, window_s, is_redacted, metadata, deadline_at)
    VALUES (:batch_id, :tenant, :file_id, :window_s, :is_redacted, CAST(:metadata AS jsonb), now() + CAST(:window AS interval))
""")
_ADD_LINES = text("""
    INSERT INTO gateway_batch_lines (batch_id, line, custom_id, body, error)
    SELECT :batch_id, line, custom_id, body, error
    FROM jsonb_to_recordset(CAST(:lines AS jsonb)) AS given (line integer, custom_id text, body jsonb, error text)
""")
_BATCHES = """
    SELECT b.batch_id, b.tenant, b.file_id, b.window_s, b.metadata, b.created_at, b.deadline_at, b.cancelled_at,
           b.deadline_at <= now() AS is_over, count(*) AS num_lines,
           count(a.request_id) FILTER (WHERE a.failure IS NULL) AS num_answered,
           count(*) FILTER (WHERE a.failure IS NOT NULL OR l.error IS NOT NULL) AS num_failed,
           count(*) FILTER (WHERE l.request_id IS NOT NULL AND a.request_id IS NULL) AS num_open
    FROM gateway_batches b JOIN gateway_batch_lines l USING (batch_id)
    LEFT JOIN answers a ON a.request_id = l.request_id AND a.asked_at = l.asked_at
    WHERE {condition} GROUP BY b.batch_id ORDER BY b.created_at DESC LIMIT :limit
"""
_CLAIM = text("""
    WITH room AS (
        SELECT greatest(0, :max_open - count(*)) AS lines FROM gateway_batch_lines l
        JOIN gateway_batches b USING (batch_id)
        WHERE b.deadline_at > now() AND l.request_id IS NOT NULL AND NOT EXISTS
            (SELECT 1 FROM answers a WHERE a.request_id = l.request_id AND a.asked_at = l.asked_at)),
    chosen AS (
        SELECT l.batch_id, l.line FROM gateway_batch_lines l JOIN gateway_batches b USING (batch_id)
        LEFT JOIN tenants t ON t.tenant = b.tenant AND t.waits_until > now()
        WHERE l.request_id IS NULL AND l.error IS NULL AND b.cancelled_at IS NULL AND b.deadline_at > now() AND t.tenant IS NULL
            AND (l.claimed_at IS NULL OR l.claimed_at < now() - CAST(:lease AS interval))
        ORDER BY b.created_at, l.line LIMIT (SELECT lines FROM room) FOR UPDATE OF l SKIP LOCKED)
    UPDATE gateway_batch_lines l SET claimed_at = now()
    FROM chosen c, gateway_batches b LEFT JOIN tenants t ON t.tenant = b.tenant
    WHERE l.batch_id = c.batch_id AND l.line = c.line AND b.batch_id = l.batch_id
    RETURNING l.batch_id, l.line, l.body, b.tenant, b.is_redacted, extract(epoch FROM b.deadline_at - now()) AS left_s,
        t.tokens_per_day
""")
_ASKED = text("""
    UPDATE gateway_batch_lines SET request_id = :request_id, asked_at = :asked_at WHERE batch_id = :batch_id AND line = :line
""")
_PUT_BACK = text("""
    UPDATE gateway_batch_lines SET claimed_at = NULL WHERE batch_id = :batch_id AND line = :line AND request_id IS NULL
""")
_REFUSED = text("UPDATE gateway_batch_lines SET error = :error WHERE batch_id = :batch_id AND line = :line")
_ENDED = text("""
    SELECT l.line, l.custom_id, l.error, l.request_id, l.body, a.failure, a.outcome, a.answer, a.confidence, a.margin, a.strategy,
           a.policy, a.arm, a.answered_by, a.num_paths, a.tokens_in, a.tokens_out, a.elapsed_ms, p.message, p.steps, p.tally,
           v.fields
    FROM gateway_batch_lines l
    LEFT JOIN answers a ON a.request_id = l.request_id AND a.asked_at = l.asked_at
    LEFT JOIN answer_payloads p ON p.request_id = a.request_id AND p.asked_at = a.asked_at
    LEFT JOIN verdict_payloads v
        ON v.request_id = a.request_id AND v.asked_at = a.asked_at AND v.step_index = coalesce(a.answered_by, 0)
    WHERE l.batch_id = :batch_id AND l.line >= :first AND (l.error IS NOT NULL OR a.request_id IS NOT NULL)
    ORDER BY l.line LIMIT :limit
""")
_OPEN = text("""
    SELECT l.request_id FROM gateway_batch_lines l WHERE l.batch_id = :batch_id AND l.request_id IS NOT NULL AND NOT EXISTS
        (SELECT 1 FROM answers a WHERE a.request_id = l.request_id AND a.asked_at = l.asked_at)
""")


@dataclass(frozen=True, slots=True)
class FileRow:
    """A file, without what is in it."""

    file_id: str
    tenant: str
    filename: str
    num_bytes: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class BatchRow:
    """A batch, and how far it is."""

    batch_id: str
    tenant: str
    file_id: str
    window_s: float
    metadata: dict[str, str]
    created_at: datetime
    deadline_at: datetime
    cancelled_at: datetime | None
    is_over: bool
    num_lines: int
    num_answered: int
    num_failed: int
    num_open: int


@dataclass(frozen=True, slots=True)
class Line:
    """A line as a batch is made of it: what is to be asked, or what is wrong with it."""

    line: int
    custom_id: str
    body: Any = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Claimed:
    """A line that is ours to ask, for a while."""

    batch_id: str
    line: int
    body: Any
    tenant: str
    is_redacted: bool
    left_s: float
    tokens_per_day: int | None = None  # of its tenant


class BatchStore:
    """See the module's docstring. Every method raises LostDependency while Postgres is away."""

    def __init__(self, dsn: str, *, connections: int = 2) -> None:
        self._engine = make_engine(dsn, connections=connections, statement_timeout_s=30.0)

    async def close(self) -> None:
        """Closes the connections."""
        await self._engine.dispose()

    async def add_file(self, file_id: str, tenant: str, filename: str, content: str) -> FileRow:
        """Keeps a file."""
        values = {"file_id": file_id, "tenant": tenant, "filename": filename, "content": content}
        async with lost_when_away(), self._engine.begin() as connection:
            created_at = (await connection.execute(_ADD_FILE, values)).scalar_one()
        return FileRow(file_id, tenant, filename, len(content.encode()), created_at)

    async def file(self, file_id: str) -> FileRow | None:
        """A file; None when there is none."""
        async with lost_when_away(), self._engine.connect() as connection:
            row = (await connection.execute(_FILE, {"file_id": file_id})).one_or_none()
        return None if row is None else FileRow(*row)

    async def content(self, file_id: str) -> str:
        """What is in a file that there is."""
        async with lost_when_away(), self._engine.connect() as connection:
            return str((await connection.execute(_CONTENT, {"file_id": file_id})).scalar_one())

    async def add(
        self,
        batch_id: str,
        tenant: str,
        file_id: str,
        window_s: float,
        lines: Sequence[Line],
        *,
        is_redacted: bool,
        metadata: dict[str, str],
    ) -> None:
        """Keeps a batch, all of it or nothing."""
        values = {
            "batch_id": batch_id,
            "tenant": tenant,
            "file_id": file_id,
            "window_s": window_s,
            "window": timedelta(seconds=window_s),
            "is_redacted": is_redacted,
            "metadata": msgspec.json.encode(metadata).decode(),
        }
        async with lost_when_away(), self._engine.begin() as connection:
            await connection.execute(_ADD_BATCH, values)
            await connection.execute(
                _ADD_LINES, {"batch_id": batch_id, "lines": msgspec.json.encode(list(lines)).decode()}
            )

    async def batch(self, batch_id: str) -> BatchRow | None:
        """A batch; None when there is none."""
        found = await self._batches("b.batch_id = :batch_id", {"batch_id": batch_id, "limit": 1})
        return found[0] if found else None

    async def batches(self, tenant: str, limit: int) -> list[BatchRow]:
        """A tenant's latest batches."""
        return await self._batches("b.tenant = :tenant", {"tenant": tenant, "limit": limit})

    async def cancel(self, batch_id: str) -> list[str]:
        """Has nothing more of a batch be asked, and says which of its requests are open."""
        mark = text(
            "UPDATE gateway_batches SET cancelled_at = coalesce(cancelled_at, now()) WHERE batch_id = :batch_id"
        )
        async with lost_when_away(), self._engine.begin() as connection:
            await connection.execute(mark, {"batch_id": batch_id})
            return [str(row[0]) for row in await connection.execute(_OPEN, {"batch_id": batch_id})]

    async def claim(self, max_open: int) -> list[Claimed]:
        """Lines to be asked now, so that no more than `max_open` are open in all batches together."""
        values = {"max_open": max_open, "lease": timedelta(seconds=_CLAIM_S)}
        async with lost_when_away(), self._engine.begin() as connection:
            rows = (await connection.execute(_CLAIM, values)).all()
        return [Claimed(row[0], row[1], _json(row[2]), row[3], row[4], float(row[5]), row[6]) for row in rows]

    async def asked(self, claimed: Claimed, request_id: str, asked_at: datetime) -> None:
        """Notes the request that a line became."""
        values = {"request_id": request_id, "asked_at": asked_at, "batch_id": claimed.batch_id, "line": claimed.line}
        async with lost_when_away(), self._engine.begin() as connection:
            await connection.execute(_ASKED, values)

    async def put_back(self, claimed: Claimed) -> None:
        """Has a line be claimed again at once, when its tenant waits for nothing any more."""
        async with lost_when_away(), self._engine.begin() as connection:
            await connection.execute(_PUT_BACK, {"batch_id": claimed.batch_id, "line": claimed.line})

    async def refused(self, claimed: Claimed, error: str) -> None:
        """Notes why a line can't be asked."""
        values = {"error": error, "batch_id": claimed.batch_id, "line": claimed.line}
        async with lost_when_away(), self._engine.begin() as connection:
            await connection.execute(_REFUSED, values)

    async def ended(self, batch_id: str, *, first: int, limit: int) -> list[dict[str, Any]]:
        """Lines from `first` on that have ended, in order: with the row of `answers`, or with `error`."""
        values = {"batch_id": batch_id, "first": first, "limit": limit}
        async with lost_when_away(), self._engine.connect() as connection:
            rows = (await connection.execute(_ENDED, values)).mappings().all()
        return [{**row, **{name: _json(row[name]) for name in ("steps", "tally", "fields", "body")}} for row in rows]

    async def forget(self, older_than_days: int) -> int:
        """How many files and batches were dropped, those of before so many days."""
        age, num_dropped = {"age": timedelta(days=older_than_days)}, 0
        async with lost_when_away(), self._engine.begin() as connection:
            for table in ("gateway_batches", "gateway_files"):
                statement = text(f"DELETE FROM {table} WHERE created_at < now() - CAST(:age AS interval)")
                num_dropped += (await connection.execute(statement, age)).rowcount
        return num_dropped

    async def _batches(self, condition: str, values: dict[str, Any]) -> list[BatchRow]:
        async with lost_when_away(), self._engine.connect() as connection:
            rows = (await connection.execute(text(_BATCHES.format(condition=condition)), values)).mappings().all()
        return [BatchRow(**{**row, "metadata": _json(row["metadata"])}) for row in rows]


def _json(value: Any) -> Any:
    """What is kept as JSON comes as text."""
    return msgspec.json.decode(value) if isinstance(value, str) else value
