"""The errors of Conclave, one root. The type says what to do; the fields say what happened.

ConclaveError
├── Retryable         the same again may succeed: tried again with backoff, then given up
├── Rejected          the input is at fault and will stay so: given up at once, naming the field
│   └── Unbegun       what it belongs to has no beginning: given up once none can be under way any more
├── LostDependency    broker, database or engine is away: waited for, never charged to a message
├── PutBack           it will not be done here: its offset stays open, and whoever opens it next does it
├── Fenced            another owner has taken over a partition: drop the work, it is theirs now
└── Misconfigured     settings, all wrong ones at once: the process ends with a message for its operator
"""

from collections.abc import Sequence
from dataclasses import dataclass


class ConclaveError(Exception):
    """Root of all errors that Conclave raises on purpose."""


@dataclass(eq=False)
class Retryable(ConclaveError):
    """A failure that may pass by itself. `what` failed and `why`."""

    what: str
    why: str

    def __str__(self) -> str:
        return f"{self.what}: {self.why}"


@dataclass(eq=False)
class Rejected(ConclaveError):
    """An event that is well formed and still impossible."""

    field: str  # a JSON path such as $.policy
    expected: str
    got: str

    def __str__(self) -> str:
        return f"{self.field}: expected {self.expected}, got {self.got[:200]!r}"


@dataclass(eq=False)
class Unbegun(Rejected):
    """Events whose group lacks its beginning, and for too long. On a re-read it may only lie further on in the log."""


@dataclass(eq=False)
class LostDependency(ConclaveError):
    """Something that Conclave stands on is away: `dependency` is "kafka", "postgres" or "engine"."""

    dependency: str
    why: str

    def __str__(self) -> str:
        return f"{self.dependency} is away: {self.why}"


@dataclass(eq=False)
class Fenced(ConclaveError):
    """This process no longer owns `partition`: what it still runs for it must have no effect."""

    partition: str

    def __str__(self) -> str:
        return f"{self.partition} has another owner"


class PutBack(ConclaveError):
    """Work that this process does not do, as it ends: neither done nor given up, and another takes it."""

    def __str__(self) -> str:
        return "put back: another process does it"


@dataclass(frozen=True, slots=True)
class WrongSetting:
    """One setting that is missing or wrong."""

    name: str
    expected: str
    got: str | None


@dataclass(eq=False)
class Misconfigured(ConclaveError):
    """All settings that are missing or wrong, together."""

    settings: Sequence[WrongSetting]

    def __str__(self) -> str:
        lines = (
            f"  {s.name}: expected {s.expected}, got {'nothing' if s.got is None else repr(s.got)}"
            for s in self.settings
        )
        return "these settings need a look:\n" + "\n".join(lines)
