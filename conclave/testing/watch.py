"""Those of the laws that are watched while things happen (their list is that of `laws`)."""

from collections import Counter

from conclave.runtime import commit_metadata
from conclave.runtime.record import Tp
from conclave.testing.cluster import Cluster
from conclave.testing.network import Endpoint


class Watch:
    """Laws 4 and 7, which are watched while things happen. What breaks them is added to `found`."""

    def __init__(self, cluster: Cluster, found: list[str]) -> None:
        self._cluster, self._found = cluster, found
        self._opened_outside: Counter[tuple[str, str]] = Counter()
        cluster.transactions.on_offset, cluster.on_open = self.on_offset, self.on_open

    def on_open(self, transactional_id: str, opener: Endpoint) -> None:
        """Counts how often a process fences others under a membership that it has lost.

        Once is no fault: it may have been put out between the broker's confirmation and its opening.
        """
        group = self._cluster.group(transactional_id.split(".")[1])
        member_id = group.last_id_of.get(opener.name, "")
        if member_id not in group.members:
            self._opened_outside[transactional_id, member_id] += 1
            if self._opened_outside[transactional_id, member_id] == 2:
                self._found.append(f"{opener.name} fences {transactional_id} again and again, and is not in the group")

    def on_offset(self, group: str, tp: Tp, before: tuple[int, str] | None, after: tuple[int, str]) -> None:
        """Compares a commit with the one that it replaces: it covers all that the other did."""
        if before is None:
            return
        old, new = commit_metadata.decode(*before), commit_metadata.decode(*after)
        if old is None or new is None:
            self._found.append(f"{group} committed metadata for {tp} that it can't read: {before} {after}")
        elif old.low > new.low or not all(new.covers(offset) for offset in old.done):
            self._found.append(f"{group} lost offsets of {tp}: {old} became {new}")
