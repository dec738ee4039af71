"""What a producer leaves behind when its transaction is fenced."""

import asyncio
import gc
from typing import Any

import pytest
from aiokafka.errors import ProducerFenced

from conclave.errors import Fenced
from conclave.runtime.kafka import producing
from conclave.runtime.record import Output


class FencedClient:
    """aiokafka's producer once another has its id: it takes records, and each fails."""

    def __init__(self, **settings: Any) -> None:
        pass

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    async def begin_transaction(self) -> None:
        pass

    async def send(self, *args: Any, **record: Any) -> "asyncio.Future[object]":
        sent: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        sent.set_exception(ProducerFenced())
        return sent


async def test_of_records_that_a_fenced_transaction_took_along_nobody_complains(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without it asyncio says "Future exception was never retrieved" of each, from a finaliser, whenever that runs."""
    heard: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context))
    monkeypatch.setattr(producing, "AIOKafkaProducer", FencedClient)
    producer = producing.TransactionalProducer("127.0.0.1:9", "t")
    await producer.open()
    await producer.begin()
    await producer.send(Output(topic="t", key=b"k", value=b"v", headers=(), partition=None) for _ in range(3))
    with pytest.raises(Fenced):
        await producer.acknowledged()
    await producer.close()
    del producer
    await asyncio.sleep(0)
    gc.collect()
    assert heard == []
