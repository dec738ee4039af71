"""When a path is not worth going on with: loops and siblings' bars, by cases and by laws."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conclave.domain.path_watch import (
    MIN_LOOP_CHARS,
    MIN_REPEATS,
    Bar,
    BrokenOff,
    Sibling,
    Watch,
    bar,
    period_of_end,
    watch,
)
from schemas.values import Ask


def ask(**params: float) -> Ask:
    return Ask(form="any", params=params)


@pytest.mark.parametrize(
    "unit", ["0", "ab", "Wait, let me check that again. ", "aaab" * 12 + "c", "x" * 200 + "y" * 100]
)
def test_what_is_said_over_and_over_loops(unit: str) -> None:
    repeats = max(MIN_REPEATS, -(-MIN_LOOP_CHARS // len(unit)))
    assert period_of_end("First I add them." + unit * (repeats + 1)) == len(unit)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0" * (MIN_LOOP_CHARS - 1),
        "the same words, but seven times only and that is a refrain of some length indeed " * 7,
        "loop " * 200 + "and then it goes on with something else that was never said before in this text",
        "".join(f"{number} + 1 = {number + 1}\n" for number in range(400)),
    ],
)
def test_what_goes_on_does_not_loop(text: str) -> None:
    assert period_of_end(text) is None


@settings(max_examples=60)
@given(st.text(alphabet="ab 1", min_size=1, max_size=40), st.text(max_size=60), st.integers(1, 97))
def test_a_loop_is_found_however_the_text_comes_in(unit: str, before: str, size: int) -> None:
    text = before + unit * (2 * MIN_LOOP_CHARS // len(unit) + 2 * MIN_REPEATS)
    fed = Watch()
    verdicts = [fed.feed(text[at : at + size]) for at in range(0, len(text), size)]
    assert verdicts[-1] is BrokenOff.LOOPS


@pytest.mark.parametrize("size", [1, 7, 64, 300])
def test_text_drawn_at_random_never_loops(size: int) -> None:
    text, fed = "".join(random.Random(size).choices("ab ", k=3000)), Watch()
    assert not any(fed.feed(text[at : at + size]) for at in range(0, len(text), size))


def test_the_bar_is_what_the_wanted_share_of_siblings_stayed_above() -> None:
    siblings = [Sibling(80, -0.1 * number) for number in range(1, 11)]
    assert bar(siblings, ask(confidence_keep=0.9, confidence_warmup=10)) == Bar(16, siblings[8].lowest_group_logprob)
    assert bar(siblings, ask(confidence_keep=0.1, confidence_warmup=10)) == Bar(16, siblings[0].lowest_group_logprob)


def test_there_is_no_bar_without_enough_siblings_nor_unless_one_is_asked_for() -> None:
    siblings = [Sibling(4000, -0.1)] * 9
    assert bar(siblings, ask(confidence_keep=0.5, confidence_warmup=10)) is None
    assert bar(siblings, ask(confidence_warmup=2)) is None
    assert bar(siblings, ask(confidence_keep=0.5, confidence_warmup=9)) == Bar(500, -0.1)


def test_a_group_below_the_bar_ends_a_path_and_a_token_does_not() -> None:
    fed = Watch(Bar(4, -1.0))
    assert fed.feed("so", [-0.1, -3.0, -0.1, -0.1, -0.1]) is None
    assert fed.feed("it", [-2.0, -1.0]) is None
    assert fed.feed("is", [-1.2]) is BrokenOff.UNSURE


@settings(max_examples=60)
@given(st.lists(st.floats(-5, 0), max_size=80), st.integers(1, 20), st.integers(1, 9))
def test_the_siblings_that_set_the_bar_would_pass_it_as_far_as_it_says(
    logprobs: list[float], size: int, chunk: int
) -> None:
    groups = [sum(logprobs[at : at + size]) / size for at in range(len(logprobs) - size + 1)]
    fed = Watch(Bar(size, min(groups, default=0.0)))
    assert not any(fed.feed("", logprobs[at : at + chunk]) for at in range(0, len(logprobs), chunk))


def test_a_short_path_without_a_bar_is_not_watched() -> None:
    assert watch((), Ask(form="any", max_tokens=256)) is None
    assert watch((), Ask(form="any", max_tokens=4096)) is not None
    siblings = [Sibling(60, -0.5)] * 16
    found = watch(siblings, Ask(form="any", max_tokens=256, params={"confidence_keep": 0.9}))
    assert found is not None
    assert found.tokens_at_a_time == 16
