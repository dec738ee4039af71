"""What the benchmark against others makes of what they and we answered."""

import pytest

from benchmarks.against_others import OURS, THEIRS, Run, is_right, ratios, told
from benchmarks.table import ROWS
from benchmarks.vllm_server import generated_tokens


def test_rates_are_over_all_problems_and_seconds_of_all_rounds() -> None:
    figures = told([Run((True, False), 1.0, 100), Run((True, True), 3.0, 200)])
    assert figures == {"right_pct": 75.0, "answers_s": 1.0, "right_answers_s": 0.75, "tokens_an_answer": 75.0}


@pytest.mark.parametrize(
    ("text", "is_so"),
    [("7 + 5 = 12\nAnswer: 12", True), ("Answer: 13", False), ("7 + 5 = 12", False), ("", False)],
)
def test_a_text_is_right_by_the_number_that_it_ends_with(text: str, is_so: bool) -> None:
    assert is_right(text, "12") is is_so


def test_a_ratio_is_ours_over_theirs() -> None:
    figures = {name: {"right_answers_s": 6.0} for name in OURS} | {name: {"right_answers_s": 2.0} for name in THEIRS}
    assert ratios(figures) == {name: dict.fromkeys(THEIRS, 3.0) for name in OURS}


def test_the_table_asks_for_ways_that_there_are() -> None:
    asked = {row.at[2:] for row in ROWS if row.result == "against_others"}
    assert asked == {("conclave, confident", name) for name in THEIRS}


def test_tokens_are_those_of_all_engines_of_a_server() -> None:
    metrics = (
        "# TYPE vllm:generation_tokens_total counter\n"
        'vllm:generation_tokens_total{engine="0",model_name="reasoner"} 1200.0\n'
        'vllm:generation_tokens_total{engine="1",model_name="reasoner"} 34.0\n'
        'vllm:generation_tokens_created{engine="0",model_name="reasoner"} 1.7e+09\n'
    )
    assert generated_tokens(metrics) == 1234
