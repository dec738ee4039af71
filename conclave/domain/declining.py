"""A path that says that what it is asked is no question for its model: a vote like any other, and never an answer.

Where most paths decline, so does the step: it ends without an answer, and who asked is told why. Where some do, they count against
the answer: it is less sure, and its vote takes longer.
"""

from collections.abc import Sequence
from dataclasses import replace

from msgspec.structs import replace as with_fields

from conclave.domain.voting import VoteResult
from schemas.values import Ballot, Outcome

LABEL = "\0declined"  # of the cluster that they are; no answer has it, as none holds a NUL


def stand_in(ballot: Ballot) -> Ballot:
    """The ballot with something to be counted by where it declines."""
    return with_fields(ballot, answer=LABEL) if ballot.is_declined else ballot


def labelled(answers: Sequence[str], labels: Sequence[str]) -> list[str]:
    """The labels of answers, with their own where an answer stands for declining."""
    return [LABEL if answer == LABEL else label for answer, label in zip(answers, labels, strict=True)]


def without_declines(result: VoteResult) -> tuple[VoteResult, bool]:
    """What a vote with stand-ins came to, its tally of answers only; and whether declining won it."""
    at = next((row for row, each in enumerate(result.tally) if each.answer == LABEL), None)
    if at is None:
        return result, False
    tally = (*result.tally[:at], *result.tally[at + 1 :])
    rows = tuple(None if row is None or row == at else row - (row > at) for row in result.rows)
    if at > 0:
        return replace(result, tally=tally, rows=rows), False
    # Where it leads without the share that the voting rule asks for, there is no consensus, on declining neither.
    return replace(result, outcome=Outcome.NO_ANSWER, answer=None, tally=tally, rows=rows), result.answer == LABEL


def leads(ballots: Sequence[Ballot]) -> bool:
    """True where more of the weight declines than answers, whatever the answers."""
    declined = sum(each.weight for each in ballots if each.is_declined)
    return declined > sum(each.weight for each in ballots if each.answer)
