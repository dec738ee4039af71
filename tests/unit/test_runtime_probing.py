"""Whether a broker listens: by any of its addresses, and without leaving anything behind."""

import asyncio
import gc
import socket
from collections.abc import Iterator

import pytest

from conclave.runtime.attempts import Dependencies
from conclave.runtime.probing import is_any_listening, probe_kafka

NOBODY = "127.0.0.1:1"


@pytest.fixture
def broker() -> Iterator[str]:
    """The address of what accepts connections, and does no more."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(500)
        yield f"127.0.0.1:{listener.getsockname()[1]}"


async def test_one_broker_that_listens_is_enough_whatever_stands_beside_it(broker: str) -> None:
    port = broker.rpartition(":")[2]
    for brokers in (broker, f"{NOBODY}, {broker}", f"localhost:{port}", f"[::1]:1,{broker}", f"nonsense,{broker}"):
        assert await is_any_listening(brokers), brokers
    for nobody in (NOBODY, "[::1]:1", "nonsense", "", "no-such-host.invalid:9092"):
        assert not await is_any_listening(nobody), nobody


async def test_asking_leaves_nothing_for_the_garbage_collector(broker: str) -> None:
    await is_any_listening(broker)
    gc.collect()
    gc.disable()
    try:
        # What another test of this process left, and a thread of it lets go meanwhile, is found once; what asking leaves each time.
        assert 0 in [await _garbage_of_asking(broker) for _ in range(3)]
    finally:
        gc.enable()


async def _garbage_of_asking(broker: str) -> int:
    for _ in range(20):
        assert await is_any_listening(broker)
        assert not await is_any_listening(NOBODY)
    return gc.collect()


async def test_a_broker_that_is_away_and_back_is_noted(broker: str) -> None:
    dependencies = Dependencies()
    for brokers, is_away in ((NOBODY, True), (broker, False)):
        probing = asyncio.create_task(probe_kafka(brokers, dependencies))
        async with asyncio.timeout(20):
            while ("kafka" in dependencies.away) is not is_away:
                await asyncio.sleep(0.01)
        probing.cancel()
