"""Closed sets: what votes, samplings, paths and requests come to, and why."""

from enum import StrEnum


class Outcome(StrEnum):
    """What a vote came to."""

    MAJORITY = "majority"  # one answer leads
    TIE = "tie"  # several lead; the one whose first vote was launched earliest is reported, with margin 0
    NO_ANSWER = "no_answer"  # no path gave an answer


class StopReason(StrEnum):
    """Why a step's sampling ended, as the voter says it; in a verdict it is a name."""

    CONFIDENT = "confident"  # the stopping rule is satisfied
    SETTLED = "settled"  # no sample that was left could have changed who wins
    EXHAUSTED = "exhausted"  # max_samples have reported
    DEADLINE = "deadline"  # time was up before any of these
    BUDGET = "budget"  # another wave could cost more than the step was allowed
    NO_CONSENSUS = "no_consensus"  # sampling ended, and no answer has the share that its voting rule asks for
    DECLINED = "declined"  # sampling ended, and most paths say that it is no question for their model


RECALLED = "recalled"  # the stop reason of a step whose answer was remembered: no path was decoded


class FinishReason(StrEnum):
    """Why the engine stopped generating a path."""

    STOP = "stop"  # the model ended it, or a stop string did
    LENGTH = "length"  # it was cut at its limit
    TOOL_CALLS = "tool_calls"  # the model asks for a tool
    CONTENT_FILTER = "content_filter"  # the server kept the rest back
    ABORT = "abort"  # the server gave it up
    NONE = "none"  # a reason that is not known here


class PathFailure(StrEnum):
    """Why a sample became no path."""

    CANCELLED = "cancelled"  # its step was decided without it
    DEADLINE = "deadline"
    PROMPT_TOO_LONG = "prompt_too_long"
    BAD_PROMPT = "bad_prompt"  # unknown prompt set or form, or a field that the form needs is missing
    BAD_REQUEST = "bad_request"  # the model server will not take such a path, whoever asks
    CONTENT_FILTERED = "content_filtered"  # a content filter, or the model itself, refused it
    NOTHING_SENT = "nothing_sent"  # the model server answered without a word
    ENGINE = "engine"  # the engine failed on it repeatedly


class RequestFailure(StrEnum):
    """Why a request got no answer."""

    INVALID = "invalid"
    NO_ANSWER = "no_answer"  # every path ended, none with an answer
    DEADLINE = "deadline"
    CANCELLED = "cancelled"  # who asked wants no answer any more


class EndReason(StrEnum):
    """Why a request ended when it did; in events it is a name."""

    DECIDED = "decided"  # its strategy asked for no more
    BUDGET = "budget"  # what its policy may spend was used up: the answer is the best so far
    DEADLINE = "deadline"  # its time was up: the same
