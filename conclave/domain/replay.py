"""Recorded samples played again: what a rule, a weighting and a schedule would have come to, by the code that decides live votes.

The clock is simulated: a path takes as long as it is long, a token a tick, whatever runs beside it (an engine that is never full).
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from conclave.domain import counting
from conclave.domain.equivalence import judged, rule_of
from schemas.values import Ask, Ballot, StopReason


@dataclass(frozen=True, slots=True)
class Recording:
    """A question whose samples were recorded, in launch order. `gold` is its right answer, None where nobody knows."""

    id: str
    gold: str | None
    ballots: tuple[Ballot, ...]


@dataclass(frozen=True, slots=True)
class Played:
    """What the vote on a recording came to, and what it cost."""

    answer: str | None
    reason: StopReason
    num_counted: int
    num_launched: int
    tokens: int  # generated until the verdict, by paths that were cancelled too
    latency: int  # ticks until the verdict
    is_cut_short: bool  # the rule wanted more than what was recorded

    def is_right(self, recording: Recording, ask: Ask) -> bool | None:
        """Whether the answer is the right one, as the ask compares answers; None where nobody knows."""
        if recording.gold is None:
            return None
        return self.answer is not None and same(self.answer, recording.gold, ask)


def same(one: str, other: str, ask: Ask) -> bool:
    """True for two answers that are the same vote where only they are cast."""
    label, of_other = rule_of(ask)([one, other])
    return label == of_other != ""


def judged_recording(recording: Recording, ask: Ask, same: judged.Same) -> Recording:
    """The recording with every answer, and the right one, in the words of the first that a judge finds to be the same.

    In whatever order its samples are put then, they need no judge any more. `same` waits: it never says that nothing is known.
    """
    texts = [*(ballot.answer or "" for ballot in recording.ballots), recording.gold or ""]
    labels = rule_of(ask)(texts)
    found, _ = judged.represented(texts, labels, [None] * len(texts), same)
    first: dict[str, str] = {}
    words = []
    for text, label, alike in zip(texts, labels, judged.joined(labels, found), strict=True):
        words.append(first.setdefault(alike, text) if alike != label else text)
        first.setdefault(alike, text)
    *answers, gold = (each or None for each in words)
    ballots = (replace(each, answer=answer) for each, answer in zip(recording.ballots, answers, strict=True))
    return Recording(recording.id, gold, tuple(ballots))


def play(recording: Recording, ask: Ask, durations: Sequence[int] | None = None) -> Played:
    """The vote on a recording. Paths take `durations`, in ticks; without them, their tokens.

    1. what the schedule launches runs; the path that is done first reports
    2. over the first samples that have all reported, the rule is asked: satisfied, it has its verdict
    3. once sample 0 has reported, the schedule may launch more (the voter decides from there on only)
    4. nothing runs and nothing is launched: the verdict is on all
    """
    most = min(ask.max_samples, len(recording.ballots))
    ticks = durations if durations is not None else [max(1, each.tokens_out) for each in recording.ballots]
    running = _Running(recording.ballots, ticks)
    running.launch(_allowed(counting.launch((), 0, ask), 0, most))
    first: Sequence[Ballot] = ()
    while running.queue:
        running.report_next()
        reported = running.reported()
        in_order = counting.in_order(reported)
        stop = counting.stop(in_order, ask) if len(in_order) > len(first) else None
        first = in_order
        if stop is not None:
            return _played(running, counting.count(first[: stop.length], ask, reason=stop.reason), stop.reason)
        if first:
            running.launch(_allowed(counting.launch(reported, running.num_launched, ask), running.num_launched, most))
    ended = counting.count(first, ask, reason=StopReason.EXHAUSTED)
    return _played(running, ended, StopReason.EXHAUSTED, is_cut_short=most < ask.max_samples)


def full_vote(recording: Recording, ask: Ask) -> str | None:
    """The plain majority of all samples that were recorded: what other votes are compared with."""
    plain = Ask(form=ask.form, equivalence=ask.equivalence)
    return counting.count(recording.ballots, plain, reason=StopReason.EXHAUSTED).result.answer


class _Running:
    """Samples under way, on a simulated clock."""

    def __init__(self, ballots: Sequence[Ballot], ticks: Sequence[int]) -> None:
        self._ballots, self._ticks = ballots, ticks
        self._started: list[int] = []
        self._done: dict[int, Ballot] = {}
        self.queue: list[tuple[int, int]] = []  # (when it is done, sample), a heap
        self.now = 0

    @property
    def num_launched(self) -> int:
        return len(self._started)

    def launch(self, num_samples: int) -> None:
        for _ in range(num_samples):
            index = self.num_launched
            self._started.append(self.now)
            heapq.heappush(self.queue, (self.now + self._ticks[index], index))

    def report_next(self) -> None:
        self.now, index = heapq.heappop(self.queue)
        self._done[index] = self._ballots[index]

    def reported(self) -> list[Ballot]:
        return [self._done[index] for index in sorted(self._done)]

    def tokens(self) -> int:
        """Of what is done, all; of what still runs, as many as ticks have gone by."""
        running = sum(min(self.now - self._started[index], self._ballots[index].tokens_out) for _, index in self.queue)
        return running + sum(ballot.tokens_out for ballot in self._done.values())


def _allowed(num_samples: int, num_launched: int, most: int) -> int:
    return max(0, min(num_samples, most - num_launched))


def _played(running: _Running, counted: counting.Counted, reason: StopReason, *, is_cut_short: bool = False) -> Played:
    return Played(
        answer=counted.result.answer,
        reason=reason,
        num_counted=len(counted.ballots),
        num_launched=running.num_launched,
        tokens=running.tokens(),
        latency=running.now,
        is_cut_short=is_cut_short,
    )
