"""`make bench`: what the pipeline carries, what it adds to a request, and what is left of bare vLLM.

(a) stored paths/s through all services with the scripted engine, against bare aiokafka loops in the same run
(b) overhead of a request at 20 requests/s with the scripted engine, p50 and p99, and where it goes by stage
(c) questions/s with vLLM and the shipped model at 8 samples, against bare LLM.generate on the same prompts
"""

import asyncio
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import click
from prometheus_client.parser import text_string_to_metric_families

from benchmarks import bare_loops
from benchmarks.measuring import in_turns, medians, percentile, record
from conclave.local.servers.kafka import KafkaBroker
from conclave.local.servers.postgres import PostgresServer
from conclave.runtime.client import Client
from conclave.runtime.kafka import LogReader
from conclave.runtime.topics import ensure_topics
from conclave.store.migrate import upgrade
from conclave.testing.pipeline import Pipeline
from schemas import codec
from schemas.events import AnswerReached, PathDecoded, PlanMade, ReasoningRequested, RequestFailed, StepDecided
from schemas.flow import Topic
from schemas.ids import new_request_id

_CHECKOUT = Path(__file__).resolve().parents[1]
_MODEL = _CHECKOUT / "models" / "reasoner"
_SAMPLES = 8


@asynccontextmanager
async def stack(settings: dict[str, str]) -> AsyncIterator[tuple[Pipeline, PostgresServer]]:
    """A broker, a database and every service, of this run alone."""
    folder = _CHECKOUT / ".conclave" / f"bench-{os.getpid()}-{uuid.uuid4().hex[:4]}"
    folder.mkdir(parents=True)
    broker = KafkaBroker(folder / "kafka", jars_dir=_CHECKOUT / ".conclave" / "jars")
    server = PostgresServer(folder / "pg")
    await broker.start()
    await server.start()
    await asyncio.to_thread(upgrade, server.dsn())
    await ensure_topics(str(broker.endpoint), partitions=4)
    pipeline = Pipeline(
        broker, server.dsn(), folder, {"CONCLAVE_LOG_LEVEL": "warning", "CONCLAVE_SCRIPTED_JOURNAL": "", **settings}
    )
    try:
        async with pipeline.running(limit_s=300):
            yield pipeline, server
    finally:
        await server.stop()
        await broker.stop()
        shutil.rmtree(folder, ignore_errors=True)


def counted(pipeline: Pipeline, name: str) -> Iterator[tuple[str, Mapping[str, str], float]]:
    """What the services' /metrics say now of a name: the service as the pipeline calls it, labels, and value. Blocks."""
    for service_name, service in pipeline.services.items():
        with urllib.request.urlopen(f"http://127.0.0.1:{service.port}/metrics", timeout=30) as response:
            for family in text_string_to_metric_families(response.read().decode()):
                for sample in family.samples:
                    if sample.name == name:
                        yield service_name, sample.labels, sample.value


async def throughput(rounds: int, num_requests: int) -> dict[str, object]:
    """(a): medians in records or paths a second, and their ratios."""
    async with stack({"CONCLAVE_SCRIPTED_LATENCY_MS": "0", "CONCLAVE_MAX_IN_FLIGHT": "512"}) as (pipeline, server):
        number = num_requests * _SAMPLES
        await bare_loops.fill(pipeline.address, "bench-in", number, 1200)
        await store_paths(pipeline, server, 20)  # warm
        figures = await in_turns(
            {
                "stored paths/s, whole pipeline": lambda: store_paths(pipeline, server, num_requests),
                "bare loop, at least once": lambda: bare_loops.loop(
                    pipeline.address, "bench-in", number, is_transactional=False
                ),
                "bare loop, transactional": lambda: bare_loops.loop(
                    pipeline.address, "bench-in", number, is_transactional=True
                ),
            },
            rounds=rounds,
        )
    middle = medians(figures)
    whole, bare, transactional = middle.values()
    return {
        "medians_per_s": middle,
        "ratio_to_bare": whole / bare,
        "ratio_to_transactional": whole / transactional,
        "all": figures,
    }


async def store_paths(pipeline: Pipeline, server: PostgresServer, num_requests: int) -> float:
    requests = [
        ReasoningRequested(question=f"{uuid.uuid4()}?", request_id=new_request_id(), policy="fixed-8")
        for _ in range(num_requests)
    ]
    connection = await asyncpg.connect(server.dsn())
    before = await connection.fetchval("SELECT count(*) FROM paths")
    wanted = before + num_requests * _SAMPLES
    async with Client(pipeline.address) as client:
        started = time.perf_counter()
        await client.publish_many(requests)
        while await connection.fetchval("SELECT count(*) FROM paths") < wanted:
            await asyncio.sleep(0.02)
            if time.perf_counter() - started > 300:
                raise TimeoutError("the paths were not stored within 300 s")
        elapsed_s = time.perf_counter() - started
    await connection.close()
    return num_requests * _SAMPLES / elapsed_s


async def overhead(rate: float, duration_s: float) -> dict[str, object]:
    """(b): milliseconds from publishing to the answer in a client's hands, and between the records of each stage."""
    async with stack({"CONCLAVE_SCRIPTED_LATENCY_MS": "0"}) as (pipeline, _):
        await _paced(pipeline, rate, 3.0)  # warm
        seen = await _paced(pipeline, rate, duration_s)
        stages = await stages_of(pipeline, set(seen))
    values = list(seen.values())
    print(f"  p50 {percentile(values, 0.5):.1f} ms, p99 {percentile(values, 0.99):.1f} ms over {len(values)} requests")
    return {
        "rate_per_s": rate,
        "requests": len(values),
        "p50_ms": percentile(values, 0.5),
        "p99_ms": percentile(values, 0.99),
        "stages_ms": stages,
    }


async def _paced(pipeline: Pipeline, rate: float, duration_s: float) -> dict[str, float]:
    """Milliseconds to the answer, by request, at an open loop's pace."""
    asked: dict[str, float] = {}
    seen: dict[str, float] = {}
    number = int(rate * duration_s)
    async with Client(pipeline.address) as client, client.follow(Topic.ANSWERS) as events, asyncio.TaskGroup() as tasks:

        async def publish() -> None:
            begun = time.perf_counter()
            for i in range(number):
                await asyncio.sleep(max(0.0, begun + i / rate - time.perf_counter()))
                request = ReasoningRequested(question=f"{uuid.uuid4()}?", request_id=new_request_id(), policy="fixed-8")
                asked[str(request.request_id)] = time.perf_counter()
                tasks.create_task(client.publish(request))

        tasks.create_task(publish())
        async for _, event in events:
            if isinstance(event, AnswerReached | RequestFailed) and event.request_id in asked:
                seen[event.request_id] = (time.perf_counter() - asked[event.request_id]) * 1000
            if len(seen) == number:
                break
    return seen


async def stages_of(pipeline: Pipeline, ids: set[str]) -> dict[str, dict[str, float]]:
    """Medians and 99th percentiles between the records that a request leaves in the log."""
    times: dict[str, dict[str, list[int]]] = {each: {} for each in ids}
    reader = LogReader(pipeline.address)
    await reader.start()
    partitions = [
        tp
        for topic in (Topic.REQUESTS, Topic.STEPS, Topic.PATHS, Topic.ANSWERS)
        for tp in await reader.partitions(topic)
    ]
    ends = await reader.end_offsets(partitions)
    reader.assign(await reader.begin_offsets(partitions))
    while any([await reader.position(tp) < ends[tp] for tp in partitions]):
        for found in await reader.poll(timeout_ms=200):
            event = codec.read(found.topic, found.headers, found.value)
            request = event.context.request_id if isinstance(event, PathDecoded) else getattr(event, "request_id", None)
            if request in times:
                times[request].setdefault(type(event).__name__, []).append(found.timestamp)
    await reader.stop()
    order = [ReasoningRequested, PlanMade, PathDecoded, StepDecided, AnswerReached]
    stages: dict[str, dict[str, float]] = {}
    for before, after in itertools.pairwise(order):
        gaps = [
            float(max(each[after.__name__]) - max(each[before.__name__]))
            for each in times.values()
            if before.__name__ in each and after.__name__ in each
        ]
        name = f"{before.__name__} to {after.__name__}"
        stages[name] = {"p50": percentile(gaps, 0.5), "p99": percentile(gaps, 0.99)}
        print(f"  {name:<40} p50 {stages[name]['p50']:.0f} ms, p99 {stages[name]['p99']:.0f} ms")
    return stages


async def against_vllm(num_questions: int, rounds: int) -> dict[str, object]:
    """(c): questions a second end to end and by bare vLLM, and their ratio."""
    questions = [
        json.loads(line)["question"] for line in (_CHECKOUT / "data/problems/test.jsonl").read_text().splitlines()
    ][:num_questions]
    settings = {
        "CONCLAVE_ENGINE": "vllm",
        "CONCLAVE_MODEL": str(_MODEL),
        "CONCLAVE_MAX_RUNNING": "128",
        "CONCLAVE_MAX_IN_FLIGHT": "512",
        **vllm_on_one_core(),
    }

    async def conclave() -> float:
        async with stack(settings) as (pipeline, _):
            await _answer(pipeline, questions[:5])
            return await _answer(pipeline, questions)

    async def bare() -> float:
        return await asyncio.to_thread(_bare_vllm, questions)

    figures = await in_turns(
        {"questions/s, end to end": conclave, "questions/s, bare LLM.generate": bare}, rounds=rounds
    )
    middle = medians(figures)
    ours, theirs = middle.values()
    return {
        "questions": len(questions),
        "samples": _SAMPLES,
        "medians_per_s": middle,
        "ratio": ours / theirs,
        "all": figures,
    }


def vllm_on_one_core() -> dict[str, str]:
    return {"VLLM_CPU_OMP_THREADS_BIND": str((os.cpu_count() or 1) - 1), "VLLM_CPU_KVCACHE_SPACE": "1"}


async def _answer(pipeline: Pipeline, questions: list[str]) -> float:
    requests = [ReasoningRequested(question=each, request_id=new_request_id(), policy="fixed-8") for each in questions]
    wanted = {str(request.request_id) for request in requests}
    async with Client(pipeline.address) as client, client.follow(Topic.ANSWERS) as events:
        started = time.perf_counter()
        await client.publish_many(requests)
        async with asyncio.timeout(600):
            async for _, event in events:
                if isinstance(event, AnswerReached | RequestFailed):
                    wanted.discard(event.request_id)
                if not wanted:
                    break
    return len(questions) / (time.perf_counter() - started)


_BARE = """
import json, os, sys, time
questions, model, samples = json.load(open(sys.argv[1])), sys.argv[2], int(sys.argv[3])
os.environ.update(json.loads(sys.argv[4]), TORCHDYNAMO_DISABLE="1", VLLM_LOGGING_LEVEL="ERROR", VLLM_NO_USAGE_STATS="1")
from conclave import prompts
from vllm import LLM, SamplingParams
if __name__ == "__main__":
    llm = LLM(model=model, dtype="float32", enforce_eager=True, max_num_seqs=128)
    form = prompts.load("reasoner-v3").form("chain_of_thought")
    tokenizer = llm.get_tokenizer()
    chats = [[{"role": "user", "content": form.render({"question": each}).messages[-1].content}] for each in questions]
    texts = [tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False) for chat in chats]
    params = SamplingParams(n=samples, temperature=0.8, max_tokens=256, logprobs=0)
    llm.generate(texts[:5], params, use_tqdm=False)
    started = time.perf_counter()
    llm.generate(texts, params, use_tqdm=False)
    print("RATE", len(questions) / (time.perf_counter() - started))
"""


def _bare_vllm(questions: list[str]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        data, script = Path(folder) / "questions.json", Path(folder) / "bare.py"
        data.write_text(json.dumps(questions))
        script.write_text(_BARE)
        command = [sys.executable, str(script), str(data), str(_MODEL), str(_SAMPLES), json.dumps(vllm_on_one_core())]
        environment = {**os.environ, "PYTHONPATH": str(_CHECKOUT)}
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600, env=environment)
    rates = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("RATE")]
    if not rates:
        raise RuntimeError(done.stderr[-2000:])
    return float(rates[0])


@click.command()
@click.option("--only", type=click.Choice(["a", "b", "c"]), help="One of the three.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--requests", "num_requests", default=500, show_default=True, help="Of a round of (a).")
@click.option("--questions", default=60, show_default=True, help="Of (c).")
def main(only: str | None, rounds: int, num_requests: int, questions: int) -> None:
    """Measure the pipeline; results go to benchmarks/results/."""
    if only in (None, "a"):
        print("(a) stored paths a second")
        print(record("throughput", asyncio.run(throughput(rounds, num_requests))))
    if only in (None, "b"):
        print("(b) overhead of a request at 20 requests/s")
        print(record("overhead", asyncio.run(overhead(20.0, 20.0))))
    if only in (None, "c"):
        print("(c) against bare vLLM")
        print(record("against_vllm", asyncio.run(against_vllm(questions, min(rounds, 2)))))


if __name__ == "__main__":
    main()
