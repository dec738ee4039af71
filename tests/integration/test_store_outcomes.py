"""What the record tells those that learn from it: outcomes, played again, and what was spent."""

from datetime import UTC, datetime, timedelta

from msgspec.structs import replace

from conclave.cli.recordings import of_stored
from conclave.domain.complexity.outcomes import examples as needed_of
from conclave.domain.routing.examples import examples
from conclave.store import queries
from conclave.store.erasure import erase
from conclave.store.observations import observations, outcomes
from conclave.store.spending import Spending
from conclave.store.store import Store
from conclave.testing import events as made
from schemas.events import Event, FeedbackGiven, ReasoningRequested
from schemas.ids import new_request_id
from tests.integration.recorded_events import POLICY, direct_of, recorded, trace_of


async def test_stored_paths_are_played_again_with_what_feedback_says_is_right(
    store: Store, fresh_database: str
) -> None:
    told, rewarded, unknown = (str(new_request_id()) for _ in range(3))
    given = [
        FeedbackGiven(request_id=told, right_answer="b", reward=0.0),
        FeedbackGiven(request_id=rewarded, reward=1.0),
        FeedbackGiven(request_id=unknown, reward=0.0),
    ]
    for request in (told, rewarded, unknown):
        await store.write([recorded(event) for event in trace_of(request, "aba")], {})
    await store.write([recorded(event, offset) for offset, event in enumerate(given)], {})
    found = of_stored(await queries.stored_paths(fresh_database, POLICY.name, 10))
    assert {each.id: each.gold for each in found} == {told: "b", rewarded: "a", unknown: None}
    assert all([ballot.answer for ballot in each.ballots] == ["a", "b", "a"] for each in found)
    assert await queries.stored_paths(fresh_database, "another", 10) == []


async def test_what_was_answered_directly_is_told_with_what_is_known_of_it(store: Store, fresh_database: str) -> None:
    requests = [str(new_request_id()) for _ in range(4)]
    events = [
        *direct_of(requests[0], "1"),
        *direct_of(requests[1], "2", final="3"),
        *direct_of(requests[2], "4"),
        *trace_of(requests[3], "abbb"),
        FeedbackGiven(request_id=requests[0], reward=0.0, source="ann"),
        FeedbackGiven(request_id=requests[2], right_answer="5"),
    ]
    await store.write([recorded(event, offset) for offset, event in enumerate(events)], {})
    since = datetime.now(UTC) - timedelta(days=1)
    found = await observations(fresh_database, since=since, form="direct", limit=100)
    taught = {(each.question, each.source): (each.wrong, each.weight) for each in examples(found)}
    assert taught == {
        ("1?", "reward"): (1.0, 1.0),
        ("2?", "thought over"): (1.0, 0.5),
        ("4?", "right answer"): (1.0, 1.0),
        ("q\u00e9?", "vote"): (0.0, 0.25),
    }
    assert len(await observations(fresh_database, since=since, form="direct", limit=2)) == 2
    assert await observations(fresh_database, since=datetime.now(UTC) + timedelta(days=1), form="direct", limit=9) == []


async def test_what_has_lost_its_words_is_neither_played_again_nor_learned_from(
    store: Store, fresh_database: str
) -> None:
    kept, erased = (str(new_request_id()) for _ in range(2))
    for request in (kept, erased):
        await store.write([recorded(event) for event in trace_of(request, "aba")], {})
    await erase(fresh_database, [erased])
    since = datetime.now(UTC) - timedelta(days=1)
    found = await observations(fresh_database, since=since, form="direct", limit=100)
    assert [each.question for each in found] == ["q\u00e9?"]
    assert {each.id for each in of_stored(await queries.stored_paths(fresh_database, POLICY.name, 10))} == {kept}


async def test_what_votes_and_rounds_came_to_is_told_with_what_is_known_of_it(
    store: Store, fresh_database: str
) -> None:
    agreed, split, round_after_round = (str(new_request_id()) for _ in range(3))
    plan = replace(made.opened(made.policy("contemplation")), request_id=round_after_round)
    rounds: list[Event] = [ReasoningRequested(question="rounds?", request_id=round_after_round), plan]
    for index, said in enumerate(("1", "2", "2")):
        context = made.context(request_id=round_after_round, index=index, deadline_ms=0)
        rounds += [
            replace(made.decoded(context, 0, 1, said)),
            made.verdict(index, answer=said, request_id=round_after_round, num_votes=1),
        ]
    events = [
        *trace_of(agreed, "bbbbb"),
        *trace_of(split, "abbb"),
        *rounds,
        made.answer("2", request_id=round_after_round, answered_by=2),
        FeedbackGiven(request_id=split, right_answer="a"),
    ]
    await store.write([recorded(event, offset) for offset, event in enumerate(events)], {})
    since = datetime.now(UTC) - timedelta(days=1)
    found = await outcomes(fresh_database, "samples", since=since, limit=100)
    assert {(each.needed, each.source) for each in needed_of(found, "samples") if each.question == "q\u00e9?"} == {
        (4.0, "unjudged"),
        (5.0, "right answer"),
    }
    (thought,) = await outcomes(fresh_database, "rounds", since=since, limit=100)
    assert (thought.question, thought.said, thought.answer) == ("rounds?", ["1", "2", "2"], "2")
    assert [each.needed for each in needed_of([thought], "rounds")] == [2.0]
    assert len(await outcomes(fresh_database, "samples", since=since, limit=1)) == 1


async def test_what_was_spent_lately_is_known_while_the_database_answers(store: Store, fresh_database: str) -> None:
    spending = Spending(fresh_database)
    assert spending.tokens_last_hour() is None
    events = [*direct_of(str(new_request_id()), "1"), *direct_of(str(new_request_id()), "2", final="3")]
    await store.write([recorded(event, offset) for offset, event in enumerate(events)], {})
    await spending.refresh()
    assert spending.tokens_last_hour() == 37.0
    away = Spending("postgresql://nobody@127.0.0.1:9/nothing")
    await away.refresh()
    assert away.tokens_last_hour() is None
    for each in (spending, away):
        await each.close()
