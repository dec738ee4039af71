"""The counts of one metric of an experiment's run, as SQL.

planned   the run's assigned requests
exposed   its units, each with its first request: from there its window runs
covered   the requests of a unit within that window that were served by the same arm
valued    what each of these is worth by the metric
per_unit  the mean of that, a unit

Only what lay below the recorder's offsets is looked at: an array a topic, the next offset of partition 0, 1, …
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from conclave.domain.experiments.evidence import FIGURES
from schemas.events import ExperimentChanged
from schemas.experiments import Metric
from schemas.flow import Topic

_SEEN = "{table}.log_offset < (CAST(:{topic} AS bigint[]))[{table}.log_partition + 1]"
_HEAD = f"""
WITH planned AS (
    SELECT coalesce(p.unit, p.request_id::text) AS unit, p.arm, p.weights_version, p.asked_at, p.request_id
    FROM plans p
    WHERE p.experiment = :experiment AND p.revision = :revision AND p.asked_at >= :since
          AND {_SEEN.format(table="p", topic="steps")}),
exposed AS (
    SELECT DISTINCT ON (unit) unit, arm, weights_version, asked_at, asked_at + :window AS until
    FROM planned ORDER BY unit, asked_at, request_id),
covered AS (
    SELECT e.unit, p.request_id, p.asked_at, e.until
    FROM exposed e JOIN planned p ON p.unit = e.unit AND p.arm = e.arm AND p.asked_at <= e.until),
"""
_OPINIONS = f"""
opinions AS (
    SELECT c.unit, f.*
    FROM covered c JOIN feedback f USING (asked_at, request_id)
    WHERE f.asked_at >= :since AND f.given_at <= c.until AND {_SEEN.format(table="f", topic="feedback")}),
ended AS (
    SELECT asked_at, request_id, event_source, supersedes AS event_id, bool_or(NOT is_withdrawn) AS is_replaced
    FROM opinions WHERE supersedes IS NOT NULL GROUP BY 1, 2, 3, 4),
held AS (
    SELECT o.unit, o.request_id, o.reward, e.event_id IS NOT NULL AS is_ended,
           row_number() OVER (PARTITION BY o.asked_at, o.request_id, o.source ORDER BY o.given_at DESC, o.log_offset DESC) AS place
    FROM opinions o LEFT JOIN ended e USING (asked_at, request_id, event_source, event_id)
    WHERE NOT o.is_withdrawn AND NOT coalesce(e.is_replaced, false) AND o.step_index IS NULL AND o.reward IS NOT NULL
          AND o.metric = :metric AND (cardinality(CAST(:raters AS text[])) = 0 OR o.rater = ANY(CAST(:raters AS text[])))),
valued AS (SELECT unit, round(reward * 1000000)::bigint AS micro FROM held WHERE place = 1 AND NOT is_ended),
"""
_FIGURE = f"""
valued AS (
    SELECT c.unit, CASE WHEN {{condition}} THEN 1000000 ELSE 0 END AS micro
    FROM covered c JOIN answers a USING (asked_at, request_id)
    WHERE a.asked_at >= :since AND a.answered_at <= c.until AND {_SEEN.format(table="a", topic="answers")}),
"""
_CONDITIONS = {
    "answered": "a.failure IS NULL",
    "within_ms": "a.failure IS NULL AND a.elapsed_ms <= :limit",
}
_TAIL = """
per_unit AS (SELECT unit, sum(micro)::bigint / count(*) AS micro FROM valued GROUP BY unit)
SELECT arm, weights_version, (extract(epoch FROM asked_at) * 1000)::bigint / :period_ms AS period, count(*) AS num_units,
       count(*) FILTER (WHERE until <= :as_of AND micro IS NOT NULL) AS num_observed,
       count(*) FILTER (WHERE until > :as_of AND micro IS NOT NULL) AS num_early,
       count(*) FILTER (WHERE until > :as_of AND micro IS NULL) AS num_pending,
       count(*) FILTER (WHERE until <= :as_of AND micro IS NULL) AS num_missing,
       sum(micro) FILTER (WHERE until <= :as_of) AS sum_micro, sum(micro) FILTER (WHERE until > :as_of) AS early_micro
FROM exposed LEFT JOIN per_unit USING (unit) GROUP BY 1, 2, 3
"""


def query_of(
    change: ExperimentChanged, metric: Metric, watermark: Mapping[str, int], since_ms: int, as_of_ms: int
) -> tuple[str, dict[str, Any]]:
    """The query, a row for each arm, version of the weights and period, and its values."""
    values: dict[str, Any] = {
        "steps": offsets(watermark, Topic.STEPS),
        "experiment": change.experiment,
        "revision": change.revision,
        "since": _moment(since_ms),
        "window": timedelta(seconds=change.definition.window_s),
        "as_of": _moment(as_of_ms),
        "period_ms": round(change.definition.period_s * 1000),
    }
    if metric.name in FIGURES:
        values["answers"] = offsets(watermark, Topic.ANSWERS)
        if metric.limit is not None:
            values["limit"] = metric.limit
        return _HEAD + _FIGURE.format(condition=_CONDITIONS[metric.name]) + _TAIL, values
    values |= {"feedback": offsets(watermark, Topic.FEEDBACK), "metric": metric.name}
    values["raters"] = [rater.value for rater in metric.raters]
    return _HEAD + _OPINIONS + _TAIL, values


def offsets(watermark: Mapping[str, int], topic: Topic) -> list[int]:
    """The next offset of each partition of a topic, 0 where the recorder has none."""
    known = {int(name.rpartition("/")[2]): offset for name, offset in watermark.items() if name.startswith(f"{topic}/")}
    return [known.get(partition, 0) for partition in range(max(known, default=-1) + 1)]


def _moment(timestamp_ms: int) -> datetime:
    return datetime.fromtimestamp(max(0, timestamp_ms) / 1000, UTC)
