"""Experiments as files: read, checked, and what may be done to them."""

from pathlib import Path

import pytest

from conclave.experiments import Found, load, pinned
from conclave.experiments.changes import Impossible, ended, newest, started
from conclave.policies import shipped
from conclave.testing import events as made
from schemas import codec
from schemas.experiments import Arm, Change, Mode

GOOD = """
about = "which"
control = "a"
mode = "best_arm"
[arms.a]
policy = "default"
[arms.b]
policy = "single"
[goal]
name = "accepted"
missing = 0
[[guardrails]]
metric = { name = "within_ms", limit = 2000 }
at_least = 0.9
"""


def _loaded(folder: Path, text: str, name: str = "which") -> Found:
    (folder / f"{name}.toml").write_text(text)
    return load(folder, policies=shipped())


def test_those_that_ship_are_sound_and_can_start() -> None:
    found = load(policies=shipped())
    assert not found.problems
    for read in found.rows.values():
        assert read.about
        event = started(pinned(read.experiment, shipped()), None, by="ann", why="to see", now_ms=made.NOW_MS)
        assert codec.decode("reasoning.experiments", None, codec.encode(event)) == event


def test_a_file_is_read_with_everything_in_it(tmp_path: Path) -> None:
    found = _loaded(tmp_path, GOOD)
    assert not found.problems
    experiment = found.rows["which"].experiment
    assert (experiment.name, experiment.mode, experiment.goal.name) == ("which", Mode.BEST_ARM, "accepted")
    assert experiment.guardrails[0].metric.limit == 2000


@pytest.mark.parametrize(
    ("was", "becomes", "field"),
    [
        ('policy = "single"', 'policy = "clever"', "arms.b.policy"),
        ('control = "a"', 'control = "c"', "control"),
        ('mode = "best_arm"', 'mode = "magic"', "mode"),
        ('mode = "best_arm"', "floor = 0.9", "floor"),
        ('mode = "best_arm"', "flor = 0.1", "flor"),
        ('mode = "best_arm"', "holdout = nan", "holdout"),
        ('mode = "best_arm"', 'name = "x"', "name"),
        ('[arms.b]\npolicy = "single"', "", "arms"),
        ('[arms.b]\npolicy = "single"', "[arms.B]\npolicy = 'single'", "arms"),
        ("at_least = 0.9", "", "guardrails[0].at_least"),
        ("at_least = 0.9", "at_least = 0.9\nmax_drop = 0.1", "guardrails[0].at_least"),
        ('mode = "best_arm"', 'segment_by = "task"', "segment_by"),
        ('mode = "best_arm"', 'mode = "best_arm"\nsegment_by = "task"\nmax_segments = 40', "max_segments"),
        (", limit = 2000", "", "guardrails[0].metric.limit"),
        ('name = "accepted"', 'name = "within_ms"', "goal.limit"),
        ('name = "accepted"', 'name = "accepted"\nraters = ["robot"]', "goal.raters"),
        ('about = "which"', "about = 3", "about"),
        ("[[guardrails]]", "[guardrails]", "guardrails"),
        ('about = "which"', "arms = 3", ""),
    ],
)
def test_what_is_wrong_is_named_with_its_field(tmp_path: Path, was: str, becomes: str, field: str) -> None:
    found = _loaded(tmp_path, GOOD.replace(was, becomes))
    assert [problem.field for problem in found.problems] == [field], found.problems


def test_all_that_is_wrong_is_told_together(tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text("nothing = 1")
    (tmp_path / "answer-style.toml").write_text(GOOD)
    found = _loaded(tmp_path, GOOD.replace('"default"', '"clever"').replace("single", "wise"))
    assert sorted(problem.field for problem in found.problems) == [
        "", "arms", "arms.a.policy", "arms.b.policy", "control", "nothing",
    ]  # fmt: skip
    assert load(tmp_path / "away", policies=shipped()).problems


def test_an_experiment_is_pinned_to_the_policies_as_they_are() -> None:
    experiment = pinned(made.experiment(), shipped())
    assert [arm.policy for arm in experiment.arms.values()] == ["default@1", "single@1"]
    assert experiment.arms["a"].policy_digest == made.policy().digest
    assert experiment.digest
    assert pinned(experiment, shipped()) == experiment
    with pytest.raises(KeyError):
        pinned(made.experiment(arms={**experiment.arms, "c": Arm(policy="clever")}), shipped())


def test_changes_follow_each_other() -> None:
    definition = pinned(made.experiment(), shipped())
    first = started(definition, None, by="ann", why="to see", now_ms=1)
    with pytest.raises(Impossible, match="runs already"):
        started(definition, first, by="bob", why="again", now_ms=2)
    stopped = ended(first, Change.STOP, by="ann", why="seen", now_ms=3)
    assert (stopped.revision, stopped.definition) == (1, definition)
    again = started(definition, stopped, by="ann", why="once more", now_ms=4)
    assert again.revision == 2
    assert newest([first, stopped, again, stopped])["trial"] == again
    assert newest([first, stopped])["trial"] == stopped
    with pytest.raises(Impossible, match="no arm c"):
        ended(again, Change.PROMOTE, by="ann", why="best", now_ms=5, arm="c")
    with pytest.raises(Impossible, match="ever started"):
        ended(None, Change.KILL, by="ann", why="bad", now_ms=6)
