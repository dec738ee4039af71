"""The short answers of a step as clusters: `short_answer`.

Most readings are the same or not whatever else stands in the step. Some things depend on the others, so that sameness stays
transitive: a bare number joins the same number with a unit, a bare value joins the same value of a variable, and "3:30" joins
"3:30 pm", each only while the step has one such unit, variable or half of the day. And what may be one thing or another is what
another answer says beyond doubt, if they all point to the same: "3,14" is 3.14 beside 3.14, and 3 and 14 beside "3 and 14".
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Literal

from msgspec.structs import replace

from conclave.domain.equivalence.cleaning import cleaned
from conclave.domain.equivalence.readings import Reading, read
from conclave.domain.equivalence.units import POUNDS


def short_answer(answers: Sequence[str]) -> list[str]:
    """A cluster for all that say the same; its label is its first answer, cleaned."""
    readings = _in_context(_settled([read(answer) for answer in answers]))
    readings = _joined(readings, "details", lambda reading: (reading.value, reading.unit))
    readings = _joined(readings, "unit", lambda reading: reading.value)
    readings = _joined(readings, "details", lambda reading: (reading.value, reading.unit))
    readings = _joined(readings, "variable", lambda reading: reading.unit or reading.value)
    labels: dict[Hashable, str] = {}
    found = []
    for answer, reading in zip(answers, readings, strict=True):
        key = (reading.unit or reading.value, reading.details, reading.variable)
        found.append("" if reading.value == "" else labels.setdefault(key, cleaned(answer)))
    return found


def _settled(readings: list[Reading]) -> list[Reading]:
    """Readings of which those in doubt are what the others say. Where these say two things, or nothing, they stay as written.

    All doubts of a kind are settled alike, so that answers that are the same stay so when only their labels are left.
    """
    if not any(reading.doubt for reading in readings):
        return readings
    certain = {said for reading in readings if not reading.doubt for said in (reading.value, reading.unit) if said}
    meant: dict[str, set[int]] = {}
    for reading in readings:
        for place, each in enumerate((reading, *reading.others) if reading.doubt else ()):
            if each.value in certain or each.unit in certain:
                meant.setdefault(reading.doubt, set()).add(place)
    return [
        _settled_as(reading, next(iter(places)) if len(places := meant.get(reading.doubt, set())) == 1 else 0)
        for reading in readings
    ]


def _settled_as(reading: Reading, place: int) -> Reading:
    if not place:
        return reading
    other = reading.others[place - 1]
    return replace(other, variable=other.variable or reading.variable)


def _in_context(readings: list[Reading]) -> list[Reading]:
    """Readings with what the step as a whole decides: times or ratios, pounds of weight or of money."""
    has_ratios = any(reading.is_ratio for reading in readings)
    has_money = any("£" in reading.unit for reading in readings)
    has_weight = any(" lb^" in reading.unit for reading in readings)
    pounds = "£" if has_money and not has_weight else "lb"
    found = []
    for reading in readings:
        if has_ratios and reading.ratio:
            reading = Reading(reading.ratio)
        elif POUNDS in reading.unit:
            reading = replace(reading, unit=reading.unit.replace(POUNDS, pounds))
        found.append(reading)
    return found


def _joined(
    readings: list[Reading], field: Literal["unit", "details", "variable"], of: Callable[[Reading], Hashable]
) -> list[Reading]:
    """Readings in which those without the field have that of the others of their kind, where there is one only."""
    known: dict[Hashable, set[str]] = {}
    for reading in readings:
        if value := getattr(reading, field):
            known.setdefault(of(reading), set()).add(value)
    only = {kind: next(iter(values)) for kind, values in known.items() if len(values) == 1}
    if not only:
        return readings
    joined = []
    for reading in readings:
        if reading.value and not getattr(reading, field) and (kind := of(reading)) in only:
            given: dict[str, Any] = {field: only[kind]}
            reading = replace(reading, **given)
        joined.append(reading)
    return joined
