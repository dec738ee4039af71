"""The prompt sets of a running service: checked at start, followed as their files change, never replaced by wrong ones."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import structlog

from conclave import prompts
from conclave.errors import Misconfigured, WrongSetting
from conclave.file_states import LOOKED_AT_EVERY_S, FileState, states_of
from conclave.prompts.forms import PromptSet

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """What lies in the files now: the sets, or what is wrong with them."""

    states: tuple[FileState, ...]
    sets: Mapping[str, PromptSet]
    problems: Sequence[WrongSetting] = ()


class CurrentPrompts:
    """The last good sets: those that ship, and those of an operator's folder."""

    def __init__(self, folder: Path | None, *, tools: Collection[str]) -> None:
        """Raises: Misconfigured, listing everything that is wrong with any file."""
        self._folder, self._tools = folder, tools
        found = self.look()
        if found.problems:
            raise Misconfigured(found.problems)
        self._found = self._seen = found
        self._gone: dict[str, PromptSet] = {}
        self._looking = Lock()

    @property
    def sets(self) -> Mapping[str, PromptSet]:
        """By name."""
        return self._found.sets

    def find(self, name: str) -> PromptSet:
        """A set that is there, or was: paths under way may still ask by it. Raises: UnknownPrompt."""
        return self._gone[name] if name in self._gone else prompts.load(name, self.sets)

    def states(self) -> tuple[FileState, ...]:
        """What changes whenever a file of a set does."""
        return () if self._folder is None else states_of([self._folder], "*.toml")

    def look(self) -> Found:
        """What lies in the files now; nothing is taken over by it."""
        states = self.states()
        try:
            return Found(states, prompts.available(self._folder, tools=self._tools))
        except Misconfigured as wrong:
            return Found(states, {}, wrong.settings)

    def take(self, found: Found) -> None:
        """Goes by what was found, which has no problems."""
        self._gone = {name: each for name, each in {**self._gone, **self.sets}.items() if name not in found.sets}
        self._found = self._seen = found

    def status(self) -> dict[str, object]:
        """What /ready says: how many sets are in use, and why changed files are not."""
        refused: dict[str, object] = {"prompt_sets_refused": _told(self._seen.problems)} if self._seen.problems else {}
        return {"prompt_sets": len(self.sets)} | refused

    async def follow(self) -> None:
        """Looks at the files every few seconds, for ever."""
        while True:
            await asyncio.sleep(LOOKED_AT_EVERY_S)
            await asyncio.to_thread(self.refresh)

    def refresh(self) -> None:
        """Takes over what has changed since; sets with anything wrong are refused as a whole, and said so. From any thread."""
        with self._looking:
            if self.states() == self._seen.states:
                return
            self._seen = found = self.look()
            if found.problems:
                log.error("prompt_sets_refused", problems=_told(found.problems), kept=len(self.sets))
                return
            self.take(found)
            log.info("prompt_sets_loaded", prompt_sets=len(found.sets))


def _told(problems: Sequence[WrongSetting]) -> list[str]:
    return [f"{each.name}: expected {each.expected}, got {each.got}" for each in problems]
