"""Wider or deeper, by Thompson sampling: adaptive branching Monte Carlo tree search, AB-MCTS-A, arXiv 2503.04412, section 3.

From the first snapshot down, each snapshot may go *wider* (follow an option that nobody has followed) or *deeper* (into a
branch of its own). Each of these has a Beta posterior over Beta(1, 1), fed with the confidences of the steps that it has
brought forth so far; one draw each, and the highest is taken. The draws follow from the thought alone: asked twice, the
strategy says the same.
"""

import random
from collections.abc import Mapping, Sequence
from hashlib import blake2b

from conclave.domain.params import number
from conclave.domain.strategies import branches
from conclave.domain.strategies.branches import Option, Tree
from conclave.domain.thought import Conclude, Grow, Strategy, Thought, surest
from schemas.values import Step


def think(thought: Thought) -> Grow | Conclude:
    """The option that the draws lead to, followed; the end once a branch's end is sure enough or nothing more may be asked."""
    if not thought.steps and not thought.must_end:
        return branches.opening(thought)
    tree = branches.tree_of(thought)
    end = surest(thought, among=tree.finishes)
    if thought.must_end or end.confidence >= number(thought.params, branches.PARAMS, "floor") or not tree.may_finish():
        return end
    if not tree.may_look():
        return branches.finished(tree, "no more snapshots may be taken")
    found = _drawn(tree, _rng(thought))
    return end if found is None else branches.followed(tree, *found)


def _drawn(tree: Tree, rng: random.Random) -> tuple[Option, str] | None:
    """The option that is followed next, and why; None when all have been."""
    children: dict[int, list[Step]] = {}
    for step in tree.thought.steps[1:]:
        children.setdefault(step.depends_on[0] if step.depends_on else 0, []).append(step)
    at, told = 0, []
    while True:
        options = [each for each in tree.open_options if each.snapshot == at]
        below = [each for each in children.get(at, ()) if _has_open(tree, each.index, children)]
        if not options and not below:
            return None
        scores = {child.index: _scores(tree.thought, child.index, children) for child in below}
        drawn = {index: _draw(each, rng) for index, each in sorted(scores.items())}
        wider = _draw([_score(tree.thought, each.index) for each in children.get(at, ())], rng) if options else -1.0
        deeper = max(drawn, key=lambda index: drawn[index], default=None)
        if deeper is None or wider >= drawn[deeper]:
            if deeper is not None:
                told.append(f"wider at {at} ({wider:.2f} to {drawn[deeper]:.2f})")
            return options[0], ", ".join(told)
        if options:
            told.append(f"deeper at {at} ({drawn[deeper]:.2f} to {wider:.2f})")
        at = deeper


def _has_open(tree: Tree, index: int, children: Mapping[int, Sequence[Step]]) -> bool:
    """True when an option is left at a snapshot or anywhere below it."""
    if any(each.snapshot == index for each in tree.open_options):
        return True
    return any(_has_open(tree, child.index, children) for child in children.get(index, ()))


def _scores(thought: Thought, index: int, children: Mapping[int, Sequence[Step]]) -> list[float]:
    """The scores of a step and of all below it."""
    below = (score for child in children.get(index, ()) for score in _scores(thought, child.index, children))
    return [_score(thought, index), *below]


def _score(thought: Thought, index: int) -> float:
    verdict = thought.verdicts.get(index)
    return verdict.confidence if verdict is not None and verdict.answer else 0.0


def _draw(scores: Sequence[float], rng: random.Random) -> float:
    """A draw from the posterior of fractional successes, one a score."""
    return rng.betavariate(1.0 + sum(scores), 1.0 + sum(1.0 - each for each in scores))


def _rng(thought: Thought) -> random.Random:
    digest = blake2b(thought.question.encode("utf-8", "replace"), digest_size=8)
    for step in thought.steps:
        digest.update(f"\0{step.index}\0{step.mark}\0{_score(thought, step.index)!r}".encode())
    return random.Random(int.from_bytes(digest.digest()))


STRATEGY = Strategy(think, asks=branches.ASKS, params=branches.PARAMS)
