"""Every stopping rule on recorded answers of real models, against figures that were computed elsewhere."""

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from conclave.domain import counting
from conclave.domain.equivalence import EQUIVALENCES
from conclave.domain.stopping import shortest_stop
from conclave.domain.voting import majority
from conclave.testing import events as made
from conclave.testing.rules import next_wave, num_needed
from schemas.values import Ask, Ballot, StopReason

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


# Those of which the record says nothing, with and without what ends sampling whatever the rule.
OTHERS: dict[str, dict[str, Any]] = {
    "two_margins": {"stopping": "ahead_by_k", "params": {"lead": 3, "contested_lead": 5}},
    "doubling": {"stopping": "doubling", "params": {"first": 2}},
    "sprt": {"stopping": "sprt", "params": {}},
    "mixture_sprt": {"stopping": "mixture_sprt", "params": {}},
    "bayes_factor": {"stopping": "bayes_factor", "params": {}},
}


def ask(rule: str, *, bound: bool = False) -> Ask:
    """A rule as it is written down in its paper, or with the bound on top."""
    given = {**RULES, **OTHERS}[rule]
    params = {**given["params"], "bound": float(bound)}
    return made.ask(equivalence="verbatim", max_samples=NUM_RECORDED, stopping=given["stopping"], params=params)


def length_of(question: dict[str, Any], rule: Ask) -> int:
    """How many samples of a question there are when sampling ends."""
    stop = shortest_stop(labels_of(question["answers"]), rule, lambda answers: [AS_WRITTEN(answers)])
    return stop.length if stop else NUM_RECORDED


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
    assert figures(name, [length_of(each, ask(rule)) for each in questions(name)]) == EXPECTED[name][rule]


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("aime")])
@pytest.mark.parametrize("rule", [*RULES, *OTHERS])
def test_the_bound_saves_samples_and_changes_no_answer(name: str, rule: str) -> None:
    saved = 0
    for question in questions(name):
        length, whole = length_of(question, ask(rule, bound=True)), length_of(question, ask(rule))
        assert length <= whole
        saved += whole - length
        if length < whole and rule != "esc_w5":
            assert winner(question["answers"][:length]) == winner(question["answers"][:whole])
    # A leader who has no lead to speak of can't be safe before nearly all samples are in.
    assert saved < NUM_RECORDED * len(questions(name)) / 4


@pytest.mark.parametrize("name", FILES[:2])
@pytest.mark.parametrize("rule", OTHERS)
def test_waves_of_the_deficit_end_where_drawing_one_by_one_would(name: str, rule: str) -> None:
    for question in questions(name):
        labels = labels_of(question["answers"])
        one_by_one = (n for n in range(NUM_RECORDED) if num_needed(labels[:n], ask(rule, bound=True)) == 0)
        assert length_of(question, ask(rule, bound=True)) == next(one_by_one, NUM_RECORDED)


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
        stop = counting.stop(ballots, ask("esc_w5"))
        decisive = ballots[: stop.length] if stop else ballots
        reason = stop.reason if stop else StopReason.EXHAUSTED
        counted = counting.count(decisive, ask("esc_w5"), reason=reason)
        assert counted.result.answer == esc_answer(question["answers"], 5)


def test_on_the_record_the_window_and_the_overall_majority_part_now_and_then() -> None:
    parted = 0
    for name in FILES:
        for question in questions(name):
            length = length_of(question, ask("esc_w5"))
            parted += esc_answer(question["answers"], 5) != winner(question["answers"][:length])
    assert parted == 4
