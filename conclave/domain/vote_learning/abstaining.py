"""How clear a vote must be for wrong answers to be rare: a quorum with a bound on the share of wrong ones among those served."""

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from msgspec.structs import replace

from conclave.domain import counting
from conclave.domain.statistics.betting import Outcomes, log_evidence_below
from conclave.domain.vote_learning.labels import JudgedVote
from schemas.values import Ask, StopReason

_STEPS = 40  # quorums that are tried, from unanimity down
# From which step on, with which share of the risk: unanimous votes may be too few to know anything of, where samples are many.
_STARTS = {40: 0.8, 32: 0.1, 24: 0.1}


@dataclass(frozen=True, slots=True)
class Bound:
    """The lowest quorum whose answers are wrong at most `at_most` of the time, known at the level 1 − `risk`.

    `quorum` is None where not even unanimous votes are known to be right that often.
    """

    at_most: float
    risk: float
    quorum: float | None
    num_judged: int
    num_served: int  # of these, by that quorum
    num_wrong: int  # of those served

    @property
    def share_served(self) -> float:
        """How many of the judged votes would have been answered."""
        return self.num_served / self.num_judged if self.num_judged else 0.0


def bound(ask: Ask, votes: Iterable[JudgedVote], *, at_most: float, risk: float) -> Bound:
    """The bound that judged votes allow: see `lowest_quorum`."""
    judged = [(_agreement(vote, ask), not vote.is_right) for vote in votes if vote.is_right is not None]
    return lowest_quorum(judged, at_most=at_most, risk=risk)


def lowest_quorum(judged: Sequence[tuple[float, bool]], *, at_most: float, risk: float) -> Bound:
    """The bound that votes of these agreements, wrong or not, allow: fixed-sequence testing with several starts (arXiv 2110.01052,
    algorithm 1).

    From each start quorums are tried downwards, each certified by an e-value against its answers being wrong more often than
    `at_most`; the first that isn't ends that sequence. A start has its share of the risk, and the quorums tried from it need no
    further correction. Starts are fixed and no quorum is passed over, so of each sequence it is always the same quorum whose
    certificate would be the first wrong one: as its e-values hold at every look (Ville), so does the bound, however often it is
    looked for while votes come. It is about votes like those that were judged.
    """
    clearest = sorted(judged, key=lambda vote: -vote[0])
    wrong = [0, *accumulate(int(is_wrong) for _, is_wrong in clearest)]
    found = Bound(at_most, risk, None, len(judged), 0, 0)
    for start, share in _STARTS.items():
        wanted = -math.log(share * risk)
        for step in range(start, -1, -1):
            quorum = step / _STEPS
            served = bisect_right(clearest, -quorum, key=lambda vote: -vote[0])
            if log_evidence_below(Outcomes(served, wrong[served]), at_most) < wanted:
                break
            if found.quorum is None or quorum < found.quorum:
                found = Bound(at_most, risk, quorum, len(judged), served, wrong[served])
    return found


def with_quorum(ask: Ask, quorum: float, at_most: float) -> Ask:
    """The ask, which gives no answer below that share of the votes, and says for which share of wrong ones that is certified."""
    return replace(ask, voting="quorum", params={**ask.params, "quorum": quorum, "at_most_wrong": at_most})


def _agreement(vote: JudgedVote, ask: Ask) -> float:
    return counting.count(vote.ballots, ask, reason=StopReason.EXHAUSTED).result.agreement
