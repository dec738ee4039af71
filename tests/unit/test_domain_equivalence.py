"""When two answers are the same vote, by cases and by laws."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from conclave.domain.equivalence import EQUIVALENCES, are_same
from conclave.domain.equivalence.cleaning import cleaned
from conclave.domain.equivalence.readings import read

DATA = Path(__file__).parents[1] / "data"
short_answer = EQUIVALENCES["short_answer"]


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / "answers" / name).read_text().splitlines()]


PAIRS = [row for name in ("field.jsonl", "own_equivalence.jsonl") for row in rows(name) if "a" in row]
PUBLIC = [row for row in rows("public.jsonl") if row["id"][0] in "EM"]

# Text that looks like answers, so that signs, brackets, units and words meet each other.
_PIECES = (
    "0 1 2 12 36 , . - + / * ^ { } ( ) [ ] $ \\frac \\sqrt \\text{ \\boxed{ x y = < ≤ ∈ ∞ ± ∪ : % ° km m cm apples red € £ am pm "
    "and or the A B Yes yes CO Co ! ? ' \" _ ** ~ ½ ² π \\pi e 10 thousand twelve 000 1,234 ٤ \\left \\right \\, \\! | of "
    "3:30 2:3 5/6 12k M B. C. elegans"
)
answer_like = st.tuples(st.lists(st.sampled_from(_PIECES.split()), max_size=6), st.sampled_from(["", " "])).map(
    lambda drawn: drawn[1].join(drawn[0])
)
answers = st.text(max_size=20) | answer_like
steps = st.lists(answers, max_size=6)


def partition(labels: Sequence[str], order: Sequence[int] | None = None) -> set[frozenset[int]]:
    """Which answers are together, whatever they are called; what says nothing is in no cluster."""
    places = range(len(labels)) if order is None else order
    clusters: dict[str, list[int]] = {}
    for label, place in zip(labels, places, strict=True):
        if label:
            clusters.setdefault(label, []).append(place)
    return {frozenset(cluster) for cluster in clusters.values()}


@pytest.mark.parametrize("row", PAIRS, ids=lambda row: row["kind"])
def test_two_answers_are_one_vote_or_two(row: dict[str, Any]) -> None:
    assert are_same(row["a"], row["b"]) is row["same"], (row, read(row["a"]), read(row["b"]))
    assert are_same(row["b"], row["a"]) is row["same"]


@pytest.mark.parametrize("row", PUBLIC, ids=lambda row: row["id"])
def test_two_answers_of_a_report_are_one_vote_or_two(row: dict[str, Any]) -> None:
    one, other = row["input"].split("  |  ")
    assert are_same(one, other) is ("one vote" in row["expected"])


@pytest.mark.parametrize("row", rows("own_steps.jsonl"), ids=lambda row: row["kind"])
def test_the_answers_of_a_step_decide_together(row: dict[str, Any]) -> None:
    assert partition(short_answer(row["answers"])) == {frozenset(cluster) for cluster in row["clusters"]}


def test_verbatim_tells_apart_whatever_is_written_differently() -> None:
    written = ["1: how many?\n2 needs 1: and #1?", "1: How many?\n2 needs 1: and #1?", "36", "36.0", " 36\n", " "]
    labels = EQUIVALENCES["verbatim"](written)
    assert (labels[2] == labels[4], labels[5], len(set(labels))) == (True, "", 5)


def test_two_answers_that_say_nothing_are_not_the_same() -> None:
    assert are_same("0.5", "1/2")
    assert not are_same("...", "...")


def test_a_bare_number_is_the_same_as_its_percentage_only_while_nothing_else_claims_it() -> None:
    assert partition(short_answer(["35", "35%", "35 percent"])) == {frozenset({0, 1, 2})}
    assert partition(short_answer(["35", "35%", "35 km"])) == {frozenset({0}), frozenset({1}), frozenset({2})}


@pytest.mark.parametrize("name", sorted(EQUIVALENCES))
@given(steps)
def test_every_rule_labels_every_answer_and_equal_texts_alike(name: str, step: list[str]) -> None:
    labels = EQUIVALENCES[name](step)
    assert len(labels) == len(step)
    assert len(set(zip(step, labels, strict=True))) == len(set(step))


@pytest.mark.parametrize("name", sorted(EQUIVALENCES))
@given(st.data(), steps)
def test_the_order_of_the_answers_does_not_change_which_are_together(
    name: str, data: st.DataObject, step: list[str]
) -> None:
    order = data.draw(st.permutations(range(len(step))))
    shuffled = EQUIVALENCES[name]([step[place] for place in order])
    assert partition(shuffled, order) == partition(EQUIVALENCES[name](step))


@pytest.mark.parametrize("name", sorted(EQUIVALENCES))
@given(steps)
@example(["3", "180", "3 hours", "180 minutes"])
@example(["36 km", "36 m", "36"])
def test_labels_are_answers_that_are_labelled_as_they_are(name: str, step: list[str]) -> None:
    labels = list(EQUIVALENCES[name](step))
    assert list(EQUIVALENCES[name](labels)) == labels


@given(steps, answers)
def test_one_more_answer_joins_no_two_clusters_that_both_name_what_they_are_of(step: list[str], more: str) -> None:
    """A cluster may fall apart when a second unit or variable comes up; a label is never given to fewer for its own vote."""
    before, after = short_answer(step), short_answer([*step, step[0] if step else more])
    assert partition(after[: len(step)]) == partition(before)


@given(st.text() | answer_like)
@example("$" * 1000)
@example("ΐ" * 1024)
@example("1/" + "9" * 62)
@example("1/" + str(2**200))
@example("9^9^9^9^9")
@example("(x+y+z)^999999")
@example("\\boxed{" * 100 + "7" + "}" * 100)
@example("\\sqrt[x]{2}")
def test_cleaning_takes_any_text_and_changes_nothing_the_second_time(text: str) -> None:
    once = cleaned(text)
    assert cleaned(once) == once
    assert read(once) == read(text)


@given(st.text(max_size=4096).filter(lambda text: "\0" not in text))
def test_a_label_still_fits_into_an_event(text: str) -> None:
    assert all(len(label) <= 4096 for label in short_answer([text]))


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**9), max_value=10**9, places=4))
def test_a_number_is_the_same_however_it_is_padded_and_grouped(number: object) -> None:
    written = [f"{number:,}", f"{number}", f"${number}0", f"\\boxed{{{number}}}.", f"**{number}**"]
    assert len(partition(short_answer(written))) == 1


def test_recorded_answers_of_real_models_are_told_apart_as_their_graders_did() -> None:
    """Every answer that the record counts as the gold one is the gold one; and cleaning is idempotent on all of them."""
    questions = [
        json.loads(line)
        for file in (DATA / "replay").glob("*.jsonl.gz")
        for line in gzip.decompress(file.read_bytes()).splitlines()
    ]
    said = {answer for question in questions for answer in question["answers"] if answer is not None}
    assert len(said) > 1000
    assert [answer for answer in said if cleaned(cleaned(answer)) != cleaned(answer)] == []
    assert [q["gold"] for q in questions if not are_same(q["gold"], q["gold"])] == []


@pytest.mark.parametrize(
    ("lines", "clusters"),
    [
        (["a 347*6=2082", "a 347*6:42,28,20=2082", "a 347*6;1800,2040=2082", "a 347*6=2072"], 2),
        (["#1=36", "b 5+31=36", "b 5 + 31 = 36"], 2),
        (["Answer: 36", " Answer:  36 ", "36"], 2),
        (["=", "x=", ""], 3),
    ],
)
def test_lines_are_the_same_where_they_come_to_the_same(lines: list[str], clusters: int) -> None:
    assert len(set(EQUIVALENCES["line_result"](lines))) == clusters


def test_plans_are_the_same_where_their_parts_are() -> None:
    plans = ["1: How many?\n2 needs 1: And #1?", "Sure:\n1:  how many?\n2 needs 1: And #1?\nDone.", "1: How many?"]
    first, second, third = EQUIVALENCES["plan"](plans)
    assert first == second != third
    assert len(set(EQUIVALENCES["plan"](["no", "plan", "No"]))) == 2
