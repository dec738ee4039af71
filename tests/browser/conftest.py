"""Chromium, and the gateway's pages over a record in memory that takes what is published as the recorder would."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import cast

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import BaseRoute, Mount, Router

from conclave.domain.recorded import RecordedEvent
from conclave.errors import LostDependency
from conclave.store.trace import Story
from conclave.testing.waiting import until
from schemas import flow
from schemas.events import Event
from services.gateway.access import Access
from services.gateway.headers import SecureHeaders
from services.gateway.pages import KeptFiles, routes_over
from services.gateway.pages.rendering import STATIC
from services.gateway.pages.view import View
from services.gateway.server import WebServer
from services.gateway.settings import GatewaySettings
from services.gateway.signing_in import PagesGuard, signing_in
from tests.gateway_in_memory import MemoryAccounts, MemorySignIns
from tests.memory_letters import MemoryLetters, letter
from tests.memory_view import MemoryDesk, MemoryFigures, MemoryTrials, MemoryView
from tests.pages_in_memory import topics
from tests.played import played

expect.set_options(timeout=30_000)  # a busy machine makes no test fail

_ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_NUM_REQUESTS = 9


def _letters() -> MemoryLetters:
    hostile = letter(
        2, b'{"text": "<script>alert(1)</script>' + b"x" * 500 + b'"}', error="<b>no</b>" * 30, field="$." + "a" * 80
    )
    return MemoryLetters([letter(1), hostile, letter(3, None, value_bytes="5000000")])


@dataclass
class Site:
    """Where the pages are, and what they stand on. What is published is part of the record at once."""

    address: str
    view: MemoryView
    desk: MemoryDesk
    published: list[Event] = field(default_factory=list)
    accounts: MemoryAccounts = field(default_factory=MemoryAccounts)  # while there are none, nobody needs a key
    letters: MemoryLetters = field(default_factory=_letters)
    is_log_away: bool = False
    is_record_away: bool = False

    async def publish(self, event: Event) -> None:
        """Takes it as the log and the recorder would."""
        if self.is_log_away:
            raise LostDependency("kafka", "it is away")
        self.published.append(event)
        self.record(event)

    def record(self, *events: Event) -> None:
        """Has the record hold these events too."""
        now_ms, number = int(time.time() * 1000), len(self.view.events)
        new = [
            RecordedEvent(event, f"b{number + place}", flow.key_of(event), "t", 0, number + place, now_ms, None)
            for place, event in enumerate(events)
        ]
        self.view = MemoryView([*self.view.events, *new])

    def request_of(self, policy: str) -> str:
        """An answered request under that policy."""
        found = next(row["request_id"] for row in self.view.tables["answers"] if row["policy"] == policy)
        return str(found)

    async def story(self, request_id: str) -> Story | None:
        """What the view tells, while the record is there."""
        if self.is_record_away:
            raise LostDependency("postgres", "it is away")
        return await self.view.story(request_id)

    def __getattr__(self, name: str) -> object:
        return getattr(self.view, name)  # pages read the view as it is now


@cache
def _played() -> list[RecordedEvent]:
    return asyncio.run(played(_NUM_REQUESTS, now_ms=int(time.time() * 1000), seed=3))


def _pages(site: Site) -> list[BaseRoute]:
    return routes_over(
        cast(View, site),
        MemoryFigures(site.view),
        site.publish,
        topics=topics,
        trials=MemoryTrials(),
        desk=site.desk,
        letters=site.letters,
    )


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """Pages that are served on a port of their own."""
    view = MemoryView(await asyncio.to_thread(_played))
    site = Site("", view, MemoryDesk.of(view))
    access = Access(site.accounts, MemorySignIns(), host="127.0.0.1")
    settings = GatewaySettings.model_validate(
        {"postgres_dsn": "postgresql://nobody@127.0.0.1:1/none", "gateway_port": 0}
    )
    app = Starlette(
        routes=[
            Mount("/static", KeptFiles(directory=STATIC)),
            *signing_in(access, "auto"),
            Mount("/", PagesGuard(Router(_pages(site)), access)),
        ],
        middleware=[Middleware(SecureHeaders)],
    )
    server = WebServer(app, settings, drain_s=1.0)
    running = asyncio.create_task(server.run(), name="pages")
    await until(lambda: server.is_ready, what="the pages")
    site.address = f"http://127.0.0.1:{server.port}"
    yield site
    server.stop()
    await running


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Browser]:
    """A Chromium of this machine, with nothing of its own."""
    found = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )
    if found is None:
        pytest.skip("there is no Chromium on this machine: install the package chromium (root's `make test` does)")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=found, args=_ARGUMENTS, env={"HOME": str(tmp_path)})
        yield browser
        await browser.close()


@dataclass
class Visit:
    """A page that is looked at, and what went wrong in it."""

    page: Page
    wrong: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", lambda said: self.wrong.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
