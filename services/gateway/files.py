"""`/v1/files`: what batches are made of, and what comes of them."""

import asyncio
import re
import uuid
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from tempfile import SpooledTemporaryFile
from typing import Literal

from starlette.datastructures import UploadFile
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from conclave.errors import LostDependency
from conclave.store.batches import BatchRow
from conclave.store.files import FileRow, NewFile, OverBytes, Reused
from services.gateway.batch_lines import masked_file
from services.gateway.batches import BatchApi
from services.gateway.bodies import File, FileDeleted, Files
from services.gateway.calls import Call, answered
from services.gateway.errors import ApiError
from services.gateway.keeping import check_kept, kept, key_of, own_content, own_file, whole_number

PURPOSES: tuple[Literal["batch", "user_data"], ...] = ("batch", "user_data")
ORDERS = ("desc", "asc")
MAX_LISTED = 10_000
_PIECE_BYTES = 2**18
_READ_AT_ONCE = 2
_OUTPUT = re.compile(r"(?P<batch>batch_[0-9a-f]{32})-(?P<kind>output|errors)")


@dataclass(frozen=True, slots=True)
class FileApi:
    """The handlers. A batch's output files are read where its answers are: they are no files of the store's.

    A file on its way to a client or from one lies in a temporary file: in memory are a piece of each, and a few whole ones.
    """

    batches: BatchApi
    readings: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_READ_AT_ONCE))

    async def upload(self, call: Call) -> Response:
        """Keeps a file of requests, masked."""
        check_kept(call)
        async with call.request.form(max_files=1, max_fields=4) as form:
            file, purpose = form.get("file"), form.get("purpose")
            if not isinstance(file, UploadFile):
                raise ApiError(400, "a form with a `file` is expected", "invalid_value", "file")
            if not isinstance(purpose, str) or purpose not in PURPOSES:
                raise ApiError(400, f"one of {', '.join(PURPOSES)} is expected", "invalid_value", "purpose")
            async with self.batches.turns:  # until then it lies in a temporary file
                added = await self._added(call, file, purpose)
        return answered(_file(kept(added, "file")))

    async def _added(self, call: Call, file: UploadFile, purpose: str) -> FileRow | Reused | OverBytes:
        filename, sent = file.filename or "", await file.read()
        mask = self.batches.asking.mask if call.caller.is_redacted else str
        new = NewFile(
            f"file-{uuid.uuid4().hex}",
            call.caller.tenant,
            mask(filename).encode(errors="replace").decode()[:256].replace("\0", ""),
            await asyncio.to_thread(masked_file, sent, mask),
            purpose,
        )
        # Of what was sent, not of what is kept: two texts may be the same once they are masked.
        parts = (purpose.encode(), filename.encode(errors="backslashreplace"), sent)
        key = key_of(call, blake2b(b"\0".join(parts), digest_size=32).digest())
        return await self.batches.files.add(new, key=key, max_bytes=self.batches.max_bytes)

    async def list_(self, call: Call) -> Response:
        """A tenant's files, a page at a time; output files are named by their batches."""
        limit, query = whole_number(call, "limit", default=MAX_LISTED, high=MAX_LISTED), call.request.query_params
        after, order, purpose = query.get("after"), query.get("order", ORDERS[0]), query.get("purpose")
        if order not in ORDERS:
            raise ApiError(400, f"one of {', '.join(ORDERS)} is expected", "invalid_query", "order")
        if purpose is not None and purpose not in PURPOSES:
            raise ApiError(400, f"one of {', '.join(PURPOSES)} is expected", "invalid_query", "purpose")
        if after is not None:
            await own_file(call, self.batches.files, after, at="after")
        found = await self.batches.files.files(
            call.caller.tenant, limit + 1, after=after, purpose=purpose, is_ascending=order == "asc"
        )
        data = tuple(map(_file, found[:limit]))
        first, last = (data[0].id, data[-1].id) if data else (None, None)
        return answered(Files(data=data, has_more=len(found) > limit, first_id=first, last_id=last))

    async def file(self, call: Call) -> Response:
        """A file, or one of a batch's output files, which is as long as it is now."""
        file_id = call.request.path_params["file_id"]
        output = await self._output(call, file_id)
        if output is None:
            return answered(_file(await own_file(call, self.batches.files, file_id)))
        batch, is_for_errors = output
        # Known by writing its lines only: a line is as long as its words, and those are erased, or leave the log, at any time. It
        # takes 54 µs a line, a page at a time.
        num_bytes = 0
        async for line in self.batches.output(batch, is_for_errors=is_for_errors):
            num_bytes += len(line)
        told = File(
            id=file_id,
            bytes=num_bytes,
            created_at=int(batch.created_at.timestamp()),
            filename=f"{file_id}.jsonl",
            purpose="batch_output",
        )
        return answered(told)

    async def content(self, call: Call) -> Response:
        """What is in a file. A batch's output files hold what has ended so far."""
        file_id = call.request.path_params["file_id"]
        output = await self._output(call, file_id)
        if output is not None:
            batch, is_for_errors = output
            lines = self.batches.output(batch, is_for_errors=is_for_errors)
            return StreamingResponse(_while_let_in(lines, call), media_type="application/jsonl")
        async with self.readings:
            _, content = await own_content(call, self.batches.files, file_id)
            spooled = await asyncio.to_thread(_spooled, content)
        return _Sent(spooled, call)

    async def delete(self, call: Call) -> Response:
        """Drops a file. Batches that were made of it go on."""
        file_id = call.request.path_params["file_id"]
        if await self._output(call, file_id) is not None:
            message = "an output file is read from the record, and goes when its batch is forgotten"
            raise ApiError(409, message, "output_file", "file_id")
        await own_file(call, self.batches.files, file_id)
        await self.batches.files.delete(file_id)
        return answered(FileDeleted(id=file_id))

    async def _output(self, call: Call, file_id: str) -> tuple[BatchRow, bool] | None:
        """The batch that an output file is of, and whether it is the one of errors; None for any other file."""
        match = _OUTPUT.fullmatch(file_id)
        return match and (await self.batches.batch(call, match["batch"]), match["kind"] == "errors")


class _Sent(StreamingResponse):
    """The answer that sends a file, bit by bit. It is closed in the end, whatever comes."""

    def __init__(self, file: SpooledTemporaryFile[bytes], call: Call) -> None:
        headers = {"Content-Length": str(file.seek(0, 2))}
        super().__init__(_while_let_in(_pieces(file), call), headers=headers, media_type="application/jsonl")
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._file:
            await super().__call__(scope, receive, send)


def _spooled(content: str) -> SpooledTemporaryFile[bytes]:
    """The text in a temporary file; a short one in memory, as long as a piece is."""
    file = SpooledTemporaryFile[bytes](max_size=_PIECE_BYTES)
    for at in range(0, len(content), _PIECE_BYTES):
        file.write(content[at : at + _PIECE_BYTES].encode())
    return file


async def _pieces(file: SpooledTemporaryFile[bytes]) -> AsyncGenerator[bytes, None]:
    """The bytes bit by bit: sent at once, all would lie in the connection for as long as its client takes none of them."""
    file.seek(0)
    while piece := await asyncio.to_thread(file.read, _PIECE_BYTES):
        yield piece


async def _while_let_in(pieces: AsyncGenerator[bytes, None], call: Call) -> AsyncGenerator[bytes, None]:
    """The pieces, as long as the caller is let in. Raises: ApiError after that: an answer that ended would seem whole."""
    async for piece in pieces:
        with suppress(LostDependency):
            await call.check()
        yield piece


def _file(row: FileRow) -> File:
    return File(
        id=row.file_id,
        bytes=row.num_bytes,
        created_at=int(row.created_at.timestamp()),
        filename=row.filename,
        purpose=row.purpose,  # type: ignore[arg-type]
    )
