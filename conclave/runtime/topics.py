"""The pipeline's topics on a broker: created from schemas.flow, and checked against it."""

from dataclasses import dataclass

from conclave.runtime.brokers import Brokers
from conclave.runtime.kafka import Admin
from conclave.runtime.limits import MAX_BATCH_BYTES
from schemas import flow

_DAY_MS = 86_400_000


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
        missing = [spec for spec in topic_specs(partitions) if spec.name not in existing]
        for spec in missing:
            await admin.create_topic(spec.name, spec.partitions, replication, spec.config)
    return [spec.name for spec in missing]


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
