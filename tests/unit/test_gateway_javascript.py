"""OpenAI's JavaScript client over the gateway, unchanged; where Node.js is, and .ci/node has installed it."""

import asyncio
import shutil
from pathlib import Path

import pytest

from tests.gateway_in_memory import World, answering

_FOLDER = Path(__file__).resolve().parents[1] / "javascript"
_SAID = """\
chat 36 60 4
stream 36 60
models conclave true
refused 400 response_format.json_schema.schema.properties.n.type invalid_schema
batch completed 1 true
"""


@pytest.mark.skipif(
    shutil.which("node") is None or not (_FOLDER / "node_modules" / "openai").is_dir(),
    reason="needs Node.js and npm: .ci/node, which `make test` runs, installs the client",
)
async def test_the_javascript_client_chats_streams_lists_is_refused_and_has_a_batch_answered() -> None:
    world = World(answering("36"))
    async with world.serving():
        pipe = asyncio.subprocess.PIPE
        node = await asyncio.create_subprocess_exec(
            "node", "client.mjs", world.url, cwd=_FOLDER, stdout=pipe, stderr=pipe
        )
        async with asyncio.timeout(60):
            said, wrong = await node.communicate()
    assert said.decode() == _SAID, wrong.decode()
