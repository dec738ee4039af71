"""Remembered answers in the pipeline: what is published, that strategies take it, and the laws of it."""

import random

import pytest
from msgspec.structs import replace

from conclave.domain.recall import Remembered, Wanted, fingerprint, recalled
from conclave.policies.current import CurrentPolicies
from conclave.runtime.handler import Arrival
from conclave.runtime.record import output_of
from conclave.testing import events as made
from conclave.testing import laws
from conclave.testing.cluster import Cluster
from conclave.testing.lane import SimulatedLane
from conclave.testing.loop import VirtualLoop
from conclave.testing.network import Network
from conclave.testing.record import Database
from conclave.testing.simulation import Simulation, quiet
from schemas import codec, flow
from schemas.events import AnswerReached, Event, PlanMade, ReasoningRequested, SampleRequested, StepDecided
from schemas.values import Fingerprint
from services.aggregator.joiner import Aggregator
from services.aggregator.settings import AggregatorSettings
from services.decomposer.handler import Decomposer
from services.decomposer.settings import DecomposerSettings
from tests.remembered import FIRST, FOUND, QUESTION


class Always:
    """A memory that knows one answer to everything, and what it was asked for."""

    def __init__(self, found: Remembered | None = FOUND) -> None:
        self._found = found
        self.asked: list[Wanted] = []

    async def recall(self, wanted: Wanted, now_ms: int) -> Remembered | None:
        self.asked.append(wanted)
        return self._found

    def status(self) -> dict[str, object]:
        return {"recall": "always"}


def decomposer(memory: Always, **changes: object) -> Decomposer:
    own = DecomposerSettings(**changes)  # type: ignore[arg-type]
    return Decomposer(own, CurrentPolicies("default"), None, memory)


async def handled(by: Decomposer, **changes: object) -> list[Event]:
    request = ReasoningRequested(question=QUESTION, request_id=made.REQUEST_ID)
    arrival = Arrival("event", made.REQUEST_ID, made.NOW_MS, made.NOW_MS + 7, "reasoning.requests/0/42")
    found = list(await by.handle(replace(request, **changes), arrival))
    for event in found:
        assert codec.decode(flow.topic_of(type(event)), codec.versioned_type(type(event)), codec.encode(event)) == event
    return found


@pytest.mark.parametrize("policy", ["default", "least-to-most", "contemplation", "escalate", "direct"])
async def test_a_remembered_answer_is_published_with_its_plan_and_nothing_is_sampled(policy: str) -> None:
    plan, verdict = await handled(decomposer(Always(), recall="exact"), policy=policy)
    assert isinstance(plan, PlanMade)
    assert isinstance(verdict, StepDecided)
    assert (plan.recalled_from, plan.fingerprint, len(plan.steps)) == (FIRST, None, 1)
    assert plan.steps[0].why == f"the same question in other words, answered 4 s before: {FIRST}"
    assert (verdict.stop_reason, verdict.launched, verdict.ballots) == ("recalled", 0, ())
    assert (verdict.answer, verdict.confidence, verdict.tally) == ("7", 0.9, FOUND.tally)


async def test_without_a_memory_or_an_answer_a_request_is_thought_about_and_can_be_found_again() -> None:
    for by in (decomposer(Always(None), recall="exact"), Decomposer(DecomposerSettings(), CurrentPolicies("default"))):
        plan, *samples = await handled(by)
        assert isinstance(plan, PlanMade)
        assert plan.fingerprint == fingerprint(QUESTION, plan.policy, limits=(None,) * 4, has_gist=False)
        assert {type(each) for each in samples} == {SampleRequested}


async def test_a_request_says_how_old_an_answer_may_be() -> None:
    memory = Always()
    by = decomposer(memory, recall="gist", recall_lasting_s=100.0, recall_perishable_s=10.0)
    assert len(await handled(by, max_age_s=0.0)) > 2
    assert memory.asked == []
    await handled(by, max_age_s=50.0, tags={"tenant": "acme"})
    await handled(by)
    await handled(by, question="What is the weather?")
    assert [each.max_age_s for each in memory.asked] == [50.0, 100.0, 10.0]
    assert memory.asked[0].fingerprint.tenant == "acme"
    assert memory.asked[0].key == fingerprint(QUESTION, made.policy(), tenant="acme", limits=(None,) * 4).gist


@pytest.mark.parametrize("policy", ["default", "least-to-most", "contemplation", "escalate", "direct"])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("carried_after", [None, 1])
def test_a_recalled_request_is_answered_once_whatever_its_strategy(
    policy: str, order: tuple[int, int], carried_after: int | None
) -> None:
    plan = replace(made.opened(made.policy(policy)), fingerprint=Fingerprint(key="k", gist="g"))
    events = recalled(plan, FOUND, made.NOW_MS)
    heard: list[Event] = []
    lane = SimulatedLane(Aggregator(AggregatorSettings()), heard.append, made.NOW_MS)
    for number, place in enumerate(order):
        lane.log.append(events[place])
        if number == carried_after:
            lane.drain()
    lane.drain()
    (answer,) = heard
    assert isinstance(answer, AnswerReached)
    assert (answer.answer, answer.confidence, answer.recalled_from) == ("7", 0.9, FIRST)
    assert (answer.num_paths, answer.tokens_out, answer.policy) == (0, 0, policy)
    assert lane.rejections == []


SECOND = made.REQUEST_ID


def told_of(first: PlanMade, second: PlanMade, *, tenants: str = "aa", given_answer: str = "7") -> list[str]:
    """What the laws say of recalling: `second` recalls what `first` came to."""
    loop = VirtualLoop()  # type: ignore[abstract]
    rng = random.Random(0)
    topics = {row.topic.value: 1 for row in flow.TOPICS}
    topics |= {flow.dead_letter_topic(topic): 1 for topic in topics}
    cluster = Cluster(loop, rng, topics, made.NOW_MS)
    asked = [
        ReasoningRequested(
            question=plan.question, request_id=plan.request_id, policy="default", tags={"tenant": tenant}
        )
        for plan, tenant in zip((first, second), tenants, strict=True)
    ]
    ends = [made.answer("7", request_id=FIRST), made.answer(given_answer, request_id=SECOND, recalled_from=FIRST)]
    cluster.publish(
        output_of(event, service="test", event_id=f"event-{number}", parent=None, now_ms=made.NOW_MS)
        for number, event in enumerate([*asked, first, second, *ends])
    )
    database = Database(Network(loop, rng, "postgres"))
    found = laws.violations(cluster, database, laws.Expected(requests={FIRST, SECOND}))
    return [line for line in found if "recall" in line or "names" in line]


def plans(**changes: object) -> tuple[PlanMade, PlanMade]:
    first = replace(made.plan(), request_id=FIRST, question=QUESTION)
    second = replace(made.plan(), question=f"Please: {QUESTION}", recalled_from=FIRST)
    return first, replace(second, **changes)


def test_a_sound_recall_breaks_no_law() -> None:
    assert told_of(*plans()) == []


@pytest.mark.parametrize(
    ("changes", "told", "expected"),
    [
        ({"question": QUESTION.replace("3", "5")}, {}, "recalls the answer to another question"),
        ({"policy": replace(made.policy(), digest="other")}, {}, "recalls the answer to another question"),
        ({"policy": made.policy("direct")}, {}, "names default, and was given direct"),
        ({}, {"tenants": "ab"}, "recalls the answer of another tenant"),
        ({}, {"given_answer": "8"}, "was answered '8', and recalls '7'"),
        ({"recalled_from": SECOND}, {}, "which was not thought about"),
    ],
)
def test_what_is_wrong_with_a_recall_is_found(changes: dict[str, object], told: dict[str, str], expected: str) -> None:
    first, second = plans(**changes)
    given = told.get("given_answer", "7")
    found = told_of(first, second, tenants=told.get("tenants", "aa"), given_answer=given)
    assert any(expected in line for line in found), found


def test_schedules_recall_answers_and_keep_the_laws() -> None:
    num_recalled = num_played = seed = 0
    while num_played < 4:
        seed += 1
        with quiet():
            simulation = Simulation(seed, num_moves=3)
            if simulation.processes.recall != "off":
                num_played += 1
                report = simulation.run()
                assert not report.violations, report
                num_recalled += report.num_recalled
    assert num_recalled > 0
