"""Which paths were right, by what people said of the answer that won."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from conclave.domain.equivalence import are_same
from conclave.domain.weighing import said_of_itself
from schemas.values import Ballot

_LIKED = 0.5  # from this reward on the answer is taken to be right


@dataclass(frozen=True, slots=True)
class JudgedVote:
    """A vote whose answer was judged: its ballots in launch order, and the best that is known of what is right."""

    request_id: str
    ballots: tuple[Ballot, ...]
    answer: str  # that won
    reward: float | None
    right_answer: str | None = None

    @property
    def is_right(self) -> bool | None:
        """Whether the answer that won is right; None when nobody said."""
        if self.right_answer is not None:
            return are_same(self.answer, self.right_answer)
        return None if self.reward is None else self.reward >= _LIKED

    def says_right(self, answer: str | None) -> bool | None:
        """Whether an answer is right; None where that is not known.

        A thumbs-up makes one answer right and all others wrong. A thumbs-down means only "not this answer": of the others
        nothing is known.
        """
        if self.right_answer is not None:
            return answer is not None and are_same(answer, self.right_answer)
        is_winner = answer == self.answer
        return is_winner if self.is_right else (False if is_winner and self.is_right is False else None)


@dataclass(frozen=True, slots=True)
class LabelledPath:
    """A path's own figure, from 0 to 1, and whether its answer is right. `weight` discounts what its siblings say as well."""

    score: float
    is_right: bool
    weight: float = 1.0


def paths_of(votes: Iterable[JudgedVote]) -> list[list[LabelledPath]]:
    """The paths of each vote that have a figure and a label."""
    found = []
    for vote in votes:
        paths = []
        for ballot in vote.ballots:
            score, is_right = said_of_itself(ballot), vote.says_right(ballot.answer)
            if ballot.answer and score is not None and is_right is not None:
                paths.append(LabelledPath(score, is_right))
        found.append(paths)
    return found


def correlation(groups: Sequence[Sequence[LabelledPath]]) -> float:
    """How alike paths of one question are right or wrong: the intraclass correlation (ANOVA estimate), from 0 to 1."""
    groups = [group for group in groups if group]
    num = sum(map(len, groups))
    if len(groups) < 2 or num <= len(groups):
        return 0.0
    mean = sum(path.is_right for group in groups for path in group) / num
    means = [sum(path.is_right for path in group) / len(group) for group in groups]
    between = sum(len(group) * (each - mean) ** 2 for group, each in zip(groups, means, strict=True)) / (
        len(groups) - 1
    )
    within = sum(len(group) * each * (1 - each) for group, each in zip(groups, means, strict=True)) / (
        num - len(groups)
    )
    size = (num - sum(len(group) ** 2 for group in groups) / num) / (len(groups) - 1)
    spread = between + (size - 1) * within
    return min(1.0, max(0.0, (between - within) / spread)) if spread > 0 else 0.0


def discounted(groups: Sequence[Sequence[LabelledPath]]) -> list[LabelledPath]:
    """All paths, those of a question weighing together what so many correlated ones are worth: m / (1 + (m − 1) ρ)."""
    rho = correlation(groups)
    return [
        LabelledPath(path.score, path.is_right, 1 / (1 + (len(group) - 1) * rho)) for group in groups for path in group
    ]


def halves(votes: Iterable[JudgedVote]) -> tuple[list[JudgedVote], list[JudgedVote]]:
    """The votes to learn from and those to judge by, dealt out by a hash of the request: the same at every try."""
    dealt: tuple[list[JudgedVote], list[JudgedVote]] = ([], [])
    for vote in votes:
        dealt[sha256(vote.request_id.encode()).digest()[0] & 1].append(vote)
    return dealt
