"""Experiments as values: what is compared, on whom, and by what. They travel whole in the event that starts them."""

from enum import StrEnum
from itertools import pairwise
from typing import Annotated

from msgspec import Meta, Struct

from schemas.values import Count, Label, Name, PolicyReference, Price, Probability, Uuid7

MAX_ARMS = 16
SHADOW = "shadow"  # the arm of copies that are answered unseen, in plans and answers
HOLDOUT = "holdout"  # the arm of units that are kept out: the control's policy, and never part of what is learned
MAX_RAMP = 16
MIN_RAMP_STEP = 0.005
MAX_SEGMENTS = 16
MAX_SEGMENT_SHARES = 64  # arms times segments: what one version of the weights has room for
REQUEST = "request"  # the unit of experiments that are not about people

Positive = Annotated[float, Meta(gt=0.0)]
Share = Annotated[float, Meta(gt=0.0, le=1.0)]
Risk = Annotated[float, Meta(gt=0.0, lt=0.5)]


class Mode(StrEnum):
    """How an experiment shares out its traffic."""

    FIXED = "fixed"  # the shares that it began with
    BEST_ARM = "best_arm"  # to find the best arm soon: top-two probability sampling
    REGRET = "regret"  # to lose little meanwhile: by each arm's probability of being the best


class Rater(StrEnum):
    """What kind of judge gives feedback."""

    USER = "user"
    EXPERT = "expert"
    MODEL = "model"
    PROGRAM = "program"


class Change(StrEnum):
    """What was done to an experiment."""

    START = "start"  # also with another definition: the run before is over
    STOP = "stop"  # no more assignments; feedback on those made still counts
    KILL = "kill"  # the same, because it does harm
    PROMOTE = "promote"  # all its traffic goes to one arm


class Metric(Struct, frozen=True, kw_only=True):
    """What is measured of a unit, from 0 to 1: feedback of this name, or a figure of the answer.

    `answered` is 1 for a request with an answer; `within_ms` is 1 for an answer within `limit` milliseconds, `within_tokens` for
    one of `limit` tokens at most; `confidence` is that of the answer, 0 without one. Of a shadow, `same_answer` is 1 where it says
    what was served.
    """

    name: Name = "reward"
    raters: Annotated[tuple[Rater, ...], Meta(max_length=8)] = ()  # whose feedback counts; () is everyone's
    missing: Annotated[
        Probability | None, Meta(description="what silence is worth once the window has passed; default: unknown")
    ] = None
    limit: Annotated[Positive | None, Meta(description="of within_ms, in milliseconds; of within_tokens, tokens")] = (
        None
    )


class Guardrail(Struct, frozen=True, kw_only=True):
    """What must not get worse. An arm that breaks it, by an always-valid test, gives its traffic back to the control."""

    metric: Metric
    at_least: Probability | None = None
    max_drop: Annotated[Probability | None, Meta(description="below the control's")] = None
    risk: Annotated[Risk, Meta(description="of an alarm on an arm that keeps to it, however often it is looked at")] = (
        0.01
    )

    def __post_init__(self) -> None:
        if (self.at_least is None) is (self.max_drop is None):
            raise ValueError("either `at_least` or `max_drop` must be given - at `$.at_least`")


class Arm(Struct, frozen=True, kw_only=True):
    """One of the policies that are compared."""

    policy: PolicyReference
    policy_digest: Label = ""  # of the policy as it was when the experiment began: another one is not served
    share: Annotated[Share | None, Meta(description="at the beginning; all arms or none say it")] = None


class Shadow(Struct, frozen=True, kw_only=True):
    """How often the arm that is not the control answers too, unseen: a copy of the request that nobody waits for."""

    share: Annotated[Share, Meta(description="of the requests that take part")]
    max_dollars_per_day: Annotated[Positive, Meta(description="of all copies, by when they are answered (UTC)")]
    price: Price = Price()  # the dearest of the arm's policy: filled in when the experiment begins
    checks: Annotated[
        tuple[Guardrail, ...],
        Meta(
            max_length=8, description="once all are known to hold, the ramp begins; one that is known to break ends it"
        ),
    ] = ()


class ShadowOf(Struct, frozen=True, kw_only=True):
    """What a copy is a copy of: the request that somebody waits for, and the experiment that wants to see both answers."""

    request_id: Uuid7
    experiment: Name


class Experiment(Struct, frozen=True, kw_only=True):
    """A comparison of policies: arms, unit, goal, and the bounds within which traffic moves."""

    name: Name
    digest: Label = ""  # of all the rest
    arms: Annotated[dict[Name, Arm], Meta(min_length=2, max_length=MAX_ARMS)]
    control: Name
    mode: Mode = Mode.FIXED
    unit: Annotated[
        Label, Meta(min_length=1, description="`request`, or the tag that names who is assigned: user, session, …")
    ] = REQUEST
    only_tags: Annotated[dict[Label, Label], Meta(max_length=16)] = {}  # of the requests that take part
    goal: Metric = Metric()
    guardrails: Annotated[tuple[Guardrail, ...], Meta(max_length=8)] = ()
    window_s: Annotated[float, Meta(gt=0.0, le=90 * 86_400.0, description="in which feedback counts")] = 86_400.0
    holdout: Annotated[float, Meta(ge=0.0, lt=1.0, description="share of units that are kept out")] = 0.0
    floor: Annotated[float, Meta(ge=0.0, le=0.5, description="least share of an arm")] = 0.05
    max_change: Annotated[Share, Meta(description="of a share, from one version of the weights to the next")] = 0.2
    discount: Annotated[Share, Meta(description="what evidence is worth a period later")] = 1.0
    period_s: Annotated[float, Meta(ge=1.0, le=90 * 86_400.0)] = 86_400.0
    min_observations: Annotated[Count, Meta(description="of each arm, before shares move")] = 20
    risk: Annotated[Risk, Meta(description="of naming an arm the best that is not")] = 0.05
    salt: Label = ""  # "" is the name: another salt draws anew
    ramp: Annotated[
        tuple[Share, ...],
        Meta(max_length=MAX_RAMP, description="shares of the arm that is not the control, one after the other"),
    ] = ()
    ramp_hold_s: Annotated[float, Meta(gt=0.0, le=90 * 86_400.0, description="that each share holds, at least")] = (
        3600.0
    )
    shadow: Annotated[Shadow | None, Meta(description="the arm that is not the control serves nobody")] = None
    segment_by: Annotated[
        Label, Meta(description='the tag whose values, such as types of task, have shares of their own; "" is none')
    ] = ""
    max_segments: Annotated[
        int, Meta(ge=1, le=MAX_SEGMENTS, description="that have them; of others it is the rest")
    ] = 8

    def __post_init__(self) -> None:
        if self.control not in self.arms:
            raise ValueError(f"`control` must be one of the arms, got {self.control} - at `$.control`")
        if HOLDOUT in self.arms:
            raise ValueError("`holdout` is the name of the share that is kept out - at `$.arms`")
        shares = [arm.share for arm in self.arms.values()]
        given = [share for share in shares if share is not None]
        if given and (len(given) != len(shares) or abs(sum(given) - 1.0) > 1e-6):
            raise ValueError("the `share` of all arms, or of none, must be given, and add up to 1 - at `$.arms`")
        if self.floor * len(self.arms) > 1.0 or any(share < self.floor for share in given):
            raise ValueError(f"`floor` {self.floor:g} is more than an arm can have - at `$.floor`")
        if self.ramp:
            self._check_ramp(bool(given))
        if self.shadow is not None and (given or not self._is_plain):
            raise ValueError("`shadow` is for two arms in mode fixed, without shares and `holdout` - at `$.shadow`")
        if self.shadow is not None and self.ramp and not self.shadow.checks:
            raise ValueError("`shadow.checks` say when the `ramp` begins: one at least - at `$.shadow.checks`")
        if self.segment_by:
            self._check_segments()

    @property
    def _is_plain(self) -> bool:
        return len(self.arms) == 2 and self.mode is Mode.FIXED and self.holdout == 0.0

    def _check_ramp(self, has_shares: bool) -> None:
        """A ramp says all there is to say of shares; with a third interval between them, units would not keep their arm."""
        if has_shares or not self._is_plain:
            raise ValueError("`ramp` is for two arms in mode fixed, without `share` and `holdout` - at `$.ramp`")
        steps = [later - earlier for earlier, later in pairwise(self.ramp)]
        if any(step < MIN_RAMP_STEP for step in steps):
            raise ValueError(f"`ramp` must rise by at least {MIN_RAMP_STEP:g} each time - at `$.ramp`")

    def _check_segments(self) -> None:
        """Shares must be able to move, and a version of all of them to travel in one event."""
        if self.mode is Mode.FIXED:
            raise ValueError("`segment_by` is for modes best_arm and regret, whose shares move - at `$.segment_by`")
        if self.segment_by == self.unit:
            raise ValueError("`segment_by` must be another tag than the unit's - at `$.segment_by`")
        if len(self.arms) * self.max_segments > MAX_SEGMENT_SHARES:
            raise ValueError(f"`max_segments` times arms must be {MAX_SEGMENT_SHARES} at most - at `$.max_segments`")


class Assignment(Struct, frozen=True, kw_only=True):
    """How a request came to its arm: all that it takes to draw it again. The plan has arm, propensity and weights version."""

    experiment: Name
    revision: Count
    unit: Annotated[str, Meta(max_length=256)]
    draw: Annotated[int, Meta(ge=0, lt=2**53, description="of sha256(salt, experiment, unit), out of 2**53")]
    # Of an experiment with segments: the request's, "" where it has none. It may have no shares of its own yet.
    segment: Annotated[str, Meta(max_length=64)] | None = None


class MetricCounts(Struct, frozen=True, kw_only=True):
    """How many of an arm's units have said what of a metric. Sums are in millionths, so that they are exact."""

    num_units: Count = 0
    num_observed: Count = 0  # within the window, which has passed
    num_early: Count = 0  # observed; the window is still open
    num_pending: Count = 0  # silent so far
    num_missing: Count = 0  # silent, and the window has passed
    sum_micro: Count = 0  # of those observed
    early_micro: Count = 0  # of those observed early


class ArmState(Struct, frozen=True, kw_only=True):
    """What is believed of an arm: a Beta distribution of its goal's mean, and its probability of being the best."""

    alpha: Annotated[float, Meta(gt=0.0)]
    beta: Annotated[float, Meta(gt=0.0)]
    probability_best: Probability = 0.0
    counts: dict[Name, MetricCounts] = {}


class SegmentWeights(Struct, frozen=True, kw_only=True):
    """How the traffic of one segment is shared among the arms, and what is known of them there, by its own units."""

    allocation: Annotated[dict[Name, Probability], Meta(min_length=1, max_length=64)]
    states: dict[Name, ArmState] = {}  # of units that were drawn by this segment's shares; without what is borrowed
    winner: Name | None = None  # the arm that is known to be the best there, for the rest of the run
    since: Count = 0  # the version that named the segment

    def __post_init__(self) -> None:
        if abs(sum(self.allocation.values()) - 1.0) > 1e-6:
            raise ValueError("`allocation` must add up to 1 - at `$.allocation`")
