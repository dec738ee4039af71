"""`/v1/requests` and `/v1/feedback`: what is published, what is told, and what is refused with which field."""

import asyncio
from typing import Any

import httpx2
import msgspec
import pytest
from prometheus_client import REGISTRY

from conclave.domain.api_keys import Scope
from conclave.store.ledger import Limits
from conclave.testing import events as made
from conclave.testing.waiting import until
from schemas.events import FeedbackGiven, ReasoningRequested, RequestCancelled
from schemas.ids import asked_at_ms, new_request_id
from services.gateway.bodies import FeedbackBody
from tests.gateway_in_memory import World, answering, failing

QUESTION = {"question": "What is 6 times 6?"}


async def test_a_question_is_published_under_its_id_and_its_answer_is_found() -> None:
    world = World(answering("36"))
    async with world.serving() as client:
        taken = await client.post("/v1/requests", json={**QUESTION, "policy": "default", "tags": {"topic": "sums"}})
        assert taken.status_code == 202
        request_id = taken.json()["id"]
        assert taken.headers["location"] == f"/v1/requests/{request_id}"
        assert taken.json()["status"] == "accepted"
        (event,) = world.published
        assert isinstance(event, ReasoningRequested)
        assert (event.request_id, event.question, event.policy) == (request_id, QUESTION["question"], "default")
        assert event.tags == {"topic": "sums", "tenant": "local"}
        state = (await client.get(f"/v1/requests/{request_id}", params={"wait_s": 5})).json()
        assert (state["status"], state["question"], state["tags"]) == (
            "answered",
            QUESTION["question"],
            {"topic": "sums"},
        )
        result = (await client.get(f"/v1/requests/{request_id}/result")).json()
        assert result == state["result"]
        assert (result["answer"], result["confidence"], result["tally"][0]["votes"]) == ("36", 0.96875, 4)


async def test_who_waits_is_told_as_soon_as_the_end_is_heard() -> None:
    world = World()
    async with world.serving() as client:
        request_id = (await client.post("/v1/requests", json=QUESTION)).json()["id"]
        assert (await client.get(f"/v1/requests/{request_id}/result")).status_code == 409
        waiting = asyncio.create_task(client.get(f"/v1/requests/{request_id}", params={"wait_s": 8}))
        await until(lambda: request_id in world.answers.awaited, what="one who waits")
        world.end(made.answer("36", request_id=request_id))
        assert (await waiting).json()["result"]["answer"] == "36"
        assert world.answers.awaited == ()


async def test_an_end_that_is_not_heard_is_found_in_the_record() -> None:
    world = World()
    async with world.serving() as client:
        request_id = (await client.post("/v1/requests", json=QUESTION)).json()["id"]
        waiting = asyncio.create_task(client.get(f"/v1/requests/{request_id}", params={"wait_s": 8}))
        await until(lambda: request_id in world.answers.awaited, what="one who waits")
        world.end(made.answer("36", request_id=request_id), is_heard=False)
        assert (await waiting).json()["status"] == "answered"


async def test_one_who_waits_in_vain_is_told_that_it_runs() -> None:
    world = World()
    async with world.serving() as client:
        request_id = (await client.post("/v1/requests", json=QUESTION)).json()["id"]
        assert (await client.get(f"/v1/requests/{request_id}", params={"wait_s": 0.05})).json()["status"] == "running"


async def test_a_client_that_goes_away_leaves_nobody_waiting() -> None:
    world = World()
    async with world.serving() as client:
        request_id = (await client.post("/v1/requests", json=QUESTION)).json()["id"]
        with pytest.raises(httpx2.ReadTimeout):
            await client.get(f"/v1/requests/{request_id}", params={"wait_s": 60}, timeout=0.2)
        await until(lambda: world.answers.awaited == (), what="nobody waiting")


async def test_a_failure_is_a_result_that_says_why() -> None:
    world = World(failing("deadline", "no time"))
    async with world.serving() as client:
        request_id = (await client.post("/v1/requests", json=QUESTION)).json()["id"]
        result = (await client.get(f"/v1/requests/{request_id}", params={"wait_s": 5})).json()["result"]
        assert (result["status"], result["failure"], result["message"]) == ("failed", "deadline", "no time")


async def test_a_request_is_cancelled_once_and_stays_as_it_ended() -> None:
    world = World()
    async with world.serving() as client:
        request_id = (await client.post("/v1/requests", json={**QUESTION, "deadline_s": 60})).json()["id"]
        assert (await client.post(f"/v1/requests/{request_id}/cancel")).status_code == 202
        until_ms = asked_at_ms(request_id) + 60_000
        assert world.published[-1] == RequestCancelled(request_id=request_id, until_ms=until_ms)
        result = (await client.get(f"/v1/requests/{request_id}/result")).json()
        assert (result["status"], result["failure"]) == ("failed", "cancelled")
        again = await client.post(f"/v1/requests/{request_id}/cancel")
        assert (again.status_code, again.json()["result"]["failure"]) == (200, "cancelled")
        assert len(world.published) == 2


async def test_the_same_idempotency_key_is_the_same_request() -> None:
    world = World()
    async with world.serving() as client:
        headers = {"Idempotency-Key": "order-7"}
        first = await client.post("/v1/requests", json=QUESTION, headers=headers)
        second = await client.post("/v1/requests", json=QUESTION, headers=headers)
        assert first.json()["id"] == second.json()["id"]
        assert len(world.published) == 1
        other = await client.post("/v1/requests", json={"question": "Another?"}, headers=headers)
        assert (other.status_code, other.json()["error"]["code"]) == (409, "idempotency_key_reused")


async def test_what_was_entered_and_not_published_is_published_under_its_first_id() -> None:
    world = World(is_log_away=True)
    async with world.serving() as client:
        headers = {"Idempotency-Key": "order-7"}
        lost = await client.post("/v1/requests", json=QUESTION, headers=headers)
        assert (lost.status_code, lost.json()["error"]["code"]) == (503, "dependency_away")
        assert lost.headers["retry-after"]
        (entered,) = world.ledger.entries
        world.is_log_away = False
        again = await client.post("/v1/requests", json=QUESTION, headers=headers)
        assert again.json()["id"] == entered
        assert [event.request_id for event in world.published] == [entered]  # type: ignore[attr-defined]


async def test_without_a_key_what_is_not_published_is_struck_out() -> None:
    world = World(is_log_away=True)
    async with world.serving() as client:
        assert (await client.post("/v1/requests", json=QUESTION)).status_code == 503
        assert world.ledger.entries == {}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "question"),
        ({"question": ""}, "question"),
        ({"question": " \t"}, "question"),
        ({"question": "x" * 16_385}, "question"),
        ({"question": "a\0b"}, "question"),
        ({"question": 7}, "question"),
        ({**QUESTION, "max_samples": 0}, "max_samples"),
        ({**QUESTION, "max_tokens": -1}, "max_tokens"),
        ({**QUESTION, "deadline_s": 0}, "deadline_s"),
        ({**QUESTION, "tags": {"tenant": "me"}}, "tags"),
        ({**QUESTION, "tags": {str(index): "" for index in range(16)}}, "tags"),
        ({**QUESTION, "policy": "no-such-policy"}, "policy"),
        ({**QUESTION, "qestion": "typo"}, "qestion"),
        ({**QUESTION, "priority": "Object contains unknown field `x`"}, "priority"),
        ([], None),
    ],
)
async def test_a_wrong_body_is_refused_with_its_field_and_what_was_expected(body: object, param: str | None) -> None:
    world = World()
    async with world.serving() as client:
        refused = await client.post("/v1/requests", json=body)
        error = refused.json()["error"]
        assert refused.status_code in (400, 404)
        assert error["type"] == "invalid_request_error"
        assert error["param"] == param
        assert error["message"]
        assert world.published == []


@pytest.mark.parametrize("content", [b"", b"{", b'{"question": "\xff"}', b"\xff\xfe{}", b"null"])
async def test_what_is_no_json_is_refused(content: bytes) -> None:
    async with World().serving() as client:
        assert (await client.post("/v1/requests", content=content)).status_code == 400


@pytest.mark.parametrize("request_id", ["7", "..", "%00", "a" * 500, "01a2195c-a93e-716c-8f16-5f7c77afa387"])
async def test_a_request_that_does_not_exist_is_not_found(request_id: str) -> None:
    async with World().serving() as client:
        for end in ("", "/result", "/events"):
            assert (await client.get(f"/v1/requests/{request_id}{end}")).status_code == 404


async def test_feedback_is_published_for_a_request_that_there_is() -> None:
    world = World(answering("36"))
    async with world.serving() as client:
        request_id = (await client.post("/v1/requests", json=QUESTION)).json()["id"]
        body = {"request_id": request_id, "reward": 1, "comment": "thanks"}
        taken = await client.post("/v1/feedback", json=body)
        assert taken.status_code == 202
        given = FeedbackGiven(request_id=request_id, reward=1.0, comment="thanks", feedback_id=taken.json()["id"])
        assert world.published[-1] == given
        for _ in range(2):
            await client.post("/v1/feedback", json=body, headers={"Idempotency-Key": "once"})
        assert world.event_ids[-1] == world.event_ids[-2] is not None
        assert world.event_ids[-1] == world.published[-1].feedback_id
        missing = await client.post("/v1/feedback", json={"request_id": str(new_request_id()), "reward": 1})
        assert missing.status_code == 404
        nothing = await client.post("/v1/feedback", json={"request_id": request_id})
        assert nothing.json()["error"]["param"] == "reward"


# What may be said, and as what it is published where it is not the same.
SHAPES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a yes or no": ({"reward": True}, {"reward": 1.0}),
    "a number": ({"reward": 0.25}, {}),
    "a place on a scale": ({"rating": 4, "scale": 5, "metric": "stars"}, {"rating": 4.0}),
    "a measurement": ({"rating": 12.5, "metric": "seconds_read", "rater": "program"}, {}),
    "a choice": ({"chosen": "36", "rejected": "35"}, {}),
    "a correction": ({"right_answer": "36", "about_answer": "35"}, {}),
    "a comment": ({"comment": "mail me at ann@shop.example"}, {"comment": "mail me at [EMAIL]"}),
    "of a step": ({"reward": 0, "step_index": 1}, {"reward": 0.0}),
    "of a path": ({"reward": 1, "step_index": 1, "sample_index": 3, "rater": "expert"}, {"reward": 1.0}),
    "another opinion": ({"reward": 1, "feedback_id": "two", "supersedes": "one"}, {"reward": 1.0}),
    "no opinion any more": ({"supersedes": "one", "is_withdrawn": True}, {}),
}


@pytest.mark.parametrize("shape", SHAPES)
async def test_every_shape_of_feedback_is_taken_and_masked(shape: str) -> None:
    said, published = SHAPES[shape]
    world = World(answering("36"))
    async with world.serving() as client:
        request_id = (await client.post("/v1/requests", json=QUESTION)).json()["id"]
        taken = await client.post("/v1/feedback", json={"request_id": request_id, "source": "ann", **said})
        assert taken.status_code == 202, taken.text
        given = msgspec.to_builtins(world.published[-1])
    wanted = {"source": "ann", "feedback_id": taken.json()["id"], **said, **published}
    assert {name: given[name] for name in wanted} == wanted
    assert set(FeedbackGiven.__struct_fields__) == set(FeedbackBody.__struct_fields__), (
        "every field of the event is offered"
    )


@pytest.mark.parametrize(
    ("said", "param"),
    [
        ({"reward": 2}, "reward"), ({"reward": 1, "sample_index": 1}, "step_index"), ({"rating": 6, "scale": 5}, "rating"),
        ({"chosen": "a"}, "chosen"), ({"is_withdrawn": True}, "supersedes"), ({"reward": 1, "rater": "god"}, "rater"),
        ({"reward": 1, "metric": "No Name"}, "metric"), ({"reward": 1, "no_such": 1}, "no_such"),
    ],
)  # fmt: skip
async def test_feedback_that_says_nothing_possible_is_refused_with_its_field(
    said: dict[str, Any], param: str | None
) -> None:
    world = World()
    async with world.serving() as client:
        refused = await client.post("/v1/feedback", json={"request_id": str(new_request_id()), **said})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param), refused.text
    assert world.published == []


async def test_with_as_many_waiting_as_it_can_hold_the_gateway_says_when_to_come_back() -> None:
    world = World(max_waiting=1)
    async with world.serving() as client:
        request_id = (await client.post("/v1/requests", json=QUESTION)).json()["id"]
        waiting = asyncio.create_task(client.get(f"/v1/requests/{request_id}", params={"wait_s": 8}))
        await until(lambda: len(world.answers.awaited) == 1, what="one who waits")
        chat = {"model": "conclave", "messages": [{"role": "user", "content": "And 7 times 7?"}]}
        refused = await client.post("/v1/chat/completions", json=chat)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
        assert refused.json()["error"]["type"] == "rate_limit_error"
        world.end(made.answer("36", request_id=request_id))
        await waiting


async def test_while_the_record_is_away_the_gateway_says_so() -> None:
    world = World()
    async with world.serving() as client:
        world.record.is_away = True
        away = await client.get(f"/v1/requests/{new_request_id()}")
        assert away.status_code in (404, 503)
        world.record.is_away = False
        assert (await client.get("/v1/models")).status_code == 200


async def test_calls_are_counted_by_route_and_status() -> None:
    def count(status: int) -> float:
        labels = {"method": "GET", "route": "/v1/requests/{request_id}", "status": str(status)}
        return REGISTRY.get_sample_value("conclave_http_calls_total", labels) or 0.0

    world = World(answering("36"))
    async with world.serving() as client:
        before = count(200), count(404)
        request_id = (await client.post("/v1/requests", json=QUESTION)).json()["id"]
        for path in (request_id, request_id, new_request_id()):
            await client.get(f"/v1/requests/{path}")
        assert (count(200), count(404)) == (before[0] + 2, before[1] + 1)


@pytest.mark.parametrize(
    ("asked", "most_urgent", "published"),
    [
        (None, "interactive", None),
        ("standard", "interactive", None),
        ("interactive", "interactive", "interactive"),
        ("batch", "interactive", "batch"),
        ("interactive", "standard", None),
        ("interactive", "batch", "batch"),
        (None, "batch", "batch"),
    ],
)
async def test_a_request_is_as_urgent_as_it_says_and_its_tenant_may_be(
    asked: str | None, most_urgent: str, published: str | None
) -> None:
    world = World()
    key = world.accounts.add("shop", Scope.ASK, most_urgent=most_urgent)
    body = QUESTION if asked is None else {**QUESTION, "priority": asked}
    async with world.serving() as client:
        taken = await client.post("/v1/requests", json=body, headers={"Authorization": f"Bearer {key.text}"})
        assert taken.status_code == 202
    (event,) = world.published
    assert isinstance(event, ReasoningRequested)
    assert event.priority == published


async def test_a_priority_that_there_is_not_is_refused_by_name() -> None:
    world = World()
    async with world.serving() as client:
        refused = await client.post("/v1/requests", json={**QUESTION, "priority": "urgent"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "priority")


async def test_other_feedback_under_the_same_key_is_not_dropped_in_silence() -> None:
    world = World(answering("36"))
    async with world.serving() as client:
        request_id = (await client.post("/v1/requests", json=QUESTION)).json()["id"]
        ids = []
        for reward in (1, 1, 0):
            said = {"request_id": request_id, "reward": reward}
            taken = await client.post("/v1/feedback", json=said, headers={"Idempotency-Key": "k"})
            ids.append(taken.json()["id"])
    assert ids[0] == ids[1] != ids[2]
    assert world.event_ids[1:] == ids


@pytest.mark.parametrize(("path", "methods"), [("/v1/models", "GET, HEAD"), ("/v1/files", "GET, HEAD, POST")])
async def test_a_method_that_an_address_does_not_take_is_told_which_ones_it_does(path: str, methods: str) -> None:
    async with World().serving() as client:
        for method in ("PATCH", "OPTIONS"):
            refused = await client.request(method, path)
            assert (refused.status_code, refused.headers["allow"]) == (405, methods)
            assert refused.json()["error"]["code"] == "method_not_allowed"


async def test_a_tenant_over_its_limit_is_never_told_to_come_back_too_early() -> None:
    world = World()
    key = world.accounts.add("ours", Scope.ASK, limits=Limits(rate_per_minute=0))
    world.ledger.retry_after_s = 12.1
    async with world.serving() as client:
        refused = await client.post("/v1/requests", json=QUESTION, headers={"Authorization": f"Bearer {key.text}"})
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "13")
