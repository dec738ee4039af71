"""Tools that ask someone else: a database, a server of an operator's. Each call is waited for within a limit of its own."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

Asked = Callable[[str], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class RemoteTool:
    """What answers a call, on the event loop. What it raises, or takes longer than `limit_s` for, is an observation."""

    ask: Asked
    limit_s: float = 3.0
    max_answer_chars: int = 4_000


def elsewhere(argument: str) -> str:
    """What a tool says where nothing is bound to its name: it is known, and not answered in this process."""
    return "error: this tool is not provided here"
