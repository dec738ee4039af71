"""The vote on structured answers: a winner for each field, and one object made of them that the schema allows."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from msgspec.structs import replace as with_changes

from conclave.domain import bounds
from conclave.domain.calibration import calibrated
from conclave.domain.confidence import CONFIDENCES
from conclave.domain.params import number
from conclave.domain.structured.answer_schema import WHOLE, is_valid, read
from conclave.domain.structured.fields import ABSENT, labels_by_field, labels_of_whole, written
from conclave.domain.voting import QUORUM, VoteResult, majority
from schemas.values import Ask, Ballot, FieldVerdict, Outcome


def decided(ballots: Sequence[Ballot], ask: Ask) -> tuple[VoteResult, tuple[FieldVerdict, ...]]:
    """What the vote comes to, and what each field does. `ballots` are weighed and in launch order.

    A field has no consensus without a leader that has a share of `quorum` of its weight, and then there is no answer. Else the
    answer is the object of the winners; where the schema does not allow these together, the first path's that has most of them.
    """
    answers = [ballot.answer or "" for ballot in ballots]
    objects = [read(answer, ask.answer_schema) if answer else None for answer in answers]
    fields: list[FieldVerdict] = []
    winners: dict[str, Any] = {}
    for name, labels in labels_by_field(answers, ask).items():
        cast = [_said(ballot, of, name) for ballot, of in zip(ballots, objects, strict=True)]
        result = majority(cast, labels, ask)
        fields.append(_verdict(name, result, cast, ask))
        first = next((at for at, row in enumerate(result.rows) if row == 0), None)
        if first is not None and (of := objects[first]) is not None:
            winners |= of if name == WHOLE else {name: of[name]} if name in of else {}
    whole = majority(ballots, labels_of_whole(answers, ask), ask)
    weakest = min(fields, key=lambda each: each.agreement)
    whole = replace(whole, agreement=weakest.agreement, margin=min(each.margin for each in fields))
    if not all(each.outcome is Outcome.MAJORITY for each in fields):
        return replace(whole, outcome=Outcome.NO_ANSWER, answer=None), tuple(fields)
    is_whole = is_valid(winners, ask.answer_schema) and _has_room(winners)
    answer = winners if is_whole else _nearest(objects, winners)
    return replace(whole, outcome=Outcome.MAJORITY, answer=written(answer)), tuple(fields)


def _said(ballot: Ballot, of: dict[str, Any] | None, name: str) -> Ballot:
    """The ballot as one on a single field."""
    if of is None:
        return with_changes(ballot, answer=None)
    said = written(of) if name == WHOLE else written(of[name]) if name in of else ABSENT
    return with_changes(ballot, answer=bounds.cut(said, bounds.MAX_TALLY_ANSWER_BYTES))


def _verdict(name: str, result: VoteResult, cast: Sequence[Ballot], ask: Ask) -> FieldVerdict:
    has_quorum = result.agreement >= number(ask.params, QUORUM, "quorum")
    outcome = result.outcome if has_quorum or result.outcome is not Outcome.MAJORITY else Outcome.NO_ANSWER
    sure = 0.0 if result.outcome is Outcome.NO_ANSWER else CONFIDENCES[ask.confidence](result, cast, ask)
    return FieldVerdict(
        name=name,
        outcome=outcome,
        confidence=min(max(calibrated(sure, ask.calibration), 0.0), 1.0),
        agreement=result.agreement,
        margin=result.margin,
        tally=result.tally[: bounds.MAX_TALLY_ROWS],
    )


def _has_room(value: dict[str, Any]) -> bool:
    """True for what an answer can hold: what several paths said may be longer together than any of them."""
    text = written(value)
    return len(text) <= bounds.MAX_ANSWER_CHARS and bounds.size(text) <= bounds.MAX_ANSWER_BYTES


def _nearest(objects: Sequence[dict[str, Any] | None], winners: dict[str, Any]) -> dict[str, Any]:
    """The first of the objects that says what wins in most fields. There is one, as somebody said each winner."""

    def num_alike(of: dict[str, Any]) -> int:
        return sum(name in of and written(of[name]) == written(value) for name, value in winners.items())

    return max((each for each in objects if each is not None), key=num_alike)
