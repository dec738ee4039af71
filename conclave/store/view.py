"""What pages read of the record, as typed values.

Every query starts from an index and is bounded in rows. Where it may, it names the day of the request, so that of the
partitions of a table one is looked at; a list first finds the keys of its page and only then what belongs to them.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from conclave.store import trace
from conclave.store.listing import Filter, Key, keys_query
from conclave.store.queries import trace_read
from conclave.store.reader import Reader
from conclave.store.rows import asked_at
from conclave.store.trace import MAX_SHOWN_CHARS, MAX_SHOWN_PATHS, RequestLine, Story

Row = Mapping[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page:
    """Some lines of a list, and whether there are older ones."""

    lines: tuple[RequestLine, ...]
    has_older: bool

    @property
    def oldest(self) -> Key | None:
        """From where the next page goes on."""
        return Key(self.lines[-1].asked_at, self.lines[-1].request_id) if self.lines and self.has_older else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """What goes on: requests of the last ten minutes without an end, and the answers of the last minute."""

    num_open: int
    num_answered: int
    median_ms: float | None
    mean_paths: float | None


class RecordView:
    """See the module's docstring. Every method raises LostDependency while Postgres is away."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def requests(self, wanted: Filter, *, before: Key | None = None, limit: int = 50) -> Page:
        """The latest requests that the filter asks for, or the latest `before` a key."""
        query, values = keys_query(wanted, before)
        keys = await self._reader.rows(query, values | {"limit": limit + 1})
        return Page(await self._lines(keys[:limit]), len(keys) > limit)

    async def story(self, request_id: str) -> Story | None:
        """All of a request that a page shows; None when nothing is recorded of it."""
        at = await self._asked_at(request_id)
        if at is None:
            return None
        values = {"at": at, "id": UUID(request_id)}
        rows = {name: await self._reader.rows(query, values) for name, query in _STORY.items()}
        lines = await self._lines([{"asked_at": at, "request_id": UUID(request_id)}])
        return story_of(lines[0], rows) if lines else None  # a plan may be recorded a moment before its request

    async def raw(self, request_id: str) -> dict[str, list[dict[str, Any]]]:
        """All that is recorded of a request, as `conclave trace --json` has it."""
        return await trace_read(self._reader, request_id)

    async def pulse(self) -> Pulse:
        """What goes on now."""
        (row,) = await self._reader.rows(_PULSE)
        return _made(Pulse, row)

    async def lines(self, keys: Sequence[Key]) -> tuple[RequestLine, ...]:
        """The lines of these requests, in their order."""
        return await self._lines([{"asked_at": key.asked_at, "request_id": UUID(key.request_id)} for key in keys])

    async def choices(self) -> dict[str, tuple[str, ...]]:
        """What lists may be filtered by: the names of `policy` and `arm` among the latest thousand answers, and each `tenant`."""
        (row,) = await self._reader.rows(_CHOICES)
        return {name: tuple(sorted(each for each in row[name] or () if each)) for name in ("policy", "arm", "tenant")}

    async def _asked_at(self, request_id: str) -> datetime | None:
        """When a request was asked, as its rows have it: mostly what its id says (see conclave.store.rows)."""
        key = {"id": UUID(request_id)}
        for query, values in ((_ASKED_THEN, key | {"at": asked_at(request_id)}), (_ASKED_SOME_TIME, key)):
            rows = await self._reader.rows(query, values)
            if rows:
                found: datetime = rows[0]["asked_at"]
                return found
        return None

    async def _lines(self, keys: Sequence[Row]) -> tuple[RequestLine, ...]:
        """The lines of these keys, in their order."""
        if not keys:
            return ()
        times = [key["asked_at"] for key in keys]
        values = {"ids": [key["request_id"] for key in keys], "first": min(times), "last": max(times)}
        of_keys = values | {"times": times}
        found = {row["request_id"]: row for row in await self._reader.rows(_LINES, of_keys)}
        for name, query, asked in (("strip", _STRIPS, of_keys), ("reward", _REWARDS, values)):
            for row in await self._reader.rows(query, asked):
                if row["request_id"] in found:  # else it has been recorded since
                    found[row["request_id"]][name] = row[name]
        rows = [found[key["request_id"]] for key in keys if key["request_id"] in found]
        return tuple(_made(RequestLine, {**row, "request_id": str(row["request_id"])}) for row in rows)


def story_of(line: RequestLine, rows: Mapping[str, Sequence[Row]]) -> Story:
    """A story from the rows of each of its queries."""
    request: Row = rows["request"][0] if rows["request"] else {}
    plan: Row | None = next(iter(rows["plan"]), None)
    answer: Row = next(iter(rows["answer"]), {})
    return Story(
        line=line,
        question=request.get("question") or "",
        tags=request.get("tags") or {},
        recorded_at=request.get("recorded_at"),
        max_samples=request.get("max_samples"),
        deadline_s=request.get("deadline_s"),
        message=answer.get("message"),
        plan=_made(trace.Plan, plan) if plan else None,
        steps=_steps(rows),
        feedback=tuple(_made(trace.Feedback, row) for row in rows["feedback"]),
        num_paths_recorded=rows["num_paths"][0]["num_paths"] if rows["num_paths"] else 0,
        policy=(plan or {}).get("policy_as_it_was") or {},
    )


def _steps(rows: Mapping[str, Sequence[Row]]) -> tuple[trace.Step, ...]:
    turns: dict[tuple[int, int], list[trace.Turn]] = defaultdict(list)
    for row in rows["turns"]:
        turns[row["step_index"], row["sample_index"]].append(_made(trace.Turn, row))
    paths: dict[int, list[trace.Path]] = defaultdict(list)
    for row in rows["paths"]:
        path = _made(trace.Path, row)
        paths[path.step_index].append(replace(path, turns=tuple(turns[path.step_index, path.sample_index])))
    found: list[trace.Step] = []
    for row in rows["steps"]:
        votes = tuple(
            _made(trace.FieldVote, {**each, "tally": _tally(each["tally"])}) for each in row["field_votes"] or ()
        )
        values = {"tally": _tally(row["tally"]), "field_votes": votes, "depends_on": tuple(row["depends_on"])}
        step = _made(trace.Step, {**row, **values})
        found.append(replace(step, paths=tuple(paths[step.step_index])))
    return tuple(found)


def _tally(rows: Sequence[Row] | None) -> tuple[trace.TallyRow, ...]:
    return tuple(_made(trace.TallyRow, row) for row in rows or ())


def _made(kind: type[T], row: Row) -> T:
    """A value from the columns that are named as its fields."""
    names = kind.__dataclass_fields__  # type: ignore[attr-defined]
    return kind(**{name: row[name] for name in names if name in row})


# Keys of a page may be weeks apart. Each is looked up in the partition that its time names (`OFFSET 0` keeps that so): a join would
# ask every partition between them for every key. The bounds spare PostgreSQL planning for those that none of them lies in.
_KEYS = "unnest(CAST(:times AS timestamptz[]), CAST(:ids AS uuid[])) AS k (asked_at, request_id)"
_WITHIN = "asked_at BETWEEN :first AND :last"
_OF_KEY = f"asked_at = k.asked_at AND request_id = k.request_id AND {_WITHIN}"
_LINES = f"""
    SELECT k.request_id, k.asked_at, coalesce(p.question, '') AS question,
           coalesce(a.strategy, pl.strategy) AS strategy, coalesce(a.policy, pl.policy, r.policy) AS policy,
           coalesce(a.arm, pl.arm) AS arm, a.outcome, a.failure, a.answer, a.confidence, a.margin, v.agreement,
           a.answered_by, a.num_paths, a.tokens_in, a.tokens_out, a.elapsed_ms, a.answered_at, g.tenant
    FROM {_KEYS}
    LEFT JOIN LATERAL (SELECT request_id, policy FROM requests WHERE {_OF_KEY} OFFSET 0) r ON true
    LEFT JOIN LATERAL (SELECT left(question, 400) AS question FROM request_payloads WHERE {_OF_KEY} OFFSET 0) p ON true
    LEFT JOIN LATERAL (SELECT strategy, policy, arm FROM plans WHERE {_OF_KEY} OFFSET 0) pl ON true
    LEFT JOIN LATERAL (
        SELECT request_id, strategy, policy, arm, outcome, failure, left(answer, 400) AS answer, confidence, margin, answered_by,
               num_paths, tokens_in, tokens_out, elapsed_ms, answered_at
        FROM answers WHERE {_OF_KEY} OFFSET 0) a ON true
    LEFT JOIN LATERAL (
        SELECT agreement FROM verdicts WHERE {_OF_KEY} AND step_index = a.answered_by OFFSET 0) v ON true
    LEFT JOIN gateway_requests g ON g.request_id = k.request_id
    WHERE r.request_id IS NOT NULL OR a.request_id IS NOT NULL"""
_STRIPS = f"""
    SELECT k.request_id, string_agg(CASE WHEN b.failure IS NOT NULL THEN 'x' WHEN b.answer IS NULL THEN '-'
                                         WHEN b.answer = a.answer THEN 'w' ELSE 'o' END, '' ORDER BY b.sample_index) AS strip
    FROM {_KEYS}
    CROSS JOIN LATERAL (SELECT answer, answered_by FROM answers WHERE {_OF_KEY} OFFSET 0) a
    CROSS JOIN LATERAL (
        SELECT sample_index, answer, failure FROM ballots WHERE {_OF_KEY} AND step_index = a.answered_by OFFSET 0) b
    GROUP BY k.request_id"""
_REWARDS = f"""
    SELECT request_id, avg(reward) AS reward FROM given_feedback
    WHERE {_WITHIN} AND request_id = ANY(:ids) AND is_latest AND step_index IS NULL AND metric = 'reward' GROUP BY request_id"""
_ASKED_THEN = """
    SELECT asked_at FROM requests WHERE asked_at = :at AND request_id = :id
    UNION ALL SELECT asked_at FROM plans WHERE asked_at = :at AND request_id = :id
    UNION ALL SELECT asked_at FROM answers WHERE asked_at = :at AND request_id = :id LIMIT 1"""
_ASKED_SOME_TIME = """
    SELECT asked_at FROM requests WHERE request_id = :id
    UNION ALL SELECT asked_at FROM answers WHERE request_id = :id LIMIT 1"""
_PULSE = """
    SELECT (SELECT count(*) FROM (SELECT FROM requests r WHERE r.asked_at > now() - interval '10 minutes' AND NOT EXISTS (
                SELECT FROM answers a WHERE a.asked_at = r.asked_at AND a.request_id = r.request_id
                    AND a.asked_at > now() - interval '10 minutes') LIMIT 5000) open) AS num_open,
           l.num_answered, l.median_ms, l.mean_paths
    FROM (SELECT count(*) AS num_answered, percentile_cont(0.5) WITHIN GROUP (ORDER BY elapsed_ms) AS median_ms,
                 avg(num_paths)::double precision AS mean_paths
          FROM (SELECT elapsed_ms, num_paths FROM answers
                WHERE asked_at > now() - interval '10 minutes' AND answered_at > now() - interval '1 minute' LIMIT 5000) a) l"""
_CHOICES = """
    SELECT array_agg(DISTINCT policy) AS policy, array_agg(DISTINCT arm) AS arm, (
               SELECT array_agg(DISTINCT tenant) FROM (
                   (SELECT tenant FROM gateway_requests ORDER BY created_at DESC LIMIT 1000)
                   UNION ALL (SELECT tenant FROM tenants LIMIT 1000)) t) AS tenant
    FROM (SELECT policy, arm FROM answers ORDER BY asked_at DESC LIMIT 1000) latest"""

_STORY: dict[str, str] = {
    "request": """
        SELECT r.recorded_at, r.max_samples, r.deadline_s, p.question, p.tags
        FROM requests r LEFT JOIN request_payloads p USING (asked_at, request_id)
        WHERE r.asked_at = :at AND r.request_id = :id""",
    "answer": "SELECT message FROM answer_payloads WHERE asked_at = :at AND request_id = :id",
    "plan": """
        SELECT pl.planned_at, pl.strategy, pl.policy, pl.policy_digest, pl.arm, pl.propensity, pl.weights_version,
               pl.deadline_at, pl.recalled_from::text AS recalled_from, p.reasons, w.policy AS policy_as_it_was
        FROM plans pl LEFT JOIN plan_payloads p USING (asked_at, request_id) LEFT JOIN policies w ON w.digest = pl.policy_digest
        WHERE pl.asked_at = :at AND pl.request_id = :id""",
    "steps": """
        SELECT s.step_index, s.ask, s.mark, s.depends_on, p.question, p.fields, coalesce(p.why, '') AS why, v.outcome,
               v.stop_reason, v.answer, v.confidence, v.margin, v.agreement, v.entropy, v.launched, v.decided_at,
               t.tally, t.fields AS field_votes
        FROM steps s
        LEFT JOIN step_payloads p USING (asked_at, request_id, step_index)
        LEFT JOIN verdicts v USING (asked_at, request_id, step_index)
        LEFT JOIN verdict_payloads t USING (asked_at, request_id, step_index)
        WHERE s.asked_at = :at AND s.request_id = :id ORDER BY s.step_index""",
    "num_paths": "SELECT count(*) AS num_paths FROM paths WHERE asked_at = :at AND request_id = :id",
    "paths": f"""
        SELECT p.step_index, p.sample_index, p.recorded_at, p.failure, p.answer, b.answer AS vote, b.weight,
               b.sample_index IS NOT NULL AS is_counted, p.finish_reason, p.tokens_in, p.tokens_out, p.mean_logprob,
               p.probability, p.queued_ms, p.first_token_ms, p.total_ms, p.model, p.engine, p.num_handed_on,
               coalesce(right(t.text, {MAX_SHOWN_CHARS}), '') AS text, coalesce(length(t.text), 0) AS num_chars,
               left(t.reasoning, {MAX_SHOWN_CHARS}) AS reasoning
        FROM paths p
        LEFT JOIN path_payloads t USING (asked_at, request_id, step_index, sample_index)
        LEFT JOIN ballots b USING (asked_at, request_id, step_index, sample_index)
        WHERE p.asked_at = :at AND p.request_id = :id
        ORDER BY p.step_index, p.sample_index LIMIT {MAX_SHOWN_PATHS}""",
    "turns": f"""
        SELECT p.step_index, p.sample_index, t.turn ->> 'form' AS form, t.turn ->> 'tool' AS tool,
               right(t.turn ->> 'text', {MAX_SHOWN_CHARS}) AS text, length(t.turn ->> 'text') AS num_chars,
               t.turn ->> 'answer' AS answer, t.turn -> 'call' ->> 'tool' AS called,
               t.turn -> 'call' ->> 'argument' AS argument, (t.turn ->> 'tokens_out')::bigint AS tokens_out
        FROM path_payloads p CROSS JOIN LATERAL jsonb_array_elements(p.turns) WITH ORDINALITY AS t (turn, place)
        WHERE p.asked_at = :at AND p.request_id = :id AND p.form IS NOT NULL
        ORDER BY p.step_index, p.sample_index, t.place LIMIT {4 * MAX_SHOWN_PATHS}""",
    "feedback": """
        SELECT given_at, source, reward, right_answer, comment, metric, step_index, sample_index, is_latest
        FROM given_feedback WHERE asked_at = :at AND request_id = :id AND NOT is_withdrawn ORDER BY given_at DESC LIMIT 200""",
}
