"""Every policy that ships through all services, in memory: each event goes through its bytes, as in the log."""

import itertools
import json
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from msgspec.structs import replace

from conclave.engine.protocol import Decoded, DecodeRequest
from conclave.engine.scripted import ScriptedEngine
from conclave.errors import Rejected
from conclave.experiments import pinned
from conclave.policies import shipped
from conclave.policies.current import CurrentPolicies
from conclave.runtime.handler import Arrival
from conclave.testing import events as made
from conclave.testing.lane import SimulatedLane
from schemas import codec, flow
from schemas.events import (
    AnswerReached,
    Event,
    PathDecoded,
    PathFailed,
    ReasoningRequested,
    RequestFailed,
    SampleRequested,
    StepDecided,
)
from schemas.experiments import SHADOW, Shadow
from schemas.ids import shadow_id
from services.aggregator.joiner import Aggregator
from services.aggregator.settings import AggregatorSettings
from services.decoder.handler import Decoder
from services.decomposer.handler import Decomposer
from services.decomposer.settings import DecomposerSettings
from services.voter.joiner import Voter
from services.voter.settings import VoterSettings

SPLIT = "1: How many has Tom?\n2 needs 1: Ann has twice #1. How many has she?\n3 needs 1 2: Add #1 and #2."


class Model(ScriptedEngine):
    """Splits where it is asked to, and says `answers` one after the other everywhere else."""

    def __init__(self, *answers: str, logprob: float = -0.01) -> None:
        super().__init__(latency_ms=0)
        self._answers, self._logprob = itertools.cycle(answers), logprob

    async def decode(self, request: DecodeRequest) -> Decoded:
        """What the model says to this prompt."""
        prompt = next(message.content for message in request.messages if message.role == "user")
        so_far = request.messages[-1].content if request.messages[-1].role == "assistant" else ""
        if prompt.endswith("\nSplit.") or "sub-question a line" in prompt:
            text = SPLIT[len(so_far) :]
        elif "Write the next follow-up question" in prompt:
            text = "none" if "#1: " in prompt else "How many has Tom?"
        else:
            said = "" if so_far or "So it is." in prompt else "So it is.\n"
            text = f"{said}Answer: {next(self._answers)}"
        for stop in request.stop:
            text = text.partition(stop)[0]
        return replace(await super().decode(request), text=text, mean_logprob=self._logprob)


@dataclass
class Pipeline:
    """All services, one after the other."""

    model: Model
    folder: Path | None = None
    events: list[Event] = field(default_factory=list)
    waiting: deque[Event] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Reads the policies that ship, and those of the folder."""
        policies = CurrentPolicies("default", *([self.folder] if self.folder else []))
        self.decomposer = Decomposer(DecomposerSettings(), policies)
        self.decoder = Decoder(self.model)
        self.voter = SimulatedLane(Voter(VoterSettings()), self.hear, made.NOW_MS)
        self.aggregator = SimulatedLane(Aggregator(AggregatorSettings()), self.hear, made.NOW_MS)

    def hear(self, event: Event) -> None:
        topic, ce_type = flow.topic_of(type(event)), codec.versioned_type(type(event))
        read = codec.decode(topic, ce_type, codec.encode(event))
        self.events.append(read)
        self.waiting.append(read)

    async def answer(self, request: ReasoningRequested) -> AnswerReached | RequestFailed:
        key = request.request_id or made.REQUEST_ID
        arrival = Arrival("event", key, made.NOW_MS, made.NOW_MS, "reasoning.requests/0/1")
        for event in await self.decomposer.handle(request, arrival):
            self.hear(event)
        while self.waiting:
            match self.waiting.popleft():
                case SampleRequested() as sample:
                    for end in await self.decoder.handle(sample, arrival):
                        self.hear(end)
                case PathDecoded() | PathFailed() as path:
                    self.voter.log.append(path)
                    self.voter.drain()
                case AnswerReached() | RequestFailed() as end:
                    return end
                case event if flow.topic_of(type(event)) is flow.Topic.STEPS:
                    self.aggregator.log.append(event)
                    self.aggregator.drain()
                case _:
                    pass
        raise AssertionError("the request never ended")

    @property
    def verdicts(self) -> list[StepDecided]:
        return [event for event in self.events if isinstance(event, StepDecided)]


def request(policy: str) -> ReasoningRequested:
    return ReasoningRequested(question="How many have they?", request_id=made.REQUEST_ID, policy=policy)


@pytest.mark.parametrize("policy", shipped().names)
async def test_a_policy_that_ships_answers(policy: str) -> None:
    pipeline = Pipeline(Model("36"))
    end = await pipeline.answer(request(policy))
    assert isinstance(end, AnswerReached), end
    assert (end.answer, end.policy) == ("36", policy)
    assert pipeline.voter.rejections == pipeline.aggregator.rejections == []
    failed = [event for event in pipeline.events if isinstance(event, PathFailed)]
    # A trained model's split that is whole goes on with nothing: that is how self_ask hears that no follow-up is left.
    assert [event.context.step.ask for event in failed] == (["follow_up"] if policy == "self-ask" else [])


async def test_a_split_is_followed_part_by_part() -> None:
    pipeline = Pipeline(Model("36"))
    end = await pipeline.answer(request("least-to-most"))
    assert isinstance(end, AnswerReached)
    assert [step.mark for step in end.steps] == ["split", "#1", "#2", "#3"]
    assert end.answered_by == 3
    assert pipeline.verdicts[0].answer == SPLIT
    asked = [event for event in pipeline.events if isinstance(event, SampleRequested) and event.sample_index == 0]
    assert asked[-1].context.step.fields["earlier"] == "#1 = 36\n#2 = 36"


@pytest.mark.parametrize(("logprob", "asks"), [(-0.01, ["direct"]), (-0.7, ["direct", "whole"])])
async def test_an_unlikely_short_answer_is_thought_over(logprob: float, asks: list[str]) -> None:
    pipeline = Pipeline(Model("36", logprob=logprob))
    end = await pipeline.answer(request("escalate"))
    assert isinstance(end, AnswerReached)
    samples = [event for event in pipeline.events if isinstance(event, SampleRequested) and event.sample_index == 0]
    assert [sample.context.step.ask for sample in samples] == asks


async def test_rounds_go_on_while_belief_moves_and_go_back_where_it_falls() -> None:
    pipeline = Pipeline(Model(*["35"] * 4, *["36"] * 12))
    end = await pipeline.answer(request("contemplation"))
    assert isinstance(end, AnswerReached)
    assert (end.answer, [step.answer for step in end.steps]) == ("36", ["35", "36", "36", "36"])
    samples = [event for event in pipeline.events if isinstance(event, SampleRequested) and event.sample_index == 0]
    assert [sample.context.step.depends_on for sample in samples] == [(), (0,), (0,), (0,)]
    assert samples[2].context.step.fields["earlier"] == "35: 4 votes"
    assert samples[2].context.step.why.endswith("back to round 1")
    assert 0.9 < end.confidence < 1.0


@pytest.mark.parametrize("policy", ["self-ask", "instruct-self-ask"])
async def test_follow_ups_are_asked_one_by_one_until_none_is_left(policy: str) -> None:
    pipeline = Pipeline(Model("36"))
    end = await pipeline.answer(request(policy))
    assert isinstance(end, AnswerReached)
    marks = [step.mark for step in end.steps]
    if policy == "self-ask":
        assert marks == ["follow-up 1", "#1", "follow-up 2", "#2", "follow-up 3", "#3", "follow-up 4"]
        assert end.answered_by == 5
    else:
        assert marks == ["follow-up 1", "#1", "follow-up 2", "whole"]
        assert end.answered_by == 3


async def test_a_tree_goes_on_from_the_lines_of_its_branch_and_ends_it_by_a_vote() -> None:
    pipeline = Pipeline(Model("36"))
    end = await pipeline.answer(request("tree"))
    assert isinstance(end, AnswerReached)
    assert [(step.mark, step.answer) for step in end.steps] == [
        ("start", "So it is."),
        ("1", "Answer: 36"),
        ("1.1", "36"),
    ]


class Critic(Model):
    """Blames the first line that this model writes, and writes another one when it is told so."""

    async def decode(self, request: DecodeRequest) -> Decoded:
        """What the model says to this prompt."""
        prompt = request.messages[0].content
        if prompt.endswith("\nCheck it."):
            text = "a 3*4=12? ok\n" + ("Step 1 is wrong: 3*4=12" if "So it is." in prompt else "right")
        elif prompt.endswith("\nTry again."):
            text = "Now it is twelve."
        else:
            return await super().decode(request)
        return replace(await super().decode(request), text=text)


async def test_a_line_that_critics_blame_is_thought_again() -> None:
    pipeline = Pipeline(Critic("36"))
    end = await pipeline.answer(request("tree-checked"))
    assert isinstance(end, AnswerReached)
    assert [(step.mark, step.answer) for step in end.steps] == [
        ("start", "So it is."),
        ("1", "Answer: 36"),
        ("1.1", "36"),
        ("check 1.1", "Step 1 is wrong: 3*4=12"),
        ("again 1", "Now it is twelve."),
        ("again 1.1", "Answer: 36"),
        ("again 1.1.1", "36"),
        ("check again 1.1.1", "right"),
    ]
    assert (end.answer, end.answered_by, end.confidence) == ("36", 6, 1.0)


async def test_a_choice_among_drafts_is_a_vote_for_one_of_them() -> None:
    pipeline = Pipeline(Model("35", "36", "36", "37", "B", "B", "B"))
    end = await pipeline.answer(request("select"))
    assert isinstance(end, AnswerReached)
    assert (end.answer, end.answered_by, [step.mark for step in end.steps][-1]) == ("35", 4, "select")
    asked = [event.context.step for event in pipeline.events if isinstance(event, SampleRequested)][-1]
    assert asked.fields["candidates"] == "A: 36\nB: 35\nC: 37"
    assert {row.answer for row in pipeline.verdicts[-1].tally} == {"35"}


async def test_a_choice_that_cannot_be_read_falls_back_to_the_vote() -> None:
    pipeline = Pipeline(Model("35", "36", "36", "37", *["all of them"] * 3))
    end = await pipeline.answer(request("select"))
    assert isinstance(end, AnswerReached)
    assert (end.answer, end.answered_by) == ("36", 1)


async def test_a_request_s_own_limit_is_kept_by_every_vote() -> None:
    pipeline = Pipeline(Model("36"))
    end = await pipeline.answer(replace(request("least-to-most"), max_samples=2))
    assert isinstance(end, AnswerReached)
    assert [verdict.launched for verdict in pipeline.verdicts] == [1, 2, 2, 2]


class Clerk(Model):
    """Thinks, and writes down what it is asked to write as JSON; who reads the journal sees what it was held to."""

    def __init__(self, *objects: dict[str, object]) -> None:
        super().__init__("36")
        self._objects = itertools.cycle(objects)
        self.held_to: list[str] = []

    async def decode(self, request: DecodeRequest) -> Decoded:
        self.held_to.append(request.json_schema)
        decoded = await super().decode(request)
        return replace(decoded, text=json.dumps(next(self._objects))) if request.json_schema else decoded


SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}, "unit": {"type": "string"}}, "required": ["n"]}


async def test_a_structured_answer_is_voted_on_field_by_field() -> None:
    model = Clerk({"n": 36, "unit": "apples"}, {"n": 36, "unit": "pears"}, {"n": 36, "unit": "apples"})
    end = await Pipeline(model).answer(replace(request("instruct"), answer_schema=SCHEMA, max_samples=6))
    assert isinstance(end, AnswerReached), end
    assert json.loads(end.answer) == {"n": 36, "unit": "apples"}
    assert [each.name for each in end.fields] == ["n", "unit"]
    assert end.confidence == end.fields[1].confidence < end.fields[0].confidence
    assert set(model.held_to) == {"", json.dumps(SCHEMA, separators=(",", ":"))}
    assert model.held_to.count("") == len(model.held_to) / 2, "one turn of each path is free"


async def test_a_request_whose_fields_found_no_consensus_says_which() -> None:
    model = Clerk(*({"n": number, "unit": "apples"} for number in range(6)))
    end = await Pipeline(model).answer(replace(request("instruct"), answer_schema=SCHEMA, max_samples=6))
    assert isinstance(end, RequestFailed)
    assert end.message.endswith("there was no consensus on n")
    assert [(each.name, each.outcome) for each in end.fields] == [("n", "tie"), ("unit", "majority")]


@pytest.mark.parametrize("policy", ["default", "least-to-most", "contemplation"])
async def test_a_policy_that_cannot_structure_its_answer_is_refused_with_those_that_can(policy: str) -> None:
    with pytest.raises(
        Rejected, match=r"\$\.policy: expected one that gives structured answers: .*instruct.*, got"
    ) as caught:
        await Pipeline(Clerk({})).answer(replace(request(policy), answer_schema=SCHEMA))
    assert policy in str(caught.value)


async def test_a_shadow_comes_to_an_answer_of_its_own_that_is_not_the_one_which_is_waited_for() -> None:
    pipeline = Pipeline(Model("432", "431"))
    shadowed = made.experiment(shadow=Shadow(share=1.0, max_dollars_per_day=1.0))
    pipeline.decomposer.hear(made.started(pinned(shadowed, shipped())))
    served = await pipeline.answer(replace(request("default"), policy=None))
    assert isinstance(served, AnswerReached)
    assert (served.request_id, served.policy, served.arm) == (made.REQUEST_ID, "default", "a")
    (copy,) = [event for event in pipeline.events if isinstance(event, ReasoningRequested)]
    unseen = await pipeline.answer(copy)
    assert isinstance(unseen, AnswerReached)
    assert (unseen.request_id, unseen.policy, unseen.arm) == (shadow_id(made.REQUEST_ID), "single", SHADOW)
    ends = [event.request_id for event in pipeline.events if isinstance(event, AnswerReached)]
    assert ends == [served.request_id, unseen.request_id]
    assert len([event for event in pipeline.events if isinstance(event, ReasoningRequested)]) == 1, "no copy of a copy"
