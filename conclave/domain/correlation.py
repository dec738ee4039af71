"""What several votes are worth when paths on one question err together."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Correlation:
    """The pairwise correlation `rho` of errors among paths on one question, and how often a path errs."""

    rho: float
    error_rate: float
    num_questions: int


def correlation(wrong: Sequence[tuple[int, int]]) -> Correlation | None:
    """The correlation over questions, of each of which so many paths were wrong among so many; None where it can't be told.

        rho = (P(both wrong) - p^2) / (p (1 - p))

    with both probabilities over pairs of paths on one question: the intraclass correlation of a binary outcome (Fleiss & Cuzick
    1979). The numbers of paths must not depend on what they say: with adaptive stopping, take the first few of each question.
    One path, or none, says nothing. A negative value is chance; it means that errors don't go together.
    """
    pairs = sum(num_paths * (num_paths - 1) for _, num_paths in wrong)
    if not pairs:
        return None
    both = sum(num_wrong * (num_wrong - 1) for num_wrong, _ in wrong) / pairs
    rate = sum(num_wrong * (num_paths - 1) for num_wrong, num_paths in wrong) / pairs
    if not 0.0 < rate < 1.0:
        return None
    questions = sum(num_paths > 1 for _, num_paths in wrong)
    return Correlation((both - rate * rate) / (rate * (1.0 - rate)), rate, questions)


def effective_votes(num_votes: int, rho: float) -> float:
    """How many independent votes so many are worth: n / (1 + (n - 1) rho), Kish's design effect (1965). At rho 1, one."""
    return num_votes / (1.0 + (num_votes - 1) * min(max(rho, 0.0), 1.0)) if num_votes else 0.0
