"""What a good critic says of a path: each line quoted, done again on paper, and compared digit by digit."""

from collections.abc import Sequence
from itertools import zip_longest

from training.columns import columns
from training.paths import LABELS, Line, Style, gold_lines
from training.problems import Calculation, Problem

RIGHT = "right"  # the verdict on a path without a wrong step
_NO_DIGIT = "_"


def criticism(problem: Problem, path: Sequence[Line], wrong_index: int | None) -> str:
    """The lines up to the first wrong one (`wrong_index`, from 0; None: there is none), then the verdict.

    A line quotes the path's claim, then the sentence that it must come from, does that anew and compares the results:
    `c 347*6=2092? Then Tom gets 6 times as many. 347*6:42,28,20=22,00,89 no`.
    """
    gold, sentences = gold_lines(problem), problem.sentences
    end = len(gold) if wrong_index is None else wrong_index + 1
    checked = [
        f"{label} {check(own.step, claim, own.story, sentence)}"
        for label, own, claim, sentence in zip(LABELS[:end], gold[:end], path[:end], sentences[:end], strict=True)
    ]
    return "".join([*checked, RIGHT if wrong_index is None else verdict(gold, wrong_index)])


def check(own: Calculation, claim: Line, story: int | None = None, sentence: str = "") -> str:
    """One line of a criticism, with the note of the story that ends there if the claim holds."""
    again = f"{own.expression}:{','.join(columns(own))}={compared(own.result, claim.result)}"
    is_right = own.result == claim.result
    note = Line(own, own.result, story).note if is_right else ""
    quoted = f"{sentence} " if sentence else ""
    return f"{claim.sum_text(Style.IN_THE_HEAD)}? {quoted}{again} {'ok' if is_right else 'no'}\n{note}"


def compared(own: int, claimed: int) -> str:
    """Both numbers digit by digit, own first, up to the first that differs: 2082 and 2092 give `22,00,89`."""
    pairs = []
    for ours, theirs in zip_longest(str(own), str(claimed), fillvalue=_NO_DIGIT):
        pairs.append(f"{ours}{theirs}")
        if ours != theirs:
            break
    return ",".join(pairs)


def verdict(gold: Sequence[Line], wrong_index: int) -> str:
    """The critic's last line on a path whose step `wrong_index` (from 0) is its first wrong one."""
    return f"Step {wrong_index + 1} is wrong: {gold[wrong_index].sum_text(Style.IN_THE_HEAD)}"
