"""`python -m services.gateway`."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from conclave.runtime.attempts import Dependencies
from conclave.runtime.process import Parts, main
from conclave.runtime.settings import RuntimeSettings, load
from conclave.store.reader import Reader
from services.gateway.answers import Answers
from services.gateway.app import make_app
from services.gateway.server import WebServer
from services.gateway.settings import GatewaySettings


@asynccontextmanager
async def compose(settings: RuntimeSettings, dependencies: Dependencies) -> AsyncIterator[Parts]:
    """The gateway over the log and the record."""
    own = load(GatewaySettings)
    reader, answers = Reader(own.postgres_dsn), Answers()
    try:
        app = make_app(own, reader)
        yield Parts(WebServer(app, own, drain_s=settings.drain_s), listener=answers, hears_from_end=True)
    finally:
        await reader.close()


if __name__ == "__main__":
    sys.exit(main("gateway", compose, GatewaySettings))
