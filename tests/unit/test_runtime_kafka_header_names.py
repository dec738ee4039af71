"""Records whose header names are no UTF-8 are delivered like any others, wherever in a batch or a fetch they lie."""

import aiokafka.consumer.fetcher as fetcher
import pytest
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from aiokafka.structs import TopicPartition

import conclave.runtime.kafka  # noqa: F401  (what is tested is what importing it does to aiokafka)

TP = TopicPartition("reasoning.requests", 0)
NAME = "m\N{LATIN SMALL LETTER O WITH DIAERESIS}"


def batch(base_offset: int, names: list[str], codec: int) -> bytes:
    """A batch as a broker stores it: a record for each header name, in which Ö is Latin-1's."""
    builder = _DefaultRecordBatchBuilderPy(2, codec, False, -1, -1, -1, 1 << 20)
    for number, name in enumerate(names):
        builder.append(number, 1_000, b"k", b"v%d" % number, [(name, b"1"), ("plain", None)])
    builder._buffer = bytearray(bytes(builder._buffer).replace(NAME.encode(), b"m\xf6\xf6"))
    stored = bytearray(builder.build())
    stored[:8] = base_offset.to_bytes(8, "big")
    return bytes(stored)


def fetched(raw: bytes, fetch_offset: int) -> list[tuple[int, bytes, tuple[tuple[str, bytes | None], ...]]]:
    records = fetcher.PartitionRecords(TP, fetcher.MemoryRecords(raw), [], fetch_offset, None, None, True, 1)
    return [(record.offset, record.value, record.headers) for record in records]


@pytest.mark.parametrize("codec", [0, 1, 2, 3, 4], ids=["plain", "gzip", "snappy", "lz4", "zstd"])
@pytest.mark.parametrize("fetch_offset", [5, 6, 7])
def test_a_header_whose_name_is_no_utf_8_stops_nothing(codec: int, fetch_offset: int) -> None:
    raw = batch(5, ["a", NAME, "b"], codec) + batch(8, ["c"], codec) + batch(9, [NAME], codec)
    found = fetched(raw, fetch_offset)
    assert [offset for offset, _, _ in found] == list(range(fetch_offset, 10))
    by_offset = {offset: (value, headers) for offset, value, headers in found}
    assert by_offset[8] == (b"v0", (("c", b"1"), ("plain", None)))
    assert by_offset[9] == (b"v0", (("m\ufffd\ufffd", b"1"), ("plain", None)))
    if fetch_offset <= 6:
        assert by_offset[6][1][0] == ("m\ufffd\ufffd", b"1")


def test_batches_of_plain_names_are_unpacked_by_the_fast_parser_alone() -> None:
    unpacked = fetcher.MemoryRecords(batch(5, ["a", "b"], 0)).next_batch()
    assert type(unpacked).__module__ == "aiokafka.record._crecords.default_records"
