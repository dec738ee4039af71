"""What several unit tests stand on."""

from collections.abc import AsyncIterator

import pytest
from openai import AsyncOpenAI, DefaultAsyncHttpxClient


@pytest.fixture
async def connections() -> AsyncIterator[AsyncOpenAI]:
    """A client of this test alone, for a connection is of the loop that opened it. Without certificates it takes a millisecond."""
    http = DefaultAsyncHttpxClient(verify=False)
    async with AsyncOpenAI(base_url="http://127.0.0.1:1", api_key="none", http_client=http) as client:
        yield client
