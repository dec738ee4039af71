"""Whether a broker listens: the client library itself only waits for one that is away."""

import asyncio
import contextlib
import socket

from conclave.runtime.attempts import Dependencies

_EVERY_S = 2.0  # soon enough for /ready, whose probes come every few seconds
_CONNECT_S = 5.0  # a broker that takes longer to accept a connection is of no use


async def probe_kafka(bootstrap_servers: str, dependencies: Dependencies) -> None:
    """Notes every few seconds whether a broker is there, until cancelled."""
    while True:
        if await is_any_listening(bootstrap_servers):
            dependencies.back("kafka")
        else:
            dependencies.lost("kafka", f"no broker of {bootstrap_servers} accepts a connection")
        await asyncio.sleep(_EVERY_S)


async def is_any_listening(bootstrap_servers: str) -> bool:
    """True where one of these accepts a connection."""
    for address in bootstrap_servers.split(","):
        host, _, port = address.strip().rpartition(":")
        try:
            async with asyncio.timeout(_CONNECT_S):
                if await _accepts(host.strip("[]"), int(port)):
                    return True
        except (OSError, TimeoutError, ValueError):
            continue
    return False


async def _accepts(host: str, port: int) -> bool:
    """True where a connection is accepted. Raises: OSError for a host without an address.

    By a socket alone: asyncio's transports refer to themselves, so each would wait for the garbage collector, which comes seldom.
    """
    loop = asyncio.get_running_loop()
    for family, kind, protocol, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        with socket.socket(family, kind, protocol) as probe, contextlib.suppress(OSError):
            probe.setblocking(False)
            await loop.sock_connect(probe, address)
            return True
    return False
