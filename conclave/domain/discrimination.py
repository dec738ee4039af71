"""Whether a figure tells right paths from wrong ones within a question: the gate before votes are weighed by it.

Across questions a model's confidence says which of them are hard. That is no use in a vote, whose paths all answer the same one:
there only within-question discrimination counts (WQD, arXiv 2502.06233, section 5).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from conclave.domain.replay import Recording, same
from schemas.values import Ask, Ballot

NUM_DRAWS = 2_000


@dataclass(frozen=True, slots=True)
class Discrimination:
    """The probability that of a right and a wrong path on one question the right one has the higher figure; a tie is half.

    `low` and `high` hold it with 95 % confidence. Every pair counts alike, as in the paper.
    """

    value: float
    low: float
    high: float
    num_questions: int  # that have right and wrong paths, both with a figure
    num_pairs: int

    @property
    def is_recommended(self) -> bool:
        """True when weighing by the figure helps more than by chance, and that is sure."""
        return self.low > 0.5


def discrimination(
    recordings: Sequence[Recording], figure: Callable[[Ballot], float | None], ask: Ask, seed: int = 0
) -> Discrimination | None:
    """How well a figure discriminates on recordings whose right answers are known; None where there is nothing to compare.

    The interval is of a bootstrap that draws questions, not pairs: those of one question are anything but independent.
    """
    counted = [pair for each in recordings if (pair := _pairs(each, figure, ask))[1]]
    if not counted:
        return None
    won, pairs = np.array(counted, dtype=np.float64).T
    choice = np.random.default_rng(seed).integers(0, len(won), size=(NUM_DRAWS, len(won)))
    drawn = won[choice].sum(axis=1) / pairs[choice].sum(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Discrimination(float(won.sum() / pairs.sum()), float(low), float(high), len(won), int(pairs.sum()))


def _pairs(recording: Recording, figure: Callable[[Ballot], float | None], ask: Ask) -> tuple[float, int]:
    """Of all pairs of a right and a wrong path on a question: in how many the right one is higher, and how many there are."""
    if recording.gold is None:
        return 0.0, 0
    right: list[float] = []
    wrong: list[float] = []
    for ballot in recording.ballots:
        known = figure(ballot)
        if known is not None and ballot.answer:
            (right if same(ballot.answer, recording.gold, ask) else wrong).append(known)
    won = sum((one > other) + (one == other) / 2 for one in right for other in wrong)
    return won, len(right) * len(wrong)
