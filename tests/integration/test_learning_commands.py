"""`conclave replay --since`, `export`, `report` and `review` over a record that real services have filled."""

import asyncio
import json
import random
import time
from pathlib import Path

import click
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from conclave.cli import group
from conclave.domain.recorded import RecordedEvent
from conclave.store.erasure import erase
from conclave.store.store import Store
from schemas import flow
from schemas.events import Event, FeedbackGiven
from schemas.experiments import Rater
from schemas.ids import derived_request_id
from tests.played import Played

SECRET = "ann@example.org"
QUESTION = f"How many apples has Tom, asks {SECRET}?"
POLICIES = ("default", "fixed-8", "sure", "fixed-8")


async def run(dsn: str, *arguments: object, status: int = 0) -> str:
    """What a command prints."""
    environment = {"CONCLAVE_POSTGRES_DSN": dsn}
    words = [str(each) for each in arguments]
    result = await asyncio.to_thread(
        CliRunner().invoke, group, words, env=environment, catch_exceptions=False, standalone_mode=False
    )
    assert (result.return_value or 0) == status, result.output
    return result.output


@pytest.fixture
async def asked(fresh_database: str) -> list[str]:
    """The ids of four requests of the last minute, each with an expert's right answer; what one was told is erased."""
    now_ms, store, ids, number = int(time.time() * 1000), Store(fresh_database), list[str](), 0
    await store.maintain(now_ms)
    await store.claim([(row.topic.value, 0) for row in flow.TOPICS])

    async def put(event: Event) -> None:
        nonlocal number
        number += 1
        topic = flow.topic_of(type(event)).value
        recorded = RecordedEvent(event, f"e{number}", flow.key_of(event), topic, 0, number, now_ms, None)
        await store.write([recorded], {})

    for place, policy in enumerate(POLICIES):
        asked_ms = now_ms - 60_000 + place
        ids.append(str(derived_request_id(asked_ms, f"command {place}")))
        played = Played(ids[-1], QUESTION, policy, 432, asked_ms, random.Random(place), accuracy=0.6)
        for each in await played.play():
            await put(each.event)
        await put(FeedbackGiven(request_id=ids[-1], reward=0.0, comment=f"from {SECRET}", source="bob"))
        await put(FeedbackGiven(request_id=ids[-1], right_answer="432", rater=Rater.EXPERT, source="ann"))
    await erase(fresh_database, [ids[-1]])
    await store.close()
    return ids


async def test_right_paths_are_exported_against_wrong_ones_masked_and_without_what_was_erased(
    asked: list[str], fresh_database: str, tmp_path: Path
) -> None:
    file = tmp_path / "pairs.jsonl"
    said = await run(fresh_database, "export", "--preferences", file, "--pairs", 3)
    pairs = [json.loads(line) for line in file.read_text().splitlines()]
    assert f"{len(pairs)} pairs of" in said
    assert pairs
    assert {pair["request_id"] for pair in pairs} <= set(asked[:3])
    for pair in pairs:
        assert "[EMAIL]" in pair["prompt"][-1]["content"]
        assert pair["chosen"][0]["content"].rstrip().endswith("Answer: 432")
        assert not pair["rejected"][0]["content"].rstrip().endswith("Answer: 432")
    assert SECRET not in file.read_text()


async def test_views_are_exported_to_parquet_with_their_types(
    asked: list[str], fresh_database: str, tmp_path: Path
) -> None:
    await run(fresh_database, "export", "--parquet", tmp_path / "views")
    tables = {path.stem: pq.read_table(path) for path in (tmp_path / "views").iterdir()}
    summary = tables["request_summary"]
    assert set(summary.column("request_id").to_pylist()) == set(asked[:3])
    assert summary.column("question").to_pylist() == [QUESTION.replace(SECRET, "[EMAIL]")] * 3
    kinds = {field.name: str(field.type) for field in summary.schema}
    assert (kinds["asked_at"], kinds["confidence"], kinds["num_paths"], kinds["tags"]) == (
        "timestamp[us, tz=UTC]", "double", "int64", "string",
    )  # fmt: skip
    assert tables["path_votes"].num_rows > 12
    assert {row["comment"] for row in tables["given_feedback"].to_pylist()} == {"from [EMAIL]", None}
    assert set(tables["given_feedback"].column("request_id").to_pylist()) == set(asked[:3])


async def test_a_report_and_the_queue_are_told_of_the_same_record(
    asked: list[str], fresh_database: str, tmp_path: Path
) -> None:
    said = await run(fresh_database, "report", "--since", "1h")
    assert "\nPolicies\n" in said
    assert "\nFeedback\n" in said
    assert SECRET not in said
    await run(fresh_database, "report", "--since", "1h", "--html", tmp_path / "report.html")
    assert "<h2>Votes</h2>" in (tmp_path / "report.html").read_text()
    listed = json.loads(await run(fresh_database, "review", "list", "--json"))
    assert {row["request_id"] for row in listed} == set(asked[:3])
    assert all("disliked" in row["reasons"] for row in listed)
    taken = await run(fresh_database, "review", "claim", "--reviewer", "cid")
    assert f"request  {asked[2]}" in taken
    await run(fresh_database, "review", "skip", asked[2], "--reviewer", "cid")
    taken = await run(fresh_database, "review", "claim", "--reviewer", "cid")
    assert sum(request_id in taken for request_id in asked[:2]) == 1
    for request_id in asked[:2]:
        await run(fresh_database, "review", "skip", request_id, "--reviewer", "cid")
    await run(fresh_database, "review", "claim", "--reviewer", "cid", status=3)
    assert "no answer was judged by two" in await run(fresh_database, "review", "agreement")


async def test_stored_requests_are_thought_through_again_from_the_command_line(
    asked: list[str], fresh_database: str
) -> None:
    document = json.loads(
        await run(fresh_database, "replay", "--stored", "--since", "1h", "--policy", "fixed-8", "--json")
    )
    assert document["requests"] == 3
    assert document["known"] + sum(document["unknown"].values()) == 3
    assert document["known"] >= 1
    assert document["unknown"].keys() <= {"more_samples", "other_prompt"}
    assert document["worth_refused"].startswith("an effective sample of")
    said = await run(fresh_database, "replay", "--stored", "--since", "1h", "--policy", "sure")
    assert said.startswith("3 requests: ")
    same = json.loads(
        await run(fresh_database, "replay", "--stored", "--since", "1h", "--weights", "default", "--json")
    )
    assert (same["known"], same["changed"]) == (3, [])
    assert same["samples"]["served"] == same["samples"]["would_be"]
    with pytest.raises(click.UsageError, match="--weights"):
        await run(fresh_database, "replay", "--stored", "--since", "1h", "--weights", "trial@1", "--json")
