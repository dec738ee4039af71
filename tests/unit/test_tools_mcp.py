"""MCP servers as tools: whatever a server does, its call is answered within its limit, and the path goes on."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from conclave.cli.policies import load_policies
from conclave.errors import Misconfigured
from conclave.tools import TOOLS, mcp_client
from conclave.tools.mcp_client import remote_tools
from conclave.tools.mcp_servers import McpServer, McpTool, arguments_of, declare, read, tools_of
from conclave.tools.toolbox import Toolbox
from schemas.values import Call

SERVER = Path(__file__).parents[1] / "mcp_server.py"
_TOOLS = dict.fromkeys(("echo", "fail", "hang", "die", "shout", "lie", "babble", "none"), "words")


@asynccontextmanager
async def toolbox(*, mode: str = "well", limit_s: float = 10.0, **changes: object) -> AsyncIterator[Toolbox]:
    server = McpServer(command=(sys.executable, "-u", str(SERVER), mode), tools=_TOOLS, limit_s=limit_s, **changes)  # type: ignore[arg-type]
    tools, clients = remote_tools({"test": server})
    try:
        yield Toolbox(remote=tools)
    finally:
        for client in clients:
            await client.stop()


async def test_a_server_answers_several_calls_at_a_time_and_gets_no_more_of_our_environment_than_the_file_gives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CONCLAVE_OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("SECRET", "ours")
    async with toolbox() as tools:
        said = await asyncio.gather(*(tools.answer(Call("test.echo", f"word {n}")) for n in range(8)))
        assert said == [f"word {n}" for n in range(8)]
    async with toolbox(env={"SECRET": "theirs"}) as tools:
        assert await tools.answer(Call("test.echo", "a")) == "a theirs"


async def test_what_a_server_says_of_a_failure_is_an_observation() -> None:
    async with toolbox(max_answer_chars=500) as tools:
        assert await tools.answer(Call("test.fail", "")) == "error: it rained"
        assert await tools.answer(Call("test.none", "")) == "error: test failed: no such tool"
        assert await tools.answer(Call("test.shout", "")) == "x" * 500
        assert await tools.answer(Call("test.echo", "still there")) == "still there"


@pytest.mark.parametrize("tool", ["die", "lie", "babble"])
async def test_a_server_that_dies_or_breaks_a_bound_is_ended_and_started_again(
    tool: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mcp_client, "_RESTART_PAUSE_S", 0.0)
    async with toolbox() as tools:
        said = await tools.answer(Call(f"test.{tool}", ""))
        assert said.startswith("error: test")
        async with asyncio.timeout(10):
            while await tools.answer(Call("test.echo", "again")) != "again":
                await asyncio.sleep(0)


async def test_a_call_that_hangs_is_given_up_at_its_limit() -> None:
    async with toolbox(limit_s=1.5) as tools:
        assert (await tools.answer(Call("test.hang", ""))).startswith("error: test")


@pytest.mark.parametrize("command", [("/no/such/program",), (sys.executable, "-c", "raise SystemExit(1)")])
async def test_a_server_that_does_not_start_is_away(command: tuple[str, ...]) -> None:
    server = McpServer(command=command, tools={"echo": "words"}, limit_s=30.0)
    tools, clients = remote_tools({"test": server})
    box = Toolbox(remote=tools)
    assert await box.answer(Call("test.echo", "a")) == "error: the server test is away just now"
    for client in clients:
        await client.stop()


async def test_a_server_that_says_nothing_is_waited_for_no_longer_than_a_call() -> None:
    async with toolbox(mode="mute", limit_s=0.3) as tools:
        assert (await tools.answer(Call("test.echo", "a"))).startswith("error: ")


async def test_a_server_that_is_being_ended_is_waited_for_by_who_stops_its_client(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[asyncio.subprocess.Process] = []
    start = asyncio.create_subprocess_exec

    async def noted(*arguments: str, **more: Any) -> asyncio.subprocess.Process:
        started.append(await start(*arguments, **more))
        return started[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", noted)
    command = (sys.executable, "-u", str(SERVER), "mute")
    client = mcp_client.McpClient("test", McpServer(command=command, tools={"echo": "words"}, limit_s=0.3))
    said = await client.call(McpTool("test.echo", "test", "echo", "words"), "a")
    assert said == "error: the server test is away just now"  # said while the process is being killed
    await client.stop()
    assert [process.returncode for process in started] == [-signal.SIGKILL]


def test_arguments_are_one_text_or_a_json_object() -> None:
    one, many = McpTool("a.b", "a", "b", "city"), McpTool("a.b", "a", "b", "")
    assert arguments_of(one, "Paris") == {"city": "Paris"}
    assert arguments_of(many, '{"city": "Paris", "days": 2}') == {"city": "Paris", "days": 2}
    for text in ("Paris", "[1]", "", "[" * 100_000, "\ud800"):
        with pytest.raises(ValueError, match="JSON object"):
            arguments_of(many, text)


_WEATHERED = """
about = "With the weather."
prompt_set = "reasoner-v3"
[asks.whole]
form = "chain_of_thought"
tools = ["weather.forecast"]
"""


def test_a_file_names_servers_and_their_tools_can_be_granted_by_policies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "servers" / "servers.toml"
    path.parent.mkdir()
    path.write_text('[servers.weather]\ncommand = ["weather"]\n[servers.weather.tools]\nforecast = "city"\n')
    servers = read(path)
    assert [each.name for each in tools_of(servers)] == ["weather.forecast"]
    for name in list(TOOLS):
        monkeypatch.setitem(TOOLS, name, TOOLS[name])
    (tmp_path / "weathered.toml").write_text(_WEATHERED)
    monkeypatch.setenv("CONCLAVE_MCP_SERVERS", str(path))
    found, problems = load_policies(tmp_path)  # declares them, as the decomposer does
    assert [str(each) for each in problems if "weathered" in str(each)] == []
    assert found.find("weathered") is not None
    declare(servers)
    assert TOOLS.pop("weather.forecast")("Paris").startswith("error: ")
    assert read(None) == {}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("servers = ", "TOML"),
        ("", "servers"),
        ('[servers.a]\ncommand = []\ntools = { x = "" }', "length >= 1"),
        ('[servers.a]\ncommand = ["x"]\ntools = {}', "length >= 1"),
        ('[servers.a]\ncommand = ["x"]\ntools = { x = "" }\nlimit = 3', "limit"),
        ('[servers."A b"]\ncommand = ["x"]\ntools = { x = "" }', "regex"),
    ],
)
def test_a_wrong_file_is_refused_with_what_was_expected(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "servers.toml"
    path.write_text(text)
    with pytest.raises(Misconfigured, match=told):
        read(path)
    with pytest.raises(Misconfigured):
        read(tmp_path / "none.toml")
