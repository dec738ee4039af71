"""What the benchmark against others makes of what they and we answered."""

import json
from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path

import pytest

from benchmarks import against_others
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


async def test_problems_are_shared_out_among_rounds_and_every_row_of_the_table_finds_its_figure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[list[str]] = []

    async def ours(problems: Sequence[Mapping[str, str]]) -> dict[tuple[str, int], Run]:
        asked.append([each["id"] for each in problems])
        return {(name, budget): Run((True,) * len(problems), 1.0, 9) for name in OURS for budget in (8, 16)}

    async def theirs(problems: Sequence[Mapping[str, str]], python: Path) -> dict[tuple[str, int], Run]:
        return {(name, budget): Run((True,) * len(problems), 4.0, 9) for name in THEIRS for budget in (8, 16)}

    monkeypatch.setattr(against_others, "ours", ours)
    monkeypatch.setattr(against_others, "theirs", theirs)
    figures = json.loads(json.dumps(await against_others.measure([{"id": each} for each in "abcd"], 2, Path())))
    assert asked == [["a", "c"], ["b", "d"]]
    rows = [row for row in ROWS if row.result == "against_others"]
    assert [reduce(lambda part, key: part[key], row.at, figures) for row in rows] == [4.0] * len(THEIRS)
