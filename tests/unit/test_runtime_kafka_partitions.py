"""A key's partition is the one that Java's clients and aiokafka's own partitioner give it."""

from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st

from conclave.runtime.kafka.partitions import partition_of


@given(st.binary(max_size=600), st.integers(1, 50))
def test_a_key_goes_where_aiokafka_would_put_it(key: bytes, num_partitions: int) -> None:
    partitions = list(range(num_partitions))
    wanted = DefaultPartitioner()(key, partitions, partitions)
    assert [partition_of(key, partitions, partitions) for _ in range(2)] == [wanted, wanted]


def test_a_record_without_a_key_goes_to_a_partition_that_is_there() -> None:
    assert {partition_of(None, [0, 1, 2], [1]) for _ in range(20)} == {1}
