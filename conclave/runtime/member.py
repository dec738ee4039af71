"""A process as a member of its consumer group: from the first try to join until it is told to stop.

The one life cycle that conclave.runtime.service.Service and conclave.runtime.sink.Sink share.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection

from conclave.errors import LostDependency
from conclave.runtime.attempts import Dependencies
from conclave.runtime.broker import Broker, GroupConsumer, Rebalance
from conclave.runtime.record import Tp
from conclave.runtime.settings import RuntimeSettings
from conclave.runtime.stopping import Stopping, stopping
from schemas import flow

_REJOIN_S = 1.0  # between two tries to reach a broker that is away


class Member:
    """The membership of one service in this process. Rebalances are told to the two callbacks."""

    def __init__(
        self,
        name: str,
        settings: RuntimeSettings,
        broker: Broker,
        dependencies: Dependencies,
        on_revoked: Callable[[Collection[Tp]], Awaitable[None]],
        on_assigned: Callable[[Collection[Tp]], Awaitable[None]],
    ) -> None:
        self.name = name
        self._settings, self._broker, self._dependencies = settings, broker, dependencies
        self._topics = [topic.value for topic in flow.service_row(name).consumes]
        self._on_revoked, self._on_assigned = on_revoked, on_assigned
        self._stopping = asyncio.Event()
        self._stop_times: Stopping | None = None  # once it was told to stop
        self.is_assigned = False  # the group has dealt partitions to it, or none
        self.consumer = self._new_consumer()

    @property
    def is_stopping(self) -> bool:
        """True once it was told to stop."""
        return self._stopping.is_set()

    @property
    def is_joined(self) -> bool:
        """True while it is in its group and means to stay."""
        return self.is_assigned and not self.is_stopping

    @property
    def stop_times(self) -> Stopping:
        """By when what of the stop has to be done: of one that is asked for now, where none was."""
        return self._stop_times or self._times_from_now()

    def stop(self) -> None:
        """Has whoever runs it come to an end, all of it within `drain_s` from the first time on."""
        if self._stop_times is None:
            self._stop_times = self._times_from_now()
        self._stopping.set()

    async def until_stopped(self) -> None:
        """Returns once it was told to stop."""
        await self._stopping.wait()

    async def join(self) -> None:
        """Returns once it is in its group, or was told to stop. A consumer that failed to start is not tried again."""
        while not self.is_stopping:
            try:
                await self.consumer.start(self._topics, Rebalance(self._on_revoked, self._assigned))
                self._dependencies.back("kafka")
                return
            except LostDependency as error:
                self._dependencies.lost(error.dependency, error.why)
                await self.consumer.stop()
                self.consumer = self._new_consumer()
                await self.pause(_REJOIN_S)

    async def pause(self, limit_s: float) -> None:
        """Returns after `limit_s`, or as soon as it was told to stop."""
        try:
            async with asyncio.timeout(limit_s):
                await self._stopping.wait()
        except TimeoutError:
            return

    async def leave(self) -> None:
        """Leaves the group, unless it has an instance id that is to come back, by the end of the stop."""
        await self.consumer.stop(max(0.0, self.stop_times.ends_at - asyncio.get_running_loop().time()))

    def _times_from_now(self) -> Stopping:
        return stopping(self._settings.drain_s, asyncio.get_running_loop().time())

    async def _assigned(self, assigned: Collection[Tp]) -> None:
        await self._on_assigned(assigned)
        self.is_assigned = True

    def _new_consumer(self) -> GroupConsumer:
        return self._broker.group_consumer(
            self.name,
            f"conclave-{self.name}",
            session_timeout_ms=self._settings.session_timeout_ms,
            max_poll_interval_ms=self._settings.max_poll_interval_ms,
            instance_id=self._settings.instance_id or None,
        )
