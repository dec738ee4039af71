"""Tools of MCP servers that an operator lists in a file: a process that is spoken to over its standard input and output, or a URL.

    [servers.weather]
    command = ["python", "-m", "weather_server"]
    env = { WEATHER_KEY = { env = "OUR_WEATHER_KEY" } }    # besides PATH, HOME and LANG; nothing else of the decoder's is handed on
    limit_s = 5.0                         # of a call
    max_answer_chars = 2000

    [servers.weather.tools]
    forecast = "city"                     # the tool's one argument; "": a path writes all arguments as a JSON object

    [servers.search]                      # MCP's streamable HTTP
    url = "https://tools.example.org/mcp"
    headers = { Authorization = { before = "Bearer ", file = "/run/secrets/search-key" } }

    [servers.mail]
    command = ["mail-server"]
    effects = true                        # no path calls it: the service `tools` does, each call once
    needs_approval = true                 # and not without somebody's yes
    key_argument = "idempotency_key"      # where it takes the key of a call, and has a second call with it do nothing

A path calls a tool as `weather.forecast`, and a policy grants it by that name. A path may be decoded again, and then calls again: a
server whose calls have an effect, run code or reach a network is listed with `effects`, and a strategy's step calls it. A server is
started, or a session with it opened, at its first call, and again at a later one if it has died. A secret stands in the environment
or in a file of its own, and is read at each such start.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from conclave.errors import Misconfigured, WrongSetting
from conclave.toml_files import table_in
from conclave.tools import TOOLS, WITH_EFFECTS
from conclave.tools.remote import elsewhere
from schemas.values import Name

_MAX_VALUE_CHARS = 8_192
_Text = Annotated[str, Meta(min_length=1, max_length=4_096)]
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_OF_THE_PROTOCOL = frozenset(
    {"accept", "accept-encoding", "connection", "content-length", "content-type", "host", "transfer-encoding"}
    | {"last-event-id", "mcp-protocol-version", "mcp-session-id"}
)
_SECRET_HEADERS = frozenset(("authorization", "cookie", "proxy-authorization", "x-api-key"))


class Secret(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A value that stands elsewhere: in a variable of the environment, or in a file; `before` it comes what is no secret."""

    env: Annotated[str, Meta(max_length=256)] = ""
    file: Annotated[str, Meta(max_length=4_096)] = ""
    before: Annotated[str, Meta(max_length=64)] = ""

    def __post_init__(self) -> None:
        if bool(self.env) == bool(self.file):
            raise ValueError("a value from elsewhere has either `env` or `file`")

    def read(self) -> str:
        """The value. Raises: Misconfigured, which tells where it was looked for, and nothing of it."""
        try:
            found = (os.environ[self.env] if self.env else _start_of(Path(self.file))).strip()
        except (KeyError, OSError, ValueError):
            found = ""
        if not 0 < len(found) <= _MAX_VALUE_CHARS or not found.isprintable() or not found.isascii():
            expected = f"printable ASCII, at most {_MAX_VALUE_CHARS:,} characters, that an MCP server is told"
            raise Misconfigured([WrongSetting(self.env or self.file, expected, None)])
        return self.before + found


def _start_of(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(2 * _MAX_VALUE_CHARS).decode()


Values = dict[str, str | Secret]


class McpServer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A server as the file has it: a process, or where it is served over HTTP."""

    tools: Annotated[dict[Name, Annotated[str, Meta(max_length=64)]], Meta(min_length=1, max_length=64)]
    command: Annotated[tuple[_Text, ...], Meta(min_length=1, max_length=64)] = ()
    env: Values = {}
    url: Annotated[str, Meta(min_length=1, max_length=4_096)] = ""
    headers: Annotated[Values, Meta(max_length=32)] = {}
    limit_s: Annotated[float, Meta(gt=0.0, le=60.0)] = 5.0
    max_answer_chars: Annotated[int, Meta(ge=1, le=4_000)] = 2_000
    effects: bool = False
    needs_approval: bool = False
    key_argument: Annotated[str, Meta(max_length=64)] = ""

    def __post_init__(self) -> None:
        if not self.effects and (self.needs_approval or self.key_argument):
            raise ValueError("`needs_approval` and `key_argument` are of a server with `effects = true`")
        if bool(self.command) == bool(self.url):
            raise ValueError("a server has either a `command` or a `url`")
        if (self.headers and not self.url) or (self.env and not self.command):
            raise ValueError("`env` is of a server with a `command`, and `headers` of one with a `url`")
        if self.url:
            _check_url(self.url)
        for problem in _unfit(self.headers):
            raise ValueError(problem)


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.fragment or not url.isprintable():
        raise ValueError("`url` is expected as https://host/path or http://host/path")
    if parts.username is not None or parts.password is not None:
        raise ValueError("`url` has no user and no password: they belong in `headers`, from the environment or a file")
    _ = parts.port  # a ValueError of its own


def _unfit(headers: Mapping[str, str | Secret]) -> Iterator[str]:
    for name, value in headers.items():
        if not _HEADER.fullmatch(name) or name.lower() in _OF_THE_PROTOCOL:
            yield f"`headers` can't have {name[:64]!r}"
        elif isinstance(value, str) and name.lower() in _SECRET_HEADERS:
            yield f'the header {name} is a secret: {{ env = "…" }} or {{ file = "…" }} says where it stands'
        elif isinstance(value, str) and not (value.isascii() and value.isprintable()):
            yield f"the header {name} is expected in printable ASCII"


def values_of(values: Mapping[str, str | Secret]) -> dict[str, str]:
    """Environment or headers as a server is given them. Raises: Misconfigured for one that is not to be had."""
    return {name: value.read() if isinstance(value, Secret) else value for name, value in values.items()}


def check_values(servers: Mapping[str, "McpServer"]) -> None:
    """Raises: Misconfigured, with every value from elsewhere that is not to be had now."""
    missing: list[WrongSetting] = []
    for server in servers.values():
        for value in (*server.env.values(), *server.headers.values()):
            try:
                if isinstance(value, Secret):
                    value.read()
            except Misconfigured as error:
                missing += error.settings
    if missing:
        raise Misconfigured(missing)


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
        servers = msgspec.convert(table_in(path), _File).servers
    except (OSError, ValueError) as error:
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
