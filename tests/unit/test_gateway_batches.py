"""Files and batches, by OpenAI's own client: thousands of requests that may take their time."""

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from openai.types import Batch

from conclave.domain.api_keys import Scope
from conclave.testing import events as made
from conclave.testing.waiting import until, until_async
from schemas.events import ReasoningRequested, RequestCancelled
from tests.gateway_in_memory import End, World, answering, failing


def _line(custom_id: str, text: str = "How many?", **changes: Any) -> dict[str, Any]:
    body = {"model": "default", "messages": [{"role": "user", "content": text}], **changes.pop("body", {})}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body, **changes}


def _client(world: World) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{world.url}/v1", api_key="none", max_retries=0)


async def _begun(client: AsyncOpenAI, lines: Iterable[object]) -> Batch:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    return await _begun_with(client, text.encode())


async def _begun_with(client: AsyncOpenAI, content: bytes) -> Batch:
    file = await client.files.create(file=("questions.jsonl", content), purpose="batch")
    assert (file.object, file.filename, file.status) == ("file", "questions.jsonl", "processed")
    return await client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"run": "7"}
    )


async def _ended(client: AsyncOpenAI, batch: Batch) -> Batch:
    async def is_over() -> bool:
        return (await client.batches.retrieve(batch.id)).status != "in_progress"

    await until_async(is_over, what="a batch that ends")
    return await client.batches.retrieve(batch.id)


async def _lines(client: AsyncOpenAI, file_id: str | None) -> list[dict[str, Any]]:
    content = await client.files.content(str(file_id))
    return [json.loads(line) for line in content.text.splitlines()]


def _asked(world: World) -> list[ReasoningRequested]:
    return [event for event in world.published if isinstance(event, ReasoningRequested)]


def _echoing() -> Callable[[ReasoningRequested], End]:
    return lambda request: made.answer(request.question, request_id=str(request.request_id))


async def test_every_line_is_answered_once_under_its_own_id() -> None:
    world = World(_echoing(), batch_open=5)
    async with world.serving(), _client(world) as client:
        batch = await _begun(client, [_line(f"line-{index}", f"question {index}") for index in range(30)])
        assert (batch.object, batch.completion_window, batch.metadata) == ("batch", "24h", {"run": "7"})
        done = await _ended(client, batch)
        assert done.status == "completed"
        assert done.request_counts is not None
        assert (done.request_counts.total, done.request_counts.completed, done.request_counts.failed) == (30, 30, 0)
        lines = await _lines(client, done.output_file_id)
        assert await _lines(client, done.error_file_id) == []
        assert [each.id async for each in client.batches.list()] == [batch.id]
    said = {line["custom_id"]: line["response"]["body"]["choices"][0]["message"]["content"] for line in lines}
    assert said == {f"line-{index}": f"question {index}" for index in range(30)}
    assert all(line["response"]["status_code"] == 200 for line in lines)
    assert len(_asked(world)) == 30
    assert {request.tags["tenant"] for request in _asked(world)} == {"local"}
    assert max(request.deadline_s for request in _asked(world)) <= 86_400


async def test_a_wrong_line_fails_alone_and_says_why() -> None:
    world = World(answering("36"))
    async with world.serving(), _client(world) as client:
        lines = [
            _line("good"),
            "not json",
            _line("good"),
            _line("", "nameless"),
            _line("several", body={"n": 2}),
            _line("elsewhere", url="/v1/embeddings"),
            _line("unknown", body={"model": "gpt-9"}),
        ]
        done = await _ended(client, await _begun(client, lines))
        wrong = await _lines(client, done.error_file_id)
        assert [line["custom_id"] for line in await _lines(client, done.output_file_id)] == ["good"]
    assert done.request_counts is not None
    assert (done.request_counts.completed, done.request_counts.failed) == (1, 6)
    assert [line["custom_id"] for line in wrong] == ["", "good", "", "several", "elsewhere", "unknown"]
    assert all(line["error"]["message"] and line["response"] is None for line in wrong)
    assert len(_asked(world)) == 1


async def test_a_request_without_an_answer_is_in_the_file_of_errors() -> None:
    world = World(failing("no_answer", "no luck"))
    async with world.serving(), _client(world) as client:
        done = await _ended(client, await _begun(client, [_line("a")]))
        (line,) = await _lines(client, done.error_file_id)
    assert (line["response"]["status_code"], line["response"]["body"]["error"]["code"]) == (422, "no_answer")


async def test_partial_results_are_there_and_a_cancelled_batch_asks_nothing_more() -> None:
    world = World(batch_open=2)
    async with world.serving(), _client(world) as client:
        batch = await _begun(client, [_line(f"line-{index}") for index in range(5)])
        await until(lambda: len(_asked(world)) == 2, what="as many as there is room for")
        first = str(_asked(world)[0].request_id)
        world.end(made.answer("36", request_id=first))
        await until(lambda: len(_asked(world)) == 3, what="the next one")
        assert len(await _lines(client, f"{batch.id}-output")) == 1
        cancelled = await client.batches.cancel(batch.id)
        assert cancelled.status == "cancelled", "what ran was cancelled"
        assert len([event for event in world.published if isinstance(event, RequestCancelled)]) == 2
    assert len(_asked(world)) == 3


async def test_a_line_that_was_asked_before_a_crash_is_the_same_request_after_it() -> None:
    world = World(answering("36"))
    async with world.serving(), _client(world) as client:
        batch = await _begun(client, [_line("a")])
        await _ended(client, batch)
        world.batches.asked_as.clear()  # as if the gateway had died before it noted the request
        world.batches.passed_s = 60.0
        done = await _ended(client, batch)
    assert done.request_counts is not None
    assert (done.request_counts.completed, done.request_counts.failed) == (1, 0)
    assert len(_asked(world)) == 1


async def test_what_is_kept_is_masked() -> None:
    world = World(_echoing())
    canary = "canary.7f3a@secret.example"
    async with world.serving(), _client(world) as client:
        lines = [_line(canary, f"Is {canary} mine?", body={"metadata": {canary: canary}}), f"{{{canary}"]
        done = await _ended(client, await _begun(client, lines))
        kept = await client.files.content(done.input_file_id)
        assert canary not in kept.text
        assert [line["custom_id"] for line in await _lines(client, done.output_file_id)] == ["[EMAIL]"]
    assert canary not in repr(world.batches) + repr(world.published)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfe", b"a\0b"])
async def test_a_file_that_asks_for_nothing_makes_no_batch(content: bytes) -> None:
    world = World()
    async with world.serving(), _client(world) as client:
        with pytest.raises(openai.BadRequestError):
            await _begun_with(client, content)


async def test_a_file_or_batch_that_there_is_not_is_not_found() -> None:
    world = World()
    async with world.serving() as client:
        for path in ("/v1/files/x", "/v1/files/x/content", "/v1/batches/x", f"/v1/files/batch_{'0' * 32}-output"):
            assert (await client.get(path)).status_code == 404
        assert (await client.post("/v1/files", data={"purpose": "batch"})).status_code == 400
        assert (await client.post("/v1/files", content=b"nonsense")).status_code == 400


async def test_lines_are_of_the_class_that_fills_the_slack_whatever_they_ask_for() -> None:
    world = World(_echoing())
    urgent = {"body": {"service_tier": "priority", "conclave": {"priority": "interactive"}}}
    async with world.serving(), _client(world) as client:
        await _ended(client, await _begun(client, [_line("a"), _line("b", "And?", **urgent)]))
    assert [asked.priority for asked in _asked(world)] == ["batch", "batch"]


async def test_lines_of_a_tenant_whose_budget_is_spent_wait_and_are_asked_later() -> None:
    world, spent = World(_echoing()), [900]
    world.ledger.spent, world.batches.tokens_per_day = lambda tenant: spent[0], 900
    async with world.serving(), _client(world) as client:
        batch = await _begun(client, [_line("a"), _line("b")])
        await until(lambda: set(world.batches.put_back_lines) == {0, 1}, what="lines that are put back")
        assert _asked(world) == []
        assert (await client.batches.retrieve(batch.id)).status == "in_progress"
        spent[0] = 0
        done = await _ended(client, batch)
    assert done.request_counts is not None
    assert (done.request_counts.completed, done.request_counts.failed) == (2, 0)


def _counted(batch: Batch) -> tuple[int, int, int]:
    counts = batch.request_counts
    assert counts is not None
    return counts.total, counts.completed, counts.failed


async def test_lines_that_nobody_asked_in_time_are_told_in_the_file_of_errors() -> None:
    world = World(batch_open=2)
    async with world.serving(), _client(world) as client:
        batch = await _begun(client, [_line(f"line-{index}") for index in range(4)] + ["not json"])
        await until(lambda: len(_asked(world)) == 2, what="as many as there is room for")
        world.batches.over.add(batch.id)
        first, second = (str(asked.request_id) for asked in _asked(world))
        world.end(made.answer("36", request_id=first))
        running = await client.batches.retrieve(batch.id)
        assert (running.status, _counted(running)) == ("in_progress", (5, 1, 3)), "one of it still runs"
        world.end(failing("deadline")(_asked(world)[1]))
        done = await client.batches.retrieve(batch.id)
        assert (done.status, _counted(done), done.expired_at) == ("expired", (5, 1, 4), batch.expires_at)
        wrong = await _lines(client, done.error_file_id)
        answered = await _lines(client, done.output_file_id)
        assert (await client.batches.cancel(batch.id)).status == "expired", "what is over stays as it is"
    assert first != second
    assert [line["custom_id"] for line in answered] == ["line-0"]
    assert {line["custom_id"]: (line["error"] or {}).get("code") for line in wrong} == {
        "line-1": None, "line-2": "batch_expired", "line-3": "batch_expired", "": "invalid_request",
    }  # fmt: skip
    assert wrong[1]["response"] is None
    assert wrong[1]["error"]["message"] == "This request could not be executed before the completion window expired."


async def test_lines_that_a_cancelled_batch_does_not_ask_are_told_in_the_file_of_errors() -> None:
    world = World(batch_open=1)
    async with world.serving(), _client(world) as client:
        batch = await _begun(client, [_line(f"line-{index}") for index in range(3)])
        await until(lambda: len(_asked(world)) == 1, what="the first of them")
        done = await client.batches.cancel(batch.id)
        wrong = await _lines(client, done.error_file_id)
    assert (done.status, _counted(done)) == ("cancelled", (3, 0, 3))
    assert [line["custom_id"] for line in wrong] == ["line-0", "line-1", "line-2"]
    assert wrong[0]["response"]["body"]["error"]["code"] == "cancelled"
    assert [line["error"]["code"] for line in wrong[1:]] == ["batch_cancelled"] * 2


async def test_a_batch_that_has_ended_is_not_cancelled_any_more() -> None:
    world = World(answering("36"))
    async with world.serving(), _client(world) as client:
        done = await _ended(client, await _begun(client, [_line("a")]))
        assert (await client.batches.cancel(done.id)).status == "completed"


async def test_a_line_that_is_asked_while_its_batch_is_cancelled_is_cancelled_too() -> None:
    world = World()
    is_cancelled: list[str] = []

    def cancelling(request: ReasoningRequested) -> None:
        for batch_id, row in world.batches.made.items():
            world.batches.made[batch_id] = replace(row, cancelled_at=row.created_at)
            is_cancelled.append(batch_id)

    world.answer = cancelling
    async with world.serving(), _client(world) as client:
        batch = await _begun(client, [_line("a")])
        await until(
            lambda: any(isinstance(event, RequestCancelled) for event in world.published), what="a cancellation"
        )
        assert (await client.batches.retrieve(batch.id)).status == "cancelled"
    assert is_cancelled == [batch.id]


async def test_lines_of_a_tenant_whose_content_was_switched_off_are_asked_without_their_words_being_kept() -> None:
    world = World(_echoing())
    world.batches.silent.add("local")
    async with world.serving(), _client(world) as client:
        done = await _ended(client, await _begun(client, [_line("a", "hush")]))
        lines = await _lines(client, done.output_file_id)
    assert [entry.is_kept for entry in world.ledger.entries.values()] == [False]
    # The record has no word of it: what it says is read from the log.
    assert [line["response"]["body"]["choices"][0]["message"]["content"] for line in lines] == ["hush"]


async def test_what_is_sent_again_under_one_key_is_kept_once() -> None:
    world = World(answering("36"))
    content, other = (json.dumps(_line(name)).encode() for name in "ab")

    async def sent(content: bytes, key: str) -> str:
        file = ("a.jsonl", content)
        return (await client.files.create(file=file, purpose="batch", extra_headers={"Idempotency-Key": key})).id

    async def begun(file_id: str, key: str) -> str:
        wanted: Any = {"input_file_id": file_id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        return (await client.batches.create(**wanted, extra_headers={"Idempotency-Key": key})).id

    async with world.serving(), _client(world) as client:
        file_id = await sent(content, "k")
        assert await sent(content, "k") == file_id
        assert await sent(content, "l") != file_id
        with pytest.raises(openai.ConflictError, match="idempotency key"):
            await sent(other, "k")
        batch_id = await begun(file_id, "k")
        await client.files.delete(file_id)
        assert await begun(file_id, "k") == batch_id, "though its file is gone"
        with pytest.raises(openai.ConflictError) as refused:
            await begun(await sent(content, "l"), "k")
        assert (refused.value.code, refused.value.param) == ("idempotency_key_reused", "Idempotency-Key")
        with pytest.raises(openai.BadRequestError):
            await sent(content, "no key")
    assert len(world.batches.made) == 1
    assert len(world.files.rows) == 1


async def test_keys_of_tenants_are_their_own() -> None:
    world = World()
    keys = [world.accounts.add(tenant, Scope.ASK) for tenant in ("ours", "theirs")]
    async with world.serving() as client:
        form: Any = {"data": {"purpose": "batch"}, "files": {"file": ("a.jsonl", b"{}")}}
        for key in (*keys, *keys):
            headers = {"Authorization": f"Bearer {key.text}", "Idempotency-Key": "k"}
            assert (await client.post("/v1/files", **form, headers=headers)).status_code == 200
    assert sorted(row.tenant for row, _ in world.files.rows.values()) == ["ours", "theirs"]


async def test_every_batch_and_every_file_is_listed_page_by_page() -> None:
    world = World(answering("36"))
    async with world.serving() as http, _client(world) as client:
        batches = [(await _begun(client, [_line(f"line-{index}")])).id for index in range(5)]
        notes = await client.files.create(file=("notes.jsonl", b"{}"), purpose="user_data")
        assert [each.id async for each in client.batches.list(limit=2)] == batches[::-1]
        page = await client.batches.list(limit=2)
        assert (page.has_more, [each.id for each in page.data]) == (True, batches[:2:-1])
        more = [(await client.batches.list(limit=2, after=batches[index])).has_more for index in (3, 2, 1)]
        assert more == [True, False, False]
        files = [each async for each in client.files.list(limit=2)]
        assert (len(files), files[0].id, {each.purpose for each in files[1:]}) == (6, notes.id, {"batch"})
        assert files[0].bytes == len("{}\n")
        assert [each.id async for each in client.files.list(limit=4, order="asc")] == [each.id for each in files[::-1]]
        assert [each.id async for each in client.files.list(purpose="user_data")] == [notes.id]
        for wrong in ("limit=0", "limit=101", "limit=1.5", "limit=x"):
            assert (await http.get(f"/v1/batches?{wrong}")).json()["error"]["param"] == "limit"
        for wrong in ("limit=10001", "order=up", "purpose=vision", "after=file-x", "after=%00"):
            refused = await http.get(f"/v1/files?{wrong}")
            assert (refused.status_code in (400, 404), refused.json()["error"]["param"]) == (True, wrong.split("=")[0])
        assert (await http.get("/v1/batches?after=batch_x")).json()["error"]["param"] == "after"


async def test_a_file_is_deleted_and_an_output_file_says_what_it_is_and_how_long() -> None:
    world = World(answering("36"))
    async with world.serving(), _client(world) as client:
        done = await _ended(client, await _begun(client, [_line("a"), "not json"]))
        for file_id in (done.output_file_id, done.error_file_id):
            file = await client.files.retrieve(str(file_id))
            content = await client.files.content(str(file_id))
            assert (file.purpose, file.bytes) == ("batch_output", len(content.content))
            assert file.bytes > 0
            with pytest.raises(openai.ConflictError, match="output file"):
                await client.files.delete(str(file_id))
        deleted = await client.files.delete(done.input_file_id)
        assert (deleted.id, deleted.deleted, deleted.object) == (done.input_file_id, True, "file")
        for gone in (client.files.retrieve, client.files.content, client.files.delete):
            with pytest.raises(openai.NotFoundError):
                await gone(done.input_file_id)
        assert (await client.batches.retrieve(done.id)).status == "completed"


async def test_a_tenant_has_room_for_so_many_bytes() -> None:
    world = World(max_tenant_file_bytes=400)
    async with world.serving(), _client(world) as client:
        content = json.dumps(_line("a", "x" * 100)).encode()
        file = await client.files.create(file=("a.jsonl", content), purpose="batch")
        assert file.bytes > 200
        with pytest.raises(openai.APIStatusError, match="may have 400 bytes together") as refused:
            await client.files.create(file=("b.jsonl", content), purpose="batch")
        assert (refused.value.status_code, refused.value.code, refused.value.param) == (413, "over_bytes", "file")
        await client.files.delete(file.id)
        await client.files.create(file=("b.jsonl", content), purpose="batch")


@pytest.mark.parametrize("is_escaped", [True, False])
async def test_a_text_may_hold_what_ends_a_line_elsewhere(is_escaped: bool) -> None:
    world, texts = World(_echoing()), ["one\u2028two", "one\u2029two", "one\x85two"]
    lines = [json.dumps(_line(f"l{at}", text), ensure_ascii=is_escaped) for at, text in enumerate(texts)]
    async with world.serving(), _client(world) as client:
        done = await _ended(client, await _begun(client, lines))
        content = (await client.files.content(str(done.output_file_id))).text
    said = [
        json.loads(line)["response"]["body"]["choices"][0]["message"]["content"] for line in content.split("\n")[:-1]
    ]
    assert said == texts


async def test_a_file_may_begin_with_a_mark_and_end_its_lines_as_it_likes() -> None:
    world = World(_echoing())
    async with world.serving(), _client(world) as client:
        content = "\ufeff" + "\r\n".join(json.dumps(_line(name)) for name in "ab") + "\r" + json.dumps(_line("c"))
        done = await _ended(client, await _begun_with(client, content.encode()))
    assert done.request_counts is not None
    assert (done.request_counts.total, done.request_counts.completed) == (3, 3)


async def test_a_batch_of_a_file_that_there_is_not_says_which_field_names_it() -> None:
    body = {"input_file_id": "file-nope", "endpoint": "/v1/chat/completions", "completion_window": "1h"}
    async with World().serving() as client:
        refused = await client.post("/v1/batches", json=body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (404, "input_file_id")


async def test_a_line_at_which_the_gateway_fails_takes_neither_it_nor_other_lines_along() -> None:
    world = World(answering("36"))
    is_asking = False

    def mask(text: str) -> str:
        if is_asking and "poison" in text:
            raise RuntimeError("a mask that knows no poison")
        return text

    world.mask = mask
    async with world.serving() as api, _client(world) as client:
        content = "\n".join(json.dumps(_line(text, text)) for text in ("a", "poison", "b"))
        file = await client.files.create(file=("q.jsonl", content.encode()), purpose="batch")
        is_asking = True
        wanted: Any = {"input_file_id": file.id, "endpoint": "/v1/chat/completions", "completion_window": "1h"}
        done = await _ended(client, await client.batches.create(**wanted))
        answered = [line["custom_id"] for line in await _lines(client, done.output_file_id)]
        (failed,) = await _lines(client, done.error_file_id)
        assert (await api.get("/v1/models")).status_code == 200
    assert answered == ["a", "b"]
    assert (failed["custom_id"], failed["error"]["message"]) == (
        "poison",
        "the gateway failed at this; its log says why",
    )


async def test_names_of_lines_that_are_the_same_once_masked_are_refused_and_told_so() -> None:
    world = World(answering("36"))
    async with world.serving(), _client(world) as client:
        done = await _ended(client, await _begun(client, [_line("ann@shop.example"), _line("bob@shop.example")]))
        (answered,) = await _lines(client, done.output_file_id)
        (refused,) = await _lines(client, done.error_file_id)
    assert (answered["custom_id"], refused["custom_id"]) == ("[EMAIL]", "[EMAIL]")
    assert "what looks like a secret is masked in it too" in refused["error"]["message"]
