"""What requests would have come to under another policy: as live services decide it, or not known; and what that is worth."""

import random
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from conclave.domain.counterfactual.again import (
    RecordedRequest,
    RecordedStep,
    Replayed,
    Unknown,
    replayed,
    usable,
    with_weights,
)
from conclave.domain.counterfactual.dealing import dealt
from conclave.domain.counterfactual.worth import worth
from conclave.domain.recorded import RecordedEvent
from conclave.domain.statistics.estimating import TooFew, difference_of, mean_of
from conclave.experiments import pinned
from conclave.policies import shipped
from conclave.testing import events as made
from schemas.events import AnswerReached, PathDecoded, PathFailed, PlanMade, StepDecided, WeightsPublished
from schemas.experiments import HOLDOUT
from schemas.ids import derived_request_id
from schemas.values import Ask, Ballot, PathFailure, Policy, Step
from tests.played import Played

QUESTION = "How many apples has Tom, who had 347 and bought 85?"
POLICY = made.policy("fixed-8")


def recorded(
    answers: Sequence[str], served: str | None = "a", policy: Policy = POLICY, **said: object
) -> RecordedRequest:
    """A request whose one step was decided on these answers, a letter each."""
    ballots = tuple(Ballot(sample_index=at, answer=answer, tokens_out=10) for at, answer in enumerate(answers))
    step = Step(index=0, ask="whole", fields={"question": QUESTION})
    values: dict[str, object] = {
        "request_id": made.REQUEST_ID,
        "asked_ms": made.NOW_MS,
        "question": QUESTION,
        "policy": policy,
        "steps": (RecordedStep(step, policy.asks["whole"], policy.prompt_set, ballots),),
        "answer": served,
        "num_samples": len(answers),
        "tokens_out": 10 * len(answers),
    }
    return RecordedRequest(**(values | said))  # type: ignore[arg-type]


def changed(policy: Policy, **ask: object) -> Policy:
    """The policy with another way to count."""
    return replace(policy, asks={"whole": replace(policy.asks["whole"], **ask)})


def served(events: Sequence[RecordedEvent]) -> RecordedRequest:
    """A request as the record would have it, from all its events."""
    heard = [each.event for each in events]
    plan = next(event for event in heard if isinstance(event, PlanMade))
    end = next((event for event in heard if isinstance(event, AnswerReached)), None)
    steps: dict[int, Step] = {}
    asks: dict[int, Ask] = {}
    ballots: dict[int, dict[int, Ballot]] = {}
    for event in heard:
        if isinstance(event, PathDecoded | PathFailed):
            steps[event.context.step_index], asks[event.context.step_index] = event.context.step, event.context.ask
            failure = event.failure if isinstance(event, PathFailed) else None
            figures: dict[str, Any] = {} if isinstance(event, PathFailed) else _figures(event)
            ballot = Ballot(
                sample_index=event.sample_index, failure=failure, tokens_out=event.tokens_out or 0, **figures
            )
            ballots.setdefault(event.context.step_index, {})[event.sample_index] = ballot
    verdicts = [event for event in heard if isinstance(event, StepDecided)]
    return RecordedRequest(
        request_id=plan.request_id,
        asked_ms=made.NOW_MS,
        question=plan.question,
        policy=plan.policy,
        steps=tuple(
            RecordedStep(
                steps[index],
                asks[index],
                plan.policy.prompt_set,
                usable(ballots[index][at] for at in sorted(ballots[index])),
            )
            for index in sorted(steps)
        ),
        answer=end.answer if end else None,
        num_samples=sum(len(event.ballots) for event in verdicts),
        tokens_out=sum(ballot.tokens_out for event in verdicts for ballot in event.ballots),
    )


def _figures(event: PathDecoded) -> dict[str, Any]:
    names = (
        "answer",
        "probability",
        "mean_logprob",
        "answer_logprob",
        "lowest_group_logprob",
        "tail_logprob",
        "is_declined",
    )
    return {name: getattr(event, name) for name in names}


@pytest.mark.parametrize("policy", shipped().names)
async def test_by_its_own_policy_a_request_comes_to_what_it_came_to_live_and_costs_the_same(policy: str) -> None:
    for number in range(2):
        request_id = str(derived_request_id(made.NOW_MS, f"again {number}"))
        played = Played(request_id, QUESTION, policy, 432, made.NOW_MS, random.Random(number), accuracy=0.6)
        live = served(await played.play())
        again = replayed(live, made.policy(policy))
        assert again.unknown is None
        assert (again.answer, again.is_same) == (live.answer, True)
        assert (again.num_samples, again.tokens_out) == (live.num_samples, live.tokens_out)


def test_a_rule_that_stops_sooner_saves_samples_and_may_come_to_another_answer() -> None:
    sooner = changed(POLICY, stopping="fixed", max_samples=3)
    again = replayed(recorded("bbaaaaaa"), sooner)
    assert (again.unknown, again.answer, again.is_same) == (None, "b", False)
    assert (again.num_samples, again.tokens_out) == (3, 30)
    assert replayed(recorded("aabbaaaa"), sooner).is_same


@pytest.mark.parametrize(
    ("policy", "request_", "why"),
    [
        (changed(POLICY, max_samples=9), recorded("aaaaaaaa"), Unknown.MORE_SAMPLES),
        (changed(POLICY, temperature=0.1), recorded("aaaaaaaa"), Unknown.OTHER_PROMPT),
        (changed(POLICY, max_tokens=1024), recorded("aaaaaaaa"), Unknown.OTHER_PROMPT),
        (replace(POLICY, prompt_set="instruct-v1"), recorded("aaaaaaaa"), Unknown.OTHER_PROMPT),
        (made.policy("least-to-most"), recorded("aaaaaaaa"), Unknown.OTHER_PROMPT),
        (POLICY, recorded("aaaaaaaa", question="And how many has Ann?"), Unknown.OTHER_STEP),
        (POLICY, recorded("aaaaaaaa", is_structured=True), Unknown.STRUCTURED),
        (changed(POLICY, equivalence="math"), recorded(("sin(x)^2", "1-cos(x)^2", *"aaaaaa")), Unknown.JUDGE),
    ],
)
def test_what_recorded_paths_can_not_tell_is_not_known(policy: Policy, request_: RecordedRequest, why: Unknown) -> None:
    assert replayed(request_, policy) == Replayed(request_, why)


def test_what_was_cut_off_or_lies_beyond_a_gap_is_no_sample() -> None:
    ballots = [Ballot(sample_index=0), Ballot(sample_index=1, failure=PathFailure.ENGINE)]
    late = Ballot(sample_index=2, failure=PathFailure.DEADLINE)
    assert usable([*ballots, late, Ballot(sample_index=3)]) == tuple(ballots)
    assert usable([*ballots, Ballot(sample_index=3)]) == tuple(ballots)


def test_paths_that_decline_are_a_vote_here_too() -> None:
    request = recorded("aabbb")
    ballots = [
        replace(each, answer=None, is_declined=True) if each.answer == "b" else each
        for each in request.steps[0].ballots
    ]
    step = request.steps[0]
    declined = recorded("aabbb", None, steps=(RecordedStep(step.step, step.ask, step.prompt_set, tuple(ballots)),))
    again = replayed(declined, changed(POLICY, max_samples=5))
    assert (again.unknown, again.answer, again.is_same, again.num_samples) == (None, None, True, 5)


def test_a_request_s_own_limit_holds_under_another_policy_too() -> None:
    again = replayed(recorded("bba", "b", max_samples=3), made.policy("fixed-16"))
    assert (again.unknown, again.answer, again.num_samples) == (None, "b", 3)


def test_votes_can_be_weighed_by_what_another_version_has_learned() -> None:
    request = recorded("bba", policy=changed(POLICY, max_samples=3))
    ballots = [replace(each, probability=0.9 if each.answer == "a" else 0.1) for each in request.steps[0].ballots]
    sure = recorded("bba", policy=request.policy, steps=(RecordedStep(request.steps[0].step, request.policy.asks["whole"],
        POLICY.prompt_set, tuple(ballots)),))  # fmt: skip
    learned = changed(POLICY, weighing="learned", vote_weights=(0.05, 1.0))
    assert replayed(sure, sure.policy).answer == "b"
    again = replayed(sure, with_weights(sure.policy, learned))
    assert (again.answer, again.num_samples) == ("a", 3)


def test_requests_are_dealt_out_again_by_other_weights_as_decomposers_would() -> None:
    change = made.started(pinned(made.experiment(), shipped()))
    allocation = {"a": 0.5, "b": 0.25, HOLDOUT: 0.25}
    policy_of = dealt(change, WeightsPublished(experiment="trial", version=7, allocation=allocation), shipped().find)
    drawn = [int(share * 2**53) for share in (0.0, 0.4999, 0.5001, 0.7499, 0.7501, 0.9999)]
    found = [policy_of(recorded("aaa", draw=each)).name for each in drawn]
    assert found == ["default", "default", "single", "single", "default", "default"], "the hold-out gets the control's"
    with pytest.raises(LookupError, match="arm a"):
        dealt(change, WeightsPublished(experiment="trial", version=7, allocation=allocation), {"default@1": POLICY}.get)


def _replays(*judged: tuple[float | None, str | None, bool], propensity: float = 1.0) -> list[Replayed]:
    """Of requests that were answered `a`: reward, right answer, and whether the answer would be the same, else `b`."""
    return [
        Replayed(recorded("a", reward=reward, right_answer=right, propensity=propensity), None, "ba"[same], 1, 10, same)
        for reward, right, same in judged
    ]


def test_what_nobody_judged_of_another_answer_lies_between_nothing_and_all_that_is_left() -> None:
    found = worth(_replays(*[(1.0, None, True)] * 20, *[(1.0, None, False)] * 4, *[(0.0, None, False)] * 6))
    assert (found.num_judged, found.gained, found.lost, found.num_open) == (30, 0, 4, 6)
    assert (found.served.value, found.least.value, found.most.value) == (24 / 30, 20 / 30, 26 / 30)
    assert [found.least_change.value, found.most_change.value] == pytest.approx([-4 / 30, 2 / 30])


def test_a_right_answer_judges_any_answer_whatever_the_reward() -> None:
    found = worth(_replays(*[(1.0, "b", False)] * 20, *[(None, "a", False)] * 5, *[(0.0, "c", False)] * 5))
    assert (found.gained, found.lost, found.num_open) == (20, 5, 0)
    assert found.least == found.most
    assert found.most.value == pytest.approx(20 / 30)


def test_nothing_is_said_below_an_effective_sample_of_thirty() -> None:
    silent = [Replayed(recorded("a"), None, "a", 1, 10, True), Replayed(recorded("a", reward=1.0), Unknown.OTHER_STEP)]
    with pytest.raises(TooFew, match=r"an effective sample of 29\.0; at least 30 are needed"):
        worth([*_replays(*[(1.0, None, True)] * 29), *silent])
    uneven = _replays(*[(1.0, None, True)] * 60) + _replays((0.0, None, True), propensity=0.01)
    with pytest.raises(TooFew):
        worth(uneven)


def test_requests_of_small_arms_weigh_by_the_inverse_of_their_propensity() -> None:
    few, many = _replays(*[(1.0, None, True)] * 20, propensity=0.2), _replays(*[(0.0, None, True)] * 80, propensity=0.8)
    assert worth([*few, *many]).served.value == pytest.approx(0.5)


@pytest.mark.parametrize("truth", [0.02, 0.5, 0.97])
def test_intervals_of_means_and_differences_hold_what_they_should(truth: float) -> None:
    rng, num_held = random.Random(7), [0, 0]
    for _ in range(400):
        propensities = [rng.choice((0.25, 0.75)) for _ in range(120)]
        figures = [float(rng.random() < truth) for _ in propensities]
        low, high = mean_of(figures, propensities).interval
        num_held[0] += low <= truth <= high
        differences = [figure * (1.0 if rng.random() < 0.6 else -1.0) for figure in figures]
        low, high = difference_of(differences, propensities).interval
        num_held[1] += low <= 0.2 * truth <= high
    assert min(num_held) >= 0.93 * 400


def test_an_interval_does_not_close_where_all_figures_are_alike() -> None:
    low, high = difference_of([0.0] * 100, [1.0] * 100).interval
    assert low < -0.01 < 0.01 < high
    assert mean_of([1.0] * 100, [0.5] * 100).interval[0] < 0.98


def test_an_ask_is_compared_in_all_that_a_path_depends_on() -> None:
    """A new field of an ask must be told apart: is it about decoding, or about counting?"""
    about_counting = {"max_samples", "stopping", "schedule", "voting", "equivalence", "weighing", "confidence", "calibration",
                      "vote_weights", "params", "allowance"}  # fmt: skip
    about_paths = {
        "form",
        "program",
        "max_turns",
        "tools",
        "temperature",
        "top_p",
        "max_tokens",
        "answer_schema",
        "wording",
    }
    about_handing_on = {"chunk_tokens"}  # a path in chunks is the same path
    assert set(Ask.__struct_fields__) == about_counting | about_paths | about_handing_on
