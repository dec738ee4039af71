import gzip
import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from conclave.domain.equivalence import EQUIVALENCES, are_same, canonical

REPLAY = Path(__file__).parents[1] / "data" / "replay"

# Text that looks like answers, so that wrappers, signs, commas and percents meet each other.
answer_like = st.text(alphabet="0123456789.,-+/% $\\{}()[]*`−％１frac boxedTEXTß\n", max_size=40)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (
            ["36", "36.0", "36.", " 36 ", "+36", "036", "$36", "$36$", "\\$36", "**36**", "\\boxed{36}", "3６", "72/2"],
            "36",
        ),
        (["1,000", "1000", "1000.00", "$1,000.00"], "1000"),
        (["-5", "−5", "-$5", "$-5", "- 5", "\\(-5\\)", "-10/2"], "-5"),
        (["0", "-0", "0.0", "-.0", "0/3"], "0"),
        (["1/2", "0.5", ".5", "\\frac{1}{2}", "\\dfrac{2}{4}", "$\\tfrac{1}{2}$"], "0.5"),
        (["1/3", "2/6", "\\frac{ 3 }{9}"], "1/3"),
        (["5%", "5 %", "5.0\\%", "５％"], "5%"),
        (["Yes", " yes. ", "YES", "\\text{Yes}"], "yes"),
        (["", " ", "...", "\\boxed{}", "\n\t"], ""),
    ],
)
def test_spellings_of_one_answer_share_a_canonical_form(answers: list[str], expected: str) -> None:
    assert {answer: canonical(answer) for answer in answers} == dict.fromkeys(answers, expected)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("5%", "5"),
        ("5%", "0.05"),
        ("1,00", "100"),
        ("x^2", "x2"),
        ("(3,4)", "34"),
        ("1/3", "0.333"),
        ("1/0", "0"),
        ("--5", "5"),
        ("10", "1"),
        ("\\boxed{1}+\\boxed{2}", "1}+\\boxed{2"),
        ("$1$ or $2$", "1$ or $2"),
    ],
)
def test_different_answers_stay_apart(one: str, other: str) -> None:
    assert canonical(one) != canonical(other)


def test_a_label_is_shared_by_the_answers_that_are_the_same_and_empty_when_one_says_nothing() -> None:
    labels = EQUIVALENCES["short_answer"](["36", "", "36.0", "Yes", "...", "yes."])
    assert (labels[0] == labels[2], labels[3] == labels[5], labels[1], labels[4]) == (True, True, "", "")
    assert len({*labels}) == 3


def test_verbatim_tells_apart_whatever_is_written_differently() -> None:
    answers = ["1: how many?\n2 needs 1: and #1?", "1: How many?\n2 needs 1: and #1?", "36", "36.0", " 36\n", " "]
    labels = EQUIVALENCES["verbatim"](answers)
    assert (labels[2] == labels[4], labels[5], len(set(labels))) == (True, "", 5)


@given(st.lists(answer_like, max_size=8), st.sampled_from(sorted(EQUIVALENCES)))
def test_every_rule_gives_every_answer_a_label_that_depends_on_the_answers_alone(answers: list[str], name: str) -> None:
    labels = EQUIVALENCES[name](answers)
    assert list(EQUIVALENCES[name](answers)) == list(labels)
    assert len(labels) == len(answers)
    assert len(set(zip(answers, labels, strict=True))) == len(set(answers))  # equal texts have equal labels


def test_two_answers_that_say_nothing_are_not_the_same() -> None:
    assert are_same("0.5", "1/2")
    assert not are_same("...", "...")


@given(st.text() | answer_like)
@example("$" * 1000)
@example("ΐ" * 1024)
@example("1/" + "9" * 62)
@example("1/" + str(2**200))
@example("\\BOXED{\\boxed{5}}")
@example("\\boxed{" * 100 + "7" + "}" * 100)
def test_canonical_takes_any_text_and_changes_nothing_the_second_time(text: str) -> None:
    once = canonical(text)
    assert canonical(once) == once


@given(st.text(max_size=4096).filter(lambda text: "\0" not in text))
def test_a_canonical_answer_still_fits_into_an_event(text: str) -> None:
    assert len(canonical(text)) <= 4096


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**9), max_value=10**9, places=4))
def test_a_number_is_the_same_however_it_is_padded_and_grouped(number: object) -> None:
    assert (
        canonical(f"{number:,}")
        == canonical(f"{number}")
        == canonical(f"${number}0")
        == canonical(f"\\boxed{{{number}}}.")
    )


def test_recorded_answers_of_real_models_are_total_and_idempotent() -> None:
    answers = {
        answer
        for file in REPLAY.glob("*.jsonl.gz")
        for line in gzip.decompress(file.read_bytes()).splitlines()
        for answer in json.loads(line)["answers"]
        if answer is not None
    }
    assert len(answers) > 1000
    assert [answer for answer in answers if canonical(canonical(answer)) != canonical(answer)] == []
