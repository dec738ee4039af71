"""The simulated broker deletes what is old and done, and who would read it goes on at the first record that is left."""

import asyncio
import itertools
import random
from collections.abc import Collection

from conclave.runtime.broker import Rebalance
from conclave.runtime.record import Output, Tp
from conclave.testing.broker import MemoryBroker
from conclave.testing.cluster import Cluster
from conclave.testing.loop import VirtualLoop
from conclave.testing.network import Endpoint
from conclave.testing.simulation import Simulation, quiet

TP = Tp("topic", 0)


async def _unheeded(_: Collection[Tp]) -> None:
    pass


async def _five_records(cluster: Cluster) -> None:
    """Five records, a virtual second apart."""
    for number in range(5):
        cluster.publish([Output(TP.topic, b"key", b"%d" % number, ())])
        await asyncio.sleep(1.0)


def test_what_is_young_or_needed_is_kept() -> None:
    loop = VirtualLoop()  # type: ignore[abstract]
    cluster = Cluster(loop, random.Random(1), {TP.topic: 1})
    loop.run(_five_records(cluster))
    partition = cluster.partitions[TP]

    partition.delete(before_ms=3_000, below=2)
    assert partition.begin == 2, "the third is needed"
    partition.delete(before_ms=3_000, below=5)
    assert partition.begin == 3, "the fourth is young"
    assert [record.offset for record in partition] == [0, 1, 2, 3, 4], "the laws judge what is deleted too"


def test_an_open_transaction_is_kept() -> None:
    loop = VirtualLoop()  # type: ignore[abstract]
    cluster = Cluster(loop, random.Random(1), {TP.topic: 1})
    loop.run(_five_records(cluster))
    epoch = cluster.transactions.open("id")
    cluster.transactions.produce("id", epoch, TP, [Output(TP.topic, b"key", b"open", ())], now_ms=0)

    cluster.partitions[TP].delete(before_ms=10_000, below=6)
    assert cluster.partitions[TP].begin == 5


def test_readers_below_the_begin_go_on_at_the_first_record_that_is_left() -> None:
    loop = VirtualLoop()  # type: ignore[abstract]
    cluster = Cluster(loop, random.Random(1), {TP.topic: 1})

    async def read() -> list[list[int]]:
        await _five_records(cluster)
        cluster.partitions[TP].delete(before_ms=cluster.now_ms, below=3)
        broker = MemoryBroker(cluster, Endpoint("reader-1"))
        reader = broker.log_reader()
        await reader.start()
        assert await reader.begin_offsets([TP]) == {TP: 3}
        reader.assign({TP: 0})
        member = broker.group_consumer("group", "client", session_timeout_ms=1_000, max_poll_interval_ms=1_000)
        await member.start([TP.topic], Rebalance(_unheeded, _unheeded))
        found = [await reader.poll(timeout_ms=0), await member.poll([TP], timeout_ms=0, max_records=10)]
        await member.stop()
        return [[record.offset for record in records] for records in found]

    assert loop.run_until_complete(read()) == [[3, 4], [3, 4]]


def test_in_some_schedules_the_broker_deletes_what_is_done_and_no_law_breaks() -> None:
    with quiet():
        simulations = (Simulation(seed) for seed in itertools.count())
        deleting = itertools.islice((each for each in simulations if each.is_deleting), 3)
        reports = [each.run() for each in deleting]
    for report in reports:
        assert not report.violations, report
    assert all(report.num_deleted for report in reports)
