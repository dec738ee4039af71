"""What clients are told of experiments, field by field: a source of the OpenAPI document as `bodies` is."""

from typing import Literal

from msgspec import Struct


class ExperimentState(Struct, frozen=True, kw_only=True):
    """An experiment, and the last thing that was done to it."""

    name: str
    status: Literal["running", "stopped", "killed", "promoted"]
    revision: int
    mode: str
    unit: str
    goal: str  # the metric that decides
    control: str
    policies: dict[str, str]  # by arm
    started_at: int  # seconds since 1970; the run of this revision
    changed_at: int
    by: str
    why: str
    promoted: str | None = None  # the arm that all traffic goes to
    object: Literal["experiment"] = "experiment"


class ExperimentList(Struct, frozen=True, kw_only=True):
    """All of them."""

    data: tuple[ExperimentState, ...]
    object: Literal["list"] = "list"


class ExperimentArm(Struct, frozen=True, kw_only=True):
    """An arm so far. `lower` and `upper` hold at all looks at once; `mean` is None before anything was judged."""

    arm: str
    policy: str
    share: float
    num_units: int
    response_rate: float
    mean: float | None
    lower: float
    upper: float
    probability_best: float
    out_by: str | None  # the guardrail that it broke


class ShadowCheck(Struct, frozen=True, kw_only=True):
    """What a shadow must show before anyone is served by it, and how that stands. Means are of pairs of which both have ended."""

    metric: str
    at_least: float | None
    max_drop: float | None  # below what was served
    num_pairs: int
    mean: float | None  # of the copies
    served_mean: float | None
    status: Literal["holds", "broken", "open"]


class SegmentArm(Struct, frozen=True, kw_only=True):
    """An arm in one segment, by the segment's own units. What is borrowed of other segments moves shares, and proves nothing."""

    arm: str
    share: float
    num_units: int
    mean: float | None
    lower: float
    upper: float
    probability_best: float
    borrowed: float  # so many outcomes of its own is it worth


class ExperimentSegment(Struct, frozen=True, kw_only=True):
    """A value of the tag that an experiment's segments are made by."""

    segment: str  # "": the rest
    winner: str | None
    arms: tuple[SegmentArm, ...]


class ExperimentReport(Struct, frozen=True, kw_only=True):
    """What an experiment has shown. With an alarm, units weren't dealt out as they should have been: don't trust it."""

    experiment: ExperimentState
    weights_version: int
    winner: str | None
    arms: tuple[ExperimentArm, ...]
    alarms: tuple[str, ...]  # the stages at which the sample ratio is off
    phase: Literal["shadow", "ramp"] | None = None  # of one that begins unseen
    checks: tuple[ShadowCheck, ...] = ()
    segments: tuple[ExperimentSegment, ...] = ()  # the rest, then each that is named
    object: Literal["experiment.report"] = "experiment.report"
