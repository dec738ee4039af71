"""Inner rounds: the answer is thought through again, and how sure it is recalibrated after each, until that settles.

What is believed after some rounds is a logarithmic opinion pool (Genest & Zidek 1986, section 3): with p_r the calibrated
confidence of round r, the odds of an answer are the product of p_r / (1 - p_r) over the rounds that came to it, each round after
the first to the power `trust`, as it was told of those before; "none of them" has odds 1. After one round that is p_1.

A round that leaves the belief lower is gone back from: the next one is told of the round where it was highest.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log

from conclave.domain.equivalence import are_same
from conclave.domain.params import Param, number, whole_number
from conclave.domain.thought import Conclude, Grow, Strategy, Thought
from schemas.values import MAX_QUESTION_CHARS, Step, Verdict, Wording

_PARAMS = {
    "rounds": Param(3, 1, 64, is_whole=True),
    "enough": Param(0.97, 0.0, 1.0),  # belief from which no further round is needed
    "settled": Param(0.03, 0.0, 1.0),  # change of belief that is none
    "drop": Param(0.1, 0.0, 1.0),  # loss of belief after which the next round starts from a better one
    "trust": Param(0.7, 0.0, 1.0),
}
_RECONSIDER = "reconsider"
_SUREST = 0.99  # no round is more than a hundred times as sure as not


@dataclass(frozen=True, slots=True)
class Belief:
    """What is believed after a round: the answer, how surely, and the surest round that came to it; None before any has."""

    probability: float = 0.0
    step: int | None = None
    answer: str | None = None


def think(thought: Thought) -> Grow | Conclude:
    """Another round, or the end on what is believed by then."""
    num_rounds = len(thought.steps)
    if num_rounds == 0 and not thought.must_end:
        return Grow((Step(index=0, ask="whole", fields={"question": thought.question}, mark="round 1"),))
    decided = [thought.verdicts[step.index] for step in thought.steps if step.index in thought.verdicts]
    beliefs = [
        believed(decided[: place + 1], number(thought.params, _PARAMS, "trust")) for place in range(len(decided))
    ]
    newest = beliefs[-1] if beliefs else Belief()
    if (
        thought.must_end
        or num_rounds >= whole_number(thought.params, _PARAMS, "rounds")
        or _is_settled(thought, beliefs)
    ):
        return Conclude(newest.step, newest.probability)
    told, why = _told_of(thought, beliefs)
    fields = {"question": thought.question, "earlier": _tally(decided[told], thought.words(_RECONSIDER))}
    mark = f"round {num_rounds + 1}"
    return Grow((Step(index=num_rounds, ask=_RECONSIDER, fields=fields, mark=mark, depends_on=(told,), why=why),))


def believed(rounds: Sequence[Verdict], trust: float) -> Belief:
    """What is believed after these rounds, in their order."""
    pooled: list[tuple[str, float, Verdict]] = []  # answer, log odds, surest round
    for place, verdict in enumerate(rounds):
        if not verdict.answer:
            continue
        sure = min(max(verdict.confidence, 1 - _SUREST), _SUREST)
        odds = log(sure / (1 - sure)) * (trust if place else 1.0)
        at = next((at for at, (answer, _, _) in enumerate(pooled) if _same(answer, verdict.answer)), None)
        if at is None:
            pooled.append((verdict.answer, odds, verdict))
        else:
            answer, before, best = pooled[at]
            pooled[at] = (answer, before + odds, max(best, verdict, key=lambda each: each.confidence))
    if not pooled:
        return Belief()
    answer, odds, best = max(pooled, key=lambda each: each[1])
    return Belief(exp(odds) / (1.0 + sum(exp(each) for _, each, _ in pooled)), best.step_index, answer)


def _is_settled(thought: Thought, beliefs: Sequence[Belief]) -> bool:
    """True when another round would hardly change what is believed."""
    newest = beliefs[-1]
    if newest.answer is None:
        return False
    if newest.probability >= number(thought.params, _PARAMS, "enough"):
        return True
    before = beliefs[-2] if len(beliefs) > 1 else Belief()
    is_same = before.answer is not None and _same(before.answer, newest.answer)
    return is_same and abs(newest.probability - before.probability) <= number(thought.params, _PARAMS, "settled")


def _told_of(thought: Thought, beliefs: Sequence[Belief]) -> tuple[int, str]:
    """The round that the next one is told of, and why there is a next one."""
    newest = len(beliefs) - 1
    best = max(range(len(beliefs)), key=lambda place: beliefs[place].probability)
    now, then = beliefs[newest].probability, beliefs[best].probability
    if then - now > number(thought.params, _PARAMS, "drop"):
        return best, f"belief fell from {then:.2f} to {now:.2f}: back to round {best + 1}"
    return newest, f"belief is {now:.2f}"


def _tally(verdict: Verdict, words: Wording) -> str:
    """A round's tally in words, heaviest first, a line each."""
    lines = [
        (words.voted_once if row.votes == 1 else words.voted).format_map({"answer": row.answer, "votes": row.votes})
        for row in verdict.tally
    ]
    return "\n".join(lines)[:MAX_QUESTION_CHARS] or words.no_answer


def _same(one: str, other: str) -> bool:
    return one == other or are_same(one, other)


STRATEGY = Strategy(think, asks={"whole": ("question",), _RECONSIDER: ("question", "earlier")}, params=_PARAMS)
