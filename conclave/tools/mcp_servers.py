"""Tools of MCP servers that an operator lists in a file: each a process that is spoken to over its standard input and output.

    [servers.weather]
    command = ["python", "-m", "weather_server"]
    env = { WEATHER_KEY = "…" }           # besides PATH and HOME; nothing else of the decoder's is handed on
    limit_s = 5.0                         # of a call
    max_answer_chars = 2000

    [servers.weather.tools]
    forecast = "city"                     # the tool's one argument; "": a path writes all arguments as a JSON object

    [servers.mail]
    command = ["mail-server"]
    effects = true                        # no path calls it: the service `tools` does, each call once
    needs_approval = true                 # and not without somebody's yes
    key_argument = "idempotency_key"      # where it takes the key of a call, and has a second call with it do nothing

A path calls a tool as `weather.forecast`, and a policy grants it by that name. A path may be decoded again, and then calls again: a
server whose calls have an effect, run code or reach a network is listed with `effects`, and a strategy's step calls it. A server is
started at its first call, and again at a later one if it has died.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from conclave.errors import Misconfigured, WrongSetting
from conclave.tools import TOOLS, WITH_EFFECTS
from conclave.tools.remote import elsewhere
from schemas.values import Name

_MAX_FILE_BYTES = 1_000_000
_Text = Annotated[str, Meta(min_length=1, max_length=4_096)]


class McpServer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A server as the file has it."""

    command: Annotated[tuple[_Text, ...], Meta(min_length=1, max_length=64)]
    tools: Annotated[dict[Name, Annotated[str, Meta(max_length=64)]], Meta(min_length=1, max_length=64)]
    env: dict[str, str] = {}
    limit_s: Annotated[float, Meta(gt=0.0, le=60.0)] = 5.0
    max_answer_chars: Annotated[int, Meta(ge=1, le=4_000)] = 2_000
    effects: bool = False
    needs_approval: bool = False
    key_argument: Annotated[str, Meta(max_length=64)] = ""

    def __post_init__(self) -> None:
        if not self.effects and (self.needs_approval or self.key_argument):
            raise ValueError("`needs_approval` and `key_argument` are of a server with `effects = true`")


class _File(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    servers: dict[Name, McpServer]


@dataclass(frozen=True, slots=True)
class McpTool:
    """A tool of a server: the name that paths call it by, and the server's own."""

    name: str
    server: str
    tool: str
    argument: str


def read(path: Path | None) -> dict[str, McpServer]:
    """The servers of a file, by name; none without a file. Raises: Misconfigured, with what is wrong with it."""
    if path is None:
        return {}
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
        if len(content) > _MAX_FILE_BYTES:
            raise ValueError(f"more than {_MAX_FILE_BYTES:,} bytes")
        servers = msgspec.convert(tomllib.loads(content.decode()), _File).servers
    except (OSError, ValueError, tomllib.TOMLDecodeError, RecursionError) as error:
        expected = "a file of MCP servers, tables [servers.<name>] in TOML"
        raise Misconfigured([WrongSetting(str(path), expected, str(error)[:300])]) from None
    too_long = [each.name for each in tools_of(servers) if len(each.name) > 64]
    if too_long:
        raise Misconfigured([WrongSetting(str(path), "at most 64 characters in server.tool", too_long[0])])
    return servers


def tools_of(servers: dict[str, McpServer]) -> list[McpTool]:
    """All tools of all servers."""
    return [
        McpTool(f"{name}.{tool}", name, tool, argument)
        for name, server in servers.items()
        for tool, argument in server.tools.items()
    ]


def declare(servers: dict[str, McpServer]) -> None:
    """Adds their names to `TOOLS`, and of those with an effect to `WITH_EFFECTS`, so that policies and prompt sets may grant them;
    who answers them is the affair of the decoder, or of the service `tools`."""
    for each in tools_of(servers):
        TOOLS.setdefault(each.name, elsewhere)
        if servers[each.server].effects:
            WITH_EFFECTS[each.name] = servers[each.server].needs_approval


def with_effects(servers: dict[str, McpServer]) -> dict[str, McpServer]:
    """The servers whose tools no path may call."""
    return {name: server for name, server in servers.items() if server.effects}


def arguments_of(tool: McpTool, text: str) -> dict[str, Any]:
    """What a path wrote as the tool's arguments. Raises: ValueError that says what was expected."""
    if tool.argument:
        return {tool.argument: text}
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        found = None
    if not isinstance(found, dict):
        raise ValueError('arguments are expected as a JSON object, such as {"city": "Paris"}')
    return found
