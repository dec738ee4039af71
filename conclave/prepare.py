"""`conclave prepare`: brings the tables up to date and makes missing topics. The embedded stack takes the same steps."""

import asyncio
from typing import Annotated

import click
from pydantic import Field

from conclave.errors import ConclaveError
from conclave.runtime.brokers import Brokers, BrokerSettings
from conclave.runtime.settings import load


class PrepareSettings(BrokerSettings):
    """Where the broker and the database are, and how topics are made."""

    postgres_dsn: Annotated[
        str, Field(pattern="^postgres(ql)?://", repr=False, description="postgresql://user@host/db")
    ]
    topic_partitions: Annotated[int, Field(ge=1, le=10_000, description="of each topic that is shared out")] = 24
    topic_replication: Annotated[int, Field(ge=1, le=100)] = 1


@click.command()
def prepare() -> None:
    """Bring the tables up to date and make missing topics: once before a deployment's services start.

    The environment says where: CONCLAVE_BOOTSTRAP_SERVERS and CONCLAVE_POSTGRES_DSN. What is there already stays.
    """
    settings = load(PrepareSettings)
    failures: list[str] = []
    try:
        click.echo(asyncio.run(_prepare(settings)))
    except* ConclaveError as errors:
        failures += map(str, errors.exceptions)
    if failures:
        raise click.ClickException("; ".join(failures))


async def migrate(dsn: str) -> None:
    """Brings the database's tables up to date. Raises: LostDependency."""
    from conclave.store.migrate import upgrade

    await asyncio.to_thread(upgrade, dsn)


async def make_topics(brokers: Brokers | str, *, partitions: int, replication: int = 1) -> list[str]:
    """Makes the pipeline's topics that are missing, and says which. Raises: LostDependency."""
    from conclave.runtime.topics import ensure_topics

    return await ensure_topics(brokers, partitions=partitions, replication=replication)


async def _prepare(settings: PrepareSettings) -> str:
    """Does both, and says what was done. Raises: ExceptionGroup of what went wrong."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(migrate(settings.postgres_dsn), name="migrations")
        topics = tasks.create_task(
            make_topics(
                settings.brokers,
                partitions=settings.topic_partitions,
                replication=settings.topic_replication,
            ),
            name="topics",
        )
    return f"The tables are up to date. Topics made: {', '.join(topics.result()) or 'none, all were there'}."
