"""What several unit tests stand on."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from openai import AsyncOpenAI, DefaultAsyncHttpxClient
from starlette.testclient import TestClient

from conclave.testing import events as made
from tests.memory_view import MemoryView
from tests.pages_in_memory import Log, client
from tests.played import played


@pytest.fixture
async def connections() -> AsyncIterator[AsyncOpenAI]:
    """A client of this test alone, for a connection is of the loop that opened it. Without certificates it takes a millisecond."""
    http = DefaultAsyncHttpxClient(verify=False)
    async with AsyncOpenAI(base_url="http://127.0.0.1:1", api_key="none", http_client=http) as client:
        yield client


@pytest.fixture(scope="session")
def view() -> MemoryView:
    """The record of ten requests that were played. Nobody changes it."""
    return MemoryView(asyncio.run(played(10, now_ms=made.NOW_MS)))


@pytest.fixture
def log() -> Log:
    """A log that takes what is published."""
    return Log()


@pytest.fixture
def pages(view: MemoryView, log: Log) -> Iterator[TestClient]:
    """A browser of the pages over that record and that log."""
    with client(view, log) as pages:
        yield pages
