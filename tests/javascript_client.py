"""OpenAI's JavaScript client at work over a gateway, where Node.js is and .ci/node has installed it."""

import asyncio
import shutil
from pathlib import Path

_FOLDER = Path(__file__).resolve().parent / "javascript"
IS_HERE = shutil.which("node") is not None and (_FOLDER / "node_modules" / "openai").is_dir()
WHY_NOT = "needs Node.js and npm: .ci/node, which `make test` runs, installs the client"


async def said(url: str, question: str = "What is 6 times 6?") -> str:
    """What tests/javascript/client.mjs tells of each thing that it did, a line each. Raises: AssertionError with its errors."""
    pipe = asyncio.subprocess.PIPE
    command = ("node", "client.mjs", url, question)
    node = await asyncio.create_subprocess_exec(*command, cwd=_FOLDER, stdout=pipe, stderr=pipe)
    async with asyncio.timeout(60):
        told, wrong = await node.communicate()
    assert node.returncode == 0, wrong.decode()
    return told.decode()
