"""Brings the tables up to date and makes missing topics, then ends: `python -m conclave.local.prepare`.

For deployments without the supervisor. CONCLAVE_BOOTSTRAP_SERVERS and CONCLAVE_POSTGRES_DSN say where.
"""

import asyncio
import os
import sys

_BOOTSTRAP, _DSN = "CONCLAVE_BOOTSTRAP_SERVERS", "CONCLAVE_POSTGRES_DSN"
_REPLICATION = "CONCLAVE_TOPIC_REPLICATION"


async def migrate(dsn: str) -> None:
    """Brings the database's tables up to date."""
    from conclave.store.migrate import upgrade

    await asyncio.to_thread(upgrade, dsn)


async def make_topics(bootstrap_servers: str, *, partitions: int = 24, replication: int = 1) -> None:
    """Makes the pipeline's topics that are missing."""
    from conclave.runtime.topics import ensure_topics

    await ensure_topics(bootstrap_servers, partitions=partitions, replication=replication)


async def _prepare() -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(migrate(os.environ[_DSN]), name="migrate")
        replication = int(os.environ.get(_REPLICATION, "1"))
        tasks.create_task(make_topics(os.environ[_BOOTSTRAP], replication=replication), name="topics")


def main() -> None:
    """Exit status 0 when both are done."""
    if missing := [name for name in (_BOOTSTRAP, _DSN) if name not in os.environ]:
        sys.exit(f"prepare: set {' and '.join(missing)}")
    asyncio.run(_prepare())


if __name__ == "__main__":
    main()
