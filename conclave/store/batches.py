"""Batches of requests in Postgres: any gateway goes on with what another has begun.

A line waits, is open while it is claimed and its request runs, and has ended. It is claimed for a while, asked under an idempotency
key of its own, and then has its request's id: whoever claims it again after a crash asks the same request. What came of it is
in `answers`; a batch counts those of its lines that have ended, so that neither a claim nor a look at a batch reads all lines.

Requests of a batch that is cancelled are noted as cancelled in the same transaction (conclave.store.cancellations): whatever dies
then, some gateway publishes that.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import text

from conclave.store import batch_queries as sql
from conclave.store.cancellations import cancellation_of, note
from conclave.store.connection import lost_when_away, make_engine
from conclave.store.erased_lines import erase_line_if_noted
from conclave.store.files import Key, OverBytes, Reused, known_id, lock_tenant, of_key, over_bytes
from conclave.store.forgetting import forgotten
from schemas.events import RequestCancelled

_CLAIM_S = 60.0
_FORGOTTEN_AT_ONCE = 4  # with up to 50,000 lines each
_SWEPT = 2000  # lines of batches that are over, a look
_JSON = ("steps", "tally", "fields", "body")


@dataclass(frozen=True, slots=True)
class NewBatch:
    """A batch that is to be kept. `num_bytes` is what its lines take."""

    batch_id: str
    tenant: str
    file_id: str
    window_s: float
    is_redacted: bool = True
    metadata: dict[str, str] = field(default_factory=dict)
    num_bytes: int = 0


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
    is_over: bool  # its window has ended
    num_lines: int
    num_answered: int
    num_failed: int
    num_unasked: (
        int  # for good, as far as counted; of those that still wait, nobody asks any when it is over or cancelled
    )
    num_open: int  # about to be asked, or asked and without an end

    @property
    def num_waiting(self) -> int:
        """How many lines wait to be asked."""
        return self.num_lines - self.num_answered - self.num_failed - self.num_unasked - self.num_open


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
    is_kept: bool = True  # the words of its tenant's requests, in the record


class BatchStore:
    """See the module's docstring. Every method raises LostDependency while Postgres is away."""

    def __init__(self, dsn: str, *, connections: int = 2) -> None:
        self._engine = make_engine(dsn, connections=connections, statement_timeout_s=30.0)

    async def close(self) -> None:
        """Closes the connections."""
        await self._engine.dispose()

    async def add(
        self, batch: NewBatch, lines: Sequence[Line], *, key: Key | None = None, max_bytes: int
    ) -> str | Reused | OverBytes:
        """The id of a batch that is kept, all of it or nothing: an earlier one that came with the same key."""
        values = {name: getattr(batch, name) for name in batch.__slots__} | {
            "window": timedelta(seconds=batch.window_s),
            "metadata": msgspec.json.encode(batch.metadata).decode(),
            "num_lines": len(lines),
            "num_failed": sum(line.error is not None for line in lines),
        }
        asked = {"batch_id": batch.batch_id, "lines": msgspec.json.encode(list(lines)).decode()}
        async with lost_when_away(), self._engine.begin() as connection:
            await lock_tenant(connection, batch.tenant)
            known = await known_id(connection, "gateway_batches", "batch_id", batch.tenant, key)
            found = known or await over_bytes(connection, batch.tenant, batch.num_bytes, max_bytes)
            if found is not None:
                return found
            await connection.execute(sql.ADD_BATCH, values | of_key(key))
            await connection.execute(sql.ADD_LINES, asked)
        return batch.batch_id

    async def known(self, tenant: str, key: Key | None) -> str | Reused | None:
        """The id of the batch that came with this key; None when none did."""
        async with lost_when_away(), self._engine.connect() as connection:
            return await known_id(connection, "gateway_batches", "batch_id", tenant, key)

    async def batch(self, batch_id: str) -> BatchRow | None:
        """A batch; None when there is none."""
        found = await self._batches("batch_id = :batch_id", {"batch_id": batch_id, "limit": 1})
        return found[0] if found else None

    async def batches(self, tenant: str, limit: int, *, after: str | None = None) -> list[BatchRow]:
        """A tenant's batches, the latest first; those that come after one of them."""
        values = {"tenant": tenant, "limit": limit}
        if after is None:
            return await self._batches("tenant = :tenant", values)
        return await self._batches(f"tenant = :tenant AND {sql.BEFORE}", values | {"after": after})

    async def cancel(self, batch_id: str) -> list[RequestCancelled]:
        """Has nothing more of a batch be asked, unless it is over: the cancellations of its open requests, which are noted."""
        async with lost_when_away(), self._engine.begin() as connection:
            await connection.execute(sql.CANCEL, {"batch_id": batch_id})
            rows = await connection.execute(sql.OPEN, {"batch_id": batch_id})
            noted = [cancellation_of(str(request_id), window_s) for request_id, window_s in rows]
            await note(connection, noted)
        return noted

    async def claim(self, max_open: int) -> list[Claimed]:
        """Lines to be asked now, so that no more than `max_open` are open in all batches together.

        Tenants are served in turn: who has the fewest open comes first. Of a tenant's lines, those whose window ends first.
        One gateway at a time; nothing, while another one does.

        1. Lines whose request has ended are counted, and those that were claimed in vain wait again. Of a cancelled batch these are
           given out again instead: they may have been published, and whoever asks them the same hears that nobody wants it.
        2. Lines of batches that are over, which nobody will ask, are counted too, some at a time.
        3. What room that leaves is given out.
        """
        lease = {"lease": timedelta(seconds=_CLAIM_S)}
        async with lost_when_away(), self._engine.begin() as connection:
            if not (await connection.execute(sql.TURN)).scalar_one():
                return []
            left = (await connection.execute(sql.LEFT, lease)).mappings().all()  # 1
            await connection.execute(sql.RETURN, lease)
            await connection.execute(sql.SETTLE)
            await connection.execute(sql.SWEEP, {"limit": _SWEPT})  # 2
            rows = (await connection.execute(sql.CLAIM, {"max_open": max_open})).mappings().all()  # 3
        claimed = [
            Claimed(**{**row, "body": _json(row["body"]), "left_s": float(row["left_s"])}) for row in [*left, *rows]
        ]
        return sorted(claimed, key=lambda each: (each.left_s, each.batch_id, each.line))

    async def asked(self, claimed: Claimed, request_id: str, asked_at: datetime) -> RequestCancelled | None:
        """Notes the request that a line became; None as long as it is wanted.

        Where it is not, since its batch was cancelled or is gone, its cancellation, which is noted.
        """
        line = {"batch_id": claimed.batch_id, "line": claimed.line}
        async with lost_when_away(), self._engine.begin() as connection:
            # Whoever cancels waits for this, and sees the request; or has cancelled, and we see that.
            is_going_on = (await connection.execute(sql.IS_GOING_ON, line)).scalar_one_or_none()
            values = {**line, "request_id": request_id, "asked_at": asked_at}
            is_noted = (await connection.execute(sql.ASKED, values)).rowcount
            await erase_line_if_noted(connection, claimed.batch_id, claimed.line)
            if is_noted and is_going_on:
                return None
            unwanted = cancellation_of(request_id, max(1.0, claimed.left_s))
            await note(connection, [unwanted])
        return unwanted

    async def put_back(self, claimed: Claimed) -> None:
        """Has a line be claimed again at once, when its tenant waits for nothing any more."""
        async with lost_when_away(), self._engine.begin() as connection:
            await connection.execute(sql.PUT_BACK, {"batch_id": claimed.batch_id, "line": claimed.line})

    async def refused(self, claimed: Claimed, error: str) -> None:
        """Notes why a line can't be asked."""
        values = {"error": error, "batch_id": claimed.batch_id, "line": claimed.line}
        async with lost_when_away(), self._engine.begin() as connection:
            await connection.execute(sql.REFUSED, values)

    async def ended(self, batch_id: str, *, first: int, limit: int) -> list[dict[str, Any]]:
        """Lines from `first` on that have ended, in order: with the row of `answers`, or with `error`, or with `unasked`.

        That says why nobody asked it, or saw its end: `batch_cancelled` or `batch_expired`. Of a body only the model is told: it
        may be long.
        """
        values = {"batch_id": batch_id, "first": first, "limit": limit}
        async with lost_when_away(), self._engine.connect() as connection:
            rows = (await connection.execute(sql.ENDED, values)).mappings().all()
        return [{**row, **{name: _json(row[name]) for name in _JSON}} for row in rows]

    async def forget(self, older_than_days: int) -> int:
        """How many batches were dropped, those of before so many days."""
        return await forgotten(self._engine, sql.FORGET, older_than_days, at_once=_FORGOTTEN_AT_ONCE)

    async def _batches(self, condition: str, values: dict[str, Any]) -> list[BatchRow]:
        query = text(sql.BATCHES.format(condition=condition))
        async with lost_when_away(), self._engine.connect() as connection:
            rows = (await connection.execute(query, values)).mappings().all()
        return [BatchRow(**{**row, "metadata": _json(row["metadata"])}) for row in rows]


def _json(value: Any) -> Any:
    """What is kept as JSON comes as text."""
    return msgspec.json.decode(value) if isinstance(value, str) else value
