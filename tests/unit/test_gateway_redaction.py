"""A secret in what a client sends reaches neither the log nor the record nor the ledger, wherever it is planted."""

from typing import Any

from conclave.domain.api_keys import Scope
from schemas import codec
from tests.gateway_in_memory import World, answering

CANARY = "canary.7f3a@secret.example"


async def test_a_secret_reaches_nothing_that_is_kept_from_wherever_it_is_planted() -> None:
    world = World(answering("36"))
    async with world.serving() as client:
        body: dict[str, Any] = {"question": f"Is {CANARY} mine?", "tags": {CANARY: f"of {CANARY}"}}
        asked = await client.post("/v1/requests", json=body, headers={"Idempotency-Key": CANARY})
        assert asked.status_code == 202
        feedback = {
            "request_id": asked.json()["id"],
            "right_answer": CANARY,
            "comment": f"ask {CANARY}",
            "source": CANARY,
        }
        assert (await client.post("/v1/feedback", json=feedback)).status_code == 202
        chat = {
            "model": "conclave",
            "messages": [{"role": "system", "content": CANARY}, {"role": "user", "content": f"{CANARY}?"}],
            "metadata": {"who": CANARY},
            "user": CANARY,
        }
        told = await client.post("/v1/chat/completions", json=chat)
        assert told.status_code == 200
        assert CANARY not in told.text
        for wrong in ({**body, "policy": CANARY}, {**body, "no_such": CANARY}, {"question": [CANARY]}):
            assert (await client.post("/v1/requests", json=wrong)).status_code in (400, 404)
        state = await client.get(f"/v1/requests/{asked.json()['id']}")
    assert len(world.published) == 3
    assert CANARY.encode() not in b"".join(codec.encode(event) for event in world.published)
    assert CANARY not in repr(world.ledger.entries)
    assert state.json()["question"] == "Is [EMAIL] mine?"


async def test_a_tenant_may_have_its_texts_kept_as_they_are() -> None:
    world = World()
    key = world.accounts.add("ours", Scope.ASK, is_redacted=False)
    async with world.serving() as client:
        headers = {"Authorization": f"Bearer {key.text}"}
        await client.post("/v1/requests", json={"question": f"Is {CANARY} mine?"}, headers=headers)
    assert world.published[0].question == f"Is {CANARY} mine?"  # type: ignore[attr-defined]
