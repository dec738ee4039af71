"""Cancels requests that nobody waits for any more. While the log is away their cancellations wait until it is back.

They wait in Postgres, those of a batch from the moment that it is cancelled, where any gateway finds them; in memory only
while that is away too.
"""

import asyncio
import time
from collections import deque
from collections.abc import Collection, Iterable
from contextlib import suppress
from typing import Protocol

import structlog

from conclave.errors import LostDependency
from schemas.events import RequestCancelled
from services.gateway import metrics
from services.gateway.failures import surviving
from services.gateway.publishing import Log

_MOST = 10_000  # that wait in memory; of more the oldest are let go
_AT_ONCE = 500
_PAUSE_S = 2.0
_CLOSE_S = 3.0  # for what waits in memory when the gateway stops

log = structlog.get_logger(__name__)


class Noted(Protocol):
    """Where they wait: conclave.store.cancellations.Cancellations. Each raises LostDependency."""

    async def add(self, cancellations: Collection[RequestCancelled]) -> None: ...
    async def waiting(self, limit: int) -> list[RequestCancelled]: ...
    async def drop(self, request_ids: Collection[str]) -> None: ...


class Cancelling:
    """See the module's docstring."""

    def __init__(self, log: Log, noted: Noted, *, pause_s: float = _PAUSE_S) -> None:
        self._log, self._noted, self._pause_s = log, noted, pause_s
        self._waiting: deque[RequestCancelled] = deque(maxlen=_MOST)

    async def publish(self, cancellations: Iterable[RequestCancelled], *, is_log_away: bool = False) -> None:
        """Publishes them, or has them wait: at once where the log is known to be away."""
        rest = deque(cancellations)
        try:
            while rest and not is_log_away:
                await self._log.publish(rest[0])
                rest.popleft()
        except LostDependency as error:
            log.warning("cancellations_wait", cancellations=len(rest), why=error.why)
        if rest:
            self.wait(rest)
            with suppress(LostDependency):
                await self._note()

    async def publish_noted(self, cancellations: Collection[RequestCancelled]) -> None:
        """Publishes what waits in Postgres already, rather than have it wait for the next look. Never raises."""
        try:
            for each in cancellations:
                await self._log.publish(each)
            if cancellations:
                await self._noted.drop([str(each.request_id) for each in cancellations])
        except LostDependency as error:
            log.warning("cancellations_wait", cancellations=len(cancellations), why=error.why)

    def wait(self, cancellations: Iterable[RequestCancelled]) -> None:
        """Has them wait: until those that do are next looked for, or the gateway stops."""
        num_before = len(self._waiting)
        self._waiting.extend(cancellations)
        metrics.CANCELLATIONS.inc(len(self._waiting) - num_before)

    async def run(self) -> None:
        """Publishes those that wait, whichever gateway heard them, until cancelled."""
        while True:
            with suppress(LostDependency), surviving("cancelling_broken"):
                await self._publish_waiting()
            await asyncio.sleep(self._pause_s)

    async def close(self) -> None:
        """Has what waits in memory outlive the gateway, as far as the log or Postgres takes it in time. Never raises."""
        with suppress(LostDependency, TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await self._note()
        with suppress(LostDependency, TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await self._publish(self._waiting)
        if self._waiting:
            log.warning("cancellations_lost", cancellations=len(self._waiting))

    async def _publish_waiting(self) -> None:
        """Those in memory first: nobody else knows of them. Raises: LostDependency."""
        try:
            await self._publish(self._waiting)
        except LostDependency:
            await self._note()
            raise
        finally:
            metrics.CANCELLATIONS.set(len(self._waiting))
        while found := await self._noted.waiting(_AT_ONCE):
            metrics.CANCELLATIONS.set(len(found))
            await self._publish(deque(found))
            await self._noted.drop([str(each.request_id) for each in found])
        metrics.CANCELLATIONS.set(0)

    async def _publish(self, waiting: deque[RequestCancelled]) -> None:
        """Publishes each that is worth something still, and takes it out of those that wait. Raises: LostDependency."""
        while waiting:
            first = waiting[0]
            if first.until_ms > time.time_ns() // 1_000_000:
                await self._log.publish(first)
            _take_out(first, waiting)

    async def _note(self) -> None:
        """Has what waits in memory wait in Postgres. Raises: LostDependency."""
        noting = tuple(self._waiting)
        if noting:
            await self._noted.add(noting)
            for each in noting:
                _take_out(each, self._waiting)


def _take_out(cancellation: RequestCancelled, waiting: deque[RequestCancelled]) -> None:
    """Has it wait no longer, unless it does not any more: others may have seen to it meanwhile."""
    with suppress(ValueError):
        waiting.remove(cancellation)
