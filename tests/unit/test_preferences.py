"""Pairs of paths to fine-tune on: right ones before wrong ones, of what is known."""

from typing import Any

import pytest

from conclave import prompts
from conclave.cli.exporting import preferences
from conclave.domain.preferences import preferred
from conclave.domain.vote_learning.labels import JudgedVote
from conclave.policies import shipped
from conclave.store.exporting import ToldVote
from conclave.testing import events as made
from schemas.values import Ballot, PathFailure


def vote(answers: str, reward: float | None = None, right_answer: str | None = None) -> JudgedVote:
    """A vote on answers of a letter each, `.` for none and `!` for a failure; the first letter won."""
    ballots = tuple(
        Ballot(
            sample_index=at,
            answer=answer if answer.isalpha() else None,
            failure=PathFailure.ENGINE if answer == "!" else None,
        )
        for at, answer in enumerate(answers)
    )
    return JudgedVote("id", ballots, answers[0], reward, right_answer)


def texts(answers: str) -> dict[int, str]:
    return {at: f"text {at}" for at, answer in enumerate(answers) if answer != "!"}


@pytest.mark.parametrize(
    ("answers", "said", "pairs"),
    [
        ("aab.b!", {"reward": 1.0}, [(0, 2), (1, 4)]),  # the winner is right, so all others are wrong
        ("aab", {"reward": 0.0}, []),  # "not this answer": of the other one nothing is known
        ("aab", {"reward": 0.0, "right_answer": "b"}, [(2, 0)]),
        ("aab", {"reward": 1.0, "right_answer": "c"}, []),  # none is right
        ("aaa", {"reward": 1.0}, []),  # none is wrong
        ("aab", {}, []),
    ],
)
def test_a_right_path_is_preferred_to_a_wrong_one_where_both_are_known(
    answers: str, said: dict[str, Any], pairs: list[tuple[int, int]]
) -> None:
    judged = vote(answers, **said)
    assert preferred(judged, texts(answers), most=9) == pairs
    assert preferred(judged, texts(answers), most=1) == pairs[:1]


def test_what_has_no_text_or_the_same_one_is_passed_over() -> None:
    judged = vote("aabb", reward=1.0)
    assert preferred(judged, {1: "x", 3: "y"}, most=9) == [(1, 3)]
    assert preferred(judged, {0: "x", 1: "x", 2: "y", 3: "y"}, most=9) == [(0, 2)]


@pytest.mark.parametrize("policy", ["default", "instruct"])
def test_a_pair_is_a_conversation_and_two_ways_in_which_it_goes_on(policy: str) -> None:
    fields = {"question": "2+2?"}
    told = ToldVote(vote("aab", reward=1.0), made.policy(policy), "whole", fields, texts("aab"))
    (line,) = preferences(told, prompts.shipped(), 1)
    assert line["prompt"][-1]["role"] == "user"
    assert "2+2?" in line["prompt"][-1]["content"]
    assert [each["role"] for each in (*line["chosen"], *line["rejected"])] == ["assistant"] * 2
    assert line["chosen"][0]["content"].endswith("text 0")
    assert line["rejected"][0]["content"].endswith("text 2")
    assert line["request_id"] == "id"


def test_what_the_form_begins_with_is_part_of_what_the_model_says() -> None:
    forms = [
        (each.policy, name)
        for each in shipped()
        for name, ask in each.policy.asks.items()
        if prompts.load(each.policy.prompt_set).form(ask.form).begun
    ]
    assert forms, "no form that ships begins for the model: drop this test"
    policy, name = forms[0]
    form = prompts.load(policy.prompt_set).form(policy.asks[name].form)
    fields = dict.fromkeys(form.fields, "x") | {"question": "2+2?", "path": "So far."}
    told = ToldVote(vote("ab", reward=1.0), policy, name, fields, texts("ab"))
    (line,) = preferences(told, prompts.shipped(), 1)
    assert line["chosen"][0]["content"] == form.said(fields) + "text 0"


def test_a_form_that_is_no_longer_known_gives_nothing() -> None:
    told = ToldVote(vote("ab", reward=1.0), made.policy(), "other", {"question": "2+2?"}, texts("ab"))
    assert list(preferences(told, prompts.shipped(), 1)) == []
