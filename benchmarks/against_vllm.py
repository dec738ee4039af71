"""`python -m benchmarks.against_vllm`: what is left of bare vLLM when the whole pipeline stands around it.

Questions a second with vLLM and the shipped model at 8 samples, against bare `LLM.generate` on the same prompts: given all at once,
which no service can be, and in batches of eight questions, 64 sequences, as people run it.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from benchmarks.measuring import in_turns, medians, record
from benchmarks.stack import CHECKOUT, stack, vllm_on_one_core
from conclave.runtime.client import Client
from conclave.testing.pipeline import Pipeline
from schemas.events import AnswerReached, ReasoningRequested, RequestFailed
from schemas.flow import Topic
from schemas.ids import new_request_id

_MODEL = CHECKOUT / "models" / "reasoner"
_SAMPLES = 8
_BATCH = 8  # questions: 64 sequences


async def against_vllm(num_questions: int, rounds: int) -> dict[str, object]:
    """Questions a second end to end, by bare vLLM, and by bare vLLM in batches; and their ratios."""
    questions = [
        json.loads(line)["question"] for line in (CHECKOUT / "data/problems/test.jsonl").read_text().splitlines()
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
        return await asyncio.to_thread(_bare_vllm, questions, len(questions))

    async def batches() -> float:
        return await asyncio.to_thread(_bare_vllm, questions, _BATCH)

    figures = await in_turns(
        {
            "questions/s, end to end": conclave,
            "questions/s, bare LLM.generate": bare,
            "questions/s, bare, in batches": batches,
        },
        rounds=rounds,
    )
    middle = medians(figures)
    ours, theirs, in_batches = middle.values()
    return {
        "questions": len(questions),
        "samples": _SAMPLES,
        "medians_per_s": middle,
        "sequences_a_batch": _BATCH * _SAMPLES,
        "ratio": ours / theirs,
        "ratio_to_batches": ours / in_batches,
        "all": figures,
    }


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
questions, model, samples, batch = json.load(open(sys.argv[1])), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
os.environ.update(json.loads(sys.argv[5]), TORCHDYNAMO_DISABLE="1", VLLM_LOGGING_LEVEL="ERROR", VLLM_NO_USAGE_STATS="1")
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
    for begin in range(0, len(texts), batch):
        llm.generate(texts[begin : begin + batch], params, use_tqdm=False)
    print("RATE", len(questions) / (time.perf_counter() - started))
"""


def _bare_vllm(questions: list[str], batch: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        data, script = Path(folder) / "questions.json", Path(folder) / "bare.py"
        data.write_text(json.dumps(questions))
        script.write_text(_BARE)
        options = [str(_MODEL), str(_SAMPLES), str(batch), json.dumps(vllm_on_one_core())]
        command = [sys.executable, str(script), str(data), *options]
        environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600, env=environment)
    rates = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("RATE")]
    if not rates:
        raise RuntimeError(done.stderr[-2000:])
    return float(rates[0])


@click.command()
@click.option("--rounds", default=2, show_default=True)
@click.option("--questions", default=60, show_default=True)
def main(rounds: int, questions: int) -> None:
    """Measure all three in turns; results go to benchmarks/results/."""
    print(record("against_vllm", asyncio.run(against_vllm(questions, rounds))))


if __name__ == "__main__":
    main()
