"""A request's thought: what has been asked and decided. A strategy is a function of it, and of nothing else.

A strategy is asked only at standstill, when no step is open (or when it must end). So it needs no count of what it has
heard, and the order in which verdicts arrive changes nothing. It has no state of its own: what it knows is the thought.
Asked twice, it gives the same answer.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from conclave.domain.params import Params, number, whole_number
from schemas.values import Ask, Step, Verdict, Wording

_BEFORE = Wording()


@dataclass(frozen=True, slots=True)
class Thought:
    """What a strategy sees. An empty one, without steps, is the opening: what it grows is the plan."""

    question: str
    params: Mapping[str, float]  # the policy's, for `number` and `whole_number`
    steps: tuple[Step, ...]
    verdicts: Mapping[int, Verdict]  # of every step, by index; with gaps only when it must end
    must_end: bool  # time, steps, tokens or bytes are used up: nothing more may be asked
    asks: Mapping[str, Ask] = field(default_factory=dict)  # the policy's, by name

    def answer(self, index: int) -> str | None:
        """What a step came to; None without an answer or a verdict."""
        verdict = self.verdicts.get(index)
        return verdict.answer if verdict else None

    def words(self, ask: str) -> Wording:
        """In what words the form of an ask is told things, and answers."""
        found = self.asks.get(ask)
        return _BEFORE if found is None else found.words

    def answered(self) -> tuple[Verdict, ...]:
        """The verdicts that hold an answer, by index."""
        return tuple(verdict for _, verdict in sorted(self.verdicts.items()) if verdict.answer)


@dataclass(frozen=True, slots=True)
class Grow:
    """New steps, at least one: numbered on from the thought's, leaning on decided ones, their fields filled."""

    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Conclude:
    """The end. `step` is the one whose answer is the request's, and has one; None: there is no answer."""

    step: int | None
    confidence: float = 0.0


Think = Callable[[Thought], Grow | Conclude]


@dataclass(frozen=True, slots=True)
class Strategy:
    """A row of `STRATEGIES`. `asks` names the kinds of question that it puts, each with the fields that it fills."""

    think: Think
    asks: Mapping[str, tuple[str, ...]]
    params: Params = field(default_factory=dict)


def surest(thought: Thought, among: Collection[int] | None = None) -> Conclude:
    """The end on the answered step with the highest confidence, the earliest of several; on none when none is answered."""
    found = [each for each in thought.answered() if among is None or each.step_index in among]
    best = max(found, key=lambda each: each.confidence, default=None)
    return Conclude(best.step_index, best.confidence) if best else Conclude(None)


__all__ = ["Conclude", "Grow", "Strategy", "Think", "Thought", "number", "surest", "whole_number"]
