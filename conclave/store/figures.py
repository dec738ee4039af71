"""Figures of the record for pages: what policies cost and are worth, how confidence fares, and how the system does.

Each is taken over the latest of what it counts (`NUM_LATEST`), so that its time does not grow with the record.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from conclave.store.listing import Key
from conclave.store.reader import Reader

NUM_LATEST = 20_000
_MAX_ROWS = 60
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyFigures:
    """What a policy (or an arm of one) was asked, cost and was worth. `reward` is the mean of what feedback says, if any."""

    policy: str
    arm: str
    num_requests: int
    num_answered: int
    confidence: float | None
    num_paths: float
    tokens_out: float
    p50_ms: float
    p95_ms: float
    num_said: int
    reward: float | None
    propensity: float | None  # the mean probability with which it was drawn; None: nothing was drawn


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Answers of about one confidence, and how often feedback says that they are right."""

    num_said: int
    confidence: float
    reward: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Minute:
    """The answers of one minute."""

    at: datetime
    num_answered: int
    num_failed: int
    p50_ms: float
    p95_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """How long one stage took."""

    name: str
    num: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """How often something failed in one way."""

    what: str
    failure: str
    num: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineUse:
    """What an engine did for one model in the last hour, or for as many of its latest paths as are counted.

    `num_in_flight` is how many paths it had in it on average: their rate times how long each was in it (Little 1961, eq. 1).
    """

    engine: str
    model: str
    num_paths: int
    per_minute: float
    num_in_flight: float
    load: float | None  # the mean share of the sequences that it can run, as paths ended; None: it does not say
    tokens_in: int | None
    tokens_cached: int | None  # of those in the prompts of paths for which the engine says so
    cached_share: float | None
    tokens_out: int | None
    queued_p50_ms: float | None
    queued_p95_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reuse:
    """Of the requests planned in the last hour, those that were given an answer which had been reached before."""

    num_planned: int
    num_recalled: int

    @property
    def share(self) -> float | None:
        """Recalled of planned; None where nothing was planned."""
        return self.num_recalled / self.num_planned if self.num_planned else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """How far the record has read a partition."""

    topic: str
    partition: int
    next_offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """Something that somebody has changed. Of a policy, a file, nobody says who: only which decomposer read it, and when."""

    at: datetime
    kind: str  # key, tenant, experiment, policy, dead letter
    what: str
    action: str
    actor: str | None
    why: str


class RecordFigures:
    """See the module's docstring. Every method raises LostDependency while Postgres is away."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def policies(self) -> tuple[PolicyFigures, ...]:
        """Every policy with its arms, the most used first."""
        return _made(PolicyFigures, await self._reader.rows(_POLICIES))

    async def calibration(self) -> tuple[Bucket, ...]:
        """Confidence against feedback, in tenths, of answers that got some."""
        return _made(Bucket, await self._reader.rows(_CALIBRATION))

    async def contradicted(self) -> tuple[Key, ...]:
        """Answers that feedback calls wrong, the most confident first."""
        return tuple(Key(row["asked_at"], str(row["request_id"])) for row in await self._reader.rows(_CONTRADICTED))

    async def minutes(self) -> tuple[Minute, ...]:
        """The last hour, a row a minute that has answers, the latest first."""
        return _made(Minute, await self._reader.rows(_MINUTES))

    async def stages(self) -> tuple[Stage, ...]:
        """How long each stage took."""
        return _made(Stage, await self._reader.rows(_STAGES))

    async def failures(self) -> tuple[Failure, ...]:
        """What failed, the most often first."""
        return _made(Failure, await self._reader.rows(_FAILURES))

    async def engines(self) -> tuple[EngineUse, ...]:
        """What each engine did in the last hour, the busiest first."""
        return _made(EngineUse, await self._reader.rows(_ENGINES))

    async def reuse(self) -> Reuse:
        """How many answers of the last hour were recalled."""
        (reuse,) = _made(Reuse, await self._reader.rows(_REUSE))
        return reuse

    async def positions(self) -> tuple[Position, ...]:
        """How far the record has read the log."""
        return _made(Position, await self._reader.rows(_POSITIONS))

    async def audit(self) -> tuple[Changed, ...]:
        """Who changed keys, tenants and experiments or replayed dead letters, and which policies changed or came to be used.

        The latest first.
        """
        return _made(Changed, await self._reader.rows(_AUDIT))


def _made(kind: type[T], rows: Sequence[Mapping[str, Any]]) -> tuple[T, ...]:
    return tuple(kind(**row) for row in rows)


_LATEST = f"""
    latest AS (
        SELECT asked_at, request_id, policy, arm, failure, confidence, num_paths, tokens_out, elapsed_ms
        FROM answers ORDER BY asked_at DESC, request_id DESC LIMIT {NUM_LATEST}),
    opinions AS (
        SELECT asked_at, request_id, reward FROM given_feedback
        WHERE asked_at >= (SELECT min(asked_at) FROM latest) AND is_latest AND reward IS NOT NULL AND step_index IS NULL
              AND metric = 'reward'),
    said AS (SELECT asked_at, request_id, avg(reward) AS reward FROM opinions GROUP BY asked_at, request_id)"""
_POLICIES = f"""
    WITH {_LATEST},
    drawn AS (
        SELECT asked_at, request_id, propensity FROM plans
        WHERE asked_at >= (SELECT min(asked_at) FROM latest) AND propensity < 1 ORDER BY asked_at DESC LIMIT {NUM_LATEST}),
    by_arm AS (
        SELECT l.policy, l.arm, count(*) AS num_requests, count(*) FILTER (WHERE l.failure IS NULL) AS num_answered,
               avg(l.confidence) AS confidence, avg(l.num_paths)::double precision AS num_paths,
               avg(l.tokens_out)::double precision AS tokens_out,
               percentile_cont(0.5) WITHIN GROUP (ORDER BY l.elapsed_ms) AS p50_ms,
               percentile_cont(0.95) WITHIN GROUP (ORDER BY l.elapsed_ms) AS p95_ms, count(s.reward) AS num_said,
               avg(s.reward) AS reward, avg(d.propensity) AS propensity
        FROM latest l LEFT JOIN said s USING (asked_at, request_id) LEFT JOIN drawn d USING (asked_at, request_id)
        WHERE l.policy IS NOT NULL GROUP BY l.policy, l.arm)
    SELECT * FROM by_arm ORDER BY num_requests DESC, policy, arm LIMIT {_MAX_ROWS}"""
_CALIBRATION = f"""
    WITH {_LATEST}
    SELECT count(*) AS num_said, avg(l.confidence) AS confidence, avg(s.reward) AS reward
    FROM latest l JOIN said s USING (asked_at, request_id) WHERE l.confidence IS NOT NULL
    GROUP BY least(width_bucket(l.confidence, 0, 1, 10), 10) ORDER BY 2"""
_CONTRADICTED = f"""
    WITH {_LATEST}
    SELECT l.asked_at, l.request_id FROM latest l JOIN said s USING (asked_at, request_id)
    WHERE s.reward < 0.5 AND l.confidence IS NOT NULL ORDER BY l.confidence DESC, l.asked_at DESC LIMIT 20"""
_MINUTES = f"""
    SELECT date_trunc('minute', answered_at) AS at, count(*) FILTER (WHERE failure IS NULL) AS num_answered,
           count(*) FILTER (WHERE failure IS NOT NULL) AS num_failed,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY elapsed_ms) AS p50_ms,
           percentile_cont(0.95) WITHIN GROUP (ORDER BY elapsed_ms) AS p95_ms,
           percentile_cont(0.99) WITHIN GROUP (ORDER BY elapsed_ms) AS p99_ms
    FROM (SELECT answered_at, failure, elapsed_ms FROM answers WHERE asked_at > now() - interval '2 hours'
          ORDER BY asked_at DESC LIMIT {NUM_LATEST}) latest
    WHERE answered_at > now() - interval '1 hour' GROUP BY 1 ORDER BY 1 DESC LIMIT {_MAX_ROWS}"""
_PERCENTILES = ", ".join(
    f"percentile_cont({share}) WITHIN GROUP (ORDER BY {{0}}) AS {name}"
    for share, name in ((0.5, "p50_ms"), (0.95, "p95_ms"), (0.99, "p99_ms"))
)
_STAGES = f"""
    WITH latest AS (SELECT queued_ms, first_token_ms, total_ms FROM paths WHERE failure IS NULL
                    ORDER BY asked_at DESC LIMIT {NUM_LATEST}),
    ended AS (SELECT elapsed_ms FROM answers WHERE failure IS NULL ORDER BY asked_at DESC LIMIT {NUM_LATEST})
    SELECT 'waiting for the engine' AS name, count(queued_ms) AS num, {_PERCENTILES.format("queued_ms")} FROM latest
    UNION ALL SELECT 'reading the prompt', count(first_token_ms), {_PERCENTILES.format("first_token_ms - queued_ms")} FROM latest
    UNION ALL SELECT 'decoding', count(*), {_PERCENTILES.format("total_ms - first_token_ms")} FROM latest
    UNION ALL SELECT 'a path', count(*), {_PERCENTILES.format("total_ms")} FROM latest
    UNION ALL SELECT 'a request', count(*), {_PERCENTILES.format("elapsed_ms")} FROM ended"""
_FAILURES = f"""
    SELECT 'request' AS what, failure, count(*) AS num
    FROM (SELECT failure FROM answers ORDER BY asked_at DESC LIMIT {NUM_LATEST}) a WHERE failure IS NOT NULL GROUP BY failure
    UNION ALL
    SELECT 'path', failure, count(*)
    FROM (SELECT failure FROM paths ORDER BY asked_at DESC LIMIT {NUM_LATEST}) p WHERE failure IS NOT NULL GROUP BY failure
    ORDER BY 3 DESC, 1, 2 LIMIT {_MAX_ROWS}"""
# Over the whole hour, unless it holds more paths than are counted: then over the time since the first of these.
_ENGINES = f"""
    WITH latest AS (
        SELECT * FROM (SELECT recorded_at, engine, model, tokens_in, tokens_cached, tokens_out, queued_ms, total_ms, load
                       FROM paths WHERE asked_at > now() - interval '2 hours' ORDER BY asked_at DESC LIMIT {NUM_LATEST}) p
        WHERE recorded_at > now() - interval '1 hour'),
    span AS (SELECT CASE WHEN count(*) < {NUM_LATEST} THEN 3600.0
                         ELSE greatest(1.0, extract(epoch FROM now() - min(recorded_at))) END::double precision AS s FROM latest)
    SELECT engine, model, count(*) AS num_paths, count(*) * 60 / min(span.s) AS per_minute,
           sum(total_ms - queued_ms) / 1000 / min(span.s) AS num_in_flight, avg(load) AS load,
           sum(tokens_in)::bigint AS tokens_in, sum(tokens_cached)::bigint AS tokens_cached,
           sum(tokens_cached)::double precision
               / nullif(sum(tokens_in) FILTER (WHERE tokens_cached IS NOT NULL), 0) AS cached_share,
           sum(tokens_out)::bigint AS tokens_out,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY queued_ms) AS queued_p50_ms,
           percentile_cont(0.95) WITHIN GROUP (ORDER BY queued_ms) AS queued_p95_ms
    FROM latest CROSS JOIN span WHERE engine IS NOT NULL GROUP BY engine, model ORDER BY 3 DESC, 1, 2 LIMIT {_MAX_ROWS}"""
_REUSE = f"""
    SELECT count(*) AS num_planned, count(recalled_from) AS num_recalled
    FROM (SELECT recalled_from FROM plans WHERE asked_at > now() - interval '1 hour' AND shadow_of IS NULL
          ORDER BY asked_at DESC LIMIT {NUM_LATEST}) p"""
_POSITIONS = """SELECT topic, "partition", next_offset FROM consumer_offsets ORDER BY 1, 2 LIMIT 1000"""
_READ = """concat(
        'digest ', coalesce(left(digest_before, 12), 'none'), ' → ', coalesce(left(digest_after, 12), 'none'), ', file ', file,
        coalesce(to_char(modified_at AT TIME ZONE 'UTC', ' "of" YYYY-MM-DD HH24:MI'), ''), ', read by ', instance)"""
_AUDIT = f"""
    SELECT changed_at AS at, CASE WHEN key_id IS NULL THEN 'tenant' ELSE 'key' END AS kind,
           concat_ws(' ', key_id, 'of ' || tenant) AS what, action, actor,
           CASE WHEN detail = '{{}}' THEN '' ELSE left(detail::text, 300) END AS why
    FROM (SELECT * FROM key_changes ORDER BY change_id DESC LIMIT {_MAX_ROWS}) k
    UNION ALL
    SELECT changed_at, 'experiment', concat_ws(' ', experiment, 'revision ' || revision, arm), change, changed_by, left(why, 300)
    FROM (SELECT * FROM experiment_changes ORDER BY changed_at DESC LIMIT {_MAX_ROWS}) e
    UNION ALL
    SELECT to_timestamp((w.event::jsonb ->> 'as_of_ms')::bigint / 1000.0), 'experiment',
           concat(w.experiment, ' revision ', w.revision, ', version ', w.version), w.reason, 'reweighter',
           left(coalesce(w.event::jsonb ->> 'why', ''), 300)
    FROM (SELECT * FROM weight_versions WHERE reason IN ('ramp', 'check', 'guardrail', 'winner')
          ORDER BY computed_at DESC LIMIT {_MAX_ROWS}) w
    UNION ALL
    SELECT replayed_at, 'dead letter', letter_id, action, actor, reason
    FROM (SELECT * FROM dead_letter_replays ORDER BY replay_id DESC LIMIT {_MAX_ROWS}) l
    UNION ALL
    SELECT read_at, 'policy', policy, change, NULL, {_READ}
    FROM (SELECT * FROM policy_changes ORDER BY read_at DESC LIMIT {_MAX_ROWS}) c
    UNION ALL
    SELECT recorded_at, 'policy', concat(name, '@', version), 'first used', NULL, 'digest ' || left(digest, 12)
    FROM (SELECT * FROM policies ORDER BY recorded_at DESC LIMIT {_MAX_ROWS}) p
    ORDER BY 1 DESC LIMIT {_MAX_ROWS}"""
