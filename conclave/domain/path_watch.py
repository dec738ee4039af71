"""Whether a path that is being decoded is worth going on with: `Watch`, fed as it grows.

    it loops       its end is one text, said over and over
    it is unsure   a group of its tokens is less sure than the bar that the siblings of its step set: Deep Think with Confidence,
                   online (arXiv 2508.15260, section 3.3), by mean log probabilities as in conclave.domain.token_confidence
Work is linear in what is fed, however long the path.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from conclave.domain.params import Param, Params, number, whole_number
from conclave.domain.token_confidence import group_size
from schemas.values import MAX_SAMPLES, Ask

PARAMS: Params = {
    "confidence_keep": Param(1.0, 0.05, 1.0),  # share of siblings that the bar would have let pass; 1: there is no bar
    "confidence_warmup": Param(16, 2, MAX_SAMPLES, is_whole=True),  # siblings that must have ended before there is one
}
MIN_LOOP_CHARS, MIN_REPEATS = 480, 8  # the end that must repeat itself: characters, and how often
_MIN_WATCHED_TOKENS = 1_024  # a path that may be no longer is soon over, loop or not
_TOKENS_AT_A_TIME = 64
_NEEDLES_CHARS = (48, 480)
_MAX_PERIOD_CHARS = 2_048
_MAX_CANDIDATES = 8


class BrokenOff(StrEnum):
    """Why a path is not worth going on with."""

    LOOPS = "loops"
    UNSURE = "unsure"


@dataclass(frozen=True, slots=True)
class Sibling:
    """A path of the same step that has ended by itself."""

    num_tokens: int
    lowest_group_logprob: float


@dataclass(frozen=True, slots=True)
class Bar:
    """The mean log probability that no group of so many tokens may fall below."""

    group_tokens: int
    logprob: float


def bar(siblings: Sequence[Sibling], ask: Ask) -> Bar | None:
    """The bar that siblings set: of `confidence_keep` of them no group fell below it. None while they are too few, or for 1."""
    keep = number(ask.params, PARAMS, "confidence_keep")
    if keep >= 1.0 or len(siblings) < whole_number(ask.params, PARAMS, "confidence_warmup"):
        return None
    lowest = sorted((each.lowest_group_logprob for each in siblings), reverse=True)
    sizes = sorted(group_size(each.num_tokens) for each in siblings)
    return Bar(sizes[len(sizes) // 2], lowest[math.ceil(keep * len(lowest)) - 1])


def watch(siblings: Sequence[Sibling], ask: Ask) -> "Watch | None":
    """The watch of a path with these siblings; None where there is nothing to be gained by one."""
    found = bar(siblings, ask)
    return Watch(found) if found is not None or ask.max_tokens >= _MIN_WATCHED_TOKENS else None


class Watch:
    """Of one path. `feed` takes what is new of it and says why it is to be aborted, None while it is not."""

    def __init__(self, of: Bar | None = None) -> None:
        self._bar = of
        self._group: deque[float] = deque()
        self._sum = 0.0
        self._end = ""

    @property
    def tokens_at_a_time(self) -> int:
        """How many tokens may come before it is fed again: what is decoded in vain, and how often an engine has to speak."""
        return _TOKENS_AT_A_TIME if self._bar is None else min(_TOKENS_AT_A_TIME, self._bar.group_tokens)

    def feed(self, text: str, logprobs: Sequence[float] = ()) -> BrokenOff | None:
        """`text` and the log probabilities of its tokens (none where the engine says none)."""
        if self._bar is not None and self._is_unsure(logprobs, self._bar):
            return BrokenOff.UNSURE
        self._end = (self._end + text)[-max(MIN_LOOP_CHARS, MIN_REPEATS * _MAX_PERIOD_CHARS) :]
        return BrokenOff.LOOPS if period_of_end(self._end) is not None else None

    def _is_unsure(self, logprobs: Sequence[float], of: Bar) -> bool:
        for logprob in logprobs:
            self._group.append(logprob)
            self._sum += logprob
            if len(self._group) > of.group_tokens:
                self._sum -= self._group.popleft()
            if len(self._group) == of.group_tokens and self._sum / of.group_tokens < of.logprob - 1e-9:
                return True
        return False


def period_of_end(text: str) -> int | None:
    """The length of what a text ends with over and over, 8 times and 480 characters at least; None when it does not.

    A period is where the last characters stood before. Some such places are tried, as what they say may repeat itself within a
    period; then those of more characters.
    """
    if len(text) < MIN_LOOP_CHARS:
        return None
    return next((period for size in _NEEDLES_CHARS if (period := _period(text, size)) is not None), None)


def _period(text: str, num_chars: int) -> int | None:
    """A period, looked for by the last `num_chars`."""
    needle, last = text[-num_chars:], len(text) - num_chars
    before = last
    for _ in range(_MAX_CANDIDATES):
        found = text.rfind(needle, max(0, last - _MAX_PERIOD_CHARS), before + num_chars - 1)
        if found < 0:
            return None
        period, before = last - found, found
        length = max(MIN_LOOP_CHARS, MIN_REPEATS * period)
        if length <= len(text) and text[-length:-period] == text[len(text) - length + period :]:
            return period
    return None
