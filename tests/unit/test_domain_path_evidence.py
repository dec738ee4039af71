"""Votes weighed by several figures of their paths at once, and sampling that ends by the evidence they add up to."""

import json
import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from conclave import policies
from conclave.cli import recordings
from conclave.cli.evidence import evidence
from conclave.cli.recordings import Line
from conclave.domain import counting, log_linear
from conclave.domain.log_linear import FIGURES
from conclave.domain.replay import Recording, play
from conclave.domain.stopping import STOPPING_RULES, log_odds
from conclave.domain.vote_learning.path_evidence import fitted
from conclave.domain.weighing import weight
from schemas.values import Ask, Ballot, StopReason

ROOT = Path(__file__).resolve().parents[2]
OWN = ROOT / "tests/data/replay_own"


def rule(**params: float) -> Ask:
    return Ask(form="any", stopping="log_odds", weighing="log_linear", confidence="odds", params=params)


def path(at: int, answer: str, mean: float, tokens: int = 100, lowest: float = -0.1, tail: float = -0.1) -> Ballot:
    return Ballot(
        sample_index=at, answer=answer, tokens_out=tokens,
        mean_logprob=mean, lowest_group_logprob=lowest, tail_logprob=tail,
    )  # fmt: skip


def test_a_weight_is_the_exponential_of_its_figures_and_never_above_1() -> None:
    ballot = path(0, "4", -0.02, tokens=50, lowest=-0.3, tail=-0.2)
    ask = rule(
        log_weight=-1, per_path_logprob=2, per_lowest_group_logprob=-3, per_tail_logprob=0.5, per_hundred_tokens=1
    )
    assert weight(ballot, ask) == pytest.approx(math.exp(-1 + 2 * -1.0 - 3 * -0.3 + 0.5 * -0.2 + 0.5))
    assert weight(ballot, rule(log_weight=3, per_path_logprob=1)) == 1.0


def test_a_path_without_a_figure_that_counts_weighs_what_is_said_for_it() -> None:
    silent = Ballot(sample_index=0, answer="4", tokens_out=50)
    assert weight(silent, rule(per_tail_logprob=1.0, unsaid_weight=0.2)) == 0.2
    assert weight(silent, rule(log_weight=-1.0, unsaid_weight=0.2)) == pytest.approx(math.exp(-1.0))  # none counts


def test_sampling_ends_once_the_leaders_log_odds_reach_the_bar() -> None:
    # 2.2 nats are odds of nine to one; an answer not seen yet stands at 1 nat.
    ask = rule(stop_confidence=0.9, nats_per_vote=2.0, unseen_nats=1.0)

    def needed(labels: str, *weights: float) -> int:
        return log_odds.num_needed_by_weight(labels, weights, ask)

    assert [needed("a" * num, *[1.0] * num) for num in range(3)] == [2, 1, 0]
    assert (needed("aab", 1.0, 1.0, 0.4), needed("aab", 1.0, 1.0, 1.0)) == (0, 1)
    assert needed("a", 0.1) == 2
    assert STOPPING_RULES["log_odds"].num_needed("aa", ask) == 0


labels_and_weights = st.lists(st.tuples(st.sampled_from(["a", "a", "b", "c", ""]), st.floats(0.0, 1.0)), max_size=16)


@given(labels_and_weights, labels_and_weights, st.sampled_from([0.5, 0.9, 0.99]), st.sampled_from([0.3, 1.0, 5.0]))
@settings(max_examples=60)
def test_no_weights_to_come_satisfy_the_rule_before_its_deficit_is_met(
    cast: list[tuple[str, float]], further: list[tuple[str, float]], bar: float, nats: float
) -> None:
    ask = rule(stop_confidence=bar, nats_per_vote=nats)

    def needed(of: list[tuple[str, float]]) -> int:
        return log_odds.num_needed_by_weight([label for label, _ in of], [weighs for _, weighs in of], ask)

    deficit = needed(cast)
    for more in range(1, min(deficit, len(further) + 1)):
        assert needed([*cast, *further[:more]]) > 0


def test_the_confidence_of_odds_is_what_the_rule_stopped_on() -> None:
    ask = rule(stop_confidence=0.9, nats_per_vote=2.0, unseen_nats=1.0, log_weight=0.0)
    counted = counting.count([path(0, "4", -0.1), path(1, "4", -0.1)], ask, reason=StopReason.CONFIDENT)
    assert counted.confidence == pytest.approx(1 / (1 + math.exp(-3.0)))


def test_fitting_finds_that_likely_paths_are_right_and_is_better_than_counts() -> None:
    rng = np.random.default_rng(15)
    found = fitted([_drawn(rng, number) for number in range(120)])
    likely, unlikely = (
        weight(path(0, "4", mean, lowest=4 * mean, tail=mean), rule(**found.params)) for mean in (-0.005, -0.03)
    )
    assert likely > 1.5 * unlikely
    assert found.log_loss < found.log_loss_of_counts - 0.05
    assert 0 < found.params["unsaid_weight"] < 1


def test_what_was_fitted_keeps_more_right_with_fewer_samples_on_questions_it_never_saw() -> None:
    rng = np.random.default_rng(16)
    found = fitted([_drawn(rng, number) for number in range(120)])
    unseen = [_drawn(rng, number) for number in range(120)]

    def came(ask: Ask) -> tuple[float, float]:
        played = [(play(each, ask), each) for each in unseen]
        return sum(of.num_counted for of, _ in played), sum(bool(of.is_right(each, ask)) for of, each in played)

    by_evidence, by_counts = came(rule(**found.params)), came(Ask(form="any"))
    assert by_evidence[0] < by_counts[0]
    assert by_evidence[1] >= by_counts[1]


def test_what_the_command_prints_is_an_ask_of_a_sound_policy(tmp_path: Path) -> None:
    rng = np.random.default_rng(17)
    lines = [msgspec.json.encode(_line(_drawn(rng, number))) for number in range(40)]
    (tmp_path / "mine.jsonl").write_bytes(b"\n".join(lines))
    result = CliRunner().invoke(evidence, [str(tmp_path / "mine.jsonl")])
    assert result.exit_code == 0, result.output
    (folder := tmp_path / "policies").mkdir()
    asked = '[asks.whole]\nform = "chain_of_thought"\n'
    (folder / "mine.toml").write_text(f'about = "Mine."\nprompt_set = "reasoner-v3"\n{asked}{result.output}')
    found, problems = policies.load(folder)
    assert problems == []
    mine = found.find("mine")
    assert mine is not None
    assert mine.asks["whole"].params.keys() == {*log_linear.PARAMS, "nats_per_vote", "unseen_nats"}


def test_what_cannot_be_fitted_is_refused() -> None:
    with pytest.raises(ValueError, match="no recording"):
        fitted([Recording("1", "4", tuple(Ballot(sample_index=at, answer="4") for at in range(16)))])


def test_the_policy_that_ships_has_what_was_fitted_on_the_sets_that_ship() -> None:
    found = policies.shipped().find("confident")
    assert found is not None
    measured = json.loads((ROOT / "benchmarks/results/evidence.json").read_text())
    assert found.asks["whole"].params == measured["fitted"]["params"] | {"stop_confidence": measured["chosen_bar"]}
    assert all(found.asks["whole"].params[name] for name in FIGURES)


def test_its_recorded_gain_is_there_when_a_part_of_the_held_out_set_is_played_again() -> None:
    found = policies.shipped().find("confident")
    assert found is not None
    questions = recordings.read(OWN / "reasoner_held-out.jsonl.gz")[:100]

    def samples_and_right(ask: Ask) -> tuple[int, int]:
        played = [(play(each, ask), each) for each in questions]
        return sum(of.num_counted for of, _ in played), sum(bool(of.is_right(each, ask)) for of, each in played)

    (few, right), (many, as_many) = samples_and_right(found.asks["whole"]), samples_and_right(Ask(form="any"))
    assert few < 0.7 * many
    assert right >= as_many


@pytest.mark.parametrize("name", ["reasoner_development", "reasoner_held-out"])
def test_a_set_that_ships_is_of_the_model_that_ships_and_small(name: str) -> None:
    about = json.loads((OWN / f"{name}.jsonl.gz.about.json").read_text())
    assert (about["model"], about["samples"], about["questions"]) == ("reasoner", 40, 500)
    assert (OWN / f"{name}.jsonl.gz").stat().st_size < 300_000


def _line(recording: Recording) -> Line:
    ballots = recording.ballots
    return Line(
        id=recording.id,
        gold=recording.gold,
        answers=[each.answer for each in ballots],
        tokens=[each.tokens_out for each in ballots],
        mean_logprobs=[each.mean_logprob for each in ballots],
        lowest_group_logprobs=[each.lowest_group_logprob for each in ballots],
        tail_logprobs=[each.tail_logprob for each in ballots],
    )


def _drawn(rng: np.random.Generator, number: int) -> Recording:
    """Sixteen samples of a question; the right answer's paths are likelier than those of others, and not always more."""
    share = rng.uniform(0.25, 0.8)
    ballots = []
    for at in range(16):
        is_right = rng.random() < share
        answer = "4" if is_right else str(rng.choice(["5", "6"]))
        mean = -float(rng.exponential(0.01 if is_right else 0.03))
        ballots.append(path(at, answer, mean, lowest=4 * mean, tail=mean, tokens=int(rng.integers(60, 140))))
    return Recording(str(number), "4", tuple(ballots))
