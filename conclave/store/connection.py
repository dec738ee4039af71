"""Connecting to PostgreSQL, and telling a lost server from a refused statement."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from conclave.errors import LostDependency
from conclave.store.addresses import address_of

ALREADY_THERE = asyncpg.UniqueViolationError
_AWAY = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.exceptions.OperatorInterventionError,  # shut down, crashed, starting up
    asyncpg.exceptions.TooManyConnectionsError,
)


def make_engine(
    dsn: str, *, connections: int = 2, statement_timeout_s: float = 0.0, is_read_only: bool = False
) -> AsyncEngine:
    """A pool of connections to `postgresql://…`; nothing is connected yet. Raises: Misconfigured.

    Where all are taken it grows to twice its size, and keeps what it has: a connection that is made anew costs a process of the
    server's, and all that is prepared in one.
    """
    address = address_of(dsn)
    # Prepared statements survive in a connection; JIT costs more than these queries gain. The limits of the database are for
    # analysts: what Conclave itself asks is bounded here.
    arguments: dict[str, Any] = {
        "timeout": 10,
        "command_timeout": 60,
        "server_settings": {
            "application_name": "conclave",
            "jit": "off",
            "statement_timeout": str(round(statement_timeout_s * 1000)),
            "idle_in_transaction_session_timeout": "0",
            "default_transaction_read_only": "on" if is_read_only else "off",
        },
    }
    if address.tls is not None:
        arguments["ssl"] = address.tls
    return create_async_engine(
        address.url,
        pool_size=2 * connections,
        max_overflow=0,
        pool_pre_ping=True,
        hide_parameters=True,  # what is asked or kept belongs in no log
        connect_args=arguments,
    )


@asynccontextmanager
async def lost_when_away() -> AsyncIterator[None]:
    """Turns what a server that is away makes of a statement into LostDependency; other errors pass."""
    try:
        yield
    except DBAPIError as error:
        cause = error.orig.__cause__ if error.orig is not None else None
        if error.connection_invalidated or isinstance(cause, _AWAY) or isinstance(error.orig, _AWAY):
            raise LostDependency("postgres", str(error.orig)[:300]) from error
        raise
    except _AWAY as error:
        raise LostDependency("postgres", repr(error)[:300]) from error
