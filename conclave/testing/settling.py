"""When a simulated cluster and its database are done: what each service has yet to handle, by what it has committed."""

from collections.abc import Iterator

from conclave.runtime import commit_metadata
from conclave.runtime.record import Tp
from conclave.runtime.tracker import Commit
from conclave.testing.cluster import Cluster
from conclave.testing.record import Database
from schemas import flow
from schemas.flow import ServiceRow

_STILL_S = 20.0  # sessions, transactions, rebalances and starts are over by then, and so is every backoff


class Settling:
    """Whether it goes on, asked again and again: what was left to do at the last look is looked at first."""

    def __init__(self, cluster: Cluster, database: Database) -> None:
        self._cluster, self._database = cluster, database
        self._left: tuple[ServiceRow, Tp] | None = None
        self._come_to, self._since_s = (0, 0, 0), 0.0

    def is_over(self) -> bool:
        """True when nothing is left to do, or nothing comes by itself any more: what is left waits for a time of day."""
        return self._is_done() or self._is_still()

    def _is_still(self) -> bool:
        """True when nothing was under way, published, committed or recorded for longer than anything but a deadline takes."""
        now_s = self._cluster.loop.time()
        num_written = sum(partition.end for partition in self._cluster.partitions.values())
        come_to = num_written, self._cluster.transactions.num_commits, len(self._database.rows)
        if come_to != self._come_to:
            self._come_to, self._since_s = come_to, now_s
        slow_until_s = max(self._cluster.network.slow_until_s, self._database.network.slow_until_s)
        return now_s - max(self._since_s, slow_until_s) > _STILL_S

    def _is_done(self) -> bool:
        cluster, database = self._cluster, self._database
        if self._left is not None and first_unfinished(cluster, database, *self._left) is not None:
            return False
        for service, tp in _consumed(cluster):
            if first_unfinished(cluster, database, service, tp) is not None:
                self._left = service, tp
                return False
        return is_settled(cluster, database)


def is_settled(cluster: Cluster, database: Database) -> bool:
    """True when nothing is left to do: every event is handled, committed and recorded."""
    return next(unfinished(cluster, database), None) is None


def unfinished(cluster: Cluster, database: Database) -> Iterator[str]:
    """What is left to do, a line for each partition."""
    for service, tp in _consumed(cluster):
        offset = first_unfinished(cluster, database, service, tp)
        if offset is not None:
            yield f"{service.name} has not finished {tp} from {offset} on"
    for tp, partition in cluster.partitions.items():
        if partition.last_stable < partition.end:
            yield f"a transaction in {tp} is open from {partition.last_stable} on"


def first_unfinished(cluster: Cluster, database: Database, service: ServiceRow, tp: Tp) -> int | None:
    """The first offset that a service has yet to handle; None where there is none."""
    partition = cluster.partitions[tp]
    if service.keeps_offsets:
        left = partition.read(database.next_offset(tp), 1)[0]
        return left[0].offset if left else None
    commit = committed(cluster, service.name, tp)
    if commit.low >= partition.last_stable:
        return None
    records = partition.read(commit.low, partition.end)[0]
    return next((record.offset for record in records if not commit.covers(record.offset)), None)


def _consumed(cluster: Cluster) -> Iterator[tuple[ServiceRow, Tp]]:
    """Each service with each partition that it consumes."""
    for service in flow.SERVICES.values():
        for topic in service.consumes:
            for tp in cluster.topic(topic.value):
                yield service, tp


def first_needed(cluster: Cluster, database: Database, tp: Tp) -> int:
    """The first offset of a partition that a service may have yet to handle; its end where none consumes it."""
    lows = [
        database.next_offset(tp) if service.keeps_offsets else committed(cluster, service.name, tp).low
        for service, each in _consumed(cluster)
        if each == tp
    ]
    return min(lows, default=cluster.partitions[tp].end)


def committed(cluster: Cluster, group: str, tp: Tp) -> Commit:
    """What a group has committed of a partition."""
    offset, metadata = cluster.committed(group, [tp]).get(tp, (0, ""))
    commit = commit_metadata.decode(offset, metadata)
    assert commit is not None, f"{group} committed what it can't read: {metadata!r}"
    return commit
