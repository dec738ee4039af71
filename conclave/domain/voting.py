"""How ballots become a winner: `VOTING_RULES`, a function a rule. A missing answer is never a vote.

What is counted are labels: those that conclave.domain.equivalence gives to the answers. What is reported is the answer as
the first of its paths in launch order wrote it.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from msgspec import Struct

from conclave.domain.params import Param, Params, number
from schemas.values import Ask, Ballot, Outcome, TallyRow

_MAX_WEIGHT = 1e6  # so that a forged weight overflows no sum
# `at_most_wrong`: what the quorum was certified for (conclave.domain.vote_learning.abstaining); it decides nothing.
QUORUM: Params = {"quorum": Param(0.5, 0.0, 1.0), "at_most_wrong": Param(1.0, 0.0, 1.0)}


@dataclass(frozen=True, slots=True)
class VoteResult:
    """What a vote came to. `tally` is heaviest first, and among equals the answer launched earliest comes first."""

    outcome: Outcome
    answer: str | None
    margin: float  # share of the winner's weight minus the runner-up's
    agreement: float  # share of the winner's weight
    entropy: float  # of the answers' shares, in bits
    tally: tuple[TallyRow, ...]
    rows: tuple[int | None, ...]  # of each ballot, the row of the tally that it counts for


def majority(ballots: Sequence[Ballot], labels: Sequence[str], ask: Ask) -> VoteResult:
    """The answer with the most weight; of several with the same, the one whose first vote was launched earliest.

    Self-consistency, arXiv 2203.11171. `ballots` are in launch order; `labels` are their answers' clusters, "" of one that
    says nothing. Equal weights make it the plain vote, others the weighted one.
    """
    tally, rows = tally_of(ballots, labels)
    total = sum(row.weight for row in tally)
    if not total:
        return VoteResult(Outcome.NO_ANSWER, None, 0.0, 0.0, 0.0, tally, rows)
    shares = [row.weight / total for row in tally]
    runner_up = shares[1] if len(shares) > 1 else 0.0
    is_tie = len(tally) > 1 and tally[0].weight == tally[1].weight
    outcome = Outcome.TIE if is_tie else Outcome.MAJORITY
    entropy = max(0.0, -sum(share * math.log2(share) for share in shares if share))
    return VoteResult(outcome, tally[0].answer, shares[0] - runner_up, shares[0], entropy, tally, rows)


def tally_of(ballots: Sequence[Ballot], labels: Sequence[str]) -> tuple[tuple[TallyRow, ...], tuple[int | None, ...]]:
    """Votes and weight of each answer, heaviest first, equals in launch order; and the row of each ballot."""
    answers: dict[str, str] = {}
    votes: dict[str, int] = {}
    weights: dict[str, float] = {}
    for ballot, label in zip(ballots, labels, strict=True):
        if ballot.answer and label:
            answers.setdefault(label, ballot.answer)
            votes[label] = votes.get(label, 0) + 1
            weights[label] = weights.get(label, 0.0) + min(ballot.weight, _MAX_WEIGHT)
    # sorted() is stable and dicts keep insertion order: that is the tie break.
    order = sorted(votes, key=lambda label: -weights[label])
    tally = tuple(TallyRow(answer=answers[label], votes=votes[label], weight=weights[label]) for label in order)
    row_of = {label: row for row, label in enumerate(order)}
    return tally, tuple(row_of.get(label) for label in labels)


class Flip(Struct, frozen=True):
    """A vote that put another answer in the lead, with how many it had by then."""

    sample_index: int
    from_answer: str
    to_answer: str
    votes: int


def flips(votes: Iterable[tuple[int, str]]) -> list[Flip]:
    """Where the lead changed, of votes that are counted one by one in launch order; equal texts are one answer."""
    counts: dict[str, int] = {}
    found: list[Flip] = []
    leader, most = "", 0
    for sample_index, answer in votes:
        counts[answer] = counts.get(answer, 0) + 1
        if counts[answer] > most:
            if most and answer != leader:
                found.append(Flip(sample_index, leader, answer, counts[answer]))
            leader, most = answer, counts[answer]
    return found


def quorum(ballots: Sequence[Ballot], labels: Sequence[str], ask: Ask) -> VoteResult:
    """The answer of `majority` if it has a share of `quorum` of all weight; else none, with the tally of who said what."""
    result = majority(ballots, labels, ask)
    if result.agreement >= number(ask.params, QUORUM, "quorum"):
        return result
    return replace(result, outcome=Outcome.NO_ANSWER, answer=None)


@dataclass(frozen=True, slots=True)
class VotingRule:
    """A row of `VOTING_RULES`."""

    decide: Callable[[Sequence[Ballot], Sequence[str], Ask], VoteResult]
    params: Params = field(default_factory=dict)


VOTING_RULES: dict[str, VotingRule] = {
    "majority": VotingRule(majority),
    "quorum": VotingRule(quorum, QUORUM),
}
