"""What several votes are worth when paths on one question err together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # seconds to import, and wanted by a report only
    import numpy as np
    from numpy.typing import NDArray

_RESAMPLES = 1000


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


def effective_votes(num_votes: float, rho: float) -> float:
    """How many independent votes so many are worth: n / (1 + (n - 1) rho), Kish's design effect (1965). At rho 1, one."""
    return num_votes / (1.0 + (num_votes - 1) * min(max(rho, 0.0), 1.0)) if num_votes else 0.0


@dataclass(frozen=True, slots=True)
class Interval:
    """A correlation, and between what it lies at 95 %, of one look."""

    rho: float
    low: float
    high: float


def interval_of(wrong: Sequence[int]) -> Interval | None:
    """The correlation where of the first paths of so many questions none, one, two … were wrong; None where it can't be told.

    The interval is a bootstrap's over questions (percentiles of 1,000 resamples, of one seed).
    """
    import numpy as np

    counts = np.asarray(wrong, dtype=np.int64)
    num_paths, num = len(counts) - 1, int(counts.sum())
    found = _rho(counts[None, :].astype(float), num_paths)
    if num == 0 or not np.isfinite(found[0]):
        return None
    drawn = _rho(np.random.default_rng(0).multinomial(num, counts / num, size=_RESAMPLES).astype(float), num_paths)
    drawn = drawn[np.isfinite(drawn)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(float(found[0]), float(low), float(high))


def _rho(counts: "NDArray[np.float64]", num_paths: int) -> "NDArray[np.float64]":
    """Of each row, questions by how many paths were wrong; not a number where all or none are. Shape (num_rows,)."""
    import numpy as np

    wrong, num = np.arange(num_paths + 1), counts.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = counts @ wrong / num / num_paths
        both = counts @ (wrong * (wrong - 1)) / num / (num_paths * (num_paths - 1))
        found: NDArray[np.float64] = (both - rate**2) / (rate * (1 - rate))
    return found
