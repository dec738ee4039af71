"""How a request is reasoned about: its plan, the verdicts on its steps, and the aggregator's carry."""

from typing import Annotated, ClassVar

from msgspec import Meta

from schemas.events.base import Event
from schemas.experiments import Assignment, ShadowOf
from schemas.ids import StepId, step_id
from schemas.values import (
    MAX_SAMPLES,
    MAX_SCHEMA_CHARS,
    MAX_STEPS,
    Ballot,
    Count,
    FieldVerdict,
    Fingerprint,
    Label,
    Name,
    Outcome,
    Policy,
    Probability,
    Question,
    SampleCount,
    ShortText,
    Step,
    StepIndex,
    TallyRow,
    TimestampMs,
    TokenLimit,
    Uuid7,
    Verdict,
)


class PlanMade(Event, frozen=True, kw_only=True):
    """How a request will be reasoned about: its policy, and the steps that its strategy asks first."""

    VERSION: ClassVar[int] = 2

    request_id: Uuid7
    question: Question
    arm: Name
    propensity: Annotated[float, Meta(gt=0.0, le=1.0)]  # probability with which this arm was picked
    policy: Policy
    steps: Annotated[tuple[Step, ...], Meta(min_length=1, max_length=MAX_STEPS)]
    deadline_ms: TimestampMs
    max_samples: SampleCount | None = None  # the request's own limit for the votes of its steps
    spent_ms: TimestampMs | None = (
        None  # when the seconds of the policy's budget are used up, where that is before the deadline
    )
    quality: Name | None = None  # the class by whose rule they end
    answer_schema: Annotated[str, Meta(max_length=MAX_SCHEMA_CHARS)] = ""  # that the answer has to fit, as accepted
    max_tokens: TokenLimit | None = None  # the request's own limit for all paths that are counted
    max_turn_tokens: TokenLimit | None = None  # its own for a turn of a path
    reasons: Annotated[dict[Label, Label], Meta(max_length=16)] = {}  # what spoke for this policy
    weights_version: Count | None = None  # of the weights that the arm was drawn by; 0: the shares at the beginning
    assignment: Assignment | None = None  # by which experiment, if any
    fingerprint: Fingerprint | None = None  # by which its answer is found again; None: it is not
    recalled_from: Uuid7 | None = None  # the request whose answer this one is given, its only step: no path is decoded
    priority: Name = "standard"  # of all its steps
    tenant: Label = ""
    purpose: Annotated[str, Meta(max_length=1024)] = ""  # what the policy's model is for: said where it declines
    shadow: ShadowOf | None = None  # of a copy that nobody waits for: what it is a copy of
    conversation: Label = ""  # of its steps: see StepContext

    @property
    def ends_ms(self) -> int:
        """When nothing more is asked: at the deadline, or when the seconds of the budget are used up."""
        return self.deadline_ms if self.spent_ms is None else min(self.deadline_ms, self.spent_ms)

    def __post_init__(self) -> None:
        _check_steps(self.steps, first=0, at="$.steps")


class StepDecided(Event, frozen=True, kw_only=True):
    """The verdict on a step: the answer that won, how clearly, and every ballot that was counted."""

    VERSION: ClassVar[int] = 2

    request_id: Uuid7
    step_index: StepIndex
    outcome: Outcome
    stop_reason: Name  # see StopReason; "recalled" where no path was decoded
    answer: ShortText | None  # None only with Outcome.NO_ANSWER
    confidence: Probability  # that the answer is right, by the rule that its ask names, and recalibrated
    margin: Probability  # share of the winner's weight minus the runner-up's
    agreement: Probability  # share of the winner's weight
    entropy: Annotated[float, Meta(ge=0.0)]  # of the answers' shares, in bits
    tally: Annotated[tuple[TallyRow, ...], Meta(max_length=MAX_SAMPLES)]  # heaviest first
    ballots: Annotated[tuple[Ballot, ...], Meta(max_length=MAX_SAMPLES)]  # in launch order, those counted
    launched: Annotated[int, Meta(ge=0, le=MAX_SAMPLES)]
    arm: Name
    policy: Name
    decided_ms: TimestampMs
    fields: Annotated[tuple[FieldVerdict, ...], Meta(max_length=64)] = ()  # of a structured answer


class ThoughtCarried(Event, frozen=True, kw_only=True):
    """The aggregator's carry: the plan, the steps added since, and the verdicts so far.

    Once `is_closed`, the request has ended, and it only absorbs verdicts that come late.
    """

    VERSION: ClassVar[int] = 2

    plan: PlanMade
    grown: Annotated[tuple[Step, ...], Meta(max_length=MAX_STEPS)]  # numbered on from the plan's
    verdicts: Annotated[tuple[Verdict, ...], Meta(max_length=MAX_STEPS)]
    is_closed: bool
    is_cancelled: bool = False
    # Steps whose call waited for somebody's yes, and does no more: it was said, or refused, or came too late.
    released: Annotated[tuple[StepIndex, ...], Meta(max_length=MAX_STEPS)] = ()

    @property
    def request_id(self) -> str:
        """The request that is thought about."""
        return self.plan.request_id

    @property
    def steps(self) -> tuple[Step, ...]:
        """All steps that were asked, by index."""
        return (*self.plan.steps, *self.grown)

    def __post_init__(self) -> None:
        _check_steps(self.grown, first=len(self.plan.steps), at="$.grown")
        asked = len(self.plan.steps) + len(self.grown)
        unknown = [verdict.step_index for verdict in self.verdicts if verdict.step_index >= asked]
        if unknown:
            raise ValueError(f"a verdict on a step that was never asked, got {unknown} of {asked} - at `$.verdicts`")


class StepClosed(Event, frozen=True, kw_only=True):
    """A step needs no more samples: every decoder cancels those it still runs."""

    VERSION: ClassVar[int] = 2

    request_id: Uuid7
    step_index: StepIndex

    @property
    def step_id(self) -> StepId:
        """The id of the closed step."""
        return step_id(self.request_id, self.step_index)


def _check_steps(steps: tuple[Step, ...], *, first: int, at: str) -> None:
    """Steps are numbered on, and lean on earlier ones only: no cycles, no self-references, no unknown steps."""
    for place, step in enumerate(steps):
        if step.index != first + place:
            raise ValueError(f"`index` must be {first + place}, got {step.index} - at `{at}[{place}].index`")
        unknown = [index for index in step.depends_on if index >= step.index]
        if unknown:
            raise ValueError(f"a step depends on earlier steps only, got {unknown} - at `{at}[{place}].depends_on`")
