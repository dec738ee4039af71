"""The counts of one metric of an experiment's run, as SQL.

planned   the run's assigned requests
exposed   its units, each with its first request: from there its window runs
covered   the requests of a unit within that window that were of the same segment and served by the same arm
valued    what each of these is worth by the metric
per_unit  the mean of that, a unit
chosen    the segments that are told from the rest: those that are named, and as many as there is room for that have units enough

Only what lay below the recorder's offsets is looked at: an array a topic, the next offset of partition 0, 1, …

Of a run that began unseen, what its ramp has shown is counted from plans by the version at which it began, and later ones.

Of a shadow's pairs:

copied    of each unit the first request that was copied, with its copy; settled once both deadlines have passed
valued    what each of the two is worth by the metric; nothing where their words are not kept and would have to be
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from conclave.domain.experiments.evidence import FIGURES, SAME_ANSWER
from schemas.events import ExperimentChanged
from schemas.experiments import Metric
from schemas.flow import Topic

_SEEN = "{table}.log_offset < (CAST(:{topic} AS bigint[]))[{table}.log_partition + 1]"
_HEAD = f"""
WITH planned AS (
    SELECT coalesce(p.unit, p.request_id::text) AS unit, p.arm, p.weights_version, p.segment, p.asked_at, p.request_id
    FROM plans p
    WHERE p.experiment = :experiment AND p.revision = :revision AND p.asked_at >= :since
          AND coalesce(p.weights_version, 0) >= :first_version AND {_SEEN.format(table="p", topic="steps")}),
exposed AS (
    SELECT DISTINCT ON (unit) unit, arm, weights_version, segment, asked_at, asked_at + :window AS until
    FROM planned ORDER BY unit, asked_at, request_id),
covered AS (
    SELECT e.unit, p.request_id, p.asked_at, e.until
    FROM exposed e JOIN planned p ON p.unit = e.unit AND p.arm = e.arm AND p.asked_at <= e.until
                                  AND p.segment IS NOT DISTINCT FROM e.segment),
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
    SELECT c.unit, {{worth}} AS micro
    FROM covered c JOIN answers a USING (asked_at, request_id)
    WHERE a.asked_at >= :since AND a.answered_at <= c.until AND {_SEEN.format(table="a", topic="answers")}),
"""
_OR_NOTHING = "CASE WHEN {{a}}.failure IS NULL AND {condition} THEN {worth} ELSE 0 END"
# What the answer `a` is worth by a figure of it, in millionths.
_WORTH = {
    "answered": _OR_NOTHING.format(condition="true", worth="1000000"),
    "within_ms": _OR_NOTHING.format(condition="{a}.elapsed_ms <= :limit", worth="1000000"),
    "within_tokens": _OR_NOTHING.format(condition="{a}.tokens_out <= :limit", worth="1000000"),
    "confidence": _OR_NOTHING.format(
        condition="{a}.confidence IS NOT NULL", worth="round({a}.confidence * 1000000)::bigint"
    ),
}
# Of copies, where what was served is an answer; what failed can't be agreed with.
_SAME = """
    CASE WHEN a.failure IS NOT NULL THEN NULL WHEN s.failure IS NOT NULL THEN 0
         WHEN coalesce(c.is_same_answer, s.answer = a.answer) THEN 1000000
         WHEN NOT coalesce(c.is_same_answer, s.answer = a.answer) THEN 0 END
"""
_PAIRS = f"""
WITH copied AS (
    SELECT DISTINCT ON (unit) coalesce(p.unit, p.request_id::text) AS unit, p.asked_at, p.request_id, c.request_id AS copy_id,
           c.is_same_answer, greatest(p.deadline_at, c.deadline_at) AS until
    FROM plans c JOIN plans p ON p.asked_at = c.asked_at AND p.request_id = c.shadow_of
    WHERE c.shadow_experiment = :experiment AND c.asked_at >= :since AND p.asked_at >= :since
          AND p.experiment = :experiment AND p.revision = :revision
          AND {_SEEN.format(table="c", topic="steps")} AND {_SEEN.format(table="p", topic="steps")}
    ORDER BY unit, p.asked_at, p.request_id),
valued AS (
    SELECT c.until <= :as_of AS is_settled, a.request_id IS NOT NULL AND s.request_id IS NOT NULL AS is_ended,
           ({{served}})::bigint AS served, ({{copy}})::bigint AS copy
    FROM copied c
    LEFT JOIN answers a ON a.asked_at = c.asked_at AND a.request_id = c.request_id AND a.asked_at >= :since
                           AND {_SEEN.format(table="a", topic="answers")}
    LEFT JOIN answers s ON s.asked_at = c.asked_at AND s.request_id = c.copy_id AND s.asked_at >= :since
                           AND {_SEEN.format(table="s", topic="answers")})
SELECT count(*) AS num_units, count(*) FILTER (WHERE is_settled AND is_ended AND copy IS NOT NULL) AS num_observed,
       count(*) FILTER (WHERE NOT is_settled AND is_ended) AS num_early,
       count(*) FILTER (WHERE NOT is_settled AND NOT is_ended) AS num_pending,
       count(*) FILTER (WHERE is_settled AND NOT is_ended) AS num_missing,
       sum(copy) FILTER (WHERE is_settled AND is_ended) AS copy_micro,
       sum(served) FILTER (WHERE is_settled AND is_ended AND copy IS NOT NULL) AS served_micro,
       sum(greatest(copy - served, 0)) FILTER (WHERE is_settled AND is_ended) AS better_micro,
       sum(greatest(served - copy, 0)) FILTER (WHERE is_settled AND is_ended) AS worse_micro
FROM valued
"""
_TAIL = """
per_unit AS (SELECT unit, sum(micro)::bigint / count(*) AS micro FROM valued GROUP BY unit),
chosen AS (
    SELECT segment FROM exposed WHERE segment <> '' GROUP BY segment
    HAVING segment = ANY(CAST(:segments AS text[])) OR count(*) >= :enough_units
    ORDER BY segment = ANY(CAST(:segments AS text[])) DESC, count(*) DESC, segment COLLATE "C" LIMIT :max_segments)
SELECT arm, weights_version, coalesce(chosen.segment, '') AS segment,
       (extract(epoch FROM asked_at) * 1000)::bigint / :period_ms AS period, count(*) AS num_units,
       count(*) FILTER (WHERE until <= :as_of AND micro IS NOT NULL) AS num_observed,
       count(*) FILTER (WHERE until > :as_of AND micro IS NOT NULL) AS num_early,
       count(*) FILTER (WHERE until > :as_of AND micro IS NULL) AS num_pending,
       count(*) FILTER (WHERE until <= :as_of AND micro IS NULL) AS num_missing,
       sum(micro) FILTER (WHERE until <= :as_of) AS sum_micro, sum(micro) FILTER (WHERE until > :as_of) AS early_micro
FROM exposed LEFT JOIN per_unit USING (unit) LEFT JOIN chosen ON chosen.segment = exposed.segment GROUP BY 1, 2, 3, 4
"""


def query_of(
    change: ExperimentChanged,
    metric: Metric,
    watermark: Mapping[str, int],
    since_ms: int,
    as_of_ms: int,
    *,
    first_version: int = 0,
    segments: Sequence[str] = (),
) -> tuple[str, dict[str, Any]]:
    """The query and its values: a row for each arm, version of the weights (from the first that counts), segment and period.

    `segments` are those that are named already.
    """
    definition = change.definition
    values: dict[str, Any] = {
        "steps": offsets(watermark, Topic.STEPS),
        "experiment": change.experiment,
        "revision": change.revision,
        "since": _moment(since_ms),
        "window": timedelta(seconds=change.definition.window_s),
        "as_of": _moment(as_of_ms),
        "period_ms": round(change.definition.period_s * 1000),
        "first_version": first_version,
        "segments": list(segments),
        "enough_units": max(1, definition.min_observations),
        "max_segments": definition.max_segments if definition.segment_by else 0,
    }
    if metric.name in FIGURES:
        values["answers"] = offsets(watermark, Topic.ANSWERS)
        if metric.limit is not None:
            values["limit"] = metric.limit
        return _HEAD + _FIGURE.format(worth=_WORTH[metric.name].format(a="a")) + _TAIL, values
    values |= {"feedback": offsets(watermark, Topic.FEEDBACK), "metric": metric.name}
    values["raters"] = [rater.value for rater in metric.raters]
    return _HEAD + _OPINIONS + _TAIL, values


def pairs_query_of(
    change: ExperimentChanged, metric: Metric, watermark: Mapping[str, int], since_ms: int, as_of_ms: int
) -> tuple[str, dict[str, Any]]:
    """The query of a shadow's pairs by one metric, which is one row, and its values."""
    values: dict[str, Any] = {
        "steps": offsets(watermark, Topic.STEPS),
        "answers": offsets(watermark, Topic.ANSWERS),
        "experiment": change.experiment,
        "revision": change.revision,
        "since": _moment(since_ms),
        "as_of": _moment(as_of_ms),
    }
    if metric.limit is not None:
        values["limit"] = metric.limit
    served, copy = "1000000", _SAME
    if metric.name != SAME_ANSWER:
        served, copy = (_WORTH[metric.name].format(a=answer) for answer in ("a", "s"))
    return _PAIRS.format(served=served, copy=copy), values


def offsets(watermark: Mapping[str, int], topic: Topic) -> list[int]:
    """The next offset of each partition of a topic, 0 where the recorder has none."""
    known = {int(name.rpartition("/")[2]): offset for name, offset in watermark.items() if name.startswith(f"{topic}/")}
    return [known.get(partition, 0) for partition in range(max(known, default=-1) + 1)]


def _moment(timestamp_ms: int) -> datetime:
    return datetime.fromtimestamp(max(0, timestamp_ms) / 1000, UTC)
