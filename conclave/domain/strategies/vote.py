"""One vote on the question itself: self-consistency, arXiv 2203.11171."""

from conclave.domain.thought import Conclude, Grow, Strategy, Thought, surest
from schemas.values import Step


def think(thought: Thought) -> Grow | Conclude:
    """The question as the only step; its answer is the request's."""
    if thought.steps or thought.must_end:
        return surest(thought)
    return Grow((Step(index=0, ask="whole", fields={"question": thought.question}),))


STRATEGY = Strategy(think, asks={"whole": ("question",)})
