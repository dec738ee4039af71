"""A question published to Kafka comes back as a voted, stored answer: the shipped model on vLLM, and the command line."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from conclave.local.servers.kafka import KafkaBroker
from conclave.testing.pipeline import Pipeline
from conclave.testing.waiting import until
from tests.integration.conftest import own_broker

CHECKOUT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def broker(session_dir: Path, jars_dir: Path) -> Iterator[KafkaBroker]:
    """A broker of this module alone."""
    with own_broker(session_dir / "kafka-whole", jars_dir, partitions=2) as broker:
        yield broker


@pytest.fixture
async def pipeline(broker: KafkaBroker, fresh_database: str, tmp_path: Path) -> AsyncIterator[Pipeline]:
    """Every service once, the decoder on vLLM with the shipped model."""
    settings = {
        "CONCLAVE_ENGINE": "vllm",
        "CONCLAVE_MODEL": str(CHECKOUT / "models" / "reasoner"),
        "VLLM_CPU_OMP_THREADS_BIND": str((os.cpu_count() or 1) - 1),
        "VLLM_CPU_KVCACHE_SPACE": "1",
    }
    async with Pipeline(broker, fresh_database, tmp_path, settings).running(limit_s=400) as pipeline:
        yield pipeline


def _conclave(pipeline: Pipeline, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "CONCLAVE_BOOTSTRAP_SERVERS": pipeline.address, "CONCLAVE_POSTGRES_DSN": pipeline.dsn}
    command = [sys.executable, "-m", "conclave.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=environment)


async def test_questions_are_answered_by_the_shipped_model_and_traced(pipeline: Pipeline, tmp_path: Path) -> None:
    lines = (CHECKOUT / "data" / "problems" / "demo.jsonl").read_text().splitlines()[:10]
    file = tmp_path / "ten.jsonl"
    file.write_text("\n".join(lines))
    published = _conclave(pipeline, "publish", "--json", str(file))
    assert published.returncode == 0, published.stderr
    rows = [json.loads(line) for line in published.stdout.splitlines()]
    assert rows[-1]["answered"] == 10
    assert rows[-1]["failed"] == 0
    assert rows[-1]["paths"] >= 30, "a vote needs several paths"

    asked = _conclave(
        pipeline, "ask", "--json", "Tom has 12 apples. Tom buys 7 more. How many apples does Tom have now?"
    )
    assert asked.returncode == 0, asked.stderr
    answer = json.loads(asked.stdout)
    assert answer["num_paths"] >= 3
    assert answer["tokens_out"] > 0

    traces: list[dict[str, list[dict[str, object]]]] = []

    def is_traced() -> bool:
        done = _conclave(pipeline, "trace", "--json", answer["request_id"])
        traces.append(json.loads(done.stdout))
        request = traces[-1]["request"]
        return bool(request and request[0]["answered_at"]) and len(traces[-1]["paths"]) >= answer["num_paths"]

    await until(is_traced, what="the recorded trace")
    path = traces[-1]["paths"][0]
    assert path["engine"] == "vllm"
    assert path["model"] == "reasoner"
    assert path["mean_logprob"] is not None
    tree = _conclave(pipeline, "trace", answer["request_id"]).stdout
    assert "step 0" in tree
    assert "\x1b" not in tree, "piped output is plain"
    await _ask_by_programs(pipeline)
    await _compares_and_forks(pipeline)
    _declines(pipeline)


def _declines(pipeline: Pipeline) -> None:
    """What is no word problem has no answer, and who asked is told what the model is for."""
    asked = _conclave(pipeline, "ask", "What is the capital of France?")
    assert asked.returncode == 1, asked.stdout
    told = "no_answer: its model declined it: the small model that ships answers arithmetic word problems"
    assert told in asked.stdout


async def _compares_and_forks(pipeline: Pipeline) -> None:
    """One question is asked in two ways side by side, and the longer one goes on again from its second step."""
    question = "Tom has 12 apples. Tom buys 7 more. Then Tom eats 4 of them. How many apples does Tom have now?"
    compared = _conclave(pipeline, "compare", "--json", "--policy", "default,least-to-most", question)
    assert compared.returncode == 0, compared.stderr
    voted, parts = json.loads(compared.stdout)
    assert [voted["policy"], parts["policy"]] == ["default", "least-to-most"]
    assert voted["steps"] == 1
    assert parts["steps"] >= 2, "a split, and what it was split into"
    assert voted["request"] != parts["request"]

    trace: dict[str, Any] = {}

    def is_recorded() -> bool:
        trace.update(json.loads(_conclave(pipeline, "trace", "--json", parts["request"]).stdout))
        steps = trace["steps"]
        return bool(trace["request"] and trace["request"][0]["answered_at"]) and all(each["outcome"] for each in steps)

    await until(is_recorded, what="the recorded trace")
    more = ("--from-step", "1", "--policy", "least-to-most")
    forked = _conclave(pipeline, "fork", parts["request"], *more, "--json")
    assert forked.returncode == 0, forked.stderr
    recorded, again = json.loads(forked.stdout)
    assert (recorded["request"], recorded["answer"]) == (parts["request"], parts["answer"])
    assert again["request"] not in (parts["request"], voted["request"])
    assert again["answer"] is not None
    assert again["steps"] >= 2, "the split is kept, and its parts are asked anew"
    (kept,) = [step for step in trace["steps"] if step["step_index"] == 0]
    shown = _conclave(pipeline, "fork", parts["request"], *more).stdout
    assert f"kept: {' '.join(kept['answer'].split())[:20]}" in " ".join(shown.split())


async def _traced(
    pipeline: Pipeline, policy: str, question: str
) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    """The answer under a policy, and its whole trace."""
    asked = _conclave(pipeline, "ask", "--json", "--policy", policy, "--max-samples", "4", question)
    assert asked.returncode == 0, asked.stderr
    answer = json.loads(asked.stdout)
    found: dict[str, Any] = {}

    def is_traced() -> bool:
        found.update(json.loads(_conclave(pipeline, "trace", "--json", answer["request_id"]).stdout))
        return (
            bool(found["request"] and found["request"][0]["answered_at"]) and len(found["paths"]) >= answer["num_paths"]
        )

    await until(is_traced, what="the recorded trace")
    return answer, found


async def _ask_by_programs(pipeline: Pipeline) -> None:
    """The shipped model calls its tool, is criticised and tries again, and says how sure it is."""
    question = "There are 70 pens in Ron's box. Then Ron gets 4 times as many. How many pens does Ron have now?"
    answer, trace = await _traced(pipeline, "tool", question)
    assert answer["answer"] == "280"
    told = [(turn["tool"], turn["called"], turn["argument"], turn["text"]) for turn in trace["turns"]]
    assert (None, "whole_calculator", "70*4", "calculate(70*4") in told
    assert ("whole_calculator", None, None, ")=280\n") in told
    shown = _conclave(pipeline, "trace", answer["request_id"]).stdout
    assert "whole_calculator(70*4) = 280; tool" in " ".join(shown.split())

    long = (
        "Ron owns 600 cups. The next one has 3 fewer. Lea has 25 fewer than that. Jan has 28 more than that. Tom has 2 times as"
        " many as that. Amy has 16 fewer than that. Sam has 7 times as many as that. How many cups is that?"
    )
    _, trace = await _traced(pipeline, "criticised", long)
    forms = {turn["form"] for turn in trace["turns"]}
    assert {"chain_of_thought", "criticise"} <= forms <= {"chain_of_thought", "criticise", "retry"}
    retried = [turn for turn in trace["turns"] if turn["form"] == "retry"]
    blamed = [
        turn for turn in trace["turns"] if turn["form"] == "criticise" and turn["turn_index"] == 1 and turn["answer"]
    ]
    assert len(retried) == len(blamed), "each path that is criticised is tried again"

    _, trace = await _traced(pipeline, "sure", question)
    assert {path["probability"] for path in trace["paths"] if path["vote"]} <= {0.05, 0.95}
    assert {turn["form"] for turn in trace["turns"]} == {"chain_of_thought", "confidence"}


def test_wrong_input_is_named_and_nothing_is_published(tmp_path: Path) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text('{"question": "fine"}\n{"qestion": "typo"}\nnot json\n')
    environment = {**os.environ, "CONCLAVE_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
    command = [sys.executable, "-m", "conclave.cli", "publish", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environment)
    assert done.returncode == 2
    assert "line 2" in done.stderr
    assert "qestion" in done.stderr
    assert "line 3" in done.stderr
    assert "Traceback" not in done.stderr
