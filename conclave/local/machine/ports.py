"""Free loopback ports that a restarted server finds free again."""

import errno
import random
import socket
from pathlib import Path

from conclave.local.errors import LocalStackError, PortTaken

LOOPBACK = "127.0.0.1"
_LOWEST, _FALLBACK_CEILING = 20_000, 32_000
_TRIES = 200


def free_port(avoid: frozenset[int] = frozenset()) -> int:
    """A port that nobody listens on, below the range the kernel gives to outgoing connections.

    An ephemeral port is no use here: while a server restarts, a client's own outgoing connection may take it, and a
    client that retries the closed port can even connect to itself.
    """
    for _ in range(_TRIES):
        port = random.randrange(_LOWEST, _ceiling())
        if port not in avoid and is_free(port):
            return port
    raise LocalStackError(f"No free port between {_LOWEST} and {_ceiling()} in {_TRIES} tries.")


def is_free(port: int) -> bool:
    """True when a server could listen on `port` of the loopback interface now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT is free for a server
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True


def require_free(part: str, port: int) -> None:
    """Raises: PortTaken when another process listens on `port`."""
    if not is_free(port):
        raise PortTaken(part, port)


def _ceiling() -> int:
    """The first port of the kernel's ephemeral range, or a usual value where it can't be read or leaves no room."""
    try:
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:
        return _FALLBACK_CEILING
    return first if first > _LOWEST + 1_000 else _FALLBACK_CEILING
