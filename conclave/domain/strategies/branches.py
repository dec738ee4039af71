"""A question thought through line by line, as a tree: what the searches in it share.

A *snapshot* is a step of ask `next_line` or `again_line`: it was told the lines of a branch (`path`), and its tally holds the
lines that may come next, heaviest first. Each of them is an *option*; one that is followed becomes the next snapshot, so every
branch stands in the thought. A branch is ended by ask `finish`, which goes on from its lines to the answer, and is voted on.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import exp, log

from conclave.domain import bounds, wording
from conclave.domain.params import Param, Params, whole_number
from conclave.domain.thought import Conclude, Grow, Thought, surest
from schemas.values import MAX_QUESTION_CHARS, Step

NEXT_LINE, AGAIN, FINISH = "next_line", "again_line", "finish"
ASKS = {NEXT_LINE: ("question",), FINISH: ("question",)}
# Below `floor` a branch is left for a better one, and an answer is looked for on another branch.
PARAMS: Params = {
    "floor": Param(0.5, 0.0, 1.0),
    "snapshots": Param(24, 1, 60, is_whole=True),
    "finishes": Param(2, 1, 8, is_whole=True),
}

ENDS_WITH = "ends_with"  # a field that no form wants: the line with which a finished branch ended
_SNAPSHOTS = frozenset({NEXT_LINE, AGAIN})
_LEAST_SHARE = 1e-3


@dataclass(frozen=True, slots=True)
class Option:
    """A line that may come next at a snapshot. `share` is its part of the vote, `worth` the mean of the branch's shares."""

    snapshot: int
    row: int
    line: str
    mark: str
    path: tuple[str, ...]  # all lines of the branch, this one the last
    share: float
    worth: float  # geometric mean: longer branches are not worth less for their length
    is_final: bool  # the line gives the answer: what it is, `finish` says


@dataclass(frozen=True, slots=True)
class Tree:
    """The thought as a tree."""

    thought: Thought
    options: tuple[Option, ...]  # of all snapshots, in the order of these and heaviest first
    followed: frozenset[tuple[str, ...]]  # the branches that were gone on with, or finished
    refused: tuple[tuple[str, ...], ...] = ()  # those through which none is gone on with

    @property
    def open_options(self) -> tuple[Option, ...]:
        """Those that nobody has followed, and that go through no refused branch."""
        return tuple(each for each in self.options if each.path not in self.followed and not self._is_refused(each))

    @property
    def finishes(self) -> tuple[int, ...]:
        """The steps that ended a branch."""
        return tuple(step.index for step in self.thought.steps if step.ask == FINISH)

    def may_look(self) -> bool:
        """True while another snapshot may be taken."""
        num_snapshots = sum(step.ask in _SNAPSHOTS for step in self.thought.steps)
        return num_snapshots < whole_number(self.thought.params, PARAMS, "snapshots")

    def may_finish(self) -> bool:
        """True while another branch may be ended."""
        return len(self.finishes) < whole_number(self.thought.params, PARAMS, "finishes")

    def _is_refused(self, option: Option) -> bool:
        return any(each and option.path[: len(each)] == each for each in self.refused)


def tree_of(thought: Thought, refused: tuple[tuple[str, ...], ...] = ()) -> Tree:
    """The thought as a tree, whose branches through `refused` ones are not open."""
    options: list[Option] = []
    for step in thought.steps:
        if step.ask in _SNAPSHOTS:
            options += _options(thought, step, options)
    followed = frozenset(path_of(step) for step in thought.steps if step.ask != AGAIN and path_of(step))
    return Tree(thought, tuple(options), followed, refused)


def path_of(step: Step) -> tuple[str, ...]:
    """The lines of the branch that a step goes on with. What ends one was not told its last line, which gives the answer."""
    told, last = step.fields.get("path"), step.fields.get(ENDS_WITH)
    return (*(told.split("\n") if told else ()), *((last,) if last else ()))


def opening(thought: Thought) -> Grow:
    """The first snapshot, that of the question alone."""
    return Grow((Step(index=0, ask=NEXT_LINE, fields={"question": thought.question}, mark="start"),))


def followed(tree: Tree, option: Option, why: str = "") -> Grow:
    """The branch of an option, gone on with: the next snapshot, or its end where the line gives the answer."""
    return _grown(tree, FINISH if option.is_final else NEXT_LINE, option, why)


def finished(tree: Tree, why: str) -> Grow | Conclude:
    """The best branch brought to its end from where it stands; the end itself where there is none to be brought to it."""
    best = max(tree.open_options, key=lambda each: (len(each.path), each.worth), default=None)
    if best is None or not tree.may_finish():
        return surest(tree.thought, among=tree.finishes)
    return _grown(tree, FINISH, best, why)


def _grown(tree: Tree, ask: str, option: Option, why: str) -> Grow:
    """A step that goes on from an option's branch; one that ends it says the answer again, so that this is read and voted on."""
    is_told = option.path[:-1] if option.is_final else option.path
    fields = {"question": tree.thought.question}
    if is_told:
        fields["path"] = "\n".join(is_told)
    if option.is_final:
        fields[ENDS_WITH] = option.line
    step = Step(
        index=len(tree.thought.steps),
        ask=ask,
        fields=fields,
        mark=option.mark[:256],
        depends_on=(option.snapshot,),
        why=why[:256],
    )
    return Grow((step,))


def _options(thought: Thought, step: Step, earlier: Sequence[Option]) -> Iterator[Option]:
    """What may come next at a snapshot. Lines that were cut can't be gone on from; neither can paths that would not fit."""
    verdict, path = thought.verdicts.get(step.index), path_of(step)
    if verdict is None or not verdict.answer:
        return
    before = next((each for each in earlier if each.path == path), None)
    root = step.mark if step.ask == AGAIN else before.mark if before else ""
    total = sum(row.weight for row in verdict.tally) or 1.0
    for place, row in enumerate(verdict.tally):
        line = (verdict.answer if place == 0 else row.answer).strip()
        told = "\n".join((*path, line))
        if not line or "\n" in line or bounds.is_cut(line) or len(told) > MAX_QUESTION_CHARS:
            continue
        share = row.weight / total
        logs = log(max(share, _LEAST_SHARE)) + (len(path) * log(max(before.worth, _LEAST_SHARE)) if before else 0.0)
        mark = f"{root}.{place + 1}" if root else str(place + 1)
        worth, is_final = exp(logs / (len(path) + 1)), wording.is_said(thought.words(step.ask).gives_answer, line)
        yield Option(step.index, place, line, mark, (*path, line), share, worth, is_final)
