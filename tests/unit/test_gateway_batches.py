"""Batches, by OpenAI's own client: thousands of requests that may take their time."""

import json
from dataclasses import replace
from typing import Any

import msgspec

from conclave.testing import events as made
from conclave.testing.waiting import until
from schemas.events import ReasoningRequested, RequestCancelled
from tests import batch_calls
from tests.gateway_in_memory import World, answering, failing


async def test_every_line_is_answered_once_under_its_own_id() -> None:
    world = World(batch_calls.echoing(), batch_open=5)
    async with world.serving(), batch_calls.client_of(world) as client:
        batch = await batch_calls.begun(
            client, [batch_calls.line(f"line-{index}", f"question {index}") for index in range(30)]
        )
        assert (batch.object, batch.completion_window, batch.metadata) == ("batch", "24h", {"run": "7"})
        done = await batch_calls.ended(client, batch)
        assert done.status == "completed"
        assert done.request_counts is not None
        assert (done.request_counts.total, done.request_counts.completed, done.request_counts.failed) == (30, 30, 0)
        lines = await batch_calls.lines_of(client, done.output_file_id)
        assert await batch_calls.lines_of(client, done.error_file_id) == []
        assert [each.id async for each in client.batches.list()] == [batch.id]
    said = {line["custom_id"]: line["response"]["body"]["choices"][0]["message"]["content"] for line in lines}
    assert said == {f"line-{index}": f"question {index}" for index in range(30)}
    assert all(line["response"]["status_code"] == 200 for line in lines)
    assert len(batch_calls.asked(world)) == 30
    assert {request.tags["tenant"] for request in batch_calls.asked(world)} == {"local"}
    assert max(request.deadline_s for request in batch_calls.asked(world)) <= 86_400


async def test_a_wrong_line_fails_alone_and_says_why() -> None:
    world = World(answering("36"))
    async with world.serving(), batch_calls.client_of(world) as client:
        lines = [
            batch_calls.line("good"),
            "not json",
            batch_calls.line("good"),
            batch_calls.line("", "nameless"),
            batch_calls.line("several", body={"n": 2}),
            batch_calls.line("elsewhere", url="/v1/embeddings"),
            batch_calls.line("unknown", body={"model": "gpt-9"}),
        ]
        done = await batch_calls.ended(client, await batch_calls.begun(client, lines))
        wrong = await batch_calls.lines_of(client, done.error_file_id)
        assert [line["custom_id"] for line in await batch_calls.lines_of(client, done.output_file_id)] == ["good"]
    assert done.request_counts is not None
    assert (done.request_counts.completed, done.request_counts.failed) == (1, 6)
    assert [line["custom_id"] for line in wrong] == ["", "good", "", "several", "elsewhere", "unknown"]
    assert all(line["error"]["message"] and line["response"] is None for line in wrong)
    assert len(batch_calls.asked(world)) == 1


async def test_a_request_without_an_answer_is_in_the_file_of_errors() -> None:
    world = World(failing("no_answer", "no luck"))
    async with world.serving(), batch_calls.client_of(world) as client:
        done = await batch_calls.ended(client, await batch_calls.begun(client, [batch_calls.line("a")]))
        (line,) = await batch_calls.lines_of(client, done.error_file_id)
    assert (line["response"]["status_code"], line["response"]["body"]["error"]["code"]) == (422, "no_answer")


async def test_partial_results_are_there_and_a_cancelled_batch_asks_nothing_more() -> None:
    world = World(batch_open=2)
    async with world.serving(), batch_calls.client_of(world) as client:
        batch = await batch_calls.begun(client, [batch_calls.line(f"line-{index}") for index in range(5)])
        await until(lambda: len(batch_calls.asked(world)) == 2, what="as many as there is room for")
        first = str(batch_calls.asked(world)[0].request_id)
        world.end(made.answer("36", request_id=first))
        await until(lambda: len(batch_calls.asked(world)) == 3, what="the next one")
        assert len(await batch_calls.lines_of(client, f"{batch.id}-output")) == 1
        cancelled = await client.batches.cancel(batch.id)
        assert cancelled.status == "cancelled", "what ran was cancelled"
        assert len([event for event in world.published if isinstance(event, RequestCancelled)]) == 2
    assert len(batch_calls.asked(world)) == 3


async def test_a_line_that_was_asked_before_a_crash_is_the_same_request_after_it() -> None:
    world = World(answering("36"))
    async with world.serving(), batch_calls.client_of(world) as client:
        batch = await batch_calls.begun(client, [batch_calls.line("a")])
        await batch_calls.ended(client, batch)
        world.batches.asked_as.clear()  # as if the gateway had died before it noted the request
        world.batches.passed_s = 60.0
        done = await batch_calls.ended(client, batch)
    assert done.request_counts is not None
    assert (done.request_counts.completed, done.request_counts.failed) == (1, 0)
    assert len(batch_calls.asked(world)) == 1


async def test_lines_are_of_the_class_that_fills_the_slack_whatever_they_ask_for() -> None:
    world = World(batch_calls.echoing())
    urgent = {"body": {"service_tier": "priority", "conclave": {"priority": "interactive"}}}
    async with world.serving(), batch_calls.client_of(world) as client:
        await batch_calls.ended(
            client, await batch_calls.begun(client, [batch_calls.line("a"), batch_calls.line("b", "And?", **urgent)])
        )
    assert [asked.priority for asked in batch_calls.asked(world)] == ["batch", "batch"]


async def test_lines_of_a_tenant_whose_budget_is_spent_wait_and_are_asked_later() -> None:
    world, spent = World(batch_calls.echoing()), [900]
    world.ledger.spent, world.batches.tokens_per_day = lambda tenant: spent[0], 900
    async with world.serving(), batch_calls.client_of(world) as client:
        batch = await batch_calls.begun(client, [batch_calls.line("a"), batch_calls.line("b")])
        await until(lambda: set(world.batches.put_back_lines) == {0, 1}, what="lines that are put back")
        assert batch_calls.asked(world) == []
        assert (await client.batches.retrieve(batch.id)).status == "in_progress"
        spent[0] = 0
        done = await batch_calls.ended(client, batch)
    assert done.request_counts is not None
    assert (done.request_counts.completed, done.request_counts.failed) == (2, 0)


async def test_lines_that_nobody_asked_in_time_are_told_in_the_file_of_errors() -> None:
    world = World(batch_open=2)
    async with world.serving(), batch_calls.client_of(world) as client:
        batch = await batch_calls.begun(
            client, [batch_calls.line(f"line-{index}") for index in range(4)] + ["not json"]
        )
        await until(lambda: len(batch_calls.asked(world)) == 2, what="as many as there is room for")
        world.batches.over.add(batch.id)
        first, second = (str(asked.request_id) for asked in batch_calls.asked(world))
        world.end(made.answer("36", request_id=first))
        running = await client.batches.retrieve(batch.id)
        assert (running.status, batch_calls.counted(running)) == ("in_progress", (5, 1, 3)), "one of it still runs"
        world.end(failing("deadline")(batch_calls.asked(world)[1]))
        done = await client.batches.retrieve(batch.id)
        assert (done.status, batch_calls.counted(done), done.expired_at) == ("expired", (5, 1, 4), batch.expires_at)
        wrong = await batch_calls.lines_of(client, done.error_file_id)
        answered = await batch_calls.lines_of(client, done.output_file_id)
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
    async with world.serving(), batch_calls.client_of(world) as client:
        batch = await batch_calls.begun(client, [batch_calls.line(f"line-{index}") for index in range(3)])
        await until(lambda: len(batch_calls.asked(world)) == 1, what="the first of them")
        done = await client.batches.cancel(batch.id)
        wrong = await batch_calls.lines_of(client, done.error_file_id)
    assert (done.status, batch_calls.counted(done)) == ("cancelled", (3, 0, 3))
    assert [line["custom_id"] for line in wrong] == ["line-0", "line-1", "line-2"]
    assert wrong[0]["response"]["body"]["error"]["code"] == "cancelled"
    assert [line["error"]["code"] for line in wrong[1:]] == ["batch_cancelled"] * 2


async def test_a_batch_that_has_ended_is_not_cancelled_any_more() -> None:
    world = World(answering("36"))
    async with world.serving(), batch_calls.client_of(world) as client:
        done = await batch_calls.ended(client, await batch_calls.begun(client, [batch_calls.line("a")]))
        assert (await client.batches.cancel(done.id)).status == "completed"


async def test_a_line_that_is_asked_while_its_batch_is_cancelled_is_cancelled_too() -> None:
    world = World()
    is_cancelled: list[str] = []

    def cancelling(request: ReasoningRequested) -> None:
        for batch_id, row in world.batches.made.items():
            world.batches.made[batch_id] = replace(row, cancelled_at=row.created_at)
            is_cancelled.append(batch_id)

    world.answer = cancelling
    async with world.serving(), batch_calls.client_of(world) as client:
        batch = await batch_calls.begun(client, [batch_calls.line("a")])
        await until(
            lambda: any(isinstance(event, RequestCancelled) for event in world.published), what="a cancellation"
        )
        assert (await client.batches.retrieve(batch.id)).status == "cancelled"
    assert is_cancelled == [batch.id]


async def test_lines_of_a_tenant_whose_content_was_switched_off_are_asked_without_their_words_being_kept() -> None:
    world = World(batch_calls.echoing())
    world.batches.silent.add("local")
    async with world.serving(), batch_calls.client_of(world) as client:
        done = await batch_calls.ended(client, await batch_calls.begun(client, [batch_calls.line("a", "hush")]))
        lines = await batch_calls.lines_of(client, done.output_file_id)
    assert [entry.is_kept for entry in world.ledger.entries.values()] == [False]
    # The record has no word of it: what it says is read from the log.
    assert [line["response"]["body"]["choices"][0]["message"]["content"] for line in lines] == ["hush"]


async def test_a_line_at_which_the_gateway_fails_takes_neither_it_nor_other_lines_along() -> None:
    world = World(answering("36"))
    is_asking = False

    def mask(text: str) -> str:
        if is_asking and "poison" in text:
            raise RuntimeError("a mask that knows no poison")
        return text

    world.mask = mask
    async with world.serving() as api, batch_calls.client_of(world) as client:
        content = "\n".join(json.dumps(batch_calls.line(text, text)) for text in ("a", "poison", "b"))
        file = await client.files.create(file=("q.jsonl", content.encode()), purpose="batch")
        is_asking = True
        wanted: Any = {"input_file_id": file.id, "endpoint": "/v1/chat/completions", "completion_window": "1h"}
        done = await batch_calls.ended(client, await client.batches.create(**wanted))
        answered = [line["custom_id"] for line in await batch_calls.lines_of(client, done.output_file_id)]
        (failed,) = await batch_calls.lines_of(client, done.error_file_id)
        assert (await api.get("/v1/models")).status_code == 200
    assert answered == ["a", "b"]
    assert (failed["custom_id"], failed["error"]["message"]) == (
        "poison",
        "the gateway failed at this; its log says why",
    )


async def test_names_of_lines_that_are_the_same_once_masked_are_refused_and_told_so() -> None:
    world = World(answering("36"))
    async with world.serving(), batch_calls.client_of(world) as client:
        done = await batch_calls.ended(
            client,
            await batch_calls.begun(
                client, [batch_calls.line("ann@shop.example"), batch_calls.line("bob@shop.example")]
            ),
        )
        (answered,) = await batch_calls.lines_of(client, done.output_file_id)
        (refused,) = await batch_calls.lines_of(client, done.error_file_id)
    assert (answered["custom_id"], refused["custom_id"]) == ("[EMAIL]", "[EMAIL]")
    assert "what looks like a secret is masked in it too" in refused["error"]["message"]


async def test_what_a_gateway_that_dies_had_not_cancelled_of_a_batch_any_gateway_cancels() -> None:
    world = World(batch_open=2)
    async with world.serving(), batch_calls.client_of(world) as client:
        batch = await batch_calls.begun(client, [batch_calls.line(name) for name in "ab"])
        await until(lambda: len(batch_calls.asked(world)) == 2, what="both asked")
        await world.batches.cancel(batch.id)  # and here the gateway dies
        await until(lambda: not world.cancellations.noted, what="nothing that waits")
        assert (await client.batches.retrieve(batch.id)).status == "cancelled"
    assert sum(isinstance(event, RequestCancelled) for event in world.published) == 2


async def test_a_cancelled_batch_leaves_nothing_that_waits_to_be_cancelled() -> None:
    world = World(batch_open=1)
    async with world.serving(), batch_calls.client_of(world) as client:
        batch = await batch_calls.begun(client, [batch_calls.line("a")])
        await until(lambda: len(batch_calls.asked(world)) == 1, what="the request")
        await client.batches.cancel(batch.id)
        assert world.cancellations.noted == {}


async def test_a_line_whose_end_can_not_be_read_is_told_so_among_those_that_can() -> None:
    world = World(answering("36"))
    async with world.serving(), batch_calls.client_of(world) as client:
        done = await batch_calls.ended(
            client, await batch_calls.begun(client, [batch_calls.line(name) for name in "abc"])
        )
        other = str(batch_calls.asked(world)[1].request_id)
        end = world.record.ended[other]
        world.record.ended[other] = msgspec.structs.replace(end, steps="no steps")
        answered = await batch_calls.lines_of(client, done.output_file_id)
        (wrong,) = await batch_calls.lines_of(client, done.error_file_id)
    assert [line["custom_id"] for line in answered] == ["a", "c"]
    assert (wrong["custom_id"], wrong["error"]["code"]) == ("b", "unreadable")
