"""When two questions are the same, and what the world decides."""

import random
from collections import Counter

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from msgspec.structs import replace

from conclave.domain.recall import fingerprint, gist, normal_form
from conclave.domain.recall.freshness import Freshness, is_perishable
from conclave.testing import events as made
from conclave.testing.near_questions import near_twins, paraphrases
from tests.remembered import QUESTION


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
        ("What is the treatment of hepatitis A?", "What is the treatment of hepatitis?"),
        ("How much vitamin A is in a carrot?", "How much vitamin is in a carrot?"),
        ("Who is the president of France?", "Who was the president of France?"),
        ("Where does Ann live?", "Where did Ann live?"),
        ("Who owns the Louvre?", "Who owned the Louvre?"),
        ("Isn't Ann the champion?", "Wasn't Ann the champion?"),
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
        ("Who was the first to own it?", "Who was the first to possess it?"),
        ("Tom had 3 nuts and bought 4. How many did he have?", "Tom has 3 nuts and buys 4. How many does he have?"),
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
