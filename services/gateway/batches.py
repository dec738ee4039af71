"""`/v1/batches`: OpenAI's API for thousands of requests that may take their time."""

import asyncio
import re
import uuid
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Protocol

import msgspec
from starlette.responses import Response

from conclave.store.batches import BatchRow, Line, NewBatch
from conclave.store.files import Key, OverBytes, Reused
from schemas.events import RequestCancelled
from services.gateway.asking import Asking
from services.gateway.batch_lines import lines_of, output
from services.gateway.bodies import Batch, BatchBody, BatchCounts, Batches
from services.gateway.calls import Call, answered
from services.gateway.errors import not_found
from services.gateway.keeping import FileSource, check_kept, kept, key_of, own_content, whole_number
from services.gateway.masking import masked

_WINDOWS_S = {"1h": 3600.0, "4h": 4 * 3600.0, "24h": 24 * 3600.0}
_PAGE = 500
_WHOLE_FILES = 4  # at once
_ID = re.compile(r"batch_[0-9a-f]{32}")


class Store(Protocol):
    """Where batches are kept: conclave.store.batches.BatchStore. Each raises LostDependency."""

    async def add(
        self, batch: NewBatch, lines: Sequence[Line], *, key: Key | None = None, max_bytes: int
    ) -> str | Reused | OverBytes: ...
    async def known(self, tenant: str, key: Key | None) -> str | Reused | None: ...
    async def batch(self, batch_id: str) -> BatchRow | None: ...
    async def batches(self, tenant: str, limit: int, *, after: str | None = None) -> list[BatchRow]: ...
    async def cancel(self, batch_id: str) -> list[RequestCancelled]: ...
    async def ended(self, batch_id: str, *, first: int, limit: int) -> list[dict[str, Any]]: ...


@dataclass(frozen=True, slots=True)
class BatchApi:
    """The handlers. `max_bytes` is what a tenant's files and batches may have together.

    Whole files are in memory a few at a time (`turns`), however many are sent at once: as they are masked, each takes several
    times its bytes.
    """

    asking: Asking
    files: FileSource
    store: Store
    max_bytes: int
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_WHOLE_FILES))

    async def create(self, call: Call) -> Response:
        """Begins a batch: its lines are asked as there is room, until its window ends."""
        check_kept(call)
        body: BatchBody = call.body
        key = key_of(call, blake2b(msgspec.json.encode(body, order="sorted"), digest_size=32).digest())
        known = await self.store.known(call.caller.tenant, key)
        if known is not None:  # its file may be gone since
            return answered(_told(await self.batch(call, kept(known))))
        async with self.turns:
            added = await self._added(call, body, key)
        return answered(_told(await self.batch(call, kept(added, "input_file_id"))))

    async def _added(self, call: Call, body: BatchBody, key: Key | None) -> str | Reused | OverBytes:
        file, content = await own_content(call, self.files, body.input_file_id, at="input_file_id")
        lines = await asyncio.to_thread(lines_of, content)
        mask = self.asking.mask if call.caller.is_redacted else str
        batch = NewBatch(
            f"batch_{uuid.uuid4().hex}",
            call.caller.tenant,
            file.file_id,
            _WINDOWS_S[body.completion_window],
            call.caller.is_redacted,
            masked(body.metadata or {}, mask),
            file.num_bytes,
        )
        return await self.store.add(batch, lines, key=key, max_bytes=self.max_bytes)

    async def list_(self, call: Call) -> Response:
        """A tenant's batches, the latest first, a page at a time."""
        limit, after = whole_number(call, "limit", default=20, high=100), call.request.query_params.get("after")
        if after is not None:
            await self.batch(call, after, at="after")
        found = await self.store.batches(call.caller.tenant, limit + 1, after=after)
        data = tuple(map(_told, found[:limit]))
        first, last = (data[0].id, data[-1].id) if data else (None, None)
        return answered(Batches(data=data, has_more=len(found) > limit, first_id=first, last_id=last))

    async def state(self, call: Call) -> Response:
        """How far a batch is."""
        return answered(_told(await self.batch(call, call.request.path_params["batch_id"])))

    async def cancel(self, call: Call) -> Response:
        """Asks nothing more of a batch, and cancels what runs; one that has ended stays as it is."""
        batch = await self.batch(call, call.request.path_params["batch_id"])
        noted = await self.store.cancel(batch.batch_id)
        await self.asking.cancelling.publish_noted(noted)
        return answered(_told(await self.batch(call, batch.batch_id)))

    async def batch(self, call: Call, batch_id: str, *, at: str = "batch_id") -> BatchRow:
        """A batch of the caller's. Raises: ApiError, LostDependency."""
        row = await self.store.batch(batch_id) if _ID.fullmatch(batch_id) else None
        if row is None or (row.tenant != call.caller.tenant and not call.caller.is_admin):
            raise not_found("there is no such batch here", "batch_not_found", at)
        return row

    async def output(self, batch: BatchRow, *, is_for_errors: bool) -> AsyncGenerator[bytes, None]:
        """The lines of a batch's output file, or of its file of errors: what has ended so far."""
        first = 0
        while rows := await self.store.ended(batch.batch_id, first=first, limit=_PAGE):
            for line in output([await self._said(row) for row in rows], batch.batch_id, is_for_errors=is_for_errors):
                yield line
            first = rows[-1]["line"] + 1

    async def _said(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row; of a request whose words the record does not keep, with those of the log, as long as that has them."""
        if row.get("content") != "off":
            return row
        request_id = str(row["request_id"])
        ends = await self.asking.record.ends([request_id])
        return {**ends.get(request_id, {}), **{name: row[name] for name in ("line", "custom_id", "error", "body")}} | {
            "request_id": request_id
        }


def _told(row: BatchRow) -> Batch:
    status = "in_progress"
    if row.cancelled_at is not None:
        status = "cancelling" if row.num_open else "cancelled"
    elif row.num_answered + row.num_failed == row.num_lines:
        status = "completed"
    elif row.is_over and row.num_open == 0:
        status = "expired"
    num_unasked = row.num_unasked
    if row.is_over or row.cancelled_at is not None:
        num_unasked += row.num_waiting
    return Batch(
        id=row.batch_id,
        input_file_id=row.file_id,
        completion_window=f"{row.window_s / 3600:.0f}h",
        status=status,  # type: ignore[arg-type]
        output_file_id=f"{row.batch_id}-output",
        error_file_id=f"{row.batch_id}-errors",
        created_at=int(row.created_at.timestamp()),
        expires_at=int(row.deadline_at.timestamp()),
        cancelling_at=None if row.cancelled_at is None else int(row.cancelled_at.timestamp()),
        expired_at=int(row.deadline_at.timestamp()) if status == "expired" else None,
        request_counts=BatchCounts(
            total=row.num_lines, completed=row.num_answered, failed=row.num_failed + num_unasked
        ),
        metadata=row.metadata,
    )
