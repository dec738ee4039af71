"""What the live measure of a vote makes of answers."""

from pathlib import Path

from benchmarks.vote_live import Came, full_vote, told
from conclave.cli import recordings
from conclave.domain.replay import Recording

RECORDED = Path(__file__).parents[1] / "data/replay_own/reasoner_held-out.jsonl.gz"


def test_the_full_vote_is_the_majority_of_all_recorded_paths() -> None:
    question: Recording = next(iter(recordings.read(RECORDED)))
    came = full_vote(question)
    assert (came.is_right, came.paths) == (True, 40)
    assert came.tokens == sum(ballot.tokens_out for ballot in question.ballots)


def test_figures_are_of_the_same_questions_side_by_side() -> None:
    figures = told([Came(True, 5, 50), Came(False, 5, 50)], [Came(True, 40, 400), Came(True, 40, 400)])
    assert figures["share_of_tokens"] == 0.125
    assert figures["change_points"] == -50.0
    assert figures["live"] == {"right_pct": 50.0, "paths": 5.0, "tokens": 50.0}
