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
    if wanted.tenant and table != "request_payloads":
        joins += f" JOIN gateway_requests g ON {_SAME.format('g')} AND g.tenant = :tenant"
    elif wanted.tenant:
        of_others.append(f"EXISTS (SELECT FROM gateway_requests g WHERE {_SAME.format('g')} AND g.tenant = :tenant)")
    if before is not None:
        of_others.append(_BEFORE)
        values |= {"before_at": before.asked_at, "before_id": UUID(before.request_id)}
    conditions = " AND ".join([*of_answers, *of_others])
    if table == "request_payloads":
        return _OF_WORDS.format(conditions=conditions, before=_BEFORE if before is not None else "true"), values
    query = f"""
        SELECT k.asked_at, k.request_id FROM {table} k {joins} {conditions and "WHERE"} {conditions}
        ORDER BY k.asked_at DESC, k.request_id DESC LIMIT :limit"""
    return query, values


_BEFORE = "k.asked_at <= :before_at AND (k.asked_at, k.request_id) < (:before_at, :before_id)"
# Words that are frequent are found among the latest requests, and those that are not by their index. PostgreSQL can't tell which
# they are (each of three words may be in every question, and all three together in none): left alone it would go through all.
_OF_WORDS = """
    WITH lately AS MATERIALIZED (
        SELECT * FROM request_payloads k WHERE {before} ORDER BY asked_at DESC, request_id DESC LIMIT 4000),
    frequent AS MATERIALIZED (
        SELECT k.asked_at, k.request_id FROM lately k WHERE {conditions} ORDER BY k.asked_at DESC, k.request_id DESC LIMIT :limit),
    rare AS MATERIALIZED (
        SELECT k.asked_at, k.request_id FROM request_payloads k WHERE {conditions} AND (SELECT count(*) FROM frequent) < :limit)
    SELECT asked_at, request_id FROM frequent WHERE (SELECT count(*) FROM frequent) >= :limit
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
