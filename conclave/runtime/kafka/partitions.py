"""Which partition a record goes to, by its key: where Java's clients put it. Of conclave.runtime.kafka.

aiokafka hashes each record's key in Python. The samples and the paths of a step have one key, so it is hashed once here.
"""

from collections.abc import Sequence
from functools import lru_cache

from aiokafka.partitioner import DefaultPartitioner, murmur2

_REMEMBERED_KEYS = 4_096
_LONGEST_KEY_BYTES = 256  # of one that is remembered

_anywhere = DefaultPartitioner()


def partition_of(key: bytes | None, all_partitions: Sequence[int], available: Sequence[int]) -> int:
    """The partition of a key among all; one of those that are there for a record without a key."""
    if key is None:
        return int(_anywhere(key, all_partitions, available))
    number = _hash(key) if len(key) <= _LONGEST_KEY_BYTES else murmur2(key)
    return all_partitions[(number & 0x7FFFFFFF) % len(all_partitions)]


@lru_cache(maxsize=_REMEMBERED_KEYS)
def _hash(key: bytes) -> int:
    return int(murmur2(key))
