"""Erasing what people wrote from the record: texts are blanked in every table, and figures stay.

Rows are kept, since a row that is gone would come back with the next redelivery of its event; so every count, cost and share
stays what it was. A plan's unit becomes a token that nobody can trace, the same for all of one unit's requests that are erased
together; the draw stays, by which the arm can still be checked. A test holds that every column that can hold a text is either
in `BLANKED` or known to hold names of the system's own.
"""

import secrets
from collections.abc import Sequence

from sqlalchemy import text

from conclave.store.connection import lost_when_away, make_engine
from schemas.ids import shadow_id

ERASED = "erased:"  # what the unit of an erased plan begins with

# What each column that may hold people's words becomes.
BLANKED: dict[str, dict[str, str]] = {
    "requests": {"traceparent": "NULL"},
    "request_payloads": {"question": "''", "tags": "'{}'"},
    "plans": {"unit": f"'{ERASED}' || md5(:salt || unit)"},
    "plan_payloads": {"reasons": "'{}'"},
    "steps": {"mark": "''"},
    "step_payloads": {"question": "NULL", "fields": "'{}'", "why": "''"},
    "paths": {"answer": "NULL"},
    "path_payloads": {"text": "''", "turns": "'[]'", "reasoning": "NULL"},
    "tool_call_payloads": {"argument": "''"},
    "tool_effects": {"observed": "''"},
    "approvals": {"given_by": "'erased'", "why": "''"},
    "text_chunks": {"text": "''"},
    "ballots": {"answer": "NULL"},
    "verdicts": {"answer": "NULL"},
    "verdict_payloads": {"tally": "'[]'", "fields": "NULL", "flips": "NULL"},
    "answers": {"answer": "NULL"},
    "answer_payloads": {"message": "NULL", "steps": "'[]'", "tally": "'[]'"},
    "fingerprints": {"key": "''", "gist": "''", "tenant": "''"},  # so that nobody is given the answer again
    "feedback": {"source": f"'{ERASED}' || md5(:salt || source)"},  # several sources stay several
    "feedback_payloads": {
        "right_answer": "NULL", "comment": "NULL", "about_answer": "NULL", "chosen": "NULL", "rejected": "NULL",
    },
}  # fmt: skip
# What holds no one's words: keys, digests, and names of policies, arms, rules, models, metrics and the like.
KEPT: dict[str, tuple[str, ...]] = {
    "requests": ("policy", "quality"),
    "plans": ("strategy", "arm", "policy", "policy_digest", "experiment", "shadow_experiment", "priority"),
    "steps": ("ask",),
    "paths": ("failure", "finish_reason", "model", "engine", "policy", "arm"),
    "path_payloads": ("form", "digest"),
    "tool_calls": ("tool",),
    "tool_effects": ("key", "tool"),
    "approvals": ("event_id", "event_source"),
    "text_chunks": ("digest",),
    "ballots": ("failure",),
    "verdicts": ("outcome", "stop_reason", "policy", "arm"),
    "answers": ("failure", "outcome", "strategy", "arm", "policy", "ended_by"),
    "feedback": ("event_id", "event_source", "metric", "rater", "supersedes"),
    "feedback_payloads": ("event_id", "event_source"),
}
# What comes later of them is blanked as it is recorded, and gateways no longer read it from the log.
_NOTED = text("UPDATE gateway_requests SET content = 'erased' WHERE request_id = ANY(CAST(:ids AS uuid[]))")
_TAGGED = text("SELECT request_id FROM request_payloads WHERE tags ->> :tag = :value")


async def tagged(dsn: str, tag: str, value: str) -> list[str]:
    """The ids of all requests with this tag. Raises: LostDependency."""
    engine = make_engine(dsn)
    try:
        async with lost_when_away(), engine.connect() as connection:
            return [str(row) for row in (await connection.execute(_TAGGED, {"tag": tag, "value": value})).scalars()]
    finally:
        await engine.dispose()


async def erase(dsn: str, request_ids: Sequence[str]) -> int:
    """Blanks all texts of these requests and of their shadows' copies, in one transaction; how many rows that were.

    Raises: LostDependency.
    """
    if not request_ids:
        return 0
    ids = [*request_ids, *map(shadow_id, request_ids)]
    values = {"ids": ids, "salt": secrets.token_hex(16)}
    engine, num_rows = make_engine(dsn), 0
    try:
        async with lost_when_away(), engine.begin() as connection:
            await connection.execute(_NOTED, values)
            for table, columns in BLANKED.items():
                blanked = ", ".join(f"{name} = {value}" for name, value in columns.items())
                where = (
                    "request_id = ANY(CAST(:ids AS uuid[]))"  # an index of each partition, whatever time an id claims
                )
                num_rows += (
                    await connection.execute(text(f"UPDATE {table} SET {blanked} WHERE {where}"), values)
                ).rowcount
    finally:
        await engine.dispose()
    return num_rows
