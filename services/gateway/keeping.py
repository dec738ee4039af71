"""What `/v1/files` and `/v1/batches` have in common: both are kept, under idempotency keys, and a tenant has room for so much."""

import re
from typing import Protocol, TypeVar

from conclave.store.files import FileRow, Key, NewFile, OverBytes, Reused
from services.gateway.asking import hashed_key
from services.gateway.calls import Call
from services.gateway.errors import ApiError, key_reused, not_found

_ID = re.compile(r"file-[0-9a-f]{32}")
K = TypeVar("K")


class FileSource(Protocol):
    """Where files are kept: conclave.store.files.FileStore. Each raises LostDependency."""

    async def add(self, file: NewFile, *, key: Key | None, max_bytes: int) -> FileRow | Reused | OverBytes: ...
    async def file(self, file_id: str) -> FileRow | None: ...
    async def files(
        self, tenant: str, limit: int, *, after: str | None, purpose: str | None, is_ascending: bool
    ) -> list[FileRow]: ...
    async def content(self, file_id: str) -> str | None: ...
    async def delete(self, file_id: str) -> None: ...


def check_kept(call: Call) -> None:
    """Raises: ApiError for a tenant of whose requests no word is kept: files are, and batches are read from them."""
    if not call.caller.is_kept:
        raise ApiError(403, "files and batches are kept, and this tenant's content is not", "content_off")


def key_of(call: Call, digest: bytes) -> Key | None:
    """The idempotency key of a call, with the digest of what was sent. Raises: ApiError for what can be none."""
    hashed = hashed_key(call.caller, call.sent.idempotency_key)
    return None if hashed is None else Key(hashed, digest)


def kept(added: K | Reused | OverBytes, at: str | None = None) -> K:
    """What was kept, now or before. Raises: ApiError where nothing was; `at` is the field that would be too much."""
    match added:
        case Reused():
            raise key_reused()
        case OverBytes():
            message = (
                f"the files of this tenant and the batches that it waits for may have {added.allowed:,} bytes together, "
                f"and have {added.kept:,}: delete files, or wait for batches"
            )
            raise ApiError(413, message, "over_bytes", at, {"x-should-retry": "false"})
        case _:
            return added


async def own_file(call: Call, files: FileSource, file_id: str, *, at: str = "file_id") -> FileRow:
    """A file of the caller's. Raises: ApiError, LostDependency."""
    row = await files.file(file_id) if _ID.fullmatch(file_id) else None
    if row is None or (row.tenant != call.caller.tenant and not call.caller.is_admin):
        raise not_found("there is no such file here", "file_not_found", at)
    return row


async def own_content(call: Call, files: FileSource, file_id: str, *, at: str = "file_id") -> tuple[FileRow, str]:
    """A file of the caller's, and what is in it. Raises: ApiError, LostDependency."""
    row, content = await own_file(call, files, file_id, at=at), await files.content(file_id)
    if content is None:  # deleted since it was looked up
        raise not_found("there is no such file here", "file_not_found", at)
    return row, content


def whole_number(call: Call, name: str, *, default: int, high: int) -> int:
    """A number of things that its query asks for, from 1 on. Raises: ApiError."""
    value = call.number(name, default=default, low=1, high=high)
    if value != int(value):
        raise ApiError(400, "a whole number is expected", "invalid_query", name)
    return int(value)
