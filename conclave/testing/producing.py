"""What publishes on the broker in memory: with transactions, and without."""

import asyncio
from collections.abc import Callable, Iterable, Mapping

from conclave.errors import LostDependency
from conclave.runtime.record import Output, Tp
from conclave.testing.network import Request
from conclave.testing.way import Way


class MemoryTransactionalProducer:
    """conclave.runtime.broker.TransactionalProducer. After any failure only `open` helps, as with aiokafka."""

    def __init__(self, way: Way, transactional_id: str) -> None:
        self._way, self._cluster, self._id = way, way.cluster, transactional_id
        self._epoch: int | None = None
        self._batches: list[asyncio.Future[None]] | None = None  # of the open transaction

    async def open(self) -> None:
        """A new incarnation of the id. Raises: LostDependency."""
        self._epoch = self._batches = None
        self._epoch = await self._way.request(Request.OPEN, lambda: self._cluster.open(self._id, self._way.endpoint))

    async def begin(self) -> None:
        """Begins a transaction. Raises: LostDependency."""
        if self._epoch is None or self._batches is not None:
            raise LostDependency("kafka", "the producer is closed, or inside a transaction")
        self._batches = []

    async def send(self, outputs: Iterable[Output]) -> None:
        """Hands over records, a request for each partition. Raises: LostDependency."""
        batches = self._inside()
        of: dict[Tp, list[Output]] = {}
        for output in outputs:
            of.setdefault(self._cluster.place(output), []).append(output)
        for tp, batch in of.items():
            batches.append(self._request(Request.PRODUCE, self._cluster.produce, tp, batch))

    async def send_offsets(self, consumer_group: str, offsets: Mapping[Tp, tuple[int, str]]) -> None:
        """Makes offsets part of the transaction. Raises: Fenced, LostDependency."""
        self._inside()
        await self._request(Request.OFFSETS, self._cluster.add_offsets, consumer_group, dict(offsets))

    async def acknowledged(self) -> None:
        """Returns once the cluster has all that was sent. Raises: Fenced, LostDependency."""
        for batch in self._inside():
            await batch

    async def commit(self) -> None:
        """Commits once no batch is under way, whatever became of them. Raises: Fenced, LostDependency."""
        batches = self._inside()
        if batches:
            await asyncio.wait(batches)
        await self._request(Request.COMMIT, self._cluster.commit)
        self._batches = None

    async def close(self, limit_s: float | None = None) -> None:
        """Lets go."""
        self._epoch = self._batches = None

    def _inside(self) -> "list[asyncio.Future[None]]":
        if self._epoch is None or self._batches is None:
            raise LostDependency("kafka", "outside any transaction")
        return self._batches

    def _request(self, kind: Request, effect: Callable[..., None], *args: object) -> "asyncio.Future[None]":
        epoch = self._epoch
        return self._way.request(kind, lambda: effect(self._id, epoch, *args))


class MemoryPlainProducer:
    """conclave.runtime.broker.PlainProducer."""

    def __init__(self, way: Way) -> None:
        self._way = way

    async def start(self) -> None:
        """Connects. Raises: LostDependency."""
        await self._way.request(Request.METADATA, lambda: None)

    async def publish(self, outputs: Iterable[Output]) -> None:
        """Returns once the cluster has all `outputs`. Raises: LostDependency."""
        batch = list(outputs)
        await self._way.request(Request.PRODUCE, lambda: self._way.cluster.publish(batch))

    async def stop(self) -> None:
        """Nothing to close."""
