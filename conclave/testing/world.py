"""The world that tools with an effect change, and the ledger of their calls, in memory: what the service `tools` speaks to."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from conclave.domain.external import Entry, Known
from conclave.errors import LostDependency
from conclave.testing.network import Endpoint, Network, Request
from conclave.testing.record import Database
from conclave.tools import WITH_EFFECTS
from schemas.events import ToolRequested

CALLING_POLICIES = Path(__file__).parent / "policies"
_NEEDS_APPROVAL = {"world.write": False, "world.book": False, "world.sign": True}
_KNOW_KEYS = frozenset({"world.book"})
_LIMIT_S = 3.0  # that a call may take


@dataclass
class World:
    """What calls have done to it, by their keys."""

    network: Network
    calls: Counter[str] = field(default_factory=Counter)  # that came here
    effects: Counter[str] = field(default_factory=Counter)  # that they had

    def do(self, argument: str, key: str, *, knows_keys: bool) -> str:
        """The effect of a call; of one with a key that is known, none."""
        self.calls[key] += 1
        if not (knows_keys and self.effects[key]):
            self.effects[key] += 1
        return f"done: {argument}"[:100]


@dataclass(frozen=True, slots=True)
class WorldTool:
    """A tool as the service `tools` calls it; its server may be away, slow, or lose the reply."""

    world: World
    endpoint: Endpoint
    needs_approval: bool = False
    knows_keys: bool = False

    async def call(self, argument: str, key: str) -> str:
        """What it did; `error: …` where nobody answers in time."""
        try:
            async with asyncio.timeout(_LIMIT_S):
                said: str = await self.world.network.request(
                    self.endpoint, Request.CALL, lambda: self.world.do(argument, key, knows_keys=self.knows_keys)
                )
                return said
        except (TimeoutError, LostDependency):
            return "error: no answer"


def tools_of(world: World, endpoint: Endpoint) -> Mapping[str, WorldTool]:
    """The tools that CALLING_POLICIES call."""
    return {
        name: WorldTool(world, endpoint, needs_approval=needs_approval, knows_keys=name in _KNOW_KEYS)
        for name, needs_approval in _NEEDS_APPROVAL.items()
    }


@contextmanager
def declared() -> Iterator[None]:
    """Inside, policies may name these tools, as those of a file of MCP servers."""
    before = dict(WITH_EFFECTS)
    WITH_EFFECTS.update(_NEEDS_APPROVAL)
    try:
        yield
    finally:
        WITH_EFFECTS.clear()
        WITH_EFFECTS.update(before)


class MemoryLedger:
    """A process's way to the ledger of calls in the database in memory, which outlives it."""

    def __init__(self, database: Database, endpoint: Endpoint) -> None:
        self._database, self._endpoint = database, endpoint

    async def begin(self, key: str, event: ToolRequested) -> Entry:
        """What is known of a call; a new one is entered as begun. Raises: LostDependency."""
        entry: Entry = await self._database.network.request(self._endpoint, Request.ENTER, lambda: self._begin(key))
        return entry

    async def end(self, key: str, observed: str, *, is_failed: bool) -> None:
        """Enters what came of a call; the first that is entered stays. Raises: LostDependency."""
        await self._database.network.request(
            self._endpoint, Request.ENTER, lambda: self._end(key, Entry(Known.DONE, observed, is_failed))
        )

    def _begin(self, key: str) -> Entry:
        known = self._database.calls.get(key)
        if known is None:
            self._database.calls[key] = Entry(Known.BEGUN)
        return known or Entry(Known.NEW)

    def _end(self, key: str, entry: Entry) -> None:
        if self._database.calls[key].known is not Known.DONE:
            self._database.calls[key] = entry
