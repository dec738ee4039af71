"""Search with going back: line by line down the best branch, and back to the best earlier snapshot where it gets poor.

Tree of thoughts, arXiv 2305.10601, by votes: what its evaluator would say of a line is its share of the paths.
"""

from conclave.domain.params import number
from conclave.domain.strategies import branches
from conclave.domain.strategies.branches import Option, Tree
from conclave.domain.thought import Conclude, Grow, Strategy, Thought, surest


def think(thought: Thought) -> Grow | Conclude:
    """The next line of the branch, or of a better one; its end; and another branch where that end is not sure enough."""
    if not thought.steps and not thought.must_end:
        return branches.opening(thought)
    tree = branches.tree_of(thought)
    floor = number(thought.params, branches.PARAMS, "floor")
    end = surest(thought, among=tree.finishes)
    if thought.must_end or end.confidence >= floor or not tree.may_finish():
        return end
    if not tree.may_look():
        return branches.finished(tree, "no more snapshots may be taken")
    newest = thought.steps[-1]
    here = next((each for each in tree.open_options if each.snapshot == newest.index), None)
    if here is not None and here.share >= floor:
        return branches.followed(tree, here)
    best = max(tree.open_options, key=lambda each: each.worth, default=None)
    return branches.followed(tree, best, _why(tree, here, best, floor)) if best else end


def _why(tree: Tree, here: Option | None, best: Option, floor: float) -> str:
    if here is None:
        newest = tree.thought.steps[-1]
        told = "its end is not sure enough" if newest.ask == branches.FINISH else "no line came of it"
        return f"{told}: back to snapshot {best.snapshot}"
    if best.snapshot == here.snapshot:
        return f"{here.share:.2f} of the votes, below {floor:g}, and no better branch is open"
    return f"line {here.mark} has {here.share:.2f} of the votes, below {floor:g}: back to snapshot {best.snapshot}"


STRATEGY = Strategy(think, asks=branches.ASKS, params=branches.PARAMS)
