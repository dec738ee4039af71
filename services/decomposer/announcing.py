"""Tells which policies this decomposer goes by: at its start, and whenever its files have changed.

Nobody says who changes a file. What can be known is what each running decomposer read, and when; from that the record has every
change with the digests before and after. Best effort: requests do not wait for it, and what could not be told is told later.
"""

import asyncio
from collections.abc import Sequence

import structlog

from conclave.errors import LostDependency
from conclave.file_states import LOOKED_AT_EVERY_S
from conclave.policies import PolicySet
from conclave.policies.current import CurrentPolicies
from conclave.policies.reading import Read
from conclave.runtime.broker import Broker, PlainProducer
from conclave.runtime.clock import ClockMs, wall_clock_ms
from conclave.runtime.record import output_of
from schemas.events import MAX_POLICY_FILES, PoliciesRead
from schemas.ids import derived_event_id
from schemas.values import PolicyFile

_SERVICE = "decomposer"

log = structlog.get_logger(__name__)


class Announcer:
    """See the module's docstring."""

    def __init__(
        self, policies: CurrentPolicies, broker: Broker, instance: str, *, clock_ms: ClockMs = wall_clock_ms
    ) -> None:
        self._policies, self._broker, self._instance, self._clock_ms = policies, broker, instance, clock_ms
        self._told: PolicySet | None = None
        self._why_not = ""

    async def follow(self) -> None:
        """Looks every few seconds whether there is something to tell, for ever."""
        while True:
            try:
                await self.tell()
                self._why_not = ""
            except LostDependency as error:
                if not self._why_not:
                    log.warning("policies_not_told", why=error.why)
                self._why_not = error.why
            await asyncio.sleep(LOOKED_AT_EVERY_S)

    async def tell(self) -> None:
        """Publishes what is read now, unless that was told before. Raises: LostDependency."""
        found = self._policies.policies
        if found is self._told:
            return
        now_ms = self._clock_ms()
        files = await asyncio.to_thread(_files, list(found))
        event = PoliciesRead(instance=self._instance, read_ms=now_ms, policies=tuple(files[:MAX_POLICY_FILES]))
        event_id = derived_event_id(_SERVICE, self._instance, "PoliciesRead", now_ms)
        await self._publish(event, event_id, now_ms)
        self._told = found

    async def _publish(self, event: PoliciesRead, event_id: str, now_ms: int) -> None:
        producer: PlainProducer = self._broker.plain_producer()
        try:
            await producer.start()
            await producer.publish([output_of(event, service=_SERVICE, event_id=event_id, parent=None, now_ms=now_ms)])
        finally:
            await producer.stop()


def _files(rows: Sequence[Read]) -> list[PolicyFile]:
    return [
        PolicyFile(
            policy=f"{row.policy.name}@{row.policy.version}",
            digest=row.policy.digest,
            file=row.path.name[:256],
            modified_ms=_modified_ms(row),
        )
        for row in rows
    ]


def _modified_ms(row: Read) -> int:
    """When the file was last written; 0 where it is gone by now."""
    try:
        return max(0, row.path.stat().st_mtime_ns // 1_000_000)
    except OSError:
        return 0
