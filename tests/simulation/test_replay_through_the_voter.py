"""A recorded set through the voter as it runs: records on a broker, two voters, and one of them killed on the way.

What a decoder would say is read from the recording; everything else is the real service, with its lanes, groups and carries.
"""

import asyncio
import gzip
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from conclave.domain import planning
from conclave.runtime.attempts import Dependencies
from conclave.runtime.dead_letters import Cause
from conclave.runtime.handler import Arrival
from conclave.runtime.record import output_of
from conclave.runtime.service import Service
from conclave.runtime.work import Handles
from conclave.testing import events as made
from conclave.testing import laws
from conclave.testing.broker import MemoryBroker
from conclave.testing.cluster import Cluster
from conclave.testing.loop import VirtualLoop
from conclave.testing.network import Endpoint, Network
from conclave.testing.processes import SETTINGS, Process, Processes
from conclave.testing.record import Database
from conclave.testing.simulation import quiet
from schemas import flow
from schemas.events import Event, SampleRequested, StepDecided
from schemas.flow import Topic
from schemas.ids import derived_request_id
from schemas.values import Ask

REPLAY = Path(__file__).parents[1] / "data" / "replay"
NAME = "aime2024_gpt-oss-20b"
EXPECTED: dict[str, Any] = json.loads((REPLAY / "expected.json").read_text())[NAME]
_LIMIT_S, _TOKENS_PER_S = 600.0, 20_000.0  # of virtual time


class RecordedDecoder:
    """Answers each sample with what was recorded, after as long as it is long: so short answers arrive first."""

    def __init__(self, questions: dict[str, dict[str, Any]]) -> None:
        self._questions = questions

    async def handle(self, event: Event, arrival: Arrival) -> Sequence[Event]:
        assert isinstance(event, SampleRequested)
        question = self._questions[event.context.request_id]
        answer, tokens = question["answers"][event.sample_index], question["tokens"][event.sample_index]
        await asyncio.sleep(tokens / _TOKENS_PER_S)
        return [replace(made.decoded(event.context, event.sample_index, event.launched, answer), tokens_out=tokens)]

    def give_up(self, event: Event, arrival: Arrival, cause: Cause) -> Sequence[Event]:
        raise AssertionError(cause)

    def unreadable(self, value: bytes | None, arrival: Arrival, cause: Cause) -> Sequence[Event]:
        raise AssertionError(cause)


class Replayed:
    """The set under one rule, to its verdicts."""

    def __init__(self, ask: Ask, seed: int) -> None:
        lines = gzip.decompress((REPLAY / f"{NAME}.jsonl.gz").read_bytes()).splitlines()
        self.loop = VirtualLoop()  # type: ignore[abstract]
        self.questions: dict[str, dict[str, Any]] = {
            derived_request_id(made.NOW_MS, str(number)): json.loads(line) for number, line in enumerate(lines)
        }
        self._ask, rng = ask, random.Random(seed)
        topics = {row.topic.value: 2 for row in flow.TOPICS}
        topics |= {flow.dead_letter_topic(topic): 1 for topic in topics}
        self.cluster = Cluster(self.loop, rng, topics, made.NOW_MS)
        database = Database(Network(self.loop, rng, "postgres"))
        self.voters = Processes(self.loop, rng, self.cluster, database, self._died)
        self.num_killed = 0

    def verdicts(self) -> list[StepDecided]:
        return [each for each in laws.events(self.cluster.records(Topic.STEPS.value)) if isinstance(each, StepDecided)]

    def run(self) -> list[StepDecided]:
        with quiet():
            self.loop.run_until_complete(self._play())
        return self.verdicts()

    async def _play(self) -> None:
        work = Handles(RecordedDecoder(self.questions))
        broker = MemoryBroker(self.cluster, Endpoint("decoder"))
        settings = SETTINGS.model_copy(update={"max_in_flight": 4096})
        decoder = Service("decoder", settings, work, Dependencies(), broker, clock_ms=lambda: self.cluster.now_ms)
        running = asyncio.create_task(decoder.run(), name="decoder")
        victim, _ = self.voters.start("voter"), self.voters.start("voter")
        self.cluster.publish(
            output_of(sample, service="test", event_id=f"{number}-{at}", parent=None, now_ms=self.cluster.now_ms)
            for number, request_id in enumerate(self.questions)
            for at, sample in enumerate(planning.first_wave(self._context(request_id)))
        )
        await self._until(lambda: len(self.verdicts()) >= 3)
        self.num_killed = len(self.questions) - len(self.verdicts())
        self.voters.kill(victim)
        await self._until(lambda: len(self.verdicts()) >= len(self.questions))
        await asyncio.sleep(10.0)  # whoever would decide twice does it now
        decoder.stop()
        await running
        for process in self.voters.of("voter"):
            self.voters.stop(process)
        await self._until(lambda: not self.voters.alive)

    def _context(self, request_id: str):  # type: ignore[no-untyped-def]
        return made.context(self._ask, request_id=request_id, deadline_ms=made.NOW_MS + 86_400_000)

    async def _until(self, condition) -> None:  # type: ignore[no-untyped-def]
        for _ in range(round(_LIMIT_S / 0.2)):
            if condition():
                return
            await asyncio.sleep(0.2)
        raise AssertionError(f"{len(self.verdicts())} of {len(self.questions)} verdicts within {_LIMIT_S:.0f} s")

    def _died(self, process: Process, error: BaseException) -> None:
        raise AssertionError(f"{process.endpoint.name} ended by itself") from error


@pytest.mark.parametrize(
    ("key", "schedule", "rule"),
    [
        ("ac_beta_0.95", "waves", {"stopping": "adaptive_consistency", "params": {"stop_confidence": 0.95}}),
        ("esc_w5", "auto", {"stopping": "early_stopping", "params": {"window": 5}}),
        ("ahead_3", "at_once", {"stopping": "ahead_by_k", "params": {"lead": 3}}),
    ],
)
def test_two_voters_one_of_them_killed_come_to_the_exact_figures(key: str, schedule: str, rule: dict[str, Any]) -> None:
    params = {**rule["params"], "bound": 0.0}
    ask = Ask(
        form="any", equivalence="verbatim", max_samples=40, schedule=schedule, stopping=rule["stopping"], params=params
    )
    replayed = Replayed(ask, seed=7)
    verdicts = replayed.run()
    assert replayed.num_killed > len(replayed.questions) / 2, "a voter was killed with most of the set before it"
    assert sorted(each.request_id for each in verdicts) == sorted(replayed.questions)
    figures = {
        "correct": sum(each.answer == replayed.questions[each.request_id]["gold"] for each in verdicts),
        "samples": sum(len(each.ballots) for each in verdicts),
        "tokens": sum(ballot.tokens_out for each in verdicts for ballot in each.ballots),
    }
    assert figures == {name: EXPECTED[key][name] for name in figures}
