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
    """The bound that votes of these agreements, wrong or not, allow: fixed-sequence testing (arXiv 2110.01052, section 3.3).

    Quorums are tried from unanimity down, those that serve enough for anything to be known. Each is certified by an e-value against
    its answers being wrong more often than `at_most`, and the first that isn't ends the search, so no correction for the number
    tried is needed. It is about votes like those that were judged.
    """
    found, wanted = Bound(at_most, risk, None, len(judged), 0, 0), math.log(1 / risk)
    clearest = sorted(judged, key=lambda vote: -vote[0])
    wrong = [0, *accumulate(int(is_wrong) for _, is_wrong in clearest)]
    for step in range(_STEPS, -1, -1):
        quorum = step / _STEPS
        served = bisect_right(clearest, -quorum, key=lambda vote: -vote[0])
        if log_evidence_below(Outcomes(served, 0), at_most) < wanted:
            continue  # so few that nothing could be known, whatever their labels
        if log_evidence_below(Outcomes(served, wrong[served]), at_most) < wanted:
            break
        found = Bound(at_most, risk, quorum, len(judged), served, wrong[served])
    return found


def with_quorum(ask: Ask, quorum: float, at_most: float) -> Ask:
    """The ask, which gives no answer below that share of the votes, and says for which share of wrong ones that is certified."""
    return replace(ask, voting="quorum", params={**ask.params, "quorum": quorum, "at_most_wrong": at_most})


def _agreement(vote: JudgedVote, ask: Ask) -> float:
    return counting.count(vote.ballots, ask, reason=StopReason.EXHAUSTED).result.agreement
