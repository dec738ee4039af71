"""A broker in memory, in virtual time and with seeded faults: partitions, transactions and consumer groups in one place."""

import asyncio
import random
import zlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from conclave.runtime.record import Output, Tp
from conclave.testing.groups import ConsumerGroup
from conclave.testing.log import Partition, StoredRecord, Transaction, Transactions
from conclave.testing.loop import WORLD
from conclave.testing.network import Endpoint, Network

_TRANSACTION_TIMEOUT_S = 5.0
_REBALANCE_S = 5.0


class Cluster:
    """The broker itself. Time of day is `start_ms` plus the loop's time."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, rng: random.Random, topics: Mapping[str, int], start_ms: int = 0
    ) -> None:
        self.loop, self.rng = loop, rng
        self.network = Network(loop, rng, "kafka")
        self.partitions = {
            Tp(topic, index): Partition(Tp(topic, index)) for topic, num in topics.items() for index in range(num)
        }
        self.transactions = Transactions(self.partitions)
        self.groups: dict[str, ConsumerGroup] = {}
        self.on_open: Callable[[str, Endpoint], None] = lambda transactional_id, opener: None
        self.marker_s = 0.0  # how long the markers of a commit may take, beyond a request's latency
        self._start_ms = start_ms
        self._topics = {topic: [Tp(topic, index) for index in range(num)] for topic, num in topics.items()}
        self._waiting: dict[str, list[asyncio.Future[None]]] = defaultdict(list)

    @property
    def now_ms(self) -> int:
        """The broker's time of day."""
        return self._start_ms + int(self.loop.time() * 1000)

    def topic(self, name: str) -> list[Tp]:
        """The partitions of a topic; none when there is no such topic."""
        return self._topics.get(name, [])

    def records(self, topic: str) -> list[StoredRecord]:
        """All committed records of a topic."""
        return [record for tp in self.topic(topic) for record in self.partitions[tp]]

    def group(self, name: str) -> ConsumerGroup:
        """A consumer group."""
        if name not in self.groups:
            self.groups[name] = ConsumerGroup(self.loop, self.rng, self.topic, _REBALANCE_S)
        return self.groups[name]

    def place(self, output: Output) -> Tp:
        """The partition that takes a record."""
        partitions = self._topics[output.topic]
        if output.partition is not None:
            return partitions[output.partition]
        return partitions[zlib.crc32(output.key or b"") % len(partitions)]

    def publish(self, outputs: Iterable[Output]) -> None:
        """Takes records outside any transaction."""
        for output in outputs:
            tp = self.place(output)
            self.partitions[tp].append(output, self.now_ms)
            self._wake(tp.topic)

    def open(self, transactional_id: str, opener: Endpoint) -> int:
        """The epoch of a new holder of the id."""
        grown = self.transactions.undecided(transactional_id)
        epoch = self.transactions.open(transactional_id)
        self.on_open(transactional_id, opener)
        self._wake_each(grown)
        return epoch

    def produce(self, transactional_id: str, epoch: int, tp: Tp, outputs: Sequence[Output]) -> None:
        """Takes records of one partition in the holder's transaction. Raises: Fenced."""
        before = self.transactions.open_transaction(transactional_id)
        self.transactions.produce(transactional_id, epoch, tp, outputs, self.now_ms)
        self._limit(transactional_id, before)

    def add_offsets(self, transactional_id: str, epoch: int, group: str, offsets: Mapping[Tp, tuple[int, str]]) -> None:
        """Takes offsets in the holder's transaction. Raises: Fenced."""
        before = self.transactions.open_transaction(transactional_id)
        for tp, (offset, metadata) in offsets.items():
            self.transactions.add_offset(transactional_id, epoch, group, tp, offset, metadata)
        self._limit(transactional_id, before)

    def commit(self, transactional_id: str, epoch: int) -> None:
        """Commits; markers and offsets follow in a moment, each on its own. Raises: Fenced."""
        transaction = self.transactions.commit(transactional_id, epoch)
        if transaction is None:
            return
        delays = [(self._marker_s(), tp) for tp in transaction.partitions]
        offsets_s = self._marker_s()
        for delay_s, tp in delays:
            self.loop.call_later(delay_s, self._mark, transaction, tp, context=WORLD)
        self.loop.call_later(offsets_s, self.transactions.mark_offsets, transaction, context=WORLD)
        last_s = max([offsets_s, *(delay_s for delay_s, _ in delays)]) + 0.001
        self.loop.call_later(last_s, self.transactions.settle, transactional_id, context=WORLD)

    def committed(self, group: str, partitions: Collection[Tp] | None = None) -> dict[Tp, tuple[int, str]]:
        """Committed offsets with their metadata. Those of a commit under way do not count yet."""
        found = self.transactions.offsets.get(group, {})
        return {tp: found[tp] for tp in found if partitions is None or tp in partitions}

    async def changed(self, topics: Iterable[str], limit_s: float) -> None:
        """Returns when one of the topics may have grown, or after `limit_s`."""
        waiter: asyncio.Future[None] = self.loop.create_future()
        names = list(topics)
        for topic in names:
            self._waiting[topic].append(waiter)
        timer = self.loop.call_later(limit_s, _wake_one, waiter, context=WORLD)
        try:
            await waiter
        finally:
            timer.cancel()
            for topic in names:
                if waiter in self._waiting[topic]:
                    self._waiting[topic].remove(waiter)

    def _marker_s(self) -> float:
        return self.network.delay_s() + self.marker_s * self.rng.random()

    def _mark(self, transaction: Transaction, tp: Tp) -> None:
        self.transactions.mark(transaction, tp)
        self._wake(tp.topic)

    def _limit(self, transactional_id: str, before: Transaction | None) -> None:
        transaction = self.transactions.open_transaction(transactional_id)
        if transaction is not None and transaction is not before:
            self.loop.call_later(_TRANSACTION_TIMEOUT_S, self._expire, transaction, context=WORLD)

    def _expire(self, transaction: Transaction) -> None:
        if self.transactions.expire(transaction):
            self._wake_each(transaction.partitions)

    def _wake(self, topic: str) -> None:
        waiting = self._waiting[topic]
        if waiting:
            for waiter in waiting:
                self.loop.call_later(self.network.delay_s(), _wake_one, waiter, context=WORLD)
            waiting.clear()

    def _wake_each(self, partitions: Iterable[Tp]) -> None:
        for topic in dict.fromkeys(tp.topic for tp in partitions):
            self._wake(topic)


def _wake_one(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)
