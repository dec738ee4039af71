"""`/v1/files` and `/v1/batches`: OpenAI's API for thousands of requests that may take their time."""

import asyncio
import re
import uuid
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
import structlog
from starlette.datastructures import UploadFile
from starlette.responses import Response, StreamingResponse

from conclave.domain.api_keys import Scope
from conclave.errors import LostDependency
from conclave.store.batches import BatchRow, Claimed, FileRow, Line
from conclave.store.ledger import Limits
from conclave.store.rows import asked_at
from services.gateway import metrics
from services.gateway.access import Caller
from services.gateway.asking import OVER_LIMIT, Asking, Sent
from services.gateway.batch_lines import lines_of, masked_file, output
from services.gateway.bodies import Batch, BatchBody, BatchCounts, Batches, ChatBody, File
from services.gateway.calls import Call, answered
from services.gateway.chat import question_of_chat
from services.gateway.errors import ApiError, not_found

_WINDOWS_S = {"1h": 3600.0, "4h": 4 * 3600.0, "24h": 24 * 3600.0}
_PAGE = 500
_LOOK_S = 1.0
_OUTPUT = re.compile(r"(?P<batch>batch_[0-9a-f]{32})-(?P<kind>output|errors)")
_PURPOSES = ("batch", "user_data")

log = structlog.get_logger(__name__)


class Store(Protocol):
    """Where files and batches are kept: conclave.store.batches.BatchStore. Each raises LostDependency."""

    async def add_file(self, file_id: str, tenant: str, filename: str, content: str) -> FileRow: ...
    async def file(self, file_id: str) -> FileRow | None: ...
    async def content(self, file_id: str) -> str: ...
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
    ) -> None: ...
    async def batch(self, batch_id: str) -> BatchRow | None: ...
    async def batches(self, tenant: str, limit: int) -> list[BatchRow]: ...
    async def cancel(self, batch_id: str) -> list[str]: ...
    async def claim(self, max_open: int) -> list[Claimed]: ...
    async def asked(self, claimed: Claimed, request_id: str, asked_at: Any) -> None: ...
    async def put_back(self, claimed: Claimed) -> None: ...
    async def refused(self, claimed: Claimed, error: str) -> None: ...
    async def ended(self, batch_id: str, *, first: int, limit: int) -> list[dict[str, Any]]: ...


@dataclass(frozen=True, slots=True)
class BatchApi:
    """The handlers."""

    asking: Asking
    store: Store

    async def upload(self, call: Call) -> Response:
        """Keeps a file of requests, masked."""
        _check_kept(call)
        async with call.request.form(max_files=1, max_fields=4) as form:
            file, purpose = form.get("file"), form.get("purpose")
            if not isinstance(file, UploadFile):
                raise ApiError(400, "a form with a `file` is expected", "invalid_value", "file")
            if purpose not in _PURPOSES:
                raise ApiError(400, f"one of {', '.join(_PURPOSES)} is expected", "invalid_value", "purpose")
            filename, sent = file.filename or "", await file.read()
        mask = self.asking.mask if call.caller.is_redacted else str
        content = await asyncio.to_thread(masked_file, sent, mask)
        name = mask(filename)[:256].replace("\0", "")
        row = await self.store.add_file(f"file-{uuid.uuid4().hex}", call.caller.tenant, name, content)
        return answered(_file(row))

    async def file(self, call: Call) -> Response:
        """A file, or one of a batch's output files."""
        file_id = call.request.path_params["file_id"]
        if match := _OUTPUT.fullmatch(file_id):
            batch = await self._batch(call, match["batch"])
            created = int(batch.created_at.timestamp())
            return answered(
                File(id=file_id, bytes=0, created_at=created, filename=f"{file_id}.jsonl", purpose="batch_output")
            )
        return answered(_file(await self._file(call, file_id)))

    async def content(self, call: Call) -> Response:
        """What is in a file. A batch's output files hold what has ended so far."""
        file_id = call.request.path_params["file_id"]
        if match := _OUTPUT.fullmatch(file_id):
            batch = await self._batch(call, match["batch"])
            lines = self._ended(batch, is_for_errors=match["kind"] == "errors")
            return StreamingResponse(lines, media_type="application/jsonl")
        await self._file(call, file_id)
        return Response(await self.store.content(file_id), media_type="application/jsonl")

    async def create(self, call: Call) -> Response:
        """Begins a batch: its lines are asked as there is room, until its window ends."""
        _check_kept(call)
        body: BatchBody = call.body
        await self._file(call, body.input_file_id)
        lines = await asyncio.to_thread(lines_of, await self.store.content(body.input_file_id))
        batch_id = f"batch_{uuid.uuid4().hex}"
        mask = self.asking.mask if call.caller.is_redacted else str
        await self.store.add(
            batch_id,
            call.caller.tenant,
            body.input_file_id,
            _WINDOWS_S[body.completion_window],
            lines,
            is_redacted=call.caller.is_redacted,
            metadata={mask(name): mask(value) for name, value in (body.metadata or {}).items()},
        )
        return answered(_told(await self._batch(call, batch_id)))

    async def list_(self, call: Call) -> Response:
        """A tenant's latest batches."""
        limit = int(call.number("limit", default=20, low=1, high=100))
        return answered(Batches(data=tuple(map(_told, await self.store.batches(call.caller.tenant, limit)))))

    async def state(self, call: Call) -> Response:
        """How far a batch is."""
        return answered(_told(await self._batch(call, call.request.path_params["batch_id"])))

    async def cancel(self, call: Call) -> Response:
        """Asks nothing more of a batch, and cancels what runs."""
        batch = await self._batch(call, call.request.path_params["batch_id"])
        open_ids = await self.store.cancel(batch.batch_id)
        await self.asking.cancel_all(open_ids, batch.window_s)
        return answered(_told(await self._batch(call, batch.batch_id)))

    async def _ended(self, batch: BatchRow, *, is_for_errors: bool) -> AsyncGenerator[bytes, None]:
        first = 0
        while rows := await self.store.ended(batch.batch_id, first=first, limit=_PAGE):
            for line in output(rows, batch.batch_id, is_for_errors=is_for_errors):
                yield line
            first = rows[-1]["line"] + 1

    async def _file(self, call: Call, file_id: str) -> FileRow:
        row = await self.store.file(file_id)
        if row is None or (row.tenant != call.caller.tenant and not call.caller.is_admin):
            raise not_found("there is no such file here", "file_not_found", "file_id")
        return row

    async def _batch(self, call: Call, batch_id: str) -> BatchRow:
        row = await self.store.batch(batch_id)
        if row is None or (row.tenant != call.caller.tenant and not call.caller.is_admin):
            raise not_found("there is no such batch here", "batch_not_found", "batch_id")
        return row


@dataclass(frozen=True, slots=True)
class BatchRunner:
    """Asks the lines of batches, a few at a time. Every gateway has one: a line is claimed by one of them."""

    asking: Asking
    store: Store
    max_open: int

    async def run(self, look_s: float = _LOOK_S) -> None:
        """Asks until cancelled."""
        while True:
            try:
                await self.look()
            except LostDependency as error:
                log.info("batches_wait", dependency=error.dependency)
            await asyncio.sleep(look_s)

    async def look(self) -> int:
        """How many lines were asked now. Raises: LostDependency; they are claimed anew in a while."""
        lines = await self.store.claim(self.max_open)
        for line in lines:
            await self._ask(line)
        return len(lines)

    async def _ask(self, line: Claimed) -> None:
        # The same key whoever asks it: a line that was asked before a crash is the same request after it.
        sent = Sent(f"{line.batch_id}/{line.line}")
        # How often and how many at once is the batch's own business; what it costs is its tenant's.
        limits = Limits(tokens_per_day=line.tokens_per_day)
        caller = Caller(
            line.tenant, frozenset({Scope.ASK}), limits=limits, is_redacted=line.is_redacted, most_urgent="batch"
        )
        body = msgspec.convert(line.body, ChatBody)
        try:
            question = question_of_chat(body, deadline_s=min(86_400.0, max(1.0, line.left_s)))
            request_id = await self.asking.ask(caller, question, sent)
        except ApiError as error:
            if error.code == OVER_LIMIT:
                await self.store.put_back(line)
            else:
                await self.store.refused(line, error.message)
            return
        metrics.LINES_ASKED.inc()
        await self.store.asked(line, request_id, asked_at(request_id))


def _check_kept(call: Call) -> None:
    """Raises: ApiError for a tenant of whose requests no word is kept: files are, and batches are read from them."""
    if not call.caller.is_kept:
        raise ApiError(403, "files and batches are kept, and this tenant's content is not", "content_off")


def _file(row: FileRow) -> File:
    created = int(row.created_at.timestamp())
    return File(id=row.file_id, bytes=row.num_bytes, created_at=created, filename=row.filename, purpose="batch")


def _told(row: BatchRow) -> Batch:
    num_ended = row.num_answered + row.num_failed
    status = "in_progress"
    if num_ended == row.num_lines:
        status = "completed"
    elif row.cancelled_at is not None:
        status = "cancelling" if row.num_open else "cancelled"
    elif row.is_over and row.num_open == 0:
        status = "expired"
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
        request_counts=BatchCounts(total=row.num_lines, completed=row.num_answered, failed=row.num_failed),
        metadata=row.metadata,
    )
