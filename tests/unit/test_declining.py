"""A path that says that what it is asked is no question for its model, from its words to the end of its request."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from conclave import prompts
from conclave.cli.recordings import of_stored
from conclave.domain import counting, replay
from conclave.domain.joining import Decision
from conclave.domain.programs import PROGRAMS, End
from conclave.domain.stopping import STOPPING_RULES
from conclave.prompts.reading import read_set
from conclave.testing import events as made
from schemas.events import Event, RequestFailed, StepDecided
from schemas.values import Ask, Ballot, Outcome, RequestFailure, StopReason, Turn
from services.aggregator.joiner import Aggregator
from services.aggregator.settings import AggregatorSettings
from services.voter.joiner import Voter
from services.voter.settings import VoterSettings

NO = "Answer: no"
SET = prompts.load("reasoner-v3")
FIXED = Ask(form="whole", stopping="fixed", max_samples=8)


def ballots(*said: str) -> list[Ballot]:
    """A ballot each; `-` declines."""
    return [
        Ballot(sample_index=at, answer=None if each == "-" else each, is_declined=each == "-")
        for at, each in enumerate(said)
    ]


def counted(*said: str, ask: Ask = FIXED) -> counting.Counted:
    return counting.count(ballots(*said), ask, reason=StopReason.EXHAUSTED)


@pytest.mark.parametrize("form", ["direct", "chain_of_thought", "tool", "decompose", "sub_question", "retry"])
def test_the_words_by_which_the_shipped_model_declines_are_read_in_every_form_that_asks_for_an_answer(
    form: str,
) -> None:
    reading = SET.form(form).read(f" {NO}\n")
    assert (reading.answer, reading.call, reading.is_declined) == (None, None, True)
    for said in (f"{NO} Answer: 5", "Answer: 5", "", NO[:-1]):
        assert not SET.form(form).read(said).is_declined
    assert not SET.form(form).read(NO, is_cut=True).is_declined


def test_a_critic_does_not_decline() -> None:
    assert not SET.form("criticise").read(NO).is_declined


def test_a_set_that_says_nothing_of_declining_has_no_such_paths() -> None:
    found, faults = read_set("own", "own.toml", '[forms.a]\nuser = "{question}"\nextract = "whole_text"', ())
    assert (faults, found.purpose) == ([], "")
    assert found.form("a").read(NO).answer == NO


def test_what_is_wrong_before_the_forms_is_told_with_them() -> None:
    _, faults = read_set("own", "own.toml", 'declines = 3\n[forms.a]\nuser = "{question}"\nsatisfied = "x"', ())
    assert [each.name for each in faults] == ["own.toml [forms.a] satisfied", "own.toml declines"]


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_path_ends_where_its_model_declines_whatever_its_program(name: str) -> None:
    turns = [Turn(form="whole", text=NO, is_declined=True)]
    assert PROGRAMS[name].go_on({"question": "why?"}, turns, Ask(form="whole", max_turns=9)) == End(None, turn=0)


def test_where_most_decline_there_is_no_answer_and_the_tally_has_what_the_others_said() -> None:
    found = counted("-", "5", "-", "-", "7", "5")
    assert (found.is_declined, found.result.outcome, found.result.answer) == (True, Outcome.NO_ANSWER, None)
    assert (found.confidence, found.result.agreement) == (0.0, 0.5)
    assert [(row.answer, row.votes) for row in found.result.tally] == [("5", 2), ("7", 1)]
    assert [each.tally_row for each in found.ballots] == [None, 0, None, None, 1, 0]


def test_where_some_decline_the_answer_is_less_sure_than_without_them() -> None:
    some, none = counted("5", "-", "5", "-", "5"), counted("5", "5", "5")
    assert (some.result.answer, some.is_declined) == ("5", False)
    assert some.confidence < none.confidence
    assert (some.result.agreement, round(some.result.margin, 9)) == (0.6, 0.2)


def test_of_as_many_the_one_launched_first_wins_also_where_it_declines() -> None:
    assert counted("-", "5").is_declined
    assert not counted("5", "-").is_declined


def test_declining_that_leads_without_a_quorum_is_no_consensus() -> None:
    found = counted("-", "-", "5", "7", "9", ask=replace(FIXED, voting="quorum"))
    assert (found.is_declined, found.result.outcome) == (False, Outcome.NO_ANSWER)


@pytest.mark.parametrize("rule", STOPPING_RULES)
def test_paths_that_decline_end_the_sampling_as_soon_as_equal_answers_do(rule: str) -> None:
    ask = Ask(form="whole", stopping=rule, max_samples=16)
    for number in range(9):
        assert counting.deficit(ballots(*"-" * number), ask) == counting.deficit(ballots(*"5" * number), ask)


@given(said=st.lists(st.sampled_from("-57"), max_size=12))
def test_declining_counts_like_an_answer_that_nobody_else_gives(said: list[str]) -> None:
    found, as_answer = counted(*said), counted(*("no such thing" if each == "-" else each for each in said))
    assert found.is_declined == (as_answer.result.answer == "no such thing")
    if not found.is_declined:
        assert (found.result.answer, found.confidence) == (as_answer.result.answer, as_answer.confidence)
    rows = [each.tally_row for each in found.ballots]
    assert all(row is None or found.result.tally[row].answer == each for row, each in zip(rows, said, strict=True))
    assert all((row is None) == (each == "-") for row, each in zip(rows, said, strict=True))


def paths(*said: str) -> list[Event]:
    return [
        replace(made.decoded(made.context(), at, len(said), None if each == "-" else each), is_declined=each == "-")
        for at, each in enumerate(said)
    ]


def test_a_step_that_is_declined_says_so_and_its_request_ends_with_what_the_model_is_for() -> None:
    voter = Voter(VoterSettings())
    decision = voter.join(paths("-", "-", "-", "-"), made.NOW_MS)
    assert isinstance(decision, Decision)
    (verdict,) = decision.outputs
    assert isinstance(verdict, StepDecided)
    assert (verdict.outcome, verdict.stop_reason, verdict.answer) == (Outcome.NO_ANSWER, StopReason.DECLINED, None)
    plan = replace(made.plan(), purpose="it counts apples")
    ended = Aggregator(AggregatorSettings()).join([plan, verdict], made.NOW_MS)
    assert isinstance(ended, Decision)
    (failed,) = ended.outputs
    assert isinstance(failed, RequestFailed)
    assert (failed.failure, failed.message) == (RequestFailure.NO_ANSWER, "its model declined it: it counts apples")


def test_a_stored_vote_that_was_declined_is_declined_when_it_is_played_again() -> None:
    row: dict[str, object] = dict.fromkeys(
        (
            "failure",
            "answer",
            "probability",
            "mean_logprob",
            "answer_logprob",
            "lowest_group_logprob",
            "tail_logprob",
            "gold",
        )
    )
    rows = [row | {"request_id": "a", "sample_index": at, "tokens_out": 9, "is_declined": at > 0} for at in range(5)]
    (recording,) = of_stored([rows[0] | {"answer": "5"}, *rows[1:]])
    assert replay.play(recording, replace(FIXED, max_samples=5)).answer is None
