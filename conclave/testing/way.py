"""A simulated process's way to the cluster, which may be slow, lose what is sent, or end with the process."""

import asyncio
from collections.abc import Callable, Collection
from typing import Any

from conclave.runtime.record import Tp
from conclave.testing.cluster import Cluster
from conclave.testing.network import Endpoint, Request


class Way:
    """The way of one process."""

    def __init__(self, cluster: Cluster, endpoint: Endpoint) -> None:
        self.cluster, self.endpoint = cluster, endpoint

    def request(self, kind: Request, effect: Callable[[], Any]) -> "asyncio.Future[Any]":
        """What the cluster answers. Raises: LostDependency, Fenced."""
        return self.cluster.network.request(self.endpoint, kind, effect)

    async def committed(
        self, consumer_group: str, partitions: Collection[Tp] | None = None
    ) -> dict[Tp, tuple[int, str]]:
        """Committed offset and metadata of each partition that has one. Raises: LostDependency."""
        found: dict[Tp, tuple[int, str]] = await self.request(
            Request.COMMITTED, lambda: self.cluster.committed(consumer_group, partitions)
        )
        return found
