"""What a record's outcomes teach of need: how many samples, or rounds, would have done?

- Samples: the fewest ballots, in launch order, at which Adaptive-Consistency would have stopped. It is one measure for all votes,
  whatever rule they stopped by.
- Rounds: the first round whose answer stayed the answer.
Where that is known to have come to a wrong answer, or came to none, all that there was did not do: it is taken to need one more.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from conclave.domain import counting
from conclave.domain.equivalence import are_same
from schemas.values import Ask, Ballot

Kind = Literal["samples", "rounds"]

_WRONG_BELOW = 0.5  # of a reward from 0 to 1
_UNJUDGED = 0.5  # what an outcome weighs that nobody has judged


@dataclass(frozen=True, slots=True)
class Example:
    """A question, how much it needed, what that is worth as evidence, and where it comes from."""

    question: str
    needed: Annotated[float, Meta(ge=0.0, le=1e6)]
    weight: Annotated[float, Meta(gt=0.0, le=1e6)] = 1.0
    source: str = "given"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is recorded of one question: what each of its ballots in launch order said, or each of its rounds, and who judged it."""

    question: str
    said: Sequence[str | None]
    answer: str | None  # what that came to
    reward: float | None = None  # the mean of what the latest feedback of each source says of the answer
    right_answer: str | None = None  # the latest that feedback knows


def examples(outcomes: Iterable[Outcome], kind: Kind) -> Iterator[Example]:
    """What each outcome teaches; nothing of one without a ballot or round."""
    needed = samples_needed if kind == "samples" else rounds_needed
    for each in outcomes:
        if not each.said:
            continue
        is_right, source = _judged(each)
        enough = needed(each.said) if each.answer is not None and is_right is not False else None
        weight = _UNJUDGED if is_right is None else 1.0
        yield Example(each.question, float(len(each.said) + 1 if enough is None else enough), weight, source)


def samples_needed(said: Sequence[str | None]) -> int | None:
    """The fewest ballots that decide, None where these do not."""
    ballots = [Ballot(sample_index=place, answer=answer) for place, answer in enumerate(said)]
    ask = Ask(form="any", equivalence="verbatim", max_samples=len(ballots), params={"bound": 0.0})
    found = counting.stop(ballots, ask)
    return None if found is None else found.length


def rounds_needed(said: Sequence[str | None]) -> int | None:
    """The first round, 1 the first, from which on all say the same as the last; None where that says nothing."""
    last = said[-1]
    if last is None:
        return None
    needed = len(said)
    while needed > 1 and (before := said[needed - 2]) is not None and are_same(before, last):
        needed -= 1
    return needed


def _judged(each: Outcome) -> tuple[bool | None, str]:
    """Whether the answer was right, None where nobody has said so."""
    if each.right_answer is not None:
        return each.answer is not None and are_same(each.answer, each.right_answer), "right answer"
    if each.reward is not None:
        return each.reward >= _WRONG_BELOW, "reward"
    return None, "unjudged"
