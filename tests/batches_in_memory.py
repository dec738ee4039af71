"""Files and batches in one process, as `conclave.store.files` and `conclave.store.batches` keep them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeVar

from conclave.store.batches import BatchRow, Claimed, Line, NewBatch
from conclave.store.cancellations import cancellation_of
from conclave.store.files import FileRow, Key, NewFile, OverBytes, Reused
from conclave.testing import events as made
from schemas.events import AnswerReached, RequestCancelled, RequestFailed
from services.gateway.cancelling import Noted

NOW = datetime.fromtimestamp(made.NOW_MS / 1000, UTC)
End = AnswerReached | RequestFailed
T = TypeVar("T")


class Ended(Protocol):
    """The record, as far as batches read it."""

    ended: dict[str, End]


def row_of(end: End) -> dict[str, Any]:
    """The row of `answers` that an end makes."""
    names = {name: getattr(end, name) for name in end.__struct_fields__}
    return {"failure": None, "steps": (), "tally": (), **names}


@dataclass
class Keys:
    """What came with which idempotency key."""

    kept: dict[tuple[str, str], tuple[str, bytes]] = field(default_factory=dict)

    def known(self, tenant: str, key: Key | None) -> str | Reused | None:
        """What the tenant has under this key."""
        if key is None or (tenant, key.key) not in self.kept:
            return None
        kept_id, digest = self.kept[tenant, key.key]
        return kept_id if digest == key.digest else Reused(kept_id)

    def keep(self, tenant: str, key: Key | None, kept_id: str) -> None:
        """Notes what came with a key."""
        if key is not None:
            self.kept[tenant, key.key] = kept_id, key.digest


@dataclass
class MemoryFiles:
    """Files. Each is a second younger than the one before."""

    rows: dict[str, tuple[FileRow, str]] = field(default_factory=dict)
    keys: Keys = field(default_factory=Keys)

    async def add(self, file: NewFile, *, key: Key | None, max_bytes: int) -> FileRow | Reused | OverBytes:
        known = self.keys.known(file.tenant, key)
        if isinstance(known, Reused):
            return known
        if known is not None:
            return self.rows[known][0]
        num_bytes = len(file.content.encode())
        kept = sum(row.num_bytes for row, _ in self.rows.values() if row.tenant == file.tenant)
        if kept + num_bytes > max_bytes:
            return OverBytes(max_bytes, kept)
        created_at = NOW + timedelta(seconds=len(self.rows))
        row = FileRow(file.file_id, file.tenant, file.filename, num_bytes, created_at, file.purpose)
        self.rows[file.file_id] = row, file.content
        self.keys.keep(file.tenant, key, file.file_id)
        return row

    async def file(self, file_id: str) -> FileRow | None:
        return self.rows[file_id][0] if file_id in self.rows else None

    async def files(
        self,
        tenant: str,
        limit: int,
        *,
        after: str | None = None,
        purpose: str | None = None,
        is_ascending: bool = False,
    ) -> list[FileRow]:
        found = [row for row, _ in self.rows.values() if row.tenant == tenant and purpose in (None, row.purpose)]
        found = found if is_ascending else found[::-1]
        return _after([row.file_id for row in found], found, after)[:limit]

    async def content(self, file_id: str) -> str | None:
        return self.rows[file_id][1] if file_id in self.rows else None

    async def delete(self, file_id: str) -> None:
        del self.rows[file_id]
        self.keys.kept = {key: kept for key, kept in self.keys.kept.items() if kept[0] != file_id}


@dataclass
class MemoryBatches:
    """Batches. `over` are those whose window has ended."""

    record: Ended
    cancellations: Noted
    made: dict[str, BatchRow] = field(default_factory=dict)
    lines: dict[str, list[Line]] = field(default_factory=dict)
    redacted: dict[str, bool] = field(default_factory=dict)
    asked_as: dict[tuple[str, int], str] = field(default_factory=dict)
    refusals: dict[tuple[str, int], str] = field(default_factory=dict)
    tokens_per_day: int | None = None
    passed_s: float = 0.0  # of every batch's window
    put_back_lines: list[int] = field(default_factory=list)
    over: set[str] = field(default_factory=set)
    silent: set[str] = field(default_factory=set)  # tenants whose content is off
    keys: Keys = field(default_factory=Keys)

    async def add(
        self, batch: NewBatch, lines: Sequence[Line], *, key: Key | None = None, max_bytes: int
    ) -> str | Reused | OverBytes:
        known = self.keys.known(batch.tenant, key)
        if known is not None:
            return known
        if batch.num_bytes > max_bytes:
            return OverBytes(max_bytes, 0)
        ends = NOW + timedelta(seconds=batch.window_s)
        self.made[batch.batch_id] = BatchRow(
            batch.batch_id, batch.tenant, batch.file_id, batch.window_s, batch.metadata, NOW, ends, None,
            is_over=False, num_lines=len(lines), num_answered=0, num_failed=0, num_unasked=0, num_open=0,
        )  # fmt: skip
        self.lines[batch.batch_id], self.redacted[batch.batch_id] = list(lines), batch.is_redacted
        self.keys.keep(batch.tenant, key, batch.batch_id)
        return batch.batch_id

    async def known(self, tenant: str, key: Key | None) -> str | Reused | None:
        return self.keys.known(tenant, key)

    async def batch(self, batch_id: str) -> BatchRow | None:
        if batch_id not in self.made:
            return None
        ids = [self.asked_as.get((batch_id, line.line)) for line in self.lines[batch_id]]
        ends = [self.record.ended[each] for each in ids if each in self.record.ended]
        num_answered = sum(isinstance(end, AnswerReached) for end in ends)
        num_refused = sum(self._error(batch_id, line) is not None for line in self.lines[batch_id])
        return replace(
            self.made[batch_id],
            is_over=batch_id in self.over,
            num_answered=num_answered,
            num_failed=len(ends) - num_answered + num_refused,
            num_open=sum(each is not None for each in ids) - len(ends),
        )

    async def batches(self, tenant: str, limit: int, *, after: str | None = None) -> list[BatchRow]:
        own = [batch_id for batch_id, row in reversed(self.made.items()) if row.tenant == tenant]
        found = [await self.batch(batch_id) for batch_id in _after(own, own, after)]
        return [row for row in found if row is not None][:limit]

    async def cancel(self, batch_id: str) -> list[RequestCancelled]:
        row = await self.batch(batch_id)
        if row is not None and row.num_answered + row.num_failed < row.num_lines and not row.is_over:
            self.made[batch_id] = replace(self.made[batch_id], cancelled_at=NOW)
        ids = [self.asked_as.get((batch_id, line.line)) for line in self.lines[batch_id]]
        open_ids = [each for each in ids if each is not None and each not in self.record.ended]
        return await self._noted(open_ids, self.made[batch_id].window_s)

    async def claim(self, max_open: int) -> list[Claimed]:
        num_open = sum(each not in self.record.ended for each in self.asked_as.values())
        waiting = [
            Claimed(
                batch_id, line.line, line.body, row.tenant, self.redacted[batch_id], row.window_s - self.passed_s,
                self.tokens_per_day,
                row.tenant not in self.silent,
            )
            for batch_id, row in self.made.items()
            for line in self.lines[batch_id]
            if not self._is_done_with(batch_id) and self._is_waiting(batch_id, line)
        ]  # fmt: skip
        return waiting[: max_open - num_open]

    async def asked(self, claimed: Claimed, request_id: str, asked_at: Any) -> RequestCancelled | None:
        self.asked_as[claimed.batch_id, claimed.line] = request_id
        if self.made[claimed.batch_id].cancelled_at is None:
            return None
        return (await self._noted([request_id], claimed.left_s))[0]

    async def put_back(self, claimed: Claimed) -> None:
        self.put_back_lines.append(claimed.line)

    async def refused(self, claimed: Claimed, error: str) -> None:
        self.refusals[claimed.batch_id, claimed.line] = error

    async def ended(self, batch_id: str, *, first: int, limit: int) -> list[dict[str, Any]]:
        found = (self._ended(batch_id, line) for line in self.lines[batch_id][first:])
        return [row for row in found if row is not None][:limit]

    async def _noted(self, request_ids: Sequence[str], deadline_s: float) -> list[RequestCancelled]:
        """As one transaction does it with what cancels them."""
        cancellations = [cancellation_of(each, deadline_s) for each in request_ids]
        await self.cancellations.add(cancellations)
        return cancellations

    def _ended(self, batch_id: str, line: Line) -> dict[str, Any] | None:
        row: dict[str, Any] = {
            "line": line.line,
            "custom_id": line.custom_id,
            "body": line.body,
            "error": None,
            "unasked": None,
        }
        request_id = self.asked_as.get((batch_id, line.line), "")
        if error := self._error(batch_id, line):
            return row | {"error": error}
        if request_id in self.record.ended:
            return row | row_of(self.record.ended[request_id]) | self._content(batch_id)
        if self._is_waiting(batch_id, line) and self._is_done_with(batch_id):
            is_cancelled = self.made[batch_id].cancelled_at is not None
            return row | {"unasked": "batch_cancelled" if is_cancelled else "batch_expired"}
        return None

    def _content(self, batch_id: str) -> dict[str, Any]:
        """What the record has of the words of a tenant whose content is off: none."""
        if self.made[batch_id].tenant not in self.silent:
            return {}
        return {"content": "off", "answer": None, "tally": (), "steps": ()}

    def _is_done_with(self, batch_id: str) -> bool:
        return self.made[batch_id].cancelled_at is not None or batch_id in self.over

    def _is_waiting(self, batch_id: str, line: Line) -> bool:
        return (batch_id, line.line) not in self.asked_as and self._error(batch_id, line) is None

    def _error(self, batch_id: str, line: Line) -> str | None:
        return line.error or self.refusals.get((batch_id, line.line))


def _after(ids: Sequence[str], rows: Sequence[T], after: str | None) -> list[T]:
    return list(rows if after is None else rows[ids.index(after) + 1 :])
