"""Asks over Kafka, through one client; ends are matched by the id of the request."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.load.driving import End, Put
from conclave.runtime.brokers import Brokers
from conclave.runtime.client import Client
from schemas.events import AnswerReached, Event, ReasoningRequested, RequestFailed
from schemas.flow import Topic
from schemas.ids import new_request_id


class OverKafka:
    """Publishes requests, and hears the answers."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._ends: dict[str, asyncio.Future[AnswerReached | RequestFailed]] = {}

    async def ask(self, put: Put, question: str, policy: str | None) -> End:
        """The end of a question. Accepted is what the brokers have acknowledged."""
        put.request_id = str(new_request_id())
        end = self._ends[put.request_id] = asyncio.get_running_loop().create_future()
        try:
            await self._client.publish(ReasoningRequested(question=question, request_id=put.request_id, policy=policy))
            put.accepted = time.time()
            came = await end
        finally:
            del self._ends[put.request_id]
        return End(isinstance(came, AnswerReached), came.num_paths, came.tokens_out)

    async def hear(self, events: AsyncIterator[tuple[str, Event]]) -> None:
        """Tells who waits, until cancelled."""
        async for _, event in events:
            if isinstance(event, AnswerReached | RequestFailed):
                end = self._ends.get(event.request_id)
                if end is not None and not end.done():
                    end.set_result(event)


@asynccontextmanager
async def over_kafka(brokers: Brokers | str) -> AsyncIterator[OverKafka]:
    """A way that is open while it is used."""
    async with Client(brokers) as client, client.follow(Topic.ANSWERS) as events:
        way = OverKafka(client)
        hearing = asyncio.create_task(way.hear(events), name="answers")
        try:
            yield way
        finally:
            hearing.cancel()
