"""What structured answers say in each field, as labels to be counted: equal labels are the same vote."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from conclave.domain.equivalence import rule_of
from conclave.domain.structured.answer_schema import WHOLE, field_names, read
from schemas.values import Ask

ABSENT = "(absent)"  # what a path says in a field that the schema does not require, by leaving it out


def labels_by_field(answers: Sequence[str], ask: Ask) -> dict[str, list[str]]:
    """The labels of each field, in launch order; "" of an answer that is not as the schema has it.

    Texts are the same vote as the ask's equivalence has it; numbers, truth values, arrays and objects by canonical form.
    """
    names = field_names(ask.answer_schema)
    if names == (WHOLE,):
        return {WHOLE: labels_of_whole(answers, ask)}
    objects = [read(answer, ask.answer_schema) if answer else None for answer in answers]
    return {name: _labels(objects, name, ask) for name in names}


def labels_of_whole(answers: Sequence[str], ask: Ask) -> list[str]:
    """The label of each answer as a whole: its canonical form, "" of one that is not as the schema has it."""
    objects = [read(answer, ask.answer_schema) if answer else None for answer in answers]
    return ["" if each is None else canonical(each) for each in objects]


def canonical(value: Any) -> str:
    """A value in one way of writing: keys in order, 2.0 as 2, white space of texts made single spaces."""
    return json.dumps(_plain(value), ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def written(value: Any) -> str:
    """A value as JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _labels(objects: Sequence[Mapping[str, Any] | None], name: str, ask: Ask) -> list[str]:
    values = [None if each is None else each.get(name, ABSENT) for each in objects]
    texts = [value if isinstance(value, str) and value != ABSENT else "" for value in values]
    alike = rule_of(ask)(texts)
    labels = []
    for value, label, of in zip(values, alike, objects, strict=True):
        if of is None:
            labels.append("")
        elif name not in of:
            labels.append(ABSENT)
        else:
            labels.append(f"text {label}" if label else canonical(value))
    return labels


def _plain(value: Any) -> Any:
    match value:
        case bool():
            return value
        case float() if value.is_integer() and abs(value) < 2**53:
            return int(value)
        case str():
            return " ".join(value.split())
        case list():
            return [_plain(each) for each in value]
        case dict():
            return {key: _plain(each) for key, each in value.items()}
    return value
