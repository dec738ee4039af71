"""Lines that a model writes on its way: of a calculation, and of a plan."""

import re
from collections.abc import Sequence

from conclave.domain import wording
from schemas.values import Wording

_RESULT = re.compile(r"(?P<head>[^0-9=]*).*=\s*(?P<result>[^=]*)", re.S)


def line_result(answers: Sequence[str]) -> list[str]:
    """A cluster for all lines that begin alike and end in the same result: `a 34*6:24,18=204` and `a 34*6=204`.

    A line without `=` is its own.
    """
    return [_of_line(" ".join(answer.split())) for answer in answers]


def plan(answers: Sequence[str], words: Wording) -> list[str]:
    """A cluster for all plans with the same parts in the same order; a text without any part is its own."""
    return [_of_plan(answer, words) for answer in answers]


def _of_line(line: str) -> str:
    match = _RESULT.fullmatch(line)
    return (
        f"{match['head'].strip()}={match['result'].strip()}" if match is not None and match["result"].strip() else line
    )


def _of_plan(text: str, words: Wording) -> str:
    lines = [" ".join(line.split()) for line in text.splitlines()]
    parts = [line for line in lines if wording.is_said(words.part, line)]
    return "\n".join(parts or [line for line in lines if line]).casefold()
