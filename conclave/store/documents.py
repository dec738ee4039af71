"""An operator's documents: put in by `conclave documents add`, looked up in full text by the tool `documents`.

A document is kept in passages, so that what is found fits into a prompt. What is looked up are the passages that hold all words
asked for, else those that hold most of them (`websearch_to_tsquery`, ranked by `ts_rank_cd`).
"""

import re
from collections.abc import Sequence

from sqlalchemy import text

from conclave.errors import LostDependency
from conclave.store.connection import lost_when_away, make_engine

MAX_PASSAGE_CHARS = 1_200
MAX_QUERY_CHARS = 500
MAX_DOCUMENT_CHARS = 20_000_000
_NUM_FOUND = 3
_STATEMENT_TIMEOUT_S = 1.5  # below the tool's own limit: the server ends what nobody waits for

_FIND = """
    WITH asked AS (SELECT language, {query} AS query FROM (SELECT DISTINCT language FROM documents) languages)
    SELECT d.name, d.part, d.text FROM documents d JOIN asked a USING (language)
    WHERE d.words @@ a.query ORDER BY ts_rank_cd(d.words, a.query) DESC, d.name, d.part LIMIT :limit
"""
_ALL_WORDS = text(_FIND.format(query="websearch_to_tsquery(language, :words)"))
_ANY_WORD = text(_FIND.format(query="replace(websearch_to_tsquery(language, :words)::text, ' & ', ' | ')::tsquery"))
_ADD = text(
    "INSERT INTO documents (name, part, language, text) VALUES (:name, :part, CAST(:language AS regconfig), :text)"
)


class Documents:
    """The documents in one database. Nothing is connected before the first question."""

    def __init__(self, dsn: str) -> None:
        self._engine = make_engine(dsn, connections=2, statement_timeout_s=_STATEMENT_TIMEOUT_S)

    async def close(self) -> None:
        """Closes the connections."""
        await self._engine.dispose()

    async def look_up(self, words: str) -> str:
        """The best passages for some words, each after its document's name; or `error: …`. Never raises."""
        asked = words.replace("\0", " ").encode("utf-8", "replace").decode().strip()[:MAX_QUERY_CHARS]
        if not asked:
            return "error: words to look for are expected"
        try:
            found = await self._found(asked)
        except LostDependency:
            return "error: the documents are away just now"
        if not found:
            return "nothing is found; other words may be"
        return "\n".join(f"[{name}] {' '.join(passage.split())}" for name, passage in found)

    async def _found(self, words: str) -> list[tuple[str, str]]:
        """Raises: LostDependency."""
        async with lost_when_away(), self._engine.connect() as connection:
            for query in (_ALL_WORDS, _ANY_WORD):
                rows = (await connection.execute(query, {"words": words, "limit": _NUM_FOUND})).all()
                if rows:
                    return [(str(row[0]), str(row[2])) for row in rows]
        return []

    async def put(self, name: str, content: str, language: str) -> int:
        """Keeps a document in place of any other of that name; how many passages it has. Raises: LostDependency."""
        parts = passages(content[:MAX_DOCUMENT_CHARS].replace("\0", " "))
        rows = [{"name": name, "part": n, "language": language, "text": part} for n, part in enumerate(parts)]
        async with lost_when_away(), self._engine.begin() as connection:
            await connection.execute(text("SET LOCAL statement_timeout = 0"))
            await connection.execute(text("DELETE FROM documents WHERE name = :name"), {"name": name})
            if rows:
                await connection.execute(_ADD, rows)
        return len(parts)

    async def remove(self, name: str) -> bool:
        """Whether there was a document of that name; there is none any more. Raises: LostDependency."""
        async with lost_when_away(), self._engine.begin() as connection:
            done = await connection.execute(text("DELETE FROM documents WHERE name = :name"), {"name": name})
            return bool(done.rowcount)

    async def listed(self) -> list[tuple[str, int, int]]:
        """Each document's name, passages and characters, by name. Raises: LostDependency."""
        query = "SELECT name, count(*), sum(length(text)) FROM documents GROUP BY name ORDER BY name"
        async with lost_when_away(), self._engine.connect() as connection:
            return [(str(row[0]), int(row[1]), int(row[2])) for row in (await connection.execute(text(query))).all()]


def passages(content: str) -> Sequence[str]:
    """A text in passages of at most 1,200 characters, cut between paragraphs where that is possible, else between words."""
    found: list[str] = []
    for paragraph in re.split(r"\n\s*\n", content):
        rest = paragraph.strip()
        while rest:
            end = len(rest) if len(rest) <= MAX_PASSAGE_CHARS else rest.rfind(" ", 1, MAX_PASSAGE_CHARS)
            piece, rest = (
                (rest[:end], rest[end:].strip()) if end > 0 else (rest[:MAX_PASSAGE_CHARS], rest[MAX_PASSAGE_CHARS:])
            )
            if found and len(found[-1]) + len(piece) + 2 <= MAX_PASSAGE_CHARS:
                found[-1] += f"\n\n{piece}"
            else:
                found.append(piece)
    return found
