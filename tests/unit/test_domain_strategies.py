"""What each strategy does with what its steps come to. The laws that all keep: test_aggregator_laws."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conclave.domain.choices import candidates_of, chosen, of_question, written
from conclave.domain.strategies import STRATEGIES
from conclave.domain.strategies.least_to_most import split_of
from conclave.domain.thought import Conclude
from conclave.testing.strategies import Coming, played
from schemas.values import MAX_STEPS, TallyRow, Wording
from tests.thoughts_played import SURE, UNSURE, play

SPLIT = "1: How many has Tom?\n2: How many has Ann?\n3 needs 1 2: Add #1 and #2."


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
        ("2 needs 1: b?\n1: a?", [2, 1], [(1,), ()]),
        ("Here you are:\n\n1: a?\nThat is all.\n2: b?", [1], [()]),
        (" 1: a? \r\n\t2: b?", [1, 2], [(), ()]),
    ],
)
def test_a_split_is_read_up_to_the_first_line_that_is_none(
    text: str, numbers: list[int], needs: list[tuple[int, ...]]
) -> None:
    split = split_of(text, Wording())
    assert split.fault is None
    assert (list(split.parts), [part.needs for part in split.parts.values()]) == (numbers, needs)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "there is no split"),
        ("1:\n1: \n٣: a?\n9999: a?\n1 needs : a?", "there is no split"),
        ("1: a?\n1: b?", "part #1 is there twice"),
        ("1: a?\n2 needs 7: b?", "part #2 needs #7, which is not there"),
        ("1 needs 1: a?", "the split goes in circles: part #1 needs what needs it"),
        ("1: a?\n2 needs 3: b?\n3 needs 2: c?", "the split goes in circles: part #2 needs what needs it"),
        ("1: a?\n2: ???", "part #2 asks nothing"),
    ],
)
def test_a_split_that_makes_no_sense_says_why_and_the_question_is_asked_whole(text: str, fault: str) -> None:
    assert split_of(text, Wording()).fault == fault
    thought = play("least_to_most", (text, 1.0), SURE)
    assert (thought.steps[-1].ask, thought.steps[-1].why) == ("whole", fault)


def test_parts_that_need_nothing_open_are_asked_together_whatever_their_order() -> None:
    thought = play("least_to_most", ("3 needs 1 2: c?\n1: a?\n2: b?\n4 needs 3: d?", 1.0), *[SURE] * 4)
    assert [(step.mark, step.depends_on) for step in thought.steps[1:]] == [
        ("#1", (0,)),
        ("#2", (0,)),
        ("#3", (1, 2)),
        ("#4", (3,)),
    ]


def test_rounds_go_on_until_what_is_believed_is_enough() -> None:
    thought = play("contemplation", ("36", 0.9), ("36.0", 0.9), enough=0.95)
    assert (thought.end.step, len(thought.steps)) == (0, 2)
    assert thought.end.confidence == pytest.approx(1 / (1 + 9**-1.7))
    assert [(step.ask, step.mark, step.depends_on) for step in thought.steps] == [
        ("whole", "round 1", ()),
        ("reconsider", "round 2", (0,)),
    ]
    assert thought.steps[1].fields["earlier"] == "36: 4 votes"


def test_after_one_round_what_is_believed_is_what_it_said() -> None:
    end = play("contemplation", ("36", 0.6), rounds=1).end
    assert end.step == 0
    assert end.confidence == pytest.approx(0.6)


def test_rounds_end_where_belief_settles() -> None:
    thought = play("contemplation", ("36", 0.6), *[("36", 0.52)] * 9, rounds=9)
    assert len(thought.steps) == 2


def test_a_round_that_costs_belief_is_gone_back_from() -> None:
    thought = play("contemplation", ("36", 0.8), ("35", 0.8), ("36", 0.8), rounds=3)
    assert [step.depends_on for step in thought.steps] == [(), (0,), (0,)]
    assert thought.steps[2].why == "belief fell from 0.80 to 0.52: back to round 1"
    assert thought.end.step == 0


def test_rounds_without_an_answer_end_with_their_number() -> None:
    silent = play("contemplation", *[(None, 0.0)] * MAX_STEPS, rounds=1e9)
    assert (silent.end, len(silent.steps)) == (Conclude(None), MAX_STEPS)


def test_follow_ups_and_their_answers_take_turns_and_the_last_one_answers() -> None:
    comings = ["1: How many has Tom?", "3", "2 needs 1: Ann has twice #1. How many?", "6", "none"]
    thought = play("self_ask", *((each, 0.9) for each in comings))
    assert thought.end.step == 3
    assert thought.end.confidence == pytest.approx(0.81)
    assert [step.mark for step in thought.steps] == ["follow-up 1", "#1", "follow-up 2", "#2", "follow-up 3"]
    assert thought.steps[2].fields == {
        "question": "all of it?",
        "asked": "1: How many has Tom?",
        "earlier": "#1 = 3",
        "earlier_in_full": "#1: How many has Tom? = 3",
    }
    assert thought.steps[3].fields["question"] == "Ann has twice #1. How many?"
    assert thought.steps[3].depends_on == (2, 1)


def test_a_follow_up_in_words_of_its_own_is_told_of_all_before_it() -> None:
    comings = ["How many has Tom?", "3", "And Ann?\nShe has twice as many.", "6", "No further questions.", "9"]
    thought = play("self_ask", *((each, 0.9) for each in comings), ends_whole=1)
    assert [step.fields["question"] for step in thought.steps if step.ask != "follow_up"] == [
        "How many has Tom?",
        "And Ann?",
        "all of it?",
    ]
    assert thought.steps[-1].fields["earlier"] == "#1 = 3\n#2 = 6"
    assert (thought.end.step, thought.steps[-1].why) == (5, "no follow-up is left")


@pytest.mark.parametrize(
    ("comings", "why"),
    [
        (["a?", "1", "A?", "9"], "the follow-up repeats #1"),
        (["a?", "1", "b?", "2", "c?", "9"], "2 follow-ups were put"),
        (["?!", "9"], "the follow-up asks nothing"),
        (["Answer: 9", "9"], "no follow-up is left"),
        ([None, "9"], "no follow-up is left"),
        (["a?", None, "9"], "#1 came to no answer"),
    ],
)
def test_follow_ups_that_lead_nowhere_have_the_question_asked_whole(comings: list[str | None], why: str) -> None:
    thought = play("self_ask", *((each, 0.9) for each in comings), ends_whole=1, follow_ups=2)
    assert (thought.steps[-1].ask, thought.steps[-1].why) == ("whole", why)
    assert thought.end.step == len(thought.steps) - 1


@pytest.mark.parametrize("strategy", ["select", "synthesise"])
def test_drafts_that_agree_need_no_choice(strategy: str) -> None:
    thought = play(strategy, *[("36", 0.4), ("36.0", 0.6), ("36", 0.5)], drafts=3)
    assert (thought.end, [step.mark for step in thought.steps]) == (
        Conclude(1, 0.6),
        ["draft 1", "draft 2", "draft 3"],
    )


@pytest.mark.parametrize("strategy", ["select", "synthesise"])
def test_what_is_made_of_the_candidates_is_the_answer_and_else_the_vote_decides(strategy: str) -> None:
    drafts = [("35", 0.9), ("36", 0.5), ("36", 0.6)]
    made = play(strategy, *drafts, ("35", 0.7), drafts=3)
    assert (made.end, made.steps[3].depends_on) == (Conclude(3, 0.7), (0, 1, 2))
    assert made.steps[3].fields["candidates"] == "A: 36\nB: 35"
    assert made.steps[3].why == "2 answers, the first with 67% of the votes"
    assert play(strategy, *drafts, (None, 0.0), drafts=3).end == Conclude(2, 0.6)
    assert play(strategy, *drafts, drafts=3).end == Conclude(2, 0.6)


def test_one_draft_of_several_answers_has_them_chosen_among() -> None:
    tally = (TallyRow(answer="36", votes=3, weight=3.0), TallyRow(answer="35", votes=2, weight=2.0))
    end, thought = played(STRATEGIES["select"], [("36", 0.5), ("35", 0.8)], tally=tally)
    assert (end, thought.steps[1].fields["candidates"]) == (Conclude(1, 0.8), "A: 36\nB: 35")


def test_a_candidate_that_is_too_long_for_the_prompt_is_left_out_and_none_is_cut() -> None:
    texts = [character * 4096 for character in "abcde"]
    thought = play("select", *((text, 0.5) for text in texts), ("x", 0.9), drafts=5)
    assert candidates_of(thought.steps[-1].fields["candidates"]) == tuple(texts[:3])
    assert thought.steps[-1].why == "5 answers, the first with 20% of the votes; 2 are not shown"


@given(st.lists(st.text(max_size=30).filter(lambda text: "\n" not in text[:1]), min_size=1, max_size=8))
def test_candidates_are_read_as_they_were_written(texts: list[str]) -> None:
    assert candidates_of(written(texts)) == tuple(texts)


@pytest.mark.parametrize(
    ("words", "candidates", "meant"),
    [
        ("B", ("36", "35"), "35"),
        ("Candidate b.", ("36", "35"), "35"),
        ("the best answer is A", ("36", "35"), "36"),
        ("36.0", ("36", "35"), "36"),
        ("C", ("36", "35"), None),
        ("both", ("36", "35"), None),
        ("", ("36", "35"), None),
        ("B", (), None),
        ("2", ("B", "A"), "A"),
        ("A", ("B", "A"), "A"),
        ("2", ("2", "5"), "2"),
        ("5", ("2", "5"), "5"),
        ("B. Paris", ("London", "Paris"), "Paris"),
        ("F. Scott Fitzgerald", ("J. Edgar Hoover", "F. Scott Fitzgerald"), "F. Scott Fitzgerald"),
        ("F. Scott Fitzgerald", ("Hoover", "Fitzgerald"), None),
    ],
)
def test_a_choice_is_a_label_or_an_answer_and_otherwise_nothing(
    words: str, candidates: tuple[str, ...], meant: str | None
) -> None:
    assert chosen(words, candidates, Wording().names_choice) == meant


@pytest.mark.parametrize(
    ("answer", "question", "meant"),
    [
        ("B. Paris", "Which is in France?\nA. London\nB. Paris\nC. Rome", "B"),
        ("B. Paris", "Which is in France? (A) London (B) Paris", "B"),
        ("C. elegans", "Which worm is it?", "C. elegans"),
        ("C. elegans", "Is C. elegans or E. coli a worm?", "C. elegans"),
        ("C. elegans", "Which is a worm? A. C. elegans B. E. coli", "C. elegans"),
        ("C. elegans", "Which is a worm? A) C. elegans B) E. coli C) yeast", "C. elegans"),
        ("C. yeast", "Which is a fungus? A) C. elegans B) E. coli C) yeast", "C"),
        ("B. the capital", "Which? A: London, B: Paris", "B"),
        ("D. Knuth", "A. One\nB. Two\nC. Three", "D. Knuth"),
        ("12", "A. London B. Paris", "12"),
    ],
)
def test_a_letter_with_a_text_is_an_option_where_the_question_has_one(answer: str, question: str, meant: str) -> None:
    assert of_question(answer, question) == meant
