"""A thousand malformed or hostile events stop no service, and each lies in its dead letters with a reason and a field."""

import json
import random
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from conclave.local.servers.kafka import KafkaBroker
from conclave.runtime.client import Client
from conclave.runtime.record import Output
from conclave.testing.pipeline import Pipeline
from conclave.testing.waiting import until_async
from schemas import codec, flow
from schemas.codec import UnreadableEvent
from schemas.envelope import header, rfc3339
from schemas.events import AnswerReached, Event, ReasoningRequested
from schemas.flow import Topic
from schemas.ids import derived_request_id, new_request_id
from tests.drawn import EVENTS, document
from tests.integration.conftest import own_broker

NUMBER = 1000
ATTACKED = (Topic.REQUESTS, Topic.STEPS, Topic.SAMPLES, Topic.PATHS, Topic.ANSWERS, Topic.FEEDBACK)


@pytest.fixture(scope="module")
def broker(session_dir: Path, jars_dir: Path) -> Iterator[KafkaBroker]:
    """A broker of this module alone: its dead letters are counted."""
    with own_broker(session_dir / "kafka-hostile", jars_dir, partitions=2) as broker:
        yield broker


@pytest.fixture
async def pipeline(broker: KafkaBroker, fresh_database: str, tmp_path: Path) -> AsyncIterator[Pipeline]:
    """Every service once; groups that can never be whole are given up after two seconds."""
    patience = {"CONCLAVE_VOTER_ORPHAN_S": "2", "CONCLAVE_VOTER_GRACE_S": "0.5", "CONCLAVE_AGGREGATOR_ORPHAN_S": "2"}
    settings = {"CONCLAVE_SCRIPTED_LATENCY_MS": "1", **patience}
    async with Pipeline(broker, fresh_database, tmp_path, settings).running() as pipeline:
        yield pipeline


def _handmade() -> list[Output]:
    """Bytes, JSON and events that a hostile or broken producer might send, each wrong in a way of its own."""
    request, now_ms = str(new_request_id()), int(time.time() * 1000)
    ancient, future = str(derived_request_id(0, "a")), str(derived_request_id(2**48 - 1, "b"))
    values: list[tuple[Topic, bytes | None, str | None]] = []
    for topic in ATTACKED:
        raw: tuple[bytes | None, ...] = (
            b"", b"{", b"\x00", b"\xff\xfe\x00", b"null", b"[]", b'"text"', b"17", b"{}", b"[" * 5000, b'{"a":' * 5000,
            "{\"question\": \"caf\u00e9\"}".encode("utf-16"), b"\xc3\x28", b'{"question": "\\ud800"}', None,
            b'{"question": 1e999}', b'{"x": "' + b"y" * 300_000 + b'"}',
        )  # fmt: skip
        values += [(topic, each, None) for each in raw if not (topic is Topic.REQUESTS and each is None)]
        values += [
            (topic, b"{}", "conclave.ReasoningRequested.v99"),
            (topic, b"{}", "nonsense"),
            (topic, b"{}", "\u2603"),
        ]
    requests: list[dict[str, Any]] = [
        {"question": "q", "policy": "no-such-policy", "request_id": request},
        {"question": "q", "request_id": ancient},
        {"question": "q", "request_id": future},
        {"question": "q", "request_id": "{" + request},
        {"question": "q", "request_id": request + "\n"},
        {"question": "q" * 20_000},
        {"question": "nul\0"},
        {"question": "q", "max_samples": 10**30},
        {"question": "q", "max_samples": 0},
        {"question": "q", "deadline_s": -1},
        {"question": "q", "tags": {"k": None}},
        {"question": "q", "tags": {f"k{i}": "v" for i in range(99)}},
        {"question": ["q"]},
    ]
    values += [(Topic.REQUESTS, json.dumps(each).encode(), None) for each in requests]
    step = {"index": 0, "question": "q", "depends_on": [0]}
    plan = {
        "request_id": request,
        "question": "q",
        "route": "explicit",
        "arm": "a",
        "propensity": 1.0,
        "deadline_ms": now_ms,
    }
    policy = {"name": "p", "prompt_set": "s"}
    cycle = [{"index": 0, "question": "q", "depends_on": [1]}, {"index": 1, "question": "q", "depends_on": [0]}]
    for steps in ([step], cycle, [], [{"index": 7, "question": "q"}]):
        values.append(
            (Topic.STEPS, json.dumps({**plan, "policy": policy, "steps": steps}).encode(), "conclave.PlanMade.v1")
        )
    return [_output(topic, value, ce_type, key=_key(value)) for topic, value, ce_type in values]


def _key(value: bytes | None) -> bytes:
    """The request id in a hostile request, so that it is judged where it lies and not re-published under its key."""
    try:
        return str(json.loads(value or b"")["request_id"]).strip().encode()
    except (ValueError, TypeError, KeyError, UnicodeDecodeError, RecursionError):
        return b"k"


def _orphans() -> list[Output]:
    """Events that are well formed and belong to no request that anyone knows."""
    rng = random.Random(1)
    outputs = []
    for _ in range(20):
        request, now_ms = str(new_request_id()), int(time.time() * 1000)
        context = {
            "request_id": request, "step_index": 0, "policy": {"name": "p", "prompt_set": "s"}, "fields": {},
            "deadline_ms": now_ms,
        }  # fmt: skip
        failed = {
            "context": context,
            "sample_index": 3,
            "launched": 4 + rng.randrange(3),
            "failure": "engine",
            "message": "m",
        }
        key = f"{request}/0".encode()
        outputs.append(_output(Topic.PATHS, json.dumps(failed).encode(), "conclave.PathFailed.v1", key=key))
        verdict = {
            "request_id": request, "step_index": 0, "outcome": "no_answer", "stop_reason": "exhausted", "answer": None,
            "confidence": 0, "margin": 0, "agreement": 0, "entropy": 0, "tally": [], "ballots": [], "launched": 1, "arm": "a",
            "policy": "p", "decided_ms": now_ms,
        }  # fmt: skip
        value = json.dumps(verdict).encode()
        outputs.append(_output(Topic.STEPS, value, "conclave.StepDecided.v1", key=request.encode()))
    return outputs


def _generated(number: int) -> list[Output]:
    """So many events from Hypothesis, each with one place broken so that it can't be read."""
    outputs: list[Output] = []
    attacked = st.sampled_from([event for row in flow.TOPICS if row.topic in ATTACKED for event in row.events])

    @settings(
        max_examples=2 * number, database=None, derandomize=True, phases=[Phase.generate], deadline=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(attacked.flatmap(lambda kind: EVENTS[kind]), st.integers(0, 2**32))
    def draw(event: Event, seed: int) -> None:
        if len(outputs) >= number:
            return
        data = document(event)
        _break(data, random.Random(seed))
        value, topic = json.dumps(data).encode(), flow.topic_of(type(event))
        try:
            codec.decode(topic, codec.versioned_type(type(event)), value)
        except UnreadableEvent:
            outputs.append(_output(topic, value, codec.versioned_type(type(event)), key=b"k"))

    draw()
    return outputs


def _break(data: Any, rng: random.Random) -> None:
    while isinstance(data, dict) and data:
        name = rng.choice(sorted(data))
        if isinstance(data[name], dict) and data[name] and rng.random() < 0.5:
            data = data[name]
            continue
        if rng.random() < 0.3:
            del data[name]
        else:
            data[name] = rng.choice([None, -7, 2**70, 1.5, "no such", "\0", [], {}, [[]], True, "x" * 20_000])
        return


def _output(topic: Topic | str, value: bytes | None, ce_type: str | None, *, key: bytes) -> Output:
    headers = (("ce_type", ce_type.encode()),) if ce_type else ()
    return Output(str(topic), key, value, headers)


@pytest.mark.timeout(300)
async def test_a_thousand_hostile_events_are_all_dead_lettered_by_name_and_stop_nothing(pipeline: Pipeline) -> None:
    attack = [*_handmade(), *_orphans()]
    attack += _generated(NUMBER - len(attack))
    assert len(attack) == NUMBER
    marked = [
        Output(each.topic, each.key, each.value, (*each.headers, ("n", str(number).encode())))
        for number, each in enumerate(attack)
    ]
    async with Client(pipeline.address) as client:
        await client.publish_raw(marked)
        wanted = {str(number) for number in range(NUMBER)}

        async def missing() -> set[str]:
            letters = await client.dead_letters(limit=5000)
            return wanted - {header(letter.headers, "n") or "" for letter in letters}

        async def none_is_missing() -> bool:
            return not await missing()

        try:
            await until_async(none_is_missing, limit_s=90)
        except AssertionError:
            lost = sorted(int(number) for number in await missing())
            raise AssertionError(
                f"{len(lost)} are in no dead letters: {[attack[number] for number in lost[:5]]}"
            ) from None
        # What follows from a hostile event has no mark: the RequestFailed of an id from 1970 can't be recorded either.
        letters = [letter for letter in await client.dead_letters(limit=5000) if header(letter.headers, "n")]
        assert len(letters) == NUMBER, "something was dead-lettered twice"
        for letter in letters:
            number = int(header(letter.headers, "n") or -1)
            assert letter.reason, letter
            assert letter.field, letter
            assert (letter.source_topic, letter.value) == (attack[number].topic, attack[number].value)
        request = ReasoningRequested(question="Are you still there?", request_id=new_request_id())
        async with client.follow(Topic.ANSWERS) as events:
            await client.publish(request)
            async for _, event in events:
                if isinstance(event, AnswerReached) and event.request_id == request.request_id:
                    break
    for service in pipeline.services.values():
        assert service.is_running
        assert await service.is_ready(), f"{service.name} at {rfc3339(int(time.time() * 1000))}"
