"""One transaction of a lane: outputs and offsets together, or neither.

In the numbers that `transact` repeats:
    1. begin
    2. send outputs, dead letters and carries
    3. send offsets with their metadata
    4. wait until the broker has every record: a commit would succeed although a batch was refused
    5. commit
"""

import asyncio
from collections.abc import Iterable, Mapping

from conclave.errors import LostDependency
from conclave.runtime.broker import TransactionalProducer
from conclave.runtime.record import Output, Tp

TIME_LIMIT_S = 30.0  # of all five steps: the broker itself ends a transaction that is open for as long


async def transact(
    producer: TransactionalProducer,
    outputs: Iterable[Output],
    consumer_group: str,
    offsets: Mapping[Tp, tuple[int, str]],
) -> None:
    """Publishes `outputs` and commits `offsets`.

    Raises: Fenced when the id has a newer holder; LostDependency when the outcome is unknown: opening the producer again
    settles it.
    """
    try:
        async with asyncio.timeout(TIME_LIMIT_S):
            await producer.begin()  # 1
            await producer.send(outputs)  # 2
            await producer.send_offsets(consumer_group, offsets)  # 3
            await producer.acknowledged()  # 4
            await producer.commit()  # 5
    except TimeoutError as error:
        raise LostDependency("kafka", f"a transaction took longer than {TIME_LIMIT_S:g} s") from error
