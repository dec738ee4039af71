"""Search with going back by a critic's word: a finished branch is checked, and thought again from the line that is blamed.

Tree of thoughts (Yao et al. 2023, arXiv 2305.10601, section 3) whose evaluator sees whole branches: a vote on a line can't tell
one that most paths get wrong. What the critic said goes along with what is thought again (Shinn et al. 2023, Reflexion).

1. down the heaviest lines to the end of a branch, which is voted on (`finish`)
2. the branch with its answer is put to critics, who are voted on by the step that they blame (`check`)
3. critics that are content end it; else no branch through the blamed line is followed any more, and a snapshot is taken anew
   before that line, told of the branch and of what was said of it (`again_line`)
4. once no branch may be finished any more, the end is the one that critics were most content with
"""

from conclave.domain.criticism import blamed_step, is_content
from conclave.domain.params import Params
from conclave.domain.strategies import branches
from conclave.domain.strategies.branches import AGAIN, ENDS_WITH, FINISH, NEXT_LINE, Tree, path_of
from conclave.domain.thought import Conclude, Grow, Strategy, Thought
from schemas.values import MAX_QUESTION_CHARS, Step, Wording

CHECK = "check"
_ASKS = {
    NEXT_LINE: ("question",),
    FINISH: ("question",),
    CHECK: ("question", "path"),
    AGAIN: ("question", "blamed", "criticism"),
}
_PARAMS: Params = {
    name: branches.PARAMS[name] for name in ("snapshots", "finishes")
}  # it goes back once less than it finishes
_ROOM_FOR_ANSWER = 512  # characters of a branch's last line that its critic sees


def think(thought: Thought) -> Grow | Conclude:
    """The next line of the branch, its end, the check of that, or a new beginning before the line that was blamed."""
    if not thought.steps and not thought.must_end:
        return branches.opening(thought)
    if thought.must_end:
        return _best_end(thought)
    newest = thought.steps[-1]
    tree = branches.tree_of(thought, refused=_refused(thought))
    if newest.ask == CHECK:
        return _heeded(tree, newest)
    return _checked(thought, newest) if newest.ask == FINISH else _gone_on(tree, newest)


def _gone_on(tree: Tree, newest: Step) -> Grow | Conclude:
    """The heaviest line of the newest snapshot, followed; where there is none, the best branch that is open anywhere."""
    if not tree.may_look():
        return _ended(tree, "no more snapshots may be taken")
    here = next((each for each in tree.open_options if each.snapshot == newest.index), None)
    if here is not None:
        return branches.followed(tree, here)
    best = max(tree.open_options, key=lambda each: each.worth, default=None)
    if best is None:
        return _best_end(tree.thought)
    return branches.followed(tree, best, f"no line came of it: back to snapshot {best.snapshot}")


def _checked(thought: Thought, finish: Step) -> Grow | Conclude:
    """The end of a branch, put to its critics; the best end there is where it came to nothing."""
    answer = thought.answer(finish.index)
    if answer is None:
        return _best_end(thought)
    step = Step(
        index=len(thought.steps),
        ask=CHECK,
        fields={"question": thought.question, "path": _shown(finish, answer, thought.words(CHECK))},
        mark=f"check {finish.mark}"[:256],
        depends_on=(finish.index,),
    )
    return Grow((step,))


def _heeded(tree: Tree, check: Step) -> Grow | Conclude:
    """The end that critics are content with, or a new snapshot before the line that they blame."""
    thought, said = tree.thought, tree.thought.answer(check.index) or ""
    blamed = blamed_step(said, thought.words(CHECK))
    if blamed is None or not tree.may_finish():
        return _best_end(thought)
    if not tree.may_look():
        return _ended(tree, "no more snapshots may be taken")
    finish = _branch_of(thought, check)
    if finish is None:
        return _best_end(thought)
    kept = finish.fields.get("path", "").split("\n")[: blamed - 1]  # never the line that gives the answer
    fields = {
        "question": thought.question,
        "blamed": check.fields.get("path", ""),
        "criticism": said[:MAX_QUESTION_CHARS],
    }
    if any(kept):
        fields["path"] = "\n".join(kept)
    why = f"line {blamed} of branch {finish.mark} is blamed: back to before it"
    step = Step(
        index=len(thought.steps),
        ask=AGAIN,
        fields=fields,
        mark=f"again {1 + sum(each.ask == AGAIN for each in thought.steps)}",
        depends_on=(check.index,),
        why=why[:256],
    )
    return Grow((step,))


def _ended(tree: Tree, why: str) -> Grow | Conclude:
    """The best open branch brought to its end; the best end where there is none or none may be."""
    ended = branches.finished(tree, why)
    return ended if isinstance(ended, Grow) else _best_end(tree.thought)


def _refused(thought: Thought) -> tuple[tuple[str, ...], ...]:
    """The lines up to the blamed one of every branch that was gone back from."""
    found, words = [], thought.words(CHECK)
    for step in thought.steps:
        blamed = blamed_step(thought.answer(step.index) or "", words) if step.ask == CHECK else None
        if blamed is not None and (finish := _branch_of(thought, step)) is not None:
            found.append(path_of(finish)[:blamed])
    return tuple(found)


def _branch_of(thought: Thought, check: Step) -> Step | None:
    """The finished branch that a check is of; None for a check that is of none, which nobody grows here."""
    index = next(iter(check.depends_on), len(thought.steps))
    return thought.steps[index] if index < len(thought.steps) else None


def _best_end(thought: Thought) -> Conclude:
    """The finished branch that critics were most content with, the earliest of several; on none when none has an answer."""
    checks = [step for step in thought.steps if step.ask == CHECK and step.depends_on]
    content = {step.depends_on[0]: _content(thought, step) for step in checks}
    ends = [step.index for step in thought.steps if step.ask == FINISH and thought.answer(step.index)]
    best = max(ends, key=lambda index: content.get(index, 0.0), default=None)
    if best is None:
        return Conclude(None)
    return Conclude(best, content.get(best, thought.verdicts[best].confidence))


def _content(thought: Thought, check: Step) -> float:
    """The share of a branch's critics that find nothing wrong; 0.5, that is, nobody knows, where none said anything."""
    verdict = thought.verdicts.get(check.index)
    total = sum(row.weight for row in verdict.tally) if verdict is not None else 0.0
    if verdict is None or not total:
        return 0.5
    return sum(row.weight for row in verdict.tally if is_content(row.answer, thought.words(CHECK))) / total


def _shown(finish: Step, answer: str, words: Wording) -> str:
    """A branch as its critic sees it: its lines, and what it came to."""
    last = finish.fields.get(ENDS_WITH) or words.answered.format_map({"answer": answer})
    told = finish.fields.get("path", "")
    return f"{told}\n{last[:_ROOM_FOR_ANSWER]}"[-MAX_QUESTION_CHARS:].lstrip("\n")


STRATEGY = Strategy(think, asks=_ASKS, params=_PARAMS)
