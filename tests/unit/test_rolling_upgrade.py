"""A rolling upgrade: services of before and of now side by side under load, and what is new in use at its end.

"Of before" is today's code without something: without a rule in its tables, and without a field in its events, which it drops
from whatever it reads, and so from what it hands on. Each event goes through its bytes; when a partition changes hands, its new
owner reads again what is open.
"""

import asyncio
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from conclave.domain import counting, stopping
from conclave.domain.joining import Wait
from conclave.domain.stopping import STOPPING_RULES, StoppingRule, top_two
from conclave.engine.scripted import ScriptedEngine
from conclave.policies.current import CurrentPolicies
from conclave.runtime.handler import Arrival, Joiner
from conclave.runtime.translation import Translator
from conclave.testing import events as made
from conclave.testing import processes
from conclave.testing.lane import SimulatedLane
from conclave.testing.loop import PROCESS
from conclave.testing.simulation import Simulation, quiet
from schemas import codec, flow
from schemas.envelope import header
from schemas.events import (
    AnswerReached,
    Event,
    ReasoningRequested,
    RequestFailed,
    SampleRequested,
    StepClosed,
    StepDecided,
)
from schemas.flow import Topic
from schemas.ids import derived_request_id
from services.aggregator.joiner import Aggregator
from services.aggregator.settings import AggregatorSettings
from services.decoder.handler import Decoder
from services.decomposer.handler import Decomposer
from services.decomposer.settings import DecomposerSettings
from services.voter.joiner import Voter
from services.voter.settings import VoterSettings

NEW_RULE, NEW_FIELD = "two_ahead", "calibration"
POLICY = f"""
about = "What only the new version can say."
prompt_set = "reasoner-v3"

[asks.whole]
form = "chain_of_thought"
stopping = "{NEW_RULE}"
{NEW_FIELD} = [0.25, 0.25]
"""
NUM_PARTITIONS = 3


@contextmanager
def version(*, is_new: bool) -> Iterator[None]:
    """The tables of one version: the new one has a rule more."""
    if is_new:
        STOPPING_RULES[NEW_RULE] = StoppingRule(lambda labels, ask: max(0, 2 - top_two(labels)[0] + top_two(labels)[1]))
    try:
        yield
    finally:
        STOPPING_RULES.pop(NEW_RULE, None)


def read_by(event: Event, *, is_new: bool) -> Event:
    """The event as a service of one version reads it."""
    document = json.loads(codec.encode(event))
    if not is_new:
        _drop(document)
    return codec.decode(flow.topic_of(type(event)), codec.versioned_type(type(event)), json.dumps(document).encode())


def _drop(value: Any) -> None:
    """Leaves out the new field, wherever it is."""
    if isinstance(value, dict):
        value.pop(NEW_FIELD, None)
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _drop(each)


@dataclass
class Partition:
    """A partition of a topic that is joined, in the hands of a service of one version."""

    lane: SimulatedLane
    is_new: bool = False
    written: dict[int, Event] = field(default_factory=dict)  # by offset, as others wrote it

    def take(self, event: Event) -> None:
        """A record arrives, and its owner decides what it can."""
        self.written[len(self.lane.log)] = event
        self.lane.log.append(read_by(event, is_new=self.is_new))
        self._work()

    def change_hands(self) -> None:
        """A new owner, of the new version, reads again what is open."""
        self.is_new = True
        for offset, event in self.written.items():
            self.lane.log[offset] = read_by(event, is_new=True)
        self.lane.crash()
        self._work()

    def _work(self) -> None:
        with version(is_new=self.is_new):
            self.lane.drain()


@dataclass
class Fleet:
    """All services, of either version, and the events under way between them."""

    policies_dir: Path
    rng: random.Random
    is_new: dict[str, bool] = field(default_factory=lambda: {"decomposer": False, "decoder": False})
    waiting: list[Event] = field(default_factory=list)
    ends: list[AnswerReached | RequestFailed] = field(default_factory=list)
    verdicts: list[StepDecided] = field(default_factory=list)
    num_asked: int = 0

    def __post_init__(self) -> None:
        lanes: dict[str, Joiner] = {"voter": Voter(VoterSettings()), "aggregator": Aggregator(AggregatorSettings())}
        self.partitions = {
            service: [Partition(SimulatedLane(joiner, self.hear, made.NOW_MS)) for _ in range(NUM_PARTITIONS)]
            for service, joiner in lanes.items()
        }
        self.decoder = Decoder(ScriptedEngine(latency_ms=0, accuracy=1.0))
        with version(is_new=False):
            self.old_policies = CurrentPolicies("default")
        with version(is_new=True):
            self.new_policies = CurrentPolicies("default", self.policies_dir)

    def hear(self, event: Event) -> None:
        self.waiting.append(event)

    async def ask(self, policy: str) -> None:
        """A request, read by a decomposer of the version that is deployed."""
        self.num_asked += 1
        request_id = derived_request_id(made.NOW_MS - 50, str(self.num_asked))
        request = ReasoningRequested(question=f"How much is {self.num_asked}?", request_id=request_id, policy=policy)
        arrival = Arrival("event", request_id, made.NOW_MS, made.NOW_MS, f"reasoning.requests/0/{self.num_asked}")
        is_new = self.is_new["decomposer"]
        decomposer = Decomposer(DecomposerSettings(), self.new_policies if is_new else self.old_policies)
        with version(is_new=is_new):
            for event in await decomposer.handle(request, arrival):
                self.hear(event)

    async def step(self) -> None:
        """One event that is under way arrives, any of them."""
        event = self.waiting.pop(self.rng.randrange(len(self.waiting)))
        match event:
            case SampleRequested():
                await self._decode(event)
            case AnswerReached() | RequestFailed():
                self.ends.append(event)
            case StepClosed():
                pass
            case _:
                if isinstance(event, StepDecided):
                    self.verdicts.append(event)
                service = "aggregator" if flow.topic_of(type(event)) is Topic.STEPS else "voter"
                self.partitions[service][crc32(flow.key_of(event).encode()) % NUM_PARTITIONS].take(event)

    async def _decode(self, event: SampleRequested) -> None:
        # While decoders are being deployed, any of either version may have it.
        is_new = self.is_new["decoder"] and (self.is_new["decomposer"] or self.rng.random() < 0.5)
        arrival = Arrival("event", event.step_id, made.NOW_MS, made.NOW_MS, "reasoning.samples/0/0")
        read = read_by(event, is_new=is_new)
        with version(is_new=is_new):
            for end in await self.decoder.handle(read, arrival):
                self.hear(read_by(end, is_new=is_new))

    async def under_load(self, policies: list[str], deploy: list[Any] | None = None) -> None:
        """Asks by these policies and deploys meanwhile; then everything comes to rest."""
        todo: list[Any] = [*policies]
        for place, each in enumerate(deploy or []):
            todo.insert(round((place + 1) * len(policies) / (len(deploy or []) + 1)) + place, each)
        while todo or self.waiting:
            if todo and (not self.waiting or self.rng.random() < 0.1):
                each = todo.pop(0)
                if isinstance(each, str):
                    await self.ask(each)
                else:
                    each()
            else:
                await self.step()

    def deploy_partition(self, service: str, index: int) -> Any:
        return self.partitions[service][index].change_hands

    def deploy(self, service: str) -> Any:
        return lambda: self.is_new.__setitem__(service, True)

    @property
    def in_order(self) -> list[Any]:
        """What is deployed, one after the other: the decomposer last."""
        joiners = [self.deploy_partition(each, n) for each in ("aggregator", "voter") for n in range(NUM_PARTITIONS)]
        return [*joiners, self.deploy("decoder"), self.deploy("decomposer")]

    @property
    def rejections(self) -> list[Any]:
        return [each for of in self.partitions.values() for partition in of for each in partition.lane.rejections]


@pytest.fixture
def policies_dir(tmp_path: Path) -> Path:
    (tmp_path / "new.toml").write_text(POLICY)
    return tmp_path


def _answered(fleet: Fleet, policy: str) -> list[AnswerReached]:
    return [end for end in fleet.ends if isinstance(end, AnswerReached) and end.policy == policy]


@pytest.mark.parametrize("seed", range(3))
async def test_with_the_decomposer_last_nothing_is_lost_or_dead_lettered_and_the_new_is_in_use_at_the_end(
    policies_dir: Path, seed: int
) -> None:
    fleet = Fleet(policies_dir, random.Random(seed))
    await fleet.under_load(["default", "early-stopping", "escalate", "fixed-8"] * 8, fleet.in_order)
    await fleet.under_load(["new", "default"] * 5)
    assert fleet.rejections == []
    assert len({end.request_id for end in fleet.ends}) == len(fleet.ends) == fleet.num_asked
    assert all(isinstance(end, AnswerReached) for end in fleet.ends)
    assert [end.confidence for end in _answered(fleet, "new")] == [0.25] * 5
    assert {verdict.launched for verdict in fleet.verdicts if verdict.policy == "new"} == {2}
    assert all(partition.lane.is_settled for of in fleet.partitions.values() for partition in of)


class Upgrade(Simulation):
    """The real services on a broker in memory, two processes each, replaced one by one while requests come."""

    def __init__(self, seed: int, policies_dir: Path) -> None:
        super().__init__(seed, num_moves=0)
        self._old: set[str] = set()
        with version(is_new=True):
            self._new_policies = CurrentPolicies("default", policies_dir)
        self._num_asked = 0

    @property
    def is_new(self) -> bool:
        """Whether the code that runs now is that of a new process."""
        return PROCESS.get() not in self._old

    async def _play(self) -> None:
        services = ("recorder", "aggregator", "voter", "decoder", "decomposer")
        for service in services * 2:
            self._old.add(self.processes.start(service).endpoint.name)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._load(["default", "early-stopping", "escalate"] * 10))
            for service in services:
                for old in self.processes.of(service):
                    await asyncio.sleep(0.3)
                    self.processes.start(service)
                    self.processes.stop(old)
        await self.until(lambda: not self._old & self.processes.alive.keys(), 60.0)
        await self._load(["new", "default"] * 4)
        await self.settle()

    async def _load(self, policies: list[str]) -> None:
        for policy in policies:
            self._num_asked += 1
            number, now_ms = self._num_asked, self.cluster.now_ms
            request_id = derived_request_id(now_ms, str(number), str(self.report.seed))
            self.expected.requests.add(request_id)
            question = f"How much is {number}?"
            self.publish(ReasoningRequested(question=question, request_id=request_id, policy=policy), f"p{number}")
            await asyncio.sleep(0.1)

    def answers(self) -> list[Event]:
        """What lies on the topic of answers."""
        return [
            codec.decode(record.topic, header(record.headers, "ce_type"), record.value)
            for tp in self.cluster.topic(Topic.ANSWERS.value)
            for record in self.cluster.partitions[tp]
        ]


@pytest.mark.parametrize("seed", range(3))
def test_on_the_real_runtime_too(policies_dir: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    upgrade = Upgrade(seed, policies_dir)
    read = Translator.read

    class Rules(dict[str, StoppingRule]):
        """The stopping rules that the process which asks has."""

        def __contains__(self, name: object) -> bool:
            return super().__contains__(name) and (name != NEW_RULE or upgrade.is_new)

    with version(is_new=True):
        monkeypatch.setattr(stopping, "STOPPING_RULES", Rules(STOPPING_RULES))
        monkeypatch.setattr(counting, "STOPPING_RULES", stopping.STOPPING_RULES)
    old_policies = processes._policies(0)
    monkeypatch.setattr(
        processes, "_policies", lambda _: upgrade._new_policies if len(upgrade._old) == 10 else old_policies
    )
    monkeypatch.setattr(Translator, "read", lambda self, record: read_by(read(self, record), is_new=upgrade.is_new))
    with quiet():
        report = upgrade.run()
    assert report.violations == [], report
    ends = upgrade.answers()
    assert {type(end) for end in ends} == {AnswerReached}
    assert [end.confidence for end in ends if isinstance(end, AnswerReached) and end.policy == "new"] == [0.25] * 4


async def test_with_the_decomposer_first_a_relay_of_before_makes_contexts_differ_and_the_voter_says_so(
    policies_dir: Path,
) -> None:
    fleet = Fleet(policies_dir, random.Random(0), is_new={"decomposer": True, "decoder": False})
    for partition in fleet.partitions["voter"]:
        partition.change_hands()
    fleet.partitions["aggregator"][0].change_hands()
    await fleet.ask("new")
    for index, event in enumerate(list(fleet.waiting)):
        if isinstance(event, SampleRequested):
            fleet.waiting.remove(event)
            fleet.is_new["decoder"] = bool(index % 2)
            await fleet._decode(event)
    while fleet.waiting:
        await fleet.step()
    (first, *_) = fleet.rejections
    assert "is the decomposer deployed last?" in str(first)
    assert first.field == "$.context.ask"


async def test_a_voter_of_before_waits_with_a_rule_that_it_does_not_know_for_one_that_does(policies_dir: Path) -> None:
    fleet = Fleet(policies_dir, random.Random(0), is_new={"decomposer": True, "decoder": True})
    for partition in fleet.partitions["aggregator"]:
        partition.change_hands()
    await fleet.under_load(["new"] * 6)
    assert (fleet.ends, fleet.rejections) == ([], [])
    for partition in fleet.partitions["voter"]:
        for key, offsets in partition.lane.groups.items():
            events = [partition.lane.log[offset] for offset in offsets]
            with version(is_new=False):
                assert isinstance(partition.lane.joiner.join(events, made.NOW_MS), Wait), key
        partition.change_hands()
    await fleet.under_load([])
    assert len(_answered(fleet, "new")) == 6
    assert fleet.rejections == []
