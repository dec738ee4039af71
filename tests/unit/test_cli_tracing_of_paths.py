"""A trace says what a path of several turns did, in a line or in full."""

from typing import Any

from conclave.cli.tracing import _path

PATH: dict[str, Any] = {
    "step_index": 0, "sample_index": 0, "failure": None, "vote": "312", "text": "a 347+85=432\nAnswer: 312", "is_counted": True,
    "tokens_out": 96, "mean_logprob": -0.25, "probability": None,
}  # fmt: skip


def turn(form: str, text: str, **more: Any) -> dict[str, Any]:
    """A row of path_turns."""
    return {"form": form, "text": text, "tool": None, "answer": None, "called": None, "argument": None} | more


CRITICISED = [
    turn("chain_of_thought", "a 347+85=422", answer="302"),
    turn("criticise", "a 347+85=422? no", answer="Step 1 is wrong: 347+85=422"),
    turn("retry", PATH["text"]),
]
CALLING = [
    turn("tool", "calculate(347+85", called="whole_calculator", argument="347+85"),
    turn("tool", ")=432\n", tool="whole_calculator", answer="432"),
    turn("tool", "Answer: 432"),
]


def test_a_path_of_one_turn_is_shown_by_its_text() -> None:
    shown = _path(PATH, [], is_flip=False, full=False)
    assert shown == "path 0: 312 (96 tokens, logprob -0.25): a 347+85=432 Answer: 312"


def test_a_path_of_several_turns_says_what_came_of_each() -> None:
    shown = _path(PATH, CRITICISED, is_flip=True, full=False)
    told = "3 turns: chain_of_thought → 302; criticise → Step 1 is wrong: 347+85=422; retry; 96 tokens"
    assert shown.startswith(f"path 0: 312 ({told}, logprob -0.25, takes the lead): a 347")


def test_a_call_is_shown_with_its_result() -> None:
    shown = _path(PATH, CALLING, is_flip=False, full=False)
    assert "(2 turns: whole_calculator(347+85) = 432; tool; 96 tokens" in shown


def test_all_turns_are_printed_in_full_under_their_forms() -> None:
    shown = _path({**PATH, "probability": 0.95}, CALLING, is_flip=False, full=True)
    assert "says 95% sure" in shown
    assert shown.endswith("\n[tool] calculate(347+85\n[whole_calculator] )=432\n\n[tool] Answer: 432")


def test_turns_that_only_a_forged_event_has_are_shown_all_the_same() -> None:
    assert "1 turns" in _path(PATH, [turn("tool", "x", tool="calculator")], is_flip=False, full=False)
