"""`python -m services.gateway`."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec

import structlog

from conclave.domain.redaction import masker
from conclave.errors import LostDependency
from conclave.policies.current import CurrentPolicies
from conclave.runtime.attempts import Dependencies
from conclave.runtime.client import topic_states
from conclave.runtime.kafka import Kafka
from conclave.runtime.process import Parts, main
from conclave.runtime.settings import RuntimeSettings, load
from conclave.store.accounts import Accounts
from conclave.store.batches import BatchStore
from conclave.store.cancellations import Cancellations
from conclave.store.files import FileStore
from conclave.store.happenings import Happenings
from conclave.store.learning import Learning
from conclave.store.ledger import Ledger
from conclave.store.letter_replays import LetterReplays
from conclave.store.reader import Reader
from conclave.store.reviews import Reviews
from conclave.store.sign_ins import SignIns
from conclave.tools import TOOLS
from services.gateway.access import Access
from services.gateway.answers import Answers
from services.gateway.app import Site, make_app
from services.gateway.asking import Asking
from services.gateway.batch_runner import BatchRunner
from services.gateway.batches import BatchApi
from services.gateway.cancelling import Cancelling
from services.gateway.chat import Chat
from services.gateway.failures import surviving
from services.gateway.files import FileApi
from services.gateway.follower import Follower
from services.gateway.letters import Letters
from services.gateway.logged_ends import LoggedEnds
from services.gateway.mcp_door import McpDoor
from services.gateway.publishing import LogWriter
from services.gateway.requests import Requests
from services.gateway.routes import api_routes
from services.gateway.server import WebServer
from services.gateway.settings import GatewaySettings
from services.gateway.trials import Experiments

_FORGET_EVERY_S = 3600.0

log = structlog.get_logger(__name__)


@asynccontextmanager
async def compose(settings: RuntimeSettings, dependencies: Dependencies) -> AsyncIterator[Parts]:
    """The gateway over the log and the record."""
    own = load(GatewaySettings)
    reader, ledger, accounts = Reader(own.postgres_dsn), Ledger(own.postgres_dsn), Accounts(own.postgres_dsn)
    kafka = Kafka(settings.brokers)
    writer, record = LogWriter(kafka), LoggedEnds(Happenings(reader), kafka)
    policies, answers = _policies(own), Answers()
    follower = Follower(record, answers, dependencies)
    cancellations = Cancellations(own.postgres_dsn)
    cancelling = Cancelling(writer, cancellations)
    asking = Asking(
        writer,
        ledger,
        record,
        answers,
        cancelling,
        knows_policy=lambda name: policies.find(name) is not None,
        mask=await asyncio.to_thread(own.after, masker(own.gateway_masks)),
        is_mask_slow=bool(own.presidio_entities),
        max_waiting=own.gateway_max_waiting,
    )
    sign_ins = SignIns(own.postgres_dsn)
    access = Access(accounts, sign_ins, host=own.gateway_host)
    files, batches = FileStore(own.postgres_dsn), BatchStore(own.postgres_dsn)
    batch_api = BatchApi(asking, files, batches, own.gateway_max_tenant_file_bytes)
    trials, reviews = Learning(own.postgres_dsn), Reviews(own.postgres_dsn)
    table = api_routes(
        Requests(asking, follower),
        Chat(asking, follower, lambda: policies.names),
        FileApi(batch_api),
        batch_api,
        Experiments(trials),
    )
    door, topics = _mcp_door(access), partial(topic_states, settings.brokers)
    replays = LetterReplays(own.postgres_dsn)
    letters = Letters(settings.brokers, writer, replays, asking.mask)
    others = door.routes if door else ()
    site = Site(access, reader, asking, others, topics, lambda: policies.names, trials, reviews, letters)
    app = make_app(own, site, table)
    server = WebServer(app, own, drain_s=settings.drain_s)
    try:
        async with door.serving(app) if door else nullcontext(), asyncio.TaskGroup() as tasks:
            beside = [
                tasks.create_task(follower.run(), name="follower"),
                tasks.create_task(cancelling.run(), name="cancelling"),
                tasks.create_task(policies.follow(), name="policies"),
                tasks.create_task(BatchRunner(asking, batches, own.gateway_batch_open).run(), name="batches"),
                tasks.create_task(_forget((ledger, batches, files), own.retention_days), name="forget"),
            ]
            yield Parts(server, listener=answers, hears_from_end=True, status=policies.status)
            for task in beside:
                task.cancel()
    finally:
        await cancelling.close()
        stores = (reader, ledger, accounts, sign_ins, files, batches, cancellations, trials, reviews, replays)
        for each in (writer, record, *stores):
            await each.close()


def _mcp_door(access: Access) -> McpDoor | None:
    """The door for tools, where the package `mcp` is installed."""
    return None if find_spec("mcp") is None else McpDoor(access, version("conclave"))


def _policies(settings: GatewaySettings) -> CurrentPolicies:
    """The policies that the decomposer has too: who offers them must know their names."""
    folders = [settings.policies_dir] if settings.policies_dir else []
    return CurrentPolicies(settings.default_policy, *folders, prompts_dir=settings.prompts_dir, tools=TOOLS)


async def _forget(stores: Sequence[Ledger | BatchStore | FileStore], retention_days: int) -> None:
    """Drops what is older than the record, now and then."""
    while True:
        num_dropped = 0
        for store in stores:
            with contextlib.suppress(LostDependency), surviving("forgetting_broken"):
                num_dropped += await store.forget(retention_days)
        log.info("ledger_forgot", entries=num_dropped)
        await asyncio.sleep(_FORGET_EVERY_S)


if __name__ == "__main__":
    sys.exit(main("gateway", compose, GatewaySettings))
