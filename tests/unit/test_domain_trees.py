"""What strategies that search do: lines that are followed, gone back from, blamed and thought again."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from conclave.domain.strategies import STRATEGIES
from conclave.domain.strategies.branches import path_of
from conclave.domain.thought import Conclude, Thought
from conclave.testing.strategies import Coming, verdict
from schemas.values import TallyRow
from tests.thoughts_played import Played


def test_a_tree_follows_the_heaviest_line_and_ends_its_branch_by_a_vote() -> None:
    thought = explored("tree", {"": [("1+1=2", 4)], "1+1=2": [("Answer: 2", 4)]}, {"1+1=2|Answer: 2": ("2", 1.0)})
    assert [(step.ask, step.mark, step.depends_on) for step in thought.steps] == [
        ("next_line", "start", ()),
        ("next_line", "1", (0,)),
        ("finish", "1.1", (1,)),
    ]
    assert (thought.end, thought.steps[2].fields["path"]) == (Conclude(2, 1.0), "1+1=2")


def test_a_tree_goes_back_to_the_best_earlier_snapshot_where_a_branch_gets_poor() -> None:
    lines = {
        "": [("a", 5), ("b", 4)],
        "a": [("x", 2), ("y", 2), ("z", 2)],
        "b": [("Answer: 7", 9)],
    }
    thought = explored("tree", lines, {"b|Answer: 7": ("7", 0.9)})
    assert [(step.mark, step.depends_on) for step in thought.steps] == [
        ("start", ()),
        ("1", (0,)),
        ("2", (0,)),
        ("2.1", (2,)),
    ]
    assert thought.steps[2].why == "line 1.1 has 0.33 of the votes, below 0.5: back to snapshot 0"
    assert thought.end == Conclude(3, 0.9)


def test_a_tree_whose_end_is_not_sure_enough_looks_on_and_answers_with_the_surest() -> None:
    lines = {"": [("Answer: 1", 5), ("Answer: 2", 4)]}
    thought = explored("tree", lines, {"Answer: 1": ("1", 0.3), "Answer: 2": ("2", 0.4)})
    assert [step.mark for step in thought.steps] == ["start", "1", "2"]
    assert thought.end == Conclude(2, 0.4)


@pytest.mark.parametrize("strategy", ["tree", "tree_sampled"])
def test_a_tree_that_never_ends_is_brought_to_an_end_from_its_best_branch(strategy: str) -> None:
    thought = explored(strategy, {}, {"*": ("5", 0.9)}, snapshots=4)
    assert [step.ask for step in thought.steps] == ["next_line"] * 4 + ["finish"]
    assert thought.steps[4].why == "no more snapshots may be taken"
    assert thought.end == Conclude(4, 0.9)


def test_wider_or_deeper_is_drawn_from_the_thought_alone_and_finds_the_surer_branch() -> None:
    lines = {"": [("a", 3), ("b", 3)], "a": [("x", 1), ("y", 1), ("z", 1)], "b": [("Answer: 7", 9)]}
    ends = {f"a|{line}": ("0", 0.1) for line in "xyz"} | {"b|Answer: 7": ("7", 0.9)}
    one, again = (explored("tree_sampled", lines, ends, snapshots=12, finishes=8) for _ in range(2))
    assert one == again
    assert one.end.confidence == 0.9
    assert any("wider at 0" in step.why or "deeper at 0" in step.why for step in one.steps)


BLAMED = {"": [("a", 5), ("b", 4)], "a": [("Answer: 1", 6)], "b": [("Answer: 2", 6)]}

ENDS = {"a|Answer: 1": ("1", 0.9), "b|Answer: 2": ("2", 0.8)}


def test_a_branch_that_its_critics_are_content_with_is_the_answer() -> None:
    thought = explored("tree_checked", BLAMED, ENDS, checks={"*": ("right", 3)})
    assert [(step.ask, step.mark) for step in thought.steps] == [
        ("next_line", "start"),
        ("next_line", "1"),
        ("finish", "1.1"),
        ("check", "check 1.1"),
    ]
    assert (thought.steps[3].fields["path"], thought.end) == ("a\nAnswer: 1", Conclude(2, 1.0))


def test_a_blamed_line_is_thought_again_with_what_was_said_of_it_and_never_followed_again() -> None:
    checks = {"a\nAnswer: 1": ("Step 1 is wrong: 2+2=4", 3), "*": ("right", 2)}
    thought = explored("tree_checked", BLAMED, ENDS, checks=checks)
    again = thought.steps[4]
    assert (again.ask, again.depends_on, again.why) == (
        "again_line",
        (3,),
        "line 1 of branch 1.1 is blamed: back to before it",
    )
    assert again.fields == {
        "question": "all of it?",
        "blamed": "a\nAnswer: 1",
        "criticism": "Step 1 is wrong: 2+2=4",
    }
    assert [path_of(step) for step in thought.steps[5:7]] == [("b",), ("b", "Answer: 2")]
    assert thought.end == Conclude(6, 1.0)


def test_lines_before_the_blamed_one_are_kept() -> None:
    lines = {"": [("a", 5)], "a": [("b", 5), ("c", 4)], "a|b": [("Answer: 1", 5)], "a|c": [("Answer: 2", 5)]}
    ends: dict[str, Coming] = {"a|b|Answer: 1": ("1", 0.9), "a|c|Answer: 2": ("2", 0.9)}
    checks = {"a\nb\nAnswer: 1": ("Step 2 is wrong: no", 3), "*": ("right", 3)}
    thought = explored("tree_checked", lines, ends, checks=checks)
    again = next(step for step in thought.steps if step.ask == "again_line")
    assert again.fields["path"] == "a"
    assert thought.end.step is not None
    assert path_of(thought.steps[thought.end.step]) == ("a", "c", "Answer: 2")


def test_branches_that_are_all_blamed_end_on_the_one_that_most_critics_are_content_with() -> None:
    checks = {"a\nAnswer: 1": ("Step 1 is wrong: no", 3), "b\nAnswer: 2": ("Step 1 is wrong: no", 2)}
    thought = explored("tree_checked", BLAMED, ENDS, checks=checks, finishes=2)
    assert thought.end.step == 6
    assert thought.end.confidence == pytest.approx(1 / 3)
    assert [step.ask for step in thought.steps].count("finish") == 2


@pytest.mark.parametrize("said", ["I can't say.", "Step 0 is wrong: no", "Step 9999 is wrong: no", ""])
def test_a_check_that_blames_no_line_leaves_the_branch_as_the_answer(said: str) -> None:
    thought = explored("tree_checked", BLAMED, ENDS, checks={"*": (said, 3)})
    assert (len(thought.steps), thought.end.step) == (4, 2)


def test_a_blame_of_what_the_end_added_goes_on_from_all_lines_that_there_are() -> None:
    checks = {"a\nAnswer: 1": ("Step 7 is wrong: no", 3), "*": ("right", 3)}
    thought = explored("tree_checked", BLAMED, ENDS, checks=checks)
    assert thought.steps[4].fields["path"] == "a"


def explored(
    strategy: str,
    lines: dict[str, list[tuple[str, int]]],
    ends: Mapping[str, Coming],
    checks: Mapping[str, tuple[str, int]] | None = None,
    **params: float,
) -> Played:
    """What comes of a tree: `lines` says what may come next after a branch (`one more` where it does not), `ends` to what
    a branch comes, `checks` what so many of three critics say of it; the others are content."""
    thought = Thought("all of it?", params, (), {}, must_end=False)
    while True:
        move = STRATEGIES[strategy].think(thought)
        if isinstance(move, Conclude):
            return Played(move, thought.steps)
        (step,) = move.steps
        branch = "|".join(path_of(step))
        if step.ask == "finish":
            come = verdict(step.index, ends.get(branch) or ends["*"])
        elif step.ask == "check":
            said, votes = (checks or {}).get(step.fields["path"]) or (checks or {})["*"]
            rows = [
                TallyRow(answer=said, votes=votes, weight=votes),
                TallyRow(answer="right", votes=3 - votes, weight=3 - votes),
            ]
            come = verdict(step.index, (said, votes / 3), tally=tuple(row for row in rows if row.votes))
        else:
            tally = tuple(
                TallyRow(answer=a, votes=n, weight=n) for a, n in lines.get(branch, [(f"more {step.index}", 3)])
            )
            share = tally[0].weight / sum(row.weight for row in tally)
            come = verdict(step.index, (tally[0].answer, share), tally=tally)
        thought = replace(thought, steps=(*thought.steps, step), verdicts={**thought.verdicts, step.index: come})
