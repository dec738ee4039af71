"""What each strategy does with what its steps come to. The laws that all keep: test_aggregator_laws."""

from dataclasses import dataclass

import pytest

from conclave.domain.strategies import STRATEGIES
from conclave.domain.strategies.least_to_most import parts_of
from conclave.domain.thought import Conclude
from conclave.testing.strategies import Coming, played
from schemas.values import MAX_STEPS, Step

SPLIT = "1: How many has Tom?\n2: How many has Ann?\n3 needs 1 2: Add #1 and #2."


@dataclass(frozen=True)
class Played:
    end: Conclude
    steps: tuple[Step, ...]


def play(strategy: str, *comings: Coming, **params: float) -> Played:
    """What comes of a question whose steps come to `comings`; it must end after the last of them."""
    end, thought = played(STRATEGIES[strategy], comings, params=params)
    return Played(end, thought.steps)


SURE, UNSURE = ("36", 0.9), ("35", 0.3)


def test_a_vote_asks_once_and_answers_with_what_it_came_to() -> None:
    assert play("vote", UNSURE).end == Conclude(0, 0.3)
    assert play("vote", (None, 0.0)).end == Conclude(None)


def test_a_direct_answer_that_is_sure_enough_ends_it() -> None:
    thought = play("escalate", SURE)
    assert (thought.end, [step.ask for step in thought.steps]) == (Conclude(0, 0.9), ["direct"])


@pytest.mark.parametrize("first", [UNSURE, (None, 0.0)])
def test_what_was_thought_over_counts_however_sure_it_is(first: tuple[str | None, float]) -> None:
    thought = play("escalate", first, ("36", 0.2))
    assert thought.end == Conclude(1, 0.2)
    assert [(step.ask, step.depends_on) for step in thought.steps] == [("direct", ()), ("whole", (0,))]
    assert ("sure" in thought.steps[1].why) is (first[0] is not None)


def test_an_unsure_direct_answer_is_better_than_none() -> None:
    assert play("escalate", UNSURE, (None, 0.0)).end == Conclude(0, 0.3)
    assert play("escalate", UNSURE).end == Conclude(0, 0.3)


def test_the_floor_of_an_escalation_is_the_policy_s() -> None:
    assert len(play("escalate", UNSURE, SURE, floor=0.3).steps) == 1


def test_parts_are_asked_in_rounds_and_the_last_one_answers() -> None:
    thought = play("least_to_most", (SPLIT, 0.75), ("3", 0.9), ("4", 0.8), ("7", 0.5))
    assert thought.end.step == 3
    assert thought.end.confidence == pytest.approx(0.9 * 0.8 * 0.5)
    assert [(step.mark, step.depends_on) for step in thought.steps] == [
        ("split", ()),
        ("#1", (0,)),
        ("#2", (0,)),
        ("#3", (1, 2)),
    ]
    assert thought.steps[3].fields["earlier"] == "#1 = 3\n#2 = 4"
    assert "earlier" not in thought.steps[1].fields


@pytest.mark.parametrize(
    ("outcomes", "why"),
    [
        ([(None, 0.0), SURE], "there is no split"),
        ([("What do you mean?", 1.0), SURE], "there is no split"),
        ([("\n".join(f"{n}: part?" for n in range(1, 10)), 1.0), SURE], "the split has 9 parts, more than 8"),
        ([(SPLIT, 1.0), SURE, (None, 0.0), SURE], "part #2 came to no answer"),
    ],
)
def test_a_split_that_cannot_be_followed_has_the_question_asked_whole(outcomes: list[Coming], why: str) -> None:
    thought = play("least_to_most", *outcomes)
    assert (thought.steps[-1].ask, thought.steps[-1].why) == ("whole", why)
    assert thought.end == Conclude(len(thought.steps) - 1, 0.9)


def test_a_part_of_a_split_is_no_answer_to_the_question() -> None:
    assert play("least_to_most", (SPLIT, 1.0), SURE, SURE).end == Conclude(None)


@pytest.mark.parametrize(
    ("text", "numbers", "needs"),
    [
        (SPLIT, [1, 2, 3], [(), (), (1, 2)]),
        ("2: a?\n5 needs 2: b?", [2, 5], [(), (2,)]),
        ("1: a?\n2 needs 1 2 7: b?", [1, 2], [(), (1,)]),
        ("Here you are:\n\n1: a?\nThat is all.\n2: b?", [1], [()]),
        ("1: a?\n1: b?", [1], [()]),
        (" 1: a? \r\n\t2: b?", [1, 2], [(), ()]),
        ("1:\n1: \n٣: a?\n9999: a?\n1 needs : a?", [], []),
        ("", [], []),
    ],
)
def test_a_split_is_read_up_to_the_first_line_that_is_none(
    text: str, numbers: list[int], needs: list[tuple[int, ...]]
) -> None:
    parts = parts_of(text)
    assert (list(parts), [part.needs for part in parts.values()]) == (numbers, needs)


def test_rounds_end_once_two_agree_however_their_answer_is_written() -> None:
    thought = play("contemplation", ("35", 0.9), ("36", 0.4), ("36.0", 0.5))
    assert thought.end == Conclude(2, 0.5)
    assert [(step.ask, step.mark, step.depends_on) for step in thought.steps] == [
        ("whole", "round 1", ()),
        ("reconsider", "round 2", (0,)),
        ("reconsider", "round 3", (1,)),
    ]
    assert thought.steps[1].fields["earlier"] == "35: 4 votes"


def test_rounds_that_never_agree_end_with_the_surest() -> None:
    thought = play("contemplation", ("1", 0.4), ("2", 0.9), ("3", 0.5), ("4", 1.0), rounds=3)
    assert (thought.end, len(thought.steps)) == (Conclude(1, 0.9), 3)
    silent = play("contemplation", *[(None, 0.0)] * MAX_STEPS, rounds=1e9)
    assert (silent.end, len(silent.steps)) == (Conclude(None), MAX_STEPS)
