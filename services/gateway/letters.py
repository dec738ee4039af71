"""Dead letters for the pages: looked at in the log, and given another try under somebody's name."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from conclave.domain.redaction import Mask
from conclave.errors import LostDependency
from conclave.runtime import dead_letters, letter_log
from conclave.runtime.brokers import Brokers
from conclave.runtime.dead_letters import DeadLetter, LetterPlace
from conclave.store.letter_replays import NOT_REPLAYED, LetterReplays, Replay
from services.gateway.publishing import LogWriter


@dataclass(frozen=True, slots=True)
class Letters:
    """What `conclave dead-letters` does, for whoever has the pages before them. Every method raises LostDependency."""

    brokers: Brokers | str
    writer: LogWriter
    noted: LetterReplays
    mask: Mask

    async def latest(self, limit: int) -> Sequence[DeadLetter]:
        """The latest of all topics, oldest first."""
        return await letter_log.latest(self.brokers, limit=limit)

    async def find(self, letter_id: str) -> DeadLetter | None:
        """The dead letter of that id; None where there is none, or none any more. Raises: Rejected for what is no id."""
        return await letter_log.find(self.brokers, LetterPlace.parsed(letter_id))

    async def replays(self, letter_ids: Sequence[str]) -> Mapping[str, Replay]:
        """Who gave them their latest try from here."""
        return await self.noted.latest(letter_ids)

    async def replay(self, letter: DeadLetter, *, token: str, actor: str) -> None:
        """Publishes it to its source topic as it was received, marked with a fresh `token`.

        1. It is written down who does so: nothing is tried that nobody knows of.
        2. It is published. Where the log does not take it, that is written down as well.
        Raises: Rejected for a letter that lacks a part of its record.
        """
        output = dead_letters.replay(letter, token)
        await self.noted.note(letter.id, actor=actor, reason=letter.reason)  # 1
        try:
            await self.writer.publish_raw(output)  # 2
        except LostDependency:
            with suppress(LostDependency):
                await self.noted.note(letter.id, actor=actor, reason=letter.reason, action=NOT_REPLAYED)
            raise
