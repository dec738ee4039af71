"""Erasing what people wrote from the record: texts are blanked in every table, and figures stay.

Rows are kept, since a row that is gone would come back with the next redelivery of its event; so every count, cost and share
stays what it was, and no hour has to be added up anew. A plan's unit becomes a token that nobody can trace, the same for all of one
unit's requests that are erased together; the draw stays, by which the arm can still be checked. A test holds that every column that
can hold a text is either in `BLANKED` or known to hold names of the system's own.

It goes on beside a recorder that writes at its full rate. In the numbers that `erase` repeats:
    1. who asked and who judged become tokens, and it is noted of the requests that they are erased, in one transaction: the
       recorder asks for that note after its own transaction has a number, and lets no word of them in from then on
    2. transactions with a lower number than one of after the note may not have seen it: their end is waited for
    3. words are blanked, so many requests a transaction, so that no row is locked for longer than a moment. Of a shadow's pairs it
       is noted first whether both answers were the same, which is a figure
    4. of requests that were lines of a batch, the line and its place in the file lose them too (conclave.store.erased_lines)
What dies between is done again by erasing again: nothing of it depends on what was done before.

A fork holds its request's words too, under an id of its own: who erases a request looks for its forks (`forks_of`) and erases them
before it, the last of each line first, so that what dies between still finds the way to them. One that is recorded later the
recorder erases, as its transaction sees that the request is erased; a transaction that does not is waited for in 2, and found then.
"""

import asyncio
import secrets
from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from conclave.errors import LostDependency
from conclave.store.connection import lost_when_away, make_engine
from conclave.store.erased_lines import erase_lines
from conclave.store.rows import asked_at
from schemas.ids import shadow_id

ERASED = "erased:"  # what the unit of an erased plan begins with
AT_ONCE = 100  # requests whose words are blanked in one transaction, each with its shadow's copy
_LOOK_AGAIN_S = 0.02
_PATIENCE_S = 60.0
_LOCK = 0x65726173  # "eras": one at a time, so that two never wait for each other's rows


def _token(column: str) -> str:
    """What tells one from another and is neither; what is one already stays."""
    return f"CASE WHEN {column} ~ '^{ERASED}[0-9a-f]+$' THEN {column} ELSE '{ERASED}' || md5(:salt || {column}) END"


# What each column that may hold people's words becomes.
BLANKED: dict[str, dict[str, str]] = {
    "requests": {"traceparent": "NULL"},
    "request_payloads": {"question": "''", "tags": "'{}'"},
    "plans": {"unit": _token("unit")},
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
    "feedback": {"source": _token("source")},  # several sources stay several
    "feedback_payloads": {
        "right_answer": "NULL", "comment": "NULL", "about_answer": "NULL", "chosen": "NULL", "rejected": "NULL",
    },
}  # fmt: skip
# What holds no one's words: keys, digests, and names of policies, arms, rules, models, metrics and the like.
KEPT: dict[str, tuple[str, ...]] = {
    "requests": ("policy", "quality"),
    "plans": ("strategy", "arm", "policy", "policy_digest", "experiment", "shadow_experiment", "priority", "segment"),
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
_NAMED = ("plans", "feedback")  # whose words are names: tokens, made for all of a unit's requests in one transaction
_OF_THESE = "request_id = ANY(CAST(:ids AS uuid[]))"  # an index of each partition, whatever time an id claims
# What comes later of them is blanked as it is recorded, and gateways no longer read it from the log.
_NOTED = (
    text("INSERT INTO erased_requests (request_id) SELECT unnest(CAST(:ids AS uuid[])) ON CONFLICT DO NOTHING"),
    text(f"UPDATE gateway_requests SET content = 'erased' WHERE {_OF_THESE}"),
)
_NEXT_NUMBER = text("SELECT CAST(CAST(pg_current_xact_id() AS text) AS bigint)")
_OLDEST = text("SELECT CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint)")
_COMPARED = text(f"""
    UPDATE plans c SET is_same_answer = (a.answer = s.answer)
    FROM answers a, answers s
    WHERE c.{_OF_THESE} AND c.shadow_of IS NOT NULL AND c.is_same_answer IS NULL
          AND a.asked_at = c.asked_at AND a.request_id = c.shadow_of AND a.failure IS NULL
          AND s.asked_at = c.asked_at AND s.request_id = c.request_id AND s.failure IS NULL
""")
_TAGGED = text("SELECT request_id FROM request_payloads WHERE tags ->> :tag = :value")


# A fork is told by a reason of its plan: the request that it is of, and how many steps it keeps.
_FORKS = text("""
    SELECT request_id, split_part(reasons ->> 'forked from', ',', 1) FROM plan_payloads
    WHERE asked_at >= :since AND reasons ->> 'forked from' IS NOT NULL
""")
_ROUNDS = 10  # of looking again: somebody may go on to fork, or to ask with a tag
_CLOCKS_DIFFER = timedelta(days=1)  # by less: a fork may seem to be older than its request


async def forks_of(dsn: str, request_ids: Collection[str]) -> list[str]:
    """The ids of all forks of these requests and of their shadows' copies, and of the forks of those: forks of forks come first.

    Raises: LostDependency.
    """
    if not request_ids:
        return []
    engine = make_engine(dsn, command_timeout_s=None)  # there is no index of reasons
    try:
        async with lost_when_away(), engine.connect() as connection:
            since = min(asked_at(each) for each in request_ids) - _CLOCKS_DIFFER
            rows = (await connection.execute(_FORKS, {"since": since})).all()
    finally:
        await engine.dispose()
    forks = defaultdict[str, list[str]](list)
    for fork, forked in rows:
        forks[forked].append(str(fork))
    found = dict.fromkeys([*request_ids, *map(shadow_id, request_ids)])
    num_given, unseen = len(found), list(found)
    while unseen:
        unseen = [fork for each in unseen for fork in forks[each] if fork not in found]
        found |= dict.fromkeys(unseen)
    return list(found)[: num_given - 1 : -1]


async def tagged(dsn: str, tag: str, value: str) -> list[str]:
    """The ids of all requests with this tag. Raises: LostDependency."""
    engine = make_engine(dsn, command_timeout_s=None)  # there is no index of tags
    try:
        async with lost_when_away(), engine.connect() as connection:
            return [str(row) for row in (await connection.execute(_TAGGED, {"tag": tag, "value": value})).scalars()]
    finally:
        await engine.dispose()


async def erase(dsn: str, request_ids: Sequence[str], *, at_once: int = AT_ONCE) -> int:
    """Blanks all texts of these requests and of their shadows' copies, in this order; how many rows that were, at least.

    Raises: LostDependency, also where transactions of before do not end: then some words may be left, and it is to be called again.
    """
    if not request_ids:
        return 0
    engine, salt = make_engine(dsn, command_timeout_s=None), secrets.token_hex(16)
    wanted = list(dict.fromkeys(request_ids))
    parts = [wanted[start : start + at_once] for start in range(0, len(wanted), at_once)]
    try:
        async with lost_when_away():
            await _note(engine, [*wanted, *map(shadow_id, wanted)], salt)  # 1
            await _seen_by_all(engine)  # 2
            num_rows = sum([await _blank(engine, [*ids, *map(shadow_id, ids)], salt) for ids in parts])  # 3
            return num_rows + await erase_lines(engine, wanted)  # 4
    finally:
        await engine.dispose()


async def erase_with_forks(dsn: str, request_ids: Sequence[str], tag: tuple[str, str] | None = None) -> tuple[int, int]:
    """How many requests and rows were erased: these, all forks of them, and what is recorded meanwhile as a fork or with this tag.

    Raises: LostDependency, as `erase`.
    """
    erased: dict[str, None] = {}
    num_rows, wanted = 0, [*await forks_of(dsn, request_ids), *request_ids]
    for _ in range(_ROUNDS):
        if not wanted:
            break
        num_rows += await erase(dsn, wanted)
        erased |= dict.fromkeys(wanted)
        # What is erased has no tags any more, and no reasons.
        wanted = [*await forks_of(dsn, erased), *([] if tag is None else await tagged(dsn, *tag))]
    return len(erased), num_rows


async def _note(engine: AsyncEngine, ids: Sequence[str], salt: str) -> None:
    async with engine.begin() as connection:
        for statement in _NOTED:
            await connection.execute(statement, {"ids": ids})
        for table in _NAMED:
            await _blanked(connection, table, ids, salt)


async def _seen_by_all(engine: AsyncEngine) -> None:
    """Returns once every transaction that may have begun before the note has ended."""
    async with engine.begin() as connection:
        number = (await connection.execute(_NEXT_NUMBER)).scalar_one()
    try:
        async with asyncio.timeout(_PATIENCE_S):
            while True:
                async with engine.begin() as connection:
                    if (await connection.execute(_OLDEST)).scalar_one() >= number:
                        return
                await asyncio.sleep(_LOOK_AGAIN_S)
    except TimeoutError:
        raise LostDependency("postgres", f"transactions of before go on for {_PATIENCE_S:g} s: erase again") from None


async def _blank(engine: AsyncEngine, ids: Sequence[str], salt: str) -> int:
    """How many rows have lost their words."""
    async with engine.begin() as connection:
        await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        await connection.execute(_COMPARED, {"ids": ids})
        return sum([await _blanked(connection, table, ids, salt) for table in BLANKED])


async def _blanked(connection: AsyncConnection, table: str, ids: Sequence[str], salt: str) -> int:
    columns = ", ".join(f"{name} = {value}" for name, value in BLANKED[table].items())
    values = {"ids": ids} | ({"salt": salt} if table in _NAMED else {})
    return (await connection.execute(text(f"UPDATE {table} SET {columns} WHERE {_OF_THESE}"), values)).rowcount
