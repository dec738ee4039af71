"""How a service that joins says what becomes of a group: the values its `join` returns.

A group is all events with one key that are *open*: read, uncommitted, and without any effect yet. Its `join` is called
with the whole group, in any order of arrival, and either waits or decides. A decision completes every event it was
given, in one transaction with its outputs and its carry; from then on the carry is the group's only open event. So
`join` must be order-free, and must decide nothing from a group whose earlier part (a carry) has not arrived yet.
"""

from msgspec import Struct

from schemas.events import Event


class Wait(Struct, frozen=True):
    """No effect yet. `join` is called again with the next event of the group, or at `until_ms`."""

    until_ms: int | None = None


class Decision(Struct, frozen=True):
    """The group's effect: `outputs` to publish, and the `carry` that remembers what the group has read, if needed.

    One that is made because nothing more will come is `once_read`: until all that was written before it is read, `join` is
    called again instead.
    """

    outputs: tuple[Event, ...] = ()
    carry: Event | None = None
    once_read: bool = False
