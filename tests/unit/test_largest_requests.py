"""The largest request that there may be goes through voter and aggregator, on the real runtime and a broker in memory."""

import pytest

from conclave.domain import bounds
from conclave.runtime.work import Joins
from conclave.testing import events as made
from conclave.testing.services import outputs_of
from schemas.events import AnswerReached, StepDecided
from schemas.values import MAX_STEPS
from services.aggregator.joiner import Aggregator
from services.aggregator.settings import AggregatorSettings
from services.voter.joiner import Voter
from services.voter.settings import VoterSettings

NUM_SAMPLES = 16


@pytest.mark.parametrize("character", ["a", "漢"])
def test_64_steps_of_16_samples_with_the_longest_answers_end_in_an_answer(character: str) -> None:
    asked = made.ask(max_samples=NUM_SAMPLES)
    paths = [
        made.decoded(made.context(asked, index=step), sample, NUM_SAMPLES, character * 4094 + f"{step:02}")
        for step in range(MAX_STEPS)
        for sample in range(NUM_SAMPLES)
    ]
    verdicts = [
        each for each in outputs_of("voter", Joins(Voter(VoterSettings())), paths) if isinstance(each, StepDecided)
    ]
    assert sorted(each.step_index for each in verdicts) == list(range(MAX_STEPS))
    ends = outputs_of("aggregator", Joins(Aggregator(AggregatorSettings())), [made.plan(MAX_STEPS), *verdicts])
    (end,) = (each for each in ends if isinstance(each, AnswerReached))
    assert len(end.steps) == MAX_STEPS
    assert bounds.size(end.answer) <= bounds.MAX_ANSWER_BYTES
