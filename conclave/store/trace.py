"""What is read of the record to look at: a line a request, and all of one request as its story. Values only.

Texts in a story are cut (`MAX_SHOWN_CHARS`), so that no request, however long its paths, makes a page that no one can open;
each knows how long it was.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

MAX_SHOWN_CHARS = 4_000
MAX_SHOWN_PATHS = 400


class Vote(StrEnum):
    """What became of a sample, as a letter of a line's strip, in launch order."""

    WINNER = "w"  # counted for the answer
    OTHER = "o"  # counted for another one
    SILENT = "-"  # a path without an answer
    FAILED = "x"
    UNCOUNTED = "u"  # it came after the verdict, or the verdict is still to come


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestLine:
    """A request in a list. What is not known yet, or never will be as it failed, is None."""

    request_id: str
    asked_at: datetime
    question: str
    strategy: str | None
    policy: str | None
    arm: str | None
    outcome: str | None
    failure: str | None
    answer: str | None
    confidence: float | None
    margin: float | None
    agreement: float | None  # of the step whose answer it is
    answered_by: int | None
    num_paths: int | None
    tokens_in: int | None
    tokens_out: int | None
    elapsed_ms: float | None
    answered_at: datetime | None
    strip: str = ""  # a Vote for each ballot of the step whose answer it is
    reward: float | None = None  # the mean of what feedback says, where there is any
    tenant: str | None = None  # that asked it through a gateway's API

    @property
    def is_open(self) -> bool:
        """True while its end is not recorded."""
        return self.answered_at is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a request was to be reasoned about, and why."""

    planned_at: datetime
    strategy: str
    policy: str
    policy_digest: str
    arm: str
    propensity: float
    weights_version: int | None
    deadline_at: datetime
    reasons: Mapping[str, str]
    recalled_from: str | None = (
        None  # the request that was thought about, where this one was not: its answer was given again
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A turn of a path of several. `answer` is what was found in it; a tool's turn has `tool`."""

    step_index: int
    sample_index: int
    form: str | None
    tool: str | None
    text: str
    num_chars: int
    answer: str | None
    called: str | None
    argument: str | None
    tokens_out: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """A sample's end with its ballot."""

    step_index: int
    sample_index: int
    recorded_at: datetime
    failure: str | None
    answer: str | None  # as the path wrote it
    vote: str | None  # the tally's answer that it counts for
    weight: float | None
    is_counted: bool
    finish_reason: str | None
    tokens_in: int | None
    tokens_out: int | None
    mean_logprob: float | None
    probability: float | None  # that it is right, as the path itself states it
    queued_ms: float | None
    first_token_ms: float | None
    total_ms: float
    model: str | None
    engine: str | None
    text: str
    num_chars: int
    reasoning: str | None
    num_handed_on: int = 0  # from one decoder, or one chunk, to the next
    turns: tuple[Turn, ...] = ()

    def fate(self, winner: str | None) -> Vote:
        """What became of it, once `winner` is its step's answer."""
        if self.failure is not None:
            return Vote.FAILED
        if not self.is_counted:
            return Vote.UNCOUNTED
        if self.vote is None:
            return Vote.SILENT
        return Vote.WINNER if self.vote == winner else Vote.OTHER


@dataclass(frozen=True, slots=True, kw_only=True)
class TallyRow:
    """Votes for one answer."""

    answer: str
    votes: int
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldVote:
    """What the vote on one field of a structured answer came to. `tally` has values as JSON, the heaviest first."""

    name: str
    outcome: str
    confidence: float
    agreement: float
    tally: tuple[TallyRow, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A step with its verdict, where there is one, and its paths in launch order."""

    step_index: int
    ask: str
    mark: str
    depends_on: tuple[int, ...]
    question: str | None
    fields: Mapping[str, str]
    why: str
    outcome: str | None = None
    stop_reason: str | None = None
    answer: str | None = None
    confidence: float | None = None
    margin: float | None = None
    agreement: float | None = None
    entropy: float | None = None
    launched: int | None = None
    decided_at: datetime | None = None
    tally: tuple[TallyRow, ...] = ()
    field_votes: tuple[FieldVote, ...] = ()
    paths: tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        """Its mark, or its number."""
        return self.mark or f"step {self.step_index}"

    @property
    def is_decided(self) -> bool:
        """True once its verdict is recorded."""
        return self.decided_at is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """A piece of feedback; `is_latest`: no later one of its source."""

    given_at: datetime
    source: str
    reward: float | None
    right_answer: str | None
    comment: str | None
    is_latest: bool
    metric: str = "reward"
    step_index: int | None = None  # the step that it is about; None: the answer
    sample_index: int | None = None  # the path of that step


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """Everything recorded of a request that a page shows."""

    line: RequestLine
    question: str
    tags: Mapping[str, str]
    recorded_at: datetime | None
    max_samples: int | None
    deadline_s: float | None
    message: str | None  # why it failed
    plan: Plan | None
    steps: tuple[Step, ...]
    feedback: tuple[Feedback, ...] = ()
    num_paths_recorded: int = 0  # all of them, also those that are left out here
    policy: Mapping[str, Any] = field(default_factory=dict)  # the policy as it was

    def step(self, index: int | None) -> Step | None:
        """The step of that index."""
        return next((step for step in self.steps if step.step_index == index), None)

    def leant_on(self) -> frozenset[int]:
        """The steps that the answer leans on, itself among them; all of them while there is no answer."""
        if self.line.answered_by is None:
            return frozenset(step.step_index for step in self.steps)
        found: set[int] = set()
        waiting = [self.line.answered_by]
        while waiting:
            index = waiting.pop()
            step = self.step(index)
            if step is not None and index not in found:
                found.add(index)
                waiting += step.depends_on
        return frozenset(found)
