"""Dead letters in memory, as the gateway's pages have them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from conclave.domain.redaction import masker
from conclave.errors import LostDependency
from conclave.runtime import dead_letters
from conclave.runtime.dead_letters import DeadLetter, LetterPlace
from conclave.runtime.record import Output
from conclave.store.letter_replays import REPLAYED, Replay

_MASK = masker()


def letter(offset: int, value: bytes | None = b"{}", **headers: str) -> DeadLetter:
    """A dead letter of the topic of paths."""
    told = {"reason": "schema", "field": "$.answer", "error": "expected a string", "service": "voter", **headers}
    return DeadLetter(
        id=f"reasoning.paths.dead-letters/0/{offset}",
        source_topic="reasoning.paths",
        reason=told["reason"],
        field=told["field"],
        error=told["error"],
        key=b"key",
        value=value,
        headers=tuple((f"conclave-{name.replace('_', '-')}", text.encode()) for name, text in told.items()),
        recorded_ms=1_795_470_000_000 + offset,
        service=told["service"],
    )


@dataclass
class MemoryLetters:
    """Those letters; what is replayed is kept."""

    letters: list[DeadLetter]
    replayed: list[tuple[str, Output, str]] = field(default_factory=list)
    is_away: bool = False
    takes_nothing: bool = False

    @staticmethod
    def mask(text: str) -> str:
        """As the gateway masks."""
        return _MASK(text)

    def _check(self) -> None:
        if self.is_away:
            raise LostDependency("kafka", "it is away")

    async def latest(self, limit: int) -> Sequence[DeadLetter]:
        """The last of them."""
        self._check()
        return self.letters[-limit:]

    async def find(self, letter_id: str) -> DeadLetter | None:
        """That one."""
        LetterPlace.parsed(letter_id)
        self._check()
        return next((each for each in self.letters if each.id == letter_id), None)

    async def replays(self, letter_ids: Sequence[str]) -> Mapping[str, Replay]:
        """By whom, an hour into their day."""
        at = datetime(2026, 11, 24, 1, tzinfo=UTC)
        by = {letter_id: actor for letter_id, _, actor in self.replayed}
        return {each: Replay(at, by[each], REPLAYED) for each in letter_ids if each in by}

    async def replay(self, letter: DeadLetter, *, token: str, actor: str) -> None:
        """Takes it, unless nothing is taken."""
        output = dead_letters.replay(letter, token)
        if self.takes_nothing:
            raise LostDependency("kafka", "TopicAuthorizationFailedError")
        self.replayed.append((letter.id, output, actor))
