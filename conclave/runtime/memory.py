"""How a process treats its memory."""

import gc
from asyncio import selector_events
from typing import Any

_ALLOCATIONS_BETWEEN_COLLECTIONS = 10_000  # CPython has 700
_RECEIVED_AT_ONCE_BYTES = 64 * 1024  # asyncio has 256 KiB


def collect_seldom() -> None:
    """Has the garbage collector leave alone what was imported, and look at the rest a tenth as often.

    Messages make no cycles, so counting references frees nearly all of them; looking for cycles took a tenth of a path's CPU.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS_BETWEEN_COLLECTIONS, 10, 10)


def receive_little_at_once() -> None:
    """Has asyncio make room for less at each read of a socket, so that the heap has holes of a quarter of the size.

    Room is made for as much as a read may bring, and what it did not bring is given back. A kilobyte that is kept of it then stands
    between holes that are all a little too small for the next read, and the heap grows (docs/decisions/0056).
    """
    transports: Any = selector_events
    transports._SelectorSocketTransport.max_size = _RECEIVED_AT_ONCE_BYTES
