"""What is the database's own fault, and what is its statement's."""

import asyncio
import ssl
from typing import Any

import asyncpg
import pytest
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from conclave.errors import LostDependency
from conclave.store.connection import lost_when_away

REFUSED = ("22001", "22003", "22021", "22P02", "22P05", "23502", "23505", "23514", "54000", "54001", "P0001")
AILING = (
    "0A000", "08006", "25006", "26000", "28P01", "3D000", "40001", "40P01", "42501", "42703", "42883", "42P01", "53100", "53200",
    "53300", "55006", "55P03", "57014", "57P01", "57P03", "58030", "XX000", "XX001",
)  # fmt: skip


def of_sqlstate(code: str) -> asyncpg.PostgresError:
    """What the driver raises, as it makes it of what the server says."""
    fields = {"C": code, "M": f"what {code} says", "D": "Key (question)=(s3cret)", "S": "ERROR"}
    return asyncpg.PostgresError.new(fields)


async def raised(error: Exception) -> Exception:
    try:
        async with lost_when_away():
            raise error
    except (LostDependency, type(error)) as found:
        return found
    raise AssertionError("it was swallowed")


def wrapped(error: Exception) -> DBAPIError:
    """As SQLAlchemy raises it."""
    orig: Any = RuntimeError("translated")
    orig.__cause__ = error
    return DBAPIError("SELECT", None, orig)


@pytest.mark.parametrize("code", AILING)
def test_what_no_other_statement_would_change_is_waited_for(code: str) -> None:
    for error in (of_sqlstate(code), wrapped(of_sqlstate(code))):
        found = asyncio.run(raised(error))
        assert isinstance(found, LostDependency)
        assert found.why == f"what {code} says ({code})", "without the detail, which may tell of a row"


@pytest.mark.parametrize("code", REFUSED)
def test_what_is_about_a_value_is_its_statement_s_fault(code: str) -> None:
    for error in (of_sqlstate(code), wrapped(of_sqlstate(code))):
        assert asyncio.run(raised(error)) is error


def test_a_value_that_the_driver_cannot_encode_is_its_statement_s_fault() -> None:
    class DataError(asyncpg.InterfaceError, ValueError):
        """As the driver makes it; its own is not exported."""

    for error in (DataError("value out of int32 range"), wrapped(DataError("value out of int32 range"))):
        assert asyncio.run(raised(error)) is error


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (TimeoutError(), "no answer in time"),
        (ConnectionRefusedError("refused"), "ConnectionRefusedError('refused')"),
        (ssl.SSLCertVerificationError("nobody's"), 'SSLCertVerificationError("nobody\'s")'),  # a ValueError too
        (asyncpg.InterfaceError("connection is closed"), "InterfaceError('connection is closed')"),
        (PoolTimeout("QueuePool limit of size 8 overflow 0 reached"), "all connections were in use for too long"),
    ],
)
def test_a_server_that_does_not_answer_is_away(error: Exception, why: str) -> None:
    found = asyncio.run(raised(error))
    assert isinstance(found, LostDependency)
    assert found.why == why
