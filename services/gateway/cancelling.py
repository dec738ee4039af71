"""Cancels requests that nobody waits for any more. While the log is away their cancellations wait until it is back."""

import asyncio
import time
from collections import deque
from collections.abc import Iterable

import structlog

from conclave.errors import LostDependency
from schemas.events import RequestCancelled
from services.gateway import metrics
from services.gateway.publishing import Log

_MOST = 10_000  # that wait; of more the oldest are let go
_PAUSE_S = 1.0

log = structlog.get_logger(__name__)


class Cancelling:
    """See the module's docstring. What waits is lost with the process: those requests go on to their end."""

    def __init__(self, log: Log, *, pause_s: float = _PAUSE_S) -> None:
        self._log, self._pause_s = log, pause_s
        self._waiting: deque[RequestCancelled] = deque(maxlen=_MOST)
        self._is_any = asyncio.Event()

    async def publish(self, cancellations: Iterable[RequestCancelled], *, is_log_away: bool = False) -> None:
        """Publishes them, or has them wait: at once where the log is known to be away."""
        rest = deque(cancellations)
        try:
            while rest and not is_log_away and not self._waiting:
                await self._log.publish(rest[0])
                rest.popleft()
        except LostDependency as error:
            log.warning("cancellations_wait", cancellations=len(rest), why=error.why)
        self._wait(rest)

    async def run(self) -> None:
        """Publishes those that wait, as long as they are worth anything, until cancelled."""
        while True:
            await self._is_any.wait()
            await asyncio.sleep(self._pause_s)
            try:
                while self._waiting:
                    await self._publish_first()
            except LostDependency:
                continue
            self._is_any.clear()

    async def _publish_first(self) -> None:
        first = self._waiting.popleft()
        try:
            if first.until_ms > time.time_ns() // 1_000_000:
                await self._log.publish(first)
        except LostDependency:
            self._waiting.appendleft(first)
            raise
        finally:
            metrics.CANCELLATIONS.set(len(self._waiting))

    def _wait(self, cancellations: Iterable[RequestCancelled]) -> None:
        self._waiting.extend(cancellations)
        if self._waiting:
            self._is_any.set()
        metrics.CANCELLATIONS.set(len(self._waiting))
