"""A short answer first, and thought where it is not sure enough: a cascade, as FrugalGPT (arXiv 2305.05176) within one model."""

from conclave.domain.params import Param, number
from conclave.domain.thought import Conclude, Grow, Strategy, Thought, surest
from schemas.values import Step

_PARAMS = {"floor": Param(0.8, 0.0, 1.0)}
_DIRECT, _WHOLE = 0, 1


def think(thought: Thought) -> Grow | Conclude:
    """Ends on the direct answer from `floor` on, else on the one that was thought over."""
    if not thought.steps and not thought.must_end:
        return Grow((Step(index=_DIRECT, ask="direct", fields={"question": thought.question}),))
    first, floor = thought.verdicts.get(_DIRECT), number(thought.params, _PARAMS, "floor")
    sure = first.confidence if first and first.answer else 0.0
    if first and first.answer and sure >= floor:
        return Conclude(_DIRECT, sure)
    if len(thought.steps) > _WHOLE or thought.must_end:
        # What was thought over counts, however sure: figures of two asks do not compare.
        return surest(thought, among={_WHOLE}) if thought.answer(_WHOLE) else surest(thought)
    why = f"the direct answer is {sure:.2f} sure, below {floor:g}" if first and first.answer else "no direct answer"
    step = Step(
        index=_WHOLE, ask="whole", fields={"question": thought.question}, mark="thought over", depends_on=(0,), why=why
    )
    return Grow((step,))


STRATEGY = Strategy(think, asks={"direct": ("question",), "whole": ("question",)}, params=_PARAMS)
