"""What a shadow's pairs say on a real record: counted by unit, once settled, and the same again after everything was erased."""

from msgspec.structs import replace
from sqlalchemy import text

from conclave.domain.experiments.evidence import Evidence
from conclave.domain.experiments.reweighting import next_weights
from conclave.domain.experiments.verification import check_assignments, check_evidence, check_weights
from conclave.store.erasure import erase
from conclave.testing import events as made
from schemas.events import ExperimentChanged, RequestFailed, WeightsPublished
from schemas.experiments import SHADOW, Assignment, Guardrail, Metric, Shadow, ShadowOf
from schemas.ids import derived_request_id, shadow_id
from schemas.values import RequestFailure
from tests.record_of_events import NOW_MS, Recorded

METRICS = {
    "same": Metric(name="same_answer"),
    "answered": Metric(name="answered"),
    "tokens": Metric(name="within_tokens", limit=50.0),
    "sure": Metric(name="confidence"),
}
CHECKS = (
    Guardrail(metric=METRICS["same"], at_least=0.6),
    *(Guardrail(metric=METRICS[name], max_drop=0.5) for name in ("answered", "tokens", "sure")),
)
CHANGE = made.started(
    made.experiment(
        unit="user",
        shadow=Shadow(share=0.5, max_dollars_per_day=1.0, checks=CHECKS),
        ramp=(0.1, 1.0),
        min_observations=5,
    ),
    changed_ms=NOW_MS - 3_600_000,
)
SETTLED_MS = NOW_MS + 60_000


class Pairs:
    """Puts requests and their copies into the record, which have a minute."""

    def __init__(self, record: Recorded) -> None:
        self._record, self.served = record, list[str]()

    async def put(self, answer: str | None, copied: str | None, *, unit: str = "", is_ended: bool = True) -> str:
        """A request that was answered so, or not at all, and its copy."""
        served = str(derived_request_id(NOW_MS - 5000 + len(self.served), f"served {len(self.served)}"))
        self.served.append(served)
        assignment = Assignment(experiment="trial", revision=1, unit=unit or f"user {len(self.served)}", draw=0)
        plan = replace(made.plan(), request_id=served, deadline_ms=SETTLED_MS, arm="a", assignment=assignment)
        of = ShadowOf(request_id=served, experiment="trial")
        await self._record.put(replace(plan, weights_version=0))
        await self._record.put(replace(plan, request_id=shadow_id(served), arm=SHADOW, assignment=None, shadow=of))
        await self._end(served, answer, confidence=0.9, tokens_out=20)
        if is_ended:
            await self._end(shadow_id(served), copied, confidence=0.7, tokens_out=60)
        return served

    async def _end(self, request_id: str, answer: str | None, **figures: float) -> None:
        if answer is None:
            await self._record.put(RequestFailed(request_id=request_id, failure=RequestFailure.NO_ANSWER, message="m"))
        else:
            await self._record.put(made.answer(answer, request_id=request_id, **figures))


async def counted(record: Recorded, as_of_ms: int = SETTLED_MS, **how: object) -> Evidence:
    found, _ = await record.learning.evidence(CHANGE, since_ms=CHANGE.changed_ms, as_of_ms=as_of_ms, **how)  # type: ignore[arg-type]
    return found


def sums(evidence: Evidence, key: str, arm: str) -> tuple[int, int, int]:
    counts = evidence.of(f"shadow.{key}", arm)
    return counts.num_observed, counts.num_missing, counts.sum_micro


async def test_pairs_are_counted_by_unit_once_both_deadlines_have_passed(record: Recorded) -> None:
    pairs = Pairs(record)
    await pairs.put("4", "4", unit="ann")
    await pairs.put("4", "5", unit="ann")  # of each unit, the first pair
    await pairs.put("4", "5")
    await pairs.put("4", None)
    await pairs.put(None, "4")
    await pairs.put("4", None, is_ended=False)
    early = await counted(record, SETTLED_MS - 1)
    assert sums(early, "same_answer", "b") == (0, 0, 0)
    assert early.of("shadow.same_answer", "b").num_early == 4
    found = await counted(record)
    assert sums(found, "same_answer", "b") == (3, 1, 1_000_000), "nothing can be the same as what failed"
    assert sums(found, "answered", "b") == (4, 1, 3_000_000)
    assert sums(found, "answered", "a") == (4, 1, 3_000_000)
    assert sums(found, "answered.better", "b")[2] == sums(found, "answered.worse", "b")[2] == 1_000_000
    assert sums(found, "within_tokens.50", "b")[2] == 0
    assert sums(found, "within_tokens.50.worse", "b")[2] == 3_000_000
    assert sums(found, "confidence", "a")[2] == 2_700_000
    assert sums(found, "confidence", "b")[2] == 2_100_000
    assert sums(found, "confidence.worse", "b")[2] == 200_000 + 200_000 + 900_000


async def test_a_run_goes_from_shadow_to_ramp_and_is_counted_again_after_all_of_it_was_erased(
    record: Recorded, fresh_database: str
) -> None:
    pairs = Pairs(record)
    for number in range(40):
        await pairs.put("4", "5" if number % 20 == 0 else "4")
    shadow = CHANGE.definition.shadow
    assert shadow is not None
    kept = replace(shadow, checks=CHECKS[:2])  # those that the copies keep
    change = replace(CHANGE, definition=replace(CHANGE.definition, shadow=kept))
    evidence, watermark = await record.learning.evidence(change, since_ms=CHANGE.changed_ms, as_of_ms=SETTLED_MS)
    first = next_weights(change, evidence, None, watermark)
    assert first is not None
    assert (first.reason, first.ramp_since, first.allocation) == ("ramp", 1, {"a": 0.9, "b": 0.1})
    await record.learning.keep(first, NOW_MS)
    for number in range(6):  # of the ramp; one of them by a decomposer that had not heard of it
        await record.assigned("b" if number else "a", unit=f"late {number}", version=1 if number else 0)
    await erase(fresh_database, pairs.served)
    await record.put(made.answer("9", request_id=shadow_id(pairs.served[0])))  # delivered again
    await _verified(record, [first], change)
    of_ramp, _ = await record.learning.evidence(change, since_ms=change.changed_ms, as_of_ms=SETTLED_MS, after=first)
    assert of_ramp.of("reward", "b").num_units == 5
    assert of_ramp.of("reward", "a").num_units == 0, "what came before the ramp is no part of it"
    async with record.learning._reading() as connection:
        await connection.execute(text("SET LOCAL ROLE analyst"))
        done = (await connection.execute(text("SELECT change, changed_by, why FROM experiment_history"))).all()
        same = (
            await connection.execute(text("SELECT count(*) FILTER (WHERE is_same) FROM shadow_answers"))
        ).scalar_one()
    assert [(row[0], row[1]) for row in done] == [("ramp", "reweighter")]
    assert "shadow.same_answer 0.950" in done[0][2]
    assert same == 38, "that answers were the same is a figure"


async def _verified(record: Recorded, versions: list[WeightsPublished], change: ExperimentChanged) -> None:
    assert await record.learning.versions("trial") == versions
    assert list(check_weights([change], versions)) == []
    for place, weights in enumerate(versions):
        previous = versions[place - 1] if place else None
        again, _ = await record.learning.evidence(
            change,
            since_ms=change.changed_ms,
            as_of_ms=weights.as_of_ms,
            watermark=weights.watermark,
            after=previous,
        )
        assert list(check_evidence(change, again, weights, previous)) == []
    assert list(check_assignments([change], versions, [])) == []
