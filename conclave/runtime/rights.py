"""What each service may do on brokers that ask: derived from schemas.flow, and no more than it needs. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from schemas import flow
from schemas.flow import ServiceRow, Topic

_ALL_TOPICS = "reasoning."
_TRANSACTIONS = "conclave."  # conclave.runtime.lane: conclave.<service>.<topic>.<partition>


class Resource(StrEnum):
    """What a right is about, in Kafka's words."""

    TOPIC = "topic"
    GROUP = "group"
    TRANSACTIONAL_ID = "transactional-id"


class Operation(StrEnum):
    """What may be done with it. Kafka takes who may read or write for one who may describe."""

    READ = "Read"
    WRITE = "Write"
    CREATE = "Create"
    DESCRIBE = "Describe"
    DESCRIBE_CONFIGS = "DescribeConfigs"


@dataclass(frozen=True, slots=True)
class Right:
    """An operation on one thing, or on all whose names begin so."""

    operation: Operation
    resource: Resource
    name: str
    is_prefix: bool = False


def rights_of_service(row: ServiceRow) -> tuple[Right, ...]:
    """Read what it consumes and hears, write what it emits and its dead letters, and describe the rest."""
    read = {*row.consumes, *row.broadcasts}
    written = {flow.topic_of(event).value for event in row.emits} | set(_dead_letters(row))
    rights = [Right(Operation.DESCRIBE, Resource.TOPIC, _ALL_TOPICS, is_prefix=True)]
    rights += _each(Operation.READ, Resource.TOPIC, read)
    rights += _each(Operation.WRITE, Resource.TOPIC, written)
    if row.consumes:
        rights.append(Right(Operation.READ, Resource.GROUP, row.name))
        if not row.keeps_offsets:
            transactions = f"{_TRANSACTIONS}{row.name}."
            rights.append(Right(Operation.WRITE, Resource.TRANSACTIONAL_ID, transactions, is_prefix=True))
    rights += _each(Operation.DESCRIBE, Resource.GROUP, row.keeps_pace_with)
    if row.serves_web:  # its pages tell how far each group is, and show dead letters
        rights += _each(Operation.DESCRIBE, Resource.GROUP, _groups())
        rights += _each(Operation.READ, Resource.TOPIC, _all_dead_letters())
    return tuple(rights)


def rights_of_producer() -> tuple[Right, ...]:
    """Whoever asks over Kafka: requests and feedback out, answers in."""
    return (
        *_each(Operation.WRITE, Resource.TOPIC, (Topic.REQUESTS, Topic.FEEDBACK)),
        *_each(Operation.READ, Resource.TOPIC, (Topic.ANSWERS,)),
    )


def rights_of_operator() -> tuple[Right, ...]:
    """Whoever runs `conclave` commands: makes topics, looks at all, asks, cancels, replays dead letters."""
    of_topics = (
        Operation.DESCRIBE,
        Operation.DESCRIBE_CONFIGS,
        Operation.CREATE,
        Operation.READ,
        Operation.WRITE,
    )
    return (
        *(Right(operation, Resource.TOPIC, _ALL_TOPICS, is_prefix=True) for operation in of_topics),
        *_each(Operation.DESCRIBE, Resource.GROUP, _groups()),
    )


def _dead_letters(row: ServiceRow) -> list[str]:
    """Topics of dead letters that this service writes; a broadcast topic has none.

    One that keeps its offsets beside its rows gives up what its database refuses, whoever guards the topic.
    """
    return [
        flow.dead_letter_topic(topic) for topic in row.consumes
        if ((found := flow.topic_row(topic)).guardian == row.name or row.keeps_offsets) and not found.is_broadcast
    ]  # fmt: skip


def _all_dead_letters() -> list[str]:
    return [flow.dead_letter_topic(row.topic) for row in flow.TOPICS if not row.is_broadcast]


def _groups() -> list[str]:
    return [row.name for row in flow.SERVICES.values() if row.consumes]


def _each(operation: Operation, resource: Resource, names: Iterable[str]) -> list[Right]:
    return [Right(operation, resource, str(name)) for name in sorted(names)]
