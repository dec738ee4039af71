"""What a running service has learned of need: the last good content of a file, followed as it changes."""

import asyncio
from pathlib import Path

import structlog

from conclave.domain.complexity.needs import Needs, decoded
from conclave.file_states import LOOKED_AT_EVERY_S, FileState, states_of

_MAX_BYTES = 1_000_000
_EXPECTED = "a file that `conclave effort fit` has written"

log = structlog.get_logger(__name__)


class CurrentNeeds:
    """A file need not be there: nothing is learned until it is, and what was learned stays if it goes or is no good any more."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[FileState, ...] = ()
        self._refused = ""
        self.needs: Needs | None = None
        self.refresh()

    def status(self) -> dict[str, object]:
        """What /ready says: what is in use, and why a changed file is not."""
        told: dict[str, object] = {"effort": f"learned@{self.needs.digest}" if self.needs else "nothing is learned"}
        return told | ({"effort_refused": self._refused} if self._refused else {})

    async def follow(self) -> None:
        """Looks at the file every few seconds, for ever."""
        while True:
            await asyncio.sleep(LOOKED_AT_EVERY_S)
            await asyncio.to_thread(self.refresh)

    def refresh(self) -> None:
        """Takes over what has changed since; what is no good is refused, and said so."""
        seen = states_of([self._path.parent], self._path.name)
        if seen == self._seen:
            return
        self._seen = seen
        if not seen:
            return
        try:
            with self._path.open("rb") as file:
                content = file.read(_MAX_BYTES + 1)
            if len(content) > _MAX_BYTES:
                raise ValueError(f"more than {_MAX_BYTES:,} bytes")
            self.needs, self._refused = decoded(content), ""
        except (OSError, ValueError, RecursionError) as error:
            self._refused = f"{self._path}: expected {_EXPECTED}: {error}"[:500]
            log.error("effort_refused", problem=self._refused)
            return
        log.info("effort_loaded", digest=self.needs.digest, about=self.needs.about)
