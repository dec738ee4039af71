"""Rounds of reflection, each told what the one before came to, until two rounds agree: self-refine (arXiv 2303.17651) by votes."""

from conclave.domain.equivalence import are_same
from conclave.domain.params import Param, whole_number
from conclave.domain.thought import Conclude, Grow, Strategy, Thought, surest
from schemas.values import MAX_QUESTION_CHARS, Step, Verdict

_PARAMS = {"rounds": Param(3, 1, 64, is_whole=True)}


def think(thought: Thought) -> Grow | Conclude:
    """Another round, or the end: on the newest round if it agrees with the one before, else on the surest."""
    num_rounds = len(thought.steps)
    if num_rounds == 0 and not thought.must_end:
        return Grow((Step(index=0, ask="whole", fields={"question": thought.question}, mark="round 1"),))
    newest, before = thought.answer(num_rounds - 1), thought.answer(num_rounds - 2)
    if newest and before and are_same(newest, before):
        return Conclude(num_rounds - 1, thought.verdicts[num_rounds - 1].confidence)
    if thought.must_end or num_rounds >= whole_number(thought.params, _PARAMS, "rounds"):
        return surest(thought)
    earlier = _told(thought.verdicts[num_rounds - 1])
    step = Step(
        index=num_rounds,
        ask="reconsider",
        fields={"question": thought.question, "earlier": earlier},
        mark=f"round {num_rounds + 1}",
        depends_on=(num_rounds - 1,),
        why="the last two rounds differ" if num_rounds > 1 else "",
    )
    return Grow((step,))


def _told(verdict: Verdict) -> str:
    """A round's tally in words, heaviest first: `36: 5 votes`, a line each."""
    lines = [f"{row.answer}: {row.votes} vote{'s' if row.votes != 1 else ''}" for row in verdict.tally]
    return "\n".join(lines)[:MAX_QUESTION_CHARS] or "no answer"


STRATEGY = Strategy(think, asks={"whole": ("question",), "reconsider": ("question", "earlier")}, params=_PARAMS)
