"""The tools, as an MCP client sees them: over HTTP at the gateway, and on standard input and output."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import StdioServerParameters
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from prometheus_client import REGISTRY

from conclave.domain.api_keys import ApiKey, Scope
from conclave.store.happenings import Happening
from conclave.testing import events as made
from conclave.testing.waiting import until
from schemas.events import FeedbackGiven, ReasoningRequested, RequestCancelled
from schemas.experiments import Rater
from schemas.ids import new_request_id
from services.gateway import mcp_door, mcp_tools
from services.gateway.mcp_door import Served
from services.gateway.mcp_tools import tool_server
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


def _cancelled(world: World) -> list[str]:
    return [event.request_id for event in world.published if isinstance(event, RequestCancelled)]


async def _leaves(call: Coroutine[Any, Any, Any], world: World) -> None:
    """Calls, and goes away as soon as the question was asked: then it is cancelled."""
    calling = asyncio.create_task(call)
    await until(lambda: world.answers.awaited != (), what="a question that is waited for")
    calling.cancel()
    await asyncio.wait({calling})
    await until(lambda: _cancelled(world) != [], what="the question to be cancelled")
    assert _cancelled(world) == [request.request_id for request in world.published[:1]]  # type: ignore[attr-defined]
    await until(lambda: world.answers.awaited == (), what="nobody waiting")


async def test_what_a_client_asked_over_http_is_cancelled_when_it_goes_away() -> None:
    world = World()
    async with world.serving(), Client(f"{world.url}/mcp") as client:
        await _leaves(client.call_tool("ask", {"question": "What is 6 times 6?"}), world)


async def test_what_a_client_of_before_asked_is_cancelled_when_it_goes_away() -> None:
    """One that speaks a version of the protocol with a handshake, which is served by other code of the library's."""
    world = World()
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
    call |= {"params": {"name": "ask", "arguments": {"question": "What is 6 times 6?"}}}
    headers = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2025-06-18"}
    async with world.serving() as plain:
        await _leaves(plain.post("/mcp", json=call, headers=headers), world)


async def test_what_a_program_asked_is_cancelled_when_it_says_so() -> None:
    world = World()
    async with world.serving():
        server = tool_server(lambda _: httpx2.AsyncClient(base_url=world.url, timeout=60), "0")
        async with Client(server) as client:
            await _leaves(client.call_tool("ask", {"question": "What is 6 times 6?"}), world)


async def test_progress_is_told_over_http_until_the_answer_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcp_tools, "_WAIT_S", 0.02)
    world = World()

    async def heard(progress: float, total: float | None, message: str | None) -> None:
        (request,) = world.published
        assert isinstance(request, ReasoningRequested)
        assert (total, message) == (120.0, "running, 0 s")
        world.end(made.answer("36", request_id=str(request.request_id)))

    async with world.serving(), Client(f"{world.url}/mcp") as client:
        told = await client.call_tool("ask", {"question": "What is 6 times 6?"}, progress_callback=heard)
    assert (told.structured_content or {})["answer"] == "36"


async def test_a_question_whose_time_is_up_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcp_tools, "GRACE_S", 0.0)
    world = World()
    async with world.serving(), Client(f"{world.url}/mcp") as client:
        said = await _refused(client, "ask", question="What is 6 times 6?", deadline_s=0.3)
    (request_id,) = _cancelled(world)
    assert f"request {request_id} did not end in time, and was cancelled" in said


async def test_a_question_outlives_a_gateway_that_is_busy_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcp_tools, "_PAUSE_S", 0.01)
    labels = {"method": "GET", "route": "/v1/requests/{request_id}", "status": "429"}
    world = World(max_waiting=1)

    def num_refused() -> float:
        return REGISTRY.get_sample_value("conclave_http_calls_total", labels) or 0.0

    async with world.serving(), Client(f"{world.url}/mcp") as client:
        before = num_refused()
        with world.answers.expecting(str(new_request_id())):
            calling = asyncio.create_task(_told(client, "ask", question="What is 6 times 6?"))
            await until(lambda: num_refused() > before, what="a gateway that holds no more who wait")
        await until(lambda: world.answers.awaited != (), what="a question that is waited for")
        (request,) = world.published
        assert isinstance(request, ReasoningRequested)
        world.end(made.answer("36", request_id=str(request.request_id)))
        assert (await calling)["answer"] == "36"
    assert _cancelled(world) == []


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


async def test_a_library_that_can_not_be_imported_ends_no_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    def imported() -> Served:
        raise ImportError("another version")

    monkeypatch.setattr(mcp_door, "_imported", imported)
    async with World().serving() as client:
        for _ in range(2):
            told = await client.post("/mcp", json={})
            assert (told.status_code, told.json()["error"]["code"]) == (500, "internal_error")
        assert (await client.get("/v1/models")).status_code == 200
