"""A call in, the verdict on its step out; the call is made once.

    1. nobody provides the tool, or it needs a yes that it has not       the verdict that it failed
    2. past the request's deadline                                       the same: what comes too late has no effect either
    3. the ledger: done before                                           the verdict on what came of it then, where that is kept;
                                                                         else made again where the tool knows its key
                   begun before, and nobody knows how far it came        made again where the tool knows its key; else it failed
                   new                                                   it is entered as begun, and made
    4. what came of it is entered, and is the verdict
A crash between 3 and 4 leaves an effect that is there or not, which only the tool itself can know: one that takes the key of a call
makes it once whoever calls how often; one that doesn't is never called twice, and the path is told that nobody knows.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from conclave.domain import external
from conclave.domain.external import CallEnd, Entry, Known
from conclave.runtime.dead_letters import Cause
from conclave.runtime.handler import Arrival
from schemas.events import ApprovalRequested, Event, StepDecided, ToolRequested

_UNKNOWN = "it was begun once before and cut off: whether it had its effect is not known, and it was not called again"

_NOT_KEPT = "it was begun once before, and what came of it is not kept"


class Ledger(Protocol):
    """Remembers calls by their key. Every method raises LostDependency while it is away."""

    async def begin(self, key: str, event: ToolRequested) -> Entry:
        """What is known of a call; a new one is entered as begun."""
        ...

    async def end(self, key: str, observed: str, *, is_failed: bool) -> None:
        """Enters what came of a call."""
        ...


class EffectTool(Protocol):
    """A tool with an effect."""

    @property
    def needs_approval(self) -> bool:
        """True where it is called for nobody without a yes, whatever a policy says."""
        ...

    @property
    def knows_keys(self) -> bool:
        """True where a second call with the same key has no effect."""
        ...

    async def call(self, argument: str, key: str) -> str:
        """What it observed; `error: …` where it failed. Ends within a limit of its own, and raises nothing."""
        ...


class ToolCaller:
    """Handler of `reasoning.tools`."""

    def __init__(self, tools: Mapping[str, EffectTool], ledger: Ledger) -> None:
        self._tools, self._ledger = tools, ledger
        self._observed: dict[str, str] = {}  # of calls that were made and could not be entered yet

    async def handle(self, event: Event, arrival: Arrival) -> Sequence[Event]:
        """The verdict on the call's step; nothing for a call that waits for a yes, which its request's thought does."""
        if isinstance(event, ApprovalRequested):
            return []
        assert isinstance(event, ToolRequested)
        tool = self._tools.get(event.call.tool)
        refusal = _refusal(event, tool, arrival.now_ms)
        if tool is None or refusal is not None:
            return [external.decided(event.context, CallEnd.FAILED, refusal or "", arrival.now_ms)]
        key = str(event.step_id)
        entry = await self._ledger.begin(key, event)
        if entry.known is Known.BEGUN and not tool.knows_keys and key not in self._observed:
            entry = Entry(Known.DONE, _UNKNOWN, is_failed=True)
            await self._ledger.end(key, _UNKNOWN, is_failed=True)
        if entry.known is Known.DONE and entry.observed is None and not tool.knows_keys:
            entry = Entry(Known.DONE, _NOT_KEPT, is_failed=entry.is_failed)
        if entry.known is not Known.DONE or entry.observed is None:
            if key not in self._observed:
                self._observed[key] = await tool.call(event.call.argument, key)
            observed = self._observed[key]
            entry = Entry(Known.DONE, observed, is_failed=observed.startswith("error:"))
            await self._ledger.end(key, observed, is_failed=entry.is_failed)
            del self._observed[key]
        end = CallEnd.FAILED if entry.is_failed else CallEnd.OBSERVED
        return [external.decided(event.context, end, entry.observed or "", arrival.now_ms)]

    def give_up(self, event: Event, arrival: Arrival, cause: Cause) -> Sequence[StepDecided]:
        """The verdict that it failed."""
        if not isinstance(event, ToolRequested):
            return []
        text = f"given up ({cause.reason}): {cause.message}"
        return [external.decided(event.context, CallEnd.FAILED, text, arrival.now_ms)]

    def unreadable(self, value: bytes | None, arrival: Arrival, cause: Cause) -> Sequence[Event]:
        """Nothing: what asks for calls has read each of them back before."""
        return []


def _refusal(event: ToolRequested, tool: EffectTool | None, now_ms: int) -> str | None:
    """Why a call is not made; None when it may be."""
    if tool is None:
        return f"there is no tool {event.call.tool} here"
    if tool.needs_approval and not event.is_approved:
        return f"{event.call.tool} needs somebody's yes, and its policy asks for none"
    if now_ms >= event.context.deadline_ms:
        return "the deadline of its request had passed before it was called"
    return None
