"""The tools, as an MCP client sees them: over HTTP at the gateway, and on standard input and output."""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
from mcp import StdioServerParameters
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client

from conclave.domain.api_keys import ApiKey, Scope
from conclave.store.happenings import Happening
from schemas.events import FeedbackGiven, ReasoningRequested
from schemas.experiments import Rater
from schemas.ids import new_request_id
from tests.gateway_in_memory import World, answering, failing

CHECKOUT = Path(__file__).resolve().parents[2]


async def _told(client: Client, name: str, /, **arguments: Any) -> Any:
    result = await client.call_tool(name, arguments)
    assert not result.is_error, result.content
    return result.structured_content


async def _refused(client: Client, name: str, /, **arguments: Any) -> str:
    result = await client.call_tool(name, arguments)
    assert result.is_error
    return str(result.content[0])


async def _use_every_tool(client: Client, world: World) -> None:
    tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert set(tools) == {"ask", "trace", "feedback", "policies", "experiments"}
    assert all(tool.description for tool in tools.values())
    assert "context" not in tools["ask"].input_schema["properties"]
    answer = await _told(client, "ask", question="What is 6 times 6?", policy="default", max_samples=8)
    assert (answer["answer"], answer["tally"][0]["votes"]) == ("36", 4)
    request = world.published[-1]
    assert isinstance(request, ReasoningRequested)
    assert (request.policy, request.max_samples) == ("default", 8)
    request_id = str(request.request_id)
    world.record.happened[request_id] = [Happening("path/0/0", "path", {"answer": "36"})]
    trace = await _told(client, "trace", request_id=request_id)
    assert trace["happened"] == [{"kind": "path", "data": {"answer": "36"}}]
    assert trace["request"]["result"] == answer
    taken = await _told(client, "feedback", request_id=request_id, reward=1, step_index=0, sample_index=2)
    assert world.published[-1] == FeedbackGiven(
        request_id=request_id,
        reward=1.0,
        source="mcp",
        rater=Rater.MODEL,
        step_index=0,
        sample_index=2,
        feedback_id=taken["id"],
    )
    assert "default" in (await _told(client, "policies"))["policies"]
    (trial,) = (await _told(client, "experiments"))["data"]
    assert (trial["name"], trial["status"], trial["policies"]) == (
        "sure-or-plain", "running", {"plain": "default", "sure": "sure"},
    )  # fmt: skip
    shown = await _told(client, "experiments", name="sure-or-plain")
    assert shown["weights_version"] == 3
    assert [(arm["arm"], round(arm["share"], 3), arm["mean"]) for arm in shown["arms"]] == [
        ("plain", 0.3, None), ("sure", 0.7, None),
    ]  # fmt: skip
    assert "no experiment" in await _refused(client, "experiments", name="no-such")
    assert "policy" in await _refused(client, "ask", question="?", policy="no-such-policy")
    assert "no request" in await _refused(client, "trace", request_id=str(new_request_id()))
    assert "reward" in await _refused(client, "feedback", request_id=request_id)


async def test_every_tool_is_served_over_http() -> None:
    world = World(answering("36"))
    async with world.serving(), Client(f"{world.url}/mcp") as client:
        await _use_every_tool(client, world)


async def test_every_tool_is_served_on_standard_input_and_output() -> None:
    world = World(answering("36"))
    async with world.serving():
        environment = {**os.environ, "CONCLAVE_URL": world.url, "PYTHONPATH": str(CHECKOUT)}
        command = StdioServerParameters(command=sys.executable, args=["-m", "conclave.cli", "mcp"], env=environment)
        async with Client(command) as client:
            await _use_every_tool(client, world)


@asynccontextmanager
async def _holding(world: World, key: ApiKey) -> AsyncIterator[Client]:
    """A client that has a key."""
    async with (
        httpx2.AsyncClient(headers={"Authorization": f"Bearer {key.text}"}) as http,
        Client(streamable_http_client(f"{world.url}/mcp", http_client=http)) as client,
    ):
        yield client


async def test_tools_are_for_who_has_a_key_and_do_what_it_may() -> None:
    world = World(answering("36"))
    ours, theirs = world.accounts.add("ours", Scope.ASK), world.accounts.add("theirs", Scope.ASK)
    async with world.serving() as plain:
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        assert (await plain.post("/mcp", json=call)).status_code == 401
        async with _holding(world, ours) as client:
            answer = await _told(client, "ask", question="What is 6 times 6?")
            assert "scope" in await _refused(client, "feedback", request_id=answer["request_id"], reward=1)
            assert "scope" in await _refused(client, "experiments")
        async with _holding(world, theirs) as client:
            assert "no request" in await _refused(client, "trace", request_id=answer["request_id"])
    assert world.published[0].tags["tenant"] == "ours"  # type: ignore[attr-defined]


async def test_a_page_of_another_site_reaches_no_tool() -> None:
    async with World().serving() as client:
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}):
            assert (await client.post("/mcp", json=call, headers=headers)).status_code == 403


async def test_a_request_without_an_answer_is_told_as_it_ended() -> None:
    world = World(failing("no_answer", "no luck"))
    async with world.serving(), Client(f"{world.url}/mcp") as client:
        told = await _told(client, "ask", question="What is 6 times 6?")
    assert (told["status"], told["failure"], told["message"]) == ("failed", "no_answer", "no luck")
