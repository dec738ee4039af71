"""Files of requests in Postgres, and what both files and batches are held to: their idempotency keys, and a tenant's bytes."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from conclave.store.connection import lost_when_away, make_engine
from conclave.store.forgetting import forgotten, statement

_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('gateway files ' || :tenant, 0))")
# Of a batch what it asks is kept besides its file, until the batch is over.
_KEPT = text("""
    SELECT coalesce((SELECT sum(num_bytes) FROM gateway_files WHERE tenant = :tenant), 0) + coalesce((
        SELECT sum(num_bytes) FROM gateway_batches
        WHERE tenant = :tenant AND deadline_at > now() AND cancelled_at IS NULL
            AND num_answered + num_failed + num_unasked < num_lines), 0)
""")
_KNOWN = """
    SELECT {column}, digest FROM {table} WHERE tenant = :tenant AND idempotency_key = :key
"""
_COLUMNS = "file_id, tenant, filename, num_bytes, created_at, purpose"
_ADD = text(f"""
    INSERT INTO gateway_files (file_id, tenant, filename, purpose, content, num_bytes, idempotency_key, digest)
    VALUES (:file_id, :tenant, :filename, :purpose, :content, :num_bytes, :key, :digest) RETURNING {_COLUMNS}
""")
_FILE = text(f"SELECT {_COLUMNS} FROM gateway_files WHERE file_id = :file_id")
_LISTED = """
    SELECT {columns} FROM gateway_files WHERE tenant = :tenant AND (CAST(:purpose AS text) IS NULL OR purpose = :purpose)
        {beyond} ORDER BY created_at {order}, file_id {order} LIMIT :limit
"""
_BEYOND = "AND (created_at, file_id) {than} (SELECT created_at, file_id FROM gateway_files WHERE file_id = :after)"
_CONTENT = text("SELECT content FROM gateway_files WHERE file_id = :file_id")
_DELETE = text("DELETE FROM gateway_files WHERE file_id = :file_id")
_FORGET = statement("gateway_files", "file_id")
_FORGOTTEN_AT_ONCE = 100

# Only these end a line of JSON. `str.splitlines` knows others (U+2028, U+0085), which stand in texts as they are.
_ENDS = re.compile(r"\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class Key:
    """An idempotency key, and the digest of all that was sent with it."""

    key: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class Reused:
    """The key was sent with something else before."""

    kept_id: str


@dataclass(frozen=True, slots=True)
class OverBytes:
    """The tenant's files and batches would have more bytes than they may."""

    allowed: int
    kept: int


@dataclass(frozen=True, slots=True)
class FileRow:
    """A file, without what is in it."""

    file_id: str
    tenant: str
    filename: str
    num_bytes: int
    created_at: datetime
    purpose: str = "batch"


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file that is to be kept."""

    file_id: str
    tenant: str
    filename: str
    content: str
    purpose: str = "batch"


class FileStore:
    """Every method raises LostDependency while Postgres is away."""

    def __init__(self, dsn: str, *, connections: int = 1) -> None:
        self._engine = make_engine(dsn, connections=connections, statement_timeout_s=30.0)

    async def close(self) -> None:
        """Closes the connections."""
        await self._engine.dispose()

    async def add(self, file: NewFile, *, key: Key | None, max_bytes: int) -> FileRow | Reused | OverBytes:
        """Keeps a file, unless it is kept under this key already."""
        num_bytes = len(file.content.encode())
        values = {name: getattr(file, name) for name in file.__slots__} | {"num_bytes": num_bytes} | of_key(key)
        async with lost_when_away(), self._engine.begin() as connection:
            await lock_tenant(connection, file.tenant)
            known = await known_id(connection, "gateway_files", "file_id", file.tenant, key)
            if isinstance(known, Reused):
                return known
            if known is not None:
                return FileRow(*(await connection.execute(_FILE, {"file_id": known})).one())
            over = await over_bytes(connection, file.tenant, num_bytes, max_bytes)
            return over or FileRow(*(await connection.execute(_ADD, values)).one())

    async def file(self, file_id: str) -> FileRow | None:
        """A file; None when there is none."""
        async with lost_when_away(), self._engine.connect() as connection:
            row = (await connection.execute(_FILE, {"file_id": file_id})).one_or_none()
        return None if row is None else FileRow(*row)

    async def files(
        self,
        tenant: str,
        limit: int,
        *,
        after: str | None = None,
        purpose: str | None = None,
        is_ascending: bool = False,
    ) -> list[FileRow]:
        """A tenant's files, the newest first unless `is_ascending`; those that come after one of them."""
        beyond = "" if after is None else _BEYOND.format(than=">" if is_ascending else "<")
        order = "ASC" if is_ascending else "DESC"
        query = text(_LISTED.format(columns=_COLUMNS, beyond=beyond, order=order))
        values: dict[str, Any] = {"tenant": tenant, "limit": limit, "purpose": purpose}
        async with lost_when_away(), self._engine.connect() as connection:
            rows = (await connection.execute(query, values if after is None else values | {"after": after})).all()
        return [FileRow(*row) for row in rows]

    async def content(self, file_id: str) -> str | None:
        """What is in a file; None when there is none."""
        async with lost_when_away(), self._engine.connect() as connection:
            return (await connection.execute(_CONTENT, {"file_id": file_id})).scalar_one_or_none()

    async def delete(self, file_id: str) -> None:
        """Drops a file. Batches that were made of it go on: they have its lines."""
        async with lost_when_away(), self._engine.begin() as connection:
            await connection.execute(_DELETE, {"file_id": file_id})

    async def forget(self, older_than_days: int) -> int:
        """How many files were dropped, those of before so many days."""
        return await forgotten(self._engine, _FORGET, older_than_days, at_once=_FORGOTTEN_AT_ONCE)


def lines_in(content: str) -> list[str]:
    """The lines of a file of requests, by number: those that are blank don't count."""
    return [line for line in _ENDS.split(content) if line.strip()]


async def lock_tenant(connection: AsyncConnection, tenant: str) -> None:
    """Has what the tenant sends be looked at one after the other, until the transaction ends."""
    await connection.execute(_LOCK, {"tenant": tenant})


async def known_id(
    connection: AsyncConnection, table: str, column: str, tenant: str, key: Key | None
) -> str | Reused | None:
    """What the tenant has under this key; None when there is nothing, or no key."""
    if key is None:
        return None
    query = text(_KNOWN.format(table=table, column=column))
    row = (await connection.execute(query, {"tenant": tenant, "key": key.key})).one_or_none()
    if row is None:
        return None
    return str(row[0]) if bytes(row[1]) == key.digest else Reused(str(row[0]))


async def over_bytes(connection: AsyncConnection, tenant: str, num_bytes: int, max_bytes: int) -> OverBytes | None:
    """Whether so many bytes more are too many. Under `lock_tenant`."""
    kept = int((await connection.execute(_KEPT, {"tenant": tenant})).scalar_one())
    return OverBytes(max_bytes, kept) if kept + num_bytes > max_bytes else None


def of_key(key: Key | None) -> dict[str, Any]:
    return {"key": None, "digest": None} if key is None else {"key": key.key, "digest": key.digest}
