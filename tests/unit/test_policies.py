"""Policies as files: those that ship, an operator's own, and everything that can be wrong with one."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from conclave import prompts
from conclave.cli.policies import policies as command
from conclave.domain.params import Param
from conclave.domain.strategies import STRATEGIES
from conclave.errors import Misconfigured
from conclave.policies import PolicySet, load, shipped
from conclave.policies.current import CurrentPolicies
from conclave.testing import events as made

GOOD = """
about = "mine"
prompt_set = "reasoner-v3"

[asks.whole]
form = "chain_of_thought"
"""


def problems_with(folder: Path, text: str, name: str = "mine.toml") -> list[str]:
    """What is wrong with a folder that holds this file, without the folder's name."""
    (folder / name).write_text(text)
    return [str(each).removeprefix(f"{folder}/") for each in load(folder)[1]]


def loaded(folder: Path) -> PolicySet:
    found, problems = load(folder)
    assert problems == []
    return found


def test_those_that_ship_are_sound_and_each_says_what_it_is_for() -> None:
    rows = list(shipped())
    assert {row.policy.name for row in rows} >= {
        "default", "direct", "single", "fixed-8", "fixed-16", "early-stopping", "ahead-3", "instruct", "instruct-direct",
        "escalate", "least-to-most", "contemplation",
    }  # fmt: skip
    assert all(row.about for row in rows)
    assert len({row.policy.digest for row in rows}) == len(rows)


def test_every_ask_of_those_that_ship_can_be_rendered_with_what_its_strategy_fills_in() -> None:
    for row in shipped():
        for name, fields in STRATEGIES[row.policy.strategy].asks.items():
            form = prompts.load(row.policy.prompt_set).form(row.policy.asks[name].form)
            assert form.render(dict.fromkeys(fields, "x")).messages


def test_a_folder_adds_policies_and_the_newest_version_of_a_name_is_meant_by_it(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(GOOD)
    (tmp_path / "mine@2.toml").write_text(GOOD + "max_samples = 3")
    (tmp_path / "default@2.toml").write_text(GOOD + "max_samples = 5")
    found = loaded(tmp_path)
    sizes = {}
    for reference in ("mine", "mine@1", "mine@2", "default", "default@1"):
        policy = found.find(reference)
        assert policy is not None
        sizes[reference] = policy.asks["whole"].max_samples
    assert sizes == {"mine": 3, "mine@1": 16, "mine@2": 3, "default": 5, "default@1": 16}
    assert found.find("mine@3") is None


def test_a_digest_changes_with_whatever_a_policy_says_and_with_nothing_else(tmp_path: Path) -> None:
    digests = []
    for text in (GOOD, GOOD.replace("mine", "other words"), GOOD + "max_samples = 3"):
        (tmp_path / "mine.toml").write_text(text)
        policy = loaded(tmp_path).find("mine")
        assert policy is not None
        digests.append(policy.digest)
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("prompt_set = ", "mine.toml: expected a policy in TOML, got Invalid value (at "),
        ("", "mine.toml: prompt_set: expected a value, got nothing"),
        (GOOD + 'stoping = "fixed"', "mine.toml: asks.whole.stoping: expected no such field; there are: form, program"),
        (GOOD + 'stopping = "never"', "mine.toml: asks.whole.stopping: expected one of fixed, adaptive_consistency"),
        (GOOD + 'voting = "loudest"', "mine.toml: asks.whole.voting: expected one of majority, quorum, got loudest"),
        (GOOD + 'equivalence = "x"', "mine.toml: asks.whole.equivalence: expected one of short_answer"),
        (GOOD + 'weighing = "x"', "mine.toml: asks.whole.weighing: expected one of alike"),
        (GOOD + 'confidence = "x"', "mine.toml: asks.whole.confidence: expected one of lead"),
        (GOOD + 'program = "x"', "mine.toml: asks.whole.program: expected one of once"),
        (GOOD + 'tools = ["hammer"]', "mine.toml: asks.whole.tools: expected one of calculator"),
        (
            GOOD + 'program = "criticised"\nmax_turns = 2',
            "mine.toml: asks.whole.max_turns: expected at least 3 for program criticised, got 2",
        ),
        (GOOD + 'program = "tools"', "mine.toml: asks.whole.form: expected a form that says how its tool is called"),
        (
            GOOD.replace("chain_of_thought", "tool") + 'tools = ["calculator"]',
            "mine.toml: asks.whole.tools: expected whole_calculator among them, which form tool calls, got calculator",
        ),
        (GOOD + "chunk_tokens = 9", "mine.toml: asks.whole.chunk_tokens: expected at least 16, or 0: the path is not handed on"),
        (GOOD + "max_samples = 0", "mine.toml: asks.whole.max_samples: expected `int` >= 1, got 0"),
        (GOOD + "temperature = nan", "mine.toml: asks.whole.temperature: expected a finite number, got nan"),
        (GOOD + 'temperature = "hot"', "mine.toml: asks.whole.temperature: expected `float`, got 'hot'"),
        (GOOD + "calibration = [0.5]", "mine.toml: asks.whole.calibration: expected `calibration` must have no points or at least"),
        (GOOD + "params = { widow = 3 }",
         "mine.toml: asks.whole.params.widow: expected one of stop_confidence, bound, confidence_keep, confidence_warmup, got 3"),
        (
            GOOD + "params = { stop_confidence = 2 }",
            "mine.toml: asks.whole.params.stop_confidence: expected a number from 0 to 1, got 2",
        ),
        (GOOD.replace("chain_of_thought", "sonnet"), "mine.toml: asks.whole.form: expected one of direct"),
        (
            GOOD.replace("chain_of_thought", "retry"),
            "mine.toml: asks.whole.form: expected a form that is filled with question; retry wants path, got retry",
        ),
        (GOOD.replace("reasoner-v3", "gpt"), "mine.toml: prompt_set: expected one of"),
        (GOOD.replace("about", 'strategy = "guess"\nabout'), "mine.toml: strategy: expected one of vote"),
        (GOOD.replace("about", 'strategy = "escalate"\nabout'), "mine.toml: asks.direct: expected the ask that strategy escalate"),
        (GOOD.replace("asks.whole", "asks.hole"), "mine.toml: asks.hole: expected an ask that strategy vote puts: whole, got hole"),
        (GOOD.replace("about", 'digest = "x"\nabout'), "mine.toml: digest: expected no such field"),
        (GOOD.replace("about", "params = { floor = 1 }\nabout"), "mine.toml: params.floor: expected no parameter, got 1"),
        (GOOD.replace("about", "budget = { max_steps = 65 }\nabout"), "mine.toml: budget.max_steps: expected `int` <= 64, got 65"),
        (GOOD.replace("about", "budget = { max_dollars = 0.1 }\nabout"), "mine.toml: prices: expected the price"),
        (GOOD.replace("about", 'effort = { estimator = "moon" }\nabout'), "mine.toml: effort.estimator: expected one of"),
        (GOOD.replace("about", 'effort = { params = ["rounds"] }\nabout'), "mine.toml: effort.params: expected one of"),
        (GOOD.replace("about", 'effort = { samples_of = ["x"] }\nabout'), "mine.toml: effort.samples_of: expected one"),
        (GOOD.replace("about", "effort = { least = 9, most = 3 }\nabout"), "mine.toml: effort.most: expected `most` must"),
        (GOOD.replace("about", "effort = { leest = 9 }\nabout"), "mine.toml: effort.leest: expected no such field"),
        (GOOD.replace("about", "effort = { least = 0 }\nabout"), "mine.toml: effort.least: expected `int` >= 1, got 0"),
        (GOOD.replace("about", "prices = { m = { in = 1 } }\nabout"),
         "mine.toml: prices.m.in: expected no such field; there are: tokens_in, tokens_out"),
        (GOOD.replace("about", "prices = { m = { tokens_in = inf } }\nabout"),
         "mine.toml: prices.m.tokens_in: expected a finite number, got inf"),
        (GOOD + "params = { stop_confidence = nan }",
         "mine.toml: asks.whole.params.stop_confidence: expected a finite number, got nan"),
        ('prompt_set = "reasoner-v3"\nasks."a\\nb" = { form = "direct" }', "mine.toml: asks: expected `str` matching regex"),
        (GOOD.replace("about", ".".join("x" * 10_000) + " = 1\nabout"),
         "mine.toml: expected a policy in TOML, got nested more than 32"),
        (GOOD.replace("about", "x = " + "9" * 5_000 + "\nabout"), "mine.toml: expected a policy in TOML, got Exceeds the limit"),
        (GOOD.replace("about", "x = " + "[" * 10_000 + "\nabout"), "mine.toml: expected a policy in TOML, got nested more than 32"),
        ('prompt_set = "reasoner-v3"\nasks = 3', "mine.toml: asks: expected `object`, got 3"),
        ('prompt_set = "reasoner-v3"\nasks.whole = 3', "mine.toml: asks.whole: expected a table, got 3"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_file_field_and_what_was_expected(tmp_path: Path, text: str, problem: str) -> None:
    found = problems_with(tmp_path, text)
    assert any(each.startswith(problem) for each in found), found


def test_everything_that_is_wrong_is_said_together(tmp_path: Path) -> None:
    text = GOOD + 'stopping = "never"\nmax_samples = 0\nfrom = 1'
    found = problems_with(tmp_path, text) + problems_with(tmp_path, GOOD, "default.toml")
    fields = [each.partition(": expected")[0] for each in found]
    assert {"mine.toml: asks.whole.max_samples", "mine.toml: asks.whole.from", "default.toml: version"} <= set(fields)


def test_a_file_from_windows_is_read_as_any_other(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert loaded(tmp_path).find("mine") is not None


def test_what_a_file_says_takes_one_line_and_no_more_than_a_little(tmp_path: Path) -> None:
    (told,) = problems_with(tmp_path, GOOD + '"\\u001b[2J\\n' + "k" * 5_000 + '" = 1')
    assert told.isprintable()
    assert len(told) < 1_000
    with pytest.raises(Misconfigured) as caught:
        CurrentPolicies("default", tmp_path)
    assert all(each.name.isprintable() for each in caught.value.settings)


def test_a_file_that_is_no_text_or_is_not_there_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    (tmp_path / "large.toml").write_text("#" * 2_000_000)
    (tmp_path / "Bad name.toml").write_text(GOOD)
    (tmp_path / "mine@3.toml").write_text("version = 4\n" + GOOD)
    (tmp_path / "mine@.toml").write_text(GOOD)
    os.mkfifo(tmp_path / "pipe.toml")
    found = {Path(each.file).name: each for each in load(tmp_path)[1]}
    assert set(found) == {"bytes.toml", "large.toml", "Bad name.toml", "mine@3.toml", "mine@.toml", "pipe.toml"}
    assert load(tmp_path / "none")[1][0].got == "no such folder"
    assert load(tmp_path / "large.toml")[1][0].got == "a file"


def test_a_parameter_beyond_its_range_counts_as_the_end_of_it() -> None:
    param = Param(5, 1, 10, is_whole=True)
    assert [param.takes(value) for value in (1, 10, 0, 11, 1.5, float("nan"))] == [True, True, *[False] * 4]


def test_a_service_starts_with_no_wrong_policy_and_lists_all_that_is_wrong(tmp_path: Path) -> None:
    problems_with(tmp_path, GOOD + "max_samples = 0\ntop_p = 0.0")
    with pytest.raises(Misconfigured) as caught:
        CurrentPolicies("default", tmp_path)
    assert [each.name.rpartition(".")[2] for each in caught.value.settings] == ["top_p", "max_samples"]


def test_a_running_service_takes_over_what_changed_and_keeps_the_last_good_set(tmp_path: Path) -> None:
    current = CurrentPolicies("default", tmp_path)
    assert current.find("mine") is None
    (tmp_path / "mine.toml").write_text(GOOD)
    current.refresh()
    before = current.find("mine")
    assert before is not None
    number = len(list(shipped())) + 1
    assert current.status() == {"policies": number}
    (tmp_path / "mine.toml").write_text(GOOD + "max_samples = 0")
    (tmp_path / "other.toml").write_text(GOOD)
    current.refresh()
    assert (current.find("mine"), current.find("other")) == (before, None)
    status = current.status()
    assert status["policies"] == number
    assert "asks.whole.max_samples" in str(status["policies_refused"])
    (tmp_path / "mine.toml").unlink()
    current.refresh()
    assert (current.find("mine"), current.find("other") is not None, current.status()) == (
        None,
        True,
        {"policies": number},
    )


def test_a_folder_that_can_no_longer_be_read_is_no_empty_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.toml").write_text(GOOD)
    current = CurrentPolicies("default", tmp_path)

    def refuse(path: Path) -> Iterator[Path]:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "iterdir", refuse)
        patch.setattr(Path, "glob", lambda path, pattern: iter(()) if path == tmp_path else Path.rglob(path, pattern))
        current.refresh()
    assert current.find("mine") is not None
    assert "Permission denied" in str(current.status()["policies_refused"])
    (tmp_path / "other.toml").write_text(GOOD)
    current.refresh()
    assert current.status() == {"policies": len(list(shipped())) + 2}


def test_policies_and_the_prompt_sets_that_they_need_are_taken_over_together_or_not_at_all(tmp_path: Path) -> None:
    policies, prompts_dir = tmp_path / "policies", tmp_path / "prompts"
    policies.mkdir()
    prompts_dir.mkdir()
    form = '[forms.chain_of_thought]\nuser = "{question}"\nanswer = ["(.+)"]\n'
    current = CurrentPolicies("default", policies, prompts_dir=prompts_dir)
    (policies / "mine.toml").write_text(GOOD.replace("reasoner-v3", "own"))
    current.refresh()
    assert "prompt_set" in str(current.status()["policies_refused"])
    (prompts_dir / "own.toml").write_text(form)
    current.refresh()
    assert "policies_refused" not in current.status()
    assert current.find("mine") is not None
    for wrong, named in ((form.replace("chain_of_thought", "other"), "asks.whole.form"), ("forms = 1", "own.toml")):
        (prompts_dir / "own.toml").write_text(wrong)
        current.refresh()
        assert named in str(current.status()["policies_refused"])
        assert current.find("mine") is not None
        assert current.has_form(current.find("mine"), "chain_of_thought"), "the last good set"  # type: ignore[arg-type]
    (prompts_dir / "own.toml").write_text(form + 'stop = ["x"]\n')
    current.refresh()
    assert "policies_refused" not in current.status()


def test_a_default_policy_that_vanishes_is_kept(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(GOOD)
    current = CurrentPolicies("mine", tmp_path)
    (tmp_path / "mine.toml").unlink()
    current.refresh()
    assert current.find(None) is not None
    assert "CONCLAVE_DEFAULT_POLICY" in str(current.status()["policies_refused"])


def test_the_command_lists_shows_and_checks(tmp_path: Path) -> None:
    runner = CliRunner()
    listed = runner.invoke(command, ["list"], standalone_mode=False)
    assert "least_to_most" in listed.output
    shown = runner.invoke(command, ["show", "default@1"], standalone_mode=False)
    assert made.policy().digest in shown.output
    assert runner.invoke(command, ["show", "clever"]).exit_code == 1
    sound = runner.invoke(command, ["check"], standalone_mode=False)
    assert (sound.return_value, "all sound" in sound.output) == (0, True)
    (tmp_path / "mine.toml").write_text(GOOD + "max_samples = 0")
    wrong = runner.invoke(command, ["check", str(tmp_path)], standalone_mode=False)
    assert (wrong.return_value, "asks.whole.max_samples: expected" in wrong.output) == (1, True)
