"""How a process treats its memory: asyncio reads no more of a socket at once than it is told to."""

import asyncio
import socket
from asyncio import selector_events
from typing import Any

import pytest

from conclave.runtime.memory import receive_little_at_once

SENT_BYTES = 512 * 1024


class Pieces(asyncio.Protocol):
    """Notes how much came at once."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.is_whole = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.sizes.append(len(data))
        if sum(self.sizes) >= SENT_BYTES:
            self.is_whole.set()


async def largest_piece() -> int:
    """How many bytes come at once at most, of many that are there already."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    for each in (ours, theirs):
        each.setblocking(False)
        each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * SENT_BYTES)
    transport, pieces = await loop.create_connection(Pieces, sock=ours)
    transport.pause_reading()
    sending = asyncio.create_task(loop.sock_sendall(theirs, bytes(SENT_BYTES)))
    await asyncio.sleep(0)
    transport.resume_reading()
    async with asyncio.timeout(20):
        await pieces.is_whole.wait()
        await sending
    transport.close()
    theirs.close()
    return max(pieces.sizes)


async def test_no_more_than_64_kib_is_read_of_a_socket_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    transports: Any = vars(selector_events)["_SelectorSocketTransport"]
    monkeypatch.setattr(transports, "max_size", transports.max_size)  # to be put back
    before = await largest_piece()
    receive_little_at_once()
    assert await largest_piece() <= 64 * 1024 < before
