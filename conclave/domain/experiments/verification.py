"""Every assignment and every version of an experiment's weights, computed again from what is stored, bit for bit.

Of a version, three things are checked: that it is what was written (its digest), that it follows the version before (the digest
that it names), and that it is what `decided` makes of the states that it names. Where the rows still lie, the states themselves
are counted again at its watermark (`check_evidence`).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from conclave.domain.experiments.assignment import allocation_of, arm_at, draw, served
from conclave.domain.experiments.evidence import Evidence
from conclave.domain.experiments.phases import as_it_is, in_force, ramp_since
from conclave.domain.experiments.reweighting import decided, digest
from conclave.domain.experiments.states import segments_named, strata_in, strata_of
from schemas.events import ExperimentChanged, WeightsPublished


@dataclass(frozen=True, slots=True)
class Assigned:
    """How a request came to its arm, as its plan says. `unit` is None where it was erased."""

    request_id: str
    revision: int
    unit: str | None
    draw: int
    arm: str
    propensity: float
    weights_version: int
    segment: str | None = None  # of an experiment with segments, "" is none


@dataclass(frozen=True, slots=True)
class Deviation:
    """One thing that is not what it should be."""

    where: str
    expected: str
    got: str

    def __str__(self) -> str:
        return f"{self.where}: expected {self.expected}, got {self.got}"


def check_weights(changes: Iterable[ExperimentChanged], versions: Sequence[WeightsPublished]) -> Iterator[Deviation]:
    """What is wrong with the versions, each taken by itself and as the successor of the one before."""
    runs = {change.revision: change for change in changes}
    previous: WeightsPublished | None = None
    for weights in versions:
        where = f"version {weights.version}"
        number = previous.version + 1 if previous else 1
        if weights.version != number:
            yield Deviation(where, f"version {number}", "a gap")
        if weights.digest != digest(weights):
            yield Deviation(f"{where}, digest", digest(weights), weights.digest)
        if weights.previous_digest != (previous.digest if previous else ""):
            yield Deviation(
                f"{where}, digest of the one before", previous.digest if previous else "none", weights.previous_digest
            )
        run = runs.get(weights.revision)
        if run is None:
            yield Deviation(where, "a revision that was started", str(weights.revision))
        else:
            yield from _again(where, run, weights, previous)
        previous = weights


def check_evidence(
    change: ExperimentChanged, evidence: Evidence, weights: WeightsPublished, previous: WeightsPublished | None
) -> Iterator[Deviation]:
    """What is wrong with a version's states, by the rows that lay below its watermark."""
    strata = strata_of(in_force(change, previous), evidence, segments_named(change.revision, previous))
    spent_micro = evidence.spent_micro
    found = decided(
        change, strata, previous, as_of_ms=weights.as_of_ms, watermark=weights.watermark, spent_micro=spent_micro
    )
    yield from _compared(f"version {weights.version}, counted again", found, weights)


def check_assignments(
    changes: Iterable[ExperimentChanged], versions: Sequence[WeightsPublished], assigned: Iterable[Assigned]
) -> Iterator[Deviation]:
    """What is wrong with assignments: draw, arm and propensity, by the weights that each names."""
    runs = {change.revision: change for change in changes}
    known = {weights.version: weights for weights in versions}
    for each in assigned:
        run, where = runs.get(each.revision), f"request {each.request_id}"
        weights = known.get(each.weights_version)
        if run is None:
            yield Deviation(where, "a revision that was started", str(each.revision))
            continue
        if each.weights_version and (weights is None or weights.revision != each.revision):
            yield Deviation(where, f"weights of revision {each.revision}", f"version {each.weights_version}")
            continue
        drawn = each.draw if each.unit is None else draw(run.definition, each.unit)
        as_it_was = as_it_is(run.definition, ramp_since(each.revision, weights))
        arm = served(as_it_was, arm_at(_allocation(run, each, weights), drawn))
        expected = (drawn, arm.arm, arm.propensity)
        if expected != (each.draw, each.arm, each.propensity):
            yield Deviation(where, _told(*expected), _told(each.draw, each.arm, each.propensity))


def _allocation(run: ExperimentChanged, each: Assigned, weights: WeightsPublished | None) -> Mapping[str, float]:
    return allocation_of(run.definition, each.revision, weights, each.segment)[1]


def _again(
    where: str, run: ExperimentChanged, weights: WeightsPublished, previous: WeightsPublished | None
) -> Iterator[Deviation]:
    try:
        as_it_was = {"as_of_ms": weights.as_of_ms, "spent_micro": weights.spent_micro}
        found = decided(run, strata_in(weights), previous, watermark=weights.watermark, **as_it_was)
    except (LookupError, ValueError, ArithmeticError) as error:
        yield Deviation(f"{where}, states", "those of the experiment's arms and metrics", repr(error)[:200])
    else:
        yield from _compared(where, found, weights)
    gone = sorted(set(segments_named(weights.revision, previous)) - set(weights.segments))
    if gone:
        yield Deviation(f"{where}, segments", "those of the version before", f"none for {', '.join(gone)}")


def _compared(where: str, again: WeightsPublished, stored: WeightsPublished) -> Iterator[Deviation]:
    """The fields in which two versions differ; their digests follow from these."""
    again = replace(again, digest=stored.digest, previous_digest=stored.previous_digest)
    expected, got = _fields(again), _fields(stored)
    for name in expected:
        if expected[name] != got[name]:
            yield Deviation(f"{where}, {name}", str(expected[name]), str(got[name]))


def _fields(weights: WeightsPublished) -> Mapping[str, object]:
    return {name: getattr(weights, name) for name in weights.__struct_fields__}


def _told(drawn: int, arm: str, propensity: float) -> str:
    return f"draw {drawn} on {arm} with {propensity!r}"
