"""What the reweighter asks of the record, and the versions of weights that it keeps there.

Evidence is read as of a *watermark*: the recorder's offsets of one moment. Rows and offsets move in one transaction, so what lay
below the offsets then is there for good, whatever came later: reading at that watermark again gives the same counts, as long as
the rows are kept.
"""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncConnection

from conclave.domain.budget import cost
from conclave.domain.experiments.evidence import BETTER, WORSE, Cell, Evidence, beside, metrics_of
from conclave.domain.experiments.phases import as_it_is, candidate_of, ramp_since
from conclave.domain.experiments.receipts import VerdictReceipt, Vote
from conclave.domain.experiments.states import segments_named
from conclave.domain.experiments.verification import Assigned
from conclave.store.connection import lost_when_away, make_engine
from conclave.store.erasure import ERASED
from conclave.store.evidence_query import offsets, pairs_query_of, query_of
from schemas.events import ExperimentChanged, WeightsPublished
from schemas.experiments import Experiment, MetricCounts
from schemas.flow import Topic

Watermark = Mapping[str, int]  # topic/partition -> the recorder's next offset

_SEEN_TOPICS = (Topic.STEPS.value, Topic.ANSWERS.value, Topic.FEEDBACK.value)
_DAY_MS = 86_400_000
_MAX_AGE_MS = 8 * _DAY_MS  # a request's id may be older than the start of the run that assigned it
_OFFSETS = text("""
    SELECT topic, "partition", next_offset FROM consumer_offsets WHERE topic = ANY(:topics) ORDER BY 1, 2
""")
_CHANGES = text("""
    SELECT event FROM experiment_changes WHERE :experiment = '' OR experiment = :experiment
    ORDER BY experiment, revision, recorded_at, event_id
""")
_VERSIONS = text("SELECT event FROM weight_versions WHERE experiment = :experiment ORDER BY version")
_LATEST = text("SELECT event FROM weight_versions WHERE experiment = :experiment ORDER BY version DESC LIMIT 1")
_KEEP = text("""
    INSERT INTO weight_versions (experiment, version, revision, computed_at, reason, winner, allocation, digest, event)
    VALUES (:experiment, :version, :revision, :computed_at, :reason, :winner, CAST(:allocation AS jsonb), :digest, :event)
    ON CONFLICT DO NOTHING
""")
_ASSIGNMENTS = text("""
    SELECT request_id, revision, unit, draw, arm, propensity, weights_version, segment FROM plans
    WHERE experiment = :experiment ORDER BY asked_at, request_id
""")
# By when the copy was answered, which the broker says: the time inside an id is its producer's to choose.
_SPENT = text("""
    SELECT coalesce(sum(a.tokens_in), 0), coalesce(sum(a.tokens_out), 0)
    FROM plans p JOIN answers a USING (asked_at, request_id)
    WHERE p.shadow_experiment = :experiment AND p.asked_at >= :since AND a.asked_at >= :since
          AND a.answered_at >= :midnight AND a.answered_at < :midnight + interval '1 day'
          AND p.log_offset < (CAST(:steps AS bigint[]))[p.log_partition + 1]
          AND a.log_offset < (CAST(:answers AS bigint[]))[a.log_partition + 1]
""")
_VERDICTS = text("""
    SELECT v.request_id, v.step_index, v.outcome, v.stop_reason, v.answer, v.num_votes, v.num_for_winner,
           coalesce((SELECT json_agg(json_build_array(b.sample_index, b.answer, b.weight) ORDER BY b.sample_index) FROM ballots b
                     WHERE b.asked_at = v.asked_at AND b.request_id = v.request_id AND b.step_index = v.step_index
                           AND b.failure IS NULL), '[]') AS votes
    FROM plans p JOIN verdicts v ON v.asked_at = p.asked_at AND v.request_id = p.request_id
    WHERE p.experiment = :experiment ORDER BY p.asked_at, p.request_id, v.step_index
""")
_SHADOWS = text("""
    SELECT * FROM shadow_agreement WHERE experiment = :experiment ORDER BY policy, shadow_policy
""")


class Learning:
    """See the module's docstring. All methods raise LostDependency while the database is away."""

    def __init__(self, dsn: str) -> None:
        self._engine = make_engine(dsn)

    async def close(self) -> None:
        """Closes the connections."""
        await self._engine.dispose()

    async def changes(self, experiment: str = "") -> list[ExperimentChanged]:
        """Everything that was done to an experiment, or to all, in the order of revisions."""
        async with self._reading() as connection:
            rows = (await connection.execute(_CHANGES, {"experiment": experiment})).scalars()
            return [msgspec.convert(row, ExperimentChanged) for row in rows]

    async def latest(self, experiment: str) -> WeightsPublished | None:
        """The newest version of an experiment's weights."""
        async with self._reading() as connection:
            found = (await connection.execute(_LATEST, {"experiment": experiment})).scalar()
            return None if found is None else msgspec.json.decode(found, type=WeightsPublished)

    async def versions(self, experiment: str) -> list[WeightsPublished]:
        """Every version of an experiment's weights, the first one first."""
        async with self._reading() as connection:
            rows = (await connection.execute(_VERSIONS, {"experiment": experiment})).scalars()
            return [msgspec.json.decode(row, type=WeightsPublished) for row in rows]

    async def keep(self, weights: WeightsPublished, now_ms: int) -> bool:
        """True when the version was stored; False when another one of its number was there already."""
        values = {
            "experiment": weights.experiment,
            "version": weights.version,
            "revision": weights.revision,
            "computed_at": datetime.fromtimestamp(now_ms / 1000, UTC),
            "reason": weights.reason,
            "winner": weights.winner,
            "allocation": msgspec.json.encode(weights.allocation).decode(),
            "digest": weights.digest,
            "event": msgspec.json.encode(weights).decode(),
        }
        async with lost_when_away(), self._engine.begin() as connection:
            return bool((await connection.execute(_KEEP, values)).rowcount)

    async def evidence(
        self,
        change: ExperimentChanged,
        *,
        since_ms: int,
        as_of_ms: int,
        watermark: Watermark | None = None,
        after: WeightsPublished | None = None,
    ) -> tuple[Evidence, Watermark]:
        """The counts of a run that began at `since_ms`, below `watermark` or else all that is recorded now.

        They are for the version of the weights that comes `after` one: of a run whose shadow became a ramp, those of the ramp, and
        by the segments that it names, or that may be named now. All of it is read in one snapshot, with the recorder's offsets.
        """
        async with self._reading() as connection:
            if watermark is None:
                rows = await connection.execute(_OFFSETS, {"topics": list(_SEEN_TOPICS)})
                watermark = {f"{topic}/{partition}": int(offset) for topic, partition, offset in rows}
            # Tables of a few days have no statistics yet, and a nested loop over them never ends.
            await connection.execute(text("SET LOCAL enable_nestloop = off"))
            await connection.execute(text("SET LOCAL work_mem = '64MB'"))  # so that a large run's joins stay in memory
            cells: list[Cell] = []
            since, segments = ramp_since(change.revision, after), tuple(segments_named(change.revision, after))
            since_ms -= _MAX_AGE_MS
            for key, metric in metrics_of(change.definition).items():
                query, values = query_of(
                    change, metric, watermark, since_ms, as_of_ms, first_version=since, segments=segments
                )
                cells += [_cell(key, row) for row in (await connection.execute(text(query), values)).mappings()]
            shadow = as_it_is(change.definition, since).shadow
            for check in () if shadow is None else shadow.checks:
                query, values = pairs_query_of(change, check.metric, watermark, since_ms, as_of_ms)
                row = (await connection.execute(text(query), values)).mappings().one()
                cells += _cells_of_pairs(change.definition, beside(check.metric), row)
            spent_micro = 0 if shadow is None else await _spent_micro(connection, change, as_of_ms, watermark)
        return Evidence(tuple(sorted(cells)), as_of_ms, spent_micro), watermark

    async def shadows(self, experiment: str) -> list[dict[str, Any]]:
        """How an experiment's shadow has done beside what was served: the rows of the view `shadow_agreement`."""
        async with self._reading() as connection:
            rows = (await connection.execute(_SHADOWS, {"experiment": experiment})).mappings()
            return [dict(row) for row in rows]

    async def assignments(self, experiment: str) -> list[Assigned]:
        """Every assignment of an experiment that is still recorded, by time of asking."""
        async with self._reading() as connection:
            rows = (await connection.execute(_ASSIGNMENTS, {"experiment": experiment})).mappings()
            return [_assigned(row) for row in rows]

    async def verdicts(self, experiment: str) -> list[VerdictReceipt]:
        """How each step of the requests that an experiment assigned was decided, by time of asking."""
        async with self._reading() as connection:
            rows = (await connection.execute(_VERDICTS, {"experiment": experiment})).mappings()
            return [_verdict(row) for row in rows]

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[AsyncConnection]:
        """One snapshot, that nothing is written in."""
        async with lost_when_away(), self._engine.connect() as connection:
            await connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            async with connection.begin():
                yield connection


async def _spent_micro(
    connection: AsyncConnection, change: ExperimentChanged, as_of_ms: int, watermark: Watermark
) -> int:
    """What the shadow of an experiment has cost since midnight, in millionths of a dollar, below the watermark."""
    shadow = change.definition.shadow
    if shadow is None:
        return 0
    midnight_ms = as_of_ms // _DAY_MS * _DAY_MS
    values = {
        "experiment": change.experiment,
        "midnight": datetime.fromtimestamp(midnight_ms / 1000, UTC),
        "since": datetime.fromtimestamp(max(0, midnight_ms - _MAX_AGE_MS) / 1000, UTC),
        "steps": offsets(watermark, Topic.STEPS),
        "answers": offsets(watermark, Topic.ANSWERS),
    }
    tokens_in, tokens_out = (await connection.execute(_SPENT, values)).one()
    return round(cost(shadow.price, int(tokens_in), int(tokens_out)) * 1e6)


def _assigned(row: RowMapping) -> Assigned:
    unit = None if row["unit"] is None or row["unit"].startswith(ERASED) else row["unit"]
    return Assigned(**{**row, "request_id": str(row["request_id"]), "unit": unit})


def _verdict(row: RowMapping) -> VerdictReceipt:
    """A verdict without words: its answers by number, in the order of their first ballots."""
    votes = msgspec.json.decode(row["votes"]) if isinstance(row["votes"], str) else row["votes"]
    numbers: dict[str, int] = {}
    for _, answer, _ in votes:
        if answer is not None:
            numbers.setdefault(answer, len(numbers))
    return VerdictReceipt(
        request_id=str(row["request_id"]),
        step_index=row["step_index"],
        outcome=row["outcome"],
        stop_reason=row["stop_reason"],
        winner=numbers.get(row["answer"]),
        num_votes=row["num_votes"],
        num_for_winner=row["num_for_winner"],
        votes=tuple(Vote(index, numbers.get(answer), weight) for index, answer, weight in votes) if numbers else (),
    )


def _cells_of_pairs(experiment: Experiment, key: str, row: RowMapping) -> Iterator[Cell]:
    """What a shadow's pairs say of a metric: of the copies, of what was served, and by how much copies were better and worse."""
    candidate = candidate_of(experiment)
    sums = (
        (key, candidate, "copy_micro"),
        (key, experiment.control, "served_micro"),
        (key + BETTER, candidate, "better_micro"),
        (key + WORSE, candidate, "worse_micro"),
    )
    for name, arm, column in sums:
        counts = {
            count: int(row[count]) for count in ("num_units", "num_observed", "num_early", "num_pending", "num_missing")
        }
        yield Cell(name, arm, 0, 0, MetricCounts(**counts, sum_micro=int(row[column] or 0)))


def _cell(key: str, row: RowMapping) -> Cell:
    counts = MetricCounts(**{name: int(row[name] or 0) for name in MetricCounts.__struct_fields__})
    return Cell(key, row["arm"], int(row["weights_version"]), int(row["period"]), counts, row["segment"])
