"""The gateway on real servers: OpenAI's client, gateways killed in the middle, keys, and words that are not kept."""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp.client import Client as McpClient
from openai import AsyncOpenAI

from benchmarks.load.arrivals import Level, Shape
from benchmarks.load.counting import counted, ends_in_log
from benchmarks.load.driving import Driver
from benchmarks.load.killing import kill_in_turn
from benchmarks.load.over_http import over_http
from benchmarks.load.stacks import target_of
from conclave.domain.api_keys import Scope
from conclave.local.machine.ports import free_port
from conclave.local.servers.kafka import KafkaBroker
from conclave.local.servers.postgres import PostgresServer
from conclave.store.accounts import Accounts
from conclave.store.reader import Reader
from conclave.testing.pipeline import Pipeline, read_log
from conclave.testing.waiting import until_async
from schemas import flow
from schemas.ids import new_request_id
from tests import javascript_client
from tests.integration.conftest import own_broker

CHECKOUT = Path(__file__).resolve().parents[2]
QUESTION = "Tom has 12 apples. Tom buys 7 more. How many apples does Tom have now?"


@pytest.fixture(scope="module")
def broker(session_dir: Path, jars_dir: Path) -> Iterator[KafkaBroker]:
    """A broker of this module alone."""
    with own_broker(session_dir / "kafka-gateway", jars_dir, partitions=2) as broker:
        yield broker


@pytest.fixture
async def pipeline(broker: KafkaBroker, fresh_database: str, tmp_path: Path) -> AsyncIterator[Pipeline]:
    """Every service once, the decoder on the scripted engine, slow enough to be caught at work."""
    settings = {"CONCLAVE_GATEWAY_PORT": str(free_port()), "CONCLAVE_SCRIPTED_LATENCY_MS": "400"}
    async with Pipeline(broker, fresh_database, tmp_path, settings).running() as pipeline:
        yield pipeline


def _url(pipeline: Pipeline) -> str:
    return f"http://127.0.0.1:{pipeline.settings['CONCLAVE_GATEWAY_PORT']}"


async def test_clients_are_answered_whatever_befalls_a_gateway(
    pipeline: Pipeline, postgres: PostgresServer, subtests: pytest.Subtests
) -> None:
    async with (
        AsyncOpenAI(base_url=f"{_url(pipeline)}/v1", api_key="none", max_retries=0) as openai,
        httpx2.AsyncClient(base_url=_url(pipeline), timeout=60) as client,
    ):
        await _chats(openai)
        await _answers_a_batch(pipeline, openai)
        await _survives_a_kill(pipeline, client)
        await _cancels(client)
        await _answers_every_client(_url(pipeline), subtests)
        await _shows_pages(client)
        await _answers_each_once_whatever_is_killed(pipeline, postgres)
        await _asks_for_a_key_once_there_is_one(pipeline, client)
        await _keeps_no_word(pipeline, client)


async def _chats(openai: AsyncOpenAI) -> None:
    completion = await openai.chat.completions.create(
        model="default", messages=[{"role": "user", "content": QUESTION}], n=2, timeout=60
    )
    assert len(completion.choices) == 2
    assert all(choice.message.content for choice in completion.choices)
    assert completion.usage is not None
    assert completion.usage.completion_tokens > 0
    for _ in range(20):  # an answer that overtakes its paths ends the stream without them
        thought, said = await _streamed(openai)
        assert "policy default, strategy vote" in thought
        assert said
        if re.search(r"path \d+: ", thought):
            return
    pytest.fail("no stream told a path")


async def _streamed(openai: AsyncOpenAI) -> tuple[str, str]:
    """What a stream says of the thinking, and the answer."""
    stream = await openai.chat.completions.create(
        model="default", messages=[{"role": "user", "content": QUESTION}], stream=True, timeout=60
    )
    thought, said = "", ""
    async for chunk in stream:
        extra: Any = chunk.choices[0].delta.model_extra if chunk.choices else {}
        thought += extra.get("reasoning_content", "")
        said += (chunk.choices[0].delta.content or "") if chunk.choices else ""
    return thought, said


async def _answers_a_batch(pipeline: Pipeline, openai: AsyncOpenAI) -> None:
    """Every line is answered once although the gateway is killed in the middle; a wrong line fails alone."""
    url = "/v1/chat/completions"
    lines = [
        {
            "custom_id": f"line-{index}",
            "method": "POST",
            "url": url,
            "body": {"model": "default", "messages": [{"role": "user", "content": f"{QUESTION} {index}"}]},
        }
        for index in range(20)
    ]
    content = "\n".join(map(json.dumps, [*lines, {"custom_id": "wrong"}]))
    file = await openai.files.create(file=("questions.jsonl", content.encode()), purpose="batch")
    wanted: Any = {"input_file_id": file.id, "endpoint": url, "completion_window": "1h"}
    batch = await openai.batches.create(**wanted)
    pipeline.services["gateway"].send(signal.SIGKILL)
    await pipeline.services["gateway"].stop()
    await pipeline.services["gateway"].start()
    await pipeline.until_ready()

    async def is_completed() -> bool:
        return (await openai.batches.retrieve(batch.id)).status == "completed"

    await until_async(is_completed, limit_s=120, what="a completed batch")
    done = await openai.batches.retrieve(batch.id)
    assert done.request_counts is not None
    assert (done.request_counts.total, done.request_counts.completed, done.request_counts.failed) == (21, 20, 1)
    answered = [json.loads(line) for line in (await openai.files.content(f"{batch.id}-output")).text.splitlines()]
    assert {line["custom_id"] for line in answered} == {f"line-{index}" for index in range(20)}
    assert all(line["response"]["body"]["choices"][0]["message"]["content"] for line in answered)
    (wrong,) = (await openai.files.content(f"{batch.id}-errors")).text.splitlines()
    assert json.loads(wrong)["error"]["code"] == "invalid_request"
    assert [each.id async for each in openai.batches.list(limit=5)] == [batch.id]


async def _answers_every_client(url: str, subtests: pytest.Subtests) -> None:
    """Those that are not OpenAI's Python one: plain Kafka producers are in test_producer_shapes."""
    with subtests.test("curl, as the how-to has it"):
        if shutil.which("curl") is None:
            pytest.skip("curl is not installed")
        told = json.loads(await _run_as_documented(url))
        assert told["choices"][0]["message"]["content"]
        assert told["conclave"]["results"][0]["tally"]
    with subtests.test("OpenAI's JavaScript client"):
        if not javascript_client.IS_HERE:
            pytest.skip(javascript_client.WHY_NOT)
        chat, stream, models, refused, batch = (await javascript_client.said(url, QUESTION)).splitlines()
        assert re.fullmatch(r"chat \S+ \d+ \d+", chat)
        assert re.fullmatch(r"stream \S+ \d+", stream)
        assert (models, refused.split()[:2]) == ("models conclave true", ["refused", "400"])
        assert re.fullmatch(r"batch completed 1 \S+", batch)
    with subtests.test("an MCP client"):
        async with McpClient(f"{url}/mcp") as client:
            told = (await client.call_tool("ask", {"question": QUESTION})).structured_content
            assert told is not None
            assert told["answer"]
            assert told["tally"]
            trace = (await client.call_tool("trace", {"request_id": told["request_id"]})).structured_content
            assert trace is not None
            assert trace["request"]["id"] == told["request_id"]


async def _run_as_documented(url: str) -> str:
    """What the first command of docs/how-to/use-the-api.md prints."""
    command = (CHECKOUT / "docs" / "how-to" / "use-the-api.md").read_text().split("```\n")[1]
    assert command.startswith("curl -s http://127.0.0.1:8642/v1/chat/completions ")
    done = await asyncio.to_thread(
        subprocess.run,
        ["bash", "-c", command.replace("http://127.0.0.1:8642", url)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout


async def _shows_pages(client: httpx2.AsyncClient) -> None:
    """A question is asked by the first page's form, its page comes to tell the answer, and takes feedback; no page fails."""
    here = {"Sec-Fetch-Site": "same-origin"}
    assert (await client.post("/ask", data={"question": QUESTION})).status_code == 403
    asked = await client.post("/ask", data={"question": QUESTION, "policy": "fixed-8"}, headers=here)
    assert asked.status_code == 303
    place = asked.headers["location"]

    async def is_told() -> bool:
        return (
            'class="growth-said"' in (await client.get(place)).text and "Thinking" not in (await client.get(place)).text
        )

    await until_async(is_told, what="the answer on its page")
    given = await client.post("/feedback", data={"request_id": place.rpartition("/")[2], "reward": "1"}, headers=here)
    assert given.status_code == 303

    async def is_judged() -> bool:
        return "✓ right" in (await client.get(place)).text

    await until_async(is_judged, what="the feedback on the page")
    for path in ("/", "/live", "/requests", "/quality", "/experiments", "/system", "/system/log", f"{place}.json"):
        page = await client.get(path)
        assert page.status_code == 200, path
        assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert "voter" in (await client.get("/system/log")).text
    assert (await client.get(f"/requests/{new_request_id()}x")).status_code == 404


async def _survives_a_kill(pipeline: Pipeline, client: httpx2.AsyncClient) -> None:
    """Asked, killed, started again: the request goes on, and is found; sent again, it is the same."""
    headers = {"Idempotency-Key": "order-7"}
    ids = [
        (await client.post("/v1/requests", json={"question": f"{QUESTION} {index}"})).json()["id"] for index in range(5)
    ]
    ids.append((await client.post("/v1/requests", json={"question": QUESTION}, headers=headers)).json()["id"])
    pipeline.services["gateway"].send(signal.SIGKILL)
    await pipeline.services["gateway"].stop()
    await pipeline.services["gateway"].start()
    await pipeline.until_ready()
    again = await client.post("/v1/requests", json={"question": QUESTION}, headers=headers)
    assert again.json()["id"] == ids[-1]
    states = await asyncio.gather(*(client.get(f"/v1/requests/{each}", params={"wait_s": 60}) for each in ids))
    assert [state.json()["status"] for state in states] == ["answered"] * len(ids)
    async with client.stream("GET", f"/v1/requests/{ids[0]}/events") as stream:
        kinds = [line.removeprefix("event: ") async for line in stream.aiter_lines() if line.startswith("event: ")]
    assert kinds[0] == "planned"
    assert kinds[-1] == "answered"
    assert {"path", "decided"} <= set(kinds)
    assert (await client.post("/v1/feedback", json={"request_id": ids[0], "reward": 1})).status_code == 202
    reader = Reader(pipeline.dsn)
    try:

        async def is_recorded() -> bool:
            return bool(await reader.rows("SELECT 1 FROM feedback WHERE request_id = :id", {"id": ids[0]}))

        await until_async(is_recorded, what="recorded feedback")
        asked = await reader.rows("SELECT count(*) AS n FROM requests WHERE request_id >= :first", {"first": ids[0]})
        assert asked[0]["n"] == len(ids), "the request that was sent twice was asked once"
    finally:
        await reader.close()


async def _answers_each_once_whatever_is_killed(pipeline: Pipeline, postgres: PostgresServer) -> None:
    """Under load Kafka is killed, then the gateway: every accepted request has one end in the log, and its client hears it."""
    before = await ends_in_log(pipeline.address)
    kill = target_of(pipeline, postgres, gateway_url=_url(pipeline)).kill
    assert kill is not None
    async with over_http(_url(pipeline)) as way, asyncio.TaskGroup() as tasks:
        driver = Driver(way, policy="fixed-8", asked=[QUESTION], shape=Shape.STEADY, seed=1)
        killing = tasks.create_task(kill_in_turn(kill, ["kafka", "gateway"], 3.0))
        while not killing.done():  # however long it takes: something is asked all the time
            await driver.run([Level(clients=10)], 1.0)
    assert [each.part for each in killing.result()] == ["kafka", "gateway"]
    driven = driver.driven
    assert (driven.lost, driven.num_never_accepted) == ([], 0)
    assert len(driven.asked) >= 10
    assert all(each.is_answered for each in driven.asked)
    assert way.refused, "something was killed while it was asked"
    after = await ends_in_log(pipeline.address)
    new = {request_id: number for request_id, number in after.items() if request_id not in before}
    assert counted(new, driven.accepted, 0).is_once


async def _cancels(client: httpx2.AsyncClient) -> None:
    """What is cancelled ends as cancelled, and its paths are not decoded to their end."""
    request_id = (await client.post("/v1/requests", json={"question": QUESTION})).json()["id"]
    assert (await client.post(f"/v1/requests/{request_id}/cancel")).status_code == 202
    state = (await client.get(f"/v1/requests/{request_id}", params={"wait_s": 60})).json()
    assert state["result"]["failure"] == "cancelled"
    assert state["result"]["elapsed_ms"] < 30_000

    async def is_known_to_have_ended() -> bool:  # the end was heard in the log, and the record has it a moment later
        return (await client.post(f"/v1/requests/{request_id}/cancel")).status_code == 200

    await until_async(is_known_to_have_ended, what="an end in the record")


async def _asks_for_a_key_once_there_is_one(pipeline: Pipeline, client: httpx2.AsyncClient) -> None:
    environment = {**os.environ, "CONCLAVE_POSTGRES_DSN": pipeline.dsn}
    command = [sys.executable, "-m", "conclave.cli", "keys", "create", "--tenant", "ours"]
    made = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, check=True, timeout=60, env=environment, cwd=CHECKOUT
    )
    headers = {"Authorization": f"Bearer {made.stdout.strip()}"}

    async def is_closed() -> bool:
        return (await client.get("/v1/models")).status_code == 401

    await until_async(is_closed, what="a gateway that asks for a key")
    taken = await client.post("/v1/requests", json={"question": QUESTION}, headers=headers)
    assert taken.status_code == 202
    told = await client.get(taken.headers["location"], params={"wait_s": 60}, headers=headers)
    assert told.json()["status"] == "answered"
    for path in pipeline.folder.glob("*.log"):
        assert made.stdout.strip().rpartition("_")[2] not in path.read_text(), f"a secret in {path}"


async def _keeps_no_word(pipeline: Pipeline, client: httpx2.AsyncClient) -> None:
    """A tenant's content is off: it is answered, again and after a restart too, and its words are in the log alone."""
    canary, masked = "canary-of-the-silent", "canary@silent.example"
    accounts = Accounts(pipeline.dsn)
    key = await accounts.create("silent", [Scope.ASK, Scope.FEEDBACK], actor="tests")
    admin = await accounts.create("ops", [Scope.ADMIN], actor="tests")
    await accounts.change_tenant("silent", actor="tests", is_kept=False)
    await accounts.close()
    assert (await client.post("/sign-in", data={"key": admin.text})).status_code == 303
    headers = {"Authorization": f"Bearer {key.text}", "Idempotency-Key": "silent-1"}
    asked: dict[str, Any] = {"question": f"{QUESTION} ({canary}, {masked})", "tags": {canary: canary}}
    taken = await client.post("/v1/requests", json=asked, headers=headers)
    place = taken.headers["location"]
    first = (await client.get(place, params={"wait_s": 60}, headers=headers)).json()
    assert (first["status"], bool(first["result"]["answer"])) == ("answered", True)
    said = {"reward": 1, "comment": canary, "source": canary, "feedback_id": canary, "right_answer": canary}
    given = await client.post("/v1/feedback", json={"request_id": first["id"], **said}, headers=headers)
    assert given.status_code == 202
    pipeline.services["gateway"].send(signal.SIGKILL)
    await pipeline.services["gateway"].stop()
    await pipeline.services["gateway"].start()
    await pipeline.until_ready()
    reader = Reader(pipeline.dsn)
    try:

        async def is_judged() -> bool:
            return bool(await reader.rows("SELECT 1 FROM feedback WHERE request_id = :id", {"id": first["id"]}))

        await until_async(is_judged, what="recorded feedback")
        again = (await client.get(place, headers=headers)).json()
        assert (again["question"], again["result"]["content"]) == (None, "off")
        assert again["result"]["answer"] == first["result"]["answer"], "it is read from the log"
        figures = "SELECT num_paths, answer FROM answers WHERE request_id = :id"
        assert (await reader.rows(figures, {"id": first["id"]}))[0]["num_paths"] > 0
        listed = "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace"
        for table in [row["relname"] for row in await reader.rows(listed)]:
            found = await reader.rows(
                f"SELECT count(*) AS n FROM {table} t WHERE strpos(t::text, :a) + strpos(t::text, :b) > 0",
                {"a": canary, "b": masked},
            )
            assert found[0]["n"] == 0, table
    finally:
        await reader.close()
    request_id = first["id"]
    for path in ("/", "/requests", f"/requests/{request_id}", f"/requests/{request_id}.json", "/live", "/system/log"):
        page = await client.get(path)
        assert page.status_code == 200, f"{path}: a gateway that was started since knows who is signed in"
        assert canary not in page.text, path
    assert (await client.post("/sign-out")).status_code == 303
    assert (await client.get("/")).status_code == 401
    for service in pipeline.services.values():
        async with httpx2.AsyncClient(timeout=10) as probe:
            assert canary not in (await probe.get(f"http://127.0.0.1:{service.port}/metrics")).text
    for log in pipeline.folder.glob("*.log"):
        assert canary not in log.read_text(), f"a word in {log}"
    in_the_log = await read_log(pipeline.address, [row.topic for row in flow.TOPICS])
    values = [value or b"" for _, _, value in in_the_log]
    assert not any(masked.encode() in value for value in values), "what is masked reaches no topic either"
    assert any(canary.encode() in value for value in values), "the services need what is asked"
