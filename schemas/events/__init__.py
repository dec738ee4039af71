"""Every event, a struct each. The topic of each, and who writes and reads it, stand in `schemas.flow`.

Two kinds: *producer-facing* events (ReasoningRequested, FeedbackGiven) come from anyone, so an unknown field is an error
there, most likely a typing mistake; all others come from Conclave's services, which ignore fields they do not know, so
that a newer service may add one.
"""

from schemas.events.base import Event
from schemas.events.calls import ApprovalGiven, ApprovalRequested, ToolRequested
from schemas.events.learning import MAX_POLICY_FILES, ExperimentChanged, FeedbackGiven, PoliciesRead, WeightsPublished
from schemas.events.paths import PathDecoded, PathFailed, SampleRequested, TallyCarried, TextStored
from schemas.events.requests import AnswerReached, ReasoningRequested, RequestCancelled, RequestFailed
from schemas.events.thoughts import PlanMade, StepClosed, StepDecided, ThoughtCarried

__all__ = [
    "MAX_POLICY_FILES",
    "AnswerReached",
    "ApprovalGiven",
    "ApprovalRequested",
    "Event",
    "ExperimentChanged",
    "FeedbackGiven",
    "PathDecoded",
    "PathFailed",
    "PlanMade",
    "PoliciesRead",
    "ReasoningRequested",
    "RequestCancelled",
    "RequestFailed",
    "SampleRequested",
    "StepClosed",
    "StepDecided",
    "TallyCarried",
    "TextStored",
    "ThoughtCarried",
    "ToolRequested",
    "WeightsPublished",
]
