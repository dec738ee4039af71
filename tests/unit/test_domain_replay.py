"""Every stopping rule on recorded answers of real models, against figures that were computed elsewhere."""

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from conclave.domain import counting
from conclave.domain.equivalence import EQUIVALENCES
from conclave.domain.stopping import next_wave, shortest_stop
from conclave.domain.voting import majority
from conclave.testing import events as made
from schemas.values import Ask, Ballot

REPLAY = Path(__file__).parents[1] / "data" / "replay"
EXPECTED: dict[str, Any] = json.loads((REPLAY / "expected.json").read_text())
FILES = sorted(name for name in EXPECTED if not name.startswith("_"))
NUM_RECORDED = 40
AS_WRITTEN = EQUIVALENCES["verbatim"]  # the record compares answers as strings

RULES: dict[str, dict[str, Any]] = {
    "ac_beta_0.95": {"stopping": "adaptive_consistency", "params": {"stop_confidence": 0.95}},
    "esc_w5": {"stopping": "early_stopping", "params": {"window": 5}},
    "ahead_3": {"stopping": "ahead_by_k", "params": {"lead": 3}},
    "ahead_4": {"stopping": "ahead_by_k", "params": {"lead": 4}},
}


def ask(rule: str) -> Ask:
    return made.ask(equivalence="verbatim", max_samples=NUM_RECORDED, **RULES[rule])


@cache
def questions(name: str) -> list[dict[str, Any]]:
    with gzip.open(REPLAY / f"{name}.jsonl.gz") as lines:
        return [json.loads(line) for line in lines]


def winner(answers: list[str | None]) -> str | None:
    ballots = [Ballot(sample_index=index, answer=answer) for index, answer in enumerate(answers)]
    return majority(ballots, AS_WRITTEN(labels_of(answers)), made.ask()).answer


def labels_of(answers: list[str | None]) -> list[str]:
    return [answer or "" for answer in answers]


def figures(name: str, lengths: list[int]) -> dict[str, float]:
    """What it comes to when each question's vote is over its first so many samples."""
    asked = list(zip(questions(name), lengths, strict=True))
    return {
        "correct": sum(winner(question["answers"][:length]) == question["gold"] for question, length in asked),
        "samples": sum(lengths),
        "mean_samples": round(sum(lengths) / len(lengths), 4),
        "tokens": sum(sum(question["tokens"][:length]) for question, length in asked),
    }


def test_all_recorded_files_are_here() -> None:
    assert sorted(file.name.removesuffix(".jsonl.gz") for file in REPLAY.glob("*.jsonl.gz")) == FILES
    assert [len(questions(name)) for name in FILES] == [EXPECTED[name]["questions"] for name in FILES]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("num_samples", [1, 5, 10, 20, 40])
def test_majority_of_the_first_n_is_right_as_often_as_recorded(name: str, num_samples: int) -> None:
    lengths = [num_samples] * len(questions(name))
    assert figures(name, lengths)["correct"] == EXPECTED[name][f"sc@{num_samples}"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("rule", RULES)
def test_a_rule_stops_where_it_stopped_in_the_record(name: str, rule: str) -> None:
    stops = [shortest_stop(labels_of(question["answers"]), ask(rule), AS_WRITTEN) for question in questions(name)]
    assert figures(name, [stop or NUM_RECORDED for stop in stops]) == EXPECTED[name][rule]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("rule", RULES)
def test_deficit_waves_launch_no_sample_more_than_a_rule_would_drawing_one_by_one(name: str, rule: str) -> None:
    lengths = []
    for question in questions(name):
        launched = 0
        while wave := next_wave(labels_of(question["answers"][:launched]), ask(rule)):
            launched += wave
        lengths.append(launched)
    assert figures(name, lengths) == EXPECTED[name][rule]


@pytest.mark.parametrize("name", FILES)
def test_the_oracle_stops_once_the_leader_never_changes_again(name: str) -> None:
    lengths = []
    for question in questions(name):
        leaders = [winner(question["answers"][:length]) for length in range(1, NUM_RECORDED + 1)]
        lengths.append(next(n for n in range(1, NUM_RECORDED + 1) if len(set(leaders[n - 1 :])) == 1))
    assert figures(name, lengths) == EXPECTED[name]["oracle_settle"]


def esc_answer(answers: list[str | None], width: int) -> str | None:
    """ESC's algorithm 1, written down as the paper has it: the first window that agrees, else the majority of all."""
    for first in range(0, len(answers) - width + 1, width):
        said = set(answers[first : first + width])
        if len(said) == 1 and None not in said:
            return said.pop()
    return winner(answers)


@pytest.mark.parametrize("name", FILES)
def test_early_stopping_answers_with_the_window_that_agreed(name: str) -> None:
    for question in questions(name):
        ballots = [Ballot(sample_index=index, answer=answer) for index, answer in enumerate(question["answers"])]
        length = counting.stop(ballots, ask("esc_w5"))
        counted = counting.count(ballots[:length], ask("esc_w5"), is_satisfied=length is not None)
        assert counted.result.answer == esc_answer(question["answers"], 5)


def test_on_the_record_the_window_and_the_overall_majority_part_now_and_then() -> None:
    parted = 0
    for name in FILES:
        for question in questions(name):
            length = shortest_stop(labels_of(question["answers"]), ask("esc_w5"), AS_WRITTEN) or NUM_RECORDED
            parted += esc_answer(question["answers"], 5) != winner(question["answers"][:length])
    assert parted == 4
