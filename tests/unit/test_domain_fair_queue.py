"""Laws of whose turn it is: shares hold, nothing starves, what was begun goes first, and nobody gains by idling."""

import random
from collections import Counter

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from conclave.domain.fair_queue import FairQueue, Flow, Ticket
from conclave.domain.fair_shares import FairShares
from conclave.domain.priorities import DEFAULT_PRIORITY, PRIORITIES, at_most, known_priority

CLASSES = tuple(PRIORITIES)
ANYONES = st.builds(Flow, priority=st.sampled_from(CLASSES), tenant=st.sampled_from(("a", "b", "c")))


@settings(max_examples=50)
@given(
    weights=st.lists(st.floats(0.1, 50), min_size=2, max_size=5),
    costs=st.lists(st.floats(0.01, 10), min_size=20, max_size=200),
)
def test_who_always_has_work_gets_its_share_within_one_piece_of_work_of_each(
    weights: list[float], costs: list[float]
) -> None:
    shares = FairShares(lambda name: weights[int(name)])
    for index in range(len(weights)):
        shares.join(str(index))
    got = [0.0] * len(weights)
    for cost in costs:
        who = shares.first()
        assert who is not None
        shares.charge(who, cost)
        got[int(who)] += cost
        for one in range(len(weights)):
            for other in range(len(weights)):
                apart = got[one] / weights[one] - got[other] / weights[other]
                assert apart <= max(costs) * (1 / weights[one] + 1 / weights[other]) + 1e-9


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abc"), st.floats(0.0, 100)), max_size=100))
def test_who_joins_late_is_served_within_two_pieces_of_work_of_each_of_the_others(
    past: list[tuple[bool, str, float]],
) -> None:
    shares = FairShares(lambda _: 1.0)
    for has_work, who, cost in past:
        (shares.join if has_work else shares.leave)(who)
        first = shares.first()
        if first is not None:
            shares.charge(first, cost)
    for who in "abc":
        shares.join(who)
    shares.join("late")
    largest = max([1.0, *(cost for _, _, cost in past)])
    before: Counter[str] = Counter()
    while (next_ := shares.first()) != "late":
        assert next_ is not None
        before[next_] += 1
        shares.charge(next_, largest)
    assert all(times <= 2 for times in before.values()), before


def test_what_nobody_has_work_for_is_forgotten() -> None:
    shares = FairShares(lambda _: 1.0)
    for is_alone in (True, False):
        for number in range(2_000):
            shares.join(str(number))
            first = shares.first()
            assert first is not None
            shares.charge(first, 1.0)
            shares.leave(str(number))
        assert len(shares._tags) < 200, is_alone
        shares.join("always")


@given(st.lists(st.tuples(ANYONES, st.integers(0, 9)), max_size=80), st.randoms(use_true_random=False))
def test_everyone_has_one_turn_whoever_leaves_meanwhile(waiting: list[tuple[Flow, int]], rng: random.Random) -> None:
    queue = FairQueue()
    tickets = [queue.enter(f"request-{step // 3}/{step % 3}", flow) for flow, step in waiting]
    gone = {ticket for ticket in tickets if rng.random() < 0.2}
    for ticket in gone:
        queue.leave(ticket)
        queue.leave(ticket)
    had = []
    while (next_ := queue.next()) is not None:
        had.append(next_)
        queue.ended(next_, rng.choice((None, 0.0, 5.0, 500.0)))
        queue.leave(next_)
    assert sorted(had, key=_number) == [ticket for ticket in tickets if ticket not in gone]
    assert queue.num_waiting_of == dict.fromkeys(CLASSES, 0)
    assert not queue._backlogs
    assert not queue._charged


@given(st.lists(st.integers(0, 11), min_size=1, max_size=60))
def test_of_one_tenant_what_was_begun_goes_first_and_else_the_oldest(steps: list[int]) -> None:
    queue = FairQueue()
    for step in steps:
        queue.enter(f"request-{step // 3}/{step % 3}")
    left = Counter(steps)
    begun: set[int] = set()
    while (ticket := queue.next()) is not None:
        request, _, index = ticket.step.removeprefix("request-").partition("/")
        step = int(request) * 3 + int(index)
        of_begun_steps = {each for each in begun if left[each]}
        of_begun_requests = {each for each in left if left[each] and each // 3 in {one // 3 for one in begun}}
        if of_begun_steps:
            assert step in of_begun_steps
        elif of_begun_requests:
            assert step in of_begun_requests
        else:
            assert step == next(each for each in steps if left[each])
        left[step] -= 1
        begun.add(step)


def test_who_always_has_work_is_not_starved_by_ever_new_ones_that_come_and_go() -> None:
    shares = FairShares(lambda _: 1.0)
    shares.join("always")
    for number in range(3):
        shares.join(str(number))
    had = 0
    for number in range(3, 1_003):
        first = shares.first()
        assert first is not None
        shares.charge(first, 1.0)
        if first == "always":
            had += 1
        else:
            shares.leave(first)
            shares.join(str(number))
    assert had == pytest.approx(250, abs=5)


def test_an_interactive_sample_goes_before_all_batch_samples_that_wait() -> None:
    queue = FairQueue()
    for number in range(500):
        queue.enter(f"batch-{number}/0", Flow("batch"))
    for _ in range(64):
        assert queue.next() is not None
    asked = queue.enter("question/0", Flow("interactive"))
    assert queue.next() == asked


@settings(max_examples=4)
@given(st.integers(0, 2**32 - 1))
def test_all_classes_get_their_share_of_tokens_however_long_their_paths_are(seed: int) -> None:
    """By the guess alone, who has long paths would get many times its share."""
    rng = random.Random(seed)
    tokens = {name: rng.choice((20, 60, 200)) for name in CLASSES}
    got = _served(FairQueue(), rng, tokens, num_turns=6_000)
    whole, weights = sum(got.values()), sum(PRIORITIES.values())
    most_at_once = 32 * max(tokens.values()) + 2 * max(tokens.values()) * weights
    for name, weight in PRIORITIES.items():
        assert abs(got[name] - whole * weight / weights) <= most_at_once
    assert min(got.values()) > 0


def _served(queue: FairQueue, rng: random.Random, tokens: dict[str, int], *, num_turns: int) -> Counter[str]:
    """Tokens by class, with every class backlogged and 32 turns running at once."""
    got: Counter[str] = Counter()
    for number in range(64):
        for name in CLASSES:
            queue.enter(f"{name}-{number}/0", Flow(name))
    running: list[Ticket] = []
    for number in range(num_turns):
        ticket = queue.next()
        assert ticket is not None
        queue.enter(f"{ticket.flow.priority}-{64 + number}/0", ticket.flow)
        running.append(ticket)
        if len(running) >= 32:
            ended = running.pop(rng.randrange(len(running)))
            cost = rng.uniform(0.5, 1.5) * tokens[ended.flow.priority]
            queue.ended(ended, cost)
            got[ended.flow.priority] += round(cost)
    return got


def test_tenants_of_a_class_share_alike_whatever_they_ask_for() -> None:
    queue = FairQueue()
    for number in range(1000):
        queue.enter(f"many-{number}/0", Flow("standard", "many"))
    for number in range(20):
        queue.enter(f"few-{number}/0", Flow("standard", "few"))
    had = [queue.next() for _ in range(40)]
    assert Counter(ticket.flow.tenant for ticket in had if ticket is not None) == {"many": 20, "few": 20}


def test_a_class_that_is_not_known_is_the_default_one_and_weights_can_be_changed() -> None:
    queue = FairQueue({"batch": 1000.0})
    assert queue.enter("a/0", Flow("urgent")).flow.priority == DEFAULT_PRIORITY == known_priority("urgent")
    for number in range(10):
        queue.enter(f"{number}/0", Flow("batch"))
        queue.enter(f"standard-{number}/0")
    had = [ticket.flow.priority for _ in range(10) if (ticket := queue.next())]
    assert Counter(had) == {"batch": 9, "standard": 1}


@pytest.mark.parametrize("wanted", CLASSES)
@pytest.mark.parametrize("most", CLASSES)
def test_a_priority_that_is_limited_is_never_more_urgent_than_its_limit(wanted: str, most: str) -> None:
    given_ = at_most(wanted, most)
    assert PRIORITIES[given_] == min(PRIORITIES[wanted], PRIORITIES[most])


_comings = st.tuples(
    st.sampled_from(["come", "pass"]),
    st.sampled_from(["a/0", "a/1", "b/0"]),
    st.sampled_from(["batch", "standard"]),
    st.sampled_from("xy"),
)


# Virtual time that went on from 1 took no notice of what is less than its last bit.
@example(
    [
        ("pass", "a/0", "batch", "x"),
        ("end", 1e-49),
        ("come", "a/0", "batch", "x"),
        ("come", "a/0", "standard", "x"),
        ("next",),
        ("come", "a/0", "standard", "x"),
        ("next",),
    ]
)
@given(st.lists(_comings | st.just(("next",)) | st.tuples(st.just("end"), st.floats(0, 50)), max_size=60))
def test_who_passes_by_an_empty_queue_changes_as_much_as_if_it_had_stood_in_it(moves: list[tuple[object, ...]]) -> None:
    through, past = FairQueue(), FairQueue()
    running: list[Ticket] = []
    for move in moves:
        match move:
            case ("pass", str(step), str(priority), str(tenant)) if not past.num_waiting:
                flow = Flow(priority, tenant)
                through.enter(step, flow)
                running.append(past.pass_by(step, flow))
                assert through.next() == running[-1]
            case ("come" | "pass", str(step), str(priority), str(tenant)):
                assert through.enter(step, Flow(priority, tenant)) == past.enter(step, Flow(priority, tenant))
            case ("end", float(cost)) if running:
                ticket = running.pop(0)
                through.ended(ticket, cost)
                past.ended(ticket, cost)
            case _:
                ticket_of = past.next()
                assert through.next() == ticket_of
                running += [ticket_of] if ticket_of else []


def _number(ticket: Ticket) -> int:
    return ticket.number
