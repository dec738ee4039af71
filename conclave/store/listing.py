"""Which requests a list holds, and the query for the keys of a page of it.

A page is found by the order of an index (the latest first), and goes on where the one before ended: no page is slower than another.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which requests a list holds. None, or "", asks for nothing; all that is asked for must hold."""

    text: str = ""  # words of the question, as a search engine takes them; or the answer itself
    policy: str = ""
    arm: str = ""
    outcome: str = ""  # an Outcome, "failed" or "open"
    max_confidence: float | None = None
    max_agreement: float | None = None
    has_feedback: bool = False

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
    """The keys of a page. It starts from the smallest table that holds what is asked for, all in the order of one index."""
    conditions: list[str] = []
    values: dict[str, Any] = {}
    joins = ""
    of_answers = {
        "k.policy = :policy": ("policy", wanted.policy or None),
        "k.arm = :arm": ("arm", wanted.arm or None),
        "k.confidence <= :max_confidence": ("max_confidence", wanted.max_confidence),
    }
    for condition, (name, value) in of_answers.items():
        if value is not None:
            conditions.append(condition)
            values[name] = value
    if wanted.max_agreement is not None:
        joins += """ JOIN verdicts v ON v.asked_at = k.asked_at AND v.request_id = k.request_id
                     AND v.step_index = k.answered_by AND v.agreement <= :max_agreement"""
        values["max_agreement"] = wanted.max_agreement
    match wanted.outcome:
        case "open":
            conditions.append(
                "NOT EXISTS (SELECT FROM answers a WHERE a.asked_at = k.asked_at AND a.request_id = k.request_id)"
            )
        case "failed":
            conditions.append("k.failure IS NOT NULL")
        case "":
            pass
        case outcome:
            conditions.append("k.outcome = :outcome")
            values["outcome"] = outcome
    is_of_answers = bool(joins or any("k." in each and "EXISTS" not in each for each in conditions))
    if wanted.has_feedback:
        conditions.append(
            "EXISTS (SELECT FROM feedback f WHERE f.asked_at = k.asked_at AND f.request_id = k.request_id)"
        )
    if wanted.text:
        conditions.append(
            """EXISTS (SELECT FROM request_payloads p WHERE p.asked_at = k.asked_at AND p.request_id = k.request_id
                       AND to_tsvector('simple', left(p.question, 4096)) @@ websearch_to_tsquery('simple', :text))"""
        )
        values["text"] = wanted.text
    if before is not None:
        conditions.append("k.asked_at <= :before_at AND (k.asked_at, k.request_id) < (:before_at, :before_id)")
        values |= {"before_at": before.asked_at, "before_id": UUID(before.request_id)}
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    table = "answers" if is_of_answers else "requests"
    query = f"""
        SELECT k.asked_at, k.request_id FROM {table} k {joins} {where}
        ORDER BY k.asked_at DESC, k.request_id DESC LIMIT :limit"""
    return query, values
