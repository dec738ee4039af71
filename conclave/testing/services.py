"""One service on a broker in memory, in virtual time: what it makes of events, with the real runtime around it."""

import asyncio
import random
from collections.abc import Sequence

from conclave.runtime.attempts import Dependencies
from conclave.runtime.record import output_of
from conclave.runtime.service import Service
from conclave.runtime.work import Work
from conclave.testing import events as made
from conclave.testing import laws, settling
from conclave.testing.broker import MemoryBroker
from conclave.testing.cluster import Cluster
from conclave.testing.loop import VirtualLoop
from conclave.testing.network import Endpoint
from conclave.testing.processes import SETTINGS
from schemas import flow
from schemas.events import Event

_LIMIT_S, _LOOK_S = 60.0, 0.1  # of virtual time: nobody waits for it


def outputs_of(
    name: str, work: Work, events: Sequence[Event], *, dependencies: Dependencies | None = None
) -> list[Event]:
    """All that the service `name`, a row of the flow, has published once it has finished with `events`.

    `dependencies`: where it notes what is away.

    Raises: AssertionError when it does not finish, and for a dead letter.
    """
    loop = VirtualLoop()  # type: ignore[abstract]
    topics = {row.topic.value: 1 for row in flow.TOPICS}
    topics |= {flow.dead_letter_topic(topic): 1 for topic in topics}
    cluster = Cluster(loop, random.Random(0), topics, made.NOW_MS)
    loop.run_until_complete(_served(name, work, events, cluster, dependencies or Dependencies()))
    return [
        each
        for topic in dict.fromkeys(flow.topic_of(kind) for kind in flow.service_row(name).emits)
        for each in laws.events(cluster.records(topic.value))
        if each not in events
    ]


async def _served(name: str, work: Work, events: Sequence[Event], cluster: Cluster, dependencies: Dependencies) -> None:
    """Runs the service until it has committed all of the events."""
    consumes = [topic.value for topic in flow.service_row(name).consumes]
    broker = MemoryBroker(cluster, Endpoint(name))
    service = Service(name, SETTINGS, work, dependencies, broker, clock_ms=lambda: cluster.now_ms)
    cluster.publish(
        output_of(event, service="test", event_id=f"event-{number}", parent=None, now_ms=cluster.now_ms)
        for number, event in enumerate(events)
    )
    running = asyncio.create_task(service.run(), name=name)
    for _ in range(round(_LIMIT_S / _LOOK_S)):
        if all(_is_finished(cluster, name, topic) for topic in consumes):
            break
        await asyncio.sleep(_LOOK_S)
    else:
        raise AssertionError(f"{name} did not finish within {_LIMIT_S:.0f} virtual seconds")
    service.stop()
    await running
    letters = [each for topic in consumes for each in cluster.records(flow.dead_letter_topic(topic))]
    assert not letters, f"{name} could not handle {letters[0].value!r}: {letters[0].headers}"


def _is_finished(cluster: Cluster, name: str, topic: str) -> bool:
    """True when the service has committed every record of the topic."""
    for tp in cluster.topic(topic):
        commit = settling.committed(cluster, name, tp)
        records, _ = cluster.partitions[tp].read(commit.low, cluster.partitions[tp].end)
        if any(not commit.covers(record.offset) for record in records):
            return False
    return True
