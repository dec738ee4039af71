"""MCP servers over HTTP: whatever a server does, each call is answered within its limit, and nothing of it is left open."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcp.server.mcpserver import MCPServer

from conclave.errors import Misconfigured
from conclave.testing.waiting import until
from conclave.tools import mcp_client
from conclave.tools.mcp_client import remote_tools
from conclave.tools.mcp_http import MAX_RESUMED
from conclave.tools.mcp_servers import McpServer, Secret, check_values, read, values_of
from conclave.tools.toolbox import Toolbox
from schemas.values import Call
from services.gateway.server import WebServer
from services.gateway.settings import GatewaySettings
from services.tools.effects import effects_of
from tests.mcp_http_server import HttpMcpServer

# What each bad tool is told as; those that end with the limit are told of by the toolbox.
_LIMIT = r"error: test\S* (took more than|failed: no answer within)"
_BROKEN = "error: test failed: (RemoteProtocol|Read)Error"
_BAD = {
    "hang": _LIMIT,
    "trickle": _LIMIT,
    "mistake": _LIMIT,
    "never": rf"{_LIMIT}|error: test failed: SSE stream ended",
    "die": _BROKEN,
    "cut": "error: test failed: .*its answer broke off: (RemoteProtocol|Read)Error",
    "lie": "error: test failed: an answer of more than 1,048,576 bytes",
    "shout": "error: test failed: .*an answer of more than 1,048,576 bytes",
    "comment": "error: test failed: SSE stream (ended|failed)",
    "babble": "error: test failed: Connection closed",
    "page": "error: test failed: Unexpected content type: text/html",
    "refuse": "error: test failed: HTTP 401",
    "redirect": "error: test failed: HTTP 307, and a redirect is not followed",
    "compress": "error: test failed: a compressed answer",
    "accept": "error: test failed: server answered a request with 202",
    "mumble": _BROKEN,
    "nest": "error: test failed: Failed to parse JSON response",
    "head": _BROKEN,
    "fail": "error: it rained",
    "none": "error: test failed: no such tool",
}
_GOOD = ("echo", "stream", "ask", "later", "cookie")


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcp_client, "_RESTART_PAUSE_S", 0.0)


@asynccontextmanager
async def served(*, limit_s: float = 10.0, **changes: object) -> AsyncIterator[tuple[HttpMcpServer, Toolbox]]:
    """A server and the tools that call it; when they are done with, no task and no connection is left."""
    before = asyncio.all_tasks()
    async with HttpMcpServer() as server:
        described = McpServer(url=server.url, tools=dict.fromkeys((*_BAD, *_GOOD), "words"), limit_s=limit_s, **changes)  # type: ignore[arg-type]
        tools, clients = remote_tools({"test": described})
        try:
            yield server, Toolbox(remote=tools)
        finally:
            for client in clients:
                await client.stop()
        await server.all_closed()
        if limit_s > 1.0:  # which is how long saying goodbye may take
            assert server.sessions == [], "sessions that the server was not told the end of"
    assert asyncio.all_tasks() == before


async def settled(tools: Toolbox) -> None:
    """Returns once a well-meant call is answered well."""
    async with asyncio.timeout(20):
        while await tools.answer(Call("test.echo", "well")) != "well":
            await asyncio.sleep(0)


async def test_a_server_answers_several_calls_at_a_time_in_one_session() -> None:
    async with served() as (server, tools):
        calls = [Call(f"test.{_GOOD[n % len(_GOOD)]}", f"word {n}") for n in range(20)]
        assert await asyncio.gather(*map(tools.answer, calls)) == [f"word {n}" for n in range(20)]
        assert len(server.sessions) == 1
        assert not server.saw_cookie
        assert server.num_resumed == 4, "once for each answer that came later"


@pytest.mark.parametrize("tool", _BAD)
async def test_harm_is_an_observation_within_the_limit_and_the_next_call_is_answered(tool: str) -> None:
    async with served(limit_s=0.4 if _LIMIT in _BAD[tool] else 20.0) as (server, tools):
        await settled(tools)
        num_calls = server.num_calls
        said = await tools.answer(Call(f"test.{tool}", ""))
        assert re.match(_BAD[tool], said), said
        assert server.num_calls == num_calls + 1, "a call that may have had its effect is not made again"
        assert server.num_resumed <= MAX_RESUMED
        await settled(tools)
        assert not any("elsewhere" in path for path in server.paths)


@given(st.lists(st.sampled_from([*_BAD, "echo"]), min_size=1, max_size=8))
@settings(max_examples=6, deadline=None)
def test_any_harm_at_once_is_answered_and_leaves_nothing_open(drawn: list[str]) -> None:
    async def played() -> None:
        async with served(limit_s=0.3) as (_, tools):
            async with asyncio.timeout(20):
                said = await asyncio.gather(*(tools.answer(Call(f"test.{tool}", "a")) for tool in drawn))
            assert all(text == "a" or text.startswith("error: ") for text in said)
            await settled(tools)

    asyncio.run(played())


async def test_a_server_that_was_replaced_is_asked_in_a_new_session_without_a_failed_call() -> None:
    async with served() as (server, tools):
        await settled(tools)
        server.sessions.clear()
        said = await asyncio.gather(*(tools.answer(Call("test.echo", f"{n}")) for n in range(6)))
        assert said == [f"{n}" for n in range(6)]
        assert len(server.sessions) == 1
        assert server.num_calls == 7


async def test_a_server_that_is_away_or_mute_is_waited_for_no_longer_than_a_call() -> None:
    async with served(limit_s=0.3) as (server, tools):
        server.is_mute = True
        assert (await tools.answer(Call("test.echo", "a"))).startswith("error: ")
        server.is_mute = False
        await settled(tools)
    gone = McpServer(url=server.url, tools={"echo": "words"})
    away, clients = remote_tools({"test": gone})
    assert await away["test.echo"].ask("a") == "error: the server test is away just now"
    await clients[0].stop()


async def test_headers_come_from_the_environment_and_from_files_anew_for_each_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tmp_path / "key"
    key.write_text("first\n")
    monkeypatch.setenv("TEAM", "ours")
    headers = {"Authorization": Secret(file=str(key), before="Bearer "), "X-Team": Secret(env="TEAM"), "X-Plain": "1"}
    async with served(headers=headers) as (server, tools):
        await settled(tools)
        told = [server.headers[name] for name in ("authorization", "x-team", "x-plain")]
        assert told == ["Bearer first", "ours", "1"]
        key.write_text("second")
        server.sessions.clear()
        await settled(tools)
        assert server.headers["authorization"] == "Bearer second"
        key.unlink()
        server.sessions.clear()
        assert await tools.answer(Call("test.echo", "a")) == "error: the server test is away just now"


def test_a_secret_that_is_missing_is_told_by_its_place_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text("two\nlines")
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    monkeypatch.setenv("WEATHER_KEY", "rain")
    process = McpServer(
        command=("x",), tools={"a": ""}, env={"A": Secret(env="NO_SUCH_KEY"), "B": Secret(env="WEATHER_KEY")}
    )
    served_ = McpServer(url="https://a.test/", tools={"a": ""}, headers={"X-Key": Secret(file=str(tmp_path / "key"))})
    with pytest.raises(Misconfigured) as told:
        check_values({"one": process, "two": served_})
    assert [each.name for each in told.value.settings] == ["NO_SUCH_KEY", str(tmp_path / "key")]
    assert "lines" not in str(told.value)
    assert values_of({"B": Secret(env="WEATHER_KEY", before="with ")}) == {"B": "with rain"}


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ('command = ["x"]\nurl = "https://a.test/"', "either a `command` or a `url`"),
        ("", "either a `command` or a `url`"),
        ('url = "ftp://a.test/"', "https://host/path"),
        ('url = "https://me:secret@a.test/"', "no user and no password"),
        ('url = "https://a.test:port/"', "[Pp]ort"),
        ('url = "https://a.test/"\nenv = { A = "1" }', "`env` is of a server with a `command`"),
        ('command = ["x"]\nheaders = { A = "1" }', "`headers` of one with a `url`"),
        ('url = "https://a.test/"\nheaders = { Host = "b.test" }', "can't have 'Host'"),
        ('url = "https://a.test/"\nheaders = { "A B" = "1" }', "can't have 'A B'"),
        ('url = "https://a.test/"\nheaders = { A = "1\\n2" }', "printable ASCII"),
        ('url = "https://a.test/"\nheaders = { authorization = "Bearer s" }', "is a secret"),
        ('url = "https://a.test/"\nheaders = { A = { env = "A", file = "a" } }', "either `env` or `file`"),
    ],
)
def test_a_wrong_server_is_refused_with_what_was_expected(tmp_path: Path, fields: str, told: str) -> None:
    path = tmp_path / "servers.toml"
    path.write_text(f'[servers.a]\n{fields}\n[servers.a.tools]\nx = ""\n')
    with pytest.raises(Misconfigured, match=told) as error:
        read(path)
    assert "secret@" not in str(error.value)
    assert "Bearer s" not in str(error.value)


@asynccontextmanager
async def library_server(*, as_json: bool) -> AsyncIterator[str]:
    """The address of a server as people write them, with the library's own session manager, on a real port."""
    server = MCPServer("weather")

    @server.tool()
    async def forecast(city: str) -> str:
        return f"rain in {city}"

    app = server.streamable_http_app(json_response=as_json)
    settings_ = GatewaySettings.model_validate(
        {"postgres_dsn": "postgresql://nobody@127.0.0.1:1/none", "gateway_port": 0}
    )
    web = WebServer(app, settings_, drain_s=1.0)
    async with server.session_manager.run():
        running = asyncio.create_task(web.run(), name="library server")
        await until(lambda: web.is_ready, what="the library's server")
        yield f"http://127.0.0.1:{web.port}/mcp"
        web.stop()
        await running


@pytest.mark.parametrize("as_json", [True, False])
async def test_a_server_that_is_written_with_the_library_is_called_in_either_of_its_ways(as_json: bool) -> None:
    async with library_server(as_json=as_json) as url:
        described = McpServer(url=url, tools={"forecast": "city", "snow": ""}, limit_s=20.0)
        tools, clients = remote_tools({"weather": described})
        box = Toolbox(remote=tools)
        said = await asyncio.gather(*(box.answer(Call("weather.forecast", f"{n}")) for n in range(4)))
        assert said == [f"rain in {n}" for n in range(4)]
        assert (await box.answer(Call("weather.snow", "{}"))).startswith("error: Unknown tool")
        await clients[0].stop()


async def test_a_call_with_an_effect_over_http_has_its_key_and_is_never_made_twice() -> None:
    async with HttpMcpServer() as server:
        described = McpServer(
            url=server.url, tools={"echo": "city", "hang": ""}, limit_s=2.0, effects=True, key_argument="words"
        )
        client = mcp_client.McpClient("test", described)
        effects = effects_of({"test": described}, {"test": client.call})
        assert await effects["test.echo"].call("letter", "key 1") == "key 1"
        server.sessions.clear()
        assert await effects["test.echo"].call("letter", "key 2") == "key 2"
        assert "whether it had its effect is not known" in await effects["test.hang"].call("{}", "key 3")
        assert server.num_calls == 3
        await client.stop()
        await server.all_closed()
