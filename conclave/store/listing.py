"""Which requests a list holds, and the query for the keys of a page of it.

A page is found by the order of an index (the latest first), and goes on where the one before ended: no page is slower than another.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

FAILED, OPEN = "failed", "open"  # what a request may come to besides an Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which requests a list holds. None, or "", asks for nothing; all that is asked for must hold."""

    text: str = ""  # words of the question, as a search engine takes them
    policy: str = ""
    arm: str = ""
    outcome: str = ""  # an Outcome, FAILED or OPEN
    max_confidence: float | None = None
    max_agreement: float | None = None
    has_feedback: bool = False
    tenant: str = ""  # that asked it through a gateway's API

    @property
    def is_any(self) -> bool:
        """True when nothing is asked for."""
        return self == Filter()


@dataclass(frozen=True, slots=True)
class Key:
    """Where a request lies in lists: the latest first."""

    asked_at: datetime
    request_id: str


def keys_query(wanted: Filter, before: Key | None) -> tuple[str, dict[str, Any]]:
    """The keys of a page, and its values but `limit`: from the table that what is asked for is in, by the order of its key."""
    of_answers, of_others, values = _of_answers(wanted), _of_others(wanted), _values(wanted)
    joins = ""
    if wanted.max_agreement is not None and wanted.outcome != OPEN:
        joins = (
            f"JOIN verdicts v ON {_SAME.format('v')} AND v.step_index = k.answered_by AND v.agreement <= :max_agreement"
        )
    table = "answers" if of_answers or joins else "request_payloads" if wanted.text else "requests"
    if wanted.text and table != "request_payloads":
        joins += f" JOIN request_payloads p ON {_SAME.format('p')} AND {_HAS_WORDS.format('p')}"
    elif wanted.text:
        of_others.append(_HAS_WORDS.format("k"))
    if before is not None:
        values |= {"before_at": before.asked_at, "before_id": UUID(before.request_id)}
    parts = {
        "found": f"FROM {table} k {joins}",
        "conditions": " AND ".join([*of_answers, *of_others]) or "true",
        "before": "true" if before is None else _BEFORE,
    }
    if wanted.tenant:
        num_lately = _LATELY_WITH_WORDS if wanted.text else _LATELY
        order = "" if table == "request_payloads" else f"{_LATEST_FIRST} LIMIT :limit"
        return _OF_TENANT.format(**parts, num_lately=num_lately, order=order), values
    query = _OF_WORDS if table == "request_payloads" else _OF_ALL
    return query.format(**parts), values


_BEFORE = "k.asked_at <= :before_at AND (k.asked_at, k.request_id) < (:before_at, :before_id)"
# Words that are frequent are found among the latest requests, and those that are not by their index. PostgreSQL can't tell which
# they are (each of three words may be in every question, and all three together in none): left alone it would go through all.
_OF_WORDS = """
    WITH lately AS MATERIALIZED (
        SELECT * FROM request_payloads k WHERE {before} ORDER BY asked_at DESC, request_id DESC LIMIT 4000),
    frequent AS MATERIALIZED (
        SELECT k.asked_at, k.request_id FROM lately k WHERE {conditions} ORDER BY k.asked_at DESC, k.request_id DESC LIMIT :limit),
    rare AS MATERIALIZED (
        SELECT k.asked_at, k.request_id {found} WHERE {conditions} AND {before} AND (SELECT count(*) FROM frequent) < :limit)
    SELECT asked_at, request_id FROM frequent WHERE (SELECT count(*) FROM frequent) >= :limit
    UNION ALL SELECT asked_at, request_id FROM rare ORDER BY asked_at DESC, request_id DESC LIMIT :limit"""
_LATEST_FIRST = "ORDER BY k.asked_at DESC, k.request_id DESC"
_OF_ALL = f"SELECT k.asked_at, k.request_id {{found}} WHERE {{conditions}} AND {{before}} {_LATEST_FIRST} LIMIT :limit"
# A tenant may have asked nearly all or nearly nothing, and PostgreSQL can't tell what of it a filter finds. So the tenant's latest
# are looked at one by one (`OFFSET 0` keeps that so), which finds a page of what is frequent, and all of a tenant that has no more.
# Only where both fail, what is rare among many, are all that the filter finds held against the tenant's.
_LATELY, _LATELY_WITH_WORDS = 4_000, 1_000  # to take a question's words takes its time
_OF_TENANT = f"""
    WITH asked AS MATERIALIZED (
        SELECT l.asked_at, l.request_id
        FROM (SELECT k.asked_at, k.request_id FROM gateway_requests k WHERE k.tenant = :tenant AND {{before}} {_LATEST_FIRST}
              LIMIT {{num_lately}}) l
        CROSS JOIN LATERAL (
            SELECT {{found}} WHERE k.asked_at = l.asked_at AND k.request_id = l.request_id AND {{conditions}} OFFSET 0) found
        ORDER BY l.asked_at DESC, l.request_id DESC LIMIT :limit),
    rare AS MATERIALIZED (
        SELECT k.asked_at, k.request_id {{found}} JOIN gateway_requests g ON g.asked_at = k.asked_at AND g.request_id = k.request_id
        WHERE g.tenant = :tenant AND {{conditions}} AND {{before}} AND (SELECT count(*) FROM asked) < :limit
            AND {{num_lately}} = (SELECT count(*) FROM (
                SELECT FROM gateway_requests k WHERE k.tenant = :tenant AND {{before}} LIMIT {{num_lately}}) n)
        {{order}})
    SELECT asked_at, request_id FROM asked WHERE NOT EXISTS (SELECT FROM rare)
    UNION ALL SELECT asked_at, request_id FROM rare ORDER BY asked_at DESC, request_id DESC LIMIT :limit"""
_SAME = "{0}.asked_at = k.asked_at AND {0}.request_id = k.request_id"
# Of feedback `f`: it neither takes something back nor was taken back.
_HOLDS = """NOT f.is_withdrawn AND NOT EXISTS (
    SELECT FROM feedback e WHERE e.asked_at = f.asked_at AND e.request_id = f.request_id AND e.event_source = f.event_source
        AND e.supersedes = f.event_id AND e.is_withdrawn)"""
# As the index of migration 0011 has it.
_HAS_WORDS = "to_tsvector('simple', left({0}.question, 4096)) @@ websearch_to_tsquery('simple', :text)"


def _of_answers(wanted: Filter) -> list[str]:
    """Conditions on the columns of an answer."""
    if wanted.outcome == OPEN:
        return []
    asked = {
        "k.policy = :policy": wanted.policy,
        "k.arm = :arm": wanted.arm,
        "k.confidence <= :max_confidence": wanted.max_confidence is not None,
        "k.failure IS NOT NULL": wanted.outcome == FAILED,
        "k.outcome = :outcome": wanted.outcome not in ("", FAILED),
    }
    return [condition for condition, is_asked in asked.items() if is_asked]


def _of_others(wanted: Filter) -> list[str]:
    """Conditions on what other tables have of the same request."""
    found: list[str] = []
    if wanted.outcome == OPEN:
        # A deadline is a day away at most, so nothing older is open.
        found.append(
            f"k.asked_at > now() - interval '2 days' AND NOT EXISTS (SELECT FROM answers a WHERE {_SAME.format('a')})"
        )
        if wanted.max_confidence is not None or wanted.max_agreement is not None:
            found.append("false")  # what is open has neither yet
        for name in ("policy", "arm"):
            if getattr(wanted, name):
                found.append(f"EXISTS (SELECT FROM plans l WHERE {_SAME.format('l')} AND l.{name} = :{name})")
    if wanted.has_feedback:
        found.append(f"EXISTS (SELECT FROM feedback f WHERE {_SAME.format('f')} AND {_HOLDS})")
    return found


def _values(wanted: Filter) -> dict[str, Any]:
    """What stands for the names in the conditions."""
    values: dict[str, Any] = {
        name: getattr(wanted, name) for name in ("policy", "arm", "text", "tenant") if getattr(wanted, name)
    }
    if wanted.outcome not in ("", FAILED, OPEN):
        values["outcome"] = wanted.outcome
    if wanted.outcome == OPEN:
        return values
    shares = {"max_confidence": wanted.max_confidence, "max_agreement": wanted.max_agreement}
    return values | {name: share for name, share in shares.items() if share is not None}
