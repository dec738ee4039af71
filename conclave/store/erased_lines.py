"""Erasing what a gateway's batches keep of requests: a line's body, and that line of the file that it was read from.

Lines stay lines, so that a batch's results say of each what came of it, and another batch of the same file still knows its lines by
their number. What a client calls a line (`custom_id`) is its key, and stays.

A line knows its request only once that was published: it may be erased before. So whoever notes a line's request looks, in that
transaction and after it has a number, whether the request is erased, as the recorder does (see conclave.store.erasure). Either it
sees the note, or erasing waits for its end and finds the line.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from conclave.store.files import lines_in

_FOUND = text("""
    SELECT b.file_id, l.batch_id, l.line, l.custom_id FROM gateway_batch_lines l JOIN gateway_batches b USING (batch_id)
    WHERE l.request_id = ANY(CAST(:ids AS uuid[]))
""")
_NOTED = text("""
    SELECT b.file_id, l.batch_id, l.line, l.custom_id FROM gateway_batch_lines l JOIN gateway_batches b USING (batch_id)
    JOIN erased_requests e ON e.request_id = l.request_id
    WHERE l.batch_id = :batch_id AND l.line = :line
""")
_BLANK = text("""
    UPDATE gateway_batch_lines SET body = jsonb_build_object('model', body -> 'model')
    WHERE batch_id = :batch_id AND line = ANY(:lines)
""")
# Of a batch all of whose lines are erased, what its client told of it goes too. Lines that have ended have no body either way.
_BARE = text("""
    UPDATE gateway_batches b SET metadata = '{}' WHERE b.batch_id = :batch_id AND NOT EXISTS
        (SELECT 1 FROM gateway_batch_lines l LEFT JOIN erased_requests e ON e.request_id = l.request_id
         WHERE l.batch_id = b.batch_id AND e.request_id IS NULL AND (l.request_id IS NOT NULL OR l.state <> 'ended'))
""")
_CONTENT = text("SELECT content FROM gateway_files WHERE file_id = :file_id FOR UPDATE")
_REWRITE = text("""
    UPDATE gateway_files SET content = :content, num_bytes = octet_length(CAST(:content AS text)) WHERE file_id = :file_id
""")
_NAMELESS = text("UPDATE gateway_files SET filename = 'erased.jsonl' WHERE file_id = :file_id")


@dataclass(frozen=True, slots=True)
class _Line:
    file_id: str
    batch_id: str
    number: int
    custom_id: str


async def erase_lines(engine: AsyncEngine, ids: Sequence[str]) -> int:
    """How many lines and files have lost the words of these requests. A transaction for each batch, and for each file."""
    async with engine.connect() as connection:  # once for all ids: it reads all lines
        lines = [_Line(*row) for row in await connection.execute(_FOUND, {"ids": ids})]
    of_batch: dict[str, list[int]] = defaultdict(list)
    of_file: dict[str, dict[int, str]] = defaultdict(dict)
    for line in lines:
        of_batch[line.batch_id].append(line.number)
        of_file[line.file_id][line.number] = line.custom_id
    num_rows = 0
    for batch_id, numbers in sorted(of_batch.items()):
        async with engine.begin() as connection:
            num_rows += (await connection.execute(_BLANK, {"batch_id": batch_id, "lines": numbers})).rowcount
            await connection.execute(_BARE, {"batch_id": batch_id})
    for file_id, named in sorted(of_file.items()):
        async with engine.begin() as connection:
            num_rows += await _rewrite(connection, file_id, named)
    return num_rows


async def erase_line_if_noted(connection: AsyncConnection, batch_id: str, number: int) -> None:
    """Has a line that just became a request lose its words, where that was erased meanwhile. In the transaction that notes it."""
    found = (await connection.execute(_NOTED, {"batch_id": batch_id, "line": number})).one_or_none()
    if found is None:
        return
    line = _Line(*found)
    await connection.execute(_BLANK, {"batch_id": line.batch_id, "lines": [line.number]})
    await connection.execute(_BARE, {"batch_id": line.batch_id})
    await _rewrite(connection, line.file_id, {line.number: line.custom_id})


def without(content: str, named: Mapping[int, str]) -> tuple[str, bool]:
    """A file without what some of its lines say, by number with what they are called; and whether no line says anything more.

    Lines are numbered as a batch does: those that are blank don't count. A file whose line is called otherwise is not the one
    that was read: then nothing of it is left.
    """
    texts = lines_in(content)
    if any(number >= len(texts) or _called(texts[number]) != name for number, name in named.items()):
        return "", True
    for number, name in named.items():
        texts[number] = msgspec.json.encode({"custom_id": name, "erased": True}).decode()
    return "\n".join(texts) + "\n", all(_is_erased(each) for each in texts)


async def _rewrite(connection: AsyncConnection, file_id: str, named: Mapping[int, str]) -> int:
    """1 for a file that there is."""
    content = (await connection.execute(_CONTENT, {"file_id": file_id})).scalar_one_or_none()
    if content is None:
        return 0
    left, is_bare = without(content, named)
    await connection.execute(_REWRITE, {"file_id": file_id, "content": left})
    if is_bare:
        await connection.execute(_NAMELESS, {"file_id": file_id})
    return 1


def _called(line: str) -> object:
    return _read(line).get("custom_id")


def _is_erased(line: str) -> bool:
    return _read(line).get("erased") is True


def _read(line: str) -> dict[str, object]:
    try:
        found = msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
