"""Requests as the services themselves answer them, with times that a small model server could have had: for pages and queries.

The decomposer, decoder, voter and aggregator are the real ones; the model is a script, and a heap of moments is the clock.
"""

import heapq
import itertools
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from msgspec.structs import replace

from conclave.domain.recorded import RecordedEvent
from conclave.engine.protocol import Decoded, DecodeRequest
from conclave.engine.scripted import ScriptedEngine
from conclave.policies.current import CurrentPolicies
from conclave.runtime.handler import Arrival
from conclave.testing.lane import SimulatedLane
from schemas import flow
from schemas.events import (
    AnswerReached,
    Event,
    FeedbackGiven,
    PathDecoded,
    PathFailed,
    ReasoningRequested,
    RequestFailed,
    SampleRequested,
    StepClosed,
)
from schemas.ids import derived_request_id
from schemas.values import PathFailure
from services.aggregator.joiner import Aggregator
from services.aggregator.settings import AggregatorSettings
from services.decoder.handler import Decoder
from services.decomposer.handler import Decomposer
from services.decomposer.settings import DecomposerSettings
from services.voter.joiner import Voter
from services.voter.settings import VoterSettings

_PROBLEMS = Path(__file__).parents[1] / "data" / "problems" / "demo.jsonl"
_SPLIT = (
    "1: How many are there at first?\n2: How many come and go?\n3 needs 1 2: How many are there now, with #1 and #2?"
)
POLICIES = ("default", "early-stopping", "least-to-most", "fixed-8", "contemplation", "escalate", "criticised", "sure")


def problems() -> list[dict[str, str]]:
    """The questions that ship, each with its answer."""
    return [json.loads(line) for line in _PROBLEMS.read_text().splitlines()]


@dataclass
class PlayedModel(ScriptedEngine):
    """Finds `answer` with a probability of `accuracy`, and something near it otherwise."""

    answer: int
    accuracy: float
    rng: random.Random

    def __post_init__(self) -> None:
        super().__init__(latency_ms=0)

    async def decode(self, request: DecodeRequest) -> Decoded:
        """What the model says to this prompt."""
        prompt = request.messages[-1].content
        is_right = self.rng.random() < self.accuracy
        said = self.answer if is_right else self.answer + self.rng.choice((-10, -1, 1, 2, 100))
        if prompt.endswith("\nSplit.") or "sub-question a line" in prompt:
            text = _SPLIT
        elif "Confidence" in prompt or "from 0 to 100" in prompt:
            text = str(self.rng.randint(70, 99) if is_right else self.rng.randint(20, 80))
        else:
            text = "\n".join(self._sums(said)) + f"\nAnswer: {said}"
        tokens_out = len(text) // 2
        mean = -self.rng.expovariate(9.0 if is_right else 3.0)
        return replace(
            await super().decode(request), text=text, tokens_in=len(prompt) // 3, tokens_out=tokens_out, mean_logprob=mean,
            min_logprob=mean * 4, tokens_cached=len(prompt) // 4,
        )  # fmt: skip

    def _sums(self, last: int) -> Iterator[str]:
        for number in range(1, self.rng.randint(2, 5)):
            a, b = self.rng.randint(2, 900), self.rng.randint(2, 90)
            yield f"Step {number}: {a} + {b} = {a + b}"
        yield f"Step {number + 1}: {last - 7} + 7 = {last}"


@dataclass
class Played:
    """One request from its publication to its end, and all that is recorded of it."""

    request_id: str
    question: str
    policy: str
    answer: int
    asked_ms: int
    rng: random.Random
    accuracy: float = 0.75
    recorded: list[RecordedEvent] = field(default_factory=list)
    _moments: list[tuple[float, int, Event]] = field(default_factory=list)
    _cancelled: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._number, self._now_ms = itertools.count(), float(self.asked_ms)
        self.decomposer = Decomposer(DecomposerSettings(), CurrentPolicies("default"))
        self.decoder = Decoder(PlayedModel(self.answer, self.accuracy, self.rng))
        self.voter = SimulatedLane(Voter(VoterSettings()), self._follows, self.asked_ms)
        self.aggregator = SimulatedLane(Aggregator(AggregatorSettings()), self._follows, self.asked_ms)

    async def play(self, *, until_ms: float = float("inf")) -> list[RecordedEvent]:
        """All that is recorded of it, or what is at `until_ms` after it was asked."""
        self._at(0, ReasoningRequested(question=self.question, request_id=self.request_id, policy=self.policy))
        while self._moments:
            self._now_ms, _, event = heapq.heappop(self._moments)
            if self._now_ms > self.asked_ms + until_ms:
                break
            self._record(event)
            if isinstance(event, AnswerReached | RequestFailed):
                break
            await self._take(event)
        return self.recorded

    async def _take(self, event: Event) -> None:
        arrival = Arrival("event", self.request_id, int(self._now_ms), int(self._now_ms), "reasoning.requests/0/1")
        match event:
            case ReasoningRequested():
                for each in await self.decomposer.handle(event, arrival):
                    self._at(4, each)
            case SampleRequested():
                await self._decode(event, arrival)
            case StepClosed():
                self._cancel(event)
            case PathDecoded() | PathFailed():
                self._give(self.voter, event)
            case _ if flow.topic_of(type(event)) is flow.Topic.STEPS:
                self._give(self.aggregator, event)
            case _:
                pass

    async def _decode(self, sample: SampleRequested, arrival: Arrival) -> None:
        for end in await self.decoder.handle(sample, arrival):
            if isinstance(end, PathDecoded):
                queued = self.rng.expovariate(1 / 30)
                first = queued + 20 + self.rng.random() * 60
                total = first + (end.tokens_out or 1) * (6 + self.rng.random() * 4)
                timed = replace(
                    end, queued_ms=queued, first_token_ms=first, total_ms=total, model="reasoner", engine="vllm"
                )
                self._at(total, timed)
            else:
                self._at(5, end)

    def _cancel(self, closed: StepClosed) -> None:
        waiting = self._moments
        self._moments = []
        for at_ms, number, event in waiting:
            if isinstance(event, PathDecoded) and event.step_id == closed.step_id:
                event = PathFailed(
                    context=event.context,
                    sample_index=event.sample_index,
                    launched=event.launched,
                    failure=PathFailure.CANCELLED,
                    message="the step was decided",
                    tokens_out=(event.tokens_out or 0) // 2,
                    total_ms=event.total_ms / 2,
                )
                at_ms = self._now_ms + 1
            heapq.heappush(self._moments, (at_ms, number, event))

    def _give(self, lane: SimulatedLane, event: Event) -> None:
        lane.log.append(event)
        lane.now_ms = int(self._now_ms)
        lane.drain()

    def _follows(self, event: Event) -> None:
        self._at(4 + self.rng.random() * 6, event)

    def _at(self, after_ms: float, event: Event) -> None:
        heapq.heappush(self._moments, (self._now_ms + after_ms, next(self._number), event))

    def _record(self, event: Event) -> None:
        topic = flow.topic_of(type(event)).value
        place = next(self._number)
        self.recorded.append(
            RecordedEvent(event, f"e{place}", flow.key_of(event), topic, 0, place, int(self._now_ms), None)
        )


async def played(num_requests: int, *, now_ms: int, seed: int = 0) -> list[RecordedEvent]:
    """That many requests of the last hour, under several policies, the last of them still on its way; some with feedback."""
    rng, asked = random.Random(seed), problems()
    found: list[RecordedEvent] = []
    for number in range(num_requests):
        problem = asked[number % len(asked)]
        asked_ms = now_ms - (num_requests - number) * 3_600_000 // num_requests
        request = Played(
            request_id=str(derived_request_id(asked_ms, f"played {seed} {number}")),
            question=problem["question"],
            policy=POLICIES[number % len(POLICIES)],
            answer=int(problem["answer"]),
            asked_ms=asked_ms,
            rng=rng,
            accuracy=rng.choice((0.55, 0.8, 0.95)),
        )  # fmt: skip
        is_last = number == num_requests - 1
        found += await request.play(until_ms=450.0 if is_last else float("inf"))
        if not is_last and number % 3 == 0:
            found.append(_feedback(request, rng))
    return found


def _feedback(on: Played, rng: random.Random) -> RecordedEvent:
    end = on.recorded[-1].event
    is_right = isinstance(end, AnswerReached) and end.answer == str(on.answer)
    given = FeedbackGiven(request_id=on.request_id, reward=float(is_right), source=rng.choice(("ann", "bob")))
    at_ms = on.recorded[-1].recorded_ms + 60_000
    return RecordedEvent(given, f"f{on.request_id}", on.request_id, "reasoning.feedback", 0, 0, at_ms, None, "/tests")
