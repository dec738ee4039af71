"""The tree that `conclave trace` draws."""

import json
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from conclave.cli.tracing import _tree


def step(index: int, answer: str | None, *, on: tuple[int, ...] = (), mark: str = "", why: str = "") -> dict[str, Any]:
    return {
        "step_index": index, "ask": "whole", "mark": mark, "depends_on": list(on), "question": f"part {index}?", "why": why,
        "outcome": "majority" if answer else None, "stop_reason": "confident", "answer": answer, "confidence": 0.9,
        "agreement": 1.0, "entropy": 0.0,
    }  # fmt: skip


def drawn(
    steps: list[dict[str, Any]],
    *,
    paths: Sequence[dict[str, Any]] = (),
    correlation: Sequence[dict[str, Any]] = (),
    **request: Any,
) -> list[str]:
    of: dict[str, Any] = {
        "question": "all of it?", "answer": "7", "failure": None, "policy": "least-to-most", "strategy": "least_to_most",
        "answered_by": 3, "answered_at": "now", "num_paths": 13, "tokens_out": 90, "elapsed_ms": 950.0,
    }  # fmt: skip
    found = {"request": [of | request], "steps": steps, "paths": list(paths), "turns": [], "flips": []}
    found |= {"correlation": list(correlation), "feedback": []}
    console = Console(width=200, record=True, highlight=False)
    with console.capture() as capture:
        console.print(_tree(found, full=False))
    return [line.rstrip() for line in capture.get().splitlines()]


STEPS = [
    step(0, "1: a?\n2: b?", mark="split"),
    step(1, "3", on=(0,), mark="#1"),
    step(2, None, on=(0,), mark="#2", why="it may help"),
    step(3, "7", on=(1, 2), mark="#3"),
]


def test_a_step_stands_under_the_first_that_it_leans_on() -> None:
    lines = drawn(STEPS)
    assert (
        lines[1]
        == "├── answer 7  (policy least-to-most, least_to_most, answered by #3, 4 steps, 13 paths, 90 tokens, 950 ms)"
    )
    places = {index: next(i for i, line in enumerate(lines) if f"step {index} " in line) for index in range(4)}
    assert places[0] < places[1] < places[3] < places[2]
    depths = {index: lines[place].index("step") // 4 for index, place in places.items()}
    assert depths == {0: 1, 1: 2, 2: 2, 3: 3}
    assert "step 3 [#3] whole with 2: 7 (majority, confident;" in lines[places[3]]
    assert lines[places[2]].endswith("undecided: part 2?  because: it may help")
    assert "split] whole: 1: a? 2: b? (" in lines[places[0]]


def test_a_path_that_was_cut_says_how_often_it_was_handed_on() -> None:
    lines = drawn([step(0, "7")], paths=[path(0, "7") | {"num_handed_on": 2}, path(1, "7")])
    assert [line for line in lines if "handed on 2 times" in line] == [
        line for line in lines if "path 0: 7 (3 tokens" in line
    ]
    assert len([line for line in lines if "handed on" in line]) == 1


def test_a_request_that_failed_or_goes_on_says_so() -> None:
    assert "answer failed: deadline" in drawn(STEPS, failure="deadline", answered_by=None)[1]
    assert (
        "not answered yet  (policy least-to-most, least_to_most)" in drawn(STEPS, answered_at=None, answered_by=None)[1]
    )


def path(index: int, vote: str | None, *, is_counted: bool = True) -> dict[str, Any]:
    return {
        "step_index": 0, "sample_index": index, "failure": None, "vote": vote, "is_counted": is_counted, "text": "so",
        "mean_logprob": None, "probability": None, "tokens_out": 3,
    }  # fmt: skip


def test_what_votes_are_worth_is_said_where_enough_right_answers_are_known() -> None:
    paths = [*(path(index, "7") for index in range(5)), path(5, None), path(6, "7", is_counted=False)]
    known = {"policy": "default", "rho": 0.5, "error_rate": 0.2, "num_questions": 30}
    told = [line for line in drawn([step(0, "7")], paths=paths, correlation=[known]) if "worth" in line]
    assert len(told) == 1
    assert told[0].endswith("(5 votes are worth 1.7: rho 0.50 over 30 questions)")
    for changed in ({"num_questions": 29}, {"rho": None}):
        lines = drawn([step(0, "7")], paths=paths, correlation=[known | changed])
        assert not any("worth" in line for line in lines)
    assert not any("worth" in line for line in drawn([step(0, "7")], paths=paths))


def test_a_branch_that_no_answer_leans_on_is_dim_and_why_it_was_left_is_said() -> None:
    steps = [
        step(0, "a", mark="start"),
        step(1, "x", on=(0,), mark="1"),
        step(2, "b", on=(0,), mark="2", why="line 1.1 has 0.33 of the votes, below 0.5: back to snapshot 0"),
        step(3, "7", on=(2,), mark="2.1"),
    ]
    request = {
        "question": "q", "answer": "7", "failure": None, "policy": "tree", "strategy": "tree", "answered_by": 3,
        "answered_at": "now", "num_paths": 9, "tokens_out": 90, "elapsed_ms": 1.0, "ended_by": "budget",
    }  # fmt: skip
    found: dict[str, Any] = {
        "request": [request],
        "steps": steps,
        "paths": [],
        "turns": [],
        "flips": [],
        "feedback": [],
    }
    console = Console(width=200, force_terminal=True, color_system="standard", highlight=False)
    with console.capture() as capture:
        console.print(_tree(found, full=False))
    lines = capture.get().splitlines()
    dim = {index: "\x1b[2m" in next(line for line in lines if f"step {index} " in line) for index in range(4)}
    assert dim == {0: False, 1: True, 2: False, 3: False}
    assert any("because: line 1.1 has 0.33 of the votes" in line for line in lines)
    assert any("ended by its budget" in line for line in lines)


def test_the_fields_of_a_structured_answer_say_how_sure_they_are() -> None:
    fields = [
        {"name": "total", "outcome": "majority", "confidence": 0.9375},
        {"name": "note", "outcome": "tie", "confidence": 0.5},
    ]
    for stored in (fields, json.dumps(fields)):
        (line,) = (
            line
            for line in drawn([step(0, None) | {"outcome": "no_answer", "field_votes": stored}])
            if "step 0" in line
        )
        assert "bits) fields total 0.938, note: no consensus: part 0?" in line
