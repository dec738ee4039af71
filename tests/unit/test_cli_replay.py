"""`conclave replay`: files in, figures and a frontier out."""

import gzip
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result

from conclave.cli.frontier import Point, on_frontier, plot, svg
from conclave.cli.recordings import of_stored
from conclave.cli.replaying import replay

REPLAY = Path(__file__).parents[1] / "data" / "replay"
EXPECTED: dict[str, Any] = json.loads((REPLAY / "expected.json").read_text())
NAME = "aime2024_Qwen3-4B"
LINE = {"id": 1, "gold": "4", "answers": ["4", "5", "4", "4"], "tokens": [9, 9, 9, 9]}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(replay, [str(each) for each in arguments], catch_exceptions=False, standalone_mode=True)


def figures(*arguments: object) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads(result.output)
    return document


@pytest.mark.parametrize(
    "rule", ["adaptive_consistency:bound=0", "early_stopping:bound=0", "ahead_by_k:lead=4,bound=0"]
)
def test_its_figures_are_those_that_are_expected_of_the_recorded_sets(rule: str) -> None:
    key = {"adaptive": "ac_beta_0.95", "early": "esc_w5", "ahead": "ahead_4"}[rule.partition("_")[0]]
    expected, num_questions = EXPECTED[NAME][key], EXPECTED[NAME]["questions"]
    (way,) = figures(REPLAY / f"{NAME}.jsonl.gz", "--equivalence", "verbatim", "--rule", rule)["ways"]
    assert round(way["samples"]["value"], 4) == expected["mean_samples"]
    assert round(way["accuracy"] * num_questions) == expected["correct"]


def test_all_combinations_are_played_and_a_quality_is_a_rule(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text(json.dumps(LINE | {"mean_logprobs": [-0.1, -2.0, -0.2, None]}) + "\n\n")
    found = figures(
        file, "--rule", "economy", "--rule", "fixed",
        "--weighing", "alike", "--weighing", "softmax_likelihood:weight_temperature=0.5",
        "--schedule", "waves", "--schedule", "at_once",
    )  # fmt: skip
    assert len(found["ways"]) == 8
    assert [way["name"] for way in found["ways"][:4]] == [
        "economy",
        "economy at_once",
        "economy softmax_likelihood:weight_temperature=0.5",
        "economy softmax_likelihood:weight_temperature=0.5 at_once",
    ]
    assert found["sets"] == {"mine": 1}
    said = dict(line.split(": ", 1) for line in found["weighings"])
    assert said["likelihood"] == "discriminates within 1 questions by 1.000 [1.000, 1.000]: recommended as weight"
    assert said["brevity"] == "discriminates within 1 questions by 0.500 [0.500, 0.500]: not recommended as weight"


def test_what_is_printed_has_every_way_with_its_letter_the_frontier_and_what_votes_are_worth(tmp_path: Path) -> None:
    hard = LINE | {"id": 2, "answers": ["5", "5", "5", "4"]}
    file, picture = tmp_path / "mine.jsonl.gz", tmp_path / "frontier.svg"
    file.write_bytes(gzip.compress(f"{json.dumps(LINE)}\n{json.dumps(hard)}\n".encode()))
    result = run(file, "--rule", "fixed", "--rule", "ahead_by_k:lead=1", "--svg", picture, "--orders", 3)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0] == "mine: 2 questions, 2 with a right answer, up to 4 samples each"
    assert any(line.startswith("b  ahead_by_k:lead=1") for line in lines)
    assert "mine: errors correlate by 0.00: 4 votes are worth 4.0 independent ones" in lines
    texts = {text.text for text in ElementTree.parse(picture).iter("{http://www.w3.org/2000/svg}text")}
    assert {"fixed", "ahead_by_k:lead=1"} <= texts


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rule", "best"], "--rule: expected one of fixed, adaptive_consistency"),
        (["--weighing", "heavy"], "--weighing: expected one of alike, likelihood"),
        (["--schedule", "never"], "--schedule: expected one of waves"),
        (["--equivalence", "x"], "--equivalence: expected one of short_answer, math, verbatim"),
        (["--rule", "ahead_by_k:width=3"], "ahead_by_k:width=3: width: expected one of lead, contested_lead, bound"),
        (["--rule", "ahead_by_k:lead=0"], "lead: expected a whole number from 1 to 256, got 0"),
        (["--rule", "ahead_by_k:lead"], "--rule ahead_by_k: expected lead=NUMBER, got lead"),
        (["--stored"], "give one or more FILEs, or --stored"),
        (["--since", "7d", "--policy", "default"], "with --stored, give --since"),
        (["--policy", "default"], "with --stored, give --since"),
        (["--since", "long ago"], "expected 30m, 12h, 7d or a date"),
    ],
)
def test_what_is_wrong_is_said_with_what_was_expected(tmp_path: Path, arguments: list[str], said: str) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text(json.dumps(LINE))
    result = run(file, *arguments)
    assert result.exit_code != 0
    assert said in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"id": 1}', "line 1: Object missing required field `answers`"),
        (
            json.dumps(LINE) + '\n{"id": 1, "answers": ["4"], "tokens": [1, 2]}',
            "line 2: `tokens` must be as many as `answers`",
        ),
        ('{"id": 1, "answers": []}', "line 1: `answers` must hold 1 to 256 samples"),
        ('{"id": 1, "answers": ["4"], "golden": "4"}', "line 1: Object contains unknown field `golden`"),
        ("", "no recordings in it"),
    ],
)
def test_a_file_that_is_not_as_it_should_be_is_named_with_the_line(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text(text)
    result = run(file)
    assert result.exit_code == 1
    assert "mine.jsonl" in result.output
    assert said in result.output


def stored(request: str, index: int, answer: str | None, failure: str | None = None) -> dict[str, Any]:
    figures = {"probability": None, "mean_logprob": -0.5, "answer_logprob": None, "lowest_group_logprob": None}
    return {
        "request_id": request, "sample_index": index, "answer": answer, "failure": failure, "tokens_out": 7, "gold": "4",
        "tail_logprob": -0.25, "is_declined": False, **figures,
    }  # fmt: skip


def test_of_the_record_what_was_cancelled_or_lies_beyond_a_gap_is_not_played_again() -> None:
    rows = [
        stored("a", 0, "4"), stored("a", 1, None, "engine"), stored("a", 2, "5"), stored("a", 3, None, "cancelled"),
        stored("a", 4, "4"),
        stored("b", 0, "4"), stored("b", 2, "4"),
        stored("c", 1, "4"),
    ]  # fmt: skip
    found = of_stored(rows)
    assert [(each.id, [ballot.answer for ballot in each.ballots]) for each in found] == [
        ("a", ["4", None, "5"]),
        ("b", ["4"]),
    ]
    assert (found[0].gold, found[0].ballots[0].tail_logprob, found[0].ballots[0].tokens_out) == ("4", -0.25, 7)


def test_the_frontier_is_what_nothing_beats_with_fewer_samples() -> None:
    points = [Point(name, samples, change, change, change) for name, samples, change in
              [("a", 3, -1.0), ("b", 5, -0.5), ("c", 5, -0.7), ("d", 8, -0.6), ("e", 9, 0.0)]]  # fmt: skip
    assert [point.name for point in on_frontier(points)] == ["a", "b", "e"]
    drawn = plot(points)
    assert all(sum(letter in line.partition("│")[2] for line in drawn) == 1 for letter in "abcde")


@pytest.mark.parametrize("points", [[], [Point("<&>", 0.0, 0.0, 0.0, 0.0)]])
def test_nothing_and_a_single_point_are_drawn_too(points: list[Point]) -> None:
    assert plot(points)
    ElementTree.fromstring(svg(points, "votes & <more>"))
