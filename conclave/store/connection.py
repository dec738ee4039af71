"""Connecting to PostgreSQL, and telling a lost server from a refused statement."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from conclave.errors import LostDependency
from conclave.store.addresses import address_of

ALREADY_THERE = asyncpg.UniqueViolationError
COMMAND_TIMEOUT_S = 60.0  # of a statement of everyday work: what takes longer has lost its server
# What is about a statement's values, by the class of its SQLSTATE (PostgreSQL's appendix A). All else ails the database, whatever
# it is asked: no disk or memory, a deadlock, a shutdown or a standby, a login or a right that is refused, another schema than this
# code's, a plan that a migration has overtaken, its own faults.
_OF_VALUES = {
    "21": "a row that a statement would change twice",
    "22": "data that a type does not take",
    "23": "constraints, and days without a partition",
    "44": "what a view would not show",
    "54": "limits of a row, an index or a value",
    "09": "an operator's trigger",
    "27": "an operator's trigger",
    "38": "an operator's routine",
    "39": "an operator's routine",
    "P0": "an operator's routine in PL/pgSQL",
}


def make_engine(
    dsn: str,
    *,
    connections: int = 2,
    statement_timeout_s: float = 0.0,
    command_timeout_s: float | None = COMMAND_TIMEOUT_S,
    is_read_only: bool = False,
) -> AsyncEngine:
    """A pool of connections to `postgresql://…`; nothing is connected yet. Raises: Misconfigured.

    The server ends a statement after `statement_timeout_s` (0: never). After `command_timeout_s` the client takes the server for
    lost; None: never, for work that takes the longer the larger the record is.

    Where all connections are taken the pool grows to twice its size, and keeps what it has: one that is made anew costs a process
    of the server's, and all that is prepared in one.
    """
    address = address_of(dsn)
    # Prepared statements survive in a connection; JIT costs more than these queries gain. The limits of the database are for
    # analysts: what Conclave itself asks is bounded here.
    arguments: dict[str, Any] = {
        "timeout": 10,
        "command_timeout": command_timeout_s,
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
    """Turns what a server makes of a statement that is away, or is in no state to take any, into LostDependency.

    Other errors pass: those are about what it was given.
    """
    try:
        yield
    except DBAPIError as error:
        cause = error.orig.__cause__ if error.orig is not None else None
        if error.connection_invalidated or _is_away(cause) or _is_away(error.orig):
            raise LostDependency("postgres", _told(cause or error.orig or error)) from error
        raise
    except Exception as error:
        if _is_away(error):
            raise LostDependency("postgres", _told(error)) from error
        raise


def _is_away(error: BaseException | None) -> bool:
    """True for what no other statement would change. A value that the driver can't encode is an error of its interface too.

    Where all connections are in use for so long that the pool gives up waiting for one, the server is as good as away.
    """
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "XX")[:2] not in _OF_VALUES
    if isinstance(error, asyncpg.InterfaceError):
        return not isinstance(error, ValueError)
    return isinstance(error, OSError | PoolTimeout)


def _told(error: BaseException) -> str:
    """What it says, without the details, which may tell of rows."""
    if isinstance(error, asyncpg.PostgresError):
        return f"{str(error.args[0])[:280]} ({error.sqlstate})"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, PoolTimeout):
        return "all connections were in use for too long"
    return (str(error) if isinstance(error, DBAPIError) else repr(error))[:300]
