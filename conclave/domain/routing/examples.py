"""What a record's traces and feedback teach of difficulty: would a direct answer to the question have been wrong?"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from conclave.domain.equivalence import are_same
from schemas.values import Probability


@dataclass(frozen=True, slots=True)
class Example:
    """A question, how wrong its direct answer was (0 to 1), what that is worth as evidence, and where it comes from."""

    question: str
    wrong: Probability
    weight: Annotated[float, Meta(gt=0.0, le=1e6)] = 1.0
    source: str = "given"


@dataclass(frozen=True, slots=True)
class Observation:
    """What is recorded of a question: of its direct answer where there was one, and of what the request came to."""

    question: str
    is_direct: bool  # the step put the question directly; else it is the vote of a request that did not
    answer: str | None  # the step's
    confidence: float
    agreement: float
    is_final: bool  # the request was answered by this step
    final_answer: str | None = None
    reward: float | None = None  # the mean of what the latest feedback of each source says of the request's answer
    right_answer: str | None = None  # the latest that feedback knows


def examples(observations: Iterable[Observation]) -> Iterator[Example]:
    """What each observation teaches; nothing of those that say nothing."""
    for each in observations:
        found = _of_direct(each) if each.is_direct else _of_vote(each)
        if found is not None:
            yield found


def _of_direct(seen: Observation) -> Example | None:
    """The strongest evidence that there is: people first, then a second, longer thought, then its own confidence."""
    if seen.right_answer is not None:
        return Example(seen.question, float(not _same(seen.answer, seen.right_answer)), 1.0, "right answer")
    if seen.is_final and seen.reward is not None:
        return Example(seen.question, 1.0 - seen.reward, 1.0, "reward")
    if not seen.is_final and seen.final_answer is not None:
        return Example(seen.question, float(not _same(seen.answer, seen.final_answer)), 0.5, "thought over")
    if seen.answer is not None:
        return Example(seen.question, 1.0 - seen.confidence, 0.25, "confidence")
    return None


def _of_vote(seen: Observation) -> Example | None:
    """A vote's disagreement is how often one path alone was not what won; a path is no direct answer, so it counts little."""
    return Example(seen.question, 1.0 - seen.agreement, 0.25, "vote") if seen.answer is not None else None


def _same(one: str | None, other: str) -> bool:
    return one is not None and are_same(one, other)
