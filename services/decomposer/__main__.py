"""`python -m services.decomposer`."""

import asyncio
import platform
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from conclave.errors import Misconfigured, WrongSetting
from conclave.policies.current import CurrentPolicies
from conclave.policies.effort import CurrentNeeds
from conclave.routes.current import CurrentRouter
from conclave.runtime.attempts import Dependencies
from conclave.runtime.backlog import Backlog
from conclave.runtime.kafka import Kafka
from conclave.runtime.process import Parts, main
from conclave.runtime.service import Service
from conclave.runtime.settings import RuntimeSettings, load
from conclave.runtime.work import Handles
from conclave.tools import TOOLS, mcp_servers
from schemas.flow import Topic
from services.decomposer.announcing import Announcer
from services.decomposer.door import Door
from services.decomposer.handler import Decomposer
from services.decomposer.memory import Limits, RecordedMemory
from services.decomposer.settings import DecomposerSettings

if TYPE_CHECKING:  # they import SQLAlchemy, for seconds: only a decomposer that asks the record waits for it
    from conclave.store.recollection import Recollection
    from conclave.store.spending import Spending


@asynccontextmanager
async def compose(settings: RuntimeSettings, dependencies: Dependencies) -> AsyncIterator[Parts]:
    """The decomposer, which knows a request published twice, and follows the files of its policies and prompt sets."""
    own = load(DecomposerSettings)
    mcp_servers.declare(mcp_servers.read(own.mcp_servers))
    folders = [own.policies_dir] if own.policies_dir else []
    policies = CurrentPolicies(own.default_policy, *folders, prompts_dir=own.prompts_dir, tools=TOOLS)
    spending = _spending(own)
    router = _router(own, policies, spending)
    source = _source(own)
    memory = RecordedMemory(source, _limits(own)) if source is not None else None
    effort = CurrentNeeds(own.effort_file) if own.effort_file is not None else None
    kafka = Kafka(settings.brokers)
    backlog = Backlog(kafka, "decoder", Topic.SAMPLES.value, source=Topic.REQUESTS.value)

    def share() -> float:
        return backlog.share(service.partitions)

    door = Door(backlog.count, share, lambda at: service.is_durable(at), open_samples=own.open_samples)
    decomposer = Decomposer(own, policies, router, memory, effort, door, share)
    service = Service(
        "decomposer",
        settings.model_copy(update={"max_in_flight": own.max_in_flight}),
        Handles(decomposer, request_key=decomposer.request_key, drain=decomposer.drain),
        dependencies,
        kafka,
    )
    following = {
        asyncio.create_task(policies.follow(), name="policies"),
        asyncio.create_task(door.follow(), name="door"),
        asyncio.create_task(Announcer(policies, kafka, _instance(settings)).follow(), name="announcer"),
    }
    if router is not None:
        following.add(asyncio.create_task(router.follow(), name="router"))
    if spending is not None:
        following.add(asyncio.create_task(spending.follow(), name="spending"))
    if effort is not None:
        following.add(asyncio.create_task(effort.follow(), name="effort"))
    if memory is not None:
        following.add(asyncio.create_task(memory.follow(), name="memory"))
    try:
        yield Parts(service, listener=decomposer, status=decomposer.status)
    finally:
        for task in following:
            task.cancel()
        await asyncio.wait(following)
        await backlog.close()
        if source is not None:
            await source.close()


def _instance(settings: RuntimeSettings) -> str:
    """What this decomposer is called where it is told which policies it goes by."""
    return settings.instance_id or platform.node() or "decomposer"


def _spending(settings: DecomposerSettings) -> "Spending | None":
    """What tells a router how much is spent; None where there is no router, or no record."""
    if settings.router is None or settings.postgres_dsn is None:
        return None
    from conclave.store.spending import Spending

    return Spending(settings.postgres_dsn)


def _source(settings: DecomposerSettings) -> "Recollection | None":
    """Where answers are remembered; None where none are. Raises: Misconfigured without the record's address."""
    if settings.recall == "off":
        return None
    if settings.postgres_dsn is None:
        expected = "the record's address, which CONCLAVE_RECALL needs"
        raise Misconfigured([WrongSetting("CONCLAVE_POSTGRES_DSN", expected, None)])
    from conclave.store.recollection import Recollection

    return Recollection(settings.postgres_dsn)


def _limits(settings: DecomposerSettings) -> Limits:
    return Limits(
        patience_s=settings.recall_patience_ms / 1000,
        wait_s=settings.recall_wait_s,
        front_bytes=settings.recall_front_bytes,
        eviction=settings.recall_eviction,
        lasting_s=settings.recall_lasting_s,
    )


def _router(
    settings: DecomposerSettings, policies: CurrentPolicies, spending: "Spending | None"
) -> CurrentRouter | None:
    """The router that the settings name; None when they name none."""
    if settings.router is None:
        return None
    folders = [settings.routes_dir] if settings.routes_dir else []
    if spending is None:
        return CurrentRouter(settings.router, *folders, policies=lambda: policies.policies)
    return CurrentRouter(
        settings.router, *folders, policies=lambda: policies.policies, tokens_last_hour=spending.tokens_last_hour
    )


if __name__ == "__main__":
    sys.exit(main("decomposer", compose, DecomposerSettings))
