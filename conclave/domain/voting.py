"""How ballots become a winner: `VOTING_RULES`, a function a rule. A missing answer is never a vote."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from schemas.values import Ballot, Outcome, TallyRow, VotingRule

_MAX_WEIGHT = 1e6  # so that a forged weight overflows no sum


@dataclass(frozen=True, slots=True)
class Count:
    """What a vote came to. `tally` is heaviest first, and among equals the answer launched earliest comes first."""

    outcome: Outcome
    answer: str | None
    margin: float  # share of the winner's weight minus the runner-up's
    agreement: float  # share of the winner's weight
    entropy: float  # of the answers' shares, in bits
    tally: tuple[TallyRow, ...]


def majority(ballots: Sequence[Ballot]) -> Count:
    """The answer with the most weight; of several with the same, the one whose first vote was launched earliest.

    Self-consistency, arXiv 2203.11171. `ballots` are in launch order, their answers canonical.
    """
    tally = tally_of(ballots)
    total = sum(row.weight for row in tally)
    if not total:
        return Count(Outcome.NO_ANSWER, None, 0.0, 0.0, 0.0, tally)
    shares = [row.weight / total for row in tally]
    runner_up = shares[1] if len(shares) > 1 else 0.0
    is_tie = len(tally) > 1 and tally[0].weight == tally[1].weight
    outcome = Outcome.TIE if is_tie else Outcome.MAJORITY
    entropy = max(0.0, -sum(share * math.log2(share) for share in shares if share))
    return Count(outcome, tally[0].answer, shares[0] - runner_up, shares[0], entropy, tally)


def tally_of(ballots: Sequence[Ballot]) -> tuple[TallyRow, ...]:
    """Votes and weight of each answer, heaviest first; equals in launch order."""
    votes: dict[str, int] = {}
    weights: dict[str, float] = {}
    for ballot in ballots:
        if ballot.answer:
            votes[ballot.answer] = votes.get(ballot.answer, 0) + 1
            weights[ballot.answer] = weights.get(ballot.answer, 0.0) + min(ballot.weight, _MAX_WEIGHT)
    # sorted() is stable and dicts keep insertion order: that is the tie break.
    order = sorted(votes, key=lambda answer: -weights[answer])
    return tuple(TallyRow(answer=answer, votes=votes[answer], weight=weights[answer]) for answer in order)


VOTING_RULES: dict[VotingRule, Callable[[Sequence[Ballot]], Count]] = {
    VotingRule.MAJORITY: majority,
}
