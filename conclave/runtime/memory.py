"""How a process treats its memory."""

import gc

_ALLOCATIONS_BETWEEN_COLLECTIONS = 10_000  # CPython has 700


def collect_seldom() -> None:
    """Has the garbage collector leave alone what was imported, and look at the rest a tenth as often.

    Messages make no cycles, so counting references frees nearly all of them; looking for cycles took a tenth of a path's CPU.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS_BETWEEN_COLLECTIONS, 10, 10)
