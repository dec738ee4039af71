"""Where clients of aiokafka connect, and how long any of their calls may take."""

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from aiokafka.errors import KafkaError

from conclave.errors import LostDependency
from conclave.runtime.brokers import Brokers, Compression

T = TypeVar("T")
TIME_LIMIT_S = 30.0  # of any one call: as long as a broker keeps a transaction open
LEAVE_S = 10.0  # to leave a group in order, or to send what is buffered
CLOSE_S = 5.0  # of connections that are given up anyway
REQUEST_TIMEOUT_MS = 20_000  # of one request to publish or to administer: within TIME_LIMIT_S a second one fits in part
READ_TIMEOUT_MS = 45_000  # of one request of a reader's: longer than a rebalance, which an answer to a join waits for
REBALANCE_TIMEOUT_MS = 30_000  # that a group waits for a member to let go of its partitions
LOST = (KafkaError, OSError, TimeoutError, AssertionError)


def connection_of(brokers: Brokers | str) -> dict[str, Any]:
    """What every client of aiokafka is told of where it connects, and how."""
    found = Brokers.of(brokers)
    told: dict[str, Any] = {
        "bootstrap_servers": found.servers,
        "security_protocol": found.security.value.upper(),
        "ssl_context": found.tls(),
    }
    if found.security.has_sasl:
        told |= {
            "sasl_mechanism": found.mechanism.value,
            "sasl_plain_username": found.username,
            "sasl_plain_password": found.password,
        }
    return told


def compression_of(brokers: Brokers | str) -> str | None:
    """How aiokafka's producers are told to compress."""
    found = Brokers.of(brokers).compression
    return None if found is Compression.NONE else found.value


async def limited(work: Awaitable[T], limit_s: float = TIME_LIMIT_S) -> T:
    """The result of `work`. Raises: LostDependency after `limit_s`, or when the broker can't be reached."""
    try:
        async with asyncio.timeout(limit_s):
            return await work
    except LOST as error:
        raise LostDependency("kafka", repr(error)) from error
