"""Finished reasoning used again: what is remembered of a question, whether it may be given, and the events that give it.

Read `fingerprints.py` for when two questions are the same, `freshness.py` for how long an answer holds, `front.py` for what a
process keeps of its own. Asking the record is a port, `Memory`: what it does not know, or not in time, is thought about.
"""

from dataclasses import dataclass
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from conclave.domain.recall.fingerprints import fingerprint, gist, normal_form
from schemas.events import PlanMade, StepDecided
from schemas.values import (
    RECALLED,
    Fingerprint,
    Outcome,
    Probability,
    ShortText,
    Step,
    TallyRow,
    TimestampMs,
    Uuid7,
)

__all__ = [
    "Memory",
    "Remembered",
    "Wanted",
    "fingerprint",
    "gist",
    "is_worth_giving",
    "normal_form",
    "recalled",
]

MIN_CONFIDENCE = 0.5  # an answer that is more likely wrong than right is thought about again


class Remembered(Struct, frozen=True, kw_only=True):
    """An answer that was reached, with what it cost and what people think of it."""

    request_id: Uuid7  # that was thought about
    key: str  # of its fingerprint: of two keys, the questions are worded otherwise
    answer: ShortText
    outcome: Outcome
    confidence: Probability
    margin: Probability
    agreement: Probability
    entropy: float
    tally: tuple[TallyRow, ...] = ()
    tokens_out: int = 0
    answered_ms: TimestampMs
    liking: Probability | None = None  # the mean of what the latest feedback of each source says; None: nobody said
    is_disliked: bool = False  # one of them says that it is wrong, of this answer or of one that was recalled from it

    @property
    def num_bytes(self) -> int:
        """About what it takes in memory."""
        return 512 + 4 * len(self.answer) + sum(128 + 4 * len(row.answer) for row in self.tally)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A question whose answer is looked for, and how old that may be."""

    fingerprint: Fingerprint
    max_age_s: float
    at: str  # where its request lies in the log: read again, it is the same
    deadline_s: float  # until the request's end
    is_worded_alike: bool = True  # only the same wording will do; else the same gist

    @property
    def key(self) -> str:
        """What it is looked for under."""
        return self.fingerprint.key if self.is_worded_alike else self.fingerprint.gist


class Memory(Protocol):
    """What may be remembered."""

    async def recall(self, wanted: Wanted, now_ms: int) -> Remembered | None:
        """The newest answer that may be given; None when there is none, or nobody knows in time. It never fails."""
        ...

    def status(self) -> dict[str, object]:
        """What a service says of it on /ready."""
        ...


def is_worth_giving(found: Remembered, wanted: Wanted, now_ms: int) -> bool:
    """True for a clear answer, young enough, that nobody calls wrong."""
    age_s = (now_ms - found.answered_ms) / 1000
    is_clear = found.outcome is Outcome.MAJORITY and found.confidence >= MIN_CONFIDENCE
    return is_clear and age_s < wanted.max_age_s and not found.is_disliked


def recalled(plan: PlanMade, found: Remembered, now_ms: int) -> tuple[PlanMade, StepDecided]:
    """The plan of a request that is given a remembered answer, and the verdict on its only step: nothing is launched."""
    age_s = max(0.0, (now_ms - found.answered_ms) / 1000)
    is_alike = plan.fingerprint is not None and plan.fingerprint.key == found.key
    how = "the same question" if is_alike else "the same question in other words"
    step = Step(
        index=0,
        ask="whole" if "whole" in plan.policy.asks else next(iter(plan.policy.asks)),
        fields={"question": plan.question},
        mark="recalled",
        why=f"{how}, answered {age_s:.0f} s before: {found.request_id}",
    )
    given = replace(plan, steps=(step,), fingerprint=None, recalled_from=found.request_id)
    return given, StepDecided(
        request_id=plan.request_id,
        step_index=0,
        outcome=found.outcome,
        stop_reason=RECALLED,
        answer=found.answer,
        confidence=found.confidence,
        margin=found.margin,
        agreement=found.agreement,
        entropy=found.entropy,
        tally=found.tally,
        ballots=(),
        launched=0,
        arm=plan.arm,
        policy=plan.policy.name,
        decided_ms=now_ms,
    )
