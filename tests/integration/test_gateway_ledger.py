"""The gateway's SQL on a real server: who asked what, keys and limits, and budgets."""

import asyncio
import dataclasses
from datetime import timedelta

import pytest
from msgspec.structs import replace

from conclave.domain.api_keys import Scope
from conclave.domain.recorded import RecordedEvent
from conclave.errors import Rejected
from conclave.store.accounts import Accounts
from conclave.store.batches import BatchStore, Line, NewBatch
from conclave.store.cancellations import Cancellations
from conclave.store.ledger import Entered, Entry, KeyReused, Ledger, Limits, OverLimit
from conclave.store.reader import Reader
from conclave.store.sign_ins import SignIns
from conclave.store.store import Store
from conclave.testing import events as made
from schemas import flow
from schemas.events import Event, RequestCancelled
from schemas.ids import asked_at_ms, new_request_id


def _entry(tenant: str = "ours", key: str | None = None, digest: bytes = b"d", deadline_s: float = 600.0) -> Entry:
    return Entry(str(new_request_id()), tenant, digest, deadline_s, key_id="k", idempotency_key=key)


async def test_who_signed_in_is_known_by_every_gateway_until_it_ends(fresh_database: str) -> None:
    accounts, here, there = Accounts(fresh_database), SignIns(fresh_database), SignIns(fresh_database)
    try:
        key = await accounts.create("ops", [Scope.ADMIN], actor="ann")
        for digest, lifetime in ((b"one", timedelta(hours=1)), (b"two", timedelta(hours=1)), (b"old", timedelta(0))):
            await here.begin(digest, key.key_id, lifetime)
        assert await there.key_of(b"one") == key.key_id
        assert await there.key_of(b"old") is None
        await there.end(b"one")
        assert await here.key_of(b"one") is None
        await there.end(b"one")
        assert await here.key_of(b"two") == key.key_id, "what ends is the one alone"
        reader = Reader(fresh_database)
        assert await reader.rows("SELECT digest FROM sign_ins ORDER BY digest") == [
            {"digest": b"old"},
            {"digest": b"two"},
        ]
        await here.begin(b"new", key.key_id, timedelta(hours=1))
        assert await reader.rows("SELECT digest FROM sign_ins ORDER BY digest") == [
            {"digest": b"new"},
            {"digest": b"two"},
        ]
        await reader.close()
    finally:
        for store in (accounts, here, there):
            await store.close()


async def test_cancellations_wait_once_each_until_they_are_dropped_or_worth_nothing(fresh_database: str) -> None:
    here, there = Cancellations(fresh_database), Cancellations(fresh_database)
    try:
        ids = [str(new_request_id()) for _ in range(3)]
        later, over, sooner = (
            RequestCancelled(request_id=each, until_ms=asked_at_ms(each) + after_ms)
            for each, after_ms in zip(ids, (600_000, -1, 300_000), strict=True)
        )
        await here.add([])
        await here.add([later, over])
        await here.add([later, sooner])
        assert await there.waiting(9) == [sooner, later]
        assert await there.waiting(1) == [sooner]
        await there.drop([ids[2]])
        assert await here.waiting(9) == [later]
    finally:
        await here.close()
        await there.close()


async def test_lines_of_batches_take_nothing_of_how_often_and_how_much_at_once_their_tenant_may_ask(
    fresh_database: str,
) -> None:
    ledger, limits = Ledger(fresh_database), Limits(rate_per_minute=1, max_open=1)
    try:
        for _ in range(3):
            line = dataclasses.replace(_entry("both"), key_id=None)
            assert isinstance(await ledger.enter(line, Limits(tokens_per_day=9)), Entered)
        assert isinstance(await ledger.enter(_entry("both"), limits), Entered)
        assert isinstance(await ledger.enter(_entry("both"), limits), OverLimit)
    finally:
        await ledger.close()


async def test_the_ledger_knows_what_was_entered_and_holds_limits(
    fresh_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(fresh_database)
    try:
        first = _entry(key="k")
        assert await ledger.enter(first, Limits()) == Entered(first.request_id, is_new=True)
        assert await ledger.enter(_entry(key="k"), Limits()) == Entered(first.request_id, is_new=False)
        assert await ledger.enter(_entry(key="k", digest=b"other"), Limits()) == KeyReused(first.request_id)
        other = _entry("theirs", key="k")
        assert await ledger.enter(other, Limits()) == Entered(other.request_id, is_new=True)
        assert await ledger.owners([first.request_id, other.request_id, str(new_request_id())]) == {
            first.request_id: "ours",
            other.request_id: "theirs",
        }
        entered = await asyncio.gather(*(ledger.enter(_entry(key="same"), Limits()) for _ in range(8)))
        assert len({each.request_id for each in entered if isinstance(each, Entered)}) == 1
        assert sum(each.is_new for each in entered if isinstance(each, Entered)) == 1
        limits = Limits(rate_per_minute=3)
        found = await asyncio.gather(*(ledger.enter(_entry("hasty"), limits) for _ in range(6)))
        assert sum(isinstance(each, Entered) for each in found) == 3
        over = next(each for each in found if isinstance(each, OverLimit))
        assert 0 < over.retry_after_s <= 60
        open_ = [await ledger.enter(_entry("busy", deadline_s=0.001), Limits(max_open=1)) for _ in range(2)]
        assert all(isinstance(each, Entered) for each in open_), "what is past its deadline is open no more"
        await ledger.enter(_entry("busy"), Limits(max_open=1))
        assert isinstance(await ledger.enter(_entry("busy"), Limits(max_open=1)), OverLimit)
        await ledger.withdraw(first.request_id)
        assert await ledger.owners([first.request_id]) == {}
        assert await ledger.forget(1) == 0
        monkeypatch.setattr("conclave.store.ledger._FORGOTTEN_AT_ONCE", 2)
        assert await ledger.forget(-1) > 2, "some at a time, until none is left"
        assert await ledger.owners([other.request_id]) == {}
    finally:
        await ledger.close()


async def test_a_key_that_is_rotated_lives_as_long_as_the_old_one_was_made_for_and_only_once(
    fresh_database: str,
) -> None:
    accounts, day = Accounts(fresh_database), timedelta(days=1)
    try:
        for made_for, wanted, expected in [(90 * day, None, 90 * day), (None, None, None), (90 * day, day, day)]:
            old = await accounts.create("ours", [Scope.ASK], actor="ann", lifetime=made_for)
            new = await accounts.rotate(old.key_id, actor="ann", grace=day, lifetime=wanted)
            row = next(each for each in await accounts.keys() if each.key_id == new.key_id)
            assert (row.expires_at and row.expires_at - row.created_at) == expected
            with pytest.raises(Rejected, match=new.key_id):
                await accounts.rotate(old.key_id, actor="ann", grace=day)
        expired = await accounts.create("ours", [Scope.ASK], actor="ann", lifetime=timedelta(seconds=-1))
        with pytest.raises(Rejected, match="expired at"):
            await accounts.rotate(expired.key_id, actor="ann", grace=day)
    finally:
        await accounts.close()


async def test_keys_are_made_rotated_and_revoked_and_each_change_is_noted(fresh_database: str) -> None:
    accounts = Accounts(fresh_database)
    try:
        assert not await accounts.has_keys()
        key = await accounts.create("ours", [Scope.ASK], actor="ann", label="the shop's")
        await accounts.change_tenant(
            "ours", actor="ann", rate_per_minute=60, max_open=5, tokens_per_day=900, is_redacted=False
        )
        found = await accounts.find(key.key_id)
        assert found is not None
        assert (found.tenant, found.scopes, found.limits, found.is_redacted) == (
            "ours", frozenset({Scope.ASK}), Limits(60, 5, 900), False,
        )  # fmt: skip
        assert key.is_of(found.digest)
        again = await accounts.create("ours", [Scope.ASK], actor="ann")
        assert (await accounts.find(again.key_id) or found).limits == Limits(60, 5, 900), (
            "another key leaves limits as they are"
        )
        await accounts.change_tenant("ours", actor="ann", max_open=0)
        assert (await accounts.find(again.key_id) or found).limits == Limits(60, None, 900), "one limit at a time"
        assert [(row["tenant"], row["tokens_per_day"], row["tokens_24_h"]) for row in await accounts.tenants()] == [
            ("ours", 900, 0)
        ]
        new = await accounts.rotate(key.key_id, actor="bob", grace=timedelta(0))
        assert await accounts.find(key.key_id) is None, "no grace, no key"
        rotated = await accounts.find(new.key_id)
        assert rotated is not None
        assert rotated.scopes == frozenset({Scope.ASK})
        await accounts.revoke(new.key_id, actor="bob")
        assert await accounts.find(new.key_id) is None
        assert await accounts.has_keys()
        with pytest.raises(Rejected):
            await accounts.revoke(new.key_id, actor="bob")
        expired = await accounts.create("ours", [Scope.ASK], actor="ann", lifetime=timedelta(seconds=-1))
        assert await accounts.find(expired.key_id) is None
        changes = [(row["actor"], row["action"]) for row in await accounts.changes()]
        assert changes == [
            ("ann", "create"), ("bob", "revoke"), ("bob", "rotate"), ("ann", "tenant"), ("ann", "create"), ("ann", "tenant"),
            ("ann", "create"),
        ]  # fmt: skip
        told = repr(await accounts.keys()) + repr(await accounts.changes())
        assert not any(each.secret in told for each in (key, again, new, expired))
    finally:
        await accounts.close()


async def _ended(dsn: str, entry: Entry, tokens: int, *, is_answered: bool = True) -> None:
    """Records a path of so many tokens, and the end of its request."""
    store = Store(dsn)
    try:
        await store.maintain(asked_at_ms(entry.request_id))
        context = made.context(request_id=entry.request_id)
        events: list[Event] = [replace(made.decoded(context, 0, 1, "36"), tokens_out=tokens)]
        if is_answered:
            events.append(replace(made.answer("36", request_id=entry.request_id), tokens_out=tokens))
        recorded = [
            RecordedEvent(
                event, f"{entry.request_id} {at}", entry.request_id, flow.topic_of(type(event)).value, 0, at,
                asked_at_ms(entry.request_id), None, "",
            )
            for at, event in enumerate(events)
        ]  # fmt: skip
        await store.write(recorded, {})
    finally:
        await store.close()


async def test_a_budget_of_tokens_counts_what_ended_once_and_what_is_under_way(fresh_database: str) -> None:
    ledger, accounts, batches = Ledger(fresh_database), Accounts(fresh_database), BatchStore(fresh_database)
    limits = Limits(tokens_per_day=100)
    try:
        await accounts.change_tenant("ours", actor="ann", tokens_per_day=100)
        ended, running = _entry(), _entry()
        assert isinstance(await ledger.enter(ended, limits), Entered)
        await _ended(fresh_database, ended, 60)
        for _ in range(2):  # counted once, however often it is looked at
            assert isinstance(await ledger.enter(_entry(), limits), Entered)
        assert isinstance(await ledger.enter(running, limits), Entered)
        await _ended(fresh_database, running, 40, is_answered=False)
        over = await ledger.enter(_entry(), limits)
        assert isinstance(over, OverLimit)
        assert (over.allowed, 22 * 3600 < over.retry_after_s <= 24 * 3600) == (100, True)
        assert isinstance(await ledger.enter(_entry("theirs"), limits), Entered), "each has its own"
        lines = [Line(0, "a", {"model": "x"})]
        await batches.add(NewBatch("batch_a", "ours", "file-a", 3600.0), lines, max_bytes=9)
        assert await batches.claim(10) == [], "batches wait too"
        assert [(row["tenant"], row["tokens_24_h"]) for row in await accounts.tenants()] == [("ours", 60)]
        await accounts.change_tenant("ours", actor="ann", tokens_per_day=1000)
        claimed = await batches.claim(10)
        assert [each.tokens_per_day for each in claimed] == [1000]
        assert await batches.claim(10) == []
        await batches.put_back(claimed[0])
        assert [each.line for each in await batches.claim(10)] == [0]
    finally:
        for each in (ledger, accounts, batches):
            await each.close()


async def test_a_reader_cannot_write(fresh_database: str) -> None:
    reader = Reader(fresh_database)
    try:
        with pytest.raises(Exception, match="read-only"):
            await reader.rows("INSERT INTO tenants (tenant) VALUES ('x') RETURNING tenant")
    finally:
        await reader.close()


async def test_a_pool_keeps_the_connections_that_it_has_grown_to(fresh_database: str) -> None:
    reader = Reader(fresh_database, connections=2)

    async def burst() -> set[int]:
        """The server's processes that answer as many at once as there may be."""
        query = "SELECT pg_backend_pid() AS pid, pg_sleep(0.2)"
        return {row["pid"] for rows in await asyncio.gather(*(reader.rows(query) for _ in range(4))) for row in rows}

    try:
        first = await burst()
        assert len(first) == 4
        assert await burst() == first
    finally:
        await reader.close()
