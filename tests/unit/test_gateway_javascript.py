"""OpenAI's JavaScript client over the gateway, unchanged. On the embedded stack tests/integration/test_gateway.py has it ask."""

import pytest

from tests import javascript_client
from tests.gateway_in_memory import World, answering

_SAID = """\
chat 36 60 4
stream 36 60
models conclave true
refused 400 response_format.json_schema.schema.properties.n.type invalid_schema
batch completed 1 36
"""


@pytest.mark.skipif(not javascript_client.IS_HERE, reason=javascript_client.WHY_NOT)
async def test_the_javascript_client_chats_streams_lists_is_refused_and_has_a_batch_answered() -> None:
    world = World(answering("36"))
    async with world.serving():
        assert await javascript_client.said(world.url) == _SAID
