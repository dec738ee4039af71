"""Who is signed in to the pages: by the hash of what their browser holds, until when, and with which key."""

from datetime import timedelta

from sqlalchemy import text

from conclave.store.connection import lost_when_away, make_engine

_BEGIN = text("""
    INSERT INTO sign_ins (digest, key_id, ends_at) VALUES (:digest, :key_id, now() + CAST(:lifetime AS interval))
""")
_KEY_OF = text("SELECT key_id FROM sign_ins WHERE digest = :digest AND ends_at > now()")
_END = text("DELETE FROM sign_ins WHERE digest = :digest")
_FORGET = text("DELETE FROM sign_ins WHERE ends_at <= now()")


class SignIns:
    """Every method raises LostDependency while Postgres is away."""

    def __init__(self, dsn: str, *, connections: int = 1) -> None:
        self._engine = make_engine(dsn, connections=connections, statement_timeout_s=10.0)

    async def close(self) -> None:
        """Closes the connections."""
        await self._engine.dispose()

    async def begin(self, digest: bytes, key_id: str, lifetime: timedelta) -> None:
        """Notes one. Those that are past their end are forgotten."""
        async with lost_when_away(), self._engine.begin() as connection:
            await connection.execute(_FORGET)
            await connection.execute(_BEGIN, {"digest": digest, "key_id": key_id, "lifetime": lifetime})

    async def key_of(self, digest: bytes) -> str | None:
        """The id of the key that someone signed in with, whether or not it is in force still; None once that has ended."""
        async with lost_when_away(), self._engine.connect() as connection:
            found: str | None = (await connection.execute(_KEY_OF, {"digest": digest})).scalar_one_or_none()
        return found

    async def end(self, digest: bytes) -> None:
        """Ends one, if there is any."""
        async with lost_when_away(), self._engine.begin() as connection:
            await connection.execute(_END, {"digest": digest})
