"""`conclave sample`: questions in, recordings that `conclave replay` plays out."""

import hashlib
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from conclave.cli import recordings
from conclave.cli.replaying import replay
from conclave.cli.sampling import Question, recorded, sample
from conclave.testing import events as made
from schemas.events import PathDecoded, PathFailed
from schemas.values import PathFailure


@pytest.fixture(autouse=True)
def _scripted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CONCLAVE_ENGINE", "scripted")
    monkeypatch.setenv("CONCLAVE_MODEL", str(tmp_path))
    monkeypatch.setenv("CONCLAVE_SCRIPTED_LATENCY_MS", "0")
    (tmp_path / "model.safetensors").write_bytes(b"weights")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(sample, [str(each) for each in arguments], catch_exceptions=False, standalone_mode=True)


def test_a_question_set_becomes_recordings_that_can_be_replayed(tmp_path: Path) -> None:
    questions, out = tmp_path / "questions.jsonl", tmp_path / "mine.jsonl.gz"
    questions.write_text('{"id": "a", "question": "How many?", "answer": 7, "family": "x"}\n\n{"question": "Which?"}\n')
    result = run(questions, "--out", out, "--samples", 64)
    assert result.exit_code == 0, result.output
    found = recordings.read(out)
    assert [(each.id, each.gold, len(each.ballots)) for each in found] == [("a", "7", 64), ("1", None, 64)]
    ballots = [ballot for each in found for ballot in each.ballots]
    assert all(ballot.answer and ballot.tokens_out for ballot in ballots)
    assert all(ballot.mean_logprob is not None for ballot in ballots)  # 0.0, rounded, of one in thousands
    # Seven of ten are the right one, so that all are the same is one in ten thousand millions.
    assert len({ballot.answer for ballot in found[0].ballots}) > 1, "each sample is a path of its own"
    about = json.loads((tmp_path / "mine.jsonl.gz.about.json").read_text())
    assert (about["questions"], about["samples"], about["policy"], about["engine"]) == (2, 64, "default", "scripted")
    assert about["weights_sha256"] == hashlib.sha256(b"weights").hexdigest()
    played = CliRunner().invoke(replay, [str(out), "--rule", "standard", "--json"], catch_exceptions=False)
    assert played.exit_code == 0
    assert json.loads(played.output)["sets"] == {"mine": 2}


def test_what_failed_costs_and_says_nothing() -> None:
    context = made.context()
    ends: list[PathDecoded | PathFailed] = [
        made.decoded(context, 0, 2, "4"),
        made.failed(context, 1, 2, PathFailure.PROMPT_TOO_LONG),
    ]
    line = recorded(Question(question="?", answer="4"), 3, ends)
    assert (line.id, line.answers, line.tokens) == ("3", ["4", None], [5, 0])
    assert (line.mean_logprobs, line.probabilities) == ([-0.25, None], [])


@pytest.mark.parametrize(
    ("content", "arguments", "said"),
    [
        ("", (), "no questions"),
        ('{"id": 1}\n', (), "line 1: Object missing required field `question`"),
        ('{"question": "?"}\n', ("--policy", "nobody's"), "expected one with an ask 'whole'"),
    ],
)
def test_what_can_not_be_sampled_is_said(tmp_path: Path, content: str, arguments: tuple[str, ...], said: str) -> None:
    questions = tmp_path / "questions.jsonl"
    questions.write_text(content)
    result = run(questions, "--out", tmp_path / "out.jsonl", *arguments)
    assert result.exit_code != 0
    assert said in result.output
