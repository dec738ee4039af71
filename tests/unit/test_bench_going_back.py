"""What the benchmark of going back makes of answers."""

from benchmarks.going_back import compared
from training.generator import held_out
from training.reasoning import Answered


def test_fewer_wrong_answers_are_told_of_the_same_problems() -> None:
    problems = held_out(10)
    right = [Answered(str(each.answer), 10, 100, 4, 3) for each in problems]
    wrong = [Answered(None, 5, 50, 2, 2) for _ in problems]
    figures = compared([*right[:8], *wrong[8:]], [*right[:6], *wrong[6:]], problems)
    assert figures["fewer_wrong_pct"] == 50.0
    assert figures["going back"] == {"right_pct": 80.0, "paths": 3.6, "tokens": 9.0}
    assert figures["never"] == {"right_pct": 60.0, "paths": 3.2, "tokens": 8.0}
