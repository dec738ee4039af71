"""Copies that shadows answer, in the record: seen beside what was served, paid for, and without words where none are kept."""

from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import text

from conclave.store.erasure import erase
from conclave.store.ledger import Entry, Ledger, Limits
from conclave.store.summary import summary
from conclave.testing import events as made
from schemas.events import ReasoningRequested
from schemas.experiments import SHADOW, Shadow, ShadowOf
from schemas.ids import derived_request_id, shadow_id
from schemas.values import Price
from tests.record_of_events import NOW_MS, Recorded

DAY_MS = 86_400_000
PRICE = Price(tokens_in=1_000.0, tokens_out=10_000.0)  # dollars a million tokens
CHANGE = made.started(
    made.experiment(shadow=Shadow(share=0.5, max_dollars_per_day=1.0, price=PRICE)), changed_ms=NOW_MS - 3_600_000
)
WORDS = "canary"


async def put_both(record: Recorded, served: str, answer: str, shadow_answer: str, *, at_ms: int = NOW_MS) -> str:
    """Records a request and its copy, which cost 40 tokens in and 20 out each; the copy's end comes first."""
    copy = shadow_id(served)
    of = ShadowOf(request_id=served, experiment="trial")
    plan = made.plan()
    of_copy = replace(
        plan, request_id=copy, arm=SHADOW, shadow=of, policy=replace(plan.policy, prices={"m": PRICE}, digest="p")
    )
    await record.put(made.answer(shadow_answer, request_id=copy, arm=SHADOW, policy="new"), at_ms=at_ms)
    await record.put(of_copy)
    await record.put(ReasoningRequested(question=f"{WORDS}?", request_id=copy, shadow=of, tags={WORDS: WORDS}))
    await record.put(ReasoningRequested(question=f"{WORDS}?", request_id=served))
    await record.put(replace(plan, request_id=served))
    await record.put(made.answer(answer, request_id=served, elapsed_ms=80.0))
    return copy


async def rows(record: Recorded, query: str, *, role: str | None = "analyst") -> list[dict[str, Any]]:
    async with record.learning._reading() as connection:
        if role is not None:
            await connection.execute(text(f"SET LOCAL ROLE {role}"))
        return [dict(row) for row in (await connection.execute(text(query))).mappings()]


async def test_a_shadow_s_answers_are_seen_beside_those_that_were_served(record: Recorded, fresh_database: str) -> None:
    served = [str(derived_request_id(NOW_MS - 1000, f"served {number}")) for number in range(3)]
    copies = [await put_both(record, each, "4", answer) for each, answer in zip(served, "454", strict=True)]
    await record.put(replace(made.plan(), request_id=str(derived_request_id(NOW_MS, "on its own"))))
    seen = await rows(record, "SELECT * FROM shadow_answers")
    assert {(str(row["request_id"]), str(row["shadow_id"]), row["is_same"]) for row in seen} == set(
        zip(served, copies, (True, False, True), strict=True)
    )
    (row,) = await record.learning.shadows("trial")
    assert (row["requests"], row["compared"], row["same"], row["shadow_policy"]) == (3, 3, 2, "default")
    assert (row["p50_ms"], row["shadow_p50_ms"], row["shadow_total_dollars"]) == (80.0, 50.0, pytest.approx(0.72))
    assert row["mean_dollars"] is None, "the policy that served them names no prices"
    (told,) = (await summary(fresh_database, datetime.fromtimestamp(NOW_MS / 1000 - 60, UTC))).rows["shadows"]
    assert (told["same"], told["shadow_dollars"]) == (2, pytest.approx(0.24))
    exposed = await rows(record, "SELECT * FROM experiment_exposures")
    assert exposed == [], "a copy is nobody's exposure"
    assert await rows(record, "SELECT * FROM review_queue WHERE arm = 'shadow'") == []


async def test_money_is_counted_by_the_day_that_a_copy_is_answered_on_and_again_at_a_watermark(
    record: Recorded,
) -> None:
    midnight_ms = NOW_MS // DAY_MS * DAY_MS
    for number, at_ms in enumerate((midnight_ms - 1, midnight_ms, midnight_ms + 1)):
        await put_both(record, str(derived_request_id(midnight_ms - 5, f"{number}")), "4", "4", at_ms=at_ms)

    async def spent(as_of_ms: int, **how: Any) -> int:
        found, _ = await record.learning.evidence(CHANGE, since_ms=CHANGE.changed_ms, as_of_ms=as_of_ms, **how)
        return found.spent_micro

    _, watermark = await record.learning.evidence(CHANGE, since_ms=CHANGE.changed_ms, as_of_ms=NOW_MS)
    assert [await spent(midnight_ms + days * DAY_MS) for days in (-1, 0, 1)] == [240_000, 480_000, 0]
    await put_both(record, str(derived_request_id(midnight_ms - 5, "later")), "4", "4", at_ms=midnight_ms)
    assert await spent(midnight_ms, watermark=watermark) == 480_000
    assert await spent(midnight_ms) == 720_000


async def test_no_word_of_a_copy_is_kept_where_none_is_kept_of_what_it_copies(
    record: Recorded, fresh_database: str
) -> None:
    silent, erased = (str(derived_request_id(NOW_MS - 1000, name)) for name in ("silent", "erased"))
    ledger = Ledger(fresh_database)
    await ledger.enter(Entry(silent, "shop", b"d", 60.0, is_kept=False), Limits())
    await ledger.enter(Entry(erased, "shop", b"d", 60.0), Limits())
    await ledger.close()
    await erase(fresh_database, [erased])
    await put_both(record, silent, WORDS, WORDS)
    await put_both(record, erased, WORDS, WORDS)
    late = str(derived_request_id(NOW_MS - 1000, "late"))
    await put_both(record, late, WORDS, WORDS)
    assert await erase(fresh_database, [late]) > 0
    for table in [row["relname"] for row in await rows(record, _TABLES, role=None)]:
        assert (
            await rows(record, f"SELECT t::text FROM {table} t WHERE strpos(t::text, '{WORDS}') > 0", role=None) == []
        ), table
    same = [row["is_same"] for row in await rows(record, "SELECT is_same FROM shadow_answers ORDER BY is_same")]
    assert same == [True, None, None], "of what was erased once it was there, that they were the same is a figure"
    (row,) = await record.learning.shadows("trial")
    assert (row["requests"], row["compared"], row["shadow_total_dollars"]) == (3, 1, pytest.approx(0.72))


_TABLES = "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace"
