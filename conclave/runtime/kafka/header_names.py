"""Lets aiokafka deliver records whose header names are not UTF-8. Of conclave.runtime.kafka; importing it is enough.

A broker takes any bytes for a header's name, as from a producer that writes Latin-1. aiokafka decodes them strictly while it
unpacks a batch, so that `getmany` raises, at the same record again and again, and the partition is stuck for good. Here a
batch that it cannot unpack is unpacked a second time, by its own slower parser, with U+FFFD for what is no UTF-8.
"""

from collections.abc import Iterator
from typing import Any

import aiokafka.consumer.fetcher as _fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords, _MemoryRecordsPy

_PartitionRecords = _fetcher.PartitionRecords


class _Bytes(bytearray):
    """Bytes that are decoded as they are."""

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        return _Bytes(found) if isinstance(index, slice) else found

    def decode(self, encoding: str = "utf-8", errors: str = "replace") -> str:
        return bytes(self).decode(encoding, errors)


class _LenientBatch(_DefaultRecordBatchPy):  # type: ignore[misc]
    def __iter__(self) -> "_LenientBatch":
        super().__iter__()
        self._buffer: bytearray = _Bytes(self._buffer)
        return self


class _Records:
    """The batches of a fetch, and the bytes that they came from."""

    def __init__(self, raw: bytes) -> None:
        self._records = MemoryRecords(raw)
        self.raw = raw
        self.has_next = self._records.has_next
        self.next_batch = self._records.next_batch
        self.size_in_bytes = self._records.size_in_bytes


class _LenientRecords(_MemoryRecordsPy):  # type: ignore[misc]
    def next_batch(self, *args: Any) -> Any:
        batch = self._next_slice
        self._cache_next()
        return _LenientBatch(batch)


class _PartitionRecordsOfAnyName(_PartitionRecords):  # type: ignore[misc,valid-type]
    """What was fetched of a partition, from the position on."""

    def __init__(self, tp: Any, records: Any, aborted_transactions: Any, fetch_offset: int, *rest: Any) -> None:
        super().__init__(tp, records, aborted_transactions, fetch_offset, *rest)
        self._again = (records, list(aborted_transactions or []), rest)

    def __next__(self) -> Any:
        try:
            return super().__next__()
        except UnicodeDecodeError:
            records, aborted, rest = self._again
            if not isinstance(records, _Records):
                raise
            # Those delivered already are below the position, and skipped as in any fetch that begins within a batch.
            self.__init__(self._tp, _LenientRecords(records.raw), aborted, self.next_fetch_offset, *rest)  # type: ignore[misc]
            return super().__next__()

    def __iter__(self) -> Iterator[Any]:
        return self


_fetcher.MemoryRecords = _Records
_fetcher.PartitionRecords = _PartitionRecordsOfAnyName
