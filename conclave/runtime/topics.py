"""The pipeline's topics on a broker: created from schemas.flow, and checked against it."""

import asyncio
from dataclasses import dataclass

from conclave.errors import LostDependency
from conclave.runtime.brokers import Brokers
from conclave.runtime.kafka import Admin
from conclave.runtime.limits import MAX_BATCH_BYTES
from schemas import flow

_DAY_MS = 86_400_000
_KNOWN_WITHIN_S, _LOOK_S = 30.0, 0.02


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as it should be on the broker."""

    name: str
    partitions: int
    config: dict[str, str]


def topic_specs(partitions: int) -> list[TopicSpec]:
    """Every topic of the pipeline and its dead letters, with `partitions` each where they are shared out."""
    specs = []
    for row in flow.TOPICS:
        config = {
            "cleanup.policy": row.cleanup,
            "retention.ms": str(int(row.retention_days * _DAY_MS)),
            "max.message.bytes": str(MAX_BATCH_BYTES),
            "message.timestamp.type": "LogAppendTime" if row.is_stamped_by_broker else "CreateTime",
        }
        specs.append(TopicSpec(row.topic.value, 1 if row.is_broadcast else partitions, config))
        if not row.is_broadcast:
            dead = {
                "retention.ms": str(int(flow.DEAD_LETTER_RETENTION_DAYS * _DAY_MS)),
                "max.message.bytes": str(MAX_BATCH_BYTES),
            }
            specs.append(TopicSpec(flow.dead_letter_topic(row.topic.value), 1, dead))
    return specs


async def ensure_topics(brokers: Brokers | str, *, partitions: int = 24, replication: int = 1) -> list[str]:
    """The names of the topics that were missing and are there now. Existing ones are left as they are.

    Raises: LostDependency.
    """
    async with Admin(brokers) as admin:
        existing = await admin.topics()
        missing = {spec.name: spec for spec in topic_specs(partitions) if spec.name not in existing}
        if missing:
            topics = {name: (spec.partitions, spec.config) for name, spec in missing.items()}
            await admin.create_topics(topics, replication)
            await _until_known(admin, set(missing))
    return list(missing)


async def _until_known(admin: Admin, topics: set[str]) -> None:
    """Returns once the broker tells of them: the controller, which made them, is a moment ahead. Raises: LostDependency."""
    try:
        async with asyncio.timeout(_KNOWN_WITHIN_S):
            while True:
                if topics <= set(await admin.topics()):
                    return
                await asyncio.sleep(_LOOK_S)
    except TimeoutError:
        raise LostDependency("kafka", f"topics made {_KNOWN_WITHIN_S:.0f} s ago are not known to it") from None


async def wrong_topics(brokers: Brokers | str) -> list[str]:
    """What is wrong with the pipeline's topics on a broker, a line each. Raises: LostDependency."""
    wrong = []
    async with Admin(brokers) as admin:
        existing = await admin.topics()
        for spec in topic_specs(partitions=1):
            if spec.name not in existing:
                wrong.append(f"{spec.name} is missing")
                continue
            config = await admin.topic_config(spec.name)
            wrong += [
                f"{spec.name}: {name} is {config.get(name)}, expected {value}"
                for name, value in spec.config.items()
                if config.get(name) != value
            ]
    return wrong
