"""Remembered answers: when two questions are the same, what is kept, what is given, and that nobody waits for it."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from msgspec.structs import replace

from conclave.domain.recall import Remembered, Wanted, fingerprint, gist, is_worth_giving, normal_form, recalled
from conclave.domain.recall.freshness import Freshness, is_perishable
from conclave.domain.recall.front import EVICTIONS, Front
from conclave.errors import LostDependency
from conclave.policies.current import CurrentPolicies
from conclave.runtime.handler import Arrival
from conclave.runtime.record import output_of
from conclave.testing import events as made
from conclave.testing import laws
from conclave.testing.cluster import Cluster
from conclave.testing.lane import SimulatedLane
from conclave.testing.loop import VirtualLoop
from conclave.testing.near_questions import near_twins, paraphrases
from conclave.testing.network import Network
from conclave.testing.record import Database
from conclave.testing.simulation import Simulation, quiet
from schemas import codec, flow
from schemas.events import AnswerReached, Event, PlanMade, ReasoningRequested, SampleRequested, StepDecided
from schemas.ids import derived_request_id
from schemas.values import Fingerprint, Outcome, TallyRow
from services.aggregator.joiner import Aggregator
from services.aggregator.settings import AggregatorSettings
from services.decomposer.handler import Decomposer
from services.decomposer.memory import Limits, RecordedMemory
from services.decomposer.settings import DecomposerSettings

FIRST = derived_request_id(made.NOW_MS - 5000, "first")
QUESTION = "Tom has 3 nuts and buys 4. How many nuts does Tom have?"
FOUND = Remembered(
    request_id=FIRST,
    key="k",
    answer="7",
    outcome=Outcome.MAJORITY,
    confidence=0.9,
    margin=0.8,
    agreement=0.9,
    entropy=0.4,
    tally=(TallyRow(answer="7", votes=9, weight=9.0), TallyRow(answer="8", votes=1, weight=1.0)),
    tokens_out=300,
    answered_ms=made.NOW_MS - 4000,
)


def wanted(key: str = "k", at: str = "here", **changes: object) -> Wanted:
    values: dict[str, object] = {"max_age_s": 3600.0, "at": at, "deadline_s": 600.0}
    return Wanted(Fingerprint(key=key, gist=f"gist of {key}"), **(values | changes))  # type: ignore[arg-type]


# -- when two questions are the same ----------------------------------------------------------------------------------


def test_no_near_twin_is_taken_for_its_sister() -> None:
    wrong = Counter(kind for kind, one, other in near_twins(random.Random(13), 2_000) if gist(one) == gist(other))
    assert not wrong


def test_most_paraphrases_are_known_again() -> None:
    known: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    for kind, one, other in paraphrases(random.Random(13), 600):
        asked[kind] += 1
        known[kind] += gist(one) == gist(other)
    assert known.total() / asked.total() >= 0.6
    assert all(known[kind] == asked[kind] for kind in asked if not kind.startswith("beyond")), known


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What does a bank do?", "What is a bank?"),
        ("What does Tom sell?", "Does Tom sell?"),
        ("Is Polish hard?", "Is polish hard?"),
        ("Does May sing?", "Does may sing?"),
        ("x + X = 3", "x + x = 3"),
        ("3 mW of power?", "3 MW of power?"),
        ("What is 5!", "What is 5?"),
        ("2*(3+4)", "2*3+4"),
        ("3:4 or 5", "3 4 or 5"),
        ("x² + 1", "x2 + 1"),
        ("Who is it?", "Where is it?"),
        ("How is Tom?", "What is Tom?"),
        ("Is it 1.5?", "Is it 15?"),
        ("Is it 1,5?", "Is it 1.5?"),
        ("The US won", "The us won"),
        ("Is he from Tom to Ann?", "Is he from Ann to Tom?"),
        ("Ann remained. 3 left.", "Ann left. 3 remained."),
        ("You can go if you like?", "You go if you like?"),
        ("天気は?", "天気が?"),
    ],
)
def test_what_asks_something_else_has_another_gist(one: str, other: str) -> None:
    assert gist(one) != gist(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What's 2 + 2?", "Calculate 2+2."),
        ("How much is 10% of 50 €?", "how much is 10 % of 50€"),
        ("Tom doesn't own 1,000 cats.", "Tom does not have 1000 cat"),
        ("Hello! Could you please tell me: is Tom here? Thanks!", "Is Tom here?"),
        ("How many apples are left over?", "How many apples remain?"),
        ("Has Tom twenty-one nuts?", "Has Tom 21 nuts?"),
    ],
)
def test_what_asks_the_same_has_the_same_gist(one: str, other: str) -> None:
    assert gist(one) == gist(other)


@given(st.text(min_size=1, max_size=200))
@settings(max_examples=100)
def test_the_normal_form_is_a_fixed_point_and_keeps_the_gist(text: str) -> None:
    form = normal_form(text)
    assert normal_form(form) == form
    assert gist(form) == gist(text)


@pytest.mark.parametrize(
    "hostile", ["(" * 16_384, "n't " * 4_000, "please " * 2_300, "how many " * 1_800, "!" * 16_384]
)
def test_a_hostile_question_has_a_fingerprint(hostile: str) -> None:
    assert len(fingerprint(hostile, made.policy()).key) == 32


def test_a_fingerprint_is_of_tenant_policy_and_limits_too() -> None:
    policy = made.policy()
    found = [
        fingerprint(QUESTION, policy),
        fingerprint(QUESTION, policy, tenant="a"),
        fingerprint(QUESTION, policy, tenant="b"),
        fingerprint(QUESTION, policy, limits=(2, None)),
        fingerprint(QUESTION, policy, limits=(None, "strict")),
        fingerprint(QUESTION, policy, epoch="new model"),
        fingerprint(QUESTION, replace(policy, digest="another")),
    ]
    assert len({each.key for each in found}) == len({each.gist for each in found}) == len(found)
    assert fingerprint(f" {QUESTION} ", policy) == found[0]
    assert fingerprint(f"Please: {QUESTION}", policy).gist == found[0].gist
    assert fingerprint(f"Please: {QUESTION}", policy).key != found[0].key
    assert fingerprint(QUESTION, policy, has_gist=False) == replace(found[0], gist="")


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What is the weather in Paris?", True),
        ("Who is the president of France?", True),
        ("What is the latest version of Python?", True),
        ("Is it raining now?", True),
        ("Tom has 3 nuts and buys 4. How many has he now?", False),
        ("The price of 3 nuts is 6. What do 5 cost?", False),
        ("What is the capital of France?", False),
    ],
)
def test_what_the_world_decides_perishes(question: str, expected: bool) -> None:
    assert is_perishable(question) is expected
    freshness = Freshness(lasting_s=1000.0, perishable_s=10.0)
    assert freshness.max_age_s(question, None) == (10.0 if expected else 1000.0)
    assert freshness.max_age_s(question, 5.0) == 5.0
    assert freshness.max_age_s(question, 5000.0) == (10.0 if expected else 1000.0)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"outcome": Outcome.TIE}, False),
        ({"confidence": 0.3}, False),
        ({"is_disliked": True}, False),
        ({"answered_ms": made.NOW_MS - 3_600_000}, False),
    ],
)
def test_only_a_clear_young_answer_that_nobody_calls_wrong_is_given(changes: dict[str, object], expected: bool) -> None:
    assert is_worth_giving(replace(FOUND, **changes), wanted(), made.NOW_MS) is expected


# -- the front --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("eviction", EVICTIONS)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 40), st.sampled_from("pgd")), max_size=80))
@settings(max_examples=40)
def test_a_front_never_outgrows_its_bytes_and_gives_back_what_was_put(
    eviction: str, moves: list[tuple[int, int, str]]
) -> None:
    front: Front[int] = Front(100, eviction)
    last: dict[str, tuple[int, int]] = {}
    for number, (key, size, move) in enumerate(moves):
        if move == "p":
            front.put(str(key), number, num_bytes=size, cost=float(size % 7))
            last[str(key)] = number, size
        elif move == "g":
            found = front.get(str(key))
            assert found is None or found == last[str(key)][0]
        else:
            front.drop(str(key))
            assert front.get(str(key)) is None
        assert front.num_bytes == sum(last[each][1] for each in front) <= 100


def evicted(eviction: str) -> str:
    """Which of a (old, used often), b (dear), c (cheap, used last) goes when there is no room for d."""
    front: Front[str] = Front(30, eviction)
    front.put("a", "a", num_bytes=10, cost=5.0)
    for _ in range(3):
        front.get("a")
    front.put("b", "b", num_bytes=10, cost=100.0)
    front.put("c", "c", num_bytes=10, cost=1.0)
    front.put("d", "d", num_bytes=10, cost=50.0)
    (gone,) = set("abcd") - set(front)
    return gone


@pytest.mark.parametrize(("eviction", "gone"), [("fifo", "a"), ("lru", "a"), ("lfu", "b"), ("gdsf", "c")])
def test_an_eviction_lets_the_least_dear_go(eviction: str, gone: str) -> None:
    assert evicted(eviction) == gone


def test_what_is_liked_stays_longer() -> None:
    front: Front[str] = Front(20, "gdsf")
    front.put("liked", "", num_bytes=10, cost=10.0, liking=2.0)
    front.put("disliked", "", num_bytes=10, cost=10.0, liking=0.2)
    front.put("new", "", num_bytes=10, cost=10.0)
    assert set(front) == {"liked", "new"}


# -- asking the record ------------------------------------------------------------------------------------------------


@dataclass
class Record:
    """A record that answers, late or never."""

    answers: dict[str, Remembered] = field(default_factory=lambda: {"k": FOUND})
    against: set[str] = field(default_factory=set)
    takes_s: float = 0.0
    error: Exception | None = None
    asked: list[tuple[str, ...]] = field(default_factory=list)

    async def newest(self, tokens: Sequence[str], *, by_gist: bool, oldest_ms: int) -> dict[str, Remembered]:
        self.asked.append(tuple(tokens))
        if self.error is not None:
            raise self.error
        await asyncio.sleep(self.takes_s)
        return {token: self.answers[token] for token in tokens if token in self.answers}

    async def spoken_against(self, since_ms: int) -> set[str]:
        if self.error is not None:
            raise self.error
        return self.against


@asynccontextmanager
async def memory_of(record: Record, **limits: object) -> AsyncIterator[RecordedMemory]:
    memory = RecordedMemory(record, Limits(**({"patience_s": 0.05} | limits)))  # type: ignore[arg-type]
    following = asyncio.create_task(memory.follow())
    await asyncio.sleep(0)
    try:
        yield memory
    finally:
        following.cancel()
        await asyncio.wait({following})


async def test_what_is_recorded_is_given_and_then_kept_in_the_process() -> None:
    record = Record()
    async with memory_of(record) as memory:
        assert await memory.recall(wanted(), made.NOW_MS) == FOUND
        assert await memory.recall(wanted(), made.NOW_MS) == FOUND
        assert await memory.recall(wanted("gist of k", at="b", is_worded_alike=True), made.NOW_MS) is None
        assert record.asked == [("k",), ("gist of k",)]
        assert memory.status()["recall"]["front"] == 1  # type: ignore[index]


async def test_those_who_want_something_together_ask_together() -> None:
    record = Record()
    async with memory_of(record, wait_s=0.0) as memory:
        found = await asyncio.gather(*(memory.recall(wanted(key, at=key), made.NOW_MS) for key in ("k", "k", "l", "m")))
        assert found == [FOUND, FOUND, None, None]
        assert record.asked == [("k", "l", "m")]


async def test_a_record_that_is_away_is_a_miss_at_once_and_is_left_alone_for_a_while() -> None:
    record = Record(error=LostDependency("postgres", "gone"))
    async with memory_of(record, wait_s=0.0) as memory:
        for number in range(5):
            assert await memory.recall(wanted(str(number)), made.NOW_MS) is None
        assert len(record.asked) <= 1
        assert "gone" in memory.status()["recall"]["away"]  # type: ignore[index]


async def test_a_record_that_is_slow_costs_a_request_its_patience_and_no_more() -> None:
    record = Record(takes_s=0.5)
    async with memory_of(record, patience_s=0.01, wait_s=0.0) as memory:
        start_s = asyncio.get_running_loop().time()
        for number in range(20):
            assert await memory.recall(wanted(str(number)), made.NOW_MS) is None
        assert asyncio.get_running_loop().time() - start_s < 0.4


async def test_nothing_is_remembered_while_nobody_follows() -> None:
    assert await RecordedMemory(Record(), Limits(patience_s=0.01)).recall(wanted(), made.NOW_MS) is None


async def test_what_feedback_calls_wrong_leaves_the_front(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.decomposer.memory._CHECKED_EVERY_S", 0.01)
    record = Record()
    async with memory_of(record, wait_s=0.0) as memory:
        assert await memory.recall(wanted(), made.NOW_MS) == FOUND
        record.against.add(FIRST)
        record.answers["k"] = replace(FOUND, is_disliked=True)
        async with asyncio.timeout(5):
            while memory.status()["recall"]["front"]:  # type: ignore[index]
                await asyncio.sleep(0.005)
        assert await memory.recall(wanted(), made.NOW_MS) is None


async def test_the_front_is_not_believed_while_feedback_can_not_be_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.decomposer.memory._HOLDS_S", 0.0)
    record = Record()
    async with memory_of(record, wait_s=0.0) as memory:
        await memory.recall(wanted(), made.NOW_MS)
        await memory.recall(wanted(), made.NOW_MS)
        assert record.asked == [("k",), ("k",)]


async def test_an_equal_question_in_flight_is_waited_for_and_answered_by_one_computation() -> None:
    record = Record(answers={})
    async with memory_of(record, wait_s=5.0) as memory:
        assert await memory.recall(wanted(at="first"), made.NOW_MS - 6000) is None
        second = asyncio.create_task(memory.recall(wanted(at="second"), made.NOW_MS))
        third = asyncio.create_task(memory.recall(wanted(at="third", max_age_s=1e6), made.NOW_MS))
        assert await memory.recall(wanted(at="first"), made.NOW_MS) is None  # read again, it waits for nobody
        record.answers["k"] = FOUND
        assert [await second, await third] == [FOUND, FOUND]


async def test_an_equal_question_that_comes_to_nothing_is_waited_for_no_longer_than_that() -> None:
    record = Record(answers={})
    async with memory_of(record, wait_s=0.15) as memory:
        assert await memory.recall(wanted(at="first"), made.NOW_MS) is None
        assert await memory.recall(wanted(at="second"), made.NOW_MS) is None
        record.answers["k"] = replace(FOUND, outcome=Outcome.TIE, answered_ms=made.NOW_MS + 9)
        assert await memory.recall(wanted(at="third"), made.NOW_MS) is None
        async with asyncio.timeout(0.14):  # a tie is no answer to wait for
            assert await memory.recall(wanted(at="fourth", deadline_s=600.0), made.NOW_MS) is None


# -- the decomposer ---------------------------------------------------------------------------------------------------


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


# -- the aggregator ---------------------------------------------------------------------------------------------------


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


# -- the laws ---------------------------------------------------------------------------------------------------------

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


# -- the simulator ----------------------------------------------------------------------------------------------------


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
