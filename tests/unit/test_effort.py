"""How much is thought, as the record teaches it: better than one number for all, or not at all."""

import asyncio
import contextlib
import json
import random
from pathlib import Path

import hypothesis.strategies as st
import msgspec
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from msgspec.structs import replace

from benchmarks.effort import dealt
from conclave.cli import group
from conclave.domain import complexity
from conclave.domain.complexity.fitting import MIN_QUESTIONS, NotFitted, fitted
from conclave.domain.complexity.needs import decoded
from conclave.domain.complexity.outcomes import Example, Outcome, examples, rounds_needed, samples_needed
from conclave.policies import current
from conclave.policies.effort import CurrentNeeds
from conclave.runtime.handler import Arrival
from conclave.testing import events as made
from schemas.events import PlanMade, ReasoningRequested
from schemas.values import Effort
from services.decomposer.handler import Decomposer
from services.decomposer.settings import DecomposerSettings


def question(steps: int, number: int) -> str:
    """One of so many steps."""
    return f"Ann has {number} nuts. " + "She buys 3 more. " * steps + "How many has she?"


def known(seed: int = 0, count: int = 200) -> list[Example]:
    """Questions that need about twice as many samples as they have steps."""
    drawn = random.Random(seed)
    steps = [drawn.randint(1, 8) for _ in range(count)]
    return [
        Example(question(each, number), max(1.0, 2.0 * each + drawn.choice((-1, 0, 1))))
        for number, each in enumerate(steps)
    ]


ARRIVAL = Arrival("event", made.REQUEST_ID, made.NOW_MS, made.NOW_MS, "reasoning.requests/0/42")
LEARNED = decoded(msgspec.json.encode(fitted(known(), fitted_at="today")))


def test_what_needs_more_is_learned_and_told_how_well() -> None:
    points = [LEARNED.points(question(steps, 7)) for steps in range(1, 9)]
    assert points == sorted(points)
    assert points[0] < 4 < 12 < points[-1]
    assert LEARNED.fit.deviance < 0.5 * LEARNED.fit.deviance_of_mean
    assert LEARNED.fit.gain_at_least > 0
    assert (LEARNED.fit.num_examples, LEARNED.fit.sources) == (200, {"given": 200})


def test_what_is_no_better_than_one_number_for_all_is_refused() -> None:
    """At 95 % confidence, one in twenty is better by chance."""
    num_taken = 0
    for seed in range(20):
        needed = [each.needed for each in known(seed, 100)]
        random.Random(seed + 100).shuffle(needed)
        shuffled = [Example(each.question, need) for each, need in zip(known(seed, 100), needed, strict=True)]
        with contextlib.suppress(NotFitted):
            fitted(shuffled, fitted_at="today")
            num_taken += 1
    assert num_taken <= 3
    with pytest.raises(NotFitted, match=r"not surely better than saying 4\.0 of each"):
        fitted([Example(each.question, 4.0) for each in known()], fitted_at="today")


def test_few_questions_teach_nothing_however_often_they_were_asked() -> None:
    with pytest.raises(NotFitted, match=f"{MIN_QUESTIONS - 1} questions, and {MIN_QUESTIONS} at least"):
        fitted(known()[: MIN_QUESTIONS - 1] * 10, fitted_at="today")


@given(order=st.randoms(use_true_random=False))
@settings(max_examples=10, deadline=None)
def test_the_order_of_examples_changes_no_estimate(order: random.Random) -> None:
    shuffled = known()
    order.shuffle(shuffled)
    again = fitted(shuffled, fitted_at="today")
    for steps in range(1, 9):
        assert again.points(question(steps, 3)) == pytest.approx(LEARNED.points(question(steps, 3)), rel=1e-6)


@given(text=st.text(max_size=300) | st.integers(1, 5000).map(lambda count: "12 + (3 x 4) each, and then " * count))
@settings(max_examples=60, deadline=None)
def test_an_estimate_lies_between_one_and_the_most_that_was_seen_whatever_the_question(text: str) -> None:
    assert 1.0 <= LEARNED.points(text) <= LEARNED.most
    effort = Effort(estimator="learned", per_point=1.0, least=2, most=9, params=("rounds",))
    policy = replace(made.policy("contemplation"), effort=effort)
    put, reasons = complexity.fitted(policy, text, LEARNED)
    assert 2 <= put.params["rounds"] <= 9
    assert reasons["effort"].endswith(f"points by learned@{LEARNED.digest}")


@given(text=st.text(max_size=300))
def test_while_nothing_is_learned_the_first_row_answers_and_is_named(text: str) -> None:
    first = next(iter(complexity.ESTIMATORS))
    points, by = complexity.estimate("learned", text)
    assert (points, by) == (complexity.ESTIMATORS[first](text), f"{first}, as nothing is learned")


# -- what outcomes teach ----------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from(["1", "2", None]), min_size=1, max_size=16))
@settings(max_examples=100, deadline=None)
def test_samples_needed_are_the_shortest_start_that_decides(said: list[str | None]) -> None:
    needed = samples_needed(said)
    starts = [samples_needed(said[:length]) for length in range(1, len(said) + 1)]
    decided = [length for length, found in enumerate(starts, 1) if found is not None]
    assert needed == (decided[0] if decided else None)


def test_a_vote_that_agrees_needs_the_fewest_samples_and_a_split_one_more_than_it_had() -> None:
    assert samples_needed(["36"] * 16) == 4
    assert samples_needed(["36", "12"] * 4) is None
    assert samples_needed(["12", *["36"] * 8]) == 7
    (split,) = examples([Outcome("q", ["36", "12"] * 4, "36")], "samples")
    assert (split.needed, split.weight, split.source) == (9.0, 0.5, "unjudged")


def test_rounds_needed_are_those_until_the_answer_stays() -> None:
    assert rounds_needed(["36", "36.0", "36"]) == 1
    assert rounds_needed(["12", None, "36", "36"]) == 3
    assert rounds_needed(["36", "12"]) == 2
    assert rounds_needed(["36", None]) is None


def test_an_answer_that_was_wrong_needed_more_than_it_had_and_counts_more() -> None:
    votes = ["36"] * 5
    taught = {
        (each.source, each.needed, each.weight)
        for each in examples(
            [
                Outcome("a", votes, "36", right_answer="36.0"),
                Outcome("b", votes, "36", reward=1.0, right_answer="12"),
                Outcome("c", votes, "36", reward=0.2),
                Outcome("d", votes, None),
                Outcome("e", [], "36"),
            ],
            "samples",
        )
    }
    assert taught == {
        ("right answer", 4.0, 1.0),
        ("right answer", 6.0, 1.0),
        ("reward", 6.0, 1.0),
        ("unjudged", 6.0, 0.5),
    }


# -- the file ---------------------------------------------------------------------------------------------------------


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(group, list(arguments))


def _lines(found: list[Example]) -> str:
    return "\n".join(json.dumps({"question": each.question, "needed": each.needed}) for each in found)


def test_one_command_fits_and_writes_and_one_explains(tmp_path: Path) -> None:
    given_, file = tmp_path / "known.jsonl", tmp_path / "effort.json"
    given_.write_text(_lines(known()))
    fit = _run("effort", "fit", str(file), "--examples", str(given_))
    assert fit.exit_code == 0, fit.output
    needs = decoded(file.read_bytes())
    assert f"learned@{needs.digest}: 200 examples (200 given) of 200 questions" in fit.output
    told = _run("effort", "explain", question(6, 1), "--file", str(file)).output
    assert f"{needs.points(question(6, 1)):.2f}  learned@{needs.digest}" in told
    assert "clauses, as nothing is learned" in _run("effort", "explain", "2 + 2?").output
    given_.write_text(_lines([Example(each.question, 4.0) for each in known()]))
    before = file.read_bytes()
    refused = _run("effort", "fit", str(file), "--examples", str(given_))
    assert (refused.exit_code, file.read_bytes()) == (1, before)
    assert "nothing was written: on questions left out" in refused.output
    given_.write_text('{"question": 1}')
    assert "known.jsonl:1: " in _run("effort", "fit", str(file), "--examples", str(given_)).output


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"version": 2}, "version"),
        ({"most": 0.5}, "most"),
        ({"surprise": 1}, "surprise"),
        ({"weights": [{"feature": "smell", "mean": 0, "deviation": 1, "weight": 1}]}, "`feature` must be one of"),
        ({"weights": [{"feature": "words", "mean": 0, "deviation": 0, "weight": 1}]}, "deviation"),
    ],
)
def test_a_file_that_is_not_as_it_should_be_is_refused(change: dict[str, object], told: str) -> None:
    content = msgspec.json.decode(msgspec.json.encode(LEARNED)) | change
    with pytest.raises(ValueError, match=told):
        decoded(msgspec.json.encode(content))


def test_another_content_has_another_digest_and_the_one_in_a_file_counts_for_nothing() -> None:
    assert decoded(msgspec.json.encode(replace(LEARNED, digest="forged"))) == LEARNED
    assert decoded(msgspec.json.encode(replace(LEARNED, intercept=1.0))).digest != LEARNED.digest


def test_a_running_service_takes_a_good_file_over_and_keeps_it_when_a_bad_one_comes(tmp_path: Path) -> None:
    file = tmp_path / "effort.json"
    followed = CurrentNeeds(file)
    assert CurrentNeeds(file).status() == {"effort": "nothing is learned"}
    file.write_bytes(msgspec.json.encode(LEARNED))
    followed.refresh()
    assert followed.needs == LEARNED
    for bad in (b"{}", b"[" * 10_000, b" " * 1_000_001):
        file.write_bytes(bad)
        followed.refresh()
        assert followed.needs == LEARNED
        assert "expected a file that `conclave effort fit` has written" in str(followed.status()["effort_refused"])
    file.unlink()
    followed.refresh()
    assert followed.needs == LEARNED


def test_a_decomposer_plans_by_what_was_learned_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "tried.toml").write_text(
        'about = "Tries."\nprompt_set = "reasoner-v3"\n'
        'effort = { estimator = "learned", per_point = 1.0, least = 2, most = 16, samples_of = ["whole"] }\n'
        '[asks.whole]\nform = "chain_of_thought"\n'
    )
    file = tmp_path / "effort.json"
    policies, effort = current.CurrentPolicies("default", tmp_path), CurrentNeeds(file)
    decomposer = Decomposer(DecomposerSettings(), policies, effort=effort)

    def planned() -> PlanMade:
        asked = ReasoningRequested(question=question(8, 1), request_id=made.REQUEST_ID, policy="tried")
        plan, *_ = asyncio.run(decomposer.handle(asked, ARRIVAL))
        assert isinstance(plan, PlanMade)
        return plan

    assert planned().reasons["effort"].endswith("by clauses, as nothing is learned")
    file.write_bytes(msgspec.json.encode(LEARNED))
    effort.refresh()
    plan = planned()
    assert plan.reasons["effort"].endswith(f"by learned@{LEARNED.digest}")
    assert plan.policy.asks["whole"].max_samples == round(LEARNED.points(question(8, 1)))


# -- the benchmark ----------------------------------------------------------------------------------------------------


@given(points=st.lists(st.floats(0.0, 30.0), min_size=1, max_size=40), mean=st.sampled_from([2, 4, 8]))
@settings(max_examples=60, deadline=None)
def test_samples_are_dealt_out_in_the_order_of_points_and_to_the_mean_where_points_allow_it(
    points: list[float], mean: int
) -> None:
    figures = dealt(points, mean)
    assert all(1 <= each <= 16 for each in figures)
    assert [figure for _, figure in sorted(zip(points, figures, strict=True))] == sorted(figures)
    if min(points) > 1.0:
        assert sum(figures) >= mean * len(points)
