"""What is thought of answers, what follows from it, and what operators change."""

from typing import Annotated

from msgspec import Meta

from schemas.events.base import Event
from schemas.experiments import MAX_SEGMENTS, ArmState, Change, Experiment, Rater, SegmentWeights
from schemas.values import (
    Count,
    FiniteNumber,
    IdempotencyKey,
    Label,
    Name,
    PolicyFile,
    Probability,
    SampleIndex,
    Scale,
    ShortText,
    StepIndex,
    TimestampMs,
    Uuid7,
)

MAX_POLICY_FILES = 1000


class FeedbackGiven(Event, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What someone thinks of an answer, a step or a path: a judgement, a correction, or a comment.

    It is about the request's answer, or about what `step_index` and `sample_index` name. Whoever changes their mind
    publishes again: the latest of a source on one metric holds, and `supersedes` names the feedback that it replaces.
    """

    request_id: Uuid7
    reward: Annotated[Probability | None, Meta(description="1: right or helpful, 0: wrong or useless")] = None
    right_answer: Annotated[ShortText | None, Meta(description="what would have been right, or ideal")] = None
    comment: ShortText | None = None
    source: Label = "user"
    feedback_id: Annotated[
        IdempotencyKey | None,
        Meta(description="recognises feedback that is published twice; default: the CloudEvents id"),
    ] = None
    metric: Annotated[Name, Meta(description="what is judged or measured: reward, accepted, copied, retried, …")] = (
        "reward"
    )
    rater: Annotated[Rater, Meta(description="what kind of judge it is")] = Rater.USER
    step_index: Annotated[StepIndex | None, Meta(description="the step that it is about; default: the answer")] = None
    sample_index: Annotated[SampleIndex | None, Meta(description="the path of that step that it is about")] = None
    about_answer: Annotated[
        ShortText | None, Meta(description="the answer as it was shown, where it may not be the one recorded")
    ] = None
    rating: Annotated[FiniteNumber | None, Meta(description="a number, or a place on a scale of 1 to `scale`")] = None
    scale: Annotated[Scale | None, Meta(description="the best rating; the worst is 1")] = None
    chosen: Annotated[ShortText | None, Meta(description="of two answers, the better one")] = None
    rejected: Annotated[ShortText | None, Meta(description="of two answers, the other one")] = None
    supersedes: Annotated[
        IdempotencyKey | None, Meta(description="id of the feedback, of the same source, that this one replaces")
    ] = None
    is_withdrawn: Annotated[bool, Meta(description="what `supersedes` names is taken back")] = False

    def __post_init__(self) -> None:
        said = (self.reward, self.right_answer, self.comment, self.rating, self.chosen)
        if all(each is None for each in said) and not self.is_withdrawn:
            raise ValueError("`reward`, `right_answer`, `rating`, `chosen` or `comment` must be given - at `$.reward`")
        if self.sample_index is not None and self.step_index is None:
            raise ValueError("`step_index` must be given: a path is one of a step - at `$.step_index`")
        if self.scale is not None and (self.rating is None or not 1 <= self.rating <= self.scale):
            raise ValueError(f"`rating` must lie between 1 and {self.scale} - at `$.rating`")
        if (self.chosen is None) is not (self.rejected is None):
            raise ValueError("`chosen` and `rejected` must be given together - at `$.chosen`")
        if self.is_withdrawn and self.supersedes is None:
            raise ValueError("`supersedes` must say what is withdrawn - at `$.supersedes`")

    @property
    def worth(self) -> float | None:
        """The reward from 0 to 1: as it is given, or the place of the rating on its scale; None where neither is."""
        if self.reward is not None or self.rating is None or self.scale is None:
            return self.reward
        return (self.rating - 1) / (self.scale - 1)


class WeightsPublished(Event, frozen=True, kw_only=True):
    """What feedback has taught: how an experiment's traffic is shared among its arms, and all that this follows from.

    A version is a pure function of the version before, the definition of its revision, and what the record held at the
    watermark. Each holds the digest of the one before, so that none can be changed, left out or put in unseen.
    """

    experiment: Name
    version: Count
    allocation: Annotated[dict[Name, Probability], Meta(min_length=1, max_length=64)]
    revision: Count = 0
    reason: Name = "update"  # update, winner, guardrail, spent; of a shadow with checks also ramp, check
    winner: Name | None = None  # the arm that is known to be the best, for the rest of the run
    out: dict[Name, Label] = {}  # arms that broke a guardrail, for the rest of the run, and its metric
    salt: Label = ""  # of the draws that go by it
    states: dict[Name, ArmState] = {}  # by arm
    as_of_ms: TimestampMs = 0  # windows that had passed by then had passed
    watermark: dict[Label, Count] = {}  # topic/partition: how far the recorder had come
    previous_digest: Label = ""
    digest: Label = ""  # sha256 of all the rest
    spent_micro: Count = 0  # millionths of a dollar, by an experiment's shadow on the day of `as_of_ms`
    ramp_since: Count = 0  # the version at which the shadow became a ramp; 0: it has not, or there was none
    why: ShortText = ""  # of a version by which a shadow becomes a ramp, or either of them ends
    segments: Annotated[dict[Name, SegmentWeights], Meta(max_length=MAX_SEGMENTS)] = {}  # all else is about the rest
    segment_correlation: Probability = 0.0  # of outcomes of one segment: 0 borrows all of the others, 1 nothing

    def __post_init__(self) -> None:
        if abs(sum(self.allocation.values()) - 1.0) > 1e-6:
            raise ValueError("`allocation` must add up to 1 - at `$.allocation`")


class PoliciesRead(Event, frozen=True, kw_only=True):
    """Which policies a decomposer goes by from now on: told at its start, and when its files have changed."""

    instance: Annotated[Label, Meta(min_length=1, description="the decomposer")]
    read_ms: TimestampMs
    policies: Annotated[tuple[PolicyFile, ...], Meta(max_length=MAX_POLICY_FILES)]


class ExperimentChanged(Event, frozen=True, kw_only=True):
    """What was done to an experiment, by whom and why. The newest revision holds; its definition travels with it."""

    experiment: Name
    revision: Annotated[int, Meta(ge=1, le=2**53)]
    change: Change
    definition: Experiment
    by: Label
    why: ShortText
    changed_ms: TimestampMs
    arm: Name | None = None  # that all traffic goes to, for a promotion

    def __post_init__(self) -> None:
        if self.definition.name != self.experiment:
            raise ValueError("`definition` is of another experiment - at `$.definition.name`")
        if (self.change is Change.PROMOTE) is not (self.arm is not None):
            raise ValueError("`arm` must be given for a promotion, and for nothing else - at `$.arm`")
        if self.arm is not None and self.arm not in self.definition.arms:
            raise ValueError(f"`arm` must be one of the arms, got {self.arm} - at `$.arm`")
