"""A call that waits for a yes, on real servers: approved on the command line, made once though its service dies, and traced."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conclave.local.servers.kafka import KafkaBroker
from conclave.runtime.client import Client
from conclave.testing.pipeline import Pipeline, read_log
from conclave.testing.waiting import until_async
from schemas.events import AnswerReached, ReasoningRequested, RequestFailed
from schemas.flow import Topic
from schemas.ids import new_request_id
from tests.integration.conftest import own_broker

SERVER = Path(__file__).parents[1] / "mcp_server.py"
POLICY = """
about = "Sends what it is asked, if somebody says yes."
prompt_set = "instruct-v1"

[asks.whole]
form = "none"
program = "external"
tools = ["mail.send"]
params = { approval_s = 300 }
"""


@pytest.fixture(scope="module")
def broker(session_dir: Path, jars_dir: Path) -> Iterator[KafkaBroker]:
    """A broker of this module alone."""
    with own_broker(session_dir / "kafka-tools", jars_dir, partitions=1) as broker:
        yield broker


def _command(pipeline: Pipeline, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "CONCLAVE_BOOTSTRAP_SERVERS": pipeline.address,
        "CONCLAVE_POSTGRES_DSN": pipeline.dsn,
        "PATH": "/usr/bin:/bin",
    }
    return subprocess.run(
        [sys.executable, "-m", "conclave.cli", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def test_a_call_waits_for_its_yes_and_is_made_once_whoever_dies(
    broker: KafkaBroker, fresh_database: str, tmp_path: Path
) -> None:
    letters = tmp_path / "letters"
    servers = tmp_path / "servers.toml"
    servers.write_text(
        f"[servers.mail]\ncommand = {json.dumps([sys.executable, '-u', str(SERVER), str(letters)])}\neffects = true\n"
        'needs_approval = true\nkey_argument = "key"\n[servers.mail.tools]\nsend = "words"\n'
    )
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "send.toml").write_text(POLICY)
    settings = {"CONCLAVE_MCP_SERVERS": str(servers), "CONCLAVE_POLICIES_DIR": str(tmp_path / "policies")}
    pipeline = Pipeline(broker, fresh_database, tmp_path, settings)
    try:
        for name in ("decomposer", "aggregator", "recorder", "tools"):
            await pipeline.add(name)
        await pipeline.until_ready()
        await _approved(pipeline, letters)
        await _denied(pipeline, letters)
    finally:
        await pipeline.stop()


async def _asked(pipeline: Pipeline, question: str) -> str:
    request_id = new_request_id()
    async with Client(pipeline.address) as client:
        await client.publish(ReasoningRequested(question=question, request_id=request_id, policy="send"))

    async def is_waiting() -> bool:
        found = await asyncio.to_thread(_command, pipeline, "approvals")
        return request_id in found.stdout and f"mail.send({question})" in found.stdout

    await until_async(is_waiting, limit_s=30, what="a call that waits")
    return request_id


def _sent(letters: Path) -> str:
    return letters.read_text() if letters.exists() else ""


async def _end(pipeline: Pipeline, request_id: str) -> AnswerReached | RequestFailed:
    found: list[Any] = []

    async def has_ended() -> bool:
        log = await read_log(pipeline.address, [Topic.ANSWERS])
        found[:] = [event for _, event, _ in log if getattr(event, "request_id", None) == request_id]
        return bool(found)

    await until_async(has_ended, limit_s=30, what="the end of the request")
    (end,) = found
    assert isinstance(end, AnswerReached | RequestFailed)
    return end


async def _approved(pipeline: Pipeline, letters: Path) -> None:
    """The service is away when the yes comes, and killed with its server while it makes the call."""
    request_id = await _asked(pipeline, "slowly: Dear Ann")
    assert _sent(letters) == ""
    said = await asyncio.to_thread(_command, pipeline, "approve", request_id, "--by", "anna", "--because", "it is kind")
    assert said.returncode == 0, said.stderr

    async def is_calling() -> bool:
        return bool(_sent(letters))

    await until_async(is_calling, limit_s=30, what="the call")
    pipeline.services["tools"].send(signal.SIGKILL)
    await pipeline.services["tools"].stop()
    await pipeline.add("tools", "tools-again")
    end = await _end(pipeline, request_id)
    assert isinstance(end, AnswerReached)
    assert (end.answer, _sent(letters).count("Dear Ann")) == ("sent", 1)
    again = await asyncio.to_thread(_command, pipeline, "deny", request_id)
    assert again.returncode == 1, "nothing waits any more"

    async def is_traced() -> bool:
        trace = await asyncio.to_thread(_command, pipeline, "trace", request_id)
        return "call mail.send(slowly: Dear Ann), approved by anna (it is kind): observed" in trace.stdout

    await until_async(is_traced, limit_s=30, what="the call in the trace")


async def _denied(pipeline: Pipeline, letters: Path) -> None:
    request_id = await _asked(pipeline, "Dear Bob")
    said = await asyncio.to_thread(_command, pipeline, "deny", request_id, "--by", "bob")
    assert said.returncode == 0, said.stderr
    assert isinstance(await _end(pipeline, request_id), RequestFailed)
    assert "Bob" not in _sent(letters)
